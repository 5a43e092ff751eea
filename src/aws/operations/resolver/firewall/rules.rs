//! Rules of DNS Firewall. AWS tells the rules of a group by their domain list and query type; a rule with a detector has an
//! identifier of its own. A batch is one change of the manifest, with those of its entries that are valid.

use super::{MAX_RESULTS, group, invalid, list};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written, changed_part, edits, identifiers::derived, object,
            part, resolver::not_found,
        },
    },
    manifest::{BlockResponse, FirewallAction, FirewallRule, FirewallRuleGroup, RedirectionAction, Resource},
    wire::rdata::type_to_text,
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The member of a group's data that has the data of its rules, by name.
const DATA: &str = "rules";

/// The identifier of a rule with a detector. The first change stores it, so that it stays when the rule gets another name.
fn threat_protection_id(id: &str, group: &FirewallRuleGroup, rule: &FirewallRule) -> Option<String> {
    rule.dns_threat_protection?;
    let own = part(&group.aws, DATA, &rule.name).given_text("threat_protection_id");
    Some(own.map_or_else(|| derived("rslvr-ftp", &[id, &rule.name]), str::to_string))
}

fn value(id: &str, group: &FirewallRuleGroup, rule: &FirewallRule) -> Value {
    let data = part(&group.aws, DATA, &rule.name);
    let is_block = rule.action == FirewallAction::Block;
    let response = rule.block_response.unwrap_or(BlockResponse::NoData);
    let is_override = is_block && response == BlockResponse::Override;
    // A rule of AWS has all types, or one.
    let qtype = match rule.qtypes[..] {
        [qtype] => Some(type_to_text(qtype.0)),
        _ => None,
    };
    let redirection = match rule.redirection_action {
        RedirectionAction::Inspect => "INSPECT_REDIRECTION_DOMAIN",
        RedirectionAction::Trust => "TRUST_REDIRECTION_DOMAIN",
    };
    let target = rule.block_override_domain.as_ref().map(|name| name.to_string());
    let rule_type = rule.dns_threat_protection.map(|detector| {
        let config = json!({"Value": detector, "ConfidenceThreshold": rule.confidence_threshold});
        json!({"DnsThreatProtection": object(config)})
    });
    object(json!({
        "FirewallRuleGroupId": id,
        "FirewallDomainListId": rule.firewall_domain_list_id,
        "FirewallThreatProtectionId": threat_protection_id(id, group, rule),
        "DnsThreatProtection": rule.dns_threat_protection,
        "ConfidenceThreshold": rule.confidence_threshold,
        "FirewallRuleType": rule_type,
        "Name": rule.name,
        "Priority": rule.priority,
        "Action": rule.action,
        "BlockResponse": is_block.then_some(response),
        "BlockOverrideDomain": target.as_deref().map(|name| name.trim_end_matches('.')),
        "BlockOverrideDnsType": is_override.then_some("CNAME"),
        "BlockOverrideTtl": is_override.then_some(rule.block_override_ttl),
        "FirewallDomainRedirectionAction": redirection,
        "Qtype": qtype,
        "CreatorRequestId": data.given_text("creator_request_id"),
        "CreationTime": data.given_text("created"),
        "ModificationTime": data.given_text("modified"),
    }))
}

/// The detectors of zonal, as rule types: the value, its name for people, and what it detects.
const DETECTORS: [[&str; 3]; 2] = [
    ["DGA", "Domain generation algorithms", "Names that malware generates to find its servers"],
    ["DNS_TUNNELING", "DNS tunneling", "Queries that carry data to a name server, and back in its answers"],
];
/// The kinds of rule types in AWS. zonal has only the first one.
const RULE_TYPES: [&str; 4] = [
    "DnsThreatProtection",
    "FirewallAdvancedContentCategory",
    "FirewallAdvancedThreatCategory",
    "PartnerThreatProtection",
];

pub(super) fn list_types(_: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.given_text("RuleType");
    if let Some(unknown) = wanted.filter(|wanted| !RULE_TYPES.contains(wanted)) {
        return Err(invalid(format!("RuleType: '{unknown}' is unknown: expected one of {}", RULE_TYPES.join(", "))));
    }
    list(MAX_RESULTS, parameters, "FirewallRuleTypes", |after| {
        let after = after.map(str::to_string);
        let is_wanted = wanted.is_none_or(|wanted| wanted == RULE_TYPES[0]);
        let detectors = DETECTORS.into_iter().filter(move |_| is_wanted);
        detectors.filter(move |[value, ..]| after.as_ref().is_none_or(|after| *value > after.as_str())).map(
            |[value, name, description]| {
                let shown = json!({
                    "RuleType": RULE_TYPES[0], "Value": value, "DisplayName": name, "Description": description,
                });
                (value.to_string(), shown)
            },
        )
    })
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("FirewallRuleGroupId");
    let found = group(context, id)?;
    let matches = |value: &Value| {
        ["Priority", "Action"]
            .into_iter()
            .all(|name| parameters.get(name).is_none_or(|wanted| value.get(name) == Some(wanted)))
    };
    let mut rules: Vec<&FirewallRule> = found.rules.iter().collect();
    rules.sort_by_key(|rule| rule.priority);
    list(MAX_RESULTS, parameters, "FirewallRules", |after| {
        let after = after.map(str::to_string);
        let keyed = rules.into_iter().map(|rule| (format!("{:010}", rule.priority), value(id, found, rule)));
        keyed.filter(move |(key, value)| after.as_ref().is_none_or(|after| key > after) && matches(value))
    })
}

// Writes.

/// The groups that a request changes.
struct Changes<'c, 'a> {
    context: &'c Context<'a>,
    groups: BTreeMap<String, FirewallRuleGroup>,
}

/// A change by one entry of a request: the rule after it, or before it if the entry deletes it.
type Change<'c, 'a> = fn(&mut Changes<'c, 'a>, Parameters) -> Result<Value, ServiceError>;

impl<'c, 'a> Changes<'c, 'a> {
    fn new(context: &'c Context<'a>) -> Changes<'c, 'a> {
        Changes { context, groups: BTreeMap::new() }
    }

    /// The group of an entry, with the changes of the entries before.
    fn group(&mut self, id: &str) -> Result<&mut FirewallRuleGroup, ServiceError> {
        if !self.groups.contains_key(id) {
            let found = group(self.context, id)?;
            self.groups.insert(id.into(), (**found).clone());
        }
        self.groups.get_mut(id).ok_or_else(|| not_found("Firewall rule group", id))
    }

    fn edits(self) -> Vec<crate::manifest::collection::Edit> {
        let groups = self.groups.into_iter();
        groups.map(|(id, group)| edits::put(&id, Resource::FirewallRuleGroup(Arc::new(group)))).collect()
    }

    fn create(&mut self, given: Parameters) -> Result<Value, ServiceError> {
        let plain = plain(given)?;
        let given = Parameters(&plain);
        let id = given.text("FirewallRuleGroupId");
        let mut rule = Map::new();
        match (given.given_text("FirewallDomainListId"), given.given_text("DnsThreatProtection")) {
            (Some(list), None) => {
                let lists = &self.context.manifest().firewall_domain_lists;
                let found = lists.get(list).filter(|found| self.context.has(&found.aws, None));
                found.ok_or_else(|| not_found("Firewall domain list", list))?;
                rule.insert("firewall_domain_list_id".into(), list.into());
            }
            (None, Some(_)) => {}
            _ => return Err(invalid("expected one of FirewallDomainListId, DnsThreatProtection and FirewallRuleType")),
        }
        let time = self.context.time();
        let group = self.group(id)?;
        let is_repeated = |rule: &&FirewallRule| {
            let data = part(&group.aws, DATA, &rule.name);
            rule.name == given.text("Name")
                && data.given_text("creator_request_id") == given.given_text("CreatorRequestId")
        };
        if let Some(existing) = group.rules.iter().find(is_repeated) {
            return Ok(value(id, group, existing));
        }
        let rule = apply(given, rule)?;
        check(group, &rule, None)?;
        let data = object(json!({
            "creator_request_id": given.text("CreatorRequestId"),
            "threat_protection_id": threat_protection_id(id, group, &rule),
            "created": time,
            "modified": time,
        }));
        group.aws.set_in(DATA, &rule.name, Some(data));
        group.rules.push(rule.clone());
        Ok(value(id, group, &rule))
    }

    fn update(&mut self, given: Parameters) -> Result<Value, ServiceError> {
        let plain = plain(given)?;
        let given = Parameters(&plain);
        let id = given.text("FirewallRuleGroupId");
        let time = self.context.time();
        let group = self.group(id)?;
        let at = position(id, group, given)?;
        let old = &group.rules[at];
        let Ok(Value::Object(members)) = serde_json::to_value(old) else {
            return Err(invalid("the rule cannot be written as JSON"));
        };
        let rule = apply(given, members)?;
        check(group, &rule, Some(at))?;
        let mut data = changed_part(&group.aws, DATA, &old.name);
        data.insert("modified".into(), time.into());
        if let Some(id) = threat_protection_id(id, group, old) {
            data.insert("threat_protection_id".into(), id.into());
        }
        let old_name = old.name.clone();
        group.aws.set_in(DATA, &old_name, None);
        group.aws.set_in(DATA, &rule.name, Some(data.into()));
        group.rules[at] = rule.clone();
        Ok(value(id, group, &rule))
    }

    fn delete(&mut self, given: Parameters) -> Result<Value, ServiceError> {
        let id = given.text("FirewallRuleGroupId");
        let group = self.group(id)?;
        let at = position(id, group, given)?;
        let shown = value(id, group, &group.rules[at]);
        let rule = group.rules.remove(at);
        group.aws.set_in(DATA, &rule.name, None);
        Ok(shown)
    }
}

/// The parameters of an entry. Moves a detector from `FirewallRuleType` to the older parameters for detectors.
fn plain(given: Parameters) -> Result<Value, ServiceError> {
    let mut plain = given.0.clone();
    let Some(rule_type) = given.get("FirewallRuleType") else { return Ok(plain) };
    let others = ["FirewallDomainListId", "DnsThreatProtection"];
    if let Some(other) = others.into_iter().find(|other| given.get(other).is_some()) {
        return Err(invalid(format!("FirewallRuleType: a request with {other} cannot have it")));
    }
    let missing = || invalid("FirewallRuleType: the member DnsThreatProtection is missing");
    let detector = rule_type.get("DnsThreatProtection").ok_or_else(missing)?;
    for (member, parameter) in [("Value", "DnsThreatProtection"), ("ConfidenceThreshold", "ConfidenceThreshold")] {
        plain[parameter] = detector[member].clone();
    }
    Ok(plain)
}

/// The place of the rule with the list and the query type of an entry. The query type decides among rules with one list.
fn position(id: &str, group: &FirewallRuleGroup, given: Parameters) -> Result<usize, ServiceError> {
    if let Some(wanted) = given.given_text("FirewallThreatProtectionId") {
        let has_id = |rule: &FirewallRule| threat_protection_id(id, group, rule).as_deref() == Some(wanted);
        return group.rules.iter().position(has_id).ok_or_else(|| not_found("Firewall threat protection", wanted));
    }
    let list = given.given_text("FirewallDomainListId");
    let list = list.ok_or_else(|| invalid("expected FirewallDomainListId or FirewallThreatProtectionId"))?;
    let qtype = given.given_text("Qtype");
    let rules = group.rules.iter().enumerate();
    let of_list = rules.filter(|(_, rule)| rule.firewall_domain_list_id.as_deref() == Some(list));
    let of_list: Vec<(usize, &FirewallRule)> = of_list.collect();
    let has_type = |rule: &FirewallRule| match qtype {
        None => rule.qtypes.is_empty(),
        Some(qtype) => rule.qtypes.iter().any(|own| type_to_text(own.0).eq_ignore_ascii_case(qtype)),
    };
    let found = of_list.iter().find(|(_, rule)| has_type(rule));
    let only = || of_list.first().filter(|_| of_list.len() == 1);
    found.or_else(only).map(|(at, _)| *at).ok_or_else(|| {
        let with_type = qtype.map_or(String::new(), |qtype| format!(" and the query type {qtype}"));
        not_found(&format!("Firewall rule of {id} with a list{with_type}, and the list"), list)
    })
}

/// A rule with the members of an entry. Members that AWS's API does not have stay.
fn apply(given: Parameters, mut rule: Map<String, Value>) -> Result<FirewallRule, ServiceError> {
    let plain = [
        ("Name", "name"),
        ("Priority", "priority"),
        ("Action", "action"),
        ("DnsThreatProtection", "dns_threat_protection"),
        ("ConfidenceThreshold", "confidence_threshold"),
    ];
    for (member, field) in plain {
        if let Some(value) = given.get(member) {
            rule.insert(field.into(), value.clone());
        }
    }
    if let Some(qtype) = given.get("Qtype") {
        rule.insert("qtypes".into(), json!([qtype]));
    }
    if let Some(word) = given.given_text("FirewallDomainRedirectionAction") {
        let word = if word == "TRUST_REDIRECTION_DOMAIN" { "TRUST" } else { "INSPECT" };
        rule.insert("redirection_action".into(), word.into());
    }
    let blocks = [
        ("BlockResponse", "block_response"),
        ("BlockOverrideDomain", "block_override_domain"),
        ("BlockOverrideTtl", "block_override_ttl"),
    ];
    if rule.get("action") != Some(&json!("BLOCK")) {
        if let Some((member, _)) = blocks.iter().find(|(member, _)| given.get(member).is_some()) {
            return Err(invalid(format!("{member}: only a rule with the action BLOCK has it")));
        }
        blocks.iter().for_each(|(_, field)| drop(rule.remove(*field)));
    } else {
        if let Some(response) = given.get("BlockResponse") {
            rule.insert("block_response".into(), response.clone());
        }
        let is_override = rule.get("block_response") == Some(&json!("OVERRIDE"));
        for (member, field) in &blocks[1..] {
            match given.get(member) {
                Some(_) if !is_override => {
                    return Err(invalid(format!("{member}: only a rule with the response OVERRIDE has it")));
                }
                Some(value) => drop(rule.insert((*field).into(), value.clone())),
                None if !is_override => drop(rule.remove(*field)),
                None => {}
            }
        }
        if !rule.contains_key("block_response") {
            return Err(invalid(
                "BlockResponse: it is missing; a rule with the action BLOCK has NODATA, NXDOMAIN or OVERRIDE",
            ));
        }
        if is_override && !rule.contains_key("block_override_domain") {
            return Err(invalid("BlockOverrideDomain: it is missing; the response OVERRIDE needs it"));
        }
    }
    serde_json::from_value(Value::Object(rule)).map_err(|failure| invalid(format!("the rule is invalid: {failure}")))
}

/// Checks that no other rule of the group has the name, the priority, or the list and types of a rule.
fn check(group: &FirewallRuleGroup, rule: &FirewallRule, own: Option<usize>) -> Result<(), ServiceError> {
    for (_, other) in group.rules.iter().enumerate().filter(|(at, _)| Some(*at) != own) {
        let message = if other.priority == rule.priority {
            format!("Priority: the rule `{}` has the priority {} too", other.name, rule.priority)
        } else if other.name == rule.name {
            format!("Name: the group has a rule with the name `{}`", rule.name)
        } else if rule.firewall_domain_list_id.is_some()
            && other.firewall_domain_list_id == rule.firewall_domain_list_id
            && other.qtypes == rule.qtypes
        {
            format!("FirewallDomainListId: the rule `{}` has the same list and query type", other.name)
        } else {
            continue;
        };
        return Err(invalid(message));
    }
    Ok(())
}

fn change<'c, 'a>(context: &'c Context<'a>, parameters: Parameters, change: Change<'c, 'a>) -> WriteResult {
    let mut changes = Changes::new(context);
    let rule = change(&mut changes, parameters)?;
    Ok(Written { edits: changes.edits(), result: json!({"FirewallRule": rule}) })
}

pub(super) fn create(context: &Context, parameters: Parameters) -> WriteResult {
    change(context, parameters, Changes::create)
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    change(context, parameters, Changes::update)
}

pub(super) fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    change(context, parameters, Changes::delete)
}

/// Makes the changes of a batch: of the entries in `member`, with the changed rules in `done` and the others in `failed`.
fn batch<'c, 'a>(
    context: &'c Context<'a>,
    parameters: Parameters,
    [member, done, failed]: [&str; 3],
    change: Change<'c, 'a>,
) -> WriteResult {
    let mut changes = Changes::new(context);
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for entry in parameters.items(member) {
        match change(&mut changes, Parameters(entry)) {
            Ok(rule) => rules.push(rule),
            Err(error) => {
                errors.push(json!({"FirewallRule": entry, "Code": error.code, "Message": error.message}));
            }
        }
    }
    let mut result = json!({});
    result[done] = rules.into();
    result[failed] = errors.into();
    Ok(Written { edits: changes.edits(), result })
}

pub(super) fn batch_create(context: &Context, parameters: Parameters) -> WriteResult {
    let members = ["CreateFirewallRuleEntries", "CreatedFirewallRules", "CreateErrors"];
    batch(context, parameters, members, Changes::create)
}

pub(super) fn batch_update(context: &Context, parameters: Parameters) -> WriteResult {
    let members = ["UpdateFirewallRuleEntries", "UpdatedFirewallRules", "UpdateErrors"];
    batch(context, parameters, members, Changes::update)
}

pub(super) fn batch_delete(context: &Context, parameters: Parameters) -> WriteResult {
    let members = ["DeleteFirewallRuleEntries", "DeletedFirewallRules", "DeleteErrors"];
    batch(context, parameters, members, Changes::delete)
}
