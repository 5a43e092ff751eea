//! The texts of the steps about DNS Firewall: every group and rule, and why it matches or not.

use crate::{
    answer::{
        Transport,
        firewall::{self, Effect, Filter, Finding, Judged, MatchedEntry, Subject, effect},
    },
    manifest::{DnsThreatProtection, OnMissing},
    snapshot::firewall::{
        detections::client_key,
        rules::{Condition, PlacedGroup, Response, Rule, RuleSet},
        table::{ListState, RpzAction},
    },
    wire::{
        name::{labels, name_text},
        query::LookupName,
        rdata::type_to_text,
    },
};
use std::sync::Arc;

/// An entry for the names of name servers, as the list has it.
pub fn server_text(name: &[u8], below_only: bool) -> String {
    firewall::entry_text(name, labels(name).count() as u8, below_only)
}

/// The entry of a list, as the list has it.
fn entry_text(entry: &MatchedEntry, name: &LookupName) -> String {
    match entry {
        MatchedEntry::Name(found) => firewall::entry_text(name.wire(), found.entry_labels, found.below_only),
        MatchedEntry::Client(entry) | MatchedEntry::Answer(entry) | MatchedEntry::ServerAddress(entry) => {
            entry.block.to_string()
        }
        MatchedEntry::ServerName(entry) => server_text(&entry.name, entry.below_only),
        MatchedEntry::Block(block) => block.to_string(),
        MatchedEntry::Found(found) => firewall::entry_text(name.wire(), found.labels, false),
        MatchedEntry::Unready => String::new(),
    }
}

/// The line of an entry in its list. `None` for an entry that is in no list.
fn entry_line(entry: &MatchedEntry) -> Option<u32> {
    match entry {
        MatchedEntry::Name(found) => Some(found.line),
        MatchedEntry::Client(entry) | MatchedEntry::Answer(entry) | MatchedEntry::ServerAddress(entry) => {
            Some(entry.line)
        }
        MatchedEntry::ServerName(entry) => Some(entry.line),
        MatchedEntry::Block(_) | MatchedEntry::Found(_) | MatchedEntry::Unready => None,
    }
}

/// The numbers of a finding about a domain.
fn finding_text(found: &Finding, domain: &str) -> String {
    let Finding { numbers, threshold, .. } = found;
    match found.protection {
        DnsThreatProtection::DnsTunneling => format!(
            "{} octets in {} names below {domain} within an hour, threshold {threshold}",
            numbers.amount, numbers.names
        ),
        DnsThreatProtection::Dga | DnsThreatProtection::DictionaryDga => format!(
            "{domain} looks generated, and the client asked for {} such domains in vain within an hour, threshold {threshold}",
            numbers.amount
        ),
    }
}

fn described(entry: &MatchedEntry, name: &LookupName) -> String {
    let text = entry_text(entry, name);
    match (entry, entry_line(entry)) {
        (MatchedEntry::Found(found), _) => finding_text(found, &text),
        (MatchedEntry::Client(_), Some(line)) => format!("entry {text} for clients, line {line}"),
        (MatchedEntry::Answer(_), Some(line)) => format!("entry {text} for answers, line {line}"),
        (MatchedEntry::ServerName(_) | MatchedEntry::ServerAddress(_), Some(line)) => {
            format!("entry {text} for name servers, line {line}")
        }
        (_, Some(line)) => format!("entry `{text}`, line {line}"),
        (_, None) => format!("block {text}"),
    }
}

/// The text for the action that a rule takes when `entry` matches.
fn action_text(rule: &Rule, entry: &MatchedEntry) -> String {
    let response = match &rule.response {
        Response::OfEntry | Response::NoData => "NODATA".to_string(),
        Response::NxDomain => "NXDOMAIN".into(),
        Response::Override { target, .. } => format!("CNAME {}", name_text(target)),
    };
    match effect(rule, entry, Transport::Udp) {
        Effect::Allow => "ALLOW".into(),
        Effect::Alert => "ALERT".into(),
        Effect::Respond => format!("BLOCK with {response}"),
        Effect::Entry(action) => format!(
            "BLOCK with {}",
            match action {
                RpzAction::NxDomain => "NXDOMAIN",
                RpzAction::NoData => "NODATA",
                RpzAction::PassThru => "the answer itself",
                RpzAction::Drop => "no reply",
                RpzAction::TcpOnly => "a truncated reply by UDP",
                RpzAction::Local(_) => "the records of the list",
            }
        ),
    }
}

/// Why a rule with a detector does not match a name.
fn nothing_found(filter: &Filter, subject: &Subject, protection: DnsThreatProtection, threshold: u32) -> String {
    let Subject { name, source, now, .. } = *subject;
    if filter.rules.is_offline {
        return format!("the detector {protection} works in a server only; ignored here");
    }
    let Some(detections) = filter.detections else { return format!("there is no detector {protection}") };
    if protection == DnsThreatProtection::DnsTunneling {
        return match detections.tunnel_of(name, now) {
            Some((below, numbers)) => format!(
                "the detector {protection} counted {} octets in {} names below {} within an hour, threshold {threshold}",
                numbers.amount,
                numbers.names,
                name_text(name.suffix(below))
            ),
            None => format!("the detector {protection} has no finding about the domain, threshold {threshold} octets"),
        };
    }
    match detections.clients().get(client_key(source), now) {
        Some(numbers) if numbers.amount >= threshold => {
            format!("the detector {protection} has a finding about the client, but the domain does not look generated")
        }
        Some(numbers) => format!(
            "the client asked for {} domains in vain that look generated, within an hour, threshold {threshold}",
            numbers.amount
        ),
        None => format!("the detector {protection} has no finding about the client, threshold {threshold} domains"),
    }
}

fn group_text(group: &PlacedGroup) -> String {
    let from = group.profile.as_ref().map_or(String::new(), |profile| format!(" of Profile {profile}"));
    format!("rule group {}{from}, priority {}", group.id, group.priority)
}

/// The rules for a name of a chain, in order, each with the reason why it matches or not.
pub fn name(filter: &Filter, subject: &Subject) -> Vec<String> {
    let (rules, Subject { name, hop, qtype, .. }) = (filter.rules, *subject);
    let asked = name_text(name.wire());
    let mut lines = Vec::new();
    let judged = filter.judge(subject).unwrap_or(Judged::NOTHING);
    let mut decided = None;
    let mut first = 0;
    for group in &rules.groups {
        lines.push(group_text(group));
        for index in first..group.end {
            let Some(rule) = rules.rule(index) else { continue };
            let what = format!("rule {}", rule.label.rule);
            let list = &rule.label.list;
            let line = if let Some(by) = &decided {
                format!("{what}: not reached, because rule {by} ends the evaluation")
            } else if !rule.qtypes.is_empty() && !rule.qtypes.contains(&qtype) {
                format!("{what}: not for queries of type {}", type_to_text(qtype))
            } else if !rule.applies(hop, qtype) {
                format!("{what}: looks at the first name of a chain only (`redirection_action: TRUST`)")
            } else if matches!(rule.condition, Condition::Addresses { .. }) {
                format!("{what}: looks at the addresses of the answer")
            } else if rule.state != ListState::Loaded {
                unready(rule, rules, &mut decided, &what)
            } else {
                match (judged.entry_of(index), &rule.condition) {
                    (None, Condition::Detector { protection, threshold }) => {
                        format!("{what}: {}", nothing_found(filter, subject, *protection, *threshold))
                    }
                    (None, _) => format!("{what}: list {list} does not have {asked}"),
                    (Some(entry), condition) => {
                        let of = match condition {
                            Condition::Detector { protection, .. } => format!("of the detector {protection}"),
                            _ => format!("of list {list}"),
                        };
                        let (matched, action) = (described(&entry, name), action_text(rule, &entry));
                        match rule.is_shadow {
                            true => format!(
                                "{what}: {asked} matches {matched} {of}; the rule is a shadow of {action}: the evaluation goes on"
                            ),
                            false => {
                                decided = Some(rule.label.rule.clone());
                                format!("{what}: {asked} matches {matched} {of}: {action}")
                            }
                        }
                    }
                }
            };
            lines.push(line);
        }
        first = group.end;
    }
    lines
}

fn unready(rule: &Rule, rules: &RuleSet, decided: &mut Option<Arc<str>>, what: &str) -> String {
    let list = &rule.label.list;
    let why = match rule.state {
        ListState::Expired => format!("list {list} has expired"),
        _ => format!("list {list} is not loaded"),
    };
    if rules.is_offline {
        return format!("{what}: list {list} has a source, which a running server reads; ignored here");
    }
    match (rule.on_missing, rule.is_shadow, rules.fails_open) {
        (OnMissing::Skip, ..) => format!("{what}: {why}; ignored, because its `on_missing` is `skip`"),
        (_, true, _) => format!("{what}: {why}; ignored, because the rule is a shadow"),
        (_, _, true) => format!("{what}: {why}; ignored, because `firewall_fail_open` is true"),
        (_, _, false) => {
            *decided = Some(rule.label.rule.clone());
            format!("{what}: {why}: SERVFAIL, because `firewall_fail_open` is false")
        }
    }
}

/// The rules that zonal compared with the addresses in the answer of other servers.
pub fn addresses(rules: &RuleSet, judged: &Judged, last: u32, is_internet: bool) -> Vec<String> {
    let source = if is_internet { "the internet resolver" } else { "the servers of a rule" };
    compared(rules, &rules.of_answers, judged, last, ("an", &format!("address from {source}")), |_| true)
}

/// The rules that zonal compared with the name servers of a name. A list of one rule has one of these servers.
pub fn servers(rules: &RuleSet, judged: &Judged, last: u32) -> Vec<String> {
    compared(rules, &rules.of_servers, judged, last, ("a", "name server"), |entry| {
        matches!(entry, MatchedEntry::ServerName(_) | MatchedEntry::ServerAddress(_))
    })
}

/// The rules before `last` that zonal compared with a part of an answer: an article and the name of the part. `is_of_part` says
/// whether an entry is for this part.
fn compared(
    rules: &RuleSet,
    indexes: &[u32],
    judged: &Judged,
    last: u32,
    (article, part): (&str, &str),
    is_of_part: impl Fn(&MatchedEntry) -> bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    for index in indexes.iter().copied().take_while(|index| *index < last) {
        let Some(rule) = rules.rule(index) else { continue };
        let what = format!("rule {} of {}", rule.label.rule, rule.label.group);
        lines.push(match judged.entry_of(index).filter(&is_of_part) {
            Some(entry) => {
                let text = described(&entry, &LookupName::root());
                let goes_on = if rule.is_shadow { "; a shadow: the evaluation goes on" } else { "" };
                format!("{what}: {article} {part} matches {text}: {}{goes_on}", action_text(rule, &entry))
            }
            None if judged.decided.is_some_and(|(decided, _)| decided < index) => format!("{what}: not reached"),
            None => format!("{what}: no {part} matches"),
        });
    }
    lines
}
