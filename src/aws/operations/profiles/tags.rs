//! Tags of Profiles, and of their associations with VPCs.

use super::{associations, find, not_found};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{Context, Parameters, ReadResult, WriteResult, Written, changed_part, edits, part},
    },
    manifest::{Profile, Resource, Tags},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A resource with tags.
enum Tagged<'a> {
    Profile(&'a str, &'a Arc<Profile>),
    Association(associations::Found<'a>),
}

/// The resource with the ARN of a request.
fn tagged<'a>(context: &Context<'a>, parameters: Parameters<'a>) -> Result<Tagged<'a>, ServiceError> {
    let arn = parameters.text("ResourceArn");
    match arn.rsplit(':').next().and_then(|last| last.split_once('/')) {
        Some(("profile", id)) => Ok(Tagged::Profile(id, find(context, id)?)),
        Some(("profile-association", id)) => Ok(Tagged::Association(associations::find_association(context, id)?)),
        _ => Err(not_found("Resource", arn)),
    }
}

impl Tagged<'_> {
    fn tags(&self) -> Tags {
        match self {
            Tagged::Profile(_, profile) => profile.tags.clone(),
            Tagged::Association(found) => {
                let tags = part(&found.vpc.aws, associations::DATA, &found.profile_id).get("tags");
                tags.and_then(|tags| serde_json::from_value(tags.clone()).ok()).unwrap_or_default()
            }
        }
    }
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    Ok(json!({"Tags": tagged(context, parameters)?.tags()}))
}

fn change(context: &Context, parameters: Parameters, change: impl FnOnce(&mut Tags)) -> WriteResult {
    let tagged = tagged(context, parameters)?;
    let mut tags = tagged.tags();
    change(&mut tags);
    let edit = match tagged {
        Tagged::Profile(id, profile) => {
            let changed = Profile { tags, ..(**profile).clone() };
            edits::put(id, Resource::Profile(Arc::new(changed)))
        }
        Tagged::Association(found) => {
            let mut changed = (**found.vpc).clone();
            // As for a Profile, a change of tags does not change the time of modification.
            let mut data = changed_part(&found.vpc.aws, associations::DATA, &found.profile_id);
            data.insert("tags".into(), json!(tags));
            changed.aws.set_in(associations::DATA, &found.profile_id, Some(data.into()));
            edits::put(found.vpc_id, Resource::Vpc(Arc::new(changed)))
        }
    };
    Ok(Written { edits: vec![edit], result: json!({}) })
}

pub(super) fn tag(context: &Context, parameters: Parameters) -> WriteResult {
    let added = parameters.get("Tags").and_then(Value::as_object).into_iter().flatten();
    let added = added.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_string()));
    change(context, parameters, |tags| tags.extend(added))
}

pub(super) fn untag(context: &Context, parameters: Parameters) -> WriteResult {
    let removed = parameters.texts("TagKeys");
    change(context, parameters, |tags| tags.retain(|key, _| !removed.contains(&key.as_str())))
}
