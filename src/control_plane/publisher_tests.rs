use super::*;
use crate::{control_plane::current::empty_snapshot, manifest::load::Extent};
use arc_swap::ArcSwap;
use std::fs;

#[test]
fn serves_the_last_valid_manifest_after_errors() {
    let directory = std::env::temp_dir().join(format!("zonal-publisher-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let node = Arc::default();
    let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
    let status = Arc::new(Status::default());
    let mut publisher = Publisher::new(snapshot.clone(), node, status.clone(), OnError::Refuse, None);
    let generations = publisher.generations();
    let mut loader = Loader::new(&directory);
    let good = "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let other = "vpcs: {vpc-b: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let cases = [
        (good, Some(LoadResult::Changed), 1, 0),
        (good, Some(LoadResult::Unchanged), 1, 0),
        ("vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/99]}}", None, 1, 1),
        ("vpcs: [", None, 1, 2),
        (
            "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16], resolver_addresses: [10.0.0.2, 10.0.0.2]}}",
            None,
            1,
            3,
        ),
        (good, Some(LoadResult::Unchanged), 1, 3),
        (other, Some(LoadResult::Changed), 2, 3),
    ];
    for (text, expected, generation, failures) in cases {
        fs::write(directory.join("a.yaml.new"), text).unwrap();
        fs::rename(directory.join("a.yaml.new"), directory.join("a.yaml")).unwrap();
        let loading = publisher.load(&mut loader, &LoadScope::default(), false);
        match &expected {
            Some(expected) => assert_eq!(loading, *expected, "{text}"),
            None => assert!(matches!(&loading, LoadResult::Failed(problems) if !problems.is_empty()), "{text}"),
        }
        assert_eq!(snapshot.load().generation, generation, "{text}");
        assert_eq!(*generations.borrow(), generation, "{text}");
        let state = status.state().clone();
        assert_eq!(state.last_error.is_some(), expected.is_none(), "{text}");
        assert!(state.last_error.is_none_or(|error| error.message.contains("a.yaml:")), "{text}");
        assert_eq!(state.resources.get("vpcs"), Some(&1));
        let counters = publisher.counters();
        assert_eq!(counters.reloads.with_label_values(&["failed"]).get(), failures, "{text}");
        assert_eq!(counters.reload_failed.get(), i64::from(expected.is_none()), "{text}");
    }
    fs::remove_dir_all(directory).unwrap();
}

/// Files that are written one after the other: a resource that moves to another file is never
/// missing, and no file is refused because another one comes later.
#[test]
fn waits_for_other_files_of_an_incomplete_change() {
    let directory = std::env::temp_dir().join(format!("zonal-publisher-early-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| {
        fs::write(directory.join(".new"), text).unwrap();
        fs::rename(directory.join(".new"), directory.join(name)).unwrap();
        LoadScope { extent: Extent::Files([directory.join(name)].into()), ..LoadScope::default() }
    };
    let vpc = |id: &str| format!("vpcs: {{{id}: {{region: r, cidr_blocks: [10.0.0.0/16]}}}}");
    let zone = |vpcs: &str| format!("private_hosted_zones: {{Z: {{name: z.example, vpc_ids: [{vpcs}]}}}}");
    for on_error in [OnError::Refuse, OnError::SetAside] {
        let node = Arc::default();
        let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
        let mut publisher = Publisher::new(snapshot.clone(), node, Arc::default(), on_error, None);
        write("a.yaml", &vpc("vpc-a"));
        write("b.yaml", "");
        write("c.yaml", &zone("vpc-a"));
        let mut loader = Loader::new(&directory).keeping_texts();
        assert_eq!(publisher.load(&mut loader, &LoadScope::default(), true), LoadResult::Changed);
        let has = |vpc: &str| snapshot.load().manifest.vpcs.contains_key(vpc);
        // A VPC moves to another file.
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", ""), true), LoadResult::Incomplete);
        assert!(has("vpc-a"), "{on_error:?}");
        assert_eq!(publisher.load(&mut loader, &write("b.yaml", &vpc("vpc-a")), true), LoadResult::Unchanged);
        // A zone comes before its VPC.
        assert_eq!(publisher.load(&mut loader, &write("c.yaml", &zone("vpc-a, vpc-b")), true), LoadResult::Incomplete);
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", &vpc("vpc-b")), true), LoadResult::Changed);
        assert!(has("vpc-a") && has("vpc-b"));
        assert_eq!(publisher.counters().reloads.with_label_values(&["failed"]).get(), 0);
        // A part of a file, and a load that waits no longer.
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", "vpcs: {"), true), LoadResult::Incomplete);
        let nothing_more = LoadScope { extent: Extent::Files(Default::default()), ..LoadScope::default() };
        assert!(matches!(publisher.load(&mut loader, &nothing_more, false), LoadResult::Failed(_)));
        assert!(has("vpc-b"));
        write("c.yaml", &zone("vpc-a"));
        write("a.yaml", "");
        assert_eq!(publisher.load(&mut loader, &LoadScope::default(), false), LoadResult::Changed);
        assert!(!has("vpc-b"));
    }
    fs::remove_dir_all(directory).unwrap();
}
