//! Incremental compilation gives the same snapshot as a full one, in generated worlds with random
//! changes of a few resources at a time.

use crate::model::{
    generate::{self, Dice},
    names::N,
    oracle::{Ask, World},
    program, worlds,
};
use proptest::test_runner::TestCaseError;
use std::{collections::BTreeMap, sync::Arc};
use zonal::{
    answer::{Client, Moment, Outcome, Transport, answer},
    manifest::{
        KINDS, Loaded, Manifest, Problem, Resource, ZoneData, check::Checked, connectivity::Connectivity, document,
    },
    snapshot::{Snapshot, compile},
};

/// The number of changes in each world.
const CHANGES: usize = 12;
/// The number of queries after each change.
const QUESTIONS: usize = 12;

/// A changed resource: a flag or a word is switched, or a VPC is added to a list or removed.
fn other(dice: &mut Dice, resource: &Resource, manifest: &Manifest) -> Option<Resource> {
    let mut value: serde_json::Value = serde_json::from_slice(&resource.to_json()).expect("JSON");
    let vpcs: Vec<String> = manifest.vpcs.keys().cloned().collect();
    let words = [
        ("health", ["healthy", "unhealthy"]),
        ("state", ["Available", "Failed"]),
        ("private_dns_scope", ["vpc", "connected"]),
        ("owner_id", ["amazon", "111122223333"]),
        ("region", ["us-east-1", "eu-west-1"]),
        ("status", ["active", "deleted"]),
    ];
    let mut places = Vec::new();
    collect(&value, String::new(), &mut places);
    let place = dice.pick(&places).clone();
    let at = value.pointer_mut(&place)?;
    let key = place.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    match at {
        serde_json::Value::Bool(is) => *is = !*is,
        serde_json::Value::Array(list) if matches!(key, "vpc_ids" | "private_dns_scope") => {
            let vpc = serde_json::Value::from(dice.pick(&vpcs).clone());
            match list.iter().position(|one| *one == vpc) {
                Some(at) => drop(list.remove(at)),
                None => list.push(vpc),
            }
        }
        serde_json::Value::Array(list) => drop(list.pop()),
        serde_json::Value::String(word) => {
            let (_, words) = words.iter().find(|(name, _)| *name == key)?;
            *word = words[usize::from(word == words[0])].into();
        }
        _ => return None,
    }
    let node = document::read(value.to_string().as_bytes(), true).0?;
    Resource::read(resource.kind(), &node)?.ok()
}

/// The JSON pointers of all values that can be changed.
fn collect(value: &serde_json::Value, at: String, places: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(key, value)| collect(value, format!("{at}/{key}"), places))
        }
        serde_json::Value::Array(list) => {
            let inner = list.iter().enumerate();
            inner.for_each(|(number, value)| collect(value, format!("{at}/{number}"), places));
        }
        _ => {}
    }
    places.push(at);
}

/// Makes a change of a few resources.
fn change(dice: &mut Dice, manifest: &mut Manifest, all: &Manifest) {
    for _ in 0..1 + dice.below(3) {
        let kind = *dice.pick(KINDS);
        let mut ids = Vec::new();
        all.each_of(kind, None, |id, _| {
            ids.push(id.to_owned());
            true
        });
        if ids.is_empty() {
            continue;
        }
        let id = dice.pick(&ids).clone();
        match manifest.resource(kind, &id) {
            None => drop(manifest.put(&id, all.resource(kind, &id).expect("a resource"))),
            Some(_) if dice.percent(25) => drop(manifest.remove(kind, &id)),
            Some(resource) => {
                if let Some(other) = other(dice, &resource, manifest) {
                    manifest.put(&id, other);
                }
            }
        }
    }
}

/// The manifest with the world's master files. A file is not read again if the previous snapshot
/// has its zone.
fn loaded(world: &World, manifest: &Manifest, previous: Option<&Snapshot>) -> Loaded {
    let read = program::loaded(world);
    let is_same = |id: &String| {
        let old = previous.and_then(|previous| previous.manifest.private_hosted_zones.get(id));
        old.zip(manifest.private_hosted_zones.get(id)).is_some_and(|(old, new)| Arc::ptr_eq(old, new))
    };
    let there = read.zone_data.into_iter().filter(|(id, _)| manifest.private_hosted_zones.contains_key(id));
    let data = there.map(|(id, data)| if is_same(&id) { (id, ZoneData::Unchanged) } else { (id, data) });
    Loaded { manifest: manifest.clone().into(), zone_data: data.collect::<BTreeMap<_, _>>(), ..Loaded::default() }
}

/// The outcome of a query, as text.
fn outcome(snapshot: &Snapshot, ask: &Ask, now: i64, draw: u32) -> String {
    let query = program::packet(ask, false);
    let client = Client { source: ask.source, port: 0, local: ask.local, transport: Transport::Tcp };
    let mut reply = vec![0; 65_535];
    match answer(snapshot, &(), &client, Moment { now, draw }, &query, &mut reply) {
        Outcome::Reply(answered) => format!("{:?}", program::parse(&reply[..answered.len])),
        Outcome::Forward(forward) => format!("to {:?} as {:?}", forward.route, forward.id),
        Outcome::Drop => "nothing".into(),
    }
}

fn sorted(problems: &[Problem]) -> Vec<String> {
    let mut all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    all.sort();
    all
}

#[test]
fn compiles_changes_as_it_compiles_from_nothing() {
    worlds(150, 815, |world, snapshot, dice| {
        let all = &world.manifest;
        let node = snapshot.node.clone();
        let connectivity = Connectivity::new(all);
        let mut checked = Checked::new(all, &connectivity, world.now);
        if checked.problems().iter().any(Problem::is_error) {
            return Ok(());
        }
        let pool: Vec<N> = generate::interesting(world);
        let (mut manifest, mut previous) =
            (all.clone(), compile(&program::loaded(world), &node, None).expect("as before").0);
        for number in 0..CHANGES {
            let mut next = manifest.clone();
            change(dice, &mut next, all);
            let connectivity = Connectivity::new(&next);
            let followed = match previous.connectivity_of(&next) {
                Some(connectivity) => checked.follow(&manifest, &next, connectivity, world.now),
                None => Checked::new(&next, &connectivity, world.now),
            };
            let fail = |what: String| Err(TestCaseError::fail(what));
            let anew = Checked::new(&next, &connectivity, world.now).problems();
            if followed.problems() != anew {
                return fail(format!("checks differ: {:#?} and {anew:#?}", followed.problems()));
            }
            if anew.iter().any(Problem::is_error) {
                continue;
            }
            let incremental = compile(&loaded(world, &next, Some(&previous)), &node, Some(&previous));
            let fresh = compile(&loaded(world, &next, None), &node, None);
            let (incremental, fresh) = match (incremental, fresh) {
                (Ok((incremental, _)), Ok((fresh, _))) => (incremental, fresh),
                (Err(one), Err(other)) if sorted(&one) == sorted(&other) => continue,
                (one, other) => {
                    let [one, other] = [one, other].map(|result| result.map_or_else(|p| sorted(&p), |_| Vec::new()));
                    return fail(format!("one fails, or otherwise: {one:#?} and {other:#?}"));
                }
            };
            program::set_health(world, &incremental);
            program::set_health(world, &fresh);
            for question in 0..QUESTIONS {
                let ask = generate::ask(dice, world, &pool);
                let [one, other] = [&incremental, &fresh].map(|it| outcome(it, &ask, world.now, question as u32));
                if one != other {
                    return fail(format!("after change {number}, {ask:?}: {one}\nbut compiled anew: {other}"));
                }
            }
            (manifest, previous, checked) = (next, incremental, followed);
        }
        Ok(())
    });
}
