//! Checks of Profiles, and of their associations with VPCs.
//!
//! A Profile that cannot be served would take all its VPCs along. So a member that zonal cannot use is a warning: the Profile
//! is served without it.

use super::{Checker, endpoints::has_private_names, key_of};
use crate::{
    manifest::{
        Id, Profile, ResolverRule, Resources, RuleType, Vpc,
        connectivity::{Network, ReachKey},
        profiles::DEFAULT_PRIORITY,
    },
    wire::Name,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const KIND: &str = "profiles";
/// The number of members with the name of another resource that are reported.
const MAX_REPORTED: usize = 100;

/// The VPCs of each Profile.
type VpcsOf<'a> = HashMap<&'a Id, Vec<&'a Id>>;

/// A member of a Profile that answers for a name.
struct Member<'a> {
    profile: &'a Id,
    field: String,
    name: &'a Name,
    kind: MemberKind,
    id: &'a Id,
}

impl Member<'_> {
    /// Whether it takes the name from another member, if its Profile comes first. Of several endpoints, the client's networks
    /// decide.
    fn comes_before(&self, other: &Member) -> bool {
        let are_endpoints = self.kind == MemberKind::Endpoint && other.kind == MemberKind::Endpoint;
        (self.kind, self.id) != (other.kind, other.id) && !are_endpoints
    }
}

/// The kinds of members, in the order of their precedence at one name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MemberKind {
    Rule,
    Zone,
    Endpoint,
}

impl MemberKind {
    fn word(self) -> &'static str {
        match self {
            MemberKind::Rule => "rule",
            MemberKind::Zone => "zone",
            MemberKind::Endpoint => "endpoint",
        }
    }
}

/// The members of all Profiles, by their names.
type ByName<'a> = BTreeMap<Box<[u8]>, Vec<Member<'a>>>;

/// Whether a rule answers for a name: a SYSTEM rule forwards nothing, and a DELEGATE rule applies to referrals.
fn answers(rule: &ResolverRule) -> bool {
    rule.enabled && matches!(rule.rule_type, RuleType::Forward | RuleType::Recursive)
}

impl<'a> Checker<'a> {
    /// Checks the associations of a VPC with Profiles.
    pub(super) fn profiles_of_vpc(&mut self, id: &str, vpc: &'a Vpc) {
        const KIND: &str = "vpcs";
        let known = &self.manifest.profiles;
        let mut seen: BTreeMap<&Id, String> = BTreeMap::new();
        let mut priorities: BTreeMap<u32, &Id> = BTreeMap::new();
        let deprecated = vpc.profile_id.iter().map(|profile| ("profile_id".to_string(), profile, DEFAULT_PRIORITY));
        let all = vpc.profiles.iter().enumerate().map(|(at, association)| {
            (format!("profiles[{at}].profile_id"), &association.profile_id, association.priority)
        });
        for (field, profile, priority) in deprecated.chain(all) {
            self.reference((KIND, id), &field, "Profile", profile, known);
            if field == "profile_id" {
                self.warning(KIND, id, &field, "the field is deprecated");
                self.help(format!("write `profiles: [{{profile_id: {profile}}}]`"));
            }
            if let Some(first) = seen.get(profile) {
                self.error(KIND, id, &field, format!("the VPC has Profile `{profile}` already, by `{first}`"));
                continue;
            }
            match priorities.get(&priority) {
                Some(other) => {
                    let field = field.replace(".profile_id", ".priority");
                    self.error(KIND, id, field, format!("Profile `{other}` has priority {priority} in this VPC too"));
                    self.help("give each Profile of a VPC its own priority");
                }
                None => drop(priorities.insert(priority, profile)),
            }
            seen.insert(profile, field);
        }
    }

    /// Whether a Profile has a resource as its member.
    pub(super) fn is_in_profile(&mut self, kind: &'static str, id: &str) -> bool {
        let manifest = self.manifest;
        let members: &HashSet<_> = self.in_profiles.get_or_insert_with(|| {
            let mut members = HashSet::new();
            for profile in manifest.profiles.values() {
                members.extend(profile.private_hosted_zones.iter().map(|id| ("private_hosted_zones", id.as_str())));
                members.extend(profile.resolver_rules.iter().map(|id| ("resolver_rules", id.as_str())));
                members.extend(profile.query_log_configs.iter().map(|id| ("query_log_configs", id.as_str())));
                let groups = profile.firewall_rule_groups.iter();
                members.extend(groups.map(|group| ("firewall_rule_groups", group.id.as_str())));
            }
            members
        });
        members.contains(&(kind, id))
    }

    pub(super) fn profiles(&mut self) {
        let manifest = self.manifest;
        if manifest.profiles.is_empty() {
            return;
        }
        let mut vpcs: VpcsOf = HashMap::new();
        for (id, vpc) in &manifest.vpcs {
            for profile in vpc.profile_ids() {
                vpcs.entry(profile).or_default().push(id);
            }
        }
        let mut by_name = ByName::new();
        for (id, profile) in &manifest.profiles {
            let own = vpcs.get(id).map_or(&[][..], Vec::as_slice);
            if own.is_empty() {
                self.warning(KIND, id, "", "no VPC has the Profile");
                self.help("name it in `profiles` of a VPC");
            }
            self.members(id, profile, &mut by_name);
            self.reach_of_members(id, profile, own);
        }
        let mut left = MAX_REPORTED;
        self.within_profiles(&by_name, &mut left);
        self.own_before_profiles(&by_name, &vpcs, &mut left);
        self.between_profiles(&by_name, &mut left);
    }

    /// Checks that the members of a Profile exist, and collects those that answer for names.
    fn members(&mut self, id: &'a Id, profile: &'a Profile, by_name: &mut ByName<'a>) {
        let manifest = self.manifest;
        let mut add = |field: String, name: &'a Name, kind: MemberKind, member: &'a Id| {
            by_name.entry(key_of(name)).or_default().push(Member { profile: id, field, name, kind, id: member });
        };
        let field = "private_hosted_zones";
        for (at, member) in
            self.listed(id, field, "private hosted zone", &profile.private_hosted_zones, &manifest.private_hosted_zones)
        {
            let field = format!("{field}[{at}]");
            match manifest.private_hosted_zones.get(member) {
                Some(zone) if zone.public => {
                    self.warning(KIND, id, field, format!("`{member}` is a public zone, which every VPC has"));
                    self.help("remove it");
                }
                Some(zone) => add(field, &zone.name, MemberKind::Zone, member),
                None => {}
            }
        }
        let field = "resolver_rules";
        for (at, member) in self.listed(id, field, "resolver rule", &profile.resolver_rules, &manifest.resolver_rules) {
            let field = format!("{field}[{at}]");
            match manifest.resolver_rules.get(member) {
                Some(rule) if answers(rule) => add(field, &rule.domain_name, MemberKind::Rule, member),
                _ => {}
            }
        }
        let field = "vpc_endpoints";
        for (at, member) in self.listed(id, field, "VPC endpoint", &profile.vpc_endpoints, &manifest.vpc_endpoints) {
            let field = format!("{field}[{at}]");
            let Some(endpoint) = manifest.vpc_endpoints.get(member) else { continue };
            let service = manifest.vpc_endpoint_services.get(&endpoint.service_name);
            let names = service.map_or(&[][..], |service| &service.private_dns_names);
            match has_private_names(endpoint) && !names.is_empty() {
                true => names.iter().for_each(|name| add(field.clone(), name, MemberKind::Endpoint, member)),
                false => {
                    self.warning(KIND, id, field, format!("`{member}` has no private names: it answers for nothing"));
                    self.help("remove it, or write `private_dns_enabled: true` into the endpoint");
                }
            }
        }
        self.listed(
            id,
            "query_log_configs",
            "query logging configuration",
            &profile.query_log_configs,
            &manifest.query_log_configs,
        );
        let groups: Vec<&'a Id> = profile.firewall_rule_groups.iter().map(|group| &group.id).collect();
        let known = &manifest.firewall_rule_groups;
        self.listed_at(id, |at| format!("firewall_rule_groups[{at}].id"), "firewall rule group", groups, known);
    }

    /// Warns about members that do not exist or are listed twice. Returns the others, each with its position.
    fn listed<T>(
        &mut self,
        id: &'a Id,
        field: &str,
        what: &str,
        members: &'a [Id],
        known: &'a Resources<T>,
    ) -> Vec<(usize, &'a Id)> {
        self.listed_at(id, |at| format!("{field}[{at}]"), what, members, known)
    }

    fn listed_at<T>(
        &mut self,
        id: &'a Id,
        field: impl Fn(usize) -> String,
        what: &str,
        members: impl IntoIterator<Item = &'a Id>,
        known: &'a Resources<T>,
    ) -> Vec<(usize, &'a Id)> {
        let mut seen: BTreeSet<&Id> = BTreeSet::new();
        let mut found = Vec::new();
        for (at, member) in members.into_iter().enumerate() {
            if !seen.insert(member) {
                self.warning(KIND, id, field(at), format!("`{member}` is in the list twice"));
            } else if !known.contains_key(member) {
                self.unknown((KIND, id), field(at), what, member, known.keys().map(String::as_str));
                self.weaken("the Profile is served without it");
            } else {
                found.push((at, member));
            }
        }
        found
    }

    /// Warns about endpoints that no VPC of a Profile reaches.
    fn reach_of_members(&mut self, id: &'a Id, profile: &'a Profile, vpcs: &[&'a Id]) {
        let manifest = self.manifest;
        if profile.vpc_endpoints.is_empty() || vpcs.is_empty() {
            return;
        }
        // VPCs with one key reach the same networks, apart from themselves.
        let own: HashSet<&Id> = vpcs.iter().copied().collect();
        let mut keys: HashMap<ReachKey, Network> = HashMap::new();
        for vpc in vpcs {
            let network = Network::Vpc((*vpc).clone());
            keys.entry(self.connectivity.reach_key(&network)).or_insert(network);
        }
        let mut reached: HashMap<&Id, bool> = HashMap::new();
        for (at, member) in profile.vpc_endpoints.iter().enumerate() {
            let Some(endpoint) = manifest.vpc_endpoints.get(member).filter(|endpoint| has_private_names(endpoint))
            else {
                continue;
            };
            let home = &endpoint.vpc_id;
            let is_reached = *reached.entry(home).or_insert_with(|| {
                let network = Network::Vpc(home.clone());
                own.contains(home) || keys.values().any(|vpc| self.connectivity.reaches(vpc, &network))
            });
            if !is_reached {
                let message =
                    format!("no VPC of the Profile reaches `{home}`, the VPC of `{member}`: no client gets its names");
                self.warning(KIND, id, format!("vpc_endpoints[{at}]"), message);
                self.help("connect the VPCs, or remove the endpoint");
            }
        }
    }

    /// Warns about a member that is not used because of another resource with its name.
    fn shadowed_member(&mut self, member: &Member<'a>, left: &mut usize, why: &str) {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = member.name;
        let message = match member.kind {
            MemberKind::Endpoint => format!("the private name {name} of `{}` is not used{why}", member.id),
            kind => format!("{} `{}` ({name}) is not used{why}", kind.word(), member.id),
        };
        self.warning(KIND, member.profile, &member.field, message);
    }

    /// Warns about members that another member of the same Profile comes before.
    fn within_profiles(&mut self, by_name: &ByName<'a>, left: &mut usize) {
        for members in by_name.values() {
            for own in members.chunk_by(|one, other| one.profile == other.profile) {
                let Some(first) = own.iter().min_by_key(|member| member.kind) else { continue };
                for member in own.iter().filter(|member| first.comes_before(member)) {
                    let why = format!(
                        ": {} `{}` of the Profile has the same name and comes first",
                        first.kind.word(),
                        first.id
                    );
                    self.shadowed_member(member, left, &why);
                }
            }
        }
    }

    /// Warns about members that a rule or zone of a VPC itself comes before.
    fn own_before_profiles(&mut self, by_name: &ByName<'a>, vpcs: &VpcsOf<'a>, left: &mut usize) {
        let manifest = self.manifest;
        let vpcs: HashMap<&Id, HashSet<&Id>> =
            vpcs.iter().map(|(profile, vpcs)| (*profile, vpcs.iter().copied().collect())).collect();
        let rules = manifest.resolver_rules.iter().filter(|(_, rule)| answers(rule));
        let rules = rules.map(|(id, rule)| (MemberKind::Rule, id, &rule.domain_name, &rule.vpc_ids));
        // A zone with an alias at its apex answers the name on purpose.
        let zones = manifest.private_hosted_zones.iter();
        let zones = zones.filter(|(_, zone)| !zone.records.iter().any(|set| set.name == "@" && set.alias.is_some()));
        let zones = zones.map(|(id, zone)| (MemberKind::Zone, id, &zone.name, &zone.vpc_ids));
        for (kind, id, name, vpc_ids) in rules.chain(zones) {
            for member in
                by_name.get(&key_of(name)).into_iter().flatten().filter(|member| (member.kind, member.id) != (kind, id))
            {
                let Some(own) = vpcs.get(member.profile) else { continue };
                if let Some(vpc) = vpc_ids.iter().find(|vpc| own.contains(vpc)) {
                    let why =
                        format!(" in `{vpc}`: {} `{id}` of the VPC has the same name and comes first", kind.word());
                    self.shadowed_member(member, left, &why);
                }
            }
        }
    }

    /// Warns about members that a member of another Profile comes before.
    fn between_profiles(&mut self, by_name: &ByName<'a>, left: &mut usize) {
        // For each two Profiles, a VPC in which the first comes before the second.
        let mut before: HashMap<(&Id, &Id), &Id> = HashMap::new();
        for (id, vpc) in &self.manifest.vpcs {
            let profiles: Vec<&Id> = vpc.profile_ids().collect();
            for (at, first) in profiles.iter().enumerate() {
                for second in &profiles[at + 1..] {
                    before.entry((first, second)).or_insert(id);
                }
            }
        }
        if before.is_empty() {
            return;
        }
        for members in by_name.values() {
            for member in members {
                let earlier = members.iter().find_map(|other| {
                    let vpc = before.get(&(other.profile, member.profile)).filter(|_| other.comes_before(member))?;
                    Some((*vpc, other))
                });
                if let Some((vpc, other)) = earlier {
                    let why = format!(
                        " in `{vpc}`: {} `{}` of Profile `{}` has the same name and comes first",
                        other.kind.word(),
                        other.id,
                        other.profile
                    );
                    self.shadowed_member(member, left, &why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::check::tests::problems;

    const BASE: &str = "\
vpcs:
  a: {region: r, cidr_blocks: [10.1.0.0/16], availability_zones: {r-a: az1}VPC_A}
  b: {region: r, cidr_blocks: [10.2.0.0/16], availability_zones: {r-a: az1}, profiles: [{profile_id: p}]}
vpc_peering_connections: {pcx: {vpc_ids: [a, b]}}
vpc_endpoint_services:
  s: {owner_id: amazon, region: r, dns_name: s.vpce.example, private_dns_names: [s.example]}
vpc_endpoints:
  e: {vpc_endpoint_type: Interface, service_name: s, vpc_id: a, state: Available, private_dns_enabled: true,
      network_interfaces: [{availability_zone_id: az1, ipv4: 10.1.0.9}]}
  g: {vpc_endpoint_type: Gateway, service_name: s, vpc_id: a, state: Available}
private_hosted_zones:
  z: {name: z.example, vpc_ids: []}
  y: {name: Z.example, vpc_ids: []}
  own: {name: own.example, vpc_ids: [a]}
  other: {name: own.example, vpc_ids: []}
  s: {name: s.example, vpc_ids: []}
  open: {name: open.example, public: true, vpc_ids: []}
resolver_rules:
  r: {domain_name: z.example, rule_type: FORWARD, vpc_ids: [], target_ips: [{ip: 192.0.2.1}]}
profiles:
  q: {}
  p: {MEMBERS}
";

    fn check(vpc: &str, members: &str) -> Vec<String> {
        let all = problems(&BASE.replace("VPC_A", vpc).replace("MEMBERS", members));
        // Resources that no Profile has in this case have no VPC.
        all.into_iter()
            .filter(|problem| !problem.contains("the list is empty") && !problem.contains("no VPC has"))
            .collect()
    }

    #[test]
    fn tells_what_is_wrong_with_associations() {
        for (vpc, expected) in [
            (", profiles: [{profile_id: p, priority: 1}, {profile_id: q, priority: 2}]", &[][..]),
            (
                ", profiles: [{profile_id: x}]",
                &["error: vpcs.a.profiles[0].profile_id: there is no Profile `x` (did you mean `p`?)"],
            ),
            (
                ", profiles: [{profile_id: p}, {profile_id: q}]",
                &[
                    "error: vpcs.a.profiles[1].priority: Profile `p` has priority 100 in this VPC too (give each Profile of a VPC its \
                     own priority)",
                ],
            ),
            (
                ", profiles: [{profile_id: p, priority: 1}, {profile_id: p, priority: 2}]",
                &["error: vpcs.a.profiles[1].profile_id: the VPC has Profile `p` already, by `profiles[0].profile_id`"],
            ),
            (
                ", profile_id: p, profiles: [{profile_id: q, priority: 1}]",
                &["warning: vpcs.a.profile_id: the field is deprecated (write `profiles: [{profile_id: p}]`)"],
            ),
        ] {
            assert_eq!(check(vpc, ""), expected, "{vpc}");
        }
    }

    #[test]
    fn tells_which_members_are_not_used() {
        for (vpc, members, expected) in [
            ("", "private_hosted_zones: [z, own], resolver_rules: [], vpc_endpoints: [e]", &[][..]),
            (
                "",
                "private_hosted_zones: [zz, z, z]",
                &[
                    "warning: profiles.p.private_hosted_zones[0]: there is no private hosted zone `zz`: the Profile is served without \
                     it (did you mean `z`?)",
                    "warning: profiles.p.private_hosted_zones[2]: `z` is in the list twice",
                ],
            ),
            (
                "",
                "private_hosted_zones: [open], vpc_endpoints: [g], query_log_configs: [l], firewall_rule_groups: [{id: f, priority: 1}]",
                &[
                    "warning: profiles.p.private_hosted_zones[0]: `open` is a public zone, which every VPC has (remove it)",
                    "warning: profiles.p.vpc_endpoints[0]: `g` has no private names: it answers for nothing (remove it, or write \
                     `private_dns_enabled: true` into the endpoint)",
                    "warning: profiles.p.query_log_configs[0]: there is no query logging configuration `l`: the Profile is served \
                     without it",
                    "warning: profiles.p.firewall_rule_groups[0].id: there is no firewall rule group `f`: the Profile is served \
                     without it",
                ],
            ),
            (
                "",
                "private_hosted_zones: [z, y, s], resolver_rules: [r], vpc_endpoints: [e]",
                &[
                    "warning: profiles.p.vpc_endpoints[0]: the private name s.example. of `e` is not used: zone `s` of the Profile has \
                     the same name and comes first",
                    "warning: profiles.p.private_hosted_zones[0]: zone `z` (z.example.) is not used: rule `r` of the Profile has the \
                     same name and comes first",
                    "warning: profiles.p.private_hosted_zones[1]: zone `y` (Z.example.) is not used: rule `r` of the Profile has the \
                     same name and comes first",
                ],
            ),
            (
                ", profiles: [{profile_id: p}]",
                "private_hosted_zones: [other]",
                &[
                    "warning: profiles.p.private_hosted_zones[0]: zone `other` (own.example.) is not used in `a`: zone `own` of the VPC \
                     has the same name and comes first",
                ],
            ),
            (
                ", profiles: [{profile_id: p, priority: 2}, {profile_id: q, priority: 1}]",
                "private_hosted_zones: [z]}\n  q: {private_hosted_zones: [y]",
                &[
                    "warning: profiles.p.private_hosted_zones[0]: zone `z` (z.example.) is not used in `a`: zone `y` of Profile `q` has \
                     the same name and comes first",
                ],
            ),
        ] {
            let found = match members.contains("\n  q:") {
                true => {
                    let all =
                        problems(&BASE.replace("  q: {}\n", "").replace("VPC_A", vpc).replace("MEMBERS", members));
                    all.into_iter().filter(|problem| problem.contains("profiles.")).collect()
                }
                false => check(vpc, members),
            };
            assert_eq!(found, expected, "{vpc} {members}");
        }
        let unreached = BASE.replace("vpc_peering_connections: {pcx: {vpc_ids: [a, b]}}\n", "").replace("VPC_A", "");
        let found = problems(&unreached.replace("MEMBERS", "vpc_endpoints: [e]"));
        let expected = "warning: profiles.p.vpc_endpoints[0]: no VPC of the Profile reaches `a`, the VPC of `e`: no client gets its \
                        names (connect the VPCs, or remove the endpoint)";
        assert!(found.iter().any(|problem| problem == expected), "{found:#?}");
        assert!(
            found.iter().any(|problem| problem.starts_with("warning: profiles.q: no VPC has the Profile")),
            "{found:#?}"
        );
    }

    #[test]
    fn a_resource_that_only_a_profile_has_is_used() {
        let text = BASE.replace("VPC_A", "");
        let count = |members: &str| {
            let found = problems(&text.replace("MEMBERS", members));
            found.iter().filter(|problem| problem.contains("the list is empty")).count()
        };
        let without = count("");
        assert_eq!(count("private_hosted_zones: [z], resolver_rules: [r]"), without - 2);
    }
}
