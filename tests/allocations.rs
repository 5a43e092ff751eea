//! The answer path does not allocate.
//!
//! The allocator of this test binary counts allocations per thread.

use crate::{harness, model::names::name_wire};
use arc_swap::ArcSwap;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::IpAddr,
    sync::Arc,
};
use zonal::{
    answer::{
        Client, Moment, Outcome, QueryLogTrace, Transport, answer, answer_traced,
        known::{Entry, Key, KnownAnswer, KnownAnswers, Question, Records},
    },
    forward::cache::{Cache, Lifetimes},
    listen::workers::Workers,
    manifest::{
        Loaded, Record, ZoneData,
        overlay::{EditedSet, Overlay},
        transferred::{Content, ZoneCopy},
    },
    query_log::{EntrySender, LoggedAnswer, LoggedAnswers, QueryLog, SMALL_RING_OCTETS},
    snapshot::{
        Snapshot, compile,
        firewall::detections::{Numbers, client_key},
        routes::RouteId,
    },
    transfer::{message::Request, update::rules::edits},
    wire::{
        Name,
        query::{LookupName, name_hash},
        rdata::parse_text,
    },
};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// The octets that this thread has allocated and not freed, and their maximum.
    static IN_USE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(calls: u64, octets: i64) {
    COUNT.with(|count| count.set(count.get() + calls));
    let in_use = IN_USE.with(|in_use| {
        in_use.set(in_use.get() + octets);
        in_use.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(in_use)));
}

struct Counting;

// A `const` thread-local without a destructor always exists, so counting never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The number of allocations of `work` on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

/// The result of `work`, and the maximum memory in octets that it used at a time on this thread.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = IN_USE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let out = work();
    (out, (PEAK.with(Cell::get) - before).max(0) as u64)
}

const MANIFEST: &str = r#"
vpcs:
  vpc-a:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets: {subnet-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20]}}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example, "*.s3.example"]}
  saas:
    owner_id: "9"
    region: us-east-1
    dns_name: saas.vpce.example
    private_dns_names: [api.saas.example]
    private_dns_name_configuration: {state: verified}
vpc_endpoints:
  vpce-1:
    {vpc_endpoint_type: Interface, service_name: sqs, vpc_id: vpc-a, state: Available, private_dns_enabled: true,
     network_interfaces: [{availability_zone_id: use1-az1, ipv4: 10.1.0.9}, {availability_zone_id: use1-az2, ipv4: 10.1.16.9}]}
  vpce-2:
    {vpc_endpoint_type: Interface, service_name: saas, vpc_id: vpc-a, state: Available, private_dns_enabled: true,
     client_routing_policy: any_availability_zone,
     network_interfaces: [{availability_zone_id: use1-az1, ipv4: 10.1.0.8}, {availability_zone_id: use1-az2, ipv4: 10.1.16.8}]}
private_hosted_zones:
  Z1:
    name: corp.example
    vpc_ids: [vpc-a]
    file: corp.zone
    records: [{name: alias, type: A, alias: {name: vpce-1.sqs.vpce.example}}]
forwarders:
  ecs: {vpc_id: vpc-a, cidr_blocks: [10.1.0.20/32]}
  proxy: {vpc_id: vpc-a, cidr_blocks: [10.1.0.21/32], client_identity: proxy_protocol_v2}
resolver_rules:
  rule-1: {domain_name: forward.example, rule_type: FORWARD, target_ips: [{ip: 192.0.2.1}], vpc_ids: [vpc-a]}
"#;

const ZONE: &str = "
$TTL 300
@ SOA ns hostmaster 1 7200 900 1209600 60
@ NS ns
ns A 10.1.0.53
www A 10.1.0.80
*.wild A 10.1.0.81
one CNAME two
out CNAME a.forward.example.
two CNAME three
three CNAME sqs.example.
@ MX 10 www
tree DNAME www
other DNAME sqs.example.
sub NS ns.sub
ns.sub A 10.1.0.82
";

fn query(name: &str, rtype: u16, edns: bool) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    packet.extend(name_wire(&crate::model::names::name(name)));
    packet.extend([0, rtype as u8, 0, 1]);
    if edns {
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    packet
}

/// A cache with one address for every name of more than two labels.
struct Cached(Entry);

impl KnownAnswers for Cached {
    fn with<R>(&self, _: RouteId, question: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        let is_known = question.name.labels() > 2;
        use_it(is_known.then_some(KnownAnswer { entry: &self.0, ttl: 60, stale: false, refresh: false }))
    }
}

fn ask(snapshot: &Snapshot, source: &str, packet: &[u8]) -> (u64, Vec<u8>) {
    ask_knowing(snapshot, &Cached(entry(&[192, 0, 2, 1], 1)), source, packet)
}

fn ask_knowing(snapshot: &Snapshot, known: &impl KnownAnswers, source: &str, packet: &[u8]) -> (u64, Vec<u8>) {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let client = Client { source: address(source), port: 0, local: address("127.0.0.1"), transport: Transport::Udp };
    let mut reply = [0; 1232];
    let mut len = 0;
    let count = allocations(|| {
        let moment = Moment { now: 0, draw: 7 };
        match answer(snapshot, known, &client, moment, packet, &mut reply) {
            Outcome::Reply(answered) => len = answered.len,
            Outcome::Forward(forward) => assert_eq!(forward.route.rule, "rule-1"),
            Outcome::Drop => {}
        }
    });
    (count, reply[..len].to_vec())
}

fn snapshot() -> Snapshot {
    assert!(allocations(|| drop(std::hint::black_box(vec![1]))) > 0, "the allocator counts");
    let scratch = harness::Scratch::new();
    scratch.write("corp.zone", ZONE);
    scratch.write("manifest.yaml", MANIFEST);
    harness::snapshot(scratch.path())
}

/// A cache entry with one record.
fn entry(rdata: &[u8], rtype: u8) -> Entry {
    let mut octets = Vec::with_capacity(12 + rdata.len());
    octets.extend([0x80, 0, 0, rtype, 0, 1, 0, 0, 0, 0]);
    octets.extend((rdata.len() as u16).to_be_bytes());
    octets.extend(rdata);
    let answer = Records { count: 1, octets: octets.into() };
    Entry { rcode: 0, answer, ede: None, ..Entry::failure(0, "", 0, 60) }
}

#[test]
fn an_answer_from_the_cache_does_not_allocate() {
    let snapshot = snapshot();
    let cache = Cache::new(1 << 20, Lifetimes::default());
    let client = Client {
        source: "10.1.0.5".parse().unwrap(),
        port: 0,
        local: "127.0.0.1".parse().unwrap(),
        transport: Transport::Udp,
    };
    let key = |packet: &[u8]| {
        let mut reply = [0; 1232];
        match answer(&snapshot, &(), &client, Moment { now: 0, draw: 7 }, packet, &mut reply) {
            Outcome::Forward(forward) => Key::new(forward.id, &forward.question(&forward.name())),
            _ => panic!("that is forwarded"),
        }
    };
    let (address, negative, failed) = ("www.forward.example", "none.forward.example", "bad.forward.example");
    let (alias, made, stale) = ("alias.forward.example", "made.forward.example", "old.forward.example");
    let mut packets = Vec::new();
    for edns in [false, true] {
        let [address, negative, failed, alias, made, stale] =
            [address, negative, failed, alias, made, stale].map(|name| query(name, 1, edns));
        if !edns {
            cache.insert("rule-1", key(&address), entry(&[192, 0, 2, 1], 1).into());
            let nothing =
                Entry { rcode: 3, answer: Records::default(), authority: entry(&[7; 4], 1).answer, ..entry(&[], 1) };
            cache.insert("rule-1", key(&negative), nothing.into());
            cache.insert_failure("rule-1", key(&failed), Entry::failure(22, "nobody answered", 0, 0));
            let target = name_wire(&crate::model::names::name("www.forward.example"));
            let link = Entry { target: Some(12), ..entry(&target, 5) };
            cache.insert("rule-1", key(&alias), link.into());
            // A CNAME with the proof that it was synthesised from a wildcard.
            let proof = [&[0, 0, 47, 0, 1, 0, 0, 0, 0, 0, 4][..], b"\x01a\0\x01"].concat();
            let proof = Records { count: 1, octets: proof.into() };
            let link = Entry { target: Some(12), authority: proof, ..entry(&target, 5) };
            cache.insert("rule-1", key(&made), link.into());
            cache.insert("rule-1", key(&stale), Entry { since: -100, ..entry(&[192, 0, 2, 2], 1) }.into());
            cache.insert_failure("rule-1", key(&stale), Entry::failure(22, "nobody answered", 0, 0));
        }
        packets.extend([(address, 0, 1), (negative, 3, 0), (failed, 2, 0), (alias, 0, 2), (made, 0, 2), (stale, 0, 1)]);
    }
    // The first look-up of a thread allocates memory that the thread keeps.
    ask_knowing(&snapshot, &cache, "10.1.0.5", &packets[0].0);
    for (packet, rcode, answers) in packets {
        let (count, reply) = ask_knowing(&snapshot, &cache, "10.1.0.5", &packet);
        assert_eq!((reply[3] & 15, u16::from_be_bytes([reply[6], reply[7]])), (rcode, answers), "{packet:?}");
        assert_eq!(count, 0, "{packet:?} allocates");
    }
    assert_eq!(cache.counts().hits, 1 + 2 * 8);
}

/// Counting an answer is a store, with or without a row for its view.
#[test]
fn counting_an_answer_does_not_allocate() {
    let published = Arc::new(ArcSwap::from_pointee(snapshot()));
    let snapshot = published.load_full();
    let mut writer = Workers::new(published).add_worker(Transport::Udp, None);
    let (source, local) = ("10.1.0.5".parse().unwrap(), "127.0.0.1".parse().unwrap());
    let client = Client { source, port: 5353, local, transport: Transport::Udp };
    let moment = Moment { now: 0, draw: 7 };
    for round in 0..2 {
        for name in ["sqs.example", "www.corp.example", "nobody.corp.example", "internet.example"] {
            let mut reply = [0; 1232];
            let Outcome::Reply(answered) = answer(&snapshot, &(), &client, moment, &query(name, 1, true), &mut reply)
            else {
                panic!("{name} is answered");
            };
            let count = allocations(|| {
                writer.answered(&answered);
                writer.received(1);
            });
            assert_eq!(count, 0, "{name}, round {round}");
        }
        writer.prepare(&snapshot);
    }
}

/// The cache's budget counts the memory that the cache really uses.
#[test]
fn the_cache_stays_within_its_budget() {
    const BUDGET: usize = 4 << 20;
    let rdata = vec![7; 60_000];
    for (sizes, min_percent) in [([40, 40, 40], 65), ([0, 200, 3000], 65), ([10_000, 30_000, 60_000], 50)] {
        let (cache, peak) = peak(|| {
            let cache = Cache::new(BUDGET, Lifetimes::default());
            for number in 0..60_000_u64 {
                let mut name = b"\x10".to_vec();
                name.extend(format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bytes());
                name.extend(b"\x07example\0");
                let name = LookupName::new(&name).unwrap();
                let question = Question { name: &name, qtype: 1, dnssec_ok: false, checking_disabled: false };
                let key = Key::new(RouteId(1), &question);
                match number % 10 {
                    0 => drop(cache.insert_failure("rule-1", key, Entry::failure(22, "nobody answered", 0, 0))),
                    _ => cache.insert("rule-1", key, entry(&rdata[..sizes[number as usize % 3]], 1).into()),
                }
            }
            cache
        });
        // The last entry may exist beside the budget for a moment.
        let budget = BUDGET as u64 + 70_000;
        assert!(peak <= budget && peak >= budget * min_percent / 100, "{sizes:?}: {peak} of {:?}", cache.counts());
    }
}

/// Logging a query does not allocate, whether the ring has room or not.
#[test]
fn logging_a_query_does_not_allocate() {
    let scratch = harness::Scratch::new();
    scratch.write("corp.zone", ZONE);
    let logs =
        "query_log_configs: {l: {vpc_ids: [vpc-a], destination: {stdout: {}}, rcodes: [NOERROR], sampling: 0.9}}\n";
    scratch.write("manifest.yaml", [MANIFEST, logs].concat());
    let snapshot = harness::snapshot(scratch.path());
    let log = QueryLog::new(Default::default());
    let mut tap = EntrySender::new(&log, SMALL_RING_OCTETS, 1);
    assert_eq!(tap.prepare(&snapshot), LoggedAnswers::All);
    let (local, source) = ("127.0.0.1".parse().unwrap(), "10.1.0.5".parse().unwrap());
    let client = Client { source, port: 5353, local, transport: Transport::Udp };
    let known = Cached(entry(&[192, 0, 2, 1], 1));
    let (mut noted, mut reply) = (QueryLogTrace::default(), [0; 1232]);
    for (name, rtype) in [("one.corp.example", 1), ("sqs.example", 1), ("out.corp.example", 1), ("no.corp.example", 28)]
    {
        let packet = query(name, rtype, true);
        let received = std::time::SystemTime::now();
        // More entries than the ring has room for.
        for _ in 0..5000 {
            let count = allocations(|| {
                noted.clear();
                let moment = Moment { now: 0, draw: 7 };
                let outcome = answer_traced(&snapshot, &known, &client, moment, &packet, &mut reply, &mut noted);
                let Outcome::Reply(answered) = outcome else { panic!("{name} is known") };
                let reply = Some((&answered, &reply[..]));
                tap.log(&snapshot, &LoggedAnswer { noted: &noted, client: &client, packet: &packet, received, reply });
            });
            assert_eq!(count, 0, "{name} allocates");
        }
    }
}

/// DNS Firewall does not allocate, whether a rule matches a name, an address or nothing, and neither does the query log.
#[test]
fn a_filtered_query_does_not_allocate() {
    let scratch = harness::Scratch::new();
    scratch.write("corp.zone", ZONE);
    let more = r#"
query_log_configs: {l: {vpc_ids: [vpc-a], destination: {stdout: {}}}}
firewall_domain_lists:
  bad: {domains: [one.corp.example, "*.blocked.forward.example"]}
  garden: {domains: [sqs.example]}
  all: {domains: ["*"]}
firewall_rule_groups:
  g:
    rules:
      - {name: trial, priority: 1, action: BLOCK, firewall_domain_list_id: all, shadow: true}
      - {name: bad, priority: 2, action: BLOCK, firewall_domain_list_id: bad}
      - {name: garden, priority: 3, action: BLOCK, firewall_domain_list_id: garden, block_response: OVERRIDE,
         block_override_domain: "*.corp.example"}
      - {name: addresses, priority: 4, action: BLOCK, answer_addresses: [192.0.2.0/24]}
      - {name: tunnels, priority: 5, action: BLOCK, dns_threat_protection: DNS_TUNNELING, confidence_threshold: LOW}
      - {name: bots, priority: 6, action: BLOCK, dns_threat_protection: DGA, confidence_threshold: LOW}
    vpc_associations: [{vpc_id: vpc-a, priority: 1}]
"#;
    scratch.write("manifest.yaml", [MANIFEST, more].concat());
    let snapshot = harness::snapshot(scratch.path());
    for detections in snapshot.views.iter().filter_map(|view| snapshot.firewall.detections(view)) {
        let numbers = Numbers { amount: 1_000_000, names: 1_000 };
        let tunnel = name_hash(b"\x06tunnel\x07example\0");
        detections.tunnels().put(tunnel, numbers, 0);
        detections.clients().put(client_key([10, 1, 0, 5].into()), numbers, 0);
    }
    let log = QueryLog::new(Default::default());
    let mut tap = EntrySender::new(&log, SMALL_RING_OCTETS, 1);
    assert_eq!(tap.prepare(&snapshot), LoggedAnswers::All);
    let (local, source) = ("127.0.0.1".parse().unwrap(), "10.1.0.5".parse().unwrap());
    let client = Client { source, port: 5353, local, transport: Transport::Udp };
    let known = Cached(entry(&[192, 0, 2, 1], 1));
    let (mut noted, mut reply) = (QueryLogTrace::default(), [0; 1232]);
    for (name, rtype, outcomes) in [
        ("one.corp.example", 1, &[3, 2][..]),
        ("x.blocked.forward.example", 1, &[3, 2]),
        ("www.forward.example", 1, &[3, 2]),
        ("sqs.example", 1, &[3, 2]),
        ("no.corp.example", 28, &[3]),
        ("x.tunnel.example", 1, &[3, 2]),
        ("qwzxkvjpqhgf.com", 1, &[3, 2]),
    ] {
        let packet = query(name, rtype, true);
        let received = std::time::SystemTime::now();
        for _ in 0..100 {
            let mut found = None;
            let count = allocations(|| {
                noted.clear();
                let moment = Moment { now: 0, draw: 7 };
                let outcome = answer_traced(&snapshot, &known, &client, moment, &packet, &mut reply, &mut noted);
                let Outcome::Reply(answered) = outcome else { panic!("{name} is known") };
                let reply = Some((&answered, &reply[..]));
                tap.log(&snapshot, &LoggedAnswer { noted: &noted, client: &client, packet: &packet, received, reply });
                found = Some(answered.firewall);
            });
            assert_eq!(count, 0, "{name} allocates");
            let found: Vec<usize> = found.unwrap().iter().map(|(_, outcome)| outcome).collect();
            assert_eq!(found, outcomes, "{name}");
        }
    }
}

/// The zones changed after they were built: one by a dynamic update, the other by an incremental
/// transfer.
#[test]
fn an_answer_from_a_changed_zone_does_not_allocate() {
    let scratch = harness::Scratch::new();
    scratch.write("corp.zone", ZONE);
    let zones = "private_hosted_zones:\n  Z2: {name: moved.example, vpc_ids: [vpc-a], primaries: [{ip: 192.0.2.1}]}\n";
    let updated = "    file: corp.zone\n    allow_update: [{tsig_key: k}]\n";
    let manifest = MANIFEST.replace("    file: corp.zone\n", updated);
    scratch.write("manifest.yaml", manifest.replace("private_hosted_zones:\n", zones));
    let mut loaded = harness::loaded(scratch.path());
    let set = |name: &str, rtype: u16, values: &[&str]| {
        let data = |text: &&str| parse_text(rtype, text, &Name::root()).unwrap();
        let values: Vec<_> = values.iter().map(data).collect();
        EditedSet { owner: Name::absolute(name).unwrap(), rtype, ttl: 60, values }
    };
    let add = |content: &mut Content, sets: &[EditedSet]| {
        for EditedSet { owner, rtype, ttl, values } in sets {
            for rdata in values.iter().cloned() {
                let (owner, rtype, ttl) = (owner.clone(), *rtype, *ttl);
                content.add(&Record { owner, rtype, ttl, rdata, file: 0, line: 0 }).unwrap();
            }
        }
    };
    let mut content = Content::new(Name::absolute("moved.example").unwrap());
    let soa =
        |serial: u32| set("moved.example", 6, &[&format!("ns.moved.example. h.moved.example. {serial} 9 9 9 60")]);
    add(
        &mut content,
        &[soa(1), set("moved.example", 2, &["ns.moved.example."]), set("old.moved.example", 1, &["192.0.2.1"])],
    );
    let held =
        |content: &Content| [("Z2".to_string(), ZoneCopy { content: Arc::new(content.clone()), is_expired: false })];
    loaded.transferred = held(&content).into_iter().collect();
    let before = harness::compiled(&loaded, None);
    add(
        &mut content,
        &[soa(2), set("new.moved.example", 1, &["192.0.2.2"]), set("*.w.moved.example", 1, &["192.0.2.3"])],
    );
    content.remove_set(&Name::absolute("old.moved.example").unwrap(), 1);
    loaded.transferred = held(&content).into_iter().collect();
    let mut overlay = Overlay::default();
    overlay.add(&[
        set("www.corp.example", 1, &["10.1.0.90", "10.1.0.91"]),
        set("deep.er.corp.example", 1, &["10.1.0.92"]),
        set("corp.example", 15, &["10 deep.er.corp.example.", "20 www.corp.example."]),
        set("srv.corp.example", 33, &["1 1 1 x.wild.corp.example.", "1 1 1 www.corp.example."]),
        set("new.corp.example", 5, &["one.corp.example."]),
        set("ns.corp.example", 1, &[]),
    ]);
    loaded.overlays = [("Z1".to_string(), Arc::new(overlay))].into_iter().collect();
    loaded.zone_data = [("Z1".to_string(), ZoneData::Unchanged)].into_iter().collect();
    let snapshot = harness::compiled(&loaded, Some(&before));
    for zone in ["Z1", "Z2"] {
        let (old, new) = (before.zone(zone).unwrap(), snapshot.zone(zone).unwrap());
        assert!(old.names_changed_in(new).is_some(), "{zone} has changed beside its block");
    }
    // name, type, RCODE, answer records, additional records beside the OPT record
    for (name, rtype, rcode, answers, additional) in [
        ("www.corp.example", 1, 0, 2, 0),
        ("deep.er.corp.example", 1, 0, 1, 0),
        ("er.corp.example", 1, 0, 0, 0),
        ("x.er.corp.example", 1, 3, 0, 0),
        ("corp.example", 15, 0, 2, 3),
        ("srv.corp.example", 33, 0, 2, 3),
        ("a.b.wild.corp.example", 1, 0, 1, 0),
        ("new.corp.example", 1, 0, 5, 0),
        ("one.corp.example", 1, 0, 4, 0),
        ("ns.corp.example", 1, 3, 0, 0),
        ("nobody.corp.example", 1, 3, 0, 0),
        ("a.other.corp.example", 1, 3, 2, 0),
        ("x.sub.corp.example", 1, 0, 0, 1),
        ("alias.corp.example", 1, 0, 1, 0),
        ("new.moved.example", 1, 0, 1, 0),
        ("old.moved.example", 1, 3, 0, 0),
        ("a.b.w.moved.example", 1, 0, 1, 0),
        ("w.moved.example", 1, 0, 0, 0),
        ("moved.example", 6, 0, 1, 0),
        ("moved.example", 2, 0, 1, 0),
    ] {
        for edns in [false, true] {
            let (count, reply) = ask(&snapshot, "10.1.0.5", &query(name, rtype, edns));
            let number = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
            let found = (reply[3] & 15, number(6), number(10) - u16::from(edns));
            assert_eq!(found, (rcode, answers, additional), "{name} {rtype}");
            assert_eq!(count, 0, "{name} {rtype} allocates");
        }
    }
}

#[test]
fn an_answer_does_not_allocate() {
    let snapshot = snapshot();
    // name, type, RCODE, answer records
    let cases = [
        ("www.corp.example", 1, 0, 1),
        ("corp.example", 15, 0, 1),
        ("www.corp.example", 16, 0, 0),
        ("nobody.corp.example", 1, 3, 0),
        ("a.b.wild.corp.example", 1, 0, 1),
        ("one.corp.example", 1, 0, 4),
        ("a.other.corp.example", 1, 3, 2),
        ("a.tree.corp.example", 1, 3, 2),
        ("x.sub.corp.example", 1, 0, 0),
        ("alias.corp.example", 1, 0, 1),
        ("sqs.example", 1, 0, 1),
        ("sqs.example", 28, 0, 0),
        ("bucket.s3.example", 1, 0, 1),
        ("vpce-1.sqs.vpce.example", 1, 0, 1),
        ("vpce-1-us-east-1b.sqs.vpce.example", 1, 0, 1),
        ("api.saas.example", 1, 0, 3),
        ("whoami.zonal", 16, 0, 1),
        ("5.0.1.10.in-addr.arpa", 12, 0, 1),
        ("ip-10-1-0-5.ec2.internal", 1, 0, 1),
        ("somebody.forward.example", 1, 0, 1),
        ("out.corp.example", 1, 0, 2),
        ("internet.example", 1, 5, 0),
    ];
    for (name, rtype, rcode, answers) in cases {
        for edns in [false, true] {
            let (count, reply) = ask(&snapshot, "10.1.0.5", &query(name, rtype, edns));
            assert_eq!((reply[3] & 15, u16::from_be_bytes([reply[6], reply[7]])), (rcode, answers), "{name} {rtype}");
            assert_eq!(count, 0, "{name} {rtype} allocates");
        }
    }
    let (count, reply) = ask(&snapshot, "10.1.0.5", &query("forward.example", 1, true));
    assert_eq!((count, reply.len()), (0, 0), "a name that other servers answer");
    let www = query("www.corp.example", 1, true);
    let (count, reply) = ask(&snapshot, "203.0.113.1", &www);
    assert_eq!((count, reply[3] & 15), (0, 5), "a client without a view");
    // Through a forwarder: for a client, for a name with the same answer in all views, and for an unknown client.
    for (name, subnet, rcode) in
        [("sqs.example", [10, 1, 0], 0), ("internet.example", [10, 1, 0], 2), ("sqs.example", [10, 9, 0], 2)]
    {
        let mut packet = query(name, 1, false);
        packet[11] = 1;
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, subnet[0], subnet[1], subnet[2]]);
        let (count, reply) = ask(&snapshot, "10.1.0.20", &packet);
        assert_eq!((count, reply[3] & 15), (0, rcode), "{name} for {subnet:?}");
    }
    let header =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x1b\x0a\x01\0\x05\x0a\x09\0\x01\0\0\0\x35\xea\0\x07\x01vpce-1\x04\0\x02\0\0";
    for (from, rcode) in [("10.1.0.21", 0), ("10.1.0.22", 4)] {
        let (count, reply) = ask(&snapshot, from, &[&header[..], &www].concat());
        assert_eq!((count, reply[3] & 15), (0, rcode), "a PROXY header from {from}");
    }
    let mut malformed = www.clone();
    malformed[11] = 2;
    let (count, reply) = ask(&snapshot, "10.1.0.5", &malformed);
    assert_eq!((count, reply[3] & 15), (0, 1), "a query with a record too few");
    let (count, reply) = ask(&snapshot, "10.1.0.5", &www[..5]);
    assert_eq!((count, reply.len()), (0, 0), "a packet that is no message");
}

/// The memory for an update is proportional to its records, for a large record set and for many
/// types of a name.
#[test]
fn a_dynamic_update_allocates_in_proportion_to_its_records() {
    let manifest = serde_json::json!({
        "vpcs": {"v": {"region": "r", "cidr_blocks": ["10.0.0.0/8"]}},
        "private_hosted_zones": {"Z": {"name": "z.example", "vpc_ids": ["v"], "records": []}},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let (snapshot, _) = compile(&loaded, &Arc::default(), None).unwrap();
    let zone = snapshot.zone("Z").unwrap();
    // `number` records at one name: additions, then the same number with another class or type.
    let request = |number: u16, record: &dyn Fn(u16) -> (u16, u16, Vec<u8>)| {
        let mut packet = [&[0, 7, 0x28, 0, 0, 1, 0, 0][..], &number.to_be_bytes(), &[0, 0]].concat();
        packet.extend_from_slice(b"\x01z\x07example\0\0\x06\0\x01");
        for at in 0..number {
            let (class, rtype, data) = record(at);
            packet.extend_from_slice(b"\x01a\xc0\x0c");
            packet.extend([rtype, class].map(u16::to_be_bytes).concat());
            packet.extend([0, 0, 0, 0, 0, data.len() as u8]);
            packet.extend(data);
        }
        Request::read(&packet).unwrap()
    };
    let address = |at: u16| [&[10, 0][..], &at.to_be_bytes()].concat();
    let half = |at: u16, number: u16| at % (number / 2);
    type Make<'a> = Box<dyn Fn(u16, u16) -> (u16, u16, Vec<u8>) + 'a>;
    let kinds: [(&str, Make); 4] = [
        ("additions", Box::new(|at, _| (1, 1, address(at)))),
        (
            "additions and removals",
            Box::new(|at, number| (if at < number / 2 { 1 } else { 254 }, 1, address(half(at, number)))),
        ),
        (
            "types, and removals of the name",
            Box::new(|at, number| match at < number / 2 {
                true => (1, 1000 + at, vec![7]),
                false => (255, 255, vec![]),
            }),
        ),
        (
            "types, and an alias in their way",
            Box::new(|at, number| match at < number / 2 {
                true => (1, 1000 + at, vec![7]),
                false => (1, 5, b"\x01z\0".to_vec()),
            }),
        ),
    ];
    for (what, make) in kinds {
        let cost = |number: u16| {
            let request = request(number, &|at| make(at, number));
            allocations(|| drop(edits(zone, &request).unwrap_or_else(|error| panic!("{what}: {error:?}"))))
        };
        let (few, many) = (cost(500), cost(2_000));
        assert!(many < 5 * few, "{what}: {few} allocations for 500 records, {many} for 2,000");
    }
}

/// The members of Profiles, and a group that routes by the client's address, for clients with and without a client subnet.
#[test]
fn an_answer_from_a_profile_or_by_a_cidr_collection_does_not_allocate() {
    let scratch = harness::Scratch::new();
    let record = |identifier: &str, location: &str, last: u8| {
        format!(
            "{{name: near, type: A, set_identifier: {identifier}, cidr_routing_policy: {{collection_id: c, location_name: \
             '{location}'}}, records: [192.0.2.{last}]}}"
        )
    };
    let records = [record("a", "here", 1), record("b", "inner", 2), record("c", "*", 3)].join(", ");
    scratch.write(
        "manifest.yaml",
        MANIFEST
            .replace("    file: corp.zone\n    records: [", &format!("    records: [{records}, "))
            .replace("    cidr_blocks: [10.1.0.0/16]\n", "    cidr_blocks: [10.1.0.0/16]\n    profiles: [{profile_id: one, priority: 1}, {profile_id: two, priority: 2}]\n")
            + "  rule-2: {domain_name: rule.example, rule_type: FORWARD, target_ips: [{ip: 192.0.2.1}], vpc_ids: []}\n\
               cidr_collections: {c: {locations: {here: [10.1.0.0/17], inner: [10.1.2.0/24]}}}\n\
               profiles:\n  one: {resolver_rules: [rule-2]}\n  two: {private_hosted_zones: [Z2], vpc_endpoints: [vpce-1]}\n",
    );
    scratch.write("zones.yaml", "private_hosted_zones: {Z2: {name: shared.example, vpc_ids: [], records: [{name: www, type: A, records: [192.0.2.9]}]}}\n");
    let snapshot = harness::snapshot(scratch.path());
    // The first look-up of a thread allocates memory that the thread keeps.
    ask(&snapshot, "10.1.0.5", &query("www.rule.example", 1, false));
    for (source, name, subnet, last) in [
        ("10.1.2.5", "near.corp.example", None, Some(2)),
        ("10.1.3.5", "near.corp.example", None, Some(1)),
        ("10.1.200.5", "near.corp.example", None, Some(3)),
        ("10.1.0.20", "near.corp.example", Some([10, 1, 2]), Some(2)),
        ("10.1.0.5", "www.shared.example", None, Some(9)),
        ("10.1.0.5", "none.shared.example", None, None),
        ("10.1.0.5", "shared.example", None, None),
        ("10.1.0.5", "www.rule.example", None, Some(1)),
        ("10.1.0.5", "sqs.example", None, Some(9)),
        ("10.1.0.5", "example", None, None),
    ] {
        let mut packet = query(name, 1, false);
        if let Some([a, b, c]) = subnet {
            packet[11] = 1;
            packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, a, b, c]);
        }
        let (count, reply) = ask(&snapshot, source, &packet);
        assert_eq!(count, 0, "{source} {name} allocates");
        let answers = u16::from_be_bytes([reply[6], reply[7]]);
        let octet = (answers > 0).then(|| reply[12 + name.len() + 6 + 15]);
        assert_eq!(octet, last, "{source} {name}: {reply:02x?}");
    }
}
