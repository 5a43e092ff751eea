//! The types of the manifest, with the names of the AWS API.
//!
//! These types say what single values can be. [`check`](super::check) verifies that the resources
//! of a manifest fit together.

use super::{
    Resources,
    aws_data::{AwsData, DelegationSet, DhcpOptions, SecurityGroup, Tags},
    cidr_collections::CidrCollection,
    firewall::{FirewallDomainList, FirewallRuleGroup},
    health_checks::{HealthCheck, InterfaceHealthCheck},
    hosted_zones::PrivateHostedZone,
    presets,
    profiles::{Profile, ProfileAssociation},
    query_log::QueryLogConfig,
    routing_policies::Coordinates,
    schema_patterns::{Address, Cidr, DomainName, Ipv4, Ipv6, PlainName, Time},
    transit_gateways::TransitGateway,
    words::words,
};
use crate::wire::Name;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// An identifier of a resource, an account or an Availability Zone: opaque text.
pub type Id = String;

/// The whole description of networks, endpoints, zones and rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// DHCP option sets, by ID.
    pub dhcp_options: Resources<DhcpOptions>,
    /// CIDR collections for routing by the client's address, by collection ID.
    pub cidr_collections: Resources<CidrCollection>,
    /// Profiles: zones, rules, endpoints and settings that VPCs share, by Profile ID.
    pub profiles: Resources<Profile>,
    /// Virtual private clouds, by VPC ID.
    pub vpcs: Resources<Vpc>,
    /// Peering connections between two VPCs, by connection ID.
    pub vpc_peering_connections: Resources<VpcPeeringConnection>,
    /// Transit Gateways, by gateway ID.
    pub transit_gateways: Resources<TransitGateway>,
    /// Networks reached over Direct Connect or VPN, by a name of your choice.
    pub on_premises_networks: Resources<OnPremisesNetwork>,
    /// Endpoint services, by service name.
    pub vpc_endpoint_services: Resources<VpcEndpointService>,
    /// VPC endpoints, by endpoint ID.
    pub vpc_endpoints: Resources<VpcEndpoint>,
    /// Zonal shifts: temporarily remove endpoints of an Availability Zone from answers.
    pub zonal_shifts: Resources<ZonalShift>,
    /// Private hosted zones, by hosted zone ID.
    pub private_hosted_zones: Resources<PrivateHostedZone>,
    /// Inbound and outbound Resolver endpoints, by endpoint ID.
    pub resolver_endpoints: Resources<ResolverEndpoint>,
    /// Resolver rules, by rule ID.
    pub resolver_rules: Resources<ResolverRule>,
    /// Trusted DNS forwarders that name the client they forward a query for.
    pub forwarders: Resources<Forwarder>,
    /// Query logs, by configuration ID.
    pub query_log_configs: Resources<QueryLogConfig>,
    /// Health checks, by health check ID.
    pub health_checks: Resources<HealthCheck>,
    /// Lists of domain names for DNS Firewall, by list ID.
    pub firewall_domain_lists: Resources<FirewallDomainList>,
    /// Groups of DNS Firewall rules, by group ID.
    pub firewall_rule_groups: Resources<FirewallRuleGroup>,
    /// Security groups, by group ID. zonal keeps them for AWS's API and enforces none.
    pub security_groups: Resources<SecurityGroup>,
    /// Reusable delegation sets, by ID: the name servers of public zones that AWS's API creates.
    pub delegation_sets: Resources<DelegationSet>,
}

/// A virtual private cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    /// The account that owns it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_id: Id,
    /// Its Region, as in `us-east-1`.
    pub region: String,
    /// IPv4 and IPv6 address ranges of the VPC.
    #[schemars(with = "Vec<Cidr>")]
    pub cidr_blocks: Vec<IpNet>,
    /// The VPC's entry points: zonal matches every query to one of these addresses to this VPC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Address>")]
    pub resolver_addresses: Vec<IpAddr>,
    /// Whether zonal answers the VPC. If false, its entry points refuse queries and its endpoints
    /// have no private names.
    #[serde(default = "yes")]
    pub enable_dns_support: bool,
    /// Whether the VPC has autodefined names and reverse zones, and its endpoints have private
    /// names.
    #[serde(default = "yes")]
    pub enable_dns_hostnames: bool,
    /// Whether the VPC has autodefined reverse zones: those of its addresses, of VPCs connected to it, and of RFC 6303. If
    /// false, rules, private hosted zones and the internet resolver answer for reverse names. Default: that of the VPC's
    /// Profiles, and else true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autodefined_reverse: Option<bool>,
    /// Whether zonal validates the answers for the VPC that come from its own recursion (DNSSEC). Default: that of the
    /// VPC's Profiles, and else `dnssec` of the node's `internet_resolver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnssec_validation: Option<bool>,
    /// The AZ names of the account, with the AZ IDs that they stand for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub availability_zones: BTreeMap<String, Id>,
    /// Its subnets, by subnet ID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<Id, Subnet>,
    /// The Profiles of the VPC. Its own zones, rules, endpoints and settings come before those of its Profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileAssociation>,
    /// Deprecated: a Profile with priority 100. Use `profiles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<Id>,
    /// Whether zonal answers a query that DNS Firewall cannot judge, because a list is missing or has expired. If false, the
    /// answer is SERVFAIL. Default: that of the VPC's Profiles, and else false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_fail_open: Option<bool>,
    /// The DHCP options of its clients. zonal sends none; it warns if their name servers are not its entry points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options_id: Option<Id>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A subnet of a VPC, in one Availability Zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The AZ ID, as in `use1-az1`: the same place in every account.
    pub availability_zone_id: Id,
    /// Its address ranges.
    #[schemars(with = "Vec<Cidr>")]
    pub cidr_blocks: Vec<IpNet>,
    /// Whether zonal synthesizes AAAA records from A records (DNS64, RFC 6147).
    #[serde(default)]
    pub enable_dns64: bool,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A peering of two VPCs. It is not transitive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcPeeringConnection {
    /// The two VPCs.
    #[schemars(length(equal = 2))]
    pub vpc_ids: Vec<Id>,
    /// The state of the connection. Only `active` connects the VPCs.
    #[serde(default)]
    pub status: PeeringStatus,
    /// Whether each VPC resolves the autodefined names and PTR records of its peer.
    #[serde(default)]
    pub allow_remote_vpc_dns_resolution: bool,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// The state of a VPC peering connection, as in the EC2 API.
    #[derive(Default)]
    pub enum PeeringStatus {
        InitiatingRequest = "initiating-request",
        PendingAcceptance = "pending-acceptance",
        #[default]
        Active = "active",
        Deleted = "deleted",
        Rejected = "rejected",
        Failed = "failed",
        Expired = "expired",
        Provisioning = "provisioning",
        Deleting = "deleting",
    }
}

/// A network outside the cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnPremisesNetwork {
    /// Its address ranges.
    #[serde(default)]
    #[schemars(with = "Vec<Cidr>")]
    pub cidr_blocks: Vec<IpNet>,
    /// The VPCs that the network reaches without a Transit Gateway, over Direct Connect or VPN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vpc_ids: Vec<Id>,
    /// The AZ ID nearest to the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<Id>,
    /// The place of the network, for routing policies. Default: the Region of the VPC whose view answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Coordinates>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A service that interface endpoints lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcEndpointService {
    /// The account that owns it; `amazon` for AWS's own.
    pub owner_id: Id,
    /// Its Region.
    pub region: String,
    /// The parent of its endpoints' own names.
    #[schemars(with = "PlainName")]
    pub dns_name: Name,
    /// The private DNS names of the service. A leading `*.` makes a wildcard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<DomainName>")]
    pub private_dns_names: Vec<Name>,
    /// The proof that the service's owner owns the private names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_name_configuration: Option<PrivateDnsNameConfiguration>,
    /// The health check of its endpoints' network interfaces. Default: zonal checks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<InterfaceHealthCheck>,
    /// The identifier of the service, as in `vpce-svc-0123456789abcdef0`. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Id>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

impl VpcEndpointService {
    /// Whether AWS owns the service. Its private names then have addresses; the private names of
    /// other services have a CNAME record to the endpoint's Regional name.
    pub fn is_amazon(&self) -> bool {
        self.owner_id.eq_ignore_ascii_case("amazon")
    }

    /// Whether the private names of the service are used: they are verified, or AWS owns the
    /// service.
    pub fn is_verified(&self) -> bool {
        self.is_amazon()
            || self.private_dns_name_configuration.as_ref().is_some_and(|c| c.state == VerificationState::Verified)
    }
}

/// The proof of ownership of a service's private DNS name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateDnsNameConfiguration {
    /// The state of the verification.
    #[serde(default)]
    pub state: VerificationState,
    /// The type of the record that proves it: TXT.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub record_type: Option<String>,
    /// The first label of the record's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The record's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

words! {
    /// The state of a private DNS name's verification.
    #[derive(Default)]
    pub enum VerificationState {
        #[default]
        PendingVerification = "pendingVerification",
        Verified = "verified",
        Failed = "failed",
    }
}

/// A VPC endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["service_name"]}, {"required": ["service"]}]))]
pub struct VpcEndpoint {
    /// The endpoint type. Only interface endpoints have names.
    pub vpc_endpoint_type: VpcEndpointType,
    /// The endpoint service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_name: Id,
    /// One of AWS's services, in place of `service_name`: its names in the VPC's Region are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = presets::names()))]
    pub service: Option<String>,
    /// The VPC that its network interfaces are in.
    pub vpc_id: Id,
    /// Its state in the endpoint's life cycle.
    pub state: EndpointState,
    /// The random part that AWS appends to the endpoint ID in the endpoint's names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name_suffix: Option<String>,
    /// Whether the service's private names resolve to this endpoint.
    #[serde(default)]
    pub private_dns_enabled: bool,
    /// The networks that resolve the private names to this endpoint.
    #[serde(default)]
    pub private_dns_scope: PrivateDnsScope,
    /// Options of its names.
    #[serde(default)]
    pub dns_options: DnsOptions,
    /// How a client's Availability Zone determines the addresses in its answer.
    #[serde(default)]
    pub client_routing_policy: ClientRoutingPolicy,
    /// Its network interfaces, one in each Availability Zone.
    #[serde(default)]
    pub network_interfaces: Vec<NetworkInterface>,
    /// The health check of the network interfaces. Default: that of the service; without one, zonal checks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<InterfaceHealthCheck>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// The kinds of VPC endpoints.
    pub enum VpcEndpointType {
        Interface = "Interface",
        Gateway = "Gateway",
        GatewayLoadBalancer = "GatewayLoadBalancer",
    }
}

words! {
    /// The states of a VPC endpoint, as in the EC2 API.
    pub enum EndpointState {
        PendingAcceptance = "PendingAcceptance",
        Pending = "Pending",
        Available = "Available",
        Deleting = "Deleting",
        Deleted = "Deleted",
        Rejected = "Rejected",
        Failed = "Failed",
        Expired = "Expired",
        Partial = "Partial",
    }
}

/// The networks that resolve an endpoint's private names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PrivateDnsScope {
    /// The endpoint's own VPC.
    #[default]
    Vpc,
    /// Its own VPC and those connected to it.
    Connected,
    /// Exactly these VPCs.
    Vpcs(Vec<Id>),
}

/// Options of an endpoint's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsOptions {
    /// The address record types of the names.
    pub dns_record_ip_type: DnsRecordIpType,
    /// The private names exist for queries through inbound Resolver endpoints only.
    pub private_dns_only_for_inbound_resolver_endpoint: bool,
}

words! {
    /// Which address records an endpoint's names have. `service-defined`: A and AAAA for names
    /// below `api.aws`, A for all others.
    #[derive(Default)]
    pub enum DnsRecordIpType {
        #[default]
        Ipv4 = "ipv4",
        Ipv6 = "ipv6",
        Dualstack = "dualstack",
        ServiceDefined = "service-defined",
    }
}

words! {
    /// How a client's Availability Zone decides about the addresses it gets, in the words of
    /// Network Load Balancers.
    #[derive(Default)]
    pub enum ClientRoutingPolicy {
        #[default]
        AvailabilityZoneAffinity = "availability_zone_affinity",
        PartialAvailabilityZoneAffinity = "partial_availability_zone_affinity",
        AnyAvailabilityZone = "any_availability_zone",
    }
}

/// A network interface of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterface {
    /// The AZ ID of its subnet.
    pub availability_zone_id: Id,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv4>")]
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv6>")]
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// Whether zonal answers with the interface's addresses.
    #[serde(default)]
    pub health: Health,
    /// The identifier of the interface, as in `eni-0123456789abcdef0`. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<Id>,
    /// The subnet of the interface. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<Id>,
}

words! {
    /// Whether a network interface can be used.
    #[derive(Default)]
    pub enum Health {
        #[default]
        Healthy = "healthy",
        Unhealthy = "unhealthy",
    }
}

/// A zonal shift: zonal temporarily omits the addresses of an Availability Zone from answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZonalShift {
    /// An endpoint's ID, a service name, or `*` for all endpoints.
    pub resource: Id,
    /// The AZ ID whose addresses are omitted.
    pub away_from: Id,
    /// The time when the shift ends. Without it, the shift ends when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub expires_at: Option<jiff::Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A Resolver endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolverEndpoint {
    /// The direction of queries.
    #[serde(default)]
    pub direction: Direction,
    /// Its VPC.
    pub vpc_id: Id,
    /// The transports that the endpoint accepts.
    #[serde(default = "do53_only")]
    pub protocols: Vec<Protocol>,
    /// CIDR blocks of the clients that the endpoint answers. Default: its VPC, and the on-premises
    /// networks and VPCs connected to that VPC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Cidr>")]
    pub allowed_cidr_blocks: Vec<IpNet>,
    /// Whether clients of an INBOUND endpoint get synthesized AAAA records for names without AAAA records (DNS64, RFC 6147).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dns64: bool,
    /// The prefix of synthesized addresses: /32, /40, /48, /56, /64 or /96 (RFC 6052). Default: `64:ff9b::/96`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cidr>")]
    pub dns64_prefix: Option<IpNet>,
    /// Addresses of the endpoint, at least one in each Availability Zone.
    #[schemars(length(min = 1))]
    pub ip_addresses: Vec<EndpointAddress>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// Which way a Resolver endpoint's queries go.
    #[derive(Default)]
    pub enum Direction {
        #[default]
        Inbound = "INBOUND",
        Outbound = "OUTBOUND",
        InboundDelegation = "INBOUND_DELEGATION",
    }
}

words! {
    /// A DNS transport.
    #[derive(Default)]
    pub enum Protocol {
        #[default]
        Do53 = "Do53",
        DoT = "DoT",
        DoH = "DoH",
        DoQ = "DoQ",
    }
}

/// An address of a Resolver endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointAddress {
    /// The address.
    #[schemars(with = "Address")]
    pub ip: IpAddr,
    /// The AZ ID of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<Id>,
    /// The identifier of the address, as in `rni-0123456789abcdef0`. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_id: Option<Id>,
    /// The subnet of the address. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<Id>,
}

/// A Resolver rule for queries for a name and all names below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "if" = {"properties": {"rule_type": {"pattern": "^[Ff]"}}},
    "then" = {"required": ["target_ips"], "properties": {"target_ips": {"minItems": 1}}},
    "else" = {"properties": {"target_ips": {"maxItems": 0}}},
))]
pub struct ResolverRule {
    /// The name.
    #[schemars(with = "PlainName")]
    pub domain_name: Name,
    /// How zonal resolves the queries.
    pub rule_type: RuleType,
    /// The outbound endpoint whose addresses are the source of forwarded queries. Default: the
    /// node's own addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver_endpoint_id: Option<Id>,
    /// The servers that a FORWARD rule forwards to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_ips: Vec<TargetAddress>,
    /// The VPCs that use the rule.
    #[serde(default)]
    pub vpc_ids: Vec<Id>,
    /// Whether the rule is used. zonal lists a disabled rule but ignores it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// The action of a Resolver rule.
    pub enum RuleType {
        Forward = "FORWARD",
        System = "SYSTEM",
        Delegate = "DELEGATE",
        Recursive = "RECURSIVE",
    }
}

/// A server that queries are forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetAddress {
    /// Its address.
    #[schemars(with = "Address")]
    pub ip: IpAddr,
    /// Its port.
    #[serde(default = "port_53")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The transport of forwarded queries.
    #[serde(default)]
    pub protocol: Protocol,
    /// The name that its certificate is checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name_indication: Option<String>,
}

/// A trusted DNS forwarder. It names the client that it forwards a query for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["vpc_id"]}, {"required": ["on_premises_network_id"]}]))]
pub struct Forwarder {
    /// The VPC of the forwarder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Id>,
    /// The on-premises network of the forwarder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_premises_network_id: Option<Id>,
    /// CIDR blocks of its addresses.
    #[serde(default)]
    #[schemars(with = "Vec<Cidr>")]
    pub cidr_blocks: Vec<IpNet>,
    /// How the forwarder names the client in a query.
    #[serde(default)]
    pub client_identity: ClientIdentity,
    /// The networks whose clients the forwarder can name. Default: its own network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speaks_for: Vec<Id>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// How a forwarder names the client that is behind it.
    #[derive(Default)]
    pub enum ClientIdentity {
        #[default]
        EdnsClientSubnet = "edns_client_subnet",
        ProxyProtocolV2 = "proxy_protocol_v2",
    }
}

fn yes() -> bool {
    true
}

fn port_53() -> u16 {
    53
}

fn do53_only() -> Vec<Protocol> {
    vec![Protocol::Do53]
}
