//! Networks by boto3, which DNS clients see at once.

use super::tools::{boto3, can_run_here, dig, pushed};
use serde_json::{Value, json};

/// The codes of errors.
pub fn codes(errors: &Value) -> Vec<&str> {
    errors.as_array().into_iter().flatten().filter_map(|error| error[0].as_str()).collect()
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
ec2.create_tags(Resources=[vpc], Tags=[{'Key': 'zonal:resolver-addresses', 'Value': '127.0.0.2 169.254.169.253'}])
show({
    'options': options, 'used': used, 'tagged': sorted([tag['ResourceType'], tag['Key'], tag['Value']] for tag in tagged),
    'left': left, 'pages': pages,
    'refused': [
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
