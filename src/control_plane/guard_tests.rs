use super::*;
use crate::control_plane::{persisted::PersistedState, prepare::tests::World};

const VPC: &str = r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"]}"#;

fn zone(n: usize) -> (String, String) {
    (format!("private_hosted_zones/Z{n}"), format!(r#"{{"name": "z{n}.example", "vpc_ids": ["v{}"]}}"#, n % 3))
}

fn service(n: usize) -> (String, String) {
    let text = format!(r#"{{"owner_id": "amazon", "region": "r", "dns_name": "s{n}.vpce.example"}}"#);
    (format!("vpc_endpoint_services/s{n}"), text)
}

/// Three VPCs, and the given numbers of zones and services.
fn all(zones: usize, services: usize) -> Vec<(String, String)> {
    let vpcs = (0..3).map(|n| (format!("vpcs/v{n}"), VPC.replace("10.0", &format!("10.{n}"))));
    vpcs.chain((0..zones).map(zone)).chain((0..services).map(service)).collect()
}

fn world(on_error: OnError, all: &[(String, String)]) -> World {
    let all: Vec<(&str, &str)> = all.iter().map(|(key, text)| (&**key, &**text)).collect();
    World::new(on_error, &all)
}

fn served(world: &World) -> usize {
    world.snapshot.load().manifest.counts().map(|(_, count)| count).sum()
}

fn held(world: &World) -> usize {
    let held = world.status.state().persisted.held.clone();
    held.len()
}

/// Deletes all keys with a prefix in one change. Returns its revision.
fn delete(world: &mut World, all: &[(String, String)], prefix: &str) -> u64 {
    let gone: Vec<(&str, &str)> =
        all.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, _)| (&**key, "")).collect();
    world.put(&gone)
}

#[test]
fn holds_mass_deletions_until_they_are_allowed_or_undone() {
    for on_error in [OnError::SetAside, OnError::Refuse] {
        // All keys; all kinds that begin with `vpc`; the VPCs, which take all others along; one of
        // several kinds.
        for (prefix, zones, services) in
            [("", 9, 9), ("vpc", 20, 4), ("vpcs/", 30, 0), ("vpcs/", 0, 30), ("private_hosted_zones/", 10, 60)]
        {
            let case = format!("{on_error:?} {prefix} {zones} {services}");
            let all = all(zones, services);
            let mut world = world(on_error, &all);
            assert_eq!(served(&world), all.len(), "{case}");
            let gone = all.iter().filter(|(key, _)| key.starts_with(prefix)).count();
            let revision = delete(&mut world, &all, prefix);
            assert_eq!((served(&world), held(&world)), (all.len(), gone), "{case}");
            assert_eq!(world.set_aside(), [""; 0], "{case}");
            // Other changes are served, also deletions.
            world.put(&[("vpcs/new", r#"{"region": "r", "cidr_blocks": ["10.200.0.0/16"]}"#)]);
            assert!(world.served("vpcs/new").is_some(), "{case}");
            world.put(&[("vpcs/new", "")]);
            assert!(world.served("vpcs/new").is_none(), "{case}");
            // A held resource is put again, changed.
            let (key, text) = all.iter().find(|(key, _)| key.starts_with(prefix)).unwrap();
            world.put(&[(key, &text.replace("\"r\"", "\"q\""))]);
            assert_eq!((served(&world), held(&world)), (all.len(), gone - 1), "{case}");
            // An allowance up to an older revision, and up to the right one.
            world.allowance.until = revision - 1;
            world.put(&[]);
            assert_eq!(served(&world), all.len(), "{case}");
            world.allowance.until = revision;
            world.put(&[]);
            if on_error == OnError::Refuse && prefix.starts_with("vpc") && zones > 0 {
                // The zones refer to the VPCs.
                assert_eq!(served(&world), all.len(), "{case}");
                continue;
            }
            assert_eq!(held(&world), 0, "{case}");
            assert!(
                all.iter()
                    .filter(|(one, _)| one.starts_with(prefix) && one != key)
                    .all(|(one, _)| world.served(one).is_none()),
                "{case}"
            );
            // Intended deletions do not count for later ones.
            world.allowance = Allowance::default();
            let rest = all.iter().find(|(one, _)| !one.starts_with(prefix) && world.served(one).is_some());
            if let Some((one, _)) = rest {
                world.put(&[(one, "")]);
                assert_eq!(held(&world), 0, "{case}");
            }
        }
    }
}

/// A transaction that allows its own deletions.
#[test]
fn serves_mass_deletions_of_a_transaction_that_allows_them() {
    let all = all(9, 9);
    let mut world = world(OnError::SetAside, &all);
    world.allowance.transactions.insert(world.revision + 1);
    delete(&mut world, &all, "");
    assert_eq!((served(&world), held(&world)), (0, 0));
}

/// One key after the other: no single change deletes more than the share.
#[test]
fn holds_deletions_that_come_one_by_one() {
    for prefix in ["", "private_hosted_zones/", "vpcs/"] {
        let all = all(20, 27);
        let mut world = world(OnError::SetAside, &all);
        for (key, _) in all.iter().rev().filter(|(key, _)| key.starts_with(prefix)) {
            world.put(&[(key, "")]);
        }
        let all_of = |manifest: &Manifest| {
            manifest
                .counts()
                .filter(|(kind, _)| prefix.starts_with(kind) || prefix.is_empty())
                .map(|(_, count)| count)
                .sum::<usize>()
        };
        let left = all_of(&world.snapshot.load().manifest);
        let whole = all.iter().filter(|(key, _)| key.starts_with(prefix)).count();
        assert!(
            left * 100 >= whole * (100 - MAX_DELETED_PERCENT) || prefix == "vpcs/" && left >= 1,
            "{prefix}: {left} of {whole}"
        );
        assert!(held(&world) > 0, "{prefix}");
    }
}

#[test]
fn serves_deletions_that_look_intended() {
    // A few of many resources.
    let many = all(20, 20);
    let mut world = self::world(OnError::SetAside, &many);
    let few: Vec<(&str, &str)> = many.iter().rev().take(6).map(|(key, _)| (&**key, "")).collect();
    world.put(&few);
    assert_eq!((served(&world), held(&world)), (many.len() - 6, 0));
    // New resources replace old ones, one after the other.
    for n in 0..60 {
        let (new, old) = (service(100 + n), service(if n < 14 { n } else { 86 + n }));
        world.put(&[(&new.0, &new.1)]);
        world.put(&[(&old.0, "")]);
        assert_eq!(held(&world), 0, "{n}");
    }
    // A store with few resources.
    let small = all(3, 3);
    let mut world = self::world(OnError::SetAside, &small);
    delete(&mut world, &small, "");
    assert_eq!((served(&world), held(&world)), (0, 0));
    // Resources of a temporary kind.
    let shifts =
        (0..12).map(|n| (format!("zonal_shifts/x{n}"), format!(r#"{{"resource": "s{n}", "away_from": "az1"}}"#)));
    let shifted: Vec<(String, String)> = all(1, 20).into_iter().chain(shifts).collect();
    let mut world = self::world(OnError::SetAside, &shifted);
    delete(&mut world, &shifted, "zonal_shifts/");
    assert_eq!((served(&world), held(&world)), (shifted.len() - 12, 0));
}

/// The next start, and a process that takes over, hold the same deletions.
#[test]
fn holds_deletions_after_a_restart() {
    let all = all(9, 9);
    let mut world = world(OnError::SetAside, &all);
    let revision = delete(&mut world, &all, "vpc");
    let state = world.publisher.current.state.clone();
    let mut read = PersistedState::default();
    for entry in state.entries() {
        let text = serde_json::to_vec(&entry).unwrap();
        read.add(&serde_json::from_slice(&text).unwrap()).unwrap();
    }
    assert_eq!(read.held, state.held);
    let mut world = self::world(OnError::SetAside, &[]);
    world.revision = revision;
    world.publisher.restore(read, true).unwrap();
    assert_eq!((served(&world), held(&world)), (all.len(), state.held.len()));
    world.put(&[]);
    assert_eq!((served(&world), held(&world)), (all.len(), state.held.len()));
    world.allowance.until = revision;
    world.put(&[]);
    assert_eq!(held(&world), 0);
    let gone = state.held.keys().all(|key| world.served(&format!("{}/{}", key.kind, key.id)).is_none());
    assert!(gone);
}
