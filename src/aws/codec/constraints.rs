//! The constraints of a service model on values, and the search for values that violate them.

use super::Path;
use crate::aws::model::{Length, Model, Range, Shape, ShapeNumber};
use data_encoding::BASE64;
use serde_json::Value;
use std::fmt;

/// The maximum number of violations in one report.
pub const MAX_VIOLATIONS: usize = 10;
/// The maximum number of characters of a value in a report. Most texts may have at most 256 characters, so a report shows the
/// whole of a text that is a little too long.
const MAX_SHOWN_CHARACTERS: usize = 512;

/// A value that does not follow its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The way to the value, as in `targetIps.1.member.port`.
    pub path: String,
    /// The value. None if it is missing.
    pub value: Option<String>,
    /// The constraint that the value violates.
    pub constraint: Constraint,
}

/// A constraint of a service model on a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// The structure must have it.
    Required,
    /// The structure does not have it.
    Unknown,
    /// It has this type.
    Type(&'static str),
    /// It is one of these, joined by commas.
    OneOf(String),
    /// A text, list or map is at least so long.
    MinLength(u64),
    /// A text, list or map is at most so long.
    MaxLength(u64),
    /// A number is at least this.
    Min(f64),
    /// A number is at most this.
    Max(f64),
    /// A text matches the pattern.
    Pattern(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "Value '{value}'")?,
            None => f.write_str("Value null")?,
        }
        write!(f, " at '{}' failed to satisfy constraint: Member must ", self.path)?;
        match &self.constraint {
            Constraint::Required => f.write_str("not be null"),
            Constraint::Unknown => f.write_str("be a member of the API; this one is unknown to zonal"),
            Constraint::Type(name) => write!(f, "be {name}"),
            Constraint::OneOf(values) => write!(f, "satisfy enum value set: [{values}]"),
            Constraint::MinLength(limit) => write!(f, "have length greater than or equal to {limit}"),
            Constraint::MaxLength(limit) => write!(f, "have length less than or equal to {limit}"),
            Constraint::Min(limit) => write!(f, "have value greater than or equal to {limit}"),
            Constraint::Max(limit) => write!(f, "have value less than or equal to {limit}"),
            Constraint::Pattern(pattern) => write!(f, "satisfy regular expression pattern: {pattern}"),
        }
    }
}

/// The violations of one value, at most [`MAX_VIOLATIONS`].
pub fn check(model: &Model, number: ShapeNumber, value: &Value) -> Vec<Violation> {
    let mut checker = Checker { model, violations: Vec::new() };
    checker.check(number, value, &Path::Request);
    checker.violations
}

struct Checker<'m> {
    model: &'m Model,
    violations: Vec<Violation>,
}

impl Checker<'_> {
    fn add(&mut self, path: &Path, value: Option<&Value>, constraint: Constraint) {
        if self.violations.len() < MAX_VIOLATIONS {
            let value = value.map(|value| match value {
                Value::String(text) => shorten(text),
                value => shorten(&value.to_string()),
            });
            self.violations.push(Violation { path: path.to_string(), value, constraint });
        }
    }

    fn check(&mut self, number: ShapeNumber, value: &Value, path: &Path) {
        let model = self.model;
        match (model.shape(number), value) {
            (Shape::Structure { members, .. }, Value::Object(values)) => {
                for member in members {
                    let path = Path::Member(path, &member.name);
                    match values.get(&member.name) {
                        Some(value) => self.check(member.shape, value, &path),
                        None if member.required => self.add(&path, None, Constraint::Required),
                        None => {}
                    }
                }
            }
            (Shape::List { member, length, .. }, Value::Array(items)) => {
                self.length(length, items.len(), value, path);
                for (at, item) in items.iter().enumerate() {
                    self.check(*member, item, &Path::Item(path, at));
                }
            }
            (Shape::Map { key, value: shape, length }, Value::Object(values)) => {
                self.length(length, values.len(), value, path);
                for (name, value) in values {
                    let path = Path::Member(path, name);
                    self.check(*key, &Value::String(name.clone()), &path);
                    self.check(*shape, value, &path);
                }
            }
            (Shape::String { length, values, pattern, except }, Value::String(text)) => {
                self.length(length, text.chars().count(), value, path);
                if !values.is_empty() && !values.contains(text) {
                    self.add(path, Some(value), Constraint::OneOf(values.join(", ")));
                }
                let matches = pattern.as_ref().is_none_or(|pattern| pattern.matches(text));
                let is_except = except.as_ref().is_some_and(|except| except.matches(text));
                if let Some(pattern) = pattern.as_ref().filter(|_| !matches || is_except) {
                    let not = except.as_ref().map_or(String::new(), |except| format!("(?!{})", except.text));
                    self.add(path, Some(value), Constraint::Pattern(format!("{not}{}", pattern.text)));
                }
            }
            (Shape::Integer(range), Value::Number(number)) if is_integer(number, i32::MIN.into(), i32::MAX.into()) => {
                self.range(range, value, path);
            }
            (Shape::Long(range), Value::Number(number)) if is_integer(number, i64::MIN, i64::MAX) => {
                self.range(range, value, path);
            }
            (Shape::Float(range) | Shape::Double(range), Value::Number(_)) => self.range(range, value, path),
            (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::Timestamp, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {}
            (Shape::Blob, Value::String(text)) if BASE64.decode(text.as_bytes()).is_ok() => {}
            (shape, value) => self.add(path, Some(value), Constraint::Type(type_name(shape))),
        }
    }

    fn length(&mut self, limits: &Length, length: usize, value: &Value, path: &Path) {
        let length = length as u64;
        if let Some(min) = limits.min.filter(|min| length < *min) {
            self.add(path, Some(value), Constraint::MinLength(min));
        }
        if let Some(max) = limits.max.filter(|max| length > *max) {
            self.add(path, Some(value), Constraint::MaxLength(max));
        }
    }

    fn range(&mut self, limits: &Range, value: &Value, path: &Path) {
        let number = value.as_f64().unwrap_or_default();
        if let Some(min) = limits.min.filter(|min| number < *min) {
            self.add(path, Some(value), Constraint::Min(min));
        }
        if let Some(max) = limits.max.filter(|max| number > *max) {
            self.add(path, Some(value), Constraint::Max(max));
        }
    }
}

fn is_integer(number: &serde_json::Number, min: i64, max: i64) -> bool {
    number.as_i64().is_some_and(|number| (min..=max).contains(&number))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn type_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Structure { .. } => "a structure",
        Shape::List { .. } => "a list",
        Shape::Map { .. } => "a map",
        Shape::String { .. } => "a string",
        Shape::Integer(_) => "a 32-bit integer",
        Shape::Long(_) => "a 64-bit integer",
        Shape::Float(_) | Shape::Double(_) => "a number",
        Shape::Boolean => "a boolean",
        Shape::Timestamp => "a timestamp",
        Shape::Blob => "octets in base64",
    }
}
