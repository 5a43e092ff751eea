//! DNS Firewall. After zonal knows the client, and before it looks for the answer, the rules judge the query name. They
//! judge each later name of a CNAME chain in the same way (docs/guides/filtering-names.md).
//!
//! ```text
//! name    -> Lists::find            one search in the table, whatever the number of rules
//!         -> RuleSet::of_list       the rules with a list that has the name: the first one in order decides
//!         -> Detections             the findings of the detectors about its domain and the client
//! records -> rules on addresses     A and AAAA records that other servers answered, and the name servers of the name
//! BLOCK   -> Resolver::replace      the whole answer, with the query name as the owner
//! ```
//!
//! The firewall is above the cache: a changed rule acts on the next query, and views share cached answers.

mod answers;
mod entries;

use super::{
    Transport,
    context::{Context, ExtendedError},
    explanation,
    known::KnownAnswers,
    resolve::Resolver,
    trace::{Stage, Trace},
};
use crate::{
    answer::autodefined::CONTACT,
    manifest::{DnsThreatProtection, FirewallAction},
    snapshot::firewall::{
        detections::{Detections, Numbers, client_key},
        generated::looks_generated,
        registered::registered,
        rules::{Condition, Response, Rule, RuleSet},
        table::{AddressEntry, AddressKind, ListState, Lists, Match, RpzAction, ServerNameEntry},
    },
    wire::{
        codes::{ede, flag, pointer, rcode},
        name::{MAX_NAME, labels, name_text},
        query::{HEADER, LookupName},
        rdata::rtype,
        reply::{Ede, Full, Section, expand_name},
    },
};
use ipnet::IpNet;
use std::{net::IpAddr, ops::ControlFlow};

/// The largest number of shadow rules that one name is counted for.
const MAX_SHADOWS: usize = 8;
/// The largest number of rules that one query is counted for.
const MAX_MATCHES: usize = 7;
/// Serial, refresh, retry and expire of the SOA record of a blocked name.
const SOA: [u32; 4] = [1, 3600, 1200, 604_800];

/// The result of a rule for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallOutcome {
    /// The rule allowed the name.
    Allow,
    /// The rule allowed the name and reports it.
    Alert,
    /// The rule replaced the answer.
    Block,
    /// The rule matched, and has `shadow: true`.
    Shadow,
    /// The list of the rule is not there, and the answer is SERVFAIL.
    FailClosed,
    /// The list of the rule is not there, and the rule is ignored.
    FailOpen,
}

impl FirewallOutcome {
    /// All outcomes with their labels in metrics, in the order of their numbers.
    pub const LABELS: [(FirewallOutcome, &'static str); 6] = [
        (FirewallOutcome::Allow, "allow"),
        (FirewallOutcome::Alert, "alert"),
        (FirewallOutcome::Block, "block"),
        (FirewallOutcome::Shadow, "shadow"),
        (FirewallOutcome::FailClosed, "fail_closed"),
        (FirewallOutcome::FailOpen, "fail_open"),
    ];
}

/// The rules that a query is counted for, each once: their slots and outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirewallMatches([u32; MAX_MATCHES]);

impl FirewallMatches {
    /// Adds a rule. False if it is there already, or if there is no room. A shadow never takes the last place.
    pub fn add(&mut self, slot: u32, outcome: FirewallOutcome) -> bool {
        let packed = (slot + 1) << 3 | outcome as u32;
        if outcome == FirewallOutcome::Shadow && self.0[MAX_MATCHES - 2] != 0 {
            return false;
        }
        for place in &mut self.0 {
            if *place == packed {
                return false;
            }
            if *place == 0 {
                *place = packed;
                return true;
            }
        }
        false
    }

    /// Whether no rule matched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// The slot of the rule that replaced the answer.
    #[inline]
    pub fn blocked_by(&self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let blocked = self.iter().find(|(_, outcome)| *outcome == FirewallOutcome::Block as usize);
        blocked.map(|(slot, _)| slot)
    }

    /// Whether a rule blocked or reported the query.
    #[inline]
    pub fn is_reported(&self) -> bool {
        let is_reported =
            |outcome| outcome == FirewallOutcome::Block as usize || outcome == FirewallOutcome::Alert as usize;
        !self.is_empty() && self.iter().any(|(_, outcome)| is_reported(outcome))
    }

    /// The slot of each rule, and the number of its [`FirewallOutcome`].
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize)> {
        self.0.into_iter().take_while(|packed| *packed != 0).map(|packed| ((packed >> 3) - 1, (packed & 7) as usize))
    }
}

/// The part of a rule's condition that matched.
#[derive(Clone, Copy, Debug)]
pub enum MatchedEntry<'s> {
    /// An entry of the list for the name.
    Name(Match),
    /// An entry of the list for the address of the client.
    Client(&'s AddressEntry),
    /// An entry of the list for an address in the answer.
    Answer(&'s AddressEntry),
    /// An entry of the list for the name of a name server.
    ServerName(&'s ServerNameEntry),
    /// An entry of the list for the address of a name server.
    ServerAddress(&'s AddressEntry),
    /// A block of the rule's `answer_addresses`.
    Block(IpNet),
    /// A finding of a detector.
    Found(Finding),
    /// Nothing: the list is not there.
    Unready,
}

/// A finding of a detector that a rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The detector.
    pub protection: DnsThreatProtection,
    /// The number of labels of the registered domain.
    pub labels: u8,
    /// The largest numbers that the detector counted within an hour.
    pub numbers: Numbers,
    /// The threshold of the rule.
    pub threshold: u32,
}

impl MatchedEntry<'_> {
    /// The action of an entry of a response policy zone.
    fn rpz(&self) -> Option<RpzAction> {
        match self {
            MatchedEntry::Name(found) => found.rpz,
            MatchedEntry::Client(entry) | MatchedEntry::Answer(entry) | MatchedEntry::ServerAddress(entry) => entry.rpz,
            MatchedEntry::ServerName(entry) => Some(entry.rpz),
            MatchedEntry::Block(_) | MatchedEntry::Found(_) | MatchedEntry::Unready => None,
        }
    }

    /// Whether it is before another entry of its list for the addresses of one answer: the longest prefix counts, then the
    /// smallest address (draft-vixie-dnsop-dns-rpz-00, section 5.6). So the order of the records does not matter.
    fn is_before(&self, other: &MatchedEntry) -> bool {
        match (self, other) {
            (MatchedEntry::Answer(ours), MatchedEntry::Answer(theirs))
            | (MatchedEntry::ServerAddress(ours), MatchedEntry::ServerAddress(theirs)) => {
                let order = |entry: &AddressEntry| (u8::MAX - entry.block.prefix_len(), entry.block.addr());
                order(ours) < order(theirs)
            }
            _ => false,
        }
    }
}

/// The text of the entry with this number of labels that matches a name, as its list has it.
pub fn entry_text(name: &[u8], entry_labels: u8, below_only: bool) -> String {
    let mut suffix = name;
    let count = labels(name).count();
    for _ in usize::from(entry_labels)..count {
        suffix = suffix.get(1 + usize::from(suffix.first().copied().unwrap_or(0))..).unwrap_or(&[0]);
    }
    let text = name_text(suffix);
    match (entry_labels, below_only) {
        (0, _) if count > 0 => "*".into(),
        (_, true) => format!("*.{text}"),
        (_, false) => text,
    }
}

/// A match, for listeners.
pub struct FirewallHit<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The result.
    pub outcome: FirewallOutcome,
    /// The part of the rule's condition that matched.
    pub entry: MatchedEntry<'a>,
    /// The name that was inspected.
    pub name: &'a LookupName,
    /// Its position in the chain: 0 for the query's own name.
    pub hop: usize,
}

/// The effect of a rule that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The query is answered.
    Allow,
    /// The query is answered and reported.
    Alert,
    /// The answer is replaced by the response of the rule.
    Respond,
    /// The answer is replaced by that of an RPZ entry.
    Entry(RpzAction),
}

/// The effect of a match.
pub fn effect(rule: &Rule, entry: &MatchedEntry, transport: Transport) -> Effect {
    match (rule.action, entry.rpz(), &rule.response) {
        (_, Some(RpzAction::PassThru), _) | (FirewallAction::Allow, ..) => Effect::Allow,
        (FirewallAction::Alert, ..) => Effect::Alert,
        (FirewallAction::Block, Some(RpzAction::TcpOnly), Response::OfEntry) if transport != Transport::Udp => {
            Effect::Allow
        }
        (FirewallAction::Block, Some(action), Response::OfEntry) => Effect::Entry(action),
        (FirewallAction::Block, ..) => Effect::Respond,
    }
}

/// A name or an address that a rule blocks.
#[derive(Clone, Copy)]
struct Block<'s> {
    rule: &'s Rule,
    entry: MatchedEntry<'s>,
    /// The list of the rule is not there.
    is_unready: bool,
}

/// The inspection of a query whose view has rules.
pub struct Inspection<'s> {
    filter: Filter<'s>,
    /// The rest of the chain is exempt.
    is_trusted: bool,
    /// The index of the rule that let the current name pass; that of no rule if none did.
    passed_by: u32,
    block: Option<Block<'s>>,
}

impl<'s> Inspection<'s> {
    /// The inspection of a query of a view with these rules.
    pub fn new(filter: Filter<'s>) -> Inspection<'s> {
        Inspection { filter, is_trusted: false, passed_by: u32::MAX, block: None }
    }

    /// The lists, if a rule looks at the name servers of names.
    #[inline]
    pub fn lists_of_servers(&self) -> Option<&'s Lists> {
        (!self.filter.rules.of_servers.is_empty()).then_some(self.filter.lists)
    }
}

/// The index of a rule, and the entry by which it matched.
pub type RuleMatch<'s> = (u32, MatchedEntry<'s>);

/// The matches of one name, in the order of the rules.
pub struct Judged<'s> {
    /// The first rule that ends the evaluation.
    pub decided: Option<RuleMatch<'s>>,
    /// The shadow rules that matched.
    pub shadows: [Option<RuleMatch<'s>>; MAX_SHADOWS],
}

impl<'s> Judged<'s> {
    /// No match.
    pub const NOTHING: Judged<'s> = Judged { decided: None, shadows: [None; MAX_SHADOWS] };

    /// The entry by which a rule matched.
    pub fn entry_of(&self, index: u32) -> Option<MatchedEntry<'s>> {
        let mut all = self.decided.iter().chain(self.shadows.iter().flatten());
        all.find(|(other, _)| *other == index).map(|(_, entry)| *entry)
    }

    /// Adds the match of a rule. Of several matches of one rule, the [preferred](MatchedEntry::is_before) one counts, or else
    /// the first one.
    fn add(&mut self, index: u32, rule: &Rule, entry: MatchedEntry<'s>) {
        if !rule.is_shadow {
            if self.decided.is_none_or(|(other, old)| index < other || index == other && entry.is_before(&old)) {
                self.decided = Some((index, entry));
            }
            return;
        }
        match self.shadows.iter_mut().find(|shadow| shadow.is_none_or(|(other, _)| other == index)) {
            Some(Some((_, old))) if !entry.is_before(old) => {}
            Some(place) => *place = Some((index, entry)),
            None => {}
        }
    }
}

/// The rules of a view, and what they compare names with.
#[derive(Clone, Copy)]
pub struct Filter<'s> {
    /// The rules.
    pub rules: &'s RuleSet,
    /// The names of all lists.
    pub lists: &'s Lists,
    /// The findings of the detectors; none if no rule of the view has a detector.
    pub detections: Option<&'s Detections>,
}

/// A name of a chain that the rules judge.
#[derive(Clone, Copy)]
pub struct Subject<'n> {
    /// The name.
    pub name: &'n LookupName,
    /// Its position in the chain: 0 for the query's own name.
    pub hop: usize,
    /// The query type.
    pub qtype: u16,
    /// The address of the client.
    pub source: IpAddr,
    /// Seconds since 1970.
    pub now: i64,
}

impl<'s> Filter<'s> {
    /// Judges a name. None if no rule matches: this is so for most names, and then nothing is initialised.
    #[inline]
    pub fn judge(&self, subject: &Subject) -> Option<Judged<'s>> {
        let mut judged: Option<Judged> = None;
        self.visit_entries(subject, &mut |index, rule, entry| {
            judged.get_or_insert(Judged::NOTHING).add(index, rule, entry);
            ControlFlow::Continue(())
        });
        if let Some(detections) = self.detections
            && !(detections.tunnels().is_empty() && detections.clients().is_empty())
        {
            self.judge_findings(detections, subject, &mut judged);
        }
        judged
    }

    /// Adds the rules whose detector has found something about the domain of a name, or about the client and the name.
    fn judge_findings(&self, detections: &Detections, subject: &Subject, judged: &mut Option<Judged<'s>>) {
        let Subject { name, hop, qtype, source, now } = *subject;
        let generated = || {
            let numbers = detections.clients().get(client_key(source), now)?;
            let found = registered(name).filter(|found| found.is_public)?;
            looks_generated(name.label(found.below)).then_some((found.below, numbers))
        };
        let (tunnel, generated) = (detections.tunnel_of(name, now), generated());
        let rules = self.rules.of_detectors.iter().filter_map(|index| Some((*index, self.rules.rule(*index)?)));
        for (index, rule) in rules.filter(|(_, rule)| rule.applies(hop, qtype)) {
            let Condition::Detector { protection, threshold } = rule.condition else { continue };
            let found = match protection {
                DnsThreatProtection::DnsTunneling => tunnel,
                DnsThreatProtection::Dga | DnsThreatProtection::DictionaryDga => generated,
            };
            if let Some((below, numbers)) = found.filter(|(_, numbers)| numbers.amount >= threshold) {
                let labels = (name.labels() - below) as u8;
                let entry = MatchedEntry::Found(Finding { protection, labels, numbers, threshold });
                judged.get_or_insert(Judged::NOTHING).add(index, rule, entry);
            }
        }
    }
}

/// A name of a query's chain, for the rules.
#[inline]
fn subject<'n>(context: &Context, name: &'n LookupName, hop: usize, qtype: u16) -> Subject<'n> {
    Subject { name, hop, qtype, source: context.client.source, now: context.moment.now }
}

/// The next step after a block.
pub enum Replaced<'s> {
    /// The reply is complete, with this RCODE.
    Ended(u16, ExtendedError<'s>),
    /// The name at this offset in the reply comes next.
    Target(usize),
    /// The query gets no reply.
    Dropped,
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Inspects the current name. Returns whether a rule blocks it.
    #[inline]
    pub fn blocks_name(&mut self) -> bool {
        match &self.firewall {
            Some(inspection) if !inspection.is_trusted => self.inspect_name(),
            _ => false,
        }
    }

    fn inspect_name(&mut self) -> bool {
        let Some(inspection) = &mut self.firewall else { return false };
        let filter = inspection.filter;
        inspection.passed_by = u32::MAX;
        let subject = subject(&self.context, self.name, self.link, self.qtype);
        let is_ready = filter.rules.unready.is_empty();
        if filter.rules.is_plain {
            let decided = filter.first(&subject);
            self.trace.notes(Stage::Firewall, || explanation::firewall::name(&filter, &subject));
            return (decided.is_some() || !is_ready) && self.conclude(decided, &[]);
        }
        let judged = filter.judge(&subject);
        self.trace.notes(Stage::Firewall, || explanation::firewall::name(&filter, &subject));
        match judged {
            Some(judged) => self.conclude(judged.decided, &judged.shadows),
            None => !is_ready && self.conclude(None, &[]),
        }
    }

    /// Whether a rule blocks the current name for another query type. Counts nothing if none does.
    pub fn blocks_name_for(&mut self, qtype: u16) -> bool {
        let Some(inspection) = self.firewall.as_ref().filter(|inspection| !inspection.is_trusted) else {
            return false;
        };
        let rules = inspection.filter.rules;
        let Some(judged) = inspection.filter.judge(&subject(&self.context, self.name, self.link, qtype)) else {
            return false;
        };
        let is_blocked = judged.decided.is_some_and(|(index, entry)| {
            let effect = rules.rule(index).map(|rule| effect(rule, &entry, self.context.client.transport));
            matches!(effect, Some(Effect::Respond | Effect::Entry(_)))
        });
        is_blocked && self.conclude(judged.decided, &[])
    }

    /// Counts the matches of the current name or of its addresses, and takes the decision. Returns whether a rule blocks it.
    #[inline(never)]
    fn conclude(&mut self, decided: Option<RuleMatch<'s>>, shadows: &[Option<RuleMatch<'s>>]) -> bool {
        let Some(inspection) = &self.firewall else { return false };
        let rules = inspection.filter.rules;
        let (hop, qtype) = (self.link, self.qtype);
        let first = decided.map_or(u32::MAX, |(index, _)| index);
        let mut end = first;
        let unready = || {
            let all = rules.unready.iter().filter_map(|index| Some((*index, rules.rule(*index)?)));
            all.filter(|(_, rule)| rule.applies(hop, qtype))
        };
        for (index, rule) in unready().take_while(|(index, _)| *index < first) {
            if !rules.fails_open {
                end = index;
                self.hit(rule, FirewallOutcome::FailClosed, MatchedEntry::Unready);
                break;
            }
            self.hit(rule, FirewallOutcome::FailOpen, MatchedEntry::Unready);
        }
        for (index, entry) in shadows.iter().flatten().filter(|(index, _)| *index < end) {
            if let Some(rule) = rules.rule(*index) {
                self.hit(rule, FirewallOutcome::Shadow, *entry);
            }
        }
        let Some(rule) = rules.rule(end) else { return false };
        let Some((_, entry)) = decided.filter(|(index, _)| *index == end) else {
            return self.set_block(Block { rule, entry: MatchedEntry::Unready, is_unready: true });
        };
        let outcome = match effect(rule, &entry, self.context.client.transport) {
            Effect::Allow => FirewallOutcome::Allow,
            Effect::Alert => FirewallOutcome::Alert,
            Effect::Respond | Effect::Entry(_) => FirewallOutcome::Block,
        };
        self.hit(rule, outcome, entry);
        if outcome == FirewallOutcome::Block {
            return self.set_block(Block { rule, entry, is_unready: false });
        }
        if let Some(inspection) = &mut self.firewall {
            inspection.passed_by = end;
            inspection.is_trusted |= rule.is_trusting;
        }
        false
    }

    fn set_block(&mut self, block: Block<'s>) -> bool {
        if let Some(inspection) = &mut self.firewall {
            inspection.block = Some(block);
        }
        true
    }

    /// Counts a rule, and passes its match to the listener.
    fn hit(&mut self, rule: &Rule, outcome: FirewallOutcome, entry: MatchedEntry) {
        if self.summary.firewall.add(rule.slot, outcome) {
            self.trace.firewall(&FirewallHit { rule, outcome, entry, name: self.name, hop: self.link });
        }
    }

    /// Replaces the answer to a blocked query. `question` has been restored: the reply has no records.
    #[inline(never)]
    pub fn replace(&mut self) -> Replaced<'s> {
        let Some(inspection) = self.firewall.take() else { return Replaced::Dropped };
        let Some(Block { rule, entry, is_unready }) = inspection.block else { return Replaced::Dropped };
        self.reply.clear(flag::AA);
        self.reply.untruncate();
        self.summary.stale = false;
        self.summary.refresh = false;
        self.summary.authentic = false;
        self.summary.locality = None;
        // Clients of other views have other rules: a forwarder keeps the answer for this client's network only.
        self.summary.same_for_all = false;
        if is_unready {
            let why = match rule.state {
                ListState::Expired => "the list has expired",
                _ => "the list is not loaded",
            };
            let ede = Ede { code: ede::NOT_READY, text: [&rule.text, ": ", why] };
            return Replaced::Ended(rcode::SERVFAIL, ExtendedError::Own(ede));
        }
        self.blocked_by = Some(rule);
        let written = match (&rule.response, effect(rule, &entry, self.context.client.transport)) {
            (_, Effect::Entry(RpzAction::Drop)) => return Replaced::Dropped,
            (_, Effect::Entry(RpzAction::TcpOnly)) => {
                self.reply.truncate();
                Ok(Replaced::Ended(rcode::NOERROR, ExtendedError::None))
            }
            (_, Effect::Entry(RpzAction::NxDomain)) | (Response::NxDomain, _) => {
                self.negative_block(rule.block_ttl, rcode::NXDOMAIN)
            }
            (_, Effect::Entry(RpzAction::Local(_))) => self.local_data(inspection.filter.lists, rule, &entry),
            (Response::Override { target, ttl }, _) => self.redirect(target, *ttl, rule.block_ttl),
            (Response::NoData | Response::OfEntry, _) => self.negative_block(rule.block_ttl, rcode::NOERROR),
        };
        written.unwrap_or_else(|Full| {
            self.reply.truncate();
            Replaced::Ended(rcode::NOERROR, ExtendedError::None)
        })
    }

    /// Writes the SOA record of a blocked name.
    fn negative_block(&mut self, ttl: u32, code: u16) -> Result<Replaced<'s>, Full> {
        let [serial, refresh, retry, expire] = SOA;
        self.soa_record(Section::Authority, HEADER, ttl, CONTACT, [serial, refresh, retry, expire, ttl])?;
        Ok(Replaced::Ended(code, ExtendedError::None))
    }

    /// Writes a CNAME record to a target in wire format, whose first label `*` stands for the query name.
    fn redirect(&mut self, target: &[u8], ttl: u32, block_ttl: u32) -> Result<Replaced<'s>, Full> {
        let mut expanded = [0; 2 * MAX_NAME + 2];
        let target = match target {
            [1, b'*', rest @ ..] => {
                let mut name = [0; 256];
                let len = expand_name(self.reply.written(), HEADER, &mut name) - 1;
                expanded[..len].copy_from_slice(&name[..len]);
                let end = len + rest.len();
                if end > MAX_NAME {
                    // The name in front of the target is too long for a name.
                    return self.negative_block(block_ttl, rcode::NXDOMAIN);
                }
                expanded[len..end].copy_from_slice(rest);
                &expanded[..end]
            }
            target => target,
        };
        let data = self.reply.record(Section::Answer, pointer::to(HEADER), rtype::CNAME, ttl, &[target])?;
        Ok(match self.qtype {
            rtype::CNAME | rtype::ANY => Replaced::Ended(rcode::NOERROR, ExtendedError::None),
            _ => Replaced::Target(data),
        })
    }

    /// Writes the records that a response policy zone has for a name or an address.
    fn local_data(&mut self, lists: &'s Lists, rule: &'s Rule, entry: &MatchedEntry<'s>) -> Result<Replaced<'s>, Full> {
        let Condition::List(Some(list)) = rule.condition else {
            return self.negative_block(rule.block_ttl, rcode::NOERROR);
        };
        let of_address = |kind, entry: &'s AddressEntry| Some(lists.address_data(list, kind, entry));
        let (of_name, of_address, of_server) = match *entry {
            MatchedEntry::Name(ref found) => (Some(lists.local_data(found)), None, None),
            MatchedEntry::Client(entry) => (None, of_address(AddressKind::Client, entry), None),
            MatchedEntry::Answer(entry) => (None, of_address(AddressKind::Answer, entry), None),
            MatchedEntry::ServerAddress(entry) => (None, of_address(AddressKind::NameServer, entry), None),
            MatchedEntry::ServerName(entry) => (None, None, Some(lists.server_data(list, entry))),
            MatchedEntry::Block(_) | MatchedEntry::Found(_) | MatchedEntry::Unready => (None, None, None),
        };
        let before = self.reply.count(Section::Answer);
        let of_address = of_address.into_iter().flatten().chain(of_server.into_iter().flatten());
        for record in of_name.into_iter().flatten().chain(of_address) {
            if record.rtype == rtype::CNAME {
                return self.redirect(&record.rdata, record.ttl, rule.block_ttl);
            }
            if record.rtype == self.qtype || self.qtype == rtype::ANY {
                let owner = pointer::to(HEADER);
                self.reply.record(Section::Answer, owner, record.rtype, record.ttl, &[&record.rdata])?;
            }
        }
        match self.reply.count(Section::Answer) == before {
            true => self.negative_block(rule.block_ttl, rcode::NOERROR),
            false => Ok(Replaced::Ended(rcode::NOERROR, ExtendedError::None)),
        }
    }
}

#[cfg(test)]
mod tests;
