//! Query logging configurations: which queries are logged, in which detail, and to which
//! destination.

use super::{
    Id,
    aws_data::{AwsData, Tags},
    words::words,
};
use crate::wire::codes::rcode::MNEMONICS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A query logging configuration, as in the Route 53 Resolver API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogConfig {
    /// The VPCs whose queries are logged: those of their own clients, and those that come in at
    /// their inbound endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vpc_ids: Vec<Id>,
    /// The on-premises networks whose clients' queries are logged, at any entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_premises_network_ids: Vec<Id>,
    /// The destination of the entries.
    pub destination: LogDestination,
    /// The share of queries to log, chosen at random: from 0 to 1.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub sampling: f64,
    /// The maximum number of entries that each node writes per second. Default: no maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
    /// Log only responses with these RCODEs. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rcodes: Vec<Rcode>,
    /// Log only responses that took longer than this, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_than_ms: Option<u32>,
    /// How much of the client's address is logged.
    #[serde(default, skip_serializing_if = "ClientAddress::is_full")]
    pub client_address: ClientAddress,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// The destination of a log: exactly one of these. The node's configuration must permit
/// destinations other than files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogDestination {
    /// A file of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<LogFile>,
    /// Standard output: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Stdout>,
    /// A Unix stream socket, by its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix: Option<String>,
    /// A TCP server: host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// An HTTP server, by URL: batches are posted to it as `application/x-ndjson`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
}

/// A log file. At its maximum size it is renamed to `path.1`, and a new file is begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// Path of the file, relative to `query_log.directory` of the node's configuration.
    pub path: String,
    /// The maximum size of the file, in octets.
    #[serde(default = "hundred_mebibytes")]
    pub max_octets: u64,
    /// The number of older files to keep, as `path.1`, `path.2` and so on. Older files are deleted.
    #[serde(default = "nine")]
    pub keep: u32,
}

impl LogFile {
    /// A file with the default limits.
    pub fn new(path: String) -> LogFile {
        LogFile { path, max_octets: hundred_mebibytes(), keep: nine() }
    }
}

/// Standard output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdout {}

words! {
    /// The part of a client's address that is logged.
    #[derive(Default)]
    pub enum ClientAddress {
        /// All of it, and the port.
        #[default]
        Full = "full",
        /// Its network: 24 bits of an IPv4 address, 48 of an IPv6 one.
        Truncated = "truncated",
        /// Nothing.
        None = "none",
    }
}

impl ClientAddress {
    fn is_full(&self) -> bool {
        *self == ClientAddress::Full
    }
}

words! {
    /// A response code, by its mnemonic.
    pub enum Rcode {
        NoError = "NOERROR",
        FormErr = "FORMERR",
        ServFail = "SERVFAIL",
        NxDomain = "NXDOMAIN",
        NotImp = "NOTIMP",
        Refused = "REFUSED",
        YxDomain = "YXDOMAIN",
        YxRrset = "YXRRSET",
        NxRrset = "NXRRSET",
        NotAuth = "NOTAUTH",
        NotZone = "NOTZONE",
        BadVers = "BADVERS",
        BadCookie = "BADCOOKIE",
    }
}

impl Rcode {
    /// The number of the response code.
    pub fn number(self) -> u16 {
        MNEMONICS.iter().find(|(_, mnemonic)| *mnemonic == self.word()).map_or(0, |(number, _)| *number)
    }
}

fn all() -> f64 {
    1.0
}

fn is_all(share: &f64) -> bool {
    *share == 1.0
}

fn hundred_mebibytes() -> u64 {
    100 << 20
}

fn nine() -> u32 {
    9
}

impl LogDestination {
    /// The destinations that are given, in the form in which a node's configuration permits them:
    /// `file`, `stdout`, `unix:PATH`, `tcp:HOST:PORT` or the URL.
    pub fn given(&self) -> Vec<String> {
        let mut given = Vec::new();
        given.extend(self.file.iter().map(|_| "file".to_string()));
        given.extend(self.stdout.iter().map(|_| "stdout".to_string()));
        given.extend(self.unix.iter().map(|path| format!("unix:{path}")));
        given.extend(self.tcp.iter().map(|address| format!("tcp:{address}")));
        given.extend(self.http.iter().cloned());
        given
    }
}
