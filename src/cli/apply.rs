//! `zonal apply`, `zonal diff` and `zonal export`: compare and copy resources between files and etcd or a server.

use super::{
    ApplyArguments, DiffArguments, ExportArguments, Format, check, plan::Plan, print, print_error,
    report::print_problems, target::Target,
};
use crate::{
    clock::now,
    control_plane::guard::{MAX_DELETED_PERCENT, MIN_JUDGED},
    difference::{self, Answers},
    manifest::{
        Loaded, Loader, Manifest, Problem,
        collection::{Collection, Key, Replacement, Replacements, Served},
        presets,
        problem::printable,
        protection,
    },
    snapshot::{self, Node, Snapshot},
};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

/// The maximum number of changed answers to look for.
const MAX_ANSWERS: usize = 1000;
/// The width of lines without a terminal, in characters, and the minimum width on one.
const DEFAULT_WIDTH: usize = 160;
const MIN_WIDTH: usize = 60;

/// Runs `zonal apply`. Exit status 1 if nothing was applied, or a change failed.
pub(super) fn apply(arguments: &ApplyArguments) -> ExitCode {
    exit_code(try_apply(arguments))
}

/// Runs `zonal diff`. Exit status 1 if there is a difference, or if the comparison failed.
pub(super) fn diff(arguments: &DiffArguments) -> ExitCode {
    let planned = Target::new(&arguments.target).and_then(|target| plan(&arguments.directory, &target));
    exit_code(planned.map(|planned| {
        let Some(plan) = planned else { return ExitCode::FAILURE };
        print(&match arguments.format {
            Format::Human => plan.to_text(width(), 1),
            Format::Json => format!("{:#}\n", plan.to_json()),
        });
        if plan.edits.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }))
}

/// Runs `zonal export`. Exit status 1 if a resource is left out.
pub(super) fn export(arguments: &ExportArguments) -> ExitCode {
    let exported = Target::new(&arguments.target).and_then(|target| target.read()).and_then(|state| {
        for (key, unreadable) in state.collection.unreadable() {
            let why = unreadable.problems.first().map_or(String::new(), Problem::to_string);
            print_error(format_args!("{}/{} is left out: {}", key.kind, key.id, printable(&why)));
        }
        write_files(&state.collection, arguments.directory.as_deref())?;
        Ok(if state.collection.unreadable().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    exit_code(exported)
}

/// The exit status of a command. Prints the error, if there is one: exit status 1.
pub(super) fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        print_error(printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

fn try_apply(arguments: &ApplyArguments) -> anyhow::Result<ExitCode> {
    let target = Target::new(&arguments.target)?;
    let Some(plan) = plan(&arguments.directory, &target)? else { return Ok(ExitCode::FAILURE) };
    let (all, gone) = (plan.state.collection.len(), plan.edits.iter().filter(|edit| edit.value.is_none()).count());
    let steps = target.steps(&plan.edits);
    let deletes_too_much = all >= MIN_JUDGED && gone * 100 > all * MAX_DELETED_PERCENT && !arguments.force;
    let protected = protection::violations(&plan.state.collection, &plan.edits);
    // The reason of a refusal comes first: the plan may be long.
    let refusal = match plan.edits.is_empty() {
        false if !protected.is_empty() => Some(
            protected
                .iter()
                .map(|(key, refusal)| format!("{}/{}: {}", key.kind, key.id, printable(refusal)))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        false if deletes_too_much => Some(format!(
            "{gone} of {all} resources would be deleted, more than {MAX_DELETED_PERCENT} %: if this is intended, use --force"
        )),
        false if !arguments.yes && !arguments.dry_run && !io::stdin().is_terminal() => {
            Some("standard input is not a terminal, so the plan cannot be confirmed: use --yes".into())
        }
        _ => None,
    };
    if let Some(refusal) = &refusal {
        print_error(refusal);
    }
    print(&plan.to_text(width(), steps));
    if refusal.is_some() {
        return Ok(ExitCode::FAILURE);
    }
    if plan.edits.is_empty()
        && arguments.force
        && !arguments.dry_run
        && let Some(revision) = target.allow_deletion(&plan.state)?
    {
        print(&format!("Nodes now apply the held deletions up to revision {revision}.\n"));
    }
    if plan.edits.is_empty() || arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !is_agreed()? {
        print("Nothing was changed.\n");
        return Ok(ExitCode::FAILURE);
    }
    let progress = progress(steps as u64);
    let revision = target.write(&plan.state, &plan.edits, arguments.force, || progress.inc(1))?;
    progress.finish_and_clear();
    print(&format!(
        "Applied: revision {revision}. `zonal wait --revision {revision} ADDR…` waits until nodes serve it.\n"
    ));
    Ok(ExitCode::SUCCESS)
}

fn is_agreed() -> anyhow::Result<bool> {
    print("Apply this plan? Type `yes` to confirm: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

/// The maximum number of characters in a line: the terminal's width, or a default for logs.
pub(super) fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    terminal.map_or(DEFAULT_WIDTH, |size| usize::from(size.ws_col)).max(MIN_WIDTH)
}

/// A progress bar on standard error, if that is a terminal and there are several steps.
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

/// Compares a directory with the target. Returns none, after reporting all problems, if the directory has errors.
fn plan(directory: &Path, target: &Target) -> anyhow::Result<Option<Plan>> {
    let (examined, mut problems) = check::examine(directory, &[], &Arc::default());
    let new = match examined {
        Ok(snapshot) => snapshot,
        Err(more) => {
            problems.extend(more);
            print_problems(problems);
            return Ok(None);
        }
    };
    print_problems(problems);
    let mut loader = Loader::new(directory).keeping_texts();
    let Ok((loaded, _)) = loader.load() else {
        bail!("{} changed while zonal read it: run the command again", directory.display())
    };
    let wanted = Collection::of(&loaded.manifest, loader.master_files());
    if let Some(name) = wanted.master_files().keys().find(|name| name.starts_with('/')) {
        bail!(
            "the master file {name} has an absolute path, which other machines do not have: use a path within the directory"
        );
    }
    let state = target.read()?;
    let edits = wanted.edits_from(&state.collection);
    let old = compiled(&state.collection);
    let is_unknown = old.is_none();
    let answers = old.map_or(Answers::default(), |old| difference::answers(&old, &new, now(), MAX_ANSWERS));
    Ok(Some(Plan { state, edits, answers, is_unknown }))
}

/// The snapshot that a node would serve from these resources; none if they have errors. Resources of unknown kinds are
/// ignored.
pub(super) fn compiled(collection: &Collection) -> Option<Snapshot> {
    let unknown = collection.unreadable().keys().filter(|key| Key::new(key.kind, &key.id).is_none());
    let aside: Replacements = unknown.map(|key| (key.clone(), Replacement::Nothing)).collect();
    let candidate = collection.candidate(&aside, &Served::default());
    if candidate.problems.iter().any(Problem::is_error) {
        return None;
    }
    let manifest = presets::complete(&candidate.loaded.manifest, &Manifest::default());
    let loaded = Loaded { manifest, ..candidate.loaded };
    snapshot::compile(&loaded, &Arc::new(Node::default()), None).ok().map(|(snapshot, _)| snapshot)
}

/// Whether a file of this name in a manifest's directory is part of the manifest.
fn is_manifest(name: &Path) -> bool {
    let is_at_top = name.parent().is_some_and(|parent| parent.as_os_str().is_empty());
    let is_hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let extension = name.extension().and_then(|extension| extension.to_str());
    is_at_top && !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Writes a manifest to standard output, or as files to a directory.
fn write_files(collection: &Collection, directory: Option<&Path>) -> anyhow::Result<()> {
    let mut whole = serde_json::to_value(collection.manifest())?;
    if let Value::Object(kinds) = &mut whole {
        kinds.retain(|_, resources| resources.as_object().is_none_or(|resources| !resources.is_empty()));
    }
    let text = format!("{whole:#}\n");
    let Some(directory) = directory else {
        if !collection.master_files().is_empty() {
            bail!("the manifest has master files, which cannot be written to standard output: use `--directory`");
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
            bail!("the path of the master file {} leads out of the directory", printable(name));
        }
        // zonal would read the file as a manifest, or the manifest would overwrite it.
        if is_manifest(Path::new(name)) {
            bail!("the master file {} has a manifest's file name: rename it, for example to {0}.zone", printable(name));
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
    use crate::manifest::collection::{Edit, MASTER_FILES};

    #[test]
    fn refuses_master_files_with_the_name_of_a_manifest() {
        let directory = std::env::temp_dir().join(format!("zonal-export-{}", std::process::id()));
        let export = |name: &str| {
            let mut collection = Collection::default();
            let key = Key::new(MASTER_FILES, name).unwrap();
            collection.apply(&[Edit { key, value: Some(b"@ 5 A 192.0.2.1\n".as_slice().into()) }]);
            write_files(&collection, Some(&directory)).map_err(|error| error.to_string())
        };
        for name in ["manifest.json", "vpcs.yaml", "a.yml"] {
            let message =
                format!("the master file {name} has a manifest's file name: rename it, for example to {name}.zone");
            assert_eq!(export(name), Err(message));
            assert!(!directory.join(name).exists());
        }
        assert_eq!(export("zones/a.yaml"), Ok(()));
        assert_eq!(export("a.zone"), Ok(()));
        fs::remove_dir_all(directory).unwrap();
    }
}
