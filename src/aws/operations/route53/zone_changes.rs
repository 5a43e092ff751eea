//! Hosted zones of Route 53: writes.

use super::{
    authorizations,
    change_checks::{self, POLICIES},
    delegation_sets, features, health_checks,
    hosted_zones::{self, change_info, error, find},
    record_sets,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, WriteResult, Written, creation::RequestId, edits, identifiers, object, tags,
        },
    },
    manifest::{
        PrivateHostedZone, RecordSets, Resource, ResourceRecordSet, Tags, collection::Edit, record_sets::key_of,
    },
    wire::Name,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const KIND: &str = "private_hosted_zones";

pub(super) fn zone_edit(id: &str, zone: PrivateHostedZone) -> Edit {
    edits::put(id, Resource::PrivateHostedZone(Arc::new(zone)))
}

/// The change that a write makes.
fn next_change(context: &Context, comment: Option<&str>) -> Value {
    change_info(context.revision + 1, context.now, comment)
}

/// The VPC of a request, of any account, if it is in the manifest and in the Region that the request says.
pub(super) fn any_vpc<'a>(context: &Context, parameters: Parameters<'a>) -> Result<&'a str, ServiceError> {
    let missing = || error("InvalidVPCId", "VPC: the parameter is missing");
    let vpc = parameters.get("VPC").map(Parameters).ok_or_else(missing)?;
    let (id, region) = (vpc.text("VPCId"), vpc.given_text("VPCRegion"));
    let found = context.manifest().vpcs.get(id);
    let found = found.filter(|found| region.is_none_or(|region| region == found.region));
    let unknown = || {
        let shown = region.map_or(String::new(), |region| format!(" in the Region {region}"));
        error("InvalidVPCId", format!("The VPC: {id} you provided does not exist{shown}"))
    };
    found.map(|_| id).ok_or_else(unknown)
}

/// The VPC of a request, which is one of the caller.
fn own_vpc<'a>(context: &Context, parameters: Parameters<'a>) -> Result<&'a str, ServiceError> {
    let id = any_vpc(context, parameters)?;
    if !context.sees(context.vpc_owner(id)) {
        let message =
            format!("The VPC {id} is not of the account {}: its owner has to associate it", context.caller.account);
        return Err(error("NotAuthorizedException", message));
    }
    Ok(id)
}

/// Checks that a VPC has no zone of this name yet.
fn check_conflict(context: &Context, name: &Name, vpc: &str) -> Result<(), ServiceError> {
    let zones = &context.manifest().private_hosted_zones;
    let other = zones.iter().find(|(_, zone)| zone.name == *name && zone.vpc_ids.iter().any(|id| id == vpc));
    match other {
        None => Ok(()),
        Some((id, _)) => {
            let message = format!("The VPC {vpc} is already associated with the hosted zone {id} of the name {name}");
            Err(error("ConflictingDomainExists", message))
        }
    }
}

pub(super) fn create_hosted_zone(context: &Context, parameters: Parameters) -> WriteResult {
    let text = parameters.text("Name");
    let name = record_sets::read_name(text).filter(|name| !name.is_root());
    let name = name.ok_or_else(|| error("InvalidDomainName", format!("{text} is not a valid domain name")))?;
    let request = RequestId::caller_reference(parameters);
    let zones = &context.manifest().private_hosted_zones;
    let is_same = |zone: &Arc<PrivateHostedZone>| {
        request.is_in(&zone.aws) && zone.name == name && context.sees(hosted_zones::owner(zone))
    };
    if zones.values().any(is_same) {
        let reference = parameters.text("CallerReference");
        let message = format!("A hosted zone has already been created with the specified caller reference {reference}");
        return Err(error("HostedZoneAlreadyExists", message));
    }
    let vpc = parameters.get("VPC").map(|_| own_vpc(context, parameters)).transpose()?;
    vpc.map_or(Ok(()), |vpc| check_conflict(context, &name, vpc))?;
    let config = parameters.get("HostedZoneConfig").map(Parameters);
    let is_private = config.and_then(|config| config.get("PrivateZone")) == Some(&Value::Bool(true));
    let mut zone = PrivateHostedZone::empty(name.to_lowercase());
    zone.vpc_ids.extend(vpc.map(str::to_string));
    zone.public = vpc.is_none() && !is_private;
    if let Some(account) = context.account() {
        zone.aws.set("owner_id", account);
    }
    request.store(&mut zone.aws);
    zone.aws.set("created", context.time());
    if let Some(comment) = config.and_then(|config| config.given_text("Comment")) {
        zone.aws.set("comment", comment);
    }
    features::apply(parameters, &mut zone)?;
    let id = identifiers::random_hosted_zone();
    match parameters.given_text("DelegationSetId") {
        Some(set) => {
            let (set_id, set) = delegation_sets::find(context, set)?;
            delegation_sets::apply(context, set_id, set, &mut zone)?;
        }
        None if zone.public => delegation_sets::set_name_servers(&mut zone, &delegation_sets::new_names(&id))?,
        None => {}
    }
    let zone = Arc::new(zone);
    let edits = vec![edits::put(&id, Resource::PrivateHostedZone(zone.clone()))];
    let vpc = vpc.map(|id| json!({"VPCId": id, "VPCRegion": context.vpc_region(id)}));
    let result = object(json!({
        "HostedZone": hosted_zones::value(context, &id, &zone),
        "ChangeInfo": next_change(context, None),
        "DelegationSet": delegation_sets::of_zone(context, &zone),
        "VPC": vpc,
        "Location": format!("https://route53.amazonaws.com/2013-04-01/hostedzone/{id}"),
    }));
    Ok(Written { edits, result })
}

pub(super) fn delete_hosted_zone(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("Id"))?;
    if !record_sets::index_of(context, id, zone).sets.iter().all(|set| set.is_of_apex(zone)) {
        let message = "The specified hosted zone contains non-required resource record sets and so cannot be deleted.";
        return Err(error("HostedZoneNotEmpty", message));
    }
    Ok(Written { edits: vec![edits::delete(KIND, id)], result: json!({"ChangeInfo": next_change(context, None)}) })
}

pub(super) fn update_hosted_zone_comment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("Id"))?;
    let mut changed = (**zone).clone();
    match parameters.given_text("Comment") {
        Some(comment) => changed.aws.set("comment", comment),
        None => drop(changed.aws.remove("comment")),
    }
    let changed = Arc::new(changed);
    let result = json!({"HostedZone": hosted_zones::value(context, id, &changed)});
    Ok(Written { edits: vec![edits::put(id, Resource::PrivateHostedZone(changed))], result })
}

pub(super) fn associate_vpc(context: &Context, parameters: Parameters) -> WriteResult {
    let given = parameters.text("HostedZoneId");
    let vpc_id = parameters.get("VPC").map_or("", |vpc| Parameters(vpc).text("VPCId"));
    let (id, zone) = authorizations::zone_for(context, given, vpc_id)?;
    if zone.public {
        // The words of Route 53.
        let message = "You're trying to associate a VPC with a public hosted zone. Amazon Route 53 doesn't support \
                       associating a VPC with a public hosted zone.";
        return Err(error("PublicZoneVPCAssociation", message));
    }
    let vpc = own_vpc(context, parameters)?;
    check_conflict(context, &zone.name, vpc)?;
    let mut changed = (**zone).clone();
    changed.vpc_ids.push(vpc.into());
    let info = next_change(context, parameters.given_text("Comment"));
    Ok(Written { edits: vec![zone_edit(id, changed)], result: json!({"ChangeInfo": info}) })
}

pub(super) fn disassociate_vpc(context: &Context, parameters: Parameters) -> WriteResult {
    let vpc = parameters.get("VPC").map_or("", |vpc| Parameters(vpc).text("VPCId"));
    let given = parameters.text("HostedZoneId");
    // The owner of the zone and the owner of the VPC can end the association.
    let is_own_vpc = context.manifest().vpcs.get(vpc).is_some_and(|found| context.sees(&found.owner_id));
    let zones = &context.manifest().private_hosted_zones;
    let of_vpc = zones.get_key_value(hosted_zones::bare(given)).filter(|_| is_own_vpc);
    let of_vpc = of_vpc.filter(|(_, zone)| zone.vpc_ids.iter().any(|id| id == vpc));
    let (id, zone) = of_vpc.map_or_else(|| find(context, given), Ok)?;
    let at = zone.vpc_ids.iter().position(|other| other == vpc).ok_or_else(|| {
        error("VPCAssociationNotFound", format!("The VPC {vpc} and the hosted zone {id} are not associated"))
    })?;
    if zone.vpc_ids.len() == 1 {
        // The words of Route 53.
        let message = "The VPC that you're trying to disassociate from the private hosted zone is the last VPC that is \
                       associated with the hosted zone. Amazon Route 53 doesn't support disassociating the last VPC from a \
                       hosted zone.";
        return Err(error("LastVPCAssociation", message));
    }
    let mut changed = (**zone).clone();
    changed.vpc_ids.remove(at);
    let info = next_change(context, parameters.given_text("Comment"));
    Ok(Written { edits: vec![zone_edit(id, changed)], result: json!({"ChangeInfo": info}) })
}

/// The tag that sets whether names that a zone does not have are resolved as if the zone did not exist.
const FALLTHROUGH: &str = "zonal:fallthrough";

pub(super) fn change_tags_for_resource(context: &Context, parameters: Parameters) -> WriteResult {
    let removed = parameters.texts("RemoveTagKeys");
    let change = |tags: &mut Tags| tags::change(tags, &removed, tags::read(parameters, "AddTags"));
    let id = parameters.text("ResourceId");
    let edits = match parameters.text("ResourceType") {
        "hostedzone" => {
            let (id, zone) = hosted_zones::find_exactly(context, id)?;
            let mut changed = (**zone).clone();
            change(&mut changed.tags);
            let is_changed = |tags: &Tags| tags.get(FALLTHROUGH) != zone.tags.get(FALLTHROUGH);
            if is_changed(&changed.tags) {
                changed.fallthrough = match changed.tags.get(FALLTHROUGH).map(String::as_str) {
                    Some("true") => true,
                    Some("false") | None => false,
                    Some(other) => {
                        let message = format!("The tag {FALLTHROUGH} is `true` or `false`, not `{other}`");
                        return Err(error("InvalidInput", message));
                    }
                };
            }
            vec![zone_edit(id, changed)]
        }
        "healthcheck" => {
            let (id, found) = health_checks::find_id(context, id)?;
            let mut changed = (**found).clone();
            change(&mut changed.tags);
            vec![edits::put(id, Resource::HealthCheck(Arc::new(changed)))]
        }
        kind => return Err(error("InvalidInput", format!("ResourceType: zonal has no {kind}"))),
    };
    Ok(Written { edits, result: json!({}) })
}

// Record sets.

/// The record sets of a zone while a batch changes them.
struct Batch<'a> {
    id: &'a str,
    zone: &'a PrivateHostedZone,
    sets: RecordSets,
    messages: Vec<String>,
}

pub(super) fn change_resource_record_sets(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    if zone.is_transferred() || zone.file.is_some() {
        let source = if zone.is_transferred() { "other servers" } else { "a master file" };
        let message = format!("The records of the hosted zone {id} come from {source}: change them there");
        return Err(error("InvalidInput", message));
    }
    let batch_parameters = parameters.get("ChangeBatch").map_or(parameters, Parameters);
    // The versions of the zone share the index by keys, so only the first change of a zone looks at all of its sets.
    zone.records.index(&zone.name);
    let mut batch = Batch { id, zone, sets: zone.records.clone(), messages: Vec::new() };
    for change in batch_parameters.items("Changes").map(Parameters) {
        if let Some(set) = change.get("ResourceRecordSet") {
            change_checks::check_set(change.text("Action"), Parameters(set))?;
            let check = Parameters(set).given_text("HealthCheckId");
            if let Some(check) = check.filter(|_| change.text("Action") != "DELETE") {
                health_checks::find_id(context, check)?;
            }
            batch.change(change.text("Action"), Parameters(set));
        }
    }
    if !batch.messages.is_empty() {
        return Err(error("InvalidChangeBatch", format!("[{}]", batch.messages.join(", "))));
    }
    let changed = PrivateHostedZone { records: batch.sets, ..(**zone).clone() };
    let info = next_change(context, batch_parameters.given_text("Comment"));
    let edits = vec![zone_edit(id, changed)];
    Ok(Written { edits, result: json!({"ChangeInfo": info}) })
}

impl Batch<'_> {
    /// Makes a change, or adds the reason why it cannot be made.
    fn change(&mut self, action: &str, given: Parameters) {
        if let Err(message) = self.try_change(action, given) {
            self.messages.push(message);
        }
    }

    fn try_change(&mut self, action: &str, given: Parameters) -> Result<(), String> {
        let set = Arc::new(read_set(self.id, &self.zone.name, given)?);
        if action != "DELETE" {
            change_checks::check_values(&set.record_type, &set.records)?;
        }
        let key = key_of(&self.zone.name, &set).ok_or("the type of a record set is unknown")?;
        let identifier = match &set.set_identifier {
            Some(identifier) => format!(", set identifier='{identifier}'"),
            None => String::new(),
        };
        let shown = format!(
            "resource record set [name='{}', type='{}'{identifier}]",
            record_sets::name_text(&key.0),
            set.record_type
        );
        let same_key = self.sets.of_key(&self.zone.name, &key);
        let has_identifier = |current: &Arc<ResourceRecordSet>| {
            let [one, other] = [current, &set].map(|set| set.set_identifier.as_deref().unwrap_or_default());
            one == other
        };
        let is_rival = |other: &&Arc<ResourceRecordSet>| !has_identifier(other) && have_one_place(other, &set);
        if let Some(rival) = same_key.iter().find(is_rival).filter(|_| action != "DELETE") {
            let rival = rival.set_identifier.as_deref().unwrap_or_default();
            return Err(format!(
                "Tried to create {shown} but the set identifier '{rival}' has the same location already"
            ));
        }
        let current = same_key.into_iter().rfind(has_identifier);
        // zonal makes the records that every zone has, if the zone lacks them.
        let required = match &*set.record_type {
            "SOA" if self.zone.name == key.0 => Some("exactly one SOA"),
            "NS" if self.zone.name == key.0 => Some("at least one NS"),
            _ => None,
        };
        match (action, current) {
            ("CREATE", current) if current.is_some() || required.is_some() => {
                Err(format!("Tried to create {shown} but it already exists"))
            }
            ("DELETE", current) => {
                if let Some(required) = required {
                    return Err(format!("A HostedZone must contain {required} record for the zone itself."));
                }
                let current = current.ok_or_else(|| format!("Tried to delete {shown} but it was not found"))?;
                if !is_same(self.zone, &current, &set) {
                    let message = "but the values provided do not match the current values";
                    return Err(format!("Tried to delete {shown} {message}"));
                }
                self.sets.replace(Some(&current), None);
                Ok(())
            }
            (_, current) => {
                // A set stays at its position, so that two versions of the zone differ in the changed sets only.
                self.sets.replace(current.as_ref(), Some(set));
                Ok(())
            }
        }
    }
}

/// Whether two sets are for clients of the same Region or place, so that only one of them would answer.
fn have_one_place(one: &ResourceRecordSet, other: &ResourceRecordSet) -> bool {
    let [(region, place), others] =
        [one, other].map(|set| (&set.latency_routing_policy, &set.geolocation_routing_policy));
    region.is_some() && region == others.0 || place.is_some() && place == others.1
}

/// Whether two sets with one key say the same. The order of values and the spelling of names do not matter.
fn is_same(zone: &PrivateHostedZone, one: &ResourceRecordSet, other: &ResourceRecordSet) -> bool {
    let plain = |set: &ResourceRecordSet| {
        let mut plain = set.clone();
        plain.name = key_of(&zone.name, set).map_or_else(String::new, |key| key.0.to_lowercase().to_string());
        plain.record_type.make_ascii_uppercase();
        if plain.alias.is_none() {
            plain.ttl.get_or_insert(record_sets::DEFAULT_TTL);
        }
        for value in &mut plain.records {
            *value = record_sets::quoted(&set.record_type, value);
        }
        plain.records.sort();
        // Route 53 has no protection.
        (plain.protected, plain.protection_comment) = (false, None);
        plain
    };
    plain(one) == plain(other)
}

/// A record set of a request, as the manifest has it.
fn read_set(id: &str, apex: &Name, given: Parameters) -> Result<ResourceRecordSet, String> {
    let (text, rtype) = (given.text("Name"), given.text("Type"));
    let shown = format!("'{text}' of type '{rtype}'");
    let name = record_sets::read_name(text).ok_or_else(|| format!("The record name {shown} is not a domain name"))?;
    if !name.is_at_or_below(apex) {
        return Err(format!("RRSet with DNS name {text} is not permitted in zone {apex}"));
    }
    let mut set = Map::new();
    set.insert("name".into(), name.to_lowercase().to_string().into());
    set.insert("type".into(), rtype.into());
    let values: Vec<Value> = given
        .items("ResourceRecords")
        .map(|record| record_sets::decimal_escapes(Parameters(record).text("Value")).into())
        .collect();
    let alias = given.get("AliasTarget").map(Parameters);
    match alias {
        Some(alias) => {
            let target = record_sets::read_name(alias.text("DNSName"));
            let target = target.ok_or_else(|| format!("The alias target of {shown} is not a domain name"))?;
            if target.is_at_or_below(apex) && hosted_zones::bare(alias.text("HostedZoneId")) != id {
                let message = "the alias target is in this zone, but its HostedZoneId is of another one";
                return Err(format!("Invalid Resource Record {shown}: {message}"));
            }
            let evaluates = alias.get("EvaluateTargetHealth").cloned().unwrap_or(Value::Bool(false));
            set.insert("alias".into(), json!({"name": target.to_string(), "evaluate_target_health": evaluates}));
        }
        None => {
            if let Some(ttl) = given.get("TTL") {
                set.insert("ttl".into(), ttl.clone());
            }
            set.insert("records".into(), values.into());
        }
    }
    read_policy(given, &mut set)?;
    let set = serde_json::from_value(Value::Object(set));
    set.map_err(|failure| format!("Invalid Resource Record {shown}: {failure}"))
}

/// Adds the routing policy and the health check of a record set.
fn read_policy(given: Parameters, set: &mut Map<String, Value>) -> Result<(), String> {
    for (member, name) in POLICIES {
        let Some(value) = given.get(member) else { continue };
        let part = Parameters(value);
        let policy = match member {
            "Weight" => json!({"weight": value}),
            "Failover" => json!({"type": value}),
            "Region" => json!({"region": value}),
            "GeoLocation" => object(json!({
                "continent": part.get("ContinentCode"), "country": part.get("CountryCode"),
                "subdivision": part.get("SubdivisionCode"),
            })),
            "GeoProximityLocation" => object(json!({
                "aws_region": part.get("AWSRegion"), "bias": part.get("Bias"),
                "coordinates": part.get("Coordinates").map(coordinates).transpose()?,
            })),
            "AZAffinity" => {
                json!({"location_type": part.get("LocationType"), "location_id": part.get("LocationId")})
            }
            "CidrRoutingConfig" => {
                json!({"collection_id": part.get("CollectionId"), "location_name": part.get("LocationName")})
            }
            _ => value.clone(),
        };
        set.insert(name.into(), policy);
    }
    for (member, name) in [("SetIdentifier", "set_identifier"), ("HealthCheckId", "health_check_id")] {
        if let Some(value) = given.get(member) {
            set.insert(name.into(), value.clone());
        }
    }
    Ok(())
}

/// The coordinates of a place, which Route 53 writes as texts.
fn coordinates(place: &Value) -> Result<Value, String> {
    let number = |member: &str| {
        let text = Parameters(place).text(member);
        text.parse::<f32>().map_err(|_| format!("Coordinates: {member} is not a number"))
    };
    Ok(json!({"latitude": number("Latitude")?, "longitude": number("Longitude")?}))
}
