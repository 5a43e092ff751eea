use super::*;
use crate::{
    control_plane::change::Position,
    manifest::collection::{Edit, Instead, Key, MASTER_FILES},
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

/// Called at each step.
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

/// State number `n`: one resource that says so, one that cannot be read, a text, something set aside.
fn state(n: u64, size: usize) -> Kept {
    let mut kept = Kept {
        held: Default::default(),
        is_incomplete: false,
        position: Position { revision: n, whole: n / 2, store: 7, mark: None },
        generation: n,
        ..Kept::default()
    };
    let vpc = |region: &str| format!(r#"{{"region": "{region}", "cidr_blocks": ["10.0.0.0/16"]}}"#);
    let edit = |kind: &str, id: &str, text: &[u8]| Edit { key: Key::new(kind, id).unwrap(), value: Some(text.into()) };
    kept.collection.apply(&[
        edit("vpcs", "same", vpc("everywhere").as_bytes()),
        edit("vpcs", "vpc", vpc(&format!("r-{n}")).as_bytes()),
        edit("vpcs", "odd", format!("{{{n}").as_bytes()),
        edit(MASTER_FILES, "a.zone", &[&n.to_be_bytes()[..], &vec![255; size]].concat()),
    ]);
    if n.is_multiple_of(3) {
        kept.collection.apply(&[edit("vpcs", &format!("third-{n}"), vpc("x").as_bytes())]);
    }
    if n.is_multiple_of(2) {
        let resource = kept.collection.manifest().resource("vpcs", "same").unwrap();
        let older = Instead::Older(resource, vec![("b.zone".into(), Some(n.to_be_bytes().to_vec().into()))]);
        kept.aside.insert(Key::new("vpcs", "vpc").unwrap(), older);
        kept.aside.insert(Key::new("vpcs", "odd").unwrap(), Instead::Nothing);
    }
    kept
}

/// All of a state, so that two can be compared.
fn told(kept: &Kept) -> String {
    let entry = kept.since(&Kept::default());
    serde_json::to_string(&entry).unwrap()
}

#[test]
fn what_is_kept_is_found_again() {
    let scratch = Scratch::new();
    let directory = scratch.path("deep/state");
    let (store, found) = Store::open(&directory).unwrap();
    assert!(found.kept.is_none() && found.damage.is_empty());
    drop(store);
    let (mut store, found) = Store::open(&directory).unwrap();
    assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&Kept::default())), "an empty base");
    for n in 1..=20 {
        store.keep(&state(n, 0), n % 5 == 0).unwrap();
        if n % 7 == 0 {
            drop(store);
            let found;
            (store, found) = Store::open(&directory).unwrap();
            assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(n, 0))));
            assert!(found.damage.is_empty(), "{:?}", found.damage);
        }
    }
}

#[test]
fn a_directory_has_one_owner() {
    let scratch = Scratch::new();
    let (store, _) = Store::open(&scratch.0).unwrap();
    let error = Store::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("is in use by another zonal"), "{error}");
    drop(store);
    Store::open(&scratch.0).unwrap();
}

/// Whoever removes a directory that is in use does not make a liar of us: what is acknowledged after that is there.
#[test]
fn a_directory_that_was_removed_is_written_anew() {
    let scratch = Scratch::new();
    let directory = scratch.path("state");
    let (mut store, _) = Store::open(&directory).unwrap();
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
            store.keep(&state(n, 0), true).unwrap();
        }
        remove();
        for _ in 0..2 {
            n += 1;
            store.keep(&state(n, 0), true).unwrap();
            let copied = scratch.path(&format!("{name} {n}"));
            copy(&directory, &copied);
            let (_, found) = Store::open(&copied).unwrap();
            assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(n, 0))), "{name}");
            assert!(found.damage.is_empty(), "{name}: {:?}", found.damage);
            assert!(is_at(&store.lock, &lock_file(&directory)), "{name}");
        }
    }
    // While it cannot be made, nothing is kept; and nothing is where another one is.
    elsewhere("gone");
    fs::write(&directory, "in the way").unwrap();
    assert!(store.keep(&state(n + 1, 0), true).is_err());
    fs::remove_file(&directory).unwrap();
    let (other, _) = Store::open(&directory).unwrap();
    assert!(store.keep(&state(n + 1, 0), true).unwrap_err().to_string().contains("another zonal"));
    drop(other);
    store.keep(&state(n + 1, 0), true).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let lock = store.rest().unwrap();
    assert!(is_at(&lock, &lock_file(&directory)));
    drop((store, lock));
    let (_, found) = Store::open(&directory).unwrap();
    assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(n + 1, 0))));
}

#[test]
fn what_is_on_no_disk_is_handed_over() {
    let file = in_memory(&state(7, 3)).unwrap();
    assert_eq!(told(&from_memory(file.try_clone().unwrap()).unwrap()), told(&state(7, 3)));
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert!(from_memory(file).is_err());
}

#[test]
fn a_directory_is_handed_over_and_taken_back() {
    let scratch = Scratch::new();
    let (mut store, _) = Store::open(&scratch.0).unwrap();
    store.keep(&state(1, 0), false).unwrap();
    let lock = store.rest().unwrap();
    let (mut other, found) = Store::open_locked(&scratch.0, lock).unwrap();
    assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(1, 0))));
    other.keep(&state(2, 0), true).unwrap();
    drop(other);
    let error = Store::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("is in use by another zonal"), "the lock is still held: {error}");
    // The other one has failed: what it wrote is overwritten.
    store.reopen().unwrap();
    store.keep(&state(1, 0), true).unwrap();
    store.keep(&state(3, 0), true).unwrap();
    drop(store);
    let (_, found) = Store::open(&scratch.0).unwrap();
    assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(3, 0))));
    assert!(found.damage.is_empty(), "{:?}", found.damage);
}

/// Killed at each step, also of those that condense: what is found is what was kept last or what was being kept, whole.
#[test]
fn killed_at_every_step() {
    let scratch = Scratch::new();
    let (live, copies) = (scratch.path("live"), scratch.path("copies"));
    let (mut store, _) = Store::open(&live).unwrap();
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
        store.keep(&state(n, LEAST_JOURNAL as usize / 3), n % 2 == 0).unwrap();
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
        "removing what is older",
    ] {
        assert!(steps.get(step).is_some_and(|count| *count >= 2), "{step}: {steps:?}");
    }
    for entry in fs::read_dir(&copies).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let numbers: Vec<u64> = name.rsplit('-').take(2).map(|number| number.parse().unwrap()).collect();
        let (mut store, found) = Store::open(&entry).unwrap();
        assert!(found.damage.is_empty(), "{name}: {:?}", found.damage);
        let kept = found.kept.unwrap_or_else(|| panic!("{name}: nothing"));
        assert!(kept.generation == numbers[0] || kept.generation == numbers[1], "{name}: {}", kept.generation);
        let size = if kept.generation == 0 { 0 } else { LEAST_JOURNAL as usize / 3 };
        let expected = if kept.generation == 0 { Kept::default() } else { state(kept.generation, size) };
        assert_eq!(told(&kept), told(&expected), "{name}");
        // It goes on from there.
        store.keep(&state(99, 0), true).unwrap();
        drop(store);
        let (_, found) = Store::open(&entry).unwrap();
        assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(99, 0))), "{name}");
        fs::remove_dir_all(entry).unwrap();
    }
}

/// The number of the newest base or journal.
fn numbers_of(directory: &Path, name: &str) -> u64 {
    numbers(directory).unwrap().iter().filter(|(kind, _)| *kind == name).map(|(_, number)| *number).max().unwrap()
}

/// A damaged base is made up for by the one before it; of a damaged journal what is in front of the damage counts.
#[test]
fn damage_is_told_and_set_aside() {
    let scratch = Scratch::new();
    let sound = scratch.path("sound");
    let (mut store, _) = Store::open(&sound).unwrap();
    for n in 1..=8 {
        store.keep(&state(n, LEAST_JOURNAL as usize / 3), false).unwrap();
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
    for at in [0, MAGIC.len(), MAGIC.len() + 5, MAGIC.len() + 9, MAGIC.len() + 40, base_len / 2, base_len - 1] {
        let directory = scratch.path(&format!("base-{at}"));
        copy(&sound, &directory);
        flip(&path(&directory, "base", newest), at);
        let (store, found) = Store::open(&directory).unwrap();
        let kept = found.kept.as_ref().map(told);
        assert_eq!(kept, Some(told(&state(8, LEAST_JOURNAL as usize / 3))), "{at}");
        assert!(!found.kept.as_ref().unwrap().is_incomplete, "nothing is lost");
        assert!(found.damage.len() == 1 && found.damage[0].contains(&format!("base.{newest} is damaged")), "{found:?}");
        assert!(directory.join(format!("base.{newest}.damaged")).exists());
        drop(store);
        let (_, found) = Store::open(&directory).unwrap();
        assert!(found.damage.is_empty() && found.kept.is_some_and(|kept| kept.generation == 8), "told once");
    }
    // Both bases: there is nothing to go on with, which is told as well.
    let directory = scratch.path("both");
    copy(&sound, &directory);
    bases.iter().for_each(|base| flip(&path(&directory, "base", *base), 100));
    let (_, found) = Store::open(&directory).unwrap();
    assert!(found.kept.is_none() && found.damage.len() == 2, "{:?}", found.damage);

    let scratch = Scratch::new();
    let (mut store, _) = Store::open(&scratch.0).unwrap();
    let mut ends = vec![store.len];
    for n in 1..=4 {
        store.keep(&state(n, 0), false).unwrap();
        ends.push(store.len);
    }
    let file = path(&scratch.0, "journal", store.number);
    drop(store);
    let whole = fs::read(&file).unwrap();
    for n in 1..=4_u64 {
        let start = ends[n as usize - 1] as usize;
        for at in [start, start + 6, start + 9, start + 50] {
            fs::write(&file, &whole).unwrap();
            flip(&file, at);
            let mut kept = Kept::default();
            let end = read(File::open(&file).unwrap(), &mut kept).unwrap();
            let is_last = n == 4 && at >= start + 8;
            assert!(matches!((&end, is_last), (End::Torn(_), true) | (End::Damaged(..), false)), "{n} at {at}");
            assert_eq!(kept.generation, n - 1);
        }
    }
    // Whatever entry of a journal is damaged: what is left may be older than what was served, which is remembered.
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
                let (_, found) = Store::open(&directory).unwrap();
                let kept = found.kept.unwrap();
                assert!(kept.is_incomplete && kept.generation == n - 1, "{n} at {at}");
            }
        }
    }
    // Cut off anywhere, and with zeros in the place of what was not written.
    for len in 0..whole.len() {
        for zeros in [0, 5, 100] {
            fs::write(&file, [&whole[..len], &vec![0; zeros]].concat()).unwrap();
            let mut kept = Kept::default();
            let end = read(File::open(&file).unwrap(), &mut kept).unwrap();
            let expected = ends.iter().rposition(|end| *end as usize <= len).unwrap_or(0);
            assert_eq!(kept.generation as usize, expected, "{len} octets and {zeros} zeros");
            assert!(!matches!(end, End::Marked(_)));
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_of_what_was_kept() {
    let scratch = Scratch::new();
    let (mut store, _) = Store::open(&scratch.0).unwrap();
    store.keep(&state(1, 0), true).unwrap();
    // Nothing can be written through this, as on a full disk.
    let journal = path(&scratch.0, "journal", store.number);
    let sound = std::mem::replace(&mut store.journal, File::open(&journal).unwrap());
    assert!(store.keep(&state(2, 0), true).is_err());
    store.journal = sound;
    store.keep(&state(3, 0), true).unwrap();
    assert!(fs::metadata(journal).unwrap().len() == store.len);
    drop(store);
    let (_, found) = Store::open(&scratch.0).unwrap();
    assert_eq!(found.kept.map(|kept| told(&kept)), Some(told(&state(3, 0))), "all since the last that was kept");
}
