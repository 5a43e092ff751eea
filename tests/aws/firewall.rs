//! DNS Firewall by boto3: each step is seen by the first query after the response.

use super::tools::{aws_json, boto3, can_run_here, codes, dig, network, pushed, pushed_with};
use crate::firewall_lists::Feed;
use serde_json::{Value, json};

#[test]
fn dig_sees_each_change_of_the_firewall_that_boto3_makes() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
resolver = client('route53resolver')
www = lambda: dig('www.one.example')
steps = [('before', www())]
bad = resolver.create_firewall_domain_list(Name='bad', CreatorRequestId='1', Tags=[{'Key': 'k', 'Value': 'v'}])['FirewallDomainList']
again = resolver.create_firewall_domain_list(Name='bad', CreatorRequestId='1')['FirewallDomainList']
resolver.update_firewall_domains(FirewallDomainListId=bad['Id'], Operation='ADD', Domains=['www.one.example', '*.deep.example', 'WWW.one.example.'])
group = resolver.create_firewall_rule_group(Name='base', CreatorRequestId='2')['FirewallRuleGroup']
rule = resolver.create_firewall_rule(FirewallRuleGroupId=group['Id'], FirewallDomainListId=bad['Id'], Priority=20, Name='bad names',
                                     Action='BLOCK', BlockResponse='NXDOMAIN', CreatorRequestId='3')['FirewallRule']
steps.append(('not associated', www()))
association = resolver.associate_firewall_rule_group(FirewallRuleGroupId=group['Id'], VpcId='vpc-app', Priority=101, Name='app',
                                                     CreatorRequestId='4')['FirewallRuleGroupAssociation']
steps.append(('associated', www()))
repeated = [
    resolver.create_firewall_rule(FirewallRuleGroupId=group['Id'], FirewallDomainListId=bad['Id'], Priority=20, Name='bad names',
                                  Action='BLOCK', BlockResponse='NXDOMAIN', CreatorRequestId='3')['FirewallRule'] == rule,
    resolver.associate_firewall_rule_group(FirewallRuleGroupId=group['Id'], VpcId='vpc-app', Priority=101, Name='app',
                                           CreatorRequestId='4')['FirewallRuleGroupAssociation'] == association,
]
key = {'FirewallRuleGroupId': group['Id'], 'FirewallDomainListId': bad['Id']}
updated = resolver.update_firewall_rule(**key, BlockResponse='OVERRIDE', BlockOverrideDomain='walled.one.example', BlockOverrideDnsType='CNAME',
                                        BlockOverrideTtl=7, Name='bad')['FirewallRule']
steps.append(('override', www()))
resolver.update_firewall_rule(**key, BlockResponse='NODATA')
steps.append(('no data', www()))
resolver.update_firewall_domains(FirewallDomainListId=bad['Id'], Operation='REMOVE', Domains=['www.one.example'])
steps.append(('removed', www()))
resolver.update_firewall_domains(FirewallDomainListId=bad['Id'], Operation='REPLACE', Domains=['*.one.example'])
steps.append(('replaced', www()))
good = resolver.create_firewall_domain_list(Name='good', CreatorRequestId='5')['FirewallDomainList']
resolver.update_firewall_domains(FirewallDomainListId=good['Id'], Operation='ADD', Domains=['www.one.example'])
batch = resolver.batch_create_firewall_rule(CreateFirewallRuleEntries=[
    {'CreatorRequestId': '6', 'FirewallRuleGroupId': group['Id'], 'FirewallDomainListId': good['Id'], 'Priority': 10, 'Name': 'good', 'Action': 'ALLOW', 'Qtype': 'A'},
    {'CreatorRequestId': '7', 'FirewallRuleGroupId': group['Id'], 'FirewallDomainListId': good['Id'], 'Priority': 20, 'Name': 'twice', 'Action': 'ALLOW', 'Qtype': 'AAAA'},
])
steps += [('allowed', www()), ('another type', dig('www.one.example', 'TXT'))]
rules = [rule for page in resolver.get_paginator('list_firewall_rules').paginate(FirewallRuleGroupId=group['Id'], PaginationConfig={'PageSize': 1})
         for rule in page['FirewallRules']]
alerts = resolver.list_firewall_rules(FirewallRuleGroupId=group['Id'], Action='BLOCK')['FirewallRules']
resolver.delete_firewall_rule(FirewallRuleGroupId=group['Id'], FirewallDomainListId=good['Id'], Qtype='A')
steps.append(('not allowed', www()))
resolver.update_firewall_rule_group_association(FirewallRuleGroupAssociationId=association['Id'], MutationProtection='ENABLED', Name='renamed')
protected = [
    refused(resolver.update_firewall_rule_group_association, FirewallRuleGroupAssociationId=association['Id'], Priority=102),
    refused(resolver.disassociate_firewall_rule_group, FirewallRuleGroupAssociationId=association['Id']),
]
resolver.update_firewall_rule_group_association(FirewallRuleGroupAssociationId=association['Id'], MutationProtection='DISABLED')
moved = resolver.update_firewall_rule_group_association(FirewallRuleGroupAssociationId=association['Id'], Priority=102)['FirewallRuleGroupAssociation']
show({
    'steps': steps, 'bad': bad, 'again': again['Id'] == bad['Id'], 'group': group, 'rule': rule, 'updated': updated, 'rules': [rule['Name'] for rule in rules],
    'blocks': [rule['Name'] for rule in alerts], 'batch': plain(batch), 'association': association, 'moved': moved,
    'same': repeated + [
        resolver.get_firewall_rule_group_association(FirewallRuleGroupAssociationId=association['Id'])['FirewallRuleGroupAssociation'] == moved,
        resolver.list_firewall_rule_group_associations(VpcId='vpc-app')['FirewallRuleGroupAssociations'] == [moved],
        resolver.list_firewall_rule_group_associations(Priority=9)['FirewallRuleGroupAssociations'] == [],
    ],
    'lists': sorted(found['Name'] for page in resolver.get_paginator('list_firewall_domain_lists').paginate(PaginationConfig={'PageSize': 1})
                    for found in page['FirewallDomainLists']),
    'groups': [found['Id'] for found in resolver.list_firewall_rule_groups()['FirewallRuleGroups']] == [group['Id']],
    'count': resolver.get_firewall_domain_list(FirewallDomainListId=bad['Id'])['FirewallDomainList']['DomainCount'],
    'domains': resolver.list_firewall_domains(FirewallDomainListId=bad['Id'])['Domains'],
    'tags': resolver.list_tags_for_resource(ResourceArn=bad['Arn'])['Tags'],
    'refused': protected + [
        refused(resolver.delete_firewall_domain_list, FirewallDomainListId=bad['Id']),
        refused(resolver.delete_firewall_rule_group, FirewallRuleGroupId=group['Id']),
        refused(resolver.get_firewall_domain_list, FirewallDomainListId='rslvr-fdl-no'),
        refused(resolver.update_firewall_domains, FirewallDomainListId=bad['Id'], Operation='ADD', Domains=['*bad.example']),
        refused(resolver.create_firewall_domain_list, Name='other', CreatorRequestId='1'),
        refused(resolver.create_firewall_rule, **key, Priority=30, Name='x', Action='BLOCK', CreatorRequestId='8'),
        refused(resolver.create_firewall_rule, **key, Priority=30, Name='x', Action='ALLOW', BlockResponse='NODATA', CreatorRequestId='8'),
        refused(resolver.create_firewall_rule, **key, Priority=30, Name='x', Action='ALLOW', CreatorRequestId='8'),
        refused(resolver.create_firewall_rule, FirewallRuleGroupId=group['Id'], FirewallDomainListId='rslvr-fdl-no', Priority=30, Name='x', Action='ALLOW', CreatorRequestId='8'),
        refused(resolver.associate_firewall_rule_group, FirewallRuleGroupId=group['Id'], VpcId='vpc-app', Priority=1, Name='x', CreatorRequestId='9'),
        refused(resolver.associate_firewall_rule_group, FirewallRuleGroupId=group['Id'], VpcId='vpc-other', Priority=1, Name='x', CreatorRequestId='9'),
        refused(resolver.import_firewall_domains, FirewallDomainListId=bad['Id'], Operation='REPLACE', DomainFileUrl='s3://bucket/key'),
        refused(client('route53resolver', account='444455556666').get_firewall_rule_group, FirewallRuleGroupId=group['Id']),
        refused(client('route53resolver', region='eu-west-1').get_firewall_rule_group, FirewallRuleGroupId=group['Id']),
    ],
})
",
    );
    let answers = "NOERROR 192.0.2.1 192.0.2.2";
    assert_eq!(
        found["steps"],
        json!([
            ["before", answers],
            ["not associated", answers],
            ["associated", "NXDOMAIN"],
            ["override", "NOERROR walled.one.example."],
            ["no data", "NOERROR"],
            ["removed", answers],
            ["replaced", "NOERROR"],
            ["allowed", answers],
            ["another type", "NOERROR"],
            ["not allowed", "NOERROR"],
        ])
    );
    let id = |value: &Value| value["Id"].as_str().unwrap().to_string();
    assert!(id(&found["bad"]).starts_with("rslvr-fdl-") && id(&found["group"]).starts_with("rslvr-frg-"), "{found}");
    assert_eq!(id(&found["bad"]).len(), "rslvr-fdl-".len() + 17);
    assert_eq!((&found["bad"]["Status"], &found["bad"]["DomainCount"]), (&json!("COMPLETE"), &json!(0)));
    assert_eq!((&found["again"], &found["same"]), (&json!(true), &json!([true, true, true, true, true])));
    assert_eq!(found["rule"]["BlockResponse"], "NXDOMAIN");
    let updated = &found["updated"];
    assert_eq!(
        (&updated["BlockOverrideDomain"], &updated["BlockOverrideTtl"], &updated["Name"], &updated["CreatorRequestId"]),
        (&json!("walled.one.example"), &json!(7), &json!("bad"), &json!("3"))
    );
    assert_eq!((&found["rules"], &found["blocks"]), (&json!(["good", "bad"]), &json!(["bad"])));
    let batch = &found["batch"];
    assert_eq!(batch["CreatedFirewallRules"].as_array().unwrap().len(), 1);
    assert_eq!(batch["CreateErrors"][0]["Code"], "ValidationException");
    assert!(batch["CreateErrors"][0]["Message"].as_str().unwrap().contains("has the priority 20 too"), "{batch}");
    assert_eq!((&found["association"]["Status"], &found["association"]["Name"]), (&json!("COMPLETE"), &json!("app")));
    assert_eq!((&found["moved"]["Priority"], &found["moved"]["Name"]), (&json!(102), &json!("renamed")));
    assert_eq!((&found["lists"], &found["groups"]), (&json!(["bad", "good"]), &json!(true)));
    assert_eq!((&found["count"], &found["domains"]), (&json!(1), &json!(["*.one.example."])));
    assert_eq!(found["tags"], json!([{"Key": "k", "Value": "v"}]));
    assert_eq!(
        codes(&found),
        [
            "ConflictException",
            "ConflictException",
            "ConflictException",
            "ConflictException",
            "ResourceNotFoundException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ResourceNotFoundException",
            "ConflictException",
            "ResourceNotFoundException",
            "ValidationException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
        ],
        "{}",
        found["refused"]
    );
    // What is created is deleted in the order of AWS: the association, the rules, the group, the lists.
    let reply = dig(&server, "www.one.example", "A");
    assert_eq!((reply.status.as_str(), &reply.ede[..]), ("NOERROR", &[15][..]), "blocked, with the reason");
    let deleted = boto3(
        &server,
        "
resolver = client('route53resolver')
group = resolver.list_firewall_rule_groups()['FirewallRuleGroups'][0]['Id']
association, arn = [resolver.list_firewall_rule_group_associations()['FirewallRuleGroupAssociations'][0][name] for name in ['Id', 'Arn']]
resolver.tag_resource(ResourceArn=arn, Tags=[{'Key': 'a', 'Value': 'b'}, {'Key': 'c', 'Value': 'd'}])
resolver.untag_resource(ResourceArn=arn, TagKeys=['c'])
tags = resolver.list_tags_for_resource(ResourceArn=arn)['Tags']
gone = resolver.disassociate_firewall_rule_group(FirewallRuleGroupAssociationId=association)['FirewallRuleGroupAssociation']
seen = dig('www.one.example')
rules = [{'FirewallRuleGroupId': group, 'FirewallDomainListId': rule['FirewallDomainListId']} for rule in
         resolver.list_firewall_rules(FirewallRuleGroupId=group)['FirewallRules']]
batch = resolver.batch_delete_firewall_rule(DeleteFirewallRuleEntries=rules + rules)
resolver.delete_firewall_rule_group(FirewallRuleGroupId=group)
for found in resolver.list_firewall_domain_lists()['FirewallDomainLists']:
    resolver.delete_firewall_domain_list(FirewallDomainListId=found['Id'])
show({
    'tags': tags, 'gone': gone['Status'], 'seen': seen, 'batch': [len(batch['DeletedFirewallRules']), len(batch['DeleteErrors'])],
    'left': resolver.list_firewall_domain_lists()['FirewallDomainLists'],
    'refused': [
        refused(resolver.get_firewall_rule_group_association, FirewallRuleGroupAssociationId=association),
        refused(resolver.get_firewall_rule_group, FirewallRuleGroupId=group),
    ],
})
",
    );
    assert_eq!((&deleted["gone"], &deleted["seen"]), (&json!("DELETING"), &json!(answers)));
    assert_eq!(deleted["tags"], json!([{"Key": "a", "Value": "b"}]));
    assert_eq!((&deleted["batch"], &deleted["left"]), (&json!([1, 1]), &json!([])));
    assert_eq!(codes(&deleted), ["ResourceNotFoundException", "ResourceNotFoundException"]);
}

#[test]
fn boto3_reads_and_writes_the_fail_mode_detectors_and_policies() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["firewall_domain_lists"] = json!({"rslvr-fdl-1": {"source": {"url": "https://lists.example/a"}}});
    manifest["firewall_rule_groups"] = json!({"rslvr-frg-1": {
        "rules": [{"name": "feed", "priority": 1, "action": "BLOCK", "block_response": "NODATA", "firewall_domain_list_id": "rslvr-fdl-1"}],
        "vpc_associations": [{"vpc_id": "vpc-app", "priority": 5}],
    }});
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
resolver = client('route53resolver')
arn = resolver.get_firewall_rule_group(FirewallRuleGroupId='rslvr-frg-1')['FirewallRuleGroup']['Arn']
fails = dig('www.one.example')
config = lambda: resolver.get_firewall_config(ResourceId='vpc-app')['FirewallConfig']['FirewallFailOpen']
modes = [config()]
resolver.update_firewall_config(ResourceId='vpc-app', FirewallFailOpen='ENABLED')
modes.append(config())
opens = dig('www.one.example')
resolver.update_firewall_config(ResourceId='vpc-app', FirewallFailOpen='USE_LOCAL_RESOURCE_SETTING')
modes.append(config())
tunnels = resolver.create_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', Priority=2, Name='tunnels', Action='ALERT', DnsThreatProtection='DNS_TUNNELING',
                                        ConfidenceThreshold='MEDIUM', CreatorRequestId='1')['FirewallRule']
protection = tunnels['FirewallThreatProtectionId']
renamed = resolver.update_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', FirewallThreatProtectionId=protection, Name='tunnel',
                                        ConfidenceThreshold='HIGH')['FirewallRule']
by_type = lambda value, threshold='LOW': {'DnsThreatProtection': {'Value': value, 'ConfidenceThreshold': threshold}}
generated = resolver.create_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', Priority=9, Name='generated', Action='ALERT', FirewallRuleType=by_type('DGA'),
                                          CreatorRequestId='9')['FirewallRule']
strict = resolver.update_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', FirewallThreatProtectionId=generated['FirewallThreatProtectionId'],
                                       FirewallRuleType=by_type('DGA', 'HIGH'))['FirewallRule']
batch = resolver.batch_create_firewall_rule(CreateFirewallRuleEntries=[
    {'CreatorRequestId': '10', 'FirewallRuleGroupId': 'rslvr-frg-1', 'Priority': 10, 'Name': 'in a batch', 'Action': 'ALERT', 'FirewallRuleType': by_type('DNS_TUNNELING')},
    {'CreatorRequestId': '11', 'FirewallRuleGroupId': 'rslvr-frg-1', 'Priority': 11, 'Name': 'both', 'Action': 'ALERT', 'FirewallRuleType': by_type('DGA'),
     'FirewallDomainListId': 'rslvr-fdl-1'},
])
for rule in [generated, batch['CreatedFirewallRules'][0]]:
    resolver.delete_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', FirewallThreatProtectionId=rule['FirewallThreatProtectionId'])
values = lambda **given: [found['Value'] for page in resolver.get_paginator('list_firewall_rule_types').paginate(PaginationConfig={'PageSize': 1}, **given)
                          for found in page['FirewallRuleTypes']]
missing = refused(resolver.get_firewall_rule_group_policy, Arn=arn)
resolver.put_firewall_rule_group_policy(Arn=arn, FirewallRuleGroupPolicy='{\"Version\": \"2012-10-17\"}')
deleted = resolver.delete_firewall_rule(FirewallRuleGroupId='rslvr-frg-1', FirewallThreatProtectionId=protection)['FirewallRule']
show({
    'list': resolver.get_firewall_domain_list(FirewallDomainListId='rslvr-fdl-1')['FirewallDomainList'],
    'rules': resolver.list_firewall_rules(FirewallRuleGroupId='rslvr-frg-1')['FirewallRules'],
    'queries': [fails, opens], 'modes': modes, 'tunnels': tunnels, 'renamed': renamed, 'deleted': deleted['Name'],
    'by type': [generated['DnsThreatProtection'], generated['FirewallRuleType'], strict['ConfidenceThreshold'], batch['CreateErrors'][0]['Message']],
    'types': [values(), values(RuleType='DnsThreatProtection'), values(RuleType='PartnerThreatProtection')],
    'configs': [found['ResourceId'] for found in resolver.list_firewall_configs(MaxResults=5)['FirewallConfigs']],
    'policy': resolver.get_firewall_rule_group_policy(Arn=arn)['FirewallRuleGroupPolicy'],
    'refused': [
        missing,
        refused(resolver.get_firewall_config, ResourceId='vpc-other'),
        refused(resolver.put_firewall_rule_group_policy, Arn=arn, FirewallRuleGroupPolicy='none'),
        refused(resolver.update_firewall_domains, FirewallDomainListId='rslvr-fdl-1', Operation='ADD', Domains=['a.example']),
        refused(resolver.create_firewall_rule, FirewallRuleGroupId='rslvr-frg-1', Priority=3, Name='words', Action='ALERT', DnsThreatProtection='DICTIONARY_DGA',
                ConfidenceThreshold='LOW', CreatorRequestId='2'),
        refused(resolver.create_firewall_rule, FirewallRuleGroupId='rslvr-frg-1', Priority=3, Name='partner', Action='ALERT',
                FirewallRuleType={'PartnerThreatProtection': {'Partner': 'p'}}, CreatorRequestId='2'),
        refused(resolver.create_firewall_rule, FirewallRuleGroupId='rslvr-frg-1', Priority=3, Name='words', Action='ALERT',
                FirewallRuleType=by_type('WORDS'), CreatorRequestId='2'),
        refused(resolver.list_firewall_rule_types, RuleType='Nothing'),
        refused(resolver.list_firewall_rule_domains, FirewallRuleGroupId='rslvr-frg-1', FirewallThreatProtectionId=protection),
    ],
})
",
    );
    assert_eq!(found["list"]["Status"], "IMPORTING", "a list that zonal has not read");
    assert_eq!(found["queries"], json!(["SERVFAIL", "NOERROR 192.0.2.1 192.0.2.2"]));
    assert_eq!(
        (&found["modes"], &found["configs"]),
        (&json!(["DISABLED", "ENABLED", "DISABLED"]), &json!(["vpc-app"]))
    );
    assert_eq!(
        (&found["tunnels"]["ConfidenceThreshold"], &found["renamed"]["ConfidenceThreshold"], &found["deleted"]),
        (&json!("MEDIUM"), &json!("HIGH"), &json!("tunnel"))
    );
    assert_eq!(found["tunnels"]["FirewallThreatProtectionId"], found["renamed"]["FirewallThreatProtectionId"]);
    let by_type = &found["by type"];
    assert_eq!(by_type[0], "DGA");
    assert_eq!(by_type[1], json!({"DnsThreatProtection": {"Value": "DGA", "ConfidenceThreshold": "LOW"}}));
    assert_eq!(by_type[2], "HIGH");
    assert!(by_type[3].as_str().unwrap().contains("a request with FirewallDomainListId cannot have it"), "{by_type}");
    assert_eq!(found["types"], json!([["DGA", "DNS_TUNNELING"], ["DGA", "DNS_TUNNELING"], []]));
    assert_eq!(found["rules"].as_array().unwrap().len(), 1);
    assert_eq!(found["policy"], "{\"Version\": \"2012-10-17\"}");
    assert_eq!(
        codes(&found),
        [
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "UnsupportedOperation",
        ],
        "{}",
        found["refused"]
    );
}

#[test]
fn imports_the_names_of_a_file_once_and_keeps_the_list_if_that_fails() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["firewall_domain_lists"] = json!({"rslvr-fdl-1": {
        "domains": ["www.one.example"], "aws": {"owner_id": "111122223333", "region": "us-east-1"},
    }});
    manifest["firewall_rule_groups"] = json!({"rslvr-frg-1": {
        "rules": [{"name": "bad", "priority": 1, "action": "BLOCK", "block_response": "NXDOMAIN", "firewall_domain_list_id": "rslvr-fdl-1"}],
        "vpc_associations": [{"vpc_id": "vpc-app", "priority": 5}],
    }});
    let feed = Feed::start();
    let server = pushed_with(manifest, "firewall: {allow_sources: [127.0.0.1]}\n");
    let run = |script: &str| {
        let script = format!(
            "
resolver = client('route53resolver')
domains = lambda: resolver.list_firewall_domains(FirewallDomainListId='rslvr-fdl-1')['Domains']
url = '{}'
given = dict(FirewallDomainListId='rslvr-fdl-1', Operation='REPLACE', DomainFileUrl=url)
{script}",
            feed.url()
        );
        boto3(&server, &script)
    };
    assert_eq!(dig(&server, "www.one.example", "A").status, "NXDOMAIN");
    feed.send_list("# a list\nother.example\n*.deep.example\n");
    let imported = run("
done = plain(resolver.import_firewall_domains(**given))
seen, names = dig('www.one.example'), domains()
resolver.update_firewall_domains(FirewallDomainListId='rslvr-fdl-1', Operation='ADD', Domains=['www.one.example'])
found = resolver.get_firewall_domain_list(FirewallDomainListId='rslvr-fdl-1')['FirewallDomainList']
show({'done': done, 'seen': seen, 'names': names, 'count': found['DomainCount'], 'status': found['Status'], 'later': dig('www.one.example')})
");
    assert_eq!(imported["done"], json!({"Id": "rslvr-fdl-1", "Name": "rslvr-fdl-1", "Status": "COMPLETE"}));
    assert_eq!(imported["seen"], "NOERROR 192.0.2.1 192.0.2.2");
    assert_eq!(imported["names"], json!(["other.example.", "*.deep.example."]));
    assert_eq!((&imported["count"], &imported["status"]), (&json!(3), &json!("COMPLETE")));
    assert_eq!(imported["later"], "NXDOMAIN", "the list is like all others");
    assert_eq!(feed.requests(), 1);

    let unchanged = json!(["other.example.", "*.deep.example.", "www.one.example."]);
    for (head, body, reason) in [
        ("503 Service Unavailable", "", "status 503"),
        ("304 Not Modified", "", "status 304"),
        ("200 OK", "good.example\nsecret secret..\n", "line 2 is not a name"),
        ("200 OK", "<html>\n", "HTML"),
        ("200 OK\nContent-Length: 100000000", "", "more than 16 MiB"),
    ] {
        feed.send(head, body);
        let found = run("show({'refused': [refused(resolver.import_firewall_domains, **given)], 'names': domains()})");
        assert_eq!(codes(&found), ["ValidationException"]);
        let text = found["refused"][0][1].as_str().unwrap();
        assert!(text.contains(reason) && !text.contains("secret"), "{reason}: {text}");
        assert_eq!(found["names"], unchanged);
    }
    let requests = feed.requests();
    let found = run("
elsewhere = lambda **changes: refused(resolver.import_firewall_domains, **{**given, **changes})
show({'refused': [
    elsewhere(DomainFileUrl='s3://bucket/key'),
    elsewhere(DomainFileUrl=url.replace('127.0.0.1', '127.0.0.2')),
    elsewhere(DomainFileUrl='ftp://127.0.0.1/list.txt'),
], 'names': domains()})
");
    assert_eq!(codes(&found), ["ValidationException"; 3]);
    for (at, part) in ["does not read from S3", "does not allow 127.0.0.2", "neither an https nor an http URL"]
        .into_iter()
        .enumerate()
    {
        assert!(found["refused"][at][1].as_str().unwrap().contains(part), "{part}: {found}");
    }
    assert_eq!((&found["names"], feed.requests()), (&unchanged, requests));
    feed.send_list("other.example\n");
    let found = run("show({'refused': [
    refused(resolver.import_firewall_domains, **{**given, 'FirewallDomainListId': 'rslvr-fdl-no'}),
    refused(client('route53resolver', region='eu-west-1').import_firewall_domains, **given),
]})");
    assert_eq!(codes(&found), ["ResourceNotFoundException"; 2]);
}

#[test]
fn the_aws_cli_blocks_a_name_and_lists_profiles_and_managed_resources() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let resolver = |words: &[&str], query: &str| {
        let words = [&["route53resolver"][..], words, &["--query", query]].concat();
        aws_json(&server, &words).as_str().unwrap_or_default().to_string()
    };
    let list = resolver(&["create-firewall-domain-list", "--name", "bad"], "FirewallDomainList.Id");
    let words = [
        "update-firewall-domains",
        "--firewall-domain-list-id",
        &list,
        "--operation",
        "ADD",
        "--domains",
        "www.one.example",
    ];
    assert_eq!(resolver(&words, "Status"), "COMPLETE");
    let group = resolver(&["create-firewall-rule-group", "--name", "base"], "FirewallRuleGroup.Id");
    let words = [
        "create-firewall-rule",
        "--firewall-rule-group-id",
        &group,
        "--firewall-domain-list-id",
        &list,
        "--priority",
        "1",
        "--name",
        "bad",
        "--action",
        "BLOCK",
        "--block-response",
        "NXDOMAIN",
    ];
    assert_eq!(resolver(&words, "FirewallRule.Action"), "BLOCK");
    let words = [
        "associate-firewall-rule-group",
        "--firewall-rule-group-id",
        &group,
        "--vpc-id",
        "vpc-app",
        "--priority",
        "101",
        "--name",
        "app",
    ];
    assert_eq!(resolver(&words, "FirewallRuleGroupAssociation.Status"), "COMPLETE");
    assert_eq!(dig(&server, "www.one.example", "A").status, "NXDOMAIN");
    let made = aws_json(&server, &["route53profiles", "create-profile", "--name", "base", "--query", "Profile.Status"]);
    let profiles = aws_json(&server, &["route53profiles", "list-profiles", "--query", "ProfileSummaries[].Name"]);
    assert_eq!((made, profiles), (json!("COMPLETE"), json!(["base"])));
    let resources = aws_json(&server, &["arc-zonal-shift", "list-managed-resources", "--query", "items[].name"]);
    assert_eq!(resources, json!(["vpce-1"]));
}
