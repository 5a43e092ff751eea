//! Forms: parameters whose names are ways into a structure, as in `Filter.1.Value.2`.

use super::{MAX_DEPTH, Path, Reader, percent, scalar};
use crate::aws::model::{Member, Model, Protocol, Shape, ShapeNumber};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The values of a form, by the parts of their names.
#[derive(Debug, Default)]
pub(super) struct Node {
    text: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    /// The tree of parameters.
    pub fn new(parameters: Vec<(String, String)>) -> Result<Node, String> {
        let mut root = Node::default();
        for (name, value) in parameters {
            if name.split('.').count() > MAX_DEPTH {
                return Err(format!("the name of a parameter has more than {MAX_DEPTH} parts"));
            }
            let node = name.split('.').fold(&mut root, |node, part| node.children.entry(part.into()).or_default());
            node.text = Some(value);
        }
        Ok(root)
    }

    /// Takes a parameter that is not in the model away.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.children.remove(name)?.text
    }

    /// The numbered children, in order. Missing numbers do not count.
    fn items(&self) -> Vec<&Node> {
        let numbered = self.children.iter().filter_map(|(name, node)| Some((name.parse::<u32>().ok()?, node)));
        let mut items: Vec<(u32, &Node)> = numbered.collect();
        items.sort_by_key(|(number, _)| *number);
        items.into_iter().map(|(_, node)| node).collect()
    }
}

/// The name of a member in a form.
fn name(member: &Member, is_ec2: bool) -> &str {
    if is_ec2 { member.query() } else { member.wire() }
}

impl Reader<'_> {
    /// The value of a form.
    pub(super) fn query(&mut self, number: ShapeNumber, node: &Node, path: &Path) -> Value {
        let is_ec2 = self.model.protocol == Protocol::Ec2;
        match self.model.shape(number) {
            Shape::Structure { members, .. } => {
                let mut value = Map::new();
                for member in members {
                    if let Some(found) = node.children.get(name(member, is_ec2)) {
                        let found = self.query(member.shape, found, &Path::Member(path, &member.name));
                        value.insert(member.name.clone(), found);
                    }
                }
                for child in node.children.keys() {
                    if !members.iter().any(|member| name(member, is_ec2) == child) {
                        self.unknown(path, child);
                    }
                }
                Value::Object(value)
            }
            Shape::List { member, wire, .. } => {
                let list = if is_ec2 { Some(node) } else { node.children.get(wire) };
                let items = list.map(Node::items).unwrap_or_default().into_iter().enumerate();
                items.map(|(at, item)| self.query(*member, item, &Path::Item(path, at))).collect()
            }
            Shape::Map { value: shape, .. } => {
                let entries = node.children.get("entry").map(Node::items).unwrap_or_default();
                let mut value = Map::new();
                for entry in entries {
                    let key = entry.children.get("key").and_then(|key| key.text.clone()).unwrap_or_default();
                    if let Some(found) = entry.children.get("value") {
                        let found = self.query(*shape, found, &Path::Member(path, &key));
                        value.insert(key, found);
                    }
                }
                Value::Object(value)
            }
            shape => scalar::from_text(shape, node.text.as_deref().unwrap_or_default()),
        }
    }
}

/// Appends the parameters of a value to a form.
pub(super) fn write(model: &Model, number: ShapeNumber, value: &Value, prefix: &str, form: &mut String) {
    let is_ec2 = model.protocol == Protocol::Ec2;
    let join = |name: &str| if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") };
    match (model.shape(number), value) {
        (Shape::Structure { members, .. }, Value::Object(values)) => {
            for member in members {
                if let Some(value) = values.get(&member.name) {
                    write(model, member.shape, value, &join(name(member, is_ec2)), form);
                }
            }
        }
        (Shape::List { member, wire, .. }, Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                let name = if is_ec2 { format!("{}", at + 1) } else { format!("{wire}.{}", at + 1) };
                write(model, *member, item, &join(&name), form);
            }
        }
        (Shape::Map { value: shape, .. }, Value::Object(values)) => {
            for (at, (key, value)) in values.iter().enumerate() {
                append(&join(&format!("entry.{}.key", at + 1)), key, form);
                write(model, *shape, value, &join(&format!("entry.{}.value", at + 1)), form);
            }
        }
        (_, value) => {
            if let Some(text) = scalar::to_text(value) {
                append(prefix, &text, form);
            }
        }
    }
}

/// Appends a parameter to a form or query string.
pub(super) fn append(name: &str, value: &str, form: &mut String) {
    if !form.is_empty() {
        form.push('&');
    }
    percent::encode(name, b"", form);
    form.push('=');
    percent::encode(value, b"", form);
}
