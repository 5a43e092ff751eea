//! Resolver rules and their associations with VPCs.

use super::{
    check_request_id, deleting, endpoints, error, exists, invalid, invalid_request, list, not_found, part, protocol,
    read_protocol, vpc,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            creation::RequestId,
            edits,
            filters::Known,
            identifiers::{self, arn, derived},
            networks::check_target,
            object,
            route53::record_sets::{name_text, read_name},
            start,
            table::{read, write},
            tags,
        },
    },
    manifest::{AwsData, Direction, Protocol, ResolverRule, Resource, RuleType, TargetAddress, Vpc, collection::Edit},
    wire::Name,
};
use serde_json::{Value, json};
use std::{net::IpAddr, ops::Bound, sync::Arc};

/// The operations of Resolver rules.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(
        Route53Resolver,
        "CreateResolverRule",
        create_resolver_rule,
        "Name RuleType DomainName TargetIps ResolverEndpointId DelegationRecord CreatorRequestId Tags",
    ),
    write(Route53Resolver, "DeleteResolverRule", delete_resolver_rule, "ResolverRuleId"),
    write(Route53Resolver, "UpdateResolverRule", update_resolver_rule, "ResolverRuleId Config"),
    write(Route53Resolver, "AssociateResolverRule", associate_resolver_rule, "ResolverRuleId Name VPCId"),
    write(Route53Resolver, "DisassociateResolverRule", disassociate_resolver_rule, "VPCId ResolverRuleId"),
    read(Route53Resolver, "GetResolverRule", get_resolver_rule, "ResolverRuleId"),
    read(Route53Resolver, "ListResolverRules", list_resolver_rules, "Filters MaxResults NextToken"),
    read(Route53Resolver, "GetResolverRuleAssociation", get_resolver_rule_association, "ResolverRuleAssociationId"),
    read(
        Route53Resolver,
        "ListResolverRuleAssociations",
        list_resolver_rule_associations,
        "Filters MaxResults NextToken",
    ),
];

const KIND: &str = "resolver_rules";
/// The number of items on a page, if the request does not say it.
const PAGE: usize = 10;
/// The rule of the internet resolver, which every Region has. Its identifier comes before those of other rules in lists.
const INTERNET_RULE: &str = "rslvr-autodefined-rr-internet-resolver";

const RULE_FILTERS: Known = &[
    ("CreatorRequestId", "CreatorRequestId"),
    ("DomainName", "DomainName"),
    ("Name", "Name"),
    ("ResolverEndpointId", "ResolverEndpointId"),
    ("Status", "Status"),
    ("Type", "RuleType"),
    ("CREATOR_REQUEST_ID", "CreatorRequestId"),
    ("DOMAIN_NAME", "DomainName"),
    ("NAME", "Name"),
    ("RESOLVER_ENDPOINT_ID", "ResolverEndpointId"),
    ("STATUS", "Status"),
    ("TYPE", "RuleType"),
];

// Reads.

/// Whether a rule is in the caller's account and Region.
pub(super) fn has_rule(context: &Context, rule: &ResolverRule) -> bool {
    context.has(&rule.aws, first_vpc(rule))
}

fn first_vpc(rule: &ResolverRule) -> Option<&str> {
    rule.vpc_ids.first().map(String::as_str)
}

fn rule_value(context: &Context, id: &str, rule: &ResolverRule) -> Value {
    let owner = context.owner(rule.aws.text("owner_id").unwrap_or_default());
    let region = context.region_of(&rule.aws, first_vpc(rule));
    let targets: Vec<Value> = rule
        .target_ips
        .iter()
        .map(|target| {
            let (ipv4, ipv6) = if target.ip.is_ipv4() { (Some(target.ip), None) } else { (None, Some(target.ip)) };
            object(json!({
                "Ip": ipv4, "Ipv6": ipv6, "Port": target.port, "Protocol": protocol(target.protocol),
                "ServerNameIndication": target.server_name_indication,
            }))
        })
        .collect();
    // The name of a DELEGATE rule is that of name servers. AWS calls it the delegation record.
    let name = name_text(&rule.domain_name);
    let (domain_name, delegation_record) = match rule.rule_type {
        RuleType::Delegate => (part(&rule.aws, "echo", "DomainName").cloned(), Some(name)),
        _ => (Some(name.into()), None),
    };
    let message = match rule.enabled {
        true => "Successfully created Resolver Rule",
        false => "The rule is disabled: zonal does not use it",
    };
    object(json!({
        "Id": id,
        "CreatorRequestId": rule.aws.text("creator_request_id"),
        "Arn": arn("route53resolver", region, owner, &format!("resolver-rule/{id}")),
        "DomainName": domain_name,
        "Status": "COMPLETE",
        "StatusMessage": message,
        "RuleType": rule.rule_type,
        "Name": rule.name,
        "TargetIps": (!targets.is_empty()).then_some(targets),
        "ResolverEndpointId": rule.resolver_endpoint_id,
        "OwnerId": owner,
        "ShareStatus": "NOT_SHARED",
        "CreationTime": rule.aws.text("created"),
        "ModificationTime": rule.aws.text("modified"),
        "DelegationRecord": delegation_record,
    }))
}

/// The rule of the internet resolver.
fn internet_rule(context: &Context) -> Value {
    json!({
        "Id": INTERNET_RULE,
        "Arn": arn("route53resolver", &context.caller.region, "", &format!("autodefined-rule/{INTERNET_RULE}")),
        "DomainName": ".",
        "Status": "COMPLETE",
        "RuleType": "RECURSIVE",
        "Name": "Internet Resolver",
        "OwnerId": "Route 53 Resolver",
        "ShareStatus": "NOT_SHARED",
    })
}

/// A rule of the caller.
pub(super) fn rule<'a>(context: &Context<'a>, id: &str) -> Result<&'a ResolverRule, ServiceError> {
    let found = context.manifest().resolver_rules.get(id).filter(|rule| has_rule(context, rule));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver rule", id))
}

fn get_resolver_rule(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverRuleId");
    let value = match id {
        INTERNET_RULE => internet_rule(context),
        _ => rule_value(context, id, rule(context, id)?),
    };
    Ok(json!({"ResolverRule": value}))
}

fn list_resolver_rules(context: &Context, parameters: Parameters) -> ReadResult {
    list(PAGE, parameters, "ResolverRules", RULE_FILTERS, |after| {
        // The empty key comes before all others.
        let internet = after.is_none().then(|| (String::new(), internet_rule(context)));
        let all = context.manifest().resolver_rules.range_from(start(after));
        let visible = all.filter(|(_, rule)| has_rule(context, rule));
        internet.into_iter().chain(visible.map(|(id, rule)| (id.clone(), rule_value(context, id, rule))))
    })
}

const RULE_ASSOCIATION_FILTERS: Known = &[
    ("Name", "Name"),
    ("ResolverRuleId", "ResolverRuleId"),
    ("Status", "Status"),
    ("VPCId", "VPCId"),
    ("NAME", "Name"),
    ("RESOLVER_RULE_ID", "ResolverRuleId"),
    ("STATUS", "Status"),
    ("VPC_ID", "VPCId"),
];

fn association_id(rule: &str, vpc: &str) -> String {
    derived("rslvr-rrassoc", &[rule, vpc])
}

/// The association of a rule with a VPC.
fn association_value(id: &str, rule: &ResolverRule, vpc: &str) -> Value {
    let name = part(&rule.aws, "associations", vpc).and_then(|data| data.get("name"));
    object(json!({
        "Id": association_id(id, vpc), "ResolverRuleId": id, "Name": name, "VPCId": vpc, "Status": "COMPLETE",
        "StatusMessage": "",
    }))
}

/// The association of a VPC with the rule of the internet resolver.
fn internet_association(vpc: &str) -> Value {
    json!({
        "Id": format!("rslvr-autodefined-assoc-{vpc}-internet-resolver"), "ResolverRuleId": INTERNET_RULE,
        "Name": "System Rule Association", "VPCId": vpc, "Status": "COMPLETE", "StatusMessage": "",
    })
}

/// Whether a VPC uses the internet resolver: one of the caller that zonal answers.
fn has_internet(context: &Context, vpc: &Vpc) -> bool {
    context.has_vpc(vpc) && vpc.enable_dns_support
}

fn list_resolver_rule_associations(context: &Context, parameters: Parameters) -> ReadResult {
    list(PAGE, parameters, "ResolverRuleAssociations", RULE_ASSOCIATION_FILTERS, |after| {
        // The key of an association of the internet resolver is its VPC. That of another one is its rule and its number.
        let (vpc, rest) = match after {
            None => (Some(None), ""),
            Some(key) => match key.strip_prefix("vpc/") {
                Some(vpc) => (Some(Some(vpc)), ""),
                None => (None, key.strip_prefix("rule/").unwrap_or(key)),
            },
        };
        let vpcs = vpc.map(|after| context.manifest().vpcs.range_from(start(after)));
        let vpcs = vpcs.into_iter().flatten().filter(|(_, vpc)| has_internet(context, vpc));
        let internet = vpcs.map(|(id, _)| (format!("vpc/{id}"), internet_association(id)));
        let (rule, number) = rest.rsplit_once('/').unwrap_or(("", "0"));
        let (rule, number) = (rule.to_string(), number.parse::<usize>().unwrap_or_default());
        let all = context.manifest().resolver_rules.range_from(Bound::Included(rule.as_str()));
        let visible = all.filter(|(_, rule)| has_rule(context, rule));
        let others = visible.flat_map(move |(id, resource)| {
            let skipped = if *id == rule { number } else { 0 };
            let numbered = resource.vpc_ids.iter().enumerate().skip(skipped);
            numbered.map(move |(at, vpc)| (format!("rule/{id}/{}", at + 1), association_value(id, resource, vpc)))
        });
        internet.chain(others)
    })
}

fn get_resolver_rule_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverRuleAssociationId");
    let autodefined = wanted.strip_prefix("rslvr-autodefined-assoc-");
    let autodefined = autodefined.and_then(|rest| rest.strip_suffix("-internet-resolver"));
    let internet = autodefined.filter(|vpc| {
        let found = context.manifest().vpcs.get(vpc);
        found.is_some_and(|vpc| has_internet(context, vpc))
    });
    let rules = context.manifest().resolver_rules.iter().filter(|(_, rule)| has_rule(context, rule));
    let mut all = rules.flat_map(|(id, rule)| rule.vpc_ids.iter().map(move |vpc| (id, rule, vpc)));
    let own = || {
        let found = all.find(|(id, _, vpc)| association_id(id, vpc) == wanted);
        found.map(|(id, rule, vpc)| association_value(id, rule, vpc))
    };
    let missing = || error("ResourceNotFoundException", format!("ResolverRuleAssociation '{wanted}' does not Exist"));
    let found = internet.map(internet_association).or_else(own).ok_or_else(missing)?;
    Ok(json!({"ResolverRuleAssociation": found}))
}

// Writes.

fn put(id: &str, rule: ResolverRule) -> Edit {
    edits::put(id, Resource::ResolverRule(Arc::new(rule)))
}

/// The name of a rule.
fn read_domain(field: &str, text: &str) -> Result<Name, ServiceError> {
    let name = read_name(text).map(|name| name.to_lowercase());
    name.ok_or_else(|| invalid(field, format!("{field}: '{text}' is not a domain name")))
}

/// The servers of a request.
fn read_targets(context: &Context, parameters: Parameters) -> Result<Vec<TargetAddress>, ServiceError> {
    parameters.items("TargetIps").map(|target| read_target(context, Parameters(target))).collect()
}

fn read_target(context: &Context, given: Parameters) -> Result<TargetAddress, ServiceError> {
    const FIELD: &str = "TargetIps";
    let parse = |text: &str| {
        let parsed = text.parse::<IpAddr>();
        parsed.map_err(|_| invalid(FIELD, format!("Invalid IP address: '{text}'")))
    };
    let ip = match (given.given_text("Ip"), given.given_text("Ipv6")) {
        (Some(text), None) => {
            let ip = parse(text)?;
            if ip.is_ipv6() {
                return Err(invalid(FIELD, format!("Only IPv4 addresses may be used: '{text}'")));
            }
            ip
        }
        (None, Some(text)) => {
            let ip = parse(text)?;
            if ip.is_ipv4() {
                return Err(invalid(FIELD, format!("Only IPv6 addresses may be used: '{text}'")));
            }
            ip
        }
        _ => return Err(invalid(FIELD, "TargetIps: each target has one of Ip and Ipv6")),
    };
    check_target(context, ip, None).map_err(|refusal| invalid(FIELD, format!("{FIELD}: {refusal}")))?;
    let protocol = given.given_text("Protocol").map_or(Ok(Protocol::Do53), |word| read_protocol(FIELD, word))?;
    let usual = if protocol == Protocol::DoH { 443 } else { 53 };
    let port = given.get("Port").map_or(Some(usual), |port| u16::try_from(port.as_u64()?).ok());
    let port = port.filter(|port| *port > 0);
    Ok(TargetAddress {
        ip,
        port: port.ok_or_else(|| invalid(FIELD, "TargetIps: expected a Port from 1 to 65535"))?,
        protocol,
        server_name_indication: given
            .given_text("ServerNameIndication")
            .filter(|name| !name.is_empty())
            .map(str::to_string),
    })
}

/// The outbound endpoint of a request.
fn read_endpoint(context: &Context, parameters: Parameters) -> Result<Option<String>, ServiceError> {
    let Some(id) = parameters.given_text("ResolverEndpointId") else { return Ok(None) };
    let endpoint = endpoints::endpoint(context, id)?;
    if endpoint.direction != Direction::Outbound {
        let message = format!(
            "[RSLVR-00700] Resolver rules can only be associated to OUTBOUND resolver endpoints: '{id}' is {}",
            endpoint.direction
        );
        return Err(invalid_request(message));
    }
    Ok(Some(id.into()))
}

/// Checks that a rule has the parameters of its type.
fn check_type(rule: &ResolverRule) -> Result<(), ServiceError> {
    let message = match rule.rule_type {
        RuleType::Forward if rule.target_ips.is_empty() => "A FORWARD rule needs at least one address in TargetIps",
        RuleType::System if !rule.target_ips.is_empty() || rule.resolver_endpoint_id.is_some() => {
            "Cannot specify resolver endpoint ID and target IP for SYSTEM type resolver rule"
        }
        RuleType::Recursive if !rule.target_ips.is_empty() || rule.resolver_endpoint_id.is_some() => {
            "Cannot specify resolver endpoint ID and target IP for RECURSIVE type resolver rule"
        }
        RuleType::Delegate if !rule.target_ips.is_empty() => {
            "Delegate resolver rules need to specify a nameserver name: give DelegationRecord and no TargetIps"
        }
        _ => return Ok(()),
    };
    Err(invalid_request(message))
}

fn create_resolver_rule(context: &Context, parameters: Parameters) -> WriteResult {
    let others = context.manifest().resolver_rules.values().filter(|rule| has_rule(context, rule));
    check_request_id("Resolver rule", parameters, others.map(|rule| &rule.aws))?;
    let rule_type = match parameters.text("RuleType") {
        "SYSTEM" => RuleType::System,
        "RECURSIVE" => RuleType::Recursive,
        "DELEGATE" => RuleType::Delegate,
        _ => RuleType::Forward,
    };
    let (domain, record) = (parameters.given_text("DomainName"), parameters.given_text("DelegationRecord"));
    let mut aws = AwsData::default();
    context.stamp(&mut aws);
    RequestId::creator(parameters).store(&mut aws);
    let domain_name = match (rule_type, domain, record) {
        (RuleType::Delegate, domain, Some(record)) => {
            if let Some(domain) = domain {
                let domain = name_text(&read_domain("DomainName", domain)?);
                aws.set_in("echo", "DomainName", Some(domain.into()));
            }
            read_domain("DelegationRecord", record)?
        }
        (RuleType::Delegate, _, None) => return Err(invalid_request("A DELEGATE rule needs a DelegationRecord")),
        (_, _, Some(_)) => return Err(invalid_request("Only a DELEGATE rule has a DelegationRecord")),
        (_, Some(domain), None) => read_domain("DomainName", domain)?,
        (_, None, None) => return Err(invalid_request(format!("A {rule_type} rule needs a DomainName"))),
    };
    let rule = ResolverRule {
        domain_name,
        rule_type,
        resolver_endpoint_id: read_endpoint(context, parameters)?,
        target_ips: read_targets(context, parameters)?,
        vpc_ids: Vec::new(),
        enabled: true,
        name: parameters.given_text("Name").map(str::to_string),
        tags: tags::read(parameters, "Tags"),
        aws,
    };
    check_type(&rule)?;
    let id = identifiers::next("rslvr-rr");
    let result = json!({"ResolverRule": rule_value(context, &id, &rule)});
    Ok(Written { edits: vec![put(&id, rule)], result })
}

fn delete_resolver_rule(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverRuleId");
    let rule = rule(context, id)?;
    let in_use = |message: String| Err(error("ResourceInUseException", message));
    if let Some(vpc) = first_vpc(rule) {
        let message = "Please disassociate this resolver rule from VPC first before deleting";
        return in_use(format!("{message}: it is associated with {vpc}"));
    }
    let mut profiles = context.manifest().profiles.iter();
    if let Some((profile, _)) = profiles.find(|(_, profile)| profile.resolver_rules.iter().any(|member| member == id)) {
        return in_use(format!("The rule {id} is in the Profile {profile}: disassociate it first"));
    }
    let result = json!({"ResolverRule": deleting(rule_value(context, id, rule), "Resolver Rule")});
    Ok(Written { edits: vec![edits::delete(KIND, id)], result })
}

fn update_resolver_rule(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverRuleId");
    let mut rule = rule(context, id)?.clone();
    let config = parameters.get("Config").map_or(parameters, Parameters);
    if let Some(name) = config.given_text("Name") {
        rule.name = Some(name.into());
    }
    if config.get("TargetIps").is_some() {
        rule.target_ips = read_targets(context, config)?;
    }
    if let Some(endpoint) = read_endpoint(context, config)? {
        rule.resolver_endpoint_id = Some(endpoint);
    }
    check_type(&rule)?;
    rule.aws.set("modified", context.time());
    let result = json!({"ResolverRule": rule_value(context, id, &rule)});
    Ok(Written { edits: vec![put(id, rule)], result })
}

fn associate_resolver_rule(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("ResolverRuleId"), parameters.text("VPCId"));
    if id == INTERNET_RULE {
        return Err(exists(format!("Each VPC is associated with the resolver rule '{id}'")));
    }
    let mut rule = rule(context, id)?.clone();
    vpc(context, "VPCId", vpc_id)?;
    let is_conflict = |other: &ResolverRule| {
        let is_same_kind = (other.rule_type == RuleType::Delegate) == (rule.rule_type == RuleType::Delegate);
        is_same_kind && other.domain_name == rule.domain_name && other.vpc_ids.iter().any(|other| other == vpc_id)
    };
    if let Some((other, _)) = context.manifest().resolver_rules.iter().find(|(_, other)| is_conflict(other)) {
        return Err(invalid_request(format!(
            "[RSLVR-00802] Cannot associate rules with same domain name with same VPC. Conflict with resolver rule '{other}'"
        )));
    }
    rule.vpc_ids.push(vpc_id.into());
    if let Some(name) = parameters.given_text("Name") {
        rule.aws.set_in("associations", vpc_id, Some(json!({"name": name})));
    }
    let result = json!({"ResolverRuleAssociation": association_value(id, &rule, vpc_id)});
    Ok(Written { edits: vec![put(id, rule)], result })
}

fn disassociate_resolver_rule(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("ResolverRuleId"), parameters.text("VPCId"));
    if id == INTERNET_RULE {
        return Err(invalid_request(format!("The resolver rule '{id}' cannot be disassociated")));
    }
    let mut rule = rule(context, id)?.clone();
    let at = rule.vpc_ids.iter().position(|other| other == vpc_id).ok_or_else(|| {
        let what = format!("Resolver Rule '{id}' and VPC '{vpc_id}'");
        error("ResourceNotFoundException", format!("Resolver Rule Association between {what} does not exist"))
    })?;
    let value = deleting(association_value(id, &rule, vpc_id), "Resolver Rule Association");
    rule.vpc_ids.remove(at);
    rule.aws.set_in("associations", vpc_id, None);
    Ok(Written { edits: vec![put(id, rule)], result: json!({"ResolverRuleAssociation": value}) })
}
