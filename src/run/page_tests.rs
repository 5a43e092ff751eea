//! The metrics page of a whole server.

use super::*;
use crate::{
    answer::{AnswerKind, Answered, Locality, Transport, firewall::FirewallOutcome, known::Question},
    firewall_lists::FirewallLists,
    listen::{
        self,
        tests::{core_of, limits, page},
    },
    manifest::Loaded,
    snapshot::{
        Node, Snapshot, compile,
        routes::{Route, named_targets},
    },
    wire::query::LookupName,
};
use prometheus::proto::{MetricFamily, MetricType};
use std::{net::UdpSocket, thread};

/// A snapshot with this many VPCs, each with an address of the inbound endpoint, and with a rule.
fn snapshot(vpcs: usize, port: u16, previous: Option<&Snapshot>) -> Snapshot {
    let vpc =
        |n: usize| (format!("vpc-{n}"), serde_json::json!({"region": "r", "cidr_blocks": [format!("10.{n}.0.0/16")]}));
    let entry_point = |n: usize| serde_json::json!({"ip": format!("10.0.0.{}", n + 1)});
    let interface =
        |az: &str, health: &str| serde_json::json!({"availability_zone_id": az, "ipv4": "10.0.0.9", "health": health});
    let manifest = serde_json::json!({
        "vpcs": (0..vpcs).map(vpc).collect::<serde_json::Map<_, _>>(),
        "health_checks": {
            "check": {"type": "EXTERNAL", "stale_after": 60, "when_stale": "unhealthy"},
            "tls": {"type": "HTTPS", "ip_address": "10.0.0.9", "fully_qualified_domain_name": "tls.example",
                    "verify_certificate": true},
        },
        "vpc_endpoint_services": {"s": {"owner_id": "amazon", "region": "r", "dns_name": "s.example"}},
        "vpc_endpoints": {"vpce-1": {"vpc_endpoint_type": "Interface", "service_name": "s", "vpc_id": "vpc-0",
            "state": "Available", "network_interfaces": [interface("az1", "healthy"), interface("az2", "unhealthy")]}},
        "resolver_endpoints": {
            "in": {"direction": "INBOUND", "vpc_id": "vpc-0", "ip_addresses": (0..vpcs).map(entry_point).collect::<Vec<_>>()},
            "out": {"direction": "OUTBOUND", "vpc_id": "vpc-0", "ip_addresses": [{"ip": "127.0.0.1"}]},
        },
        "resolver_rules": {"rule": {"domain_name": "example", "rule_type": "FORWARD", "vpc_ids": ["vpc-0"],
            "resolver_endpoint_id": "out", "target_ips": [{"ip": "127.0.0.1", "port": port}]}},
        "firewall_domain_lists": {"list": {"domains": ["bad.example"]}},
        "firewall_rule_groups": {"group": {"rules": [
            {"name": "r", "priority": 1, "action": "BLOCK", "firewall_domain_list_id": "list"}],
            "vpc_associations": [{"vpc_id": "vpc-0", "priority": 1}]}},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    compile(&loaded, &Arc::new(Node::default()), previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn core(snapshot: Snapshot) -> Arc<Core> {
    core_of(snapshot, &limits())
}

fn answered(view: u32, entry_point: u32) -> Answered {
    let (view, entry_point, locality) = (Some(view), Some(entry_point), Some(Locality::SameAz));
    Answered { view, entry_point, locality, kind: AnswerKind::Endpoint, ..listen::tests::answered(12, 0) }
}

/// The metrics of a server that has every metric.
fn everything() -> Metrics {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let core = core(snapshot(1, port, None));
    let served = core.snapshot.load_full();
    for target in served.health_targets.iter() {
        target.verdict.set(false);
        target.verdict.report().certificate_expiry = Some(1);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, socket) = (socket.local_addr().unwrap(), Arc::new(Socket::from(socket)));
    let mut writer = core.counters.workers.add_worker(Transport::Udp, Some((address, 0, &socket)));
    writer.prepare(&served);
    let mut with_match = answered(0, 0);
    assert!(with_match.firewall.add(0, FirewallOutcome::Block));
    writer.answered(&with_match);
    let status = Arc::new(Status::default());
    status.update_source(|source| source.connected());
    let certificates = Certificates::default();
    certificates.counters.expiry.with_label_values(&["tls.crt"]).set(1);
    certificates.counters.failed.with_label_values(&["tls.crt"]).set(0);
    core.query_log.entries.with_label_values(&["rqlc", "written"]).inc();
    core.query_log.failed.with_label_values(&["rqlc"]).set(0);
    let metrics = metrics(&core, &Counters::new(), &status, &certificates);
    admin::register_readiness(&metrics.registry, || true);
    health::counters::Counters::default().register(&metrics.registry, &core.snapshot);
    let firewall_lists = FirewallLists::new(Default::default(), core.snapshot.clone()).unwrap();
    firewall_lists.confirmed("list", 0);
    firewall_lists.register(&metrics.registry);
    thread::spawn(move || {
        let mut message = [0; 512];
        let (len, from) = server.recv_from(&mut message).unwrap();
        message[2] |= 0x80;
        server.send_to(&message[..len], from).unwrap();
    });
    let rule = served.manifest.resolver_rules.iter().next().unwrap();
    let route = crate::snapshot::routes::Rule::new(&served.manifest, rule.0, rule.1).route;
    assert_eq!(named_targets(&served.manifest).count(), 1);
    listen::tests::runtime().block_on(ask(&core, &route));
    // The metrics of a thread exist as long as its socket.
    std::mem::forget((writer, socket));
    metrics
}

async fn ask(core: &Core, route: &Route) {
    let name = LookupName::new(b"\x01a\x07example\0").unwrap();
    let question = Question { name: &name, qtype: 1, dnssec_ok: false, checking_disabled: false };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    assert!(core.forwarding.upstreams.ask(route, &question, deadline, |_, _| Ok(())).await.is_ok());
}

/// The table of the reference page equals a scrape.
#[test]
fn the_reference_page_has_every_metric() {
    let metrics = everything();
    let kind = |kind| match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        other => panic!("{other:?}"),
    };
    let row = |family: &MetricFamily| {
        let labels = family.get_metric()[0].get_label().iter().map(|label| format!("`{}`", label.name()));
        let labels = labels.collect::<Vec<_>>().join(", ");
        format!("| `{}` | {} | {labels} | {} |", family.name(), kind(family.get_field_type()), family.help())
    };
    let reported: Vec<String> = metrics.registry.gather().iter().map(row).collect();
    // The metrics of `zonal sync aws` are those of another process.
    let page = include_str!("../../docs/reference/metrics.md").split("## Metrics of").next().unwrap();
    let listed: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| `zonal_") || line.starts_with("| `process_")).collect();
    assert!(reported == listed, "the table in docs/reference/metrics.md has to be:\n\n{}\n", reported.join("\n"));
    assert!(reported.len() > 70, "{}", reported.len());
}

/// Metrics of a target have its outbound endpoint as a label.
#[test]
fn metrics_of_targets_have_their_endpoint() {
    let text = everything().text();
    let target = text.lines().find(|line| line.starts_with("zonal_target_queries_total{")).unwrap();
    assert!(target.contains(r#"protocol="Do53",resolver_endpoint="out",target="127.0.0.1:"#), "{target}");
    for (line, value) in [
        ("zonal_target_up{", "1"),
        ("zonal_target_response_seconds_count{", "1"),
        (r#"zonal_target_answers_total{protocol="Do53",rcode="NOERROR",resolver_endpoint="out""#, "1"),
        (r#"zonal_inbound_answers_total{entry_point="10.0.0.1",rcode="NOERROR",resolver_endpoint="in"}"#, "1"),
        (r#"zonal_endpoint_az_unusable{az="az2",vpc_endpoint="vpce-1"}"#, "1"),
        (r#"zonal_endpoint_interfaces{az="az1",state="usable"}"#, "1"),
        (r#"zonal_endpoint_interfaces{az="az2",state="unhealthy"}"#, "1"),
        ("zonal_endpoints_failing_open", "0"),
        (r#"zonal_rule_targets{resolver_rule="rule"}"#, "1"),
        (r#"zonal_resources{kind="resolver_rules"}"#, "1"),
        (r#"zonal_resources{kind="private_hosted_zones"}"#, "0"),
        (r#"zonal_firewall_matches_total{group="group",list="list",outcome="block",rule="r"}"#, "1"),
    ] {
        let found = text.lines().find(|other| other.starts_with(line)).unwrap_or_else(|| panic!("{line} in\n{text}"));
        assert!(found.ends_with(&format!(" {value}")), "{found}");
    }
}

/// An internet resolver without servers counts as down.
#[test]
fn an_internet_resolver_without_servers_counts_as_down() {
    let core = core(snapshot(1, 53, None));
    let reported = |core: &Core| page(core).contains("zonal_rule_targets{resolver_rule=\"-\"} 0\n");
    assert!(!reported(&core), "no internet resolver is configured");
    let served = core.snapshot.load_full();
    let (id, rule) = served.manifest.resolver_rules.iter().next().unwrap();
    let mut none = (*crate::snapshot::routes::Rule::new(&served.manifest, id, rule).route).clone();
    none.servers =
        crate::snapshot::routes::Servers::Targets { targets: Vec::new(), sources: Vec::new(), trust_ad: false };
    let node = Node { internet: Some(Arc::new(none)), ..Node::default() };
    core.snapshot.store(Arc::new(served.with_node(Arc::new(node))));
    assert!(reported(&core));
}

/// Series end when their subject leaves the manifest, and come back with it.
#[test]
fn series_end_with_their_subject() {
    let core = core(snapshot(2, 53, None));
    let mut writer = core.counters.workers.add_worker(Transport::Udp, None);
    let slots = |vpc: &str| {
        let served = core.snapshot.load();
        let view = served.view_labels().iter().position(|label| **label == *vpc).unwrap();
        view as u32
    };
    let (first, second) = (slots("vpc-0"), slots("vpc-1"));
    let reported = |core: &Core| {
        let text = page(core);
        let has = |what: &str| text.lines().filter(|line| !line.starts_with('#') && line.contains(what)).count();
        [
            has(r#"view="vpc-0""#),
            has(r#"view="vpc-1""#),
            has(r#"entry_point="10.0.0.1""#),
            has(r#"entry_point="10.0.0.2""#),
        ]
    };
    writer.prepare(&core.snapshot.load());
    writer.answered(&answered(first, 0));
    writer.answered(&answered(second, 1));
    assert_eq!(reported(&core), [2, 2, 1, 1]);
    for (vpcs, expected) in [(1, [2, 0, 1, 0]), (2, [2, 2, 1, 1])] {
        let previous = core.snapshot.load_full();
        core.snapshot.store(Arc::new(snapshot(vpcs, 53, Some(&previous))));
        assert_eq!(reported(&core), expected);
    }
    assert_eq!((slots("vpc-0"), slots("vpc-1")), (first, second));
}
