use super::*;
use crate::manifest::routing_policies::{FailoverType::*, LocationType::*};
use std::collections::BTreeMap;

fn group(rules: Vec<Rule>) -> Group {
    let member = |(at, rule): (usize, Rule)| Member {
        identifier: at.to_string().into(),
        content: Content::Records(0),
        rule,
        health_check: None,
    };
    let policy = rules[0].policy();
    Group::new(policy, rules.into_iter().enumerate().map(member).collect())
}

/// Returns the chosen member if only the members in `healthy` are healthy.
fn choose(group: &Group, client: &ClientPlace, healthy: &[usize]) -> Option<usize> {
    match group.choose(client, |at| healthy.contains(&at), 7) {
        Choice::One(at) => Some(at),
        Choice::None => None,
        several => panic!("{several:?}"),
    }
}

fn client(az: &'static str, region: &'static str) -> ClientPlace<'static> {
    ClientPlace { az: Some(az).filter(|az| !az.is_empty()), region, ..ClientPlace::default() }
}

/// Returns the share of the draws in which each member is chosen.
fn shares(group: &Group, healthy: &[usize], draws: u32) -> Vec<f64> {
    let mut counts = vec![0_u32; group.members.len()];
    for draw in 0..draws {
        match group.choose(&ClientPlace::default(), |at| healthy.contains(&at), draw) {
            Choice::One(at) => counts[at] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
}

#[test]
fn a_query_reads_one_cache_line_of_four_members() {
    assert_eq!(size_of::<[QuickMember; 4]>(), 64);
    let largest = group(vec![Rule::Weight(1); MAX_MEMBERS]);
    let (first, last) = (0, MAX_MEMBERS - 1);
    assert_eq!(choose(&largest, &ClientPlace::default(), &[last]), Some(last));
    assert_eq!(choose(&largest, &ClientPlace::default(), &[first]), Some(first));
    assert!(shares(&largest, &[], 100_000).iter().all(|share| (share - 0.01).abs() < 0.005));
}

#[test]
fn weights_are_shares() {
    let weighted = group([90, 9, 1, 0].map(Rule::Weight).into());
    let draws = 100_000;
    // Chi-square with two degrees of freedom exceeds 13.8 by chance once in a thousand runs. The
    // draws are fixed, so the result does not change.
    let found = shares(&weighted, &[0, 1, 2, 3], draws);
    let chi: f64 = [0.9, 0.09, 0.01]
        .iter()
        .zip(&found)
        .map(|(expected, found)| (found - expected).powi(2) / expected * f64::from(draws))
        .sum();
    assert!(chi < 13.8 && found[3] == 0.0, "{chi} {found:?}");
    let near = |found: Vec<f64>, expected: [f64; 4]| {
        let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.01);
        assert!(is_near, "{found:?} {expected:?}");
    };
    near(shares(&weighted, &[1, 2, 3], draws), [0.0, 0.9, 0.1, 0.0]);
    near(shares(&weighted, &[3], draws), [0.0, 0.0, 0.0, 1.0]);
    // If no member is healthy, all count as healthy, and weight 0 gets no share.
    near(shares(&weighted, &[], draws), [0.9, 0.09, 0.01, 0.0]);
    let zeros = group([0, 0, 0, 0].map(Rule::Weight).into());
    near(shares(&zeros, &[0, 1, 2, 3], draws), [0.25; 4]);
    near(shares(&zeros, &[1, 2], draws), [0.0, 0.5, 0.5, 0.0]);
    near(shares(&zeros, &[], draws), [0.25; 4]);
}

#[test]
fn failover_answers_with_the_primary_while_it_is_healthy_and_when_none_is() {
    let failover = group(vec![Rule::Failover(Secondary), Rule::Failover(Primary)]);
    for (healthy, expected) in [(&[0, 1][..], 1), (&[1], 1), (&[0], 0), (&[], 1)] {
        assert_eq!(choose(&failover, &ClientPlace::default(), healthy), Some(expected), "{healthy:?}");
    }
}

#[test]
fn multivalue_answers_with_up_to_eight_healthy_members_in_rotation() {
    let group = group(vec![Rule::Multivalue; 10]);
    let chosen = |healthy: &[usize], draw| {
        let is_healthy = |at: usize| healthy.contains(&at);
        let choice = group.choose(&ClientPlace::default(), is_healthy, draw);
        group.chosen(choice, is_healthy).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&[1, 4, 9], 4), [4, 9, 1]);
    assert_eq!(chosen(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 3), [3, 4, 5, 6, 7, 8, 0, 1]);
    assert_eq!(chosen(&[], 9), [9, 0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn latency_answers_with_the_own_region_and_else_the_nearest() {
    let rule = |name: &str| Rule::Latency(name.into(), regions::find(name));
    let latency = group(vec![rule("us-east-1"), rule("eu-west-1"), rule("ap-southeast-2"), rule("mars-1")]);
    for (region, healthy, expected) in [
        ("eu-west-1", &[0, 1, 2, 3][..], 1),
        ("eu-west-2", &[0, 1, 2, 3], 1),
        ("eu-west-1", &[0, 2, 3], 0),
        ("eu-west-1", &[], 1),
        ("ap-northeast-1", &[0, 1, 2, 3], 2),
        ("mars-1", &[0, 1, 2, 3], 3),
        ("venus-1", &[3], 3),
    ] {
        assert_eq!(choose(&latency, &client("", region), healthy), Some(expected), "{region} {healthy:?}");
    }
    // The coordinates of an on-premises network override the distance from its Region.
    let sydney = ClientPlace { coordinates: Some((-33.0, 151.0)), ..client("", "us-east-1") };
    assert_eq!(choose(&latency, &sydney, &[0, 1, 2, 3]), Some(2));
}

#[test]
fn geolocation_answers_with_the_smallest_place_or_with_no_data() {
    let rule =
        |continent: &str, country: &str, state: &str| Rule::Geolocation([continent, country, state].map(Into::into));
    let places = group(vec![rule("", "US", "VA"), rule("", "US", ""), rule("NA", "", ""), rule("EU", "", "")]);
    for (region, healthy, expected) in [
        ("us-east-1", &[0, 1, 2, 3][..], Some(0)),
        ("us-east-1", &[1, 2, 3], Some(1)),
        ("us-east-1", &[2, 3], Some(2)),
        ("us-east-1", &[3], Some(0)),
        ("us-west-2", &[0, 1, 2, 3], Some(1)),
        ("ca-central-1", &[0, 1, 2, 3], Some(2)),
        ("eu-west-1", &[0, 1, 2, 3], Some(3)),
        ("ap-south-1", &[0, 1, 2, 3], None),
        ("mars-1", &[0, 1, 2, 3], None),
    ] {
        assert_eq!(choose(&places, &client("", region), healthy), expected, "{region} {healthy:?}");
    }
    let with_rest = group(vec![rule("EU", "", ""), rule("", "", "")]);
    assert_eq!(choose(&with_rest, &client("", "ap-south-1"), &[0, 1]), Some(1));
    assert_eq!(choose(&with_rest, &client("", "eu-west-1"), &[1]), Some(1));
}

#[test]
fn the_bias_of_geoproximity_makes_distances_smaller_or_larger() {
    let rule = |region: &str, bias: f32| {
        Rule::Geoproximity(regions::find(region).map(|region| region.coordinates), 1.0 - bias / 100.0)
    };
    let frankfurt = client("", "eu-central-1");
    let even = group(vec![rule("eu-west-1", 0.0), rule("eu-south-1", 0.0)]);
    assert_eq!(choose(&even, &frankfurt, &[0, 1]), Some(1));
    let biased = group(vec![rule("eu-west-1", 80.0), rule("eu-south-1", 0.0)]);
    assert_eq!(choose(&biased, &frankfurt, &[0, 1]), Some(0));
    assert_eq!(choose(&biased, &frankfurt, &[1]), Some(1));
}

#[test]
fn az_affinity_goes_from_the_zone_to_the_globe() {
    let rule = |kind, id: &str| Rule::AzAffinity(kind, id.into());
    let all = group(vec![
        rule(Global, "global"),
        rule(Partition, "aws"),
        rule(Region, "us-east-1"),
        rule(AvailabilityZoneGroup, "us-east-1-zg-1"),
        rule(AvailabilityZone, "use1-az1"),
    ]);
    for (az, region, healthy, expected) in [
        ("use1-az1", "us-east-1", &[0, 1, 2, 3, 4][..], 4),
        ("use1-az1", "us-east-1", &[0, 1, 2, 3], 3),
        ("use1-az1", "us-east-1", &[0], 0),
        ("use1-az1", "us-east-1", &[], 4),
        ("use1-az2", "us-east-1", &[0, 1, 2, 3, 4], 3),
        // If the AZ is unknown, the locations from the Region upwards decide.
        ("", "us-east-1", &[0, 1, 2, 3, 4], 2),
        ("euw1-az1", "eu-west-1", &[0, 1, 2, 3, 4], 1),
        ("cnn1-az1", "cn-north-1", &[0, 1, 2, 3, 4], 0),
    ] {
        assert_eq!(choose(&all, &client(az, region), healthy), Some(expected), "{az} {region} {healthy:?}");
    }
    let zones = group(vec![rule(AvailabilityZone, "use1-az1"), rule(AvailabilityZone, "use1-az2")]);
    assert_eq!(choose(&zones, &client("use1-az3", "us-east-1"), &[0, 1]), None);
}

/// Compiles a collection with these blocks. The first letter of a block is its location.
fn tables(blocks: &[(char, &str)]) -> CidrTables {
    let mut locations = serde_json::Map::new();
    for (location, block) in blocks {
        let list = locations.entry(location.to_string()).or_insert_with(|| serde_json::json!([]));
        list.as_array_mut().unwrap().push((*block).into());
    }
    let manifest = serde_json::json!({"cidr_collections": {"c": {"locations": locations}}});
    CidrTables::default().recompile(&Default::default(), &serde_json::from_value(manifest).unwrap())
}

fn cidr_group(tables: &CidrTables, locations: &[&str]) -> Group {
    let rules = locations.iter().map(|name| Rule::Cidr("c".into(), (*name).into())).collect();
    let mut group = group(rules);
    group.cidrs = tables.get("c").map(|table| Box::new(CidrMembers::new(table, &group.members)));
    group
}

fn at(address: &str) -> ClientPlace<'static> {
    let address: std::net::IpAddr = address.parse().unwrap();
    ClientPlace { prefix: Some(address.into()), ..ClientPlace::default() }
}

#[test]
fn cidr_answers_with_the_longest_prefix_around_the_client() {
    let tables = tables(&[('a', "10.0.0.0/8"), ('b', "10.1.0.0/16"), ('c', "10.1.2.0/24"), ('c', "fd00::/8")]);
    let all = cidr_group(&tables, &["a", "b", "c", "*"]);
    let without_default = cidr_group(&tables, &["a", "c"]);
    for (group, address, healthy, expected) in [
        (&all, "10.1.2.3", &[0, 1, 2, 3][..], Some(2)),
        (&all, "10.1.2.3", &[0, 1, 3], Some(1)),
        (&all, "10.1.2.3", &[0, 3], Some(0)),
        (&all, "10.1.2.3", &[3], Some(3)),
        (&all, "10.1.2.3", &[], Some(2)),
        (&all, "10.1.3.3", &[0, 1, 2, 3], Some(1)),
        (&all, "fd00::1", &[0, 1, 2, 3], Some(2)),
        (&all, "192.0.2.1", &[0, 1, 2, 3], Some(3)),
        (&all, "192.0.2.1", &[0, 1, 2], Some(3)),
        // The record set of a wider location answers where a location has none.
        (&without_default, "10.1.3.3", &[0, 1], Some(0)),
        (&without_default, "192.0.2.1", &[0, 1], None),
    ] {
        assert_eq!(choose(group, &at(address), healthy), expected, "{address} {healthy:?}");
    }
    let unknown = ClientPlace::default();
    assert_eq!((choose(&all, &unknown, &[0, 1, 2, 3]), choose(&without_default, &unknown, &[0])), (Some(3), None));
    assert_eq!((all.scope(&at("10.1.2.3")), all.scope(&at("10.1.128.3")), all.scope(&unknown)), (24, 17, 0));
    let described = |address: &str, member: usize| {
        let client = at(address);
        all.rank(member, &client).map(|rank| all.described(member, rank, &client))
    };
    assert_eq!(described("10.1.2.3", 1).as_deref(), Some("location b, whose 10.1.0.0/16 contains the client"));
    assert_eq!(described("10.1.2.3", 3).as_deref(), Some("for clients in no other location"));
    assert_eq!(described("10.2.2.3", 1), None);
}

/// Compares with a search over all members and blocks.
#[test]
fn cidr_chooses_what_a_search_over_all_blocks_finds() {
    let mut random = 5u32;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    let (mut found, mut none) = (0, 0);
    for _ in 0..300 {
        let mut blocks: BTreeMap<IpNet, char> = BTreeMap::new();
        for _ in 0..draw(8) {
            let address = std::net::IpAddr::from([10, 0, 0, draw(256) as u8]);
            blocks.insert(IpNet::new(address, 32 - draw(9) as u8).unwrap().trunc(), ['a', 'b', 'c'][draw(3)]);
        }
        let texts: Vec<(char, String)> = blocks.iter().map(|(block, name)| (*name, block.to_string())).collect();
        let texts: Vec<(char, &str)> = texts.iter().map(|(name, block)| (*name, &**block)).collect();
        let locations: Vec<&str> = ["b", "*", "a", "c"][draw(4)..].to_vec();
        let used: Vec<&str> = locations
            .iter()
            .copied()
            .filter(|name| *name == "*" || texts.iter().any(|(own, _)| own.to_string() == **name))
            .collect();
        if used.is_empty() {
            continue;
        }
        let group = cidr_group(&tables(&texts), &used);
        for _ in 0..50 {
            let address = format!("10.0.0.{}", draw(256));
            let healthy: Vec<usize> = (0..used.len()).filter(|_| draw(2) == 0).collect();
            // The length of the longest block of a member around the client; 0 for the default.
            let length = |at: usize| match used[at] {
                "*" => Some(0),
                name => {
                    let own = blocks.iter().filter(|(_, own)| own.to_string() == name);
                    let around = own.filter(|(block, _)| block.contains(&address.parse::<std::net::IpAddr>().unwrap()));
                    around.map(|(block, _)| 1 + block.prefix_len()).max()
                }
            };
            let best = |among: &mut dyn Iterator<Item = usize>| {
                among.filter_map(|at| Some((length(at)?, at))).max_by_key(|(len, _)| *len).map(|(_, at)| at)
            };
            let expected = best(&mut healthy.iter().copied()).or_else(|| best(&mut (0..used.len())));
            assert_eq!(choose(&group, &at(&address), &healthy), expected, "{blocks:?} {used:?} {address} {healthy:?}");
            *if expected.is_some() { &mut found } else { &mut none } += 1;
        }
    }
    assert!(found > 1000 && none > 1000, "{found} {none}");
}
