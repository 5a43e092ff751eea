//! Compares the explanations of several clients: common steps first, then a table of the differences.

use crate::{explain::Explanation, manifest::problem::printable};
use serde_json::Value;

/// The width of the first column and the minimum width of the others, in characters.
const FIRST_COLUMN_WIDTH: usize = 12;
const MIN_COLUMN_WIDTH: usize = 24;

/// The lines of an explanation: heading and text.
fn lines(explanation: &Explanation) -> Vec<(String, String)> {
    let outcome = explanation.outcome().into_iter().map(|(label, line)| (label.to_lowercase(), line));
    explanation.steps().into_iter().chain(outcome).collect()
}

/// The comparison as text in lines of about `width` characters.
pub(super) fn text(explanations: &[Explanation], source: &str, width: usize) -> String {
    let all: Vec<Vec<(String, String)>> = explanations.iter().map(lines).collect();
    let mut words: Vec<&str> = Vec::new();
    for (word, _) in all.iter().flatten() {
        if !words.contains(&word.as_str()) {
            words.push(word);
        }
    }
    let is_common = |line: &(String, String)| all.iter().all(|lines| lines.contains(line));
    let mut text = explanations.first().map_or(String::new(), |one| format!("{}\n", printable(&one.question())));
    text += &format!("  {:<10} {}\n", "source", printable(source));
    let first = all.first().map_or(&[][..], Vec::as_slice);
    let common: Vec<&(String, String)> = first.iter().filter(|line| is_common(line)).collect();
    common.iter().for_each(|(word, text_of_step)| text += &format!("  {word:<10} {}\n", printable(text_of_step)));
    if all.iter().all(|lines| lines.iter().all(is_common)) {
        let clients: Vec<String> = explanations.iter().map(Explanation::client).collect();
        return text + &format!("\nIdentical for {}.\n", clients.join(" and "));
    }
    let column = (width.saturating_sub(FIRST_COLUMN_WIDTH) / all.len().max(1)).saturating_sub(2).max(MIN_COLUMN_WIDTH);
    text += "\nDifferences:\n";
    let clients: Vec<Vec<String>> = explanations.iter().map(|one| wrapped(&one.client(), column)).collect();
    row(&mut text, "", &clients, column);
    for word in words {
        let cells: Vec<Vec<String>> = all
            .iter()
            .map(|lines| {
                let own = lines.iter().filter(|line| line.0 == word && !is_common(line));
                let cell: Vec<String> =
                    own.flat_map(|(_, text_of_step)| wrapped(&printable(text_of_step), column)).collect();
                if cell.is_empty() { vec!["-".into()] } else { cell }
            })
            .collect();
        if cells.iter().any(|cell| *cell != ["-"]) {
            row(&mut text, word, &cells, column);
        }
    }
    text
}

fn row(text: &mut String, word: &str, cells: &[Vec<String>], column: usize) {
    for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
        let mut whole = format!("  {:<10}", if line == 0 { word } else { "" });
        for cell in cells {
            whole += &format!("  {:<column$}", cell.get(line).map_or("", String::as_str));
        }
        *text += whole.trim_end();
        text.push('\n');
    }
}

/// A text in lines of `column` characters; continuation lines are indented.
fn wrapped(text: &str, column: usize) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    for word in text.split(' ') {
        let mut word: &[char] = &word.chars().collect::<Vec<_>>();
        loop {
            let is_first = lines.len() == 1;
            let Some(line) = lines.last_mut() else { break };
            let (indent, is_empty) = (usize::from(!is_first), line.len() <= usize::from(!is_first));
            let gap = usize::from(!is_empty);
            if line.len() + gap + word.len() <= column {
                line.extend(&[' '][..gap]);
                line.extend(word);
                break;
            }
            if is_empty {
                let (head, rest) = word.split_at(column - indent);
                line.extend(head);
                word = rest;
            }
            lines.push(vec![' ']);
        }
    }
    lines.into_iter().map(String::from_iter).collect()
}

/// The explanations as a JSON list, one for each client.
pub(super) fn json(explanations: &[Explanation], source: &str) -> String {
    let read = |one: &Explanation| serde_json::from_str::<Value>(&one.to_json(source)).unwrap_or_default();
    format!("{:#}\n", explanations.iter().map(read).collect::<Value>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::check::examine,
        explain::{Question, Request, of_manifest},
    };
    use std::{path::Path, sync::Arc};

    fn explanations(clients: &[&str], name: &str) -> Vec<Explanation> {
        let snapshot = examine(Path::new("zones"), &[], &Arc::default()).0.unwrap();
        let explain = |from: &&str| {
            let (from, name, rtype) = (from.parse().unwrap(), name.into(), "A".into());
            let request = Request { from, to: None, via: None, name, rtype, resolve: false };
            of_manifest(&snapshot, &Question::new(&request).unwrap(), 1_800_000_000)
        };
        clients.iter().map(explain).collect()
    }

    #[test]
    fn shows_differences_in_columns_and_common_steps_once() {
        let two = explanations(&["127.1.0.7", "127.1.128.7"], "sqs.us-east-1.amazonaws.com");
        let shown = text(&two, "a test", 160);
        let has = |parts: &[&str]| shown.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(has(&["127.1.0.7", "127.1.128.7"]), "{shown}");
        assert!(has(&["answer", " 127.2.0.10", " 127.2.16.10"]), "{shown}");
        assert!(has(&["subnet-app-a", "subnet-app-b"]), "{shown}");
        assert_eq!(
            shown.matches("matches private name of endpoint vpce-0sqs (sqs.us-east-1.amazonaws.com.)").count(),
            1,
            "{shown}"
        );
        for width in [60, 100, 160] {
            let shown = text(&two, "a test", width);
            let table = shown.split_once("Differences:").unwrap().1;
            assert!(table.lines().all(|line| line.chars().count() <= width.max(70)), "{width}\n{shown}");
        }
        let three =
            text(&explanations(&["127.1.0.7", "127.5.0.7", "127.3.0.7"], "sqs.us-east-1.amazonaws.com"), "-", 160);
        assert!(
            three
                .lines()
                .any(|line| line.split_whitespace().collect::<Vec<_>>() == ["127.1.0.7", "127.5.0.7", "127.3.0.7"]),
            "{three}"
        );
        let value: Value = serde_json::from_str(&json(&two, "a test")).unwrap();
        assert_eq!((value.as_array().unwrap().len(), &value[1]["from"]), (2, &"127.1.128.7".into()));
    }

    #[test]
    fn says_that_clients_get_identical_answers() {
        let same = text(&explanations(&["127.1.0.7", "127.1.0.7"], "sqs.us-east-1.amazonaws.com"), "-", 100);
        assert!(same.ends_with("\nIdentical for 127.1.0.7 and 127.1.0.7.\n"), "{same}");
    }

    #[test]
    fn breaks_long_words() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", " def"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", " efg", " hij"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
