//! Reports of a node's state: `/v1/status`, the metrics and `zonal status`.

use crate::harness::{Scratch, Server, ZONAL, can_run, cluster::Single, http_send, wait_until, wait_until_equal};
use serde_json::{Value, json};
use std::process::Command;

/// Waits until `zonal status` for a server prints all these words, and ends with this exit status.
fn wait_for_output(server: &Server, words: &[&str], code: i32) {
    let expected = (Vec::new(), Some(code), String::new());
    wait_until_equal(&format!("`zonal status` prints {words:?}"), expected, || {
        let output = Command::new(ZONAL).args(["status", "--all", &server.admin.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let missing: Vec<&str> = words.iter().copied().filter(|word| !text.contains(word)).collect();
        let is_right = missing.is_empty() && output.status.code() == Some(code);
        // The compared value contains a wrong output, so that a time-out shows it.
        (missing, output.status.code(), if is_right { String::new() } else { text })
    });
}

/// Waits until both status and metric report that the server is ready, or not ready.
fn wait_for_readiness(server: &Server, is_ready: bool) {
    server.wait_for_metric(&["zonal_ready"], f64::from(u8::from(is_ready)));
    wait_until_equal("the readiness in the status", json!(is_ready), || server.status()["ready"].clone());
}

fn vpcs() -> Value {
    json!({"vpc": {"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"]}})
}

#[test]
fn reports_a_missing_and_an_empty_manifest() {
    let server = Server::start_from("{push: {}}", "");
    let put = |whole: &Value| http_send(server.admin, "PUT", "/v1/manifest", &whole.to_string()).unwrap();
    wait_for_output(&server, &[" no ", "not ready: no manifest is loaded yet"], 1);
    wait_for_readiness(&server, false);

    assert_eq!(put(&json!({"vpcs": vpcs(), "generation": 1})), 200);
    wait_for_output(&server, &[" yes ", " ok "], 0);
    wait_for_readiness(&server, true);
    server.wait_for_metric(&["zonal_resources{", "\"vpcs\""], 1.0);

    // A change with errors is not an error of the node.
    assert_eq!(
        put(&json!({"vpcs": {}, "private_hosted_zones": {"Z": {"name": "z", "vpc_ids": ["none"]}}, "generation": 2})),
        422
    );
    server.wait_for_metric(&["zonal_reloads_total", "failed"], 1.0);
    assert_eq!(server.metric(&["zonal_reload_failed"]), 0.0);
    assert_eq!(server.status()["last_error"], Value::Null);
    wait_for_output(&server, &[" ok "], 0);

    assert_eq!(put(&json!({"generation": 3})), 200);
    wait_for_output(&server, &[" empty ", "the manifest is empty: zonal refuses all queries"], 0);
    server.wait_for_metric(&["zonal_resources{"], 0.0);
    server.process.wait_for_log("WARN");
    server.process.wait_for_log("manifest is empty");
}

#[test]
fn reports_what_a_follower_of_etcd_sets_aside_and_holds() {
    if !can_run(&["etcd"]) {
        return;
    }
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    etcd.put_key("/zonal/v1/vpcs/vpc", Some(&vpcs()["vpc"].to_string()));
    let follow = |prefix: &str| {
        let source = format!("{{etcd: {{endpoints: [\"{}\"], prefix: {prefix}}}}}", etcd.endpoint);
        Server::start_from(&source, "state_directory: state\n").ready()
    };
    // Two nodes serve the same manifest, at different revisions.
    let first = follow("/zonal/v1/");
    etcd.put_key("/other/key", Some("x"));
    let second = follow("/zonal/v1/");
    let (a, b) = wait_until("both have listed the source", || {
        let (a, b) = (first.status(), second.status());
        (a["revision"] != b["revision"] && a["digest"] == b["digest"]).then_some((a, b))
    });
    assert!(a["stale"] == json!(false) && b["stale"] == json!(false), "{a}\n{b}");
    let number = i64::from_str_radix(&a["digest"].as_str().unwrap()[..12], 16).unwrap();
    first.wait_for_metric(&["zonal_digest"], number as f64);
    second.wait_for_metric(&["zonal_digest"], number as f64);

    // Unknown keys are set aside, also after a restart.
    etcd.put_key("/zonal/v1/vpc/vpc-new", Some("{}"));
    etcd.put_key("/zonal/v1/vpcs/", Some("{}"));
    etcd.put_key("/zonal/v1/a", Some("{}"));
    let wait_for_aside = |server: &Server, expected: &Value| {
        wait_until_equal("what is set aside", expected.clone(), || server.status()["set_aside"].clone());
        server.wait_for_metric(&["zonal_resources_set_aside"], expected.as_array().unwrap().len() as f64);
    };
    let expected = json!([
        {"kind": "a", "id": "", "served": "nothing", "problems": ["the key is no `<kind>/<id>`"]},
        {"kind": "vpc", "id": "vpc-new", "served": "nothing", "problems": ["there is no kind `vpc` (did you mean `vpcs`?)"]},
        {"kind": "vpcs", "id": "", "served": "nothing", "problems": ["the key is no `<kind>/<id>`"]},
    ]);
    wait_for_aside(&first, &expected);
    let first = first.restart().ready();
    wait_for_aside(&first, &expected);
    wait_for_output(&first, &["vpc/vpc-new is set aside, nothing is served of it: there is no kind `vpc`"], 1);
    for key in ["/zonal/v1/vpc/vpc-new", "/zonal/v1/vpcs/", "/zonal/v1/a"] {
        etcd.put_key(key, None);
    }
    wait_for_aside(&first, &json!([]));

    // zonal holds and reports a mass deletion, and applies it when it is allowed.
    let zone = |n: usize| format!("{{\"name\": \"z{n}.example\", \"vpc_ids\": [\"vpc\"]}}");
    for n in 0..12 {
        etcd.put_key(&format!("/zonal/v1/private_hosted_zones/Z{n}"), Some(&zone(n)));
    }
    let count = |server: &Server| server.status()["resources"]["private_hosted_zones"].as_u64().unwrap_or(0);
    let wait_for_count = |server: &Server, expected: u64| {
        wait_until_equal("the number of zones", expected, || count(server));
    };
    wait_for_count(&first, 12);
    let end = |command: &[&str]| {
        let endpoint = ["--endpoints", &etcd.endpoint];
        let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(endpoint).args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    end(&["del", "--prefix", "/zonal/v1/private_hosted_zones/"]);
    let wait_for_held = |server: &Server, expected: u64| {
        wait_until_equal("the number of held deletions", expected, || {
            server.status()["held_deletions"]["count"].as_u64().unwrap_or(0)
        });
        server.wait_for_metric(&["zonal_deletions_held"], expected as f64);
    };
    wait_for_held(&first, 12);
    wait_for_output(&first, &["12 deletions are held"], 1);
    first.process.wait_for_log("deletions held");
    etcd.put_key("/zonal/v1/private_hosted_zones/Z12", Some(&zone(12)));
    wait_for_count(&first, 13);
    let first = first.restart().ready();
    wait_for_count(&first, 13);
    wait_for_held(&first, 12);
    etcd.put_key("/zonal/v1/private_hosted_zones/Z0", Some(&zone(0)));
    wait_for_held(&first, 11);
    let revision = first.status()["held_deletions"]["revision"].as_u64().unwrap();
    etcd.put_key("/zonal/v1/allow_deletion", Some(&(revision - 1).to_string()));
    first.wait_for_status("the key is seen", |status| status["revision"].as_u64() > Some(revision + 2));
    wait_for_count(&first, 13);
    wait_for_held(&first, 11);
    etcd.put_key("/zonal/v1/allow_deletion", Some(&revision.to_string()));
    wait_for_held(&first, 0);
    wait_for_count(&first, 2);
    wait_for_aside(&first, &json!([]));
    wait_for_output(&first, &[" ok "], 0);

    // A prefix without keys.
    let third = follow("/zonal/v2/");
    wait_for_output(&third, &[" empty "], 0);
    third.process.wait_for_log("manifest is empty");
    // etcd ends.
    drop(etcd);
    wait_for_output(&first, &[" lost ", "the source cannot be reached: etcd at http://"], 1);
}

/// zonal holds deletions that it did not see one by one because etcd compacted its history. They
/// stay held after each new list.
#[test]
fn deletions_are_held_and_stay_held_when_the_history_is_compacted() {
    if !can_run(&["etcd", "etcdctl"]) {
        return;
    }
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    let zone = |n: usize| format!("{{\"name\": \"z{n}.example\", \"vpc_ids\": [\"vpc\"]}}");
    let put = |n: usize| etcd.put_key(&format!("/zonal/v1/private_hosted_zones/Z{n:02}"), Some(&zone(n)));
    let ctl = |command: &[&str]| {
        let endpoint = ["--endpoints", &etcd.endpoint];
        let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(endpoint).args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let compact = || {
        // Compacts beyond the next change that the node would see.
        (0..3).for_each(|n| etcd.put_key("/other/last", Some(&n.to_string())));
        let text = ctl(&["get", "/other/last", "-w", "json"]);
        let status: Value = serde_json::from_str(&text).unwrap();
        ctl(&["compaction", &status["header"]["revision"].to_string()]);
    };
    etcd.put_key("/zonal/v1/vpcs/vpc", Some(&vpcs()["vpc"].to_string()));
    (0..24).for_each(put);
    let source = format!("{{etcd: {{endpoints: [\"{}\"], prefix: /zonal/v1/}}}}", etcd.endpoint);
    let mut server = Server::start_from(&source, "state_directory: state\n").ready();
    let count = |server: &Server| server.status()["resources"]["private_hosted_zones"].as_u64().unwrap_or(0);
    let held = |server: &Server| server.metric(&["zonal_deletions_held"]);
    wait_until("the zones are served", || (count(&server) == 24).then_some(()));

    // The node sees the first deletions and stops. Then more keys are deleted, and the history is
    // compacted.
    ctl(&["del", "--prefix", "/zonal/v1/private_hosted_zones/Z0"]);
    wait_until("they are held", || (held(&server) == 10.0).then_some(()));
    let lists = |server: &Server| server.process.log().matches("etcd keys listed again").count();
    let mut expected = (24, 10.0);
    for (n, change) in ["/zonal/v1/private_hosted_zones/Z1", ""].into_iter().enumerate() {
        server.process.kill();
        if !change.is_empty() {
            ctl(&["del", "--prefix", change]);
            expected.1 += 10.0;
        }
        put(50 + n);
        expected.0 += 1;
        compact();
        server = server.restart().ready();
        wait_until("it lists", || (lists(&server) == 1).then_some(()));
        wait_until("the new zone is served", || (count(&server) == expected.0).then_some(()));
        assert_eq!((count(&server), held(&server)), expected, "list {n}");
    }
    // One key returns, and the other deletions are intended.
    put(3);
    wait_until("one is back", || (held(&server) == 19.0).then_some(()));
    let revision = server.status()["held_deletions"]["revision"].as_u64().unwrap();
    etcd.put_key("/zonal/v1/allow_deletion", Some(&revision.to_string()));
    wait_until("they are gone", || (held(&server) == 0.0 && count(&server) == 7).then_some(()));
    assert!(!server.process.log().contains("panicked"));
}
