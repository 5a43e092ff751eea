//! `zonal check`: all that is wrong with a manifest.

use super::{CheckArguments, Format, now, report::report};
use crate::{
    config::Config,
    manifest::{Loader, Problem, Severity, check::check, connectivity::Connectivity},
    snapshot::{self, Snapshot},
};
use std::{io::Write, path::Path, process::ExitCode, sync::Arc};

/// Runs the command. Exit status 1 if there is an error, or a warning that is denied.
pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let mut problems = Vec::new();
    let directory = match &arguments.directory {
        Some(directory) => Some(directory.clone()),
        None => match Config::load(arguments.config.config.as_deref()) {
            Ok(config) => {
                problems.extend(config.warnings);
                Some(config.control_plane.directory)
            }
            Err(found) => {
                problems.extend(found);
                None
            }
        },
    };
    if let Some(directory) = &directory {
        let (snapshot, warnings) = examine(directory);
        problems.extend(warnings);
        problems.extend(snapshot.err().into_iter().flatten());
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
    let mut out = std::io::stdout();
    report(problems, arguments.format, &mut out);
    if arguments.format == Format::Human {
        // Whoever reads it may have gone away: that is no error.
        let _ = writeln!(out, "{}", summary(errors, warnings, directory.as_deref()));
    }
    match errors > 0 || warnings > 0 && arguments.deny_warnings {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn summary(errors: usize, warnings: usize, directory: Option<&Path>) -> String {
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let place = directory.map_or("the configuration".into(), |directory| directory.display().to_string());
    format!("{place}: {}, {}", count(errors, "error"), count(warnings, "warning"))
}

/// Loads, checks and compiles a directory: the snapshot and warnings, or all problems. All of them know their place.
pub(super) fn examine(directory: &Path) -> (Result<Snapshot, Vec<Problem>>, Vec<Problem>) {
    let mut loader = Loader::new(directory);
    let (loaded, mut problems) = match loader.load() {
        Ok(loaded) => loaded,
        Err(problems) => return (Err(problems), Vec::new()),
    };
    problems.extend(check(&loaded.manifest, &Connectivity::new(&loaded.manifest), now()));
    let snapshot = match snapshot::compile(&loaded, &Arc::default(), None) {
        Ok((snapshot, warnings)) => {
            problems.extend(warnings);
            Some(snapshot)
        }
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    loader.locate(&mut problems);
    match snapshot {
        Some(snapshot) if !problems.iter().any(|problem| problem.severity == Severity::Error) => {
            (Ok(snapshot), problems)
        }
        _ => (Err(problems), Vec::new()),
    }
}
