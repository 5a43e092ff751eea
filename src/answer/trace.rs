//! How an answer came about, step by step: for `zonal explain`.

use super::Client;
use crate::{
    manifest::connectivity::Network,
    snapshot::{
        Snapshot,
        networks::{Found, Path, Refusal},
    },
};
use serde::Serialize;

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    /// What is answered.
    Answer,
}

/// A step on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub stage: Stage,
    pub text: String,
}

/// Listens to how an answer comes about. Who serves does not listen: `()` never makes the text.
pub trait Trace {
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String);
}

impl Trace for () {
    #[inline]
    fn note(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

impl Trace for Vec<Step> {
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String) {
        self.push(Step { stage, text: text() });
    }
}

fn kind(network: &Network) -> &'static str {
    match network {
        Network::Vpc(_) => "VPC",
        Network::OnPremises(_) => "on-premises network",
    }
}

/// Who asks, and how that was found.
pub fn client(snapshot: &Snapshot, client: &Client, found: &Found) -> String {
    let networks = &snapshot.networks;
    let door = match found.door {
        Some(door) if door.path == Path::InVpc => {
            format!("{} is the resolver address of VPC {}", client.local, door.id)
        }
        Some(door) => format!("{} is an address of the Resolver endpoint {}", client.local, door.id),
        None => format!("{} is no door: the source address alone decides", client.local),
    };
    let network = match found.network.map(|network| &networks.info(network).network) {
        Some(network) => format!("{} is in {} {}", client.source, kind(network), network.id()),
        None => format!("{} is in no known network, but is allowed here", client.source),
    };
    let subnet = found.subnet.map(|subnet| networks.subnets[subnet as usize].id.as_str());
    let az = match (found.az, subnet) {
        (Some(az), Some(subnet)) => format!("its subnet {subnet} is in {}", snapshot.azs.id(az)),
        (Some(az), None) if found.door.is_some_and(|door| door.az == Some(az)) => {
            format!("no subnet tells its AZ, the address asked does: {}", snapshot.azs.id(az))
        }
        (Some(az), None) => format!("its network is nearest to {}", snapshot.azs.id(az)),
        (None, _) => "nothing tells its AZ".into(),
    };
    let view = networks.info(found.vpc).network.id();
    format!("{door}; {network}; {az}; so it has the view of VPC {view}, path {}", found.path.word())
}

/// Why a client has no view.
pub fn refusal(snapshot: &Snapshot, client: &Client, refusal: Refusal) -> String {
    let networks = &snapshot.networks;
    let holding: Vec<String> = networks
        .holding(client.source)
        .iter()
        .map(|member| &networks.info(member.network).network)
        .map(|network| format!("{} {}", kind(network), network.id()))
        .collect();
    let holding = if holding.is_empty() { "no known network".into() } else { holding.join(" and ") };
    let door = networks.doors.get(&client.local);
    let door = match door {
        Some(door) => format!("{} is a door of {}", client.local, door.id),
        None => format!("{} is no door", client.local),
    };
    let why = match refusal {
        Refusal::Stranger if networks.holding(client.source).is_empty() => "nobody knows this client",
        Refusal::Stranger => "its network may not ask there",
        Refusal::Ambiguous => "the source address does not tell which of them it is",
        Refusal::DnsDisabled => "enable_dns_support is false",
        Refusal::Transport => "the door does not take this transport",
    };
    format!("{door}; {} is in {holding}; refused: {why}", client.source)
}
