//! `query_log` and `dnstap`: where query logs and dnstap messages may go on this node.

use crate::{manifest::words::words, snapshot::query_logs::Allowed};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// The permitted destinations of the manifest's query logs on this node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLog {
    /// Directory of the query log files. Without it, no query log can be a file.
    pub directory: Option<PathBuf>,
    /// Permitted destinations other than files: `stdout`, `unix:PATH`, `tcp:HOST:PORT` or a URL,
    /// written as in the manifest.
    pub allow: Vec<String>,
}

impl QueryLog {
    /// The permitted destinations, for snapshots.
    pub fn allowed(&self) -> Allowed {
        Allowed { directory: self.directory.clone(), destinations: self.allow.iter().cloned().collect() }
    }

    /// The errors in the section: field and message.
    pub(super) fn check(&self) -> Vec<(String, &'static str)> {
        let wrong = self.allow.iter().enumerate().filter(|(_, allowed)| {
            let is_known = ["unix:/", "tcp:", "http://"].iter().any(|front| allowed.starts_with(front));
            *allowed != "stdout" && !is_known
        });
        let message =
            "expected `stdout`, `unix:/run/vector/dns.sock`, `tcp:127.0.0.1:9000` or `http://127.0.0.1:8080/logs`";
        wrong.map(|(at, _)| (format!("query_log.allow[{at}]"), message)).collect()
    }
}

/// The server that receives dnstap messages.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dnstap {
    /// Path of the server's Unix socket.
    pub unix: Option<PathBuf>,
    /// Address and port of the server.
    #[schemars(with = "Option<String>")]
    pub tcp: Option<SocketAddr>,
    /// The message types to send. Default: all.
    pub messages: Vec<DnstapMessage>,
    /// The identity of this node in dnstap messages. Default: `nsid`.
    pub identity: Option<String>,
}

impl Dnstap {
    /// The messages that zonal sends to the server.
    pub fn messages(&self) -> DnstapMessages {
        match &*self.messages {
            [] => DnstapMessages::all(),
            some => some.iter().fold(DnstapMessages::default(), |messages, message| messages.with(*message)),
        }
    }
}

words! {
    /// A dnstap message type that zonal sends.
    pub enum DnstapMessage {
        ClientQuery = "CLIENT_QUERY",
        ClientResponse = "CLIENT_RESPONSE",
        ForwarderQuery = "FORWARDER_QUERY",
        ForwarderResponse = "FORWARDER_RESPONSE",
    }
}

impl DnstapMessage {
    /// Every message type.
    pub const ALL: [DnstapMessage; 4] = [
        DnstapMessage::ClientQuery,
        DnstapMessage::ClientResponse,
        DnstapMessage::ForwarderQuery,
        DnstapMessage::ForwarderResponse,
    ];

    /// Whether the message is a query, and not a response.
    pub fn is_query(self) -> bool {
        matches!(self, DnstapMessage::ClientQuery | DnstapMessage::ForwarderQuery)
    }
}

/// A set of dnstap message types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnstapMessages(u8);

impl DnstapMessages {
    /// Every message type.
    pub fn all() -> DnstapMessages {
        DnstapMessage::ALL.into_iter().fold(DnstapMessages::default(), DnstapMessages::with)
    }

    /// This set and one more message type.
    pub fn with(self, message: DnstapMessage) -> DnstapMessages {
        DnstapMessages(self.0 | 1 << message as u8)
    }

    /// Whether a message type is in the set.
    #[inline]
    pub fn has(self, message: DnstapMessage) -> bool {
        self.0 & 1 << message as u8 != 0
    }

    /// The message types of the set that are about clients.
    #[inline]
    pub fn of_clients(self) -> DnstapMessages {
        DnstapMessages(self.0 & (1 << DnstapMessage::ClientQuery as u8 | 1 << DnstapMessage::ClientResponse as u8))
    }

    /// The set as bits, for an entry of the query log.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits.
    pub fn from_bits(bits: u8) -> DnstapMessages {
        DnstapMessages(bits)
    }
}
