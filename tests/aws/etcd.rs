//! AWS's APIs on nodes that follow etcd: a write goes into etcd, and is answered when the node serves it.

use super::tools::{answer, boto3, can_run_here, network};
use crate::harness::{Scratch, Server, can_run, cluster::Single, wait_until_equal};
use serde_json::json;
use std::time::Duration;
use zonal::manifest::collection::{Edit, Key};

fn edits() -> Vec<Edit> {
    let manifest = network();
    let kinds = manifest.as_object().unwrap().iter().filter(|(kind, _)| *kind != "generation");
    let resources = kinds
        .flat_map(|(kind, resources)| resources.as_object().unwrap().iter().map(move |(id, value)| (kind, id, value)));
    let edit = |(kind, id, value): (&String, &String, &serde_json::Value)| Edit {
        key: Key::new(kind, id).unwrap(),
        value: Some(value.to_string().into_bytes().into()),
    };
    resources.map(edit).collect()
}

fn node(etcd: &Single) -> Server {
    let server = Server::start_from(&format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint), "");
    wait_until_equal("the node serves the zone", 2, || answer(&server, "www.one.example", "A").len());
    server
}

#[test]
fn writes_go_into_etcd_and_are_served_when_the_response_comes() {
    if !can_run_here() || !can_run(&["etcd"]) {
        return;
    }
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    etcd.put(&edits());
    let (one, two) = (node(&etcd), node(&etcd));

    let made = boto3(
        &one,
        "
route53 = client('route53')
made = route53.create_hosted_zone(Name='new.example', CallerReference='1', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'})
zone = made['HostedZone']['Id']
change = lambda action, name, address: route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={'Changes': [
    {'Action': action, 'ResourceRecordSet': {'Name': name, 'Type': 'A', 'TTL': 7, 'ResourceRecords': [{'Value': address}]}}]})
info = change('CREATE', 'www.new.example', '192.0.2.7')['ChangeInfo']
show({'zone': zone, 'status': [info['Status'], route53.get_change(Id=info['Id'])['ChangeInfo']['Status']],
      'refused': [refused(change, action='CREATE', name='www.new.example', address='192.0.2.8'),
                  refused(change, action='CREATE', name='x.new.example', address='300.0.2.8')]})
",
    );
    // The response came, so the node answers. The other node follows.
    assert_eq!(answer(&one, "www.new.example", "A"), ["www.new.example. 7 A 192.0.2.7"]);
    assert_eq!(made["status"], json!(["INSYNC", "INSYNC"]));
    assert_eq!(
        (&made["refused"][0][0], &made["refused"][1][0]),
        (&json!("InvalidChangeBatch"), &json!("InvalidChangeBatch"))
    );
    wait_until_equal("the other node follows", vec!["www.new.example. 7 A 192.0.2.7".to_string()], || {
        answer(&two, "www.new.example", "A")
    });

    // Two nodes change one zone at the same time. Each change is kept.
    let zone = made["zone"].as_str().unwrap();
    let many = |node: &Server, side: &str| {
        boto3(
            node,
            &format!(
                "
route53 = client('route53')
for number in range(25):
    route53.change_resource_record_sets(HostedZoneId='{zone}', ChangeBatch={{'Changes': [{{'Action': 'CREATE', 'ResourceRecordSet':
        {{'Name': f'{side}{{number}}.new.example', 'Type': 'A', 'TTL': 7, 'ResourceRecords': [{{'Value': '192.0.2.9'}}]}}}}]}})
show(None)
"
            ),
        );
    };
    std::thread::scope(|scope| {
        scope.spawn(|| many(&one, "a"));
        many(&two, "b");
    });
    let count = "show(len(client('route53').list_resource_record_sets(HostedZoneId='ZONE')['ResourceRecordSets']))";
    let count = count.replace("ZONE", zone);
    // The zone has an NS, an SOA and an A record set besides.
    wait_until_equal("all changes on one node", json!(53), || boto3(&one, &count));
    wait_until_equal("all changes on the other node", json!(53), || boto3(&two, &count));

    // A deletion is intended, so nodes do not hold it, although it takes a third of the zones along.
    boto3(
        &two,
        "
route53 = client('route53')
for zone in ['Z1', 'Z2']:
    sets = [found for found in route53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets'] if found['Type'] not in ('NS', 'SOA')]
    if sets:
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={'Changes': [{'Action': 'DELETE', 'ResourceRecordSet': found} for found in sets]})
    route53.delete_hosted_zone(Id=zone)
show(None)
",
    );
    assert_ne!(two.dig("www.one.example", "A").status, "NOERROR");
    wait_until_equal("the zone is gone on the other node", false, || {
        one.dig("www.one.example", "A").status == "NOERROR"
    });

    // Without etcd, zonal changes nothing, says so, and answers on.
    drop(etcd);
    let begin = std::time::Instant::now();
    let refused = boto3(
        &one,
        "show(refused(client('route53').create_hosted_zone, Name='late.example', CallerReference='9', VPC={'VPCRegion': 'us-east-1', 'VPCId': 'vpc-app'}))",
    );
    assert_eq!(refused[0], "ServiceUnavailable", "{refused}");
    assert!(refused[1].as_str().unwrap().starts_with("etcd: "), "{refused}");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(answer(&one, "www.new.example", "A"), ["www.new.example. 7 A 192.0.2.7"]);
}
