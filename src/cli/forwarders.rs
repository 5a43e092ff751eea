//! `zonal forwarders`: prints the configuration with which an on-premises server forwards the names of the VPCs to the inbound
//! endpoints. A name is forwarded if zonal answers it there from its own data.

mod formats;

use super::{ForwardersArguments, apply, check, print_error, print_result, report::print_problems, target::Target};
use crate::{
    clock::now,
    config::{Config, Source},
    explain::{Question, Request, of_manifest},
    manifest::{Direction, Manifest, Protocol, Vpc, problem::printable},
    snapshot::Snapshot,
    wire::Name,
};
use anyhow::Context;
use clap::ValueEnum;
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::ExitCode,
    sync::Arc,
};

/// A label that no resource has, for queries that match wildcards.
const PROBE_LABEL: &str = "zonal-forwarders";
/// A block with more reverse zones than this is left out.
const MAX_REVERSE_ZONES: usize = 256;

/// The DNS servers that `forwarders` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Software {
    /// BIND 9.18
    Bind,
    /// Unbound
    Unbound,
    /// dnsmasq
    Dnsmasq,
    /// Knot Resolver 5
    KnotResolver,
    /// dnsdist 1.7
    Dnsdist,
    /// systemd-resolved
    SystemdResolved,
    /// CoreDNS
    Coredns,
    /// Windows DNS Server
    Windows,
}

/// The reason for forwarding a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// A private name of a service.
    PrivateName,
    /// A domain that endpoints have their own names below.
    EndpointName,
    /// A domain that machines have their names below.
    Machine,
    /// A reverse zone.
    Reverse,
    /// A private hosted zone.
    HostedZone,
}

impl Reason {
    /// The sentence of the comment.
    fn sentence(self) -> &'static str {
        match self {
            Reason::PrivateName => "Private names of services.",
            Reason::EndpointName => {
                "The endpoints' own names are below these. CNAME records and aliases of private names lead to them."
            }
            Reason::Machine => "Names of machines.",
            Reason::Reverse => "Reverse zones: names of the machines' addresses.",
            Reason::HostedZone => "Private hosted zones.",
        }
    }
}

/// The names that are forwarded to the same addresses.
struct Forwarding {
    /// The inbound endpoints whose addresses these are.
    endpoints: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Names without a dot at the end, with the reason for each; none is below another one.
    names: BTreeMap<Reason, Vec<String>>,
}

impl Forwarding {
    /// All names, in the order of the reasons.
    fn all(&self) -> impl Iterator<Item = &str> {
        self.names.values().flatten().map(String::as_str)
    }

    /// All names but those of addresses.
    fn forward(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .filter(|(reason, _)| **reason != Reason::Reverse)
            .flat_map(|(_, names)| names)
            .map(String::as_str)
    }

    /// The names of addresses.
    fn reverse(&self) -> impl Iterator<Item = &str> {
        self.names.get(&Reason::Reverse).into_iter().flatten().map(String::as_str)
    }
}

/// Runs the command. Exit status 1 if the manifest has errors, or no inbound endpoint.
pub(super) fn run(arguments: &ForwardersArguments) -> ExitCode {
    text(arguments).transpose().map_or(ExitCode::FAILURE, print_result)
}

/// The text to print; none if problems were reported instead.
fn text(arguments: &ForwardersArguments) -> anyhow::Result<Option<String>> {
    let Some(snapshot) = snapshot(arguments)? else { return Ok(None) };
    let forwardings = forwardings(&snapshot, &arguments.endpoint)?;
    formats::text(arguments.software, arguments.trust_anchors, &forwardings).map(Some)
}

/// The compiled manifest that the arguments name; none if its problems were reported.
fn snapshot(arguments: &ForwardersArguments) -> anyhow::Result<Option<Snapshot>> {
    let target = &arguments.target;
    let directory = match &arguments.directory {
        Some(directory) => Some(directory.clone()),
        None if target.etcd.is_some() || target.server.is_some() => None,
        None => match Config::load(target.config.config.as_deref()) {
            Ok(config) => match config.control_plane.source() {
                Source::Directory(directory) => Some(directory.to_path_buf()),
                Source::Etcd(_) | Source::Push => None,
            },
            Err(problems) => {
                print_problems(problems);
                return Ok(None);
            }
        },
    };
    let Some(directory) = directory else {
        let state = Target::new(target)?.read()?;
        let compiled = apply::compiled(&state.collection);
        return compiled
            .map(Some)
            .context("the manifest has errors: run `zonal export` and then `zonal check` to list them");
    };
    match check::examine(&directory, &[], &Arc::default()).0 {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(problems) => {
            print_problems(problems);
            Ok(None)
        }
    }
}

/// The names to forward, by addresses. If several VPCs' inbound endpoints answer a name, the first VPC's are used.
fn forwardings(snapshot: &Snapshot, wanted: &[String]) -> anyhow::Result<Vec<Forwarding>> {
    let manifest = &snapshot.manifest;
    for id in wanted {
        if manifest.resolver_endpoints.get(id).is_none_or(|endpoint| endpoint.direction != Direction::Inbound) {
            anyhow::bail!("there is no inbound endpoint `{id}` in the manifest");
        }
    }
    let mut by_vpc: BTreeMap<&str, Forwarding> = BTreeMap::new();
    for (id, endpoint) in &manifest.resolver_endpoints {
        if endpoint.direction != Direction::Inbound || !wanted.is_empty() && !wanted.contains(id) {
            continue;
        }
        if !endpoint.protocols.is_empty() && !endpoint.protocols.contains(&Protocol::Do53) {
            print_error(printable(&format!(
                "{id} is left out: it does not accept Do53, which the printed configuration uses"
            )));
            continue;
        }
        let forwarding = by_vpc.entry(&endpoint.vpc_id).or_insert_with(|| Forwarding {
            endpoints: Vec::new(),
            addresses: Vec::new(),
            names: BTreeMap::new(),
        });
        forwarding.endpoints.push(id.clone());
        forwarding.addresses.extend(endpoint.ip_addresses.iter().map(|address| address.ip));
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (vpc_id, forwarding) in &mut by_vpc {
        let Some(vpc) = manifest.vpcs.get(vpc_id) else { continue };
        let Some(entry_point) = forwarding.addresses.first().copied() else { continue };
        let allowed = forwarding.endpoints.iter().flat_map(|id| &manifest.resolver_endpoints[id].allowed_cidr_blocks);
        let clients = allowed.chain(&vpc.cidr_blocks).copied();
        let view = View { snapshot, clients: clients.collect(), entry_point };
        let names = view.names(manifest, vpc_id, vpc);
        for (name, reason) in topmost(names) {
            if taken.insert(name.clone()) {
                forwarding.names.entry(reason).or_default().push(name);
            }
        }
    }
    let all: Vec<Forwarding> = by_vpc.into_values().filter(|forwarding| !forwarding.names.is_empty()).collect();
    anyhow::ensure!(
        !all.is_empty(),
        "the manifest has no inbound endpoint that answers names: add one to `resolver_endpoints`, with `direction: INBOUND`"
    );
    Ok(all)
}

/// Names that can be written into any configuration, without those that are below others; in order.
fn topmost(mut names: BTreeMap<Name, Reason>) -> Vec<(String, Reason)> {
    if names.keys().any(Name::is_root) {
        print_error("the zone `.` is left out: it would forward all names");
        names.retain(|name, _| !name.is_root());
    }
    let all: Vec<&Name> = names.keys().collect();
    let is_below =
        |name: &Name| std::iter::successors(name.parent(), Name::parent).any(|parent| names.contains_key(&parent));
    let mut top = Vec::new();
    for name in all {
        let text = name.to_string().trim_end_matches('.').to_ascii_lowercase();
        let is_plain = !text.is_empty()
            && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.'));
        if !is_plain {
            print_error(printable(&format!(
                "{name} is left out: it needs quoting that depends on the server; add it by hand"
            )));
        } else if !is_below(name) {
            top.push((text, names[name]));
        }
    }
    top.sort_by(|(a, _), (b, _)| a.cmp(b));
    top
}

/// The answers that an inbound endpoint gives to its clients.
struct View<'a> {
    snapshot: &'a Snapshot,
    /// CIDR blocks of the clients that the endpoint answers.
    clients: Vec<IpNet>,
    entry_point: IpAddr,
}

impl View<'_> {
    fn names(&self, manifest: &Manifest, vpc_id: &str, vpc: &Vpc) -> BTreeMap<Name, Reason> {
        let mut names: BTreeMap<Name, Reason> = BTreeMap::new();
        for zone in manifest.private_hosted_zones.values().filter(|zone| zone.vpc_ids.iter().any(|id| id == vpc_id)) {
            names.insert(zone.name.clone(), Reason::HostedZone);
        }
        for service in manifest.vpc_endpoint_services.values() {
            for private in &service.private_dns_names {
                let bare = if private.is_wildcard() { private.parent() } else { Some(private.clone()) };
                let probe = match private.is_wildcard() {
                    true => bare.as_ref().and_then(|bare| bare.child(PROBE_LABEL.as_bytes()).ok()),
                    false => bare.clone(),
                };
                if let (Some(bare), Some(probe)) = (bare, probe)
                    && self.is_own(&probe)
                {
                    names.entry(bare).or_insert(Reason::PrivateName);
                }
            }
        }
        for (id, endpoint) in &manifest.vpc_endpoints {
            let Some(service) = manifest.vpc_endpoint_services.get(&endpoint.service_name) else { continue };
            let label = endpoint.dns_name_suffix.as_ref().map_or(id.clone(), |suffix| format!("{id}-{suffix}"));
            if !names.contains_key(&service.dns_name)
                && service.dns_name.child(label.as_bytes()).is_ok_and(|name| self.is_own(&name))
            {
                names.insert(service.dns_name.clone(), Reason::EndpointName);
            }
        }
        // The VPC itself, and the VPCs whose host names it answers.
        let others = manifest.vpcs.values().map(|other| &**other);
        for block in std::iter::once(vpc).chain(others).flat_map(|vpc| &vpc.cidr_blocks) {
            let Some(host) = host(block) else { continue };
            let Some(pointer) = self.answer(&reverse_name(host, 0), "PTR") else { continue };
            let Some(machine) = pointer.first().and_then(|record| record.rsplit(' ').next()) else { continue };
            if let Some(domain) =
                Name::absolute(machine).ok().filter(|_| pointer[0].contains(" PTR ")).and_then(|name| name.parent())
            {
                names.entry(domain).or_insert(Reason::Machine);
                let zones = reverse_zones(block);
                if zones.len() > MAX_REVERSE_ZONES {
                    print_error(format_args!(
                        "the reverse zones of {block} are left out: there are more than {MAX_REVERSE_ZONES}"
                    ));
                    continue;
                }
                let zones = zones.iter().filter_map(|zone| Name::absolute(zone).ok());
                for zone in zones {
                    names.entry(zone).or_insert(Reason::Reverse);
                }
            }
        }
        names
    }

    /// Whether zonal answers a name from its own data.
    fn is_own(&self, name: &Name) -> bool {
        self.answer(&name.to_string(), "A").is_some()
    }

    /// The records of an answer from zonal's own data, or `no data`. None if the name does not exist, or is forwarded.
    fn answer(&self, name: &str, rtype: &str) -> Option<Vec<String>> {
        let from =
            self.clients.iter().filter(|block| block.addr().is_ipv4() == self.entry_point.is_ipv4()).find_map(host)?;
        let (name, rtype) = (name.to_string(), rtype.to_string());
        let request = Request { from, to: Some(self.entry_point), via: None, name, rtype, resolve: false };
        let gist = of_manifest(self.snapshot, &Question::new(&request).ok()?, now()).summary();
        gist.first()
            .is_some_and(|first| first == "no data" || first.contains(' ') && !first.starts_with("forwarded "))
            .then_some(gist)
    }
}

/// An address in a block that a host is likely to have.
fn host(block: &IpNet) -> Option<IpAddr> {
    block.hosts().nth(9).or_else(|| block.hosts().next())
}

/// The name of an address, as PTR records have it, without its first labels.
pub(super) fn reverse_name(address: IpAddr, without: usize) -> String {
    let labels: Vec<String> = match address {
        IpAddr::V4(address) => address.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(address) => address
            .octets()
            .iter()
            .rev()
            .flat_map(|octet| [octet & 15, octet >> 4])
            .map(|nibble| format!("{nibble:x}"))
            .collect(),
    };
    let top = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    labels[without.min(labels.len())..].iter().map(String::as_str).chain([top]).collect::<Vec<_>>().join(".")
}

/// The reverse zones of a block, at octets of IPv4 and nibbles of IPv6. A block smaller than a /24 has the zone of the /24.
fn reverse_zones(block: &IpNet) -> Vec<String> {
    let unit = if block.addr().is_ipv4() { 8 } else { 4 };
    let (max, all) = (block.max_prefix_len() / unit * unit, block.max_prefix_len());
    let longest = if block.addr().is_ipv4() { 24 } else { max };
    let prefix = (block.prefix_len().div_ceil(unit) * unit).clamp(unit, longest);
    let parts: Vec<IpAddr> = match block.subnets(prefix) {
        Ok(subnets) => subnets.take(MAX_REVERSE_ZONES + 1).map(|subnet| subnet.addr()).collect(),
        // The block is smaller than a zone.
        Err(_) => vec![block.addr()],
    };
    parts.into_iter().map(|part| reverse_name(part, usize::from((all - prefix) / unit))).collect()
}

/// The built-in empty zone of BIND that would hide a zone at or below it. None if there is none.
fn empty_zone(zone: &str) -> Option<String> {
    let fixed = ["10.in-addr.arpa", "168.192.in-addr.arpa", "254.169.in-addr.arpa", "127.in-addr.arpa", "d.f.ip6.arpa"];
    let is_within = |other: &str| zone == other || zone.ends_with(&format!(".{other}"));
    let many = (16..32).map(|octet| format!("{octet}.172.in-addr.arpa"));
    let many = many.chain((64..128).map(|octet| format!("{octet}.100.in-addr.arpa")));
    fixed.into_iter().map(String::from).chain(many).find(|other| is_within(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_zones_are_at_octets_and_nibbles() {
        for (block, expected) in [
            ("10.2.0.0/16", &["2.10.in-addr.arpa"][..]),
            ("10.2.4.0/23", &["4.2.10.in-addr.arpa", "5.2.10.in-addr.arpa"]),
            ("10.2.4.64/26", &["4.2.10.in-addr.arpa"]),
            ("10.0.0.0/8", &["10.in-addr.arpa"]),
        ] {
            assert_eq!(reverse_zones(&block.parse().unwrap()), expected, "{block}");
        }
        let zones = reverse_zones(&"fd00:a::/55".parse().unwrap());
        assert_eq!(zones, ["0.0.0.0.0.0.a.0.0.0.0.0.d.f.ip6.arpa", "1.0.0.0.0.0.a.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(reverse_name(IpAddr::from([10, 1, 2, 3]), 0), "3.2.1.10.in-addr.arpa");
        assert!(reverse_name("fd00::1".parse().unwrap(), 0).starts_with("1.0.0.0."));
        assert!(reverse_name("fd00::1".parse().unwrap(), 0).ends_with(".0.0.d.f.ip6.arpa"));
    }

    #[test]
    fn finds_empty_zones_of_bind() {
        assert_eq!(empty_zone("2.10.in-addr.arpa").as_deref(), Some("10.in-addr.arpa"));
        assert_eq!(empty_zone("31.172.in-addr.arpa").as_deref(), Some("31.172.in-addr.arpa"));
        assert_eq!(empty_zone("5.32.172.in-addr.arpa"), None);
        assert_eq!(empty_zone("110.in-addr.arpa"), None);
    }

    #[test]
    fn forwards_the_names_of_the_demo() {
        let snapshot = check::examine(std::path::Path::new("zones"), &[], &Arc::default()).0.unwrap();
        let forwardings = forwardings(&snapshot, &[]).unwrap();
        assert_eq!(forwardings.len(), 1);
        let names: Vec<&str> = forwardings[0].all().collect();
        for name in [
            "sqs.us-east-1.amazonaws.com",
            "s3.us-east-1.amazonaws.com",
            "lambda.us-east-1.api.aws",
            "api.saas.example",
            "sqs.us-east-1.vpce.amazonaws.com",
            "vpce-svc-0saas.us-east-1.vpce.amazonaws.com",
            "corp.example.com",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(!names.contains(&"onprem.example.net"), "{names:?}");
        assert!(super::forwardings(&snapshot, &["none".into()]).is_err());
    }
}
