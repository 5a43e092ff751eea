//! The keeper: the only writer of what is served.

use super::status::{self, LastError, Status};
use crate::{
    listen::{Core, now},
    manifest::{Loaded, Manifest, Problem, check::Checked, connectivity::Connectivity, load::Loader},
    snapshot::{self, Node, Snapshot, routes::Route},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// How many problems of one load are logged.
const LOGGED: usize = 20;

/// What came of a load.
#[derive(Debug, PartialEq, Eq)]
pub enum Loading {
    /// A new generation is served.
    Changed,
    /// The data is what is served already.
    Unchanged,
    /// It has errors; what was served before still is.
    Failed(Vec<Problem>),
}

/// Takes what sources deliver, compiles it and publishes it. Bad input never empties what is served.
pub struct Keeper {
    core: Arc<Core>,
    node: Arc<Node>,
    status: Arc<Status>,
    generation: watch::Sender<u64>,
    manifest: Arc<Manifest>,
    /// The checks of that manifest.
    checked: Checked,
}

/// What is served before anything was loaded: nothing, as generation 0.
pub fn nothing(node: &Arc<Node>) -> Snapshot {
    match snapshot::compile(&Loaded::default(), node, None) {
        Ok((mut snapshot, _)) => {
            snapshot.generation = 0;
            snapshot
        }
        Err(problems) => unreachable!("an empty manifest has no errors, but {problems:?}"),
    }
}

impl Keeper {
    /// A keeper of what `core` serves.
    pub fn new(core: Arc<Core>, node: Arc<Node>, status: Arc<Status>) -> Keeper {
        let generation = watch::channel(core.snapshot.load().generation).0;
        Keeper { core, node, status, generation, manifest: Arc::default(), checked: Checked::default() }
    }

    /// Follows the generations that are served.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The manifest that is served.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Loads, compiles and publishes. It takes its time and is not for threads that answer.
    pub fn load(&mut self, loader: &mut Loader) -> Loading {
        let started = Instant::now();
        let (loaded, mut problems) = match loader.load() {
            Ok(loaded) => loaded,
            Err(problems) => return self.failed(problems),
        };
        let previous = self.core.snapshot.load_full();
        if previous.generation > 0 && previous.digest == loaded.digest {
            loader.accept();
            self.count("unchanged", &problems);
            self.status.state().last_error = None;
            tracing::info!(generation = previous.generation, "loaded: nothing has changed");
            return Loading::Unchanged;
        }
        let compiling = Instant::now();
        let compiled = self.check_and_compile(&loaded, &previous);
        self.core.metrics.compile_seconds.set(compiling.elapsed().as_secs_f64());
        let (snapshot, checked, more) = match compiled {
            Ok(compiled) => compiled,
            Err(mut more) => {
                loader.locate(&mut more);
                problems.append(&mut more);
                return self.failed(problems);
            }
        };
        let first = problems.len();
        problems.extend(more);
        loader.locate(&mut problems[first..]);
        let generation = snapshot.generation;
        self.publish(snapshot, loaded.manifest, &problems);
        self.checked = checked;
        loader.accept();
        tracing::info!(generation, digest = %hex(&loaded.digest), elapsed = ?started.elapsed(), "loaded");
        retire(previous);
        Loading::Changed
    }

    /// Checks a manifest and compiles it. With the snapshot come warnings; instead of it, all errors and warnings.
    fn check_and_compile(
        &self,
        loaded: &Loaded,
        previous: &Snapshot,
    ) -> Result<(Snapshot, Checked, Vec<Problem>), Vec<Problem>> {
        let manifest = &loaded.manifest;
        let checked = match previous.connectivity_of(manifest) {
            Some(connectivity) => self.checked.follow(&self.manifest, manifest, connectivity, now()),
            None => Checked::new(manifest, &Connectivity::new(manifest), now()),
        };
        let (snapshot, problems) = snapshot::compile_checked(loaded, &self.node, Some(previous), checked.problems())?;
        Ok((snapshot, checked, problems))
    }

    /// Publishes what is served already, with another internet resolver if this one is another.
    pub fn follow(&mut self, internet: Option<Arc<Route>>) {
        if self.node.internet == internet {
            return;
        }
        match &internet {
            Some(route) => tracing::info!("names that are not ours go to {}", route.servers),
            None => tracing::info!("names that are not ours are refused"),
        }
        self.node = Arc::new(Node { internet, ..(*self.node).clone() });
        let previous = self.core.snapshot.load_full();
        if previous.generation > 0 {
            self.swap(previous.with_node(self.node.clone()));
            retire(previous);
        }
    }

    fn swap(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.core.snapshot.store(Arc::new(snapshot));
        self.core.metrics.published();
        self.status.state().since = status::seconds(SystemTime::now());
        self.generation.send_replace(generation);
    }

    fn publish(&mut self, snapshot: Snapshot, manifest: Arc<Manifest>, problems: &[Problem]) {
        {
            let mut state = self.status.state();
            state.last_error = None;
            state.resources = status::resources(&manifest);
        }
        self.manifest = manifest;
        self.swap(snapshot);
        self.count("changed", problems);
        for problem in problems.iter().take(LOGGED) {
            tracing::warn!("{problem}");
        }
        if problems.len() > LOGGED {
            tracing::warn!("and {} more warnings: see `zonal check`", problems.len() - LOGGED);
        }
    }

    fn failed(&self, problems: Vec<Problem>) -> Loading {
        let error = LastError::new(&problems);
        let generation = self.core.snapshot.load().generation;
        if generation > 0 {
            tracing::error!("the manifest is refused, generation {generation} is still served: {}", error.message);
        }
        self.status.state().last_error = Some(error);
        self.count("failed", &problems);
        Loading::Failed(problems)
    }

    fn count(&self, result: &str, problems: &[Problem]) {
        let metrics = &self.core.metrics;
        metrics.reloads.with_label_values(&[result]).inc();
        metrics.reload_failed.set((result == "failed").into());
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        metrics.problems.with_label_values(&["error"]).set(errors as i64);
        metrics.problems.with_label_values(&["warning"]).set((problems.len() - errors) as i64);
        self.status.state().warnings = problems.len() - errors;
    }
}

/// Frees a snapshot here, on the keeper's thread, and not on that of a worker which happens to hold it last.
fn retire(snapshot: Arc<Snapshot>) {
    for _ in 0..1000 {
        if Arc::strong_count(&snapshot) == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Octets as hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
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
        let mut keeper = Keeper::new(core.clone(), node, status.clone());
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
            let loading = keeper.load(&mut loader);
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
}
