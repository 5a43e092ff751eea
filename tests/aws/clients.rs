//! Clients that people use with AWS, as their users run them.

use super::{
    PYTHON,
    tools::{answer, network, pushed},
};
use crate::harness::{Server, can_run, text, tree, wait_until_equal};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

/// A command with zonal as the endpoint of all services.
fn command(server: &Server, program: &str) -> Command {
    let mut command = Command::new(program);
    command.envs([
        ("AWS_ENDPOINT_URL", format!("http://{}", server.admin).as_str()),
        ("AWS_ACCESS_KEY_ID", "111122223333"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]);
    command
}

/// A program of the Python packages.
fn program(name: &str) -> String {
    tree("target/tools/venv/bin").join(name).to_str().unwrap().into()
}

#[test]
fn the_sdk_for_javascript_parses_every_response() {
    if !can_run(&["node"]) {
        return;
    }
    let server = pushed(network());
    let output = command(&server, "node")
        .args([tree("tests/aws/clients/sdk.mjs").to_str().unwrap(), &format!("http://{}", server.admin)])
        .env("MODULES", tree("target/tools/node"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["created"], true);
    assert_eq!(found["status"], json!(["INSYNC", "COMPLETE", "available"]));
    assert_eq!(found["found"], json!([1, 1, ["A", "NS", "SOA"]]));
    assert_eq!(found["errors"], json!(["InvalidVpcID.NotFound", "NoSuchHostedZone", "ResourceNotFoundException"]));
}

#[test]
fn octodns_brings_a_zone_up_to_date_and_finds_nothing_to_do_then() {
    if !can_run(&[PYTHON, "dig"]) {
        return;
    }
    let server = pushed(network());
    let config = fs::read_to_string(tree("tests/aws/clients/octodns.yaml")).unwrap();
    server.scratch.write("octodns.yaml", config);
    let zone = |address: &str| {
        let records = format!(
            "www: {{type: A, ttl: 60, values: [192.0.2.7, {address}]}}\n\
             mail: {{type: MX, values: [{{exchange: mx.pub.example., preference: 10}}]}}\n\
             text: {{type: TXT, value: 'v=spf1 -all'}}\nalias: {{type: CNAME, value: www.pub.example.}}\n"
        );
        server.scratch.write("pub.example.yaml", records);
    };
    let sync = || {
        let mut octodns = command(&server, &program("octodns-sync"));
        let output =
            octodns.args(["--config-file", "octodns.yaml", "--doit"]).current_dir(server.scratch.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    zone("192.0.2.8");
    assert!(sync().contains("Creates=4, Updates=0, Deletes=0"));
    let mut addresses = answer(&server, "alias.pub.example", "A");
    addresses.sort();
    assert_eq!(addresses[1..], ["www.pub.example. 60 A 192.0.2.7", "www.pub.example. 60 A 192.0.2.8"]);
    assert_eq!(answer(&server, "mail.pub.example", "MX"), ["mail.pub.example. 300 MX 10 mx.pub.example."]);
    assert!(sync().contains("No changes were planned"));
    zone("192.0.2.9");
    assert!(sync().contains("Creates=0, Updates=1, Deletes=0"));
    assert!(answer(&server, "www.pub.example", "A").contains(&"www.pub.example. 60 A 192.0.2.9".to_string()));
}

#[test]
fn certbot_solves_challenges_and_cleans_up() {
    if !can_run(&[PYTHON, "dig"]) {
        return;
    }
    let server = pushed(network());
    let mut certbot = command(&server, PYTHON)
        .arg(tree("tests/aws/clients/solve_challenges.py"))
        .args(["first", "second"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(certbot.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let name = "_acme-challenge.pub.example";
    let mut found = answer(&server, name, "TXT");
    found.sort();
    assert_eq!(found, ["first", "second"].map(|text| format!("{name}. 10 TXT \"{text}\"")));
    certbot.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(certbot.wait().unwrap().success());
    wait_until_equal("the records are gone", 0, || answer(&server, name, "TXT").len());
}

#[test]
fn ansible_makes_a_network_once() {
    if !can_run(&[PYTHON, "dig"]) {
        return;
    }
    let server = pushed(network());
    let play = || {
        let output = command(&server, &program("ansible-playbook"))
            .arg(tree("tests/aws/clients/playbook.yml"))
            .env("ANSIBLE_COLLECTIONS_PATH", tree("target/tools/ansible"))
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .env("HOME", server.scratch.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let first = play();
    assert!(first.contains("changed=4"), "{first}");
    assert_eq!(answer(&server, "ansible.pub.example", "A"), ["ansible.pub.example. 60 A 192.0.2.70"]);
    let second = play();
    assert!(second.contains("changed=0"), "{second}");
}
