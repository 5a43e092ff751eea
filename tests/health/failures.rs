//! A target or a path fails, and zonal is replaced in the middle of it, by a takeover and by a restart: what each client is
//! answered, and when.

use super::{
    lab::{ALL, MANIFEST, PROGRAMS, blackhole, get, lab, mode, state, target, wait_for_all, zonal},
    timeline::Timeline,
};
use crate::harness::{Process, can_run, lab::Lab, wait_until};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The longest time until the answers follow a failure: two attempts of at most 2 s (interval and time-out), and 16 s for a
/// takeover in between, on a busy machine.
const FOLLOWED: Duration = Duration::from_secs(20);
/// The longest time until the answers follow a recovery: a verdict holds for two intervals, and an attempt follows.
const RECOVERED: Duration = Duration::from_secs(20);

/// Two nodes, a client of each, and the targets.
struct Scene {
    /// `node-a`, the node that is replaced. It ends before the lab does.
    node: Option<Process>,
    _other: Process,
    /// The answers of `node-a` to `client-a`, and of `node-b` to `client-b`.
    seen: [Timeline; 2],
    targets: [Process; 2],
    lab: Lab,
}

impl Scene {
    /// Starts all, and waits until all targets are healthy.
    fn start() -> Scene {
        let lab = lab(&[]);
        lab.scratch.write("zones/manifest.yaml", MANIFEST);
        let targets = [target(&lab, "target-a"), target(&lab, "target-b")];
        let node = zonal(&lab, "node-a", "10.1.0.2", &more("node-a"));
        let other = zonal(&lab, "node-b", "10.1.32.2", &more("node-b"));
        ["node-a", "node-b"].iter().for_each(|node| wait_for_all(&lab, node));
        let seen = [Timeline::start(&lab, "client-a", "10.1.0.2"), Timeline::start(&lab, "client-b", "10.1.32.2")];
        for seen in &seen {
            seen.wait_for(&ALL, Instant::now(), FOLLOWED);
        }
        Scene { node: Some(node), _other: other, seen, targets, lab }
    }

    /// Starts another process that takes over from that of `node-a`.
    fn take_over(&mut self) {
        let next = zonal(&self.lab, "node-a", "10.1.0.2", &more("node-a"));
        let mut old = self.node.replace(next).expect("a process");
        wait_until("the old process has ended", || old.ended());
    }

    /// Kills the process of `node-a`, and starts another one.
    fn restart(&mut self) {
        if let Some(mut old) = self.node.take() {
            old.kill();
        }
        self.node = Some(zonal(&self.lab, "node-a", "10.1.0.2", &more("node-a")));
    }

    /// Waits until a text is this often in the file of states in the state directory of `node-a`.
    fn wait_for_stored(&self, text: &str, number: usize) {
        wait_until(&format!("{text} is stored {number} times"), || {
            let stored = std::fs::read_to_string(self.lab.scratch.path().join("state-node-a/health.json")).ok()?;
            (stored.matches(text).count() == number).then_some(())
        });
    }
}

fn more(node: &str) -> String {
    format!("control_plane: {{directory: zones}}\ntakeover_socket: takeover-{node}\n")
}

/// Begins a failure, and ends it. `left` has the addresses that each client still gets in between.
fn through(begin: impl Fn(&mut Scene), end: impl Fn(&mut Scene), left: [&[&str]; 2]) {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut scene = Scene::start();
    let began = Instant::now();
    begin(&mut scene);
    // A process takes over before the failure is known.
    scene.take_over();
    for (seen, left) in scene.seen.iter().zip(left) {
        let duration = seen.wait_for(left, began, FOLLOWED);
        println!("without the target after {duration:?}");
        seen.assert_steps(&ALL, left, began);
    }
    // The process is killed when the failure is known. The next one leaves the target out from its first answer on.
    scene.wait_for_stored("\"state\":\"unhealthy\"", ALL.len() - left[0].len());
    let known = Instant::now();
    scene.restart();
    scene.seen[0].wait_for(left[0], Instant::now(), FOLLOWED);
    // A process takes over when the failure is known.
    scene.take_over();
    scene.seen[0].assert_only(left[0], known, true);
    scene.seen[1].assert_only(left[1], known, false);
    let ended = Instant::now();
    end(&mut scene);
    for (seen, left) in scene.seen.iter().zip(left) {
        let duration = seen.wait_for(&ALL, ended, RECOVERED);
        println!("with the target after {duration:?}");
        seen.assert_steps(left, &ALL, ended);
    }
}

#[test]
fn a_killed_target_stays_out_through_takeover_and_restart() {
    let start = |scene: &mut Scene| scene.targets[0] = target(&scene.lab, "target-a");
    through(|scene| scene.targets[0].kill(), start, [&ALL[2..], &ALL[2..]]);
}

#[test]
fn a_target_whose_packets_are_dropped_stays_out_through_takeover_and_restart() {
    let cut = |is_cut: bool| move |scene: &mut Scene| scene.lab.cut("core", &ALL[..2], is_cut);
    through(cut(true), cut(false), [&ALL[2..], &ALL[2..]]);
}

#[test]
fn a_slow_target_stays_out_through_takeover_and_restart() {
    let how = |how: &'static str| move |scene: &mut Scene| mode(&scene.lab, "target-b", how);
    through(how("slow"), how("200"), [&ALL[..2], &ALL[..2]]);
}

#[test]
fn only_the_clients_of_a_node_that_is_cut_off_from_its_az_get_other_answers() {
    let cut = |is_cut: bool| move |scene: &mut Scene| blackhole(&scene.lab, "node-a", &ALL[..2], is_cut);
    through(cut(true), cut(false), [&ALL[2..], &ALL]);
}

/// A target at `node-a`, as `/v1/health` shows it.
fn report(lab: &Lab, address: &str) -> Value {
    let text = get(lab, "node-a", &format!("/v1/health/vpce/{address}")).map(|(_, text)| text).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn a_flapping_target_stays_out_through_takeover_and_restart() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut scene = Scene::start();
    // The target changes until it is held unhealthy.
    let is_held = |scene: &Scene| ALL[..2].iter().all(|address| report(&scene.lab, address)["held_until"].is_i64());
    let mut changes = 0;
    while !is_held(&scene) {
        assert!(changes < 10, "the target is not held after {changes} changes");
        let (how, expected) = if changes % 2 == 0 { ("500", "unhealthy") } else { ("200", "healthy") };
        mode(&scene.lab, "target-a", how);
        let both =
            ["node-a", "node-b"].into_iter().flat_map(|node| ALL[..2].iter().map(move |address| (node, address)));
        for (node, address) in both {
            wait_until(&format!("{address} is {expected} at {node}"), || {
                (state(&scene.lab, node, &format!("vpce/{address}")) == expected).then_some(())
            });
        }
        changes += 1;
    }
    let log = scene.node.as_ref().map(Process::log).unwrap_or_default();
    assert!(log.contains("target flapping"), "{log}");
    // From now on, it passes its checks.
    mode(&scene.lab, "target-a", "200");
    let held = Instant::now();
    for seen in &scene.seen {
        seen.wait_for(&ALL[2..], held, FOLLOWED);
    }
    let known = Instant::now();
    let before = ALL.map(|address| report(&scene.lab, address)["held_until"].clone());
    scene.take_over();
    scene.restart();
    scene.seen[0].wait_for(&ALL[2..], Instant::now(), FOLLOWED);
    wait_until("it has passed a check at the new process", || {
        (report(&scene.lab, ALL[0])["attempts"][0]["success"].as_bool()?).then_some(())
    });
    scene.seen[0].assert_only(&ALL[2..], known, true);
    scene.seen[1].assert_only(&ALL[2..], known, false);
    for (address, before) in ALL.iter().zip(before) {
        let after = report(&scene.lab, address)["held_until"].clone();
        let difference = before.as_i64().zip(after.as_i64()).map_or(0, |(before, after)| (before - after).abs());
        assert!(before.is_i64() == after.is_i64() && difference <= 2, "{address}: {before} {after}");
    }
}

#[test]
fn an_isolated_node_keeps_its_answers_through_takeover_and_restart() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut scene = Scene::start();
    let begin = Instant::now();
    let wait_until_isolated = |scene: &Scene| {
        wait_until("node-a is isolated", || {
            let (_, status) = get(&scene.lab, "node-a", "/v1/status")?;
            serde_json::from_str::<Value>(&status).ok()?["isolated_since"].as_i64()
        });
    };
    blackhole(&scene.lab, "node-a", &ALL, true);
    scene.take_over();
    wait_until_isolated(&scene);
    scene.seen[0].wait_for(&ALL, Instant::now(), FOLLOWED);
    // The state directory has the verdicts that the node keeps, so a new process begins with them.
    scene.wait_for_stored("\"times\":[", ALL.len());
    scene.wait_for_stored("\"state\":\"healthy\"", ALL.len());
    for replace in [Scene::restart, Scene::take_over] {
        let replaced = Instant::now();
        replace(&mut scene);
        scene.seen[0].wait_for(&ALL, replaced, FOLLOWED);
        wait_until_isolated(&scene);
        scene.seen[0].wait_for(&ALL, Instant::now(), FOLLOWED);
    }
    // Until all targets have failed, a node does not know that it is isolated. It never answers without any address.
    let answers = scene.seen[0].since(begin);
    assert!(answers.iter().flatten().all(|answer| !answer.is_empty()), "{answers:#?}");
    scene.seen[1].assert_only(&ALL, begin, false);
    let ended = Instant::now();
    blackhole(&scene.lab, "node-a", &ALL, false);
    wait_until("node-a is no longer isolated", || {
        let (_, status) = get(&scene.lab, "node-a", "/v1/status")?;
        serde_json::from_str::<Value>(&status).ok()?["isolated_since"].is_null().then_some(())
    });
    scene.seen[0].wait_for(&ALL, ended, RECOVERED);
}
