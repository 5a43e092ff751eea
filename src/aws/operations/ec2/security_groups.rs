//! EC2: security groups.

use super::{list, wanted};
use crate::{
    aws::{
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, filters::Known, identifiers::derived, object, start, table::read,
            tag_list,
        },
    },
    manifest::SecurityGroup,
};
use serde_json::{Value, json};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[read(
    Ec2,
    "DescribeSecurityGroups",
    describe_security_groups,
    "GroupIds GroupNames Filters MaxResults NextToken DryRun",
)];

const GROUP_FILTERS: Known = &[
    ("description", "Description"),
    ("group-id", "GroupId"),
    ("group-name", "GroupName"),
    ("owner-id", "OwnerId"),
    ("vpc-id", "VpcId"),
];

fn group_value(context: &Context, id: &str, group: &SecurityGroup) -> Value {
    object(json!({
        "GroupId": id, "GroupName": group.name.as_deref().unwrap_or(id), "Description": group.description,
        "OwnerId": context.owner(&group.owner_id), "VpcId": group.vpc_id,
        "IpPermissions": group.ip_permissions, "IpPermissionsEgress": group.ip_permissions_egress,
        "Tags": tag_list(&group.tags, None),
    }))
}

fn describe_security_groups(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().security_groups;
    let is_here = |group: &SecurityGroup| {
        let vpc = group.vpc_id.as_deref().unwrap_or_default();
        context.sees(&group.owner_id) && context.is_in(context.vpc_region(vpc))
    };
    let exists = |id: &str| all.get(id).is_some_and(|group| is_here(group));
    let ids = wanted(parameters, "GroupIds", "InvalidGroup.NotFound", "security group", exists)?;
    let names = parameters.texts("GroupNames");
    list(parameters, "SecurityGroups", GROUP_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, group)| is_here(group));
        let visible = visible.filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        let values = visible.map(|(id, group)| (id.clone(), group_value(context, id, group)));
        values.filter(|(_, value)| names.is_empty() || names.contains(&Parameters(value).text("GroupName")))
    })
}

/// The identifier of the security group that every VPC has.
pub(super) fn default_id(vpc_id: &str) -> String {
    derived("sg", &[vpc_id])
}
