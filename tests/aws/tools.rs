//! boto3 and the AWS CLI, as their users call them.

use super::PYTHON;
use crate::harness::{Scratch, Server, can_run, reply::Reply, tree};
use serde_json::{Value, json};
use std::process::Command;

/// Runs a script after `prelude.py`. Returns the JSON value that it prints.
pub fn boto3(server: &Server, script: &str) -> Value {
    let prelude = std::fs::read_to_string(tree("tests/aws/prelude.py")).unwrap();
    let output = Command::new(PYTHON)
        .args(["-c", &format!("{prelude}\n{script}"), &format!("http://{}", server.admin), &server.port.to_string()])
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; run tests/packages"));
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Runs the AWS CLI. Returns whether it worked, and its output.
pub fn aws(server: &Server, words: &[&str]) -> (bool, String) {
    let aws = tree("target/tools/venv/bin/aws");
    let output = Command::new(PYTHON)
        .arg(aws)
        .args(words)
        .args(["--endpoint-url", &format!("http://{}", server.admin), "--output", "json"])
        .env("AWS_ACCESS_KEY_ID", "111122223333")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; run tests/packages"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The error codes in the member `refused` of the value of a script.
pub fn codes(found: &Value) -> Vec<&str> {
    found["refused"].as_array().unwrap().iter().filter_map(|error| error[0].as_str()).collect()
}

/// The JSON document that a command of the AWS CLI prints.
pub fn aws_json(server: &Server, words: &[&str]) -> Value {
    let (works, text) = aws(server, words);
    assert!(works, "{words:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

/// The answer to a query from a client of the VPC whose addresses are `127.0.0.0/8`.
pub fn dig(server: &Server, name: &str, rtype: &str) -> Reply {
    server.dig(name, rtype)
}

/// The records of the answer to a query.
pub fn answer(server: &Server, name: &str, rtype: &str) -> Vec<String> {
    dig(server, name, rtype).answer
}

/// Sends a request with curl. Returns the response with its headers.
pub fn curl(server: &Server, path: &str, arguments: &[&str]) -> String {
    let url = format!("http://{}{path}", server.admin);
    let output =
        Command::new("curl").args(["-sS", "-i", "--max-time", "60"]).args(arguments).arg(url).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server with a pushed manifest.
pub fn pushed(manifest: Value) -> Server {
    pushed_with(manifest, "")
}

/// A server with a pushed manifest, and more lines of configuration.
pub fn pushed_with(manifest: Value, more: &str) -> Server {
    let server = Server::start_from("{push: {}}", more);
    push(&server, manifest);
    server
}

/// Replaces the manifest.
pub fn push(server: &Server, manifest: Value) {
    let file = server.scratch.write("manifest.json", manifest.to_string());
    let data = format!("@{}", file.display());
    let arguments = ["-X", "PUT", "-H", "Content-Type: application/json", "-H", "Expect:", "--data-binary", &data];
    let response = curl(server, "/v1/manifest", &arguments);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

/// A network with endpoints, rules and zones.
pub fn network() -> Value {
    json!({
        "generation": 1,
        "vpcs": {
            "vpc-app": {
                "owner_id": "111122223333", "region": "us-east-1", "cidr_blocks": ["127.0.0.0/8", "2001:db8:1::/56"],
                "availability_zones": {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2"},
                "subnets": {
                    "subnet-a": {"availability_zone_id": "use1-az1", "cidr_blocks": ["127.0.0.0/24"]},
                    "subnet-b": {"availability_zone_id": "use1-az2", "cidr_blocks": ["127.0.1.0/24"], "tags": {"tier": "x"}},
                },
                "name": "app", "tags": {"team": "network"},
            },
            "vpc-other": {"owner_id": "444455556666", "region": "us-east-1", "cidr_blocks": ["10.9.0.0/16"]},
            "vpc-far": {"owner_id": "111122223333", "region": "eu-west-1", "cidr_blocks": ["10.8.0.0/16"]},
        },
        "vpc_peering_connections": {"pcx-1": {"vpc_ids": ["vpc-app", "vpc-far"]}},
        "vpc_endpoints": {
            "vpce-1": {
                "vpc_endpoint_type": "Interface", "service": "sqs", "vpc_id": "vpc-app", "state": "Available",
                "dns_name_suffix": "abcd1234", "private_dns_enabled": true,
                "network_interfaces": [
                    {"availability_zone_id": "use1-az1", "ipv4": "127.0.0.9"},
                    {"availability_zone_id": "use1-az2", "ipv4": "127.0.1.9"},
                ],
            },
        },
        "resolver_endpoints": {
            "rslvr-in-1": {
                "vpc_id": "vpc-far", "direction": "INBOUND",
                "ip_addresses": [{"ip": "10.8.0.10"}, {"ip": "10.8.1.10", "ip_id": "rni-1"}], "name": "in",
            },
        },
        "resolver_rules": {
            "rslvr-rr-1": {
                "domain_name": "corp.example", "rule_type": "FORWARD", "target_ips": [{"ip": "192.0.2.1", "port": 5353}],
                "vpc_ids": ["vpc-app"], "name": "corp", "tags": {"team": "network"},
            },
            "rslvr-rr-2": {"domain_name": "in.corp.example", "rule_type": "SYSTEM", "vpc_ids": ["vpc-app"]},
        },
        "query_log_configs": {"rqlc-1": {"vpc_ids": ["vpc-app"], "destination": {"file": {"path": "log"}}}},
        "private_hosted_zones": {
            "Z1": {
                "name": "one.example", "vpc_ids": ["vpc-app"], "tags": {"a": "b"},
                "records": [
                    {"name": "*", "type": "TXT", "ttl": 5, "records": ["\"a\\042\" \"b\""]},
                    {"name": "www", "type": "A", "records": ["192.0.2.1", "192.0.2.2"]},
                    {"name": "sqs", "type": "A", "alias": {"name": "vpce-1-abcd1234.sqs.us-east-1.vpce.amazonaws.com"}},
                    {"name": "w", "type": "A", "records": ["192.0.2.3"], "set_identifier": "x", "weighted_routing_policy": {"weight": 3}},
                    {"name": "w", "type": "A", "records": ["192.0.2.4"], "set_identifier": "y", "weighted_routing_policy": {"weight": 1}},
                ],
            },
            "Z2": {"name": "two.example", "vpc_ids": ["vpc-app"]},
            "Z3": {"name": "pub.example", "public": true},
            "Z4": {"name": "four.example", "vpc_ids": ["vpc-other"], "aws": {"owner_id": "444455556666"}},
        },
    })
}

/// Whether the machine has the programs.
pub fn can_run_here() -> bool {
    can_run(&["curl", "dig", "setpriv"])
}

#[test]
fn boto3_reads_networks_and_endpoints() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    for number in 10..20 {
        let block = format!("127.0.{number}.0/24");
        manifest["vpcs"]["vpc-app"]["subnets"][format!("subnet-{number}")] =
            json!({"availability_zone_id": "use1-az1", "cidr_blocks": [block]});
    }
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
ec2, far = client('ec2'), client('ec2', region='eu-west-1')
vpcs = ec2.describe_vpcs()['Vpcs']
attributes = [
    ec2.describe_vpc_attribute(VpcId='vpc-app', Attribute=name)[member]['Value']
    for name, member in [('enableDnsSupport', 'EnableDnsSupport'), ('enableDnsHostnames', 'EnableDnsHostnames'),
                         ('enableNetworkAddressUsageMetrics', 'EnableNetworkAddressUsageMetrics')]
]
subnets = [subnet for page in ec2.get_paginator('describe_subnets').paginate(PaginationConfig={'PageSize': 5})
           for subnet in page['Subnets']]
tagged = lambda name, *values: [vpc['VpcId'] for vpc in ec2.describe_vpcs(Filters=[{'Name': name, 'Values': list(values)}])['Vpcs']]
endpoint = ec2.describe_vpc_endpoints(VpcEndpointIds=['vpce-1'])['VpcEndpoints'][0]
services = ec2.describe_vpc_endpoint_services(Filters=[{'Name': 'owner', 'Values': ['amazon']}])
show({
    'caller': plain(client('sts').get_caller_identity()),
    'vpcs': vpcs,
    'far': [vpc['VpcId'] for vpc in far.describe_vpcs()['Vpcs']],
    'attributes': attributes,
    'subnets': subnets,
    'filters': [tagged('tag:team', 'net*'), tagged('tag:team', 'net'), tagged('cidr', '127.0.0.0/?'), tagged('tag-key', 'Name')],
    'endpoint': endpoint,
    'services': services['ServiceNames'],
    'details': ec2.describe_vpc_endpoint_services(ServiceNames=['com.amazonaws.us-east-1.sqs'])['ServiceDetails'][0],
    'peering': ec2.describe_vpc_peering_connections()['VpcPeeringConnections'][0],
    'azs': [zone['ZoneId'] for zone in ec2.describe_availability_zones()['AvailabilityZones']],
    'usual': [zone['ZoneId'] for zone in client('ec2', region='ap-southeast-2').describe_availability_zones()['AvailabilityZones']],
    'regions': [region['RegionName'] for region in ec2.describe_regions()['Regions']],
    'all': [vpc['VpcId'] for vpc in client('ec2', account='AKIAEXAMPLE').describe_vpcs()['Vpcs']],
    'refused': [
        refused(ec2.describe_vpcs, VpcIds=['vpc-other']),
        refused(ec2.describe_vpcs, Filters=[{'Name': 'colour', 'Values': ['red']}]),
        refused(ec2.describe_vpcs, NextToken='AAAA'),
        refused(ec2.describe_vpcs, DryRun=True),
        refused(ec2.describe_vpc_endpoint_services, ServiceNames=['nothing']),
        refused(ec2.create_internet_gateway),
    ],
})
",
    );
    assert_eq!(found["caller"]["Account"], "111122223333");
    let vpc = &found["vpcs"][0];
    assert_eq!(found["vpcs"].as_array().unwrap().len(), 1, "VPCs of other accounts and Regions are not listed");
    assert_eq!(
        (&vpc["VpcId"], &vpc["CidrBlock"], &vpc["State"], &vpc["IsDefault"]),
        (&json!("vpc-app"), &json!("127.0.0.0/8"), &json!("available"), &json!(false))
    );
    assert_eq!(vpc["Tags"], json!([{"Key": "Name", "Value": "app"}, {"Key": "team", "Value": "network"}]));
    assert_eq!(vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"], "2001:db8:1::/56");
    assert_eq!(found["far"], json!(["vpc-far"]));
    assert_eq!(found["attributes"], json!([true, true, false]));
    let subnets = found["subnets"].as_array().unwrap();
    let ids: std::collections::BTreeSet<&str> =
        subnets.iter().filter_map(|subnet| subnet["SubnetId"].as_str()).collect();
    assert_eq!((subnets.len(), ids.len()), (12, 12), "three pages have each subnet once");
    let last = &subnets[11];
    assert_eq!((&last["SubnetId"], &last["AvailabilityZone"]), (&json!("subnet-b"), &json!("us-east-1b")));
    assert_eq!((&last["AvailableIpAddressCount"], &last["CidrBlock"]), (&json!(250), &json!("127.0.1.0/24")));
    assert_eq!(found["filters"], json!([["vpc-app"], [], ["vpc-app"], ["vpc-app"]]));
    let endpoint = &found["endpoint"];
    assert_eq!((&endpoint["State"], &endpoint["SubnetIds"]), (&json!("available"), &json!(["subnet-a", "subnet-b"])));
    let names: Vec<&str> =
        endpoint["DnsEntries"].as_array().unwrap().iter().filter_map(|entry| entry["DnsName"].as_str()).collect();
    assert_eq!(
        names,
        [
            "vpce-1-abcd1234.sqs.us-east-1.vpce.amazonaws.com",
            "vpce-1-abcd1234-us-east-1a.sqs.us-east-1.vpce.amazonaws.com",
            "vpce-1-abcd1234-us-east-1b.sqs.us-east-1.vpce.amazonaws.com",
            "sqs.us-east-1.amazonaws.com",
            "sqs.us-east-1.api.aws",
        ]
    );
    for name in names {
        assert!(!answer(&server, name, "A").is_empty(), "{name} is listed, so it has an address");
    }
    let services = found["services"].as_array().unwrap();
    assert!(services.contains(&json!("com.amazonaws.us-east-1.sqs")), "{services:?}");
    assert_eq!(found["details"]["PrivateDnsNameVerificationState"], "verified");
    assert_eq!(found["peering"]["Status"]["Code"], "active");
    assert_eq!(found["peering"]["AccepterVpcInfo"]["VpcId"], "vpc-far");
    assert_eq!(found["azs"], json!((1..=6).map(|number| format!("use1-az{number}")).collect::<Vec<_>>()));
    assert_eq!(found["usual"], json!(["apse2-az1", "apse2-az2", "apse2-az3"]));
    assert_eq!(found["regions"], json!(["eu-west-1", "us-east-1"]));
    assert_eq!(found["all"], json!(["vpc-app", "vpc-other"]), "a key without an account sees all accounts");
    let codes: Vec<&str> = found["refused"].as_array().unwrap().iter().filter_map(|error| error[0].as_str()).collect();
    assert_eq!(
        codes,
        [
            "InvalidVpcID.NotFound",
            "InvalidParameterValue",
            "InvalidNextToken",
            "DryRunOperation",
            "InvalidServiceName",
            "InvalidAction",
        ]
    );
}

#[test]
fn boto3_reads_rules_endpoints_and_query_logs() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
resolver, far = client('route53resolver'), client('route53resolver', region='eu-west-1')
pages = lambda name, member: [item for page in resolver.get_paginator(name).paginate(PaginationConfig={'PageSize': 1}) for item in page[member]]
rules, associations = pages('list_resolver_rules', 'ResolverRules'), pages('list_resolver_rule_associations', 'ResolverRuleAssociations')
endpoint = far.get_resolver_endpoint(ResolverEndpointId='rslvr-in-1')['ResolverEndpoint']
logs = resolver.list_resolver_query_log_configs()
log_association = resolver.list_resolver_query_log_config_associations()['ResolverQueryLogConfigAssociations'][0]
show({
    'rules': rules,
    'rule': resolver.get_resolver_rule(ResolverRuleId='rslvr-rr-1')['ResolverRule'] == rules[1],
    'internet': resolver.get_resolver_rule(ResolverRuleId='rslvr-autodefined-rr-internet-resolver')['ResolverRule'] == rules[0],
    'filtered': [rule['Id'] for rule in resolver.list_resolver_rules(Filters=[{'Name': 'TYPE', 'Values': ['SYSTEM']}])['ResolverRules']],
    'associations': associations,
    'association': [resolver.get_resolver_rule_association(ResolverRuleAssociationId=found['Id'])['ResolverRuleAssociation'] == found
                    for found in associations],
    'tags': resolver.list_tags_for_resource(ResourceArn=rules[1]['Arn'])['Tags'],
    'here': resolver.list_resolver_endpoints()['ResolverEndpoints'],
    'listed': far.list_resolver_endpoints()['ResolverEndpoints'] == [endpoint],
    'endpoint': endpoint,
    'addresses': [address for page in far.get_paginator('list_resolver_endpoint_ip_addresses').paginate(ResolverEndpointId='rslvr-in-1', PaginationConfig={'PageSize': 1})
                  for address in page['IpAddresses']],
    'logs': plain(logs),
    'log': resolver.get_resolver_query_log_config(ResolverQueryLogConfigId='rqlc-1')['ResolverQueryLogConfig'] == logs['ResolverQueryLogConfigs'][0],
    'log_association': [log_association, resolver.get_resolver_query_log_config_association(
        ResolverQueryLogConfigAssociationId=log_association['Id'])['ResolverQueryLogConfigAssociation'] == log_association],
    'refused': [
        refused(resolver.get_resolver_rule, ResolverRuleId='rslvr-rr-9'),
        refused(resolver.get_resolver_endpoint, ResolverEndpointId='rslvr-in-1'),
        refused(resolver.list_resolver_rules, NextToken='AAAA'),
        refused(resolver.list_resolver_query_log_configs, SortBy='Colour'),
        refused(resolver.create_resolver_endpoint, CreatorRequestId='1', SecurityGroupIds=[], Direction='INBOUND',
                IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, PreferredInstanceType='c7g.large'),
    ],
})
",
    );
    let internet = &found["rules"][0];
    assert_eq!(
        (&internet["DomainName"], &internet["RuleType"], &found["internet"]),
        (&json!("."), &json!("RECURSIVE"), &json!(true))
    );
    let rule = &found["rules"][1];
    assert_eq!(
        (&rule["Id"], &rule["DomainName"], &rule["RuleType"], &rule["Status"], &rule["OwnerId"]),
        (&json!("rslvr-rr-1"), &json!("corp.example."), &json!("FORWARD"), &json!("COMPLETE"), &json!("111122223333"))
    );
    assert_eq!(rule["TargetIps"], json!([{"Ip": "192.0.2.1", "Port": 5353, "Protocol": "Do53"}]));
    assert_eq!(rule["Arn"], "arn:aws:route53resolver:us-east-1:111122223333:resolver-rule/rslvr-rr-1");
    assert_eq!((&found["rule"], &found["filtered"]), (&json!(true), &json!(["rslvr-rr-2"])));
    assert_eq!((found["rules"].as_array().unwrap().len(), &found["association"]), (3, &json!([true, true, true])));
    assert_eq!(found["associations"][1]["VPCId"], "vpc-app");
    assert_eq!(found["tags"], json!([{"Key": "team", "Value": "network"}]));
    assert_eq!(
        (&found["here"], &found["listed"]),
        (&json!([]), &json!(true)),
        "an endpoint is in the Region of its VPC"
    );
    let endpoint = &found["endpoint"];
    assert_eq!(
        (&endpoint["Name"], &endpoint["IpAddressCount"], &endpoint["Status"], &endpoint["Protocols"]),
        (&json!("in"), &json!(2), &json!("OPERATIONAL"), &json!(["Do53"]))
    );
    let ips: Vec<&str> = found["addresses"].as_array().unwrap().iter().filter_map(|a| a["Ip"].as_str()).collect();
    assert_eq!(ips.len(), 2);
    assert!(ips.contains(&"10.8.0.10") && ips.contains(&"10.8.1.10"), "{ips:?}");
    assert_eq!((&found["logs"]["TotalCount"], &found["log"]), (&json!(1), &json!(true)));
    assert_eq!(
        (&found["log_association"][0]["ResourceId"], &found["log_association"][1]),
        (&json!("vpc-app"), &json!(true))
    );
    let codes: Vec<&str> = found["refused"].as_array().unwrap().iter().filter_map(|error| error[0].as_str()).collect();
    assert_eq!(
        codes,
        [
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "InvalidNextTokenException",
            "InvalidParameterException",
            "InvalidParameterException",
        ]
    );
}

#[test]
fn boto3_reads_hosted_zones_and_their_records() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
def places(route53):
    found, start = [], {}
    while True:
        page = route53.list_geo_locations(**start)
        found += page['GeoLocationDetailsList']
        start = {'Start' + name[4:]: value for name, value in page.items() if name.startswith('Next')}
        if not page['IsTruncated']:
            return [len(found), len({str(place) for place in found}), found[0], found[7]]


route53 = client('route53')
zones = [zone for page in route53.get_paginator('list_hosted_zones').paginate(PaginationConfig={'PageSize': 1}) for zone in page['HostedZones']]
sets = [found for page in route53.get_paginator('list_resource_record_sets').paginate(HostedZoneId='/hostedzone/Z1', PaginationConfig={'PageSize': 2})
        for found in page['ResourceRecordSets']]
show({
    'zones': zones,
    'zone': plain(route53.get_hosted_zone(Id='Z1')),
    'public': route53.get_hosted_zone(Id='Z3')['DelegationSet'],
    'by_name': [zone['Name'] for zone in route53.list_hosted_zones_by_name(DNSName='pub.example', MaxItems='2')['HostedZones']],
    'by_vpc': route53.list_hosted_zones_by_vpc(VPCId='vpc-app', VPCRegion='us-east-1')['HostedZoneSummaries'],
    'count': route53.get_hosted_zone_count()['HostedZoneCount'],
    'places': places(route53),
    'place': [route53.get_geo_location(CountryCode='US', SubdivisionCode='NY')['GeoLocationDetails'],
              route53.get_geo_location(ContinentCode='EU')['GeoLocationDetails']],
    'sets': sets,
    'from': route53.list_resource_record_sets(HostedZoneId='Z1', StartRecordName='w.one.example', StartRecordType='A', StartRecordIdentifier='y', MaxItems='1')['ResourceRecordSets'],
    'tags': route53.list_tags_for_resource(ResourceType='hostedzone', ResourceId='Z1')['ResourceTagSet']['Tags'],
    'refused': [
        refused(route53.get_hosted_zone, Id='Z4'),
        refused(route53.get_hosted_zone, Id='Z9'),
        refused(route53.get_change, Id='C1'),
        refused(route53.list_resource_record_sets, HostedZoneId='Z1', StartRecordType='A'),
        refused(route53.list_hosted_zones, DelegationSetId='N1'),
        refused(route53.list_hosted_zones_by_vpc, VPCId='vpc-no', VPCRegion='us-east-1'),
        refused(route53.get_dnssec, HostedZoneId='Z1'),
        refused(route53.get_geo_location, CountryCode='XX'),
    ],
})
",
    );
    let ids: Vec<&str> = found["zones"].as_array().unwrap().iter().filter_map(|zone| zone["Id"].as_str()).collect();
    assert_eq!(ids, ["/hostedzone/Z1", "/hostedzone/Z2", "/hostedzone/Z3"], "zones of other accounts are not listed");
    assert_eq!(found["zones"][0]["Config"], json!({"PrivateZone": true}));
    assert_eq!(found["zones"][0]["ResourceRecordSetCount"], 7);
    assert_eq!(found["zone"]["VPCs"], json!([{"VPCRegion": "us-east-1", "VPCId": "vpc-app"}]));
    assert_eq!(found["public"]["NameServers"], json!(["ns.pub.example"]));
    assert_eq!(found["by_name"], json!(["pub.example.", "two.example."]));
    assert_eq!(
        found["by_vpc"][1],
        json!({"HostedZoneId": "Z2", "Name": "two.example.", "Owner": {"OwningAccount": "111122223333"}})
    );
    assert_eq!(found["count"], 3);
    let everywhere = json!({"CountryCode": "*", "CountryName": "Default"});
    assert_eq!(
        found["places"],
        json!([308, 308, {"ContinentCode": "AF", "ContinentName": "Africa"}, everywhere]),
        "continents, all countries and the states of one of them, on several pages"
    );
    assert_eq!(
        found["place"],
        json!([
            {"CountryCode": "US", "CountryName": "United States", "SubdivisionCode": "NY", "SubdivisionName": "New York"},
            {"ContinentCode": "EU", "ContinentName": "Europe"},
        ])
    );
    let sets = found["sets"].as_array().unwrap();
    let names: Vec<String> =
        sets.iter().map(|set| format!("{} {}", set["Name"].as_str().unwrap(), set["Type"].as_str().unwrap())).collect();
    assert_eq!(
        names,
        [
            "one.example. NS",
            "one.example. SOA",
            "\\052.one.example. TXT",
            "sqs.one.example. A",
            "w.one.example. A",
            "w.one.example. A",
            "www.one.example. A",
        ]
    );
    assert_eq!(sets[2]["ResourceRecords"], json!([{"Value": "\"a\\052\" \"b\""}]));
    assert_eq!(sets[3]["AliasTarget"]["DNSName"], "vpce-1-abcd1234.sqs.us-east-1.vpce.amazonaws.com.");
    assert_eq!((&sets[4]["SetIdentifier"], &sets[4]["Weight"]), (&json!("x"), &json!(3)));
    assert_eq!(sets[6]["TTL"], 300);
    assert_eq!(found["from"][0]["SetIdentifier"], "y");
    assert_eq!(found["tags"], json!([{"Key": "a", "Value": "b"}]));
    let codes: Vec<&str> = found["refused"].as_array().unwrap().iter().filter_map(|error| error[0].as_str()).collect();
    assert_eq!(
        codes,
        [
            "NoSuchHostedZone",
            "NoSuchHostedZone",
            "NoSuchChange",
            "InvalidInput",
            "NoSuchDelegationSet",
            "InvalidVPCId",
            "InvalidArgument",
            "NoSuchGeoLocation",
        ]
    );
}

#[test]
fn requests_without_a_signature_and_from_browsers_are_refused() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let signature = "Authorization: AWS4-HMAC-SHA256 Credential=111122223333/20261130/us-east-1/ec2/aws4_request, \
                     SignedHeaders=host, Signature=0";
    let form = "Action=DescribeVpcs&Version=2016-11-15";
    let post = |headers: &[&str], body: &str| {
        let mut arguments = vec!["-H", "Expect:", "--data", body];
        headers.iter().for_each(|header| arguments.extend(["-H", *header]));
        curl(&server, "/", &arguments)
    };
    let signed = post(&[signature], form);
    assert!(signed.starts_with("HTTP/1.1 200 ") && signed.contains("<vpcId>vpc-app</vpcId>"), "{signed}");
    let unsigned = post(&[], form);
    assert!(
        unsigned.starts_with("HTTP/1.1 403 ") && unsigned.contains("<Code>MissingAuthenticationToken<"),
        "{unsigned}"
    );
    let of_browser = post(&[signature, "Origin: https://example.com"], form);
    assert!(
        of_browser.starts_with("HTTP/1.1 403 ") && of_browser.contains("<Code>UnauthorizedOperation<"),
        "{of_browser}"
    );
    let rebound = post(&[signature, "Host: example.com"], form);
    assert!(rebound.starts_with("HTTP/1.1 403 ") && rebound.contains("`Host` is neither"), "{rebound}");
    let other = post(&[&signature.replace("/ec2/", "/s3/")], form);
    assert!(other.starts_with("HTTP/1.1 404 ") && other.contains("does not serve AWS's service `s3`"), "{other}");
    let body = server.scratch.write("large", format!("Action=DescribeVpcs&a={}", "b".repeat(1 << 20)));
    let large = post(&[signature], &format!("@{}", body.display()));
    assert!(large.starts_with("HTTP/1.1 413 ") && large.contains("larger than 1048576 octets"), "{large}");
    let entity =
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"c\">]><CreateHostedZoneRequest>&b;</CreateHostedZoneRequest>";
    let arguments = ["-H", &signature.replace("/ec2/", "/route53/"), "-H", "Content-Type:", "--data", entity];
    let bomb = curl(&server, "/2013-04-01/hostedzone", &arguments);
    assert!(bomb.starts_with("HTTP/1.1 400 ") && bomb.contains("<Code>MalformedInput<"), "{bomb}");
    // The own API is where it was.
    let status = curl(&server, "/v1/status", &["-H", signature]);
    assert!(status.starts_with("HTTP/1.1 200 ") && status.contains("\"generation\""), "{status}");
    let nothing = curl(&server, "/nothing", &[]);
    assert!(nothing.starts_with("HTTP/1.1 404 ") && nothing.contains("problem+json"), "{nothing}");
}

#[test]
fn a_directory_is_read_only() {
    if !can_run_here() {
        return;
    }
    let scratch = Scratch::new();
    let mut manifest = network();
    manifest.as_object_mut().unwrap().remove("generation");
    scratch.write("zones/network.yaml", manifest.to_string());
    let server = Server::start(&scratch.path().join("zones"));
    let found = boto3(
        &server,
        "
route53 = client('route53')
show({
    'zones': [zone['Name'] for zone in route53.list_hosted_zones()['HostedZones']],
    'refused': refused(route53.create_hosted_zone, Name='new.example', CallerReference='1'),
})
",
    );
    assert_eq!(found["zones"], json!(["one.example.", "two.example.", "pub.example."]));
    assert_eq!(found["refused"][0], "AccessDenied");
    let message = found["refused"][1].as_str().unwrap();
    assert!(message.contains("comes from a directory"), "{message}");
}

#[test]
fn lists_a_large_zone_page_by_page() {
    if !can_run_here() {
        return;
    }
    let records: Vec<Value> =
        (0..5000).map(|number| json!({"name": format!("n{number}"), "type": "A", "records": ["192.0.2.1"]})).collect();
    let mut manifest = network();
    manifest["private_hosted_zones"]["Z2"]["records"] = records.into();
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
names, pages = [], 0
for page in client('route53').get_paginator('list_resource_record_sets').paginate(HostedZoneId='Z2'):
    names += [found['Name'] for found in page['ResourceRecordSets'] if found['Type'] == 'A']
    pages += 1
show([len(names), len(set(names)), names == sorted(names), pages])
",
    );
    assert_eq!(found, json!([5000, 5000, true, 17]));
}
