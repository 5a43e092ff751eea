//! Access to zones: the zone that a request is about, and the clients that may transfer or update
//! it.

use super::{
    message::Request,
    tsig::{self, Failure, Keys, Session, Signed},
};
use crate::{
    answer::Client,
    manifest::PrivateHostedZone,
    snapshot::{Snapshot, zone::Zone},
    wire::{Name, codes::rcode, query::LookupName},
};
use std::{borrow::Cow, sync::Arc};

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To copy the zone.
    Transfer,
    /// To change the zone.
    Update,
}

/// A request that is refused.
#[derive(Debug)]
pub struct Refused {
    /// The RCODE.
    pub rcode: u16,
    /// The text of the extended error for the client. It does not reveal which zones exist.
    pub client_text: Cow<'static, str>,
    /// The reason for the log.
    pub reason: String,
}

/// Verifies the signature of a request, if it has one.
///
/// # Errors
///
/// Outer: the message is malformed. Inner: the signature does not hold.
pub fn authenticate(keys: &Keys, packet: &[u8], now: u64) -> Result<Result<Option<Session>, Failure>, tsig::Malformed> {
    Ok(match tsig::verify(keys, packet, now)? {
        Signed::No => Ok(None),
        Signed::By(session) => Ok(Some(session)),
        Signed::Not(failure) => Err(failure),
    })
}

/// Whether a client may transfer or update a zone.
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
        // An update needs a key, whatever the manifest says.
        Purpose::Update => key.is_some() && zone.allow_update.iter().any(|access| access.allows(client.source, key)),
    }
}

/// The zone that a request is about.
///
/// Zones of several networks may have the same name. The zone of the client's own view comes first.
/// If there is none, it is the only zone of the name that the client may access.
///
/// # Errors
///
/// No zone, or several zones of the name are open to the client.
pub fn zone<'s>(
    snapshot: &'s Snapshot,
    client: &Client,
    request: &Request,
    purpose: Purpose,
    key: Option<&Name>,
) -> Result<&'s Arc<Zone>, Refused> {
    let name = request.zone.to_lowercase();
    let refused = |rcode: u16, client_text: &'static str, reason: String| {
        Err(Refused { rcode, client_text: client_text.into(), reason })
    };
    let mut open =
        snapshot.zones().filter(|zone| *zone.apex == *name.as_wire() && allows(&zone.source, purpose, client, key));
    let (Some(first), second) = (open.next(), open.next()) else {
        // A client with a key may know which zones exist.
        return match key.is_some() && !snapshot.zones().any(|zone| *zone.apex == *name.as_wire()) {
            true => refused(rcode::NOTAUTH, "there is no such zone here", format!("there is no zone {name}")),
            false => refused(
                rcode::REFUSED,
                "the zone is not open to you",
                format!("no zone {name} is open to {}{}", client.source, signed(key)),
            ),
        };
    };
    let transferable = |zone: &'s Arc<Zone>| match purpose {
        Purpose::Transfer if zone.has_groups() && zone.source.transfer_policy_records.is_none() => refused(
            rcode::REFUSED,
            "the zone has routing policies, which a transfer cannot carry",
            format!("zone {} has routing policies, and no `transfer_policy_records: first`", zone.id),
        ),
        _ => Ok(zone),
    };
    if second.is_none() {
        return transferable(first);
    }
    let own = LookupName::new(name.as_wire()).and_then(|lookup| {
        let view = snapshot.views.get(client.identify(snapshot).ok()?.view())?;
        snapshot.zones.get(snapshot.views.zone_named(view, &lookup)?)
    });
    match own.filter(|zone| allows(&zone.source, purpose, client, key)) {
        Some(own) => transferable(own),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::Transport, manifest::Loaded, snapshot::compile, wire::codes::opcode};

    /// A request for a zone, as far as access looks at it.
    fn request(zone: &str) -> Request {
        let mut packet = b"\0\x07\0\0\0\x01\0\0\0\0\0\0".to_vec();
        packet[2] = opcode::QUERY << 3;
        packet.extend_from_slice(Name::absolute(zone).unwrap().as_wire());
        packet.extend_from_slice(&[0, 252, 0, 1]);
        Request::read(&packet).unwrap()
    }

    #[test]
    fn chooses_between_zones_of_the_same_name() {
        let zone = |vpc: &str, more: serde_json::Value| {
            let mut zone = serde_json::json!({"name": "Split.example", "vpc_ids": [vpc]});
            zone.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            zone
        };
        let manifest = serde_json::json!({
            "vpcs": {
                "a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]},
                "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
                "c": {"region": "r", "cidr_blocks": ["10.3.0.0/16"]},
            },
            "private_hosted_zones": {
                "A": zone("a", serde_json::json!({
                    "allow_transfer": [{"tsig_key": "both"}, {"cidr_block": "10.0.0.0/8", "tsig_key": "near"}],
                    "allow_update": [{"tsig_key": "both"}],
                })),
                "B": zone("b", serde_json::json!({
                    "allow_transfer": [{"tsig_key": "both"}],
                    "secondaries": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "tsig_key": "second"}],
                })),
                "C": zone("c", serde_json::json!({})),
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let snapshot = compile(&loaded, &Arc::default(), None).unwrap().0;
        let find = |source: [u8; 4], key: Option<&str>, purpose: Purpose, name: &str| {
            let client =
                Client { source: source.into(), port: 0, local: [192, 0, 2, 53].into(), transport: Transport::Tcp };
            let key = key.map(|key| Name::absolute(key).unwrap());
            let found = super::zone(&snapshot, &client, &request(name), purpose, key.as_ref());
            found.map(|zone| zone.id.clone()).map_err(|refused| refused.rcode)
        };
        let (far, in_a, in_b, in_c) = ([192, 0, 2, 9], [10, 1, 0, 1], [10, 2, 0, 1], [10, 3, 0, 1]);
        for (source, key, expected) in [
            // The client's own view decides. A client without a view of one of the zones is
            // refused.
            (in_a, Some("both"), Ok("A")),
            (in_b, Some("BOTH"), Ok("B")),
            (in_c, Some("both"), Err(rcode::REFUSED)),
            (far, Some("both"), Err(rcode::REFUSED)),
            // Only one zone is open to the client: the view does not matter.
            (in_b, Some("near"), Ok("A")),
            (far, Some("near"), Err(rcode::REFUSED)),
            ([192, 0, 2, 1], None, Ok("B")),
            ([192, 0, 2, 1], Some("near"), Ok("B")),
            ([192, 0, 2, 2], None, Err(rcode::REFUSED)),
            ([192, 0, 2, 2], Some("second"), Ok("B")),
            (far, Some("second"), Err(rcode::REFUSED)),
            (in_a, None, Err(rcode::REFUSED)),
        ] {
            let found = find(source, key, Purpose::Transfer, "split.EXAMPLE");
            assert_eq!(found.as_deref().map_err(|code| *code), expected, "{source:?} {key:?}");
        }
        assert_eq!(find(far, Some("both"), Purpose::Update, "split.example").as_deref(), Ok("A"));
        assert_eq!(find(in_a, None, Purpose::Update, "split.example"), Err(rcode::REFUSED));
        assert_eq!(find(in_a, Some("near"), Purpose::Update, "split.example"), Err(rcode::REFUSED));
        // Only a client with a key learns that a zone does not exist.
        assert_eq!(find(in_a, None, Purpose::Transfer, "no.example"), Err(rcode::REFUSED));
        assert_eq!(find(in_a, Some("any"), Purpose::Transfer, "no.example"), Err(rcode::NOTAUTH));
        assert_eq!(find(in_a, Some("both"), Purpose::Transfer, "below.split.example"), Err(rcode::NOTAUTH));
    }
}
