//! The checks of a change of record sets that do not need the zone: the members of a record set, and the form of its
//! values. The errors have the words of Route 53, because clients search for these words.

use super::{hosted_zones::error, record_sets};
use crate::aws::{codec::server::ServiceError, operations::Parameters};
use serde_json::Value;
use std::collections::HashSet;

/// The members of a record set that are routing policies, with their members in the manifest.
pub(super) const POLICIES: [(&str, &str); 8] = [
    ("Weight", "weighted_routing_policy"),
    ("Failover", "failover_routing_policy"),
    ("MultiValueAnswer", "multivalue_answer_routing_policy"),
    ("Region", "latency_routing_policy"),
    ("GeoLocation", "geolocation_routing_policy"),
    ("GeoProximityLocation", "geoproximity_routing_policy"),
    ("AZAffinity", "az_affinity_routing_policy"),
    ("CidrRoutingConfig", "cidr_routing_policy"),
];

/// Checks the members of a record set: a name; either an alias, or a TTL and values; and an identifier if the set has a routing
/// policy.
pub(super) fn check_set(action: &str, set: Parameters) -> Result<(), ServiceError> {
    let name = set.text("Name");
    if record_sets::read_name(name).is_none() {
        return Err(error("InvalidChangeBatch", record_sets::invalid_name("Name", name)));
    }
    let identifier = set.given_text("SetIdentifier");
    let fail = |what: String| {
        let (rtype, identifier) = (set.text("Type"), identifier.unwrap_or("null"));
        let change = format!("[Action={action}, Name={name}, Type={rtype}, SetIdentifier={identifier}]");
        Err(error("InvalidInput", format!("Invalid request: {what} in Change with {change}")))
    };
    let one_of = |members: &str, count: &str| fail(format!("Expected exactly one of [{members}], but found {count}"));
    let contents = "AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId";
    match ["AliasTarget", "TTL", "ResourceRecords"].map(|member| set.get(member).is_some()) {
        [true, false, false] | [false, true, true] => {}
        [true, _, _] => return one_of(contents, "more than one"),
        [false, _, _] => return one_of(contents, "none"),
    }
    // `MultiValueAnswer` with the value false is no policy.
    let is_policy = |value: &Value| *value != Value::Bool(false);
    let policies = POLICIES.iter().filter(|(member, _)| set.get(member).is_some_and(is_policy)).count();
    let names = "Weight, Region, Failover, GeoLocation, MultiValueAnswer, GeoProximityLocation, CidrRoutingConfig, or AZAffinity";
    match (identifier, policies) {
        (None, 0) | (Some(_), 1) => Ok(()),
        (None, _) => fail("Missing field 'SetIdentifier'".into()),
        (Some(_), 0) => one_of(names, "none"),
        (Some(_), _) => one_of(names, "more than one"),
    }
}

/// Checks that no value is repeated, and that texts are in quotation marks.
pub(super) fn check_values(rtype: &str, values: &[String]) -> Result<(), String> {
    let is_plain = |value: &&String| record_sets::is_of_texts(rtype) && !value.trim_start().starts_with('"');
    if let Some(value) = values.iter().find(is_plain) {
        return Err(format!(
            "Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) \
             encountered with '{value}''"
        ));
    }
    let mut seen = HashSet::new();
    match values.iter().find(|value| !seen.insert(value.as_str())) {
        Some(value) => Err(format!("Duplicate Resource Record: '{value}'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_set_has_values_or_an_alias_and_an_identifier_with_its_policy() {
        let plain = json!({"Name": "a.example", "Type": "A", "TTL": 1, "ResourceRecords": [{"Value": "192.0.2.1"}]});
        for (changes, expected) in [
            (json!({}), None),
            (json!({"MultiValueAnswer": false}), None),
            (json!({"Weight": 0, "SetIdentifier": "x"}), None),
            (json!({"TTL": null, "ResourceRecords": null, "AliasTarget": {}}), None),
            (json!({"TTL": null}), Some("or TrafficPolicyInstanceId], but found none in Change with [Action=CREATE, ")),
            (json!({"ResourceRecords": null}), Some("but found none")),
            (json!({"AliasTarget": {}}), Some("but found more than one")),
            (json!({"ResourceRecords": null, "AliasTarget": {}}), Some("but found more than one")),
            (
                json!({"Weight": 1}),
                Some("Missing field 'SetIdentifier' in Change with [Action=CREATE, Name=a.example, Type=A, "),
            ),
            (json!({"SetIdentifier": "x"}), Some("or AZAffinity], but found none in Change with ")),
            (json!({"SetIdentifier": "x", "Weight": 1, "Region": "us-east-1"}), Some("found more than one")),
            (json!({"Name": "a..b"}), Some("Name: `a..b` is not a domain name")),
        ] {
            let mut set = plain.clone();
            for (member, value) in changes.as_object().unwrap() {
                set[member] = value.clone();
            }
            set.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            let found = check_set("CREATE", Parameters(&set)).err();
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => assert!(found.message.contains(expected), "{changes}: {found:?}"),
                _ => panic!("{changes}: {found:?}"),
            }
        }
    }

    #[test]
    fn values_differ_and_texts_are_in_quotation_marks() {
        for (rtype, values, expected) in [
            ("TXT", &["\"a b\" \"c\"", "\"a\""][..], None),
            ("TXT", &["\"a\"", "b"], Some("encountered with 'b''")),
            ("SPF", &["v=spf1 -all"], Some("should be enclosed in quotation marks")),
            ("A", &["192.0.2.1", "192.0.2.2"], None),
            ("A", &["192.0.2.1", "192.0.2.2", "192.0.2.1"], Some("Duplicate Resource Record: '192.0.2.1'")),
        ] {
            let values: Vec<String> = values.iter().map(|value| value.to_string()).collect();
            let found = check_values(rtype, &values).err();
            assert_eq!(found.is_some(), expected.is_some(), "{rtype} {values:?}: {found:?}");
            assert!(expected.is_none_or(|expected| found.is_some_and(|found| found.contains(expected))));
        }
    }
}
