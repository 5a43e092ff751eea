//! DNS Firewall on this node.

use schemars::JsonSchema;
use serde::Deserialize;

/// DNS Firewall on this node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// The hosts that lists with a `url` may be downloaded from: names or addresses, each with or without a port, such as
    /// `lists.example` or `192.0.2.1:8080`. Without a port, all ports are allowed.
    pub allow_sources: Vec<String>,
}

impl Firewall {
    /// The fields with errors, and each error.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let is_host = |host: &str| {
            !host.is_empty() && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet))
        };
        let wrong = self.allow_sources.iter().enumerate().filter(|(_, host)| !is_host(host));
        let error = |(at, host): (usize, &String)| {
            let message = format!("`{host}` is not a host; write a name or an address, such as lists.example");
            (format!("firewall.allow_sources[{at}]"), message)
        };
        wrong.map(error).collect()
    }
}
