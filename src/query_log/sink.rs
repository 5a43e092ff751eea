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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
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
    /// What is wanted otherwise is to be looked at.
    Wake,
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
    /// A file is to be opened anew.
    reopen: Arc<AtomicBool>,
    counts: Counts,
}

impl Sink {
    /// Starts the thread of a sink; `name` is for messages. The thread lets go of `alive` when it ends.
    pub fn start(name: String, output: Output, counts: Counts, alive: Sender<()>) -> io::Result<Sink> {
        let (sink, worker) = Sink::new(name, output, counts);
        thread::Builder::new().name("query-log".into()).spawn(move || {
            worker.run();
            drop(alive);
        })?;
        Ok(sink)
    }

    fn new(name: String, output: Output, counts: Counts) -> (Sink, Worker) {
        let (tasks, todo) = sync_channel(QUEUE);
        let (give_back, spare) = channel();
        let reopen = Arc::new(AtomicBool::new(false));
        let worker = Worker { name, output, todo, give_back, reopen: reopen.clone(), counts: counts.clone() };
        (Sink { tasks, spare, reopen, counts }, worker)
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

    /// Has a file opened anew before anything more is written.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // Where the queue is full, what is in it wakes the thread.
        let _ = self.tasks.try_send(Task::Wake);
    }
}

/// What the thread of a sink has.
struct Worker {
    name: String,
    output: Output,
    todo: Receiver<Task>,
    give_back: Sender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    counts: Counts,
}

impl Worker {
    /// Writes what comes, until the sink is gone.
    fn run(mut self) {
        self.counts.failed.set(0);
        for task in self.todo {
            if self.reopen.swap(false, Relaxed)
                && let Output::File(file) = &mut self.output
            {
                file.reopen();
            }
            if let Task::Write(batch) = task {
                write(&self.name, &mut self.output, &batch, &self.counts);
                // The writer may have ended.
                let _ = self.give_back.send(batch.octets);
            }
        }
    }
}

fn write(name: &str, output: &mut Output, batch: &Batch, counts: &Counts) {
    match output.write(&batch.octets) {
        Ok(()) => {
            counts.written.inc_by(batch.entries);
            if counts.failed.get() != 0 {
                tracing::info!(log = name, "query log output works again");
            }
            counts.failed.set(0);
        }
        Err(error) => {
            counts.dropped.inc_by(batch.entries);
            if counts.failed.get() == 0 {
                tracing::warn!(log = name, %error, "query log output failed");
            }
            counts.failed.set(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A disk that has been slow does not make us write to what was put aside.
    #[test]
    fn a_file_is_opened_anew_behind_a_full_queue() {
        let directory = std::env::temp_dir().join(format!("zonal-sink-{}", std::process::id()));
        let (path, aside) = (directory.join("log"), directory.join("aside"));
        let counter = |name: &str| IntCounter::new(name, name).unwrap();
        let counts = Counts { written: counter("w"), dropped: counter("d"), failed: IntGauge::new("f", "f").unwrap() };
        let output = Output::File(File::new(path.clone(), 1000, 1));
        let (sink, mut worker) = Sink::new("a log".into(), output, counts.clone());
        worker.output.write(b"before\n").unwrap();
        for _ in 0..QUEUE + 1 {
            sink.write(&mut Batch { octets: b"after\n".to_vec(), entries: 1 });
        }
        assert_eq!(counts.dropped.get(), 1, "the queue is full");
        fs::rename(&path, &aside).unwrap();
        sink.reopen();
        drop(sink);
        worker.run();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n".repeat(QUEUE));
        fs::remove_dir_all(directory).unwrap();
    }
}
