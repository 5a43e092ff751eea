//! Other vendors' programs that read zonal's query logs.

use super::*;

/// The receiver of the reference implementation accepts the messages, and BIND's tool reads them.
#[test]
fn other_programs_read_the_dnstap_messages() {
    if !can_run(&["setpriv", "fstrm_capture", "dnstap-read"]) {
        return;
    }
    let fake = upstream();
    let scratch = Scratch::new();
    scratch.write("zones/manifest.yaml", manifest("  {}", fake.address.port()));
    let port = free_port().to_string();
    for (way, listen, to, messages) in [
        ("unix", vec!["-u", "tap.sock"], format!("unix: \"{}\"", scratch.path().join("tap.sock").display()), ""),
        (
            "tcp",
            vec!["-a", "127.0.0.1", "-p", &port],
            format!("tcp: \"127.0.0.1:{port}\""),
            ", messages: [client_response]",
        ),
    ] {
        let file = format!("{way}.fstrm");
        let command = [vec!["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-w", &file], listen].concat();
        let mut capture = Process::start(&command, &scratch, way);
        if way == "unix" {
            wait_until("the socket is there", || scratch.path().join("tap.sock").exists().then_some(()));
        } else {
            wait_until("it listens", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).ok());
        }
        let more = format!("dnstap: {{{to}, identity: node-1{messages}}}\n");
        let mut server = Server::start_with(&scratch.path().join("zones"), &more);
        assert_eq!(ask(&server, "127.61.0.7", "www.corp.test A"), "NOERROR");
        assert_eq!(ask(&server, "127.61.0.7", "www.far.test A +tcp"), "NOERROR");
        assert_eq!(ask(&server, "127.64.0.7", "stranger.test A"), "REFUSED");
        let least = if messages.is_empty() { 8.0 } else { 3.0 };
        wait_until("all is sent", || {
            (server.metric(&["zonal_dnstap_messages_total", "written"]) >= least).then_some(())
        });
        for process in [&mut server.process, &mut capture] {
            let id = rustix::process::Pid::from_raw(process.id() as i32).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            wait_until("it ends", || process.ended());
        }
        let output = Command::new("dnstap-read").arg(scratch.path().join(&file)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let has = |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has(&["CR", "127.61.0.7:", "127.0.0.1", "UDP", "www.corp.test/IN/A"]), "{text}");
        assert!(has(&["CR", "127.61.0.7:", "TCP", "www.far.test/IN/A"]), "{text}");
        assert!(has(&["CR", "127.64.0.7:", "stranger.test/IN/A"]), "{text}");
        let server_address = format!("127.0.0.1:{}", fake.address.port());
        for (code, words) in [
            ("CQ", ["127.61.0.7:", "www.corp.test/IN/A"]),
            ("FQ", [&server_address, "www.far.test/IN/A"]),
            ("FR", [&server_address, "www.far.test/IN/A"]),
        ] {
            let is_there = text.lines().any(|line| {
                let lower = line.to_ascii_lowercase();
                line.contains(&format!(" {code} "))
                    && words.iter().all(|word| lower.contains(&word.to_ascii_lowercase()))
            });
            assert_eq!(is_there, messages.is_empty(), "{code} {words:?}\n{text}");
        }
        let full = Command::new("dnstap-read").arg("-y").arg(scratch.path().join(&file)).output().unwrap();
        let full = String::from_utf8_lossy(&full.stdout).into_owned();
        // A message of a client has both ports. A message of an upstream server has the port of that server.
        let port = server.port;
        for message in full.split("\n---\n").filter(|message| message.contains("  type: ")) {
            let has = |field: &str| message.lines().any(|line| line.trim_start().starts_with(&format!("{field}: ")));
            for field in
                ["socket_family", "socket_protocol", "response_address", "response_port", "query_address", "query_port"]
            {
                assert!(has(field), "{field}\n{message}");
            }
            let is_of_client = message.contains("CLIENT_");
            let expected = if is_of_client { port } else { fake.address.port() };
            assert!(message.contains(&format!("response_port: {expected}\n")), "{message}");
        }
        assert!(full.contains("identity: node-1") && full.contains("version: zonal "), "{full}");
    }
}
