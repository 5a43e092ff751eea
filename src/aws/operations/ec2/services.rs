//! EC2: services of VPC endpoints: those that AWS owns, as presets have them, and those in the manifest.

use super::{
    Wanted, done,
    endpoints::{dns_entries, ip_address_type, plain, small},
    error, is_true, list, tags,
    zones::azs,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::{derived, random},
            object, start,
            table::{read, write},
            tag_list, zonal_shift,
        },
    },
    manifest::{
        AwsData, EndpointState, Id, PrivateDnsNameConfiguration, Resource, Tags, VerificationState, Vpc, VpcEndpoint,
        VpcEndpointService, VpcEndpointType, collection::Edit, presets,
    },
    wire::Name,
};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeVpcEndpointServices",
        describe_vpc_endpoint_services,
        "ServiceNames ServiceRegions Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpointServiceConfigurations",
        describe_configurations,
        "ServiceIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpointServicePermissions",
        describe_permissions,
        "ServiceId Filters MaxResults NextToken DryRun",
    ),
    read(Ec2, "DescribeVpcEndpointConnections", describe_connections, "Filters MaxResults NextToken DryRun"),
    write(
        Ec2,
        "CreateVpcEndpointServiceConfiguration",
        create_configuration,
        "AcceptanceRequired PrivateDnsName ClientToken TagSpecifications DryRun",
    )
    .echoes("NetworkLoadBalancerArns GatewayLoadBalancerArns SupportedIpAddressTypes SupportedRegions"),
    write(
        Ec2,
        "ModifyVpcEndpointServiceConfiguration",
        modify_configuration,
        "ServiceId AcceptanceRequired PrivateDnsName RemovePrivateDnsName DryRun",
    )
    .echoes(
        "AddNetworkLoadBalancerArns RemoveNetworkLoadBalancerArns AddGatewayLoadBalancerArns \
         RemoveGatewayLoadBalancerArns AddSupportedIpAddressTypes RemoveSupportedIpAddressTypes AddSupportedRegions \
         RemoveSupportedRegions",
    ),
    write(Ec2, "DeleteVpcEndpointServiceConfigurations", delete_configurations, "ServiceIds DryRun"),
    write(
        Ec2,
        "ModifyVpcEndpointServicePermissions",
        modify_permissions,
        "ServiceId AddAllowedPrincipals RemoveAllowedPrincipals DryRun",
    )
    .refuses("PermissionType"),
    write(Ec2, "StartVpcEndpointServicePrivateDnsVerification", start_verification, "ServiceId DryRun"),
    write(Ec2, "AcceptVpcEndpointConnections", accept_connections, "ServiceId VpcEndpointIds DryRun")
        .refuses("TransitGatewayAttachmentIds"),
    write(Ec2, "RejectVpcEndpointConnections", reject_connections, "ServiceId VpcEndpointIds DryRun")
        .refuses("TransitGatewayAttachmentIds"),
];

const SERVICE_FILTERS: Known = &[
    ("owner", "Owner"),
    ("service-name", "ServiceName"),
    ("service-region", "ServiceRegion"),
    ("service-type", "ServiceType.ServiceType"),
    ("supported-ip-address-types", "SupportedIpAddressTypes"),
];
/// The services of AWS with Gateway endpoints.
pub(super) const GATEWAYS: [&str; 2] = ["dynamodb", "s3"];
/// The members of `aws` of a service.
const PRINCIPALS: &str = "AllowedPrincipals";
const ACCEPTANCE: &str = "AcceptanceRequired";
const NETWORK_BALANCERS: &str = "NetworkLoadBalancerArns";
const GATEWAY_BALANCERS: &str = "GatewayLoadBalancerArns";
const ADDRESS_TYPES: &str = "SupportedIpAddressTypes";
const REGIONS: &str = "SupportedRegions";

/// A service, and its name.
pub(super) struct Found<'a> {
    /// The name.
    pub name: Id,
    /// The service.
    pub service: Cow<'a, VpcEndpointService>,
    /// The preset that it is of. None if it is in the manifest.
    pub preset: Option<&'static str>,
}

/// The service of an endpoint in a VPC.
pub(super) fn find_service<'a>(context: &Context<'a>, endpoint: &VpcEndpoint, vpc: &Vpc) -> Option<Found<'a>> {
    let services = &context.manifest().vpc_endpoint_services;
    let preset = endpoint.service.as_deref();
    let preset = preset.and_then(|preset| presets::service(preset, &vpc.region, endpoint.vpc_endpoint_type));
    let (name, preset) = preset.map_or_else(|| (endpoint.service_name.clone(), None), |(name, of)| (name, Some(of)));
    let service = match services.get(&name) {
        Some(service) => Cow::Borrowed(&**service),
        None => Cow::Owned(preset?),
    };
    Some(Found { name, service, preset: None })
}

/// The service with a name in a Region. AWS's own services need not be in the manifest.
pub(super) fn find_named<'a>(
    context: &Context<'a>,
    name: &str,
    region: &str,
    endpoint_type: VpcEndpointType,
) -> Option<Found<'a>> {
    if let Some(service) = context.manifest().vpc_endpoint_services.get(name) {
        let is_usable = may_use(context, service);
        return is_usable.then_some(Found { name: name.into(), service: Cow::Borrowed(&**service), preset: None });
    }
    presets::names().into_iter().find_map(|preset| {
        let (found, service) = presets::service(preset, region, endpoint_type)?;
        (found == name).then_some(Found { name: found, service: Cow::Owned(service), preset: Some(preset) })
    })
}

/// The accounts and roles that may use a service. None if it has no list, so that all may.
fn principals(service: &VpcEndpointService) -> Option<Vec<&str>> {
    let list = service.aws.get(PRINCIPALS)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

/// Whether the caller's account may make endpoints of a service.
fn may_use(context: &Context, service: &VpcEndpointService) -> bool {
    let is_of_caller =
        |principal: &str| principal == "*" || principal.split(':').nth(4) == Some(context.caller.account.as_str());
    context.sees(&service.owner_id)
        || principals(service).is_none_or(|principals| principals.into_iter().any(is_of_caller))
}

/// Whether the owner of a service has to accept endpoints.
pub(super) fn needs_acceptance(service: &VpcEndpointService) -> bool {
    service.aws.get(ACCEPTANCE) == Some(&Value::Bool(true))
}

/// The identifier of a service.
pub(super) fn service_id(name: &str, service: &VpcEndpointService) -> String {
    service.service_id.clone().unwrap_or_else(|| derived("vpce-svc", &[name]))
}

fn service_value(context: &Context, name: &str, service: &VpcEndpointService, kind: VpcEndpointType) -> Value {
    let private: Vec<String> = match kind {
        VpcEndpointType::Interface => service.private_dns_names.iter().map(plain).collect(),
        _ => Vec::new(),
    };
    let private_names: Vec<Value> = private.iter().map(|name| json!({"PrivateDnsName": name})).collect();
    let state = service.private_dns_name_configuration.as_ref().map(|configuration| configuration.state.word());
    let azs = azs(context);
    let is_here = context.is_in(&service.region);
    object(json!({
        "ServiceName": name,
        "ServiceId": service_id(name, service),
        "ServiceType": [{"ServiceType": kind}],
        "ServiceRegion": service.region,
        "AvailabilityZones": azs.keys().filter(|_| is_here).collect::<Vec<_>>(),
        "AvailabilityZoneIds": azs.values().filter(|_| is_here).collect::<Vec<_>>(),
        "Owner": service.owner_id,
        "BaseEndpointDnsNames": [plain(&service.dns_name)],
        "PrivateDnsName": private.first(),
        "PrivateDnsNames": private_names,
        "VpcEndpointPolicySupported": service.is_amazon(),
        "AcceptanceRequired": needs_acceptance(service),
        "ManagesVpcEndpoints": false,
        "Tags": tag_list(&service.tags, service.name.as_deref()),
        "PrivateDnsNameVerificationState": if service.is_amazon() { Some("verified") } else { state },
        "SupportedIpAddressTypes": address_types(service),
    }))
}

fn address_types(service: &VpcEndpointService) -> Value {
    service.aws.get(ADDRESS_TYPES).cloned().unwrap_or_else(|| json!(["ipv4"]))
}

fn describe_vpc_endpoint_services(context: &Context, parameters: Parameters) -> ReadResult {
    let (names, regions) = (parameters.texts("ServiceNames"), parameters.texts("ServiceRegions"));
    let regions = if regions.is_empty() { vec![context.caller.region.as_str()] } else { regions };
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    let mut add = |name: &str, service: &VpcEndpointService, kind: VpcEndpointType| {
        known.push(name.into());
        if names.is_empty() || names.contains(&name) {
            all.insert(format!("{name}\t{kind}"), service_value(context, name, service, kind));
        }
    };
    let services = &context.manifest().vpc_endpoint_services;
    for region in &regions {
        for preset in presets::names() {
            let kinds = [VpcEndpointType::Interface, VpcEndpointType::Gateway];
            for kind in
                kinds.into_iter().filter(|kind| *kind == VpcEndpointType::Interface || GATEWAYS.contains(&preset))
            {
                if let Some((name, service)) = presets::service(preset, region, kind)
                    && !services.contains_key(&name)
                {
                    add(&name, &service, kind);
                }
            }
        }
    }
    for (name, service) in services {
        let is_here = regions.contains(&service.region.as_str());
        if is_here && may_use(context, service) {
            let is_gateway = service.aws.get(GATEWAY_BALANCERS).is_some();
            let kind = if is_gateway { VpcEndpointType::GatewayLoadBalancer } else { VpcEndpointType::Interface };
            add(name, service, kind);
        }
    }
    if let Some(name) = names.iter().find(|name| !known.iter().any(|known| known == *name)) {
        return Err(error("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist")));
    }
    let mut result = list(parameters, "ServiceDetails", SERVICE_FILTERS, |after| {
        let after = after.map(str::to_string);
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })?;
    let details = Parameters(&result).items("ServiceDetails");
    let mut shown: Vec<Value> = details.filter_map(|details| details.get("ServiceName").cloned()).collect();
    shown.dedup();
    result["ServiceNames"] = shown.into();
    Ok(result)
}

// The owner's side.

/// Whether a service is the caller's own, in the Region of the request.
pub(super) fn is_own(context: &Context, service: &VpcEndpointService) -> bool {
    context.sees(&service.owner_id) && context.is_in(&service.region) && !service.is_amazon()
}

/// The caller's own service with an identifier, and its name.
pub(super) fn own_service<'a>(context: &Context<'a>, id: &str) -> Option<(&'a Id, &'a Arc<VpcEndpointService>)> {
    let mut services = context.manifest().vpc_endpoint_services.iter();
    services.find(|(name, service)| is_own(context, service) && service_id(name, service) == id)
}

fn existing_service<'a>(
    context: &Context<'a>,
    id: &str,
) -> Result<(&'a Id, &'a Arc<VpcEndpointService>), ServiceError> {
    let message = || format!("The VpcEndpointService Id '{id}' does not exist");
    own_service(context, id).ok_or_else(|| error("InvalidVpcEndpointServiceId.NotFound", message()))
}

fn configuration_value(context: &Context, name: &str, service: &VpcEndpointService) -> Value {
    let private = service.private_dns_names.first().map(plain);
    let proof = service.private_dns_name_configuration.as_ref().map_or_else(
        || json!({}),
        |proof| {
            object(json!({"State": proof.state, "Type": proof.record_type, "Name": proof.name, "Value": proof.value}))
        },
    );
    let regions = service.aws.get(REGIONS).and_then(Value::as_array);
    let regions = regions.map(|regions| {
        let region = |region: &Value| json!({"Region": region, "ServiceState": "Available"});
        regions.iter().map(region).collect::<Vec<_>>()
    });
    let azs = azs(context);
    let is_gateway = service.aws.get(GATEWAY_BALANCERS).is_some();
    object(json!({
        "ServiceType": [{"ServiceType": if is_gateway { "GatewayLoadBalancer" } else { "Interface" }}],
        "ServiceId": service_id(name, service),
        "ServiceName": name,
        "ServiceState": "Available",
        "AvailabilityZoneIds": azs.values().collect::<Vec<_>>(),
        "AvailabilityZones": azs.keys().collect::<Vec<_>>(),
        "AcceptanceRequired": needs_acceptance(service),
        "ManagesVpcEndpoints": false,
        "NetworkLoadBalancerArns": service.aws.get(NETWORK_BALANCERS),
        "GatewayLoadBalancerArns": service.aws.get(GATEWAY_BALANCERS),
        "SupportedIpAddressTypes": address_types(service),
        "BaseEndpointDnsNames": [plain(&service.dns_name)],
        "PrivateDnsName": private,
        "PrivateDnsNameConfiguration": proof,
        "SupportedRegions": regions,
        "Tags": tag_list(&service.tags, service.name.as_deref()),
    }))
}

const CONFIGURATION_FILTERS: Known = &[
    ("service-id", "ServiceId"),
    ("service-name", "ServiceName"),
    ("service-state", "ServiceState"),
    ("supported-ip-address-types", "SupportedIpAddressTypes"),
];

fn describe_configurations(context: &Context, parameters: Parameters) -> ReadResult {
    let ids = parameters.texts("ServiceIds");
    for id in &ids {
        existing_service(context, id)?;
    }
    let ids = Wanted::of(ids);
    list(parameters, "ServiceConfigurations", CONFIGURATION_FILTERS, |after| {
        let all = context.manifest().vpc_endpoint_services.range_from(start(after));
        let own = all.filter(|(_, service)| is_own(context, service));
        let own = own.filter(|(name, service)| ids.has(&service_id(name, service)));
        own.map(|(name, service)| (name.clone(), configuration_value(context, name, service)))
    })
}

fn service_edit(name: &str, service: VpcEndpointService) -> Edit {
    edits::put(name, Resource::VpcEndpointService(Arc::new(service)))
}

/// The private name of a request.
fn private_name(text: &str) -> Result<Name, ServiceError> {
    let message = || error("InvalidParameter", format!("PrivateDnsName: `{text}` is not a domain name"));
    Name::absolute(text).map_err(|_| message())
}

/// Checks that the private name of a service can change: the VPCs of other accounts would get the new name without their
/// consent. A rejected endpoint counts, because its connection can be accepted again.
fn check_private_name_users(context: &Context, name: &str, text: &str) -> Result<(), ServiceError> {
    let given = private_name(text)?;
    let service = context.manifest().vpc_endpoint_services.get(name);
    let has_name = service.is_some_and(|service| service.private_dns_names == [given]);
    let is_foreign = |endpoint: &VpcEndpoint| !context.sees(context.vpc_owner(&endpoint.vpc_id));
    let mut users = endpoints_of(context, name).filter(|(_, endpoint)| endpoint.private_dns_enabled);
    if has_name || !users.any(|(_, endpoint)| is_foreign(endpoint)) {
        return Ok(());
    }
    let message = "PrivateDnsName: endpoints of other accounts have private DNS enabled: their owners have to disable it, or \
                   delete the endpoints, before the name changes";
    Err(error("ExistingVpcEndpointConnections", message))
}

/// Gives a service a private name, which has to be verified.
fn set_private_name(service: &mut VpcEndpointService, text: &str) -> Result<(), ServiceError> {
    let name = private_name(text)?;
    if service.private_dns_names == [name.clone()] {
        return Ok(());
    }
    service.private_dns_names = vec![name];
    let (label, value) = (random("_").replace('-', ""), random("vpce").replacen('-', ":", 1));
    service.private_dns_name_configuration = Some(PrivateDnsNameConfiguration {
        state: VerificationState::PendingVerification,
        record_type: Some("TXT".into()),
        name: Some(label),
        value: Some(value),
    });
    Ok(())
}

fn create_configuration(context: &Context, parameters: Parameters) -> WriteResult {
    let (network, gateway) = (parameters.texts("NetworkLoadBalancerArns"), parameters.texts("GatewayLoadBalancerArns"));
    if network.is_empty() == gateway.is_empty() {
        let message = "exactly one of network_load_balancer_arn or gateway_load_balancer_arn is a required member";
        return Err(error("InvalidParameter", message));
    }
    let services = context.manifest().vpc_endpoint_services.iter();
    let mut own = services.filter(|(_, service)| is_own(context, service));
    let token = super::ClientToken::of(parameters);
    if let Some(token) = &token
        && let Some((name, service)) = own.find(|(_, service)| token.is_of(&service.aws))
    {
        token.check(&service.aws)?;
        let result = json!({
            "ServiceConfiguration": configuration_value(context, name, service), "ClientToken": token.text,
        });
        return Ok(Written { edits: Vec::new(), result });
    }
    let id = random("vpce-svc");
    let region = &context.caller.region;
    let name = format!("com.amazonaws.vpce.{region}.{id}");
    let dns_name = Name::absolute(&format!("{id}.{region}.vpce.amazonaws.com"));
    let dns_name =
        dns_name.map_err(|_| error("InvalidParameterValue", "the Region cannot be part of a domain name"))?;
    let mut service = VpcEndpointService {
        owner_id: context.caller.account.clone(),
        region: region.clone(),
        dns_name,
        private_dns_names: Vec::new(),
        private_dns_name_configuration: None,
        health_check: None,
        service_id: Some(id),
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    service.aws.set(ACCEPTANCE, parameters.get("AcceptanceRequired") != Some(&Value::Bool(false)));
    service.aws.set(PRINCIPALS, json!([]));
    for (parameter, member) in [
        ("NetworkLoadBalancerArns", NETWORK_BALANCERS),
        ("GatewayLoadBalancerArns", GATEWAY_BALANCERS),
        ("SupportedIpAddressTypes", ADDRESS_TYPES),
        ("SupportedRegions", REGIONS),
    ] {
        if let Some(value) = parameters.get(parameter) {
            service.aws.set(member, value.clone());
        }
    }
    if let Some(text) = parameters.given_text("PrivateDnsName") {
        set_private_name(&mut service, text)?;
    }
    token.iter().for_each(|token| token.keep(&mut service.aws));
    tags::set_specified(context, &mut service, parameters, "vpc-endpoint-service")?;
    let result = object(json!({
        "ServiceConfiguration": configuration_value(context, &name, &service),
        "ClientToken": token.as_ref().map(|token| token.text),
    }));
    Ok(Written { edits: vec![service_edit(&name, service)], result })
}

/// Changes a list in `aws` by the parameters that add to it and remove from it.
pub(super) fn change_list(aws: &mut AwsData, member: &str, parameters: Parameters, removed: &str, added: &str) {
    let (removed, added) = (parameters.texts(removed), parameters.texts(added));
    if removed.is_empty() && added.is_empty() {
        return;
    }
    let current = aws.get(member).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut texts: Vec<String> = current.iter().filter_map(|text| text.as_str().map(str::to_string)).collect();
    texts.retain(|text| !removed.contains(&text.as_str()));
    for text in added {
        if !texts.iter().any(|known| known == text) {
            texts.push(text.into());
        }
    }
    aws.set(member, texts);
}

fn modify_configuration(context: &Context, parameters: Parameters) -> WriteResult {
    let (name, service) = existing_service(context, parameters.text("ServiceId"))?;
    let mut service = (**service).clone();
    if let Some(on) = parameters.get("AcceptanceRequired") {
        service.aws.set(ACCEPTANCE, on.clone());
    }
    if is_true(parameters, "RemovePrivateDnsName") {
        service.private_dns_names.clear();
        service.private_dns_name_configuration = None;
    }
    if let Some(text) = parameters.given_text("PrivateDnsName") {
        check_private_name_users(context, name, text)?;
        set_private_name(&mut service, text)?;
    }
    for (member, suffix) in [
        (NETWORK_BALANCERS, "NetworkLoadBalancerArns"),
        (GATEWAY_BALANCERS, "GatewayLoadBalancerArns"),
        (ADDRESS_TYPES, "SupportedIpAddressTypes"),
        (REGIONS, "SupportedRegions"),
    ] {
        change_list(&mut service.aws, member, parameters, &format!("Remove{suffix}"), &format!("Add{suffix}"));
    }
    done(vec![service_edit(name, service)])
}

/// An item of a list of failures.
pub(super) fn failure(id: &str, code: &str, message: String) -> Value {
    json!({"ResourceId": id, "Error": {"Code": code, "Message": message}})
}

/// The endpoints of a service.
fn endpoints_of<'a>(context: &Context<'a>, name: &'a str) -> impl Iterator<Item = (&'a Id, &'a Arc<VpcEndpoint>)> {
    context.manifest().vpc_endpoints.iter().filter(move |(_, endpoint)| endpoint.service_name == name)
}

fn delete_configurations(context: &Context, parameters: Parameters) -> WriteResult {
    let (mut edits, mut unsuccessful) = (Vec::new(), Vec::new());
    for id in parameters.texts("ServiceIds") {
        let Some((name, _)) = own_service(context, id) else {
            let message = format!("The VpcEndpointService Id '{id}' does not exist");
            unsuccessful.push(failure(id, "InvalidVpcEndpointService.NotFound", message));
            continue;
        };
        if endpoints_of(context, name).any(|(_, endpoint)| endpoint.state != EndpointState::Rejected) {
            let message = format!("The service {id} has endpoints: reject their connections first");
            unsuccessful.push(failure(id, "ExistingVpcEndpointConnections", message));
            continue;
        }
        // An endpoint cannot be without its service.
        for (id, _) in endpoints_of(context, name) {
            edits.push(edits::delete("vpc_endpoints", id));
            edits.extend(zonal_shift::deletions(context, id));
        }
        edits.push(edits::delete("vpc_endpoint_services", name));
        edits.extend(zonal_shift::deletions(context, name));
    }
    Ok(Written { edits, result: json!({"Unsuccessful": unsuccessful}) })
}

fn principal_value(id: &str, principal: &str) -> Value {
    let kind = match principal {
        "*" => "All",
        principal if principal.ends_with(":root") => "Account",
        principal if principal.contains(":user/") => "User",
        principal if principal.contains(":role/") => "Role",
        _ => "Account",
    };
    json!({
        "PrincipalType": kind, "Principal": principal, "ServiceId": id,
        "ServicePermissionId": derived("vpce-svc-perm", &[id, principal]),
    })
}

const PERMISSION_FILTERS: Known = &[("principal", "Principal"), ("principal-type", "PrincipalType")];

fn describe_permissions(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ServiceId");
    let (_, service) = existing_service(context, id)?;
    let mut all = principals(service).unwrap_or_else(|| vec!["*"]);
    all.sort_unstable();
    list(parameters, "AllowedPrincipals", PERMISSION_FILTERS, |after| {
        let after = after.map(str::to_string);
        let rest =
            all.into_iter().filter(move |principal| after.as_ref().is_none_or(|after| *principal > after.as_str()));
        rest.map(|principal| (principal.to_string(), principal_value(id, principal)))
    })
}

fn modify_permissions(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ServiceId");
    let (name, service) = existing_service(context, id)?;
    let mut service = (**service).clone();
    if service.aws.get(PRINCIPALS).is_none() {
        service.aws.set(PRINCIPALS, json!(["*"]));
    }
    change_list(&mut service.aws, PRINCIPALS, parameters, "RemoveAllowedPrincipals", "AddAllowedPrincipals");
    let added: Vec<Value> =
        parameters.texts("AddAllowedPrincipals").into_iter().map(|principal| principal_value(id, principal)).collect();
    Ok(Written {
        edits: vec![service_edit(name, service)],
        result: json!({"AddedPrincipals": added, "ReturnValue": true}),
    })
}

/// Verifies the private name of a service. zonal trusts the owner of the service: it asks for no record.
fn start_verification(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ServiceId");
    let (name, service) = existing_service(context, id)?;
    let mut service = (**service).clone();
    let Some(proof) = &mut service.private_dns_name_configuration else {
        return Err(error("InvalidParameter", format!("The service {id} has no private DNS name")));
    };
    proof.state = VerificationState::Verified;
    Ok(Written { edits: vec![service_edit(name, service)], result: json!({"ReturnValue": true}) })
}

const CONNECTION_FILTERS: Known = &[
    ("ip-address-type", "IpAddressType"),
    ("service-id", "ServiceId"),
    ("vpc-endpoint-id", "VpcEndpointId"),
    ("vpc-endpoint-owner", "VpcEndpointOwner"),
    ("vpc-endpoint-region", "VpcEndpointRegion"),
    ("vpc-endpoint-state", "VpcEndpointState"),
];

fn describe_connections(context: &Context, parameters: Parameters) -> ReadResult {
    let manifest = context.manifest();
    list(parameters, "VpcEndpointConnections", CONNECTION_FILTERS, |after| {
        let all = manifest.vpc_endpoints.range_from(start(after));
        all.filter_map(|(id, endpoint)| {
            let service = manifest.vpc_endpoint_services.get(&endpoint.service_name);
            let service = service.filter(|service| is_own(context, service))?;
            let vpc = manifest.vpcs.get(&endpoint.vpc_id)?;
            let value = object(json!({
                "ServiceId": service_id(&endpoint.service_name, service),
                "VpcEndpointId": id,
                "VpcEndpointOwner": context.owner(&vpc.owner_id),
                "VpcEndpointState": small(endpoint.state.word()),
                "CreationTimestamp": endpoint.aws.text("created"),
                "DnsEntries": dns_entries(context, id, endpoint, vpc),
                "NetworkLoadBalancerArns": service.aws.get(NETWORK_BALANCERS),
                "GatewayLoadBalancerArns": service.aws.get(GATEWAY_BALANCERS),
                "IpAddressType": ip_address_type(endpoint),
                "VpcEndpointConnectionId": derived("vpce-con", &[id]),
                "VpcEndpointRegion": vpc.region,
                "Tags": [],
            }));
            Some((id.clone(), value))
        })
    })
}

fn accept_connections(context: &Context, parameters: Parameters) -> WriteResult {
    use EndpointState::{Available, PendingAcceptance, Rejected};
    change_connections(context, parameters, &[PendingAcceptance, Rejected], Available)
}

fn reject_connections(context: &Context, parameters: Parameters) -> WriteResult {
    use EndpointState::{Available, Pending, PendingAcceptance, Rejected};
    change_connections(context, parameters, &[PendingAcceptance, Pending, Available], Rejected)
}

/// Changes the states of endpoints of the caller's service.
fn change_connections(
    context: &Context,
    parameters: Parameters,
    from: &[EndpointState],
    to: EndpointState,
) -> WriteResult {
    let (name, _) = existing_service(context, parameters.text("ServiceId"))?;
    let (mut edits, mut unsuccessful) = (Vec::new(), Vec::new());
    for id in parameters.texts("VpcEndpointIds") {
        let found = context.manifest().vpc_endpoints.get(id).filter(|endpoint| endpoint.service_name == *name);
        match found {
            Some(endpoint) if from.contains(&endpoint.state) => {
                let changed = VpcEndpoint { state: to, ..(**endpoint).clone() };
                edits.push(edits::put(id, Resource::VpcEndpoint(Arc::new(changed))));
            }
            Some(endpoint) => {
                let message = format!("The endpoint {id} is in the state {}", small(endpoint.state.word()));
                unsuccessful.push(failure(id, "InvalidState", message));
            }
            None => {
                let message = format!("The Vpc Endpoint Id '{id}' does not exist");
                unsuccessful.push(failure(id, "InvalidVpcEndpointId.NotFound", message));
            }
        }
    }
    Ok(Written { edits, result: json!({"Unsuccessful": unsuccessful}) })
}
