//! zonal
pub mod admin;
pub mod answer;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod listen;
pub mod manifest;
pub mod metrics;
pub mod run;
pub mod snapshot;
pub mod wire;
