//! Every command and every output that the README shows.
//!
//! A ```` ```console ```` block is a session: lines `$ command`, each followed by what it prints, in which `…` stands for
//! anything, also for several lines when it is a line of its own. They run in the tree, in a network of their own, where the
//! demo is served; `zonal` is the program under test.

use crate::harness::{Process, ZONAL, can_run, lab::Lab, tree, wait_until};
use std::{fs, path::Path};

/// The commands of the README, with what they print, and the line that each is on.
fn sessions(text: &str) -> Vec<(usize, String, Vec<String>)> {
    let mut all: Vec<(usize, String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(command), _) => all.push((i + 1, command.into(), Vec::new())),
                (None, Some((_, command, _))) if command.ends_with('\\') => {
                    command.pop();
                    command.push_str(line.trim_start());
                }
                (None, Some((_, _, output))) => output.push(line.into()),
                (None, None) => panic!("README.md:{}: output without a command", i + 1),
            },
        }
    }
    all
}

/// Whether a text has the form of a pattern in which `…` stands for anything.
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
fn forms() {
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
fn every_command_does_what_the_readme_says() {
    if !can_run(&["ip", "dig", "setpriv", "curl"]) {
        return;
    }
    let text = fs::read_to_string(tree("README.md")).unwrap();
    let sessions = sessions(&text);
    assert!(sessions.len() >= 5, "only {} commands were found", sessions.len());
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
    let mut wrong = String::new();
    for (line, command, expected) in sessions {
        let (got, expected) = (run(&command), expected.join("\n"));
        if !has_form(got.trim_end(), expected.trim_end()) {
            wrong += &format!("\nREADME.md:{line}: $ {command}\nexpected\n{expected}\ngot\n{got}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
