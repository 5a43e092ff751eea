//! DNS Firewall: domain lists, rule groups, rules and associations, and the fail mode of VPCs and Profiles.
//!
//! | AWS | manifest |
//! | --- | --- |
//! | domain list | `firewall_domain_lists` |
//! | rule group, with its policy | `firewall_rule_groups`; the policy is data of AWS's API |
//! | rule | `rules` of the group. AWS tells rules by their list and query type, or by a threat protection; zonal by their name |
//! | association | `vpc_associations` of the group |
//! | configuration | `firewall_fail_open` of a VPC or a Profile |

pub(super) mod associations;
mod configs;
mod domain_lists;
mod rule_groups;
mod rules;

pub(super) use domain_lists::find as domain_list;

use super::not_found;
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult,
            table::{read, write},
        },
    },
    manifest::FirewallRuleGroup,
};
use serde_json::Value;
use std::sync::Arc;

/// The operations of DNS Firewall that zonal serves.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(Route53Resolver, "CreateFirewallDomainList", domain_lists::create, "Name").echoes("CreatorRequestId Tags"),
    read(Route53Resolver, "GetFirewallDomainList", domain_lists::get, "FirewallDomainListId"),
    read(Route53Resolver, "ListFirewallDomainLists", domain_lists::list_all, "MaxResults NextToken"),
    write(Route53Resolver, "UpdateFirewallDomains", domain_lists::update, "FirewallDomainListId Operation Domains"),
    // `admin::aws` downloads the file, and passes the names to the handler as `Domains`.
    write(
        Route53Resolver,
        "ImportFirewallDomains",
        domain_lists::update,
        "FirewallDomainListId Operation DomainFileUrl",
    ),
    read(
        Route53Resolver,
        "ListFirewallDomains",
        domain_lists::list_domains,
        "FirewallDomainListId MaxResults NextToken",
    ),
    write(Route53Resolver, "DeleteFirewallDomainList", domain_lists::delete, "FirewallDomainListId"),
    write(Route53Resolver, "CreateFirewallRuleGroup", rule_groups::create, "Name").echoes("CreatorRequestId Tags"),
    read(Route53Resolver, "GetFirewallRuleGroup", rule_groups::get, "FirewallRuleGroupId"),
    read(Route53Resolver, "ListFirewallRuleGroups", rule_groups::list_all, "MaxResults NextToken"),
    write(Route53Resolver, "DeleteFirewallRuleGroup", rule_groups::delete, "FirewallRuleGroupId"),
    read(Route53Resolver, "GetFirewallRuleGroupPolicy", rule_groups::get_policy, "Arn"),
    write(Route53Resolver, "PutFirewallRuleGroupPolicy", rule_groups::put_policy, "Arn")
        .echoes("FirewallRuleGroupPolicy"),
    write(
        Route53Resolver,
        "CreateFirewallRule",
        rules::create,
        "FirewallRuleGroupId FirewallDomainListId Priority Action BlockResponse BlockOverrideDomain \
         BlockOverrideDnsType BlockOverrideTtl Name FirewallDomainRedirectionAction Qtype DnsThreatProtection \
         ConfidenceThreshold FirewallRuleType",
    )
    .echoes("CreatorRequestId")
    .refuses(REFUSED_TYPES),
    read(
        Route53Resolver,
        "ListFirewallRules",
        rules::list_all,
        "FirewallRuleGroupId Priority Action MaxResults NextToken",
    ),
    read(Route53Resolver, "ListFirewallRuleTypes", rules::list_types, "RuleType MaxResults NextToken"),
    write(
        Route53Resolver,
        "UpdateFirewallRule",
        rules::update,
        "FirewallRuleGroupId FirewallDomainListId FirewallThreatProtectionId Priority Action BlockResponse \
         BlockOverrideDomain BlockOverrideDnsType BlockOverrideTtl Name FirewallDomainRedirectionAction Qtype \
         DnsThreatProtection ConfidenceThreshold FirewallRuleType",
    )
    .refuses(REFUSED_TYPES),
    write(
        Route53Resolver,
        "DeleteFirewallRule",
        rules::delete,
        "FirewallRuleGroupId FirewallDomainListId FirewallThreatProtectionId Qtype",
    ),
    write(Route53Resolver, "BatchCreateFirewallRule", rules::batch_create, "CreateFirewallRuleEntries").refuses(
        "CreateFirewallRuleEntries.FirewallRuleType.AutoAllowlist \
         CreateFirewallRuleEntries.FirewallRuleType.FirewallAdvancedContentCategory \
         CreateFirewallRuleEntries.FirewallRuleType.FirewallAdvancedThreatCategory \
         CreateFirewallRuleEntries.FirewallRuleType.PartnerThreatProtection",
    ),
    write(Route53Resolver, "BatchUpdateFirewallRule", rules::batch_update, "UpdateFirewallRuleEntries").refuses(
        "UpdateFirewallRuleEntries.FirewallRuleType.AutoAllowlist \
         UpdateFirewallRuleEntries.FirewallRuleType.FirewallAdvancedContentCategory \
         UpdateFirewallRuleEntries.FirewallRuleType.FirewallAdvancedThreatCategory \
         UpdateFirewallRuleEntries.FirewallRuleType.PartnerThreatProtection",
    ),
    write(Route53Resolver, "BatchDeleteFirewallRule", rules::batch_delete, "DeleteFirewallRuleEntries"),
    write(
        Route53Resolver,
        "AssociateFirewallRuleGroup",
        associations::associate,
        "FirewallRuleGroupId VpcId Priority MutationProtection",
    )
    .echoes("CreatorRequestId Name Tags"),
    write(
        Route53Resolver,
        "UpdateFirewallRuleGroupAssociation",
        associations::update,
        "FirewallRuleGroupAssociationId Priority MutationProtection",
    )
    .echoes("Name"),
    read(Route53Resolver, "GetFirewallRuleGroupAssociation", associations::get, "FirewallRuleGroupAssociationId"),
    read(
        Route53Resolver,
        "ListFirewallRuleGroupAssociations",
        associations::list_all,
        "FirewallRuleGroupId VpcId Priority Status MaxResults NextToken",
    ),
    write(
        Route53Resolver,
        "DisassociateFirewallRuleGroup",
        associations::disassociate,
        "FirewallRuleGroupAssociationId",
    ),
    read(Route53Resolver, "GetFirewallConfig", configs::get, "ResourceId"),
    read(Route53Resolver, "ListFirewallConfigs", configs::list_all, "MaxResults NextToken"),
    write(Route53Resolver, "UpdateFirewallConfig", configs::update, "ResourceId FirewallFailOpen"),
];

/// The types of rules that zonal does not have.
const REFUSED_TYPES: &str = "FirewallRuleType.AutoAllowlist FirewallRuleType.FirewallAdvancedContentCategory \
                             FirewallRuleType.FirewallAdvancedThreatCategory FirewallRuleType.PartnerThreatProtection";
/// The most items on a page of most lists.
const MAX_RESULTS: usize = 100;

/// The error for parameters that DNS Firewall refuses.
fn invalid(message: impl Into<String>) -> ServiceError {
    super::error("ValidationException", message)
}

/// The error for a change that another resource or a protection prevents.
fn conflict(message: impl Into<String>) -> ServiceError {
    super::error("ConflictException", message)
}

/// The list of an operation, page by page of at most `max` items.
fn list<I: Iterator<Item = (String, Value)>>(
    max: usize,
    parameters: Parameters,
    member: &str,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    crate::aws::operations::list((Route53Resolver, "ValidationException", max), parameters, member, &[], all)
}

/// The VPC whose data decides about a rule group's Region: the first one.
fn first_vpc(group: &FirewallRuleGroup) -> Option<&str> {
    group.vpc_associations.first().map(|association| association.vpc_id.as_str())
}

/// A rule group of the caller.
pub(super) fn group<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<FirewallRuleGroup>, ServiceError> {
    let found = context.manifest().firewall_rule_groups.get(id);
    let found = found.filter(|group| context.has(&group.aws, first_vpc(group)));
    found.ok_or_else(|| not_found("Firewall rule group", id))
}
