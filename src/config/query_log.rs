//! Where query logs may go on this node, and dnstap.

use crate::{
    query_log::dnstap::{Kind, Kinds},
    snapshot::query_logs::Allowed,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// Where the query logs of the manifest may go on this node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLog {
    /// Below which directory their files are; without it there are none.
    pub directory: Option<PathBuf>,
    /// What they may go to that is no file: `stdout`, `unix:PATH`, `tcp:HOST:PORT`, or a URL, as the manifest has them.
    pub allow: Vec<String>,
}

impl QueryLog {
    /// The same, for snapshots.
    pub fn allowed(&self) -> Allowed {
        Allowed { directory: self.directory.clone(), destinations: self.allow.iter().cloned().collect() }
    }

    /// Fields that are wrong, and why.
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

/// A server that takes dnstap messages.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dnstap {
    /// Its Unix socket.
    pub unix: Option<PathBuf>,
    /// Its address and port.
    #[schemars(with = "Option<String>")]
    pub tcp: Option<SocketAddr>,
    /// The messages that it gets; without it, all.
    pub messages: Vec<Kind>,
    /// What it knows this server by; without it, `nsid`.
    pub identity: Option<String>,
}

impl Dnstap {
    /// The messages that it gets.
    pub fn kinds(&self) -> Kinds {
        match &*self.messages {
            [] => Kinds::all(),
            some => some.iter().fold(Kinds::default(), |kinds, kind| kinds.with(*kind)),
        }
    }
}
