//! A naive second implementation of resolution. Tests compare it with zonal on generated worlds.
//!
//! It follows the documentation sentence by sentence and computes no tables. It shares only the
//! types of the manifest with zonal.

pub mod autodefined;
pub mod endpoints;
pub mod generate;
pub mod groups;
pub mod names;
pub mod networks;
pub mod oracle;
pub mod policies;
pub mod program;
pub mod upstream;
pub mod zone;

use generate::Dice;
use groups::{Chances, MAX_PICKS};
use names::ANY;
use oracle::{Ask, Expect, Layer, World};
use program::Got;
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner},
};
use std::{cell::Cell, net::Ipv4Addr};
use upstream::Upstream;

/// The number of queries to each world.
const QUESTIONS: usize = 40;

/// Runs `check` on generated worlds: the same worlds in each run, unless `PROPTEST_CASES` is set.
/// Worlds that zonal refuses are skipped; at least half must be accepted.
pub fn worlds(
    cases: u32,
    seed: u64,
    check: impl Fn(&World, &zonal::snapshot::Snapshot, &mut Dice) -> Result<(), TestCaseError>,
) {
    let default = Config::default();
    let asked_for = std::env::var("PROPTEST_CASES").is_ok();
    let config = Config {
        cases: if asked_for { default.cases } else { cases },
        rng_seed: if asked_for { default.rng_seed } else { RngSeed::Fixed(seed) },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/regressions"))),
        max_shrink_iters: if asked_for { default.max_shrink_iters } else { 1500 },
        ..default
    };
    let (good, refused) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&vec(any::<u16>(), 800..3000), |numbers| {
        let mut dice = Dice::new(&numbers);
        let world = generate::world(&mut dice);
        match program::snapshot(&world) {
            Err(_) => {
                refused.set(refused.get() + 1);
                Ok(())
            }
            Ok(snapshot) => {
                good.set(good.get() + 1);
                check(&world, &snapshot, &mut dice)
            }
        }
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("after {} worlds; the smallest case found: {reason}", good.get()),
        Err(error) => panic!("{error}"),
    }
    assert!(good.get() >= refused.get(), "{} worlds are accepted, {} refused", good.get(), refused.get());
}

/// Checks that the reply is as the model expects.
pub fn agrees(ask: &Ask, expect: &Expect, got: &Got) -> Result<(), String> {
    let differs = |what: &str, want: String, have: String| Err(format!("{what}: expected {want}, got {have}"));
    if expect.forward != got.forward {
        return differs("forward", format!("{:?}", expect.forward), format!("{:?}", got.forward));
    }
    if expect.rcode != got.rcode {
        return differs("rcode", expect.rcode.to_string(), got.rcode.to_string());
    }
    if expect.ede.is_some() && expect.ede != got.ede {
        return differs("EDE", format!("{:?}", expect.ede), format!("{:?}", got.ede));
    }
    if expect.any_answer {
        return Ok(());
    }
    // A chain that is too long is a failure. Its records do not matter.
    if expect.rcode == 2 {
        return if got.ede.is_some() { Ok(()) } else { Err("SERVFAIL without EDE".into()) };
    }
    if expect.ede.is_none() && got.ede.is_some() {
        return differs("EDE", "none".into(), format!("{:?} {}", got.ede, got.ede_text));
    }
    if expect.aa != got.aa {
        return differs("AA", expect.aa.to_string(), got.aa.to_string());
    }
    // The documentation does not define the apexes of autodefined zones, nor their SOA and NS records.
    if expect.any_soa
        && expect.rcode == 0
        && matches!(ask.qtype, names::SOA | names::NS | ANY)
        && !got.answer.is_empty()
    {
        return Ok(());
    }
    // A query for ANY can be answered with a part of the records (RFC 8482).
    let any = ask.qtype == ANY && !expect.answer.is_empty();
    let same =
        if any { !got.answer.is_empty() && got.answer.is_subset(&expect.answer) } else { got.answer == expect.answer };
    if !same {
        return differs("answer", format!("{:#?}", expect.answer), format!("{:#?}", got.answer));
    }
    if expect.any_soa {
        let soa = got.authority.iter().any(|(_, rtype, _)| *rtype == names::SOA);
        return if soa && got.authority.len() == 1 { Ok(()) } else { Err("no SOA record in an empty answer".into()) };
    }
    if !expect.authority.is_empty() && got.authority != expect.authority {
        return differs("authority", format!("{:?}", expect.authority), format!("{:?}", got.authority));
    }
    Ok(())
}

/// A description of a failure.
pub fn describe(world: &World, ask: &Ask, got: &Got) -> String {
    let mut out = format!(
        "{} asks {} for {} {} (RD {})\nwho: {:?}\n",
        ask.source,
        ask.local,
        names::text(&ask.name),
        names::type_text(ask.qtype),
        ask.rd,
        world.who(ask.source, ask.local)
    );
    out += &format!(
        "internet {}\ngot forward {:?} rcode {} aa {} ede {:?} {}\n",
        world.internet, got.forward, got.rcode, got.aa, got.ede, got.ede_text
    );
    out += &format!("answer {:?}\nauthority {:?}\n", got.answer, got.authority);
    out += &serde_json::to_string(&world.manifest).unwrap_or_default();
    for (id, records) in &world.data {
        out += &format!("\n{id}:");
        for rr in records {
            let (owner, _, ttl, data) = names::Seen::from(rr);
            out += &format!("\n  {owner} {ttl} {} {data}", names::type_text(rr.rtype));
        }
    }
    out
}

#[test]
fn zonal_answers_like_the_model() {
    let (empty, forwarded, theirs) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let asked = Cell::new(0);
    let (by_profile, by_group) = (Cell::new(0), Cell::new(0));
    worlds(450, 20_261_123, |world, snapshot, dice| {
        let pool = generate::interesting(world);
        let others = Upstream::new(world, snapshot);
        for number in 0..QUESTIONS {
            let ask = generate::ask(dice, world, &pool);
            let got = program::ask(snapshot, &others, &ask, world.now, number as u32 * 7919);
            let agrees = |keeps, number| agrees(&ask, &world.ask_with(&ask, &Chances::new(keeps, number)), &got);
            let mut chances = (0..MAX_PICKS).flat_map(|number| [(true, number), (false, number)]);
            if let Err(reason) = agrees(true, 0)
                && !chances.any(|(keeps, number)| agrees(keeps, number).is_ok())
            {
                return Err(TestCaseError::fail(format!("{reason}\n{}", describe(world, &ask, &got))));
            }
            if let Some(who) = world.who(ask.source, ask.local) {
                let found = world.responsible(&who, &ask.name);
                let (is_of_profile, is_of_group) = found.map_or((false, false), |(layer, zone)| {
                    let is_of_group = |group: &groups::Group| Some(&group.owner) == zone.source_of(&ask.name).as_ref();
                    (matches!(layer, Layer::Profile(_)), zone.groups.iter().any(is_of_group))
                });
                by_profile.set(by_profile.get() + u32::from(is_of_profile));
                by_group.set(by_group.get() + u32::from(is_of_group));
            }
            asked.set(asked.get() + 1);
            empty.set(empty.get() + u32::from(got.answer.is_empty()));
            forwarded.set(forwarded.get() + u32::from(got.forward.is_some()));
            theirs.set(theirs.get() + u32::from(got.ede == Some(3)));
        }
        Ok(())
    });
    // The generator must make enough queries with answers.
    assert!(empty.get() * 10 < asked.get() * 8, "{} of {} answers are empty", empty.get(), asked.get());
    let both = [forwarded.get(), theirs.get()];
    assert!(both.iter().all(|count| count * 100 > asked.get()), "{both:?} of {}: forwarded, stale", asked.get());
    let both = [by_profile.get(), by_group.get()];
    assert!(both.iter().all(|count| count * 200 > asked.get()), "{both:?} of {}: by Profile, by group", asked.get());
}

/// Name, type, RCODE, and whether there are answers, of cases that generated worlds found earlier.
#[test]
fn answers_cases_of_earlier_failures() {
    let manifest = r#"{
        "vpcs": {"vpc-a": {"region": "us-east-1", "cidr_blocks": ["10.0.0.0/16"]}},
        "vpc_endpoint_services": {
            "six": {"owner_id": "amazon", "region": "us-east-1", "dns_name": "six.vpce.example"},
            "svc": {"owner_id": "9", "region": "us-east-1", "dns_name": "svc.vpce.example",
                "private_dns_names": ["*.saas.test"], "private_dns_name_configuration": {"state": "verified"}}},
        "vpc_endpoints": {
            "vpce-6": {"vpc_endpoint_type": "Interface", "service_name": "six", "vpc_id": "vpc-a", "state": "Available"},
            "vpce-1": {"vpc_endpoint_type": "Interface", "service_name": "svc", "vpc_id": "vpc-a", "state": "Available",
                "private_dns_enabled": true}},
        "private_hosted_zones": {
            "Z1": {"name": "test", "vpc_ids": ["vpc-a"], "fallthrough": true},
            "Z2": {"name": "c.test", "vpc_ids": ["vpc-a"]},
            "Z3": {"name": "x.b.a.test", "vpc_ids": ["vpc-a"]},
            "Z4": {"name": "f.test", "vpc_ids": ["vpc-a"]},
            "Z5": {"name": "invalid", "vpc_ids": ["vpc-a"]},
            "Z6": {"name": "s.r.invalid", "vpc_ids": ["vpc-a"]}},
        "resolver_endpoints": {"in-1": {"direction": "INBOUND_DELEGATION", "vpc_id": "vpc-a",
            "ip_addresses": [{"ip": "127.0.0.53"}]}},
        "resolver_rules": {
            "r1": {"domain_name": "a.test", "rule_type": "FORWARD", "target_ips": [{"ip": "10.9.9.9"}], "vpc_ids": ["vpc-a"]},
            "r2": {"domain_name": "b.a.test", "rule_type": "SYSTEM", "vpc_ids": ["vpc-a"]},
            "r3": {"domain_name": "f.test", "rule_type": "FORWARD", "target_ips": [{"ip": "10.9.9.9"}], "vpc_ids": ["vpc-a"]},
            "r4": {"domain_name": "r.invalid", "rule_type": "FORWARD", "target_ips": [{"ip": "10.9.9.9"}], "vpc_ids": ["vpc-a"]},
            "r5": {"domain_name": "s.r.invalid", "rule_type": "SYSTEM", "vpc_ids": ["vpc-a"]}}}"#;
    let manifest = serde_json::from_str(manifest).expect("a manifest");
    let world = World { manifest, ..World::default() };
    let snapshot = program::snapshot(&world).unwrap_or_else(|problems| panic!("{problems:?}"));
    let others = Upstream::new(&world, &snapshot);
    let cases = [
        // The parent zone lacks the name, and falls through without a result: the answer is the
        // zone's own NODATA.
        ("c.test", names::DS, "127.0.0.1", 0, false),
        // Above the name are a SYSTEM rule, which overrides the FORWARD rule, and a zone that falls
        // through.
        ("x.b.a.test", names::DS, "127.0.0.1", 0, false),
        // A FORWARD rule shadows the zone of the same name, but not at a delegation endpoint. Nothing is
        // above it, so that its targets answer DS queries for its name too.
        ("f.test", names::DS, "127.0.0.1", 0, false),
        ("x.f.test", names::A, "127.0.0.53", 3, false),
        // A SYSTEM rule does not apply to DS at its own name: the targets of the wider rule answer, here
        // with a CNAME. Its target is in `test`, which is not forwarded.
        ("s.r.invalid", names::DS, "127.0.0.1", 3, true),
        // A private name of a customer's service has a CNAME for every type.
        ("a.saas.test", names::DS, "127.0.0.1", 0, true),
        // One of the record sets (RFC 8482).
        ("vpce-6.six.vpce.example", ANY, "127.0.0.1", 0, true),
        // No name exists below 99.10.in-addr.arpa.
        ("99.10.in-addr.arpa", names::PTR, "127.0.0.1", 3, false),
        ("0.10.in-addr.arpa", names::PTR, "127.0.0.1", 0, false),
        // RFC 6761, section 6.3.
        ("a.localhost", names::A, "127.0.0.1", 0, true),
    ];
    for (name, qtype, local, rcode, answers) in cases {
        let ask = Ask {
            source: Ipv4Addr::new(10, 0, 0, 5).into(),
            local: local.parse().expect("an address"),
            name: names::name(name),
            qtype,
            rd: true,
        };
        let got = program::ask(&snapshot, &others, &ask, 0, 0);
        assert_eq!((got.rcode, !got.answer.is_empty()), (rcode, answers), "{}", describe(&world, &ask, &got));
        agrees(&ask, &world.ask(&ask, true), &got)
            .unwrap_or_else(|reason| panic!("{reason}\n{}", describe(&world, &ask, &got)));
    }
}

/// The draws are consecutive numbers.
#[test]
fn partial_affinity_answers_85_percent_with_the_own_zone() {
    let seen = Cell::new(0);
    worlds(60, 85, |world, snapshot, _| {
        let others = Upstream::new(world, snapshot);
        for source in [[10, 0, 0, 5], [10, 1, 16, 5], [10, 2, 0, 5]] {
            let pool = generate::interesting(world);
            for name in pool.into_iter().take(12) {
                let ask = Ask {
                    source: Ipv4Addr::from(source).into(),
                    local: Ipv4Addr::LOCALHOST.into(),
                    name,
                    qtype: names::A,
                    rd: true,
                };
                let (near, all) = (world.ask(&ask, true), world.ask(&ask, false));
                if near == all {
                    continue;
                }
                seen.set(seen.get() + 1);
                let draws = 2000;
                let kept = (0..draws)
                    .filter(|draw| program::ask(snapshot, &others, &ask, world.now, *draw).answer == near.answer);
                let share = kept.count() * 100 / draws as usize;
                if !(84..=86).contains(&share) {
                    let got = program::ask(snapshot, &others, &ask, world.now, 0);
                    return Err(TestCaseError::fail(format!("{share} of 100 stay\n{}", describe(world, &ask, &got))));
                }
            }
        }
        Ok(())
    });
    assert!(seen.get() > 10, "only {} names have this policy", seen.get());
}
