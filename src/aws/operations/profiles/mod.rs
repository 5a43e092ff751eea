//! Route 53 Profiles: Profiles, their resources, and their associations with VPCs.
//!
//! | AWS | manifest |
//! | --- | --- |
//! | Profile | `profiles` |
//! | association with a VPC | `profiles` of the VPC, with its name and tags as data of the VPC |
//! | association with a resource | a member of the Profile, with its name as data of the Profile |

mod associations;
mod resources;
mod tags;

use super::{
    Context, Entry, Page, Parameters, ReadResult, WriteResult, Written, changed_part,
    creation::{Created, RequestId},
    edits,
    identifiers::{arn, random},
    object, page, start,
    table::{read, write},
};
use crate::{
    aws::{codec::server::ServiceError, model::Service::Route53Profiles},
    manifest::{AwsData, Profile},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The operations of Route 53 Profiles that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    write(Route53Profiles, "CreateProfile", create, "Name").echoes("ClientToken Tags"),
    read(Route53Profiles, "GetProfile", get, "ProfileId"),
    read(Route53Profiles, "ListProfiles", list_all, "MaxResults NextToken"),
    write(Route53Profiles, "DeleteProfile", delete, "ProfileId"),
    write(Route53Profiles, "AssociateProfile", associations::associate, "ProfileId ResourceId Priority")
        .echoes("Name Tags"),
    write(Route53Profiles, "DisassociateProfile", associations::disassociate, "ProfileId ResourceId"),
    read(Route53Profiles, "GetProfileAssociation", associations::get, "ProfileAssociationId"),
    read(
        Route53Profiles,
        "ListProfileAssociations",
        associations::list_all,
        "ResourceId ProfileId MaxResults NextToken",
    ),
    write(Route53Profiles, "UpdateProfileAssociation", associations::update, "ProfileAssociationId Priority")
        .echoes("Name"),
    write(
        Route53Profiles,
        "AssociateResourceToProfile",
        resources::associate,
        "ProfileId ResourceArn ResourceProperties",
    )
    .echoes("Name"),
    write(Route53Profiles, "DisassociateResourceFromProfile", resources::disassociate, "ProfileId ResourceArn"),
    read(Route53Profiles, "GetProfileResourceAssociation", resources::get, "ProfileResourceAssociationId"),
    read(
        Route53Profiles,
        "ListProfileResourceAssociations",
        resources::list_all,
        "ProfileId ResourceType ResourceArn MaxResults NextToken",
    ),
    write(
        Route53Profiles,
        "UpdateProfileResourceAssociation",
        resources::update,
        "ProfileResourceAssociationId ResourceProperties",
    )
    .echoes("Name"),
    read(Route53Profiles, "ListTagsForResource", tags::list_all, "ResourceArn"),
    write(Route53Profiles, "TagResource", tags::tag, "ResourceArn Tags"),
    write(Route53Profiles, "UntagResource", tags::untag, "ResourceArn TagKeys"),
];

const KIND: &str = "profiles";
/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 100;

fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Route53Profiles, code, message)
}

fn invalid(message: impl Into<String>) -> ServiceError {
    error("ValidationException", message)
}

fn not_found(what: &str, id: &str) -> ServiceError {
    error("ResourceNotFoundException", format!("{what} with ID \"{id}\" does not exist"))
}

/// The page of a list, of pairs of a key and an item in the order of keys.
fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    member: &str,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let limit = parameters.limit("MaxResults", MAX_RESULTS, MAX_RESULTS).unwrap_or(MAX_RESULTS);
    let found = page(member, parameters.given_text("NextToken"), limit, all);
    let unknown = || error("InvalidNextTokenException", "NextToken: it is not from this list");
    let Page { items, next } = found.ok_or_else(unknown)?;
    let mut result = json!({"NextToken": next});
    result[member] = items.into();
    Ok(object(result))
}

/// The items of a list that is made as a whole, behind a key.
fn after(mut all: Vec<(String, Value)>, key: Option<&str>) -> impl Iterator<Item = (String, Value)> + use<> {
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let key = key.map(str::to_string);
    all.into_iter().filter(move |(other, _)| key.as_ref().is_none_or(|key| other > key))
}

/// The data of an association after a change: with another name, if one is given.
fn changed_data(context: &Context, aws: &AwsData, map: &str, key: &str, name: Option<&str>) -> Map<String, Value> {
    let mut data = changed_part(aws, map, key);
    if let Some(name) = name {
        data.insert("name".into(), name.into());
    }
    data.entry("created").or_insert_with(|| context.time().into());
    data.insert("modified".into(), context.time().into());
    data
}

fn owner(profile: &Profile) -> &str {
    profile.aws.text("owner_id").unwrap_or_default()
}

fn find<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<Profile>, ServiceError> {
    let found = context.manifest().profiles.get(id).filter(|profile| context.has(&profile.aws, None));
    found.ok_or_else(|| not_found("Profile", id))
}

fn value(context: &Context, id: &str, profile: &Profile) -> Value {
    let owner = context.owner(owner(profile));
    let region = context.region_of(&profile.aws, None);
    object(json!({
        "Id": id,
        "Arn": arn("route53profiles", region, owner, &format!("profile/{id}")),
        "Name": profile.name.as_deref().unwrap_or(id),
        "OwnerId": owner,
        "Status": "COMPLETE",
        "ShareStatus": "NOT_SHARED",
        "CreationTime": profile.aws.text("created"),
        "ModificationTime": profile.aws.text("modified"),
        "ClientToken": profile.aws.text("client_token"),
    }))
}

fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ProfileId");
    Ok(json!({"Profile": value(context, id, find(context, id)?)}))
}

fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "ProfileSummaries", |after| {
        let all = context.manifest().profiles.range_from(start(after));
        let visible = all.filter(|(_, profile)| context.has(&profile.aws, None));
        visible.map(|(id, profile)| (id.clone(), value(context, id, profile)))
    })
}

fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let (name, request) = (parameters.text("Name"), RequestId::client_token(parameters));
    let own = context.manifest().profiles.iter().filter(|(_, profile)| context.has(&profile.aws, None));
    let is_same = |profile: &Profile| profile.name.as_deref() == Some(name);
    let make = || {
        let mut profile = Profile { name: Some(name.into()), ..Profile::default() };
        profile.tags = super::tags::read(parameters, "Tags");
        context.stamp(&mut profile.aws);
        request.store(&mut profile.aws);
        (random("rp"), profile)
    };
    let Created { id, resource, edits } = request.create_once(own, |profile| &profile.aws, is_same, invalid, make)?;
    Ok(Written { edits, result: json!({"Profile": value(context, &id, &resource)}) })
}

fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ProfileId");
    let profile = find(context, id)?;
    let mut vpcs = context.manifest().vpcs.iter();
    if let Some((vpc, _)) = vpcs.find(|(_, vpc)| vpc.profile_ids().any(|other| other == id)) {
        return Err(error(
            "ConflictException",
            format!("The Profile {id} is associated with {vpc}: disassociate it first"),
        ));
    }
    let mut shown = value(context, id, profile);
    shown["Status"] = "DELETED".into();
    Ok(Written { edits: vec![edits::delete(KIND, id)], result: json!({"Profile": shown}) })
}
