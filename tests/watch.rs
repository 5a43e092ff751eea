//! How a node says that it is not well: `/v1/status`, the metrics and `zonal status`.

use crate::harness::{Scratch, Server, ZONAL, can_run, cluster::Single, http_send, wait_until};
use serde_json::{Value, json};
use std::process::Command;

/// What `zonal status` says of a server, and its exit status.
fn told(server: &Server) -> (String, Option<i32>) {
    let output = Command::new(ZONAL).args(["status", "--all", &server.admin.to_string()]).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

fn vpcs() -> Value {
    json!({"vpc": {"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"]}})
}

#[test]
fn a_node_without_a_manifest_and_one_with_an_empty_one() {
    let server = Server::start_from("{push: {}}", "");
    let put = |whole: &Value| http_send(server.admin, "PUT", "/v1/manifest", &whole.to_string()).unwrap();
    let (text, code) = told(&server);
    assert!(
        text.contains(" no ") && text.contains("not ready: no manifest is loaded yet") && code == Some(1),
        "{text}"
    );
    assert_eq!((server.metric(&["zonal_ready"]), &server.status()["ready"]), (0.0, &json!(false)));

    assert_eq!(put(&json!({"vpcs": vpcs(), "generation": 1})), 200);
    let (text, code) = told(&server);
    assert!(text.contains(" yes ") && text.contains(" ok ") && code == Some(0), "{text}");
    assert_eq!((server.metric(&["zonal_ready"]), &server.status()["ready"]), (1.0, &json!(true)));
    assert_eq!(server.metric(&["zonal_resources{", "\"vpcs\""]), 1.0);

    // What a client has done wrong is the client's concern.
    assert_eq!(
        put(&json!({"vpcs": {}, "private_hosted_zones": {"Z": {"name": "z", "vpc_ids": ["none"]}}, "generation": 2})),
        422
    );
    assert_eq!(server.metric(&["zonal_reload_failed"]), 0.0);
    assert_eq!(server.metric(&["zonal_reloads_total", "failed"]), 1.0);
    assert_eq!(server.status()["last_error"], Value::Null);
    assert!(told(&server).0.contains(" ok "));

    assert_eq!(put(&json!({"generation": 3})), 200);
    let (text, code) = told(&server);
    assert!(text.contains(" empty ") && text.contains("the manifest is empty: zonal refuses all queries"), "{text}");
    assert_eq!((code, server.metric(&["zonal_resources{"])), (Some(0), 0.0));
    assert!(server.process.log().contains("WARN") && server.process.log().contains("the manifest is empty"));
}

#[test]
fn followers_of_etcd() {
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
    // Two that serve the same, and have come to it at different revisions.
    let first = follow("/zonal/v1/");
    etcd.put_key("/other/key", Some("x"));
    let second = follow("/zonal/v1/");
    let (a, b) = (first.status(), second.status());
    assert!(a["revision"] != b["revision"] && a["digest"] == b["digest"], "{a}\n{b}");
    let digest = |server: &Server| server.metric(&["zonal_digest"]);
    assert_eq!(digest(&first), digest(&second));
    let number = i64::from_str_radix(&a["digest"].as_str().unwrap()[..12], 16).unwrap();
    assert_eq!(digest(&first), number as f64);

    // Keys of no kind are set aside, and not forgotten by another process.
    etcd.put_key("/zonal/v1/vpc/vpc-new", Some("{}"));
    etcd.put_key("/zonal/v1/vpcs/", Some("{}"));
    etcd.put_key("/zonal/v1/a", Some("{}"));
    let aside = |server: &Server| {
        let status = server.status();
        let all = status["set_aside"].as_array().unwrap().clone();
        (server.metric(&["zonal_resources_set_aside"]) == all.len() as f64).then_some(all.len())
    };
    let expected = json!([
        {"kind": "a", "id": "", "served": "nothing", "problems": ["the key is no `<kind>/<id>`"]},
        {"kind": "vpc", "id": "vpc-new", "served": "nothing", "problems": ["there is no kind `vpc` (did you mean `vpcs`?)"]},
        {"kind": "vpcs", "id": "", "served": "nothing", "problems": ["the key is no `<kind>/<id>`"]},
    ]);
    wait_until("they are set aside", || (first.status()["set_aside"] == expected).then_some(()));
    let first = first.restart().ready();
    wait_until("they are known again", || (first.status()["set_aside"] == expected).then_some(()));
    assert_eq!(aside(&first), Some(3));
    let (text, _) = told(&first);
    assert!(text.contains("vpc/vpc-new is set aside, nothing is served of it: there is no kind `vpc`"), "{text}");
    for key in ["/zonal/v1/vpc/vpc-new", "/zonal/v1/vpcs/", "/zonal/v1/a"] {
        etcd.put_key(key, None);
    }
    wait_until("they are gone", || (aside(&first) == Some(0)).then_some(()));

    // Too much is deleted at once: it is held, told, and served when somebody says that it is meant.
    let zone = |n: usize| format!("{{\"name\": \"z{n}.example\", \"vpc_ids\": [\"vpc\"]}}");
    for n in 0..12 {
        etcd.put_key(&format!("/zonal/v1/private_hosted_zones/Z{n}"), Some(&zone(n)));
    }
    let count = |server: &Server| server.status()["resources"]["private_hosted_zones"].as_u64().unwrap_or(0);
    wait_until("the zones are served", || (count(&first) == 12).then_some(()));
    let end = |command: &[&str]| {
        let endpoint = ["--endpoints", &etcd.endpoint];
        let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(endpoint).args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    end(&["del", "--prefix", "/zonal/v1/private_hosted_zones/"]);
    let held = |server: &Server| server.metric(&["zonal_deletions_held"]);
    wait_until("they are held", || (held(&first) == 12.0).then_some(()));
    let (text, code) = told(&first);
    assert!(text.contains("12 deletions are held") && code == Some(1), "{text}");
    assert!(first.process.log().contains("deletions are held"), "{}", first.process.log());
    etcd.put_key("/zonal/v1/private_hosted_zones/Z12", Some(&zone(12)));
    wait_until("another change is served", || (count(&first) == 13).then_some(()));
    let first = first.restart().ready();
    assert_eq!((count(&first), held(&first)), (13, 12.0));
    etcd.put_key("/zonal/v1/private_hosted_zones/Z0", Some(&zone(0)));
    wait_until("one is back", || (held(&first) == 11.0).then_some(()));
    let revision = first.status()["held_deletions"]["revision"].as_u64().unwrap();
    etcd.put_key("/zonal/v1/allow_deletion", Some(&(revision - 1).to_string()));
    wait_until("the key is seen", || (first.status()["revision"].as_u64() > Some(revision + 2)).then_some(()));
    assert_eq!((count(&first), held(&first)), (13, 11.0));
    etcd.put_key("/zonal/v1/allow_deletion", Some(&revision.to_string()));
    wait_until("they are gone", || (held(&first) == 0.0 && count(&first) == 2).then_some(()));
    let (text, code) = told(&first);
    assert!(aside(&first) == Some(0) && code == Some(0), "{text}");

    // A prefix that nobody writes to.
    let third = follow("/zonal/v2/");
    let (text, _) = told(&third);
    assert!(text.contains(" empty ") && third.process.log().contains("the manifest is empty"), "{text}");
    // And the source is gone.
    drop(etcd);
    wait_until("it is told why", || {
        let (text, _) = told(&first);
        (text.contains(" lost ") && text.contains("the source cannot be reached: etcd at http://")).then_some(())
    });
}

/// Deletions that a node has not seen one by one, as etcd has compacted its history: they are held as others are, and stay so
/// with each list.
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
        // Further than the next change that the node would see.
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

    // The node sees the first deletions; then it is down, more are deleted, and the history is compacted.
    ctl(&["del", "--prefix", "/zonal/v1/private_hosted_zones/Z0"]);
    wait_until("they are held", || (held(&server) == 10.0).then_some(()));
    let lists = |server: &Server| server.process.log().matches("is compacted: listing anew").count();
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
    // One comes back, and the rest is meant.
    put(3);
    wait_until("one is back", || (held(&server) == 19.0).then_some(()));
    let revision = server.status()["held_deletions"]["revision"].as_u64().unwrap();
    etcd.put_key("/zonal/v1/allow_deletion", Some(&revision.to_string()));
    wait_until("they are gone", || (held(&server) == 0.0 && count(&server) == 7).then_some(()));
    assert!(!server.process.log().contains("panicked"));
}
