//! A naive evaluation of response policy zones, with the semantics of zonal and those of other programs. The programs differ
//! only in these fields. The peers are those of Debian 12: BIND 9.18, Unbound 1.17 and PowerDNS Recursor 4.8.

use super::zones::{Action, Network, Query, Trigger, Zone, addresses, is_at_or_below, is_missing};
use std::{fmt, net::IpAddr};

/// The names that an entry `*.x` is for, beside other entries of its zone.
#[derive(Clone, Copy, PartialEq)]
pub enum Wildcards {
    /// All names below x that have no entry of their own or one nearer.
    AllBelow,
    /// As a wildcard of the DNS: no names at or below another name of the zone (RFC 4592).
    ClosestEncloser,
    /// Only the wildcard of one ancestor. The program sorts the entries, and takes the entry before the queried name. The
    /// ancestor is the longest name that is at or above both.
    OfPredecessor,
}

/// The effect of PASSTHRU, and of TCP-only by TCP.
#[derive(Clone, Copy, PartialEq)]
pub enum Pass {
    /// The name passes later entries, and its addresses pass this zone and later ones.
    OneName,
    /// The answer passes everything.
    Everything,
    /// The answer passes this zone and later ones.
    LaterZones,
}

/// The answer when a name of a chain is blocked.
#[derive(Clone, Copy, PartialEq)]
pub enum Chain {
    /// It replaces the chain, and its owner is the queried name.
    Replaced,
    /// It is behind the chain.
    Kept,
    /// It is behind the chain. NXDOMAIN and NODATA replace the chain.
    KeptBeforeRecords,
}

/// The entry that decides, of several for the addresses of an answer.
#[derive(Clone, Copy, PartialEq)]
pub enum Addresses {
    /// In the first zone, the one with the longest prefix.
    LongestPrefix,
    /// In the first zone, the one for the first record.
    FirstRecord,
    /// The one for the first record, in any zone.
    FirstRecordOfAnyZone,
}

/// The semantics of a program.
#[derive(Clone, Copy, PartialEq)]
pub struct Semantics {
    pub wildcards: Wildcards,
    pub pass: Pass,
    pub chain: Chain,
    pub addresses: Addresses,
    /// An entry for addresses of an earlier zone decides before an entry for names of a later zone.
    pub waits_for_addresses: bool,
    /// The entries for clients of all zones come before all other entries.
    pub clients_first: bool,
    /// The local data of Unbound 1.17: an entry for clients has one record and no CNAME, and `*` in a target is replaced
    /// only for an entry for names.
    pub is_unbound: bool,
}

impl Semantics {
    /// docs/guides/filtering-names.md.
    pub const ZONAL: Semantics = Semantics {
        wildcards: Wildcards::AllBelow,
        pass: Pass::OneName,
        chain: Chain::Replaced,
        addresses: Addresses::LongestPrefix,
        waits_for_addresses: false,
        clients_first: false,
        is_unbound: false,
    };

    pub const BIND: Semantics = Semantics {
        wildcards: Wildcards::ClosestEncloser,
        pass: Pass::Everything,
        chain: Chain::Kept,
        waits_for_addresses: true,
        ..Semantics::ZONAL
    };

    pub const UNBOUND: Semantics = Semantics {
        wildcards: Wildcards::OfPredecessor,
        pass: Pass::Everything,
        chain: Chain::Kept,
        addresses: Addresses::FirstRecord,
        is_unbound: true,
        ..Semantics::ZONAL
    };

    pub const POWERDNS: Semantics = Semantics {
        pass: Pass::LaterZones,
        chain: Chain::KeptBeforeRecords,
        addresses: Addresses::FirstRecordOfAnyZone,
        clients_first: true,
        ..Semantics::ZONAL
    };
}

/// A kind of difference: its description, and how the semantics of zonal become those of a peer.
pub type Kind = (&'static str, fn(&mut Semantics, &Semantics));

/// The differences that zonal chooses. The guide has the reasons.
pub const KINDS: [Kind; 7] = [
    ("the chain is replaced as a whole", |ours, theirs| ours.chain = theirs.chain),
    ("a pass is for one name of a chain", |ours, theirs| ours.pass = theirs.pass),
    ("`*.x` is for all names below x", |ours, theirs| ours.wildcards = theirs.wildcards),
    ("entries for names do not wait for addresses", |ours, theirs| {
        ours.waits_for_addresses = theirs.waits_for_addresses;
    }),
    ("entries for clients stay within the order of the zones", |ours, theirs| {
        ours.clients_first = theirs.clients_first;
    }),
    ("the longest prefix decides", |ours, theirs| ours.addresses = theirs.addresses),
    ("local data is complete", |ours, theirs| ours.is_unbound = theirs.is_unbound),
];

/// The answer of a program, or the one to expect.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No reply.
    Dropped,
    /// A truncated reply.
    Truncated,
    /// An RCODE, and the records `owner TTL type data` in order. TTLs below 1000 are not compared: those of local data are
    /// higher.
    Complete(String, Vec<String>),
    /// Depends on the cache of the program.
    Unknown,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Dropped => write!(f, "no reply"),
            Answer::Truncated => write!(f, "truncated"),
            Answer::Complete(status, records) => write!(f, "{status} {}", records.join(", ")),
            Answer::Unknown => write!(f, "unknown"),
        }
    }
}

/// A match.
#[derive(Clone, Copy)]
struct Hit<'n> {
    zone: usize,
    action: &'n Action,
    is_client: bool,
    is_address: bool,
}

/// A query in evaluation.
struct Evaluation<'n> {
    network: &'n Network,
    query: &'n Query,
    semantics: &'n Semantics,
    /// The name that is inspected.
    name: String,
    /// The records of the chain in front of it.
    chain: Vec<String>,
    /// Zones from this one on are passed.
    end: usize,
}

/// The answer to a query of a network, according to the semantics of a program.
pub fn answer(network: &Network, query: &Query, semantics: &Semantics) -> Answer {
    let (name, chain, end) = (query.name.clone(), Vec::new(), network.zones.len());
    Evaluation { network, query, semantics, name, chain, end }.run()
}

impl<'n> Evaluation<'n> {
    fn run(mut self) -> Answer {
        loop {
            let mut hit = self.hit_of_name();
            let target = self.network.aliases.get(&self.name).filter(|_| self.query.qtype != "CNAME");
            let is_blocked = hit.is_some_and(|hit| !self.passes(hit.action));
            if self.semantics.is_unbound && hit.is_some_and(|hit| hit.is_client && !is_blocked) && self.is_listed() {
                return Answer::Unknown;
            }
            if target.is_none() && (!is_blocked || self.semantics.waits_for_addresses) {
                let is_unbound = self.semantics.is_unbound;
                let end = match hit {
                    Some(hit) if !is_unbound => hit.zone.min(self.end),
                    _ => self.end,
                };
                let address = self.hit_of_addresses(end);
                let is_cut = |action: &Action| matches!(action, Action::TcpOnly | Action::Drop);
                let depends = |address: Hit| is_unbound && (hit.is_some() || is_cut(address.action));
                if address.is_some_and(depends) {
                    return Answer::Unknown;
                }
                hit = address.or(hit);
            }
            if let Some(hit) = hit {
                if !self.passes(hit.action) {
                    return self.blocked(&hit);
                }
                self.end = match self.semantics.pass {
                    Pass::OneName => self.end,
                    Pass::Everything => 0,
                    Pass::LaterZones if *hit.action == Action::TcpOnly => 0,
                    Pass::LaterZones => self.end.min(hit.zone),
                };
            }
            let Some(target) = target else { return self.unfiltered(&self.name) };
            self.chain.push(line(&self.name, None, "CNAME", &format!("{target}.")));
            self.name = target.clone();
        }
    }

    /// Whether a zone has an entry for the current name.
    fn is_listed(&self) -> bool {
        self.zones().any(|(_, zone)| self.of_name(zone).is_some())
    }

    fn passes(&self, action: &Action) -> bool {
        *action == Action::PassThru || *action == Action::TcpOnly && self.query.is_tcp
    }

    fn zones(&self) -> impl Iterator<Item = (usize, &'n Zone)> {
        self.network.zones.iter().enumerate().take(self.end)
    }

    /// The first entry for the client or the name.
    fn hit_of_name(&self) -> Option<Hit<'n>> {
        let is_first = self.chain.is_empty();
        let of_client = |zone: &'n Zone| longest(zone, true, self.query.client.into()).map(|(.., action)| action);
        let hit = |is_client| move |(zone, action)| Hit { zone, action, is_client, is_address: false };
        let mut end = self.end;
        let mut first = None;
        if self.semantics.clients_first && is_first {
            first = self.zones().find_map(|(at, zone)| Some((at, of_client(zone)?))).map(hit(true));
            match first {
                // An entry of an earlier zone comes before a pass.
                Some(first) if *first.action == Action::PassThru => end = first.zone,
                Some(_) => return first,
                None => {}
            }
        }
        let sees_client = !self.semantics.clients_first && (is_first || self.semantics.pass == Pass::OneName);
        let found = self.zones().take(end).find_map(|(at, zone)| {
            let client = of_client(zone).filter(|_| sees_client).map(|action| hit(true)((at, action)));
            client.or_else(|| Some(hit(false)((at, self.of_name(zone)?))))
        });
        found.or(first)
    }

    fn of_name(&self, zone: &'n Zone) -> Option<&'n Action> {
        let find = |trigger: Trigger| zone.iter().find(|(other, _)| *other == trigger).map(|(_, action)| action);
        let exact = find(Trigger::Name(self.name.clone()));
        if exact.is_some() {
            return exact;
        }
        let owners = zone.iter().filter_map(|(trigger, _)| match trigger {
            Trigger::Name(name) => Some(name.clone()),
            Trigger::Below(name) => Some(format!("*.{name}")),
            Trigger::Client(_) | Trigger::Answer(_) => None,
        });
        let owners: Vec<String> = owners.collect();
        let is_there = |name: &str| owners.iter().any(|owner| is_at_or_below(owner, name));
        match self.semantics.wildcards {
            Wildcards::OfPredecessor => {
                let before = owners.iter().map(|owner| (order(owner), owner));
                let (_, before) = before.filter(|(order_of, _)| *order_of <= order(&self.name)).max()?;
                let parents = self.name.match_indices('.').map(|(at, _)| &self.name[at + 1..]);
                let shared = std::iter::once(&*self.name).chain(parents).find(|name| is_at_or_below(before, name))?;
                find(Trigger::Below(shared.into()))
            }
            Wildcards::ClosestEncloser if is_there(&self.name) => None,
            wildcards => {
                for (at, _) in self.name.match_indices('.') {
                    let parent = &self.name[at + 1..];
                    let action = find(Trigger::Below(parent.into()));
                    if action.is_some() || wildcards == Wildcards::ClosestEncloser && is_there(parent) {
                        return action;
                    }
                }
                None
            }
        }
    }

    /// The entry of the zones before `end` for the addresses of the current name.
    fn hit_of_addresses(&self, end: usize) -> Option<Hit<'n>> {
        if !matches!(self.query.qtype, "A" | "AAAA") || is_missing(&self.name) {
            return None;
        }
        let mut all = Vec::new();
        for (at, zone) in self.zones().take(end) {
            for (record, address) in addresses(&self.name, self.query.qtype).into_iter().enumerate() {
                if let Some((len, action)) = longest(zone, false, address) {
                    let key = match self.semantics.addresses {
                        Addresses::LongestPrefix => (at, usize::from(u8::MAX - len), Some(address)),
                        Addresses::FirstRecord => (at, record, None),
                        Addresses::FirstRecordOfAnyZone => (record, at, None),
                    };
                    all.push((key, Hit { zone: at, action, is_client: false, is_address: true }));
                }
            }
        }
        all.into_iter().min_by_key(|(key, _)| *key).map(|(_, hit)| hit)
    }

    fn blocked(&self, hit: &Hit) -> Answer {
        let Semantics { chain, is_unbound, .. } = *self.semantics;
        let (query, keeps_chain) = (self.query, chain != Chain::Replaced);
        let owner = if keeps_chain { &self.name } else { &query.name };
        let mut records = if keeps_chain { self.chain.clone() } else { Vec::new() };
        if chain == Chain::KeptBeforeRecords && matches!(hit.action, Action::NxDomain | Action::NoData) {
            records.clear();
        }
        match hit.action {
            Action::Drop => return Answer::Dropped,
            Action::TcpOnly => return Answer::Truncated,
            Action::PassThru => unreachable!("a pass blocks nothing"),
            Action::NxDomain => return complete("NXDOMAIN", records),
            Action::NoData => {}
            Action::Records(ttl, data) => {
                let data = data.iter().filter(|(rtype, _)| *rtype == query.qtype);
                let mut data: Vec<String> = data.map(|(rtype, data)| line(owner, Some(*ttl), rtype, data)).collect();
                if is_unbound && hit.is_client {
                    data.drain(..data.len().saturating_sub(1));
                }
                // PowerDNS passes an entry for addresses without records of the type, if the addresses are behind a chain.
                let is_powerdns = chain == Chain::KeptBeforeRecords;
                if is_powerdns && hit.is_address && data.is_empty() && !self.chain.is_empty() {
                    return self.unfiltered(&self.name);
                }
                records.append(&mut data);
            }
            Action::Cname(ttl, target) => {
                if is_unbound && hit.is_client && query.qtype != "CNAME" {
                    return complete("NOERROR", records);
                }
                let is_replaced = target.starts_with("*.");
                let is_literal = is_unbound && (hit.is_address || query.qtype == "CNAME");
                let target = match is_replaced && !is_literal {
                    true => format!("{owner}{}", &target[1..]),
                    false => target.clone(),
                };
                let ttl = if is_replaced && !is_literal && is_unbound { 0 } else { *ttl };
                records.push(line(owner, Some(ttl), "CNAME", &format!("{target}.")));
                if query.qtype != "CNAME" {
                    records.extend(found(&target, query.qtype));
                    return complete(if is_missing(&target) { "NXDOMAIN" } else { "NOERROR" }, records);
                }
            }
        }
        complete("NOERROR", records)
    }

    /// The answer of the other servers, from a name on.
    fn unfiltered(&self, name: &str) -> Answer {
        let mut records = self.chain.clone();
        if self.query.qtype == "CNAME" {
            let target = self.network.aliases.get(name);
            records.extend(target.map(|target| line(name, None, "CNAME", &format!("{target}."))));
        }
        records.extend(found(name, self.query.qtype));
        complete(if is_missing(name) { "NXDOMAIN" } else { "NOERROR" }, records)
    }
}

/// The entry with the longest prefix for an address of a client, or in an answer.
fn longest(zone: &Zone, of_client: bool, address: IpAddr) -> Option<(u8, &Action)> {
    let blocks = zone.iter().filter_map(|(trigger, action)| match trigger {
        Trigger::Client(block) if of_client => Some((block, action)),
        Trigger::Answer(block) if !of_client => Some((block, action)),
        _ => None,
    });
    let blocks = blocks.filter(|(block, _)| block.contains(&address));
    blocks.map(|(block, action)| (block.prefix_len(), action)).max_by_key(|(len, _)| *len)
}

/// Unbound's order of names: from the root, shorter labels first.
fn order(name: &str) -> Vec<(usize, &str)> {
    name.split('.').rev().map(|label| (label.len(), label)).collect()
}

/// The addresses of a name, as records.
fn found(name: &str, qtype: &str) -> Vec<String> {
    match qtype {
        "A" | "AAAA" if !is_missing(name) => {
            addresses(name, qtype).iter().map(|address| line(name, None, qtype, &address.to_string())).collect()
        }
        _ => Vec::new(),
    }
}

/// A record. `ttl` is that of local data.
fn line(owner: &str, ttl: Option<u32>, rtype: &str, data: &str) -> String {
    let ttl = ttl.map_or("-".into(), |ttl| ttl.to_string());
    format!("{owner}. {ttl} {rtype} {data}")
}

/// An answer with these records, in any order.
pub fn complete(status: &str, mut records: Vec<String>) -> Answer {
    records.sort();
    records.dedup();
    Answer::Complete(status.into(), records)
}
