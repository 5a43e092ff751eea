//! Messages from sources and transfers to the publisher, and its replies.

use super::guard::Deletions;
use crate::difference::Answers;
use crate::{
    manifest::{
        Id, Problem, ResourceChange,
        collection::{Collection, Edit},
        overlay::EditedSet,
        transferred::ZoneCopy,
    },
    snapshot::{firewall::table::Lists, zone::Zone},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    sync::{Arc, mpsc::SyncSender},
    time::Instant,
};
use tokio::sync::oneshot;

/// Other names in DNS Firewall lists.
pub struct ListsUpdate {
    /// The lists that the update was made from.
    pub base: Arc<Lists>,
    /// The lists with the other names.
    pub lists: Arc<Lists>,
    /// Receives whether the lists are served. False: others came first.
    pub reply: SyncSender<bool>,
}

/// The position of a source: which of its changes were delivered. It is written together with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The revision of etcd's store, or the number of changes that were pushed. Comparable between
    /// nodes.
    pub revision: u64,
    /// The generation of the whole manifest that was pushed last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub whole: u64,
    /// The identifier of etcd's cluster, which the revision belongs to.
    #[serde(default, skip_serializing_if = "is_zero", rename = "store")]
    pub cluster_id: u64,
    /// Tells the history of the store from another one with the same revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<HistoryMark>,
}

/// A key of etcd's store, as it was after its last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryMark {
    /// The key.
    pub key: String,
    /// The revision of the change.
    pub revision: u64,
    /// The checksum of the key's revisions, version and value.
    pub checksum: u32,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change, prepared for the collection that it changes.
#[derive(Clone, Debug)]
pub struct PreparedChange {
    /// The resources that change.
    pub edits: Vec<Edit>,
    /// The position of the source after the change.
    pub position: Position,
    /// The source's knowledge about the deletions, if the guard judges them.
    pub deletions: Option<Deletions>,
    /// The change makes the collection complete, even if the state directory had lost a part of it.
    pub is_whole: bool,
}

/// Prepares a change when it is its turn, or returns why it cannot be made.
pub type Prepare = Box<dyn Fn(&Collection, &Position) -> Result<PreparedChange, ChangeError> + Send>;

/// The result that a trial of a change returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Whether the change would be made.
    Acceptance,
    /// Also the answers that it would affect.
    Answers,
}

/// A change that a source delivers. The publisher makes all of it, or nothing.
pub struct Change {
    /// Prepares the change.
    pub prepare: Prepare,
    /// The source has made the change already. Later changes build on it, even if zonal refuses it.
    pub is_fact: bool,
    /// The change is only tried: the reply is what it would do.
    pub trial: Option<Trial>,
    /// zonal refuses the change if it would cause a resource to be set aside, or if a resource that it changes would stay set
    /// aside.
    pub is_strict: bool,
    /// When the node received it.
    pub since: Instant,
    /// Gets the result. A change with a receiver is on the disk before it is served.
    pub reply: Option<oneshot::Sender<Result<AcceptedChange, ChangeError>>>,
}

impl Change {
    /// A change that the source has made already, that the guard does not judge, and that needs no
    /// reply.
    pub fn fact(edits: Vec<Edit>, position: Position) -> Change {
        Change::of(PreparedChange { edits, position, deletions: None, is_whole: true })
    }

    /// A change that the source has made already, and whose deletions the guard judges. It needs no
    /// reply.
    pub fn guarded_fact(edits: Vec<Edit>, position: Position, deletions: Deletions) -> Change {
        Change::of(PreparedChange { edits, position, deletions: Some(deletions), is_whole: true })
    }

    fn of(prepared: PreparedChange) -> Change {
        let prepare = move |_: &Collection, _: &Position| Ok(prepared.clone());
        Change {
            prepare: Box::new(prepare),
            is_fact: true,
            trial: None,
            is_strict: false,
            since: Instant::now(),
            reply: None,
        }
    }
}

/// A change that is served, or that a trial would serve.
#[derive(Clone, Debug, Default)]
pub struct AcceptedChange {
    /// The generation that serves the change; in a trial, the next one.
    pub generation: u64,
    /// The position of the source after the change.
    pub position: Position,
    /// The resources that differ from those that were served.
    pub differences: Vec<ResourceChange>,
    /// The answers that the change would affect; in a trial of [`Trial::Answers`] only.
    pub answers: Option<Answers>,
    /// Warnings, and the reasons why resources are set aside.
    pub problems: Vec<Problem>,
}

/// Why a change is not made.
#[derive(Clone, Debug)]
pub enum ChangeError {
    /// The manifest would have errors.
    Problems(Vec<Problem>),
    /// The resource is not the one that the sender names in `If-Match` or `If-None-Match`.
    Precondition(String),
    /// The change is older than what is served, or another change has its generation.
    Conflict(String),
    /// There is no such resource.
    NotFound(String),
    /// The change cannot be read.
    Malformed(String),
    /// The state directory cannot be written.
    NotWritten(String),
}

impl ChangeError {
    /// The error for a state directory that cannot be written.
    pub fn not_written(error: &io::Error) -> ChangeError {
        ChangeError::NotWritten(format!("the change is not served: the state directory cannot be written: {error}"))
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Problems(problems) => {
                let errors = problems.iter().filter(|problem| problem.is_error());
                match (errors.clone().next(), errors.count()) {
                    (Some(first), 1) => write!(f, "{first}"),
                    (Some(first), count) => write!(f, "{first} (the first of {count} errors)"),
                    (None, _) => f.write_str("it has errors"),
                }
            }
            ChangeError::Precondition(text)
            | ChangeError::Conflict(text)
            | ChangeError::NotFound(text)
            | ChangeError::Malformed(text)
            | ChangeError::NotWritten(text) => f.write_str(text),
        }
    }
}

/// A zone that was transferred, or that has expired.
pub struct ZoneTransfer {
    /// The identifier of the zone.
    pub zone: Id,
    /// Its records.
    pub copy: ZoneCopy,
    /// Gets a message when the zone is served, or the errors of its records.
    pub reply: oneshot::Sender<Result<(), Vec<Problem>>>,
}

/// A dynamic update of a zone.
pub struct ZoneUpdate {
    /// The identifier of the zone.
    pub zone: Id,
    /// Computes the record sets after the update.
    pub compute: ComputeSets,
    /// Gets the number of record sets that have changed, when they are served.
    pub reply: oneshot::Sender<Result<usize, UpdateError>>,
}

/// Computes the record sets that an update changes in a zone.
pub type ComputeSets = Box<dyn Fn(&Zone) -> Result<Vec<EditedSet>, UpdateError> + Send>;

/// Why a dynamic update changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// A prerequisite or the form of the update leads to this RCODE, which is the whole answer (RFC
    /// 2136, section 3).
    Rcode(u16),
    /// The zone does not allow the change, for this reason.
    Refused(String),
    /// A record set is protected, with this reason for the client.
    Protected(String),
    /// The change cannot be written, for this reason.
    Failed(String),
}

/// A request to drop the dynamic updates of a zone.
pub struct JournalDrop {
    /// The identifier of the zone.
    pub zone: Id,
    /// Gets the number of record sets that were dropped, when the files are served; or why they are
    /// not.
    pub reply: oneshot::Sender<Result<usize, String>>,
}
