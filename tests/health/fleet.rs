//! Health by etcd: reports of EXTERNAL checks, and nodes that share their verdicts.

use super::{
    lab::{ALL, MANIFEST, PROGRAMS, addresses, blackhole, get, lab, target, wait_for, wait_for_all, zonal},
    timeline::Timeline,
};
use crate::harness::{
    Scratch, Server, ZONAL, can_run,
    cluster::{Cluster, MEMBERS, Single, ctl},
    lab::Lab,
    wait_until, wait_until_equal,
};
use serde_json::{Value, json};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use zonal::manifest::Manifest;

/// The resources of a manifest, as keys and values.
fn resources(text: &str) -> Vec<(String, String)> {
    let scratch = Scratch::new();
    scratch.write("manifest.yaml", text);
    let manifest: Manifest = (*crate::harness::loaded(scratch.path()).manifest).clone();
    let Value::Object(kinds) = serde_json::to_value(&manifest).unwrap() else { panic!("{manifest:?}") };
    let mut all = Vec::new();
    for (kind, resources) in kinds {
        for (id, resource) in resources.as_object().into_iter().flatten() {
            all.push((format!("/zonal/v1/{kind}/{id}"), resource.to_string()));
        }
    }
    all
}

/// The address that `db.corp.example` has.
fn database(server: &Server) -> String {
    let port = server.port.to_string();
    let output = Command::new("dig")
        .args(["-b", "127.83.0.9", "@127.0.0.1", "-p", &port, "+short", "+tries=3", "db.corp.example", "A"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().into()
}

#[test]
fn an_external_check_follows_its_key_in_etcd() {
    if !can_run(&["etcd", "etcdctl", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    let vpc = json!({"region": "us-east-1", "cidr_blocks": ["127.83.0.0/16"]});
    let record = |id: &str, kind: &str, check: Option<&str>, address: &str| {
        let mut record = json!({"name": "db", "type": "A", "ttl": 0, "set_identifier": id,
            "failover_routing_policy": {"type": kind}, "records": [address]});
        if let Some(check) = check {
            record["health_check_id"] = json!(check);
        }
        record
    };
    let records = [record("p", "PRIMARY", Some("hc"), "127.83.0.90"), record("s", "SECONDARY", None, "127.83.0.91")];
    let zone = json!({"name": "corp.example", "vpc_ids": ["vpc"], "records": records});
    let check = json!({"type": "EXTERNAL", "stale_after": 3600, "when_stale": "unhealthy"});
    // The report comes before the check.
    let key = "/zonal/v1/health/hc";
    etcd.put_key(key, Some("healthy"));
    etcd.put_key("/zonal/v1/vpcs/vpc", Some(&vpc.to_string()));
    etcd.put_key("/zonal/v1/health_checks/hc", Some(&check.to_string()));
    etcd.put_key("/zonal/v1/private_hosted_zones/Z", Some(&zone.to_string()));
    let source = format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint);
    let server = Server::start_from(&source, "state_directory: state\n").ready();
    let answers = |expected: &str| wait_until_equal("the answer follows", expected.to_string(), || database(&server));
    answers("127.83.0.90");
    let status = server.status();
    for (value, expected) in
        [(Some("unhealthy"), "127.83.0.91"), (Some(" healthy\n"), "127.83.0.90"), (None, "127.83.0.91")]
    {
        etcd.put_key(key, value);
        answers(expected);
    }
    etcd.put_key(key, Some("well"));
    server.process.wait_for_log("etcd key has no health as its value");
    etcd.put_key(key, Some("healthy"));
    answers("127.83.0.90");
    // Health is no change of the manifest, and its keys are no unknown keys.
    let now = server.status();
    assert_eq!((&now["generation"], &now["set_aside"]), (&status["generation"], &json!([])), "{now}");
    // A report with a lease ends with the lease.
    let ctl = |command: &[&str]| {
        let endpoint = ["--endpoints", &etcd.endpoint];
        let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(endpoint).args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let granted = ctl(&["lease", "grant", "2"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    ctl(&["put", key, "healthy", &format!("--lease={lease}")]);
    answers("127.83.0.91");
    // `apply` and `diff` leave the keys of health alone.
    etcd.put_key(key, Some("healthy"));
    etcd.put_key("/zonal/v1/health_reports/other/node", Some("{}"));
    let out = scratch.path().join("out").display().to_string();
    let zonal = |command: &[&str]| {
        let output = Command::new(ZONAL).args(command).args(["--etcd", &etcd.endpoint]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let told = zonal(&["export", "--directory", &out]);
    assert!(told.contains("3 resources and master files") && !told.contains("health/hc"), "{told}");
    let told = zonal(&["diff", "--directory", &out]);
    assert!(told.contains("No difference.\n"), "{told}");
    let text = std::fs::read_to_string(format!("{out}/manifest.json")).unwrap();
    std::fs::write(format!("{out}/manifest.json"), text.replace("127.83.0.90", "127.83.0.92")).unwrap();
    let told = zonal(&["apply", "--directory", &out, "--yes"]);
    assert!(told.contains("Applied: "), "{told}");
    answers("127.83.0.92");
    // Without etcd, the last report holds.
    drop(etcd);
    server.process.wait_for_log("etcd session for health ended");
    assert_eq!(database(&server), "127.83.0.92");
}

fn reporters(lab: &Lab, node: &str) -> Option<f64> {
    let (_, page) = get(lab, node, "/metrics")?;
    page.lines().find_map(|line| line.strip_prefix("zonal_health_reporters ")?.parse().ok())
}

#[test]
fn nodes_decide_together_by_the_clients_az_and_alone_without_etcd() {
    if !can_run(&[&PROGRAMS[..], &["etcd", "etcdctl"]].concat()) {
        return;
    }
    let mut lab = lab(&[("node-c", "10.1.0.3"), ("client", "10.9.2.1")]);
    let cluster = Cluster::start(&mut lab);
    for (key, value) in resources(MANIFEST) {
        assert!(ctl(&lab, &["put", &key, &value]).status.success(), "{key}");
    }
    let _targets = [target(&lab, "target-a"), target(&lab, "target-b")];
    let endpoints = MEMBERS.map(|address| format!("\"http://{address}:2379\"")).join(", ");
    let more = format!("control_plane: {{etcd: {{endpoints: [{endpoints}]}}}}\nhealth: {{share: true}}\n");
    let _first = zonal(&lab, "node-a", "10.1.0.2", &more);
    let _second = zonal(&lab, "node-b", "10.1.32.2", &more);
    for node in ["node-a", "node-b"] {
        wait_for_all(&lab, node);
        wait_until_equal("each node knows the other", Some(1.0), || reporters(&lab, node));
    }
    // node-a is the only node in AZ 1. It loses the path to two targets: both nodes follow it for clients in AZ 1, and
    // node-b for clients in AZ 2.
    blackhole(&lab, "node-a", &ALL[..2], true);
    for node in ["10.1.0.2", "10.1.32.2"] {
        wait_for(&lab, "client-a", node, &ALL[2..]);
        wait_for(&lab, "client-b", node, &ALL);
    }
    let (_, report) = get(&lab, "node-b", "/v1/health/vpce/10.1.0.10").unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["state"], &report["fleet"]), (&json!("healthy"), &json!({"reporters": 2, "healthy": 1})));
    // Another node in AZ 1 sees the targets: one of two is more than 18 %.
    let third = zonal(&lab, "node-c", "10.1.0.3", &more);
    for node in ["10.1.0.2", "10.1.0.3", "10.1.32.2"] {
        wait_for(&lab, "client-a", node, &ALL);
    }
    assert_eq!(get(&lab, "node-a", "/v1/health/vpce/10.1.0.10").map(|(status, _)| status), Some(200));
    // Without etcd, node-a decides alone. The others go on, without node-a.
    let members = MEMBERS.map(|address| format!("{address}/32"));
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    blackhole(&lab, "node-a", &members, true);
    wait_for(&lab, "client-a", "10.1.0.2", &ALL[2..]);
    wait_for(&lab, "client-b", "10.1.0.2", &ALL[2..]);
    wait_until_equal("node-a knows nobody", Some(0.0), || reporters(&lab, "node-a"));
    for node in ["node-b", "node-c"] {
        wait_until_equal("node-a does not report any more", Some(1.0), || reporters(&lab, node));
    }
    assert_eq!(addresses(&lab, "client-a", "10.1.0.3", "svc.example"), ALL);
    // It comes back.
    blackhole(&lab, "node-a", &members, false);
    wait_for(&lab, "client-a", "10.1.0.2", &ALL);
    // A node that ends does not report any more.
    drop(third);
    for node in ["10.1.0.2", "10.1.32.2"] {
        wait_for(&lab, "client-a", node, &ALL[2..]);
    }
    // All of etcd ends: each node decides alone.
    drop(cluster);
    wait_for(&lab, "client-a", "10.1.32.2", &ALL);
    wait_for(&lab, "client-b", "10.1.0.2", &ALL[2..]);
    wait_until("the log says so", || {
        let (_, page) = get(&lab, "node-b", "/metrics")?;
        page.contains("zonal_health_reporters 0").then_some(())
    });
}

#[test]
fn a_node_that_is_cut_off_from_etcd_decides_alone_through_takeover_and_restart() {
    if !can_run(&[&PROGRAMS[..], &["etcd", "etcdctl"]].concat()) {
        return;
    }
    /// The longest time until the answers follow, on a busy machine: for a shared verdict, etcd has to notice as well.
    const FOLLOWED: Duration = Duration::from_secs(25);
    let mut lab = lab(&[("client", "10.9.2.1")]);
    let _cluster = Cluster::start(&mut lab);
    for (key, value) in resources(MANIFEST) {
        assert!(ctl(&lab, &["put", &key, &value]).status.success(), "{key}");
    }
    let _targets = [target(&lab, "target-a"), target(&lab, "target-b")];
    let endpoints = MEMBERS.map(|address| format!("\"http://{address}:2379\"")).join(", ");
    let more = |node: &str| {
        format!(
            "control_plane: {{etcd: {{endpoints: [{endpoints}]}}}}\nhealth: {{share: true}}\ntakeover_socket: takeover-{node}\n"
        )
    };
    let start = |lab: &Lab| zonal(lab, "node-a", "10.1.0.2", &more("node-a"));
    let mut node = start(&lab);
    let _other = zonal(&lab, "node-b", "10.1.32.2", &more("node-b"));
    for node in ["node-a", "node-b"] {
        wait_for_all(&lab, node);
        wait_until_equal("each node knows the other", Some(1.0), || reporters(&lab, node));
    }
    let begin = Instant::now();
    let seen = [Timeline::start(&lab, "client-a", "10.1.0.2"), Timeline::start(&lab, "client-b", "10.1.32.2")];
    let members = MEMBERS.map(|address| format!("{address}/32"));
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    blackhole(&lab, "node-a", &members, true);
    wait_until_equal("node-a knows nobody", Some(0.0), || reporters(&lab, "node-a"));
    // Alone, it loses the path to two targets. It follows its own checks.
    let lost = Instant::now();
    blackhole(&lab, "node-a", &ALL[..2], true);
    seen[0].wait_for(&ALL[2..], lost, FOLLOWED);
    // A new process takes over, without etcd. It begins with the same states, and no query is lost.
    let known = Instant::now();
    let next = start(&lab);
    wait_until("the old process has ended", || node.ended());
    node = next;
    assert_eq!(addresses(&lab, "client-a", "10.1.0.2", "svc.example"), ALL[2..]);
    seen[0].assert_only(&ALL[2..], known, false);
    // The process is killed, and starts again without etcd.
    node.kill();
    node = start(&lab);
    assert_eq!(addresses(&lab, "client-a", "10.1.0.2", "svc.example"), ALL[2..]);
    seen[0].assert_only(&ALL[2..], known, true);
    let back = Instant::now();
    blackhole(&lab, "node-a", &ALL[..2], false);
    seen[0].wait_for(&ALL, back, FOLLOWED);
    // etcd is back: both nodes know each other again, and each other once only.
    blackhole(&lab, "node-a", &members, false);
    for node in ["node-a", "node-b"] {
        wait_until_equal("each node knows the other again", Some(1.0), || reporters(&lab, node));
    }
    // The clients of the other node got the same answer all the time.
    seen[1].assert_only(&ALL, begin, false);
    node.assert_alive();
}
