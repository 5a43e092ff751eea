//! Restarts under load: no query is lost, no acknowledged change is lost, and a failed takeover has
//! no effect.

use crate::harness::{
    Process, Scratch, Server, ZONAL, can_run, http_get, http_send,
    secure::{Certificate, RUNTIME, SecureServer},
    succession::{Question, Succession, query, under_load},
    systemd::{Systemd, has_ended},
    tree, wait_until,
};
use hickory_proto::op::Message;
use rustix::{
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, recv, send, socket,
        socket_with,
    },
    process::{Pid, Signal, kill_process},
};
use serde_json::json;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::sleep,
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zonal::answer::Transport;

/// The name of the queries under load.
const LOAD: Question = Question { name: "load.example", is_right: |text| text == "right" };
/// A name whose TXT record is a growing number.
const NUMBER: Question = Question { name: "number.example", is_right: |text| text.parse::<u64>().is_ok() };

fn manifest(n: u64) -> String {
    format!(
        "vpcs: {{vpc: {{region: r, cidr_blocks: [127.0.0.0/8]}}}}\nprivate_hosted_zones:\n  \
         Z1: {{name: load.example, vpc_ids: [vpc], records: [{{name: '@', type: TXT, ttl: 0, records: ['\"right\"']}}]}}\n  \
         Z2: {{name: number.example, vpc_ids: [vpc], records: [{{name: '@', type: TXT, ttl: 0, records: ['\"{n}\"']}}]}}\n"
    )
}

/// The number in the current answer; `None` without an answer.
fn number(port: u16) -> Option<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send(&query(7, NUMBER.name, false)).unwrap();
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    let message = Message::from_vec(&buffer[..len]).unwrap();
    message.answers.first()?.data.to_string().trim_matches('"').parse().ok()
}

/// A directory with a manifest, in `zones`, and a certificate.
fn site() -> (Scratch, Certificate) {
    let (scratch, certificate) = (Scratch::new(), Certificate::until(2999));
    scratch.write("tls.crt", &certificate.certificate);
    scratch.write("tls.key", &certificate.private_key);
    scratch.write("zones/manifest.yaml", manifest(0));
    (scratch, certificate)
}

/// zonal with all transports, and the processes that replace it.
fn server(more: &str) -> (SecureServer, Succession) {
    let (scratch, certificate) = site();
    let directory = scratch.path().join("zones");
    let server =
        SecureServer::start_in(scratch, certificate, &directory, &format!("takeover_socket: takeover\n{more}"));
    let succession = Succession::new(&server.scratch, server.process.id());
    (server, succession)
}

/// Changes the number, and waits until it is served.
fn change(server: &SecureServer, n: u64) {
    server.scratch.write("zones/manifest.yaml", manifest(n));
    wait_until("the change is served", || (number(server.do53) == Some(n)).then_some(()));
}

/// Checks that each transport had at least 10 answers.
fn is_a_load(answers: &std::collections::BTreeMap<&'static str, u64>) {
    assert!(answers.len() == 7 && answers.values().all(|count| *count >= 10), "{answers:?} are no load");
}

#[test]
fn takeover_under_load_loses_no_query() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (server, mut succession) = server("");
    let client = server.client("127.0.0.1");
    let answers = under_load(&server, LOAD, || {
        for round in 1..=3 {
            sleep(Duration::from_millis(100));
            succession.renew();
            assert_eq!(http_get(server.admin, "/ready").unwrap().0, 200);
            // QUIC connections are closed and opened again.
            for transport in [Transport::Quic, Transport::H3] {
                let reply = RUNTIME.block_on(client.ask(transport, &query(0, LOAD.name, false)));
                assert_eq!(reply[3] & 15, 0, "{reply:?}");
            }
            succession.start(&server.scratch);
            change(&server, round);
        }
    });
    is_a_load(&answers);
    // A new process whose configuration lacks an address closes the inherited socket.
    let gone = server.dot;
    let config = fs::read_to_string(server.scratch.path().join("zonal.yaml")).unwrap();
    let lines = config.lines().filter(|line| !line.contains("protocol: DoT"));
    server.scratch.write("zonal.yaml", lines.map(|line| format!("{line}\n")).collect::<String>());
    succession.renew();
    wait_until("the port is free", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, gone)).ok());
    assert_eq!(number(server.do53), Some(3));
}

/// The old process does not reset new connections, even before their first request. Only GOAWAY
/// tells an HTTP/2 client that its last requests were not processed (RFC 9113, section 6.8).
#[test]
fn takeover_resets_no_new_connection() {
    const GOAWAY: u8 = 7;
    if !can_run(&["setpriv"]) {
        return;
    }
    let (server, mut succession) = server("");
    let client = server.client("127.0.0.1");
    let mut made = RUNTIME.block_on(client.tls(Transport::Https, "h2"));
    succession.renew_soon();
    wait_until("another one has taken over", || succession.logs().contains("new process took over").then_some(()));
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let kinds = RUNTIME.block_on(async {
        made.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()).await.unwrap();
        made.flush().await.unwrap();
        let mut kinds = Vec::new();
        while !kinds.contains(&GOAWAY) {
            let mut header = [0; 9];
            if made.read_exact(&mut header).await.is_err() {
                break;
            }
            made.read_exact(&mut vec![0; usize::from(header[2])]).await.unwrap();
            kinds.push(header[3]);
        }
        kinds
    });
    assert!(kinds.contains(&GOAWAY), "closed without a word but for frames of the types {kinds:?}");
    drop(made);
    succession.follow();
}

#[test]
fn restart_by_systemd_under_load_loses_no_query() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (scratch, certificate) = site();
    let (systemd, directory) = (Systemd::new(&scratch), scratch.path().join("zones"));
    let start = |command: &[&str], scratch: &Scratch| systemd.start(command, scratch, "zonal");
    let more = "takeover_socket: takeover\nstate_directory: state\n";
    let server = SecureServer::start_by(start, scratch, certificate, &directory, more);
    systemd.ready();
    let mut succession = Succession::new(&server.scratch, server.process.id());
    let cores = std::thread::available_parallelism().unwrap().get();
    let kept = systemd.kept();
    // The sockets: Do53 over TCP, and over UDP for each core; DoT; DoH over TCP and UDP; DoQ; the
    // HTTP API.
    assert_eq!(kept.len(), 1 + cores + 1 + 2 + 1 + 1, "{kept:?}");
    assert!(
        kept.contains(&format!("udp-0.0.0.0-{}", server.do53)) && kept.contains(&format!("tcp-0.0.0.0-{}", server.dot))
    );
    let config = server.scratch.path().join("zonal.yaml");
    let command = [ZONAL, "serve", "--config", config.to_str().unwrap()];
    let mut processes = Vec::new();
    let mut restart = |name: String| {
        let old = systemd.main();
        kill_process(Pid::from_raw(old as i32).unwrap(), Signal::TERM).unwrap();
        wait_until("it has ended", || has_ended(old).then_some(()));
        processes.push(systemd.start(&command, &server.scratch, &name));
        systemd.ready();
    };
    let answers = under_load(&server, LOAD, || {
        for round in 1..=3 {
            sleep(Duration::from_millis(100));
            restart(format!("restarted-{round}"));
            assert_eq!(systemd.kept(), kept, "the same sockets");
            change(&server, round);
            assert_eq!(http_get(server.admin, "/ready").unwrap().0, 200);
        }
        // A new process takes over and becomes the service's main process, which systemd then
        // restarts.
        succession.current = systemd.main();
        succession.renew();
        assert_eq!(systemd.main(), succession.current);
        restart("restarted-at-last".into());
        assert_eq!(systemd.kept(), kept);
    });
    is_a_load(&answers);
    // If systemd kills the process, the stored sockets remain, and queries wait in them.
    let old = systemd.main();
    kill_process(Pid::from_raw(old as i32).unwrap(), Signal::KILL).unwrap();
    wait_until("it has ended", || has_ended(old).then_some(()));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| number(server.do53));
        restart_killed(&systemd, &command, &server.scratch, &mut processes);
        assert_eq!(waits.join().unwrap(), Some(3));
    });
    wait_until("all is well", || systemd.said().contains(&"WATCHDOG=1".into()).then_some(()));
    let said = systemd.said();
    assert!(said.contains(&"STOPPING=1".into()), "{said:?}");
    assert!(
        said.iter()
            .any(|line| line.starts_with("STATUS=") && line.contains("serving private_hosted_zones 2, vpcs 1 on ")),
        "{said:?}"
    );
    // zonal makes systemd drop the socket of an address that is no longer configured.
    let text = fs::read_to_string(&config).unwrap();
    let lines = text.lines().filter(|line| !line.contains("protocol: DoT"));
    server.scratch.write("zonal.yaml", lines.map(|line| format!("{line}\n")).collect::<String>());
    let old = systemd.main();
    kill_process(Pid::from_raw(old as i32).unwrap(), Signal::TERM).unwrap();
    wait_until("it has ended", || has_ended(old).then_some(()));
    restart_killed(&systemd, &command, &server.scratch, &mut processes);
    let dot = format!("tcp-0.0.0.0-{}", server.dot);
    wait_until("it is forgotten", || (systemd.kept().len() == kept.len() - 1).then_some(()));
    assert!(!systemd.kept().contains(&dot), "{:?}", systemd.kept());
}

/// Starts the service after it has ended.
fn restart_killed(systemd: &Systemd, command: &[&str], scratch: &Scratch, processes: &mut Vec<Process>) {
    processes.push(systemd.start(command, scratch, &format!("started-{}", processes.len())));
    systemd.ready();
}

#[test]
fn a_failed_takeover_changes_nothing() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (mut server, succession) = server("");
    let text = fs::read_to_string(server.scratch.path().join("zonal.yaml")).unwrap();
    server.scratch.write("broken/manifest.yaml", "vpcs: [");
    server.scratch.write("empty/notes.txt", "nothing is here");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("address: '{}'", server.admin);
    let zones = format!("directory: {}", server.scratch.path().join("zones").display());
    let cases = [
        (text.replace("internet_resolver", "internet_revolver"), "did you mean `internet_resolver`"),
        (text.replace("tls.crt", "missing.crt"), "missing.crt: cannot be read"),
        (text.replace(&zones, "directory: broken"), "the manifest is refused"),
        (text.replace(&zones, "directory: empty"), "the directory has no manifest files any more"),
        (text.replace(&zones, "directory: none"), "create the directory, or give another one"),
        (
            text.replace(&format!("0.0.0.0:{}", server.do53), &format!("192.0.2.1:{}", server.do53)),
            "`ip address` shows",
        ),
        (
            text.replace(&admin, &format!("address: '{}'", taken.local_addr().unwrap())),
            "cannot listen; choose another address",
        ),
        (text.replace("takeover_socket: takeover", "takeover_socket: tls.key/takeover"), "check `takeover_socket`"),
    ];
    let answers = under_load(&server, LOAD, || {
        for (n, (config, expected)) in (1..).zip(&cases) {
            assert_ne!(*config, text, "{expected}");
            server.scratch.write("other.yaml", config);
            let mut other = succession.try_start(&server.scratch, "other.yaml");
            assert!(other.has_failed(), "{}", other.log());
            assert!(other.log().contains(expected), "{expected}: {}", other.log());
            change(&server, n);
        }
    });
    is_a_load(&answers);
    server.process.assert_alive();
}

/// A client of the takeover socket that stops after one of the protocol's steps.
struct Caller(OwnedFd);

impl Caller {
    fn new(scratch: &Scratch) -> Caller {
        let caller = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        connect(&caller, &SocketAddrUnix::new(scratch.path().join("takeover")).unwrap()).unwrap();
        Caller(caller)
    }

    fn say(&self, text: &str) {
        send(&self.0, text.as_bytes(), rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    /// The next message; empty at the end.
    fn hear(&self) -> String {
        let mut text = [0; 512];
        // The kernel closes the descriptors that come with the message.
        let (len, _) = recv(&self.0, &mut text, rustix::net::RecvFlags::empty()).unwrap_or_default();
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    fn hear_until(&self, expected: &str) {
        loop {
            let text = self.hear();
            assert!(text == "sockets" || text == expected, "{text}");
            if text == expected {
                return;
            }
        }
    }
}

#[test]
fn a_process_that_ends_during_the_takeover_changes_nothing() {
    if !can_run(&["setpriv", "mkfifo"]) {
        return;
    }
    let (mut server, mut succession) = server("state_directory: state\n");
    let scratch = &server.scratch;
    let text = fs::read_to_string(scratch.path().join("zonal.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(scratch.path().join("fifo")).status().unwrap().success());
    let hello = "zonal takeover 1";
    let answers = under_load(&server, LOAD, || {
        let mut n = 0;
        let mut changes = || {
            n += 1;
            change(&server, n);
        };
        // The caller stops after each step of the protocol.
        drop(Caller::new(scratch));
        changes();
        let caller = Caller::new(scratch);
        caller.say("GET / HTTP/1.1");
        assert!(caller.hear().contains(hello), "the reply has the expected message");
        assert_eq!(caller.hear(), "");
        changes();
        let caller = Caller::new(scratch);
        caller.say(hello);
        drop(caller);
        changes();
        for last in [None, Some("redy")] {
            let caller = Caller::new(scratch);
            caller.say(hello);
            caller.hear_until("frozen: directory");
            last.into_iter().for_each(|last| caller.say(last));
            drop(caller);
            changes();
        }
        // A real process that fails before it connects, and a process that fails when only its
        // certificate is missing.
        for (config, is_frozen) in [
            (format!("{text}cookie_secret_file: fifo\n"), false),
            (text.replace("certificate: tls.crt", "certificate: fifo"), true),
        ] {
            scratch.write("other.yaml", config);
            let mut other = succession.try_start(scratch, "other.yaml");
            let called = format!("takeover started process={}", other.id());
            if is_frozen {
                wait_until("it takes over", || succession.logs().contains(&called).then_some(()));
                // zonal applies a change that arrives now after the failure.
                scratch.write("zones/manifest.yaml", manifest(1000));
            }
            sleep(Duration::from_millis(300));
            assert_ne!(number(server.do53), Some(1000));
            assert_eq!(succession.logs().contains(&called), is_frozen);
            other.kill();
            if is_frozen {
                wait_until("the change is served", || (number(server.do53) == Some(1000)).then_some(()));
            }
            changes();
        }
        // Another process can take over after the failures.
        succession.start(scratch);
        changes();
    });
    is_a_load(&answers);
    wait_until("the first one has ended well", || server.process.ended());
}

#[test]
fn takeover_during_reloads_loses_no_change() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (server, mut succession) = server("state_directory: state\n");
    let generation = || {
        let status = http_get(server.admin, "/v1/status").expect("a status").1;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["generation"].as_u64().unwrap()
    };
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let answers = under_load(&server, NUMBER, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let n = written.fetch_add(1, Relaxed) + 1;
                    server.scratch.write("zones/manifest.yaml", manifest(n));
                    sleep(Duration::from_millis(7));
                }
            });
            for round in 0..6 {
                let (before, least) = (generation(), written.load(Relaxed) + 3);
                wait_until("it changes", || (written.load(Relaxed) > least).then_some(()));
                if round % 2 == 0 {
                    succession.renew()
                } else {
                    succession.start(&server.scratch)
                }
                assert!(generation() >= before, "{} after {before}", generation());
            }
            stop.store(true, Relaxed);
        });
        wait_until("the last change is served", || (number(server.do53) == Some(written.load(Relaxed))).then_some(()));
    });
    is_a_load(&answers);
}

/// Pushes growing numbers while processes take over. No acknowledged number is lost.
fn what_was_acknowledged_survives(state: &str) -> (Succession, Server, u64) {
    let server = Server::start_from("{push: {}}", &format!("takeover_socket: takeover\n{state}"));
    let mut succession = Succession::new(&server.scratch, server.process.id());
    let zone = |n: u64| {
        json!({"name": "number.example", "vpc_ids": ["vpc"],
               "records": [{"name": "@", "type": "TXT", "ttl": 0, "records": [format!("\"{n}\"")]}]})
    };
    let first = json!({"generation": 1, "vpcs": {"vpc": {"region": "r", "cidr_blocks": ["127.0.0.0/8"]}},
                       "private_hosted_zones": {"Z": zone(0)}});
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", &first.to_string()), Some(200));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let refused = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let (mut n, mut refused) = (0, 0);
            while !stop.load(Relaxed) {
                match http_send(server.admin, "PUT", "/v1/private_hosted_zones/Z", &zone(n + 1).to_string()) {
                    Some(200) => {
                        n += 1;
                        acknowledged.store(n, Relaxed);
                    }
                    // The change may have been applied or not, so the client repeats it.
                    Some(503) | None => refused += 1,
                    Some(status) => panic!("{status}"),
                }
            }
            refused
        });
        for round in 0..6 {
            let least = acknowledged.load(Relaxed) + 5;
            wait_until("it changes", || (acknowledged.load(Relaxed) >= least).then_some(()));
            if round % 2 == 0 {
                succession.renew()
            } else {
                succession.start(&server.scratch)
            }
            let before = acknowledged.load(Relaxed);
            assert!(number(server.port).is_some_and(|n| n >= before), "{before} is lost: {:?}", number(server.port));
        }
        stop.store(true, Relaxed);
        pusher.join().unwrap()
    });
    // Each takeover interrupts few changes: the change in progress, and later changes until the new
    // process answers.
    assert!(refused <= 18, "{refused}");
    let last = acknowledged.load(Relaxed);
    assert!(number(server.port).is_some_and(|n| n >= last), "{last} is lost");
    (succession, server, last)
}

#[test]
fn acknowledged_changes_survive_a_takeover_in_memory() {
    if can_run(&["setpriv"]) {
        let (succession, server, _) = what_was_acknowledged_survives("");
        drop((succession, server));
    }
}

#[test]
fn acknowledged_changes_survive_a_takeover_on_disk() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let (succession, server, last) = what_was_acknowledged_survives("state_directory: state\n");
    // A new process with another state directory would not have the changes.
    let config = fs::read_to_string(server.scratch.path().join("zonal.yaml")).unwrap();
    server.scratch.write("other.yaml", config.replace("state_directory: state", "state_directory: other"));
    let mut other = succession.try_start(&server.scratch, "other.yaml");
    assert!(other.has_failed() && other.log().contains("has another `state_directory`"), "{}", other.log());
    // The state is on the disk, too.
    kill_process(Pid::from_raw(succession.current as i32).unwrap(), Signal::KILL).unwrap();
    wait_until("it has ended", || has_ended(succession.current).then_some(()));
    let server = server.restart().ready();
    assert!(number(server.port).is_some_and(|n| n >= last), "{last} is lost");
}

/// A process that is ending closes the connection of a new process. The new process waits, and then
/// starts as usual.
#[test]
fn a_new_process_waits_for_one_that_ends() {
    let scratch = Scratch::new();
    let path = scratch.path().join("takeover");
    let ending = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&ending, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&ending, 8).unwrap();
    scratch.write("zones/manifest.yaml", manifest(7));
    let hangs_up = std::thread::spawn(move || {
        (0..2).for_each(|_| drop(accept(&ending).unwrap()));
    });
    let server = Server::start_with(&scratch.path().join("zones"), &format!("takeover_socket: {}\n", path.display()));
    hangs_up.join().unwrap();
    assert_eq!(number(server.port), Some(7));
}

#[test]
fn without_takeover_socket_no_process_takes_over() {
    if !can_run(&["setpriv"]) {
        return;
    }
    let server = Server::start_from("{push: {}}", "");
    kill_process(Pid::from_raw(server.process.id() as i32).unwrap(), Signal::USR2).unwrap();
    server.process.wait_for_log("SIGUSR2 ignored");
    let mut second = Process::start(
        &[ZONAL, "serve", "--config", server.scratch.path().join("zonal.yaml").to_str().unwrap()],
        &server.scratch,
        "second",
    );
    assert!(second.has_failed() && second.log().contains("another program has the address"), "{}", second.log());
    // Only the user of the process may connect.
    let server = Server::start_from("{push: {}}", "takeover_socket: takeover\n");
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    assert_eq!(mode(&server.scratch.path().join("takeover")) & 0o777, 0o600);
}

/// `systemd-analyze` accepts the shipped unit.
#[test]
fn systemd_accepts_the_unit() {
    if !can_run(&["systemd-analyze"]) {
        return;
    }
    let unit = tree("deploy/systemd/zonal.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
        .arg(&unit)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let level = text.split("exposure level for zonal.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let level: f64 = level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{output:?}"));
    assert!(output.status.success() && level <= 1.5, "{level}\n{text}");
    let text = fs::read_to_string(&unit).unwrap();
    let (head, service) = text.split_once("[Service]").unwrap();
    assert!(head.contains("\nStartLimitIntervalSec=0\n"), "systemd would give up, and close the sockets");
    assert!(service.contains("\nRestartSec=1\n"), "a permanent failure would be a busy loop");
    // The unit runs the program of this build.
    let scratch = Scratch::new();
    let text = text.replace("/usr/bin/zonal", ZONAL);
    let unit = scratch.write("zonal.service", text);
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
