//! The parameters of REST requests outside the body: labels in the path, the query string, and headers.

use super::{Path, Reader, percent, query, scalar};
use crate::aws::model::{Location, Member, Model, Operation, Shape};
use serde_json::{Map, Value};

/// An operation that a path leads to.
pub(super) struct Route<'m> {
    pub name: &'m str,
    pub operation: &'m Operation,
    /// The labels of the path, by name.
    pub labels: Vec<(&'m str, String)>,
}

/// The operation of a method and a path. None if there is no such operation.
pub(super) fn route<'m>(model: &'m Model, method: &str, path: &str) -> Option<Route<'m>> {
    let segments = segments(path);
    let routes = model.operations.iter().filter(|(_, operation)| operation.method == method);
    let routes = routes.filter_map(|(name, operation)| {
        let labels = labels(&operation.path, &segments)?;
        Some(Route { name, operation, labels })
    });
    // A literal segment goes before a label.
    routes.min_by_key(|route| route.labels.len())
}

/// The segments of a path. Some clients send an identifier with its prefix: `/hostedzone//hostedzone/Z1` is
/// `/hostedzone/Z1`.
fn segments(path: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).collect();
    let is_twice = |window: &[&str]| matches!(window, [first, "", again] if first == again);
    if let Some(at) = segments.windows(3).position(is_twice) {
        segments.drain(at + 1..at + 3);
    }
    segments
}

fn labels<'m>(template: &'m str, segments: &[&str]) -> Option<Vec<(&'m str, String)>> {
    let template: Vec<&str> = template.trim_end_matches('/').split('/').skip(1).collect();
    if template.len() != segments.len() {
        return None;
    }
    let mut labels = Vec::new();
    for (expected, segment) in template.into_iter().zip(segments) {
        match label(expected) {
            Some(name) if !segment.is_empty() => labels.push((name, percent::decode(segment, false).ok()?)),
            None if expected == *segment => {}
            _ => return None,
        }
    }
    Some(labels)
}

/// The name of the label that a segment of a template is.
fn label(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

impl Reader<'_> {
    /// Adds the members of a structure that are in the path and the query string.
    pub(super) fn locations(
        &mut self,
        members: &[Member],
        labels: &[(&str, String)],
        parameters: &[(String, String)],
        value: &mut Map<String, Value>,
    ) {
        for member in members {
            let shape = self.model.shape(member.shape);
            match member.location {
                Some(Location::Uri) => {
                    if let Some((_, text)) = labels.iter().find(|(name, _)| *name == member.wire()) {
                        value.insert(member.name.clone(), scalar::from_text(shape, text));
                    }
                }
                Some(Location::QueryString) => {
                    let mut texts = parameters.iter().filter(|(name, _)| name == member.wire()).map(|(_, text)| text);
                    if let Shape::List { member: item, .. } = shape {
                        let item = self.model.shape(*item);
                        let items: Vec<Value> = texts.map(|text| scalar::from_text(item, text)).collect();
                        if !items.is_empty() {
                            value.insert(member.name.clone(), items.into());
                        }
                    } else if let Some(text) = texts.next() {
                        value.insert(member.name.clone(), scalar::from_text(shape, text));
                    }
                }
                Some(Location::Header) | None => {}
            }
        }
        for (name, _) in parameters {
            let is_known = |member: &Member| member.location == Some(Location::QueryString) && member.wire() == name;
            // `x-id` repeats the operation; the others are a signature in the query string.
            if !members.iter().any(is_known) && name != "x-id" && !is_signature(name) {
                self.unknown(&Path::Request, name);
            }
        }
    }
}

/// Whether a parameter of a query string is a part of a signature.
pub(super) fn is_signature(name: &str) -> bool {
    name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"))
}

/// The path and the query string of a request, both encoded. The error is the name of a label without a value.
pub(super) fn write(model: &Model, operation: &Operation, value: &Value) -> Result<(String, String), String> {
    let members = model.members(operation.input);
    let (mut path, mut parameters) = (String::new(), String::new());
    for segment in operation.path.split('/').skip(1) {
        path.push('/');
        let Some(name) = label(segment) else {
            path.push_str(segment);
            continue;
        };
        let is_label = |member: &&Member| member.location == Some(Location::Uri) && member.wire() == name;
        let member = members.iter().find(is_label).map_or(name, |member| member.name.as_str());
        let text = value.get(member).and_then(scalar::to_text).filter(|text| !text.is_empty());
        percent::encode(&text.ok_or_else(|| member.to_string())?, b"", &mut path);
    }
    for member in members.iter().filter(|member| member.location == Some(Location::QueryString)) {
        match value.get(&member.name) {
            Some(Value::Array(items)) => {
                let texts = items.iter().filter_map(scalar::to_text);
                texts.for_each(|text| query::append(member.wire(), &text, &mut parameters));
            }
            Some(value) => {
                if let Some(text) = scalar::to_text(value) {
                    query::append(member.wire(), &text, &mut parameters);
                }
            }
            None => {}
        }
    }
    Ok((path, parameters))
}

/// The members of a result that are headers, with their texts.
pub(super) fn headers<'m>(model: &'m Model, operation: &Operation, value: &Value) -> Vec<(&'m str, String)> {
    let members = model.members(operation.output).iter().filter(|member| member.location == Some(Location::Header));
    members.filter_map(|member| Some((member.wire(), scalar::to_text(value.get(&member.name)?)?))).collect()
}
