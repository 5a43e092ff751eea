//! The record sets of a zone's files that are not served, because dynamic updates override them.

use super::build::{Builder, Origin};
use crate::{
    manifest::overlay::Overlay,
    wire::{Name, rdata::type_to_text},
};
use std::{borrow::Cow, collections::BTreeMap};

/// The overridden sets, by owner and type.
pub(super) type Overridden<'a> = BTreeMap<(Name, u16), FileSet<'a>>;

/// A record set in the files.
pub(super) struct FileSet<'a> {
    origin: Origin,
    ttl: u32,
    /// The data of its records; none for an alias.
    values: Option<Vec<Cow<'a, [u8]>>>,
}

impl<'a> Builder<'a> {
    /// Whether an update overrides the set of a record or alias of the files. The set is kept for the warning.
    pub(super) fn is_overlaid(
        &mut self,
        owner: &Name,
        rtype: u16,
        origin: Origin,
        record: Option<(u32, &Cow<'a, [u8]>)>,
    ) -> bool {
        let has = |overlay: &Overlay| overlay.has(owner, rtype);
        if matches!(origin, Origin::Update) || !self.overlay.is_some_and(has) {
            return false;
        }
        let ttl = record.map_or(0, |(ttl, _)| ttl);
        let in_file = self.overridden.entry((owner.clone(), rtype)).or_insert_with(|| FileSet {
            origin,
            ttl,
            values: record.is_some().then(Vec::new),
        });
        match (&mut in_file.values, record) {
            (Some(values), Some((_, value))) => values.push(value.clone()),
            (values, _) => *values = None,
        }
        true
    }

    /// Warns of each set of the files that an update overrides with other records.
    pub(super) fn warn_of_overridden_sets(&mut self) {
        let id = self.id;
        for ((owner, rtype), in_file) in std::mem::take(&mut self.overridden) {
            let Some(set) = self.overlay.and_then(|overlay| overlay.get(&owner, rtype)) else { continue };
            let mut served: Vec<&[u8]> = set.values.iter().map(|value| &**value).collect();
            served.sort_unstable();
            let is_same = in_file.values.is_some_and(|mut values| {
                values.sort_unstable();
                values.dedup();
                in_file.ttl == set.ttl && values.iter().map(|value| &**value).eq(served.iter().copied())
            });
            if is_same {
                continue;
            }
            let change = if set.values.is_empty() { "removed" } else { "replaced" };
            let rtype = type_to_text(rtype);
            let message = format!("the {rtype} records of {owner} are not served: a dynamic update has {change} them");
            let help =
                format!("`zonal journal show {id}` shows the update; `zonal journal drop {id}` serves the files again");
            self.warning(in_file.origin, message).help = Some(help);
        }
    }
}
