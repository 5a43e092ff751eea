//! Health checks on this node.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

/// Health checks on this node.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// CIDR blocks that health checks can ask in addition to the networks of the manifest.
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<IpNet>,
    /// The maximum number of attempts at the same time: 2 to 10000.
    pub max_in_flight: u32,
    /// How long an isolated node keeps its verdicts, in seconds. After that, every target counts as
    /// healthy.
    pub freeze_for: u32,
}

impl Default for Health {
    fn default() -> Health {
        Health { allow: Vec::new(), max_in_flight: 256, freeze_for: 600 }
    }
}

impl Health {
    /// The fields with errors, and each error.
    pub(super) fn check(&self) -> Vec<(&'static str, &'static str)> {
        let is_possible = (2..=10_000).contains(&self.max_in_flight);
        (!is_possible).then_some(("health.max_in_flight", "it must be from 2 to 10000")).into_iter().collect()
    }
}
