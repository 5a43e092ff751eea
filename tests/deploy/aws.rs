//! The AWS files: Terraform's files as far as they can be checked without AWS, and the AWS CLI
//! against a simulated AWS.

use super::{PYTHON, bash, python};
use crate::harness::{ZONAL, can_run, lab::Lab, tree, wait_until};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

const TERRAFORM: [&str; 3] = ["main.tf", "resolver.tf", "variables.tf"];

/// All names that follow a prefix in a text, without the prefix.
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
    let mut bodies = BTreeMap::new();
    for file in TERRAFORM {
        let path = tree("deploy/terraform").join(file);
        let parsed = python(
            "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))",
            &[path.to_str().unwrap()],
        );
        let parsed: Value = serde_json::from_str(&parsed).unwrap();
        // A block's labels are quoted keys.
        let keys = |value: &Value| -> Vec<(String, Value)> {
            let blocks = value.as_array().into_iter().flatten().flat_map(|block| block.as_object().unwrap().clone());
            blocks.map(|(key, inner)| (key.trim_matches('"').to_string(), inner)).collect()
        };
        declared[0].extend(keys(&parsed["variable"]).into_iter().map(|(name, _)| name));
        for (kind, inner) in keys(&parsed["resource"]) {
            let name = inner.as_object().unwrap().keys().next().unwrap().trim_matches('"').to_string();
            assert!(declared[1].insert(format!("{kind}.{name}")), "{kind}.{name} twice");
            bodies.insert(format!("{kind}.{name}"), inner.as_object().unwrap().values().next().unwrap().to_string());
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
    // No change stops, replaces or reboots all nodes at once: not a new image, and not a gap in
    // CloudWatch data.
    for what in ["ami", "instance_type", "user_data"] {
        let ignored = bodies["aws_instance.node"].split("ignore_changes").nth(1).unwrap();
        assert!(
            ignored.contains(&format!("\"{what}\"")) || ignored.contains(&format!("${{{what}}}")),
            "{what}: {ignored}"
        );
    }
    for (alarm, body) in bodies.iter().filter(|(name, _)| name.contains("_alarm.")) {
        assert!(body.contains("var.alarm_actions"), "{alarm} tells nobody: {body}");
        assert!(!(body.contains("ec2:reboot") && body.contains("\"breaching")), "{alarm} reboots for silence: {body}");
    }
}

/// The start script of a node is valid shell, and its configuration lets zonal serve beside
/// systemd-resolved's stub.
#[test]
fn user_data_configures_a_node() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl"]) {
        return;
    }
    let mut text = fs::read_to_string(tree("deploy/terraform/user-data.sh")).unwrap();
    let main = fs::read_to_string(tree("deploy/terraform/main.tf")).unwrap();
    let given = main.split("templatefile(").nth(1).unwrap().split("})").next().unwrap();
    let given: BTreeSet<String> =
        given.lines().filter_map(|line| Some(line.split_once(" = ")?.0.trim().to_string())).collect();
    let used: BTreeSet<String> =
        text.split("${").skip(1).map(|rest| rest.split('}').next().unwrap().to_string()).collect();
    assert_eq!(used, given, "what the template uses, and what it is given");
    for name in used {
        text = text.replace(&format!("${{{name}}}"), if name == "private_ip" { "10.2.0.53" } else { "value" });
    }
    let mut lab = Lab::new();
    let script = lab.scratch.write("user-data.sh", &text);
    bash("bash -n \"$1\"", &[script.to_str().unwrap()]);
    let minute = text.split("zonal-minute <<'END'\n").nth(1).unwrap().split("END\n").next().unwrap();
    bash("bash -n \"$1\"", &[lab.scratch.write("minute.sh", minute).to_str().unwrap()]);

    let config = text.split("zonal.yaml <<'END'\n").nth(1).unwrap().split("END\n").next().unwrap();
    let secret = lab.scratch.write("cookie.secret", "00112233445566778899aabbccddeeff\n");
    let config = config
        .replace("/run/credentials/zonal.service/cookie.secret", secret.to_str().unwrap())
        .replace("/var/lib/zonal", lab.scratch.path().join("state").to_str().unwrap());
    lab.scratch.write("zones/manifest.yaml", fs::read(tree("deploy/kubernetes/base/manifest.yaml")).unwrap());
    let config = lab.scratch.write("zonal.yaml", config);
    let config = config.to_str().unwrap();
    lab.router("vpc");
    lab.host("node", "vpc", &["10.2.0.53"]);
    lab.host("client", "vpc", &["10.2.16.7"]);
    let stub = (Ipv4Addr::new(127, 0, 0, 53), 53);
    let _stub = lab.inside("node", || (UdpSocket::bind(stub).unwrap(), TcpListener::bind(stub).unwrap()));
    let output = lab.run("node", &[ZONAL, "check", "--config", config]);
    assert!(output.status.success(), "{output:?}");
    let mut server = lab.start("node", &[ZONAL, "serve", "--config", config]);
    wait_until("the node answers", || {
        server.assert_alive();
        let reply = lab.dig("client", "@10.2.0.53 sqs.us-east-1.amazonaws.com A +time=1");
        (reply.data("A") == ["10.2.16.10"]).then_some(())
    });
}

/// A simulated AWS that returns an identifier for each request, and records the requests.
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
            // EC2 uses forms and XML, Resolver uses JSON.
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

/// The domains that Route 53 Resolver forwards to zonal.
const DOMAINS: [&str; 4] =
    ["us-east-1.amazonaws.com", "us-east-1.vpce.amazonaws.com", "us-east-1.api.aws", "corp.example.com"];

#[test]
fn cli_lines_run() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let (url, asked) = aws();
    let run = |arguments: &[&str]| {
        Command::new(tree("deploy/aws-cli.sh"))
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", tree("target/tools/venv/bin").display()))
            .envs([("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "us-east-1")])
            .envs([("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .env("HOME", tree("target"))
            .output()
            .unwrap()
    };
    // Without an argument the script changes nothing and fails.
    assert_eq!(run(&[]).status.code(), Some(2));
    assert!(asked.lock().unwrap().is_empty());
    for part in ["dhcp", "resolver"] {
        let output = run(&[part]);
        assert!(output.status.success(), "{output:?}");
    }
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
    for domain in DOMAINS {
        let domain = format!("\"DomainName\": \"{domain}\"");
        let words = ["CreateResolverRule ", "\"FORWARD\"", &domain, "rslvr-out-1", "10.2.0.53", "10.2.16.53"];
        assert_eq!(has(&words), 1, "{asked:#?}");
    }
    assert_eq!(has(&["AssociateResolverRule ", "rslvr-rr-1"]), DOMAINS.len(), "{asked:#?}");
    // The rules are not associated with the nodes' own VPC: forwarded queries would return to the
    // nodes.
    let own = asked.iter().find_map(|one| one.split("VpcId=").nth(1)).unwrap().split('&').next().unwrap();
    assert_eq!(has(&["AssociateResolverRule ", own]), 0, "{asked:#?}");
}
