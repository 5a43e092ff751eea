//! Domain lists of DNS Firewall, and the names in them.

use super::{MAX_RESULTS, conflict, invalid, list};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written,
            creation::{Created, RequestId},
            edits,
            identifiers::{arn, random},
            object,
            resolver::not_found,
            start, tags,
        },
    },
    manifest::{DomainSpecification, FirewallDomainList, Resource},
    snapshot::firewall::table::ListState,
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};

const KIND: &str = "firewall_domain_lists";
/// The most names on a page.
const MAX_DOMAINS: usize = 5000;

fn value(context: &Context, id: &str, list: &FirewallDomainList) -> Value {
    let region = context.region_of(&list.aws, None);
    let owner = context.owner(list.aws.text("owner_id").unwrap_or_default());
    let lists = &context.snapshot.firewall_lists;
    let state = lists.number(id).filter(|_| list.source.is_some()).map(|number| lists.state(number));
    let (status, message) = match state {
        None | Some(ListState::Loaded) => ("COMPLETE", None),
        Some(ListState::Missing) => ("IMPORTING", Some("zonal has not read the source of the list yet")),
        Some(ListState::Expired) => ("COMPLETE_IMPORT_FAILED", Some("the copy of the source has expired")),
    };
    object(json!({
        "Id": id,
        "Arn": arn("route53resolver", region, owner, &format!("firewall-domain-list/{id}")),
        "Name": list.name.as_deref().unwrap_or(id),
        "DomainCount": list.source.is_none().then_some(list.domains.len()),
        "Status": status,
        "StatusMessage": message,
        "CreatorRequestId": list.aws.text("creator_request_id"),
        "CreationTime": list.aws.text("created"),
        "ModificationTime": list.aws.text("modified"),
    }))
}

pub(in super::super) fn find<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<FirewallDomainList>, ServiceError> {
    let found = context.manifest().firewall_domain_lists.get(id).filter(|list| context.has(&list.aws, None));
    found.ok_or_else(|| not_found("Firewall domain list", id))
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("FirewallDomainListId");
    Ok(json!({"FirewallDomainList": value(context, id, find(context, id)?)}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    list(MAX_RESULTS, parameters, "FirewallDomainLists", |after| {
        let all = context.manifest().firewall_domain_lists.range_from(start(after));
        let visible = all.filter(|(_, list)| context.has(&list.aws, None));
        visible.map(|(id, list)| (id.clone(), value(context, id, list)))
    })
}

pub(super) fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let (name, request) = (parameters.text("Name"), RequestId::creator(parameters));
    let own = context.manifest().firewall_domain_lists.iter().filter(|(_, list)| context.has(&list.aws, None));
    let is_same = |list: &FirewallDomainList| list.name.as_deref() == Some(name);
    let make = || {
        let mut list = FirewallDomainList { name: Some(name.into()), ..FirewallDomainList::default() };
        list.tags = tags::read(parameters, "Tags");
        context.stamp(&mut list.aws);
        request.store(&mut list.aws);
        (random("rslvr-fdl"), list)
    };
    let Created { id, resource, edits } = request.create_once(own, |list| &list.aws, is_same, invalid, make)?;
    Ok(Written { edits, result: json!({"FirewallDomainList": value(context, &id, &resource)}) })
}

pub(super) fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("FirewallDomainListId");
    let list = find(context, id)?;
    let mut groups = context.manifest().firewall_rule_groups.iter();
    let user = groups.find_map(|(group, resource)| {
        let uses = |list: &Option<String>| list.as_deref() == Some(id);
        let rule = resource.rules.iter().find(|rule| uses(&rule.firewall_domain_list_id))?;
        Some((group, &rule.name))
    });
    if let Some((group, rule)) = user {
        return Err(conflict(format!("The list {id} is used by the rule `{rule}` of {group}: delete the rule first")));
    }
    let mut shown = value(context, id, list);
    shown["Status"] = "DELETING".into();
    Ok(Written { edits: vec![edits::delete(KIND, id)], result: json!({"FirewallDomainList": shown}) })
}

/// Removes, adds or replaces names.
pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("FirewallDomainListId");
    let list = find(context, id)?;
    if list.source.is_some() {
        return Err(invalid(format!("The names of the list {id} come from its `source`: change them there")));
    }
    let texts = parameters.texts("Domains").into_iter();
    let (given, wrong): (Vec<_>, Vec<_>) = texts.map(DomainSpecification::parse).partition(Result::is_ok);
    if !wrong.is_empty() {
        let reasons: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
        return Err(invalid(format!("Domains: {}", reasons.join("; "))));
    }
    let given = given.into_iter().flatten();
    let mut changed = (**list).clone();
    match parameters.text("Operation") {
        "ADD" => {
            let mut seen: HashSet<DomainSpecification> = changed.domains.iter().cloned().collect();
            changed.domains.extend(given.filter(|domain| seen.insert(domain.clone())));
        }
        "REMOVE" => {
            let removed: HashSet<DomainSpecification> = given.collect();
            changed.domains.retain(|domain| !removed.contains(domain));
        }
        "REPLACE" => {
            let mut seen = HashSet::new();
            changed.domains = given.filter(|domain| seen.insert(domain.clone())).collect();
        }
        word => {
            return Err(invalid(format!("Operation: zonal does not serve {word}; it serves ADD, REMOVE and REPLACE")));
        }
    }
    changed.aws.set("modified", context.time());
    let shown = value(context, id, &changed);
    let result = json!({"Id": id, "Name": shown["Name"], "Status": "COMPLETE"});
    Ok(Written { edits: vec![edits::put(id, Resource::FirewallDomainList(Arc::new(changed)))], result })
}

/// The names that the manifest has. Those of a list with a source are not listed.
pub(super) fn list_domains(context: &Context, parameters: Parameters) -> ReadResult {
    let found = find(context, parameters.text("FirewallDomainListId"))?;
    list(MAX_DOMAINS, parameters, "Domains", |after| {
        let skipped = after.and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
        let numbered = found.domains.iter().enumerate().skip(skipped);
        numbered.map(|(at, domain)| ((at + 1).to_string(), Value::from(domain.to_string())))
    })
}
