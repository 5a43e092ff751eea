//! The resources of one manifest file, and the union of several files as one manifest.

use crate::manifest::{
    decode::{decode, nearest},
    digest::Digest,
    document::{Node, Span, Value},
    kinds::with_kinds,
    *,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};

/// A resource of a file.
#[derive(Clone, Debug)]
pub(super) struct FileResource<T> {
    id: Id,
    value: Arc<T>,
    /// SHA-256 over kind, identifier and content.
    digest: [u8; 32],
    /// The span of the identifier.
    span: Span,
}

macro_rules! kinds {
    ($($kind:ident: $type:ident,)+) => {
        /// The resources of one file, by kind.
        #[derive(Clone, Debug, Default)]
        pub(super) struct FileResources {
            $($kind: Vec<FileResource<$type>>,)+
        }

        impl FileResources {
            fn read_kind(&mut self, kind: &str, node: &Node, last: &Manifest, file: &Arc<Path>, problems: &mut Vec<Problem>) -> bool {
                match kind {
                    $(stringify!($kind) => {
                        self.$kind = read_kind_resources(stringify!($kind), node, &last.$kind, file, problems);
                        true
                    })+
                    _ => false,
                }
            }

            /// Calls `f` with kind and identifier of each resource.
            pub(super) fn each<'a>(&'a self, mut f: impl FnMut(&'static str, &'a str)) {
                $(self.$kind.iter().for_each(|resource| f(stringify!($kind), &resource.id));)+
            }

            /// The span of a resource's identifier. None if the file does not have the resource.
            pub(super) fn span_of(&self, kind: &str, id: &str) -> Option<Span> {
                match kind {
                    $(stringify!($kind) => self.$kind.iter().find(|resource| resource.id == id).map(|resource| resource.span),)+
                    _ => None,
                }
            }
        }

        /// The union of all files, whose digest is added to `digest`. A resource in two files is an
        /// error.
        pub(super) fn merge(files: &[(&Arc<Path>, &FileResources)], digest: &mut Digest, problems: &mut Vec<Problem>) -> Manifest {
            Manifest {
                $($kind: merge_kind(stringify!($kind), files, |parts| &parts.$kind, digest, problems),)+
            }
        }

        /// Replaces the resources `out` of a union of files by the resources `into`. Returns false,
        /// and leaves the union in an unspecified state, if a resource of `into` is in the union
        /// already.
        pub(super) fn replace(manifest: &mut Manifest, digest: &mut Digest, out: &[FileResources], into: &[&FileResources]) -> bool {
            true $(&& replace_kind(&mut manifest.$kind, digest, out, into, |parts| &parts.$kind))+
        }
    };
}

with_kinds!(kinds);

fn file_error(field: &str, message: String) -> Problem {
    let (severity, location, resource, help) = (Severity::Error, None, None, None);
    Problem { severity, location, resource, field: field.into(), message, help }
}

/// Reads the resources of a document. A resource that did not change since `last` is the same
/// `Arc`.
pub(super) fn read_resources(
    root: &Node,
    file: &Arc<Path>,
    last: &Manifest,
    problems: &mut Vec<Problem>,
) -> FileResources {
    let mut parts = FileResources::default();
    let Value::Map(entries) = &root.value else {
        if !root.is_null() {
            let help = format!("write a map of kinds; kinds are {}", KINDS.join(", "));
            problems.push(file_error("", "expected a map".into()).help(help).at(Location::new(root.span, file)));
        }
        return parts;
    };
    for entry in entries {
        if !parts.read_kind(&entry.key, &entry.node, last, file, problems) {
            let location = Location::new(entry.key_span, file);
            let help = match (nearest(&entry.key, KINDS.iter().copied()), &entry.node.value) {
                (Some(kind), _) => format!("did you mean `{kind}`?"),
                // Most likely a resource that is not below its kind.
                (None, Value::Map(_)) => {
                    format!("kinds are {}; write a resource below its kind, indented", KINDS.join(", "))
                }
                (None, _) => format!("kinds are {}", KINDS.join(", ")),
            };
            problems.push(Problem {
                help: Some(help),
                ..file_error(&entry.key, format!("there is no kind `{}`", entry.key)).at(location)
            });
        }
    }
    parts
}

fn read_kind_resources<T: DeserializeOwned + JsonSchema + PartialEq>(
    kind: &'static str,
    node: &Node,
    last: &Resources<T>,
    file: &Arc<Path>,
    problems: &mut Vec<Problem>,
) -> Vec<FileResource<T>>
where
    Resource: From<Arc<T>>,
{
    let Value::Map(entries) = &node.value else {
        if !node.is_null() {
            let message = "expected a map from identifiers to resources".to_string();
            let problem = file_error(kind, message).at(Location::new(node.span, file));
            problems.push(problem.help("write the identifier with a colon, and the fields below it, indented"));
        }
        return Vec::new();
    };
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let id: &str = &entry.key;
        if id.is_empty() {
            problems.push(file_error(kind, "the identifier is empty".into()).at(Location::new(entry.key_span, file)));
        }
        let digest_of = |resource: &Arc<T>| Resource::from(resource.clone()).digest(id);
        match decode::<T>(&entry.node) {
            Ok(value) => {
                let value = Arc::new(value);
                let digest = digest_of(&value);
                let value = match last.get(id) {
                    // Names are equal in any case, but a change of their case must not be lost.
                    Some(old) if *old == value && digest_of(old) == digest => old.clone(),
                    _ => value,
                };
                all.push(FileResource { id: id.into(), value, digest, span: entry.key_span });
            }
            Err(errors) => problems.extend(errors.into_iter().map(|error| {
                Problem {
                    help: error.help,
                    ..Problem::error(kind, id, error.field, error.message)
                        .at(Location::new(error.span.unwrap_or(entry.key_span), file))
                }
            })),
        }
    }
    all
}

fn merge_kind<'a, T: 'a>(
    kind: &'static str,
    files: &[(&'a Arc<Path>, &'a FileResources)],
    pick: impl Fn(&'a FileResources) -> &'a Vec<FileResource<T>>,
    digest: &mut Digest,
    problems: &mut Vec<Problem>,
) -> Resources<T> {
    let all = files.iter().flat_map(|(file, parts)| pick(parts).iter().map(move |resource| (resource, *file)));
    let mut all: Vec<(&FileResource<T>, &Arc<Path>)> = all.collect();
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
            problems.push(problem.at(Location::new(second.span, second_file)));
        }
    }
    all.dedup_by(|(second, _), (first, _)| second.id == first.id);
    all.iter().for_each(|(resource, _)| digest.add(&resource.digest));
    all.into_iter().map(|(resource, _)| (resource.id.clone(), resource.value.clone())).collect()
}

fn replace_kind<'a, T: 'a>(
    resources: &mut Resources<T>,
    digest: &mut Digest,
    out: &'a [FileResources],
    into: &[&'a FileResources],
    pick: impl Fn(&'a FileResources) -> &'a Vec<FileResource<T>>,
) -> bool {
    let mut gone: HashMap<&Id, &FileResource<T>> =
        out.iter().flat_map(&pick).map(|resource| (&resource.id, resource)).collect();
    let mut seen = HashSet::new();
    for resource in into.iter().flat_map(|parts| pick(parts)) {
        if !seen.insert(&resource.id) {
            return false;
        }
        match gone.remove(&resource.id) {
            Some(old) if Arc::ptr_eq(&old.value, &resource.value) => continue,
            Some(old) => digest.remove(&old.digest),
            None if resources.contains_key(&resource.id) => return false,
            None => {}
        }
        digest.add(&resource.digest);
        resources.insert(resource.id.clone(), resource.value.clone());
    }
    for (id, resource) in gone {
        digest.remove(&resource.digest);
        resources.remove(id);
    }
    true
}
