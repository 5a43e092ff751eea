//! The files of the guide "Manage zonal with AWS's tools".

use super::PYTHON;
use crate::harness::{Process, ZONAL, can_run, free_port, http_send, lab::Lab, tree, wait_until};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
};

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "111122223333"), ("AWS_SECRET_ACCESS_KEY", "any")];

#[test]
fn the_network_of_the_guide_answers_its_clients() {
    if !can_run(&["ip", "dig", PYTHON]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("router");
    lab.host("node", "router", &["10.1.0.2"]);
    for (client, address) in [("in-a", "10.1.0.10"), ("in-b", "10.1.1.10")] {
        lab.host(client, "router", &[address]);
    }
    let config = "listen: [{address: \"10.1.0.2:53\"}]\nadmin: {address: \"127.0.0.1:9153\"}\ncontrol_plane: {push: {}}\ninternet_resolver: none\n";
    let config = lab.scratch.write("zonal.yaml", config);
    let mut server = lab.start("node", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 9153));
    lab.inside("node", || {
        wait_until("zonal takes changes", || {
            server.assert_alive();
            (http_send(admin, "PUT", "/v1/manifest", r#"{"generation": 1}"#) == Some(200)).then_some(())
        });
    });
    let output = lab.inside("node", || {
        let script = tree("deploy/aws/network.py");
        Command::new(PYTHON)
            .arg(script)
            .args(["http://127.0.0.1:9153", "203.0.113.53"])
            .envs(CREDENTIALS)
            .output()
            .unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().count(), 4);
    let first = |client: &str, name: &str| {
        let reply = lab.dig(client, &format!("@10.1.0.2 {name} A"));
        let record = reply.answer.first().unwrap_or_else(|| panic!("{client} {name}: {reply:?}")).clone();
        record.rsplit(' ').next().unwrap().to_string()
    };
    assert_eq!(first("in-a", "www.corp.example"), "10.1.0.80");
    // Each client gets the address in its own AZ.
    assert!(first("in-a", "sqs.us-east-1.amazonaws.com").starts_with("10.1.0."));
    assert!(first("in-b", "sqs.us-east-1.amazonaws.com").starts_with("10.1.1."));
    assert_eq!(lab.dig("in-a", "@10.1.0.2 none.corp.example A").status, "NXDOMAIN");
}

#[test]
fn the_terraform_file_names_only_what_zonal_serves() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let path = tree("deploy/aws/main.tf");
    let script = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))";
    let output = Command::new(PYTHON).args(["-c", script]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parsed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(parsed["resource"].as_array().map(Vec::len), Some(5), "{parsed:#}");
    // The guide shows the provider's block as it is in the file.
    let (file, guide) = (path, tree("docs/guides/aws-tools.md"));
    let [file, guide] = [file, guide].map(|path| std::fs::read_to_string(path).unwrap());
    let begin = file.find("provider \"aws\" {").unwrap();
    let block = &file[begin..begin + file[begin..].find("\n}\n").unwrap() + 3];
    assert!(guide.contains(block), "{block}");
}

#[test]
fn one_endpoint_serves_moto_and_zonal() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let server = super::tools::pushed(super::tools::network());
    let [moto, proxy] = [free_port(), free_port()];
    let address = |port: u16| format!("127.0.0.1:{port}");
    let _moto = Process::start(
        &[PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", &moto.to_string()],
        &server.scratch,
        "moto",
    );
    let script = tree("deploy/aws/moto_and_zonal.py");
    let [zonal, other] = [format!("http://{}", server.admin), format!("http://{}", address(moto))];
    let command = [PYTHON, script.to_str().unwrap(), &address(proxy), &zonal, &other];
    let _proxy = Process::start(&command, &server.scratch, "proxy");
    for port in [moto, proxy] {
        wait_until("it listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    }
    let calls = "
import boto3
s3, ec2 = boto3.client('s3'), boto3.client('ec2')
s3.create_bucket(Bucket='a-bucket')
print([bucket['Name'] for bucket in s3.list_buckets()['Buckets']], [vpc['VpcId'] for vpc in ec2.describe_vpcs()['Vpcs']])
";
    let output = Command::new(PYTHON)
        .args(["-c", calls])
        .envs(CREDENTIALS)
        .envs([("AWS_ENDPOINT_URL", format!("http://{}", address(proxy))), ("AWS_DEFAULT_REGION", "us-east-1".into())])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "['a-bucket'] ['vpc-app']", "{}", String::from_utf8_lossy(&output.stderr));
}
