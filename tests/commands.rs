//! The commands with a server that authenticates its clients; `check` for configuration files, and
//! the log formats.

use crate::harness::{Process, Scratch, ZONAL, can_run, free_port, http_get, http_send, tree, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

/// Runs a command in a directory. Returns its exit status and all of its output.
fn zonal(scratch: &Scratch, arguments: &str) -> (Option<i32>, String) {
    let output = Command::new(ZONAL).args(arguments.split(' ')).current_dir(scratch.path()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A node with the demo's manifest, and the port of its HTTP API.
fn node(scratch: &Scratch, admin: &str, more: &str) -> (Process, u16) {
    let (port, admin_port) = (free_port(), free_port());
    scratch.write(
        "zonal.yaml",
        format!(
            "listen: [{{address: \"127.0.0.1:{port}\"}}]\ncontrol_plane: {{directory: {}}}\ninternet_resolver: none\n\
             admin: {}\n{more}",
            tree("zones").display(),
            admin.replace("PORT", &admin_port.to_string())
        ),
    );
    let mut process = Process::start(&[ZONAL, "serve"], scratch, "zonal");
    wait_until("it serves", || {
        process.assert_alive();
        // As text or as JSON.
        let log = process.log();
        ["serving ", "\"serving\""].iter().any(|event| log.contains(event)).then_some(())
    });
    (process, admin_port)
}

/// Writes a certificate authority, and its certificates for the server and for a client.
fn certificates(scratch: &Scratch) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    scratch.write("ca.crt", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for (file, names) in [("tls", ["localhost", "127.0.0.1"]), ("client", ["client.example", "other.example"])] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.map(String::from)).unwrap();
        scratch.write(&format!("{file}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
        scratch.write(&format!("{file}.key"), key.serialize_pem());
    }
}

#[test]
fn commands_authenticate_to_servers() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    certificates(&scratch);
    scratch.write("token", "secret\n");
    // The SHA-256 of `secret`.
    scratch.write("tokens", "write sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n");
    let (node, port) = node(
        &scratch,
        "{address: \"0.0.0.0:PORT\", tokens_file: tokens, client_certificates: {read: [client.example]}, tls: {certificate: \
         tls.crt, private_key: tls.key, certificate_authority: ca.crt}}",
        "",
    );
    let url = format!("https://localhost:{port}");
    node.wait_for_log(&format!("admin_api=https://0.0.0.0:{port}"));
    let commands = |server: &str, config: &str| {
        [
            format!("status {}", config.replace("--admin", "--all")),
            format!("wait --revision 0 --timeout 600 {server}"),
            format!("cache show {config}"),
            format!("explain --from 127.1.0.7 sqs.us-east-1.amazonaws.com {config}"),
        ]
    };
    for (access, expected, words) in [
        ("--certificate-authority ca.crt --token-file token", 0, ""),
        ("--certificate-authority ca.crt --client-certificate client.crt --client-private-key client.key", 0, ""),
        // `wait` does not repeat the request, and `explain` does not fall back to the manifest.
        ("--certificate-authority ca.crt", 1, "says 401 Unauthorized: a token is missing"),
    ] {
        for command in commands(&url, &format!("--admin {url}")).iter().chain(&commands(&url, "--config zonal.yaml")) {
            let (code, text) = zonal(&scratch, &format!("{command} {access}"));
            assert!(code == Some(expected) && text.contains(words), "{command} {access}: {code:?}\n{text}");
        }
    }
    let (code, text) = zonal(&scratch, "explain --from 127.1.0.7 sqs.us-east-1.amazonaws.com");
    assert!(code == Some(1) && text.contains("cannot be trusted"), "{code:?} {text}");
    // Without HTTPS, the error asks for an https URL.
    for command in ["cache show", "explain --from 127.1.0.7 sqs.us-east-1.amazonaws.com"] {
        let (code, text) = zonal(&scratch, &format!("{command} --admin 127.0.0.1:{port}"));
        assert!(
            code == Some(1) && text.contains("or has HTTPS: for HTTPS, give the URL https://"),
            "{command}: {code:?} {text}"
        );
    }
}

#[test]
fn loopback_clients_need_no_token_on_a_wildcard_address() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let scratch = Scratch::new();
    let (_node, port) = node(&scratch, "{address: \"0.0.0.0:PORT\"}", "");
    for command in [
        "status".to_string(),
        format!("status --all 127.0.0.1:{port} localhost:{port} 0.0.0.0:{port}"),
        format!("wait --revision 0 127.0.0.1:{port}"),
        "cache show".into(),
        "explain --from 127.1.0.7 --resolve sqs.us-east-1.amazonaws.com".into(),
    ] {
        let (code, text) = zonal(&scratch, &command);
        assert_eq!(code, Some(0), "{command}\n{text}");
    }
}

#[test]
fn commands_explain_why_a_server_cannot_be_reached() {
    let scratch = Scratch::new();
    scratch.write("zones/manifest.yaml", "vpcs: {vpc: {region: r, cidr_blocks: [127.0.0.0/8]}}\n");
    scratch.write(
        "zonal.yaml",
        format!("control_plane: {{push: {{}}}}\nadmin: {{address: \"127.0.0.1:{}\"}}", free_port()),
    );
    for (command, words) in [
        ("explain --from 127.1.0.7 --offline a.example", "zonal: `--offline` needs a directory"),
        ("explain --from 127.1.0.7 a.example", "is `zonal serve` running, with this `admin.address`?"),
        ("status --all 127.0.0.1:1", "is `zonal serve` running, with this `admin.address`?"),
        ("diff --directory zones --etcd http://127.0.0.1:1", "zonal: etcd at http://127.0.0.1:1 cannot be read: "),
    ] {
        let (code, text) = zonal(&scratch, command);
        assert!(code == Some(1) && text.contains(words), "{command}: {code:?}\n{text}");
        assert!(!text.contains("MetadataMap") && !text.contains("none was asked"), "{command}\n{text}");
    }
}

#[test]
fn check_reads_the_files_that_the_configuration_names() {
    let scratch = Scratch::new();
    certificates(&scratch);
    scratch.write("bad", "nothing of use\n");
    scratch.write("zones/manifest.yaml", "vpcs: {vpc: {region: r}}\n");
    scratch.write(
        "zonal.yaml",
        "listen:
- {address: \"192.0.2.1:53\"}
- {address: \"127.0.0.1:853\", protocol: DoT, tls: {certificate: none.crt, private_key: tls.key}}
- {address: \"127.0.0.1:443\", protocol: DoH, tls: {certificate: tls.crt, private_key: none.key}}
- {address: \"127.0.0.1:853\", protocol: DoQ, tls: {certificate: tls.crt, private_key: client.key}}
control_plane: {directory: zones}
admin:
  address: \"192.0.2.1:9153\"
  tokens_file: bad
  tls: {certificate: tls.crt, private_key: tls.key, certificate_authority: bad}
cookie_secret_file: bad
certificate_authority: none.crt
tsig_keys: {key: {secret_file: none}, good: {secret: YQ==}}
internet_resolver: {recursive: true, root_hints: none, trust_anchor: bad}
",
    );
    let told = || {
        let (code, text) = zonal(&scratch, "check --format json");
        let problems: Vec<Value> = serde_json::from_str(&text).unwrap();
        let told = problems.iter().map(|problem| {
            assert!(problem["file"].as_str().unwrap().ends_with(".yaml"), "{problem}");
            format!("{}:{} {}", problem["line"], problem["column"], problem["field"].as_str().unwrap())
        });
        (code, told.collect::<Vec<_>>(), text)
    };
    let (code, found, text) = told();
    assert_eq!(code, Some(1));
    // Problems of the manifest are shown as well.
    assert!(found.len() == 13 && found[12].starts_with("1:8 "), "{text}");
    assert_eq!(
        found[..12],
        [
            "2:13 listen[0].address",
            "3:64 listen[1].tls.certificate",
            "4:86 listen[2].tls.private_key",
            "5:86 listen[3].tls.private_key",
            "8:12 admin.address",
            "9:16 admin.tokens_file",
            "10:76 admin.tls.certificate_authority",
            "11:21 cookie_secret_file",
            "12:24 certificate_authority",
            "13:32 tsig_keys.key.secret_file",
            "14:50 internet_resolver.root_hints",
            "14:70 internet_resolver.trust_anchor",
        ],
        "{text}"
    );
    // `serve` reports a missing file at the start too, although it uses the file only later.
    let (code, text) = zonal(&scratch, "serve");
    assert!(code == Some(1) && text.contains(" certificate_authority: there is no file none.crt"), "{text}");

    scratch.write(
        "zonal.yaml",
        "control_plane:\n  etcd:\n    endpoints: [\"https://127.0.0.1:1\"]\n    username: u\n    password_file: none\n    \
         tls: {certificate_authority: none}\n",
    );
    let (code, found, text) = told();
    assert_eq!(
        (code, found),
        (
            Some(1),
            vec![
                "5:20 control_plane.etcd.password_file".into(),
                "6:34 control_plane.etcd.tls.certificate_authority".into()
            ]
        ),
        "{text}"
    );
}

#[test]
fn check_finds_paths_that_cannot_be_created() {
    let scratch = Scratch::new();
    scratch.write("file", "no certificate\n");
    for (line, expected) in [
        ("state_directory: file/state", "file/state: cannot be created, because file is not a directory"),
        ("state_directory: file", "file is not a directory"),
        ("takeover_socket: missing/takeover", "the directory missing does not exist"),
        (&format!("takeover_socket: {}", "x".repeat(200)), "not a valid path of a socket"),
        ("certificate_authority: file", "file: the file has no certificate"),
    ] {
        scratch.write("zonal.yaml", format!("control_plane: {{push: {{}}}}\n{line}\n"));
        let (code, told) = zonal(&scratch, "check --format json");
        assert!(code == Some(1) && told.contains(expected), "{line}: {told}");
    }
    scratch.write("zonal.yaml", "control_plane: {push: {}}\nstate_directory: a/b/c\ntakeover_socket: takeover\n");
    assert_eq!(zonal(&scratch, "check").0, Some(0));
}

#[test]
fn a_json_log_has_json_lines_only() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let admin = "{address: \"127.0.0.1:PORT\"}";
    let people = Scratch::new();
    let (process, _) = node(&people, admin, "");
    process.wait_for_log("Example queries");
    let programs = Scratch::new();
    let (process, port) = node(&programs, admin, "log: {format: json}\n");
    let (code, text) = zonal(&programs, &format!("status --all 127.0.0.1:{port}"));
    assert_eq!(code, Some(0), "{text}");
    // The last line may be incomplete.
    let log = process.log();
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

/// A full log pipe without a reader delays neither changes nor the shutdown.
#[test]
fn answers_while_nobody_reads_the_log() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut other = writer.try_clone().unwrap();
    // The pipe is full, whatever its size.
    let filler = std::thread::spawn(move || while other.write_all(&[b'x'; 4096]).is_ok() {});
    let (port, admin) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let scratch = Scratch::new();
    scratch.write(
        "zonal.yaml",
        format!(
            "listen: [{{address: \"127.0.0.1:{port}\"}}]\ncontrol_plane: {{push: {{}}}}\nadmin: {{address: \"{admin}\"}}\n\
             internet_resolver: none\n"
        ),
    );
    let start = |command: &mut Command| {
        command.stderr(writer);
    };
    let mut process = Process::start_with(&[ZONAL, "serve", "--config", "zonal.yaml"], &scratch, "zonal", start);
    wait_until("it is alive", || (http_get(admin, "/live")?.0 == 200).then_some(()));
    let manifest = r#"{"generation": 1, "vpcs": {"vpc": {"region": "r", "cidr_blocks": ["10.0.0.0/16"]}}}"#;
    assert_eq!(http_send(admin, "PUT", "/v1/manifest", manifest), Some(200));
    rustix::process::kill_process(Pid::from_raw(process.id() as i32).unwrap(), Signal::TERM).unwrap();
    wait_until("it has ended", || process.ended());
    let mut octets = [0; 1];
    reader.read_exact(&mut octets).unwrap();
    drop(reader);
    filler.join().unwrap();
}

/// A write error of the output makes a command fail. A closed pipe does not.
#[test]
fn commands_fail_when_their_output_cannot_be_written() {
    let scratch = Scratch::new();
    let (_node, admin) = node(&scratch, "{address: \"127.0.0.1:PORT\"}", "");
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let command = |arguments: &str| {
        let mut command = Command::new(ZONAL);
        command.args(arguments.split(' ')).current_dir(scratch.path()).stderr(closed());
        command
    };
    for arguments in ["schema", "check", "status", "cache show", "completions bash"] {
        let status = |mut command: Command| command.status().unwrap().code();
        let mut to_nobody = command(arguments);
        to_nobody.stdout(closed());
        assert_eq!(status(to_nobody), Some(0), "{arguments}: who reads it has gone away");
        let mut to_full = command(arguments);
        to_full.stdout(full());
        assert_eq!(status(to_full), Some(1), "{arguments}");
        let output = command(arguments).stdout(full()).stderr(std::process::Stdio::piped()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("standard output cannot be written: No space left"), "{arguments}: {told}");
    }
    // Standard error is closed as well.
    for (arguments, code) in [
        (format!("export --server 127.0.0.1:{} --directory out", free_port()), 1),
        ("explain --from 127.1.0.7 a..b".into(), 2),
        ("check --config missing.yaml".into(), 1),
        ("serve --config missing.yaml".into(), 1),
        (format!("wait --revision 7 --timeout 0 127.0.0.1:{admin}"), 1),
    ] {
        assert_eq!(command(&arguments).status().unwrap().code(), Some(code), "{arguments}");
    }
}

/// A server that answers with JSON is not necessarily a node.
#[test]
fn commands_recognise_servers_that_are_not_zonal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        }
    });
    let scratch = Scratch::new();
    for arguments in ["status --all ADDRESS", "cache show --admin ADDRESS", "cache flush --admin ADDRESS"] {
        let (code, told) = zonal(&scratch, &arguments.replace("ADDRESS", &address.to_string()));
        assert_eq!(code, Some(1), "{arguments}: {told}");
        assert!(told.contains("is not the admin API of `zonal serve`"), "{told}");
    }
}

/// The example of `init` has no problems, zonal serves it, and it answers. `init` overwrites
/// nothing.
#[test]
fn init_writes_an_example_that_answers() {
    if !can_run(&["setpriv", "dig"]) {
        return;
    }
    let scratch = Scratch::new();
    let (code, told) = zonal(&scratch, "init new/node");
    assert!(code == Some(0) && told.contains("cd new/node && zonal\n"), "{told}");
    let (code, told) = zonal(&scratch, "check --config new/node/zonal.yaml --deny-warnings");
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = zonal(&scratch, "check new/node/zones --deny-warnings");
    assert!(code == Some(0) && told.contains("no errors, no warnings"), "{told}");
    for again in ["init new/node", "init new"] {
        // A file or a manifest exists already.
        if again == "init new" {
            scratch.write("new/zones/other.yaml", "vpcs: {}\n");
        }
        let (code, told) = zonal(&scratch, again);
        assert!(code == Some(1) && told.contains("nothing was written"), "{again}: {told}");
        assert!(again == "init new/node" || !scratch.path().join("new/zonal.yaml").exists());
    }
    let explain = |more: &str| zonal(&scratch, &format!("explain --directory new/node/zones {more}"));
    let (code, told) = explain("--from 127.1.0.7 --from 127.1.128.7 sqs.us-east-1.amazonaws.com");
    assert!(code == Some(0) && told.contains(" 127.2.0.10") && told.contains(" 127.2.128.10"), "{told}");
    let (code, told) = explain("--from 127.1.0.7 --to 127.1.0.2 -x 127.1.0.9");
    assert!(code == Some(0) && told.starts_with("9.0.1.127.in-addr.arpa. PTR, from 127.1.0.7"), "{told}");
    // Another program may have the ports of the example.
    let (port, admin) = (free_port(), free_port());
    let text = std::fs::read_to_string(scratch.path().join("new/node/zonal.yaml")).unwrap();
    let text = text.replace("127.0.0.1:9153", &format!("127.0.0.1:{admin}"));
    let text = format!("{text}listen: [{{address: \"127.0.0.1:{port}\"}}]\n");
    scratch.write("new/node/zonal.yaml", text);
    let mut process = Process::start(&[ZONAL, "serve", "--config", "new/node/zonal.yaml"], &scratch, "node");
    let log = wait_until("it serves", || {
        process.assert_alive();
        let log = process.log();
        log.contains("serving ").then_some(log)
    });
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("serving version=\"{version}\" configuration=new/node/zonal.yaml ");
    assert!(log.contains(&expected) && log.contains(&format!("admin_api=http://127.0.0.1:{admin}")), "{log}");
    for (client, own) in [("127.1.0.7", "127.2.0.10"), ("127.1.128.7", "127.2.128.10")] {
        let arguments = ["-b", client, "@127.0.0.1", "-p", &port.to_string(), "+short", "sqs.us-east-1.amazonaws.com"];
        let output = Command::new("dig").args(arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), own, "{client}");
    }
}
