//! `zonal status` and `zonal wait`: what the nodes of a fleet serve.

use super::{
    AccessArguments, Format, StatusArguments, WaitArguments,
    client::{self, Failure, Server, wrong},
    print, report,
};
use crate::{config::Config, manifest::problem::printable};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// How often nodes are asked that are waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `zonal status`. Exit status 1 if a node does not answer.
pub(super) fn status(arguments: &StatusArguments) -> ExitCode {
    let servers = match servers(arguments) {
        Ok(servers) => servers,
        Err(status) => return status,
    };
    let told: Vec<(String, Result<Value, String>)> = thread::scope(|scope| {
        let asked: Vec<_> =
            servers.iter().map(|server| (server.to_string(), scope.spawn(|| ask(server).map_err(told)))).collect();
        asked.into_iter().map(|(name, asked)| (name, asked.join().unwrap_or_else(|_| Err("failed".into())))).collect()
    });
    print(&match arguments.format {
        Format::Human => table(&told),
        Format::Json => {
            let node = |(address, told): &(String, Result<Value, String>)| match told {
                Ok(status) => json!({"address": address, "status": status}),
                Err(error) => json!({"address": address, "error": error}),
            };
            format!("{:#}\n", told.iter().map(node).collect::<Value>())
        }
    });
    if told.iter().all(|(_, told)| told.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn servers(arguments: &StatusArguments) -> Result<Vec<Server>, ExitCode> {
    let of_configuration = || {
        Config::load(arguments.config.config.as_deref()).map(|config| vec![Server::of(&config.admin)]).map_err(
            |problems| {
                report::report(problems, Format::Human, &mut std::io::stderr());
                ExitCode::FAILURE
            },
        )
    };
    let named = || named(&arguments.all);
    let servers = if arguments.all.is_empty() { of_configuration()? } else { named()? };
    with(servers, &arguments.access)
}

fn named(addresses: &[String]) -> Result<Vec<Server>, ExitCode> {
    addresses.iter().map(|address| Server::new(address)).collect::<anyhow::Result<_>>().map_err(|error| wrong(&error))
}

fn with(servers: Vec<Server>, access: &AccessArguments) -> Result<Vec<Server>, ExitCode> {
    let servers = servers.into_iter().map(|server| server.with(access));
    servers.collect::<anyhow::Result<_>>().map_err(|error| wrong(&error))
}

fn ask(server: &Server) -> Result<Value, Failure> {
    client::ask(server, Method::GET, "/v1/status", None)
}

fn told(failure: Failure) -> String {
    format!("{:#}", anyhow::Error::from(failure))
}

/// One line for each node.
fn table(told: &[(String, Result<Value, String>)]) -> String {
    let head = ["ADDRESS", "NODE", "GENERATION", "DIGEST", "REVISION", "SOURCE", "AGE", "SET ASIDE"];
    let mut lines: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    for (address, told) in told {
        let status = match told {
            Ok(status) => status,
            Err(error) => {
                lines.push(vec![address.clone(), error.clone()]);
                continue;
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
        let source = match (&status["source"], status["stale"].as_bool()) {
            (_, Some(true)) => "stale",
            (Value::Null, _) if status["last_error"].is_object() => "failed",
            (source, _) if source["is_connected"] == json!(false) => "lost",
            _ => "ok",
        };
        lines.push(vec![
            address.clone(),
            text(&status["node"]),
            status["generation"].to_string(),
            text(&status["digest"]).chars().take(12).collect(),
            status["revision"].to_string(),
            source.into(),
            format!("{} s", status["age_seconds"]),
            status["set_aside"].as_array().map_or(0, Vec::len).to_string(),
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
    lines.iter().map(line).collect()
}

/// Runs `zonal wait`. Exit status 1 if some node does not serve the revision in time.
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
            let told = ask(server).map_err(|failure| {
                // It would say so for ever.
                is_hopeless |= matches!(failure, Failure::Forbidden(_));
                told(failure)
            });
            let has = told.as_ref().ok().and_then(|status| status["revision"].as_u64());
            let is_there = has.is_some_and(|revision| revision >= arguments.revision);
            if !is_there {
                let why = match (has, told) {
                    (Some(revision), _) => format!("{server} serves revision {revision}"),
                    (None, Err(error)) => error,
                    (None, Ok(_)) => format!("{server} does not tell its revision"),
                };
                lagging.push(why);
            }
            !is_there
        });
        if waiting.is_empty() {
            return ExitCode::SUCCESS;
        }
        if is_hopeless || Instant::now() >= end {
            lagging.iter().for_each(|why| eprintln!("zonal: {}", printable(why)));
        }
        if is_hopeless {
            return ExitCode::FAILURE;
        }
        if Instant::now() >= end {
            eprintln!("zonal: revision {} is not everywhere after {} s", arguments.revision, arguments.timeout);
            return ExitCode::FAILURE;
        }
        thread::sleep(PAUSE);
    }
}
