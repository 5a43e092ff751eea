//! zonal
pub mod answer;
pub mod manifest;
pub mod snapshot;
pub mod wire;
