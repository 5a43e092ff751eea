//! `zonal serve`

use super::{print_error, report::print_problems};
use crate::{
    config::Config,
    log,
    run::{self, Rejected, files},
};
use std::process::ExitCode;

/// Serves until a signal stops the process. Exit status 1 if the server cannot start.
pub fn serve(config: &Config) -> ExitCode {
    if let Err(error) = log::start(config.log.format) {
        print_error(format_args!("cannot start the log thread: {error}"));
        return ExitCode::FAILURE;
    }
    for warning in &config.warnings {
        tracing::warn!(%warning, "configuration warning");
    }
    // The server reads the file at its first TLS connection to an upstream server; report faults now.
    if let Some(file) = config.certificate_authority.as_deref() {
        let missing = || format!("there is no file {}: zonal cannot query upstream servers by TLS", file.display());
        let message = match file.exists() {
            true => files::authorities(file).err().map(|error| format!("{error:#}")),
            false => Some(missing()),
        };
        if let Some(message) = message {
            tracing::error!(error = %config.error("certificate_authority", message), "certificate authority unusable");
        }
    }
    let result = run::serve(config);
    let is_flushed = log::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if !is_flushed => ExitCode::FAILURE,
        Err(error) => {
            if let Some(Rejected(problems)) = error.downcast_ref() {
                print_problems(problems.clone());
            }
            print_error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
