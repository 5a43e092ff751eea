//! Networks by boto3, which DNS clients see at once.

use super::tools::{boto3, can_run_here, dig, pushed};
use crate::harness::{Server, reply::Reply};
use serde_json::{Value, json};
use std::process::Command;

/// The codes of errors.
pub fn codes(errors: &Value) -> Vec<&str> {
    errors.as_array().into_iter().flatten().filter_map(|error| error[0].as_str()).collect()
}

/// The answer to a query from another address of this machine.
pub fn dig_from(server: &Server, source: &str, name: &str, rtype: &str) -> Reply {
    let port = server.port.to_string();
    let words = ["-b", source, "@127.0.0.1", "-p", &port, "+tries=1", "+time=10", name, rtype];
    let output = Command::new("dig").args(words).output().unwrap();
    Reply::of_dig(&String::from_utf8_lossy(&output.stdout))
}

/// Functions of scripts: `network` makes a VPC with two subnets, `tags` the tags of a request, and `ask` sends a DNS query and
/// returns the addresses of the answer, and the milliseconds until it came.
pub fn script(server: &Server, text: &str) -> String {
    let port = server.port;
    format!(
        "
import socket, struct, time

def tags(kind, **tags):
    return [{{'ResourceType': kind, 'Tags': [{{'Key': key, 'Value': value}} for key, value in tags.items()]}}]

def network(ec2, prefix, hostnames=True):
    vpc = ec2.create_vpc(CidrBlock=prefix + '.0.0/16')['Vpc']['VpcId']
    if hostnames:
        ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={{'Value': True}})
    make = lambda number, zone: ec2.create_subnet(VpcId=vpc, CidrBlock=f'{{prefix}}.{{number}}.0/24', AvailabilityZone=zone)
    zones = [ec2.meta.region_name + letter for letter in 'ab']
    return vpc, [make(number, zone)['Subnet']['SubnetId'] for number, zone in enumerate(zones)]

def ask(name, source='127.0.0.1'):
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        client.settimeout(10)
        begin = time.monotonic()
        client.sendto(struct.pack('>6H', 7, 256, 1, 0, 0, 0) + labels + bytes([0, 0, 1, 0, 1]), ('127.0.0.1', {port}))
        reply = client.recv(4096)
        elapsed = 1000 * (time.monotonic() - begin)
    at, found = 17 + len(labels), []
    for _ in range(struct.unpack('>H', reply[6:8])[0]):
        while reply[at] not in (0,) and reply[at] < 192:
            at += reply[at] + 1
        at += 2 if reply[at] >= 192 else 1
        kind, _, _, length = struct.unpack('>HHIH', reply[at:at + 10])
        if kind == 1:
            found.append('.'.join(str(octet) for octet in reply[at + 10:at + 14]))
        at += 10 + length
    assert elapsed < 50, elapsed
    return sorted(found)

ec2 = client('ec2')
{text}
"
    )
}

#[test]
fn boto3_makes_a_network_step_by_step() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let status = |name: &str, rtype: &str| dig(&server, name, rtype).status;
    assert_eq!(status("ip-127-0-0-9.ec2.internal", "A"), "REFUSED", "the client is in no network");
    let made = boto3(
        &server,
        "
ec2 = client('ec2')
tags = lambda kind, **tags: [{'ResourceType': kind, 'Tags': [{'Key': key, 'Value': value} for key, value in tags.items()]}]
vpc = ec2.create_vpc(CidrBlock='127.0.1.1/16', AmazonProvidedIpv6CidrBlock=True, InstanceTenancy='dedicated',
                     TagSpecifications=tags('vpc', Name='app', team='network'))['Vpc']
ec2.get_waiter('vpc_available').wait(VpcIds=[vpc['VpcId']])
second = ec2.create_vpc(CidrBlock='127.0.0.0/16')['Vpc']
ec2.delete_vpc(VpcId=second['VpcId'])
show({
    'vpc': vpc,
    'described': ec2.describe_vpcs(VpcIds=[vpc['VpcId']])['Vpcs'][0],
    'hostnames': ec2.describe_vpc_attribute(VpcId=vpc['VpcId'], Attribute='enableDnsHostnames')['EnableDnsHostnames']['Value'],
    'support': ec2.describe_vpc_attribute(VpcId=vpc['VpcId'], Attribute='enableDnsSupport')['EnableDnsSupport']['Value'],
    'others': [client('ec2', account='444455556666').describe_vpcs()['Vpcs'], client('ec2', region='eu-west-1').describe_vpcs()['Vpcs']],
    'refused': [
        refused(ec2.create_vpc),
        refused(ec2.create_vpc, CidrBlock='1000.1.0.0/16'),
        refused(ec2.create_vpc, CidrBlock='10.0.0.0/8'),
        refused(ec2.create_vpc, CidrBlock='10.0.0.0/16', Ipv4IpamPoolId='ipam-pool-1'),
        refused(ec2.create_vpc, CidrBlock='10.0.0.0/16', TagSpecifications=tags('subnet', a='b')),
        refused(ec2.create_vpc, CidrBlock='10.0.0.0/16', DryRun=True),
        refused(ec2.delete_vpc, VpcId='vpc-no'),
    ],
})
",
    );
    let vpc = &made["vpc"];
    assert_eq!(*vpc, made["described"]);
    assert_eq!((&vpc["CidrBlock"], &vpc["InstanceTenancy"]), (&json!("127.0.0.0/16"), &json!("dedicated")));
    assert_eq!(vpc["Tags"], json!([{"Key": "Name", "Value": "app"}, {"Key": "team", "Value": "network"}]));
    let block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].as_str().unwrap();
    assert!(block.starts_with("fd") && block.ends_with("::/56"), "{block}");
    assert_eq!((&made["hostnames"], &made["support"]), (&json!(false), &json!(true)));
    assert_eq!(made["others"], json!([[], []]), "other accounts and Regions do not see it");
    assert_eq!(
        codes(&made["refused"]),
        [
            "MissingParameter",
            "InvalidParameterValue",
            "InvalidVpc.Range",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "DryRunOperation",
            "InvalidVpcID.NotFound",
        ]
    );
    let id = vpc["VpcId"].as_str().unwrap().to_string();
    let call = |script: &str| boto3(&server, &format!("ec2, vpc = client('ec2'), '{id}'\n{script}"));

    assert_eq!(status("ip-127-0-0-9.ec2.internal", "A"), "REFUSED", "AWS's default: no DNS host names");
    call("show(plain(ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={'Value': True})))");
    assert_eq!(dig(&server, "ip-127-0-0-9.ec2.internal", "A").answer, ["ip-127-0-0-9.ec2.internal. 60 A 127.0.0.9"]);
    call("show(plain(ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsSupport={'Value': False})))");
    assert_eq!(status("ip-127-0-0-9.ec2.internal", "A"), "REFUSED");
    call("show(plain(ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsSupport={'Value': True})))");

    let found = call(
        "
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock='127.0.0.0/24', AvailabilityZone='us-east-1b')['Subnet']
ec2.get_waiter('subnet_available').wait(SubnetIds=[subnet['SubnetId']])
ec2.modify_subnet_attribute(SubnetId=subnet['SubnetId'], MapPublicIpOnLaunch={'Value': True})
ec2.modify_subnet_attribute(SubnetId=subnet['SubnetId'], EnableDns64={'Value': True})
block = ec2.describe_vpcs(VpcIds=[vpc])['Vpcs'][0]['Ipv6CidrBlockAssociationSet'][0]['Ipv6CidrBlock'].replace('/56', '/64')
added = ec2.associate_subnet_cidr_block(SubnetId=subnet['SubnetId'], Ipv6CidrBlock=block)['Ipv6CidrBlockAssociation']
described = ec2.describe_subnets(SubnetIds=[subnet['SubnetId']])['Subnets'][0]
taken = refused(ec2.create_subnet, VpcId=vpc, CidrBlock='127.0.0.128/25')
ec2.disassociate_subnet_cidr_block(AssociationId=added['AssociationId'])
bare = ec2.describe_subnets(SubnetIds=[subnet['SubnetId']])['Subnets'][0]
extra = ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock='10.1.0.0/24')['CidrBlockAssociation']
inner = ec2.create_subnet(VpcId=vpc, CidrBlock='10.1.0.0/28', AvailabilityZoneId='use1-az9')['Subnet']
needed = refused(ec2.disassociate_vpc_cidr_block, AssociationId=extra['AssociationId'])
needed_vpc = refused(ec2.delete_vpc, VpcId=vpc)
ec2.delete_subnet(SubnetId=inner['SubnetId'])
ec2.disassociate_vpc_cidr_block(AssociationId=extra['AssociationId'])
primary = ec2.describe_vpcs(VpcIds=[vpc])['Vpcs'][0]['CidrBlockAssociationSet']
show({
    'subnet': subnet, 'described': described, 'bare': bare['Ipv6CidrBlockAssociationSet'], 'inner': inner, 'blocks': primary,
    'refused': [
        taken, needed, needed_vpc,
        refused(ec2.create_subnet, VpcId=vpc, CidrBlock='10.0.0.0/24'),
        refused(ec2.create_subnet, VpcId=vpc, CidrBlock='127.0.9.0/24', AvailabilityZone='mars-1a'),
        refused(ec2.create_subnet, VpcId=vpc),
        refused(ec2.create_subnet, VpcId='vpc-no', CidrBlock='127.0.9.0/24'),
        refused(ec2.delete_subnet, SubnetId='subnet-no'),
        refused(ec2.disassociate_vpc_cidr_block, AssociationId=primary[0]['AssociationId']),
        refused(ec2.disassociate_vpc_cidr_block, AssociationId='vpc-cidr-assoc-1'),
    ],
})
",
    );
    let subnet = &found["described"];
    assert_eq!(
        (&subnet["AvailabilityZone"], &subnet["AvailabilityZoneId"], &subnet["AvailableIpAddressCount"]),
        (&json!("us-east-1b"), &json!("use1-az2"), &json!(251))
    );
    assert_eq!((&subnet["MapPublicIpOnLaunch"], &subnet["EnableDns64"]), (&json!(true), &json!(true)));
    assert_eq!(subnet["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlockState"]["State"], "associated");
    assert_eq!((&found["bare"], &found["inner"]["AvailabilityZoneId"]), (&json!([]), &json!("use1-az9")));
    assert_eq!(found["blocks"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        codes(&found["refused"]),
        [
            "InvalidSubnet.Conflict",
            "DependencyViolation",
            "DependencyViolation",
            "InvalidSubnet.Range",
            "InvalidParameterValue",
            "MissingParameter",
            "InvalidVpcID.NotFound",
            "InvalidSubnetID.NotFound",
            "OperationNotPermitted",
            "InvalidVpcCidrBlockAssociationIdError.NotFound",
        ]
    );

    let found = call(
        "
options = ec2.create_dhcp_options(DhcpConfigurations=[
    {'Key': 'domain-name', 'Values': ['corp.example']}, {'Key': 'domain-name-servers', 'Values': ['127.0.0.2', '127.0.0.3']},
    {'Key': 'netbios-node-type', 'Values': ['2']}])['DhcpOptions']
ec2.associate_dhcp_options(DhcpOptionsId=options['DhcpOptionsId'], VpcId=vpc)
used = [ec2.describe_vpcs(VpcIds=[vpc])['Vpcs'][0]['DhcpOptionsId'] == options['DhcpOptionsId'],
        refused(ec2.delete_dhcp_options, DhcpOptionsId=options['DhcpOptionsId'])]
ec2.associate_dhcp_options(DhcpOptionsId='default', VpcId=vpc)
subnet = ec2.describe_subnets()['Subnets'][0]['SubnetId']
ids = [vpc, subnet, options['DhcpOptionsId']]
ec2.create_tags(Resources=ids, Tags=[{'Key': 'Name', 'Value': 'one'}, {'Key': 'stage', 'Value': 'test'}])
tagged = ec2.describe_tags(Filters=[{'Name': 'key', 'Values': ['stage', 'Name']}])['Tags']
ec2.delete_tags(Resources=[vpc], Tags=[{'Key': 'stage', 'Value': 'other'}, {'Key': 'Name'}])
left = [tag['Key'] for tag in ec2.describe_tags(Filters=[{'Name': 'resource-id', 'Values': [vpc]}])['Tags']]
ec2.delete_tags(Resources=ids)
pages = [len(page['Tags']) for page in ec2.get_paginator('describe_tags').paginate(PaginationConfig={'PageSize': 5})]
ec2.create_tags(Resources=[vpc], Tags=[{'Key': 'zonal:resolver-addresses', 'Value': '127.0.0.2 127.0.0.3'}])
show({
    'options': options, 'used': used, 'tagged': sorted([tag['ResourceType'], tag['Key'], tag['Value']] for tag in tagged),
    'left': left, 'pages': pages,
    'refused': [
        refused(ec2.create_tags, Resources=[vpc], Tags=[{'Key': 'zonal:resolver-addresses', 'Value': '169.254.169.253'}]),
        refused(ec2.create_tags, Resources=[vpc, 'vpc-no'], Tags=[{'Key': 'a', 'Value': 'b'}]),
        refused(ec2.create_tags, Resources=[vpc], Tags=[{'Key': 'aws:a', 'Value': 'b'}]),
        refused(ec2.create_tags, Resources=[vpc], Tags=[{'Key': 'zonal:resolver-addresses', 'Value': 'here'}]),
        refused(ec2.create_tags, Resources=[vpc], Tags=[{'Key': 'zonal:colour', 'Value': 'red'}]),
        refused(ec2.create_dhcp_options, DhcpConfigurations=[{'Key': 'ntp-servers', 'Values': ['f']}]),
        refused(ec2.create_dhcp_options, DhcpConfigurations=[{'Key': 'colour', 'Values': ['red']}]),
        refused(ec2.associate_dhcp_options, DhcpOptionsId='dopt-no', VpcId=vpc),
        refused(ec2.delete_dhcp_options, DhcpOptionsId='no'),
    ],
})
ec2.delete_dhcp_options(DhcpOptionsId=options['DhcpOptionsId'])
ec2.delete_subnet(SubnetId=subnet)
",
    );
    assert_eq!(found["options"]["DhcpConfigurations"].as_array().map(Vec::len), Some(3));
    assert_eq!((&found["used"][0], &found["used"][1][0]), (&json!(true), &json!("DependencyViolation")));
    let tags = ["dhcp-options", "subnet", "vpc"].map(|kind| [[kind, "Name", "one"], [kind, "stage", "test"]]).concat();
    assert_eq!(found["tagged"], json!(tags));
    assert_eq!((&found["left"], &found["pages"]), (&json!(["stage", "team"]), &json!([0])));
    assert_eq!(
        codes(&found["refused"]),
        [
            "InvalidParameterValue",
            "InvalidVpcID.NotFound",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "InvalidDhcpOptionID.NotFound",
            "InvalidDhcpOptionsId.Malformed",
        ]
    );
    call("show(plain(ec2.delete_vpc(VpcId=vpc)))");
    assert_eq!(status("ip-127-0-0-9.ec2.internal", "A"), "REFUSED");
}

#[test]
fn boto3_makes_an_endpoint_that_answers_in_its_vpc() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let made = boto3(
        &server,
        &script(
            &server,
            "
vpc, (first, second) = network(ec2, '127.0')
network(ec2, '127.1')
bare, (bare_subnet, _) = network(ec2, '127.2', hostnames=False)
group = ec2.create_security_group(GroupName='web', Description='any', VpcId=vpc)['GroupId']
sqs = 'com.amazonaws.us-east-1.sqs'
wish = {'VpcEndpointType': 'Interface', 'VpcId': vpc, 'ServiceName': sqs, 'SubnetIds': [first, second],
        'SecurityGroupIds': [group], 'ClientToken': 'once', 'TagSpecifications': tags('vpc-endpoint', Name='queue', team='a')}
endpoint = ec2.create_vpc_endpoint(**wish)['VpcEndpoint']
names = ['sqs.us-east-1.amazonaws.com', endpoint['DnsEntries'][0]['DnsName'], endpoint['DnsEntries'][1]['DnsName'],
         endpoint['DnsEntries'][2]['DnsName']]
here = [ask(name) for name in names] + [ask(names[0], '127.0.1.9')]
elsewhere = ask(names[0], '127.1.0.1')
again = ec2.create_vpc_endpoint(**wish)['VpcEndpoint']['VpcEndpointId'] == endpoint['VpcEndpointId']
described = ec2.describe_vpc_endpoints(Filters=[{'Name': 'tag:team', 'Values': ['a']}])['VpcEndpoints']
subnet = ec2.describe_subnets(SubnetIds=[first])['Subnets'][0]['AvailableIpAddressCount']
make = lambda **more: refused(ec2.create_vpc_endpoint, **{'VpcEndpointType': 'Interface', 'VpcId': vpc, 'ServiceName': sqs, **more})
show({
    'endpoint': endpoint, 'described': described, 'here': here, 'elsewhere': elsewhere, 'again': again, 'free': subnet,
    'refused': [
        make(ClientToken='once'), make(VpcId='vpc-no'), make(ServiceName='com.amazonaws.us-east-1.nothing'),
        make(SubnetIds=['subnet-no']), make(SubnetIds=[bare_subnet]), make(SecurityGroupIds=['sg-no']),
        make(VpcEndpointType='Resource'), make(VpcId=bare), make(ServiceName='com.amazonaws.us-east-1.dynamodb', PrivateDnsEnabled=True),
        make(PrivateDnsEnabled=False, SubnetConfigurations=[{'SubnetId': first, 'Ipv4': '127.0.0.4'}]),
        make(PrivateDnsEnabled=False, SubnetConfigurations=[{'SubnetId': first, 'Ipv4': '127.0.0.3'}]),
        make(PrivateDnsEnabled=False, SubnetIds=[first], IpAddressType='ipv6'),
        refused(ec2.delete_security_group, GroupId=group), refused(ec2.delete_subnet, SubnetId=first),
        refused(ec2.delete_vpc, VpcId=vpc),
    ],
})
",
        ),
    );
    let endpoint = &made["endpoint"];
    assert_eq!(made["described"], json!([endpoint]));
    assert_eq!((&endpoint["State"], &endpoint["PrivateDnsEnabled"]), (&json!("available"), &json!(true)));
    assert_eq!(endpoint["Groups"][0]["GroupName"], "web");
    let (near, far) = (json!(["127.0.0.4"]), json!(["127.0.1.4"]));
    assert_eq!(made["here"], json!([near, near, near, far, far]), "clients get the address in their AZ");
    assert_eq!((&made["elsewhere"], &made["again"], &made["free"]), (&json!([]), &json!(true), &json!(250)));
    assert_eq!(
        codes(&made["refused"]),
        [
            "IdempotentParameterMismatch",
            "InvalidVpcID.NotFound",
            "InvalidServiceName",
            "InvalidSubnetID.NotFound",
            "InvalidParameter",
            "InvalidGroup.NotFound",
            "InvalidParameterValue",
            "InvalidParameter",
            "InvalidParameter",
            "InvalidIPAddress.InUse",
            "InvalidParameterValue",
            "InvalidParameter",
            "DependencyViolation",
            "DependencyViolation",
            "DependencyViolation",
        ]
    );
    let id = endpoint["VpcEndpointId"].as_str().unwrap();
    assert_eq!(dig_from(&server, "127.1.0.1", "sqs.us-east-1.amazonaws.com", "A").status, "REFUSED");

    let changed = boto3(
        &server,
        &script(
            &server,
            &format!(
                "
id, name = '{id}', 'sqs.us-east-1.amazonaws.com'
endpoint = ec2.describe_vpc_endpoints(VpcEndpointIds=[id])['VpcEndpoints'][0]
by_az = {{subnet['AvailabilityZone']: subnet['SubnetId'] for subnet in ec2.describe_subnets()['Subnets'] if subnet['VpcId'] == endpoint['VpcId']}}
a, b = by_az['us-east-1a'], by_az['us-east-1b']
seen = []
ec2.modify_vpc_endpoint(VpcEndpointId=id, RemoveSubnetIds=[a])
seen.append(ask(name))
ec2.modify_vpc_endpoint(VpcEndpointId=id, AddSubnetIds=[a], SubnetConfigurations=[{{'SubnetId': a, 'Ipv4': '127.0.0.77'}}])
seen.append(ask(name))
ec2.create_tags(Resources=[id], Tags=[{{'Key': 'zonal:client-routing-policy', 'Value': 'any_availability_zone'}}])
seen.append(ask(name))
ec2.delete_tags(Resources=[id], Tags=[{{'Key': 'zonal:client-routing-policy'}}])
seen.append(ask(name))
ec2.modify_vpc_endpoint(VpcEndpointId=id, PrivateDnsEnabled=False, PolicyDocument='{{}}')
seen.append(ask(name))
ec2.modify_vpc_endpoint(VpcEndpointId=id, PrivateDnsEnabled=True)
seen.append(ask(name))
health = [ec2.create_tags(Resources=[id], Tags=[{{'Key': 'zonal:health-check', 'Value': 'TCP:443'}}]) and None,
          refused(ec2.create_tags, Resources=[id], Tags=[{{'Key': 'zonal:health-check', 'Value': 'BGP'}}]),
          refused(ec2.create_tags, Resources=[id], Tags=[{{'Key': 'zonal:private-dns-scope', 'Value': 'vpc-no'}}]),
          refused(ec2.modify_vpc_endpoint, VpcEndpointId='vpce-no')]
ec2.delete_tags(Resources=[id])
other = client('ec2', account='444455556666')
not_theirs = other.delete_vpc_endpoints(VpcEndpointIds=[id])['Unsuccessful'][0]['Error']['Code']
gone = ec2.delete_vpc_endpoints(VpcEndpointIds=[id])['Unsuccessful']
seen.append(ask(name))
show({{'seen': seen, 'refused': health[1:], 'policy': endpoint['PolicyDocument'], 'gone': gone, 'not_theirs': not_theirs,
      'after': refused(ec2.describe_vpc_endpoints, VpcEndpointIds=[id])}})
"
            ),
        ),
    );
    let both = ["127.0.0.77", "127.0.1.4"];
    let local = ["127.0.0.77"];
    assert_eq!(changed["seen"], json!([["127.0.1.4"], local, both, local, [], local, []]));
    assert_eq!(
        codes(&changed["refused"]),
        ["InvalidParameterValue", "InvalidParameterValue", "InvalidVpcEndpointId.NotFound"]
    );
    assert_eq!((&changed["gone"], &changed["not_theirs"]), (&json!([]), &json!("InvalidVpcEndpointId.NotFound")));
    assert_eq!(changed["after"][0], "InvalidVpcEndpointId.NotFound");
}

#[test]
fn an_endpoint_of_another_account_answers_when_the_owner_of_the_service_accepts_it() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let found = boto3(
        &server,
        &script(
            &server,
            "
owner = client('ec2', account='444455556666')
vpc, (first, _) = network(ec2, '127.0')
balancer = ['arn:aws:elasticloadbalancing:us-east-1:444455556666:loadbalancer/net/a/1']
service = owner.create_vpc_endpoint_service_configuration(NetworkLoadBalancerArns=balancer, PrivateDnsName='api.example.com',
                                                         TagSpecifications=tags('vpc-endpoint-service', a='b'))['ServiceConfiguration']
id, name = service['ServiceId'], service['ServiceName']
wish = {'VpcEndpointType': 'Interface', 'VpcId': vpc, 'ServiceName': name, 'SubnetIds': [first]}
hidden = refused(ec2.create_vpc_endpoint, **wish)
added = owner.modify_vpc_endpoint_service_permissions(ServiceId=id, AddAllowedPrincipals=['arn:aws:iam::111122223333:root'])
permissions = owner.describe_vpc_endpoint_service_permissions(ServiceId=id)['AllowedPrincipals']
visible = ec2.describe_vpc_endpoint_services(ServiceNames=[name])['ServiceDetails'][0]
unverified = refused(ec2.create_vpc_endpoint, PrivateDnsEnabled=True, **wish)
owner.start_vpc_endpoint_service_private_dns_verification(ServiceId=id)
configuration = owner.describe_vpc_endpoint_service_configurations(ServiceIds=[id])['ServiceConfigurations'][0]
endpoint = ec2.create_vpc_endpoint(PrivateDnsEnabled=True, **wish)['VpcEndpoint']
seen = [ask('api.example.com')]
connections = owner.describe_vpc_endpoint_connections(Filters=[{'Name': 'service-id', 'Values': [id]}])['VpcEndpointConnections']
one = [endpoint['VpcEndpointId']]
foreign = refused(ec2.accept_vpc_endpoint_connections, ServiceId=id, VpcEndpointIds=one)
accepted = owner.accept_vpc_endpoint_connections(ServiceId=id, VpcEndpointIds=one + ['vpce-no'])['Unsuccessful']
seen.append(ask('api.example.com'))
state = ec2.describe_vpc_endpoints(VpcEndpointIds=one)['VpcEndpoints'][0]['State']
needed = owner.delete_vpc_endpoint_service_configurations(ServiceIds=[id, 'vpce-svc-no'])['Unsuccessful']
owner.modify_vpc_endpoint_service_configuration(ServiceId=id, RemovePrivateDnsName=True, AcceptanceRequired=False)
seen.append(ask('api.example.com'))
owner.reject_vpc_endpoint_connections(ServiceId=id, VpcEndpointIds=one)
rejected = ec2.describe_vpc_endpoints(VpcEndpointIds=one)['VpcEndpoints'][0]['State']
deleted = owner.delete_vpc_endpoint_service_configurations(ServiceIds=[id])['Unsuccessful']
show({
    'service': service, 'added': added['AddedPrincipals'], 'permissions': permissions, 'visible': visible,
    'configuration': configuration, 'state': [endpoint['State'], state, rejected], 'seen': seen, 'connections': connections,
    'accepted': [failure['ResourceId'] for failure in accepted], 'needed': [failure['Error']['Code'] for failure in needed],
    'deleted': deleted, 'names': [entry['DnsName'] for entry in endpoint['DnsEntries']],
    'refused': [hidden, unverified, foreign, refused(owner.create_vpc_endpoint_service_configuration),
                refused(owner.describe_vpc_endpoint_service_configurations, ServiceIds=[id])],
})
",
        ),
    );
    let service = &found["service"];
    let id = service["ServiceId"].as_str().unwrap();
    assert_eq!(service["ServiceName"], format!("com.amazonaws.vpce.us-east-1.{id}"));
    assert_eq!(service["BaseEndpointDnsNames"], json!([format!("{id}.us-east-1.vpce.amazonaws.com")]));
    assert_eq!((&service["AcceptanceRequired"], &service["ServiceState"]), (&json!(true), &json!("Available")));
    assert_eq!(service["PrivateDnsNameConfiguration"]["State"], "pendingVerification");
    assert_eq!(found["configuration"]["PrivateDnsNameConfiguration"]["State"], "verified");
    assert_eq!(found["visible"]["PrivateDnsName"], "api.example.com");
    assert_eq!(found["permissions"][0]["Principal"], "arn:aws:iam::111122223333:root");
    assert_eq!(found["added"][0]["PrincipalType"], "Account");
    assert_eq!(found["state"], json!(["pendingAcceptance", "available", "rejected"]));
    assert_eq!(found["seen"], json!([[], ["127.0.0.4"], []]), "it answers from acceptance to the loss of the name");
    assert_eq!(found["connections"][0]["VpcEndpointOwner"], "111122223333");
    assert_eq!((&found["accepted"], &found["deleted"]), (&json!(["vpce-no"]), &json!([])));
    assert_eq!(found["needed"], json!(["ExistingVpcEndpointConnections", "InvalidVpcEndpointService.NotFound"]));
    assert_eq!(
        codes(&found["refused"]),
        [
            "InvalidServiceName",
            "InvalidParameter",
            "InvalidVpcEndpointServiceId.NotFound",
            "InvalidParameter",
            "InvalidVpcEndpointServiceId.NotFound",
        ]
    );
}

#[test]
fn security_groups_are_kept_and_given_back() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let found = boto3(
        &server,
        &script(
            &server,
            "
vpc, _ = network(ec2, '127.0')
default = ec2.describe_security_groups()['SecurityGroups']
group = ec2.create_security_group(GroupName='web', Description='the web', VpcId=vpc, TagSpecifications=tags('security-group', Name='n'))['GroupId']
permission = lambda port, *blocks: {'IpProtocol': 'tcp', 'FromPort': port, 'ToPort': port, 'IpRanges': [{'CidrIp': block} for block in blocks]}
rules = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission(53, '10.0.0.0/8', '10.9.0.0/16'), permission(443, '0.0.0.0/0')])
ec2.authorize_security_group_ingress(GroupId=group, IpProtocol='udp', FromPort=53, ToPort=53, CidrIp='10.0.0.0/8')
again = refused(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[permission(53, '10.0.0.0/8')])
ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[permission(53, '10.9.0.0/16')])
ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[rules['SecurityGroupRules'][2]['SecurityGroupRuleId']])
ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{'IpProtocol': '-1', 'IpRanges': [{'CidrIp': '0.0.0.0/0'}]}])
ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[{'IpProtocol': '-1', 'UserIdGroupPairs': [{'GroupId': group}]}])
described = ec2.describe_security_groups(GroupIds=[group])['SecurityGroups'][0]
ec2.authorize_security_group_ingress(GroupId=default[0]['GroupId'], IpPermissions=[permission(22, '10.0.0.0/8')])
changed = ec2.describe_security_groups(GroupNames=['default'])['SecurityGroups'][0]
refusals = [
    again, refused(ec2.create_security_group, GroupName='web', Description='x', VpcId=vpc),
    refused(ec2.create_security_group, GroupName='web', Description='x'),
    refused(ec2.revoke_security_group_ingress, GroupId=group, IpPermissions=[permission(1, '10.0.0.0/8')]),
    refused(ec2.delete_security_group, GroupId=default[0]['GroupId']), refused(ec2.delete_vpc, VpcId=vpc),
]
ec2.delete_security_group(GroupId=group)
for subnet in ec2.describe_subnets()['Subnets']:
    ec2.delete_subnet(SubnetId=subnet['SubnetId'])
ec2.delete_vpc(VpcId=vpc)
show({'default': default, 'rules': len(rules['SecurityGroupRules']), 'described': described, 'changed': len(changed['IpPermissions']),
      'refused': refusals, 'left': ec2.describe_security_groups()['SecurityGroups']})
",
        ),
    );
    assert_eq!(found["default"][0]["GroupName"], "default");
    assert_eq!((&found["rules"], &found["changed"], &found["left"]), (&json!(3), &json!(2), &json!([])));
    let group = &found["described"];
    assert_eq!((&group["GroupName"], &group["Tags"]), (&json!("web"), &json!([{"Key": "Name", "Value": "n"}])));
    let shown: Vec<(&Value, &Value, &Value)> = group["IpPermissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|permission| (&permission["IpProtocol"], &permission["FromPort"], &permission["IpRanges"][0]["CidrIp"]))
        .collect();
    let (tcp, udp, port, block) = (json!("tcp"), json!("udp"), json!(53), json!("10.0.0.0/8"));
    assert_eq!(shown, [(&tcp, &port, &block), (&udp, &port, &block)]);
    assert_eq!(group["IpPermissionsEgress"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        codes(&found["refused"]),
        [
            "InvalidPermission.Duplicate",
            "InvalidGroup.Duplicate",
            "VPCIdNotSpecified",
            "InvalidPermission.NotFound",
            "CannotDelete",
            "DependencyViolation",
        ]
    );
}

#[test]
fn peered_vpcs_resolve_names_of_each_other_when_both_sides_allow_it() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let found = boto3(
        &server,
        &script(
            &server,
            "
other = client('ec2', region='eu-west-1', account='444455556666')
vpc, _ = network(ec2, '127.0')
peer, _ = network(other, '127.1')
wish = {'VpcId': vpc, 'PeerVpcId': peer, 'PeerRegion': 'eu-west-1', 'PeerOwnerId': '444455556666'}
made = ec2.create_vpc_peering_connection(TagSpecifications=tags('vpc-peering-connection', Name='p'), **wish)['VpcPeeringConnection']
id = made['VpcPeeringConnectionId']
one = {'VpcPeeringConnectionId': id}
describe = lambda of: of.describe_vpc_peering_connections(VpcPeeringConnectionIds=[id])['VpcPeeringConnections'][0]
pending = describe(other)['Status']
name = 'ip-127-1-0-9.eu-west-1.compute.internal'
refusals = [
    refused(ec2.accept_vpc_peering_connection, **one), refused(ec2.create_vpc_peering_connection, **wish),
    refused(ec2.create_vpc_peering_connection, VpcId=vpc, PeerVpcId='vpc-no'),
    refused(client('ec2', account='777788889999').delete_vpc_peering_connection, **one),
]
accepted = other.accept_vpc_peering_connection(**one)['VpcPeeringConnection']['Status']
on, off = ({'AllowDnsResolutionFromRemoteVpc': value} for value in (True, False))
seen = [ask(name)]
foreign = refused(ec2.modify_vpc_peering_connection_options, AccepterPeeringConnectionOptions=on, **one)
ec2.modify_vpc_peering_connection_options(RequesterPeeringConnectionOptions=on, **one)
seen.append(ask(name))
other.modify_vpc_peering_connection_options(AccepterPeeringConnectionOptions=on, **one)
seen.append(ask(name))
sides = [describe(ec2)[side]['PeeringOptions']['AllowDnsResolutionFromRemoteVpc'] for side in ('RequesterVpcInfo', 'AccepterVpcInfo')]
again = [refused(other.reject_vpc_peering_connection, **one), refused(ec2.delete_vpc, VpcId=vpc)]
ec2.delete_vpc_peering_connection(**one)
seen.append(ask(name))
deleted = describe(other)['Status']
show({'made': made, 'pending': pending, 'accepted': accepted, 'seen': seen, 'sides': sides, 'deleted': deleted,
      'refused': refusals + [foreign] + again + [refused(ec2.delete_vpc_peering_connection, **one)]})
",
        ),
    );
    assert_eq!(found["made"]["Status"]["Code"], "initiating-request");
    assert_eq!(found["made"]["AccepterVpcInfo"]["Region"], "eu-west-1");
    assert_eq!(found["pending"]["Message"], "Pending Acceptance by 444455556666");
    assert_eq!((&found["accepted"]["Code"], &found["sides"]), (&json!("active"), &json!([true, true])));
    assert_eq!(found["seen"], json!([[], [], ["127.1.0.9"], []]));
    assert_eq!(found["deleted"]["Message"], "Deleted by 111122223333");
    assert_eq!(
        codes(&found["refused"]),
        [
            "OperationNotPermitted",
            "VpcPeeringConnectionAlreadyExists",
            "InvalidVpcID.NotFound",
            "InvalidVpcPeeringConnectionID.NotFound",
            "OperationNotPermitted",
            "InvalidStateTransition",
            "DependencyViolation",
            "InvalidStateTransition",
        ]
    );
}

#[test]
fn vpcs_at_a_transit_gateway_resolve_names_of_each_other() {
    if !can_run_here() {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let found = boto3(
        &server,
        &script(
            &server,
            "
other = client('ec2', account='444455556666')
vpc, (subnet, _) = network(ec2, '127.0')
peer, (peer_subnet, second_subnet) = network(other, '127.1')
name = 'ip-127-1-0-9.ec2.internal'
gateway = ec2.create_transit_gateway(Description='hub', TagSpecifications=tags('transit-gateway', Name='hub'))['TransitGateway']
id = gateway['TransitGatewayId']
attach = lambda of, **wish: of.create_transit_gateway_vpc_attachment(TransitGatewayId=id, **wish)['TransitGatewayVpcAttachment']
own = attach(ec2, VpcId=vpc, SubnetIds=[subnet], TagSpecifications=tags('transit-gateway-attachment', a='b'))
pending = attach(other, VpcId=peer, SubnetIds=[peer_subnet])
one = {'TransitGatewayAttachmentId': pending['TransitGatewayAttachmentId']}
seen = [ask(name)]
refusals = [refused(other.accept_transit_gateway_vpc_attachment, **one), refused(lambda **wish: attach(ec2, **wish), VpcId=vpc, SubnetIds=[subnet])]
accepted = ec2.accept_transit_gateway_vpc_attachment(**one)['TransitGatewayVpcAttachment']['State']
seen.append(ask(name))
other.modify_transit_gateway_vpc_attachment(Options={'DnsSupport': 'disable'}, AddSubnetIds=[second_subnet], **one)
seen.append(ask(name))
other.modify_transit_gateway_vpc_attachment(Options={'DnsSupport': 'enable'}, **one)
seen.append(ask(name))
ec2.modify_transit_gateway(TransitGatewayId=id, Options={'DnsSupport': 'disable'})
seen.append(ask(name))
ec2.modify_transit_gateway(TransitGatewayId=id, Options={'DnsSupport': 'enable'})
seen.append(ask(name))
table = ec2.describe_transit_gateway_route_tables()['TransitGatewayRouteTables'][0]['TransitGatewayRouteTableId']
associated = len(ec2.get_transit_gateway_route_table_associations(TransitGatewayRouteTableId=table)['Associations'])
ec2.disassociate_transit_gateway_route_table(TransitGatewayRouteTableId=table, **one)
seen.append(ask(name))
mine = ec2.create_transit_gateway_route_table(TransitGatewayId=id, TagSpecifications=tags('transit-gateway-route-table', Name='mine'))['TransitGatewayRouteTable']['TransitGatewayRouteTableId']
ec2.associate_transit_gateway_route_table(TransitGatewayRouteTableId=mine, **one)
ec2.enable_transit_gateway_route_table_propagation(TransitGatewayRouteTableId=mine, TransitGatewayAttachmentId=own['TransitGatewayAttachmentId'])
seen.append(ask(name))
tables = [len(ec2.get_transit_gateway_attachment_propagations(TransitGatewayAttachmentId=of['TransitGatewayAttachmentId'])['TransitGatewayAttachmentPropagations'])
          for of in (own, pending)]
needed = [refused(ec2.delete_transit_gateway_route_table, TransitGatewayRouteTableId=mine), refused(ec2.delete_transit_gateway, TransitGatewayId=id),
          refused(other.delete_subnet, SubnetId=second_subnet)]
ec2.create_tags(Resources=[id, own['TransitGatewayAttachmentId'], mine], Tags=[{'Key': 'stage', 'Value': 'x'}])
tagged = sorted(tag['ResourceType'] for tag in ec2.describe_tags(Filters=[{'Name': 'key', 'Values': ['stage']}])['Tags'])
attachments = ec2.describe_transit_gateway_attachments()['TransitGatewayAttachments']
theirs = [attachment['SubnetIds'] for attachment in other.describe_transit_gateway_vpc_attachments()['TransitGatewayVpcAttachments']]
for of, which in ((other, one), (ec2, {'TransitGatewayAttachmentId': own['TransitGatewayAttachmentId']})):
    of.delete_transit_gateway_vpc_attachment(**which)
seen.append(ask(name))

hub = other.create_transit_gateway()['TransitGateway']['TransitGatewayId']
attach(ec2, VpcId=vpc, SubnetIds=[subnet])
other.create_transit_gateway_vpc_attachment(TransitGatewayId=hub, VpcId=peer, SubnetIds=[peer_subnet])
peering = ec2.create_transit_gateway_peering_attachment(TransitGatewayId=id, PeerTransitGatewayId=hub, PeerAccountId='444455556666',
                                                        PeerRegion='us-east-1')['TransitGatewayPeeringAttachment']
which = {'TransitGatewayAttachmentId': peering['TransitGatewayAttachmentId']}
foreign = refused(ec2.accept_transit_gateway_peering_attachment, **which)
before = other.describe_transit_gateway_peering_attachments()['TransitGatewayPeeringAttachments'][0]
other.accept_transit_gateway_peering_attachment(**which)
after = [of.describe_transit_gateway_peering_attachments()['TransitGatewayPeeringAttachments'] for of in (ec2, other)]
endpoint = ec2.create_vpc_endpoint(VpcEndpointType='Interface', VpcId=vpc, ServiceName='com.amazonaws.us-east-1.sqs',
                                   SubnetIds=[subnet])['VpcEndpoint']['VpcEndpointId']
scope = {'Resources': [endpoint], 'Tags': [{'Key': 'zonal:private-dns-scope', 'Value': 'connected'}]}
by_account = refused(ec2.create_tags, **scope)
client('ec2', account='AKIAADMINISTRATOR').create_tags(**scope)
reached = [ask('sqs.us-east-1.amazonaws.com', '127.1.0.1')]
other.delete_transit_gateway_peering_attachment(**which)
reached.append(ask('sqs.us-east-1.amazonaws.com', '127.1.0.1'))
show({
    'gateway': gateway, 'own': own, 'pending': pending['State'], 'accepted': accepted, 'seen': seen, 'associated': associated,
    'tables': tables, 'tagged': tagged, 'attachments': attachments, 'theirs': theirs, 'before': before, 'after': after, 'reached': reached,
    'refused': refusals + needed + [foreign, by_account, refused(ec2.delete_transit_gateway_vpc_attachment, **one),
                                    refused(ec2.create_transit_gateway_vpc_attachment, TransitGatewayId='tgw-no', VpcId=vpc, SubnetIds=[subnet])],
})
",
        ),
    );
    assert_eq!((&found["own"]["State"], &found["pending"]), (&json!("available"), &json!("pendingAcceptance")));
    assert_eq!(found["gateway"]["Tags"], json!([{"Key": "Name", "Value": "hub"}]));
    let (yes, no) = (json!(["127.1.0.9"]), json!([]));
    assert_eq!(found["seen"], json!([no, yes, no, yes, no, yes, no, yes, no]));
    assert_eq!((&found["accepted"], &found["associated"]), (&json!("available"), &json!(2)));
    assert_eq!(found["tables"], json!([2, 1]));
    assert_eq!(
        found["tagged"],
        json!(["transit-gateway", "transit-gateway-attachment", "transit-gateway-route-table"])
    );
    assert_eq!(found["attachments"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["theirs"][0].as_array().map(Vec::len), Some(2));
    assert_eq!(found["before"]["State"], "pendingAcceptance");
    for side in found["after"].as_array().unwrap() {
        assert_eq!((&side[0]["State"], &side[1]), (&json!("available"), &Value::Null));
        assert_eq!(side[0]["RequesterTgwInfo"], found["before"]["RequesterTgwInfo"]);
    }
    assert_eq!(found["reached"], json!([["127.0.0.4"], []]));
    assert_eq!(
        codes(&found["refused"]),
        [
            "OperationNotPermitted",
            "DuplicateTransitGatewayAttachment",
            "IncorrectState",
            "IncorrectState",
            "DependencyViolation",
            "OperationNotPermitted",
            "InvalidParameterValue",
            "InvalidTransitGatewayAttachmentID.NotFound",
            "InvalidTransitGatewayID.NotFound",
        ]
    );
}
