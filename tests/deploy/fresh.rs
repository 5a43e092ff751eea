//! A new machine, from installation to monitoring. The package is installed and its service starts
//! from the unit file. A second machine gets the service's address by DHCP and resolves through it.
//! Every query of the dashboard finds data in Prometheus.
//!
//! `cargo test from_package_to_dashboard -- --nocapture` prints the steps and their results.

use super::package::{COPY, package};
use crate::{
    dashboards::{Prometheus, Traffic, put, resources},
    dhcp::machines::{Machine, dhcp_server},
    harness::{
        can_run,
        cluster::Single,
        free_port, http_get,
        lab::Lab,
        secure::Certificate,
        upstream::{Data, Upstreams},
        wait_until,
    },
};
use std::{fs, net::SocketAddr, sync::Arc};

/// Installs the package, and runs its service as systemd would: command line, user, capabilities
/// and directories of the unit file.
const SCRIPT: &str = r#"
echo "== dpkg --install zonal.deb"
within dpkg --install /tmp/zonal.deb >"$scratch/log" 2>&1 </dev/null || { cat "$scratch/log"; exit 1; }
within dpkg-query --show --showformat '${Package} is ${db:Status-Status}\n' zonal
unit=/usr/lib/systemd/system/zonal.service
echo "== systemd-analyze verify zonal.service"
within systemd-analyze verify --man=no zonal.service 2>&1 && echo "no complaints"
echo "== systemd-analyze security --offline=true zonal.service"
within systemd-analyze security --offline=true --no-pager --threshold=15 $unit | tail -n 1
cp "$3"/* "$root/etc/zonal/"
for directory in lib log; do
    mkdir -p -m 700 "$root/var/$directory/private"
    install -d -m 700 -o 65534 -g 65534 "$root/var/$directory/private/zonal"
    ln -s private/zonal "$root/var/$directory/zonal"
    chmod 711 "$root/var/$directory/private"
done
start=$(sed -n 's/^ExecStart=//p' "$root$unit")
echo "== $start"
may="-all,+$(sed -n 's/^AmbientCapabilities=CAP_//p' "$root$unit" | tr '[:upper:]' '[:lower:]')"
exec chroot "$root" setpriv --pdeathsig KILL --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps "$may" --ambient-caps "$may" \
    --bounding-set "$may" env STATE_DIRECTORY=/var/lib/zonal LOGS_DIRECTORY=/var/log/zonal $start
"#;

const PROGRAMS: [&str; 17] = [
    "cargo-deb",
    "strip",
    "dpkg",
    "unshare",
    "mount",
    "chroot",
    "setpriv",
    "systemd-analyze",
    "ip",
    "dig",
    "getent",
    "dnsmasq",
    "udhcpc",
    "etcd",
    "prometheus",
    "sysctl",
    "sed",
];

const ADMIN: &str = "127.0.0.1:9153";

#[test]
fn from_package_to_dashboard() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let package = package().display().to_string();
    let admin: SocketAddr = ADMIN.parse().unwrap();
    let mut lab = Lab::new();
    lab.router("vpc");
    lab.segment("vpc", "az1", "10.1.0.1/20");
    lab.settle("node", "vpc", "az1", "10.1.0.2/20", "10.1.0.1");
    let range = "10.1.0.100,10.1.0.200,255.255.240.0";
    let _dhcp = dhcp_server(&lab, "vpc", "az1", range, "10.1.0.1", "10.1.0.2");

    // The control plane, and an upstream server.
    let zone = "there.example. 300 IN SOA ns.there.example. h.there.example. 1 2 3 4 5\n\
                www.there.example. 1 IN A 192.0.2.1\n";
    let data = Arc::new(Data::read(&lab.scratch.write("upstream.zone", zone)));
    let (etcd, port) = (Single::start_on(&lab, "node"), free_port());
    let _upstream = lab.inside("node", || {
        put(&etcd, resources(port, "1"));
        Upstreams::start(port, [("127.4.0.53".parse().unwrap(), data)])
    });

    let certificate = Certificate::until(2099);
    lab.scratch.write("etc/tls.crt", &certificate.certificate);
    lab.scratch.write("etc/tls.key", &certificate.private_key);
    lab.scratch.write(
        "etc/zonal.yaml",
        format!(
            "listen:\n  - {{address: \"0.0.0.0:53\"}}\n  - {{address: \"127.0.0.1:853\", protocol: DoT, tls: {{certificate: tls.crt, \
             private_key: tls.key}}}}\ncontrol_plane: {{etcd: {{endpoints: [\"{}\"]}}}}\nstate_directory: /var/lib/zonal\n\
             admin: {{address: \"{ADMIN}\"}}\ninternet_resolver: none\n",
            etcd.endpoint
        ),
    );
    let (copy, etc) = (lab.scratch.path().join("copy"), lab.scratch.path().join("etc"));
    fs::create_dir(&copy).unwrap();
    let script = format!("{COPY}{SCRIPT}");
    let arguments = [&script, "bash", &package, copy.to_str().unwrap(), etc.to_str().unwrap()];
    let command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euo", "pipefail", "-c"];
    let mut service = lab.start("node", &[&command[..], &arguments].concat());
    wait_until("the service is ready", || {
        service.assert_alive();
        lab.inside("node", || (http_get(admin, "/ready")?.0 == 200).then_some(()))
    });
    for said in ["zonal is installed", "no complaints", "exposure level for zonal.service: 1.", "serving "] {
        service.wait_for_log(said);
    }
    println!("{}", service.log().trim_end());

    let machine = Machine::plain(&mut lab, "machine", "az1");
    let run = |command: &str| {
        let output = lab.run(machine.node, &command.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8(output.stdout).unwrap();
        println!("== a machine with DHCP: {command}\n{}", said.trim_end());
        said
    };
    assert!(run("cat /etc/resolv.conf").contains("nameserver 10.1.0.2\n"));
    assert!(run("getent ahostsv4 sqs.example").starts_with("127.2.0.10 "));
    assert_eq!(run("dig +short www.corp.example TXT"), "\"1\"\n");
    assert_eq!(run("dig +short www.there.example"), "192.0.2.1\n");
    assert!(run("dig +short whoami.zonal TXT").contains(r#""vpc=app" "az=use1-az1""#));

    lab.inside("node", || {
        let prometheus = Prometheus::start(&lab.scratch, admin);
        let _traffic = Traffic::start(53);
        let found = prometheus.finds_everything(&etcd, port);
        println!("== Prometheus\nall {found} queries of the dashboard find something");
    });
    service.assert_alive();
}
