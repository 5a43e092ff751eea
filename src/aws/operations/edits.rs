//! Edits of the manifest, which writes make.

use crate::manifest::{
    Resource,
    collection::{Edit, Key},
};

/// The edit that stores a resource.
pub(super) fn put(id: &str, resource: Resource) -> Edit {
    Edit { key: Key { kind: resource.kind(), id: id.into() }, value: Some(resource.to_json().into()) }
}

/// The edit that deletes a resource.
pub(super) fn delete(kind: &'static str, id: &str) -> Edit {
    Edit { key: Key { kind, id: id.into() }, value: None }
}
