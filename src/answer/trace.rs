//! Listeners to how an answer comes about.
//!
//! [`answer_traced`](super::answer_traced) calls a [`Trace`] at each step. A server that answers passes `()`, which ignores
//! the calls, or a [`QueryLogTrace`](super::QueryLogTrace). `zonal explain` passes an [`ExplainTrace`]. The texts of the steps
//! are in `explanation`.

use super::{Client, firewall::FirewallHit};
use crate::snapshot::{networks::MatchedClient, routes::Route, views::View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The subject of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The client, its network and its view.
    Client,
    /// The DNS Firewall rules, each with the reason why it matches or not.
    Firewall,
    /// The rules, zones, endpoint names and autodefined names that match the name.
    Cut,
    /// The zone's data.
    Zone,
    /// The endpoint that answers, and the endpoints that do not.
    Endpoint,
    /// The interfaces of the endpoint.
    Interface,
    /// The cache's entry for the name.
    Cache,
    /// The queries to other servers.
    Resolve,
    /// The queries to authoritative servers, and what these say.
    Recursion,
    /// The DNSSEC validation of what authoritative servers say.
    Validation,
    /// The records of the answer.
    Answer,
}

/// A step on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its subject.
    pub stage: Stage,
    /// The result, in a sentence without a full stop.
    pub text: String,
}

/// A listener to how an answer comes about. The methods that take a closure call it only if they need the result.
pub trait Trace {
    /// Takes a step.
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String);

    /// Takes several steps of one stage.
    fn notes(&mut self, stage: Stage, texts: impl FnOnce() -> Vec<String>);

    /// Takes a route that leads to other servers.
    fn route(&mut self, route: &Arc<Route>);

    /// Takes the offset of the query in the packet, behind a PROXY header.
    #[inline]
    fn query_at(&mut self, _: usize) {}

    /// Takes the client and its view.
    #[inline]
    fn client(&mut self, _: &Client, _: &MatchedClient, _: &View) {}

    /// Begins with the next name of the chain.
    #[inline]
    fn next_name(&mut self) {}

    /// Takes what answers for the current name. Of several calls for one name, the last one counts.
    #[inline]
    fn answered_by<'a>(&mut self, _: impl FnOnce() -> AnsweredBy<'a>) {}

    /// Takes the match of a DNS Firewall rule.
    #[inline]
    fn firewall(&mut self, _: &FirewallHit) {}

    /// Takes the state of the current name in the cache.
    #[inline]
    fn cache_state(&mut self, _: CacheState) {}
}

/// The resource that answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy<'a> {
    /// The private hosted zone with this identifier.
    Zone(&'a str),
    /// The resolver rule with this identifier.
    Rule(&'a str),
    /// The VPC endpoint with this identifier.
    Endpoint(&'a str),
    /// The internet resolver of the node.
    Internet,
    /// An autodefined zone.
    Autodefined,
    /// `whoami.zonal.`
    Whoami,
}

impl<'a> AnsweredBy<'a> {
    /// The label of each variant, in the order of the numbers of [`AnsweredBy::parts`].
    pub const LABELS: [&'static str; 6] = ["zone", "rule", "endpoint", "internet", "autodefined", "whoami"];

    /// The labels of the variants that have an identifier.
    pub const HAS_ID: [&'static str; 3] = ["zone", "rule", "endpoint"];

    /// The number of the variant, and its identifier; empty if it has none.
    pub fn parts(self) -> (u8, &'a str) {
        match self {
            AnsweredBy::Zone(id) => (0, id),
            AnsweredBy::Rule(id) => (1, id),
            AnsweredBy::Endpoint(id) => (2, id),
            AnsweredBy::Internet => (3, ""),
            AnsweredBy::Autodefined => (4, ""),
            AnsweredBy::Whoami => (5, ""),
        }
    }
}

/// The state of a name in the cache. Of a chain, the greatest state of its names counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheState {
    /// The cache had an answer.
    Hit,
    /// The cache had nothing: other servers had to be asked.
    Miss,
    /// The answer had expired, and no server could refresh it.
    Stale,
    /// The cache had a failure of the servers.
    Failed,
}

impl CacheState {
    /// The label of each state, in their order.
    pub const LABELS: [&'static str; 4] = ["hit", "miss", "stale", "failed"];
}

/// A listener that keeps the steps and routes for `zonal explain`.
#[derive(Clone, Debug, Default)]
pub struct ExplainTrace {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The routes, each once, in order.
    pub routes: Vec<Arc<Route>>,
}

impl Trace for () {
    #[inline]
    fn note(&mut self, _: Stage, _: impl FnOnce() -> String) {}

    #[inline]
    fn notes(&mut self, _: Stage, _: impl FnOnce() -> Vec<String>) {}

    #[inline]
    fn route(&mut self, _: &Arc<Route>) {}
}

impl Trace for ExplainTrace {
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String) {
        self.steps.push(Step { stage, text: text() });
    }

    fn notes(&mut self, stage: Stage, texts: impl FnOnce() -> Vec<String>) {
        self.steps.extend(texts().into_iter().map(|text| Step { stage, text }));
    }

    fn route(&mut self, route: &Arc<Route>) {
        if self.routes.iter().all(|other| other.id != route.id) {
            self.routes.push(route.clone());
        }
    }
}
