//! A round trip: zonal's APIs describe resources, and `zonal import aws` makes the same resources of the descriptions.

use super::tools::{boto3, can_run_here, network, pushed};
use crate::harness::{Scratch, ZONAL, loaded};
use serde_json::{Map, Value, json};
use std::process::Command;

/// Leaves out what the lists of AWS do not have: times, and tokens of Profiles.
fn plain(mut resource: Value) -> Value {
    let without = |members: &mut Map<String, Value>| {
        members.retain(|member, _| !["created", "modified", "client_token"].contains(&member.as_str()));
    };
    if let Some(aws) = resource.get_mut("aws").and_then(Value::as_object_mut) {
        without(aws);
        for parts in aws.values_mut().filter_map(Value::as_object_mut) {
            parts.values_mut().filter_map(Value::as_object_mut).for_each(without);
        }
    }
    resource
}

#[test]
fn imports_what_the_api_describes_as_the_same_resources() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["private_hosted_zones"]["Z5"] = json!({
        "name": "shared.example", "vpc_ids": ["vpc-far"], "aws": {"owner_id": "111122223333"},
    });
    let server = pushed(manifest);
    let account = Scratch::new();
    let script = format!(
        "
import pathlib, urllib.request
folder = pathlib.Path('{}')
resolver, route53, profiles, ec2 = client('route53resolver'), client('route53'), client('route53profiles'), client('ec2')
names = resolver.create_firewall_domain_list(Name='bad', CreatorRequestId='1')['FirewallDomainList']['Id']
resolver.update_firewall_domains(FirewallDomainListId=names, Operation='ADD', Domains=['bad.example', '*.worse.example'])
group = resolver.create_firewall_rule_group(Name='base', CreatorRequestId='2')['FirewallRuleGroup']
resolver.create_firewall_rule(FirewallRuleGroupId=group['Id'], FirewallDomainListId=names, Priority=20, Name='bad', Action='BLOCK', BlockResponse='NODATA',
                              Qtype='A', CreatorRequestId='3')
resolver.create_firewall_rule(FirewallRuleGroupId=group['Id'], Priority=30, Name='tunnels', Action='ALERT', DnsThreatProtection='DNS_TUNNELING',
                              ConfidenceThreshold='HIGH', CreatorRequestId='4')
resolver.associate_firewall_rule_group(FirewallRuleGroupId=group['Id'], VpcId='vpc-app', Priority=101, Name='app', MutationProtection='ENABLED', CreatorRequestId='5')
probe = route53.create_health_check(CallerReference='1', HealthCheckConfig={{'Type': 'HTTP_STR_MATCH', 'IPAddress': '127.0.0.1', 'Port': 81, 'ResourcePath': '/x',
    'SearchString': 'ok', 'RequestInterval': 10, 'FailureThreshold': 4, 'Disabled': True, 'EnableSNI': True}})['HealthCheck']['Id']
route53.create_health_check(CallerReference='2', HealthCheckConfig={{'Type': 'CLOUDWATCH_METRIC', 'InsufficientDataHealthStatus': 'Unhealthy',
    'AlarmIdentifier': {{'Region': 'us-east-1', 'Name': 'alarm'}}}})
route53.create_health_check(CallerReference='3', HealthCheckConfig={{'Type': 'CALCULATED', 'ChildHealthChecks': [probe], 'HealthThreshold': 1}})
profile = profiles.create_profile(Name='base', ClientToken='1')['Profile']['Id']
profiles.associate_profile(ProfileId=profile, ResourceId='vpc-app', Name='app', Priority=300)
profiles.associate_resource_to_profile(ProfileId=profile, ResourceArn='arn:aws:route53:::hostedzone/Z5', Name='shared')
profiles.associate_resource_to_profile(ProfileId=profile, ResourceArn=group['Arn'], Name='rules', ResourceProperties='{{\"priority\": 102}}')

def write(folder, service, command, found, id=''):
    folder.mkdir(exist_ok=True)
    (folder / f'{{service}}-{{command}}{{id and \".\" + id}}.json').write_text(json.dumps(plain(found), default=lambda time: time.isoformat()))

for region in ['us-east-1', 'eu-west-1']:
    here, of = folder / region, lambda service: client(service, region=region)
    write(here, 'sts', 'get-caller-identity', of('sts').get_caller_identity())
    write(here, 'ec2', 'describe-vpcs', of('ec2').describe_vpcs())
    write(here, 'ec2', 'describe-subnets', of('ec2').describe_subnets())
here = folder / 'us-east-1'
write(here, 'route53resolver', 'list-firewall-domain-lists', resolver.list_firewall_domain_lists())
write(here, 'route53resolver', 'list-firewall-domains', resolver.list_firewall_domains(FirewallDomainListId=names), names)
write(here, 'route53resolver', 'list-firewall-rule-groups', resolver.list_firewall_rule_groups())
write(here, 'route53resolver', 'list-firewall-rules', resolver.list_firewall_rules(FirewallRuleGroupId=group['Id']), group['Id'])
write(here, 'route53resolver', 'list-firewall-rule-group-associations', resolver.list_firewall_rule_group_associations())
write(here, 'route53profiles', 'list-profiles', profiles.list_profiles())
write(here, 'route53profiles', 'list-profile-associations', profiles.list_profile_associations())
write(here, 'route53profiles', 'list-profile-resource-associations', profiles.list_profile_resource_associations(ProfileId=profile), profile)
there = folder / 'global'
write(there, 'route53', 'list-hosted-zones', route53.list_hosted_zones())
write(there, 'route53', 'list-health-checks', route53.list_health_checks())
for id in ['Z5']:
    write(there, 'route53', 'get-hosted-zone', route53.get_hosted_zone(Id=id), id)
    write(there, 'route53', 'list-resource-record-sets', route53.list_resource_record_sets(HostedZoneId=id), id)
show(json.load(urllib.request.urlopen(f'{{sys.argv[1]}}/v1/manifest')))
",
        account.path().join("account").display()
    );
    std::fs::create_dir(account.path().join("account")).unwrap();
    let described = boto3(&server, &script);
    let [from, to] = ["account", "zones"].map(|name| account.path().join(name));
    let output = Command::new(ZONAL).args(["import", "aws"]).arg(&from).arg("--out").arg(&to).output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let imported = loaded(&to).manifest;
    let mut compared = 0;
    for kind in ["firewall_domain_lists", "firewall_rule_groups", "health_checks", "profiles"] {
        for (id, expected) in described[kind].as_object().unwrap() {
            let found = imported.resource(kind, id).unwrap_or_else(|| panic!("{kind}/{id} is not imported: {report}"));
            let found: Value = serde_json::from_slice(&found.to_json()).unwrap();
            assert_eq!(plain(found), plain(expected.clone()), "{kind}/{id}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6, "{described}");
    let vpc: Value = serde_json::from_slice(&imported.resource("vpcs", "vpc-app").unwrap().to_json()).unwrap();
    let expected = &described["vpcs"]["vpc-app"];
    assert_eq!(vpc["profiles"], expected["profiles"]);
    assert_eq!(plain(vpc)["aws"]["profile_associations"], plain(expected.clone())["aws"]["profile_associations"]);
}
