//! Metrics as they are exported: a name, what it means, and a value for each set of labels.

use prometheus::proto::{Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// A metric that is made at a scrape. Thousands of values are made as fast as they can be written, without a look-up for each.
pub struct Family(MetricFamily);

/// Names of labels with their values, in the order of the names.
pub type Labels<'a> = [(&'a str, &'a str)];

impl Family {
    fn new(kind: MetricType, name: &str, help: &str) -> Family {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        Family(family)
    }

    /// One that only rises.
    pub fn counter(name: &str, help: &str) -> Family {
        Family::new(MetricType::COUNTER, name, help)
    }

    /// One that rises and falls.
    pub fn gauge(name: &str, help: &str) -> Family {
        Family::new(MetricType::GAUGE, name, help)
    }

    /// One that counts values by their size.
    pub fn histogram(name: &str, help: &str) -> Family {
        Family::new(MetricType::HISTOGRAM, name, help)
    }

    /// Has a value for these labels.
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

    /// Has these counts for these labels.
    pub fn set_histogram(&mut self, labels: &Labels, histogram: Histogram) {
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }

    /// A counter with one value.
    pub fn one_counter(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut family = Family::counter(name, help);
        family.set(&[], value);
        family.0
    }

    /// A gauge with one value.
    pub fn one_gauge(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut family = Family::gauge(name, help);
        family.set(&[], value);
        family.0
    }

    /// All of it.
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
