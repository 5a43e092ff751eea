//! DNS Firewall lists that are transferred as response policy zones.

use super::*;
use crate::harness::{
    can_run, free_port,
    secure::{Certificate, NAME},
};
use std::{collections::BTreeMap, fmt::Write};

/// The number of names that may be in the zone.
const NAMES: u32 = 40;
/// The number of changes in an update.
const CHANGES: u32 = 25;

fn manifest_of(port: u16) -> String {
    format!(
        "vpcs: {{vpc-a: {{region: us-east-1, cidr_blocks: [127.71.0.0/16], availability_zones: {{a: az1}}}}}}\n\
         private_hosted_zones: {{Z: {{name: example, vpc_ids: [vpc-a], records: [{{name: '*', type: A, \
         ttl: 60, records: [192.0.2.1]}}]}}}}\n\
         firewall_domain_lists: {{l: {{source: {{zone: rpz.test, primaries: [{{ip: 127.0.0.1, port: {port}, \
         tsig_key: transfer}}]}}}}}}\n\
         firewall_rule_groups: {{g: {{rules: [{{name: r, priority: 1, action: BLOCK, firewall_domain_list_id: l}}], \
         vpc_associations: [{{vpc_id: vpc-a, priority: 1}}]}}}}\n"
    )
}

/// The names of the list that are blocked.
fn blocked(port: u16) -> Vec<u32> {
    let is_blocked = |n: &u32| ask(port, "127.71.0.9", &format!("n{n}.example"), RecordType::A).status == "NXDOMAIN";
    (0..NAMES).filter(is_blocked).collect()
}

fn follows_the_changes_of_a_list(start: impl Fn(&Primary) -> Process) {
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: true, secure: false };
    let more: String = (0..NAMES).map(|n| format!("other{n}.example CNAME .\n")).collect();
    write_zone(&scratch, "rpz.test", "1 3600 3600 86400", &format!("n0.example CNAME .\n{more}"));
    let process = start(&primary);
    scratch.write("zones/m.yaml", manifest_of(port));
    let state = scratch.path().join("state");
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &with_state(&state));
    wait_until("the list is transferred", || (blocked(secondary) == [0]).then_some(()));

    let mut random = 7u32;
    let mut listed = vec![0];
    for serial in 0..6 {
        let mut update = String::from("zone rpz.test");
        for _ in 0..CHANGES {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let n = (random >> 8) % NAMES;
            listed.retain(|other| *other != n);
            let _ = write!(update, "\nupdate delete n{n}.example.rpz.test CNAME");
            if (random >> 28) & 1 == 1 {
                listed.push(n);
                let _ = write!(update, "\nupdate add n{n}.example.rpz.test 60 CNAME .");
            }
        }
        listed.sort_unstable();
        primary.update(&update);
        wait_until(&format!("the list has the changes of update {serial}"), || {
            (blocked(secondary) == listed).then_some(())
        });
    }
    assert!(transfers(&server, "ixfr") >= 1.0, "no transfer was incremental");

    // A restart without the primary loses nothing, and answers from the list at once.
    drop(process);
    let server = server.restart().ready();
    assert_eq!(blocked(secondary), listed);
    drop(server);
}

#[test]
fn follows_a_policy_zone_of_bind() {
    if can_run(&["named", "nsupdate", "dig"]) {
        follows_the_changes_of_a_list(|primary| primary.bind(&["rpz.test"]));
    }
}

#[test]
fn follows_a_policy_zone_of_knot() {
    if can_run(&["knotd", "nsupdate", "dig"]) {
        follows_the_changes_of_a_list(|primary| primary.knot(&[("rpz.test", "")]));
    }
}

/// The records of a list that need more memory than `transfer_octets` stay in a file, also after a restart. Each version is
/// transferred as a whole. Beyond `list_transfer_octets`, the transfer is refused.
#[test]
fn follows_a_large_policy_zone_in_a_file() {
    if !can_run(&["named", "nsupdate", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: true, secure: false };
    let more: String = (0..4000).map(|n| format!("other{n}.example CNAME .\n")).collect();
    write_zone(&scratch, "rpz.test", "1 3600 3600 86400", &format!("n0.example CNAME .\n{more}"));
    let process = primary.bind(&["rpz.test"]);
    scratch.write("zones/m.yaml", manifest_of(port));
    let config = |limits: &str| format!("{}limits: {{{limits}}}\n", with_state(&scratch.path().join("state")));
    let start = |limits: &str| Server::start_at(secondary, &scratch.path().join("zones"), &config(limits));

    let server = start("list_transfer_octets: 65536");
    wait_for_error(&server, "firewall_domain_lists/l", "more than 65536 octets: raise limits.list_transfer_octets");
    assert_eq!(ask(secondary, "127.71.0.9", "n0.example", RecordType::A).status, "SERVFAIL");
    drop(server);

    let server = start("transfer_octets: 65536");
    wait_until("the list is transferred", || (blocked(secondary) == [0]).then_some(()));
    primary.update("zone rpz.test\nupdate delete n0.example.rpz.test CNAME\nupdate add n5.example.rpz.test 60 CNAME .");
    wait_until("the list has the changes", || (blocked(secondary) == [5]).then_some(()));
    assert_eq!((transfers(&server, "axfr"), transfers(&server, "ixfr")), (2.0, 0.0));

    drop(process);
    let server = server.restart().ready();
    assert_eq!(blocked(secondary), [5]);
    assert_eq!(ask(secondary, "127.71.0.9", "other3999.example", RecordType::A).status, "NXDOMAIN");
    drop(server);
}

/// What an entry of the changing list does.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    NxDomain,
    NoData,
    PassThru,
    Address(u8),
}

/// 500 random changes of entries of all kinds, in 20 updates. After each one, the answers are those of the primary's zone.
#[test]
fn answers_by_the_entries_of_knot_after_many_changes() {
    if !can_run(&["knotd", "nsupdate", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: true, secure: false };
    // With more records than changes, Knot answers with differences.
    let more: String = (0..200).map(|n| format!("other{n}.example CNAME .\n")).collect();
    write_zone(&scratch, "rpz.test", "1 3600 3600 86400", &more);
    let _process = primary.knot(&[("rpz.test", "")]);
    scratch.write("zones/m.yaml", manifest_of(port));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &with_state(&scratch.path().join("state")));

    let mut random = 11u32;
    let mut below = |end: u32| {
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (random >> 8) % end
    };
    // The entries by number, and whether they are for the names below.
    let mut entries: BTreeMap<(u32, bool), Action> = BTreeMap::new();
    let answered = |entries: &BTreeMap<(u32, bool), Action>, key: &(u32, bool)| match entries.get(key) {
        None | Some(Action::PassThru) => ("NOERROR".to_string(), vec!["192.0.2.1".to_string()]),
        Some(Action::NxDomain) => ("NXDOMAIN".into(), vec![]),
        Some(Action::NoData) => ("NOERROR".into(), vec![]),
        Some(Action::Address(last)) => ("NOERROR".into(), vec![format!("198.51.100.{last}")]),
    };
    for update in 0..20 {
        let mut lines = String::from("zone rpz.test");
        for _ in 0..25 {
            let key @ (n, is_below) = (below(NAMES), below(2) == 0);
            let owner = format!("{}n{n}.example.rpz.test", if is_below { "*." } else { "" });
            let _ = write!(lines, "\nupdate delete {owner}");
            let (action, record) = match below(6) {
                0 => (Some(Action::NxDomain), "CNAME .".to_string()),
                1 => (Some(Action::NoData), "CNAME *.".into()),
                2 => (Some(Action::PassThru), "CNAME rpz-passthru.".into()),
                3 | 4 => {
                    let last = 1 + below(200) as u8;
                    (Some(Action::Address(last)), format!("A 198.51.100.{last}"))
                }
                _ => (None, String::new()),
            };
            match action {
                Some(action) => {
                    entries.insert(key, action);
                    let _ = write!(lines, "\nupdate add {owner} 60 {record}");
                }
                None => _ = entries.remove(&key),
            }
        }
        primary.update(&lines);
        let differs = |(n, is_below): (u32, bool)| {
            let name = format!("{}n{n}.example", if is_below { "x." } else { "" });
            let reply = ask(secondary, "127.71.0.9", &name, RecordType::A);
            let got = (reply.status.clone(), reply.data("A").into_iter().map(String::from).collect::<Vec<_>>());
            (got != answered(&entries, &(n, is_below))).then_some((name, got))
        };
        let all = || (0..NAMES).flat_map(|n| [(n, false), (n, true)]);
        wait_until_equal(&format!("the answers after update {update}"), None, || all().find_map(differs));
    }
    assert!(transfers(&server, "ixfr") >= 10.0, "{} incremental transfers", transfers(&server, "ixfr"));
}

/// A list over TLS (RFC 9103). A certificate for another name, and a signature that the primary does not ask for, transfer
/// nothing.
#[test]
fn transfers_a_policy_zone_over_tls() {
    if !can_run(&["named", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: true, secure: true };
    write_zone(&scratch, "rpz.test", "1 3600 3600 86400", "n3.example CNAME .");
    let certificate = Certificate::until(2999);
    let authority = scratch.write("tls.crt", &certificate.certificate);
    scratch.write("tls.key", &certificate.private_key);
    let _process = primary.bind(&["rpz.test"]);
    let with = |name: &str, key: &str| {
        let of_tls = format!("protocol: DoT, server_name_indication: {name}, tsig_key: {key}");
        manifest_of(port).replace("tsig_key: transfer", &of_tls)
    };
    scratch.write("zones/m.yaml", with("other.test", "transfer"));
    let more = format!(
        "certificate_authority: {}\ntsig_keys: {{transfer: {{secret: {SECRET}}}, wrong: {{secret: {SECRET}}}}}\n",
        authority.display()
    );
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &more);
    let id = "firewall_domain_lists/l";
    wait_for_error(&server, id, "has a certificate for another name");
    // No verdict is possible, so the answer is SERVFAIL (14: Not Ready).
    let reply = ask(secondary, "127.71.0.9", "n3.example", RecordType::A);
    assert_eq!((reply.status.as_str(), &reply.ede[..]), ("SERVFAIL", &[14][..]), "{reply}");
    scratch.write("zones/m.yaml", with(NAME, "wrong"));
    wait_for_error(&server, id, "BADKEY");
    scratch.write("zones/m.yaml", with(NAME, "transfer"));
    wait_until("the list is transferred", || (blocked(secondary) == [3]).then_some(()));
    // Whoever is not the primary cannot make zonal ask.
    let before = transfers(&server, "axfr");
    for from in ["127.0.0.9", "127.71.0.9"] {
        assert_eq!(super::notified::notify(secondary, from, "rpz.test", Some(9)).status, "REFUSED", "{from}");
    }
    assert_eq!(transfers(&server, "axfr"), before);
}
