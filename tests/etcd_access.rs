//! An etcd that requires certificates, user names and passwords.

use crate::harness::{Process, Scratch, Server, can_run, free_port, stub::Stub, wait_until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::process::Command;

/// An etcd on loopback that accepts only TLS, requires a certificate of its authority, and requires
/// a user name.
struct Guarded {
    _process: Process,
    scratch: Scratch,
    endpoint: String,
}

impl Guarded {
    fn start() -> Guarded {
        let scratch = Scratch::new();
        for authority in ["ca", "strangers"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, authority);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            scratch.write(&format!("{authority}.crt"), params.self_signed(&key).unwrap().pem());
            let issuer = Issuer::new(params, key);
            let (key, name) = (KeyPair::generate().unwrap(), format!("of-{authority}"));
            let mut params = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).unwrap();
            // etcd uses the common name of a client certificate as the user name, unless there is a
            // password.
            params.distinguished_name.push(DnType::CommonName, "nobody");
            scratch.write(&format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
            scratch.write(&format!("{name}.key"), key.serialize_pem());
        }
        let [client, peer] = [("https", free_port()), ("http", free_port())];
        let [endpoint, peer] = [client, peer].map(|(scheme, port)| format!("{scheme}://127.0.0.1:{port}"));
        let cluster = format!("default={peer}");
        let command = [
            "etcd",
            "--data-dir=data",
            "--cert-file=of-ca.crt",
            "--key-file=of-ca.key",
            "--trusted-ca-file=ca.crt",
            "--client-cert-auth",
            "--listen-client-urls",
            &endpoint,
            "--advertise-client-urls",
            &endpoint,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &cluster,
        ];
        let guarded = Guarded { _process: Process::start(&command, &scratch, "etcd"), scratch, endpoint };
        wait_until("etcd takes writes", || guarded.ctl("", &["put", "/other", "x"]).then_some(()));
        for words in [
            &["user", "add", "root:secret"][..],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "zonal:pass word"],
            &["role", "add", "reader"],
            &["role", "grant-permission", "--prefix=true", "reader", "read", "/zonal/v1/"],
            &["user", "grant-role", "zonal", "reader"],
            &["auth", "enable"],
        ] {
            assert!(guarded.ctl("", words), "{words:?}");
        }
        guarded
    }

    /// Runs etcdctl as a user. Returns whether it succeeds.
    fn ctl(&self, user: &str, arguments: &[&str]) -> bool {
        let user = if user.is_empty() { vec![] } else { vec![format!("--user={user}")] };
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint, "--cacert=ca.crt", "--cert=of-ca.crt", "--key=of-ca.key"])
            .args(user)
            .args(arguments)
            .current_dir(self.scratch.path())
            .output()
            .unwrap();
        output.status.success()
    }

    fn put(&self, text: &str) {
        let records = json!([{"name": "@", "type": "TXT", "ttl": 0, "records": [format!("\"{text}\"")]}]);
        let zone = json!({"name": "z.example", "vpc_ids": ["vpc-app"], "records": records}).to_string();
        let vpc = json!({"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"]}).to_string();
        assert!(self.ctl("root:secret", &["put", "/zonal/v1/vpcs/vpc-app", &vpc]));
        assert!(self.ctl("root:secret", &["put", "/zonal/v1/private_hosted_zones/Z", &zone]));
    }
}

#[test]
fn follows_etcd_with_certificates_and_passwords() {
    if !can_run(&["etcd", "etcdctl", "setpriv"]) {
        return;
    }
    let etcd = Guarded::start();
    let at = |name: &str| etcd.scratch.path().join(name).display().to_string();
    etcd.scratch.write("password", "pass word\n");
    etcd.scratch.write("wrong", "guessed\n");
    etcd.put("first");
    let follow = |user: &str, password: &str, authority: &str, of: &str| {
        let user = if user.is_empty() {
            String::new()
        } else {
            format!("username: {user}, password_file: {}, ", at(password))
        };
        let tls = format!(
            "certificate_authority: {}, certificate: {}, private_key: {}",
            at(authority),
            at(&format!("{of}.crt")),
            at(&format!("{of}.key"))
        );
        Server::start_from(&format!("{{etcd: {{endpoints: [\"{}\"], {user}tls: {{{tls}}}}}}}", etcd.endpoint), "")
    };
    let server = follow("zonal", "password", "ca.crt", "of-ca").ready();
    let stub = Stub::new("127.0.0.1", ("127.0.0.1", server.port));
    let is = |text: &str| {
        wait_until(text, || (stub.ask("z.example TXT").reply.data("TXT") == [format!("\"{text}\"")]).then_some(()))
    };
    is("first");
    etcd.put("second");
    is("second");

    // A node with a wrong password, without a user name, with a wrong certificate or with a wrong
    // authority serves nothing, and logs the reason.
    for (user, password, authority, of, why) in [
        ("zonal", "wrong", "ca.crt", "of-ca", "authentication failed"),
        ("", "", "ca.crt", "of-ca", "permission denied"),
        ("zonal", "password", "ca.crt", "of-strangers", "endpoint=\"https"),
        ("zonal", "password", "strangers.crt", "of-ca", "endpoint=\"https"),
    ] {
        let server = follow(user, password, authority, of);
        server.process.wait_for_log(why);
        let stub = Stub::new("127.0.0.1", ("127.0.0.1", server.port));
        assert_eq!(stub.ask("z.example TXT").reply.status, "REFUSED", "{user} {password} {authority} {of}");
        assert_eq!(crate::harness::http_get(server.admin, "/ready").map(|(status, _)| status), Some(503));
    }
}
