//! Tests of the documentation: every command prints the output on the page, every link has a
//! target, and the reference pages match the code.
//!
//! A ```` ```console ```` block is a session: lines `$ command`, each followed by the output. `…`
//! stands for any text; on a line of its own it stands for any number of lines. The commands run in
//! the source tree, in a network namespace that serves the demo. `zonal` is the program under test.
//!
//! `ZONAL_WRITE_DOCS=1 cargo test docs::reference` rewrites the generated pages.

mod log_events;
mod reference;

use crate::harness::{Process, ZONAL, can_run, lab::Lab, tree, wait_until};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A command on a page.
struct Session {
    page: String,
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The pages of the documentation: their paths in the tree, and their texts.
fn pages() -> Vec<(String, String)> {
    fn collect(directory: &Path, pages: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, pages),
                false if path.extension().is_some_and(|extension| extension == "md") => pages.push(path),
                false => {}
            }
        }
    }
    let mut paths = vec![tree("README.md"), tree("CHANGELOG.md")];
    collect(&tree("docs"), &mut paths);
    collect(&tree("deploy"), &mut paths);
    paths.sort();
    let name = |path: &PathBuf| path.strip_prefix(tree("")).unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The sessions on a page. The indentation of a block in a list is removed.
fn sessions(page: &str, text: &str) -> Vec<Session> {
    let mut all: Vec<Session> = Vec::new();
    let mut indentation = None;
    for (i, line) in text.lines().enumerate() {
        let Some(spaces) = indentation else {
            if line.trim_start() == "```console" {
                indentation = Some(line.len() - line.trim_start().len());
            }
            continue;
        };
        let line = line.get(spaces..).unwrap_or_default();
        match (line.strip_prefix("$ "), all.last_mut()) {
            _ if line == "```" => indentation = None,
            (Some(command), _) => {
                let (page, command) = (page.to_string(), command.to_string());
                all.push(Session { page, line: i + 1, command, output: Vec::new() });
            }
            (None, Some(session)) if session.command.ends_with('\\') => {
                session.command.pop();
                session.command.push_str(line.trim_start());
            }
            (None, Some(session)) => session.output.push(line.into()),
            (None, None) => panic!("{page}:{}: output without a command", i + 1),
        }
    }
    all
}

/// Whether a text matches a pattern in which `…` stands for any text.
fn has_form(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        last = Some(part);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || last.is_some_and(|part| part.is_empty() || text.ends_with(part))
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (text, pattern, expected) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("abc", "a…c", true),
        ("abc", "…", true),
        ("abcbd", "a…d", true),
        ("abc", "a…d", false),
        ("a\nb\nc", "a\n…\nc", true),
        ("abc", "b…", false),
    ] {
        assert_eq!(has_form(text, pattern), expected, "{text:?} {pattern:?}");
    }
}

#[test]
fn every_command_prints_what_its_page_shows() {
    if !can_run(&["ip", "dig", "setpriv", "curl"]) {
        return;
    }
    let pages = pages();
    let sessions: Vec<Session> = pages.iter().flat_map(|(page, text)| sessions(page, text)).collect();
    assert!(sessions.len() >= 20, "only {} commands were found", sessions.len());
    let mut lab = Lab::new();
    lab.router("demo");
    let config = tree("").display().to_string();
    let mut server: Process = lab.start("demo", &["sh", "-c", &format!("cd {config} && exec {ZONAL}")]);
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("PATH={}:{path}", Path::new(ZONAL).parent().unwrap().display());
    let run = |command: &str| {
        let output = lab.run("demo", &["env", &path, "sh", "-c", &format!("cd {config} && {{ {command}\n}} 2>&1")]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_until("the demo is served", || {
        server.assert_alive();
        (run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9153/ready") == "200").then_some(())
    });
    wait_until("each target of the demo's health checks was tried", || {
        run("zonal health").lines().all(|line| line.contains("last attempt")).then_some(())
    });
    let mut wrong = String::new();
    for Session { page, line, command, output } in sessions {
        let (got, expected) = (run(&command), output.join("\n"));
        if !has_form(got.trim_end(), expected.trim_end()) {
            wrong += &format!("\n{page}:{line}: $ {command}\nexpected\n{expected}\ngot\n{got}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The anchors of a page's headings, as GitHub generates them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of the links and pictures of a page.
fn targets(text: &str) -> Vec<&str> {
    let marks = [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')];
    let of = |(mark, end): (&'static str, char)| {
        text.match_indices(mark).filter_map(move |(at, _)| text[at + mark.len()..].split(end).next())
    };
    marks.into_iter().flat_map(of).collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for target in targets(&text) {
            if target.starts_with("https://") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => tree(&page),
                file => tree(&page).parent().unwrap().join(file),
            };
            let exists = path.exists();
            let found = exists && (anchor.is_empty() || anchors(&fs::read_to_string(&path).unwrap()).contains(anchor));
            if !found {
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(seen >= 30, "only {seen} links were found");
    assert!(wrong.is_empty(), "links that lead nowhere: {wrong:#?}");
}

/// Each word in code and documentation that ends in `.md` is the name of a page.
#[test]
fn every_page_that_is_cited_is_in_the_tree() {
    let mut sources = Vec::new();
    for directory in ["src", "tests", "deploy", "docs", "zones"] {
        crate::tidy::files(&tree(directory), &mut sources);
    }
    sources.extend(["README.md", "Cargo.toml", "CHANGELOG.md"].map(tree));
    let known: BTreeSet<String> = pages().into_iter().map(|(page, _)| page).collect();
    let mut wrong = Vec::new();
    for path in sources {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (i, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
            for word in words.map(|word| word.trim_end_matches('.')).filter(|word| word.ends_with(".md")) {
                let word = word.trim_start_matches("../").trim_start_matches("./");
                // A page is cited by its path, by its name, or by its path in an installed package.
                let is_known = |page: &String| {
                    page == word || page.ends_with(&format!("/{word}")) || word.ends_with(&format!("/{page}"))
                };
                let is_known = known.iter().any(is_known);
                if !is_known && word != ".md" && word != "zones/README.md" {
                    wrong.push(format!("{}:{}: {word}", path.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pages that are cited and are not in the tree: {wrong:#?}");
}

/// The front page is short, because it only leads to the other pages.
#[test]
fn the_readme_has_at_most_250_lines() {
    let lines = fs::read_to_string(tree("README.md")).unwrap().lines().count();
    assert!(lines <= 250, "README.md has {lines} lines");
}
