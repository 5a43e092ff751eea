//! Changes of hosted zones by boto3 and the AWS CLI, which DNS clients see at once.

use super::tools::{answer, aws, aws_json, boto3, can_run_here, dig, network, pushed};
use serde_json::{Value, json};

#[test]
fn dig_sees_each_change_that_boto3_makes() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let status = |name: &str| dig(&server, name, "A").status;
    let created = boto3(
        &server,
        "
route53 = client('route53')
made = route53.create_hosted_zone(Name='New.Example', CallerReference='1', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'},
                                  HostedZoneConfig={'Comment': 'made'})
route53.get_waiter('resource_record_sets_changed').wait(Id=made['ChangeInfo']['Id'])
show({
    'made': plain(made),
    'refused': [
        refused(route53.create_hosted_zone, Name='new.example.', CallerReference='1'),
        refused(route53.create_hosted_zone, Name='new.example', CallerReference='2', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}),
        refused(route53.create_hosted_zone, Name='a..b', CallerReference='3'),
        refused(route53.create_hosted_zone, Name='x.example', CallerReference='4', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-no'}),
        refused(route53.create_hosted_zone, Name='x.example', CallerReference='4', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-other'}),
        refused(route53.create_hosted_zone, Name='x.example', CallerReference='4', DelegationSetId='N1'),
    ],
})
",
    );
    let zone = created["made"]["HostedZone"]["Id"].as_str().unwrap().to_string();
    assert_eq!(created["made"]["HostedZone"]["Name"], "new.example.");
    assert_eq!(created["made"]["ChangeInfo"]["Status"], "INSYNC");
    let codes = |found: &Value| -> Vec<String> {
        let errors = found["refused"].as_array().unwrap().iter();
        errors.filter_map(|error| error[0].as_str().map(str::to_string)).collect()
    };
    assert_eq!(
        codes(&created),
        [
            "HostedZoneAlreadyExists",
            "ConflictingDomainExists",
            "InvalidDomainName",
            "InvalidVPCId",
            "NotAuthorizedException",
            "NoSuchDelegationSet",
        ]
    );
    assert_eq!(status("new.example"), "NOERROR");
    assert_eq!(answer(&server, "new.example", "SOA").len(), 1);

    // One change at a time.
    let change = |action: &str, set: &str| {
        let script = format!(
            "
set = {set}
change = {{'Changes': [{{'Action': '{action}', 'ResourceRecordSet': set}}]}}
route53 = client('route53')
try:
    info = route53.change_resource_record_sets(HostedZoneId='{zone}', ChangeBatch=change)['ChangeInfo']
    show(info['Status'])
except ClientError as error:
    show([error.response['Error']['Code'], error.response['Error']['Message']])
"
        );
        boto3(&server, &script)
    };
    let a = |name: &str, address: &str| {
        format!("{{'Name': '{name}', 'Type': 'A', 'TTL': 60, 'ResourceRecords': [{{'Value': '{address}'}}]}}")
    };
    assert_eq!(status("www.new.example"), "NXDOMAIN");
    assert_eq!(change("CREATE", &a("www.new.example", "192.0.2.7")), "INSYNC");
    assert_eq!(answer(&server, "www.new.example", "A"), ["www.new.example. 60 A 192.0.2.7"]);
    assert_eq!(change("UPSERT", &a("WWW.new.example.", "192.0.2.8")), "INSYNC");
    assert_eq!(answer(&server, "www.new.example", "A"), ["www.new.example. 60 A 192.0.2.8"]);
    assert_eq!(change("UPSERT", &a("\\\\052.wild.new.example", "192.0.2.9")), "INSYNC");
    assert_eq!(answer(&server, "any.wild.new.example", "A"), ["any.wild.new.example. 60 A 192.0.2.9"]);
    let text =
        r#"{'Name': 't.new.example', 'Type': 'TXT', 'TTL': 1, 'ResourceRecords': [{'Value': '"a\\052" "b c"'}]}"#;
    assert_eq!(change("CREATE", text), "INSYNC");
    assert_eq!(answer(&server, "t.new.example", "TXT"), [r#"t.new.example. 1 TXT "a*" "b c""#]);
    let alias = format!(
        "{{'Name': 'alias.new.example', 'Type': 'A', 'AliasTarget': {{'HostedZoneId': '{}', 'DNSName': 'www.new.example', \
         'EvaluateTargetHealth': False}}}}",
        zone.trim_start_matches("/hostedzone/")
    );
    assert_eq!(change("CREATE", &alias), "INSYNC");
    assert_eq!(answer(&server, "alias.new.example", "A"), ["alias.new.example. 60 A 192.0.2.8"]);
    for (action, set, code, text) in [
        ("CREATE", a("www.new.example", "192.0.2.1"), "InvalidChangeBatch", "it already exists"),
        ("DELETE", a("www.new.example", "192.0.2.1"), "InvalidChangeBatch", "do not match"),
        ("DELETE", a("no.new.example", "192.0.2.1"), "InvalidChangeBatch", "it was not found"),
        ("CREATE", a("www.other.example", "192.0.2.1"), "InvalidChangeBatch", "is not permitted in zone new.example."),
        ("CREATE", a("x.new.example", "300.0.2.1"), "InvalidChangeBatch", "300.0.2.1"),
        ("DELETE", a("new.example", "192.0.2.1").replace("'A'", "'NS'"), "InvalidChangeBatch", "at least one NS record"),
        ("DELETE", a("new.example", "192.0.2.1").replace("'A'", "'SOA'"), "InvalidChangeBatch", "exactly one SOA record"),
        ("CREATE", a("new.example", "ns.other.example.").replace("'A'", "'NS'"), "InvalidChangeBatch", "it already exists"),
        ("CREATE", a("x.new.example", "text").replace("'A'", "'TXT'"), "InvalidChangeBatch", "should be enclosed in quotation marks"),
        ("CREATE", a("x.new.example", "192.0.2.1").replace("[{", "[{'Value': '192.0.2.1'}, {"), "InvalidChangeBatch", "Duplicate Resource Record: '192.0.2.1'"),
        ("CREATE", a("x.new.example", "192.0.2.1").replace("'TTL': 60, ", ""), "InvalidInput", "found none in Change with"),
        ("UPSERT", alias.replace("'Type'", "'TTL': 60, 'Type'"), "InvalidInput", "found more than one in Change with"),
        ("UPSERT", a("www.new.example", "192.0.2.1").replace("'TTL'", "'Weight': 1, 'TTL'"), "InvalidInput", "Missing field 'SetIdentifier'"),
        ("UPSERT", a("www.new.example", "192.0.2.1").replace("'TTL'", "'SetIdentifier': 'x', 'TTL'"), "InvalidInput", "[Weight, Region, "),
        ("CREATE", "{'Name': 'x.new.example', 'Type': 'A'}".into(), "InvalidInput", "found none in Change with [Action=CREATE"),
        ("CREATE", a("a b.new.example", "192.0.2.1"), "InvalidChangeBatch", "UnsupportedCharacter"),
        ("CREATE", "{'Name': 'x.new.example', 'Type': 'A', 'TTL': 1, 'HealthCheckId': 'h', 'ResourceRecords': [{'Value': '192.0.2.1'}]}".into(),
         "NoSuchHealthCheck", "h"),
    ] {
        let found = change(action, &set);
        let message = found[1].as_str().unwrap_or_default();
        assert!(found[0] == code && message.contains(text), "{action} {set}: {found}");
    }
    // Two sets of a name and type are not for the same place.
    for policy in ["'Region': 'us-east-1'", "'GeoLocation': {'CountryCode': 'DE'}"] {
        let set = |identifier: &str| {
            a("x.new.example", "192.0.2.1")
                .replace("'TTL'", &format!("'SetIdentifier': '{identifier}', {policy}, 'TTL'"))
        };
        assert_eq!(change("CREATE", &set("one")), "INSYNC");
        let found = change("CREATE", &set("two"));
        let message = found[1].as_str().unwrap_or_default();
        assert!(message.contains("the set identifier 'one' has the same location already"), "{policy}: {found}");
        assert_eq!(change("UPSERT", &set("one")), "INSYNC");
        assert_eq!(change("DELETE", &set("one")), "INSYNC");
    }
    // A batch is made as a whole, or not at all, and says all that is wrong with it.
    let batch = boto3(
        &server,
        &format!(
            "
a = lambda name: {{'Name': name, 'Type': 'A', 'TTL': 60, 'ResourceRecords': [{{'Value': '192.0.2.1'}}]}}
changes = [{{'Action': 'CREATE', 'ResourceRecordSet': a(name + '.new.example')}} for name in ['fresh', 'www', 'fresh']]
show(refused(client('route53').change_resource_record_sets, HostedZoneId='{zone}', ChangeBatch={{'Changes': changes}}))
"
        ),
    );
    let message = batch[1].as_str().unwrap_or_default();
    assert!(batch[0] == "InvalidChangeBatch" && message.matches("already exists").count() == 2, "{batch}");
    assert_eq!(status("fresh.new.example"), "NXDOMAIN");

    let changed = boto3(
        &server,
        &format!(
            "
route53, zone = client('route53'), '{zone}'
far = {{'VPCRegion': 'eu-west-1', 'VPCId': 'vpc-far'}}
near = {{'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}}
last = refused(route53.disassociate_vpc_from_hosted_zone, HostedZoneId=zone, VPC=near)
none = refused(route53.disassociate_vpc_from_hosted_zone, HostedZoneId=zone, VPC=far)
route53.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=far)
again = refused(route53.associate_vpc_with_hosted_zone, HostedZoneId=zone, VPC=far)
public = refused(route53.associate_vpc_with_hosted_zone, HostedZoneId='Z3', VPC=far)
vpcs = [vpc['VPCId'] for vpc in route53.get_hosted_zone(Id=zone)['VPCs']]
route53.disassociate_vpc_from_hosted_zone(HostedZoneId=zone, VPC=near)
route53.update_hosted_zone_comment(Id=zone, Comment='other')
route53.change_tags_for_resource(ResourceType='hostedzone', ResourceId=zone.split('/')[2], AddTags=[{{'Key': 'k', 'Value': 'v'}}])
shown = route53.get_hosted_zone(Id=zone)
fallthrough = lambda value: {{'ResourceType': 'hostedzone', 'ResourceId': zone.split('/')[2], 'AddTags': [{{'Key': 'zonal:fallthrough', 'Value': value}}]}}
wrong = refused(route53.change_tags_for_resource, **fallthrough('perhaps'))
route53.change_tags_for_resource(**fallthrough('true'))
route53.change_tags_for_resource(ResourceType='hostedzone', ResourceId=zone.split('/')[2], RemoveTagKeys=['zonal:fallthrough'])
show({{
    'refused': [last, none, again, public, refused(route53.delete_hosted_zone, Id=zone), wrong],
    'vpcs': [vpcs, [vpc['VPCId'] for vpc in shown['VPCs']]],
    'comment': shown['HostedZone']['Config']['Comment'],
    'tags': route53.list_tags_for_resource(ResourceType='hostedzone', ResourceId=zone.split('/')[2])['ResourceTagSet']['Tags'],
}})
"
        ),
    );
    assert_eq!(
        codes(&changed),
        [
            "LastVPCAssociation",
            "VPCAssociationNotFound",
            "ConflictingDomainExists",
            "PublicZoneVPCAssociation",
            "HostedZoneNotEmpty",
            "InvalidInput",
        ]
    );
    assert_eq!(changed["vpcs"], json!([["vpc-app", "vpc-far"], ["vpc-far"]]));
    assert_eq!((&changed["comment"], &changed["tags"]), (&json!("other"), &json!([{"Key": "k", "Value": "v"}])));
    assert_ne!(status("www.new.example"), "NOERROR", "the VPC of this client has the zone no more");

    // What Terraform does to delete a zone: it deletes all record sets as they are listed.
    boto3(
        &server,
        &format!(
            "
route53, zone = client('route53'), '{zone}'
route53.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC={{'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}})
sets = [found for found in route53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets'] if found['Type'] not in ('NS', 'SOA')]
assert len(sets) == 4, sets
route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={{'Changes': [{{'Action': 'DELETE', 'ResourceRecordSet': found}} for found in sets]}})
show(None)
"
        ),
    );
    assert_eq!(status("www.new.example"), "NXDOMAIN");
    boto3(&server, &format!("show(plain(client('route53').delete_hosted_zone(Id='{zone}')))"));
    assert_ne!(dig(&server, "new.example", "SOA").status, "NOERROR");
}

#[test]
fn the_aws_cli_manages_a_zone() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    assert_eq!(aws_json(&server, &["sts", "get-caller-identity"])["Account"], "111122223333");
    let vpcs = aws_json(&server, &["ec2", "describe-vpcs", "--query", "Vpcs[].VpcId"]);
    assert_eq!(vpcs, json!(["vpc-app"]));
    let zones = aws_json(&server, &["route53", "list-hosted-zones", "--query", "HostedZones[].Name"]);
    assert_eq!(zones, json!(["one.example.", "two.example.", "pub.example."]));
    let batch = json!({"Changes": [{
        "Action": "UPSERT",
        "ResourceRecordSet": {"Name": "cli.two.example", "Type": "A", "TTL": 9, "ResourceRecords": [{"Value": "192.0.2.5"}]},
    }]});
    let words =
        ["route53", "change-resource-record-sets", "--hosted-zone-id", "Z2", "--change-batch", &batch.to_string()];
    assert_eq!(aws_json(&server, &words)["ChangeInfo"]["Status"], "INSYNC");
    assert_eq!(answer(&server, "cli.two.example", "A"), ["cli.two.example. 9 A 192.0.2.5"]);
    let rules = aws_json(&server, &["route53resolver", "list-resolver-rules", "--query", "ResolverRules[].Name"]);
    assert_eq!(rules, json!(["Internet Resolver", "corp"]));
    let (works, text) = aws(&server, &["route53", "get-hosted-zone", "--id", "Z9"]);
    assert!(!works && text.contains("(NoSuchHostedZone)"), "{text}");
}

#[test]
fn a_zone_is_associated_with_a_vpc_of_another_account_after_an_authorization() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
owner, other = client('route53'), client('route53', account='444455556666')
vpc = {'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}
zone = {'HostedZoneId': 'Z4'}
listed = lambda: [found['VPCId'] for found in other.list_vpc_association_authorizations(**zone)['VPCs']]
steps = [[dig('four.example', 'SOA').split()[0], listed()]]
early = refused(owner.associate_vpc_with_hosted_zone, **zone, VPC=vpc)
made = other.create_vpc_association_authorization(**zone, VPC=vpc)
steps.append([dig('four.example', 'SOA').split()[0], listed()])
owner.associate_vpc_with_hosted_zone(**zone, VPC=vpc)
steps.append([dig('four.example', 'SOA').split()[0], listed()])
other.delete_vpc_association_authorization(**zone, VPC=vpc)
steps.append([dig('four.example', 'SOA').split()[0], listed()])
owner.disassociate_vpc_from_hosted_zone(**zone, VPC=vpc)
steps.append([dig('four.example', 'SOA').split()[0], listed()])
show({
    'steps': steps, 'made': plain(made), 'limits': [
        owner.get_account_limit(Type='MAX_HOSTED_ZONES_BY_OWNER')['Count'],
        owner.get_hosted_zone_limit(HostedZoneId='Z1', Type='MAX_VPCS_ASSOCIATED_BY_ZONE')['Count'],
        owner.get_hosted_zone_limit(HostedZoneId='Z1', Type='MAX_RRSETS_BY_ZONE')['Count'],
    ],
    'refused': [
        early,
        refused(owner.associate_vpc_with_hosted_zone, **zone, VPC=vpc),
        refused(other.delete_vpc_association_authorization, **zone, VPC=vpc),
        refused(other.create_vpc_association_authorization, **zone, VPC={**vpc, 'VPCId': 'vpc-no'}),
        refused(owner.create_vpc_association_authorization, **zone, VPC=vpc),
        refused(owner.create_vpc_association_authorization, HostedZoneId='Z3', VPC=vpc),
        refused(owner.get_hosted_zone_limit, HostedZoneId='Z3', Type='MAX_VPCS_ASSOCIATED_BY_ZONE'),
    ],
})
",
    );
    let none: [&str; 0] = [];
    assert_eq!(
        found["steps"],
        json!([
            ["REFUSED", none],
            ["REFUSED", ["vpc-app"]],
            ["NOERROR", ["vpc-app"]],
            ["NOERROR", none],
            ["REFUSED", none],
        ])
    );
    assert_eq!(found["made"], json!({"HostedZoneId": "Z4", "VPC": {"VPCRegion": "us-east-1", "VPCId": "vpc-app"}}));
    assert_eq!(found["limits"], json!([3, 1, 7]));
    assert_eq!(
        super::tools::codes(&found),
        [
            "NotAuthorizedException",
            "NotAuthorizedException",
            "VPCAssociationAuthorizationNotFound",
            "InvalidVPCId",
            "NoSuchHostedZone",
            "InvalidInput",
            "HostedZoneNotPrivate",
        ]
    );
}

#[test]
fn zones_of_a_delegation_set_have_its_name_servers() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
route53 = client('route53')
made = route53.create_reusable_delegation_set(CallerReference='1')['DelegationSet']
other = route53.create_reusable_delegation_set(CallerReference='2', HostedZoneId='Z3')['DelegationSet']
marked = route53.get_hosted_zone(Id='Z3')['DelegationSet']
zone = route53.create_hosted_zone(Name='set.example', CallerReference='1', DelegationSetId=made['Id'])
first = route53.list_reusable_delegation_sets(MaxItems='1')
listed = first['DelegationSets'] + route53.list_reusable_delegation_sets(Marker=first['NextMarker'])['DelegationSets']
answered = dig('set.example', 'NS')
in_use = refused(route53.delete_reusable_delegation_set, Id=made['Id'])
shown = route53.get_hosted_zone(Id=zone['HostedZone']['Id'])['DelegationSet']
of_set = [found['Name'] for found in route53.list_hosted_zones(DelegationSetId=made['Id'])['HostedZones']]
conflict = refused(route53.create_hosted_zone, Name='below.set.example', CallerReference='2', DelegationSetId=made['Id'])
route53.delete_hosted_zone(Id=zone['HostedZone']['Id'])
route53.delete_reusable_delegation_set(Id=made['Id'])
show({
    'made': made, 'same': [zone['DelegationSet'] == made, shown == made, route53.get_reusable_delegation_set(Id=other['Id'])['DelegationSet'] == other, marked == other],
    'other': other['NameServers'], 'count': len(listed), 'answered': answered, 'of_set': of_set, 'refused': [
        in_use,
        conflict,
        refused(route53.get_reusable_delegation_set, Id=made['Id']),
        refused(route53.create_reusable_delegation_set, CallerReference='2'),
        refused(route53.create_reusable_delegation_set, CallerReference='3', HostedZoneId='Z99'),
        refused(route53.create_reusable_delegation_set, CallerReference='3', HostedZoneId='Z3'),
        refused(route53.create_reusable_delegation_set, CallerReference='3', HostedZoneId='Z2'),
        refused(route53.create_hosted_zone, Name='p.example', CallerReference='3', DelegationSetId=other['Id'], VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}),
    ],
})
",
    );
    let servers: Vec<&str> =
        found["made"]["NameServers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(servers.len(), 4);
    let answered: Vec<String> = servers.iter().map(|name| format!("{name}.")).collect();
    assert_eq!(
        found["answered"],
        format!("NOERROR {}", answered.join(" ")),
        "the zone's NS records are those of the set"
    );
    assert_eq!((&found["same"], &found["other"]), (&json!([true, true, true, true]), &json!(["ns.pub.example"])));
    assert_eq!((&found["count"], &found["of_set"]), (&json!(2), &json!(["set.example."])));
    assert_eq!(
        super::tools::codes(&found),
        [
            "DelegationSetInUse",
            "ConflictingDomainExists",
            "NoSuchDelegationSet",
            "DelegationSetAlreadyCreated",
            "HostedZoneNotFound",
            "DelegationSetAlreadyReusable",
            "InvalidArgument",
            "InvalidInput",
        ]
    );
}

#[test]
fn a_public_zone_has_four_name_servers() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
route53 = client('route53')
made = route53.create_hosted_zone(Name='four.example', CallerReference='1')
zone = made['HostedZone']['Id']
sets = route53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets']
answered = dig('four.example', 'NS')
route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={'Changes': [{'Action': 'UPSERT', 'ResourceRecordSet': {
    'Name': 'four.example', 'Type': 'NS', 'TTL': 60, 'ResourceRecords': [{'Value': 'ns.other.example'}]}}]})
changed = [route53.get_hosted_zone(Id=zone)['DelegationSet']['NameServers'], dig('four.example', 'NS')]
count = route53.get_hosted_zone(Id=zone)['HostedZone']['ResourceRecordSetCount']
route53.delete_hosted_zone(Id=zone)
show({'made': made['DelegationSet'], 'answered': answered, 'changed': changed, 'gone': dig('four.example', 'NS'),
      'sets': [[found['Type'], found['TTL'], len(found['ResourceRecords'])] for found in sets], 'counts': [made['HostedZone']['ResourceRecordSetCount'], count]})
",
    );
    let servers: Vec<&str> =
        found["made"]["NameServers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(servers.len(), 4);
    let answered: Vec<String> = servers.iter().map(|name| format!("{name}.")).collect();
    assert_eq!(found["answered"], format!("NOERROR {}", answered.join(" ")));
    assert_eq!(found["made"]["Id"], Value::Null, "the name servers are no reusable set");
    assert_eq!(found["sets"][0], json!(["NS", 172_800, 4]));
    assert_eq!(found["counts"], json!([2, 2]));
    assert_eq!(found["changed"], json!([["ns.other.example"], "NOERROR ns.other.example."]));
    assert_eq!(found["gone"], "REFUSED");
}

#[test]
fn texts_of_the_manifest_are_listed_in_quotation_marks() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    let texts = json!({"name": "text", "type": "TXT", "ttl": 60, "records": ["plain", "\"quoted text\""]});
    let checked =
        json!({"name": "checked", "type": "A", "ttl": 60, "health_check_id": "hc", "records": ["192.0.2.90"]});
    manifest["health_checks"] = json!({"hc": {"type": "EXTERNAL"}});
    manifest["private_hosted_zones"]["Z2"]["records"] = json!([texts, checked]);
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
route53 = client('route53')
listed = lambda name: [found for found in route53.list_resource_record_sets(HostedZoneId='Z2')['ResourceRecordSets'] if found['Name'] == name + '.two.example.'][0]
change = lambda action, found: route53.change_resource_record_sets(HostedZoneId='Z2', ChangeBatch={'Changes': [{'Action': action, 'ResourceRecordSet': found}]})
texts, checked = listed('text'), listed('checked')
answered = [dig('text.two.example', 'TXT'), dig('checked.two.example')]
in_use = refused(route53.delete_health_check, HealthCheckId='hc')
change('UPSERT', {**checked, 'TTL': 61})
change('UPSERT', {**texts, 'TTL': 61})
again = listed('text')
change('DELETE', again)
show({'texts': texts, 'checked': checked['HealthCheckId'], 'answered': answered, 'in_use': in_use[0], 'same': again == {**texts, 'TTL': 61},
      'gone': dig('text.two.example', 'TXT'), 'still': [listed('checked')['TTL'], dig('checked.two.example')]})
",
    );
    let values = ["\"plain\"", "\"quoted text\""];
    assert_eq!(found["texts"]["ResourceRecords"], json!(values.map(|value| json!({"Value": value}))));
    assert_eq!(
        found["answered"],
        json!(["NOERROR \"plain\" \"quoted text\"", "NOERROR 192.0.2.90"]),
        "the health check does not change the answer, because the record set has no routing policy"
    );
    assert_eq!(
        (&found["checked"], &found["in_use"], &found["same"]),
        (&json!("hc"), &json!("HealthCheckInUse"), &json!(true))
    );
    assert_eq!((&found["gone"], &found["still"]), (&json!("NXDOMAIN"), &json!([61, "NOERROR 192.0.2.90"])));
}

#[test]
fn a_private_zone_falls_back_to_public_dns() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
route53 = client('route53')
vpc = {'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}
status = lambda zone: route53.get_hosted_zone(Id=zone)['HostedZone']['Features']['PublicDNSFallbackStatus']
update = lambda **features: route53.update_hosted_zone_features(HostedZoneId='Z2', **features)
steps = [[status('Z2'), dig('no.two.example')]]
update(EnablePublicDNSFallback=True, DryRun=True)
steps.append([status('Z2'), dig('no.two.example')])
update(EnablePublicDNSFallback=True)
steps.append([status('Z2'), dig('no.two.example')])
update(EnablePublicDNSFallback=False)
steps.append([status('Z2'), dig('no.two.example')])
made = route53.create_hosted_zone(Name='fall.example', CallerReference='1', VPC=vpc, EnablePublicDNSFallback=True)['HostedZone']['Id']
steps.append([status(made), dig('no.fall.example')])
show({'steps': steps, 'public': 'Features' in route53.get_hosted_zone(Id='Z3')['HostedZone'], 'refused': [
    refused(route53.create_hosted_zone, Name='pub2.example', CallerReference='2', EnablePublicDNSFallback=True),
    refused(route53.update_hosted_zone_features, HostedZoneId='Z3', EnablePublicDNSFallback=True),
    refused(route53.update_hosted_zone_features, HostedZoneId='Z2', EnableAcceleratedRecovery=True),
]})
",
    );
    // The node has no internet resolver.
    assert_eq!(
        found["steps"],
        json!([
            ["DISABLED", "NXDOMAIN"],
            ["DISABLED", "NXDOMAIN"],
            ["ENABLED", "REFUSED"],
            ["DISABLED", "NXDOMAIN"],
            ["ENABLED", "REFUSED"],
        ])
    );
    assert_eq!(found["public"], false);
    assert_eq!(super::tools::codes(&found), ["InvalidInput", "InvalidInput", "InvalidInput"]);
}

#[test]
fn protected_record_sets_are_not_changed() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    let database = json!({"name": "db", "type": "A", "records": ["192.0.2.90"], "protected": true, "protection_comment": "ask the database team"});
    manifest["private_hosted_zones"]["Z2"]["records"] = json!([database]);
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
route53 = client('route53')
change = lambda action, name, address: {'Changes': [{'Action': action, 'ResourceRecordSet': {
    'Name': name, 'Type': 'A', 'TTL': 300, 'ResourceRecords': [{'Value': address}]}}]}
show([
    refused(route53.change_resource_record_sets, HostedZoneId='Z2', ChangeBatch=change('UPSERT', 'db.two.example', '192.0.2.91')),
    refused(route53.change_resource_record_sets, HostedZoneId='Z2', ChangeBatch=change('DELETE', 'db.two.example', '192.0.2.90')),
    route53.change_resource_record_sets(HostedZoneId='Z2', ChangeBatch=change('CREATE', 'other.two.example', '192.0.2.92'))['ChangeInfo']['Status'],
])
",
    );
    for refusal in [&found[0], &found[1]] {
        assert_eq!(refusal[0], "InvalidChangeBatch");
        assert!(refusal[1].as_str().unwrap().contains("ask the database team"), "{refusal}");
    }
    assert_eq!(found[2], "INSYNC");
    assert_eq!(answer(&server, "db.two.example", "A"), ["db.two.example. 300 A 192.0.2.90"]);
}
