//! zonal follows a real etcd cluster of three members, through all kinds of failures.

use crate::harness::{
    Process, ZONAL, can_run,
    cluster::{Cluster, MEMBERS, ctl},
    http_get,
    lab::Lab,
    wait_until, wait_until_equal,
};
use etcd_client::{Client, ConnectOptions, PutOptions, Txn, TxnOp};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The address of the node, which the client queries.
const NODE: &str = "10.9.1.1";
const PREFIX: &str = "/zonal/v1/";

/// A lab with etcd, a node and a client.
struct World {
    node: Option<Process>,
    cluster: Cluster,
    lab: Lab,
}

impl World {
    fn new(more: &str) -> World {
        let mut lab = Lab::new();
        lab.router("core");
        lab.host("node", "core", &[NODE]);
        lab.host("client", "core", &["10.1.0.5"]);
        let cluster = Cluster::start(&mut lab);
        let endpoints = MEMBERS.map(|address| format!("\"http://{address}:2379\"")).join(", ");
        lab.scratch.write(
            "zonal.yaml",
            format!(
                "listen: [{{address: \"{NODE}:53\"}}]\ncontrol_plane: {{etcd: {{endpoints: [{endpoints}]}}{more}}}\n\
                 state_directory: state\nadmin: {{address: \"127.0.0.1:9153\"}}\ninternet_resolver: none\n"
            ),
        );
        let mut world = World { node: None, cluster, lab };
        world.put(&all());
        world.start();
        world
    }

    fn start(&mut self) {
        self.node = Some(self.lab.start("node", &[ZONAL, "serve", "--config", "zonal.yaml"]));
        wait_until("the node is ready", || {
            self.node.as_mut().unwrap().assert_alive();
            (self.get("/ready")?.0 == 200).then_some(())
        });
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        self.lab.inside("node", || http_get(SocketAddr::from((Ipv4Addr::LOCALHOST, 9153)), path))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").expect("a status").1).unwrap()
    }

    /// Waits until a metric has a value.
    fn wait_for_metric(&self, name: &str, expected: f64) {
        wait_until_equal(name, expected, || {
            let (_, text) = self.get("/metrics").expect("metrics");
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
        });
    }

    /// Waits until a member of the status has a value.
    fn wait_for_status(&self, member: &str, expected: &Value) {
        wait_until_equal(member, expected.clone(), || self.status()[member].clone());
    }

    /// Waits until the status code of a name's TXT query is as expected.
    fn wait_for_rcode(&self, name: &str, expected: &str) {
        wait_until_equal(name, expected.to_string(), || self.lab.dig("client", &format!("@{NODE} {name} TXT")).status);
    }

    /// Puts resources into etcd in one transaction; null deletes a resource. Returns the revision.
    fn put(&self, resources: &[(String, Value)]) -> u64 {
        self.lab.inside("client", || put(&MEMBERS, resources))
    }

    fn text(&self, name: &str) -> Vec<String> {
        let reply = self.lab.dig("client", &format!("@{NODE} {name} TXT"));
        reply.answer.iter().map(|line| line.split_once(" TXT ").map_or(line.clone(), |(_, text)| text.into())).collect()
    }

    /// Waits until the TXT record of a name is as expected.
    fn wait_for(&self, name: &str, text: &str) {
        let expected = vec![format!("\"{text}\"")];
        wait_until(&format!("{name} is {text}"), || (self.text(name) == expected).then_some(()));
    }

    fn whoami(&self) -> String {
        self.text("whoami.zonal").join(" ")
    }

    /// Cuts the connection between the node and etcd, or restores it.
    fn cut(&self, cut: bool) {
        self.lab.cut("core", &MEMBERS, cut);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A client of etcd with time-outs, for members that do not answer.
async fn client(members: &[&str]) -> Client {
    let options = ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(2))
        .with_timeout(Duration::from_secs(3))
        .with_keep_alive(Duration::from_secs(1), Duration::from_secs(1));
    let endpoints: Vec<String> = members.iter().map(|address| format!("http://{address}:2379")).collect();
    Client::connect(endpoints, Some(options)).await.unwrap()
}

fn operations(resources: &[(String, Value)]) -> Vec<TxnOp> {
    let operation = |(key, value): &(String, Value)| match value {
        Value::Null => TxnOp::delete(format!("{PREFIX}{key}"), None),
        Value::String(text) => TxnOp::put(format!("{PREFIX}{key}"), text.as_str(), None),
        value => TxnOp::put(format!("{PREFIX}{key}"), value.to_string(), None),
    };
    resources.iter().map(operation).collect()
}

fn put(members: &[&str], resources: &[(String, Value)]) -> u64 {
    runtime().block_on(async {
        let end = Instant::now() + Duration::from_secs(45);
        loop {
            let txn = async { client(members).await.txn(Txn::new().and_then(operations(resources))).await };
            match tokio::time::timeout(Duration::from_secs(5), txn).await {
                Ok(Ok(response)) => return response.header().unwrap().revision() as u64,
                told if Instant::now() > end => panic!("etcd takes no write: {:?}", told.map(|told| told.map(drop))),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
}

fn vpc() -> (String, Value) {
    ("vpcs/vpc-app".into(), json!({"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]}))
}

/// A zone with the TXT record `text`.
fn zone(id: &str, text: &str) -> (String, Value) {
    let name = format!("{}.example", id.to_lowercase());
    let records = json!([{"name": "@", "type": "TXT", "ttl": 0, "records": [format!("\"{text}\"")]}]);
    (format!("private_hosted_zones/{id}"), json!({"name": name, "vpc_ids": ["vpc-app"], "records": records}))
}

/// The initial content of etcd: a VPC and twelve zones.
fn all() -> Vec<(String, Value)> {
    (0..12).map(|n| zone(&format!("Z{n}"), "first")).chain([vpc()]).collect()
}

fn can_run_here() -> bool {
    can_run(&["ip", "dig", "setpriv", "etcd", "etcdctl"])
}

#[test]
fn serves_each_transaction_as_one_generation() {
    if !can_run_here() {
        return;
    }
    let world = World::new("");
    world.wait_for("z1.example", "first");
    assert!(!world.whoami().contains("stale"), "{}", world.whoami());

    // Twelve zones change in one generation.
    let before = world.status()["generation"].as_u64().unwrap();
    let revision = world.put(&(0..12).map(|n| zone(&format!("Z{n}"), "second")).collect::<Vec<_>>());
    world.wait_for("z11.example", "second");
    world.wait_for_status("revision", &json!(revision));
    world.wait_for_status("generation", &json!(before + 1));
    world.wait_for_metric("zonal_source_revision", revision as f64);
    world.wait_for_metric("zonal_source_connected", 1.0);

    // zonal sets aside resources with errors, and serves the rest of the transaction.
    let broken = ("private_hosted_zones/Z1".into(), json!({"name": "z1.example", "vpc_ids": ["vpc-none"]}));
    let text = ("private_hosted_zones/Z2".into(), Value::String("{\"name\": ".into()));
    let late = (
        "private_hosted_zones/ZLATE".to_string(),
        json!({"name": "late.example", "vpc_ids": ["vpc-late"],
        "file": "late.zone"}),
    );
    world.put(&[broken, text, late, zone("Z3", "third")]);
    world.wait_for("z3.example", "third");
    world.wait_for("z1.example", "second");
    world.wait_for("z2.example", "second");
    world.wait_for_metric("zonal_resources_set_aside", 3.0);
    let aside: Vec<String> = wait_until("three are set aside", || {
        let status = world.status();
        let aside = status["set_aside"].as_array().unwrap().iter().map(Value::to_string);
        Some(aside.collect::<Vec<_>>()).filter(|aside| aside.len() == 3)
    });
    assert!(
        aside.iter().any(|one| one.contains("Z1") && one.contains("vpc-none") && one.contains("older")),
        "{aside:?}"
    );
    assert!(aside.iter().any(|one| one.contains("ZLATE") && one.contains("nothing")), "{aside:?}");

    // Keys may arrive in any order.
    world.put(&[(
        "master_files/late.zone".into(),
        Value::String("$TTL 0\n@ SOA ns hostmaster 1 1 1 1 1\n@ NS ns\nns A 10.1.0.1\n@ TXT here\n".into()),
    )]);
    let other = json!({"region": "us-east-1", "cidr_blocks": ["10.7.0.0/16"]});
    world.put(&[("vpcs/vpc-late".into(), other), zone("Z1", "third"), zone("Z2", "third")]);
    world.wait_for("z1.example", "third");
    world.wait_for_metric("zonal_resources_set_aside", 0.0);
    world.put(&[(
        "private_hosted_zones/ZLATE".into(),
        json!({"name": "late.example", "vpc_ids": ["vpc-app"], "file": "late.zone"}),
    )]);
    world.wait_for("late.example", "here");

    // Unknown keys, and the deletion of a zone.
    world.put(&[
        ("private_hosted_zones/".into(), json!({})),
        ("odd/x".into(), json!({})),
        ("private_hosted_zones/Z9".into(), Value::Null),
    ]);
    world.wait_for_rcode("z9.example", "REFUSED");
    world.wait_for("z1.example", "third");
}

#[test]
fn survives_failures_of_etcd() {
    if !can_run_here() {
        return;
    }
    let mut world = World::new("");
    // The leader is killed.
    let leader = world.cluster.leader(&world.lab);
    world.cluster.kill(leader);
    world.put(&[zone("Z1", "without a leader")]);
    world.wait_for("z1.example", "without a leader");
    world.cluster.run(&world.lab, leader);

    // The leader stops, and keeps its connections.
    let leader = world.cluster.leader(&world.lab);
    let stopped = world.cluster.process(leader).id();
    let signal = |name: &str| {
        // `ip netns exec` replaces itself with etcd.
        let status = std::process::Command::new("kill").args([name, &stopped.to_string()]).status().unwrap();
        assert!(status.success());
    };
    signal("-STOP");
    // The stopped member would repeat a write when it continues, so the write goes to the other
    // members.
    let others: Vec<&str> = (0..3).filter(|at| *at != leader).map(|at| MEMBERS[at]).collect();
    world.lab.inside("client", || put(&others, &[zone("Z1", "beside a silent member")]));
    world.wait_for("z1.example", "beside a silent member");
    signal("-CONT");

    // While the node is cut off, it continues to serve its last state. Afterwards it receives the
    // changes.
    world.cut(true);
    world.wait_for("z1.example", "beside a silent member");
    world.cut(false);
    // A write of the stopped member may arrive after this one.
    wait_until("z1.example is after the cut", || {
        world.put(&[zone("Z1", "after the cut")]);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if world.text("z1.example") == ["\"after the cut\""] {
                return Some(());
            }
        }
        None
    });

    // The node is cut off until etcd has compacted its revision.
    let cut = |cut: bool| {
        for direction in ["from", "to"] {
            let action = if cut { "add" } else { "del" };
            let output = world.lab.run("core", &["ip", "rule", action, direction, NODE, "blackhole"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    cut(true);
    let mut revision = 0;
    for n in 0..20 {
        revision = world.put(&[zone("Z1", &format!("compacted {n}")), zone("Z2", &n.to_string())]);
    }
    world.put(&[("private_hosted_zones/Z3".into(), Value::Null)]);
    wait_until("it is compacted", || {
        ctl(&world.lab, &["compact", &revision.to_string()]).status.success().then_some(())
    });
    world.wait_for_metric("zonal_source_connected", 0.0);
    cut(false);
    world.wait_for("z1.example", "compacted 19");
    world.wait_for("z2.example", "19");
    world.wait_for_rcode("z3.example", "REFUSED");
    world.node.as_ref().unwrap().wait_for_log("etcd keys listed again");

    // Without etcd, a node that starts serves its last state, and reports that it is stale.
    (0..3).for_each(|at| world.cluster.kill(at));
    let before = world.status();
    world.node = None;
    world.start();
    world.wait_for("z1.example", "compacted 19");
    assert!(world.whoami().contains("stale=true"), "{}", world.whoami());
    world.wait_for_status("stale", &json!(true));
    world.wait_for_metric("zonal_stale", 1.0);
    for member in ["generation", "digest", "revision"] {
        world.wait_for_status(member, &before[member]);
    }
    (0..3).for_each(|at| world.cluster.run(&world.lab, at));
    wait_until("it is stale no more", || (!world.whoami().contains("stale")).then_some(()));
    world.wait_for_metric("zonal_stale", 0.0);
    world.wait_for_status("stale", &json!(false));
    world.put(&[zone("Z1", "back again")]);
    world.wait_for("z1.example", "back again");
}

#[test]
fn does_not_follow_a_restore_that_lacks_most_resources() {
    if !can_run_here() {
        return;
    }
    let mut world = World::new("");
    let save = |world: &World, name: &str| {
        let file = world.lab.scratch.path().join(name);
        let endpoint = format!("--endpoints={}:2379", MEMBERS[0]);
        let output = world.lab.run("client", &["etcdctl", &endpoint, "snapshot", "save", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        file.to_str().unwrap().to_string()
    };
    let early = save(&world, "early.db");
    world.put(&(20..40).map(|n| zone(&format!("Z{n}"), "later")).collect::<Vec<_>>());
    world.wait_for("z39.example", "later");
    let late = save(&world, "late.db");
    world.put(&[zone("Z39", "last"), zone("Z40", "last")]);
    world.wait_for("z40.example", "last");

    // Many resources are missing in an early backup, so the node does not follow the restore.
    world.cluster.restore(&world.lab, &early);
    wait_until("the restore is logged", || {
        let log = world.node.as_ref().unwrap().log();
        (log.contains("etcd store was restored or replaced") && log.contains("are missing in it")).then_some(())
    });
    world.wait_for("z40.example", "last");
    world.wait_for("z1.example", "first");
    wait_until("the status says why", || {
        let error = world.status()["source"]["error"].to_string();
        (error.contains("20 of") || error.contains("21 of")).then_some(())
    });

    // One resource is missing in a late backup, so the node follows the restore.
    world.cluster.restore(&world.lab, &late);
    world.wait_for("z39.example", "later");
    world.wait_for_rcode("z40.example", "REFUSED");
    world.put(&[zone("Z39", "on from there")]);
    world.wait_for("z39.example", "on from there");
}

/// The duration of the flood, in seconds.
fn flood_seconds() -> u64 {
    std::env::var("FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(8)
}

#[test]
fn answers_queries_under_a_flood_of_changes() {
    if !can_run_here() {
        return;
    }
    let world = World::new("");
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let node = world.node.as_ref().unwrap();
    let (mut early, mut late) = (0, 0);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| world.lab.inside("client", || ask_until(&stop, &asked)));
        let end = Instant::now() + Duration::from_secs(flood_seconds());
        let writes = world.lab.inside("client", || {
            runtime().block_on(async {
                let mut client = client(&MEMBERS).await;
                let (mut n, start) = (0_u64, Instant::now());
                while Instant::now() < end {
                    let size = 1 + n % 100;
                    let changes: Vec<_> =
                        (0..size).map(|at| zone(&format!("Z{}", at % 100), &format!("{n}"))).collect();
                    client.txn(Txn::new().and_then(operations(&changes[..size.min(100) as usize]))).await.unwrap();
                    n += size;
                    if n > 2_000 && early == 0 {
                        early = node.resident_kb();
                    }
                    tokio::time::sleep_until((start + Duration::from_micros(1_000 * n)).into()).await;
                }
                client
                    .put(
                        format!("{PREFIX}private_hosted_zones/Z0"),
                        zone("Z0", "the last").1.to_string(),
                        None::<PutOptions>,
                    )
                    .await
                    .unwrap();
                n
            })
        });
        world.wait_for("z0.example", "the last");
        late = node.resident_kb();
        stop.store(true, Relaxed);
        let answered = load.join().unwrap();
        assert!(writes > 500 * flood_seconds(), "{writes} changes are no flood");
        assert!(answered > 1_000, "{answered} answers are no load");
    });
    world.wait_for_metric("zonal_resources_set_aside", 0.0);
    assert!(late < early + early / 4 + 8_192, "{early} kB at first, {late} kB at the end");
}

/// Sends queries until `stop`, and checks each answer. Returns the number of queries.
fn ask_until(stop: &AtomicBool, asked: &AtomicU64) -> u64 {
    let socket = UdpSocket::bind("10.1.0.5:0").unwrap();
    socket.connect((NODE, 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 2048];
    while !stop.load(Relaxed) {
        let id = (asked.fetch_add(1, Relaxed) as u16).to_be_bytes();
        let query = [&id[..], b"\x01\0\0\x01\0\0\0\0\0\0\x02z1\x07example\0\0\x10\0\x01"].concat();
        socket.send(&query).unwrap();
        let len = socket.recv(&mut buffer).expect("no answer is lost");
        assert!(len > query.len() && buffer[..2] == id && buffer[3] & 15 == 0, "{:?}", &buffer[..len]);
        std::thread::sleep(Duration::from_millis(1));
    }
    asked.load(Relaxed)
}

/// zonal writes updates to etcd beside the changes of other writers, and serves an update before it
/// answers.
#[test]
fn writes_dynamic_updates_to_etcd() {
    if !can_run_here() || !can_run(&["nsupdate"]) {
        return;
    }
    const KEY: &str = "hmac-sha256:update:c2VjcmV0IG9mIHVwZGF0ZXMhIQ==";
    let secret = KEY.rsplit(':').next().unwrap();
    let world = World::new(&format!("}}\ntsig_keys: {{update: {{secret: {secret}}}"));
    let access = json!([{"tsig_key": "update"}]);
    let master = "@ 60 SOA ns hostmaster 7 1 1 1 60\n@ 60 NS ns\nns 60 A 10.1.0.1\n";
    let file = |id: &str, name: &str, file: &str| {
        let zone = json!({"name": name, "vpc_ids": ["vpc-app"], "file": file, "allow_update": access});
        (format!("private_hosted_zones/{id}"), zone)
    };
    let revision = world.put(&[
        ("private_hosted_zones/U".into(), json!({"name": "u.example", "vpc_ids": ["vpc-app"], "allow_update": access})),
        ("master_files/f.zone".into(), json!(master)),
        ("master_files/shared.zone".into(), json!(master)),
        file("F", "f.example", "f.zone"),
        file("S1", "s1.example", "shared.zone"),
        file("S2", "s2.example", "shared.zone"),
    ]);
    wait_until("it is served", || (world.status()["revision"].as_u64()? >= revision).then_some(()));
    let update = |zone: &str, lines: &str| {
        let name = format!("script-{:?}", std::thread::current().id());
        let script = format!("server {NODE}\nzone {zone}\n{lines}\nsend\nanswer\n");
        let script = world.lab.scratch.write(&name.replace(['(', ')'], ""), script);
        let output = world.lab.run("client", &["nsupdate", "-t", "20", "-y", KEY, script.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).map_or(text.clone(), String::from)
    };
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (update, world) = (&update, &world);
            scope.spawn(move || {
                for number in 0..5 {
                    let name = format!("n{thread}-{number}.u.example");
                    assert_eq!(update("u.example", &format!("update add {name} 60 TXT here")), "NOERROR");
                    assert_eq!(world.text(&name), ["\"here\""], "at once");
                }
            });
        }
    });
    let value = |key: &str| {
        let key = format!("{PREFIX}{key}");
        let found = world.lab.inside("client", || {
            runtime().block_on(async { client(&MEMBERS).await.get(key, None).await.unwrap().kvs().first().cloned() })
        });
        found.map(|pair| pair.value_str().unwrap().to_string()).unwrap_or_default()
    };
    let zone: Value = serde_json::from_str(&value("private_hosted_zones/U")).unwrap();
    assert_eq!(zone["records"].as_array().map(Vec::len), Some(15), "{zone}");
    assert_eq!(
        update("u.example", "prereq nxdomain n0-0.u.example\nupdate add n0-0.u.example 60 A 10.1.0.1"),
        "YXDOMAIN"
    );
    assert_eq!(update("u.example", "update delete n0-0.u.example"), "NOERROR");
    assert!(world.text("n0-0.u.example").is_empty());

    // zonal changes the record sets of a master file in that file, and puts new names into the
    // zone's `records`.
    assert_eq!(
        update("f.example", "update add ns.f.example 60 A 10.1.0.2\nupdate add new.f.example 60 TXT here"),
        "NOERROR"
    );
    assert!(value("master_files/f.zone").contains("ns.f.example. 60 IN A 10.1.0.2\n"));
    assert!(value("private_hosted_zones/F").contains("new.f.example"));
    assert_eq!(world.text("new.f.example"), ["\"here\""]);
    // zonal does not write a file that several zones use. It can add names outside the file.
    assert_eq!(update("s1.example", "update delete ns.s1.example A"), "REFUSED");
    assert_eq!(update("s1.example", "update add new.s1.example 60 TXT here"), "NOERROR");
    assert_eq!(value("master_files/shared.zone"), master);

    // zonal does not serve an update that it cannot write.
    world.cut(true);
    assert_eq!(update("u.example", "update add lost.u.example 60 TXT here"), "SERVFAIL");
    world.cut(false);
    assert!(world.text("lost.u.example").is_empty());
}
