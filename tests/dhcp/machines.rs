//! Machines of a VPC: what DHCP makes of them, and what runs on them.

use crate::harness::{Process, can_run, lab::Lab, tree, wait_until};
use std::{fs, path::PathBuf};

/// What the machines are made with, besides systemd's own.
pub const PROGRAMS: [&str; 10] =
    ["ip", "dig", "setpriv", "sysctl", "dnsmasq", "udhcpc", "getent", "gcc", "musl-gcc", "mount"];

/// A program of systemd, which `tests/packages` has laid beside the build, or the machine's own one.
fn systemd(program: &str) -> Option<(PathBuf, String)> {
    let places = [tree("target/systemd"), PathBuf::from("/")];
    let found = |root: &PathBuf| {
        let path = ["usr/lib/systemd", "lib/systemd"].map(|place| format!("{place}/{program}"));
        let path = path.into_iter().find(|path| root.join(path).is_file())?;
        Some((root.clone(), path))
    };
    places.iter().find_map(found)
}

/// Whether systemd's programs are there too.
pub fn can_run_systemd() -> bool {
    let there = ["systemd-networkd", "systemd-resolved"].iter().all(|program| systemd(program).is_some());
    there || can_run(&["systemd-networkd (in target/systemd)", "systemd-resolved (in target/systemd)"])
}

/// A DHCP server on a router, for one of its segments.
pub fn dhcp_server(lab: &Lab, router: &str, segment: &str, range: &str, gateway: &str, servers: &str) -> Process {
    let (interface, range) = (format!("--interface={segment}"), format!("--dhcp-range={range},1h"));
    let (gateway, servers) = (format!("--dhcp-option=3,{gateway}"), format!("--dhcp-option=6,{servers}"));
    let leases = format!("--dhcp-leasefile={}", lab.scratch.path().join(format!("{segment}.leases")).display());
    let command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--log-dhcp",
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

/// A machine that has what its DHCP client has made of it.
pub struct Machine {
    pub node: String,
    _processes: Vec<Process>,
}

impl Machine {
    /// One whose `resolv.conf` is written by udhcpc: programs ask the servers themselves.
    pub fn plain(lab: &mut Lab, node: &str, segment: &str) -> Machine {
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
        Machine { node: node.into(), _processes: vec![client] }
    }

    /// One with systemd-networkd and systemd-resolved: programs ask its stub at 127.0.0.53.
    pub fn resolved(lab: &mut Lab, node: &str, segment: &str) -> Machine {
        lab.plug(node, "vpc", segment);
        let run = lab.scratch.path().join(format!("{node}.run"));
        let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\n\
                       UseDomains=yes\nUseHostname=no\nUseTimezone=no\nUseNTP=no\n";
        lab.scratch.write(&format!("{node}.run/systemd/network/eth0.network"), network);
        let quiet = "[Resolve]\nLLMNR=no\nMulticastDNS=no\n";
        lab.scratch.write(&format!("{node}.run/systemd/resolved.conf.d/quiet.conf"), quiet);
        for directory in ["systemd/netif", "systemd/resolve", "programs"] {
            fs::create_dir_all(run.join(directory)).unwrap();
        }
        let output = lab.run(node, &["chown", "-R", "65534:65534", &run.display().to_string()]);
        assert!(output.status.success(), "{output:?}");
        // Where systemd-resolved says what it is asked at, as the link of an installed one does.
        let stub = run.join("systemd/resolve/stub-resolv.conf");
        let file = lab.resolv_conf_file(node);
        let _ = fs::remove_file(&file);
        std::os::unix::fs::symlink(&stub, &file).unwrap();
        fs::write(&stub, "").unwrap();

        // Without a D-Bus they do without those who would change their settings by it. They have a /run of their own, and
        // take a read-only /sys for a container, in which there is no udev to wait for.
        let start = |program: &str, capabilities: &str| {
            let (root, path) = systemd(program).expect("a program of systemd");
            let library = "LD_LIBRARY_PATH=$(dirname $(find /run/programs/usr/lib -name 'libsystemd-shared*' | head -1))";
            let script = format!(
                "mount --bind {run} /run && mount -o remount,ro,bind /sys && mount --bind {root} /run/programs && \
                 exec setpriv --pdeathsig KILL --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all,{capabilities} \
                 --ambient-caps=-all,{capabilities} env {library} SYSTEMD_LOG_LEVEL=debug /run/programs/{path}",
                run = run.display(),
                root = root.display(),
            );
            let mut process = lab.start(node, &["sh", "-c", &script]);
            process.assert_alive();
            process
        };
        let networkd = start("systemd-networkd", "+net_admin,+net_raw,+net_bind_service,+net_broadcast");
        std::thread::sleep(std::time::Duration::from_secs(1));
        let mut resolved = start("systemd-resolved", "+net_raw,+net_bind_service,+setpcap");
        wait_until("systemd-resolved knows its servers", || {
            resolved.assert_alive();
            let servers = fs::read_to_string(run.join("systemd/resolve/resolv.conf")).unwrap_or_default();
            servers.contains("nameserver 10.").then_some(())
        });
        Machine { node: node.into(), _processes: vec![networkd, resolved] }
    }
}
