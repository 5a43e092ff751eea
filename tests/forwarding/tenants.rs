//! Tenants never see each other's answers, in any order and with any flags; and the flags of
//! queries.

use super::{Resolver, TENANTS};
use crate::harness::{
    fake::{Asked, Fake, Say, a, cname},
    wait_until,
};
use std::time::Duration;

const A: &str = "127.70.0.7";
const B: &str = "127.71.0.7";

/// The variants of a query: each has its own cache entry, or none.
const WAYS: [&str; 8] = ["", " +tcp", " +dnssec", " +cd", " +dnssec +cd", " +dnssec +tcp", " +noedns", " +norec"];

fn always(ip: &'static str) -> impl Fn(&Asked) -> Vec<Say> {
    move |asked| vec![Say::Now(asked.address(ip))]
}

#[test]
fn rules_of_two_tenants_share_no_answers() {
    let (first, second) =
        (Fake::start("127.72.10.2:0", always("192.0.2.10")), Fake::start("127.72.10.3:0", always("192.0.2.20")));
    let resolver = Resolver::serve(&format!(
        "{TENANTS}resolver_rules:
  rr-a: {{domain_name: corp.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{}]}}
  rr-b: {{domain_name: corp.example, rule_type: FORWARD, vpc_ids: [vpc-b], target_ips: [{}]}}
  rr-only-a: {{domain_name: only-a.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{}]}}
",
        first.target(),
        second.target(),
        first.target()
    ));
    for (n, (before, after)) in [(A, B), (B, A)].into_iter().enumerate() {
        for (m, warm) in WAYS[..7].iter().enumerate() {
            let name = format!("n{n}{m}.corp.example");
            for source in [before, after, before] {
                let expected = if source == A { "192.0.2.10" } else { "192.0.2.20" };
                let warmed = resolver.stub_at(source).ask(&format!("{name} A{warm}"));
                assert_eq!(warmed.reply.data("A"), [expected], "{source} {name}{warm}\n{}", warmed.reply);
                for way in WAYS {
                    for who in [A, B] {
                        let said = resolver.stub_at(who).ask(&format!("{name} A{way}"));
                        let expected = if who == A { "192.0.2.10" } else { "192.0.2.20" };
                        match way {
                            // A query with RD clear gets nothing from the cache.
                            " +norec" => assert!(said.reply.status == "REFUSED" && said.reply.answer.is_empty()),
                            _ => assert_eq!(said.reply.data("A"), [expected], "{who} {name}{way}\n{}", said.reply),
                        }
                    }
                }
            }
        }
    }
    // A rule of one tenant: the other tenant learns nothing about its names, cached or not.
    for way in WAYS {
        let there = resolver.stub_at(A).ask(&format!("www.only-a.example A{}", way.replace(" +norec", "")));
        assert_eq!(there.reply.data("A"), ["192.0.2.10"], "{way}");
        let other = resolver.stub_at(B).ask(&format!("www.only-a.example A{way}"));
        assert!(other.reply.answer.is_empty() && other.reply.status == "REFUSED", "{way}\n{}", other.reply);
    }
}

/// The same target serves different domains, and one rule applies to both tenants.
#[test]
fn serves_a_zone_and_a_rule_of_one_name_to_their_own_vpcs() {
    let outside = Fake::start("127.72.11.2:0", always("192.0.2.30"));
    let resolver = Resolver::serve(&format!(
        "{TENANTS}private_hosted_zones:
  Z1: {{name: split.example, vpc_ids: [vpc-a], records: [{{name: www, type: A, ttl: 60, records: [10.0.0.30]}}]}}
resolver_rules:
  rr-b: {{domain_name: split.example, rule_type: FORWARD, vpc_ids: [vpc-b], target_ips: [{0}]}}
  rr-both: {{domain_name: shared.example, rule_type: FORWARD, vpc_ids: [vpc-a, vpc-b], target_ips: [{0}]}}
",
        outside.target()
    ));
    for way in WAYS.iter().chain(&WAYS) {
        let inside = resolver.stub_at(A).ask(&format!("www.split.example A{way}"));
        assert_eq!(inside.reply.data("A"), ["10.0.0.30"], "{way}\n{}", inside.reply);
        assert!(inside.reply.flags.contains(" aa"), "{way}\n{}", inside.reply);
        let missing = resolver.stub_at(A).ask(&format!("other.split.example A{way}"));
        assert_eq!(missing.reply.status, "NXDOMAIN", "{way}\n{}", missing.reply);
        for name in ["www.split.example", "other.split.example"] {
            let forwarded = resolver.stub_at(B).ask(&format!("{name} A{}", way.replace(" +norec", "")));
            assert_eq!(forwarded.reply.data("A"), ["192.0.2.30"], "{way}\n{}", forwarded.reply);
            assert!(!forwarded.reply.flags.contains(" aa"), "{way}\n{}", forwarded.reply);
        }
    }
    // With one rule for both tenants, one query is enough.
    for source in [A, B, A, B] {
        assert_eq!(resolver.stub_at(source).ask("once.shared.example").reply.data("A"), ["192.0.2.30"]);
    }
    assert_eq!(outside.count_below("once.shared.example"), 1);
}

#[test]
fn passes_on_do_and_cd_and_refuses_forwarding_with_rd_clear() {
    // The target claims that the answer is validated and authoritative.
    let fake = Fake::start("127.72.12.2:0", |asked| {
        let mut response = asked.response();
        response.metadata.authentic_data = true;
        response.metadata.authoritative = true;
        response.answers = vec![a(&asked.owner().to_ascii(), 60, "192.0.2.40")];
        vec![Say::Now(response.to_vec().unwrap())]
    });
    let resolver = Resolver::start(&[("wish.example", &[fake.target()])], "");
    let stub = resolver.stub();

    // With RD clear, zonal answers only its own names, and nothing from the cache, over every
    // transport. The extended error has the reason.
    let said = stub.ask("www.wish.example A +norec");
    assert_eq!((said.reply.status.as_str(), &said.reply.ede[..]), ("REFUSED", &[20][..]), "{}", said.reply);
    assert!(!said.why.is_empty());
    assert_eq!(fake.count(|_| true), 0);
    assert_eq!(stub.ask("www.wish.example").reply.data("A"), ["192.0.2.40"]);
    for name in ["www.wish.example", "not-asked.wish.example"] {
        for way in [" +norec", " +norec +tcp", " +norec +cd", " +norec +dnssec"] {
            let cached = stub.ask(&format!("{name} A{way}"));
            assert_eq!((cached.reply.status.as_str(), &cached.reply.ede[..]), ("REFUSED", &[20][..]), "{name}{way}");
            assert!(cached.reply.answer.is_empty() && cached.why == said.why, "{name}{way}: {}", cached.reply);
        }
    }

    // DO and CD are passed on, and each combination has its own cache entry.
    for (way, dnssec_ok, checking_disabled) in
        [("", false, false), (" +dnssec", true, false), (" +cd", false, true), (" +dnssec +cd", true, true)]
    {
        let name = format!("n{}{}.wish.example", u8::from(dnssec_ok), u8::from(checking_disabled));
        for _ in 0..2 {
            for transport in ["", " +tcp"] {
                let said = stub.ask(&format!("{name} A{way}{transport}"));
                assert_eq!(said.reply.data("A"), ["192.0.2.40"], "{}", said.reply);
                // zonal does not pass on AA and AD of the target.
                let expected = if checking_disabled { "qr rd ra cd" } else { "qr rd ra" };
                assert_eq!(said.reply.flags, expected, "{name}{way}{transport}");
            }
        }
        let seen = fake.collect(|asked| {
            (
                asked.name(),
                asked.message.edns.as_ref().unwrap().flags().dnssec_ok,
                asked.message.metadata.checking_disabled,
            )
        });
        // On a busy machine, zonal may repeat the query before it reads the response.
        let mut seen: Vec<_> = seen.into_iter().filter(|(asked, ..)| *asked == name).collect();
        seen.dedup();
        assert_eq!(seen, [(name, dnssec_ok, checking_disabled)]);
    }
    // One name in all variants: each variant has its own cache entry.
    let mut counts = Vec::new();
    for _ in 0..2 {
        for way in ["", " +dnssec", " +cd", " +dnssec +cd"] {
            stub.ask(&format!("all.wish.example A{way}"));
            counts.push(fake.count_below("all.wish.example"));
        }
    }
    assert!(counts.is_sorted() && counts[..4].windows(2).all(|two| two[0] < two[1]), "{counts:?}");
    assert_eq!(counts[3], counts[7], "{counts:?}");
}

#[test]
fn decides_each_target_of_a_chain_anew() {
    let fake = Fake::start("127.72.13.2:0", |asked| {
        let owner = asked.owner().to_ascii();
        let answers = match asked.name().as_str() {
            "to-zone.out.example" => {
                vec![cname(&owner, 60, "www.corp.example"), a("www.corp.example", 60, "192.0.2.66")]
            }
            "to-endpoint.out.example" => vec![cname(&owner, 60, "alias.corp.example")],
            "to-private.out.example" => vec![cname(&owner, 60, "sqs.example"), a("sqs.example", 60, "192.0.2.66")],
            "to-back.out.example" => vec![cname(&owner, 60, "back.corp.example")],
            "long.out.example" => {
                let hop = |n: u8| format!("h{n}.out.example");
                let links = (1..4).map(|n| cname(&hop(n), 60, &hop(n + 1)));
                [vec![cname(&owner, 60, &hop(1))], links.collect(), vec![a(&hop(4), 60, "192.0.2.50")]].concat()
            }
            // The server leaves the end of the chain to the resolver.
            "short.out.example" => vec![cname(&owner, 60, "end.out.example")],
            "round.out.example" => vec![cname(&owner, 60, "round.corp.example")],
            "self.out.example" => vec![cname(&owner, 60, "self.out.example")],
            "nowhere.out.example" => vec![cname(&owner, 60, "www.elsewhere.nowhere")],
            _ => vec![a(&owner, 60, "192.0.2.50")],
        };
        vec![Say::Now(asked.with(answers))]
    });
    let resolver = Resolver::start(
        &[("out.example", &[fake.target()])],
        "vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example]}
vpc_endpoints:
  vpce-sqs: {vpc_endpoint_type: Interface, service_name: sqs, vpc_id: vpc-a, state: Available, private_dns_enabled: true,
    network_interfaces: [{availability_zone_id: use1-az1, ipv4: 127.70.0.80}]}
private_hosted_zones:
  Z1: {name: corp.example, vpc_ids: [vpc-a], records: [
    {name: www, type: A, ttl: 60, records: [10.0.0.50]},
    {name: alias, type: A, alias: {name: vpce-sqs.sqs.vpce.example}},
    {name: out, type: CNAME, ttl: 60, records: [www.out.example]},
    {name: through, type: CNAME, ttl: 60, records: [to-endpoint.out.example]},
    {name: back, type: CNAME, ttl: 60, records: [www.out.example]},
    {name: round, type: CNAME, ttl: 60, records: [round.out.example]}]}
  Z2: {name: fall.out.example, vpc_ids: [vpc-a], fallthrough: true, records: [
    {name: here, type: A, ttl: 60, records: [10.0.0.51]}]}
  Z3: {name: stay.out.example, vpc_ids: [vpc-a], records: [
    {name: here, type: A, ttl: 60, records: [10.0.0.52]}]}
",
    );
    let stub = resolver.stub();
    for round in ["asked", "cached"] {
        for way in ["", " +tcp", " +dnssec"] {
            for (name, status, addresses, aa) in [
                ("to-zone.out.example", "NOERROR", &["10.0.0.50"][..], false),
                ("to-endpoint.out.example", "NOERROR", &["127.70.0.80"], false),
                ("to-private.out.example", "NOERROR", &["127.70.0.80"], false),
                ("to-back.out.example", "NOERROR", &["192.0.2.50"], false),
                ("long.out.example", "NOERROR", &["192.0.2.50"], false),
                ("short.out.example", "NOERROR", &["192.0.2.50"], false),
                ("out.corp.example", "NOERROR", &["192.0.2.50"], true),
                ("through.corp.example", "NOERROR", &["127.70.0.80"], true),
                ("round.corp.example", "NOERROR", &[], true),
                ("round.out.example", "NOERROR", &[], false),
                ("self.out.example", "NOERROR", &[], false),
                ("here.fall.out.example", "NOERROR", &["10.0.0.51"], true),
                ("miss.fall.out.example", "NOERROR", &["192.0.2.50"], false),
                ("here.stay.out.example", "NOERROR", &["10.0.0.52"], true),
                ("miss.stay.out.example", "NXDOMAIN", &[], true),
            ] {
                let said = stub.ask(&format!("{name} A{way}"));
                let text = format!("{round}: {name}{way}\n{}{}", said.reply, said.why);
                assert_eq!((said.reply.status.as_str(), &said.reply.data("A")[..]), (status, addresses), "{text}");
                assert_eq!(said.reply.flags.contains(" aa"), aa, "{text}");
            }
            // The chain ends where no rule matches, with the records so far.
            let said = stub.ask(&format!("nowhere.out.example A{way}"));
            assert_eq!((said.reply.status.as_str(), &said.reply.ede[..]), ("NOERROR", &[20][..]), "{}", said.reply);
            assert_eq!(said.reply.data("CNAME"), ["www.elsewhere.nowhere."]);
        }
    }
    // If the target of a chain fails, the answer is SERVFAIL.
    drop(fake);
    let said = stub.ask("out.corp.example AAAA");
    assert_eq!(said.reply.status, "SERVFAIL", "{}", said.reply);
    assert!(said.reply.answer.is_empty() && !said.reply.ede.is_empty(), "{}", said.reply);
}

/// Serve stale (RFC 8767): zonal sends a stale answer if all targets fail, and the extended error
/// says that it is stale.
#[test]
fn serves_stale_answers_when_all_targets_fail() {
    let answer = |asked: &Asked| vec![Say::Now(asked.with(vec![a(&asked.owner().to_ascii(), 1, "192.0.2.60")]))];
    let fake = Fake::start("127.72.14.2:0", answer);
    let address = fake.address.to_string();
    let resolver = Resolver::start(&[("stale.example", &[fake.target()])], "");
    let stub = resolver.stub();
    for name in ["www.stale.example", "www.stale.example A +dnssec"] {
        assert_eq!(stub.ask(name).reply.data("A"), ["192.0.2.60"]);
    }
    drop(fake);
    for silent in [false, true] {
        let _silent = silent.then(|| Fake::start(&address, |_| vec![]));
        for name in ["www.stale.example", "www.stale.example A +tcp", "www.stale.example A +dnssec"] {
            let said = wait_until("the answer has ended", || {
                let said = stub.ask(name);
                (!said.reply.ede.is_empty()).then_some(said)
            });
            assert_eq!((said.reply.data("A"), &said.reply.ede[..]), (vec!["192.0.2.60"], &[3][..]), "{}", said.reply);
            assert!(said.took < Duration::from_millis(4_900), "it took {:?}", said.took);
            assert!(said.reply.answer[0].contains(" 30 A "), "{}", said.reply);
        }
    }
    let fake = Fake::start(&address, answer);
    wait_until("a fresh answer is served", || stub.ask("www.stale.example").reply.ede.is_empty().then_some(()));
    drop(fake);
}
