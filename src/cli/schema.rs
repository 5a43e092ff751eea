//! `zonal schema`: what a manifest file may hold, for editors and other programs.

use crate::manifest::Manifest;

/// The JSON Schema of a manifest file: any subset of the kinds.
pub(super) fn schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Manifest).to_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_requires_what_the_types_require() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        assert!(schema["required"].is_null(), "a file holds any subset");
        for (kind, required) in [
            ("Vpc", "cidr_blocks region"),
            ("Subnet", "availability_zone_id cidr_blocks"),
            ("VpcEndpoint", "state vpc_endpoint_type vpc_id"),
            ("VpcEndpointService", "dns_name owner_id region"),
            ("PrivateHostedZone", "name vpc_ids"),
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
