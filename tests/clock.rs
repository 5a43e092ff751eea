//! A clock that is set forward and back while zonal runs.

use crate::harness::{
    Process, Scratch, Server, ZONAL,
    fake::{Fake, Say, a},
    free_port,
    stub::{Said, Stub},
    wait_until,
};
use hickory_proto::op::ResponseCode;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// zonal with its own clock.
struct World {
    server: Server,
    directory: Scratch,
    /// Whether the target of the rule fails.
    fails: Arc<AtomicBool>,
    target: Fake,
}

const MANIFEST: &str = "vpcs:
  vpc-a: {region: us-east-1, cidr_blocks: [127.73.0.0/16], subnets: {s: {cidr_blocks: [127.73.0.0/20], availability_zone_id: use1-az1}}}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.region.example, private_dns_names: [sqs.example]}
vpc_endpoints:
  vpce-1:
    vpc_endpoint_type: Interface
    vpc_id: vpc-a
    state: Available
    service_name: sqs
    private_dns_enabled: true
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 127.73.0.10}
      - {availability_zone_id: use1-az2, ipv4: 127.73.16.10}
";

impl World {
    fn new(more: &str) -> World {
        let fails = Arc::new(AtomicBool::new(false));
        let target = Fake::start("127.73.100.2:0", {
            let fails = fails.clone();
            move |asked| match fails.load(Relaxed) {
                true => vec![Say::Now(asked.fails(ResponseCode::ServFail))],
                false => vec![Say::Now(asked.with(vec![a(&asked.name(), 300, "192.0.2.1")]))],
            }
        });
        let (directory, scratch) = (Scratch::new(), Scratch::new());
        let rule = format!(
            "resolver_rules:\n  rr: {{domain_name: corp.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [{}]}}\n",
            target.target()
        );
        directory.write("manifest.yaml", format!("{MANIFEST}{rule}{more}"));
        let (port, admin) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let config = scratch.write(
            "zonal.yaml",
            format!(
                "listen: [{{address: \"0.0.0.0:{port}\"}}]\ncontrol_plane: {{directory: {}}}\nadmin: {{address: \"{admin}\"}}\n\
                 internet_resolver: none\n",
                directory.path().display()
            ),
        );
        let clock = scratch.write("clock", "+0\n");
        let command = [
            "env",
            &format!("LD_PRELOAD={}", faketime().display()),
            &format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
            "FAKETIME_NO_CACHE=1",
            // Only the wall clock is wrong. The monotonic clock and the times of files are right.
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
            ZONAL,
            "serve",
            "--config",
            config.to_str().unwrap(),
        ];
        let process = Process::start(&command, &scratch, "zonal");
        let server = Server { process, port, admin, scratch };
        wait_until("the server is alive", || crate::harness::http_get(server.admin, "/live").map(drop));
        World { server: server.ready(), directory, fails, target }
    }

    /// Sets the clock this many seconds off. zonal may notice it after a moment.
    fn set(&self, seconds: i64) {
        self.server.scratch.write("clock", format!("{seconds:+}\n"));
    }

    fn ask(&self, question: &str) -> Said {
        Stub::new("127.73.0.7", ("127.0.0.1", self.server.port)).ask(question)
    }

    fn status(&self, question: &str) -> String {
        self.ask(question).reply.status
    }
}

/// The library that sets the clock of a program off.
pub fn faketime() -> PathBuf {
    let name = "faketime/libfaketimeMT.so.1";
    let entries = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let found = entries.map(|entry| entry.path().join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no {name}: tests/packages installs it"))
}

const DAY: i64 = 86_400;

#[test]
fn what_is_kept_of_others_follows_no_jump() {
    let world = World::new("");
    let name = "www.corp.example";
    // Waits until the target has had this many queries for the name; the answer is then cached.
    let is_asked = |times: usize| {
        wait_until(&format!("it is asked for the {times}th time"), || {
            assert_eq!(world.status(name), "NOERROR");
            (world.target.count_below(name) == times).then_some(())
        });
        for _ in 0..3 {
            assert_eq!(world.status(name), "NOERROR");
        }
        assert_eq!(world.target.count_below(name), times, "it is kept");
    };
    is_asked(1);
    // A cached answer with a time in the future does not remain valid until that time.
    world.set(-DAY);
    is_asked(2);
    world.set(DAY);
    is_asked(3);

    // A cached failure does not outlive the target's return, whatever the clock does.
    for (name, seconds) in [("fails.corp.example", -DAY), ("again.corp.example", 20 * 365 * DAY)] {
        world.fails.store(true, Relaxed);
        assert_eq!(world.status(name), "SERVFAIL");
        world.fails.store(false, Relaxed);
        world.set(seconds);
        wait_until("it is asked for again", || (world.status(name) == "NOERROR").then_some(()));
    }
}

#[test]
fn what_has_a_date_follows_the_clock_and_changes_come_at_any_time() {
    let in_a_day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let world = World::new(&format!(
        "zonal_shifts: {{z: {{resource: vpce-1, away_from: use1-az1, expires_at: \"{in_a_day}\"}}}}\n"
    ));
    let away = || world.ask("sqs.example").reply.data("A") == ["127.73.16.10"];
    assert!(away());
    world.set(2 * DAY);
    wait_until("the shift has expired", || (!away()).then_some(()));
    for (number, seconds) in [-DAY, 40 * 365 * DAY, -20 * 365 * DAY, 0].into_iter().enumerate() {
        world.set(seconds);
        wait_until("the shift is in force or not", || (away() == (seconds < DAY)).then_some(()));
        let before = world.server.status()["generation"].as_u64().unwrap();
        let name = format!("n{number}.zone.example");
        world.directory.write(
            "zone.yaml",
            format!(
                "private_hosted_zones:\n  Z:\n    name: zone.example\n    vpc_ids: [vpc-a]\n    records: [{{name: n{number}, type: A, ttl: 60, \
                 records: [10.0.0.{number}]}}]\n"
            ),
        );
        wait_until("the change is served", || {
            (world.ask(&name).reply.data("A") == [format!("10.0.0.{number}")]).then_some(())
        });
        world.server.wait_for_status("the generation grows", |status| status["generation"].as_u64() > Some(before));
    }
}
