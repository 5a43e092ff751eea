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

    fn shown(&self, problems: &[Problem]) -> Vec<String> {
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
fn a_directory_is_the_union_of_its_files() {
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
fn an_empty_directory_is_no_manifest_where_there_was_one() {
    let d = Directory::new("empty");
    let mut loader = Loader::new(&d.0);
    assert!(loader.load().is_ok());
    d.write("a.yaml", &vpc("a", "us-east-1"));
    assert!(loader.load().is_ok());
    fs::remove_file(d.0.join("a.yaml")).unwrap();
    for _ in 0..2 {
        assert!(loader.load().unwrap_err()[0].message.contains("there are no manifest files any more"));
    }
    d.write("a.yaml", "");
    assert!(loader.load().unwrap().0.manifest.vpcs.is_empty());
}

#[test]
fn all_that_is_wrong_is_told() {
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
    let problems = d.shown(&loader.load().unwrap_err());
    let expected = [
        "g.yaml:1:1: error: the file cannot be read: it is a directory, not a regular file",
        "c.yaml:1:1: error: vpc: there is no kind `vpc` (did you mean `vpcs`?)",
        "c.yaml:2:1: error: profiles: `profiles` is not served yet by this version (take it out)",
        "c.yaml:3:7: error: vpcs: expected a map from identifiers to resources (write the identifier and a colon, and the fields below it, indented)",
        "b.yaml:3:3: error: vpcs.a: `a` is in two files: a.yaml line 2 and b.yaml line 3 (keep one of them)",
    ];
    for line in expected {
        assert!(problems.iter().any(|problem| problem == line), "{line}\n{problems:#?}");
    }
    for part in ["d.yaml:", "no such file", "not a regular file", "a resource stands below its kind, indented"] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}\n{problems:#?}");
    }
    assert_eq!(d.shown(&loader.load().unwrap_err()), problems);
    let problems = Loader::new(d.0.join("none")).load().unwrap_err();
    assert!(problems[0].message.contains("there is no such file or directory"), "{problems:?}");
}

#[test]
fn what_did_not_change_stays_the_same() {
    let d = Directory::new("same");
    d.write("a.yaml", &format!("{}{}", vpc("a", "us-east-1"), zone("Z1", "one.zone")));
    d.write("b.yaml", "vpcs:\n  b: {region: r, cidr_blocks: []}\n  c: {region: r, cidr_blocks: []}\n");
    d.write("z.yaml", &zone("Z2", "two.zone"));
    d.write("one.zone", "$TTL 60\n@ SOA ns hm 1 2 3 4 5\n@ NS ns.x.\n");
    d.write("two.zone", "$TTL 60\n@ SOA ns hm 1 2 3 4 5\n@ NS ns.x.\n");
    // What was written just now might be written again within the same step of the clock.
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

    // A load that nobody accepts does not count, and neither does one that fails.
    d.write("z.yaml", "vpcs: []");
    assert!(loader.load().is_err());
    d.write("z.yaml", &zone("Z2", "two.zone"));
    let (fifth, _) = loader.load().unwrap();
    assert!(!is_unchanged(&fifth, "Z2"));
    assert_eq!(fourth.digest, fifth.digest);
}

#[test]
fn the_digest_is_that_of_the_content() {
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
fn problems_get_their_place() {
    let d = Directory::new("locate");
    d.write("a.yaml", &format!("# one\n{}", vpc("a", "us-east-1")));
    let mut loader = Loader::new(&d.0);
    loader.load().unwrap();
    let field = |field: &str| Problem::warning("vpcs", "a", field, "odd");
    let mut problems = [field("cidr_blocks[0]"), field("cidr_blocks[1]"), field("owner_id"), field("")];
    loader.locate(&mut problems);
    let columns: Vec<_> = problems.iter().map(|p| p.place.as_ref().map(|place| (place.line, place.column))).collect();
    assert_eq!(columns, [Some((3, 40)), Some((3, 26)), Some((3, 3)), Some((3, 3))]);
}

#[test]
fn places_move_with_their_file() {
    let d = Directory::new("places");
    let mut loader = Loader::new(&d.0);
    let mut place = |first: &str, second: &str| {
        d.write("a.yaml", first);
        d.write("b.yaml", second);
        loader.load().unwrap();
        let mut problems = ["a", "b"].map(|id| Problem::warning("vpcs", id, "region", "odd"));
        loader.locate(&mut problems);
        d.shown(&problems)
    };
    let (a, b) = (vpc("a", "r"), vpc("b", "r"));
    let first = place(&a, &b);
    assert_eq!(place(&a, &b), first);
    let moved = place(&a, &format!("# one\n# two\n{b}"));
    assert_eq!(moved[0], first[0]);
    assert_eq!(moved[1], first[1].replace("b.yaml:2", "b.yaml:4"));
    assert_ne!(moved[1], first[1]);
    let swapped = place(&b, &a);
    assert_eq!(swapped[0], first[0].replace("a.yaml", "b.yaml"));
}

/// The example of the documentation, with the networks that it only names.
#[test]
fn the_example_holds_together() {
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
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
    assert_eq!(
        d.shown(&problems),
        [
            "example.yaml:13:17: error: vpcs.vpc-app.profile_id: `profile_id` is not served yet by this version (take it out)",
        ]
    );
    let json = serde_json::to_string(&loaded.manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), *loaded.manifest);
    let node = document::read(json.as_bytes(), true).0.unwrap();
    assert_eq!(crate::manifest::decode::decode::<Manifest>(&node).unwrap(), *loaded.manifest);
}

/// A file that looks as it did is read again where that proves nothing, and one that is being written is not looked at.
#[test]
fn looks_deceive() {
    let d = Directory::new("looks");
    let text = |n: u8| format!("$TTL 60\n@ SOA ns hm {n} 2 3 4 5\n@ NS ns.x.\n");
    d.write("a.yaml", &vpc("a", "r1"));
    d.write("b.yaml", &zone("Z1", "one.zone"));
    d.write("one.zone", &text(1));
    let mut loader = Loader::new(&d.0);
    loader.load().unwrap();
    loader.accept();
    // The same size, the same inode, and the times of before.
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
    let due =
        |extent, underway: &[&str]| Due { extent, underway: underway.iter().map(|name| d.0.join(name)).collect() };
    let (loaded, _) = loader.load_due(&due(named(&["a.yaml", "one.zone"]), &[])).unwrap();
    assert_eq!((&*loaded.manifest.vpcs["a"].region, serial(&loaded)), ("r2", Some(2)));
    loader.accept();
    d.write("c.yaml", "vpcs: {");
    rewrite("a.yaml", "vpcs: {");
    rewrite("one.zone", "@ SOA");
    let underway = ["a.yaml", "c.yaml", "one.zone"];
    for extent in [named(&["b.yaml"]), Extent::All, Extent::Anew] {
        let (loaded, _) = loader.load_due(&due(extent.clone(), &underway)).unwrap();
        assert_eq!(&*loaded.manifest.vpcs["a"].region, "r2", "{extent:?}");
        assert!(!matches!(loaded.zone_data.get("Z1"), Some(ZoneData::Read(_))), "{extent:?}");
    }
    rewrite("a.yaml", &vpc("a", "r3"));
    rewrite("one.zone", &text(3));
    d.write("c.yaml", "");
    let (loaded, _) = loader.load_due(&due(Extent::Anew, &[])).unwrap();
    assert_eq!((&*loaded.manifest.vpcs["a"].region, serial(&loaded)), ("r3", Some(3)));
    // A zone that is new has to wait until its file is whole.
    d.write("d.yaml", "private_hosted_zones:\n  Z2: {name: two.example, vpc_ids: [a], file: two.zone}\n");
    d.write("two.zone", &text(1));
    let problems = loader.load_due(&due(Extent::All, &["two.zone"])).unwrap_err();
    assert!(problems[0].message.contains("somebody is writing it"), "{problems:?}");
}

/// What is done to a directory.
#[derive(Clone, Debug)]
enum Act {
    /// A manifest file, with these resources of two kinds; those of number 9 have an error.
    Write(u8, Vec<u8>, Vec<(u8, u8)>),
    Remove(u8),
    /// A master file; that of number 3 is included by the others.
    Master(u8, u8),
    Unmaster(u8),
}

impl Act {
    fn path(&self) -> String {
        match self {
            Act::Write(file, ..) | Act::Remove(file) => format!("{file}.yaml"),
            Act::Master(file, _) | Act::Unmaster(file) => format!("{file}.zone"),
        }
    }

    fn act(&self, d: &Directory) {
        match self {
            Act::Write(_, vpcs, zones) => {
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
            Act::Master(3, version) => d.write("3.zone", &format!("x A 10.0.0.{version}\n")),
            Act::Master(_, version) => {
                d.write(
                    &self.path(),
                    &format!("$TTL 60\n@ SOA ns hm {version} 2 3 4 5\n@ NS ns.x.\n$INCLUDE 3.zone\n"),
                );
            }
            Act::Remove(_) | Act::Unmaster(_) => drop(fs::remove_file(d.0.join(self.path()))),
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let write = (0..4u8, vec(0..10u8, 0..4), vec((0..3u8, 0..3u8), 0..2))
        .prop_map(|(file, vpcs, zones)| Act::Write(file, vpcs, zones));
    prop_oneof![
        6 => write,
        1 => (0..4u8).prop_map(Act::Remove),
        3 => (0..4u8, 0..3u8).prop_map(|(file, version)| Act::Master(file, version)),
        1 => (0..4u8).prop_map(Act::Unmaster),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Who follows what changes has what somebody has who reads it all.
    #[test]
    fn following_is_reading_anew(steps in vec((vec(act(), 1..4), any::<bool>()), 1..12)) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let d = Directory::new(&format!("follow-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        (0..4).for_each(|file| Act::Master(file, 0).act(&d));
        d.write("always.yaml", "");
        let mut loader = Loader::new(&d.0).keeping_texts();
        // The zones as the last accepted load has them.
        let mut served: BTreeMap<Id, (Arc<PrivateHostedZone>, MasterFile)> = BTreeMap::new();
        let mut extent = Extent::All;
        for (acts, is_accepted) in steps {
            acts.iter().for_each(|act| act.act(&d));
            if let Extent::Files(files) = &mut extent {
                files.extend(acts.iter().map(|act| d.0.join(act.path())));
            }
            let mut anew = Loader::new(&d.0).keeping_texts();
            match (loader.load_due(&Due { extent: extent.clone(), ..Due::default() }), anew.load()) {
                (Ok((loaded, problems)), Ok((expected, all))) => {
                    prop_assert_eq!(&loaded.manifest, &expected.manifest);
                    prop_assert_eq!(loaded.digest, expected.digest);
                    prop_assert_eq!(d.shown(&problems), d.shown(&all));
                    prop_assert_eq!(loader.master_files(), anew.master_files());
                    let zones = &loaded.manifest.private_hosted_zones;
                    let mut now = BTreeMap::new();
                    for (id, resource) in zones {
                        let data = match loaded.zone_data.get(id) {
                            Some(ZoneData::Read(data)) => data.clone(),
                            // As the compiler has it: what was served before.
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
                    let sorted = |problems: &[Problem]| d.shown(problems).into_iter().collect::<BTreeSet<_>>();
                    prop_assert_eq!(sorted(&problems), sorted(&all));
                }
                (one, other) => prop_assert!(false, "{:?}\nbut anew\n{:?}", one.err(), other.err()),
            }
            extent = Extent::Files(BTreeSet::new());
        }
    }
}
