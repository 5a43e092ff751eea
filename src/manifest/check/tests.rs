//! Each case changes one thing in a valid manifest, and lists the start of each problem that is
//! reported, in any order.

use super::*;
use crate::manifest::{decode::decode, document};

const VALID: &str = "\
vpcs:
  vpc-app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16, 'fd00:a::/56']
    resolver_addresses: [10.1.0.2, 169.254.169.253]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      app-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20]}
      app-b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.16.0/20]}
  vpc-shared:
    region: us-east-1
    cidr_blocks: [10.2.0.0/16, 'fd00:b::/56']
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      shared-a: {availability_zone_id: use1-az1, cidr_blocks: [10.2.0.0/20, 'fd00:b::/64']}
      shared-b: {availability_zone_id: use1-az2, cidr_blocks: [10.2.16.0/20]}
  vpc-lone: {region: us-east-1, cidr_blocks: [10.9.0.0/16], resolver_addresses: [10.9.0.2]}
vpc_peering_connections:
  pcx: {vpc_ids: [vpc-app, vpc-shared]}
transit_gateways:
  tgw: {attachments: [{vpc_id: vpc-app}, {on_premises_network_id: dc}]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16], vpc_ids: [vpc-shared]}
  dc-two: {cidr_blocks: [172.16.0.0/16], vpc_ids: [vpc-shared]}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example]}
  saas:
    owner_id: '9'
    region: us-east-1
    dns_name: saas.vpce.example
    private_dns_names: [api.saas.example]
    private_dns_name_configuration: {state: verified}
vpc_endpoints:
  vpce-sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc-shared
    state: Available
    dns_name_suffix: abc
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
    - {availability_zone_id: use1-az1, ipv4: 10.2.0.10, ipv6: 'fd00:b::10'}
    - {availability_zone_id: use1-az2, ipv4: 10.2.16.10}
zonal_shifts:
  zs: {resource: vpce-sqs, away_from: use1-az1, expires_at: 2026-11-24T10:00:00Z}
private_hosted_zones:
  Z1: {name: corp.example, vpc_ids: [vpc-app], records: [{name: www, type: A, ttl: 60, records: [10.1.0.80]}]}
resolver_endpoints:
  in: {direction: INBOUND, vpc_id: vpc-shared, ip_addresses: [{ip: 10.2.0.53}]}
  out: {direction: OUTBOUND, vpc_id: vpc-shared, ip_addresses: [{ip: 10.2.0.54}]}
resolver_rules:
  sys: {domain_name: a.example, rule_type: SYSTEM, vpc_ids: [vpc-app]}
";

/// A valid endpoint, for further changes.
const SAAS: &str = "vpc_endpoints:\n  vpce-saas: {vpc_endpoint_type: Interface, service_name: saas, vpc_id: vpc-shared, \
                    state: Available, network_interfaces: [{availability_zone_id: use1-az1, ipv4: 10.2.0.11}]}\n";

pub(super) fn problems(text: &str) -> Vec<String> {
    let (root, errors) = document::read(text.as_bytes(), false);
    assert_eq!(errors, [], "{text}");
    let manifest: Manifest = decode(&root.unwrap()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let now = "2026-11-23T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let problems = check(&manifest, &Connectivity::new(&manifest), now);
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn reports_nothing_about_a_valid_manifest() {
    assert_eq!(problems(VALID), [""; 0]);
}

/// Replaces `old` by `new` in the valid manifest, for each case. Each part is the start of one
/// problem.
fn assert_problems(cases: &[(&str, &str, &[&str])]) {
    for (old, new, expected) in cases {
        assert_eq!(VALID.matches(old).count(), 1, "{old}");
        let found = problems(&VALID.replace(old, new));
        let is_reported = |part: &&&str| found.iter().any(|problem| problem.starts_with(**part));
        assert!(found.len() == expected.len() && expected.iter().all(|part| is_reported(&part)), "{new}\n{found:#?}");
    }
}

#[test]
fn reports_problems_of_networks() {
    assert_problems(&[
        (
            "[vpc-app, vpc-shared]}",
            "[vpc-app]}",
            &["error: vpc_peering_connections.pcx.vpc_ids: a peering connection has two VPCs; this one has 1"],
        ),
        (
            "[vpc-app, vpc-shared]}",
            "[vpc-app, vpc-app]}",
            &["error: vpc_peering_connections.pcx.vpc_ids[1]: `vpc-app` cannot be peered"],
        ),
        (
            "[vpc-app, vpc-shared]}",
            "[vpc-app, vpc-sharde]}",
            &[
                "error: vpc_peering_connections.pcx.vpc_ids[1]: there is no VPC `vpc-sharde` (did you mean `vpc-shared`?)",
            ],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{}, ",
            &["error: transit_gateways.tgw.attachments[0]: an attachment needs exactly one target"],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{vpc_id: vpc-app, transit_gateway_id: tgw}, ",
            &["error: transit_gateways.tgw.attachments[0]: an attachment needs exactly one target"],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{vpc_id: nope}, ",
            &["error: transit_gateways.tgw.attachments[0].vpc_id: there is no VPC `nope`"],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{transit_gateway_id: tgw}, ",
            &["error: transit_gateways.tgw.attachments[0].transit_gateway_id: a gateway cannot be peered with itself"],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{transit_gateway_id: tgv}, ",
            &[
                "error: transit_gateways.tgw.attachments[0].transit_gateway_id: there is no Transit Gateway `tgv` (did you mean `tgw`?)",
            ],
        ),
        (
            "[{vpc_id: vpc-app}, ",
            "[{vpc_id: vpc-app}, {vpc_id: vpc-app}, ",
            &["warning: transit_gateways.tgw.attachments[1]: the gateway has another attachment with the same target"],
        ),
        (
            "{on_premises_network_id: dc}",
            "{on_premises_network_id: db}",
            &[
                "error: transit_gateways.tgw.attachments[1].on_premises_network_id: there is no on-premises network `db` (did you mean `dc`?)",
            ],
        ),
        (
            "[192.168.0.0/16], vpc_ids: [vpc-shared]",
            "[192.168.0.0/16], vpc_ids: [vpc-x]",
            &["error: on_premises_networks.dc.vpc_ids[0]: there is no VPC `vpc-x`"],
        ),
        (
            "[192.168.0.0/16], vpc_ids: [vpc-shared]",
            "[], vpc_ids: [vpc-shared, vpc-shared]",
            &[
                "warning: on_premises_networks.dc.cidr_blocks: the list is empty: no client is in the network",
                "warning: on_premises_networks.dc.vpc_ids[1]: `vpc-shared` is in the list twice",
            ],
        ),
        (
            "[10.1.16.0/20]",
            "[10.7.16.0/20]",
            &["error: vpcs.vpc-app.subnets.app-b.cidr_blocks[0]: 10.7.16.0/20 is outside the VPC"],
        ),
        (
            "[10.1.16.0/20]",
            "[10.1.8.0/21]",
            &[
                "warning: vpcs.vpc-app.subnets.app-b.cidr_blocks[0]: 10.1.8.0/21 is within 10.1.0.0/20 of subnet `app-a`: zonal uses the longer prefix",
            ],
        ),
        (
            "[10.1.16.0/20]",
            "[10.1.0.0/20]",
            &["error: vpcs.vpc-app.subnets.app-b.cidr_blocks[0]: 10.1.0.0/20 is also a block of subnet `app-a`"],
        ),
        (
            "[10.1.16.0/20]",
            "[]",
            &["warning: vpcs.vpc-app.subnets.app-b.cidr_blocks: the list is empty: no client is in the subnet"],
        ),
        ("[10.1.16.0/20]}", "[10.1.16.0/20], enable_dns64: true}", &[]),
        (
            "[10.1.0.0/16, 'fd00:a::/56']",
            "[10.1.0.0/16, 10.1.0.0/24]",
            &["warning: vpcs.vpc-app.cidr_blocks[1]: 10.1.0.0/24 overlaps 10.1.0.0/16 of the same VPC"],
        ),
        (
            "[10.9.0.0/16], resolver_addresses: [10.9.0.2]",
            "[10.9.0.0/16], profile_id: rp",
            &[
                "error: vpcs.vpc-lone.profile_id: there is no Profile `rp`",
                "warning: vpcs.vpc-lone.profile_id: the field is deprecated",
            ],
        ),
        (
            "[10.9.0.0/16], resolver_addresses: [10.9.0.2]",
            "[]",
            &["warning: vpcs.vpc-lone.cidr_blocks: the list is empty: no client is in the VPC"],
        ),
        (
            "[10.9.0.2]",
            "[10.8.0.2]",
            &[
                "warning: vpcs.vpc-lone.resolver_addresses[0]: 10.8.0.2 is outside the VPC, and no connection of the VPC leads to it",
            ],
        ),
        (
            "[10.9.0.2]",
            "[10.2.0.2]",
            &["warning: vpcs.vpc-lone.resolver_addresses[0]: 10.2.0.2 is outside the VPC, and no connection"],
        ),
        // The VPC is connected to the network of the address.
        ("[10.1.0.2, 169.254.169.253]", "[10.2.0.2, 169.254.169.253]", &[]),
        ("[10.1.0.2, 169.254.169.253]", "[192.168.0.2, 169.254.169.253]", &[]),
        (
            "[10.1.0.2, 169.254.169.253]",
            "[172.16.0.2, 169.254.169.253]",
            &["warning: vpcs.vpc-app.resolver_addresses[0]: 172.16.0.2 is outside the VPC, and no connection"],
        ),
        ("{direction: INBOUND, vpc_id: vpc-shared,", "{direction: INBOUND, vpc_id: vpc-shared, dns64: true,", &[]),
        (
            "{direction: INBOUND, vpc_id: vpc-shared,",
            "{direction: INBOUND, vpc_id: vpc-shared, dns64: true, dns64_prefix: '2001:db8::/56',",
            &[],
        ),
        (
            "{direction: INBOUND, vpc_id: vpc-shared,",
            "{direction: INBOUND, vpc_id: vpc-shared, dns64: true, dns64_prefix: '2001:db8::/57',",
            &["error: resolver_endpoints.in.dns64_prefix: 2001:db8::/57 cannot be the prefix"],
        ),
        (
            "{direction: INBOUND, vpc_id: vpc-shared,",
            "{direction: INBOUND, vpc_id: vpc-shared, dns64_prefix: 10.0.0.0/8,",
            &["error: resolver_endpoints.in.dns64_prefix: 10.0.0.0/8 cannot be the prefix"],
        ),
        (
            "{direction: INBOUND, vpc_id: vpc-shared,",
            "{direction: INBOUND, vpc_id: vpc-shared, dns64_prefix: '64:ff9b::/96',",
            &["warning: resolver_endpoints.in.dns64_prefix: the field has no effect without `dns64: true`"],
        ),
        (
            "{direction: OUTBOUND, vpc_id: vpc-shared,",
            "{direction: OUTBOUND, vpc_id: vpc-shared, dns64: true,",
            &["warning: resolver_endpoints.out.dns64: an OUTBOUND endpoint synthesizes no records"],
        ),
        (
            "[10.9.0.2]",
            "[169.254.169.253]",
            &[
                "error: vpcs.vpc-lone.resolver_addresses[0]: 169.254.169.253 is already an entry point: vpcs.vpc-app.resolver_addresses[1]",
            ],
        ),
        (
            "[{ip: 10.2.0.53}]",
            "[{ip: 10.2.0.53}, {ip: 10.2.0.53}]",
            &["error: resolver_endpoints.in.ip_addresses[1].ip: 10.2.0.53 is already an entry point"],
        ),
        (
            "use1-az1, us-east-1b: use1-az2}\n    subnets:\n      app-a",
            "use1-az1, 'us east': use1-az2}\n    subnets:\n      app-a",
            &["error: vpcs.vpc-app.availability_zones.us east: `us east` cannot be part of a domain name"],
        ),
        (
            "use1-az1, us-east-1b: use1-az2}\n    subnets:\n      app-a",
            "use1-az1, us-east-1b: use1-az1}\n    subnets:\n      app-a",
            &["warning: vpcs.vpc-app.availability_zones.us-east-1b: `us-east-1a` is also a name of `use1-az1`"],
        ),
    ]);
}

#[test]
fn reports_overlaps_where_clients_must_be_distinguished() {
    assert_problems(&[
        ("[10.9.0.0/16], resolver_addresses: [10.9.0.2]", "[10.1.0.0/24], resolver_addresses: [10.1.0.3]", &[]),
        (
            "[10.9.0.0/16], resolver_addresses: [10.9.0.2]",
            "[10.1.0.0/24]",
            &[
                "warning: vpcs.vpc-lone.cidr_blocks[0]: 10.1.0.0/24 overlaps 10.1.0.0/16 of `vpc-app`, and the VPC has no entry point",
            ],
        ),
        ("[{vpc_id: vpc-app}, ", "[{vpc_id: vpc-app}, {vpc_id: vpc-shared}, {vpc_id: vpc-lone}, ", &[]),
        (
            "[10.9.0.0/16], resolver_addresses: [10.9.0.2]}",
            "[10.1.0.0/24], resolver_addresses: [10.1.0.3]}\n  vpc-near: {region: r, cidr_blocks: [10.1.128.0/17], resolver_addresses: [10.1.128.2]}",
            &[],
        ),
        (
            "pcx: {vpc_ids: [vpc-app, vpc-shared]}",
            "pcx: {vpc_ids: [vpc-app, vpc-shared]}\n  two: {vpc_ids: [vpc-shared, vpc-lone]}",
            &[],
        ),
        (
            "[172.16.0.0/16]",
            "[192.168.0.0/16]",
            &[
                "error: on_premises_networks.dc-two.cidr_blocks[0]: 192.168.0.0/16 overlaps 192.168.0.0/16 of `dc`, and both networks use the entry point of `vpc-shared`",
            ],
        ),
        (
            "[172.16.0.0/16]",
            "[192.168.1.0/24]",
            &["warning: on_premises_networks.dc-two.cidr_blocks[0]: 192.168.1.0/24 overlaps 192.168.0.0/16 of `dc`"],
        ),
        (
            "[172.16.0.0/16]",
            "[10.0.0.0/8]",
            &[
                "warning: vpcs.vpc-app.cidr_blocks[0]: 10.1.0.0/16 overlaps 10.0.0.0/8 of `dc-two`, and both networks use the entry point",
                "warning: vpcs.vpc-shared.cidr_blocks[0]: 10.2.0.0/16 overlaps 10.0.0.0/8 of `dc-two`, and the networks are connected",
            ],
        ),
    ]);
    let lone = "[10.9.0.0/16], resolver_addresses: [10.9.0.2]";
    let same = VALID.replace(lone, "[10.1.0.0/24], resolver_addresses: [10.1.0.3]");
    let pcx = "pcx: {vpc_ids: [vpc-app, vpc-shared]}";
    let overlap = "error: vpcs.vpc-lone.cidr_blocks[0]: 10.1.0.0/24 overlaps 10.1.0.0/16 of `vpc-app`, and";
    let direct = problems(&same.replace(pcx, &format!("{pcx}\n  two: {{vpc_ids: [vpc-lone, vpc-app]}}")));
    assert_eq!(direct, [format!("{overlap} the networks are connected")]);
    let gateway = problems(&same.replace("[{vpc_id: vpc-app}, ", "[{vpc_id: vpc-app}, {vpc_id: vpc-lone}, "));
    assert_eq!(gateway, [format!("{overlap} the networks are connected")]);
    let entry_point = problems(&same.replace(pcx, &format!("{pcx}\n  two: {{vpc_ids: [vpc-lone, vpc-shared]}}")));
    assert_eq!(entry_point, [format!("{overlap} both networks use the entry point of `vpc-shared`")]);
}

#[test]
fn reports_problems_of_endpoints() {
    let saas = |more: &str| {
        SAAS.replace("vpc_endpoints:\n", "").replace("state: Available", &format!("state: Available{more}"))
    };
    let with = |text: &str| VALID.replace("zonal_shifts:", &format!("{text}zonal_shifts:"));
    assert_eq!(problems(&with(&saas(", private_dns_enabled: true"))), [""; 0]);
    let gateway = "  vpce-gw: {vpc_endpoint_type: Gateway, service_name: saas, vpc_id: vpc-shared, state: Available}\n";
    let inbound_only =
        saas(", private_dns_enabled: true, dns_options: {private_dns_only_for_inbound_resolver_endpoint: true}");
    assert_eq!(problems(&with(&format!("{inbound_only}{gateway}"))), [""; 0]);
    for (endpoint, expected) in [
        (
            inbound_only,
            "error: vpc_endpoints.vpce-saas.dns_options.private_dns_only_for_inbound_resolver_endpoint: `vpc-shared` has no Gateway endpoint for `saas`",
        ),
        (
            saas("").replace("saas, vpc", "sass, vpc"),
            "error: vpc_endpoints.vpce-saas.service_name: there is no service `sass` (did you mean `saas`?)",
        ),
        (
            saas(", private_dns_enabled: true").replace("saas, vpc", "sqs, vpc"),
            "error: vpc_endpoints.vpce-sqs.private_dns_enabled: `vpce-saas` in `vpc-shared` already has private names for `sqs`",
        ),
        (
            saas("").replace("10.2.0.11", "10.2.0.10"),
            "error: vpc_endpoints.vpce-sqs.network_interfaces[0].ipv4: 10.2.0.10 is already the address of an interface: vpc_endpoints.vpce-saas",
        ),
        (
            saas("").replace("Interface", "Gateway").replace("state:", "private_dns_enabled: true, state:"),
            "error: vpc_endpoints.vpce-saas.private_dns_enabled: an endpoint of type Gateway has no private names",
        ),
        (
            saas(", private_dns_scope: [vpc-lone]"),
            "warning: vpc_endpoints.vpce-saas.private_dns_scope[0]: `vpc-lone` is not connected to `vpc-shared`",
        ),
        (
            saas(", private_dns_scope: [vpc-lune]"),
            "error: vpc_endpoints.vpce-saas.private_dns_scope[0]: there is no VPC `vpc-lune` (did you mean `vpc-lone`?)",
        ),
        (
            saas(", private_dns_enabled: true, private_dns_scope: []"),
            "warning: vpc_endpoints.vpce-saas.private_dns_scope: the scope is empty",
        ),
        (
            saas(", dns_name_suffix: a.b"),
            "error: vpc_endpoints.vpce-saas.dns_name_suffix: `vpce-saas-a.b` is not valid as a label",
        ),
        (
            saas(&format!(", dns_name_suffix: {}", "x".repeat(50))),
            "error: vpc_endpoints.vpce-saas.dns_name_suffix: `vpce-saas-",
        ),
        (
            saas(", dns_options: {dns_record_ip_type: dualstack}"),
            "warning: vpc_endpoints.vpce-saas.network_interfaces: no interface has an IPv6 address",
        ),
        (
            saas("").replace("vpce-saas", "vpce-sqs-abc").replace("saas, vpc", "sqs, vpc"),
            "error: vpc_endpoints.vpce-sqs-abc.: vpce-sqs-abc.sqs.vpce.example. is already a name of `vpce-sqs`",
        ),
    ] {
        let found = problems(&with(&endpoint));
        let expected = expected.replace(".: ", ": ");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{endpoint}\n{expected}\n{found:#?}");
    }
    assert_problems(&[
        (
            "vpc_id: vpc-shared\n",
            "vpc_id: vpc-shard\n",
            &["error: vpc_endpoints.vpce-sqs.vpc_id: there is no VPC `vpc-shard` (did you mean `vpc-shared`?)"],
        ),
        (
            "ipv4: 10.2.16.10",
            "ipv4: 10.1.16.10",
            &["error: vpc_endpoints.vpce-sqs.network_interfaces[1].ipv4: 10.1.16.10 is outside `vpc-shared`"],
        ),
        (
            "ipv4: 10.2.16.10",
            "ipv4: 10.2.0.11",
            &["warning: vpc_endpoints.vpce-sqs.network_interfaces[1].ipv4: 10.2.0.11 is not in a subnet of `use1-az2`"],
        ),
        (
            "use1-az2, ipv4: 10.2.16.10",
            "use1-az2",
            &["error: vpc_endpoints.vpce-sqs.network_interfaces[1]: the interface has no address (write `ipv4`"],
        ),
        (
            "use1-az2, ipv4: 10.2.16.10",
            "use1-az1, ipv4: 10.2.0.16",
            &[
                "error: vpc_endpoints.vpce-sqs.network_interfaces[1].availability_zone_id: the endpoint has another interface in `use1-az1`",
            ],
        ),
        (
            "us-east-1b: use1-az2}\n    subnets:\n      shared-a",
            "x: y}\n    subnets:\n      shared-a",
            &[
                "warning: vpc_endpoints.vpce-sqs.network_interfaces[1].availability_zone_id: `vpc-shared` has no name for `use1-az2`",
            ],
        ),
        (
            "private_dns_names: [sqs.example]",
            "private_dns_names: []",
            &["warning: vpc_endpoints.vpce-sqs.private_dns_enabled: service `sqs` has no private names"],
        ),
        (
            "private_dns_names: [sqs.example]",
            "private_dns_names: [sqs.example, SQS.example]",
            &["warning: vpc_endpoint_services.sqs.private_dns_names[1]: SQS.example. is in the list twice"],
        ),
        (
            "private_dns_names: [sqs.example]",
            "private_dns_names: [sqs.vpce.example]",
            &["error: vpc_endpoint_services.sqs.private_dns_names[0]: a private name cannot be equal to `dns_name`"],
        ),
        (
            "private_dns_names: [sqs.example]",
            "private_dns_names: [vpce.example]",
            &[
                "warning: vpc_endpoint_services.sqs.private_dns_names[0]: the private name contains `dns_name` sqs.vpce.example., below which the names of endpoints are",
            ],
        ),
        (
            "owner_id: amazon",
            "owner_id: '1'",
            &[
                "warning: vpc_endpoints.vpce-sqs.private_dns_enabled: the private names of service `sqs` are not verified",
            ],
        ),
        (
            "'fd00:b::/56']\n",
            "'fd00:b::/56']\n    enable_dns_support: false\n",
            &["warning: vpc_endpoints.vpce-sqs.private_dns_enabled: enable_dns_support of `vpc-shared` is false"],
        ),
        (
            "'fd00:b::/56']\n",
            "'fd00:b::/56']\n    enable_dns_hostnames: false\n",
            &["warning: vpc_endpoints.vpce-sqs.private_dns_enabled: enable_dns_hostnames of `vpc-shared` is false"],
        ),
        (
            "resource: vpce-sqs",
            "resource: vpce-sqz",
            &["error: zonal_shifts.zs.resource: there is no endpoint or service `vpce-sqz` (did you mean `vpce-sqs`?)"],
        ),
        ("resource: vpce-sqs", "resource: '*'", &[]),
        ("resource: vpce-sqs", "resource: saas", &[]),
        (
            "away_from: use1-az1",
            "away_from: use1-az9",
            &["warning: zonal_shifts.zs.away_from: no subnet or interface is in the AZ `use1-az9`"],
        ),
        ("2026-11-24T10", "2026-11-23T10", &["warning: zonal_shifts.zs.expires_at: the shift expired"]),
        ("2026-11-24T10:00:00Z", "2026-11-23T10:00:00Z, aws: {created: 2026-11-22T10:00:00Z}", &[]),
    ]);
}

#[test]
fn reports_problems_of_zones_rules_and_forwarders() {
    let set = "records: [{name: www, type: A, ttl: 60, records: [10.1.0.80]}]";
    assert_problems(&[
        (
            "vpc_ids: [vpc-app], records",
            "vpc_ids: [], records",
            &["warning: private_hosted_zones.Z1.vpc_ids: the list is empty: no client sees the zone"],
        ),
        (set, "primaries: [{ip: 192.168.0.53}]", &[]),
        (
            set,
            "file: a, records: [{type: A, records: [10.0.0.1]}], primaries: [{ip: 192.168.0.53, port: 0, protocol: DoQ}], \
             allow_notify: [{}], allow_update: [{tsig_key: k}]",
            &[
                "error: private_hosted_zones.Z1.file: a zone with `primaries` has no records of its own",
                "error: private_hosted_zones.Z1.records: a zone with `primaries` has no records of its own",
                "error: private_hosted_zones.Z1.primaries[0].port: expected a port from 1 to 65535",
                "error: private_hosted_zones.Z1.primaries[0].protocol: expected Do53 or DoT; zones cannot be transferred by DoQ",
                "error: private_hosted_zones.Z1.allow_notify[0]: expected `cidr_block`, `tsig_key` or both",
                "error: private_hosted_zones.Z1.allow_update: a zone with `primaries` does not accept updates",
            ],
        ),
        (
            set,
            "allow_notify: [{cidr_block: 10.0.0.0/8}], catalog: {}",
            &[
                "error: private_hosted_zones.Z1.allow_notify: `allow_notify` needs `primaries`",
                "error: private_hosted_zones.Z1.catalog: `catalog` needs `primaries`",
            ],
        ),
        (
            "vpc_ids: [vpc-app], records: [{name: www, type: A, ttl: 60, records: [10.1.0.80]}]",
            "vpc_ids: [], primaries: [{ip: 192.168.0.53}], catalog: {groups: {g: [vpc-ap]}, primaries: \
             [{ip: 192.168.0.54, server_name_indication: a}, {ip: 192.168.0.54}]}",
            &[
                "error: private_hosted_zones.Z1.catalog.groups.g[0]: there is no VPC `vpc-ap` (did you mean `vpc-app`?)",
                "warning: private_hosted_zones.Z1.catalog.primaries[0].server_name_indication: the transport Do53 has no certificate",
                "warning: private_hosted_zones.Z1.catalog.primaries[1]: 192.168.0.54:53 is in the list twice",
            ],
        ),
        (
            "vpc_ids: [vpc-app], records: [{name: www, type: A, ttl: 60, records: [10.1.0.80]}]",
            "vpc_ids: [], primaries: [{ip: 192.168.0.53}], catalog: {}",
            &["warning: private_hosted_zones.Z1.catalog: the catalog has no VPCs"],
        ),
        (
            "vpc_ids: [vpc-app], records",
            "vpc_ids: [vpc-ap], records",
            &["error: private_hosted_zones.Z1.vpc_ids[0]: there is no VPC `vpc-ap` (did you mean `vpc-app`?)"],
        ),
        (
            set,
            "records: [{name: www, type: A}]}\n  Z2: {name: CORP.example, vpc_ids: [vpc-lone, vpc-app]",
            &[
                "error: private_hosted_zones.Z1.records[0]: a record set needs `records` or `alias`",
                "error: private_hosted_zones.Z2.vpc_ids[1]: `vpc-app` already has hosted zone `Z1` with the name CORP.example.",
            ],
        ),
        (
            set,
            "secondaries: [{ip: 10.1.0.1}, {ip: 10.1.0.1, port: 53}, {ip: 0.0.0.0}, {ip: 10.1.0.2, port: 0}]",
            &[
                "error: private_hosted_zones.Z1.secondaries[1]: 10.1.0.1 port 53 is in the list twice",
                "error: private_hosted_zones.Z1.secondaries[2].ip: 0.0.0.0 is not the address of a server",
                "error: private_hosted_zones.Z1.secondaries[3].port: expected a port from 1 to 65535",
            ],
        ),
        (
            set,
            "allow_transfer: [{}, {tsig_key: k}], allow_update: [{cidr_block: 10.0.0.0/8}, {tsig_key: k}]",
            &[
                "error: private_hosted_zones.Z1.allow_transfer[0]: expected `cidr_block`, `tsig_key` or both",
                "error: private_hosted_zones.Z1.allow_update[0]: updates need a `tsig_key`: the source address alone",
            ],
        ),
        (
            set,
            "records: [{type: A, records: [10.0.0.1], alias: {name: a}}]",
            &["error: private_hosted_zones.Z1.records[0]: a record set has either"],
        ),
        (
            set,
            "records: [{type: A, ttl: 5, alias: {name: a}}]",
            &["warning: private_hosted_zones.Z1.records[0].ttl: zonal ignores the field: an alias"],
        ),
        (
            "ttl: 60",
            "ttl: 2147483648",
            &["error: private_hosted_zones.Z1.records[0].ttl: expected at most 2147483647 seconds"],
        ),
        (
            "[{ip: 10.2.0.53}]",
            "[]",
            &["error: resolver_endpoints.in.ip_addresses: the endpoint needs at least one address"],
        ),
        (
            "[{ip: 10.2.0.53}]",
            "[{ip: 10.3.0.53}]",
            &["error: resolver_endpoints.in.ip_addresses[0].ip: 10.3.0.53 is outside `vpc-shared`"],
        ),
        (
            "[{ip: 10.2.0.53}]",
            "[{ip: 10.2.0.53}], protocols: []",
            &["warning: resolver_endpoints.in.protocols: the list is empty"],
        ),
        (
            "[{ip: 10.2.0.54}]",
            "[{ip: 10.2.0.54}], allowed_cidr_blocks: [10.0.0.0/8]",
            &["warning: resolver_endpoints.out.allowed_cidr_blocks: an OUTBOUND endpoint receives no queries"],
        ),
        (
            "rule_type: SYSTEM",
            "rule_type: FORWARD",
            &["error: resolver_rules.sys.target_ips: a FORWARD rule needs at least one target"],
        ),
        ("rule_type: SYSTEM", "rule_type: RECURSIVE", &[]),
        (
            "rule_type: SYSTEM",
            "rule_type: SYSTEM, target_ips: [{ip: 192.0.2.1, port: 0}]",
            &[
                "error: resolver_rules.sys.target_ips: a SYSTEM rule has no targets",
                "error: resolver_rules.sys.target_ips[0].port: expected a port from 1 to 65535",
            ],
        ),
        (
            "rule_type: SYSTEM",
            "rule_type: SYSTEM, resolver_endpoint_id: in",
            &[
                "error: resolver_rules.sys.resolver_endpoint_id: `in` is an INBOUND endpoint; expected an OUTBOUND endpoint",
            ],
        ),
        (
            "rule_type: SYSTEM",
            "rule_type: SYSTEM, resolver_endpoint_id: outt",
            &[
                "error: resolver_rules.sys.resolver_endpoint_id: there is no Resolver endpoint `outt` (did you mean `out`?)",
            ],
        ),
        (
            "SYSTEM, vpc_ids: [vpc-app]}",
            "SYSTEM, vpc_ids: [vpc-app]}\n  two: {domain_name: A.example., rule_type: system, vpc_ids: [vpc-lone, vpc-app]}",
            &["error: resolver_rules.two.vpc_ids[1]: `vpc-app` already has rule `sys` for A.example."],
        ),
        (
            "SYSTEM, vpc_ids: [vpc-app]}",
            "SYSTEM, vpc_ids: [vpc-app]}\nforwarders: {f: {cidr_blocks: [10.2.0.20/32]}}",
            &["error: forwarders.f: a forwarder needs exactly one network"],
        ),
        (
            "SYSTEM, vpc_ids: [vpc-app]}",
            "SYSTEM, vpc_ids: [vpc-app]}\nforwarders: {f: {vpc_id: vpc-app, cidr_blocks: [10.2.0.20/32], speaks_for: [vpc-app, dc, da]}}",
            &[
                "error: forwarders.f.cidr_blocks[0]: 10.2.0.20/32 is outside the forwarder's network",
                "error: forwarders.f.speaks_for[2]: there is no VPC or on-premises network `da`",
            ],
        ),
        (
            "SYSTEM, vpc_ids: [vpc-app]}",
            "SYSTEM, vpc_ids: [vpc-app]}\nforwarders:\n  a: {vpc_id: vpc-app, cidr_blocks: [10.1.0.16/28, 10.1.0.17/32]}\n  \
             b: {vpc_id: vpc-app, cidr_blocks: [10.1.0.18/32], speaks_for: [vpc-app, vpc-lone]}\n  \
             c: {vpc_id: vpc-app, cidr_blocks: [10.1.0.16/28], client_identity: proxy_protocol_v2, speaks_for: [vpc-lone]}",
            &[
                "warning: forwarders.b.speaks_for[1]: `vpc-lone` is not connected to the forwarder's network",
                "error: forwarders.c.cidr_blocks[0]: 10.1.0.16/28 is also a block of forwarder `a`",
                "warning: forwarders.a.cidr_blocks[1]: 10.1.0.17/32 is within 10.1.0.16/28 of the same forwarder",
                "warning: forwarders.b.cidr_blocks[0]: 10.1.0.18/32 is within 10.1.0.16/28 of forwarder `a`: zonal uses the longer",
            ],
        ),
    ]);
}

/// The tenants are not connected. A comparison of all pairs would be too slow.
#[test]
fn accepts_many_tenants_with_equal_addresses() {
    let mut text = String::from("vpcs:\n");
    for tenant in 0..2000 {
        text += &format!(
            "  v{tenant}: {{region: r, cidr_blocks: [10.0.0.0/16], resolver_addresses: [10.0.{}.{}]}}\n",
            tenant / 250,
            tenant % 250
        );
    }
    assert_eq!(problems(&text), [""; 0]);
}
