//! Entries of response policy zones for name servers, beside BIND and PowerDNS Recursor: one delegation tree, one policy zone, and
//! the same queries.

use super::{PROGRAMS, ROOT, TLD, Zones};
use crate::harness::{Process, ZONAL, can_run, lab::Lab, wait_until};
use std::fmt::Write as _;

const EVIL: &str = "198.18.2.1";
const FINE: &str = "198.18.2.2";
const LISTED: &str = "198.18.2.3";
/// The addresses of zonal, BIND and PowerDNS Recursor.
const RESOLVERS: [(&str, &str); 3] = [("zonal", "10.1.0.2"), ("BIND", "10.2.0.2"), ("PowerDNS", "10.3.0.2")];

/// The zones below `test.`: their name servers, with the addresses.
const ZONES: [(&str, &str, &str); 9] = [
    ("evil", "ns.evil.test", EVIL),
    ("fine", "ns.fine.test", FINE),
    // Both are served by servers with names that the list has.
    ("hosted", "ns.evil.test", EVIL),
    ("wild", "ns7.dns.wild.test", FINE),
    ("nodata", "ns.nodata.test", FINE),
    ("data", "ns.data.test", FINE),
    ("listed", "ns.listed.test", LISTED),
    ("passed", "ns.passed.test", LISTED),
    // A name below has servers of its own, which are not listed. Those of the zone above are.
    ("above", "ns.above.test", LISTED),
];

const POLICY: &str = "\
ns.evil.test.rpz-nsdname CNAME .
*.dns.wild.test.rpz-nsdname CNAME .
ns.nodata.test.rpz-nsdname CNAME *.
ns.data.test.rpz-nsdname A 192.0.2.55
32.3.2.18.198.rpz-nsip CNAME .
allowed.evil.test CNAME rpz-passthru.
allowed.listed.test CNAME rpz-passthru.
blocked.fine.test CNAME .
32.77.2.0.192.rpz-ip CNAME *.
ns.passed.test.rpz-nsdname CNAME rpz-passthru.
";

/// The queries, and the status and data that all programs answer with.
const QUERIES: [(&str, &str); 19] = [
    ("www.fine.test", "NOERROR 192.0.2.1"),
    ("none.fine.test", "NXDOMAIN"),
    ("blocked.fine.test", "NXDOMAIN"),
    ("www.evil.test", "NXDOMAIN"),
    ("none.evil.test", "NXDOMAIN"),
    ("www.hosted.test", "NXDOMAIN"),
    ("allowed.evil.test", "NOERROR 192.0.2.1"),
    ("www.wild.test", "NXDOMAIN"),
    ("www.nodata.test", "NOERROR"),
    ("www.data.test", "NOERROR 192.0.2.55"),
    ("www.listed.test", "NXDOMAIN"),
    ("allowed.listed.test", "NOERROR 192.0.2.1"),
    // An entry for the name of a server is before one for its address.
    ("www.passed.test", "NOERROR 192.0.2.1"),
    ("ip.fine.test", "NOERROR"),
    // An entry for an address in the answer is before one for a name server. See `PRECEDENCE`.
    ("ip.evil.test", "NOERROR"),
    ("www.sub.above.test", "NXDOMAIN"),
    ("www.test", "NOERROR 192.0.2.1"),
    // The name servers of a target count too.
    ("toevil.fine.test", "NXDOMAIN"),
    ("tofine.fine.test", "NOERROR 192.0.2.1"),
];
/// The query that PowerDNS answers otherwise: it does not ask a listed server, and so has no address in an answer.
const PRECEDENCE: (&str, &str) = ("ip.evil.test", "NXDOMAIN");

fn internet(lab: &Lab) -> Vec<Process> {
    let mut zones = Zones { lab, all: Vec::new() };
    let mut delegations = String::from("www 300 A 192.0.2.1\n");
    for (zone, server, address) in ZONES {
        let _ = writeln!(delegations, "{zone} 300 NS {server}.");
        if server.ends_with(&format!(".{zone}.test")) {
            let _ = writeln!(delegations, "{server}. 300 A {address}");
        }
        let file = format!("{zone}.test.zone");
        let glue = if server.ends_with(&format!(".{zone}.test")) {
            format!("{server}. 300 A {address}\n")
        } else {
            String::new()
        };
        let sub = if zone == "above" { "sub 300 NS ns.fine.test.\n" } else { "" };
        lab.scratch.write(
            &file,
            format!(
                "$ORIGIN {zone}.test.\n@ 300 SOA {server}. h.test. 1 7200 900 1209600 5\n@ 300 NS {server}.\n{glue}{sub}\
                 www 300 A 192.0.2.1\nallowed 300 A 192.0.2.1\nip 300 A 192.0.2.77\nblocked 300 A 192.0.2.1\n\
                 toevil 300 CNAME www.evil.test.\ntofine 300 CNAME www.fine.test.\n"
            ),
        );
        zones.all.push((format!("{zone}.test"), file, address));
    }
    let sub = "$ORIGIN sub.above.test.\n@ 300 SOA ns.fine.test. h.test. 1 7200 900 1209600 5\n@ 300 NS ns.fine.test.\n\
               www 300 A 192.0.2.1\n";
    lab.scratch.write("sub.above.test.zone", sub);
    zones.all.push(("sub.above.test".into(), "sub.above.test.zone".into(), FINE));
    zones.plain("test", TLD, &delegations);
    zones.plain(".", ROOT, &format!("test. 300 NS ns.test.\nns.test. 300 A {TLD}\n"));
    zones.serve(&[("root", ROOT), ("tld", TLD), ("evil", EVIL), ("fine", FINE), ("listed", LISTED)])
}

/// Starts the resolvers with the policy zone.
fn resolvers(lab: &Lab) -> Vec<Process> {
    let directory = lab.scratch.path().display().to_string();
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    let policy = format!("$ORIGIN rpz.\n$TTL 60\n@ SOA ns.rpz. h.rpz. 1 3600 600 86400 60\n@ NS localhost.\n{POLICY}");
    lab.scratch.write("zones/rpz.zone", &policy);
    lab.scratch.write("rpz.zone", &policy);
    lab.scratch.write(
        "zones/m.yaml",
        "vpcs: {a: {region: us-east-1, cidr_blocks: [10.1.0.0/16], resolver_addresses: [10.1.0.2]}}\n\
         resolver_rules: {test: {domain_name: test, rule_type: RECURSIVE, vpc_ids: [a]}}\n\
         firewall_domain_lists: {l: {source: {file: rpz.zone, format: rpz, zone: rpz}}}\n\
         firewall_rule_groups: {g: {rules: [{name: r, priority: 1, action: BLOCK, firewall_domain_list_id: l}], \
         vpc_associations: [{vpc_id: a, priority: 1}]}}\n",
    );
    let config = lab.scratch.write(
        "zonal.yaml",
        "listen: [{address: \"10.1.0.2:53\"}]\ncontrol_plane: {directory: zones}\n\
         internet_resolver: {recursive: true, root_hints: root.hints, dnssec: off, allow_servers: [198.18.0.0/15]}\n",
    );
    let zonal = lab.start("zonal", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let config = lab.scratch.write(
        "named.conf",
        format!(
            "options {{ directory \"{directory}\"; pid-file none; session-keyfile none; listen-on {{ 10.2.0.2; }}; \
             listen-on-v6 {{ none; }}; recursion yes; allow-query {{ any; }}; allow-recursion {{ any; }}; \
             dnssec-validation no; response-policy {{ zone \"rpz\"; }} break-dnssec yes nsip-wait-recurse yes \
             nsdname-wait-recurse yes; }};\ncontrols {{ }};\nzone \".\" {{ type hint; file \"root.hints\"; }};\n\
             zone \"rpz\" {{ type primary; file \"rpz.zone\"; }};\n"
        ),
    );
    let bind = lab.start("BIND", &["named", "-g", "-n", "1", "-c", config.to_str().unwrap()]);
    lab.scratch.write("pdns/rpz.lua", format!("rpzFile('{directory}/rpz.zone', {{policyName='rpz'}})\n"));
    lab.scratch.write(
        "pdns/recursor.conf",
        format!(
            "local-address=10.3.0.2\nhint-file={directory}/root.hints\ndnssec=off\n\
             lua-config-file={directory}/pdns/rpz.lua\nsecurity-poll-suffix=\ndaemon=no\ndisable-syslog=yes\n\
             allow-from=10.0.0.0/8\ndont-query=\nsocket-dir={directory}/pdns\nthreads=1\nserve-rfc1918=no\n\
             qname-minimization=no\n"
        ),
    );
    let powerdns = lab.start("PowerDNS", &["pdns_recursor", &format!("--config-dir={directory}/pdns")]);
    vec![zonal, bind, powerdns]
}

#[test]
fn name_servers_match_entries_as_in_bind_and_powerdns() {
    if !can_run(&PROGRAMS) || !can_run(&["named", "pdns_recursor"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("net");
    let servers = [("root", ROOT), ("tld", TLD), ("evil", EVIL), ("fine", FINE), ("listed", LISTED)];
    for (host, address) in servers.into_iter().chain(RESOLVERS).chain([("app", "10.1.0.7")]) {
        lab.host(host, "net", &[address]);
    }
    let _internet = internet(&lab);
    let processes = resolvers(&lab);
    let ask = |resolver: &str, name: &str| {
        let reply = lab.dig("app", &format!("@{resolver} {name} A +time=5"));
        // BIND keeps the CNAME record in front of a target that does not exist.
        let data = if reply.status == "NOERROR" { reply.data("A") } else { Vec::new() };
        [&[reply.status.as_str()][..], &data].concat().join(" ")
    };
    for (name, address) in RESOLVERS {
        wait_until(&format!("{name} answers"), || (ask(address, "www.test") == "NOERROR 192.0.2.1").then_some(()));
    }
    let mut wrong = String::new();
    // The second time, the answers come from caches.
    for round in 0..2 {
        for (name, expected) in QUERIES {
            for (program, address) in RESOLVERS {
                let got = ask(address, name);
                let is_other = program == "PowerDNS" && name == PRECEDENCE.0;
                let expected = if is_other { PRECEDENCE.1 } else { expected };
                if got != expected {
                    let _ = writeln!(wrong, "round {round}, {program}: {name}: expected {expected}, got {got}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{}", processes[0].log());
}
