//! Record sets of a zone's files that are not served, as dynamic updates have made something else of them.

use super::build::{Builder, Origin};
use crate::{
    manifest::overlay::Overlay,
    wire::{Name, rdata::type_to_text},
};
use std::{borrow::Cow, collections::BTreeMap};

/// What the files say of such sets, by owner and type.
pub(super) type Overridden<'a> = BTreeMap<(Name, u16), Written<'a>>;

/// A set as the files have it.
pub(super) struct Written<'a> {
    origin: Origin,
    ttl: u32,
    /// None: it is an alias.
    values: Option<Vec<Cow<'a, [u8]>>>,
}

impl<'a> Builder<'a> {
    /// Whether an update has made something else of the set that a record of the files, or an alias, is of. It is remembered.
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
        let written = self.overridden.entry((owner.clone(), rtype)).or_insert_with(|| Written {
            origin,
            ttl,
            values: record.is_some().then(Vec::new),
        });
        match (&mut written.values, record) {
            (Some(values), Some((_, value))) => values.push(value.clone()),
            (values, _) => *values = None,
        }
        true
    }

    /// Tells of each set of the files that is not served as it is there.
    pub(super) fn tell_overridden(&mut self) {
        let id = self.id;
        for ((owner, rtype), written) in std::mem::take(&mut self.overridden) {
            let Some(set) = self.overlay.and_then(|overlay| overlay.get(&owner, rtype)) else { continue };
            let mut served: Vec<&[u8]> = set.values.iter().map(|value| &**value).collect();
            served.sort_unstable();
            let is_same = written.values.is_some_and(|mut values| {
                values.sort_unstable();
                values.dedup();
                written.ttl == set.ttl && values.iter().map(|value| &**value).eq(served.iter().copied())
            });
            if is_same {
                continue;
            }
            let done = if set.values.is_empty() { "removed" } else { "replaced" };
            let rtype = type_to_text(rtype);
            let message = format!("the {rtype} records of {owner} are not served: a dynamic update has {done} them");
            let help = format!("`zonal journal show {id}` shows it, `zonal journal drop {id}` has the files served");
            self.warning(written.origin, message).help = Some(help);
        }
    }
}
