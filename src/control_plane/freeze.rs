//! What the control plane does while another process takes over: nothing. What was served is, and nothing is changed,
//! acknowledged or kept until it is decided which of the two goes on.

use super::{
    edits::{Edits, Journals, KeptSerials},
    keeper::Keeper,
    store,
};
use crate::snapshot::Node;
use anyhow::Context;
use std::{
    fs::File,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};
use tokio::sync::oneshot;

/// How often it is tried to go on with the state directory.
const TRIES: Duration = Duration::from_secs(1);

/// Which process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This one.
    GoOn,
    /// The other one. What waits here is not made, and nobody was told that it is.
    Leave,
}

/// Another process may take over.
pub struct Freeze {
    /// Told when all that was acknowledged is on the disk and nothing more will be.
    pub frozen: oneshot::Sender<Frozen>,
    /// Which process goes on: this one too where nobody is left to say so.
    pub decided: Receiver<Decision>,
}

/// What was acknowledged, for the other process.
pub enum Frozen {
    /// In the state directory, whose lock this is.
    Directory(File),
    /// In a file without a name.
    Memory(File),
}

impl Keeper {
    /// Changes nothing until it is decided who goes on.
    pub fn freeze(&mut self, freeze: Freeze) -> Decision {
        let frozen = match &mut self.store {
            Some(store) => store.rest().map(Frozen::Directory),
            None => store::in_memory(&self.kept).map(Frozen::Memory),
        };
        let frozen = match frozen {
            Ok(frozen) => frozen,
            Err(error) => {
                tracing::error!("no other process may take over, as what is served cannot be kept: {error}");
                return Decision::GoOn;
            }
        };
        if freeze.frozen.send(frozen).is_err() {
            return Decision::GoOn;
        }
        let decision = freeze.decided.recv().unwrap_or(Decision::GoOn);
        match decision {
            Decision::Leave => self.ask_clients_to_leave(),
            Decision::GoOn => {
                while let Err(error) = self.go_on() {
                    tracing::error!("the state directory is not ours yet, so that nothing changes: {error:#}");
                    std::thread::sleep(TRIES);
                }
            }
        }
        decision
    }

    /// Takes the state directory up again: the other process may have written to it, though it has told nobody.
    fn go_on(&mut self) -> anyhow::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        store.reopen()?;
        let directory = store.directory().to_path_buf();
        if self.serials.is_some() {
            self.serials = Some(KeptSerials::open(&directory)?.0);
        }
        if matches!(self.edits, Edits::Journals(_)) {
            self.edits = Edits::Journals(Journals::open(&directory)?.0);
        }
        self.keep(true).context("what is served cannot be kept")
    }

    /// Tells the clients of connections that are left to close them when they have their answers (RFC 7828, 3.4).
    pub fn ask_clients_to_leave(&self) {
        let previous = self.snapshot.load_full();
        let node = Arc::new(Node { tcp_keepalive: 0, ..(*previous.node).clone() });
        let mut last = previous.with_node(node);
        last.generation = previous.generation;
        self.snapshot.store(Arc::new(last));
    }
}
