//! Reloads of a directory: under load, after all kinds of file changes, and with errors in
//! resources.

use crate::harness::{Scratch, Server, reply::Reply, wait_until, wait_until_equal};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::{
    collections::HashMap,
    io::Write,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

const RELOADS: u32 = 1_000;

/// The manifest of generation `n`. The number is in a TXT record, in the name of a CNAME's target,
/// in the address of an endpoint, and in a second zone.
fn manifest(n: u32) -> String {
    let (high, low) = (n / 250, n % 250 + 2);
    format!(
        r#"
vpcs:
  vpc: {{region: us-east-1, cidr_blocks: [127.0.0.0/8], availability_zones: {{us-east-1a: use1-az1}},
    subnets: {{subnet: {{availability_zone_id: use1-az1, cidr_blocks: [127.0.0.0/8]}}}}}}
vpc_endpoint_services:
  sqs: {{owner_id: amazon, region: us-east-1, dns_name: sqs.vpce.example, private_dns_names: [sqs.example]}}
vpc_endpoints:
  vpce-sqs: {{vpc_endpoint_type: Interface, service_name: sqs, vpc_id: vpc, state: Available, private_dns_enabled: true,
    network_interfaces: [{{availability_zone_id: use1-az1, ipv4: 127.9.{high}.{low}}}]}}
private_hosted_zones:
  Z1: {{name: one.example, vpc_ids: [vpc], records: [
    {{name: to, type: CNAME, ttl: 0, records: [at.two.example]}},
    {{name: number, type: TXT, ttl: 0, records: ['"{n}"', '"again {n}"']}},
    {{name: g{n}, type: CNAME, ttl: 0, records: [g{n}.two.example]}},
    {{name: mx, type: MX, ttl: 0, records: [{n} g{n}.two.example]}}]}}
  Z2: {{name: two.example, vpc_ids: [vpc], records: [
    {{name: at, type: CNAME, ttl: 0, records: [g{n}.three.example]}},
    {{name: g{n}, type: TXT, ttl: 0, records: ['"{n}"']}}]}}
  Z3: {{name: three.example, vpc_ids: [vpc], records: [
    {{name: g{n}, type: CNAME, ttl: 0, records: [sqs.example]}}]}}
"#
    )
}

/// The generations in an answer.
fn generations(reply: &Reply) -> Vec<u32> {
    let mut found = Vec::new();
    for line in &reply.answer {
        let fields: Vec<&str> = line.split(' ').collect();
        if fields[2] == "A" {
            let octets = fields[3].parse::<Ipv4Addr>().unwrap().octets();
            found.push(u32::from(octets[2]) * 250 + u32::from(octets[3]) - 2);
        }
        for word in line.split([' ', '"', '.']) {
            found.extend(word.strip_prefix('g').and_then(|n| n.parse::<u32>().ok()));
        }
        if fields[2] == "TXT" {
            found.extend(line.split([' ', '"']).rev().find_map(|word| word.parse::<u32>().ok()));
        }
    }
    found
}

fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, rtype));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

/// Sends bursts of queries until `stop`. Returns the numbers of answers and of generations.
fn load(port: u16, stop: &AtomicBool, asked: &AtomicU64) -> (u64, usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let questions = [
        ("to.one.example", RecordType::A),
        ("number.one.example", RecordType::TXT),
        ("sqs.example", RecordType::A),
        ("at.two.example", RecordType::A),
    ];
    let (mut answers, mut seen, mut id) = (0, HashMap::new(), 0_u16);
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let mut open = HashMap::new();
        for (name, rtype) in questions.iter().cycle().take(16) {
            id = id.wrapping_add(1);
            open.insert(id, *name);
            socket.send(&query(id, name, *rtype)).unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
        }
        while !open.is_empty() {
            let len =
                socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{} answers are lost: {open:?}: {e}", open.len()));
            let reply = Reply::of_message(&buffer[..len]);
            let name =
                open.remove(&u16::from_be_bytes([buffer[0], buffer[1]])).expect("an answer to a question of ours");
            assert_eq!(reply.status, "NOERROR", "{name}\n{reply}");
            let numbers = generations(&reply);
            assert!(!numbers.is_empty(), "no generation in the answer to {name}\n{reply}");
            assert!(numbers.iter().all(|n| *n == numbers[0]), "generations mixed in the answer to {name}\n{reply}");
            *seen.entry(numbers[0]).or_insert(0) += 1;
            answers += 1;
        }
        // Leaves CPU time for the reloads.
        std::thread::sleep(Duration::from_millis(5));
    }
    (answers, seen.len())
}

#[test]
fn answers_from_one_generation_during_reloads() {
    let directory = Scratch::new();
    directory.write("manifest.yaml", manifest(0));
    let mut server = Server::start(directory.path());
    let port = server.port;
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    probe.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    probe.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let current = || {
        let mut buffer = [0; 4096];
        probe.send(&query(1, "number.one.example", RecordType::TXT)).unwrap();
        let len = probe.recv(&mut buffer).unwrap();
        generations(&Reply::of_message(&buffer[..len]))[0]
    };
    let (mut after_200, mut after_all) = (0, 0);
    let results: Vec<(u64, usize)> = std::thread::scope(|scope| {
        // The load must end even if an assertion fails. Otherwise the scope waits forever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let loads: Vec<_> = (0..2).map(|_| scope.spawn(|| load(port, &stop, &asked))).collect();
        let ending = Stop(&stop);
        for n in 1..=RELOADS {
            directory.write("manifest.yaml", manifest(n));
            wait_until("the new generation is served", || {
                server.process.assert_alive();
                (current() == n).then_some(())
            });
            match n {
                200 => after_200 = server.process.resident_kb(),
                RELOADS => after_all = server.process.resident_kb(),
                _ => {}
            }
        }
        drop(ending);
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    for (answers, generations) in results {
        assert!(answers > 1_000 && generations > 100, "{answers} answers of {generations} generations are no load");
    }
    // A leak of each generation's snapshot would exceed this.
    assert!(
        after_all < after_200 + after_200 / 4 + 2_048,
        "{after_200} kB after 200 reloads, {after_all} kB after {RELOADS}"
    );
}

#[test]
fn loads_again_after_a_lack_of_file_descriptors() {
    let scratch = Scratch::new();
    scratch.write("zones/a.yaml", manifest(1));
    let server = Server::start(&scratch.path().join("zones"));
    let limit = |most: Rlimit| {
        let id = Pid::from_raw(server.process.id().try_into().unwrap());
        prlimit(id, Resource::Nofile, most).unwrap()
    };
    // Open files stay open, but no more can be opened.
    let before = limit(Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum });
    assert_eq!(before.current, before.maximum, "the server has raised its limit");
    scratch.write("zones/a.yaml", manifest(2));
    server.process.wait_for_log("Too many open files");
    limit(before);
    server.process.wait_for_log("generation published generation=2");
}

/// The TXT record of a name, if there is one. Error answers are rate-limited, and may be missing.
fn text(port: u16, name: &str) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send(&query(7, name, RecordType::TXT)).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).ok()?;
    Reply::of_message(&buffer[..len]).data("TXT").first().map(|text| text.trim_matches('"').to_string())
}

const VPC: &str = "vpcs: {vpc: {region: r, cidr_blocks: [127.0.0.0/8]}}\n";

fn zone(id: &str, name: &str, says: &str) -> String {
    format!(
        "private_hosted_zones:\n  {id}: {{name: {name}, vpc_ids: [vpc], records: [{{name: '@', type: TXT, ttl: 0, records: ['\"{says}\"']}}]}}\n"
    )
}

/// After any change of files and directories, zonal serves their last content.
#[test]
fn loses_no_change_of_files_and_directories() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let master = |says: u32| format!("$TTL 0\n@ SOA ns hm 1 1 1 1 1\n@ NS ns\nns A 10.0.0.1\n@ TXT {says}\n");
    let fill = |says: u32| {
        scratch.write("zones/0.yaml", VPC);
        scratch.write("zones/a.yaml", zone("A", "a.example", &says.to_string()));
        scratch
            .write("zones/b.yaml", "private_hosted_zones: {B: {name: b.example, vpc_ids: [vpc], file: sub/b.zone}}\n");
        scratch.write("zones/sub/b.zone", master(says));
    };
    fill(0);
    let server = Server::start(&path("zones"));
    let mut number = 0;
    let mut served = |what: &str, names: &[&str], change: &dyn Fn(u32)| {
        number += 1;
        change(number);
        for name in names {
            wait_until(what, || (text(server.port, name)? == number.to_string()).then_some(()));
        }
    };
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    for _ in 0..5 {
        served("a directory that was removed and made anew is followed", &["a.example", "b.example"], &|n| {
            std::fs::remove_dir_all(path("zones")).unwrap();
            fill(n);
        });
        served("a file of it", &["a.example"], &|n| write("zones/a.yaml", &zone("A", "a.example", &n.to_string())));
        served("a directory below it that was made anew is followed", &["b.example"], &|n| {
            std::fs::remove_dir_all(path("zones/sub")).unwrap();
            scratch.write("zones/sub/b.zone", master(n));
        });
        served("a file of that", &["b.example"], &|n| write("zones/sub/b.zone", &master(n)));
        served("a directory that was moved away and back is followed", &["a.example"], &|n| {
            std::fs::rename(path("zones"), path("away")).unwrap();
            std::fs::rename(path("away"), path("zones")).unwrap();
            std::thread::sleep(Duration::from_millis(u64::from(n % 3) * 20));
            write("zones/a.yaml", &zone("A", "a.example", &n.to_string()));
        });
    }
    // One file with several names.
    for name in ["link", "hard"] {
        let file = path(&format!("zones/{name}.zone"));
        match name {
            "link" => std::os::unix::fs::symlink("sub/b.zone", file).unwrap(),
            _ => std::fs::hard_link(path("zones/sub/b.zone"), file).unwrap(),
        }
        let line =
            format!("private_hosted_zones: {{{name}: {{name: {name}.example, vpc_ids: [vpc], file: {name}.zone}}}}\n");
        served("the zone is there", &["b.example", &format!("{name}.example")], &|n| {
            write("zones/sub/b.zone", &master(n));
            write(&format!("zones/{name}.yaml"), &line);
        });
    }
    served("it is changed by all its names", &["b.example", "link.example", "hard.example"], &|n| {
        write("zones/sub/b.zone", &master(n));
    });
    served("and by another one", &["b.example", "link.example", "hard.example"], &|n| {
        write("zones/hard.zone", &master(n))
    });
    // Two writes within the resolution of file timestamps.
    for round in 0..100 {
        served("the last one of two writes", &["a.example"], &|n| {
            write("zones/a.yaml", &zone("A", "a.example", &(n + 1000).to_string()));
            std::thread::sleep(Duration::from_micros(round * 30));
            write("zones/a.yaml", &zone("A", "a.example", &n.to_string()));
        });
    }
    // A file that is being written does not delay others. A file that stays open is loaded after
    // some time.
    let whole = zone("C", "c.example", "whole");
    let mut upload = std::fs::File::create(path("zones/c.yaml")).unwrap();
    upload.write_all(&whole.as_bytes()[..whole.len() / 2]).unwrap();
    served("others are served meanwhile", &["a.example"], &|n| {
        write("zones/a.yaml", &zone("A", "a.example", &n.to_string()))
    });
    upload.write_all(&whole.as_bytes()[whole.len() / 2..]).unwrap();
    served("and now", &["a.example"], &|n| write("zones/a.yaml", &zone("A", "a.example", &n.to_string())));
    assert_eq!(text(server.port, "c.example"), None);
    drop(upload);
    wait_until("it is there", || (text(server.port, "c.example")? == "whole").then_some(()));
    let open = std::fs::File::options().append(true).open(path("zones/c.yaml")).unwrap();
    (&open).write_all(b"# and no more\n").unwrap();
    (&open).write_all(zone("D", "d.example", "open").lines().nth(1).unwrap().as_bytes()).unwrap();
    wait_until("what was left open is there", || (text(server.port, "d.example")? == "open").then_some(()));
    server.wait_for_metric(&["zonal_reload_failed"], 0.0);
}

/// With `on_error: set_aside`, a resource with an error does not affect others.
#[test]
fn sets_resources_with_errors_aside() {
    let scratch = Scratch::new();
    scratch.write("zones/0.yaml", VPC);
    for n in ["1", "2", "3", "4"] {
        scratch.write(&format!("zones/{n}.yaml"), zone(&format!("Z{n}"), &format!("z{n}.example"), "first"));
    }
    let master = |says: &str| format!("$TTL 0\n@ SOA ns hm 1 1 1 1 1\n@ NS ns\nns A 10.0.0.1\n@ TXT {says}\n");
    scratch.write("zones/5.yaml", "private_hosted_zones: {Z5: {name: z5.example, vpc_ids: [vpc], file: 5.zone}}\n");
    scratch.write("zones/5.zone", master("first"));
    let state = format!("state_directory: {}\n", scratch.path().join("state").display());
    let source = format!("{{directory: {}, on_error: set_aside}}", scratch.path().join("zones").display());
    let server = Server::start_from(&source, &state).ready();
    let says = |server: &Server, n: &str| text(server.port, &format!("z{n}.example"));
    let wait_for = |server: &Server, n: &str, expected: &str| {
        wait_until_equal(n, Some(expected.to_string()), || says(server, n));
    };
    // A missing network, a value that cannot be read, a wrong line in a master file, and a valid change.
    scratch.write("zones/1.yaml", zone("Z1", "z1.example", "second").replace("[vpc]", "[vpc-none]"));
    scratch.write("zones/2.yaml", zone("Z2", "z2.example", "second").replace("ttl: 0", "ttl: soon"));
    scratch.write("zones/5.zone", master("second").replace("10.0.0.1", "10.0.0"));
    scratch.write("zones/3.yaml", zone("Z3", "z3.example", "second"));
    wait_for(&server, "3", "second");
    server.wait_for_metric(&["zonal_resources_set_aside"], 3.0);
    for (n, expected) in [("1", "first"), ("2", "first"), ("4", "first"), ("5", "first")] {
        wait_for(&server, n, expected);
    }
    for part in ["1.yaml:2:", "vpc-none", "2.yaml:2:", "ttl", "5.zone:4:", "10.0.0"] {
        server.wait_for_status(part, |status| status["set_aside"].to_string().contains(part));
    }
    // They stay set aside after a restart.
    let server = server.restart().ready();
    for (n, expected) in [("1", "first"), ("2", "first"), ("3", "second"), ("5", "first")] {
        wait_for(&server, n, expected);
    }
    // zonal refuses the load if it cannot parse a whole file, because the file's resources are
    // unknown.
    scratch.write("zones/4.yaml", "private_hosted_zones: [");
    server.wait_for_status("it is refused", |status| status["last_error"].to_string().contains("4.yaml:"));
    wait_for(&server, "4", "first");
    // zonal sets aside a resource that is in two files.
    scratch.write("zones/4.yaml", zone("Z4", "z4.example", "second"));
    wait_for(&server, "4", "second");
    scratch.write("zones/6.yaml", zone("Z4", "z4.example", "third"));
    server.wait_for_metric(&["zonal_resources_set_aside"], 4.0);
    wait_for(&server, "4", "second");
    // zonal serves corrected resources.
    scratch.write("zones/6.yaml", "");
    scratch.write("zones/1.yaml", zone("Z1", "z1.example", "third"));
    scratch.write("zones/2.yaml", zone("Z2", "z2.example", "third"));
    scratch.write("zones/5.zone", master("third"));
    ["1", "2", "5"].iter().for_each(|n| wait_for(&server, n, "third"));
    server.wait_for_metric(&["zonal_resources_set_aside"], 0.0);
}
