//! The pointer from the control plane, which writes it, to everything that answers, which reads it.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The snapshot that is served. The control plane's publisher is its only writer; a reader loads it once for each query, so
/// that a query is answered from one snapshot from start to end.
pub type Published = Arc<ArcSwap<Snapshot>>;
