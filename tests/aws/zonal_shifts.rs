//! Zonal shifts by boto3: the answers for an endpoint leave out an Availability Zone, until the shift ends.

use super::tools::{boto3, can_run_here, codes, network, pushed};
use serde_json::json;

#[test]
fn dig_sees_the_zonal_shifts_that_boto3_starts_and_cancels() {
    if !can_run_here() {
        return;
    }
    let mut manifest = network();
    manifest["vpc_endpoints"]["vpce-1"]["client_routing_policy"] = "any_availability_zone".into();
    manifest["zonal_shifts"] =
        json!({"old-shift": {"resource": "vpce-1", "away_from": "use1-az1", "expires_at": "2020-01-01T00:00:00Z"}});
    let server = pushed(manifest);
    let found = boto3(
        &server,
        "
shifts = client('arc-zonal-shift')
endpoint = 'arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-1'
seen = lambda: dig('sqs.us-east-1.amazonaws.com')
steps = [('before', seen())]
started = shifts.start_zonal_shift(resourceIdentifier=endpoint, awayFrom='use1-az1', expiresIn='20m', comment='rack is down')
steps.append(('shifted', seen()))
resource = shifts.get_managed_resource(resourceIdentifier=endpoint)
updated = shifts.update_zonal_shift(zonalShiftId=started['zonalShiftId'], expiresIn='3h', comment='')
listed = [found for page in shifts.get_paginator('list_zonal_shifts').paginate(PaginationConfig={'PageSize': 1}) for found in page['items']]
active = shifts.list_zonal_shifts(status='ACTIVE', resourceIdentifier=endpoint)['items']
refusals = [
    refused(shifts.start_zonal_shift, resourceIdentifier=endpoint, awayFrom='use1-az2', expiresIn='1h', comment='x'),
    refused(shifts.start_zonal_shift, resourceIdentifier=endpoint, awayFrom='use1-az3', expiresIn='1h', comment='x'),
    refused(shifts.start_zonal_shift, resourceIdentifier='arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-9', awayFrom='use1-az1', expiresIn='1h', comment='x'),
    refused(shifts.start_zonal_shift, resourceIdentifier='arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/*', awayFrom='use1-az1', expiresIn='1h', comment='x'),
    refused(shifts.update_zonal_shift, zonalShiftId=started['zonalShiftId'], expiresIn='73h'),
    refused(shifts.update_zonal_shift, zonalShiftId='old-shift', comment='x'),
    refused(shifts.cancel_zonal_shift, zonalShiftId='no-such-shift'),
    refused(client('arc-zonal-shift', account='444455556666').get_managed_resource, resourceIdentifier=endpoint),
]
cancelled = shifts.cancel_zonal_shift(zonalShiftId=started['zonalShiftId'])
steps.append(('cancelled', seen()))
history = [found['zonalShiftId'] for found in shifts.list_zonal_shifts(status='CANCELED', resourceIdentifier=endpoint)['items']]
refusals.append(refused(shifts.cancel_zonal_shift, zonalShiftId=started['zonalShiftId']))
everybody = client('arc-zonal-shift', account='AKIAEXAMPLE')
of_all = everybody.start_zonal_shift(resourceIdentifier='com.amazonaws.us-east-1.sqs', awayFrom='use1-az2', expiresIn='1m', comment='')
steps.append(('shifted for the service', seen()))
managed = shifts.list_managed_resources()['items']
show({
    'steps': steps, 'started': plain(started), 'resource': plain(resource), 'listed': sorted(found['status'] for found in listed),
    'active': [found['zonalShiftId'] for found in active] == [started['zonalShiftId']], 'managed': managed,
    'longer': (updated['expiryTime'] - started['expiryTime']).total_seconds() > 9000, 'comment': updated['comment'],
    'cancelled': cancelled['status'], 'history': history == [started['zonalShiftId']], 'of_all': of_all['resourceIdentifier'],
    'refused': refusals + [refused(shifts.cancel_zonal_shift, zonalShiftId=of_all['zonalShiftId'])],
})
",
    );
    assert_eq!(
        found["steps"],
        json!([
            ["before", "NOERROR 127.0.0.9 127.0.1.9"],
            ["shifted", "NOERROR 127.0.1.9"],
            ["cancelled", "NOERROR 127.0.0.9 127.0.1.9"],
            ["shifted for the service", "NOERROR 127.0.0.9"],
        ])
    );
    let started = &found["started"];
    assert_eq!(
        (&started["status"], &started["awayFrom"], &started["comment"]),
        (&json!("ACTIVE"), &json!("use1-az1"), &json!("rack is down"))
    );
    assert_eq!(started["resourceIdentifier"], "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-1");
    let resource = &found["resource"];
    assert_eq!(resource["appliedWeights"], json!({"use1-az1": 0.0, "use1-az2": 1.0}));
    assert_eq!(resource["zonalShifts"][0]["appliedStatus"], "APPLIED");
    assert_eq!((&found["listed"], &found["active"]), (&json!(["ACTIVE", "EXPIRED"]), &json!(true)));
    assert_eq!(
        (&found["longer"], &found["comment"], &found["cancelled"]),
        (&json!(true), &json!(""), &json!("CANCELED"))
    );
    assert_eq!(found["history"], true);
    assert_eq!(found["of_all"], "arn:aws:ec2:us-east-1:000000000000:vpc-endpoint-service/com.amazonaws.us-east-1.sqs");
    let managed = &found["managed"][0];
    assert_eq!((&managed["name"], &managed["availabilityZones"]), (&json!("vpce-1"), &json!(["use1-az1", "use1-az2"])));
    assert_eq!(managed["appliedWeights"], json!({"use1-az1": 1.0, "use1-az2": 0.0}));
    assert_eq!(
        codes(&found),
        [
            "ConflictException",
            "ValidationException",
            "ResourceNotFoundException",
            "AccessDeniedException",
            "ValidationException",
            "ConflictException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ConflictException",
            "AccessDeniedException",
        ],
        "{}",
        found["refused"]
    );
}

#[test]
fn an_endpoint_is_deleted_with_its_zonal_shifts() {
    if !can_run_here() {
        return;
    }
    let server = pushed(network());
    let found = boto3(
        &server,
        "
ec2, shifts = client('ec2'), client('arc-zonal-shift')
endpoint = ec2.create_vpc_endpoint(VpcEndpointType='Interface', VpcId='vpc-app', ServiceName='com.amazonaws.us-east-1.kms', SubnetIds=['subnet-a'])
endpoint = endpoint['VpcEndpoint']['VpcEndpointId']
start = lambda: shifts.start_zonal_shift(resourceIdentifier=endpoint, awayFrom='use1-az1', expiresIn='20m', comment='x')['zonalShiftId']
shifts.cancel_zonal_shift(zonalShiftId=start())
start()
before = sorted(found['status'] for found in shifts.list_zonal_shifts()['items'])
unsuccessful = ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])['Unsuccessful']
show({'before': before, 'unsuccessful': unsuccessful, 'after': shifts.list_zonal_shifts()['items']})
",
    );
    assert_eq!(found, json!({"before": ["ACTIVE", "CANCELED"], "unsuccessful": [], "after": []}));
}
