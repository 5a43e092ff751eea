//! Forwarders that send all names to zonal's addresses.

use crate::harness::{Process, lab::Lab, wait_until};

/// The names of the forwarders, their hosts, and their addresses in AZ 1.
pub const FORWARDERS: [(&str, &str, &str); 3] =
    [("BIND", "bind", "10.1.0.21"), ("Unbound", "unbound", "10.1.0.22"), ("dnsmasq", "dnsmasq", "10.1.0.23")];

/// Starts a forwarder on its own host, and waits until it answers.
pub fn start(lab: &mut Lab, (_, name, address): (&str, &str, &str)) -> Process {
    lab.settle(name, "vpc", "az1", &format!("{address}/20"), "10.1.0.1");
    let directory = lab.scratch.path().display().to_string();
    let (text, command): (String, &[&str]) = match name {
        "bind" => (
            format!(
                "options {{ directory \"{directory}\"; pid-file none; session-keyfile none; listen-on {{ {address}; }}; \
                 listen-on-v6 {{ none; }}; allow-query {{ any; }}; dnssec-validation no; empty-zones-enable no;\n\
                 forward only; forwarders {{ 10.1.0.2; 10.1.16.2; }}; }};\ncontrols {{ }};\n"
            ),
            &["named", "-g", "-c"],
        ),
        "unbound" => (
            format!(
                "server:\n  interface: {address}\n  access-control: 0.0.0.0/0 allow\n  username: \"\"\n  chroot: \"\"\n  \
                 pidfile: \"\"\n  directory: \"{directory}\"\n  use-syslog: no\n  do-daemonize: no\n  module-config: iterator\n\
                 remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: 10.1.0.2\n  \
                 forward-addr: 10.1.16.2\n"
            ),
            &["unbound", "-d", "-c"],
        ),
        _ => (
            format!(
                "listen-address={address}\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\npid-file=\nall-servers\n\
                 server=10.1.0.2\nserver=10.1.16.2\n"
            ),
            &["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C"],
        ),
    };
    let file = lab.scratch.write(&format!("{name}.conf"), text).display().to_string();
    let mut process = lab.start(name, &[command, &[&file]].concat());
    wait_until("the forwarder answers", || {
        process.assert_alive();
        (lab.dig(name, &format!("@{address} www.corp.example +time=1")).status == "NOERROR").then_some(())
    });
    process
}
