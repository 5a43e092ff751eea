//! The state directory after `kill -9`, with full disks and with broken manifests.

use crate::harness::{
    Process, Scratch, Server, ZONAL, can_run, free_port, http_get, http_send, wait_until, wait_until_equal,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::sleep,
    time::Duration,
};

fn zone(name: &str, n: u64, size: usize) -> Value {
    let filler = "x".repeat(240);
    let values: Vec<String> = (0..200).map(|at| format!("\"{at} {filler}\"")).collect();
    let mut records = vec![json!({"name": "@", "type": "TXT", "ttl": 0, "records": [format!("\"{n}\"")]})];
    // Each record set has about 50 kB.
    records.extend((0..size).map(|at| json!({"name": format!("filler-{at}"), "type": "TXT", "records": values})));
    json!({"name": name, "vpc_ids": ["vpc"], "records": records})
}

fn manifest(n: u64) -> String {
    json!({"generation": 1, "vpcs": {"vpc": {"region": "r", "cidr_blocks": ["127.0.0.0/8"]}},
           "private_hosted_zones": {"Z1": zone("one.example", n, 0), "Z2": zone("two.example", n, 0)}})
    .to_string()
}

/// A change that puts number `n` into both zones.
fn change(n: u64, size: usize) -> String {
    json!({"operations": [
        {"method": "PUT", "kind": "private_hosted_zones", "id": "Z1", "resource": zone("one.example", n, size)},
        {"method": "PUT", "kind": "private_hosted_zones", "id": "Z2", "resource": zone("two.example", n, 0)},
    ]})
    .to_string()
}

/// The number in the TXT record of a zone; `None` without an answer.
fn number(port: u16, name: &str) -> Option<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend(b"\0\0\x10\0\x01");
    socket.send(&query).unwrap();
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    if buffer[7] != 1 {
        return None;
    }
    let text = &buffer[query.len() + 13..len];
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn kills() -> u64 {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40)
}

/// After `kill -9`, the node serves the last acknowledged change or the change in progress, and
/// never a part of a change.
#[test]
fn serves_the_last_acknowledged_change_after_kill() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (mut sent, acknowledged) = (0, AtomicU64::new(0));
    let mut server = Server::start_from("{push: {}}", "state_directory: state\n");
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", &manifest(0)), Some(200));
    let (mut generation, mut compacted) = (0, 0);
    for round in 0..kills() {
        let (stop, admin) = (AtomicBool::new(false), server.admin);
        let last = std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                let mut n = sent;
                while !stop.load(Relaxed) {
                    n += 1;
                    // Large changes make the node compact its state directory.
                    match http_send(admin, "POST", "/v1/batch", &change(n, if n % 2 == 0 { 6 } else { 0 })) {
                        Some(200) => acknowledged.store(n, Relaxed),
                        Some(status) => panic!("{status}"),
                        None => break,
                    }
                }
                n
            });
            // Every tenth round is long enough for a compaction.
            let enough = acknowledged.load(Relaxed) + if round % 10 == 9 { 16 } else { 0 };
            wait_until("changes are made", || {
                (acknowledged.load(Relaxed) >= enough || pusher.is_finished()).then_some(())
            });
            sleep(Duration::from_millis(5 + round * 37 % 120));
            server.process.kill();
            stop.store(true, Relaxed);
            pusher.join().unwrap()
        });
        sent = last;
        server = server.restart().ready();
        let (one, two) = (number(server.port, "one.example"), number(server.port, "two.example"));
        assert_eq!(one, two, "a part of a change is served");
        let one = one.expect("a number");
        assert!((acknowledged.load(Relaxed)..=sent).contains(&one), "{one}: {acknowledged:?} to {sent}");
        let status = server.status();
        assert!(status["generation"].as_u64().unwrap() >= generation, "{status}");
        assert_eq!(status["stale"], json!(false), "there is nothing newer anywhere");
        generation = status["generation"].as_u64().unwrap();
        // The next round starts from this number.
        acknowledged.store(one, Relaxed);
        let state = fs::read_dir(server.scratch.path().join("state")).unwrap();
        let names: Vec<String> = state.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.len() < 12 && !names.iter().any(|name| name.ends_with("damaged")), "{names:?}");
        compacted = names.iter().filter_map(|name| name.strip_prefix("base.")?.parse::<u64>().ok()).max().unwrap();
    }
    assert!(sent > kills(), "{sent} changes are none");
    assert!(kills() < 40 || compacted > 1, "nothing was compacted: base {compacted} after {sent} changes");
}

/// A state directory that was removed, or created again, contains all changes that were
/// acknowledged afterwards.
#[test]
fn recreates_a_state_directory_that_was_removed() {
    let mut server = Server::start_from("{push: {}}", "state_directory: state\n");
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", &manifest(0)), Some(200));
    let state = server.scratch.path().join("state");
    for n in 1..=2 {
        fs::remove_dir_all(&state).unwrap();
        if n == 2 {
            fs::create_dir(&state).unwrap();
        }
        assert_eq!(http_send(server.admin, "POST", "/v1/batch", &change(n, 0)), Some(200));
        server.process.kill();
        server = server.restart().ready();
        assert_eq!((number(server.port, "one.example"), number(server.port, "two.example")), (Some(n), Some(n)));
    }
    // zonal refuses a change if it cannot create the directory.
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "in the way").unwrap();
    assert_eq!(http_send(server.admin, "POST", "/v1/batch", &change(3, 0)), Some(507));
    assert_eq!(number(server.port, "one.example"), Some(2));
}

/// zonal refuses a change that it cannot write.
#[test]
fn refuses_changes_on_a_full_disk() {
    if !can_run(&["setpriv", "unshare", "mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, admin) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    fs::create_dir(scratch.path().join("state")).unwrap();
    scratch.write(
        "zonal.yaml",
        format!(
            "listen: [{{address: \"127.0.0.1:{port}\"}}]\ncontrol_plane: {{push: {{}}}}\nadmin: {{address: \"{admin}\"}}\n\
             internet_resolver: none\nstate_directory: state\n"
        ),
    );
    let command = format!("mount -t tmpfs -o size=256k zonal state && exec {ZONAL} serve --config zonal.yaml");
    let process = Process::start(&["unshare", "-m", "sh", "-c", &command], &scratch, "zonal");
    wait_until("it is alive", || (http_get(admin, "/live")?.0 == 200).then_some(()));
    assert_eq!(http_send(admin, "PUT", "/v1/manifest", &manifest(0)), Some(200));
    let state: PathBuf = format!("/proc/{}/root{}/state", process.id(), scratch.path().display()).into();
    fs::write(state.join("other"), vec![1; 100_000]).unwrap();
    let mut n = 0;
    let status = loop {
        match http_send(admin, "POST", "/v1/batch", &change(n + 1, (n % 2) as usize)) {
            Some(200) => n += 1,
            status => break status,
        }
    };
    assert_eq!(status, Some(507), "after {n}");
    assert!(n > 2, "{n}");
    assert_eq!((number(port, "one.example"), number(port, "two.example")), (Some(n), Some(n)));
    let wait_for_metric = |line: &str| {
        wait_until(line, || http_get(admin, "/metrics").unwrap().1.lines().any(|other| other == line).then_some(()));
    };
    wait_for_metric("zonal_state_write_failed 1");
    // After space is freed, zonal accepts changes again.
    fs::remove_file(state.join("other")).unwrap();
    assert_eq!(http_send(admin, "POST", "/v1/batch", &change(1_000, 0)), Some(200));
    assert_eq!(number(port, "one.example"), Some(1_000));
    wait_for_metric("zonal_state_write_failed 0");
}

/// The rest of a damaged state directory may lack acknowledged changes. The node is stale until a
/// client pushes a whole manifest.
#[test]
fn reports_staleness_when_the_state_directory_is_damaged() {
    let mut server = Server::start_from("{push: {}}", "state_directory: state\n");
    let send = |server: &Server, method: &str, path: &str, body: &str| {
        assert_eq!(http_send(server.admin, method, path, body).unwrap(), 200, "{path}");
    };
    send(&server, "PUT", "/v1/manifest", &manifest(1));
    (2..5).for_each(|n| send(&server, "POST", "/v1/batch", &change(n, 0)));
    assert_eq!((number(server.port, "one.example"), &server.status()["stale"]), (Some(4), &json!(false)));
    let state = server.scratch.path().join("state");
    server.process.kill();
    let journal = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let journal =
        journal.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal.")).max().unwrap();
    let mut octets = fs::read(&journal).unwrap();
    let at = octets.len() - 20;
    octets[at] ^= 1;
    fs::write(&journal, octets).unwrap();
    let wait_for = |server: &Server, text: u64, is_stale: bool| {
        wait_until_equal("the number of the zone", Some(text), || number(server.port, "one.example"));
        wait_until_equal("the status", json!(is_stale), || server.status()["stale"].clone());
        server.wait_for_metric(&["zonal_stale"], f64::from(u8::from(is_stale)));
        wait_until_equal("the output and the exit status of `zonal status`", (is_stale, i32::from(is_stale)), || {
            let output = Command::new(ZONAL).args(["status", "--all", &server.admin.to_string()]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text.contains("the state directory was damaged"), output.status.code().unwrap())
        });
    };
    // The node stays stale after another restart, and after a change of single resources.
    for _ in 0..2 {
        server = server.restart().ready();
        wait_for(&server, 3, true);
    }
    send(&server, "POST", "/v1/batch", &change(7, 0));
    wait_for(&server, 7, true);
    send(&server, "PUT", "/v1/manifest", &manifest(8).replace("\"generation\":1", "\"generation\":2"));
    wait_for(&server, 8, false);
    let server = server.restart().ready();
    wait_for(&server, 8, false);
}

/// If the directory is broken at the start, the node serves the last valid manifest, and is stale.
#[test]
fn serves_the_last_valid_manifest_when_the_directory_is_broken() {
    let directory = Scratch::new();
    let write = |text: &str| drop(directory.write("zones/a.yaml", text));
    let good = |n: u64| {
        format!(
            "vpcs: {{vpc: {{region: r, cidr_blocks: [127.0.0.0/8]}}}}\nprivate_hosted_zones:\n  \
             Z1: {{name: one.example, vpc_ids: [vpc], records: [{{name: '@', type: TXT, ttl: 0, records: ['\"{n}\"']}}]}}\n  \
             Z2: {{name: two.example, vpc_ids: [vpc], file: sub/two.zone}}\n"
        )
    };
    directory
        .write("zones/sub/two.zone", "$TTL 0\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 127.0.0.1\n$INCLUDE more.zone\n");
    directory.write("zones/sub/more.zone", "@ TXT 7\n");
    write(&good(1));
    let source = format!("{{directory: {}}}", directory.path().join("zones").display());
    let mut server = Server::start_from(&source, "state_directory: state\n").ready();
    write(&good(2));
    wait_until("it is served", || (number(server.port, "one.example") == Some(2)).then_some(()));
    server.process.wait_for_log("generation published generation=2");
    let generation = server.status()["generation"].as_u64();
    write("vpcs: [");
    directory.write("zones/sub/more.zone", "@ broken\n");
    server = server.restart().ready();
    assert_eq!((number(server.port, "one.example"), number(server.port, "two.example")), (Some(2), Some(7)));
    let status = server.wait_for_status("the load has failed", |status| status["last_error"].is_object());
    assert_eq!((status["generation"].as_u64(), &status["stale"]), (generation, &json!(true)));
    directory.write("zones/sub/more.zone", "@ TXT 8\n");
    write(&good(3));
    wait_until("it is followed again", || (number(server.port, "two.example") == Some(8)).then_some(()));
    wait_until_equal("the other zone is served", Some(3), || number(server.port, "one.example"));
    let status = server.wait_for_status("the source is followed", |status| {
        status["generation"].as_u64() > generation && status["stale"] == json!(false)
    });
    server.process.wait_for_log(&format!("generation published generation={} ", status["generation"]));
    // Missing files, or a missing directory, for example an unmounted volume.
    for (gone, told) in
        [("zones/a.yaml", "the directory has no manifest files any more"), ("zones", "no such file or directory")]
    {
        let (there, elsewhere) = (directory.path().join(gone), directory.path().join("elsewhere"));
        fs::rename(&there, &elsewhere).unwrap();
        server = server.restart().ready();
        assert_eq!(
            (number(server.port, "one.example"), number(server.port, "two.example")),
            (Some(3), Some(8)),
            "{gone}"
        );
        server.wait_for_status(gone, |status| {
            status["stale"] == json!(true) && status["last_error"].to_string().contains(told)
        });
        fs::rename(&elsewhere, &there).unwrap();
        server.wait_for_status("it is followed again", |status| status["stale"] == json!(false));
        assert_eq!(number(server.port, "one.example"), Some(3));
    }
    // A second process cannot use the same state directory.
    write("vpcs: [");
    let mut fresh = Process::start(
        &[ZONAL, "serve", "--config", server.scratch.path().join("zonal.yaml").to_str().unwrap()],
        &directory,
        "second",
    );
    fresh.wait_for_log("is in use by another zonal");
    assert!(fresh.has_failed(), "{}", fresh.log());
}
