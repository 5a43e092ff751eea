//! The metrics of `zonal sync aws`.

use super::{account::Requests, changes::Changes};
use crate::{
    instruments::{counters, gauge, register},
    manifest::collection::Edit,
};
use anyhow::Context;
use axum::{Router, routing::get};
use prometheus::{Encoder, IntCounterVec, IntGauge, Registry, TextEncoder};
use std::{net::SocketAddr, time::Duration};

/// The metrics. Clones share their values.
#[derive(Clone)]
pub(super) struct Counters {
    registry: Registry,
    rounds: IntCounterVec,
    requests: IntCounterVec,
    changes: IntCounterVec,
    last_success: IntGauge,
    round_milliseconds: IntGauge,
    resources: IntGauge,
    refused: IntGauge,
    foreign: IntGauge,
    held: IntGauge,
}

impl Default for Counters {
    fn default() -> Counters {
        let registry = Registry::new();
        let made = Counters {
            rounds: counters(
                "zonal_sync_rounds_total",
                "Rounds, by their result.",
                &["result"],
                &[&["complete", "incomplete"]],
            ),
            requests: counters(
                "zonal_sync_requests_total",
                "Requests to AWS, by their result.",
                &["result"],
                &[&["sent", "throttled"]],
            ),
            changes: counters(
                "zonal_sync_changes_total",
                "Resources that were written to the target or deleted there.",
                &["change"],
                &[&["put", "deleted"]],
            ),
            last_success: gauge(
                "zonal_sync_last_success_timestamp_seconds",
                "Time of the last complete round, since 1970.",
            ),
            round_milliseconds: gauge("zonal_sync_round_milliseconds", "Duration of the last round."),
            resources: gauge("zonal_sync_resources", "Resources of the account in the target."),
            refused: gauge("zonal_sync_refused_requests", "Requests that AWS refused in the last round."),
            foreign: gauge(
                "zonal_sync_foreign_resources",
                "Resources of the account that another client has made in the target.",
            ),
            held: gauge(
                "zonal_sync_held_deletions",
                "Resources that the account has no more, and that are not deleted.",
            ),
            registry,
        };
        for family in [&made.rounds, &made.requests, &made.changes] {
            register(&made.registry, family.clone());
        }
        for gauge in
            [&made.last_success, &made.round_milliseconds, &made.resources, &made.refused, &made.foreign, &made.held]
        {
            register(&made.registry, gauge.clone());
        }
        made
    }
}

impl Counters {
    /// Serves the metrics from a thread of its own.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub(super) fn serve(&self, address: SocketAddr) -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let registry = self.registry.clone();
        let page = move || async move {
            let mut text = Vec::new();
            // Writing to memory does not fail.
            let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
            ([("content-type", prometheus::TEXT_FORMAT)], text)
        };
        let router = Router::new().route("/metrics", get(page));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("metrics".into()).spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await
            })
        })?;
        Ok(())
    }

    /// Notes a round.
    pub(super) fn note_round(&self, is_complete: bool, duration: Duration, now: i64) {
        self.rounds.with_label_values(&[if is_complete { "complete" } else { "incomplete" }]).inc();
        self.round_milliseconds.set(duration.as_millis() as i64);
        if is_complete {
            self.last_success.set(now);
        }
    }

    /// Notes the number of requests so far.
    pub(super) fn note_requests(&self, requests: Requests) {
        for (result, count) in [("sent", requests.sent), ("throttled", requests.throttled)] {
            let counter = self.requests.with_label_values(&[result]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Notes the number of requests that AWS has refused in a round.
    pub(super) fn note_refused(&self, refused: usize) {
        self.refused.set(refused as i64);
    }

    /// Notes the state of the target.
    pub(super) fn note_state(&self, changes: &Changes) {
        for (gauge, count) in [
            (&self.resources, changes.resources),
            (&self.refused, 0),
            (&self.foreign, changes.foreign.len()),
            (&self.held, changes.held.len()),
        ] {
            gauge.set(count as i64);
        }
    }

    /// Notes written changes.
    pub(super) fn note_changes(&self, edits: &[Edit]) {
        for edit in edits {
            self.changes.with_label_values(&[if edit.value.is_some() { "put" } else { "deleted" }]).inc();
        }
    }
}
