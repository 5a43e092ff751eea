//! `zonal journal`: shows and drops the dynamic updates of zones with files.
//!
//! The command asks the running server. Without a server, it works on the state directory.

use super::{
    Format, JournalCommand, ServerArguments,
    client::{self, Failure},
    health::segment,
    print_result,
};
use crate::{
    config::{Config, Source},
    control_plane::{
        state_store,
        updates::{Journals, journal_json},
    },
    manifest::{Id, Loader, Manifest, overlay::Overlays, problem::printable},
    wire::Name,
};
use anyhow::{Context, bail};
use hyper::Method;
use serde_json::{Value, json};
use std::{path::Path, process::ExitCode};

/// Runs the command. Exit status 1 if the zone has no journal, or if the journal cannot be read or dropped.
pub(super) fn run(command: &JournalCommand) -> ExitCode {
    let (arguments, zone, is_drop) = match command {
        JournalCommand::Show { zone, arguments } => (arguments, zone.as_deref(), false),
        JournalCommand::Drop { zone, arguments } => (arguments, Some(&**zone), true),
    };
    let (server, config) = match client::find(arguments) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let method = if is_drop { Method::DELETE } else { Method::GET };
    let response = match client::ask(&server, method, &path(zone), None) {
        Ok(response) => Ok(response),
        Err(Failure::NoServer(error)) if arguments.admin.is_none() => offline(&config, zone, is_drop, &error),
        Err(failure) => Err(failure.into()),
    };
    print_result(response.map(|response| render(&response, arguments)))
}

fn path(zone: Option<&str>) -> String {
    let segment = zone.map(|zone| format!("/{}", segment(zone)));
    format!("/v1/journals{}", segment.unwrap_or_default())
}

/// Reads or drops journals in the state directory. `error` is the reason why no server was asked.
fn offline(config: &Config, zone: Option<&str>, is_drop: bool, error: &anyhow::Error) -> anyhow::Result<Value> {
    let Some(directory) = config.state_directory.as_deref() else {
        bail!("{error:#}; and the configuration has no `state_directory` with journals");
    };
    // The lock is held until the journal is dropped, so that no server starts meanwhile.
    let lock = if is_drop { Some(state_store::lock(directory)?) } else { None };
    let overlays = Journals::read(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let manifest = match config.control_plane.source() {
        Source::Directory(directory) => names(directory),
        _ => Manifest::default(),
    };
    let one = |id: &Id| {
        let name = manifest.private_hosted_zones.get(id).map(|zone| &zone.name);
        overlays.get(id).map(|overlay| journal_json(id, name, overlay))
    };
    let Some(zone) = zone else {
        return Ok(json!({"journals": overlays.keys().filter_map(one).collect::<Vec<_>>()}));
    };
    let id = find(zone, &overlays, &manifest)?;
    if lock.is_some() {
        let dropped = overlays.get(&id).map_or(0, |overlay| overlay.len());
        Journals::remove_file(directory, &id)?;
        return Ok(json!({"zone": id, "dropped": dropped}));
    }
    one(&id).with_context(|| format!("zone {zone}: its journal was dropped meanwhile"))
}

/// The manifest of a directory, for the names of its zones.
fn names(directory: &Path) -> Manifest {
    let mut loader = Loader::new(directory);
    // `zonal check` reports the errors of the manifest.
    let _ = loader.load();
    loader.manifest().clone()
}

fn find(zone: &str, overlays: &Overlays, manifest: &Manifest) -> anyhow::Result<Id> {
    if overlays.contains_key(zone) {
        return Ok(zone.into());
    }
    let name = Name::absolute(zone).ok();
    let has_name =
        |id: &&Id| manifest.private_hosted_zones.get(id).is_some_and(|zone| Some(&zone.name) == name.as_ref());
    let found: Vec<&Id> = overlays.keys().filter(has_name).collect();
    match &found[..] {
        [id] => Ok((*id).clone()),
        [] => bail!("zone {zone}: there is no journal for it; `zonal journal show` lists all"),
        several => bail!("zone {zone}: several zones have the name; name one of {several:?}"),
    }
}

fn render(response: &Value, arguments: &ServerArguments) -> String {
    if arguments.format == Format::Json {
        return format!("{response:#}\n");
    }
    if let Some(dropped) = response["dropped"].as_u64() {
        let zone = response["zone"].as_str().unwrap_or("-");
        return format!("{}: {dropped} record sets of dynamic updates were dropped\n", printable(zone));
    }
    let Some(journals) = response["journals"].as_array() else { return journal(response) };
    match journals.is_empty() {
        true => "No zone has a journal.\n".into(),
        false => journals.iter().map(journal).collect(),
    }
}

fn journal(response: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let sets = response["sets"].as_array().map_or(&[][..], |sets| sets);
    let mut all = format!("{} {}: {} record sets\n", text(&response["zone"]), text(&response["name"]), sets.len());
    for set in sets {
        let (name, rtype) = (text(&set["name"]), text(&set["type"]));
        let records = set["records"].as_array().map_or(&[][..], |records| records);
        if records.is_empty() {
            all += &format!("  {name} {rtype}: removed\n");
        }
        for record in records {
            all += &format!("  {name} {} {rtype} {}\n", set["ttl"], text(record));
        }
    }
    all
}
