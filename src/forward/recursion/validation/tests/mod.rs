mod world;

use super::{
    super::{errand::Budget, filter::keep_answer},
    Validator,
    nsec::is_below,
    proven::{Proof, Reason},
    signatures::{labels, sets},
};
use data_encoding::BASE32HEX_NOPAD;
use hickory_server::proto::{
    dnssec::{Nsec3HashAlgorithm, rdata::DNSSECRData},
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};
use world::{Denies, World, Zone, name};

/// A pseudo-random number generator with the same numbers in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

const NSEC3: Denies = Denies::Nsec3 { opt_out: false, iterations: 1 };
const OPT_OUT: Denies = Denies::Nsec3 { opt_out: true, iterations: 0 };

/// The root, `t.`, and one zone of each kind below `t.`.
fn world(tld: Denies) -> World {
    let mut zones = Vec::new();
    let mut parent = Zone::new("t.", tld);
    for (label, denies) in [("nsec", Denies::Nsec), ("nsec3", NSEC3), ("optout", OPT_OUT), ("plain", Denies::Unsigned)]
    {
        let mut zone = Zone::new(&format!("{label}.t."), denies);
        let at = |owner: &str| format!("{owner}.{label}.t.");
        zone.address(&at("www"), 1);
        zone.address(&at("a.b.ent"), 2);
        zone.address(&at("*.wild"), 3);
        zone.address(&at("closer.wild"), 4);
        zone.cname(&at("alias"), &at("www"));
        zone.cname(&at("*.wildalias"), &at("www"));
        for (cut, denies) in [("signed", NSEC3), ("unsigned", Denies::Unsigned)] {
            let mut child = Zone::new(&at(cut), denies);
            child.address(&at(&format!("www.{cut}")), 5);
            zone.delegate(&child);
            zones.push(child);
        }
        parent.delegate(&zone);
        zones.push(zone);
    }
    parent.address("www.t.", 6);
    let mut root = Zone::new(".", Denies::Nsec);
    root.delegate(&parent);
    zones.extend([parent, root]);
    World { zones, forged: Vec::new() }
}

fn validator(world: World) -> Validator<Arc<World>> {
    let root = world.zones.iter().find(|zone| zone.apex.is_root()).unwrap();
    let anchors = vec![(Name::root(), vec![root.key().public_key().clone()])];
    Validator::new(Arc::new(world), anchors)
}

/// Returns the result of the validation, and the validated message.
fn validated(validator: &Validator<Arc<World>>, query: &Query, message: &Message) -> Result<(Proof, Message), Reason> {
    let mut message = message.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let proof = runtime.block_on(validator.validate(query, &mut message, &Arc::new(Budget::default())));
    proof.map(|proof| (proof, message)).map_err(|unproven| unproven.reason)
}

fn validate(validator: &Validator<Arc<World>>, query: &Query, message: &Message) -> Result<Proof, Reason> {
    validated(validator, query, message).map(|(proof, _)| proof)
}

/// Names for queries: the names of all zones, their ancestors, and some names that do not exist.
fn names(world: &World) -> Vec<Name> {
    let mut names = BTreeSet::new();
    for owner in world.zones.iter().flat_map(|zone| zone.records.keys()) {
        for count in 1..=labels(owner) {
            names.insert(owner.trim_to(count));
        }
        for below in ["none", "x.none", "zzz", "*"] {
            names.insert(name(below).append_domain(owner).unwrap());
        }
    }
    names.into_iter().collect()
}

const TYPES: [RecordType; 6] =
    [RecordType::A, RecordType::MX, RecordType::DS, RecordType::NS, RecordType::CNAME, RecordType::DNSKEY];

/// Whether all zones from the root down to the owner of the records are signed.
fn is_signed(world: &World, name: &Name, rtype: RecordType) -> bool {
    let apex = &world.zone(name, rtype).apex;
    let above = world.zones.iter().filter(|zone| zone.apex.zone_of(apex));
    above.into_iter().all(|zone| zone.denies != Denies::Unsigned)
}

#[test]
fn what_servers_say_is_secure_or_proven_to_be_insecure() {
    for tld in [Denies::Nsec, NSEC3, OPT_OUT] {
        let truth = world(tld);
        let validator = validator(world(tld));
        let truth_of = |query: &Query| validator_world(&validator).answer(query);
        for (name, rtype) in names(&truth)
            .into_iter()
            .flat_map(|name| [RecordType::A, RecordType::MX, RecordType::DS].map(|rtype| (name.clone(), rtype)))
        {
            let query = Query::query(name.clone(), rtype);
            let message = truth_of(&query);
            let found = validate(&validator, &query, &message);
            let zone = truth.zone(&name, rtype);
            let expected = match is_signed(&truth, &name, rtype) {
                false => Proof::Insecure,
                // An opt-out span may contain an unsigned delegation.
                true if zone.denies == OPT_OUT && (message.answers.is_empty() || !zone.has(&name)) => match found {
                    Ok(Proof::Insecure) if !zone.has(&name) || zone.cut(&name).is_some() => Proof::Insecure,
                    _ => Proof::Secure,
                },
                true => Proof::Secure,
            };
            assert_eq!(found, Ok(expected), "{name} {rtype} below {tld:?}\n{message}");
        }
    }
}

/// The zones from which a validator gets its keys.
fn validator_world(validator: &Validator<Arc<World>>) -> &World {
    validator.chain.source()
}

/// Whether the content of a message is true.
fn is_true(world: &World, query: &Query, message: &Message) -> bool {
    let truth = world.answer(query);
    let data = |message: &Message| -> BTreeSet<String> {
        let records = message.answers.iter().filter(|record| super::signature(record).is_none());
        records
            .map(|record| format!("{} {} {}", record.name.to_lowercase(), record.record_type(), record.data))
            .collect()
    };
    match message.answers.is_empty() {
        false => data(message) == data(&truth),
        true => truth.answers.is_empty() && truth.response_code == message.response_code,
    }
}

/// The validator accepts no forged records.
///
/// The attacker on the path removes records, changes records, and adds records from other
/// responses. If the validator accepts a message as secure, the message is true. If it accepts a
/// message as insecure, the zone is unsigned or the name is in an opt-out span.
#[test]
fn what_is_forged_is_not_believed() {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    for tld in [Denies::Nsec, NSEC3, OPT_OUT] {
        let truth = world(tld);
        let names = names(&truth);
        // All records that the servers ever send.
        let validator = validator(world(tld));
        let honest = validator_world(&validator);
        let mut pool: Vec<Vec<Record>> = honest.zones.iter().flat_map(Zone::chain).collect();
        for query in names.iter().flat_map(|name| TYPES.map(|rtype| Query::query(name.clone(), rtype))) {
            let message = honest.answer(&query);
            if !message.answers.is_empty() {
                pool.push(message.answers);
            }
        }
        let (mut believed, mut insecure) = (0, 0);
        for _ in 0..800 {
            let query = Query::query(names[draw.below(names.len())].clone(), TYPES[draw.below(TYPES.len())]);
            let mut message = honest.answer(&query);
            for _ in 0..=draw.below(3) {
                forge(&mut message, &query, &pool, &mut draw);
            }
            keep_answer(&mut message, &query);
            let Ok((proof, message)) = validated(&validator, &query, &message) else { continue };
            let (zone, is_signed) =
                (truth.zone(&query.name, query.query_type), is_signed(&truth, &query.name, query.query_type));
            match proof {
                Proof::Secure => {
                    believed += 1;
                    assert!(is_true(honest, &query, &message), "{query} below {tld:?}\n{message}");
                }
                Proof::Insecure => {
                    insecure += 1;
                    // Opt-out spans prove nothing about names without NSEC3 records.
                    let is_in_span =
                        zone.denies == OPT_OUT && (!zone.has(&query.name) || zone.cut(&query.name).is_some());
                    assert!(!is_signed || is_in_span, "{query} below {tld:?}\n{message}");
                }
            }
        }
        assert!(believed > 5 && insecure > 5, "{believed} {insecure}");
    }
}

/// Makes one random change to a message.
fn forge(message: &mut Message, query: &Query, pool: &[Vec<Record>], draw: &mut Draw) {
    let forged = || Record::from_rdata(query.name.clone(), 300, RData::A(A(Ipv4Addr::new(6, 6, 6, 6))));
    match draw.below(9) {
        0 if !message.authorities.is_empty() => {
            message.authorities.remove(draw.below(message.authorities.len()));
        }
        1 if !message.answers.is_empty() => {
            message.answers.remove(draw.below(message.answers.len()));
        }
        2 => message.authorities.extend(pool[draw.below(pool.len())].iter().cloned()),
        3 => message.answers.push(forged()),
        // Replace the answer with a negative answer.
        4 => {
            message.answers.clear();
            let codes = [ResponseCode::NoError, ResponseCode::NXDomain];
            message.metadata.response_code = codes[draw.below(2)];
            if draw.below(2) == 0 {
                message.authorities.clear();
            }
            for _ in 0..draw.below(5) {
                message.authorities.extend(pool[draw.below(pool.len())].iter().cloned());
            }
        }
        // Copy the records of another name to this name.
        5 => {
            message.answers = pool[draw.below(pool.len())].clone();
            message.answers.iter_mut().for_each(|record| record.name = query.name.clone());
        }
        6 => message.answers.retain(|record| super::signature(record).is_none()),
        7 => message.authorities.retain(|record| super::signature(record).is_none()),
        _ => {
            // Add a signature by an unsigned or unrelated zone.
            let Some(set) = pool.get(draw.below(pool.len())) else { return };
            message.answers = vec![forged()];
            message.answers.extend(set.iter().filter(|record| super::signature(record).is_some()).cloned());
            message.answers.iter_mut().for_each(|record| record.name = query.name.clone());
        }
    }
}

/// Replayed delegations cannot turn a signed name into an unsigned name.
#[test]
fn a_chain_of_forged_delegations_ends_as_bogus() {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    let honest = world(OPT_OUT);
    let pool: Vec<Vec<Record>> = honest.zones.iter().flat_map(Zone::chain).collect();
    for (victim, cuts) in [
        ("www.nsec3.t.", &["nsec3.t.", "www.nsec3.t."][..]),
        ("www.nsec.t.", &["nsec.t.", "www.nsec.t."]),
        ("www.t.", &["www.t."]),
        ("www.signed.nsec.t.", &["signed.nsec.t.", "nsec.t."]),
    ] {
        for _ in 0..30 {
            let mut forged = Vec::new();
            let mut world = world(OPT_OUT);
            // Each world has its own keys. Half of the replayed records come from the attacked
            // world.
            let pool: Vec<Vec<Record>> = match draw.below(2) {
                0 => pool.clone(),
                _ => world.zones.iter().flat_map(Zone::chain).collect(),
            };
            for cut in cuts.iter() {
                if draw.below(3) == 0 {
                    continue;
                }
                let query = Query::query(name(cut), RecordType::DS);
                let mut message = Message::query();
                message.add_query(query.clone());
                let count = 1 + draw.below(4);
                message.add_authorities((0..count).flat_map(|_| pool[draw.below(pool.len())].clone()));
                forged.push((query, message.into_response()));
            }
            world.forged = forged;
            let validator = validator(world);
            let query = Query::query(name(victim), RecordType::A);
            let mut message = Message::query();
            message.add_query(query.clone());
            message.add_answer(Record::from_rdata(name(victim), 300, RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))));
            let found = validate(&validator, &query, &message.into_response());
            assert!(found.is_err(), "{victim}: {found:?}");
        }
    }
}

/// An opt-out record that covers the hash of a name proves nothing without the closest encloser
/// (RFC 5155, section 8.6).
#[test]
fn an_opt_out_record_without_the_closest_encloser_proves_nothing() {
    let mut world = world(OPT_OUT);
    // The forged responses lack the record of the apex, which is the closest encloser.
    let tld = world.zones.iter().find(|zone| zone.apex == name("t.")).unwrap();
    let chain = tld.chain();
    let is_apex = |set: &&Vec<Record>| {
        let types = sets(set);
        !types.iter().any(|set| set.records.iter().any(|record| record.data.to_string().contains("SOA")))
    };
    let others: Vec<Record> = chain.iter().filter(is_apex).flatten().cloned().collect();
    assert!(others.len() < chain.iter().flatten().count());
    for victim in ["www.nsec3.t.", "www.t.", "none.t."] {
        let query = Query::query(name(victim), RecordType::DS);
        let mut message = Message::query();
        message.add_query(query.clone());
        message.add_authorities(others.clone());
        world.forged.push((query, message.into_response()));
    }
    let validator = validator(world);
    for victim in ["www.nsec3.t.", "www.t.", "none.t."] {
        let query = Query::query(name(victim), RecordType::A);
        let mut message = Message::query();
        message.add_query(query.clone());
        message.add_answer(Record::from_rdata(name(victim), 300, RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))));
        let found = validate(&validator, &query, &message.into_response());
        assert!(matches!(found, Err(Reason::SignaturesMissing | Reason::DenialMissing)), "{victim}: {found:?}");
    }
}

/// Validated denials answer for other names, and only truly (RFC 8198).
#[test]
fn known_denials_answer_for_other_names() {
    let mut draw = Draw(0x853c_49e6_748f_ea9b);
    for tld in [Denies::Nsec, NSEC3, OPT_OUT] {
        let truth = world(tld);
        let validator = validator(world(tld));
        let honest = validator_world(&validator);
        let all = names(&truth);
        let budget = Budget::default();
        let query = Query::query(name("none.nsec.t."), RecordType::A);
        assert!(validator.deny(&query, &budget).is_none(), "nothing is known yet");
        // The name in question, some names between, and the mere denial of DS records.
        for _ in 0..60 {
            let rtype = [RecordType::A, RecordType::MX, RecordType::DS][draw.below(3)];
            let query = Query::query(all[draw.below(all.len())].clone(), rtype);
            let _ = validate(&validator, &query, &honest.answer(&query));
        }
        let (mut nsec, mut nsec3) = (0, 0);
        for _ in 0..300 {
            let query = Query::query(all[draw.below(all.len())].clone(), TYPES[draw.below(TYPES.len())]);
            let Some(message) = validator.deny(&query, &Budget::default()) else { continue };
            let zone = truth.zone(&query.name, query.query_type);
            assert!(is_true(honest, &query, &message), "{query} below {tld:?}\n{message}");
            assert!(is_signed(&truth, &query.name, query.query_type) && zone.denies != OPT_OUT, "{query} {tld:?}");
            assert!(message.authorities.iter().any(|record| record.record_type() == RecordType::SOA));
            assert!(message.authorities.iter().all(|record| record.ttl <= 300));
            // A client that validates accepts it too.
            assert_eq!(validate(&validator, &query, &message), Ok(Proof::Secure), "{query} below {tld:?}\n{message}");
            *if zone.denies == Denies::Nsec { &mut nsec } else { &mut nsec3 } += 1;
        }
        assert!(nsec > 5 && nsec3 > 5, "{nsec} {nsec3}");
    }
}

/// Keys of the root that the trust anchor does not prove make all names bogus, the first one too.
#[test]
fn keys_that_the_trust_anchor_does_not_prove_make_all_names_bogus() {
    let removed: [fn(&Record) -> bool; 3] =
        [|record| super::signature(record).is_some(), |record| super::signature(record).is_none(), |_| true];
    for is_removed in removed {
        let mut world = world(Denies::Nsec);
        let query = Query::query(Name::root(), RecordType::DNSKEY);
        let mut forged = world.answer(&query);
        forged.answers.retain(|record| !is_removed(record));
        world.forged.push((query, forged));
        let validator = validator(world);
        for victim in ["www.t.", "none.t.", "www.plain.t.", "."] {
            let query = Query::query(name(victim), RecordType::A);
            let found = validate(&validator, &query, &validator_world(&validator).answer(&query));
            assert!(found.is_err(), "{victim}: {found:?}");
        }
    }
}

/// An opt-out span proves of no name that it exists: NXDOMAIN without the denial of the wildcard does
/// not become "no data".
#[test]
fn an_opt_out_span_does_not_prove_that_a_name_exists() {
    let validator = validator(world(Denies::Nsec));
    let world = validator_world(&validator);
    let hash = |name: &Name| Nsec3HashAlgorithm::SHA1.hash(&[1, 2], name, 0).unwrap().as_ref().to_vec();
    let wildcard = hash(&name("*.optout.t."));
    let covers_wildcard = |record: &Record| {
        let label = record.name.iter().next().map(<[u8]>::to_ascii_uppercase).unwrap();
        let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &record.data else { return false };
        let (owner, next) = (BASE32HEX_NOPAD.decode(&label).unwrap(), nsec3.next_hashed_owner_name().to_vec());
        if owner < next { owner < wildcard && wildcard < next } else { owner < wildcard || wildcard < next }
    };
    for n in 0..10 {
        let query = Query::query(name(&format!("none{n}.optout.t.")), RecordType::A);
        let mut message = world.answer(&query);
        assert_eq!(validate(&validator, &query, &message), Ok(Proof::Insecure), "{message}");
        let before = message.authorities.len();
        message.authorities.retain(|record| !covers_wildcard(record));
        assert_eq!(message.authorities.len(), before - 1);
        let (proof, message) = validated(&validator, &query, &message).unwrap();
        // An unsigned delegation may exist at the name.
        assert_eq!((proof, message.response_code), (Proof::Insecure, ResponseCode::NXDomain), "{message}");
    }
}

/// A denial with too many iterations is insecure, not bogus (RFC 9276, section 3.2).
#[test]
fn zones_with_many_iterations_are_insecure() {
    let truth = world(Denies::Nsec3 { opt_out: false, iterations: 151 });
    let validator = validator(truth);
    let world = validator_world(&validator);
    for (victim, rtype, expected) in [
        ("www.t.", RecordType::A, Proof::Secure),
        ("www.t.", RecordType::MX, Proof::Insecure),
        ("none.t.", RecordType::A, Proof::Insecure),
        ("www.plain.t.", RecordType::A, Proof::Insecure),
        ("www.nsec.t.", RecordType::A, Proof::Secure),
    ] {
        let query = Query::query(name(victim), rtype);
        assert_eq!(validate(&validator, &query, &world.answer(&query)), Ok(expected), "{victim} {rtype}");
    }
}

/// Wrong signatures take little work, however many a response has (CVE-2023-50387).
#[test]
fn many_wrong_signatures_take_little_work() {
    let validator = validator(world(Denies::Nsec));
    let world = validator_world(&validator);
    let query = Query::query(name("www.nsec.t."), RecordType::A);
    let mut message = world.answer(&query);
    let signature = message.answers.iter().find(|record| super::signature(record).is_some()).cloned().unwrap();
    message.answers.retain(|record| super::signature(record).is_none());
    // The validator does not search thousands of wrong signatures for a right one.
    message.add_answer(Record::from_rdata(query.name.clone(), 300, RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))));
    message.add_answers((0..3_000).map(|_| signature.clone()));
    let budget = Arc::new(Budget::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(validator.validate(&query, &mut message, &budget));
    assert!(found.is_err(), "{found:?}");
    assert!(budget.work.signatures() < 40, "{}", budget.work.signatures());
}

#[test]
fn names_below_wildcards_and_delegations_are_told_apart() {
    assert!(is_below(&name("t."), &name("a.t.")));
    assert!(!is_below(&name("a.t."), &name("a.t.")));
    assert!(!is_below(&name("b.t."), &name("a.t.")));
}
