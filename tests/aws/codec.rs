//! Generated requests, results and errors of all operations: botocore writes what zonal reads, and reads what zonal writes.

use super::PYTHON;
use crate::harness::tree;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use zonal::aws::{
    codec::{
        client::{read_response, write_request},
        server::{Call, Reply, Request, ServiceError, read_request, write_error, write_result},
    },
    model::Service,
};

const SEED: &str = "1";

/// Runs `codec.py`. Returns its standard output.
fn python(arguments: &[&str], input: String) -> String {
    let mut child = Command::new(PYTHON)
        .arg(tree("tests/aws/codec.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; run tests/packages"));
    let mut stdin = child.stdin.take().unwrap();
    // The script can write before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn reply_to_json(reply: &Reply) -> Value {
    let headers: Map<String, Value> =
        reply.headers.iter().map(|(name, value)| (name.to_string(), value.clone().into())).collect();
    json!({"status": reply.status, "headers": headers, "body": BASE64.encode(&reply.body)})
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[test]
fn agrees_with_botocore_on_all_operations() {
    let services = Service::ALL.map(|service| {
        let operations: Vec<&String> = service.model().operations.keys().collect();
        (service.signing_name().to_string(), json!(operations))
    });
    let scope: Map<String, Value> = services.into_iter().collect();
    let cases = python(&["generate", SEED], Value::from(scope).to_string());
    let (mut lines, mut count) = (String::new(), 0);
    for line in cases.lines() {
        count += 1;
        let mut case: Value = serde_json::from_str(line).unwrap();
        let service = Service::of_signing_name(text(&case, "service")).unwrap();
        let operation = text(&case, "operation").to_string();

        let request = &case["request"];
        let body = BASE64.decode(text(request, "body").as_bytes()).unwrap();
        let read = read_request(
            service,
            &Request {
                method: text(request, "method"),
                path: text(request, "path"),
                query: text(request, "query"),
                target: request["target"].as_str(),
                body: &body,
            },
        );
        let Ok(Call { operation: found, parameters, .. }) = read else { panic!("{service}: {read:?}: {line}") };
        assert_eq!((found, &parameters), (&*operation, &case["parameters"]), "{line}");

        let written = write_request(service, &operation, &parameters).unwrap();
        let target = written.headers.iter().find(|(name, _)| *name == "X-Amz-Target");
        case["zonal_request"] = json!({
            "method": written.method, "path": written.path, "query": written.query,
            "target": target.map(|(_, value)| value), "body": BASE64.encode(&written.body),
        });

        let reply = write_result(service, &operation, &case["result"], "r1");
        let headers: Vec<(String, String)> =
            reply.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let result = read_response(service, &operation, reply.status, &headers, &reply.body);
        assert_eq!(result.as_ref(), Ok(&case["result"]), "{line}");
        case["zonal_result"] = reply_to_json(&reply);

        let errors = case["errors"].as_array().cloned().unwrap_or_default();
        let errors = errors.iter().filter_map(Value::as_str).map(|name| {
            let error = ServiceError::new(service, name, "why <not> & \"more\"");
            (name.to_string(), reply_to_json(&write_error(service, Some(&operation), &error, "r1")))
        });
        case["zonal_errors"] = errors.collect::<Map<_, _>>().into();
        lines.push_str(&case.to_string());
        lines.push('\n');
    }
    assert!(count > 1500, "{count} cases were generated");
    let differences = python(&["compare"], lines);
    let shown: Vec<&str> = differences.lines().take(20).collect();
    assert!(shown.is_empty(), "{} differences:\n{}", differences.lines().count(), shown.join("\n"));
}
