//! Rules of the architecture, and the completeness of the metrics reference.

use crate::harness::tree;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Collects all files below a directory, without build products and hidden directories.
pub fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", ".git"].contains(&name.as_str()) {
                files(&path, found);
            }
        } else if path.is_file() && name != ".git" && name != "Cargo.lock" {
            found.push(path);
        }
    }
}

/// The source files, by their path within `src`, with their text.
pub fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&tree("src"), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(tree("src")).unwrap().to_string_lossy().into_owned();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found.sort();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The room (top-level module) of a source file.
pub fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Whether a source file contains only tests.
pub fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

/// The text of a source file before its inline module of tests.
pub fn production(text: &str) -> &str {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap_or_default()
}

/// Code without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// All words of a text that begin with a prefix and continue with characters of this kind.
fn words<'a>(text: &'a str, prefix: &str, more: fn(char) -> bool) -> Vec<&'a str> {
    let end = |rest: &'a str| rest.find(|c| !more(c)).map_or(rest, |i| &rest[..i]);
    text.match_indices(prefix).map(|(i, _)| &text[i..i + prefix.len() + end(&text[i + prefix.len()..]).len()]).collect()
}

#[test]
fn inner_rooms_know_no_runtime() {
    let mut seen = 0;
    for (name, text) in sources() {
        if ["wire", "snapshot", "answer"].iter().any(|room| name.starts_with(room)) {
            seen += 1;
            for word in ["tokio", "hickory", "std::fs", "std::net::Udp", "std::net::Tcp", "SystemTime", "Instant::now"]
            {
                let production = code(&text);
                let production = production.split("#[cfg(test)]").next().unwrap_or_default();
                assert!(!production.contains(word), "src/{name} knows of {word}");
            }
        }
    }
    assert!(seen >= 3, "the rooms have moved");
}

#[test]
fn one_unsafe_place() {
    for (name, text) in sources() {
        let unsafe_words =
            code(&text).split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| *w == "unsafe").count();
        assert!(unsafe_words == 0 || name == "listen/udp.rs", "src/{name} has unsafe code");
    }
}

#[test]
fn no_long_files() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 700, "src/{name} has {lines} lines: it is two ideas");
    }
}

#[test]
fn every_metric_is_documented() {
    let page = fs::read_to_string(tree("docs/reference/metrics.md")).unwrap();
    let mut metrics = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| !name.ends_with("tests.rs")) {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
        for metric in words(&text, "\"zonal_", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            let metric = &metric[1..];
            if metric == "zonal_shifts" {
                continue; // a kind of the manifest
            }
            assert!(
                page.contains(&format!("`{metric}`")),
                "docs/reference/metrics.md lacks the metric {metric} of src/{name}"
            );
            metrics.push(metric.to_string());
        }
    }
    assert!(!metrics.is_empty(), "no metric was found in src");
}

/// The files refer only to other files of the repository.
#[test]
fn nothing_points_outside() {
    let mut found = Vec::new();
    files(&tree(""), &mut found);
    assert!(found.len() > 30, "the tree has moved");
    let places = ["work", "root"].map(|top| format!("/{top}/"));
    for path in found {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let shown = path.strip_prefix(tree("")).unwrap().display();
        for (i, line) in text.lines().enumerate() {
            assert!(!places.iter().any(|p| line.contains(p)), "{shown}:{}: a path of one machine: {line}", i + 1);
            let number = |w: &str| {
                line.match_indices(w).any(|(at, _)| line[at + w.len()..].starts_with(|c: char| c.is_ascii_digit()))
            };
            assert!(
                !number(&format!("issue{}", " ")) && !number(&format!("issue{}", " #")),
                "{shown}:{}: {line}",
                i + 1
            );
        }
    }
}

/// The rooms in the architecture table, each with the rooms that it imports, in the order of the
/// table.
fn table_of_rooms() -> Vec<(String, BTreeSet<String>)> {
    let page = fs::read_to_string(tree("src/lib.rs")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let row = |row: &str| {
        let room = row.split('`').next().unwrap().to_string();
        let imports = row.trim_end().trim_end_matches('|').rsplit(" |").next().unwrap();
        (room, imports.split('`').skip(1).step_by(2).map(str::to_string).collect())
    };
    rows.map(row).collect()
}

/// The rooms that production code of `src` imports, by room.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in sources() {
        let room = room(&name).to_string();
        if is_test(&name) || matches!(&*room, "main" | "lib") {
            continue;
        }
        let production = code(production(&text));
        let found = all.entry(room).or_default();
        for (at, path) in production.match_indices("crate::") {
            let rest = &production[at + path.len()..];
            match rest.strip_prefix('{') {
                None => found.extend(first_word(rest)),
                Some(list) => found.extend(members(list).into_iter().filter_map(first_word)),
            }
        }
    }
    all
}

fn first_word(path: &str) -> Option<String> {
    let word: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The top-level members of a `use` list, up to its closing brace.
fn members(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                all.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    all
}

#[test]
fn rooms_import_what_the_architecture_page_says_and_form_no_circle() {
    let table = table_of_rooms();
    let rooms: BTreeSet<String> = table.iter().map(|(room, _)| room.clone()).collect();
    let imports = imports();
    assert!(rooms.len() > 15 && imports.values().map(BTreeSet::len).sum::<usize>() > 60, "the page has moved");
    for room in imports.keys() {
        assert!(rooms.contains(room), "src/lib.rs: the table of rooms lacks `{room}`");
    }
    let mut above = BTreeSet::new();
    for (room, listed) in &table {
        let empty = BTreeSet::new();
        let used = imports.get(room).unwrap_or(&empty);
        let used: BTreeSet<String> =
            used.iter().filter(|other| rooms.contains(*other) && *other != room).cloned().collect();
        assert_eq!(
            used, *listed,
            "src/lib.rs: `{room}` imports the rooms on the left, and its row lists those on the right"
        );
        let below: Vec<&String> = used.difference(&above).collect();
        assert!(
            below.is_empty(),
            "`{room}` imports {below:?}, which are not above it in the table: rooms may not form a circle"
        );
        above.insert(room.clone());
    }
}
