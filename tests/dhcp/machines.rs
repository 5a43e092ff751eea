//! Machines of a VPC, configured by DHCP.

use crate::harness::{Process, lab::Lab, tree, wait_until};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A DHCP server on a router for one of its segments. It hands out addresses from a range, a
/// gateway, and DNS servers in this order.
pub fn dhcp_server(lab: &Lab, router: &str, segment: &str, range: &str, gateway: &str, servers: &str) -> Process {
    let (interface, range) = (format!("--interface={segment}"), format!("--dhcp-range={range},1h"));
    let (gateway, servers) = (format!("--dhcp-option=3,{gateway}"), format!("--dhcp-option=6,{servers}"));
    let leases = format!("--dhcp-leasefile={}", lab.scratch.path().join(format!("{segment}.leases")).display());
    let command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--port=0",
        "--bind-interfaces",
        "--dhcp-authoritative",
        "--no-ping",
        "--dhcp-option=15,corp.example",
        &interface,
        &range,
        &gateway,
        &servers,
        &leases,
    ];
    lab.start(router, &command)
}

/// A machine that its DHCP client configures.
pub struct Machine {
    pub node: &'static str,
    _processes: Vec<Process>,
}

impl Machine {
    /// A machine whose udhcpc writes `resolv.conf`: programs ask the DNS servers directly.
    pub fn plain(lab: &mut Lab, node: &'static str, segment: &str) -> Machine {
        lab.plug(node, "vpc", segment);
        lab.resolv_conf(node, "");
        let file = lab.resolv_conf_file(node);
        let (environment, script) = (format!("RESOLV_CONF={}", file.display()), tree("tests/dhcp/udhcpc.sh"));
        let script = script.display().to_string();
        let command = ["env", &environment, "udhcpc", "-f", "-t", "30", "-T", "1", "-i", "eth0", "-s", &script];
        let mut client = lab.start(node, &command);
        wait_until("udhcpc has a lease", || {
            client.assert_alive();
            fs::read_to_string(&file).unwrap().contains("nameserver").then_some(())
        });
        Machine { node, _processes: vec![client] }
    }

    /// A machine with systemd-networkd and systemd-resolved: programs ask the stub at 127.0.0.53.
    pub fn resolved(lab: &mut Lab, node: &'static str, segment: &str) -> Machine {
        lab.plug(node, "vpc", segment);
        let run = lab.scratch.path().join(format!("{node}.run"));
        let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\n\
                       UseDomains=yes\nUseHostname=no\nUseTimezone=no\nUseNTP=no\n";
        lab.scratch.write(&format!("{node}.run/systemd/network/eth0.network"), network);
        let quiet = "[Resolve]\nLLMNR=no\nMulticastDNS=no\n";
        lab.scratch.write(&format!("{node}.run/systemd/resolved.conf.d/quiet.conf"), quiet);
        for directory in ["systemd/netif/links", "systemd/resolve", "programs"] {
            fs::create_dir_all(run.join(directory)).unwrap();
        }
        // systemd-resolved writes this file, and resolv.conf is a link to it.
        let stub = run.join("systemd/resolve/stub-resolv.conf");
        fs::write(&stub, "").unwrap();
        std::os::unix::fs::symlink(&stub, lab.resolv_conf_file(node)).unwrap();
        let output = lab.run(node, &["chown", "-R", NOBODY, &run.display().to_string()]);
        assert!(output.status.success(), "{output:?}");

        let mut networkd =
            start(lab, node, &run, "systemd-networkd", "+net_admin,+net_raw,+net_bind_service,+net_broadcast");
        wait_until("systemd-networkd has a lease", || {
            networkd.assert_alive();
            let links = fs::read_dir(run.join("systemd/netif/links")).unwrap().flatten();
            let has_servers = |path: &Path| fs::read_to_string(path).unwrap_or_default().contains("\nDNS=10.");
            links.map(|link| link.path()).any(|path| has_servers(&path)).then_some(())
        });
        let mut resolved = start(lab, node, &run, "systemd-resolved", "+net_raw,+net_bind_service,+setpcap");
        wait_until("systemd-resolved knows its servers", || {
            resolved.assert_alive();
            let servers = fs::read_to_string(run.join("systemd/resolve/resolv.conf")).unwrap_or_default();
            servers.contains("nameserver 10.").then_some(())
        });
        Machine { node, _processes: vec![networkd, resolved] }
    }
}

const NOBODY: &str = "65534:65534";

/// Finds systemd's programs: beside the build, where `tests/packages` puts them, or in the
/// machine's root.
pub fn systemd(program: &str) -> (PathBuf, String) {
    let mut places = Vec::new();
    for root in [tree("target/systemd"), PathBuf::from("/")] {
        places.extend(["lib/systemd", "usr/lib/systemd"].map(|part| (root.clone(), format!("{part}/{program}"))));
    }
    let first = places[0].clone();
    places.into_iter().find(|(root, path)| root.join(path).is_file()).unwrap_or(first)
}

/// Starts one of systemd's programs with its own /run. There is no D-Bus, so no other program can
/// change its settings. With a read-only /sys the program assumes a container, and does not wait
/// for udev.
fn start(lab: &Lab, node: &str, run: &Path, program: &str, capabilities: &str) -> Process {
    let (root, path) = systemd(program);
    let script = format!(
        "mount --bind {run} /run && mount -o remount,ro,bind /sys && mount --bind {root} /run/programs || exit\n\
         library=$(find /run/programs/usr/lib -name 'libsystemd-shared*' 2>/dev/null | head -n 1)\n\
         exec setpriv --pdeathsig KILL --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all,{capabilities} \
         --ambient-caps=-all,{capabilities} env LD_LIBRARY_PATH=\"${{library%/*}}\" /run/programs/{path}",
        run = run.display(),
        root = root.display(),
    );
    lab.start(node, &["sh", "-c", &script])
}
