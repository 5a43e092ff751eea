//! DNS Firewall lists that are transferred as response policy zones.

use super::*;
use crate::harness::{can_run, free_port};
use std::fmt::Write;

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
