//! What one client query may cause, and what one question to the recursor is about.
//!
//! ```text
//! Budget   one client query: everything that is asked and checked for it, over all links of a chain and all keys
//! Work     the part of it that is validation
//! Errand   one question to the recursor: whom it may ask, and what came of it
//! ```
//! hickory's recursor does not pass anything of ours on to its connections. So the errand is in a task-local variable while the
//! recursor is polled, and the connections find it there.

use super::validation::proven::{Reason, Unproven};
use hickory_server::proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

/// Queries to authoritative servers that one client query may cause.
const MAX_SENT: u32 = 64;
/// Links of a chain that one client query may lead to: as many as Unbound follows, and the first one.
const MAX_LINKS: u32 = 12;
/// Signatures that are checked for one client query. A chain of eight zones with a rollover in each takes 40.
const MAX_SIGNATURES: u32 = 64;
/// Signatures among them that may be wrong (CVE-2023-50387). Two keys with one tag are rare, and so are old signatures.
const MAX_BAD_SIGNATURES: u32 = 8;
/// NSEC3 hashes that are made for one client query (CVE-2023-50868). The reverse name of an IPv6 address has 34 labels.
const MAX_HASHES: u32 = 64;

tokio::task_local! {
    /// What the task asks the recursor for.
    pub static ERRAND: Arc<Errand>;
}

/// What one client query may still cause.
#[derive(Debug, Default)]
pub struct Budget {
    sent: AtomicU32,
    links: AtomicU32,
    /// Validation.
    pub work: Work,
}

/// What validation for one client query may still cost.
#[derive(Debug, Default)]
pub struct Work {
    signatures: AtomicU32,
    bad_signatures: AtomicU32,
    hashes: AtomicU32,
}

/// Takes one of so many; false if there is none left.
fn take(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1)).is_ok()
}

impl Budget {
    /// Takes a query to a server.
    pub fn take_query(&self) -> bool {
        take(&self.sent, MAX_SENT)
    }

    /// Takes a link of a chain.
    pub fn take_link(&self) -> bool {
        take(&self.links, MAX_LINKS)
    }

    /// Whether no query may be sent any more.
    pub fn is_used_up(&self) -> bool {
        self.sent.load(Relaxed) >= MAX_SENT
    }

    /// Queries that were sent.
    pub fn sent(&self) -> u32 {
        self.sent.load(Relaxed)
    }
}

impl Work {
    /// Takes a signature to be checked.
    ///
    /// # Errors
    /// There is none left.
    pub fn take_signature(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.signatures, MAX_SIGNATURES), "signatures")
    }

    /// Takes note of a signature that is wrong.
    ///
    /// # Errors
    /// There were too many.
    pub fn take_bad_signature(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.bad_signatures, MAX_BAD_SIGNATURES), "wrong signatures")
    }

    /// Takes a hash of a name.
    ///
    /// # Errors
    /// There is none left.
    pub fn take_hash(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.hashes, MAX_HASHES), "NSEC3 hashes")
    }

    /// Signatures that were checked.
    pub fn signatures(&self) -> u32 {
        self.signatures.load(Relaxed)
    }
}

fn or_too_much(is_taken: bool, of: &str) -> Result<(), Unproven> {
    let text = || format!("the name takes too many {of} to validate");
    is_taken.then_some(()).ok_or_else(|| Unproven::new(Reason::TooMuchWork, text()))
}

/// What a server said of a name.
#[derive(Clone, Debug)]
pub struct Said {
    /// The response, without what does not matter.
    pub message: Arc<Message>,
    /// Which server, if that is known.
    pub server: Option<IpAddr>,
}

/// One question to the recursor.
pub struct Errand {
    /// What the client query behind it may cause.
    pub budget: Arc<Budget>,
    /// The name in question.
    pub name: Name,
    /// The type in question.
    pub rtype: RecordType,
    /// Servers that have answered it, but not well.
    pub avoided: Vec<IpAddr>,
    /// It is the second attempt: servers that seem down are asked as well, and what seems lame is taken.
    pub is_second: bool,
    /// It is about the address of a name server that another errand needs.
    pub is_aside: bool,
    /// The names above the one in question that are known to be cuts, by their number of labels: a bit for each.
    pub cuts: u128,
    said: Mutex<Option<Said>>,
    cut: Mutex<Option<usize>>,
    /// A name above does not exist: there is nothing to look for in between (RFC 8020).
    is_denied: AtomicBool,
    has_begun: AtomicBool,
}

/// Names are asked for label by label so far down (RFC 9156, 2.3: MINIMISE_ONE_LAB).
const ONE_BY_ONE: usize = 4;
/// And in so many steps in all (RFC 9156, 2.3: MAX_MINIMISE_COUNT).
const MAX_STEPS: usize = 10;

impl Errand {
    /// A question to the recursor.
    pub fn new(name: &Name, rtype: RecordType, budget: &Arc<Budget>) -> Errand {
        Errand {
            budget: budget.clone(),
            name: name.clone(),
            rtype,
            avoided: Vec::new(),
            is_second: false,
            is_aside: false,
            cuts: 0,
            said: Mutex::default(),
            cut: Mutex::default(),
            is_denied: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
        }
    }

    /// The same, not to be asked of servers that have answered it already.
    pub fn avoiding(mut self, servers: &[IpAddr]) -> Errand {
        self.avoided = servers.to_vec();
        self
    }

    /// The same question, asked anew.
    pub fn again(&self) -> Errand {
        let mut again = Errand::new(&self.name, self.rtype, &self.budget).avoiding(&self.avoided);
        (again.is_second, again.is_aside, again.cuts) = (self.is_second, self.is_aside, self.cuts);
        again
    }

    /// Whether a query is the one in question, as against those on the way to it.
    pub fn is_about(&self, query: &Query) -> bool {
        query.query_type == self.rtype && query.name == self.name
    }

    /// Whether the recursor does not have to ask whether a cut is there: the name of the question itself is asked for with its
    /// type, deep names take few steps, and nothing is below a name that does not exist.
    pub fn skips(&self, labels: usize) -> bool {
        let all = self.name.iter().len();
        let is_known_cut = labels < 128 && self.cuts >> labels & 1 != 0;
        let is_last = labels == all && self.rtype != RecordType::DS;
        !is_known_cut && (is_last || self.is_denied.load(Relaxed) || !is_step(labels, all))
    }

    /// Takes note that a name above the one in question does not exist.
    pub fn deny(&self) {
        self.is_denied.store(true, Relaxed);
    }

    /// Takes note that a server is asked for the name in question.
    pub fn begin(&self) {
        self.has_begun.store(true, Relaxed);
    }

    /// Whether a server was asked for the name in question: if not, the recursor waited for another errand that did.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Takes what a server said of the name in question.
    pub fn put(&self, said: Said) {
        *lock(&self.said) = Some(said);
    }

    /// What a server said of the name in question.
    pub fn take(&self) -> Option<Said> {
        lock(&self.said).take()
    }

    /// Takes note of a cut that was not asked for.
    pub fn find_cut(&self, labels: usize) {
        *lock(&self.cut) = Some(labels);
    }

    /// The cut that was not asked for.
    pub fn cut(&self) -> Option<usize> {
        *lock(&self.cut)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether names of `all` labels are asked for with this number of labels on the way to them.
fn is_step(labels: usize, all: usize) -> bool {
    if labels <= ONE_BY_ONE || all <= MAX_STEPS {
        return true;
    }
    // The rest is spread over the steps that are left.
    let (rest, steps) = (all - ONE_BY_ONE, MAX_STEPS - ONE_BY_ONE);
    let step = |labels: usize| (labels - ONE_BY_ONE) * steps / rest;
    step(labels) != step(labels - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_names_are_asked_for_in_ten_steps_at_most() {
        for all in 1..=127 {
            let steps: Vec<usize> = (1..=all).filter(|labels| is_step(*labels, all)).collect();
            assert!(steps.len() <= MAX_STEPS, "{all}: {steps:?}");
            assert_eq!(steps.last(), Some(&all));
            assert!(steps.iter().take(ONE_BY_ONE).copied().eq(1..=all.min(ONE_BY_ONE)), "{all}: {steps:?}");
        }
    }

    #[test]
    fn one_client_query_has_one_budget() {
        let budget = Budget::default();
        assert_eq!((0..1000).filter(|_| budget.take_query()).count(), MAX_SENT as usize);
        assert_eq!((0..1000).filter(|_| budget.take_link()).count(), MAX_LINKS as usize);
        assert!(budget.is_used_up());
        let work = &budget.work;
        assert_eq!((0..1000).filter(|_| work.take_signature().is_ok()).count(), MAX_SIGNATURES as usize);
        assert_eq!((0..1000).filter(|_| work.take_bad_signature().is_ok()).count(), MAX_BAD_SIGNATURES as usize);
        assert_eq!((0..1000).filter(|_| work.take_hash().is_ok()).count(), MAX_HASHES as usize);
    }
}
