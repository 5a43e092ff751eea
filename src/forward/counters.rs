//! What a scrape reads of the cache, of the queries that wait, and of the servers that are asked.

use super::{
    Forwarding,
    upstream::{State, tally::Measured},
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

/// Registers all of them, with the counters of the upstream servers.
pub(super) fn register(registry: &Registry, forwarding: &Arc<Forwarding>) {
    for counter in forwarding.upstreams.counters.all() {
        valid(registry.register(counter));
    }
    let this = forwarding.clone();
    register_read(registry, "zonal_target_up", move || targets(&this.snapshot.load_full(), &this.upstreams.measured()));
    let this = forwarding.clone();
    register_read(registry, "zonal_cache_entries", move || waiting(&this));
}

/// The cache, and the queries that wait for others.
fn waiting(forwarding: &Forwarding) -> Vec<MetricFamily> {
    let counts = forwarding.cache.counts();
    let waiting = forwarding.admission.counts();
    let gauge = |name, help, value: usize| Family::one_gauge(name, help, value as f64);
    let counter = |name, help, value: u64| Family::one_counter(name, help, value as f64);
    vec![
        gauge("zonal_cache_entries", "Entries of the cache", counts.entries),
        gauge("zonal_cache_bytes", "Memory that the entries of the cache take", counts.octets),
        gauge("zonal_cache_limit_bytes", "Memory that the entries of the cache may take", counts.budget),
        counter(
            "zonal_cache_hits_total",
            "Names that others answer for and that were answered from the cache",
            counts.hits,
        ),
        counter("zonal_cache_misses_total", "Names that others had to be asked for", counts.misses),
        counter(
            "zonal_cache_stale_answers_total",
            "Names answered with what had ended, as nobody could be asked",
            counts.stale,
        ),
        counter("zonal_cache_evictions_total", "Entries that gave way to others", counts.evictions),
        counter("zonal_cache_prefetches_total", "Entries asked for anew before they ended", counts.prefetches),
        gauge("zonal_waiting_queries", "Queries that wait for other servers", waiting.waiting),
        gauge(
            "zonal_waiting_queries_limit",
            "Queries that may wait: half of them by one rule, a quarter from one VPC, an eighth from one client",
            waiting.most,
        ),
        counter(
            "zonal_waiting_queries_refused_total",
            "Queries that failed because too many others had waited for less than 0.2 seconds",
            waiting.refused,
        ),
        counter(
            "zonal_waiting_queries_replaced_total",
            "Queries that failed after at least 0.2 seconds because newer ones took their place",
            waiting.replaced,
        ),
    ]
}

/// The servers that the manifest and the configuration name, as far as they are in use.
fn targets(snapshot: &Snapshot, measured: &[Measured]) -> Vec<MetricFamily> {
    let mut queries = Family::counter(
        "zonal_target_queries_total",
        "Queries sent to a server, probes among them. resolver_endpoint: the outbound endpoint, - where it is asked from the \
         node's own address. CloudWatch: OutboundQueryVolume, RequestQueries",
    );
    let mut answers = Family::counter(
        "zonal_target_answers_total",
        "Answers of a server. CloudWatch, by rcode: ServFailQueries, NxDomainQueries, RefusedQueries, FormErrorQueries",
    );
    let mut timeouts = Family::counter(
        "zonal_target_timeouts_total",
        "Queries to a server without an answer in time. CloudWatch: TimeoutQueries",
    );
    let mut response = Family::histogram(
        "zonal_target_response_seconds",
        "How long the answers of a server took. CloudWatch: P90ResponseTime is the quantile 0.9, in microseconds",
    );
    let mut rtt = Family::gauge("zonal_target_rtt_seconds", "A server's smoothed round trip time");
    let mut up =
        Family::gauge("zonal_target_up", "1 while a server answers, 0 while others are asked first as it does not");
    let mut in_flight = Family::gauge(
        "zonal_target_in_flight",
        "Queries that are on their way to a server; at most two for a question that waits",
    );
    let mut rules = Family::gauge(
        "zonal_rule_targets",
        "Servers of a rule that are not known to be down; at 0 what is asked by it fails. resolver_rule: - for the \
         internet resolver",
    );
    let internet = snapshot.node.internet.as_ref().map(|internet| &internet.servers);
    if !measured.is_empty() || matches!(internet, Some(routes::Servers::Targets { targets, .. }) if targets.is_empty())
    {
        let states: HashMap<_, _> =
            measured.iter().map(|server| ((&server.target, &server.sources), &server.state)).collect();
        // Of each rule: whether something is known of any server, and how many may be asked.
        let mut of_rules: BTreeMap<&str, (bool, u32)> = BTreeMap::new();
        let mut count = |rule, target: &routes::Target, sources: &Vec<IpAddr>| {
            let (is_known, usable) = of_rules.entry(rule).or_default();
            let state = states.get(&(target, sources));
            *is_known |= !matches!(state, None | Some(State::Unknown));
            *usable += u32::from(!matches!(state, Some(State::Down(_))));
        };
        let mut named: HashMap<_, &str> = HashMap::new();
        if let Some(routes::Servers::Targets { targets, sources, .. }) = internet {
            // Without any, as when resolv.conf is gone, it fails for sure.
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
        for server in measured {
            // Others are such that a referral has led to: their names are not ours to count by.
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
                State::Unknown => {}
                State::Up => up.set(&labels, 1.0),
                State::Down(_) => up.set(&labels, 0.0),
            }
            for (place, &count) in server.counts.answers.iter().enumerate().filter(|(_, count)| **count > 0) {
                let [protocol, endpoint, target] = labels;
                answers.set(&[protocol, ("rcode", rcode::label_at(place)), endpoint, target], count as f64);
            }
        }
    }
    [queries, answers, timeouts, response, rtt, up, in_flight, rules].map(Family::done).into()
}
