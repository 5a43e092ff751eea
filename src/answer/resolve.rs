//! Which rule: the longest suffix wins, and every CNAME target is decided anew (resolution.md 2).

use super::{
    Client, Kind, Moment,
    trace::{Stage, Trace},
    whoami, why,
};
use crate::{
    manifest::{Id, ResolverRule, RuleType},
    snapshot::{
        Snapshot,
        autodefined::{Autodefined, LOCALLY_SERVED},
        endpoints::EndpointName,
        networks::{Found, Path},
        views::View,
        zone::Zone,
    },
    wire::{
        Name,
        query::{HEADER, LookupName, Query, flag, rcode},
        rdata::rtype,
        reply::{Ede, Full, Reply, Section, expand_name, suffix_at},
    },
};

/// How many CNAME and DNAME targets are followed.
const MOST_HOPS: usize = 16;

/// What became of a query.
pub struct Resolved<'r, 's> {
    pub reply: Reply<'r>,
    pub rcode: u16,
    pub kind: Kind,
    pub ede: Option<Ede<'s>>,
}

/// What became of one name of the chain.
pub enum Outcome<'s> {
    /// The chain ends here, with this RCODE.
    Done(u16),
    /// It is a CNAME; the target's name is at this place in the reply.
    Next(usize),
    /// It would have to be forwarded: by this rule, or to the internet resolver.
    Forward(Option<&'s Id>),
}

/// What is responsible for a name.
enum Cut<'s> {
    Rule(&'s Id, &'s ResolverRule),
    Zone(&'s Zone),
    /// A private name of an endpoint: who answers the name itself, and who the names below.
    Private(Option<&'s EndpointName>, Option<&'s EndpointName>),
    /// A regional or zonal name.
    Public(&'s EndpointName),
    Autodefined(&'s Autodefined),
}

/// A cut that was found: how many labels lead down from it, and its rank at that name.
type Place = (usize, u8);

/// A query on its way.
pub struct Resolver<'r, 's, 'q, T> {
    pub snapshot: &'s Snapshot,
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
pub fn resolve<'r, 's, 'q, T: Trace>(
    snapshot: &'s Snapshot,
    view: &'s View,
    found: Found<'s>,
    client: &Client,
    moment: Moment,
    query: Query<'q>,
    reply: Reply<'r>,
    trace: &'q mut T,
) -> Resolved<'r, 's> {
    let resolver =
        Resolver { snapshot, view, found, moment, qtype: query.qtype, reply, name: query.name, name_at: HEADER, trace };
    if resolver.name.wire() == whoami::NAME && found.path != Path::InboundDelegation {
        return resolver.whoami(client);
    }
    resolver.run()
}

impl<'r, 's, T: Trace> Resolver<'r, 's, '_, T> {
    fn whoami(mut self, client: &Client) -> Resolved<'r, 's> {
        self.reply.set(flag::AA);
        self.trace.note(Stage::Cut, || "whoami.zonal. tells who the resolver takes you for".into());
        let wanted = matches!(self.qtype, rtype::TXT | rtype::ANY);
        let written = match wanted {
            true => whoami::write(&mut self.reply, 0xc000 | HEADER as u16, self.snapshot, client, &self.found),
            false => self.synthesized_soa(HEADER, 0, b"\x06nobody\x07invalid\0", [1, 3600, 1200, 604_800, 0]),
        };
        if written.is_err() {
            self.reply.truncate();
        }
        Resolved { reply: self.reply, rcode: rcode::NOERROR, kind: Kind::Whoami, ede: None }
    }

    #[inline]
    fn run(mut self) -> Resolved<'r, 's> {
        let mut owners = [HEADER; MOST_HOPS + 1];
        let question = self.reply.position();
        let mut kind = None;
        for hop in 0..=MOST_HOPS {
            owners[hop] = self.name_at;
            let (outcome, by) = self.decide(hop == 0);
            let kind = *kind.get_or_insert(by);
            let target = match outcome {
                Outcome::Done(rcode) => return Resolved { reply: self.reply, rcode, kind, ede: None },
                Outcome::Next(target) => target,
                Outcome::Forward(rule) => {
                    // A chain ends where it would leave us, with what was collected.
                    let code = if hop == 0 { rcode::REFUSED } else { rcode::NOERROR };
                    return Resolved { reply: self.reply, rcode: code, kind, ede: Some(not_served(rule)) };
                }
            };
            if self.reply.is_truncated() || !self.follow(target) {
                return Resolved { reply: self.reply, rcode: rcode::NOERROR, kind, ede: None };
            }
            if owners[..=hop].iter().any(|owner| self.is_name_at(*owner)) {
                self.trace.note(Stage::Answer, || "the chain comes back to a name already in it, and ends".into());
                return Resolved { reply: self.reply, rcode: rcode::NOERROR, kind, ede: None };
            }
        }
        self.trace.note(Stage::Answer, || format!("the chain has more than {MOST_HOPS} CNAME or DNAME records"));
        self.reply.rewind(question, Section::Answer, 0);
        let ede = Ede { code: 0, text: ["more than 16 CNAME or DNAME records in a chain", "", ""] };
        Resolved { reply: self.reply, rcode: rcode::SERVFAIL, kind: kind.unwrap_or(Kind::Zone), ede: Some(ede) }
    }

    /// Makes the name at this place in the reply the one in question.
    fn follow(&mut self, target: usize) -> bool {
        let mut wire = [0; 256];
        let len = expand_name(self.reply.written(), target, &mut wire);
        if !self.name.fill(&wire[..len]) {
            return false;
        }
        self.name_at = target;
        let name = &self.name;
        self.trace.note(Stage::Answer, || format!("the target {} is decided anew", printed(name.wire())));
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
    fn decide(&mut self, first: bool) -> (Outcome<'s>, Kind) {
        let (snapshot, view) = (self.snapshot, self.view);
        let (name, found) = (&*self.name, &self.found);
        self.trace.notes(Stage::Cut, || candidates(snapshot, view, name));
        self.trace
            .notes(Stage::Endpoint, || why::others(snapshot, found, name.wire(), private_name(snapshot, view, name)));
        match self.qtype {
            rtype::DS => self.decide_ds(first),
            _ => self.decide_from((0, 0), usize::MAX, first),
        }
    }

    /// DS at an apex or rule name is the affair of what lies above (RFC 4035, 3.1.4.1), unless that would be refused.
    #[cold]
    fn decide_ds(&mut self, first: bool) -> (Outcome<'s>, Kind) {
        let Some((cut, (0, _))) = next_cut(self.snapshot, self.view, self.name, (0, 0)) else {
            return self.decide_from((0, 0), usize::MAX, first);
        };
        let is_forwarded =
            matches!(cut, Cut::Rule(_, rule) if matches!(rule.rule_type, RuleType::Forward | RuleType::Recursive));
        self.trace.note(Stage::Cut, || "but type DS is asked of what is above the name".into());
        let above = self.decide_from((1, 0), usize::MAX, first);
        match above {
            (Outcome::Forward(_), _) => {}
            // It may say that there is no DS here, but not that the name is not there: whoever caches that would
            // not find its other types either (RFC 2308, 5).
            (Outcome::Done(rcode::NXDOMAIN), kind) if self.is_ours() => return (Outcome::Done(rcode::NOERROR), kind),
            _ => return above,
        }
        self.trace.note(Stage::Cut, || "nobody of ours is above: what is at the name answers itself".into());
        let own = self.decide_from((0, 0), 0, first);
        if matches!(own, (Outcome::Forward(_), _)) && !is_forwarded { above } else { own }
    }

    /// Whether something is responsible for the very name in question, and not only for one above.
    fn is_ours(&self) -> bool {
        let mut place = (0, 0);
        while let Some((cut, (0, rank))) = next_cut(self.snapshot, self.view, self.name, place) {
            match cut {
                Cut::Rule(_, rule) if matches!(rule.rule_type, RuleType::System | RuleType::Delegate) => {
                    place = (0, rank + 1);
                }
                _ => return true,
            }
        }
        false
    }

    /// The same among the cuts from a place on, those left out that are more than `most` labels above the name.
    #[inline]
    fn decide_from(&mut self, mut place: Place, most: usize, first: bool) -> (Outcome<'s>, Kind) {
        let (snapshot, view) = (self.snapshot, self.view);
        let mut no_forward = false;
        while let Some((cut, (skip, rank))) = next_cut(snapshot, view, self.name, place) {
            if skip > most {
                break;
            }
            place = (skip, rank + 1);
            let (outcome, kind) = match cut {
                Cut::Rule(id, rule) => {
                    match rule.rule_type {
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
                        RuleType::Delegate => continue, // acts on referrals, not on queries
                        RuleType::Forward | RuleType::Recursive => {
                            self.note_rule(id, rule);
                            (Some(Outcome::Forward(Some(id))), Kind::Forward)
                        }
                    }
                }
                Cut::Zone(zone) => {
                    self.note_zone(zone);
                    (self.zone(zone, first), Kind::Zone)
                }
                Cut::Private(exact, wildcard) => {
                    (Some(self.private_name(exact, wildcard, skip, first)), Kind::Endpoint)
                }
                Cut::Public(name) => (Some(self.public_name(name, skip, first)), Kind::Endpoint),
                Cut::Autodefined(what) => (Some(self.autodefined(what, skip, first)), Kind::Autodefined),
            };
            if let Some(outcome) = outcome {
                return (outcome, kind);
            }
            self.trace.note(Stage::Cut, || "it has no such name and `fallthrough: true`: on to the next".into());
        }
        self.trace.note(Stage::Cut, || {
            "so it is a name for the internet resolver: this version does not forward yet, so this ends here".into()
        });
        (Outcome::Forward(None), Kind::Forward)
    }

    fn note_rule(&mut self, id: &Id, rule: &ResolverRule) {
        self.trace.note(Stage::Cut, || {
            let targets: Vec<String> =
                rule.target_ips.iter().map(|target| format!("{} port {}", target.ip, target.port)).collect();
            let whither = match rule.rule_type {
                RuleType::Recursive => "the internet resolver".into(),
                _ => targets.join(" or "),
            };
            format!("rule {id} forwards to {whither}: this version does not forward yet, so this ends here")
        });
    }

    fn note_zone(&mut self, zone: &Zone) {
        self.trace.note(Stage::Cut, || format!("private hosted zone {} ({}) is asked", zone.id, printed(&zone.apex)));
    }

    /// Where in the reply the suffix of the name in question is that is left when `skip` labels are taken away.
    #[inline]
    pub fn suffix_at(&self, skip: usize) -> usize {
        if self.name_at == HEADER {
            return HEADER + self.name.start(skip);
        }
        suffix_at(self.reply.written(), self.name_at, skip)
    }

    /// Writes a SOA record that we make ourselves into the authority section: its apex is the suffix at `apex`.
    pub fn synthesized_soa(&mut self, apex: usize, ttl: u32, contact: &[u8], numbers: [u32; 5]) -> Result<(), Full> {
        self.soa_record(Section::Authority, apex, ttl, contact, numbers)
    }

    /// Writes a SOA record that we make ourselves.
    pub fn soa_record(
        &mut self,
        section: Section,
        apex: usize,
        ttl: u32,
        contact: &[u8],
        numbers: [u32; 5],
    ) -> Result<(), Full> {
        let pointer = (0xc000 | apex as u16).to_be_bytes();
        let mut octets = [0; 20];
        for (at, number) in numbers.into_iter().enumerate() {
            octets[4 * at..4 * at + 4].copy_from_slice(&number.to_be_bytes());
        }
        let owner = 0xc000 | apex as u16;
        self.reply.record(section, owner, rtype::SOA, ttl, &[&pointer, contact, &octets]).map(|_| ())
    }
}

/// The zone that is responsible for a name, if one is and nothing comes before it.
#[inline]
pub fn zone_of<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s Zone> {
    match next_cut(snapshot, view, name, (0, 0)) {
        Some((Cut::Zone(zone), _)) => Some(zone),
        _ => None,
    }
}

/// The most specific cut from a place on: the longest suffix, at the same name by rank.
#[inline]
fn next_cut<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
    (skip, mut rank): Place,
) -> Option<(Cut<'s>, Place)> {
    for skip in skip..=name.labels() {
        if rank <= 1
            && let Some(policy) = view.policy.find(name, skip)
        {
            if rank == 0
                && view.path != Path::InboundDelegation
                && let Some((id, rule)) = &policy.rule
            {
                return Some((Cut::Rule(id, rule), (skip, 0)));
            }
            if let Some(zone) = &policy.zone {
                return Some((Cut::Zone(zone), (skip, 1)));
            }
        }
        if view.path != Path::InboundDelegation {
            if rank <= 2 {
                let (own, shared) = (view.own.find(name, skip), view.shared.find(name, skip));
                if own.is_some() || shared.is_some() {
                    let both = || own.into_iter().chain(shared);
                    let exact = both().find_map(|name| name.exact.as_ref());
                    let wildcard = both().find_map(|name| name.wildcard.as_ref());
                    return Some((Cut::Private(exact, wildcard), (skip, 2)));
                }
            }
            if rank <= 3
                && let Some(name) = snapshot.endpoints.public.find(name, skip)
            {
                return Some((Cut::Public(name), (skip, 3)));
            }
            if rank <= 4
                && let Some(autodefined) = &view.autodefined
                && let Some(what) = autodefined.find(name, skip).or_else(|| LOCALLY_SERVED.find(name, skip))
            {
                return Some((Cut::Autodefined(what), (skip, 4)));
            }
        }
        rank = 0;
    }
    None
}

/// Which of those who share a private name has to do with a name that is `skip` labels below it.
fn answering<'s>(
    exact: Option<&'s EndpointName>,
    wildcard: Option<&'s EndpointName>,
    skip: usize,
) -> Option<&'s EndpointName> {
    if skip == 0 { exact.or(wildcard) } else { wildcard.or(exact) }
}

/// The longest private name of an endpoint, at or above a name, that a view has.
fn private_name<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s EndpointName> {
    let mut place = (0, 0);
    while let Some((cut, (skip, rank))) = next_cut(snapshot, view, name, place) {
        if let Cut::Private(exact, wildcard) = cut {
            return answering(exact, wildcard, skip);
        }
        place = (skip, rank + 1);
    }
    None
}

/// What could be responsible for a name, for those who read: what wins, why, and over what.
fn candidates(snapshot: &Snapshot, view: &View, name: &LookupName) -> Vec<String> {
    let mut found = Vec::new();
    let mut place = (0, 0);
    while let Some((cut, (skip, rank))) = next_cut(snapshot, view, name, place) {
        let id_of = |name: &EndpointName| snapshot.endpoints.get(name.slot).map_or("-", |endpoint| &endpoint.id);
        let (what, id) = match &cut {
            Cut::Rule(id, rule) => (format!("{} rule", rule.rule_type), &***id),
            Cut::Zone(zone) => ("private hosted zone".into(), &*zone.id),
            Cut::Private(exact, wildcard) => {
                ("private name of endpoint".into(), answering(*exact, *wildcard, skip).map_or("-", id_of))
            }
            Cut::Public(name) => ("public name of endpoint".into(), id_of(name)),
            Cut::Autodefined(_) => ("autodefined names".into(), ""),
        };
        found.push((
            skip,
            format!("{what} {id}").trim_end().to_string() + &format!(" ({})", printed(name.suffix(skip))),
        ));
        place = (skip, rank + 1);
    }
    let mut lines = vec![format!("who is responsible for {}?", printed(name.wire()))];
    let Some((skip, first)) = found.first() else {
        lines.push("nobody: the view has no rule, zone or endpoint at this name or above it".into());
        return lines;
    };
    let others: Vec<&str> = found[1..].iter().map(|(_, text)| text.as_str()).collect();
    let why = match found.get(1) {
        None => "nothing else of ours is at this name or above it",
        Some((other, _)) if other == skip => {
            "at one name, rules come first, then zones, then endpoints, then autodefined names"
        }
        Some(_) => "the longest name wins",
    };
    lines.push(format!("{first} comes first: {why}"));
    if !others.is_empty() {
        lines.push(format!("after it: {}", others.join(", then ")));
    }
    lines
}

/// A name that would have to be forwarded (EDE 20, Not Authoritative).
fn not_served(rule: Option<&Id>) -> Ede<'_> {
    match rule {
        Some(rule) => Ede { code: 20, text: ["rule ", rule, ": forwarding is not served"] },
        None => Ede { code: 20, text: ["not a name of this network: there is no internet resolver", "", ""] },
    }
}

/// A name for those who read.
pub fn printed(wire: &[u8]) -> String {
    Name::from_wire(wire).map_or_else(|_| String::new(), |name| name.to_string())
}
