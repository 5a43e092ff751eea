//! Each test asks for names of a small manifest, and of a server that answers what the test says.

use super::*;
use crate::{
    answer::{
        Answered, Client, Moment, Outcome, answer,
        known::{Entry, KnownAnswer, KnownAnswers, Question, Records},
    },
    manifest::Loaded,
    snapshot::{
        Node, Snapshot, compile,
        routes::{Route, RouteId, Servers, Target},
    },
    wire::{Name, message::Message},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

fn wire(name: &str) -> Box<[u8]> {
    Name::absolute(name).unwrap().to_lowercase().as_wire().into()
}

/// The answers of another server: for each name, a target or addresses.
#[derive(Default)]
struct Server(BTreeMap<(Box<[u8]>, u16), Entry>);

impl Server {
    fn add(&mut self, name: &str, rtype: u16, rdata: &[u8], target: bool) -> &mut Server {
        let qtypes = if target { vec![rtype::A, rtype::AAAA] } else { vec![rtype] };
        let rtype = if target { rtype::CNAME } else { rtype };
        let mut octets = vec![crate::answer::known::OWNER, 0];
        octets.extend(rtype.to_be_bytes());
        octets.extend([0, 1, 0, 0, 0, 60]);
        octets.extend((rdata.len() as u16).to_be_bytes());
        octets.extend(rdata);
        for qtype in qtypes {
            let entry = Entry {
                rcode: rcode::NOERROR,
                authentic: false,
                ttl: 60,
                since: 0,
                answer: Records { count: 1, octets: octets.clone().into() },
                target: target.then_some(12),
                authority: Records::default(),
                ede: None,
                details: None,
                servers: None,
            };
            self.0.insert((wire(name), qtype), entry);
        }
        self
    }

    fn cname(&mut self, name: &str, target: &str) -> &mut Server {
        self.add(name, rtype::CNAME, &wire(target), true)
    }

    fn address(&mut self, name: &str, address: &str) -> &mut Server {
        match address.parse().unwrap() {
            IpAddr::V4(address) => self.add(name, rtype::A, &address.octets(), false),
            IpAddr::V6(address) => self.add(name, rtype::AAAA, &address.octets(), false),
        }
    }
}

impl KnownAnswers for Server {
    fn with<R>(&self, _: RouteId, question: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        let entry = self.0.get(&(question.name.wire().into(), question.qtype));
        use_it(entry.map(|entry| KnownAnswer { entry, ttl: 60, stale: false, refresh: false }))
    }
}

fn snapshot_with(rules: Value, change: impl FnOnce(&mut Value)) -> Snapshot {
    let mut manifest = json!({
        "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"], "resolver_addresses": ["10.1.0.2"]}},
        "private_hosted_zones": {"Z": {"name": "corp.example", "vpc_ids": ["a"], "records": [
            {"name": "www", "type": "A", "records": ["10.1.0.80"]},
            {"name": "alias", "type": "CNAME", "records": ["bad.example."]},
            {"name": "twice", "type": "CNAME", "records": ["alias.corp.example."]},
            {"name": "garden", "type": "A", "records": ["10.1.0.99"]},
            {"name": "*.wild", "type": "A", "records": ["10.1.0.98"]},
        ]}},
        "resolver_rules": {"other": {"domain_name": "partner.example", "rule_type": "FORWARD", "vpc_ids": ["a"],
                                     "target_ips": [{"ip": "192.0.2.1"}]}},
        "firewall_domain_lists": {
            "bad": {"domains": ["bad.example", "*.worse.example"]},
            "good": {"domains": ["good.bad.example", "alias.corp.example", "bad.example"]},
            "corp": {"domains": ["*.corp.example"]},
            "all": {"domains": ["*"]},
            "far": {"source": {"file": "far.txt"}},
            "near": {"source": {"file": "near.txt"}, "on_missing": "skip"},
        },
        "firewall_rule_groups": {"g": {"rules": rules, "vpc_associations": [{"vpc_id": "a", "priority": 100}]}},
    });
    change(&mut manifest);
    let target = Target { ip: [192, 0, 2, 53].into(), port: 53, protocol: Default::default(), server_name: None };
    let internet = Servers::Targets { targets: vec![target], sources: Vec::new(), trust_ad: false };
    let route = Arc::new(Route::new(String::new(), [0].into(), internet));
    let node = Arc::new(Node { internet: Some(route), loads_firewall_lists: true, ..Node::default() });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    compile(&loaded, &node, None).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn snapshot(rules: Value) -> Snapshot {
    snapshot_with(rules, |_| {})
}

fn block(rest: Value) -> Value {
    let mut rule = json!({"name": "r", "priority": 10, "action": "BLOCK", "firewall_domain_list_id": "bad"});
    rule.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    rule
}

struct Reply {
    message: Message,
    answered: Answered,
}

impl Reply {
    /// The records of the answer section, as text.
    fn answer(&self) -> Vec<String> {
        self.message.sections[0].iter().map(ToString::to_string).collect()
    }

    fn outcomes(&self) -> Vec<&'static str> {
        self.answered.firewall.iter().map(|(_, outcome)| FirewallOutcome::LABELS[outcome].1).collect()
    }
}

fn ask_by(transport: Transport, snapshot: &Snapshot, server: &Server, name: &str, qtype: u16) -> Option<Reply> {
    let client = Client { source: [10, 1, 0, 7].into(), port: 0, local: [10, 1, 0, 2].into(), transport };
    let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let opt = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    let query = [&header[..], &wire(name), &qtype.to_be_bytes(), &[0, 1], &opt].concat();
    let mut reply = vec![0; 65_535];
    match answer(snapshot, server, &client, Moment { now: 0, draw: 0 }, &query, &mut reply) {
        Outcome::Reply(answered) => {
            Some(Reply { message: Message::read(&reply[..answered.len]).unwrap_or_default(), answered })
        }
        _ => None,
    }
}

fn ask(snapshot: &Snapshot, server: &Server, name: &str, qtype: u16) -> Reply {
    ask_by(Transport::Tcp, snapshot, server, name, qtype).unwrap_or_else(|| panic!("{name}: no reply"))
}

#[test]
fn a_blocked_name_has_a_soa_record_of_its_own_and_is_never_asked_of_other_servers() {
    for (rule, code) in [
        (block(json!({})), rcode::NOERROR),
        (block(json!({"block_response": "NODATA", "block_ttl": 0})), rcode::NOERROR),
        (block(json!({"block_response": "NXDOMAIN", "block_ttl": 33})), rcode::NXDOMAIN),
    ] {
        let ttl = rule["block_ttl"].as_u64().unwrap_or(10) as u32;
        let snapshot = snapshot(json!([rule]));
        // A server without answers: a question to it would be no reply.
        let reply = ask(&snapshot, &Server::default(), "bad.example", rtype::A);
        let message = &reply.message;
        assert_eq!((message.rcode, message.sections[0].len()), (code, 0));
        assert_eq!(message.flags & (flag::AA | flag::AD | flag::RA), flag::RA);
        let soa = &message.sections[1][0];
        assert_eq!((soa.owner.to_string(), soa.rtype, soa.ttl), ("bad.example.".into(), rtype::SOA, ttl));
        assert_eq!(soa.rdata[soa.rdata.len() - 4..], ttl.to_be_bytes());
        assert_eq!(message.ede, Some((15, "rule r of g, list bad".into())));
        assert_eq!((reply.answered.kind, reply.outcomes()), (crate::answer::AnswerKind::Firewall, vec!["block"]));
    }
}

#[test]
fn every_name_of_a_chain_is_inspected_and_a_block_replaces_the_whole_answer() {
    let snapshot = snapshot(json!([block(json!({}))]));
    let mut server = Server::default();
    server.cname("cdn.example", "x.worse.example").address("x.worse.example", "203.0.113.1");
    server.address("worse.example", "203.0.113.2").address("x.bad.example", "203.0.113.3");
    for name in ["alias.corp.example", "twice.corp.example", "cdn.example", "X.Worse.example"] {
        let reply = ask(&snapshot, &server, name, rtype::A);
        assert_eq!((reply.answer(), reply.message.rcode), (Vec::<String>::new(), rcode::NOERROR), "{name}");
        let soa = &reply.message.sections[1][0];
        assert_eq!((&soa.owner, soa.rtype), (&Name::absolute(name).unwrap(), rtype::SOA));
        assert_eq!(reply.message.flags & flag::AA, 0, "{name}");
    }
    for (name, address) in
        [("worse.example", "203.0.113.2"), ("x.bad.example", "203.0.113.3"), ("www.corp.example", "10.1.0.80")]
    {
        let reply = ask(&snapshot, &server, name, rtype::A);
        assert!(reply.answer()[0].ends_with(address), "{name}: {:?}", reply.answer());
        assert!(reply.message.ede.is_none() && reply.answered.firewall.is_empty());
    }
}

#[test]
fn the_first_rule_decides_and_a_shadow_rule_does_not() {
    let rule = |name: &str, priority: u32, action: &str, list: &str, shadow: bool| json!({"name": name, "priority": priority, "action": action, "firewall_domain_list_id": list, "shadow": shadow});
    let mut server = Server::default();
    server.address("bad.example", "203.0.113.1");
    for (rules, outcomes, is_blocked) in [
        (json!([rule("a", 1, "ALLOW", "good", false), rule("b", 2, "BLOCK", "bad", false)]), vec!["allow"], false),
        (json!([rule("a", 2, "ALLOW", "good", false), rule("b", 1, "BLOCK", "bad", false)]), vec!["block"], true),
        (json!([rule("a", 1, "ALERT", "good", false), rule("b", 2, "BLOCK", "bad", false)]), vec!["alert"], false),
        (
            json!([rule("a", 1, "ALERT", "good", true), rule("b", 2, "BLOCK", "bad", false)]),
            vec!["shadow", "block"],
            true,
        ),
        (json!([rule("a", 1, "BLOCK", "bad", true)]), vec!["shadow"], false),
        (json!([rule("a", 2, "BLOCK", "bad", true), rule("b", 1, "ALLOW", "good", false)]), vec!["allow"], false),
        (json!([rule("a", 1, "BLOCK", "all", true), rule("b", 2, "BLOCK", "corp", false)]), vec!["shadow"], false),
    ] {
        let reply = ask(&snapshot(rules.clone()), &server, "bad.example", rtype::A);
        assert_eq!((reply.outcomes(), reply.answer().is_empty()), (outcomes, is_blocked), "{rules}");
    }
}

#[test]
fn a_trusting_rule_exempts_the_rest_of_the_chain() {
    let rules = |action: &str, redirection: &str| {
        json!([
            {"name": "corp", "priority": 1, "action": action, "firewall_domain_list_id": "corp", "redirection_action": redirection},
            {"name": "bad", "priority": 2, "action": "BLOCK", "firewall_domain_list_id": "bad"},
        ])
    };
    let mut server = Server::default();
    server.address("bad.example", "203.0.113.1");
    for (action, redirection, is_blocked) in
        [("ALLOW", "TRUST", false), ("ALERT", "TRUST", false), ("ALLOW", "INSPECT", true), ("ALERT", "INSPECT", true)]
    {
        let reply = ask(&snapshot(rules(action, redirection)), &server, "alias.corp.example", rtype::A);
        assert_eq!(reply.answer().is_empty(), is_blocked, "{action} {redirection}");
    }
    // A trusting rule looks at the first name only.
    let trusting = snapshot(json!([block(json!({"redirection_action": "TRUST"}))]));
    assert_eq!(ask(&trusting, &server, "alias.corp.example", rtype::A).answer().len(), 2);
    assert_eq!(ask(&trusting, &server, "bad.example", rtype::A).answer().len(), 0);
}

#[test]
fn the_last_of_a_thousand_rules_decides() {
    let rule = |number: usize| {
        let list = if number == 999 { "all" } else { "bad" };
        json!({"name": format!("r{number}"), "priority": number, "action": "BLOCK", "firewall_domain_list_id": list,
               "block_response": "NXDOMAIN", "shadow": number < 999})
    };
    let snapshot = snapshot((0..1000).map(rule).collect());
    let mut server = Server::default();
    server.address("bad.example", "203.0.113.1").address("fine.example", "203.0.113.1");
    for name in ["bad.example", "fine.example", "www.corp.example"] {
        let reply = ask(&snapshot, &server, name, rtype::A);
        assert_eq!(reply.message.ede, Some((15, "rule r999 of g, list all".into())), "{name}");
        assert_eq!(reply.outcomes().last(), Some(&"block"), "{name}");
    }
}

#[test]
fn a_rule_is_for_its_query_types() {
    let snapshot = snapshot(json!([block(json!({"qtypes": ["AAAA", "HTTPS"]}))]));
    let mut server = Server::default();
    server.address("bad.example", "203.0.113.1").address("bad.example", "2001:db8::1");
    for (qtype, is_blocked) in [(rtype::A, false), (rtype::AAAA, true), (65, true)] {
        assert_eq!(ask(&snapshot, &server, "bad.example", qtype).answer().is_empty(), is_blocked, "{qtype}");
    }
}

#[test]
fn override_answers_with_a_cname_whose_target_is_not_inspected() {
    let rule = |target: &str| {
        json!([{"name": "r", "priority": 1, "action": "BLOCK", "firewall_domain_list_id": "all", "block_response": "OVERRIDE",
                "block_override_domain": target, "block_override_ttl": 60}])
    };
    let garden = snapshot(rule("garden.corp.example"));
    for name in ["bad.example", "alias.corp.example"] {
        let reply = ask(&garden, &Server::default(), name, rtype::A);
        let expected = [
            format!("{name}. 60 IN CNAME garden.corp.example."),
            "garden.corp.example. 300 IN A 10.1.0.99".to_string(),
        ];
        assert_eq!(reply.answer(), expected);
        assert_eq!(reply.message.ede, Some((15, "rule r of g, list all".into())));
        assert_eq!(reply.message.flags & (flag::AA | flag::AD), 0);
        assert_eq!(reply.outcomes(), ["block"]);
    }
    assert_eq!(ask(&garden, &Server::default(), "bad.example", rtype::CNAME).answer().len(), 1);
    let wild = snapshot(rule("*.wild.corp.example"));
    let reply = ask(&wild, &Server::default(), "a.bad.example", rtype::A);
    assert_eq!(reply.answer()[0], "a.bad.example. 60 IN CNAME a.bad.example.wild.corp.example.");
    assert_eq!(reply.answer().len(), 2);
    // The query name does not fit in front of the target.
    let long = vec!["a".repeat(60); 4].join(".");
    let reply = ask(&wild, &Server::default(), &long, rtype::A);
    assert_eq!((reply.message.rcode, reply.answer().len()), (rcode::NXDOMAIN, 0));
}

#[test]
fn whoami_is_not_filtered() {
    let snapshot = snapshot(json!([block(json!({"firewall_domain_list_id": "all"}))]));
    assert!(ask(&snapshot, &Server::default(), "whoami.zonal", rtype::TXT).answer()[0].contains("vpc=a"));
    assert!(ask(&snapshot, &Server::default(), "www.corp.example", rtype::A).answer().is_empty());
}

#[test]
fn addresses_of_other_servers_are_inspected() {
    let rule = |rest: Value| {
        let mut rule = json!({"name": "r", "priority": 10, "action": "BLOCK", "answer_addresses": ["10.0.0.0/8"],
                              "block_response": "NXDOMAIN"});
        rule.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        rule
    };
    let mut server = Server::default();
    server.address("rebind.example", "10.9.9.9").cname("late.example", "rebind.example");
    server.address("fine.example", "203.0.113.1").address("x.partner.example", "10.9.9.9");
    server.address("mapped.example", "::ffff:10.9.9.9").address("nat64.example", "64:ff9b::a09:909");
    let snapshot_of = |rule: Value| snapshot(json!([rule]));
    let all = snapshot_of(rule(json!({})));
    for (name, qtype, is_blocked) in [
        ("rebind.example", rtype::A, true),
        ("late.example", rtype::A, true),
        ("x.partner.example", rtype::A, true),
        ("mapped.example", rtype::AAAA, true),
        ("nat64.example", rtype::AAAA, true),
        ("fine.example", rtype::A, false),
        ("www.corp.example", rtype::A, false), // zonal's own name
    ] {
        let reply = ask(&all, &server, name, qtype);
        let expected = if is_blocked { rcode::NXDOMAIN } else { rcode::NOERROR };
        assert_eq!((reply.message.rcode, reply.answer().is_empty()), (expected, is_blocked), "{name}");
        let ede = is_blocked.then(|| (15, "rule r of g".to_string()));
        assert_eq!(reply.message.ede, ede, "{name}");
    }
    let internet = snapshot_of(rule(json!({"internet_only": true})));
    assert!(ask(&internet, &server, "rebind.example", rtype::A).answer().is_empty());
    assert_eq!(ask(&internet, &server, "x.partner.example", rtype::A).answer().len(), 1);
    let shadow = snapshot_of(rule(json!({"shadow": true})));
    let reply = ask(&shadow, &server, "rebind.example", rtype::A);
    assert_eq!((reply.answer().len(), reply.outcomes()), (1, vec!["shadow"]));
}

#[test]
fn a_rule_on_addresses_counts_only_before_the_rule_that_allows_the_name() {
    let mut server = Server::default();
    server.address("bad.example", "10.9.9.9");
    for (priority, is_blocked) in [(5, true), (15, false)] {
        let snapshot = snapshot(json!([
            {"name": "names", "priority": 10, "action": "ALLOW", "firewall_domain_list_id": "bad"},
            {"name": "addresses", "priority": priority, "action": "BLOCK", "answer_addresses": ["10.0.0.0/8"]},
        ]));
        assert_eq!(ask(&snapshot, &server, "bad.example", rtype::A).answer().is_empty(), is_blocked, "{priority}");
    }
}

#[test]
fn without_the_list_the_answer_is_servfail_unless_the_vpc_fails_open() {
    let rules = |list: &str, shadow: bool| {
        json!([
            {"name": "first", "priority": 1, "action": "ALLOW", "firewall_domain_list_id": "corp"},
            {"name": "r", "priority": 10, "action": "BLOCK", "firewall_domain_list_id": list, "shadow": shadow},
            {"name": "last", "priority": 20, "action": "BLOCK", "firewall_domain_list_id": "bad"},
        ])
    };
    let mut server = Server::default();
    server.address("fine.example", "203.0.113.1");
    let closed = snapshot(rules("far", false));
    for name in ["fine.example", "bad.example"] {
        let reply = ask(&closed, &server, name, rtype::A);
        assert_eq!((reply.message.rcode, reply.outcomes()), (rcode::SERVFAIL, vec!["fail_closed"]), "{name}");
        assert_eq!(reply.message.ede, Some((14, "rule r of g, list far: the list is not loaded".into())));
    }
    // A rule in front of it decides.
    assert_eq!(ask(&closed, &server, "www.corp.example", rtype::A).answer().len(), 1);
    let open = snapshot_with(rules("far", false), |manifest| {
        manifest["vpcs"]["a"]["firewall_fail_open"] = true.into();
    });
    let reply = ask(&open, &server, "fine.example", rtype::A);
    assert_eq!((reply.answer().len(), reply.outcomes()), (1, vec!["fail_open"]));
    let reply = ask(&open, &server, "bad.example", rtype::A);
    assert_eq!((reply.message.rcode, reply.outcomes()), (rcode::NOERROR, vec!["fail_open", "block"]));
    for ignored in [snapshot(rules("near", false)), snapshot(rules("far", true))] {
        let reply = ask(&ignored, &server, "fine.example", rtype::A);
        assert_eq!((reply.answer().len(), reply.outcomes().len()), (1, 0));
    }
}

#[test]
fn nothing_is_synthesised_for_a_blocked_name() {
    let subnet = |manifest: &mut Value| {
        manifest["vpcs"]["a"]["subnets"] =
            json!({"s": {"availability_zone_id": "az1", "cidr_blocks": ["10.1.0.0/24"], "enable_dns64": true}});
    };
    let mut server = Server::default();
    for name in ["bad.example", "fine.example"] {
        server.address(name, "203.0.113.1");
        let empty = Entry { answer: Records::default(), ..server.0[&(wire(name), rtype::A)].clone() };
        server.0.insert((wire(name), rtype::AAAA), empty);
    }
    for qtypes in [json!([]), json!(["AAAA"]), json!(["A"])] {
        let snapshot = snapshot_with(json!([block(json!({"qtypes": qtypes}))]), subnet);
        let reply = ask(&snapshot, &server, "bad.example", rtype::AAAA);
        assert_eq!((reply.answer().len(), reply.message.ede.as_ref().map(|ede| ede.0)), (0, Some(15)), "{qtypes}");
        let fine = ask(&snapshot, &server, "fine.example", rtype::AAAA);
        assert!(fine.answer()[0].ends_with("64:ff9b::cb00:7101"), "{:?}", fine.answer());
    }
    // An address that is blocked is not embedded.
    let rule = json!({"name": "r", "priority": 1, "action": "BLOCK", "answer_addresses": ["203.0.113.0/24"]});
    let reply = ask(&snapshot_with(json!([rule]), subnet), &server, "fine.example", rtype::AAAA);
    assert_eq!((reply.answer().len(), reply.message.ede), (0, Some((15, "rule r of g".into()))));
}

/// A query counts once for each rule, and for no more rules than there is room for.
#[test]
fn a_query_counts_once_for_each_rule() {
    let mut matches = FirewallMatches::default();
    for slot in 0..20 {
        assert_eq!(matches.add(slot, FirewallOutcome::Shadow), (slot as usize) < MAX_MATCHES - 1);
        assert!(!matches.add(slot, FirewallOutcome::Shadow));
    }
    let counted: Vec<u32> = matches.iter().map(|(slot, _)| slot).collect();
    assert_eq!(counted, (0..MAX_MATCHES as u32 - 1).collect::<Vec<_>>());
    // The rule that decides has room behind them.
    assert!(matches.add(30, FirewallOutcome::Block) && !matches.add(31, FirewallOutcome::Allow));
    assert_eq!(matches.blocked_by(), Some(30));
    let snapshot = snapshot(json!([block(json!({"firewall_domain_list_id": "corp", "action": "ALLOW"}))]));
    let mut server = Server::default();
    server.address("bad.example", "203.0.113.1");
    let reply = ask(&snapshot, &server, "twice.corp.example", rtype::A);
    assert_eq!((reply.answer().len(), reply.outcomes()), (3, vec!["allow"]));
}

/// Other views have other rules, so a forwarder must not give an answer to all of its clients.
#[test]
fn a_forwarder_keeps_the_answer_for_the_network_of_its_client() {
    let rule = block(json!({}));
    for (rules, scope) in [(json!([rule]), 16), (json!([]), 0)] {
        let snapshot = snapshot_with(rules, |manifest| {
            manifest["forwarders"] = json!({"f": {"vpc_id": "a", "cidr_blocks": ["10.1.0.20/32"]}});
            if scope == 0 {
                manifest["firewall_rule_groups"] = json!({});
            }
        });
        let client =
            Client { source: [10, 1, 0, 20].into(), port: 0, local: [10, 1, 0, 2].into(), transport: Transport::Tcp };
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 10, 1, 0];
        let mut server = Server::default();
        server.address("bad.example", "203.0.113.1").address("fine.example", "203.0.113.1");
        for name in ["bad.example", "fine.example"] {
            let query = [&header[..], &wire(name), &[0, 1, 0, 1], &opt].concat();
            let mut reply = vec![0; 65_535];
            let outcome = answer(&snapshot, &server, &client, Moment { now: 0, draw: 0 }, &query, &mut reply);
            let Outcome::Reply(answered) = outcome else { panic!("{name}: no reply") };
            let reply = &reply[..answered.len];
            let option = reply.windows(11).find(|part| part[..7] == [0, 8, 0, 7, 0, 1, 24]).unwrap();
            assert_eq!((option[7] == 0, &option[8..]), (scope == 0, &[10, 1, 0][..]), "{name} {}", option[7]);
        }
    }
}

#[test]
fn a_finding_of_a_detector_counts_at_the_place_of_its_rule_until_it_ends() {
    use crate::snapshot::firewall::detections::{LIFETIME, Numbers, client_key};
    let detector = |priority: u32, action: &str, protection: &str, confidence: &str| {
        json!({"name": format!("r{priority}"), "priority": priority, "action": action, "dns_threat_protection": protection,
               "confidence_threshold": confidence})
    };
    let mut server = Server::default();
    for name in ["x.bad.example", "x.tunnel.example", "qwzxkvjpqhgf.com", "wikipedia.com", "x.worse.example"] {
        server.address(name, "203.0.113.1");
    }
    server.cname("cdn.example", "x.tunnel.example");
    let snapshot = snapshot(json!([
        {"name": "allow", "priority": 1, "action": "ALLOW", "firewall_domain_list_id": "bad"},
        detector(2, "ALERT", "DNS_TUNNELING", "HIGH"),
        detector(3, "BLOCK", "DNS_TUNNELING", "LOW"),
        detector(4, "BLOCK", "DGA", "MEDIUM"),
    ]));
    let outcomes = |name: &str| ask(&snapshot, &server, name, rtype::A).outcomes();
    let view = snapshot.views.iter().next().unwrap();
    let detections = snapshot.firewall.detections(view).unwrap();
    let put_tunnel = |domain: &str, amount: u32, now: i64| {
        let key = LookupName::new(&wire(domain)).unwrap().hash(0);
        detections.tunnels().put(key, Numbers { amount, names: 1 }, now);
    };
    let client = |amount: u32| {
        detections.clients().put(client_key([10, 1, 0, 7].into()), Numbers { amount, names: amount }, 0);
    };
    assert_eq!((outcomes("x.tunnel.example"), outcomes("qwzxkvjpqhgf.com")), (vec![], vec![]));
    put_tunnel("tunnel.example", 9_999, 0);
    assert_eq!(outcomes("x.tunnel.example"), [] as [&str; 0], "below the threshold");
    put_tunnel("tunnel.example", 10_000, 0);
    assert_eq!((outcomes("x.tunnel.example"), outcomes("cdn.example")), (vec!["block"], vec!["block"]));
    put_tunnel("tunnel.example", 500_000, 0);
    assert_eq!(outcomes("x.tunnel.example"), ["alert"], "the first rule that matches");
    put_tunnel("worse.example", 500_000, 0);
    assert_eq!(outcomes("x.worse.example"), ["allow"], "a list in front");
    put_tunnel("bad.example", 500_000, -LIFETIME);
    assert_eq!(outcomes("x.bad.example"), [] as [&str; 0], "the finding has ended");
    client(19);
    assert_eq!(outcomes("qwzxkvjpqhgf.com"), [] as [&str; 0], "below the threshold");
    client(20);
    assert_eq!((outcomes("qwzxkvjpqhgf.com"), outcomes("wikipedia.com")), (vec!["block"], vec![]));
    let reply = ask(&snapshot, &server, "qwzxkvjpqhgf.com", rtype::A);
    assert_eq!(reply.message.ede, Some((15, "rule r4 of g, DGA at MEDIUM".into())));
}

/// The rules on name servers judge an answer by what recursion has learned, after the rules on its addresses.
#[test]
fn entries_for_name_servers_block_what_recursion_answered() {
    use crate::{
        answer::name_servers::NameServers,
        snapshot::firewall::table::{ListData, RpzAction, ServerEntries},
    };
    let mut server = Server::default();
    server.address("www.evil.example", "203.0.113.1").address("www.fine.example", "203.0.113.1");
    server.address("unknown.example", "203.0.113.1");
    server.cname("alias.fine.example", "www.evil.example");
    let above = Arc::new(NameServers::new(vec![wire("ns.fine.example")], vec!["192.0.2.1".parse().unwrap()], None));
    let of = |name: &str, address: &str| {
        let servers = NameServers::new(vec![wire(name)], vec![address.parse().unwrap()], Some(above.clone()));
        Some(Arc::new(servers))
    };
    for ((name, _), entry) in &mut server.0 {
        if *name == wire("www.evil.example") {
            entry.servers = of("ns.evil.example", "192.0.2.66");
        } else if *name != wire("unknown.example") {
            entry.servers = of("other.example", "192.0.2.2");
        }
    }
    let with = |name: Option<&str>, block: Option<&str>, shadow: bool| {
        let rule = json!([block_rule("near", shadow)]);
        let snapshot = snapshot(rule);
        let mut servers = ServerEntries::default();
        name.iter().for_each(|name| servers.add_name(&wire(name), false, 3, RpzAction::NxDomain));
        block.iter().for_each(|block| servers.addresses.add(block.parse().unwrap(), 4, RpzAction::NxDomain));
        let mut lists = snapshot.firewall_lists.with_ids(snapshot.manifest.firewall_domain_lists.keys());
        let number = lists.number("near").unwrap();
        lists.set_data(number, Arc::new(ListData { servers, ..ListData::default() }));
        lists.set_state(number, ListState::Loaded);
        snapshot.with_firewall_lists(Arc::new(lists))
    };
    let asked = |snapshot: &Snapshot, name: &str| {
        let reply = ask(snapshot, &server, name, rtype::A);
        (reply.message.rcode, reply.outcomes().len())
    };
    for (name, block, blocked) in [
        (Some("ns.evil.example"), None, true),
        (None, Some("192.0.2.66/32"), true),
        (Some("ns.fine.example"), None, true),
        (None, Some("192.0.2.1/32"), true),
        (Some("ns.none.example"), Some("192.0.2.99/32"), false),
    ] {
        let snapshot = with(name, block, false);
        let expected = if blocked { (rcode::NXDOMAIN, 1) } else { (rcode::NOERROR, 0) };
        // The second answer uses what the first one has remembered.
        for _ in 0..2 {
            assert_eq!(asked(&snapshot, "www.evil.example"), expected, "{name:?} {block:?}");
            assert_eq!(asked(&snapshot, "alias.fine.example"), expected, "{name:?} {block:?}");
            assert_eq!(asked(&snapshot, "unknown.example"), (rcode::NOERROR, 0));
        }
    }
    assert_eq!(asked(&with(Some("ns.evil.example"), None, false), "www.fine.example"), (rcode::NOERROR, 0));
    assert_eq!(asked(&with(Some("ns.evil.example"), None, true), "www.evil.example"), (rcode::NOERROR, 1));
}

/// A rule that blocks what a list has.
fn block_rule(list: &str, shadow: bool) -> Value {
    json!({"name": "r", "priority": 10, "action": "BLOCK", "firewall_domain_list_id": list, "shadow": shadow})
}
