//! Routes: where a name goes that others answer for. A route is data; `crate::forward` goes it.

use crate::{
    manifest::{Id, Manifest, Protocol, ResolverRule, RuleType},
    wire::name::name_text,
};
use sha2::{Digest, Sha256};
use std::{fmt, net::IpAddr, sync::Arc};

/// What decides the answers that come by a route: two rules share them only if they ask the same servers from the same
/// addresses for the same domain. It is a digest, so that the same content has the same number in every snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub u128);

/// A way to those who answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its number.
    pub id: RouteId,
    /// The rule that it comes from, for people; empty for the internet resolver.
    pub rule: Id,
    /// The name that it is for, in lower case and wire format: nothing outside of it is believed of those who answer.
    pub domain: Box<[u8]>,
    /// Who is asked.
    pub servers: Servers,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// These ones.
    Targets {
        /// The servers.
        targets: Vec<Target>,
        /// The addresses that queries may come from: those of the outbound endpoint; empty for the node's own.
        sources: Vec<IpAddr>,
    },
    /// The name servers of a referral.
    NameServers {
        /// Their names, with those addresses that came with the referral.
        name_servers: Vec<NameServer>,
        /// The addresses that queries may come from: those of the outbound endpoint; empty for the node's own.
        sources: Vec<IpAddr>,
    },
    /// The authoritative servers of the Internet, from the root on.
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

/// A server that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The transport it is asked by.
    pub protocol: Protocol,
    /// The name that its certificate is checked against; without it, the address is.
    pub server_name: Option<Id>,
}

impl Route {
    /// A route, with the number that its content has.
    pub fn new(rule: Id, domain: Box<[u8]>, servers: Servers) -> Route {
        let mut digest = Sha256::new();
        digest.update(format!("{rule:?} {domain:?} {servers:?}"));
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        Route { id: RouteId(u128::from_be_bytes(id)), rule, domain, servers }
    }

    /// The route below a zone cut, to the name servers that a referral names; none unless one of these is at or below
    /// the name of a DELEGATE rule (AWS's delegation record), which says from where they are asked.
    pub fn delegation(rule: &Rule, domain: &[u8], name_servers: &[NameServer]) -> Option<Route> {
        let ends = |name: &NameServer| name_suffixes(&name.name).any(|suffix| *suffix == *rule.route.domain);
        if !name_servers.iter().any(ends) {
            return None;
        }
        let name_servers = name_servers.to_vec();
        let servers = Servers::NameServers { name_servers, sources: rule.route.servers.sources().to_vec() };
        Some(Route::new(rule.id.clone(), domain.into(), servers))
    }
}

/// The servers that the rules of a manifest name, with the rule, the addresses that they are asked from and the outbound
/// endpoint that has these, if there is one.
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

/// A name and all that it is below, the root left out.
fn name_suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
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

/// A Resolver rule, made ready.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its identifier.
    pub id: Id,
    /// What the manifest says.
    pub resource: Arc<ResolverRule>,
    /// Where names go by it: those of FORWARD rules, and what DELEGATE rules follow.
    pub route: Arc<Route>,
}

impl Rule {
    /// Makes a rule ready.
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
            _ => Servers::Targets { targets: targets.collect(), sources },
        };
        Rule { id: id.clone(), resource: resource.clone(), route: Arc::new(Route::new(id.clone(), domain, servers)) }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Servers::Recursion => f.write_str("the authoritative servers, from the root on"),
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
    /// A server by its address alone.
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
