//! Compares the rules with answers of other servers: with their addresses, and with the name servers that recursion learned.

use super::{Filter, Judged, MatchedEntry};
use crate::{
    answer::{
        dns64::record_at,
        explanation,
        known::KnownAnswers,
        name_servers::NameServers,
        resolve::Resolver,
        trace::{Stage, Trace},
    },
    snapshot::firewall::{rules::Condition, table::ListState},
    wire::{
        dns64::{Dns64Prefix, WELL_KNOWN},
        rdata::rtype,
    },
};
use std::net::{IpAddr, Ipv6Addr};

/// The IPv4 address inside an IPv6 address, if the IPv6 address is IPv4-mapped or made by NAT64.
fn embedded(address: Ipv6Addr, prefix: Option<&Dns64Prefix>) -> Option<IpAddr> {
    let of_nat64 = |prefix: &Dns64Prefix| prefix.extract(address).map(IpAddr::from);
    let mapped = address.to_ipv4_mapped().map(IpAddr::from);
    mapped.or_else(|| prefix.and_then(of_nat64)).or_else(|| of_nat64(&WELL_KNOWN))
}

/// Adds the rules whose lists have an entry for a name server. If a list has several such entries, an entry for a name
/// decides, and then the [preferred](MatchedEntry::is_before) entry for an address. An entry of the same list for an address in
/// the answer decides before both (draft-vixie-dnsop-dns-rpz-00, section 5.5).
fn judge_servers<'s>(
    filter: &Filter<'s>,
    servers: &NameServers,
    (hop, qtype, last): (usize, u16, u32),
    judged: &mut Judged<'s>,
) {
    let Filter { rules, lists, .. } = *filter;
    let before = rules.of_servers.iter().copied().take_while(|index| *index < last);
    for (index, rule) in before.filter_map(|index| Some((index, rules.rule(index)?))) {
        let Condition::List(Some(list)) = rule.condition else { continue };
        if !rule.applies(hop, qtype) || rule.state != ListState::Loaded {
            continue;
        }
        let mut names = servers.levels().flat_map(|level| &level.names);
        if let Some(entry) = names.find_map(|name| lists.server_name(list, name)) {
            judged.add(index, rule, MatchedEntry::ServerName(entry));
        }
        for address in servers.levels().flat_map(|level| &level.addresses) {
            if let Some(entry) = lists.server_address(list, *address) {
                judged.add(index, rule, MatchedEntry::ServerAddress(entry));
            }
        }
    }
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Inspects the answer of other servers for the current name: the addresses in the records from `start` on, and the name
    /// servers that recursion learned. Returns whether a rule blocks the answer.
    #[inline]
    pub fn blocks_answer(&mut self, start: usize) -> bool {
        match (&self.firewall, self.answered_by_others) {
            (Some(inspection), Some(is_internet))
                // TRUST concerns only the names that follow the first name of the chain.
                if (!inspection.filter.rules.of_answers.is_empty() || self.servers.is_some())
                    && (!inspection.is_trusted || self.link == 0) =>
            {
                self.inspect_answer(start, is_internet)
            }
            _ => false,
        }
    }

    #[cold]
    fn inspect_answer(&mut self, start: usize, is_internet: bool) -> bool {
        let Some(inspection) = &self.firewall else { return false };
        let filter @ Filter { rules, lists, .. } = inspection.filter;
        let (hop, qtype) = (self.link, self.qtype);
        // A rule on addresses does not count if it comes after the rule that allowed the name.
        let last = inspection.passed_by;
        let mut judged = Judged::NOTHING;
        let mut judge = |address: IpAddr| {
            let before = rules.of_answers.iter().copied().take_while(|index| *index < last);
            for (index, rule) in before.filter_map(|index| Some((index, rules.rule(index)?))) {
                if !rule.applies(hop, qtype) || rule.state != ListState::Loaded {
                    continue;
                }
                let entry = match rule.condition {
                    Condition::List(Some(list)) => lists.answer_address(list, address).map(MatchedEntry::Answer),
                    Condition::List(None) | Condition::Detector { .. } => None,
                    Condition::Addresses { .. } => {
                        rule.block_of(address, is_internet).copied().map(MatchedEntry::Block)
                    }
                };
                if let Some(entry) = entry {
                    judged.add(index, rule, entry);
                }
            }
        };
        let written = self.reply.written();
        let mut at = start;
        while let Some((found, _, data)) = record_at(written, at) {
            at = data.end;
            match found {
                rtype::A => {
                    if let Ok(octets) = <[u8; 4]>::try_from(&written[data]) {
                        judge(octets.into());
                    }
                }
                rtype::AAAA => {
                    if let Ok(octets) = <[u8; 16]>::try_from(&written[data]) {
                        let address = Ipv6Addr::from(octets);
                        judge(address.into());
                        if let Some(address) = embedded(address, self.dns64) {
                            judge(address);
                        }
                    }
                }
                _ => {}
            }
        }
        self.trace.notes(Stage::Firewall, || explanation::firewall::addresses(rules, &judged, last, is_internet));
        if let Some(servers) = self.servers.take() {
            judge_servers(&filter, &servers, (hop, qtype, last), &mut judged);
            self.trace.notes(Stage::Firewall, || explanation::firewall::servers(rules, &judged, last));
        }
        if judged.decided.is_none() && judged.shadows[0].is_none() {
            return false;
        }
        self.conclude(judged.decided, &judged.shadows)
    }
}
