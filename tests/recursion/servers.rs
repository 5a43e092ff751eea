//! Faulty authoritative servers, and zones that are built to cause many queries: the answers that
//! clients get, and the number of queries that other servers receive.

use super::{ROOT, TLD, zonal};
use crate::harness::{
    Process, can_run,
    fake::{Asked, Fake, Say, a, cname, ns, soa},
    lab::Lab,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// The servers of the zone under test, and the server of an unrelated zone.
pub const SERVERS: [&str; 4] = ["198.18.2.1", "198.18.2.2", "198.18.2.3", "198.18.2.4"];
const VICTIM: &str = "198.18.4.1";

pub const PROGRAMS: [&str; 4] = ["ip", "dig", "setpriv", "sysctl"];

pub fn network() -> Lab {
    let mut lab = Lab::new();
    lab.router("net");
    lab.host("root", "net", &[ROOT]);
    lab.host("tld", "net", &[TLD]);
    lab.host("zone", "net", &SERVERS);
    lab.host("victim", "net", &[VICTIM]);
    for (host, address) in [("ns", "10.1.0.2"), ("app", "10.1.0.7")] {
        lab.host(host, "net", &[address]);
    }
    lab
}

pub fn qtype(asked: &Asked) -> RecordType {
    asked.message.queries[0].query_type()
}

pub fn is_below(asked: &Asked, zone: &str) -> bool {
    asked.name() == zone || asked.name().ends_with(&format!(".{zone}"))
}

/// An authoritative response (AA).
pub fn own(asked: &Asked) -> Message {
    let mut response = asked.response();
    response.metadata.authoritative = true;
    response.metadata.recursion_available = false;
    response
}

pub fn say(response: &Message) -> Vec<Say> {
    vec![Say::Now(response.to_vec().unwrap())]
}

/// A negative response, with the SOA record.
pub fn nothing(asked: &Asked, zone: &str, code: ResponseCode) -> Vec<Say> {
    let mut response = own(asked);
    response.metadata.response_code = code;
    response.authorities.push(soa(zone, 60));
    say(&response)
}

/// A referral to the servers of a zone.
pub fn referral(asked: &Asked, zone: &str, servers: &[(&str, Option<&str>)]) -> Vec<Say> {
    let mut response = asked.response();
    response.metadata.recursion_available = false;
    for (server, address) in servers {
        response.authorities.push(ns(zone, 86_400, server));
        response.additionals.extend(address.map(|address| a(server, 86_400, address)));
    }
    say(&response)
}

/// The response of a zone's server that has an A record at every name, and no other data.
pub fn addresses(asked: &Asked, zone: &str) -> Vec<Say> {
    match qtype(asked) {
        RecordType::A if asked.name() != zone => vec![Say::Now({
            let mut response = own(asked);
            response.answers.push(a(&asked.name(), 60, "192.0.2.1"));
            response.to_vec().unwrap()
        })],
        _ => nothing(asked, zone, ResponseCode::NoError),
    }
}

/// The root and `test.`: `zone.test` has four servers, `victim.test` has one, and `more` answers
/// for other names.
fn above(lab: &Lab, more: impl Fn(&Asked) -> Option<Vec<Say>> + Send + Sync + 'static) -> (Fake, Fake) {
    let root = lab.inside("root", || {
        Fake::start(&format!("{ROOT}:53"), |asked| match is_below(asked, "test") {
            true => referral(asked, "test", &[("ns.test", Some(TLD))]),
            false => nothing(asked, ".", ResponseCode::NXDomain),
        })
    });
    let tld = lab.inside("tld", || {
        Fake::start(&format!("{TLD}:53"), move |asked| {
            if let Some(said) = more(asked) {
                return said;
            }
            let names = ["ns1.zone.test", "ns2.zone.test", "ns3.zone.test", "ns4.zone.test"];
            let servers: Vec<_> = names.iter().zip(SERVERS).map(|(name, address)| (*name, Some(address))).collect();
            if is_below(asked, "zone.test") {
                referral(asked, "zone.test", &servers)
            } else if is_below(asked, "victim.test") {
                referral(asked, "victim.test", &[("ns.victim.test", Some(VICTIM))])
            } else {
                nothing(asked, "test", ResponseCode::NXDomain)
            }
        })
    });
    (root, tld)
}

/// One server of `zone.test`, by its index.
fn server(lab: &Lab, number: usize, behave: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> Fake {
    lab.inside("zone", || Fake::start(&format!("{}:53", SERVERS[number]), behave))
}

fn victim(lab: &Lab) -> Fake {
    lab.inside("victim", || {
        Fake::start(&format!("{VICTIM}:53"), |asked| nothing(asked, "victim.test", ResponseCode::NXDomain))
    })
}

pub fn recursive(lab: &Lab) -> Process {
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    zonal(lab, "{recursive: true, root_hints: root.hints, dnssec: off, allow_servers: [198.18.0.0/15]}")
}

/// The status of the answer for each name.
fn statuses(lab: &Lab, names: impl Iterator<Item = String>) -> Vec<String> {
    names.map(|name| lab.dig("app", &format!("@10.1.0.2 {name} A")).status).collect()
}

#[test]
fn one_bad_server_of_four_harms_no_name() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    let good = |asked: &Asked| addresses(asked, "zone.test");
    let _good: Vec<Fake> = (1..4).map(|number| server(&lab, number, good)).collect();
    for (what, code) in [
        ("REFUSED", Some(ResponseCode::Refused)),
        ("SERVFAIL", Some(ResponseCode::ServFail)),
        ("NOTAUTH", Some(ResponseCode::NotAuth)),
        ("nothing", None),
    ] {
        let _bad = server(&lab, 0, move |asked| match code {
            Some(code) => vec![Say::Now(asked.fails(code))],
            None => Vec::new(),
        });
        let zonal = recursive(&lab);
        let found = statuses(&lab, (0..20).map(|n| format!("n{n}.zone.test")));
        assert!(found.iter().all(|status| status == "NOERROR"), "{what}: {found:?}\n{}", zonal.log());
    }
    // An upward referral, as servers send it for zones that they do not serve.
    let _bad = server(&lab, 0, |asked| referral(asked, ".", &[("ns.root", Some(ROOT))]));
    let zonal = recursive(&lab);
    let found = statuses(&lab, (0..20).map(|n| format!("n{n}.zone.test")));
    assert!(found.iter().all(|status| status == "NOERROR"), "{found:?}\n{}", zonal.log());
}

/// Neither a referral to the root with AA nor an answer from another server's cache is the answer of
/// a zone. The latter counts if no server of the zone has a better one.
#[test]
fn a_server_without_the_zone_does_not_answer_for_it() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    let good = |asked: &Asked| addresses(asked, "zone.test");
    let upward = |asked: &Asked| {
        let mut response = own(asked);
        response.authorities.push(ns(".", 86_400, "ns.root"));
        say(&response)
    };
    let secondhand = |asked: &Asked| {
        let mut response = asked.response();
        response.metadata.recursion_available = true;
        response.answers.push(a(&asked.name(), 60, "192.0.2.9"));
        say(&response)
    };
    let mut number = 0;
    let mut found = |count: usize, behave: fn(&Asked) -> Vec<Say>| {
        let _servers: Vec<Fake> =
            (0..4).map(|n| if n < count { server(&lab, n, behave) } else { server(&lab, n, good) }).collect();
        let zonal = recursive(&lab);
        let data = (0..8).map(|_| {
            number += 1;
            lab.dig("app", &format!("@10.1.0.2 n{number}.zone.test A")).data("A").concat()
        });
        (data.collect::<Vec<_>>(), zonal.log())
    };
    for (count, behave, expected) in
        [(3, upward as fn(&Asked) -> Vec<Say>, "192.0.2.1"), (3, secondhand, "192.0.2.1"), (4, secondhand, "192.0.2.9")]
    {
        let (data, log) = found(count, behave);
        assert!(data.iter().all(|address| address == expected), "{count} {expected}: {data:?}\n{log}");
    }
}

/// The referral has the address of one server only, and that server refuses. The other server is
/// outside the zone.
#[test]
fn servers_outside_the_zone_are_asked_if_those_inside_fail() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |asked| {
        let servers = [("ns.mixed.test", Some(SERVERS[0])), ("ns.zone.test", None)];
        is_below(asked, "mixed.test").then(|| referral(asked, "mixed.test", &servers))
    });
    let of_zone = |asked: &Asked| match asked.name() == "ns.zone.test" && qtype(asked) == RecordType::A {
        true => {
            let mut response = own(asked);
            response.answers.push(a("ns.zone.test", 60, SERVERS[3]));
            say(&response)
        }
        false if is_below(asked, "mixed.test") => addresses(asked, "mixed.test"),
        false => addresses(asked, "zone.test"),
    };
    let _refuses = server(&lab, 0, move |asked| match is_below(asked, "mixed.test") {
        true => vec![Say::Now(asked.fails(ResponseCode::Refused))],
        false => of_zone(asked),
    });
    let _others: Vec<Fake> = (1..4).map(|number| server(&lab, number, of_zone)).collect();
    let zonal = recursive(&lab);
    let found = statuses(&lab, (0..8).map(|n| format!("n{n}.mixed.test")));
    assert!(found.iter().all(|status| status == "NOERROR"), "{found:?}\n{}", zonal.log());
}

#[test]
fn three_silent_servers_of_four_harm_no_name() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    let _good = server(&lab, 3, |asked| addresses(asked, "zone.test"));
    let _silent: Vec<Fake> = (0..3).map(|number| server(&lab, number, |_| Vec::new())).collect();
    let zonal = recursive(&lab);
    let found = statuses(&lab, (0..10).map(|n| format!("n{n}.zone.test")));
    assert!(found.iter().all(|status| status == "NOERROR"), "{found:?}\n{}", zonal.log());
    // zonal asks the silent servers again after a while. An answer by UDP that takes too long is not sent.
    std::thread::sleep(Duration::from_secs(6));
    let found = statuses(&lab, (10..14).map(|n| format!("n{n}.zone.test")));
    assert!(found.iter().all(|status| status == "NOERROR"), "{found:?}\n{}", zonal.log());
}

/// The servers of a zone may be the servers of the zone above, too.
#[test]
fn the_name_servers_of_a_zone_are_found_before_and_after_its_names() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    let _servers: Vec<Fake> = (0..4)
        .map(|number| {
            server(&lab, number, |asked| {
                let mut response = own(asked);
                let (name, address) = (asked.name(), if asked.label() == "ns1" { SERVERS[0] } else { "192.0.2.1" });
                match qtype(asked) {
                    RecordType::NS if asked.label().starts_with("sub") => {
                        response.answers.push(ns(&name, 60, "ns1.zone.test"))
                    }
                    RecordType::A => response.answers.push(a(&name, 60, address)),
                    _ => return nothing(asked, "zone.test", ResponseCode::NoError),
                }
                say(&response)
            })
        })
        .collect();
    let zonal = recursive(&lab);
    for query in ["sub1.zone.test NS", "x.sub1.zone.test A", "y.sub2.zone.test A", "sub2.zone.test NS"] {
        let reply = lab.dig("app", &format!("@10.1.0.2 {query}"));
        assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", 1), "{query}: {reply}\n{}", zonal.log());
    }
}

#[test]
fn servers_that_do_not_know_edns_are_asked_without_it() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    for code in [ResponseCode::FormErr, ResponseCode::NotImp] {
        let servers: Vec<Fake> = (0..4)
            .map(|number| {
                server(&lab, number, move |asked| match asked.message.edns {
                    Some(_) => {
                        let mut response = asked.response();
                        response.edns = None;
                        response.metadata.response_code = code;
                        say(&response)
                    }
                    None => addresses(asked, "zone.test"),
                })
            })
            .collect();
        let zonal = recursive(&lab);
        let found = statuses(&lab, (0..8).map(|n| format!("n{n}.zone.test")));
        assert!(found.iter().all(|status| status == "NOERROR"), "{code}: {found:?}\n{}", zonal.log());
        let with: usize = servers.iter().map(|server| server.count(|asked| asked.message.edns.is_some())).sum();
        assert!(with <= 8, "{with}: a server that refuses EDNS is remembered");
    }
}

#[test]
fn a_zone_that_has_moved_is_found_at_its_new_servers() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let has_moved = Arc::new(AtomicBool::new(false));
    let moved = has_moved.clone();
    let _above = above(&lab, move |asked| {
        let to_new = moved.load(Relaxed) && is_below(asked, "zone.test");
        to_new.then(|| referral(asked, "zone.test", &[("ns4.zone.test", Some(SERVERS[3]))]))
    });
    let _old: Vec<Fake> = (0..3)
        .map(|number| {
            let moved = has_moved.clone();
            server(&lab, number, move |asked| match moved.load(Relaxed) {
                true => vec![Say::Now(asked.fails(ResponseCode::Refused))],
                false => addresses(asked, "zone.test"),
            })
        })
        .collect();
    let moved = has_moved.clone();
    let _new = server(&lab, 3, move |asked| match moved.load(Relaxed) {
        true => addresses(asked, "zone.test"),
        false => vec![Say::Now(asked.fails(ResponseCode::Refused))],
    });
    let zonal = recursive(&lab);
    assert_eq!(statuses(&lab, ["first.zone.test".into()].into_iter()), ["NOERROR"], "{}", zonal.log());
    has_moved.store(true, Relaxed);
    let found = statuses(&lab, (0..6).map(|n| format!("n{n}.zone.test")));
    assert!(found.iter().all(|status| status == "NOERROR"), "{found:?}\n{}", zonal.log());
}

#[test]
fn what_servers_leave_out_of_negative_answers_harms_nobody() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let _above = above(&lab, |_| None);
    let _servers: Vec<Fake> = (0..4)
        .map(|number| {
            server(&lab, number, |asked| {
                let mut response = own(asked);
                if asked.label().starts_with("none") {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                say(&response)
            })
        })
        .collect();
    let zonal = recursive(&lab);
    for (name, status) in [("none.zone.test", "NXDOMAIN"), ("www.zone.test", "NOERROR")] {
        assert_eq!(lab.dig("app", &format!("@10.1.0.2 {name} A")).status, status, "{name}\n{}", zonal.log());
    }
}

/// A client query causes few queries in total, and few to an unrelated server.
#[test]
fn one_client_query_causes_few_queries() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    // A delegation to hundreds of servers whose names are below the victim's zone (NXNSAttack).
    let many = |asked: &Asked| {
        let names: Vec<String> = (0..200).map(|n| format!("ns{n}.x{n}.victim.test")).collect();
        let servers: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), None)).collect();
        referral(asked, "many.zone.test", &servers)
    };
    // A tree of such delegations: each server's name is below a delegation of the same kind.
    let tree = |asked: &Asked| {
        let name = asked.name();
        let labels: Vec<&str> = name.split('.').collect();
        let depth = labels.len();
        let zone = labels[depth.saturating_sub(4)..].join(".");
        // The last octets of the label: it must not grow beyond 63 octets.
        let label = labels[depth.saturating_sub(4)];
        let label = &label[label.len().saturating_sub(40)..];
        let names: Vec<String> = (0..5).map(|n| format!("ns.{label}x{n}.tree.zone.test")).collect();
        let mut servers: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), None)).collect();
        // zonal asks no server at this address.
        servers.push(("local.tree.zone.test", Some("127.0.0.1")));
        referral(asked, &zone, &servers)
    };
    let (root, tld) = above(&lab, |_| None);
    let servers: Vec<Fake> = (0..4)
        .map(|number| {
            server(&lab, number, move |asked| {
                if is_below(asked, "many.zone.test") {
                    many(asked)
                } else if is_below(asked, "tree.zone.test") && asked.name() != "tree.zone.test" {
                    tree(asked)
                } else if asked.label().starts_with("chain") {
                    let mut response = own(asked);
                    let next: usize = asked.label()[5..].parse::<usize>().unwrap() + 1;
                    response.answers.push(cname(&asked.name(), 60, &format!("chain{next}.zone.test")));
                    say(&response)
                } else {
                    nothing(asked, "zone.test", ResponseCode::NoError)
                }
            })
        })
        .collect();
    let victim = victim(&lab);
    let zonal = recursive(&lab);
    let all = || -> usize {
        let fakes = servers.iter().chain([&root, &tld, &victim]);
        fakes.map(|fake| fake.count(|_| true)).sum()
    };
    assert_eq!(lab.dig("app", "@10.1.0.2 warm.zone.test A").status, "NOERROR", "{}", zonal.log());
    let mut report = String::new();
    for (name, most) in [("www.many.zone.test", 40), ("www.a.tree.zone.test", 30), ("chain0.zone.test", 26)] {
        let before = all();
        let reply = lab.dig("app", &format!("@10.1.0.2 {name} A"));
        let sent = all() - before;
        report += &format!("{name}: {} {sent} queries, {} to the victim\n", reply.status, victim.count(|_| true));
        assert_eq!(reply.status, "SERVFAIL", "{report}\n{}", zonal.log());
        assert!(sent <= most, "{report}\n{}", zonal.log());
    }
    assert!(victim.count(|_| true) <= 40, "{report}");
}

#[test]
fn deep_names_take_few_queries() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let (root, _tld) = above(&lab, |_| None);
    let servers: Vec<Fake> = (0..4).map(|number| server(&lab, number, |asked| addresses(asked, "zone.test"))).collect();
    let zonal = recursive(&lab);
    // As deep as the reverse name of an IPv6 address.
    let deep = format!("{}zone.test", "1.".repeat(32));
    assert_eq!(statuses(&lab, [deep.clone()].into_iter()), ["NOERROR"], "{}", zonal.log());
    let asked: usize = servers.iter().map(|server| server.count(|_| true)).sum();
    assert!(asked <= 10, "{asked}");
    // No name exists below a name that does not exist (RFC 8020).
    let before = root.count(|_| true);
    let none = format!("{}nonesuch", "1.".repeat(20));
    assert_eq!(statuses(&lab, [none].into_iter()), ["NXDOMAIN"], "{}", zonal.log());
    assert!(root.count(|_| true) - before <= 2, "{:?}", root.collect(|asked| asked.name()));
    // zonal randomises the case of the query name, and the server has to repeat it
    // (draft-vixie-dnsext-dns0x20).
    let has_capitals = |asked: &Asked| asked.owner().to_ascii().contains(|c: char| c.is_ascii_uppercase());
    assert!(servers.iter().any(|server| server.count(has_capitals) > 0));
    let reply = lab.dig("app", "@10.1.0.2 www.zone.test A");
    assert_eq!(reply.answer.len(), 1, "{reply}");
    assert!(reply.answer[0].starts_with("www.zone.test. "), "{reply}");
}
