//! Record sets of hosted zones: in Route 53's order, and in its form.

use super::hosted_zones;
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service,
        operations::{Context, Parameters, ReadResult, identifiers, object},
    },
    manifest::{PrivateHostedZone, ResourceRecordSet, rewrite},
    snapshot::zone::{Node, Zone},
    wire::{
        Name,
        rdata::{self, type_from_text, type_to_text},
    },
};
use serde_json::{Map, Value, json};
use std::{
    cmp::Ordering,
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The maximum number of record sets on a page.
const MAX_ITEMS: usize = 300;
/// The TTL of a record set without one, in seconds.
pub(super) const DEFAULT_TTL: u32 = 300;
/// The maximum number of zones whose order is kept.
const MAX_INDEXES: usize = 8;

/// Indexes of the record sets of some zones.
#[derive(Default)]
pub struct RecordSetIndexes {
    /// The orders of the zones that were listed last. A list of many pages sorts the zone once.
    orders: Mutex<Vec<Arc<Index>>>,
}

/// The record sets of a zone, in order.
pub(super) struct Index {
    id: String,
    source: Arc<PrivateHostedZone>,
    compiled: Option<Arc<Zone>>,
    pub sets: Vec<ListedSet>,
}

/// A record set of a zone.
pub(super) struct ListedSet {
    pub name: Name,
    rtype: String,
    identifier: String,
    content: Content,
}

enum Content {
    /// A record set of the resource.
    Own(Arc<ResourceRecordSet>),
    /// Records that zonal answers with, but that are not in the resource: from a master file, a transfer or an update, or the
    /// SOA and NS records that zonal makes.
    Compiled { ttl: u32, values: Vec<String> },
}

impl ListedSet {
    /// The order of the list: by the labels of names from right to left, then by type and identifier.
    fn order(&self, name: &Name, rtype: &str, identifier: &str) -> Ordering {
        let by_name = self.name.cmp(name);
        by_name.then_with(|| self.rtype.as_str().cmp(rtype)).then_with(|| self.identifier.as_str().cmp(identifier))
    }

    /// Whether the set is at the apex and has the SOA or NS records that every zone has.
    pub fn is_of_apex(&self, zone: &PrivateHostedZone) -> bool {
        self.name == zone.name && matches!(&*self.rtype, "SOA" | "NS")
    }
}

impl Index {
    fn new(id: &str, source: &Arc<PrivateHostedZone>, compiled: Option<&Arc<Zone>>) -> Index {
        let overlay = compiled.and_then(|zone| zone.overlay.as_ref());
        let mut sets = Vec::with_capacity(source.records.len() + 2);
        let mut own = HashSet::new();
        for set in &source.records {
            let Ok(name) = Name::parse(set.name.as_bytes(), Some(&source.name)) else { continue };
            let number = type_from_text(&set.record_type).unwrap_or_default();
            // A dynamic update overrides the resource.
            if overlay.is_some_and(|overlay| overlay.has(&name, number)) {
                continue;
            }
            let rtype = set.record_type.to_ascii_uppercase();
            let identifier = set.set_identifier.clone().unwrap_or_default();
            own.insert((name.clone(), number));
            sets.push(ListedSet { name, rtype, identifier, content: Content::Own(set.clone()) });
        }
        // Of other zones, only the records of the apex can be missing.
        let is_complete = source.file.is_none() && !source.is_transferred() && overlay.is_none();
        let mut add = |node: Node| {
            let name = node.name();
            for set in node.sets() {
                if own.contains(&(name.clone(), set.rtype())) || set.alias().is_some() || set.group().is_some() {
                    continue;
                }
                let values = set.values().map(|value| rewrite::text(set.rtype(), &value)).collect();
                let content = Content::Compiled { ttl: set.ttl(), values };
                let rtype = type_to_text(set.rtype()).into_owned();
                sets.push(ListedSet { name: name.clone(), rtype, identifier: String::new(), content });
            }
        };
        match compiled {
            Some(zone) if is_complete => add(zone.apex_node()),
            Some(zone) => zone.nodes().for_each(add),
            None => {}
        }
        sets.sort_by(|one, other| one.order(&other.name, &other.rtype, &other.identifier));
        Index { id: id.into(), source: source.clone(), compiled: compiled.cloned(), sets }
    }

    fn is_of(&self, id: &str, source: &Arc<PrivateHostedZone>, compiled: Option<&Arc<Zone>>) -> bool {
        self.id == id
            && Arc::ptr_eq(&self.source, source)
            && self.compiled.as_ref().map(Arc::as_ptr) == compiled.map(Arc::as_ptr)
    }

    fn value(&self, set: &ListedSet) -> Value {
        match &set.content {
            Content::Own(own) => self.own_value(set, own),
            Content::Compiled { ttl, values } => json!({
                "Name": name_text(&set.name), "Type": set.rtype, "TTL": ttl, "ResourceRecords": records(values),
            }),
        }
    }

    fn own_value(&self, listed: &ListedSet, set: &ResourceRecordSet) -> Value {
        let mut value = Map::new();
        let mut put = |name: &str, member: Value| drop(value.insert(name.into(), member));
        put("Name", name_text(&listed.name).into());
        put("Type", listed.rtype.clone().into());
        if let Some(alias) = &set.alias {
            let zone = match alias.name.is_at_or_below(&self.source.name) {
                true => self.id.clone(),
                false => identifiers::endpoint_zone(&region_of(&alias.name)),
            };
            let evaluates = alias.evaluate_target_health;
            put(
                "AliasTarget",
                json!({"HostedZoneId": zone, "DNSName": name_text(&alias.name), "EvaluateTargetHealth": evaluates}),
            );
        } else {
            put("TTL", set.ttl.unwrap_or(DEFAULT_TTL).into());
            let values: Vec<String> = set.records.iter().map(|value| quoted(&listed.rtype, value)).collect();
            put("ResourceRecords", records(&values));
        }
        if let Some(identifier) = &set.set_identifier {
            put("SetIdentifier", identifier.clone().into());
        }
        if let Some(policy) = &set.weighted_routing_policy {
            put("Weight", policy.weight.into());
        }
        if let Some(policy) = &set.failover_routing_policy {
            put("Failover", json!(policy.failover_type));
        }
        if set.multivalue_answer_routing_policy {
            put("MultiValueAnswer", true.into());
        }
        if let Some(policy) = &set.latency_routing_policy {
            put("Region", policy.region.clone().into());
        }
        if let Some(policy) = &set.geolocation_routing_policy {
            let place = json!({
                "ContinentCode": policy.continent, "CountryCode": policy.country, "SubdivisionCode": policy.subdivision,
            });
            put("GeoLocation", object(place));
        }
        if let Some(policy) = &set.geoproximity_routing_policy {
            let coordinates = policy
                .coordinates
                .as_ref()
                .map(|place| json!({"Latitude": place.latitude.to_string(), "Longitude": place.longitude.to_string()}));
            let place = json!({"AWSRegion": policy.aws_region, "Coordinates": coordinates, "Bias": policy.bias});
            put("GeoProximityLocation", object(place));
        }
        if let Some(policy) = &set.az_affinity_routing_policy {
            put("AZAffinity", json!({"LocationType": policy.location_type, "LocationId": policy.location_id}));
        }
        if let Some(policy) = &set.cidr_routing_policy {
            put(
                "CidrRoutingConfig",
                json!({"CollectionId": policy.collection_id, "LocationName": policy.location_name}),
            );
        }
        if let Some(id) = &set.health_check_id {
            put("HealthCheckId", id.clone().into());
        }
        Value::Object(value)
    }
}

/// Whether the values of a record type are texts.
pub(super) fn is_of_texts(rtype: &str) -> bool {
    ["TXT", "SPF"].iter().any(|one| rtype.eq_ignore_ascii_case(one))
}

/// A value in the form of Route 53, where texts are in quotation marks. In master files, texts can be without them.
pub(super) fn quoted(rtype: &str, value: &str) -> String {
    let read = || rdata::parse_text(type_from_text(rtype)?, value, &Name::root()).ok();
    let data = (is_of_texts(rtype) && !value.trim_start().starts_with('"')).then(read).flatten();
    data.map_or_else(|| value.to_string(), |data| rewrite::text(rdata::rtype::TXT, &data))
}

fn records(values: &[String]) -> Value {
    values.iter().map(|value| json!({"Value": octal_escapes(value)})).collect()
}

/// The Region in the name of an endpoint: `vpce-1-2.sqs.us-east-1.vpce.amazonaws.com`.
fn region_of(name: &Name) -> String {
    let labels: Vec<&[u8]> = name.labels().collect();
    let at = labels.iter().position(|label| label.eq_ignore_ascii_case(b"vpce")).unwrap_or_default();
    let region = at.checked_sub(1).and_then(|before| labels.get(before));
    region.map_or_else(String::new, |label| String::from_utf8_lossy(label).to_ascii_lowercase())
}

/// A name as Route 53 writes it: in lower case, with a last dot, and with octal escapes.
pub(in crate::aws::operations) fn name_text(name: &Name) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for label in name.labels() {
        for octet in label.to_ascii_lowercase() {
            match octet {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(octet)),
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\{octet:03o}");
                }
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".into() } else { text }
}

/// Reads a name with Route 53's octal escapes, absolute with or without a last dot.
pub(in crate::aws::operations) fn read_name(text: &str) -> Option<Name> {
    Name::absolute(&decimal_escapes(text)).ok()
}

/// The error for a text that is not a name. Route 53 names the first character that a name cannot have.
pub(super) fn invalid_name(parameter: &str, text: &str) -> String {
    match text.chars().find(|character| character.is_whitespace() || character.is_control()) {
        Some(found) => format!(
            "FATAL problem: UnsupportedCharacter (Value contains unsupported characters) encountered with '{found}'"
        ),
        None => format!("{parameter}: `{text}` is not a domain name"),
    }
}

/// A text with the escapes of master files, `\042` for an asterisk, in place of Route 53's octal ones, `\052`.
pub(super) fn decimal_escapes(text: &str) -> String {
    with_escapes(text, 8, |octet, out| out.push_str(&format!("\\{octet:03}")))
}

/// A text with Route 53's octal escapes in place of those of master files.
fn octal_escapes(text: &str) -> String {
    with_escapes(text, 10, |octet, out| out.push_str(&format!("\\{octet:03o}")))
}

/// A text whose escapes with three digits of a base are written anew. A backslash before another character stays.
fn with_escapes(text: &str, base: u32, write: impl Fn(u8, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let digits = after.get(..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, base).ok()) {
            Some(octet) => {
                write(octet, &mut out);
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                let end = after.chars().next().map_or(0, char::len_utf8);
                out.push_str(&after[..end]);
                rest = &after[end..];
            }
        }
    }
    out.push_str(rest);
    out
}

impl RecordSetIndexes {
    /// The index of a zone, which has to be kept as long as the zone does not change.
    pub(super) fn index(&self, id: &str, source: &Arc<PrivateHostedZone>, compiled: Option<&Arc<Zone>>) -> Arc<Index> {
        let found = {
            let mut indexes = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            let at = indexes.iter().position(|index| index.is_of(id, source, compiled));
            // The last used index is at the end.
            at.map(|at| {
                let index = indexes.remove(at);
                indexes.push(index.clone());
                index
            })
        };
        found.unwrap_or_else(|| {
            let index = Arc::new(Index::new(id, source, compiled));
            let mut indexes = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            indexes.retain(|index| index.id != id);
            if indexes.len() == MAX_INDEXES {
                indexes.remove(0);
            }
            indexes.push(index.clone());
            index
        })
    }
}

/// The index of a zone of the manifest.
pub(super) fn index_of(context: &Context, id: &str, zone: &Arc<PrivateHostedZone>) -> Arc<Index> {
    context.indexes.index(id, zone, context.snapshot.zone(id))
}

pub(super) fn list_resource_record_sets(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, zone) = hosted_zones::find(context, parameters.text("HostedZoneId"))?;
    let invalid = |message: &str| ServiceError::new(Service::Route53, "InvalidInput", message);
    let limit = parameters.limit("MaxItems", MAX_ITEMS, MAX_ITEMS);
    let limit = limit.ok_or_else(|| invalid("MaxItems: expected a number above 0"))?;
    let (rtype, identifier) = (parameters.text("StartRecordType"), parameters.text("StartRecordIdentifier"));
    let start = parameters.given_text("StartRecordName");
    if start.is_none() && !rtype.is_empty() {
        // The words of Route 53.
        return Err(invalid("The input is not valid"));
    }
    if rtype.is_empty() && !identifier.is_empty() {
        return Err(invalid("StartRecordIdentifier: StartRecordType is missing"));
    }
    let start = start.map(|text| read_name(text).ok_or_else(|| invalid(&invalid_name("StartRecordName", text))));
    let index = index_of(context, id, zone);
    let first = start
        .transpose()?
        .map_or(0, |name| index.sets.partition_point(|set| set.order(&name, rtype, identifier).is_lt()));
    let rest = index.sets.get(first..).unwrap_or_default();
    let sets: Value = rest.iter().take(limit).map(|set| index.value(set)).collect();
    let mut result =
        json!({"ResourceRecordSets": sets, "MaxItems": limit.to_string(), "IsTruncated": rest.len() > limit});
    if let Some(next) = rest.get(limit) {
        result["NextRecordName"] = name_text(&next.name).into();
        result["NextRecordType"] = next.rtype.clone().into();
        if !next.identifier.is_empty() {
            result["NextRecordIdentifier"] = next.identifier.clone().into();
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_octal_escapes() {
        let text = |name: &str| name_text(&read_name(name).unwrap());
        assert_eq!(text("*.A.example"), "\\052.a.example.");
        assert_eq!(text("\\052.a.example."), "\\052.a.example.");
        assert_eq!(text("a\\100b_-.example."), "a\\100b_-.example.");
        assert_eq!(text("."), ".");
        assert!(read_name("a..b").is_none() && read_name("a\\").is_none());
        assert_eq!(decimal_escapes("\"a\\052\\\"b\\\\052\""), "\"a\\042\\\"b\\\\052\"");
    }
}
