//! Servers that forge, stall and send garbage, and attackers who try to answer first.

use super::{Resolver, TENANTS};
use crate::harness::{
    fake::{Asked, Fake, Say, a, beside, cname, ns, soa},
    reply::Reply,
    stub::query,
    wait_until,
};
use hickory_proto::op::{Message, ResponseCode};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

const RIGHT_ADDRESS: &str = "192.0.2.1";
const FORGED_ADDRESS: &str = "192.0.2.66";
/// The delay of the right response when a wrong response comes first.
const SOON: Duration = Duration::from_millis(60);
/// The longest time that a client waits, with a margin for a busy machine.
const MAX_CLIENT_WAIT: Duration = Duration::from_millis(5_000);
/// The maximum number of queries for one name. A larger number indicates a flood.
const MAX_QUERIES_PER_NAME: usize = 25;

/// Sends the right response shortly after wrong responses.
fn after(asked: &Asked, first: Vec<Say>) -> Vec<Say> {
    first.into_iter().chain([Say::Later(SOON, asked.address(RIGHT_ADDRESS))]).collect()
}

/// A server whose behaviour depends on the first label of the name. After names that begin with
/// `then-`, the right response follows.
fn misbehaving_server(own: &'static str) -> impl Fn(&Asked) -> Vec<Say> {
    move |asked| {
        let lie = asked.address(FORGED_ADDRESS);
        let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = lie.clone();
            edit(&mut octets);
            octets
        };
        let here = format!("{own}:0").parse().unwrap();
        match (asked.label().as_str(), asked.tcp) {
            // An attacker has no connection.
            (label, true) if label.starts_with("then-") => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
            ("then-id", _) => {
                after(asked, (1..200).map(|n| Say::Now(edited(&|o| o[1] = o[1].wrapping_add(n)))).collect())
            }
            ("then-name", _) => {
                let mut response = asked.response();
                response.queries[0].set_name("then-name.other.example.".parse().unwrap());
                response.answers =
                    vec![a("then-name.other.example", 60, FORGED_ADDRESS), a(&asked.name(), 60, FORGED_ADDRESS)];
                after(asked, vec![Say::Now(response.to_vec().unwrap())])
            }
            ("then-type", _) => after(asked, vec![Say::Now(edited(&|o| type_of_question(o, 28)))]),
            ("then-class", _) => after(asked, vec![Say::Now(edited(&|o| class_of_question(o, 3)))]),
            ("then-port", _) => after(asked, vec![Say::From(here, lie.clone())]),
            ("then-address", _) => after(asked, vec![Say::From(beside(here), lie.clone())]),
            ("then-query", _) => after(asked, vec![Say::Now(edited(&|o| o[2] &= 0x7f))]),
            ("then-opcode", _) => after(asked, vec![Say::Now(edited(&|o| o[2] |= 0x28))]),
            ("then-garbage", _) => {
                after(asked, vec![Say::Now(vec![0xff; 600]), Say::Now(vec![1, 2, 3]), Say::Now(vec![])])
            }
            ("then-no-question", _) => {
                let mut response = asked.response();
                response.queries.clear();
                response.answers = vec![a(&asked.name(), 60, FORGED_ADDRESS)];
                after(asked, vec![Say::Now(response.to_vec().unwrap())])
            }
            // The right response comes by TCP only.
            ("cut", false) => vec![Say::Now(asked.truncated())],
            ("cut", true) => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
            ("cut-with-lie", false) => vec![Say::Now(edited(&|o| o[2] |= 2))],
            ("cut-with-lie", true) => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
            ("cut-id", false) | ("cut-name", false) | ("cut-stall", false) | ("cut-close", false) => {
                vec![Say::Now(asked.truncated())]
            }
            ("cut-half", false) | ("cut-garbage", false) | ("cut-huge", false) => vec![Say::Now(asked.truncated())],
            ("cut-id", true) => vec![Say::Now(edited(&|o| o[0] ^= 0x55))],
            ("cut-name", true) => {
                let mut response = asked.response();
                response.queries[0].set_name("cut-name.other.example.".parse().unwrap());
                response.answers = vec![a(&asked.name(), 60, FORGED_ADDRESS)];
                vec![Say::Now(response.to_vec().unwrap())]
            }
            ("cut-close", true) => vec![Say::Raw(vec![])],
            ("cut-half", true) => vec![Say::Raw([&[0, 200][..], &lie[..20]].concat())],
            ("cut-garbage", true) => vec![Say::Raw(vec![0xff; 3_000])],
            ("cut-huge", true) => vec![Say::Raw([&[0xff, 0xff][..], &lie[..]].concat())],
            ("cut-for-ever", _) => vec![Say::Now(asked.truncated())],
            // The right header and question, followed by octets that cannot be parsed.
            ("broken-body", _) => vec![Say::Now(edited(&|o| o.truncate(o.len() - 20)))],
            ("broken-pointer", _) => vec![Say::Now(edited(&|o| {
                let at = 16 + asked.message.queries[0].name().len();
                o[at..at + 2].copy_from_slice(&[0xc0 | (at >> 8) as u8, at as u8]);
            }))],
            ("refused", _) => vec![Say::Now(asked.fails(ResponseCode::Refused))],
            ("servfail", _) => vec![Say::Now(asked.fails(ResponseCode::ServFail))],
            ("notimp", _) => vec![Say::Now(asked.fails(ResponseCode::NotImp))],
            // A referral to the root: a lame server.
            ("lame", _) => {
                let mut response = asked.response();
                response.authorities = vec![ns(".", 3600, "a.root-servers.net")];
                vec![Say::Now(response.to_vec().unwrap())]
            }
            ("late", _) => vec![Say::Later(Duration::from_secs(6), asked.address(RIGHT_ADDRESS))],
            ("slow", _) => vec![Say::Later(Duration::from_millis(1_200), asked.address(RIGHT_ADDRESS))],
            ("twice", _) => vec![Say::Now(asked.address(RIGHT_ADDRESS)), Say::Now(asked.address(FORGED_ADDRESS))],
            // Old servers do not support EDNS.
            ("no-edns", _) if asked.message.edns.is_some() => {
                let mut response = asked.response();
                (response.edns, response.metadata.response_code) = (None, ResponseCode::FormErr);
                vec![Say::Now(response.to_vec().unwrap())]
            }
            ("no-edns", _) => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
            ("lower-case", _) => {
                let mut response = asked.response();
                response.queries[0].set_name(asked.name().parse().unwrap());
                response.answers = vec![a(&asked.name(), 60, RIGHT_ADDRESS)];
                vec![Say::Now(response.to_vec().unwrap())]
            }
            _ => vec![],
        }
    }
}

fn type_of_question(octets: &mut [u8], rtype: u8) {
    let at = 12 + octets[12..].iter().position(|o| *o == 0).unwrap();
    octets[at + 2] = rtype;
}

fn class_of_question(octets: &mut [u8], class: u8) {
    let at = 12 + octets[12..].iter().position(|o| *o == 0).unwrap();
    octets[at + 4] = class;
}

#[test]
fn rejects_forged_and_malformed_responses() {
    // Behaviours that break a connection have their own server, so that questions on it do not
    // disturb others.
    let fake = Fake::start("127.72.0.2:0", misbehaving_server("127.72.0.2"));
    let breaker = Fake::start("127.72.0.4:0", misbehaving_server("127.72.0.4"));
    let resolver =
        Resolver::start(&[("liar.example", &[fake.target()]), ("break.liar.example", &[breaker.target()])], "");
    let name = |label: &str| match label.starts_with("break-") {
        true => format!("{}.break.liar.example", label.replace("break-", "cut-")),
        false => format!("{label}.liar.example"),
    };
    let right = [
        "then-id",
        "then-name",
        "then-type",
        "then-class",
        "then-port",
        "then-address",
        "then-query",
        "then-opcode",
        "then-garbage",
        "then-no-question",
        "cut",
        "cut-with-lie",
        "slow",
        "twice",
        "no-edns",
        "lower-case",
    ];
    let failure = [
        "break-id",
        "break-name",
        "break-stall",
        "break-close",
        "break-half",
        "break-garbage",
        "break-huge",
        "cut-for-ever",
        "broken-body",
        "broken-pointer",
        "refused",
        "servfail",
        "notimp",
        "lame",
        "late",
        "silent",
    ];
    let mut wrong = String::new();
    thread::scope(|scope| {
        let asks: Vec<_> = right
            .iter()
            .chain(&failure)
            .map(|label| {
                let (stub, name) = (resolver.stub(), name(label));
                (label, scope.spawn(move || stub.ask(&name)))
            })
            .collect();
        for (label, ask) in asks {
            let said = ask.join().unwrap();
            let expected: (&str, &[&str]) =
                if right.contains(label) { ("NOERROR", &[RIGHT_ADDRESS]) } else { ("SERVFAIL", &[]) };
            let got = (said.reply.status.as_str(), &said.reply.data("A")[..]);
            let explained = expected.0 == "NOERROR" || !said.reply.ede.is_empty();
            let questions = fake.count_below(&name(label)) + breaker.count_below(&name(label));
            if got != expected || !explained || said.took > MAX_CLIENT_WAIT || questions > MAX_QUERIES_PER_NAME {
                wrong += &format!(
                    "{label}: after {:?} and {questions} questions to the server\n{}{}\n\n",
                    said.took, said.reply, said.why
                );
            }
        }
    });
    // Late and repeated responses change no answer.
    let again = resolver.stub().ask("twice.liar.example");
    assert_eq!(again.reply.data("A"), [RIGHT_ADDRESS], "{}", again.reply);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Servers may close connections at any time (RFC 7766, section 6.2.4). zonal repeats the queries
/// that had no response.
#[test]
fn retries_after_closed_connections() {
    let n = AtomicUsize::new(0);
    let fake = Fake::start("127.72.5.2:0", move |asked| {
        let answer = asked.address(RIGHT_ADDRESS);
        let is_last = n.fetch_add(1, Relaxed) % 4 == 3;
        match asked.tcp {
            false => vec![Say::Now(asked.truncated())],
            true if is_last => vec![Say::Raw([&(answer.len() as u16).to_be_bytes()[..], &answer].concat())],
            true => vec![Say::Now(answer)],
        }
    });
    let resolver = Resolver::start(&[("close.example", &[fake.target()])], "");
    for n in 0..20 {
        let said = resolver.stub().ask(&format!("one-{n}.close.example"));
        assert_eq!(said.reply.data("A"), [RIGHT_ADDRESS], "question {n}: {}{}", said.reply, said.why);
    }
    let names: Vec<String> = (0..8).map(|n| format!("many-{n}.close.example")).collect();
    let replies = resolver.stub().volley(&names, 20);
    let failed: Vec<_> = replies.values().filter(|reply| reply.data("A") != [RIGHT_ADDRESS]).collect();
    assert!(failed.is_empty(), "{} of {} failed: {}", failed.len(), names.len(), failed[0]);
    assert_eq!(replies.len(), names.len());
}

/// Answers every query correctly, and adds records outside its domain.
fn server_outside_its_domain(asked: &Asked) -> Vec<Say> {
    let owner = asked.owner().to_ascii();
    let mut response = asked.response();
    let victims = ["victim.good.example", "victim.evil.example", "good.example", "www.good.example"];
    let forged_records = || victims.iter().map(|victim| a(victim, 86_400, FORGED_ADDRESS)).collect::<Vec<_>>();
    match asked.label().as_str() {
        "answer" => response.answers = [vec![a(&owner, 60, RIGHT_ADDRESS)], forged_records()].concat(),
        "authority" => {
            response.answers = vec![a(&owner, 60, RIGHT_ADDRESS)];
            response.authorities =
                vec![ns("good.example", 86_400, "ns.evil.example"), ns("example", 86_400, "ns.evil.example")];
            response.authorities.extend(forged_records());
            response.additionals = vec![a("ns.evil.example", 86_400, FORGED_ADDRESS)];
        }
        "additional" => {
            response.answers = vec![a(&owner, 60, RIGHT_ADDRESS)];
            response.additionals = forged_records();
        }
        // A chain that leaves the domain: zonal asks the servers responsible for the target.
        "chain" => {
            response.answers = [vec![cname(&owner, 60, "victim.good.example")], forged_records()].concat();
        }
        // The answer has records of other names only.
        "other" => response.answers = forged_records(),
        // A negative answer from a zone outside the domain.
        "nothing" => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.authorities = vec![soa("example", 86_400), soa("good.example", 86_400)];
        }
        "victim" => response.answers = vec![a(&owner, 60, RIGHT_ADDRESS)],
        _ => return vec![],
    }
    vec![Say::Now(response.to_vec().unwrap())]
}

#[test]
fn discards_records_outside_the_domain_of_a_rule() {
    let good = Fake::start("127.72.1.2:0", |asked| vec![Say::Now(asked.address("192.0.2.2"))]);
    let evil = Fake::start("127.72.1.3:0", server_outside_its_domain);
    let resolver = Resolver::start(&[("good.example", &[good.target()]), ("evil.example", &[evil.target()])], "");
    let stub = resolver.stub();
    for transport in ["", " +tcp", " +dnssec", " +cd"] {
        for label in ["answer", "authority", "additional", "chain", "other", "nothing"] {
            let said = stub.ask(&format!("{label}.evil.example A{transport}"));
            let text = said.reply.to_string();
            assert!(!text.contains(FORGED_ADDRESS), "{label}{transport}\n{text}");
            let expected: &[&str] = match label {
                "chain" => &["192.0.2.2"],
                "other" | "nothing" => &[],
                _ => &[RIGHT_ADDRESS],
            };
            assert_eq!(said.reply.data("A"), expected, "{label}{transport}\n{text}");
            for (victim, address) in [
                ("victim.good.example", "192.0.2.2"),
                ("www.good.example", "192.0.2.2"),
                ("good.example", "192.0.2.2"),
                ("victim.evil.example", RIGHT_ADDRESS),
            ] {
                let said = stub.ask(&format!("{victim} A{transport}"));
                assert_eq!(said.reply.data("A"), [address], "{victim} after {label}{transport}\n{}", said.reply);
            }
        }
    }
}

/// A forged response for one name that zonal cannot detect has no effect on another name.
#[test]
fn asks_for_cname_targets_of_responses_by_udp() {
    let fake = Fake::start("127.72.7.2:0", |asked| {
        let (owner, victim) = (asked.owner().to_ascii(), format!("{}.victim.example", asked.label()));
        let mut response = asked.response();
        match asked.label().split('-').next().unwrap() {
            _ if asked.name().ends_with(".victim.example") => return vec![Say::Now(asked.address(RIGHT_ADDRESS))],
            "stream" if !asked.tcp => return vec![Say::Now(asked.truncated())],
            "nothing" => {
                response.metadata.response_code = ResponseCode::NXDomain;
                response.answers = vec![cname(&owner, 60, &victim)];
                response.authorities = vec![soa("example", 86_400)];
            }
            _ => response.answers = vec![cname(&owner, 60, &victim), a(&victim, 86_400, FORGED_ADDRESS)],
        }
        vec![Say::Now(response.to_vec().unwrap())]
    });
    let resolver = Resolver::start(&[("example", &[fake.target()])], "");
    let stub = resolver.stub();
    for (label, known, expected) in [
        ("datagram-1", false, RIGHT_ADDRESS),
        ("datagram-2", true, RIGHT_ADDRESS),
        ("nothing-1", false, RIGHT_ADDRESS),
        ("nothing-2", true, RIGHT_ADDRESS),
        // Over TCP, zonal accepts the target's records, but they do not replace a valid answer in
        // the cache.
        ("stream-1", false, FORGED_ADDRESS),
        ("stream-2", true, RIGHT_ADDRESS),
    ] {
        let victim = format!("{label}.victim.example");
        if known {
            assert_eq!(stub.ask(&victim).reply.data("A"), [RIGHT_ADDRESS], "{label}");
        }
        let said = stub.ask(&format!("{label}.alias.example"));
        assert_eq!(said.reply.data("CNAME"), [format!("{victim}.")], "{label}\n{}", said.reply);
        if !label.starts_with("stream") {
            assert_eq!(said.reply.data("A"), [RIGHT_ADDRESS], "{label}\n{}", said.reply);
        }
        assert_eq!(stub.ask(&victim).reply.data("A"), [expected], "{label}");
        let questions = fake.count_below(&victim);
        assert_eq!(questions >= 1, label != "stream-1", "{label}: {questions} questions for the target");
    }
}

/// A referral causes only a few queries, however many name servers it has (NXNSAttack).
#[test]
fn limits_the_questions_of_a_referral_to_many_name_servers() {
    let fake = Fake::start("127.72.8.2:0", |asked| {
        let mut response = asked.response();
        match (asked.name().ends_with(".names.example"), asked.tcp) {
            (true, _) => response.authorities = vec![soa("names.example", 60)],
            (_, false) => return vec![Say::Now(asked.truncated())],
            (_, true) => {
                let server = |n: usize| ns("cut.corp.example", 60, &format!("ns{n}.names.example"));
                response.authorities = (0..1_200).map(server).collect();
            }
        }
        vec![Say::Now(response.to_vec().unwrap())]
    });
    let resolver = Resolver::serve(&format!(
        "{TENANTS}resolver_rules:
  corp: {{domain_name: corp.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{0}]}}
  names: {{domain_name: names.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{0}]}}
  cut: {{domain_name: names.example, rule_type: DELEGATE, vpc_ids: [vpc-a]}}
",
        fake.target()
    ));
    let said = resolver.stub().ask("www.cut.corp.example");
    assert_eq!(said.reply.status, "SERVFAIL", "{}", said.reply);
    let names: HashSet<String> = fake.collect(Asked::name).into_iter().filter(|n| n.starts_with("ns")).collect();
    assert!((1..=5).contains(&names.len()), "{} name servers were looked for: {}", names.len(), said.why);
}

/// Sends queries for all these names at once, so that they use all permits. Returns the answers,
/// and the number of answers for other names meanwhile.
fn ask_many(resolver: &Resolver, names: &[String], others: &str) -> (HashMap<usize, Reply>, usize) {
    let (ended, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let meanwhile = scope.spawn(|| {
            let stub = resolver.stub_at("127.70.0.8");
            while !ended.load(Relaxed) {
                let n = asked.fetch_add(1, Relaxed);
                // By TCP, as datagrams can be lost in the flood.
                let said = stub.ask(&format!("n{n}.{others} A +tcp"));
                assert_eq!(
                    said.reply.data("A"),
                    [RIGHT_ADDRESS],
                    "question {n} of others: {} {}",
                    said.reply,
                    said.why
                );
            }
        });
        let replies = resolver.stub().volley(names, 20);
        ended.store(true, Relaxed);
        meanwhile.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (replies, asked.load(Relaxed))
    })
}

/// All queries end, other rules answer meanwhile, and memory does not grow from one flood of
/// queries to the next.
#[test]
fn a_dead_target_delays_no_other_rule() {
    let live = Fake::start("127.72.2.2:0", |asked| vec![Say::Now(asked.address(RIGHT_ADDRESS))]);
    let dead = Fake::start("127.72.2.3:0", |_| vec![]);
    let rules: [(&str, &[String]); 2] = [("live.example", &[live.target()]), ("dead.example", &[dead.target()])];
    // The cache must be full before the memory can be compared.
    let resolver = Resolver::serve_with(&Resolver::manifest(&rules, ""), "cache: {size_octets: 1048576}\n");
    let mut resident = Vec::new();
    for n in 0..4 {
        let names: Vec<String> = (0..12_000).map(|name| format!("n{name}.s{n}.dead.example")).collect();
        let (replies, others) = ask_many(&resolver, &names, &format!("s{n}.live.example"));
        // Datagrams can be lost on loopback too.
        assert!(replies.len() > 10_000, "{} of {} were answered", replies.len(), names.len());
        assert!(replies.values().all(|reply| reply.status == "SERVFAIL" && !reply.ede.is_empty()));
        assert!(others > 10, "only {others} questions of others were answered meanwhile");
        resident.push(resolver.server.process.resident_kb());
    }
    assert!(resident[3] < resident[0] + 48 * 1_024, "{resident:?} kB after each storm");
    assert!(resident[3] < 200 * 1_024, "{resident:?} kB after each storm");
}

/// A target that answers occasionally is not dead, and its queries wait long. They must not use all
/// permits.
#[test]
fn a_target_that_never_answers_delays_no_other_rule() {
    let n = AtomicUsize::new(0);
    let live = Fake::start("127.72.6.2:0", |asked| vec![Say::Now(asked.address(RIGHT_ADDRESS))]);
    let tarpit = Fake::start("127.72.6.3:0", move |asked| match n.fetch_add(1, Relaxed) % 50 {
        0 => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
        _ => vec![],
    });
    let resolver = Resolver::start(&[("live.example", &[live.target()]), ("tar.example", &[tarpit.target()])], "");
    let names: Vec<String> = (0..25_000).map(|name| format!("n{name}.tar.example")).collect();
    let (replies, others) = ask_many(&resolver, &names, "live.example");
    assert!(replies.len() > 15_000, "{} of {} were answered", replies.len(), names.len());
    assert!(others > 10, "only {others} questions of others were answered meanwhile");
}

/// Unanswered queries of one tenant do not disturb another tenant, neither by the same rule nor by
/// another rule with the same target.
#[test]
fn a_tenant_with_unanswered_queries_harms_no_other_tenant() {
    let fake = Fake::start("127.72.9.2:0", |asked| match asked.name().contains(".silent.") {
        true => vec![],
        false => vec![Say::Now(asked.address(RIGHT_ADDRESS))],
    });
    let resolver = Resolver::serve(&format!(
        "{TENANTS}resolver_rules:
  shared: {{domain_name: shared.example, rule_type: FORWARD, vpc_ids: [vpc-a, vpc-b], target_ips: [{0}]}}
  other: {{domain_name: other.example, rule_type: FORWARD, vpc_ids: [vpc-b], target_ips: [{0}]}}
  own: {{domain_name: own.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{0}]}}
",
        fake.target()
    ));
    let (ended, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counted = |metric: &str| resolver.server.metric(&[metric]) as usize;
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let stub = resolver.stub_at("127.71.0.8");
            let mut asked = 0;
            while !ended.load(Relaxed) {
                for domain in ["shared", "other"] {
                    let said = stub.ask(&format!("n{asked}.{domain}.example A +tcp"));
                    assert_eq!(said.reply.data("A"), [RIGHT_ADDRESS], "question {asked}: {}{}", said.reply, said.why);
                    asked += 1;
                }
                most.fetch_max(counted("zonal_waiting_queries "), Relaxed);
            }
            asked
        });
        let attackers: Vec<_> = (0..4)
            .map(|n| {
                let stub = resolver.stub_at(&format!("127.70.0.{}", 10 + n));
                let domain = ["shared", "own"][n % 2];
                let names: Vec<String> =
                    (0..4_000).map(|name| format!("n{name}.c{n}.silent.{domain}.example")).collect();
                scope.spawn(move || stub.volley(&names, 2))
            })
            .collect();
        for attacker in attackers {
            let replies = attacker.join().unwrap();
            assert!(replies.values().all(|reply| reply.status == "SERVFAIL" && !reply.ede.is_empty()));
        }
        ended.store(true, Relaxed);
        let asked = others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(asked > 10, "only {asked} questions of the other tenant were answered meanwhile");
    });
    let most = most.load(Relaxed);
    // A quarter of all permits, and the permits of the other tenant.
    assert!((1_000..=2_502).contains(&most), "{most} queries of one tenant waited at the same time");
    wait_until("replaced queries are counted", || {
        (counted("zonal_waiting_queries_replaced_total") > 100).then_some(())
    });
    // zonal does not cache a refusal by admission. It asks for the name as soon as there is a
    // permit.
    let name = "n3999.c0.silent.shared.example";
    let before = fake.count_below(name);
    resolver.stub_at("127.70.0.10").ask(&format!("{name} AAAA"));
    assert!(fake.count_below(name) > before);
}

/// A forged response with the attacker's address.
fn forgery(id: u16, name: &str) -> Vec<u8> {
    let message = Message::from_vec(&query(id, name)).unwrap();
    Asked { message, from: SocketAddr::from(([0; 4], 0)), tcp: false }.address(FORGED_ADDRESS)
}

/// An attacker who sends from the server's address but does not see the queries, while the server
/// is slow.
#[test]
fn rejects_forged_responses_that_arrive_first() {
    let stop = Arc::new(AtomicBool::new(false));
    let slow =
        Fake::start("127.72.3.2:0", |asked| vec![Say::Later(Duration::from_millis(250), asked.address(RIGHT_ADDRESS))]);
    let resolver = Resolver::start(&[("race.example", &[slow.target()])], "");
    let forged = Arc::new(AtomicUsize::new(0));
    let attacker = thread::spawn({
        let (stop, forged, address) = (stop.clone(), forged.clone(), slow.address);
        move || {
            let raw = socket2::Protocol::UDP;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(raw)).unwrap();
            socket.bind(&SocketAddr::new(address.ip(), 0).into()).unwrap();
            let mut seed = 0x2545_f491_4f6c_dd1d_u64;
            let mut random = || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed
            };
            while !stop.load(Relaxed) {
                let (n, bits) = (random() % 40, random());
                let port = 1_024 + (bits >> 32) as u16 % (u16::MAX - 1_024);
                let lie = forgery(bits as u16, &format!("n{n}.race.example"));
                let ports = [address.port(), port, 8 + lie.len() as u16, 0].map(u16::to_be_bytes).concat();
                let to = SocketAddr::from(([127, 0, 0, 1], 0));
                if socket.send_to(&[ports, lie].concat(), &to.into()).is_ok() {
                    forged.fetch_add(1, Relaxed);
                }
            }
        }
    });
    wait_until("the attacker is at work", || (forged.load(Relaxed) > 100).then_some(()));
    let names: Vec<String> = (0..40).map(|n| format!("n{n}.race.example")).collect();
    for _ in 0..3 {
        let replies = resolver.stub().volley(&names, 1);
        assert_eq!(replies.len(), names.len());
        for reply in replies.values() {
            assert_eq!(reply.data("A"), [RIGHT_ADDRESS], "{reply}");
        }
    }
    // A birthday attack sends many queries for one name. zonal sends one query, with one ID and
    // port to guess.
    let same: Vec<String> = (0..500).map(|_| "birthday.race.example".into()).collect();
    let replies = resolver.stub().volley(&same, 50);
    assert!(replies.values().all(|reply| reply.data("A") == [RIGHT_ADDRESS]));
    let questions = slow.count_below("birthday.race.example");
    assert!(questions <= 3, "{questions} equal questions were on their way");
    stop.store(true, Relaxed);
    attacker.join().unwrap();
    assert!(forged.load(Relaxed) > 1_000, "{forged:?} forgeries are no attack");

    let ids: HashSet<u16> = slow.collect(|asked| asked.message.metadata.id).into_iter().collect();
    let ports: HashSet<u16> = slow.collect(|asked| asked.from.port()).into_iter().collect();
    assert!(ids.len() > 35, "numbers that can be guessed: {ids:?}");
    assert!(ports.len() > 30, "ports that can be guessed: {ports:?}");
}
