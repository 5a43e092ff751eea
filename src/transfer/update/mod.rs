//! Dynamic updates (RFC 2136): `rules` computes the record sets after an update, and the publisher
//! or `etcd` writes them.

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
        change::{UpdateError, ZoneUpdate},
    },
    wire::{
        Name,
        codes::{class, rcode},
        rdata::rtype,
    },
};
use etcd::EtcdEditor;
use std::{
    sync::{Arc, mpsc::Sender},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// The time that the publisher has to serve an update.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The writer of updates.
pub enum Updates {
    /// The publisher: to a journal of the node, or to the resources that were pushed.
    Publisher(Sender<Message>),
    /// A transaction in etcd. The source etcd then delivers the change.
    Etcd(EtcdEditor),
}

/// Makes an update. Returns the RCODE, and the result that is counted.
///
/// # Errors
///
/// The client may not update the zone, or the update cannot be written.
pub async fn update(
    transfers: &Arc<Transfers>,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<(u16, &'static str), Refused> {
    let refused = |rcode: u16, client_text: &'static str, reason: String| Refused {
        rcode,
        client_text: client_text.into(),
        reason: format!("the update of {} by {} is refused: {reason}", request.zone, client.source),
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
        Updates::Publisher(sender) => by_publisher(sender, &id, request).await,
        Updates::Etcd(editor) => editor.edit(&transfers.snapshot, &id, request).await,
    };
    match result {
        Ok(0) => Ok((rcode::NOERROR, "unchanged")),
        Ok(sets) => {
            let (name, key) = (&request.zone, key.map(tracing::field::display));
            tracing::info!(zone = id, %name, record_sets = sets, client = %client.source, key, "zone updated");
            Ok((rcode::NOERROR, "changed"))
        }
        Err(UpdateError::Rcode(code @ (rcode::FORMERR | rcode::NOTZONE))) => Ok((code, "refused")),
        Err(UpdateError::Rcode(code)) => Ok((code, "prerequisite")),
        Err(UpdateError::Refused(reason)) => {
            Err(refused(rcode::REFUSED, "the zone cannot be changed like this", reason))
        }
        Err(UpdateError::Protected(refusal)) => {
            Err(Refused { client_text: refusal.clone().into(), ..refused(rcode::REFUSED, "", refusal) })
        }
        Err(UpdateError::Failed(reason)) => Err(refused(rcode::SERVFAIL, "the change could not be written", reason)),
    }
}

/// Sends an update to the publisher. Returns the number of record sets that have changed.
async fn by_publisher(sender: &Sender<Message>, id: &str, request: &Request) -> Result<usize, UpdateError> {
    let (reply, answer) = oneshot::channel();
    let request = request.clone();
    let edit = ZoneUpdate { zone: id.into(), compute: Box::new(move |zone| rules::edits(zone, &request)), reply };
    let ends = |_| UpdateError::Failed("the server ends".into());
    sender.send(Message::Update(edit)).map_err(|_| ends(()))?;
    match timeout(UPDATE_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|_| ends(()))?,
        Err(_) => Err(UpdateError::Failed("it takes too long".into())),
    }
}
