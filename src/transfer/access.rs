//! Which zone is meant, and who may have it.

use super::{
    message::Request,
    tsig::{self, Failure, Keys, Session, Signed},
};
use crate::{
    answer::Client,
    manifest::PrivateHostedZone,
    snapshot::{Snapshot, zone::Zone},
    wire::{Name, query::LookupName, query::rcode},
};
use std::sync::Arc;

/// What somebody wants of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To copy it.
    Transfer,
    /// To change it.
    Update,
}

/// A request that is not to be followed.
#[derive(Debug)]
pub struct Refused {
    /// The RCODE.
    pub rcode: u16,
    /// What the client is told: nothing of what there is.
    pub told: &'static str,
    /// What the log is told.
    pub why: String,
}

/// What a request is signed with; or the failure of that.
pub fn authenticate(keys: &Keys, packet: &[u8], now: u64) -> Result<Result<Option<Session>, Failure>, tsig::Malformed> {
    Ok(match tsig::verify(keys, packet, now)? {
        Signed::No => Ok(None),
        Signed::By(session) => Ok(Some(session)),
        Signed::Not(failure) => Err(failure),
    })
}

/// Whether the zone is open to somebody.
fn allows(zone: &PrivateHostedZone, purpose: Purpose, client: &Client, key: Option<&Name>) -> bool {
    let is_secondary = || {
        zone.secondaries.iter().any(|secondary| {
            secondary.ip == client.source && secondary.tsig_key.as_ref().is_none_or(|wanted| key == Some(wanted))
        })
    };
    match purpose {
        Purpose::Transfer => {
            zone.allow_transfer.iter().any(|access| access.allows(client.source, key)) || is_secondary()
        }
        // A key is required, whatever the manifest says.
        Purpose::Update => key.is_some() && zone.allow_update.iter().any(|access| access.allows(client.source, key)),
    }
}

/// The zone that a request is about. Zones of several networks may have one name: that of the client's own view comes first;
/// without that, it is the only one that is open to the client.
pub fn zone<'s>(
    snapshot: &'s Snapshot,
    client: &Client,
    request: &Request,
    purpose: Purpose,
    key: Option<&Name>,
) -> Result<&'s Arc<Zone>, Refused> {
    let name = request.zone.to_lowercase();
    let refused = |rcode: u16, told: &'static str, why: String| Err(Refused { rcode, told, why });
    let mut open =
        snapshot.zones().filter(|zone| *zone.apex == *name.as_wire() && allows(&zone.source, purpose, client, key));
    let (Some(first), second) = (open.next(), open.next()) else {
        // Who has a key of ours may know which zones there are.
        return match key.is_some() && !snapshot.zones().any(|zone| *zone.apex == *name.as_wire()) {
            true => refused(rcode::NOTAUTH, "there is no such zone here", format!("there is no zone {name}")),
            false => refused(
                rcode::REFUSED,
                "the zone is not open to you",
                format!("no zone {name} is open to {}{}", client.source, signed(key)),
            ),
        };
    };
    if second.is_none() {
        return Ok(first);
    }
    let own = LookupName::new(name.as_wire()).and_then(|lookup| {
        let view = snapshot.views.get(client.identify(snapshot).ok()?.view())?;
        view.policy.find(&lookup, 0)?.zone.as_ref()
    });
    match own.filter(|zone| allows(&zone.source, purpose, client, key)) {
        Some(own) => Ok(own),
        None => refused(
            rcode::REFUSED,
            "several zones of this name are open to you",
            format!(
                "several zones {name} are open to {}{}, and it has no view of one of them",
                client.source,
                signed(key)
            ),
        ),
    }
}

fn signed(key: Option<&Name>) -> String {
    key.map_or(" without a key".into(), |key| format!(" with the key {key}"))
}
