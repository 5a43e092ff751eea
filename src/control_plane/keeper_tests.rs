use super::*;
use crate::listen::tests;
use std::fs;

#[test]
fn a_broken_manifest_leaves_the_last_good_one() {
    let directory = std::env::temp_dir().join(format!("zonal-keeper-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let node = Arc::default();
    let core = tests::core(&tests::limits());
    core.snapshot.store(Arc::new(nothing(&node)));
    let status = Arc::new(Status::default());
    let mut keeper = Keeper::new(core.clone(), node, status.clone(), OnError::Refuse, None);
    let generations = keeper.generations();
    let mut loader = Loader::new(&directory);
    let good = "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let other = "vpcs: {vpc-b: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let cases = [
        (good, Some(Loading::Changed), 1, 0),
        (good, Some(Loading::Unchanged), 1, 0),
        ("vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/99]}}", None, 1, 1),
        ("vpcs: [", None, 1, 2),
        (
            "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16], resolver_addresses: [10.0.0.2, 10.0.0.2]}}",
            None,
            1,
            3,
        ),
        (good, Some(Loading::Unchanged), 1, 3),
        (other, Some(Loading::Changed), 2, 3),
    ];
    for (text, expected, generation, failures) in cases {
        fs::write(directory.join("a.yaml.new"), text).unwrap();
        fs::rename(directory.join("a.yaml.new"), directory.join("a.yaml")).unwrap();
        let loading = keeper.load(&mut loader, &Due::default(), false);
        match &expected {
            Some(expected) => assert_eq!(loading, *expected, "{text}"),
            None => assert!(matches!(&loading, Loading::Failed(problems) if !problems.is_empty()), "{text}"),
        }
        assert_eq!(core.snapshot.load().generation, generation, "{text}");
        assert_eq!(*generations.borrow(), generation, "{text}");
        let state = status.state().clone();
        assert_eq!(state.last_error.is_some(), expected.is_none(), "{text}");
        assert!(state.last_error.is_none_or(|error| error.message.contains("a.yaml:")), "{text}");
        assert_eq!(state.resources.get("vpcs"), Some(&1));
        let metrics = core.metrics.text();
        assert!(metrics.contains(&format!("zonal_reloads_total{{result=\"failed\"}} {failures}\n")), "{metrics}");
        assert!(metrics.contains(&format!("zonal_reload_failed {}\n", u8::from(expected.is_none()))), "{metrics}");
    }
    fs::remove_dir_all(directory).unwrap();
}
