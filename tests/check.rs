//! `zonal check` finds common mistakes. Each case makes one mistake in a valid manifest.

use crate::harness::{PYTHON, Scratch, ZONAL, tree};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use serde_json::{Map, Value};
use std::process::Command;
use zonal::manifest::document::{self, Node};

/// A valid manifest: two VPCs of one account, an endpoint, a zone, a rule, an inbound endpoint.
const VALID: &str = "\
vpcs:
  vpc-app:
    owner_id: \"111122223333\"
    region: eu-west-1
    cidr_blocks: [10.1.0.0/16, 'fd00:a::/56']
    resolver_addresses: [10.1.0.2]
    availability_zones: {eu-west-1a: euw1-az1, eu-west-1b: euw1-az2}
    subnets:
      app-a: {availability_zone_id: euw1-az1, cidr_blocks: [10.1.0.0/20]}
      app-b: {availability_zone_id: euw1-az2, cidr_blocks: [10.1.16.0/20]}
  vpc-shared:
    owner_id: \"111122223333\"
    region: eu-west-1
    cidr_blocks: [10.2.0.0/16]
    availability_zones: {eu-west-1a: euw1-az1, eu-west-1b: euw1-az2}
vpc_peering_connections:
  pcx: {vpc_ids: [vpc-app, vpc-shared]}
transit_gateways:
  tgw: {region: eu-west-1, attachments: [{vpc_id: vpc-app}]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16], vpc_ids: [vpc-shared], availability_zone_id: euw1-az1}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: eu-west-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example]}
vpc_endpoints:
  vpce-sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc-shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces: [{availability_zone_id: euw1-az1, ipv4: 10.2.0.10}]
zonal_shifts:
  zs: {resource: vpce-sqs, away_from: euw1-az1}
private_hosted_zones:
  Z1:
    name: acme.test
    vpc_ids: [vpc-app]
    records:
    - {name: www, type: A, ttl: 60, records: [10.1.0.80]}
    - {name: mail, type: MX, records: [\"10 www.acme.test\"]}
resolver_endpoints:
  in: {direction: INBOUND, vpc_id: vpc-shared, protocols: [do53, DOT], ip_addresses: [{ip: 10.2.0.53, availability_zone_id: euw1-az1}]}
resolver_rules:
  fwd: {domain_name: corp.test, rule_type: forward, target_ips: [{ip: 192.168.0.53}], vpc_ids: [vpc-app]}
";

/// A part of the valid manifest and its replacement; a part of the reported problem (severity,
/// field and message), and a part of its help.
type Case = (&'static str, &'static str, &'static str, &'static str);

const MX: &str = "- {name: mail, type: MX, records: [\"10 www.acme.test\"]}";

/// Errors and warnings: one per case.
const MISTAKES: &[Case] = &[
    // AZ names instead of AZ IDs.
    (
        "app-a: {availability_zone_id: euw1-az1",
        "app-a: {availability_zone_id: eu-west-1a",
        "error: vpcs.vpc-app.subnets.app-a.availability_zone_id: `eu-west-1a` is an AZ name",
        "write `euw1-az1`, which has this name in `vpc-app`",
    ),
    (
        "[{availability_zone_id: euw1-az1, ipv4",
        "[{availability_zone_id: eu-west-1b, ipv4",
        "error: vpc_endpoints.vpce-sqs.network_interfaces[0].availability_zone_id: `eu-west-1b` is an AZ name",
        "write `euw1-az2`",
    ),
    (
        "ip: 10.2.0.53, availability_zone_id: euw1-az1",
        "ip: 10.2.0.53, availability_zone_id: eu-west-1a",
        "error: resolver_endpoints.in.ip_addresses[0].availability_zone_id: `eu-west-1a` is an AZ name",
        "write `euw1-az1`",
    ),
    (
        "vpc_ids: [vpc-shared], availability_zone_id: euw1-az1",
        "vpc_ids: [], availability_zone_id: eu-west-1a",
        "error: on_premises_networks.dc.availability_zone_id: `eu-west-1a` is an AZ name",
        "write `euw1-az1`",
    ),
    (
        "away_from: euw1-az1",
        "away_from: eu-west-1b",
        "error: zonal_shifts.zs.away_from: `eu-west-1b` is an AZ name",
        "write `euw1-az2`",
    ),
    (
        "app-a: {availability_zone_id: euw1-az1",
        "app-a: {availability_zone_id: eu-west-1c",
        "warning: vpcs.vpc-app.subnets.app-a.availability_zone_id: `eu-west-1c` has the form of an AZ name",
        "an AZ ID, such as use1-az1",
    ),
    (
        "app-a: {availability_zone_id: euw1-az1",
        "app-a: {availability_zone_id: EUW1-AZ1",
        "warning: vpcs.vpc-app.subnets.app-a.availability_zone_id: `EUW1-AZ1` is not the AZ ID `euw1-az1`",
        "write `euw1-az1`",
    ),
    (
        "eu-west-1b: euw1-az2}\n    subnets",
        "euw1-az2: eu-west-1b}\n    subnets",
        "error: vpcs.vpc-app.availability_zones.euw1-az2: `euw1-az2` and `eu-west-1b` are swapped",
        "write `eu-west-1b: euw1-az2`",
    ),
    (
        "eu-west-1b: euw1-az2}\n    subnets",
        "eu-west-1b: euw1-az2, eu-west-1c: eu-west-1b}\n    subnets",
        "error: vpcs.vpc-app.availability_zones.eu-west-1c: `eu-west-1b` is an AZ name",
        "us-east-1a: use1-az1",
    ),
    (
        "eu-west-1b: euw1-az2}\n    subnets",
        "eu-west-1b: euw1-az2, us-east-1a: use1-az1}\n    subnets",
        "warning: vpcs.vpc-app.availability_zones.us-east-1a: `us-east-1a` is not an AZ of eu-west-1",
        "",
    ),
    (
        "eu-west-1b: euw1-az2}\nvpc_peering",
        "eu-west-1b: euw1-az3}\nvpc_peering",
        "warning: vpcs.vpc-shared.availability_zones.eu-west-1b: `eu-west-1b` is `euw1-az3` here, but `euw1-az2` in `vpc-app`",
        "an account has one AZ ID for each AZ name",
    ),
    // Records in the format of other programs.
    (
        MX,
        "- {name: t, type: TXT, records: [\"v=spf1 -all\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: the TXT value has a blank outside quotes: it is 2 strings",
        "write '\"v=spf1 -all\"'",
    ),
    (
        MX,
        "- {name: t, type: spf, records: [\"v=spf1 -all\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: the SPF value has a blank outside quotes",
        "write '\"v=spf1 -all\"'",
    ),
    (
        MX,
        "- {name: '\\052.apps', type: A, records: [10.1.0.1]}",
        "error: private_hosted_zones.Z1.records[1].name: `\\052.apps`: the escape `\\052` is decimal (RFC 1035) and stands for `4`",
        "write `*` for a wildcard",
    ),
    (
        MX,
        "- {name: www.acme.test, type: AAAA, records: ['fd00:a::1']}",
        "error: private_hosted_zones.Z1.records[1].name: the name `www.acme.test` is relative to the zone and stands for www.acme.test.acme.test.",
        "write `www`, or `www.acme.test.` with the last dot",
    ),
    (
        MX,
        "- {name: ACME.test, type: AAAA, records: ['fd00:a::1']}",
        "error: private_hosted_zones.Z1.records[1].name: the name `ACME.test` is relative",
        "write `@`",
    ),
    (
        MX,
        "- {name: mail, type: MX, records: [\"10 mx\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `mx` is a top-level domain",
        "write `mx.acme.test`, or `mx.`",
    ),
    (
        MX,
        "- {name: mail, type: MX, records: [\"10 @\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `@` stands for the zone in `name` only",
        "write `acme.test`",
    ),
    (
        MX,
        "- {name: c, type: CNAME, records: [www]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `www` is a top-level domain",
        "write `www.acme.test`",
    ),
    (
        MX,
        "- {name: c, type: CNAME, records: [10.1.0.7]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `10.1.0.7` is an address",
        "write the name of a host",
    ),
    (
        MX,
        "- {name: _s._tcp, type: SRV, records: [\"0 0 443 @\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `@` stands for",
        "write `acme.test`",
    ),
    (
        MX,
        "- {name: s, type: HTTPS, records: [\"1 www alpn=h2\"]}",
        "error: private_hosted_zones.Z1.records[1].records[0]: `www` is a top-level domain",
        "write `www.acme.test`",
    ),
    (
        MX,
        "- {name: my host, type: A, records: [10.1.0.1]}",
        "error: private_hosted_zones.Z1.records[1].name: `my host`: the domain name contains a blank",
        "",
    ),
    (
        MX,
        "- {name: a, type: A, alias: {name: '@'}}",
        "error: private_hosted_zones.Z1.records[1].alias.name: `@` stands for a zone's apex",
        "",
    ),
    (
        MX,
        "- {name: a, type: A, alias: {name: www}}",
        "error: private_hosted_zones.Z1.records[1].alias.name: www. is neither a name of an endpoint nor a name of this zone",
        "did you mean `www.acme.test.`?",
    ),
    (
        MX,
        "- {name: a, type: A, alias: {name: wwww.acme.test}}",
        "error: private_hosted_zones.Z1.records[1].alias.name: the name that the alias leads to is not in this zone",
        "did you mean `www.acme.test.`?",
    ),
    (
        MX,
        "- {name: a, type: A, alias: {name: vpce-sqz.sqs.vpce.exampl}}",
        "error: private_hosted_zones.Z1.records[1].alias.name: vpce-sqz.sqs.vpce.exampl. is neither",
        "did you mean `vpce-sqs.sqs.vpce.example.`?",
    ),
    (
        MX,
        "- {name: WWW, type: a, records: [10.1.0.81]}",
        "warning: private_hosted_zones.Z1.records[1].name: www.acme.test. also has A records in records[0]",
        "write all values in one `records`",
    ),
    (
        MX,
        "- {name: b, type: A, records: [10.1.0.1, 10.1.0.1]}",
        "warning: private_hosted_zones.Z1.records[1].records[1]: `10.1.0.1` is in the list twice",
        "",
    ),
    (
        MX,
        "- {name: b, records: [10.1.0.1]}",
        "error: private_hosted_zones.Z1.records[1].type: the field `type` is missing",
        "",
    ),
    ("name: acme.test", "name: '*.acme.test'", "error: private_hosted_zones.Z1.name: *.acme.test. is a wildcard", ""),
    ("name: acme.test", "name: '@'", "error: private_hosted_zones.Z1.name: `@` stands for a zone's apex", ""),
    ("name: acme.test", "name: acme test", "error: private_hosted_zones.Z1.name: the domain name contains a blank", ""),
    (
        "private_dns_names: [sqs.example]",
        "private_dns_names: ['\\052.sqs.example']",
        "error: vpc_endpoint_services.sqs.private_dns_names[0]: `\\052.sqs.example`: the escape",
        "",
    ),
    // Rules, Regions, networks.
    (
        "domain_name: corp.test",
        "domain_name: '*.ad.corp.test'",
        "error: resolver_rules.fwd.domain_name: *.ad.corp.test. contains a `*`",
        "write `ad.corp.test`",
    ),
    (
        "{ip: 192.168.0.53}], vpc_ids: [vpc-app]",
        "{ip: 192.168.0.53}], vpc_ids: []",
        "warning: resolver_rules.fwd.vpc_ids: the list is empty: no VPC uses the rule",
        "add the VPCs",
    ),
    (
        "region: eu-west-1\n    cidr_blocks: [10.2.0.0/16]",
        "region: eu-west1\n    cidr_blocks: [10.2.0.0/16]",
        "warning: vpcs.vpc-shared.region: `eu-west1` is not a known Region",
        "did you mean `eu-west-1`?",
    ),
    (
        "dns_name: sqs.vpce.example",
        "dns_name: '*.sqs.vpce.example'",
        "error: vpc_endpoint_services.sqs.dns_name: *.sqs.vpce.example. is a wildcard",
        "",
    ),
    (
        "tgw: {region: eu-west-1",
        "tgw: {region: eu-wset-1",
        "warning: transit_gateways.tgw.region: `eu-wset-1` is not a known Region",
        "did you mean `eu-west-1`?",
    ),
    (
        "tgw: {region: eu-west-1",
        "tgw: {region: us-east-1",
        "warning: transit_gateways.tgw.attachments[0].vpc_id: `vpc-app` is in eu-west-1, but the gateway is in us-east-1",
        "",
    ),
    (
        "owner_id: amazon, region: eu-west-1",
        "owner_id: amazon, region: us-east-1",
        "warning: vpc_endpoints.vpce-sqs.service_name: service `sqs` is in us-east-1, but `vpc-shared` is in eu-west-1",
        "",
    ),
    (
        "[10.1.16.0/20]",
        "[10.1.0.0/20]",
        "error: vpcs.vpc-app.subnets.app-b.cidr_blocks[0]: 10.1.0.0/20 is also a block of subnet `app-a`",
        "do not overlap",
    ),
    (
        "[10.1.0.2]",
        "[10.9.0.2]",
        "warning: vpcs.vpc-app.resolver_addresses[0]: 10.9.0.2 is outside the VPC",
        "10.1.0.0/16",
    ),
    (
        "name: acme.test",
        "name: corp.test",
        "warning: private_hosted_zones.Z1.name: the zone is not used in `vpc-app`: rule `fwd`",
        "",
    ),
    (
        "domain_name: corp.test",
        "domain_name: SQS.example",
        "warning: vpc_endpoints.vpce-sqs.private_dns_enabled: the private name sqs.example. is not used in `vpc-app`: rule `fwd`",
        "",
    ),
    (
        "name: acme.test",
        "name: sqs.example",
        "warning: vpc_endpoints.vpce-sqs.private_dns_enabled: the private name sqs.example. is not used in `vpc-app`: zone `Z1`",
        "",
    ),
    // Values with a wrong form.
    ("[10.1.0.0/16, ", "[10.1.0.0/33, ", "error: vpcs.vpc-app.cidr_blocks[0]: expected an IPv4 or IPv6 CIDR block", ""),
    ("[10.1.0.2]", "[10.1.0.256]", "error: vpcs.vpc-app.resolver_addresses[0]: expected an IPv4 or IPv6 address", ""),
    (
        "ipv4: 10.2.0.10",
        "ipv4: 'fd00::1'",
        "error: vpc_endpoints.vpce-sqs.network_interfaces[0].ipv4: expected an IPv4 address",
        "",
    ),
    (
        "protocols: [do53, DOT]",
        "protocols: [udp]",
        "error: resolver_endpoints.in.protocols[0]: `udp` is not a known value",
        "",
    ),
    (
        "vpc_id: vpc-shared, protocols",
        "protocols",
        "error: resolver_endpoints.in.vpc_id: the field `vpc_id` is missing",
        "",
    ),
    ("resource: vpce-sqs, ", "", "error: zonal_shifts.zs.resource: the field `resource` is missing", ""),
    (", away_from: euw1-az1", "", "error: zonal_shifts.zs.away_from: the field `away_from` is missing", ""),
    ("ttl: 60", "ttl: 1h", "error: private_hosted_zones.Z1.records[0].ttl: expected a number", ""),
    ("state: Available", "state: up", "error: vpc_endpoints.vpce-sqs.state: `up` is not a known value", ""),
    (
        "    vpc_id: vpc-shared\n",
        "    vpc_id: vpc-shared\n    vpcs: x\n",
        "error: vpc_endpoints.vpce-sqs.vpcs: there is no field `vpcs`",
        "",
    ),
    // Texts that are not valid YAML, or whose structure differs from the intended one.
    (
        "vpc_peering_connections:\n  pcx: {vpc_ids: [vpc-app, vpc-shared]}",
        "vpc_peering_connections: - pcx",
        "error: a list begins on the line of its key `vpc_peering_connections`",
        "on a line of its own",
    ),
    (
        "pcx: {vpc_ids: [vpc-app, vpc-shared]}",
        "pcx: {vpc_ids: [vpc-app, vpc-shared]",
        "error: `{` is never closed",
        "close it with `}`",
    ),
    (
        "    region: eu-west-1\n    cidr_blocks: [10.2.0.0/16]",
        "    region:eu-west-1\n    cidr_blocks: [10.2.0.0/16]",
        "error: the blank behind the colon of `region` is missing",
        "write `region: eu-west-1`",
    ),
    (
        "tgw: {region: eu-west-1,",
        "tgw: {region:eu-west-1,",
        "there is no field `region:eu-west-1` here",
        "write `region: eu-west-1`",
    ),
];

/// The mistakes that the JSON Schema finds too.
///
/// A schema cannot express relations to other resources or fields: references, AZ names, shadowed
/// zones, equal subnets, TTLs of aliases. It cannot express the meaning of a text for its type
/// (record data, names that end in the zone's name), nor host bits. It has no list of Regions.
const FOUND_BY_SCHEMA: &[&str] = &[
    "records[1].name: `\\052.apps`",
    "records[1].name: `my host`",
    "alias.name: `@` stands for a zone's apex",
    "the field `type` is missing",
    "Z1.name: *.acme.test. is a wildcard",
    "Z1.name: `@` stands for a zone's apex",
    "Z1.name: the domain name contains a blank",
    "private_dns_names[0]: `\\052.sqs.example`",
    "domain_name: *.ad.corp.test. contains a `*`",
    "dns_name: *.sqs.vpce.example. is a wildcard",
    "expected an IPv4 or IPv6 CIDR block",
    "expected an IPv4 or IPv6 address",
    "expected an IPv4 address",
    "`udp` is not a known value",
    "the field `vpc_id` is missing",
    "the field `resource` is missing",
    "the field `away_from` is missing",
    "expected a number",
    "`up` is not a known value",
    "there is no field",
];

/// Valid variants: a part of the manifest and its replacement.
const VALID_VARIANTS: &[(&str, &str)] = &[
    (MX, "- {name: mail, type: MX, records: [\"0 .\"]}"),
    (MX, "- {name: mail, type: MX, records: [\"10 mx.\"]}"),
    (MX, "- {name: c, type: CNAME, records: [localhost]}"),
    (MX, "- {name: _s._tcp, type: SRV, records: [\"0 0 0 .\"]}"),
    (MX, "- {name: t, type: TXT, records: ['\"v=spf1 -all\"', '\"a\" \"b\"', v=spf1]}"),
    (MX, "- {name: www.acme.test., type: AAAA, records: ['fd00:a::1']}"),
    (MX, "- {name: '*', type: A, records: [10.1.0.1]}"),
    (MX, "- {name: münchen, type: CNAME, records: [straße.example]}"),
    (MX, "- {name: 7, type: PTR, records: [www.acme.test]}"),
    (MX, "- {name: 'my\\032host', type: A, records: [10.1.0.1]}"),
    (
        "owner_id: \"111122223333\"\n    region: eu-west-1\n    cidr_blocks: [10.1",
        "owner_id: 111122223333\n    region: eu-west-1\n    cidr_blocks: [10.1",
    ),
    (
        "region: eu-west-1\n    cidr_blocks: [10.2.0.0/16]\n    availability_zones: {eu-west-1a: euw1-az1, eu-west-1b: euw1-az2}",
        "region: rack-7\n    cidr_blocks: [10.2.0.0/16]\n    availability_zones: {rack-7-a: euw1-az1}\n#",
    ),
    ("transit_gateways:\n  tgw: {region: eu-west-1, attachments: [{vpc_id: vpc-app}]}", "transit_gateways:"),
];

fn check(scratch: &Scratch) -> String {
    let output =
        Command::new(ZONAL).arg("check").current_dir(scratch.path()).args(["--format", "json"]).output().unwrap();
    let problems: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_default().to_string();
    let line = |problem: &Value| {
        let resource = match (text(problem, "kind"), text(problem, "id")) {
            (kind, _) if kind.is_empty() => String::new(),
            (kind, id) => format!("{kind}.{id}."),
        };
        let field = text(problem, "field");
        let what = format!("{resource}{field}");
        let what = if what.is_empty() { what } else { format!("{what}: ") };
        format!("{}: {what}{} ({})\n", text(problem, "severity"), text(problem, "message"), text(problem, "help"))
    };
    problems.iter().map(line).collect()
}

fn changed(old: &str, new: &str) -> String {
    assert_eq!(VALID.matches(old).count(), 1, "{old}");
    VALID.replace(old, new)
}

#[test]
fn check_finds_common_mistakes_in_manifests() {
    let scratch = Scratch::new();
    scratch.write("zones/a.yaml", VALID);
    assert_eq!(check(&scratch), "");
    for (old, new) in VALID_VARIANTS {
        scratch.write("zones/a.yaml", changed(old, new));
        let output = check(&scratch);
        assert!(!output.contains("error: "), "{new}\n{output}");
    }
    for (old, new, message, help) in MISTAKES {
        scratch.write("zones/a.yaml", changed(old, new));
        let output = check(&scratch);
        let line = output.lines().find(|line| line.contains(message));
        assert!(line.is_some_and(|line| line.contains(help)), "{new}\nexpected {message} ({help})\nfound {output}");
        let errors = output.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(errors <= 1, "{new}\n{output}");
    }
}

#[test]
fn check_finds_common_mistakes_in_master_files() {
    let scratch = Scratch::new();
    scratch.write("zones/a.yaml", "vpcs: {v: {region: r, cidr_blocks: [10.1.0.0/16]}}\nprivate_hosted_zones: {Z: {name: acme.test, vpc_ids: [v], file: z}}\n");
    let head = "$TTL 60\n@ SOA ns hostmaster 1 7200 900 1209600 60\n@ NS ns\nns A 10.1.0.2\n@ MX 10 @\nw CNAME www\n\
                t TXT \"a b\" c\nm A 10.1.0.3\n";
    scratch.write("zones/z", head);
    assert_eq!(check(&scratch), "");
    for (line, message) in [
        ("www.acme.test A 10.1.0.4", "the name `www.acme.test` is relative to the zone"),
        ("x CNAME www.acme.test", "the name `www.acme.test` is relative to the zone"),
        ("x MX 10 mx.acme.test", "the name `mx.acme.test` is relative to the zone"),
        ("\\052.apps A 10.1.0.4", "the escape `\\052` is decimal"),
        ("x TXT v=spf1 -all", "the TXT record has blanks outside quotes"),
        ("x CNAME 10.1.0.7", "`10.1.0.7` is an address"),
    ] {
        scratch.write("zones/z", format!("{head}{line}\n"));
        let output = check(&scratch);
        assert!(
            output.starts_with("warning: ") && output.contains(message) && output.lines().count() == 1,
            "{line}: {output}"
        );
    }
}

#[test]
fn check_warns_about_manifest_files_that_are_not_read() {
    let scratch = Scratch::new();
    scratch.write("zones/a.yaml", VALID);
    scratch.write("zones/more/b.yaml", "vpcs: {}\n");
    scratch.write("zones/more/deep/c.json", "{\"resolver_rules\": {}}\n");
    scratch.write("zones/D.YAML", "vpcs: {}\n");
    scratch.write("zones/values/other.yaml", "something: else\n");
    scratch.write("zones/.hidden/e.yaml", "vpcs: {}\n");
    let output = check(&scratch);
    assert_eq!(
        output.matches("warning: the file contains resources, but zonal does not read it").count(),
        3,
        "{output}"
    );
}

#[test]
fn check_reports_errors_of_configuration_and_manifest() {
    let scratch = Scratch::new();
    scratch.write("other/a.yaml", changed("[10.1.0.0/16, ", "[10.1.0.0/33, "));
    scratch.write("zones/a.yaml", changed("ttl: 60", "ttl: 1h"));
    let manifest = "vpcs.vpc-app.cidr_blocks[0]: expected";
    scratch.write("zonal.yaml", "control_plane: {directory: other}\nnsid: [x]\n");
    let output = check(&scratch);
    assert!(output.contains("nsid: expected text") && output.contains(manifest), "{output}");
    scratch.write("zonal.yaml", "nsid: [x]\n");
    let output = check(&scratch);
    assert!(output.contains("nsid: expected text") && output.contains("records[0].ttl: expected"), "{output}");
    scratch.write("zonal.yaml", "control_plane: {push: {}}\nnsid: [x]\n");
    let output = check(&scratch);
    assert!(output.contains("nsid: expected text") && output.lines().count() == 1, "{output}");
    scratch.write("zonal.yaml", "control_plane: {directory: other\n");
    let output = check(&scratch);
    assert!(output.contains("`{` is never closed") && output.contains("records[0].ttl: expected"), "{output}");
}

#[test]
fn check_warns_about_certificates_that_clients_refuse() {
    let scratch = Scratch::new();
    let key = KeyPair::generate().unwrap();
    scratch.write("tls.key", key.serialize_pem());
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(72);
    let soon = jiff::tz::Offset::UTC.to_datetime(soon);
    type Change = Box<dyn Fn(&mut CertificateParams)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|_| {}), ""),
        (Box::new(|params| params.not_after = date_time_ymd(2020, 1, 1)), "expired at"),
        (Box::new(|params| params.not_before = date_time_ymd(2999, 1, 1)), "not valid before"),
        (
            Box::new(move |params| {
                params.not_after = date_time_ymd(soon.year().into(), soon.month() as u8, soon.day() as u8)
            }),
            "expires soon, at",
        ),
        (Box::new(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "belongs to an authority"),
        (
            Box::new(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "extended key usage",
        ),
    ];
    scratch.write("zones/a.yaml", VALID);
    scratch.write(
        "zonal.yaml",
        "listen: [{address: \"127.0.0.1:8853\", protocol: DoT, tls: {certificate: tls.crt, private_key: tls.key}}]\n",
    );
    for (change, expected) in cases {
        let mut params = CertificateParams::new(vec!["dns.example".to_string()]).unwrap();
        change(&mut params);
        scratch.write("tls.crt", params.self_signed(&key).unwrap().pem());
        let output = check(&scratch);
        match expected {
            "" => assert_eq!(output, ""),
            _ => assert!(
                output.starts_with("warning: listen[0].tls.certificate: ") && output.contains(expected),
                "{output}"
            ),
        }
    }
}

/// Parses a manifest to JSON. `None` if it is not valid YAML.
fn as_json(text: &str) -> Option<Value> {
    fn value(node: &Node) -> Value {
        match &node.value {
            _ if node.is_null() => Value::Null,
            document::Value::Scalar { text, plain } => {
                let typed = plain.then(|| serde_json::from_str(text).ok()).flatten();
                typed.unwrap_or_else(|| Value::String(text.to_string()))
            }
            document::Value::List(items) => items.iter().map(value).collect(),
            document::Value::Map(entries) => {
                let members = entries.iter().map(|entry| (entry.key.to_string(), value(&entry.node)));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
    let (root, errors) = document::read(text.as_bytes(), false);
    root.filter(|_| errors.is_empty()).map(|root| value(&root))
}

/// Validates each line of a file. Prints the errors of each line as a JSON list.
const VALIDATE: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in open(sys.argv[2]):
    errors = list(validator.iter_errors(json.loads(line)))
    print(json.dumps([list(error.absolute_path).__repr__() + ' ' + error.message[:200] for error in errors]))
";

#[test]
fn schema_finds_the_mistakes_that_it_can_express() {
    let scratch = Scratch::new();
    let schema = Command::new(ZONAL).arg("schema").output().unwrap().stdout;
    let schema = scratch.write("schema.json", schema);
    let examples = ["network.yaml", "endpoints.yaml", "zones.yaml"];
    let examples = examples.map(|name| std::fs::read_to_string(tree("zones").join(name)).unwrap());
    let valid = VALID_VARIANTS.iter().map(|(old, new)| (changed(old, new), false));
    let mistakes = MISTAKES
        .iter()
        .map(|(old, new, message, _)| (changed(old, new), FOUND_BY_SCHEMA.iter().any(|part| message.contains(part))));
    let all: Vec<(String, bool)> =
        examples.into_iter().chain([VALID.into()]).map(|text| (text, false)).chain(valid).chain(mistakes).collect();
    let cases: Vec<(Value, &str, bool)> =
        all.iter().filter_map(|(text, is_found)| Some((as_json(text)?, text.as_str(), *is_found))).collect();
    let lines: String = cases.iter().map(|(json, ..)| format!("{json}\n")).collect();
    let lines = scratch.write("cases", lines);
    let output = Command::new(PYTHON).args(["-c", VALIDATE]).arg(schema).arg(lines).output();
    let output = output.unwrap_or_else(|error| panic!("{PYTHON}: {error}; run tests/packages"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(verdicts.lines().count(), cases.len());
    for ((_, text, is_found), verdict) in cases.iter().zip(verdicts.lines()) {
        assert_eq!(*is_found, verdict != "[]", "{verdict}\n{text}");
    }
}
