//! Dynamic updates (RFC 2136): who may, what they come to, and who writes it.

pub mod etcd;
pub mod rules;
#[cfg(test)]
mod tests;

use super::{
    Transfers,
    access::{self, Purpose, Refused},
    message::Request,
};
use crate::{
    answer::Client,
    control_plane::{
        Message,
        change::{Rejected, ZoneEdit},
    },
    manifest::problem::printable,
    wire::{
        Name,
        codes::{class, rcode},
        rdata::rtype,
    },
};
use etcd::EtcdEditor;
use std::sync::{Arc, mpsc::Sender};
use tokio::{sync::oneshot, time::timeout};

/// Who writes what updates change.
pub enum Updates {
    /// The control plane's thread: to a journal of the node, or to what was pushed.
    Keeper(Sender<Message>),
    /// etcd, by a transaction; what comes of it is served like any other change there.
    Etcd(Box<EtcdEditor>),
}

/// Makes an update. Returns the RCODE, and how it is counted.
pub async fn update(
    transfers: &Arc<Transfers>,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<(u16, &'static str), Refused> {
    let refused = |code: u16, told: &'static str, why: String| Refused {
        rcode: code,
        told,
        why: format!("the update of {} by {} is refused: {why}", request.zone, client.source),
    };
    if request.qtype != rtype::SOA {
        return Ok((rcode::FORMERR, "refused"));
    }
    if request.qclass != class::IN {
        return Ok((rcode::NOTAUTH, "refused"));
    }
    let id = {
        let snapshot = transfers.snapshot.load();
        access::zone(&snapshot, client, request, Purpose::Update, key)?.id.clone()
    };
    let result = match &transfers.updates {
        Updates::Keeper(sender) => by_keeper(sender, &id, request).await,
        Updates::Etcd(editor) => editor.edit(&transfers.snapshot, &id, request).await,
    };
    let by = key.map_or(String::new(), |key| format!(" with the key {key}"));
    match result {
        Ok(0) => Ok((rcode::NOERROR, "unchanged")),
        Ok(sets) => {
            let (zone, id) = (&request.zone, printable(&id));
            tracing::info!("zone {zone} ({id}): {sets} record sets updated by {}{by}", client.source);
            Ok((rcode::NOERROR, "changed"))
        }
        Err(Rejected::Rcode(code @ (rcode::FORMERR | rcode::NOTZONE))) => Ok((code, "refused")),
        Err(Rejected::Rcode(code)) => Ok((code, "prerequisite")),
        Err(Rejected::Refused(why)) => Err(refused(rcode::REFUSED, "the zone cannot be changed like this", why)),
        Err(Rejected::Failed(why)) => Err(refused(rcode::SERVFAIL, "the change could not be written", why)),
    }
}

/// Has the control plane's thread make it. Returns how many sets have changed.
async fn by_keeper(sender: &Sender<Message>, id: &str, request: &Request) -> Result<usize, Rejected> {
    let (reply, answer) = oneshot::channel();
    let request = request.clone();
    let edit = ZoneEdit { zone: id.into(), make: Box::new(move |zone| rules::edits(zone, &request)), reply };
    let ends = |_| Rejected::Failed("the server ends".into());
    sender.send(Message::Edit(edit)).map_err(|_| ends(()))?;
    match timeout(super::PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|_| ends(()))?,
        Err(_) => Err(Rejected::Failed("it takes too long".into())),
    }
}
