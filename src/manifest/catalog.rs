//! Catalog zones (RFC 9432): zones that list zones, each of which becomes a private hosted zone of the manifest.

use super::{
    Catalog, Id, Loaded, Manifest, Primary, PrivateHostedZone,
    transferred::{Content, Transferred, digest_with},
};
use crate::wire::{Name, name::printed, rdata::rtype};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// The version of the schema that is followed (RFC 9432, 4.2.1).
const VERSION: &[u8] = b"2";

/// Of a catalog's zones no more than this share may go at once, in percent; but of fewer zones than this, all may.
pub const MOST_REMOVED: usize = 30;
pub const FEW: usize = 10;

/// A zone that a catalog lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The unique label that it has in the catalog, as text. With another one it is another zone, whose records are
    /// transferred anew (RFC 9432, 5.4).
    pub label: String,
    /// The zone's apex.
    pub zone: Name,
    /// The values of its `group` property.
    pub groups: Vec<String>,
    /// The catalog that it may go over to: its `coo` property.
    pub next_owner: Option<Name>,
}

/// The zones that a catalog lists, in the order of their labels; or why it is broken and not to be processed.
pub fn read(content: &Content) -> Result<Vec<Member>, String> {
    let catalog = &content.zone;
    let depth = catalog.label_count();
    let mut version = Vec::new();
    let mut members: BTreeMap<Vec<u8>, Vec<Name>> = BTreeMap::new();
    let mut groups: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut owners: BTreeMap<Vec<u8>, Vec<Name>> = BTreeMap::new();
    let records =
        content.sets().flat_map(|(owner, rtype, values)| values.iter().map(move |(_, data)| (owner, rtype, data)));
    for (owner, rtype, data) in records {
        let labels: Vec<&[u8]> = owner.labels().collect();
        match (&labels[..labels.len() - depth], rtype) {
            ([b"version"], rtype::TXT) => version.push(text(data)),
            ([label, b"zones"], rtype::PTR) => members.entry(label.to_vec()).or_default().push(name(data)?),
            ([b"group", label, b"zones"], rtype::TXT) => {
                let value = String::from_utf8_lossy(&text(data)).into_owned();
                groups.entry(label.to_vec()).or_default().push(value);
            }
            ([b"coo", label, b"zones"], rtype::PTR) => {
                owners.entry(label.to_vec()).or_default().push(name(data)?);
            }
            _ => {}
        }
    }
    match &version[..] {
        [version] if version == VERSION => {}
        [] => return Err(format!("the catalog has no version: version.{catalog} TXT \"2\" is missing")),
        [version] => {
            let version = String::from_utf8_lossy(version);
            return Err(format!("the catalog has version {version:?}, and only version 2 is understood"));
        }
        several => return Err(format!("the catalog has {} version properties", several.len())),
    }
    let mut seen = HashSet::new();
    let mut list = Vec::with_capacity(members.len());
    for (label, zones) in members {
        let shown = shown(&label);
        let [zone] = &zones[..] else {
            return Err(format!("{shown}.zones.{catalog} has {} PTR records, not one", zones.len()));
        };
        if zone == catalog {
            return Err(format!("the catalog lists itself, by the label {shown}"));
        }
        if !seen.insert(zone.to_lowercase()) {
            return Err(format!("the catalog lists {zone} twice"));
        }
        let owners = owners.remove(&label).unwrap_or_default();
        if owners.len() > 1 {
            return Err(format!("coo.{shown}.zones.{catalog} has {} PTR records, not one", owners.len()));
        }
        let mut groups = groups.remove(&label).unwrap_or_default();
        groups.sort();
        list.push(Member { label: shown, zone: zone.clone(), groups, next_owner: owners.into_iter().next() });
    }
    Ok(list)
}

/// A label as text.
fn shown(label: &[u8]) -> String {
    let wire = [&[label.len() as u8], label, &[0]].concat();
    printed(&wire).trim_end_matches('.').into()
}

fn name(rdata: &[u8]) -> Result<Name, String> {
    Name::from_wire(rdata).map_err(|error| format!("a PTR record of the catalog holds no name: {error}"))
}

/// The strings of a TXT record, put together.
fn text(mut rdata: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((length, rest)) = rdata.split_first() {
        let (string, next) = rest.split_at(usize::from(*length).min(rest.len()));
        text.extend_from_slice(string);
        rdata = next;
    }
    text
}

/// Why what a catalog lists now is not to be followed: too much of what it listed before is missing.
pub fn shrinks(old: &[Member], new: &[Member]) -> Option<String> {
    let left: HashSet<&Name> = new.iter().map(|member| &member.zone).collect();
    let gone = old.iter().filter(|member| !left.contains(&member.zone)).count();
    (old.len() >= FEW && gone * 100 > old.len() * MOST_REMOVED).then(|| {
        format!(
            "{gone} of {} zones are missing in the catalog: those that it listed before stay until less than {MOST_REMOVED} % \
             are missing, or it gets another identifier",
            old.len()
        )
    })
}

/// A zone that a catalog lists and that is left out, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// The catalog's identifier.
    pub catalog: Id,
    /// The zone, and why.
    pub reason: String,
}

/// A member on its way to become a zone.
struct Candidate<'a> {
    id: Id,
    catalog_id: &'a Id,
    catalog: &'a PrivateHostedZone,
    listed: &'a Catalog,
    member: &'a Member,
}

/// Completes what was loaded: with what is kept of the zones that are transferred, and with the zones that catalogs list. The
/// resources of these are shared with `old`, the manifest that is served, where they are the same.
pub fn complete(loaded: Loaded, kept: &Transferred, old: &Manifest) -> Loaded {
    let mut transferred = Transferred::new();
    let mut left_out = Vec::new();
    let mut manifest = loaded.manifest.clone();
    let zones = &loaded.manifest.private_hosted_zones;
    let mut catalogs = Vec::new();
    for (id, zone) in zones.iter().filter(|(_, zone)| zone.is_transferred()) {
        let held = kept.get(id).filter(|held| held.content.zone == zone.name);
        transferred.extend(held.map(|held| (id.clone(), held.clone())));
        if let (Some(listed), Some(held)) = (&zone.catalog, held) {
            catalogs.push((id, zone, listed, held.content.members().unwrap_or_default()));
        }
    }
    if catalogs.iter().any(|(.., members)| !members.is_empty()) {
        let mut taken: HashSet<(&Name, &Id)> =
            zones.values().flat_map(|zone| zone.vpc_ids.iter().map(|vpc| (&zone.name, vpc))).collect();
        // By name: which catalogs list a zone, and by which label.
        let lists: HashSet<(&Name, &Name)> = catalogs
            .iter()
            .flat_map(|(_, zone, _, members)| members.iter().map(|member| (&zone.name, &member.zone)))
            .collect();
        let mut candidates: Vec<Candidate> = catalogs
            .iter()
            .flat_map(|&(catalog_id, catalog, listed, members)| {
                members.iter().map(move |member| {
                    let id = format!("{catalog_id}/{}", member.label);
                    Candidate { id, catalog_id, catalog, listed, member }
                })
            })
            .collect();
        // Whoever has a zone keeps it, whatever others list (RFC 9432, 4.4.1).
        candidates.sort_by_key(|candidate| !kept.contains_key(&candidate.id));
        let mut passed_on: Vec<Candidate> = Vec::new();
        let extended = Arc::make_mut(&mut manifest);
        for candidate in candidates {
            let Candidate { id, catalog_id, catalog, listed, member } = &candidate;
            if member.next_owner.as_ref().is_some_and(|next| lists.contains(&(next, &member.zone))) {
                passed_on.push(candidate);
                continue;
            }
            let vpc_ids = vpcs_of(listed, member);
            let clash = vpc_ids.iter().find(|vpc| taken.contains(&(&member.zone, *vpc)));
            let reason = match clash {
                _ if zones.contains_key(id) => Some(format!("there is a zone `{id}` in the manifest")),
                Some(vpc) => Some(format!("`{vpc}` has another zone of this name")),
                None => None,
            };
            if let Some(reason) = reason {
                let catalog = (*catalog_id).clone();
                left_out.push(LeftOut { catalog, reason: format!("{} is left out: {reason}", member.zone) });
                continue;
            }
            taken.extend(listed_vpcs(listed, member).map(|vpc| (&member.zone, vpc)));
            let zone = zone_of(catalog, listed, member, vpc_ids);
            let zone = match old.private_hosted_zones.get(id) {
                Some(old) if **old == zone => old.clone(),
                _ => Arc::new(zone),
            };
            // What a catalog hands over goes along, unless the new one wants it transferred anew (RFC 9432, 5.4).
            let handed_over = || {
                let from = passed_on.iter().find(|from| {
                    from.member.zone == member.zone
                        && from.member.label == member.label
                        && from.member.next_owner.as_ref() == Some(&catalog.name)
                })?;
                kept.get(&from.id)
            };
            let held = kept.get(id).or_else(handed_over).filter(|held| held.content.zone == zone.name);
            transferred.extend(held.map(|held| (id.clone(), held.clone())));
            extended.private_hosted_zones.insert(id.clone(), zone);
        }
    }
    let digest = digest_with(loaded.digest, &transferred);
    Loaded { manifest, transferred, left_out, digest, ..loaded }
}

/// The VPCs that a listed zone is for: those of its groups, or else those of the catalog.
fn listed_vpcs<'a>(listed: &'a Catalog, member: &'a Member) -> impl Iterator<Item = &'a Id> {
    let known = || member.groups.iter().filter_map(|group| listed.groups.get(group));
    let default = known().next().is_none().then_some(&listed.vpc_ids);
    known().chain(default).flatten()
}

fn vpcs_of(listed: &Catalog, member: &Member) -> Vec<Id> {
    listed_vpcs(listed, member).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

fn zone_of(catalog: &PrivateHostedZone, listed: &Catalog, member: &Member, vpc_ids: Vec<Id>) -> PrivateHostedZone {
    let primaries: &[Primary] = if listed.primaries.is_empty() { &catalog.primaries } else { &listed.primaries };
    PrivateHostedZone {
        vpc_ids,
        fallthrough: catalog.fallthrough,
        primaries: primaries.to_vec(),
        allow_notify: catalog.allow_notify.clone(),
        ..PrivateHostedZone::bare(member.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::transferred::{Held, tests::content};
    use serde_json::json;

    const HEAD: &str = "@ 0 SOA invalid. invalid. 1 60 60 600 0\n@ 0 NS invalid.\n";

    fn catalog(text: &str) -> Content {
        content("cat.example", &format!("{HEAD}{text}"))
    }

    #[test]
    fn a_catalog_lists_zones() {
        let text = "version 0 TXT \"2\"\n\
                    b.zones 0 PTR b.example.\nA.Zones 0 PTR a.example.\n\
                    group.a.zones 0 TXT \"prod\"\ngroup.a.zones 0 TXT \"te\" \"st\"\ncoo.a.zones 0 PTR other.example.\n\
                    group.none.zones 0 TXT x\nx.ext 0 TXT y\nprimaries.ext.zones 0 A 10.0.0.1\n";
        let found = read(&catalog(text)).unwrap();
        let names: Vec<_> = found.iter().map(|member| (member.label.as_str(), member.zone.to_string())).collect();
        assert_eq!(names, [("a", "a.example.".to_string()), ("b", "b.example.".to_string())]);
        assert_eq!(found[0].groups, ["prod", "test"]);
        assert_eq!(found[0].next_owner, Some(Name::absolute("other.example").unwrap()));
        assert_eq!((found[1].groups.len(), &found[1].next_owner), (0, &None));
    }

    #[test]
    fn broken_catalogs() {
        let version = "version 0 TXT 2\n";
        for (text, message) in [
            ("", "the catalog has no version: version.cat.example. TXT \"2\" is missing"),
            ("version 0 TXT 1\n", "the catalog has version \"1\", and only version 2 is understood"),
            ("version 0 TXT 2\nversion 0 TXT 3\n", "the catalog has 2 version properties"),
            (
                &format!("{version}a.zones 0 PTR a.\na.zones 0 PTR b.\n"),
                "a.zones.cat.example. has 2 PTR records, not one",
            ),
            (&format!("{version}a.zones 0 PTR a.\nb.zones 0 PTR A.\n"), "the catalog lists A. twice"),
            (&format!("{version}a.zones 0 PTR cat.example.\n"), "the catalog lists itself, by the label a"),
            (
                &format!("{version}a.zones 0 PTR a.\ncoo.a.zones 0 PTR b.\ncoo.a.zones 0 PTR c.\n"),
                "coo.a.zones.cat.example. has 2 PTR records, not one",
            ),
        ] {
            assert_eq!(read(&catalog(text)).unwrap_err(), message);
        }
    }

    #[test]
    fn a_catalog_that_empties_is_doubted() {
        let members = |count: usize| -> Vec<Member> {
            let name = |n: usize| Name::absolute(&format!("z{n}.example")).unwrap();
            let member =
                |n: usize| Member { label: n.to_string(), zone: name(n), groups: Vec::new(), next_owner: None };
            (0..count).map(member).collect()
        };
        for (old, new, expected) in
            [(10, 7, false), (10, 6, true), (9, 0, false), (100, 0, true), (100, 71, false), (0, 9, false)]
        {
            assert_eq!(shrinks(&members(old), &members(new)).is_some(), expected, "{old} to {new}");
        }
    }

    fn loaded(zones: serde_json::Value) -> Loaded {
        let vpc = json!({"region": "r", "cidr_blocks": []});
        let manifest = json!({"vpcs": {"a": vpc, "b": vpc}, "private_hosted_zones": zones});
        Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() }
    }

    fn held(content: Content) -> Held {
        Held { content: Arc::new(content), is_expired: false }
    }

    #[test]
    fn members_become_zones() {
        let catalog_zone = json!({"name": "cat.example", "vpc_ids": [], "primaries": [{"ip": "10.0.0.1"}],
                                  "catalog": {"vpc_ids": ["a"], "groups": {"prod": ["b"], "both": ["a", "b"]}}});
        let loaded = loaded(json!({"C": catalog_zone, "Z": {"name": "mine.example", "vpc_ids": ["a"]}}));
        let text = "version 0 TXT 2\n1.zones 0 PTR one.example.\n2.zones 0 PTR two.example.\n3.zones 0 PTR mine.example.\n\
                    4.zones 0 PTR four.example.\n5.zones 0 PTR mine.example.\n";
        let text =
            text.replace("5.zones 0 PTR mine.example.\n", "group.2.zones 0 TXT prod\ngroup.4.zones 0 TXT other\n");
        let kept = Transferred::unit("C".into(), held(catalog(&text)));
        let complete_once = complete(loaded.clone(), &kept, &Manifest::default());
        let zones = &complete_once.manifest.private_hosted_zones;
        let vpcs: Vec<_> = zones.iter().map(|(id, zone)| (id.as_str(), zone.vpc_ids.join(","))).collect();
        let expected = [("C", ""), ("C/1", "a"), ("C/2", "b"), ("C/4", "a"), ("Z", "a")];
        assert_eq!(vpcs, expected.map(|(id, vpcs)| (id, vpcs.to_string())));
        assert_eq!(zones["C/1"].primaries, zones["C"].primaries);
        let reason = "mine.example. is left out: `a` has another zone of this name".to_string();
        assert_eq!(complete_once.left_out, [LeftOut { catalog: "C".into(), reason }]);
        assert_ne!(complete_once.digest, loaded.digest);
        let again = complete(loaded, &kept, &complete_once.manifest);
        assert!(Arc::ptr_eq(&zones["C/1"], &again.manifest.private_hosted_zones["C/1"]));
    }

    #[test]
    fn ownership_stays_or_is_handed_over() {
        let zone = |name: &str| json!({"name": name, "vpc_ids": [], "primaries": [{"ip": "10.0.0.1"}], "catalog": {"vpc_ids": ["a"]}});
        let loaded = loaded(json!({"A": zone("a.cat"), "B": zone("b.cat")}));
        let list = |catalog: &str, more: &str| {
            held(content(catalog, &format!("{HEAD}version 0 TXT 2\nx.zones 0 PTR one.example.\n{more}")))
        };
        let member = held(content("one.example", "@ 0 SOA a. b. 1 60 60 600 0\n"));
        let ids = |kept: &Transferred| {
            let completed = complete(loaded.clone(), kept, &Manifest::default());
            let zones = completed.manifest.private_hosted_zones.keys().filter(|id| id.contains('/')).cloned();
            (zones.collect::<Vec<_>>(), completed.left_out.len(), completed.transferred)
        };
        let mut kept: Transferred = [("A", list("a.cat", "")), ("B", list("b.cat", ""))]
            .map(|(id, held)| (id.to_string(), held))
            .into_iter()
            .collect();
        assert_eq!(ids(&kept).0, ["A/x"]);
        kept.insert("B/x".into(), member.clone());
        assert_eq!((ids(&kept).0, ids(&kept).1), (vec!["B/x".to_string()], 1));
        kept.insert("B".into(), list("b.cat", "coo.x.zones 0 PTR a.cat.\n"));
        let (zones, left_out, transferred) = ids(&kept);
        assert_eq!((zones, left_out), (vec!["A/x".to_string()], 0));
        assert!(Arc::ptr_eq(&transferred["A/x"].content, &member.content), "its records go along");
    }
}
