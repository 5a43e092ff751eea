//! All endpoints: a change compiles only the endpoints that it concerns, and tells which names have changed.

use super::{Azs, Endpoint, EndpointName, Interface, Names, names_of};
use crate::{
    manifest::{Change, Id, Manifest, PrivateDnsScope, Vpc, VpcEndpoint, changes},
    snapshot::{
        health::Targets,
        names::{Above, SharedNameMap},
        slots::{Index, Numbers, Slots},
    },
};
use imbl::OrdMap;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// All compiled endpoints. An endpoint keeps its slot from one snapshot to the next.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    list: Slots<Arc<Endpoint>>,
    slots: Numbers,
    /// Regional and zonal names.
    pub public: Arc<SharedNameMap<EndpointName>>,
    /// The number of public names one label below each name.
    parents: OrdMap<Box<[u8]>, u32>,
    /// The names above the public names.
    pub above_public: Arc<Above>,
    /// The public names that several endpoints have, with the slots of these endpoints.
    contested: OrdMap<Box<[u8]>, Vec<u32>>,
    /// The endpoints of each VPC.
    of_vpc: Index,
    /// The endpoints with private names, by the VPCs that their scope lists.
    listing: Index,
    /// The endpoints whose private names are for all connected VPCs, by their own VPC.
    exported: Index,
}

/// The names of endpoints before and after a change, of those endpoints whose names have changed.
#[derive(Default)]
pub struct Renamed(Vec<(Before, After)>);

type Before = Option<Arc<Names>>;
type After = Option<Arc<Names>>;

impl Renamed {
    /// Whether no names have changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The old and new names of endpoints whose private names, or their scope, have changed.
    pub fn private(&self) -> impl Iterator<Item = &Arc<Names>> {
        let key = |names: &Option<Arc<Names>>| {
            let names = names.as_ref().filter(|names| !names.private.is_empty())?;
            Some((
                names.private.clone(),
                names.vpc.clone(),
                names.region.clone(),
                names.scope.clone(),
                names.inbound_only,
            ))
        };
        let changed = self.0.iter().filter(move |(old, new)| key(old) != key(new));
        changed.flat_map(|(old, new)| [old, new]).flatten().filter(|names| !names.private.is_empty())
    }
}

impl Endpoints {
    /// Compiles the endpoints of a manifest. These are the endpoints of `previous`: unchanged ones are shared, and only those
    /// that a change concerns are compiled again.
    pub fn recompile(
        &self,
        previous: &Manifest,
        manifest: &Manifest,
        targets: &Targets,
        azs: &mut Azs,
    ) -> (Endpoints, Renamed) {
        let mut this = self.clone();
        let changed = changes(&previous.vpc_endpoints, &manifest.vpc_endpoints);
        let mut renamed = Renamed::default();
        for change in changed.iter().filter(|change| change.new.is_none()) {
            if let Some(slot) = this.slots.remove(change.id) {
                let old = this.list.get(slot).cloned();
                this.list.set(slot, None);
                this.index(slot, old.as_deref(), None);
                renamed.0.push((old.map(|old| old.names.clone()), None));
            }
        }
        let mut az_names = AzNames { manifest, of_accounts: None };
        let shifts = Shifts::of(manifest);
        for (id, source) in this.touched(previous, manifest, &changed) {
            let slot = this.slots.number(id);
            let old = this.list.get(slot).cloned();
            let names = names_of(manifest, id, source, slot, azs, &mut az_names);
            let interfaces: Box<[Interface]> = source
                .network_interfaces
                .iter()
                .map(|interface| Interface {
                    az: azs.number(&interface.availability_zone_id),
                    source: interface.clone(),
                    shifted_until: shifts.until(id, &source.service_name, &interface.availability_zone_id),
                    verdicts: [interface.ipv4.map(IpAddr::V4), interface.ipv6.map(IpAddr::V6)]
                        .map(|address| targets.of_interface(id, address?)),
                })
                .collect();
            let names = match &old {
                Some(old) if *old.names == names => old.names.clone(),
                _ => {
                    let names = Arc::new(names);
                    let old = old.as_ref().map(|old| old.names.clone());
                    renamed.0.push((old, Some(names.clone())));
                    names
                }
            };
            let new = Endpoint { id: id.clone(), source: source.clone(), interfaces, names };
            if old.as_deref() != Some(&new) {
                this.index(slot, old.as_deref(), Some(&new));
                this.list.set(slot, Some(Arc::new(new)));
            }
        }
        this.publish(&renamed);
        (this, renamed)
    }

    /// The endpoints of a manifest that a change concerns, in the order of their identifiers.
    fn touched<'m>(
        &self,
        previous: &Manifest,
        manifest: &'m Manifest,
        changed: &[Change<'m, VpcEndpoint>],
    ) -> BTreeMap<&'m Id, &'m Arc<VpcEndpoint>> {
        let mut touched: BTreeMap<&Id, &Arc<VpcEndpoint>> =
            changed.iter().filter_map(|change| Some((change.id, change.new?))).collect();
        let all = &manifest.vpc_endpoints;
        let shifts = changes(&previous.zonal_shifts, &manifest.zonal_shifts);
        let mut shifted: BTreeSet<&str> =
            shifts.iter().flat_map(|c| [c.old, c.new]).flatten().map(|s| &*s.resource).collect();
        if shifted.contains("*") {
            return all.iter().collect();
        }
        touched.extend(shifted.iter().filter_map(|id| all.get_key_value(id)));
        let services = changes(&previous.vpc_endpoint_services, &manifest.vpc_endpoint_services);
        shifted.extend(services.iter().map(|change| change.id.as_str()));
        if !shifted.is_empty() {
            touched.extend(all.iter().filter(|(_, endpoint)| shifted.contains(&*endpoint.service_name)));
        }
        for vpc in renaming_vpcs(previous, manifest) {
            let endpoints = self.of_vpc.of(vpc).filter_map(|slot| self.list.get(slot));
            touched.extend(endpoints.filter_map(|endpoint| all.get_key_value(&endpoint.id)));
        }
        touched
    }

    /// Updates the indices for an endpoint.
    fn index(&mut self, slot: u32, old: Option<&Endpoint>, new: Option<&Endpoint>) {
        let home = |endpoint: &Endpoint| endpoint.source.vpc_id.clone();
        if old.map(home) != new.map(home) {
            old.inspect(|old| self.of_vpc.remove(&old.source.vpc_id, slot));
            new.inspect(|new| self.of_vpc.add(&new.source.vpc_id, slot));
        }
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(&old.names, &new.names)
        {
            return;
        }
        let with_private = |endpoint: Option<&Endpoint>| {
            let names = endpoint.map(|endpoint| endpoint.names.clone());
            names.filter(|names| !names.private.is_empty())
        };
        let [old, new] = [old, new].map(with_private);
        match old.as_ref().map(|old| &old.scope) {
            Some(PrivateDnsScope::Connected) => old.iter().for_each(|old| self.exported.remove(&old.vpc, slot)),
            Some(PrivateDnsScope::Vpcs(ids)) => ids.iter().for_each(|id| self.listing.remove(id, slot)),
            Some(PrivateDnsScope::Vpc) | None => {}
        }
        match new.as_ref().map(|new| &new.scope) {
            Some(PrivateDnsScope::Connected) => new.iter().for_each(|new| self.exported.add(&new.vpc, slot)),
            Some(PrivateDnsScope::Vpcs(ids)) => ids.iter().for_each(|id| self.listing.add(id, slot)),
            Some(PrivateDnsScope::Vpc) | None => {}
        }
    }

    /// Updates the public names. Of several endpoints with one name, the first one by its identifier gets it.
    fn publish(&mut self, renamed: &Renamed) {
        let mut edits: BTreeMap<Box<[u8]>, Option<EndpointName>> = BTreeMap::new();
        let mut claims: BTreeMap<&[u8], Vec<u32>> = BTreeMap::new();
        for (name, what) in renamed.0.iter().filter_map(|(old, _)| old.as_ref()).flat_map(|names| &names.public) {
            let claimants = claims.entry(name).or_insert_with(|| self.claimants(name));
            claimants.retain(|slot| *slot != what.slot);
        }
        for (name, what) in renamed.0.iter().filter_map(|(_, new)| new.as_ref()).flat_map(|names| &names.public) {
            let claimants = claims.entry(name).or_insert_with(|| self.claimants(name));
            claimants.push(what.slot);
        }
        for (name, mut claimants) in claims {
            claimants.sort_by_key(|slot| self.get(*slot).map(|endpoint| &endpoint.id));
            let first = claimants.first().and_then(|slot| self.get(*slot));
            let what = first.and_then(|first| first.names.public.iter().find(|(own, _)| **own == *name));
            edits.insert(name.into(), what.map(|(_, what)| what.clone()));
            match claimants.len() {
                0 | 1 => drop(self.contested.remove(name)),
                _ => drop(self.contested.insert(name.into(), claimants)),
            }
        }
        if !edits.is_empty() {
            self.count_parents(&edits);
            Arc::make_mut(&mut self.public).edit(edits);
        }
    }

    /// Updates the names above the public names, before these are edited.
    fn count_parents(&mut self, edits: &BTreeMap<Box<[u8]>, Option<EndpointName>>) {
        let before = self.parents.len();
        let mut has_new = false;
        for (name, what) in edits {
            let parent = name.get(1 + usize::from(name[0])..).unwrap_or_default();
            let count = self.parents.get(parent).copied().unwrap_or(0);
            has_new |= count == 0;
            match (self.public.get(name).is_some(), what.is_some()) {
                (false, true) => drop(self.parents.insert(parent.into(), count + 1)),
                (true, false) if count <= 1 => drop(self.parents.remove(parent)),
                (true, false) => drop(self.parents.insert(parent.into(), count - 1)),
                _ => {}
            }
        }
        if has_new || self.parents.len() != before {
            // One name below each of them is enough to find all names above.
            let below: Vec<Vec<u8>> = self.parents.keys().map(|parent| [b"\x01-", &**parent].concat()).collect();
            self.above_public = Arc::new(Above::new(below.iter().map(|name| &**name)));
        }
    }

    /// The endpoints that have a public name.
    fn claimants(&self, name: &[u8]) -> Vec<u32> {
        match self.contested.get(name) {
            Some(claimants) => claimants.clone(),
            None => self.public.get(name).map(|what| what.slot).into_iter().collect(),
        }
    }

    /// All endpoints, in the order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.slots.iter().filter_map(|slot| self.get(slot))
    }

    /// The slot of an endpoint.
    pub fn slot_of(&self, id: &str) -> Option<u32> {
        self.slots.get(id)
    }

    /// The endpoint in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Arc<Endpoint>> {
        self.list.get(slot)
    }

    /// The endpoints of a VPC that have private names, in the order of their identifiers.
    pub fn with_private_names(&self, vpc: &str) -> Vec<&Arc<Endpoint>> {
        let mut all = self.all_of(self.of_vpc.of(vpc));
        all.retain(|endpoint| !endpoint.names.private.is_empty());
        all
    }

    /// The endpoints with private names whose scope lists a VPC, in the order of their identifiers.
    pub fn listing(&self, vpc: &str) -> Vec<&Arc<Endpoint>> {
        self.all_of(self.listing.of(vpc))
    }

    /// The endpoints of a VPC whose private names are for all connected VPCs, in the order of their identifiers.
    pub fn exported(&self, vpc: &str) -> Vec<&Arc<Endpoint>> {
        self.all_of(self.exported.of(vpc))
    }

    /// The exporters, in order: the VPCs with endpoints whose private names are for all connected VPCs.
    pub fn exporters(&self) -> impl Iterator<Item = &Id> {
        self.exported.ids()
    }

    /// Whether a VPC is an exporter.
    pub fn is_exporter(&self, vpc: &str) -> bool {
        self.exported.of(vpc).next().is_some()
    }

    fn all_of(&self, slots: impl Iterator<Item = u32>) -> Vec<&Arc<Endpoint>> {
        let mut all: Vec<_> = slots.filter_map(|slot| self.get(slot)).collect();
        all.sort_by_key(|endpoint| &endpoint.id);
        all
    }
}

/// The VPCs whose endpoints may get other names from a change of VPCs: the changed VPCs, and all VPCs of the same account if
/// names of AZs have changed.
fn renaming_vpcs<'m>(previous: &'m Manifest, manifest: &'m Manifest) -> HashSet<&'m Id> {
    let changed = changes(&previous.vpcs, &manifest.vpcs);
    let az_names = |vpc: Option<&'m Arc<Vpc>>| {
        let vpc = vpc.filter(|vpc| !vpc.availability_zones.is_empty() && !vpc.owner_id.is_empty())?;
        Some((&vpc.owner_id, &vpc.availability_zones))
    };
    let others = changed.iter().filter(|change| az_names(change.old) != az_names(change.new));
    let accounts: HashSet<&Id> = others
        .flat_map(|change| [az_names(change.old), az_names(change.new)])
        .flatten()
        .map(|(owner, _)| owner)
        .collect();
    let mut vpcs: HashSet<&Id> = changed.iter().map(|change| change.id).collect();
    if !accounts.is_empty() {
        vpcs.extend(manifest.vpcs.iter().filter(|(_, vpc)| accounts.contains(&vpc.owner_id)).map(|(id, _)| id));
    }
    vpcs
}

/// AZ IDs to AZ names, for each account.
pub(super) struct AzNames<'m> {
    manifest: &'m Manifest,
    /// AZ names by account and AZ ID, from all VPCs; made when a VPC does not name an AZ itself.
    of_accounts: Option<HashMap<(&'m str, &'m str), &'m str>>,
}

impl<'m> AzNames<'m> {
    /// The name of an AZ in the account that owns the VPC. The VPC's own `availability_zones` come first.
    pub(super) fn name(&mut self, vpc: &'m Vpc, az: &str) -> Option<&'m str> {
        let own = vpc.availability_zones.iter().find(|(_, id)| *id == az).map(|(name, _)| name.as_str());
        if own.is_some() || vpc.owner_id.is_empty() {
            return own;
        }
        let manifest = self.manifest;
        let of_accounts = self.of_accounts.get_or_insert_with(|| {
            let mut names = HashMap::new();
            for vpc in manifest.vpcs.values().filter(|vpc| !vpc.owner_id.is_empty()) {
                for (name, id) in &vpc.availability_zones {
                    names.entry((vpc.owner_id.as_str(), id.as_str())).or_insert(name.as_str());
                }
            }
            names
        });
        of_accounts.get(&(vpc.owner_id.as_str(), az)).copied()
    }
}

/// The ends of zonal shifts, by resource and AZ.
struct Shifts<'m>(HashMap<(&'m str, &'m str), i64>);

impl<'m> Shifts<'m> {
    fn of(manifest: &'m Manifest) -> Shifts<'m> {
        let mut shifts = HashMap::new();
        for shift in manifest.zonal_shifts.values() {
            let until = shift.expires_at.map_or(i64::MAX, |time| time.as_second());
            let entry = shifts.entry((shift.resource.as_str(), shift.away_from.as_str())).or_insert(until);
            *entry = until.max(*entry);
        }
        Shifts(shifts)
    }

    /// The time until which traffic to an interface is shifted away, in seconds since 1970.
    fn until(&self, endpoint: &str, service: &str, az: &str) -> i64 {
        let ends = [endpoint, service, "*"].map(|resource| self.0.get(&(resource, az)).copied());
        ends.into_iter().flatten().max().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Resources, wire::Name};

    const FIRST: &str = r#"{
        "vpcs": {"v": {"region": "r", "cidr_blocks": ["10.0.0.0/8"], "availability_zones": {"r-a": "az1", "r-b": "az2"}}},
        "vpc_endpoint_services": {
            "s": {"owner_id": "amazon", "region": "r", "dns_name": "s.example", "private_dns_names": ["p.example"]},
            "t": {"owner_id": "9", "region": "r", "dns_name": "t.example", "private_dns_names": ["q.example"]}},
        "vpc_endpoints": {
            "a": {"vpc_endpoint_type": "Interface", "vpc_id": "v", "state": "Available", "service_name": "s",
                "private_dns_enabled": true, "network_interfaces": [{"availability_zone_id": "az1", "ipv4": "10.0.0.1"}]},
            "b": {"vpc_endpoint_type": "Interface", "vpc_id": "v", "state": "Available", "service_name": "t",
                "private_dns_enabled": true, "network_interfaces": [{"availability_zone_id": "az2", "ipv4": "10.0.0.2"}]}}}"#;

    /// The content of the endpoints as text, without the numbers of their slots.
    fn shown(endpoints: &Endpoints) -> Vec<String> {
        let label = |(name, what): &(Box<[u8]>, EndpointName)| {
            let id = endpoints.get(what.slot).map(|endpoint| &endpoint.id);
            format!("{:?} {id:?} {:?}", Name::from_wire(name).unwrap(), EndpointName { slot: 0, ..what.clone() })
        };
        let one = |endpoint: &Arc<Endpoint>| {
            let private: Vec<String> = endpoint.names.private.iter().map(label).collect();
            format!("{} {:?} {:?} {private:?}", endpoint.id, endpoint.source, endpoint.interfaces)
        };
        let public: BTreeSet<String> = endpoints.public.iter().map(label).collect();
        endpoints.iter().map(one).chain(public).collect()
    }

    #[test]
    fn compiles_the_same_endpoints_after_a_change_as_from_the_start() {
        let mut value: serde_json::Value = serde_json::from_str(FIRST).unwrap();
        let first: Manifest = serde_json::from_value(value.clone()).unwrap();
        let mut azs = Azs::default();
        let nothing = Manifest::default();
        let mut last = (Arc::new(first), Endpoints::default());
        last.1 = last.1.recompile(&nothing, &last.0, &Targets::default(), &mut azs).0;
        let other = value["vpc_endpoints"]["a"].clone();
        // The changed field, its new value, and whether names change.
        for (path, new, renamed) in [
            ("/vpc_endpoints/a/network_interfaces/0/ipv4", "10.0.0.9".into(), false),
            ("/vpc_endpoints/a/dns_name_suffix", "x".into(), true),
            ("/vpc_endpoints/c", other.clone(), true),
            ("/vpc_endpoints/a", serde_json::Value::Null, true),
            ("/vpc_endpoints/d", other, true),
            ("/vpc_endpoint_services/t/owner_id", "amazon".into(), true),
            ("/vpc_endpoint_services/s/private_dns_names/0", "*.p.example".into(), true),
            ("/zonal_shifts", serde_json::json!({"z": {"resource": "*", "away_from": "az2"}}), false),
        ] {
            let (parent, key) = path.rsplit_once('/').unwrap();
            match value.pointer_mut(parent).unwrap() {
                serde_json::Value::Array(list) => list[key.parse::<usize>().unwrap()] = new,
                serde_json::Value::Object(map) if new.is_null() => drop(map.remove(key)),
                parent => parent[key] = new,
            }
            let mut manifest: Manifest = serde_json::from_value(value.clone()).unwrap();
            share(&mut manifest.vpc_endpoints, &last.0.vpc_endpoints);
            share(&mut manifest.vpc_endpoint_services, &last.0.vpc_endpoint_services);
            share(&mut manifest.zonal_shifts, &last.0.zonal_shifts);
            let (endpoints, is_renamed) = last.1.recompile(&last.0, &manifest, &Targets::default(), &mut azs);
            let (expected, _) = Endpoints::default().recompile(&nothing, &manifest, &Targets::default(), &mut azs);
            assert_eq!(shown(&endpoints), shown(&expected), "{path}");
            assert_eq!(!is_renamed.is_empty(), renamed, "{path}");
            last = (Arc::new(manifest), endpoints);
        }
    }

    /// Makes equal resources the same in memory, as loading does.
    fn share<T: PartialEq>(new: &mut Resources<T>, old: &Resources<T>) {
        for (id, old) in old {
            if new.get(id) == Some(old) {
                new.insert(id.clone(), old.clone());
            }
        }
    }
}
