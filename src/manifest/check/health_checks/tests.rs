use crate::manifest::check::tests::problems;

/// Returns the problems of a manifest with these health checks, without those of its VPC.
fn check(checks: &str) -> Vec<String> {
    let text =
        format!("vpcs: {{vpc-a: {{region: us-east-1, cidr_blocks: [10.1.0.0/16]}}}}\nhealth_checks: {{{checks}}}\n");
    problems(&text).into_iter().filter(|problem| !problem.contains("no record set uses")).collect()
}

#[test]
fn tells_what_is_wrong_with_a_check() {
    for (checks, expected) in [
        ("a: {type: TCP, ip_address: 10.1.0.1, port: 1}", None),
        ("a: {type: HTTP, fully_qualified_domain_name: a.example, vpc_id: vpc-a}", None),
        ("a: {type: TCP, ip_address: 10.1.0.1}", Some("port: missing")),
        ("a: {type: HTTP}", Some("the check has no target")),
        ("a: {type: HTTP, fully_qualified_domain_name: a.example}", Some("vpc_id: missing")),
        ("a: {type: HTTP, ip_address: 10.1.0.1, vpc_id: vpc-b}", Some("there is no VPC `vpc-b`")),
        ("a: {type: HTTP, ip_address: 10.1.0.1, resource_path: x}", Some("resource_path: expected a path")),
        ("a: {type: HTTP, ip_address: 10.1.0.1, resource_path: '/ '}", Some("resource_path: expected a path")),
        (
            "a: {type: HTTP, ip_address: 10.1.0.1, search_string: ''}",
            Some("search_string: it must have 1 to 255 octets"),
        ),
        ("a: {type: TCP, ip_address: 10.1.0.1, port: 1, search_string: x}", Some("sends no request")),
        ("a: {type: HTTP, ip_address: 10.1.0.1, verify_certificate: true}", Some("only a check of type HTTPS")),
        ("a: {type: HTTPS, ip_address: 10.1.0.1, verify_certificate: true}", Some("valid for the IP address")),
        (
            "a: {type: HTTP, ip_address: 10.1.0.1, request_interval: 0}",
            Some("request_interval: it must be from 1 to 300"),
        ),
        ("a: {type: HTTP, ip_address: 10.1.0.1, timeout: 61}", Some("timeout: it must be from 1 to 60")),
        (
            "a: {type: HTTP, ip_address: 10.1.0.1, failure_threshold: 11}",
            Some("failure_threshold: it must be from 1 to 10"),
        ),
        (
            "a: {type: HTTP, ip_address: 10.1.0.1, success_threshold: 0}",
            Some("success_threshold: it must be from 1 to 10"),
        ),
        ("a: {type: HTTP, ip_address: 10.1.0.1, stale_after: 5}", Some("a check of type HTTP does not have it")),
        ("a: {type: EXTERNAL, ip_address: 10.1.0.1}", Some("a check of type EXTERNAL does not have it")),
        ("a: {type: EXTERNAL, stale_after: 0}", Some("stale_after: it must be at least 1 second")),
        ("a: {type: EXTERNAL, when_stale: healthy}", Some("when_stale: it counts before the first report only")),
        ("a: {type: EXTERNAL, stale_after: 9, when_stale: healthy}", None),
        ("a: {type: CALCULATED}", Some("health_threshold: missing")),
        ("a: {type: CALCULATED, health_threshold: 1}", Some("with 1 of 0 children, the check is always unhealthy")),
        ("a: {type: EXTERNAL}, b: {type: CALCULATED, child_health_checks: [a]}", Some("health_threshold: missing")),
        (
            "a: {type: EXTERNAL}, b: {type: CALCULATED, child_health_checks: [a], health_threshold: 2}",
            Some("always unhealthy"),
        ),
        ("b: {type: CALCULATED, child_health_checks: [a], health_threshold: 1}", Some("there is no health check `a`")),
    ] {
        let found = check(checks);
        match expected {
            None => assert!(found.is_empty(), "{checks}: {found:?}"),
            Some(expected) => assert!(found.iter().any(|problem| problem.contains(expected)), "{checks}: {found:?}"),
        }
    }
}

#[test]
fn finds_checks_that_contain_themselves() {
    let calculated =
        |children: &str| format!("{{type: CALCULATED, health_threshold: 1, child_health_checks: [{children}]}}");
    let found = check(&format!(
        "a: {}, b: {}, c: {}, d: {{type: EXTERNAL}}",
        calculated("b, d"),
        calculated("c"),
        calculated("a")
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("the check contains itself: a -> b -> c -> a"), "{found:?}");
    let found = check(&format!("a: {}", calculated("a")));
    assert!(found[0].contains("a -> a"), "{found:?}");
    // A check that two paths reach is no cycle. Many such diamonds do not make the check slow.
    let mut checks = vec!["n0: {type: EXTERNAL}".to_string()];
    checks.extend((1..200).map(|n| format!("n{n}: {}", calculated(&format!("n{}, n{}", n - 1, n / 2)))));
    let found = check(&checks.join(", "));
    assert!(found.iter().all(|problem| !problem.contains("itself")), "{found:?}");
}
