use crate::manifest::check::tests::problems;

/// Returns the problems of a zone with these record sets.
fn check(records: &str) -> Vec<String> {
    let text = format!(
        "vpcs: {{vpc-a: {{region: us-east-1, cidr_blocks: [10.1.0.0/16]}}}}\n\
         health_checks: {{hc: {{type: EXTERNAL}}}}\n\
         private_hosted_zones: {{Z: {{name: corp.example, vpc_ids: [vpc-a], records: [{records}]}}}}\n"
    );
    let all = problems(&text);
    all.into_iter().filter(|problem| !problem.contains("no record set uses")).collect()
}

#[test]
fn tells_what_is_wrong_with_routing_policies() {
    let set = |rest: &str| format!("{{name: a, type: A, records: [10.1.0.1], {rest}}}");
    let weighted =
        |id: &str, weight: u8| set(&format!("set_identifier: {id}, weighted_routing_policy: {{weight: {weight}}}"));
    let failover = |id: &str, kind: &str, rest: &str| {
        set(&format!("set_identifier: {id}, failover_routing_policy: {{type: {kind}}}{rest}"))
    };
    for (records, expected) in [
        (format!("{}, {}", weighted("x", 1), weighted("y", 2)), None),
        (format!("{}, {}", weighted("x", 0), weighted("y", 0)), Some("all weights of a.corp.example. A are 0")),
        (set("set_identifier: x"), Some("needs a routing policy")),
        (set("weighted_routing_policy: {weight: 1}"), Some("needs a `set_identifier`")),
        (
            set("health_check_id: hc"),
            Some(
                "warning: private_hosted_zones.Z.records[0].health_check_id: the health check does not change the answer, because",
            ),
        ),
        (set("health_check_id: no"), Some("no health check `no`")),
        (
            set("set_identifier: x, weighted_routing_policy: {weight: 1}, latency_routing_policy: {region: us-east-1}"),
            Some("a record set has one routing policy"),
        ),
        (
            set("set_identifier: x, weighted_routing_policy: {weight: 1}, health_check_id: no"),
            Some("no health check `no`"),
        ),
        (set("set_identifier: x, latency_routing_policy: {region: mars-1}"), Some("`mars-1` is no AWS Region")),
        (
            set("set_identifier: x, geoproximity_routing_policy: {bias: 5}"),
            Some("expected `aws_region` or `coordinates`"),
        ),
        (
            set("set_identifier: x, geoproximity_routing_policy: {aws_region: us-east-1, bias: 100}"),
            Some("from -99 to 99"),
        ),
        (
            set("set_identifier: x, geoproximity_routing_policy: {coordinates: {latitude: 91, longitude: 0}}"),
            Some("no place on Earth"),
        ),
        (set("set_identifier: x, geolocation_routing_policy: {country: USA}"), Some("no country code")),
        (set("set_identifier: x, geolocation_routing_policy: {continent: XX}"), Some("no continent")),
        (set("set_identifier: x, geolocation_routing_policy: {}"), Some("expected `continent` or `country`")),
        (set("set_identifier: x, geolocation_routing_policy: {country: US}"), Some("no record set for `*`")),
        (set("set_identifier: x, geolocation_routing_policy: {country: '*'}"), None),
        (failover("p", "PRIMARY", ""), Some("the SECONDARY one never answers")),
        (failover("p", "PRIMARY", ", health_check_id: hc"), None),
        (
            format!("{}, {}", failover("p", "SECONDARY", ""), failover("q", "SECONDARY", "")),
            Some("has a SECONDARY record set already"),
        ),
    ] {
        let found = check(&records);
        match expected {
            None => assert!(found.is_empty(), "{records}: {found:?}"),
            Some(expected) => assert!(found.iter().any(|problem| problem.contains(expected)), "{records}: {found:?}"),
        }
    }
}
