//! Negative trust anchors: names whose answers count as unsigned until a time (RFC 7646).

use super::{PROGRAMS, hosts, internet, validating};
use crate::harness::{ZONAL, can_run, lab::Lab, wait_until};

#[test]
fn answers_below_a_negative_trust_anchor_count_as_unsigned_until_its_end() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (_servers, key) = internet(&lab);
    let anchors = "negative_trust_anchors: [{name: expired.test, until: 2099-01-01T00:00:00Z, reason: they know}]";
    let zonal = validating(&lab, &key, &format!(", {anchors}"));
    let ask = |query: &str| {
        let reply = lab.dig("app", &format!("@10.1.0.2 {query}"));
        (reply.status.clone(), reply.flags.split(' ').any(|flag| flag == "ad"), reply.data("A").concat())
    };
    let secure = || ("NOERROR".to_string(), true, "192.0.2.1".to_string());
    let unsigned = |address: &str| ("NOERROR".to_string(), false, address.to_string());
    let bogus = || ("SERVFAIL".to_string(), false, String::new());
    let nta = |arguments: &[&str]| {
        let output = lab.run("ns", &[&[ZONAL, "nta"][..], arguments].concat());
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.success(), text)
    };

    assert_eq!(ask("www.expired.test"), unsigned("192.0.2.1"), "{}", zonal.log());
    assert_eq!(ask("www.signed.test"), secure());
    assert_eq!(ask("www.bogus.test"), bogus());
    let (is_done, text) = nta(&["add", "Bogus.test", "--for", "1d", "--reason", "a wrong signature"]);
    assert!(is_done && text.starts_with("Bogus.test. ends in ") && text.contains(": a wrong signature"), "{text}");
    assert_eq!(ask("www.bogus.test"), unsigned("192.0.2.66"), "{}", zonal.log());
    assert_eq!(ask("none.bogus.test").0, "NXDOMAIN");
    // A chain is as secure as its weakest link.
    assert_eq!(ask("tobogus.signed.test"), unsigned("192.0.2.66"));
    // DS records belong to the zone above.
    assert!(ask("bogus.test DS").1);
    assert_eq!(ask("www.signed.test"), secure());

    let (is_done, text) = nta(&["list"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(is_done && lines.len() == 2, "{text}");
    assert!(lines[0].starts_with("Bogus.test. ends in ") && lines[0].contains("from admin"), "{text}");
    assert!(lines[1].contains("expired.test. ends in ") && lines[1].ends_with("from zonal.yaml: they know"), "{text}");
    for (arguments, expected) in [
        (&["remove", "expired.test"][..], "of zonal.yaml has this name"),
        (&["add", "expired.test"], "of zonal.yaml has this name"),
        (&["remove", "plain.test"], "there is no such negative trust anchor"),
        (&["add", "."], "the trust anchor of this name takes precedence"),
        (&["add", "bogus.test", "--for", "8d"], "for_seconds: 691200: it must be from 1 to 604800"),
        (&["add", "a..b"], "name: `a..b`"),
    ] {
        let (is_done, text) = nta(arguments);
        assert!(!is_done && text.contains(expected), "{arguments:?}: {text}");
    }

    let (is_done, text) = nta(&["remove", "bogus.test"]);
    assert!(is_done && text.lines().count() == 1, "{text}");
    assert_eq!(ask("www.bogus.test"), bogus());
    // An answer lives no longer than the anchor.
    assert!(nta(&["add", "bogus.test", "--for", "2s"]).0);
    assert_eq!(ask("www.bogus.test"), unsigned("192.0.2.66"));
    wait_until("the anchor ends", || (ask("www.bogus.test") == bogus()).then_some(()));
    assert!(nta(&["list"]).1.lines().count() == 1);
}
