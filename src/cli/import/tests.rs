//! Inputs in the forms that the AWS CLI prints.

use super::{Input, Made, import, record_sets::in_decimal, report::Report};
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};
use std::path::Path;

/// A small account: the outputs, by the names of their files.
fn account() -> Vec<(&'static str, Value)> {
    vec![
        (
            "us-east-1/sts-get-caller-identity.json",
            json!({"UserId": "AIDA", "Account": "111122223333", "Arn": "arn:aws:iam::111122223333:user/x"}),
        ),
        (
            "us-east-1/ec2-describe-vpcs.json",
            json!({"Vpcs": [
            {"VpcId": "vpc-0a", "CidrBlock": "10.1.0.0/16", "OwnerId": "111122223333", "State": "available", "DhcpOptionsId": "dopt-1",
             "CidrBlockAssociationSet": [
                {"CidrBlock": "10.1.0.0/16", "CidrBlockState": {"State": "associated"}},
                {"CidrBlock": "10.7.0.0/16", "CidrBlockState": {"State": "disassociated"}},
                {"CidrBlock": "10.8.0.0/16", "CidrBlockState": {"State": "associated"}}],
             "Tags": [{"Key": "Name", "Value": "app"}]},
            {"VpcId": "vpc-0b", "CidrBlock": "10.2.0.0/16", "OwnerId": "111122223333"}]}),
        ),
        (
            "us-east-1/ec2-describe-vpc-attribute.vpc-0a.json",
            json!({"VpcId": "vpc-0a", "EnableDnsSupport": {"Value": true}}),
        ),
        (
            "us-east-1/ec2-describe-vpc-attribute-2.json",
            json!({"VpcId": "vpc-0a", "EnableDnsHostnames": {"Value": true}}),
        ),
        (
            "us-east-1/ec2-describe-vpc-attribute-3.json",
            json!({"VpcId": "vpc-0b", "EnableDnsSupport": {"Value": true}, "EnableDnsHostnames": {"Value": false}}),
        ),
        (
            "us-east-1/ec2-describe-subnets.json",
            json!({"Subnets": [
            {"SubnetId": "subnet-1", "VpcId": "vpc-0a", "AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az4",
             "CidrBlock": "10.1.0.0/20", "EnableDns64": true, "SubnetArn": "arn:aws:ec2:us-east-1:111122223333:subnet/subnet-1"},
            {"SubnetId": "subnet-2", "VpcId": "vpc-0a", "AvailabilityZone": "us-east-1b", "AvailabilityZoneId": "use1-az6", "CidrBlock": "10.1.16.0/20"}]}),
        ),
        (
            "us-east-1/ec2-describe-dhcp-options.json",
            json!({"DhcpOptions": [{"DhcpOptionsId": "dopt-1", "DhcpConfigurations": [
            {"Key": "domain-name-servers", "Values": [{"Value": "AmazonProvidedDNS"}]}, {"Key": "domain-name", "Values": [{"Value": "corp.example"}]}]}]}),
        ),
        (
            "us-east-1/ec2-describe-vpc-endpoints.json",
            json!({"VpcEndpoints": [
            {"VpcEndpointId": "vpce-0sqs", "VpcEndpointType": "Interface", "VpcId": "vpc-0a", "State": "available",
             "ServiceName": "com.amazonaws.us-east-1.sqs", "PrivateDnsEnabled": true, "NetworkInterfaceIds": ["eni-1", "eni-2"],
             "DnsOptions": {"DnsRecordIpType": "ipv4"}, "DnsEntries": [
                {"DnsName": "vpce-0sqs-abcd1234.sqs.us-east-1.vpce.amazonaws.com", "HostedZoneId": "Z7HUB22UULQXV"},
                {"DnsName": "vpce-0sqs-abcd1234-us-east-1a.sqs.us-east-1.vpce.amazonaws.com", "HostedZoneId": "Z7HUB22UULQXV"},
                {"DnsName": "sqs.us-east-1.amazonaws.com", "HostedZoneId": "ZONEIDPENDING"}]},
            {"VpcEndpointId": "vpce-0s3", "VpcEndpointType": "Gateway", "VpcId": "vpc-0a", "State": "available",
             "ServiceName": "com.amazonaws.us-east-1.s3", "RouteTableIds": ["rtb-1"]},
            {"VpcEndpointId": "vpce-0lattice", "VpcEndpointType": "Resource", "VpcId": "vpc-0a", "State": "available"}]}),
        ),
        (
            "us-east-1/ec2-describe-network-interfaces.json",
            json!({"NetworkInterfaces": [
            {"NetworkInterfaceId": "eni-1", "SubnetId": "subnet-1", "PrivateIpAddress": "10.1.0.9", "AvailabilityZone": "us-east-1a"},
            {"NetworkInterfaceId": "eni-2", "SubnetId": "subnet-2", "PrivateIpAddress": "10.1.16.9", "AvailabilityZone": "us-east-1b"}]}),
        ),
        (
            "us-east-1/ec2-describe-vpc-peering-connections.json",
            json!({"VpcPeeringConnections": [
            {"VpcPeeringConnectionId": "pcx-1", "Status": {"Code": "active"},
             "RequesterVpcInfo": {"VpcId": "vpc-0a", "PeeringOptions": {"AllowDnsResolutionFromRemoteVpc": true}},
             "AccepterVpcInfo": {"VpcId": "vpc-0b", "PeeringOptions": {"AllowDnsResolutionFromRemoteVpc": false}}},
            {"VpcPeeringConnectionId": "pcx-2", "Status": {"Code": "active"}, "RequesterVpcInfo": {"VpcId": "vpc-0a"},
             "AccepterVpcInfo": {"VpcId": "vpc-else"}}]}),
        ),
        (
            "us-east-1/ec2-describe-transit-gateways.json",
            json!({"TransitGateways": [
            {"TransitGatewayId": "tgw-1", "TransitGatewayArn": "arn:aws:ec2:us-east-1:111122223333:transit-gateway/tgw-1", "State": "available",
             "Options": {"AssociationDefaultRouteTableId": "tgw-rtb-1", "PropagationDefaultRouteTableId": "tgw-rtb-1"}}]}),
        ),
        (
            "us-east-1/ec2-describe-transit-gateway-vpc-attachments.json",
            json!({"TransitGatewayVpcAttachments": [
            {"TransitGatewayAttachmentId": "tgw-attach-1", "TransitGatewayId": "tgw-1", "VpcId": "vpc-0a", "State": "available",
             "SubnetIds": ["subnet-1"], "Options": {"DnsSupport": "enable"}},
            {"TransitGatewayAttachmentId": "tgw-attach-2", "TransitGatewayId": "tgw-1", "VpcId": "vpc-0b", "State": "available",
             "Options": {"DnsSupport": "disable"}}]}),
        ),
        (
            "us-east-1/ec2-describe-transit-gateway-attachments.json",
            json!({"TransitGatewayAttachments": [
            {"TransitGatewayAttachmentId": "tgw-attach-1", "TransitGatewayId": "tgw-1", "ResourceType": "vpc", "Association": {"TransitGatewayRouteTableId": "tgw-rtb-1"}},
            {"TransitGatewayAttachmentId": "tgw-attach-2", "TransitGatewayId": "tgw-1", "ResourceType": "vpc", "Association": {"TransitGatewayRouteTableId": "tgw-rtb-2"}},
            {"TransitGatewayAttachmentId": "tgw-attach-3", "TransitGatewayId": "tgw-1", "ResourceType": "vpn", "State": "available"}]}),
        ),
        (
            "us-east-1/ec2-get-transit-gateway-route-table-propagations.tgw-rtb-1.json",
            json!({"TransitGatewayRouteTablePropagations": [
            {"TransitGatewayAttachmentId": "tgw-attach-1", "State": "enabled"}, {"TransitGatewayAttachmentId": "tgw-attach-2", "State": "disabled"}]}),
        ),
        (
            "us-east-1/ec2-get-transit-gateway-route-table-propagations.tgw-rtb-2.json",
            json!({"TransitGatewayRouteTablePropagations": [
            {"TransitGatewayAttachmentId": "tgw-attach-2", "State": "enabled"}, {"TransitGatewayAttachmentId": "tgw-attach-1", "State": "enabled"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-endpoints.json",
            json!({"ResolverEndpoints": [
            {"Id": "rslvr-in-1", "Direction": "INBOUND", "HostVPCId": "vpc-0a", "Name": "in", "Protocols": ["Do53", "DoH-FIPS"], "SecurityGroupIds": ["sg-1"]},
            {"Id": "rslvr-out-1", "Direction": "OUTBOUND", "HostVPCId": "vpc-0a", "Name": "out"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-endpoint-ip-addresses.rslvr-in-1.json",
            json!({"IpAddresses": [
            {"IpId": "rni-1", "SubnetId": "subnet-1", "Ip": "10.1.0.53", "Status": "ATTACHED"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-endpoint-ip-addresses.rslvr-out-1.json",
            json!({"IpAddresses": [
            {"IpId": "rni-2", "SubnetId": "subnet-2", "Ip": "10.1.16.53", "Status": "ATTACHED"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-rules.json",
            json!({"ResolverRules": [
            {"Id": "rslvr-autodefined-rr-internet-resolver", "DomainName": ".", "RuleType": "RECURSIVE", "OwnerId": "Route 53 Resolver"},
            {"Id": "rslvr-rr-1", "DomainName": "onprem.example.", "RuleType": "FORWARD", "Name": "onprem", "ResolverEndpointId": "rslvr-out-1",
             "Arn": "arn:aws:route53resolver:us-east-1:111122223333:resolver-rule/rslvr-rr-1",
             "TargetIps": [{"Ip": "192.168.0.53", "Port": 53, "Protocol": "Do53"}, {"Ipv6": "2001:db8::53", "Port": 853, "Protocol": "DoT"}]}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-rule-associations.json",
            json!({"ResolverRuleAssociations": [
            {"Id": "rslvr-rrassoc-1", "ResolverRuleId": "rslvr-rr-1", "VPCId": "vpc-0a", "Name": "first", "Status": "COMPLETE"},
            {"Id": "rslvr-rrassoc-2", "ResolverRuleId": "rslvr-rr-1", "VPCId": "vpc-else", "Status": "COMPLETE"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-query-log-configs.json",
            json!({"ResolverQueryLogConfigs": [
            {"Id": "rqlc-1", "Name": "all", "DestinationArn": "arn:aws:s3:::logs"}]}),
        ),
        (
            "us-east-1/route53resolver-list-resolver-query-log-config-associations.json",
            json!({"ResolverQueryLogConfigAssociations": [
            {"Id": "rqlca-1", "ResolverQueryLogConfigId": "rqlc-1", "ResourceId": "vpc-0b"}]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-configs.json",
            json!({"FirewallConfigs": [{"Id": "fc", "ResourceId": "vpc-0a", "FirewallFailOpen": "ENABLED"}]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-domain-lists.json",
            json!({"FirewallDomainLists": [
            {"Id": "rslvr-fdl-1", "Name": "bad"}, {"Id": "rslvr-fdl-aws", "Name": "AWSManagedDomainsMalwareDomainList", "ManagedOwnerName": "Route 53 Resolver DNS Firewall"}]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-domains.rslvr-fdl-1.json",
            json!({"Domains": ["bad.example.", "*.worse.example."]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-rule-groups.json",
            json!({"FirewallRuleGroups": [{"Id": "rslvr-frg-1", "Name": "guard"}]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-rules.rslvr-frg-1.json",
            json!({"FirewallRules": [
            {"FirewallRuleGroupId": "rslvr-frg-1", "FirewallDomainListId": "rslvr-fdl-1", "Name": "block", "Priority": 10, "Action": "BLOCK",
             "BlockResponse": "OVERRIDE", "BlockOverrideDomain": "sink.example.", "BlockOverrideDnsType": "CNAME", "BlockOverrideTtl": 60},
            {"FirewallRuleGroupId": "rslvr-frg-1", "FirewallDomainListId": "rslvr-fdl-aws", "Name": "managed", "Priority": 20, "Action": "BLOCK", "BlockResponse": "NODATA"},
            {"FirewallRuleGroupId": "rslvr-frg-1", "FirewallThreatProtectionId": "t1", "DnsThreatProtection": "DNS_TUNNELING",
             "ConfidenceThreshold": "MEDIUM", "Name": "tunnels", "Priority": 30, "Action": "ALERT"},
            {"FirewallRuleGroupId": "rslvr-frg-1", "FirewallThreatProtectionId": "t2", "DnsThreatProtection": "DICTIONARY_DGA",
             "ConfidenceThreshold": "LOW", "Name": "words", "Priority": 40, "Action": "ALERT"},
            {"FirewallRuleGroupId": "rslvr-frg-1", "FirewallThreatProtectionId": "t3", "Name": "generated", "Priority": 50, "Action": "ALERT",
             "FirewallRuleType": {"DnsThreatProtection": {"Value": "DGA", "ConfidenceThreshold": "HIGH"}}}]}),
        ),
        (
            "us-east-1/route53resolver-list-firewall-rule-group-associations.json",
            json!({"FirewallRuleGroupAssociations": [
            {"Id": "rslvr-frgassoc-1", "FirewallRuleGroupId": "rslvr-frg-1", "VpcId": "vpc-0a", "Priority": 101, "MutationProtection": "DISABLED"}]}),
        ),
        (
            "us-east-1/route53profiles-list-profiles.json",
            json!({"ProfileSummaries": [{"Id": "rp-1", "Name": "shared"}]}),
        ),
        (
            "us-east-1/route53profiles-list-profile-resource-associations.rp-1.json",
            json!({"ProfileResourceAssociations": [
            {"Id": "rpr-1", "ProfileId": "rp-1", "ResourceArn": "arn:aws:route53:::hostedzone/ZPRIV", "ResourceType": "HOSTED_ZONE"}]}),
        ),
        (
            "us-east-1/route53profiles-list-profile-associations.json",
            json!({"ProfileAssociations": [
            {"Id": "rpassoc-1", "ProfileId": "rp-1", "ResourceId": "vpc-0b", "Name": "b"}]}),
        ),
        (
            "global/route53-list-hosted-zones.json",
            json!({"HostedZones": [
            {"Id": "/hostedzone/ZPRIV", "Name": "corp.example.", "CallerReference": "r1", "Config": {"PrivateZone": true, "Comment": "inside"}, "ResourceRecordSetCount": 5},
            {"Id": "/hostedzone/ZPUB", "Name": "public.example.", "Config": {"PrivateZone": false}, "ResourceRecordSetCount": 1}]}),
        ),
        (
            "global/route53-get-hosted-zone.ZPRIV.json",
            json!({"HostedZone": {"Id": "/hostedzone/ZPRIV", "Name": "corp.example.", "CallerReference": "r1",
            "Config": {"PrivateZone": true, "Comment": "inside"}, "ResourceRecordSetCount": 5}, "VPCs": [{"VPCRegion": "us-east-1", "VPCId": "vpc-0a"}]}),
        ),
        (
            "global/route53-list-resource-record-sets.ZPRIV.json",
            json!({"ResourceRecordSets": [
            {"Name": "corp.example.", "Type": "NS", "TTL": 172800, "ResourceRecords": [{"Value": "ns-0.awsdns-00.com."}]},
            {"Name": "corp.example.", "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": "ns-0.awsdns-00.com. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"}]},
            {"Name": "\\052.corp.example.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "10.1.0.77"}]},
            {"Name": "txt.corp.example.", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": "\"caf\\303\\251\" \"a\\\"b\""}]},
            {"Name": "w.corp.example.", "Type": "A", "SetIdentifier": "one", "Weight": 10, "TTL": 60, "HealthCheckId": "hc-1", "ResourceRecords": [{"Value": "10.1.0.78"}]},
            {"Name": "sqs.corp.example.", "Type": "A", "AliasTarget": {"HostedZoneId": "Z7HUB22UULQXV", "DNSName": "vpce-0sqs-abcd1234.sqs.us-east-1.vpce.amazonaws.com.", "EvaluateTargetHealth": false}},
            {"Name": "elb.corp.example.", "Type": "A", "AliasTarget": {"HostedZoneId": "Z35SXDOTRQ7X7K", "DNSName": "dualstack.lb-1.us-east-1.elb.amazonaws.com.", "EvaluateTargetHealth": true}},
            {"Name": "bad.corp.example.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "10.1.0.256"}]}]}),
        ),
        (
            "global/route53-list-resource-record-sets.ZPUB.json",
            json!({"ResourceRecordSets": [
            {"Name": "www.public.example.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.80"}]}]}),
        ),
        (
            "global/route53-list-health-checks.json",
            json!({"HealthChecks": [
            {"Id": "hc-1", "CallerReference": "c", "HealthCheckVersion": 1, "HealthCheckConfig": {"Type": "HTTP_STR_MATCH", "IPAddress": "10.1.0.78", "Port": 80,
             "ResourcePath": "/", "SearchString": "ok", "RequestInterval": 30, "FailureThreshold": 3, "Inverted": false, "Disabled": false}},
            {"Id": "hc-2", "HealthCheckConfig": {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": "us-east-1", "Name": "a"}}}]}),
        ),
        (
            "global/route53-list-tags-for-resource.json",
            json!({"ResourceTagSet": {"ResourceType": "hostedzone", "ResourceId": "ZPRIV", "Tags": [{"Key": "team", "Value": "net"}]}}),
        ),
    ]
}

fn read(files: &[(&str, String)]) -> (Input, Report) {
    let (mut input, mut report) = (Input::default(), Report::default());
    for (path, text) in files {
        input.files += 1;
        input.read_text(Path::new(path), text.as_bytes(), &mut report);
    }
    (input, report)
}

fn imported(files: &[(&str, String)]) -> (Made, Value) {
    let (input, mut report) = read(files);
    let made = import(&input, None, &mut report);
    let report = report.to_json(&made, input.files);
    (made, report)
}

fn of_account() -> (Made, Value) {
    let files: Vec<(&str, String)> = account().into_iter().map(|(path, value)| (path, value.to_string())).collect();
    imported(&files)
}

/// The remarks of a part of the report, one line each.
fn remarks(report: &Value, part: &str) -> Vec<String> {
    let all = report[part].as_array().unwrap().iter();
    all.map(|remark| {
        format!("{}: {}", remark["resource"].as_str().unwrap_or_default(), remark["reason"].as_str().unwrap())
    })
    .collect()
}

#[test]
fn imports_what_the_cli_describes() {
    let (made, report) = of_account();
    let expected = json!({
        "dhcp_options": 1, "firewall_domain_lists": 1, "firewall_rule_groups": 1, "health_checks": 2,
        "private_hosted_zones": 2, "profiles": 1, "query_log_configs": 1, "resolver_endpoints": 2, "resolver_rules": 1,
        "transit_gateways": 1, "vpc_endpoint_services": 2, "vpc_endpoints": 2, "vpc_peering_connections": 1, "vpcs": 2,
    });
    assert_eq!(report["imported"], expected, "{report:#}");
    assert_eq!(report["not_read"], json!([]), "{report:#}");
    let vpc = &made["vpcs"]["vpc-0a"];
    assert_eq!(vpc["region"], "us-east-1");
    assert_eq!(vpc["cidr_blocks"], json!(["10.1.0.0/16", "10.8.0.0/16"]));
    assert_eq!(vpc["resolver_addresses"], json!(["10.1.0.2"]));
    assert_eq!(vpc["availability_zones"], json!({"us-east-1a": "use1-az4", "us-east-1b": "use1-az6"}));
    assert_eq!(
        vpc["subnets"]["subnet-1"],
        json!({"availability_zone_id": "use1-az4", "cidr_blocks": ["10.1.0.0/20"], "enable_dns64": true})
    );
    assert_eq!(
        (&vpc["tags"], &vpc["firewall_fail_open"], &vpc["dhcp_options_id"]),
        (&json!({"Name": "app"}), &json!(true), &json!("dopt-1"))
    );
    assert_eq!(made["vpcs"]["vpc-0b"]["enable_dns_hostnames"], false);
    assert_eq!(made["vpcs"]["vpc-0b"]["profiles"], json!([{"profile_id": "rp-1", "priority": 100}]));
    assert_eq!(made["profiles"]["rp-1"]["private_hosted_zones"], json!(["ZPRIV"]));
    let endpoint = &made["vpc_endpoints"]["vpce-0sqs"];
    assert_eq!(endpoint["dns_name_suffix"], "abcd1234");
    assert_eq!(
        endpoint["network_interfaces"][1],
        json!({"availability_zone_id": "use1-az6", "ipv4": "10.1.16.9",
        "network_interface_id": "eni-2", "subnet_id": "subnet-2"})
    );
    let attachments = &made["transit_gateways"]["tgw-1"]["attachments"];
    assert_eq!(attachments[0]["propagates_to"], json!(["tgw-rtb-1", "tgw-rtb-2"]));
    assert_eq!((&attachments[1]["route_table"], &attachments[1]["dns_support"]), (&json!("tgw-rtb-2"), &json!(false)));
    let rule = &made["resolver_rules"]["rslvr-rr-1"];
    assert_eq!(
        (&rule["vpc_ids"], &rule["name"], &rule["domain_name"]),
        (&json!(["vpc-0a"]), &json!("onprem"), &json!("onprem.example"))
    );
    assert_eq!(rule["target_ips"][1], json!({"ip": "2001:db8::53", "port": 853, "protocol": "DoT"}));
    let zone = &made["private_hosted_zones"]["ZPRIV"];
    assert_eq!((&zone["vpc_ids"], &zone["tags"]), (&json!(["vpc-0a"]), &json!({"team": "net"})));
    let names: Vec<&str> =
        zone["records"].as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "corp.example.",
            "corp.example.",
            "*.corp.example.",
            "txt.corp.example.",
            "w.corp.example.",
            "sqs.corp.example."
        ]
    );
    assert_eq!(zone["records"][3]["records"], json!(["\"caf\\195\\169\" \"a\\\"b\""]));
    assert_eq!(zone["records"][4]["weighted_routing_policy"], json!({"weight": 10}));
    assert_eq!(made["private_hosted_zones"]["ZPUB"]["public"], true);
    let group = &made["firewall_rule_groups"]["rslvr-frg-1"];
    assert_eq!(group["rules"][0]["block_override_domain"], "sink.example.");
    assert_eq!(
        group["rules"][1],
        json!({"name": "tunnels", "priority": 30, "action": "ALERT", "dns_threat_protection": "DNS_TUNNELING",
               "confidence_threshold": "MEDIUM"})
    );
    assert_eq!(
        group["rules"][2],
        json!({"name": "generated", "priority": 50, "action": "ALERT", "dns_threat_protection": "DGA",
               "confidence_threshold": "HIGH"})
    );
    assert_eq!(group["rules"].as_array().unwrap().len(), 3);
}

#[test]
fn reports_what_is_approximated_and_what_cannot_be_expressed() {
    let (_, report) = of_account();
    let approximated = remarks(&report, "approximated");
    for part in [
        "firewall_rule_groups/rslvr-frg-1 rule generated: the detector of zonal has its own thresholds",
        "firewall_rule_groups/rslvr-frg-1 rule tunnels: the detector of zonal has its own thresholds",
        "health_checks/hc-2: CLOUDWATCH_METRIC is not checked by zonal",
        "query_log_configs/rqlc-1: zonal does not write to arn:aws:s3:::logs",
        "resolver_endpoints/rslvr-in-1: DoH-FIPS becomes DoH",
        "resolver_rules/rslvr-rr-1: vpc-else is not among the imported VPCs",
        "vpc_peering_connections/pcx-1: only one side allows DNS resolution",
    ] {
        assert!(approximated.iter().any(|line| line.starts_with(part)), "{part}: {approximated:#?}");
    }
    assert_eq!(approximated.len(), 7, "{approximated:#?}");
    let not_expressible = remarks(&report, "not_expressible");
    for part in [
        "firewall_domain_lists/rslvr-fdl-aws: AWSManagedDomainsMalwareDomainList is a list of Route 53 Resolver DNS Firewall",
        "firewall_rule_groups/rslvr-frg-1 rule managed: its domain list rslvr-fdl-aws is not imported",
        "firewall_rule_groups/rslvr-frg-1 rule words: zonal has no detector DICTIONARY_DGA",
        "private_hosted_zones/ZPRIV bad.corp.example. A: ",
        "private_hosted_zones/ZPRIV elb.corp.example. A: an alias to dualstack.lb-1.us-east-1.elb.amazonaws.com.",
        "transit_gateways/tgw-1: tgw-attach-3 attaches vpn",
        "vpc_endpoints/vpce-0lattice: an endpoint of type Resource",
        "vpc_peering_connections/pcx-2: vpc-else is not among the imported VPCs",
    ] {
        assert!(not_expressible.iter().any(|line| line.starts_with(part)), "{part}: {not_expressible:#?}");
    }
    assert_eq!(not_expressible.len(), 8, "{not_expressible:#?}");
}

#[test]
fn takes_out_what_cannot_be_served_together() {
    let vpcs = json!({"Vpcs": [
        {"VpcId": "vpc-1", "CidrBlock": "10.1.0.0/16"}, {"VpcId": "vpc-2", "CidrBlock": "10.1.0.0/16"},
        {"VpcId": "vpc-3", "CidrBlock": "10.3.0.0/16"}]});
    let subnets = json!({"Subnets": [
        {"SubnetId": "subnet-out", "VpcId": "vpc-3", "AvailabilityZone": "eu-west-1a", "AvailabilityZoneId": "euw1-az1", "CidrBlock": "10.9.0.0/24"}]});
    let zones = json!({"HostedZone": {"Id": "/hostedzone/Z1", "Name": "a.example.", "Config": {"PrivateZone": true}}, "VPCs": [{"VPCId": "vpc-1"}]});
    let twin = json!({"HostedZone": {"Id": "/hostedzone/Z2", "Name": "a.example.", "Config": {"PrivateZone": true}}, "VPCs": [{"VPCId": "vpc-1"}, {"VPCId": "vpc-3"}]});
    let files = [
        ("eu-west-1/a.json", vpcs.to_string()),
        ("eu-west-1/b.json", subnets.to_string()),
        ("global/c.json", format!("{zones}\n{twin}")),
    ];
    let (made, report) = imported(&files);
    assert_eq!(report["imported"], json!({"vpcs": 3, "private_hosted_zones": 2}), "{report:#}");
    assert_eq!(made["vpcs"]["vpc-2"].get("resolver_addresses"), None);
    assert!(made["vpcs"]["vpc-3"]["subnets"].as_object().is_some_and(|subnets| subnets.is_empty()), "{report:#}");
    let lines = remarks(&report, "not_expressible");
    assert!(lines.iter().any(|line| line.starts_with("vpcs/vpc-3 subnets.subnet-out: ")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("private_hosted_zones/Z2 vpc_ids vpc-1: ")), "{lines:#?}");
    assert_eq!(made["private_hosted_zones"]["Z2"]["vpc_ids"], json!(["vpc-3"]));
}

#[test]
fn reports_files_that_are_not_outputs_of_the_cli() {
    for (path, text, reason) in [
        ("a.json", "{\"Vpcs\": [", "not valid JSON"),
        ("a.json", "Vpcs:\n- VpcId: vpc-1\n", "run the AWS CLI with `--output json`"),
        ("a.json", "[]", "expected the output of an AWS CLI command"),
        ("a.json", "{\"Buckets\": []}", "no known output of the AWS CLI: it has the members Buckets"),
        ("a.json", "{}", "the output is empty"),
        ("a.json", "{\"Vpcs\": [7]}", "`Vpcs` has an element that is not an object"),
        ("a.json", "{\"Vpcs\": [{\"VpcId\": 7}]}", "an element of vpcs has no `VpcId`"),
        ("a.json", "{\"ResourceRecordSets\": [{}]}", "`ResourceRecordSets` does not say of which hosted zone"),
        ("a.json", "{\"ResourceRecordSets\": 7}", "`ResourceRecordSets` is not a list"),
    ] {
        let (made, report) = imported(&[(path, text.to_string())]);
        let reasons: Vec<&str> =
            report["not_read"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
        assert!(reasons.iter().any(|one| one.contains(reason)), "{text}: {report:#}");
        assert!(made.values().all(|resources| resources.is_empty()));
    }
    // No output at all is no error: the CLI prints nothing if an operation returns nothing.
    assert_eq!(imported(&[("a.json", " \n".into())]).1["not_read"], json!([]));
}

#[test]
fn says_which_region_is_missing() {
    let vpcs = json!({"Vpcs": [{"VpcId": "vpc-1", "CidrBlock": "10.1.0.0/16"}]});
    let (input, mut report) = read(&[("vpcs.json", vpcs.to_string())]);
    let made = import(&input, None, &mut report);
    assert!(report.to_text(&made, 1).contains("its Region is not known"));
    let mut report = Report::default();
    let made = import(&input, Some("eu-west-1"), &mut report);
    assert_eq!(made["vpcs"]["vpc-1"]["region"], "eu-west-1");
}

#[test]
fn writes_octal_escapes_as_decimal_ones() {
    for (octal, decimal) in [
        ("\\052.example.", "*.example."),
        ("a\\100b.example.", "a\\064b.example."),
        ("\"\\303\\251\"", "\"\\195\\169\""),
        ("\"a\\\"\\\\052\"", "\"a\\\"\\\\052\""),
        ("\\777", "\\777"),
        ("\\05", "\\05"),
        ("\\", "\\"),
        ("\\\\", "\\\\"),
    ] {
        assert_eq!(in_decimal(octal), decimal, "{octal}");
    }
}

#[test]
fn reads_ten_thousand_record_sets_with_errors_in_some() {
    let sets: Vec<Value> = (0..10_000)
        .map(|n| {
            let address = if n % 1_000 == 999 { "10.0.0.999".into() } else { format!("10.1.{}.{}", n / 256, n % 256) };
            json!({"Name": format!("h{n}.big.example."), "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": address}]})
        })
        .collect();
    let zone =
        json!({"HostedZones": [{"Id": "/hostedzone/ZBIG", "Name": "big.example.", "Config": {"PrivateZone": false}}]});
    let files = [("zones.json", zone.to_string()), ("sets.ZBIG.json", json!({"ResourceRecordSets": sets}).to_string())];
    let (made, report) = imported(&files);
    assert_eq!(made["private_hosted_zones"]["ZBIG"]["records"].as_array().unwrap().len(), 9_990);
    assert_eq!(remarks(&report, "not_expressible").len(), 10);
}

proptest! {
    #![proptest_config(Config { cases: 64, ..Config::default() })]

    /// Truncated files, and values of other types, end in the report.
    #[test]
    fn never_panics_on_damaged_files(
        file in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), with in "[ -~]{0,4}", truncates in any::<bool>(),
    ) {
        let mut files: Vec<(&str, String)> = account().into_iter().map(|(path, value)| (path, value.to_string())).collect();
        let at = file.index(files.len());
        let text = &mut files[at].1;
        let cut = cut.index(text.len());
        if truncates {
            text.truncate(cut);
        } else {
            let end = (cut + with.len()).min(text.len());
            text.replace_range(cut..end, &with);
        }
        imported(&files);
    }

    /// Each value of each output can have another type.
    #[test]
    fn never_panics_on_values_of_other_types(file in any::<prop::sample::Index>(), skip in 0usize..60, choice in 0usize..6) {
        fn replace(value: &mut Value, skip: &mut usize, with: &Value) {
            if *skip == 0 {
                *value = with.clone();
                *skip = usize::MAX;
                return;
            }
            *skip = skip.saturating_sub(1);
            match value {
                Value::Array(items) => items.iter_mut().for_each(|item| replace(item, skip, with)),
                Value::Object(members) => members.values_mut().for_each(|item| replace(item, skip, with)),
                _ => {}
            }
        }
        let mut files = account();
        let at = file.index(files.len());
        let with = [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!([[{}]])];
        let mut skip = skip;
        replace(&mut files[at].1, &mut skip, &with[choice]);
        let files: Vec<(&str, String)> = files.into_iter().map(|(path, value)| (path, value.to_string())).collect();
        imported(&files);
    }
}
