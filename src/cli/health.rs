//! `zonal health`: shows the targets of health checks and forces verdicts, through the admin API of
//! a running server.

use super::{Format, ServerArguments, client, print, print_error};
use crate::{
    admin::health::{HealthReport, TargetReport},
    clock::now,
    manifest::problem::printable,
};
use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, time::Duration};

#[derive(Args, Debug)]
pub(super) struct HealthArguments {
    #[command(subcommand)]
    command: Option<HealthCommand>,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum HealthCommand {
    /// Set the verdict of a target for some time; for an EXTERNAL check, report its status
    Set {
        /// Health check, or endpoint and address: `vpce-0sqs/10.1.0.4`.
        target: String,
        /// Verdict to set.
        #[arg(value_enum)]
        status: HealthWord,
        /// Time after which the verdict follows the check again: `45s`, `30m`, `2h` or `1d`. An EXTERNAL check can be
        /// reported without it.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// End a verdict that was set by hand
    Clear {
        /// Health check, or endpoint and address: `vpce-0sqs/10.1.0.4`.
        target: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum HealthWord {
    /// Answers use the target.
    Healthy,
    /// Answers do not use the target.
    Unhealthy,
}

/// Runs the command.
///
/// The exit status is 1 if the request fails. For the list, it is also 1 if a target is unhealthy
/// or the node is isolated.
pub(super) fn run(arguments: &HealthArguments) -> ExitCode {
    let (server, method, target, body) = match &arguments.command {
        None => (&arguments.server, Method::GET, None, None),
        Some(HealthCommand::Set { target, status, duration, server }) => {
            let mut body = json!({"status": if *status == HealthWord::Healthy { "healthy" } else { "unhealthy" }});
            if let Some(duration) = duration {
                body["for_seconds"] = json!(duration.as_secs());
            }
            (server, Method::PUT, Some(target), Some(body))
        }
        Some(HealthCommand::Clear { target, server }) => (server, Method::DELETE, Some(target), None),
    };
    let response = match ask(server, method, &path(target.map(String::as_str)), body.as_ref()) {
        Ok(response) => response,
        Err(code) => return code,
    };
    match (server.format, target) {
        (Format::Human, Some(_)) => one(response),
        (_, Some(_)) => ExitCode::SUCCESS,
        (format, None) => list(response, format),
    }
}

/// Asks the server. Prints the error if it fails, and the response if JSON is wanted.
pub(super) fn ask(
    arguments: &ServerArguments,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, ExitCode> {
    let (server, _) = client::find(arguments)?;
    let response = client::ask(&server, method, path, body).map_err(|error| {
        print_error(printable(&format!("{:#}", anyhow::Error::from(error))));
        ExitCode::FAILURE
    })?;
    if arguments.format == Format::Json {
        print(&format!("{response:#}\n"));
    }
    Ok(response)
}

/// Parses a duration such as `90`, `45s`, `30m`, `2h` or `1d`. A number without a unit is in
/// seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("expected a duration such as 45s, 30m, 2h or 1d".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a duration such as 45s, 30m, 2h or 1d".to_string())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "the duration is too long".into())
}

fn path(target: Option<&str>) -> String {
    let mut path = String::from("/v1/health");
    let Some(target) = target else { return path };
    path.push('/');
    path.push_str(&encoded(target));
    path
}

/// Encodes text for one segment of a path.
pub(super) fn segment(text: &str) -> String {
    encoded(text).replace('/', "%2F")
}

/// Encodes text for a path (RFC 3986, section 2.1). Slashes remain.
fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for octet in text.bytes() {
        let _ = match octet {
            b'.' | b'-' | b'_' | b'/' | b':' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => path.write_char(octet.into()),
            _ => write!(path, "%{octet:02X}"),
        };
    }
    path
}

fn one(response: Value) -> ExitCode {
    match serde_json::from_value::<TargetReport>(response) {
        Ok(target) => {
            print(&format!("{}\n", line(&target, now())));
            ExitCode::SUCCESS
        }
        Err(_) => other_version(),
    }
}

/// Reports a response that this version cannot read.
pub(super) fn other_version() -> ExitCode {
    print_error("the server has another version of zonal, whose report cannot be read");
    ExitCode::FAILURE
}

fn list(response: Value, format: Format) -> ExitCode {
    let Ok(report) = serde_json::from_value::<HealthReport>(response) else { return other_version() };
    let is_fine = report.isolated_since.is_none() && report.targets.iter().all(|target| target.healthy);
    if format == Format::Human {
        print(&table(&report, now()));
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(report: &HealthReport, now: i64) -> String {
    let mut text = String::new();
    if let Some(since) = report.isolated_since {
        let _ = writeln!(text, "The node is isolated since {}: it keeps the verdicts from before.\n", age(now - since));
    }
    if report.targets.is_empty() {
        text.push_str("The manifest has no health checks.\n");
    }
    for target in &report.targets {
        let _ = writeln!(text, "{}", line(target, now));
    }
    text
}

fn line(target: &TargetReport, now: i64) -> String {
    let word = if target.healthy { "healthy" } else { "unhealthy" };
    let mut text = format!("{} {} {word}", printable(&target.id), target.check_type);
    if target.state != word {
        let _ = write!(text, " ({})", target.state);
    }
    if let Some(since) = target.since {
        let _ = write!(text, ", for {}", age(now - since));
    }
    if let Some(forced) = &target.forced {
        let word = if forced.healthy { "healthy" } else { "unhealthy" };
        let _ = write!(text, ", set to {word} by hand for {} more", age(forced.until - now));
    }
    if let Some(until) = target.held_until.filter(|until| *until > now) {
        let _ = write!(text, ", held for {} more because it changes too often", age(until - now));
    }
    if target.frozen {
        text.push_str(", frozen");
    }
    if let Some(fleet) = &target.fleet {
        let _ = write!(text, ", healthy for {} of {} nodes", fleet.healthy, fleet.reporters);
    }
    if let Some(attempt) = target.attempts.first() {
        let _ = write!(text, "; last attempt {} ago: {}", age(now - attempt.at), printable(&attempt.result));
    }
    text
}

/// Formats a time in seconds in a unit that suits its length.
pub(super) fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let seconds = |text| duration(text).ok().map(|duration| duration.as_secs());
        for (text, expected) in [("90", 90), ("45s", 45), ("30m", 1800), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1w", "-1s", "1.5h", "99999999999999999999d", "18446744073709551615d"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_segment_of_a_path_has_no_slashes() {
        assert_eq!(segment("0/25.2.0.192.in-addr.arpa"), "0%2F25.2.0.192.in-addr.arpa");
        assert_eq!(encoded("vpce-0sqs/10.1.0.4"), "vpce-0sqs/10.1.0.4");
        assert_eq!(segment("a b%"), "a%20b%25");
    }
}
