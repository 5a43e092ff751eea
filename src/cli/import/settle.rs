//! Takes out what zonal cannot serve, until the rest can be served.
//!
//! Each round reads, checks and compiles all resources. What has an error is taken out: the element of a list, such as one
//! record set of a zone, or else the whole resource. A resource that is taken out can make others wrong, which the next round
//! finds.

use super::{Made, report::Report};
use crate::{
    clock::now,
    manifest::{Loaded, Manifest, Problem, Resource, check::Checked, connectivity::Connectivity, document},
    snapshot::{self, Node},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The number of rounds in which elements are taken out. Later rounds take out whole resources.
const MAX_CAREFUL_ROUNDS: usize = 100;
/// The number of rounds. Each round takes out at least one resource or element.
const MAX_ROUNDS: usize = 1_000;

/// An error: the kind and identifier of the resource, its field and the message.
type Fault = (&'static str, String, String, String);

/// The resources that zonal can serve together. The others are in the report.
pub(super) fn settle(mut made: Made, report: &mut Report) -> Made {
    for round in 0..MAX_ROUNDS {
        let (manifest, mut faults) = read(&made);
        if faults.is_empty() {
            faults = check(manifest);
        }
        if faults.is_empty() {
            return made;
        }
        take_out(&mut made, faults, round < MAX_CAREFUL_ROUNDS, report);
    }
    made
}

/// Reads all resources, and returns the errors in them.
fn read(made: &Made) -> (Manifest, Vec<Fault>) {
    let mut manifest = Manifest::default();
    let mut faults = Vec::new();
    for (kind, resources) in made {
        for (id, value) in resources {
            let text = value.to_string();
            let (node, errors) = document::read(text.as_bytes(), true);
            let fault = |field: String, message: String| (*kind, id.clone(), field, message);
            match node.and_then(|node| Resource::read(kind, &node)) {
                Some(Ok(resource)) => drop(manifest.put(id, resource)),
                Some(Err(errors)) => faults.extend(errors.into_iter().map(|error| fault(error.field, error.message))),
                None => {
                    let message = errors.into_iter().next().map_or("it cannot be read".into(), |error| error.message);
                    faults.push(fault(String::new(), message));
                }
            }
        }
    }
    (manifest, faults)
}

/// Checks and compiles a manifest.
fn check(manifest: Manifest) -> Vec<Fault> {
    let connectivity = Connectivity::new(&manifest);
    let mut problems = Checked::new(&manifest, &connectivity, now()).problems();
    if !problems.iter().any(Problem::is_error) {
        let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
        if let Err(more) = snapshot::compile(&loaded, &Arc::new(Node::default()), None) {
            problems.extend(more);
        }
    }
    let errors = problems.into_iter().filter(Problem::is_error);
    errors
        .filter_map(|problem| {
            let message = match &problem.help {
                Some(help) => format!("{} ({help})", problem.message),
                None => problem.message.clone(),
            };
            let (kind, id) = problem.resource?;
            let kind = crate::manifest::kind_of(kind)?;
            Some((kind, id, problem.field, message))
        })
        .collect()
}

/// Takes out what has errors.
fn take_out(made: &mut Made, faults: Vec<Fault>, carefully: bool, report: &mut Report) {
    let mut by_resource: BTreeMap<(&'static str, String), Vec<(String, String)>> = BTreeMap::new();
    for (kind, id, field, message) in faults {
        by_resource.entry((kind, id)).or_default().push((field, message));
    }
    for ((kind, id), faults) in by_resource {
        let Some(resources) = made.get_mut(kind) else { continue };
        let Some(resource) = resources.get_mut(&id) else { continue };
        let places = faults.iter().map(|(field, _)| Place::of(resource, field)).collect::<Option<BTreeSet<Place>>>();
        match places.filter(|_| carefully) {
            Some(places) => {
                for (field, message) in faults {
                    let Some(place) = Place::of(resource, &field) else { continue };
                    report.not_expressible(kind, &format!("{id} {}", place.title(resource)), message);
                }
                // From the back, so that the positions of the others stay.
                places.into_iter().rev().for_each(|place| place.remove(resource));
            }
            None => {
                for (field, message) in faults {
                    let field = if field.is_empty() { field } else { format!("{field}: ") };
                    report.not_expressible(kind, &id, format!("{field}{message}"));
                }
                resources.remove(&id);
            }
        }
    }
}

/// An element of a list or map in a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    list: String,
    index: usize,
    key: String,
}

impl Place {
    /// The outermost element that a field is in. None if the resource cannot be without it.
    fn of(resource: &Value, field: &str) -> Option<Place> {
        let end = field.find(['.', '['])?;
        let (list, rest) = field.split_at(end);
        match resource.get(list)? {
            Value::Array(items) => {
                let index = rest.strip_prefix('[')?.split(']').next()?.parse().ok()?;
                items.get(index)?;
                Some(Place { list: list.into(), index, key: String::new() })
            }
            Value::Object(members) => {
                // Keys can have dots.
                let rest = rest.strip_prefix('.')?;
                let fits = members.keys().filter(|key| rest.strip_prefix(key.as_str()).is_some_and(is_end));
                let key = fits.max_by_key(|key| key.len())?.clone();
                Some(Place { list: list.into(), index: 0, key })
            }
            _ => None,
        }
    }

    /// The place in words: of a record set, name and type.
    fn title(&self, resource: &Value) -> String {
        if !self.key.is_empty() {
            return format!("{}.{}", self.list, self.key);
        }
        let element = resource.get(&self.list).and_then(|list| list.get(self.index)).unwrap_or(&Value::Null);
        let of = |member: &str| super::text(element, member);
        match (of("name"), of("type"), of("set_identifier")) {
            (Some(name), Some(record_type), Some(identifier)) => format!("{name} {record_type} {identifier}"),
            (Some(name), Some(record_type), None) => format!("{name} {record_type}"),
            _ => match element.as_str() {
                Some(text) => format!("{} {text}", self.list),
                None => format!("{}[{}]", self.list, self.index),
            },
        }
    }

    fn remove(&self, resource: &mut Value) {
        match resource.get_mut(&self.list) {
            Some(Value::Array(items)) if self.index < items.len() => drop(items.remove(self.index)),
            Some(Value::Object(members)) => drop(members.remove(&self.key)),
            _ => {}
        }
    }
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['.', '['])
}
