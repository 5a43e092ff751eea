//! Journals of dynamic updates: zonal reports the records that override the files, shows the
//! journal, and drops it.

use crate::harness::{Scratch, Server, ZONAL, can_run, http_get, wait_until};
use std::{
    io::Write,
    process::{Command, Stdio},
};

const KEY: &str = "hmac-sha256:update:c2VjcmV0IG9mIHVwZGF0ZXMhIQ==";
const MANIFEST: &str = "\
vpcs: {vpc: {region: r, cidr_blocks: [127.0.0.0/8]}}
private_hosted_zones:
  Z0CORP:
    name: corp.example
    vpc_ids: [vpc]
    file: corp.zone
    records: [{name: inline, type: A, ttl: 60, records: [10.1.0.80]}]
    allow_update: [{tsig_key: update}]
  Z0INLINE:
    name: inline.example
    vpc_ids: [vpc]
    records: [{name: www, type: A, ttl: 60, records: [10.1.0.81]}]
    allow_update: [{tsig_key: update}]
";

/// The master file, with this address for `www`.
fn file(address: &str) -> String {
    format!(
        "$TTL 60\n@ SOA ns h 1 1 1 1 60\n@ NS ns\nns A 10.1.0.53\nwww A {address}\nold A 10.1.0.3\n*.w A 10.1.0.4\nsame A 10.1.0.5\n"
    )
}

fn update(server: &Server, zone: &str, lines: &str) {
    let script = format!("server 127.0.0.1 {}\nzone {zone}\n{lines}send\n", server.port);
    let mut child = Command::new("nsupdate").args(["-t", "20", "-y", KEY]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines}");
}

fn dig(server: &Server, name: &str) -> String {
    let port = server.port.to_string();
    let output = Command::new("dig")
        .args(["-b", "127.0.0.1", "@127.0.0.1", "-p", &port, "+short", "+tries=3", name, "A"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// Runs zonal with the configuration in a directory. Returns its output, and whether it succeeded.
fn zonal(server: &Scratch, arguments: &[&str]) -> (String, bool) {
    let output =
        Command::new(ZONAL).args(arguments).args(["--config", "zonal.yaml"]).current_dir(server.path()).output();
    let output = output.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (text, output.status.success())
}

#[test]
fn reports_shows_and_drops_journals() {
    if !can_run(&["nsupdate", "dig"]) {
        return;
    }
    for on_error in ["refuse", "set_aside"] {
        let directory = Scratch::new();
        let write = |address: &str| directory.write("zones/corp.zone", file(address));
        directory.write("zones/manifest.yaml", MANIFEST);
        write("10.1.0.1");
        let source = format!("{{directory: {}, on_error: {on_error}}}", directory.path().join("zones").display());
        let keys = "tsig_keys: {update: {secret: c2VjcmV0IG9mIHVwZGF0ZXMhIQ==}}\n";
        let server = Server::start_from(&source, &format!("state_directory: state\n{keys}")).ready();
        let run = |arguments: &[&str]| zonal(&server.scratch, arguments);
        assert_eq!(run(&["journal", "show"]), ("No zone has a journal.\n".into(), true));
        update(
            &server,
            "corp.example",
            "update delete www.corp.example A\nupdate add www.corp.example 30 A 10.9.0.1\nupdate delete old.corp.example\n\
             update add new.corp.example 30 A 10.9.0.2\nupdate delete inline.corp.example\nupdate delete *.w.corp.example A\nupdate add *.w.corp.example 60 A 10.9.0.4\n\
             update delete same.corp.example A\nupdate add same.corp.example 60 A 10.1.0.5\n",
        );
        update(
            &server,
            "inline.example",
            "update delete www.inline.example A\nupdate add www.inline.example 60 A 10.9.0.5\n",
        );
        // zonal serves an edited file, except for the record sets that updates override. It logs
        // those record sets.
        write("10.1.0.2");
        let told = "the A records of www.corp.example. are not served: a dynamic update has replaced them";
        for text in [
            told,
            "the A records of old.corp.example. are not served: a dynamic update has removed them",
            "the A records of inline.corp.example. are not served",
            "`zonal journal drop Z0CORP`",
        ] {
            server.process.wait_for_log(text);
        }
        let log = server.process.log();
        assert!(!log.contains("same.corp.example. are") && !log.contains("new.corp.example. are not"), "{log}");
        assert_eq!(
            (dig(&server, "www.corp.example"), dig(&server, "old.corp.example")),
            ("10.9.0.1".into(), "".into())
        );
        let (text, is_well) = run(&["check"]);
        assert!(is_well && text.contains("corp.zone:5") && text.contains(told), "{text}");
        for (name, overrides) in [("www", true), ("old", true), ("x.w", true), ("new", true), ("ns", false)] {
            let (text, _) = run(&["explain", "--from", "127.0.0.1", &format!("{name}.corp.example"), "A"]);
            let told =
                text.contains("a dynamic update overrides the files") && text.contains("`zonal journal show Z0CORP`");
            assert_eq!(told, overrides, "{text}");
        }
        // The journal is shown by name and by identifier, as text and as JSON.
        for zone in ["Z0CORP", "corp.example", "CORP.example."] {
            let (text, _) = run(&["journal", "show", zone]);
            assert!(text.starts_with("Z0CORP corp.example.: 5 record sets\n"), "{text}");
            assert!(
                text.contains("  www.corp.example. 30 A 10.9.0.1\n")
                    && text.contains("  old.corp.example. A: removed\n"),
                "{text}"
            );
            assert!(!text.contains("inline.example"), "{text}");
        }
        let (text, _) = run(&["journal", "show", "--format", "json"]);
        assert!(text.contains("\"Z0INLINE\"") && text.contains("\"www.inline.example.\""), "{text}");
        let (text, is_well) = run(&["journal", "show", "other.example"]);
        assert!(!is_well && text.contains("zone other.example: there is no journal for it"), "{text}");
        // While the files have errors, the journal stays.
        if on_error == "refuse" {
            write("10.1.0.999");
            server.wait_for_status("it is refused", |status| status["last_error"].is_object());
            let (text, is_well) = run(&["journal", "drop", "Z0CORP"]);
            assert!(!is_well && text.contains("the journal stays, as the files have errors"), "{text}");
            assert_eq!(dig(&server, "www.corp.example"), "10.9.0.1");
            write("10.1.0.2");
            server.wait_for_status("it is served", |status| status["last_error"].is_null());
        }
        // After the drop, the files are served, also after a restart. The other zone keeps its journal.
        let (text, is_well) = run(&["journal", "drop", "corp.example"]);
        assert!(is_well && text.contains("Z0CORP: 5 record sets of dynamic updates were dropped"), "{text}");
        let served = |server: &Server| {
            [
                "www.corp.example",
                "old.corp.example",
                "new.corp.example",
                "inline.corp.example",
                "x.w.corp.example",
                "www.inline.example",
            ]
            .map(|name| dig(server, name))
        };
        let expected = ["10.1.0.2", "10.1.0.3", "", "10.1.0.80", "10.1.0.4", "10.9.0.5"].map(String::from);
        assert_eq!(served(&server), expected, "{on_error}");
        assert!(!run(&["check"]).0.contains("corp.example. are not served"));
        assert!(!run(&["journal", "drop", "corp.example"]).1);
        let mut server = server.restart().ready();
        assert_eq!(served(&server), expected, "{on_error}");
        assert_eq!(http_get(server.admin, "/v1/journals/Z0CORP").unwrap().0, 404);
        // Updates and changes of the file are still applied.
        update(&server, "corp.example", "update add late.corp.example 60 A 10.9.0.6\n");
        write("10.1.0.7");
        wait_until("the file is followed", || (dig(&server, "www.corp.example") == "10.1.0.7").then_some(()));
        assert_eq!(dig(&server, "late.corp.example"), "10.9.0.6");
        // Without a server, the command reads and changes the state directory.
        server.process.kill();
        let run = |arguments: &[&str]| zonal(&server.scratch, arguments);
        assert!(run(&["journal", "show", "corp.example"]).0.contains("late.corp.example. 60 A 10.9.0.6"));
        assert!(run(&["explain", "--from", "127.0.0.1", "late.corp.example"]).0.contains("a dynamic update overrides"));
        assert!(run(&["journal", "drop", "inline.example"]).1);
        let server = server.restart().ready();
        assert_eq!(
            (dig(&server, "www.inline.example"), dig(&server, "late.corp.example")),
            ("10.1.0.81".into(), "10.9.0.6".into())
        );
    }
}

/// A damaged file loses acknowledged updates and serials. No source can restore them, so the node
/// reports that it is stale until an operator removes the damaged copy.
#[test]
fn a_damaged_journal_or_file_of_serials_makes_the_node_stale_until_its_copy_is_gone() {
    if !can_run(&["nsupdate", "dig"]) {
        return;
    }
    for ready_when_stale in [true, false] {
        let directory = Scratch::new();
        directory.write("zones/manifest.yaml", MANIFEST);
        directory.write("zones/corp.zone", file("10.1.0.1"));
        let zones = directory.path().join("zones");
        let source = format!("{{directory: {}, ready_when_stale: {ready_when_stale}}}", zones.display());
        let more = "state_directory: state\ntsig_keys: {update: {secret: c2VjcmV0IG9mIHVwZGF0ZXMhIQ==}}\n";
        let mut server = Server::start_from(&source, more).ready();
        let add = |server: &Server, n: u8| {
            update(server, "corp.example", &format!("update add n{n}.corp.example 60 A 10.9.0.{n}\n"));
        };
        (1..4).for_each(|n| add(&server, n));
        let state = server.scratch.path().join("state");
        let has_state = |server: &Server, is_stale: bool| {
            let status = server.status();
            let ready = http_get(server.admin, "/ready").unwrap();
            let (text, is_well) = zonal(&server.scratch, &["status"]);
            assert_eq!(status["stale"], is_stale, "{status}");
            assert_eq!(ready.0, if is_stale && !ready_when_stale { 503 } else { 200 }, "{ready:?}");
            assert_eq!(server.metric(&["zonal_stale"]) == 1.0, is_stale);
            assert_eq!(is_well, !is_stale, "{text}");
            for told in [status["stale_reason"].as_str().unwrap_or_default(), &text] {
                assert_eq!(told.contains("a file of the state directory was damaged"), is_stale, "{told}");
            }
        };
        has_state(&server, false);
        // Damages one octet in the middle of the file; all data after it is lost.
        let damage = |server: &mut Server, name: &str| {
            server.process.kill();
            let path = state.join(name);
            let mut octets = std::fs::read(&path).unwrap();
            let lines: Vec<usize> =
                octets.iter().enumerate().filter(|(_, octet)| **octet == b'\n').map(|(at, _)| at).collect();
            assert!(lines.len() >= 2, "{name} has {} lines", lines.len());
            let at = lines[0] + 15;
            octets[at.min(lines[1] - 2)] ^= 1;
            std::fs::write(path, octets).unwrap();
        };
        let reload = |server: &Server| {
            let id = rustix::process::Pid::from_raw(server.process.id() as i32).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
        };

        damage(&mut server, "updates/Z0CORP.journal");
        // The node stays stale after a restart, a change of the files, a reload and an update.
        for _ in 0..2 {
            server = server.restart();
            wait_until("it is served", || (dig(&server, "n1.corp.example") == "10.9.0.1").then_some(()));
            assert_eq!(dig(&server, "n3.corp.example"), "");
            has_state(&server, true);
        }
        directory.write("zones/corp.zone", file("10.1.0.2"));
        wait_until("the file is followed", || (dig(&server, "www.corp.example") == "10.1.0.2").then_some(()));
        add(&server, 4);
        reload(&server);
        has_state(&server, true);
        // The undamaged part of the journal is dropped together with the copy, or remains if an
        // operator removes only the copy.
        if ready_when_stale {
            let (text, is_well) = zonal(&server.scratch, &["journal", "drop", "Z0CORP"]);
            assert!(is_well, "{text}");
            assert_eq!(dig(&server, "n4.corp.example"), "");
        } else {
            std::fs::remove_file(state.join("updates/Z0CORP.damaged")).unwrap();
            reload(&server);
            assert_eq!(dig(&server, "n4.corp.example"), "10.9.0.4");
        }
        wait_until("it is stale no more", || (server.status()["stale"] == false).then_some(()));
        has_state(&server, false);
        server = server.restart().ready();
        has_state(&server, false);

        damage(&mut server, "serials");
        server = server.restart();
        wait_until("it is served", || (dig(&server, "www.corp.example") == "10.1.0.2").then_some(()));
        has_state(&server, true);
        std::fs::remove_file(state.join("serials.damaged")).unwrap();
        reload(&server);
        wait_until("it is stale no more", || (server.status()["stale"] == false).then_some(()));
        has_state(&server, false);
    }
}
