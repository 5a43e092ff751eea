//! Prints problems in the style of compilers, or as JSON.

use super::{Format, print};
use crate::manifest::{Location, Problem, Severity, load::source, problem::printable};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

/// Source lines longer than this are not shown, in octets.
const MAX_LINE_OCTETS: usize = 400;

/// Writes problems to standard output.
pub(super) fn report(problems: Vec<Problem>, format: Format) {
    print(&text(problems, format, io::stdout().is_terminal()));
}

/// Writes problems to standard error, for people. A closed pipe is no error.
pub(super) fn print_problems(problems: Vec<Problem>) {
    let _ = io::stderr().write_all(text(problems, Format::Human, io::stderr().is_terminal()).as_bytes());
}

fn text(mut problems: Vec<Problem>, format: Format, is_terminal: bool) -> String {
    problems.sort_by(|a, b| {
        let key =
            |problem: &Problem| problem.location.as_ref().map(|place| (place.file.clone(), place.line, place.column));
        key(a).cmp(&key(b)).then(a.severity.cmp(&b.severity))
    });
    match format {
        Format::Human => render(&problems, if is_terminal { Renderer::styled() } else { Renderer::plain() }),
        Format::Json => format!("{:#}\n", problems.iter().map(to_json).collect::<Value>()),
    }
}

fn to_json(problem: &Problem) -> Value {
    let place = problem.location.as_ref();
    json!({
        "severity": problem.severity.to_string(),
        "file": place.map(|place| place.file.display().to_string()),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "length": place.map(|place| place.length),
        "kind": problem.resource.as_ref().map(|(kind, _)| kind),
        "id": problem.resource.as_ref().map(|(_, id)| id),
        "field": problem.field,
        "message": problem.message,
        "help": problem.help,
    })
}

fn render(problems: &[Problem], renderer: Renderer) -> String {
    let mut files: HashMap<Arc<Path>, String> = HashMap::new();
    // The lines of the file that the current problem is in.
    let mut current: Option<(Arc<Path>, Vec<&str>)> = None;
    for place in problems.iter().filter_map(|problem| problem.location.as_ref()) {
        files.entry(place.file.clone()).or_insert_with(|| {
            source(&place.file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        });
    }
    let mut text = String::new();
    for problem in problems {
        let line = problem.location.as_ref().and_then(|place| {
            if current.as_ref().is_none_or(|(file, _)| *file != place.file) {
                current = Some((place.file.clone(), files.get(&place.file)?.lines().collect()));
            }
            let (_, lines) = current.as_ref()?;
            lines.get((place.line as usize).checked_sub(1)?).copied()
        });
        text.push_str(&renderer.render(&[group(problem, line)]));
        text.push_str("\n\n");
    }
    text
}

fn group<'a>(problem: &Problem, line: Option<&'a str>) -> Group<'a> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let subject = subject(problem);
    let title = match &problem.location {
        None if !subject.is_empty() => printable(&format!("{subject}: {}", problem.message)),
        _ => printable(&problem.message),
    };
    let mut group = Group::with_title(level.primary_title(title));
    if let Some(place) = &problem.location {
        let path = printable(&place.file.display().to_string());
        group = match line.filter(|line| line.len() <= MAX_LINE_OCTETS) {
            Some(line) => {
                let span = byte_span(line, place);
                let annotation = AnnotationKind::Primary.span(span).label(printable(&subject));
                // A byte order mark is not part of the line.
                group.element(Snippet::source(line).line_start(place.line as usize).path(path).annotation(annotation))
            }
            None => {
                let origin = Origin::path(path).line(place.line as usize).char_column(place.column as usize);
                let group = group.element(origin);
                if subject.is_empty() { group } else { group.element(Level::NOTE.message(printable(&subject))) }
            }
        };
    }
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(printable(help))),
        None => group,
    }
}

/// Resource and field: `vpcs.vpc-app.region`.
fn subject(problem: &Problem) -> String {
    let resource = problem.resource.iter().map(|(kind, id)| format!("{kind}.{id}"));
    let field = (!problem.field.is_empty()).then(|| problem.field.clone());
    resource.chain(field).collect::<Vec<_>>().join(".")
}

/// The octets of the line that the problem is about.
fn byte_span(line: &str, place: &Location) -> std::ops::Range<usize> {
    let offset = |chars: usize| line.char_indices().nth(chars).map_or(line.len(), |(at, _)| at);
    let start = place.column.saturating_sub(1) as usize;
    offset(start)..offset(start.saturating_add(place.length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_problem_at_its_line() {
        let path = std::env::temp_dir().join(format!("zonal-report-{}.yaml", std::process::id()));
        std::fs::write(&path, "vpcs:\n  vpc-ä: {region: 1}\n").unwrap();
        let place = Location { file: path.clone().into(), line: 2, column: 19, length: 1 };
        let problem = Problem::error("vpcs", "vpc-ä", "region", "so\x1b not").at(place).help("do this");
        let text = render(std::slice::from_ref(&problem), Renderer::plain());
        std::fs::remove_file(&path).unwrap();
        let expected = format!(
            "error: so\u{fffd} not\n --> {}:2:19\n  |\n2 |   vpc-ä: {{region: 1}}\n  |                   ^ vpcs.vpc-ä.region\n  |\n  = help: do this\n\n",
            path.display()
        );
        assert_eq!(text, expected);
        let pipe = std::env::temp_dir().join(format!("zonal-report-{}\x1b.pipe", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let place = Location { file: pipe.clone().into(), line: 1, column: 1, length: 1 };
        let text = render(&[Problem::error("vpcs", "a", "", "odd \u{202e}").at(place)], Renderer::plain());
        std::fs::remove_file(&pipe).unwrap();
        let shown = pipe.display().to_string().replace('\x1b', "\u{fffd}");
        assert_eq!(text, format!("error: odd \u{fffd}\n--> {shown}:1:1\n = note: vpcs.a\n\n"));
        let nowhere = Problem::warning("vpcs", "a", "", "odd");
        assert_eq!(render(&[nowhere], Renderer::plain()), "warning: vpcs.a: odd\n\n");
        assert_eq!(to_json(&problem)["line"], 2);
        assert_eq!(to_json(&problem)["help"], "do this");
    }
}
