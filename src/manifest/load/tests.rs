use super::*;
use proptest::{collection::vec, prelude::*};
use std::fs;

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("zonal-load-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) {
        let (new, path) = (self.0.join(".new"), self.0.join(name));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn lines(&self, problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|p| p.to_string().replace(&format!("{}/", self.0.display()), "")).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn vpc(id: &str, region: &str) -> String {
    format!("vpcs:\n  {id}: {{region: {region}, cidr_blocks: [10.0.0.0/8]}}\n")
}

fn zone(id: &str, file: &str) -> String {
    format!("private_hosted_zones:\n  {id}: {{name: example.com, vpc_ids: [a], file: {file}}}\n")
}

#[test]
fn loads_the_union_of_all_files_of_a_directory() {
    let d = Directory::new("union");
    d.write("a.yaml", &vpc("a", "us-east-1"));
    d.write("b.yml", &vpc("b", "us-east-1"));
    d.write("c.json", r#"{"vpcs": {"c": {"region": "r", "cidr_blocks": []}}}"#);
    d.write("empty.yaml", "# nothing\n");
    d.write(".hidden.yaml", "[");
    d.write("notes.txt", "[");
    std::os::unix::fs::symlink(d.0.join(".target"), d.0.join("link.yaml")).unwrap();
    d.write(".target", &vpc("l", "us-east-1"));
    let (loaded, _) = Loader::new(&d.0).load().unwrap();
    assert_eq!(loaded.manifest.vpcs.keys().collect::<Vec<_>>(), ["a", "b", "c", "l"]);
}

#[test]
fn refuses_a_directory_that_lost_its_manifest_files() {
    let d = Directory::new("empty");
    let mut loader = Loader::new(&d.0);
    assert!(loader.load().is_ok());
    d.write("a.yaml", &vpc("a", "us-east-1"));
    assert!(loader.load().is_ok());
    fs::remove_file(d.0.join("a.yaml")).unwrap();
    for _ in 0..2 {
        assert!(loader.load().unwrap_err()[0].message.contains("the directory has no manifest files any more"));
    }
    d.write("a.yaml", "");
    assert!(loader.load().unwrap().0.manifest.vpcs.is_empty());
}

#[test]
fn reports_all_errors_of_all_files() {
    let d = Directory::new("wrong");
    d.write("a.yaml", &vpc("a", "us-east-1"));
    d.write("b.yaml", &format!("# twice\n{}", vpc("a", "us-east-1")));
    d.write("c.yaml", "vpc: {}\nprofiles: {}\nvpcs: [a]\ntgw-1: {}\n");
    d.write("d.yaml", "vpcs:\n  x: [\n");
    d.write("e.yaml", &zone("Z1", "no-such.zone"));
    fs::create_dir(d.0.join("dir.zone")).unwrap();
    d.write("f.yaml", &zone("Z2", "dir.zone"));
    fs::create_dir(d.0.join("g.yaml")).unwrap();
    let mut loader = Loader::new(&d.0);
    let problems = d.lines(&loader.load().unwrap_err());
    let expected = [
        "g.yaml:1:1: error: the file cannot be read: a directory, not a regular file",
        "c.yaml:1:1: error: vpc: there is no kind `vpc` (did you mean `vpcs`?)",
        "c.yaml:3:7: error: vpcs: expected a map from identifiers to resources (write the identifier with a colon, and the fields below it, indented)",
        "b.yaml:3:3: error: vpcs.a: `a` is in two files: a.yaml line 2 and b.yaml line 3 (keep one of them)",
    ];
    for line in expected {
        assert!(problems.iter().any(|problem| problem == line), "{line}\n{problems:#?}");
    }
    for part in ["d.yaml:", "no such file", "not a regular file", "write a resource below its kind, indented"] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}\n{problems:#?}");
    }
    assert_eq!(d.lines(&loader.load().unwrap_err()), problems);
    let problems = Loader::new(d.0.join("none")).load().unwrap_err();
    assert!(problems[0].message.contains("no such file or directory"), "{problems:?}");
}

#[test]
fn shares_unchanged_resources_and_zones_with_the_last_load() {
    let d = Directory::new("same");
    d.write("a.yaml", &format!("{}{}", vpc("a", "us-east-1"), zone("Z1", "one.zone")));
    d.write("b.yaml", "vpcs:\n  b: {region: r, cidr_blocks: []}\n  c: {region: r, cidr_blocks: []}\n");
    d.write("z.yaml", &zone("Z2", "two.zone"));
    d.write("one.zone", "$TTL 60\n@ SOA ns hm 1 2 3 4 5\n@ NS ns.x.\n");
    d.write("two.zone", "$TTL 60\n@ SOA ns hm 1 2 3 4 5\n@ NS ns.x.\n");
    // A file that was written just before a load is read again, because another write in the same
    // step of the clock is invisible.
    std::thread::sleep(std::time::Duration::from_millis(40));
    let mut loader = Loader::new(&d.0);
    let (first, _) = loader.load().unwrap();
    let is_unchanged = |loaded: &Loaded, id: &str| matches!(loaded.zone_data[id], ZoneData::Unchanged);
    assert!(!is_unchanged(&first, "Z1"));
    let (again, _) = loader.load().unwrap();
    assert!(!is_unchanged(&again, "Z1"), "nothing was accepted yet");
    loader.accept();
    let (third, _) = loader.load().unwrap();
    assert!(is_unchanged(&third, "Z1") && is_unchanged(&third, "Z2"));
    assert_eq!(first.digest, third.digest);

    d.write("b.yaml", "# other\nvpcs:\n  b: {region: R, cidr_blocks: []}\n  c: {region: r, cidr_blocks: []}\n");
    d.write("two.zone", "$TTL 61\n@ SOA ns hm 1 2 3 4 5\n@ NS ns.x.\n");
    let (fourth, _) = loader.load().unwrap();
    assert!(Arc::ptr_eq(&third.manifest.vpcs["a"], &fourth.manifest.vpcs["a"]));
    assert!(Arc::ptr_eq(&third.manifest.vpcs["c"], &fourth.manifest.vpcs["c"]));
    assert!(!Arc::ptr_eq(&third.manifest.vpcs["b"], &fourth.manifest.vpcs["b"]));
    assert!(is_unchanged(&fourth, "Z1") && !is_unchanged(&fourth, "Z2"));
    assert_ne!(third.digest, fourth.digest);
    assert!(loader.inputs().contains(&d.0.join("two.zone")) && loader.inputs().contains(&d.0.join("b.yaml")));

    // Neither a load that is not accepted nor a failed load counts.
    d.write("z.yaml", "vpcs: []");
    assert!(loader.load().is_err());
    d.write("z.yaml", &zone("Z2", "two.zone"));
    let (fifth, _) = loader.load().unwrap();
    assert!(!is_unchanged(&fifth, "Z2"));
    assert_eq!(fourth.digest, fifth.digest);
}

#[test]
fn digest_depends_on_the_content_only() {
    let (one, two) = (Directory::new("digest-1"), Directory::new("digest-2"));
    one.write("a.yaml", &format!("{}  b: {{region: r, cidr_blocks: []}}\n", vpc("a", "us-east-1")));
    two.write("x.json", r#"{"vpcs": {"b": {"cidr_blocks": [], "region": "r", "enable_dns_support": true}}}"#);
    two.write("y.yaml", &vpc("a", "us-east-1"));
    let digest = |d: &Directory| Loader::new(&d.0).load().unwrap().0.digest;
    assert_eq!(digest(&one), digest(&two));
    two.write("y.yaml", &vpc("a", "us-east-2"));
    assert_ne!(digest(&one), digest(&two));
}

#[test]
fn locates_problems_by_their_field() {
    let d = Directory::new("locate");
    d.write("a.yaml", &format!("# one\n{}", vpc("a", "us-east-1")));
    let mut loader = Loader::new(&d.0);
    loader.load().unwrap();
    let field = |field: &str| Problem::warning("vpcs", "a", field, "odd");
    let mut problems = [field("cidr_blocks[0]"), field("cidr_blocks[1]"), field("owner_id"), field("")];
    loader.locate(&mut problems);
    let columns: Vec<_> = problems.iter().map(|p| p.location.as_ref().map(|at| (at.line, at.column))).collect();
    assert_eq!(columns, [Some((3, 40)), Some((3, 26)), Some((3, 3)), Some((3, 3))]);
}

#[test]
fn locates_problems_in_changed_files() {
    let d = Directory::new("locations");
    let mut loader = Loader::new(&d.0);
    let mut locate = |first: &str, second: &str| {
        d.write("a.yaml", first);
        d.write("b.yaml", second);
        loader.load().unwrap();
        let mut problems = ["a", "b"].map(|id| Problem::warning("vpcs", id, "region", "odd"));
        loader.locate(&mut problems);
        d.lines(&problems)
    };
    let (a, b) = (vpc("a", "r"), vpc("b", "r"));
    let first = locate(&a, &b);
    assert_eq!(locate(&a, &b), first);
    let moved = locate(&a, &format!("# one\n# two\n{b}"));
    assert_eq!(moved[0], first[0]);
    assert_eq!(moved[1], first[1].replace("b.yaml:2", "b.yaml:4"));
    assert_ne!(moved[1], first[1]);
    let swapped = locate(&b, &a);
    assert_eq!(swapped[0], first[0].replace("a.yaml", "b.yaml"));
}

/// The example of the documentation is completed with the networks that it refers to.
#[test]
fn accepts_the_example_of_the_documentation() {
    let d = Directory::new("example");
    d.write("example.yaml", include_str!("example.yaml"));
    d.write("corp.example.com.zone", "$TTL 60\n@ SOA ns hostmaster 1 7200 900 1209600 60\n@ NS ns\nns A 10.1.0.2\n");
    d.write(
        "rest.yaml",
        "vpcs:
  vpc-spoke: {region: us-east-1, cidr_blocks: [10.3.0.0/16]}
  vpc-shared:
    region: us-east-1
    cidr_blocks: [10.2.0.0/16, 'fd00:b::/56']
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
transit_gateways: {tgw-eu: {attachments: []}}
",
    );
    let mut loader = Loader::new(&d.0);
    let (loaded, warnings) = loader.load().unwrap();
    assert_eq!(warnings, []);
    let connectivity = crate::manifest::connectivity::Connectivity::new(&loaded.manifest);
    let mut problems = crate::manifest::check::check(&loaded.manifest, &connectivity, 0);
    loader.locate(&mut problems);
    problems.sort_by_key(|problem| problem.location.as_ref().map(|at| (at.line, at.column)));
    assert_eq!(d.lines(&problems), [""; 0]);
    let json = serde_json::to_string(&loaded.manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), *loaded.manifest);
    let node = document::read(json.as_bytes(), true).0.unwrap();
    assert_eq!(crate::manifest::decode::decode::<Manifest>(&node).unwrap(), *loaded.manifest);
}

/// Some files change without a change of their metadata.
#[test]
fn reads_named_files_again_and_skips_files_that_are_being_written() {
    let d = Directory::new("looks");
    let text = |n: u8| format!("$TTL 60\n@ SOA ns hm {n} 2 3 4 5\n@ NS ns.x.\n");
    d.write("a.yaml", &vpc("a", "r1"));
    d.write("b.yaml", &zone("Z1", "one.zone"));
    d.write("one.zone", &text(1));
    let mut loader = Loader::new(&d.0);
    loader.load().unwrap();
    loader.accept();
    // Rewrites a file with the same size, inode and modification time.
    let rewrite = |name: &str, text: &str| {
        let path = d.0.join(name);
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, text).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    };
    let serial = |loaded: &Loaded| match &loaded.zone_data["Z1"] {
        ZoneData::Read(data) => data.records[0].rdata.iter().rev().nth(16).copied(),
        ZoneData::Unchanged => None,
    };
    rewrite("a.yaml", &vpc("a", "r2"));
    rewrite("one.zone", &text(2));
    let named = |names: &[&str]| Extent::Files(names.iter().map(|name| d.0.join(name)).collect());
    let scope = |extent, being_written: &[&str]| LoadScope {
        extent,
        being_written: being_written.iter().map(|name| d.0.join(name)).collect(),
    };
    let (loaded, _) = loader.load_scope(&scope(named(&["a.yaml", "one.zone"]), &[])).unwrap();
    assert_eq!((&*loaded.manifest.vpcs["a"].region, serial(&loaded)), ("r2", Some(2)));
    loader.accept();
    d.write("c.yaml", "vpcs: {");
    rewrite("a.yaml", "vpcs: {");
    rewrite("one.zone", "@ SOA");
    let being_written = ["a.yaml", "c.yaml", "one.zone"];
    for extent in [named(&["b.yaml"]), Extent::All, Extent::Anew] {
        let (loaded, _) = loader.load_scope(&scope(extent.clone(), &being_written)).unwrap();
        assert_eq!(&*loaded.manifest.vpcs["a"].region, "r2", "{extent:?}");
        assert!(!matches!(loaded.zone_data.get("Z1"), Some(ZoneData::Read(_))), "{extent:?}");
    }
    rewrite("a.yaml", &vpc("a", "r3"));
    rewrite("one.zone", &text(3));
    d.write("c.yaml", "");
    let (loaded, _) = loader.load_scope(&scope(Extent::Anew, &[])).unwrap();
    assert_eq!((&*loaded.manifest.vpcs["a"].region, serial(&loaded)), ("r3", Some(3)));
    // A new zone waits until its file is complete.
    d.write("d.yaml", "private_hosted_zones:\n  Z2: {name: two.example, vpc_ids: [a], file: two.zone}\n");
    d.write("two.zone", &text(1));
    let problems = loader.load_scope(&scope(Extent::All, &["two.zone"])).unwrap_err();
    assert!(problems[0].message.contains("the file is being written"), "{problems:?}");
}

/// A change of a directory.
#[derive(Clone, Debug)]
enum Action {
    /// Writes a manifest file with these resources of two kinds. A resource with the number 9 has
    /// an error.
    Write(u8, Vec<u8>, Vec<(u8, u8)>),
    Remove(u8),
    /// Writes a master file. The one with the number 3 is included by the others.
    WriteMaster(u8, u8),
    RemoveMaster(u8),
}

impl Action {
    fn path(&self) -> String {
        match self {
            Action::Write(file, ..) | Action::Remove(file) => format!("{file}.yaml"),
            Action::WriteMaster(file, _) | Action::RemoveMaster(file) => format!("{file}.zone"),
        }
    }

    fn apply(&self, d: &Directory) {
        match self {
            Action::Write(_, vpcs, zones) => {
                let vpcs: String =
                    vpcs.iter().map(|id| vpc(&format!("vpc-{}", id % 9), ["r", "3"][usize::from(id / 9)])).collect();
                let zones: String =
                    zones.iter().map(|(id, file)| zone(&format!("Z{id}"), &format!("{file}.zone"))).collect();
                // A kind is named once.
                let without_kind = |text: String| -> String {
                    text.lines().filter(|line| line.starts_with(' ')).map(|line| format!("{line}\n")).collect()
                };
                d.write(
                    &self.path(),
                    &format!("vpcs:\n{}private_hosted_zones:\n{}", without_kind(vpcs), without_kind(zones)),
                );
            }
            Action::WriteMaster(3, version) => d.write("3.zone", &format!("x A 10.0.0.{version}\n")),
            Action::WriteMaster(_, version) => {
                d.write(
                    &self.path(),
                    &format!("$TTL 60\n@ SOA ns hm {version} 2 3 4 5\n@ NS ns.x.\n$INCLUDE 3.zone\n"),
                );
            }
            Action::Remove(_) | Action::RemoveMaster(_) => drop(fs::remove_file(d.0.join(self.path()))),
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let write = (0..4u8, vec(0..10u8, 0..4), vec((0..3u8, 0..3u8), 0..2))
        .prop_map(|(file, vpcs, zones)| Action::Write(file, vpcs, zones));
    prop_oneof![
        6 => write,
        1 => (0..4u8).prop_map(Action::Remove),
        3 => (0..4u8, 0..3u8).prop_map(|(file, version)| Action::WriteMaster(file, version)),
        1 => (0..4u8).prop_map(Action::RemoveMaster),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_loads_equal_full_loads(steps in vec((vec(action(), 1..4), any::<bool>()), 1..12)) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let d = Directory::new(&format!("follow-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        (0..4).for_each(|file| Action::WriteMaster(file, 0).apply(&d));
        d.write("always.yaml", "");
        let mut loader = Loader::new(&d.0).keeping_texts();
        // The zones as the last accepted load has them.
        let mut served: BTreeMap<Id, (Arc<PrivateHostedZone>, MasterFile)> = BTreeMap::new();
        let mut extent = Extent::All;
        for (actions, is_accepted) in steps {
            actions.iter().for_each(|action| action.apply(&d));
            if let Extent::Files(files) = &mut extent {
                files.extend(actions.iter().map(|action| d.0.join(action.path())));
            }
            let mut anew = Loader::new(&d.0).keeping_texts();
            match (loader.load_scope(&LoadScope { extent: extent.clone(), ..LoadScope::default() }), anew.load()) {
                (Ok((loaded, problems)), Ok((expected, all))) => {
                    prop_assert_eq!(&loaded.manifest, &expected.manifest);
                    prop_assert_eq!(loaded.digest, expected.digest);
                    prop_assert_eq!(d.lines(&problems), d.lines(&all));
                    prop_assert_eq!(loader.master_files(), anew.master_files());
                    let zones = &loaded.manifest.private_hosted_zones;
                    let mut now = BTreeMap::new();
                    for (id, resource) in zones {
                        let data = match loaded.zone_data.get(id) {
                            Some(ZoneData::Read(data)) => data.clone(),
                            // The compiler uses the records of the previous snapshot.
                            _ => served[id].1.clone(),
                        };
                        let Some(ZoneData::Read(expected)) = expected.zone_data.get(id) else { panic!("{id} is not read") };
                        prop_assert_eq!(&data, expected);
                        now.insert(id.clone(), (resource.clone(), data));
                    }
                    if is_accepted {
                        served = now;
                        loader.accept();
                    }
                }
                (Err(problems), Err(all)) => {
                    let sorted = |problems: &[Problem]| d.lines(problems).into_iter().collect::<BTreeSet<_>>();
                    prop_assert_eq!(sorted(&problems), sorted(&all));
                }
                (one, other) => prop_assert!(false, "{:?}\nbut a full load\n{:?}", one.err(), other.err()),
            }
            extent = Extent::Files(BTreeSet::new());
        }
    }
}
