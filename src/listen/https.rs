//! DNS over HTTPS (RFC 8484): requests of all HTTP versions, and connections of HTTP/1.1 and HTTP/2. Connections of HTTP/3 are in
//! [`quic`](super::quic).

mod frames;

use super::{
    bodies::{self, CONNECTION_WINDOW, ConnectionBudget, STREAM_WINDOW},
    connections::{ConnectionGuard, ConnectionState, Phase},
    proxy,
    responder::{MAX_MESSAGE_OCTETS, Responder},
    stream::DRAIN_IDLE,
    unread::CountedReply,
};
use crate::{
    answer::Client,
    wire::{rdata::rtype, response::Response as Message},
};
use data_encoding::BASE64URL_NOPAD;
use frames::HttpStream;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Bytes, Incoming},
    header::{ALLOW, ALT_SVC, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue},
    http::request::Parts,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until, timeout},
};

/// The path of queries.
const PATH: &str = "/dns-query";
const MEDIA_TYPE: &str = "application/dns-message";
/// The maximum length of the header of a request, in octets.
pub const MAX_HEADER_OCTETS: usize = 16 << 10;
/// The maximum number of concurrent requests of a connection.
pub const MAX_STREAMS: u32 = 256;
/// The time for which clients remember the HTTP/3 server, in seconds.
const ALTERNATIVE_AGE: u32 = 86_400;

/// The value of the header `Alt-Svc` (RFC 7838).
pub type Alternative = HeaderValue;

/// Announces HTTP/3 on this port.
pub fn alternative(port: u16) -> Option<Alternative> {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma={ALTERNATIVE_AGE}")).ok()
}

/// A request without a query that zonal can answer: the status and the text of the response.
pub struct RequestError(pub StatusCode, pub &'static str);

/// Answers a request. Reads `body` only if it may contain a query. `header` is the PROXY header of the connection.
pub async fn respond(
    responder: &Arc<Responder>,
    state: &Arc<ConnectionState>,
    client: Client,
    header: &[u8],
    parts: &Parts,
    body: impl Future<Output = Result<Bytes, RequestError>>,
) -> Response<Bytes> {
    let reply = match query(parts, body).await {
        Ok(query) => responder.respond(state, client, &proxy::prepend(header, &query)).await.ok_or(UNREAD),
        Err(error) => Err(error),
    };
    let (reply, unread) = match reply {
        Ok((part, unread)) => (part.reply, unread),
        Err(error) => {
            let mut response = refuse(error);
            if parts.method == Method::HEAD {
                response.body_mut().clear();
            }
            return response;
        }
    };
    if reply.is_empty() {
        return refuse(RequestError(StatusCode::BAD_REQUEST, "the message is not a DNS query"));
    }
    // Shared caches must not store the response, because other clients may have other views.
    let cache_control = format!("private, max-age={}", freshness(&reply));
    let mut response = Response::new(Bytes::from_owner(CountedReply { reply, unread }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(value) = HeaderValue::from_str(&cache_control) {
        headers.insert(CACHE_CONTROL, value);
    }
    set_content_length(&mut response);
    response
}

/// The DNS message in a request.
async fn query(parts: &Parts, body: impl Future<Output = Result<Bytes, RequestError>>) -> Result<Bytes, RequestError> {
    if parts.uri.path() != PATH {
        return Err(RequestError(StatusCode::NOT_FOUND, "the path of queries is /dns-query"));
    }
    match parts.method {
        Method::GET => {
            let mut parameters = parts.uri.query().unwrap_or_default().split('&');
            let dns = parameters
                .find_map(|parameter| parameter.strip_prefix("dns="))
                .ok_or(RequestError(StatusCode::BAD_REQUEST, "the parameter `dns` is missing"))?;
            let query = BASE64URL_NOPAD.decode(dns.as_bytes()).map_err(|_| {
                RequestError(StatusCode::BAD_REQUEST, "the parameter `dns` is not base64url without padding")
            })?;
            Ok(query.into())
        }
        Method::POST if !is_message(&parts.headers) => Err(RequestError(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type of a query is application/dns-message",
        )),
        Method::POST => body.await,
        _ => Err(RequestError(StatusCode::METHOD_NOT_ALLOWED, "the methods are GET and POST")),
    }
}

/// The body is longer than a DNS message can be.
pub const TOO_LARGE: RequestError =
    RequestError(StatusCode::PAYLOAD_TOO_LARGE, "a DNS message has at most 65535 octets");
/// The body does not arrive in time.
pub const TOO_SLOW: RequestError = RequestError(StatusCode::REQUEST_TIMEOUT, "the query did not arrive in time");
/// The client does not read earlier replies.
const UNREAD: RequestError =
    RequestError(StatusCode::SERVICE_UNAVAILABLE, "the client does not read earlier replies on this connection");
/// The body is incomplete.
pub const BROKEN: RequestError = RequestError(StatusCode::BAD_REQUEST, "the query is incomplete");

fn is_message(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

fn refuse(RequestError(status, text): RequestError) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    set_content_length(&mut response);
    response
}

fn set_content_length(response: &mut Response<Bytes>) {
    let length = response.body().len();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
}

/// The freshness of a reply, in seconds: the smallest TTL of its answer, and for a negative answer at most the minimum of its SOA
/// record (RFC 8484, 5.1; RFC 2308, 5).
fn freshness(reply: &[u8]) -> u32 {
    let Some(message) = Message::read(reply) else { return 0 };
    let answer = message.sections[0].iter().map(|record| record.ttl);
    let negative = message.sections[1].iter().filter(|record| record.rtype == rtype::SOA).map(|record| {
        let minimum = record.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
        record.ttl.min(minimum)
    });
    answer.chain(negative).min().unwrap_or(0)
}

/// Reads a body. Copies its parts, because each part may be small in a large buffer.
async fn read(body: &mut Incoming) -> Result<Bytes, RequestError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BROKEN)?.into_data() else { continue };
        if whole.len() + data.len() > MAX_MESSAGE_OCTETS {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// The maximum octets of the body of a refused request that are read before the response. Many clients do not see a response
/// before they have sent the body.
pub const MAX_REFUSED_OCTETS: usize = 64 << 10;

/// Whether the client of a refused request sends the body in any case.
pub fn is_body_sent(response: &Response<Bytes>, headers: &HeaderMap) -> bool {
    let status = response.status();
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && !headers.contains_key(EXPECT)
}

/// Reads and discards the body of a refused request, up to [`MAX_REFUSED_OCTETS`].
async fn discard(body: &mut Incoming) {
    let mut octets = 0;
    while octets < MAX_REFUSED_OCTETS
        && let Some(Ok(frame)) = body.frame().await
    {
        octets += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The body of a response. Its request counts as open until the body is sent.
struct ResponseBody {
    body: Bytes,
    _request: OpenRequest,
}

impl AsRef<[u8]> for ResponseBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// An HTTP/2 connection that must end does so in a pause between requests. The pause is `DRAIN_IDLE` at first, and `SHORT_IDLE`
/// after `BUSY_TIMEOUT`. After twice that time, hyper ends the connection also while it has open requests.
const SHORT_IDLE: Duration = Duration::from_millis(1);
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The requests of a connection.
struct Activity {
    /// The number of open requests, and the time of the last change.
    open: Mutex<(usize, Instant)>,
    state: Arc<ConnectionState>,
    /// The connection must end after the open requests.
    is_ending: AtomicBool,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> OpenRequest {
        self.change(|open| open + 1);
        OpenRequest(self.clone())
    }

    fn change(&self, change: impl Fn(usize) -> usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = (change(open.0), Instant::now());
        self.state.touch();
    }

    /// The time since which no request is open; now if one is.
    fn idle_since(&self) -> Instant {
        match *self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            (0, since) => since,
            _ => Instant::now(),
        }
    }
}

/// A request that is being answered.
struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.change(|open| open - 1);
    }
}

/// The parts that the requests of a connection share.
struct Service {
    responder: Arc<Responder>,
    client: Client,
    /// The PROXY header of the connection; empty if there is none.
    header: Arc<[u8]>,
    alternative: Option<Alternative>,
    activity: Arc<Activity>,
    budget: ConnectionBudget,
}

impl Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let client_timeout = self.responder.core.connections.client_timeout;
        let open_request = self.activity.begin();
        let (parts, mut body) = request.into_parts();
        // The octets of the body count in the budgets until the request is answered, or less long if they are few.
        let mut reservation = None;
        let read_body = async {
            let read = async {
                let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
                reservation = self.budget.reserve(&self.responder.body_budget, length).await;
                let body = read(&mut body).await?;
                bodies::release_small(&mut reservation, &body);
                Ok(body)
            };
            timeout(client_timeout, read).await.unwrap_or_else(|_| {
                self.responder.core.timed_out("incomplete");
                Err(TOO_SLOW)
            })
        };
        let state = &self.activity.state;
        let mut response = respond(&self.responder, state, self.client, &self.header, &parts, read_body).await;
        drop(reservation);
        if is_body_sent(&response, &parts.headers) {
            let _ = timeout(client_timeout, discard(&mut body)).await;
        }
        if let Some(alternative) = &self.alternative {
            response.headers_mut().insert(ALT_SVC, alternative.clone());
        }
        // HTTP/2 has GOAWAY instead.
        if self.activity.is_ending.load(Relaxed) && parts.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Full::new(Bytes::from_owner(ResponseBody { body, _request: open_request })))
    }
}

/// Serves a connection until it ends: by HTTP/2 if that was agreed on (RFC 9113, 3.2), otherwise by HTTP/1.1.
pub async fn serve(
    responder: Arc<Responder>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_h2: bool,
    client: Client,
    header: Arc<[u8]>,
    alternative: Option<Alternative>,
    mut guard: ConnectionGuard,
) {
    let core = responder.core.clone();
    let client_timeout = core.connections.client_timeout;
    let open = Mutex::new((0, Instant::now()));
    let activity = Arc::new(Activity { open, state: guard.state().clone(), is_ending: AtomicBool::new(false) });
    let (budget, service_activity) = (ConnectionBudget::default(), activity.clone());
    let service = Arc::new(Service { responder, client, header, alternative, activity: service_activity, budget });
    let is_leaving = Arc::new(AtomicBool::new(false));
    let builder = builder(is_h2, client_timeout);
    let stream = TokioIo::new(HttpStream::new(stream, is_h2, is_leaving.clone()));
    let answer = service_fn(|request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut connection = pin!(builder.serve_connection(stream, answer));
    let mut deadline = Instant::now() + client_timeout;
    let (mut phase, mut is_ending) = (Phase::Open, false);
    // The start of the phase.
    let mut since = Instant::now();
    loop {
        tokio::select! {
            // A client may close the connection or break the protocol: no error is reported.
            _ = connection.as_mut() => return,
            next = guard.next_phase(phase), if !is_ending => {
                (phase, since, deadline) = (next, Instant::now(), Instant::now());
                activity.is_ending.store(true, Relaxed);
                // HTTP/1.1 would lose the requests that are on their way.
                if !is_h2 && phase == Phase::Stopped {
                    connection.as_mut().graceful_shutdown();
                    (is_ending, deadline) = (true, Instant::now() + client_timeout);
                }
                continue;
            }
            // The client does not read the end of the connection.
            () = sleep_until(deadline), if is_ending => return core.timed_out("unread"),
            () = sleep_until(deadline) => {}
        }
        let (now, idle_since) = (Instant::now(), activity.idle_since());
        if let Some(stalled) = activity.state.backlog.stalled_since()
            && stalled.elapsed() >= client_timeout
        {
            return core.timed_out("unread");
        }
        let idle = match phase {
            Phase::Open => client_timeout,
            Phase::Draining if !is_h2 || since.elapsed() < BUSY_TIMEOUT => DRAIN_IDLE,
            _ => SHORT_IDLE,
        };
        let is_busy = is_h2 && phase != Phase::Open && since.elapsed() >= 2 * BUSY_TIMEOUT;
        if idle_since + idle > now && !is_busy {
            let again = if phase == Phase::Open { client_timeout } else { SHORT_IDLE };
            deadline = (idle_since + idle).min(now + again);
            continue;
        }
        if phase == Phase::Open {
            core.timed_out("idle");
        }
        if is_h2 && !is_busy {
            is_leaving.store(true, Relaxed);
        } else {
            connection.as_mut().graceful_shutdown();
        }
        (is_ending, deadline) = (true, now + client_timeout);
    }
}

/// The configuration of a connection. The version is fixed, because hyper would close a connection of unknown version at once
/// when it must end.
fn builder(is_h2: bool, client_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(client_timeout).max_buf_size(MAX_HEADER_OCTETS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_OCTETS as u32);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::Transport, listen::tests};

    async fn ask(request: Request<&[u8]>) -> Response<Bytes> {
        let responder = Responder::new(&tests::core(&tests::limits()), Transport::Https, 0);
        let local = [127, 0, 0, 1].into();
        let guard = responder.core.admit(local, false).unwrap();
        let client = Client { source: local, port: 0, local, transport: Transport::Https };
        let (parts, body) = request.into_parts();
        respond(&responder, guard.state(), client, &[], &parts, async { Ok(Bytes::copy_from_slice(body)) }).await
    }

    #[tokio::test]
    async fn answers_queries_and_refuses_other_requests() {
        let get = |uri: &str| Request::get(uri).body(&b""[..]).unwrap();
        let post = |content_type: &str, body: &'static [u8]| {
            Request::post("https://zonal/dns-query").header(CONTENT_TYPE, content_type).body(body).unwrap()
        };
        // The octets ff and ef show the alphabet of base64url.
        let encoded = BASE64URL_NOPAD.encode(&tests::query(0xffef, tests::HERE));
        assert!(encoded.starts_with("_-8"), "{encoded}");
        let late: &[u8] = tests::query(8, &tests::late(8, 1)).leak();
        let here: &[u8] = tests::query(7, tests::HERE).leak();
        for (request, id, text) in [
            (get(&format!("/dns-query?dns={encoded}")), 0xffef, "127.0.0.1"),
            (get(&format!("/dns-query?a=b&dns={encoded}#f")), 0xffef, "127.0.0.1"),
            (post(MEDIA_TYPE, here), 7, "127.0.0.1"),
            (post("Application/DNS-Message; x=y", late), 8, "late"),
        ] {
            let request_text = format!("{request:?}");
            let response = ask(request).await;
            assert_eq!(response.status(), StatusCode::OK, "{request_text}");
            assert_eq!(response.headers()[CONTENT_LENGTH], response.body().len().to_string().as_str());
            assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
            assert_eq!(tests::read(response.body()), (id, text.into()), "{request_text}");
        }
        for (request, status, text) in [
            (get("/dns-query?dns=aGVsbG8="), 400, "the parameter `dns` is not base64url without padding\n"),
            (get("/dns-query?dns=a+/v"), 400, "the parameter `dns` is not base64url without padding\n"),
            (get("/dns-query?DNS=aGVsbG8"), 400, "the parameter `dns` is missing\n"),
            (get("/dns-query"), 400, "the parameter `dns` is missing\n"),
            (post(MEDIA_TYPE, b"drop"), 400, "the message is not a DNS query\n"),
            (get("/"), 404, "the path of queries is /dns-query\n"),
            (get("/dns-query/?dns=aGVsbG8"), 404, "the path of queries is /dns-query\n"),
            (Request::head("/dns-query?dns=aGVsbG8").body(&b""[..]).unwrap(), 405, "the methods are GET and POST\n"),
            (Request::put("/dns-query").body(&b""[..]).unwrap(), 405, "the methods are GET and POST\n"),
            (post("application/json", b"{}"), 415, "the content type of a query is application/dns-message\n"),
            (
                Request::post("/dns-query").body(&b"x"[..]).unwrap(),
                415,
                "the content type of a query is application/dns-message\n",
            ),
        ] {
            let request_text = format!("{request:?}");
            let response = ask(request).await;
            assert_eq!(response.status(), status, "{request_text}");
            assert_eq!(response.headers()[CONTENT_LENGTH], text.len().to_string().as_str(), "{request_text}");
            assert_eq!(response.headers().contains_key(ALLOW), status == 405);
            assert_ne!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
            let expected = if request_text.contains("HEAD") { "" } else { text };
            assert_eq!(String::from_utf8_lossy(response.body()), expected, "{request_text}");
        }
    }

    #[test]
    fn freshness_is_the_smallest_ttl() {
        let message = |answers: &[u32], soa: Option<(u32, u32)>| {
            let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, answers.len() as u8, 0, soa.is_some() as u8, 0, 0];
            for ttl in answers {
                message.extend_from_slice(&[&[0, 0, 1, 0, 1][..], &ttl.to_be_bytes(), &[0, 4, 127, 0, 0, 1]].concat());
            }
            if let Some((ttl, minimum)) = soa {
                message.extend_from_slice(&[&[0, 0, 6, 0, 1][..], &ttl.to_be_bytes(), &[0, 22], &[0; 18]].concat());
                message.extend_from_slice(&minimum.to_be_bytes());
            }
            message
        };
        for (answers, soa, expected) in [
            (&[60, 5, 300][..], None, 5),
            (&[], Some((60, 5)), 5),
            (&[], Some((5, 60)), 5),
            (&[2], Some((5, 60)), 2),
            (&[], None, 0),
        ] {
            assert_eq!(freshness(&message(answers, soa)), expected, "{answers:?} {soa:?}");
        }
        assert_eq!(freshness(b"no message"), 0);
    }
}
