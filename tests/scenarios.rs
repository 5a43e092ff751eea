//! Transcripts that read like dig sessions, replayed through the answer function and over every
//! transport.
//!
//! ```text
//! ; a comment
//! > manifest ../../zones          the directory served, relative to the transcript
//! > upstream 127.31.0.53 x.zone   an upstream server on UDP and TCP, and its master file
//! > now 2026-11-23T10:00:00Z      the time of the queries that follow
//! > draw 7                        the number of each query that follows
//! $ dig -b 127.1.0.7 @127.0.0.1 sqs.us-east-1.amazonaws.com A +noedns
//! status: NOERROR; flags: qr aa rd ra
//! ANSWER: sqs.us-east-1.amazonaws.com. 60 A 127.2.0.10
//! ```
//!
//! `+proxy=SOURCE-DESTINATION`, `+proxy=local` and `+vpce=ID` put a PROXY header before the query.
//!
//! After the header come `EDE: code`, `OPT: names of other options` (`subnet=address/source/scope`
//! for a client subnet), and the lines of the sections, in any order.
//!
//! The clock and counters of a running server cannot be set. So queries after `now` or `draw` go
//! only to the function. Queries with an address outside loopback go only to the function, too.
//! `UPDATE=1` rewrites the expected replies.

use crate::harness::{
    Scratch, Server,
    cluster::Single,
    free_port, http_send,
    reply::Reply,
    secure::{Client as SecureClient, RUNTIME, SecureServer},
    tree,
    upstream::{Data, Upstreams},
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RData, RecordType, rdata::opt::EdnsOption},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use zonal::{
    answer::{
        Client, Moment, Outcome, Transport, answer,
        known::{Entry, Key, KnownAnswer, KnownAnswers, Question, RoutedQuestion},
    },
    forward::{
        cache::Lifetimes,
        read::{ParsedResponse, parse_response},
    },
    manifest::{
        Loader,
        collection::{Collection, Content, Edit, MASTER_FILES},
    },
    snapshot::{
        Snapshot,
        routes::{Route, RouteId, Servers},
    },
    wire::query::LookupName,
};

#[test]
fn transcripts_over_the_function() {
    let mut wrong = String::new();
    let mut asked = 0;
    for (world, transcripts) in by_world() {
        let others = world.others();
        let snapshot = crate::harness::snapshot(world.directory(PORT).path());
        for transcript in transcripts {
            let mut update = fs::read_to_string(&transcript.path).unwrap();
            for exchange in &transcript.exchanges {
                for (transport, _) in Transport::LABELS.into_iter().filter(|(t, _)| exchange.goes_over(*t)) {
                    let reply = function_bytes(&snapshot, &others, exchange, transport);
                    let got = exchange.without_padding(&reply, transport);
                    if transport == Transport::Udp && std::env::var_os("UPDATE").is_some() {
                        update = update.replacen(&exchange.text, &format!("{}\n{got}", exchange.command), 1);
                    } else {
                        exchange.compare(&transcript.path, &format!("the function, {transport:?}"), &got, &mut wrong);
                    }
                    asked += 1;
                }
            }
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&transcript.path, update).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(asked > 200, "only {asked} questions were found");
}

#[test]
fn transcripts_over_every_transport() {
    let mut wrong = String::new();
    for (world, transcripts) in by_world() {
        let port = free_port();
        let _upstreams = Upstreams::start(port, world.others());
        let directory = world.directory(port);
        let server = SecureServer::start(directory.path(), "");
        for transcript in transcripts {
            for exchange in transcript.exchanges.iter().filter(|e| e.moment.is_none() && e.is_on_loopback()) {
                let client = SecureClient {
                    server: &server,
                    source: exchange.source,
                    local: exchange.local,
                    header: &exchange.proxy,
                };
                for (transport, word) in Transport::LABELS.into_iter().filter(|(t, _)| exchange.goes_over(*t)) {
                    // QUIC datagrams cannot carry a PROXY header.
                    if !exchange.proxy.is_empty() && matches!(transport, Transport::Quic | Transport::H3) {
                        continue;
                    }
                    let mut query = exchange.query.clone();
                    if transport == Transport::Quic {
                        query[..2].fill(0);
                    }
                    let reply = RUNTIME.block_on(client.ask(transport, &query));
                    // For an invalid header, the reply's ID is the first two octets of the header.
                    assert!(reply[..2] == query[..2] || exchange.proxy.starts_with(&reply[..2]));
                    let got = exchange.without_padding(&reply, transport);
                    if !exchange.expected.is_or_was(&got) {
                        exchange.compare(&transcript.path, word, &got, &mut wrong);
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The transcripts give the same answers when the manifest is pushed, and when it comes from etcd.
#[test]
fn transcripts_from_every_source() {
    if !crate::harness::can_run(&["setpriv", "etcd"]) {
        return;
    }
    let mut wrong = String::new();
    for (world, transcripts) in by_world() {
        let port = free_port();
        let _upstreams = Upstreams::start(port, world.others());
        let directory = world.directory(port);
        let mut loader = Loader::new(directory.path()).keeping_texts();
        let (loaded, _) = loader.load().unwrap_or_else(|problems| panic!("{problems:?}"));
        let edits = Collection::of(&loaded.manifest, loader.master_files()).edits();
        let scratch = Scratch::new();
        let etcd = Single::start(&scratch);
        etcd.put(&edits);
        let from_etcd = Server::start_from(&format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint), "").ready();
        let pushed = Server::start_from("{push: {}}", "");
        let status = http_send(pushed.admin, "PUT", "/v1/manifest", &whole(&edits));
        assert_eq!(status, Some(200), "{}", pushed.process.log());
        for (server, source) in [(&from_etcd, "from etcd"), (&pushed, "pushed")] {
            assert_eq!(server.status()["set_aside"], serde_json::json!([]), "{source}");
            for transcript in &transcripts {
                for exchange in transcript.exchanges.iter().filter(|e| e.moment.is_none() && e.is_on_loopback()) {
                    if !exchange.goes_over(Transport::Udp) {
                        continue;
                    }
                    let reply = ask_over_udp(server.port, exchange);
                    let got = exchange.without_padding(&reply, Transport::Udp);
                    if !exchange.expected.is_or_was(&got) {
                        exchange.compare(&transcript.path, source, &got, &mut wrong);
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A manifest as a push sends it.
fn whole(edits: &[Edit]) -> String {
    let mut whole = serde_json::json!({"generation": 1});
    for Edit { key, value } in edits {
        let text = value.as_ref().map(Content::text).unwrap_or_default();
        whole[key.kind][&key.id] = match key.kind {
            MASTER_FILES => String::from_utf8_lossy(&text).into(),
            _ => serde_json::from_slice(&text).unwrap(),
        };
    }
    whole.to_string()
}

fn ask_over_udp(port: u16, exchange: &Exchange) -> Vec<u8> {
    let socket = UdpSocket::bind((exchange.source, 0)).unwrap();
    socket.connect((exchange.local, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.send(&[&exchange.proxy[..], &exchange.query].concat()).unwrap();
    let mut reply = vec![0; 4096];
    let len = socket.recv(&mut reply).unwrap_or_else(|error| panic!("{}: {error}", exchange.command));
    reply.truncate(len);
    reply
}

/// Partial affinity: 85 % of the queries get only their own AZ's addresses, the rest get all.
#[test]
fn partial_affinity_shares() {
    let snapshot = crate::harness::snapshot(&tree("zones"));
    let mut exchange =
        Exchange::parse("$ dig -b 127.1.0.7 @127.0.0.1 secretsmanager.us-east-1.amazonaws.com A").unwrap();
    let mut alone = 0;
    for draw in 0..10_000 {
        exchange.moment = Some(Moment { now: 1_795_000_000, draw });
        let reply = ask_function(&snapshot, &Others::new(), &exchange, Transport::Udp);
        match reply.data("A").as_slice() {
            ["127.2.0.13"] => alone += 1,
            both => assert_eq!(both.len(), 2, "{reply}"),
        }
    }
    assert!((8_400..=8_600).contains(&alone), "{alone} of 10,000 got their own AZ alone");
}

/// The order of addresses varies between answers, whatever their source. Each address comes first
/// equally often, also for a client that alternates between A and AAAA, and each answer has all
/// addresses.
#[test]
fn each_address_comes_first_as_often_as_the_others() {
    let snapshot = crate::harness::snapshot(&tree("tests/fixtures/names"));
    let data = Data::read(&tree("tests/fixtures/names/others.zone"));
    let others = Others::from([("127.41.0.53".parse().unwrap(), Arc::new(data))]);
    for (name, qtype, section, count) in [
        ("three.corp.example", "A", 0, 3),
        ("three.corp.example", "AAAA", 0, 3),
        ("any.wild.corp.example", "A", 0, 3),
        ("alias.corp.example", "A", 0, 3),
        ("cname.corp.example", "A", 0, 3),
        ("three.dname.corp.example", "A", 0, 3),
        ("mx.corp.example", "MX", 2, 3),
        ("sqs.us-east-1.amazonaws.com", "A", 0, 2),
        ("three.others.example", "A", 0, 3),
        ("three.others.example", "AAAA", 0, 3),
        ("to-others.corp.example", "A", 0, 3),
        ("made.corp.example", "AAAA", 0, 3),
        // Not all of these addresses fit into an answer.
        ("many.corp.example", "A", 0, 100),
        ("many.others.example", "A", 0, 100),
    ] {
        let source = if name.starts_with("made") { "127.40.64.7" } else { "127.40.0.7" };
        let line = format!("$ dig -b {source} @127.40.0.2 {name} {qtype}");
        let mut exchange = Exchange::parse(&line).unwrap();
        for step in [1, 2] {
            let (mut first, mut sizes) = (BTreeMap::<String, usize>::new(), BTreeMap::new());
            for draw in (0..600).step_by(step) {
                exchange.moment = Some(Moment { now: 1_795_000_000, draw });
                let bytes = function_bytes(&snapshot, &others, &exchange, Transport::Udp);
                let message = Message::from_vec(&bytes).unwrap();
                let records = [&message.answers, &message.authorities, &message.additionals][section];
                let is_address = |data: &RData| match data {
                    RData::A(_) => qtype != "AAAA",
                    RData::AAAA(_) => qtype == "AAAA",
                    _ => false,
                };
                let mut addresses: Vec<String> =
                    records.iter().map(|r| &r.data).filter(|data| is_address(data)).map(ToString::to_string).collect();
                *first.entry(addresses[0].clone()).or_insert(0) += 1;
                addresses.sort();
                addresses.dedup();
                *sizes.entry(addresses.len()).or_insert(0) += 1;
            }
            let (expected, draws) = (600 / step / count, 600 / step);
            assert_eq!(first.len(), count, "{name} {qtype}: {first:?}");
            let slack = 3 + expected / 20;
            assert!(first.values().all(|n| n.abs_diff(expected) <= slack), "{name} {qtype}, step {step}: {first:?}");
            assert!(sizes.len() == 1 && sizes.values().all(|n| *n == draws), "{name} {qtype}: {sizes:?}");
            assert!(count == 100 || sizes.contains_key(&count), "{name} {qtype}: {sizes:?}");
        }
    }
}

/// The port of upstream servers in manifests; the test replaces it.
const PORT: u16 = 5399;

/// The upstream servers, by address.
type Others = BTreeMap<IpAddr, Arc<Data>>;

/// The servers of a transcript: a manifest and the upstream servers.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    manifest: PathBuf,
    upstreams: Vec<(IpAddr, PathBuf)>,
}

impl World {
    fn others(&self) -> Others {
        self.upstreams.iter().map(|(address, file)| (*address, Arc::new(Data::read(file)))).collect()
    }

    /// The manifest's directory, with the upstream servers' port replaced.
    fn directory(&self, port: u16) -> Directory {
        if self.upstreams.is_empty() {
            return Directory::Of(self.manifest.clone());
        }
        let scratch = Scratch::new();
        for entry in fs::read_dir(&self.manifest).unwrap().map(Result::unwrap) {
            let text = fs::read_to_string(entry.path()).unwrap();
            let text = text.replace(&format!("port: {PORT}"), &format!("port: {port}"));
            scratch.write(entry.file_name().to_str().unwrap(), text);
        }
        Directory::Made(scratch)
    }
}

enum Directory {
    Of(PathBuf),
    Made(Scratch),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Directory::Of(path) => path,
            Directory::Made(scratch) => scratch.path(),
        }
    }
}

struct Transcript {
    path: PathBuf,
    exchanges: Vec<Exchange>,
}

struct Exchange {
    /// The line with the question.
    command: String,
    line: usize,
    /// The query and the expected reply, as the file has them.
    text: String,
    source: IpAddr,
    local: IpAddr,
    query: Vec<u8>,
    /// The PROXY header before the query.
    proxy: Vec<u8>,
    moment: Option<Moment>,
    /// `+ignore` and `+tcp`: over UDP only, over TCP only.
    only: Option<Transport>,
    expected: Reply,
}

fn by_world() -> BTreeMap<World, Vec<Transcript>> {
    let mut all: BTreeMap<World, Vec<Transcript>> = BTreeMap::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(tree("tests/scenarios"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "dig"))
        .collect();
    paths.sort();
    for path in paths {
        let (world, transcript) = read(&path);
        all.entry(world).or_default().push(transcript);
    }
    all
}

fn read(path: &Path) -> (World, Transcript) {
    let text = fs::read_to_string(path).unwrap();
    let (mut world, mut moment, mut exchanges) = (World::default(), None, Vec::<Exchange>::new());
    let beside = |name: &str| fs::canonicalize(path.parent().unwrap().join(name)).unwrap();
    let mut in_reply = false;
    for (i, line) in text.lines().enumerate() {
        let fault = |why: &str| -> ! { panic!("{}:{}: {why}: {line}", path.display(), i + 1) };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => in_reply = false,
            [";", ..] => {}
            [">", "manifest", name] => world.manifest = beside(name),
            [">", "upstream", address, file] => {
                let Ok(address) = address.parse() else { fault("no address") };
                world.upstreams.push((address, beside(file)));
            }
            [">", "now", time] => {
                let Ok(time) = time.parse::<jiff::Timestamp>() else { fault("no time") };
                moment.get_or_insert(DEFAULT_MOMENT).now = time.as_second();
            }
            [">", "draw", draw] => {
                let Ok(draw) = draw.parse() else { fault("no number") };
                moment.get_or_insert(DEFAULT_MOMENT).draw = draw;
            }
            ["$", "dig", ..] => {
                let mut exchange = Exchange::parse(line).unwrap_or_else(|e| fault(&e));
                (exchange.line, exchange.moment) = (i + 1, moment);
                exchanges.push(exchange);
                in_reply = true;
            }
            _ => {
                let Some(exchange) = exchanges.last_mut().filter(|_| in_reply) else { fault("not understood") };
                if !exchange.expected.take_line(line) {
                    fault("not understood");
                }
                writeln!(exchange.text, "{line}").unwrap();
            }
        }
    }
    assert!(world.manifest.is_dir(), "{}: no `> manifest` line", path.display());
    (world, Transcript { path: path.into(), exchanges })
}

const DEFAULT_MOMENT: Moment = Moment { now: 1_795_428_000, draw: 0 }; // 2026-11-23

impl Exchange {
    /// Parses a line `$ dig …`. Like dig, the query has RD, AD and EDNS (1232 octets); unlike dig,
    /// it has no cookie.
    fn parse(line: &str) -> Result<Exchange, String> {
        let (mut source, mut local, mut name, mut rtype, mut class) = (None, None, None, None, DNSClass::IN);
        let mut message = Message::new(0x2a2a, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.authentic_data = true;
        let mut edns = Some(Edns::new());
        let mut options = Vec::new();
        let (mut proxy, mut vpce) = (None, None);
        let (mut bufsize, mut only) = (1232, None);
        let mut words = line.split_whitespace().skip(2);
        while let Some(word) = words.next() {
            let (flag, value) = word.split_once('=').unwrap_or((word, ""));
            match flag {
                "-b" => source = words.next().and_then(|w| w.parse().ok()),
                "-p" => _ = words.next(),
                "+noedns" => edns = None,
                "+edns" => bad_version(&mut edns, value)?,
                "+dnssec" => _ = edns.as_mut().map(|e| e.set_dnssec_ok(true)),
                "+bufsize" => bufsize = value.parse().map_err(|_| "bad +bufsize")?,
                "+norec" => message.metadata.recursion_desired = false,
                "+ignore" => only = Some(Transport::Udp),
                "+tcp" => only = Some(Transport::Tcp),
                "+noad" => message.metadata.authentic_data = false,
                "+cd" => message.metadata.checking_disabled = true,
                "+nsid" => options.push(EdnsOption::Unknown(3, vec![])),
                "+cookie" => options.push(EdnsOption::Unknown(10, b"\x01\x23\x45\x67\x89\xab\xcd\xef".to_vec())),
                "+keepalive" => options.push(EdnsOption::Unknown(11, vec![])),
                "+subnet" => options.push(EdnsOption::Unknown(8, client_subnet(value)?)),
                "+proxy" => proxy = Some(value),
                "+vpce" => vpce = Some(value),
                "+opcode" => message.metadata.op_code = OpCode::from_u8(value.parse().map_err(|_| "bad +opcode")?),
                _ if word.starts_with(['+', '-']) => return Err(format!("{word} is not known here")),
                "CH" => class = DNSClass::CH,
                "IN" => {}
                _ if word.starts_with('@') => local = word[1..].parse().ok(),
                _ if name.is_none() => name = Some(Name::from_ascii(word).map_err(|e| e.to_string())?),
                _ => {
                    let number = word.strip_prefix("TYPE").and_then(|n| n.parse::<u16>().ok()).map(RecordType::from);
                    rtype = Some(number.map_or_else(|| RecordType::from_str(word), Ok).map_err(|e| e.to_string())?);
                }
            }
        }
        let mut name = name.ok_or("no name")?;
        name.set_fqdn(true);
        let mut query = Query::query(name, rtype.unwrap_or(RecordType::A));
        query.set_query_class(class);
        message.add_query(query);
        if let Some(mut edns) = edns {
            edns.set_max_payload(bufsize);
            for option in options {
                edns.options_mut().insert(option);
            }
            message.set_edns(edns);
        }
        Ok(Exchange {
            command: line.trim_end().into(),
            line: 0,
            text: format!("{}\n", line.trim_end()),
            source: source.ok_or("no -b address")?,
            local: local.ok_or("no @address")?,
            query: message.to_vec().map_err(|e| e.to_string())?,
            proxy: proxy.map_or(Ok(Vec::new()), |addresses| proxy_header(addresses, vpce))?,
            moment: None,
            only,
            expected: Reply::default(),
        })
    }

    fn goes_over(&self, transport: Transport) -> bool {
        self.only.is_none_or(|only| (only == Transport::Udp) == (transport == Transport::Udp))
    }

    /// A reply as it is over Do53. The only difference is the padding option: each encrypted reply
    /// with an OPT record has it.
    fn without_padding(&self, bytes: &[u8], transport: Transport) -> Reply {
        let mut reply = Reply::of_message(bytes);
        let options = reply.options.len();
        reply.options.retain(|option| option != "padding");
        let is_padded = reply.options.len() < options;
        let has_opt = Message::from_vec(bytes).unwrap().edns.is_some();
        let is_encrypted = !matches!(transport, Transport::Udp | Transport::Tcp);
        assert_eq!(is_padded, has_opt && is_encrypted, "{} by {transport:?}", self.command);
        assert!(
            !is_padded || bytes.len().is_multiple_of(468),
            "{}: {} octets by {transport:?}",
            self.command,
            bytes.len()
        );
        reply
    }

    fn is_on_loopback(&self) -> bool {
        self.source.is_loopback() && self.local.is_loopback() && self.source.is_ipv4()
    }

    fn compare(&self, path: &Path, how: &str, got: &Reply, wrong: &mut String) {
        if *got != self.expected {
            let file = path.file_name().unwrap_or_default().display();
            writeln!(
                wrong,
                "\n{file}:{} over {how}\n{}\nexpected\n{}got\n{got}",
                self.line, self.command, self.expected
            )
            .unwrap();
        }
    }
}

/// The data of the client subnet option: `ADDRESS/LENGTH`, or `0` for no address family, as dig
/// sends it.
fn client_subnet(text: &str) -> Result<Vec<u8>, String> {
    if text == "0" {
        return Ok(vec![0; 4]);
    }
    let block: ipnet::IpNet = text.parse().map_err(|_| "bad +subnet")?;
    let (family, octets) = match block.trunc().addr() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let len = block.prefix_len();
    Ok([&[0, family, len, 0], &octets[..len.div_ceil(8).into()]].concat())
}

/// A PROXY header for IPv4: `SOURCE-DESTINATION`, or `local`.
fn proxy_header(addresses: &str, vpce: Option<&str>) -> Result<Vec<u8>, String> {
    let mut rest = Vec::new();
    if addresses != "local" {
        let (source, destination) = addresses.split_once('-').ok_or("bad +proxy")?;
        for address in [source, destination] {
            rest.extend(address.parse::<std::net::Ipv4Addr>().map_err(|_| "bad +proxy")?.octets());
        }
        rest.extend([0xd4, 0x31, 0, 53]);
    }
    if let Some(id) = vpce {
        rest.extend([0xea, 0, id.len() as u8 + 1, 1]);
        rest.extend(id.bytes());
    }
    let fixed: &[u8] = if addresses == "local" { &[0x20, 0, 0] } else { &[0x21, 0x12, 0] };
    Ok([b"\r\n\r\n\0\r\nQUIT\n", fixed, &[rest.len() as u8], &rest].concat())
}

fn bad_version(edns: &mut Option<Edns>, version: &str) -> Result<(), String> {
    let version = version.parse().map_err(|_| "bad +edns")?;
    edns.get_or_insert_with(Edns::new).set_version(version);
    Ok(())
}

fn function_bytes(snapshot: &Snapshot, others: &Others, exchange: &Exchange, transport: Transport) -> Vec<u8> {
    let client = Client { source: exchange.source, port: 0, local: exchange.local, transport };
    let moment = exchange.moment.unwrap_or(DEFAULT_MOMENT);
    let mut reply = vec![0; if transport == Transport::Udp { 1232 } else { 65_535 }];
    let query = [&exchange.proxy[..], &exchange.query].concat();
    let mut known = Gathered::default();
    for _ in 0..20 {
        match answer(snapshot, &known, &client, moment, &query, &mut reply) {
            Outcome::Reply(answered) => {
                reply.truncate(answered.len);
                return reply;
            }
            Outcome::Forward(forward) => known.0.extend(ask_others(snapshot, others, &client, &forward, moment.now)),
            Outcome::Drop => break,
        }
    }
    panic!("no reply to {}", exchange.command)
}

/// The answers of upstream servers.
#[derive(Default)]
struct Gathered(HashMap<Key, Arc<Entry>>);

impl KnownAnswers for Gathered {
    fn with<R>(&self, route: RouteId, question: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        let found = self.0.get(&Key::new(route, question));
        use_it(found.map(|entry| KnownAnswer { entry, ttl: entry.ttl, stale: false, refresh: false }))
    }
}

/// Asks the first server of a route, and the servers that DELEGATE rules lead to.
fn ask_others(
    snapshot: &Snapshot,
    others: &Others,
    client: &Client,
    forward: &RoutedQuestion,
    now: i64,
) -> Vec<(Key, Arc<Entry>)> {
    let (name, mut route) = (forward.name(), Route::clone(forward.route));
    let question = forward.question(&name);
    let query = |name: &LookupName, qtype: u16| {
        [&[0x2a, 0x2a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.wire(), &qtype.to_be_bytes(), &[0, 1]].concat()
    };
    let fail = |code, text: &str| vec![(Key::new(forward.id, &question), Entry::failure(code, text, now, 0).into())];
    loop {
        let address = match &route.servers {
            Servers::Targets { targets, .. } => Some(targets[0].ip),
            Servers::NameServers { name_servers, .. } => name_servers.iter().find_map(|n| n.addresses.first().copied()),
            Servers::Recursion => None,
        };
        let Some(data) = address.and_then(|address| others.get(&address)) else {
            return fail(22, "no server has this address");
        };
        let message = data.answer(&query(&name, question.qtype));
        let of = (forward.id, &*route.domain);
        match parse_response(&message, of, &question, now, &Lifetimes::default()) {
            Ok(ParsedResponse::Answers(answers)) => return answers,
            Err(reason) => return fail(22, &reason),
            Ok(ParsedResponse::Referral { domain, name_servers }) => {
                let found = client.identify(snapshot).expect("a client");
                let policies = snapshot.views.policies(snapshot.views.get(found.view()).expect("a view"));
                match policies.and_then(|policies| policies.delegates.route(&domain, &name_servers)) {
                    Some(next) => route = next,
                    None => return fail(22, "no DELEGATE rule"),
                }
            }
        }
    }
}

fn ask_function(snapshot: &Snapshot, others: &Others, exchange: &Exchange, transport: Transport) -> Reply {
    Reply::of_message(&function_bytes(snapshot, others, exchange, transport))
}
