//! Resources, master files and the whole manifest: read and changed over HTTP.
//!
//! A change goes to the thread of the control plane. The response is sent when the change is saved and served.

use super::{
    Admin,
    pages::{Content, page, transfer_time},
    problem::{ApiError, problem},
};
use crate::{
    control_plane::{
        Message,
        change::{AcceptedChange, Change, ChangeError, Position, Prepare, PreparedChange, Trial},
    },
    manifest::{
        KINDS, Problem, ResourceChange,
        collection::{self, Collection, Edit, Key, MASTER_FILES},
        document::{self, Node},
        protection,
    },
};
use axum::{
    Json,
    body::Body,
    extract::{Path, Query, RawQuery, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64URL_NOPAD;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    path::Path as FilePath,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, time::timeout};

/// The maximum time until the next piece of a body arrives.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of items on a page: by default, and at most.
const DEFAULT_PAGE_ITEMS: usize = 100;
const MAX_PAGE_ITEMS: usize = 1000;

type ApiResult = Result<Response, ApiError>;
type Shared = State<Arc<Admin>>;

/// A change of a resource or master file.
struct Operation {
    key: Key,
    action: Action,
    condition: Condition,
}

enum Action {
    /// Replace it with this.
    Put(Arc<[u8]>),
    /// Merge this into it (RFC 7396).
    Patch(Value),
    /// Delete it.
    Delete,
}

/// The condition of a change.
#[derive(Clone, Debug, Default, PartialEq)]
enum Condition {
    #[default]
    None,
    /// The resource exists and has one of these entity tags. Without tags, it exists.
    Match(Vec<String>),
    /// The resource does not exist.
    Absent,
}

/// The entity tag of a resource: half of its digest, in quotes. None if the resource does not exist.
pub fn etag(collection: &Collection, key: &Key) -> Option<String> {
    let digest = collection.digest(key)?;
    Some(format!("\"{}\"", data_encoding::HEXLOWER.encode(&digest[..16])))
}

impl Condition {
    /// The condition in the headers of a request (RFC 9110, 13.1).
    fn of(headers: &HeaderMap) -> Result<Condition, ApiError> {
        let value = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
        match (value(header::IF_MATCH), value(header::IF_NONE_MATCH)) {
            (None, None) => Ok(Condition::None),
            (Some("*"), None) => Ok(Condition::Match(Vec::new())),
            (Some(tags), None) => Ok(Condition::Match(tags.split(',').map(|tag| tag.trim().to_string()).collect())),
            (None, Some("*")) => Ok(Condition::Absent),
            _ => Err(bad("expected `If-Match` with entity tags, or `If-None-Match: *`")),
        }
    }

    fn check(&self, collection: &Collection, key: &Key) -> Result<(), ChangeError> {
        let found = etag(collection, key);
        let (is_met, found) = match (self, &found) {
            (Condition::None, _) => (true, "there"),
            (Condition::Absent, found) => (found.is_none(), "there"),
            (Condition::Match(_), None) => (false, "not there"),
            (Condition::Match(tags), Some(found)) => (tags.is_empty() || tags.contains(found), found.as_str()),
        };
        let refusal = || ChangeError::Precondition(format!("{}/{} is {found}", key.kind, key.id));
        if is_met { Ok(()) } else { Err(refusal()) }
    }
}

impl Operation {
    fn edit(&self, collection: &Collection) -> Result<Edit, ChangeError> {
        let key = self.key.clone();
        self.condition.check(collection, &key)?;
        let missing = || ChangeError::NotFound(format!("there is no {}/{}", key.kind, key.id));
        let value = match &self.action {
            Action::Put(text) => Some(text.clone()),
            Action::Delete => {
                collection.text(&key).ok_or_else(missing)?;
                None
            }
            Action::Patch(patch) => {
                let text = collection.text(&key).ok_or_else(missing)?;
                let mut value = serde_json::from_slice(&text)
                    .map_err(|error| ChangeError::Malformed(format!("the current resource cannot be read: {error}")))?;
                json_patch::merge(&mut value, patch);
                Some(value.to_string().into_bytes().into())
            }
        };
        if let Some(text) = &value {
            collection::check(&key, text).map_err(ChangeError::Problems)?;
        }
        Ok(Edit { key, value: value.map(collection::Content::Text) })
    }
}

/// Refuses a change of protected record sets.
pub(super) fn check_protection(collection: &Collection, edits: &[Edit]) -> Result<(), ChangeError> {
    match protection::violations(collection, edits).into_iter().next() {
        Some((key, refusal)) => Err(ChangeError::Conflict(format!("{}/{}: {refusal}", key.kind, key.id))),
        None => Ok(()),
    }
}

/// Prepares changes, which are made in order, all or none. With `if_revision`, the manifest must have that revision.
fn prepare(operations: Vec<Operation>, if_revision: Option<u64>) -> Prepare {
    Box::new(move |collection: &Collection, position: &Position| {
        if let Some(expected) = if_revision.filter(|expected| *expected != position.revision) {
            let found = position.revision;
            return Err(ChangeError::Precondition(format!(
                "the revision is {found}; expected {expected}: another client has changed the manifest"
            )));
        }
        let mut changed = collection.clone();
        let mut edits = Vec::with_capacity(operations.len());
        for operation in &operations {
            let mut edit = operation.edit(&changed)?;
            changed.apply(std::slice::from_ref(&edit));
            // The resource is read once.
            if let Some(resource) = changed.manifest().resource(edit.key.kind, &edit.key.id) {
                edit.value = Some(collection::Content::Resource(resource));
            }
            edits.push(edit);
        }
        check_protection(collection, &edits)?;
        let position = Position { revision: position.revision + 1, ..position.clone() };
        Ok(PreparedChange { edits, position, deletions: None, is_whole: false })
    })
}

/// Prepares a whole manifest, with the generation number of its sender.
fn prepare_whole(wanted: Collection, generation: u64) -> Prepare {
    Box::new(move |collection: &Collection, position: &Position| {
        let edits = wanted.edits_from(collection);
        let conflict = |what: &str| Err(ChangeError::Conflict(format!("generation {generation} is {what}")));
        if generation < position.whole {
            return conflict(&format!("older than generation {}, which was pushed before", position.whole));
        }
        if generation == position.whole {
            return match edits.is_empty() {
                true => Ok(PreparedChange { edits, position: position.clone(), deletions: None, is_whole: true }),
                false => conflict("already served with different content: use a higher generation"),
            };
        }
        check_protection(collection, &edits)?;
        Ok(PreparedChange {
            edits,
            position: Position { revision: position.revision + 1, whole: generation, ..position.clone() },
            deletions: None,
            is_whole: true,
        })
    })
}

/// The query parameters of a change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeQuery {
    #[serde(default)]
    dry_run: bool,
}

impl ChangeQuery {
    fn read(query: RawQuery) -> Result<ChangeQuery, ApiError> {
        let uri = format!("/?{}", query.0.unwrap_or_default())
            .parse()
            .map_err(|_| bad("the query parameters are malformed"))?;
        let query = Query::<ChangeQuery>::try_from_uri(&uri).map_err(|error| bad(error.body_text()))?;
        Ok(query.0)
    }
}

/// Makes a change, or tries it with `dry_run`.
async fn submit(admin: &Admin, prepare: Prepare, change_query: ChangeQuery) -> Result<AcceptedChange, ApiError> {
    if !admin.takes_changes {
        let detail = "this node does not accept changes by HTTP: `control_plane` of zonal.yaml is not `push`";
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, detail));
    }
    let ends = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    Ok(send(admin, prepare, change_query.dry_run.then_some(Trial::Answers), false).await.ok_or_else(ends)??)
}

/// Sends a change to the control plane, and waits for its result. None if the server is about to end.
pub(super) async fn send(
    admin: &Admin,
    prepare: Prepare,
    trial: Option<Trial>,
    is_strict: bool,
) -> Option<Result<AcceptedChange, ChangeError>> {
    let (reply, answer) = oneshot::channel();
    let change = Change { prepare, is_fact: false, trial, is_strict, since: Instant::now(), reply: Some(reply) };
    admin.messages.send(Message::Change(change)).ok()?;
    answer.await.ok()
}

/// The result of a change, as JSON.
fn change_to_json(accepted: &AcceptedChange, is_trial: bool) -> Value {
    let change = |difference: &ResourceChange| {
        let change = match (&difference.old, &difference.new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        json!({"kind": difference.kind, "id": difference.id, "change": change})
    };
    let mut change = json!({
        "generation": accepted.generation,
        "revision": accepted.position.revision,
        "changes": accepted.differences.iter().map(change).collect::<Vec<_>>(),
        "problems": accepted.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    if is_trial {
        change["dry_run"] = json!(true);
        change["answers"] = json!(accepted.answers);
    }
    change
}

fn bad(detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, detail)
}

/// Reads the whole body. Fails if it is too slow or too large.
async fn octets(admin: &Admin, body: Body) -> Result<Vec<u8>, ApiError> {
    octets_up_to(admin.max_body_octets, "; raise `admin.max_body_octets`", body).await
}

/// Reads a whole body of at most `max` octets. `help` completes the error of a larger one.
pub(super) async fn octets_up_to(max: usize, help: &str, body: Body) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut octets = Vec::new();
    let begin = Instant::now();
    loop {
        let left = transfer_time(octets.len()).saturating_sub(begin.elapsed());
        let piece = timeout(BODY_TIMEOUT.min(left), stream.next()).await;
        let piece =
            piece.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body does not arrive in time"))?;
        let Some(piece) = piece else { return Ok(octets) };
        let piece = piece.map_err(|_| bad("the body is incomplete"))?;
        if octets.len() + piece.len() > max {
            let detail = format!("the body is larger than {max} octets{help}");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        octets.extend_from_slice(&piece);
    }
}

/// Reads the body, if it has one of these media types.
async fn body(admin: &Admin, request: Request, types: &[&str]) -> Result<Vec<u8>, ApiError> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !types.contains(&&*given) {
        let found = if given.is_empty() { "is missing".into() } else { format!("is `{given}`") };
        let detail = format!(
            "`Content-Type` {found}: expected {}; send the header, as with `curl -H 'Content-Type: {}' --data-binary @FILE`",
            types.join(" or "),
            types.first().unwrap_or(&"application/json")
        );
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "`Content-Encoding`: only `identity` is supported";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    octets(admin, request.into_body()).await
}

fn key(kind: &str, id: &str) -> Result<Key, ApiError> {
    Key::new(kind, id).ok_or_else(|| unknown_kind(kind))
}

fn unknown_kind(kind: &str) -> ApiError {
    let detail = format!("there is no kind `{kind}`; expected {} or {MASTER_FILES}", KINDS.join(", "));
    ApiError::new(StatusCode::NOT_FOUND, detail)
}

/// Reads a body as JSON.
fn node(octets: &[u8]) -> Result<Node, ApiError> {
    let (node, faults) = document::read(octets, true);
    let file: Arc<FilePath> = FilePath::new("body").into();
    if !faults.is_empty() {
        let problems = faults.into_iter().map(|fault| Problem::of_text(fault, &file)).collect();
        return Err(ApiError::with(StatusCode::BAD_REQUEST, problems));
    }
    node.ok_or_else(|| bad("the body is empty"))
}

/// `GET /v1/<kind>`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    page_token: Option<String>,
}

pub(super) async fn list(
    State(admin): Shared,
    Path(kind): Path<String>,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> ApiResult {
    let query = query.map_err(|error| bad(error.body_text()))?.0;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE_ITEMS);
    if !(1..=MAX_PAGE_ITEMS).contains(&limit) {
        return Err(bad(format!("limit: expected 1 to {MAX_PAGE_ITEMS}")));
    }
    let after = query.page_token.map(|token| BASE64URL_NOPAD.decode(token.as_bytes()).ok()).map(|octets| {
        octets
            .and_then(|octets| String::from_utf8(octets).ok())
            .ok_or_else(|| bad("page_token: not a token of this API"))
    });
    let after = after.transpose()?;
    let kind = Key::new(&kind, "x").ok_or_else(|| unknown_kind(&kind))?.kind;
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let collection = admin.status.state().persisted.collection.clone();
        Content::json(&list_page(&collection, kind, after.as_deref(), limit))
    })
    .await
}

/// A page of the resources of a kind, from the identifier after `after` on.
fn list_page(collection: &Collection, kind: &'static str, after: Option<&str>, limit: usize) -> Value {
    let mut items = Vec::new();
    let mut last = None;
    let mut take = |id: &str, item: &dyn Fn() -> Value| {
        if items.len() == limit {
            return false;
        }
        let mut item = item();
        item["id"] = json!(id);
        item["etag"] = json!(Key::new(kind, id).and_then(|key| etag(collection, &key)));
        items.push(item);
        last = Some(id.to_string());
        true
    };
    let mut has_more = false;
    if kind == MASTER_FILES {
        let is_after = |id: &&String| after.is_none_or(|after| id.as_str() > after);
        for id in collection.master_files().keys().filter(is_after) {
            has_more = !take(id, &|| json!({}));
            if has_more {
                break;
            }
        }
    } else {
        collection.manifest().each_of(kind, after, |id, resource| {
            let value = || serde_json::from_slice(&resource.to_json()).unwrap_or(Value::Null);
            has_more = !take(id, &|| json!({"resource": value()}));
            !has_more
        });
    }
    let mut page = json!({"items": items});
    if let Some(last) = last.filter(|_| has_more) {
        page["next_page_token"] = json!(BASE64URL_NOPAD.encode(last.as_bytes()));
    }
    page
}

/// `GET /v1/<kind>/<id>`
pub(super) async fn get(State(admin): Shared, Path((kind, id)): Path<(String, String)>) -> ApiResult {
    let key = key(&kind, &id)?;
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let collection = admin.status.state().persisted.collection.clone();
        let missing = || ApiError::new(StatusCode::NOT_FOUND, format!("there is no {kind}/{id}"));
        let text = collection.text(&key).ok_or_else(missing)?.to_vec();
        let media_type = if key.kind == MASTER_FILES { "text/dns" } else { "application/json" };
        Ok(Content { media_type, tag: etag(&collection, &key), text })
    })
    .await
}

/// Changes one resource. The response has its new entity tag.
async fn change_one(admin: &Admin, operation: Operation, change_query: ChangeQuery) -> ApiResult {
    let key = operation.key.clone();
    let is_trial = change_query.dry_run;
    let accepted = submit(admin, prepare(vec![operation], None), change_query).await?;
    let mut response = Json(change_to_json(&accepted, is_trial)).into_response();
    let tag = etag(&admin.status.state().persisted.collection, &key).and_then(|tag| tag.parse().ok());
    if let Some(tag) = tag.filter(|_| !is_trial) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// `PUT /v1/<kind>/<id>`
pub(super) async fn put(
    State(admin): Shared,
    Path((kind, id)): Path<(String, String)>,
    query: RawQuery,
    request: Request,
) -> ApiResult {
    let (key, change_query) = (key(&kind, &id)?, ChangeQuery::read(query)?);
    let condition = Condition::of(request.headers())?;
    let text = match key.kind {
        MASTER_FILES => body(&admin, request, &["text/dns", "text/plain", "application/octet-stream"]).await?,
        _ => body(&admin, request, &["application/json"]).await?,
    };
    change_one(&admin, Operation { key, action: Action::Put(text.into()), condition }, change_query).await
}

/// `PATCH /v1/<kind>/<id>`
pub(super) async fn patch(
    State(admin): Shared,
    Path((kind, id)): Path<(String, String)>,
    query: RawQuery,
    request: Request,
) -> ApiResult {
    let (key, change_query) = (key(&kind, &id)?, ChangeQuery::read(query)?);
    if key.kind == MASTER_FILES {
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "a master file has no PATCH; PUT the whole file"));
    }
    let condition = Condition::of(request.headers())?;
    let text = body(&admin, request, &["application/merge-patch+json", "application/json"]).await?;
    let patch = serde_json::from_slice(&text).map_err(|error| bad(format!("the patch: {error}")))?;
    change_one(&admin, Operation { key, action: Action::Patch(patch), condition }, change_query).await
}

/// `DELETE /v1/<kind>/<id>`
pub(super) async fn delete(
    State(admin): Shared,
    Path((kind, id)): Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
) -> ApiResult {
    let (key, change_query) = (key(&kind, &id)?, ChangeQuery::read(query)?);
    let condition = Condition::of(&headers)?;
    change_one(&admin, Operation { key, action: Action::Delete, condition }, change_query).await
}

/// One operation of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchItem {
    method: String,
    kind: String,
    id: String,
    resource: Option<Box<serde_json::value::RawValue>>,
    text: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<BatchItem>,
    if_revision: Option<u64>,
}

impl BatchItem {
    fn operation(self) -> Result<Operation, String> {
        let key = Key::new(&self.kind, &self.id).ok_or_else(|| format!("there is no kind `{}`", self.kind))?;
        let is_file = key.kind == MASTER_FILES;
        let action = match (&*self.method, self.resource, self.text) {
            ("DELETE", None, None) => Action::Delete,
            ("PUT", Some(resource), None) if !is_file => Action::Put(resource.get().as_bytes().into()),
            ("PUT", None, Some(text)) if is_file => Action::Put(text.into_bytes().into()),
            ("PATCH", Some(resource), None) if !is_file => {
                Action::Patch(serde_json::from_str(resource.get()).map_err(|error| error.to_string())?)
            }
            _ => {
                return Err(
                    "expected PUT or PATCH with `resource` (for a master file: PUT with `text`), or DELETE".into()
                );
            }
        };
        let condition = match (self.if_match.as_deref(), self.if_none_match.as_deref()) {
            (None, None) => Condition::None,
            (Some("*"), None) => Condition::Match(Vec::new()),
            (Some(tag), None) => Condition::Match(vec![tag.into()]),
            (None, Some("*")) => Condition::Absent,
            _ => return Err("expected `if_match` with an entity tag, or `if_none_match` with `*`".into()),
        };
        Ok(Operation { key, action, condition })
    }
}

/// `POST /v1/batch`
pub(super) async fn batch(State(admin): Shared, query: RawQuery, request: Request) -> ApiResult {
    let change_query = ChangeQuery::read(query)?;
    let text = body(&admin, request, &["application/json"]).await?;
    let batch: Batch = serde_json::from_slice(&text).map_err(|error| bad(format!("the batch: {error}")))?;
    let operations = batch.operations.into_iter().enumerate();
    let operations: Result<Vec<Operation>, ApiError> = operations
        .map(|(at, item)| item.operation().map_err(|error| bad(format!("operations[{at}]: {error}"))))
        .collect();
    let is_trial = change_query.dry_run;
    let accepted = submit(&admin, prepare(operations?, batch.if_revision), change_query).await?;
    Ok(Json(change_to_json(&accepted, is_trial)).into_response())
}

/// `GET /v1/manifest`: the manifest in the form that PUT takes.
pub(super) async fn manifest(State(admin): Shared) -> ApiResult {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let state = admin.status.state().persisted.clone();
        let mut whole = serde_json::to_value(state.collection.manifest()).unwrap_or_default();
        if let Value::Object(kinds) = &mut whole {
            kinds.retain(|_, resources| resources.as_object().is_none_or(|resources| !resources.is_empty()));
        }
        whole["generation"] = json!(state.position.whole);
        if !state.collection.master_files().is_empty() {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            let files =
                state.collection.master_files().iter().map(|(name, octets)| (name.clone(), json!(text(octets))));
            whole["master_files"] = files.collect::<serde_json::Map<_, _>>().into();
        }
        let tag = Some(format!("\"{}\"", state.position.revision));
        Ok(Content { tag, ..Content::json(&whole)? })
    })
    .await
}

/// `PUT /v1/manifest`
pub(super) async fn put_manifest(State(admin): Shared, query: RawQuery, request: Request) -> ApiResult {
    let change_query = ChangeQuery::read(query)?;
    let text = body(&admin, request, &["application/json"]).await?;
    let read = tokio::task::spawn_blocking(move || read_whole(&text)).await;
    let (wanted, generation) = read.map_err(|_| bad("the body cannot be read"))??;
    let is_trial = change_query.dry_run;
    let accepted = submit(&admin, prepare_whole(wanted, generation), change_query).await?;
    Ok(Json(change_to_json(&accepted, is_trial)).into_response())
}

fn read_whole(text: &[u8]) -> Result<(Collection, u64), ApiError> {
    let node = node(text)?;
    let (wanted, generation) = Collection::read_whole(&node, &FilePath::new("body").into())
        .map_err(|problems| ApiError::with(StatusCode::UNPROCESSABLE_ENTITY, problems))?;
    let missing = || bad("generation: the member is missing; expected a number above the generation of the last push");
    Ok((wanted, generation.ok_or_else(missing)?))
}
