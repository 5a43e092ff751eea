//! `zonal schema`: the JSON Schema of a manifest file, for editors and other programs.

use crate::manifest::Manifest;
use serde_json::{Value, json};

/// The JSON Schema of a manifest file: any subset of the kinds.
pub(super) fn schema() -> String {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    widen(&mut schema);
    // A kind may be empty.
    for kind in schema["properties"].as_object_mut().into_iter().flat_map(|kinds| kinds.values_mut()) {
        kind["type"] = json!(["object", "null"]);
    }
    format!("{schema:#}\n")
}

/// Accepts numbers and booleans where the manifest has text: YAML reads unquoted text such as `7` or `yes` as one of these.
fn widen(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_any_text = !["enum", "const", "format"].iter().any(|key| members.contains_key(*key));
            let is_form = members.get("pattern").is_some_and(|pattern| {
                // Names may be of digits only, as in reverse zones.
                !pattern.as_str().is_some_and(|pattern| pattern.starts_with("^(\\.|"))
            });
            let text = json!("string");
            if let Some(kind) = members.get_mut("type").filter(|_| is_any_text && !is_form) {
                match kind {
                    Value::String(one) if one == "string" => *kind = json!(["string", "number", "boolean"]),
                    Value::Array(all) if all.contains(&text) => all.extend([json!("number"), json!("boolean")]),
                    _ => {}
                }
            }
            members.values_mut().for_each(widen);
        }
        Value::Array(all) => all.iter_mut().for_each(widen),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_requires_the_mandatory_fields() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        assert!(schema["required"].is_null(), "a file may have any subset of the kinds");
        for (kind, required) in [
            ("Vpc", "cidr_blocks region"),
            ("Subnet", "availability_zone_id cidr_blocks"),
            ("VpcEndpoint", "state vpc_endpoint_type vpc_id"),
            ("VpcEndpointService", "dns_name owner_id region"),
            ("PrivateHostedZone", "name"),
            ("ResolverRule", "domain_name rule_type"),
        ] {
            let mut names: Vec<&str> =
                schema["$defs"][kind]["required"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
            names.sort();
            assert_eq!(names.join(" "), required, "{kind}");
            assert_eq!(schema["$defs"][kind]["additionalProperties"], false, "{kind}");
        }
    }
}
