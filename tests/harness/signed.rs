//! A signed root zone and a signed top-level domain.

use super::{Process, lab::Lab, wait_until};
use std::{fs, process::Command};

/// A server of a signed root and a signed com. No record proves that the private names below com
/// may be unsigned.
pub struct SignedParent {
    _server: Process,
    /// The DNSKEY record data: `257 3 13 …`
    pub key: String,
    /// The DS record data: `12345 13 2 …`
    pub digest: String,
}

impl SignedParent {
    /// The server's address, on the router `edge`.
    pub const ADDRESS: &str = "192.168.0.1";

    pub fn start(lab: &mut Lab) -> SignedParent {
        let address = SignedParent::ADDRESS;
        lab.host("parent", "edge", &[SignedParent::ADDRESS]);
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(lab.scratch.path()).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_string()
        };
        let soa = "@ 300 SOA ns.com. hostmaster.com. 1 3600 600 86400 300\n@ 300 NS ns.com.\n";
        let com = format!(
            "{soa}ns 300 A {address}\nsigned 300 TXT \"signed\"\nexample 300 TXT \"x\"\namazonaws 300 TXT \"x\"\n"
        );
        let root = format!("{soa}com. 300 NS ns.com.\nns.com. 300 A {address}\n$INCLUDE dsset-com.\n");
        lab.scratch.write("com.zone", com);
        lab.scratch.write("root.zone", root);
        let mut root_key = String::new();
        for (zone, file) in [("com.", "com"), (".", "root")] {
            root_key = run("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone]);
            let (plain, signed) = (format!("{file}.zone"), format!("{file}.signed"));
            run("dnssec-signzone", &["-q", "-S", "-z", "-o", zone, "-f", &signed, &plain]);
        }
        let key = fs::read_to_string(lab.scratch.path().join(format!("{root_key}.key"))).unwrap();
        let key = key.lines().find_map(|l| l.split_once(" DNSKEY ")).unwrap().1.to_string();
        let digest = run("dnssec-dsfromkey", &["-2", &format!("{root_key}.key")]);
        let digest = digest.split_once(" DS ").unwrap().1.to_string();
        let dir = lab.scratch.path().display();
        let config = format!(
            "server:\n  ip-address: {address}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  database: \"\"\n  \
             pidfile: \"{dir}/nsd.pid\"\n  xfrdfile: \"{dir}/xfrd.state\"\n  zonelistfile: \"{dir}/zone.list\"\n  \
             server-count: 1\n  logfile: \"\"\nremote-control:\n  control-enable: no\n\
             zone:\n  name: \".\"\n  zonefile: root.signed\nzone:\n  name: com.\n  zonefile: com.signed\n"
        );
        let config = lab.scratch.write("nsd.conf", config);
        let mut server = lab.start("parent", &["nsd", "-d", "-c", config.to_str().unwrap()]);
        wait_until("NSD answers", || {
            server.assert_alive();
            (lab.dig("parent", &format!("@{address} . SOA +time=1")).status == "NOERROR").then_some(())
        });
        SignedParent { _server: server, key, digest }
    }

    /// Writes a root hints file, and returns its path.
    pub fn hints(&self, lab: &Lab) -> String {
        let text = format!(". 300 NS ns.com.\nns.com. 300 A {}\n", SignedParent::ADDRESS);
        lab.scratch.write("root.hints", text).display().to_string()
    }
}
