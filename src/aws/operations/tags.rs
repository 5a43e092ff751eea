//! Tags of resources in requests.

use super::Parameters;
use crate::manifest::Tags;

/// The tags in a list of keys and values.
pub(super) fn read(parameters: Parameters, member: &str) -> Tags {
    let tags = parameters.items(member).map(Parameters);
    tags.map(|tag| (tag.text("Key").into(), tag.text("Value").into())).collect()
}

/// Removes tags by their keys, and adds tags.
pub(super) fn change(tags: &mut Tags, removed: &[&str], added: Tags) {
    removed.iter().for_each(|key| drop(tags.remove(*key)));
    tags.extend(added);
}
