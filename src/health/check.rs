//! One check of a target: finds its address, and makes an attempt.

use super::{
    probe::{Outcome, attempt},
    schedule::Context,
};
use crate::{
    answer::{Client, Transport},
    forward::{Forwarding, lookup},
    snapshot::{
        Snapshot,
        health::{Probe, ProbeQuestion},
    },
    wire::Name,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Time-out for resolving the name of a target.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes one attempt. Resolves the name of the target first if the target has no address.
pub(super) async fn check(context: &Context, probe: &Probe) -> (Option<IpAddr>, Outcome) {
    let address = match probe.question.address {
        Some(address) => address,
        // Most targets have an address: their tasks need no memory for the search of one.
        None => match Box::pin(find_address(context, &probe.question)).await {
            Ok(address) => address,
            Err(error) => return (None, Outcome::failure(error)),
        },
    };
    let outcome = match sources(context, probe, address) {
        Ok(sources) => attempt(probe, address, &sources, &context.tls).await,
        Err(refused) => refused,
    };
    (Some(address), outcome)
}

/// Returns the source addresses that a connection to a target may have: the addresses of the outbound Resolver endpoints of its
/// VPC. An empty list permits any address.
///
/// # Errors
/// The node may not check the address.
pub(super) fn sources(context: &Context, probe: &Probe, address: IpAddr) -> Result<Vec<IpAddr>, Outcome> {
    let snapshot = context.snapshot.load();
    let vpc = probe.question.vpc.as_deref();
    let (is_allowed, networks) = match (probe.question.address, vpc) {
        (None, Some(vpc)) => (snapshot.may_check_from(vpc, address), "network that the VPC reaches"),
        _ => (snapshot.may_check(address), "network of the manifest"),
    };
    if !is_allowed {
        return Err(Outcome::failure(format!("{address} is in no {networks}, and not in `health.allow`")));
    }
    let at = vpc.and_then(|vpc| snapshot.networks.vpc_at(vpc));
    Ok(at.map_or(Vec::new(), |at| snapshot.networks.info(at).outbound.clone()))
}

async fn find_address(context: &Context, question: &ProbeQuestion) -> Result<IpAddr, String> {
    let name = question.name.as_ref().ok_or("the check has no address")?;
    let snapshot = context.snapshot.load_full();
    let found = resolve(&snapshot, question.vpc.as_deref(), name, &context.forwarding, &context.resolving).await;
    found.map_err(|error| format!("resolve {name}: {error}"))
}

/// Resolves a name as a client in the VPC does, and returns the first address.
async fn resolve(
    snapshot: &Snapshot,
    vpc: Option<&str>,
    name: &Name,
    forwarding: &Arc<Forwarding>,
    resolving: &tokio::runtime::Handle,
) -> Result<IpAddr, String> {
    let vpc =
        vpc.and_then(|vpc| snapshot.manifest.vpcs.get(vpc)).ok_or("the check has no `vpc_id` to resolve it in")?;
    let source = vpc.cidr_blocks.first().map(|block| block.network()).ok_or("the VPC has no addresses")?;
    let unspecified = if source.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let local = vpc.resolver_addresses.first().copied().unwrap_or(unspecified);
    let client = Client { source, port: 0, local, transport: Transport::Tcp };
    let (forwarding, name) = (forwarding.clone(), name.clone());
    let task = resolving.spawn(async move { lookup::addresses(&forwarding, &client, &name).await });
    match timeout(RESOLVE_TIMEOUT, task).await {
        Ok(Ok(Ok(addresses))) => addresses.first().copied().ok_or_else(|| "no address".into()),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) => Err("the server is about to end".into()),
        Err(_) => Err(format!("time-out after {} s", RESOLVE_TIMEOUT.as_secs())),
    }
}
