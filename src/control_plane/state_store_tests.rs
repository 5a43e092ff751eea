use super::*;
use crate::{
    control_plane::change::Position,
    manifest::collection::{Edit, Key, MASTER_FILES, Replacement},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

type Hook = Box<dyn FnMut(&str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// The hook for [`WriteOptions::on_step`].
pub fn step(name: &str) {
    HOOK.with_borrow_mut(|hook| hook.iter_mut().for_each(|hook| hook(name)));
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("zonal-store-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// State number `n`: a resource with the number in it, a resource that cannot be read, a master
/// file, and resources set aside.
fn numbered(n: u64, size: usize) -> PersistedState {
    let mut state = PersistedState {
        held: Default::default(),
        is_incomplete: false,
        position: Position { revision: n, whole: n / 2, cluster_id: 7, mark: None },
        generation: n,
        ..PersistedState::default()
    };
    let vpc = |region: &str| format!(r#"{{"region": "{region}", "cidr_blocks": ["10.0.0.0/16"]}}"#);
    let edit = |kind: &str, id: &str, text: &[u8]| Edit { key: Key::new(kind, id).unwrap(), value: Some(text.into()) };
    state.collection.apply(&[
        edit("vpcs", "same", vpc("everywhere").as_bytes()),
        edit("vpcs", "vpc", vpc(&format!("r-{n}")).as_bytes()),
        edit("vpcs", "odd", format!("{{{n}").as_bytes()),
        edit(MASTER_FILES, "a.zone", &[&n.to_be_bytes()[..], &vec![255; size]].concat()),
    ]);
    if n.is_multiple_of(3) {
        state.collection.apply(&[edit("vpcs", &format!("third-{n}"), vpc("x").as_bytes())]);
    }
    if n.is_multiple_of(2) {
        let resource = state.collection.manifest().resource("vpcs", "same").unwrap();
        let older = Replacement::Older(resource, vec![("b.zone".into(), Some(n.to_be_bytes().to_vec().into()))]);
        state.aside.insert(Key::new("vpcs", "vpc").unwrap(), older);
        state.aside.insert(Key::new("vpcs", "odd").unwrap(), Replacement::Nothing);
    }
    state
}

/// The size of a state, in octets, of which three make the store write a base.
const STATE_OCTETS: usize = 4096 / 3;

/// A store that writes small bases, in the foreground and without a buffer, and that calls the hook
/// at each step.
fn open_small(directory: &Path) -> anyhow::Result<(StateStore, Recovered)> {
    let options = WriteOptions { min_journal_octets: 4096, buffer_octets: 0, in_background: false, on_step: step };
    StateStore::open_with(directory, options)
}

/// A state as text, to compare states.
fn json(state: &PersistedState) -> String {
    let entry = state.entry_since(&PersistedState::default());
    serde_json::to_string(&entry).unwrap()
}

#[test]
fn recovers_the_last_state() {
    let scratch = Scratch::new();
    let directory = scratch.path("deep/state");
    let (store, recovered) = StateStore::open(&directory).unwrap();
    assert!(recovered.state.is_none() && recovered.damage.is_empty());
    drop(store);
    let (mut store, recovered) = StateStore::open(&directory).unwrap();
    assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&PersistedState::default())), "an empty base");
    for n in 1..=20 {
        store.write(&numbered(n, 0), n % 5 == 0).unwrap();
        if n % 7 == 0 {
            drop(store);
            let recovered;
            (store, recovered) = StateStore::open(&directory).unwrap();
            assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(n, 0))));
            assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        }
    }
}

#[test]
fn refuses_a_directory_that_another_process_has_locked() {
    let scratch = Scratch::new();
    let (store, _) = StateStore::open(&scratch.0).unwrap();
    let error = StateStore::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("is in use by another zonal"), "{error}");
    drop(store);
    StateStore::open(&scratch.0).unwrap();
}

/// A state that is acknowledged after the removal of the directory is on the disk.
#[test]
fn recreates_a_directory_that_was_removed() {
    let scratch = Scratch::new();
    let directory = scratch.path("state");
    let (mut store, _) = StateStore::open(&directory).unwrap();
    let elsewhere = |name: &str| fs::rename(&directory, scratch.path(name)).unwrap();
    type Removal<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let removals: [Removal; 4] = [
        ("removed", Box::new(|| fs::remove_dir_all(&directory).unwrap())),
        ("made again", Box::new(|| (elsewhere("made"), fs::create_dir(&directory).unwrap()).0)),
        ("a copy", Box::new(|| (elsewhere("copied"), copy(&scratch.path("copied"), &directory)).0)),
        ("without a lock", Box::new(|| fs::remove_file(lock_file(&directory)).unwrap())),
    ];
    let mut n = 0;
    for (name, remove) in removals {
        for _ in 0..2 {
            n += 1;
            store.write(&numbered(n, 0), true).unwrap();
        }
        remove();
        for _ in 0..2 {
            n += 1;
            store.write(&numbered(n, 0), true).unwrap();
            let copied = scratch.path(&format!("{name} {n}"));
            copy(&directory, &copied);
            let (_, recovered) = StateStore::open(&copied).unwrap();
            assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(n, 0))), "{name}");
            assert!(recovered.damage.is_empty(), "{name}: {:?}", recovered.damage);
            assert!(is_at(&store.lock, &lock_file(&directory)), "{name}");
        }
    }
    // Nothing is written while the directory cannot be created, or while another process has locked
    // it.
    elsewhere("gone");
    fs::write(&directory, "in the way").unwrap();
    assert!(store.write(&numbered(n + 1, 0), true).is_err());
    fs::remove_file(&directory).unwrap();
    let (other, _) = StateStore::open(&directory).unwrap();
    assert!(store.write(&numbered(n + 1, 0), true).unwrap_err().to_string().contains("another zonal"));
    drop(other);
    store.write(&numbered(n + 1, 0), true).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let lock = store.release().unwrap();
    assert!(is_at(&lock, &lock_file(&directory)));
    drop((store, lock));
    let (_, recovered) = StateStore::open(&directory).unwrap();
    assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(n + 1, 0))));
}

#[test]
fn hands_over_a_state_in_memory() {
    let file = in_memory(&numbered(7, 3)).unwrap();
    assert_eq!(json(&from_memory(file.try_clone().unwrap()).unwrap()), json(&numbered(7, 3)));
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert!(from_memory(file).is_err());
}

#[test]
fn hands_over_a_directory_and_takes_it_back() {
    let scratch = Scratch::new();
    let (mut store, _) = StateStore::open(&scratch.0).unwrap();
    store.write(&numbered(1, 0), false).unwrap();
    let lock = store.release().unwrap();
    let (mut other, recovered) = StateStore::open_locked(&scratch.0, lock).unwrap();
    assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(1, 0))));
    other.write(&numbered(2, 0), true).unwrap();
    drop(other);
    let error = StateStore::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("is in use by another zonal"), "the lock is still held: {error}");
    // The other process has failed: its state is overwritten.
    store.reopen().unwrap();
    store.write(&numbered(1, 0), true).unwrap();
    store.write(&numbered(3, 0), true).unwrap();
    drop(store);
    let (_, recovered) = StateStore::open(&scratch.0).unwrap();
    assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(3, 0))));
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
}

/// Whenever the process is killed, the next one recovers the last state, or the state that was
/// being written, whole.
#[test]
fn loses_nothing_when_killed_at_any_step() {
    let scratch = Scratch::new();
    let (live, copies) = (scratch.path("live"), scratch.path("copies"));
    let (mut store, _) = open_small(&live).unwrap();
    let now = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
    let steps: std::rc::Rc<RefCell<BTreeMap<String, usize>>> = Default::default();
    HOOK.set(Some({
        let (live, copies, now, steps) = (live.clone(), copies.clone(), now.clone(), steps.clone());
        Box::new(move |name| {
            let count = { *steps.borrow_mut().entry(name.into()).and_modify(|count| *count += 1).or_insert(1) };
            let (before, after) = now.get();
            copy(&live, &copies.join(format!("{}-{count}-{before}-{after}", name.replace(' ', "_"))));
        })
    }));
    let states = 12;
    for n in 1..=states {
        now.set((n - 1, n));
        store.write(&numbered(n, STATE_OCTETS), n % 2 == 0).unwrap();
        now.set((n, n));
    }
    HOOK.set(None);
    drop(store);
    let steps = steps.borrow();
    for step in [
        "append",
        "half an entry",
        "an entry",
        "a new journal",
        "after a new journal",
        "a new base",
        "within a base",
        "a base without its name",
        "after a new base",
        "removing an older file",
    ] {
        assert!(steps.get(step).is_some_and(|count| *count >= 2), "{step}: {steps:?}");
    }
    for entry in fs::read_dir(&copies).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let numbers: Vec<u64> = name.rsplit('-').take(2).map(|number| number.parse().unwrap()).collect();
        let (mut store, recovered) = StateStore::open(&entry).unwrap();
        assert!(recovered.damage.is_empty(), "{name}: {:?}", recovered.damage);
        let state = recovered.state.unwrap_or_else(|| panic!("{name}: nothing"));
        assert!(state.generation == numbers[0] || state.generation == numbers[1], "{name}: {}", state.generation);
        let size = if state.generation == 0 { 0 } else { STATE_OCTETS };
        let expected = if state.generation == 0 { PersistedState::default() } else { numbered(state.generation, size) };
        assert_eq!(json(&state), json(&expected), "{name}");
        // The store continues from there.
        store.write(&numbered(99, 0), true).unwrap();
        drop(store);
        let (_, recovered) = StateStore::open(&entry).unwrap();
        assert_eq!(recovered.state.map(|state| json(&state)), Some(json(&numbered(99, 0))), "{name}");
        fs::remove_dir_all(entry).unwrap();
    }
}

/// The number of the newest base or journal.
fn numbers_of(directory: &Path, name: &str) -> u64 {
    numbers(directory).unwrap().iter().filter(|(kind, _)| *kind == name).map(|(_, number)| *number).max().unwrap()
}

/// An older base and the journals replace a damaged base. Of a damaged journal, the entries before
/// the damage count.
#[test]
fn reports_damaged_files_and_renames_them() {
    let scratch = Scratch::new();
    let sound = scratch.path("sound");
    let (mut store, _) = open_small(&sound).unwrap();
    for n in 1..=8 {
        store.write(&numbered(n, STATE_OCTETS), false).unwrap();
    }
    drop(store);
    let numbers = numbers(&sound).unwrap();
    let bases: Vec<u64> = numbers.iter().filter(|(kind, _)| *kind == "base").map(|(_, number)| *number).collect();
    assert_eq!(bases.len(), 2, "{numbers:?}");
    let newest = bases[1];
    let flip = |file: &Path, at: usize| {
        let mut octets = fs::read(file).unwrap();
        octets[at] ^= 0x55;
        fs::write(file, octets).unwrap();
    };
    let base_len = fs::metadata(path(&sound, "base", newest)).unwrap().len() as usize;
    for at in [
        0,
        BASE_MAGIC.len(),
        BASE_MAGIC.len() + 5,
        BASE_MAGIC.len() + 9,
        BASE_MAGIC.len() + 40,
        base_len / 2,
        base_len - 1,
    ] {
        let directory = scratch.path(&format!("base-{at}"));
        copy(&sound, &directory);
        flip(&path(&directory, "base", newest), at);
        let (store, recovered) = StateStore::open(&directory).unwrap();
        let state = recovered.state.as_ref().map(json);
        assert_eq!(state, Some(json(&numbered(8, STATE_OCTETS))), "{at}");
        assert!(!recovered.state.as_ref().unwrap().is_incomplete, "nothing is lost");
        assert!(
            recovered.damage.len() == 1 && recovered.damage[0].contains(&format!("base.{newest} is damaged")),
            "{recovered:?}"
        );
        assert!(directory.join(format!("base.{newest}.damaged")).exists());
        drop(store);
        let (_, recovered) = StateStore::open(&directory).unwrap();
        assert!(
            recovered.damage.is_empty() && recovered.state.is_some_and(|state| state.generation == 8),
            "reported once"
        );
    }
    // Both bases are damaged: there is no state.
    let directory = scratch.path("both");
    copy(&sound, &directory);
    bases.iter().for_each(|base| flip(&path(&directory, "base", *base), 100));
    let (_, recovered) = StateStore::open(&directory).unwrap();
    assert!(recovered.state.is_none() && recovered.damage.len() == 2, "{:?}", recovered.damage);

    let scratch = Scratch::new();
    let (mut store, _) = StateStore::open(&scratch.0).unwrap();
    let mut ends = vec![store.journal_octets];
    for n in 1..=4 {
        store.write(&numbered(n, 0), false).unwrap();
        ends.push(store.journal_octets);
    }
    let file = path(&scratch.0, "journal", store.number);
    drop(store);
    let whole = fs::read(&file).unwrap();
    for n in 1..=4_u64 {
        let start = ends[n as usize - 1] as usize;
        for at in [start, start + 6, start + 9, start + 50] {
            fs::write(&file, &whole).unwrap();
            flip(&file, at);
            let mut state = PersistedState::default();
            let end = read(File::open(&file).unwrap(), &mut state).unwrap();
            let is_last = n == 4 && at >= start + 8;
            assert!(matches!((&end, is_last), (End::Torn(_), true) | (End::Damaged(..), false)), "{n} at {at}");
            assert_eq!(state.generation, n - 1);
        }
    }
    // Any damaged entry of a journal makes the state incomplete, also after the next start.
    for n in [1, 4] {
        let start = ends[n as usize - 1] as usize;
        for at in [start, start + 50] {
            let directory = scratch.path(&format!("journal-{at}"));
            fs::create_dir_all(&directory).unwrap();
            for name in ["base", "journal"] {
                let number = numbers_of(&scratch.0, name);
                let file = path(&directory, name, number);
                fs::write(
                    &file,
                    if name == "base" { fs::read(path(&scratch.0, name, number)).unwrap() } else { whole.clone() },
                )
                .unwrap();
                if name == "journal" {
                    flip(&file, at);
                }
            }
            for _ in 0..2 {
                let (_, recovered) = StateStore::open(&directory).unwrap();
                let state = recovered.state.unwrap();
                assert!(state.is_incomplete && state.generation == n - 1, "{n} at {at}");
            }
        }
    }
    // A journal that was cut off anywhere, with zeros instead of octets that were not written.
    for len in 0..whole.len() {
        for zeros in [0, 5, 100] {
            fs::write(&file, [&whole[..len], &vec![0; zeros]].concat()).unwrap();
            let mut state = PersistedState::default();
            let end = read(File::open(&file).unwrap(), &mut state).unwrap();
            let expected = ends.iter().rposition(|end| *end as usize <= len).unwrap_or(0);
            assert_eq!(state.generation as usize, expected, "{len} octets and {zeros} zeros");
            assert!(!matches!(end, End::Marked(_)));
        }
    }
}

#[test]
fn keeps_the_last_state_when_the_disk_is_full() {
    let scratch = Scratch::new();
    let (mut store, _) = StateStore::open(&scratch.0).unwrap();
    store.write(&numbered(1, 0), true).unwrap();
    // Writing to this file fails, as on a full disk.
    let journal = path(&scratch.0, "journal", store.number);
    let sound = std::mem::replace(&mut store.journal, File::open(&journal).unwrap());
    assert!(store.write(&numbered(2, 0), true).is_err());
    store.journal = sound;
    store.write(&numbered(3, 0), true).unwrap();
    assert!(fs::metadata(journal).unwrap().len() == store.journal_octets);
    drop(store);
    let (_, recovered) = StateStore::open(&scratch.0).unwrap();
    assert_eq!(
        recovered.state.map(|state| json(&state)),
        Some(json(&numbered(3, 0))),
        "all changes since the last that was written"
    );
}

/// A state with a zone of these addresses.
fn with_zone(state: &PersistedState, addresses: &[&str]) -> PersistedState {
    let record =
        |(at, address): (usize, &&str)| format!(r#"{{"name": "r{at}", "type": "A", "records": ["{address}"]}}"#);
    let records: Vec<String> = addresses.iter().enumerate().map(record).collect();
    let zone = format!(r#"{{"name": "z.example", "vpc_ids": [], "records": [{}]}}"#, records.join(", "));
    let mut state = state.clone();
    let key = Key::new("private_hosted_zones", "Z").unwrap();
    state.collection.apply(&[Edit { key, value: Some(zone.as_bytes().into()) }]);
    state.generation += 1;
    state
}

#[test]
fn continues_a_directory_of_an_earlier_version() {
    let scratch = Scratch::new();
    let (mut store, _) = StateStore::open(&scratch.0).unwrap();
    let first = with_zone(&numbered(1, 0), &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    store.write(&first, true).unwrap();
    let journal = path(&scratch.0, "journal", store.number);
    drop(store);
    // The first octets of a journal were those of a base.
    let old = [BASE_MAGIC, &fs::read(&journal).unwrap()[BASE_MAGIC.len()..]].concat();
    fs::write(&journal, &old).unwrap();
    let (mut store, recovered) = StateStore::open(&scratch.0).unwrap();
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(recovered.state.as_ref().map(json), Some(json(&first)));
    let second = with_zone(&first, &["192.0.2.1", "192.0.2.9", "192.0.2.3"]);
    store.write(&second, true).unwrap();
    let written = fs::read(path(&scratch.0, "journal", store.number)).unwrap();
    assert!(written.starts_with(JOURNAL_MAGIC) && !String::from_utf8_lossy(&written).contains("192.0.2.3"));
    assert_eq!(fs::read(&journal).unwrap(), old, "an earlier version can read it");
    drop(store);
    let (_, recovered) = StateStore::open(&scratch.0).unwrap();
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(recovered.state.as_ref().map(json), Some(json(&second)));
}

#[test]
fn an_entry_with_changes_of_other_record_sets_is_damage() {
    let first = with_zone(&PersistedState::default(), &["192.0.2.1", "192.0.2.2"]);
    let second = with_zone(&first, &["192.0.2.1", "192.0.2.9"]);
    let entry = second.entry_since(&first);
    let mut state = first.clone();
    state.add(&entry).unwrap();
    assert_eq!(json(&state), json(&second));
    for other in [PersistedState::default(), with_zone(&PersistedState::default(), &["192.0.2.1"])] {
        assert!(other.clone().add(&entry).is_err());
    }
    // A zone with another member is written whole.
    let mut renamed = second.clone();
    let zone = br#"{"name": "z.example", "vpc_ids": ["v"], "records": [{"name": "r0", "type": "A", "records": ["192.0.2.1"]}]}"#;
    let key = Key::new("private_hosted_zones", "Z").unwrap();
    renamed.collection.apply(&[Edit { key, value: Some(zone[..].into()) }]);
    let entry = renamed.entry_since(&second);
    let mut state = PersistedState::default();
    state.add(&entry).unwrap();
    assert_eq!(json(&state), json(&renamed));
}
