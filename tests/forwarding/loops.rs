//! Forwarding loops: servers that forward a query to each other until one of them stops.

use super::Resolver;
use crate::harness::{Process, Scratch, free_port, stub::Stub, wait_until};
use std::time::Duration;

/// All clients on loopback are in the VPC.
fn manifest(domain: &str, port: u16) -> String {
    format!(
        "vpcs:
  vpc: {{region: us-east-1, cidr_blocks: [127.0.0.0/8]}}
private_hosted_zones:
  Z1: {{name: own.test, vpc_ids: [vpc], records: [{{name: www, type: A, ttl: 60, records: [10.0.0.1]}}]}}
resolver_rules:
  rr: {{domain_name: {domain}, rule_type: FORWARD, vpc_ids: [vpc], target_ips: [{{ip: 127.0.0.1, port: {port}}}]}}
"
    )
}

/// A query into the loop fails soon with a reason, and causes few queries, as counted by `count`.
fn ends(stub: &Stub, count: impl Fn() -> f64, what: &str) {
    for (n, way) in ["", " +tcp", " +dnssec", " +cd"].into_iter().enumerate() {
        let before = count();
        let said = stub.ask(&format!("n{n}.loop.example A{way}"));
        let text = format!("{what}{way}, after {:?}: {}{}", said.took, said.reply, said.why);
        assert_eq!(said.reply.status, "SERVFAIL", "{text}");
        assert!(!said.reply.ede.is_empty() && !said.why.is_empty(), "{text}");
        assert!(said.took < Duration::from_secs(5), "{text}");
        // The loop ends with the answer.
        wait_until("the loop is still", || {
            let now = count();
            std::thread::sleep(Duration::from_millis(300));
            (count() - now == 0.0).then_some(())
        });
        let questions = count() - before;
        assert!(questions <= 60.0, "{text}: {questions} answers");
    }
    assert_eq!(stub.ask("www.own.test").reply.data("A"), ["10.0.0.1"]);
}

#[test]
fn detects_a_target_that_is_the_node_itself() {
    let directory = Scratch::new();
    directory.write("manifest.yaml", manifest("other.example", 9));
    let resolver = Resolver::serve(&manifest("other.example", 9));
    let port = resolver.server.port;
    let file = resolver._directory.write("manifest.yaml", manifest("loop.example", port));
    resolver.server.wait_for_metric(&["zonal_generation"], 2.0);
    assert!(file.exists());
    let answers = || resolver.server.metric(&["zonal_answers_total"]);
    ends(&Stub::new("127.0.0.1", ("127.0.0.1", port)), answers, "itself");
}

#[test]
fn detects_two_nodes_that_forward_to_each_other() {
    let second = Resolver::serve(&manifest("other.example", 9));
    let first = Resolver::serve(&manifest("loop.example", second.server.port));
    second._directory.write("manifest.yaml", manifest("loop.example", first.server.port));
    second.server.wait_for_metric(&["zonal_generation"], 2.0);
    let answers = || first.server.metric(&["zonal_answers_total"]) + second.server.metric(&["zonal_answers_total"]);
    ends(&Stub::new("127.0.0.1", ("127.0.0.1", first.server.port)), answers, "one another");
}

/// A loop through another vendor's forwarder, which does not detect loops.
#[test]
fn detects_a_loop_through_another_forwarder() {
    let scratch = Scratch::new();
    let port = free_port();
    let resolver = Resolver::serve(&manifest("loop.example", port));
    let own = resolver.server.port;
    let config = format!(
        "listen-address=127.0.0.1\nport={port}\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\npid-file=\n\
         server=127.0.0.1#{own}\n"
    );
    let config = scratch.write("dnsmasq.conf", config).display().to_string();
    let mut dnsmasq =
        Process::start(&["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C", &config], &scratch, "dnsmasq");
    wait_until("dnsmasq answers", || {
        dnsmasq.assert_alive();
        (Stub::new("127.0.0.1", ("127.0.0.1", port)).ask("www.own.test").reply.status == "NOERROR").then_some(())
    });
    let answers = || resolver.server.metric(&["zonal_answers_total"]);
    ends(&Stub::new("127.0.0.1", ("127.0.0.1", own)), answers, "through dnsmasq");
    // The same loop, entered at the other end.
    ends_somehow(&Stub::new("127.0.0.1", ("127.0.0.1", port)), answers);
}

fn ends_somehow(stub: &Stub, count: impl Fn() -> f64) {
    let before = count();
    let said = stub.ask("end.loop.example");
    assert_ne!(said.reply.status, "NOERROR", "{}", said.reply);
    assert!(count() - before <= 60.0, "{} answers", count() - before);
}
