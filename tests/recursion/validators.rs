//! Other validators get complete proofs through zonal: delv and dnsviz validate its answers themselves.

use super::{PROGRAMS, hosts, internet, validating};
use crate::harness::{can_run, lab::Lab, tree};

/// The trust anchor file of BIND's tools, from a DNSKEY record.
fn bind_anchor(key: &str) -> String {
    let mut fields = key.split_whitespace().skip_while(|field| *field != "DNSKEY").skip(1);
    let [flags, protocol, algorithm] = std::array::from_fn(|_| fields.next().unwrap());
    let key: String = fields.collect();
    format!("trust-anchors {{ . static-key {flags} {protocol} {algorithm} \"{key}\"; }};\n")
}

#[test]
fn delv_validates_the_answers_of_zonal() {
    if !can_run(&PROGRAMS) || !can_run(&["delv"]) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (_servers, key) = internet(&lab);
    lab.scratch.write("anchors", bind_anchor(&key));
    let zonal = validating(&lab, &key, "");
    let secure = "; fully validated";
    let no_data = "; negative response, fully validated";
    // Twice: the second round is answered from the cache.
    for round in 0..2 {
        for (query, expected) in [
            ("www.signed.test", secure),
            ("www.signed.test AAAA", secure),
            ("signed.test DNSKEY", secure),
            ("signed.test DS", secure),
            ("x.wild.signed.test", secure),
            ("x.wildcname.signed.test", secure),
            ("x.dname.signed.test", secure),
            ("farther.signed.test", secure),
            ("www.nsec3.test", secure),
            ("x.wild.nsec3.test", secure),
            ("www.optout.test", secure),
            ("none.signed.test", no_data),
            ("www.signed.test MX", no_data),
            ("b.ent.signed.test", no_data),
            ("none.nsec3.test", no_data),
            ("www.nsec3.test MX", no_data),
            ("nonesuch", no_data),
            ("www.plain.test", "; unsigned answer"),
            ("www.bogus.test", ";; resolution failed: failure"),
            // zonal does not validate this answer, and delv finds that it is bogus.
            ("www.bogus.test +cdflag", ";; resolution failed: RRSIG failed to verify"),
        ] {
            let command = ["delv", "-a", "anchors", "@10.1.0.2"].into_iter().chain(query.split(' '));
            let output = lab.run("app", &command.collect::<Vec<_>>());
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            let is_expected = text.lines().any(|line| line == expected);
            assert!(is_expected, "{round} {query}: no line {expected:?}\n{text}\n{}", zonal.log());
        }
    }
}

#[test]
fn dnsviz_has_no_complaint_about_signed_zones() {
    let dnsviz = tree("target/tools/venv/bin/dnsviz").display().to_string();
    if !can_run(&PROGRAMS) || !can_run(&[&dnsviz]) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (_servers, key) = internet(&lab);
    let zonal = validating(&lab, &key, "");
    // It probes the name and all zones above it, with many variants of each query.
    let complaints = |name: &str| {
        let file = format!("{name}.json");
        let output = lab.run("app", &[&dnsviz, "probe", "-s", "10.1.0.2", "-o", &file, name]);
        assert!(output.status.success(), "{name}: {output:?}\n{}", zonal.log());
        let output = lab.run("app", &[&dnsviz, "grok", "-l", "warning", "-r", &file]);
        assert!(output.status.success(), "{name}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for name in ["signed.test", "www.signed.test", "none.signed.test", "nsec3.test", "optout.test", "plain.test"] {
        assert_eq!(complaints(name).trim(), "", "{name}");
    }
    // dnsviz does complain: about a name whose signature is wrong.
    let bogus = complaints("www.bogus.test");
    assert!(!bogus.trim().is_empty());
}
