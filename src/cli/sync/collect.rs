//! Describes an account: the same outputs as `deploy/import/collect.sh` writes, as JSON values with the names of files.
//!
//! The records of a zone are asked for again when the zone's number of record sets has changed, or after an interval. The
//! interval of a zone doubles, up to a maximum, as long as its records stay the same.

use super::account::{Account, RequestError};
use crate::aws::model::Service::{self, Ec2, Route53, Route53Profiles, Route53Resolver};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    time::Duration,
};
use tokio::time::Instant;

/// The maximum number of values in a filter of EC2.
const MAX_FILTER_VALUES: usize = 200;

/// The lists of a Region: service and operation.
const OF_REGION: &[(Service, &str)] = &[
    (Ec2, "DescribeAvailabilityZones"),
    (Ec2, "DescribeVpcs"),
    (Ec2, "DescribeSubnets"),
    (Ec2, "DescribeDhcpOptions"),
    (Ec2, "DescribeSecurityGroups"),
    (Ec2, "DescribeVpcEndpoints"),
    (Ec2, "DescribeVpcPeeringConnections"),
    (Ec2, "DescribeVpcEndpointServiceConfigurations"),
    (Ec2, "DescribeTransitGateways"),
    (Ec2, "DescribeTransitGatewayAttachments"),
    (Ec2, "DescribeTransitGatewayVpcAttachments"),
    (Ec2, "DescribeTransitGatewayPeeringAttachments"),
    (Ec2, "DescribeTransitGatewayRouteTables"),
    (Route53Resolver, "ListResolverEndpoints"),
    (Route53Resolver, "ListResolverRules"),
    (Route53Resolver, "ListResolverRuleAssociations"),
    (Route53Resolver, "ListResolverQueryLogConfigs"),
    (Route53Resolver, "ListResolverQueryLogConfigAssociations"),
    (Route53Resolver, "ListResolverConfigs"),
    (Route53Resolver, "ListResolverDnssecConfigs"),
    (Route53Resolver, "ListFirewallConfigs"),
    (Route53Resolver, "ListFirewallDomainLists"),
    (Route53Resolver, "ListFirewallRuleGroups"),
    (Route53Resolver, "ListFirewallRuleGroupAssociations"),
    (Route53Profiles, "ListProfiles"),
    (Route53Profiles, "ListProfileAssociations"),
];

/// The outputs about single resources of a Region: the list and the member with the resources, the member with the
/// identifier, the operation, and its parameter.
const OF_RESOURCE: &[(&str, &str, Service, &str, &str)] = &[
    (
        "TransitGatewayRouteTables",
        "TransitGatewayRouteTableId",
        Ec2,
        "GetTransitGatewayRouteTablePropagations",
        "TransitGatewayRouteTableId",
    ),
    ("ResolverEndpoints", "Id", Route53Resolver, "ListResolverEndpointIpAddresses", "ResolverEndpointId"),
    ("FirewallDomainLists", "Id", Route53Resolver, "ListFirewallDomains", "FirewallDomainListId"),
    ("FirewallRuleGroups", "Id", Route53Resolver, "ListFirewallRules", "FirewallRuleGroupId"),
    ("ProfileSummaries", "Id", Route53Profiles, "ListProfileResourceAssociations", "ProfileId"),
];

/// The descriptions of an account.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    /// The outputs, with the names of files.
    pub outputs: Vec<(PathBuf, Value)>,
    /// The requests that AWS has refused. Their outputs are missing.
    pub refused: Vec<String>,
}

/// The records of a zone as they were last read.
#[derive(Debug)]
struct ZoneState {
    count: u64,
    outputs: Vec<(PathBuf, Value)>,
    interval: Duration,
    due: Instant,
}

/// Describes an account again and again.
pub(super) struct Collector {
    account: Account,
    regions: Vec<String>,
    /// The shortest and the longest interval between two readings of a zone.
    intervals: (Duration, Duration),
    zones: HashMap<String, ZoneState>,
}

impl Collector {
    /// A collector of these Regions.
    pub(super) fn new(account: Account, regions: Vec<String>, intervals: (Duration, Duration)) -> Collector {
        Collector { account, regions, intervals, zones: HashMap::new() }
    }

    /// The Region whose servers are asked for the account itself.
    pub(super) fn first_region(&self) -> &str {
        self.regions.first().map_or("us-east-1", String::as_str)
    }

    /// The account.
    pub(super) fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Describes the account. A refused request is left out.
    ///
    /// # Errors
    ///
    /// AWS cannot be reached.
    pub(super) async fn describe(&mut self) -> anyhow::Result<Descriptions> {
        let mut found = Descriptions::default();
        for region in self.regions.clone() {
            self.describe_region(&region, &mut found).await?;
        }
        self.describe_zones(&mut found).await?;
        Ok(found)
    }

    async fn describe_region(&mut self, region: &str, found: &mut Descriptions) -> anyhow::Result<()> {
        let mut lists = serde_json::Map::new();
        for (service, operation) in OF_REGION {
            if let Some(output) = self.get(*service, region, operation, "", json!({}), found).await?
                && let Value::Object(members) = output
            {
                lists.extend(members);
            }
        }
        let ids = |list: &str, member: &str| lists.get(list).map(|list| ids_of(list, member)).unwrap_or_default();
        for vpc in ids("Vpcs", "VpcId") {
            for attribute in ["enableDnsSupport", "enableDnsHostnames"] {
                let parameters = json!({"VpcId": vpc, "Attribute": attribute});
                self.get(Ec2, region, "DescribeVpcAttribute", &format!("{attribute}.{vpc}"), parameters, found).await?;
            }
        }
        // AWS has hundreds of services: only those of the account's endpoints are described.
        let services: BTreeSet<String> = ids("VpcEndpoints", "ServiceName").into_iter().collect();
        if !services.is_empty() {
            let parameters = json!({"ServiceNames": services});
            self.get(Ec2, region, "DescribeVpcEndpointServices", "", parameters, found).await?;
        }
        let endpoints = lists.get("VpcEndpoints").and_then(Value::as_array).into_iter().flatten();
        let interfaces =
            endpoints.flat_map(|endpoint| endpoint["NetworkInterfaceIds"].as_array().into_iter().flatten());
        let interfaces: Vec<&Value> = interfaces.collect();
        for (number, some) in interfaces.chunks(MAX_FILTER_VALUES).enumerate() {
            let parameters = json!({"Filters": [{"Name": "network-interface-id", "Values": some}]});
            self.get(Ec2, region, "DescribeNetworkInterfaces", &format!("from-{number}"), parameters, found).await?;
        }
        for (list, member, service, operation, parameter) in OF_RESOURCE {
            for id in ids(list, member) {
                self.get(*service, region, operation, &id, json!({*parameter: id}), found).await?;
            }
        }
        Ok(())
    }

    async fn describe_zones(&mut self, found: &mut Descriptions) -> anyhow::Result<()> {
        let Some(region) = self.regions.first().cloned() else { return Ok(()) };
        let zones = self.get(Route53, &region, "ListHostedZones", "", json!({}), found).await?.unwrap_or_default();
        self.get(Route53, &region, "ListHealthChecks", "", json!({}), found).await?;
        let collections = self.get(Route53, &region, "ListCidrCollections", "", json!({}), found).await?;
        for collection in ids_of(&collections.unwrap_or_default()["CidrCollections"], "Id") {
            self.get(Route53, &region, "ListCidrBlocks", &collection, json!({"CollectionId": collection}), found)
                .await?;
        }
        let zones: Vec<(String, u64)> = zones["HostedZones"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|zone| {
                let id = zone["Id"].as_str().unwrap_or_default();
                let id = id.rsplit('/').next().unwrap_or_default().to_string();
                (id, zone["ResourceRecordSetCount"].as_u64().unwrap_or_default())
            })
            .collect();
        self.zones.retain(|id, _| zones.iter().any(|(known, _)| known == id));
        for (id, count) in zones {
            let is_current = |state: &ZoneState| state.count == count && Instant::now() < state.due;
            if !self.zones.get(&id).is_some_and(is_current) {
                let mut read = Descriptions::default();
                let tags = json!({"ResourceType": "hostedzone", "ResourceId": id});
                for (operation, parameters) in [
                    ("GetHostedZone", json!({"Id": id})),
                    ("ListResourceRecordSets", json!({"HostedZoneId": id})),
                    ("ListTagsForResource", tags),
                ] {
                    self.get(Route53, &region, operation, &id, parameters, &mut read).await?;
                }
                let before = self.zones.remove(&id);
                if read.refused.is_empty() {
                    let (shortest, longest) = self.intervals;
                    let is_equal = before.as_ref().is_some_and(|before| before.outputs == read.outputs);
                    let interval = match before {
                        Some(before) if is_equal => (2 * before.interval).min(longest),
                        _ => shortest,
                    };
                    let due = Instant::now() + interval;
                    self.zones.insert(id.clone(), ZoneState { count, outputs: read.outputs, interval, due });
                }
                found.refused.extend(read.refused);
            }
            found.outputs.extend(self.zones.get(&id).into_iter().flat_map(|state| state.outputs.iter().cloned()));
        }
        Ok(())
    }

    /// Asks for an output, and adds it. None if AWS refuses the request.
    async fn get(
        &mut self,
        service: Service,
        region: &str,
        operation: &str,
        id: &str,
        parameters: Value,
        found: &mut Descriptions,
    ) -> anyhow::Result<Option<Value>> {
        match self.account.ask(service, region, operation, parameters).await {
            Ok(output) => {
                let directory = if service == Route53 { "global" } else { region };
                let suffix = if id.is_empty() { String::new() } else { format!(".{id}") };
                let path = PathBuf::from(directory).join(format!("{service}-{operation}{suffix}.json"));
                found.outputs.push((path, output.clone()));
                Ok(Some(output))
            }
            Err(RequestError::Refused(code, message)) => {
                found.refused.push(format!("{region}: {service}:{operation} {id}: {code}: {message}"));
                Ok(None)
            }
            Err(RequestError::Failed(error)) => Err(error),
        }
    }
}

/// The identifiers of the elements of a list. Domain lists that AWS manages are left out: their domains cannot be listed.
fn ids_of(list: &Value, member: &str) -> Vec<String> {
    let own = list.as_array().into_iter().flatten().filter(|item| item.get("ManagedOwnerName").is_none());
    own.filter_map(|item| item[member].as_str().map(String::from)).collect()
}
