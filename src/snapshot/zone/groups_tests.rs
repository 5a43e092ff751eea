use super::*;
use crate::manifest::routing_policies::{FailoverType::*, LocationType::*};

fn group(rules: Vec<Rule>) -> Group {
    let member = |(at, rule): (usize, Rule)| Member {
        identifier: at.to_string().into(),
        content: Content::Records(0),
        rule,
        health_check: None,
        verdict: None,
    };
    let policy = rules[0].policy();
    Group { policy, members: rules.into_iter().enumerate().map(member).collect() }
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
    ClientPlace { az: Some(az).filter(|az| !az.is_empty()), region, coordinates: None }
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
    let sydney = ClientPlace { az: None, region: "us-east-1", coordinates: Some((-33.0, 151.0)) };
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
