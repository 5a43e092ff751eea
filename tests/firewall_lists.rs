//! DNS Firewall lists of a running server: from files, and from URLs whose server does what it likes.

use crate::{
    harness::{Scratch, Server, http_get, wait_until, wait_until_equal},
    health::zonal,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// A VPC whose group blocks the names of the list `l`.
fn manifest(list: &str) -> String {
    format!(
        "vpcs: {{vpc: {{region: us-east-1, cidr_blocks: [127.81.0.0/16], availability_zones: {{a: az1}}}}}}\n\
         private_hosted_zones: {{Z: {{name: example, vpc_ids: [vpc], records: [{{name: '*', type: A, ttl: 60, \
         records: [192.0.2.1]}}]}}}}\n\
         firewall_domain_lists: {{l: {list}}}\n\
         firewall_rule_groups: {{g: {{rules: [{{name: r, priority: 1, action: BLOCK, block_response: NXDOMAIN, \
         firewall_domain_list_id: l}}], vpc_associations: [{{vpc_id: vpc, priority: 1}}]}}}}\n"
    )
}

/// The RCODE of the answer for a name.
fn rcode(server: &Server, name: &str) -> String {
    let port = server.port.to_string();
    let output =
        Command::new("dig").args(["-b", "127.81.0.9", "@127.0.0.1", "-p", &port, "+tries=3", name, "A"]).output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    status.unwrap_or(&text).to_string()
}

fn wait_for_rcode(server: &Server, name: &str, expected: &str) {
    wait_until_equal(&format!("the answer for {name}"), expected.to_string(), || rcode(server, name));
}

/// The status of the list.
fn list(server: &Server) -> Value {
    let (status, text) = http_get(server.admin, "/v1/firewall/lists").expect("an answer");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["lists"][0].clone()
}

fn wait_for_error(server: &Server, part: &str) {
    wait_until(&format!("the error has {part:?}, but {}", list(server)), || {
        list(server)["error"].as_str().is_some_and(|error| error.contains(part)).then_some(())
    });
}

/// An HTTP server that sends any octets as the response.
pub struct Feed {
    port: u16,
    response: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Feed {
    pub fn start() -> Feed {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (response, requests) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (sent, seen) = (response.clone(), requests.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut request, mut octet) = (Vec::new(), [0]);
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut octet).is_ok_and(|len| len > 0) {
                    request.push(octet[0]);
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&request).to_lowercase());
                let _ = stream.write_all(&sent.lock().unwrap());
            }
        });
        Feed { port, response, requests }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/list.txt", self.port)
    }

    /// Sends this head and body from now on.
    pub fn send(&self, head: &str, body: &str) {
        let head = head.replace('\n', "\r\n");
        *self.response.lock().unwrap() = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").into_bytes();
    }

    pub fn send_list(&self, body: &str) {
        self.send(&format!("200 OK\nETag: \"{}\"\nContent-Length: {}", body.len(), body.len()), body);
    }

    fn send_gzip(&self, body: &str) {
        let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
        *self.response.lock().unwrap() = [&head[..], &gzip.wait_with_output().unwrap().stdout].concat();
    }

    pub fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn names(from: u32, to: u32) -> String {
    (from..to).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "n{n}.example");
        text
    })
}

#[test]
fn follows_the_file_of_a_list_and_keeps_what_was_valid() {
    let directory = Scratch::new();
    directory.write("manifest.yaml", manifest("{source: {file: block.hosts, format: hosts}}"));
    directory.write("block.hosts", "0.0.0.0 bad.example\n0.0.0.0 a/b\n");
    let server = Server::start(directory.path());
    // The file was read before the first answer.
    assert_eq!((rcode(&server, "bad.example"), rcode(&server, "good.example")), ("NXDOMAIN".into(), "NOERROR".into()));
    let status = list(&server);
    assert_eq!(
        (&status["state"], &status["entries"], &status["skipped_lines"]),
        (&"loaded".into(), &1.into(), &1.into())
    );

    directory.write("block.hosts", "0.0.0.0 worse.example\n");
    wait_for_rcode(&server, "worse.example", "NXDOMAIN");
    assert_eq!(rcode(&server, "bad.example"), "NOERROR");
    directory.write("block.hosts", "<!doctype html>\n<p>Not found</p>\n");
    wait_for_error(&server, "HTML");
    assert_eq!(rcode(&server, "worse.example"), "NXDOMAIN");
    let (text, is_success) = zonal(&server, &["firewall", "lists"]);
    assert!(!is_success && text.contains("error: the text is an HTML page"), "{text}");
    std::fs::remove_file(directory.path().join("block.hosts")).unwrap();
    wait_for_error(&server, "No such file");
    assert_eq!(rcode(&server, "worse.example"), "NXDOMAIN");
    directory.write("block.hosts", "0.0.0.0 bad.example\n");
    wait_for_rcode(&server, "bad.example", "NXDOMAIN");
    wait_until("the list is well", || zonal(&server, &["firewall", "lists"]).1.then_some(()));

    // A large list is served part by part.
    directory.write(
        "block.hosts",
        names(0, 60_000).lines().fold(String::new(), |text, name| text + "0.0.0.0 " + name + "\n"),
    );
    wait_for_rcode(&server, "n59999.example", "NXDOMAIN");
    wait_until_equal("the names", 60_000, || list(&server)["entries"].as_u64().unwrap());
    assert_eq!((rcode(&server, "n0.example"), rcode(&server, "bad.example")), ("NXDOMAIN".into(), "NOERROR".into()));

    // Without the list, its names go.
    directory.write(
        "manifest.yaml",
        "vpcs: {vpc: {region: us-east-1, cidr_blocks: [127.81.0.0/16], availability_zones: {a: az1}}}\n",
    );
    wait_until_equal("the table is empty", 0, || {
        let text = http_get(server.admin, "/v1/firewall/lists").expect("an answer").1;
        serde_json::from_str::<Value>(&text).unwrap()["names"].as_u64().unwrap()
    });
}

#[test]
fn keeps_a_download_whatever_its_server_sends_later() {
    let (directory, feed) = (Scratch::new(), Feed::start());
    let source = format!("{{source: {{url: '{}', format: domains}}}}", feed.url());
    directory.write("manifest.yaml", manifest(&source));
    feed.send_list(&names(0, 100));
    let more = "state_directory: state\nfirewall: {allow_sources: [127.0.0.1]}\n";
    let server = Server::start_with(directory.path(), more);
    wait_for_rcode(&server, "n99.example", "NXDOMAIN");
    let refresh = |server: &Server| {
        let before = feed.requests();
        assert!(zonal(server, &["firewall", "refresh", "l"]).1);
        wait_until("the feed is asked", || (feed.requests() > before).then_some(()));
    };
    for (head, body, error) in [
        ("200 OK\nContent-Type: text/html", "<html>\nn1.example\n".to_string(), "HTML"),
        ("200 OK", String::new(), "empty"),
        ("200 OK", names(0, 60), "from 100 to 60"),
        ("200 OK\nContent-Length: 4000", names(0, 100), "not complete"),
        ("200 OK\nContent-Encoding: br", names(0, 100), "encoding"),
        ("200 OK\nContent-Encoding: gzip", "\u{1f}".to_string(), "no line is a valid entry"),
        ("200 OK\nContent-Length: 1000000000", String::new(), "more than 512 MiB"),
        ("302 Found\nLocation: http://169.254.169.254/latest/meta-data", String::new(), "redirect refused"),
        ("302 Found\nLocation: /list.txt", String::new(), "redirects"),
        ("503 Service Unavailable", String::new(), "status 503"),
        ("garbage", String::new(), "HTTP"),
    ] {
        feed.send(head, &body);
        refresh(&server);
        wait_for_error(&server, error);
        assert_eq!(
            (rcode(&server, "n99.example"), rcode(&server, "n100.example")),
            ("NXDOMAIN".into(), "NOERROR".into())
        );
    }
    feed.send("304 Not Modified", "");
    refresh(&server);
    wait_until("the list is confirmed", || list(&server)["error"].is_null().then_some(()));
    assert!(feed.requests.lock().unwrap().last().unwrap().contains("if-none-match: \""));

    // A restart without the feed loses nothing.
    feed.send("503 Service Unavailable", "");
    let server = server.restart().ready();
    assert_eq!((rcode(&server, "n99.example"), rcode(&server, "n100.example")), ("NXDOMAIN".into(), "NOERROR".into()));
    feed.send_gzip(&names(5, 105));
    refresh(&server);
    wait_for_rcode(&server, "n104.example", "NXDOMAIN");
    assert_eq!(rcode(&server, "n4.example"), "NOERROR");
    assert!(server.metric(&["zonal_firewall_list_entries", "l"]) == 100.0);
}

#[test]
fn asks_no_host_that_the_node_does_not_allow() {
    let (directory, feed) = (Scratch::new(), Feed::start());
    feed.send_list(&names(0, 1));
    directory.write("manifest.yaml", manifest(&format!("{{source: {{url: '{}'}}}}", feed.url())));
    let server = Server::start_with(directory.path(), "firewall: {allow_sources: [lists.example]}\n");
    wait_for_error(&server, "allow_sources");
    assert_eq!(list(&server)["state"], "missing");
    // No verdict is possible.
    assert_eq!(rcode(&server, "any.example"), "SERVFAIL");
    assert!(!zonal(&server, &["firewall", "refresh", "l"]).1);
    assert_eq!(feed.requests(), 0);
}
