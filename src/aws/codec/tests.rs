use super::{
    client::{Failure, read_response, write_request},
    constraints::Constraint,
    server::{Call, Request, ServiceError, Unreadable, read_request, write_error, write_result},
    xml::Element,
};
use crate::aws::model::Service;
use serde_json::{Value, json};

fn post<'a>(body: &'a [u8], target: Option<&'a str>) -> Request<'a> {
    Request { method: "POST", path: "/", query: "", target, body }
}

fn read(service: Service, request: &Request) -> Call {
    read_request(service, request).unwrap_or_else(|error| panic!("{request:?}: {error:?}"))
}

#[test]
fn reads_requests_of_all_protocols() {
    let body = br#"{"ResolverRuleId": "rslvr-rr-1", "MaxResults": null}"#;
    let call = read(Service::Route53Resolver, &post(body, Some("Route53Resolver.GetResolverRule")));
    assert_eq!((call.operation, call.parameters), ("GetResolverRule", json!({"ResolverRuleId": "rslvr-rr-1"})));

    let form = b"Action=DescribeVpcs&Version=2016-11-15&Filter.2.Name=b&Filter.1.Name=vpc-id&Filter.1.Value.1=a%2Fb+c\
        &VpcId.4294967295=vpc-2&VpcId.7=vpc-1&DryRun=TRUE";
    let expected = json!({
        "Filters": [{"Name": "vpc-id", "Values": ["a/b c"]}, {"Name": "b"}],
        "VpcIds": ["vpc-1", "vpc-2"], "DryRun": true
    });
    assert_eq!(read(Service::Ec2, &post(form, None)).parameters, expected);
    let query = std::str::from_utf8(form).unwrap();
    let request = Request { method: "GET", path: "/", query, target: None, body: b"" };
    assert_eq!(read(Service::Ec2, &request).parameters, expected);

    let body = br#"<?xml version="1.0"?><!-- c --><r:ChangeResourceRecordSetsRequest xmlns:r="urn:x"><ChangeBatch><Changes><Change>
        <Action>CREATE</Action><ResourceRecordSet><Name>a&amp;b&#46;</Name><Type>A</Type><TTL>60</TTL></ResourceRecordSet>
        </Change></Changes></ChangeBatch></r:ChangeResourceRecordSetsRequest>"#;
    for path in ["/2013-04-01/hostedzone/Z1/rrset/", "/2013-04-01/hostedzone//hostedzone/Z1/rrset"] {
        let request = Request { method: "POST", path, query: "", target: None, body };
        let set = json!({"Name": "a&b.", "Type": "A", "TTL": 60});
        let expected = json!({
            "HostedZoneId": "Z1",
            "ChangeBatch": {"Changes": [{"Action": "CREATE", "ResourceRecordSet": set}]},
        });
        assert_eq!(read(Service::Route53, &request).parameters, expected);
    }

    let path = "/tags/arn%3Aaws%3Aroute53profiles%3Aeu-west-1%3A1%3Aprofile%2Frp-1";
    let request = Request {
        method: "DELETE",
        path,
        query: "tagKeys=a&tagKeys=b%20c&x-id=U&X-Amz-Date=1",
        target: None,
        body: b"",
    };
    let call = read(Service::Route53Profiles, &request);
    assert_eq!(call.operation, "UntagResource");
    let arn = "arn:aws:route53profiles:eu-west-1:1:profile/rp-1";
    assert_eq!(call.parameters, json!({"ResourceArn": arn, "TagKeys": ["a", "b c"]}));
}

#[test]
fn refuses_what_the_model_does_not_have() {
    let check = |service: Service, request: &Request, code: &str, text: &str| {
        let error = read_request(service, request).unwrap_err().error(service);
        assert!(error.code == code && error.message.contains(text), "{request:?}: {error:?}");
    };
    let resolver = |operation: &'static str, body: &'static str| post(body.as_bytes(), Some(operation));
    let (service, rule) = (Service::Route53Resolver, "Route53Resolver.GetResolverRule");
    check(service, &resolver("Route53Resolver.Nothing", "{}"), "UnknownOperationException", "route53resolver:Nothing");
    check(service, &post(b"{}", None), "UnknownOperationException", "X-Amz-Target");
    check(service, &resolver(rule, "{"), "SerializationException", "the body is not JSON");
    check(service, &resolver(rule, "{}"), "ValidationException", "Value null at 'resolverRuleId'");
    check(service, &resolver(rule, "[]"), "ValidationException", "must be a structure");
    check(service, &resolver(rule, r#"{"ResolverRuleId": ""}"#), "ValidationException", "greater than or equal to 1");
    check(service, &resolver(rule, r#"{"ResolverRuleId": 7}"#), "ValidationException", "must be a string");
    check(service, &resolver(rule, r#"{"ResolverRuleId": "a", "More": 1}"#), "ValidationException", "at 'more'");
    let create = "Route53Resolver.CreateResolverRule";
    let body = r#"{"CreatorRequestId": "1", "RuleType": "OTHER", "Name": "12", "TargetIps": [{"Ip": "1.2.3.4", "Port": 65536}]}"#;
    let Unreadable::Invalid("CreateResolverRule", violations) =
        read_request(service, &resolver(create, body)).unwrap_err()
    else {
        panic!("the violations of an operation")
    };
    let found: Vec<(&str, &Constraint)> = violations.iter().map(|v| (&*v.path, &v.constraint)).collect();
    assert!(
        matches!(found[0], ("name", Constraint::Pattern(pattern)) if pattern.starts_with("(?!^[0-9]+$)")),
        "{found:?}"
    );
    assert!(matches!(found[1], ("ruleType", Constraint::OneOf(values)) if values.contains("FORWARD")), "{found:?}");
    assert_eq!(found[2], ("targetIps.1.member.port", &Constraint::Max(65535.0)));

    let ec2 = |form: &'static str| post(form.as_bytes(), None);
    check(Service::Ec2, &ec2("Version=2016-11-15"), "InvalidAction", "`Action` is missing");
    check(Service::Ec2, &ec2("Action=RunInstances&Version=2016-11-15"), "InvalidAction", "ec2:RunInstances");
    check(
        Service::Ec2,
        &ec2("Action=DescribeVpcs&Version=2014-01-01"),
        "MalformedQueryString",
        "expected `2016-11-15`",
    );
    check(Service::Ec2, &ec2("Action=DescribeVpcs&Filter.1.Nam%"), "MalformedQueryString", "two hexadecimal digits");
    check(Service::Ec2, &ec2("Action=DescribeVpcs&Colour=red"), "UnknownParameter", "'colour'");
    check(Service::Ec2, &ec2("Action=DeleteVpc"), "MissingParameter", "'vpcId'");
    check(Service::Ec2, &ec2("Action=DescribeVpcs&MaxResults=x"), "InvalidParameterValue", "must be a 32-bit integer");
    let many = format!("Action=DescribeVpcs{}", "&a=b".repeat(super::MAX_PARAMETERS));
    check(Service::Ec2, &post(many.as_bytes(), None), "MalformedQueryString", "more than 10000 parameters");
    let deep = format!("Action=DescribeVpcs&a{}=b", ".a".repeat(super::MAX_DEPTH));
    check(Service::Ec2, &post(deep.as_bytes(), None), "MalformedQueryString", "more than 32 parts");

    let zone = |body: &'static str| Request {
        method: "POST",
        path: "/2013-04-01/hostedzone",
        query: "",
        target: None,
        body: body.as_bytes(),
    };
    check(Service::Route53, &zone("<CreateHostedZoneRequest/>"), "InvalidInput", "2 validation errors");
    check(Service::Route53, &zone("<Other/>"), "MalformedInput", "expected `CreateHostedZoneRequest`");
    check(Service::Route53, &zone(""), "InvalidInput", "'callerReference'");
    let nothing = Request { path: "/2013-04-01/nothing", ..zone("") };
    check(Service::Route53, &nothing, "UnknownOperationException", "POST /2013-04-01/nothing");
}

#[test]
fn refuses_bombs_and_malformed_xml() {
    let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert!(Element::read(deep(super::MAX_DEPTH).as_bytes()).is_ok());
    for (text, expected) in [
        (&*deep(super::MAX_DEPTH + 1), "more than 32 levels"),
        (r#"<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>"#, "document type"),
        ("<a>&b;</a>", "unknown entity `b`"),
        ("<a>&#0;</a>", ""),
        ("<a>", "ends within an element"),
        ("<a></b>", "malformed"),
        ("</a>", "malformed"),
        ("<a/><a/>", "two roots"),
        ("<a/>b", "outside its root"),
        ("", "no element"),
        ("<a", "malformed"),
    ] {
        let error = Element::read(text.as_bytes()).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(Element::read(b"<a>\xff</a>").is_err());
    let read = Element::read(b"<a>b&lt;<![CDATA[<c>&]]>\r\n</a>").unwrap();
    assert_eq!(read.text, "b<<c>&\n");
}

#[test]
fn writes_results_that_it_reads() {
    let zone = json!({
        "HostedZone": {"Id": "/hostedzone/Z1", "Name": "a.example.", "CallerReference": "<&>\r", "Config": {"PrivateZone": true}},
        "ChangeInfo": {"Id": "/change/C1", "Status": "INSYNC", "SubmittedAt": "2026-11-30T20:00:00Z"},
        "DelegationSet": {"NameServers": ["ns.example"]},
        "Location": "https://route53.amazonaws.com/2013-04-01/hostedzone/Z1",
    });
    let vpcs = json!({"Vpcs": [{"VpcId": "vpc-1", "IsDefault": false, "Tags": []}]});
    let shift = json!({
        "items": [{
            "zonalShiftId": "1", "resourceIdentifier": "arn:x", "awayFrom": "use1-az1", "comment": "",
            "expiryTime": "2026-11-30T20:00:00.25Z", "startTime": "2026-11-30T20:00:00Z", "status": "ACTIVE",
        }],
    });
    let identity = json!({"Account": "111122223333", "Arn": "arn:aws:iam::111122223333:root", "UserId": "1"});
    for (service, operation, result, status, text) in [
        (Service::Route53, "CreateHostedZone", zone, 201, "<CallerReference>&lt;&amp;&gt;&#13;</CallerReference>"),
        (
            Service::Ec2,
            "DescribeVpcs",
            vpcs,
            200,
            "<requestId>r1</requestId><vpcSet><item><isDefault>false</isDefault>",
        ),
        (Service::ArcZonalShift, "ListZonalShifts", shift, 200, r#""expiryTime":1796068800.25"#),
        (Service::Sts, "GetCallerIdentity", identity, 200, "<GetCallerIdentityResult><UserId>1</UserId>"),
        (Service::Ec2, "DeleteVpc", json!({}), 200, "<return>true</return>"),
        (Service::Route53Resolver, "DeleteFirewallRule", json!({}), 200, "{}"),
    ] {
        let reply = write_result(service, operation, &result, "r1");
        let body = String::from_utf8(reply.body.clone()).unwrap();
        assert!(reply.status == status && body.contains(text), "{operation}: {body}");
        let headers: Vec<(String, String)> = reply.headers.into_iter().map(|(name, v)| (name.into(), v)).collect();
        assert_eq!(read_response(service, operation, reply.status, &headers, &reply.body), Ok(result), "{body}");
    }
}

#[test]
fn writes_errors_that_it_reads() {
    for (service, operation, code, status) in [
        (Service::Route53Resolver, "GetResolverRule", "ResourceNotFoundException", 400),
        (Service::Route53, "GetHostedZone", "NoSuchHostedZone", 404),
        (Service::Route53, "ChangeResourceRecordSets", "InvalidChangeBatch", 400),
        (Service::Ec2, "DescribeVpcs", "InvalidVpcID.NotFound", 400),
        (Service::Route53Profiles, "GetProfile", "ResourceNotFoundException", 400),
        (Service::Sts, "GetCallerIdentity", "ExpiredToken", 403),
    ] {
        let mut error = ServiceError::new(service, code, "it is <not> here");
        if service == Service::Sts {
            error = error.with_status(403);
        }
        assert_eq!(error.status, status, "{code}");
        let reply = write_error(service, Some(operation), &error, "r1");
        let headers: Vec<(String, String)> = reply.headers.into_iter().map(|(name, v)| (name.into(), v)).collect();
        match read_response(service, operation, reply.status, &headers, &reply.body) {
            Err(Failure::Refused(read)) => {
                assert_eq!((&*read.code, &*read.message, read.status), (code, "it is <not> here", status));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn writes_requests_that_it_reads() {
    for (service, operation, parameters) in [
        (
            Service::Route53,
            "ListResourceRecordSets",
            json!({"HostedZoneId": "Z/1", "StartRecordName": "*.a", "MaxItems": "3"}),
        ),
        (
            Service::Route53,
            "ChangeTagsForResource",
            json!({
                "ResourceType": "hostedzone", "ResourceId": "Z1", "AddTags": [{"Key": "a", "Value": "<b>"}], "RemoveTagKeys": ["c"]
            }),
        ),
        (
            Service::Ec2,
            "CreateVpc",
            json!({
                "CidrBlock": "10.0.0.0/16",
                "TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "a & b"}]}],
            }),
        ),
        (Service::Route53Profiles, "CreateProfile", json!({"Name": "p", "ClientToken": "t", "Tags": []})),
        (
            Service::Route53Resolver,
            "ListResolverRules",
            json!({"MaxResults": 5, "Filters": [{"Name": "TYPE", "Values": ["FORWARD"]}]}),
        ),
        (Service::Sts, "GetCallerIdentity", json!({})),
    ] {
        let request = write_request(service, operation, &parameters).unwrap();
        let target = request.headers.iter().find(|(name, _)| *name == "X-Amz-Target").map(|(_, value)| value.as_str());
        let (method, path, query, body) = (&*request.method, &*request.path, &*request.query, &*request.body);
        let call = read(service, &Request { method, path, query, target, body });
        assert_eq!(call, Call { service, operation: call.operation, parameters });
        assert_eq!(call.operation, operation);
    }
    let error = write_request(Service::Route53, "GetHostedZone", &Value::Null).unwrap_err();
    assert!(error.ends_with("route53:GetHostedZone: the parameter Id is missing"), "{error}");
}
