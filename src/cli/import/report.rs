//! The report of an import: what is imported, what only nearly, and what not.

use super::Made;
use crate::manifest::problem::printable;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, path::Path};

/// The report of an import.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Resources, or parts of them, that zonal serves differently from AWS.
    approximated: Vec<Remark>,
    /// Resources, or parts of them, that a manifest cannot express.
    not_expressible: Vec<Remark>,
    /// Files, or parts of them, that were not read.
    not_read: Vec<Remark>,
}

/// A remark about a resource or file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Remark {
    /// Kind and identifier, or a path.
    about: String,
    /// The reason.
    reason: String,
}

impl Report {
    /// Adds a resource that zonal serves differently from AWS.
    pub fn approximated(&mut self, kind: &str, id: &str, reason: impl Into<String>) {
        self.approximated.push(Remark { about: format!("{kind}/{id}"), reason: reason.into() });
    }

    /// Adds a resource, or a part of it, that a manifest cannot express.
    pub fn not_expressible(&mut self, kind: &str, id: &str, reason: impl Into<String>) {
        self.not_expressible.push(Remark { about: format!("{kind}/{id}"), reason: reason.into() });
    }

    /// Adds a file that was not read.
    pub fn not_read(&mut self, path: &Path, reason: String) {
        self.not_read.push(Remark { about: path.display().to_string(), reason });
    }

    /// Whether each file was read.
    pub fn has_read_all(&self) -> bool {
        self.not_read.is_empty()
    }

    /// Puts the remarks in order.
    pub fn sort(&mut self) {
        for remarks in [&mut self.approximated, &mut self.not_expressible, &mut self.not_read] {
            remarks.sort();
            remarks.dedup();
        }
    }

    fn parts(&self) -> [(&'static str, &[Remark]); 3] {
        [("Approximated", &self.approximated), ("Not expressible", &self.not_expressible), ("Not read", &self.not_read)]
    }

    /// The report for people.
    pub fn to_text(&self, made: &Made, files: usize) -> String {
        let counts = counts(made);
        let total: usize = counts.values().sum();
        let mut text = format!("Imported {total} resources from {files} files\n");
        for (kind, count) in counts {
            let _ = writeln!(text, "  {kind}: {count}");
        }
        text + &self.remarks()
    }

    /// The remarks for people.
    pub fn remarks(&self) -> String {
        let mut text = String::new();
        for (title, remarks) in self.parts().into_iter().filter(|(_, remarks)| !remarks.is_empty()) {
            let _ = writeln!(text, "\n{title}: {}", remarks.len());
            for Remark { about, reason } in remarks {
                let _ = writeln!(text, "  {}: {}", printable(about), printable(reason));
            }
        }
        text
    }

    /// The report for programs.
    pub fn to_json(&self, made: &Made, files: usize) -> Value {
        let remarks = |remarks: &[Remark], about: &str| -> Value {
            remarks.iter().map(|remark| json!({about: remark.about, "reason": remark.reason})).collect()
        };
        json!({
            "files": files,
            "imported": counts(made),
            "approximated": remarks(&self.approximated, "resource"),
            "not_expressible": remarks(&self.not_expressible, "resource"),
            "not_read": remarks(&self.not_read, "file"),
        })
    }
}

/// The number of resources of each kind.
fn counts(made: &Made) -> BTreeMap<&'static str, usize> {
    made.iter().map(|(kind, resources)| (*kind, resources.len())).filter(|(_, count)| *count > 0).collect()
}
