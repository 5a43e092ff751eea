//! What is read off at a scrape: what is served, the cache, those who are asked, the control plane, the process.

use super::{Family, desc, lock, workers::word_of};
use crate::{
    clock::{now, seconds},
    control_plane::status::Status,
    forward::{
        Forwarding,
        upstream::{State, tally::Measured},
    },
    log,
    manifest::Health,
    snapshot::published::Published,
    snapshot::{Snapshot, endpoints, routes},
};
use procfs::process::Process;
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Mutex,
    time::{Instant, SystemTime},
};

/// Something that tells what it is when it is asked.
pub struct Watched<T> {
    desc: Desc,
    tell: T,
}

impl<T: Fn() -> Vec<MetricFamily>> Watched<T> {
    /// Tells what the function says. `name` is that of one of the metrics.
    pub fn new(name: &str, tell: T) -> Watched<T> {
        Watched { desc: desc(name), tell }
    }
}

impl<T: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for Watched<T> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.tell)()
    }
}

/// What is served, and since when.
pub fn served(snapshot: &Published, published_at: &Mutex<Instant>) -> Vec<MetricFamily> {
    let snapshot = snapshot.load_full();
    let age = lock(published_at).elapsed().as_secs_f64();
    let mut all = vec![
        Family::one_gauge("zonal_generation", "Generation of what is served", snapshot.generation as f64),
        Family::one_gauge("zonal_snapshot_age_seconds", "How long that generation has been served", age),
        Family::one_gauge(
            "zonal_digest",
            "The first 48 bits of the digest of what is served, as a number: equal on nodes that serve the same",
            number_of(&snapshot.digest),
        ),
        Family::one_gauge("zonal_views", "Views that there are", snapshot.views.iter().count() as f64),
    ];
    let mut resources = Family::gauge("zonal_resources", "Resources that are served. kind: as in the manifest");
    for (kind, count) in snapshot.manifest.counts() {
        resources.set(&[("kind", kind)], count as f64);
    }
    all.push(resources.done());
    all.extend(interfaces(&snapshot, now()));
    all
}

/// As much of a digest as a number of Prometheus holds to the last bit.
fn number_of(digest: &[u8; 32]) -> f64 {
    digest[..6].iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)) as f64
}

/// Whether clients may be sent here.
pub fn readiness(is_ready: bool) -> Vec<MetricFamily> {
    vec![Family::one_gauge("zonal_ready", "1 while the node is ready, as /ready says", f64::from(u8::from(is_ready)))]
}

/// The interfaces of VPC endpoints, by AZ.
fn interfaces(snapshot: &Snapshot, now: i64) -> [MetricFamily; 3] {
    let mut counts: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    let mut unusable = Family::gauge(
        "zonal_endpoint_az_unusable",
        "1 for each VPC endpoint and AZ in which it has interfaces, but none that is usable: clients there are sent elsewhere",
    );
    let mut open = 0;
    for endpoint in snapshot.endpoints.iter().filter(|endpoint| endpoints::has_names(&endpoint.source)) {
        let mut of_azs: BTreeMap<&str, bool> = BTreeMap::new();
        for interface in &endpoint.interfaces {
            let az = snapshot.azs.id(interface.az);
            let is_usable = interface.is_usable(now);
            let state = match interface.source.health {
                _ if is_usable => 0,
                Health::Healthy => 1,
                Health::Unhealthy => 2,
            };
            counts.entry(az).or_default()[state] += 1;
            *of_azs.entry(az).or_default() |= is_usable;
        }
        open += u32::from(!of_azs.is_empty() && of_azs.values().all(|is_usable| !is_usable));
        for (az, _) in of_azs.iter().filter(|(_, is_usable)| !**is_usable) {
            unusable.set(&[("az", az), ("vpc_endpoint", &endpoint.id)], 1.0);
        }
    }
    let mut all = Family::gauge(
        "zonal_endpoint_interfaces",
        "Network interfaces of VPC endpoints that have names. state: usable, shifted (a zonal shift leads away), unhealthy. \
         CloudWatch has the like for Resolver endpoints: EndpointHealthyENICount, EndpointUnhealthyENICount",
    );
    for (az, counts) in &counts {
        for (state, count) in ["usable", "shifted", "unhealthy"].iter().zip(counts) {
            all.set(&[("az", az), ("state", state)], (*count).into());
        }
    }
    let open = Family::one_gauge(
        "zonal_endpoints_failing_open",
        "VPC endpoints without any usable interface: all of them are answered",
        open.into(),
    );
    [all.done(), unusable.done(), open]
}

/// The cache, and the queries that wait for others.
pub fn forwarding(forwarding: &Forwarding) -> Vec<MetricFamily> {
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
pub fn targets(snapshot: &Snapshot, measured: &[Measured]) -> Vec<MetricFamily> {
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
        if let Some(routes::Servers::Targets { targets, sources }) = internet {
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
                answers.set(&[protocol, ("rcode", word_of(place)), endpoint, target], count as f64);
            }
        }
    }
    [queries, answers, timeouts, response, rtt, up, in_flight, rules].map(Family::done).into()
}

/// What became of the process's own log.
pub fn log() -> Vec<MetricFamily> {
    let (name, help) = ("zonal_log_lines_lost_total", "Lines of the log that standard error did not take in time");
    vec![Family::one_counter(name, help, log::lost() as f64)]
}

/// What the control plane's status says.
pub fn control_plane(status: &Status) -> Vec<MetricFamily> {
    let (is_stale, set_aside, source, revision, held) = {
        let state = status.state();
        (
            state.is_stale,
            state.set_aside.len() + state.strangers.len(),
            state.source.clone(),
            state.kept.position.revision,
            state.kept.held.len(),
        )
    };
    let gauge = |name, help, value: u64| Family::one_gauge(name, help, value as f64);
    let mut all = vec![
        gauge(
            "zonal_stale",
            "1 while what is served is what was kept of an earlier run, and the source has not been heard of",
            is_stale.into(),
        ),
        gauge("zonal_resources_set_aside", "Resources that are not served as they were delivered", set_aside as u64),
        gauge(
            "zonal_deletions_held",
            "Resources that the source has deleted and that are still served, as too many are gone at once",
            held as u64,
        ),
        gauge("zonal_source_revision", "The revision of the source that is served", revision),
    ];
    if let Some(source) = source {
        let is_connected = source.is_connected.into();
        all.push(gauge(
            "zonal_source_connected",
            "1 while the source, where it is elsewhere, can be reached",
            is_connected,
        ));
        if let Some(contact) = source.last_contact {
            let age = now().saturating_sub(contact).max(0) as u64;
            all.push(gauge("zonal_source_contact_age_seconds", "How long ago the source was last heard of", age));
        }
    }
    all
}

/// The process, and what its threads do. What the system does not tell is left out.
pub fn process(start: SystemTime) -> Vec<MetricFamily> {
    let name = "process_start_time_seconds";
    let mut all = vec![Family::one_gauge(name, "When it started, in seconds since 1970", seconds(start) as f64)];
    all.extend(tell_process().unwrap_or_default());
    all
}

fn tell_process() -> procfs::ProcResult<Vec<MetricFamily>> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let files = process.fd_count().unwrap_or_default();
    let most_files = process.limits().map(|limits| limits.max_open_files.soft_limit);
    let mut threads = Family::counter(
        "zonal_thread_cpu_seconds_total",
        "Processor time of threads, by their name: udp-0 and so on take packets, tcp has connections and what waits for \
         others, control-plane loads and compiles, admin is this page",
    );
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for task in process.tasks()?.flatten() {
        // A thread can end just now.
        if let Ok(stat) = task.stat() {
            *times.entry(stat.comm).or_default() += stat.utime + stat.stime;
        }
    }
    for (name, time) in &times {
        threads.set(&[("thread", name)], *time as f64 / ticks);
    }
    let mut all = vec![
        Family::one_counter(
            "process_cpu_seconds_total",
            "Processor time, in seconds",
            (stat.utime + stat.stime) as f64 / ticks,
        ),
        Family::one_gauge("process_resident_memory_bytes", "Resident memory", (stat.rss * procfs::page_size()) as f64),
        Family::one_gauge("process_virtual_memory_bytes", "Virtual memory", stat.vsize as f64),
        Family::one_gauge("process_threads", "Threads", stat.num_threads as f64),
        Family::one_gauge("process_open_fds", "Open files and sockets", files as f64),
        threads.done(),
    ];
    if let Ok(procfs::process::LimitValue::Value(most)) = most_files {
        all.push(Family::one_gauge("process_max_fds", "Files and sockets that may be open", most as f64));
    }
    Ok(all)
}
