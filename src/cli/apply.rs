//! `zonal apply`, `zonal diff` and `zonal export`: what is in files, and what is elsewhere.

use super::{
    ApplyArguments, DiffArguments, ExportArguments, Format, check, print,
    report::complain,
    target::{State, Target},
    tell,
};
use crate::{
    control_plane::etcd::{FEW, MOST_DELETED},
    difference::{self, Answers},
    listen::now,
    manifest::{
        Loaded, Loader, Manifest, Problem,
        collection::{Aside, Collection, Edit, Instead, Key, MASTER_FILES, Served},
        presets,
        problem::printable,
    },
    snapshot::{self, Node, Snapshot},
};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead, IsTerminal},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

/// How many answers that change are listed.
const LISTED: usize = 200;
/// How much of a value is shown, in characters.
const SHOWN: usize = 60;

/// What would be done.
struct Plan {
    state: State,
    edits: Vec<Edit>,
    answers: Answers,
    /// What is there cannot be served as it is, so that its answers are not known.
    is_unknown: bool,
}

/// Runs `zonal apply`. Exit status 1 if it could not be done.
pub(super) fn apply(arguments: &ApplyArguments) -> ExitCode {
    ended(try_apply(arguments))
}

/// Runs `zonal diff`. Exit status 1 if there is a difference, or it cannot be told.
pub(super) fn diff(arguments: &DiffArguments) -> ExitCode {
    let planned = Target::new(&arguments.target).and_then(|target| plan(&arguments.directory, &target));
    ended(planned.map(|planned| {
        let Some(plan) = planned else { return ExitCode::FAILURE };
        print(&match arguments.format {
            Format::Human => plan.to_text(),
            Format::Json => format!("{:#}\n", plan.to_json()),
        });
        if plan.edits.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }))
}

/// Runs `zonal export`. Exit status 1 if something is left out.
pub(super) fn export(arguments: &ExportArguments) -> ExitCode {
    let exported = Target::new(&arguments.target).and_then(|target| target.read()).and_then(|state| {
        for (key, unreadable) in state.collection.unreadable() {
            let why = unreadable.problems.first().map_or(String::new(), Problem::to_string);
            tell(format_args!("{}/{} is left out: {}", key.kind, key.id, printable(&why)));
        }
        write_files(&state.collection, arguments.directory.as_deref())?;
        Ok(if state.collection.unreadable().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    ended(exported)
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        tell(printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

fn try_apply(arguments: &ApplyArguments) -> anyhow::Result<ExitCode> {
    let target = Target::new(&arguments.target)?;
    let Some(plan) = plan(&arguments.directory, &target)? else { return Ok(ExitCode::FAILURE) };
    print(&plan.to_text());
    if plan.edits.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let (all, gone) = (plan.state.collection.len(), plan.edits.iter().filter(|edit| edit.value.is_none()).count());
    if all >= FEW && gone * 100 > all * MOST_DELETED && !arguments.force {
        bail!("{gone} of {all} resources would be deleted, more than {MOST_DELETED} %: if that is meant, say --force");
    }
    let steps = target.steps(&plan.edits);
    if steps > 1 {
        print(&format!("\nThis takes {steps} transactions, in an order in which all that is named is there.\n"));
    }
    if arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !is_agreed()? {
        print("Nothing was changed.\n");
        return Ok(ExitCode::FAILURE);
    }
    let progress = progress(steps as u64);
    let revision = target.write(&plan.state, &plan.edits, || progress.inc(1))?;
    progress.finish_and_clear();
    print(&format!(
        "Applied: revision {revision}. `zonal wait --revision {revision} ADDR…` waits until nodes serve it.\n"
    ));
    Ok(ExitCode::SUCCESS)
}

fn is_agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody is there to say yes: say --yes");
    }
    print("\nApply this? Only `yes` is taken for it: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

/// Shown on a terminal, of what takes several steps.
fn progress(steps: u64) -> ProgressBar {
    if steps < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} transactions, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Compares a directory with what there is. None, and all problems are told, if the directory has errors.
fn plan(directory: &Path, target: &Target) -> anyhow::Result<Option<Plan>> {
    let (examined, mut problems) = check::examine(directory, &[], &Arc::default());
    let new = match examined {
        Ok(snapshot) => snapshot,
        Err(more) => {
            problems.extend(more);
            complain(problems);
            return Ok(None);
        }
    };
    complain(problems);
    let mut loader = Loader::new(directory).keeping_texts();
    let Ok((loaded, _)) = loader.load() else { bail!("{} changes while it is read", directory.display()) };
    let wanted = Collection::of(&loaded.manifest, loader.master_files());
    if let Some(name) = wanted.master_files().keys().find(|name| name.starts_with('/')) {
        bail!(
            "the master file {name} is named by its absolute path, which is nothing elsewhere: name it within the directory"
        );
    }
    let state = target.read()?;
    let edits = wanted.edits_from(&state.collection);
    let old = compiled(&state.collection);
    let is_unknown = old.is_none();
    let answers = old.map_or(Answers::default(), |old| difference::answers(&old, &new, now(), LISTED));
    Ok(Some(Plan { state, edits, answers, is_unknown }))
}

/// What would be served of it; none if that has errors. What is of no kind is never served.
fn compiled(collection: &Collection) -> Option<Snapshot> {
    let strangers = collection.unreadable().keys().filter(|key| Key::new(key.kind, &key.id).is_none());
    let aside: Aside = strangers.map(|key| (key.clone(), Instead::Nothing)).collect();
    let candidate = collection.candidate(&aside, &Served::default());
    if candidate.problems.iter().any(Problem::is_error) {
        return None;
    }
    let manifest = presets::complete(&candidate.loaded.manifest, &Manifest::default());
    let loaded = Loaded { manifest, ..candidate.loaded };
    snapshot::compile(&loaded, &Arc::new(Node::default()), None).ok().map(|(snapshot, _)| snapshot)
}

impl Plan {
    fn to_text(&self) -> String {
        let mut text = String::new();
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for Edit { key, value } in &self.edits {
            let old = self.state.collection.text(key);
            let name = printable(&format!("{}/{}", key.kind, key.id));
            // Nothing fails to be written to a string.
            let _ = match (&old, value) {
                (None, _) => {
                    added += 1;
                    writeln!(text, "+ {name}")
                }
                (_, None) => {
                    removed += 1;
                    writeln!(text, "- {name}")
                }
                (Some(old), Some(new)) => {
                    changed += 1;
                    let fields = if key.kind == MASTER_FILES { String::new() } else { fields(old, new) };
                    writeln!(text, "~ {name}{fields}")
                }
            };
        }
        if self.edits.is_empty() {
            return "No difference.\n".into();
        }
        let _ = writeln!(text, "\nPlan: {added} to add, {changed} to change, {removed} to delete.");
        if self.is_unknown {
            text += "What is there has errors, so that it is not known which answers change.\n";
        } else if self.answers.is_empty() {
            text += "No answer changes.\n";
        } else {
            let _ = write!(text, "Answers that change:\n{}", self.answers.to_text());
        }
        text
    }

    fn to_json(&self) -> Value {
        let change = |Edit { key, value }: &Edit| {
            let change = match (self.state.collection.text(key), value) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            };
            json!({"kind": key.kind, "id": key.id, "change": change})
        };
        let answers = (!self.is_unknown).then_some(&self.answers);
        json!({"changes": self.edits.iter().map(change).collect::<Vec<_>>(), "answers": answers})
    }
}

/// The members of a resource that change.
fn fields(old: &[u8], new: &[u8]) -> String {
    let [Some(old), Some(new)] = [old, new].map(|text| serde_json::from_slice::<Value>(text).ok()) else {
        return String::new();
    };
    let empty = serde_json::Map::new();
    let [old, new] = [&old, &new].map(|value| value.as_object().unwrap_or(&empty));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |value: Option<&Value>| {
        let text = value.map_or("-".into(), Value::to_string);
        match text.char_indices().nth(SHOWN) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    };
    let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let lines = differing.map(|name| format!("\n    {name}: {} -> {}", shown(old.get(name)), shown(new.get(name))));
    lines.map(|line| format!("\n{}", printable(&line[1..]))).collect()
}

/// Whether a file of this name in a manifest's directory is part of the manifest.
fn is_manifest(name: &Path) -> bool {
    let is_at_top = name.parent().is_some_and(|parent| parent.as_os_str().is_empty());
    let is_hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let extension = name.extension().and_then(|extension| extension.to_str());
    is_at_top && !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Writes a manifest: to standard output, or as files.
fn write_files(collection: &Collection, directory: Option<&Path>) -> anyhow::Result<()> {
    let mut whole = serde_json::to_value(collection.manifest())?;
    if let Value::Object(kinds) = &mut whole {
        kinds.retain(|_, resources| resources.as_object().is_none_or(|resources| !resources.is_empty()));
    }
    let text = format!("{whole:#}\n");
    let Some(directory) = directory else {
        if !collection.master_files().is_empty() {
            bail!("there are master files: `--directory` says where they are written");
        }
        print(&text);
        return Ok(());
    };
    let write = |name: &Path, octets: &[u8]| {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap_or(directory))
            .and_then(|()| fs::write(&path, octets))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    for (name, octets) in collection.master_files() {
        let is_within = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_within {
            bail!("the master file {} would be written outside of the directory", printable(name));
        }
        // One with a manifest's name would be read as one, or be overwritten by it.
        if is_manifest(Path::new(name)) {
            bail!("the master file {} has a manifest's name: give it another one, such as {0}.zone", printable(name));
        }
        write(Path::new(name), octets)?;
    }
    write(Path::new("manifest.json"), text.as_bytes())?;
    let left_out = match collection.unreadable().len() {
        0 => String::new(),
        count => format!("; {count} cannot be read and are left out"),
    };
    let written = collection.len() - collection.unreadable().len();
    print(&format!("{written} resources and master files are in {}{left_out}\n", directory.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::collection::Key;

    #[test]
    fn no_master_file_is_written_as_a_manifest() {
        let directory = std::env::temp_dir().join(format!("zonal-export-{}", std::process::id()));
        let export = |name: &str| {
            let mut collection = Collection::default();
            let key = Key::new(MASTER_FILES, name).unwrap();
            collection.apply(&[Edit { key, value: Some(b"@ 5 A 192.0.2.1\n".as_slice().into()) }]);
            write_files(&collection, Some(&directory)).map_err(|error| error.to_string())
        };
        for name in ["manifest.json", "vpcs.yaml", "a.yml"] {
            let told =
                format!("the master file {name} has a manifest's name: give it another one, such as {name}.zone");
            assert_eq!(export(name), Err(told));
            assert!(!directory.join(name).exists());
        }
        assert_eq!(export("zones/a.yaml"), Ok(()));
        assert_eq!(export("a.zone"), Ok(()));
        fs::remove_dir_all(directory).unwrap();
    }
}
