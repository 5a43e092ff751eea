//! Generated response policy zones, the answers of the servers behind the resolvers, and the queries.

use crate::harness::fake::{Asked, cname, soa};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, rdata},
};
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The number of networks, each with zones of its own.
const NETWORKS: usize = 24;
/// The number of queries from each network.
const QUERIES: usize = 60;
/// The number of entries in a zone. Later ones with the same trigger are left out.
const ENTRIES: usize = 14;
/// The number of names in a network that lead to other names.
const CHAINS: usize = QUERIES / 3;
/// The labels of names. A name with the first label `nx` does not exist.
const LABELS: [&str; 4] = ["a", "b", "c", "nx"];

/// A generator of numbers, with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// The trigger of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// A name.
    Name(String),
    /// The names below a name.
    Below(String),
    /// Addresses of clients.
    Client(IpNet),
    /// Addresses in answers.
    Answer(IpNet),
}

/// The action of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    NxDomain,
    NoData,
    PassThru,
    Drop,
    TcpOnly,
    /// Local data: a TTL, and types with data.
    Records(u32, Vec<(&'static str, String)>),
    /// A TTL, and a target, which can begin with `*.`.
    Cname(u32, String),
}

/// The entries of a zone.
pub type Zone = Vec<(Trigger, Action)>;

/// A query of a client.
#[derive(Clone, Debug)]
pub struct Query {
    /// The index of its network.
    pub network: usize,
    pub client: Ipv4Addr,
    pub name: String,
    pub qtype: &'static str,
    pub is_tcp: bool,
}

/// A network: its zones in order, the names that lead to others, and its queries.
#[derive(Debug)]
pub struct Network {
    pub zones: Vec<Zone>,
    pub aliases: BTreeMap<String, String>,
    pub queries: Vec<Query>,
}

/// An address of a network.
fn client(network: usize, last: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, network as u8, last as u8)
}

/// The block of all clients of a network.
pub fn clients(network: usize) -> String {
    format!("127.77.{network}.0/24")
}

/// Whether a name is another one or below it.
pub fn is_at_or_below(name: &str, other: &str) -> bool {
    name.strip_suffix(other).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Whether other servers answer that a name does not exist.
pub fn is_missing(name: &str) -> bool {
    name.starts_with("nx.")
}

/// The addresses that other servers have for a name.
pub fn addresses(name: &str, qtype: &str) -> Vec<IpAddr> {
    let mix = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(1_099_511_628_211);
    let hash = name.bytes().fold(14_695_981_039_346_656_037, mix) >> 20;
    let v4 = |c: u64, d: u64| IpAddr::V4(Ipv4Addr::new(198, 18, c as u8, d as u8));
    let v6 =
        |network: u64, host: u64| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network as u16, 0, 0, 0, host as u16));
    let (is_v4, last) = (qtype == "A", 1 + hash % 200);
    if is_at_or_below(name, "g.example") {
        // No entry is for these addresses.
        let v4 = IpAddr::V4(Ipv4Addr::new(203, 0, 113, last as u8));
        return vec![if is_v4 { v4 } else { v6(255, last) }];
    }
    let count = 1 + (hash >> 16) % 3 / 2;
    let address = |at: u64| match is_v4 {
        true => v4((hash >> (4 * at)) % 4, (hash >> (8 + 4 * at)) % 8),
        false => v6(1 + (hash >> (4 * at)) % 3, 1 + (hash >> (8 + 4 * at)) % 4),
    };
    (0..count).map(address).collect()
}

fn block(address: IpAddr, len: u8) -> IpNet {
    IpNet::new(address, len).unwrap().trunc()
}

fn trigger(random: &mut Random, network: usize, names: &[String], aliases: &[String]) -> Trigger {
    let apex = format!("n{network}.example");
    let garden = |random: &mut Random| format!("garden{}.g.example", random.below(5));
    match random.below(20) {
        0..9 => Trigger::Name(if random.below(9) == 0 { garden(random) } else { random.pick(names) }),
        9..11 => Trigger::Name(random.pick(aliases)),
        11..14 => Trigger::Below(if random.below(8) == 0 { apex } else { random.pick(names) }),
        14..16 => {
            let len = 28 + random.below(5) as u8;
            Trigger::Client(block(client(network, 1 + random.below(15)).into(), len))
        }
        16..19 => {
            let len = random.pick(&[24, 29, 30, 32]);
            let address = Ipv4Addr::new(198, 18, random.below(4) as u8, random.below(8) as u8);
            Trigger::Answer(block(address.into(), len))
        }
        _ => {
            let (network, host) = (1 + random.below(3) as u16, 1 + random.below(4) as u16);
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host);
            Trigger::Answer(block(address.into(), random.pick(&[64, 128])))
        }
    }
}

fn action(random: &mut Random) -> Action {
    let ttl = 1000 + random.below(1000) as u32;
    match random.below(16) {
        0..3 => Action::NxDomain,
        3..5 => Action::NoData,
        5..8 => Action::PassThru,
        8 => Action::Drop,
        9 => Action::TcpOnly,
        10..13 => {
            let count = 1 + random.below(2);
            let address = |at: u64, random: &mut Random| format!("192.0.2.{}", 1 + at + 2 * random.below(90));
            let mut records: Vec<_> = (0..count).map(|at| ("A", address(at, random))).collect();
            if random.below(2) == 1 {
                records.push(("TXT", format!("\"t{}\"", random.below(9))));
            }
            Action::Records(ttl, records)
        }
        13 | 14 => Action::Cname(ttl, format!("garden{}.g.example", random.below(5))),
        _ => Action::Cname(ttl, "*.w.g.example".into()),
    }
}

/// The names of a network.
fn names(random: &mut Random, network: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < 14 {
        let count = 1 + random.below(3);
        let front: String = (0..count).map(|_| random.pick(&LABELS).to_string() + ".").collect();
        let name = format!("{front}n{network}.example");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Makes the networks. The seed is fixed.
pub fn networks() -> Vec<Network> {
    let random = &mut Random(7);
    let make = |network: usize| {
        let names = names(random, network);
        let mut aliases = BTreeMap::new();
        let head = |chain: usize| format!("c{chain}-0.n{network}.example");
        for chain in 0..CHAINS {
            let count = 1 + random.below(3) as usize;
            let mut hops: Vec<String> = (0..count).map(|hop| format!("c{chain}-{hop}.n{network}.example")).collect();
            hops.push(random.pick(&names));
            aliases.extend(hops.windows(2).map(|hops| (hops[0].clone(), hops[1].clone())));
        }
        let all: Vec<String> = aliases.keys().cloned().collect();
        let zones = (0..1 + network % 3).map(|_| {
            let mut zone = Zone::new();
            for _ in 0..ENTRIES {
                let (trigger, action) = (trigger(random, network, &names, &all), action(random));
                // A target that is the name itself is the old form of a pass.
                let is_own = matches!((&trigger, &action), (Trigger::Name(name), Action::Cname(_, to)) if name == to);
                if !is_own && zone.iter().all(|(other, _)| *other != trigger) {
                    zone.push((trigger, action));
                }
            }
            zone
        });
        let zones = zones.collect();
        let query = |at: usize| {
            let name = match at % 3 {
                // Each chain is asked for once, so no resolver has it in its cache.
                0 => head(at / 3),
                _ if random.below(4) == 0 => format!("{}.{}", random.pick(&LABELS), random.pick(&names)),
                _ => random.pick(&names),
            };
            let qtype = match random.below(20) {
                0..13 => "A",
                13..17 => "AAAA",
                // BIND gives a CNAME record of a zone with NXDOMAIN, if the name does not exist elsewhere.
                19 if !is_missing(&name) => "CNAME",
                _ => "TXT",
            };
            let last = if random.below(4) == 0 { 1 + random.below(15) } else { 200 + random.below(4) };
            Query { network, client: client(network, last), name, qtype, is_tcp: random.below(12) == 0 }
        };
        Network { zones, aliases, queries: (0..QUERIES).map(query).collect() }
    };
    (0..NETWORKS).map(make).collect()
}

/// The owner of an entry, relative to its zone.
fn owner(trigger: &Trigger) -> String {
    let (block, kind) = match trigger {
        Trigger::Name(name) => return name.clone(),
        Trigger::Below(name) => return format!("*.{name}"),
        Trigger::Client(block) => (block, "client-ip"),
        Trigger::Answer(block) => (block, "ip"),
    };
    let text = block.network().to_string();
    let reversed = |text: &str, by: char| text.split(by).rev().collect::<Vec<_>>().join(".");
    let address = match text.split_once("::") {
        None => reversed(&text, '.'),
        Some((front, "")) => format!("zz.{}", reversed(front, ':')),
        Some((front, end)) => format!("{}.zz.{}", reversed(end, ':'), reversed(front, ':')),
    };
    format!("{}.{address}.rpz-{kind}", block.prefix_len())
}

/// The name of a zone.
pub fn zone_name(network: usize, zone: usize) -> String {
    format!("z{zone}.n{network}.rpz")
}

/// The master file of a zone.
pub fn zone_text(name: &str, zone: &Zone) -> String {
    let mut text =
        format!("$ORIGIN {name}.\n@ 60 SOA ns.invalid. host.invalid. 1 3600 600 86400 60\n@ 60 NS ns.invalid.\n");
    for (trigger, action) in zone {
        let owner = owner(trigger);
        let target = match action {
            Action::NxDomain => ".",
            Action::NoData => "*.",
            Action::PassThru => "rpz-passthru.",
            Action::Drop => "rpz-drop.",
            Action::TcpOnly => "rpz-tcp-only.",
            Action::Records(ttl, records) => {
                for (rtype, data) in records {
                    let _ = writeln!(text, "{owner} {ttl} {rtype} {data}");
                }
                continue;
            }
            Action::Cname(ttl, target) => {
                let _ = writeln!(text, "{owner} {ttl} CNAME {target}.");
                continue;
            }
        };
        let _ = writeln!(text, "{owner} 60 CNAME {target}");
    }
    text
}

/// The response of the other servers to a query. `aliases` are those of all networks.
pub fn response(asked: &Asked, aliases: &BTreeMap<String, String>) -> Vec<u8> {
    let mut response = asked.response();
    // BIND takes a copy of its own cookie for an error.
    response.edns = None;
    let qtype = asked.message.queries[0].query_type().to_string();
    let mut name = asked.name();
    while let Some(target) = aliases.get(&name) {
        response.answers.push(cname(&name, 60, target));
        name = target.clone();
        if qtype == "CNAME" {
            return response.to_vec().unwrap();
        }
    }
    let is_there = !is_missing(&name);
    if is_there && matches!(&*qtype, "A" | "AAAA") {
        let mut owner = Name::from_ascii(&name).unwrap();
        owner.set_fqdn(true);
        let record = |address| {
            let data = match address {
                IpAddr::V4(address) => RData::A(rdata::A(address)),
                IpAddr::V6(address) => RData::AAAA(rdata::AAAA(address)),
            };
            Record::from_rdata(owner.clone(), 60, data)
        };
        response.answers.extend(addresses(&name, &qtype).into_iter().map(record));
    } else {
        response.metadata.response_code = if is_there { ResponseCode::NoError } else { ResponseCode::NXDomain };
        response.authorities.push(soa(&name, 60));
    }
    response.to_vec().unwrap()
}
