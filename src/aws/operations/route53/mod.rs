//! The operations of Route 53: hosted zones and their records.

pub(super) mod authorizations;
mod change_checks;
mod cidr_collections;
pub(super) mod delegation_sets;
pub(super) mod features;
pub(super) mod geo_locations;
pub(super) mod health_checks;
mod hosted_zones;
pub(super) mod record_sets;
pub(super) mod test_dns_answer;
mod zone_changes;

use super::{
    Entry,
    table::{read, write},
};
use crate::aws::model::Service::Route53;

/// The operations of Route 53 that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Route53, "ListHostedZones", hosted_zones::list_hosted_zones, "Marker MaxItems HostedZoneType DelegationSetId"),
    read(Route53, "ListHostedZonesByName", hosted_zones::list_hosted_zones_by_name, "DNSName HostedZoneId MaxItems"),
    read(Route53, "ListHostedZonesByVPC", hosted_zones::list_hosted_zones_by_vpc, "VPCId VPCRegion MaxItems NextToken"),
    read(Route53, "GetHostedZone", hosted_zones::get_hosted_zone, "Id"),
    read(Route53, "GetHostedZoneCount", hosted_zones::get_hosted_zone_count, ""),
    read(Route53, "GetHostedZoneLimit", hosted_zones::get_hosted_zone_limit, "HostedZoneId Type"),
    read(Route53, "GetAccountLimit", hosted_zones::get_account_limit, "Type"),
    read(Route53, "GetDNSSEC", hosted_zones::get_dnssec, "HostedZoneId"),
    read(Route53, "GetChange", hosted_zones::get_change, "Id"),
    read(
        Route53,
        "ListResourceRecordSets",
        record_sets::list_resource_record_sets,
        "HostedZoneId StartRecordName StartRecordType StartRecordIdentifier MaxItems",
    ),
    read(Route53, "ListCidrCollections", cidr_collections::list_cidr_collections, "MaxResults NextToken"),
    read(
        Route53,
        "ListCidrBlocks",
        cidr_collections::list_cidr_blocks,
        "CollectionId LocationName MaxResults NextToken",
    ),
    read(Route53, "ListTagsForResource", hosted_zones::list_tags_for_resource, "ResourceType ResourceId"),
    read(Route53, "ListTagsForResources", hosted_zones::list_tags_for_resources, "ResourceType ResourceIds"),
    write(
        Route53,
        "CreateHostedZone",
        zone_changes::create_hosted_zone,
        "Name VPC HostedZoneConfig DelegationSetId EnablePublicDNSFallback",
    )
    .echoes("CallerReference")
    .refuses("ChangeGuardrails HostedZoneConfig.HostedZoneTier"),
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
];
