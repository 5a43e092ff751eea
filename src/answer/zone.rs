//! Answers from a private hosted zone (RFC 1034, 4.3.2, steps 3 and 6; RFC 4592; RFC 6672; RFC 8482).
//!
//! The search in the zone's memory is [`Zone::search`]. This module turns its result into records.

use super::{
    context::Context,
    cut::{has_below, zone_of},
    known::KnownAnswers,
    resolve::{Decision, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::{
        aliases::MAX_ALIASES,
        networks::ClientPath,
        routes::Route,
        zone::{Node, Search, Set, Target, Zone},
    },
    wire::{
        Name,
        codes::{ede, pointer, rcode},
        name::{MAX_NAME, name_text},
        query::LookupName,
        rdata::{rtype, type_to_text},
        reply::{Full, Section, expand_name},
    },
};
use std::sync::Arc;

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Has a zone answer for the current name, which is at its apex or below. `fell_through` says that another zone left the
    /// name to this one. None if this zone leaves it to the next cut.
    #[inline]
    pub fn zone(&mut self, zone: &'s Zone, fell_through: bool) -> Option<Decision<'s>> {
        if let Some(why) = &zone.missing {
            self.trace.note(Stage::Zone, || format!("the zone cannot answer: {why}"));
            return Some(Decision::Failed(Some((ede::INVALID_DATA, why.clone()))));
        }
        let apex = self.suffix_at(self.name.labels() - zone.apex_labels());
        let found = match zone.search(self.name) {
            // DS at a zone cut is data of the parent (RFC 4035, 3.1.4.1).
            Search::Cut(node) if self.qtype == rtype::DS && node.labels() == self.name.labels() => Search::Node(node),
            Search::Wildcard(node) if !fell_through && self.is_blocked(node.labels() - 1) => Search::Missing,
            Search::EmptyWildcard(encloser) if !fell_through && self.is_blocked(encloser) => Search::Missing,
            other => other,
        };
        if zone.fallthrough && matches!(found, Search::Missing) {
            return None;
        }
        if !matches!(found, Search::Cut(_)) {
            self.set_authoritative();
        }
        self.note_updates(zone, &found);
        let written = match found {
            Search::Node(node) => {
                self.trace.note(Stage::Zone, || format!("the zone has the name {}", node.name()));
                self.node(zone, node, apex)
            }
            Search::Wildcard(node) => {
                self.trace.note(Stage::Zone, || format!("the wildcard {} matches the name", node.name()));
                self.node(zone, node, apex)
            }
            Search::Cut(node) if let Some(route) = self.route_below(zone, node) => {
                self.trace.note(Stage::Zone, || {
                    let (name, rule, servers) = (node.name(), &route.rule, &route.servers);
                    format!("{name} is delegated, and DELEGATE rule {rule} follows the referral to {servers}")
                });
                return Some(self.answer_from_cache(route));
            }
            Search::Cut(node) => {
                self.trace.note(Stage::Zone, || format!("{} is delegated: the answer is a referral", node.name()));
                self.referral(zone, node, apex).map(|()| Decision::Answered(rcode::NOERROR))
            }
            Search::Dname(node) => {
                self.trace.note(Stage::Zone, || format!("{} has a DNAME record", node.name()));
                self.dname(node, apex)
            }
            Search::Empty | Search::EmptyWildcard(_) => {
                let (name, qtype) = (self.name.wire(), self.qtype);
                self.trace
                    .note(Stage::Zone, || format!("{} exists, because the zone has names below it", name_text(name)));
                self.trace.note(Stage::Zone, || format!("the name has no {} records: NODATA", type_to_text(qtype)));
                self.negative(zone, apex).map(|()| Decision::Answered(rcode::NOERROR))
            }
            Search::Missing => {
                self.trace.note(Stage::Zone, || {
                    "the zone has neither the name nor a wildcard that matches it: NXDOMAIN".into()
                });
                self.negative(zone, apex).map(|()| Decision::Answered(rcode::NXDOMAIN))
            }
        };
        Some(written.unwrap_or_else(|Full| {
            self.reply.truncate();
            Decision::Answered(rcode::NOERROR)
        }))
    }

    /// Tells the listener if a dynamic update overrides the records of the name.
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
            let text =
                |owner| format!("a dynamic update overrides the files at {owner}: `zonal journal show {}`", zone.id);
            owner.map(text).into_iter().collect()
        });
    }

    /// The route below a zone cut of a zone, if a DELEGATE rule follows the referral.
    fn route_below(&self, zone: &Zone, cut: Node) -> Option<&'s Arc<Route>> {
        let is_followed = self.flags.recursion_desired && self.context.view.path != ClientPath::InboundDelegation;
        let Context { snapshot, view, .. } = self.context;
        let skip = self.name.labels().checked_sub(cut.labels()).filter(|_| is_followed)?;
        snapshot.views.route_below(&snapshot.zones, view, zone, self.name, skip)
    }

    /// Whether a wildcard below a name of `encloser` labels does not match the current name, because the view has something
    /// below a name between them, so that this name exists (RFC 4592, 3.3.1).
    fn is_blocked(&self, encloser: usize) -> bool {
        (0..self.name.labels() - encloser)
            .any(|skip| has_below(self.context.snapshot, self.context.view, self.name, skip))
    }

    pub(super) fn negative(&mut self, zone: &'s Zone, apex: usize) -> Result<(), Full> {
        zone.negative().write(&mut self.reply, Section::Authority, apex, apex).map(|_| ())
    }

    #[inline]
    fn node(&mut self, zone: &'s Zone, node: Node<'s>, apex: usize) -> Result<Decision<'s>, Full> {
        let set = match self.qtype {
            // One record set is enough (RFC 8482, 4.1).
            rtype::ANY => node.sets().find(|set| set.alias().is_none()).or_else(|| node.sets().next()),
            qtype => node.set(qtype),
        };
        if let Some(set) = set {
            if let Some(number) = set.alias() {
                return self.alias_to(zone, set.rtype(), zone.alias(number), apex, 0);
            }
            if set.group().is_some() {
                return self.group(zone, set, apex, 0);
            }
            self.answer_set(set, apex)?;
            self.note_set(set);
            self.additional(zone, node, set, apex);
            return Ok(Decision::Answered(rcode::NOERROR));
        }
        if node.has_cname()
            && let Some(set) = node.set(rtype::CNAME)
        {
            if set.group().is_some() {
                return self.group(zone, set, apex, 0);
            }
            let start = set.write(&mut self.reply, Section::Answer, self.name_at, apex)?;
            self.note_set(set);
            return Ok(Decision::Target(start + 12));
        }
        let qtype = self.qtype;
        self.trace.note(Stage::Zone, || format!("the name has no {} records: NODATA", type_to_text(qtype)));
        self.negative(zone, apex)?;
        Ok(Decision::Answered(rcode::NOERROR))
    }

    /// Writes a record set under the current name. If not all addresses fit, the truncated answer has those that fit
    /// (RFC 2181, 9): some C libraries do not retry by TCP, and one address is enough for them.
    #[inline]
    pub(super) fn answer_set(&mut self, set: Set<'s>, apex: usize) -> Result<(), Full> {
        let written = set.write_rotated(&mut self.reply, Section::Answer, self.name_at, apex, self.context.moment.draw);
        if written.is_err() && matches!(set.rtype(), rtype::A | rtype::AAAA) {
            set.write_addresses_that_fit(&mut self.reply, Section::Answer, self.name_at, self.context.moment.draw);
        }
        written.map(|_| ())
    }

    fn note_set(&mut self, set: Set) {
        self.trace.note(Stage::Answer, || {
            format!("{} {} record(s), TTL {}", set.count(), type_to_text(set.rtype()), set.ttl())
        });
    }

    /// Step 6: writes the addresses of the targets of a record set at `node`, and for services the sets of their targets. It
    /// leaves out sets that do not fit. Returns whether all necessary addresses fit: those of name servers below a zone cut.
    fn additional(&mut self, zone: &'s Zone, node: Node<'s>, set: Set<'s>, apex: usize) -> bool {
        let mut complete = true;
        let draw = self.context.moment.draw;
        let mut has_deeper = None;
        node.additional(set, |target| {
            // Glue belongs to its zone cut. Other targets can have a deeper zone, a rule or an endpoint in this view.
            if !target.is_self && !target.node.is_occluded() {
                let apex = self.name.labels() - zone.apex_labels();
                let has_deeper = *has_deeper
                    .get_or_insert_with(|| has_below(self.context.snapshot, self.context.view, self.name, apex));
                if has_deeper && !self.answers_at(zone, target.relative) {
                    return;
                }
            }
            self.reply.place_deferred();
            for other in target.node.sets().filter(|other| set.is_joined_by(*other) && other.group().is_none()) {
                if target.is_self && other.rtype() == set.rtype() {
                    continue;
                }
                let written = match (other.alias(), target.is_self) {
                    (Some(number), _) => self.additional_alias(zone, target, other.rtype(), number, apex),
                    (None, true) => {
                        other.write_rotated(&mut self.reply, Section::Additional, self.name_at, apex, draw).map(|_| ())
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

    /// Whether the view answers this name of the zone from the zone, and not from a deeper zone, a rule or an endpoint.
    fn answers_at(&self, zone: &Zone, relative: &[u8]) -> bool {
        let mut wire = [0; MAX_NAME];
        let (front, rest) = wire.split_at_mut(relative.len());
        front.copy_from_slice(relative);
        rest[..zone.apex.len()].copy_from_slice(&zone.apex);
        let found = LookupName::new(&wire).and_then(|name| zone_of(self.context.snapshot, self.context.view, &name));
        found.is_some_and(|found| std::ptr::eq(found, zone))
    }

    /// Writes the addresses of an alias at a target, under the target's name.
    fn additional_alias(
        &mut self,
        zone: &'s Zone,
        target: Target<'_, 's>,
        rtype: u16,
        number: usize,
        apex: usize,
    ) -> Result<(), Full> {
        let Some(name) = LookupName::new(zone.alias(number).as_wire()) else { return Ok(()) };
        let public = &self.context.snapshot.endpoints.public;
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
            None => match zone.target_of_alias(number, rtype) {
                Some(set) if target.is_self => set
                    .write_rotated(&mut self.reply, Section::Additional, end, apex, self.context.moment.draw)
                    .map(|_| ()),
                Some(set) => {
                    set.write_named(&mut self.reply, Section::Additional, owner, apex, self.context.moment.draw)
                }
                None => Ok(()),
            },
        }
    }

    /// Writes a referral. It is truncated if necessary glue does not fit (RFC 9471, 3.1).
    fn referral(&mut self, zone: &'s Zone, node: Node<'s>, apex: usize) -> Result<(), Full> {
        let Some(set) = node.set(rtype::NS) else { return Ok(()) };
        let owner = self.suffix_at(self.name.labels() - node.labels());
        set.write(&mut self.reply, Section::Authority, owner, apex)?;
        if self.additional(zone, node, set, apex) { Ok(()) } else { Err(Full) }
    }

    /// Writes a DNAME record, and the CNAME record that is made from it (RFC 6672, 3.1).
    fn dname(&mut self, node: Node<'s>, apex: usize) -> Result<Decision<'s>, Full> {
        let Some(set) = node.set(rtype::DNAME) else { return Ok(Decision::Answered(rcode::SERVFAIL)) };
        let prefix_labels = self.name.labels() - node.labels();
        let owner = self.suffix_at(prefix_labels);
        let start = set.write(&mut self.reply, Section::Answer, owner, apex)?;
        // The labels in front of the DNAME's owner, in the client's case; then the target of the DNAME.
        let mut prefix = [0; 256];
        expand_name(self.reply.written(), self.name_at, &mut prefix);
        let prefix_len = self.name.start(prefix_labels);
        let mut target = [0; 256];
        let target_len = expand_name(self.reply.written(), start + 12, &mut target);
        if prefix_len + target_len > MAX_NAME {
            self.trace.note(Stage::Zone, || "the name that the DNAME record makes is longer than 255 octets".into());
            return Ok(Decision::Answered(rcode::YXDOMAIN));
        }
        let data = [&prefix[..prefix_len], &target[..target_len]];
        let owner = pointer::to(self.name_at);
        let data = self.reply.record(Section::Answer, owner, rtype::CNAME, set.ttl(), &data)?;
        if self.qtype == rtype::CNAME {
            return Ok(Decision::Answered(rcode::NOERROR));
        }
        Ok(Decision::Target(data))
    }

    /// Answers from an alias: the records of another name under the current name, with their own TTL. `depth` is the number of
    /// aliases that lead to this one.
    pub(super) fn alias_to(
        &mut self,
        zone: &'s Zone,
        rtype: u16,
        target: &'s Name,
        apex: usize,
        depth: usize,
    ) -> Result<Decision<'s>, Full> {
        let mut next = target;
        for depth in depth..MAX_ALIASES {
            let target = next;
            self.trace.note(Stage::Zone, || format!("the name is an alias of {target}"));
            let Some(target) = LookupName::new(target.as_wire()) else { break };
            for skip in 0..target.labels() {
                let Some(name) = self.context.snapshot.endpoints.public.find(&target, skip) else { continue };
                if !self.alias_of_endpoint(name, skip, rtype)? {
                    self.negative(zone, apex)?;
                }
                return Ok(Decision::Answered(rcode::NOERROR));
            }
            let is_ours = target.labels() >= zone.apex_labels()
                && *target.suffix(target.labels() - zone.apex_labels()) == *zone.apex;
            let (true, Search::Node(node) | Search::Wildcard(node)) = (is_ours, zone.search(&target)) else { break };
            let Some(set) = node.set(rtype) else { break };
            match set.alias() {
                Some(number) => next = zone.alias(number),
                None if set.group().is_some() => return self.group(zone, set, apex, depth + 1),
                None => {
                    self.answer_set(set, apex)?;
                    self.note_set(set);
                    return Ok(Decision::Answered(rcode::NOERROR));
                }
            }
        }
        let name = &self.name;
        self.trace.note(Stage::Zone, || format!("the alias {} has no records now: NODATA", name_text(name.wire())));
        self.negative(zone, apex)?;
        Ok(Decision::Answered(rcode::NOERROR))
    }
}
