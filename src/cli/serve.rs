//! `zonal serve`

use super::{report::complain, tell};
use crate::{
    config::Config,
    log,
    run::{self, Rejected, files},
};
use std::process::ExitCode;

/// Serves until it is told to stop. Exit status 1 when it cannot.
pub fn serve(config: &Config) -> ExitCode {
    if let Err(error) = log::start(config.log.format) {
        tell(format_args!("the thread of the log cannot be started: {error}"));
        return ExitCode::FAILURE;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // It is read when somebody is asked by TLS for the first time.
    if let Some(file) = config.certificate_authority.as_deref() {
        let missing = || format!("there is no file {}: no server can be asked by TLS", file.display());
        let message = match file.exists() {
            true => files::authorities(file).err().map(|error| format!("{error:#}")),
            false => Some(missing()),
        };
        if let Some(message) = message {
            tracing::error!("{}", config.error("certificate_authority", message));
        }
    }
    let result = run::serve(config);
    let can_tell = log::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if !can_tell => ExitCode::FAILURE,
        Err(error) => {
            if let Some(Rejected(problems)) = error.downcast_ref() {
                complain(problems.clone());
            }
            tell(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
