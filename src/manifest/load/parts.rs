//! What one file holds: its resources, each with its digest and its line; and how many files make one manifest.

use crate::manifest::{
    decode::{decode, suggestion},
    digest::Digest,
    document::{Node, Span, Value},
    kinds::{digest_of, with_kinds},
    *,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{HashMap, HashSet};

/// A resource of a file.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    id: Id,
    value: Arc<T>,
    /// Over kind, identifier and content.
    digest: [u8; 32],
    /// Where its identifier is.
    span: Span,
}

/// Kinds that come with later versions.
const NOT_SERVED_YET: &[&str] = &["profiles", "firewall_domain_lists", "firewall_rule_groups"];

macro_rules! kinds {
    ($($kind:ident: $type:ident,)+) => {
        /// The resources of one file, by kind.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Parts {
            $($kind: Vec<Held<$type>>,)+
        }

        impl Parts {
            fn read_kind(&mut self, kind: &str, node: &Node, last: &Manifest, file: &Arc<Path>, problems: &mut Vec<Problem>) -> bool {
                match kind {
                    $(stringify!($kind) => {
                        self.$kind = read_resources(stringify!($kind), node, &last.$kind, file, problems);
                        true
                    })+
                    _ => false,
                }
            }

            /// Calls `f` with kind and identifier of each resource.
            pub(super) fn each<'a>(&'a self, mut f: impl FnMut(&'static str, &'a str)) {
                $(self.$kind.iter().for_each(|held| f(stringify!($kind), &held.id));)+
            }

            /// Where a resource is.
            pub(super) fn span_of(&self, kind: &str, id: &str) -> Option<Span> {
                match kind {
                    $(stringify!($kind) => self.$kind.iter().find(|held| held.id == id).map(|held| held.span),)+
                    _ => None,
                }
            }
        }

        /// The union of all files, of which the digest is taken. What is in two of them is a problem.
        pub(super) fn merge(files: &[(&Arc<Path>, &Parts)], digest: &mut Digest, problems: &mut Vec<Problem>) -> Manifest {
            Manifest {
                $($kind: merge_kind(stringify!($kind), files, |parts| &parts.$kind, digest, problems),)+
            }
        }

        /// Takes resources out of a union of files and puts others in. False if one of those is in it already: then the
        /// union is not what it should be.
        pub(super) fn replace(manifest: &mut Manifest, digest: &mut Digest, out: &[Parts], into: &[&Parts]) -> bool {
            true $(&& replace_kind(&mut manifest.$kind, digest, out, into, |parts| &parts.$kind))+
        }
    };
}

with_kinds!(kinds);

fn file_error(field: &str, message: String) -> Problem {
    let (severity, place, resource, help) = (Severity::Error, None, None, None);
    Problem { severity, place, resource, field: field.into(), message, help }
}

impl Span {
    /// As a place of a file.
    pub fn place(self, file: &Arc<Path>) -> Place {
        Place { file: file.clone(), line: self.line, column: self.column, length: self.length }
    }
}

/// Reads the resources of a document. One that is what it was in `last` is the same `Arc`.
pub(super) fn read_parts(root: &Node, file: &Arc<Path>, last: &Manifest, problems: &mut Vec<Problem>) -> Parts {
    let mut parts = Parts::default();
    let Value::Map(entries) = &root.value else {
        if !root.is_null() {
            let help = format!("a file is a map of kinds, which are {}", KINDS.join(", "));
            problems.push(file_error("", "expected a map".into()).help(help).at(root.span.place(file)));
        }
        return parts;
    };
    for entry in entries {
        if !parts.read_kind(&entry.key, &entry.node, last, file, problems) {
            let place = entry.key_span.place(file);
            problems.push(if NOT_SERVED_YET.contains(&&*entry.key) {
                let message = format!("`{}` is not served yet by this version", entry.key);
                file_error(&entry.key, message).help("take it out").at(place)
            } else {
                let mut help = suggestion(&entry.key, KINDS.iter().copied());
                if let (Value::Map(_), Some(help)) = (&entry.node.value, &mut help)
                    && help.starts_with("known are")
                {
                    help.push_str("; a resource stands below its kind, indented");
                }
                Problem { help, ..file_error(&entry.key, format!("there is no kind `{}`", entry.key)).at(place) }
            });
        }
    }
    parts
}

fn read_resources<T: DeserializeOwned + Serialize + JsonSchema + PartialEq>(
    kind: &'static str,
    node: &Node,
    last: &Resources<T>,
    file: &Arc<Path>,
    problems: &mut Vec<Problem>,
) -> Vec<Held<T>> {
    let Value::Map(entries) = &node.value else {
        if !node.is_null() {
            let message = "expected a map from identifiers to resources".to_string();
            let problem = file_error(kind, message).at(node.span.place(file));
            problems.push(problem.help("write the identifier and a colon, and the fields below it, indented"));
        }
        return Vec::new();
    };
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let id: &str = &entry.key;
        if id.is_empty() {
            problems.push(file_error(kind, "an identifier is empty".into()).at(entry.key_span.place(file)));
        }
        match decode::<T>(&entry.node) {
            Ok(value) => {
                let digest = digest_of(kind, id, &value);
                let value = match last.get(id) {
                    // Names are equal whatever their case, which must not be lost.
                    Some(old) if **old == value && digest_of(kind, id, &**old) == digest => old.clone(),
                    _ => Arc::new(value),
                };
                all.push(Held { id: id.into(), value, digest, span: entry.key_span });
            }
            Err(mistakes) => problems.extend(mistakes.into_iter().map(|mistake| {
                Problem {
                    help: mistake.help,
                    ..Problem::error(kind, id, mistake.field, mistake.message)
                        .at(mistake.span.unwrap_or(entry.key_span).place(file))
                }
            })),
        }
    }
    all
}

fn merge_kind<'a, T: 'a>(
    kind: &'static str,
    files: &[(&'a Arc<Path>, &'a Parts)],
    pick: impl Fn(&'a Parts) -> &'a Vec<Held<T>>,
    digest: &mut Digest,
    problems: &mut Vec<Problem>,
) -> Resources<T> {
    let all = files.iter().flat_map(|(file, parts)| pick(parts).iter().map(move |held| (held, *file)));
    let mut all: Vec<(&Held<T>, &Arc<Path>)> = all.collect();
    all.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    for pair in all.windows(2) {
        let [(first, first_file), (second, second_file)] = pair else { continue };
        if first.id == second.id {
            let message = format!(
                "`{}` is in two files: {} line {} and {} line {}",
                first.id,
                first_file.display(),
                first.span.line,
                second_file.display(),
                second.span.line
            );
            let problem = Problem::error(kind, &first.id, "", message).help("keep one of them");
            problems.push(problem.at(second.span.place(second_file)));
        }
    }
    all.dedup_by(|(second, _), (first, _)| second.id == first.id);
    all.iter().for_each(|(held, _)| digest.add(&held.digest));
    all.into_iter().map(|(held, _)| (held.id.clone(), held.value.clone())).collect()
}

fn replace_kind<'a, T: 'a>(
    resources: &mut Resources<T>,
    digest: &mut Digest,
    out: &'a [Parts],
    into: &[&'a Parts],
    pick: impl Fn(&'a Parts) -> &'a Vec<Held<T>>,
) -> bool {
    let mut gone: HashMap<&Id, &Held<T>> = out.iter().flat_map(&pick).map(|held| (&held.id, held)).collect();
    let mut seen = HashSet::new();
    for held in into.iter().flat_map(|parts| pick(parts)) {
        if !seen.insert(&held.id) {
            return false;
        }
        match gone.remove(&held.id) {
            Some(old) if Arc::ptr_eq(&old.value, &held.value) => continue,
            Some(old) => digest.remove(&old.digest),
            None if resources.contains_key(&held.id) => return false,
            None => {}
        }
        digest.add(&held.digest);
        resources.insert(held.id.clone(), held.value.clone());
    }
    for (id, held) in gone {
        digest.remove(&held.digest);
        resources.remove(id);
    }
    true
}
