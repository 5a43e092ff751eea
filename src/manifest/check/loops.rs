//! Forwarding loops: FORWARD rules to an entry point of this manifest, whose view forwards the
//! query back. Loops through servers that are not in the manifest cannot be found here.

use super::Checker;
use crate::{
    manifest::{Direction, Id, ResolverRule, RuleType, TargetAddress, connectivity::Network},
    wire::Name,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

const KIND: &str = "resolver_rules";
/// The largest number of rules in a loop that is searched for.
const MAX_RULES: usize = 50;

/// An entry point, by the view that it has for a forwarded query.
enum EntryPoint<'a> {
    /// The view is that of the client's VPC: this VPC, or one that is connected to it.
    Vpc(&'a Id),
    /// The view is that of the endpoint's VPC.
    Inbound { endpoint: &'a Id, vpc: &'a Id },
}

/// The entry points, rules and zones of a manifest, for the search of loops.
#[derive(Default)]
struct Map<'a> {
    entry_points: HashMap<IpAddr, EntryPoint<'a>>,
    /// The rules, by VPC and domain name.
    rules: HashMap<(&'a str, Name), &'a Id>,
    zones: HashSet<(&'a str, Name)>,
    /// The rules and zones of Profiles, by Profile and name.
    profile_rules: HashMap<(&'a str, Name), &'a Id>,
    profile_zones: HashSet<(&'a str, Name)>,
}

/// A step of a loop: a rule forwards to one of its targets, which has the view of a VPC.
struct Step<'a> {
    rule: &'a Id,
    target: usize,
    vpc: &'a Id,
}

impl<'a> Checker<'a> {
    /// Checks for forwarding loops. Each loop is reported once.
    pub(super) fn loops(&mut self) {
        let map = self.map();
        if map.entry_points.is_empty() {
            return;
        }
        let mut reported = BTreeSet::new();
        for (id, rule) in &self.manifest.resolver_rules {
            if !rule.enabled || rule.rule_type != RuleType::Forward {
                continue;
            }
            let mut path = Vec::new();
            let mut seen = BTreeSet::from([id]);
            if !self.leads_back(&map, id, id, &rule.domain_name, &mut path, &mut seen) {
                continue;
            }
            let mut members: Vec<&Id> = path.iter().map(|step| step.rule).collect();
            members.sort_unstable();
            if reported.insert(members) {
                self.report_loop(&map, &path);
            }
        }
    }

    /// The map of the manifest. Without a rule that forwards to an entry point, there are no loops, so the map is empty.
    fn map(&self) -> Map<'a> {
        let manifest = self.manifest;
        let mut map = Map::default();
        for (id, vpc) in manifest.vpcs.iter().filter(|(_, vpc)| vpc.enable_dns_support) {
            map.entry_points.extend(vpc.resolver_addresses.iter().map(|address| (*address, EntryPoint::Vpc(id))));
        }
        let inbound = manifest.resolver_endpoints.iter().filter(|(_, e)| e.direction == Direction::Inbound);
        for (id, endpoint) in inbound {
            let entry_point = |ip| (ip, EntryPoint::Inbound { endpoint: id, vpc: &endpoint.vpc_id });
            map.entry_points.extend(endpoint.ip_addresses.iter().map(|address| entry_point(address.ip)));
        }
        let mut targets = manifest.resolver_rules.values().flat_map(|rule| &rule.target_ips);
        if !targets.any(|target| map.entry_points.contains_key(&target.ip)) {
            return Map::default();
        }
        for (id, rule) in &manifest.resolver_rules {
            if rule.enabled && rule.rule_type != RuleType::Delegate {
                let domain = rule.domain_name.to_lowercase();
                map.rules.extend(rule.vpc_ids.iter().map(|vpc| ((&**vpc, domain.clone()), id)));
            }
        }
        for zone in manifest.private_hosted_zones.values().filter(|zone| !zone.fallthrough) {
            let name = zone.name.to_lowercase();
            map.zones.extend(zone.vpc_ids.iter().map(|vpc| (&**vpc, name.clone())));
        }
        for (id, profile) in &manifest.profiles {
            let rules = profile.resolver_rules.iter().filter_map(|rule| manifest.resolver_rules.get_key_value(rule));
            for (rule_id, rule) in rules.filter(|(_, rule)| rule.enabled && rule.rule_type != RuleType::Delegate) {
                map.profile_rules.entry((id, rule.domain_name.to_lowercase())).or_insert(rule_id);
            }
            let zones = profile.private_hosted_zones.iter().filter_map(|zone| manifest.private_hosted_zones.get(zone));
            let zones = zones.filter(|zone| !zone.fallthrough && !zone.public);
            map.profile_zones.extend(zones.map(|zone| (id.as_str(), zone.name.to_lowercase())));
        }
        map
    }

    /// Whether a query for `domain` that `rule` forwards reaches the rule `start`. `path` then has
    /// the steps to it.
    fn leads_back(
        &self,
        map: &Map<'a>,
        start: &'a Id,
        rule: &'a Id,
        domain: &Name,
        path: &mut Vec<Step<'a>>,
        seen: &mut BTreeSet<&'a Id>,
    ) -> bool {
        let Some(resource) = self.manifest.resolver_rules.get(rule).filter(|_| seen.len() <= MAX_RULES) else {
            return false;
        };
        for (at, target) in resource.target_ips.iter().enumerate() {
            let Some(vpc) = self.view(map, resource, target) else { continue };
            let Some(next) = self.forwards(map, vpc, domain) else { continue };
            path.push(Step { rule, target: at, vpc });
            if next == start || seen.insert(next) && self.leads_back(map, start, next, domain, path, seen) {
                return true;
            }
            path.pop();
        }
        false
    }

    /// The VPC whose view applies to a query of a rule to one of its targets, if that is an entry
    /// point.
    fn view(&self, map: &Map<'a>, rule: &'a ResolverRule, target: &TargetAddress) -> Option<&'a Id> {
        match map.entry_points.get(&target.ip)? {
            EntryPoint::Inbound { endpoint, vpc } => {
                let accepts = self.manifest.resolver_endpoints.get(endpoint)?.protocols.contains(&target.protocol);
                accepts.then_some(*vpc)
            }
            EntryPoint::Vpc(vpc) => {
                let source = rule.resolver_endpoint_id.as_ref();
                let source = source.and_then(|id| Some(&self.manifest.resolver_endpoints.get(id)?.vpc_id));
                match source {
                    Some(source) if source != *vpc => {
                        let (a, b) = (Network::Vpc(source.clone()), Network::Vpc((*vpc).clone()));
                        self.connectivity.reaches(&a, &b).then_some(source)
                    }
                    _ => Some(*vpc),
                }
            }
        }
    }

    /// The FORWARD rule that applies to queries of a VPC for a domain name. None if a zone or
    /// another rule applies.
    fn forwards(&self, map: &Map<'a>, vpc: &'a Id, domain: &Name) -> Option<&'a Id> {
        let profiles: Vec<&Id> = self.manifest.vpcs.get(vpc).into_iter().flat_map(|vpc| vpc.profile_ids()).collect();
        let mut has_system_rule = false;
        let mut at = Some(domain.to_lowercase());
        while let Some(name) = at {
            let own = (map.rules.get(&(&**vpc, name.clone())), map.zones.contains(&(&**vpc, name.clone())));
            let of_profiles = profiles.iter().map(|profile| {
                let key = (profile.as_str(), name.clone());
                (map.profile_rules.get(&key), map.profile_zones.contains(&key))
            });
            for (rule, is_zone) in [own].into_iter().chain(of_profiles) {
                if let Some(id) = rule {
                    match self.manifest.resolver_rules.get(id)?.rule_type {
                        RuleType::Forward if !has_system_rule => return Some(id),
                        RuleType::Recursive => return None,
                        RuleType::System => has_system_rule = true,
                        _ => {}
                    }
                }
                if is_zone {
                    return None;
                }
            }
            at = name.parent();
        }
        None
    }

    fn report_loop(&mut self, map: &Map<'a>, path: &[Step<'a>]) {
        let rules = &self.manifest.resolver_rules;
        let ip = |step: &Step| rules.get(step.rule).map(|rule: &Arc<ResolverRule>| rule.target_ips[step.target].ip);
        let entry_point = |step: &Step| match ip(step).map(|ip| (ip, map.entry_points.get(&ip))) {
            Some((ip, Some(EntryPoint::Inbound { endpoint, .. }))) => format!("{ip} of `{endpoint}`"),
            Some((ip, _)) => ip.to_string(),
            None => String::new(),
        };
        let Some(first) = path.first() else { return };
        let message = match path {
            [only] => format!(
                "forwarding loop: queries to {} have the view of `{}`, in which this rule forwards them back",
                entry_point(only),
                only.vpc
            ),
            _ => {
                let steps = path.iter().map(|step| format!("`{}` to {}", step.rule, entry_point(step)));
                format!("forwarding loop: {}, and from there back", steps.collect::<Vec<_>>().join(", "))
            }
        };
        self.warning(KIND, first.rule, format!("target_ips[{}].ip", first.target), message);
        if let [only] = path {
            let is_inbound =
                ip(only).is_some_and(|ip| matches!(map.entry_points.get(&ip), Some(EntryPoint::Inbound { .. })));
            let owner = if is_inbound { "of the inbound endpoint" } else { "of this resolver address" };
            let is_own = rules.get(only.rule).is_some_and(|rule| rule.vpc_ids.contains(only.vpc));
            self.help(match is_own {
                true => format!("remove `{}`, the VPC {owner}, from `vpc_ids`, or use other targets", only.vpc),
                false => {
                    format!("remove the rule from the Profile of `{}`, the VPC {owner}, or use other targets", only.vpc)
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{
        Manifest, Problem, check::check, connectivity::Connectivity, decode::decode, document, problem::Severity,
    };

    const AROUND: &str = "\
vpcs:
  a: {region: r, cidr_blocks: [10.1.0.0/16], resolver_addresses: [10.1.0.2]}
  b: {region: r, cidr_blocks: [10.2.0.0/16], resolver_addresses: [10.2.0.2]}
  c: {region: r, cidr_blocks: [10.3.0.0/16], resolver_addresses: [10.3.0.2]}
vpc_peering_connections: {p: {vpc_ids: [a, b]}}
private_hosted_zones:
  z: {name: zone.example, vpc_ids: [a]}
resolver_endpoints:
  in-b: {direction: INBOUND, vpc_id: b, ip_addresses: [{ip: 10.2.0.53}]}
  dot-b: {direction: INBOUND, vpc_id: b, protocols: [DoT], ip_addresses: [{ip: 10.2.0.55}]}
  del-b: {direction: INBOUND_DELEGATION, vpc_id: b, ip_addresses: [{ip: 10.2.0.56}]}
  out-a: {direction: OUTBOUND, vpc_id: a, ip_addresses: [{ip: 10.1.0.54}]}
  out-c: {direction: OUTBOUND, vpc_id: c, ip_addresses: [{ip: 10.3.0.54}]}
resolver_rules:
";

    /// The warnings of a manifest with these rules: identifier, domain name, VPCs, targets, and
    /// other fields.
    fn warnings(rules: &[(&str, &str, &str, &str, &str)]) -> Vec<String> {
        let mut text = String::from(AROUND);
        for (id, domain, vpcs, targets, more) in rules {
            let targets: Vec<String> = targets.split("; ").map(|ip| format!("{{ip: {ip}}}")).collect();
            let targets = targets.join(", ");
            text += &format!(
                "  {id}: {{domain_name: {domain}, rule_type: FORWARD, vpc_ids: [{vpcs}], target_ips: [{targets}]{more}}}\n"
            );
        }
        let manifest: Manifest = decode(&document::read(text.as_bytes(), false).0.unwrap()).unwrap();
        let problems = check(&manifest, &Connectivity::new(&manifest), 0);
        let of_rules = problems.iter().filter(|problem| {
            problem.severity == Severity::Error
                || problem.resource.as_ref().is_some_and(|(k, _)| *k == "resolver_rules")
        });
        of_rules.map(Problem::to_string).collect()
    }

    #[test]
    fn reports_each_forwarding_loop_once() {
        let direct = "warning: resolver_rules.r.target_ips[0].ip: forwarding loop: queries to 10.2.0.53 of `in-b` have the view \
                      of `b`, in which this rule forwards them back (remove `b`, the VPC of the inbound endpoint, from \
                      `vpc_ids`, or use other targets)";
        assert_eq!(warnings(&[("r", "x.example", "a, b", "10.2.0.53", "")]), [direct]);
        let own = warnings(&[("r", "x.example", "a", "192.0.2.1; 10.1.0.2", "")]);
        assert!(own[0].contains("r.target_ips[1].ip: forwarding loop: queries to 10.1.0.2 have the view of `a`"));
        assert!(own.len() == 1 && own[0].contains("remove `a`, the VPC of this resolver address, from"), "{own:?}");
        // The view at a VPC's entry point is that of the client's network: the VPC of the outbound
        // endpoint.
        assert_eq!(warnings(&[("r", "x.example", "a", "10.2.0.2", ", resolver_endpoint_id: out-a")]).len(), 1);
        // A loop through a wider rule is reported once, even if a third rule leads into it.
        let round = [
            ("one", "x.example", "a", "10.2.0.53", ""),
            ("two", ".", "b", "10.1.0.2", ""),
            ("three", "y.x.example", "c", "10.1.0.2", ""),
        ];
        assert_eq!(
            warnings(&round),
            [
                "warning: resolver_rules.one.target_ips[0].ip: forwarding loop: `one` to 10.2.0.53 of `in-b`, `two` to 10.1.0.2, and \
              from there back"
            ]
        );
    }

    #[test]
    fn accepts_forwarding_that_ends() {
        for rules in [
            vec![("r", "x.example", "a", "10.2.0.53", "")],
            vec![("r", "x.example", "a, b", "10.2.0.53", ", enabled: false")],
            // Not an entry point; the endpoint does not accept Do53; the VPC of the outbound
            // endpoint is not connected.
            vec![("r", "x.example", "a, b", "10.2.0.56", "")],
            vec![("r", "x.example", "a, b", "10.2.0.55", "")],
            vec![("r", "x.example", "a, b", "10.2.0.2", ", resolver_endpoint_id: out-c")],
            // In the other view, a zone or another rule applies.
            vec![("one", "zone.example", "b", "10.1.0.2", ""), ("two", "example", "a", "10.2.0.53", "")],
            vec![("one", "x.example", "a", "10.2.0.53", ""), ("two", "x.example", "b", "192.0.2.1", "")],
        ] {
            assert_eq!(warnings(&rules), [""; 0], "{rules:?}");
        }
    }

    #[test]
    fn warns_about_unusual_ports_and_missing_address_families() {
        let of = |target: &str, more: &str| warnings(&[("r", "x.example", "a", target, more)]);
        let port = |number: u16| format!("warning: resolver_rules.r.target_ips[0].port: port {number}");
        for (target, expected) in [
            ("192.0.2.1, protocol: DoT", Some((53, "853"))),
            ("192.0.2.1, protocol: DoH", Some((53, "443"))),
            ("192.0.2.1, protocol: DoQ, port: 853", None),
            ("192.0.2.1, port: 853", Some((853, "DoT"))),
            ("192.0.2.1, port: 5353", None),
        ] {
            let got = of(target, "");
            match expected {
                Some((number, help)) => {
                    assert!(got.len() == 1 && got[0].starts_with(&port(number)) && got[0].contains(help), "{got:?}");
                }
                None => assert_eq!(got, [""; 0]),
            }
        }
        assert_eq!(
            of("192.0.2.1; 'fd00::53'", ", resolver_endpoint_id: out-a"),
            [
                "warning: resolver_rules.r.resolver_endpoint_id: `out-a` has no IPv6 address, which the target fd00::53 needs"
            ]
        );
    }
}
