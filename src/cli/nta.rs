//! `zonal nta`: lists and changes the negative trust anchors of a running server, through its admin
//! API.

use super::{
    Format, ServerArguments,
    health::{self, age, ask, other_version, segment},
    print,
};
use crate::{
    admin::negative_trust_anchors::{AnchorReport, AnchorReports},
    clock::now,
    manifest::problem::printable,
};
use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, time::Duration};

#[derive(Debug, Subcommand)]
pub(super) enum NtaCommand {
    /// List the negative trust anchors that have not ended
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Add a negative trust anchor, or change its end and reason
    ///
    /// The node stores it in its state directory, so that it survives a restart. Answers at and below the name are removed from
    /// the cache.
    Add {
        /// Domain name.
        name: String,
        /// Time after which answers are validated again, a week at most: `45s`, `30m`, `2h` or `7d`.
        #[arg(long = "for", value_name = "DURATION", value_parser = health::duration, default_value = "1h")]
        duration: Duration,
        /// Reason, for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Remove a negative trust anchor
    ///
    /// Answers at and below the name are removed from the cache.
    Remove {
        /// Domain name.
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// Runs the command. The exit status is 1 if the request fails.
pub(super) fn run(command: &NtaCommand) -> ExitCode {
    let (server, method, name, body) = match command {
        NtaCommand::List { server } => (server, Method::GET, None, None),
        NtaCommand::Add { name, duration, reason, server } => {
            let body = json!({"for_seconds": duration.as_secs(), "reason": reason});
            (server, Method::PUT, Some(name), Some(body))
        }
        NtaCommand::Remove { name, server } => (server, Method::DELETE, Some(name), None),
    };
    let mut path = String::from("/v1/negative_trust_anchors");
    if let Some(name) = name {
        let _ = write!(path, "/{}", segment(name));
    }
    let response = match ask(server, method, &path, body.as_ref()) {
        Ok(response) => response,
        Err(code) => return code,
    };
    if server.format == Format::Json {
        return ExitCode::SUCCESS;
    }
    match text(command, response) {
        Some(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        None => other_version(),
    }
}

/// The output for people. `None` if the response has another form.
fn text(command: &NtaCommand, response: Value) -> Option<String> {
    if let NtaCommand::Add { .. } = command {
        return Some(format!("{}\n", line(&serde_json::from_value(response).ok()?, now())));
    }
    let reports: AnchorReports = serde_json::from_value(response).ok()?;
    if reports.negative_trust_anchors.is_empty() {
        return Some("There are no negative trust anchors.\n".into());
    }
    let now = now();
    Some(reports.negative_trust_anchors.iter().map(|anchor| line(anchor, now) + "\n").collect())
}

fn line(anchor: &AnchorReport, now: i64) -> String {
    let mut text = format!("{} ends in {}, from {}", printable(&anchor.name), age(anchor.until - now), anchor.source);
    if !anchor.reason.is_empty() {
        let _ = write!(text, ": {}", printable(&anchor.reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_name_end_origin_and_reason() {
        let anchor = |reason: &str| AnchorReport {
            name: "broken.example.".into(),
            until: 3700,
            reason: reason.into(),
            source: "admin".into(),
        };
        assert_eq!(line(&anchor(""), 100), "broken.example. ends in 60 min, from admin");
        assert_eq!(line(&anchor("ticket 7"), 3610), "broken.example. ends in 90 s, from admin: ticket 7");
    }
}
