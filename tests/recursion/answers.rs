//! Answers of the recursive resolver, and their DNSSEC validation, from a private root.

use super::{LEAF, PROGRAMS, hosts, internet, validating};
use crate::harness::{ZONAL, can_run, lab::Lab, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;

#[test]
fn through_a_root_of_our_own() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (servers, key) = internet(&lab);
    let zonal = validating(&lab, &key, "");
    let mut wrong = String::new();
    /// The query, the expected status, AD, extended errors and answer.
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
        // The proof of a wildcard follows the synthesised record and its CNAME chain.
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
        // Names in an opt-out span may exist without signatures.
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
        // A chain that returns to one of its names has no answer, whichever zones it leads through.
        ("itself.signed.test", "SERVFAIL", false, &[0], &[]),
        ("itself.signed.test CNAME", "NOERROR", true, &[], &["itself.signed.test. CNAME itself.signed.test."]),
        ("itself.plain.test", "SERVFAIL", false, &[0], &[]),
        ("loop1.signed.test", "SERVFAIL", false, &[0], &[]),
        ("loop1.signed.test +cdflag", "SERVFAIL", false, &[0], &[]),
        ("loop1.nsec3.test +dnssec", "SERVFAIL", false, &[0], &[]),
        ("loop2.plain.test AAAA", "SERVFAIL", false, &[0], &[]),
        ("across1.signed.test", "SERVFAIL", false, &[0], &[]),
        ("across2.plain.test", "SERVFAIL", false, &[0], &[]),
        ("x.round.signed.test", "SERVFAIL", false, &[0], &[]),
        ("x.deeper.signed.test", "SERVFAIL", false, &[22], &[]),
        ("back.signed.test", "SERVFAIL", false, &[0], &[]),
        ("back.corp.internal", "SERVFAIL", false, &[0], &[]),
        // Private zones override the internet, also below signed zones and at the end of foreign
        // CNAME chains.
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
        // A bogus answer is returned only if the query has CD set.
        ("www.bogus.test", "SERVFAIL", false, &[6], &[]),
        ("www.bogus.test +cdflag", "NOERROR", false, &[], &["www.bogus.test. A 192.0.2.66"]),
        ("www.bogus.test AAAA", "NOERROR", true, &[], &["www.bogus.test. AAAA 2001:db8::1"]),
        ("tobogus.signed.test", "SERVFAIL", false, &[6], &[]),
        ("www.expired.test", "SERVFAIL", false, &[7], &[]),
        ("www.expired.test +cdflag", "NOERROR", false, &[], &["www.expired.test. A 192.0.2.1"]),
        ("none.bogus.test +cdflag", "NXDOMAIN", false, &[], &[]),
        // Dead or lame servers. These queries use TCP, because the answers may take longer than the
        // time-out for UDP clients.
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

    // A validated denial answers for another name, although the server of the zone does not.
    let leaf = Pid::from_raw(servers[2].id() as i32).unwrap();
    let mut count = 0;
    wait_until("a known denial answers for another name", || {
        count += 1;
        let known = lab.dig("app", &format!("@10.1.0.2 none{count}.signed.test A"));
        assert_eq!(known.status, "NXDOMAIN", "{known}");
        kill_process(leaf, Signal::STOP).unwrap();
        let made = lab.dig("app", &format!("@10.1.0.2 none{count}x.signed.test A +dnssec"));
        kill_process(leaf, Signal::CONT).unwrap();
        (made.status == "NXDOMAIN" && made.flags.split(' ').any(|flag| flag == "ad")).then_some(())
    });

    // An administrator who has repaired a zone can flush the cache instead of waiting for the TTL.
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
