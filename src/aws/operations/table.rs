//! The table of operations that zonal serves, with the class of each parameter.

use super::{
    Context, Parameters, ReadResult, WriteResult, ec2, endpoints, hosted_zones, record_sets, resolver, sts,
    zone_changes,
};
use crate::aws::model::Service::{self, *};

/// An operation that zonal serves.
#[derive(Debug)]
pub struct Entry {
    /// The service.
    pub service: Service,
    /// The operation.
    pub name: &'static str,
    /// What does it.
    pub handler: Handler,
    /// The parameters that zonal serves: they change the manifest, or the result.
    pub served: &'static str,
    /// The parameters that zonal keeps and returns, without an effect on DNS.
    pub echoed: &'static str,
    /// The parameters that zonal refuses. A path goes through members and lists: `ChangeBatch.Changes.Action`.
    pub refused: &'static str,
}

/// What does an operation.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// It reads the manifest.
    Read(fn(&Context, Parameters) -> ReadResult),
    /// It changes the manifest.
    Write(fn(&Context, Parameters) -> WriteResult),
}

/// An operation that reads.
const fn read(
    service: Service,
    name: &'static str,
    handler: fn(&Context, Parameters) -> ReadResult,
    served: &'static str,
) -> Entry {
    Entry { service, name, handler: Handler::Read(handler), served, echoed: "", refused: "" }
}

/// An operation that writes.
const fn write(
    service: Service,
    name: &'static str,
    handler: fn(&Context, Parameters) -> WriteResult,
    served: &'static str,
) -> Entry {
    Entry { service, name, handler: Handler::Write(handler), served, echoed: "", refused: "" }
}

impl Entry {
    const fn echoes(self, echoed: &'static str) -> Entry {
        Entry { echoed, ..self }
    }

    const fn refuses(self, refused: &'static str) -> Entry {
        Entry { refused, ..self }
    }
}

/// The operations that zonal serves, by service.
pub static TABLE: &[Entry] = &[
    // Who the caller is.
    read(Sts, "GetCallerIdentity", sts::get_caller_identity, ""),
    // Hosted zones and their records.
    read(Route53, "ListHostedZones", hosted_zones::list_hosted_zones, "Marker MaxItems HostedZoneType")
        .refuses("DelegationSetId"),
    read(Route53, "ListHostedZonesByName", hosted_zones::list_hosted_zones_by_name, "DNSName HostedZoneId MaxItems"),
    read(Route53, "ListHostedZonesByVPC", hosted_zones::list_hosted_zones_by_vpc, "VPCId VPCRegion MaxItems NextToken"),
    read(Route53, "GetHostedZone", hosted_zones::get_hosted_zone, "Id"),
    read(Route53, "GetHostedZoneCount", hosted_zones::get_hosted_zone_count, ""),
    read(Route53, "GetDNSSEC", hosted_zones::get_dnssec, "HostedZoneId"),
    read(Route53, "GetChange", hosted_zones::get_change, "Id"),
    read(
        Route53,
        "ListResourceRecordSets",
        record_sets::list_resource_record_sets,
        "HostedZoneId StartRecordName StartRecordType StartRecordIdentifier MaxItems",
    ),
    read(Route53, "ListTagsForResource", hosted_zones::list_tags_for_resource, "ResourceType ResourceId"),
    read(Route53, "ListTagsForResources", hosted_zones::list_tags_for_resources, "ResourceType ResourceIds"),
    write(Route53, "CreateHostedZone", zone_changes::create_hosted_zone, "Name VPC HostedZoneConfig")
        .echoes("CallerReference")
        .refuses("DelegationSetId EnablePublicDNSFallback ChangeGuardrails HostedZoneConfig.HostedZoneTier"),
    write(Route53, "DeleteHostedZone", zone_changes::delete_hosted_zone, "Id"),
    write(Route53, "UpdateHostedZoneComment", zone_changes::update_hosted_zone_comment, "Id").echoes("Comment"),
    write(Route53, "AssociateVPCWithHostedZone", zone_changes::associate_vpc, "HostedZoneId VPC").echoes("Comment"),
    write(Route53, "DisassociateVPCFromHostedZone", zone_changes::disassociate_vpc, "HostedZoneId VPC")
        .echoes("Comment"),
    write(Route53, "ChangeResourceRecordSets", zone_changes::change_resource_record_sets, "HostedZoneId ChangeBatch")
        .refuses(
            "ChangeBatch.Changes.ResourceRecordSet.TrafficPolicyInstanceId \
             ChangeBatch.Changes.ResourceRecordSet.GeoProximityLocation.LocalZoneGroup",
        ),
    write(
        Route53,
        "ChangeTagsForResource",
        zone_changes::change_tags_for_resource,
        "ResourceType ResourceId AddTags RemoveTagKeys",
    ),
    // Route 53 Resolver.
    read(Route53Resolver, "GetResolverEndpoint", resolver::get_resolver_endpoint, "ResolverEndpointId"),
    read(Route53Resolver, "ListResolverEndpoints", resolver::list_resolver_endpoints, "Filters MaxResults NextToken"),
    read(
        Route53Resolver,
        "ListResolverEndpointIpAddresses",
        resolver::list_resolver_endpoint_ip_addresses,
        "ResolverEndpointId MaxResults NextToken",
    ),
    read(Route53Resolver, "GetResolverRule", resolver::get_resolver_rule, "ResolverRuleId"),
    read(Route53Resolver, "ListResolverRules", resolver::list_resolver_rules, "Filters MaxResults NextToken"),
    read(
        Route53Resolver,
        "GetResolverRuleAssociation",
        resolver::get_resolver_rule_association,
        "ResolverRuleAssociationId",
    ),
    read(
        Route53Resolver,
        "ListResolverRuleAssociations",
        resolver::list_resolver_rule_associations,
        "Filters MaxResults NextToken",
    ),
    read(
        Route53Resolver,
        "GetResolverQueryLogConfig",
        resolver::get_resolver_query_log_config,
        "ResolverQueryLogConfigId",
    ),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigs",
        resolver::list_resolver_query_log_configs,
        "Filters MaxResults NextToken",
    )
    .refuses("SortBy SortOrder"),
    read(
        Route53Resolver,
        "GetResolverQueryLogConfigAssociation",
        resolver::get_resolver_query_log_config_association,
        "ResolverQueryLogConfigAssociationId",
    ),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigAssociations",
        resolver::list_resolver_query_log_config_associations,
        "Filters MaxResults NextToken",
    )
    .refuses("SortBy SortOrder"),
    read(Route53Resolver, "ListTagsForResource", resolver::list_tags_for_resource, "ResourceArn MaxResults NextToken"),
    // Networks and endpoints.
    read(Ec2, "DescribeVpcs", ec2::describe_vpcs, "VpcIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribeVpcAttribute", ec2::describe_vpc_attribute, "VpcId Attribute DryRun"),
    read(Ec2, "DescribeSubnets", ec2::describe_subnets, "SubnetIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeAvailabilityZones",
        ec2::describe_availability_zones,
        "ZoneNames ZoneIds AllAvailabilityZones Filters DryRun",
    ),
    read(Ec2, "DescribeRegions", ec2::describe_regions, "RegionNames AllRegions Filters DryRun"),
    read(Ec2, "DescribeDhcpOptions", ec2::describe_dhcp_options, "DhcpOptionsIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeSecurityGroups",
        ec2::describe_security_groups,
        "GroupIds GroupNames Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcPeeringConnections",
        ec2::describe_vpc_peering_connections,
        "VpcPeeringConnectionIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpoints",
        endpoints::describe_vpc_endpoints,
        "VpcEndpointIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpointServices",
        endpoints::describe_vpc_endpoint_services,
        "ServiceNames ServiceRegions Filters MaxResults NextToken DryRun",
    ),
];
