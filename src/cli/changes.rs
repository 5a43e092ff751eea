//! The differences between two versions of a resource or of a master file: each change with its path, for people.

use crate::manifest::problem::printable;
use serde::Serialize;
use serde_json::Value;
use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices};
use std::collections::BTreeSet;

/// The number of equal characters shown before the first difference, in a value that is too long.
const CONTEXT: usize = 12;
/// The minimum number of characters shown of a value.
const MIN_SHOWN: usize = 24;

/// A change within a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Field {
    /// The path of the value, as in `records[1].records[0]`. An index is that of the new list, or of the old list for a removed
    /// element.
    pub path: String,
    /// The kind of change, and the values.
    #[serde(flatten)]
    pub change: ValueChange,
}

/// The change of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum ValueChange {
    /// The value was replaced.
    Changed {
        /// The old value.
        old: String,
        /// The new value.
        new: String,
    },
    /// The value was added.
    Added {
        /// The new value.
        new: String,
    },
    /// The value was removed.
    Removed {
        /// The old value.
        old: String,
    },
    /// The elements of a list are the same in another order.
    Reordered {
        /// The old list.
        old: String,
        /// The new value.
        new: String,
    },
}

/// The differences between two resources.
pub fn fields(old: &Value, new: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    compare("", old, new, &mut fields);
    fields
}

fn compare(path: &str, old: &Value, new: &Value, fields: &mut Vec<Field>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(olds), Value::Object(news)) => {
            let names: BTreeSet<&String> = olds.keys().chain(news.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (olds.get(name), news.get(name)) {
                    (Some(old), Some(new)) => compare(&path, old, new, fields),
                    (Some(old), None) => fields.push(removed(path, old)),
                    (None, Some(new)) => fields.push(added(path, new)),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(olds), Value::Array(news)) => compare_lists(path, olds, news, fields),
        _ => fields.push(Field { path: path.into(), change: ValueChange::Changed { old: text(old), new: text(new) } }),
    }
}

/// Elements that are in both lists are no change, at any index. The remaining elements are compared in pairs, in order.
fn compare_lists(path: &str, olds: &[Value], news: &[Value], fields: &mut Vec<Field>) {
    let [old_texts, new_texts] = [olds, news].map(|list| list.iter().map(Value::to_string).collect::<Vec<_>>());
    let mut sorted = [old_texts.clone(), new_texts.clone()];
    sorted.iter_mut().for_each(|texts| texts.sort_unstable());
    if sorted[0] == sorted[1] {
        let list = |values: &[Value]| format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "));
        fields.push(Field { path: path.into(), change: ValueChange::Reordered { old: list(olds), new: list(news) } });
        return;
    }
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let mut gaps: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for op in capture_diff_slices(Algorithm::Patience, &old_texts, &new_texts) {
        if let DiffOp::Equal { .. } = op {
            continue;
        }
        gone.extend(op.old_range());
        come.extend(op.new_range());
        gaps.push((op.old_range().collect(), op.new_range().collect()));
    }
    // Moved elements are not shown if others have changed.
    let mut moved: BTreeSet<usize> = BTreeSet::new();
    for at in &mut come {
        let from = gone.iter().position(|from| old_texts[*from] == new_texts[*at]);
        if let Some(from) = from {
            let from = gone.swap_remove(from);
            gaps.iter_mut().for_each(|(gone, _)| gone.retain(|at| *at != from));
            moved.insert(*at);
        }
    }
    for (gone, come) in gaps {
        let come: Vec<usize> = come.into_iter().filter(|at| !moved.contains(at)).collect();
        for number in 0..gone.len().max(come.len()) {
            match (gone.get(number), come.get(number)) {
                (Some(from), Some(to)) => compare(&format!("{path}[{to}]"), &olds[*from], &news[*to], fields),
                (Some(from), None) => fields.push(removed(format!("{path}[{from}]"), &olds[*from])),
                (None, Some(to)) => fields.push(added(format!("{path}[{to}]"), &news[*to])),
                (None, None) => {}
            }
        }
    }
}

fn added(path: String, new: &Value) -> Field {
    Field { path, change: ValueChange::Added { new: text(new) } }
}

fn removed(path: String, old: &Value) -> Field {
    Field { path, change: ValueChange::Removed { old: text(old) } }
}

/// A value for people: text without quotes, unless it is empty or begins or ends with white space.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.trim() == text => text.clone(),
        _ => value.to_string(),
    }
}

impl Field {
    /// One line of at most `width` characters.
    pub fn line(&self, width: usize) -> String {
        let path = printable(&self.path);
        let left = width.saturating_sub(path.chars().count() + 2);
        match &self.change {
            ValueChange::Changed { old, new } => {
                let [old, new] = apart(&printable(old), &printable(new), left.saturating_sub(4) / 2);
                format!("{path}: {old} -> {new}")
            }
            ValueChange::Added { new } => format!("{path}: added {}", cut(&printable(new), left.saturating_sub(6))),
            ValueChange::Removed { old } => format!("{path}: removed {}", cut(&printable(old), left.saturating_sub(8))),
            ValueChange::Reordered { old, new } => {
                let [old, new] = apart(&printable(old), &printable(new), left.saturating_sub(16) / 2);
                format!("{path}: reordered {old} -> {new}")
            }
        }
    }
}

/// Two values, each in at most `max_chars` characters, from shortly before the first difference.
fn apart(old: &str, new: &str, max_chars: usize) -> [String; 2] {
    let max_chars = max_chars.max(MIN_SHOWN);
    if old.chars().count() <= max_chars && new.chars().count() <= max_chars {
        return [old.into(), new.into()];
    }
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let from = same.saturating_sub(CONTEXT);
    [old, new].map(|value| {
        let (front, from) = if from > 1 { ("…", from) } else { ("", 0) };
        let rest: String = value.chars().skip(from).collect();
        format!("{front}{}", cut(&rest, max_chars - front.chars().count()))
    })
}

fn cut(value: &str, max_chars: usize) -> String {
    let max_chars = max_chars.max(MIN_SHOWN);
    match value.chars().count() > max_chars {
        true => value.chars().take(max_chars - 1).chain(['…']).collect(),
        false => value.into(),
    }
}

/// A line of a text that was removed or added.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Line {
    /// The line number in the version that has the line, from 1.
    pub line: usize,
    /// `+` or `-`.
    pub change: char,
    /// The text of the line.
    pub text: String,
}

/// The lines that differ between two texts.
pub fn lines(old: &[u8], new: &[u8]) -> Vec<Line> {
    let [old, new] = [old, new].map(String::from_utf8_lossy);
    let diff = TextDiff::configure().algorithm(Algorithm::Patience).diff_lines(old.as_ref(), new.as_ref());
    let line = |change: similar::Change<&str>| {
        let (number, sign) = match change.tag() {
            ChangeTag::Equal => return None,
            ChangeTag::Delete => (change.old_index(), '-'),
            ChangeTag::Insert => (change.new_index(), '+'),
        };
        Some(Line { line: number? + 1, change: sign, text: change.value().trim_end_matches(['\n', '\r']).into() })
    };
    diff.iter_all_changes().filter_map(line).collect()
}

impl Line {
    /// The line, in at most `width` characters.
    pub fn line(&self, width: usize) -> String {
        let start = format!("{} {:>4} ", self.change, self.line);
        let max_chars = width.saturating_sub(start.len());
        format!("{start}{}", cut(&printable(&self.text), max_chars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One line for each change.
    fn shown(old: Value, new: Value) -> Vec<String> {
        fields(&old, &new).iter().map(|field| field.line(90)).collect()
    }

    #[test]
    fn shows_each_change_with_its_path() {
        let zone = |address: &str| {
            json!({"name": "z.example", "records": [{"name": "a", "records": ["10.10.0.1"]},
                                                   {"name": "b", "records": [address, "10.10.0.7"]}]})
        };
        assert_eq!(shown(zone("10.10.0.90"), zone("10.10.0.99")), ["records[1].records[0]: 10.10.0.90 -> 10.10.0.99"]);
        assert!(shown(zone("10.10.0.90"), zone("10.10.0.90")).is_empty());
        for (old, new, expected) in [
            (json!({"a": 1}), json!({"a": true}), &["a: 1 -> true"][..]),
            (json!({"a": {"b": {"c": "x"}}}), json!({"a": {"b": {"c": "y"}}}), &["a.b.c: x -> y"]),
            (json!({"a": "1"}), json!({}), &["a: removed 1"]),
            (json!({}), json!({"a": {"b": 1}}), &["a: added {\"b\":1}"]),
            (json!({"a": ""}), json!({"a": " x"}), &["a: \"\" -> \" x\""]),
            (json!({"l": ["a", "b"]}), json!({"l": ["a", "b", "c"]}), &["l[2]: added c"]),
            (json!({"l": ["a", "b", "c"]}), json!({"l": ["b", "c"]}), &["l[0]: removed a"]),
            (json!({"l": ["a", "b", "c"]}), json!({"l": ["c", "a", "b"]}), &["l: reordered [a, b, c] -> [c, a, b]"]),
            (json!({"l": ["a", "b", "c"]}), json!({"l": ["c", "x", "a"]}), &["l[1]: added x", "l[1]: removed b"]),
            (json!({"l": []}), json!({"l": ["a"]}), &["l[0]: added a"]),
            (json!({"l": "a"}), json!({"l": ["a"]}), &["l: a -> [\"a\"]"]),
            (
                json!({"l": [{"ip": "1", "az": "a"}, {"ip": "2", "az": "b"}, {"ip": "3", "az": "c"}]}),
                json!({"l": [{"ip": "0", "az": "n"}, {"ip": "1", "az": "a"}, {"ip": "9", "az": "b"}, {"ip": "3", "az": "c"}]}),
                &["l[0]: added {\"az\":\"n\",\"ip\":\"0\"}", "l[2].ip: 2 -> 9"],
            ),
        ] {
            assert_eq!(shown(old.clone(), new.clone()), expected, "{old} {new}");
        }
    }

    #[test]
    fn shows_long_values_where_they_differ() {
        let value = |word: &str| json!({"comment": format!("{}{word}{}", "x".repeat(300), "y".repeat(300))});
        for width in [0, 40, 80, 200] {
            let line = fields(&value("before"), &value("after"))[0].line(width);
            let (old, new) = line.split_once(" -> ").unwrap();
            assert!(old.contains("xbefore") && new.contains("xafter"), "{line}");
            assert!(line.chars().count() <= width.max(80), "{width}: {line}");
        }
        // One value is the beginning of the other.
        let line = fields(&json!({"a": "x".repeat(100)}), &json!({"a": "x".repeat(99)}))[0].line(80);
        assert_eq!(line, format!("a: …{} -> …{}", "x".repeat(13), "x".repeat(12)));
        // The width counts characters, not octets.
        let line = fields(&json!({"a": "é".repeat(100)}), &json!({"a": "ü".repeat(100)}))[0].line(80);
        assert!(line.contains('é') && line.contains('ü'), "{line}");
    }

    #[test]
    fn shows_the_changed_lines_of_master_files() {
        let shown: Vec<String> = lines(b"a\nb\nc\n", b"a\nB\nc\nd").iter().map(|line| line.line(80)).collect();
        assert_eq!(shown, ["-    2 b", "+    2 B", "+    4 d"]);
        assert!(lines(b"a\n", b"a\n").is_empty());
        assert_eq!(
            lines(b"\xff\n", b"\xfe a\n").len(),
            2,
            "octets that are not UTF-8 are shown as replacement characters"
        );
    }
}
