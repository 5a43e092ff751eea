//! The page of metrics: what the registry gathers, in Prometheus' text format. `docs/reference/metrics.md` lists all of them.
//!
//! Each room counts for itself and registers its counters. The page adds what is known of the process. Labels are words of the
//! program, and what the manifest and the configuration name: nothing that comes with a query.

use crate::{
    clock::seconds,
    instruments::{Family, gauges, register, register_read},
    log,
};
use procfs::process::Process;
use prometheus::{Registry, TextEncoder, proto::MetricFamily};
use std::{collections::BTreeMap, time::SystemTime};

/// All metrics of the server.
pub struct Metrics {
    /// Where the rooms register their counters.
    pub registry: Registry,
}

impl Metrics {
    /// The page with the metrics of the process alone.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let build = gauges("zonal_build_info", "Always 1", "version", &[]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        register(&registry, build);
        let start = SystemTime::now();
        register_read(&registry, "process_start_time_seconds", move || process(start));
        register_read(&registry, "zonal_log_lines_lost_total", lost_log_lines);
        Metrics { registry }
    }

    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics not encoded");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// The lines of the process's own log that were lost.
fn lost_log_lines() -> Vec<MetricFamily> {
    let (name, help) = ("zonal_log_lines_lost_total", "Lines of the log that standard error did not take in time");
    vec![Family::one_counter(name, help, log::lost() as f64)]
}

/// The process, and what its threads do. What the system does not tell is left out.
fn process(start: SystemTime) -> Vec<MetricFamily> {
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
