//! Catalog zones that BIND and Knot serve.

use super::*;
use crate::harness::{can_run, free_port};

fn catalog_of(port: u16) -> String {
    manifest(&format!(
        "  C: {{name: catalog.example, vpc_ids: [], primaries: [{{ip: 127.0.0.1, port: {port}}}], \
         catalog: {{vpc_ids: [vpc-a], groups: {{shared: [vpc-a, vpc-b], other: [vpc-b]}}}}}}\n"
    ))
}

#[test]
fn follows_a_catalog_of_bind() {
    if !can_run(&["named", "nsupdate", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    let members: Vec<String> = (0..12).map(|n| format!("m{n}.example")).collect();
    members.iter().enumerate().for_each(|(n, member)| {
        write_zone(&scratch, member, "1 3600 1 86400", &format!("www A 192.0.2.{n}"));
    });
    write_zone(&scratch, "catalog.example", "1 3600 1 86400", "version TXT \"2\"\n1.zones PTR m1.example.");
    let all: Vec<&str> = members.iter().map(String::as_str).chain(["catalog.example"]).collect();
    let _process = primary.bind(&all);
    scratch.write("zones/m.yaml", catalog_of(port));
    let state = with_state(&scratch.path().join("state"));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    wait_for_address(&server, IN_A, "www.m1.example", "192.0.2.1");
    assert_eq!(ask(secondary, IN_B, "www.m1.example", RecordType::A).status, "REFUSED");
    assert_eq!(ask(secondary, IN_A, "1.zones.catalog.example", RecordType::PTR).status, "REFUSED", "served to nobody");

    primary.update(
        "zone catalog.example\nupdate add 2.zones.catalog.example 0 PTR m2.example.\n\
         update add group.2.zones.catalog.example 0 TXT shared\n\
         update add 3.zones.catalog.example 0 PTR m3.example.\nupdate add group.3.zones.catalog.example 0 TXT other",
    );
    wait_for_address(&server, IN_A, "www.m2.example", "192.0.2.2");
    wait_for_address(&server, IN_B, "www.m2.example", "192.0.2.2");
    wait_for_address(&server, IN_B, "www.m3.example", "192.0.2.3");
    assert_eq!(ask(secondary, IN_A, "www.m3.example", RecordType::A).status, "REFUSED");
    // A changed group, and a removed member.
    primary.update(
        "zone catalog.example\nupdate delete group.3.zones.catalog.example TXT\n\
         update delete 1.zones.catalog.example PTR",
    );
    wait_for_address(&server, IN_A, "www.m3.example", "192.0.2.3");
    wait_for_status(&server, IN_A, "www.m1.example", "REFUSED");
    wait_for_status(&server, IN_B, "www.m3.example", "REFUSED");
    wait_for_state(&server, "C/1", None);
    wait_for_state(&server, "C/3", Some("current"));

    // A broken catalog is not processed.
    primary.update("zone catalog.example\nupdate add 9.zones.catalog.example 0 PTR m3.example.");
    wait_for_error(&server, "C", "the catalog lists m3.example. twice");
    wait_for_address(&server, IN_A, "www.m3.example", "192.0.2.3");
    let add: String = (4..12).map(|n| format!("update add {n}.zones.catalog.example 0 PTR m{n}.example.\n")).collect();
    primary.update(&format!("zone catalog.example\nupdate delete 9.zones.catalog.example PTR\n{add}"));
    wait_for_address(&server, IN_A, "www.m11.example", "192.0.2.11");
    wait_until("it has healed", || zone(&server, "C").filter(|zone| zone["error"].is_null()));

    // zonal does not follow a catalog that loses most of its members, also after a restart.
    let delete: String = (2..12).map(|n| format!("update delete {n}.zones.catalog.example PTR\n")).collect();
    primary.update(&format!("zone catalog.example\n{delete}"));
    wait_for_error(&server, "C", "the catalog removes 10 of 10 zones");
    wait_for_address(&server, IN_A, "www.m5.example", "192.0.2.5");
    drop(server);
    let server = Server::start_at(secondary, &scratch.path().join("zones"), &state);
    wait_for_error(&server, "C", "the catalog removes 10 of 10 zones");
    wait_for_address(&server, IN_A, "www.m5.example", "192.0.2.5");
    let add: String = (4..12).map(|n| format!("update add {n}.zones.catalog.example 0 PTR m{n}.example.\n")).collect();
    primary.update(&format!("zone catalog.example\n{add}"));
    wait_for_status(&server, IN_A, "www.m3.example", "REFUSED");
    wait_for_address(&server, IN_A, "www.m5.example", "192.0.2.5");

    // Zones of the manifest take precedence.
    let own = "  Z: {name: m5.example, vpc_ids: [vpc-a], records: [{name: www, type: A, records: [192.0.2.99]}]}\n";
    scratch.write("zones/m.yaml", catalog_of(port) + own);
    wait_for_address(&server, IN_A, "www.m5.example", "192.0.2.99");
    let expected = "zonal does not serve m5.example.: `vpc-a` has another zone of this name";
    wait_until_equal("the status says what is left out", Some(expected.into()), || {
        zone(&server, "C").map(|zone| zone["left_out"][0].clone())
    });
}

/// Knot generates a catalog of its zones.
#[test]
fn follows_a_catalog_of_knot() {
    if !can_run(&["knotd", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (port, secondary) = (free_port(), free_port());
    let primary = Primary { scratch: &scratch, port, secondary, signed: false, secure: false };
    write_zone(&scratch, "a.example", "1 3600 1 86400", "www A 192.0.2.1");
    write_zone(&scratch, "b.example", "1 3600 1 86400", "www A 192.0.2.2");
    let member = "    catalog-role: member\n    catalog-zone: catalog.example\n";
    let grouped = format!("{member}    catalog-group: other\n");
    let catalog = "    catalog-role: generate\n";
    let _process = primary.knot(&[("catalog.example", catalog), ("a.example", member), ("b.example", &grouped)]);
    scratch.write("zones/m.yaml", catalog_of(port));
    let server = Server::start_at(secondary, &scratch.path().join("zones"), "");
    wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
    wait_for_address(&server, IN_B, "www.b.example", "192.0.2.2");
    assert_eq!(ask(secondary, IN_A, "www.b.example", RecordType::A).status, "REFUSED");
}
