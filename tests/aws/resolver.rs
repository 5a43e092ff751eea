//! Resolver endpoints, rules and query logs by boto3: each step is seen by the first query after the response.

use super::tools::{boto3, can_run_here, codes, network, pushed};
use crate::harness::{Process, Scratch, can_run, free_port, wait_until};
use serde_json::{Value, json};
use std::process::Command;

/// The address of the name server that rules forward to.
const TARGET: &str = "127.0.0.1";

/// The network, with a security group.
pub fn with_security_group() -> Value {
    let mut manifest = network();
    manifest["security_groups"] = json!({"sg-1": {"vpc_id": "vpc-app", "owner_id": "111122223333"}});
    manifest["resolver_rules"] = json!({});
    manifest
}

/// Starts BIND with two zones, which it answers only to two clients. Returns it with its port.
fn name_server(scratch: &Scratch) -> (Process, u16) {
    let port = free_port();
    let zone = |name: &str, address: &str| {
        let text =
            format!("$TTL 60\n@ SOA ns.{name}. a.{name}. 1 60 60 60 60\n@ NS ns\nns A {TARGET}\nwww A {address}\n");
        scratch.write(&format!("{name}.zone"), text);
        format!("zone \"{name}\" {{ type primary; file \"{name}.zone\"; }};\n")
    };
    let config = format!(
        "options {{ directory \"{}\"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;\n\
         listen-on port {port} {{ {TARGET}; }}; listen-on-v6 {{ none; }}; allow-query {{ 127.0.0.20; 127.0.0.21; 127.0.1.4; }}; }};\n\
         controls {{ }};\n{}{}",
        scratch.path().display(),
        zone("corp.example", "192.0.2.10"),
        zone("lab.example", "192.0.2.20"),
    );
    let path = scratch.write("named.conf", config);
    let process = Process::start(&["named", "-g", "-n", "1", "-c", path.to_str().unwrap()], scratch, "named");
    wait_until("BIND answers", || {
        let words =
            ["-b", "127.0.0.20", &format!("@{TARGET}"), "-p", &port.to_string(), "+short", "+tries=1", "+time=1"];
        let output = Command::new("dig").args(words).args(["www.corp.example", "A"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("192.0.2.10").then_some(())
    });
    (process, port)
}

#[test]
fn dig_sees_each_change_of_rules_and_endpoints_that_boto3_makes() {
    if !can_run_here() || !can_run(&["named"]) {
        return;
    }
    let scratch = Scratch::new();
    let (_named, port) = name_server(&scratch);
    let server = pushed(with_security_group());
    let found = boto3(
        &server,
        &format!(
            "
import socket, time
query = bytes.fromhex('00070100000100000000000003777777') + b'\\x04corp\\x07example\\x00' + bytes.fromhex('00010001')
resolver, port, target = client('route53resolver'), {port}, '{TARGET}'
corp = lambda: dig('www.corp.example')
steps = [('before', corp())]
addresses = [{{'SubnetId': 'subnet-a', 'Ip': '127.0.0.20'}}, {{'SubnetId': 'subnet-a', 'Ip': '127.0.0.21'}}]
out = resolver.create_resolver_endpoint(CreatorRequestId='1', Name='out', SecurityGroupIds=['sg-1'], Direction='OUTBOUND', IpAddresses=addresses,
                                        RniEnhancedMetricsEnabled=True, Tags=[{{'Key': 'k', 'Value': 'v'}}])['ResolverEndpoint']
rule = resolver.create_resolver_rule(CreatorRequestId='2', Name='corp', RuleType='FORWARD', DomainName='Corp.example', ResolverEndpointId=out['Id'],
                                     TargetIps=[{{'Ip': target, 'Port': port}}], Tags=[{{'Key': 'team', 'Value': 'dns'}}])['ResolverRule']
steps.append(('not associated', corp()))
association = resolver.associate_resolver_rule(ResolverRuleId=rule['Id'], VPCId='vpc-app', Name='app')['ResolverRuleAssociation']
steps.append(('associated', corp()))
resolver.disassociate_resolver_rule(ResolverRuleId=rule['Id'], VPCId='vpc-app')
steps.append(('disassociated', corp()))
resolver.associate_resolver_rule(ResolverRuleId=rule['Id'], VPCId='vpc-app', Name='app')
system = resolver.create_resolver_rule(CreatorRequestId='3', RuleType='SYSTEM', DomainName='www.corp.example')['ResolverRule']
resolver.associate_resolver_rule(ResolverRuleId=system['Id'], VPCId='vpc-app')
steps.append(('exception', corp()))
resolver.disassociate_resolver_rule(ResolverRuleId=system['Id'], VPCId='vpc-app')
steps.append(('no exception', corp()))
resolver.update_resolver_rule(ResolverRuleId=rule['Id'], Config={{'TargetIps': [{{'Ip': '127.0.9.54', 'Port': port}}]}})
steps.append(('no server', corp().split()[0]))
updated = resolver.update_resolver_rule(ResolverRuleId=rule['Id'], Config={{'Name': 'new', 'TargetIps': [{{'Ip': target, 'Port': port}}]}})['ResolverRule']
steps.append(('updated', corp()))

# The queries of the endpoint come from its addresses: BIND answers no other ones.
other = resolver.create_resolver_endpoint(CreatorRequestId='4', SecurityGroupIds=['sg-1'], Direction='OUTBOUND',
                                          IpAddresses=[{{'SubnetId': 'subnet-b'}}, {{'SubnetId': 'subnet-b', 'Ip': '127.0.1.30'}}])['ResolverEndpoint']
chosen = resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=other['Id'])['IpAddresses']
third = resolver.associate_resolver_endpoint_ip_address(ResolverEndpointId=other['Id'], IpAddress={{'SubnetId': 'subnet-b'}})['ResolverEndpoint']
two = resolver.disassociate_resolver_endpoint_ip_address(ResolverEndpointId=other['Id'], IpAddress={{'IpId': chosen[1]['IpId']}})['ResolverEndpoint']
left = resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=other['Id'])['IpAddresses']

# An inbound endpoint is an entry point of its VPC.
entry = resolver.create_resolver_endpoint(CreatorRequestId='5', Name='in', SecurityGroupIds=[], Direction='INBOUND',
                                          IpAddresses=[{{'SubnetId': 'subnet-a', 'Ip': '127.0.0.77'}}, {{'SubnetId': 'subnet-b', 'Ip': '127.0.1.77'}}])['ResolverEndpoint']
inbound = [dig('www.one.example', server='127.0.0.77')]
renamed = resolver.update_resolver_endpoint(ResolverEndpointId=entry['Id'], Name='renamed', Protocols=['Do53', 'DoH'], Dns64Enabled=True)['ResolverEndpoint']
gone = resolver.delete_resolver_endpoint(ResolverEndpointId=entry['Id'])['ResolverEndpoint']

# The time from the response of the API to the first answer that shows it.
times = []
for _ in range(9):
    for call, expected in [(resolver.disassociate_resolver_rule, False), (resolver.associate_resolver_rule, True)]:
        call(ResolverRuleId=rule['Id'], VPCId='vpc-app')
        begin = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client_socket:
            client_socket.settimeout(5)
            client_socket.sendto(query, ('127.0.0.1', int(sys.argv[2])))
            reply = client_socket.recv(512)
        times.append(time.monotonic() - begin)
        # The number of answers.
        assert (reply[7] > 0) == expected, reply
in_use = [
    refused(resolver.delete_resolver_rule, ResolverRuleId=rule['Id']),
    refused(resolver.delete_resolver_endpoint, ResolverEndpointId=out['Id']),
]
resolver.disassociate_resolver_rule(ResolverRuleId=rule['Id'], VPCId='vpc-app')
deleted = resolver.delete_resolver_rule(ResolverRuleId=rule['Id'])['ResolverRule']
resolver.delete_resolver_rule(ResolverRuleId=system['Id'])
resolver.delete_resolver_endpoint(ResolverEndpointId=out['Id'])
steps.append(('deleted', corp()))
show({{
    'steps': steps, 'out': out, 'rule': rule, 'updated': updated, 'association': association, 'deleted': deleted,
    'chosen': [address['Ip'] for address in chosen], 'third': third['IpAddressCount'], 'two': two['IpAddressCount'],
    'left': [address['Ip'] for address in left], 'entry': entry, 'inbound': inbound, 'renamed': renamed, 'gone': gone, 'times': sorted(times), 'refused': in_use + [
        refused(resolver.get_resolver_rule, ResolverRuleId=rule['Id']),
        refused(resolver.get_resolver_endpoint, ResolverEndpointId=out['Id']),
    ],
}})
"
        ),
    );
    let corp = "NOERROR 192.0.2.10";
    assert_eq!(
        found["steps"],
        json!([
            ["before", "REFUSED"],
            ["not associated", "REFUSED"],
            ["associated", corp],
            ["disassociated", "REFUSED"],
            ["exception", "REFUSED"],
            ["no exception", corp],
            ["no server", "SERVFAIL"],
            ["updated", corp],
            ["deleted", "REFUSED"],
        ])
    );
    let (out, rule) = (&found["out"], &found["rule"]);
    assert_eq!(
        (&out["Status"], &out["IpAddressCount"], &out["HostVPCId"], &out["SecurityGroupIds"]),
        (&json!("OPERATIONAL"), &json!(2), &json!("vpc-app"), &json!(["sg-1"]))
    );
    assert_eq!(
        (&out["RniEnhancedMetricsEnabled"], &out["ResolverEndpointType"], &out["Protocols"]),
        (&json!(true), &json!("IPV4"), &json!(["Do53"]))
    );
    assert!(
        out["Id"].as_str().unwrap().starts_with("rslvr-out-") && rule["Id"].as_str().unwrap().starts_with("rslvr-rr-")
    );
    assert_eq!(
        (&rule["DomainName"], &rule["Status"], &rule["OwnerId"]),
        (&json!("corp.example."), &json!("COMPLETE"), &json!("111122223333"))
    );
    assert_eq!((&found["updated"]["Name"], &found["deleted"]["Status"]), (&json!("new"), &json!("DELETING")));
    assert_eq!((&found["association"]["Name"], &found["association"]["Status"]), (&json!("app"), &json!("COMPLETE")));
    assert_eq!(found["chosen"], json!(["127.0.1.4", "127.0.1.30"]), "the first addresses of a subnet are reserved");
    assert_eq!((&found["third"], &found["two"]), (&json!(3), &json!(2)));
    assert_eq!(found["left"], json!(["127.0.1.4", "127.0.1.5"]));
    assert_eq!(found["inbound"], json!(["NOERROR 192.0.2.1 192.0.2.2"]));
    let renamed = &found["renamed"];
    assert_eq!(
        (&renamed["Name"], &renamed["Protocols"], &renamed["Dns64Enabled"], &found["gone"]["Status"]),
        (&json!("renamed"), &json!(["Do53", "DoH"]), &json!(true), &json!("DELETING"))
    );
    let median = found["times"][9].as_f64().unwrap();
    assert!(median < 0.05, "an association is seen after {median} s");
    assert_eq!(
        codes(&found),
        ["ResourceInUseException", "InvalidRequestException", "ResourceNotFoundException", "ResourceNotFoundException"]
    );
}

#[test]
fn a_dual_stack_endpoint_has_interfaces_with_two_addresses() {
    if !can_run_here() {
        return;
    }
    let mut manifest = with_security_group();
    manifest["vpcs"]["vpc-app"]["subnets"]["subnet-a"]["cidr_blocks"] = json!(["127.0.0.0/24", "2001:db8:1::/64"]);
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
resolver = client('route53resolver')
create = lambda request, kind, *addresses: resolver.create_resolver_endpoint(
    CreatorRequestId=request, SecurityGroupIds=['sg-1'], Direction='OUTBOUND', ResolverEndpointType=kind, IpAddresses=addresses)['ResolverEndpoint']
addresses = lambda endpoint: [[address.get('Ip'), address.get('Ipv6')] for page in resolver.get_paginator('list_resolver_endpoint_ip_addresses').paginate(
    ResolverEndpointId=endpoint['Id'], PaginationConfig={'PageSize': 1}) for address in page['IpAddresses']]
dual = create('1', 'DUALSTACK', {'SubnetId': 'subnet-a', 'Ip': '127.0.0.30', 'Ipv6': '2001:db8:1::30'}, {'SubnetId': 'subnet-a'})
first = addresses(dual)
less = resolver.update_resolver_endpoint(ResolverEndpointId=dual['Id'], ResolverEndpointType='IPV4')['ResolverEndpoint']
second = addresses(dual)
ids = [address['IpId'] for address in resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=dual['Id'])['IpAddresses']]
more = resolver.update_resolver_endpoint(ResolverEndpointId=dual['Id'], ResolverEndpointType='DUALSTACK',
                                         UpdateIpAddresses=[{'IpId': ids[1], 'Ipv6': '2001:db8:1::50'}])['ResolverEndpoint']
third = addresses(dual)
ipv6 = create('2', 'IPV6', {'SubnetId': 'subnet-a'}, {'SubnetId': 'subnet-a'})
show({
    'types': [dual['ResolverEndpointType'], less['ResolverEndpointType'], more['ResolverEndpointType'], ipv6['ResolverEndpointType']],
    'counts': [dual['IpAddressCount'], less['IpAddressCount'], more['IpAddressCount']],
    'addresses': [first, second, third, addresses(ipv6)],
    'refused': [
        refused(lambda: create('3', 'DUALSTACK', {'SubnetId': 'subnet-b'}, {'SubnetId': 'subnet-b'})),
        refused(lambda: create('3', 'IPV6', {'SubnetId': 'subnet-a', 'Ip': '127.0.0.40'}, {'SubnetId': 'subnet-a'})),
        refused(resolver.update_resolver_endpoint, ResolverEndpointId=dual['Id'], ResolverEndpointType='IPV6'),
        refused(resolver.update_resolver_endpoint, ResolverEndpointId=ipv6['Id'], ResolverEndpointType='IPV4'),
    ],
})
",
    );
    assert_eq!(found["types"], json!(["DUALSTACK", "IPV4", "DUALSTACK", "IPV6"]));
    assert_eq!(found["counts"], json!([2, 2, 2]), "both addresses of an interface count as one");
    assert_eq!(
        found["addresses"],
        json!([
            [["127.0.0.30", "2001:db8:1::30"], ["127.0.0.4", "2001:db8:1::4"]],
            [["127.0.0.30", null], ["127.0.0.4", null]],
            [["127.0.0.30", "2001:db8:1::4"], ["127.0.0.4", "2001:db8:1::50"]],
            [[null, "2001:db8:1::5"], [null, "2001:db8:1::6"]],
        ])
    );
    assert_eq!(
        codes(&found),
        ["InvalidRequestException", "InvalidParameterException", "InvalidRequestException", "InvalidRequestException"]
    );
}

#[test]
fn refuses_endpoints_and_rules_as_route_53_resolver_does() {
    if !can_run_here() {
        return;
    }
    let server = pushed(with_security_group());
    let found = boto3(
        &server,
        "
resolver = client('route53resolver')
a, b = {'SubnetId': 'subnet-a', 'Ip': '127.0.0.20'}, {'SubnetId': 'subnet-b', 'Ip': '127.0.1.20'}
given = {'CreatorRequestId': '1', 'SecurityGroupIds': ['sg-1'], 'Direction': 'INBOUND', 'IpAddresses': [a, b]}
made = resolver.create_resolver_endpoint(**given)['ResolverEndpoint']
endpoint = lambda **changes: refused(resolver.create_resolver_endpoint, **{**given, 'CreatorRequestId': '2', **changes})
basic = {'CreatorRequestId': '1', 'RuleType': 'FORWARD', 'DomainName': 'x.example', 'TargetIps': [{'Ip': '192.0.2.1'}]}
rule = resolver.create_resolver_rule(**basic)['ResolverRule']
resolver.associate_resolver_rule(ResolverRuleId=rule['Id'], VPCId='vpc-app')
twin = resolver.create_resolver_rule(**{**basic, 'CreatorRequestId': '3'})['ResolverRule']
without = lambda *names: {name: value for name, value in basic.items() if name not in names}
delegate = resolver.create_resolver_rule(**{**without('TargetIps', 'DomainName'), 'RuleType': 'DELEGATE', 'DelegationRecord': 'ns.y.example', 'CreatorRequestId': '4'})['ResolverRule']
doh = resolver.create_resolver_rule(**{**basic, 'CreatorRequestId': '5', 'TargetIps': [{'Ip': '192.0.2.1', 'Protocol': 'DoH', 'ServerNameIndication': 'dns.example'}]})['ResolverRule']
new_rule = lambda *names, **changes: refused(resolver.create_resolver_rule, **{**without(*names), 'CreatorRequestId': '2', **changes})
disassociate = lambda **address: refused(resolver.disassociate_resolver_endpoint_ip_address, ResolverEndpointId=made['Id'], IpAddress=address)
show({
    'delegate': delegate, 'doh': doh['TargetIps'],
    'refused': [
        endpoint(CreatorRequestId='1'),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-no'}, b]),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a', 'Ip': '127.0.0.3'}, b]),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a', 'Ip': '127.0.1.9'}, b]),
        endpoint(),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, SecurityGroupIds=['group']),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, SecurityGroupIds=['sg-2']),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, SecurityGroupIds=['sg-1'] * 11),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, Direction='INBOUND_DELEGATION', Protocols=['DoH']),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, Protocols=['DoH-FIPS']),
        endpoint(IpAddresses=[{'SubnetId': 'subnet-a'}] * 2, Direction='OUTBOUND', Dns64Enabled=True),
        refused(resolver.update_resolver_endpoint, ResolverEndpointId=made['Id'], Protocols=['DoH']),
        refused(resolver.associate_resolver_endpoint_ip_address, ResolverEndpointId=made['Id'], IpAddress=a),
        disassociate(SubnetId='subnet-a'),
        disassociate(IpId='rni-no'),
        disassociate(**a),
        new_rule(CreatorRequestId='1'),
        new_rule('TargetIps'),
        new_rule('DomainName'),
        new_rule(DomainName='a..b'),
        new_rule(TargetIps=[{'Ip': '2001:db8::1'}]),
        new_rule(TargetIps=[{'Ip': '192.0.2.300'}]),
        new_rule(TargetIps=[{'Ip': '192.0.2.1', 'Protocol': 'DoH-FIPS'}]),
        new_rule(RuleType='SYSTEM'),
        new_rule(RuleType='DELEGATE', DelegationRecord='ns.z.example'),
        new_rule(ResolverEndpointId='rslvr-out-no'),
        new_rule(ResolverEndpointId=made['Id']),
        refused(resolver.associate_resolver_rule, ResolverRuleId=twin['Id'], VPCId='vpc-app'),
        refused(resolver.associate_resolver_rule, ResolverRuleId=rule['Id'], VPCId='vpc-app'),
        refused(resolver.associate_resolver_rule, ResolverRuleId=twin['Id'], VPCId='vpc-other'),
        refused(resolver.disassociate_resolver_rule, ResolverRuleId=twin['Id'], VPCId='vpc-app'),
        refused(resolver.disassociate_resolver_rule, ResolverRuleId='rslvr-autodefined-rr-internet-resolver', VPCId='vpc-app'),
        refused(client('route53resolver', account='444455556666').get_resolver_rule, ResolverRuleId=rule['Id']),
        refused(client('route53resolver', region='eu-west-1').get_resolver_rule, ResolverRuleId=rule['Id']),
    ],
})
",
    );
    let delegate = &found["delegate"];
    assert_eq!((&delegate["DelegationRecord"], &delegate["DomainName"]), (&json!("ns.y.example."), &Value::Null));
    assert_eq!(
        found["doh"],
        json!([{"Ip": "192.0.2.1", "Port": 443, "Protocol": "DoH", "ServerNameIndication": "dns.example"}])
    );
    let (parameter, request, exists, missing) = (
        "InvalidParameterException",
        "InvalidRequestException",
        "ResourceExistsException",
        "ResourceNotFoundException",
    );
    let expected = [
        exists, parameter, request, request, exists, parameter, missing, parameter, request, parameter, request,
        request, exists, request, missing, request, exists, request, request, parameter, parameter, parameter,
        parameter, request, request, missing, request, request, request, parameter, missing, request, missing, missing,
    ];
    for (at, (found, expected)) in found["refused"].as_array().unwrap().iter().zip(expected).enumerate() {
        assert_eq!(found[0], expected, "{at}: {found}");
    }
    assert_eq!(found["refused"].as_array().unwrap().len(), expected.len());
}

#[test]
fn query_logs_settings_policies_and_tags_are_kept() {
    if !can_run_here() {
        return;
    }
    let mut manifest = with_security_group();
    manifest["query_log_configs"] = json!({});
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
resolver = client('route53resolver')
given = {'Name': 'all', 'DestinationArn': 'arn:aws:s3:::logs', 'CreatorRequestId': '1', 'Tags': [{'Key': 'k', 'Value': 'v'}]}
log = resolver.create_resolver_query_log_config(**given)['ResolverQueryLogConfig']
again = resolver.create_resolver_query_log_config(**given)['ResolverQueryLogConfig']
other = resolver.create_resolver_query_log_config(**{**given, 'Name': 'b', 'CreatorRequestId': '2'})['ResolverQueryLogConfig']
names = lambda **sort: [found['Name'] for page in resolver.get_paginator('list_resolver_query_log_configs').paginate(PaginationConfig={'PageSize': 1}, **sort)
                        for found in page['ResolverQueryLogConfigs']]
association = resolver.associate_resolver_query_log_config(ResolverQueryLogConfigId=log['Id'], ResourceId='vpc-app')['ResolverQueryLogConfigAssociation']
sorted_names = [names(), names(SortBy='Name', SortOrder='DESCENDING'), names(SortBy='AssociationCount'), names(Filters=[{'Name': 'Id', 'Values': [other['Id']]}])]
dig('www.one.example')
in_use = refused(resolver.delete_resolver_query_log_config, ResolverQueryLogConfigId=log['Id'])
gone = resolver.disassociate_resolver_query_log_config(ResolverQueryLogConfigId=log['Id'], ResourceId='vpc-app')['ResolverQueryLogConfigAssociation']
policy = json.dumps({'Version': '2012-10-17', 'Statement': []})
rule = resolver.create_resolver_rule(CreatorRequestId='1', RuleType='SYSTEM', DomainName='x.example', Tags=[{'Key': 'a', 'Value': 'b'}])['ResolverRule']
put = [resolver.put_resolver_rule_policy(Arn=rule['Arn'], ResolverRulePolicy=policy)['ReturnValue'],
       resolver.put_resolver_query_log_config_policy(Arn=log['Arn'], ResolverQueryLogConfigPolicy=policy)['ReturnValue']]
policies = [resolver.get_resolver_rule_policy(Arn=rule['Arn'])['ResolverRulePolicy'] == policy,
            resolver.get_resolver_query_log_config_policy(Arn=log['Arn'])['ResolverQueryLogConfigPolicy'] == policy]
tags = lambda arn: {tag['Key']: tag['Value'] for page in resolver.get_paginator('list_tags_for_resource').paginate(ResourceArn=arn, PaginationConfig={'PageSize': 1})
                    for tag in page['Tags']}
resolver.tag_resource(ResourceArn=rule['Arn'], Tags=[{'Key': 'c', 'Value': 'd'}, {'Key': 'a', 'Value': 'new'}])
all_tags = [tags(rule['Arn']), tags(log['Arn'])]
resolver.untag_resource(ResourceArn=rule['Arn'], TagKeys=['a', 'no'])
all_tags.append(tags(rule['Arn']))

reverse = lambda: dig('9.0.0.127.in-addr.arpa', 'PTR').split()[0]
config = lambda: [found['AutodefinedReverse'] for found in resolver.list_resolver_configs()['ResolverConfigs'] if found['ResourceId'] == 'vpc-app']
states = [[resolver.get_resolver_config(ResourceId='vpc-app')['ResolverConfig']['AutodefinedReverse'], config(), reverse()]]
for flag in ['DISABLE', 'ENABLE']:
    changed = resolver.update_resolver_config(ResourceId='vpc-app', AutodefinedReverseFlag=flag)['ResolverConfig']
    states.append([changed['AutodefinedReverse'], config(), reverse()])
dnssec = [resolver.list_resolver_dnssec_configs()['ResolverDnssecConfigs']]
for flag in ['ENABLE', 'DISABLE', 'USE_LOCAL_RESOURCE_SETTING']:
    changed = resolver.update_resolver_dnssec_config(ResourceId='vpc-app', Validation=flag)['ResolverDNSSECConfig']
    shown = resolver.get_resolver_dnssec_config(ResourceId='vpc-app')['ResolverDNSSECConfig']
    listed = resolver.list_resolver_dnssec_configs(Filters=[{'Name': 'ResourceId', 'Values': ['vpc-app']}])['ResolverDnssecConfigs']
    dnssec.append([changed == shown, listed in ([shown], []), changed['ValidationStatus']])
deleted = [resolver.delete_resolver_query_log_config(ResolverQueryLogConfigId=found['Id'])['ResolverQueryLogConfig']['Status'] for found in (log, other)]
show({
    'log': log, 'again': again['Id'] == log['Id'], 'names': sorted_names, 'association': association, 'gone': gone['Status'], 'put': put + policies,
    'tags': all_tags, 'states': states, 'dnssec': dnssec, 'deleted': deleted, 'file': log['Id'] + '.log',
    'refused': [
        in_use,
        refused(resolver.create_resolver_query_log_config, **{**given, 'CreatorRequestId': '3', 'Name': '12'}),
        refused(resolver.associate_resolver_query_log_config, ResolverQueryLogConfigId=log['Id'], ResourceId='vpc-app'),
        refused(resolver.associate_resolver_rule, ResolverRuleId=rule['Id'], VPCId='vpc-no'),
        refused(resolver.put_resolver_rule_policy, Arn=rule['Arn'], ResolverRulePolicy='no'),
        refused(resolver.put_resolver_rule_policy, Arn=rule['Arn'] + 'x', ResolverRulePolicy=policy),
        refused(resolver.tag_resource, ResourceArn='x', Tags=[]),
        refused(resolver.tag_resource, ResourceArn=rule['Arn'], Tags=[{'Key': 'aws:a', 'Value': 'b'}]),
        refused(resolver.get_resolver_config, ResourceId='vpc-no'),
        refused(resolver.update_resolver_dnssec_config, ResourceId='vpc-no', Validation='ENABLE'),
    ],
})
",
    );
    assert_eq!(
        (&found["log"]["Status"], &found["log"]["DestinationArn"]),
        (&json!("CREATED"), &json!("arn:aws:s3:::logs"))
    );
    assert_eq!(found["again"], true, "a client may repeat a request");
    assert_eq!(found["names"], json!([["all", "b"], ["b", "all"], ["b", "all"], ["b"]]));
    assert_eq!((&found["association"]["Status"], &found["gone"]), (&json!("ACTIVE"), &json!("DELETING")));
    assert_eq!(found["put"], json!([true, true, true, true]));
    assert_eq!(found["tags"], json!([{"a": "new", "c": "d"}, {"k": "v"}, {"c": "d"}]));
    assert_eq!(
        found["states"],
        json!([
            ["ENABLED", ["ENABLED"], "NOERROR"],
            ["DISABLED", ["DISABLED"], "REFUSED"],
            ["ENABLED", ["ENABLED"], "NOERROR"],
        ])
    );
    assert_eq!(
        found["dnssec"],
        json!([[], [true, true, "ENABLED"], [true, true, "DISABLED"], [true, true, "ENABLED"]]),
        "without a setting, the node's one counts"
    );
    assert_eq!(found["deleted"], json!(["DELETING", "DELETING"]));
    assert_eq!(
        codes(&found),
        [
            "InvalidRequestException",
            "ValidationException",
            "ResourceNotFoundException",
            "InvalidParameterException",
            "InvalidPolicyDocument",
            "UnknownResourceException",
            "ResourceNotFoundException",
            "InvalidTagException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
        ]
    );
}
