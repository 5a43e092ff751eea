//! Where `apply`, `diff` and `export` find what is there, and where `apply` changes it: etcd, or a server that takes changes.

use super::{
    TargetArguments,
    client::{self, Server},
};
use crate::{
    admin::etag,
    config::{Config, Etcd, Source},
    control_plane::etcd,
    manifest::{
        KINDS, Problem,
        collection::{Collection, Edit, Key, MASTER_FILES},
        document,
        problem::printable,
    },
};
use anyhow::{Context, anyhow, bail};
use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};
use hyper::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Keys in one answer of etcd.
const PAGE: i64 = 1000;
/// Operations in one transaction of etcd: its `--max-txn-ops` without being told otherwise.
const MOST_OPERATIONS: usize = 128;

/// What is to be changed.
pub enum Target {
    /// The keys of etcd.
    Etcd(Box<Etcd>),
    /// A server that takes changes by HTTP.
    Server(Server),
}

/// What there is, and what tells whether it is still that.
pub struct State {
    /// All resources and master files.
    pub collection: Collection,
    /// Of etcd's keys: the revision that each was changed at.
    revisions: BTreeMap<Key, i64>,
}

impl Target {
    /// The one that the arguments name, or else the configuration.
    pub fn new(arguments: &TargetArguments) -> anyhow::Result<Target> {
        let with =
            |server: Server| server.with(arguments.token_file.as_deref(), arguments.certificate_authority.as_deref());
        if let Some(address) = &arguments.server {
            return Ok(Target::Server(with(Server::new(address)?)?));
        }
        if let Some(endpoint) = &arguments.etcd {
            return Ok(Target::Etcd(Box::new(Etcd::at(endpoint))));
        }
        let config =
            Config::load(arguments.config.config.as_deref()).map_err(|problems| anyhow!("{}", first(&problems)))?;
        match config.control_plane.source() {
            Source::Etcd(etcd) => Ok(Target::Etcd(Box::new(etcd.clone()))),
            Source::Push => Ok(Target::Server(with(Server::of(&config.admin))?)),
            Source::Directory(_) => {
                bail!(
                    "the configuration has a directory, which is changed where it is: name `--etcd URL` or `--server URL`"
                )
            }
        }
    }

    /// What there is.
    pub fn read(&self) -> anyhow::Result<State> {
        match self {
            Target::Etcd(config) => runtime()?.block_on(read_etcd(config)),
            Target::Server(server) => {
                let whole = client::ask_server(server, Method::GET, "/v1/manifest", None)?;
                let (node, faults) = document::read(whole.to_string().as_bytes(), true);
                let node = node.filter(|_| faults.is_empty()).context("the server's manifest is malformed")?;
                let file = Path::new("manifest").into();
                let (collection, _) = Collection::read_whole(&node, &file)
                    .map_err(|problems| anyhow!("the server's manifest cannot be read: {}", first(&problems)))?;
                Ok(State { collection, revisions: BTreeMap::new() })
            }
        }
    }

    /// How many steps it takes to make these changes: one, if they can be made as a whole.
    pub fn steps(&self, edits: &[Edit]) -> usize {
        match self {
            Target::Etcd(_) => edits.len().div_ceil(MOST_OPERATIONS).max(1),
            Target::Server(_) => 1,
        }
    }

    /// Makes changes of what is there in `state`, and fails if it is not that any more. Returns the revision that has them.
    pub fn write(&self, state: &State, edits: &[Edit], step: impl Fn()) -> anyhow::Result<u64> {
        match self {
            Target::Etcd(config) => runtime()?.block_on(write_etcd(config, state, edits, step)),
            Target::Server(server) => {
                let operations: Vec<Value> =
                    edits.iter().map(|edit| operation(state, edit)).collect::<anyhow::Result<_>>()?;
                let body = json!({"operations": operations});
                let told = client::ask_server(server, Method::POST, "/v1/batch", Some(&body))?;
                step();
                told["revision"].as_u64().context("the server does not say at which revision it has the changes")
            }
        }
    }
}

fn first(problems: &[Problem]) -> String {
    problems.iter().find(|problem| problem.is_error()).map_or("unknown error".into(), Problem::to_string)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn operation(state: &State, Edit { key, value }: &Edit) -> anyhow::Result<Value> {
    let mut operation = json!({"kind": key.kind, "id": key.id});
    match etag(&state.collection, key) {
        Some(tag) => operation["if_match"] = json!(tag),
        None => operation["if_none_match"] = json!("*"),
    }
    operation["method"] = json!(if value.is_some() { "PUT" } else { "DELETE" });
    match value {
        Some(text) if key.kind == MASTER_FILES => {
            operation["text"] = json!(std::str::from_utf8(text).with_context(|| format!("{} is not UTF-8", key.id))?);
        }
        Some(text) => operation["resource"] = serde_json::from_slice(text)?,
        None => {}
    }
    Ok(operation)
}

async fn connect(config: &Etcd) -> anyhow::Result<Client> {
    let options = etcd::options(config)?;
    Client::connect(&config.endpoints, Some(options))
        .await
        .with_context(|| format!("no etcd at {}", config.endpoints.join(", ")))
}

async fn read_etcd(config: &Etcd) -> anyhow::Result<State> {
    let mut client = connect(config).await?;
    let (mut from, end) = (config.prefix.clone().into_bytes(), etcd::end_of(config.prefix.as_bytes()));
    let (mut edits, mut revisions, mut revision) = (Vec::new(), BTreeMap::new(), 0);
    loop {
        let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        if revision > 0 {
            options = options.with_revision(revision);
        }
        let response = client.get(from.clone(), Some(options)).await.context("etcd cannot be read")?;
        revision = response.header().map_or(revision, |header| if revision > 0 { revision } else { header.revision() });
        for pair in response.kvs() {
            let name = pair.key_str().ok().and_then(|name| name.strip_prefix(&config.prefix)?.split_once('/'));
            let Some((kind, id)) = name.filter(|(_, id)| !id.is_empty()) else {
                let name = printable(&String::from_utf8_lossy(pair.key()));
                eprintln!(
                    "zonal: etcd has a key `{name}`, which is no `{}<kind>/<id>` and is left alone",
                    config.prefix
                );
                continue;
            };
            // One of no kind is there too, and can be deleted. Its name is let go of with the process, which is a command's.
            let key = Key::new(kind, id).unwrap_or_else(|| Key { kind: String::leak(kind.into()), id: id.into() });
            revisions.insert(key.clone(), pair.mod_revision());
            edits.push(Edit { key, value: Some(pair.value().into()) });
        }
        match response.kvs().last() {
            Some(last) if response.more() => from = [last.key(), &[0]].concat(),
            _ => break,
        }
    }
    let mut collection = Collection::default();
    collection.apply(&edits);
    Ok(State { collection, revisions })
}

/// Additions and changes first, in the order in which kinds refer to one another, and then what goes, the other way round: in
/// between everything that is named is there.
fn in_order(edits: &[Edit]) -> Vec<&Edit> {
    let rank = |edit: &&Edit| match edit.key.kind {
        MASTER_FILES => 0,
        kind => 1 + KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len()) as i32,
    };
    let (mut puts, mut deletes): (Vec<_>, Vec<_>) = edits.iter().partition(|edit| edit.value.is_some());
    puts.sort_by_key(rank);
    deletes.sort_by_key(|edit| -rank(edit));
    puts.into_iter().chain(deletes).collect()
}

async fn write_etcd(config: &Etcd, state: &State, edits: &[Edit], step: impl Fn()) -> anyhow::Result<u64> {
    let mut client = connect(config).await?;
    let ordered = in_order(edits);
    let mut revision = 0;
    for (at, some) in ordered.chunks(MOST_OPERATIONS).enumerate() {
        let name = |key: &Key| format!("{}{}/{}", config.prefix, key.kind, key.id);
        let unchanged: Vec<Compare> = some
            .iter()
            .map(|edit| {
                let known = state.revisions.get(&edit.key).copied().unwrap_or(0);
                Compare::mod_revision(name(&edit.key), CompareOp::Equal, known)
            })
            .collect();
        let operations: Vec<TxnOp> = some
            .iter()
            .map(|Edit { key, value }| match value {
                Some(text) => TxnOp::put(name(key), text.to_vec(), None),
                None => TxnOp::delete(name(key), None),
            })
            .collect();
        let response =
            client.txn(Txn::new().when(unchanged).and_then(operations)).await.context("etcd does not take it")?;
        if !response.succeeded() {
            let done = if at > 0 { format!("; {at} transactions before were made") } else { String::new() };
            bail!("somebody else has changed it in the meantime: look at the plan again{done}");
        }
        revision = response.header().map_or(revision, |header| header.revision() as u64);
        step();
    }
    Ok(revision)
}
