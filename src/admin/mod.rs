//! The admin HTTP: metrics, liveness, readiness and status, and what is served, on a thread and a runtime of its own.

mod access;
mod events;
pub mod health;
mod journal;
pub mod openapi;
mod patient;
mod places;
mod problem;
mod push;
mod tls;

pub use access::{Access, Arrival, Certified, Role};
pub use events::FOLLOWERS;
pub use places::CONNECTIONS;
pub use push::etag;
pub use tls::Tls;

use crate::{
    clock::now,
    control_plane::counters::Counters,
    control_plane::{
        Message,
        status::{HeldDeletions, Status},
    },
    explain,
    forward::cache::Scope,
    health::Health,
    instruments::{Family, register_read},
    listen::Core,
    metrics::Metrics,
    wire::Name,
};
use anyhow::Context;
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Query, Request, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderName, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::HEXLOWER;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use patient::Patient;
use places::{LONG_PER_CLIENT, Places, Turn};
use problem::Trouble;
use prometheus::Registry;
use serde::Deserialize;
use serde_json::json;
use socket2::Socket;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed, mpsc::Sender},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::yield_now,
    time::{sleep, timeout},
};

/// How long a request's header may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives, which has one request, if that is not one that takes its time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 15 });
/// How long one lives that sends a change, follows the generations, or gets a manifest.
const LONG_TIMEOUT: Duration = Duration::from_secs(3600);
/// What a request's header may have, in octets.
const HEADER_SIZE: usize = 16 << 10;
/// What its body may have, in octets.
const BODY_SIZE: usize = 16 << 10;

/// Pages of metrics that are made or on their way at the same time.
pub const SCRAPES: usize = 4;
/// Whole manifests, and lists of what is in the cache, that are made or on their way at the same time.
pub const MANIFESTS: usize = 2;
/// How much of one of these is handed out at once, in octets.
const PIECE: usize = 64 << 10;
/// What is large may take this long to come or go, and a second more for as many octets.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(30);
const OCTETS_PER_SECOND: usize = 32 << 10;

/// How many entries of the cache are shown when nobody says how many, and how many at most.
const SHOWN_ENTRIES: usize = 20;
const MOST_SHOWN_ENTRIES: usize = 10_000;

/// What the admin HTTP tells of.
pub struct Admin {
    /// The server.
    pub core: Arc<Core>,
    /// The page of metrics.
    pub metrics: Metrics,
    /// The counters of the control plane.
    pub counters: Counters,
    /// What the control plane last did.
    pub status: Arc<Status>,
    /// The health checks.
    pub health: Arc<Health>,
    /// Whether all sockets are bound.
    pub bound: AtomicBool,
    /// Whether a node is ready that serves what was kept of an earlier run.
    pub ready_when_stale: bool,
    /// Who may do what.
    pub access: Access,
    /// Whether what is served can be changed here.
    pub takes_changes: bool,
    /// The largest body of a change, in octets.
    pub max_body_octets: usize,
    /// Where changes go.
    pub messages: Sender<Message>,
    /// The generations that are served.
    pub generations: watch::Receiver<u64>,
    /// Places for those who follow them.
    pub followers: Arc<Semaphore>,
    /// Places for those who read metrics.
    pub scrapes: Arc<Semaphore>,
    /// Places for those who get the whole manifest.
    pub manifests: Arc<Semaphore>,
}

/// Binds the admin address, or takes the socket that was inherited from another process.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> anyhow::Result<TcpListener> {
    let listener = inherited.map_or_else(|| TcpListener::bind(address), |socket| Ok(socket.into()));
    listener
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("cannot serve the admin API on {address}: choose another `admin.address`"))
}

/// Registers whether the node is ready.
pub fn register_readiness(registry: &Registry, is_ready: impl Fn() -> bool + Send + Sync + 'static) {
    let name = "zonal_ready";
    let read =
        move || Family::one_gauge(name, "1 while the node is ready, as /ready says", u8::from(is_ready()).into());
    register_read(registry, name, move || vec![read()]);
}

/// Serves those who connect until `stop` is true, with `tls` by HTTPS; those who are connected until the process ends.
pub fn start(
    listener: TcpListener,
    admin: Arc<Admin>,
    tls: Option<Tls>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The page of metrics is a part of what it tells of.
    let watched = Arc::downgrade(&admin);
    let is_ready = move || watched.upgrade().is_some_and(|admin| admin.unready_reason().is_none());
    register_readiness(&admin.metrics.registry, is_ready);
    let serve = async move {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = serve(listener, admin, tls) => {}
        }
        std::future::pending::<()>().await;
    };
    std::thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(serve))?;
    Ok(())
}

async fn serve(listener: TcpListener, admin: Arc<Admin>, tls: Option<Tls>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the admin API is not served: {error}"),
    };
    let places = Arc::new(Places::default());
    let router = router(admin);
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let place = places.take(client.ip()).await;
        let router = router.clone().layer(Extension(Arrival(local.ip())));
        let (tls, turn) = (tls.clone(), place.turn().clone());
        tokio::spawn(place.serve(async move {
            match tls {
                None => serve_one(stream, turn, router).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEADER_TIMEOUT, tls.acceptor.accept(stream)).await {
                        let role = tls.role(stream.get_ref().1.peer_certificates());
                        let router = role.map_or(router.clone(), |role| router.layer(Extension(role)));
                        serve_one(stream, turn, router).await;
                    }
                }
            }
        }));
        // What it asks is heard before another one can have its place.
        yield_now().await;
    }
}

/// Serves a connection, which has one request. A client that goes away or asks nonsense is its own concern.
async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, turn: Turn, router: Router) {
    let service = TowerToHyperService::new(router.layer(Extension(turn.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        // Clients that stay would keep the place from a probe.
        .keep_alive(false)
        .max_buf_size(HEADER_SIZE)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = pin!(connection);
    if timeout(CONNECTION_TIMEOUT, &mut connection).await.is_err() && turn.is_long() {
        let _ = timeout(LONG_TIMEOUT, connection).await;
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(|| async { Json(json!({"live": true})) }))
        .route("/ready", get(ready))
        .route("/v1/status", get(status))
        .route("/v1/cache", get(show_cache).delete(flush_cache))
        .route("/v1/explain", post(explain))
        .route("/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .route("/v1/events", get(events::follow))
        .route("/v1/health", get(health::list))
        .route("/v1/health/{*id}", get(health::show).put(health::set).delete(health::clear))
        .route("/v1/journals", get(journal::list))
        .route("/v1/journals/{id}", get(journal::show).delete(journal::drop_one))
        .route("/v1/manifest", get(push::manifest).put(push::put_manifest))
        .route("/v1/batch", post(push::batch))
        .route("/v1/{kind}", get(push::list))
        .route("/v1/{kind}/{id}", get(push::get).put(push::put).patch(push::patch).delete(push::delete))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_SIZE))
        .layer(middleware::from_fn_with_state(admin.clone(), check_access))
        .with_state(admin)
}

/// Whether a request may take longer than others.
fn takes_long(request: &Request) -> bool {
    let is_look = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match request.uri().path() {
        "/v1/events" | "/v1/manifest" => true,
        "/v1/explain" | "/v1/cache" => false,
        path => path.starts_with("/v1/") && !is_look,
    }
}

async fn check_access(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let turn = request.extensions().get::<Turn>();
    turn.inspect(|turn| turn.has_asked());
    match admin.access.check(&request) {
        Ok(()) if takes_long(&request) && turn.is_some_and(|turn| !turn.takes_long()) => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("too much is being sent or fetched; of one client {LONG_PER_CLIENT} requests at most"),
        ),
        Ok(()) => next.run(request).await,
        Err(trouble) => trouble.into_response(),
    }
}

/// How long so many octets may take to come or go.
fn transfer_time(octets: usize) -> Duration {
    TRANSFER_PATIENCE + Duration::from_secs((octets / OCTETS_PER_SECOND) as u64)
}

/// What is large and on its way, which has a place among the few that may be.
struct Page(String, #[expect(dead_code, reason = "it is there to be dropped")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Such a page, and its length. It is handed out in pieces; those who do not read are few before others wait, and are cut off.
fn page(text: String, place: OwnedSemaphorePermit) -> ((HeaderName, String), Body) {
    let page = Bytes::from_owner(Page(text, place));
    let length = (header::CONTENT_LENGTH, page.len().to_string());
    let due = Instant::now() + transfer_time(page.len());
    let pieces = (0..page.len()).step_by(PIECE).map(move |start| match Instant::now() < due {
        true => Ok(page.slice(start..page.len().min(start + PIECE))),
        false => Err(io::Error::from(io::ErrorKind::TimedOut)),
    });
    (length, Body::from_stream(futures_util::stream::iter(pieces)))
}

/// The page is made on a thread of its own, so that probes are answered meanwhile.
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let ended = |error: String| failed(StatusCode::SERVICE_UNAVAILABLE, error);
    let place = match admin.scrapes.clone().acquire_owned().await {
        Ok(place) => place,
        Err(error) => return ended(error.to_string()),
    };
    match tokio::task::spawn_blocking(move || page(admin.metrics.text(), place)).await {
        Ok((length, body)) => {
            let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4".to_string());
            ([kind, length], body).into_response()
        }
        Err(error) => ended(error.to_string()),
    }
}

impl Admin {
    /// Why no client is to be sent here; none if they may be.
    fn unready_reason(&self) -> Option<&'static str> {
        let snapshot = self.core.snapshot.load();
        if snapshot.generation == 0 {
            Some("no manifest is loaded yet")
        } else if !self.bound.load(Relaxed) {
            Some("the sockets are not bound yet")
        } else if !self.ready_when_stale && snapshot.is_stale {
            Some(stale_reason(self.status.state().kept.is_incomplete))
        } else {
            None
        }
    }
}

/// Why what is served is stale.
fn stale_reason(is_incomplete: bool) -> &'static str {
    match is_incomplete {
        true => {
            "the state directory was damaged, so that what is served may be older than what was acknowledged; push the \
             whole manifest"
        }
        false => "what is served was kept of an earlier run, and the control plane has not been heard of since",
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.unready_reason() {
        None => Json(json!({"ready": true})).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))).into_response()
        }
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    let snapshot = admin.core.snapshot.load_full();
    let state = admin.status.state().clone();
    let unready_reason = admin.unready_reason();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": String::from_utf8_lossy(&snapshot.node.nsid),
        "ready": unready_reason.is_none(),
        "unready_reason": unready_reason,
        "generation": snapshot.generation,
        "digest": HEXLOWER.encode(&snapshot.digest),
        "since": state.since,
        "stale": snapshot.is_stale,
        "stale_reason": snapshot.is_stale.then(|| stale_reason(state.kept.is_incomplete)),
        "revision": state.kept.position.revision,
        "source": state.source,
        "set_aside": state.all_set_aside(),
        "held_deletions": HeldDeletions::of(&state.kept.held),
        "state_directory": state.state_directory,
        "age_seconds": admin.counters.age().as_secs(),
        "last_error": state.last_error,
        "warnings": state.warnings,
        "missing_tsig_keys": state.missing_tsig_keys,
        "resources": state.resources,
        "zones_transferred": admin.core.transfers.inward.report(&snapshot),
        "isolated_since": admin.health.isolated_since(),
        "listeners": state.listeners,
    }))
}

/// Which names of the cache are meant: without a name, all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheQuery {
    name: Option<String>,
    #[serde(default)]
    subtree: bool,
    limit: Option<usize>,
}

impl CacheQuery {
    fn scope(&self) -> Result<Option<Scope>, String> {
        match &self.name {
            Some(text) => match Name::absolute(text) {
                Ok(name) => Ok(Some(Scope::new(&name, self.subtree))),
                Err(error) => Err(format!("name: `{text}`: {error}")),
            },
            None if self.subtree => Err("subtree: it needs a name".into()),
            None => Ok(None),
        }
    }
}

type CacheParameters = Result<Query<CacheQuery>, QueryRejection>;

async fn show_cache(State(admin): State<Arc<Admin>>, query: CacheParameters) -> Response {
    let query = query.map_err(|error| error.body_text()).and_then(|Query(query)| Ok((query.scope()?, query)));
    match query {
        Ok((scope, query)) => {
            let most = query.limit.unwrap_or(SHOWN_ENTRIES).min(MOST_SHOWN_ENTRIES);
            let place = match admin.manifests.clone().acquire_owned().await {
                Ok(place) => place,
                Err(error) => return failed(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            };
            let shown = admin.core.forwarding.cache.show(scope.as_ref(), most, now());
            match serde_json::to_string(&shown) {
                Ok(text) => {
                    let (length, body) = page(text, place);
                    ([(header::CONTENT_TYPE, "application/json".to_string()), length], body).into_response()
                }
                Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        Err(error) => bad_request(error),
    }
}

async fn flush_cache(State(admin): State<Arc<Admin>>, query: CacheParameters) -> Response {
    match query.map_err(|error| error.body_text()).and_then(|Query(query)| query.scope()) {
        Ok(scope) => {
            // The servers that are asked from the root on are asked for everything anew, as one name stands on others.
            if let Some(recursion) = &admin.core.forwarding.recursion {
                recursion.forget();
            }
            let flushed = admin.core.forwarding.cache.flush(scope.as_ref());
            Json(json!({"flushed": flushed})).into_response()
        }
        Err(error) => bad_request(error),
    }
}

fn bad_request(error: String) -> Response {
    failed(StatusCode::BAD_REQUEST, error)
}

fn failed(status: StatusCode, error: String) -> Response {
    Trouble::new(status, error).into_response()
}

/// Explains an answer: see [`explain::Request`] for the body.
async fn explain(State(admin): State<Arc<Admin>>, body: Result<Json<explain::Request>, JsonRejection>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return failed(rejection.status(), rejection.body_text()),
    };
    let question = match explain::Question::new(&request) {
        Ok(question) => question,
        Err(error) => return failed(StatusCode::BAD_REQUEST, error),
    };
    // Others are asked where they are asked for clients.
    let forwarding = admin.core.forwarding.clone();
    let explaining = async move { explain::of_server(&forwarding, &question, request.resolve).await };
    let explained = admin.core.runtime.spawn(explaining).await;
    match explained {
        Ok(explanation) => Json(explanation).into_response(),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end".into()),
    }
}

async fn not_found(uri: Uri) -> Trouble {
    let known = "/metrics, /live, /ready and what /v1/openapi.json lists";
    Trouble::new(StatusCode::NOT_FOUND, format!("there is no {}; there are {known}", uri.path()))
}

async fn not_allowed(uri: Uri) -> Trouble {
    Trouble::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take this method", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::known::{Entry, Key, Question},
        instruments::{gauges, register},
        listen::tests,
        snapshot::routes::RouteId,
        wire::{codes::ede, query::LookupName},
    };
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    fn admin() -> Admin {
        let (core, metrics, status, counters) =
            (tests::core(&tests::limits()), Metrics::new(), Arc::default(), Counters::new());
        core.register(&metrics.registry);
        counters.register(&metrics.registry, &core.snapshot, &status);
        let settings = crate::health::Settings::default();
        let health = Health::start(settings, &core.forwarding, watch::channel(0).1, &core.runtime).unwrap();
        Admin {
            health,
            metrics,
            counters,
            core,
            status,
            bound: AtomicBool::new(false),
            ready_when_stale: true,
            access: Access::new(&crate::config::Admin::default()).unwrap(),
            takes_changes: false,
            max_body_octets: 1000,
            messages: std::sync::mpsc::channel().0,
            generations: watch::channel(0).1,
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            manifests: Arc::new(Semaphore::new(MANIFESTS)),
        }
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        request(address, "GET", path)
    }

    fn request(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn scrapers_that_do_not_read_are_cut_off() {
        let admin = Arc::new(admin());
        // More than the kernel takes of it.
        let long = "x".repeat(1000);
        let expiry = gauges("zonal_certificate_expiry_timestamp_seconds", "expiry", "certificate", &[]);
        register(&admin.metrics.registry, expiry.clone());
        for number in 0..20_000 {
            expiry.with_label_values(&[&format!("{long}{number}")]).set(1);
        }
        let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let (address, (_going, stop)) = (listener.local_addr().unwrap(), watch::channel(false));
        start(listener, admin.clone(), None, stop).unwrap();
        let silent: Vec<TcpStream> = (0..2 * SCRAPES)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let asked = std::time::Instant::now();
        assert!(ask(address, "/live").contains(r#"{"live":true}"#));
        assert!(asked.elapsed() < CONNECTION_TIMEOUT, "a probe does not wait for them");
        // Those who read have their turn, and get it whole.
        while !ask(address, "/metrics").contains("zonal_generation 1\n") {
            assert!(asked.elapsed() < Duration::from_secs(60));
        }
        for mut stream in silent {
            let mut page = Vec::new();
            // A reset, or the end before the end of the page.
            let read = stream.read_to_end(&mut page);
            assert!(read.is_err() || page.len() < 20_000_000, "{read:?}");
        }
        let free = || admin.scrapes.available_permits() == SCRAPES;
        while !free() {
            assert!(asked.elapsed() < Duration::from_secs(60), "all places are free again");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn probes_wait_for_nobody() {
        let admin = Arc::new(admin());
        let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let (address, (_going, stop)) = (listener.local_addr().unwrap(), watch::channel(false));
        start(listener, admin.clone(), None, stop).unwrap();
        let live = |why: &str| {
            let asked = Instant::now();
            assert!(ask(address, "/live").contains(r#"{"live":true}"#), "{why}");
            assert!(asked.elapsed() < Duration::from_millis(1500), "{why}: {:?}", asked.elapsed());
        };
        let connect = |text: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream
        };
        let silent: Vec<TcpStream> = (0..300).map(|_| connect("")).collect();
        live("silent ones");
        drop(silent);
        let head = "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        let mut slow: Vec<TcpStream> = (0..80).map(|_| connect(head)).collect();
        live("slow ones");
        let mut told = String::new();
        slow.last_mut().unwrap().read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("of one client 32"), "{told}");
        drop(slow);
        let held: Vec<_> = (0..MANIFESTS).map(|_| admin.manifests.clone().try_acquire_owned().unwrap()).collect();
        let mut fetching = connect("GET /v1/manifest HTTP/1.1\r\nHost: localhost\r\n\r\n");
        fetching.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(fetching.read(&mut [0; 9]).is_err(), "few are made at the same time");
        live("one that waits for a manifest");
        drop(held);
        let mut told = String::new();
        fetching.set_read_timeout(None).unwrap();
        fetching.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }

    #[test]
    fn pages() {
        let admin = Arc::new(admin());
        let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, is_stopped) = watch::channel(false);
        start(listener, admin.clone(), None, is_stopped).unwrap();
        let cases = [
            ("/live", "200 OK", r#"{"live":true}"#),
            ("/ready", "503 Service Unavailable", "the sockets are not bound yet"),
            ("/v1/status", "200 OK", r#""generation":1"#),
            ("/v1/status", "200 OK", r#""last_error":null"#),
            ("/v1/status", "200 OK", r#""ready":false"#),
            ("/v1/status", "200 OK", r#""unready_reason":"the sockets are not bound yet""#),
            ("/metrics", "200 OK", "\nzonal_ready 0\n"),
            ("/metrics", "200 OK", "zonal_generation 1"),
            ("/metrics", "200 OK", "text/plain; version=0.0.4"),
            ("/v1/cache", "200 OK", r#""entries":1"#),
            ("/v1/cache?name=Fail.example", "200 OK", r#""state":"failure""#),
            ("/v1/cache?name=example", "200 OK", r#""found":0"#),
            ("/v1/cache?name=example&subtree=true", "200 OK", r#""found":1"#),
            ("/v1/cache?name=example&subtree=true&limit=0", "200 OK", r#""list":[]"#),
            ("/v1/cache?name=a..b", "400 Bad Request", "name: `a..b`: "),
            ("/v1/cache?subtree=true", "400 Bad Request", "subtree: it needs a name"),
            ("/v1/cache?names=a", "400 Bad Request", "unknown field `names`"),
            ("/nothing", "404 Not Found", "there is no /nothing"),
        ];
        let question = LookupName::new(b"\x04fail\x07example\0").unwrap();
        let question = Question { name: &question, qtype: 1, dnssec_ok: false, checking_disabled: false };
        let key = Key::new(RouteId(1), &question);
        admin.core.forwarding.cache.insert_failure(
            "rule-1",
            key,
            Entry::failure(ede::NO_REACHABLE_AUTHORITY, "nobody answered", now(), 0),
        );
        for (path, code, text) in cases {
            let reply = ask(address, path);
            assert!(reply.starts_with(&format!("HTTP/1.1 {code}\r\n")) && reply.contains(text), "{path}: {reply}");
        }
        for (path, code, text) in [
            ("/v1/cache?name=example", "200 OK", r#"{"flushed":0}"#),
            ("/v1/cache?subtree=true", "400 Bad Request", "subtree: it needs a name"),
            ("/v1/cache?name=example&subtree=true", "200 OK", r#"{"flushed":1}"#),
            ("/v1/cache", "200 OK", r#"{"flushed":0}"#),
        ] {
            let reply = request(address, "DELETE", path);
            assert!(reply.starts_with(&format!("HTTP/1.1 {code}\r\n")) && reply.contains(text), "{path}: {reply}");
        }
        for (body, code, text) in [
            (r#"{"from": "10.1.0.5", "name": "a.example", "resolve": true}"#, "200 OK", r#""type":"A""#),
            (r#"{"from": "10.1.0.5", "name": "a..example"}"#, "400 Bad Request", r#""detail":"`a..example`: "#),
            (r#"{"from": "10.1.0.5", "name": "a", "type": "NO"}"#, "400 Bad Request", "`NO` is no type"),
            (r#"{"from": "here", "name": "a"}"#, "422 Unprocessable Entity", r#""detail":""#),
            ("{", "400 Bad Request", r#""detail":""#),
            (&" ".repeat(BODY_SIZE + 1), "413 Payload Too Large", r#""detail":""#),
        ] {
            let length = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "POST /v1/explain HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n{body}").unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with(&format!("HTTP/1.1 {code}\r\n")) && reply.contains(text), "{body}: {reply}");
        }
        let mut stays = TcpStream::connect(address).unwrap();
        write!(stays, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reply = String::new();
        stays.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("connection: close\r\n"), "no client keeps its place: {reply}");
        admin.bound.store(true, Relaxed);
        assert!(ask(address, "/ready").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(ask(address, "/v1/status").contains(r#""ready":true,"#));
        assert!(ask(address, "/metrics").contains("\nzonal_ready 1\n"));
        assert!(bind(address, None).unwrap_err().to_string().contains(&address.to_string()));
        // Whoever is connected is served to the end.
        let mut last = TcpStream::connect(address).unwrap();
        assert!(ask(address, "/ready").starts_with("HTTP/1.1 200 OK\r\n"), "it is accepted in front of this");
        stop.send_replace(true);
        while TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        write!(last, "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reply = String::new();
        last.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    }
}
