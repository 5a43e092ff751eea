//! Targets without a route: the kernel reports the error at once, and zonal answers at once.

use super::TENANTS;
use crate::harness::{ZONAL, can_run, lab::Lab, stub::Stub, wait_until};
use std::{fmt::Write, time::Duration};

/// Addresses that the kernel cannot send to.
const ROUTES: [(&str, &str); 5] = [
    ("203.0.113.1", ""),
    ("203.0.113.2", "unreachable"),
    ("203.0.113.3", "prohibit"),
    ("203.0.113.4", "blackhole"),
    ("2001:db8:ffff::1", ""),
];

/// Without a report of the kernel, a client would wait for 4.5 s.
const SOON: Duration = Duration::from_millis(2_000);

#[test]
fn a_target_without_a_route_fails_at_once() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("router");
    lab.host("server", "router", &["10.2.0.53"]);
    lab.run("server", &["ip", "route", "del", "default"]);
    for (address, kind) in ROUTES.iter().filter(|(_, kind)| !kind.is_empty()) {
        let output = lab.run("server", &["ip", "route", "add", kind, address]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut rules = String::new();
    let mut domains = Vec::new();
    for (at, (address, _)) in ROUTES.iter().enumerate() {
        for protocol in ["Do53", "DoT", "DoH", "DoQ"] {
            let domain = format!("{}.r{at}.example", protocol.to_lowercase());
            let more = if protocol == "Do53" { "port: 53".into() } else { format!("port: 853, protocol: {protocol}") };
            writeln!(
                rules,
                "  rr-{at}-{}: {{domain_name: {domain}, rule_type: FORWARD, vpc_ids: [vpc-a], \
                 target_ips: [{{ip: \"{address}\", {more}}}]}}",
                protocol.to_lowercase()
            )
            .unwrap();
            domains.push(domain);
        }
    }
    lab.scratch.write("zones/manifest.yaml", format!("{TENANTS}resolver_rules:\n{rules}"));
    let config =
        lab.scratch.write("zonal.yaml", "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\n");
    let mut server = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    wait_until("zonal answers", || {
        server.assert_alive();
        (lab.dig("server", "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
    });
    lab.inside("server", || {
        let stub = Stub::new("127.70.0.7", ("127.0.0.1", 53));
        for domain in &domains {
            for n in 0..2 {
                let said = stub.ask(&format!("n{n}.{domain}"));
                let text = format!("{domain}, after {:?}: {}{}", said.took, said.reply, said.why);
                assert_eq!(said.reply.status, "SERVFAIL", "{text}");
                assert!(said.took < SOON, "{text}");
                assert!(said.why.starts_with("rule rr-") && said.why.contains("reach"), "{text}");
            }
        }
    });
}
