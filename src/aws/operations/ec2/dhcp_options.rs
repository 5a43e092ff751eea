//! EC2: DHCP option sets.

use super::{done, error, list, tags, vpcs::existing_vpc, wanted};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::random,
            start,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{DhcpOptions, Resource},
};
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeDhcpOptions", describe_dhcp_options, "DhcpOptionsIds Filters MaxResults NextToken DryRun"),
    write(Ec2, "CreateDhcpOptions", create_dhcp_options, "TagSpecifications DryRun").echoes("DhcpConfigurations"),
    write(Ec2, "AssociateDhcpOptions", associate_dhcp_options, "DryRun").echoes("DhcpOptionsId VpcId"),
    write(Ec2, "DeleteDhcpOptions", delete_dhcp_options, "DhcpOptionsId DryRun"),
];

/// AWS's word for the options of a VPC without a set.
const DEFAULT: &str = "default";

const DHCP_FILTERS: Known = &[
    ("dhcp-options-id", "DhcpOptionsId"),
    ("key", "DhcpConfigurations.Key"),
    ("owner-id", "OwnerId"),
    ("value", "DhcpConfigurations.Values.Value"),
];

fn dhcp_value(context: &Context, id: &str, options: &DhcpOptions) -> Value {
    let mut configurations = Vec::new();
    let mut add = |key: &str, values: Vec<String>| {
        if !values.is_empty() {
            let values: Vec<Value> = values.into_iter().map(|value| json!({"Value": value})).collect();
            configurations.push(json!({"Key": key, "Values": values}));
        }
    };
    let texts = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
    add("domain-name", options.domain_name.iter().cloned().collect());
    add("domain-name-servers", options.domain_name_servers.clone());
    add("ntp-servers", texts(&options.ntp_servers));
    add("netbios-name-servers", texts(&options.netbios_name_servers));
    add("netbios-node-type", options.netbios_node_type.iter().map(ToString::to_string).collect());
    let lease_time = options.ipv6_address_preferred_lease_time;
    add("ipv6-address-preferred-lease-time", lease_time.iter().map(ToString::to_string).collect());
    json!({
        "DhcpOptionsId": id, "OwnerId": context.owner(&options.owner_id), "DhcpConfigurations": configurations,
        "Tags": tag_list(&options.tags, options.name.as_deref()),
    })
}

fn describe_dhcp_options(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().dhcp_options;
    let exists = |id: &str| all.get(id).is_some_and(|options| has_options(context, options));
    let ids = wanted(parameters, "DhcpOptionsIds", "InvalidDhcpOptionID.NotFound", "dhcpOption", exists)?;
    list(parameters, "DhcpOptions", DHCP_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, options)| has_options(context, options));
        let visible = visible.filter(|(id, _)| ids.has(id));
        visible.map(|(id, options)| (id.clone(), dhcp_value(context, id, options)))
    })
}

/// Whether a set is in the caller's account and Region.
pub(super) fn has_options(context: &Context, options: &DhcpOptions) -> bool {
    context.sees(&options.owner_id) && options.aws.text("region").is_none_or(|region| context.is_in(region))
}

/// The set of a request.
fn existing_options<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<DhcpOptions>, ServiceError> {
    let found = context.manifest().dhcp_options.get(id).filter(|options| has_options(context, options));
    let missing = || error("InvalidDhcpOptionID.NotFound", format!("The dhcpOption ID '{id}' does not exist"));
    found.ok_or_else(missing)
}

/// Sets an option.
fn set_option(options: &mut DhcpOptions, key: &str, values: &[&str]) -> Result<(), String> {
    let addresses = || {
        let address = |text: &&str| text.parse::<IpAddr>().map_err(|_| format!("`{text}` is not an address"));
        match values.len() {
            0..=4 => values.iter().map(address).collect::<Result<Vec<_>, _>>(),
            count => Err(format!("{count} servers; at most 4 are possible")),
        }
    };
    let one = || match values {
        [one] => Ok(*one),
        _ => Err(format!("expected one value, found {}", values.len())),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number"));
    match key {
        "domain-name" => options.domain_name = Some(one()?.into()),
        "domain-name-servers" => {
            if *values != ["AmazonProvidedDNS"] {
                addresses()?;
            }
            options.domain_name_servers = values.iter().map(ToString::to_string).collect();
        }
        "ntp-servers" => options.ntp_servers = addresses()?,
        "netbios-name-servers" => options.netbios_name_servers = addresses()?,
        "netbios-node-type" => match number(one()?)? {
            kind @ (1 | 2 | 4 | 8) => options.netbios_node_type = Some(kind as u8),
            kind => return Err(format!("{kind} is not one of 1, 2, 4 and 8")),
        },
        "ipv6-address-preferred-lease-time" => options.ipv6_address_preferred_lease_time = Some(number(one()?)?),
        _ => return Err("there is no such option".into()),
    }
    Ok(())
}

fn create_dhcp_options(context: &Context, parameters: Parameters) -> WriteResult {
    let owner_id = context.account().unwrap_or_default().into();
    let mut options = DhcpOptions { owner_id, ..DhcpOptions::default() };
    options.aws.set("region", context.caller.region.clone());
    for given in parameters.items("DhcpConfigurations").map(Parameters) {
        let key = given.text("Key");
        set_option(&mut options, key, &given.texts("Values"))
            .map_err(|reason| error("InvalidParameterValue", format!("DHCP option {key}: {reason}")))?;
    }
    tags::set_specified(context, &mut options, parameters, "dhcp-options")?;
    let id = random("dopt");
    let result = json!({"DhcpOptions": dhcp_value(context, &id, &options)});
    Ok(Written { edits: vec![edits::put(&id, Resource::DhcpOptions(Arc::new(options)))], result })
}

fn associate_dhcp_options(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("DhcpOptionsId"), parameters.text("VpcId"));
    let mut vpc = (**existing_vpc(context, vpc_id)?).clone();
    vpc.dhcp_options_id = match id {
        DEFAULT => None,
        id => existing_options(context, id).map(|_| Some(id.into()))?,
    };
    done(vec![edits::put(vpc_id, Resource::Vpc(Arc::new(vpc)))])
}

fn delete_dhcp_options(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("DhcpOptionsId");
    let found = existing_options(context, id);
    if found.is_err() && !id.starts_with("dopt-") {
        let message = format!("Invalid id: \"{id}\" (expecting \"dopt-...\")");
        return Err(error("InvalidDhcpOptionsId.Malformed", message));
    }
    found?;
    let mut vpcs = context.manifest().vpcs.values();
    if vpcs.any(|vpc| vpc.dhcp_options_id.as_deref() == Some(id)) {
        let message = format!("The dhcpOptions '{id}' has dependencies and cannot be deleted.");
        return Err(error("DependencyViolation", message));
    }
    done(vec![edits::delete("dhcp_options", id)])
}
