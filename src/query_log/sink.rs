//! Sinks: the destinations of logs. Each sink has a thread, and a queue of limited length.

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

/// The maximum number of batches in the queue of a sink.
const MAX_QUEUED_BATCHES: usize = 16;

/// Entries that are written together.
#[derive(Default)]
pub struct Batch {
    /// The octets to write.
    pub octets: Vec<u8>,
    /// The number of entries.
    pub entries: u64,
}

enum Task {
    Write(Batch),
    /// Look at `reopen`.
    Wake,
}

/// The destination of a sink.
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
    /// The output for a destination of the manifest. Files are below `directory`.
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

/// The counters of a sink.
#[derive(Clone)]
pub struct Counts {
    /// Written entries.
    pub written: IntCounter,
    /// Dropped entries.
    pub dropped: IntCounter,
    /// 1 while the output fails.
    pub failed: IntGauge,
}

/// A sink, as the writer sees it.
pub struct Sink {
    tasks: SyncSender<Task>,
    /// The buffers of written batches, for reuse.
    spare: Receiver<Vec<u8>>,
    /// Tells the thread to open its file again.
    reopen: Arc<AtomicBool>,
    counts: Counts,
}

impl Sink {
    /// Starts the thread of a sink. `name` is for log events. The thread drops `alive` when it ends.
    pub fn start(name: String, output: Output, counts: Counts, alive: Sender<()>) -> io::Result<Sink> {
        let (sink, worker) = Sink::new(name, output, counts);
        thread::Builder::new().name("query-log".into()).spawn(move || {
            worker.run();
            drop(alive);
        })?;
        Ok(sink)
    }

    fn new(name: String, output: Output, counts: Counts) -> (Sink, Worker) {
        let (tasks, todo) = sync_channel(MAX_QUEUED_BATCHES);
        let (give_back, spare) = channel();
        let reopen = Arc::new(AtomicBool::new(false));
        let worker = Worker { name, output, todo, give_back, reopen: reopen.clone(), counts: counts.clone() };
        (Sink { tasks, spare, reopen, counts }, worker)
    }

    /// Passes a batch to the thread, and empties it. Drops the batch if the queue is full.
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

    /// Makes the thread open its file again before the next write.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // A full queue wakes the thread as well.
        let _ = self.tasks.try_send(Task::Wake);
    }
}

/// The state of the thread of a sink.
struct Worker {
    name: String,
    output: Output,
    todo: Receiver<Task>,
    give_back: Sender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    counts: Counts,
}

impl Worker {
    /// Writes batches until the sink is dropped.
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

    /// A slow disk must not make zonal write to a file that was renamed meanwhile.
    #[test]
    fn reopens_the_file_although_the_queue_is_full() {
        let directory = std::env::temp_dir().join(format!("zonal-sink-{}", std::process::id()));
        let (path, aside) = (directory.join("log"), directory.join("aside"));
        let counter = |name: &str| IntCounter::new(name, name).unwrap();
        let counts = Counts { written: counter("w"), dropped: counter("d"), failed: IntGauge::new("f", "f").unwrap() };
        let output = Output::File(File::new(path.clone(), 1000, 1));
        let (sink, mut worker) = Sink::new("a log".into(), output, counts.clone());
        worker.output.write(b"before\n").unwrap();
        for _ in 0..MAX_QUEUED_BATCHES + 1 {
            sink.write(&mut Batch { octets: b"after\n".to_vec(), entries: 1 });
        }
        assert_eq!(counts.dropped.get(), 1, "the queue is full");
        fs::rename(&path, &aside).unwrap();
        sink.reopen();
        drop(sink);
        worker.run();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n".repeat(MAX_QUEUED_BATCHES));
        fs::remove_dir_all(directory).unwrap();
    }
}
