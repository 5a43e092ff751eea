//! The steps of recursion, in `zonal explain --resolve`.

use super::{LEAF, PROGRAMS, ROOT, TLD, hosts, internet, validating};
use crate::harness::{ZONAL, can_run, lab::Lab};

#[test]
fn shows_each_server_delegation_and_validation_step() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (_servers, key) = internet(&lab);
    let zonal = validating(&lab, &key, "");
    let explain = |arguments: &[&str]| {
        let command = [ZONAL, "explain", "--resolve", "--from", "10.1.0.7", "--to", "10.1.0.2"];
        let output = lab.run("ns", &[&command[..], arguments].concat());
        assert!(output.status.success(), "{output:?}\n{}", zonal.log());
        String::from_utf8(output.stdout).unwrap()
    };
    let root = format!("recursion  {ROOT}: test. NS: refers to test., servers ns.test.; ");
    let tld = format!("recursion  {TLD}: signed.test. NS: refers to signed.test., servers ns.signed.test.; ");
    let leaf = format!("recursion  {LEAF}: www.signed.test. A: answers No Error with 2 records; ");
    for (name, expected) in [
        (
            "www.signed.test",
            &[
                &*root,
                &tld,
                &leaf,
                "validation .: a signed zone, with the keys ",
                "validation test.: a signed zone, with the keys ",
                "validation signed.test.: a signed zone, with the keys ",
                "validation www.signed.test. A: secure",
                "flags: qr rd ra",
            ][..],
        ),
        // The zones above are known.
        (
            "www.plain.test",
            &[
                "validation plain.test.: an unsigned zone: the zone above proves that it has no DS record",
                "validation www.plain.test. A: insecure: no signature is needed",
            ],
        ),
        ("www.bogus.test", &["validation www.bogus.test. A: not proven: www.bogus.test. A is bogus", "EDE: 6"]),
        ("none.signed.test", &["validation none.signed.test. A: secure", "status: NXDOMAIN"]),
        ("www.dead.test", &["; zonal looks for other servers, from the root on", "status: SERVFAIL"]),
    ] {
        let text = explain(&[name]);
        for line in expected {
            assert!(text.contains(line), "{name}: {line}\n{text}");
        }
    }
    // A cached answer takes no step.
    let text = explain(&["www.signed.test"]);
    assert!(!text.contains("recursion ") && !text.contains("validation "), "{text}");
}
