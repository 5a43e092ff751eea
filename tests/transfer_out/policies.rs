//! Transfers and updates of a zone with routing policies, with BIND and Knot as secondaries.

use super::*;

/// A zone with two groups and a plain record. `more` are further members of the zone.
fn zone(address: &str, more: &str) -> String {
    let member = |name: &str, id: &str, policy: &str, address: &str| {
        format!("      - {{name: {name}, type: A, ttl: 60, set_identifier: {id}, {policy}, records: [{address}]}}\n")
    };
    let records = [
        member("api", "a", "weighted_routing_policy: {weight: 0}, health_check_id: hc", address),
        member("api", "b", "weighted_routing_policy: {weight: 9}", "10.1.0.92"),
        member("db", "p", "failover_routing_policy: {type: PRIMARY}, health_check_id: hc", "10.1.0.93"),
        member("db", "s", "failover_routing_policy: {type: SECONDARY}", "10.1.0.94"),
    ]
    .concat();
    let plain = "      - {name: www, type: A, ttl: 60, records: [10.1.0.80]}\n";
    let alias = "      - {name: also, type: A, alias: {name: www.corp.example}}\n";
    MANIFEST
        .replace(&format!("{plain}{alias}"), &format!("{plain}{records}"))
        .replace("    file: corp.zone\n", &format!("    file: corp.zone\n{more}"))
        + "health_checks: {hc: {type: EXTERNAL}}\n"
}

#[test]
fn transfers_of_groups_have_their_first_members_and_updates_of_groups_are_refused() {
    if !can_run(&[PROGRAMS, &["named", "knotd"]].concat()) {
        return;
    }
    let secondaries = ["10.1.0.61", "10.1.0.62"];
    // In a large zone, differences are smaller than the whole zone.
    let more: String = (0..100).map(|number| format!("host-{number} A 10.1.2.{number}\n")).collect();
    let mut servers = Servers::start(&zone("10.1.0.91", ""), &format!("{FILE}{more}")).with_secondaries();
    // Without `transfer_policy_records`, each secondary is refused and serves nothing.
    let refused = |servers: &Servers| servers.metric(r#"zonal_transfers_total{direction="out",result="refused"}"#);
    wait_until("both secondaries are refused", || (refused(&servers) >= 2.0).then_some(()));
    servers.zonal.wait_for_log("has routing policies, and no `transfer_policy_records: first`");
    assert!(secondaries.iter().all(|server| servers.serial(server) == 0), "a secondary has the zone");
    assert!(servers.dig("client", &format!("-b 10.1.0.8 @{ZONAL_AT} corp.example AXFR")).contains("Transfer failed"));

    // With it, a transfer has the first member of each group, whatever its weight and its health are. The secondaries start
    // again, because they wait longer and longer after a refusal.
    servers._others.clear();
    servers.lab.scratch.write("zones/manifest.yaml", zone("10.1.0.95", "    transfer_policy_records: first\n"));
    wait_until("transfers are allowed", || (!servers.records(ZONAL_AT, None).is_empty()).then_some(()));
    let servers = servers.with_secondaries();
    let write = |address: &str| {
        servers.lab.scratch.write("zones/manifest.yaml", zone(address, "    transfer_policy_records: first\n"));
    };
    let expect = |expected: &[&str]| {
        for server in secondaries {
            wait_until(&format!("{server} has the zone"), || {
                let current = servers.serial(ZONAL_AT);
                (current != 0 && servers.serial(server) == current).then_some(())
            });
            let records = servers.records(server, None);
            assert_eq!(records, servers.records(ZONAL_AT, None), "{server}");
            let of_groups: Vec<&str> = records
                .iter()
                .filter(|line| line.starts_with("api.") || line.starts_with("db."))
                .filter_map(|line| line.rsplit(' ').next())
                .collect();
            assert_eq!(of_groups, expected, "{server}");
        }
    };
    expect(&["10.1.0.95", "10.1.0.93"]);

    // A change of health changes answers. It changes neither the serial nor the transfers.
    let serial = servers.serial(ZONAL_AT);
    let answer = || servers.lab.dig("client", &format!("@{ZONAL_AT} db.corp.example A")).data("A").join(" ");
    assert_eq!(answer(), "10.1.0.93");
    let set = |health: &str| {
        let body = format!("{{\"status\": \"{health}\"}}");
        let admin = "127.0.0.1:9153".parse().unwrap();
        servers.lab.inside("zonal", || http_send(admin, "PUT", "/v1/health/hc", &body))
    };
    assert_eq!(set("unhealthy"), Some(200));
    assert_eq!(answer(), "10.1.0.94");
    assert_eq!(servers.serial(ZONAL_AT), serial);
    expect(&["10.1.0.95", "10.1.0.93"]);

    // Updates of a group are refused, and the log has the reason. Other names change, and reach the secondaries.
    for lines in [
        "update add api.corp.example 60 A 10.1.0.96",
        "update delete api.corp.example A",
        "update delete db.corp.example",
        "update delete db.corp.example A 10.1.0.93",
        "update add other.corp.example 60 A 10.1.0.97\nupdate add api.corp.example 60 A 10.1.0.96",
    ] {
        assert_eq!(servers.update(lines), "REFUSED", "{lines}");
    }
    assert_eq!(servers.serial(ZONAL_AT), serial, "a refused update changes nothing");
    // zonal logs at most one refusal a second.
    wait_until("the log has the reason of a refused update", || {
        assert_eq!(servers.update("update delete api.corp.example A"), "REFUSED");
        servers.zonal.log().contains("routing policy").then_some(())
    });
    let whole = || servers.metric(r#"zonal_transfers_total{direction="out",result="axfr"}"#);
    let before = whole();
    assert_eq!(servers.update("update add other.corp.example 60 A 10.1.0.97"), "NOERROR");
    assert_eq!(servers.serial(ZONAL_AT), serial + 1);
    expect(&["10.1.0.95", "10.1.0.93"]);
    // A change of the first member reaches them too. The secondaries fetch only the differences.
    write("10.1.0.98");
    wait_until("the change is served", || (servers.serial(ZONAL_AT) == serial + 2).then_some(()));
    expect(&["10.1.0.98", "10.1.0.93"]);
    // The test transfers the whole zone once for each comparison.
    wait_until_equal("transfers of the whole zone", 4.0, || whole() - before);
}
