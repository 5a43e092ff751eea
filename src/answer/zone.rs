//! Answers out of a private hosted zone (RFC 1034, 4.3.2; RFC 4592; RFC 6672; RFC 8482).

use super::{
    cut::has_below,
    known::Known,
    resolve::{Outcome, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::{
        aliases::MAX_ALIASES,
        networks::Path,
        routes::Route,
        zone::{Node, Search, Set, Target, Zone},
    },
    wire::{
        Name,
        codes::{ede, flag, pointer, rcode},
        name::{MAX_NAME, name_text},
        query::LookupName,
        rdata::{rtype, type_to_text},
        reply::{Full, Section, expand_name},
    },
};
use std::sync::Arc;

impl<'s, K: Known, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Has a zone answer. The name in question is at its apex or below it, and may have fallen through another zone. None if it
    /// falls through this one.
    #[inline]
    pub fn zone(&mut self, zone: &'s Zone, first: bool, falls: bool) -> Option<Outcome<'s>> {
        if let Some(why) = &zone.missing {
            self.trace.note(Stage::Zone, || format!("it cannot answer: {why}"));
            return Some(Outcome::Failed(Some((ede::INVALID_DATA, why.clone()))));
        }
        let apex = self.suffix_at(self.name.labels() - zone.apex_labels());
        let found = match zone.search(self.name) {
            // DS at a cut is the parent's data (RFC 4035, 3.1.4.1)
            Search::Cut(node) if self.qtype == rtype::DS && node.labels() == self.name.labels() => Search::Node(node),
            Search::Wildcard(node) if !falls && self.is_blocked(node.labels() - 1) => Search::Missing,
            Search::EmptyWildcard(encloser) if !falls && self.is_blocked(encloser) => Search::Missing,
            other => other,
        };
        if zone.fallthrough && matches!(found, Search::Missing) {
            return None;
        }
        if first && !matches!(found, Search::Cut(_)) {
            self.reply.set(flag::AA);
        }
        self.note_updates(zone, &found);
        let written = match found {
            Search::Node(node) => {
                self.trace.note(Stage::Zone, || format!("{} is in the zone", node.name()));
                self.node(zone, node, apex)
            }
            Search::Wildcard(node) => {
                self.trace.note(Stage::Zone, || format!("the wildcard {} stands in for the name", node.name()));
                self.node(zone, node, apex)
            }
            Search::Cut(node) if let Some(route) = self.way_below(node) => {
                self.trace.note(Stage::Zone, || {
                    format!(
                        "{} is delegated, and by DELEGATE rule {} asked: {}",
                        node.name(),
                        route.rule,
                        route.servers
                    )
                });
                return Some(self.forward(route));
            }
            Search::Cut(node) => {
                self.trace.note(Stage::Zone, || format!("{} is delegated: a referral", node.name()));
                self.referral(zone, node, apex).map(|()| Outcome::Done(rcode::NOERROR))
            }
            Search::Dname(node) => {
                self.trace.note(Stage::Zone, || format!("{} has a DNAME", node.name()));
                self.dname(node, apex)
            }
            Search::Empty | Search::EmptyWildcard(_) => {
                let (name, qtype) = (self.name.wire(), self.qtype);
                self.trace.note(Stage::Zone, || format!("{} has only names below it", name_text(name)));
                self.trace.note(Stage::Zone, || format!("it has no {} records", type_to_text(qtype)));
                self.negative(zone, apex).map(|()| Outcome::Done(rcode::NOERROR))
            }
            Search::Missing => {
                self.trace.note(Stage::Zone, || "there is no such name in the zone, nor a wildcard for it".into());
                self.negative(zone, apex).map(|()| Outcome::Done(rcode::NXDOMAIN))
            }
        };
        Some(written.unwrap_or_else(|Full| {
            self.reply.truncate();
            Outcome::Done(rcode::NOERROR)
        }))
    }

    /// Notes that a dynamic update decides what the name has.
    fn note_updates(&mut self, zone: &Zone, found: &Search) {
        let (name, qtype) = (self.name.wire(), self.qtype);
        self.trace.notes(Stage::Zone, || {
            let owner = match found {
                Search::Node(node) | Search::Wildcard(node) => Some(node.name()),
                _ => Name::from_wire(name).ok(),
            };
            let owner = owner.filter(|owner| {
                let has = |rtype| zone.overlay.as_ref().is_some_and(|overlay| overlay.has(owner, rtype));
                has(qtype) || has(rtype::CNAME)
            });
            let told =
                |owner| format!("a dynamic update overrides the files at {owner}: `zonal journal show {}`", zone.id);
            owner.map(told).into_iter().collect()
        });
    }

    /// The way below a zone cut, if a DELEGATE rule has it followed.
    fn way_below(&self, cut: Node) -> Option<&'s Arc<Route>> {
        let is_followed = self.wishes.recursion && self.view.path != Path::InboundDelegation;
        let policies = self.snapshot.views.policies(self.view).filter(|_| is_followed)?;
        policies.delegations.find(self.name, self.name.labels() - cut.labels())
    }

    /// Whether a wildcard below a name with so many labels does not stand in for the name in question, as a name between them
    /// exists: something of the view is below that (RFC 4592, 3.3.1).
    fn is_blocked(&self, encloser: usize) -> bool {
        (0..self.name.labels() - encloser).any(|skip| has_below(self.snapshot, self.view, self.name, skip))
    }

    fn negative(&mut self, zone: &'s Zone, apex: usize) -> Result<(), Full> {
        zone.negative().write(&mut self.reply, Section::Authority, apex, apex).map(|_| ())
    }

    #[inline]
    fn node(&mut self, zone: &'s Zone, node: Node<'s>, apex: usize) -> Result<Outcome<'s>, Full> {
        let set = match self.qtype {
            // One record set will do (RFC 8482, 4.1).
            rtype::ANY => node.sets().find(|set| set.alias().is_none()).or_else(|| node.sets().next()),
            qtype => node.set(qtype),
        };
        if let Some(set) = set {
            if let Some(number) = set.alias() {
                return self.alias(zone, set.rtype(), number, apex);
            }
            self.answer_set(set, apex)?;
            self.note_set(set);
            self.additional(zone, node, set, apex);
            return Ok(Outcome::Done(rcode::NOERROR));
        }
        if node.has_cname()
            && let Some(set) = node.set(rtype::CNAME)
        {
            let start = set.write(&mut self.reply, Section::Answer, self.name_at, apex)?;
            self.note_set(set);
            return Ok(Outcome::Next(start + 12));
        }
        let qtype = self.qtype;
        self.trace.note(Stage::Zone, || format!("it has no {} records", type_to_text(qtype)));
        self.negative(zone, apex)?;
        Ok(Outcome::Done(rcode::NOERROR))
    }

    /// Writes a set under the name in question. Of addresses that do not all fit, those that do are in the truncated answer
    /// (RFC 2181, 9): there are C libraries that do not come again by TCP, and one address will do.
    #[inline]
    fn answer_set(&mut self, set: Set<'s>, apex: usize) -> Result<(), Full> {
        let written = set.write_turned(&mut self.reply, Section::Answer, self.name_at, apex, self.moment.draw);
        if written.is_err() && matches!(set.rtype(), rtype::A | rtype::AAAA) {
            set.write_part(&mut self.reply, Section::Answer, self.name_at, self.moment.draw);
        }
        written.map(|_| ())
    }

    fn note_set(&mut self, set: Set) {
        self.trace.note(Stage::Answer, || {
            format!("{} {} record(s), TTL {}", set.count(), type_to_text(set.rtype()), set.ttl())
        });
    }

    /// What goes with a set that is at `node`: addresses of its targets, and of services what these lead on to. Sets that do not
    /// fit are left out. Says whether all are in without which nobody gets below a cut: those of name servers that are
    /// themselves below one.
    fn additional(&mut self, zone: &'s Zone, node: Node<'s>, set: Set<'s>, apex: usize) -> bool {
        let mut complete = true;
        let draw = self.moment.draw;
        node.additional(set, |target| {
            self.reply.place_deferred();
            for other in target.node.sets().filter(|other| set.is_joined_by(*other)) {
                if target.is_self && other.rtype() == set.rtype() {
                    continue;
                }
                let written = match (other.alias(), target.is_self) {
                    (Some(number), _) => self.additional_alias(zone, target, other.rtype(), number, apex),
                    (None, true) => {
                        other.write_turned(&mut self.reply, Section::Additional, self.name_at, apex, draw).map(|_| ())
                    }
                    (None, false) => {
                        other.write_named(&mut self.reply, Section::Additional, target.relative, apex, draw)
                    }
                };
                complete &= written.is_ok() || !target.node.is_occluded();
            }
        });
        complete
    }

    /// The addresses that an alias at a target stands for, under the target's name.
    fn additional_alias(
        &mut self,
        zone: &'s Zone,
        target: Target<'_, 's>,
        rtype: u16,
        number: usize,
        apex: usize,
    ) -> Result<(), Full> {
        let Some(name) = LookupName::new(zone.alias(number).as_wire()) else { return Ok(()) };
        let public = &self.snapshot.endpoints.public;
        let found = (0..name.labels()).find_map(|skip| Some((skip, public.find(&name, skip)?)));
        let (owner, end): (&[u8], usize) = match target.is_self {
            true => (&[], self.name_at),
            false => (target.relative, apex),
        };
        match found {
            Some((skip, name)) if skip == 0 || name.wildcard => {
                self.addresses_of_endpoint(name, rtype, owner, pointer::to(end))
            }
            Some(_) => Ok(()),
            None => match zone.followed_from(number, rtype) {
                Some(set) if target.is_self => {
                    set.write_turned(&mut self.reply, Section::Additional, end, apex, self.moment.draw).map(|_| ())
                }
                Some(set) => set.write_named(&mut self.reply, Section::Additional, owner, apex, self.moment.draw),
                None => Ok(()),
            },
        }
    }

    /// A referral; glue that is needed and does not fit makes it truncated (RFC 9471, 3.1).
    fn referral(&mut self, zone: &'s Zone, node: Node<'s>, apex: usize) -> Result<(), Full> {
        let Some(set) = node.set(rtype::NS) else { return Ok(()) };
        let owner = self.suffix_at(self.name.labels() - node.labels());
        set.write(&mut self.reply, Section::Authority, owner, apex)?;
        if self.additional(zone, node, set, apex) { Ok(()) } else { Err(Full) }
    }

    /// A DNAME, and the CNAME that is made from it (RFC 6672, 3.1).
    fn dname(&mut self, node: Node<'s>, apex: usize) -> Result<Outcome<'s>, Full> {
        let Some(set) = node.set(rtype::DNAME) else { return Ok(Outcome::Done(rcode::SERVFAIL)) };
        let prefix_labels = self.name.labels() - node.labels();
        let owner = self.suffix_at(prefix_labels);
        let start = set.write(&mut self.reply, Section::Answer, owner, apex)?;
        // The labels in front of the DNAME's owner as the client spelt them, then the DNAME's target.
        let mut prefix = [0; 256];
        expand_name(self.reply.written(), self.name_at, &mut prefix);
        let prefix_len = self.name.start(prefix_labels);
        let mut target = [0; 256];
        let target_len = expand_name(self.reply.written(), start + 12, &mut target);
        if prefix_len + target_len > MAX_NAME {
            self.trace.note(Stage::Zone, || "the name that the DNAME makes is longer than 255 octets".into());
            return Ok(Outcome::Done(rcode::YXDOMAIN));
        }
        let data = [&prefix[..prefix_len], &target[..target_len]];
        let owner = pointer::to(self.name_at);
        let data = self.reply.record(Section::Answer, owner, rtype::CNAME, set.ttl(), &data)?;
        if self.qtype == rtype::CNAME {
            return Ok(Outcome::Done(rcode::NOERROR));
        }
        Ok(Outcome::Next(data))
    }

    /// An alias: the records of another name under the name in question, with their own TTL.
    fn alias(&mut self, zone: &'s Zone, rtype: u16, number: usize, apex: usize) -> Result<Outcome<'s>, Full> {
        let mut number = number;
        for _ in 0..MAX_ALIASES {
            let target = zone.alias(number);
            self.trace.note(Stage::Zone, || format!("it is an alias of {target}"));
            let Some(target) = LookupName::new(target.as_wire()) else { break };
            for skip in 0..target.labels() {
                let Some(name) = self.snapshot.endpoints.public.find(&target, skip) else { continue };
                if !self.alias_of_endpoint(name, skip, rtype)? {
                    self.negative(zone, apex)?;
                }
                return Ok(Outcome::Done(rcode::NOERROR));
            }
            let is_ours = target.labels() >= zone.apex_labels()
                && *target.suffix(target.labels() - zone.apex_labels()) == *zone.apex;
            let (true, Search::Node(node) | Search::Wildcard(node)) = (is_ours, zone.search(&target)) else { break };
            let Some(set) = node.set(rtype) else { break };
            match set.alias() {
                Some(next) => number = next,
                None => {
                    self.answer_set(set, apex)?;
                    self.note_set(set);
                    return Ok(Outcome::Done(rcode::NOERROR));
                }
            }
        }
        let name = &self.name;
        self.trace.note(Stage::Zone, || format!("the alias {} leads to no records now", name_text(name.wire())));
        self.negative(zone, apex)?;
        Ok(Outcome::Done(rcode::NOERROR))
    }
}
