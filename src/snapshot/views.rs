//! Views: how the consumers of one network, by one path, see the world.
//!
//! A view is made of maps that are shared with other views wherever they are equal: what its VPC has (zones and rules),
//! the private names that are its own affair, those that all who reach the same endpoints see, and autodefined names.

mod compile;
mod policies;

pub use compile::{Input, Previous, follow, too_many};
pub use policies::{Policies, Policy};

use super::{
    autodefined::Autodefined,
    endpoints::{Endpoint, EndpointName, PrivateName},
    names::NameMap,
    networks::{ClientPath, NetworkAt, ViewKey},
    routes::{Route, RouteId},
    slots::Slots,
};
use crate::manifest::{
    PrivateDnsScope,
    connectivity::{Connectivity, Network},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// How the consumers of one network, by one path, see the world. What its VPC has, and what it shares with all who are
/// connected to the same ones, is to be asked of the [views](Views).
#[derive(Clone)]
pub struct View {
    /// Its name in counters: the VPC, for the inbound path with the client's network.
    pub label: Arc<str>,
    /// Its place in the list of labels, the same in all later snapshots.
    pub slot: u32,
    /// The VPC whose world it is.
    pub vpc: NetworkAt,
    /// The clients' network, if it is known.
    client: Option<NetworkAt>,
    /// By which way its clients come.
    pub path: ClientPath,
    /// Private names of the client's own VPC, and those whose scope lists the VPC.
    pub own: Arc<NameMap<PrivateName>>,
    /// Where the private names are that are shared with all who are connected.
    shared: u32,
    /// Autodefined names beside the locally served zones of all; none if the VPC has them switched off.
    pub autodefined: Option<Arc<NameMap<Autodefined>>>,
    /// The VPCs whose addresses have autodefined names here, in order.
    pub named: Arc<[NetworkAt]>,
}

impl View {
    /// The clients' network, if it is known.
    pub fn client(&self) -> Option<NetworkAt> {
        self.client
    }
}

/// Private names of connected VPCs, for all that are connected to the same ones.
#[derive(Default)]
struct Shared {
    /// The VPCs that they are of.
    exporters: Vec<NetworkAt>,
    /// They are for the inbound path.
    inbound: bool,
    /// The Region whose endpoints come first.
    region: String,
    names: NameMap<PrivateName>,
}

/// What not all views have alike.
pub struct Differing {
    /// All names at which some view has something.
    pub names: NameMap<()>,
    /// Some views have the locally served zones, and others do not.
    pub locally_served: bool,
    /// Some subnet has `enable_dns64`.
    pub dns64: bool,
    /// Some views have DELEGATE rules, which act on what the internet resolver says.
    pub delegates: bool,
}

/// All views. A copy shares what does not change.
#[derive(Clone, Default)]
pub struct Views {
    list: Slots<Arc<View>>,
    /// By the VPC's place among the networks.
    in_vpc: Arc<Vec<Option<u32>>>,
    inbound: Arc<HashMap<ViewKey, u32>>,
    /// The views of each VPC, and those of the clients of each network.
    of_network: Arc<HashMap<NetworkAt, Vec<u32>>>,
    /// What VPCs have by their own, by their place among the networks.
    policies: Slots<Arc<Policies>>,
    shared: Slots<Arc<Shared>>,
    /// What they do not have alike; none where nobody asks that.
    pub differing: Option<Arc<Differing>>,
    /// Labels by slot, of all views that there ever were.
    pub labels: Arc<Vec<Arc<str>>>,
}

impl Views {
    /// The view of a client.
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

    /// The private names that a view shares with all who are connected to the same ones.
    #[inline]
    pub fn shared(&self, view: &View) -> Option<&NameMap<PrivateName>> {
        self.shared.get(view.shared).map(|shared| &shared.names)
    }

    /// What answers that come by a route are kept under. Those who have DELEGATE rules may get others than those who have
    /// none, or not the same: where a server tells of other servers, the rules say whether these are asked.
    #[inline]
    pub fn route_id(&self, view: &View, route: &Route) -> RouteId {
        RouteId(route.id.0 ^ self.policies(view).map_or(0, |policies| policies.salt))
    }
}

/// Why the private names of an endpoint are not for a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The view is not in their scope.
    OutOfScope,
    /// The client's own network does not reach the endpoint's VPC.
    Unreachable,
    /// They are for the inbound path only.
    InboundOnly,
}

/// Why an endpoint's private names, if it has any, are not for this view and this client (docs/concepts/which-answer.md); none if
/// they are.
pub fn hidden(
    connectivity: &Connectivity,
    viewing: &Network,
    client: Option<&Network>,
    path: ClientPath,
    endpoint: &Endpoint,
) -> Option<Hidden> {
    let home = Network::Vpc(endpoint.names.vpc.clone());
    let in_scope = match &endpoint.names.scope {
        PrivateDnsScope::Vpc => home == *viewing,
        PrivateDnsScope::Connected => connectivity.reaches(viewing, &home),
        PrivateDnsScope::Vpcs(ids) => ids.binary_search_by(|id| (**id).cmp(viewing.id())).is_ok(),
    };
    // Of a client in no known network it is only known that it reaches the VPC that it asks.
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

/// Adds an endpoint's private names where they are not taken.
fn add_names(names: &mut BTreeMap<Box<[u8]>, PrivateName>, endpoint: &Endpoint) {
    for (apex, name) in &endpoint.names.private {
        let entry: &mut PrivateName = names.entry(apex.clone()).or_default();
        let take = |place: &mut Option<EndpointName>, wanted: bool| {
            if wanted && place.is_none() {
                *place = Some(name.clone());
            }
        };
        take(&mut entry.exact, name.exact);
        take(&mut entry.wildcard, name.wildcard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::Loaded,
        snapshot::{Node, compile},
    };

    /// Where rules say which referrals are followed, what others answered is nobody else's.
    #[test]
    fn who_follows_referrals_shares_no_answers() {
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

    /// Each inbound endpoint has a view for each network that reaches its VPC.
    #[test]
    fn inbound_endpoints_times_networks_are_bounded() {
        let problems = |number: usize| {
            let ids = (0..number).map(|at| format!("v{at}"));
            let vpc = |id: String| (id, serde_json::json!({"region": "r", "cidr_blocks": []}));
            let attach = |id: String| serde_json::json!({"vpc_id": id});
            let endpoint = |id: String| {
                (id.clone(), serde_json::json!({"direction": "INBOUND", "vpc_id": id, "ip_addresses": []}))
            };
            let manifest = serde_json::json!({
                "vpcs": ids.clone().map(vpc).collect::<serde_json::Map<_, _>>(),
                "transit_gateways": {"t": {"attachments": ids.clone().map(attach).collect::<Vec<_>>()}},
                "resolver_endpoints": ids.map(endpoint).collect::<serde_json::Map<_, _>>(),
            });
            let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
            compile(&loaded, &Arc::new(Node::default()), None).map_or_else(|problems| problems, |(_, found)| found)
        };
        assert_eq!(problems(30), []);
        let told = problems(510);
        assert!(told.len() == 1 && told[0].is_error(), "{told:?}");
        assert!(told[0].message.contains("more than 250000 pairs of their VPC and a network"), "{told:?}");
    }
}
