//! Bodies in XML. Documents have no DTD, no entities except for the five of XML, and bounded depth.

use super::{MAX_DEPTH, Path, Reader, scalar};
use crate::aws::model::{Model, Shape, ShapeNumber};
use quick_xml::events::Event;
use serde_json::{Map, Value};

/// An element. Attributes and namespaces are left out.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document.
    pub fn read(octets: &[u8]) -> Result<Element, String> {
        let text = std::str::from_utf8(octets).map_err(|_| "the XML is not UTF-8".to_string())?;
        let mut reader = quick_xml::Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        let (mut open, mut root): (Vec<Element>, Option<Element>) = (Vec::new(), None);
        loop {
            let event = reader.read_event().map_err(|error| format!("the XML is malformed: {error}"))?;
            match event {
                Event::Start(_) | Event::Empty(_) if root.is_some() => return Err("the XML has two roots".into()),
                Event::Start(start) => {
                    if open.len() == MAX_DEPTH {
                        return Err(format!("the XML has more than {MAX_DEPTH} levels"));
                    }
                    open.push(Element { name: start.local_name().into_inner().into(), ..Element::default() });
                }
                Event::Empty(start) => {
                    let element = Element { name: start.local_name().into_inner().into(), ..Element::default() };
                    close(element, &mut open, &mut root);
                }
                Event::End(_) => {
                    if let Some(element) = open.pop() {
                        close(element, &mut open, &mut root);
                    }
                }
                Event::Text(text) => append(&text.xml10_content(), &mut open)?,
                Event::CData(text) => append(&text.xml10_content(), &mut open)?,
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                    let character = character.or(match &*reference {
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "amp" => Some('&'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => None,
                    });
                    let name = &*reference;
                    let character = character.ok_or_else(|| format!("the XML has the unknown entity `{name}`"))?;
                    append(character.encode_utf8(&mut [0; 4]), &mut open)?;
                }
                Event::DocType(_) => return Err("the XML has a document type; send it without `<!DOCTYPE …>`".into()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof if open.is_empty() => return root.ok_or_else(|| "the XML has no element".into()),
                Event::Eof => return Err("the XML ends within an element".into()),
            }
        }
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn append(text: &str, open: &mut [Element]) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("the XML has text outside its root".into()),
    }
    Ok(())
}

impl Reader<'_> {
    /// The value of an element.
    pub(super) fn xml(&mut self, number: ShapeNumber, element: &Element, path: &Path) -> Value {
        match self.model.shape(number) {
            Shape::Structure { members, .. } => {
                let mut value = Map::new();
                for member in members.iter().filter(|member| member.location.is_none()) {
                    if let Some(found) = element.child(member.wire()) {
                        let found = self.xml(member.shape, found, &Path::Member(path, &member.name));
                        value.insert(member.name.clone(), found);
                    }
                }
                for child in &element.children {
                    if !members.iter().any(|member| member.location.is_none() && member.wire() == child.name) {
                        self.unknown(path, &child.name);
                    }
                }
                Value::Object(value)
            }
            Shape::List { member, wire, .. } => {
                let mut items = Vec::new();
                for child in &element.children {
                    if child.name == *wire {
                        items.push(self.xml(*member, child, &Path::Item(path, items.len())));
                    } else {
                        self.unknown(path, &child.name);
                    }
                }
                Value::Array(items)
            }
            Shape::Map { value: shape, .. } => {
                let mut value = Map::new();
                for entry in element.children.iter().filter(|child| child.name == "entry") {
                    if let (Some(key), Some(found)) = (entry.child("key"), entry.child("value")) {
                        let found = self.xml(*shape, found, &Path::Member(path, &key.text));
                        value.insert(key.text.clone(), found);
                    }
                }
                Value::Object(value)
            }
            shape => scalar::from_text(shape, &element.text),
        }
    }
}

/// Appends a value as an element with this name.
pub(super) fn write(model: &Model, number: ShapeNumber, value: &Value, name: &str, out: &mut String) {
    match (model.shape(number), value) {
        (_, Value::Null) => {}
        (Shape::Structure { .. }, Value::Object(_)) => {
            tag(name, out);
            write_members(model, number, value, out);
            end(name, out);
        }
        (Shape::List { member, wire, .. }, Value::Array(items)) => {
            tag(name, out);
            items.iter().for_each(|item| write(model, *member, item, wire, out));
            end(name, out);
        }
        (Shape::Map { value: shape, .. }, Value::Object(values)) => {
            tag(name, out);
            for (key, value) in values {
                tag("entry", out);
                write_text("key", key, out);
                write(model, *shape, value, "value", out);
                end("entry", out);
            }
            end(name, out);
        }
        (_, value) => {
            if let Some(text) = scalar::to_text(value) {
                write_text(name, &text, out);
            }
        }
    }
}

/// Appends the members of a structure that are in the body.
pub(super) fn write_members(model: &Model, number: ShapeNumber, value: &Value, out: &mut String) {
    if let Shape::Structure { members, .. } = model.shape(number) {
        for member in members.iter().filter(|member| member.location.is_none()) {
            if let Some(value) = value.get(&member.name) {
                write(model, member.shape, value, member.wire(), out);
            }
        }
    }
}

/// Appends an element with a text.
pub(super) fn write_text(name: &str, text: &str, out: &mut String) {
    tag(name, out);
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A reader would make it a line feed.
            '\r' => out.push_str("&#13;"),
            // XML 1.0 cannot have other control characters.
            '\t' | '\n' | ' '.. => out.push(character),
            _ => out.push('\u{fffd}'),
        }
    }
    end(name, out);
}

/// Appends the start of an element.
pub(super) fn tag(name: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push('>');
}

/// Appends the end of an element.
pub(super) fn end(name: &str, out: &mut String) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}
