//! Where logs go: each sink has a thread of its own, and a queue before it that has an end.

use super::{
    file::File,
    stream::{Http, Peer, Stream},
};
use crate::manifest::LogDestination;
use prometheus::{IntCounter, IntGauge};
use std::{
    io::{self, Write},
    path::Path,
    sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    thread,
};

/// How many batches may wait.
const QUEUE: usize = 16;

/// Entries that go together.
#[derive(Default)]
pub struct Batch {
    /// As they are written.
    pub octets: Vec<u8>,
    /// How many.
    pub entries: u64,
}

enum Task {
    Write(Batch),
    Reopen,
}

/// What a sink writes to.
pub enum Output {
    /// A file.
    File(File),
    /// Standard output.
    Stdout,
    /// A socket.
    Stream(Stream),
    /// An HTTP server.
    Http(Http),
}

impl Output {
    /// What a log is written to that goes there; files are below `directory`.
    pub fn new(destination: &LogDestination, directory: &Path) -> io::Result<Output> {
        Ok(match destination {
            LogDestination { file: Some(file), .. } => {
                Output::File(File::new(directory.join(&file.path), file.max_octets, file.keep))
            }
            LogDestination { unix: Some(path), .. } => Output::Stream(Stream::new(Peer::Unix(path.into()), false)),
            LogDestination { tcp: Some(address), .. } => Output::Stream(Stream::new(Peer::Tcp(address.clone()), false)),
            LogDestination { http: Some(url), .. } => Output::Http(Http::new(url)?),
            _ => Output::Stdout,
        })
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Output::File(file) => file.write(octets),
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(octets)?;
                stdout.flush()
            }
            Output::Stream(stream) => stream.write(octets),
            Output::Http(http) => http.write(octets),
        }
    }
}

/// What a sink counts in.
#[derive(Clone)]
pub struct Counts {
    /// Entries that are where they belong.
    pub written: IntCounter,
    /// Entries that are lost.
    pub dropped: IntCounter,
    /// 1 while the sink does not take any.
    pub failed: IntGauge,
}

/// A sink, as the writer has it.
pub struct Sink {
    tasks: SyncSender<Task>,
    /// Batches that were written, for their room.
    spare: Receiver<Vec<u8>>,
    counts: Counts,
}

impl Sink {
    /// Starts the thread of a sink; `name` is for messages. The thread lets go of `alive` when it ends.
    pub fn start(name: String, mut output: Output, counts: Counts, alive: Sender<()>) -> io::Result<Sink> {
        let (tasks, todo) = sync_channel(QUEUE);
        let (give_back, spare) = channel();
        let sink = Sink { tasks, spare, counts: counts.clone() };
        thread::Builder::new().name("query-log".into()).spawn(move || {
            counts.failed.set(0);
            for task in todo {
                match task {
                    Task::Write(batch) => {
                        write(&name, &mut output, &batch, &counts);
                        // The writer may have ended.
                        let _ = give_back.send(batch.octets);
                    }
                    Task::Reopen => {
                        if let Output::File(file) = &mut output {
                            file.reopen();
                        }
                    }
                }
            }
            drop(output);
            drop(alive);
        })?;
        Ok(sink)
    }

    /// Hands over a batch, or drops it where too many wait, and makes it empty.
    pub fn write(&self, batch: &mut Batch) {
        let octets = self.spare.try_recv().map(|mut octets| {
            octets.clear();
            octets
        });
        let full = std::mem::replace(batch, Batch { octets: octets.unwrap_or_default(), entries: 0 });
        if let Err(TrySendError::Full(Task::Write(full)) | TrySendError::Disconnected(Task::Write(full))) =
            self.tasks.try_send(Task::Write(full))
        {
            self.counts.dropped.inc_by(full.entries);
        }
    }

    /// Has a file opened anew, unless too much waits: then it is known to be stuck.
    pub fn reopen(&self) {
        let _ = self.tasks.try_send(Task::Reopen);
    }
}

fn write(name: &str, output: &mut Output, batch: &Batch, counts: &Counts) {
    match output.write(&batch.octets) {
        Ok(()) => {
            counts.written.inc_by(batch.entries);
            if counts.failed.get() != 0 {
                tracing::info!("{name} is written again");
            }
            counts.failed.set(0);
        }
        Err(error) => {
            counts.dropped.inc_by(batch.entries);
            if counts.failed.get() == 0 {
                tracing::warn!("{name} cannot be written ({error}): its entries are dropped until it can");
            }
            counts.failed.set(1);
        }
    }
}
