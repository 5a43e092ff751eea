//! Reusable delegation sets: the names of the name servers of public zones.
//!
//! The NS record set of a zone that is created with a set has the names of the set. The zone keeps the identifier of the set in
//! its member `aws`.

use super::hosted_zones::{self, bare, error};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            creation::RequestId,
            edits, identifiers, object,
            table::{read, write},
        },
    },
    manifest::{DelegationSet, PrivateHostedZone, Resource, ResourceRecordSet},
    wire::Name,
};
use serde_json::{Value, json};
use std::{ops::Bound, sync::Arc};

/// The operations of delegation sets.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(Route53, "CreateReusableDelegationSet", create, "HostedZoneId").echoes("CallerReference"),
    write(Route53, "DeleteReusableDelegationSet", delete, "Id"),
    read(Route53, "GetReusableDelegationSet", get, "Id"),
    read(Route53, "ListReusableDelegationSets", list_all, "Marker MaxItems"),
];

/// The member of a zone's data with the identifier of its set.
pub(super) const MEMBER: &str = "delegation_set_id";
/// The number of name servers of a new set.
const NAME_SERVERS: usize = 4;
/// The TTL of a zone's NS records, in seconds.
const NS_TTL: u32 = 172_800;

fn owner(set: &DelegationSet) -> &str {
    set.aws.text("owner_id").unwrap_or_default()
}

/// The names of name servers, as Route 53 writes them.
fn name_texts(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.to_string().trim_end_matches('.').to_string()).collect()
}

/// A set in the form of Route 53.
fn value(id: &str, set: &DelegationSet) -> Value {
    object(json!({
        "Id": format!("/delegationset/{id}"),
        "CallerReference": set.aws.text("caller_reference"),
        "NameServers": name_texts(&set.name_servers),
    }))
}

/// The delegation set of a zone: a reusable one, or the name servers of the zone itself.
pub(super) fn of_zone(context: &Context, zone: &PrivateHostedZone) -> Value {
    let id = zone.aws.text(MEMBER);
    let set = id.and_then(|id| context.manifest().delegation_sets.get_key_value(id));
    match set {
        Some((id, set)) => value(id, set),
        None => json!({"NameServers": hosted_zones::name_servers(zone)}),
    }
}

/// A set of the caller.
pub(super) fn find<'a>(context: &Context<'a>, id: &str) -> Result<(&'a String, &'a Arc<DelegationSet>), ServiceError> {
    let found = context.manifest().delegation_sets.get_key_value(bare(id));
    let found = found.filter(|(_, set)| context.sees(owner(set)));
    found.ok_or_else(|| error("NoSuchDelegationSet", bare(id)))
}

/// Gives a new zone the name servers of a set.
pub(super) fn apply(
    context: &Context,
    id: &str,
    set: &DelegationSet,
    zone: &mut PrivateHostedZone,
) -> Result<(), ServiceError> {
    if !zone.public {
        let message = format!("DelegationSetId: the hosted zone {} is private, so it has no delegation set", zone.name);
        return Err(error("InvalidInput", message));
    }
    // One name server can serve one zone of a name, and no parent or child of another one.
    let zones = context.manifest().private_hosted_zones.values();
    let conflict = zones
        .filter(|other| other.aws.text(MEMBER) == Some(id))
        .find(|other| other.name.is_at_or_below(&zone.name) || zone.name.is_at_or_below(&other.name));
    if let Some(other) = conflict {
        let message = format!(
            "Cannot create hosted zone with DelegationSetId {id} as the DNS name {} conflicts with the existing one {}",
            zone.name, other.name
        );
        return Err(error("ConflictingDomainExists", message));
    }
    set_name_servers(zone, &set.name_servers)?;
    zone.aws.set(MEMBER, id);
    Ok(())
}

/// Gives a new zone its NS record set.
pub(super) fn set_name_servers(zone: &mut PrivateHostedZone, name_servers: &[Name]) -> Result<(), ServiceError> {
    let names: Vec<String> = name_servers.iter().map(Name::to_string).collect();
    let records = json!({"name": "@", "type": "NS", "ttl": NS_TTL, "records": names});
    let records: ResourceRecordSet = serde_json::from_value(records)
        .map_err(|failure| error("InternalFailure", failure.to_string()).with_status(500))?;
    zone.records.push(Arc::new(records));
    Ok(())
}

/// The names of the name servers of a new set or zone.
pub(super) fn new_names(id: &str) -> Vec<Name> {
    let label = id.to_ascii_lowercase();
    let names = (1..=NAME_SERVERS).map(|number| format!("ns{number}.{label}.delegation.zonal.internal"));
    names.filter_map(|name| Name::absolute(&name).ok()).collect()
}

fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let request = RequestId::caller_reference(parameters);
    let mut own = context.manifest().delegation_sets.values().filter(|set| context.sees(owner(set)));
    if own.any(|set| request.is_in(&set.aws)) {
        let reference = parameters.text("CallerReference");
        let message = format!("A delegation set with the caller reference {reference} exists already");
        return Err(error("DelegationSetAlreadyCreated", message));
    }
    let id = identifiers::random_delegation_set();
    let (mut set, mut edits) = (DelegationSet::default(), Vec::new());
    match parameters.given_text("HostedZoneId") {
        Some(zone) => {
            let missing = |_| error("HostedZoneNotFound", format!("No hosted zone found with ID: {}", bare(zone)));
            let (zone_id, zone) = hosted_zones::find(context, zone).map_err(missing)?;
            check_can_be_marked(zone_id, zone)?;
            let names = hosted_zones::name_servers(zone);
            let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
            set.name_servers = names.filter_map(|name| Name::absolute(name).ok()).collect();
            // The name servers of the zone become the reusable set.
            let mut marked = (**zone).clone();
            marked.aws.set(MEMBER, &*id);
            edits.push(edits::put(zone_id, Resource::PrivateHostedZone(Arc::new(marked))));
        }
        None => set.name_servers = new_names(&id),
    }
    if let Some(account) = context.account() {
        set.aws.set("owner_id", account);
    }
    set.aws.set("created", context.time());
    request.store(&mut set.aws);
    let location = format!("https://route53.amazonaws.com/2013-04-01/delegationset/{id}");
    let result = json!({"DelegationSet": value(&id, &set), "Location": location});
    edits.insert(0, edits::put(&id, Resource::DelegationSet(Arc::new(set))));
    Ok(Written { edits, result })
}

/// Checks that the name servers of a zone can become a reusable set.
fn check_can_be_marked(id: &str, zone: &PrivateHostedZone) -> Result<(), ServiceError> {
    if !zone.public {
        let message = format!("The hosted zone {id} is private, so it has no delegation set");
        return Err(error("InvalidArgument", message));
    }
    match zone.aws.text(MEMBER) {
        Some(set) => {
            let message = format!("The delegation set {set} of the hosted zone {id} is already reusable");
            Err(error("DelegationSetAlreadyReusable", message))
        }
        None => Ok(()),
    }
}

fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, _) = find(context, parameters.text("Id"))?;
    let mut zones = context.manifest().private_hosted_zones.iter();
    if let Some((zone, _)) = zones.find(|(_, zone)| zone.aws.text(MEMBER) == Some(id)) {
        let message = format!("The delegation set {id} is in use: the hosted zone {zone} has it");
        return Err(error("DelegationSetInUse", message));
    }
    Ok(Written { edits: vec![edits::delete("delegation_sets", id)], result: json!({}) })
}

fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, set) = find(context, parameters.text("Id"))?;
    Ok(json!({"DelegationSet": value(id, set)}))
}

fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let limit = hosted_zones::limit(parameters)?;
    let marker = parameters.text("Marker");
    let sets = context.manifest().delegation_sets.range_from(Bound::Included(bare(marker)));
    let mut sets = sets.filter(|(_, set)| context.sees(owner(set)));
    let shown: Vec<Value> = sets.by_ref().take(limit).map(|(id, set)| value(id, set)).collect();
    Ok(hosted_zones::marked_page(parameters, "DelegationSets", shown, sets.next().map(|(id, _)| id), limit))
}
