//! zonal
pub mod answer;
pub mod cli;
pub mod config;
pub mod manifest;
pub mod snapshot;
pub mod wire;
