//! The text of a manifest as a tree of nodes, each with its span in the text. YAML and JSON give
//! the same tree.

mod diagnosis;
mod json;
mod yaml;

pub use diagnosis::missing_blank_help;

use std::sync::Arc;

/// The largest file that zonal reads, in octets.
pub const MAX_FILE_OCTETS: u64 = 256 << 20;
/// The largest depth of nested lists and maps.
pub const MAX_DEPTH: usize = 64;

/// A range of characters on one line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The number of characters; at least 1.
    pub length: u32,
}

impl Default for Span {
    fn default() -> Span {
        Span { line: 1, column: 1, length: 1 }
    }
}

/// The error of a text that is not valid YAML or JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The span of the error.
    pub span: Span,
    /// The error message.
    pub message: String,
    /// The help: what to write instead.
    pub help: Option<String>,
}

impl SyntaxError {
    fn new(span: Span, message: impl Into<String>) -> SyntaxError {
        SyntaxError { span, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> SyntaxError {
        self.help = Some(help.into());
        self
    }
}

/// A value with its span.
#[derive(Clone, Debug)]
pub struct Node {
    /// The span of the value, or of its first line if it has several.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// The value of a node.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, a number, a boolean or null. The type of the field that it is read for determines
    /// which.
    Scalar {
        /// The text, without quotes and escapes.
        text: Arc<str>,
        /// Whether it is written without quotes. Only then it can be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in its order in the text.
    Map(Vec<Entry>),
}

/// A key of a map, and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The text of the key.
    pub key: Arc<str>,
    /// The span of the key.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

/// A step from a node to a node in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(Arc<str>),
    /// The element of a list with this index, from 0.
    Index(usize),
}

/// A path as text: `network_interfaces[1].ipv4`.
pub fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

impl Node {
    /// Whether the node is null: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value as JSON. A text without quotes that JSON reads as a number or a boolean is one.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            _ if self.is_null() => serde_json::Value::Null,
            Value::Scalar { text, plain } => match &**text {
                "true" if *plain => true.into(),
                "false" if *plain => false.into(),
                // Digits with a leading zero, such as those of an account, are text in JSON.
                text => match serde_json::from_str::<serde_json::Number>(text) {
                    Ok(number) if *plain => number.into(),
                    _ => text.into(),
                },
            },
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                let members = entries.iter().map(|entry| (entry.key.to_string(), entry.node.to_json()));
                serde_json::Value::Object(members.collect())
            }
        }
    }

    /// The entry of a map with this key. None if there is no such entry, or if the node is not a
    /// map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// The span of the node at `path`, which has the form of [`path_text`]; if it does not exist,
    /// of the nearest node above it. The span of a scalar is that of its value, the span of a list
    /// or map that of its key. None if that node is this node.
    pub fn locate(&self, path: &str) -> Option<Span> {
        let mut node = self;
        let mut rest = path;
        let mut found = None;
        while !rest.is_empty() {
            match &node.value {
                Value::Map(entries) => {
                    // Keys can contain dots: the longest key that fits is used.
                    let fits = entries.iter().filter_map(|entry| {
                        let tail = rest.strip_prefix(&*entry.key)?;
                        (tail.is_empty() || tail.starts_with(['.', '['])).then_some((entry, tail))
                    });
                    let Some((entry, tail)) = fits.min_by_key(|(_, tail)| tail.len()) else { break };
                    node = &entry.node;
                    found = Some(match node.value {
                        Value::Scalar { .. } if !node.is_null() => node.span,
                        _ => entry.key_span,
                    });
                    rest = tail.strip_prefix('.').unwrap_or(tail);
                }
                Value::List(items) => {
                    let Some((index, tail)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
                        break;
                    };
                    let Some(item) = index.parse::<usize>().ok().and_then(|index| items.get(index)) else { break };
                    node = item;
                    found = Some(item.span);
                    rest = tail.strip_prefix('.').unwrap_or(tail);
                }
                Value::Scalar { .. } => break,
            }
        }
        found
    }
}

/// Reads a document. If there are errors, the tree has what could be read, or is none.
pub fn read(bytes: &[u8], json: bool) -> (Option<Node>, Vec<SyntaxError>) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = valid.matches('\n').count() as u32 + 1;
            let column = valid.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u32 + 1;
            let error = SyntaxError::new(Span { line, column, length: 1 }, "the file is not valid UTF-8");
            return (None, vec![error.help("save the file as UTF-8")]);
        }
    };
    if json { json::read(text) } else { yaml::read(text) }
}

/// Removes keys that a map has twice, and adds an error for each.
fn without_duplicates(entries: Vec<Entry>, errors: &mut Vec<SyntaxError>) -> Vec<Entry> {
    let mut lines: std::collections::HashMap<Arc<str>, u32> = std::collections::HashMap::with_capacity(entries.len());
    let mut unique = Vec::with_capacity(entries.len());
    for entry in entries {
        match lines.get(&entry.key) {
            Some(line) => errors.push(
                SyntaxError::new(
                    entry.key_span,
                    format!("`{}` is given twice: in line {line} and in line {}", entry.key, entry.key_span.line),
                )
                .help("keep one of them"),
            ),
            None => {
                lines.insert(entry.key.clone(), entry.key_span.line);
                unique.push(entry);
            }
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn yaml(text: &str) -> (Option<Node>, Vec<SyntaxError>) {
        read(text.as_bytes(), false)
    }

    fn json_of(node: &Node) -> serde_json::Value {
        match &node.value {
            _ if node.is_null() => serde_json::Value::Null,
            Value::Scalar { text, plain: true } => {
                serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_string()))
            }
            Value::Scalar { text, .. } => serde_json::Value::String(text.to_string()),
            Value::List(items) => items.iter().map(json_of).collect(),
            Value::Map(entries) => {
                serde_json::Value::Object(entries.iter().map(|e| (e.key.to_string(), json_of(&e.node))).collect())
            }
        }
    }

    #[test]
    fn locates_nodes_by_their_path() {
        let (node, errors) = yaml(
            "# ö\nvpcs:\n  vpc-ä: {region: \"us-east-1\", cidr_blocks: [10.0.0.0/8, fd00::/8]}\n  b.c:\n    x: |\n      text\n",
        );
        assert_eq!(errors, []);
        let node = node.unwrap();
        for (path, line, column, length) in [
            ("vpcs", 2, 1, 4),
            ("vpcs.vpc-ä", 3, 3, 5),
            ("vpcs.vpc-ä.region", 3, 19, 11),
            ("vpcs.vpc-ä.cidr_blocks[1]", 3, 58, 8),
            ("vpcs.vpc-ä.cidr_blocks[7]", 3, 32, 11),
            ("vpcs.vpc-ä.no_such", 3, 3, 5),
            ("vpcs.b.c.x", 6, 7, 1),
            ("vpcs.b.c.y", 4, 3, 3),
        ] {
            assert_eq!(node.locate(path), Some(Span { line, column, length }), "{path}");
        }
        assert_eq!(node.locate("nothing"), None);
    }

    #[test]
    fn reports_broken_texts_with_their_line() {
        let bomb = format!(
            "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{}",
            (1..12)
                .map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")))
                .collect::<String>()
        );
        // Each line is flat, but each alias goes 40 deeper.
        let (open, close) = ("[".repeat(40), "]".repeat(40));
        let tower: String = (1..120).map(|i| format!("a{i}: &a{i} {open}*a{}{close}\n", i - 1)).collect();
        let tower = format!("a0: &a0 {open}{close}\n{tower}");
        let cases: [(&str, bool, u32, &str); 19] = [
            (&bomb, false, 6, "aliases expand to more than"),
            (&tower, false, 2, "nested more than 64 deep"),
            (&"[".repeat(100), false, 1, "nested more than 64 deep"),
            (&"[".repeat(100_000), true, 1, "nested more than 64 deep"),
            ("a: 1\nb: 2\na: 3\n", false, 3, "`a` is given twice: in line 1 and in line 3"),
            ("a: 1\n---\nb: 2\n", false, 2, "more than one document"),
            ("a: [1\nb: 2\n", false, 1, "`[` is never closed (close it with `]`)"),
            ("a: *x\n", false, 1, "not valid YAML"),
            ("a: &a [*a]\n", false, 1, "anchor"),
            ("? [a]\n: b\n", false, 1, "a key must be plain text"),
            ("a:\n\tb: 1\n", false, 2, "(indent with spaces)"),
            ("a: [*.example.com]\n", false, 1, "(put quotes around"),
            ("a:\n    b: 1\n   c: 2\n", false, 3, "(entries of one map begin in the same column"),
            ("a: \"b\nc: d\n", false, 1, "(is a quote missing"),
            ("{\"a\": 1,\n\"a\": 2}", true, 2, "`a` is given twice: in line 1 and in line 2"),
            ("{\"a\": 01}", true, 1, "not valid JSON"),
            ("{\"a\": 1}\n x", true, 2, "not valid JSON"),
            ("{\"a\": \"\\ud800\"}", true, 1, "not valid JSON"),
            ("{\"a\":\n1,}", true, 2, "not valid JSON"),
        ];
        for (text, json, line, message) in cases {
            let (_, errors) = read(text.as_bytes(), json);
            let shown = &text[..text.len().min(60)];
            assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
            let error = format!("{} ({})", errors[0].message, errors[0].help.as_deref().unwrap_or_default());
            assert!(error.contains(message), "{shown}: {errors:?}");
            assert_eq!(errors[0].span.line, line, "{shown}: {errors:?}");
        }
        let (_, errors) = read(b"a: b\nc: \xff\n", false);
        assert_eq!((errors[0].span.line, errors[0].span.column), (2, 4));
    }

    #[test]
    fn merge_keys_add_the_entries_of_other_maps() {
        let text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: *a, y: 5}\nd: {<<: [*b, *a], w: 0}\n\
                    e: &e\n  <<: *b\n  v: 6\nf: {<<: *e}\ng: {<<: {x: 7}}\nh: {<<: []}\n";
        let (node, errors) = yaml(text);
        assert_eq!(errors, []);
        let node = node.unwrap();
        let expected = serde_json::json!({
            "a": {"x": 1, "y": 2}, "b": {"y": 3, "z": 4}, "c": {"x": 1, "y": 5}, "d": {"w": 0, "x": 1, "y": 3, "z": 4},
            "e": {"v": 6, "y": 3, "z": 4}, "f": {"v": 6, "y": 3, "z": 4}, "g": {"x": 7}, "h": {},
        });
        assert_eq!(json_of(&node), expected);
        // A merged entry has the span where it is written.
        assert_eq!(node.locate("c.x").map(|span| (span.line, span.column)), Some((1, 11)));
        for (text, message) in [
            ("a: {<<: x}\n", "`<<` adds the entries of a map"),
            ("a: {<<: [x]}\n", "`<<` adds the entries of a map"),
            ("a: {<<: ~}\n", "`<<` adds the entries of a map"),
            ("a: {\"<<\": {}}\n", "a quoted `<<`"),
        ] {
            let errors = yaml(text).1;
            assert!(errors.len() == 1 && errors[0].message.starts_with(message), "{text}: {errors:?}");
        }
        let wide = (0..2000).map(|at| format!("k{at}: 0")).collect::<Vec<_>>().join(", ");
        let bomb: String = (0..2000).map(|at| format!("m{at}: {{<<: *a}}\n")).collect();
        let errors = yaml(&format!("a: &a {{{wide}}}\n{bomb}")).1;
        assert!(errors[0].message.starts_with("aliases expand to more than"), "{errors:?}");
    }

    #[test]
    fn reads_empty_texts_as_null() {
        for text in ["", "# only a comment\n", "---\n", "\u{feff}", "---\n# a\n...\n"] {
            let (node, errors) = yaml(text);
            assert!(errors.is_empty() && node.is_none_or(|node| node.is_null()), "{text:?}");
        }
        assert!(read(b" \n", true).0.is_none());
        assert!(read(b" \n", true).1.is_empty());
    }

    #[test]
    fn reads_json_like_serde_json() {
        let text = "\u{feff}{\t\"a\" :[1,-2.5e3,true,null,\"\\ud83d\\ude00\\n\\u00e9\\/\"],\r\n\t\"\":{},\"b\":[ ]}";
        let (node, errors) = read(text.as_bytes(), true);
        assert_eq!(errors, []);
        assert_eq!(json_of(&node.unwrap()), serde_json::from_str::<serde_json::Value>(&text[3..]).unwrap());
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(text in "[ -~\\n\\t\"{}\\[\\]:,&*!|>#'%@-]{0,80}", json: bool) {
            let (node, errors) = read(text.as_bytes(), json);
            if json {
                let valid = serde_json::from_str::<serde_json::Value>(&text).is_ok() || text.trim().is_empty();
                prop_assert!(valid || !errors.is_empty());
                prop_assert!(!valid || node.is_some() || text.trim().is_empty());
            }
        }
    }
}
