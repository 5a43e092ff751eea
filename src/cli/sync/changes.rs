//! The changes that make a target hold what an account has.
//!
//! A resource that `zonal sync aws` has made names the account in `aws.synced_from`. Only such resources are changed and deleted.

use crate::{
    cli::import::Made,
    control_plane::guard::{MAX_DELETED_PERCENT, MIN_JUDGED},
    manifest::{
        KINDS,
        collection::{Collection, Edit, Key},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The member of `aws` that names the account which a resource comes from.
const SYNCED_FROM: &str = "synced_from";

/// Whether deletions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletions {
    /// Up to [`MAX_DELETED_PERCENT`] percent of the resources of the account.
    Limited,
    /// However many they are.
    All,
}

/// The changes of a target.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The changes to make.
    pub edits: Vec<Edit>,
    /// Resources of the account that something else has made in the target. They are left alone.
    pub foreign: Vec<Key>,
    /// Resources that the account has no more, and that are not deleted.
    pub held: Vec<Key>,
    /// The number of resources that come from the account.
    pub resources: usize,
}

impl Changes {
    /// The changes that make a target hold the resources of an account.
    pub(super) fn new(target: &Collection, made: &Made, account: &str, deletions: Deletions) -> Changes {
        let mut changes = Changes::default();
        let mut owned: BTreeSet<Key> = BTreeSet::new();
        for kind in KINDS {
            target.manifest().each_of(kind, None, |id, resource| {
                let value: Value = serde_json::from_slice(&resource.to_json()).unwrap_or_default();
                if value["aws"][SYNCED_FROM] == account {
                    owned.insert(Key { kind, id: id.into() });
                }
                true
            });
        }
        let mut wanted = target.clone();
        let mut gone = owned.clone();
        for (kind, id, resource) in
            made.iter().flat_map(|(kind, resources)| resources.iter().map(move |(id, resource)| (*kind, id, resource)))
        {
            let key = Key { kind, id: id.as_str().into() };
            if target.contains(&key) && !owned.contains(&key) {
                changes.foreign.push(key);
                continue;
            }
            gone.remove(&key);
            let mut resource = resource.clone();
            match &mut resource["aws"] {
                Value::Object(members) => drop(members.insert(SYNCED_FROM.into(), account.into())),
                other => *other = json!({SYNCED_FROM: account}),
            }
            wanted.apply(&[Edit { key, value: Some(resource.to_string().into_bytes().into()) }]);
            changes.resources += 1;
        }
        let are_many = owned.len() >= MIN_JUDGED && gone.len() * 100 > owned.len() * MAX_DELETED_PERCENT;
        match deletions {
            Deletions::Limited if are_many => changes.held = gone.into_iter().collect(),
            Deletions::Limited | Deletions::All => {
                gone.into_iter().for_each(|key| wanted.apply(&[Edit { key, value: None }]));
            }
        }
        changes.edits = wanted.edits_from(target);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const ACCOUNT: &str = "111122223333";

    fn made(vpcs: &[&str]) -> Made {
        let vpc = |id: &&str| {
            (
                id.to_string(),
                json!({"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "aws": {"state": "available"}}),
            )
        };
        BTreeMap::from([("vpcs", vpcs.iter().map(vpc).collect())])
    }

    fn apply(target: &mut Collection, changes: &Changes) {
        target.apply(&changes.edits);
    }

    fn ids(target: &Collection) -> Vec<String> {
        target.manifest().vpcs.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn changes_and_deletes_only_what_it_has_made() {
        let mut target = Collection::default();
        let own = json!({"region": "us-east-1", "cidr_blocks": ["10.9.0.0/16"]}).to_string().into_bytes();
        target.apply(&[Edit { key: Key { kind: "vpcs", id: "vpc-own".into() }, value: Some(own.into()) }]);
        let changes = Changes::new(&target, &made(&["vpc-a", "vpc-b", "vpc-own"]), ACCOUNT, Deletions::Limited);
        assert_eq!((changes.edits.len(), changes.foreign.len(), changes.resources), (2, 1, 2));
        apply(&mut target, &changes);
        assert_eq!(target.manifest().vpcs["vpc-a"].aws.text(SYNCED_FROM), Some(ACCOUNT));
        // A second round has nothing to do.
        let again = Changes::new(&target, &made(&["vpc-a", "vpc-b", "vpc-own"]), ACCOUNT, Deletions::Limited);
        assert!(again.edits.is_empty());
        // Another account does not touch the resources of this one.
        let other = Changes::new(&target, &made(&[]), "444455556666", Deletions::All);
        assert!(other.edits.is_empty() && other.held.is_empty());
        let changes = Changes::new(&target, &made(&["vpc-a"]), ACCOUNT, Deletions::Limited);
        apply(&mut target, &changes);
        assert_eq!(ids(&target), ["vpc-a", "vpc-own"]);
    }

    #[test]
    fn holds_deletions_of_more_than_thirty_percent() {
        let names: Vec<String> = (0..20).map(|number| format!("vpc-{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut target = Collection::default();
        let changes = Changes::new(&target, &made(&names), ACCOUNT, Deletions::Limited);
        apply(&mut target, &changes);
        let held = Changes::new(&target, &made(&names[7..]), ACCOUNT, Deletions::Limited);
        assert_eq!((held.edits.len(), held.held.len()), (0, 7));
        assert_eq!(Changes::new(&target, &made(&names[6..]), ACCOUNT, Deletions::Limited).edits.len(), 6);
        assert_eq!(Changes::new(&target, &made(&[]), ACCOUNT, Deletions::All).edits.len(), 20);
    }
}
