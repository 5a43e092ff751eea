//! Health targets: the addresses that are checked, and the verdicts that answers read.
//!
//! The interfaces of the snapshot share a verdict with the room that checks ([`health`](crate::health)). A change of health
//! writes the verdict: it compiles nothing, and makes no new generation. A target keeps its verdict in later snapshots as long
//! as its question is the same.
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
    snapshot::{endpoints::has_names, networks::Networks},
    wire::Name,
};
use imbl::OrdMap;
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// The number of attempts that a report remembers.
pub const REMEMBERED_ATTEMPTS: usize = 3;
/// The highest status of an HTTP response that is a success of a health check, as in Route 53.
const MAX_CHECK_STATUS: u16 = 399;
/// The same for an endpoint's interface: AWS services answer requests without credentials with 403.
const MAX_INTERFACE_STATUS: u16 = 499;

/// The identifier of a target.
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

/// The way in which a verdict is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// zonal sends requests to the target.
    Probe(Probe),
    /// zonal counts the healthy ones of other checks.
    Calculated {
        /// The checks.
        children: Vec<Id>,
        /// The number of them that must be healthy.
        threshold: u16,
    },
    /// Another program reports the health.
    External {
        /// The age at which a report is stale.
        stale_after: Option<Duration>,
        /// The state that a stale report counts as.
        when_stale: WhenStale,
    },
}

/// The question to a target, and its timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The question.
    pub question: ProbeQuestion,
    /// The time between two attempts.
    pub interval: Duration,
    /// The time limit for connecting.
    pub timeout: Duration,
    /// Consecutive failures that make the target unhealthy.
    pub failure_threshold: u8,
    /// Consecutive successes that make the target healthy.
    pub success_threshold: u8,
}

/// The question to a target. A target with a changed question is a new target.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeQuestion {
    /// The kind of request.
    pub probe_type: ProbeType,
    /// The address; none if `name` is resolved.
    pub address: Option<IpAddr>,
    /// The name in the Host header and in SNI.
    pub name: Option<Name>,
    /// The VPC that the attempt leaves from.
    pub vpc: Option<Id>,
    /// The port.
    pub port: u16,
    /// The path of an HTTP request.
    pub path: Box<str>,
    /// Octets that the body must contain.
    pub search: Option<Box<str>>,
    /// Whether the certificate must be valid.
    pub verify_certificate: bool,
    /// The highest status that is a success.
    pub max_status: u16,
}

/// A target that is checked.
#[derive(Debug)]
pub struct Target {
    /// Its identifier.
    pub id: TargetId,
    /// The way in which its verdict is found.
    pub work: Work,
    /// Whether success and failure are swapped.
    pub inverted: bool,
    /// Whether it counts as healthy without a check.
    pub disabled: bool,
    /// Its verdict.
    pub verdict: Verdict,
}

/// A verdict: whether answers use the target, and how that came about. All copies are one; equality is identity.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_unhealthy: AtomicBool,
    report: Mutex<Report>,
}

impl PartialEq for Verdict {
    fn eq(&self, other: &Verdict) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Verdict {
    /// Whether answers use the target. A target of which nothing is known is used.
    #[inline]
    pub fn is_healthy(&self) -> bool {
        !self.0.is_unhealthy.load(Relaxed)
    }

    /// Sets whether answers use the target from now on.
    pub fn set(&self, is_healthy: bool) {
        self.0.is_unhealthy.store(!is_healthy, Relaxed);
    }

    /// The report behind the verdict. Answers do not read it.
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The target has never been healthy since it is known. It counts as healthy.
    #[default]
    Unknown,
    /// The target is healthy.
    Healthy,
    /// The target is unhealthy.
    Unhealthy,
}

impl State {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }

    /// The state that a word names.
    pub fn of_word(word: &str) -> Option<State> {
        [State::Unknown, State::Healthy, State::Unhealthy].into_iter().find(|state| state.word() == word)
    }

    /// Whether it counts as healthy.
    pub fn counts_as_healthy(self) -> bool {
        self != State::Unhealthy
    }
}

/// The report behind a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The result of the check.
    pub state: State,
    /// The time of the last change of `state`, in seconds since 1970; 0 before the first change.
    pub since: i64,
    /// The last attempts, the newest first; at most [`REMEMBERED_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// The verdict that an operator has set; none if the check decides.
    pub forced: Option<Forced>,
    /// The time until which the target counts as unhealthy because its health changes too often, in seconds since 1970.
    pub held_until: Option<i64>,
    /// Whether the node is cut off, so that the verdict does not follow the attempts.
    pub is_frozen: bool,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The time at which it ended, in seconds since 1970.
    pub at: i64,
    /// Whether it counts as a success.
    pub is_success: bool,
    /// The answer of the target, or the reason why there was none.
    pub result: Box<str>,
}

/// A verdict that an operator has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The verdict.
    pub is_healthy: bool,
    /// The time at which it ends, in seconds since 1970.
    pub until: i64,
}

/// All targets, by identifier.
#[derive(Clone, Debug, Default)]
pub struct Targets(OrdMap<TargetId, Arc<Target>>);

impl Targets {
    /// Compiles the targets of a manifest. These are the targets of `previous`: unchanged ones are shared.
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

    /// Adds a target. It keeps its verdict if its question has not changed.
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
        let verdict = old.filter(is_same).map(|old| old.verdict.clone()).unwrap_or_default();
        self.0.insert(id.clone(), Arc::new(Target { id, work, inverted, disabled, verdict }));
    }

    /// The target with an identifier.
    pub fn get(&self, id: &TargetId) -> Option<&Arc<Target>> {
        self.0.get(id)
    }

    /// The verdict of an interface's address; none if it is not checked.
    pub fn of_interface(&self, endpoint: &str, address: IpAddr) -> Option<Verdict> {
        if self.0.is_empty() {
            return None;
        }
        let id = TargetId::Interface { endpoint: endpoint.into(), address };
        self.0.get(&id).map(|target| target.verdict.clone())
    }

    /// All targets, in the order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.0.values()
    }

    /// The number of targets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are the same targets in memory as those of another snapshot.
    pub fn is_same(&self, other: &Targets) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

/// Whether an address is link-local, multicast or broadcast. Clouds have their metadata services at such addresses, so health
/// checks ask them only if the node's configuration allows it.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.is_multicast() || address.segments()[..3] == [0xfd00, 0xec2, 0]
        }
    }
}

/// Whether a health check may ask an address: it is in a network of the manifest, or in `allowed`.
pub(super) fn may_check(address: IpAddr, networks: &Networks, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|block| block.contains(&address))
        || (!is_link_local(address) && !networks.holding(address).is_empty())
}

/// An error for each check of an address that it may not ask: a manifest must not make nodes scan other networks.
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

/// All addresses of an endpoint's interfaces.
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
