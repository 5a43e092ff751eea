//! Clients in two Availability Zones behind one caching forwarder: each client gets the endpoint of
//! its own AZ, also from the cache. Only a configured forwarder may state a client's address.

use crate::harness::{Process, ZONAL, can_run, lab::Lab, wait_until};

const MANIFEST: &str = r#"
vpcs:
  app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16, "fd00:1::/48"]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      app-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20, "fd00:1::/64"]}
      app-b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.16.0/20, "fd00:1:0:10::/64"]}
  shared:
    region: us-east-1
    cidr_blocks: [10.2.0.0/16, "fd00:2::/48"]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      shared-a: {availability_zone_id: use1-az1, cidr_blocks: [10.2.0.0/20, "fd00:2::/64"]}
      shared-b: {availability_zone_id: use1-az2, cidr_blocks: [10.2.16.0/20]}
  # It has the addresses of `app`, and no entry point.
  twin: {region: us-east-1, cidr_blocks: [10.1.0.0/16]}
vpc_peering_connections:
  pcx: {vpc_ids: [app, shared], status: active}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example]}
  kms: {owner_id: amazon, region: us-east-1, dns_name: kms.vpce.example, private_dns_names: [kms.example]}
  sns: {owner_id: amazon, region: us-east-1, dns_name: sns.vpce.example, private_dns_names: [sns.example]}
vpc_endpoints:
  vpce-sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.10}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.10}
  vpce-kms:
    vpc_endpoint_type: Interface
    service_name: kms
    vpc_id: shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.11}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.11}
  vpce-sns:
    vpc_endpoint_type: Interface
    service_name: sns
    vpc_id: shared
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.12}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.12}
  vpce-twin: {vpc_endpoint_type: Interface, service_name: sqs, vpc_id: twin, state: Available}
resolver_endpoints:
  in:
    direction: INBOUND
    vpc_id: shared
    ip_addresses: [{ip: 10.2.0.53, availability_zone_id: use1-az1}, {ip: "fd00:2::53", availability_zone_id: use1-az1}]
private_hosted_zones:
  own: {name: own.example, vpc_ids: [shared], records: [{name: '@', type: A, records: [10.2.0.80]}]}
forwarders:
  ecs: {vpc_id: shared, cidr_blocks: [10.2.0.20/32, "fd00:2::20/128"], speaks_for: [app, shared]}
  proxy:
    vpc_id: shared
    cidr_blocks: [10.2.0.21/32, "fd00:2::21/128"]
    client_identity: proxy_protocol_v2
    speaks_for: [app, shared, twin]
"#;

/// A server, and two clients in two AZs. `listen` is the server's list of listen addresses.
fn cloud(lab: &mut Lab, listen: &str) -> Process {
    lab.router("tgw");
    // 10.2.8.53 is no entry point.
    lab.host("server", "tgw", &["10.2.0.53", "fd00:2::53", "10.2.8.53", "169.254.169.253", "fd00:ec2::253"]);
    lab.host("app-a", "tgw", &["10.1.0.7", "fd00:1::7"]);
    lab.host("app-b", "tgw", &["10.1.16.7", "fd00:1:0:10::7"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config = lab.scratch.write(
        "zonal.yaml",
        format!("listen: [{listen}]\ncontrol_plane: {{directory: zones}}\ninternet_resolver: none\n"),
    );
    let mut server = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    wait_until("zonal answers", || {
        server.assert_alive();
        (lab.dig("app-a", "@10.2.0.53 version.zonal A +time=1").status == "REFUSED").then_some(())
    });
    server
}

const WILDCARD: &str = "{address: \"0.0.0.0:53\"}, {address: \"[::]:53\"}";
/// Starts a forwarder on a host in `shared`, and waits until it answers.
fn forwarder(lab: &mut Lab, addresses: &[&str], command: &[&str]) -> Process {
    lab.host("forwarder", "tgw", addresses);
    let mut process = lab.start("forwarder", command);
    wait_until("the forwarder answers", || {
        process.assert_alive();
        let reply = lab.dig("app-a", &format!("@{} localhost A +time=1", addresses[0]));
        (reply.status == "NOERROR").then_some(())
    });
    process
}

/// The number of queries that zonal has answered.
fn answered(lab: &Lab) -> u64 {
    let output = lab.run("server", &["curl", "-s", "http://127.0.0.1:9153/metrics"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("zonal_answers_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// Service names, the order of the clients' queries, and the expected address in each AZ.
const ORDERS: [(&str, &str, [&str; 2]); 3] = [
    ("sqs", "abab", ["10.2.0.10", "10.2.16.10"]),
    ("kms", "baba", ["10.2.0.11", "10.2.16.11"]),
    ("sns", "aabba", ["10.2.0.12", "10.2.16.12"]),
];

/// Both clients get the address of their own AZ, in every order, over UDP and TCP.
fn keeps_the_az(lab: &Lab, address: &str) {
    let ask = |node: &str, question: &str| lab.dig(node, &format!("@{address} {question}"));
    for (name, order, [a, b]) in ORDERS {
        for transport in ["+notcp", "+tcp"] {
            for client in order.chars() {
                let (node, own) = (format!("app-{client}"), if client == 'a' { [a] } else { [b] });
                let reply = ask(&node, &format!("{name}.example A {transport}"));
                assert_eq!(reply.data("A"), own, "{node} {name} {transport}\n{reply}");
                let regional = ask(&node, &format!("vpce-{name}.{name}.vpce.example A {transport}"));
                assert_eq!(regional.data("A"), own, "{node} {name} {transport}\n{regional}");
                let zonal = ask(&node, &format!("vpce-{name}-us-east-1b.{name}.vpce.example A {transport}"));
                assert_eq!(zonal.data("A"), [b], "{node} {name} {transport}\n{zonal}");
                let negative = ask(&node, &format!("{name}.example AAAA {transport}"));
                assert_eq!((negative.status.as_str(), negative.answer.len()), ("NOERROR", 0), "{negative}");
                let missing = ask(&node, &format!("no.{name}.example A {transport}"));
                assert_eq!(missing.status, "NXDOMAIN", "{missing}");
            }
        }
    }
    for (node, az, source) in
        [("app-a", "az=use1-az1", "source=10.1.0.7"), ("app-b", "az=use1-az2", "source=10.1.16.7")]
    {
        let reply = ask(node, "whoami.zonal TXT");
        let line = reply.answer.join(" ");
        assert!(line.contains(az) && line.contains(source), "{node}\n{reply}");
    }
}

/// The forwarder's cache answers each client's second query.
fn caches(lab: &Lab, address: &str) {
    let ask = |node: &str, name: &str| lab.dig(node, &format!("@{address} {name} A"));
    let names = ["sqs.example", "vpce-kms.kms.vpce.example", "vpce-sns-us-east-1b.sns.vpce.example"];
    let both = || {
        for name in names {
            for node in ["app-a", "app-b"] {
                assert_eq!(ask(node, name).status, "NOERROR");
            }
        }
    };
    both();
    let before = answered(lab);
    both();
    assert_eq!(answered(lab), before, "what was asked before is in the cache");
}

#[test]
fn dnsdist_with_proxy_protocol() {
    if !can_run(&["ip", "dig", "kdig", "setpriv", "sysctl", "dnsdist"]) {
        return;
    }
    let mut lab = Lab::new();
    let _server = cloud(&mut lab, WILDCARD);
    // dnsdist's health checks are PROXY headers with the command LOCAL. Queries at port 5353 stand
    // for queries through the twin's VPC endpoint.
    let config = lab.scratch.write(
        "dnsdist.conf",
        "setLocal('10.2.0.21:53')\naddLocal('[fd00:2::21]:53')\naddLocal('10.2.0.21:5353')\nsetACL({'0.0.0.0/0', '::/0'})\n\
         newServer({address='10.2.0.53:53', useProxyProtocol=true, mustResolve=true, checkName='localhost.'})\n\
         newServer({address='10.2.8.53:53', useProxyProtocol=true, mustResolve=true, checkName='localhost.', pool='twin'})\n\
         local twin = DSTPortRule(5353)\n\
         addAction(twin, SetProxyProtocolValuesAction({[0xea]='\\1vpce-twin'}))\naddAction(twin, PoolAction('twin'))\n",
    );
    let command = ["dnsdist", "--supervised", "--disable-syslog", "-C", config.to_str().unwrap()];
    let _dnsdist = forwarder(&mut lab, &["10.2.0.21", "fd00:2::21"], &command);
    keeps_the_az(&lab, "10.2.0.21");
    for (node, own) in [("app-a", "10.2.0.10"), ("app-b", "10.2.16.10")] {
        for transport in ["+notcp", "+tcp"] {
            let reply = lab.dig(node, &format!("@fd00:2::21 sqs.example A {transport}"));
            assert_eq!(reply.data("A"), [own], "over IPv6 {transport}\n{reply}");
            let reply = lab.dig(node, &format!("-p 5353 @10.2.0.21 whoami.zonal TXT {transport}"));
            assert!(reply.answer.join(" ").contains("\"vpc=twin\""), "{transport}\n{reply}");
        }
    }

    // kdig sends PROXY headers over UDP, too: from the forwarder's address, and from an address
    // that belongs to no forwarder.
    let kdig = |node: &str, client: &str| {
        let proxy = format!("+proxy={client}-10.2.0.53");
        let output =
            lab.run(node, &["kdig", "+retry=0", "+time=2", "+short", &proxy, "@10.2.0.53", "sqs.example", "A"]);
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    assert_eq!(kdig("forwarder", "10.1.0.7"), "10.2.0.10");
    assert_eq!(kdig("forwarder", "10.1.16.7"), "10.2.16.10");
    let forged = kdig("app-b", "10.1.0.7");
    assert!(!forged.contains("10.2."), "{forged}");
    // zonal accepts no query from the forwarder without a header.
    let reply = lab.dig("forwarder", "@10.2.0.53 sqs.example A +notcp");
    assert_eq!((reply.status.as_str(), reply.ede.as_slice()), ("REFUSED", &[18][..]), "{reply}");
    let reply = lab.dig("forwarder", "@10.2.0.53 sqs.example A +tcp");
    assert!(reply.answer.is_empty(), "{reply}");
}

#[test]
fn dnsdist_with_client_subnet() {
    if !can_run(&["ip", "dig", "curl", "setpriv", "sysctl", "dnsdist"]) {
        return;
    }
    let mut lab = Lab::new();
    let _server = cloud(&mut lab, WILDCARD);
    let config = lab.scratch.write(
        "dnsdist.conf",
        "setLocal('10.2.0.20:53')\naddLocal('[fd00:2::20]:53')\nsetACL({'0.0.0.0/0', '::/0'})\n\
         setECSSourcePrefixV4(32)\nsetECSSourcePrefixV6(128)\nsetECSOverride(true)\n\
         newServer({address='10.2.0.53:53', useClientSubnet=true, mustResolve=true, checkName='localhost.', checkInterval=3600})\n\
         getPool(''):setCache(newPacketCache(10000, {parseECS=true}))\n",
    );
    let command = ["dnsdist", "--supervised", "--disable-syslog", "-C", config.to_str().unwrap()];
    let _dnsdist = forwarder(&mut lab, &["10.2.0.20", "fd00:2::20"], &command);
    keeps_the_az(&lab, "10.2.0.20");
    caches(&lab, "10.2.0.20");
    for (node, own) in [("app-a", "10.2.0.10"), ("app-b", "10.2.16.10")] {
        let reply = lab.dig(node, "@fd00:2::20 sqs.example A");
        assert_eq!(reply.data("A"), [own], "over IPv6\n{reply}");
    }

    // A client subnet from any other source is ignored.
    let output = lab.run("app-b", &["dig", "@10.2.0.53", "sqs.example", "A", "+subnet=10.1.0.7/32"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("10.2.16.10") && !text.contains("10.2.0.10") && !text.contains("CLIENT-SUBNET"), "{text}");
}

#[test]
fn dnsmasq_with_client_subnet() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "dnsmasq"]) {
        return;
    }
    let mut lab = Lab::new();
    let _server = cloud(&mut lab, WILDCARD);
    let command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--listen-address=10.2.0.20",
        "--bind-interfaces",
        "--server=10.2.0.53",
        "--add-subnet=32,128",
    ];
    let _dnsmasq = forwarder(&mut lab, &["10.2.0.20", "fd00:2::20"], &command);
    keeps_the_az(&lab, "10.2.0.20");
}

/// An Unbound configuration that sends `bits` bits of a client's address.
fn unbound(lab: &Lab, bits: u8) -> String {
    let config = format!(
        "server:\n  module-config: \"subnetcache iterator\"\n  interface: 10.2.0.20\n  access-control: 0.0.0.0/0 allow\n  \
         username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  \
         send-client-subnet: 10.2.0.53\n  max-client-subnet-ipv4: {bits}\n  local-zone: \"localhost.\" nodefault\n  \
         prefetch: no\nremote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: 10.2.0.53\n"
    );
    lab.scratch.write(&format!("unbound-{bits}.conf"), config).to_str().unwrap().into()
}

#[test]
fn unbound_with_client_subnet() {
    if !can_run(&["ip", "dig", "curl", "setpriv", "sysctl", "unbound"]) {
        return;
    }
    let mut lab = Lab::new();
    let _server = cloud(&mut lab, WILDCARD);
    // Prefixes at least as long as the subnets identify the AZ. 24 bits is Unbound's default.
    for (number, len) in [24, 32].into_iter().enumerate() {
        let config = unbound(&lab, len);
        let command = ["unbound", "-d", "-c", &config];
        let _unbound = match number {
            0 => forwarder(&mut lab, &["10.2.0.20"], &command),
            _ => lab.start("forwarder", &command),
        };
        wait_until("Unbound answers", || {
            (lab.dig("app-a", "@10.2.0.20 localhost A +time=1").status == "NOERROR").then_some(())
        });
        for (name, order, [a, b]) in ORDERS {
            for client in order.chars() {
                let (node, own) = (format!("app-{client}"), if client == 'a' { [a] } else { [b] });
                let reply = lab.dig(&node, &format!("@10.2.0.20 {name}.example A"));
                assert_eq!(reply.data("A"), own, "{node} {name} /{len}\n{reply}");
            }
        }
        if len == 32 {
            keeps_the_az(&lab, "10.2.0.20");
        }
        caches(&lab, "10.2.0.20");
    }
}

/// A REFUSED answer for one client never reaches another client.
///
/// A resolver that gets REFUSED for a client subnet asks again without one (RFC 7871, section
/// 7.1.3), and caches that answer for all clients. So zonal must not answer it with the forwarder's
/// own view.
#[test]
fn what_a_client_is_refused_comes_to_nobody() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "unbound"]) {
        return;
    }
    let mut lab = Lab::new();
    let _server = cloud(&mut lab, WILDCARD);
    lab.host("stranger", "tgw", &["192.168.0.7"]);
    let config = unbound(&lab, 32);
    let _unbound = forwarder(&mut lab, &["10.2.0.20"], &["unbound", "-d", "-c", &config]);
    for (name, own) in [("own.example", ["10.2.0.80"; 2]), ("sqs.example", ["10.2.0.10", "10.2.16.10"])] {
        for _ in 0..2 {
            let reply = lab.dig("stranger", &format!("@10.2.0.20 {name} A"));
            assert_eq!((reply.status.as_str(), reply.data("A").len()), ("SERVFAIL", 0), "{name}\n{reply}");
            for (node, own) in ["app-a", "app-b"].into_iter().zip(own) {
                let reply = lab.dig(node, &format!("@10.2.0.20 {name} A"));
                assert_eq!(reply.data("A"), [own], "{node} {name}\n{reply}");
            }
        }
    }
}

/// The resolver's addresses that are the same in every VPC. They are no entry points, so the source
/// address selects the VPC.
#[test]
fn local_addresses() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl"]) {
        return;
    }
    let alone = "{address: \"10.2.0.53:53\"}, {address: \"169.254.169.253:53\"}, {address: \"[fd00:ec2::253]:53\"}";
    for listen in [WILDCARD, alone] {
        let mut lab = Lab::new();
        let _server = cloud(&mut lab, listen);
        lab.host("shared", "tgw", &["10.2.0.7", "fd00:2::7"]);
        for (node, vpc) in [("shared", "\"vpc=shared\""), ("app-b", "\"vpc=app\"")] {
            for (server, transport) in [
                ("169.254.169.253", "+notcp"),
                ("169.254.169.253", "+tcp"),
                ("fd00:ec2::253", "+notcp"),
                ("fd00:ec2::253", "+tcp"),
            ] {
                let reply = lab.dig(node, &format!("@{server} whoami.zonal TXT {transport}"));
                if node == "app-b" && server.contains('.') {
                    // The twin VPC has the same source address.
                    assert_eq!(reply.status, "REFUSED", "{reply}");
                    continue;
                }
                let line = reply.answer.join(" ");
                assert!(
                    line.contains(vpc) && line.contains("\"entry_point=-\""),
                    "{node} {server} {transport}\n{reply}"
                );
            }
        }
    }
}
