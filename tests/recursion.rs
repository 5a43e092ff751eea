//! The internet resolver: recursion from a private root, and forwarding to the servers of a
//! `resolv.conf`.

mod answers;
mod by_vpc;
mod explained;
mod far;
mod forwarded;
mod large;
mod name_servers;
mod negative_trust_anchors;
mod rollover;
mod servers;
mod validators;

use crate::harness::{Process, ZONAL, lab::Lab, wait_until};
use std::{fs, process::Command};

/// The servers of the root, of `test.` and of the zones below it, and an address without a server.
const ROOT: &str = "198.18.0.1";
const TLD: &str = "198.18.1.1";
const LEAF: &str = "198.18.2.1";
const DEAD: &str = "198.18.3.1";

const MANIFEST: &str = r#"
vpcs:
  vpc-app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16]
    resolver_addresses: [10.1.0.2]
# The Internet of this test has the domain, which is not asked for otherwise.
resolver_rules:
  test: {domain_name: test, rule_type: RECURSIVE, vpc_ids: [vpc-app]}
private_hosted_zones:
  Z0CORP:
    name: corp.signed.test
    vpc_ids: [vpc-app]
    records:
      - {name: db, type: A, ttl: 60, records: [10.1.0.99]}
  Z0LOCAL:
    name: corp.internal
    vpc_ids: [vpc-app]
    records:
      - {name: db, type: A, ttl: 60, records: [10.1.0.98]}
      - {name: back, type: CNAME, ttl: 60, records: [back.signed.test]}
"#;

/// The records of every zone except the root.
const COMMON: &str = "www 300 A 192.0.2.1\nwww 300 AAAA 2001:db8::1\n*.wild 300 A 192.0.2.2\na.b.ent 300 A 192.0.2.3\n\
                      alias 300 CNAME www\nfar 300 CNAME www.plain.test.\nfarther 300 CNAME alias.nsec3.test.\n\
                      private 300 CNAME db.corp.internal.\nbelow 300 CNAME db.corp.signed.test.\n\
                      nowhere 300 CNAME none.plain.test.\nhere 300 CNAME none\n*.wildcname 300 CNAME www\n\
                      tobogus 300 CNAME www.bogus.test.\nodd 300 TYPE65280 \\# 3 010203\nlame 300 NS ns.lame\n\
                      ns.lame 300 A 198.18.1.1\ndname 300 DNAME sub.www2\nx.sub.www2 300 A 192.0.2.4\n\
                      itself 300 CNAME itself\nloop1 300 CNAME loop2\nloop2 300 CNAME loop1\n\
                      across1 300 CNAME across2.plain.test.\nacross2 300 CNAME across1.signed.test.\n\
                      round 300 DNAME round\ndeeper 300 DNAME a.deeper\n\
                      back 300 CNAME back.corp.internal.\n";

/// The zones of the test, plain or signed.
struct Zones<'l> {
    lab: &'l Lab,
    /// The name, the file and the server of each.
    all: Vec<(String, String, &'static str)>,
}

impl Zones<'_> {
    fn run(&self, command: &[&str]) -> String {
        let output =
            Command::new(command[0]).args(&command[1..]).current_dir(self.lab.scratch.path()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Adds an unsigned zone.
    fn plain(&mut self, zone: &str, server: &'static str, records: &str) {
        let apex = if zone == "." { "." } else { &format!("{zone}.") };
        let ns = if zone == "." { "ns.root." } else { &format!("ns.{zone}.") };
        let text = format!(
            "$ORIGIN {apex}\n@ 300 SOA {ns} h.test. 1 7200 900 1209600 5\n@ 300 NS {ns}\n{}{records}",
            if zone == "." { format!("{ns} 300 A {ROOT}\n") } else { format!("{ns} 300 A {server}\n") },
        );
        let file = format!("{}.zone", if zone == "." { "root" } else { zone });
        self.lab.scratch.write(&file, text);
        self.all.push((zone.into(), file, server));
    }

    /// Adds a signed zone. Returns its DS record and its DNSKEY record.
    fn signed(&mut self, zone: &str, server: &'static str, records: &str, options: &[&str]) -> (String, String) {
        self.plain(zone, server, records);
        let (_, file, _) = self.all.pop().unwrap();
        let key = self.run(&["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-n", "ZONE", zone]);
        let key = key.trim();
        let mut sign = vec!["dnssec-signzone", "-q", "-z", "-P", "-S", "-o", zone, "-f"];
        let signed = format!("{file}.signed");
        sign.push(&signed);
        sign.extend(options);
        sign.push(&file);
        self.run(&sign);
        let ds = self.run(&["dnssec-dsfromkey", "-2", key]);
        let dnskey = fs::read_to_string(self.lab.scratch.path().join(format!("{key}.key"))).unwrap();
        let dnskey = dnskey.lines().find(|line| line.contains(" DNSKEY ")).unwrap().to_string();
        self.all.push((zone.into(), signed, server));
        (ds, dnskey)
    }

    /// Starts the servers.
    fn serve(&self, hosts: &[(&str, &'static str)]) -> Vec<Process> {
        let mut processes = Vec::new();
        for (host, address) in hosts {
            let dir = self.lab.scratch.path().display();
            let mut config = format!(
                "server:\n ip-address: {address}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{dir}\"\n database: \"\"\n \
                 pidfile: \"\"\n xfrdfile: \"{dir}/{host}.xfrd\"\n zonelistfile: \"{dir}/{host}.list\"\n server-count: 1\n \
                 rrl-ratelimit: 0\nremote-control:\n control-enable: no\n"
            );
            for (zone, file, _) in self.all.iter().filter(|(_, _, server)| server == address) {
                config += &format!("zone:\n name: \"{zone}\"\n zonefile: \"{file}\"\n");
            }
            let config = self.lab.scratch.write(&format!("{host}.nsd.conf"), config).display().to_string();
            processes.push(self.lab.start(host, &["nsd", "-d", "-c", &config]));
        }
        wait_until("the servers answer", || {
            let answers = |(zone, _, server): &(String, String, &str)| {
                self.lab.dig("app", &format!("@{server} {zone} SOA +time=1")).status == "NOERROR"
            };
            self.all.iter().all(answers).then_some(())
        });
        processes
    }
}

/// Creates the root, `test.`, and zones of all kinds below it. Returns the root's key.
fn internet(lab: &Lab) -> (Vec<Process>, String) {
    let mut zones = Zones { lab, all: Vec::new() };
    let half = format!("@ 300 NS dead\ndead 300 A {DEAD}\n{COMMON}");
    let mut parent = format!(
        "plain 300 NS ns.plain\nns.plain 300 A {LEAF}\nsigned 300 NS ns.signed\nns.signed 300 A {LEAF}\n\
         optout 300 NS ns.optout\nns.optout 300 A {LEAF}\nnsec3 300 NS ns.nsec3\nns.nsec3 300 A {LEAF}\nbogus 300 NS ns.bogus\nns.bogus 300 A {LEAF}\n\
         expired 300 NS ns.expired\nns.expired 300 A {LEAF}\nhalf 300 NS ns.half\nhalf 300 NS dead.half\n\
         lamed 300 NS tld.lamed\nlamed 300 NS ns.lamed\ntld.lamed 300 A {TLD}\nns.lamed 300 A {LEAF}\nns.half 300 A {LEAF}\ndead.half 300 A {DEAD}\ndead 300 NS ns.dead\nns.dead 300 A {DEAD}\n"
    );
    zones.plain("plain.test", LEAF, COMMON);
    zones.plain("half.test", LEAF, &half);
    zones.plain("lamed.test", LEAF, &format!("@ 300 NS tld\ntld 300 A {TLD}\n{COMMON}"));
    parent += &zones.signed("signed.test", LEAF, COMMON, &[]).0;
    parent += &zones.signed("nsec3.test", LEAF, COMMON, &["-3", "-"]).0;
    parent += &zones.signed("optout.test", LEAF, COMMON, &["-3", "-", "-A"]).0;
    parent += &zones.signed("expired.test", LEAF, COMMON, &["-s", "20200101000000", "-e", "20200201000000"]).0;
    parent += &zones.signed("bogus.test", LEAF, COMMON, &[]).0;
    let (_, file, _) = zones.all.last().unwrap();
    let text = fs::read_to_string(lab.scratch.path().join(file)).unwrap();
    assert!(text.contains("192.0.2.1\n"), "{text}");
    lab.scratch.write(file, text.replace("192.0.2.1\n", "192.0.2.66\n"));
    let (ds, _) = zones.signed("test", TLD, &parent, &[]);
    let (_, key) = zones.signed(".", ROOT, &format!("test. 300 NS ns.test.\nns.test. 300 A {TLD}\n{ds}"), &[]);
    let processes = zones.serve(&[("root", ROOT), ("tld", TLD), ("leaf", LEAF)]);
    (processes, key)
}

/// Starts zonal in the VPC, with this internet resolver.
fn zonal(lab: &Lab, internet_resolver: &str) -> Process {
    lab.scratch.write("zones/zones.yaml", MANIFEST);
    let text = format!(
        "listen: [{{address: \"10.1.0.2:53\"}}]\ncontrol_plane: {{directory: zones}}\n\
         internet_resolver: {internet_resolver}\n"
    );
    let config = lab.scratch.write("zonal.yaml", text).display().to_string();
    let mut process = lab.start("ns", &[ZONAL, "serve", "--config", &config]);
    wait_until("zonal is ready", || {
        process.assert_alive();
        (lab.dig("app", "@10.1.0.2 whoami.zonal TXT").status == "NOERROR").then_some(())
    });
    process
}

/// Starts zonal with recursion from the root that has this key. `more` has further members of `internet_resolver`.
fn validating(lab: &Lab, key: &str, more: &str) -> Process {
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    lab.scratch.write("root.key", key);
    let members = "recursive: true, root_hints: root.hints, trust_anchor: root.key, allow_servers: [198.18.0.0/15]";
    zonal(lab, &format!("{{{members}{more}}}"))
}

fn hosts(lab: &mut Lab) {
    lab.router("net");
    for (host, address) in [("root", ROOT), ("tld", TLD), ("leaf", LEAF), ("ns", "10.1.0.2"), ("app", "10.1.0.7")] {
        lab.host(host, "net", &[address]);
    }
    // Queries to this address are dropped silently.
    lab.cut("net", &[DEAD], true);
}

const PROGRAMS: [&str; 8] =
    ["ip", "dig", "setpriv", "sysctl", "nsd", "dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey"];
