//! `zonal status` and `zonal wait`: show what the nodes of a fleet serve, and wait for a revision.

use super::{
    AccessArguments, Format, StatusArguments, WaitArguments,
    client::{self, Failure, Server, usage_error},
    print, print_error, report,
};
use crate::{
    admin::status::NodeStatus, config::Config, control_plane::status::SetAsideResource, manifest::problem::printable,
};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// The interval between two requests to a node that `wait` waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum number of rejected resources listed for a node; `--format json` lists all.
const MAX_LISTED: usize = 5;

/// Runs `zonal status`. Exit status 1 if a node does not answer or has a problem.
pub(super) fn status(arguments: &StatusArguments) -> ExitCode {
    let servers = match servers(arguments) {
        Ok(servers) => servers,
        Err(status) => return status,
    };
    let answers: Vec<(String, Answer)> = thread::scope(|scope| {
        let requests: Vec<_> = servers
            .iter()
            .map(|server| (server.to_string(), scope.spawn(|| ask(server).map_err(failure_text))))
            .collect();
        let answer = |(name, request): (_, thread::ScopedJoinHandle<Answer>)| {
            (name, request.join().unwrap_or_else(|_| Err("failed".into())))
        };
        requests.into_iter().map(answer).collect()
    });
    print(&match arguments.format {
        Format::Human => table(&answers),
        Format::Json => {
            let node = |(address, answer): &(String, Answer)| match answer {
                Ok(status) => {
                    let problems = problems(status, usize::MAX);
                    json!({"address": address, "status": status, "well": problems.is_empty(), "problems": problems})
                }
                Err(error) => json!({"address": address, "error": error, "well": false, "problems": [error]}),
            };
            format!("{:#}\n", answers.iter().map(node).collect::<Value>())
        }
    });
    let is_well = |answer: &Answer| answer.as_ref().is_ok_and(|status| problems(status, 1).is_empty());
    if answers.iter().all(|(_, answer)| is_well(answer)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The status of a node, or the reason why there is none.
type Answer = Result<NodeStatus, String>;

fn servers(arguments: &StatusArguments) -> Result<Vec<Server>, ExitCode> {
    let of_configuration = || {
        Config::load(arguments.config.config.as_deref()).map(|config| vec![Server::of(&config.admin)]).map_err(
            |problems| {
                report::print_problems(problems);
                ExitCode::FAILURE
            },
        )
    };
    let named = || named(&arguments.all);
    let servers = if arguments.all.is_empty() { of_configuration()? } else { named()? };
    with(servers, &arguments.access)
}

fn named(addresses: &[String]) -> Result<Vec<Server>, ExitCode> {
    addresses
        .iter()
        .map(|address| Server::new(address))
        .collect::<anyhow::Result<_>>()
        .map_err(|error| usage_error(&error))
}

fn with(servers: Vec<Server>, access: &AccessArguments) -> Result<Vec<Server>, ExitCode> {
    let servers = servers.into_iter().map(|server| server.with(access));
    servers.collect::<anyhow::Result<_>>().map_err(|error| usage_error(&error))
}

fn ask(server: &Server) -> Result<NodeStatus, Failure> {
    let body = client::ask(server, Method::GET, "/v1/status", None)?;
    // Members may be missing in the answer of another version, but not this one.
    match body["generation"].is_u64() {
        true => NodeStatus::deserialize(&body).map_err(|_| client::not_the_admin_api(server)),
        false => Err(client::not_the_admin_api(server)),
    }
}

fn failure_text(failure: Failure) -> String {
    format!("{:#}", anyhow::Error::from(failure))
}

/// The state of a node's source.
fn source(status: &NodeStatus) -> &'static str {
    match &status.source {
        _ if status.stale => "stale",
        Some(source) if !source.is_connected => "lost",
        _ if status.last_error.is_some() => "failed",
        _ if status.generation == 0 => "none",
        _ if status.resources.is_empty() => "empty",
        _ => "ok",
    }
}

/// A node's problems, causes first. Any problem makes `status` fail. At most `listed` rejected resources are listed.
fn problems(status: &NodeStatus, listed: usize) -> Vec<String> {
    let unready = status.unready_reason.as_ref().map(|reason| format!("not ready: {reason}"));
    let directory = status.state_directory.as_ref().and_then(|directory| {
        let error = directory.error.as_ref()?;
        Some(format!("the state directory {} cannot be written: {error}", directory.path))
    });
    let lost = status.source.as_ref().and_then(|source| source.error.as_ref());
    let lost = lost.map(|error| format!("the source cannot be reached: {error}"));
    let is_stale = status.stale && lost.is_none() && unready.is_none();
    let stale = is_stale.then(|| match &status.stale_reason {
        Some(reason) => format!("stale: {reason}"),
        None => "stale: the node serves the state of an earlier run and has not reached its source since".into(),
    });
    let refused = status.last_error.as_ref().map(|error| format!("refused: {}", error.message));
    let deletions = status.held_deletions.as_ref().map(|held| {
        let first: Vec<&str> = held.resources.iter().take(3).map(String::as_str).collect();
        format!(
            "{} deletions are held ({}, …): if they are intended, put {} into the key `allow_deletion`, or run `zonal apply \
             --force`; if not, restore the resources",
            held.count,
            first.join(", "),
            held.revision
        )
    });
    let aside = |resource: &SetAsideResource| {
        let SetAsideResource { kind, id, served, problems } = resource;
        let first = problems.first().map_or("-", String::as_str);
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" (the first of {count} problems)"),
        };
        format!("{kind}/{id} is set aside, {served} is served of it: {first}{more}")
    };
    let rest = status.set_aside.len().saturating_sub(listed);
    let rest = (rest > 0).then(|| format!("and {rest} more resources are set aside: `--format json` lists all"));
    let all = [unready, directory, lost, stale, refused, deletions];
    all.into_iter().flatten().chain(status.set_aside.iter().take(listed).map(aside)).chain(rest).collect()
}

/// A remark about a node that may be intended.
fn notes(status: &NodeStatus) -> Option<String> {
    (source(status) == "empty").then(|| "the manifest is empty: zonal refuses all queries".into())
}

/// One line for each node, and then one line for each problem.
fn table(answers: &[(String, Answer)]) -> String {
    let head = ["ADDRESS", "NODE", "READY", "GENERATION", "DIGEST", "REVISION", "SOURCE", "AGE", "SET ASIDE"];
    let mut lines: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    for (address, answer) in answers {
        let status = match answer {
            Ok(status) => status,
            Err(error) => {
                lines.push(vec![address.clone(), error.clone()]);
                continue;
            }
        };
        lines.push(vec![
            address.clone(),
            status.node.clone(),
            if status.ready { "yes" } else { "no" }.into(),
            status.generation.to_string(),
            status.digest.chars().take(12).collect(),
            status.revision.to_string(),
            source(status).into(),
            format!("{} s", status.age_seconds),
            status.set_aside.len().to_string(),
        ]);
    }
    let width = |at: usize| {
        let of_line =
            |line: &Vec<String>| line.get(at).filter(|_| line.len() > 2).map_or(0, |cell| cell.chars().count());
        lines.iter().map(of_line).max().unwrap_or(0).max(if at == 0 {
            lines.iter().map(|line| line[0].chars().count()).max().unwrap_or(0)
        } else {
            0
        })
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", printable(cell)));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let problem_lines = |(address, answer): &(String, Answer)| {
        let all = answer.iter().flat_map(|status| problems(status, MAX_LISTED).into_iter().chain(notes(status)));
        all.map(|reason| printable(&format!("{address}: {reason}")) + "\n").collect::<String>()
    };
    lines.iter().map(line).chain(answers.iter().map(problem_lines)).collect()
}

/// Runs `zonal wait`. Exit status 1 if a node does not serve the revision before the time-out.
pub(super) fn wait(arguments: &WaitArguments) -> ExitCode {
    let servers = match named(&arguments.addresses).and_then(|servers| with(servers, &arguments.access)) {
        Ok(servers) => servers,
        Err(status) => return status,
    };
    let end = Instant::now() + Duration::from_secs(arguments.timeout);
    let mut waiting = servers;
    loop {
        let (mut lagging, mut is_hopeless) = (Vec::new(), false);
        waiting.retain(|server| {
            let lags = match ask(server) {
                Ok(status) if status.revision >= arguments.revision => return false,
                Ok(status) => format!("{server} serves revision {}", status.revision),
                Err(failure) => {
                    // Later requests would fail in the same way.
                    is_hopeless |= matches!(failure, Failure::Forbidden(_));
                    failure_text(failure)
                }
            };
            lagging.push(lags);
            true
        });
        if waiting.is_empty() {
            return ExitCode::SUCCESS;
        }
        if is_hopeless || Instant::now() >= end {
            lagging.iter().for_each(|why| print_error(printable(why)));
        }
        if is_hopeless {
            return ExitCode::FAILURE;
        }
        if Instant::now() >= end {
            print_error(format_args!(
                "some nodes do not serve revision {} after {} s",
                arguments.revision, arguments.timeout
            ));
            return ExitCode::FAILURE;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_problems_and_their_causes_below_the_table() {
        let status = |more: Value| -> NodeStatus {
            let mut status = json!({"node": "n", "ready": true, "unready_reason": null, "generation": 7, "digest": "d", "revision": 3,
                "stale": false, "source": null, "last_error": null, "resources": {"vpcs": 1}, "age_seconds": 5, "set_aside": []});
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(status).unwrap()
        };
        let lost = json!({"is_connected": false, "last_contact": 1, "error": "etcd at http://e: no way"});
        for (more, cells, reasons) in [
            (json!({}), "yes    7           d       3         ok", ""),
            (
                json!({"ready": false, "unready_reason": "no manifest is loaded yet", "generation": 0, "resources": {}}),
                "no     0           d       3         none",
                "a:1: not ready: no manifest is loaded yet\n",
            ),
            (
                json!({"source": lost, "stale": true}),
                "yes    7           d       3         stale",
                "a:1: the source cannot be reached: etcd at http://e: no way\n",
            ),
            (
                json!({"source": lost}),
                "yes    7           d       3         lost",
                "a:1: the source cannot be reached: etcd at http://e: no way\n",
            ),
            (
                json!({"last_error": {"time": 1, "message": "vpcs.a: odd", "problems": []}, "source": {"is_connected": true}}),
                "yes    7           d       3         failed",
                "a:1: refused: vpcs.a: odd\n",
            ),
            (
                json!({"set_aside": [{"kind": "vpcs", "id": "a", "served": "older", "problems": ["odd", "more"]}]}),
                "yes    7           d       3         ok      5 s  1",
                "a:1: vpcs/a is set aside, older is served of it: odd (the first of 2 problems)\n",
            ),
            (
                json!({"stale": true, "state_directory": {"path": "/s", "error": "no space"}}),
                "yes    7           d       3         stale",
                "a:1: the state directory /s cannot be written: no space\n\
                 a:1: stale: the node serves the state of an earlier run and has not reached its source since\n",
            ),
            (
                json!({"held_deletions": {"count": 40, "revision": 12, "resources": ["vpcs/a", "vpcs/b"]}}),
                "yes    7           d       3         ok",
                "a:1: 40 deletions are held (vpcs/a, vpcs/b, …): if they are intended, put 12 into the key `allow_deletion`, or run \
                 `zonal apply --force`; if not, restore the resources\n",
            ),
            (
                json!({"resources": {}}),
                "yes    7           d       3         empty",
                "a:1: the manifest is empty: zonal refuses all queries\n",
            ),
        ] {
            let table = table(&[("a:1".into(), Ok(status(more)))]);
            let (_, rest) = table.split_once('\n').unwrap();
            let (line, below) = rest.split_once('\n').unwrap();
            assert!(line.contains(cells), "{cells} in\n{table}");
            assert_eq!(below, reasons);
        }
        // The causes come first, in the order of the server. Left out resources are counted.
        let aside = |n: usize| json!({"kind": "vpcs", "id": n.to_string(), "served": "nothing", "problems": ["odd"]});
        let status = status(json!({"set_aside": (0..9).rev().map(aside).collect::<Vec<_>>()}));
        let table = table(&[("a:1".into(), Ok(status.clone()))]);
        let below: Vec<&str> = table.lines().skip(2).collect();
        assert!(below[0].contains("vpcs/8 is set aside") && below.len() == MAX_LISTED + 1, "{table}");
        assert_eq!(below[MAX_LISTED], "a:1: and 4 more resources are set aside: `--format json` lists all");
        assert_eq!(problems(&status, usize::MAX).len(), 9);
    }
}
