//! Nodes and targets in two AZs: what each client is answered when a target, a path or a node fails.

use super::lab::{
    ALL, MANIFEST, PROGRAMS, addresses, blackhole, get, lab, mode, target, wait_for, wait_for_all, zonal,
};
use crate::harness::{can_run, lab::Lab, wait_until};
use std::time::{Duration, Instant};

const NODES: [(&str, &str, &str); 2] = [("node-a", "10.1.0.2", "client-a"), ("node-b", "10.1.32.2", "client-b")];

const DIRECTORY: &str = "control_plane: {directory: zones}\n";

/// Waits until the clients of both nodes get these addresses.
fn wait_for_both(lab: &Lab, expected: &[&str]) {
    NODES.iter().for_each(|(_, address, client)| wait_for(lab, client, address, expected));
}

#[test]
fn clients_get_no_target_that_is_killed_blackholed_or_slow() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = lab(&[]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let (mut first, _second) = (target(&lab, "target-a"), target(&lab, "target-b"));
    let _nodes = NODES.map(|(node, address, _)| zonal(&lab, node, address, DIRECTORY));
    NODES.iter().for_each(|(node, ..)| wait_for_all(&lab, node));
    wait_for_both(&lab, &ALL);
    // Killed: the connection is refused.
    first.kill();
    wait_for_both(&lab, &ALL[2..]);
    first = target(&lab, "target-a");
    wait_for_both(&lab, &ALL);
    // Blackholed: packets are dropped on the way.
    lab.cut("core", &ALL[..1], true);
    wait_for_both(&lab, &ALL[1..]);
    lab.cut("core", &ALL[..1], false);
    wait_for_both(&lab, &ALL);
    // Slow: the target accepts, and never answers.
    mode(&lab, "target-b", "slow");
    wait_for_both(&lab, &ALL[..2]);
    mode(&lab, "target-b", "500");
    // A target that answers with an error stays out.
    let explained = get(&lab, "node-a", "/v1/health/vpce/10.1.32.10");
    assert!(explained.is_some_and(|(status, text)| status == 200 && text.contains("\"healthy\":false")));
    mode(&lab, "target-b", "204");
    wait_for_both(&lab, &ALL);
    // The path from one node: only its clients get other answers.
    blackhole(&lab, "node-a", &ALL[2..], true);
    wait_for(&lab, "client-a", "10.1.0.2", &ALL[..2]);
    wait_for(&lab, "client-b", "10.1.0.2", &ALL[..2]);
    assert_eq!(addresses(&lab, "client-b", "10.1.32.2", "svc.example"), ALL);
    assert_eq!(addresses(&lab, "client-a", "10.1.32.2", "svc.example"), ALL);
    drop(first);
}

#[test]
fn a_node_that_is_cut_off_from_all_targets_keeps_its_answers_until_they_are_back() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = lab(&[]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let _targets = [target(&lab, "target-a"), target(&lab, "target-b")];
    let _nodes = NODES.map(|(node, address, _)| zonal(&lab, node, address, DIRECTORY));
    NODES.iter().for_each(|(node, ..)| wait_for_all(&lab, node));
    blackhole(&lab, "node-a", &ALL, true);
    wait_until("node-a is isolated", || {
        let (_, status) = get(&lab, "node-a", "/v1/status")?;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        status["isolated_since"].as_i64()
    });
    wait_for(&lab, "client-a", "10.1.0.2", &ALL);
    // The other node sees its targets, and nothing changes for its clients.
    assert_eq!(addresses(&lab, "client-b", "10.1.32.2", "svc.example"), ALL);
    blackhole(&lab, "node-a", &ALL[..2], false);
    // Half of the targets are back: the node follows its checks again.
    wait_for(&lab, "client-a", "10.1.0.2", &ALL[..2]);
    blackhole(&lab, "node-a", &ALL[2..], false);
    wait_for(&lab, "client-a", "10.1.0.2", &ALL);
}

#[test]
fn restart_and_takeover_keep_a_target_out_of_the_answers() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let lab = lab(&[]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let (first, _second) = (target(&lab, "target-a"), target(&lab, "target-b"));
    let more = format!("{DIRECTORY}takeover_socket: takeover\n");
    let mut node = zonal(&lab, "node-a", "10.1.0.2", &more);
    wait_for_all(&lab, "node-a");
    drop(first);
    wait_for(&lab, "client-a", "10.1.0.2", &ALL[2..]);
    wait_until("the states are stored", || {
        let stored = std::fs::read_to_string(lab.scratch.path().join("state-node-a/health.json")).ok()?;
        (stored.matches("unhealthy").count() == 2).then_some(())
    });
    // A new process takes over. The state of the target goes with it.
    let mut next = zonal(&lab, "node-a", "10.1.0.2", &more);
    let begin = Instant::now();
    wait_until("the old process has ended", || node.ended());
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(addresses(&lab, "client-a", "10.1.0.2", "svc.example"), ALL[2..]);
    }
    // The process is killed, and starts again: its first answer already leaves the target out.
    next.kill();
    let _third = zonal(&lab, "node-a", "10.1.0.2", &more);
    assert_eq!(addresses(&lab, "client-a", "10.1.0.2", "svc.example"), ALL[2..]);
    let _first = target(&lab, "target-a");
    wait_for(&lab, "client-a", "10.1.0.2", &ALL);
}
