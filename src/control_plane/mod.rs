//! Where manifests come from, and the keeper, which makes of them what is served.

pub mod change;
pub mod directory;
pub mod internet;
pub mod keeper;
pub mod kept;
pub mod status;
