//! Signatures, compared with those of botocore; and a server that verifies them.

use super::PYTHON;
use crate::harness::{Scratch, Server, ZONAL, can_run, http_send, tree};
use data_encoding::BASE64;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, process::Command};
use zonal::aws::sigv4::{ErrorKind, Key, Keys, Principal, SignatureError, verify};

/// A request that botocore has signed.
#[derive(Clone)]
struct Signed {
    form: String,
    method: String,
    wire: String,
    headers: HeaderMap,
    body: Vec<u8>,
    secret: String,
    now: i64,
}

impl Signed {
    fn of(value: &Value) -> Signed {
        let text = |member: &str| value[member].as_str().unwrap().to_string();
        let mut headers = HeaderMap::new();
        for pair in value["headers"].as_array().unwrap() {
            let name = HeaderName::from_bytes(pair[0].as_str().unwrap().as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(pair[1].as_str().unwrap().trim().as_bytes()).unwrap());
        }
        Signed {
            form: text("form"),
            method: text("method"),
            wire: text("wire"),
            headers,
            body: BASE64.decode(text("body").as_bytes()).unwrap(),
            secret: text("secret"),
            now: value["now"].as_i64().unwrap(),
        }
    }

    fn verify(&self) -> Result<Principal, SignatureError> {
        let mut keys = Keys::default();
        keys.add("AKIDTEST", Key::new("111122223333", true, &self.secret));
        verify(&self.method, &self.wire, &self.headers, &self.body, self.now, &keys)
    }

    /// The kind of error after a change.
    fn after(&self, change: impl FnOnce(&mut Signed)) -> Option<ErrorKind> {
        let mut changed = self.clone();
        change(&mut changed);
        changed.verify().err().map(|error| error.kind)
    }
}

#[test]
fn verifies_what_botocore_signs_and_nothing_else() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let output = Command::new(PYTHON).arg(tree("tests/aws/sigv4.py")).args(["2000", "7"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut checked, mut in_query, mut unsigned_bodies) = (0, 0, 0);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let signed = Signed::of(&value);
        let principal = signed.verify().unwrap_or_else(|error| panic!("{error:?}: {line}"));
        assert_eq!(
            (principal.region.as_str(), principal.service.as_str()),
            (value["region"].as_str().unwrap(), value["service"].as_str().unwrap())
        );
        let is_unsigned = signed.headers.contains_key("x-amz-content-sha256");
        let mismatch = Some(ErrorKind::Mismatch);
        assert_eq!(signed.after(|request| request.secret.push('x')), mismatch, "{line}");
        assert_eq!(signed.after(|request| request.method = "PATCH".into()), mismatch, "{line}");
        let body = signed.after(|request| request.body.push(b'x'));
        assert_eq!(body, if is_unsigned { None } else { mismatch }, "{line}");
        let more = if signed.wire.contains('?') { "&zzz=1" } else { "?zzz=1" };
        assert_eq!(signed.after(|request| request.wire.push_str(more)), mismatch, "{line}");
        let query = signed.wire.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        assert_eq!(signed.after(|request| request.wire = format!("/zzz{query}")), mismatch, "{line}");
        let host = HeaderValue::from_static("other.example");
        assert_eq!(signed.after(|request| drop(request.headers.insert("host", host))), mismatch, "{line}");
        let removed = signed.after(|request| drop(request.headers.remove("host")));
        assert_eq!(removed, mismatch, "{line}");
        if signed.form == "query" {
            in_query += 1;
            assert_eq!(signed.after(|request| request.now += 3601), Some(ErrorKind::Expired), "{line}");
        } else {
            assert_eq!(signed.after(|request| request.now += 901), Some(ErrorKind::Expired), "{line}");
            assert_eq!(signed.after(|request| drop(request.headers.remove("x-amz-date"))), Some(ErrorKind::Incomplete));
            for name in signed.headers.keys().filter(|name| name.as_str().starts_with("x-")) {
                let value = HeaderValue::from_static("20200101T000000Z");
                let found = signed.after(|request| drop(request.headers.insert(name, value)));
                assert!(found.is_some(), "{name}: {line}");
            }
        }
        assert_eq!(signed.after(|request| request.now -= 901), Some(ErrorKind::Expired), "{line}");
        checked += 1;
        unsigned_bodies += usize::from(is_unsigned);
    }
    assert!(checked == 2000 && in_query > 400 && unsigned_bodies > 50, "{checked} {in_query} {unsigned_bodies}");
}

/// Calls the API with boto3. Returns the error code, or `-` for success, of a read and of a write.
fn codes(server: &Server, id: &str, secret: &str) -> Vec<String> {
    let script = r#"
import sys
import boto3, botocore
from botocore.config import Config

url, key, secret = sys.argv[1:]
arguments = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": key, "aws_secret_access_key": secret,
             "config": Config(retries={"total_max_attempts": 1})}
ec2, route53 = boto3.client("ec2", **arguments), boto3.client("route53", **arguments)
resolver = boto3.client("route53resolver", **arguments)
for call in (lambda: ec2.describe_vpcs(), lambda: resolver.list_resolver_rules(),
             lambda: route53.create_hosted_zone(Name="a.example", CallerReference=key)):
    try:
        call()
        print("-")
    except botocore.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])
print(boto3.client("sts", **arguments).get_caller_identity()["Account"] if secret != "wrong" else "")
"#;
    let output =
        Command::new(PYTHON).args(["-c", script, &format!("http://{}", server.admin), id, secret]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn a_server_with_keys_verifies_signatures_and_roles() {
    if !can_run(&[PYTHON, "curl"]) {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.path().join("access-keys");
    let new = |role: &str, account: &str| -> (String, String) {
        let path = file.to_str().unwrap();
        let output = Command::new(ZONAL)
            .args(["key", "new", "--role", role, "--account", account, "--domain", "a.example", "--file", path])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|line| line.contains(&id)).unwrap().to_string();
        (id, line.split(' ').nth(2).unwrap().to_string())
    };
    let (writer, secret) = new("write", "111122223333");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let state = Scratch::new();
    let server = Server::start_with_admin_and(
        "{push: {}}",
        &format!("access_keys_file: {}", file.display()),
        &format!("state_directory: {}\n", state.path().display()),
    );
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", r#"{"generation": 1}"#), Some(200));
    let success = |account: &str| ["-", "-", "-", account].map(String::from).to_vec();
    assert_eq!(codes(&server, &writer, &secret), success("111122223333"));
    assert_eq!(
        codes(&server, &writer, "wrong"),
        ["SignatureDoesNotMatch", "InvalidSignatureException", "SignatureDoesNotMatch", ""]
    );
    // A key that is added later is valid at once. It reads, and acts for its own account.
    let (reader, other) = new("read", "444455556666");
    let found = codes(&server, &reader, &other);
    assert_eq!((found[0].as_str(), found[1].as_str(), found[3].as_str()), ("-", "-", "444455556666"));
    assert!(found[2].starts_with("AccessDenied"), "{found:?}");
    // The id alone is not enough, as it is without a file.
    assert_eq!(codes(&server, "111122223333", "wrong")[0], "InvalidClientTokenId");
    let url = format!("http://{}/", server.admin);
    let output =
        Command::new("curl").args(["-s", "-d", "Action=DescribeVpcs&Version=2016-11-15", &url]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("<Code>MissingAuthenticationToken</Code>"));
    // No secret is in the log, the status, the metrics, the manifest or the state directory.
    let page = |path: &str| crate::harness::http_get(server.admin, path).unwrap().1;
    let mut texts = vec![server.process.log(), server.status().to_string(), page("/metrics"), page("/v1/manifest")];
    assert!(texts[3].contains("a.example"), "{}", texts[3]);
    let files = files_below(state.path());
    assert!(!files.is_empty());
    texts.extend(files.iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()));
    for text in texts {
        assert!(!text.contains(&secret) && !text.contains(&other));
    }
}

/// The files in a directory and in the directories below it.
fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
