//! Hosted zones, health checks and CIDR collections of Route 53.

use super::{Import, Item, aws_data, is_empty, last_part, text, texts, without_dot};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

const KIND: &str = "private_hosted_zones";

impl<'i> Import<'i> {
    pub(super) fn zones(&mut self) {
        self.health_checks();
        self.cidr_collections();
        // The zones of the lists, and those that were got one by one, which have their VPCs.
        let mut zones: BTreeMap<String, (&'i Value, &'i Item)> = BTreeMap::new();
        let mut vpcs: HashMap<String, Vec<&'i str>> = HashMap::new();
        for item in self.input.list("HostedZones") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            zones.insert(last_part(id), (&item.value, item));
        }
        for item in self.input.list("HostedZone") {
            let Some(zone) = item.value.get("HostedZone").filter(|zone| text(zone, "Id").is_some()) else {
                self.report.not_read(&item.origin.file, "`HostedZone` has no `Id`".into());
                continue;
            };
            let id = text(zone, "Id").map(last_part).unwrap_or_default();
            let own = item.list("VPCs").iter().filter_map(|vpc| text(vpc, "VPCId"));
            vpcs.entry(id.clone()).or_default().extend(own);
            zones.insert(id, (zone, item));
        }
        for item in self.input.list("HostedZoneSummaries") {
            let Some(id) = self.id(KIND, item, "HostedZoneId") else { continue };
            vpcs.entry(last_part(id)).or_default().push(&item.origin.of);
        }
        let mut sets: HashMap<&str, Vec<&'i Value>> = HashMap::new();
        for item in self.input.list("ResourceRecordSets") {
            sets.entry(&item.origin.of).or_default().push(&item.value);
        }
        for (id, (zone, item)) in zones {
            let Some(name) = text(zone, "Name") else {
                self.lacks(KIND, &id, "Name");
                continue;
            };
            let config = zone.get("Config").unwrap_or(&Value::Null);
            let is_private =
                config.get("PrivateZone").and_then(Value::as_bool).unwrap_or_else(|| vpcs.contains_key(&id));
            let own = vpcs.get(&id).cloned().unwrap_or_default();
            if is_private && own.is_empty() {
                self.report.approximated(
                    KIND,
                    &id,
                    "no output of get-hosted-zone has its VPCs: no client sees the zone",
                );
            }
            let vpc_ids = self.known_vpcs(KIND, &id, own.into_iter());
            let own = sets.remove(id.as_str());
            if own.is_none() && zone.get("ResourceRecordSetCount").and_then(Value::as_u64).is_none_or(|count| count > 0)
            {
                self.report.approximated(KIND, &id, "no output of list-resource-record-sets has its records");
            }
            let records = self.record_sets(&id, name, own.unwrap_or_default());
            let aws = json!({
                "caller_reference": text(zone, "CallerReference"),
                "comment": text(config, "Comment"),
                "owner_id": self.input.account,
            });
            let aws: serde_json::Map<String, Value> = aws
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !is_empty(value))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            let mut resource = json!({
                "name": without_dot(name),
                "records": records,
                "tags": self.tags_of(&id, item),
                "aws": aws,
            });
            let fallback = item.value.get("Features").and_then(|features| features.get("PublicDNSFallbackStatus"));
            if fallback.and_then(Value::as_str) == Some("ENABLED") {
                resource["fallthrough"] = json!(true);
            }
            match is_private {
                true => resource["vpc_ids"] = json!(vpc_ids),
                false => resource["public"] = json!(true),
            }
            self.put(KIND, &id, resource);
        }
        for id in sets.into_keys() {
            self.report.not_expressible(KIND, id, "there are records, but no output of list-hosted-zones has the zone");
        }
    }

    fn health_checks(&mut self) {
        const KIND: &str = "health_checks";
        for item in self.input.list("HealthChecks") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            let Some(config) = item.value.get("HealthCheckConfig") else {
                self.lacks(KIND, id, "HealthCheckConfig");
                continue;
            };
            let kind = text(config, "Type").unwrap_or_default();
            let plain = kind.trim_end_matches("_STR_MATCH");
            let external = matches!(kind, "CLOUDWATCH_METRIC" | "RECOVERY_CONTROL");
            if external {
                let reason = format!(
                    "{kind} is not checked by zonal: it becomes an EXTERNAL check, whose status has to be reported to zonal"
                );
                self.report.approximated(KIND, id, reason);
            } else if !matches!(plain, "HTTP" | "HTTPS" | "TCP" | "CALCULATED") {
                self.report.not_expressible(KIND, id, format!("zonal has no health checks of type {kind}"));
                continue;
            }
            let is_probe = matches!(plain, "HTTP" | "HTTPS" | "TCP");
            if is_probe && config.get("Regions").is_some_and(|regions| !is_empty(regions)) {
                self.report.approximated(
                    KIND,
                    id,
                    "each node of zonal checks by itself, not the checkers of AWS's Regions",
                );
            }
            let number = |member: &str| config.get(member).and_then(Value::as_u64);
            let children: Vec<&str> = texts(config, "ChildHealthChecks").collect();
            let named = [("CallerReference", "caller_reference"), ("HealthCheckVersion", "version")];
            let mut aws = aws_data(item, &named, &[]);
            if let Some(account) = &self.input.account {
                aws["owner_id"] = account.as_str().into();
            }
            let defaults = [("MeasureLatency", json!(false)), ("EnableSNI", json!(plain == "HTTPS"))];
            for member in
                ["MeasureLatency", "EnableSNI", "Regions", "AlarmIdentifier", "RoutingControlArn", "EndpointType"]
            {
                let given = config.get(member).filter(|value| !is_empty(value));
                let is_default =
                    |value: &&Value| defaults.iter().any(|(name, default)| *name == member && default == *value);
                if let Some(value) = given.filter(|value| !is_default(value)) {
                    aws["echo"][member] = value.clone();
                }
            }
            if external {
                aws["echo"]["Type"] = kind.into();
            }
            let when_stale = match text(config, "InsufficientDataHealthStatus") {
                Some("Healthy") => Some("healthy"),
                Some("Unhealthy") => Some("unhealthy"),
                Some("LastKnownStatus") => Some("last_known"),
                _ => None,
            };
            let vpc = text(config, "HealthCheckSourceId").filter(|id| self.has("vpcs", id));
            // Without a port, Route 53 takes that of the protocol.
            let mut resource = json!({
                "type": if external { "EXTERNAL" } else { plain },
                "ip_address": text(config, "IPAddress"),
                "port": number("Port"),
                "resource_path": text(config, "ResourcePath"),
                "fully_qualified_domain_name": text(config, "FullyQualifiedDomainName"),
                "search_string": text(config, "SearchString"),
                "request_interval": number("RequestInterval").filter(|_| is_probe),
                "failure_threshold": number("FailureThreshold").filter(|_| is_probe),
                "success_threshold": number("FailureThreshold").filter(|_| is_probe),
                "inverted": config.get("Inverted").and_then(Value::as_bool).filter(|inverted| *inverted),
                "disabled": config.get("Disabled").and_then(Value::as_bool).filter(|disabled| *disabled),
                "child_health_checks": children,
                "health_threshold": number("HealthThreshold").filter(|_| plain == "CALCULATED"),
                "tags": self.tags_of(id, item),
                "vpc_id": vpc.filter(|_| is_probe),
                "when_stale": when_stale.filter(|_| external),
                "aws": aws,
            });
            if external {
                for member in ["ip_address", "port", "resource_path", "fully_qualified_domain_name", "search_string"] {
                    resource[member] = Value::Null;
                }
            }
            self.put(KIND, id, resource);
        }
    }

    fn cidr_collections(&mut self) {
        const KIND: &str = "cidr_collections";
        let mut blocks: BTreeMap<&str, BTreeMap<&str, Vec<&'i str>>> = BTreeMap::new();
        for item in self.input.list("CidrBlocks") {
            let (Some(block), Some(location)) = (item.text("CidrBlock"), item.text("LocationName")) else { continue };
            blocks.entry(&item.origin.of).or_default().entry(location).or_default().push(block);
        }
        for item in self.input.list("CidrCollections") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            let resource = json!({
                "name": item.text("Name"),
                "locations": blocks.get(id).cloned().unwrap_or_default(),
            });
            self.put(KIND, id, resource);
        }
    }
}
