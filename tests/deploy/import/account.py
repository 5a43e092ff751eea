# Makes a network in a simulated AWS. The argument is its URL. Prints the identifiers as JSON.
import json
import sys

import boto3

REGION = "eu-west-1"
arguments = {"endpoint_url": sys.argv[1], "region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
ec2 = boto3.client("ec2", **arguments)
route53 = boto3.client("route53", **arguments)
resolver = boto3.client("route53resolver", **arguments)

vpcs, subnets = [], []
for number in (1, 2):
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": f"vpc-{number}"}]}]
    vpc = ec2.create_vpc(CidrBlock=f"10.{number}.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    vpcs.append(vpc)
    for at, zone in enumerate("ab"):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.{number}.{16 * at}.0/20", AvailabilityZone=REGION + zone)
        subnets.append(subnet["Subnet"]["SubnetId"])
group = ec2.create_security_group(GroupName="dns", Description="DNS", VpcId=vpcs[0])["GroupId"]
endpoint = ec2.create_vpc_endpoint(
    VpcId=vpcs[0], ServiceName=f"com.amazonaws.{REGION}.sqs", VpcEndpointType="Interface", SubnetIds=subnets[:2],
    PrivateDnsEnabled=True, SecurityGroupIds=[group])["VpcEndpoint"]
peering = ec2.create_vpc_peering_connection(VpcId=vpcs[0], PeerVpcId=vpcs[1])["VpcPeeringConnection"]["VpcPeeringConnectionId"]
ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)
gateway = ec2.create_transit_gateway(Description="hub")["TransitGateway"]["TransitGatewayId"]
for at in (0, 1):
    ec2.create_transit_gateway_vpc_attachment(TransitGatewayId=gateway, VpcId=vpcs[at], SubnetIds=[subnets[2 * at]])

private = route53.create_hosted_zone(
    Name="corp.example", CallerReference="private", VPC={"VPCRegion": REGION, "VPCId": vpcs[0]},
    HostedZoneConfig={"Comment": "inside", "PrivateZone": True})["HostedZone"]["Id"]
public = route53.create_hosted_zone(Name="public.example", CallerReference="public")["HostedZone"]["Id"]


def upsert(zone, name, kind, **more):
    change = {"Action": "UPSERT", "ResourceRecordSet": {"Name": name, "Type": kind, **more}}
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})


def values(*values):
    return {"TTL": 60, "ResourceRecords": [{"Value": value} for value in values]}


upsert(private, "*.corp.example", "A", **values("10.1.0.77"))
upsert(private, "txt.corp.example", "TXT", **values('"caf\\303\\251"'))
upsert(private, "lb.corp.example", "A", AliasTarget={
    "HostedZoneId": "Z35SXDOTRQ7X7K", "DNSName": "dualstack.lb.eu-west-1.elb.amazonaws.com", "EvaluateTargetHealth": False})
for number in range(250):
    upsert(private, f"h{number}.many.corp.example", "A", **values(f"10.1.1.{number}"))
upsert(public, "www.public.example", "A", **values("192.0.2.80"))

inbound = resolver.create_resolver_endpoint(
    CreatorRequestId="1", Name="in", Direction="INBOUND", SecurityGroupIds=[group],
    IpAddresses=[{"SubnetId": subnets[0], "Ip": "10.1.0.53"}, {"SubnetId": subnets[1], "Ip": "10.1.16.53"}])
outbound = resolver.create_resolver_endpoint(
    CreatorRequestId="2", Name="out", Direction="OUTBOUND", SecurityGroupIds=[group],
    IpAddresses=[{"SubnetId": subnets[0], "Ip": "10.1.0.54"}, {"SubnetId": subnets[1], "Ip": "10.1.16.54"}])
rule = resolver.create_resolver_rule(
    CreatorRequestId="3", Name="onprem", RuleType="FORWARD", DomainName="onprem.example",
    ResolverEndpointId=outbound["ResolverEndpoint"]["Id"], TargetIps=[{"Ip": "192.0.2.53", "Port": 53}])["ResolverRule"]["Id"]
resolver.associate_resolver_rule(ResolverRuleId=rule, VPCId=vpcs[0], Name="first")

print(json.dumps({
    "vpcs": vpcs,
    "endpoint": endpoint["VpcEndpointId"],
    "private": private.rsplit("/", 1)[-1],
    "public": public.rsplit("/", 1)[-1],
    "rule": rule,
    "gateway": gateway,
    "peering": peering,
}))
