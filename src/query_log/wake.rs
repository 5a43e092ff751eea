//! Wakes the writer at the first entry after a pause. Without a pause, the writer looks for entries often, and a wake costs the
//! thread that answers one load from memory.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, Thread},
    time::Duration,
};

/// The writer's thread, and whether it is parked.
#[derive(Debug, Default)]
pub struct Wake {
    thread: OnceLock<Thread>,
    is_parked: AtomicBool,
}

impl Wake {
    /// Wakes the writer if it is parked. A call that comes while the writer parks may not wake it.
    #[inline]
    pub fn wake(&self) {
        if self.is_parked.load(Relaxed) {
            self.unpark();
        }
    }

    #[cold]
    fn unpark(&self) {
        if self.is_parked.swap(false, Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Parks this thread for at most `time`, unless `has_work` is true. Only the writer's thread may call this.
    pub fn park(&self, time: Duration, has_work: impl FnOnce() -> bool) {
        self.thread.get_or_init(thread::current);
        self.is_parked.store(true, Relaxed);
        if !has_work() {
            thread::park_timeout(time);
        }
        self.is_parked.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Instant};

    #[test]
    fn a_parked_thread_is_woken() {
        let wake = Arc::new(Wake::default());
        wake.wake();
        let parked = wake.clone();
        let start = Instant::now();
        let thread = thread::spawn(move || {
            parked.park(Duration::from_secs(60), || true);
            parked.park(Duration::from_secs(60), || false);
        });
        while !thread.is_finished() && start.elapsed() < Duration::from_secs(30) {
            wake.wake();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(thread.is_finished());
        thread.join().unwrap();
    }
}
