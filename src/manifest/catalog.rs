//! Catalog zones (RFC 9432). A catalog zone lists zones, its members; each member becomes a private
//! hosted zone of the manifest.

use super::{
    Catalog, Id, Loaded, Manifest, Primary, PrivateHostedZone,
    transferred::{Content, Transferred, digest_with},
};
use crate::wire::{Name, name::name_text, rdata::rtype};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// The supported version of the catalog schema (RFC 9432, section 4.2.1).
const VERSION: &[u8] = b"2";

/// The largest share of a catalog's members that can be removed at once, in percent.
pub const MAX_REMOVED_PERCENT: usize = 30;
/// The smallest catalog that [`MAX_REMOVED_PERCENT`] applies to, in members. All members of a
/// smaller one can be removed.
pub const MIN_GUARDED_MEMBERS: usize = 10;

/// A member of a catalog: a zone that it lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The unique label of the member, as text. With another label it is another zone, and its
    /// records are transferred again (RFC 9432, section 5.4).
    pub label: String,
    /// The apex of the zone.
    pub zone: Name,
    /// The values of its `group` properties (RFC 9432, section 4.4.2).
    pub groups: Vec<String>,
    /// The value of its `coo` property: the catalog that takes over the member (RFC 9432, section
    /// 4.4.1).
    pub next_owner: Option<Name>,
}

/// Reads the members of a catalog, in the order of their labels.
///
/// # Errors
///
/// The reason why the catalog is broken. zonal does not process a broken catalog (RFC 9432, section
/// 5.1).
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
        [] => return Err(format!("the catalog has no version; add the record version.{catalog} TXT \"2\"")),
        [version] => {
            let version = String::from_utf8_lossy(version);
            return Err(format!("the catalog has version {version:?}; zonal supports version 2"));
        }
        several => return Err(format!("the catalog has {} version properties; expected one", several.len())),
    }
    let mut seen = HashSet::new();
    let mut list = Vec::with_capacity(members.len());
    for (label, zones) in members {
        let shown = shown(&label);
        let [zone] = &zones[..] else {
            return Err(format!("{shown}.zones.{catalog} has {} PTR records; expected one", zones.len()));
        };
        if zone == catalog {
            return Err(format!("the catalog lists itself, with the label {shown}"));
        }
        if !seen.insert(zone.to_lowercase()) {
            return Err(format!("the catalog lists {zone} twice"));
        }
        let owners = owners.remove(&label).unwrap_or_default();
        if owners.len() > 1 {
            return Err(format!("coo.{shown}.zones.{catalog} has {} PTR records; expected one", owners.len()));
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
    name_text(&wire).trim_end_matches('.').into()
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

/// Checks that a new version of a catalog does not remove too many members at once. Returns the
/// error message if it does.
pub fn excessive_removal(old: &[Member], new: &[Member]) -> Option<String> {
    let new_zones: HashSet<&Name> = new.iter().map(|member| &member.zone).collect();
    let removed = old.iter().filter(|member| !new_zones.contains(&member.zone)).count();
    (old.len() >= MIN_GUARDED_MEMBERS && removed * 100 > old.len() * MAX_REMOVED_PERCENT).then(|| {
        format!(
            "the catalog removes {removed} of {} zones, more than {MAX_REMOVED_PERCENT} %: zonal keeps the old members until \
             fewer are missing; to accept the removal, give the catalog another identifier in the manifest",
            old.len()
        )
    })
}

/// A member of a catalog that zonal does not serve.
#[derive(Clone, Debug, PartialEq)]
pub struct OmittedMember {
    /// The identifier of the catalog.
    pub catalog: Id,
    /// The name of the zone and the reason, as one message.
    pub reason: String,
}

/// A member that may become a zone.
struct Candidate<'a> {
    id: Id,
    catalog_id: &'a Id,
    catalog: &'a PrivateHostedZone,
    listed: &'a Catalog,
    member: &'a Member,
}

/// Adds to a loaded manifest the records of transferred zones, and the members of catalogs as
/// zones. A zone that is equal in `old`, the manifest that is served, is shared with it.
pub fn complete(loaded: Loaded, copies: &Transferred, old: &Manifest) -> Loaded {
    let mut transferred = Transferred::new();
    let mut omitted_members = Vec::new();
    let mut manifest = loaded.manifest.clone();
    let zones = &loaded.manifest.private_hosted_zones;
    let mut catalogs = Vec::new();
    for (id, zone) in zones.iter().filter(|(_, zone)| zone.is_transferred()) {
        let copy = copies.get(id).filter(|copy| copy.content.zone == zone.name);
        transferred.extend(copy.map(|copy| (id.clone(), copy.clone())));
        if let (Some(listed), Some(copy)) = (&zone.catalog, copy) {
            catalogs.push((id, zone, listed, copy.content.members().unwrap_or_default()));
        }
    }
    if catalogs.iter().any(|(.., members)| !members.is_empty()) {
        let mut taken: HashSet<(&Name, &Id)> =
            zones.values().flat_map(|zone| zone.vpc_ids.iter().map(|vpc| (&zone.name, vpc))).collect();
        // The names of catalog and zone, for each member.
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
        // A catalog keeps a zone that it has, even if another catalog lists it too (RFC 9432,
        // section 4.4.1).
        candidates.sort_by_key(|candidate| !copies.contains_key(&candidate.id));
        let mut handed_over: Vec<Candidate> = Vec::new();
        let extended = Arc::make_mut(&mut manifest);
        for candidate in candidates {
            let Candidate { id, catalog_id, catalog, listed, member } = &candidate;
            if member.next_owner.as_ref().is_some_and(|next| lists.contains(&(next, &member.zone))) {
                handed_over.push(candidate);
                continue;
            }
            let vpc_ids = vpcs_of(listed, member);
            let clash = vpc_ids.iter().find(|vpc| taken.contains(&(&member.zone, *vpc)));
            let reason = match clash {
                _ if zones.contains_key(id) => Some(format!("the manifest has another zone `{id}`")),
                Some(vpc) => Some(format!("`{vpc}` has another zone of this name")),
                None => None,
            };
            if let Some(reason) = reason {
                let catalog = (*catalog_id).clone();
                omitted_members
                    .push(OmittedMember { catalog, reason: format!("zonal does not serve {}: {reason}", member.zone) });
                continue;
            }
            taken.extend(listed_vpcs(listed, member).map(|vpc| (&member.zone, vpc)));
            let zone = zone_of(catalog, listed, member, vpc_ids);
            let zone = match old.private_hosted_zones.get(id) {
                Some(old) if **old == zone => old.clone(),
                _ => Arc::new(zone),
            };
            // The records of a zone move to the new catalog, unless its label changes (RFC 9432,
            // section 5.4).
            let from_old_catalog = || {
                let from = handed_over.iter().find(|from| {
                    from.member.zone == member.zone
                        && from.member.label == member.label
                        && from.member.next_owner.as_ref() == Some(&catalog.name)
                })?;
                copies.get(&from.id)
            };
            let copy = copies.get(id).or_else(from_old_catalog).filter(|copy| copy.content.zone == zone.name);
            transferred.extend(copy.map(|copy| (id.clone(), copy.clone())));
            extended.private_hosted_zones.insert(id.clone(), zone);
        }
    }
    let digest = digest_with(loaded.digest, &transferred);
    Loaded { manifest, transferred, omitted_members, digest, ..loaded }
}

/// The VPCs that see a member: those of its groups, or those of the catalog if the manifest lists
/// none of its groups.
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
        ..PrivateHostedZone::empty(member.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::transferred::{ZoneCopy, tests::content};
    use serde_json::json;

    const HEAD: &str = "@ 0 SOA invalid. invalid. 1 60 60 600 0\n@ 0 NS invalid.\n";

    fn catalog(text: &str) -> Content {
        content("cat.example", &format!("{HEAD}{text}"))
    }

    #[test]
    fn reads_members_with_their_properties() {
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
    fn refuses_broken_catalogs() {
        let version = "version 0 TXT 2\n";
        for (text, message) in [
            ("", "the catalog has no version; add the record version.cat.example. TXT \"2\""),
            ("version 0 TXT 1\n", "the catalog has version \"1\"; zonal supports version 2"),
            ("version 0 TXT 2\nversion 0 TXT 3\n", "the catalog has 2 version properties; expected one"),
            (
                &format!("{version}a.zones 0 PTR a.\na.zones 0 PTR b.\n"),
                "a.zones.cat.example. has 2 PTR records; expected one",
            ),
            (&format!("{version}a.zones 0 PTR a.\nb.zones 0 PTR A.\n"), "the catalog lists A. twice"),
            (&format!("{version}a.zones 0 PTR cat.example.\n"), "the catalog lists itself, with the label a"),
            (
                &format!("{version}a.zones 0 PTR a.\ncoo.a.zones 0 PTR b.\ncoo.a.zones 0 PTR c.\n"),
                "coo.a.zones.cat.example. has 2 PTR records; expected one",
            ),
        ] {
            assert_eq!(read(&catalog(text)).unwrap_err(), message);
        }
    }

    #[test]
    fn refuses_to_remove_too_many_members_at_once() {
        let members = |count: usize| -> Vec<Member> {
            let name = |n: usize| Name::absolute(&format!("z{n}.example")).unwrap();
            let member =
                |n: usize| Member { label: n.to_string(), zone: name(n), groups: Vec::new(), next_owner: None };
            (0..count).map(member).collect()
        };
        for (old, new, expected) in
            [(10, 7, false), (10, 6, true), (9, 0, false), (100, 0, true), (100, 71, false), (0, 9, false)]
        {
            assert_eq!(excessive_removal(&members(old), &members(new)).is_some(), expected, "{old} to {new}");
        }
    }

    fn loaded(zones: serde_json::Value) -> Loaded {
        let vpc = json!({"region": "r", "cidr_blocks": []});
        let manifest = json!({"vpcs": {"a": vpc, "b": vpc}, "private_hosted_zones": zones});
        Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() }
    }

    fn copy(content: Content) -> ZoneCopy {
        ZoneCopy { content: Arc::new(content), is_expired: false }
    }

    #[test]
    fn adds_members_as_zones() {
        let catalog_zone = json!({"name": "cat.example", "vpc_ids": [], "primaries": [{"ip": "10.0.0.1"}],
                                  "catalog": {"vpc_ids": ["a"], "groups": {"prod": ["b"], "both": ["a", "b"]}}});
        let loaded = loaded(json!({"C": catalog_zone, "Z": {"name": "mine.example", "vpc_ids": ["a"]}}));
        let text = "version 0 TXT 2\n1.zones 0 PTR one.example.\n2.zones 0 PTR two.example.\n3.zones 0 PTR mine.example.\n\
                    4.zones 0 PTR four.example.\n5.zones 0 PTR mine.example.\n";
        let text =
            text.replace("5.zones 0 PTR mine.example.\n", "group.2.zones 0 TXT prod\ngroup.4.zones 0 TXT other\n");
        let kept = Transferred::unit("C".into(), copy(catalog(&text)));
        let complete_once = complete(loaded.clone(), &kept, &Manifest::default());
        let zones = &complete_once.manifest.private_hosted_zones;
        let vpcs: Vec<_> = zones.iter().map(|(id, zone)| (id.as_str(), zone.vpc_ids.join(","))).collect();
        let expected = [("C", ""), ("C/1", "a"), ("C/2", "b"), ("C/4", "a"), ("Z", "a")];
        assert_eq!(vpcs, expected.map(|(id, vpcs)| (id, vpcs.to_string())));
        assert_eq!(zones["C/1"].primaries, zones["C"].primaries);
        let reason = "zonal does not serve mine.example.: `a` has another zone of this name".to_string();
        assert_eq!(complete_once.omitted_members, [OmittedMember { catalog: "C".into(), reason }]);
        assert_ne!(complete_once.digest, loaded.digest);
        let again = complete(loaded, &kept, &complete_once.manifest);
        assert!(Arc::ptr_eq(&zones["C/1"], &again.manifest.private_hosted_zones["C/1"]));
    }

    #[test]
    fn keeps_a_member_until_its_catalog_hands_it_over() {
        let zone = |name: &str| json!({"name": name, "vpc_ids": [], "primaries": [{"ip": "10.0.0.1"}], "catalog": {"vpc_ids": ["a"]}});
        let loaded = loaded(json!({"A": zone("a.cat"), "B": zone("b.cat")}));
        let list = |catalog: &str, more: &str| {
            copy(content(catalog, &format!("{HEAD}version 0 TXT 2\nx.zones 0 PTR one.example.\n{more}")))
        };
        let member = copy(content("one.example", "@ 0 SOA a. b. 1 60 60 600 0\n"));
        let ids = |kept: &Transferred| {
            let completed = complete(loaded.clone(), kept, &Manifest::default());
            let zones = completed.manifest.private_hosted_zones.keys().filter(|id| id.contains('/')).cloned();
            (zones.collect::<Vec<_>>(), completed.omitted_members.len(), completed.transferred)
        };
        let mut kept: Transferred = [("A", list("a.cat", "")), ("B", list("b.cat", ""))]
            .map(|(id, copy)| (id.to_string(), copy))
            .into_iter()
            .collect();
        assert_eq!(ids(&kept).0, ["A/x"]);
        kept.insert("B/x".into(), member.clone());
        assert_eq!((ids(&kept).0, ids(&kept).1), (vec!["B/x".to_string()], 1));
        kept.insert("B".into(), list("b.cat", "coo.x.zones 0 PTR a.cat.\n"));
        let (zones, omitted_members, transferred) = ids(&kept);
        assert_eq!((zones, omitted_members), (vec!["A/x".to_string()], 0));
        assert!(Arc::ptr_eq(&transferred["A/x"].content, &member.content), "its records go along");
    }
}
