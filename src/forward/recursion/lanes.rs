//! Threads for recursion, with a bound on concurrent jobs and a queue for each client.
//!
//! Recursion has its own threads, so that expensive jobs do not delay the rest of zonal.

use anyhow::Context;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinHandle,
};

/// Number of threads.
const THREADS: usize = 2;
/// Stack size of each thread, in octets. A lookup of name servers in other zones recurses deeply.
const STACK_OCTETS: usize = 8 << 20;
/// Maximum number of jobs that run at the same time. Further jobs wait.
const MAX_AT_ONCE: usize = 512;
/// Maximum number of jobs that run at the same time for one client. Further jobs of the client
/// wait.
const MAX_OF_CLIENT: usize = 64;
/// Number of clients beyond which clients without jobs are removed from the table.
const MAX_CLIENTS: usize = 1024;

/// Threads, and the semaphores that limit the jobs.
pub struct Lanes {
    /// `None` while `Lanes` is being dropped.
    runtime: Option<Runtime>,
    all: Arc<Semaphore>,
    clients: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Lanes {
    /// Starts the threads.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn new() -> anyhow::Result<Lanes> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("recursion")
            .thread_stack_size(STACK_OCTETS)
            .enable_all()
            .build();
        Ok(Lanes {
            runtime: Some(runtime.context("the threads of recursion cannot be started")?),
            all: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            clients: Mutex::default(),
        })
    }

    fn client(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = clients.get(&client).and_then(Weak::upgrade) {
            return lane;
        }
        if clients.len() >= MAX_CLIENTS {
            clients.retain(|_, lane| lane.strong_count() > 0);
        }
        let lane = Arc::new(Semaphore::new(MAX_OF_CLIENT));
        clients.insert(client, Arc::downgrade(&lane));
        lane
    }

    /// Runs a task beside the jobs, until the threads end.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Runs a job for a client when the client and the threads have a free slot.
    ///
    /// Dropping the future aborts the job. Returns `None` if the job panics.
    pub async fn run<T: Send + 'static>(
        &self,
        client: IpAddr,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (lane, all) = (self.client(client), self.all.clone());
        let turn = async move {
            // A job waits in its client's queue first, so that one client fills few places in the
            // common queue.
            let _of_client = lane.acquire_owned().await.ok()?;
            let _of_all = all.acquire_owned().await.ok()?;
            Some(job.await)
        };
        Task(self.runtime.as_ref()?.spawn(turn)).wait().await
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // `Lanes` may be dropped on a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A task that is aborted when its handle is dropped.
struct Task<T>(JoinHandle<Option<T>>);

impl<T> Task<T> {
    async fn wait(mut self) -> Option<T> {
        (&mut self.0).await.ok().flatten()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    fn client(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[tokio::test]
    async fn a_client_with_many_names_has_others_wait_no_longer() {
        let lanes = Arc::new(Lanes::new().unwrap());
        let running = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..10 * MAX_OF_CLIENT)
            .map(|_| {
                let (lanes, running) = (lanes.clone(), running.clone());
                tokio::spawn(async move {
                    let job = async move {
                        running.fetch_add(1, SeqCst);
                        std::future::pending::<()>().await
                    };
                    lanes.run(client(1), job).await
                })
            })
            .collect();
        while running.load(SeqCst) < MAX_OF_CLIENT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(lanes.run(client(2), async { 7 }).await, Some(7));
        assert_eq!(running.load(SeqCst), MAX_OF_CLIENT);
        // A job ends when its caller is dropped.
        jobs.iter().for_each(JoinHandle::abort);
        assert_eq!(lanes.run(client(1), async { 8 }).await, Some(8));
    }

    #[tokio::test]
    async fn clients_that_wait_for_nothing_are_forgotten() {
        let lanes = Lanes::new().unwrap();
        for n in 0..3 * MAX_CLIENTS as u32 {
            lanes.run(std::net::Ipv4Addr::from(n).into(), async {}).await;
        }
        assert!(lanes.clients.lock().unwrap().len() <= MAX_CLIENTS);
    }
}
