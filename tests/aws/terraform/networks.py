# The resources of EC2: networks, VPC endpoints and their services.

ec2, other = client("ec2"), client("ec2", account="444455556666")
AVAILABLE = [("State", ["pending"], "available")]
EC2_TAGS = Tags(
    lambda made, found: mapping(found["Tags"]),
    lambda made, found, tags: ec2.create_tags(Resources=[made], Tags=pairs(tags)),
    lambda made, found, keys: ec2.delete_tags(Resources=[made], Tags=[{"Key": key} for key in keys]),
)


def tagged(kind):
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": pairs(Tags.FIRST)}]}


def by(**filters):
    return [{"Name": name.replace("__", ".").replace("_", "-"), "Values": [value]} for name, value in filters.items()]


# VPCs. The provider looks for the default ACL, route table and security group, and warns if there is none.
ATTRIBUTES = [
    ("enableDnsHostnames", "EnableDnsHostnames"),
    ("enableDnsSupport", "EnableDnsSupport"),
    ("enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics"),
]


def read_vpc(id):
    found = only(ec2.describe_vpcs(VpcIds=[id])["Vpcs"])
    for attribute, member in ATTRIBUTES:
        found[member] = ec2.describe_vpc_attribute(VpcId=id, Attribute=attribute)[member]["Value"]
    ec2.describe_network_acls(Filters=[{"Name": "default", "Values": ["true"]}, {"Name": "vpc-id", "Values": [id]}])
    ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [id]}])
    ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}, {"Name": "vpc-id", "Values": [id]}])
    return found


def vpc(block, of=ec2, hostnames=True):
    id = of.create_vpc(CidrBlock=block, InstanceTenancy="default", **tagged("vpc"))["Vpc"]["VpcId"]
    waits(lambda: of.describe_vpcs(VpcIds=[id])["Vpcs"][0], "State", ["pending"], "available")
    if hostnames:
        of.modify_vpc_attribute(VpcId=id, EnableDnsHostnames={"Value": True})
        assert of.describe_vpc_attribute(VpcId=id, Attribute="enableDnsHostnames")["EnableDnsHostnames"]["Value"]
    return id


sequence(
    "aws_vpc",
    lambda: vpc("127.9.0.0/16", hostnames=False),
    read_vpc,
    ["CidrBlock", "CidrBlockAssociationSet", "DhcpOptionsId", "OwnerId", "Tags"],
    lambda id: ec2.delete_vpc(VpcId=id),
    ["InvalidVpcID.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={
        "CidrBlock": "127.9.0.0/16", "InstanceTenancy": "default", "EnableDnsSupport": True, "EnableDnsHostnames": False,
        "EnableNetworkAddressUsageMetrics": False, "Ipv6CidrBlockAssociationSet": [], "IsDefault": False, "OwnerId": "111122223333",
    },
    updates=[
        (lambda id: ec2.modify_vpc_attribute(VpcId=id, EnableDnsHostnames={"Value": True}), {"EnableDnsHostnames": True}),
        (lambda id: ec2.modify_vpc_attribute(VpcId=id, EnableDnsSupport={"Value": False}), {"EnableDnsSupport": False}),
        (lambda id: ec2.modify_vpc_attribute(VpcId=id, EnableDnsSupport={"Value": True}), {"EnableDnsSupport": True}),
        (
            lambda id: ec2.modify_vpc_attribute(VpcId=id, EnableNetworkAddressUsageMetrics={"Value": True}),
            {"EnableNetworkAddressUsageMetrics": True},
        ),
    ],
    questions=[("ip-127-9-0-9.ec2.internal", "A", "127.9.0.9")],
    answers=[["REFUSED"], ["REFUSED"], [["127.9.0.9"]], ["REFUSED"], [["127.9.0.9"]], [["127.9.0.9"]], ["REFUSED"]],
)

blocks = vpc("127.8.0.0/16")


def read_block(id):
    found = only(ec2.describe_vpcs(Filters=by(cidr_block_association__association_id=id))["Vpcs"])
    return only([one for one in found["CidrBlockAssociationSet"] if one["AssociationId"] == id])


sequence(
    "aws_vpc_ipv4_cidr_block_association",
    lambda: ec2.associate_vpc_cidr_block(VpcId=blocks, CidrBlock="127.7.0.0/16")["CidrBlockAssociation"]["AssociationId"],
    read_block,
    ["AssociationId", "CidrBlock"],
    lambda id: ec2.disassociate_vpc_cidr_block(AssociationId=id),
    ["NotFound"],
    status=[("CidrBlockState.State", ["associating"], "associated")],
    defaults={"CidrBlock": "127.7.0.0/16"},
    questions=[("ip-127-7-0-9.ec2.internal", "A", "127.8.0.9"), ("ip-127-7-0-9.ec2.internal", "A", "127.7.0.9")],
    answers=[["NXDOMAIN", "REFUSED"], [["127.7.0.9"], ["127.7.0.9"]], ["NXDOMAIN", "REFUSED"]],
)


def read_ipv6_block(id):
    found = only(ec2.describe_vpcs(Filters=by(ipv6_cidr_block_association__association_id=id))["Vpcs"])
    return only([one for one in found["Ipv6CidrBlockAssociationSet"] if one["AssociationId"] == id])


sequence(
    "aws_vpc_ipv6_cidr_block_association",
    lambda: ec2.associate_vpc_cidr_block(VpcId=blocks, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]["AssociationId"],
    read_ipv6_block,
    ["AssociationId", "Ipv6CidrBlock", "IpSource", "Ipv6Pool"],
    lambda id: ec2.disassociate_vpc_cidr_block(AssociationId=id),
    ["NotFound"],
    status=[("Ipv6CidrBlockState.State", ["associating"], "associated")],
    defaults={"IpSource": "amazon", "Ipv6Pool": "Amazon"},
)


# Subnets. The provider changes one attribute with a call.
def subnet(vpc, block, zone="us-east-1a", of=ec2):
    id = of.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone, Ipv6Native=False, **tagged("subnet"))["Subnet"]["SubnetId"]
    waits(lambda: of.describe_subnets(SubnetIds=[id])["Subnets"][0], "State", ["pending"], "available")
    return id


def sets(member, options=None):
    """An update of a subnet: the attribute, and the member of the subnet."""
    return (
        lambda id: ec2.modify_subnet_attribute(SubnetId=id, **{member: {"Value": True}}),
        {options or member: True},
    )


def read_subnet(id):
    found = only(ec2.describe_subnets(SubnetIds=[id])["Subnets"])
    return {**found, **found["PrivateDnsNameOptionsOnLaunch"]}


def delete_subnet(id):
    assert ec2.describe_network_interfaces(Filters=by(subnet_id=id))["NetworkInterfaces"] == []
    ec2.delete_subnet(SubnetId=id)


sequence(
    "aws_subnet",
    lambda: subnet(blocks, "127.8.9.0/24"),
    read_subnet,
    [
        "SubnetArn", "AvailabilityZoneId", "OwnerId", "VpcId", "Tags", "Ipv6CidrBlockAssociationSet", "DefaultForAz",
        "AvailableIpAddressCount",
    ],
    delete_subnet,
    ["InvalidSubnetID.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={
        "AvailabilityZone": "us-east-1a", "CidrBlock": "127.8.9.0/24", "AssignIpv6AddressOnCreation": False, "EnableDns64": False,
        "Ipv6Native": False, "MapPublicIpOnLaunch": False, "EnableResourceNameDnsAAAARecord": False, "Ipv6CidrBlockAssociationSet": [],
        "EnableResourceNameDnsARecord": False, "HostnameType": "ip-name", "MapCustomerOwnedIpOnLaunch": False, "OwnerId": "111122223333",
    },
    updates=[
        sets("MapPublicIpOnLaunch"),
        sets("EnableDns64"),
        sets("EnableResourceNameDnsARecordOnLaunch", "EnableResourceNameDnsARecord"),
        sets("EnableResourceNameDnsAAAARecordOnLaunch", "EnableResourceNameDnsAAAARecord"),
        (
            lambda id: ec2.modify_subnet_attribute(SubnetId=id, PrivateDnsHostnameTypeOnLaunch="resource-name"),
            {"HostnameType": "resource-name"},
        ),
    ],
    questions=[("ip-127-8-9-9.ec2.internal", "AAAA", "127.8.9.9")],
    answers=[*3 * [["NOERROR"]], *4 * [[["64:ff9b::7f08:909"]]], ["NOERROR"]],
)


# Sets of DHCP options. Before the delete, the provider gives their VPCs the default set.
def dhcp_options():
    values = {"domain-name": ["tf.example"], "domain-name-servers": ["127.8.0.2"], "netbios-node-type": ["2"]}
    configurations = [{"Key": key, "Values": value} for key, value in values.items()]
    return ec2.create_dhcp_options(DhcpConfigurations=configurations, **tagged("dhcp-options"))["DhcpOptions"]["DhcpOptionsId"]


def read_dhcp_options(id):
    found = only(ec2.describe_dhcp_options(DhcpOptionsIds=[id])["DhcpOptions"])
    options = {one["Key"]: [value["Value"] for value in one["Values"]] for one in found["DhcpConfigurations"]}
    return {**found, **options}


def delete_dhcp_options(id):
    for used in ec2.describe_vpcs(Filters=by(dhcp_options_id=id))["Vpcs"]:
        ec2.associate_dhcp_options(DhcpOptionsId="default", VpcId=used["VpcId"])
    ec2.delete_dhcp_options(DhcpOptionsId=id)


sequence(
    "aws_vpc_dhcp_options",
    dhcp_options,
    read_dhcp_options,
    ["DhcpOptionsId", "OwnerId", "Tags"],
    delete_dhcp_options,
    ["InvalidDhcpOptionID.NotFound"],
    tags=EC2_TAGS,
    defaults={"domain-name": ["tf.example"], "domain-name-servers": ["127.8.0.2"], "netbios-node-type": ["2"]},
    updates=[(lambda id: ec2.associate_dhcp_options(DhcpOptionsId=id, VpcId=blocks), {})],
)
options = dhcp_options()


def read_dhcp_association(_):
    found = only(ec2.describe_vpcs(VpcIds=[blocks])["Vpcs"])
    return found if found["DhcpOptionsId"] == options else not_found()


sequence(
    "aws_vpc_dhcp_options_association",
    lambda: ec2.associate_dhcp_options(DhcpOptionsId=options, VpcId=blocks),
    read_dhcp_association,
    ["DhcpOptionsId"],
    lambda _: ec2.associate_dhcp_options(DhcpOptionsId="default", VpcId=blocks),
    ["NotFound"],
)


# Security groups. The provider revokes the rules that AWS makes.
ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def security_group(name, vpc):
    id = ec2.create_security_group(GroupName=name, Description="Managed by Terraform", VpcId=vpc, **tagged("security-group"))["GroupId"]
    only(ec2.describe_security_groups(GroupIds=[id])["SecurityGroups"])
    ec2.revoke_security_group_egress(GroupId=id, IpPermissions=[ALL])
    found = refused(ec2.revoke_security_group_egress, GroupId=id, IpPermissions=[{"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}])
    assert found[0] == "InvalidPermission.NotFound", found
    return id


def delete_security_group(id):
    assert ec2.describe_network_interfaces(Filters=by(group_id=id))["NetworkInterfaces"] == []
    ec2.delete_security_group(GroupId=id)


DNS = {
    "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "UserIdGroupPairs": [], "Ipv6Ranges": [], "PrefixListIds": [],
    "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "dns"}],
}
sequence(
    "aws_security_group",
    lambda: security_group("tf", blocks),
    lambda id: only(ec2.describe_security_groups(GroupIds=[id])["SecurityGroups"]),
    ["GroupId", "OwnerId", "SecurityGroupArn"],
    delete_security_group,
    ["InvalidGroup.NotFound"],
    tags=EC2_TAGS,
    defaults={
        "GroupName": "tf", "Description": "Managed by Terraform", "VpcId": blocks, "IpPermissions": [], "IpPermissionsEgress": [],
        "OwnerId": "111122223333",
    },
    updates=[
        (lambda id: ec2.authorize_security_group_ingress(GroupId=id, IpPermissions=[DNS]), {"IpPermissions": [DNS]}),
        (lambda id: ec2.authorize_security_group_egress(GroupId=id, IpPermissions=[DNS]), {"IpPermissionsEgress": [DNS]}),
        (lambda id: ec2.revoke_security_group_ingress(GroupId=id, IpPermissions=[DNS]), {"IpPermissions": []}),
    ],
)
guard, guard_2 = security_group("tf-1", blocks), security_group("tf-2", blocks)


# VPC endpoints. The provider looks for the prefix list of a service, and warns if there is none.
app = vpc("127.5.0.0/16")
app_subnets = [subnet(app, "127.5.0.0/24"), subnet(app, "127.5.1.0/24", "us-east-1b")]
SQS = "sqs.us-east-1.amazonaws.com"


def endpoint(kind="Interface", service="com.amazonaws.us-east-1.sqs", private=True, subnets=(), token="tf-1", of=ec2, vpc=app):
    wish = {"SubnetIds": list(subnets), "SecurityGroupIds": [guard]} if kind == "Interface" else {"RouteTableIds": ["rtb-1"]}
    return of.create_vpc_endpoint(
        ClientToken=token, PrivateDnsEnabled=private, ServiceName=service, VpcEndpointType=kind, VpcId=vpc, **wish, **tagged("vpc-endpoint")
    )["VpcEndpoint"]["VpcEndpointId"]


def read_endpoint(id, of=ec2):
    found = only(of.describe_vpc_endpoints(VpcEndpointIds=[id])["VpcEndpoints"])
    of.describe_prefix_lists(Filters=by(prefix_list_name=found["ServiceName"]))
    return {**found, "GroupIds": [group["GroupId"] for group in found["Groups"]]}


def delete_endpoint(id, of=ec2):
    assert of.delete_vpc_endpoints(VpcEndpointIds=[id])["Unsuccessful"] == []


def modifies(**wish):
    return lambda id: ec2.modify_vpc_endpoint(VpcEndpointId=id, **wish)


ENDPOINT_FIELDS = [
    "CreationTimestamp", "DnsEntries", "DnsOptions", "GroupIds", "IpAddressType", "NetworkInterfaceIds", "OwnerId", "PolicyDocument",
    "PrivateDnsEnabled", "RequesterManaged", "RouteTableIds", "ServiceName", "State", "SubnetIds", "Tags", "VpcEndpointType", "VpcId",
]
POLICY = '{"Statement":[{"Action":"sqs:*","Effect":"Allow","Principal":"*","Resource":"*"}],"Version":"2012-10-17"}'
sequence(
    "aws_vpc_endpoint",
    lambda: endpoint(subnets=app_subnets[:1]),
    read_endpoint,
    ENDPOINT_FIELDS,
    delete_endpoint,
    ["InvalidVpcEndpointId.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={
        "GroupIds": [guard], "IpAddressType": "ipv4", "OwnerId": "111122223333", "PrivateDnsEnabled": True, "RequesterManaged": False,
        "RouteTableIds": [], "SubnetIds": app_subnets[:1], "VpcEndpointType": "Interface", "VpcId": app,
        "ServiceName": "com.amazonaws.us-east-1.sqs",
    },
    updates=[
        (modifies(AddSubnetIds=app_subnets[1:]), {"SubnetIds": app_subnets}),
        (modifies(RemoveSubnetIds=app_subnets[:1]), {"SubnetIds": app_subnets[1:]}),
        (modifies(PrivateDnsEnabled=False), {"PrivateDnsEnabled": False}),
        (modifies(PrivateDnsEnabled=True), {"PrivateDnsEnabled": True}),
        (modifies(PolicyDocument=POLICY), {"PolicyDocument": POLICY}),
    ],
    questions=[(SQS, "A", "127.5.0.9"), (SQS, "A", "127.8.0.9")],
    answers=[
        ["REFUSED", "REFUSED"],
        [["127.5.0.4"], "REFUSED"],
        [["127.5.0.4"], "REFUSED"],
        [["127.5.1.4"], "REFUSED"],
        ["REFUSED", "REFUSED"],
        [["127.5.1.4"], "REFUSED"],
        [["127.5.1.4"], "REFUSED"],
        ["REFUSED", "REFUSED"],
    ],
)
sequence(
    "aws_vpc_endpoint (Gateway)",
    lambda: endpoint("Gateway", "com.amazonaws.us-east-1.s3", private=False, token="tf-2"),
    read_endpoint,
    [field for field in ENDPOINT_FIELDS if field not in ("DnsOptions", "IpAddressType")],
    delete_endpoint,
    ["InvalidVpcEndpointId.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={"RouteTableIds": ["rtb-1"], "PrivateDnsEnabled": False, "VpcEndpointType": "Gateway", "SubnetIds": [], "DnsEntries": []},
    updates=[
        (modifies(AddRouteTableIds=["rtb-2"]), {"RouteTableIds": ["rtb-1", "rtb-2"]}),
        (modifies(RemoveRouteTableIds=["rtb-1"]), {"RouteTableIds": ["rtb-2"]}),
    ],
)

# Parts of an endpoint that are resources of their own.
sqs = endpoint(subnets=app_subnets[:1], token="tf-3")


def part(name, add, member, value, remove, questions=(), answers=()):
    """A resource that is one item of a list of an endpoint."""

    def read(_):
        found = read_endpoint(sqs)
        return found if value in found[member] else not_found()

    sequence(
        name, lambda: add(sqs), read, [member], lambda _: remove(sqs), ["NotFound"], status=AVAILABLE, questions=questions, answers=answers,
    )


part(
    "aws_vpc_endpoint_subnet_association",
    modifies(AddSubnetIds=app_subnets[1:]), "SubnetIds", app_subnets[1], modifies(RemoveSubnetIds=app_subnets[1:]),
    questions=[(SQS, "A", "127.5.1.9")],
    answers=[[["127.5.0.4"]], [["127.5.1.4"]], [["127.5.0.4"]]],
)
part(
    "aws_vpc_endpoint_security_group_association",
    modifies(AddSecurityGroupIds=[guard_2]), "GroupIds", guard_2, modifies(RemoveSecurityGroupIds=[guard_2]),
)
gateway_endpoint = endpoint("Gateway", "com.amazonaws.us-east-1.s3", private=False, token="tf-4")
sequence(
    "aws_vpc_endpoint_route_table_association",
    lambda: ec2.modify_vpc_endpoint(VpcEndpointId=gateway_endpoint, AddRouteTableIds=["rtb-9"]),
    lambda _: next((found for found in [read_endpoint(gateway_endpoint)] if "rtb-9" in found["RouteTableIds"]), None) or not_found(),
    ["RouteTableIds"],
    lambda _: ec2.modify_vpc_endpoint(VpcEndpointId=gateway_endpoint, RemoveRouteTableIds=["rtb-9"]),
    ["NotFound"],
)
whole = read_endpoint(sqs)["PolicyDocument"]
sequence(
    "aws_vpc_endpoint_policy",
    lambda: ec2.modify_vpc_endpoint(VpcEndpointId=sqs, PolicyDocument=POLICY),
    lambda _: next((found for found in [read_endpoint(sqs)] if found["PolicyDocument"] != whole), None) or not_found(),
    ["PolicyDocument"],
    lambda _: ec2.modify_vpc_endpoint(VpcEndpointId=sqs, ResetPolicy=True),
    ["NotFound"],
    status=AVAILABLE,
    defaults={"PolicyDocument": POLICY},
)
private = lambda value: lambda _: ec2.modify_vpc_endpoint(VpcEndpointId=sqs, PrivateDnsEnabled=value)
private(False)(None)
sequence(
    "aws_vpc_endpoint_private_dns",
    lambda: private(True)(None),
    lambda _: next((found for found in [read_endpoint(sqs)] if found["PrivateDnsEnabled"]), None) or not_found(),
    ["PrivateDnsEnabled"],
    private(False),
    ["NotFound"],
    status=AVAILABLE,
    questions=[(SQS, "A", "127.5.0.9")],
    answers=[["REFUSED"], [["127.5.0.4"]], ["REFUSED"]],
)

# Endpoint services.
BALANCER = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/tf/"


def service(token, private=None):
    wish = {"PrivateDnsName": private} if private else {}
    return ec2.create_vpc_endpoint_service_configuration(
        ClientToken=token, AcceptanceRequired=True, NetworkLoadBalancerArns=[BALANCER + "1"], **wish, **tagged("vpc-endpoint-service")
    )["ServiceConfiguration"]["ServiceId"]


def read_service(id):
    found = only(ec2.describe_vpc_endpoint_service_configurations(ServiceIds=[id])["ServiceConfigurations"])
    allowed = ec2.describe_vpc_endpoint_service_permissions(ServiceId=id)["AllowedPrincipals"]
    kinds = [one["ServiceType"] for one in found["ServiceType"]]
    return {**found, "Allowed": [one["Principal"] for one in allowed], "ServiceType": kinds}


def sets_service(**wish):
    return lambda id: ec2.modify_vpc_endpoint_service_configuration(ServiceId=id, **wish)


ROOT = "arn:aws:iam::444455556666:root"
SERVICE_GONE = ["InvalidVpcEndpointServiceId.NotFound", "InvalidVpcEndpointService.NotFound"]
sequence(
    "aws_vpc_endpoint_service",
    lambda: service("tf-1"),
    read_service,
    [
        "AvailabilityZones", "BaseEndpointDnsNames", "ManagesVpcEndpoints", "ServiceId", "ServiceName", "ServiceState", "ServiceType",
        "SupportedIpAddressTypes", "Tags",
    ],
    lambda id: ec2.delete_vpc_endpoint_service_configurations(ServiceIds=[id]),
    SERVICE_GONE,
    status=[("ServiceState", ["Pending"], "Available")],
    tags=EC2_TAGS,
    defaults={
        "AcceptanceRequired": True, "Allowed": [], "ManagesVpcEndpoints": False, "NetworkLoadBalancerArns": [BALANCER + "1"],
        "ServiceType": ["Interface"], "SupportedIpAddressTypes": ["ipv4"],
    },
    updates=[
        (sets_service(AcceptanceRequired=False), {"AcceptanceRequired": False}),
        (sets_service(AddNetworkLoadBalancerArns=[BALANCER + "2"]), {"NetworkLoadBalancerArns": [BALANCER + "1", BALANCER + "2"]}),
        (sets_service(PrivateDnsName="svc.tf.example"), {"PrivateDnsName": "svc.tf.example"}),
        (sets_service(RemovePrivateDnsName=True), {}),
        (lambda id: ec2.modify_vpc_endpoint_service_permissions(ServiceId=id, AddAllowedPrincipals=[ROOT]), {"Allowed": [ROOT]}),
        (lambda id: ec2.modify_vpc_endpoint_service_permissions(ServiceId=id, RemoveAllowedPrincipals=[ROOT]), {"Allowed": []}),
    ],
)

own = service("tf-2", "svc.tf.example")
own_name = read_service(own)["ServiceName"]


def allow():
    added = ec2.modify_vpc_endpoint_service_permissions(ServiceId=own, AddAllowedPrincipals=[ROOT])["AddedPrincipals"]
    assert {"Principal", "PrincipalType", "ServiceId", "ServicePermissionId"} <= set(added[0]), added
    return added[0]["ServicePermissionId"]


def read_permission(id):
    listed = ec2.describe_vpc_endpoint_service_permissions(ServiceId=own)["AllowedPrincipals"]
    return only([one for one in listed if one["Principal"] == ROOT and one["ServicePermissionId"] == id])


forbid = lambda _: ec2.modify_vpc_endpoint_service_permissions(ServiceId=own, RemoveAllowedPrincipals=[ROOT])
sequence("aws_vpc_endpoint_service_allowed_principal", allow, read_permission, ["Principal", "ServicePermissionId"], forbid, ["NotFound"])
allow()


def verified():
    ec2.start_vpc_endpoint_service_private_dns_verification(ServiceId=own)
    return own


read_verification = lambda _: read_service(own)["PrivateDnsNameConfiguration"]
waits(lambda: read_verification(verified()), "State", ["pendingVerification"], "verified")
assert {"Name", "State", "Type", "Value"} <= set(read_verification(own)), read_verification(own)
done.append("aws_vpc_endpoint_service_private_dns_verification")

# The endpoint of another account, which the owner of the service accepts.
theirs = vpc("127.6.0.0/16", other)
their_subnet = subnet(theirs, "127.6.0.0/24", of=other)
made = other.create_vpc_endpoint(
    ClientToken="tf-5", PrivateDnsEnabled=True, ServiceName=own_name, VpcEndpointType="Interface", VpcId=theirs, SubnetIds=[their_subnet]
)["VpcEndpoint"]
waits(lambda: read_endpoint(made["VpcEndpointId"], other), "State", ["pending"], "pendingAcceptance")
connection = {"ServiceId": own, "VpcEndpointIds": [made["VpcEndpointId"]]}


def read_connection(_):
    filters = by(service_id=own, vpc_endpoint_id=made["VpcEndpointId"])
    found = only(ec2.describe_vpc_endpoint_connections(Filters=filters)["VpcEndpointConnections"])
    return found if found["VpcEndpointState"] not in ("deleted", "rejected") else not_found()


sequence(
    "aws_vpc_endpoint_connection_accepter",
    lambda: ec2.accept_vpc_endpoint_connections(**connection),
    read_connection,
    ["ServiceId", "VpcEndpointId", "VpcEndpointState", "VpcEndpointOwner"],
    lambda _: ec2.reject_vpc_endpoint_connections(**connection),
    ["NotFound"],
    status=[("VpcEndpointState", ["pendingAcceptance", "pending"], "available")],
    questions=[("svc.tf.example", "A", "127.6.0.9"), ("svc.tf.example", "A", "127.5.0.9")],
    answers=[["REFUSED", "REFUSED"], [["127.6.0.4"], "REFUSED"], ["REFUSED", "REFUSED"]],
)
delete_endpoint(made["VpcEndpointId"], other)


# Peering connections.
def peering(peer, **wish):
    return ec2.create_vpc_peering_connection(VpcId=app, PeerVpcId=peer, **wish, **tagged("vpc-peering-connection"))[
        "VpcPeeringConnection"
    ]["VpcPeeringConnectionId"]


def read_peering(id, of=ec2):
    found = only(of.describe_vpc_peering_connections(VpcPeeringConnectionIds=[id])["VpcPeeringConnections"])
    if found["Status"]["Code"] in ("deleted", "expired", "failed", "rejected"):
        not_found()
    sides = [("Accepter", found["AccepterVpcInfo"]), ("Requester", found["RequesterVpcInfo"])]
    flags = {side: info["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] for side, info in sides if "PeeringOptions" in info}
    return {**found, **flags}


def accepts(id):
    ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=id)
    waits(lambda: read_peering(id), "Status.Code", ["provisioning", "pending-acceptance"], "active")


def resolves(id, **sides):
    names = {f"{side}PeeringConnectionOptions": {"AllowDnsResolutionFromRemoteVpc": value} for side, value in sides.items()}
    return ec2.modify_vpc_peering_connection_options(VpcPeeringConnectionId=id, **names)


PEERING_GONE = ["NotFound", "InvalidVpcPeeringConnectionID.NotFound"]
PEERING_QUESTIONS = [("ip-127-8-0-9.ec2.internal", "A", "127.5.0.9"), ("ip-127-5-0-9.ec2.internal", "A", "127.8.0.9")]
# zonal has one flag for a connection: both sides have to allow it.
NONE, BOTH = ["NXDOMAIN", "NXDOMAIN"], [["127.8.0.9"], ["127.5.0.9"]]
sequence(
    "aws_vpc_peering_connection",
    lambda: peering(blocks),
    read_peering,
    ["AccepterVpcInfo", "RequesterVpcInfo", "Status", "Tags", "VpcPeeringConnectionId"],
    lambda id: ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=id),
    PEERING_GONE,
    status=[("Status.Code", ["initiating-request", "provisioning", "active"], "pending-acceptance")],
    tags=EC2_TAGS,
)
sequence(
    "aws_vpc_peering_connection (auto_accept)",
    lambda: (id := peering(blocks), accepts(id))[0],
    read_peering,
    ["AccepterVpcInfo", "RequesterVpcInfo", "Status", "Tags", "VpcPeeringConnectionId", "Accepter", "Requester"],
    lambda id: ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=id),
    PEERING_GONE,
    status=[("Status.Code", ["initiating-request", "provisioning"], "active")],
    tags=EC2_TAGS,
    defaults={"Accepter": False, "Requester": False},
    updates=[
        (lambda id: resolves(id, Accepter=True), {"Accepter": True, "Requester": False}),
        (lambda id: resolves(id, Requester=True), {"Accepter": True, "Requester": True}),
    ],
    questions=PEERING_QUESTIONS,
    answers=[NONE, NONE, NONE, BOTH, NONE],
)

foreign = peering(theirs, PeerOwnerId="444455556666")


def their_accepter():
    other.accept_vpc_peering_connection(VpcPeeringConnectionId=foreign)
    return foreign


sequence(
    "aws_vpc_peering_connection_accepter",
    their_accepter,
    lambda id: read_peering(id, other),
    ["AccepterVpcInfo", "RequesterVpcInfo", "Status", "VpcPeeringConnectionId"],
    lambda id: ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=id),
    PEERING_GONE,
    status=[("Status.Code", ["provisioning", "pending-acceptance"], "active")],
)
pair = peering(blocks)
accepts(pair)
sequence(
    "aws_vpc_peering_connection_options",
    lambda: resolves(pair, Accepter=True, Requester=True),
    lambda _: read_peering(pair),
    ["Accepter", "Requester"],
    # The provider has nothing to delete: the options go with the connection.
    lambda _: ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=pair),
    PEERING_GONE,
    defaults={"Accepter": True, "Requester": True},
    updates=[(lambda _: resolves(pair, Accepter=False, Requester=True), {"Accepter": False, "Requester": True})],
    questions=PEERING_QUESTIONS,
    answers=[NONE, BOTH, NONE, NONE],
)


# Transit gateways.
def read_gateway(id):
    found = only(ec2.describe_transit_gateways(TransitGatewayIds=[id])["TransitGateways"])
    return {**found, **found["Options"]} if found["State"] != "deleted" else not_found()


def gateway(of=ec2, **options):
    wish = {
        "AutoAcceptSharedAttachments": "disable", "DefaultRouteTableAssociation": "enable", "DefaultRouteTablePropagation": "enable",
        "DnsSupport": "enable", "MulticastSupport": "disable", "SecurityGroupReferencingSupport": "disable", "VpnEcmpSupport": "enable",
    }
    return of.create_transit_gateway(Description="tf", Options={**wish, **options}, **tagged("transit-gateway"))["TransitGateway"][
        "TransitGatewayId"
    ]


sequence(
    "aws_ec2_transit_gateway",
    gateway,
    read_gateway,
    ["AmazonSideAsn", "AssociationDefaultRouteTableId", "OwnerId", "PropagationDefaultRouteTableId", "Tags", "TransitGatewayArn"],
    lambda id: ec2.delete_transit_gateway(TransitGatewayId=id),
    ["NotFound", "InvalidTransitGatewayID.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={
        "AmazonSideAsn": 64512, "AutoAcceptSharedAttachments": "disable", "DefaultRouteTableAssociation": "enable", "Description": "tf",
        "DefaultRouteTablePropagation": "enable", "DnsSupport": "enable", "MulticastSupport": "disable", "OwnerId": "111122223333",
        "SecurityGroupReferencingSupport": "disable", "VpnEcmpSupport": "enable",
    },
    updates=[
        (lambda id: ec2.modify_transit_gateway(TransitGatewayId=id, Description="tf-2"), {"Description": "tf-2"}),
        (lambda id: ec2.modify_transit_gateway(TransitGatewayId=id, Options={"DnsSupport": "disable"}), {"DnsSupport": "disable"}),
    ],
)

hub = gateway()
default_table = read_gateway(hub)["AssociationDefaultRouteTableId"]
other_vpc_attachment = ec2.create_transit_gateway_vpc_attachment(
    TransitGatewayId=hub, VpcId=blocks, SubnetIds=[subnet(blocks, "127.8.0.0/24")]
)["TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"]


def attachment(of=ec2, vpc=app, subnets=app_subnets[:1]):
    options = {"ApplianceModeSupport": "disable", "DnsSupport": "enable", "Ipv6Support": "disable", "SecurityGroupReferencingSupport": "enable"}
    return of.create_transit_gateway_vpc_attachment(
        TransitGatewayId=hub, VpcId=vpc, SubnetIds=subnets, Options=options, **tagged("transit-gateway-attachment")
    )["TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"]


def association_of(id, table):
    found = ec2.get_transit_gateway_route_table_associations(
        TransitGatewayRouteTableId=table, Filters=by(transit_gateway_attachment_id=id)
    )["Associations"]
    return only(found)


def propagation_of(id, table):
    found = ec2.get_transit_gateway_route_table_propagations(
        TransitGatewayRouteTableId=table, Filters=by(transit_gateway_attachment_id=id)
    )["TransitGatewayRouteTablePropagations"]
    return only(found)


def read_attachment(id, of=ec2):
    found = only(of.describe_transit_gateway_vpc_attachments(TransitGatewayAttachmentIds=[id])["TransitGatewayVpcAttachments"])
    if found["State"] in ("deleted", "rejected"):
        not_found()
    if of is ec2 and found["State"] == "available":
        assert association_of(id, default_table)["State"] == "associated"
        assert propagation_of(id, default_table)["State"] == "enabled"
    return {**found, **found["Options"]}


def sets_attachment(**wish):
    return lambda id: ec2.modify_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id, **wish)


ATTACHMENT_GONE = ["NotFound", "InvalidTransitGatewayAttachmentID.NotFound"]
THROUGH_HUB = PEERING_QUESTIONS
sequence(
    "aws_ec2_transit_gateway_vpc_attachment",
    attachment,
    read_attachment,
    ["State", "SubnetIds", "Tags", "TransitGatewayId", "VpcId", "VpcOwnerId"],
    lambda id: ec2.delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id),
    ATTACHMENT_GONE,
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={
        "ApplianceModeSupport": "disable", "DnsSupport": "enable", "Ipv6Support": "disable", "SecurityGroupReferencingSupport": "enable",
        "SubnetIds": app_subnets[:1], "TransitGatewayId": hub, "VpcId": app, "VpcOwnerId": "111122223333",
    },
    updates=[
        (sets_attachment(AddSubnetIds=app_subnets[1:]), {"SubnetIds": app_subnets}),
        (sets_attachment(RemoveSubnetIds=app_subnets[1:]), {"SubnetIds": app_subnets[:1]}),
        (sets_attachment(Options={"DnsSupport": "disable"}), {"DnsSupport": "disable"}),
        (sets_attachment(Options={"DnsSupport": "enable", "ApplianceModeSupport": "enable"}), {"ApplianceModeSupport": "enable"}),
    ],
    questions=THROUGH_HUB,
    answers=[NONE, BOTH, BOTH, BOTH, NONE, BOTH, NONE],
)
offered = attachment(other, theirs, [their_subnet])


def accept_attachment():
    ec2.accept_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=offered)
    return offered


waits(lambda: read_attachment(offered), "State", ["pending", "initiatingRequest"], "pendingAcceptance")
sequence(
    "aws_ec2_transit_gateway_vpc_attachment_accepter",
    accept_attachment,
    read_attachment,
    ["State", "SubnetIds", "TransitGatewayId", "VpcId", "VpcOwnerId"],
    lambda id: ec2.delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id),
    ATTACHMENT_GONE,
    status=[("State", ["pending", "pendingAcceptance"], "available")],
    defaults={"VpcOwnerId": "444455556666", "TransitGatewayId": hub},
    questions=[("ip-127-8-0-9.ec2.internal", "A", "127.6.0.9")],
    answers=[["NXDOMAIN"], [["127.8.0.9"]], ["NXDOMAIN"]],
)


def table():
    return ec2.create_transit_gateway_route_table(TransitGatewayId=hub, **tagged("transit-gateway-route-table"))[
        "TransitGatewayRouteTable"
    ]["TransitGatewayRouteTableId"]


def read_table(id):
    found = only(ec2.describe_transit_gateway_route_tables(TransitGatewayRouteTableIds=[id])["TransitGatewayRouteTables"])
    return found if found["State"] != "deleted" else not_found()


sequence(
    "aws_ec2_transit_gateway_route_table",
    table,
    read_table,
    ["DefaultAssociationRouteTable", "DefaultPropagationRouteTable", "TransitGatewayId", "Tags"],
    lambda id: ec2.delete_transit_gateway_route_table(TransitGatewayRouteTableId=id),
    ["NotFound", "InvalidRouteTableID.NotFound"],
    status=AVAILABLE,
    tags=EC2_TAGS,
    defaults={"DefaultAssociationRouteTable": False, "DefaultPropagationRouteTable": False, "TransitGatewayId": hub},
)

attached, routes = attachment(), table()
ec2.disassociate_transit_gateway_route_table(TransitGatewayRouteTableId=default_table, TransitGatewayAttachmentId=attached)
both_ids = {"TransitGatewayRouteTableId": routes, "TransitGatewayAttachmentId": attached}


def associate():
    found = only(ec2.describe_transit_gateway_attachments(TransitGatewayAttachmentIds=[attached])["TransitGatewayAttachments"])
    assert {"ResourceId", "ResourceType", "TransitGatewayId", "State"} <= set(found), found
    ec2.associate_transit_gateway_route_table(**both_ids)


sequence(
    "aws_ec2_transit_gateway_route_table_association",
    associate,
    lambda _: association_of(attached, routes),
    ["ResourceId", "ResourceType", "State", "TransitGatewayAttachmentId"],
    lambda _: ec2.disassociate_transit_gateway_route_table(**both_ids),
    ["NotFound"],
    status=[("State", ["associating"], "associated")],
    defaults={"ResourceId": app, "ResourceType": "vpc"},
)
associate()
ec2.enable_transit_gateway_route_table_propagation(TransitGatewayRouteTableId=routes, TransitGatewayAttachmentId=other_vpc_attachment)
ec2.disassociate_transit_gateway_route_table(TransitGatewayRouteTableId=default_table, TransitGatewayAttachmentId=other_vpc_attachment)
ec2.associate_transit_gateway_route_table(TransitGatewayRouteTableId=routes, TransitGatewayAttachmentId=other_vpc_attachment)
sequence(
    "aws_ec2_transit_gateway_route_table_propagation",
    lambda: ec2.enable_transit_gateway_route_table_propagation(**both_ids),
    lambda _: propagation_of(attached, routes),
    ["ResourceId", "ResourceType", "State", "TransitGatewayAttachmentId"],
    lambda _: ec2.disable_transit_gateway_route_table_propagation(**both_ids),
    ["NotFound"],
    status=[("State", ["enabling"], "enabled")],
    defaults={"ResourceId": app, "ResourceType": "vpc"},
    questions=THROUGH_HUB,
    answers=[NONE, BOTH, NONE],
)

far = gateway(other)


def gateway_peering():
    return ec2.create_transit_gateway_peering_attachment(
        TransitGatewayId=hub, PeerTransitGatewayId=far, PeerAccountId="444455556666", PeerRegion="us-east-1",
        **tagged("transit-gateway-attachment"),
    )["TransitGatewayPeeringAttachment"]["TransitGatewayAttachmentId"]


def read_gateway_peering(id, of=ec2):
    found = only(
        of.describe_transit_gateway_peering_attachments(TransitGatewayAttachmentIds=[id])["TransitGatewayPeeringAttachments"]
    )
    return found if found["State"] not in ("deleted", "failed", "rejected") else not_found()


delete_gateway_peering = lambda id: ec2.delete_transit_gateway_peering_attachment(TransitGatewayAttachmentId=id)
sequence(
    "aws_ec2_transit_gateway_peering_attachment",
    gateway_peering,
    read_gateway_peering,
    ["AccepterTgwInfo", "RequesterTgwInfo", "State", "Tags"],
    delete_gateway_peering,
    ATTACHMENT_GONE,
    status=[("State", ["initiatingRequest", "failing"], "pendingAcceptance")],
    tags=EC2_TAGS,
    defaults={
        "AccepterTgwInfo": {"TransitGatewayId": far, "OwnerId": "444455556666", "Region": "us-east-1"},
        "RequesterTgwInfo": {"TransitGatewayId": hub, "OwnerId": "111122223333", "Region": "us-east-1"},
    },
)
peered = gateway_peering()


def accept_gateway_peering():
    other.accept_transit_gateway_peering_attachment(TransitGatewayAttachmentId=peered)
    return peered


sequence(
    "aws_ec2_transit_gateway_peering_attachment_accepter",
    accept_gateway_peering,
    lambda id: read_gateway_peering(id, other),
    ["AccepterTgwInfo", "RequesterTgwInfo", "State"],
    lambda id: other.delete_transit_gateway_peering_attachment(TransitGatewayAttachmentId=id),
    ATTACHMENT_GONE,
    status=[("State", ["pending", "pendingAcceptance"], "available")],
)


# One tag of a resource that another configuration made.
def read_tag(_):
    return only(ec2.describe_tags(Filters=by(resource_id=hub, key="one"))["Tags"])


set_tag = lambda value: lambda _: ec2.create_tags(Resources=[hub], Tags=[{"Key": "one", "Value": value}])
sequence(
    "aws_ec2_tag",
    lambda: set_tag("1")(None),
    read_tag,
    ["Key", "ResourceId", "ResourceType"],
    lambda _: ec2.delete_tags(Resources=[hub], Tags=[{"Key": "one", "Value": "2"}]),
    ["NotFound"],
    defaults={"Value": "1", "ResourceType": "transit-gateway"},
    updates=[(set_tag("2"), {"Value": "2"})],
)
show(done)
