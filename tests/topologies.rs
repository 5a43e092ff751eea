//! Networks with real addresses and port 53, queried with dig: in a VPC, across peering and
//! gateways, and from on-premises through forwarders with the snippets of `deploy/forwarders`.

use crate::harness::{Process, ZONAL, can_run, forwarder::Kind, lab::Lab, signed::SignedParent, wait_until};

/// The servers' manifest. The snippets forward the names of its services.
const MANIFEST: &str = r#"
vpcs:
  vpc-app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16, "fd00:1::/48"]
    resolver_addresses: [10.1.0.2, "fd00:1::2"]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      app-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20, "fd00:1::/64"]}
      app-b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.16.0/20, "fd00:1:0:10::/64"]}
  vpc-shared:
    region: us-east-1
    cidr_blocks: [10.2.0.0/16, "fd00:2::/48"]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      shared-a: {availability_zone_id: use1-az1, cidr_blocks: [10.2.0.0/20, "fd00:2::/64"]}
      shared-b: {availability_zone_id: use1-az2, cidr_blocks: [10.2.16.0/20, "fd00:2:0:10::/64"]}
  vpc-eu:
    region: eu-central-1
    cidr_blocks: [10.8.0.0/16, "fd00:8::/48"]
    availability_zones: {eu-central-1a: euc1-az1}
    subnets:
      eu-a: {availability_zone_id: euc1-az1, cidr_blocks: [10.8.0.0/16, "fd00:8::/64"]}
vpc_peering_connections:
  pcx-app-shared: {vpc_ids: [vpc-app, vpc-shared], status: active}
transit_gateways:
  tgw-us: {region: us-east-1, attachments: [{vpc_id: vpc-shared}, {transit_gateway_id: tgw-eu}]}
  tgw-eu: {region: eu-central-1, attachments: [{vpc_id: vpc-eu}, {transit_gateway_id: tgw-us}]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16, "fd00:9::/48"], vpc_ids: [vpc-shared]}
vpc_endpoint_services:
  sqs:
    owner_id: amazon
    region: us-east-1
    dns_name: sqs.us-east-1.vpce.amazonaws.com
    private_dns_names: [sqs.us-east-1.amazonaws.com]
  kms:
    owner_id: amazon
    region: us-east-1
    dns_name: kms.us-east-1.vpce.amazonaws.com
    private_dns_names: [kms.us-east-1.amazonaws.com]
vpc_endpoints:
  vpce-0sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc-shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.10}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.10}
  vpce-0kms:
    vpc_endpoint_type: Interface
    service_name: kms
    vpc_id: vpc-shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    dns_options: {dns_record_ip_type: dualstack}
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.11, ipv6: "fd00:2::11"}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.11, ipv6: "fd00:2:0:10::11"}
resolver_endpoints:
  in-shared:
    direction: INBOUND
    vpc_id: vpc-shared
    ip_addresses:
      - {ip: 10.2.0.53, availability_zone_id: use1-az1}
      - {ip: 10.2.16.53, availability_zone_id: use1-az2}
      - {ip: "fd00:2::53", availability_zone_id: use1-az1}
      - {ip: "fd00:2:0:10::53", availability_zone_id: use1-az2}
private_hosted_zones:
  Z0CORP:
    name: corp.example.com
    vpc_ids: [vpc-app, vpc-shared]
    records:
      - {name: note, type: TXT, ttl: 60, records: ['"from the private zone"']}
      - {name: queue, type: CNAME, ttl: 60, records: [vpce-0sqs.sqs.us-east-1.vpce.amazonaws.com]}
"#;

/// Two servers, one in each AZ, which listen on all addresses. The routers are the two transit
/// gateways and the data centre's edge.
fn cloud(lab: &mut Lab) -> [Process; 2] {
    lab.router("tgw-us");
    lab.router("tgw-eu");
    lab.router("edge");
    lab.link("tgw-us", &["10.2.0.0/16", "fd00:2::/48"], "tgw-eu", &["10.8.0.0/16", "fd00:8::/48"]);
    lab.link("tgw-us", &["10.2.0.0/16", "fd00:2::/48"], "edge", &["192.168.0.0/16", "fd00:9::/48"]);
    lab.host("server-a", "tgw-us", &["10.2.0.53", "fd00:2::53", "10.1.0.2", "fd00:1::2"]);
    lab.host("server-b", "tgw-us", &["10.2.16.53", "fd00:2:0:10::53"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config = lab.scratch.write(
        "zonal.yaml",
        "listen: [{address: \"0.0.0.0:53\"}, {address: \"[::]:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n",
    );
    let command = [ZONAL, "serve", "--config", config.to_str().unwrap()];
    let mut servers = [lab.start("server-a", &command), lab.start("server-b", &command)];
    for (node, server) in ["server-a", "server-b"].into_iter().zip(&mut servers) {
        wait_until("zonal answers", || {
            server.assert_alive();
            (lab.dig(node, "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
        });
    }
    servers
}

#[test]
fn inside_and_across() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl"]) {
        return;
    }
    let mut lab = Lab::new();
    let _servers = cloud(&mut lab);
    lab.host("app-a", "tgw-us", &["10.1.0.7", "fd00:1::7"]);
    lab.host("app-b", "tgw-us", &["10.1.16.7", "fd00:1:0:10::7"]);
    lab.host("shared-b", "tgw-us", &["10.2.16.7", "fd00:2:0:10::7"]);
    lab.host("eu", "tgw-eu", &["10.8.0.7", "fd00:8::7"]);
    lab.host("dc", "edge", &["192.168.0.7", "fd00:9::7"]);
    lab.host("stranger", "tgw-us", &["203.0.113.7", "2001:db8::7"]);

    // Client, server address, and the expected interfaces of kms: over UDP and TCP, IPv4 and IPv6.
    let (one, two): (&[&str], &[&str]) = (&["10.2.0.11"], &["10.2.16.11"]);
    let both: &[&str] = &["10.2.0.11", "10.2.16.11"];
    let cases = [
        ("app-a", "10.1.0.2", one),
        ("app-a", "fd00:1::2", one),
        ("app-b", "10.1.0.2", two),
        ("app-b", "fd00:1::2", two),
        // Through the peering connection to the inbound endpoint, the AZ is still the client's.
        ("app-b", "10.2.0.53", two),
        ("app-a", "fd00:2:0:10::53", one),
        ("shared-b", "10.2.0.53", two),
        // Through two gateways, from a Region with other AZs: the client's subnet is known, but its
        // AZ has none of the endpoint's interfaces.
        ("eu", "10.2.0.53", both),
        ("eu", "fd00:2:0:10::53", both),
        ("dc", "10.2.0.53", one),
        ("dc", "10.2.16.53", two),
        ("dc", "fd00:2:0:10::53", two),
    ];
    for (node, server, expected) in cases {
        for transport in ["+notcp", "+tcp"] {
            let question = format!("@{server} kms.us-east-1.amazonaws.com A {transport}");
            let reply = lab.dig(node, &question);
            assert_eq!(
                (reply.status.as_str(), reply.flags.as_str()),
                ("NOERROR", "qr aa rd ra"),
                "{node}: {question}\n{reply}"
            );
            assert_eq!(reply.data("A"), expected, "{node}: {question}\n{reply}");
        }
    }
    let reply = lab.dig("app-b", "@10.1.0.2 kms.us-east-1.amazonaws.com AAAA");
    assert_eq!(reply.data("AAAA"), ["fd00:2:0:10::11"], "{reply}");

    for question in ["@10.1.0.2", "@10.2.0.53", "@fd00:2::53", "@10.2.0.53 +tcp"] {
        let reply = lab.dig("stranger", &format!("{question} kms.us-east-1.amazonaws.com A"));
        assert_eq!((reply.status.as_str(), reply.ede.as_slice()), ("REFUSED", [18].as_slice()), "{question}\n{reply}");
        assert!(reply.answer.is_empty());
    }

    let reply = lab.dig("app-b", "@10.1.0.2 whoami.zonal TXT");
    let line = reply.answer.join(" ");
    for word in ["vpc=vpc-app", "az=use1-az2", "subnet=app-b", "source=10.1.16.7"] {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

/// Starts a forwarder on a host of the data centre, and waits until it validates.
fn forwarder(lab: &mut Lab, kind: Kind, node: &str, address: &str, parent: &SignedParent, anchors: bool) -> Process {
    lab.host(node, "edge", &[address]);
    let mut process = kind.start(lab, node, address, Some(parent), anchors);
    wait_until("the forwarder validates", || {
        process.assert_alive();
        let reply = lab.dig("dc", &format!("@{address} signed.com TXT +dnssec +time=2"));
        (reply.status == "NOERROR" && reply.flags.contains(" ad")).then_some(())
    });
    process
}

/// All kinds of names resolve through the forwarder, also when one of the two AZs or servers has
/// failed.
fn goes_through(lab: &Lab, address: &str, servers: [Process; 2]) {
    let ask = |question: &str, rtype: &str| {
        let question = format!("@{address} {question} {rtype} +tries=3 +time=5");
        let reply = lab.dig("dc", &question);
        assert_eq!(reply.status, "NOERROR", "dig {question}\n{reply}");
        reply.data(rtype).into_iter().map(String::from).collect::<Vec<_>>()
    };
    let sqs = ask("sqs.us-east-1.amazonaws.com", "A");
    assert!(sqs == ["10.2.0.10"] || sqs == ["10.2.16.10"], "{sqs:?}");
    let queue = ask("queue.corp.example.com", "A");
    assert!(queue == ["10.2.0.10"] || queue == ["10.2.16.10"], "{queue:?}");
    assert_eq!(ask("note.corp.example.com", "TXT"), ["\"from the private zone\""]);
    assert_eq!(ask("vpce-0sqs-us-east-1b.sqs.us-east-1.vpce.amazonaws.com", "A"), ["10.2.16.10"]);
    assert_eq!(ask("sqs.us-east-1.amazonaws.com", "AAAA"), [""; 0]);
    let reply = lab.dig("dc", &format!("@{address} missing.corp.example.com A"));
    assert_eq!(reply.status, "NXDOMAIN", "{reply}");

    // AZ 1 stops answering.
    lab.cut("tgw-us", &["10.2.0.53", "fd00:2::53"], true);
    assert_eq!(ask("vpce-0kms.kms.us-east-1.vpce.amazonaws.com", "AAAA"), ["fd00:2:0:10::11"]);
    assert_eq!(ask("vpce-0kms-us-east-1b.kms.us-east-1.vpce.amazonaws.com", "A"), ["10.2.16.11"]);
    lab.cut("tgw-us", &["10.2.0.53", "fd00:2::53"], false);

    // Only the server in AZ 1 has ended.
    let [first, second] = servers;
    drop(first);
    assert_eq!(ask("kms.us-east-1.amazonaws.com", "A"), ["10.2.16.11"]);
    assert_eq!(ask("vpce-0kms-us-east-1a.kms.us-east-1.vpce.amazonaws.com", "A"), ["10.2.0.11"]);
    drop(second);
}

/// Without a negative trust anchor, the signed parent makes the answers bogus.
fn is_bogus(lab: &Lab, address: &str) {
    for name in ["sqs.us-east-1.amazonaws.com A", "note.corp.example.com TXT"] {
        let reply = lab.dig("dc", &format!("@{address} {name}"));
        assert_eq!(reply.status, "SERVFAIL", "{name}\n{reply}");
        let unchecked = lab.dig("dc", &format!("@{address} {name} +cd"));
        assert!(!unchecked.answer.is_empty(), "{name}\n{unchecked}");
    }
}

/// With the snippet, names below a signed parent resolve through a forwarder that validates.
fn through(kind: Kind) {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "nsd", "dnssec-keygen", "dnssec-signzone", kind.program()]) {
        return;
    }
    let mut lab = Lab::new();
    let servers = cloud(&mut lab);
    lab.host("dc", "edge", &["192.168.0.7", "fd00:9::7"]);
    let parent = SignedParent::start(&mut lab);
    let _with = forwarder(&mut lab, kind, "with", "192.168.0.11", &parent, true);
    // dnsmasq needs no anchors.
    if kind != Kind::Dnsmasq {
        let _without = forwarder(&mut lab, kind, "without", "192.168.0.12", &parent, false);
        is_bogus(&lab, "192.168.0.12");
    }
    goes_through(&lab, "192.168.0.11", servers);
}

#[test]
fn through_bind() {
    through(Kind::Bind);
}

#[test]
fn through_unbound() {
    through(Kind::Unbound);
}

#[test]
fn through_dnsmasq() {
    through(Kind::Dnsmasq);
}

#[test]
fn through_knot_resolver() {
    through(Kind::KnotResolver);
}

#[test]
fn through_resolved() {
    through(Kind::Resolved);
}
