//! DNSSEC validation as VPCs want it: `dnssec_validation`.

use super::{MANIFEST, PROGRAMS, hosts, internet, validating};
use crate::harness::{can_run, lab::Lab, wait_until};

/// The VPC of the other tests, one without validation and one with it, connected to the first one.
fn manifest() -> String {
    let vpcs = "  vpc-off: {region: us-east-1, cidr_blocks: [10.2.0.0/16], dnssec_validation: false}\n  \
                vpc-on: {region: us-east-1, cidr_blocks: [10.3.0.0/16], dnssec_validation: true}\n\
                vpc_peering_connections:\n  off: {vpc_ids: [vpc-app, vpc-off]}\n  on: {vpc_ids: [vpc-app, vpc-on]}\n";
    let manifest = MANIFEST.replace("vpc_ids: [vpc-app]}", "vpc_ids: [vpc-app, vpc-off, vpc-on]}");
    manifest.replace("    resolver_addresses: [10.1.0.2]\n", &format!("    resolver_addresses: [10.1.0.2]\n{vpcs}"))
}

#[test]
fn each_vpc_has_validated_answers_or_not_and_none_gets_those_of_another() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    lab.host("off", "net", &["10.2.0.7"]);
    lab.host("on", "net", &["10.3.0.7"]);
    let (_servers, key) = internet(&lab);
    // The client's host, and whether its answers are validated.
    for (dnssec, hosts) in [
        ("validate", [("off", false), ("app", true), ("on", true)]),
        ("off", [("off", false), ("app", false), ("on", true)]),
    ] {
        let zonal = validating(&lab, &key, &format!(", dnssec: {dnssec}"));
        lab.scratch.write("zones/zones.yaml", manifest());
        wait_until("all VPCs are served", || {
            let is_served = |host| lab.dig(host, "@10.1.0.2 whoami.zonal TXT").status == "NOERROR";
            ["off", "on"].into_iter().all(is_served).then_some(())
        });
        // Twice: the second round is answered from the cache.
        for round in 0..2 {
            for (host, is_validated) in hosts {
                let bogus = lab.dig(host, "@10.1.0.2 www.bogus.test A");
                let expected = if is_validated { "SERVFAIL" } else { "NOERROR" };
                assert_eq!(bogus.status, expected, "{dnssec} {host} {round}: {bogus:?}");
                assert_eq!(bogus.answer.is_empty(), is_validated, "{dnssec} {host} {round}: {bogus:?}");
                let signed = lab.dig(host, "@10.1.0.2 www.signed.test A +adflag");
                let is_authentic = signed.flags.split(' ').any(|flag| flag == "ad");
                assert_eq!(is_authentic, is_validated, "{dnssec} {host} {round}: {signed:?}");
                let has_address = signed.answer.len() == 1 && signed.answer[0].ends_with(" A 192.0.2.1");
                assert!(has_address, "{dnssec} {host} {round}: {signed:?}");
                // A query with CD gets the records in each VPC.
                let unchecked = lab.dig(host, "@10.1.0.2 www.bogus.test A +cdflag");
                assert_eq!((unchecked.status.as_str(), unchecked.answer.len()), ("NOERROR", 1), "{host} {round}");
            }
        }
        drop(zonal);
    }
}
