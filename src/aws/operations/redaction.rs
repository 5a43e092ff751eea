//! Errors without the names of other accounts' resources.
//!
//! Checks of the manifest concern the resources of all accounts, and their messages name these resources. An account may
//! see the names of its own resources, and the names in its own request.

use super::Context;
use crate::{
    aws::codec::server::{Call, ServiceError},
    manifest::{AwsData, KINDS, Problem, Resource},
};

/// The text in place of an identifier.
const REDACTED: &str = "(of another account)";

/// The messages of problems for the caller. A problem of another account's resource has no details.
pub fn messages(context: &Context, problems: &[Problem]) -> Vec<String> {
    let is_foreign = |problem: &&Problem| {
        let found = problem.resource.as_ref().and_then(|(kind, id)| context.manifest().resource(kind, id));
        found.is_some_and(|resource| !is_visible(context, &resource))
    };
    let errors = problems.iter().filter(|problem| problem.is_error());
    let (foreign, own): (Vec<&Problem>, Vec<&Problem>) = errors.partition(is_foreign);
    let conflict = (!foreign.is_empty()).then(|| "the change conflicts with a resource of another account".to_string());
    own.into_iter().map(Problem::to_string).chain(conflict).collect()
}

/// The error without identifiers that the caller neither sees nor named in its call.
pub fn redacted(context: &Context, call: &Call, mut error: ServiceError) -> ServiceError {
    if context.account().is_some() {
        error.message = redact(&error.message, |word| is_foreign_id(context, word) && !names(&call.parameters, word));
    }
    error
}

/// Replaces the words of a text, and the parts between their dots, that are identifiers to hide.
fn redact(text: &str, is_hidden: impl Fn(&str) -> bool) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_of_word) {
        let is_quoted = rest[..start].ends_with(['`', '\'', '"']);
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // An unquoted word of letters is part of the sentence, although a resource may have the same word as its identifier.
        let is_plain = !is_quoted && word.trim_end_matches('.').bytes().all(|octet| octet.is_ascii_alphabetic());
        if is_plain {
            result.push_str(word)
        } else {
            redact_word(word, &is_hidden, &mut result)
        }
        rest = after;
    }
    result + rest
}

/// Adds a word to a text, and replaces the longest sequences of its parts that are identifiers to hide.
fn redact_word(word: &str, is_hidden: &impl Fn(&str) -> bool, result: &mut String) {
    let mut from = 0;
    while from < word.len() {
        let rest = &word[from..];
        let ends = rest.match_indices('.').map(|(at, _)| at).chain([rest.len()]);
        let hidden = ends.filter(|end| *end > 0 && is_hidden(&rest[..*end])).last();
        let end = match hidden {
            Some(end) => {
                result.push_str(REDACTED);
                end
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                result.push_str(&rest[..end]);
                end
            }
        };
        from += end;
        if from < word.len() {
            result.push('.');
            from += 1;
        }
    }
}

/// Whether a text of the call contains a word.
fn names(value: &serde_json::Value, word: &str) -> bool {
    use serde_json::Value::{Array, Object, String};
    match value {
        String(text) => text.contains(word),
        Array(items) => items.iter().any(|item| names(item, word)),
        Object(members) => members.values().any(|member| names(member, word)),
        _ => false,
    }
}

/// Whether a word is an identifier, and the caller sees no resource that has it.
fn is_foreign_id(context: &Context, word: &str) -> bool {
    let manifest = context.manifest();
    let mut found = KINDS.iter().filter_map(|kind| manifest.resource(kind, word)).peekable();
    found.peek().is_some() && !found.any(|resource| is_visible(context, &resource))
}

/// Whether a resource belongs to the caller, or has no owner.
fn is_visible(context: &Context, resource: &Resource) -> bool {
    let of = |aws: &AwsData| context.sees(aws.text("owner_id").unwrap_or_default());
    let of_vpc = |id: &str| context.sees(context.vpc_owner(id));
    match resource {
        Resource::Vpc(vpc) => context.sees(&vpc.owner_id),
        Resource::DhcpOptions(options) => context.sees(&options.owner_id),
        Resource::SecurityGroup(group) => context.sees(&group.owner_id),
        Resource::VpcEndpointService(service) => context.sees(&service.owner_id) || service.is_amazon(),
        Resource::VpcEndpoint(endpoint) => of_vpc(&endpoint.vpc_id),
        Resource::ResolverEndpoint(endpoint) => of_vpc(&endpoint.vpc_id),
        Resource::VpcPeeringConnection(peering) => peering.vpc_ids.iter().any(|vpc| of_vpc(vpc)),
        Resource::TransitGateway(gateway) => of(&gateway.aws),
        Resource::CidrCollection(collection) => of(&collection.aws),
        Resource::Profile(profile) => of(&profile.aws),
        Resource::PrivateHostedZone(zone) => of(&zone.aws),
        Resource::ResolverRule(rule) => of(&rule.aws),
        Resource::QueryLogConfig(config) => of(&config.aws),
        Resource::HealthCheck(check) => of(&check.aws),
        Resource::FirewallDomainList(list) => of(&list.aws),
        Resource::FirewallRuleGroup(group) => of(&group.aws),
        Resource::DelegationSet(set) => of(&set.aws),
        Resource::OnPremisesNetwork(_) | Resource::Forwarder(_) | Resource::ZonalShift(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_identifiers_in_words_and_leaves_the_sentence() {
        let hidden = ["vpc-b", "com.amazonaws.vpce.r.vpce-svc-1", "blue", "Z1"];
        for (text, expected) in [
            ("`vpc-b` is not `vpc-bb`.", "`(of another account)` is not `vpc-bb`."),
            (
                "error: vpcs.vpc-b.cidr_blocks[0]: 10.0.0.0/8",
                "error: vpcs.(of another account).cidr_blocks[0]: 10.0.0.0/8",
            ),
            ("service com.amazonaws.vpce.r.vpce-svc-1.", "service (of another account)."),
            ("services.com.amazonaws.vpce.r.vpce-svc-1.dns_name", "services.(of another account).dns_name"),
            ("blue skies; the zone `blue`, Z1", "blue skies; the zone `(of another account)`, (of another account)"),
            ("…", "…"),
            ("", ""),
        ] {
            assert_eq!(redact(text, |word| hidden.contains(&word)), expected);
        }
    }
}
