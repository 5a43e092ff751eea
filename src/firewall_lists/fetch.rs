//! Downloads a list by HTTP or HTTPS, and posts JSON.
//!
//! Time and memory are bounded, whatever the server does: the text goes to a file as it comes, and a server that is silent or
//! slow is given up.

use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderMap, HeaderName},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use std::{
    fs::File,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The largest list, in octets.
pub const MAX_OCTETS: u64 = 512 << 20;
/// Time-out for a connection, and again for TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time-out for the header of a response, and again for each further part of the text.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// After this time, a server that has sent less than [`MIN_OCTETS_PER_SECOND`] is given up.
const GRACE: Duration = Duration::from_secs(60);
/// The lowest mean speed of a download.
const MIN_OCTETS_PER_SECOND: u64 = 4096;
/// The maximum number of redirects.
const MAX_REDIRECTS: usize = 5;
/// Maximum size of the response header, in octets.
const MAX_HEADER_OCTETS: usize = 64 << 10;

/// What a server says about a version of a text, for the next request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag.
    pub etag: Option<String>,
    /// The time of the last change, as the server writes it.
    pub last_modified: Option<String>,
}

/// The result of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The text has not changed.
    Unchanged,
    /// The text is in the file.
    Text(Validators),
}

/// Makes downloads.
#[derive(Default)]
pub struct Client {
    /// The hosts that may be asked: names or addresses, each with or without a port.
    allowed: Vec<String>,
    /// PEM file of certificate authorities, in addition to those of the system.
    authorities: Option<PathBuf>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

/// A URL whose host is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    is_https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Place {
    /// The host as a request names it.
    fn authority(&self) -> String {
        match self.port == if self.is_https { 443 } else { 80 } {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Client {
    /// Makes downloads from the hosts in `allowed` only.
    pub fn new(allowed: Vec<String>, authorities: Option<PathBuf>) -> Client {
        Client { allowed, authorities, tls: OnceLock::new() }
    }

    /// Whether a URL may be downloaded.
    ///
    /// # Errors
    ///
    /// The reason why not, and what to do.
    pub fn check(&self, url: &str) -> Result<(), String> {
        self.place(url).map(drop)
    }

    fn place(&self, url: &str) -> Result<Place, String> {
        let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{url}` is neither an https nor an http URL")),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.map(|authority| authority.host().to_ascii_lowercase());
        let host = host.filter(|host| !host.is_empty()).ok_or_else(|| format!("`{url}` has no host"))?;
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let is_it = |allowed: &String| {
            let allowed = allowed.to_ascii_lowercase();
            allowed == host || allowed == format!("{host}:{port}")
        };
        if !self.allowed.iter().any(is_it) {
            return Err(format!("this node does not allow {host}; add it to firewall.allow_sources in zonal.yaml"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
        Ok(Place { is_https, host, port, path })
    }

    /// Downloads a text of at most `max_octets` to a file, if it has changed.
    ///
    /// # Errors
    ///
    /// The reason. The file may have a part of the text.
    pub async fn fetch(&self, url: &str, known: &Validators, file: &Path, max_octets: u64) -> Result<Fetched, String> {
        let first = self.place(url)?;
        let mut place = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let stream = connect(&place).await?;
            let result = match place.is_https {
                false => get(stream, &place, known, file, max_octets).await?,
                true => get(self.secure(&place, stream).await?, &place, known, file, max_octets).await?,
            };
            let location = match result {
                Got::Fetched(fetched) => return Ok(fetched),
                Got::Redirect(location) => location,
            };
            place = self.redirected(&place, &location)?;
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }

    /// Posts JSON to a URL. Returns the status of the response.
    ///
    /// # Errors
    ///
    /// The reason why there is no response.
    pub async fn post(&self, url: &str, json: Bytes) -> Result<StatusCode, String> {
        let place = self.place(url)?;
        let stream = connect(&place).await?;
        match place.is_https {
            false => post(stream, &place, json).await,
            true => post(self.secure(&place, stream).await?, &place, json).await,
        }
    }

    /// TLS with a server, whose certificate must be valid for its name.
    async fn secure(&self, place: &Place, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let tls = TlsConnector::from(self.tls()?);
        let name = ServerName::try_from(place.host.trim_matches(['[', ']']).to_string());
        let name = name.map_err(|_| format!("{} is no name of a server", place.host))?;
        match timeout(CONNECT_TIMEOUT, tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("TLS with {}: {error}", place.host)),
            Err(_) => Err(format!("TLS with {}: time-out", place.host)),
        }
    }

    /// The place that a redirect leads to, which must be on the same host.
    fn redirected(&self, from: &Place, location: &str) -> Result<Place, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(Place { path: location.into(), ..from.clone() });
        }
        let to = self.place(location).map_err(|error| format!("redirect refused: {error}"))?;
        if to.host != from.host || from.is_https && !to.is_https {
            let scheme = if to.is_https { "https" } else { "http" };
            return Err(format!("redirect to {scheme}://{} refused: write the final URL", to.host));
        }
        Ok(to)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let make = || {
            let roots = crate::forward::upstream::tls::roots(self.authorities.as_deref())?;
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
            Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
        };
        self.tls.get_or_init(make).clone()
    }
}

/// Whether no list is there, although a name of an allowed host may lead there: the address is for the node itself or for the
/// metadata of a cloud.
fn is_never_asked(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_unspecified() || address.is_multicast(),
        IpAddr::V6(address) => {
            let is_metadata = address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            let mapped = address.to_ipv4_mapped().is_some_and(|address| is_never_asked(address.into()));
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || is_metadata
                || mapped
        }
    }
}

async fn connect(place: &Place) -> Result<TcpStream, String> {
    let host = place.host.trim_matches(['[', ']']);
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, place.port)],
        Err(_) => match timeout(CONNECT_TIMEOUT, lookup_host((host, place.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(format!("{host}: {error}")),
            Err(_) => return Err(format!("{host}: the lookup of its addresses timed out")),
        },
    };
    let mut last = format!("{host} has no address");
    for address in addresses {
        if is_never_asked(address.ip()) {
            last = format!("{host} has the address {}, which zonal does not ask for lists", address.ip());
            continue;
        }
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: the connection timed out"),
        }
    }
    Err(last)
}

enum Got {
    Fetched(Fetched),
    Redirect(String),
}

async fn get<S>(stream: S, place: &Place, known: &Validators, file: &Path, max_octets: u64) -> Result<Got, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADER_OCTETS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text_of)?;
    let mut request = Request::get(&place.path)
        .header(header::HOST, place.authority())
        .header(header::USER_AGENT, concat!("zonal/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "gzip")
        .header(header::CONNECTION, "close");
    if let Some(etag) = &known.etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    if let Some(time) = &known.last_modified {
        request = request.header(header::IF_MODIFIED_SINCE, time);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| format!("HTTP: {error}"))?;
    let respond = async {
        match timeout(SILENCE_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => read(response, file, max_octets).await,
            Ok(Err(error)) => Err(text_of(error)),
            Err(_) => Err("the server is silent".into()),
        }
    };
    let mut respond = std::pin::pin!(respond);
    let mut connection = std::pin::pin!(connection);
    // The connection must be polled during the request. It closes when the request ends.
    tokio::select! {
        biased;
        result = &mut respond => result,
        _ = &mut connection => respond.await,
    }
}

async fn post<S>(stream: S, place: &Place, json: Bytes) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADER_OCTETS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text_of)?;
    let request = Request::post(&place.path)
        .header(header::HOST, place.authority())
        .header(header::USER_AGENT, concat!("zonal/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(json))
        .map_err(|error| format!("HTTP: {error}"))?;
    let mut respond = std::pin::pin!(timeout(SILENCE_TIMEOUT, sender.send_request(request)));
    let mut connection = std::pin::pin!(connection);
    let response = tokio::select! {
        biased;
        response = &mut respond => response,
        _ = &mut connection => respond.await,
    };
    match response {
        Ok(response) => response.map(|response| response.status()).map_err(text_of),
        Err(_) => Err("the server is silent".into()),
    }
}

fn text_of(error: hyper::Error) -> String {
    format!("HTTP: {error}")
}

async fn read(response: Response<Incoming>, file: &Path, max_octets: u64) -> Result<Got, String> {
    let status = response.status();
    let headers = response.headers();
    match status {
        StatusCode::NOT_MODIFIED => return Ok(Got::Fetched(Fetched::Unchanged)),
        StatusCode::OK => {}
        _ if status.is_redirection() => {
            let location = text(headers, &header::LOCATION).ok_or("a redirect without a location")?;
            return Ok(Got::Redirect(location));
        }
        _ => return Err(format!("the server answers with status {}", status.as_u16())),
    }
    if let Some(encoding) = text(headers, &header::CONTENT_ENCODING)
        .filter(|encoding| !matches!(&**encoding, "identity" | "gzip" | "x-gzip"))
    {
        return Err(format!("the server sends the text with the encoding `{encoding}`, which was not asked for"));
    }
    let length = text(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let too_large = || format!("the text has more than {} MiB", max_octets >> 20);
    if length.is_some_and(|length| length > max_octets) {
        return Err(too_large());
    }
    let validators =
        Validators { etag: text(headers, &header::ETAG), last_modified: text(headers, &header::LAST_MODIFIED) };
    let mut out = File::create(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut body = response.into_body();
    let (started, mut octets) = (Instant::now(), 0u64);
    loop {
        let frame = match timeout(SILENCE_TIMEOUT, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(format!("the text is not complete: {error}")),
            Err(_) => return Err("the text is not complete: the server is silent".into()),
        };
        let Ok(data) = frame.into_data() else { continue };
        octets += data.len() as u64;
        if octets > max_octets {
            return Err(too_large());
        }
        let elapsed = started.elapsed();
        if elapsed > GRACE && octets / elapsed.as_secs().max(1) < MIN_OCTETS_PER_SECOND {
            return Err(format!("the server is too slow: {octets} octets in {} s", elapsed.as_secs()));
        }
        out.write_all(&data).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if length.is_some_and(|length| length != octets) {
        return Err(format!("the text is not complete: {octets} octets"));
    }
    out.sync_all().map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Got::Fetched(Fetched::Text(validators)))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn client() -> Client {
        Client::new(vec!["Lists.example".into(), "192.0.2.1:8080".into(), "[2001:db8::1]".into()], None)
    }

    #[test]
    fn asks_only_hosts_that_are_allowed() {
        for (url, is_allowed) in [
            ("https://lists.example/a?b=c", true),
            ("http://LISTS.example:81/", true),
            ("http://192.0.2.1:8080/x", true),
            ("http://192.0.2.1/x", false),
            ("https://[2001:db8::1]/", true),
            ("https://lists.example.evil.example/", false),
            ("https://evil.example/?lists.example", false),
            ("https://lists.example@evil.example/", false),
            ("https://user@lists.example/", false),
            ("ftp://lists.example/", false),
            ("file:///etc/passwd", false),
            ("lists.example", false),
            ("", false),
        ] {
            assert_eq!(client().check(url).is_ok(), is_allowed, "{url}: {:?}", client().check(url));
        }
    }

    /// Downloads from a server that sends this head, and then one octet in each period. Returns the error and its time.
    async fn slowly(head: &'static [u8], period: Duration) -> (String, Duration) {
        let (client, mut server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = server.read(&mut request).await;
            let mut next = server.write_all(head).await;
            while next.is_ok() {
                tokio::time::sleep(period).await;
                next = server.write_all(b"a").await;
            }
        });
        let started = Instant::now();
        let place = Place { is_https: false, host: "lists.example".into(), port: 80, path: "/".into() };
        let file = std::env::temp_dir().join(format!("zonal-slow-{}", std::process::id()));
        let result = get(client, &place, &Validators::default(), &file, MAX_OCTETS).await;
        let _ = std::fs::remove_file(file);
        (result.err().unwrap_or_default(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_slow_and_silent_servers() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        let (error, time) = slowly(head, Duration::from_secs(1)).await;
        assert!(error.contains("too slow"), "{error}");
        assert!(time > GRACE && time < GRACE + Duration::from_secs(5), "{time:?}");
        let (error, time) = slowly(head, Duration::from_secs(3600)).await;
        assert!(error.contains("not complete: the server is silent"), "{error}");
        assert!(time >= SILENCE_TIMEOUT && time < SILENCE_TIMEOUT + Duration::from_secs(5), "{time:?}");
        let (error, time) = slowly(b"", Duration::from_secs(3600)).await;
        assert!(error.contains("silent") && time >= SILENCE_TIMEOUT, "{error} after {time:?}");
    }

    #[test]
    fn follows_redirects_within_a_host_only() {
        let client = Client::new(vec!["lists.example".into(), "other.example".into()], None);
        let from = client.place("https://lists.example/a").unwrap();
        for (location, path) in [
            ("/b", Some("/b")),
            ("https://lists.example/c", Some("/c")),
            ("http://lists.example/c", None),
            ("https://other.example/", None),
            ("http://169.254.169.254/latest/meta-data", None),
            ("//other.example/", None),
            ("x", None),
        ] {
            let to = client.redirected(&from, location);
            assert_eq!(to.as_ref().ok().map(|place| &*place.path), path, "{location}: {to:?}");
        }
    }

    #[test]
    fn never_asks_addresses_of_metadata() {
        for address in ["169.254.169.254", "0.0.0.0", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert!(is_never_asked(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1", "10.0.0.1", "192.0.2.1", "2001:db8::1"] {
            assert!(!is_never_asked(address.parse().unwrap()), "{address}");
        }
    }
}
