//! Private hosted zones, but for what their records mean.

use super::Checker;
use crate::manifest::{PrivateHostedZone, master::MAX_TTL};
use std::collections::HashMap;

impl Checker<'_> {
    pub(super) fn zones(&mut self) {
        const KIND: &str = "private_hosted_zones";
        let manifest = self.manifest;
        let mut seen = HashMap::new();
        for (id, zone) in &manifest.private_hosted_zones {
            if zone.vpc_ids.is_empty() {
                self.warning(KIND, id, "vpc_ids", "no VPC sees the zone");
            }
            self.vpc_list(KIND, id, &zone.vpc_ids);
            for (at, vpc) in zone.vpc_ids.iter().enumerate() {
                match seen.insert((&zone.name, vpc), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` has a hosted zone {} already: `{other}`", zone.name);
                        self.error(KIND, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
            self.zone_access(id, zone);
            for (at, set) in zone.records.iter().enumerate() {
                let field = format!("records[{at}]");
                if set.record_type.is_empty() {
                    self.error(KIND, id, &field, "the field `type` is missing");
                }
                match &set.alias {
                    Some(_) if !set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set has either `records` or an `alias`, not both");
                    }
                    None if set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set needs `records` or an `alias`");
                    }
                    Some(_) if set.ttl.is_some() => {
                        let message = "an alias has its target's TTL: this one is not used";
                        self.warning(KIND, id, format!("{field}.ttl"), message);
                    }
                    _ => {}
                }
                if set.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
                    let message = format!("a TTL is at most {MAX_TTL} seconds (RFC 2181, 8)");
                    self.error(KIND, id, format!("{field}.ttl"), message);
                }
            }
        }
    }
    fn zone_access(&mut self, id: &str, zone: &PrivateHostedZone) {
        const KIND: &str = "private_hosted_zones";
        for (at, secondary) in zone.secondaries.iter().enumerate() {
            let field = format!("secondaries[{at}]");
            if secondary.port == 0 {
                self.error(KIND, id, format!("{field}.port"), "there is no port 0");
            }
            if secondary.ip.is_unspecified() || secondary.ip.is_multicast() {
                self.error(KIND, id, format!("{field}.ip"), format!("{} is no server's address", secondary.ip));
            }
            if zone.secondaries[..at].iter().any(|other| (other.ip, other.port) == (secondary.ip, secondary.port)) {
                let message = format!("{} port {} is in the list already", secondary.ip, secondary.port);
                self.error(KIND, id, field, message);
            }
        }
        for (list, allowed, needs_key) in
            [("allow_transfer", &zone.allow_transfer, false), ("allow_update", &zone.allow_update, true)]
        {
            for (at, access) in allowed.iter().enumerate() {
                let field = format!("{list}[{at}]");
                if access.tsig_key.is_none() && needs_key {
                    self.error(KIND, id, field, "updates need a TSIG key: an address alone proves nothing");
                    self.help("tsig_key: a name in `tsig_keys` of zonal.yaml");
                } else if access.tsig_key.is_none() && access.cidr_block.is_none() {
                    self.error(KIND, id, field, "it needs a `cidr_block`, a `tsig_key`, or both");
                }
            }
        }
    }
}
