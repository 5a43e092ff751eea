//! The control plane: sources of manifests, and the publisher, which compiles what they deliver and
//! serves it.
//!
//! ```text
//! directory ─┐
//! etcd ──────┤ Message -> Publisher: prepare, guard -> snapshot -> queries
//! HTTP ──────┤                                      -> state store, status, metrics
//! transfers ─┤
//! updates ───┘
//! ```
//! One thread runs the publisher ([`run`]). Sources send it [`Message`]s, and wait for a reply
//! where someone relies on it.

pub mod change;
pub mod counters;
mod current;
pub mod directory;
pub mod etcd;
pub mod etcd_writer;
pub mod freeze;
pub mod guard;
pub mod health_keys;
pub mod internet;
mod journal_file;
pub mod persisted;
mod prepare;
pub mod publisher;
pub mod state_store;
pub mod status;
pub mod updates;

pub use current::empty_snapshot;

use crate::manifest::load::{Extent, Loader};
use change::{Change, JournalDrop, ListsUpdate, ZoneTransfer, ZoneUpdate};
use directory::{Wake, Watch};
use freeze::{Decision, FreezeRequest};
use internet::Internet;
use publisher::{LoadResult, Publisher};
use std::time::SystemTime;

/// A message to the control plane's thread.
pub enum Message {
    /// Something has changed in a watched directory.
    Event(notify::Result<notify::Event>),
    /// Load the directory, whatever has changed.
    Reload,
    /// A source delivers a change.
    Change(Change),
    /// A zone was transferred, or has expired.
    Transfer(ZoneTransfer),
    /// A client sends a dynamic update.
    Update(ZoneUpdate),
    /// Drop the dynamic updates of a zone.
    DropJournal(JournalDrop),
    /// The names of DNS Firewall lists have changed.
    Lists(ListsUpdate),
    /// Another process asks to take over.
    Freeze(FreezeRequest),
    /// End the thread.
    Stop,
}

/// Runs the control plane until [`Message::Stop`], or until another process takes over.
pub fn run(mut watch: Watch, mut loader: Option<Loader>, mut internet: Internet, mut publisher: Publisher) {
    loop {
        let wake = watch.wait();
        let since = match &wake {
            Wake::Changes(changes) => changes.first().map(|change| change.since),
            _ => None,
        };
        let (since, generation) = (since.unwrap_or(watch.noticed), publisher.generation());
        match wake {
            Wake::Load { scope, is_early } => {
                let started = SystemTime::now();
                let is_all = !matches!(scope.extent, Extent::Files(_));
                if is_all {
                    publisher.set_internet_resolver(internet.read());
                }
                match &mut loader {
                    Some(loader) => {
                        watch.is_unsettled = publisher.load(loader, &scope, is_early) == LoadResult::Incomplete;
                        if is_all || !watch.follow_more(loader.last_read()) {
                            watch.follow(&loader.inputs(), started);
                        }
                        watch.retry = loader.was_out_of_resources();
                    }
                    None => watch.follow(&[], started),
                }
            }
            Wake::Changes(changes) => publisher.apply(changes),
            Wake::Transfers(transfers) => publisher.publish_transfers(transfers),
            Wake::Update(update) => publisher.update_zone(update),
            Wake::DropJournal(drop) => {
                let started = SystemTime::now();
                publisher.drop_journal(drop, loader.as_mut());
                watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);
            }
            Wake::Lists(update) => publisher.update_lists(update),
            Wake::Freeze(request) => match publisher.freeze(request) {
                Decision::GoOn => {}
                Decision::Leave => return,
            },
            Wake::Stop => return publisher.ask_clients_to_leave(),
        }
        if publisher.generation() != generation {
            publisher.observe_delay(since.elapsed());
        }
    }
}
