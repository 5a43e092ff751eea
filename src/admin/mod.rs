//! The admin API: HTTP for probes, metrics, status, the cache, and changes of the manifest. It has a thread and a runtime of its
//! own, so that it does not delay queries.
//!
//! Slow clients do not delay probes: [`admission`] bounds connections, and semaphores bound large responses.

mod access;
mod access_keys;
mod admission;
mod aws;
mod events;
mod explain;
pub mod firewall;
pub mod health;
mod journal;
pub mod negative_trust_anchors;
pub mod openapi;
mod pages;
mod problem;
mod push;
mod stall;
pub mod status;
mod tls;

pub use access::{Access, CertificateRole, LocalAddress, Role};
pub use access_keys::AccessKeys;
pub use admission::MAX_CONNECTIONS;
pub use aws::AwsState;
pub use events::MAX_FOLLOWERS;
pub use push::etag;
pub use tls::Tls;

use crate::{
    clock::now,
    control_plane::counters::Counters,
    control_plane::{Message, etcd_writer::EtcdWriter, status::Status},
    firewall_lists::FirewallLists,
    forward::cache::Scope,
    health::Health,
    instruments::{Family, register_read},
    listen::Core,
    metrics::Metrics,
    wire::Name,
};
use admission::{Admission, AdmissionHandle, MAX_LONG_PER_CLIENT};
use anyhow::Context;
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Query, Request, State, rejection::QueryRejection},
    http::{Method, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use pages::{Content, page};
use problem::ApiError;
use prometheus::Registry;
use serde::Deserialize;
use serde_json::json;
use socket2::Socket;
use stall::StallTimeoutStream;
use std::{
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed, mpsc::Sender},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    task::yield_now,
    time::{sleep, timeout},
};

/// The maximum time until the header of a request has arrived.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time of a connection, which has one request, unless the request is long.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 15 });
/// The maximum time of a connection with a long request: a change, the manifest, or the stream of generations.
const LONG_TIMEOUT: Duration = Duration::from_secs(3600);
/// The maximum size of the header of a request, in octets.
const MAX_HEADER_OCTETS: usize = 16 << 10;
/// The maximum size of a body that is not a change, in octets.
const MAX_BODY_OCTETS: usize = 16 << 10;

/// The maximum number of metrics pages and status responses that are made or sent at the same time.
pub const MAX_SCRAPES: usize = 4;
/// The maximum number of manifests, resources, journals and cache lists that are made or sent at the same time.
pub const MAX_MANIFESTS: usize = 2;
/// The number of cache entries in a response: by default, and at most.
const DEFAULT_SHOWN_ENTRIES: usize = 20;
const MAX_SHOWN_ENTRIES: usize = 10_000;

/// The state that the admin API serves.
pub struct Admin {
    /// The server.
    pub core: Arc<Core>,
    /// The metrics page.
    pub metrics: Metrics,
    /// The counters of the control plane.
    pub counters: Counters,
    /// The state of the control plane.
    pub status: Arc<Status>,
    /// The health checks.
    pub health: Arc<Health>,
    /// The DNS Firewall lists that have a source.
    pub firewall_lists: Arc<FirewallLists>,
    /// Whether all sockets are bound.
    pub bound: AtomicBool,
    /// Whether a node is ready while it serves the saved manifest of an earlier run.
    pub ready_when_stale: bool,
    /// The check of tokens and certificates.
    pub access: Access,
    /// Whether the admin API accepts changes of the manifest.
    pub takes_changes: bool,
    /// The writer to etcd, if etcd is the source of the manifest.
    pub etcd: Option<Arc<EtcdWriter>>,
    /// The maximum size of the body of a change, in octets.
    pub max_body_octets: usize,
    /// The channel to the thread of the control plane.
    pub messages: Sender<Message>,
    /// The current generation.
    pub generations: watch::Receiver<u64>,
    /// Permits for streams of generations.
    pub followers: Arc<Semaphore>,
    /// Permits for metrics pages.
    pub scrapes: Arc<Semaphore>,
    /// Permits for whole manifests and cache lists.
    pub manifests: Arc<Semaphore>,
    /// The state of AWS's APIs.
    pub aws: AwsState,
}

/// Binds the admin address, or takes the socket that was inherited from another process.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> anyhow::Result<TcpListener> {
    let listener = inherited.map_or_else(|| TcpListener::bind(address), |socket| Ok(socket.into()));
    listener
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("admin.address {address}: cannot listen; choose another address"))
}

/// Registers the gauge of readiness.
pub fn register_readiness(registry: &Registry, is_ready: impl Fn() -> bool + Send + Sync + 'static) {
    let name = "zonal_ready";
    let read = move || Family::one_gauge(name, "1 while the node is ready, as in /ready", u8::from(is_ready()).into());
    register_read(registry, name, move || vec![read()]);
}

/// Starts the thread of the admin API. Accepts connections until `stop` is true, and serves them until the process ends. Serves
/// HTTPS with `tls`.
pub fn start(
    listener: TcpListener,
    admin: Arc<Admin>,
    tls: Option<Tls>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A strong reference would be a circle: the metrics page is a part of `admin`.
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
        Err(error) => return tracing::error!(%error, "admin API not started"),
    };
    let admission = Arc::new(Admission::default());
    let router = router(admin);
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let guard = admission.admit(client.ip()).await;
        let router = router.clone().layer(Extension(LocalAddress(local.ip())));
        let (tls, handle) = (tls.clone(), guard.handle().clone());
        tokio::spawn(guard.serve(async move {
            match tls {
                None => serve_one(stream, handle, router).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEADER_TIMEOUT, tls.acceptor.accept(stream)).await {
                        let role = tls.role(stream.get_ref().1.peer_certificates());
                        let router = role.map_or(router.clone(), |role| router.layer(Extension(role)));
                        serve_one(stream, handle, router).await;
                    }
                }
            }
        }));
        // The request of this connection is read before another connection can take its slot.
        yield_now().await;
    }
}

/// Serves a connection, which has one request. Errors of the client are not reported.
async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handle: AdmissionHandle,
    router: Router,
) {
    let service = TowerToHyperService::new(router.layer(Extension(handle.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        // A client that keeps its connection would take the slot of a probe.
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_OCTETS)
        .serve_connection(TokioIo::new(StallTimeoutStream::new(stream)), service);
    let mut connection = pin!(connection);
    if timeout(CONNECTION_TIMEOUT, &mut connection).await.is_err() && handle.is_long() {
        let _ = timeout(LONG_TIMEOUT, connection).await;
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(|| async { Json(json!({"live": true})) }))
        .route("/ready", get(ready))
        .route("/v1/status", get(status::show))
        .route("/v1/cache", get(show_cache).delete(flush_cache))
        .route("/v1/explain", post(explain::answer))
        .route("/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .route("/v1/events", get(events::follow))
        .route("/v1/health", get(health::list))
        .route("/v1/health/{*id}", get(health::show).put(health::set).delete(health::clear))
        .route("/v1/firewall/lists", get(firewall::lists))
        .route("/v1/firewall/observed", get(firewall::observed))
        .route("/v1/firewall/lists/{id}/refresh", post(firewall::refresh))
        .route("/v1/negative_trust_anchors", get(negative_trust_anchors::list))
        .route(
            "/v1/negative_trust_anchors/{id}",
            put(negative_trust_anchors::add).delete(negative_trust_anchors::remove),
        )
        .route("/v1/journals", get(journal::list))
        .route("/v1/journals/{id}", get(journal::show).delete(journal::drop_one))
        .route("/v1/manifest", get(push::manifest).put(push::put_manifest))
        .route("/v1/batch", post(push::batch))
        .route("/v1/{kind}", get(push::list))
        .route("/v1/{kind}/{id}", get(push::get).put(push::put).patch(push::patch).delete(push::delete))
        .fallback(aws::fallback)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_OCTETS))
        .layer(middleware::from_fn_with_state(admin.clone(), check_access))
        .with_state(admin)
}

/// Whether a request is long: it may take longer than [`CONNECTION_TIMEOUT`].
fn takes_long(request: &Request) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if aws::is_for_aws(request) {
        return !is_read;
    }
    match request.uri().path() {
        "/v1/events" | "/v1/manifest" => true,
        "/v1/explain" | "/v1/cache" => false,
        path => path.starts_with("/v1/") && !is_read,
    }
}

async fn check_access(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let handle = request.extensions().get::<AdmissionHandle>();
    handle.inspect(|handle| handle.set_requested());
    match admin.access.check(&request) {
        Ok(()) if takes_long(&request) && handle.is_some_and(|handle| !handle.try_extend()) => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("too many long requests; a client can have {MAX_LONG_PER_CLIENT} at the same time"),
        ),
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.scrapes.clone();
    page(&permits, move || {
        Ok(Content { media_type: "text/plain; version=0.0.4", tag: None, text: admin.metrics.text().into() })
    })
    .await
}

impl Admin {
    /// The reason why the node is not ready. None if it is ready.
    fn unready_reason(&self) -> Option<String> {
        let snapshot = self.core.snapshot.load();
        if snapshot.generation == 0 {
            Some("no manifest is loaded yet".into())
        } else if !self.bound.load(Relaxed) {
            Some("the sockets are not bound yet".into())
        } else if !self.ready_when_stale && snapshot.is_stale {
            Some(self.status.state().stale_reason())
        } else {
            None
        }
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

/// The names of the cache that a request is about; all, without a name.
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
            None if self.subtree => Err("subtree: a name is missing; add `name`".into()),
            None => Ok(None),
        }
    }
}

type CacheParameters = Result<Query<CacheQuery>, QueryRejection>;

async fn show_cache(State(admin): State<Arc<Admin>>, query: CacheParameters) -> Result<Response, ApiError> {
    let query = query.map_err(|error| error.body_text()).and_then(|Query(query)| Ok((query.scope()?, query)));
    let (scope, query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?;
    let max = query.limit.unwrap_or(DEFAULT_SHOWN_ENTRIES).min(MAX_SHOWN_ENTRIES);
    let permits = admin.manifests.clone();
    page(&permits, move || Content::json(&admin.core.forwarding.cache.show(scope.as_ref(), max, now()))).await
}

async fn flush_cache(State(admin): State<Arc<Admin>>, query: CacheParameters) -> Response {
    match query.map_err(|error| error.body_text()).and_then(|Query(query)| query.scope()) {
        Ok(scope) => {
            // Recursion forgets all names: the data of a name depends on the names above it.
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
    ApiError::new(status, error).into_response()
}

async fn not_found(uri: Uri) -> ApiError {
    let known = "/metrics, /live, /ready, or a path that /v1/openapi.json lists";
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {}; expected {known}", uri.path()))
}

async fn not_allowed(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{}: method not allowed; /v1/openapi.json lists the methods", uri.path()),
    )
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
        time::Instant,
    };

    fn admin() -> Admin {
        let (core, metrics, status, counters) =
            (tests::core(&tests::limits()), Metrics::new(), Arc::default(), Counters::new());
        core.register(&metrics.registry);
        counters.register(&metrics.registry, &core.snapshot, &status);
        let settings = crate::health::Settings::default();
        let health = Health::start(settings, &core.forwarding, watch::channel(0).1, &core.runtime).unwrap();
        let firewall_lists =
            FirewallLists::new(crate::firewall_lists::Settings::default(), core.snapshot.clone()).unwrap();
        Admin {
            health,
            firewall_lists,
            metrics,
            counters,
            core,
            status,
            bound: AtomicBool::new(false),
            ready_when_stale: true,
            access: Access::new(&crate::config::Admin::default()).unwrap(),
            takes_changes: false,
            etcd: None,
            max_body_octets: 1000,
            messages: std::sync::mpsc::channel().0,
            generations: watch::channel(0).1,
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)),
            manifests: Arc::new(Semaphore::new(MAX_MANIFESTS)),
            aws: AwsState::default(),
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
    fn closes_scrapers_that_do_not_read() {
        let admin = Arc::new(admin());
        // The page is larger than the buffers of the kernel.
        let long = "x".repeat(1000);
        let expiry = gauges("zonal_certificate_expiry_timestamp_seconds", "expiry", "certificate", &[]);
        register(&admin.metrics.registry, expiry.clone());
        for number in 0..20_000 {
            expiry.with_label_values(&[&format!("{long}{number}")]).set(1);
        }
        let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let (address, (_going, stop)) = (listener.local_addr().unwrap(), watch::channel(false));
        start(listener, admin.clone(), None, stop).unwrap();
        let silent: Vec<TcpStream> = (0..2 * MAX_SCRAPES)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let asked = std::time::Instant::now();
        assert!(ask(address, "/live").contains(r#"{"live":true}"#));
        assert!(asked.elapsed() < CONNECTION_TIMEOUT, "a probe does not wait for scrapers");
        // A scraper that reads gets the complete page.
        while !ask(address, "/metrics").contains("zonal_generation 1\n") {
            assert!(asked.elapsed() < Duration::from_secs(60));
        }
        for mut stream in silent {
            let mut page = Vec::new();
            // A reset, or the end before the end of the page.
            let read = stream.read_to_end(&mut page);
            assert!(read.is_err() || page.len() < 20_000_000, "{read:?}");
        }
        let free = || admin.scrapes.available_permits() == MAX_SCRAPES;
        while !free() {
            assert!(asked.elapsed() < Duration::from_secs(60), "a permit is not released");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn probes_do_not_wait_for_slow_clients() {
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
        live("silent clients");
        drop(silent);
        let head = "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        let mut slow: Vec<TcpStream> = (0..80).map(|_| connect(head)).collect();
        live("slow clients");
        let mut reply = String::new();
        slow.last_mut().unwrap().read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("a client can have 32"), "{reply}");
        drop(slow);
        let held: Vec<_> = (0..MAX_MANIFESTS).map(|_| admin.manifests.clone().try_acquire_owned().unwrap()).collect();
        let mut fetching = connect("GET /v1/manifest HTTP/1.1\r\nHost: localhost\r\n\r\n");
        fetching.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(fetching.read(&mut [0; 9]).is_err(), "the permits are used up");
        live("a client that waits for a manifest");
        drop(held);
        let mut reply = String::new();
        fetching.set_read_timeout(None).unwrap();
        fetching.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }

    #[test]
    fn answers_probes_status_cache_explain_and_metrics() {
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
            ("/v1/cache?subtree=true", "400 Bad Request", "subtree: a name is missing; add `name`"),
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
            ("/v1/cache?subtree=true", "400 Bad Request", "subtree: a name is missing; add `name`"),
            ("/v1/cache?name=example&subtree=true", "200 OK", r#"{"flushed":1}"#),
            ("/v1/cache", "200 OK", r#"{"flushed":0}"#),
        ] {
            let reply = request(address, "DELETE", path);
            assert!(reply.starts_with(&format!("HTTP/1.1 {code}\r\n")) && reply.contains(text), "{path}: {reply}");
        }
        for (body, code, text) in [
            (r#"{"from": "10.1.0.5", "name": "a.example", "resolve": true}"#, "200 OK", r#""type":"A""#),
            (r#"{"from": "10.1.0.5", "name": "a..example"}"#, "400 Bad Request", r#""detail":"`a..example`: "#),
            (r#"{"from": "10.1.0.5", "name": "a", "type": "NO"}"#, "400 Bad Request", "`NO` is not a record type"),
            (r#"{"from": "here", "name": "a"}"#, "422 Unprocessable Entity", r#""detail":""#),
            ("{", "400 Bad Request", r#""detail":""#),
            (&" ".repeat(MAX_BODY_OCTETS + 1), "413 Payload Too Large", r#""detail":""#),
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
        assert!(reply.contains("connection: close\r\n"), "no client keeps its permit: {reply}");
        admin.bound.store(true, Relaxed);
        assert!(ask(address, "/ready").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(ask(address, "/v1/status").contains(r#""ready":true,"#));
        assert!(ask(address, "/metrics").contains("\nzonal_ready 1\n"));
        assert!(bind(address, None).unwrap_err().to_string().contains(&address.to_string()));
        // A connected client is served after the stop.
        let mut last = TcpStream::connect(address).unwrap();
        assert!(
            ask(address, "/ready").starts_with("HTTP/1.1 200 OK\r\n"),
            "the connection above is accepted before this one"
        );
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
