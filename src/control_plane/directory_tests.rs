use super::*;
use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("zonal-watch-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), name).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until all events so far are in the queue, and leaves them there. Returns whether one of
/// them leads to a load.
fn settle(watch: &Watch) -> bool {
    let sentinel = watch.real_directory.join(".sentinel");
    fs::create_dir(&sentinel).unwrap();
    let mut events = Vec::new();
    loop {
        match watch.messages.recv().unwrap() {
            // The event of the removal may come after this function has ended.
            Message::Event(Ok(event)) if event.kind.is_create() && event.paths.contains(&sentinel) => break,
            message => events.push(message),
        }
    }
    fs::remove_dir(&sentinel).unwrap();
    let complete = |message: &Message| matches!(message, Message::Event(e) if watch.effect(e) >= Effect::Complete);
    let any = events.iter().any(complete);
    events.into_iter().for_each(|event| watch.sender.send(event).unwrap());
    any
}

/// The number of loads that a change causes.
fn loads(watch: &mut Watch, inputs: &dyn Fn() -> Vec<PathBuf>, change: impl FnOnce()) -> usize {
    watch.follow(&inputs(), SystemTime::now());
    while watch.messages.try_recv().is_ok() {}
    change();
    let mut loads = 0;
    while settle(watch) || watch.must_load {
        assert!(matches!(watch.wait(), Wake::Load { .. }));
        loads += 1;
        let started = SystemTime::now();
        watch.follow(&inputs(), started);
    }
    loads
}

#[test]
fn loads_each_change_once() {
    let scratch = Scratch::new();
    let directory = scratch.path("zones");
    fs::create_dir(&directory).unwrap();
    for name in ["zones/a.yaml", "zones/b.yaml", "zones/corp.zone"] {
        scratch.write(name);
    }
    let inputs = || ["zones/a.yaml", "zones/b.yaml", "zones/corp.zone"].map(|name| scratch.path(name)).to_vec();
    let mut watch = Watch::new(Some(&directory));
    std::thread::sleep(FILE_TIME_RESOLUTION * 2);
    let cases: [(&str, usize, &dyn Fn()); 13] = [
        ("nothing", 0, &|| {}),
        ("a write", 1, &|| scratch.write("zones/a.yaml")),
        ("a new file", 1, &|| scratch.write("zones/new.yml")),
        ("reading", 0, &|| drop(fs::read(scratch.path("zones/a.yaml")).unwrap())),
        ("write and rename", 1, &|| {
            scratch.write("zones/.a.yaml.swp");
            fs::rename(scratch.path("zones/.a.yaml.swp"), scratch.path("zones/a.yaml")).unwrap();
        }),
        ("backup, as vim does", 1, &|| {
            fs::rename(scratch.path("zones/a.yaml"), scratch.path("zones/a.yaml~")).unwrap();
            scratch.write("zones/a.yaml");
            fs::remove_file(scratch.path("zones/a.yaml~")).unwrap();
        }),
        ("cp", 1, &|| {
            fs::copy(scratch.path("zones/b.yaml"), scratch.path("zones/a.yaml")).unwrap();
        }),
        ("several at once, as git checkout does", 1, &|| {
            for name in ["zones/a.yaml", "zones/b.yaml", "zones/corp.zone"] {
                fs::remove_file(scratch.path(name)).unwrap();
                scratch.write(name);
            }
        }),
        ("a master file", 1, &|| scratch.write("zones/corp.zone")),
        ("other files", 0, &|| {
            scratch.write("zones/README.md");
            scratch.write("zones/.hidden.yaml");
            scratch.write("other.yaml");
        }),
        ("a hard link", 1, &|| fs::hard_link(scratch.path("other.yaml"), scratch.path("zones/hard.json")).unwrap()),
        ("removal", 1, &|| fs::remove_file(scratch.path("zones/new.yml")).unwrap()),
        ("a file being written", 0, &|| {
            std::mem::forget(fs::File::create(scratch.path("zones/long.yaml")).unwrap());
        }),
    ];
    for (name, expected, change) in cases {
        assert_eq!(loads(&mut watch, &inputs, change), expected, "{name}");
    }
}

#[test]
fn follows_links() {
    let scratch = Scratch::new();
    let mount = scratch.path("mount");
    for version in ["mount/..v1", "mount/..v2"] {
        fs::create_dir_all(scratch.path(version)).unwrap();
        fs::write(scratch.path(version).join("a.yaml"), version).unwrap();
    }
    symlink("..v1", mount.join("..data")).unwrap();
    symlink("..data/a.yaml", mount.join("a.yaml")).unwrap();
    symlink("mount", scratch.path("zones")).unwrap();
    let inputs = || vec![scratch.path("zones/a.yaml")];
    let mut watch = Watch::new(Some(&scratch.path("zones")));
    std::thread::sleep(FILE_TIME_RESOLUTION * 2);
    let swap = || {
        symlink("..v2", mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        fs::remove_dir_all(mount.join("..v1")).unwrap();
    };
    assert_eq!(loads(&mut watch, &inputs, swap), 1, "the swap of Kubernetes");
    let write = || fs::write(mount.join("..v2/a.yaml"), "new").unwrap();
    assert_eq!(loads(&mut watch, &inputs, write), 1, "the target of a link");
    let relink = || {
        fs::create_dir(scratch.path("release")).unwrap();
        fs::write(scratch.path("release/a.yaml"), "new").unwrap();
        symlink("release", scratch.path("next")).unwrap();
        fs::rename(scratch.path("next"), scratch.path("zones")).unwrap();
    };
    assert!((1..=2).contains(&loads(&mut watch, &inputs, relink)), "the directory itself");
    let write = || scratch.write("release/a.yaml");
    assert_eq!(loads(&mut watch, &inputs, write), 1, "a file of the new directory");
}

#[test]
fn follows_files_outside_the_directory() {
    let scratch = Scratch::new();
    for directory in ["zones", "run"] {
        fs::create_dir(scratch.path(directory)).unwrap();
    }
    symlink("run/resolv.conf", scratch.path("resolv.conf")).unwrap();
    let mut watch = Watch::new(Some(&scratch.path("zones")));
    watch.add(vec![scratch.path("resolv.conf")]);
    let mut wakes = |change: &str, act: &dyn Fn()| {
        watch.follow(&[], SystemTime::now());
        std::thread::sleep(FILE_TIME_RESOLUTION * 2);
        act();
        assert!(matches!(watch.wait(), Wake::Load { .. }), "{change}");
    };
    wakes("it comes", &|| scratch.write("run/resolv.conf"));
    wakes("it is written", &|| scratch.write("run/resolv.conf"));
    wakes("it is replaced", &|| {
        scratch.write("run/new");
        fs::rename(scratch.path("run/new"), scratch.path("run/resolv.conf")).unwrap();
    });
    wakes("the link leads elsewhere", &|| {
        scratch.write("other");
        symlink("other", scratch.path("link")).unwrap();
        fs::rename(scratch.path("link"), scratch.path("resolv.conf")).unwrap();
    });
    wakes("it goes", &|| fs::remove_file(scratch.path("other")).unwrap());
}

#[test]
fn follows_a_directory_that_is_removed_and_created_again() {
    let scratch = Scratch::new();
    let directory = scratch.path("deep/zones");
    let inputs = || vec![directory.join("a.yaml")];
    fs::create_dir_all(&directory).unwrap();
    scratch.write("deep/zones/a.yaml");
    let mut watch = Watch::new(Some(&directory));
    fs::remove_dir_all(scratch.path("deep")).unwrap();
    assert!(matches!(watch.wait(), Wake::Load { .. }));
    watch.follow(&inputs(), SystemTime::now());
    fs::create_dir_all(&directory).unwrap();
    scratch.write("deep/zones/a.yaml");
    assert!(matches!(watch.wait(), Wake::Load { .. }));
    watch.follow(&inputs(), SystemTime::now());
    assert!(loads(&mut watch, &inputs, || scratch.write("deep/zones/a.yaml")) >= 1);
}

#[test]
fn compares_file_times_without_watches() {
    let scratch = Scratch::new();
    scratch.write("a.yaml");
    let mut watch = Watch::new(Some(&scratch.0));
    watch.poll_instead(&notify::Error::generic("no watches"));
    for change in ["a.yaml", "new.yaml"] {
        watch.follow(&[scratch.path("a.yaml")], SystemTime::now());
        std::thread::sleep(FILE_TIME_RESOLUTION * 2);
        scratch.write(change);
        assert!(matches!(watch.wait(), Wake::Load { .. }), "{change}");
    }
}

#[test]
fn compares_file_times_in_an_unreadable_directory() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("closed")).unwrap();
    fs::create_dir(scratch.path("open")).unwrap();
    let mut watch = Watch::new(Some(&scratch.path("open")));
    let denied = notify::Error::io(io::ErrorKind::PermissionDenied.into());
    let closed = scratch.path("closed");
    watch.unwatch(&closed);
    watch.watched.insert(closed.clone(), None);
    watch.not_watched(&closed, &denied);
    assert!(watch.watcher.is_some(), "all other directories are still watched");
    watch.relevant.insert(closed.join("link"));
    watch.stamp = watch.stamp();
    assert!(!watch.is_stale());
    symlink("x", closed.join("link")).unwrap();
    assert!(watch.is_stale());
}

#[test]
fn loads_again_after_a_lack_of_resources() {
    let scratch = Scratch::new();
    let mut watch = Watch::new(Some(&scratch.0));
    watch.retry = true;
    assert!(matches!(watch.wait(), Wake::Load { .. }));
}

#[test]
fn ends_a_trail_in_a_loop() {
    let scratch = Scratch::new();
    symlink("loop", scratch.path("loop")).unwrap();
    assert_eq!(trail(&scratch.path("loop/x")).len(), MAX_LINKS + 1);
    symlink("/", scratch.path("root")).unwrap();
    assert_eq!(trail(&scratch.path("root/../none/./x")).last(), Some(&PathBuf::from("/none/x")));
}
