//! Files that look like a part of the manifest, but are not read.

use super::{file, is_json};
use crate::manifest::{KINDS, Location, Problem, Severity, document};
use std::path::{Path, PathBuf};

/// The depth of directories that are searched.
const MAX_DEPTH: usize = 3;
/// The number of directory entries that are looked at.
const MAX_ENTRIES: usize = 1000;
/// The largest file that is read, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// A warning for each file that has resources but is not read: it is in a directory below this one,
/// or its extension is not in lower case.
pub fn ignored_files(directory: &Path) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut left = MAX_ENTRIES;
    search(directory, 0, &mut left, &mut found);
    found.sort();
    found.into_iter().map(|(path, why)| problem(path, why)).collect()
}

fn search(directory: &Path, depth: usize, left: &mut usize, found: &mut Vec<(PathBuf, &'static str)>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        // A link to a directory can lead anywhere, also back to this directory.
        if metadata.is_dir() && depth < MAX_DEPTH && !path.is_symlink() {
            search(&path, depth + 1, left, found);
        }
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        let is_named = ending.as_ref().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json");
        let is_read = is_named && depth == 0 && ending.as_deref() == path.extension();
        if is_named && !is_read && metadata.is_file() && metadata.len() <= MAX_OCTETS && has_resources(&path) {
            let why = match depth {
                0 => "write the extension .yaml, .yml or .json in lower case",
                _ => "move the file into the manifest's directory; zonal does not read directories below it",
            };
            found.push((path, why));
        }
    }
}

/// Whether a file has a kind of resources as a key.
fn has_resources(path: &Path) -> bool {
    let text = file::read(path).map(|(bytes, _)| bytes).unwrap_or_default();
    let root = document::read(&text, is_json(path)).0;
    root.is_some_and(|root| KINDS.iter().any(|kind| root.entry(kind).is_some()))
}

fn problem(path: PathBuf, why: &str) -> Problem {
    Problem {
        severity: Severity::Warning,
        location: Some(Location { file: path.into(), line: 1, column: 1, length: 1 }),
        resource: None,
        field: String::new(),
        message: "the file contains resources, but zonal does not read it".into(),
        help: Some(why.into()),
    }
}
