//! The tests that need the whole program: transcripts, topologies of real servers, reloads under load, the README.

mod harness;
mod model;
mod readme;
mod reload;
mod scenarios;
mod tidy;
mod topologies;
