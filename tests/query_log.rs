//! The query log: in files, over sockets and HTTP, and with destinations that fail.

mod programs;

use crate::harness::{
    Process, Scratch, Server, can_run,
    fake::{Fake, Say},
    free_port,
    stub::Stub,
    wait_until, wait_until_equal,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// A manifest with two tenants that have the same zone names, and a hub that forwards. `logs` are
/// the query log configurations, and `port` is the port of the upstream server.
fn manifest(logs: &str, port: u16) -> String {
    format!(
        r#"
vpcs:
  vpc-a:
    owner_id: "111122223333"
    region: us-east-1
    cidr_blocks: [127.61.0.0/16]
    availability_zones: {{us-east-1a: use1-az1}}
    subnets: {{subnet-a: {{availability_zone_id: use1-az1, cidr_blocks: [127.61.0.0/24]}}}}
  vpc-b: {{region: us-east-1, cidr_blocks: [127.62.0.0/16]}}
on_premises_networks:
  dc: {{cidr_blocks: [127.63.0.0/16], vpc_ids: [vpc-a]}}
vpc_endpoint_services:
  sqs: {{owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.test, private_dns_names: [sqs.test]}}
vpc_endpoints:
  vpce-1:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc-a
    state: Available
    private_dns_enabled: true
    network_interfaces: [{{availability_zone_id: use1-az1, ipv4: 127.61.0.9}}]
private_hosted_zones:
  Z1:
    name: corp.test
    vpc_ids: [vpc-a, vpc-b]
    records:
      - {{name: www, type: A, ttl: 60, records: [192.0.2.1]}}
      - {{name: alias, type: CNAME, ttl: 5, records: [sqs.test.]}}
      - {{name: out, type: CNAME, ttl: 300, records: [www.far.test.]}}
      - {{name: mail, type: MX, ttl: 30, records: [10 www.corp.test.]}}
resolver_endpoints:
  rslvr-in: {{direction: INBOUND, vpc_id: vpc-a, ip_addresses: [{{ip: 127.61.0.53, availability_zone_id: use1-az1}}]}}
resolver_rules:
  rslvr-rr-far:
    domain_name: far.test
    rule_type: FORWARD
    target_ips: [{{ip: 127.0.0.1, port: {port}}}]
    vpc_ids: [vpc-a, vpc-b]
query_log_configs:
{logs}
"#
    )
}

/// A server with these logs, and the directory of its manifest. It forwards to `port`. `allow`
/// lists the permitted destinations that are not files.
fn server(logs: &str, port: u16, allow: &str) -> (Server, Scratch) {
    let scratch = Scratch::new();
    scratch.write("manifest.yaml", manifest(logs, port));
    let more = format!("query_log: {{directory: logs, allow: [{allow}]}}\n");
    (Server::start_with(scratch.path(), &more), scratch)
}

fn log_of(server: &Server, name: &str) -> PathBuf {
    server.scratch.path().join("logs").join(name)
}

/// The lines of a log, each a JSON object.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be incomplete.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(object).collect()
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn wait_for_lines(path: &Path, count: usize) -> Vec<Value> {
    let read = wait_until(&format!("{} has {count} lines", path.display()), || {
        Some(lines(path)).filter(|lines| lines.len() >= count)
    });
    assert_eq!(read.len(), count, "{}", path.display());
    read
}

fn ask(server: &Server, source: &str, question: &str) -> String {
    ask_at(server, source, "127.0.0.1", question)
}

fn ask_at(server: &Server, source: &str, local: &str, question: &str) -> String {
    Stub::new(source, (local, server.port)).ask(question).reply.status
}

/// Sends many queries for the corporate zone. Returns the number of answers.
fn ask_many(server: &Server, count: usize) -> usize {
    let questions: Vec<String> = (0..count).map(|number| format!("name-{number}.corp.test A")).collect();
    let stub = Stub::new("127.61.0.7", ("127.0.0.1", server.port));
    questions.chunks(500).map(|some| stub.volley(some, 20).len()).sum()
}

fn written(server: &Server, outcome: &str) -> f64 {
    server.metric(&["zonal_query_log_entries_total", outcome])
}

/// A server that answers each query with the same address.
fn upstream() -> Fake {
    Fake::start("127.0.0.1:0", |asked| vec![Say::Now(asked.address("192.0.2.7"))])
}

/// The name, type and RCODE of an entry, its answers, their sources, and other members of `zonal`.
type Expected<'a> = (&'a str, &'a str, &'a str, &'a [Value], &'a [Value], Value);

#[test]
fn entries_are_in_the_schema_of_route_53() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let fake = upstream();
    let logs = "  rqlc-1: {vpc_ids: [vpc-a], destination: {file: {path: below/a.log}}}";
    let (server, _files) = server(logs, fake.address.port(), "");
    let client = "127.61.0.7";
    let (path, mut count) = (log_of(&server, "below/a.log"), 0);
    for (question, status) in [
        ("www.corp.test A", "NOERROR"),
        ("alias.corp.test A", "NOERROR"),
        ("mail.corp.test MX +tcp", "NOERROR"),
        ("none.corp.test AAAA", "NXDOMAIN"),
        ("out.corp.test A", "NOERROR"),
        ("out.corp.test A", "NOERROR"),
        ("nobody.example TXT", "REFUSED"),
        ("ip-127-61-0-9.ec2.internal A", "NOERROR"),
    ] {
        assert_eq!(ask(&server, client, question), status, "{question}");
        // The test sends the queries one after another, because entries of several threads have no
        // order.
        count += 1;
        wait_for_lines(&path, count);
    }
    assert_eq!(ask_at(&server, "127.63.0.7", "127.61.0.53", "www.corp.test A"), "NOERROR");
    let entries = wait_for_lines(&path, 9);
    let record = |data: &str, kind: &str| json!({"Rdata": data, "Type": kind, "Class": "IN"});
    let by = |kind: &str, id: &str| json!({ kind: id });
    let in_zone = [by("zone", "Z1")];
    let www = [record("192.0.2.1", "A")];
    let out = [record("www.far.test.", "CNAME"), record("192.0.2.7", "A")];
    let forwarded = [by("zone", "Z1"), by("rule", "rslvr-rr-far")];
    let expected: [Expected; 9] = [
        ("www.corp.test.", "A", "NOERROR", &www, &in_zone, json!({"ttl": 60})),
        (
            "alias.corp.test.",
            "A",
            "NOERROR",
            &[record("sqs.test.", "CNAME"), record("127.61.0.9", "A")],
            &[by("zone", "Z1"), by("endpoint", "vpce-1")],
            json!({"ttl": 5}),
        ),
        ("mail.corp.test.", "MX", "NOERROR", &[record("10 www.corp.test.", "MX")], &in_zone, json!({"ttl": 30})),
        ("none.corp.test.", "AAAA", "NXDOMAIN", &[], &in_zone, json!({})),
        ("out.corp.test.", "A", "NOERROR", &out, &forwarded, json!({"ttl": 60, "cache": "miss"})),
        ("out.corp.test.", "A", "NOERROR", &out, &forwarded, json!({"cache": "hit"})),
        ("nobody.example.", "TXT", "REFUSED", &[], &[], json!({})),
        (
            "ip-127-61-0-9.ec2.internal.",
            "A",
            "NOERROR",
            &[record("127.61.0.9", "A")],
            &[json!({"autodefined": true})],
            json!({"ttl": 60}),
        ),
        (
            "www.corp.test.",
            "A",
            "NOERROR",
            &www,
            &in_zone,
            json!({"view": "vpc-a/dc", "path": "inbound-endpoint", "entry_point": "rslvr-in", "ttl": 60}),
        ),
    ];
    let members: BTreeSet<&str> = [
        "version",
        "account_id",
        "region",
        "vpc_id",
        "query_timestamp",
        "query_name",
        "query_type",
        "query_class",
        "rcode",
        "answers",
        "srcaddr",
        "srcport",
        "transport",
        "srcids",
        "zonal",
    ]
    .into();
    for (number, (entry, (name, qtype, rcode, answers, answered_by, zonal))) in entries.iter().zip(expected).enumerate()
    {
        assert_eq!(entry.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), members, "{entry}");
        let inbound = number == 8;
        let always = json!({
            "version": "1.100000", "account_id": "111122223333", "region": "us-east-1", "vpc_id": "vpc-a",
            "query_name": name, "query_type": qtype, "query_class": "IN", "rcode": rcode, "answers": answers,
            "srcaddr": if inbound { "127.63.0.7" } else { client },
            "transport": if qtype == "MX" { "TCP" } else { "UDP" },
            "srcids": if inbound { json!({"resolver_endpoint": "rslvr-in"}) } else { json!({}) },
        });
        for (member, value) in always.as_object().unwrap() {
            assert_eq!(entry[member], *value, "{member} of {entry}");
        }
        assert!(entry["srcport"].as_str().unwrap().parse::<u16>().unwrap() > 0, "{entry}");
        let time: jiff::Timestamp = entry["query_timestamp"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().as_second() - time.as_second() < 60, "{entry}");
        let told = &entry["zonal"];
        assert_eq!(told["answered_by"], json!(answered_by), "{entry}");
        assert!(told["latency_us"].as_f64().unwrap() > 0.0 && told["generation"].as_u64().unwrap() > 0, "{entry}");
        if !inbound {
            assert_eq!((&told["view"], &told["path"]), (&json!("vpc-a"), &json!("in-vpc")), "{entry}");
            assert_eq!(told["availability_zone_id"], "use1-az1", "{entry}");
            assert_eq!(told["subnet_id"], "subnet-a", "{entry}");
        }
        for (member, value) in zonal.as_object().unwrap() {
            assert_eq!(told[member], *value, "{member} of {entry}");
        }
    }
    assert_eq!(entries[6]["zonal"]["ede"]["code"], 20, "{}", entries[6]);
    assert!(entries[0]["zonal"].get("cache").is_none(), "nobody else was asked: {}", entries[0]);
}

/// The client and the entry point decide which logs record a query.
#[test]
fn a_log_has_queries_of_its_own_networks_only() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let logs = "  a: {vpc_ids: [vpc-a], destination: {file: {path: a}}}
  b: {vpc_ids: [vpc-b], destination: {file: {path: b}}}
  dc: {on_premises_network_ids: [dc], destination: {file: {path: dc}}}
  nobody: {destination: {file: {path: nobody}}}";
    let (server, _files) = server(logs, free_port(), "");
    for _ in 0..10 {
        ask(&server, "127.61.0.7", "of-a.corp.test A");
        ask(&server, "127.62.0.7", "of-b.corp.test A");
        ask(&server, "127.64.0.7", "of-a-stranger.corp.test A");
        ask_at(&server, "127.63.0.7", "127.61.0.53", "of-dc.corp.test A");
        ask_at(&server, "127.62.0.7", "127.61.0.53", "of-b-at-the-wrong-entry-point.corp.test A");
    }
    let names = |log: &str, count: usize| -> BTreeSet<String> {
        let entries = wait_for_lines(&log_of(&server, log), count);
        entries.iter().map(|entry| entry["query_name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names("a", 20), ["of-a.corp.test.".into(), "of-dc.corp.test.".into()].into());
    assert_eq!(names("b", 10), ["of-b.corp.test.".into()].into());
    assert_eq!(names("dc", 10), ["of-dc.corp.test.".into()].into());
    assert!(!log_of(&server, "nobody").exists());
}

/// A control character in a name reaches no terminal, and splits no line.
#[test]
fn escapes_names() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (server, _files) = server("  a: {vpc_ids: [vpc-a], destination: {file: {path: a}}}", free_port(), "");
    let label = b"\x1b[31m\n\"\\\0\x7f\xff.x";
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    query.push(label.len() as u8);
    query.extend(label);
    query.extend(b"\x04corp\x04test\0\0\x01\0\x01");
    let socket = UdpSocket::bind("127.61.0.7:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&query, ("127.0.0.1", server.port)).unwrap();
    socket.recv(&mut [0; 512]).unwrap();
    let path = log_of(&server, "a");
    let entries = wait_for_lines(&path, 1);
    let expected = r#"\027[31m\010\"\\\000\127\255\.x.corp.test."#;
    assert_eq!(entries[0]["query_name"], expected);
    let octets = fs::read(&path).unwrap();
    assert!(octets[..octets.len() - 1].iter().all(|octet| (0x20..0x7f).contains(octet)), "{octets:?}");
}

#[test]
fn rotates_and_reopens_files() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let logs = "  a: {vpc_ids: [vpc-a], destination: {file: {path: a, max_octets: 65536, keep: 2}}}";
    let (server, _files) = server(logs, free_port(), "");
    let count = ask_many(&server, 1000);
    wait_until("all is written", || (written(&server, "written") >= count as f64).then_some(()));
    wait_until_equal("the files", ["a", "a.1", "a.2"].map(String::from).to_vec(), || {
        let entries = fs::read_dir(server.scratch.path().join("logs")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    });
    for name in ["a", "a.1", "a.2"] {
        let path = log_of(&server, name);
        wait_until(name, || (fs::read_to_string(&path).unwrap().ends_with('\n')).then_some(()));
        assert!(!lines(&path).is_empty(), "{name}");
    }
    // logrotate renames the file, and then sends a signal.
    let (path, moved) = (log_of(&server, "a"), log_of(&server, "moved"));
    fs::rename(&path, &moved).unwrap();
    let before = lines(&moved).len();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server.process.id() as i32).unwrap(),
        rustix::process::Signal::HUP,
    )
    .unwrap();
    wait_until("there is a new file", || {
        ask(&server, "127.61.0.7", "www.corp.test A");
        (!lines(&path).is_empty()).then_some(())
    });
    let more = lines(&moved).len() - before;
    assert_eq!(lines(&path).iter().filter(|entry| entry["query_name"] != "www.corp.test.").count(), 0, "{more}");
}

/// The lines that arrived over connections.
type Lines = Arc<Mutex<Vec<String>>>;

fn collect(stream: impl Read + Send + 'static, lines: &Lines) {
    let lines = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// Receives batches by HTTP, and answers each with a status.
fn http_server(listener: TcpListener, status: &'static str, lines: &Lines) {
    let lines = lines.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = lines.clone();
            thread::spawn(move || {
                let mut output = stream.try_clone().unwrap();
                let mut input = BufReader::new(stream);
                loop {
                    let (mut length, mut head) = (0, String::new());
                    loop {
                        let mut line = String::new();
                        match input.read_line(&mut line) {
                            Ok(1..) if line == "\r\n" => break,
                            Ok(1..) => {}
                            _ => return,
                        }
                        let lower = line.to_ascii_lowercase();
                        if let Some(value) = lower.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        head += &lower;
                    }
                    assert!(head.starts_with("post /logs http/1.1") && head.contains("application/x-ndjson"), "{head}");
                    let mut body = vec![0; length];
                    input.read_exact(&mut body).unwrap();
                    if status.starts_with('2') {
                        let text = String::from_utf8(body).unwrap();
                        lines.lock().unwrap().extend(text.lines().map(String::from));
                    }
                    write!(output, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
}

#[test]
fn entries_go_to_stdout_sockets_and_http() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let [unix, tcp, http, bad] = [(); 4].map(|()| Lines::default());
    let socket = scratch.path().join("log.sock");
    let unix_listener = UnixListener::bind(&socket).unwrap();
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (tcp_listener, http_listener, bad_listener) = (listen(), listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (tcp_port, http_port, bad_port) = (port(&tcp_listener), port(&http_listener), port(&bad_listener));
    let lines_of_unix = unix.clone();
    thread::spawn(move || unix_listener.incoming().for_each(|stream| collect(stream.unwrap(), &lines_of_unix)));
    let lines_of_tcp = tcp.clone();
    thread::spawn(move || tcp_listener.incoming().for_each(|stream| collect(stream.unwrap(), &lines_of_tcp)));
    http_server(http_listener, "204 No Content", &http);
    http_server(bad_listener, "503 Service Unavailable", &bad);
    let socket = socket.display();
    let logs = format!(
        "  out: {{vpc_ids: [vpc-a], destination: {{stdout: {{}}}}}}
  unix: {{vpc_ids: [vpc-a], destination: {{unix: \"{socket}\"}}}}
  tcp: {{vpc_ids: [vpc-a], destination: {{tcp: \"127.0.0.1:{tcp_port}\"}}}}
  http: {{vpc_ids: [vpc-a], destination: {{http: \"http://127.0.0.1:{http_port}/logs\"}}}}
  bad: {{vpc_ids: [vpc-a], destination: {{http: \"http://127.0.0.1:{bad_port}/logs\"}}}}
  forbidden: {{vpc_ids: [vpc-a], destination: {{tcp: \"127.0.0.1:9\"}}}}"
    );
    let allow = format!(
        "stdout, \"unix:{socket}\", \"tcp:127.0.0.1:{tcp_port}\", \"http://127.0.0.1:{http_port}/logs\", \
         \"http://127.0.0.1:{bad_port}/logs\""
    );
    let (server, _files) = server(&logs, free_port(), &allow);
    let asked: BTreeSet<String> = (0..30).map(|number| format!("n{number}.corp.test.")).collect();
    for name in &asked {
        assert_eq!(ask(&server, "127.61.0.7", &format!("{name} A")), "NXDOMAIN");
    }
    for (what, lines) in [("unix", &unix), ("tcp", &tcp), ("http", &http)] {
        wait_until(&format!("all has come by {what}"), || (lines.lock().unwrap().len() >= asked.len()).then_some(()));
        let names: BTreeSet<String> =
            lines.lock().unwrap().iter().map(|line| object(line)["query_name"].as_str().unwrap().to_string()).collect();
        assert_eq!(names, asked, "{what}");
    }
    wait_until("all is on standard output", || {
        let log = server.process.log();
        (log.lines().filter(|line| line.starts_with("{\"version\"")).count() >= asked.len()).then_some(())
    });
    let count = |config: &str, outcome: &str| {
        server.metric(&["zonal_query_log_entries_total", &format!("config=\"{config}\""), &format!("\"{outcome}\"")])
    };
    wait_until("what has failed is counted", || (count("bad", "dropped") == 30.0).then_some(()));
    server.wait_for_metric(&["zonal_query_log_failed", "\"bad\""], 1.0);
    wait_until_equal("what is forbidden is counted", (30.0, 0.0), || {
        (count("forbidden", "not_allowed"), count("forbidden", "written"))
    });
    server.process.wait_for_log("this node does not list `tcp:127.0.0.1:9` in `query_log.allow`");
}

/// At first the socket does not exist, then its server does not read, and then it reads.
#[test]
fn a_dead_destination_delays_no_query() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let socket = scratch.path().join("log.sock");
    let logs = format!("  a: {{vpc_ids: [vpc-a], destination: {{unix: \"{}\"}}}}", socket.display());
    let (server, _files) = server(&logs, free_port(), &format!("\"unix:{}\"", socket.display()));
    assert_eq!(ask_many(&server, 1000), 1000);
    wait_until("the entries are counted", || (written(&server, "dropped") == 1000.0).then_some(()));
    server.wait_for_metric(&["zonal_query_log_failed"], 1.0);
    let event = format!("query log output failed log=\"a\" error=unix:{}: No such file", socket.display());
    server.process.wait_for_log(&event);

    let listener = UnixListener::bind(&socket).unwrap();
    wait_until("it is stuck", || {
        assert_eq!(ask_many(&server, 1000), 1000);
        (written(&server, "dropped") > 2000.0).then_some(())
    });

    let lines = Lines::default();
    let all = lines.clone();
    thread::spawn(move || listener.incoming().for_each(|stream| collect(stream.unwrap(), &all)));
    wait_until("entries come", || {
        assert_eq!(ask(&server, "127.61.0.7", "last.corp.test A"), "NXDOMAIN");
        let is_there = lines.lock().unwrap().iter().any(|line| line.contains("last.corp.test."));
        (is_there && server.metric(&["zonal_query_log_failed"]) == 0.0).then_some(())
    });
}

/// A file system that is unmounted when the test ends.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, kilobytes: u32) -> Mount {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={kilobytes}k");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status().unwrap();
        assert!(status.success(), "{} cannot be mounted", path.display());
        Mount(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_delays_no_query() {
    if !can_run(&["setpriv", "mount", "umount"]) {
        return;
    }
    let scratch = Scratch::new();
    let mount = Mount::new(scratch.path().join("full"), 200);
    let manifest = manifest("  a: {vpc_ids: [vpc-a], destination: {file: {path: a}}}", free_port());
    scratch.write("zones/manifest.yaml", manifest);
    let more = format!("query_log: {{directory: \"{}\"}}\n", mount.0.display());
    let server = Server::start_with(&scratch.path().join("zones"), &more);
    assert_eq!(ask_many(&server, 3000), 3000);
    let path = mount.0.join("a");
    wait_until("all is counted", || {
        (written(&server, "written") + written(&server, "dropped") == 3000.0).then_some(())
    });
    assert!(written(&server, "dropped") > 500.0);
    // One short batch may still fit into the file system. The next one does not.
    wait_until("the failure is reported", || {
        ask(&server, "127.61.0.7", "www.corp.test A");
        (server.metric(&["zonal_query_log_failed"]) == 1.0).then_some(())
    });
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "no line is cut off");
    // The last batches may not be written yet.
    wait_until("what is counted is there", || {
        (lines(&path).len() == written(&server, "written") as usize).then_some(())
    });
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    wait_until("it is written again", || {
        ask(&server, "127.61.0.7", "www.corp.test A");
        (server.metric(&["zonal_query_log_failed"]) == 0.0 && !lines(&path).is_empty()).then_some(())
    });
    drop(server);
}

#[test]
fn applies_sampling_limits_filters_and_privacy() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let logs = "  none: {vpc_ids: [vpc-a], destination: {file: {path: none}}, sampling: 0}
  some: {vpc_ids: [vpc-a], destination: {file: {path: some}}, sampling: 0.3}
  capped: {vpc_ids: [vpc-a], destination: {file: {path: capped}}, max_per_second: 5}
  good: {vpc_ids: [vpc-a], destination: {file: {path: good}}, rcodes: [NOERROR], client_address: truncated}
  bad: {vpc_ids: [vpc-a], destination: {file: {path: bad}}, rcodes: [servfail, REFUSED], client_address: none}
  slow: {vpc_ids: [vpc-a], destination: {file: {path: slow}}, slower_than_ms: 300}";
    let fake = Fake::start("127.0.0.1:0", |asked| {
        let answer = asked.address("192.0.2.7");
        match asked.label() {
            label if label.eq_ignore_ascii_case("slow") => vec![Say::Later(Duration::from_millis(600), answer)],
            _ => vec![Say::Now(answer)],
        }
    });
    let (server, _files) = server(logs, fake.address.port(), "");
    let count = ask_many(&server, 1000);
    assert_eq!(count, 1000);
    assert_eq!(ask(&server, "127.61.0.7", "www.corp.test A"), "NOERROR");
    assert_eq!(ask(&server, "127.61.0.7", "nobody.example A"), "REFUSED");
    assert_eq!(ask(&server, "127.61.0.7", "slow.far.test A"), "NOERROR");
    let slow = wait_for_lines(&log_of(&server, "slow"), 1);
    assert_eq!(slow[0]["query_name"], "slow.far.test.");
    assert!(slow[0]["zonal"]["latency_us"].as_f64().unwrap() > 500_000.0, "{}", slow[0]);
    let good = wait_for_lines(&log_of(&server, "good"), 2);
    assert_eq!((&good[0]["srcaddr"], good[0].get("srcport")), (&json!("127.61.0.0"), None), "{}", good[0]);
    let bad = wait_for_lines(&log_of(&server, "bad"), 1);
    assert_eq!((bad[0].get("srcaddr"), bad[0].get("srcport")), (None, None), "{}", bad[0]);
    let metric = |config: &str, outcome: &str| {
        server.metric(&["zonal_query_log_entries_total", &format!("config=\"{config}\""), &format!("\"{outcome}\"")])
    };
    // The expected share, with six standard deviations.
    let some = wait_until("the sample is written", || {
        let some = lines(&log_of(&server, "some")).len();
        (some > 0 && some as f64 == metric("some", "written")).then_some(some)
    });
    assert!((210..=390).contains(&some), "{some} of 1003");
    let over = wait_until("the cap is counted", || {
        let (over, written) = (metric("capped", "over_rate"), metric("capped", "written"));
        (over + written == 1003.0).then_some(over)
    });
    assert!(over > 0.0, "1003 queries do not take 200 seconds");
    assert!(!log_of(&server, "none").exists());
}

/// A changed configuration applies to later queries. A removed log leaves no metric.
#[test]
fn logs_follow_the_manifest() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let write = |logs: &str| scratch.write("manifest.yaml", manifest(logs, 9));
    write("  {}");
    let server = Server::start_with(scratch.path(), "query_log: {directory: logs}\n");
    let ask_as = |name: &str| assert_eq!(ask(&server, "127.61.0.7", &format!("{name}.corp.test A")), "NXDOMAIN");
    let mut generation = 1;
    let mut serve = |logs: &str| {
        write(logs);
        generation += 1;
        server.wait_for_metric(&["zonal_generation"], f64::from(generation));
    };
    ask_as("before");
    serve("  a: {vpc_ids: [vpc-a], destination: {file: {path: first}}}");
    ask_as("first");
    wait_for_lines(&log_of(&server, "first"), 1);
    serve("  a: {vpc_ids: [vpc-a], destination: {file: {path: second}}, client_address: none}");
    ask_as("second");
    serve("  b: {vpc_ids: [vpc-a], destination: {file: {path: third}}}");
    ask_as("third");
    assert_eq!(wait_for_lines(&log_of(&server, "second"), 1)[0]["query_name"], "second.corp.test.");
    assert_eq!(wait_for_lines(&log_of(&server, "third"), 1)[0]["query_name"], "third.corp.test.");
    assert_eq!(lines(&log_of(&server, "first")).len(), 1);
    wait_until("the ended log has no metric", || (server.metric(&["config=\"a\""]) == 0.0).then_some(()));
    serve("  {}");
    ask_as("after");
    serve("  b: {vpc_ids: [vpc-a], destination: {file: {path: third}}}");
    ask_as("again");
    wait_for_lines(&log_of(&server, "third"), 2);
}

/// zonal writes all entries before it ends.
#[test]
fn writes_all_entries_at_the_end() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (mut server, _files) = server("  a: {vpc_ids: [vpc-a], destination: {file: {path: a}}}", free_port(), "");
    let count = ask_many(&server, 500);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server.process.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    wait_until("the server ends", || server.process.ended());
    assert_eq!(lines(&log_of(&server, "a")).len(), count);
}

/// The number of times that the writer has waited since the start.
fn waits_of_the_writer(server: &Server) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap().flatten();
    let is_writer = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "query-log");
    let writer = threads.map(|thread| thread.path()).find(is_writer).expect("a writer");
    let status = fs::read_to_string(writer.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().unwrap()
}

/// Without queries, the writer seldom looks for entries. The first entry after a pause is written as soon as any other one.
#[test]
fn a_quiet_log_costs_little_and_delays_nothing() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (server, _files) = server("  a: {vpc_ids: [vpc-a], destination: {file: {path: a}}}", free_port(), "");
    for count in 1..=2 {
        assert_eq!(ask(&server, "127.61.0.7", "www.corp.test A"), "NOERROR");
        wait_for_lines(&log_of(&server, "a"), count);
        let waits = |time| {
            let before = waits_of_the_writer(&server);
            thread::sleep(time);
            waits_of_the_writer(&server) - before
        };
        wait_until("the writer is quiet", || (waits(Duration::from_millis(500)) < 10).then_some(()));
    }
}
