//! An on-premises BIND that follows a delegation to the zones of VPCs, and minimises the names in
//! its queries (RFC 9156). Each zone has an NS record for the delegation endpoint, because BIND
//! asks the name servers in the zone's own NS records.

use crate::harness::{ZONAL, can_run, lab::Lab, wait_until};

const MANIFEST: &str = r#"
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.2.0.0/16]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16], vpc_ids: [vpc]}
resolver_endpoints:
  delegated: {direction: INBOUND_DELEGATION, vpc_id: vpc, ip_addresses: [{ip: 10.2.0.54}]}
private_hosted_zones:
  outer: {name: aws.corp.example, vpc_ids: [vpc], records: [
    {name: ns, type: A, ttl: 60, records: [10.2.0.54]},
    {name: www, type: A, ttl: 60, records: [10.2.0.80]},
    {name: one.two.three, type: A, ttl: 60, records: [10.2.0.81]},
    {name: "*.wild", type: A, ttl: 60, records: [10.2.0.82]}]}
  inner: {name: x.y.aws.corp.example, vpc_ids: [vpc], records: [
    {name: "@", type: NS, ttl: 60, records: [ns.aws.corp.example]},
    {name: www, type: A, ttl: 60, records: [10.2.0.83]},
    {name: a.b.c, type: A, ttl: 60, records: [10.2.0.84]}]}
  below-wildcard: {name: x.y.wild.aws.corp.example, vpc_ids: [vpc], records: [
    {name: "@", type: NS, ttl: 60, records: [ns.aws.corp.example]},
    {name: www, type: A, ttl: 60, records: [10.2.0.85]}]}
"#;

#[test]
fn strict_qname_minimisation_finds_nested_zones_at_a_delegation_endpoint() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "named"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("tgw");
    lab.router("edge");
    lab.link("tgw", &["10.2.0.0/16"], "edge", &["192.168.0.0/16"]);
    lab.host("server", "tgw", &["10.2.0.53", "10.2.0.54"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config =
        lab.scratch.write("zonal.yaml", "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\n");
    let mut server = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    wait_until("zonal answers", || {
        server.assert_alive();
        (lab.dig("server", "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
    });
    let soa = "@ 300 SOA ns.corp.example. hostmaster.corp.example. 1 3600 600 86400 60\n@ 300 NS ns.corp.example.\n";
    lab.scratch.write("root.zone", format!("{soa}ns.corp.example. 300 A 192.168.0.53\n"));
    lab.scratch.write("corp.zone", format!("{soa}ns 300 A 192.168.0.53\naws 300 NS ns.aws\nns.aws 300 A 10.2.0.54\n"));
    lab.host("dc", "edge", &["192.168.0.7"]);
    for (node, address, minimises) in [("strict", "192.168.0.53", "strict"), ("off", "192.168.0.54", "off")] {
        lab.host(node, "edge", &[address]);
        let config = format!(
            "options {{ directory \"{}\"; pid-file none; session-keyfile none; recursion yes; dnssec-validation no; \
             qname-minimization {minimises}; listen-on-v6 {{ none; }}; allow-query {{ any; }}; allow-recursion {{ any; }}; }};\ncontrols {{ }};\n\
             zone \".\" {{ type primary; file \"root.zone\"; }};\n\
             zone \"corp.example\" {{ type primary; file \"corp.zone\"; }};\n",
            lab.scratch.path().display()
        );
        let config = lab.scratch.write(&format!("{node}.conf"), config);
        let mut bind = lab.start(node, &["named", "-4", "-g", "-c", config.to_str().unwrap()]);
        wait_until("BIND answers", || {
            bind.assert_alive();
            (lab.dig("dc", &format!("@{address} www.aws.corp.example A +time=2")).status == "NOERROR").then_some(())
        });
        for (name, expected) in [
            ("www.aws.corp.example", "10.2.0.80"),
            ("one.two.three.aws.corp.example", "10.2.0.81"),
            ("any.wild.aws.corp.example", "10.2.0.82"),
            ("www.x.y.aws.corp.example", "10.2.0.83"),
            ("a.b.c.x.y.aws.corp.example", "10.2.0.84"),
            ("www.x.y.wild.aws.corp.example", "10.2.0.85"),
        ] {
            // In the order of the zone cuts, and again, when BIND has cached some of the names
            // between.
            for _ in 0..2 {
                let reply = lab.dig("dc", &format!("@{address} {name} A"));
                assert_eq!(reply.data("A"), [expected], "{minimises} {name}\n{reply}");
            }
        }
        for name in ["missing.aws.corp.example", "missing.x.y.aws.corp.example", "a.missing.aws.corp.example"] {
            let reply = lab.dig("dc", &format!("@{address} {name} A"));
            assert_eq!(reply.status, "NXDOMAIN", "{minimises} {name}\n{reply}");
        }
        for name in ["y.aws.corp.example", "two.three.aws.corp.example", "c.x.y.aws.corp.example"] {
            let reply = lab.dig("dc", &format!("@{address} {name} A"));
            assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", 0), "{minimises} {name}\n{reply}");
        }
    }
}
