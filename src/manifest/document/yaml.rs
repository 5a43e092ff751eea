//! Reading YAML, from the events of `saphyr-parser`. Aliases and merge keys are expanded, within
//! [`MAX_EXPANSION`].

use super::{Entry, MAX_DEPTH, Node, Span, SyntaxError, Value, diagnosis::diagnose, without_duplicates};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The largest expansion of all aliases together. A node counts 1, and 1 more for each 32 octets of
/// its text.
const MAX_EXPANSION: usize = 1_000_000;

/// A list or map whose end has not been read yet.
struct Open {
    span: Span,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(Arc<str>, Span)>,
        /// The values of merge keys.
        merged: Vec<Node>,
    },
}

/// The key whose value is a map or a list of maps whose entries are added to this map (YAML 1.1,
/// <https://yaml.org/type/merge.html>).
const MERGE_KEY: &str = "<<";

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    /// The anchored nodes, and the expansion that an alias to each of them counts.
    anchors: HashMap<usize, (Node, usize)>,
    expanded: usize,
    errors: Vec<SyntaxError>,
}

/// The help for a syntax error, from the parser's message and the character at the error.
fn help(info: &str, at: Option<char>) -> Option<&'static str> {
    match at {
        _ if info.contains("tab") => Some("indent with spaces"),
        Some('*' | '&' | '@' | '`' | '%' | '!') => {
            Some("put quotes around a text that begins with this character, such as \"*.example.com\"")
        }
        _ if info.contains("quoted scalar") => Some("is a quote missing at the end of the text?"),
        _ if info.contains("not allowed in this context") => {
            Some("entries of one map begin in the same column; a text with `: ` in it needs quotes")
        }
        _ if info.contains("expected key") => {
            Some("entries of one map begin in the same column, deeper than their key")
        }
        _ if info.contains("flow sequence") || info.contains("flow mapping") => Some("is a `]` or `}` missing?"),
        _ => None,
    }
}

pub(super) fn read(text: &str) -> (Option<Node>, Vec<SyntaxError>) {
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, at) = match event {
            Ok(event) => event,
            Err(cause) => {
                let (line, column) = (cause.marker().line() as u32, cause.marker().col() as u32 + 1);
                let error = SyntaxError::new(
                    Span { line: line.max(1), column, length: 1 },
                    format!("the file is not valid YAML: {}", cause.info()),
                );
                let at = text
                    .lines()
                    .nth(error.span.line as usize - 1)
                    .and_then(|line| line.chars().nth(cause.marker().col()));
                let known =
                    help(cause.info(), at).filter(|_| matches!(at, Some('*' | '&' | '@' | '`' | '%' | '!' | '\t')));
                let error = match known {
                    Some(_) => None,
                    None => diagnose(text, error.span.line),
                }
                .unwrap_or_else(|| SyntaxError { help: help(cause.info(), at).map(String::from), ..error });
                builder.errors.push(error);
                return (None, builder.errors);
            }
        };
        let length = match at.end.line() == at.start.line() {
            true => at.end.col().saturating_sub(at.start.col()).max(1),
            false => 1,
        };
        let span = Span { line: at.start.line() as u32, column: at.start.col() as u32 + 1, length: length as u32 };
        let done = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let error = SyntaxError::new(span, "the file has more than one document");
                    builder.errors.push(error.help("remove the `---`, or split the file"));
                    return (None, builder.errors);
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                builder.add(Node { span, value: Value::Scalar { text: text.into(), plain } }, anchor)
            }
            Event::SequenceStart(anchor, _) => builder.open(span, anchor, Items::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                builder.open(span, anchor, Items::Map { entries: Vec::new(), key: None, merged: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(at.end.line(), at.end.col()),
            Event::Alias(anchor) => builder.expand(span, anchor),
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        };
        if let Err(error) = done {
            builder.errors.push(error);
            return (None, builder.errors);
        }
    }
    (builder.root, builder.errors)
}

impl Builder {
    fn open(&mut self, span: Span, anchor: usize, items: Items) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        if let Some(Open { items: Items::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(bad_key(span));
        }
        self.open.push(Open { span, anchor, items });
        Ok(())
    }

    fn close(&mut self, end_line: usize, end_col: usize) -> Result<(), SyntaxError> {
        let Some(Open { mut span, anchor, items }) = self.open.pop() else { return Ok(()) };
        if span.line as usize == end_line {
            span.length = (end_col as u32 + 1).saturating_sub(span.column).max(1);
        }
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map { entries, merged, .. } => {
                let entries = without_duplicates(entries, &mut self.errors);
                Value::Map(self.merge(entries, merged)?)
            }
        };
        self.add(Node { span, value }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            let weight = weight(&node);
            self.anchors.insert(anchor, (node.clone(), weight));
            // The copy for the anchor counts too, because anchors within anchors are copied
            // repeatedly.
            self.count(weight, node.span)?;
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { items: Items::List(items), .. }) => items.push(node),
            Some(Open { items: Items::Map { entries, key, merged }, .. }) => match (key.take(), node.value) {
                (Some((key, _)), value) if &*key == MERGE_KEY => merged.push(Node { span: node.span, value }),
                (Some((key, key_span)), value) => {
                    entries.push(Entry { key, key_span, node: Node { span: node.span, value } })
                }
                (None, Value::Scalar { text, plain }) => {
                    // A quoted `<<` is an ordinary key, which is most likely a mistake.
                    let is_quoted_merge_key = !plain && &*text == MERGE_KEY;
                    if is_quoted_merge_key {
                        return Err(
                            SyntaxError::new(node.span, "a quoted `<<` is not a merge key").help("remove the quotes")
                        );
                    }
                    *key = Some((text, node.span));
                }
                (None, _) => return Err(bad_key(node.span)),
            },
        }
        Ok(())
    }

    /// Adds the entries of merge keys to a map. An entry of the map itself has precedence, then the
    /// first map that has the key.
    fn merge(&mut self, mut entries: Vec<Entry>, merged: Vec<Node>) -> Result<Vec<Entry>, SyntaxError> {
        if merged.is_empty() {
            return Ok(entries);
        }
        let mut known: HashSet<Arc<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
        let maps = merged.into_iter().flat_map(|node| match node.value {
            Value::List(maps) => maps,
            value => vec![Node { span: node.span, value }],
        });
        for map in maps {
            let Value::Map(more) = map.value else {
                let error = SyntaxError::new(map.span, "`<<` adds the entries of a map, and this is not a map");
                return Err(error.help("write `<<: *name` or a list of aliases, and `&name` in front of a map"));
            };
            entries.extend(more.into_iter().filter(|entry| known.insert(entry.key.clone())));
        }
        Ok(entries)
    }

    fn expand(&mut self, span: Span, anchor: usize) -> Result<(), SyntaxError> {
        let Some((_, weight)) = self.anchors.get(&anchor) else {
            return Err(SyntaxError::new(span, "the alias is inside its own anchor"));
        };
        let weight = *weight;
        self.count(weight, span)?;
        match self.anchors.get(&anchor) {
            // Anchors that contain aliases can be deeper than any text.
            Some((node, _)) if self.open.len() + depth(node) > MAX_DEPTH => Err(too_deep(span)),
            Some((node, _)) => self.add(node.clone(), 0),
            None => Ok(()),
        }
    }

    fn count(&mut self, weight: usize, span: Span) -> Result<(), SyntaxError> {
        self.expanded = self.expanded.saturating_add(weight);
        match self.expanded > MAX_EXPANSION {
            true => Err(SyntaxError::new(span, format!("aliases expand to more than {MAX_EXPANSION} values"))),
            false => Ok(()),
        }
    }
}

fn too_deep(span: Span) -> SyntaxError {
    SyntaxError::new(span, format!("lists and maps are nested more than {MAX_DEPTH} deep"))
}

fn bad_key(span: Span) -> SyntaxError {
    SyntaxError::new(span, "a key must be plain text, not a list or map")
        .help("put quotes around a key that begins with `{` or `[`")
}

fn weight(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { text, .. } => 1 + text.len() / 32,
        Value::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + weight(&entry.node)).sum::<usize>(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.node)).max().unwrap_or(0),
    }
}
