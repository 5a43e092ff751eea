//! Resources of Profiles: zones, rules, endpoints, firewall rule groups and query logs.

use super::{after, changed_data, error, find, invalid, list, not_found, owner};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written, edits,
            identifiers::{arn, derived},
            object, part,
        },
    },
    manifest::{AwsData, Profile, ProfileRuleGroup, Resource},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The member of a Profile's data that has the data of its resources.
const DATA: &str = "resources";

/// A kind of resources that Profiles have.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Zone,
    Rule,
    Endpoint,
    RuleGroup,
    QueryLog,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Zone, Kind::Rule, Kind::Endpoint, Kind::RuleGroup, Kind::QueryLog];

    /// The word of AWS.
    fn word(self) -> &'static str {
        match self {
            Kind::Zone => "HOSTED_ZONE",
            Kind::Rule => "RESOLVER_RULE",
            Kind::Endpoint => "VPC_ENDPOINT",
            Kind::RuleGroup => "FIREWALL_RULE_GROUP",
            Kind::QueryLog => "RESOLVER_QUERY_LOG_CONFIG",
        }
    }

    /// The part of an ARN before the identifier.
    fn in_arn(self) -> &'static str {
        match self {
            Kind::Zone => "hostedzone",
            Kind::Rule => "resolver-rule",
            Kind::Endpoint => "vpc-endpoint",
            Kind::RuleGroup => "firewall-rule-group",
            Kind::QueryLog => "resolver-query-log-config",
        }
    }
}

/// A resource of a Profile.
#[derive(Clone, PartialEq)]
struct Member {
    kind: Kind,
    id: String,
    /// The priority of a rule group.
    priority: Option<u32>,
}

impl Member {
    fn key(&self) -> String {
        format!("{}/{}", self.kind.in_arn(), self.id)
    }

    fn association_id(&self, profile: &str) -> String {
        derived("rpr", &[profile, &self.key()])
    }

    /// The ARN of the resource, as its own service shows it.
    fn arn(&self, context: &Context) -> String {
        let manifest = context.manifest();
        let id = self.id.as_str();
        let of = |service: &str, aws: Option<&AwsData>, vpc: Option<&str>| {
            let none = AwsData::default();
            let aws = aws.unwrap_or(&none);
            let owner = context.owner(aws.text("owner_id").unwrap_or_default());
            arn(service, context.region_of(aws, vpc), owner, &self.key())
        };
        match self.kind {
            Kind::Zone => arn("route53", "", "", &self.key()),
            Kind::Endpoint => {
                let vpc = manifest.vpc_endpoints.get(id).map_or("", |endpoint| endpoint.vpc_id.as_str());
                arn("ec2", context.vpc_region(vpc), context.owner(context.vpc_owner(vpc)), &self.key())
            }
            Kind::Rule => {
                let found = manifest.resolver_rules.get(id);
                let vpc = found.and_then(|rule| rule.vpc_ids.first()).map(String::as_str);
                of("route53resolver", found.map(|rule| &rule.aws), vpc)
            }
            Kind::RuleGroup => {
                let found = manifest.firewall_rule_groups.get(id);
                let vpc = found.and_then(|group| group.vpc_associations.first()).map(|first| first.vpc_id.as_str());
                of("route53resolver", found.map(|group| &group.aws), vpc)
            }
            Kind::QueryLog => {
                let found = manifest.query_log_configs.get(id);
                let vpc = found.and_then(|config| config.vpc_ids.first()).map(String::as_str);
                of("route53resolver", found.map(|config| &config.aws), vpc)
            }
        }
    }

    /// Whether the resource exists, and is one of the caller.
    fn exists(&self, context: &Context) -> bool {
        let manifest = context.manifest();
        let id = self.id.as_str();
        let sees = |aws: &AwsData| context.sees(aws.text("owner_id").unwrap_or_default());
        match self.kind {
            Kind::Zone => manifest.private_hosted_zones.get(id).is_some_and(|zone| sees(&zone.aws)),
            Kind::Rule => manifest.resolver_rules.get(id).is_some_and(|rule| sees(&rule.aws)),
            Kind::RuleGroup => manifest.firewall_rule_groups.get(id).is_some_and(|group| sees(&group.aws)),
            Kind::QueryLog => manifest.query_log_configs.get(id).is_some_and(|config| sees(&config.aws)),
            Kind::Endpoint => {
                let found = manifest.vpc_endpoints.get(id);
                found.is_some_and(|endpoint| context.sees(context.vpc_owner(&endpoint.vpc_id)))
            }
        }
    }

    /// Adds it to a Profile, in place of the same resource.
    fn put(&self, profile: &mut Profile) {
        self.remove(profile);
        match self.kind {
            Kind::RuleGroup => {
                let priority = self.priority.unwrap_or_default();
                profile.firewall_rule_groups.push(ProfileRuleGroup { id: self.id.clone(), priority });
            }
            kind => ids(profile, kind).push(self.id.clone()),
        }
    }

    fn remove(&self, profile: &mut Profile) {
        match self.kind {
            Kind::RuleGroup => profile.firewall_rule_groups.retain(|group| group.id != self.id),
            kind => ids(profile, kind).retain(|id| *id != self.id),
        }
    }
}

/// The identifiers of a kind other than rule groups.
fn ids(profile: &mut Profile, kind: Kind) -> &mut Vec<String> {
    match kind {
        Kind::Zone => &mut profile.private_hosted_zones,
        Kind::Rule => &mut profile.resolver_rules,
        Kind::Endpoint => &mut profile.vpc_endpoints,
        Kind::QueryLog | Kind::RuleGroup => &mut profile.query_log_configs,
    }
}

/// The resources of a Profile.
fn members(profile: &Profile) -> impl Iterator<Item = Member> {
    let plain = [
        (Kind::Zone, &profile.private_hosted_zones),
        (Kind::Rule, &profile.resolver_rules),
        (Kind::Endpoint, &profile.vpc_endpoints),
        (Kind::QueryLog, &profile.query_log_configs),
    ];
    let plain = plain
        .into_iter()
        .flat_map(|(kind, ids)| ids.iter().map(move |id| Member { kind, id: id.clone(), priority: None }));
    let groups = profile.firewall_rule_groups.iter().map(|group| Member {
        kind: Kind::RuleGroup,
        id: group.id.clone(),
        priority: Some(group.priority),
    });
    plain.chain(groups)
}

fn value(context: &Context, profile_id: &str, profile: &Profile, member: &Member) -> Value {
    let data = part(&profile.aws, DATA, &member.key());
    object(json!({
        "Id": member.association_id(profile_id),
        "Name": data.given_text("name").unwrap_or(&member.id),
        "OwnerId": context.owner(owner(profile)),
        "ProfileId": profile_id,
        "ResourceArn": member.arn(context),
        "ResourceType": member.kind.word(),
        "ResourceProperties": member.priority.map(|priority| json!({"priority": priority}).to_string()),
        "Status": "COMPLETE",
        "CreationTime": data.given_text("created"),
        "ModificationTime": data.given_text("modified"),
    }))
}

/// The resource with an ARN.
fn read_arn(text: &str) -> Result<Member, ServiceError> {
    let (rest, id) = text.rsplit_once('/').unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| rest.rsplit(':').next() == Some(kind.in_arn()));
    let kind = kind.filter(|_| text.starts_with("arn:") && !id.is_empty()).ok_or_else(|| {
        let kinds = Kind::ALL.map(Kind::in_arn).join(", ");
        invalid(format!("ResourceArn: `{text}` is not the ARN of a resource that Profiles can have: {kinds}"))
    })?;
    Ok(Member { kind, id: id.into(), priority: None })
}

/// The priority in the properties of a request.
fn read_priority(parameters: Parameters) -> Result<Option<u32>, ServiceError> {
    let Some(text) = parameters.given_text("ResourceProperties").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let read: Option<Value> = serde_json::from_str(text).ok();
    let priority = read.as_ref().and_then(|properties| properties.get("priority")).and_then(Value::as_u64);
    let priority = priority.and_then(|priority| u32::try_from(priority).ok());
    let wrong = || invalid("ResourceProperties: expected JSON such as {\"priority\": 102}");
    priority.map(Some).ok_or_else(wrong)
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, profile, member) = find_association(context, parameters)?;
    Ok(json!({"ProfileResourceAssociation": value(context, id, profile, &member)}))
}

/// The association with the identifier of a request.
fn find_association<'a>(
    context: &Context<'a>,
    parameters: Parameters,
) -> Result<(&'a String, &'a Arc<Profile>, Member), ServiceError> {
    let wanted = parameters.text("ProfileResourceAssociationId");
    let profiles = context.manifest().profiles.iter().filter(|(_, profile)| context.has(&profile.aws, None));
    let mut all = profiles.flat_map(|(id, profile)| members(profile).map(move |member| (id, profile, member)));
    let found = all.find(|(id, _, member)| member.association_id(id) == wanted);
    found.ok_or_else(|| not_found("Profile resource association", wanted))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ProfileId");
    let profile = find(context, id)?;
    let values = members(profile).map(|member| (member.association_id(id), value(context, id, profile, &member)));
    let matches = |value: &Value| {
        ["ResourceType", "ResourceArn"]
            .into_iter()
            .all(|name| parameters.get(name).is_none_or(|wanted| value.get(name) == Some(wanted)))
    };
    let values = values.filter(|(_, value)| matches(value)).collect();
    list(parameters, "ProfileResourceAssociations", |key| after(values, key))
}

/// The change of a Profile that has a resource, or no longer has it.
fn written(id: &str, changed: Profile, shown: Value) -> WriteResult {
    let edits = vec![edits::put(id, Resource::Profile(Arc::new(changed)))];
    Ok(Written { edits, result: json!({"ProfileResourceAssociation": shown}) })
}

pub(super) fn associate(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ProfileId");
    let profile = find(context, id)?;
    let arn = parameters.text("ResourceArn");
    let mut member = read_arn(arn)?;
    if !member.exists(context) {
        return Err(not_found("Resource", arn));
    }
    if members(profile).any(|other| other.key() == member.key()) {
        return Err(error("ConflictException", format!("The Profile {id} has the resource {arn} already")));
    }
    member.priority = read_priority(parameters)?.filter(|_| member.kind == Kind::RuleGroup);
    if member.kind == Kind::RuleGroup && member.priority.is_none() {
        return Err(invalid("ResourceProperties: a rule group needs a priority, such as {\"priority\": 102}"));
    }
    let mut changed = (**profile).clone();
    member.put(&mut changed);
    let data = changed_data(context, &profile.aws, DATA, &member.key(), parameters.given_text("Name"));
    changed.aws.set_in(DATA, &member.key(), Some(data.into()));
    let shown = value(context, id, &changed, &member);
    written(id, changed, shown)
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, profile, mut member) = find_association(context, parameters)?;
    let mut changed = (**profile).clone();
    if let Some(priority) = read_priority(parameters)?.filter(|_| member.kind == Kind::RuleGroup) {
        member.priority = Some(priority);
        member.put(&mut changed);
    }
    let data = changed_data(context, &profile.aws, DATA, &member.key(), parameters.given_text("Name"));
    changed.aws.set_in(DATA, &member.key(), Some(data.into()));
    let shown = value(context, id, &changed, &member);
    written(id, changed, shown)
}

pub(super) fn disassociate(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ProfileId");
    let profile = find(context, id)?;
    let arn = parameters.text("ResourceArn");
    let wanted = read_arn(arn)?;
    let member = members(profile).find(|member| member.key() == wanted.key());
    let member = member.ok_or_else(|| not_found("Profile resource association", arn))?;
    let mut shown = value(context, id, profile, &member);
    shown["Status"] = "DELETED".into();
    let mut changed = (**profile).clone();
    member.remove(&mut changed);
    changed.aws.set_in(DATA, &member.key(), None);
    written(id, changed, shown)
}
