//! DNS Firewall on this node.

use schemars::JsonSchema;
use serde::Deserialize;

/// DNS Firewall on this node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// The hosts that lists with a `url` may be downloaded from: names or addresses, each with or without a port, such as
    /// `lists.example` or `192.0.2.1:8080`. Without a port, all ports are allowed. `ImportFirewallDomains` of AWS's API
    /// downloads files from these hosts too.
    pub allow_sources: Vec<String>,
    /// The HTTP server that receives events about queries that rules block or report. Default: none.
    pub events: Option<FirewallEvents>,
}

/// The HTTP server that receives DNS Firewall events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallEvents {
    /// The URL that zonal posts events to, with `https` or `http`.
    pub url: String,
    /// The time between two events for the same rule, view and registered domain, in seconds. At most a week.
    #[serde(default = "six_hours")]
    pub deduplicate_seconds: u32,
}

/// As in Route 53.
fn six_hours() -> u32 {
    6 * 3600
}

/// The maximum of `deduplicate_seconds`: a week.
const MAX_DEDUPLICATE_SECONDS: u32 = 604_800;

impl FirewallEvents {
    /// The host of the URL, with the port if the URL has one.
    pub fn host(&self) -> Option<&str> {
        let rest = self.url.strip_prefix("https://").or_else(|| self.url.strip_prefix("http://"))?;
        rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains('@'))
    }
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
        let mut errors: Vec<_> = wrong.map(error).collect();
        if let Some(events) = &self.events {
            if events.host().is_none() {
                let message = "it is not a URL; write one such as https://events.example/zonal".to_string();
                errors.push(("firewall.events.url".into(), message));
            }
            if !(1..=MAX_DEDUPLICATE_SECONDS).contains(&events.deduplicate_seconds) {
                let message = format!("it must be from 1 to {MAX_DEDUPLICATE_SECONDS}, a week");
                errors.push(("firewall.events.deduplicate_seconds".into(), message));
            }
        }
        errors
    }
}
