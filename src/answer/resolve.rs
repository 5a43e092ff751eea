//! Which rule: the longest suffix wins, and every CNAME target is decided anew (docs/concepts/which-answer.md).

use super::{
    Client, Kind, Locality, Moment, autodefined,
    cut::{Cut, Place, answering, candidates, has_below, next_cut, private_name},
    dns64,
    known::{self, Forward, Known, Question},
    same,
    trace::{By, CacheState, Stage, Trace},
    whoami, why,
};
use crate::{
    manifest::RuleType,
    snapshot::{
        Snapshot,
        endpoints::EndpointName,
        networks::{Found, Path},
        routes::{Route, Rule},
        views::View,
        zone::Zone,
    },
    wire::{
        codes::{ede, flag, pointer, rcode},
        name::name_text,
        query::{HEADER, LookupName, Query, flags},
        rdata::rtype,
        reply::{Ede, Full, Reply, Section, expand_name, first_of, suffix_at},
    },
};
use std::{net::IpAddr, sync::Arc};

/// How many CNAME and DNAME targets are followed.
const MOST_HOPS: usize = 16;

/// What became of a query.
pub struct Resolved<'r, 's> {
    pub reply: Reply<'r>,
    pub rcode: u16,
    pub kind: Kind,
    pub why: Why<'s>,
    /// Instead of a reply: others have to be asked first.
    pub forward: Option<Forward<'s>>,
    pub refresh: bool,
    /// Where the addresses of endpoints in it are; none if there are none.
    pub locality: Option<Locality>,
    /// Every client gets this answer, whatever its view and AZ.
    pub same_for_all: bool,
}

/// The extended error of a reply, if there is one.
pub enum Why<'s> {
    Nothing,
    Ours(Ede<'s>),
    /// What was kept with the failure of others.
    Theirs(u16, Arc<str>),
}

impl Why<'_> {
    pub fn ede(&self) -> Option<Ede<'_>> {
        match self {
            Why::Nothing => None,
            Why::Ours(ede) => Some(*ede),
            Why::Theirs(code, text) => Some(Ede { code: *code, text: [text, "", ""] }),
        }
    }
}

/// What became of one name of the chain.
pub enum Outcome<'s> {
    /// The chain ends here, with this RCODE.
    Done(u16),
    /// It is a CNAME; the target's name is at this place in the reply.
    Next(usize),
    /// Others failed to answer, for this reason.
    Failed(Option<(u16, Arc<str>)>),
    /// Others have to be asked, by this route.
    Forward(&'s Arc<Route>),
    /// It is no name of ours, and nobody is to be asked.
    Nowhere(&'static str),
}

/// EDE 20, Not Authoritative: what a client is told whose name nobody is to be asked for.
const NOT_OURS: &str = "not a name of this network: there is no internet resolver";

/// What a query says beside its name and type.
#[derive(Clone, Copy)]
pub struct Wishes {
    /// RD: others may be asked.
    pub recursion: bool,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    /// The client understands AD (RFC 6840, 5.7).
    pub authentic: bool,
}

impl Wishes {
    /// What others are asked for a name.
    fn question<'n>(&self, name: &'n LookupName, qtype: u16) -> Question<'n> {
        let Wishes { dnssec_ok, checking_disabled, .. } = *self;
        Question { name, qtype, dnssec_ok, checking_disabled }
    }
}

/// A query on its way.
pub struct Resolver<'r, 's, 'q, K, T> {
    pub snapshot: &'s Snapshot,
    pub known: &'q K,
    pub wishes: Wishes,
    /// All that was answered so far was validated.
    pub authentic: bool,
    /// AAAA records are to be made of A records, where there are none; and so on.
    dns64: bool,
    /// Something that was answered has ended.
    stale: bool,
    /// Something that was answered is to be asked for anew.
    refresh: bool,
    /// Where the addresses of endpoints are that were answered so far.
    pub locality: Option<Locality>,
    /// All that was answered so far is the same for all; false where nobody asks.
    pub same_for_all: bool,
    pub view: &'s View,
    pub found: Found<'s>,
    pub moment: Moment,
    pub qtype: u16,
    pub reply: Reply<'r>,
    /// The name in question, and where it is in the reply.
    pub name: &'q mut LookupName,
    pub name_at: usize,
    pub trace: &'q mut T,
}

/// Resolves a query for a client that has a view.
#[allow(clippy::too_many_arguments, reason = "all that decides an answer")]
#[inline]
pub fn resolve<'r, 's, 'q, K: Known, T: Trace>(
    snapshot: &'s Snapshot,
    known: &'q K,
    view: &'s View,
    found: Found<'s>,
    client: &Client,
    moment: Moment,
    query: Query<'q>,
    reply: Reply<'r>,
    has_scope: bool,
    trace: &'q mut T,
) -> Resolved<'r, 's> {
    let bits = flags(query.packet);
    let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
    let resolver = Resolver {
        snapshot,
        known,
        wishes: Wishes {
            recursion: bits & flag::RD != 0,
            dnssec_ok,
            checking_disabled: bits & flag::CD != 0,
            authentic: dnssec_ok || bits & flag::AD != 0,
        },
        authentic: true,
        dns64: dns64::is_wanted(snapshot, &found, query.name, query.qtype, dnssec_ok && bits & flag::CD != 0),
        stale: false,
        refresh: false,
        locality: None,
        same_for_all: has_scope,
        view,
        found,
        moment,
        qtype: query.qtype,
        reply,
        name: query.name,
        name_at: HEADER,
        trace,
    };
    if resolver.name.wire() == whoami::NAME && found.path != Path::InboundDelegation {
        return resolver.whoami(client);
    }
    resolver.run()
}

impl<'r, 's, K: Known, T: Trace> Resolver<'r, 's, '_, K, T> {
    fn whoami(mut self, client: &Client) -> Resolved<'r, 's> {
        self.same_for_all = false;
        self.reply.set(flag::AA);
        self.trace.note(Stage::Cut, || "whoami.zonal. tells who the resolver takes you for".into());
        self.trace.by(|| By::Whoami);
        let wanted = matches!(self.qtype, rtype::TXT | rtype::ANY);
        let written = match wanted {
            true => whoami::write(&mut self.reply, pointer::to(HEADER), self.snapshot, client, &self.found),
            false => self.soa_record(Section::Authority, HEADER, 0, autodefined::CONTACT, [1, 3600, 1200, 604_800, 0]),
        };
        if written.is_err() {
            self.reply.truncate();
        }
        self.ended(rcode::NOERROR, Kind::Whoami, Why::Nothing)
    }

    fn ended(mut self, rcode: u16, kind: Kind, why: Why<'s>) -> Resolved<'r, 's> {
        if self.authentic && self.wishes.authentic && kind == Kind::Forward && matches!(why, Why::Nothing) {
            self.reply.set(flag::AD);
        }
        let why = match why {
            Why::Nothing if self.stale => {
                Why::Ours(Ede { code: ede::STALE_ANSWER, text: ["nobody could be asked anew", "", ""] })
            }
            why => why,
        };
        let (refresh, locality, same_for_all) = (self.refresh, self.locality, self.same_for_all);
        Resolved { reply: self.reply, rcode, kind, why, forward: None, refresh, locality, same_for_all }
    }

    #[inline]
    fn run(mut self) -> Resolved<'r, 's> {
        let mut owners = [HEADER; MOST_HOPS + 1];
        let question = self.reply.mark();
        let mut kind = None;
        for hop in 0..=MOST_HOPS {
            self.trace.hop();
            owners[hop] = self.name_at;
            let (outcome, by) = match self.dns64 {
                true => self.decide_dns64(hop == 0),
                false => self.decide(hop == 0),
            };
            self.authentic &= by == Kind::Forward;
            let kind = *kind.get_or_insert(by);
            let target = match outcome {
                Outcome::Done(rcode) => return self.ended(rcode, kind, Why::Nothing),
                Outcome::Next(target) => target,
                Outcome::Forward(route) => {
                    let id = self.snapshot.views.route_id(self.view, route);
                    let hasty = self.dns64 && self.qtype == rtype::AAAA;
                    let mut forward = Forward::new(route, id, &self.question());
                    (forward.hasty, forward.tenant) = (hasty, self.view.slot);
                    return Resolved { forward: Some(forward), ..self.ended(rcode::SERVFAIL, kind, Why::Nothing) };
                }
                Outcome::Failed(why) => {
                    self.reply.back_to(question);
                    self.reply.clear(flag::AA);
                    let why = why.map_or(Why::Nothing, |(code, text)| Why::Theirs(code, text));
                    return self.ended(rcode::SERVFAIL, kind, why);
                }
                Outcome::Nowhere(text) => {
                    // A chain ends where it would leave us, with what was collected.
                    let code = if hop == 0 { rcode::REFUSED } else { rcode::NOERROR };
                    return self.ended(
                        code,
                        kind,
                        Why::Ours(Ede { code: ede::NOT_AUTHORITATIVE, text: [text, "", ""] }),
                    );
                }
            };
            if self.reply.is_truncated() || !self.follow(target) {
                return self.ended(rcode::NOERROR, kind, Why::Nothing);
            }
            if owners[..=hop].iter().any(|owner| self.is_name_at(*owner)) {
                self.trace.note(Stage::Answer, || "the chain comes back to a name already in it, and ends".into());
                return self.ended(rcode::NOERROR, kind, Why::Nothing);
            }
        }
        self.trace.note(Stage::Answer, || format!("the chain has more than {MOST_HOPS} CNAME or DNAME records"));
        self.reply.back_to(question);
        let ede = Ede { code: ede::OTHER, text: ["more than 16 CNAME or DNAME records in a chain", "", ""] };
        self.ended(rcode::SERVFAIL, kind.unwrap_or(Kind::Zone), Why::Ours(ede))
    }

    /// What others are asked, if they are.
    fn question(&self) -> Question<'_> {
        self.wishes.question(self.name, self.qtype)
    }

    /// Answers with what others answered, if that is known.
    #[inline]
    pub fn forward(&mut self, route: &'s Arc<Route>) -> Outcome<'s> {
        if !self.wishes.recursion {
            // Whether an answer is in the cache, and for how long, tells what other clients asked: it is not looked up.
            self.trace.note(Stage::Cache, || "recursion is not desired: the cache is not looked at".into());
            return Outcome::Nowhere("recursion is not desired, and this is not a name of this network");
        }
        let question = self.wishes.question(self.name, self.qtype);
        let (reply, name, name_at, qtype) = (&mut self.reply, &*self.name, self.name_at, self.qtype);
        let (authentic, stale, refresh) = (&mut self.authentic, &mut self.stale, &mut self.refresh);
        let (trace, draw) = (&mut *self.trace, self.moment.draw);
        trace.route(route);
        self.known.with(self.snapshot.views.route_id(self.view, route), &question, self.moment.now, |found| {
            let Some(known::Found { entry, ttl, stale: is_stale, refresh: is_ending }) = found else {
                trace.note(Stage::Cache, || "not there: it has to be asked for".into());
                trace.cache(CacheState::Miss);
                return Outcome::Forward(route);
            };
            *authentic &= entry.authentic;
            trace.note(Stage::Cache, || match (entry.rcode == rcode::SERVFAIL, is_stale) {
                (true, _) => {
                    let details = entry.details.as_ref().map_or(String::new(), |details| format!(": {details}"));
                    format!("asking failed, and is not tried again for another {ttl} s{details}")
                }
                (_, true) => "there, but it has ended, and nobody could be asked anew".into(),
                _ => format!("there, for another {ttl} s"),
            });
            trace.cache(match (entry.rcode == rcode::SERVFAIL, is_stale) {
                (true, _) => CacheState::Failed,
                (_, true) => CacheState::Stale,
                _ => CacheState::Hit,
            });
            if entry.rcode == rcode::SERVFAIL {
                return Outcome::Failed(entry.ede.clone());
            }
            *stale |= is_stale;
            *refresh |= is_ending;
            let owner = |written: &[u8], skip: usize| match name_at == HEADER {
                true => HEADER + name.start(skip.min(name.labels())),
                false => suffix_at(written, name_at, skip.min(name.labels())),
            };
            let turned = matches!(qtype, rtype::A | rtype::AAAA).then_some((qtype, draw));
            let written = entry.answer.write(reply, Section::Answer, ttl, turned, owner).inspect_err(|Full| {
                // Addresses that do not all fit are there in part, as those of zones are.
                let owner = pointer::to(name_at);
                let addresses = || entry.answer.iter(name).filter(|(_, rtype, _)| turned.is_some() && *rtype == qtype);
                let first = first_of(addresses().count(), draw);
                let mut turned = addresses().skip(first).chain(addresses().take(first));
                let _ = turned.try_for_each(|(_, rtype, data)| {
                    reply.record(Section::Answer, owner, rtype, ttl, &[data]).map(|_| ())
                });
            });
            let written = written.and_then(|start| {
                let authority = entry.authority.write(reply, Section::Authority, ttl, None, owner)?;
                if entry.target.is_some() {
                    reply.defer(authority, entry.authority.count);
                }
                Ok(start)
            });
            match (written, entry.target) {
                (Ok(start), Some(target)) => Outcome::Next(start + usize::from(target)),
                (Ok(_), None) => Outcome::Done(entry.rcode),
                (Err(Full), _) => {
                    reply.truncate();
                    Outcome::Done(rcode::NOERROR)
                }
            }
        })
    }

    /// Makes the name at this place in the reply the one in question.
    fn follow(&mut self, target: usize) -> bool {
        let mut wire = [0; 256];
        let len = expand_name(self.reply.written(), target, &mut wire);
        if target > pointer::MAX_OFFSET || !self.name.fill(&wire[..len]) {
            return false;
        }
        self.name_at = target;
        let name = &self.name;
        self.trace.note(Stage::Answer, || format!("the target {} is decided anew", name_text(name.wire())));
        true
    }

    /// Whether the name at this place in the reply is the one in question.
    fn is_name_at(&self, at: usize) -> bool {
        let mut wire = [0; 256];
        let len = expand_name(self.reply.written(), at, &mut wire);
        wire[..len].eq_ignore_ascii_case(self.name.wire())
    }

    /// Decides what is responsible for the name in question, and has it answer.
    #[inline]
    pub fn decide(&mut self, first: bool) -> (Outcome<'s>, Kind) {
        let (snapshot, view) = (self.snapshot, self.view);
        let (name, found) = (&*self.name, &self.found);
        self.trace.notes(Stage::Cut, || candidates(snapshot, view, name));
        self.trace
            .notes(Stage::Endpoint, || why::others(snapshot, found, name.wire(), private_name(snapshot, view, name)));
        self.same_for_all = self.same_for_all && same::for_all(snapshot, view, name, self.qtype);
        let (outcome, kind) = match self.qtype {
            rtype::DS => self.decide_ds(first),
            _ => self.decide_from((0, 0), usize::MAX, first),
        };
        match outcome {
            Outcome::Done(rcode::NXDOMAIN) if has_below(snapshot, view, self.name, 0) => {
                // An empty non-terminal (RFC 8020, 2; RFC 4592, 2.2.2).
                self.trace.note(Stage::Cut, || "but a name below it is ours, so that it exists: no data".into());
                self.authentic = false;
                (Outcome::Done(rcode::NOERROR), kind)
            }
            outcome => (outcome, kind),
        }
    }

    /// DS at an apex or rule name is the affair of what lies above (RFC 4035, 3.1.4.1), unless that would be refused.
    #[cold]
    fn decide_ds(&mut self, first: bool) -> (Outcome<'s>, Kind) {
        let is_above = match next_cut(self.snapshot, self.view, self.name, (0, 0)) {
            // Special-use names must not leave, DS or not (RFC 7686, 2). Those in `arpa` are delegated there.
            Some((Cut::Autodefined(_), (0, _))) => self.name.labels() > 1,
            Some((_, (0, _))) => true,
            _ => false,
        };
        if !is_above {
            return self.decide_from((0, 0), usize::MAX, first);
        }
        self.trace.note(Stage::Cut, || "but type DS is asked of what is above the name".into());
        let above = self.decide_from((1, 0), usize::MAX, first);
        match above {
            (Outcome::Nowhere(_), _) => {}
            // It may say that there is no DS here, but not that the name is not there: whoever caches that would
            // not find its other types either (RFC 2308, 5).
            (Outcome::Done(rcode::NXDOMAIN), kind) if self.is_ours() => {
                self.authentic = false;
                return (Outcome::Done(rcode::NOERROR), kind);
            }
            _ => return above,
        }
        self.trace.note(Stage::Cut, || "nobody of ours is above: what is at the name answers itself".into());
        let own = self.decide_from((0, 0), 0, first);
        if matches!(own, (Outcome::Nowhere(_), _)) { above } else { own }
    }

    /// Whether something is responsible for the very name in question, and not only for one above.
    fn is_ours(&self) -> bool {
        let mut place = (0, 0);
        while let Some((cut, (0, rank))) = next_cut(self.snapshot, self.view, self.name, place) {
            match cut {
                Cut::Rule(rule) if matches!(rule.resource.rule_type, RuleType::System | RuleType::Delegate) => {
                    place = (0, rank + 1);
                }
                _ => return true,
            }
        }
        false
    }

    /// Has the first of the cuts from a place on answer that does not leave it to the next one. Those are left out that
    /// are more than `most` labels above the name.
    #[inline]
    fn decide_from(&mut self, mut place: Place, most: usize, first: bool) -> (Outcome<'s>, Kind) {
        let (snapshot, view) = (self.snapshot, self.view);
        let mut no_forward = false;
        // What falls through a zone is decided as if that zone, and so its name, were not there.
        let mut falls = false;
        while let Some((cut, (skip, rank))) = next_cut(snapshot, view, self.name, place) {
            if skip > most {
                break;
            }
            place = (skip, rank + 1);
            let (outcome, kind) = match cut {
                Cut::Rule(rule) => {
                    let id = &rule.id;
                    match rule.resource.rule_type {
                        RuleType::System => {
                            self.trace
                                .note(Stage::Cut, || format!("SYSTEM rule {id}: as if no wider FORWARD rule existed"));
                            no_forward = true;
                            continue;
                        }
                        RuleType::Forward if no_forward => {
                            self.trace
                                .note(Stage::Cut, || format!("not FORWARD rule {id}: the SYSTEM rule takes it out"));
                            continue;
                        }
                        RuleType::Delegate => continue, // acts on referrals, not on names
                        RuleType::Forward => {
                            self.note_rule(rule);
                            self.trace.by(|| By::Rule(id));
                            (Some(self.forward(&rule.route)), Kind::Forward)
                        }
                        RuleType::Recursive => {
                            self.trace.note(Stage::Cut, || format!("RECURSIVE rule {id}: for the internet resolver"));
                            let outcome = self.internet();
                            self.trace.by(|| By::Rule(id));
                            (Some(outcome), Kind::Forward)
                        }
                    }
                }
                Cut::Zone(zone) => {
                    self.note_zone(zone);
                    self.trace.by(|| By::Zone(&zone.id));
                    (self.zone(zone, first, falls), Kind::Zone)
                }
                Cut::Private(exact, wildcard) => {
                    self.by_endpoint(answering(exact, wildcard, skip));
                    (Some(self.private_name(exact, wildcard, skip, first)), Kind::Endpoint)
                }
                Cut::Public(name) => {
                    self.by_endpoint(Some(name));
                    (Some(self.public_name(name, skip, first)), Kind::Endpoint)
                }
                Cut::Autodefined(what) => {
                    self.trace.by(|| By::Autodefined);
                    (Some(self.autodefined(what, skip, first)), Kind::Autodefined)
                }
            };
            if let Some(outcome) = outcome {
                return (outcome, kind);
            }
            falls = true;
            self.trace.note(Stage::Cut, || "it has no such name and `fallthrough: true`: on to the next".into());
        }
        if most < usize::MAX {
            return (Outcome::Nowhere(NOT_OURS), Kind::Forward);
        }
        (self.internet(), Kind::Forward)
    }

    /// Has the internet resolver answer, if there is one.
    fn internet(&mut self) -> Outcome<'s> {
        let internet = self.snapshot.node.internet.as_ref().filter(|_| self.view.path != Path::InboundDelegation);
        let Some(route) = internet else {
            self.trace.note(Stage::Cut, || "there is no internet resolver here: this ends here".into());
            return Outcome::Nowhere(NOT_OURS);
        };
        self.trace.note(Stage::Cut, || format!("so the internet resolver is asked: {}", route.servers));
        self.trace.by(|| By::Internet);
        self.forward(route)
    }

    fn by_endpoint(&mut self, name: Option<&EndpointName>) {
        let endpoints = &self.snapshot.endpoints;
        let id = || name.and_then(|name| endpoints.get(name.slot)).map_or("-", |endpoint| &endpoint.id);
        self.trace.by(|| By::Endpoint(id()));
    }

    fn note_rule(&mut self, rule: &Rule) {
        self.trace.note(Stage::Cut, || format!("rule {} forwards to {}", rule.id, rule.route.servers));
    }

    fn note_zone(&mut self, zone: &Zone) {
        self.trace.note(Stage::Cut, || format!("private hosted zone {} ({}) is asked", zone.id, name_text(&zone.apex)));
    }

    /// Where in the reply the suffix of the name in question is that is left when `skip` labels are taken away.
    #[inline]
    pub fn suffix_at(&self, skip: usize) -> usize {
        if self.name_at == HEADER {
            return HEADER + self.name.start(skip);
        }
        suffix_at(self.reply.written(), self.name_at, skip)
    }

    /// Writes an address record that we make ourselves.
    pub fn address_record(&mut self, owner: u16, ttl: u32, address: IpAddr) -> Result<(), Full> {
        let written = match address {
            IpAddr::V4(a) => self.reply.record(Section::Answer, owner, rtype::A, ttl, &[&a.octets()]),
            IpAddr::V6(a) => self.reply.record(Section::Answer, owner, rtype::AAAA, ttl, &[&a.octets()]),
        };
        written.map(|_| ())
    }

    /// Writes a SOA record that we make ourselves: its owner is the suffix at `apex`.
    pub fn soa_record(
        &mut self,
        section: Section,
        apex: usize,
        ttl: u32,
        contact: &[u8],
        numbers: [u32; 5],
    ) -> Result<(), Full> {
        let mut octets = [0; 20];
        for (at, number) in numbers.into_iter().enumerate() {
            octets[4 * at..4 * at + 4].copy_from_slice(&number.to_be_bytes());
        }
        let owner = pointer::to(apex);
        self.reply.record(section, owner, rtype::SOA, ttl, &[&owner.to_be_bytes(), contact, &octets]).map(|_| ())
    }
}
