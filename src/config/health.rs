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
    /// Whether nodes share their verdicts, and decide together. The source of the manifest must be etcd, and the user of
    /// zonal must be allowed to write below `health_reports/` there.
    pub share: bool,
    /// With `share`: a target is healthy if more than this part of the nodes that have a verdict say so, and at least one: 0
    /// to 0.99.
    pub quorum: f64,
    /// The AZ ID of this node, which it shares with its verdicts. Default: the AZ of the subnet that contains the first
    /// address on which the node listens.
    pub availability_zone_id: Option<String>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            allow: Vec::new(),
            max_in_flight: 256,
            freeze_for: 600,
            share: false,
            quorum: 0.18,
            availability_zone_id: None,
        }
    }
}

impl Health {
    /// The fields with errors, and each error. `has_etcd`: the source of the manifest is etcd.
    pub(super) fn check(&self, has_etcd: bool) -> Vec<(&'static str, &'static str)> {
        let mut wrong = Vec::new();
        if !(2..=10_000).contains(&self.max_in_flight) {
            wrong.push(("health.max_in_flight", "it must be from 2 to 10000"));
        }
        if self.share && !has_etcd {
            wrong.push(("health.share", "nodes share verdicts by etcd, and `control_plane` has no `etcd`"));
        }
        if !(0.0..=0.99).contains(&self.quorum) {
            wrong.push(("health.quorum", "it must be from 0 to 0.99"));
        }
        wrong
    }
}
