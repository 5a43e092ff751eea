//! The target of `apply`, `diff` and `export`: etcd, or a server with `control_plane.push`.

use super::{
    TargetArguments,
    client::{self, Server},
    print_error,
};
use crate::{
    admin::etag,
    config::{Config, Etcd, Source},
    control_plane::etcd,
    manifest::{
        KINDS, Problem,
        collection::{Collection, Content, Edit, Key, MASTER_FILES},
        document,
        problem::printable,
    },
};
use anyhow::{Context, anyhow, bail};
use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Keys in one response of etcd.
const PAGE_KEYS: i64 = 1000;
/// The maximum number of operations in a transaction of etcd: the default of its `--max-txn-ops`.
const MAX_OPERATIONS: usize = 128;
/// The number of ranges that have the keys of resources.
const RANGES: usize = 3;
/// The maximum number of edits in a transaction, beside the counts of keys and the key that allows its deletions.
const MAX_EDITS: usize = MAX_OPERATIONS - RANGES - 1;
/// The maximum number of keys that a transaction compares, beside the checks of the last change.
const MAX_COMPARED: usize = MAX_OPERATIONS - RANGES;
/// The error when the target changed after the plan was made.
const CHANGED: &str = "another client has changed the target meanwhile: run the command again and review the new plan";

/// The source to read or change.
pub enum Target {
    /// The keys of etcd.
    Etcd(Box<Etcd>),
    /// A server that accepts changes by HTTP.
    Server(Server),
}

/// The resources of a target, and the revisions that show whether they have changed since.
pub struct State {
    /// All resources and master files.
    pub collection: Collection,
    /// The revision of etcd or of the server that has it.
    revision: i64,
    /// The revision of the last change of each key of etcd.
    revisions: BTreeMap<Key, i64>,
    /// The number of keys in etcd, with those of unknown kinds.
    keys: i64,
    /// The revision up to which etcd allows deletions; none if it allows none.
    allowed: Option<u64>,
}

impl Target {
    /// The target that the arguments name, or else the configuration.
    pub fn new(arguments: &TargetArguments) -> anyhow::Result<Target> {
        let with = |server: Server| server.with(&arguments.access);
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
                    "the configuration's source is a directory, which you change by editing its files: name `--etcd URL` or `--server URL`"
                )
            }
        }
    }

    /// Reads all resources.
    pub fn read(&self) -> anyhow::Result<State> {
        match self {
            Target::Etcd(config) => runtime()?.block_on(read_etcd(config)),
            Target::Server(server) => {
                let (whole, tag) = client::ask_tagged(server, Method::GET, "/v1/manifest", None)?;
                let revision = tag.and_then(|tag| tag.trim_matches('"').parse().ok());
                let revision = revision.context("the server did not report the revision of its manifest")?;
                let (node, faults) = document::read(whole.to_string().as_bytes(), true);
                let node = node.filter(|_| faults.is_empty()).context("the server's manifest is malformed")?;
                let file = Path::new("manifest").into();
                let (collection, _) = Collection::read_whole(&node, &file)
                    .map_err(|problems| anyhow!("the server's manifest cannot be read: {}", first(&problems)))?;
                Ok(State { collection, revision, revisions: BTreeMap::new(), keys: 0, allowed: None })
            }
        }
    }

    /// Makes nodes apply the deletions that they hold, of keys that etcd does not have any more. Returns the revision up to which
    /// deletions are allowed; none if the target is not etcd.
    pub fn allow_deletion(&self, state: &State) -> anyhow::Result<Option<u64>> {
        let Target::Etcd(config) = self else { return Ok(None) };
        let put = async {
            let mut client = connect(config).await?;
            client.put(allow_deletion(config), state.revision.to_string(), None).await.map_err(etcd::error_of)
        };
        runtime()?.block_on(put).context("etcd did not accept the change")?;
        Ok(Some(state.revision as u64))
    }

    /// The number of transactions that these changes need.
    pub fn steps(&self, edits: &[Edit]) -> usize {
        match self {
            Target::Etcd(_) => edits.len().div_ceil(MAX_EDITS).max(1),
            Target::Server(_) => 1,
        }
    }

    /// Makes changes. Fails if the target has changed since `state` was read. Returns the revision that has the changes.
    ///
    /// Nodes do not hold the deletions of these changes. With `force`, they do not hold earlier deletions either.
    pub fn write(&self, state: &State, edits: &[Edit], force: bool, step: impl Fn()) -> anyhow::Result<u64> {
        match self {
            Target::Etcd(config) => runtime()?.block_on(write_etcd(config, state, edits, force, step)),
            Target::Server(server) => {
                let operations: Vec<Value> =
                    edits.iter().map(|edit| operation(state, edit)).collect::<anyhow::Result<_>>()?;
                let body = json!({"operations": operations, "if_revision": state.revision});
                let response = client::ask(server, Method::POST, "/v1/batch", Some(&body))?;
                step();
                response["revision"].as_u64().context("the server did not report the revision of the changes")
            }
        }
    }
}

/// The key that allows deletions.
fn allow_deletion(config: &Etcd) -> String {
    format!("{}{}", config.prefix, etcd::ALLOW_DELETION)
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
    match value.as_ref().map(Content::text) {
        Some(text) if key.kind == MASTER_FILES => {
            operation["text"] = json!(std::str::from_utf8(&text).with_context(|| format!("{} is not UTF-8", key.id))?);
        }
        Some(text) => operation["resource"] = serde_json::from_slice(&text)?,
        None => {}
    }
    Ok(operation)
}

async fn connect(config: &Etcd) -> anyhow::Result<Client> {
    let options = etcd::options(config)?;
    let no_etcd = || format!("cannot connect to etcd at {}", config.endpoints.join(", "));
    Client::connect(&config.endpoints, Some(options)).await.map_err(etcd::error_of).with_context(no_etcd)
}

async fn read_etcd(config: &Etcd) -> anyhow::Result<State> {
    let mut client = connect(config).await?;
    let (mut from, end) = (config.prefix.clone().into_bytes(), etcd::end_of(config.prefix.as_bytes()));
    let (mut edits, mut revisions, mut revision, mut keys) = (Vec::new(), BTreeMap::new(), 0, 0);
    let (allow_deletion, mut allowed) = (allow_deletion(config), None);
    let health = [etcd::HEALTH, etcd::HEALTH_REPORTS].map(|part| format!("{}{part}", config.prefix).into_bytes());
    let is_of_health = |key: &[u8]| health.iter().any(|part| key.starts_with(part));
    loop {
        let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS);
        if revision > 0 {
            options = options.with_revision(revision);
        }
        let response = client.get(from.clone(), Some(options)).await.map_err(etcd::error_of);
        let response = response.with_context(|| format!("etcd at {} cannot be read", config.endpoints.join(", ")))?;
        revision = response.header().map_or(revision, |header| if revision > 0 { revision } else { header.revision() });
        for pair in response.kvs() {
            if is_of_health(pair.key()) {
                continue;
            }
            keys += 1;
            if pair.key() == allow_deletion.as_bytes() {
                allowed = Some(etcd::allowed_until(pair));
                continue;
            }
            let name = pair.key_str().ok().and_then(|name| name.strip_prefix(&config.prefix)?.split_once('/'));
            let Some((kind, id)) = name.filter(|(_, id)| !id.is_empty()) else {
                let name = printable(&String::from_utf8_lossy(pair.key()));
                print_error(format_args!(
                    "ignored the etcd key `{name}`: it does not have the form `{}<kind>/<id>`",
                    config.prefix
                ));
                continue;
            };
            // A key of an unknown kind counts too, and can be deleted. Its kind is leaked: the process is short-lived.
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
    Ok(State { collection, revision, revisions, keys, allowed })
}

/// Orders edits so that every reference is valid after each transaction: additions and changes first, in the order in which kinds
/// refer to one another, and then deletions in the reverse order.
fn ordered(edits: &[Edit]) -> Vec<&Edit> {
    let rank = |edit: &&Edit| match edit.key.kind {
        MASTER_FILES => 0,
        kind => 1 + KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len()) as i32,
    };
    let (mut puts, mut deletes): (Vec<_>, Vec<_>) = edits.iter().partition(|edit| edit.value.is_some());
    puts.sort_by_key(rank);
    deletes.sort_by_key(|edit| -rank(edit));
    puts.into_iter().chain(deletes).collect()
}

/// Makes edits in transactions. A transaction fails if another client has changed any key since the list was read, or since the
/// transaction before. Three conditions show such changes:
///
/// - No key has a later revision. This shows keys that were put.
/// - The keys that a transaction can compare have their known revisions. This shows deleted keys, up to [`MAX_COMPARED`].
/// - The number of keys is as expected, before the first transaction and in each. This shows other deleted keys.
async fn write_etcd(config: &Etcd, state: &State, edits: &[Edit], force: bool, step: impl Fn()) -> anyhow::Result<u64> {
    let mut client = connect(config).await?;
    let prefix = config.prefix.as_str();
    let ranges: [_; RANGES] = etcd::ranges_of_resources(prefix);
    let name = |key: &Key| format!("{prefix}{}/{}", key.kind, key.id);
    let count = |end: &Vec<u8>| GetOptions::new().with_range(end.clone()).with_count_only();
    let (mut revision, mut known, mut keys) = (state.revision, state.revisions.clone(), state.keys);
    let mut found = 0;
    for (start, end) in &ranges {
        let part = client.get(start.clone(), Some(count(end))).await.map_err(etcd::error_of);
        found += part.context("etcd cannot be read")?.count();
    }
    if found != keys {
        bail!(CHANGED);
    }
    let ordered = ordered(edits);
    let allowed = state.allowed.unwrap_or(0).max(if force { state.revision as u64 } else { 0 });
    let mut is_allowing = state.allowed.is_some();
    for (at, some) in ordered.chunks(MAX_EDITS).enumerate() {
        let edited: BTreeSet<&Key> = some.iter().map(|edit| &edit.key).collect();
        let others = known.keys().filter(|key| !edited.contains(key));
        let has_known_revisions = edited
            .iter()
            .copied()
            .chain(others)
            .take(MAX_COMPARED)
            .map(|key| Compare::mod_revision(name(key), CompareOp::Equal, known.get(key).copied().unwrap_or(0)));
        let has_no_later_revision = ranges.iter().map(|(start, end)| {
            Compare::mod_revision(start.clone(), CompareOp::Less, revision + 1).with_range(end.clone())
        });
        let unchanged: Vec<Compare> = has_no_later_revision.chain(has_known_revisions).collect();
        let changes = some.iter().map(|Edit { key, value }| match value {
            Some(content) => TxnOp::put(name(key), content.text().to_vec(), None),
            None => TxnOp::delete(name(key), None),
        });
        // The user has confirmed the whole plan, so that nodes do not hold the deletions of its parts.
        let deletes = force || some.iter().any(|edit| edit.value.is_none());
        let allow = deletes.then(|| TxnOp::put(allow_deletion(config), allowed.to_string(), None));
        let counts = ranges.iter().map(|(start, end)| TxnOp::get(start.clone(), Some(count(end))));
        let operations: Vec<TxnOp> = counts.chain(changes).chain(allow).collect();
        let response = client.txn(Txn::new().when(unchanged).and_then(operations)).await;
        let response = response.map_err(etcd::error_of).context("etcd did not accept the change")?;
        if !response.succeeded() {
            let done = if at > 0 { format!("; {at} transactions were made before") } else { String::new() };
            bail!("{CHANGED}{done}");
        }
        let found = response.op_responses().into_iter().filter_map(|response| match response {
            TxnOpResponse::Get(found) => Some(found.count()),
            _ => None,
        });
        if found.sum::<i64>() != keys {
            bail!("{CHANGED}; {} transactions were made", at + 1);
        }
        revision = response.header().map_or(revision, |header| header.revision());
        for Edit { key, value } in some {
            let before = match value {
                Some(_) => known.insert(key.clone(), revision),
                None => known.remove(key),
            };
            keys += i64::from(value.is_some()) - i64::from(before.is_some());
        }
        if deletes && !std::mem::replace(&mut is_allowing, true) {
            keys += 1;
        }
        step();
    }
    Ok(revision as u64)
}
