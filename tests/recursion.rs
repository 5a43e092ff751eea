//! The internet resolver: recursion through a root of our own, and the servers of a `resolv.conf`.

use crate::harness::{Process, ZONAL, can_run, lab::Lab, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path, process::Command};

/// The servers of the root, of `test.` and of the zones below it; and one that is not there.
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
"#;

/// What every zone has, but for the root.
const COMMON: &str = "www 300 A 192.0.2.1\nwww 300 AAAA 2001:db8::1\n*.wild 300 A 192.0.2.2\na.b.ent 300 A 192.0.2.3\n\
                      alias 300 CNAME www\nfar 300 CNAME www.plain.test.\nfarther 300 CNAME alias.nsec3.test.\n\
                      private 300 CNAME db.corp.internal.\nbelow 300 CNAME db.corp.signed.test.\n\
                      nowhere 300 CNAME none.plain.test.\nhere 300 CNAME none\n*.wildcname 300 CNAME www\n\
                      tobogus 300 CNAME www.bogus.test.\nodd 300 TYPE65280 \\# 3 010203\nlame 300 NS ns.lame\n\
                      ns.lame 300 A 198.18.1.1\ndname 300 DNAME sub.www2\nx.sub.www2 300 A 192.0.2.4\n";

/// A zone made and signed.
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

    /// A zone as it is.
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

    /// A signed zone. Returns its DS record and its DNSKEY record.
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

/// Root, `test.`, and below it zones of all kinds. Returns the root's key.
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

/// A server in the VPC, with this internet resolver.
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

fn hosts(lab: &mut Lab) {
    lab.router("net");
    for (host, address) in [("root", ROOT), ("tld", TLD), ("leaf", LEAF), ("ns", "10.1.0.2"), ("app", "10.1.0.7")] {
        lab.host(host, "net", &[address]);
    }
    // Queries to it are lost, and nobody says so.
    lab.cut("net", &[DEAD], true);
}

const PROGRAMS: [&str; 8] =
    ["ip", "dig", "setpriv", "sysctl", "nsd", "dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey"];

#[test]
fn through_a_root_of_our_own() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (servers, key) = internet(&lab);
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    lab.scratch.write("root.key", key);
    let zonal = zonal(
        &lab,
        "{recursive: true, root_hints: root.hints, trust_anchor: root.key, allow_servers: [198.18.0.0/15]}",
    );
    let mut wrong = String::new();
    // Query, status, whether AD is set, extended errors, answer.
    /// The query, the status, AD, extended errors, and the answer.
    type Case = (&'static str, &'static str, bool, &'static [u16], &'static [&'static str]);
    let cases: &[Case] = &[
        ("www.plain.test", "NOERROR", false, &[], &["www.plain.test. A 192.0.2.1"]),
        ("www.plain.test +dnssec", "NOERROR", false, &[], &["www.plain.test. A 192.0.2.1"]),
        ("www.signed.test +adflag", "NOERROR", true, &[], &["www.signed.test. A 192.0.2.1"]),
        ("www.signed.test +noadflag", "NOERROR", false, &[], &["www.signed.test. A 192.0.2.1"]),
        (
            "www.signed.test +noadflag +dnssec",
            "NOERROR",
            true,
            &[],
            &["www.signed.test. A 192.0.2.1", "www.signed.test. RRSIG"],
        ),
        ("www.signed.test AAAA", "NOERROR", true, &[], &["www.signed.test. AAAA 2001:db8::1"]),
        ("signed.test DNSKEY", "NOERROR", true, &[], &["signed.test. DNSKEY"]),
        ("signed.test DS", "NOERROR", true, &[], &["signed.test. DS"]),
        ("signed.test NS", "NOERROR", true, &[], &["signed.test. NS ns.signed.test."]),
        ("signed.test SOA", "NOERROR", true, &[], &["signed.test. SOA"]),
        ("odd.signed.test TYPE65280", "NOERROR", true, &[], &["odd.signed.test. TYPE65280 \\# 3 010203"]),
        ("none.signed.test", "NXDOMAIN", true, &[], &[]),
        ("www.signed.test MX", "NOERROR", true, &[], &[]),
        ("b.ent.signed.test", "NOERROR", true, &[], &[]),
        ("a.b.ent.signed.test", "NOERROR", true, &[], &["a.b.ent.signed.test. A 192.0.2.3"]),
        ("x.wild.signed.test", "NOERROR", true, &[], &["x.wild.signed.test. A 192.0.2.2"]),
        (
            "x.y.wild.signed.test +dnssec",
            "NOERROR",
            true,
            &[],
            &["x.y.wild.signed.test. A 192.0.2.2", "x.y.wild.signed.test. RRSIG"],
        ),
        ("x.wild.signed.test TXT", "NOERROR", true, &[], &[]),
        ("none.nsec3.test", "NXDOMAIN", true, &[], &[]),
        ("www.nsec3.test MX", "NOERROR", true, &[], &[]),
        ("x.wild.nsec3.test", "NOERROR", true, &[], &["x.wild.nsec3.test. A 192.0.2.2"]),
        // What proves a wildcard comes behind what is made from it, and what that leads to.
        (
            "x.wildcname.nsec3.test +dnssec",
            "NOERROR",
            true,
            &[],
            &[
                "www.nsec3.test. A 192.0.2.1",
                "www.nsec3.test. RRSIG",
                "x.wildcname.nsec3.test. CNAME www.nsec3.test.",
                "x.wildcname.nsec3.test. RRSIG",
            ],
        ),
        (
            "x.wildcname.signed.test +dnssec",
            "NOERROR",
            true,
            &[],
            &[
                "www.signed.test. A 192.0.2.1",
                "www.signed.test. RRSIG",
                "x.wildcname.signed.test. CNAME www.signed.test.",
                "x.wildcname.signed.test. RRSIG",
            ],
        ),
        // What is in an opt-out span may be there without being signed.
        ("www.optout.test", "NOERROR", true, &[], &["www.optout.test. A 192.0.2.1"]),
        ("none.optout.test", "NXDOMAIN", false, &[], &[]),
        (
            "odd.signed.test ANY +tcp",
            "NOERROR",
            true,
            &[],
            &["odd.signed.test. TYPE65280 \\# 3 010203", "odd.signed.test. RRSIG"],
        ),
        (
            "odd.nsec3.test ANY +tcp",
            "NOERROR",
            true,
            &[],
            &["odd.nsec3.test. TYPE65280 \\# 3 010203", "odd.nsec3.test. RRSIG"],
        ),
        ("none.signed.test ANY +tcp", "NXDOMAIN", true, &[], &[]),
        (
            "odd.bogus.test ANY +tcp",
            "NOERROR",
            true,
            &[],
            &["odd.bogus.test. TYPE65280 \\# 3 010203", "odd.bogus.test. RRSIG"],
        ),
        ("www.bogus.test ANY +tcp", "SERVFAIL", false, &[6], &[]),
        ("none.plain.test", "NXDOMAIN", false, &[], &[]),
        ("www.plain.test MX", "NOERROR", false, &[], &[]),
        ("nonesuch", "NXDOMAIN", true, &[], &[]),
        ("plain.test DS", "NOERROR", true, &[], &[]),
        (
            "alias.signed.test",
            "NOERROR",
            true,
            &[],
            &["alias.signed.test. CNAME www.signed.test.", "www.signed.test. A 192.0.2.1"],
        ),
        ("alias.signed.test CNAME", "NOERROR", true, &[], &["alias.signed.test. CNAME www.signed.test."]),
        (
            "x.wildcname.signed.test",
            "NOERROR",
            true,
            &[],
            &["www.signed.test. A 192.0.2.1", "x.wildcname.signed.test. CNAME www.signed.test."],
        ),
        (
            "far.signed.test",
            "NOERROR",
            false,
            &[],
            &["far.signed.test. CNAME www.plain.test.", "www.plain.test. A 192.0.2.1"],
        ),
        (
            "farther.signed.test",
            "NOERROR",
            true,
            &[],
            &[
                "alias.nsec3.test. CNAME www.nsec3.test.",
                "farther.signed.test. CNAME alias.nsec3.test.",
                "www.nsec3.test. A 192.0.2.1",
            ],
        ),
        ("nowhere.signed.test", "NXDOMAIN", false, &[], &["nowhere.signed.test. CNAME none.plain.test."]),
        ("here.signed.test", "NXDOMAIN", true, &[], &["here.signed.test. CNAME none.signed.test."]),
        ("here.plain.test", "NXDOMAIN", false, &[], &["here.plain.test. CNAME none.plain.test."]),
        (
            "x.dname.signed.test",
            "NOERROR",
            true,
            &[],
            &[
                "dname.signed.test. DNAME sub.www2.signed.test.",
                "x.dname.signed.test. CNAME x.sub.www2.signed.test.",
                "x.sub.www2.signed.test. A 192.0.2.4",
            ],
        ),
        (
            "y.dname.signed.test CNAME",
            "NOERROR",
            true,
            &[],
            &["dname.signed.test. DNAME sub.www2.signed.test.", "y.dname.signed.test. CNAME y.sub.www2.signed.test."],
        ),
        (
            "z.dname.signed.test ANY",
            "NOERROR",
            true,
            &[],
            &["dname.signed.test. DNAME sub.www2.signed.test.", "z.dname.signed.test. CNAME z.sub.www2.signed.test."],
        ),
        // What is ours is ours, also below what is signed and at the end of chains that are not ours.
        ("db.corp.signed.test", "NOERROR", false, &[], &["db.corp.signed.test. A 10.1.0.99"]),
        ("none.corp.signed.test", "NXDOMAIN", false, &[], &[]),
        (
            "private.signed.test",
            "NOERROR",
            false,
            &[],
            &["db.corp.internal. A 10.1.0.98", "private.signed.test. CNAME db.corp.internal."],
        ),
        (
            "private.plain.test",
            "NOERROR",
            false,
            &[],
            &["db.corp.internal. A 10.1.0.98", "private.plain.test. CNAME db.corp.internal."],
        ),
        (
            "below.signed.test",
            "NOERROR",
            false,
            &[],
            &["below.signed.test. CNAME db.corp.signed.test.", "db.corp.signed.test. A 10.1.0.99"],
        ),
        ("corp.signed.test DS", "NOERROR", false, &[], &[]),
        // What is bogus is none, but for those who want it.
        ("www.bogus.test", "SERVFAIL", false, &[6], &[]),
        ("www.bogus.test +cdflag", "NOERROR", false, &[], &["www.bogus.test. A 192.0.2.66"]),
        ("www.bogus.test AAAA", "NOERROR", true, &[], &["www.bogus.test. AAAA 2001:db8::1"]),
        ("tobogus.signed.test", "SERVFAIL", false, &[6], &[]),
        ("www.expired.test", "SERVFAIL", false, &[7], &[]),
        ("www.expired.test +cdflag", "NOERROR", false, &[], &["www.expired.test. A 192.0.2.1"]),
        ("none.bogus.test +cdflag", "NXDOMAIN", false, &[], &[]),
        // Servers that are dead or lame. By TCP, as these answers may take longer than a UDP client is answered.
        ("www.half.test +tcp", "NOERROR", false, &[], &["www.half.test. A 192.0.2.1"]),
        ("www.half.test AAAA +tcp", "NOERROR", false, &[], &["www.half.test. AAAA 2001:db8::1"]),
        ("www.lamed.test +tcp", "NOERROR", false, &[], &["www.lamed.test. A 192.0.2.1"]),
        ("www.lamed.test AAAA +tcp", "NOERROR", false, &[], &["www.lamed.test. AAAA 2001:db8::1"]),
        ("a.b.ent.lamed.test +tcp", "NOERROR", false, &[], &["a.b.ent.lamed.test. A 192.0.2.3"]),
        ("www.dead.test +tcp", "SERVFAIL", false, &[22], &[]),
        ("www.lame.plain.test +tcp", "SERVFAIL", false, &[22], &[]),
    ];
    for (query, status, ad, ede, answer) in cases {
        let started = std::time::Instant::now();
        let reply = lab.dig("app", &format!("@10.1.0.2 {query}"));
        let elapsed = started.elapsed();
        let found: Vec<String> = reply
            .answer
            .iter()
            .map(|line| {
                let mut words: Vec<&str> = line.split(' ').collect();
                words.remove(1);
                words.join(" ")
            })
            .collect();
        let is_same = found.len() == answer.len() && answer.iter().all(|a| found.iter().any(|f| f.starts_with(a)));
        let has_ad = reply.flags.split(' ').any(|flag| flag == "ad");
        if !(reply.status == *status && has_ad == *ad && reply.ede == *ede && is_same && elapsed.as_secs() < 5) {
            wrong += &format!("{query}: {elapsed:?} {} [{}] {:?} {found:#?}\n", reply.status, reply.flags, reply.ede);
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{}", zonal.log());

    // Who has repaired a zone need not wait for the end of what was remembered of it.
    let file = lab.scratch.path().join("plain.test.zone");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("www 300 A 192.0.2.1\n", "www 300 A 192.0.2.9\n").replace(" 1 7200", " 2 7200"))
        .unwrap();
    let nsd = Pid::from_raw(servers[2].id() as i32).unwrap();
    let www = |server: &str| lab.dig("app", &format!("@{server} www.plain.test A")).data("A").concat();
    wait_until("the authoritative server has it", || {
        kill_process(nsd, Signal::HUP).unwrap();
        (www(LEAF) == "192.0.2.9").then_some(())
    });
    assert_eq!(www("10.1.0.2"), "192.0.2.1", "what is remembered");
    for name in [&["www.plain.test"][..], &[]] {
        let output = lab.run("ns", &[&[ZONAL, "cache", "flush"][..], name].concat());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(www("10.1.0.2"), "192.0.2.9", "{name:?}");
    }
}

/// Large answers push out each other, and nothing that is known of other names.
#[test]
fn large_answers_have_the_recursor_forget_only_large_answers() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let mut zones = Zones { lab: &lab, all: Vec::new() };
    let mut large = String::new();
    for name in 0..60 {
        for address in 0..1_900 {
            large += &format!("large{name} 300 A 10.{name}.{}.{}\n", address / 250, address % 250);
        }
    }
    zones.plain("large.test", LEAF, &large);
    zones.plain("plain.test", LEAF, "one 300 A 192.0.2.1\ntwo 300 A 192.0.2.2\n");
    let below = |zone: &str| format!("{zone} 300 NS ns.{zone}\nns.{zone} 300 A {LEAF}\n");
    zones.plain("test", TLD, &(below("plain") + &below("large")));
    zones.plain(".", ROOT, &format!("test. 300 NS ns.test.\nns.test. 300 A {TLD}\n"));
    let mut servers = zones.serve(&[("root", ROOT), ("tld", TLD), ("leaf", LEAF)]);
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    let zonal = zonal(&lab, "{recursive: true, root_hints: ./root.hints, dnssec: off, allow_servers: [198.18.0.0/15]}");
    let ask = |query: &str| lab.dig("app", &format!("@10.1.0.2 {query} +tries=1 +time=6"));
    assert_eq!(ask("one.plain.test").data("A"), ["192.0.2.1"], "{}", zonal.log());
    for name in 0..60 {
        let reply = ask(&format!("large{name}.large.test +tcp"));
        assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", 1_900), "{name}: {}", zonal.log());
    }
    // Who knows where `plain.test.` is need not ask those above it.
    for mut server in servers.drain(..2) {
        server.kill();
    }
    assert_eq!(ask("two.plain.test").data("A"), ["192.0.2.2"], "{}", zonal.log());
}

/// The servers of a file are asked, however it changes.
#[test]
fn resolv_conf_is_followed() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let mut zones = Zones { lab: &lab, all: Vec::new() };
    for (zone, server) in [("one.test", ROOT), ("one.test", TLD), ("one.test", LEAF)] {
        zones.plain(zone, server, &format!("who 0 TXT {server}\n"));
        let (_, file, _) = zones.all.last_mut().unwrap();
        let own = format!("{server}.zone");
        fs::rename(lab.scratch.path().join(&*file), lab.scratch.path().join(&own)).unwrap();
        *file = own;
    }
    let _servers = zones.serve(&[("root", ROOT), ("tld", TLD), ("leaf", LEAF)]);
    let path = |name: &str| lab.scratch.path().join(name);
    let zonal = zonal(&lab, "{forward_to: [./run/resolv.conf]}");
    let ask = || lab.dig("app", "@10.1.0.2 who.one.test TXT");
    let reply = ask();
    assert_eq!((&*reply.status, &*reply.ede), ("SERVFAIL", &[14][..]), "{reply:?}\n{}", zonal.log());
    let server = |server: &str| {
        wait_until(&format!("{server} is asked"), || {
            ask().answer.first().is_some_and(|line| line.contains(server)).then_some(())
        });
    };
    let line = |server: &str| format!("search example\noptions edns0\nnameserver {server}\n");
    lab.scratch.write("run/resolv.conf", line(ROOT));
    server(ROOT);
    fs::write(path("run/resolv.conf"), line(TLD)).unwrap();
    server(TLD);
    lab.scratch.write("run/resolv.conf", line(LEAF));
    server(LEAF);
    lab.scratch.write("elsewhere/stub.conf", line(ROOT));
    std::os::unix::fs::symlink(Path::new("../elsewhere/stub.conf"), path("run/link")).unwrap();
    fs::rename(path("run/link"), path("run/resolv.conf")).unwrap();
    server(ROOT);
    // The target of the link changes; and what names this server itself is left out.
    lab.scratch.write("elsewhere/stub.conf", format!("nameserver 10.1.0.2\n{}", line(TLD)));
    server(TLD);
    zonal.wait_for_log("which is this server: it is left out");
    fs::remove_file(path("run/resolv.conf")).unwrap();
    wait_until("there is nobody to ask", || (ask().ede == [14]).then_some(()));
}
