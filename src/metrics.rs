//! The metrics page, in Prometheus' text format. `docs/reference/metrics.md` lists all metrics.
//!
//! Each room has its own counters and registers them. This module adds the metrics of the process. Labels are constants, or names
//! of the manifest and the configuration. Nothing that a client sends becomes a label.

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
    /// The registry of all counters.
    pub registry: Registry,
}

impl Metrics {
    /// A page with the metrics of the process only.
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

/// The number of dropped log lines.
fn lost_log_lines() -> Vec<MetricFamily> {
    let (name, help) =
        ("zonal_log_lines_lost_total", "Log lines that zonal dropped because standard error was too slow");
    vec![Family::one_counter(name, help, log::lost() as f64)]
}

/// The metrics of the process and its threads. Leaves out values that the system does not provide.
fn process(start: SystemTime) -> Vec<MetricFamily> {
    let name = "process_start_time_seconds";
    let mut all =
        vec![Family::one_gauge(name, "Start time of the process, in seconds since 1970", seconds(start) as f64)];
    all.extend(read_process().unwrap_or_default());
    all
}

fn read_process() -> procfs::ProcResult<Vec<MetricFamily>> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let files = process.fd_count().unwrap_or_default();
    let max_files = process.limits().map(|limits| limits.max_open_files.soft_limit);
    let mut threads = Family::counter(
        "zonal_thread_cpu_seconds_total",
        "Processor time of threads. thread: udp-0 and so on (UDP queries), tcp (connections and forwarded queries), control-plane \
         (changes of the manifest), admin (the admin API), and others",
    );
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for task in process.tasks()?.flatten() {
        // A thread may have ended meanwhile.
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
            "Processor time of the process, in seconds",
            (stat.utime + stat.stime) as f64 / ticks,
        ),
        Family::one_gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process, in bytes",
            (stat.rss * procfs::page_size()) as f64,
        ),
        Family::one_gauge("process_virtual_memory_bytes", "Virtual memory of the process, in bytes", stat.vsize as f64),
        Family::one_gauge("process_threads", "Number of threads", stat.num_threads as f64),
        Family::one_gauge("process_open_fds", "Number of open files and sockets", files as f64),
        threads.done(),
    ];
    if let Ok(procfs::process::LimitValue::Value(max)) = max_files {
        all.push(Family::one_gauge("process_max_fds", "Maximum number of open files and sockets", max as f64));
    }
    Ok(all)
}
