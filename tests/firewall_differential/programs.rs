//! BIND, Unbound and PowerDNS Recursor with the zones of all networks, and queries to a resolver.

use super::{
    oracle::{Answer, complete},
    zones::{Network, Query, clients, zone_name, zone_text},
};
use crate::harness::{Process, Scratch, free_port, reply::Reply, wait_until};
use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// The number of queries at once.
const THREADS: usize = 12;
/// The number of times that a query is sent whose reply is expected.
const ATTEMPTS: usize = 5;
/// How long a query waits that is expected to get no reply.
const SILENCE: Duration = Duration::from_millis(600);

/// A resolver at a port.
pub struct Resolver {
    port: u16,
    _process: Option<Process>,
    /// For a program that serves the zones of one network at a time: its directory, and the configuration of each network.
    configurations: Option<(String, Vec<String>)>,
}

impl Resolver {
    /// A resolver that runs.
    pub fn at(port: u16) -> Resolver {
        Resolver { port, _process: None, configurations: None }
    }

    fn started(port: u16, process: Process) -> Resolver {
        let resolver = Resolver { port, _process: Some(process), configurations: None };
        wait_until("the resolver answers", || {
            let query = Query {
                network: 0,
                client: Ipv4Addr::new(127, 77, 0, 250),
                name: "garden9.g.example".into(),
                qtype: "A",
                is_tcp: false,
            };
            matches!(resolver.exchange(&query, Duration::from_millis(200)), Ok(Answer::Complete(..))).then_some(())
        });
        resolver
    }

    /// Whether it serves the zones of one network at a time.
    pub fn has_one_network(&self) -> bool {
        self.configurations.is_some()
    }

    /// Serves the zones of a network, if it cannot serve those of all.
    pub fn serve(&self, network: usize) {
        let Some((directory, configurations)) = &self.configurations else { return };
        std::fs::write(format!("{directory}/zones.lua"), &configurations[network]).unwrap();
        let socket = format!("--socket-dir={directory}");
        let output = Command::new("rec_control").args([&socket, "reload-lua-config"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The answers to queries, each with the answer that is expected.
    pub fn ask(&self, queries: &[(Query, Answer)]) -> Vec<Answer> {
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(vec![Answer::Unknown; queries.len()]));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some((at, (query, expected))) =
                        Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, queries.get(at)?)))
                    {
                        let answer = self.answer(query, *expected == Answer::Dropped);
                        answers.lock().unwrap()[at] = answer;
                    }
                });
            }
        });
        answers.into_inner().unwrap()
    }

    fn answer(&self, query: &Query, expects_none: bool) -> Answer {
        if expects_none {
            return self.exchange(query, SILENCE).unwrap_or(Answer::Dropped);
        }
        let attempt = |_| self.exchange(query, Duration::from_secs(2)).ok();
        (0..ATTEMPTS).find_map(attempt).unwrap_or(Answer::Dropped)
    }

    fn exchange(&self, query: &Query, patience: Duration) -> io::Result<Answer> {
        let message = message(query);
        let (source, server) =
            (SocketAddr::from((query.client, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        let mut reply = vec![0; 4096];
        if query.is_tcp {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&source.into())?;
            socket.connect(&server.into())?;
            socket.set_read_timeout(Some(patience))?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat())?;
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            reply.truncate(u16::from_be_bytes(len).into());
            stream.read_exact(&mut reply)?;
        } else {
            let socket = UdpSocket::bind(source)?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(patience))?;
            socket.send(&message)?;
            let len = socket.recv(&mut reply)?;
            reply.truncate(len);
        }
        Ok(read(&Reply::of_message(&reply)))
    }
}

/// A query without EDNS.
fn message(query: &Query) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in query.name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    let qtype = match query.qtype {
        "A" => 1,
        "CNAME" => 5,
        "TXT" => 16,
        _ => 28,
    };
    message.extend([0, 0, qtype, 0, 1]);
    message
}

/// An answer without what is not compared: flags, sections other than the answer, and TTLs of other servers.
fn read(reply: &Reply) -> Answer {
    if reply.flags.contains("tc") {
        return Answer::Truncated;
    }
    let record = |line: &String| {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let is_compared = |ttl: &u32| *ttl == 0 || *ttl >= 1000;
        let ttl = fields[1].parse().ok().filter(is_compared).map_or("-".into(), |ttl: u32| ttl.to_string());
        format!("{} {ttl} {} {}", fields[0].to_lowercase(), fields[2], fields[3].to_lowercase())
    };
    complete(&reply.status, reply.answer.iter().map(record).collect())
}

/// Each zone with its name and its network. Writes all of them as master files.
fn write_zones(scratch: &Scratch, networks: &[Network]) -> Vec<Vec<String>> {
    let write = |(number, network): (usize, &Network)| {
        let zones = network.zones.iter().enumerate().map(|(at, zone)| {
            let name = zone_name(number, at);
            scratch.write(&format!("{name}.zone"), zone_text(&name, zone));
            name
        });
        zones.collect()
    };
    networks.iter().enumerate().map(write).collect()
}

/// BIND, with one view for each network.
pub fn bind(scratch: &Scratch, networks: &[Network], upstream: SocketAddr) -> Resolver {
    let (port, directory) = (free_port(), scratch.path().display());
    let mut config = format!(
        "options {{ directory \"{directory}\"; pid-file none; session-keyfile none; \
         listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes; allow-query {{ any; }}; \
         dnssec-validation no; forward only; forwarders {{ {} port {}; }}; }};\ncontrols {{ }};\n",
        upstream.ip(),
        upstream.port()
    );
    for (number, zones) in write_zones(scratch, networks).iter().enumerate() {
        let _ = writeln!(config, "view n{number} {{ match-clients {{ {}; }};", clients(number));
        for zone in zones {
            let _ = writeln!(config, "zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; }};");
        }
        let policies: String = zones.iter().map(|zone| format!("zone \"{zone}\" max-policy-ttl 86400; ")).collect();
        let _ = writeln!(
            config,
            "response-policy {{ {policies}}} qname-wait-recurse no break-dnssec yes recursive-only no; }};"
        );
    }
    let path = scratch.write("named.conf", config);
    Resolver::started(port, Process::start(&["named", "-g", "-n", "1", "-c", path.to_str().unwrap()], scratch, "named"))
}

/// Unbound, with one tag for each network.
pub fn unbound(scratch: &Scratch, networks: &[Network], upstream: SocketAddr) -> Resolver {
    let (port, directory) = (free_port(), scratch.path().display());
    let tags: Vec<String> = (0..networks.len()).map(|number| format!("n{number}")).collect();
    let mut config = format!(
        "server:\n  interface: 127.0.0.1@{port}\n  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  \
         username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  directory: \"{directory}\"\n  use-syslog: no\n  \
         do-daemonize: no\n  module-config: \"respip iterator\"\n  define-tag: \"{}\"\n",
        tags.join(" ")
    );
    for (number, tag) in tags.iter().enumerate() {
        let _ = writeln!(config, "  access-control-tag: {} \"{tag}\"", clients(number));
    }
    let _ = write!(
        config,
        "remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
        upstream.ip(),
        upstream.port()
    );
    for (zones, tag) in write_zones(scratch, networks).iter().zip(&tags) {
        for zone in zones {
            let _ = writeln!(config, "rpz:\n  name: {zone}\n  zonefile: {zone}.zone\n  tags: \"{tag}\"");
        }
    }
    let path = scratch.write("unbound.conf", config);
    Resolver::started(port, Process::start(&["unbound", "-d", "-c", path.to_str().unwrap()], scratch, "unbound"))
}

/// PowerDNS Recursor. It takes the zones of one network at a time, because its zones are for all clients.
pub fn powerdns(scratch: &Scratch, networks: &[Network], upstream: SocketAddr) -> Resolver {
    let (port, directory) = (free_port(), scratch.path().display().to_string());
    let config = format!(
        "local-address=127.0.0.1:{port}\nforward-zones-recurse=.={upstream}\ndnssec=off\n\
         lua-config-file={directory}/zones.lua\nsecurity-poll-suffix=\ndaemon=no\ndisable-syslog=yes\n\
         allow-from=127.0.0.0/8\ndont-query=\nsocket-dir={directory}\nthreads=1\nserve-rfc1918=no\n\
         disable-packetcache=yes\n"
    );
    scratch.write("recursor.conf", config);
    scratch.write("zones.lua", "");
    let zones = write_zones(scratch, networks);
    let line = |zone: &String| format!("rpzFile('{directory}/{zone}.zone', {{policyName='{zone}'}})\n");
    let configurations = zones.iter().map(|zones| zones.iter().map(line).collect()).collect();
    let flag = format!("--config-dir={directory}");
    let process = Process::start(&["pdns_recursor", &flag], scratch, "pdns_recursor");
    Resolver { configurations: Some((directory, configurations)), ..Resolver::started(port, process) }
}
