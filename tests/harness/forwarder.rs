//! Forwarders of other vendors, each with its file from `deploy/forwarders` or the output of
//! `zonal forwarders`, and a minimal configuration around it.

use super::{Process, lab::Lab, signed::SignedParent, tree};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// The paths of systemd-resolved in older and in newer releases of Debian.
const RESOLVED: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/systemd/lib/systemd/systemd-resolved"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/systemd/usr/lib/systemd/systemd-resolved"),
];

/// A forwarder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Bind,
    Unbound,
    Dnsmasq,
    KnotResolver,
    Dnsdist,
    Resolved,
}

impl Kind {
    /// The program, as `can_run` looks for it.
    pub fn program(self) -> &'static str {
        match self {
            Kind::Bind => "named",
            Kind::Unbound => "unbound",
            Kind::Dnsmasq => "dnsmasq",
            Kind::KnotResolver => "kresd",
            Kind::Dnsdist => "dnsdist",
            // It is not installed as a package, because that would change the resolver of the test
            // machine.
            Kind::Resolved => RESOLVED.into_iter().find(|path| Path::new(path).is_file()).unwrap_or(RESOLVED[0]),
        }
    }

    /// The name of this forwarder in `zonal forwarders`, and its file in `deploy/forwarders`.
    pub fn snippet(self) -> (&'static str, &'static str) {
        match self {
            Kind::Bind => ("bind", "bind.conf"),
            Kind::Unbound => ("unbound", "unbound.conf"),
            Kind::Dnsmasq => ("dnsmasq", "dnsmasq.conf"),
            Kind::KnotResolver => ("knot-resolver", "knot-resolver.conf"),
            Kind::Dnsdist => ("dnsdist", "dnsdist.conf"),
            Kind::Resolved => ("systemd-resolved", "systemd-resolved.conf"),
        }
    }

    /// Starts the forwarder on a host, on port 53. With `parent`, it validates with that root as
    /// its trust anchor, and sends it all queries that are not forwarded. Without `anchors`, the
    /// negative trust anchors are removed from the snippet.
    pub fn start(self, lab: &Lab, node: &str, address: &str, parent: Option<&SignedParent>, anchors: bool) -> Process {
        self.start_with(&tree("deploy/forwarders"), lab, node, address, parent, anchors)
    }

    /// Like `start`, with the snippets of another directory.
    pub fn start_with(
        self,
        files: &Path,
        lab: &Lab,
        node: &str,
        address: &str,
        parent: Option<&SignedParent>,
        anchors: bool,
    ) -> Process {
        let shipped = |file: &str| files.join(file).display().to_string();
        let directory = lab.scratch.path().join(node);
        fs::create_dir_all(&directory).unwrap();
        let dir = directory.display();
        let write = |text: String| lab.scratch.write(&format!("{node}.main.conf"), text).display().to_string();
        match self {
            Kind::Bind => {
                let options =
                    if anchors { format!("include \"{}\";", shipped("bind.options.conf")) } else { String::new() };
                let root = parent.map_or(String::new(), |parent| {
                    let (hints, key) = (parent.hints(lab), parent.key.split_whitespace().collect::<Vec<_>>());
                    let (numbers, octets) = (key[..3].join(" "), key[3..].concat());
                    format!(
                        "trust-anchors {{ \".\" static-key {numbers} \"{octets}\"; }};\nzone \".\" {{ type hint; file \"{hints}\"; }};\n"
                    )
                });
                let config = write(format!(
                    "options {{\n directory \"{dir}\"; pid-file none; session-keyfile none; listen-on {{ {address}; }}; \
                     listen-on-v6 {{ none; }};\n recursion yes; allow-query {{ any; }}; dnssec-validation {};\n{options}\n}};\n\
                     controls {{ }};\n{root}include \"{}\";\n",
                    if parent.is_some() { "yes" } else { "auto" },
                    shipped("bind.conf"),
                ));
                lab.start(node, &["named", "-g", "-c", &config])
            }
            Kind::Unbound => {
                let mut snippet = shipped("unbound.conf");
                if !anchors {
                    let text =
                        fs::read_to_string(snippet).unwrap().replace("    domain-insecure:", "    # domain-insecure:");
                    snippet = lab.scratch.write("unbound.bare.conf", text).display().to_string();
                }
                let root = parent.map_or("  module-config: \"iterator\"\n".into(), |parent| {
                    format!(
                        "  module-config: \"validator iterator\"\n  root-hints: \"{}\"\n  trust-anchor: \". DNSKEY {}\"\n",
                        parent.hints(lab),
                        parent.key
                    )
                });
                let config = write(format!(
                    "server:\n  interface: {address}\n  access-control: 0.0.0.0/0 allow\n  username: \"\"\n  chroot: \"\"\n  \
                     pidfile: \"\"\n  directory: \"{dir}\"\n  use-syslog: no\n  do-daemonize: no\n  private-address: 10.0.0.0/8\n\
                     {root}remote-control:\n  control-enable: no\ninclude: \"{snippet}\"\n"
                ));
                lab.start(node, &["unbound", "-d", "-c", &config])
            }
            Kind::Dnsmasq => {
                let root = parent.map_or(String::new(), |parent| {
                    let digest = parent.digest.split_whitespace().collect::<Vec<_>>().join(",");
                    format!("server={}\ndnssec\ntrust-anchor=.,{digest}\n", SignedParent::ADDRESS)
                });
                let config = write(format!(
                    "listen-address={address}\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\nstop-dns-rebind\npid-file=\n\
                     {root}conf-file={}\n",
                    shipped("dnsmasq.conf")
                ));
                lab.start(node, &["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C", &config])
            }
            Kind::KnotResolver => {
                let mut snippet = shipped("knot-resolver.conf");
                if !anchors {
                    let text = fs::read_to_string(snippet).unwrap().replace("policy.STUB(", "policy.FORWARD(");
                    snippet = lab.scratch.write("knot-resolver.bare.conf", text).display().to_string();
                }
                let (trust, rest) = parent.map_or_else(Default::default, |parent| {
                    (
                        format!("trust_anchors.add('. 300 IN DNSKEY {}')\n", parent.key),
                        format!("policy.add(policy.all(policy.FORWARD('{}')))\n", SignedParent::ADDRESS),
                    )
                });
                let config = write(format!(
                    "net.listen('{address}', 53, {{ kind = 'dns' }})\ntrust_anchors.remove('.')\n{trust}dofile('{snippet}')\n{rest}"
                ));
                lab.start(node, &["kresd", "-n", "-c", &config, &dir.to_string()])
            }
            Kind::Dnsdist => {
                let config = write(format!(
                    "setLocal('{address}:53')\nsetACL({{'0.0.0.0/0'}})\nsetSecurityPollSuffix('')\ndofile('{}')\n",
                    shipped("dnsdist.conf")
                ));
                lab.start(node, &["dnsdist", "--supervised", "--disable-syslog", "-C", &config])
            }
            Kind::Resolved => {
                resolved_etc(files, &directory, address, parent, anchors);
                let (etc, index) = (directory.join("etc"), interface_index(lab, node));
                // The link state as networkd writes it: the site's own servers, as DHCP hands them
                // out.
                let link = parent.map_or(String::new(), |_| {
                    format!("ADMIN_STATE=configured\nOPER_STATE=routable\nDNS={}\n", SignedParent::ADDRESS)
                });
                let link = lab.scratch.write(&format!("{node}.link"), link);
                let script = format!(
                    "set -e; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/netif/links; cp {} /run/systemd/netif/links/{index}; \
                     mount -t overlay overlay -o lowerdir=/etc,upperdir={},workdir={dir}/work /etc; \
                     library=$(find {} -name 'libsystemd-shared*' | head -n 1); LD_LIBRARY_PATH=${{library%/*}} exec {}",
                    link.display(),
                    etc.display(),
                    tree("target/systemd").display(),
                    self.program(),
                );
                lab.start(node, &["unshare", "--mount", "sh", "-c", &script])
            }
        }
    }
}

/// Writes the `/etc` of systemd-resolved: snippets, listen address, trust anchors, and its user.
fn resolved_etc(files: &Path, directory: &Path, address: &str, parent: Option<&SignedParent>, anchors: bool) {
    let (etc, work) = (directory.join("etc"), directory.join("work"));
    let (drop_ins, trust) = (etc.join("systemd/resolved.conf.d"), etc.join("dnssec-trust-anchors.d"));
    for directory in [&drop_ins, &trust, &work] {
        fs::create_dir_all(directory).unwrap();
    }
    assert_eq!(fs::metadata(&etc).unwrap().mode() & 0o055, 0o055, "its user reads them");
    fs::copy(files.join("systemd-resolved.conf"), drop_ins.join("zonal.conf")).unwrap();
    let validation = if parent.is_some() { "yes" } else { "no" };
    let own = format!("[Resolve]\nDNSStubListenerExtra={address}\nDNSSEC={validation}\nLLMNR=no\nFallbackDNS=\n");
    fs::write(drop_ins.join("lab.conf"), own).unwrap();
    if let Some(parent) = parent {
        fs::write(trust.join("root.positive"), format!(". IN DS {}\n", parent.digest)).unwrap();
    }
    if anchors {
        fs::copy(files.join("systemd-resolved.negative"), trust.join("zonal.negative")).unwrap();
    }
    for (file, line) in
        [("passwd", "systemd-resolve:x:989:989::/:/usr/sbin/nologin\n"), ("group", "systemd-resolve:x:989:\n")]
    {
        let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        fs::write(etc.join(file), format!("{line}{text}")).unwrap();
    }
    fs::write(etc.join("resolv.conf"), "").unwrap();
}

fn interface_index(lab: &Lab, node: &str) -> String {
    let output = lab.run(node, &["cat", "/sys/class/net/eth0/ifindex"]);
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
