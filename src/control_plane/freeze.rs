//! The hand-over to another process: until it is decided which of the two continues, the publisher
//! changes, acknowledges and writes nothing. The node continues to serve its present generation.

use std::{fs::File, sync::mpsc::Receiver, time::Duration};
use tokio::sync::oneshot;

/// The interval between two attempts to take the state directory back.
pub(super) const RESUME_INTERVAL: Duration = Duration::from_secs(1);

/// The process that continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This one.
    GoOn,
    /// The other one. Changes that wait here are not made, and their senders have no reply.
    Leave,
}

/// A request of another process to take over.
pub struct FreezeRequest {
    /// Gets the acknowledged state, when all of it is on the disk.
    pub frozen: oneshot::Sender<Frozen>,
    /// Gives the decision. Without a sender, this process continues.
    pub decision: Receiver<Decision>,
}

/// The acknowledged state, for the other process.
pub enum Frozen {
    /// The state is in the state directory, whose lock this is.
    Directory(File),
    /// The state is in a file without a name.
    Memory(File),
}
