//! The plan of `apply` and `diff`: the resources and the answers that change. Equal changes are shown once.

use super::{
    changes::{self, Field, Line},
    target::State,
};
use crate::{
    difference::{Answers, ChangedAnswer},
    manifest::{
        collection::{self, Edit, MASTER_FILES},
        problem::printable,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// If more resources of one kind are added or deleted, they are shown as a list, not on a line each.
const MAX_LINES_OF_KIND: usize = 30;
/// The maximum number of identifiers in a list.
const MAX_IDS: usize = 200;
/// The maximum number of changes shown for a resource.
const MAX_FIELDS: usize = 20;
/// The maximum number of lines about answers.
const MAX_ANSWERS: usize = 40;
/// If more names have equal changes, they are shown together.
const MAX_SINGLE: usize = 3;

/// The changes that `apply` would make, and their effect on answers.
pub(super) struct Plan {
    /// The present state of the target.
    pub(super) state: State,
    /// The changes to make.
    pub(super) edits: Vec<Edit>,
    /// The answers that change.
    pub(super) answers: Answers,
    /// Whether the present state has errors, so that its answers are not known.
    pub(super) is_unknown: bool,
}

/// The change of a resource or master file.
enum Change {
    Added,
    Removed,
    Changed(Content),
}

/// The differences within a resource or master file.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Content {
    Fields(Vec<Field>),
    Lines(Vec<Line>),
}

impl Content {
    fn lines(&self, width: usize) -> Vec<String> {
        match self {
            Content::Fields(fields) => fields.iter().map(|field| field.line(width)).collect(),
            Content::Lines(lines) => lines.iter().map(|line| line.line(width)).collect(),
        }
    }
}

impl Plan {
    fn change(&self, Edit { key, value }: &Edit) -> Change {
        let old = self.state.collection.text(key);
        match (&old, value.as_ref().map(collection::Content::text)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) if key.kind == MASTER_FILES => {
                Change::Changed(Content::Lines(changes::lines(old, &new)))
            }
            (Some(old), Some(new)) => {
                let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
                Change::Changed(Content::Fields(changes::fields(&read(old), &read(&new))))
            }
        }
    }

    /// The plan as text in lines of about `width` characters, with the counts last. `steps` is the number of transactions.
    pub(super) fn to_text(&self, width: usize, steps: usize) -> String {
        if self.edits.is_empty() {
            return "No difference.\n".into();
        }
        let (mut added, mut changed, mut removed) =
            (BTreeMap::new(), Vec::<(&str, Content, Vec<&str>)>::new(), BTreeMap::new());
        let mut counts = [0; 3];
        for edit in &self.edits {
            let (kind, id) = (edit.key.kind, edit.key.id.as_str());
            let number = match self.change(edit) {
                Change::Added => {
                    added.entry(kind).or_insert_with(Vec::new).push(id);
                    0
                }
                Change::Changed(content) => {
                    match changed.iter_mut().find(|(other, equal, _)| *other == kind && *equal == content) {
                        Some((.., ids)) => ids.push(id),
                        None => changed.push((kind, content, vec![id])),
                    }
                    1
                }
                Change::Removed => {
                    removed.entry(kind).or_insert_with(Vec::new).push(id);
                    2
                }
            };
            counts[number] += 1;
        }
        let mut text = String::new();
        added.iter().for_each(|(kind, ids)| whole(&mut text, '+', kind, ids, width));
        for (kind, content, ids) in &changed {
            text += &match &ids[..] {
                [id] => format!("~ {}\n", printable(&format!("{kind}/{id}"))),
                several => {
                    format!("~ {kind}: the same change in {} resources\n{}", several.len(), list(several, width))
                }
            };
            let lines = content.lines(width.saturating_sub(4));
            lines.iter().take(MAX_FIELDS).for_each(|line| text += &format!("    {line}\n"));
            if lines.len() > MAX_FIELDS {
                text += &format!("    and {} more changes in this resource\n", lines.len() - MAX_FIELDS);
            }
        }
        removed.iter().for_each(|(kind, ids)| whole(&mut text, '-', kind, ids, width));
        text.push('\n');
        if self.is_unknown {
            text += "The present state has errors, so zonal cannot tell which answers change.\n";
        } else if self.answers.is_empty() {
            text += "No answer changes.\n";
        } else {
            text += "Answers that change:\n";
            text += &answers_text(&self.answers);
        }
        if steps > 1 {
            text += &format!("This takes {steps} transactions, ordered so that every reference is valid after each.\n");
        }
        let [added, changed, removed] = counts;
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nPlan: {added} to add, {changed} to change, {removed} to delete.");
        text
    }

    /// The plan as JSON.
    pub(super) fn to_json(&self) -> Value {
        let change = |edit: &Edit| {
            let mut value = json!({"kind": edit.key.kind, "id": edit.key.id});
            match self.change(edit) {
                Change::Added => value["change"] = "added".into(),
                Change::Removed => value["change"] = "removed".into(),
                Change::Changed(content) => {
                    value["change"] = "changed".into();
                    match content {
                        Content::Fields(fields) => value["fields"] = json!(fields),
                        Content::Lines(lines) => value["lines"] = json!(lines),
                    }
                }
            }
            value
        };
        let answers = (!self.is_unknown).then_some(&self.answers);
        json!({"changes": self.edits.iter().map(change).collect::<Vec<_>>(), "answers": answers})
    }
}

/// Resources of a kind that are added or deleted.
fn whole(text: &mut String, sign: char, kind: &str, ids: &[&str], width: usize) {
    if ids.len() <= MAX_LINES_OF_KIND {
        ids.iter().for_each(|id| *text += &format!("{sign} {}\n", printable(&format!("{kind}/{id}"))));
        return;
    }
    *text += &format!("{sign} {kind}: {} resources\n{}", ids.len(), list(ids, width));
}

/// Identifiers in indented lines.
fn list(ids: &[&str], width: usize) -> String {
    let (mut text, mut column) = (String::new(), 0);
    let shown = ids.iter().take(MAX_IDS).map(|id| printable(id).to_string());
    let more = (ids.len() > MAX_IDS).then(|| format!("and {} more", ids.len() - MAX_IDS));
    for word in shown.chain(more) {
        let len = word.chars().count();
        if column == 0 || column + 2 + len > width.max(40) {
            text += if column == 0 { "    " } else { ",\n    " };
            column = 4;
        } else {
            text += ", ";
            column += 2;
        }
        text += &word;
        column += len;
    }
    text + "\n"
}

/// The identity of a changed answer: name, type, old answer, new answer.
type ChangeKey<'a> = (&'a str, &'a str, &'a [String], &'a [String]);

/// The answers that change, grouped by the networks that see the change; equal changes of several names are shown together.
fn answers_text(answers: &Answers) -> String {
    // First the networks that see each change, then the changes that each set of networks sees.
    let mut seen: Vec<(&ChangedAnswer, BTreeSet<&str>)> = Vec::new();
    let mut places: BTreeMap<ChangeKey, usize> = BTreeMap::new();
    for view in &answers.views {
        for changed in &view.answers {
            let place =
                *places.entry((&changed.name, &changed.rtype, &changed.old, &changed.new)).or_insert_with(|| {
                    seen.push((changed, BTreeSet::new()));
                    seen.len() - 1
                });
            seen[place].1.insert(&view.view);
        }
    }
    let mut groups: Vec<(BTreeSet<&str>, Vec<&ChangedAnswer>)> = Vec::new();
    for (changed, views) in seen {
        match groups.iter_mut().find(|(others, _)| *others == views) {
            Some((_, all)) => all.push(changed),
            None => groups.push((views, vec![changed])),
        }
    }
    let mut lines = Vec::new();
    for (views, changes) in groups {
        let views: Vec<&str> = views.into_iter().collect();
        lines.push(format!("  {}", printable(&views.join(", "))));
        let mut equal: Vec<(String, Vec<&ChangedAnswer>)> = Vec::new();
        for changed in changes {
            let what = what_changes(changed, true);
            match equal.iter_mut().find(|(other, _)| *other == what) {
                Some((_, all)) => all.push(changed),
                None => equal.push((what, vec![changed])),
            }
        }
        for (what, changes) in equal {
            if changes.len() <= MAX_SINGLE {
                let line = |changed: &&ChangedAnswer| {
                    format!("    {} {}", printable(&changed.name), printable(&what_changes(changed, false)))
                };
                lines.extend(changes.iter().map(line));
                continue;
            }
            let names: Vec<&str> = changes.iter().take(MAX_SINGLE).map(|changed| changed.name.as_str()).collect();
            let more = changes.len() - names.len();
            lines.push(format!("    {} and {more} more names {}", printable(&names.join(", ")), printable(&what)));
        }
    }
    let more = lines.len().saturating_sub(MAX_ANSWERS);
    let mut text = String::new();
    lines.iter().take(MAX_ANSWERS).for_each(|line| text += &format!("{line}\n"));
    if more > 0 {
        text += &format!("  and {more} more lines: `zonal diff --format json` prints all of them\n");
    }
    text + &answers.remarks()
}

/// The type, the old and the new answer. Without the name, equal changes of several names are equal texts.
fn what_changes(ChangedAnswer { name, rtype, old, new }: &ChangedAnswer, without_name: bool) -> String {
    let [old, new] = [old, new].map(|answer| {
        let record = |record: &String| match record.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(' '))
        {
            Some(rest) if without_name => rest.to_string(),
            _ => record.clone(),
        };
        answer.iter().map(record).collect::<Vec<_>>().join(", ")
    });
    format!("{rtype}: {old} -> {new}")
}
