//! Many incremental transfers in a row: the served zone and its copy have the records of the
//! primary.

use super::*;
use crate::harness::{can_run, free_port};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

/// All records of the zone at a server, as lines of text; `None` if the server refuses the
/// transfer.
fn records(port: u16) -> Option<BTreeSet<String>> {
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port.to_string(), "+tries=1", "+onesoa", "+noall", "+answer"])
        .args(["a.example", "AXFR"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    let lines = text.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let all: BTreeSet<String> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (!all.is_empty()).then_some(all)
}

/// Pseudo-random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The lines of an update, which adds, changes and deletes names, wildcards, delegations and empty
/// non-terminals.
fn update(random: &mut Random) -> String {
    let mut lines = String::from("zone a.example");
    for _ in 0..1 + random.below(6) {
        let (owner, last) = (random.below(40), 1 + random.below(200));
        lines += &match random.below(9) {
            0 | 1 => format!("\nupdate add n{owner}.a.example 60 A 192.0.2.{last}"),
            2 => format!("\nupdate delete n{owner}.a.example A"),
            3 => format!("\nupdate delete n{owner}.a.example"),
            4 => format!("\nupdate add deep.er.n{owner}.a.example {last} TXT \"{last}\""),
            5 => format!("\nupdate delete deep.er.n{owner}.a.example"),
            // BIND refuses an MX record whose target in the zone has no address.
            6 => format!("\nupdate add *.w{owner}.a.example 60 MX {last} mx{owner}.example."),
            7 => format!("\nupdate add d{owner}.a.example 60 NS ns{last}.d{owner}.a.example."),
            _ => format!("\nupdate delete d{owner}.a.example"),
        };
    }
    lines
}

fn serves_the_records_of_the_primary(start: impl Fn(&Primary) -> Process) {
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    let more: String = (0..2000).map(|number| format!("more{number} TXT \"text\"\n")).collect();
    write_zone(&scratch, "a.example", "1 3600 3600 86400", &more);
    let process = start(&primary);
    scratch.write(
        "zones/m.yaml",
        manifest(&format!(
            "  Z1: {{name: a.example, vpc_ids: [vpc-a], primaries: [{{ip: 127.0.0.1, port: {port}}}], \
             allow_transfer: [{{cidr_block: 127.0.0.1/32}}]}}\n"
        )),
    );
    let state = with_state(&scratch.path().join("state"));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    let wait_until_same = || {
        wait_until("both servers have the same records", || {
            records(port).filter(|all| records(secondary).as_ref() == Some(all))
        })
    };
    wait_until_same();
    let copy = scratch.path().join("state/zones/Z1.copy");
    let before = wait_until("the copy is written", || fs::metadata(&copy).ok());
    let mut random = Random(34);
    for _ in 0..12 {
        primary.update(&update(&mut random));
        wait_until_same();
    }
    let latest = wait_until_same();
    assert_eq!(transfers(&server, "axfr"), 1.0);
    let soa = latest.iter().find(|line| line.contains(" in soa ")).unwrap();
    let serial: u32 = soa.split(' ').nth(6).unwrap().parse().unwrap();
    wait_until("the newest version is written", || zone(&server, "Z1").filter(|zone| zone["serial"] == serial));
    // zonal appends changes to the copy, so the file stays the same.
    let after = fs::metadata(&copy).unwrap();
    assert!(after.ino() == before.ino() && after.len() > before.len());
    drop((server, process));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    assert_eq!(records(secondary).as_ref(), Some(&latest));
    drop(server);

    // A copy with a damaged end has an older version, until zonal has asked the primary.
    let octets = fs::read(&copy).unwrap();
    fs::write(&copy, &octets[..octets.len() - 3]).unwrap();
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    let older = records(secondary).unwrap();
    assert!(older != latest && older.len() > 2000);
    server.process.wait_for_log("changes of zone copy damaged");
    let _process = start(&primary);
    // zonal never uses a serial for two versions, so the SOA records may differ.
    let without_soa = |port| {
        let all = records(port)?.into_iter().filter(|line| !line.contains(" in soa "));
        Some(all.collect::<BTreeSet<String>>())
    };
    let expected = wait_until("the primary answers again", || without_soa(port));
    wait_until("both servers have the same records", || (without_soa(secondary)? == expected).then_some(()));
}

#[test]
fn serves_the_records_of_bind_after_many_updates() {
    if can_run(&["named", "nsupdate", "dig"]) {
        serves_the_records_of_the_primary(|primary| primary.bind(&["a.example"]));
    }
}

#[test]
fn serves_the_records_of_knot_after_many_updates() {
    if can_run(&["knotd", "nsupdate", "dig"]) {
        serves_the_records_of_the_primary(|primary| primary.knot(&[("a.example", "")]));
    }
}
