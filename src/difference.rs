//! The differences between the answers of two snapshots, for a client in each Availability Zone of each network.
//!
//! The function that serves is asked the same questions of both snapshots. The questions follow from the changed resources of
//! the manifest, so a small change has few questions.

use crate::{
    explain::{Question, Request, of_manifest},
    manifest::{
        CidrCollection, Direction, DomainSpecification, Id, Manifest, PrivateHostedZone, Profile, Resource,
        ResourceChange, VpcEndpoint,
        connectivity::{Connectivity, Network},
    },
    snapshot::{Snapshot, zone::Zone},
    wire::{Name, rdata::type_to_text},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// The largest number of questions. Beyond it, [`Answers::is_cut`] is set.
const MAX_QUESTIONS: usize = 10_000;
/// The largest number of names of one DNS Firewall list that are asked for.
const MAX_LISTED: usize = 200;

/// The answers that differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The listed answers, by client.
    pub views: Vec<ViewAnswers>,
    /// The number of answers that differ and are not listed.
    pub more: usize,
    /// There were too many questions, so more answers may differ.
    pub is_cut: bool,
}

/// The answers that differ for one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewAnswers {
    /// The client: a network, with an Availability Zone or a Resolver endpoint.
    pub view: String,
    /// Its old and new answers.
    pub answers: Vec<ChangedAnswer>,
}

/// An answer that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedAnswer {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The old answer.
    pub old: Vec<String>,
    /// The new answer.
    pub new: Vec<String>,
}

/// A client that represents all clients with the same answers.
struct Client {
    view: String,
    from: IpAddr,
    to: Option<IpAddr>,
}

/// Compares the answers of two snapshots at `now`, in seconds since 1970. It lists at most `max_answers`.
pub fn answers(old: &Snapshot, new: &Snapshot, now: i64, max_answers: usize) -> Answers {
    let differences = new.manifest.resource_changes(&old.manifest);
    let mut questions = BTreeSet::new();
    for difference in &differences {
        ask_for(difference, old, new, &mut questions);
    }
    let mut clients = clients(&old.manifest, &new.manifest);
    let changed = differences.iter().filter(|difference| difference.old != difference.new);
    let changed = changed.flat_map(|difference| [&difference.old, &difference.new]);
    let collections = changed.filter_map(|resource| match resource {
        Some(Resource::CidrCollection(collection)) => Some(&**collection),
        _ => None,
    });
    clients.extend(clients_in(collections, [&new.manifest, &old.manifest]));
    let mut answers = Answers::default();
    let (mut asked, mut listed) = (0, 0);
    for client in clients {
        let mut view = ViewAnswers { view: client.view.clone(), answers: Vec::new() };
        for (name, rtype) in &questions {
            asked += 1;
            if asked > MAX_QUESTIONS {
                answers.is_cut = true;
                break;
            }
            let request = Request {
                from: client.from,
                to: client.to,
                via: None,
                name: name.clone(),
                rtype: rtype.clone(),
                resolve: false,
            };
            let Ok(question) = Question::new(&request) else { continue };
            let [old, new] = [old, new].map(|snapshot| of_manifest(snapshot, &question, now).summary());
            if old == new {
                continue;
            }
            listed += 1;
            match listed > max_answers {
                true => answers.more += 1,
                false => view.answers.push(ChangedAnswer { name: name.clone(), rtype: rtype.clone(), old, new }),
            }
        }
        if !view.answers.is_empty() {
            answers.views.push(view);
        }
    }
    answers
}

type Questions = BTreeSet<(String, String)>;

/// Adds the questions whose answers a change of a resource may change.
fn ask_for(difference: &ResourceChange, old: &Snapshot, new: &Snapshot, questions: &mut Questions) {
    let id = &difference.id;
    for (resource, snapshot) in [(&difference.old, old), (&difference.new, new)] {
        let manifest = &snapshot.manifest;
        let Some(resource) = resource else { continue };
        match resource {
            Resource::VpcEndpoint(endpoint) => ask_for_endpoint(id, endpoint, manifest, questions),
            Resource::VpcEndpointService(_) => {
                let own = manifest.vpc_endpoints.iter().filter(|(_, endpoint)| endpoint.service_name == *id);
                own.for_each(|(id, endpoint)| ask_for_endpoint(id, endpoint, manifest, questions));
            }
            Resource::ZonalShift(shift) => {
                let is_shifted = |id: &Id, endpoint: &VpcEndpoint| {
                    shift.resource == "*" || shift.resource == *id || shift.resource == endpoint.service_name
                };
                let shifted = manifest.vpc_endpoints.iter().filter(|(id, endpoint)| is_shifted(id, endpoint));
                shifted.for_each(|(id, endpoint)| ask_for_endpoint(id, endpoint, manifest, questions));
            }
            Resource::PrivateHostedZone(zone) => {
                let other = difference.old.as_ref().zip(difference.new.as_ref());
                let has_same_vpcs = other.is_some_and(|pair| match pair {
                    (Resource::PrivateHostedZone(old), Resource::PrivateHostedZone(new)) => {
                        (&old.vpc_ids, old.public) == (&new.vpc_ids, new.public)
                    }
                    _ => false,
                });
                ask_for_zone(id, zone, old, new, has_same_vpcs, questions);
            }
            Resource::CidrCollection(_) => ask_for_routed(id, snapshot, questions),
            Resource::ResolverRule(rule) => {
                questions.extend([(rule.domain_name.to_string(), "A".into())]);
            }
            Resource::Profile(profile) => {
                let both = [&difference.old, &difference.new];
                let other = both.into_iter().flatten().find_map(|other| match other {
                    Resource::Profile(other) if !Arc::ptr_eq(other, profile) => Some(&**other),
                    _ => None,
                });
                ask_for_members(profile, other, old, new, manifest, questions);
                if other.is_none_or(|other| other.autodefined_reverse != profile.autodefined_reverse) {
                    let vpcs = manifest.vpcs.values().filter(|vpc| vpc.profile_ids().any(|own| own == id));
                    let blocks = vpcs.filter_map(|vpc| vpc.cidr_blocks.first());
                    questions.extend(blocks.map(|block| (reverse_name(host(block)), "PTR".into())));
                }
            }
            Resource::Vpc(vpc) => {
                ask_for_private_names(manifest, &["A"], questions);
                let both = difference.old.as_ref().zip(difference.new.as_ref());
                let has_same_profiles = both.is_none_or(|pair| match pair {
                    (Resource::Vpc(old), Resource::Vpc(new)) => old.profile_ids().eq(new.profile_ids()),
                    _ => true,
                });
                for (_, profile) in manifest.profiles_of(vpc).filter(|_| !has_same_profiles) {
                    ask_for_members(profile, None, old, new, manifest, questions);
                }
                let has_other_reverse = both.is_some_and(|pair| match pair {
                    (Resource::Vpc(old), Resource::Vpc(new)) => old.autodefined_reverse != new.autodefined_reverse,
                    _ => false,
                });
                let blocks = vpc.cidr_blocks.iter().filter(|_| has_other_reverse);
                questions.extend(blocks.map(|block| (reverse_name(host(block)), "PTR".into())));
            }
            Resource::ResolverEndpoint(endpoint) => {
                let rtypes: &[&str] = if endpoint.dns64 { &["A", "AAAA"] } else { &["A"] };
                ask_for_private_names(manifest, rtypes, questions);
            }
            Resource::FirewallDomainList(list) => {
                let both = [&difference.old, &difference.new].into_iter().flatten();
                let other = both.filter_map(|other| match other {
                    Resource::FirewallDomainList(other) if !Arc::ptr_eq(other, list) => Some(&**other),
                    _ => None,
                });
                let known: BTreeSet<_> = other.flat_map(|other| &other.domains).collect();
                ask_for_listed(list.domains.iter().filter(|domain| !known.contains(domain)), questions);
            }
            Resource::FirewallRuleGroup(group) => {
                let lists = group.rules.iter().filter_map(|rule| rule.firewall_domain_list_id.as_ref());
                for list in lists.filter_map(|list| manifest.firewall_domain_lists.get(list)) {
                    ask_for_listed(list.domains.iter(), questions);
                }
            }
            // Connections of networks decide which views have the private names of endpoints.
            _ => ask_for_private_names(manifest, &["A"], questions),
        }
    }
}

/// Adds a question for each name of a DNS Firewall list, up to [`MAX_LISTED`] names.
fn ask_for_listed<'l>(domains: impl Iterator<Item = &'l DomainSpecification>, questions: &mut Questions) {
    for domain in domains.take(MAX_LISTED) {
        let name = match (domain.is_all(), domain.below_only) {
            (true, _) => "example.com.".into(),
            (false, true) => format!("www.{}", domain.name),
            (false, false) => domain.name.to_string(),
        };
        questions.insert((name, "A".into()));
    }
}

fn ask_for_private_names(manifest: &Manifest, rtypes: &[&str], questions: &mut Questions) {
    for name in manifest.vpc_endpoint_services.values().flat_map(|service| &service.private_dns_names) {
        questions.extend(rtypes.iter().map(|rtype| (name.to_string(), (*rtype).into())));
    }
}

/// The name of the PTR record of an address.
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", u128::from(address));
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa."
        }
    }
}

fn ask_for_endpoint(id: &str, endpoint: &VpcEndpoint, manifest: &Manifest, questions: &mut Questions) {
    let Some(service) = manifest.vpc_endpoint_services.get(&endpoint.service_name) else { return };
    let suffix = endpoint.dns_name_suffix.as_ref().map_or(String::new(), |suffix| format!("-{suffix}"));
    let azs = manifest.vpcs.get(&endpoint.vpc_id).into_iter().flat_map(|vpc| vpc.availability_zones.keys());
    let zonal = azs.map(|az| format!("{id}{suffix}-{az}.{}", service.dns_name));
    let public = [format!("{id}{suffix}.{}", service.dns_name)].into_iter().chain(zonal);
    for name in public.chain(service.private_dns_names.iter().map(Name::to_string)) {
        questions.extend(["A", "AAAA"].map(|rtype| (name.clone(), rtype.into())));
    }
}

/// Adds the questions for a zone. If the same VPCs have it as before, only changed record sets count; else all of them.
fn ask_for_zone(
    id: &str,
    zone: &PrivateHostedZone,
    old: &Snapshot,
    new: &Snapshot,
    has_same_vpcs: bool,
    questions: &mut Questions,
) {
    let [old, new] = [old, new].map(|snapshot| snapshot.zone(id).map(|zone| contents(zone)).unwrap_or_default());
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for (name, rtype) in keys {
        let key = (name.clone(), *rtype);
        if !has_same_vpcs || old.get(&key) != new.get(&key) {
            questions.insert((name.clone(), type_to_text(*rtype).into()));
        }
    }
    questions.insert((zone.name.to_string(), "SOA".into()));
}

/// Adds the questions for the members of a Profile that another version of it does not have.
fn ask_for_members(
    profile: &Profile,
    other: Option<&Profile>,
    old: &Snapshot,
    new: &Snapshot,
    manifest: &Manifest,
    questions: &mut Questions,
) {
    let is_new = |members: fn(&Profile) -> &Vec<Id>| {
        let known: BTreeSet<&Id> = other.into_iter().flat_map(members).collect();
        members(profile).iter().filter(move |id| !known.contains(id))
    };
    for id in is_new(|profile| &profile.private_hosted_zones) {
        if let Some(zone) = manifest.private_hosted_zones.get(id) {
            ask_for_zone(id, zone, old, new, false, questions);
        }
    }
    let rules = is_new(|profile| &profile.resolver_rules).filter_map(|id| manifest.resolver_rules.get(id));
    questions.extend(rules.map(|rule| (rule.domain_name.to_string(), "A".into())));
    for id in is_new(|profile| &profile.vpc_endpoints) {
        if let Some(endpoint) = manifest.vpc_endpoints.get(id) {
            ask_for_endpoint(id, endpoint, manifest, questions);
        }
    }
}

/// Adds the questions for the record sets that route by a CIDR collection.
fn ask_for_routed(collection: &str, snapshot: &Snapshot, questions: &mut Questions) {
    for zone in snapshot.manifest.private_hosted_zones.values() {
        for set in &zone.records {
            let is_routed = set.cidr_routing_policy.as_ref().is_some_and(|policy| policy.collection_id == collection);
            if is_routed && let Ok(owner) = Name::parse(set.name.as_bytes(), Some(&zone.name)) {
                questions.insert((owner.to_string(), set.record_type.clone()));
            }
        }
    }
}

/// TTL and data of a zone's record sets, by name and type.
type Contents = BTreeMap<(String, u16), (u32, Vec<Vec<u8>>)>;

/// The record sets of a zone, for comparison.
fn contents(zone: &Zone) -> Contents {
    let mut contents = BTreeMap::new();
    for node in zone.nodes() {
        for set in node.sets() {
            let value = match set.alias() {
                Some(number) => (0, vec![zone.alias(number).as_wire().to_vec()]),
                None if set.group().is_some() => (0, vec![zone.digest_of_group(set).to_vec()]),
                None => (set.ttl(), set.values().collect()),
            };
            contents.insert((node.name().to_string(), set.rtype()), value);
        }
    }
    contents
}

/// A client of each AZ of each VPC, and one of each on-premises network at each inbound endpoint that it may ask.
fn clients(old: &Manifest, new: &Manifest) -> Vec<Client> {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    for manifest in [new, old] {
        for (id, vpc) in &manifest.vpcs {
            let to = vpc.resolver_addresses.first().copied();
            let in_subnets = vpc.subnets.values().filter_map(|subnet| {
                Some((format!("{id} in {}", subnet.availability_zone_id), host(subnet.cidr_blocks.first()?)))
            });
            let anywhere = vpc.cidr_blocks.first().filter(|_| vpc.subnets.is_empty());
            for (view, from) in in_subnets.chain(anywhere.map(|block| (id.clone(), host(block)))) {
                let to = to.filter(|to| to.is_ipv4() == from.is_ipv4());
                clients.entry(view.clone()).or_insert(Client { view, from, to });
            }
        }
        let connectivity = Connectivity::new(manifest);
        for (entry_point, endpoint) in &manifest.resolver_endpoints {
            let Some(to) = endpoint.ip_addresses.first().map(|address| address.ip) else { continue };
            if endpoint.direction == Direction::Outbound {
                continue;
            }
            for (id, network) in &manifest.on_premises_networks {
                if !connectivity.reaches(&Network::OnPremises(id.clone()), &Network::Vpc(endpoint.vpc_id.clone())) {
                    continue;
                }
                let Some(from) = network.cidr_blocks.iter().map(host).find(|from| from.is_ipv4() == to.is_ipv4())
                else {
                    continue;
                };
                let view = format!("{id} at {entry_point}");
                clients.entry(view.clone()).or_insert(Client { view, from, to: Some(to) });
            }
        }
    }
    clients.into_values().collect()
}

/// A client in each block of the collections that is within a VPC.
fn clients_in<'a>(
    collections: impl Iterator<Item = &'a CidrCollection>,
    manifests: [&Manifest; 2],
) -> impl Iterator<Item = Client> {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    for block in collections.flat_map(|collection| collection.locations.values().flatten()) {
        let from = host(block);
        let vpcs = manifests.into_iter().flat_map(|manifest| &manifest.vpcs);
        for (id, vpc) in vpcs.filter(|(_, vpc)| vpc.cidr_blocks.iter().any(|own| own.contains(&from))) {
            let to = vpc.resolver_addresses.iter().copied().find(|to| to.is_ipv4() == from.is_ipv4());
            let view = format!("{id} in {block}");
            clients.entry(view.clone()).or_insert(Client { view, from, to });
        }
    }
    clients.into_values()
}

/// An address in a block that is probably one of a host.
fn host(block: &IpNet) -> IpAddr {
    block.hosts().nth(9).or_else(|| block.hosts().next()).unwrap_or(block.addr())
}

impl Answers {
    /// Whether no answer differs.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty() && self.more == 0 && !self.is_cut
    }

    /// Lines about the answers that are not listed; empty if all are.
    pub fn remarks(&self) -> String {
        let mut text = String::new();
        if self.more > 0 {
            text += &format!("  and {} more answers that are not listed\n", self.more);
        }
        if self.is_cut {
            text += &format!("  more answers may differ: only {MAX_QUESTIONS} questions were compared\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Loaded, snapshot::compile};
    use serde_json::{Value, json};

    fn manifest() -> Value {
        json!({
            "vpcs": {
                "vpc-a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "availability_zones": {"us-east-1a": "az1", "us-east-1b": "az2"},
                    "subnets": {"a1": {"availability_zone_id": "az1", "cidr_blocks": ["10.1.0.0/20"]},
                                "a2": {"availability_zone_id": "az2", "cidr_blocks": ["10.1.16.0/20"]}}},
                "vpc-b": {"region": "us-east-1", "cidr_blocks": ["10.2.0.0/16"]},
            },
            "vpc_peering_connections": {"pcx": {"vpc_ids": ["vpc-a", "vpc-b"], "status": "active"}},
            "vpc_endpoint_services": {"sqs": {"owner_id": "amazon", "region": "us-east-1", "dns_name": "sqs.vpce.example",
                "private_dns_names": ["sqs.example"]}},
            "vpc_endpoints": {"vpce-1": {"vpc_endpoint_type": "Interface", "service_name": "sqs", "vpc_id": "vpc-a",
                "state": "Available", "private_dns_enabled": true, "private_dns_scope": "connected", "network_interfaces": [
                    {"availability_zone_id": "az1", "ipv4": "10.1.0.100"}, {"availability_zone_id": "az2", "ipv4": "10.1.16.100"}]}},
            "private_hosted_zones": {"Z1": {"name": "one.example", "vpc_ids": ["vpc-a"], "records": [
                {"name": "www", "type": "A", "ttl": 60, "records": ["10.1.0.7"]}, {"name": "same", "type": "A", "records": ["10.1.0.8"]},
                {"name": "near", "type": "A", "records": ["10.1.0.11"], "set_identifier": "o", "cidr_routing_policy": {"collection_id": "c", "location_name": "office"}},
                {"name": "near", "type": "A", "records": ["10.1.0.12"], "set_identifier": "d", "cidr_routing_policy": {"collection_id": "c", "location_name": "*"}}]}},
            "cidr_collections": {"c": {"locations": {"office": ["10.1.0.0/24"]}}},
            "resolver_rules": {},
        })
    }

    fn snapshot(manifest: &Value) -> Snapshot {
        let loaded = Loaded { manifest: serde_json::from_value(manifest.clone()).unwrap(), ..Loaded::default() };
        compile(&loaded, &Default::default(), None).unwrap_or_else(|problems| panic!("{problems:?}")).0
    }

    /// The answers that differ, one line each.
    fn changes(edit: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut edited = manifest();
        edit(&mut edited);
        let answers = answers(&snapshot(&manifest()), &snapshot(&edited), 0, 100);
        assert!(!answers.is_cut && answers.more == 0);
        let lines = answers.views.iter().flat_map(|view| {
            view.answers.iter().map(|changed| {
                format!(
                    "{}: {} {}: {} -> {}",
                    view.view,
                    changed.name,
                    changed.rtype,
                    changed.old.join(", "),
                    changed.new.join(", ")
                )
            })
        });
        lines.collect()
    }

    #[test]
    fn finds_the_answers_that_differ_for_each_client() {
        assert!(changes(|_| {}).is_empty());
        let health = changes(|manifest| {
            manifest["vpc_endpoints"]["vpce-1"]["network_interfaces"][0]["health"] = json!("unhealthy");
        });
        let in_az1: Vec<_> = health.iter().filter(|line| line.starts_with("vpc-a in az1: sqs.example. A: ")).collect();
        assert_eq!(in_az1.len(), 1, "{health:?}");
        assert!(in_az1[0].ends_with("60 A 10.1.0.100 -> sqs.example. 60 A 10.1.16.100"), "{health:?}");
        assert!(!health.iter().any(|line| line.starts_with("vpc-a in az2")), "{health:?}");
        assert!(health.iter().any(|line| line.starts_with("vpc-b: sqs.example. A")), "{health:?}");

        let record = changes(|manifest| {
            manifest["private_hosted_zones"]["Z1"]["records"][0]["records"] = json!(["10.1.0.9"]);
        });
        let expected = ["az1", "az2"].map(|az| {
            format!(
                "vpc-a in {az}: www.one.example. A: www.one.example. 60 A 10.1.0.7 -> www.one.example. 60 A 10.1.0.9"
            )
        });
        assert_eq!(record, expected);

        let delegation = changes(|manifest| {
            let cut = json!({"name": "lab", "type": "NS", "ttl": 60, "records": ["ns.other.example"]});
            manifest["private_hosted_zones"]["Z1"]["records"].as_array_mut().unwrap().push(cut);
        });
        let expected = ["az1", "az2"].map(|az| {
            format!(
                "vpc-a in {az}: lab.one.example. NS: NXDOMAIN -> delegated: lab.one.example. 60 NS ns.other.example."
            )
        });
        assert_eq!(delegation, expected);

        let association =
            changes(|manifest| manifest["private_hosted_zones"]["Z1"]["vpc_ids"] = json!(["vpc-a", "vpc-b"]));
        assert!(association.iter().all(|line| line.starts_with("vpc-b: ")), "{association:?}");
        assert!(association.iter().any(|line| line.contains("www.one.example. A: REFUSED -> ")), "{association:?}");

        let collection = changes(|manifest| {
            manifest["cidr_collections"]["c"]["locations"]["office"] = json!(["10.1.0.0/24", "10.1.1.0/24"]);
        });
        let expected = "vpc-a in 10.1.1.0/24: near.one.example. A: near.one.example. 300 A 10.1.0.12 -> near.one.example. 300 A 10.1.0.11";
        assert_eq!(collection, [expected]);

        let profile = changes(|manifest| {
            manifest["profiles"]["p"]["private_hosted_zones"] = json!(["Z1"]);
            manifest["vpcs"]["vpc-b"]["profiles"] = json!([{"profile_id": "p"}]);
        });
        assert!(profile.iter().all(|line| line.starts_with("vpc-b: ")), "{profile:?}");
        assert!(profile.iter().any(|line| line.contains("www.one.example. A: REFUSED -> ")), "{profile:?}");

        let peering = changes(|manifest| manifest["vpc_peering_connections"] = json!({}));
        assert_eq!(peering.len(), 2, "{peering:?}");
        assert!(peering[0].starts_with("vpc-b: sqs.example. A: ") && peering[0].ends_with("-> REFUSED"), "{peering:?}");
        assert_eq!(peering[1], "vpc-b: sqs.example. AAAA: no data -> REFUSED");

        let rule = changes(|manifest| {
            manifest["resolver_rules"]["r"] = json!({"domain_name": "out.example", "rule_type": "FORWARD", "target_ips": [{"ip": "192.0.2.1"}], "vpc_ids": ["vpc-b"]});
        });
        assert_eq!(rule, ["vpc-b: out.example. A: REFUSED -> forwarded by rule r"]);

        let reverse = changes(|manifest| manifest["vpcs"]["vpc-b"]["autodefined_reverse"] = json!(false));
        let ptr = "10.0.2.10.in-addr.arpa. PTR";
        let expected =
            format!("vpc-b: {ptr}: {ptr} -> REFUSED").replace("PTR ->", "60 PTR ip-10-2-0-10.ec2.internal. ->");
        assert_eq!(reverse, [expected]);

        let dns64 = changes(|manifest| {
            manifest["on_premises_networks"] = json!({"dc": {"cidr_blocks": ["192.168.0.0/16"], "vpc_ids": ["vpc-a"]}});
            manifest["resolver_endpoints"] =
                json!({"in": {"vpc_id": "vpc-a", "dns64": true, "ip_addresses": [{"ip": "10.1.0.53"}]}});
        });
        assert!(dns64.iter().any(|line| line.starts_with("dc at in: sqs.example. AAAA: ")), "{dns64:?}");
    }

    #[test]
    fn lists_at_most_the_given_number_of_answers() {
        let mut edited = manifest();
        edited["private_hosted_zones"] = json!({});
        let answers = answers(&snapshot(&manifest()), &snapshot(&edited), 0, 3);
        assert_eq!(answers.views.iter().map(|view| view.answers.len()).sum::<usize>(), 3);
        assert!(answers.more > 0 && answers.remarks().contains(&format!("and {} more answers", answers.more)));
        assert!(!answers.is_empty());
    }
}
