//! Two AZs with real addresses: a node and a client in each, and a target with two addresses for each.

use crate::harness::{Process, ZONAL, http_get, lab::Lab, wait_until, wait_until_equal};
use std::net::{Ipv4Addr, SocketAddr};

/// The programs that the tests need.
pub const PROGRAMS: [&str; 5] = ["ip", "dig", "setpriv", "sysctl", "perl"];

/// The addresses of the targets: those of `target-a`, then those of `target-b`. An endpoint has one interface in an AZ.
pub const ALL: [&str; 4] = ["10.1.0.10", "10.1.16.10", "10.1.32.10", "10.1.48.10"];

/// An endpoint with the addresses of the targets, and a zone with a record that fails over.
pub const MANIFEST: &str = "\
vpcs:
  vpc:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16]
    resolver_addresses: [10.1.0.2, 10.1.0.3, 10.1.32.2]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2, us-east-1c: use1-az3, us-east-1d: use1-az4}
    subnets:
      a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20]}
      b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.32.0/20]}
      c: {availability_zone_id: use1-az3, cidr_blocks: [10.1.16.0/20]}
      d: {availability_zone_id: use1-az4, cidr_blocks: [10.1.48.0/20]}
vpc_endpoint_services:
  s: {owner_id: amazon, region: us-east-1, dns_name: vpce.example, private_dns_names: [svc.example]}
vpc_endpoints:
  vpce:
    vpc_endpoint_type: Interface
    vpc_id: vpc
    state: Available
    service_name: s
    private_dns_enabled: true
    client_routing_policy: any_availability_zone
    health_check: {type: HTTP, port: 80, request_interval: 1, timeout: 1, failure_threshold: 2, success_threshold: 1}
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.1.0.10}
      - {availability_zone_id: use1-az3, ipv4: 10.1.16.10}
      - {availability_zone_id: use1-az2, ipv4: 10.1.32.10}
      - {availability_zone_id: use1-az4, ipv4: 10.1.48.10}
health_checks:
  hc-ext: {type: EXTERNAL, stale_after: 3600, when_stale: unhealthy}
private_hosted_zones:
  Z:
    name: corp.example
    vpc_ids: [vpc]
    records:
      - {name: db, type: A, ttl: 0, set_identifier: p, failover_routing_policy: {type: PRIMARY}, health_check_id: hc-ext, records: [10.1.0.90]}
      - {name: db, type: A, ttl: 0, set_identifier: s, failover_routing_policy: {type: SECONDARY}, records: [10.1.16.90]}
";

/// An HTTP server. The file `mode` decides how it answers: `200`, `500`, or `slow` (it accepts the connection and is silent).
const TARGET: &str = r#"
my ($mode, @addresses) = @ARGV;
my @servers = map {
    IO::Socket::INET->new(LocalAddr => $_, LocalPort => 80, Listen => 64, ReuseAddr => 1) or die $@
} @addresses;
my $select = IO::Select->new(@servers);
my @silent;
while (my @ready = $select->can_read) {
    for my $server (@ready) {
        my $client = $server->accept or next;
        open my $file, "<", $mode or die; my $how = <$file>; chomp $how; close $file;
        if ($how eq "slow") { push @silent, $client; next }
        $client->recv(my $request, 4096);
        print $client "HTTP/1.1 $how x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        close $client;
    }
}
"#;

/// Makes the routers and hosts. `more` are other hosts of router `core`, with their addresses.
pub fn lab(more: &[(&str, &str)]) -> Lab {
    let mut lab = Lab::new();
    lab.router("core");
    for (node, addresses) in [
        ("node-a", &["10.1.0.2"][..]),
        ("node-b", &["10.1.32.2"]),
        ("client-a", &["10.1.0.7"]),
        ("client-b", &["10.1.32.7"]),
        ("target-a", &ALL[..2]),
        ("target-b", &ALL[2..]),
    ] {
        lab.host(node, "core", addresses);
    }
    more.iter().for_each(|(node, address)| lab.host(node, "core", &[*address]));
    lab
}

/// Starts a target, or starts it again.
pub fn target(lab: &Lab, node: &str) -> Process {
    mode(lab, node, "200");
    let addresses = if node == "target-a" { &ALL[..2] } else { &ALL[2..] };
    let file = lab.scratch.path().join(node).display().to_string();
    let command = [&["perl", "-MIO::Socket::INET", "-MIO::Select", "-e", TARGET, &file][..], addresses].concat();
    lab.start(node, &command)
}

/// Sets how a target answers.
pub fn mode(lab: &Lab, node: &str, how: &str) {
    lab.scratch.write(node, format!("{how}\n"));
}

/// Starts zonal on a node. `more` are further lines of its configuration.
pub fn zonal(lab: &Lab, node: &str, address: &str, more: &str) -> Process {
    let text = format!(
        "listen: [{{address: \"{address}:53\"}}]\nadmin: {{address: \"127.0.0.1:9153\"}}\ninternet_resolver: none\n\
         nsid: {node}\nstate_directory: state-{node}\n{more}"
    );
    let config = lab.scratch.write(&format!("{node}.yaml"), text).display().to_string();
    let mut process = lab.start(node, &[ZONAL, "serve", "--config", &config]);
    wait_until("the node is ready", || {
        process.assert_alive();
        (get(lab, node, "/ready")?.0 == 200).then_some(())
    });
    process
}

/// Asks the admin API of a node.
pub fn get(lab: &Lab, node: &str, path: &str) -> Option<(u16, String)> {
    lab.inside(node, || http_get(SocketAddr::from((Ipv4Addr::LOCALHOST, 9153)), path))
}

/// The state of a target at a node.
pub fn state(lab: &Lab, node: &str, target: &str) -> String {
    let text = get(lab, node, &format!("/v1/health/{target}")).map(|(_, text)| text).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    report["state"].as_str().unwrap_or_default().into()
}

/// Waits until all targets are healthy at a node.
pub fn wait_for_all(lab: &Lab, node: &str) {
    for address in ALL {
        wait_until_equal(&format!("{address} is healthy at {node}"), "healthy".to_string(), || {
            state(lab, node, &format!("vpce/{address}"))
        });
    }
}

/// The addresses that a client gets from a node, sorted.
pub fn addresses(lab: &Lab, client: &str, node: &str, name: &str) -> Vec<String> {
    let reply = lab.dig(client, &format!("@{node} {name} A"));
    assert_eq!(reply.status, "NOERROR", "{client} at {node}");
    let mut all: Vec<String> =
        reply.answer.iter().filter_map(|record| Some(record.rsplit(' ').next()?.to_string())).collect();
    all.sort();
    all
}

/// Waits until a client gets these addresses of the endpoint from a node.
pub fn wait_for(lab: &Lab, client: &str, node: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|address| address.to_string()).collect();
    wait_until_equal(&format!("{client} gets its answer from {node}"), expected, || {
        addresses(lab, client, node, "svc.example")
    });
}

/// Sets or removes routes of a node that drop all packets to these networks.
pub fn blackhole(lab: &Lab, node: &str, networks: &[&str], is_set: bool) {
    for network in networks {
        let output = lab.run(node, &["ip", "route", if is_set { "add" } else { "del" }, "blackhole", network]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
