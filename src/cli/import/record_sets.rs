//! Record sets of Route 53.
//!
//! Route 53 prints octets that are no letters, digits or hyphens as `\` and three octal digits, such as `\052` for `*`. Master
//! files have decimal digits there.

use super::{Import, list, text, without_dot};
use serde_json::{Map, Value, json};

const KIND: &str = "private_hosted_zones";

impl<'i> Import<'i> {
    /// The record sets of a zone. Those that cannot be expressed are in the report.
    pub(super) fn record_sets(&mut self, zone: &str, apex: &str, sets: Vec<&'i Value>) -> Vec<Value> {
        let apex = without_dot(apex).to_ascii_lowercase();
        let mut made = Vec::new();
        for set in sets {
            let (Some(name), Some(record_type)) = (text(set, "Name"), text(set, "Type")) else {
                self.report.not_expressible(KIND, zone, "a record set has no `Name` or no `Type`");
                continue;
            };
            let name = in_decimal(name);
            let about = match text(set, "SetIdentifier") {
                Some(identifier) => format!("{zone} {name} {record_type} {identifier}"),
                None => format!("{zone} {name} {record_type}"),
            };
            let mut resource = Map::new();
            resource.insert("name".into(), format!("{}.", without_dot(&name)).into());
            resource.insert("type".into(), record_type.into());
            if let Some(alias) = set.get("AliasTarget") {
                let Some(target) = text(alias, "DNSName").map(in_decimal) else {
                    self.report.not_expressible(KIND, &about, "the alias has no `DNSName`");
                    continue;
                };
                if !self.can_be_alias(&apex, &target) {
                    let reason = format!(
                        "an alias to {target}, which is neither a name of this zone nor of an imported endpoint: zonal has no \
                         addresses of load balancers, distributions and buckets"
                    );
                    self.report.not_expressible(KIND, &about, reason);
                    continue;
                }
                let evaluates = alias.get("EvaluateTargetHealth").and_then(Value::as_bool) == Some(true);
                let mut alias = json!({"name": target});
                if evaluates {
                    alias["evaluate_target_health"] = true.into();
                }
                resource.insert("alias".into(), alias);
            } else {
                let values = list(set, "ResourceRecords").iter().filter_map(|one| text(one, "Value"));
                let values: Vec<String> = values.map(in_decimal).collect();
                if values.is_empty() {
                    self.report.not_expressible(KIND, &about, "the record set has no values");
                    continue;
                }
                resource.insert("ttl".into(), set.get("TTL").cloned().unwrap_or(Value::Null));
                resource.insert("records".into(), json!(values));
            }
            if set.get("TrafficPolicyInstanceId").is_some() {
                self.report.approximated(
                    KIND,
                    &about,
                    "a traffic policy made the record set: it is a plain one in zonal",
                );
            }
            if text(set, "SetIdentifier").is_some() {
                routing_policy(set, &mut resource);
            }
            if let Some(check) = text(set, "HealthCheckId") {
                match self.has("health_checks", check) {
                    true => drop(resource.insert("health_check_id".into(), check.into())),
                    false => {
                        let reason = format!("health check {check} is not imported: the record set counts as healthy");
                        self.report.approximated(KIND, &about, reason);
                    }
                }
            }
            resource.retain(|_, value| !value.is_null());
            made.push(Value::Object(resource));
        }
        made
    }

    /// Whether a name can be the target of an alias: a name of the zone, or an imported endpoint's own name.
    fn can_be_alias(&self, apex: &str, target: &str) -> bool {
        let target = without_dot(target).to_ascii_lowercase();
        let is_below =
            |name: &str| target == name || target.strip_suffix(name).is_some_and(|front| front.ends_with('.'));
        let services = self.made.get("vpc_endpoint_services").into_iter().flatten();
        is_below(apex)
            || services.into_iter().any(|(_, service)| {
                let name = text(service, "dns_name").map(|name| without_dot(name).to_ascii_lowercase());
                name.is_some_and(|name| is_below(&name)) && target.starts_with("vpce-")
            })
    }
}

/// Adds the routing policy of a record set with an identifier.
fn routing_policy(set: &Value, resource: &mut Map<String, Value>) {
    let mut add = |member: &str, value: Value| drop(resource.insert(member.into(), value));
    add("set_identifier", set.get("SetIdentifier").cloned().unwrap_or(Value::Null));
    if let Some(weight) = set.get("Weight") {
        add("weighted_routing_policy", json!({"weight": weight}));
    }
    if let Some(failover) = set.get("Failover") {
        add("failover_routing_policy", json!({"type": failover}));
    }
    if set.get("MultiValueAnswer").and_then(Value::as_bool) == Some(true) {
        add("multivalue_answer_routing_policy", true.into());
    }
    if let Some(region) = set.get("Region") {
        add("latency_routing_policy", json!({"region": region}));
    }
    let filled = |value: Value| -> Value {
        value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<Map<_, _>>()
            .into()
    };
    if let Some(place) = set.get("GeoLocation") {
        let place = json!({
            "continent": place.get("ContinentCode"),
            "country": place.get("CountryCode"),
            "subdivision": place.get("SubdivisionCode"),
        });
        add("geolocation_routing_policy", filled(place));
    }
    if let Some(place) = set.get("GeoProximityLocation") {
        // The coordinates are texts, as in "49.22".
        let degrees = |member: &str| -> Option<f64> { text(place.get("Coordinates")?, member)?.parse().ok() };
        let coordinates = degrees("Latitude")
            .zip(degrees("Longitude"))
            .map(|(latitude, longitude)| json!({"latitude": latitude, "longitude": longitude}));
        let place = json!({
            "aws_region": place.get("AWSRegion"),
            "coordinates": coordinates,
            "bias": place.get("Bias"),
        });
        add("geoproximity_routing_policy", filled(place));
    }
    if let Some(cidr) = set.get("CidrRoutingConfig") {
        let policy = json!({"collection_id": cidr.get("CollectionId"), "location_name": cidr.get("LocationName")});
        add("cidr_routing_policy", filled(policy));
    }
}

/// A name or a value with decimal escapes instead of octal ones. Octets that need no escape have none.
pub(super) fn in_decimal(text: &str) -> String {
    let octets = text.as_bytes();
    let mut written: Vec<u8> = Vec::with_capacity(octets.len());
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        let digits = octets
            .get(at + 1..at + 4)
            .filter(|digits| *octet == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let number =
            digits.map(|digits| digits.iter().fold(0u32, |number, digit| number * 8 + u32::from(digit - b'0')));
        match (number.and_then(|number| u8::try_from(number).ok()), octets.get(at + 1)) {
            (Some(plain), _) => {
                match plain.is_ascii_alphanumeric() || matches!(plain, b'*' | b'_' | b'-' | b'/') {
                    true => written.push(plain),
                    false => written.extend(format!("\\{plain:03}").into_bytes()),
                }
                at += 4;
            }
            // An escaped octet, which may be a backslash itself.
            (None, Some(next)) if *octet == b'\\' => {
                written.extend([*octet, *next]);
                at += 2;
            }
            _ => {
                written.push(*octet);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&written).into_owned()
}
