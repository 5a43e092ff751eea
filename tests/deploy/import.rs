//! An AWS account becomes a manifest: boto3 makes a network in a simulated AWS (moto), the AWS CLI describes it by
//! `deploy/import/collect.sh`, `zonal import aws` imports the outputs, and zonal serves the network.

use super::{PYTHON, python};
use crate::harness::{Process, Scratch, ZONAL, can_run, free_port, lab::Lab, tree, wait_until};
use serde_json::{Value, json};
use std::{fs, net::TcpStream, process::Command};

/// A simulated AWS: its process, and its URL.
fn simulated_aws(scratch: &Scratch) -> (Process, String) {
    let port = free_port();
    let mut process =
        Process::start(&[PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()], scratch, "moto");
    wait_until("moto listens", || {
        process.assert_alive();
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (process, format!("http://127.0.0.1:{port}"))
}

/// Runs `collect.sh` for one Region. Returns the commands that failed.
fn collect(url: &str, directory: &str) -> Vec<String> {
    let tools = tree("target/tools/venv/bin");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .arg(tree("deploy/import/collect.sh"))
        .args([directory, "eu-west-1"])
        .env("PATH", path)
        .env("AWS_ENDPOINT_URL", url)
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        // moto does not know some of the operations: no second attempt helps.
        .envs([("AWS_RETRY_MODE", "standard"), ("AWS_MAX_ATTEMPTS", "1")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let failed: Vec<String> = text
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("eu-west-1: aws ")?.split(':').next()?.trim().to_string()))
        .collect();
    assert_eq!(output.status.success(), failed.is_empty(), "{text}");
    failed
}

fn import(directory: &str, out: &str) -> Value {
    let output =
        Command::new(ZONAL).args(["import", "aws", directory, "--out", out, "--format", "json"]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_account_that_the_cli_describes_is_served() {
    if !can_run(&["ip", "dig", "sysctl", PYTHON]) {
        return;
    }
    let mut lab = Lab::new();
    let (moto, url) = simulated_aws(&lab.scratch);
    let script = fs::read_to_string(tree("tests/deploy/import/account.py")).unwrap();
    let account: Value = serde_json::from_str(&python(&script, &[&url])).unwrap();
    let (outputs, out) = (lab.scratch.path().join("outputs"), lab.scratch.path().join("zones"));
    let (outputs, out) = (outputs.to_str().unwrap(), out.to_str().unwrap());
    let failed = collect(&url, outputs);
    drop(moto);
    // What moto does not know is named, and the rest is there.
    assert!(
        failed.iter().all(|command| !command.starts_with("ec2") && !command.starts_with("route53 list-r")),
        "{failed:?}"
    );
    // moto gives interfaces addresses outside of their subnets.
    let interfaces = format!("{outputs}/eu-west-1/ec2-describe-network-interfaces.from-0.json");
    let mut described: Value = serde_json::from_slice(&fs::read(&interfaces).unwrap()).unwrap();
    for interface in described["NetworkInterfaces"].as_array_mut().unwrap() {
        let is_first = interface["AvailabilityZone"] == "eu-west-1a";
        interface["PrivateIpAddress"] = json!(if is_first { "10.1.0.100" } else { "10.1.16.100" });
    }
    fs::write(&interfaces, described.to_string()).unwrap();
    let report = import(outputs, out);
    let counts = &report["imported"];
    // Beside the two VPCs, an account has a default VPC with one subnet in each AZ, and each VPC has a security group.
    for (kind, count) in [
        ("vpcs", 3),
        ("vpc_endpoints", 1),
        ("vpc_endpoint_services", 1),
        ("vpc_peering_connections", 1),
        ("transit_gateways", 1),
        ("private_hosted_zones", 2),
        ("resolver_endpoints", 2),
        ("resolver_rules", 1),
        ("security_groups", 4),
    ] {
        assert_eq!(counts[kind], count, "{kind}: {report:#}");
    }
    assert_eq!(report["not_read"], json!([]), "{report:#}");
    let (zone, public) = (account["private"].as_str().unwrap(), account["public"].as_str().unwrap());
    let remarks = report["not_expressible"].as_array().unwrap().iter();
    let mut not_expressible: Vec<&str> = remarks.map(|remark| remark["resource"].as_str().unwrap()).collect();
    not_expressible.sort_unstable();
    // moto's SOA records have no valid form.
    let mut expected = [
        format!("private_hosted_zones/{zone} corp.example. SOA"),
        format!("private_hosted_zones/{zone} lb.corp.example. A"),
        format!("private_hosted_zones/{public} public.example. SOA"),
    ];
    expected.sort_unstable();
    assert_eq!(not_expressible, expected, "{report:#}");
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{out}/manifest.json")).unwrap()).unwrap();
    let records = manifest["private_hosted_zones"][zone]["records"].as_array().unwrap();
    // 250, a wildcard, a text, and the zone's own NS.
    assert_eq!(records.len(), 253);
    let vpc = account["vpcs"][0].as_str().unwrap();
    assert_eq!(manifest["vpcs"][vpc]["tags"], json!({"Name": "vpc-1"}));
    let attachments = manifest["transit_gateways"][account["gateway"].as_str().unwrap()]["attachments"].as_array();
    assert_eq!(attachments.map(Vec::len), Some(2), "{manifest:#}");
    // A second import of the same outputs gives the same manifest.
    let again = format!("{out}-again");
    assert_eq!(import(outputs, &again), report);
    assert_eq!(fs::read(format!("{again}/manifest.json")).unwrap(), fs::read(format!("{out}/manifest.json")).unwrap());
    let checked = Command::new(ZONAL).args(["check", out]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    lab.router("router");
    lab.host("node", "router", &["10.1.0.2", "10.2.0.2", "10.1.0.53"]);
    for (client, address) in [("in-a", "10.1.0.10"), ("in-b", "10.1.16.10"), ("peer", "10.2.0.10")] {
        lab.host(client, "router", &[address]);
    }
    let config = format!(
        "listen: [{{address: \"0.0.0.0:53\"}}]\ncontrol_plane: {{directory: {out}}}\ninternet_resolver: none\n"
    );
    let config = lab.scratch.write("zonal.yaml", config);
    let mut server = lab.start("node", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let dig = |client: &str, query: &str| lab.dig(client, &format!("{query} +time=1"));
    wait_until("zonal answers", || {
        server.assert_alive();
        (dig("in-a", "@10.1.0.2 www.public.example A").status == "NOERROR").then_some(())
    });
    for (client, query, expected) in [
        // The endpoint's address in the client's own AZ.
        ("in-a", "@10.1.0.2 sqs.eu-west-1.amazonaws.com A", "10.1.0.100"),
        ("in-b", "@10.1.0.2 sqs.eu-west-1.amazonaws.com A", "10.1.16.100"),
        ("in-a", "@10.1.0.2 anything.corp.example A", "10.1.0.77"),
        ("in-a", "@10.1.0.53 anything.corp.example A", "10.1.0.77"),
        ("in-b", "@10.1.0.2 h249.many.corp.example A", "10.1.1.249"),
        ("in-a", "@10.1.0.2 txt.corp.example TXT", "\"caf\\195\\169\""),
        // A public zone is answered in each VPC.
        ("in-a", "@10.1.0.2 www.public.example A", "192.0.2.80"),
        ("peer", "@10.2.0.2 www.public.example A", "192.0.2.80"),
    ] {
        let reply = dig(client, query);
        let values: Vec<&str> =
            reply.answer.iter().map(|record| record.rsplit(' ').next().unwrap_or_default()).collect();
        assert_eq!(values, [expected], "{client} {query}: {reply:?}");
    }
    // The zone and the private name belong to the first VPC alone.
    for query in ["@10.2.0.2 anything.corp.example A", "@10.2.0.2 sqs.eu-west-1.amazonaws.com A"] {
        assert_eq!(dig("peer", query).status, "REFUSED", "{query}");
    }
}

/// The policy has exactly the permissions of the commands that the script runs.
#[test]
fn the_policy_permits_what_the_script_runs() {
    let script = fs::read_to_string(tree("deploy/import/collect.sh")).unwrap();
    let policy: Value = serde_json::from_slice(&fs::read(tree("deploy/import/policy.json")).unwrap()).unwrap();
    let actions = policy["Statement"][0]["Action"].as_array().unwrap();
    let mut permitted: Vec<String> = actions.iter().map(|action| action.as_str().unwrap().to_string()).collect();
    // Commands stand whole in the script, or as a list of their last parts in front of `"prefix-$what"`.
    let mut run = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    let text = script.replace("\\\n", " ");
    for line in text.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix("for what in ") {
            parts = list.trim_end_matches("; do").split_whitespace().map(String::from).collect();
        }
        let Some(at) = line.find("collect \"$region\" \"$out\" ") else { continue };
        let mut words = line[at..].split_whitespace().skip(3);
        let (service, command) = (words.next().unwrap(), words.next().unwrap().trim_matches('"'));
        match command.strip_suffix("$what") {
            Some(prefix) => run.extend(parts.iter().map(|part| (service.to_string(), format!("{prefix}{part}")))),
            None => run.push((service.to_string(), command.to_string())),
        }
    }
    let action = |(service, command): &(String, String)| {
        let words = command.split('-').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        format!("{service}:{}", words.collect::<String>())
    };
    let mut needed: Vec<String> = run.iter().map(action).collect();
    needed.sort();
    needed.dedup();
    permitted.sort();
    assert!(needed.len() > 40, "{needed:?}");
    assert_eq!(permitted, needed);
}
