//! Generated health checks, routing policies and Profiles.

use super::{
    generate::{Dice, add, read},
    names::{N, name, text},
    oracle::World,
};
use serde_json::{Value, json};
use std::sync::Arc;
use zonal::manifest::{Manifest, Vpc};

const CHECKS: [&str; 4] = ["hc-0", "hc-1", "hc-2", "hc-3"];
/// The locations of the CIDR collection.
const LOCATIONS: [&str; 3] = ["berlin", "oslo", "rome"];
/// Regions of clients, another one, and a name that is none.
const REGIONS: [&str; 4] = ["us-east-1", "eu-west-1", "ap-south-1", "mars-1"];

/// Coordinates near one Region or another.
pub fn place(dice: &mut Dice) -> Value {
    let (north, east) = *dice.pick(&[(40.0, -75.0), (52.5, 13.4), (19.0, 73.0), (-33.9, 18.4)]);
    json!({"latitude": north, "longitude": east})
}

/// Health checks, of which some say unhealthy.
pub fn health_checks(dice: &mut Dice, world: &mut World) {
    for id in CHECKS {
        add(&mut world.manifest.health_checks, id, json!({"type": "EXTERNAL"}));
        if dice.percent(40) {
            world.unhealthy.insert(id.into());
        }
    }
}

/// A CIDR collection with blocks that clients are in. Some are within others.
pub fn collection(dice: &mut Dice) -> Value {
    let blocks = [
        "10.0.0.0/8",
        "10.0.0.0/16",
        "10.1.0.0/16",
        "10.0.16.0/20",
        "10.1.0.0/20",
        "10.2.16.0/24",
        "192.168.0.0/16",
        "192.168.0.0/25",
        "fd00::/16",
        "fd00:1::/32",
    ];
    let mut locations = LOCATIONS.map(|_| Vec::new());
    for block in blocks {
        if dice.percent(60) {
            locations[dice.below(LOCATIONS.len())].push(block);
        }
    }
    let locations: serde_json::Map<String, Value> =
        LOCATIONS.iter().zip(locations).map(|(name, blocks)| (name.to_string(), json!(blocks))).collect();
    json!({"locations": locations})
}

/// Adds groups of record sets to a zone: at most one at each of some names that nothing else has.
pub fn groups(
    dice: &mut Dice,
    apex: &str,
    endpoints: &[N],
    addresses: &[N],
    manifest: &Manifest,
    records: &mut Vec<Value>,
) {
    let mut made: Vec<N> = Vec::new();
    for label in ["g", "*.w", "h"] {
        if !dice.percent(45) {
            continue;
        }
        let kind = dice.below(8);
        let is_cname = kind == 0 && dice.percent(40);
        let (count, turn) = (if kind == FAILOVER { 2 } else { 2 + dice.below(3) }, dice.below(4));
        let mut members = Vec::new();
        for number in 0..count {
            let mut set = json!({"name": label, "type": if is_cname { "CNAME" } else { "A" }, "set_identifier": format!("s{number}")});
            policy(dice, kind, (number, turn), manifest, &mut set);
            if dice.percent(60) {
                set["health_check_id"] = json!(dice.pick(&CHECKS));
            }
            let is_alias = !is_cname && kind != MULTIVALUE && dice.percent(30);
            // An alias of an earlier group makes a tree.
            let targets = [endpoints, addresses, &made].into_iter().filter(|targets| !targets.is_empty());
            let targets: Vec<&[N]> = targets.collect();
            match targets.is_empty() {
                false if is_alias => {
                    let targets = *dice.pick(&targets);
                    let target: &N = dice.pick(targets);
                    let target = text(target);
                    set["alias"] = json!({"name": target, "evaluate_target_health": dice.percent(60)});
                }
                _ if is_cname => {
                    let target = *dice.pick(&["www.a.test", "a.test", "g.test", "x.onprem.example"]);
                    set["ttl"] = json!(60);
                    set["records"] = json!([target]);
                }
                _ => {
                    set["ttl"] = json!(60);
                    set["records"] = json!([format!("10.0.210.{number}"), format!("10.0.211.{number}")]);
                }
            }
            members.push(set);
        }
        records.extend(members);
        if label != "*.w" && !is_cname {
            made.push([name(label), name(apex)].concat());
        }
    }
}

const FAILOVER: usize = 1;
const MULTIVALUE: usize = 2;

/// Gives a record set the values of a policy. `number` is the number of the record set in its group, and `turn` a number of
/// the group.
fn policy(dice: &mut Dice, kind: usize, (number, turn): (usize, usize), manifest: &Manifest, set: &mut Value) {
    match kind {
        0 => set["weighted_routing_policy"] = json!({"weight": dice.pick(&[1, 0, 5, 255])}),
        FAILOVER => {
            let word = if number == turn % 2 { "PRIMARY" } else { "SECONDARY" };
            set["failover_routing_policy"] = json!({"type": word});
        }
        MULTIVALUE => set["multivalue_answer_routing_policy"] = json!(true),
        3 => set["latency_routing_policy"] = json!({"region": dice.pick(&REGIONS)}),
        4 => {
            let places = [
                json!({"country": "*"}),
                json!({"continent": "NA"}),
                json!({"country": "US"}),
                json!({"country": "US", "subdivision": "VA"}),
                json!({"country": "IE"}),
                json!({"continent": "EU"}),
            ];
            set["geolocation_routing_policy"] = dice.pick(&places).clone();
        }
        5 => {
            let bias = *dice.pick(&[0, 50, -50, 99, -99]);
            set["geoproximity_routing_policy"] = match dice.percent(50) {
                true => json!({"aws_region": dice.pick(&REGIONS), "bias": bias}),
                false => json!({"coordinates": place(dice), "bias": bias}),
            };
        }
        6 => {
            let (kind, id) = *dice.pick(&[
                ("Global", "global"),
                ("Region", "us-east-1"),
                ("Partition", "aws"),
                ("AvailabilityZone", "use1-az1"),
                ("AvailabilityZone", "use1-az2"),
                ("AvailabilityZoneGroup", "us-east-1-zg-1"),
                ("Region", "eu-west-1"),
            ]);
            set["az_affinity_routing_policy"] = json!({"location_type": kind, "location_id": id});
        }
        _ => {
            let known = &manifest.cidr_collections["places"].locations;
            let names: Vec<&str> = known.keys().map(String::as_str).chain(["*"]).collect();
            // Each location once.
            let location = names[(number + turn) % names.len()];
            set["cidr_routing_policy"] = json!({"collection_id": "places", "location_name": location});
        }
    }
}

/// Profiles, whose members can also be associated with VPCs directly.
pub fn profiles(dice: &mut Dice, manifest: &mut Manifest) {
    let count = dice.below(4);
    let keys = |dice: &mut Dice, ids: Vec<String>, percent: usize| -> Vec<String> {
        let mut ids = ids;
        ids.retain(|_| dice.percent(percent));
        if dice.percent(50) {
            ids.reverse();
        }
        ids
    };
    for number in 0..count {
        let zones = keys(dice, manifest.private_hosted_zones.keys().cloned().collect(), 50);
        let rules = keys(dice, manifest.resolver_rules.keys().cloned().collect(), 40);
        let endpoints = keys(dice, manifest.vpc_endpoints.keys().cloned().collect(), 40);
        let words = ["use_local", "use_local", "enabled", "disabled"];
        let value = json!({"private_hosted_zones": zones, "resolver_rules": rules, "vpc_endpoints": endpoints,
            "autodefined_reverse": dice.pick(&words), "dnssec_validation": dice.pick(&words)});
        add(&mut manifest.profiles, format!("rp-{number}"), value);
    }
    let ids: Vec<String> = manifest.vpcs.keys().cloned().collect();
    for id in ids {
        let mut associations = Vec::new();
        for number in 0..count {
            if dice.percent(60) {
                // Different priorities, in any order.
                let priority = 10 * dice.below(5) + number;
                associations.push(json!({"profile_id": format!("rp-{number}"), "priority": priority}));
            }
        }
        let vpc = Vpc { profiles: read(json!(associations)), ..(*manifest.vpcs[&id]).clone() };
        manifest.vpcs.insert(id, Arc::new(vpc));
    }
}
