//! DNS over HTTPS (RFC 8484): the requests, whatever the version of HTTP, and the connections of HTTP/1.1 and HTTP/2.

mod frames;

use super::{
    bodies::{self, CONNECTION_WINDOW, Room, STREAM_WINDOW},
    connections::{Held, Phase, Place},
    proxy,
    responder::{MESSAGE_SIZE, Responder},
    stream::LAST_IDLE,
    unread::Counted,
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

/// Where queries are taken.
const PATH: &str = "/dns-query";
const MEDIA_TYPE: &str = "application/dns-message";
/// The most that the header of a request may take, in octets.
pub const HEADER_SIZE: usize = 16 << 10;
/// How many requests of a connection are answered at the same time.
pub const MOST_STREAMS: u32 = 256;
/// How long an HTTP/3 server is known to clients, in seconds.
const ALTERNATIVE_AGE: u32 = 86_400;

/// What announces another server of the same (RFC 7838).
pub type Alternative = HeaderValue;

/// Announces HTTP/3 on this port.
pub fn alternative(port: u16) -> Option<Alternative> {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma={ALTERNATIVE_AGE}")).ok()
}

/// Why a request has no query in it that can be answered.
pub struct Fault(pub StatusCode, pub &'static str);

/// Answers a request. Its body is asked for only if it may have a query in it. `header` is the PROXY header of the
/// connection.
pub async fn respond(
    responder: &Arc<Responder>,
    held: &Arc<Held>,
    client: Client,
    header: &[u8],
    parts: &Parts,
    body: impl Future<Output = Result<Bytes, Fault>>,
) -> Response<Bytes> {
    let reply = match query(parts, body).await {
        Ok(query) => responder.respond(held, client, &proxy::in_front(header, &query)).await.ok_or(UNREAD),
        Err(fault) => Err(fault),
    };
    let (reply, unread) = match reply {
        Ok((part, unread)) => (part.reply, unread),
        Err(fault) => {
            let mut response = refuse(fault);
            if parts.method == Method::HEAD {
                response.body_mut().clear();
            }
            return response;
        }
    };
    if reply.is_empty() {
        return refuse(Fault(StatusCode::BAD_REQUEST, "this is no DNS query"));
    }
    // What one client is answered is not for others: they may have other views.
    let cache_control = format!("private, max-age={}", freshness(&reply));
    let mut response = Response::new(Bytes::from_owner(Counted { reply, unread }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(value) = HeaderValue::from_str(&cache_control) {
        headers.insert(CACHE_CONTROL, value);
    }
    measure(&mut response);
    response
}

/// The DNS message in a request.
async fn query(parts: &Parts, body: impl Future<Output = Result<Bytes, Fault>>) -> Result<Bytes, Fault> {
    if parts.uri.path() != PATH {
        return Err(Fault(StatusCode::NOT_FOUND, "queries are taken at /dns-query"));
    }
    match parts.method {
        Method::GET => {
            let mut parameters = parts.uri.query().unwrap_or_default().split('&');
            let dns = parameters
                .find_map(|parameter| parameter.strip_prefix("dns="))
                .ok_or(Fault(StatusCode::BAD_REQUEST, "the parameter `dns` is missing"))?;
            let query = BASE64URL_NOPAD
                .decode(dns.as_bytes())
                .map_err(|_| Fault(StatusCode::BAD_REQUEST, "the parameter `dns` is not base64url without padding"))?;
            Ok(query.into())
        }
        Method::POST if !is_message(&parts.headers) => {
            Err(Fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type of a query is application/dns-message"))
        }
        Method::POST => body.await,
        _ => Err(Fault(StatusCode::METHOD_NOT_ALLOWED, "the methods are GET and POST")),
    }
}

/// A body is longer than any message.
pub const TOO_LARGE: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "a DNS message has at most 65535 octets");
/// A body does not come in time.
pub const TOO_SLOW: Fault = Fault(StatusCode::REQUEST_TIMEOUT, "the query did not come in time");
/// The replies before are not read.
const UNREAD: Fault = Fault(StatusCode::SERVICE_UNAVAILABLE, "earlier replies on this connection are not read");
/// A body does not come.
pub const BROKEN: Fault = Fault(StatusCode::BAD_REQUEST, "the query did not come whole");

fn is_message(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

fn refuse(Fault(status, text): Fault) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    measure(&mut response);
    response
}

fn measure(response: &mut Response<Bytes>) {
    let length = response.body().len();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
}

/// For how many seconds a reply holds: the smallest TTL of its answer, and if that is negative no longer than its SOA
/// record says (RFC 8484, 5.1; RFC 2308, 5).
fn freshness(reply: &[u8]) -> u32 {
    let Some(message) = Message::read(reply) else { return 0 };
    let answer = message.sections[0].iter().map(|record| record.ttl);
    let negative = message.sections[1].iter().filter(|record| record.rtype == rtype::SOA).map(|record| {
        let minimum = record.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
        record.ttl.min(minimum)
    });
    answer.chain(negative).min().unwrap_or(0)
}

/// Reads a body as it comes. Its parts are copied, as each of them may be small in a large buffer.
async fn read(body: &mut Incoming) -> Result<Bytes, Fault> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BROKEN)?.into_data() else { continue };
        if whole.len() + data.len() > MESSAGE_SIZE {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// How much of the body of a refused request is read before the response, in octets: else many clients would not see it.
pub const REFUSED_OCTETS: usize = 64 << 10;

/// Whether a refused request has a body that its client sends whatever it is told.
pub fn is_body_sent(response: &Response<Bytes>, headers: &HeaderMap) -> bool {
    let status = response.status();
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && !headers.contains_key(EXPECT)
}

/// Reads the body of a refused request, as far as that is worth it.
async fn discard(body: &mut Incoming) {
    let mut octets = 0;
    while octets < REFUSED_OCTETS
        && let Some(Ok(frame)) = body.frame().await
    {
        octets += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// A response whose request is open until it is sent.
struct Answered {
    body: Bytes,
    _turn: Turn,
}

impl AsRef<[u8]> for Answered {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// A connection of HTTP/2 that is to end does so in a pause between requests: of `LAST_IDLE` at first; after `BUSY_FOR` of
/// `SHORT_IDLE`. After twice that, hyper ends it while it has open requests.
const SHORT_IDLE: Duration = Duration::from_millis(1);
const BUSY_FOR: Duration = Duration::from_secs(2);

/// What is known of a connection.
struct Activity {
    /// How many requests are being answered, and since when.
    open: Mutex<(usize, Instant)>,
    held: Arc<Held>,
    /// No more requests are to come.
    is_ending: AtomicBool,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Turn {
        self.change(|open| open + 1);
        Turn(self.clone())
    }

    fn change(&self, change: impl Fn(usize) -> usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = (change(open.0), Instant::now());
        self.held.is_active();
    }

    /// Since when there has been no request; now if there is one.
    fn idle_since(&self) -> Instant {
        match *self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            (0, since) => since,
            _ => Instant::now(),
        }
    }
}

/// A request that is being answered.
struct Turn(Arc<Activity>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.change(|open| open - 1);
    }
}

/// Serves a connection to its end: of HTTP/2 if that was agreed on (RFC 9113, 3.2), else of HTTP/1.1.
pub async fn serve(
    responder: Arc<Responder>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_h2: bool,
    client: Client,
    header: Arc<[u8]>,
    alternative: Option<Alternative>,
    mut place: Place,
) {
    let core = responder.core.clone();
    let patience = core.connections.patience;
    let open = Mutex::new((0, Instant::now()));
    let activity = Arc::new(Activity { open, held: place.held().clone(), is_ending: AtomicBool::new(false) });
    let room = Arc::new(Room::default());
    let leaves = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let (turn, responder, alternative) = (activity.begin(), responder.clone(), alternative.clone());
        let room = room.clone();
        let header = header.clone();
        async move {
            let (parts, mut body) = request.into_parts();
            // What it takes is given back when it is answered, or before.
            let mut held = None;
            let mut response = respond(&responder, &turn.0.held, client, &header, &parts, async {
                let read = async {
                    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
                    held = room.take(&responder.hall, length).await;
                    let body = read(&mut body).await?;
                    bodies::give_back(&mut held, &body);
                    Ok(body)
                };
                match timeout(patience, read).await {
                    Ok(body) => body,
                    Err(_) => {
                        responder.core.timed_out("incomplete");
                        Err(TOO_SLOW)
                    }
                }
            })
            .await;
            drop(held);
            if is_body_sent(&response, &parts.headers) {
                let _ = timeout(patience, discard(&mut body)).await;
            }
            if let Some(alternative) = alternative {
                response.headers_mut().insert(ALT_SVC, alternative);
            }
            // HTTP/2 has GOAWAY for it.
            if turn.0.is_ending.load(Relaxed) && parts.version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Full::new(Bytes::from_owner(Answered { body, _turn: turn }))))
        }
    });
    // That the version is known keeps a connection that has just been made from being closed where others only end.
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEADER_SIZE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_SIZE as u32);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(HttpStream::new(stream, is_h2, leaves.clone())), service));
    let mut deadline = Instant::now() + patience;
    let (mut phase, mut ending) = (Phase::Open, false);
    // Since when the connection is to end.
    let mut since = Instant::now();
    loop {
        tokio::select! {
            // A client that goes away or asks nonsense is its own concern.
            _ = connection.as_mut() => return,
            next = place.later(phase), if !ending => {
                (phase, since, deadline) = (next, Instant::now(), Instant::now());
                activity.is_ending.store(true, Relaxed);
                // What is on its way by HTTP/1.1 would be lost.
                if !is_h2 && phase == Phase::Stopped {
                    connection.as_mut().graceful_shutdown();
                    (ending, deadline) = (true, Instant::now() + patience);
                }
                continue;
            }
            // It does not even read.
            () = sleep_until(deadline), if ending => return core.timed_out("unread"),
            () = sleep_until(deadline) => {}
        }
        let (now, idle_since) = (Instant::now(), activity.idle_since());
        if let Some(stalled) = activity.held.backlog.stalled_since()
            && stalled.elapsed() >= patience
        {
            return core.timed_out("unread");
        }
        let idle = match phase {
            Phase::Open => patience,
            Phase::Left if !is_h2 || since.elapsed() < BUSY_FOR => LAST_IDLE,
            _ => SHORT_IDLE,
        };
        let is_busy = is_h2 && phase != Phase::Open && since.elapsed() >= 2 * BUSY_FOR;
        if idle_since + idle > now && !is_busy {
            let again = if phase == Phase::Open { patience } else { SHORT_IDLE };
            deadline = (idle_since + idle).min(now + again);
            continue;
        }
        if phase == Phase::Open {
            core.timed_out("idle");
        }
        if is_h2 && !is_busy {
            leaves.store(true, Relaxed);
        } else {
            connection.as_mut().graceful_shutdown();
        }
        (ending, deadline) = (true, now + patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::Transport, listen::tests};

    async fn ask(request: Request<&[u8]>) -> Response<Bytes> {
        let responder = Responder::new(&tests::core(&tests::limits()), Transport::Https, 0);
        let local = [127, 0, 0, 1].into();
        let place = responder.core.admit(local, false).unwrap();
        let client = Client { source: local, port: 0, local, transport: Transport::Https };
        let (parts, body) = request.into_parts();
        respond(&responder, place.held(), client, &[], &parts, async { Ok(Bytes::copy_from_slice(body)) }).await
    }

    #[tokio::test]
    async fn requests_are_told_apart() {
        let get = |uri: &str| Request::get(uri).body(&b""[..]).unwrap();
        let post = |content_type: &str, body: &'static [u8]| {
            Request::post("https://zonal/dns-query").header(CONTENT_TYPE, content_type).body(body).unwrap()
        };
        for (request, status, text) in [
            (get("/dns-query?dns=aGVsbG8"), 200, "hello at 127.0.0.1"),
            (get("/dns-query?a=b&dns=_-8#f"), 200, "\u{fffd}\u{fffd} at 127.0.0.1"),
            (post(MEDIA_TYPE, b"hello"), 200, "hello at 127.0.0.1"),
            (post("Application/DNS-Message; x=y", b"late\0"), 200, "late\0"),
            (get("/dns-query?dns=aGVsbG8="), 400, "the parameter `dns` is not base64url without padding\n"),
            (get("/dns-query?dns=a+/v"), 400, "the parameter `dns` is not base64url without padding\n"),
            (get("/dns-query?DNS=aGVsbG8"), 400, "the parameter `dns` is missing\n"),
            (get("/dns-query"), 400, "the parameter `dns` is missing\n"),
            (post(MEDIA_TYPE, b"drop"), 400, "this is no DNS query\n"),
            (get("/"), 404, "queries are taken at /dns-query\n"),
            (get("/dns-query/?dns=aGVsbG8"), 404, "queries are taken at /dns-query\n"),
            (Request::head("/dns-query?dns=aGVsbG8").body(&b""[..]).unwrap(), 405, "the methods are GET and POST\n"),
            (Request::put("/dns-query").body(&b""[..]).unwrap(), 405, "the methods are GET and POST\n"),
            (post("application/json", b"{}"), 415, "the content type of a query is application/dns-message\n"),
            (
                Request::post("/dns-query").body(&b"x"[..]).unwrap(),
                415,
                "the content type of a query is application/dns-message\n",
            ),
        ] {
            let what = format!("{request:?}");
            let response = ask(request).await;
            assert_eq!(response.status(), status, "{what}");
            let length = if status == 200 { response.body().len() } else { text.len() };
            assert_eq!(response.headers()[CONTENT_LENGTH], length.to_string().as_str(), "{what}");
            assert_eq!(response.headers().contains_key(ALLOW), status == 405);
            assert_eq!(response.headers()[CONTENT_TYPE] == MEDIA_TYPE, status == 200);
            let expected = if what.contains("HEAD") { "" } else { text };
            assert_eq!(String::from_utf8_lossy(response.body()), expected, "{what}");
        }
    }

    #[test]
    fn a_reply_is_as_fresh_as_its_records() {
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
