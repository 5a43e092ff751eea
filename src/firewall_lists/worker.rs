//! The thread that reads and compiles lists.
//!
//! Only this thread allocates and frees the parts of the table. So the memory of old parts is used again for new ones, and an
//! update does not need twice the memory.

use super::{
    FirewallLists,
    load::{ListsChange, Publish},
};
use crate::control_plane::{Message, change::ListsUpdate};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;

/// What the thread does next.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Starts the thread. It ends with the last sender.
pub(super) fn start() -> io::Result<Sender<Job>> {
    let (sender, jobs): (Sender<Job>, Receiver<Job>) = channel();
    std::thread::Builder::new().name("firewall-lists".into()).spawn(move || {
        // Only this thread has the policy SCHED_IDLE. A thread that has to answer a query gets the processor at once. With
        // a nice value, that thread would wait for the end of the time slice.
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        jobs.into_iter().for_each(|job| job());
    })?;
    Ok(sender)
}

impl FirewallLists {
    /// Publishes changes by the control plane's thread.
    fn publish<'p>(&'p self, messages: &'p Sender<Message>) -> impl FnMut(&mut ListsChange) -> Result<(), String> + 'p {
        move |change| {
            loop {
                let base = self.snapshot.load().firewall_lists.clone();
                let lists = Arc::new(change(&base)?);
                let (reply, replied) = sync_channel(1);
                let ends = |_| "the server ends".to_string();
                let update = ListsUpdate { base: base.clone(), lists, reply };
                messages.send(Message::Lists(update)).map_err(|_| ends(()))?;
                // Another change can come first. The next attempt is based on it. The old parts are freed here, with `base`.
                if replied.recv().map_err(|_| ends(()))? {
                    return Ok(());
                }
            }
        }
    }

    /// Does something on the thread, and passes the result to `done`.
    fn start_job<R>(
        self: &Arc<Self>,
        messages: &Sender<Message>,
        work: impl FnOnce(&FirewallLists, &mut Publish) -> R + Send + 'static,
        done: impl FnOnce(R) + Send + 'static,
    ) {
        let (lists, messages) = (self.clone(), messages.clone());
        let job = move || done(work(&lists, &mut lists.publish(&messages)));
        // Without the thread, `done` is dropped, and its receiver learns that.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Does something on the thread. None if the thread has failed.
    pub(super) async fn on_worker<R: Send + 'static>(
        self: &Arc<Self>,
        messages: &Sender<Message>,
        work: impl FnOnce(&FirewallLists, &mut Publish) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, replied) = oneshot::channel();
        self.start_job(messages, work, |result| drop(reply.send(result)));
        replied.await.ok()
    }

    /// Does something on the thread, and waits for the result. None if the thread has failed.
    pub(super) fn wait_for_worker<R: Send + 'static>(
        self: &Arc<Self>,
        messages: &Sender<Message>,
        work: impl FnOnce(&FirewallLists, &mut Publish) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, replied) = sync_channel(1);
        self.start_job(messages, work, move |result| drop(reply.send(result)));
        replied.recv().ok()
    }

    /// Does something on the thread, and passes what it publishes to `take` meanwhile.
    pub(super) fn run_on_worker(
        self: &Arc<Self>,
        work: impl FnOnce(&FirewallLists, &mut Publish) + Send + 'static,
        mut take: impl FnMut(ListsUpdate),
    ) {
        let (messages, updates) = channel();
        self.start_job(&messages, work, drop);
        // The channel ends with the work.
        drop(messages);
        for message in updates {
            if let Message::Lists(update) = message {
                take(update);
            }
        }
    }
}
