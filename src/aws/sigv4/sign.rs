//! Signs requests in the form that [`super::verify`] verifies.

use super::{ALGORITHM, Key, SCOPE_END, canonical::CanonicalRequest, canonical::queries, hex};
use hyper::header::{HeaderMap, HeaderValue, InvalidHeaderValue};
use ring::{digest, hmac};

/// The credentials of a client.
pub struct Credentials {
    /// The identifier of the access key.
    pub access_key_id: String,
    /// The access key.
    pub key: Key,
    /// The token of a session, if the key is for a session only.
    pub session_token: Option<String>,
}

/// The parts of a request that are signed besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as on the wire.
    pub path: &'a str,
    /// The query as on the wire, without the question mark.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Adds a signature to the headers of a request, which must have `Host`. All headers are signed. `now` is in seconds since 1970.
///
/// # Errors
///
/// A credential has a character that a header cannot have.
pub fn sign(
    credentials: &Credentials,
    region: &str,
    service: &str,
    request: Unsigned,
    headers: &mut HeaderMap,
    now: i64,
) -> Result<(), InvalidHeaderValue> {
    let time = jiff::Timestamp::from_second(now).unwrap_or(jiff::Timestamp::MIN).strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = time.split('T').next().unwrap_or_default().to_string();
    let body_hash = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    headers.insert("x-amz-date", HeaderValue::from_str(&time)?);
    headers.insert("x-amz-content-sha256", HeaderValue::from_str(&body_hash)?);
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", HeaderValue::from_str(token)?);
    }
    let mut signed: Vec<String> = headers.keys().map(|name| name.as_str().to_string()).collect();
    signed.sort_unstable();
    let query = queries(request.query).into_iter().next().unwrap_or_default();
    let canonical = CanonicalRequest {
        method: request.method,
        path: request.path,
        query: &query,
        headers,
        signed: &signed,
        body_hash: &body_hash,
    };
    let hash = hex(digest::digest(&digest::SHA256, &canonical.octets()).as_ref());
    let scope = format!("{date}/{region}/{service}/{SCOPE_END}");
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
    let signature = hex(hmac::sign(&credentials.key.derived(&date, region, service), text.as_bytes()).as_ref());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        signed.join(";")
    );
    headers.insert("authorization", HeaderValue::from_str(&authorization)?);
    Ok(())
}
