//! Authoritative servers that are far away: names that take many round trips.

use super::{
    ROOT, TLD,
    servers::{PROGRAMS, SERVERS, addresses, is_below, network, nothing, own, recursive, referral, say},
};
use crate::harness::{
    can_run,
    fake::{Asked, Fake, Say, a, cname},
    lab::Lab,
};
use hickory_proto::{op::ResponseCode, rr::Record};
use std::time::{Duration, Instant};

/// Sends what a server says one round trip later.
fn late(round_trip: Duration, said: Vec<Say>) -> Vec<Say> {
    let later = |say| match say {
        Say::Now(octets) => Say::Later(round_trip, octets),
        other => other,
    };
    said.into_iter().map(later).collect()
}

/// The root, `test.`, and the servers of all zones below it. `refer` makes the referrals of `test.`,
/// and `answer` the answers of the zones.
fn internet(
    lab: &Lab,
    round_trip: Duration,
    refer: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static,
    answer: impl Fn(&Asked) -> Vec<Say> + Send + Sync + Clone + 'static,
) -> Vec<Fake> {
    let root = lab.inside("root", || {
        Fake::start(&format!("{ROOT}:53"), move |asked| {
            late(
                round_trip,
                match is_below(asked, "test") {
                    true => referral(asked, "test", &[("ns.test", Some(TLD))]),
                    false => nothing(asked, ".", ResponseCode::NXDomain),
                },
            )
        })
    });
    let tld = lab.inside("tld", || Fake::start(&format!("{TLD}:53"), move |asked| late(round_trip, refer(asked))));
    let zones = SERVERS.map(|address| {
        let answer = answer.clone();
        lab.inside("zone", || Fake::start(&format!("{address}:53"), move |asked| late(round_trip, answer(asked))))
    });
    [root, tld].into_iter().chain(zones).collect()
}

/// The answer of a zone's server, with one record.
fn record(asked: &Asked, record: Record) -> Vec<Say> {
    let mut response = own(asked);
    response.answers.push(record);
    say(&response)
}

/// The zone directly below `test.` that contains the name in question.
fn zone_of(asked: &Asked) -> String {
    let name = asked.name();
    let labels: Vec<&str> = name.split('.').collect();
    labels[labels.len().saturating_sub(2)..].join(".")
}

/// Each zone of a chain of CNAME records has three servers without addresses in the referral. One
/// after the other, their lookups would take longer than a client waits.
#[test]
fn the_servers_of_a_zone_are_looked_up_at_the_same_time() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let refer = |asked: &Asked| {
        let zone = zone_of(asked);
        match zone.strip_prefix("host") {
            Some(number) => {
                let server = number.trim_end_matches(".test").parse::<usize>().unwrap() % SERVERS.len();
                referral(asked, &zone, &[(&format!("ns.{zone}"), Some(SERVERS[server]))])
            }
            None => {
                let first: usize = zone.trim_start_matches("zone").trim_end_matches(".test").parse().unwrap();
                let names: Vec<String> = (0..3).map(|n| format!("ns.host{}.test", 3 * first + n)).collect();
                let servers: Vec<(&str, Option<&str>)> = names.iter().map(|name| (&**name, None)).collect();
                referral(asked, &zone, &servers)
            }
        }
    };
    let answer = |asked: &Asked| {
        let zone = zone_of(asked);
        match (&*asked.label(), &*zone) {
            ("ns", _) => {
                let server: usize = zone.trim_start_matches("host").trim_end_matches(".test").parse().unwrap();
                record(asked, a(&asked.name(), 60, SERVERS[server % SERVERS.len()]))
            }
            ("www", "zone1.test" | "zone2.test") => {
                let number: usize = zone.trim_start_matches("zone").trim_end_matches(".test").parse().unwrap();
                record(asked, cname(&asked.name(), 60, &format!("www.zone{}.test", number + 1)))
            }
            _ => addresses(asked, &zone),
        }
    };
    let servers = internet(&lab, Duration::from_millis(200), refer, answer);
    let zonal = recursive(&lab);
    let started = Instant::now();
    let reply = lab.dig("app", "@10.1.0.2 www.zone1.test A +tcp");
    let elapsed = started.elapsed();
    let asked: Vec<String> = servers.iter().flat_map(|server| server.collect(|asked| asked.name())).collect();
    assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", 3), "{elapsed:?} {asked:?}\n{}", zonal.log());
    // Each zone takes three servers with two queries each, the referral, and the answer.
    assert!(asked.len() <= 1 + 3 * 8, "{asked:?}");
}

/// The client gets SERVFAIL in time. Its next attempt gets the answer, and no server is asked twice.
#[test]
fn a_name_that_takes_too_long_is_there_at_the_next_attempt() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    // The server of each zone is in the next one, and only the last one has an address.
    let refer = |asked: &Asked| match &*zone_of(asked) {
        "zone1.test" => referral(asked, "zone1.test", &[("ns.zone2.test", None)]),
        "zone2.test" => referral(asked, "zone2.test", &[("ns.zone3.test", None)]),
        "zone3.test" => referral(asked, "zone3.test", &[("ns.zone4.test", None)]),
        "zone4.test" => referral(asked, "zone4.test", &[("ns.zone4.test", Some(SERVERS[0]))]),
        _ => nothing(asked, "test", ResponseCode::NXDomain),
    };
    let answer = |asked: &Asked| match &*asked.label() {
        "ns" => record(asked, a(&asked.name(), 60, SERVERS[0])),
        _ => addresses(asked, &zone_of(asked)),
    };
    let servers = internet(&lab, Duration::from_millis(300), refer, answer);
    let zonal = recursive(&lab);
    let name = format!("{}zone1.test", "1.".repeat(12));
    let started = Instant::now();
    let first = lab.dig("app", &format!("@10.1.0.2 {name} A +tcp"));
    let elapsed = started.elapsed();
    assert_eq!(first.status, "SERVFAIL", "{elapsed:?} {first}\n{}", zonal.log());
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
    let second = lab.dig("app", &format!("@10.1.0.2 {name} A +tcp"));
    assert_eq!((second.status.as_str(), second.answer.len()), ("NOERROR", 1), "{second}\n{}", zonal.log());
    let asked: usize = servers.iter().map(|server| server.count(|asked| asked.name() == name)).sum();
    assert_eq!(asked, 1, "{}", zonal.log());
}

/// Questions with and without DO and CD are different to the cache, and the same to the servers.
#[test]
fn questions_that_wait_for_the_same_response_get_it() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = network();
    let refer = |asked: &Asked| referral(asked, "zone.test", &[("ns.zone.test", Some(SERVERS[0]))]);
    // Some names have no address.
    let answer = |asked: &Asked| match asked.label().starts_with("none") {
        true => nothing(asked, "zone.test", ResponseCode::NoError),
        false => addresses(asked, "zone.test"),
    };
    let servers = internet(&lab, Duration::from_millis(200), refer, answer);
    let zonal = recursive(&lab);
    assert_eq!(lab.dig("app", "@10.1.0.2 first.zone.test A").status, "NOERROR", "{}", zonal.log());
    for name in ["www1", "www2", "www3", "none1", "none2", "none3"].map(|label| format!("{label}.zone.test")) {
        let replies: Vec<_> = std::thread::scope(|scope| {
            let (lab, name) = (&lab, &name);
            let ask = |flags: &'static str| scope.spawn(move || lab.dig("app", &format!("@10.1.0.2 {name} A {flags}")));
            let asking = ["", "+dnssec", "+cdflag", "+dnssec +cdflag"].map(ask);
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let answers = usize::from(name.starts_with("www"));
        for reply in &replies {
            assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", answers), "{reply}\n{}", zonal.log());
        }
        let asked: usize = servers.iter().map(|server| server.count(|asked| asked.name() == name)).sum();
        assert_eq!(asked, 1, "{name}\n{}", zonal.log());
    }
}
