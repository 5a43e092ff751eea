#!/usr/bin/env python3
"""Makes a network in zonal with boto3: a VPC, an endpoint, a hosted zone with a record, and a rule.

    network.py http://127.0.0.1:9153 203.0.113.53

The first argument is zonal's admin address, the second one is the DNS server that the rule forwards to. The script prints
the identifiers of the new resources. boto3 takes the access key from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import sys

import boto3

url, server = sys.argv[1:]
settings = {"endpoint_url": url, "region_name": "us-east-1"}
ec2, route53 = boto3.client("ec2", **settings), boto3.client("route53", **settings)
resolver = boto3.client("route53resolver", **settings)

vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
    ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
subnets = [
    ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]["SubnetId"]
    for block, zone in [("10.1.0.0/24", "us-east-1a"), ("10.1.1.0/24", "us-east-1b")]
]

# An interface endpoint with one address in each AZ.
endpoint = ec2.create_vpc_endpoint(
    VpcEndpointType="Interface",
    VpcId=vpc,
    ServiceName="com.amazonaws.us-east-1.sqs",
    SubnetIds=subnets,
    PrivateDnsEnabled=True,
)["VpcEndpoint"]

# A private hosted zone. When the response comes, clients of the VPC get the new record.
zone = route53.create_hosted_zone(
    Name="corp.example", CallerReference=vpc, VPC={"VPCRegion": "us-east-1", "VPCId": vpc}
)["HostedZone"]["Id"]
record = {"Name": "www.corp.example", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "10.1.0.80"}]}
route53.change_resource_record_sets(
    HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
)

# A rule that forwards a domain to another DNS server.
group = ec2.create_security_group(VpcId=vpc, GroupName="resolver", Description="zonal keeps it, without an effect")["GroupId"]
outbound = resolver.create_resolver_endpoint(
    CreatorRequestId=vpc,
    Direction="OUTBOUND",
    SecurityGroupIds=[group],
    IpAddresses=[{"SubnetId": subnet} for subnet in subnets],
)["ResolverEndpoint"]["Id"]
rule = resolver.create_resolver_rule(
    CreatorRequestId=f"{vpc}-rule",
    RuleType="FORWARD",
    DomainName="dc.example",
    ResolverEndpointId=outbound,
    TargetIps=[{"Ip": server, "Port": 53}],
)["ResolverRule"]["Id"]
resolver.associate_resolver_rule(ResolverRuleId=rule, VPCId=vpc)

print(vpc, endpoint["VpcEndpointId"], zone, rule)
