//! EC2: security groups. zonal keeps their rules, and enforces none.

use super::{
    endpoints::group_ids,
    error, list, missing, tags,
    vpcs::{existing_vpc, has_vpc, is_default},
    wanted,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::{arn, derived, random},
            object,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{AwsData, Id, Resource, SecurityGroup, Vpc, collection::Edit},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeSecurityGroups",
        describe_security_groups,
        "GroupIds GroupNames Filters MaxResults NextToken DryRun",
    ),
    write(Ec2, "CreateSecurityGroup", create_security_group, "GroupName VpcId TagSpecifications DryRun")
        .echoes("Description"),
    write(Ec2, "DeleteSecurityGroup", delete_security_group, "GroupId GroupName DryRun"),
    write(Ec2, "AuthorizeSecurityGroupIngress", authorize_ingress, "GroupId GroupName DryRun")
        .echoes("IpPermissions IpProtocol FromPort ToPort CidrIp")
        .refuses("SourceSecurityGroupName SourceSecurityGroupOwnerId TagSpecifications"),
    write(Ec2, "AuthorizeSecurityGroupEgress", authorize_egress, "GroupId DryRun")
        .echoes("IpPermissions IpProtocol FromPort ToPort CidrIp")
        .refuses("SourceSecurityGroupName SourceSecurityGroupOwnerId TagSpecifications"),
    write(Ec2, "RevokeSecurityGroupIngress", revoke_ingress, "GroupId GroupName DryRun")
        .echoes("SecurityGroupRuleIds IpPermissions IpProtocol FromPort ToPort CidrIp")
        .refuses("SourceSecurityGroupName SourceSecurityGroupOwnerId"),
    write(Ec2, "RevokeSecurityGroupEgress", revoke_egress, "GroupId DryRun")
        .echoes("SecurityGroupRuleIds IpPermissions IpProtocol FromPort ToPort CidrIp")
        .refuses("SourceSecurityGroupName SourceSecurityGroupOwnerId"),
];

/// The name of the security group that every VPC has.
const DEFAULT_NAME: &str = "default";

const GROUP_FILTERS: Known = &[
    ("description", "Description"),
    ("group-id", "GroupId"),
    ("group-name", "GroupName"),
    ("ip-permission.cidr", "IpPermissions.IpRanges.CidrIp"),
    ("ip-permission.protocol", "IpPermissions.IpProtocol"),
    ("owner-id", "OwnerId"),
    ("vpc-id", "VpcId"),
];

/// The identifier of the security group that every VPC has.
pub(super) fn default_id(vpc_id: &str) -> Id {
    derived("sg", &[vpc_id])
}

/// The permission of all connections, from all addresses or to all.
fn all_traffic() -> AwsData {
    let mut all = AwsData::default();
    all.set("IpProtocol", "-1");
    all.set("IpRanges", json!([{"CidrIp": "0.0.0.0/0"}]));
    all
}

/// The security group that every VPC has, until it is changed.
fn default_group(vpc_id: &str, vpc: &Vpc) -> SecurityGroup {
    let mut inner = AwsData::default();
    inner.set("IpProtocol", "-1");
    inner.set("UserIdGroupPairs", json!([{"GroupId": default_id(vpc_id), "UserId": vpc.owner_id}]));
    SecurityGroup {
        vpc_id: Some(vpc_id.into()),
        description: "default VPC security group".into(),
        owner_id: vpc.owner_id.clone(),
        ip_permissions: vec![inner],
        ip_permissions_egress: vec![all_traffic()],
        name: Some(DEFAULT_NAME.into()),
        ..SecurityGroup::default()
    }
}

/// The name of a security group.
pub(super) fn group_name(context: &Context, id: &str) -> String {
    let found = context.manifest().security_groups.get(id);
    found.and_then(|group| group.name.clone()).unwrap_or_else(|| DEFAULT_NAME.into())
}

/// Whether a group is in the caller's account and Region.
pub(super) fn is_here(context: &Context, group: &SecurityGroup) -> bool {
    let vpc = group.vpc_id.as_deref().unwrap_or_default();
    context.sees(&group.owner_id) && context.is_in(context.vpc_region(vpc))
}

/// All groups in the caller's account and Region: those of the manifest, and the default ones of VPCs.
fn groups(context: &Context) -> BTreeMap<Id, Arc<SecurityGroup>> {
    let manifest = context.manifest();
    let vpcs = manifest.vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
    let mut all: BTreeMap<Id, Arc<SecurityGroup>> =
        vpcs.map(|(id, vpc)| (default_id(id), Arc::new(default_group(id, vpc)))).collect();
    let known = manifest.security_groups.iter().filter(|(_, group)| is_here(context, group));
    all.extend(known.map(|(id, group)| (id.clone(), group.clone())));
    all
}

/// The security group of a request: one of the manifest, or the default one of a VPC.
///
/// # Errors
///
/// There is no such group in the caller's account and Region.
pub(super) fn existing_group(context: &Context, id: &str) -> Result<Arc<SecurityGroup>, ServiceError> {
    let known = context.manifest().security_groups.get(id).filter(|group| is_here(context, group)).cloned();
    let default = || {
        let mut vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
        vpcs.find(|(vpc_id, _)| default_id(vpc_id) == id).map(|(vpc_id, vpc)| Arc::new(default_group(vpc_id, vpc)))
    };
    let missing = || error("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"));
    known.or_else(default).ok_or_else(missing)
}

/// The group that a request names by its identifier or its name.
fn named_group(context: &Context, parameters: Parameters) -> Result<(Id, Arc<SecurityGroup>), ServiceError> {
    if let Some(id) = parameters.given_text("GroupId") {
        return Ok((id.into(), existing_group(context, id)?));
    }
    let name = parameters.given_text("GroupName").ok_or_else(|| missing("GroupId"))?;
    let found = groups(context).into_iter().find(|(_, group)| group.name.as_deref() == Some(name));
    found.ok_or_else(|| error("InvalidGroup.NotFound", format!("The security group '{name}' does not exist")))
}

fn group_arn(context: &Context, id: &str, group: &SecurityGroup) -> String {
    let region = context.vpc_region(group.vpc_id.as_deref().unwrap_or_default());
    arn("ec2", region, context.owner(&group.owner_id), &format!("security-group/{id}"))
}

/// Permissions in the form of EC2, which has all lists of sources or targets.
fn permissions_value(permissions: &[AwsData]) -> Vec<Value> {
    let complete = |permission: &AwsData| {
        let mut value = json!(permission);
        for (list, _) in PEERS {
            if value.get(list).is_none() {
                value[list] = json!([]);
            }
        }
        value
    };
    permissions.iter().map(complete).collect()
}

fn group_value(context: &Context, id: &str, group: &SecurityGroup) -> Value {
    object(json!({
        "GroupId": id, "GroupName": group.name.as_deref().unwrap_or(id), "Description": group.description,
        "OwnerId": context.owner(&group.owner_id), "VpcId": group.vpc_id,
        "IpPermissions": permissions_value(&group.ip_permissions),
        "IpPermissionsEgress": permissions_value(&group.ip_permissions_egress),
        "SecurityGroupArn": group_arn(context, id, group),
        "Tags": tag_list(&group.tags, None),
    }))
}

fn describe_security_groups(context: &Context, parameters: Parameters) -> ReadResult {
    let all = groups(context);
    let exists = |id: &str| all.contains_key(id);
    let ids = wanted(parameters, "GroupIds", "InvalidGroup.NotFound", "security group", exists)?;
    let names = parameters.texts("GroupNames");
    list(parameters, "SecurityGroups", GROUP_FILTERS, |after| {
        let visible = all.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        let visible = visible.filter(|(id, _)| ids.has(id));
        let values = visible.map(|(id, group)| (id.clone(), group_value(context, id, group)));
        let values =
            values.filter(|(_, value)| names.is_empty() || names.contains(&Parameters(value).text("GroupName")));
        values.collect::<Vec<_>>().into_iter()
    })
}

fn group_edit(id: &str, group: SecurityGroup) -> Edit {
    edits::put(id, Resource::SecurityGroup(Arc::new(group)))
}

fn create_security_group(context: &Context, parameters: Parameters) -> WriteResult {
    let name = parameters.text("GroupName");
    let default = || {
        let mut vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc) && is_default(vpc));
        vpcs.next().map(|(id, _)| id.as_str())
    };
    let vpc_id = parameters.given_text("VpcId").or_else(default);
    let vpc_id = vpc_id.ok_or_else(|| error("VPCIdNotSpecified", "VpcId: there is no default VPC; give the VPC"))?;
    let vpc = existing_vpc(context, vpc_id)?;
    let is_taken =
        |group: &Arc<SecurityGroup>| group.vpc_id.as_deref() == Some(vpc_id) && group.name.as_deref() == Some(name);
    if groups(context).values().any(is_taken) {
        let message = format!("The security group '{name}' already exists for VPC '{vpc_id}'");
        return Err(error("InvalidGroup.Duplicate", message));
    }
    let mut group = SecurityGroup {
        vpc_id: Some(vpc_id.into()),
        description: parameters.text("Description").into(),
        owner_id: vpc.owner_id.clone(),
        ip_permissions_egress: vec![all_traffic()],
        name: Some(name.into()),
        ..SecurityGroup::default()
    };
    tags::set_specified(context, &mut group, parameters, "security-group")?;
    let id = random("sg");
    let result = json!({
        "GroupId": id, "Tags": tag_list(&group.tags, None), "SecurityGroupArn": group_arn(context, &id, &group),
    });
    Ok(Written { edits: vec![group_edit(&id, group)], result })
}

fn delete_security_group(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, group) = named_group(context, parameters)?;
    if group.vpc_id.as_deref().is_some_and(|vpc| default_id(vpc) == id) {
        return Err(error(
            "CannotDelete",
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted"),
        ));
    }
    let manifest = context.manifest();
    let resolver_groups = |aws: &AwsData| {
        let mut groups = aws.get("SecurityGroupIds").and_then(Value::as_array).into_iter().flatten();
        groups.any(|of| of.as_str() == Some(&*id))
    };
    let is_used = manifest.vpc_endpoints.values().any(|endpoint| group_ids(endpoint).contains(&id))
        || manifest.resolver_endpoints.values().any(|endpoint| resolver_groups(&endpoint.aws));
    if is_used {
        return Err(error("DependencyViolation", format!("resource {id} has a dependent object")));
    }
    Ok(Written { edits: vec![edits::delete("security_groups", &id)], result: json!({"Return": true, "GroupId": id}) })
}

// Rules.

/// The maximum number of rules of a security group in one direction: the largest number that AWS grants.
const MAX_RULES: usize = 1_000;

/// The lists of sources or targets of a permission, and the member that tells them apart.
const PEERS: [(&str, &str); 4] = [
    ("IpRanges", "CidrIp"),
    ("Ipv6Ranges", "CidrIpv6"),
    ("PrefixListIds", "PrefixListId"),
    ("UserIdGroupPairs", "GroupId"),
];

/// A permission for one source or target.
#[derive(Clone, Debug)]
struct Rule {
    /// The members of the permission but the lists: the protocol and the ports.
    service: Map<String, Value>,
    /// The list, and the member that tells its items apart.
    list: (&'static str, &'static str),
    /// The item of the list.
    peer: Value,
}

/// The members of a permission except its lists, as a text that does not depend on their order.
fn service_key(service: &Map<String, Value>) -> String {
    let members: BTreeMap<&String, &Value> = service.iter().collect();
    json!(members).to_string()
}

impl Rule {
    /// The rules of permissions.
    fn all<'a>(permissions: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for permission in permissions {
            let mut service = permission.clone();
            service.retain(|name, _| PEERS.iter().all(|(list, _)| list != name));
            for list in PEERS {
                let peers = permission.get(list.0).and_then(Value::as_array).into_iter().flatten();
                rules.extend(peers.map(|peer| Rule { service: service.clone(), list, peer: peer.clone() }));
            }
        }
        rules
    }

    /// The rules of a group.
    fn of_group(permissions: &[AwsData]) -> Vec<Rule> {
        let maps: Vec<Map<String, Value>> = permissions
            .iter()
            .map(|permission| permission.members().map(|(name, value)| (name.clone(), value.clone())).collect())
            .collect();
        Rule::all(maps.iter())
    }

    /// The rules as permissions: one for each protocol and range of ports.
    fn permissions(rules: Vec<Rule>) -> Vec<AwsData> {
        let mut permissions: Vec<Map<String, Value>> = Vec::new();
        let mut positions: HashMap<String, usize> = HashMap::new();
        for Rule { service, list, peer } in rules {
            let at = *positions.entry(service_key(&service)).or_insert(permissions.len());
            if at == permissions.len() {
                permissions.push(service);
            }
            let list = permissions[at].entry(list.0).or_insert_with(|| json!([]));
            list.as_array_mut().into_iter().for_each(|list| list.push(peer.clone()));
        }
        permissions.into_iter().map(AwsData::from).collect()
    }

    /// The text by which rules are compared. It is equal for two rules that differ only in their descriptions.
    fn key(&self) -> String {
        json!([service_key(&self.service), self.list.0, self.peer[self.list.1]]).to_string()
    }

    fn id(&self, group: &str, is_egress: bool) -> String {
        let service = Value::Object(self.service.clone()).to_string();
        let direction = if is_egress { "egress" } else { "ingress" };
        derived("sgr", &[group, direction, &service, self.list.0, &self.peer[self.list.1].to_string()])
    }

    /// The rule in the form of EC2.
    fn value(&self, group: &str, owner: &str, is_egress: bool) -> Value {
        let of = |list: &str| (self.list.0 == list).then(|| self.peer[self.list.1].clone());
        let referenced = of("UserIdGroupPairs").map(|id| {
            let user = self.peer.get("UserId").cloned().unwrap_or_else(|| owner.into());
            json!({"GroupId": id, "UserId": user})
        });
        object(json!({
            "SecurityGroupRuleId": self.id(group, is_egress), "GroupId": group, "GroupOwnerId": owner,
            "IsEgress": is_egress, "IpProtocol": self.service.get("IpProtocol"),
            "FromPort": self.service.get("FromPort").cloned().unwrap_or(json!(-1)),
            "ToPort": self.service.get("ToPort").cloned().unwrap_or(json!(-1)),
            "CidrIpv4": of("IpRanges"), "CidrIpv6": of("Ipv6Ranges"), "PrefixListId": of("PrefixListIds"),
            "ReferencedGroupInfo": referenced, "ReferencedGroupId": of("UserIdGroupPairs"),
            "Description": self.peer.get("Description"), "Tags": [],
        }))
    }
}

/// The rules of a request: its permissions, or the one that its other parameters say.
fn given_rules(parameters: Parameters) -> Result<Vec<Rule>, ServiceError> {
    let rules = Rule::all(parameters.items("IpPermissions").filter_map(Value::as_object));
    if !rules.is_empty() {
        return Ok(rules);
    }
    let block = parameters.given_text("CidrIp").ok_or_else(|| missing("IpPermissions"))?;
    let mut permission = Map::new();
    for name in ["IpProtocol", "FromPort", "ToPort"] {
        permission.extend(parameters.get(name).map(|value| (name.to_string(), value.clone())));
    }
    permission.insert("IpRanges".into(), json!([{"CidrIp": block}]));
    Ok(Rule::all([permission].iter()))
}

/// The rules of a group in one direction.
fn direction(group: &mut SecurityGroup, is_egress: bool) -> &mut Vec<AwsData> {
    if is_egress { &mut group.ip_permissions_egress } else { &mut group.ip_permissions }
}

fn authorize(context: &Context, parameters: Parameters, is_egress: bool) -> WriteResult {
    let (id, group) = named_group(context, parameters)?;
    let mut group = (*group).clone();
    let owner = context.owner(&group.owner_id).to_string();
    let mut rules = Rule::of_group(direction(&mut group, is_egress));
    let given = given_rules(parameters)?;
    if rules.len() + given.len() > MAX_RULES {
        let message = format!("A security group has at most {MAX_RULES} rules in each direction");
        return Err(error("RulesPerSecurityGroupLimitExceeded", message));
    }
    let mut known: HashSet<String> = rules.iter().map(Rule::key).collect();
    let mut added = Vec::new();
    for rule in given {
        if !known.insert(rule.key()) {
            let peer = rule.peer[rule.list.1].as_str().unwrap_or_default();
            let message = format!("the specified rule with the peer {peer} already exists");
            return Err(error("InvalidPermission.Duplicate", message));
        }
        added.push(rule.value(&id, &owner, is_egress));
        rules.push(rule);
    }
    *direction(&mut group, is_egress) = Rule::permissions(rules);
    let result = json!({"Return": true, "SecurityGroupRules": added});
    Ok(Written { edits: vec![group_edit(&id, group)], result })
}

fn revoke(context: &Context, parameters: Parameters, is_egress: bool) -> WriteResult {
    let (id, group) = named_group(context, parameters)?;
    let mut group = (*group).clone();
    let owner = context.owner(&group.owner_id).to_string();
    let rules = Rule::of_group(direction(&mut group, is_egress));
    let ids = parameters.texts("SecurityGroupRuleIds");
    // The keys of the rules to remove, each with the text that an error shows.
    let given: Vec<(String, String)> = if ids.is_empty() {
        let shown = |rule: &Rule| rule.peer[rule.list.1].as_str().unwrap_or_default().to_string();
        given_rules(parameters)?.iter().map(|rule| (rule.key(), shown(rule))).collect()
    } else {
        ids.iter().map(|id| ((*id).to_string(), (*id).to_string())).collect()
    };
    let key = |rule: &Rule| if ids.is_empty() { rule.key() } else { rule.id(&id, is_egress) };
    let mut known: HashMap<String, usize> = rules.iter().enumerate().map(|(at, rule)| (key(rule), at)).collect();
    let mut removed: HashSet<usize> = HashSet::new();
    let mut revoked = Vec::new();
    for (key, shown) in given {
        let at = known.remove(&key).ok_or_else(|| {
            let message = format!("The specified rule does not exist in this security group: {shown}");
            error("InvalidPermission.NotFound", message)
        })?;
        revoked.push(rules[at].value(&id, &owner, is_egress));
        removed.insert(at);
    }
    let rest = rules.into_iter().enumerate().filter(|(at, _)| !removed.contains(at)).map(|(_, rule)| rule);
    *direction(&mut group, is_egress) = Rule::permissions(rest.collect());
    let result = json!({"Return": true, "RevokedSecurityGroupRules": revoked});
    Ok(Written { edits: vec![group_edit(&id, group)], result })
}

fn authorize_ingress(context: &Context, parameters: Parameters) -> WriteResult {
    authorize(context, parameters, false)
}

fn authorize_egress(context: &Context, parameters: Parameters) -> WriteResult {
    authorize(context, parameters, true)
}

fn revoke_ingress(context: &Context, parameters: Parameters) -> WriteResult {
    revoke(context, parameters, false)
}

fn revoke_egress(context: &Context, parameters: Parameters) -> WriteResult {
    revoke(context, parameters, true)
}
