//! The connections that there are, whatever their transport: how many, of whom, and their end.

use super::{Core, Limits};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// The connections that there are.
pub struct Connections {
    /// How long one may be idle, a message may take to arrive, and a client may take to read.
    pub patience: Duration,
    most: usize,
    most_per_client: usize,
    open: Mutex<Open>,
    phase: watch::Sender<Phase>,
    /// Every connection holds a receiver: when all are gone, all have ended.
    alive: watch::Sender<()>,
}

/// How long connections may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// As long as they like.
    Open,
    /// As long as something comes by them: no new ones are taken.
    Left,
    /// Until what was read is answered.
    Stopped,
}

#[derive(Default)]
struct Open {
    all: usize,
    clients: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Connections within the limits of the configuration.
    pub fn new(limits: &Limits) -> Connections {
        Connections {
            patience: limits.tcp_idle_timeout,
            most: limits.tcp_connections,
            most_per_client: limits.tcp_connections_per_client,
            open: Mutex::default(),
            phase: watch::channel(Phase::Open).0,
            alive: watch::channel(()).0,
        }
    }

    /// Ends all connections: what was read is answered, nothing more is read.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.alive.closed().await;
    }

    /// Waits until all connections have ended: by their protocol's own word for it where there is one (GOAWAY), else as soon as
    /// nothing comes by them for a while.
    pub async fn leave(&self) {
        self.phase.send_replace(Phase::Left);
        self.alive.closed().await;
    }

    /// Takes up a connection, or says which limit forbids it.
    fn take(&self, client: IpAddr) -> Result<(), &'static str> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.most {
            return Err("limit");
        }
        let count = open.clients.entry(client).or_default();
        if *count >= self.most_per_client {
            return Err("client_limit");
        }
        *count += 1;
        open.all += 1;
        Ok(())
    }

    fn release(&self, client: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.clients.remove(&client);
            }
        }
    }
}

impl Core {
    /// Takes up a connection of a client, unless a limit forbids it.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        if let Err(limit) = self.connections.take(client) {
            self.arrived(limit);
            return None;
        }
        self.arrived("accepted");
        self.metrics.tcp_connections.inc();
        let (phase, alive) = (self.connections.phase.subscribe(), self.connections.alive.subscribe());
        Some(Place { core: self.clone(), client, phase, _alive: alive })
    }

    /// Counts what became of a connection on its arrival.
    pub fn arrived(&self, result: &str) {
        self.metrics.tcp_connections_total.with_label_values(&[result]).inc();
    }

    /// Counts a connection, or a stream of one, that is cut off.
    pub fn timed_out(&self, reason: &str) {
        self.metrics.tcp_timeouts.with_label_values(&[reason]).inc();
    }
}

/// A connection's place among those that are allowed.
pub struct Place {
    core: Arc<Core>,
    client: IpAddr,
    phase: watch::Receiver<Phase>,
    _alive: watch::Receiver<()>,
}

impl Place {
    /// Waits until the connection has to end.
    pub async fn stopped(&mut self) {
        // A sender that is gone says the same.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits for a later phase than this one.
    pub async fn later(&mut self, than: Phase) -> Phase {
        self.phase.wait_for(|phase| *phase > than).await.map_or(Phase::Stopped, |phase| *phase)
    }

    /// Waits until the connection has to end when its client can do without it, or at once.
    pub async fn left(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Left).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.connections.release(self.client);
        self.core.metrics.tcp_connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests::{core, limits};

    #[test]
    fn connections_are_capped() {
        let core = core(&limits());
        let mut places: Vec<_> = (0..12).map(|n| core.admit(IpAddr::from([10, 0, 0, n]))).collect();
        assert!(places[..10].iter().all(Option::is_some) && places[10..].iter().all(Option::is_none));
        places.clear();
        let mut places: Vec<_> = (0..6).map(|_| core.admit(IpAddr::from([10, 0, 0, 1]))).collect();
        assert!(places[..5].iter().all(Option::is_some) && places[5].is_none());
        assert_eq!(core.metrics.tcp_connections.get(), 5);
        places.clear();
        assert_eq!(core.metrics.tcp_connections.get(), 0);
        assert!(core.connections.open.lock().unwrap().clients.is_empty());
    }
}
