//! The detectors of DNS Firewall in a running server: a real tunnel by iodine, the queries of
//! dnscat2, and names that algorithms make.

use crate::harness::{
    Scratch, Server, ZONAL, can_run,
    fake::{Fake, Say},
    lab::Lab,
    stub::Stub,
    wait_until,
};
use crate::query_log::lines;
use hickory_proto::op::ResponseCode;
use serde_json::Value;
use std::{
    net::UdpSocket,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const A: &str = "127.97.0.7";
const B: &str = "127.98.0.7";

/// A manifest with two VPCs. The clients of `a` have ALERT rules, those of `b` BLOCK rules.
fn manifest(port: u16) -> String {
    format!(
        "
vpcs:
  a: {{region: us-east-1, cidr_blocks: [127.97.0.0/16]}}
  b: {{region: us-east-1, cidr_blocks: [127.98.0.0/16]}}
resolver_rules:
  far: {{domain_name: '.', rule_type: FORWARD, vpc_ids: [a, b], target_ips: [{{ip: 127.0.0.1, port: {port}}}]}}
query_log_configs:
  log: {{vpc_ids: [a, b], destination: {{file: {{path: all.log}}}}}}
firewall_domain_lists:
  known: {{domains: ['*.scanner.com']}}
firewall_rule_groups:
  alerts:
    rules:
      - {{name: known, priority: 1, action: ALLOW, firewall_domain_list_id: known}}
      - {{name: tunnels, priority: 2, action: ALERT, dns_threat_protection: DNS_TUNNELING, confidence_threshold: MEDIUM}}
      - {{name: bots, priority: 3, action: ALERT, dns_threat_protection: DGA, confidence_threshold: LOW}}
    vpc_associations: [{{vpc_id: a, priority: 100}}]
  blocks:
    rules:
      - {{name: tunnels, priority: 2, action: BLOCK, block_response: NXDOMAIN, dns_threat_protection: DNS_TUNNELING,
         confidence_threshold: LOW}}
      - {{name: bots, priority: 3, action: BLOCK, dns_threat_protection: DGA, confidence_threshold: LOW}}
    vpc_associations: [{{vpc_id: b, priority: 100}}]
"
    )
}

/// A server whose upstream server says that the names of `com` do not exist, but for those of a scanner.
fn start() -> (Server, Scratch, Fake) {
    let fake = Fake::start("127.0.0.1:0", |asked| {
        let name = asked.name();
        vec![Say::Now(match name.trim_end_matches('.').ends_with(".com") && !name.contains("scanner") {
            true => asked.fails(ResponseCode::NXDomain),
            false => asked.address("192.0.2.7"),
        })]
    });
    let scratch = Scratch::new();
    scratch.write("manifest.yaml", manifest(fake.address.port()));
    let server = Server::start_with(scratch.path(), "query_log: {directory: logs}\n");
    (server, scratch, fake)
}

fn stub(server: &Server, source: &str) -> Stub {
    Stub::new(source, ("127.0.0.1", server.port))
}

/// Pseudo-random numbers: those of Knuth's MMIX.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn word(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.roll() as usize % alphabet.len()])).collect()
    }
}

/// The names by which dnscat2 sends a file: a header and up to 100 encrypted octets in hexadecimal digits, in labels of at
/// most 62 octets.
fn dnscat2(dice: &mut Dice, domain: &str, packets: usize) -> Vec<String> {
    let packet = |_| {
        let digits = dice.word(b"0123456789abcdef", 2 * (9 + 100));
        let labels: Vec<&str> = digits.as_bytes().chunks(62).map(|label| str::from_utf8(label).unwrap()).collect();
        format!("{}.{domain}", labels.join("."))
    };
    (0..packets).map(packet).collect()
}

/// The names of a domain generation algorithm such as that of cryptolocker: 12 to 15 letters.
fn generated(dice: &mut Dice, count: usize) -> Vec<String> {
    let name = |_| {
        let length = 12 + dice.roll() as usize % 4;
        format!("{}.com", dice.word(b"abcdefghijklmnopqrstuvwxy", length))
    };
    (0..count).map(name).collect()
}

/// The lines of the query log for a name, once there is one.
fn logged(server: &Server, name: &str) -> Value {
    let path = server.scratch.path().join("logs/all.log");
    wait_until("the query is logged", || {
        lines(&path).into_iter().rev().find(|line| line["query_name"] == format!("{name}."))
    })
}

/// The texts of members.
fn texts<const N: usize>(values: [&Value; N]) -> [&str; N] {
    values.map(|value| value.as_str().unwrap_or_default())
}

/// Runs a command of zonal for the server.
fn zonal(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new(ZONAL)
        .args(arguments)
        .args(["--config", "zonal.yaml"])
        .current_dir(server.scratch.path())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn finds_the_tunnel_of_dnscat2_and_reports_or_blocks_it() {
    let (server, _files, fake) = start();
    let mut dice = Dice(7);
    let names = dnscat2(&mut dice, "tunnel.example", 700);
    assert_eq!(stub(&server, A).volley(&names, 1).len(), 700);
    server.process.wait_for_log("DNS tunnel found");
    // The next name is reported, and answered.
    let said = stub(&server, A).ask("x1.tunnel.example");
    assert_eq!((&*said.reply.status, said.reply.data("A").len()), ("NOERROR", 1), "{}", said.reply);
    let line = logged(&server, "x1.tunnel.example");
    assert_eq!(texts([&line["firewall_rule_action"], &line["firewall_rule_group_id"]]), ["ALERT", "alerts"], "{line}");
    let found = &line["zonal"]["firewall"][0];
    let of_finding = texts([&found["rule"], &found["entry"], &found["dns_threat_protection"]]);
    assert_eq!(of_finding, ["tunnels", "tunnel.example.", "DNS_TUNNELING"], "{line}");
    assert_eq!(found["threshold"], 100_000, "{line}");
    let octets = found["octets_per_hour"].as_u64().unwrap();
    assert!((100_000..210_000).contains(&octets), "{octets}");
    let text = zonal(&server, &["firewall", "test", "x1.tunnel.example", "--from", A]);
    assert!(
        text.contains("rule tunnels: x1.tunnel.example. matches ")
            && text.contains("of the detector DNS_TUNNELING: ALERT"),
        "{text}"
    );
    assert!(
        text.contains("the detector DGA has no finding about the client") || text.contains("not reached"),
        "{text}"
    );
    // Another domain, and another VPC, are not concerned.
    assert_eq!(logged_after(&server, A, "www.other.example")["firewall_rule_action"], Value::Null);
    assert_eq!(logged_after(&server, B, "x2.tunnel.example")["firewall_rule_action"], Value::Null);
    // In the other VPC the rule blocks, at LOW.
    stub(&server, B).volley(&dnscat2(&mut dice, "tunnel.example", 100), 1);
    let before = fake.count_below("tunnel.example");
    let said = stub(&server, B).ask("x3.tunnel.example");
    assert_eq!(said.reply.status, "NXDOMAIN", "{}", said.reply);
    assert!(said.why.contains("rule tunnels of blocks, DNS_TUNNELING at LOW"), "{}", said.why);
    assert_eq!(fake.count_below("tunnel.example"), before, "no server is asked for a blocked name");
    for (metric, at_least) in [
        (["zonal_firewall_detector_entries{", "DNS_TUNNELING"], 2.0),
        (["zonal_firewall_findings_total{", "DNS_TUNNELING"], 2.0),
        (["zonal_firewall_matches_total{", "alerts"], 1.0),
    ] {
        assert!(server.metric(&metric) >= at_least, "{metric:?}");
    }
    // One finding is logged once for each threshold of a rule.
    assert_eq!(server.process.log().matches("DNS tunnel found").count(), 2);
}

/// Asks for a name, and returns its line of the query log.
fn logged_after(server: &Server, source: &str, name: &str) -> Value {
    stub(server, source).ask(name);
    logged(server, name)
}

#[test]
fn an_allow_rule_in_front_exempts_a_service() {
    let (server, _files, _fake) = start();
    let names = dnscat2(&mut Dice(8), "scanner.com", 700);
    stub(&server, A).volley(&names, 1);
    let line = logged_after(&server, A, "x.scanner.com");
    assert_eq!(
        texts([&line["firewall_rule_action"], &line["zonal"]["firewall"][0]["rule"]]),
        ["ALLOW", "known"],
        "{line}"
    );
    assert!(!server.process.log().contains("DNS tunnel found"), "the detector does not see the names");
}

#[test]
fn finds_a_client_that_asks_for_generated_names_in_vain() {
    let (server, _files, fake) = start();
    let mut dice = Dice(9);
    for (source, action, name) in [(A, "ALERT", "qwzxkvjpqhgf.com"), (B, "BLOCK", "zkqxwvjphqgf.com")] {
        let names = generated(&mut dice, 30);
        stub(&server, source).volley(&names, 1);
        let asked = fake.count_below(name);
        let said = stub(&server, source).ask(name);
        let line = logged(&server, name);
        let found = &line["zonal"]["firewall"][0];
        let of_finding = texts([&line["firewall_rule_action"], &found["rule"], &found["dns_threat_protection"]]);
        assert_eq!(of_finding, [action, "bots", "DGA"], "{line}");
        assert_eq!(found["threshold"], 10, "{line}");
        assert!(found["domains_per_hour"].as_u64().unwrap() >= 10, "{line}");
        assert_eq!(fake.count_below(name) > asked, action == "ALERT");
        assert_eq!(said.reply.status, if action == "ALERT" { "NXDOMAIN" } else { "NOERROR" });
        // The client's other names are answered as before, and so are the names of other clients.
        assert_eq!(logged_after(&server, source, "wikipedia.com")["firewall_rule_action"], Value::Null);
        let other = source.replace(".7", ".8");
        assert_eq!(logged_after(&server, &other, "kwzxvqjpfhgt.com")["firewall_rule_action"], Value::Null);
    }
    server.process.wait_for_log("generated names found");
}

#[test]
fn finds_a_real_tunnel_of_iodine() {
    if !can_run(&["ip", "iodine", "iodined", "sysctl", "ifconfig"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("router");
    lab.host("client", "router", &["10.1.0.7"]);
    lab.host("server", "router", &["10.1.0.53"]);
    lab.host("far", "router", &["203.0.113.5"]);
    lab.scratch.write(
        "zones/manifest.yaml",
        "
vpcs:
  a: {region: us-east-1, cidr_blocks: [10.1.0.0/16]}
resolver_rules:
  far: {domain_name: '.', rule_type: FORWARD, vpc_ids: [a], target_ips: [{ip: 203.0.113.5}]}
firewall_rule_groups:
  blocks:
    rules:
      - {name: tunnels, priority: 2, action: BLOCK, dns_threat_protection: DNS_TUNNELING, confidence_threshold: MEDIUM}
    vpc_associations: [{vpc_id: a, priority: 100}]
",
    );
    let config = lab.scratch.write(
        "zonal.yaml",
        "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n",
    );
    let zonal = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let _far = lab.start("far", &["iodined", "-f", "-c", "-P", "secret", "10.99.0.1", "t.tunnel.example"]);
    wait_until("zonal answers", || {
        (lab.dig("client", "@10.1.0.53 whoami.zonal TXT").status == "NOERROR").then_some(())
    });
    let tunnel =
        lab.start("client", &["iodine", "-f", "-r", "-m", "700", "-P", "secret", "10.1.0.53", "t.tunnel.example"]);
    tunnel.wait_for_log("Connection setup complete");
    assert!(!zonal.log().contains("DNS tunnel found"), "the tunnel has sent nothing yet");
    lab.inside("client", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut dice = Dice(11);
        let end = Instant::now() + Duration::from_secs(60);
        while !zonal.log().contains("DNS tunnel found") && Instant::now() < end {
            // iodine compresses: these octets do not shrink.
            let octets: Vec<u8> = (0..900).map(|_| dice.roll() as u8).collect();
            let _ = socket.send_to(&octets, "10.99.0.1:9");
            sleep(Duration::from_millis(30));
        }
    });
    zonal.wait_for_log("DNS tunnel found");
    let reply = lab.dig("client", "@10.1.0.53 x.t.tunnel.example");
    assert_eq!((&*reply.status, reply.data("A").len()), ("NOERROR", 0), "{reply}");
    assert_eq!(reply.ede, [15], "{reply}");
}
