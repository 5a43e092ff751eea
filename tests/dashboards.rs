//! The dashboard, the rules and the metrics reference: Prometheus loads them, and each query finds
//! data of a server with traffic.

use crate::harness::{
    Process, Scratch, Server, can_run,
    cluster::Single,
    free_port, http_get,
    secure::Certificate,
    stub::Stub,
    tree,
    upstream::{Data, Upstreams},
    wait_until,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use zonal::manifest::collection::{Edit, Key};

const RULES: &str = "deploy/prometheus/zonal.rules.yml";
const DASHBOARD: &str = "deploy/grafana/zonal.json";

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(tree("deploy/prometheus")).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}:\n{text}");
}

#[test]
fn alerts_fire_as_their_tests_say() {
    if !can_run(&["promtool"]) {
        return;
    }
    promtool(&["check", "rules", "zonal.rules.yml"]);
    promtool(&["test", "rules", "zonal.rules.test.yml"]);
    let text = |name: &str| fs::read_to_string(tree("deploy/prometheus").join(name)).unwrap();
    let (rules, tests) = (text("zonal.rules.yml"), text("zonal.rules.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        let fires = format!("- alertname: {alert}\n");
        let is_quiet = format!("{{alertname: {alert}, eval_time: ");
        assert!(tests.contains(&fires) && tests.contains(&is_quiet), "no test of {alert}");
    }
}

/// A query of a panel, and the labels in its legend.
struct Shown {
    panel: String,
    expression: String,
    labels: Vec<String>,
}

/// All queries of the dashboard, with its variables replaced.
fn dashboard() -> Vec<Shown> {
    let text = fs::read_to_string(tree(DASHBOARD)).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let filled = |expression: &str| {
        let all = expression.replace("$job", "zonal").replace("$instance", ".*").replace("$view", ".*");
        let all = all.replace("$__rate_interval", "1m").replace("$__range", "1h");
        assert!(!all.contains('$'), "an unknown variable: {all}");
        all
    };
    let mut shown = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap().to_string();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one number: {title}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            ["stat", "timeseries", "table"].contains(&panel["type"].as_str().unwrap()),
            "{title}: not of Grafana itself"
        );
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let legend = target["legendFormat"].as_str().unwrap();
            let labels = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_string()).collect();
            let expression = filled(target["expr"].as_str().unwrap());
            shown.push(Shown { panel: title.clone(), expression, labels });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        if let Some(expression) = annotation["expr"].as_str() {
            let panel = annotation["name"].as_str().unwrap().to_string();
            shown.push(Shown { panel, expression: filled(expression), labels: Vec::new() });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (expression, label) = inner.rsplit_once(", ").unwrap();
            let panel = format!("the variable {}", variable["name"]);
            shown.push(Shown { panel, expression: filled(expression), labels: vec![label.into()] });
        }
    }
    assert!(shown.len() > 70, "{}", shown.len());
    shown
}

/// The words of a text that may be metric names.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| ["zonal_", "process_", "zonal:"].iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// Rules and dashboard use only metrics that exist.
#[test]
fn rules_and_dashboard_use_existing_metrics() {
    let read = |path: &str| fs::read_to_string(tree(path)).unwrap();
    let (page, rules) = (read("docs/reference/metrics.md"), read(RULES));
    let recorded: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let dashboard = dashboard();
    let asked: Vec<&str> = dashboard.iter().map(|shown| &*shown.expression).chain([&*rules]).collect();
    for name in asked.iter().flat_map(|text| names(text)) {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(recorded.contains(name) || page.contains(&format!("| `{family}` |")), "there is no {name}");
    }
    for name in recorded {
        assert!(
            dashboard.iter().any(|shown| names(&shown.expression).contains(name)) || rules.matches(name).count() > 1,
            "nobody asks for {name}"
        );
    }
    // The text outside the page's table names only metrics in the table.
    for name in names(&page) {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(page.contains(&format!("| `{name}` |")), "the page's table lacks {name}");
    }
}

/// Sends a GET request, and returns the JSON body.
fn get(server: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |octet| if octet.is_ascii_alphanumeric() { char::from(octet).to_string() } else { format!("%{octet:02X}") },
        )
        .collect()
}

/// The result of a query: samples with numeric values, and their labels.
fn ask(prometheus: SocketAddr, expression: &str) -> Vec<Value> {
    let answer =
        get(prometheus, &format!("/api/v1/query?query={}", encoded(expression))).expect("an answer of Prometheus");
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    let found = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
    let is_number =
        |found: &&Value| found["value"][1].as_str().is_some_and(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
    found.iter().filter(is_number).cloned().collect()
}

/// Networks on loopback addresses: clients in two AZs and on-premises, an endpoint without an
/// interface in one AZ, an endpoint with an unhealthy interface there, a rule whose server answers,
/// and a rule whose server does not exist.
pub fn resources(port: u16, text: &str) -> Vec<(&'static str, &'static str, Value)> {
    let endpoint = |service: &str, interfaces: Value| {
        json!({"vpc_endpoint_type": "Interface", "service_name": service, "vpc_id": "shared", "state": "Available",
               "private_dns_enabled": true, "private_dns_scope": "connected", "network_interfaces": interfaces})
    };
    let service = |name: &str| {
        json!({"owner_id": "amazon", "region": "us-east-1", "dns_name": format!("{name}.vpce.example"),
               "private_dns_names": [format!("{name}.example")]})
    };
    let rule = |domain: &str, ip: &str| {
        json!({"domain_name": domain, "rule_type": "FORWARD", "vpc_ids": ["app", "shared"],
               "resolver_endpoint_id": "out", "target_ips": [{"ip": ip, "port": port}]})
    };
    vec![
        (
            "vpcs",
            "app",
            json!({"region": "us-east-1", "cidr_blocks": ["127.1.0.0/16", "10.1.0.0/16"],
            "availability_zones": {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2"},
            "subnets": {"a": {"availability_zone_id": "use1-az1", "cidr_blocks": ["127.1.0.0/20", "10.1.0.0/20"]},
                        "b": {"availability_zone_id": "use1-az2", "cidr_blocks": ["127.1.16.0/20"]}}}),
        ),
        (
            "vpcs",
            "shared",
            json!({"region": "us-east-1", "cidr_blocks": ["127.2.0.0/16"],
            "availability_zones": {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2"}}),
        ),
        ("vpc_peering_connections", "pcx", json!({"vpc_ids": ["app", "shared"], "status": "active"})),
        ("on_premises_networks", "dc", json!({"cidr_blocks": ["127.4.0.0/16"], "vpc_ids": ["shared"]})),
        ("vpc_endpoint_services", "sqs", service("sqs")),
        ("vpc_endpoint_services", "kms", service("kms")),
        (
            "vpc_endpoints",
            "vpce-sqs",
            endpoint(
                "sqs",
                json!([
            {"availability_zone_id": "use1-az1", "ipv4": "127.2.0.10"},
            {"availability_zone_id": "use1-az2", "ipv4": "127.2.16.10", "health": "unhealthy"}]),
            ),
        ),
        (
            "vpc_endpoints",
            "vpce-kms",
            endpoint("kms", json!([{"availability_zone_id": "use1-az1", "ipv4": "127.2.0.11"}])),
        ),
        (
            "private_hosted_zones",
            "Z1",
            json!({"name": "corp.example", "vpc_ids": ["app"],
            "records": [{"name": "www", "type": "TXT", "ttl": 5, "records": [format!("\"{text}\"")]}]}),
        ),
        (
            "resolver_endpoints",
            "in",
            json!({"direction": "INBOUND", "vpc_id": "shared", "ip_addresses": [{"ip": "127.2.0.53"}]}),
        ),
        (
            "resolver_endpoints",
            "out",
            json!({"direction": "OUTBOUND", "vpc_id": "shared", "ip_addresses": [{"ip": "127.2.0.54"}]}),
        ),
        ("health_checks", "hc-ext", json!({"type": "EXTERNAL", "stale_after": 60, "when_stale": "unhealthy"})),
        ("firewall_domain_lists", "list", json!({"domains": ["www.corp.example"]})),
        (
            "firewall_rule_groups",
            "group",
            json!({"rules": [{"name": "report", "priority": 1, "action": "ALERT", "firewall_domain_list_id": "list"}],
                   "vpc_associations": [{"vpc_id": "app", "priority": 1}]}),
        ),
        ("resolver_rules", "there", rule("there.example", "127.4.0.53")),
        ("resolver_rules", "dead", rule("dead.example", "127.4.0.99")),
    ]
}

pub fn put(etcd: &Single, resources: Vec<(&'static str, &'static str, Value)>) {
    let edit = |(kind, id, value): (&str, &str, Value)| Edit {
        key: Key::new(kind, id).expect("a kind"),
        value: Some(value.to_string().into_bytes().into()),
    };
    etcd.put(&resources.into_iter().map(edit).collect::<Vec<_>>());
}

/// Sends queries of all kinds from all clients, over UDP and TCP, until `stop` is set.
fn traffic(port: u16, stop: &AtomicBool) {
    let stub = |source: &str, server: &str| Stub::new(source, (server, port));
    let clients = [
        (
            stub("127.1.0.7", "127.0.0.1"),
            &["sqs.example", "kms.example", "www.corp.example TXT", "nobody.corp.example", "www.there.example"][..],
        ),
        (
            stub("127.1.16.7", "127.0.0.1"),
            &["sqs.example", "kms.example +tcp", "www.there.example", "x.dead.example", "whoami.zonal TXT"],
        ),
        (stub("127.4.0.7", "127.2.0.53"), &["sqs.example", "none.there.example", "x.dead.example"]),
        (stub("127.9.0.7", "127.0.0.1"), &["sqs.example"]),
    ];
    while !stop.load(Relaxed) {
        for (client, questions) in &clients {
            for question in *questions {
                client.ask(question);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Clients that send queries until this value is dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    asking: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    pub fn start(port: u16) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        Traffic { stop, asking: Some(thread::spawn(move || traffic(port, &until))) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.asking.take().map(thread::JoinHandle::join);
    }
}

/// Prometheus with the rules; it scrapes a server each second.
pub struct Prometheus {
    pub address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts Prometheus, and waits for its first scrape.
    pub fn start(scratch: &Scratch, server: SocketAddr) -> Prometheus {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  - job_name: zonal\n    \
             static_configs: [{{targets: [\"{server}\"]}}]\n",
            tree(RULES).display()
        );
        scratch.write("prometheus.yml", config);
        let listen = format!("--web.listen-address={address}");
        let command =
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen, "--log.level=warn"];
        let mut process = Process::start(&command, scratch, "prometheus");
        wait_until("Prometheus has scraped the server", || {
            process.assert_alive();
            let up = get(address, "/api/v1/query?query=up")?;
            (up["data"]["result"][0]["value"][1] == "1").then_some(())
        });
        Prometheus { address, _process: process }
    }

    /// Changes the resources in etcd until each query of the dashboard finds data. Returns the
    /// number of queries.
    pub fn finds_everything(&self, etcd: &Single, port: u16) -> usize {
        let mut missing = dashboard();
        let (all, start) = (missing.len(), std::time::Instant::now());
        let mut generation = 1;
        while !missing.is_empty() {
            generation += 1;
            put(etcd, resources(port, &generation.to_string()));
            thread::sleep(Duration::from_millis(500));
            missing.retain(|shown| {
                let found = ask(self.address, &shown.expression);
                for label in &shown.labels {
                    let has = |found: &Value| found["metric"][label].is_string();
                    assert!(found.iter().all(has), "{}: {} has no {label}: {found:?}", shown.panel, shown.expression);
                }
                found.is_empty()
            });
            let left =
                || missing.iter().map(|shown| format!("{}: {}", shown.panel, shown.expression)).collect::<Vec<_>>();
            assert!(start.elapsed() < Duration::from_secs(120), "these find nothing:\n{}", left().join("\n"));
        }
        all
    }
}

/// The metrics count each answer by view, outcome, AZ and inbound endpoint, and each query to
/// upstream servers.
#[test]
fn counts_answers_by_outcome() {
    let scratch = Scratch::new();
    let port = free_port();
    let mut manifest = json!({});
    for (kind, id, value) in resources(port, "1") {
        manifest[kind][id] = value;
    }
    scratch.write("zones/manifest.json", manifest.to_string());
    let zone = "there.example. 300 IN SOA ns.there.example. h.there.example. 1 2 3 4 5\n\
                www.there.example. 300 IN A 192.0.2.1\n";
    let data = Arc::new(Data::read(&scratch.write("upstream.zone", zone)));
    let _upstream = Upstreams::start(port, [("127.4.0.53".parse().unwrap(), data)]);
    let server = Server::start(&scratch.path().join("zones"));
    let ask = |source: &str, entry_point: &str, questions: &[&str]| {
        let stub = Stub::new(source, (entry_point, server.port));
        questions.iter().for_each(|question| drop(stub.ask(question)));
    };
    ask("127.1.0.7", "127.0.0.1", &["sqs.example", "kms.example", "sqs.example AAAA", "nobody.corp.example"]);
    ask("127.1.16.7", "127.0.0.1", &["sqs.example", "kms.example +tcp", "www.there.example", "www.there.example"]);
    ask("127.4.0.7", "127.2.0.53", &["sqs.example", "none.there.example"]);
    ask("127.9.0.7", "127.2.0.53", &["sqs.example"]);
    let metrics = || http_get(server.admin, "/metrics").unwrap().1;
    let target = format!(r#"resolver_endpoint="out",target="127.4.0.53:{port}""#);
    let expected = [
        r#"zonal_answers_total{outcome="endpoint",rcode="NOERROR",transport="udp",view="app"} 4"#.to_string(),
        r#"zonal_answers_total{outcome="endpoint",rcode="NOERROR",transport="tcp",view="app"} 1"#.into(),
        r#"zonal_answers_total{outcome="zone",rcode="NXDOMAIN",transport="udp",view="app"} 1"#.into(),
        r#"zonal_answers_total{outcome="forward",rcode="NOERROR",transport="udp",view="app"} 2"#.into(),
        r#"zonal_answers_total{outcome="endpoint",rcode="NOERROR",transport="udp",view="shared/dc"} 1"#.into(),
        r#"zonal_answers_total{outcome="refused",rcode="REFUSED",transport="udp",view="none"} 1"#.into(),
        r#"zonal_endpoint_answers_total{az="same",view="app"} 2"#.into(),
        r#"zonal_endpoint_answers_total{az="other",view="app"} 2"#.into(),
        r#"zonal_endpoint_answers_total{az="unknown",view="shared/dc"} 1"#.into(),
        r#"zonal_inbound_answers_total{entry_point="127.2.0.53",rcode="NOERROR",resolver_endpoint="in"} 1"#.into(),
        r#"zonal_inbound_answers_total{entry_point="127.2.0.53",rcode="NXDOMAIN",resolver_endpoint="in"} 1"#.into(),
        r#"zonal_inbound_answers_total{entry_point="127.2.0.53",rcode="REFUSED",resolver_endpoint="in"} 1"#.into(),
        format!(r#"zonal_target_queries_total{{protocol="Do53",{target}}} 2"#),
        format!(r#"zonal_target_answers_total{{protocol="Do53",rcode="NOERROR",{target}}} 1"#),
        format!(r#"zonal_target_answers_total{{protocol="Do53",rcode="NXDOMAIN",{target}}} 1"#),
        format!(r#"zonal_target_timeouts_total{{protocol="Do53",{target}}} 0"#),
        format!(r#"zonal_target_response_seconds_count{{protocol="Do53",{target}}} 2"#),
        format!(r#"zonal_target_up{{protocol="Do53",{target}}} 1"#),
        format!(r#"zonal_target_in_flight{{protocol="Do53",{target}}} 0"#),
        r#"zonal_endpoint_interfaces{az="use1-az1",state="usable"} 2"#.into(),
        r#"zonal_endpoint_interfaces{az="use1-az2",state="unhealthy"} 1"#.into(),
        r#"zonal_endpoint_az_unusable{az="use1-az2",vpc_endpoint="vpce-sqs"} 1"#.into(),
        "zonal_waiting_queries 0".into(),
        "zonal_waiting_queries_limit 10000".into(),
    ];
    // Counters that change after the answer was sent may be late.
    for line in expected {
        wait_until(&line, || metrics().lines().any(|other| other == line).then_some(()));
    }
    server.wait_for_metric(&["zonal_udp_packets_total{"], 10.0);
    let batches = server.metric(&["zonal_udp_batches_total{"]);
    assert!((1.0..=10.0).contains(&batches), "{batches}");
    assert_eq!(metrics().matches("\nzonal_endpoint_answers_total{").count(), 3);
}

#[test]
fn every_dashboard_query_returns_data() {
    if !can_run(&["prometheus", "etcd"]) {
        return;
    }
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    let port = free_port(); // The port of the upstream servers.
    put(&etcd, resources(port, "1"));
    let zone = "there.example. 300 IN SOA ns.there.example. h.there.example. 1 2 3 4 5\n\
                www.there.example. 1 IN A 192.0.2.1\n";
    let data = Arc::new(Data::read(&scratch.write("upstream.zone", zone)));
    let _upstream = Upstreams::start(port, [("127.4.0.53".parse().unwrap(), data)]);
    let certificate = Certificate::until(2099);
    let (crt, key) =
        (scratch.write("tls.crt", &certificate.certificate), scratch.write("tls.key", &certificate.private_key));
    let dot = free_port();
    let source = format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint);
    let listen = format!(
        "  - {{address: \"127.0.0.1:{dot}\", protocol: DoT, tls: {{certificate: {}, \
         private_key: {}}}}}\n",
        crt.display(),
        key.display()
    );
    let server = Server::start_listening(&source, &listen, "state_directory: state\n").ready();

    let prometheus = Prometheus::start(&scratch, server.admin);
    let traffic = Traffic::start(server.port);
    prometheus.finds_everything(&etcd, port);
    let prometheus = prometheus.address;

    // Each recording rule has data, and no rule fails.
    let rules = get(prometheus, "/api/v1/rules").unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            assert!(!ask(prometheus, name).is_empty(), "{name} finds nothing");
        }
    }
    // An alert reports the server that does not exist, as soon as its `for` time allows.
    let alerts = get(prometheus, "/api/v1/alerts").unwrap();
    let alerts = alerts["data"]["alerts"].as_array().unwrap();
    let is_down = |alert: &Value| {
        alert["labels"]["alertname"] == "ZonalTargetDown" && alert["labels"]["target"] == format!("127.4.0.99:{port}")
    };
    assert!(alerts.iter().any(is_down), "{alerts:?}");
    // Another alert reports the rule without another target; a second rule of the same endpoint has
    // a target that answers.
    let left = |rule: &str, count: u32| format!("zonal_rule_targets{{resolver_rule=\"{rule}\"}} == {count}");
    assert!(!ask(prometheus, &left("dead", 0)).is_empty() && !ask(prometheus, &left("there", 1)).is_empty());
    let rules = |alert: &&Value| alert["labels"]["alertname"] == "ZonalAllTargetsDown";
    let rules: Vec<&Value> = alerts.iter().filter(rules).map(|alert| &alert["labels"]["resolver_rule"]).collect();
    assert_eq!(rules, ["dead"]);

    // The reference page lists every metric of a real server.
    let page = fs::read_to_string(tree("docs/reference/metrics.md")).unwrap();
    let (_, text) = http_get(server.admin, "/metrics").unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(page.contains(&format!("| `{name}` | {kind} |")), "{line}");
    }
    drop(traffic);
}
