//! The same response policy zones in zonal, BIND, Unbound and PowerDNS Recursor, and the same queries.
//!
//! A naive evaluation gives the answer to expect from each program. It has the semantics of zonal and those of each peer in
//! a few fields, so each difference of an answer is one that zonal chooses, or the test fails.

mod oracle;
mod programs;
mod zones;

use crate::harness::{
    Scratch, Server, can_run,
    fake::{Fake, Say},
    http_get, wait_until,
};
use oracle::{Answer, KINDS, Semantics, answer};
use programs::Resolver;
use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, net::SocketAddr, thread};
use zones::{Network, Query, networks};

/// Why a query with a chain is not asked of Unbound 1.17.
const CHAIN: &str = "it inspects only the first target of a chain, and TCP-only there ends it with a signal";
/// Why some queries are not asked of Unbound 1.17.
const CACHE: &str = "its cache decides whether names and addresses count after a pass, and whether addresses truncate or drop the reply";

/// A peer: its name and semantics.
struct Peer {
    name: &'static str,
    semantics: Semantics,
    start: fn(&Scratch, &[Network], SocketAddr) -> Resolver,
}

const PEERS: [Peer; 3] = [
    Peer { name: "BIND", semantics: Semantics::BIND, start: programs::bind },
    Peer { name: "Unbound", semantics: Semantics::UNBOUND, start: programs::unbound },
    Peer { name: "PowerDNS", semantics: Semantics::POWERDNS, start: programs::powerdns },
];

impl Peer {
    /// Why it is not asked.
    fn leaves_out(&self, network: &Network, query: &Query) -> Option<&'static str> {
        if !self.semantics.is_unbound {
            return None;
        }
        if network.aliases.contains_key(&query.name) {
            return Some(CHAIN);
        }
        (answer(network, query, &self.semantics) == Answer::Unknown).then_some(CACHE)
    }
}

/// The answers of a program, and those that are expected.
struct Compared {
    /// The queries with the expected and the actual answer.
    answers: Vec<(Query, Answer, Answer)>,
    /// The queries that were not asked, by reason.
    left_out: BTreeMap<&'static str, usize>,
}

impl Compared {
    /// Asks all queries of a resolver, network by network.
    fn ask(
        resolver: &Resolver,
        networks: &[Network],
        semantics: &Semantics,
        leaves_out: impl Fn(&Network, &Query) -> Option<&'static str>,
    ) -> Compared {
        let mut compared = Compared { answers: Vec::new(), left_out: BTreeMap::new() };
        let mut asked = Vec::new();
        for (at, network) in networks.iter().enumerate() {
            for query in &network.queries {
                match leaves_out(network, query) {
                    Some(reason) => *compared.left_out.entry(reason).or_default() += 1,
                    None => asked.push((query.clone(), answer(network, query, semantics))),
                }
            }
            if resolver.has_one_network() || at + 1 == networks.len() {
                resolver.serve(at);
                let got = resolver.ask(&asked);
                let both = asked.drain(..).zip(got);
                compared.answers.extend(both.map(|((query, expected), got)| (query, expected, got)));
            }
        }
        compared
    }

    /// The answers that are other than expected.
    fn wrong(&self, name: &str, networks: &[Network]) -> String {
        let mut text = String::new();
        let wrong = self.answers.iter().filter(|(_, expected, got)| expected != got);
        for (query, expected, got) in wrong.take(12) {
            let network = &networks[query.network];
            let _ = write!(text, "{name}: {query:?}\n  expected {expected}\n  got      {got}\n");
            let mut names = vec![&query.name];
            while let Some(target) = names.last().and_then(|name| network.aliases.get(*name)) {
                names.push(target);
            }
            let _ = writeln!(text, "  names {names:?}");
            for (zone, entries) in network.zones.iter().enumerate() {
                for (trigger, action) in entries {
                    let _ = writeln!(text, "  zone {zone}: {trigger:?} {action:?}");
                }
            }
        }
        text
    }
}

/// zonal with one VPC for each network, and one rule for each zone.
fn zonal(files: &Scratch, networks: &[Network], upstream: SocketAddr) -> Server {
    let mut text = String::from("vpcs:\n");
    for network in 0..networks.len() {
        let _ = writeln!(text, "  n{network}: {{region: us-east-1, cidr_blocks: [{}]}}", zones::clients(network));
    }
    let vpcs: Vec<String> = (0..networks.len()).map(|network| format!("n{network}")).collect();
    let _ = write!(
        text,
        "resolver_rules:\n  far: {{domain_name: \".\", rule_type: FORWARD, vpc_ids: [{}], \
         target_ips: [{{ip: {}, port: {}}}]}}\nfirewall_domain_lists:\n",
        vpcs.join(", "),
        upstream.ip(),
        upstream.port()
    );
    let mut groups = String::from("firewall_rule_groups:\n");
    for (network, resource) in networks.iter().enumerate() {
        let mut rules = Vec::new();
        for (at, zone) in resource.zones.iter().enumerate() {
            let (name, id) = (zones::zone_name(network, at), format!("l{network}-{at}"));
            files.write(&format!("{name}.zone"), zones::zone_text(&name, zone));
            let _ = writeln!(text, "  {id}: {{source: {{file: {name}.zone, format: rpz, zone: {name}}}}}");
            rules.push(format!("{{name: r{at}, priority: {at}, action: BLOCK, firewall_domain_list_id: {id}}}"));
        }
        let _ = writeln!(
            groups,
            "  g{network}: {{rules: [{}], vpc_associations: [{{vpc_id: n{network}, priority: 1}}]}}",
            rules.join(", ")
        );
    }
    files.write("manifest.yaml", text + &groups);
    let server = Server::start(files.path());
    wait_until("the lists are loaded", || {
        let (_, text) = http_get(server.admin, "/v1/firewall/lists")?;
        let report: serde_json::Value = serde_json::from_str(&text).ok()?;
        report["lists"].as_array()?.iter().all(|list| list["state"] == "loaded").then_some(())
    });
    server
}

/// The kind of a difference: the first field whose value makes the semantics of zonal give the answer of a peer.
fn kind(network: &Network, query: &Query, theirs: &Semantics) -> Option<usize> {
    let expected = answer(network, query, theirs);
    let position = KINDS.iter().position(|(_, change)| {
        let mut semantics = Semantics::ZONAL;
        change(&mut semantics, theirs);
        answer(network, query, &semantics) == expected
    });
    position.or_else(|| {
        // Several fields together. The first one that matters counts.
        KINDS.iter().position(|(_, change)| {
            let mut semantics = *theirs;
            change(&mut semantics, &Semantics::ZONAL);
            answer(network, query, &semantics) != expected
        })
    })
}

#[test]
fn answers_as_other_programs_do_with_response_policy_zones() {
    if !can_run(&["named", "unbound", "pdns_recursor", "rec_control", "dig"]) {
        return;
    }
    let networks = networks();
    let aliases: BTreeMap<String, String> = networks.iter().flat_map(|network| network.aliases.clone()).collect();
    // At the address of a resolver, zonal would take it for a forwarding loop.
    let upstream = Fake::start("127.76.0.1:0", move |asked| vec![Say::Now(zones::response(asked, &aliases))]);
    let upstream = upstream.address;
    let files = Scratch::new();
    let server = zonal(&files, &networks, upstream);
    let networks = &networks;
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = PEERS.each_ref().map(|peer| {
            scope.spawn(move || {
                let scratch = Scratch::new();
                let resolver = (peer.start)(&scratch, networks, upstream);
                let leaves_out = |network: &Network, query: &Query| peer.leaves_out(network, query);
                Compared::ask(&resolver, networks, &peer.semantics, leaves_out)
            })
        });
        let resolver = Resolver::at(server.port);
        let ours = Compared::ask(&resolver, networks, &Semantics::ZONAL, |_, _| None);
        (ours, theirs.map(|thread| thread.join().unwrap()))
    });

    let mut wrong = ours.wrong("zonal", networks);
    let zones: usize = networks.iter().map(|network| network.zones.len()).sum();
    let mut table = format!("{} queries, {zones} zones\n", ours.answers.len());
    for (peer, compared) in PEERS.iter().zip(&theirs) {
        wrong += &compared.wrong(peer.name, networks);
        let mut kinds = [0; KINDS.len()];
        let mut equal = 0;
        for (query, expected, _) in &compared.answers {
            let network = &networks[query.network];
            match answer(network, query, &Semantics::ZONAL) == *expected {
                true => equal += 1,
                false => kinds[kind(network, query, &peer.semantics).expect("a kind of difference")] += 1,
            }
        }
        let _ = writeln!(table, "{}: {} asked, {equal} equal", peer.name, compared.answers.len());
        for ((description, _), count) in KINDS.iter().zip(kinds).filter(|(_, count)| *count > 0) {
            let _ = writeln!(table, "  {count:4} differ: {description}");
        }
        for (reason, count) in &compared.left_out {
            let _ = writeln!(table, "  {count:4} not asked: {reason}");
        }
    }
    // The table is worth reading, whether the test passes or not.
    let _ = std::io::stderr().write_all(table.as_bytes());
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(ours.answers.len() >= 1000 && networks.len() >= 20);
}
