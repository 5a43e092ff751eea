//! What is served: immutable, compiled from a manifest.

use crate::manifest::{Loaded, Problem};
use std::sync::Arc;

/// What the node itself contributes to every answer.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The name server identifier that NSID queries get (RFC 5001).
    pub nsid: Box<[u8]>,
    /// Secrets of DNS cookies: the first one signs, all are accepted (RFC 9018, 5).
    pub cookie_secrets: Vec<[u8; 16]>,
}

/// What is served.
pub struct Snapshot {
    /// Rises by one with each change that is served.
    pub generation: u64,
    /// Digest of what it was compiled from.
    pub digest: [u8; 32],
}

impl Snapshot {
    /// The labels of all views ever seen, by [`crate::answer::Answered::view`].
    pub fn view_labels(&self) -> &[Arc<str>] {
        &[]
    }

    /// All doors of the manifest: addresses that queries may arrive on.
    pub fn door_addresses(&self) -> Vec<std::net::IpAddr> {
        Vec::new()
    }
}

/// Compiles what is served. Zones and endpoints that did not change are shared with `previous`. `now` is the time in
/// seconds since 1970 that expiries are warned of by. With the snapshot come warnings; instead of it, errors and warnings.
pub fn compile(
    _loaded: &Loaded,
    _node: &Arc<Node>,
    _previous: Option<&Snapshot>,
    _now: i64,
) -> Result<(Snapshot, Vec<Problem>), Vec<Problem>> {
    todo!()
}
