//! The log of the process, on standard error. No thread waits for the reader: one thread writes the lines. When the reader is too
//! slow, lines are dropped and counted, and an event reports them later.

use crate::config::LogFormat;
use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    mem::take,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// The maximum size of the queue, in octets.
const MAX_OCTETS: usize = 1 << 20;
/// The maximum time that the end of the process waits until all lines are written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static QUEUE: Queue = Queue::new();

/// Starts the log, as text or as JSON. `RUST_LOG` sets the lowest level; the default is `info`. The error is about the thread.
pub fn start(format: LogFormat) -> io::Result<()> {
    thread::Builder::new().name("log".into()).spawn(|| {
        let report = |lost| tracing::warn!(lines = lost, "log lines lost");
        QUEUE.write_to(&mut io::stderr(), report);
    })?;
    let level = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".into());
    // hickory warns about every name that does not exist.
    let quiet = if level.contains("hickory") { "" } else { ",hickory_resolver=off,hickory_net=off,hickory_proto=off" };
    let filter = EnvFilter::try_new(level + quiet).unwrap_or_else(|_| EnvFilter::new("info".to_string() + quiet));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Line);
    let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
    match format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Writes a text between the lines.
pub fn write(text: &str) {
    QUEUE.push(text.as_bytes());
}

/// The number of dropped lines.
pub fn lost() -> u64 {
    QUEUE.lost.load(Relaxed)
}

/// Waits until all lines are written, for at most [`FLUSH_TIMEOUT`]. False if some are not.
pub fn flush() -> bool {
    QUEUE.flush(FLUSH_TIMEOUT)
}

/// The writer of one line.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: AtomicU64,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    octets: usize,
    is_writing: bool,
}

impl Queue {
    const fn new() -> Queue {
        let waiting = Waiting { lines: VecDeque::new(), octets: 0, is_writing: false };
        Queue { waiting: Mutex::new(waiting), changed: Condvar::new(), lost: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.octets + line.len() > MAX_OCTETS {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        waiting.octets += line.len();
        waiting.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    /// Writes lines. Never ends. Calls `report` with the number of dropped lines when a write succeeds again.
    fn write_to(&self, out: &mut impl Write, report: impl Fn(u64)) {
        let mut reported = 0;
        loop {
            let mut waiting = self.lock();
            waiting.is_writing = false;
            self.changed.notify_all();
            let mut waiting = self
                .changed
                .wait_while(waiting, |waiting| waiting.lines.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let lines = take(&mut waiting.lines);
            waiting.is_writing = true;
            drop(waiting);
            for line in lines {
                let written = out.write_all(&line);
                self.lock().octets -= line.len();
                if written.is_err() {
                    self.lost.fetch_add(1, Relaxed);
                    continue;
                }
                let lost = self.lost.load(Relaxed);
                if lost > reported {
                    report(lost - reported);
                    reported = lost;
                }
            }
        }
    }

    fn flush(&self, time_out: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let result = self.changed.wait_timeout_while(self.lock(), time_out, is_busy);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A writer that takes a line for each permit.
    struct Slow {
        permits: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            match self.permits.recv() {
                Ok(result) => result?,
                // The test has ended.
                Err(_) => loop {
                    thread::park();
                },
            }
            self.written.send(octets.to_vec()).unwrap();
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn drops_lines_instead_of_waiting_for_the_reader() {
        static QUEUE: Queue = Queue::new();
        let ((permit, permits), (report, reports)) = (channel(), channel());
        let (sender, written) = channel();
        thread::spawn(move || {
            let report = |lost| {
                QUEUE.push(b"some are lost");
                report.send(lost).unwrap();
            };
            QUEUE.write_to(&mut Slow { permits, written: sender }, report);
        });
        let line = [b'x'; 1000];
        let fit = MAX_OCTETS / line.len();
        for _ in 0..fit + 7 {
            QUEUE.push(&line);
        }
        assert_eq!(QUEUE.lost.load(Relaxed), 7);
        assert!(!QUEUE.flush(Duration::ZERO));
        // A line whose write fails is lost as well.
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        for _ in 0..fit {
            permit.send(Ok(())).unwrap();
        }
        assert!(QUEUE.flush(Duration::from_secs(60)));
        let written: Vec<_> = written.try_iter().collect();
        assert_eq!(written.len(), fit);
        assert_eq!(written.last().unwrap(), b"some are lost");
        assert_eq!(reports.try_iter().collect::<Vec<u64>>(), [8]);
        assert_eq!(QUEUE.lost.load(Relaxed), 8);
    }
}
