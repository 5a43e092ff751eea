//! What sources ask of the keeper, and what it says to that.

use super::guard::Deletions;
use crate::difference::Answers;
use crate::{
    manifest::{
        Id, Problem, ResourceChange,
        collection::{Collection, Edit},
        overlay::EditedSet,
        transferred::ZoneCopy,
    },
    snapshot::zone::Zone,
};
use serde::{Deserialize, Serialize};
use std::{fmt, io, time::Instant};
use tokio::sync::oneshot;

/// How far a source has come: kept with what it has delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The source's revision: that of etcd's store, or how often something was pushed. Comparable between nodes.
    pub revision: u64,
    /// The generation of the last push of a whole manifest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub whole: u64,
    /// Which store the revision is one of: etcd's cluster ID.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub store: u64,
    /// What tells the store's history from another one that has come as far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// A key of a store as it was when it was last changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The key.
    pub key: String,
    /// The revision that it was changed at.
    pub revision: u64,
    /// Over all that it had then.
    pub checksum: u32,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change, made ready for the collection that it is to be made in.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What becomes of resources.
    pub edits: Vec<Edit>,
    /// How far the source has come with it.
    pub position: Position,
    /// What is known of the deletions in it, if the guard is to judge them.
    pub deletions: Option<Deletions>,
    /// With it the source has told all that there is.
    pub is_whole: bool,
}

/// Makes a change ready when its turn has come; or says why it cannot be made.
pub type Prepare = Box<dyn Fn(&Collection, &Position) -> Result<Ready, Refusal> + Send>;

/// A change that a source wants: all of it, or nothing.
pub struct Change {
    /// What is to be done.
    pub prepare: Prepare,
    /// It is so, whether it can be served or not: what comes after it builds on it even if it is refused.
    pub is_fact: bool,
    /// It is only tried, and what would come of it is told.
    pub dry_run: bool,
    /// When it was known.
    pub since: Instant,
    /// Who wants to know what came of it. Then it is kept on disk before it is served.
    pub reply: Option<oneshot::Sender<Result<Accepted, Refusal>>>,
}

impl Change {
    /// A fact that is what it is whatever it meets, and whose source asks for no answer.
    pub fn plain(edits: Vec<Edit>, position: Position) -> Change {
        Change::fact(Ready { edits, position, deletions: None, is_whole: true })
    }

    /// The same, with what is known of the deletions in it: the guard judges them.
    pub fn guarded(edits: Vec<Edit>, position: Position, deletions: Deletions) -> Change {
        Change::fact(Ready { edits, position, deletions: Some(deletions), is_whole: true })
    }

    fn fact(ready: Ready) -> Change {
        let prepare = move |_: &Collection, _: &Position| Ok(ready.clone());
        Change { prepare: Box::new(prepare), is_fact: true, dry_run: false, since: Instant::now(), reply: None }
    }
}

/// A change that was made.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The generation that it is served in; of a dry run, the present one.
    pub generation: u64,
    /// How far the source has come.
    pub position: Position,
    /// What has changed in what is served.
    pub differences: Vec<ResourceChange>,
    /// The answers that would change; of a dry run only.
    pub answers: Option<Answers>,
    /// Warnings, and why resources are set aside.
    pub problems: Vec<Problem>,
}

/// What has become of a zone that is transferred.
pub struct ZoneTransfer {
    /// Its identifier.
    pub zone: Id,
    /// Its records.
    pub held: ZoneCopy,
    /// Who wants to know whether they are served: the errors in them otherwise.
    pub reply: oneshot::Sender<Result<(), Vec<Problem>>>,
}

/// What a dynamic update changes in a zone.
pub struct ZoneEdit {
    /// The zone's identifier.
    pub zone: Id,
    /// The sets that it makes of the zone; or why it makes none.
    pub make: MakeSets,
    /// Who wants to know how many they are, when they are served.
    pub reply: oneshot::Sender<Result<usize, Rejected>>,
}

/// Why a dynamic update changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// A prerequisite or the form of the update decides: this RCODE is the whole answer (RFC 2136, section 3).
    Rcode(u16),
    /// The zone does not allow the change, for this reason.
    Refused(String),
    /// The change could not be written, for this reason.
    Failed(String),
}

/// What dynamic updates have made of a zone is to be dropped.
pub struct JournalDrop {
    /// The zone's identifier.
    pub zone: Id,
    /// Who wants to know how many record sets it were, when the files' are served; or why it cannot be done.
    pub reply: oneshot::Sender<Result<usize, String>>,
}

/// Makes sets of a zone as it is.
pub type MakeSets = Box<dyn Fn(&Zone) -> Result<Vec<EditedSet>, Rejected> + Send>;

/// Why a change was not made.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// There are errors in it.
    Problems(Vec<Problem>),
    /// It is not what its sender thought it would change: `If-Match`.
    Precondition(String),
    /// It is older than what there is, or other than what has the same generation.
    Conflict(String),
    /// There is nothing by that name.
    NotFound(String),
    /// It cannot be read.
    Malformed(String),
    /// It could not be kept on disk.
    NotKept(String),
}

impl Refusal {
    /// What could not be kept.
    pub fn not_kept(error: &io::Error) -> Refusal {
        Refusal::NotKept(format!("the change cannot be kept in the state directory, and is not served: {error}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Problems(problems) => {
                let errors = problems.iter().filter(|problem| problem.is_error());
                match (errors.clone().next(), errors.count()) {
                    (Some(first), 1) => write!(f, "{first}"),
                    (Some(first), count) => write!(f, "{first} (the first of {count} errors)"),
                    (None, _) => f.write_str("it has errors"),
                }
            }
            Refusal::Precondition(text)
            | Refusal::Conflict(text)
            | Refusal::NotFound(text)
            | Refusal::Malformed(text)
            | Refusal::NotKept(text) => f.write_str(text),
        }
    }
}
