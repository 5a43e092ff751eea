//! Edits of the manifest, which writes make.

use crate::manifest::{
    Manifest, Resource, ResourceChange,
    collection::{Content, Edit, Key},
};

/// The edit that stores a resource.
pub(super) fn put(id: &str, resource: Resource) -> Edit {
    Edit { key: Key { kind: resource.kind(), id: id.into() }, value: Some(Content::Resource(resource)) }
}

/// The edit that deletes a resource.
pub(super) fn delete(kind: &'static str, id: &str) -> Edit {
    Edit { key: Key { kind, id: id.into() }, value: None }
}

/// The edits that make one manifest of another. They cost what the difference costs.
pub(super) fn between(old: &Manifest, new: &Manifest) -> Vec<Edit> {
    let changes = new.resource_changes(old).into_iter();
    let edit = |change: ResourceChange| match change.new {
        Some(resource) => put(&change.id, resource),
        None => delete(change.kind, &change.id),
    };
    changes.map(edit).collect()
}
