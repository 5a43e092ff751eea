//! No client gets a name or an address that its view lacks, over generated topologies.
//!
//! The model of [`crate::model`] defines which zones and private names a client sees. This test
//! traces each record of each answer back to a source that the client may see.

use crate::model::{
    generate::{self},
    names::{N, Seen, at_or_below, name, text},
    oracle::{Who, World},
    program, worlds,
};
use proptest::test_runner::TestCaseError;
use std::collections::BTreeSet;

/// The number of queries to each world.
const QUESTIONS: usize = 60;

/// The addresses and zones that a client may see.
struct Allowed {
    addresses: BTreeSet<String>,
    apexes: Vec<N>,
}

fn allowed(world: &World, who: &Who) -> Allowed {
    let mut addresses = BTreeSet::new();
    let mut apexes = Vec::new();
    // Regional and zonal names are public, and so are the addresses of all interfaces with names.
    for (id, endpoint) in &world.manifest.vpc_endpoints {
        let service = &world.manifest.vpc_endpoint_services[&endpoint.service_name];
        let is_named = !matches!(
            endpoint.state.word(),
            "PendingAcceptance" | "Deleting" | "Deleted" | "Rejected" | "Failed" | "Expired"
        );
        if endpoint.vpc_endpoint_type.word() == "Interface" && is_named {
            apexes.push(name(&service.dns_name.to_string()));
            for interface in &endpoint.network_interfaces {
                addresses.extend(interface.ipv4.map(|a| a.to_string()));
                addresses.extend(interface.ipv6.map(|a| a.to_string()));
            }
        }
        if world.sees_private(who, id) {
            apexes.extend(service.private_dns_names.iter().map(|n| name(n.to_string().trim_start_matches("*."))));
        }
    }
    for (id, zone) in world.zones() {
        if world.has_zone(who, id) {
            apexes.push(zone.apex.clone());
            addresses.extend(zone.records.iter().map(|rr| rr.data.text()));
            let sets = zone.groups.iter().flat_map(|group| &group.members).map(|member| &member.set);
            addresses.extend(sets.flat_map(|set| &set.records).cloned());
        }
    }
    apexes.extend(["ec2.internal", "compute.internal", "10.in-addr.arpa", "localhost"].map(name));
    // All clients see the special-use names.
    apexes.extend(["test", "invalid", "onion", "alt", "home.arpa", "service.arpa"].map(name));
    Allowed { addresses, apexes }
}

/// Whether an autodefined name contains its own address, in a range whose names the client's view
/// has.
fn autodefined(world: &World, who: &Who, owner: &str, address: &str) -> bool {
    if owner.ends_with("localhost.") {
        return matches!(address, "127.0.0.1" | "::1");
    }
    let ask = |network: &str| {
        let (own, other) = (who.vpc.clone(), network.to_owned());
        use crate::model::networks::{Net, resolves_names_of};
        resolves_names_of(&world.manifest, &Net::Vpc(own), &Net::Vpc(other))
    };
    let Ok(ip) = address.parse::<std::net::IpAddr>() else { return false };
    owner.starts_with(&format!("ip-{}.", address.replace('.', "-")))
        && world.manifest.vpcs.iter().any(|(id, vpc)| vpc.cidr_blocks.iter().any(|b| b.contains(&ip)) && ask(id))
}

#[test]
fn a_client_gets_only_answers_of_its_view() {
    worlds(400, 4_711, |world, snapshot, dice| {
        let mut pool = generate::interesting(world);
        // Also queries the targets of CNAME records, which only some clients may see.
        pool.extend(world.data.values().flatten().filter(|rr| rr.rtype == 5).map(|rr| name(&rr.data.text())));
        let identifiers = identifiers(world);
        for number in 0..QUESTIONS {
            let ask = generate::ask(dice, world, &pool);
            let got = program::ask(snapshot, &(), &ask, world.now, number as u32);
            let fail = |what: String| {
                Err(TestCaseError::fail(format!("{what}\n{}", crate::model::describe(world, &ask, &got))))
            };
            let Some(who) = world.who(ask.source, ask.local) else {
                let records = got.message.answers.len() + got.message.authorities.len() + got.message.additionals.len();
                if got.rcode != 5 || records != 0 || got.aa {
                    return fail("a client without a view gets REFUSED and nothing else".into());
                }
                if let Some(leak) = identifiers.iter().find(|id| got.ede_text.contains(id.as_str())) {
                    return fail(format!("the text to a refused client names {leak}"));
                }
                continue;
            };
            if let Some((rule, _)) = &got.forward {
                if !rule.is_empty() && !world.has_rule(&who, rule) {
                    return fail(format!("rule {rule} is not for the client's VPC"));
                }
                continue;
            }
            let allowed = allowed(world, &who);
            let sections = [&got.message.answers, &got.message.authorities, &got.message.additionals];
            for record in sections.into_iter().flatten() {
                let (owner, rtype, _, data): Seen = program::seen(record);
                if !allowed.apexes.iter().any(|apex| at_or_below(&name(&owner), apex)) {
                    return fail(format!("{owner} is in nothing that the client may see"));
                }
                let is_address = matches!(rtype, 1 | 28);
                if is_address && !allowed.addresses.contains(&data) && !autodefined(world, &who, &owner, &data) {
                    return fail(format!("{owner} has the address {data}, of nothing that the client may see"));
                }
            }
        }
        Ok(())
    });
}

/// The identifiers in the manifest, and the names of accounts and zones.
fn identifiers(world: &World) -> Vec<String> {
    let m = &world.manifest;
    let mut out: Vec<String> = m.vpcs.keys().cloned().collect();
    out.extend(m.vpcs.values().flat_map(|vpc| vpc.subnets.keys().cloned()));
    out.extend(m.vpc_peering_connections.keys().cloned());
    out.extend(m.transit_gateways.keys().cloned());
    out.extend(m.on_premises_networks.keys().cloned());
    out.extend(m.vpc_endpoint_services.keys().cloned());
    out.extend(m.vpc_endpoints.keys().cloned());
    out.extend(m.private_hosted_zones.keys().cloned());
    out.extend(m.resolver_endpoints.keys().cloned());
    out.extend(m.resolver_rules.keys().cloned());
    out.extend(m.private_hosted_zones.values().map(|zone| text(&name(&zone.name.to_string()))));
    out
}
