//! Servers on-premises that forward the VPCs' names to both addresses of an inbound endpoint, while one of the two servers
//! behind them is killed, or falls silent.

use crate::harness::{Process, ZONAL, can_run, lab::Lab, stub::Stub, tree, wait_until};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

const MANIFEST: &str = r#"
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.2.0.0/16]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16], vpc_ids: [vpc]}
resolver_endpoints:
  in:
    direction: INBOUND
    vpc_id: vpc
    ip_addresses: [{ip: 10.2.0.53, availability_zone_id: use1-az1}, {ip: 10.2.16.53, availability_zone_id: use1-az2}]
private_hosted_zones:
  Z1: {name: corp.example.com, vpc_ids: [vpc], records: [{name: "*", type: A, ttl: 60, records: [10.2.0.80]}]}
"#;

/// How many names each forwarder is asked for in each state of the servers.
const NAMES: usize = 25;

const FORWARDERS: [(&str, &str); 5] = [
    ("bind", "192.168.0.11"),
    ("unbound", "192.168.0.12"),
    ("dnsmasq", "192.168.0.13"),
    ("kresd", "192.168.0.14"),
    ("dnsdist", "192.168.0.15"),
];

fn snippet(lab: &Lab, file: &str) -> String {
    let text = fs::read_to_string(tree("deploy/forwarders").join(file)).unwrap();
    let text = text.replace("INBOUND_AZ1", "10.2.0.53").replace("INBOUND_AZ2", "10.2.16.53");
    lab.scratch.write(file, text).display().to_string()
}

/// The whole configuration of each one, around the snippet that we tell people to use.
fn start(lab: &mut Lab, kind: &str, address: &str) -> Process {
    lab.host(kind, "edge", &[address]);
    let directory = lab.scratch.path().join(kind);
    fs::create_dir_all(&directory).unwrap();
    let directory = directory.display();
    let write = |text: String| lab.scratch.write(&format!("{kind}.main.conf"), text).display().to_string();
    match kind {
        "bind" => {
            let (zones, options) = (snippet(lab, "bind.conf"), snippet(lab, "bind.options.conf"));
            let config = write(format!(
                "options {{ directory \"{directory}\"; pid-file none; session-keyfile none; listen-on {{ {address}; }}; \
                 listen-on-v6 {{ none; }}; recursion yes; allow-query {{ any; }};\ninclude \"{options}\"; }};\ncontrols {{ }};\n\
                 include \"{zones}\";\n"
            ));
            lab.start(kind, &["named", "-g", "-c", &config])
        }
        "unbound" => {
            let zones = snippet(lab, "unbound.conf");
            let config = write(format!(
                "server:\n  interface: {address}\n  access-control: 0.0.0.0/0 allow\n  username: \"\"\n  chroot: \"\"\n  \
                 pidfile: \"\"\n  directory: \"{directory}\"\n  use-syslog: no\n  do-daemonize: no\n  \
                 module-config: \"iterator\"\nremote-control:\n  control-enable: no\ninclude: \"{zones}\"\n"
            ));
            lab.start(kind, &["unbound", "-d", "-c", &config])
        }
        "dnsmasq" => {
            let zones = snippet(lab, "dnsmasq.conf");
            let config = write(format!(
                "listen-address={address}\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\npid-file=\nconf-file={zones}\n"
            ));
            lab.start(kind, &["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C", &config])
        }
        "kresd" => {
            let zones = snippet(lab, "knot-resolver.conf");
            let config = write(format!(
                "net.listen('{address}', 53, {{ kind = 'dns' }})\ntrust_anchors.remove('.')\ndofile('{zones}')\n"
            ));
            lab.start(kind, &["kresd", "-n", "-c", &config, &directory.to_string()])
        }
        "dnsdist" => {
            let zones = snippet(lab, "dnsdist.conf");
            let config = write(format!(
                "setLocal('{address}:53')\nsetACL({{'0.0.0.0/0'}})\nsetSecurityPollSuffix('')\ndofile('{zones}')\n"
            ));
            lab.start(kind, &["dnsdist", "--supervised", "--disable-syslog", "-C", &config])
        }
        _ => unreachable!("{kind} is no forwarder"),
    }
}

/// Every client of every forwarder is answered, at the second try at the latest.
fn all_answered(lab: &Lab, what: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    lab.inside("dc", || {
        thread::scope(|scope| {
            for (kind, address) in FORWARDERS {
                scope.spawn(move || {
                    for _ in 0..NAMES {
                        let name = format!("n{}.corp.example.com", COUNT.fetch_add(1, Relaxed));
                        let stub = Stub::new("192.168.0.7", (address, 53));
                        let mut said = stub.ask(&name);
                        if said.reply.status != "NOERROR" {
                            said = stub.ask(&name);
                        }
                        assert_eq!(said.reply.data("A"), ["10.2.0.80"], "{what}, through {kind}: {}", said.reply);
                    }
                });
            }
        });
    });
}

#[test]
fn one_of_two_inbound_addresses_fails() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "named", "unbound", "dnsmasq", "kresd", "dnsdist"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("tgw");
    lab.router("edge");
    lab.link("tgw", &["10.2.0.0/16"], "edge", &["192.168.0.0/16"]);
    lab.host("dc", "edge", &["192.168.0.7"]);
    lab.host("server-a", "tgw", &["10.2.0.53"]);
    lab.host("server-b", "tgw", &["10.2.16.53"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config =
        lab.scratch.write("zonal.yaml", "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\n");
    let zonal = |lab: &Lab, node: &str| {
        let mut server = lab.start(node, &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
        wait_until("zonal answers", || {
            server.assert_alive();
            (lab.dig(node, "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
        });
        server
    };
    let (first, second) = (zonal(&lab, "server-a"), zonal(&lab, "server-b"));
    let mut forwarders: Vec<Process> =
        FORWARDERS.iter().map(|(kind, address)| start(&mut lab, kind, address)).collect();
    for (forwarder, (kind, address)) in forwarders.iter_mut().zip(FORWARDERS) {
        wait_until(&format!("{kind} answers"), || {
            forwarder.assert_alive();
            let reply = lab.dig("dc", &format!("@{address} ready.corp.example.com A +time=2"));
            (reply.status == "NOERROR").then_some(())
        });
    }
    all_answered(&lab, "both work");
    drop(first);
    all_answered(&lab, "the first one is killed");
    let first = zonal(&lab, "server-a");
    all_answered(&lab, "the first one is back");
    lab.cut("tgw", &["10.2.16.53"], true);
    all_answered(&lab, "the second one is silent");
    lab.cut("tgw", &["10.2.16.53"], false);
    drop(second);
    all_answered(&lab, "the second one is killed");
    drop(first);
}
