//! Errors and warnings about a manifest, a master file or a configuration: with file, line,
//! resource and field.

use super::document::{Span, SyntaxError};
use std::{fmt, path::Path, sync::Arc};

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// zonal refuses the manifest, because it cannot serve it correctly.
    Error,
    /// zonal serves the manifest, but it is most likely not what is intended.
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

/// A location in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The path of the file, as it was given.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The number of characters; at least 1.
    pub length: u32,
}

/// A problem of a manifest, a master file or the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The severity.
    pub severity: Severity,
    /// The location. None until the loader has located the field.
    pub location: Option<Location>,
    /// Kind and identifier of the resource, such as `vpcs` and `vpc-app`.
    pub resource: Option<(&'static str, String)>,
    /// The field within the resource, such as `network_interfaces[1].ipv4`. Empty for the whole
    /// resource.
    pub field: String,
    /// The message, in one sentence without a full stop.
    pub message: String,
    /// The help: what to do.
    pub help: Option<String>,
}

impl Location {
    /// The location of a span in a file.
    pub fn new(span: Span, file: &Arc<Path>) -> Location {
        Location { file: file.clone(), line: span.line, column: span.column, length: span.length }
    }
}

impl Problem {
    /// An error in a field of a resource.
    pub fn error(kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            location: None,
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

    /// The problem of a file that is not valid YAML or JSON.
    pub fn of_text(error: SyntaxError, file: &Arc<Path>) -> Problem {
        Problem {
            severity: Severity::Error,
            location: Some(Location::new(error.span, file)),
            resource: None,
            field: String::new(),
            message: error.message,
            help: error.help,
        }
    }

    /// Whether the problem is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same problem with this location.
    pub fn at(mut self, location: Location) -> Problem {
        self.location = Some(location);
        self
    }

    /// The same problem with this help.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// Writes one line: `file:line:column: error: vpcs.vpc-app.region: message (help)`. Names and
/// values in it are made [`printable`].
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location.as_ref();
        let location = location.map(|at| format!("{}:{}:{}: ", at.file.display(), at.line, at.column));
        let object = match &self.resource {
            Some((kind, id)) if self.field.is_empty() => format!("{kind}.{id}: "),
            Some((kind, id)) => format!("{kind}.{id}.{}: ", self.field),
            None if self.field.is_empty() => String::new(),
            None => format!("{}: ", self.field),
        };
        let help = self.help.as_ref().map(|help| format!(" ({help})"));
        let (location, help) = (location.unwrap_or_default(), help.unwrap_or_default());
        f.write_str(&printable(&format!("{location}{}: {object}{}{help}", self.severity, self.message)))
    }
}

/// Replaces the characters that a terminal acts on: control characters, and those that change the
/// direction of writing.
pub fn printable(text: &str) -> String {
    let is_control = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_control_characters_of_identifiers() {
        let problem = Problem::error("vpcs", "x\n2026-11-28T16:00:00Z  INFO forged\0", "", "no \u{1b}[2J");
        let text = problem.to_string();
        assert!(text.starts_with("error: vpcs.x\u{fffd}2026") && !text.contains(char::is_control), "{text:?}");
    }
}
