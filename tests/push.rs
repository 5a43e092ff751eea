//! Changes that curl pushes over HTTP.

use crate::harness::{Scratch, Server, can_run, http_get, reply::Reply, wait_until, wait_until_equal};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

/// A response of the HTTP API.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_string()).next()
    }
}

/// Sends a request with curl. The body is its standard input.
fn curl(url: &str, arguments: &[&str], body: &str) -> Answer {
    let mut child = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60", "-H", "Expect:", "--data-binary", "@-"])
        .args(arguments)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A server that refuses the request does not read the whole body.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) =
        text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Answer { status, head: head.into(), body: body.into() }
}

const JSON: &str = "Content-Type: application/json";

struct Push(Server);

impl Push {
    fn start(more: &str) -> Push {
        Push(Server::start_from("{push: {}}", more))
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut arguments = vec!["-X", method];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        curl(&format!("http://{}{path}", self.0.admin), &arguments, body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(method, path, &[JSON], &body.to_string())
    }

    fn get(&self, path: &str) -> Answer {
        let arguments = ["-X", "GET", "-H", "Content-Type:"];
        curl(&format!("http://{}{path}", self.0.admin), &arguments, "")
    }

    fn text(&self, name: &str) -> Vec<String> {
        self.0.dig(name, "TXT").answer
    }
}

fn vpc() -> Value {
    json!({"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"]})
}

fn zone(name: &str, text: &str) -> Value {
    json!({"name": name, "vpc_ids": ["vpc"], "records": [{"name": "@", "type": "TXT", "ttl": 0, "records": [format!("\"{text}\"")]}]})
}

fn whole(generation: u64, text: &str) -> Value {
    json!({"generation": generation, "vpcs": {"vpc": vpc()}, "private_hosted_zones": {"Z1": zone("one.example", text)}})
}

fn can_run_here() -> bool {
    can_run(&["curl", "dig", "setpriv"])
}

#[test]
fn replaces_the_whole_manifest() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    let (status, body) = http_get(push.0.admin, "/ready").unwrap();
    assert!(status == 503 && body.contains("no manifest is loaded yet"), "{status} {body}");
    let answer = push.send("PUT", "/v1/manifest", &whole(5, "five"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["changes"].as_array().unwrap().len(), 2);
    // zonal serves the manifest before it responds.
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"five\""]);
    assert_eq!(http_get(push.0.admin, "/ready").unwrap().0, 200);
    let before = push.0.status();

    // The same manifest changes nothing. zonal refuses a lower generation, and other content with
    // the same generation.
    for (manifest, status) in [
        (whole(5, "five"), 200),
        (whole(4, "four"), 409),
        (whole(5, "other"), 409),
        (json!({"generation": 6, "vpcs": {}, "private_hosted_zones": {"Z1": zone("one.example", "no VPC")}}), 422),
        (json!({"vpcs": {}}), 400),
        (json!({"generation": -1}), 422),
        (json!({"generation": u64::MAX}), 422),
        (json!({"generation": i64::MAX}), 422),
        (json!({"generation": 6, "vpc": {}}), 422),
        (json!([]), 422),
    ] {
        let answer = push.send("PUT", "/v1/manifest", &manifest);
        assert_eq!(answer.status, status, "{manifest}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "{answer:?}");
            assert_eq!(answer.json()["status"], status, "{answer:?}");
        }
        let after = push.0.status();
        assert_eq!(
            (&after["generation"], &after["revision"]),
            (&before["generation"], &before["revision"]),
            "{manifest}"
        );
    }
    // Errors name the line, the resource and the field.
    let broken = "{\"generation\": 6,\n \"vpcs\": {\"vpc\": {\"region\": 7,\n \"cidr_block\": []}}}";
    let answer = push.ask("PUT", "/v1/manifest", &[JSON], broken);
    let problems = answer.json()["problems"].clone();
    let found =
        problems.as_array().unwrap().iter().find(|problem| problem["field"] == "cidr_block").expect("the field");
    assert_eq!(
        (&found["kind"], &found["id"], &found["line"]),
        (&json!("vpcs"), &json!("vpc"), &json!(3)),
        "{problems}"
    );
    for (body, headers, status) in [
        ("{\"generation\": ", &[JSON][..], 400),
        ("", &[JSON], 400),
        ("{}", &["Content-Type: text/plain"], 415),
        ("{}", &[JSON, "Content-Encoding: gzip"], 415),
    ] {
        assert_eq!(push.ask("PUT", "/v1/manifest", headers, body).status, status, "{body}");
    }
    // curl sends another media type by default: the error names the header and the right value.
    for (method, path, right) in [
        ("PUT", "/v1/manifest", "application/json"),
        ("PUT", "/v1/vpcs/vpc", "application/json"),
        ("POST", "/v1/batch", "application/json"),
        ("PATCH", "/v1/vpcs/vpc", "application/merge-patch+json"),
        ("PUT", "/v1/master_files/a.zone", "text/dns"),
    ] {
        let answer = push.ask(method, path, &[], "{}");
        let detail = answer.json()["detail"].as_str().unwrap().to_string();
        assert_eq!(answer.status, 415, "{method} {path}");
        assert!(
            detail.contains("application/x-www-form-urlencoded")
                && detail.contains(&format!("curl -H 'Content-Type: {right}'")),
            "{method} {path}: {detail}"
        );
    }

    // A manifest from a GET request can be sent back.
    let mut read = push.get("/v1/manifest").json();
    assert_eq!(read["generation"], 5);
    assert_eq!(push.send("PUT", "/v1/manifest", &read).status, 200);
    read["generation"] = json!(6);
    let answer = push.send("PUT", "/v1/manifest", &read);
    assert!(answer.status == 200 && answer.json()["changes"] == json!([]), "{answer:?}");
    assert_eq!(push.0.status()["generation"], before["generation"], "the generation is the same");
}

#[test]
fn changes_single_resources() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(1, "first")).status, 200);
    let path = "/v1/private_hosted_zones/Z1";
    let first = push.get(path);
    let tag = first.header("etag").expect("an entity tag");
    assert_eq!(first.json()["name"], "one.example.");

    let answer = push.send("PUT", path, &zone("one.example", "second"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"second\""]);
    let second = answer.header("etag").unwrap();
    assert_ne!(second, tag);
    assert_eq!(push.get(path).header("etag"), Some(second.clone()));
    let revision = answer.json()["revision"].as_u64().unwrap();

    // Entity tags select a version.
    let put = |condition: &str, text: &str| {
        push.ask("PUT", path, &[JSON, condition], &zone("one.example", text).to_string()).status
    };
    assert_eq!(put(&format!("If-Match: {tag}"), "lost"), 412);
    assert_eq!(put("If-None-Match: *", "lost"), 412);
    assert_eq!(put("If-Match: \"a\", \"b\"", "lost"), 412);
    assert_eq!(put("If-None-Match: \"a\"", "lost"), 400);
    assert_eq!(put(&format!("If-Match: \"a\", {second}"), "third"), 200);
    assert_eq!(put("If-Match: *", "fourth"), 200);
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"fourth\""]);

    // A merge patch.
    let patch =
        json!({"records": [{"name": "@", "type": "TXT", "ttl": 0, "records": ["\"patched\""]}], "fallthrough": null});
    let answer = push.ask("PATCH", path, &["Content-Type: application/merge-patch+json"], &patch.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"patched\""]);
    assert_eq!(push.send("PATCH", path, &json!({"nmae": 1})).status, 422);
    assert_eq!(push.send("PATCH", "/v1/private_hosted_zones/none", &json!({})).status, 404);

    // A batch with a master file and a zone that uses it. The zone's identifier has a slash.
    let zone_file = json!({"name": "two.example", "vpc_ids": ["vpc"], "file": "two.zone"});
    let text = "$TTL 0\n@ SOA ns hostmaster 1 1 1 1 1\n@ NS ns\nns A 127.0.0.1\n@ TXT file\n";
    let operations = json!({"operations": [
        {"method": "PUT", "kind": "private_hosted_zones", "id": "a/b", "resource": zone_file},
        {"method": "PUT", "kind": "master_files", "id": "two.zone", "text": text},
    ]});
    assert_eq!(push.send("PUT", "/v1/private_hosted_zones/Z2", &zone_file).status, 422, "without the file");
    assert_eq!(push.send("POST", "/v1/batch", &operations).status, 200);
    assert_eq!(push.text("two.example"), ["two.example. 0 TXT \"file\""]);
    assert_eq!(push.get("/v1/private_hosted_zones/a%2Fb").json()["file"], "two.zone");
    let file = push.get("/v1/master_files/two.zone");
    assert_eq!((file.body.as_str(), file.header("content-type").as_deref()), (text, Some("text/dns")));
    let newer = text.replace("TXT file", "TXT newer");
    assert_eq!(push.ask("PUT", "/v1/master_files/two.zone", &["Content-Type: text/dns"], &newer).status, 200);
    assert_eq!(push.text("two.example"), ["two.example. 0 TXT \"newer\""]);
    assert_eq!(push.ask("DELETE", "/v1/master_files/two.zone", &["Content-Type:"], "").status, 422, "a zone needs it");

    // zonal applies a batch completely, or not at all.
    let operations = json!({"operations": [
        {"method": "PUT", "kind": "private_hosted_zones", "id": "Z1", "resource": zone("one.example", "half")},
        {"method": "DELETE", "kind": "private_hosted_zones", "id": "none"},
    ]});
    assert_eq!(push.send("POST", "/v1/batch", &operations).status, 404);
    for bad in [
        json!({"operations": [{"method": "PUT", "kind": "vpcs", "id": "a"}]}),
        json!({"operations": [{"method": "PUT", "kind": "vpc", "id": "a", "resource": {}}]}),
        json!({"operations": [{"method": "POST", "kind": "vpcs", "id": "a", "resource": {}}]}),
        json!({"operation": []}),
    ] {
        assert_eq!(push.send("POST", "/v1/batch", &bad).status, 400, "{bad}");
    }
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"patched\""]);

    // A dry run.
    let before = push.0.status();
    let answer = push.send("PUT", &format!("{path}?dry_run=true"), &zone("one.example", "tried"));
    assert_eq!(answer.json()["changes"], json!([{"kind": "private_hosted_zones", "id": "Z1", "change": "changed"}]));
    let answer = push.send("DELETE", "/v1/vpcs/vpc?dry_run=true", &json!({}));
    assert!(answer.status == 422 && answer.body.contains("vpc_ids"), "{answer:?}");
    assert_eq!(push.send("PUT", &format!("{path}?dryrun=true"), &zone("one.example", "lost")).status, 400);
    assert_eq!(push.0.status()["revision"], before["revision"]);
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"patched\""]);
    assert!(before["revision"].as_u64().unwrap() > revision);

    // Deletion.
    assert_eq!(push.ask("DELETE", path, &["Content-Type:"], "").status, 200);
    assert_eq!(push.get(path).status, 404);
    assert_eq!(push.ask("DELETE", path, &["Content-Type:"], "").status, 404);
    assert!(push.text("one.example").is_empty());
    for (method, path, status) in
        [("GET", "/v1/vpc", 404), ("POST", "/v1/vpcs", 405), ("GET", "/v1/vpcs/none", 404), ("PUT", "/v1/status", 405)]
    {
        let answer = push.ask(method, path, &[JSON], "{}");
        assert_eq!(
            (answer.status, answer.header("content-type").as_deref()),
            (status, Some("application/problem+json")),
            "{path}"
        );
    }
}

#[test]
fn lists_resources_in_pages() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    let zones: serde_json::Map<String, Value> =
        (0..2_500).map(|n| (format!("Z{n}"), zone(&format!("z{n}.example"), "x"))).collect();
    let manifest = json!({"generation": 1, "vpcs": {"vpc": vpc()}, "private_hosted_zones": zones});
    assert_eq!(push.send("PUT", "/v1/manifest", &manifest).status, 200);
    let mut ids = Vec::new();
    let mut page = String::from("/v1/private_hosted_zones?limit=999");
    loop {
        let list = push.get(&page).json();
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["etag"].is_string() && item["resource"]["vpc_ids"] == json!(["vpc"])));
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_string()));
        match list["next_page_token"].as_str() {
            Some(token) => page = format!("/v1/private_hosted_zones?limit=999&page_token={token}"),
            None => break,
        }
    }
    let mut expected: Vec<String> = zones.keys().cloned().collect();
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(push.get("/v1/private_hosted_zones").json()["items"].as_array().unwrap().len(), 100);
    for bad in ["limit=0", "limit=1001", "limit=x", "page_token=%25", "page=2"] {
        assert_eq!(push.get(&format!("/v1/vpcs?{bad}")).status, 400, "{bad}");
    }
}

/// If two clients change the same version at the same time, exactly one succeeds.
#[test]
fn accepts_one_of_two_changes_of_the_same_version() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(1, "0")).status, 200);
    for round in 0..10 {
        let tag = push.get("/v1/private_hosted_zones/Z1").header("etag").unwrap();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|n| {
                    let (push, condition) = (&push, format!("If-Match: {tag}"));
                    scope.spawn(move || {
                        let zone = zone("one.example", &format!("{round}-{n}")).to_string();
                        push.ask("PUT", "/v1/private_hosted_zones/Z1", &[JSON, &condition], &zone).status
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(statuses == [200, 412] || statuses == [412, 200], "{statuses:?}");
        let winner = if statuses[0] == 200 { 0 } else { 1 };
        assert_eq!(push.text("one.example"), [format!("one.example. 0 TXT \"{round}-{winner}\"")]);
    }
}

#[test]
fn ignores_an_incomplete_body() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(1, "kept")).status, 200);
    let body = whole(2, "half").to_string();
    let head = format!(
        "PUT /v1/manifest HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..body.len() / 2]
    );
    let mut stream = TcpStream::connect(push.0.admin).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    // A client that sends an incomplete request does not block others.
    let mut stream = TcpStream::connect(push.0.admin).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(2, "other")).status, 200);
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"other\""]);

    let push = Push(Server::start_from("{push: {}}", "").unready());
    let large = format!("{{\"generation\": 1, \"vpcs\": {{{}}}}}", " ".repeat(300));
    assert_eq!(push.ask("PUT", "/v1/manifest", &[JSON], &large).status, 200);
}

impl Server {
    fn unready(self) -> Server {
        assert_eq!(http_get(self.admin, "/ready").unwrap().0, 503);
        self
    }
}

#[test]
fn streams_generations() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(1, "0")).status, 200);
    let scratch = Scratch::new();
    let url = format!("http://{}/v1/events", push.0.admin);
    let follower = crate::harness::Process::start(&["curl", "-sSN", &url], &scratch, "events");
    let has = |text: &str| follower.wait_for_log(text);
    let generation = push.0.status()["generation"].as_u64().unwrap();
    has(&format!("id: {generation}\n"));
    for n in 1..=3 {
        assert_eq!(push.send("PUT", "/v1/private_hosted_zones/Z1", &zone("one.example", &n.to_string())).status, 200);
        has(&format!("event: generation\nid: {}\n", generation + n));
        has(&format!("\"revision\":{}", push.0.status()["revision"]));
    }
    // Followers beyond the limit get an error. Other requests are answered.
    let more: Vec<_> = (0..20)
        .map(|n| crate::harness::Process::start(&["curl", "-sSN", &url], &scratch, &format!("more-{n}")))
        .collect();
    wait_until_equal("refused followers", 5, || {
        more.iter().filter(|one| one.log().contains("clients follow the generations already")).count()
    });
    assert_eq!(http_get(push.0.admin, "/ready").unwrap().0, 200);
}

#[test]
fn checks_tokens_and_certificates() {
    if !can_run_here() {
        return;
    }
    let scratch = Scratch::new();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = params.self_signed(&authority_key).unwrap();
    scratch.write("ca.crt", authority_certificate.pem());
    let issuer = Issuer::new(params, authority_key);
    for name in ["localhost", "deployer.test", "looker.test", "nobody.test"] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
        scratch.write(&format!("{name}.crt"), certificate.pem());
        scratch.write(&format!("{name}.key"), key.serialize_pem());
    }
    let file = |name: &str| scratch.path().join(name).display().to_string();
    // Hashes the tokens `secret` and `look`.
    let digest = |token: &str| {
        let output = Command::new("sh").args(["-c", &format!("printf %s {token} | sha256sum")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout)[..64].to_string()
    };
    scratch.write("tokens", format!("write sha256:{} deployer\nread sha256:{}\n", digest("secret"), digest("look")));
    let port = crate::harness::free_port();
    let config = format!(
        "listen: [{{address: \"127.0.0.1:{}\"}}]\ncontrol_plane: {{push: {{}}}}\ninternet_resolver: none\n\
         admin:\n  address: 0.0.0.0:{port}\n  tokens_file: tokens\n  max_body_octets: 1000\n  \
         tls: {{certificate: localhost.crt, private_key: localhost.key, certificate_authority: ca.crt}}\n  \
         client_certificates: {{write: [deployer.test], read: [looker.test]}}\n",
        crate::harness::free_port()
    );
    let config = scratch.write("zonal.yaml", config);
    let mut process = crate::harness::Process::start(
        &[crate::harness::ZONAL, "serve", "--config", config.to_str().unwrap()],
        &scratch,
        "zonal",
    );
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("it listens", || {
        process.assert_alive();
        TcpStream::connect(admin).ok().map(drop)
    });
    let url = format!("https://localhost:{port}");
    let ca = file("ca.crt");
    let ask = |method: &str, path: &str, more: &[&str]| {
        let mut arguments = vec!["--cacert", &ca, "-X", method, "-H", JSON];
        arguments.extend(more);
        let body = if method == "GET" { String::new() } else { vpc().to_string() };
        curl(&format!("{url}{path}"), &arguments, &body).status
    };
    let with =
        |name: &str| ["--cert".to_string(), file(&format!("{name}.crt")), "--key".into(), file(&format!("{name}.key"))];
    assert_eq!(ask("GET", "/live", &[]), 200);
    assert_eq!(ask("GET", "/v1/vpcs", &[]), 401);
    for (more, read, write) in [
        (vec!["-H".to_string(), "Authorization: Bearer secret".into()], 200, 200),
        (vec!["-H".into(), "Authorization: Bearer look".into()], 200, 403),
        (vec!["-H".into(), "Authorization: Bearer wrong".into()], 401, 401),
        (with("deployer.test").to_vec(), 200, 200),
        (with("looker.test").to_vec(), 200, 403),
        (with("nobody.test").to_vec(), 401, 401),
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        assert_eq!((ask("GET", "/v1/vpcs", &more), ask("PUT", "/v1/vpcs/vpc", &more)), (read, write), "{more:?}");
    }
    // A body above the size limit.
    let large = format!("{{\"region\": \"{}\"}}", "x".repeat(2_000));
    let arguments = ["--cacert", &ca, "-X", "PUT", "-H", JSON, "-H", "Authorization: Bearer secret"];
    assert_eq!(curl(&format!("{url}/v1/vpcs/a"), &arguments, &large).status, 413);

    // Without tokens and certificates, zonal does not start on an address outside loopback.
    let config = "control_plane: {push: {}}\nadmin: {address: '0.0.0.0:9153'}\n";
    let config = scratch.write("open.yaml", config);
    let output =
        Command::new(crate::harness::ZONAL).args(["serve", "--config", config.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("`push` accepts changes here"), "{told}");
}

#[test]
fn reads_resources_of_other_sources() {
    if !can_run_here() {
        return;
    }
    let directory = Scratch::new();
    directory.write(
        "a.json",
        json!({"vpcs": {"vpc": vpc()}, "private_hosted_zones": {"Z1": zone("one.example", "x")}}).to_string(),
    );
    let push = Push(Server::start(directory.path()));
    assert_eq!(push.get("/v1/private_hosted_zones/Z1").json()["name"], "one.example.");
    assert_eq!(push.get("/v1/vpcs").json()["items"][0]["id"], "vpc");
    let answer = push.send("PUT", "/v1/vpcs/vpc", &vpc());
    assert!(answer.status == 405 && answer.body.contains("is not `push`"), "{answer:?}");
}

/// The OpenAPI document lists every operation, and no other.
#[test]
fn describes_the_api_in_its_openapi_document() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    assert_eq!(push.send("PUT", "/v1/manifest", &whole(1, "x")).status, 200);
    let document = push.get("/v1/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let real = path.replace("{id}", "vpc");
        for method in ["get", "put", "post", "patch", "delete"] {
            if path == "/v1/events" {
                continue;
            }
            let headers: &[&str] =
                if method == "get" { &["Content-Type:"] } else { &["Content-Type: application/nothing"] };
            let body = if method == "get" { "" } else { "{" };
            let answer = push.ask(&method.to_uppercase(), &real, headers, body);
            let is_known = answer.status != 405;
            assert_eq!(is_known, operations[method].is_object(), "{method} {path}: {answer:?}");
            if is_known && answer.status >= 400 {
                assert_eq!(
                    answer.header("content-type").as_deref(),
                    Some("application/problem+json"),
                    "{method} {path}"
                );
            }
        }
    }
    for kind in zonal::manifest::KINDS.iter().chain(&["master_files"]) {
        assert!(
            paths.contains_key(&format!("/v1/{kind}")) && paths.contains_key(&format!("/v1/{kind}/{{id}}")),
            "{kind}"
        );
    }
    // Every reference leads to a schema.
    let text = document.to_string();
    for name in text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

/// The commands on the reference page work.
#[test]
fn accepts_the_examples_of_the_reference() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    let page = std::fs::read_to_string(crate::harness::tree("docs/reference/http-api.md")).unwrap();
    let block = page.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    let script =
        block.replace("127.0.0.1:9153", &push.0.admin.to_string()).replace("curl ", "curl -sS --fail-with-body ");
    let output = Command::new("sh").args(["-e", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stdout));
    let manifest = push.get("/v1/manifest").json();
    assert_eq!(manifest["vpcs"]["vpc-app"]["region"], "us-east-1", "{manifest}");
    assert_eq!(manifest["vpc_endpoints"]["vpce-sqs"]["service"], "sqs", "what was put is read back\n{manifest}");
    assert!(manifest["vpc_endpoint_services"].as_object().is_none_or(|all| all.is_empty()), "{manifest}");
    let output = Command::new("dig")
        .args(["-b", "127.1.0.7", "@127.0.0.1", "-p", &push.0.port.to_string(), "sqs.us-east-1.amazonaws.com", "A"])
        .output()
        .unwrap();
    let reply = Reply::of_dig(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(reply.data("A"), ["127.1.0.10"], "{reply}");
}

/// With `on_error: set_aside`, zonal keeps the former version of a resource with any number of
/// problems, and of all resources that refer to it.
#[test]
fn serves_the_former_version_of_a_resource_with_several_problems() {
    if !can_run_here() {
        return;
    }
    let push = Push(Server::start_from("{push: {}, on_error: set_aside}", ""));
    let good = |generation: u64| {
        let mut manifest = whole(generation, "good");
        manifest["private_hosted_zones"]["Z2"] = zone("two.example", "good");
        manifest
    };
    assert_eq!(push.send("PUT", "/v1/manifest", &good(1)).status, 200);
    let bad_zone = |edit: &dyn Fn(&mut Value)| {
        let mut zone = zone("one.example", "bad");
        edit(&mut zone);
        zone
    };
    let addresses =
        json!([{"name": "a", "type": "A", "records": ["10.10.0.666"]}, {"name": "b", "type": "A", "records": ["x"]}]);
    let zones = [
        bad_zone(&|zone| zone["records"] = addresses.clone()),
        bad_zone(&|zone| (zone["commentz"], zone["recordz"]) = (json!("x"), json!([]))),
        bad_zone(&|zone| {
            let vpcs = zone["vpc_ids"].take();
            zone.as_object_mut().unwrap().remove("vpc_ids");
            zone["vpc_idz"] = vpcs;
        }),
        bad_zone(&|zone| zone["vpc_ids"] = json!(["vpc", "none", "none-either"])),
    ];
    let networks = [
        json!({"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"], "subnetz": {}}),
        json!({"region": "us-east-1", "cidr_blockz": ["127.0.0.0/8"], "subnetz": {}}),
        json!({"region": "us-east-1", "cidr_blocks": ["127.0.0.0/33", "x"]}),
    ];
    let zones = zones.iter().map(|zone| ("private_hosted_zones", "Z1", zone));
    let mut generation = 1;
    for (kind, id, bad) in zones.chain(networks.iter().map(|vpc| ("vpcs", "vpc", vpc))) {
        assert_eq!(push.send("PUT", "/v1/manifest", &good(generation + 1)).status, 200);
        generation += 2;
        let mut manifest = good(generation);
        manifest[kind][id] = bad.clone();
        let batch = json!({"operations": [{"method": "PUT", "kind": kind, "id": id, "resource": bad}]});
        for (method, path, body) in [
            ("PUT", format!("/v1/{kind}/{id}"), bad),
            ("PUT", "/v1/manifest".into(), &manifest),
            ("POST", "/v1/batch".into(), &batch),
        ] {
            let answer = push.send(method, &path, body);
            println!("{method} {path} {bad}: {answer:?}");
            for name in ["one", "two"] {
                let name = format!("{name}.example");
                assert_eq!(push.text(&name), [format!("{name}. 0 TXT \"good\"")], "{method} {path} {bad}: {answer:?}");
            }
            let aside = push.0.status()["set_aside"].clone();
            match answer.status {
                // The change is accepted, and the response lists the resource.
                200 => {
                    let told: Vec<_> =
                        aside.as_array().unwrap().iter().map(|one| (&one["id"], &one["served"])).collect();
                    assert_eq!(told, [(&json!(id), &json!("older"))], "{method} {path} {bad}");
                }
                status => assert_eq!(status, 422, "{method} {path} {bad}: {answer:?}"),
            }
        }
    }
    generation += 1;
    assert_eq!(push.send("PUT", "/v1/manifest", &good(generation)).status, 200);
    assert_eq!(push.0.status()["set_aside"], json!([]));
}

#[test]
fn refuses_changes_of_protected_record_sets() {
    if !can_run_here() {
        return;
    }
    let push = Push::start("");
    let zone = |text: &str, protected: bool| {
        let mut zone = zone("one.example", text);
        if protected {
            zone["records"][0]["protected"] = json!(true);
            zone["records"][0]["protection_comment"] = json!("ask the web team");
        }
        zone
    };
    let manifest = |generation: u64, zone: Value| json!({"generation": generation, "vpcs": {"vpc": vpc()}, "private_hosted_zones": {"Z1": zone}});
    let path = "/v1/private_hosted_zones/Z1";
    assert_eq!(push.send("PUT", "/v1/manifest", &manifest(1, zone("first", true))).status, 200);
    let refuses = |answer: Answer| {
        assert_eq!(answer.status, 409, "{answer:?}");
        let text = "private_hosted_zones/Z1: one.example. TXT is protected (ask the web team): remove `protected`";
        assert!(answer.body.contains(text), "{answer:?}");
        assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"first\""]);
    };
    refuses(push.send("PUT", path, &zone("second", true)));
    refuses(push.send("PUT", &format!("{path}?dry_run=true"), &zone("second", true)));
    refuses(push.send("PUT", path, &zone("second", false)));
    refuses(push.ask("PATCH", path, &["Content-Type: application/merge-patch+json"], "{\"records\": []}"));
    refuses(push.ask("DELETE", path, &["Content-Type:"], ""));
    refuses(push.send("PUT", "/v1/manifest", &manifest(2, zone("second", true))));
    let gone = json!({"generation": 2, "vpcs": {"vpc": vpc()}});
    refuses(push.send("PUT", "/v1/manifest", &gone));
    // The protection is removed by a change of its own.
    assert_eq!(push.send("PUT", path, &zone("first", false)).status, 200);
    assert_eq!(push.send("PUT", path, &zone("second", false)).status, 200);
    assert_eq!(push.text("one.example"), ["one.example. 0 TXT \"second\""]);
}
