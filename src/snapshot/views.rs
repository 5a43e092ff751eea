//! Views: the names that the clients of one network see by one path.
//!
//! A view is a few maps, and equal maps are shared with other views. Names are in no view themselves.
//!
//! ```text
//! View -> policies     zones and rules of its VPC
//!      -> own          private names of endpoints in the client's VPC or in its own, and of endpoints that list its VPC
//!      -> shared       private names of endpoints in all connected VPCs
//!      -> autodefined  domains of the Regions that it has address names of
//! ```
//!
//! All views have the names of [`LOCALLY_SERVED`](super::autodefined::LOCALLY_SERVED), unless their VPC has disabled
//! autodefined names, and the public names of all endpoints.

mod compile;
mod policies;

pub use compile::{Input, Previous, check_size, compile};
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
    /// Private names of endpoints in the client's VPC or in the view's, and of endpoints whose scope lists the view's VPC.
    pub own: Arc<NameMap<PrivateName>>,
    /// The slot of the private names of connected VPCs.
    shared: u32,
    /// Autodefined zones beside the locally served ones; none if the VPC has disabled all of them.
    pub autodefined: Option<Arc<NameMap<Autodefined>>>,
    /// The VPCs whose addresses have autodefined names in this view, in order.
    pub named: Arc<[NetworkAt]>,
}

impl View {
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
    /// Some views have the locally served zones, and others do not.
    pub locally_served: bool,
    /// Some subnet has `enable_dns64`.
    pub dns64: bool,
    /// Some views have DELEGATE rules, which follow referrals of the internet resolver.
    pub delegates: bool,
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
    /// The rules and zones of each VPC, by the index of the VPC.
    policies: Slots<Arc<Policies>>,
    shared: Slots<Arc<Shared>>,
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

    /// The number under which the cache keeps the answers of a route for a view. VPCs with different DELEGATE rules have
    /// different numbers: the rules decide which referrals are followed, and so the answers.
    #[inline]
    pub fn route_id(&self, view: &View, route: &Route) -> RouteId {
        RouteId(route.id.0 ^ self.policies(view).map_or(0, |policies| policies.salt))
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
/// have them. `viewing` is the VPC of the view.
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

    /// Each VPC with an inbound endpoint has a view for each network that reaches it.
    #[test]
    fn rejects_a_manifest_with_too_many_inbound_views() {
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
        let found = problems(510);
        assert!(found.len() == 1 && found[0].is_error(), "{found:?}");
        assert!(found[0].message.contains("more than 250000 pairs of their VPC and a network"), "{found:?}");
    }
}
