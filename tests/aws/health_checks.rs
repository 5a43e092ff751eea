//! Health checks of Route 53 by boto3, with the verdicts that answers follow, and `TestDNSAnswer`.

use super::tools::{boto3, can_run_here, codes, network, pushed};
use crate::harness::free_port;
use serde_json::json;

#[test]
fn dig_sees_the_verdicts_of_health_checks_that_boto3_makes() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["health_checks"] = json!({
        "hc-manifest": {
            "type": "HTTP", "ip_address": "127.0.0.1", "port": free_port(), "request_interval": 1, "failure_threshold": 1,
            "success_threshold": 1,
        },
    });
    manifest["resolver_endpoints"]["rslvr-out-1"] = json!({
        "vpc_id": "vpc-app", "direction": "OUTBOUND", "ip_addresses": [{"ip": "127.0.0.20"}, {"ip": "127.0.1.20"}],
    });
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
import http.server, threading, time, urllib.request
route53, other = client('route53'), client('route53', account='444455556666')
def report(id, status):
    body = json.dumps({'status': status}).encode()
    request = urllib.request.Request(f'{sys.argv[1]}/v1/health/{id}', body, {'Content-Type': 'application/json'}, method='PUT')
    urllib.request.urlopen(request).read()
status = lambda id: route53.get_health_check_status(HealthCheckId=id)['HealthCheckObservations'][0]['StatusReport']
made = route53.create_health_check(CallerReference='1', HealthCheckConfig={
    'Type': 'CLOUDWATCH_METRIC', 'AlarmIdentifier': {'Region': 'us-east-1', 'Name': 'alarm'}, 'InsufficientDataHealthStatus': 'Healthy'})
external = made['HealthCheck']['Id']
same = route53.create_health_check(CallerReference='1', HealthCheckConfig={
    'Type': 'CLOUDWATCH_METRIC', 'AlarmIdentifier': {'Region': 'us-east-1', 'Name': 'alarm'}, 'InsufficientDataHealthStatus': 'Healthy'})
parent = route53.create_health_check(CallerReference='2', HealthCheckConfig={
    'Type': 'CALCULATED', 'ChildHealthChecks': [external], 'HealthThreshold': 1})['HealthCheck']
probe = {'Type': 'HTTPS_STR_MATCH', 'IPAddress': '127.0.0.1', 'Port': 2, 'ResourcePath': '/healthz', 'FullyQualifiedDomainName': 'api.one.example',
         'SearchString': 'ok', 'RequestInterval': 10, 'FailureThreshold': 2, 'Regions': ['us-east-1', 'us-west-1', 'us-west-2']}
checked = route53.create_health_check(CallerReference='3', HealthCheckConfig=probe)['HealthCheck']
change = lambda action, name, address, **more: {'Action': action, 'ResourceRecordSet': {
    'Name': f'{name}.one.example', 'Type': 'A', 'TTL': 1, 'ResourceRecords': [{'Value': address}], **more}}
changes = [change('CREATE', 'db', '192.0.2.10', SetIdentifier='p', Failover='PRIMARY', HealthCheckId=parent['Id']),
           change('CREATE', 'db', '192.0.2.11', SetIdentifier='s', Failover='SECONDARY')]
route53.change_resource_record_sets(HostedZoneId='Z1', ChangeBatch={'Changes': changes})
steps = [('new', dig('db.one.example'), status(external)['Status'])]
report(external, 'unhealthy')
steps.append(('unhealthy', dig('db.one.example'), status(external)['Status'], status(parent['Id'])['Status']))
report(external, 'healthy')
steps.append(('healthy', dig('db.one.example'), status(parent['Id'])['Status']))
updated = route53.update_health_check(HealthCheckId=parent['Id'], HealthCheckVersion=1, HealthThreshold=2)['HealthCheck']
steps.append(('two of one', dig('db.one.example')))
route53.update_health_check(HealthCheckId=parent['Id'], HealthThreshold=1, Inverted=True)
steps.append(('inverted', dig('db.one.example')))
route53.update_health_check(HealthCheckId=parent['Id'], Inverted=False, Disabled=True)
report(external, 'unhealthy')
steps.append(('disabled', dig('db.one.example'), status(parent['Id'])['Status']))
reset = route53.update_health_check(HealthCheckId=checked['Id'], ResetElements=['Regions', 'ResourcePath'], FailureThreshold=3)['HealthCheck']
route53.change_tags_for_resource(ResourceType='healthcheck', ResourceId=checked['Id'], AddTags=[{'Key': 'Name', 'Value': 'api'}])
class Target(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
def wait_for(text):
    end = time.time() + 30
    while text not in (found := status('hc-manifest')['Status']) and time.time() < end:
        time.sleep(0.1)
    return found
never = wait_for('never healthy')
port = route53.get_health_check(HealthCheckId='hc-manifest')['HealthCheck']['HealthCheckConfig']['Port']
with http.server.ThreadingHTTPServer(('127.0.0.1', port), Target) as target:
    threading.Thread(target=target.serve_forever).start()
    success = wait_for('200')
    time.sleep(3)
    target.shutdown()
# The last connections may have been in the queue of the socket when it was closed.
failure = wait_for('refused')
show({
    'made': plain(made), 'same': same['HealthCheck'] == made['HealthCheck'], 'parent': parent, 'checked': checked['HealthCheckConfig'], 'steps': steps,
    'updated': updated, 'reset': reset, 'never': never, 'success': success, 'failure': failure,
    'reason': route53.get_health_check_last_failure_reason(HealthCheckId='hc-manifest')['HealthCheckObservations'][0]['StatusReport']['Status'],
    'no reason': route53.get_health_check_last_failure_reason(HealthCheckId=checked['Id'])['HealthCheckObservations'][1:],
    'listed': [len(route53.list_health_checks()['HealthChecks']), route53.get_health_check_count()['HealthCheckCount'],
               sorted(check['Id'] for page in route53.get_paginator('list_health_checks').paginate(PaginationConfig={'PageSize': 1})
                      for check in page['HealthChecks']) == sorted([external, parent['Id'], checked['Id'], 'hc-manifest'])],
    'got': route53.get_health_check(HealthCheckId=checked['Id'])['HealthCheck'] == reset,
    'tags': route53.list_tags_for_resource(ResourceType='healthcheck', ResourceId=checked['Id'])['ResourceTagSet']['Tags'],
    'ranges': route53.get_checker_ip_ranges()['CheckerIpRanges'],
    'refused': [
        refused(route53.create_health_check, CallerReference='3', HealthCheckConfig={**probe, 'Port': 3}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP', 'FullyQualifiedDomainName': 'api.one.example'}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP', 'IPAddress': '198.51.100.1'}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP_STR_MATCH', 'IPAddress': '127.0.0.1'}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP', 'IPAddress': '127.0.0.1', 'SearchString': 'ok'}),
        refused(route53.update_health_check, HealthCheckId='hc-manifest', SearchString='ok'),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'CALCULATED', 'HealthThreshold': 1, 'FailureThreshold': 2}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'CLOUDWATCH_METRIC', 'MeasureLatency': True}),
        refused(route53.update_health_check, HealthCheckId=parent['Id'], FailureThreshold=2),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP', 'IPAddress': '10.9.0.1'}),
        refused(route53.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'HTTP', 'FullyQualifiedDomainName': 'a.example', 'HealthCheckSourceId': 'vpc-other'}),
        refused(other.create_health_check, CallerReference='4', HealthCheckConfig={'Type': 'CALCULATED', 'ChildHealthChecks': [external], 'HealthThreshold': 1}),
        refused(other.list_tags_for_resource, ResourceType='healthcheck', ResourceId=external),
        refused(other.change_tags_for_resource, ResourceType='healthcheck', ResourceId=external, AddTags=[{'Key': 'k', 'Value': 'v'}]),
        refused(route53.get_health_check, HealthCheckId='no'),
        refused(route53.get_health_check_status, HealthCheckId='no'),
        refused(route53.update_health_check, HealthCheckId=checked['Id'], HealthCheckVersion=9),
        refused(route53.delete_health_check, HealthCheckId=external),
        refused(route53.delete_health_check, HealthCheckId=parent['Id']),
    ],
    'deleted': [plain(route53.delete_health_check(HealthCheckId=checked['Id'])), refused(route53.get_health_check, HealthCheckId=checked['Id'])[0]],
})
",
    );
    let id = found["made"]["HealthCheck"]["Id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[8], id.as_bytes()[14]), (36, b'-', b'4'), "{id}");
    assert_eq!(
        found["made"]["Location"],
        format!("https://route53.amazonaws.com/2013-04-01/healthcheck/{id}"),
        "clients need it"
    );
    assert_eq!((&found["same"], &found["parent"]["HealthCheckVersion"]), (&json!(true), &json!(1)));
    assert_eq!(
        found["checked"],
        json!({
            "IPAddress": "127.0.0.1", "Port": 2, "Type": "HTTPS_STR_MATCH", "ResourcePath": "/healthz",
            "FullyQualifiedDomainName": "api.one.example", "SearchString": "ok", "RequestInterval": 10, "FailureThreshold": 2,
            "MeasureLatency": false, "Inverted": false, "Disabled": false, "EnableSNI": true,
            "Regions": ["us-east-1", "us-west-1", "us-west-2"],
        })
    );
    let (primary, secondary) = ("NOERROR 192.0.2.10", "NOERROR 192.0.2.11");
    let steps = found["steps"].as_array().unwrap();
    let answers: Vec<&str> = steps.iter().filter_map(|step| step[1].as_str()).collect();
    assert_eq!(answers, [primary, secondary, primary, secondary, secondary, primary], "{steps:?}");
    let says = |step: usize, at: usize, text: &str| {
        let found = steps[step][at].as_str().unwrap();
        assert!(found.starts_with(text), "{}: {found}", steps[step][0]);
    };
    says(0, 2, "Success");
    says(1, 2, "Failure");
    says(1, 3, "Failure");
    says(2, 2, "Success");
    says(5, 2, "Success: healthy. the check is disabled");
    assert_eq!(found["updated"]["HealthCheckVersion"], 2);
    let reset = &found["reset"]["HealthCheckConfig"];
    assert_eq!(
        (&reset["ResourcePath"], &reset["Regions"], &reset["FailureThreshold"]),
        (&json!(null), &json!(null), &json!(3))
    );
    for (member, word) in [("never", "Success"), ("success", "Success"), ("failure", "Failure"), ("reason", "Failure")]
    {
        let text = found[member].as_str().unwrap();
        assert!(text.starts_with(word) && text.contains("refused") != (member == "success"), "{member}: {text}");
    }
    assert_eq!((&found["no reason"], &found["got"]), (&json!([]), &json!(true)));
    assert_eq!((&found["listed"], &found["tags"]), (&json!([4, 4, true]), &json!([{"Key": "Name", "Value": "api"}])));
    assert_eq!(found["ranges"], json!(["127.0.0.20/32", "127.0.1.20/32"]));
    assert_eq!(
        codes(&found),
        [
            "HealthCheckAlreadyExists",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput",
            "NoSuchHealthCheck",
            "NoSuchHealthCheck",
            "NoSuchHealthCheck",
            "NoSuchHealthCheck",
            "HealthCheckVersionMismatch",
            "HealthCheckInUse",
            "HealthCheckInUse",
        ],
        "{}",
        found["refused"]
    );
    assert_eq!(found["deleted"], json!([{}, "NoSuchHealthCheck"]));
}

#[test]
fn test_dns_answer_answers_like_dig() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
route53 = client('route53')
ask = lambda name, rtype='A', zone='Z1', **more: plain(route53.test_dns_answer(HostedZoneId=zone, RecordName=name, RecordType=rtype, **more))
def words(name, rtype='A', **more):
    found = ask(name, rtype, **more)
    return ' '.join([found['ResponseCode'], *sorted(found['RecordData'])])
names = [('www.one.example', 'A'), ('no.one.example', 'A'), ('any.one.example', 'TXT'), ('sqs.one.example', 'A'), ('one.example', 'SOA'), ('www.one.example', 'MX')]
show({
    'www': ask('www.one.example.'),
    'like dig': [[words(*name), dig(*name)] for name in names],
    'other': [words('www.one.example', ResolverIP='10.8.0.1'), words('www.one.example', ResolverIP='127.0.0.1'),
              words('www.one.example', EDNS0ClientSubnetIP='127.0.1.9', EDNS0ClientSubnetMask='24'),
              words('www.one.example', ResolverIP='203.0.113.1')],
    'refused': [
        refused(route53.test_dns_answer, HostedZoneId='Z9', RecordName='www.one.example', RecordType='A'),
        refused(route53.test_dns_answer, HostedZoneId='Z1', RecordName='www.two.example', RecordType='A'),
        refused(route53.test_dns_answer, HostedZoneId='Z1', RecordName='www.one.example', RecordType='A', ResolverIP='10.9.0.1'),
        refused(route53.test_dns_answer, HostedZoneId='Z1', RecordName='www.one.example', RecordType='A', ResolverIP='127.0.0.1', EDNS0ClientSubnetIP='127.0.0.1', EDNS0ClientSubnetMask='99'),
    ],
})
",
    );
    let www = &found["www"];
    assert_eq!(
        (&www["Nameserver"], &www["RecordName"], &www["RecordType"], &www["ResponseCode"], &www["Protocol"]),
        (&json!("ns.one.example"), &json!("www.one.example."), &json!("A"), &json!("NOERROR"), &json!("UDP"))
    );
    for pair in found["like dig"].as_array().unwrap() {
        assert_eq!(pair[0], pair[1]);
    }
    let answers = "NOERROR 192.0.2.1 192.0.2.2";
    // 10.8.0.1 is in a VPC without the zone, and the internet resolver is off. 203.0.113.1 is in no network.
    assert_eq!(found["other"], json!(["REFUSED", answers, answers, "REFUSED"]));
    assert_eq!(
        codes(&found),
        ["NoSuchHostedZone", "InvalidInput", "InvalidInput", "InvalidInput"],
        "{}",
        found["refused"]
    );
}
