//! The metrics of the cache, of the queries that wait, and of the upstream servers.

use super::{
    Forwarding,
    upstream::{ServerState, server_counters::ServerMetrics},
};
use crate::{
    instruments::{Family, register_read, valid},
    snapshot::{Snapshot, routes},
    wire::codes::rcode,
};
use prometheus::{Registry, proto::MetricFamily};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// Registers all metrics of this room.
pub(super) fn register(registry: &Registry, forwarding: &Arc<Forwarding>) {
    for counter in forwarding.upstreams.counters.all() {
        valid(registry.register(counter));
    }
    let this = forwarding.clone();
    register_read(registry, "zonal_target_up", move || targets(&this.snapshot.load_full(), &this.upstreams.metrics()));
    let this = forwarding.clone();
    register_read(registry, "zonal_cache_entries", move || waiting(&this));
}

/// The metrics of the cache, and of the queries that wait for other servers.
fn waiting(forwarding: &Forwarding) -> Vec<MetricFamily> {
    let counts = forwarding.cache.counts();
    let waiting = forwarding.admission.counts();
    let gauge = |name, help, value: usize| Family::one_gauge(name, help, value as f64);
    let counter = |name, help, value: u64| Family::one_counter(name, help, value as f64);
    vec![
        gauge("zonal_cache_entries", "Entries of the cache", counts.entries),
        gauge("zonal_cache_bytes", "Memory of the cache entries, in octets", counts.octets),
        gauge("zonal_cache_limit_bytes", "Maximum memory of the cache entries, in octets", counts.budget),
        counter("zonal_cache_hits_total", "Questions answered from the cache", counts.hits),
        counter("zonal_cache_misses_total", "Questions sent to other servers", counts.misses),
        counter(
            "zonal_cache_stale_answers_total",
            "Questions answered with a stale answer, as no server answered",
            counts.stale,
        ),
        counter("zonal_cache_evictions_total", "Entries removed to make room for others", counts.evictions),
        counter("zonal_cache_prefetches_total", "Entries refreshed before they expired", counts.prefetches),
        gauge("zonal_waiting_queries", "Queries that wait for other servers", waiting.waiting),
        gauge(
            "zonal_waiting_queries_limit",
            "Maximum number of waiting queries: half of them by one rule, a quarter from one VPC, an eighth from one client",
            waiting.max_waiting,
        ),
        counter(
            "zonal_waiting_queries_refused_total",
            "Queries that failed because too many other queries were waiting, each for less than 0.2 seconds",
            waiting.refused,
        ),
        counter(
            "zonal_waiting_queries_replaced_total",
            "Queries that failed after a wait of at least 0.2 seconds because newer queries replaced them",
            waiting.replaced,
        ),
    ]
}

/// The metrics of the servers in use that the manifest or the configuration names.
fn targets(snapshot: &Snapshot, servers: &[ServerMetrics]) -> Vec<MetricFamily> {
    let mut queries = Family::counter(
        "zonal_target_queries_total",
        "Queries sent to a server, with probes. resolver_endpoint: the outbound endpoint, or - if queries come from the \
         node's own address. CloudWatch: OutboundQueryVolume, RequestQueries",
    );
    let mut answers = Family::counter(
        "zonal_target_answers_total",
        "Responses of a server. CloudWatch, by rcode: ServFailQueries, NxDomainQueries, RefusedQueries, FormErrorQueries",
    );
    let mut timeouts = Family::counter(
        "zonal_target_timeouts_total",
        "Queries to a server without a response in time. CloudWatch: TimeoutQueries",
    );
    let mut response = Family::histogram(
        "zonal_target_response_seconds",
        "Response time of a server, in seconds. CloudWatch: P90ResponseTime is the quantile 0.9, in microseconds",
    );
    let mut rtt = Family::gauge("zonal_target_rtt_seconds", "Smoothed round trip time of a server, in seconds");
    let mut up =
        Family::gauge("zonal_target_up", "1 if a server answers, 0 if it does not and other servers are asked first");
    let mut in_flight =
        Family::gauge("zonal_target_in_flight", "Queries in flight to a server; at most two for each question");
    let mut rules = Family::gauge(
        "zonal_rule_targets",
        "Servers of a rule that are not known to be down; at 0, its questions fail. resolver_rule: - for the internet \
         resolver",
    );
    let internet = snapshot.node.internet.as_ref().map(|internet| &internet.servers);
    if !servers.is_empty() || matches!(internet, Some(routes::Servers::Targets { targets, .. }) if targets.is_empty()) {
        let states: HashMap<_, _> =
            servers.iter().map(|server| ((&server.target, &server.sources), &server.state)).collect();
        // For each rule: whether the state of any server is known, and the number of servers that
        // are not down.
        let mut of_rules: BTreeMap<&str, (bool, u32)> = BTreeMap::new();
        let mut count = |rule, target: &routes::Target, sources: &Vec<IpAddr>| {
            let (is_known, usable) = of_rules.entry(rule).or_default();
            let state = states.get(&(target, sources));
            *is_known |= !matches!(state, None | Some(ServerState::Unknown));
            *usable += u32::from(!matches!(state, Some(ServerState::Down(_))));
        };
        let mut named: HashMap<_, &str> = HashMap::new();
        if let Some(routes::Servers::Targets { targets, sources, .. }) = internet {
            // Without servers, as when resolv.conf is missing, its questions fail.
            if targets.is_empty() {
                rules.set(&[("resolver_rule", "-")], 0.0);
            }
            targets.iter().for_each(|target| count("-", target, sources));
            named.extend(targets.iter().map(|target| ((target.clone(), sources.clone()), "-")));
        }
        for (rule, target, sources, endpoint) in routes::named_targets(&snapshot.manifest) {
            count(rule, &target, &sources);
            named.insert((target, sources), endpoint.map_or("-", |id| id));
        }
        for (rule, (_, usable)) in of_rules.iter().filter(|(_, (is_known, _))| *is_known) {
            rules.set(&[("resolver_rule", rule)], (*usable).into());
        }
        for server in servers {
            // Other servers were found by referrals: their addresses are not labels.
            let Some(endpoint) = named.get(&(server.target.clone(), server.sources.clone())) else { continue };
            let routes::Target { ip, port, protocol, server_name } = &server.target;
            let (address, protocol) = (std::net::SocketAddr::new(*ip, *port), protocol.to_string());
            let target = server_name.as_ref().map_or(address.to_string(), |name| format!("{address}#{name}"));
            let labels = [("protocol", &*protocol), ("resolver_endpoint", endpoint), ("target", &target)];
            queries.set(&labels, server.counts.queries as f64);
            timeouts.set(&labels, server.counts.timeouts as f64);
            response.set_histogram(&labels, server.counts.response.clone());
            in_flight.set(&labels, server.in_flight as f64);
            if let Some(time) = server.rtt {
                rtt.set(&labels, time.as_secs_f64());
            }
            match server.state {
                ServerState::Unknown => {}
                ServerState::Up => up.set(&labels, 1.0),
                ServerState::Down(_) => up.set(&labels, 0.0),
            }
            for (index, &count) in server.counts.answers.iter().enumerate().filter(|(_, count)| **count > 0) {
                let [protocol, endpoint, target] = labels;
                answers.set(&[protocol, ("rcode", rcode::label_at(index)), endpoint, target], count as f64);
            }
        }
    }
    [queries, answers, timeouts, response, rtt, up, in_flight, rules].map(Family::done).into()
}
