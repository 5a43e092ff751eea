//! What the architecture forbids, and what the page of metrics must not leave out.

use crate::harness::tree;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// All files below a directory, but build products and dot files' innards.
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
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&tree("src"), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(tree("src")).unwrap().to_string_lossy().into_owned();
    found.sort();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Code without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// All words of a text that begin with a prefix and go on with these characters.
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

/// The tree speaks to those who have nothing but it.
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
