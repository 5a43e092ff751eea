//! Access to the admin API.
//!
//! - Probes and metrics need no authorisation.
//! - Paths below `/v1` need a token or a client certificate.
//! - Without configured tokens and certificates, paths below `/v1` are open on loopback addresses, but not to browsers: a foreign
//!   page could make a browser send requests. On a wildcard address, the local address of the connection decides.

use super::{access_keys::AccessKeys, problem::ApiError};
use crate::{
    aws::sigv4::Keys,
    config::{self, remedy::explain_read_error},
};
use anyhow::{Context, bail};
use axum::http::{Method, Request, StatusCode, header, uri::Authority};
use sha2::{Digest, Sha256};
use std::{
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The maximum size of the file of tokens, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// The permissions of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read all paths.
    Read,
    /// Change the manifest and the cache as well.
    Write,
}

/// The local address of a connection.
#[derive(Clone, Copy, Debug)]
pub struct LocalAddress(pub IpAddr);

/// The role of a client by its certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertificateRole(pub Role);

/// The check of requests.
#[derive(Debug)]
pub struct Access {
    /// The listen address.
    address: IpAddr,
    tokens: Option<Tokens>,
    access_keys: Option<AccessKeys>,
    has_certificates: bool,
}

/// The tokens of a file. They follow changes of the file.
#[derive(Debug)]
struct Tokens {
    file: PathBuf,
    current: Mutex<(Stamp, Arc<[Token]>)>,
}

/// Device, inode, size and time of change of a file.
pub(super) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A token, as its SHA-256.
#[derive(Debug)]
struct Token {
    role: Role,
    digest: [u8; 32],
}

impl Access {
    /// The access that the configuration grants. Fails if the file of tokens or that of access keys cannot be read.
    pub fn new(config: &config::Admin) -> anyhow::Result<Access> {
        let tokens = config.tokens_file.as_deref().map(Tokens::read).transpose()?;
        let has_certificates = config.tls.as_ref().is_some_and(|tls| tls.certificate_authority.is_some());
        let access_keys = config.access_keys_file.as_deref().map(AccessKeys::read).transpose()?;
        Ok(Access { address: config.address.ip(), tokens, access_keys, has_certificates })
    }

    /// Checks a request. The error is the response.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let path = request.uri().path();
        if !path.starts_with("/v1/") {
            return Ok(());
        }
        let is_read =
            matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) || path == "/v1/explain";
        let needed = if is_read { Role::Read } else { Role::Write };
        if self.tokens.is_none() && !self.has_certificates {
            return self.check_open(request);
        }
        let by_certificate = request.extensions().get::<CertificateRole>().map(|by_certificate| by_certificate.0);
        let bearer = bearer(request).and_then(|token| self.tokens.as_ref()?.role(token));
        match by_certificate.max(bearer) {
            Some(role) if role >= needed => Ok(()),
            Some(_) => {
                Err(ApiError::new(StatusCode::FORBIDDEN, "the role `read` cannot do this; the role `write` is needed"))
            }
            None if has_authorization(request) => {
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "the token is unknown; check `Authorization`"))
            }
            None => Err(ApiError::new(StatusCode::UNAUTHORIZED, "a token is missing; send `Authorization: Bearer …`")),
        }
    }

    /// The access keys of AWS's API. None if signatures are not verified.
    pub fn access_keys(&self) -> Option<Arc<Keys>> {
        self.access_keys.as_ref().map(AccessKeys::current)
    }

    /// Checks a request to AWS's API, whose signature is not verified: as if it had none.
    pub fn check_unverified<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        if self.tokens.is_some() || self.has_certificates {
            let detail = "AWS's API needs access keys: set `admin.access_keys_file`; only on a loopback address without \
                          `admin.tokens_file` and client certificates, it is open without them";
            return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
        }
        self.check_open(request)
    }

    /// Checks a request when no tokens and no certificates are configured.
    fn check_open<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let refused = |detail: &str| Err(ApiError::new(StatusCode::FORBIDDEN, detail));
        let arrival = request.extensions().get().filter(|_| self.address.is_unspecified());
        let address = arrival.map_or(self.address, |LocalAddress(address)| *address);
        if !address.to_canonical().is_loopback() {
            return refused(
                "this address is not a loopback address: requests need a token or a client certificate; configure \
                 `admin.tokens_file` or `admin.tls`",
            );
        }
        if request.headers().contains_key(header::ORIGIN) {
            return refused("the request has the header `Origin` of a browser; browsers need a token");
        }
        let is_here = |host: &Authority| {
            let name = host.host().trim_matches(['[', ']']);
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
        };
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = hosts.next().map(|host| host.to_str().ok()?.parse::<Authority>().ok());
        match (host, hosts.next()) {
            (None, _) => Ok(()),
            (Some(Some(host)), None) if is_here(&host) => Ok(()),
            _ => refused("`Host` is neither `localhost` nor an address; use one of them"),
        }
    }
}

fn has_authorization<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::AUTHORIZATION)
}

/// The token of a request (RFC 6750, 2.1).
fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Tokens {
    fn read(file: &Path) -> anyhow::Result<Tokens> {
        let stamp = stamp(file);
        Ok(Tokens { file: file.into(), current: Mutex::new((stamp, read(file)?)) })
    }

    /// The role of a token. Reads the file again if it has changed. If it cannot be read, the tokens from before stay valid.
    fn role(&self, token: &str) -> Option<Role> {
        let tokens = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let stamp = stamp(&self.file);
            if stamp != current.0 {
                current.0 = stamp;
                match read(&self.file) {
                    Ok(tokens) => current.1 = tokens,
                    Err(error) => tracing::error!(error = format!("{error:#}"), "tokens not reloaded"),
                }
            }
            current.1.clone()
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        // The comparison need not take constant time: its duration depends on digests only, not on tokens.
        tokens.iter().filter(|known| known.digest == digest).map(|known| known.role).max()
    }
}

pub(super) fn stamp(file: &Path) -> Stamp {
    let data = fs::metadata(file).ok()?;
    Some((data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
}

/// Reads lines of a role, a digest and optionally a name: `write sha256:9f86d0… deployer`.
fn read(file: &Path) -> anyhow::Result<Arc<[Token]>> {
    let message = || format!("tokens {}: cannot be read", file.display());
    if fs::metadata(file).with_context(message)?.len() > MAX_OCTETS {
        bail!("tokens {}: the file is larger than 1 MiB", file.display());
    }
    let text = fs::read_to_string(file).map_err(explain_read_error).with_context(message)?;
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).with_context(|| {
            format!(
                "{}:{}: expected a role and the SHA-256 of a token, as in `write sha256:<64 hexadecimal digits> name`, as from \
                 `printf %s \"$token\" | sha256sum`",
                file.display(),
                at + 1
            )
        })?;
        tokens.push(token);
    }
    Ok(tokens.into())
}

fn token(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let role = match words.next()? {
        "read" => Role::Read,
        "write" => Role::Write,
        _ => return None,
    };
    let digits = words.next()?.strip_prefix("sha256:")?;
    let digest = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()?;
    (words.count() <= 1).then_some(Token { role, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(access: &Access, request: &Request<()>) -> Option<StatusCode> {
        access.check(request).err().map(|trouble| axum::response::IntoResponse::into_response(trouble).status())
    }

    fn digest(token: &str) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(token))
    }

    #[test]
    fn checks_the_roles_of_tokens_and_follows_the_file() {
        let file = std::env::temp_dir().join(format!("zonal-tokens-{}", std::process::id()));
        fs::write(&file, format!("# who\n\nread sha256:{} looker\nwrite sha256:{}\n", digest("r"), digest("w")))
            .unwrap();
        let config = config::Admin { tokens_file: Some(file.clone()), ..config::Admin::default() };
        let access = Access::new(&config).unwrap();
        let cases = [
            ("GET", "/metrics", "", None),
            ("GET", "/v1/vpcs", "", Some(401)),
            ("GET", "/v1/vpcs", "Bearer x", Some(401)),
            ("GET", "/v1/vpcs", "Basic r", Some(401)),
            ("GET", "/v1/vpcs", "Bearer r", None),
            ("POST", "/v1/explain", "Bearer r", None),
            ("GET", "/v1/vpcs", "bearer w", None),
            ("PUT", "/v1/vpcs/a", "Bearer r", Some(403)),
            ("DELETE", "/v1/cache", "Bearer r", Some(403)),
            ("PUT", "/v1/vpcs/a", "Bearer w", None),
        ];
        for (method, path, authorization, expected) in cases {
            let headers: &[_] = if authorization.is_empty() { &[] } else { &[("Authorization", authorization)] };
            let found = status(&access, &request(method, path, headers)).map(|status| status.as_u16());
            assert_eq!(found, expected, "{method} {path} {authorization}");
        }
        // A changed file is used at once; a bad one is not.
        fs::write(&file, format!("write sha256:{}\n", digest("new"))).unwrap();
        let put = |token: &str| {
            status(&access, &request("PUT", "/v1/vpcs/a", &[("Authorization", &format!("Bearer {token}"))]))
        };
        assert_eq!((put("new"), put("w")), (None, Some(StatusCode::UNAUTHORIZED)));
        fs::write(&file, "all may write, says this line\n").unwrap();
        assert_eq!(put("new"), None);
        for bad in ["write", "write sha256:12", "admin sha256:00", &format!("read sha256:{} a b", digest("x"))] {
            fs::write(&file, bad).unwrap();
            let error = format!("{:#}", Access::new(&config).unwrap_err());
            assert!(error.contains(":1: expected a role and the SHA-256"), "{error}");
        }
        fs::remove_file(file).unwrap();
        assert!(Access::new(&config).is_err());
    }

    #[test]
    fn without_tokens_access_is_for_loopback_and_not_for_browsers() {
        let open = Access::new(&config::Admin::default()).unwrap();
        for (headers, expected) in [
            (&[("Host", "127.0.0.1:9153")][..], None),
            (&[("Host", "localhost:9153")], None),
            (&[("Host", "[::1]:9153")], None),
            (&[], None),
            (&[("Host", "evil.example")], Some(StatusCode::FORBIDDEN)),
            (&[("Host", "evil.example:80:80")], Some(StatusCode::FORBIDDEN)),
            (&[("Host", "localhost"), ("Host", "evil.example")], Some(StatusCode::FORBIDDEN)),
            (&[("Host", "")], Some(StatusCode::FORBIDDEN)),
            (&[("Host", "127.0.0.1"), ("Origin", "http://evil.example")], Some(StatusCode::FORBIDDEN)),
        ] {
            assert_eq!(status(&open, &request("PUT", "/v1/vpcs/a", headers)), expected, "{headers:?}");
        }
        let address = "192.0.2.1:9153".parse().unwrap();
        let far = Access::new(&config::Admin { address, ..config::Admin::default() }).unwrap();
        assert_eq!(status(&far, &request("GET", "/v1/status", &[])), Some(StatusCode::FORBIDDEN));
        assert_eq!(status(&far, &request("GET", "/ready", &[])), None);

        // On a wildcard address, the local address of the connection decides; otherwise the listen address.
        let address = "[::]:9153".parse().unwrap();
        let all = Access::new(&config::Admin { address, ..config::Admin::default() }).unwrap();
        for (access, arrival, expected) in [
            (&all, "127.0.0.1", None),
            (&all, "::1", None),
            (&all, "::ffff:127.0.0.1", None),
            (&all, "192.0.2.1", Some(StatusCode::FORBIDDEN)),
            (&far, "127.0.0.1", Some(StatusCode::FORBIDDEN)),
        ] {
            let mut request = request("GET", "/v1/status", &[("Host", "0.0.0.0:9153")]);
            request.extensions_mut().insert(LocalAddress(arrival.parse().unwrap()));
            assert_eq!(status(access, &request), expected, "{arrival}");
        }
        assert_eq!(status(&all, &request("GET", "/v1/status", &[])), Some(StatusCode::FORBIDDEN));
    }
}
