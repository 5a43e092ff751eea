//! Clients that people use with AWS, as their users run them.

use super::{
    PYTHON,
    ec2::dig_from,
    tools::{answer, network, pushed},
};
use crate::harness::{Process, Server, can_run, free_port, text, tree};
use serde_json::{Value, json};
use std::{fs, process::Command};

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

/// Starts pebble, the ACME server for tests, which asks zonal for the challenges. Returns it with the URL of its directory.
fn acme_server(server: &Server) -> (Process, String) {
    let scratch = &server.scratch;
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-keyout", "acme-key.pem", "-out", "acme-cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let address = format!("127.0.0.1:{}", free_port());
    let config = json!({"pebble": {
        "listenAddress": address, "managementListenAddress": format!("127.0.0.1:{}", free_port()),
        "certificate": "acme-cert.pem", "privateKey": "acme-key.pem", "httpPort": 5002, "tlsPort": 5001,
    }});
    scratch.write("pebble.json", config.to_string());
    let resolver = format!("127.0.0.1:{}", server.port);
    let pebble = ["pebble", "-config", "pebble.json", "-dnsserver", &resolver];
    let process = Process::start_with(&pebble, scratch, "pebble", |command| {
        command.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]);
    });
    process.wait_for_log("ACME directory available");
    (process, format!("https://{address}/dir"))
}

#[test]
fn certbot_gets_a_certificate_and_removes_its_records() {
    if !can_run(&[PYTHON, "dig", "openssl", "pebble"]) {
        return;
    }
    let server = pushed(network());
    let (pebble, directory) = acme_server(&server);
    // Both challenges are records of one name, at the same time.
    let output = command(&server, &program("certbot"))
        .args(["certonly", "--dns-route53", "-d", "pub.example", "-d", "*.pub.example", "--server", &directory])
        .args(["--no-verify-ssl", "--non-interactive", "--agree-tos", "-m", "admin@pub.example"])
        .args(["--config-dir", "certbot", "--work-dir", "certbot", "--logs-dir", "certbot"])
        .current_dir(server.scratch.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output), pebble.log());
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in", "certbot/live/pub.example/cert.pem"])
        .current_dir(server.scratch.path())
        .output()
        .unwrap();
    assert!(text(&output).contains("DNS:pub.example, DNS:*.pub.example"), "{}", text(&output));
    assert!(answer(&server, "_acme-challenge.pub.example", "TXT").is_empty());
}

#[test]
fn ansible_makes_a_network_once_and_deletes_it() {
    if !can_run(&[PYTHON, "dig"]) {
        return;
    }
    let server = pushed(json!({"generation": 1}));
    let play = |file: &str| {
        let output = command(&server, &program("ansible-playbook"))
            .arg(tree("tests/aws/clients").join(file))
            .env("ANSIBLE_COLLECTIONS_PATH", tree("target/tools/ansible"))
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .env("HOME", server.scratch.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let addresses = |source: &str, name: &str| dig_from(&server, source, name, "A").answer;
    for changes in ["changed=14", "changed=0"] {
        let output = play("playbook.yml");
        assert!(output.contains(changes), "{output}");
        assert_eq!(addresses("127.7.1.9", "www.tools.example"), ["www.tools.example. 30 A 192.0.2.71"]);
        assert_eq!(addresses("127.7.1.9", "sqs.us-east-1.amazonaws.com").len(), 1, "the address in the client's AZ");
        assert!(addresses("127.9.0.9", "sqs.us-east-1.amazonaws.com").is_empty());
    }
    let last = play("playbook_delete.yml");
    assert!(last.contains("changed=9"), "{last}");
    assert_eq!(dig_from(&server, "127.7.1.9", "www.tools.example", "A").status, "REFUSED");
}
