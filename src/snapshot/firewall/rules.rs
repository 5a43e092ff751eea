//! The rules of each view, compiled.
//!
//! ```text
//! view -> RuleSet     the rules of its VPC's groups, in the order of evaluation; VPCs with equal groups share it
//!      -> Rule        refers to a list by its number in the table
//! ```
//!
//! Names are in no rule set: they are in the [table](super::table). A search there returns the lists that have a name, and
//! [`RuleSet::of_list`] returns the rules with a list.

use super::{
    detections::{Detections, threshold},
    table::{ListState, Lists},
};
use crate::{
    manifest::{
        BlockResponse, DnsThreatProtection, FirewallAction, FirewallRule, Id, Manifest, OnMissing, PlacedRuleGroup,
        RedirectionAction, Vpc, connectivity::Network,
    },
    snapshot::{
        networks::{ClientPath, Networks},
        views::{View, Views},
    },
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The index of no rule.
const NO_RULE: u32 = u32::MAX;

/// The names of a rule, its group and its list: the labels of its counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleLabel {
    /// The identifier of the rule group.
    pub group: Arc<str>,
    /// The name of the rule.
    pub rule: Arc<str>,
    /// The identifier of the list; empty for a rule without one.
    pub list: Arc<str>,
}

/// The condition of a rule.
#[derive(Debug)]
pub enum Condition {
    /// The name is in the list with this number; none if the table does not have the list.
    List(Option<u32>),
    /// Other servers answered with an address in one of these blocks.
    Addresses {
        /// The blocks.
        blocks: Box<[IpNet]>,
        /// Only answers of the internet resolver count.
        internet_only: bool,
    },
    /// A detector has counted at least this number within an hour.
    Detector {
        /// The detector.
        protection: DnsThreatProtection,
        /// Octets, or registered domains.
        threshold: u32,
    },
}

/// The response to a query that a rule blocks.
#[derive(Debug)]
pub enum Response {
    /// The one that the entry of an RPZ list says, and else NODATA.
    OfEntry,
    /// The name has no records of the type.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// A CNAME record.
    Override {
        /// Its target, in wire format. A first label `*` stands for the query name.
        target: Box<[u8]>,
        /// Its TTL in seconds.
        ttl: u32,
    },
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its names.
    pub label: Arc<RuleLabel>,
    /// The index of its names in [`Firewall::labels`]. It is the same in all later snapshots.
    pub slot: u32,
    /// The names for people, as in the extended error of a blocked query.
    pub text: Box<str>,
    /// The condition.
    pub condition: Condition,
    /// The query types; empty: all.
    pub qtypes: Box<[u16]>,
    /// The action.
    pub action: FirewallAction,
    /// The response, for BLOCK.
    pub response: Response,
    /// The TTL of negative responses, in seconds.
    pub block_ttl: u32,
    /// The rule looks at the first name of a chain only.
    pub is_trusting: bool,
    /// A match is counted only, and the evaluation goes on.
    pub is_shadow: bool,
    /// Why the rule cannot judge a name. [`ListState::Loaded`] if it can.
    pub state: ListState,
    /// What happens while it cannot.
    pub on_missing: OnMissing,
    /// The list has entries for addresses of clients.
    pub has_clients: bool,
    /// The list has entries for addresses in answers.
    pub has_answers: bool,
    /// The list has entries for name servers.
    pub has_servers: bool,
    /// The next rule with the same list.
    next_of_list: u32,
}

impl Rule {
    /// Whether it looks at a name of a chain for queries of a type. `hop` is 0 for the query's own name.
    #[inline]
    pub fn applies(&self, hop: usize, qtype: u16) -> bool {
        (hop == 0 || !self.is_trusting) && (self.qtypes.is_empty() || self.qtypes.contains(&qtype))
    }

    /// Whether other servers' answers with an address meet its condition. `is_internet`: the internet resolver answered.
    #[inline]
    pub fn block_of(&self, address: IpAddr, is_internet: bool) -> Option<&IpNet> {
        match &self.condition {
            Condition::Addresses { blocks, internet_only } if is_internet || !internet_only => {
                blocks.iter().find(|block| block.contains(&address))
            }
            _ => None,
        }
    }
}

/// A rule group, and where its rules are in a [`RuleSet`].
#[derive(Debug)]
pub struct PlacedGroup {
    /// Its identifier.
    pub id: Arc<str>,
    /// The priority of its association.
    pub priority: u32,
    /// The Profile that it comes from; none: it is associated with the VPC itself.
    pub profile: Option<Id>,
    /// The index behind its last rule.
    pub end: u32,
}

/// The rules of a view.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// The rules, in the order of evaluation.
    pub rules: Box<[Rule]>,
    /// The groups of the rules, in the same order.
    pub groups: Box<[PlacedGroup]>,
    /// A query that the rules cannot judge is answered.
    pub fails_open: bool,
    /// Nobody reads lists from their sources: rules with a list that is not there are ignored.
    pub is_offline: bool,
    /// The first rule with each list, by the number of the list.
    first_of_list: Box<[u32]>,
    /// The rules that cannot judge a name and do not skip it, in order.
    pub unready: Box<[u32]>,
    /// The rules that look at addresses of clients, in order.
    pub of_clients: Box<[u32]>,
    /// The rules that look at addresses in answers, in order.
    pub of_answers: Box<[u32]>,
    /// The rules that look at the name servers of a name, in order.
    pub of_servers: Box<[u32]>,
    /// The rules that look at findings of detectors, in order.
    pub of_detectors: Box<[u32]>,
    /// No rule is a shadow, and none has a detector: one rule of those with a matching entry decides.
    pub is_plain: bool,
}

impl RuleSet {
    /// The rules with a list, in order, each with its index.
    #[inline]
    pub fn of_list(&self, list: u32) -> impl Iterator<Item = (u32, &Rule)> {
        let mut next = self.first_of_list.get(list as usize).copied().unwrap_or(NO_RULE);
        std::iter::from_fn(move || {
            let rule = self.rules.get(next as usize)?;
            let index = next;
            next = rule.next_of_list;
            Some((index, rule))
        })
    }

    /// The thresholds of the rules with a detector that come before the rule with index `end`, in the order of the rules.
    pub fn thresholds(&self, protection: DnsThreatProtection, end: u32) -> impl Iterator<Item = u32> {
        let before = self.of_detectors.iter().take_while(move |index| **index < end);
        let rules = before.filter_map(|index| self.rule(*index));
        rules.filter_map(move |rule| match rule.condition {
            Condition::Detector { protection: own, threshold } => (own == protection).then_some(threshold),
            _ => None,
        })
    }

    /// A rule by its index.
    #[inline]
    pub fn rule(&self, index: u32) -> Option<&Rule> {
        self.rules.get(index as usize)
    }

    fn new(groups: &[PlacedRuleGroup], fails_open: bool, input: &Input, labels: &mut Labels) -> RuleSet {
        let Input { manifest, lists, is_offline, .. } = *input;
        let mut set = RuleSet { fails_open, is_offline, ..RuleSet::default() };
        let (mut rules, mut placed) = (Vec::new(), Vec::new());
        for group in groups {
            let id: Arc<str> = group.id.as_str().into();
            let mut of_group: Vec<&FirewallRule> = group.resource.rules.iter().collect();
            of_group.sort_by_key(|rule| rule.priority);
            rules.extend(of_group.into_iter().map(|rule| compile_rule(&id, rule, manifest, lists, labels)));
            let profile = group.profile.cloned();
            placed.push(PlacedGroup { id, priority: group.priority, profile, end: rules.len() as u32 });
        }
        // From the last rule to the first one, so that each rule with a list refers to the next.
        let mut first: Vec<u32> = Vec::new();
        for (index, rule) in rules.iter_mut().enumerate().rev() {
            let Condition::List(Some(list)) = rule.condition else { continue };
            let at = list as usize;
            if first.len() <= at {
                first.resize(at + 1, NO_RULE);
            }
            rule.next_of_list = std::mem::replace(&mut first[at], index as u32);
        }
        let indexes = |is_wanted: &dyn Fn(&Rule) -> bool| -> Box<[u32]> {
            (0..).zip(&rules).filter(|(_, rule)| is_wanted(rule)).map(|(index, _)| index).collect()
        };
        let fails =
            |rule: &Rule| rule.state != ListState::Loaded && rule.on_missing == OnMissing::Fail && !rule.is_shadow;
        set.unready = indexes(&|rule| !is_offline && fails(rule));
        set.of_clients = indexes(&|rule| rule.has_clients);
        set.of_answers = indexes(&|rule| rule.has_answers || matches!(rule.condition, Condition::Addresses { .. }));
        set.of_servers = indexes(&|rule| rule.has_servers);
        set.of_detectors = indexes(&|rule| matches!(rule.condition, Condition::Detector { .. }));
        set.is_plain = set.of_detectors.is_empty() && !rules.iter().any(|rule| rule.is_shadow);
        set.first_of_list = first.into();
        set.rules = rules.into();
        set.groups = placed.into();
        set
    }
}

fn compile_rule(
    group: &Arc<str>,
    rule: &FirewallRule,
    manifest: &Manifest,
    lists: &Lists,
    labels: &mut Labels,
) -> Rule {
    let list = rule.firewall_domain_list_id.as_deref();
    let label = RuleLabel { group: group.clone(), rule: (*rule.name).into(), list: list.unwrap_or("").into() };
    let detector = rule.dns_threat_protection.zip(rule.confidence_threshold);
    let text = match (list, detector) {
        (Some(list), _) => format!("rule {} of {group}, list {list}", rule.name),
        (None, Some((protection, confidence))) => {
            format!("rule {} of {group}, {protection} at {confidence}", rule.name)
        }
        (None, None) => format!("rule {} of {group}", rule.name),
    };
    let (label, slot) = labels.slot(label);
    let number = list.and_then(|list| lists.number(list));
    let condition = match (list, detector) {
        (Some(_), _) => Condition::List(number),
        (None, Some((protection, confidence))) => {
            Condition::Detector { protection, threshold: threshold(protection, confidence) }
        }
        (None, None) => {
            let (blocks, internet_only) = (rule.answer_addresses.as_slice().into(), rule.internet_only);
            Condition::Addresses { blocks, internet_only }
        }
    };
    let data = number.and_then(|number| lists.data(number));
    Rule {
        label,
        slot,
        text: text.into(),
        condition,
        qtypes: rule.qtypes.iter().map(|qtype| qtype.0).collect(),
        action: rule.action,
        response: match (rule.block_response, &rule.block_override_domain) {
            (None, _) => Response::OfEntry,
            (Some(BlockResponse::NxDomain), _) => Response::NxDomain,
            (Some(BlockResponse::Override), Some(target)) => {
                Response::Override { target: target.as_wire().into(), ttl: rule.block_override_ttl }
            }
            (Some(BlockResponse::NoData | BlockResponse::Override), _) => Response::NoData,
        },
        block_ttl: rule.block_ttl,
        is_trusting: rule.redirection_action == RedirectionAction::Trust,
        is_shadow: rule.shadow,
        state: match (list, number) {
            (None, _) => ListState::Loaded,
            (Some(_), None) => ListState::Missing,
            (Some(_), Some(number)) => lists.state(number),
        },
        on_missing: list
            .and_then(|list| manifest.firewall_domain_lists.get(list))
            .map_or(OnMissing::Fail, |list| list.on_missing),
        has_clients: data.is_some_and(|data| !data.clients.is_empty()),
        has_answers: data.is_some_and(|data| !data.answers.is_empty()),
        has_servers: data.is_some_and(|data| !data.servers.is_empty()),
        next_of_list: NO_RULE,
    }
}

fn fails_open(manifest: &Manifest, vpc: &Vpc) -> bool {
    manifest.setting_of(vpc, vpc.firewall_fail_open, |profile| profile.firewall_fail_open).unwrap_or(false)
}

/// What decides a rule set: its groups, and the fail mode.
type SetKey<'m> = (Vec<(u32, Option<&'m Id>, &'m Id)>, bool);

/// The labels of rules, with their slots.
struct Labels {
    all: Vec<Arc<RuleLabel>>,
    slots: HashMap<Arc<RuleLabel>, u32>,
}

impl Labels {
    fn slot(&mut self, label: RuleLabel) -> (Arc<RuleLabel>, u32) {
        if let Some((label, slot)) = self.slots.get_key_value(&label) {
            return (label.clone(), *slot);
        }
        let (label, slot) = (Arc::new(label), self.all.len() as u32);
        self.all.push(label.clone());
        self.slots.insert(label.clone(), slot);
        (label, slot)
    }
}

/// The input of a compilation.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Its networks.
    pub networks: &'a Networks,
    /// Its views.
    pub views: &'a Views,
    /// The names of its lists.
    pub lists: &'a Lists,
    /// Nobody reads lists from their sources.
    pub is_offline: bool,
}

/// The rules of all views.
#[derive(Debug, Default)]
pub struct Firewall {
    /// The rule set of each view, by the slot of the view. Empty if no view has rules.
    views: Box<[Option<Arc<RuleSet>>]>,
    /// The findings of the detectors for each view, by the slot of the view. Empty if no rule has a detector.
    detections: Box<[Option<Detections>]>,
    /// The findings for the clients of each VPC that has a rule with a detector.
    of_vpcs: BTreeMap<Id, Detections>,
    /// The labels of all rules of this process, by slot.
    pub labels: Arc<Vec<Arc<RuleLabel>>>,
}

impl Firewall {
    /// Whether no query is filtered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The rules of a view. `None` if its queries are not filtered.
    #[inline]
    pub fn of(&self, view: &View) -> Option<&RuleSet> {
        let rules = self.views.get(view.slot as usize)?.as_deref()?;
        // A delegation endpoint and an inbound endpoint of one VPC can have the same slot.
        (view.path != ClientPath::InboundDelegation).then_some(rules)
    }

    /// The findings of the detectors for the clients of a view. `None` if no rule of the view has a detector.
    #[inline]
    pub fn detections(&self, view: &View) -> Option<&Detections> {
        self.detections.get(view.slot as usize)?.as_ref()
    }

    /// Compiles the rules of a manifest. Rules keep the slots that they have in `previous`, and VPCs their findings.
    pub(in crate::snapshot) fn compile(input: &Input, previous: &Firewall) -> Firewall {
        let Input { manifest, networks, views, .. } = *input;
        let labels = &previous.labels;
        let groups = manifest.rule_groups_of_vpcs();
        if groups.is_empty() {
            return Firewall { labels: labels.clone(), ..Firewall::default() };
        }
        let mut known = Labels { all: labels.to_vec(), slots: labels.iter().cloned().zip(0..).collect() };
        // VPCs with equal groups and an equal fail mode share a rule set.
        let mut shared: HashMap<SetKey, Arc<RuleSet>> = HashMap::new();
        let mut of_vpcs: HashMap<&str, Arc<RuleSet>> = HashMap::new();
        for (vpc, groups) in &groups {
            let Some(resource) = manifest.vpcs.get(vpc.as_str()) else { continue };
            let fails_open = fails_open(manifest, resource);
            let key = groups.iter().map(|group| (group.priority, group.profile, group.id)).collect();
            let make = || Arc::new(RuleSet::new(groups, fails_open, input, &mut known));
            of_vpcs.insert(vpc, shared.entry((key, fails_open)).or_insert_with(make).clone());
        }
        let mut findings: BTreeMap<Id, Detections> = BTreeMap::new();
        for (vpc, _) in of_vpcs.iter().filter(|(_, rules)| !rules.of_detectors.is_empty()) {
            findings.insert((*vpc).into(), previous.of_vpcs.get(*vpc).cloned().unwrap_or_default());
        }
        let mut detections = vec![None; if findings.is_empty() { 0 } else { views.labels.len() }];
        let mut of_views: Vec<Option<Arc<RuleSet>>> = vec![None; views.labels.len()];
        for view in views.iter().filter(|view| view.path != ClientPath::InboundDelegation) {
            let Network::Vpc(vpc) = &networks.info(view.vpc).network else { continue };
            if let Some(at) = of_views.get_mut(view.slot as usize) {
                *at = of_vpcs.get(vpc.as_str()).cloned();
            }
            if let Some(at) = detections.get_mut(view.slot as usize) {
                *at = findings.get(vpc.as_str()).cloned();
            }
        }
        let is_same = known.all.len() == labels.len();
        let labels = if is_same { labels.clone() } else { Arc::new(known.all) };
        Firewall { views: of_views.into(), detections: detections.into(), of_vpcs: findings, labels }
    }

    /// All rules that are in use, each once.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let mut seen = std::collections::HashSet::new();
        let sets = self.views.iter().flatten().filter(move |set| seen.insert(Arc::as_ptr(set)));
        let mut slots = std::collections::HashSet::new();
        sets.flat_map(|set| &set.rules).filter(move |rule| slots.insert(rule.slot))
    }
}

#[cfg(test)]
mod tests;
