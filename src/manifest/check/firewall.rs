//! Checks of DNS Firewall: lists, rules, their order, and what they hide.

use super::Checker;
use crate::{
    manifest::{
        BlockResponse, DnsThreatProtection, DomainSpecification, FirewallAction, FirewallDomainList,
        FirewallListFormat, FirewallListSource, FirewallRule, FirewallRuleGroup, Id, Manifest, PlacedRuleGroup,
        PrivateDnsScope, Problem, RedirectionAction, VpcEndpoint, changes, connectivity::Network,
    },
    wire::{
        Name,
        rdata::{rtype, type_to_text},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

const LISTS: &str = "firewall_domain_lists";
const GROUPS: &str = "firewall_rule_groups";
const PROFILES: &str = "profiles";
/// The largest number of rules in a group. AWS allows 100.
const MAX_RULES: usize = 1000;
/// The largest number of rule groups of a VPC. AWS allows 5.
const MAX_GROUPS: usize = 100;
/// The largest TTL of a response to a blocked query, in seconds, as in AWS.
const MAX_TTL: u32 = 604_800;
/// The shortest time between two downloads, and the shortest age at which a copy expires, in seconds.
const MIN_REFRESH: u32 = 60;
/// The number of pairs of rules that are compared.
const MAX_PAIRS: usize = 1_000_000;
/// The number of warnings about the order of rules.
const MAX_REPORTED: usize = 100;
/// The number of hidden resources that a warning names.
const MAX_NAMED: usize = 5;

/// The rule groups of each VPC, in the order in which zonal evaluates them.
type GroupsOfVpcs<'a> = BTreeMap<&'a Id, Vec<PlacedRuleGroup<'a>>>;

/// A rule with its group and its position in the manifest.
type PlacedRule<'a> = (&'a Id, usize, &'a FirewallRule);

impl<'a> Checker<'a> {
    pub(super) fn firewall(&mut self) {
        let manifest = self.manifest;
        for (id, list) in &manifest.firewall_domain_lists {
            self.domain_list(id, list);
        }
        for (id, group) in &manifest.firewall_rule_groups {
            self.rule_group(id, group);
        }
        self.associations();
        let groups = manifest.rule_groups_of_vpcs();
        self.equal_priorities(&groups);
        self.alerts_before_blocks(&groups);
        self.hidden_by_blocks(&groups);
        self.unused_lists();
    }

    fn domain_list(&mut self, id: &Id, list: &FirewallDomainList) {
        match (&list.source, list.domains.is_empty()) {
            (Some(_), false) => {
                self.error(LISTS, id, "domains", "a list with a `source` has no names of its own");
                self.help("remove `domains` or `source`");
            }
            (Some(source), true) => self.list_source(id, source),
            (None, true) => {
                self.warning(LISTS, id, "", "the list is empty: no name matches it");
                self.help("write names into `domains`, or a `source`");
            }
            (None, false) => {
                let mut seen = HashSet::new();
                let twice = list.domains.iter().enumerate().filter(|(_, domain)| !seen.insert(*domain));
                for (at, domain) in twice.take(MAX_NAMED) {
                    self.warning(LISTS, id, format!("domains[{at}]"), format!("`{domain}` is in the list twice"));
                }
            }
        }
    }

    fn list_source(&mut self, id: &Id, source: &FirewallListSource) {
        let FirewallListSource { file, url, primaries, zone, format, refresh, expires_after } = source;
        let given = usize::from(file.is_some()) + usize::from(url.is_some()) + usize::from(!primaries.is_empty());
        if given != 1 {
            self.error(LISTS, id, "source", "expected exactly one source");
            self.help("write one of `file`, `url` and `primaries`");
            return;
        }
        if let Some(url) = url {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let host = host.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
            let is_plain = url.bytes().all(|octet| octet > b' ' && octet < 0x7f);
            if host.is_none_or(|host| host.is_empty() || host.contains('@')) || !is_plain {
                self.error(LISTS, id, "source.url", "expected a URL such as https://lists.example/malware.txt");
            }
        }
        let needs_zone = !primaries.is_empty();
        if needs_zone && zone.is_none() {
            self.error(LISTS, id, "source.zone", "missing: the name of the response policy zone to transfer");
            self.help("add `zone`");
        }
        let is_rpz = needs_zone || *format == Some(FirewallListFormat::Rpz);
        if zone.is_some() && !is_rpz {
            self.error(LISTS, id, "source.zone", "only a list of format `rpz` has a zone");
        }
        if let Some(format) = format
            && needs_zone
            && *format != FirewallListFormat::Rpz
        {
            self.error(LISTS, id, "source.format", "a list from `primaries` has the format `rpz`");
        }
        for (field, seconds) in [("refresh", refresh), ("expires_after", expires_after)] {
            let Some(seconds) = *seconds else { continue };
            if url.is_none() {
                self.error(LISTS, id, format!("source.{field}"), "only a list from a `url` has it");
            } else if seconds < MIN_REFRESH {
                self.error(LISTS, id, format!("source.{field}"), format!("expected at least {MIN_REFRESH} seconds"));
            }
        }
        if let (Some(refresh), Some(expires_after)) = (*refresh, *expires_after)
            && expires_after < refresh
        {
            let message = format!("each copy expires after {expires_after} seconds, before the next download");
            self.warning(LISTS, id, "source.expires_after", message);
        }
    }

    fn rule_group(&mut self, id: &Id, group: &FirewallRuleGroup) {
        if group.rules.len() > MAX_RULES {
            let message = format!("the group has {} rules; expected at most {MAX_RULES}", group.rules.len());
            self.error(GROUPS, id, "rules", message);
            return;
        }
        let (mut names, mut priorities) = (BTreeMap::new(), BTreeMap::new());
        for (at, rule) in group.rules.iter().enumerate() {
            let field = |name: &str| format!("rules[{at}].{name}");
            if rule.name.is_empty() || rule.name.len() > 64 || rule.name.chars().any(char::is_control) {
                self.error(GROUPS, id, field("name"), "expected 1 to 64 octets without control characters");
            }
            if let Some(first) = names.insert(&rule.name, at) {
                self.error(GROUPS, id, field("name"), format!("rules[{first}] has the name `{}` too", rule.name));
            }
            if let Some(first) = priorities.insert(rule.priority, at) {
                let (priority, other) = (rule.priority, &group.rules[first].name);
                self.error(GROUPS, id, field("priority"), format!("rule `{other}` has priority {priority} too"));
                self.help("give each rule of the group its own priority");
            }
            self.rule(id, &field, rule);
        }
    }

    fn rule(&mut self, id: &Id, field: &dyn Fn(&str) -> String, rule: &FirewallRule) {
        let manifest = self.manifest;
        let has_addresses = !rule.answer_addresses.is_empty();
        match (&rule.firewall_domain_list_id, has_addresses, rule.dns_threat_protection) {
            (Some(list), false, None) => {
                let field = field("firewall_domain_list_id");
                self.reference((GROUPS, id), field, "firewall domain list", list, &manifest.firewall_domain_lists);
            }
            (None, true, None) | (None, false, Some(_)) => {}
            (None, false, None) => {
                self.error(GROUPS, id, field("firewall_domain_list_id"), "the rule matches nothing");
                self.help("add `firewall_domain_list_id`, `answer_addresses` or `dns_threat_protection`");
            }
            (Some(_), true, _) => {
                self.error(GROUPS, id, field("answer_addresses"), "a rule with a list of names has no addresses");
                self.help("write two rules");
            }
            (_, _, Some(_)) => {
                let message = "a rule with a detector has no list of names and no addresses";
                self.error(GROUPS, id, field("dns_threat_protection"), message);
                self.help("write two rules");
            }
        }
        self.detector(id, field, rule);
        if rule.internet_only && !has_addresses {
            self.error(GROUPS, id, field("internet_only"), "only a rule with `answer_addresses` has it");
        }
        if has_addresses && rule.redirection_action == RedirectionAction::Trust {
            self.error(GROUPS, id, field("redirection_action"), "only a rule with a list of names has it");
        }
        let is_address_type = |qtype: u16| matches!(qtype, rtype::A | rtype::AAAA | rtype::ANY);
        if has_addresses && !rule.qtypes.is_empty() && !rule.qtypes.iter().any(|qtype| is_address_type(qtype.0)) {
            self.warning(GROUPS, id, field("qtypes"), "answers to these types have no addresses: nothing matches");
        }
        for (at, qtype) in rule.qtypes.iter().enumerate() {
            if rule.qtypes[..at].contains(qtype) {
                let message = format!("`{}` is in the list twice", type_to_text(qtype.0));
                self.warning(GROUPS, id, field(&format!("qtypes[{at}]")), message);
            }
        }
        self.block_response(id, field, rule);
    }

    fn detector(&mut self, id: &Id, field: &dyn Fn(&str) -> String, rule: &FirewallRule) {
        let Some(protection) = rule.dns_threat_protection else {
            if rule.confidence_threshold.is_some() {
                let message = "only a rule with `dns_threat_protection` has it";
                self.error(GROUPS, id, field("confidence_threshold"), message);
            }
            return;
        };
        if protection == DnsThreatProtection::DictionaryDga {
            let message = "zonal does not detect names that an algorithm makes of words: such a name does not differ from a \
                           name of a person, and only data about registrations would tell";
            self.error(GROUPS, id, field("dns_threat_protection"), message);
            self.help("remove the rule, or write a rule with a list of names in its place");
        }
        if rule.confidence_threshold.is_none() {
            self.error(GROUPS, id, field("confidence_threshold"), "missing");
            self.help("add `confidence_threshold: HIGH`, MEDIUM or LOW");
        }
        if rule.action == FirewallAction::Allow {
            self.error(GROUPS, id, field("action"), "a rule with a detector cannot have the action ALLOW");
            self.help("write ALERT or BLOCK; to exempt names, put an ALLOW rule with a list in front");
        }
        if rule.redirection_action == RedirectionAction::Trust {
            self.error(GROUPS, id, field("redirection_action"), "only a rule with a list of names has it");
        }
    }

    fn block_response(&mut self, id: &Id, field: &dyn Fn(&str) -> String, rule: &FirewallRule) {
        let is_block = rule.action == FirewallAction::Block;
        let is_override = rule.block_response == Some(BlockResponse::Override);
        if rule.block_response.is_some() && !is_block {
            let message = format!("a rule with the action {} does not replace answers", rule.action);
            self.error(GROUPS, id, field("block_response"), message);
        }
        if is_override && rule.block_override_domain.is_none() {
            self.error(GROUPS, id, field("block_override_domain"), "missing: the target of the CNAME record");
            self.help("add `block_override_domain`");
        }
        let fields = [
            ("block_override_domain", rule.block_override_domain.is_some()),
            ("block_override_ttl", rule.block_override_ttl != 0),
        ];
        for (name, _) in fields.into_iter().filter(|(_, is_given)| *is_given && !is_override) {
            self.error(GROUPS, id, field(name), "only a rule with `block_response: OVERRIDE` has it");
        }
        if let Some(name) = &rule.block_override_domain
            && name.labels().skip(1).any(|label| label == b"*")
        {
            self.error(GROUPS, id, field("block_override_domain"), "`*` can only be the first label");
        }
        for (name, ttl) in [("block_override_ttl", rule.block_override_ttl), ("block_ttl", rule.block_ttl)] {
            if ttl > MAX_TTL {
                self.error(GROUPS, id, field(name), format!("expected at most {MAX_TTL} seconds"));
            }
        }
    }

    /// Checks the associations.
    fn associations(&mut self) {
        let manifest = self.manifest;
        let mut groups: BTreeMap<&Id, Vec<(u32, &Id)>> = BTreeMap::new();
        for (id, group) in &manifest.firewall_rule_groups {
            let mut seen = BTreeSet::new();
            for (at, association) in group.vpc_associations.iter().enumerate() {
                let field = |name: &str| format!("vpc_associations[{at}].{name}");
                let vpc = &association.vpc_id;
                if !seen.insert(vpc) {
                    self.error(GROUPS, id, field("vpc_id"), format!("the group is associated with `{vpc}` twice"));
                    continue;
                }
                if self.reference((GROUPS, id), field("vpc_id"), "VPC", vpc, &manifest.vpcs).is_none() {
                    continue;
                }
                let of_vpc = groups.entry(vpc).or_default();
                if let Some((priority, other)) = of_vpc.iter().find(|other| other.0 == association.priority) {
                    let message = format!("group `{other}` has priority {priority} in `{vpc}` too");
                    self.error(GROUPS, id, field("priority"), message);
                    self.help("give each rule group of a VPC its own priority");
                }
                of_vpc.push((association.priority, id));
                if of_vpc.len() == MAX_GROUPS + 1 {
                    let message = format!("`{vpc}` has more than {MAX_GROUPS} rule groups");
                    self.error(GROUPS, id, field("vpc_id"), message);
                }
            }
        }
    }

    /// Warns of groups of Profiles that have the priority of another group of the same VPC.
    fn equal_priorities(&mut self, groups: &GroupsOfVpcs<'a>) {
        let mut reported = BTreeSet::new();
        for (vpc, groups) in groups {
            for pair in groups.windows(2) {
                let [first, second] = pair else { continue };
                let Some(profile) = second.profile.filter(|_| first.priority == second.priority) else { continue };
                // VPCs with the same Profiles have the same warnings.
                let key = (profile, second.id, first.profile, first.id);
                if reported.len() == MAX_REPORTED || !reported.insert(key) {
                    continue;
                }
                let members = self.manifest.profiles.get(profile).map_or(&[][..], |of| &of.firewall_rule_groups);
                let Some(at) = members.iter().position(|member| member.id == *second.id) else { continue };
                let owner = match first.profile {
                    Some(profile) => format!("Profile `{profile}`"),
                    None => format!("`{vpc}`"),
                };
                let message =
                    format!("group `{}` of {owner} has priority {} too: it comes first", first.id, first.priority);
                self.warning(PROFILES, profile, format!("firewall_rule_groups[{at}].priority"), message);
                self.help("give each rule group of a VPC and of its Profiles its own priority");
            }
        }
    }

    /// Warns of ALERT rules that end the evaluation for names which a later rule blocks.
    fn alerts_before_blocks(&mut self, groups: &GroupsOfVpcs<'a>) {
        let mut compared: HashMap<(&Id, &Id), Option<&DomainSpecification>> = HashMap::new();
        let mut indexes: HashMap<&Id, Arc<Specifications>> = HashMap::new();
        let mut reported: BTreeSet<(&Id, usize, &Id, usize)> = BTreeSet::new();
        // VPCs with equal groups have equal warnings.
        let mut seen: HashSet<Vec<&Id>> = HashSet::new();
        let mut pairs = 0;
        for groups in groups.values().filter(|groups| seen.insert(groups.iter().map(|group| group.id).collect())) {
            let rules = in_order(groups);
            let alerts = |(_, _, rule): &PlacedRule| rule.action == FirewallAction::Alert && !rule.shadow;
            for at in (0..rules.len()).filter(|at| alerts(&rules[*at])) {
                let (alert_group, alert_at, alert) = rules[at];
                let Some(alert_list) = &alert.firewall_domain_list_id else { continue };
                pairs += rules.len() - at;
                if pairs > MAX_PAIRS {
                    return;
                }
                for (group, block_at, block) in &rules[at + 1..] {
                    let Some(list) = block.firewall_domain_list_id.as_ref() else { continue };
                    let share_types = alert.qtypes.is_empty()
                        || block.qtypes.is_empty()
                        || alert.qtypes.iter().any(|qtype| block.qtypes.contains(qtype));
                    if block.action != FirewallAction::Block || !share_types {
                        continue;
                    }
                    let common = match alert_list == list {
                        true => None,
                        false => {
                            let found = *compared.entry((alert_list, list)).or_insert_with(|| {
                                let alerted = indexes
                                    .entry(alert_list)
                                    .or_insert_with(|| Arc::new(Specifications::new(self.domains_of(alert_list))));
                                self.domains_of(list).iter().find(|domain| alerted.contain(domain))
                            });
                            match found {
                                Some(found) => Some(found),
                                None => continue,
                            }
                        }
                    };
                    if !reported.insert((alert_group, alert_at, *group, *block_at)) || reported.len() > MAX_REPORTED {
                        continue;
                    }
                    let names = match common {
                        None => format!("the names of `{list}`"),
                        Some(name) => format!("names such as `{name}`"),
                    };
                    let message =
                        format!("ALERT ends the evaluation: rule `{}` of `{group}` does not block {names}", block.name);
                    self.warning(GROUPS, alert_group, format!("rules[{alert_at}].action"), message);
                    self.help(
                        "to try a rule, write `shadow: true` in place of ALERT: the evaluation goes on behind it",
                    );
                }
            }
        }
    }

    /// The names that are written in a list.
    fn domains_of(&self, list: &str) -> &'a [DomainSpecification] {
        self.manifest.firewall_domain_lists.get(list).map_or(&[], |list| &list.domains)
    }

    /// Warns of zones and endpoints that a rule hides which blocks all names.
    fn hidden_by_blocks(&mut self, groups: &GroupsOfVpcs<'a>) {
        let manifest = self.manifest;
        let mut judged = 0;
        for (vpc, groups) in groups {
            let rules = in_order(groups);
            let blocks_all = |(_, _, rule): &PlacedRule| {
                let list = rule.firewall_domain_list_id.as_ref();
                rule.action == FirewallAction::Block
                    && !rule.shadow
                    && rule.qtypes.is_empty()
                    && list.is_some_and(|list| self.domains_of(list).iter().any(DomainSpecification::is_all))
            };
            let Some(at) = rules.iter().position(blocks_all) else { continue };
            judged += 1;
            if judged > MAX_REPORTED {
                return;
            }
            let mut allowed = Vec::new();
            let mut is_known = true;
            for (_, _, rule) in &rules[..at] {
                let Some(list) = rule.firewall_domain_list_id.as_ref() else { continue };
                if rule.action != FirewallAction::Block && !rule.shadow {
                    is_known &= manifest.firewall_domain_lists.get(list).is_none_or(|list| list.source.is_none());
                    allowed.extend(self.domains_of(list));
                }
            }
            if !is_known {
                continue; // the names of an earlier list are not in the manifest
            }
            let allowed = Allowed::new(allowed);
            let is_hidden = |name: &Name| !allowed.meets(name);
            let zones = manifest.private_hosted_zones.iter();
            let zones = zones.filter(|(_, zone)| zone.vpc_ids.contains(vpc) && is_hidden(&zone.name));
            let mut hidden: Vec<String> = zones.map(|(id, zone)| format!("zone `{id}` ({})", zone.name)).collect();
            for (id, endpoint) in &manifest.vpc_endpoints {
                let service = manifest.vpc_endpoint_services.get(&endpoint.service_name);
                let names = service.map_or(&[][..], |service| &service.private_dns_names);
                if super::endpoints::has_private_names(endpoint)
                    && let Some(name) = names.iter().find(|name| is_hidden(name))
                    && self.is_in_scope(endpoint, vpc)
                {
                    hidden.push(format!("endpoint `{id}` ({name})"));
                }
            }
            if hidden.is_empty() {
                continue;
            }
            let more = match hidden.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            hidden.truncate(MAX_NAMED);
            let (group, rule_at, rule) = rules[at];
            let message = format!(
                "rule `{}` blocks all names: clients of `{vpc}` do not see {}{more}",
                rule.name,
                hidden.join(", ")
            );
            self.warning(GROUPS, group, format!("rules[{rule_at}].firewall_domain_list_id"), message);
            self.help("put an ALLOW rule with their names in front of it");
        }
    }

    /// Whether the views of a VPC have the private names of an endpoint.
    fn is_in_scope(&self, endpoint: &VpcEndpoint, vpc: &Id) -> bool {
        match &endpoint.private_dns_scope {
            PrivateDnsScope::Vpc => endpoint.vpc_id == *vpc,
            PrivateDnsScope::Vpcs(ids) => ids.contains(vpc),
            PrivateDnsScope::Connected => {
                let (viewing, home) = (Network::Vpc(vpc.clone()), Network::Vpc(endpoint.vpc_id.clone()));
                viewing == home || self.connectivity.reaches(&viewing, &home)
            }
        }
    }

    fn unused_lists(&mut self) {
        let manifest = self.manifest;
        let rules = manifest.firewall_rule_groups.values().flat_map(|group| &group.rules);
        let used: BTreeSet<&Id> = rules.filter_map(|rule| rule.firewall_domain_list_id.as_ref()).collect();
        for id in manifest.firewall_domain_lists.keys().filter(|id| !used.contains(id)) {
            self.warning(LISTS, id, "", "no rule uses the list");
            self.help("name it in the `firewall_domain_list_id` of a rule");
        }
    }
}

/// The rules of a VPC's groups, in the order in which zonal evaluates them.
fn in_order<'a>(groups: &[PlacedRuleGroup<'a>]) -> Vec<PlacedRule<'a>> {
    let mut all = Vec::new();
    for PlacedRuleGroup { id, resource, .. } in groups {
        let mut rules: Vec<(usize, &FirewallRule)> = resource.rules.iter().enumerate().collect();
        rules.sort_by_key(|(_, rule)| rule.priority);
        all.extend(rules.into_iter().map(|(at, rule)| (*id, at, rule)));
    }
    all
}

/// Names that rules allow, to look up whether they meet a zone.
struct Allowed {
    names: HashSet<Box<[u8]>>,
    /// The names, and all names above them.
    above: HashSet<Box<[u8]>>,
}

impl Allowed {
    fn new(domains: Vec<&DomainSpecification>) -> Allowed {
        let mut allowed = Allowed { names: HashSet::new(), above: HashSet::new() };
        for domain in domains {
            let name = domain.name.to_lowercase();
            // The names above a known name are known.
            let _ = suffixes(name.as_wire()).try_for_each(|suffix| allowed.above.insert(suffix.into()).then_some(()));
            allowed.names.insert(name.as_wire().into());
        }
        allowed
    }

    /// Whether a name is at or below one of the names, or above it.
    fn meets(&self, name: &Name) -> bool {
        let name = name.to_lowercase();
        self.above.contains(name.as_wire()) || suffixes(name.as_wire()).any(|suffix| self.names.contains(suffix))
    }
}

/// A name in wire format, and all names above it up to the root.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |suffix| match suffix.split_first() {
        Some((&length, rest)) if length > 0 => rest.get(usize::from(length)..),
        _ => None,
    })
}

/// Names of a list, to look up which of them contain another list's names.
struct Specifications {
    exact: HashSet<Box<[u8]>>,
    below: HashSet<Box<[u8]>>,
}

impl Specifications {
    fn new(domains: &[DomainSpecification]) -> Specifications {
        let wire = |domain: &DomainSpecification| domain.name.to_lowercase().as_wire().into();
        let (below, exact): (Vec<_>, Vec<_>) = domains.iter().partition(|domain| domain.below_only);
        Specifications { exact: exact.into_iter().map(wire).collect(), below: below.into_iter().map(wire).collect() }
    }

    /// Whether they contain at least one name that a specification means.
    fn contain(&self, domain: &DomainSpecification) -> bool {
        let name = domain.name.to_lowercase();
        let is_below = |skip: usize| suffixes(name.as_wire()).skip(skip).any(|suffix| self.below.contains(suffix));
        match domain.below_only {
            true => is_below(0),
            // `*` means the root too.
            false => self.exact.contains(name.as_wire()) || is_below(usize::from(!name.is_root())),
        }
    }
}

/// The errors of a change that alters or removes protected associations of rule groups.
pub fn protected_associations(old: &Manifest, new: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    for change in changes(&old.firewall_rule_groups, &new.firewall_rule_groups) {
        let Some(before) = change.old else { continue };
        let after = change.new.map_or(&[][..], |group| &group.vpc_associations);
        for association in before.vpc_associations.iter().filter(|association| association.mutation_protection) {
            let is_kept =
                after.iter().any(|other| other.vpc_id == association.vpc_id && other.priority == association.priority);
            if is_kept {
                continue;
            }
            let message = format!(
                "the association with `{}` is protected: the change removes it, or alters its priority",
                association.vpc_id
            );
            let mut problem = Problem::error(GROUPS, change.id, "vpc_associations", message);
            problem.help = Some("first apply a change that only sets `mutation_protection: false`".into());
            problems.push(problem);
        }
    }
    problems
}

#[cfg(test)]
mod tests;
