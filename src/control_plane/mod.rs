//! Where manifests come from, and the keeper, which makes of them what is served.

pub mod change;
pub mod counters;
mod decide;
pub mod directory;
pub mod edits;
pub mod etcd;
pub mod freeze;
pub mod guard;
pub mod internet;
pub mod keeper;
pub mod kept;
pub mod lines;
pub mod status;
pub mod store;

use crate::manifest::load::{Extent, Loader};
use change::{Change, JournalDrop, ZoneEdit, ZoneTransfer};
use directory::{Wake, Watch};
use freeze::{Decision, Freeze};
use internet::Internet;
use keeper::{Keeper, Loading};
use std::time::SystemTime;

/// What wakes the control plane's thread.
pub enum Message {
    /// Something happened in a watched directory.
    Event(notify::Result<notify::Event>),
    /// Load, whatever has changed.
    Reload,
    /// A source wants something changed.
    Change(Change),
    /// A zone was transferred, or has expired.
    Transferred(ZoneTransfer),
    /// A dynamic update wants a zone changed.
    Edit(ZoneEdit),
    /// What updates have made of a zone is to be dropped.
    DropJournal(JournalDrop),
    /// Another process may take over.
    Freeze(Freeze),
    /// The end.
    Stop,
}

/// Loads whenever something changes, and makes the changes that sources want, until it is told to stop.
pub fn run(mut watch: Watch, mut loader: Option<Loader>, mut internet: Internet, mut keeper: Keeper) {
    loop {
        let wake = watch.wait();
        let since = match &wake {
            Wake::Changes(changes) => changes.first().map(|change| change.since),
            _ => None,
        };
        let (since, generation) = (since.unwrap_or(watch.noticed), keeper.generation());
        match wake {
            Wake::Load { due, early } => {
                let started = SystemTime::now();
                let is_all = !matches!(due.extent, Extent::Files(_));
                if is_all {
                    keeper.follow(internet.read());
                }
                match &mut loader {
                    Some(loader) => {
                        watch.unsettled = keeper.load(loader, &due, early) == Loading::Early;
                        if is_all || !watch.follow_more(loader.last_read()) {
                            watch.follow(&loader.inputs(), started);
                        }
                        watch.retry = loader.was_out_of_resources();
                    }
                    None => watch.follow(&[], started),
                }
            }
            Wake::Changes(changes) => keeper.take(changes),
            Wake::Transferred(transfers) => keeper.transferred(transfers),
            Wake::Edit(edit) => keeper.edit(edit),
            Wake::DropJournal(drop) => {
                let started = SystemTime::now();
                keeper.drop_journal(drop, loader.as_mut());
                watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);
            }
            Wake::Freeze(freeze) => match keeper.freeze(freeze) {
                Decision::GoOn => {}
                Decision::Leave => return,
            },
            Wake::Stop => return keeper.ask_clients_to_leave(),
        }
        if keeper.generation() != generation {
            keeper.tell_delay(since.elapsed());
        }
    }
}
