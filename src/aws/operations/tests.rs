use super::*;
use crate::aws::{
    codec::server::{Request, read_request},
    model::{Model, Shape, ShapeNumber},
};
use std::collections::BTreeSet;

/// The members of a structure.
fn members(model: &Model, number: Option<ShapeNumber>) -> Vec<(String, ShapeNumber)> {
    match number.map(|number| model.shape(number)) {
        Some(Shape::Structure { members, .. }) => {
            members.iter().map(|member| (member.name.clone(), member.shape)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a path goes through members of the model.
fn has_path(model: &Model, number: ShapeNumber, path: &str) -> bool {
    if let Shape::List { member, .. } = model.shape(number) {
        return has_path(model, *member, path);
    }
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let found = members(model, Some(number)).into_iter().find(|(member, _)| member == name);
    found.is_some_and(|(_, shape)| rest.is_empty() || has_path(model, shape, rest))
}

#[test]
fn the_table_says_of_each_parameter_what_zonal_does_with_it() {
    let mut seen = BTreeSet::new();
    for entry in entries() {
        let what = format!("{}:{}", entry.service, entry.name);
        assert!(seen.insert(what.clone()), "{what} is in the table twice");
        let model = entry.service.model();
        let (_, operation) = model.operation(entry.name).unwrap_or_else(|| panic!("{what} is not in the model"));
        let mut classes: Vec<&str> =
            [entry.served, entry.echoed, entry.refused].iter().flat_map(|class| class.split_whitespace()).collect();
        for path in &classes {
            let has = operation.input.is_some_and(|input| has_path(model, input, path));
            assert!(has, "{what} has no parameter {path}");
        }
        // A nested parameter is an exception from the class of the outer one.
        classes.retain(|path| !path.contains('.'));
        let count = classes.len();
        let named: BTreeSet<&str> = classes.into_iter().collect();
        assert_eq!(named.len(), count, "{what}: a parameter has two classes");
        for (name, _) in members(model, operation.input) {
            assert!(named.contains(&*name), "{what}: the parameter {name} has no class");
        }
    }
    assert!(seen.len() > 30);
}

#[test]
fn refuses_operations_and_parameters_that_it_does_not_serve() {
    let admit_form = |form: &str| {
        let request = Request { method: "POST", path: "/", query: "", target: None, body: form.as_bytes() };
        admit(&read_request(Service::Ec2, &request).unwrap()).map(|entry| entry.name)
    };
    assert_eq!(admit_form("Action=DescribeVpcs").unwrap(), "DescribeVpcs");
    let unknown = Call { service: Service::Ec2, operation: "Nothing", parameters: json!({}) };
    let error = admit(&unknown).unwrap_err();
    assert_eq!((&*error.code, error.status), ("UnsupportedOperation", 400));
    let error = admit_form("Action=DescribeVpcs&DryRun=true").unwrap_err();
    assert_eq!((&*error.code, error.status), ("DryRunOperation", 412));
    let body = b"<CreateHostedZoneRequest><Name>a.</Name><CallerReference>1</CallerReference>\
        <HostedZoneConfig><HostedZoneTier>ADVANCED</HostedZoneTier></HostedZoneConfig></CreateHostedZoneRequest>";
    let request = Request { method: "POST", path: "/2013-04-01/hostedzone", query: "", target: None, body };
    let error = admit(&read_request(Service::Route53, &request).unwrap()).unwrap_err();
    assert!(
        error.code == "InvalidInput" && error.message.contains("the parameter HostedZoneConfig.HostedZoneTier"),
        "{error:?}"
    );
    let nested = json!({"Changes": [{}, {"ResourceRecordSet": {"TrafficPolicyInstanceId": "1"}}]});
    assert!(is_given(&nested, "Changes.ResourceRecordSet.TrafficPolicyInstanceId"));
    assert!(!is_given(&nested, "Changes.ResourceRecordSet.Name"));
}

#[test]
fn pages_end_and_foreign_tokens_are_refused() {
    let all = |after: Option<&str>| {
        let first = after.map_or(0, |after| after.parse::<usize>().unwrap() + 1);
        (first..5).map(|number| (number.to_string(), json!(number)))
    };
    let (mut token, mut seen) = (None, Vec::new());
    loop {
        let found = page("list", token.as_deref(), 2, all).unwrap();
        seen.push(found.items.len());
        token = found.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, [2, 2, 1]);
    let token = page("list", None, 2, all).unwrap().next.unwrap();
    assert!(page("other", Some(&token), 2, all).is_none() && page("list", Some("%"), 2, all).is_none());
}

#[test]
fn changes_have_identifiers_with_their_revision() {
    let id = identifiers::change(77, 1_796_068_800);
    assert_eq!(identifiers::read_change(&id), Some((77, 1_796_068_800)));
    for wrong in ["C1", "", "C00000000004d006B0DE340", "X00000000004D006B0DE340"] {
        assert_eq!(identifiers::read_change(wrong), None, "{wrong}");
    }
    assert_eq!(identifiers::random_hosted_zone().len(), 20);
    assert_ne!(identifiers::random_hosted_zone(), identifiers::random_hosted_zone());
}
