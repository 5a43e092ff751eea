//! The resolution algorithm: which resource answers for a name, and which name comes next
//! (docs/concepts/which-answer.md).
//!
//! It is the algorithm of RFC 1034, section 4.3.2. The RFC knows zones only. A view also has
//! resolver rules, names of VPC endpoints and autodefined names.
//!
//! | step of the RFC | where it is |
//! | --- | --- |
//! | 1. set RA | [`super::answer_traced`], before it calls [`Resolver::resolve`] |
//! | 2. find the nearest ancestor zone | [`Resolver::decide`] asks the cuts above a name, the most specific one first |
//! | 3. match the labels of the name in it | `zone`, `endpoint` and `autodefined`, each for its kind of cut |
//! | 3a. a CNAME: start again with its target | [`Resolver::follow_chain`] |
//! | 4. look into the cache | `cache` |
//! | 5. ask other servers | [`Decision::Forward`]: the caller asks them, and then calls again |
//! | 6. add records that are useful | `zone` |
//!
//! This module takes the decisions. It writes no record, and the texts for `zonal explain` are in
//! `explanation`.

use super::{
    AnswerKind,
    context::{Context, ExtendedError, QueryFlags, Resolved, Summary},
    cut::{Cut, CutPosition, endpoint_for, has_below, next_cut, public_zone},
    dns64, explanation,
    firewall::{Filter, FirewallMatches, Inspection, Replaced},
    known::{KnownAnswers, RoutedQuestion},
    name_servers::NameServers,
    scope,
    trace::{AnsweredBy, Stage, Trace},
    whoami,
};
use crate::{
    manifest::RuleType,
    snapshot::{
        autodefined::{Autodefined, SPECIAL_USE},
        firewall::rules::Rule as FirewallRule,
        networks::ClientPath,
        routes::{Route, Rule, Servers},
        zone::{Search, Zone},
    },
    wire::{
        codes::{ede, flag, pointer, rcode},
        dns64::Dns64Prefix,
        name::name_text,
        query::{HEADER, LookupName, Query},
        rdata::rtype,
        reply::{Ede, Mark, Reply, expand_name},
    },
};
use std::sync::Arc;

/// The largest number of CNAME and DNAME records in a chain.
const MAX_LINKS: usize = 16;
/// The text of the extended error if a chain of the Internet returns to one of its names.
const LOOP: &str = "the chain of CNAME or DNAME records returns to a name that it already has";
/// The text of EDE 20 (Not Authoritative) for a name that zonal neither has nor forwards.
const NOT_OURS: &str = "not a name of this network, and there is no internet resolver";

/// The decision about one name of a chain.
pub enum Decision<'s> {
    /// The chain ends with this name and RCODE.
    Answered(u16),
    /// The name has a CNAME, whose target is at this offset in the reply.
    Target(usize),
    /// Other servers failed to answer; with code and text of the extended error.
    Failed(Option<(u16, Arc<str>)>),
    /// Other servers have to be asked, by this route.
    Forward(&'s Arc<Route>),
    /// A DNS Firewall rule blocks the name or its addresses.
    Blocked,
    /// zonal has no answer and forwards the name to nobody; with the text of the extended error.
    NotOurs(&'static str),
}

/// A query while it is resolved.
pub struct Resolver<'r, 's, 'q, K, T> {
    /// Everything beside the query that decides the answer.
    pub context: Context<'s>,
    /// The answers of other servers that are known.
    pub known: &'q K,
    /// The query's flags.
    pub flags: QueryFlags,
    /// The query's type.
    pub qtype: u16,
    /// The prefix of DNS64, if it applies to the query.
    pub dns64: Option<&'s Dns64Prefix>,
    /// The current name of the chain.
    pub name: &'q mut LookupName,
    /// The offset of the current name in the reply.
    pub name_at: usize,
    /// The number of links that lead to the current name: 0 for the query's own name.
    pub link: usize,
    /// The inspection by DNS Firewall. `None` if the view has no rules, or if a rule has replaced the answer.
    pub firewall: Option<Inspection<'s>>,
    /// The DNS Firewall rule that replaced the answer.
    pub blocked_by: Option<&'s FirewallRule>,
    /// Whether other servers answered for the current name; true if it was the internet resolver.
    pub answered_by_others: Option<bool>,
    /// The name servers of the current name, if a list has one of them.
    pub servers: Option<Arc<NameServers>>,
    /// Whether recursion answered for a name of the chain.
    pub has_recursed: bool,
    /// The reply with the records so far.
    pub reply: Reply<'r>,
    /// Facts about the records so far.
    pub summary: Summary,
    /// The listener.
    pub trace: &'q mut T,
}

// Step 1: take the query apart.

impl<'r, 's, 'q, K: KnownAnswers, T: Trace> Resolver<'r, 's, 'q, K, T> {
    /// Starts the resolution of a query whose client has a view.
    #[inline]
    pub fn new(
        context: Context<'s>,
        known: &'q K,
        query: Query<'q>,
        reply: Reply<'r>,
        trace: &'q mut T,
    ) -> Resolver<'r, 's, 'q, K, T> {
        let flags = QueryFlags::of(&query);
        Resolver {
            known,
            flags,
            qtype: query.qtype,
            dns64: dns64::prefix(&context, flags, query.name, query.qtype),
            name: query.name,
            name_at: HEADER,
            link: 0,
            firewall: context.snapshot.firewall.of(context.view).map(|rules| {
                let (lists, firewall) = (&context.snapshot.firewall_lists, &context.snapshot.firewall);
                Inspection::new(Filter { rules, lists, detections: firewall.detections(context.view) })
            }),
            blocked_by: None,
            answered_by_others: None,
            servers: None,
            has_recursed: false,
            reply,
            summary: Summary {
                authentic: true,
                stale: false,
                refresh: false,
                locality: None,
                firewall: FirewallMatches::default(),
                same_for_all: context.needs_scope,
                scope: 0,
            },
            trace,
            context,
        }
    }

    /// Resolves the query.
    #[inline]
    pub fn resolve(&mut self) -> Resolved<'s> {
        if self.name.wire() == whoami::NAME && self.context.matched.path != ClientPath::InboundDelegation {
            return self.whoami();
        }
        self.follow_chain()
    }

    // Steps 2 to 5 for each name of the chain. Step 3a leads from one name to the next.

    /// Decides one name of the chain after the other, until one of them ends it.
    #[inline]
    fn follow_chain(&mut self) -> Resolved<'s> {
        let mut owners = [HEADER; MAX_LINKS + 1];
        let question = self.reply.mark();
        let mut first_kind = None;
        let mut link = 0;
        while link <= MAX_LINKS {
            self.trace.next_name();
            self.link = link;
            owners[link] = self.name_at;
            let (decision, kind) = match (self.blocks_name(), self.dns64) {
                (true, _) => (Decision::Blocked, AnswerKind::Firewall),
                (false, Some(prefix)) => self.decide_dns64(prefix),
                (false, None) => self.decide(),
            };
            self.summary.authentic &= kind == AnswerKind::Forward;
            if kind == AnswerKind::Firewall {
                first_kind = Some(kind);
            }
            let kind = *first_kind.get_or_insert(kind);
            let target = match decision {
                Decision::Answered(rcode) => return self.finish(rcode, kind, ExtendedError::None),
                Decision::Target(target) => target,
                Decision::Forward(route) => {
                    let mut ended = self.finish(rcode::SERVFAIL, kind, ExtendedError::None);
                    ended.forward = Some(route);
                    return ended;
                }
                Decision::Blocked => {
                    self.reply.back_to(question);
                    match self.replace() {
                        Replaced::Ended(rcode, error) => return self.finish(rcode, kind, error),
                        Replaced::Dropped => {
                            let mut dropped = self.finish(rcode::NOERROR, kind, ExtendedError::None);
                            dropped.is_dropped = true;
                            return dropped;
                        }
                        Replaced::Target(target) => {
                            // The chain begins anew: the CNAME record belongs to the query name.
                            link = 0;
                            owners[0] = HEADER;
                            target
                        }
                    }
                }
                Decision::Failed(error) => {
                    self.reply.back_to(question);
                    self.reply.clear(flag::AA);
                    let error = error.map_or(ExtendedError::None, |(code, text)| ExtendedError::Cached(code, text));
                    return self.finish(rcode::SERVFAIL, kind, error);
                }
                Decision::NotOurs(text) => {
                    // A chain that leaves zonal's names ends there, with the records so far.
                    let code = if link == 0 { rcode::REFUSED } else { rcode::NOERROR };
                    let error = ExtendedError::Own(Ede { code: ede::NOT_AUTHORITATIVE, text: [text, "", ""] });
                    return self.finish(code, kind, error);
                }
            };
            if self.reply.is_truncated() || !self.take_name_at(target) {
                return self.finish(rcode::NOERROR, kind, ExtendedError::None);
            }
            if owners[..=link].iter().any(|owner| self.is_name_at(*owner)) {
                return self.finish_loop(question, kind);
            }
            link += 1;
        }
        self.trace.note(Stage::Answer, || format!("the chain has more than {MAX_LINKS} CNAME or DNAME records"));
        self.reply.back_to(question);
        let ede = Ede { code: ede::OTHER, text: ["more than 16 CNAME or DNAME records in a chain", "", ""] };
        self.finish(rcode::SERVFAIL, first_kind.unwrap_or(AnswerKind::Zone), ExtendedError::Own(ede))
    }

    /// Ends a query whose chain returns to one of its names.
    ///
    /// zonal passes on the records of its own zones and of forwarding targets, like an authoritative server. A recursive
    /// resolver has no answer: SERVFAIL, as from Unbound.
    #[cold]
    fn finish_loop(&mut self, question: Mark, kind: AnswerKind) -> Resolved<'s> {
        self.trace.note(Stage::Answer, || "the chain returns to a name that it already has, and ends".into());
        if !self.has_recursed {
            return self.finish(rcode::NOERROR, kind, ExtendedError::None);
        }
        self.reply.back_to(question);
        self.reply.clear(flag::AA);
        self.finish(rcode::SERVFAIL, kind, ExtendedError::Own(Ede { code: ede::OTHER, text: [LOOP, "", ""] }))
    }

    /// Makes the name at an offset in the reply the current one. False if that is not possible.
    fn take_name_at(&mut self, target: usize) -> bool {
        let mut wire = [0; 256];
        let len = expand_name(self.reply.written(), target, &mut wire);
        if target > pointer::MAX_OFFSET || !self.name.fill(&wire[..len]) {
            return false;
        }
        self.name_at = target;
        let name = &self.name;
        self.trace.note(Stage::Answer, || format!("the target {} is resolved next", name_text(name.wire())));
        true
    }

    /// Whether the name at an offset in the reply is the current one.
    fn is_name_at(&self, at: usize) -> bool {
        let mut wire = [0; 256];
        let len = expand_name(self.reply.written(), at, &mut wire);
        wire[..len].eq_ignore_ascii_case(self.name.wire())
    }

    // Step 2: find the resource that answers for the current name. Step 3 is in the module of that resource.

    /// Has the most specific resource answer for the current name.
    #[inline]
    pub fn decide(&mut self) -> (Decision<'s>, AnswerKind) {
        let (context, name) = (&self.context, &*self.name);
        self.trace.notes(Stage::Cut, || explanation::cuts(context, name));
        self.trace.notes(Stage::Endpoint, || explanation::other_endpoints(context, name));
        self.summary.same_for_all = self.summary.same_for_all && scope::is_same_for_all(context, name, self.qtype);
        let start = self.reply.position();
        self.answered_by_others = None;
        self.servers = None;
        let (decision, kind) = match self.qtype {
            rtype::DS => self.decide_ds(),
            _ => self.decide_from(CutPosition::START, usize::MAX),
        };
        if self.blocks_answer(start) {
            return (Decision::Blocked, AnswerKind::Firewall);
        }
        match decision {
            Decision::Answered(rcode::NXDOMAIN)
                if has_below(self.context.snapshot, self.context.view, self.name, 0) =>
            {
                // An empty non-terminal (RFC 8020, 2; RFC 4592, 2.2.2).
                self.trace.note(Stage::Cut, || {
                    "the view has a name below it, so the name exists: NODATA instead of NXDOMAIN".into()
                });
                self.summary.authentic = false;
                (Decision::Answered(rcode::NOERROR), kind)
            }
            decision => (decision, kind),
        }
    }

    /// Type DS at the apex of a zone or rule belongs to the parent (RFC 4035, 3.1.4.1): the cuts above the name answer. If
    /// there is none, the cuts at the name answer.
    #[cold]
    fn decide_ds(&mut self) -> (Decision<'s>, AnswerKind) {
        let is_at_name = match self.next_cut(CutPosition::START) {
            // A special-use name is never asked of other servers, for type DS either (RFC 7686, 2). Names in `arpa` are
            // delegated there.
            Some((Cut::Autodefined(_), CutPosition { skip: 0, .. })) => self.name.labels() > 1,
            Some((_, CutPosition { skip: 0, .. })) => true,
            _ => false,
        };
        if !is_at_name {
            return self.decide_from(CutPosition::START, usize::MAX);
        }
        self.trace.note(Stage::Cut, || "type DS belongs to the parent: the matches above the name answer".into());
        let above = self.decide_from(CutPosition::above(0), usize::MAX);
        match above {
            (Decision::NotOurs(_), _) => {}
            // The parent may say that there is no DS record. It may not say that the name does not exist: a cache that
            // has this finds no other type of the name (RFC 2308, 5).
            (Decision::Answered(rcode::NXDOMAIN), kind) if self.has_cut_at_name() => {
                self.summary.authentic = false;
                return (Decision::Answered(rcode::NOERROR), kind);
            }
            _ => return above,
        }
        self.trace.note(Stage::Cut, || "nothing above the name answers: the match at the name answers itself".into());
        let own = self.decide_from(CutPosition::START, 0);
        if matches!(own, (Decision::NotOurs(_), _)) { above } else { own }
    }

    /// Whether a cut at the current name itself answers for it.
    fn has_cut_at_name(&self) -> bool {
        let mut position = CutPosition::START;
        let mut ignores_forward_rules = false;
        while let Some((cut, found @ CutPosition { skip: 0, .. })) = self.next_cut(position) {
            match cut {
                Cut::Rule(rule) => match rule.resource.rule_type {
                    RuleType::System => ignores_forward_rules = true,
                    RuleType::Delegate => {}
                    RuleType::Forward if ignores_forward_rules => {}
                    RuleType::Forward | RuleType::Recursive => return true,
                },
                _ => return true,
            }
            position = found.next();
        }
        false
    }

    /// The first cut of the current name from a position on.
    #[inline]
    fn next_cut(&self, from: CutPosition) -> Option<(Cut<'s>, CutPosition)> {
        next_cut(self.context.snapshot, self.context.view, self.name, from)
    }

    /// Goes through the cuts from a position on, and has the first one answer that does not leave the name to the next. Stops
    /// at cuts that are more than `max_skip` labels above the name. Without a cut, the internet resolver answers.
    #[inline]
    fn decide_from(&mut self, mut position: CutPosition, max_skip: usize) -> (Decision<'s>, AnswerKind) {
        let mut ignores_forward_rules = false;
        // A zone with `fallthrough` left the name to the next cut. The rest is decided as if that zone did not exist.
        let mut fell_through = false;
        while let Some((cut, CutPosition { skip, rank })) = self.next_cut(position) {
            if skip > max_skip {
                break;
            }
            position = CutPosition { skip, rank }.next();
            let (decision, kind) = match cut {
                Cut::Rule(rule) => match self.decide_by_rule(rule, &mut ignores_forward_rules) {
                    Some((decision, kind)) => (Some(decision), kind),
                    None => continue,
                },
                Cut::Zone(zone) => {
                    self.trace.note(Stage::Cut, || explanation::zone(zone));
                    self.trace.answered_by(|| AnsweredBy::Zone(&zone.id));
                    (self.zone(zone, fell_through), AnswerKind::Zone)
                }
                Cut::PrivateName { exact, wildcard } => {
                    let name = endpoint_for(exact, wildcard, skip);
                    self.trace
                        .answered_by(|| AnsweredBy::Endpoint(explanation::endpoint_id(self.context.snapshot, name)));
                    (Some(self.private_name(exact, wildcard, skip)), AnswerKind::Endpoint)
                }
                Cut::PublicName(name) => {
                    self.trace.answered_by(|| {
                        AnsweredBy::Endpoint(explanation::endpoint_id(self.context.snapshot, Some(name)))
                    });
                    (Some(self.public_name(name, skip)), AnswerKind::Endpoint)
                }
                Cut::Autodefined(zone) if self.is_public_below_special_use(zone, skip) => {
                    let (decision, kind) = self.ask_internet();
                    (Some(decision), kind)
                }
                Cut::Autodefined(zone) => {
                    self.trace.answered_by(|| AnsweredBy::Autodefined);
                    (Some(self.autodefined(zone, skip)), AnswerKind::Autodefined)
                }
            };
            if let Some(decision) = decision {
                return (decision, kind);
            }
            fell_through = true;
            self.trace.note(Stage::Cut, || {
                "the zone does not have the name, and has `fallthrough: true`: the next match answers".into()
            });
        }
        if max_skip < usize::MAX {
            return (Decision::NotOurs(NOT_OURS), AnswerKind::Forward);
        }
        self.ask_internet()
    }

    /// Forwards by a resolver rule. None if the rule leaves the name to the next cut.
    fn decide_by_rule(
        &mut self,
        rule: &'s Rule,
        ignores_forward_rules: &mut bool,
    ) -> Option<(Decision<'s>, AnswerKind)> {
        let id = &rule.id;
        match rule.resource.rule_type {
            RuleType::System => {
                self.trace
                    .note(Stage::Cut, || format!("SYSTEM rule {id}: FORWARD rules for wider domains do not apply"));
                *ignores_forward_rules = true;
                None
            }
            RuleType::Forward if *ignores_forward_rules => {
                self.trace.note(Stage::Cut, || format!("FORWARD rule {id} does not apply, because of the SYSTEM rule"));
                None
            }
            RuleType::Delegate => None, // acts on referrals, not on names
            RuleType::Forward => {
                self.trace.note(Stage::Cut, || format!("rule {id} forwards to {}", rule.route.servers));
                self.trace.answered_by(|| AnsweredBy::Rule(id));
                Some((self.answer_from_cache(&rule.route), AnswerKind::Forward))
            }
            RuleType::Recursive => {
                self.trace.note(Stage::Cut, || format!("RECURSIVE rule {id} sends the name to the internet resolver"));
                let (decision, kind) = self.ask_internet();
                if kind == AnswerKind::Forward {
                    self.trace.answered_by(|| AnsweredBy::Rule(id));
                }
                Some((decision, kind))
            }
        }
    }

    // Steps 4 and 5: the cache, and then other servers, answer for names that are not zonal's own.

    /// Has a public zone answer, or else the internet resolver, if the node has one.
    fn ask_internet(&mut self) -> (Decision<'s>, AnswerKind) {
        let Context { snapshot, view, .. } = self.context;
        let internet = snapshot.node.internet.as_ref().filter(|_| view.path != ClientPath::InboundDelegation);
        let (mut skip, mut fell_through) = (0, false);
        while let Some((zone, found)) = public_zone(snapshot, self.name, skip) {
            skip = found + 1;
            // Type DS at the apex belongs to the parent (RFC 4035, 3.1.4.1).
            let belongs_to_parent = self.qtype == rtype::DS
                && found == 0
                && (internet.is_some() || public_zone(snapshot, self.name, 1).is_some());
            if belongs_to_parent {
                continue;
            }
            if internet.is_some() && self.flags.recursion_desired && self.is_delegated(zone) {
                self.trace.note(Stage::Cut, || {
                    format!("public hosted zone {} delegates the name to servers in the internet", zone.id)
                });
                break;
            }
            self.trace.note(Stage::Cut, || explanation::zone(zone));
            self.trace.answered_by(|| AnsweredBy::Zone(&zone.id));
            match self.zone(zone, fell_through) {
                Some(Decision::Answered(rcode::NXDOMAIN)) if self.has_public_zone_below() => {
                    return (Decision::Answered(rcode::NOERROR), AnswerKind::Zone);
                }
                Some(decision) => return (decision, AnswerKind::Zone),
                None => fell_through = true,
            }
        }
        let Some(route) = internet else {
            self.trace.note(Stage::Cut, || "the node has no internet resolver: the name is not forwarded".into());
            return (Decision::NotOurs(NOT_OURS), AnswerKind::Forward);
        };
        self.trace.note(Stage::Cut, || format!("the internet resolver answers: {}", route.servers));
        if route.servers == Servers::Recursion && !snapshot.validates(view) {
            self.trace.note(Stage::Cut, || explanation::unvalidated(snapshot, view));
        }
        self.trace.answered_by(|| AnsweredBy::Internet);
        match self.answer_from_cache(route) {
            Decision::Answered(rcode::NXDOMAIN) if self.has_public_zone_below() => {
                self.summary.authentic = false;
                (Decision::Answered(rcode::NOERROR), AnswerKind::Forward)
            }
            decision => (decision, AnswerKind::Forward),
        }
    }

    /// Whether an autodefined zone is a special-use name, and a public zone at it or below answers the current name in its
    /// place.
    fn is_public_below_special_use(&self, zone: &Autodefined, skip: usize) -> bool {
        let is_special = || SPECIAL_USE.find(self.name, skip).is_some_and(|special| std::ptr::eq(special, zone));
        let public = public_zone(self.context.snapshot, self.name, 0);
        public.is_some_and(|(public, found)| found <= skip && !public.fallthrough) && is_special()
    }

    /// Whether a public zone is at the current name or below it, so that the name exists.
    fn has_public_zone_below(&self) -> bool {
        let names = self.context.snapshot.views.public_zones();
        names.find(self.name, 0).is_some() || names.above().has(self.name, 0)
    }

    /// Whether a zone delegates the current name.
    fn is_delegated(&self, zone: &Zone) -> bool {
        match zone.search(self.name) {
            // DS at a zone cut is data of the zone (RFC 4035, 3.1.4.1).
            Search::Cut(node) => self.qtype != rtype::DS || node.labels() != self.name.labels(),
            _ => false,
        }
    }

    /// The flags of the question that goes by a route. Without validation for the view, the node's own recursion gets each
    /// question as if the query had CD set. So the cache never mixes validated answers with others.
    #[inline]
    pub fn flags_by(&self, route: &Route) -> QueryFlags {
        let Context { snapshot, view, .. } = self.context;
        let is_unvalidated = route.servers == Servers::Recursion && !snapshot.validates(view);
        QueryFlags { checking_disabled: self.flags.checking_disabled || is_unvalidated, ..self.flags }
    }

    /// Sets AA, if the current name is the query's own: AA is about that name alone (RFC 1035, 4.1.1).
    #[inline]
    pub fn set_authoritative(&mut self) {
        if self.link == 0 {
            self.reply.set(flag::AA);
        }
    }

    // The end: the reply, or the question to other servers.

    /// The question to other servers for the current name, by this route.
    pub fn question_to(&self, route: &'s Arc<Route>) -> RoutedQuestion<'s> {
        let Context { snapshot, view, .. } = self.context;
        let id = snapshot.views.route_id(view, route);
        let mut question = RoutedQuestion::new(route, id, &self.flags_by(route).question(self.name, self.qtype));
        question.has_fallback = self.dns64.is_some() && self.qtype == rtype::AAAA;
        question.tenant = view.slot;
        question
    }

    /// Ends the query with an RCODE.
    pub fn finish(&mut self, rcode: u16, kind: AnswerKind, error: ExtendedError<'s>) -> Resolved<'s> {
        let has_error = !matches!(error, ExtendedError::None);
        if self.summary.authentic && self.flags.understands_ad && kind == AnswerKind::Forward && !has_error {
            self.reply.set(flag::AD);
        }
        let error = match (error, self.blocked_by) {
            (ExtendedError::None, Some(rule)) => {
                ExtendedError::Own(Ede { code: ede::BLOCKED, text: [&rule.text, "", ""] })
            }
            (error, _) => error,
        };
        let error = match error {
            ExtendedError::None if self.summary.stale => ExtendedError::Own(Ede {
                code: ede::STALE_ANSWER,
                text: ["no server could refresh this answer", "", ""],
            }),
            error => error,
        };
        Resolved { rcode, kind, error, forward: None, is_dropped: false }
    }
}
