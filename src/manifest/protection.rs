//! Protected record sets: changes of them are refused until the protection is removed.
//!
//! A protection holds for all record sets with one name and type. Removing it is a change of its own: the same change cannot
//! change the record sets too.

use super::{
    PrivateHostedZone, ResourceRecordSet,
    collection::{Collection, Edit, Key},
};
use crate::wire::{
    Name,
    rdata::{type_from_text, type_to_text},
};
use std::collections::BTreeMap;

/// The protected names and types of a zone, each with the comment of its protection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protected(BTreeMap<(Name, u16), Option<String>>);

/// The absolute owner in lower case, and the type of a record set. None if one of them is invalid.
fn key(zone: &PrivateHostedZone, set: &ResourceRecordSet) -> Option<(Name, u16)> {
    let owner = Name::parse(set.name.as_bytes(), Some(&zone.name)).ok()?.to_lowercase();
    Some((owner, type_from_text(&set.record_type)?))
}

impl Protected {
    /// The protected names and types of a zone. None if there are none.
    pub fn of(zone: &PrivateHostedZone) -> Option<Protected> {
        let protected = zone.records.protected();
        let all: BTreeMap<_, _> =
            protected.filter_map(|set| Some((key(zone, set)?, set.protection_comment.clone()))).collect();
        (!all.is_empty()).then_some(Protected(all))
    }

    /// The reason why the record sets of a name and type cannot be changed. None if they are not protected.
    pub fn refusal(&self, owner: &Name, rtype: u16) -> Option<String> {
        let comment = self.0.get(&(owner.to_lowercase(), rtype))?;
        Some(refusal(owner, rtype, comment.as_deref()))
    }
}

fn refusal(owner: &Name, rtype: u16, comment: Option<&str>) -> String {
    let comment = comment.filter(|comment| !comment.is_empty());
    let comment = comment.map_or(String::new(), |comment| format!(" ({comment})"));
    format!("{owner} {} is protected{comment}", type_to_text(rtype))
}

/// The reason why a zone cannot be changed into its new version, because the change concerns protected record sets. None if
/// it can. Without a new version, the zone is deleted.
pub fn violation(old: &PrivateHostedZone, new: Option<&PrivateHostedZone>) -> Option<String> {
    let protected = Protected::of(old)?.0;
    if let Some(new) = new.filter(|new| new.name == old.name) {
        let runs = new.records.changes_since(&old.records);
        let mut changed = runs.iter().flat_map(|run| run.gone.iter().chain(&run.came));
        if !changed.any(|set| key(old, set).is_some_and(|key| protected.contains_key(&key))) {
            return None;
        }
    }
    let sets_of = |zone: &PrivateHostedZone| {
        let mut sets: BTreeMap<(Name, u16), Vec<ResourceRecordSet>> = BTreeMap::new();
        for set in &zone.records {
            if let Some(key) = key(zone, set).filter(|key| protected.contains_key(key)) {
                let plain = ResourceRecordSet {
                    name: String::new(),
                    record_type: String::new(),
                    protected: false,
                    protection_comment: None,
                    ..(**set).clone()
                };
                sets.entry(key).or_default().push(plain);
            }
        }
        sets.values_mut().for_each(|sets| sets.sort_by(|one, other| one.set_identifier.cmp(&other.set_identifier)));
        sets
    };
    let (before, after) = (sets_of(old), new.map(sets_of).unwrap_or_default());
    let ((owner, rtype), comment) = protected.iter().find(|(key, _)| before.get(*key) != after.get(*key))?;
    Some(refusal(owner, *rtype, comment.as_deref()))
}

/// The zones that edits of a collection change against a protection, each with the reason why it cannot be changed.
pub fn violations(old: &Collection, edits: &[Edit]) -> Vec<(Key, String)> {
    let zones = &old.manifest().private_hosted_zones;
    let is_protected = |edit: &&Edit| {
        let zone = zones.get(&edit.key.id).filter(|_| edit.key.kind == "private_hosted_zones");
        zone.is_some_and(|zone| zone.records.protected().next().is_some())
    };
    let edits: Vec<Edit> = edits.iter().filter(is_protected).cloned().collect();
    let mut new = old.clone();
    new.apply(&edits);
    let refusal = |edit: Edit| {
        let after = new.manifest().private_hosted_zones.get(&edit.key.id);
        let why = violation(zones.get(&edit.key.id)?, after.map(|zone| &**zone))?;
        Some((edit.key, format!("{why}: remove `protected` in a change of its own first")))
    };
    edits.into_iter().filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn zone(records: Value) -> PrivateHostedZone {
        serde_json::from_value(json!({"name": "corp.example", "vpc_ids": ["a"], "records": records})).unwrap()
    }

    fn www(more: Value) -> Value {
        let mut www = json!({"name": "www", "type": "A", "ttl": 60, "records": ["10.1.0.1"]});
        www.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        www
    }

    #[test]
    fn refuses_changes_of_a_protected_record_set_until_its_protection_is_gone() {
        let old = zone(json!([www(json!({"protected": true, "protection_comment": "ask the web team"})),
            {"name": "api", "type": "A", "records": ["10.1.0.2"]}]));
        let refusal = Some("www.corp.example. A is protected (ask the web team)".to_string());
        let api = json!({"name": "api", "type": "A", "records": ["10.1.0.3"]});
        for (records, is_refused) in [
            (json!([www(json!({"protected": true}))]), false),
            (json!([api, www(json!({"protected": true}))]), false),
            (json!([www(json!({"protected": true, "name": "WWW.corp.example."}))]), false),
            // The protection alone is removed.
            (json!([www(json!({}))]), false),
            (json!([www(json!({"records": ["10.1.0.9"]}))]), true),
            (json!([www(json!({"protected": true, "ttl": 61}))]), true),
            (json!([www(json!({"protected": true, "name": "www2"}))]), true),
            (json!([www(json!({"protected": true, "type": "AAAA", "records": ["2001:db8::1"]}))]), true),
            (json!([www(json!({"protected": true})), www(json!({"records": ["10.1.0.9"]}))]), true),
            (json!([api]), true),
            (json!([]), true),
        ] {
            let expected = refusal.clone().filter(|_| is_refused);
            assert_eq!(violation(&old, Some(&zone(records.clone()))), expected, "{records}");
        }
        assert_eq!(violation(&old, None), refusal, "the zone is deleted");
        let renamed = PrivateHostedZone { name: Name::absolute("other.example").unwrap(), ..old.clone() };
        assert_eq!(violation(&old, Some(&renamed)), refusal);
        let elsewhere = PrivateHostedZone { vpc_ids: vec!["b".into()], ..old.clone() };
        assert_eq!(violation(&old, Some(&elsewhere)), None);
        assert_eq!(violation(&zone(json!([www(json!({}))])), None), None, "nothing is protected");
    }

    #[test]
    fn protects_all_members_of_a_group() {
        let member = |id: &str, weight: u8, protected: bool| {
            www(json!({"set_identifier": id, "weighted_routing_policy": {"weight": weight}, "protected": protected}))
        };
        let old = zone(json!([member("a", 1, true), member("b", 1, false)]));
        let ask = |records: Value| violation(&old, Some(&zone(records)));
        assert_eq!(ask(json!([member("b", 1, false), member("a", 1, true)])), None, "the order does not matter");
        let refusal = Some("www.corp.example. A is protected".to_string());
        assert_eq!(ask(json!([member("a", 1, true), member("b", 2, false)])), refusal);
        assert_eq!(ask(json!([member("a", 1, true)])), refusal);
    }
}
