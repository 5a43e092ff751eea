//! Route 53 Profiles by boto3: the VPC of a client gets and loses what a Profile has.

use super::tools::{boto3, can_run_here, codes, network, pushed};
use serde_json::json;

#[test]
fn dig_sees_each_change_of_profiles_that_boto3_makes() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["private_hosted_zones"]["Z5"] = json!({
        "name": "shared.example", "vpc_ids": ["vpc-far"], "aws": {"owner_id": "111122223333"},
        "records": [{"name": "a", "type": "A", "records": ["192.0.2.50"]}],
    });
    manifest["firewall_domain_lists"] = json!({"rslvr-fdl-1": {"domains": ["www.one.example"]}});
    manifest["firewall_rule_groups"] = json!({"rslvr-frg-1": {
        "rules": [{"name": "www", "priority": 1, "action": "BLOCK", "block_response": "NXDOMAIN", "firewall_domain_list_id": "rslvr-fdl-1"}],
    }});
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
profiles, resolver = client('route53profiles'), client('route53resolver')
zone, group = 'arn:aws:route53:::hostedzone/Z5', resolver.get_firewall_rule_group(FirewallRuleGroupId='rslvr-frg-1')['FirewallRuleGroup']['Arn']
seen = lambda: [dig('a.shared.example'), dig('www.one.example')]
made = profiles.create_profile(Name='base', ClientToken='1', Tags=[{'Key': 'k', 'Value': 'v'}])['Profile']
again = profiles.create_profile(Name='base', ClientToken='1')['Profile']
id = made['Id']
steps = [('new', seen())]
association = profiles.associate_profile(ProfileId=id, ResourceId='vpc-app', Name='app', Tags=[{'Key': 'a', 'Value': 'b'}])['ProfileAssociation']
steps.append(('empty', seen()))
shared = profiles.associate_resource_to_profile(ProfileId=id, ResourceArn=zone, Name='shared')['ProfileResourceAssociation']
steps.append(('with a zone', seen()))
blocked = profiles.associate_resource_to_profile(ProfileId=id, ResourceArn=group, Name='blocks', ResourceProperties='{\"priority\": 102}')['ProfileResourceAssociation']
steps.append(('with a rule group', seen()))
update = profiles.update_profile_resource_association(ProfileResourceAssociationId=blocked['Id'], ResourceProperties='{\"priority\": 103}', Name='block')['ProfileResourceAssociation']
listed = [found for page in profiles.get_paginator('list_profile_resource_associations').paginate(ProfileId=id, PaginationConfig={'PageSize': 1})
          for found in page['ProfileResourceAssociations']]
typed = profiles.list_profile_resource_associations(ProfileId=id, ResourceType='HOSTED_ZONE')['ProfileResourceAssociations']
second = profiles.create_profile(Name='second', ClientToken='2')['Profile']
behind = profiles.associate_profile(ProfileId=second['Id'], ResourceId='vpc-app', Name='behind')['ProfileAssociation']
moved = profiles.update_profile_association(ProfileAssociationId=behind['Id'], Priority=900, Name='last')['ProfileAssociation']
refusals = [
    refused(profiles.delete_profile, ProfileId=id),
    refused(profiles.get_profile, ProfileId='rp-no'),
    refused(profiles.associate_profile, ProfileId=id, ResourceId='vpc-app', Name='x'),
    refused(profiles.associate_profile, ProfileId=id, ResourceId='vpc-other', Name='x'),
    refused(profiles.update_profile_association, ProfileAssociationId=behind['Id'], Priority=100),
    refused(profiles.associate_resource_to_profile, ProfileId=id, ResourceArn=zone, Name='x'),
    refused(profiles.associate_resource_to_profile, ProfileId=id, ResourceArn='arn:aws:route53:::hostedzone/Z9', Name='x'),
    refused(profiles.associate_resource_to_profile, ProfileId=id, ResourceArn='arn:aws:s3:::bucket', Name='x'),
    refused(profiles.associate_resource_to_profile, ProfileId=second['Id'], ResourceArn=group, Name='x'),
    refused(profiles.list_profiles, NextToken='AAAA'),
    refused(client('route53profiles', account='444455556666').get_profile, ProfileId=id),
]
profiles.tag_resource(ResourceArn=made['Arn'], Tags={'x': 'y', 'z': ''})
profiles.untag_resource(ResourceArn=made['Arn'], TagKeys=['k', 'z'])
association_arn = made['Arn'].replace(':profile/' + id, ':profile-association/' + association['Id'])
profiles.tag_resource(ResourceArn=association_arn, Tags={'c': 'd'})
tags = [profiles.list_tags_for_resource(ResourceArn=arn)['Tags'] for arn in [made['Arn'], association_arn]]
gone = profiles.disassociate_resource_from_profile(ProfileId=id, ResourceArn=group)['ProfileResourceAssociation']
steps.append(('without the rule group', seen()))
same = [
    profiles.get_profile(ProfileId=id)['Profile'] == made,
    profiles.get_profile_association(ProfileAssociationId=association['Id'])['ProfileAssociation']['Name'] == 'app',
    profiles.get_profile_resource_association(ProfileResourceAssociationId=shared['Id'])['ProfileResourceAssociation'] == shared,
    profiles.list_profile_associations(ProfileId=second['Id'])['ProfileAssociations'] == [moved],
    len(profiles.list_profile_associations(ResourceId='vpc-app')['ProfileAssociations']) == 2,
    sorted(found['Name'] for found in profiles.list_profiles()['ProfileSummaries']) == ['base', 'second'],
]
left = profiles.disassociate_profile(ProfileId=id, ResourceId='vpc-app')['ProfileAssociation']
steps.append(('not associated', seen()))
deleted = profiles.delete_profile(ProfileId=id)['Profile']['Status']
show({
    'made': made, 'again': again['Id'] == id, 'association': association, 'shared': shared, 'blocked': blocked, 'update': update, 'listed': len(listed),
    'typed': typed == [shared], 'moved': moved, 'behind': behind['Priority'], 'steps': steps, 'tags': tags, 'same': same,
    'gone': [gone['Status'], left['Status'], deleted],
    'refused': refusals + [
        refused(profiles.get_profile_association, ProfileAssociationId=association['Id']),
        refused(profiles.disassociate_profile, ProfileId=id, ResourceId='vpc-app'),
        refused(profiles.disassociate_resource_from_profile, ProfileId=second['Id'], ResourceArn=zone),
    ],
})
",
    );
    let (www, none) = ("NOERROR 192.0.2.1 192.0.2.2", "REFUSED");
    let shared = "NOERROR 192.0.2.50";
    assert_eq!(
        found["steps"],
        json!([
            ["new", [none, www]],
            ["empty", [none, www]],
            ["with a zone", [shared, www]],
            ["with a rule group", [shared, "NXDOMAIN"]],
            ["without the rule group", [shared, www]],
            ["not associated", [none, www]],
        ])
    );
    assert!(found["made"]["Id"].as_str().unwrap().starts_with("rp-"), "{}", found["made"]);
    assert_eq!((&found["again"], &found["typed"], &found["listed"]), (&json!(true), &json!(true), &json!(2)));
    assert_eq!((&found["association"]["Status"], &found["association"]["Priority"]), (&json!("COMPLETE"), &json!(100)));
    assert_eq!(found["shared"]["ResourceArn"], "arn:aws:route53:::hostedzone/Z5");
    assert_eq!(found["blocked"]["ResourceProperties"], "{\"priority\":102}");
    assert_eq!(
        (&found["update"]["ResourceProperties"], &found["update"]["Name"]),
        (&json!("{\"priority\":103}"), &json!("block"))
    );
    assert_eq!(
        (&found["behind"], &found["moved"]["Priority"], &found["moved"]["Name"]),
        (&json!(101), &json!(900), &json!("last"))
    );
    assert_eq!(found["tags"], json!([{"x": "y"}, {"a": "b", "c": "d"}]));
    assert_eq!(found["same"], json!([true, true, true, true, true, true]));
    assert_eq!(found["gone"], json!(["DELETED", "DELETED", "DELETED"]));
    assert_eq!(
        codes(&found),
        [
            "ConflictException",
            "ResourceNotFoundException",
            "ResourceExistsException",
            "ResourceNotFoundException",
            "ValidationException",
            "ConflictException",
            "ResourceNotFoundException",
            "ValidationException",
            "ValidationException",
            "InvalidNextTokenException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
        ],
        "{}",
        found["refused"]
    );
}
