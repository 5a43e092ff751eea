//! DNS Firewall events at an HTTP server that accepts, refuses or ignores them.

use crate::harness::{Process, Scratch, Server, can_run, free_port, wait_until};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The behaviour of the server.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Answers with this status.
    Status(u16),
    /// Reads the request, and never answers.
    Silent,
}

/// An HTTP server that keeps the bodies of requests, with the time of each.
struct Receiver {
    port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    bodies: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Receiver {
    fn start(behaviour: Behaviour) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Receiver { port, behaviour: Arc::new(Mutex::new(behaviour)), bodies: Arc::default() };
        let (behaviour, bodies) = (receiver.behaviour.clone(), receiver.bodies.clone());
        thread::spawn(move || {
            let mut silent = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let Some(body) = read_request(&mut stream) else { continue };
                bodies.lock().unwrap().push((Instant::now(), body));
                let behaviour = *behaviour.lock().unwrap();
                match behaviour {
                    Behaviour::Status(status) => {
                        let _ = write!(
                            stream,
                            "HTTP/1.1 {status} Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        );
                    }
                    Behaviour::Silent => silent.push(stream),
                }
            }
        });
        receiver
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn config(&self, deduplicate_seconds: u32) -> String {
        let url = format!("http://127.0.0.1:{}/events?secret", self.port);
        format!("firewall: {{events: {{url: \"{url}\", deduplicate_seconds: {deduplicate_seconds}}}}}\n")
    }

    fn requests(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    /// All events of all requests.
    fn events(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().flat_map(|(_, body)| body["events"].as_array().unwrap().clone()).collect()
    }
}

/// The JSON of a POST request.
fn read_request(stream: &mut TcpStream) -> Option<Value> {
    let (mut head, mut octet) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet).ok()?;
        head.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(
        head.starts_with("post /events?secret http/1.1\r\n") && head.contains("content-type: application/json"),
        "{head}"
    );
    let len = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

const MANIFEST: &str = r#"
vpcs:
  a: {owner_id: "111122223333", region: us-east-1, cidr_blocks: [127.96.0.0/16]}
  b: {region: us-east-1, cidr_blocks: [127.95.0.0/16]}
private_hosted_zones:
  Z1: {name: example, vpc_ids: [a, b], records: [{name: "*", type: A, ttl: 60, records: [10.0.0.1]}]}
firewall_domain_lists:
  bad: {domains: ["*.bad.example"]}
  odd: {domains: [odd.example]}
  good: {domains: [good.example]}
firewall_rule_groups:
  base:
    rules:
      - {name: trial, priority: 1, action: BLOCK, firewall_domain_list_id: good, shadow: true}
      - {name: good, priority: 2, action: ALLOW, firewall_domain_list_id: good}
      - {name: malware, priority: 3, action: BLOCK, firewall_domain_list_id: bad, block_response: NXDOMAIN}
      - {name: odd, priority: 4, action: ALERT, firewall_domain_list_id: odd}
    vpc_associations: [{vpc_id: a, priority: 100}, {vpc_id: b, priority: 100}]
"#;

const A: &str = "127.96.0.7";
const B: &str = "127.95.0.7";

fn start(more: &str) -> (Server, Scratch) {
    let directory = Scratch::new();
    directory.write("manifest.yaml", MANIFEST);
    (Server::start_with(directory.path(), more), directory)
}

/// Asks for a name, and returns the status.
fn ask(server: &Server, source: &str, name: &str) -> String {
    let port = server.port.to_string();
    let output =
        Command::new("dig").args(["-b", source, "@127.0.0.1", "-p", &port, "+tries=3", name]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or(&text).into()
}

fn count(server: &Server, outcome: &str) -> f64 {
    server.metric(&["zonal_firewall_events_total", &format!("outcome=\"{outcome}\"")])
}

#[test]
fn blocked_and_reported_queries_are_posted_once_in_a_while() {
    if !can_run(&["dig"]) {
        return;
    }
    let receiver = Receiver::start(Behaviour::Status(200));
    let (server, _directory) = start(&receiver.config(4));
    for name in ["x.bad.example", "x.bad.example", "y.bad.example", "good.example", "fine.example", "odd.example"] {
        let expected = if name.contains("bad") { "NXDOMAIN" } else { "NOERROR" };
        assert_eq!(ask(&server, A, name), expected, "{name}");
    }
    ask(&server, B, "z.bad.example");
    let first = Instant::now();
    // One event for the domain in each VPC, and one for the reported name.
    server.wait_for_metric(&["zonal_firewall_events_total", "sent"], 3.0);
    server.wait_for_metric(&["zonal_firewall_events_total", "repeated"], 2.0);
    let events = receiver.events();
    let event = events.iter().find(|event| event["query_name"] == "x.bad.example.").expect("the first query");
    for (pointer, expected) in [
        ("/vpc_id", "a"),
        ("/account_id", "111122223333"),
        ("/srcaddr", A),
        ("/query_type", "A"),
        ("/rcode", "NXDOMAIN"),
        ("/firewall_rule_action", "BLOCK"),
        ("/firewall_rule_group_id", "base"),
        ("/firewall_domain_list_id", "bad"),
        ("/zonal/view", "a"),
        ("/zonal/firewall/0/rule", "malware"),
        ("/zonal/firewall/0/entry", "*.bad.example."),
    ] {
        assert_eq!(event.pointer(pointer), Some(&Value::from(expected)), "{pointer} of {event}");
    }
    let reported = events.iter().find(|event| event["firewall_rule_action"] == "ALERT").expect("the reported query");
    assert_eq!(reported["query_name"], "odd.example.");
    assert!(receiver.bodies.lock().unwrap()[0].1["node"].is_string());

    // After the time, one more event.
    wait_until("another event is sent", || {
        ask(&server, A, "x.bad.example");
        (count(&server, "sent") >= 4.0).then_some(())
    });
    assert!(first.elapsed() > Duration::from_secs(2), "after {:?}", first.elapsed());
    assert_eq!(count(&server, "lost"), 0.0);
}

#[test]
fn events_wait_for_a_server_that_fails_and_no_query_waits() {
    if !can_run(&["dig"]) {
        return;
    }
    let receiver = Receiver::start(Behaviour::Status(500));
    let (server, _directory) = start(&receiver.config(3600));
    ask(&server, A, "x.bad.example");
    wait_until("the event is sent twice", || (receiver.requests() >= 2).then_some(()));
    receiver.behave(Behaviour::Silent);
    let before = receiver.requests();
    wait_until("the event is sent to the silent server", || (receiver.requests() > before).then_some(()));
    let started = Instant::now();
    for number in 0..20 {
        assert_eq!(ask(&server, A, &format!("x.n{number}.bad.example")), "NXDOMAIN");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((count(&server, "sent"), count(&server, "lost")), (0.0, 0.0));
    receiver.behave(Behaviour::Status(204));
    server.wait_for_metric(&["zonal_firewall_events_total", "sent"], 1.0);
    // The pauses between the attempts become longer.
    let times: Vec<Instant> = receiver.bodies.lock().unwrap().iter().map(|(time, _)| *time).collect();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= Duration::from_secs(1) && pauses[1] >= Duration::from_secs(2), "{pauses:?}");
    for text in ["status 500", "the server is silent", "firewall events sent again"] {
        server.process.wait_for_log(text);
    }
    assert!(!server.process.log().contains("secret"), "the log has the path of the URL");
}

#[test]
fn events_that_the_server_refuses_are_lost_and_counted() {
    if !can_run(&["dig"]) {
        return;
    }
    let receiver = Receiver::start(Behaviour::Status(404));
    let (server, _directory) = start(&receiver.config(3600));
    ask(&server, A, "x.bad.example");
    server.wait_for_metric(&["zonal_firewall_events_total", "lost"], 1.0);
    server.process.wait_for_log("firewall events refused");
    assert_eq!(receiver.requests(), 1);
    receiver.behave(Behaviour::Status(202));
    ask(&server, B, "x.bad.example");
    server.wait_for_metric(&["zonal_firewall_events_total", "sent"], 1.0);
}

/// Posts over TLS, to a server in Python. `certificate_authority` decides whether its certificate is valid.
#[test]
fn events_go_over_tls_only_with_a_valid_certificate() {
    if !can_run(&["dig", "python3"]) {
        return;
    }
    let files = Scratch::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_string()]).unwrap().self_signed(&key).unwrap();
    let authority = files.write("tls.crt", certificate.pem());
    files.write("tls.key", key.serialize_pem());
    let port = free_port();
    let script = format!(
        "import http.server, ssl\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n    \
             def do_POST(self):\n        \
                 open('body', 'wb').write(self.rfile.read(int(self.headers['Content-Length'])))\n        \
                 self.send_response(200); self.end_headers()\n\
         server = http.server.HTTPServer(('127.0.0.1', {port}), Handler)\n\
         context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
         context.load_cert_chain('tls.crt', 'tls.key')\n\
         server.socket = context.wrap_socket(server.socket, server_side=True)\n\
         server.serve_forever()\n"
    );
    let path = files.write("receiver.py", script);
    let _receiver = Process::start(&["python3", path.to_str().unwrap()], &files, "receiver");
    wait_until("the receiver listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    let events = format!("firewall: {{events: {{url: \"https://127.0.0.1:{port}/\"}}}}\n");

    let (server, _directory) = start(&events);
    ask(&server, A, "x.bad.example");
    server.process.wait_for_log("TLS with 127.0.0.1");
    assert!(!files.path().join("body").exists());
    drop(server);

    let (server, _directory) = start(&format!("{events}certificate_authority: {}\n", authority.display()));
    ask(&server, A, "x.bad.example");
    server.wait_for_metric(&["zonal_firewall_events_total", "sent"], 1.0);
    let body: Value = serde_json::from_slice(&std::fs::read(files.path().join("body")).unwrap()).unwrap();
    assert_eq!(body["events"][0]["query_name"], "x.bad.example.");
}
