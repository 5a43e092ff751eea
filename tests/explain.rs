//! `zonal explain` with a running server, with upstream servers, and without a server.

use crate::harness::{
    Scratch, Server, ZONAL, free_port, tree,
    upstream::{Data, Upstreams},
};
use std::{fs, net::IpAddr, process::Command, sync::Arc};

/// The exit status, and standard output, or standard error if standard output is empty.
fn zonal(arguments: &str) -> (Option<i32>, String) {
    let output = Command::new(ZONAL).args(arguments.split(' ')).output().unwrap();
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn explains_answers_of_a_server_and_of_a_manifest() {
    let port = free_port();
    let manifest = Scratch::new();
    for entry in fs::read_dir(tree("tests/fixtures/forwarding")).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap().replace("port: 5399", &format!("port: {port}"));
        // A second target, which does not exist.
        let text = text.replace(
            "target_ips: [{ip: 127.31.0.53",
            &format!("target_ips: [{{ip: 127.31.0.1, port: {port}}}, {{ip: 127.31.0.53"),
        );
        manifest.write(entry.file_name().to_str().unwrap(), text);
    }
    let data = Arc::new(Data::read(&tree("tests/fixtures/forwarding/onprem.zone")));
    let others = Upstreams::start(port, [(IpAddr::from([127, 31, 0, 53]), data)]);
    let server = Server::start(manifest.path());
    let explain = |more: &str| zonal(&format!("explain --from 127.30.0.7 --to 127.30.0.2 {more}"));
    let of_server = |more: &str| {
        let (code, text) = explain(&format!("--admin {} {more}", server.admin));
        assert_eq!(code, Some(0), "{text}");
        text
    };
    let has = |text: &str, parts: &[&str]| {
        let mut rest = text;
        for part in parts {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("no `{part}`, or not in this order, in\n{text}")).1;
        }
    };
    let (down, up) = (format!("127.31.0.1 port {port}"), format!("127.31.0.53 port {port}"));

    let before = of_server("out.corp.example");
    has(
        &before,
        &[
            "source     the server at 127.0.0.1:",
            "private hosted zone corp (corp.example.) is searched",
            "the target www.onprem.example. is resolved next",
            "rule onprem forwards to 127.31.0.1",
            "cache      not in the cache: the servers have to be asked",
            &format!("server     {down}: not asked yet"),
            &format!("server     {up}: not asked yet"),
            "forwarded: www.onprem.example. A, by rule onprem; DO 0, CD 0\n",
        ],
    );
    assert!(!before.contains("status: "), "{before}");
    has(
        &of_server("--resolve out.corp.example"),
        &[
            "resolve    the servers were asked; the answer took ",
            "cache      in the cache, for another ",
            "status: NOERROR; flags: qr aa rd ra\n",
            "answer: out.corp.example. 60 IN CNAME www.onprem.example.\n",
            " IN A 192.0.2.80\n",
        ],
    );
    let after = of_server("out.corp.example");
    has(
        &after,
        &["cache      in the cache, for another ", &format!("server     {up}: answers, RTT "), "status: NOERROR"],
    );

    let json = of_server("--format json out.corp.example");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["status"], &value["forward"]), (&"NOERROR".into(), &serde_json::Value::Null), "{json}");
    let asked = value["servers"].as_array().unwrap().iter().find(|server| server["ip"] == "127.31.0.53").unwrap();
    assert!(asked["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0) && asked["state"] == "up", "{json}");

    // The upstream servers end.
    drop(others);
    let lost = of_server("--resolve nobody.onprem.example");
    has(&lost, &["resolve    ", "cache      the servers failed to answer", "status: SERVFAIL", "EDE: 2"]);

    // Without a server, the order of the manifest applies.
    let config = manifest.write(
        "etc/zonal.yaml",
        format!(
            "control_plane: {{directory: {}}}\nadmin: {{address: \"127.0.0.1:{}\"}}\n",
            manifest.path().display(),
            free_port()
        ),
    );
    let config = config.display();
    for offline in ["", "--offline "] {
        let (code, text) = explain(&format!("{offline}--config {config} www.onprem.example"));
        assert_eq!(code, Some(0), "{text}");
        has(
            &text,
            &[
                "source     the manifest in ",
                &format!("server     {down}\n"),
                &format!("server     {up}\n"),
                "forwarded: www.onprem.example. A, by rule onprem; DO 0, CD 0\n",
            ],
        );
        assert!(!text.contains("cache  "), "{text}");
    }
    let (code, text) = explain(&format!("--resolve --config {config} www.onprem.example"));
    assert!(code == Some(1) && text.starts_with("zonal: no server at 127.0.0.1:"), "{code:?} {text}");
}
