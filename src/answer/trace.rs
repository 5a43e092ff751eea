//! How an answer came about, step by step: for `zonal explain`.

use super::Client;
use crate::{
    manifest::connectivity::Network,
    snapshot::{
        Snapshot,
        networks::{Found, Path, Refusal},
        routes::Route,
        views::View,
    },
};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};

/// How many addresses that a client may ask at are named.
const MOST_ENTRY_POINTS: usize = 6;

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Who asks.
    Client,
    /// Which zone, rule or endpoint name is responsible.
    Cut,
    /// What the zone has.
    Zone,
    /// Which endpoint answers, and which do not.
    Endpoint,
    /// Which of its interfaces.
    Interface,
    /// What is known of names that others answer for.
    Cache,
    /// What came of asking others.
    Resolve,
    /// What is answered.
    Answer,
}

/// A step on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is about.
    pub stage: Stage,
    /// What was found there, in a sentence without a full stop.
    pub text: String,
}

/// Listens to how an answer comes about. Who serves does not listen: `()` never makes the text.
pub trait Trace {
    /// A step. The text is made only for those who listen.
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String);

    /// Several steps of one stage.
    fn notes(&mut self, stage: Stage, texts: impl FnOnce() -> Vec<String>);

    /// The answer, or a part of it, is others' affair, by this route.
    fn route(&mut self, route: &Arc<Route>);

    /// Where in the packet the query begins.
    #[inline]
    fn query_at(&mut self, _: usize) {}

    /// Who asks, and which view that is.
    #[inline]
    fn asked(&mut self, _: &Client, _: &Found, _: &View) {}

    /// The next name of the chain is decided.
    #[inline]
    fn hop(&mut self) {}

    /// What answers for it. What is told last holds.
    #[inline]
    fn by<'a>(&mut self, _: impl FnOnce() -> By<'a>) {}

    /// What is known of it, as others answer for it.
    #[inline]
    fn cache(&mut self, _: CacheState) {}
}

/// What answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// A private hosted zone.
    Zone(&'a str),
    /// A rule.
    Rule(&'a str),
    /// A VPC endpoint, by a name of its own or a private name.
    Endpoint(&'a str),
    /// The internet resolver of the node.
    Internet,
    /// An autodefined name.
    Autodefined,
    /// `whoami.zonal.`
    Whoami,
}

impl<'a> By<'a> {
    /// The words for what they are, by number.
    pub const WORDS: [&'static str; 6] = ["zone", "rule", "endpoint", "internet", "autodefined", "whoami"];

    /// Those of the words that go with an identifier.
    pub const HAS_ID: [&'static str; 3] = ["zone", "rule", "endpoint"];

    /// The number of its word, and its identifier.
    pub fn parts(self) -> (u8, &'a str) {
        match self {
            By::Zone(id) => (0, id),
            By::Rule(id) => (1, id),
            By::Endpoint(id) => (2, id),
            By::Internet => (3, ""),
            By::Autodefined => (4, ""),
            By::Whoami => (5, ""),
        }
    }
}

/// What was known of the names that others answer for: of several names, the last of these that is so of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheState {
    /// It was in the cache.
    Hit,
    /// Others had to be asked.
    Miss,
    /// It had ended, and nobody could be asked anew.
    Stale,
    /// It was known that asking fails.
    Failed,
}

impl CacheState {
    /// The words for them, by number.
    pub const WORDS: [&'static str; 4] = ["hit", "miss", "stale", "failed"];
}

/// All that was told of an answer.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Step by step.
    pub steps: Vec<Step>,
    /// The routes on the way, each once.
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

impl Trace for Story {
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

fn kind(network: &Network) -> &'static str {
    match network {
        Network::Vpc(_) => "VPC",
        Network::OnPremises(_) => "on-premises network",
    }
}

/// Who asks, and how that was found.
pub fn client(snapshot: &Snapshot, client: &Client, found: &Found) -> Vec<String> {
    let networks = &snapshot.networks;
    let network = match found.network.map(|network| &networks.info(network).network) {
        Some(network) => format!("{} is in {} {}", client.source, kind(network), network.id()),
        None => format!("{} is in no network that is known here, but in `allowed_cidr_blocks`", client.source),
    };
    let az = match (found.az, found.subnet) {
        (Some(az), Some(subnet)) => {
            let subnet = &networks.subnets[subnet as usize].id;
            format!("its subnet {subnet} is in AZ {}", snapshot.azs.id(az))
        }
        (Some(az), None) if found.network.and_then(|network| networks.info(network).az) == Some(az) => {
            format!("its network is nearest to AZ {}", snapshot.azs.id(az))
        }
        (Some(az), None) => format!("no subnet tells its AZ, so the address asked does: {}", snapshot.azs.id(az)),
        (None, _) => "it is in no subnet, so its AZ is unknown".into(),
    };
    let view = networks.info(found.vpc).network.id();
    vec![
        entry_point(snapshot, client),
        format!("{network}; {az}"),
        format!("so it has the view of VPC {view}, path {}", found.path.word()),
    ]
}

/// What the address asked says.
fn entry_point(snapshot: &Snapshot, client: &Client) -> String {
    match snapshot.networks.entry_points.get(&client.local) {
        Some(entry_point) if entry_point.path == Path::InVpc => {
            format!("{} is a resolver address of VPC {}", client.local, entry_point.id)
        }
        Some(entry_point) => format!("{} is an address of Resolver endpoint {}", client.local, entry_point.id),
        None if client.local.is_unspecified() => {
            "the address asked is not given: as at an address that is no entry point, the source alone decides".into()
        }
        None => format!("{} is no entry point, so the source address alone decides", client.local),
    }
}

/// Why a client has no view, and what to do.
pub fn refusal(snapshot: &Snapshot, client: &Client, refusal: Refusal) -> Vec<String> {
    let networks = &snapshot.networks;
    let holding: Vec<String> = networks
        .holding(client.source)
        .iter()
        .map(|member| &networks.info(member.network).network)
        .map(|network| format!("{} {}", kind(network), network.id()))
        .collect();
    let entry_point_is_here = networks.entry_points.contains_key(&client.local);
    let why = match refusal {
        Refusal::Stranger if holding.is_empty() => "no network of the manifest has its address",
        Refusal::Stranger if entry_point_is_here => "its network may not ask at this entry point",
        Refusal::Stranger => "on-premises networks have no view but through an entry point",
        Refusal::Ambiguous => "its address does not tell in which of them it is",
        Refusal::DnsDisabled => "`enable_dns_support` is false",
        Refusal::Transport => &format!("`protocols` of the entry point has no {}", client.transport.protocol()),
        Refusal::NotSpokenFor => "`speaks_for` of the forwarder does not list its network",
        Refusal::Wide => "the prefix that the forwarder names is not of one network",
        Refusal::Header => "the forwarder has to send a PROXY header in front, and sends no good one",
        Refusal::Endpoint => "the VPC endpoint that the PROXY header names is not in the manifest",
    };
    let holding = if holding.is_empty() { "no known network".into() } else { holding.join(" and ") };
    vec![
        entry_point(snapshot, client),
        format!("{} is in {holding}", client.source),
        format!("refused: {why}"),
        advice(snapshot, client, refusal),
    ]
}

/// What a client that is refused can do.
fn advice(snapshot: &Snapshot, client: &Client, refusal: Refusal) -> String {
    let networks = &snapshot.networks;
    let mut entry_points: Vec<IpAddr> = networks.entry_points.keys().copied().collect();
    entry_points
        .retain(|entry_point| networks.identify(client.source, *entry_point, client.transport.protocol()).is_ok());
    entry_points.sort_unstable();
    let listed: Vec<String> = entry_points
        .iter()
        .take(MOST_ENTRY_POINTS)
        .filter_map(|address| Some(format!("{address} ({})", networks.entry_points.get(address)?.id)))
        .collect();
    match refusal {
        Refusal::NotSpokenFor => "add its network to `speaks_for`".into(),
        Refusal::Wide => "have the forwarder tell longer prefixes: /32 and /128 are best".into(),
        Refusal::Header => "set it up to send PROXY protocol v2, with every packet by UDP".into(),
        Refusal::Endpoint => "add it to `vpc_endpoints`".into(),
        _ if !entry_points.is_empty() => {
            let more = if entry_points.len() > MOST_ENTRY_POINTS { ", …" } else { "" };
            format!("it may ask at {}{more}: try `--to {}`", listed.join(", "), entry_points[0])
        }
        Refusal::DnsDisabled => "switch it on, or use another resolver in that VPC".into(),
        Refusal::Stranger if networks.holding(client.source).is_empty() => {
            "add its address to `cidr_blocks` of its VPC or on-premises network, or to an entry point's `allowed_cidr_blocks`"
                .into()
        }
        Refusal::Stranger => "no entry point lets it in: connect its network to a VPC with an inbound endpoint, or add it to \
             `allowed_cidr_blocks` there"
            .into(),
        Refusal::Ambiguous | Refusal::Transport => {
            let protocol = client.transport.protocol();
            format!("give a VPC that it is in `resolver_addresses`, or an inbound endpoint with {protocol}, to ask at")
        }
    }
}
