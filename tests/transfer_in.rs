//! Incoming transfers: from BIND, from Knot, and from a primary with wrong answers.

mod bind_and_knot;
mod catalogs;
mod expiry;
mod notified;
mod policy_zones;
mod steps;
mod wrong_primaries;

use crate::harness::{Process, Scratch, Server, http_get, reply::Reply, wait_until, wait_until_equal};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

/// A client in `vpc-a`.
const IN_A: &str = "127.1.0.7";
/// A client in `vpc-b`.
const IN_B: &str = "127.2.0.7";

/// A manifest with two VPCs and these zones.
fn manifest(zones: &str) -> String {
    format!(
        "vpcs:\n  vpc-a: {{region: us-east-1, cidr_blocks: [127.1.0.0/16]}}\n  \
         vpc-b: {{region: us-east-1, cidr_blocks: [127.2.0.0/16]}}\nprivate_hosted_zones:\n{zones}"
    )
}

/// The answer to a client.
fn ask(port: u16, from: &str, name: &str, rtype: RecordType) -> Reply {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, rtype));
    message.set_edns(Edns::new());
    // Errors over UDP are limited.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = TcpStream::from(socket);
    let message = message.to_vec().unwrap();
    stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).unwrap();
    Reply::of_message(&reply)
}

/// Waits until a client gets this address.
fn wait_for_address(server: &Server, from: &str, name: &str, address: &str) {
    let line = format!("A {address}");
    wait_until(&format!("{name} is {address}"), || {
        let reply = ask(server.port, from, name, RecordType::A);
        (reply.answer.len() == 1 && reply.answer[0].ends_with(&line)).then_some(())
    });
}

/// Waits until a client gets this RCODE.
fn wait_for_status(server: &Server, from: &str, name: &str, status: &str) -> Reply {
    wait_until(&format!("{name} is {status}"), || {
        let reply = ask(server.port, from, name, RecordType::A);
        (reply.status == status).then_some(reply)
    })
}

/// The entry of a transferred zone in the status.
fn zone(server: &Server, id: &str) -> Option<serde_json::Value> {
    let (_, text) = http_get(server.admin, "/v1/status")?;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["zones_transferred"].as_array()?.iter().find(|zone| zone["id"] == id).cloned()
}

/// Waits until the status has a zone in this state, or has no such zone.
fn wait_for_state(server: &Server, id: &str, state: Option<&str>) {
    wait_until_equal(&format!("the state of {id}"), state.map(serde_json::Value::from), || {
        zone(server, id).map(|zone| zone["state"].clone())
    });
}

/// Waits until the number of transfers with a result is as expected.
fn wait_for_transfers(server: &Server, result: &str, expected: f64) {
    wait_until_equal(&format!("transfers with the result {result}"), expected, || transfers(server, result));
}

/// Waits until the error of a transferred zone contains a text.
fn wait_for_error(server: &Server, id: &str, text: &str) -> serde_json::Value {
    wait_until(&format!("{id} has the error {text}"), || {
        zone(server, id).filter(|zone| zone["error"].as_str().is_some_and(|error| error.contains(text)))
    })
}

/// The number of transfers with a result.
fn transfers(server: &Server, result: &str) -> f64 {
    server.metric(&["zonal_transfers_total", "direction=\"in\"", &format!("result=\"{result}\"")])
}

/// The TSIG secret of primary and secondary.
const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0cmFuc2Zlcg==";

/// A primary: its directory, its port, and the port of the secondary that it notifies.
struct Primary<'a> {
    scratch: &'a Scratch,
    port: u16,
    secondary: u16,
    /// Whether transfers have TSIG signatures.
    signed: bool,
    /// Whether transfers use TLS, with `tls.crt` and `tls.key` of the scratch directory.
    secure: bool,
}

impl Primary<'_> {
    /// Starts BIND with these zones, whose files are in the scratch directory as `<zone>.zone`.
    fn bind(&self, zones: &[&str]) -> Process {
        let directory = self.scratch.path().display();
        let allow = if self.signed { "key transfer" } else { "any" };
        let (tls, over) = match self.secure {
            true => ("tls ours { cert-file \"tls.crt\"; key-file \"tls.key\"; };\n", " tls ours"),
            false => ("", ""),
        };
        let zones: String = zones
            .iter()
            .map(|zone| {
                format!("zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; allow-update {{ any; }}; }};\n")
            })
            .collect();
        let config = format!(
            "{tls}key transfer {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             options {{ directory \"{directory}\"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;\n\
             listen-on port {}{over} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; allow-transfer {{ {allow}; }};\n\
             notify explicit; also-notify {{ 127.0.0.1 port {}{}; }}; notify-delay 0; }};\n\
             controls {{ }};\n{zones}",
            self.port,
            self.secondary,
            if self.signed { " key transfer" } else { "" }
        );
        let path = self.scratch.write("named.conf", config);
        let process = Process::start(&["named", "-g", "-n", "1", "-c", path.to_str().unwrap()], self.scratch, "named");
        self.wait(process)
    }

    /// Starts Knot with these zones. Each zone has additional lines of configuration.
    fn knot(&self, zones: &[(&str, &str)]) -> Process {
        let directory = self.scratch.path().display();
        let key = if self.signed { "    key: transfer\n" } else { "" };
        let zones: String = zones
            .iter()
            .map(|(zone, more)| format!("  - domain: {zone}\n    notify: zonal\n    acl: all\n{more}"))
            .collect();
        let config = format!(
            "server:\n  rundir: {directory}\n  listen: 127.0.0.1@{}\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: {directory}\n\
             key:\n  - id: transfer\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             remote:\n  - id: zonal\n    address: 127.0.0.1@{}\n{}\
             acl:\n  - id: all\n    action: [transfer, update]\n    address: 127.0.0.0/8\n{}\
             template:\n  - id: default\n    storage: {directory}\n    file: \"%s.zone\"\n    zonefile-sync: -1\n\
             zone:\n{zones}",
            self.port, self.secondary, key, key
        );
        let path = self.scratch.write("knot.conf", config);
        self.wait(Process::start(&["knotd", "-c", path.to_str().unwrap()], self.scratch, "knotd"))
    }

    fn wait(&self, mut process: Process) -> Process {
        wait_until("the primary answers", || {
            process.assert_alive();
            let mut dig = Command::new("dig");
            dig.args(["@127.0.0.1", "-p", &self.port.to_string(), "+tries=1", "+time=1", "nothing.invalid"]);
            dig.args(self.secure.then_some("+tls"));
            dig.output().unwrap().status.success().then_some(())
        });
        process
    }

    /// Changes a zone by dynamic update.
    fn update(&self, lines: &str) {
        let key = if self.signed { format!("key hmac-sha256:transfer {SECRET}\n") } else { String::new() };
        let script = format!("server 127.0.0.1 {}\n{key}{lines}\nsend\n", self.port);
        let path = self.scratch.write("update", script);
        let output = Command::new("nsupdate").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Writes a zone with one address and these SOA numbers.
fn write_zone(directory: &Scratch, zone: &str, numbers: &str, more: &str) {
    let text = format!("$TTL 60\n@ SOA ns hostmaster {numbers} 60\n@ NS ns\nns A 127.0.0.1\n{more}\n");
    directory.write(&format!("{zone}.zone"), text);
}

/// Lines of configuration for the state directory and the key.
fn with_state(directory: &Path) -> String {
    format!("state_directory: {}\n{}", directory.display(), keys(SECRET))
}

fn keys(secret: &str) -> String {
    format!("tsig_keys: {{transfer: {{secret: {secret}}}}}\n")
}
