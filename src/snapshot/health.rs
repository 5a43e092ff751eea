//! Health targets: the addresses that zonal checks, and the verdicts that answers read.
//!
//! The snapshot shares each verdict with the health check thread ([`health`](crate::health)). A
//! change of health writes the verdict. It compiles nothing, and makes no new generation. A target
//! keeps its verdict in later snapshots as long as its question is the same.
//!
//! ```text
//! manifest --> Targets { id -> Target { work, verdict } }
//!                                          ^      ^
//!                 an attempt, a report: writes    reads: Interface::is_usable, /v1/health, explain
//! ```

use crate::{
    manifest::{
        Change, HealthCheck, HealthCheckType, Id, InterfaceHealthCheck, Manifest, ProbeType, Problem, VpcEndpoint,
        VpcEndpointService, VpcEndpointType, WhenStale, changes,
    },
    snapshot::{
        endpoints::{Az, has_names},
        networks::Networks,
    },
    wire::Name,
};
use imbl::OrdMap;
use ipnet::IpNet;
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Number of attempts in a report.
pub const REMEMBERED_ATTEMPTS: usize = 3;
/// Highest HTTP status that passes a health check, as in Route 53.
const MAX_CHECK_STATUS: u16 = 399;
/// Highest HTTP status that passes the check of an endpoint's interface. AWS services answer
/// requests without credentials with 403.
const MAX_INTERFACE_STATUS: u16 = 499;

/// Identifier of a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetId {
    /// A health check of the manifest.
    Check(Id),
    /// An address of an endpoint's interface.
    Interface {
        /// The endpoint.
        endpoint: Id,
        /// The address.
        address: IpAddr,
    },
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetId::Check(id) => f.write_str(id),
            TargetId::Interface { endpoint, address } => write!(f, "{endpoint}/{address}"),
        }
    }
}

impl TargetId {
    /// Parses `check` or `endpoint/address`.
    pub fn parse(text: &str) -> TargetId {
        let interface = text.rsplit_once('/').and_then(|(endpoint, address)| {
            Some(TargetId::Interface { endpoint: endpoint.into(), address: address.parse().ok()? })
        });
        interface.unwrap_or_else(|| TargetId::Check(text.into()))
    }
}

/// The way in which zonal determines the health of a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// zonal sends requests to the target.
    Probe(Probe),
    /// zonal counts the healthy checks among other checks.
    Calculated {
        /// The checks.
        children: Vec<Id>,
        /// Number of checks that must be healthy.
        threshold: u16,
    },
    /// Another program reports the health.
    External {
        /// Age beyond which a report is stale.
        stale_after: Option<Duration>,
        /// State of the check while its last report is stale.
        when_stale: WhenStale,
    },
}

/// Question to a target, with timing and thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Question that an attempt asks.
    pub question: ProbeQuestion,
    /// Time between two attempts.
    pub interval: Duration,
    /// Time-out for connecting, and again for the TLS handshake.
    pub timeout: Duration,
    /// Number of consecutive failures that make the target unhealthy.
    pub failure_threshold: u8,
    /// Number of consecutive successes that make the target healthy.
    pub success_threshold: u8,
}

/// Question to a target. A target with a changed question is a new target.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeQuestion {
    /// Kind of request.
    pub probe_type: ProbeType,
    /// Address of the target. `None` if each attempt resolves `name`.
    pub address: Option<IpAddr>,
    /// Name in the Host header and in SNI.
    pub name: Option<Name>,
    /// VPC whose outbound addresses are the source of the attempt, and in which `name` is resolved.
    pub vpc: Option<Id>,
    /// The port.
    pub port: u16,
    /// The path of an HTTP request.
    pub path: Box<str>,
    /// Text that the body must contain.
    pub search: Option<Box<str>>,
    /// Whether the target's certificate must be valid.
    pub verify_certificate: bool,
    /// Highest HTTP status that counts as a success.
    pub max_status: u16,
}

/// A target of health checks.
#[derive(Debug)]
pub struct Target {
    /// Identifier of the target.
    pub id: TargetId,
    /// The way in which zonal determines the health of the target.
    pub work: Work,
    /// Whether success and failure are swapped.
    pub inverted: bool,
    /// Whether the target is not checked. It counts as healthy, or as unhealthy if it is `inverted`.
    pub disabled: bool,
    /// Verdict that answers read.
    pub verdict: Verdict,
}

/// Whether answers use a target, with the report behind the decision.
///
/// Clones share one value. Two verdicts are equal if they share their value.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    unhealthy_for: AtomicU64,
    report: Mutex<Report>,
}

/// The clients for which a target is unhealthy: one bit for each AZ, by its number, and one for all other clients. Nodes that
/// share their verdicts can disagree about a target: then the nodes in the client's AZ decide.
pub mod clients {
    use crate::snapshot::endpoints::Az;

    /// No clients.
    pub const NONE: u64 = 0;
    /// All clients.
    pub const ALL: u64 = u64::MAX;
    /// Clients without a known AZ, or in an AZ without a bit of its own.
    pub const OTHERS: u64 = 1 << LAST;
    /// The number of the bit for all other clients, and of AZs with a bit of their own.
    const LAST: u32 = 63;

    /// The bit of the clients in an AZ.
    #[inline]
    pub fn in_az(az: Option<Az>) -> u64 {
        1 << az.map_or(LAST, |az| az.min(LAST))
    }
}

impl PartialEq for Verdict {
    fn eq(&self, other: &Verdict) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Verdict {
    /// Whether answers to clients without a known AZ use the target. A target with unknown health is used.
    #[inline]
    pub fn is_healthy(&self) -> bool {
        self.is_healthy_for(None)
    }

    /// Whether answers to clients in an AZ use the target.
    #[inline]
    pub fn is_healthy_for(&self, az: Option<Az>) -> bool {
        self.0.unhealthy_for.load(Relaxed) & clients::in_az(az) == 0
    }

    /// The address that [`Verdict::is_healthy_for`] reads.
    #[inline]
    pub fn address(&self) -> *const u8 {
        std::ptr::from_ref(&self.0.unhealthy_for).cast()
    }

    /// Whether the verdict is the same for all clients.
    #[inline]
    pub fn is_same_for_all(&self) -> bool {
        matches!(self.unhealthy_for(), clients::NONE | clients::ALL)
    }

    /// The [clients] whose answers do not use the target.
    pub fn unhealthy_for(&self) -> u64 {
        self.0.unhealthy_for.load(Relaxed)
    }

    /// Sets whether answers use the target.
    pub fn set(&self, is_healthy: bool) {
        self.set_unhealthy_for(if is_healthy { clients::NONE } else { clients::ALL });
    }

    /// Sets the [clients] whose answers do not use the target.
    pub fn set_unhealthy_for(&self, clients: u64) {
        self.0.unhealthy_for.store(clients, Relaxed);
    }

    /// Locks the report behind the verdict. Answers do not read the report.
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The target has had no verdict yet. It counts as healthy.
    #[default]
    Unknown,
    /// The target is healthy.
    Healthy,
    /// The target is unhealthy.
    Unhealthy,
}

impl State {
    /// Returns the word for the state, as in `/v1/health`.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }

    /// Returns the state for a word.
    pub fn of_word(word: &str) -> Option<State> {
        [State::Unknown, State::Healthy, State::Unhealthy].into_iter().find(|state| state.word() == word)
    }

    /// Whether the state counts as healthy.
    pub fn counts_as_healthy(self) -> bool {
        self != State::Unhealthy
    }
}

/// Report behind a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// State of the target.
    pub state: State,
    /// Time of the last change of `state`, in seconds since 1970; 0 before the first change.
    pub since: i64,
    /// Last attempts, newest first; at most [`REMEMBERED_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// Verdict that an operator has forced. `None` if the check decides.
    pub forced: Option<Forced>,
    /// Time until which the target is held unhealthy because its state changes too often, in
    /// seconds since 1970.
    pub held_until: Option<i64>,
    /// Whether the node is isolated, so that the verdict does not follow the attempts.
    pub is_frozen: bool,
    /// Time at which the verified certificate of the target expires, in seconds since 1970.
    pub certificate_expiry: Option<i64>,
    /// The verdicts of all nodes, if they decide together.
    pub fleet: Option<FleetReport>,
}

/// The verdicts of all nodes that share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetReport {
    /// Number of nodes that have a verdict, with this one.
    pub reporters: u16,
    /// Number of nodes whose verdict is healthy.
    pub healthy: u16,
}

/// Result of one attempt or report.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Time at which the attempt ended, in seconds since 1970.
    pub at: i64,
    /// Whether the attempt counts as a success.
    pub is_success: bool,
    /// Answer of the target, or the reason for the failure.
    pub result: Cow<'static, str>,
}

/// Verdict that an operator has forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Whether answers use the target.
    pub is_healthy: bool,
    /// Time at which the forced verdict ends, in seconds since 1970.
    pub until: i64,
}

/// All targets, by identifier.
#[derive(Clone, Debug, Default)]
pub struct Targets(OrdMap<TargetId, Arc<Target>>);

impl Targets {
    /// Compiles the targets of `manifest`. `self` has the targets of `previous`; unchanged targets
    /// are shared.
    pub(super) fn recompile(&self, previous: &Manifest, manifest: &Manifest) -> Targets {
        let mut this = self.clone();
        for Change { id, old, new } in changes(&previous.health_checks, &manifest.health_checks) {
            match new {
                Some(check) => this.put(TargetId::Check(id.clone()), work(check), check.inverted, check.disabled),
                None => drop(old.and_then(|_| this.0.remove(&TargetId::Check(id.clone())))),
            }
        }
        let services = changes(&previous.vpc_endpoint_services, &manifest.vpc_endpoint_services);
        let services: BTreeSet<&Id> = services.iter().map(|change| change.id).collect();
        for Change { id, old, new } in changes(&previous.vpc_endpoints, &manifest.vpc_endpoints) {
            let current: BTreeSet<IpAddr> = new.into_iter().flat_map(|new| addresses(new)).collect();
            for address in old.into_iter().flat_map(|old| addresses(old)).filter(|address| !current.contains(address)) {
                this.0.remove(&TargetId::Interface { endpoint: id.clone(), address });
            }
            new.inspect(|new| this.put_interfaces(id, new, manifest));
        }
        if !services.is_empty() {
            let of_changed = |(_, endpoint): &(&Id, &Arc<VpcEndpoint>)| services.contains(&endpoint.service_name);
            for (id, endpoint) in manifest.vpc_endpoints.iter().filter(of_changed) {
                this.put_interfaces(id, endpoint, manifest);
            }
        }
        this
    }

    fn put_interfaces(&mut self, id: &Id, endpoint: &VpcEndpoint, manifest: &Manifest) {
        let service = manifest.vpc_endpoint_services.get(&endpoint.service_name);
        let check = endpoint.health_check.as_ref().or_else(|| service?.health_check.as_ref());
        let is_there = endpoint.vpc_endpoint_type == VpcEndpointType::Interface && has_names(endpoint);
        for address in addresses(endpoint) {
            let target = TargetId::Interface { endpoint: id.clone(), address };
            match check.filter(|_| is_there) {
                Some(check) => {
                    let probe = interface_probe(check, address, &endpoint.vpc_id, service.map(|service| &**service));
                    self.put(target, Work::Probe(probe), false, false);
                }
                None => drop(self.0.remove(&target)),
            }
        }
    }

    /// Adds or replaces a target. The target keeps its verdict if its question has not changed.
    fn put(&mut self, id: TargetId, work: Work, inverted: bool, disabled: bool) {
        let old = self.0.get(&id);
        if old.is_some_and(|old| old.work == work && old.inverted == inverted && old.disabled == disabled) {
            return;
        }
        let is_same = |old: &&Arc<Target>| {
            old.inverted == inverted
                && match (&old.work, &work) {
                    (Work::Probe(old), Work::Probe(new)) => old.question == new.question,
                    (Work::External { .. }, Work::External { .. }) => true,
                    _ => false,
                }
        };
        let new = || {
            let verdict = Verdict::default();
            if disabled {
                verdict.set(!inverted);
            }
            verdict
        };
        let verdict = old.filter(is_same).map_or_else(new, |old| old.verdict.clone());
        self.0.insert(id.clone(), Arc::new(Target { id, work, inverted, disabled, verdict }));
    }

    /// Returns the target with an identifier.
    pub fn get(&self, id: &TargetId) -> Option<&Arc<Target>> {
        self.0.get(id)
    }

    /// Returns the verdict of an interface's address. `None` if the address is not checked.
    pub fn of_interface(&self, endpoint: &str, address: IpAddr) -> Option<Verdict> {
        if self.0.is_empty() {
            return None;
        }
        let id = TargetId::Interface { endpoint: endpoint.into(), address };
        self.0.get(&id).map(|target| target.verdict.clone())
    }

    /// Iterates over all targets in the order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.0.values()
    }

    /// Number of targets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set has no targets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both sets are the same object in memory.
    pub fn is_same(&self, other: &Targets) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

/// Whether an address is link-local, multicast or broadcast.
///
/// Clouds have their metadata services at such addresses. So health checks use them only if the
/// node's configuration allows it.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.is_multicast() || address.segments()[..3] == [0xfd00, 0xec2, 0]
        }
    }
}

/// Whether a health check may connect to an address. The address must be in a network of the
/// manifest, or in `allowed`.
pub(super) fn may_check(address: IpAddr, networks: &Networks, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|block| block.contains(&address))
        || (!is_link_local(address) && !networks.holding(address).is_empty())
}

/// Whether a health check may connect to an address that a name has in a VPC. The owner of the VPC chooses this address, so the
/// check may not connect to networks that the VPC does not reach.
pub(super) fn may_check_from(vpc: &str, address: IpAddr, networks: &Networks, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    let Some(vpc) = networks.vpc_at(vpc).map(|at| &networks.info(at).network) else { return false };
    let mut holders = networks.holding(address).iter().map(|member| &networks.info(member.network).network);
    allowed.iter().any(|block| block.contains(&address))
        || (!is_link_local(address) && holders.any(|holder| networks.connectivity.reaches(vpc, holder)))
}

/// Returns an error for each check of an address outside the allowed networks. A manifest must not
/// make nodes scan other networks.
pub(super) fn outside(targets: &Targets, networks: &Networks, allowed: &[IpNet]) -> Vec<Problem> {
    let outside = targets.iter().filter_map(|target| {
        let (TargetId::Check(id), Work::Probe(probe)) = (&target.id, &target.work) else { return None };
        let address = probe.question.address.filter(|address| !may_check(*address, networks, allowed))?;
        let message = format!("{address} is in no network of the manifest");
        let mut problem = Problem::error("health_checks", id, "ip_address", message);
        problem.help = Some(
            "check an address of the manifest's networks, or list the address in `health.allow` of zonal.yaml".into(),
        );
        Some(problem)
    });
    outside.collect()
}

/// Returns all addresses of an endpoint's interfaces.
fn addresses(endpoint: &VpcEndpoint) -> impl Iterator<Item = IpAddr> {
    let both = endpoint.network_interfaces.iter().map(|i| [i.ipv4.map(IpAddr::V4), i.ipv6.map(IpAddr::V6)]);
    both.flatten().flatten()
}

fn work(check: &HealthCheck) -> Work {
    let Some(probe_type) = check.check_type.probe() else {
        return match check.check_type {
            HealthCheckType::Calculated => Work::Calculated {
                children: check.child_health_checks.clone(),
                threshold: check.health_threshold.unwrap_or_default(),
            },
            _ => Work::External {
                stale_after: check.stale_after.map(|seconds| Duration::from_secs(seconds.into())),
                when_stale: check.when_stale.unwrap_or_default(),
            },
        };
    };
    Work::Probe(Probe {
        question: ProbeQuestion {
            probe_type,
            address: check.ip_address,
            name: check.fully_qualified_domain_name.clone(),
            vpc: check.vpc_id.clone(),
            port: check.port.or(probe_type.default_port()).unwrap_or_default(),
            path: check.resource_path.as_deref().unwrap_or("/").into(),
            search: check.search_string.as_deref().map(Into::into),
            verify_certificate: check.verify_certificate,
            max_status: MAX_CHECK_STATUS,
        },
        interval: Duration::from_secs(check.request_interval.max(1).into()),
        timeout: Duration::from_secs(check.timeout.into()),
        failure_threshold: check.failure_threshold,
        success_threshold: check.success_threshold,
    })
}

fn interface_probe(
    check: &InterfaceHealthCheck,
    address: IpAddr,
    vpc: &Id,
    service: Option<&VpcEndpointService>,
) -> Probe {
    let private = service.and_then(|service| service.private_dns_names.iter().find(|name| !name.is_wildcard()));
    Probe {
        question: ProbeQuestion {
            probe_type: check.check_type,
            address: Some(address),
            name: check.fully_qualified_domain_name.as_ref().or(private).cloned(),
            vpc: Some(vpc.clone()),
            port: check.port.or(check.check_type.default_port()).unwrap_or_default(),
            path: check.resource_path.as_deref().unwrap_or("/").into(),
            search: check.search_string.as_deref().map(Into::into),
            verify_certificate: check.verify_certificate,
            max_status: MAX_INTERFACE_STATUS,
        },
        interval: Duration::from_secs(check.request_interval.max(1).into()),
        timeout: Duration::from_secs(check.timeout.into()),
        failure_threshold: check.failure_threshold,
        success_threshold: check.success_threshold,
    }
}

#[cfg(test)]
mod tests;
