//! Makers of metrics: counters and gauges with labels, and families of values that are read at a scrape.
//!
//! Each room owns its counters and registers them at a [`Registry`]. `metrics` makes the page from the registry. Names and
//! labels are constants, so a metric that cannot be made or registered is a mistake in the code. The tests make all of them.

use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::{Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

/// The metric in a result.
///
/// # Panics
///
/// If a name or label is invalid. All of them are constants.
pub fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a valid metric")
}

/// A gauge without labels.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    valid(IntGauge::new(name, help))
}

/// A gauge for each value of a label. The gauges of `values` exist from the start.
pub fn gauges(name: &str, help: &str, label: &str, values: &[&str]) -> IntGaugeVec {
    let gauges = valid(IntGaugeVec::new(Opts::new(name, help), &[label]));
    values.iter().for_each(|value| drop(gauges.with_label_values(&[*value])));
    gauges
}

/// A counter for each combination of the labels' values. All counters exist from the start, with 0: Prometheus cannot see the
/// first increase of a counter that appears with it.
pub fn counters(name: &str, help: &str, labels: &[&str], values: &[&[&'static str]]) -> IntCounterVec {
    let counters = valid(IntCounterVec::new(Opts::new(name, help), labels));
    let mut combinations: Vec<Vec<&'static str>> = vec![Vec::new()];
    for values in values {
        let with = |before: &Vec<&'static str>| values.iter().map(|value| [&before[..], &[*value]].concat()).collect();
        combinations = combinations.iter().flat_map::<Vec<_>, _>(with).collect();
    }
    combinations.iter().for_each(|values| drop(counters.with_label_values(values)));
    counters
}

/// Registers one metric, or one collector of several.
pub fn register(registry: &Registry, collector: impl Collector + 'static) {
    valid(registry.register(Box::new(collector)));
}

/// Registers families that `read` makes at each scrape. `name` is the name of one of them.
pub fn register_read(registry: &Registry, name: &str, read: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static) {
    register(registry, ReadAtScrape { desc: desc(name), read });
}

/// The description by which a registry distinguishes collectors.
pub fn desc(name: &str) -> Desc {
    valid(Desc::new(name.into(), name.into(), Vec::new(), Default::default()))
}

/// A collector whose families a function makes at each scrape.
struct ReadAtScrape<T> {
    desc: Desc,
    read: T,
}

impl<T: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for ReadAtScrape<T> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.read)()
    }
}

/// A metric family that is made at a scrape. It takes thousands of values without a look-up for each.
pub struct Family(MetricFamily);

/// Labels with their values, in the order of their names.
pub type Labels<'a> = [(&'a str, &'a str)];

impl Family {
    fn new(kind: MetricType, name: &str, help: &str) -> Family {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        Family(family)
    }

    /// A family of counters.
    pub fn counter(name: &str, help: &str) -> Family {
        Family::new(MetricType::COUNTER, name, help)
    }

    /// A family of gauges.
    pub fn gauge(name: &str, help: &str) -> Family {
        Family::new(MetricType::GAUGE, name, help)
    }

    /// A family of histograms.
    pub fn histogram(name: &str, help: &str) -> Family {
        Family::new(MetricType::HISTOGRAM, name, help)
    }

    /// Sets the value for these labels.
    pub fn set(&mut self, labels: &Labels, value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        match self.0.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.0.mut_metric().push(metric);
    }

    /// Sets the histogram for these labels.
    pub fn set_histogram(&mut self, labels: &Labels, histogram: Histogram) {
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }

    /// A family with one counter.
    pub fn one_counter(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut family = Family::counter(name, help);
        family.set(&[], value);
        family.0
    }

    /// A family with one gauge.
    pub fn one_gauge(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut family = Family::gauge(name, help);
        family.set(&[], value);
        family.0
    }

    /// The finished family.
    pub fn done(self) -> MetricFamily {
        self.0
    }
}

fn pairs(labels: &Labels) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    labels.iter().map(pair).collect()
}
