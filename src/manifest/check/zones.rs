//! Private hosted zones, but for what their records mean.

use super::Checker;
use crate::manifest::master::MAX_TTL;
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
}
