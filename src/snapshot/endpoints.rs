//! Endpoints: their names, and which of their interfaces answer whom.

use super::names::NameMap;
use crate::{
    manifest::{
        ClientRoutingPolicy, DnsRecordIpType, EndpointState, Health, Id, Manifest, NetworkInterface, PrivateDnsScope,
        VpcEndpoint, VpcEndpointService, VpcEndpointType, changes, same_resources,
    },
    wire::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// An Availability Zone: a number that stands for its ID, the same in all snapshots of a process.
pub type Az = u32;

/// The AZ IDs, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Azs {
    ids: Vec<Id>,
    numbers: HashMap<Id, Az>,
}

impl Azs {
    /// The number of an AZ ID, which is given out now if it has none.
    pub fn number(&mut self, id: &str) -> Az {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        let number = self.ids.len() as Az;
        self.ids.push(id.into());
        self.numbers.insert(id.into(), number);
        number
    }

    /// The AZ ID.
    pub fn id(&self, az: Az) -> &str {
        self.ids.get(az as usize).map_or("-", |id| id)
    }
}

/// An endpoint as it is served.
#[derive(Debug, PartialEq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: Id,
    /// What it was compiled from.
    pub source: Arc<VpcEndpoint>,
    /// Its interfaces.
    pub interfaces: Box<[Interface]>,
    /// The names that lead to it.
    pub names: Arc<Names>,
}

/// A network interface as it is served.
#[derive(Debug, PartialEq)]
pub struct Interface {
    /// Where it is.
    pub az: Az,
    /// Its addresses.
    pub source: NetworkInterface,
    /// Until when (in seconds since 1970) traffic is shifted away from it.
    pub shifted_until: i64,
}

impl Interface {
    /// Whether it is healthy and not shifted away.
    fn is_usable(&self, now: i64) -> bool {
        self.source.health == Health::Healthy && now >= self.shifted_until
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source.ipv4.map(IpAddr::V4),
            Family::V6 => self.source.ipv6.map(IpAddr::V6),
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

/// The names that lead to an endpoint.
#[derive(Debug, Default, PartialEq)]
pub struct Names {
    /// Regional and zonal names, which every view answers.
    pub public: Vec<(Box<[u8]>, EndpointName)>,
    /// Private names: for those who may see them.
    pub private: Vec<(Box<[u8]>, EndpointName)>,
    /// The VPC of the endpoint.
    pub vpc: Id,
    /// Its Region.
    pub region: String,
    /// Who resolves the private names.
    pub scope: PrivateDnsScope,
    /// The private names are for the inbound path only.
    pub inbound_only: bool,
}

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The endpoint's name for its whole Region.
    Regional,
    /// Its name for one AZ.
    Zonal(Az),
    /// A private name of its service.
    Private,
}

/// A name of an endpoint: the apex of a zone of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointName {
    /// Which endpoint: its place in the snapshot's list.
    pub slot: u32,
    /// What kind of name it is.
    pub kind: NameKind,
    /// The name itself leads to the endpoint.
    pub exact: bool,
    /// All names below it do.
    pub wildcard: bool,
    /// It has A records.
    pub v4: bool,
    /// It has AAAA records.
    pub v6: bool,
    /// It is a CNAME to this name instead.
    pub cname: Option<Name>,
}

impl EndpointName {
    /// Whether it has addresses of a family.
    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Who answers a private name: the name itself and the names below it can lead to different endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrivateName {
    /// Who answers the name itself.
    pub exact: Option<EndpointName>,
    /// Who answers the names below it.
    pub wildcard: Option<EndpointName>,
}

impl Endpoint {
    /// The interfaces that answer a client: resolution.md 3, "AZ choice". `kind` is that of the name asked for, `now` in
    /// seconds since 1970, and `draw` decides where chance does.
    pub fn choose(&self, family: Family, kind: NameKind, client: Option<Az>, now: i64, draw: u32) -> Choice<'_> {
        let mut choice = Choice { endpoint: self, family, az: None, usable_only: None };
        if let NameKind::Zonal(az) = kind {
            choice.az = Some(az);
            return choice;
        }
        // None usable: fail open.
        let usable = Choice { usable_only: Some(now), ..choice };
        if usable.interfaces().next().is_some() {
            choice = usable;
        }
        let has_affinity = match self.source.client_routing_policy {
            ClientRoutingPolicy::AvailabilityZoneAffinity => true,
            ClientRoutingPolicy::PartialAvailabilityZoneAffinity => share(draw) < 85,
            ClientRoutingPolicy::AnyAvailabilityZone => false,
        };
        if has_affinity && client.is_some() {
            let own = Choice { az: client, ..choice };
            if own.interfaces().next().is_some() {
                choice = own;
            }
        }
        choice
    }
}

/// A share of 100, drawn evenly.
fn share(draw: u32) -> u32 {
    (draw.wrapping_mul(0x9e37_79b1) >> 8) % 100
}

/// A choice among the interfaces of an endpoint.
#[derive(Clone, Copy)]
pub struct Choice<'e> {
    endpoint: &'e Endpoint,
    family: Family,
    /// Only these AZ's.
    pub az: Option<Az>,
    /// Only those usable at this time.
    pub usable_only: Option<i64>,
}

impl<'e> Choice<'e> {
    /// The chosen interfaces.
    pub fn interfaces(self) -> impl Iterator<Item = &'e Interface> + Clone {
        self.endpoint.interfaces.iter().filter(move |interface| {
            interface.address(self.family).is_some()
                && self.az.is_none_or(|az| az == interface.az)
                && self.usable_only.is_none_or(|now| interface.is_usable(now))
        })
    }

    /// Their addresses, beginning with another one at each draw.
    pub fn addresses(self, draw: u32) -> impl Iterator<Item = IpAddr> + use<'e> {
        let first = draw as usize % self.interfaces().count().max(1);
        let rotated = self.interfaces().skip(first).chain(self.interfaces().take(first));
        rotated.filter_map(move |interface| interface.address(self.family))
    }
}

/// All endpoints, compiled. Slots are kept from one snapshot to the next.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// By slot; none where one was taken away.
    pub list: Vec<Option<Arc<Endpoint>>>,
    slots: Arc<BTreeMap<Id, u32>>,
    /// Regional and zonal names.
    pub public: Arc<NameMap<EndpointName>>,
}

impl Endpoints {
    /// Compiles the endpoints of a manifest that follows on `previous`, of which these are the endpoints. What did not
    /// change is shared, the more so if no network changed. The flag says whether any name changed.
    pub fn follow(
        &self,
        previous: &Manifest,
        manifest: &Manifest,
        azs: &mut Azs,
        same_networks: bool,
    ) -> (Endpoints, bool) {
        let mut this = self.clone();
        let changed = changes(&previous.vpc_endpoints, &manifest.vpc_endpoints);
        let mut free: Vec<u32> = Vec::new();
        for change in changed.iter().filter(|change| change.new.is_none()) {
            if let Some(slot) = Arc::make_mut(&mut this.slots).remove(change.id) {
                this.list[slot as usize] = None;
                free.push(slot);
            }
        }
        let mut renamed = !free.is_empty();
        let same_around = same_networks && same_resources(&previous.zonal_shifts, &manifest.zonal_shifts);
        let services = changes(&previous.vpc_endpoint_services, &manifest.vpc_endpoint_services);
        let services: BTreeSet<&Id> = services.iter().map(|change| change.id).collect();
        let mut work: BTreeMap<&Id, &Arc<VpcEndpoint>> =
            changed.iter().filter_map(|change| Some((change.id, change.new?))).collect();
        if !same_around {
            work.extend(&manifest.vpc_endpoints);
        } else if !services.is_empty() {
            let theirs = |(_, endpoint): &(&Id, &Arc<VpcEndpoint>)| services.contains(&endpoint.service_name);
            work.extend(manifest.vpc_endpoints.iter().filter(theirs));
        }
        let az_names = AzNames::of(manifest);
        let shifts = Shifts::of(manifest);
        for (id, source) in work {
            let slot = match this.slots.get(id) {
                Some(slot) => *slot,
                None => {
                    let slot = free.pop().unwrap_or(this.list.len() as u32);
                    Arc::make_mut(&mut this.slots).insert(id.clone(), slot);
                    slot
                }
            };
            if slot as usize == this.list.len() {
                this.list.push(None);
            }
            let old = this.list[slot as usize].clone();
            let names = names_of(manifest, id, source, slot, azs, &az_names);
            let interfaces: Box<[Interface]> = source
                .network_interfaces
                .iter()
                .map(|interface| Interface {
                    az: azs.number(&interface.availability_zone_id),
                    source: interface.clone(),
                    shifted_until: shifts.until(id, &source.service_name, &interface.availability_zone_id),
                })
                .collect();
            let names = match &old {
                Some(old) if *old.names == names => old.names.clone(),
                _ => {
                    renamed = true;
                    Arc::new(names)
                }
            };
            let new = Endpoint { id: id.clone(), source: source.clone(), interfaces, names };
            this.list[slot as usize] = match old {
                Some(old) if *old == new => Some(old),
                _ => Some(Arc::new(new)),
            };
        }
        if renamed {
            this.public = Arc::new(NameMap::new(this.public_names()));
        }
        (this, renamed)
    }

    fn public_names(&self) -> Vec<(Box<[u8]>, EndpointName)> {
        let mut names = BTreeMap::new();
        for endpoint in self.iter() {
            for (name, what) in &endpoint.names.public {
                names.entry(name.clone()).or_insert_with(|| what.clone());
            }
        }
        names.into_iter().collect()
    }

    /// All endpoints, in the order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.slots.values().filter_map(|slot| self.get(*slot))
    }

    /// The endpoint in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Arc<Endpoint>> {
        self.list.get(slot as usize).and_then(Option::as_ref)
    }
}

/// AZ IDs to AZ names, for each account.
struct AzNames<'m>(HashMap<(&'m str, &'m str), &'m str>);

impl<'m> AzNames<'m> {
    fn of(manifest: &'m Manifest) -> AzNames<'m> {
        let mut names = HashMap::new();
        for vpc in manifest.vpcs.values().filter(|vpc| !vpc.owner_id.is_empty()) {
            for (name, id) in &vpc.availability_zones {
                names.entry((vpc.owner_id.as_str(), id.as_str())).or_insert(name.as_str());
            }
        }
        AzNames(names)
    }

    /// The name of an AZ in the account that owns the VPC; the VPC's own word counts first.
    fn name(&self, vpc: &'m crate::manifest::Vpc, az: &str) -> Option<&'m str> {
        let own = vpc.availability_zones.iter().find(|(_, id)| *id == az).map(|(name, _)| name.as_str());
        own.or_else(|| self.0.get(&(vpc.owner_id.as_str(), az)).copied())
    }
}

/// Until when which resources are shifted away from which AZs.
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

    fn until(&self, endpoint: &str, service: &str, az: &str) -> i64 {
        let ends = [endpoint, service, "*"].map(|resource| self.0.get(&(resource, az)).copied());
        ends.into_iter().flatten().max().unwrap_or(i64::MIN)
    }
}

fn lower(name: &Name) -> Box<[u8]> {
    name.to_lowercase().as_wire().into()
}

/// `api.aws`, below which service-defined names have AAAA records too.
const DUALSTACK_SUFFIX: &[u8] = b"\x03api\x03aws\0";

/// Whether an endpoint in its present state has names.
pub fn has_names(endpoint: &VpcEndpoint) -> bool {
    match endpoint.state {
        EndpointState::Available | EndpointState::Partial => true,
        EndpointState::Pending => !endpoint.network_interfaces.is_empty(),
        _ => false,
    }
}

/// The names of an endpoint (resolution.md 3). None of them in a state without names.
fn names_of<'m>(
    manifest: &'m Manifest,
    id: &str,
    endpoint: &VpcEndpoint,
    slot: u32,
    azs: &mut Azs,
    az_names: &AzNames<'m>,
) -> Names {
    let mut names = Names {
        vpc: endpoint.vpc_id.clone(),
        scope: endpoint.private_dns_scope.clone(),
        inbound_only: endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint,
        ..Names::default()
    };
    let (Some(service), Some(vpc)) =
        (manifest.vpc_endpoint_services.get(&endpoint.service_name), manifest.vpcs.get(&endpoint.vpc_id))
    else {
        return names;
    };
    names.region.clone_from(&vpc.region);
    if !has_names(endpoint) || endpoint.vpc_endpoint_type != VpcEndpointType::Interface {
        return names;
    }
    let wildcard = service.private_dns_names.iter().any(Name::is_wildcard);
    let template = |kind, apex: &[u8], exact, wildcard| {
        let (v4, v6) = families(endpoint.dns_options.dns_record_ip_type, apex);
        EndpointName { slot, kind, exact, wildcard, v4, v6, cname: None }
    };
    let label = match &endpoint.dns_name_suffix {
        Some(suffix) => format!("{id}-{suffix}"),
        None => id.to_string(),
    };
    let Ok(regional) = service.dns_name.child(label.as_bytes()) else { return names };
    let apex = lower(&regional);
    let name = template(NameKind::Regional, &apex, true, wildcard);
    names.public.push((apex, name));
    for interface in &endpoint.network_interfaces {
        let az = &interface.availability_zone_id;
        if let Some(az_name) = az_names.name(vpc, az)
            && let Ok(zonal) = service.dns_name.child(format!("{label}-{az_name}").as_bytes())
        {
            let apex = lower(&zonal);
            if names.public.iter().all(|(other, _)| *other != apex) {
                let name = template(NameKind::Zonal(azs.number(az)), &apex, true, wildcard);
                names.public.push((apex, name));
            }
        }
    }
    if endpoint.private_dns_enabled && vpc.enable_dns_support && vpc.enable_dns_hostnames && service.is_verified() {
        add_private(&mut names, service, regional, template);
    }
    names
}

fn add_private(
    names: &mut Names,
    service: &VpcEndpointService,
    regional: Name,
    template: impl Fn(NameKind, &[u8], bool, bool) -> EndpointName,
) {
    for private in &service.private_dns_names {
        let is_wildcard = private.is_wildcard();
        let Some(bare) = (if is_wildcard { private.parent() } else { Some(private.clone()) }) else { continue };
        let apex = lower(&bare);
        if let Some((_, name)) = names.private.iter_mut().find(|(other, _)| *other == apex) {
            name.exact |= !is_wildcard;
            name.wildcard |= is_wildcard;
            continue;
        }
        let mut name = template(NameKind::Private, &apex, !is_wildcard, is_wildcard);
        name.cname = (!service.is_amazon()).then(|| regional.clone());
        names.private.push((apex, name));
    }
}

/// Which address records a name has.
fn families(ip_type: DnsRecordIpType, apex: &[u8]) -> (bool, bool) {
    match ip_type {
        DnsRecordIpType::Ipv4 => (true, false),
        DnsRecordIpType::Ipv6 => (false, true),
        DnsRecordIpType::Dualstack => (true, true),
        DnsRecordIpType::ServiceDefined => (true, apex.ends_with(DUALSTACK_SUFFIX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Resources;

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

    /// All that is served of the endpoints, without the numbers of their slots.
    fn shown(endpoints: &Endpoints) -> Vec<String> {
        let label = |(name, what): &(Box<[u8]>, EndpointName)| {
            let id = endpoints.get(what.slot).map(|endpoint| &endpoint.id);
            format!("{:?} {id:?} {:?}", Name::from_wire(name).unwrap(), EndpointName { slot: 0, ..what.clone() })
        };
        let one = |endpoint: &Arc<Endpoint>| {
            let private: Vec<String> = endpoint.names.private.iter().map(label).collect();
            format!("{} {:?} {:?} {private:?}", endpoint.id, endpoint.source, endpoint.interfaces)
        };
        endpoints.iter().map(one).chain(endpoints.public.iter().map(label)).collect()
    }

    #[test]
    fn what_follows_a_change_is_what_is_compiled_anew() {
        let mut value: serde_json::Value = serde_json::from_str(FIRST).unwrap();
        let first: Manifest = serde_json::from_value(value.clone()).unwrap();
        let mut azs = Azs::default();
        let nothing = Manifest::default();
        let mut last = (Arc::new(first), Endpoints::default());
        last.1 = last.1.follow(&nothing, &last.0, &mut azs, false).0;
        let other = value["vpc_endpoints"]["a"].clone();
        // What is changed, the new value, and whether names change by it.
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
            let (endpoints, is_renamed) = last.1.follow(&last.0, &manifest, &mut azs, true);
            let (anew, _) = Endpoints::default().follow(&nothing, &manifest, &mut azs, false);
            assert_eq!(shown(&endpoints), shown(&anew), "{path}");
            assert_eq!(is_renamed, renamed, "{path}");
            last = (Arc::new(manifest), endpoints);
        }
    }

    /// An equal resource is the same one, as loading makes it.
    fn share<T: PartialEq>(new: &mut Resources<T>, old: &Resources<T>) {
        for (id, old) in old {
            if new.get(id) == Some(old) {
                new.insert(id.clone(), old.clone());
            }
        }
    }
}
