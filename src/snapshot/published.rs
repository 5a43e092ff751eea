//! The pointer to the current snapshot: the control plane writes it, and everything that answers reads it.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The published snapshot. The control plane's publisher is the only writer. A reader loads it once per query, so that a query
/// is answered from one snapshot from start to end.
pub type Published = Arc<ArcSwap<Snapshot>>;
