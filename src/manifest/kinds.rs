//! The kinds of resources, and a resource of any kind.

use super::{
    decode::{ValueError, decode},
    document::Node,
    *,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Calls a macro with all kinds and their types.
macro_rules! with_kinds {
    ($macro:ident) => {
        $macro! {
            dhcp_options: DhcpOptions,
            cidr_collections: CidrCollection,
            profiles: Profile,
            vpcs: Vpc,
            vpc_peering_connections: VpcPeeringConnection,
            transit_gateways: TransitGateway,
            on_premises_networks: OnPremisesNetwork,
            vpc_endpoint_services: VpcEndpointService,
            vpc_endpoints: VpcEndpoint,
            zonal_shifts: ZonalShift,
            private_hosted_zones: PrivateHostedZone,
            resolver_endpoints: ResolverEndpoint,
            resolver_rules: ResolverRule,
            forwarders: Forwarder,
            query_log_configs: QueryLogConfig,
            health_checks: HealthCheck,
            firewall_domain_lists: FirewallDomainList,
            firewall_rule_groups: FirewallRuleGroup,
            security_groups: SecurityGroup,
            delegation_sets: DelegationSet,
        }
    };
}
pub(super) use with_kinds;

/// The change of a resource of any kind between two manifests.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceChange {
    /// The kind of the resource.
    pub kind: &'static str,
    /// The identifier of the resource.
    pub id: Id,
    /// The resource in the old manifest; none if it is new.
    pub old: Option<Resource>,
    /// The resource in the new manifest; none if it is deleted.
    pub new: Option<Resource>,
}

macro_rules! resources {
    ($($kind:ident: $type:ident,)+) => {
        /// The names of all kinds, in the order of the manifest.
        pub const KINDS: &[&str] = &[$(stringify!($kind)),+];

        /// A resource of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Resource {
            $(
                #[doc = concat!("One of `", stringify!($kind), "`.")]
                $type(Arc<$type>),
            )+
        }

        $(
            impl From<Arc<$type>> for Resource {
                fn from(resource: Arc<$type>) -> Resource {
                    Resource::$type(resource)
                }
            }
        )+

        impl Resource {
            /// Decodes a resource of a kind, or returns all its errors. None if there is no such
            /// kind.
            pub fn read(kind: &str, node: &Node) -> Option<Result<Resource, Vec<ValueError>>> {
                match kind {
                    $(stringify!($kind) => Some(decode(node).map(|value| Resource::$type(Arc::new(value)))),)+
                    _ => None,
                }
            }

            /// The kind of the resource.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Resource::$type(_) => stringify!($kind),)+
                }
            }

            /// The resource as JSON, with all its defaults.
            pub fn to_json(&self) -> Vec<u8> {
                match self {
                    $(Resource::$type(value) => serde_json::to_vec(value).unwrap_or_default(),)+
                }
            }

            /// Whether both are the same allocation. Two equal resources can be different
            /// allocations.
            pub fn is_same(&self, other: &Resource) -> bool {
                match (self, other) {
                    $((Resource::$type(one), Resource::$type(other)) => Arc::ptr_eq(one, other),)+
                    _ => false,
                }
            }

            /// SHA-256 over kind, identifier and content. For a zone, the call computes only the digests of the chunks that
            /// have changed since the last call for a version of the zone.
            pub fn digest(&self, id: &str) -> [u8; 32] {
                if let Resource::PrivateHostedZone(zone) = self {
                    let mut octets = serde_json::to_vec(&zone.without_records()).unwrap_or_default();
                    octets.extend(zone.records.digest());
                    return digest_of_octets(self.kind(), id, &octets);
                }
                match self {
                    $(Resource::$type(value) => digest_of(stringify!($kind), id, value),)+
                }
            }
        }

        impl Manifest {
            /// The resource of this kind and identifier.
            pub fn resource(&self, kind: &str, id: &str) -> Option<Resource> {
                match kind {
                    $(stringify!($kind) => self.$kind.get(id).cloned().map(Resource::$type),)+
                    _ => None,
                }
            }

            /// Adds a resource. Returns the resource that it replaces.
            pub fn put(&mut self, id: &str, resource: Resource) -> Option<Resource> {
                match resource {
                    $(Resource::$type(value) => self.$kind.insert(id.into(), value).map(Resource::$type),)+
                }
            }

            /// Removes a resource and returns it.
            pub fn remove(&mut self, kind: &str, id: &str) -> Option<Resource> {
                match kind {
                    $(stringify!($kind) => self.$kind.remove(id).map(Resource::$type),)+
                    _ => None,
                }
            }

            /// The number of resources of each kind, in the order of the kinds.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
                [$((stringify!($kind), self.$kind.len()),)+].into_iter()
            }

            /// Calls `f` with identifier and resource, for each resource of a kind behind `after`,
            /// in the order of identifiers, until `f` returns false.
            pub fn each_of(&self, kind: &str, after: Option<&str>, mut f: impl FnMut(&str, Resource) -> bool) {
                use std::ops::Bound::{Excluded, Unbounded};
                let from = after.map_or(Unbounded, Excluded);
                match kind {
                    $(stringify!($kind) => {
                        let mut all = self.$kind.range_from(from);
                        all.all(|(id, value)| f(id, Resource::$type(value.clone())));
                    })+
                    _ => {}
                }
            }

            /// The resources that are not the same allocation in `old`, kind by kind.
            pub fn resource_changes(&self, old: &Manifest) -> Vec<ResourceChange> {
                let mut all = Vec::new();
                $(for change in changes(&old.$kind, &self.$kind) {
                    all.push(ResourceChange {
                        kind: stringify!($kind),
                        id: change.id.clone(),
                        old: change.old.cloned().map(Resource::$type),
                        new: change.new.cloned().map(Resource::$type),
                    });
                })+
                all
            }
        }
    };
}

with_kinds!(resources);

/// The kind with this name. None if there is no such kind.
pub fn kind_of(name: &str) -> Option<&'static str> {
    KINDS.iter().find(|kind| **kind == name).copied()
}

/// SHA-256 over kind, identifier and content of a resource.
fn digest_of(kind: &str, id: &str, resource: &impl Serialize) -> [u8; 32] {
    digest_of_octets(kind, id, &serde_json::to_vec(resource).unwrap_or_default())
}

/// SHA-256 over a kind, an identifier and octets.
pub(super) fn digest_of_octets(kind: &str, id: &str, octets: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [kind.as_bytes(), id.as_bytes(), octets] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
