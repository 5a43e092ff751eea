//! A zone as a list of records, searched from end to end (RFC 1034 section 4.3.2, RFC 4592, RFC
//! 6672).

use super::{
    groups::{Content, Group},
    names::{ANY, CNAME, DNAME, DS, Data, N, NS, Rr, SOA, at_or_below, name_wire, under},
};
use std::collections::BTreeSet;
use zonal::manifest::PrivateHostedZone;

/// A zone: its records, its aliases (owner, type, target), and its groups of record sets.
#[derive(Clone, Debug)]
pub struct Zone {
    pub apex: N,
    pub records: Vec<Rr>,
    pub aliases: Vec<(N, u16, N)>,
    pub groups: Vec<Group>,
    /// All owners except those hidden below a zone cut or a DNAME.
    owners: BTreeSet<N>,
}

/// The result of a search in a zone.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The records, with the query name as their owner.
    Records(Vec<Rr>),
    /// The alias's target is outside the zone.
    Alias(N, u16),
    /// The name exists, without records of this type.
    NoData,
    /// The name does not exist.
    NoName,
    /// A zone cut: the owner of the NS records.
    Referral(N),
    /// A CNAME with its target, after the DNAME that it was synthesised from, if there is one.
    Follow(Vec<Rr>, N),
    /// The name that a DNAME makes is too long.
    TooLong(Vec<Rr>),
    /// One of the record sets, or none: the query is for ANY, and a routing policy is among them (RFC 8482).
    Any,
}

/// The functions of a search that depend on the view and the client.
pub struct Outside<'f> {
    /// Whether a name of the view outside the zone is below a name.
    pub is_above: &'f dyn Fn(&[String]) -> bool,
    /// The members of a group that answer.
    pub choose: &'f dyn Fn(&Group) -> Vec<usize>,
}

impl Zone {
    /// The zone of the manifest, with the records of its file. Missing SOA and NS records are
    /// added.
    pub fn new(resource: &PrivateHostedZone, records: &[Rr]) -> Zone {
        let apex = super::names::name(&resource.name.to_string());
        let mut records = records.to_vec();
        let has = |records: &[Rr], rtype| records.iter().any(|rr| rr.owner == apex && rr.rtype == rtype);
        if !has(&records, SOA) {
            let data = Data::Soa(under("ns", &apex), under("hostmaster", &apex), [1, 7200, 900, 1_209_600, 60]);
            records.push(Rr::new(&apex, SOA, 60, data));
        }
        if !has(&records, NS) {
            records.push(Rr::new(&apex, NS, 60, Data::Name(under("ns", &apex))));
        }
        let mut aliases = Vec::new();
        for set in resource.records.iter().filter(|set| set.set_identifier.is_none()) {
            let owner = match set.name.as_str() {
                "@" => apex.clone(),
                relative => [super::names::name(relative), apex.clone()].concat(),
            };
            let rtype = match set.record_type.as_str() {
                "A" => super::names::A,
                "AAAA" => super::names::AAAA,
                other => panic!("the generator makes no aliases of type {other}"),
            };
            let target = set.alias.as_ref().expect("the generator makes aliases only");
            aliases.push((owner, rtype, super::names::name(&target.name.to_string())));
        }
        let groups = Group::all(&apex, &resource.records);
        Zone::of(apex, records, aliases, groups)
    }

    pub fn of(apex: N, records: Vec<Rr>, aliases: Vec<(N, u16, N)>, groups: Vec<Group>) -> Zone {
        let mut zone = Zone { apex, records, aliases, groups, owners: BTreeSet::new() };
        let all = zone.records.iter().map(|rr| &rr.owner).chain(zone.aliases.iter().map(|(owner, ..)| owner));
        let all = all.chain(zone.groups.iter().map(|group| &group.owner));
        zone.owners = all.filter(|owner| zone.hidden_below(owner).is_none()).cloned().collect();
        zone
    }

    /// The highest zone cut or DNAME that hides a name, if there is one.
    fn hidden_below(&self, name: &[String]) -> Option<N> {
        let below_apex = name.len().checked_sub(self.apex.len())?;
        (1..=below_apex)
            .rev()
            .map(|skip| name[skip..].to_vec())
            .find(|above| self.has(above, DNAME) || (*above != self.apex && self.has(above, NS)))
    }

    fn has(&self, owner: &[String], rtype: u16) -> bool {
        self.records.iter().any(|rr| rr.owner == owner && rr.rtype == rtype)
    }

    /// Whether a name exists: it has records, or a name below it has (an empty non-terminal).
    pub fn exists(&self, name: &[String]) -> bool {
        name == self.apex || self.owners.iter().any(|owner| at_or_below(owner, name))
    }

    /// The SOA record of negative answers. Its TTL is the lesser of its own TTL and its MINIMUM
    /// (RFC 2308, section 3).
    pub fn negative(&self) -> Rr {
        let mut soa = self.records.iter().find(|rr| rr.rtype == SOA).cloned().expect("made in `new`");
        if let Data::Soa(_, _, numbers) = &soa.data {
            soa.ttl = soa.ttl.min(numbers[4]);
        }
        soa
    }

    /// The group of a name and type.
    pub fn group(&self, name: &[String], rtype: u16) -> Option<&Group> {
        self.groups.iter().find(|group| group.owner == name && group.rtype == rtype)
    }

    /// The name that the records of a name of this zone come from: itself, or the wildcard that matches it.
    pub fn source_of(&self, name: &[String]) -> Option<N> {
        if !at_or_below(name, &self.apex) || self.hidden_below(name).is_some() {
            return None;
        }
        if self.exists(name) { Some(name.to_vec()) } else { self.wildcard(name, &|_| false) }
    }

    /// Searches the zone for a name at or below its apex.
    pub fn search(&self, name: &[String], qtype: u16, outside: &Outside) -> Found {
        if let Some(above) = self.hidden_below(name) {
            if self.has(&above, NS) && above != self.apex {
                return Found::Referral(above);
            }
            let dname = self.records.iter().find(|rr| rr.owner == above && rr.rtype == DNAME).expect("just seen");
            let Data::Name(to) = &dname.data else { panic!("a DNAME holds a name") };
            let target: N = [&name[..name.len() - above.len()], to].concat();
            if name_wire(&target).len() > 255 {
                return Found::TooLong(vec![dname.clone()]);
            }
            let cname = Rr::new(name, CNAME, dname.ttl, Data::Name(target.clone()));
            // The CNAME is the answer to a query for CNAME. A query for ANY follows it, as in NSD
            // and Knot.
            if qtype == CNAME {
                return Found::Records(vec![dname.clone(), cname]);
            }
            return Found::Follow(vec![dname.clone(), cname], target);
        }
        if name != self.apex && self.has(name, NS) && qtype != DS {
            return Found::Referral(name.to_vec());
        }
        if self.exists(name) {
            return self.at(name, name, qtype, 0, outside);
        }
        match self.wildcard(name, outside.is_above) {
            Some(wildcard) => self.at(&wildcard, name, qtype, 0, outside),
            None => Found::NoName,
        }
    }

    /// The source of synthesis: `*` below the closest encloser, if it exists (RFC 4592, section
    /// 3.3.1).
    fn wildcard(&self, name: &[String], is_above: &dyn Fn(&[String]) -> bool) -> Option<N> {
        let exists = |above: &&[String]| self.exists(above) || is_above(above);
        let encloser = (0..=name.len() - self.apex.len()).map(|skip| &name[skip..]).find(exists)?;
        if encloser == name {
            return None;
        }
        Some(under("*", encloser)).filter(|wildcard| self.exists(wildcard))
    }

    /// The records at an existing name, with `asked` as their owner.
    fn at(&self, name: &[String], asked: &[String], qtype: u16, depth: usize, outside: &Outside) -> Found {
        if qtype == ANY && self.groups.iter().any(|group| group.owner == name) {
            return Found::Any;
        }
        let cnames = self.group(name, CNAME).filter(|_| qtype != CNAME);
        if let Some(group) = cnames.or_else(|| self.group(name, qtype)) {
            return self.of_group(group, asked, qtype, depth, outside);
        }
        let here: Vec<Rr> = self
            .records
            .iter()
            .filter(|rr| rr.owner == name)
            .map(|rr| Rr { owner: asked.to_vec(), ..rr.clone() })
            .collect();
        if let Some(cname) = here.iter().find(|rr| rr.rtype == CNAME)
            && qtype != CNAME
            && qtype != ANY
        {
            let Data::Name(target) = &cname.data else { panic!("a CNAME holds a name") };
            return Found::Follow(vec![cname.clone()], target.clone());
        }
        let wanted: Vec<Rr> = here.iter().filter(|rr| rr.rtype == qtype || qtype == ANY).cloned().collect();
        if !wanted.is_empty() {
            return Found::Records(wanted);
        }
        match self.aliases.iter().find(|(owner, rtype, _)| owner == name && (*rtype == qtype || qtype == ANY)) {
            Some((_, rtype, target)) => self.alias(target, asked, *rtype, depth, outside),
            None => Found::NoData,
        }
    }

    /// The records that a routing policy chooses, with `asked` as their owner.
    fn of_group(&self, group: &Group, asked: &[String], qtype: u16, depth: usize, outside: &Outside) -> Found {
        let mut records = Vec::new();
        for at in (outside.choose)(group) {
            match &group.members[at].content {
                Content::Records(own) => {
                    records.extend(own.iter().map(|rr| Rr { owner: asked.to_vec(), ..rr.clone() }));
                }
                Content::Alias(target, _) => return self.alias(target, asked, group.rtype, depth, outside),
            }
        }
        match records.first().map(|rr| &rr.data) {
            None => Found::NoData,
            Some(Data::Name(target)) if group.rtype == CNAME && qtype != CNAME => {
                Found::Follow(records.clone(), target.clone())
            }
            Some(_) => Found::Records(records),
        }
    }

    /// The records of the alias's target in this zone, with `asked` as their owner.
    fn alias(&self, target: &[String], asked: &[String], qtype: u16, depth: usize, outside: &Outside) -> Found {
        if !at_or_below(target, &self.apex) {
            return Found::Alias(target.to_vec(), qtype);
        }
        if depth == 16 {
            return Found::NoData;
        }
        match self.source_of(target).map(|source| self.at(&source, asked, qtype, depth + 1, outside)) {
            Some(found @ (Found::Records(_) | Found::Alias(..))) => found,
            _ => Found::NoData,
        }
    }
}
