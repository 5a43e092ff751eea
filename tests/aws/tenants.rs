//! Accounts that do not trust each other: what one account's access key can do to the clients of another account.

use super::{
    ec2::script,
    tools::{boto3, can_run_here, codes, push},
};
use crate::harness::{Scratch, Server};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

/// The secret of all access keys, as in `prelude.py`.
const SECRET: &str = "any-secret-of-all-accounts";
/// An account whose key lists no networks, and which the other accounts attack.
const OWNER: &str = "111122223333";

/// A server with the keys of four callers, each with its account as access key:
/// `111122223333` and `444455556666` list no networks, `777788889999` lists two, and `AKIAOPERATOR` has no account.
struct Tenants {
    server: Server,
    _scratch: Scratch,
}

impl Tenants {
    fn start(manifest: Value) -> Tenants {
        let scratch = Scratch::new();
        let file = scratch.path().join("access-keys");
        let lines = [
            format!("write {OWNER} {SECRET} {OWNER}"),
            format!("write 444455556666 {SECRET} 444455556666"),
            format!(
                "write 777788889999 {SECRET} 777788889999 networks=10.7.0.0/16,127.77.0.0/16 domains=seven.example"
            ),
            format!("write AKIAOPERATOR {SECRET} 000000000000"),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let server = Server::start_with_admin("{push: {}}", &format!("access_keys_file: {}", file.display()));
        push(&server, manifest);
        Tenants { server, _scratch: scratch }
    }

    /// Runs a script with a client of EC2 for each caller: `owner`, `other`, `listed` and `operator`.
    fn run(&self, text: &str) -> Value {
        let clients = "
owner, other, listed, operator = [client('ec2', account=account)
                                  for account in ['111122223333', '444455556666', '777788889999', 'AKIAOPERATOR']]
";
        boto3(&self.server, &script(&self.server, &format!("{clients}\n{text}")))
    }
}

/// A VPC of the owner without an entry point, whose clients are known by their addresses, and one beside it.
fn manifest() -> Value {
    json!({
        "generation": 1,
        "vpcs": {
            "vpc-own": {
                "owner_id": OWNER, "region": "us-east-1", "cidr_blocks": ["127.10.0.0/16"],
                "availability_zones": {"us-east-1a": "use1-az1"},
                "subnets": {"subnet-own": {"availability_zone_id": "use1-az1", "cidr_blocks": ["127.10.0.0/24"]}},
            },
            "vpc-beside": {"owner_id": OWNER, "region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]},
            "vpc-0": {
                "owner_id": OWNER, "region": "us-east-1", "cidr_blocks": ["10.7.0.0/17"], "resolver_addresses": ["10.7.0.9"],
            },
            "vpc-seven": {
                "owner_id": OWNER, "region": "us-east-1", "cidr_blocks": ["10.7.128.0/17"],
                "resolver_addresses": ["10.7.128.9"],
            },
        },
        "on_premises_networks": {"dc-wide": {"cidr_blocks": ["10.0.0.0/8"]}, "dc": {"cidr_blocks": ["192.168.4.0/24"]}},
        "private_hosted_zones": {
            "Z1": {
                "name": "own.example", "vpc_ids": ["vpc-own"], "aws": {"owner_id": OWNER},
                "records": [{"name": "www", "type": "A", "records": ["192.0.2.1"]}],
            },
        },
    })
}

#[test]
fn an_account_cannot_take_addresses_of_other_accounts_clients() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
seen = lambda: ask('www.own.example', source='127.10.0.9')
steps = [seen()]
resolver = client('route53resolver', account='777788889999')
attacks = [
    # Two networks with the client's address: zonal would refuse the client's queries.
    refused(other.create_vpc, CidrBlock='127.10.0.0/24'),
    refused(other.create_vpc, CidrBlock='10.1.128.0/20'),
    refused(other.create_vpc, CidrBlock='192.168.0.0/16'),
    refused(other.create_vpc, CidrBlock='127.11.0.0/16'),
]
mine = other.create_vpc(CidrBlock='10.2.0.0/16')['Vpc']['VpcId']
attacks += [
    refused(other.associate_vpc_cidr_block, VpcId=mine, CidrBlock='10.1.3.0/24'),
    refused(listed.create_vpc, CidrBlock='10.8.0.0/16'),
    refused(listed.create_vpc, CidrBlock='127.77.0.0/16', AmazonProvidedIpv6CidrBlock=True),
]
seven = listed.create_vpc(CidrBlock='127.77.0.0/16')['Vpc']['VpcId']
attacks.append(refused(listed.associate_vpc_cidr_block, VpcId=seven, CidrBlock='10.2.0.0/16'))
listed.associate_vpc_cidr_block(VpcId=seven, CidrBlock='10.7.0.0/16')
steps.append(seen())
# A key without an account may do it: the operator decides.
wide = operator.create_vpc(CidrBlock='127.10.0.0/16')['Vpc']['VpcId']
operator.delete_vpc(VpcId=wide)
# The owner divides a block that the operator made, although it is a loopback block.
owner.create_subnet(VpcId='vpc-own', CidrBlock='127.10.9.0/24')
show({'steps': steps, 'refused': attacks, 'free': other.associate_vpc_cidr_block(VpcId=mine, CidrBlock='10.3.0.0/16')['VpcId'] == mine})
",
    );
    assert_eq!(found["steps"], json!([["192.0.2.1"], ["192.0.2.1"]]));
    let codes = codes(&found);
    assert_eq!(codes[..5], ["InvalidVpc.Range"; 5], "{found}");
    assert_eq!(codes[5..], ["UnauthorizedOperation"; 3], "{found}");
    assert_eq!(found["free"], true);
    let text = found["refused"].to_string();
    assert!(!text.contains("vpc-") && !text.contains(OWNER), "{text}");
}

#[test]
fn an_account_makes_public_zones_of_its_own_domains_only() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
def zone(account, name):
    made = client('route53', account=account).create_hosted_zone(Name=name, CallerReference=account + name)
    return made['HostedZone']['Config']['PrivateZone']

made = [zone('777788889999', 'www.seven.example'), zone('AKIAOPERATOR', 'bank.example'), zone('444455556666', 'four.example')]
attacks = [refused(zone, account=account, name=name) for account, name in
           [('444455556666', 'seven.example'), ('777788889999', 'bank.example'), ('777788889999', 'example')]]
show({'refused': attacks, 'made': made})
",
    );
    assert_eq!(codes(&found), ["AccessDenied"; 3]);
    assert_eq!(found["made"], json!([false, false, false]));
}

#[test]
fn errors_do_not_name_resources_of_other_accounts() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
vpc = listed.create_vpc(CidrBlock='10.7.0.0/16')['Vpc']['VpcId']
ask_at = lambda address: refused(listed.create_tags, Resources=[vpc], Tags=[{'Key': 'zonal:resolver-addresses', 'Value': address}])
foreign = refused(listed.create_tags, Resources=[vpc], Tags=[{'Key': 'zonal:private-dns-scope', 'Value': 'vpc-own'}])
show({'vpc': vpc, 'refused': [ask_at('10.7.0.9'), ask_at('10.7.128.9'), foreign]})
",
    );
    // The error is one of the VPC whose identifier is the last.
    let text = |at: usize| found["refused"][at][1].as_str().unwrap();
    assert!(text(0).contains("already an entry point") && !text(0).contains("vpc-0."), "{}", text(0));
    assert!(text(0).contains(found["vpc"].as_str().unwrap()), "{}", text(0));
    assert_eq!(text(1), "the change conflicts with a resource of another account");
    assert_eq!(codes(&found), ["InvalidParameterValue"; 3]);
}

#[test]
fn health_checks_and_rules_of_an_account_do_not_reach_the_node_and_other_accounts() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
def health(account, address):
    config = {'Type': 'TCP', 'IPAddress': address, 'Port': 9153}
    return lambda: client('route53', account=account).create_health_check(CallerReference=account + address, HealthCheckConfig=config)

def rule(account, address):
    kind = 'Ipv6' if ':' in address else 'Ip'
    return lambda: client('route53resolver', account=account).create_resolver_rule(
        CreatorRequestId=account + address, RuleType='FORWARD', DomainName='corp.example', TargetIps=[{kind: address}])

vpc = other.create_vpc(CidrBlock='10.2.0.0/16')['Vpc']['VpcId']
addresses = ['127.0.0.1', '127.10.0.1', '169.254.169.254', '0.0.0.0', '224.0.0.1', '0:0:0:0:0:0:0:1', 'fe80::1', 'fd00:ec2::254', '10.1.0.5']
checks = [refused(health('444455556666', address)) for address in addresses]
rules = [refused(rule('444455556666', address)) for address in addresses]
health('444455556666', '10.2.0.5')()
rule('444455556666', '10.2.0.53')()
rule('444455556666', '192.0.2.53')()
# A connection that the other account accepts leads to its hosts.
peering = other.create_vpc_peering_connection(VpcId=vpc, PeerVpcId='vpc-beside', PeerOwnerId='111122223333')['VpcPeeringConnection']
refused(rule('444455556666', '10.1.0.53'))
owner.accept_vpc_peering_connection(VpcPeeringConnectionId=peering['VpcPeeringConnectionId'])
rule('444455556666', '10.1.0.53')()
health('444455556666', '10.1.0.5')()
# The networks of a key allow addresses of the node.
listed.create_vpc(CidrBlock='127.77.0.0/16')
health('777788889999', '127.77.0.1')()
rule('777788889999', '127.77.0.1')()
show({'refused': checks + rules, 'texts': [message for _, message in checks + rules]})
",
    );
    let codes = codes(&found);
    assert_eq!(
        (&codes[..9], &codes[9..]),
        (&["InvalidInput"; 9][..], &["InvalidParameterException"; 9][..]),
        "{found}"
    );
    let text = found["texts"].to_string();
    assert!(!text.contains("vpc-") && !text.contains(OWNER), "{text}");
}

#[test]
fn the_owner_of_a_service_cannot_change_its_private_name_in_vpcs_of_other_accounts() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
balancer = ['arn:aws:elasticloadbalancing:us-east-1:444455556666:loadbalancer/net/a/1']
made = other.create_vpc_endpoint_service_configuration(NetworkLoadBalancerArns=balancer, PrivateDnsName='api.other.example',
                                                      AcceptanceRequired=False)['ServiceConfiguration']
id = made['ServiceId']
other.modify_vpc_endpoint_service_permissions(ServiceId=id, AddAllowedPrincipals=['arn:aws:iam::111122223333:root'])
other.start_vpc_endpoint_service_private_dns_verification(ServiceId=id)
endpoint = owner.create_vpc_endpoint(VpcEndpointType='Interface', VpcId='vpc-own', ServiceName=made['ServiceName'],
                                     SubnetIds=['subnet-own'], PrivateDnsEnabled=True)['VpcEndpoint']['VpcEndpointId']
seen = lambda: [ask(name, source='127.10.0.9') for name in ['api.other.example', 'www.own.example', 'mail.own.example']]
steps = [seen()]
rename = lambda: other.modify_vpc_endpoint_service_configuration(ServiceId=id, PrivateDnsName='mail.own.example')
attacks = [refused(rename)]
other.reject_vpc_endpoint_connections(ServiceId=id, VpcEndpointIds=[endpoint])
attacks.append(refused(rename))
other.accept_vpc_endpoint_connections(ServiceId=id, VpcEndpointIds=[endpoint])
other.start_vpc_endpoint_service_private_dns_verification(ServiceId=id)
steps.append(seen())
owner.modify_vpc_endpoint(VpcEndpointId=endpoint, PrivateDnsEnabled=False)
rename()
other.start_vpc_endpoint_service_private_dns_verification(ServiceId=id)
steps.append(seen())
show({'steps': steps, 'refused': attacks})
",
    );
    let (own, before) = (json!(["192.0.2.1"]), json!(["127.10.0.4"]));
    assert_eq!(found["steps"], json!([[before, own, []], [before, own, []], [[], own, []]]), "{found}");
    assert_eq!(codes(&found), ["ExistingVpcEndpointConnections"; 2]);
}

#[test]
fn the_owner_of_a_gateway_accepts_each_attachment_of_another_account() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
gateway = owner.create_transit_gateway(Options={'AutoAcceptSharedAttachments': 'enable'})['TransitGateway']['TransitGatewayId']
own = owner.create_transit_gateway_vpc_attachment(TransitGatewayId=gateway, VpcId='vpc-own', SubnetIds=['subnet-own'])
def attach(number):
    vpc = other.create_vpc(CidrBlock=f'10.20.{number}.0/24')['Vpc']['VpcId']
    subnet = other.create_subnet(VpcId=vpc, CidrBlock=f'10.20.{number}.0/28')['Subnet']['SubnetId']
    return other.create_transit_gateway_vpc_attachment(TransitGatewayId=gateway, VpcId=vpc, SubnetIds=[subnet])[
        'TransitGatewayVpcAttachment']
made = [attach(number) for number in range(10)]
full = refused(lambda: attach(10))
foreign = refused(other.accept_transit_gateway_vpc_attachment, TransitGatewayAttachmentId=made[0]['TransitGatewayAttachmentId'])
accepted = owner.accept_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=made[0]['TransitGatewayAttachmentId'])
attach(11)
show({
    'own': own['TransitGatewayVpcAttachment']['State'], 'states': [attachment['State'] for attachment in made],
    'accepted': accepted['TransitGatewayVpcAttachment']['State'], 'refused': [full, foreign],
})
",
    );
    assert_eq!((&found["own"], &found["accepted"]), (&json!("available"), &json!("available")));
    assert_eq!(found["states"], json!(vec!["pendingAcceptance"; 10]));
    assert_eq!(codes(&found), ["AttachmentLimitExceeded", "OperationNotPermitted"]);
}

#[test]
fn an_account_does_not_see_zonal_shifts_of_another_accounts_service() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
balancer = ['arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/a/1']
made = owner.create_vpc_endpoint_service_configuration(NetworkLoadBalancerArns=balancer, AcceptanceRequired=False)
name = made['ServiceConfiguration']['ServiceName']
owner.create_vpc_endpoint(VpcEndpointType='Interface', VpcId='vpc-own', ServiceName=name, SubnetIds=['subnet-own'])
shifts = client('arc-zonal-shift', account='111122223333')
started = shifts.start_zonal_shift(resourceIdentifier=name, awayFrom='use1-az1', expiresIn='20m', comment='secret plans')
foreign = client('arc-zonal-shift', account='444455556666')
show({
    'own': len(shifts.list_zonal_shifts()['items']), 'foreign': foreign.list_zonal_shifts()['items'],
    'refused': [refused(foreign.get_managed_resource, resourceIdentifier=name),
                refused(foreign.cancel_zonal_shift, zonalShiftId=started['zonalShiftId'])],
})
",
    );
    assert_eq!((&found["own"], &found["foreign"]), (&json!(1), &json!([])));
    assert_eq!(codes(&found), ["ResourceNotFoundException"; 2]);
}

#[test]
fn requests_and_resources_have_limits() {
    if !can_run_here() {
        return;
    }
    let tenants = Tenants::start(manifest());
    let found = tenants.run(
        "
vpc = other.create_vpc(CidrBlock='10.2.0.0/16')['Vpc']['VpcId']
labels = lambda first, last: [{'Key': f'k{number}', 'Value': 'v'} for number in range(first, last)]
other.create_tags(Resources=[vpc], Tags=labels(0, 50))
group = other.create_security_group(GroupName='g', Description='d', VpcId=vpc)['GroupId']
def permit(call, first, last):
    blocks = [{'CidrIp': f'10.{number // 250}.{number % 250}.0/24'} for number in range(first, last)]
    return call(GroupId=group, IpPermissions=[{'IpProtocol': 'tcp', 'FromPort': 1, 'ToPort': 1, 'IpRanges': blocks}])
permit(other.authorize_security_group_ingress, 0, 1000)
full = refused(lambda: permit(other.authorize_security_group_ingress, 1000, 1001))
begin = time.monotonic()
permit(other.revoke_security_group_ingress, 0, 999)
show({
    'seconds': time.monotonic() - begin,
    'left': other.describe_security_groups(GroupIds=[group])['SecurityGroups'][0]['IpPermissions'][0]['IpRanges'],
    'refused': [full, refused(other.create_tags, Resources=[vpc], Tags=labels(50, 51)),
                refused(other.create_tags, Resources=[vpc] * 1001, Tags=labels(0, 1))],
})
",
    );
    assert_eq!(found["left"], json!([{"CidrIp": "10.3.249.0/24"}]));
    assert_eq!(codes(&found), ["RulesPerSecurityGroupLimitExceeded", "TagLimitExceeded", "InvalidParameterValue"]);
}
