//! `zonal serve`

use super::{Format, report::report};
use crate::{
    config::{Config, LogFormat},
    run::{self, Rejected},
};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};
use tracing_subscriber::EnvFilter;

/// Serves until it is told to stop. Exit status 1 when it cannot.
pub fn serve(config: &Config) -> ExitCode {
    start_log(config.log.format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // It is read when somebody is asked by TLS for the first time.
    if let Some(file) = config.certificate_authority.as_deref().filter(|file| !file.exists()) {
        let message = format!("there is no file {}: no server can be asked by TLS", file.display());
        tracing::error!("{}", config.error("certificate_authority", message));
    }
    match run::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Rejected(problems)) = error.downcast_ref() {
                report(problems.clone(), Format::Human, &mut io::stderr());
            }
            eprintln!("zonal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error, for people or as JSON, from the level in `RUST_LOG` on; `info` without it.
fn start_log(format: LogFormat) {
    let level = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".into());
    // It warns of every name that does not exist.
    let quiet = if level.contains("hickory") { "" } else { ",hickory_resolver=off,hickory_net=off,hickory_proto=off" };
    let filter = EnvFilter::try_new(level + quiet).unwrap_or_else(|_| EnvFilter::new("info".to_string() + quiet));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
    match format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
