//! AXFR, IXFR and NOTIFY with BIND and Knot.

use super::*;
use crate::harness::{
    can_run, free_port,
    secure::{Certificate, NAME},
};

/// A notification causes an incremental transfer at once, although the refresh interval is an hour.
fn follows_changes(signed: bool, start: impl Fn(&Primary) -> Process) {
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed, secure: false };
    // In a large zone, differences are smaller than the whole zone.
    let more: String = (0..100).map(|number| format!("more{number} TXT \"text\"\n")).collect();
    write_zone(&scratch, "a.example", "1 3600 3600 86400", &format!("www A 192.0.2.1\n{more}"));
    let mut process = start(&primary);
    let key = if signed { ", tsig_key: transfer" } else { "" };
    let zones =
        format!("  Z1: {{name: a.example, vpc_ids: [vpc-a], primaries: [{{ip: 127.0.0.1, port: {port}{key}}}]}}\n");
    scratch.write("zones/m.yaml", manifest(&zones));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &keys(SECRET));
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    assert_eq!(ask(secondary, IN_A, "no.a.example", RecordType::A).status, "NXDOMAIN");
    assert_eq!(
        ask(secondary, IN_B, "www.a.example", RecordType::A).status,
        "REFUSED",
        "the zone is not associated with vpc-b"
    );

    for number in 2..6 {
        primary.update(&format!(
            "zone a.example\nupdate delete www.a.example A\nupdate add www.a.example 60 A 192.0.2.{number}\n\
             update add n{number}.a.example 60 TXT \"{number}\""
        ));
        wait_for_address(&server, IN_A, "www.a.example", &format!("192.0.2.{number}"));
        assert_eq!(ask(secondary, IN_A, &format!("n{number}.a.example"), RecordType::TXT).answer.len(), 1);
    }
    // By default, the primaries may send NOTIFY, signed with their key if they have one.
    let status = super::notified::notify(secondary, "127.0.0.1", "a.example", Some(1)).status;
    assert_eq!(status, if signed { "REFUSED" } else { "NOERROR" });
    assert_eq!(super::notified::notify(secondary, "127.0.0.9", "a.example", None).status, "REFUSED");
    wait_for_transfers(&server, "ixfr", 4.0);
    wait_for_transfers(&server, "axfr", 1.0);
    wait_until("the notifications are counted", || {
        (server.metric(&["zonal_notifies_total", "result=\"accepted\""]) >= 4.0).then_some(())
    });
    server.wait_for_metric(&["zonal_transferred_zones", "current"], 1.0);
    let status = wait_until("the status has no error", || {
        zone(&server, "Z1").filter(|zone| zone["state"] == "current" && zone["error"].is_null())
    });
    assert_eq!(status["primary"], format!("127.0.0.1:{port}"));
    process.assert_alive();
}

#[test]
fn follows_bind() {
    if can_run(&["named", "nsupdate", "dig"]) {
        follows_changes(false, |primary| primary.bind(&["a.example"]));
    }
}

#[test]
fn follows_bind_with_tsig() {
    if can_run(&["named", "nsupdate", "dig"]) {
        follows_changes(true, |primary| primary.bind(&["a.example"]));
    }
}

#[test]
fn follows_knot() {
    if can_run(&["knotd", "nsupdate", "dig"]) {
        follows_changes(false, |primary| primary.knot(&[("a.example", "")]));
    }
}

#[test]
fn follows_knot_with_tsig() {
    if can_run(&["knotd", "nsupdate", "dig"]) {
        follows_changes(true, |primary| primary.knot(&[("a.example", "")]));
    }
}

/// With a wrong key zonal transfers nothing and the status has the reason. It does not answer from
/// the parent zone.
#[test]
fn reports_wrong_keys() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: true, secure: false };
    write_zone(&scratch, "a.example", "1 3600 3600 86400", "www A 192.0.2.1");
    let _process = primary.bind(&["a.example"]);
    let zone = |id: &str, vpc: &str, key: &str| {
        format!("  {id}: {{name: a.example, vpc_ids: [{vpc}], primaries: [{{ip: 127.0.0.1, port: {port}{key}}}]}}\n")
    };
    let zones = zone("Z1", "vpc-a", ", tsig_key: transfer")
        + &zone("Z2", "vpc-b", "")
        + "  Z3: {name: example, vpc_ids: [vpc-a]}\n";
    scratch.write("zones/m.yaml", manifest(&zones));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &keys("b3RoZXI="));
    wait_for_error(&server, "Z1", "another secret for the key (BADSIG)");
    wait_for_state(&server, "Z1", Some("pending"));
    wait_for_error(&server, "Z2", "REFUSED");
    let reply = ask(secondary, IN_A, "www.a.example", RecordType::A);
    assert_eq!(
        (reply.status.as_str(), &reply.ede[..]),
        ("SERVFAIL", &[24][..]),
        "the wider zone is not asked\n{reply}"
    );
    server.wait_for_metric(&["zonal_transferred_zones", "pending"], 2.0);
    drop(server);
    let zones = zone("Z1", "vpc-a", ", tsig_key: another");
    scratch.write("zones/m.yaml", manifest(&zones));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &keys(SECRET));
    wait_for_error(&server, "Z1", "the TSIG key another. is not in this node's `tsig_keys`");
}

/// Transfers over TLS check the name and the authority of the certificate (RFC 9103).
#[test]
fn transfers_over_tls() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: true };
    write_zone(&scratch, "a.example", "1 3600 3600 86400", "www A 192.0.2.1");
    let certificate = Certificate::until(2999);
    let authority = scratch.write("tls.crt", &certificate.certificate);
    scratch.write("tls.key", &certificate.private_key);
    let _process = primary.bind(&["a.example"]);
    let zone = |id: &str, vpc: &str, name: &str| {
        format!(
            "  {id}: {{name: a.example, vpc_ids: [{vpc}], primaries: \
             [{{ip: 127.0.0.1, port: {port}, protocol: DoT, server_name_indication: {name}}}]}}\n"
        )
    };
    scratch.write("zones/m.yaml", manifest(&(zone("Z1", "vpc-a", NAME) + &zone("Z2", "vpc-b", "other.test"))));
    let more = format!("certificate_authority: {}\n", authority.display());
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &more);
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    wait_for_error(&server, "Z2", "has a certificate for another name");
}
