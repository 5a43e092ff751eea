//! What is wrong with the input: always with the place, the resource and the field.

use super::document::Fault;
use std::{fmt, path::Path, sync::Arc};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It cannot be served rightly: the manifest is refused.
    Error,
    /// It is odd, but clear.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters are meant; at least 1.
    pub length: u32,
}

/// A problem of a manifest, a master file or the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; none until the loader has looked the field up.
    pub place: Option<Place>,
    /// Kind and identifier of the resource, as in `vpcs` and `vpc-app`.
    pub resource: Option<(&'static str, String)>,
    /// The field within the resource, as in `network_interfaces[1].ipv4`; empty for the whole resource.
    pub field: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would be accepted.
    pub help: Option<String>,
}

impl Problem {
    /// An error in a field of a resource.
    pub fn error(kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            place: None,
            resource: Some((kind, id.into())),
            field: field.into(),
            message: message.into(),
            help: None,
        }
    }

    /// A warning about a field of a resource.
    pub fn warning(kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(kind, id, field, message) }
    }

    /// Something that is wrong with the text of a file itself.
    pub fn of_text(fault: Fault, file: &Arc<Path>) -> Problem {
        Problem {
            severity: Severity::Error,
            place: Some(fault.span.place(file)),
            resource: None,
            field: String::new(),
            message: fault.message,
            help: fault.help,
        }
    }

    /// Whether the manifest is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same with a place.
    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// The same with what would be accepted.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// One line: `file:line:column: error: vpcs.vpc-app.region: message (help)`. What is in it comes from others, and does not act.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref();
        let place = place.map(|place| format!("{}:{}:{}: ", place.file.display(), place.line, place.column));
        let what = match &self.resource {
            Some((kind, id)) if self.field.is_empty() => format!("{kind}.{id}: "),
            Some((kind, id)) => format!("{kind}.{id}.{}: ", self.field),
            None if self.field.is_empty() => String::new(),
            None => format!("{}: ", self.field),
        };
        let help = self.help.as_ref().map(|help| format!(" ({help})"));
        let (place, help) = (place.unwrap_or_default(), help.unwrap_or_default());
        f.write_str(&printable(&format!("{place}{}: {what}{}{help}", self.severity, self.message)))
    }
}

/// The text without what a terminal would act on: control characters, and those that turn the direction of writing.
pub fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if acts(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_make_no_lines() {
        let problem = Problem::error("vpcs", "x\n2026-11-28T16:00:00Z  INFO forged\0", "", "no \u{1b}[2J");
        let told = problem.to_string();
        assert!(told.starts_with("error: vpcs.x\u{fffd}2026") && !told.contains(char::is_control), "{told:?}");
    }
}
