//! Primaries that are unreachable or have an older version, and copies in the state directory.

use super::*;
use crate::harness::{can_run, free_port};
use std::fs;

fn zones(port: u16) -> String {
    manifest(&format!(
        "  Z1: {{name: a.example, vpc_ids: [vpc-a], primaries: [{{ip: 127.0.0.1, port: {port}}}], \
         allow_transfer: [{{cidr_block: 127.0.0.1/32}}]}}\n"
    ))
}

/// The output of a transfer of the zone from zonal.
fn copy(port: u16) -> String {
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port.to_string(), "+tries=1", "+onesoa", "a.example", "AXFR"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// For names of an expired zone, zonal answers SERVFAIL, and does not answer from the parent zone.
#[test]
fn stops_answering_from_an_expired_zone() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    write_zone(&scratch, "a.example", "7 2 1 4", "www A 192.0.2.1");
    let process = primary.bind(&["a.example"]);
    scratch.write("zones/m.yaml", zones(port) + "  Z2: {name: example, vpc_ids: [vpc-a]}\n");
    let state = with_state(&scratch.path().join("state"));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    assert!(copy(secondary).contains("192.0.2.1"), "{}", copy(secondary));
    drop(process);
    let reply = wait_for_status(&server, IN_A, "www.a.example", "SERVFAIL");
    assert!(copy(secondary).contains("Transfer failed"), "{}", copy(secondary));
    assert_eq!(reply.ede, [24], "{reply}");
    assert!(reply.answer.is_empty() && reply.authority.is_empty(), "{reply}");
    assert_eq!(ask(secondary, IN_A, "no.a.example", RecordType::A).status, "SERVFAIL");
    assert_eq!(ask(secondary, IN_A, "b.example", RecordType::A).status, "NXDOMAIN");
    wait_for_state(&server, "Z1", Some("expired"));
    // A server that starts after the expiry does not answer from the copy.
    drop(server);
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    assert_eq!(ask(secondary, IN_A, "www.a.example", RecordType::A).status, "SERVFAIL");
    // After the expiry, zonal accepts any serial.
    write_zone(&scratch, "a.example", "3 2 1 4", "www A 192.0.2.3");
    let _process = primary.bind(&["a.example"]);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.3");
    assert!(copy(secondary).contains("192.0.2.3"), "{}", copy(secondary));
    wait_for_state(&server, "Z1", Some("current"));
}

/// zonal does not serve a version with a lower serial.
#[test]
fn refuses_an_older_serial() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    write_zone(&scratch, "a.example", "7 2 1 86400", "www A 192.0.2.1");
    let process = primary.bind(&["a.example"]);
    scratch.write("zones/m.yaml", zones(port));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), "");
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    drop(process);
    write_zone(&scratch, "a.example", "6 2 1 86400", "www A 192.0.2.2");
    let process = primary.bind(&["a.example"]);
    let told = wait_for_error(&server, "Z1", "the primary has serial 6, which is older than what is served");
    assert_eq!(told["serial"], 7, "{told}");
    wait_for_state(&server, "Z1", Some("retrying"));
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    wait_until("the refusal is counted", || (transfers(&server, "refused") >= 1.0).then_some(()));
    drop(process);
    write_zone(&scratch, "a.example", "8 2 1 86400", "www A 192.0.2.8");
    let _process = primary.bind(&["a.example"]);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.8");
}

/// Without its primary, zonal serves a zone from its copy, unless the copy is damaged.
#[test]
fn serves_zones_from_copies_without_a_primary() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    write_zone(&scratch, "a.example", "7 3600 1 86400", "www A 192.0.2.1");
    let process = primary.bind(&["a.example"]);
    scratch.write("zones/m.yaml", zones(port));
    let directory = scratch.path().join("zones");
    let state = with_state(&scratch.path().join("state"));
    let copy = scratch.path().join("state/zones/Z1.copy");
    let server = Server::start_at(secondary, &directory, &state);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    wait_until("it is kept", || copy.exists().then_some(()));
    let before = server.status()["digest"].clone();
    drop(server);
    drop(process);

    let server = Server::start_at(secondary, &directory, &state);
    let reply = ask(secondary, IN_A, "www.a.example", RecordType::A);
    assert_eq!(reply.status, "NOERROR", "it is served as soon as the server is ready\n{reply}");
    let told = wait_for_error(&server, "Z1", "it cannot be reached");
    assert_eq!(told["serial"], 7, "{told}");
    wait_for_state(&server, "Z1", Some("retrying"));
    wait_until_equal("the digest", before, || server.status()["digest"].clone());
    drop(server);

    let mut octets = fs::read(&copy).unwrap();
    let at = octets.len() - 3;
    octets[at] ^= 1;
    fs::write(&copy, octets).unwrap();
    let server = Server::start_at(secondary, &directory, &state);
    assert_eq!(ask(secondary, IN_A, "www.a.example", RecordType::A).status, "SERVFAIL");
    server.process.wait_for_log("its checksum is wrong");
    wait_until_equal("the damaged copy is renamed", (false, true), || {
        (copy.exists(), copy.with_extension("damaged").exists())
    });
    let _process = primary.bind(&["a.example"]);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    wait_until("it is kept", || copy.exists().then_some(()));

    // When a zone is removed, zonal removes its copy.
    scratch.write("zones/m.yaml", manifest("  Z2: {name: b.example, vpc_ids: [vpc-a]}\n"));
    wait_for_status(&server, IN_A, "b.example", "NOERROR");
    wait_until("its copy is gone", || (!copy.exists()).then_some(()));
    wait_for_state(&server, "Z1", None);
    server.wait_for_metric(&["zonal_transferred_zones"], 0.0);
}
