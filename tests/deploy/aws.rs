//! What is for AWS: Terraform's files as far as they can be read without AWS, and the AWS CLI against an AWS of our own.

use super::{PYTHON, bash, python};
use crate::harness::{Scratch, ZONAL, can_run, tree};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

const TERRAFORM: [&str; 3] = ["main.tf", "resolver.tf", "variables.tf"];

/// All words of a text that begin with a prefix, without it, up to what is no part of a name.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let is_start = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '"');
    text.match_indices(prefix).filter(|(at, _)| is_start(*at)).map(|(at, _)| name(&text[at + prefix.len()..])).collect()
}

#[test]
fn terraform_is_whole() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let mut declared = [BTreeSet::new(), BTreeSet::new()];
    let mut code = String::new();
    for file in TERRAFORM {
        let path = tree("deploy/terraform").join(file);
        let parsed = python(
            "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))",
            &[path.to_str().unwrap()],
        );
        let parsed: Value = serde_json::from_str(&parsed).unwrap();
        // A block's labels are keys, in quotes.
        let keys = |value: &Value| -> Vec<(String, Value)> {
            let blocks = value.as_array().into_iter().flatten().flat_map(|block| block.as_object().unwrap().clone());
            blocks.map(|(key, inner)| (key.trim_matches('"').to_string(), inner)).collect()
        };
        declared[0].extend(keys(&parsed["variable"]).into_iter().map(|(name, _)| name));
        for (kind, inner) in keys(&parsed["resource"]) {
            let name = inner.as_object().unwrap().keys().next().unwrap().trim_matches('"').to_string();
            assert!(declared[1].insert(format!("{kind}.{name}")), "{kind}.{name} twice");
        }
        let text = fs::read_to_string(&path).unwrap();
        code.extend(text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")));
    }
    let [variables, resources] = declared;
    assert_eq!(names(&code, "var."), variables, "variables that are used, and those that there are");
    for kind in resources.iter().map(|resource| resource.split('.').next().unwrap()) {
        for name in names(&code, &format!("{kind}.")) {
            assert!(resources.contains(&format!("{kind}.{name}")), "{kind}.{name} is nowhere");
        }
    }
    for resource in [
        "aws_vpc_dhcp_options.zonal",
        "aws_vpc_dhcp_options_association.zonal",
        "aws_network_interface.node",
        "aws_instance.node",
        "aws_cloudwatch_metric_alarm.answers",
        "aws_route53_resolver_endpoint.outbound",
        "aws_route53_resolver_rule.zonal",
        "aws_route53_resolver_rule_association.zonal",
    ] {
        assert!(resources.contains(resource), "no {resource} in {resources:?}");
    }
}

/// What a node runs when it starts: shell that can be read, and a configuration that zonal takes.
#[test]
fn user_data_configures_a_node() {
    let mut text = fs::read_to_string(tree("deploy/terraform/user-data.sh")).unwrap();
    let main = fs::read_to_string(tree("deploy/terraform/main.tf")).unwrap();
    let given: BTreeSet<String> = names(&main[main.find("templatefile(").unwrap()..main.find("})").unwrap()], "var.");
    let used: BTreeSet<String> =
        text.split("${").skip(1).map(|rest| rest.split('}').next().unwrap().to_string()).collect();
    assert_eq!(used, given, "what the template uses, and what it is given");
    for name in used {
        text = text.replace(&format!("${{{name}}}"), "value");
    }
    let scratch = Scratch::new();
    let script = scratch.write("user-data.sh", &text);
    bash("bash -n \"$1\"", &[script.to_str().unwrap()]);
    let minute = text.split("zonal-minute <<'END'\n").nth(1).unwrap().split("END\n").next().unwrap();
    bash("bash -n \"$1\"", &[scratch.write("minute.sh", minute).to_str().unwrap()]);

    let config = text.split("zonal.yaml <<'END'\n").nth(1).unwrap().split("END\n").next().unwrap();
    let secret = scratch.write("cookie.secret", "00112233445566778899aabbccddeeff\n");
    let config = config
        .replace("/run/credentials/zonal.service/cookie.secret", secret.to_str().unwrap())
        .replace("/var/lib/zonal", scratch.path().to_str().unwrap());
    scratch.write("zones/manifest.yaml", fs::read(tree("deploy/kubernetes/base/manifest.yaml")).unwrap());
    let config = scratch.write("zonal.yaml", config);
    let output = Command::new(ZONAL).args(["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// An AWS that gives an identifier to everything, and keeps what it was asked for.
fn aws() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut action, mut line) = (0, String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                let (name, value) = line.trim().split_once(": ").unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "x-amz-target" => action = value.rsplit('.').next().unwrap().to_string(),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            // EC2 speaks forms and XML, Resolver JSON.
            let reply = match body.split('&').find_map(|field| field.strip_prefix("Action=")) {
                Some(action) => format!(
                    "<{action}Response><dhcpOptions><dhcpOptionsId>dopt-1</dhcpOptionsId></dhcpOptions></{action}Response>"
                ),
                None => "{\"ResolverEndpoint\": {\"Id\": \"rslvr-out-1\"}, \"ResolverRule\": {\"Id\": \"rslvr-rr-1\"}}"
                    .into(),
            };
            kept.lock().unwrap().push(format!("{action} {body}"));
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", reply.len());
            let _ = stream.write_all(format!("{head}{reply}").as_bytes());
        }
    });
    (url, asked)
}

#[test]
fn cli_lines_run() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let (url, asked) = aws();
    let output = Command::new(tree("deploy/aws-cli.sh"))
        .env("PATH", format!("{}:/usr/bin:/bin", tree("target/tools/venv/bin").display()))
        .envs([("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "us-east-1"), ("AWS_DEFAULT_REGION", "us-east-1")])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .env("HOME", tree("target"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let asked = asked.lock().unwrap();
    let has = |words: &[&str]| asked.iter().filter(|one| words.iter().all(|word| one.contains(word))).count();
    let addresses = ["Value.1=10.2.0.53", "Value.2=10.2.16.53"];
    assert_eq!(
        has(&[&["Action=CreateDhcpOptions", "Key=domain-name-servers"], &addresses[..]].concat()),
        1,
        "{asked:#?}"
    );
    assert_eq!(has(&["Action=AssociateDhcpOptions", "DhcpOptionsId=dopt-1", "VpcId=vpc-"]), 1, "{asked:#?}");
    assert_eq!(has(&["CreateResolverEndpoint ", "\"OUTBOUND\""]), 1, "{asked:#?}");
    for domain in ["us-east-1.amazonaws.com", "us-east-1.vpce.amazonaws.com", "corp.example.com"] {
        let domain = format!("\"DomainName\": \"{domain}\"");
        let words = ["CreateResolverRule ", "\"FORWARD\"", &domain, "rslvr-out-1", "10.2.0.53", "10.2.16.53"];
        assert_eq!(has(&words), 1, "{asked:#?}");
    }
    assert_eq!(has(&["AssociateResolverRule ", "rslvr-rr-1"]), 3, "{asked:#?}");
}
