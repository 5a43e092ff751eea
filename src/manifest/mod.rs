//! What is wanted: the manifest's types, how they are read, and what is wrong with them.

pub mod catalog;
pub mod check;
pub mod collection;
pub mod connectivity;
pub mod decode;
pub mod digest;
pub mod document;
pub(crate) mod forms;
mod kinds;
pub mod load;
pub mod master;
pub mod meant;
pub mod overlay;
pub mod presets;
pub mod primaries;
pub mod problem;
pub mod query_log;
pub mod resources;
pub mod rewrite;
pub mod secondaries;
pub mod transferred;
pub mod types;
pub(crate) mod words;
pub mod work;

pub use kinds::{Difference, KINDS, Resource, kind_of};
pub use load::Loader;
pub use primaries::{Catalog, NotifySource, Primary};
pub use problem::{Place, Problem, Severity};
pub use query_log::{ClientAddress, LogDestination, LogFile, QueryLogConfig, Rcode, Stdout};
pub use resources::{Change, Resources, changes, same_resources};
pub use secondaries::{Access, Secondary};
pub use transferred::Transferred;
pub use types::*;

use crate::wire::Name;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// A record of a master file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The owner.
    pub owner: Name,
    /// The type's number.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// Record data in uncompressed wire format.
    pub rdata: Box<[u8]>,
    /// Which of the files it is in: an index into [`MasterFile::files`].
    pub file: u16,
    /// The line of its first token, from 1.
    pub line: u32,
}

/// What a zone's master file, with all that it includes, holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MasterFile {
    /// The file and those that it includes.
    pub files: Vec<Arc<Path>>,
    /// All records of class IN, in their order.
    pub records: Vec<Record>,
}

/// The records of a zone that has a `file`.
#[derive(Clone, Debug)]
pub enum ZoneData {
    /// The file and the resource are what they were at the last accepted load: the previous snapshot has this zone.
    Unchanged,
    /// The file was read.
    Read(MasterFile),
}

/// A manifest as a source delivers it, with the master files that it names.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// For each hosted zone with a `file`: its records.
    pub zone_data: BTreeMap<Id, ZoneData>,
    /// What is kept of zones that have `primaries`.
    pub transferred: Transferred,
    /// The zones that catalogs list and that are left out.
    pub left_out: Vec<catalog::LeftOut>,
    /// What updates have made of zones.
    pub overlays: overlay::Overlays,
    /// SHA-256 over all resources and master files: equal on two nodes that have equal data.
    pub digest: [u8; 32],
}
