//! What is kept for a start without the control plane: through kill -9, full disks and broken manifests.

use crate::harness::{Process, Scratch, Server, ZONAL, can_run, free_port, http_get, http_send, wait_until};
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
    // Each is about 50 kB.
    records.extend((0..size).map(|at| json!({"name": format!("filler-{at}"), "type": "TXT", "records": values})));
    json!({"name": name, "vpc_ids": ["vpc"], "records": records})
}

fn manifest(n: u64) -> String {
    json!({"generation": 1, "vpcs": {"vpc": {"region": "r", "cidr_blocks": ["127.0.0.0/8"]}},
           "private_hosted_zones": {"Z1": zone("one.example", n, 0), "Z2": zone("two.example", n, 0)}})
    .to_string()
}

/// Both zones become number `n` in one change.
fn change(n: u64, size: usize) -> String {
    json!({"operations": [
        {"method": "PUT", "kind": "private_hosted_zones", "id": "Z1", "resource": zone("one.example", n, size)},
        {"method": "PUT", "kind": "private_hosted_zones", "id": "Z2", "resource": zone("two.example", n, 0)},
    ]})
    .to_string()
}

/// The number that a zone says; none if it says nothing.
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

/// Whenever it is killed: what it serves after that is what it acknowledged last, or what was under way, and never a part.
#[test]
fn killed_under_change() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (mut sent, acknowledged) = (0, AtomicU64::new(0));
    let mut server = Server::start_from("{push: {}}", "state_directory: state\n");
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", &manifest(0)), Some(200));
    let (mut generation, mut condensed) = (0, 0);
    for round in 0..kills() {
        let (stop, admin) = (AtomicBool::new(false), server.admin);
        let last = std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                let mut n = sent;
                while !stop.load(Relaxed) {
                    n += 1;
                    // Large ones make it condense what it keeps now and then.
                    match http_send(admin, "POST", "/v1/batch", &change(n, if n % 2 == 0 { 6 } else { 0 })) {
                        Some(200) => acknowledged.store(n, Relaxed),
                        Some(status) => panic!("{status}"),
                        None => break,
                    }
                }
                n
            });
            // Now and then it has time enough to condense what it keeps.
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
        // What is there now is the base of what comes.
        acknowledged.store(one, Relaxed);
        let state = fs::read_dir(server.scratch.path().join("state")).unwrap();
        let names: Vec<String> = state.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.len() < 12 && !names.iter().any(|name| name.ends_with("damaged")), "{names:?}");
        condensed = names.iter().filter_map(|name| name.strip_prefix("base.")?.parse::<u64>().ok()).max().unwrap();
    }
    assert!(sent > kills(), "{sent} changes are none");
    assert!(kills() < 40 || condensed > 1, "nothing was condensed: base {condensed} after {sent} changes");
}

/// A state directory that somebody has removed, or made again, has all that was acknowledged after that.
#[test]
fn a_directory_that_was_removed() {
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
    // Where it cannot be made there is nothing to rely on.
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "in the way").unwrap();
    assert_eq!(http_send(server.admin, "POST", "/v1/batch", &change(3, 0)), Some(507));
    assert_eq!(number(server.port, "one.example"), Some(2));
}

/// A change that cannot be kept is not served, and its sender is told so.
#[test]
fn a_full_disk() {
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
    let (_, metrics) = http_get(admin, "/metrics").unwrap();
    assert!(metrics.contains("\nzonal_state_write_failed 1\n"), "{metrics}");
    // With room again it goes on.
    fs::remove_file(state.join("other")).unwrap();
    assert_eq!(http_send(admin, "POST", "/v1/batch", &change(1_000, 0)), Some(200));
    assert_eq!(number(port, "one.example"), Some(1_000));
    assert!(http_get(admin, "/metrics").unwrap().1.contains("\nzonal_state_write_failed 0\n"));
}

/// A state directory that is damaged: what is left of it may be older than what was acknowledged, and it says so until the whole is
/// pushed again.
#[test]
fn says_that_it_is_stale_when_the_state_directory_is_damaged() {
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
    let is_stale = |server: &Server| {
        let status = server.status();
        let output = Command::new(ZONAL).args(["status", "--all", &server.admin.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text.contains("the state directory was damaged"),
            status["stale"] == json!(true),
            "{text}\n{status}"
        );
        assert_eq!(output.status.code(), Some(i32::from(status["stale"] == json!(true))));
        assert_eq!(server.metric(&["zonal_stale"]) == 1.0, status["stale"] == json!(true));
        status["stale"] == json!(true)
    };
    // It is remembered, and a change of a part does not end it.
    for _ in 0..2 {
        server = server.restart();
        assert_eq!(number(server.port, "one.example"), Some(3));
        assert!(is_stale(&server));
    }
    send(&server, "POST", "/v1/batch", &change(7, 0));
    assert!(number(server.port, "one.example") == Some(7) && is_stale(&server));
    send(&server, "PUT", "/v1/manifest", &manifest(8).replace("\"generation\":1", "\"generation\":2"));
    assert!(number(server.port, "one.example") == Some(8) && !is_stale(&server));
    let server = server.restart();
    assert!(number(server.port, "one.example") == Some(8) && !is_stale(&server));
}

/// A directory that is broken at the start: what was good last is served, and it says so.
#[test]
fn a_directory_that_has_broken() {
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
    wait_until("it is kept", || server.process.log().contains("loaded generation=2").then_some(()));
    let generation = server.status()["generation"].as_u64();
    write("vpcs: [");
    directory.write("zones/sub/more.zone", "@ broken\n");
    server = server.restart().ready();
    assert_eq!((number(server.port, "one.example"), number(server.port, "two.example")), (Some(2), Some(7)));
    let status = server.status();
    assert_eq!((status["generation"].as_u64(), &status["stale"]), (generation, &json!(true)));
    assert!(status["last_error"].is_object(), "{status}");
    directory.write("zones/sub/more.zone", "@ TXT 8\n");
    write(&good(3));
    wait_until("it is followed again", || (number(server.port, "two.example") == Some(8)).then_some(()));
    assert_eq!(number(server.port, "one.example"), Some(3));
    let status = server.status();
    assert!(status["generation"].as_u64() > generation && status["stale"] == json!(false), "{status}");
    let last = format!("loaded generation={}", status["generation"]);
    wait_until("it is kept", || server.process.log().contains(&last).then_some(()));
    // Files, or the directory itself, that were there and are gone at the start: a volume that is not mounted looks like this.
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
        let status = server.status();
        assert!(status["stale"] == json!(true) && status["last_error"].to_string().contains(told), "{gone}: {status}");
        fs::rename(&elsewhere, &there).unwrap();
        wait_until("it is followed again", || (server.status()["stale"] == json!(false)).then_some(()));
        assert_eq!(number(server.port, "one.example"), Some(3));
    }
    // Without anything kept there is nothing to serve.
    write("vpcs: [");
    let mut fresh = Process::start(
        &[ZONAL, "serve", "--config", server.scratch.path().join("zonal.yaml").to_str().unwrap()],
        &directory,
        "second",
    );
    wait_until("the second one is refused", || fresh.log().contains("is in use by another zonal").then_some(()));
    assert!(fresh.has_failed(), "{}", fresh.log());
}
