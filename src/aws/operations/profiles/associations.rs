//! Associations of Profiles with VPCs.

use super::{after, changed_data, error, find, invalid, list, not_found};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written, edits, identifiers::derived, object, part, tags,
        },
    },
    manifest::{ProfileAssociation, Resource, Vpc},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The member of a VPC's data that has the data of its associations with Profiles.
pub(super) const DATA: &str = "profile_associations";
/// The priority of the first Profile of a VPC, if the request has none.
const FIRST_PRIORITY: u32 = 100;

pub(super) fn id_of(profile: &str, vpc: &str) -> String {
    derived("rpassoc", &[profile, vpc])
}

fn value(context: &Context, profile: &str, id: &str, vpc: &Vpc, priority: u32) -> Value {
    let data = part(&vpc.aws, DATA, profile);
    let name = context.manifest().profiles.get(profile).and_then(|profile| profile.name.as_deref());
    object(json!({
        "Id": id_of(profile, id),
        "Name": data.given_text("name").or(name).unwrap_or(profile),
        "OwnerId": context.owner(&vpc.owner_id),
        "ProfileId": profile,
        "ResourceId": id,
        "Status": "COMPLETE",
        "CreationTime": data.given_text("created"),
        "ModificationTime": data.given_text("modified"),
        "Priority": priority,
    }))
}

/// The Profiles of a VPC with their priorities. `profile_id` stands for one with the priority 100.
fn of_vpc(vpc: &Vpc) -> Vec<ProfileAssociation> {
    let deprecated =
        vpc.profile_id.iter().map(|id| ProfileAssociation { profile_id: id.clone(), priority: FIRST_PRIORITY });
    deprecated.chain(vpc.profiles.iter().cloned()).collect()
}

/// An association.
pub(super) struct Found<'a> {
    pub vpc_id: &'a String,
    pub vpc: &'a Arc<Vpc>,
    pub profile_id: String,
    priority: u32,
}

/// All associations with VPCs of the caller.
fn all<'c, 'a: 'c>(context: &'c Context<'a>) -> impl Iterator<Item = Found<'a>> {
    context.manifest().vpcs.iter().filter(move |(_, vpc)| context.has_vpc(vpc)).flat_map(|(vpc_id, vpc)| {
        let found = of_vpc(vpc).into_iter();
        found.map(move |association| Found {
            vpc_id,
            vpc,
            profile_id: association.profile_id,
            priority: association.priority,
        })
    })
}

/// The association with an identifier.
pub(super) fn find_association<'a>(context: &Context<'a>, wanted: &str) -> Result<Found<'a>, ServiceError> {
    let found = all(context).find(|found| id_of(&found.profile_id, found.vpc_id) == wanted);
    found.ok_or_else(|| not_found("Profile association", wanted))
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let Found { vpc_id, vpc, profile_id, priority } =
        find_association(context, parameters.text("ProfileAssociationId"))?;
    Ok(json!({"ProfileAssociation": value(context, &profile_id, vpc_id, vpc, priority)}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let matches = |found: &Found| {
        parameters.given_text("ResourceId").is_none_or(|id| id == found.vpc_id)
            && parameters.given_text("ProfileId").is_none_or(|id| id == found.profile_id)
    };
    let keyed = all(context).filter(matches).map(|Found { vpc_id, vpc, profile_id, priority }| {
        (id_of(&profile_id, vpc_id), value(context, &profile_id, vpc_id, vpc, priority))
    });
    let keyed = keyed.collect();
    list(parameters, "ProfileAssociations", |key| after(keyed, key))
}

/// The VPC of a request.
fn vpc<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<Vpc>, ServiceError> {
    let found = context.manifest().vpcs.get(id).filter(|vpc| context.has_vpc(vpc));
    found.ok_or_else(|| not_found("VPC", id))
}

/// The priority of a request. No other Profile of the VPC has it.
fn priority(parameters: Parameters, profile: &str, others: &[ProfileAssociation]) -> Result<Option<u32>, ServiceError> {
    let given = parameters.get("Priority").and_then(Value::as_u64).and_then(|given| u32::try_from(given).ok());
    let Some(given) = given else { return Ok(None) };
    match others.iter().find(|other| other.priority == given && other.profile_id != profile) {
        None => Ok(Some(given)),
        Some(other) => Err(invalid(format!("Priority: the Profile {} of the VPC has {given}", other.profile_id))),
    }
}

pub(super) fn associate(context: &Context, parameters: Parameters) -> WriteResult {
    let (profile, id) = (parameters.text("ProfileId"), parameters.text("ResourceId"));
    find(context, profile)?;
    let vpc = vpc(context, id)?;
    let mut associations = of_vpc(vpc);
    if associations.iter().any(|other| other.profile_id == profile) {
        let message = format!("The Profile {profile} is already associated with {id}");
        return Err(error("ResourceExistsException", message));
    }
    let given = priority(parameters, profile, &associations)?;
    // Without a priority, the Profile comes behind those that the VPC has.
    let last = associations.iter().map(|other| other.priority).max();
    let priority = given.or(last.map(|last| last.saturating_add(1))).unwrap_or(FIRST_PRIORITY).max(FIRST_PRIORITY);
    associations.push(ProfileAssociation { profile_id: profile.into(), priority });
    let mut changed = (**vpc).clone();
    set(&mut changed, associations);
    let mut data = changed_data(context, &vpc.aws, DATA, profile, parameters.given_text("Name"));
    let tags = tags::read(parameters, "Tags");
    if !tags.is_empty() {
        data.insert("tags".into(), json!(tags));
    }
    changed.aws.set_in(DATA, profile, Some(data.into()));
    written(context, profile, id, changed, priority)
}

/// Replaces the Profiles of a VPC.
fn set(vpc: &mut Vpc, associations: Vec<ProfileAssociation>) {
    vpc.profile_id = None;
    vpc.profiles = associations;
}

fn written(context: &Context, profile: &str, id: &str, changed: Vpc, priority: u32) -> WriteResult {
    let shown = value(context, profile, id, &changed, priority);
    let edits = vec![edits::put(id, Resource::Vpc(Arc::new(changed)))];
    Ok(Written { edits, result: json!({"ProfileAssociation": shown}) })
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let Found { vpc_id, vpc, profile_id, priority: old } =
        find_association(context, parameters.text("ProfileAssociationId"))?;
    let mut associations = of_vpc(vpc);
    let new = priority(parameters, &profile_id, &associations)?.unwrap_or(old);
    for association in associations.iter_mut().filter(|association| association.profile_id == profile_id) {
        association.priority = new;
    }
    let mut changed = (**vpc).clone();
    set(&mut changed, associations);
    let data = changed_data(context, &vpc.aws, DATA, &profile_id, parameters.given_text("Name"));
    changed.aws.set_in(DATA, &profile_id, Some(data.into()));
    written(context, &profile_id, vpc_id, changed, new)
}

pub(super) fn disassociate(context: &Context, parameters: Parameters) -> WriteResult {
    let (profile, id) = (parameters.text("ProfileId"), parameters.text("ResourceId"));
    let vpc = vpc(context, id)?;
    let (removed, kept): (Vec<_>, Vec<_>) = of_vpc(vpc).into_iter().partition(|other| other.profile_id == profile);
    let removed = removed.first().ok_or_else(|| not_found("Profile association", &id_of(profile, id)))?;
    let mut changed = (**vpc).clone();
    set(&mut changed, kept);
    let mut shown = value(context, profile, id, vpc, removed.priority);
    shown["Status"] = "DELETED".into();
    changed.aws.set_in(DATA, profile, None);
    let edits = vec![edits::put(id, Resource::Vpc(Arc::new(changed)))];
    Ok(Written { edits, result: json!({"ProfileAssociation": shown}) })
}
