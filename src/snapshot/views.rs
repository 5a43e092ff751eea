//! Views: the names that the clients of one network see by one path.
//!
//! A view is a few maps, and equal maps are shared with other views. Names are in no view themselves.
//!
//! ```text
//! View -> policies     zones and rules of its VPC
//!      -> own          private names of endpoints in the client's VPC or in its own, and of endpoints that list its VPC
//!      -> shared       private names of endpoints in all connected VPCs
//!      -> layers       members of the Profiles of its VPC
//!      -> autodefined  domains of the Regions that it has address names of
//! ```
//!
//! All views have the public hosted zones, below everything else that they have.
//!
//! All views have the names of [`LOCALLY_SERVED`](super::autodefined::LOCALLY_SERVED), unless their VPC has disabled
//! autodefined names or reverse zones, and the public names of all endpoints.

mod compile;
mod lists;
mod policies;
mod profiles;

pub use compile::{Input, Previous, check_size, compile};
pub use policies::{DelegateRules, Delegating, Policies, Policy};
pub use profiles::{CompiledProfile, ProfileLayer};

use super::{
    autodefined::Autodefined,
    endpoints::{Endpoint, EndpointName, PrivateName},
    names::NameMap,
    networks::{ClientPath, NetworkAt, ViewKey},
    routes::{Route, RouteId},
    slots::{Numbers, Slots},
    zone::Zone,
    zones::Zones,
};
use crate::{
    manifest::{
        PrivateDnsScope,
        connectivity::{Connectivity, Network},
    },
    wire::query::LookupName,
};
use profiles::{Layer, ProfileNames};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The names that the clients of one network see by one path. [`Views::policies`] and [`Views::shared`] return the maps that
/// it shares with other views.
#[derive(Clone)]
pub struct View {
    /// Its label in metrics: the VPC; on an inbound path, the VPC and the client's network.
    pub label: Arc<str>,
    /// Its index into [`Views::labels`], the same in all later snapshots.
    pub slot: u32,
    /// The VPC whose names it has.
    pub vpc: NetworkAt,
    /// The clients' network, if it is known.
    client: Option<NetworkAt>,
    /// The path of its clients.
    pub path: ClientPath,
    /// Private names of endpoints in the client's VPC or in the view's, and of endpoints whose scope lists the view's VPC. Views with
    /// the same endpoints share them.
    pub own: Arc<NameMap<PrivateName>>,
    /// The slot of the private names of connected VPCs.
    shared: u32,
    /// The Profiles of its VPC, in the order of their priorities.
    layers: Arc<[Layer]>,
    /// Autodefined zones beside the locally served ones; none if the VPC has disabled all of them.
    pub autodefined: Option<Arc<NameMap<Autodefined>>>,
    /// It has autodefined reverse zones, unless its VPC has disabled all autodefined names.
    pub has_reverse: bool,
    /// Whether answers of the node's own recursion are validated for its clients; none: as the node does by default.
    pub dnssec_validation: Option<bool>,
    /// The VPCs whose addresses have autodefined names in this view, in order.
    pub named: Arc<[NetworkAt]>,
}

impl View {
    /// Whether its VPC has Profiles.
    #[inline]
    pub fn has_profiles(&self) -> bool {
        !self.layers.is_empty()
    }

    /// The clients' network, if it is known.
    pub fn client(&self) -> Option<NetworkAt> {
        self.client
    }
}

/// Private names of connected VPCs. Views that are connected to the same VPCs share them.
#[derive(Default)]
struct Shared {
    /// The VPCs of the endpoints.
    exporters: Vec<NetworkAt>,
    /// They are for an inbound path.
    inbound: bool,
    /// The Region whose endpoints come first.
    region: String,
    names: NameMap<PrivateName>,
}

/// The differences between views, which decide the scope of an answer.
pub struct Differences {
    /// All names at which at least one view has a rule, zone or name of its own.
    pub names: NameMap<()>,
    /// Some views have all locally served zones, and others have none or have no reverse zones.
    pub locally_served: bool,
    /// Some subnet or inbound endpoint has DNS64.
    pub dns64: bool,
    /// Some views have DELEGATE rules, which follow referrals of the internet resolver.
    pub delegates: bool,
    /// Answers of the node's own recursion are validated for some views, and not for others.
    pub validation: bool,
}

/// All views. A copy shares what does not change.
#[derive(Clone, Default)]
pub struct Views {
    list: Slots<Arc<View>>,
    /// The view inside each VPC, by the index of the VPC.
    in_vpc: Arc<Vec<Option<u32>>>,
    /// The views of inbound paths.
    inbound: Arc<HashMap<ViewKey, u32>>,
    /// The views of each VPC, and the views of the clients of each network.
    of_network: Arc<HashMap<NetworkAt, Vec<u32>>>,
    /// The rules and zones of each VPC, by the index of the VPC. VPCs with the same rules and zones share them.
    policies: Slots<Arc<Policies>>,
    shared: Slots<Arc<Shared>>,
    /// The Profiles, by their numbers.
    profiles: Slots<Arc<CompiledProfile>>,
    profile_numbers: Numbers,
    /// The private names that views have of Profiles.
    profile_names: Slots<Arc<ProfileNames>>,
    /// The DELEGATE rules of VPCs with Profiles, by the index of the VPC.
    delegating: Slots<Arc<Delegating>>,
    /// The numbers of the public hosted zones, by name.
    public: Arc<NameMap<u32>>,
    /// The differences between them; none if no forwarder names its clients by a prefix.
    pub differences: Option<Arc<Differences>>,
    /// The labels of all views of this process, by slot.
    pub labels: Arc<Vec<Arc<str>>>,
}

impl Views {
    /// The view with a key.
    #[inline]
    pub fn get(&self, key: ViewKey) -> Option<&View> {
        let at = match key {
            (vpc, ClientPath::InVpc, _) => self.in_vpc.get(vpc as usize).copied().flatten(),
            _ => self.inbound.get(&key).copied(),
        };
        self.list.get(at?).map(|view| &**view)
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.list.iter().map(|(_, view)| &**view)
    }

    /// The rules and zones of a view's VPC, if it has any.
    #[inline]
    pub fn policies(&self, view: &View) -> Option<&Policies> {
        self.policies.get(view.vpc).map(|policies| &**policies)
    }

    /// The private names that a view shares with all views that are connected to the same VPCs.
    #[inline]
    pub fn shared(&self, view: &View) -> Option<&NameMap<PrivateName>> {
        self.shared.get(view.shared).map(|shared| &shared.names)
    }

    /// The numbers of the public hosted zones, which all views have, by name.
    #[inline]
    pub fn public_zones(&self) -> &NameMap<u32> {
        &self.public
    }

    /// The number under which the cache keeps the answers of a route for a view. VPCs with different DELEGATE rules have
    /// different numbers: the rules decide which referrals are followed, and so the answers.
    #[inline]
    pub fn route_id(&self, view: &View, route: &Route) -> RouteId {
        let salt = match self.delegating.get(view.vpc) {
            Some(delegating) => delegating.salt,
            None => self.policies(view).map_or(0, |policies| policies.salt),
        };
        RouteId(route.id.0 ^ salt)
    }

    /// The DELEGATE rules of a view's VPC, if it has any.
    pub fn delegates(&self, view: &View) -> Option<&DelegateRules> {
        match self.delegating.get(view.vpc) {
            Some(delegating) => Some(&delegating.rules),
            None => self.policies(view).map(|policies| &policies.delegates),
        }
    }

    /// The route below a zone cut of a zone, `skip` labels above a name, if a DELEGATE rule follows the referral.
    pub fn route_below<'v>(
        &'v self,
        zones: &Zones,
        view: &'v View,
        zone: &Zone,
        name: &LookupName,
        skip: usize,
    ) -> Option<&'v Arc<Route>> {
        let own = self.policies(view);
        match self.delegating.get(view.vpc) {
            Some(delegating) => {
                let of_profiles = self.layers(view).map(|layer| &layer.profile.policies);
                delegating.route_below(zones, (own, of_profiles), zone, name, skip)
            }
            None => own?.delegations.find(name, skip),
        }
    }

    /// The number of the zone with a name that a view has, of its VPC or of a Profile.
    pub fn zone_named(&self, view: &View, name: &LookupName) -> Option<u32> {
        let of_profiles = self.layers(view).map(|layer| &layer.profile.policies);
        let mut all = self.policies(view).into_iter().chain(of_profiles);
        all.find_map(|policies| policies.names.find(name, 0)?.zone)
    }
}

/// The reason why a view does not have the private names of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The view is not in their scope.
    OutOfScope,
    /// The client's own network does not reach the endpoint's VPC.
    Unreachable,
    /// They are for inbound paths only.
    InboundOnly,
}

/// The reason why a view and its client do not have an endpoint's private names (docs/concepts/which-answer.md); none if they
/// have them. `viewing` is the VPC of the view, and `is_member` tells whether the endpoint is in a Profile of this VPC.
pub fn hidden(
    connectivity: &Connectivity,
    viewing: &Network,
    client: Option<&Network>,
    path: ClientPath,
    endpoint: &Endpoint,
    is_member: bool,
) -> Option<Hidden> {
    let home = Network::Vpc(endpoint.names.vpc.clone());
    let in_scope = match &endpoint.names.scope {
        PrivateDnsScope::Vpc => home == *viewing,
        PrivateDnsScope::Connected => connectivity.reaches(viewing, &home),
        PrivateDnsScope::Vpcs(ids) => ids.binary_search_by(|id| (**id).cmp(viewing.id())).is_ok(),
    };
    // A Profile's endpoint gives its names to each VPC that reaches it.
    let in_scope = in_scope || is_member && connectivity.reaches(viewing, &home);
    // A client in no known network reaches at least the VPC of its view.
    let is_reached = client.map_or(home == *viewing, |client| connectivity.reaches(client, &home));
    match (in_scope, is_reached) {
        (false, _) => Some(Hidden::OutOfScope),
        (true, false) => Some(Hidden::Unreachable),
        (true, true) => (!is_on_path(endpoint, path)).then_some(Hidden::InboundOnly),
    }
}

fn is_on_path(endpoint: &Endpoint, path: ClientPath) -> bool {
    path == ClientPath::Inbound || !endpoint.names.inbound_only
}

/// Adds an endpoint's private names, except names that another endpoint has already.
fn add_names(names: &mut BTreeMap<Box<[u8]>, PrivateName>, endpoint: &Endpoint) {
    for (apex, name) in &endpoint.names.private {
        let entry: &mut PrivateName = names.entry(apex.clone()).or_default();
        let set = |endpoint: &mut Option<EndpointName>, has_it: bool| {
            if has_it && endpoint.is_none() {
                *endpoint = Some(name.clone());
            }
        };
        set(&mut entry.exact, name.exact);
        set(&mut entry.wildcard, name.wildcard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::Loaded,
        snapshot::{Node, compile},
    };

    #[test]
    fn vpcs_with_different_delegate_rules_share_no_cached_answers() {
        let manifest = serde_json::json!({
            "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}, "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
                     "c": {"region": "r", "cidr_blocks": ["10.3.0.0/16"]}, "d": {"region": "r", "cidr_blocks": ["10.4.0.0/16"]}},
            "resolver_rules": {
                "f": {"domain_name": ".", "rule_type": "FORWARD", "vpc_ids": ["a", "b", "c", "d"], "target_ips": [{"ip": "192.0.2.1"}]},
                "d": {"domain_name": "example", "rule_type": "DELEGATE", "vpc_ids": ["c", "d"]},
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap();
        let root = crate::wire::query::LookupName::root();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|vpc| {
            let at = snapshot.networks.at(&Network::Vpc(vpc.into())).unwrap();
            let view = snapshot.views.get((at, ClientPath::InVpc, None)).unwrap();
            let policy = snapshot.views.policies(view).unwrap().names.find(&root, 0).unwrap();
            snapshot.views.route_id(view, &policy.rule.as_ref().unwrap().route)
        });
        assert!(a == b && a != c && c != d && a != d);
    }

    /// zonal compiles the rules, zones and endpoints of many VPCs once, also when one of these resources changes.
    #[test]
    fn vpcs_with_equal_associations_share_them() {
        let ids = ["a", "b", "c"];
        let vpcs = ids.iter().zip(1..).map(|(id, at)| {
            (id.to_string(), serde_json::json!({"region": "r", "cidr_blocks": [format!("10.{at}.0.0/16")]}))
        });
        let mut manifest = serde_json::json!({
            "vpcs": vpcs.collect::<serde_json::Map<_, _>>(),
            "vpc_peering_connections": {"ab": {"vpc_ids": ["a", "b"]}, "ac": {"vpc_ids": ["a", "c"]}},
            "resolver_rules": {"f": {"domain_name": "f.test", "rule_type": "FORWARD", "vpc_ids": ids, "target_ips": [{"ip": "192.0.2.1"}]}},
            "private_hosted_zones": {"Z": {"name": "z.test", "vpc_ids": ids, "records": []}},
            "vpc_endpoint_services": {"s": {"owner_id": "amazon", "region": "r", "dns_name": "s.test", "private_dns_names": ["p.test"]}},
            "vpc_endpoints": {"e": {"vpc_endpoint_type": "Interface", "service_name": "s", "vpc_id": "a", "state": "Available",
                                    "private_dns_enabled": true, "private_dns_scope": ids, "network_interfaces": []}},
        });
        let parts = |snapshot: &crate::snapshot::Snapshot| {
            ids.map(|vpc| {
                let at = snapshot.networks.vpc_at(vpc).unwrap();
                let view = snapshot.views.get((at, ClientPath::InVpc, None)).unwrap();
                assert_eq!(view.own.iter().count(), 1, "{vpc}");
                (std::ptr::from_ref(snapshot.views.policies(view).unwrap()), Arc::as_ptr(&view.own))
            })
        };
        let snapshot = compiled(manifest.clone()).unwrap();
        let [a, b, c] = parts(&snapshot);
        assert!(a == b && b == c);
        manifest["resolver_rules"]["f"]["target_ips"][0]["ip"] = "192.0.2.2".into();
        manifest["private_hosted_zones"]["Z"]["vpc_ids"] = serde_json::json!(["a", "b"]);
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let (changed, _) = compile(&loaded, &Arc::new(Node::default()), Some(&snapshot)).unwrap();
        let [new_a, new_b, new_c] = parts(&changed);
        assert!(new_a == new_b && new_a.0 != a.0 && new_c.0 != new_a.0 && new_c.0 != c.0);
    }

    fn compiled(manifest: serde_json::Value) -> Result<crate::snapshot::Snapshot, Vec<crate::manifest::Problem>> {
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        compile(&loaded, &Arc::new(Node::default()), None).map(|(snapshot, _)| snapshot)
    }

    /// A manifest with this number of VPCs, each with an inbound endpoint: all connected, or allowed by `allowed_cidr_blocks`.
    fn inbound(number: usize, is_connected: bool) -> serde_json::Value {
        let ids = (0..number).map(|at| format!("v{at}"));
        let vpcs = (0..number).map(|at| {
            let block = format!("10.{}.{}.0/24", at / 256, at % 256);
            (format!("v{at}"), serde_json::json!({"region": "r", "cidr_blocks": [block]}))
        });
        let allowed = if is_connected { vec![] } else { vec!["10.0.0.0/8"] };
        let endpoint = |id: String| {
            let value = serde_json::json!({"direction": "INBOUND", "vpc_id": id, "ip_addresses": [], "allowed_cidr_blocks": allowed});
            (id, value)
        };
        let attach = |id: String| serde_json::json!({"vpc_id": id});
        let attachments: Vec<_> = ids.clone().map(attach).filter(|_| is_connected).collect();
        serde_json::json!({
            "vpcs": vpcs.collect::<serde_json::Map<_, _>>(),
            "transit_gateways": {"t": {"region": "r", "attachments": attachments}},
            "resolver_endpoints": ids.map(endpoint).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Each VPC with an inbound endpoint has a view for each network that reaches it or that the endpoint allows.
    #[test]
    fn rejects_a_manifest_with_too_many_inbound_views() {
        for is_connected in [true, false] {
            let snapshot = compiled(inbound(30, is_connected)).unwrap();
            // Each VPC has one of its own. Each endpoint has one for each network, and one for unknown networks.
            assert_eq!(snapshot.views.iter().count(), 30 + 30 * 31, "{is_connected}");
            let found = compiled(inbound(510, is_connected)).err().unwrap();
            assert!(found.len() == 1 && found[0].is_error(), "{found:?}");
            assert!(found[0].message.contains("more than 250000 pairs of their VPC and a network"), "{found:?}");
        }
    }

    #[test]
    fn rejects_a_manifest_with_too_many_networks_per_prefix() {
        let network = |at: usize| {
            let blocks = ["10.0.0.0/8".to_string(), format!("10.{}.{}.0/24", at / 256, at % 256)];
            (format!("n{at}"), serde_json::json!({"cidr_blocks": blocks, "vpc_ids": []}))
        };
        let manifest = |number: usize| {
            let networks = (0..number).map(network).collect::<serde_json::Map<_, _>>();
            serde_json::json!({"on_premises_networks": networks})
        };
        assert!(compiled(manifest(300)).is_ok());
        let found = compiled(manifest(3_000)).err().unwrap();
        assert!(found.len() == 1 && found[0].is_error(), "{found:?}");
        assert!(found[0].message.contains("more than 5000000 pairs of a CIDR block and a network"), "{found:?}");
    }

    #[test]
    fn the_first_matching_delegate_rule_has_a_zone_cut() {
        let number = 4_000;
        let rule = |at: usize| {
            let rule =
                serde_json::json!({"domain_name": format!("ns{at}.test"), "rule_type": "DELEGATE", "vpc_ids": ["v"]});
            (format!("r{at:05}"), rule)
        };
        let cut = |at: usize| {
            let servers = [format!("a.ns{}.test.", at + 1), format!("b.c.ns{at}.test."), "d.other.test.".into()];
            serde_json::json!({"name": format!("cut{at}"), "type": "NS", "records": servers})
        };
        let snapshot = compiled(serde_json::json!({
            "vpcs": {"v": {"region": "r", "cidr_blocks": ["10.0.0.0/8"]}},
            "resolver_rules": (0..number).map(rule).collect::<serde_json::Map<_, _>>(),
            "private_hosted_zones": {"Z": {"name": "example", "vpc_ids": ["v"], "records": (0..number + 2).map(cut).collect::<Vec<_>>()}},
        }));
        let snapshot = snapshot.unwrap();
        let view = snapshot.views.iter().next().unwrap();
        let delegations = &snapshot.views.policies(view).unwrap().delegations;
        let rules: BTreeMap<String, &str> = delegations
            .iter()
            .map(|(name, route)| (crate::wire::name::name_text(name).to_string(), &*route.rule))
            .collect();
        assert_eq!(rules.len(), number);
        assert_eq!((rules["cut7.example."], rules["cut3999.example."]), ("r00007", "r03999"));
    }
}
