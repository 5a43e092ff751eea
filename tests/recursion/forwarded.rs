//! Forwarding of internet names: to the servers of a `resolv.conf`, and to an Unbound on the node.

use super::{LEAF, PROGRAMS, ROOT, TLD, Zones, hosts, internet, zonal};
use crate::harness::{can_run, lab::Lab, tree, wait_until};
use std::{fs, path::Path};

/// zonal uses the servers of the file, and follows each kind of change to it.
#[test]
fn resolv_conf_is_followed() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let mut zones = Zones { lab: &lab, all: Vec::new() };
    for (zone, server) in [("one.test", ROOT), ("one.test", TLD), ("one.test", LEAF)] {
        zones.plain(zone, server, &format!("who 0 TXT {server}\n"));
        let (_, file, _) = zones.all.last_mut().unwrap();
        let own = format!("{server}.zone");
        fs::rename(lab.scratch.path().join(&*file), lab.scratch.path().join(&own)).unwrap();
        *file = own;
    }
    let _servers = zones.serve(&[("root", ROOT), ("tld", TLD), ("leaf", LEAF)]);
    let path = |name: &str| lab.scratch.path().join(name);
    let zonal = zonal(&lab, "{forward_to: [./run/resolv.conf]}");
    let ask = || lab.dig("app", "@10.1.0.2 who.one.test TXT");
    let reply = ask();
    assert_eq!((&*reply.status, &*reply.ede), ("SERVFAIL", &[14][..]), "{reply:?}\n{}", zonal.log());
    let server = |server: &str| {
        wait_until(&format!("{server} is asked"), || {
            ask().answer.first().is_some_and(|line| line.contains(server)).then_some(())
        });
    };
    let line = |server: &str| format!("search example\noptions edns0\nnameserver {server}\n");
    lab.scratch.write("run/resolv.conf", line(ROOT));
    server(ROOT);
    fs::write(path("run/resolv.conf"), line(TLD)).unwrap();
    server(TLD);
    lab.scratch.write("run/resolv.conf", line(LEAF));
    server(LEAF);
    lab.scratch.write("elsewhere/stub.conf", line(ROOT));
    std::os::unix::fs::symlink(Path::new("../elsewhere/stub.conf"), path("run/link")).unwrap();
    fs::rename(path("run/link"), path("run/resolv.conf")).unwrap();
    server(ROOT);
    // The target of the link changes. An entry with zonal's own address is ignored.
    lab.scratch.write("elsewhere/stub.conf", format!("nameserver 10.1.0.2\n{}", line(TLD)));
    server(TLD);
    zonal.wait_for_log("which is this server");
    fs::remove_file(path("run/resolv.conf")).unwrap();
    wait_until("there is nobody to ask", || (ask().ede == [14]).then_some(()));
}

/// Unbound with the snippet of `deploy/unbound` answers and validates for zonal, and zonal passes
/// AD on.
#[test]
fn unbound_on_the_node_validates_for_zonal() {
    if !can_run(&PROGRAMS) || !can_run(&["unbound"]) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let (_servers, key) = internet(&lab);
    let hints = lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    let anchor = lab.scratch.write("root.key", key);
    let snippet = tree("deploy/unbound/recursion.conf");
    let config = format!(
        "server:\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n directory: \"{}\"\n use-syslog: no\n do-daemonize: no\n \
         root-hints: \"{}\"\n trust-anchor-file: \"{}\"\n local-zone: \"test\" nodefault\nremote-control:\n control-enable: no\ninclude: \"{}\"\n",
        lab.scratch.path().display(),
        hints.display(),
        anchor.display(),
        snippet.display(),
    );
    let config = lab.scratch.write("unbound.conf", config).display().to_string();
    let mut unbound = lab.start("ns", &["unbound", "-d", "-c", &config]);
    let zonal = zonal(&lab, "{forward_to: ['127.0.0.1:5335'], trust_ad: true}");
    wait_until("Unbound answers through zonal", || {
        unbound.assert_alive();
        (lab.dig("app", "@10.1.0.2 www.plain.test A").status == "NOERROR").then_some(())
    });
    for (query, status, authentic, address) in [
        ("www.signed.test", "NOERROR", true, &["192.0.2.1"][..]),
        // A cached answer keeps AD.
        ("www.signed.test", "NOERROR", true, &["192.0.2.1"]),
        ("www.signed.test +noadflag", "NOERROR", false, &["192.0.2.1"]),
        ("www.signed.test +noadflag +dnssec", "NOERROR", true, &["192.0.2.1"]),
        ("www.plain.test", "NOERROR", false, &["192.0.2.1"]),
        ("none.signed.test", "NXDOMAIN", true, &[]),
        ("far.signed.test", "NOERROR", false, &["192.0.2.1"]),
        ("www.bogus.test", "SERVFAIL", false, &[]),
        ("private.signed.test", "NOERROR", false, &["10.1.0.98"]),
    ] {
        let reply = lab.dig("app", &format!("@10.1.0.2 {query}"));
        let has_ad = reply.flags.split(' ').any(|flag| flag == "ad");
        let log = zonal.log();
        assert_eq!(
            (&*reply.status, has_ad, reply.data("A")),
            (status, authentic, address.to_vec()),
            "{query}\n{reply}\n{log}"
        );
    }
    drop(zonal);
    // Without `trust_ad`, zonal clears AD, because it has no reason to trust the server.
    let zonal = self::zonal(&lab, "{forward_to: ['127.0.0.1:5335']}");
    let reply = lab.dig("app", "@10.1.0.2 www.signed.test");
    assert_eq!(reply.data("A"), ["192.0.2.1"], "{reply}\n{}", zonal.log());
    assert!(!reply.flags.split(' ').any(|flag| flag == "ad"), "{reply}");
}
