//! Routes: the servers that answer for a domain. A route is data: [`forward`](crate::forward) asks its servers.

use crate::{
    manifest::{Id, Manifest, Protocol, ResolverRule, RuleType},
    wire::name::name_text,
};
use sha2::{Digest, Sha256};
use std::{fmt, net::IpAddr, sync::Arc};

/// The number of a route, under which the cache keeps answers. It is a digest of the route, so that two rules share answers
/// only if they ask the same servers from the same addresses for the same domain, in every snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub u128);

/// The servers that answer for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its number.
    pub id: RouteId,
    /// The identifier of its rule; empty for the internet resolver.
    pub rule: Id,
    /// Its domain, in lower case and wire format. zonal discards records outside of it.
    pub domain: Box<[u8]>,
    /// The servers.
    pub servers: Servers,
}

/// The servers of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// The targets of a FORWARD rule, or of the node's configuration.
    Targets {
        /// The servers.
        targets: Vec<Target>,
        /// The addresses that queries may come from: those of the outbound endpoint; empty for the node's own.
        sources: Vec<IpAddr>,
        /// Whether AD in their answers is passed on: they validate, and all of them are on loopback.
        trust_ad: bool,
    },
    /// The name servers of a referral.
    NameServers {
        /// Their names, with the addresses that came with the referral.
        name_servers: Vec<NameServer>,
        /// The addresses that queries may come from: those of the outbound endpoint; empty for the node's own.
        sources: Vec<IpAddr>,
    },
    /// The authoritative servers of the Internet, starting at the root.
    Recursion,
}

/// A name server of a referral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its name, in lower case and wire format.
    pub name: Box<[u8]>,
    /// Its addresses, if they are known.
    pub addresses: Vec<IpAddr>,
}

/// A server of a FORWARD rule or of the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The protocol that it is asked by.
    pub protocol: Protocol,
    /// The name in its certificate; none: the certificate has its address.
    pub server_name: Option<Id>,
}

impl Route {
    /// Makes a route, and its number from its content.
    pub fn new(rule: Id, domain: Box<[u8]>, servers: Servers) -> Route {
        let mut digest = Sha256::new();
        digest.update(format!("{rule:?} {domain:?} {servers:?}"));
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        Route { id: RouteId(u128::from_be_bytes(id)), rule, domain, servers }
    }
}

/// The targets of all FORWARD rules of a manifest, each with its rule, the source addresses of its queries, and the outbound
/// endpoint that has these addresses.
pub fn named_targets(manifest: &Manifest) -> impl Iterator<Item = (&Id, Target, Vec<IpAddr>, Option<&Id>)> {
    let forwards = manifest.resolver_rules.iter().filter(|(_, rule)| rule.rule_type == RuleType::Forward);
    forwards.flat_map(|(id, resource)| {
        let rule = Rule::new(manifest, id, resource);
        let targets = match &rule.route.servers {
            Servers::Targets { targets, .. } => targets.clone(),
            _ => Vec::new(),
        };
        let sources = rule.route.servers.sources().to_vec();
        targets.into_iter().map(move |target| (id, target, sources.clone(), resource.resolver_endpoint_id.as_ref()))
    })
}

/// A name and all names above it, without the root.
pub(super) fn name_suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| name.get(1 + usize::from(*name.first()?)..)).take_while(|n| n.len() > 1)
}

impl Servers {
    /// The addresses that queries may come from; empty for the node's own.
    pub fn sources(&self) -> &[IpAddr] {
        match self {
            Servers::Targets { sources, .. } | Servers::NameServers { sources, .. } => sources,
            Servers::Recursion => &[],
        }
    }
}

/// A compiled resolver rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its identifier.
    pub id: Id,
    /// The rule in the manifest.
    pub resource: Arc<ResolverRule>,
    /// Its route. That of a DELEGATE rule gives the source addresses of queries for referrals.
    pub route: Arc<Route>,
}

impl Rule {
    /// Compiles a rule.
    pub fn new(manifest: &Manifest, id: &Id, resource: &Arc<ResolverRule>) -> Rule {
        let endpoint = resource.resolver_endpoint_id.as_ref().and_then(|id| manifest.resolver_endpoints.get(id));
        let sources = endpoint.map_or(Vec::new(), |endpoint| endpoint.ip_addresses.iter().map(|a| a.ip).collect());
        let targets = resource.target_ips.iter().map(|target| Target {
            ip: target.ip,
            port: target.port,
            protocol: target.protocol,
            server_name: target.server_name_indication.clone(),
        });
        let domain = resource.domain_name.to_lowercase().as_wire().into();
        let servers = match resource.rule_type {
            RuleType::Recursive => Servers::Recursion,
            _ => Servers::Targets { targets: targets.collect(), sources, trust_ad: false },
        };
        Rule { id: id.clone(), resource: resource.clone(), route: Arc::new(Route::new(id.clone(), domain, servers)) }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Servers::Recursion => f.write_str("the authoritative servers, starting at the root"),
            Servers::NameServers { name_servers, .. } => {
                for (at, server) in name_servers.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { " or " }, name_text(&server.name))?;
                }
                Ok(())
            }
            Servers::Targets { targets, .. } => {
                for (at, target) in targets.iter().enumerate() {
                    write!(f, "{}{target}", if at == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
        }
    }
}

impl Target {
    /// A server on port 53, by UDP and TCP.
    pub fn do53(ip: IpAddr) -> Target {
        Target { ip, port: 53, protocol: Protocol::Do53, server_name: None }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.ip, self.port)?;
        if self.protocol != Protocol::Do53 {
            write!(f, " by {}", self.protocol)?;
        }
        match &self.server_name {
            Some(name) => write!(f, " as {name}"),
            None => Ok(()),
        }
    }
}
