//! Translates between the wire and JSON values, in both directions, by walking the shapes of a [`model`](super::model).
//!
//! | part | what it reads and writes |
//! | --- | --- |
//! | [`server`] | requests of clients, results and errors for them |
//! | [`client`] | requests to a service, and its responses |
//! | `json`, `xml`, `query` | bodies |
//! | `rest` | paths, query strings and headers |
//! | [`constraints`] | what the model says of values: required members, types, lengths, ranges, patterns |
//!
//! A JSON value has AWS's member names: `{"HostedZoneId": "Z1", "MaxItems": "100"}`. Times are texts in the format of RFC 3339,
//! octets are texts in base64. Absent members are absent, never `null`.
//!
//! Readers translate what they can, and leave a text where the model says a number and the text is none.
//! [`constraints::check`] reports it.

pub mod client;
pub mod constraints;
mod json;
pub mod percent;
mod query;
mod rest;
mod scalar;
pub mod server;
mod xml;

use super::model::{Model, Protocol};
use std::fmt;

/// The maximum nesting of XML elements, and of the parts of a parameter's name in a form.
pub const MAX_DEPTH: usize = 32;
/// The maximum number of parameters of a form or a query string.
pub const MAX_PARAMETERS: usize = 10_000;

/// The way from a request to one of its values. It is shown as AWS does: `changeBatch.changes.1.member.action`.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The request.
    Request,
    /// A member of a structure, or the value of a key.
    Member(&'a Path<'a>, &'a str),
    /// A member of a list, from 0.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Request => Ok(()),
            Path::Member(parent, name) => {
                if !matches!(parent, Path::Request) {
                    write!(f, "{parent}.")?;
                }
                let mut letters = name.chars();
                letters.next().map_or(Ok(()), |first| write!(f, "{}{}", first.to_ascii_lowercase(), letters.as_str()))
            }
            Path::Item(parent, number) => write!(f, "{parent}.{}.member", number + 1),
        }
    }
}

/// A reader of the values of one model.
struct Reader<'m> {
    model: &'m Model,
    /// The members that the model does not have.
    unknown: Vec<String>,
}

impl<'m> Reader<'m> {
    fn new(model: &'m Model) -> Reader<'m> {
        Reader { model, unknown: Vec::new() }
    }

    /// Remembers a member that the model does not have.
    fn unknown(&mut self, parent: &Path, name: &str) {
        if self.unknown.len() < constraints::MAX_VIOLATIONS {
            self.unknown.push(Path::Member(parent, name).to_string());
        }
    }
}

impl Model {
    /// The media type of request bodies and responses.
    fn media_type(&self) -> &'static str {
        match self.protocol {
            Protocol::Json => "application/x-amz-json-1.1",
            Protocol::RestJson => "application/json",
            Protocol::RestXml | Protocol::Ec2 | Protocol::Query => "text/xml",
        }
    }
}

#[cfg(test)]
mod tests;
