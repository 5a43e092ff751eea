//! The command line.

pub mod serve;

use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    match crate::config::Config::load(None) {
        Ok(config) => serve::serve(&config),
        Err(_) => ExitCode::FAILURE,
    }
}
