//! What is served, to read and to change: resources, master files, and the manifest as a whole.
//!
//! A change is handed to the control plane's thread, and answered when it is kept and served.

use super::{
    Admin, page,
    problem::{Trouble, problem},
    transfer_time,
};
use crate::{
    control_plane::{
        Message,
        change::{Accepted, Change, Position, Prepare, Ready, Refusal},
    },
    manifest::{
        KINDS, Problem, ResourceChange,
        collection::{self, Collection, Edit, Key, MASTER_FILES},
        document::{self, Node},
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

/// How long the next piece of a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Resources on a page when nobody says how many, and at most.
const PAGE: usize = 100;
const MOST_ON_PAGE: usize = 1000;

type Answer = Result<Response, Trouble>;
type Shared = State<Arc<Admin>>;

/// What is to become of a resource or master file.
struct Operation {
    key: Key,
    action: Action,
    condition: Condition,
}

enum Action {
    /// It is this.
    Put(Arc<[u8]>),
    /// It is changed by this (RFC 7396).
    Patch(Value),
    /// It goes.
    Delete,
}

/// What it has to be before.
#[derive(Clone, Debug, Default, PartialEq)]
enum Condition {
    #[default]
    None,
    /// There, with one of these entity tags; with none of them: there at all.
    Match(Vec<String>),
    /// Not there.
    Absent,
}

/// `"…"`, for a resource as it is: half of its digest.
pub fn etag(collection: &Collection, key: &Key) -> Option<String> {
    let digest = collection.digest(key)?;
    Some(format!("\"{}\"", data_encoding::HEXLOWER.encode(&digest[..16])))
}

impl Condition {
    /// From the headers of RFC 9110, 13.1.
    fn of(headers: &HeaderMap) -> Result<Condition, Trouble> {
        let value = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
        match (value(header::IF_MATCH), value(header::IF_NONE_MATCH)) {
            (None, None) => Ok(Condition::None),
            (Some("*"), None) => Ok(Condition::Match(Vec::new())),
            (Some(tags), None) => Ok(Condition::Match(tags.split(',').map(|tag| tag.trim().to_string()).collect())),
            (None, Some("*")) => Ok(Condition::Absent),
            _ => Err(bad("expected `If-Match` with entity tags, or `If-None-Match: *`")),
        }
    }

    fn check(&self, collection: &Collection, key: &Key) -> Result<(), Refusal> {
        let found = etag(collection, key);
        let (is_met, found) = match (self, &found) {
            (Condition::None, _) => (true, "there"),
            (Condition::Absent, found) => (found.is_none(), "there"),
            (Condition::Match(_), None) => (false, "not there"),
            (Condition::Match(tags), Some(found)) => (tags.is_empty() || tags.contains(found), found.as_str()),
        };
        let refusal = || Refusal::Precondition(format!("{}/{} is {found}", key.kind, key.id));
        if is_met { Ok(()) } else { Err(refusal()) }
    }
}

impl Operation {
    fn edit(&self, collection: &Collection) -> Result<Edit, Refusal> {
        let key = self.key.clone();
        self.condition.check(collection, &key)?;
        let missing = || Refusal::NotFound(format!("there is no {}/{}", key.kind, key.id));
        let value = match &self.action {
            Action::Put(text) => Some(text.clone()),
            Action::Delete => {
                collection.text(&key).ok_or_else(missing)?;
                None
            }
            Action::Patch(patch) => {
                let text = collection.text(&key).ok_or_else(missing)?;
                let mut value = serde_json::from_slice(&text)
                    .map_err(|error| Refusal::Malformed(format!("what it is cannot be read: {error}")))?;
                json_patch::merge(&mut value, patch);
                Some(value.to_string().into_bytes().into())
            }
        };
        if let Some(text) = &value {
            collection::check(&key, text).map_err(Refusal::Problems)?;
        }
        Ok(Edit { key, value })
    }
}

/// All of these, one after the other, or none. With a revision only of what is of that.
fn prepare(operations: Vec<Operation>, if_revision: Option<u64>) -> Prepare {
    Box::new(move |collection: &Collection, position: &Position| {
        if let Some(expected) = if_revision.filter(|expected| *expected != position.revision) {
            let found = position.revision;
            return Err(Refusal::Precondition(format!(
                "the revision is {found}, and {expected} was expected: somebody else has changed it"
            )));
        }
        let mut collection = collection.clone();
        let mut edits = Vec::with_capacity(operations.len());
        for operation in &operations {
            let edit = operation.edit(&collection)?;
            collection.apply(std::slice::from_ref(&edit));
            edits.push(edit);
        }
        let position = Position { revision: position.revision + 1, ..position.clone() };
        Ok(Ready { edits, position, deletions: None, is_whole: false })
    })
}

/// A whole manifest, with the generation that it is by its sender's count.
fn prepare_whole(wanted: Collection, generation: u64) -> Prepare {
    Box::new(move |collection: &Collection, position: &Position| {
        let edits = wanted.edits_from(collection);
        let conflict = |what: &str| Err(Refusal::Conflict(format!("generation {generation} is {what}")));
        if generation < position.whole {
            return conflict(&format!("older than {}, which was pushed before", position.whole));
        }
        if generation == position.whole {
            return match edits.is_empty() {
                true => Ok(Ready { edits, position: position.clone(), deletions: None, is_whole: true }),
                false => conflict("other than what is served as that: give it a higher one"),
            };
        }
        Ok(Ready {
            edits,
            position: Position { revision: position.revision + 1, whole: generation, ..position.clone() },
            deletions: None,
            is_whole: true,
        })
    })
}

/// Parameters of all that changes something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trial {
    #[serde(default)]
    dry_run: bool,
}

impl Trial {
    fn read(query: RawQuery) -> Result<Trial, Trouble> {
        let uri =
            format!("/?{}", query.0.unwrap_or_default()).parse().map_err(|_| bad("the parameters are malformed"))?;
        let query = Query::<Trial>::try_from_uri(&uri).map_err(|error| bad(error.body_text()))?;
        Ok(query.0)
    }
}

/// Has a change made, or tried.
async fn make(admin: &Admin, prepare: Prepare, trial: Trial) -> Result<Accepted, Trouble> {
    if !admin.takes_changes {
        let detail = "what is served comes from elsewhere: `control_plane` of zonal.yaml is not `push`";
        return Err(Trouble::new(StatusCode::METHOD_NOT_ALLOWED, detail));
    }
    let (reply, answer) = oneshot::channel();
    let change = Change { prepare, is_fact: false, dry_run: trial.dry_run, since: Instant::now(), reply: Some(reply) };
    let ends = || Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    admin.messages.send(Message::Change(change)).map_err(|_| ends())?;
    Ok(answer.await.map_err(|_| ends())??)
}

/// What came of a change.
fn told(accepted: &Accepted, is_trial: bool) -> Value {
    let change = |difference: &ResourceChange| {
        let change = match (&difference.old, &difference.new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        json!({"kind": difference.kind, "id": difference.id, "change": change})
    };
    let mut told = json!({
        "generation": accepted.generation,
        "revision": accepted.position.revision,
        "changes": accepted.differences.iter().map(change).collect::<Vec<_>>(),
        "problems": accepted.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    if is_trial {
        told["dry_run"] = json!(true);
        told["answers"] = json!(accepted.answers);
    }
    told
}

fn bad(detail: impl Into<String>) -> Trouble {
    Trouble::new(StatusCode::BAD_REQUEST, detail)
}

/// The whole body. One that does not go on, or is too large, is given up.
async fn octets(admin: &Admin, body: Body) -> Result<Vec<u8>, Trouble> {
    let mut stream = body.into_data_stream();
    let mut octets = Vec::new();
    let begin = Instant::now();
    loop {
        let left = transfer_time(octets.len()).saturating_sub(begin.elapsed());
        let piece = timeout(BODY_PATIENCE.min(left), stream.next()).await;
        let piece = piece.map_err(|_| {
            Trouble::new(StatusCode::REQUEST_TIMEOUT, "the rest of the body does not come, or too slowly")
        })?;
        let Some(piece) = piece else { return Ok(octets) };
        let piece = piece.map_err(|_| bad("the body ends too early"))?;
        if octets.len() + piece.len() > admin.max_body_octets {
            let detail = format!("the body is larger than {} octets: `admin.max_body_octets`", admin.max_body_octets);
            return Err(Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        octets.extend_from_slice(&piece);
    }
}

/// The body, if it is of one of these types.
async fn body(admin: &Admin, request: Request, types: &[&str]) -> Result<Vec<u8>, Trouble> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !types.contains(&&*given) {
        let found = if given.is_empty() { "is missing".into() } else { format!("is `{given}`") };
        let detail = format!(
            "`Content-Type` {found}: expected {}; send the header, as with `curl -H 'Content-Type: {}' --data-binary @FILE`",
            types.join(" or "),
            types.first().unwrap_or(&"application/json")
        );
        return Err(Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "`Content-Encoding`: bodies are taken as they are";
        return Err(Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    octets(admin, request.into_body()).await
}

fn key(kind: &str, id: &str) -> Result<Key, Trouble> {
    Key::new(kind, id).ok_or_else(|| unknown_kind(kind))
}

fn unknown_kind(kind: &str) -> Trouble {
    let detail = format!("there is no `{kind}`; there are {} and {MASTER_FILES}", KINDS.join(", "));
    Trouble::new(StatusCode::NOT_FOUND, detail)
}

/// The problems of a body that is no JSON.
fn node(octets: &[u8]) -> Result<Node, Trouble> {
    let (node, faults) = document::read(octets, true);
    let file: Arc<FilePath> = FilePath::new("body").into();
    if !faults.is_empty() {
        let problems = faults.into_iter().map(|fault| Problem::of_text(fault, &file)).collect();
        return Err(Trouble::with(StatusCode::BAD_REQUEST, problems));
    }
    node.ok_or_else(|| bad("the body is empty"))
}

/// `GET /v1/<kind>`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    page_token: Option<String>,
}

pub(super) async fn list(
    State(admin): Shared,
    Path(kind): Path<String>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let page = page.map_err(|error| bad(error.body_text()))?.0;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MOST_ON_PAGE).contains(&limit) {
        return Err(bad(format!("limit: expected 1 to {MOST_ON_PAGE}")));
    }
    let after = page.page_token.map(|token| BASE64URL_NOPAD.decode(token.as_bytes()).ok()).map(|octets| {
        octets.and_then(|octets| String::from_utf8(octets).ok()).ok_or_else(|| bad("page_token: it is none of ours"))
    });
    let after = after.transpose()?;
    let kind = Key::new(&kind, "x").ok_or_else(|| unknown_kind(&kind))?.kind;
    let collection = admin.status.state().kept.collection.clone();
    let mut items = Vec::new();
    let mut last = None;
    let mut take = |id: &str, item: &dyn Fn() -> Value| {
        if items.len() == limit {
            return false;
        }
        let mut item = item();
        item["id"] = json!(id);
        item["etag"] = json!(Key::new(kind, id).and_then(|key| etag(&collection, &key)));
        items.push(item);
        last = Some(id.to_string());
        true
    };
    let mut has_more = false;
    if kind == MASTER_FILES {
        let behind = |id: &&String| after.as_deref().is_none_or(|after| id.as_str() > after);
        for id in collection.master_files().keys().filter(behind) {
            has_more = !take(id, &|| json!({}));
            if has_more {
                break;
            }
        }
    } else {
        collection.manifest().each_of(kind, after.as_deref(), |id, resource| {
            let value = || serde_json::from_slice(&resource.to_json()).unwrap_or(Value::Null);
            has_more = !take(id, &|| json!({"resource": value()}));
            !has_more
        });
    }
    let mut page = json!({"items": items});
    if let Some(last) = last.filter(|_| has_more) {
        page["next_page_token"] = json!(BASE64URL_NOPAD.encode(last.as_bytes()));
    }
    Ok(Json(page).into_response())
}

/// `GET /v1/<kind>/<id>`
pub(super) async fn get(State(admin): Shared, Path((kind, id)): Path<(String, String)>) -> Answer {
    let key = key(&kind, &id)?;
    let collection = admin.status.state().kept.collection.clone();
    let missing = || Trouble::new(StatusCode::NOT_FOUND, format!("there is no {kind}/{id}"));
    let text = collection.text(&key).ok_or_else(missing)?;
    let content = if key.kind == MASTER_FILES { "text/dns" } else { "application/json" };
    let tag = etag(&collection, &key).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, content), (header::ETAG, &tag)], text.to_vec()).into_response())
}

/// Makes a change of one resource. The entity tag of what it is now comes with the answer.
async fn change_one(admin: &Admin, operation: Operation, trial: Trial) -> Answer {
    let key = operation.key.clone();
    let is_trial = trial.dry_run;
    let accepted = make(admin, prepare(vec![operation], None), trial).await?;
    let mut response = Json(told(&accepted, is_trial)).into_response();
    let tag = etag(&admin.status.state().kept.collection, &key).and_then(|tag| tag.parse().ok());
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
) -> Answer {
    let (key, trial) = (key(&kind, &id)?, Trial::read(query)?);
    let condition = Condition::of(request.headers())?;
    let text = match key.kind {
        MASTER_FILES => body(&admin, request, &["text/dns", "text/plain", "application/octet-stream"]).await?,
        _ => body(&admin, request, &["application/json"]).await?,
    };
    change_one(&admin, Operation { key, action: Action::Put(text.into()), condition }, trial).await
}

/// `PATCH /v1/<kind>/<id>`
pub(super) async fn patch(
    State(admin): Shared,
    Path((kind, id)): Path<(String, String)>,
    query: RawQuery,
    request: Request,
) -> Answer {
    let (key, trial) = (key(&kind, &id)?, Trial::read(query)?);
    if key.kind == MASTER_FILES {
        return Err(Trouble::new(StatusCode::METHOD_NOT_ALLOWED, "a master file is put as a whole"));
    }
    let condition = Condition::of(request.headers())?;
    let text = body(&admin, request, &["application/merge-patch+json", "application/json"]).await?;
    let patch = serde_json::from_slice(&text).map_err(|error| bad(format!("the patch: {error}")))?;
    change_one(&admin, Operation { key, action: Action::Patch(patch), condition }, trial).await
}

/// `DELETE /v1/<kind>/<id>`
pub(super) async fn delete(
    State(admin): Shared,
    Path((kind, id)): Path<(String, String)>,
    query: RawQuery,
    headers: HeaderMap,
) -> Answer {
    let (key, trial) = (key(&kind, &id)?, Trial::read(query)?);
    let condition = Condition::of(&headers)?;
    change_one(&admin, Operation { key, action: Action::Delete, condition }, trial).await
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
                    "expected PUT or PATCH with `resource` (of a master file: PUT with `text`), or DELETE".into()
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
pub(super) async fn batch(State(admin): Shared, query: RawQuery, request: Request) -> Answer {
    let trial = Trial::read(query)?;
    let text = body(&admin, request, &["application/json"]).await?;
    let batch: Batch = serde_json::from_slice(&text).map_err(|error| bad(format!("the batch: {error}")))?;
    let operations = batch.operations.into_iter().enumerate();
    let operations: Result<Vec<Operation>, Trouble> = operations
        .map(|(at, item)| item.operation().map_err(|error| bad(format!("operations[{at}]: {error}"))))
        .collect();
    let is_trial = trial.dry_run;
    let accepted = make(&admin, prepare(operations?, batch.if_revision), trial).await?;
    Ok(Json(told(&accepted, is_trial)).into_response())
}

/// `GET /v1/manifest`: in the form in which it is put.
pub(super) async fn manifest(State(admin): Shared) -> Answer {
    let is_ending = || Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    let place = admin.manifests.clone().acquire_owned().await.map_err(|_| is_ending())?;
    let kept = admin.status.state().kept.clone();
    // It may be large, and takes its time.
    let work = move || {
        let mut whole = serde_json::to_value(kept.collection.manifest()).unwrap_or_default();
        if let Value::Object(kinds) = &mut whole {
            kinds.retain(|_, resources| resources.as_object().is_none_or(|resources| !resources.is_empty()));
        }
        whole["generation"] = json!(kept.position.whole);
        if !kept.collection.master_files().is_empty() {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            let files = kept.collection.master_files().iter().map(|(name, octets)| (name.clone(), json!(text(octets))));
            whole["master_files"] = files.collect::<serde_json::Map<_, _>>().into();
        }
        (kept.position.revision, page(whole.to_string(), place))
    };
    let (revision, (length, body)) = tokio::task::spawn_blocking(work).await.map_err(|_| is_ending())?;
    let kind = (header::CONTENT_TYPE, "application/json".to_string());
    Ok(([kind, (header::ETAG, format!("\"{revision}\"")), length], body).into_response())
}

/// `PUT /v1/manifest`
pub(super) async fn put_manifest(State(admin): Shared, query: RawQuery, request: Request) -> Answer {
    let trial = Trial::read(query)?;
    let text = body(&admin, request, &["application/json"]).await?;
    let read = tokio::task::spawn_blocking(move || read_whole(&text)).await;
    let (wanted, generation) = read.map_err(|_| bad("the body cannot be read"))??;
    let is_trial = trial.dry_run;
    let accepted = make(&admin, prepare_whole(wanted, generation), trial).await?;
    Ok(Json(told(&accepted, is_trial)).into_response())
}

fn read_whole(text: &[u8]) -> Result<(Collection, u64), Trouble> {
    let node = node(text)?;
    let (wanted, generation) = Collection::read_whole(&node, &FilePath::new("body").into())
        .map_err(|problems| Trouble::with(StatusCode::UNPROCESSABLE_ENTITY, problems))?;
    let missing = || bad("generation: the member is missing: a number that is higher than that of the last push");
    Ok((wanted, generation.ok_or_else(missing)?))
}
