//! Outgoing transfers and dynamic updates, with BIND and Knot as secondaries. The clients are dig,
//! nsupdate, external-dns and certbot.

mod policies;

use crate::harness::{
    Process, Scratch, ZONAL, can_run, http_get, http_send,
    lab::Lab,
    secure::{RUNTIME, SecureServer, receive_stream, send_stream},
    wait_until, wait_until_equal,
};
use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use zonal::{
    answer::Transport,
    config::TsigAlgorithm,
    transfer::tsig::{Key, Session},
    wire::{Name, response::Response},
};

const TRANSFER: (&str, &str) = ("transfer", "c2VjcmV0IG9mIHRyYW5zZmVycw==");
const UPDATE: (&str, &str) = ("update", "c2VjcmV0IG9mIHVwZGF0ZXMhIQ==");
const OTHER: (&str, &str) = ("other", "c2VjcmV0IG9mIG90aGVycyEhIQ==");

fn key_of((name, secret): (&str, &str)) -> String {
    format!("hmac-sha256:{name}:{secret}")
}

fn tsig_keys() -> String {
    let keys = [TRANSFER, UPDATE, OTHER].map(|(name, secret)| format!("{name}: {{secret: {secret}}}"));
    format!("tsig_keys: {{{}}}\n", keys.join(", "))
}

/// zonal and its secondaries, each on its own host.
struct Servers {
    // Their output is in the lab's directory, and appears when they end.
    zonal: Process,
    _others: Vec<Process>,
    lab: Lab,
}

const ZONAL_AT: &str = "10.1.0.53";

impl Servers {
    fn start(manifest: &str, file: &str) -> Servers {
        let mut lab = Lab::new();
        lab.router("router");
        lab.host("zonal", "router", &[ZONAL_AT, "fd00:1::53"]);
        lab.host("bind", "router", &["10.1.0.61"]);
        lab.host("knot", "router", &["10.1.0.62"]);
        lab.host("client", "router", &["10.1.0.7", "10.1.0.8"]);
        lab.host("stranger", "router", &["192.0.2.7"]);
        lab.scratch.write("zones/manifest.yaml", manifest);
        lab.scratch.write("zones/corp.zone", file);
        let config = format!(
            "listen: [{{address: \"0.0.0.0:53\"}}, {{address: \"[::]:53\"}}]\ncontrol_plane: {{directory: zones}}\n\
             state_directory: state\ninternet_resolver: none\n{}",
            tsig_keys()
        );
        lab.scratch.write("zonal.yaml", config);
        let zonal = Servers::zonal(&lab);
        Servers { lab, zonal, _others: Vec::new() }
    }

    fn zonal(lab: &Lab) -> Process {
        let mut zonal = lab.start("zonal", &[ZONAL, "serve", "--config", "zonal.yaml"]);
        wait_until("zonal answers", || {
            zonal.assert_alive();
            (lab.dig("zonal", "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
        });
        zonal
    }

    fn with_secondaries(mut self) -> Servers {
        let (name, secret) = TRANSFER;
        let directory = self.lab.scratch.path().display().to_string();
        fs::create_dir_all(format!("{directory}/bind")).unwrap();
        fs::create_dir_all(format!("{directory}/knot")).unwrap();
        let bind = format!(
            "options {{ directory \"{directory}/bind\"; pid-file none; listen-on {{ any; }}; listen-on-v6 {{ none; }}; \
             recursion no; dnssec-validation no; notify no; minimal-responses yes; }};\n\
             controls {{ }};\n\
             key {name} {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n\
             server {ZONAL_AT} {{ keys {{ {name}; }}; }};\n\
             zone corp.example {{ type secondary; file \"corp.db\"; primaries {{ {ZONAL_AT} key {name}; }}; \
             allow-transfer {{ any; }}; }};\n"
        );
        let bind = self.lab.scratch.write("named.conf", bind);
        let knot = format!(
            "server:\n  rundir: {directory}/knot\n  listen: 0.0.0.0@53\ndatabase:\n  storage: {directory}/knot\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n\
             remote:\n  - id: zonal\n    address: {ZONAL_AT}\n    key: {name}\n\
             acl:\n  - id: notify\n    address: {ZONAL_AT}\n    key: {name}\n    action: notify\n\
             \x20 - id: all\n    action: transfer\n\
             zone:\n  - domain: corp.example\n    storage: {directory}/knot\n    master: zonal\n    acl: [notify, all]\n"
        );
        let knot = self.lab.scratch.write("knot.conf", knot);
        let bind = self.lab.start("bind", &["named", "-g", "-4", "-c", bind.to_str().unwrap()]);
        let knot = self.lab.start("knot", &["knotd", "-c", knot.to_str().unwrap()]);
        self._others = vec![bind, knot];
        self
    }

    /// The output of dig on a node, with all comments.
    fn dig(&self, node: &str, arguments: &str) -> String {
        let command: Vec<&str> = ["dig", "+tries=1", "+noall", "+comments", "+answer"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        let output = self.lab.run(node, &command);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// All records of the zone that a server transfers, sorted.
    fn records(&self, server: &str, key: Option<(&str, &str)>) -> Vec<String> {
        let key = key.map_or(String::new(), |key| format!("-y {}", key_of(key)));
        let arguments = format!("-b 10.1.0.8 @{server} corp.example AXFR +noall +answer {key}");
        let command: Vec<&str> = ["dig"].into_iter().chain(arguments.split_whitespace()).collect();
        let output = String::from_utf8_lossy(&self.lab.run("client", &command).stdout).into_owned();
        let lines = output.lines().filter(|line| !line.starts_with(';') && !line.contains("TSIG"));
        let mut lines: Vec<String> =
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|l| !l.is_empty()).collect();
        lines.sort();
        lines
    }

    fn serial(&self, server: &str) -> u32 {
        let reply = self.lab.run("client", &["dig", "+short", "+time=2", &format!("@{server}"), "corp.example", "SOA"]);
        let text = String::from_utf8_lossy(&reply.stdout).into_owned();
        text.split_whitespace().nth(2).and_then(|serial| serial.parse().ok()).unwrap_or(0)
    }

    /// Runs nsupdate on a node.
    fn nsupdate(&self, node: &str, key: Option<(&str, &str)>, lines: &str) -> Output {
        let script = format!("server {ZONAL_AT}\nzone corp.example\n{lines}\nsend\nanswer\n");
        let file = self.lab.scratch.write("script", script);
        let key = key.map(key_of);
        let mut command = vec!["nsupdate", "-t", "10"];
        command.extend(key.iter().flat_map(|key| ["-y", key]));
        command.push(file.to_str().unwrap());
        self.lab.run(node, &command)
    }

    /// Sends an update. Returns its status.
    fn update(&self, lines: &str) -> String {
        status(&self.nsupdate("client", Some(UPDATE), lines))
    }

    fn metric(&self, line: &str) -> f64 {
        let (_, text) =
            self.lab.inside("zonal", || http_get("127.0.0.1:9153".parse().unwrap(), "/metrics")).expect("metrics");
        text.lines().filter_map(|other| other.strip_prefix(line)?.trim().parse::<f64>().ok()).sum()
    }
}

fn status(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    status.map_or_else(|| format!("no status: {text}"), String::from)
}

const FILE: &str = "$TTL 300\n@ SOA ns hostmaster 2026010101 3600 900 604800 60\n@ NS ns\nns A 10.1.0.53\n";

const MANIFEST: &str = r#"
vpcs: {vpc-a: {region: us-east-1, cidr_blocks: [10.1.0.0/16, "fd00:1::/64"]}}
private_hosted_zones:
  Z0CORP:
    name: corp.example
    vpc_ids: [vpc-a]
    file: corp.zone
    records:
      - {name: www, type: A, ttl: 60, records: [10.1.0.80]}
      - {name: also, type: A, alias: {name: www.corp.example}}
    secondaries:
      - {ip: 10.1.0.61, tsig_key: transfer}
      - {ip: 10.1.0.62, tsig_key: transfer}
    allow_transfer: [{cidr_block: 10.1.0.8/32}, {tsig_key: transfer, cidr_block: 10.0.0.0/8}]
    allow_update: [{tsig_key: update}]
"#;

const PROGRAMS: &[&str] = &["ip", "dig", "setpriv", "sysctl", "nsupdate"];

#[test]
fn keeps_secondaries_equal_by_incremental_transfers() {
    if !can_run(&[PROGRAMS, &["named", "knotd"]].concat()) {
        return;
    }
    let mut servers = Servers::start(MANIFEST, FILE).with_secondaries();
    let (bind, knot) = ("10.1.0.61", "10.1.0.62");
    let wait_for = |servers: &Servers, serial: u32| {
        for server in [bind, knot] {
            wait_until("the secondary has the zone", || (servers.serial(server) == serial).then_some(()));
        }
    };
    wait_for(&servers, 2_026_010_101);
    let whole = || servers.metric(r#"zonal_transfers_total{direction="out",result="axfr"}"#);
    let by_differences = || servers.metric(r#"zonal_transfers_total{direction="out",result="ixfr"}"#);
    let notified = || servers.metric(r#"zonal_notifies_total{direction="out",result="accepted"}"#);
    // A transfer is counted when it ends. The secondary may serve the zone before that.
    let at_first = wait_until("both transfers are counted", || Some(whole()).filter(|count| *count >= 2.0));

    // Half of the changes are updates, half are files. Every tenth round compares the secondaries.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut lines = vec![FILE.to_string()];
    for round in 0..50 {
        let mut script = Vec::new();
        for _ in 0..5 {
            let (name, value) = (draw(40), draw(200));
            script.push(match draw(4) {
                0 => format!("update delete n{name}.corp.example"),
                1 => format!("update delete n{name}.corp.example A"),
                2 => format!("update add n{name}.corp.example {} TXT \"{value}\"", 60 + value),
                _ => format!("update add n{name}.corp.example 60 A 10.1.1.{value}"),
            });
        }
        assert_eq!(servers.update(&script.join("\nsend\n")), "NOERROR", "{script:?}");
        for _ in 0..5 {
            let before = servers.serial(ZONAL_AT);
            lines.truncate(1 + draw(lines.len() as u64) as usize);
            lines.push(format!("f{} A 10.1.2.{}\nf{round} MX 10 n{}\n", draw(1000), draw(200), draw(40)));
            lines.dedup();
            servers.lab.scratch.write("zones/corp.zone", lines.concat());
            wait_until("the file is served", || (servers.serial(ZONAL_AT) != before).then_some(()));
        }
        if round % 10 == 9 {
            let serial = servers.serial(ZONAL_AT);
            wait_for(&servers, serial);
            let served = servers.records(ZONAL_AT, None);
            assert!(served.len() > 6, "{served:?}");
            assert_eq!(servers.records(bind, None), served);
            assert_eq!(servers.records(knot, None), served);
        }
    }
    // A slow secondary fetches several versions at once, but at least one before each comparison.
    wait_until("the secondaries have transferred differences", || (by_differences() >= 10.0).then_some(()));
    // The test itself transfers the whole zone five times. All other transfers are incremental.
    wait_until_equal("transfers of the whole zone", 5.0, || whole() - at_first);
    wait_until("the secondaries have accepted notifications", || (notified() >= 10.0).then_some(()));
    servers.zonal.assert_alive();

    // A restart does not change the serial. The next change does.
    let serial = servers.serial(ZONAL_AT);
    let served = servers.records(ZONAL_AT, None);
    drop(std::mem::replace(&mut servers.zonal, Process::start(&["true"], &Scratch::new(), "true")));
    servers.zonal = Servers::zonal(&servers.lab);
    assert_eq!((servers.serial(ZONAL_AT), servers.records(ZONAL_AT, None)), (serial, served));
    assert_eq!(servers.update("update add last.corp.example 60 A 10.1.1.1"), "NOERROR");
    assert_eq!(servers.serial(ZONAL_AT), serial.wrapping_add(1));
    wait_for(&servers, serial.wrapping_add(1));
}

#[test]
fn allows_transfers_by_address_and_key() {
    if !can_run(PROGRAMS) {
        return;
    }
    let servers = Servers::start(MANIFEST, FILE);
    let (right, other) = (format!("-y {}", key_of(TRANSFER)), format!("-y {}", key_of(OTHER)));
    let wrong = format!("-y {}", key_of((TRANSFER.0, OTHER.1)));
    let unknown = format!("-y {}", key_of(("unknown", OTHER.1)));
    for (node, from, key, expected) in [
        ("client", "10.1.0.7", &right, "NOERROR"),
        ("client", "10.1.0.7", &String::new(), "REFUSED"),
        ("client", "10.1.0.7", &other, "REFUSED"),
        ("client", "10.1.0.7", &wrong, "NOTAUTH"),
        ("client", "10.1.0.7", &unknown, "NOTAUTH"),
        ("client", "10.1.0.8", &String::new(), "NOERROR"),
        // zonal refuses an invalid signature even where no key is required.
        ("client", "10.1.0.8", &wrong, "NOTAUTH"),
        ("stranger", "192.0.2.7", &right, "REFUSED"),
        // A secondary with a key, from its address.
        ("bind", "10.1.0.61", &right, "NOERROR"),
        ("bind", "10.1.0.61", &String::new(), "REFUSED"),
    ] {
        for how in ["AXFR", "IXFR=1 +tcp", "IXFR=1 +notcp"] {
            let text = servers.dig(node, &format!("-b {from} @{ZONAL_AT} corp.example {how} {key}"));
            let soas = text.lines().filter(|line| line.contains("SOA") && !line.starts_with(';')).count();
            // Over UDP, the answer has only the SOA record.
            let wanted = if expected != "NOERROR" { 0 } else { 2 - usize::from(how.contains("+notcp")) };
            assert_eq!(soas, wanted, "{node} {from} {key} {how}: {text}");
            // dig prints no status of a refused AXFR.
            let is_told = text.contains(&format!("status: {expected}")) || text.contains("Transfer failed");
            assert!(is_told, "{node} {from} {key} {how}: {text}");
        }
    }
    // Only a client with a key learns that zonal does not serve a zone.
    for (key, expected) in [(&String::new(), "REFUSED"), (&right, "NOTAUTH")] {
        let text = servers.dig("client", &format!("@{ZONAL_AT} elsewhere.example IXFR=1 +notcp {key}"));
        assert!(text.contains(&format!("status: {expected}")), "{text}");
    }
    servers.zonal.wait_for_log("no zone corp.example. is open to 10.1.0.7 without a key");
    // A client that may transfer may also query the SOA record, even without a view. A signed query
    // gets a signed answer.
    let on_premises = servers.dig("stranger", &format!("@{ZONAL_AT} corp.example SOA {right}"));
    assert!(on_premises.contains("status: REFUSED"), "{on_premises}");
    for query in ["corp.example SOA", "www.corp.example A", "no.corp.example A"] {
        let text = servers.dig("client", &format!("@{ZONAL_AT} {query} {right}"));
        assert!(!text.contains("verify") && text.contains("status: N"), "{text}");
    }
    let bad = servers.dig("client", &format!("@{ZONAL_AT} www.corp.example A {wrong}"));
    assert!(bad.contains("NOTAUTH") && bad.contains("verify"), "{bad}");
}

/// The rfc2136 provider of external-dns lists records by AXFR. For each endpoint, it removes the
/// old records and adds the new records, together with TXT records that name the owner.
#[test]
fn accepts_updates_of_external_dns_and_certbot() {
    if !can_run(PROGRAMS) {
        return;
    }
    let manifest = MANIFEST.replace("allow_transfer: [", "allow_transfer: [{tsig_key: update}, ");
    let mut servers = Servers::start(&manifest, FILE);
    let listed = |servers: &Servers| servers.records(ZONAL_AT, Some(UPDATE));
    let has = |servers: &Servers, line: &str| listed(servers).iter().any(|other| other == line);
    assert!(!listed(&servers).iter().any(|line| line.contains("heritage")));
    let owned = "\"heritage=external-dns,external-dns/owner=default,external-dns/resource=service/default/nginx\"";
    let created =
        format!("update add nginx.corp.example 300 A 10.1.0.90\nupdate add a-nginx.corp.example 300 TXT {owned}");
    assert_eq!(servers.update(&created), "NOERROR");
    assert!(has(&servers, "nginx.corp.example. 300 IN A 10.1.0.90"), "{:?}", listed(&servers));
    assert!(has(&servers, &format!("a-nginx.corp.example. 300 IN TXT {owned}")));
    let changed = format!(
        "update delete nginx.corp.example A 10.1.0.90\nupdate delete a-nginx.corp.example TXT {owned}\n\
         update add nginx.corp.example 300 A 10.1.0.91\nupdate add nginx.corp.example 300 A 10.1.0.92\n\
         update add a-nginx.corp.example 300 TXT {owned}"
    );
    assert_eq!(servers.update(&changed), "NOERROR");
    assert!(!has(&servers, "nginx.corp.example. 300 IN A 10.1.0.90"));
    assert!(has(&servers, "nginx.corp.example. 300 IN A 10.1.0.92"));
    let deleted = format!(
        "update delete nginx.corp.example A 10.1.0.91\nupdate delete nginx.corp.example A 10.1.0.92\n\
         update delete a-nginx.corp.example TXT {owned}"
    );
    assert_eq!(servers.update(&deleted), "NOERROR");
    assert!(!listed(&servers).iter().any(|line| line.contains("nginx")));

    // certbot queries the SOA record to find the zone, adds a TXT record, and removes it after the check.
    let soa = servers.lab.dig("client", &format!("@{ZONAL_AT} corp.example SOA +norec"));
    assert!(soa.flags.contains("aa") && soa.status == "NOERROR", "{soa:?}");
    let challenge = "_acme-challenge.www.corp.example";
    let token = "\"gfj9Xq-Rg85nM_dGiIk3Lq\"";
    assert_eq!(servers.update(&format!("update add {challenge} 120 TXT {token}")), "NOERROR");
    let query = |servers: &Servers| servers.lab.dig("client", &format!("@{ZONAL_AT} {challenge} TXT +norec"));
    assert_eq!(query(&servers).answer.len(), 1, "at once");
    assert_eq!(servers.update(&format!("update delete {challenge} TXT {token}")), "NOERROR");
    assert_eq!(query(&servers).status, "NXDOMAIN");

    // Prerequisites and their RCODEs.
    let serial = servers.serial(ZONAL_AT);
    for (lines, expected) in [
        ("prereq nxdomain www.corp.example\nupdate add www.corp.example 60 A 10.1.0.81", "YXDOMAIN"),
        ("prereq yxdomain no.corp.example\nupdate add no.corp.example 60 A 10.1.0.81", "NXDOMAIN"),
        ("prereq nxrrset www.corp.example A\nupdate add www.corp.example 60 A 10.1.0.81", "YXRRSET"),
        ("prereq yxrrset www.corp.example TXT\nupdate add www.corp.example 60 A 10.1.0.81", "NXRRSET"),
        ("prereq yxrrset www.corp.example A 10.1.0.81\nupdate add www.corp.example 60 A 10.1.0.82", "NXRRSET"),
        ("update add www.elsewhere.example 60 A 10.1.0.81", "NOTZONE"),
        ("update add also.corp.example 60 A 10.1.0.81", "REFUSED"),
        ("update delete no.corp.example A", "NOERROR"),
    ] {
        assert_eq!(servers.update(lines), expected, "{lines}");
        assert_eq!(servers.serial(ZONAL_AT), serial, "{lines}");
    }
    assert_eq!(
        servers.update("prereq yxrrset www.corp.example A 10.1.0.80\nupdate add www.corp.example 60 A 10.1.0.82"),
        "NOERROR"
    );
    assert_eq!(servers.serial(ZONAL_AT), serial + 1);

    // zonal refuses clients without the right key.
    let one = "update add intruder.corp.example 60 A 10.1.0.81";
    assert_eq!(status(&servers.nsupdate("client", None, one)), "REFUSED");
    assert_eq!(status(&servers.nsupdate("client", Some(OTHER), one)), "REFUSED");
    assert_eq!(status(&servers.nsupdate("client", Some(TRANSFER), one)), "REFUSED");
    let wrong = servers.nsupdate("client", Some((UPDATE.0, OTHER.1)), one);
    assert!(!wrong.status.success());
    assert!(!listed(&servers).iter().any(|line| line.contains("intruder")));

    // Updates override the files, also after a restart.
    let before = listed(&servers);
    drop(std::mem::replace(&mut servers.zonal, Process::start(&["true"], &Scratch::new(), "true")));
    servers.zonal = Servers::zonal(&servers.lab);
    assert_eq!(listed(&servers), before);
    servers.lab.scratch.write("zones/manifest.yaml", manifest.replace("10.1.0.80", "10.1.0.99"));
    servers.lab.scratch.write("zones/corp.zone", FILE.replace("ns A 10.1.0.53", "ns A 10.1.0.54"));
    wait_until("the file is served", || has(&servers, "ns.corp.example. 300 IN A 10.1.0.54").then_some(()));
    assert!(
        has(&servers, "www.corp.example. 60 IN A 10.1.0.82") && !has(&servers, "www.corp.example. 60 IN A 10.1.0.99")
    );
}

/// A zone of thousands of records needs several messages, each signed.
#[test]
fn transfers_large_zones_in_several_messages() {
    if !can_run(PROGRAMS) {
        return;
    }
    let mut file = FILE.to_string();
    (0..20_000).for_each(|number| file += &format!("host-{number} A 10.{}.{}.1\n", number / 250, number % 250));
    let servers = Servers::start(MANIFEST, &file);
    let served = servers.records(ZONAL_AT, None);
    assert_eq!(served.len(), 20_000 + 4 + 2, "with the SOA record twice");
    assert_eq!(servers.records(ZONAL_AT, Some(TRANSFER)), served);
    // A client that sends requests and never reads does not affect other clients.
    let greedy = servers.lab.inside("client", || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([10, 1, 0, 8], 0)).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([10, 1, 0, 53], 53)).into()).unwrap();
        let mut greedy = std::net::TcpStream::from(socket);
        let query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x04corp\x07example\0\0\xfc\0\x01";
        let framed = [&(query.len() as u16).to_be_bytes()[..], query].concat();
        greedy.write_all(&framed.repeat(50)).unwrap();
        greedy
    });
    assert_eq!(servers.records(ZONAL_AT, None), served);
    drop(greedy);
}

/// zonal refuses updates that it cannot write, and the log has the reason.
#[test]
fn refuses_updates_without_a_state_directory() {
    if !can_run(&["nsupdate", "dig", "setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let manifest = MANIFEST.replace("10.1.0.0/16", "127.0.0.0/8").replace("also", "also-here");
    scratch.write("zones/manifest.yaml", manifest);
    scratch.write("zones/corp.zone", FILE);
    let server = crate::harness::Server::start_with(&scratch.path().join("zones"), &tsig_keys());
    let script = format!(
        "server 127.0.0.1 {}\nzone corp.example\nupdate add x.corp.example 60 A 10.1.0.1\nsend\nanswer\n",
        server.port
    );
    let mut child = Command::new("nsupdate")
        .args(["-y", &key_of(UPDATE)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert_eq!(status(&child.wait_with_output().unwrap()), "REFUSED");
    server.process.wait_for_log("without a `state_directory` there is nowhere to keep it");
    server.wait_for_metric(&["zonal_updates_total", "refused"], 1.0);
}

/// TCP, TLS and QUIC carry transfers with each message signed. UDP and HTTPS do not carry
/// transfers.
#[test]
fn transfers_by_streams_only() {
    let scratch = Scratch::new();
    let mut file = FILE.to_string();
    (0..10_000).for_each(|number| file += &format!("host-{number} A 10.{}.{}.1\n", number / 250, number % 250));
    scratch.write("zones/manifest.yaml", MANIFEST.replace("10.1.0.0/16", "127.0.0.0/8"));
    scratch.write("zones/corp.zone", file);
    let manifest = fs::read_to_string(scratch.path().join("zones/manifest.yaml")).unwrap();
    scratch.write("zones/manifest.yaml", manifest.replace("cidr_block: 10.0.0.0/8", "cidr_block: 127.0.0.0/8"));
    let server = SecureServer::start(&scratch.path().join("zones"), &tsig_keys());
    let secret = data_encoding::BASE64.decode(TRANSFER.1.as_bytes()).unwrap();
    let key = Arc::new(Key::new(&Name::absolute(TRANSFER.0).unwrap(), TsigAlgorithm::HmacSha256, &secret));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (transport, word) in Transport::LABELS {
        let mut query = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04corp\x07example\0\0\xfc\0\x01".to_vec();
        let mut session = Session::request(&key, &mut query, now());
        let client = server.client("127.0.0.9");
        let messages = RUNTIME.block_on(async {
            let mut messages: Vec<Vec<u8>> = Vec::new();
            match transport {
                Transport::Tcp => {
                    let mut stream = client.tcp(transport).await;
                    send_stream(&mut stream, &query).await.unwrap();
                    while messages.last().is_none_or(|last| !is_last(last)) {
                        messages.push(receive_stream(&mut stream).await.unwrap());
                    }
                }
                Transport::Tls => {
                    let mut stream = client.tls(transport, "").await;
                    send_stream(&mut stream, &query).await.unwrap();
                    while messages.last().is_none_or(|last| !is_last(last)) {
                        messages.push(receive_stream(&mut stream).await.unwrap());
                    }
                }
                Transport::Quic => {
                    let connection = client.quic(transport).await;
                    let (mut send, mut recv) = connection.open_bi().await.unwrap();
                    send.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).await.unwrap();
                    send.finish().unwrap();
                    let octets = recv.read_to_end(10_000_000).await.unwrap();
                    let mut rest = &octets[..];
                    while let Some((length, tail)) = rest.split_first_chunk() {
                        let (message, tail) = tail.split_at(u16::from_be_bytes(*length).into());
                        messages.push(message.to_vec());
                        rest = tail;
                    }
                }
                _ => messages.push(client.ask(transport, &query).await),
            }
            messages
        });
        let mut records = 0;
        for message in &messages {
            let mut message = message.clone();
            let len = session.verify(&mut message, now()).unwrap_or_else(|distrust| panic!("{word}: {distrust}"));
            assert!(session.is_complete(), "each message is signed");
            let response = Response::read(&message[..len]).unwrap();
            let is_stream = matches!(transport, Transport::Tcp | Transport::Tls | Transport::Quic);
            assert_eq!(response.rcode, if is_stream { 0 } else { 5 }, "{word}");
            records += response.sections[0].len();
        }
        match transport {
            Transport::Tcp | Transport::Tls | Transport::Quic => {
                assert!(messages.len() > 3 && records == 10_000 + 4 + 2, "{word}: {} {records}", messages.len());
            }
            _ => assert_eq!((messages.len(), records), (1, 0), "{word}"),
        }
    }
}

/// Whether a message is the last one of a transfer, or an error.
fn is_last(message: &[u8]) -> bool {
    let response = Response::read(message).unwrap();
    let answer = &response.sections[0];
    response.rcode != 0 || answer.len() > 1 && answer.last().is_some_and(|record| record.rtype == 6)
}
