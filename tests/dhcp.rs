//! The DNS servers that DHCP hands out: machines get the addresses of two nodes. Their applications
//! resolve through a C library, systemd-resolved or a forwarder, while nodes fail and return.

mod cloud;
mod forwarders;
pub mod machines;

use crate::harness::{can_run, tree, wait_until};
use cloud::{Cloud, Told};
use machines::Machine;
use std::time::Duration;

const PROGRAMS: [&str; 10] =
    ["ip", "dig", "setpriv", "sysctl", "mount", "dnsmasq", "udhcpc", "getent", "gcc", "musl-gcc"];

/// The time-out of glibc, musl and systemd-resolved is 5 s; this is slightly less.
const PATIENCE: Duration = Duration::from_millis(4900);

fn can_run_all(more: &[&str]) -> bool {
    let systemd = ["systemd-networkd", "systemd-resolved"].map(|program| {
        let (root, path) = machines::systemd(program);
        root.join(path).display().to_string()
    });
    can_run(&[&PROGRAMS[..], more, &[&systemd[0], &systemd[1]]].concat())
}

/// An application on a machine: its stub resolver, its program and its host.
struct Application<'a> {
    stub: &'static str,
    program: &'a str,
    machine: &'a Machine,
}

impl Application<'_> {
    fn asks(&self, cloud: &Cloud, family: &str, name: &str, rcode: &str) -> Told {
        cloud.told(self.machine.node, &[self.program, family, name], rcode)
    }
}

#[test]
fn nodes_go_and_come_back() {
    if !can_run_all(&[]) {
        return;
    }
    let mut cloud = Cloud::start();
    let (glibc, musl) = (cloud.application("gcc"), cloud.application("musl-gcc"));
    let [plain_a, plain_b] =
        [("plain-a", "az1"), ("plain-b", "az2")].map(|(n, s)| Machine::plain(&mut cloud.lab, n, s));
    let [resolved_a, resolved_b] =
        [("resolved-a", "az1"), ("resolved-b", "az2")].map(|(n, s)| Machine::resolved(&mut cloud.lab, n, s));
    let in_az_1 = [
        Application { stub: "glibc", program: &glibc, machine: &plain_a },
        Application { stub: "musl", program: &musl, machine: &plain_a },
        Application { stub: "systemd-resolved", program: &glibc, machine: &resolved_a },
    ];
    let in_az_2 = [
        Application { stub: "glibc", program: &glibc, machine: &plain_b },
        Application { stub: "musl", program: &musl, machine: &plain_b },
        Application { stub: "systemd-resolved", program: &glibc, machine: &resolved_b },
    ];

    // The settings from DHCP: the servers and the search domain.
    let conf = |node: &str| String::from_utf8(cloud.lab.run(node, &["cat", "/etc/resolv.conf"]).stdout).unwrap();
    assert_eq!(conf("plain-a"), "search corp.example\nnameserver 10.1.0.2\nnameserver 10.1.16.2\n");
    assert_eq!(conf("plain-b"), "search corp.example\nnameserver 10.1.16.2\nnameserver 10.1.0.2\n");
    let lines = |text: String| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(conf("resolved-a")).trim(), "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example");
    for node in ["plain-a", "resolved-a"] {
        let told = cloud.told(node, &["getent", "ahosts", "www"], "NOERROR");
        assert!(told.lines.iter().all(|line| line.starts_with("10.1.0.80 ")), "{node}: {:?}", told.lines);
        assert_eq!(told.lines.len(), 3, "{node}: {:?}", told.lines);
    }
    let reply = cloud.lab.dig("resolved-b", "@127.0.0.53 queue.sqs.us-east-1.amazonaws.com");
    assert_eq!(reply.data("A"), ["10.1.16.10"], "{reply}");

    // A name without a cached answer gets the interface of the client's own AZ, whichever node
    // answers.
    let mut serial = 0;
    let mut look = |cloud: &Cloud, what: &str, expected: [([u64; 2], [u64; 2]); 3]| {
        let mut took = Vec::new();
        for (application, expected) in in_az_1.iter().zip(expected) {
            serial += 1;
            let told = application.asks(cloud, "inet", &format!("n{serial}.sqs.us-east-1.amazonaws.com"), "NOERROR");
            let stub = application.stub;
            assert_eq!(told.lines, ["10.1.0.10"], "{what}: {stub}");
            assert_eq!((told.udp, told.lost), expected, "{what}: {stub}: queries answered and lost, by node");
            took.push(told.took);
        }
        for application in &in_az_2 {
            serial += 1;
            let told = application.asks(cloud, "inet", &format!("n{serial}.sqs.us-east-1.amazonaws.com"), "NOERROR");
            assert_eq!(told.lines, ["10.1.16.10"], "{what}: {} in AZ 2", application.stub);
        }
        took
    };
    // For glibc, musl and systemd-resolved in AZ 1: the queries that each node answered, and the
    // queries that were lost.
    let none = [0, 0];
    look(&cloud, "both run", [([1, 0], none), ([1, 1], none), ([1, 0], none)]);
    cloud.kill(0);
    look(&cloud, "killed", [([0, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 1], [1, 0])]);
    // Only systemd-resolved remembers the dead server.
    look(&cloud, "still killed", [([0, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 1], none)]);
    cloud.run(0);
    // systemd-resolved also stays with the second node.
    look(&cloud, "back", [([1, 0], none), ([1, 1], none), ([0, 1], none)]);
    cloud.kill(1);
    look(&cloud, "the other one killed", [([1, 0], none), ([1, 0], [0, 1]), ([1, 0], [0, 1])]);
    cloud.run(1);
    look(&cloud, "the other one back", [([1, 0], none), ([1, 1], none), ([1, 0], none)]);
    cloud.silence(0);
    let took = look(&cloud, "silent", [([0, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 1], [1, 0])]);
    assert!(took[0] >= PATIENCE && took[2] >= PATIENCE, "glibc and systemd-resolved wait: {took:?}");
    let took = look(&cloud, "still silent", [([0, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 1], none)]);
    assert!(took[0] >= PATIENCE, "glibc waits anew: {took:?}");
    let hasty = ["env", "RES_OPTIONS=timeout:1", &glibc, "inet", "hasty.sqs.us-east-1.amazonaws.com"];
    let told = cloud.told("plain-a", &hasty, "NOERROR");
    assert_eq!((told.udp, told.lost), ([0, 1], [1, 0]));
    assert!(told.took < PATIENCE, "{:?}", told.took);
    cloud.run(0);
    look(&cloud, "back again", [([1, 0], none), ([1, 1], none), ([0, 1], none)]);
}

/// A machine in a network that is missing from the manifest.
#[test]
fn a_forgotten_network() {
    if !can_run_all(&[]) {
        return;
    }
    let mut cloud = Cloud::start();
    let (glibc, musl) = (cloud.application("gcc"), cloud.application("musl-gcc"));
    let machine = Machine::plain(&mut cloud.lab, "stranger", "new");
    for (program, queries) in [(&glibc, [2, 2]), (&musl, [2, 2])] {
        let told = cloud.told(machine.node, &[program, "inet", "queue.sqs.us-east-1.amazonaws.com."], "REFUSED");
        assert_eq!((told.lines.as_slice(), told.udp), (&["EAI_AGAIN".to_string()][..], queries), "{program}");
    }
    cloud.add_network();
    wait_until("its network is known", || {
        let told = cloud.told(machine.node, &[&glibc, "inet", "queue.sqs.us-east-1.amazonaws.com"], "NOERROR");
        (told.lines == ["10.1.0.10"]).then_some(())
    });
}

/// Checks each cell of the table in the VPC administrator's guide, and the text below the table.
#[test]
fn what_an_application_sees() {
    if !can_run_all(&["named", "unbound"]) {
        return;
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.contains("VERSION_CODENAME=bookworm") {
        eprintln!("left out: the table is about the versions of Debian 12");
        return;
    }
    let mut cloud = Cloud::start();
    let (glibc, musl) = (cloud.application("gcc"), cloud.application("musl-gcc"));
    let plain = Machine::plain(&mut cloud.lab, "plain", "az1");
    let resolved = Machine::resolved(&mut cloud.lab, "resolved", "az1");
    let applications = [
        Application { stub: "glibc", program: &glibc, machine: &plain },
        Application { stub: "musl", program: &musl, machine: &plain },
        Application { stub: "systemd-resolved", program: &glibc, machine: &resolved },
    ];
    let forwarders = forwarders::FORWARDERS.map(|forwarder| forwarders::start(&mut cloud.lab, forwarder));

    // The ports of the dead servers are closed, so even the first query does not wait.
    let told = applications[0].asks(&cloud, "inet", "first.dead.example.", "SERVFAIL");
    assert_eq!((told.lines.as_slice(), told.udp), (&["EAI_AGAIN".to_string()][..], [2, 2]));
    assert!(told.took < Duration::from_secs(4), "{:?}", told.took);
    cloud.find_dead();

    let name = |stub: &str, column: &str| match column {
        "REFUSED" => format!("{stub}.internet.example."),
        "SERVFAIL" => format!("{stub}.dead.example."),
        "NODATA" => "note.corp.example.".to_string(),
        "NXDOMAIN" => format!("{stub}.corp.example."),
        _ => "many.corp.example.".to_string(),
    };
    let columns = [
        ("REFUSED", "REFUSED"),
        ("SERVFAIL", "SERVFAIL"),
        ("NODATA", "NOERROR"),
        ("NXDOMAIN", "NXDOMAIN"),
        ("TC", "NOERROR"),
    ];
    let mut table = vec![
        "| stub | REFUSED | SERVFAIL | NODATA | NXDOMAIN | TC |".to_string(),
        "| --- | --- | --- | --- | --- | --- |".into(),
    ];
    for application in &applications {
        let stub = application.stub;
        let cells = columns.map(|(column, rcode)| {
            let told = application.asks(&cloud, "inet", &name(stub, column), rcode);
            let is_error = told.lines.len() == 1 && told.lines[0].starts_with("EAI_");
            let what =
                if is_error { format!("`{}`", told.lines[0]) } else { format!("{} addresses", told.lines.len()) };
            cell(&what, &told)
        });
        table.push(format!("| {stub} | {} |", cells.join(" | ")));
    }
    for (label, node, address) in forwarders::FORWARDERS {
        let cells = columns.map(|(column, rcode)| {
            let server = format!("@{address}");
            let told =
                cloud.told(plain.node, &["dig", "+tries=1", "+time=10", &server, &name(node, column), "A"], rcode);
            let reply = crate::harness::reply::Reply::of_dig(&told.lines.join("\n"));
            let what = match (reply.status.as_str(), reply.data("A").len()) {
                ("NOERROR", 0) => "NOERROR, no data".to_string(),
                ("NOERROR", count) => format!("{count} addresses"),
                (status, _) => status.to_string(),
            };
            cell(&what, &told)
        });
        table.push(format!("| {label} | {} |", cells.join(" | ")));
    }
    drop(forwarders);
    let table = table.join("\n");
    let page = "docs/guides/vpc-administrator.md";
    let guide = std::fs::read_to_string(tree(page)).unwrap();
    assert!(guide.contains(&table), "{page} does not have this table:\n{table}");

    // glibc also tries the name below each domain of the search list from DHCP, and there it does
    // not exist.
    for (application, of_one, of_both) in [
        (&applications[0], "EAI_NONAME", "EAI_AGAIN"),
        (&applications[1], "EAI_AGAIN", "EAI_AGAIN"),
        (&applications[2], "EAI_NONAME", "EAI_AGAIN"),
    ] {
        for (family, expected) in [("inet", of_one), ("unspec", of_both)] {
            let told = application.asks(&cloud, family, "searched.internet.example", "REFUSED");
            assert_eq!(told.lines, [expected], "{} {family}", application.stub);
        }
    }
    // A query for both address families sends one query for each.
    for application in &applications {
        let told = application.asks(&cloud, "unspec", "both.sqs.us-east-1.amazonaws.com.", "NOERROR");
        let queries = if application.stub == "musl" { 4 } else { 2 };
        assert_eq!(
            (told.lines, told.udp.iter().sum::<u64>()),
            (vec!["10.1.0.10".to_string()], queries),
            "{}",
            application.stub
        );
    }
}

/// A table cell: the result, the wait if the stub resolver timed out, and the number of queries
/// that reached both nodes.
fn cell(what: &str, told: &Told) -> String {
    let wait = if told.took >= PATIENCE { " after 5 s" } else { "" };
    let tcp = told.tcp.iter().sum::<u64>();
    let tcp = if tcp > 0 { format!(" and {tcp} by TCP") } else { String::new() };
    format!("{what}{wait}; {}{tcp}", told.udp.iter().sum::<u64>())
}
