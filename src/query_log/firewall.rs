//! The DNS Firewall matches of an entry: from the trace of an answer to the octets in a ring, and from there to JSON and to
//! dnstap's policy.

use super::json::string;
use crate::{
    answer::{
        firewall::{Finding, FirewallOutcome, entry_text},
        query_log_trace::{LoggedEntry, LoggedMatch, read_firewall},
    },
    manifest::DnsThreatProtection,
    snapshot::firewall::rules::RuleLabel,
    wire::name::{labels, name_text},
};
use ipnet::IpNet;
use std::{io::Write as _, sync::Arc};

/// Copies the matches of a trace into `out`, each with the identifiers of its rule.
#[cold]
pub fn write(traced: &[u8], labels: &[Arc<RuleLabel>], out: &mut Vec<u8>) {
    out.clear();
    for (octets, found) in read_firewall(traced) {
        let Some(label) = labels.get(found.slot as usize) else { continue };
        for part in [octets, label.group.as_bytes(), label.rule.as_bytes(), label.list.as_bytes()] {
            let part = &part[..part.len().min(u16::MAX.into())];
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
}

/// A match, with the identifiers of its rule.
pub struct FirewallRecord<'a> {
    found: LoggedMatch<'a>,
    group: &'a str,
    rule: &'a str,
    list: &'a str,
}

/// Reads the matches that [`write`] wrote.
pub fn read(mut octets: &[u8]) -> impl Iterator<Item = FirewallRecord<'_>> {
    fn part<'a>(octets: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (len, rest) = octets.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        *octets = rest;
        Some(part)
    }
    std::iter::from_fn(move || {
        let (_, found) = read_firewall(part(&mut octets)?).next()?;
        let mut text = || std::str::from_utf8(part(&mut octets)?).ok();
        Some(FirewallRecord { found, group: text()?, rule: text()?, list: text()? })
    })
}

impl FirewallRecord<'_> {
    /// The entry of the list, or the block of addresses; empty without one.
    fn entry(&self) -> String {
        match &self.found.entry {
            LoggedEntry::Name { labels, below_only } => entry_text(self.found.name, *labels, *below_only),
            LoggedEntry::ServerName { name, below_only } => entry_text(name, labels(name).count() as u8, *below_only),
            LoggedEntry::Client(block)
            | LoggedEntry::Answer(block)
            | LoggedEntry::ServerAddress(block)
            | LoggedEntry::Block(block) => block.to_string(),
            LoggedEntry::Found(found) => entry_text(self.found.name, found.labels, false),
            LoggedEntry::Unready => String::new(),
        }
    }

    /// The block of addresses that matched.
    fn block(&self) -> Option<&IpNet> {
        match &self.found.entry {
            LoggedEntry::Client(block)
            | LoggedEntry::Answer(block)
            | LoggedEntry::ServerAddress(block)
            | LoggedEntry::Block(block) => Some(block),
            LoggedEntry::Name { .. }
            | LoggedEntry::ServerName { .. }
            | LoggedEntry::Found(_)
            | LoggedEntry::Unready => None,
        }
    }

    /// The order in which matches decide about an entry: a block, a report, a permission, and then those without effect.
    fn rank(&self) -> u8 {
        match self.found.outcome {
            FirewallOutcome::Block => 0,
            FirewallOutcome::Alert => 1,
            FirewallOutcome::Allow => 2,
            FirewallOutcome::FailClosed | FirewallOutcome::FailOpen => 3,
            FirewallOutcome::Shadow => 4,
        }
    }

    /// The action in the schema of Route 53; none if the rule had no effect.
    fn action(&self) -> Option<&'static str> {
        match self.found.outcome {
            FirewallOutcome::Block => Some("BLOCK"),
            FirewallOutcome::Alert => Some("ALERT"),
            FirewallOutcome::Allow => Some("ALLOW"),
            FirewallOutcome::FailClosed | FirewallOutcome::FailOpen | FirewallOutcome::Shadow => None,
        }
    }
}

/// Writes the members of Route 53's schema for the match that decides.
pub fn members(firewall: &[u8], out: &mut Vec<u8>) {
    let Some(record) = read(firewall).min_by_key(FirewallRecord::rank) else { return };
    let Some(action) = record.action() else { return };
    out.extend_from_slice(b",\"firewall_rule_action\":");
    string(action, out);
    out.extend_from_slice(b",\"firewall_rule_group_id\":");
    string(record.group, out);
    if !record.list.is_empty() {
        out.extend_from_slice(b",\"firewall_domain_list_id\":");
        string(record.list, out);
    }
}

/// The rule that blocked or reported a query.
pub struct Reported<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its name.
    pub rule: &'a str,
    /// The name that matched, in wire format.
    pub name: &'a [u8],
    /// The rule matched because of what the client did before, and not because of the name's domain.
    pub is_about_client: bool,
}

/// The rule that blocked or reported the query.
pub fn reported(firewall: &[u8]) -> Option<Reported<'_>> {
    let record = read(firewall).min_by_key(FirewallRecord::rank)?;
    let is_reported = matches!(record.found.outcome, FirewallOutcome::Block | FirewallOutcome::Alert);
    let is_generated = |found: &Finding| found.protection == DnsThreatProtection::Dga;
    let is_about_client = matches!(&record.found.entry, LoggedEntry::Found(found) if is_generated(found));
    let FirewallRecord { group, rule, .. } = record;
    is_reported.then_some(Reported { group, rule, name: record.found.name, is_about_client })
}

/// Writes the member `firewall` of `zonal`: all matches.
pub fn matches(firewall: &[u8], out: &mut Vec<u8>) {
    if firewall.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"firewall\":[");
    for (position, record) in read(firewall).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let outcome = FirewallOutcome::LABELS.iter().find(|(outcome, _)| *outcome == record.found.outcome);
        out.extend_from_slice(b"{\"outcome\":");
        string(outcome.map_or("", |(_, label)| label), out);
        for (member, text) in [
            (&b",\"group\":"[..], record.group),
            (b",\"rule\":", record.rule),
            (b",\"list\":", record.list),
            (b",\"entry\":", &record.entry()),
            (b",\"name\":", &name_text(record.found.name)),
        ] {
            if !text.is_empty() {
                out.extend_from_slice(member);
                string(text, out);
            }
        }
        if record.found.line > 0 {
            let _ = write!(out, ",\"line\":{}", record.found.line);
        }
        if let LoggedEntry::Found(Finding { protection, numbers, threshold, .. }) = record.found.entry {
            let amount = match protection {
                DnsThreatProtection::DnsTunneling => "octets_per_hour",
                DnsThreatProtection::Dga | DnsThreatProtection::DictionaryDga => "domains_per_hour",
            };
            let _ = write!(
                out,
                ",\"dns_threat_protection\":\"{protection}\",\"{amount}\":{},\"names\":{},\"threshold\":{threshold}",
                numbers.amount, numbers.names
            );
        }
        let shadow = record.found.outcome == FirewallOutcome::Shadow;
        let _ = write!(out, ",\"hop\":{},\"shadow\":{shadow}}}", record.found.hop);
    }
    out.push(b']');
}

/// `Policy` of dnstap.proto.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Policy {
    #[prost(string, optional, tag = "1")]
    kind: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    rule: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    action: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    matched: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "5")]
    value: Option<Vec<u8>>,
}

/// The numbers of `Policy.Action` of dnstap.proto.
mod action {
    pub const NXDOMAIN: i32 = 1;
    pub const NODATA: i32 = 2;
    pub const PASS: i32 = 3;
    pub const DROP: i32 = 4;
    pub const TRUNCATE: i32 = 5;
    pub const LOCAL_DATA: i32 = 6;
}

/// The numbers of `Policy.Match` of dnstap.proto.
mod matched {
    pub const QNAME: i32 = 1;
    pub const CLIENT_IP: i32 = 2;
    pub const RESPONSE_IP: i32 = 3;
    pub const NS_NAME: i32 = 4;
    pub const NS_IP: i32 = 5;
}

/// The policy of an entry, for dnstap; none without a match. `reply` is the answer.
pub fn policy(firewall: &[u8], reply: &[u8]) -> Option<Policy> {
    let record = read(firewall).min_by_key(FirewallRecord::rank)?;
    let header = |at: usize| reply.get(at).copied().unwrap_or(0);
    let action = match record.found.outcome {
        FirewallOutcome::Block if reply.is_empty() => action::DROP,
        FirewallOutcome::Block if header(2) & 2 != 0 => action::TRUNCATE,
        FirewallOutcome::Block if header(6) | header(7) != 0 => action::LOCAL_DATA,
        FirewallOutcome::Block if header(3) & 15 == 3 => action::NXDOMAIN,
        FirewallOutcome::Block => action::NODATA,
        _ => action::PASS,
    };
    let matched = match record.found.entry {
        LoggedEntry::Name { .. } | LoggedEntry::Found(_) => Some(matched::QNAME),
        LoggedEntry::Client(_) => Some(matched::CLIENT_IP),
        LoggedEntry::Answer(_) | LoggedEntry::Block(_) => Some(matched::RESPONSE_IP),
        LoggedEntry::ServerName { .. } => Some(matched::NS_NAME),
        LoggedEntry::ServerAddress(_) => Some(matched::NS_IP),
        LoggedEntry::Unready => None,
    };
    let value = match (record.block(), record.found.entry) {
        (Some(block), _) => block.to_string().into_bytes(),
        (None, LoggedEntry::ServerName { name, .. }) => name.to_vec(),
        (None, _) => record.found.name.to_vec(),
    };
    Some(Policy {
        kind: Some("zonal".into()),
        rule: Some(format!("{}/{}", record.group, record.rule).into_bytes()),
        action: Some(action),
        matched,
        value: matched.map(|_| value),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A match as a trace has it: slot 0, a block of the rule with this number, and a name.
    fn traced(outcome: u8, kind: u8, labels: u8, below: u8) -> Vec<u8> {
        let mut octets = vec![0, 0, 0, 0, outcome, 1, kind, labels, below, 7, 0, 0, 0, 4, 8];
        octets.extend_from_slice(&u128::from(u32::from_be_bytes([10, 0, 0, 0])).to_le_bytes());
        let name = b"\x01x\x03bad\x07example\0";
        octets.push(name.len() as u8);
        octets.extend_from_slice(name);
        octets
    }

    /// A match with this number of an outcome.
    pub fn reported_by(outcome: u8) -> Vec<u8> {
        traced(outcome, 0, 2, 1)
    }

    /// The octets of a match in an entry.
    pub fn written(traced: &[u8]) -> Vec<u8> {
        let label = RuleLabel { group: "g".into(), rule: "r\"".into(), list: "l".into() };
        let mut out = Vec::new();
        write(traced, &[Arc::new(label)], &mut out);
        out
    }

    fn text(f: impl Fn(&[u8], &mut Vec<u8>), firewall: &[u8]) -> String {
        let mut out = Vec::new();
        f(firewall, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn matches_have_their_entry_and_the_strongest_decides() {
        let all = [traced(3, 0, 0, 0), traced(2, 0, 2, 1), traced(0, 0, 3, 0)].concat();
        let firewall = written(&all);
        assert_eq!(
            text(members, &firewall),
            r#","firewall_rule_action":"BLOCK","firewall_rule_group_id":"g","firewall_domain_list_id":"l""#
        );
        let rest = r#""name":"x.bad.example.","line":7,"hop":1,"shadow""#;
        let ids = r#""group":"g","rule":"r\"","list":"l""#;
        let expected = format!(
            ",\"firewall\":[{{\"outcome\":\"shadow\",{ids},\"entry\":\"*\",{rest}:true}},\
             {{\"outcome\":\"block\",{ids},\"entry\":\"*.bad.example.\",{rest}:false}},\
             {{\"outcome\":\"allow\",{ids},\"entry\":\"x.bad.example.\",{rest}:false}}]"
        );
        assert_eq!(text(matches, &firewall), expected);
        assert_eq!(text(members, &written(&traced(3, 0, 0, 0))), "", "a shadow rule has no action");
        assert_eq!((text(matches, &[]), text(members, &[])), (String::new(), String::new()));
    }

    #[test]
    fn a_finding_of_a_detector_has_its_numbers() {
        let firewall = written(&traced(1, 5, 2, 0));
        let text = text(matches, &firewall);
        let numbers = r#""dns_threat_protection":"DNS_TUNNELING","octets_per_hour":2052,"names":2560,"threshold":0"#;
        assert!(text.contains(r#""entry":"bad.example.""#) && text.contains(numbers), "{text}");
        let policy = policy(&firewall, &[0; 12]).unwrap();
        assert_eq!((policy.action, policy.matched), (Some(3), Some(1)));
    }

    #[test]
    fn the_policy_of_dnstap_has_the_action_of_the_answer() {
        let reply = |flags: [u8; 2], answers: u8| [0, 0, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
        for (outcome, kind, reply, action, matched) in [
            (2, 0, reply([0x80, 0x83], 0), 1, Some(1)),
            (2, 0, reply([0x80, 0x80], 0), 2, Some(1)),
            (2, 1, reply([0x80, 0x80], 1), 6, Some(2)),
            (2, 3, reply([0x82, 0x80], 0), 5, Some(3)),
            (0, 0, reply([0x80, 0x83], 0), 3, Some(1)),
            (4, 4, reply([0x80, 0x82], 0), 3, None),
        ] {
            let policy = policy(&written(&traced(outcome, kind, 2, 0)), &reply).unwrap();
            assert_eq!((policy.action, policy.matched), (Some(action), matched), "{outcome} {kind}");
            assert_eq!(policy.rule.unwrap(), b"g/r\"");
            let value = match kind {
                1 | 3 => Some(b"10.0.0.0/8".to_vec()),
                4 => None,
                _ => Some(b"\x01x\x03bad\x07example\0".to_vec()),
            };
            assert_eq!(policy.value, value);
        }
        assert_eq!(policy(&written(&traced(2, 0, 2, 0)), &[]).unwrap().action, Some(action::DROP));
    }

    proptest! {
        #[test]
        fn reads_any_octets(octets: Vec<u8>, change: usize, value: u8) {
            let _ = read(&octets).count();
            let mut firewall = written(&traced(2, 1, 200, 1));
            let at = change % firewall.len();
            firewall[at] = value;
            let _ = (text_len(&firewall), policy(&firewall, &octets));
        }
    }

    fn text_len(firewall: &[u8]) -> usize {
        let mut out = Vec::new();
        matches(firewall, &mut out);
        members(firewall, &mut out);
        out.len()
    }
}
