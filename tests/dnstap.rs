//! dnstap messages of client queries over IPv6, and of upstream queries over encrypted transports,
//! as BIND's tool reads them.

use crate::harness::{
    Process, Scratch, Server, can_run,
    fake::{Fake, Say},
    free_port,
    secure::SecureServer,
    stub::Stub,
    wait_until,
};
use std::{collections::BTreeMap, process::Command};
use zonal::answer::Transport;

/// A message as `dnstap-read -y` prints it: its fields.
type Message = BTreeMap<String, String>;

fn read(file: &std::path::Path) -> Vec<Message> {
    let output = Command::new("dnstap-read").arg("-y").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields = |document: &str| {
        let fields = document.lines().filter_map(|line| line.trim_start().split_once(": "));
        fields.map(|(name, value)| (name.to_string(), value.trim().trim_matches('"').to_string())).collect::<Message>()
    };
    text.split("\n---\n").map(fields).filter(|message| message.contains_key("type")).collect()
}

fn end(process: &mut Process) {
    let id = rustix::process::Pid::from_raw(process.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    wait_until("it ends", || process.ended());
}

/// The forwarded domains: one to a server over IPv6, the others to a server with all transports.
const DOMAINS: [&str; 4] = ["v6.test", "dot.test", "doh.test", "doq.test"];

#[test]
fn dnstap_messages_have_both_addresses_over_ipv6_and_encrypted_transports() {
    if !can_run(&["setpriv", "fstrm_capture", "dnstap-read"]) {
        return;
    }
    let scratch = Scratch::new();
    let zones: String = DOMAINS[1..]
        .iter()
        .map(|domain| {
            format!("  {domain}: {{name: {domain}, vpc_ids: [vpc], records: [{{name: '*', type: A, records: [192.0.2.7]}}]}}\n")
        })
        .collect();
    let networks = "vpcs: {vpc: {region: r, cidr_blocks: [127.0.0.0/8, '::1/128']}}\n";
    scratch.write("upstream/manifest.yaml", format!("{networks}private_hosted_zones:\n{zones}"));
    let upstream = SecureServer::start(&scratch.path().join("upstream"), "");
    let v6 = Fake::start("[::1]:0", |asked| vec![Say::Now(asked.address("192.0.2.7"))]);
    let local = [127, 0, 0, 1].into();
    let port = |transport| upstream.at(transport, local).port();
    let encrypted = |transport, protocol: &str| {
        let port = port(transport);
        format!("{{ip: 127.0.0.1, port: {port}, protocol: {protocol}, server_name_indication: zonal.test}}")
    };
    let targets = [
        v6.target(),
        encrypted(Transport::Tls, "DoT"),
        encrypted(Transport::Https, "DoH"),
        encrypted(Transport::Quic, "DoQ"),
    ];
    let rule = |(domain, target): (&&str, &String)| {
        format!("  {domain}: {{domain_name: {domain}, rule_type: FORWARD, vpc_ids: [vpc], target_ips: [{target}]}}\n")
    };
    let rules: String = DOMAINS.iter().zip(&targets).map(rule).collect();
    scratch.write("zones/manifest.yaml", format!("{networks}resolver_rules:\n{rules}"));

    let socket = scratch.path().join("tap.sock");
    let command = ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-w", "tap.fstrm", "-u", "tap.sock"];
    let mut capture = Process::start(&command, &scratch, "capture");
    wait_until("the socket is there", || socket.exists().then_some(()));
    let listening = free_port();
    let mut server = Server::start_listening(
        &format!("{{directory: {}}}", scratch.path().join("zones").display()),
        &format!("  - {{address: \"[::1]:{listening}\"}}\n"),
        &format!(
            "dnstap: {{unix: \"{}\"}}\ncertificate_authority: \"{}\"\n",
            socket.display(),
            upstream.scratch.path().join("tls.crt").display()
        ),
    )
    .ready();
    let stub = Stub::new("::1", ("::1", listening));
    for domain in DOMAINS {
        for question in ["first", "second", "third +tcp"] {
            let (label, way) = question.split_once(' ').unwrap_or((question, ""));
            let said = stub.ask(&format!("{label}.{domain} A {way}").trim().replace("  ", " "));
            assert_eq!(said.reply.data("A"), ["192.0.2.7"], "{question} {domain}: {}{}", said.reply, said.why);
        }
    }
    let least = (DOMAINS.len() * 3 * 4) as f64;
    wait_until("all is sent", || (server.metric(&["zonal_dnstap_messages_total", "written"]) >= least).then_some(()));
    end(&mut server.process);
    end(&mut capture);

    let messages = read(&scratch.path().join("tap.fstrm"));
    let of = |kind: &str| messages.iter().filter(|message| message["type"] == kind).collect::<Vec<_>>();
    for kind in ["CLIENT_QUERY", "CLIENT_RESPONSE"] {
        let of_clients = of(kind);
        assert_eq!(of_clients.len(), DOMAINS.len() * 3, "{kind}");
        for message in of_clients {
            assert_eq!(message["socket_family"], "INET6", "{message:#?}");
            assert_eq!((&*message["query_address"], &*message["response_address"]), ("::1", "::1"), "{message:#?}");
            assert_eq!(message["response_port"], listening.to_string(), "{message:#?}");
            assert_ne!(message["query_port"], "0", "{message:#?}");
        }
    }
    // dnstap-read prints UDP for DoT, DoH and DoQ, so the port tells the transports. DoT and DoQ have the same port.
    let transports = [
        ("::1", v6.address.port(), 3),
        ("127.0.0.1", port(Transport::Tls), 6),
        ("127.0.0.1", port(Transport::Https), 3),
    ];
    for (address, port, count) in transports {
        for kind in ["FORWARDER_QUERY", "FORWARDER_RESPONSE"] {
            let is_of = |message: &&&Message| message["response_port"] == port.to_string();
            let forwarded = of(kind);
            let forwarded: Vec<_> = forwarded.iter().filter(is_of).collect();
            assert!(forwarded.len() >= count, "port {port} {kind}: {messages:#?}");
            for message in &forwarded {
                assert_eq!(message["response_address"], address, "{message:#?}");
                let family = if address == "::1" { "INET6" } else { "INET" };
                assert_eq!(message["socket_family"], family, "{message:#?}");
            }
            // A query that waits for its connection has no source address yet. A busy machine makes
            // several queries wait.
            let has_own = |message: &&&&Message| {
                let own = message.get("query_address").zip(message.get("query_port"));
                own.is_some_and(|(own, port)| own == address && port != "0")
            };
            let own = forwarded.iter().filter(has_own).count();
            // Of DoQ connections, the source address is not known.
            let least = if kind == "FORWARDER_QUERY" { 1 } else { 3 };
            assert!(own >= least, "port {port} {kind}: {own} have a source address: {forwarded:#?}");
        }
    }
}
