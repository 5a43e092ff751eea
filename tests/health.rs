//! Health checks of a running server: answers that depend on health, health that an operator sets,
//! and an isolated node.

mod failures;
mod fleet;
mod lab;
mod networks;
mod timeline;

use crate::harness::{Scratch, Server, ZONAL, can_run, http_get, http_send, wait_until};
use serde_json::Value;
use std::{
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

/// A TCP target that accepts connections until it is dropped.
struct Target {
    address: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Target {
    fn start(address: &str) -> Target {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || while listener.accept().is_ok() && !over.load(Relaxed) {});
        Target { address, is_over, thread: Some(thread) }
    }

    fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An endpoint with two interfaces in each of two subnets, checked every second on `port`, and more
/// health checks.
fn manifest(port: &str, checks: &str) -> String {
    let interface = |n: u8, address: &str| format!("      - {{availability_zone_id: az{n}, ipv4: {address}}}\n");
    let interfaces: String = [(1, "127.81.0.4"), (2, "127.81.0.5"), (3, "127.81.1.4"), (4, "127.81.1.5")]
        .iter()
        .map(|(n, a)| interface(*n, a))
        .collect();
    format!(
        "vpcs: {{vpc: {{region: us-east-1, cidr_blocks: [127.81.0.0/16], availability_zones: {{a: az1, b: az2, c: az3, d: az4}}}}}}\n\
         vpc_endpoint_services: {{s: {{owner_id: amazon, region: us-east-1, dns_name: vpce.example, private_dns_names: [svc.example]}}}}\n\
         vpc_endpoints:\n  vpce:\n    {{vpc_endpoint_type: Interface, vpc_id: vpc, state: Available, service_name: s, \
         private_dns_enabled: true,\n     health_check: {{type: TCP, port: {port}, request_interval: 1, failure_threshold: 2, \
         success_threshold: 1}},\n     network_interfaces: [\n{}       ]}}\n\
         health_checks:\n  hc-ext: {{type: EXTERNAL}}\n{checks}",
        interfaces.replace("      - ", "       ").replace("}\n", "},\n")
    )
}

fn start(port: &str, checks: &str, more: &str) -> (Scratch, Server) {
    let directory = Scratch::new();
    directory.write("manifest.yaml", manifest(port, checks));
    let server = Server::start_with(directory.path(), more);
    (directory, server)
}

/// The addresses of `svc.example`, sorted.
fn answer(server: &Server) -> Vec<String> {
    let port = server.port.to_string();
    let output = Command::new("dig")
        .args(["-b", "127.81.0.9", "@127.0.0.1", "-p", &port, "+short", "+tries=3", "svc.example", "A"])
        .output()
        .unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect();
    lines.sort();
    lines
}

fn target(server: &Server, id: &str) -> Value {
    let (status, text) = http_get(server.admin, &format!("/v1/health/{id}")).expect("an answer");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn wait_for_state(server: &Server, id: &str, state: &str) {
    wait_until(&format!("{id} is {state}"), || (target(server, id)["state"] == state).then_some(()));
}

fn wait_for_answer(server: &Server, expected: &[&str]) {
    wait_until(&format!("the answer is {expected:?}"), || (answer(server) == expected).then_some(()));
}

/// Runs zonal with the configuration of a server. Returns its output, and whether it succeeded.
pub fn zonal(server: &Server, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(ZONAL);
    let output =
        command.args(arguments).args(["--config", "zonal.yaml"]).current_dir(server.scratch.path()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (text, output.status.success())
}

const ALL: [&str; 4] = ["127.81.0.4", "127.81.0.5", "127.81.1.4", "127.81.1.5"];

#[test]
fn answers_leave_out_an_interface_that_fails_its_check_and_take_it_back() {
    if !can_run(&["dig"]) {
        return;
    }
    let first = Target::start("127.81.0.4:0");
    let port = first.port().to_string();
    let others: Vec<Target> = ALL[1..].iter().map(|address| Target::start(&format!("{address}:{port}"))).collect();
    let (_directory, server) = start(&port, "", "state_directory: state\n");
    for address in ALL {
        wait_for_state(&server, &format!("vpce/{address}"), "healthy");
    }
    let generation = server.status()["generation"].clone();
    assert_eq!(answer(&server), ALL);
    drop(first);
    wait_for_answer(&server, &ALL[1..]);
    assert_eq!(server.status()["generation"], generation, "a change of health is no new generation");
    wait_until("the metric tells", || (server.metric(&["zonal_health_unhealthy", "127.81.0.4"]) == 1.0).then_some(()));
    let (text, is_fine) = zonal(&server, &["health"]);
    assert!(
        text.contains("vpce/127.81.0.4 TCP unhealthy") && text.contains("connection refused") && !is_fine,
        "{text}"
    );
    let (text, _) = zonal(&server, &["explain", "--from", "127.81.0.9", "svc.example"]);
    assert!(text.contains("127.81.0.4") && text.contains("unhealthy"), "{text}");

    // The health survives a restart, once it is in the state directory.
    let stored = server.scratch.path().join("state/health.json");
    wait_until("it is stored", || std::fs::read_to_string(&stored).ok()?.contains("unhealthy").then_some(()));
    let server = server.restart().ready();
    assert_eq!(answer(&server), ALL[1..]);
    let again = Target::start(&format!("127.81.0.4:{port}"));
    wait_for_answer(&server, &ALL);
    drop((again, others));
}

#[test]
fn a_target_that_was_never_healthy_is_answered() {
    if !can_run(&["dig"]) {
        return;
    }
    let (_directory, server) = start("9", "", "");
    wait_until("it was asked three times", || {
        let attempts = target(&server, "vpce/127.81.0.4")["attempts"].as_array().unwrap().len();
        (attempts == 3).then_some(())
    });
    assert_eq!(target(&server, "vpce/127.81.0.4")["state"], "unknown");
    assert_eq!(answer(&server), ALL);
}

#[test]
fn verdicts_are_set_by_hand_for_a_time_and_survive_a_restart() {
    if !can_run(&["dig"]) {
        return;
    }
    let checks = "  hc-any: {type: CALCULATED, child_health_checks: [hc-ext, hc-off], health_threshold: 2}\n  \
                  hc-off: {type: TCP, ip_address: 127.81.0.1, port: 9, disabled: true}\n";
    let (_directory, server) = start("9", checks, "state_directory: state\n");
    let (text, is_done) = zonal(&server, &["health", "set", "vpce/127.81.1.5", "unhealthy", "--for", "1h"]);
    assert!(
        text.contains("vpce/127.81.1.5 TCP unhealthy") && text.contains("set to unhealthy by hand") && is_done,
        "{text}"
    );
    assert_eq!(answer(&server), ALL[..3], "at once");
    let server = server.restart().ready();
    assert_eq!(answer(&server), ALL[..3]);
    let (text, is_done) = zonal(&server, &["health", "clear", "vpce/127.81.1.5"]);
    assert!(is_done && answer(&server) == ALL, "{text}");
    let (text, is_done) = zonal(&server, &["health", "set", "vpce/127.81.1.5", "unhealthy", "--for", "1s"]);
    assert!(is_done, "{text}");
    wait_for_answer(&server, &ALL);

    // An EXTERNAL check accepts reports, and a CALCULATED check counts other checks.
    let healthy = |id: &str| target(&server, id)["healthy"].as_bool().unwrap();
    assert!(healthy("hc-ext") && healthy("hc-any") && target(&server, "hc-off")["state"] == "disabled");
    let (text, is_done) = zonal(&server, &["health", "set", "hc-ext", "unhealthy"]);
    assert!(is_done && !healthy("hc-ext") && !healthy("hc-any"), "{text}");
    assert_eq!(http_send(server.admin, "PUT", "/v1/health/hc-ext", "{\"status\": \"healthy\"}"), Some(200));
    assert!(healthy("hc-ext") && healthy("hc-any"));
    for (path, body, status) in [
        ("/v1/health/hc-any", "{\"status\": \"healthy\"}", 409),
        ("/v1/health/none", "{\"status\": \"healthy\"}", 404),
        ("/v1/health/vpce/127.0.0.1", "{\"status\": \"healthy\", \"for_seconds\": 9}", 404),
        ("/v1/health/hc-ext", "{\"status\": \"well\"}", 422),
        ("/v1/health/hc-ext", "{\"status\": \"healthy\", \"for_seconds\": 0}", 400),
        ("/v1/health/hc-ext", "{\"status\": \"healthy\", \"for_seconds\": 99999999999}", 400),
    ] {
        assert_eq!(http_send(server.admin, "PUT", path, body), Some(status), "{path} {body}");
    }
}

#[test]
fn a_node_that_loses_nearly_all_targets_at_once_keeps_its_answers() {
    if !can_run(&["dig"]) {
        return;
    }
    let first = Target::start("127.81.0.4:0");
    let port = first.port().to_string();
    let mut targets: Vec<Target> = ALL[1..].iter().map(|address| Target::start(&format!("{address}:{port}"))).collect();
    targets.insert(0, first);
    let (_directory, server) = start(&port, "", "health: {freeze_for: 3600}\n");
    for address in ALL {
        wait_for_state(&server, &format!("vpce/{address}"), "healthy");
    }
    drop(targets);
    wait_until("it is isolated", || server.status()["isolated_since"].as_i64());
    for address in ALL {
        wait_for_state(&server, &format!("vpce/{address}"), "unhealthy");
    }
    // No address is left out, not even one whose check failed before the node was isolated.
    wait_for_answer(&server, &ALL);
    assert_eq!(server.metric(&["zonal_health_isolated"]), 1.0);
    let (text, is_fine) = zonal(&server, &["health"]);
    assert!(text.contains("The node is isolated") && text.contains("frozen") && !is_fine, "{text}");
    // Half of the targets answer again, so the node follows its checks again.
    let back: Vec<Target> = ALL[..2].iter().map(|address| Target::start(&format!("{address}:{port}"))).collect();
    wait_for_answer(&server, &ALL[..2]);
    wait_until("it is no longer isolated", || server.status()["isolated_since"].is_null().then_some(()));
    drop(back);
}

#[test]
fn targets_that_never_answer_do_not_delay_the_others() {
    let silent = TcpListener::bind("127.81.2.1:0").unwrap();
    let (target_port, silent_port) = (Target::start("127.81.0.4:0"), silent.local_addr().unwrap().port());
    let mut checks = String::new();
    for n in 0..100 {
        checks +=
            &format!("  hc-{n}: {{type: HTTP, ip_address: 127.81.2.1, port: {silent_port}, request_interval: 3}}\n");
    }
    checks += &format!(
        "  hc-good: {{type: TCP, ip_address: 127.81.0.4, port: {}, request_interval: 1}}\n",
        target_port.port()
    );
    let (_directory, server) = start("9", &checks, "health: {max_in_flight: 4}\n");
    let attempts_at = |id: &str| target(&server, id)["attempts"][0]["at"].as_i64().unwrap_or(0);
    wait_for_state(&server, "hc-good", "healthy");
    // After ten seconds, the attempts of the healthy check are still recent.
    let start = attempts_at("hc-good");
    wait_until("time goes on", || (attempts_at("hc-good") >= start + 10).then_some(()));
    let attempts = target(&server, "hc-good")["attempts"].as_array().unwrap().clone();
    let ages: Vec<i64> = attempts.iter().map(|attempt| attempt["at"].as_i64().unwrap()).collect();
    assert!(ages[0] - ages[2] <= 8, "three attempts in some two seconds: {ages:?}");
    assert!(server.metric(&["zonal_health_results_total", "failure"]) > 0.0);
}

#[test]
fn a_check_by_name_asks_the_address_that_the_view_has_and_no_other_network() {
    let target_here = Target::start("127.81.0.4:0");
    let port = target_here.port();
    let checks = format!(
        "  hc-in: {{type: TCP, fully_qualified_domain_name: in.corp.example, vpc_id: vpc, port: {port}, request_interval: 1}}\n  \
         hc-out: {{type: TCP, fully_qualified_domain_name: out.corp.example, vpc_id: vpc, port: {port}, request_interval: 1}}\n  \
         hc-none: {{type: TCP, fully_qualified_domain_name: none.corp.example, vpc_id: vpc, port: {port}, request_interval: 1}}\n\
         private_hosted_zones:\n  Z: {{name: corp.example, vpc_ids: [vpc], records: [{{name: in, type: A, records: [127.81.0.4]}}, \
         {{name: out, type: A, records: [127.0.0.1]}}]}}\n"
    );
    let (_directory, server) = start("9", &checks, "");
    wait_for_state(&server, "hc-in", "healthy");
    let result = |id: &str| {
        wait_until("it was asked", || target(&server, id)["attempts"][0]["result"].as_str().map(String::from))
    };
    assert!(result("hc-out").contains("127.0.0.1 is in no network that the VPC reaches"), "{}", result("hc-out"));
    assert!(result("hc-none").contains("resolve none.corp.example."), "{}", result("hc-none"));
    std::thread::sleep(Duration::ZERO);
}

/// A zone with a record group for each policy that uses health, and endpoint `vpce` behind an
/// alias.
const ZONE: &str = "\
private_hosted_zones:
  Z:
    name: corp.example
    vpc_ids: [vpc]
    allow_transfer: [{cidr_block: 127.0.0.0/8}]
    records:
      - {name: db, type: A, set_identifier: p, failover_routing_policy: {type: PRIMARY}, health_check_id: hc-ext, records: [10.0.0.1]}
      - {name: db, type: A, set_identifier: s, failover_routing_policy: {type: SECONDARY}, records: [10.0.0.2]}
      - {name: both, type: A, set_identifier: a, multivalue_answer_routing_policy: true, health_check_id: hc-ext, records: [10.0.0.3]}
      - {name: both, type: A, set_identifier: b, multivalue_answer_routing_policy: true, records: [10.0.0.4]}
      - {name: tree, type: A, set_identifier: near, latency_routing_policy: {region: us-east-1}, alias: {name: db.corp.example, evaluate_target_health: true}}
      - {name: tree, type: A, set_identifier: far, latency_routing_policy: {region: eu-west-1}, records: [10.0.0.5]}
      - {name: only, type: A, set_identifier: x, geolocation_routing_policy: {country: DE}, records: [10.0.0.6]}
      - {name: to-db, type: A, alias: {name: db.corp.example}}
      - {name: web, type: CNAME, set_identifier: a, weighted_routing_policy: {weight: 1}, health_check_id: hc-ext, records: [db.corp.example]}
      - {name: web, type: CNAME, set_identifier: b, weighted_routing_policy: {weight: 0}, records: [both.corp.example]}
";

fn addresses(server: &Server, name: &str) -> Vec<String> {
    let port = server.port.to_string();
    let arguments = ["-b", "127.81.0.9", "@127.0.0.1", "-p", &port, "+short", "+tries=3", name, "A"];
    let output = Command::new("dig").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().filter(|line| !line.ends_with('.')).map(String::from).collect();
    lines.sort();
    lines
}

#[test]
fn routing_policies_follow_health() {
    if !can_run(&["dig"]) {
        return;
    }
    let (_directory, server) = start("9", ZONE, "");
    let all = |expected: &[(&str, &[&str])]| {
        for (name, addresses_of) in expected {
            assert_eq!(addresses(&server, name), *addresses_of, "{name}");
        }
    };
    all(&[
        ("db.corp.example", &["10.0.0.1"]),
        ("to-db.corp.example", &["10.0.0.1"]),
        ("both.corp.example", &["10.0.0.3", "10.0.0.4"]),
        ("tree.corp.example", &["10.0.0.1"]),
        ("web.corp.example", &["10.0.0.1"]),
        ("only.corp.example", &[]),
    ]);
    let generation = server.status()["generation"].clone();
    assert_eq!(http_send(server.admin, "PUT", "/v1/health/hc-ext", "{\"status\": \"unhealthy\"}"), Some(200));
    all(&[
        ("db.corp.example", &["10.0.0.2"]),
        ("to-db.corp.example", &["10.0.0.2"]),
        ("both.corp.example", &["10.0.0.4"]),
        // The secondary of `db` has no check: the branch is healthy.
        ("tree.corp.example", &["10.0.0.2"]),
        ("web.corp.example", &["10.0.0.4"]),
    ]);
    assert_eq!(server.status()["generation"], generation);
    let (text, _) = zonal(&server, &["explain", "--from", "127.81.0.9", "db.corp.example"]);
    for line in [
        "failover routing of 2 record sets",
        "`p`: unhealthy by hc-ext (health check: unhealthy for ",
        " s ago reported unhealthy",
        "); PRIMARY: not chosen",
        "SECONDARY: answers",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // A zone whose answers differ between clients cannot be transferred.
    let port = server.port.to_string();
    let arguments = ["-b", "127.81.0.9", "@127.0.0.1", "-p", &port, "corp.example", "AXFR"];
    let output = Command::new("dig").args(arguments).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("Transfer failed"), "{output:?}");
}
