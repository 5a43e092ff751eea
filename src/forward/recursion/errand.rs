//! The budget of a client query, and the state of one question to the recursor.
//!
//! ```text
//! Budget   one client query: all its queries and checks, over all links of a chain and all keys;
//!          and its steps, if they are explained
//! Work     the part of the budget for validation
//! Errand   one question to the recursor: servers to avoid, and the response
//! ```
//! hickory's recursor passes no caller data to its connections. So the errand is in a task-local
//! variable while the recursor is polled, and the connections read it there.

use super::{
    steps::Steps,
    validation::proven::{Reason, Unproven},
};
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

/// Maximum number of queries to authoritative servers for one client query. Beyond it, the client
/// query fails.
const MAX_SENT: u32 = 64;
/// Maximum number of links of a chain that one client query follows: the number that Unbound
/// follows, plus the first. Beyond it, the client query fails.
const MAX_LINKS: u32 = 12;
/// Maximum number of signatures checked for one client query. Beyond it, the answer is bogus. A
/// chain of eight zones with a rollover in each takes 40.
const MAX_SIGNATURES: u32 = 64;
/// Maximum number of wrong signatures among them (CVE-2023-50387). Beyond it, the answer is bogus.
/// Two keys with the same tag are rare, and so are signatures by old keys.
const MAX_BAD_SIGNATURES: u32 = 8;
/// Maximum number of NSEC3 hashes computed for one client query (CVE-2023-50868). Beyond it, the
/// answer is bogus. The reverse name of an IPv6 address has 34 labels.
const MAX_HASHES: u32 = 64;

tokio::task_local! {
    /// The errand for which the task polls the recursor.
    pub static ERRAND: Arc<Errand>;
}

/// Counts the queries and links of one client query, and holds its validation budget.
#[derive(Debug, Default)]
pub struct Budget {
    sent: AtomicU32,
    links: AtomicU32,
    /// Budget for validation.
    pub work: Work,
    /// The steps of the client query.
    pub steps: Steps,
}

/// Counts the validation work of one client query.
#[derive(Debug, Default)]
pub struct Work {
    signatures: AtomicU32,
    bad_signatures: AtomicU32,
    hashes: AtomicU32,
}

/// Takes one unit; returns false if `most` units are already taken.
fn take(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1)).is_ok()
}

impl Budget {
    /// Creates a budget whose steps are recorded.
    pub fn explained() -> Budget {
        Budget { steps: Steps::recorded(), ..Budget::default() }
    }

    /// Takes one query to a server; returns false if none is left.
    pub fn take_query(&self) -> bool {
        take(&self.sent, MAX_SENT)
    }

    /// Takes one link of a chain; returns false if none is left.
    pub fn take_link(&self) -> bool {
        take(&self.links, MAX_LINKS)
    }

    /// Whether no query is left.
    pub fn is_used_up(&self) -> bool {
        self.sent.load(Relaxed) >= MAX_SENT
    }

    /// Number of queries sent.
    pub fn sent(&self) -> u32 {
        self.sent.load(Relaxed)
    }
}

impl Work {
    /// Takes one signature check.
    ///
    /// # Errors
    /// No signature check is left.
    pub fn take_signature(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.signatures, MAX_SIGNATURES), "signatures")
    }

    /// Counts one wrong signature.
    ///
    /// # Errors
    /// Too many signatures were wrong.
    pub fn take_bad_signature(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.bad_signatures, MAX_BAD_SIGNATURES), "wrong signatures")
    }

    /// Takes one NSEC3 hash.
    ///
    /// # Errors
    /// No hash is left.
    pub fn take_hash(&self) -> Result<(), Unproven> {
        or_too_much(take(&self.hashes, MAX_HASHES), "NSEC3 hashes")
    }

    /// Number of signatures checked.
    pub fn signatures(&self) -> u32 {
        self.signatures.load(Relaxed)
    }
}

fn or_too_much(is_taken: bool, of: &str) -> Result<(), Unproven> {
    let text = || format!("the name takes too many {of} to validate");
    is_taken.then_some(()).ok_or_else(|| Unproven::new(Reason::TooMuchWork, text()))
}

/// A filtered response of an authoritative server.
#[derive(Clone, Debug)]
pub struct Said {
    /// The response, without records that cannot matter.
    pub message: Arc<Message>,
    /// Address of the server, if known.
    pub server: Option<IpAddr>,
}

/// One question to the recursor.
pub struct Errand {
    /// Budget of the client query that caused the question.
    pub budget: Arc<Budget>,
    /// Name in question.
    pub name: Name,
    /// Type in question.
    pub rtype: RecordType,
    /// Servers whose answer to the question was not usable.
    pub avoided: Vec<IpAddr>,
    /// Whether this is the second attempt. It also asks servers that seem down.
    pub is_second: bool,
    /// Zones whose servers have no known address until this errand finds one. Empty for the question
    /// of a client. Each zone depends on the next.
    pub waiting: Vec<Name>,
    /// Known zone cuts at or above the name: bit n stands for the ancestor with n labels.
    pub cuts: u128,
    said: Mutex<Option<Said>>,
    /// A response of a server that may not have the zone.
    doubtful: Mutex<Option<Said>>,
    cut: Mutex<Option<usize>>,
    /// The response that an ancestor of the name does not exist, so that no name and no zone cut is
    /// below it (RFC 8020).
    denial: Mutex<Option<Said>>,
    is_denied: AtomicBool,
    has_begun: AtomicBool,
    is_hopeless: AtomicBool,
}

/// Number of labels up to which each step adds one label (RFC 9156, section 2.3: MINIMISE_ONE_LAB).
const ONE_BY_ONE: usize = 4;
/// Maximum number of steps to a name (RFC 9156, section 2.3: MAX_MINIMISE_COUNT).
const MAX_STEPS: usize = 10;

impl Errand {
    /// Creates the first attempt of a question.
    pub fn new(name: &Name, rtype: RecordType, budget: &Arc<Budget>) -> Errand {
        Errand {
            budget: budget.clone(),
            name: name.clone(),
            rtype,
            avoided: Vec::new(),
            is_second: false,
            waiting: Vec::new(),
            cuts: 0,
            said: Mutex::default(),
            doubtful: Mutex::default(),
            cut: Mutex::default(),
            denial: Mutex::default(),
            is_denied: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            is_hopeless: AtomicBool::new(false),
        }
    }

    /// Sets the servers that the question must not go to.
    pub fn avoiding(mut self, servers: &[IpAddr]) -> Errand {
        self.avoided = servers.to_vec();
        self
    }

    /// Whether the question is for the address of a name server that another errand needs.
    pub fn is_aside(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the same question, without a response, for another attempt.
    pub fn again(&self) -> Errand {
        let mut again = Errand::new(&self.name, self.rtype, &self.budget).avoiding(&self.avoided);
        (again.is_second, again.cuts) = (self.is_second, self.cuts);
        again.waiting.clone_from(&self.waiting);
        again.doubtful = Mutex::new(lock(&self.doubtful).clone());
        again.denial = Mutex::new(lock(&self.denial).clone());
        again
    }

    /// Whether a query is the question itself, and not a step on the way to its name.
    pub fn is_about(&self, query: &Query) -> bool {
        query.query_type == self.rtype && query.name == self.name
    }

    /// Whether the recursor may skip the query for a zone cut at this number of labels.
    ///
    /// It may skip the query for one of three reasons. The query for the name itself replaces the
    /// last step. Deep names take few steps. No cut is below a name that does not exist. A known
    /// cut is never skipped. DNSKEY records are at cuts only, and the servers above do not know them.
    pub fn skips(&self, labels: usize) -> bool {
        let all = self.name.iter().len();
        let is_known_cut = labels < 128 && self.cuts >> labels & 1 != 0;
        let is_last = labels == all && !matches!(self.rtype, RecordType::DS | RecordType::DNSKEY);
        !is_known_cut && (is_last || self.is_denied.load(Relaxed) || !is_step(labels, all))
    }

    /// Records that an ancestor of the name does not exist, with the response that says so.
    pub fn deny(&self, denial: Said) {
        self.is_denied.store(true, Relaxed);
        *lock(&self.denial) = Some(denial);
    }

    /// Takes the response that an ancestor of the name does not exist, if there is one.
    pub fn take_denial(&self) -> Option<Said> {
        lock(&self.denial).take()
    }

    /// Records that a server is being asked for the name in question.
    pub fn begin(&self) {
        self.has_begun.store(true, Relaxed);
    }

    /// Whether a server was asked for the name in question. If not, the recursor waited for another
    /// errand with the same query.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Records that the name cannot be reached: no server of a zone at or above it has an address.
    pub fn give_up(&self) {
        self.is_hopeless.store(true, Relaxed);
    }

    /// Whether the name cannot be reached.
    pub fn is_hopeless(&self) -> bool {
        self.is_hopeless.load(Relaxed)
    }

    /// Stores the response to the question.
    pub fn put(&self, said: Said) {
        *lock(&self.said) = Some(said);
    }

    /// Stores a response to the question that is of use only if no server has a better one.
    pub fn put_doubtful(&self, said: Said) {
        lock(&self.doubtful).get_or_insert(said);
    }

    /// Takes the doubtful response, if there is one.
    pub fn take_doubtful(&self) -> Option<Said> {
        lock(&self.doubtful).take()
    }

    /// Takes the response to the question, if there is one.
    pub fn take(&self) -> Option<Said> {
        lock(&self.said).take()
    }

    /// Records a zone cut that the recursor did not ask for, by its number of labels.
    pub fn find_cut(&self, labels: usize) {
        *lock(&self.cut) = Some(labels);
    }

    /// The recorded zone cut that the recursor did not ask for, by its number of labels.
    pub fn cut(&self) -> Option<usize> {
        *lock(&self.cut)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the way to a name of `all` labels has a step with this number of labels.
fn is_step(labels: usize, all: usize) -> bool {
    if labels <= ONE_BY_ONE || all <= MAX_STEPS {
        return true;
    }
    // The remaining steps divide the remaining labels evenly.
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
