//! Profiles of a running server: what VPCs are answered by them, their query logs, and a changed
//! Profile.

use crate::harness::{Scratch, Server, ZONAL, can_run, wait_until, wait_until_equal};
use std::{fs, process::Command};

/// VPC `a` has two Profiles, `b` one, and `c` none. Only `a` reaches the hub with the endpoint.
/// `members` are the zones of Profile `base`.
fn manifest(members: &str) -> String {
    format!(
        r#"
vpcs:
  hub: {{region: us-east-1, cidr_blocks: [127.93.0.0/16], availability_zones: {{us-east-1a: use1-az1}}}}
  a:
    region: us-east-1
    cidr_blocks: [127.94.0.0/16]
    profiles: [{{profile_id: base}}, {{profile_id: team, priority: 7}}]
  b: {{region: us-east-1, cidr_blocks: [127.95.0.0/16], profiles: [{{profile_id: base, priority: 1}}]}}
  c: {{region: us-east-1, cidr_blocks: [127.96.0.0/16]}}
vpc_peering_connections:
  pcx: {{vpc_ids: [hub, a]}}
vpc_endpoint_services:
  s: {{owner_id: amazon, region: us-east-1, dns_name: s.vpce.example, private_dns_names: [svc.example]}}
vpc_endpoints:
  vpce-s:
    vpc_endpoint_type: Interface
    service_name: s
    vpc_id: hub
    state: Available
    private_dns_enabled: true
    network_interfaces: [{{availability_zone_id: use1-az1, ipv4: 127.93.0.9}}]
private_hosted_zones:
  own: {{name: own.example, vpc_ids: [a], records: [{{name: www, type: A, records: [10.0.0.1]}}]}}
  base-own: {{name: own.example, vpc_ids: [], records: [{{name: www, type: A, records: [10.0.0.2]}}]}}
  base: {{name: corp.example, vpc_ids: [], records: [{{name: www, type: A, records: [10.0.0.3]}}]}}
  team: {{name: corp.example, vpc_ids: [], records: [{{name: www, type: A, records: [10.0.0.4]}}]}}
query_log_configs:
  all: {{vpc_ids: [], destination: {{file: {{path: all.log}}}}}}
profiles:
  base: {{private_hosted_zones: [{members}], vpc_endpoints: [vpce-s], query_log_configs: [all]}}
  team: {{private_hosted_zones: [team], autodefined_reverse: disabled}}
"#
    )
}

/// The status of the answer to a query by TCP, and its addresses.
fn ask(server: &Server, source: &str, name: &str, rtype: &str) -> String {
    let port = server.port.to_string();
    let arguments =
        ["-b", source, "@127.0.0.1", "-p", &port, "+tcp", "+tries=5", "+noall", "+comments", "+answer", name, rtype];
    let output = Command::new("dig").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let data = text.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let data: Vec<&str> = data.filter_map(|line| line.split_whitespace().nth(4)).collect();
    if data.is_empty() { status.to_string() } else { data.join(" ") }
}

#[test]
fn vpcs_are_answered_by_the_members_of_their_profiles() {
    if !can_run(&["dig"]) {
        return;
    }
    let directory = Scratch::new();
    directory.write("manifest.yaml", manifest("base, base-own"));
    let server = Server::start_with(directory.path(), "query_log: {directory: logs}\n");
    let (a, b, c) = ("127.94.0.7", "127.95.0.7", "127.96.0.7");
    for (source, name, expected) in [
        (a, "www.own.example", "10.0.0.1"),
        (b, "www.own.example", "10.0.0.2"),
        (c, "www.own.example", "REFUSED"),
        (a, "www.corp.example", "10.0.0.4"),
        (b, "www.corp.example", "10.0.0.3"),
        (c, "www.corp.example", "REFUSED"),
        (a, "svc.example", "127.93.0.9"),
        (b, "svc.example", "REFUSED"),
    ] {
        assert_eq!(ask(&server, source, name, "A"), expected, "{source} {name}");
    }
    assert_eq!(ask(&server, a, "7.0.94.127.in-addr.arpa", "PTR"), "REFUSED");
    assert_eq!(ask(&server, b, "7.0.95.127.in-addr.arpa", "PTR"), "ip-127-95-0-7.ec2.internal.");
    // The log of the Profile has the queries of both VPCs, and of no other.
    let log = server.scratch.path().join("logs/all.log");
    let logged = |vpc: &str| fs::read_to_string(&log).unwrap_or_default().contains(&format!("\"vpc_id\":\"{vpc}\""));
    wait_until("the queries are logged", || (logged("a") && logged("b")).then_some(()));
    assert!(!logged("c"));
    let run = |arguments: &[&str]| {
        let output = Command::new(ZONAL).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let admin = server.admin.to_string();
    let text = run(&["explain", "--admin", &admin, "--from", b, "www.corp.example"]);
    assert!(text.contains("private hosted zone base of Profile base (corp.example.)"), "{text}");
    let text = run(&["check", "--directory", directory.path().to_str().unwrap()]);
    for part in [
        "zone `base` (corp.example.) is not used in `a`: zone `team` of Profile `team` has the same name and comes first",
        "zone `base-own` (own.example.) is not used in `a`: zone `own` of the VPC has the same name and comes first",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A member leaves the Profile, and all its VPCs.
    directory.write("manifest.yaml", manifest("base"));
    wait_until_equal("the zone is gone", "REFUSED".to_string(), || ask(&server, b, "www.own.example", "A"));
    assert_eq!(ask(&server, b, "www.corp.example", "A"), "10.0.0.3");
    assert_eq!(ask(&server, a, "www.own.example", "A"), "10.0.0.1");
}
