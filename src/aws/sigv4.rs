//! Signature Version 4 of AWS: verifies that a request was signed with the secret of an access key, and signs requests.
//!
//! ```text
//! request -> Claim             what the signature says of itself: in the header `Authorization`, or in the query
//!         -> canonical request method, path, query, signed headers and the hash of the body in one form
//!         -> string to sign    time, scope and the hash of the canonical request
//!         -> HMAC-SHA-256      by a key that is derived from secret, day, Region and service
//! ```
//!
//! The signature of a request without a replay window of its own is valid for 15 minutes before and after its time. Within
//! this time, a request can be sent again: zonal keeps no list of signatures, as AWS keeps none. Use TLS where others can read
//! along.
//!
//! Secrets are in [`Key`] alone. They are in no error, in no log, and in no debug output.

mod canonical;
mod sign;
#[cfg(test)]
mod tests;

use super::{codec::percent, model::Protocol, operations::NO_ACCOUNT};
use crate::wire::Name;
use canonical::{CanonicalRequest, queries};
use hyper::HeaderMap;
use ipnet::IpNet;
use ring::{digest, hmac};
pub use sign::{Credentials, Unsigned, sign};
use std::{collections::HashMap, fmt};

/// The name of the algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The greatest difference between the time of a request and the server's, in seconds.
pub const MAX_SKEW: i64 = 15 * 60;
/// The longest validity of a signature in a query, in seconds.
const MAX_EXPIRES: i64 = 7 * 24 * 3600;
/// The end of a scope.
const SCOPE_END: &str = "aws4_request";
/// The hash of a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// An access key.
pub struct Key {
    /// The account that the key acts for, of 12 digits.
    pub account: String,
    /// Whether the key may make changes.
    pub may_write: bool,
    /// The blocks whose addresses the key may use. None if the key has no list.
    pub networks: Option<Vec<IpNet>>,
    /// The domains for which the key may make public hosted zones.
    pub domains: Vec<Name>,
    /// `AWS4` and the secret.
    secret: Box<[u8]>,
}

impl Key {
    /// An access key with a secret.
    pub fn new(account: &str, may_write: bool, secret: &str) -> Key {
        let secret = format!("AWS4{secret}").into_bytes().into();
        Key { account: account.into(), may_write, networks: None, domains: Vec::new(), secret }
    }

    /// The key of one day, Region and service.
    fn derived(&self, date: &str, region: &str, service: &str) -> hmac::Key {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        let step = |key: hmac::Key, text: &str| hmac::sign(&key, text.as_bytes());
        let of_date = step(key(&self.secret), date);
        let of_region = step(key(of_date.as_ref()), region);
        let of_service = step(key(of_region.as_ref()), service);
        key(step(key(of_service.as_ref()), SCOPE_END).as_ref())
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.fill(0);
        // The compiler may not leave out the stores.
        std::hint::black_box(&self.secret);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {} that may {}", self.account, if self.may_write { "write" } else { "read" })
    }
}

/// Access keys, by their identifiers.
#[derive(Debug, Default)]
pub struct Keys(HashMap<String, Key>);

impl Keys {
    /// Adds a key. False if there is another one with this identifier.
    pub fn add(&mut self, id: &str, key: Key) -> bool {
        let is_new = !self.0.contains_key(id);
        if is_new {
            self.0.insert(id.into(), key);
        }
        is_new
    }

    /// Whether a key acts for another account than this one. Keys that act for no account do not count.
    pub fn has_others(&self, account: &str) -> bool {
        self.0.values().any(|key| key.account != account && key.account != NO_ACCOUNT)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The signer of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account that the key acts for.
    pub account: String,
    /// The identifier of the key.
    pub access_key_id: String,
    /// Whether the key may make changes.
    pub may_write: bool,
    /// The blocks that the key lists. None if it has no list.
    pub networks: Option<Vec<IpNet>>,
    /// The domains that the key lists.
    pub domains: Vec<Name>,
    /// The Region that the request is for.
    pub region: String,
    /// The service that the request is for, by its name in signatures.
    pub service: String,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureError {
    /// The kind of error.
    pub kind: ErrorKind,
    /// The error message, with what to do.
    pub message: String,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request has no signature.
    Missing,
    /// The signature has not the form of one.
    Incomplete,
    /// There is no such key.
    UnknownKey,
    /// The signature is not that of the request.
    Mismatch,
    /// The time of the request differs too much from the server's.
    Expired,
}

impl SignatureError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> SignatureError {
        SignatureError { kind, message: message.into() }
    }

    /// AWS's code of the error in a protocol.
    pub fn code(&self, protocol: Protocol) -> &'static str {
        let is_json = matches!(protocol, Protocol::Json | Protocol::RestJson);
        match (self.kind, is_json) {
            (ErrorKind::Missing, true) => "MissingAuthenticationTokenException",
            (ErrorKind::Missing, false) => "MissingAuthenticationToken",
            (ErrorKind::Incomplete, true) => "IncompleteSignatureException",
            (ErrorKind::Incomplete, false) => "IncompleteSignature",
            (ErrorKind::UnknownKey, true) => "UnrecognizedClientException",
            (ErrorKind::UnknownKey, false) => "InvalidClientTokenId",
            // SDKs correct their clocks by the answer's `Date` after these.
            (ErrorKind::Mismatch | ErrorKind::Expired, true) => "InvalidSignatureException",
            (ErrorKind::Mismatch, false) => "SignatureDoesNotMatch",
            (ErrorKind::Expired, false) => "RequestExpired",
        }
    }
}

/// What a signature says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// The identifier of the key.
    pub access_key_id: String,
    /// The Region.
    pub region: String,
    /// The service.
    pub service: String,
    /// The day of the scope, as in `20261130`.
    date: String,
    /// The time of the request, as in `20261130T120000Z`.
    time: String,
    /// The names of the signed headers, in lower case.
    signed_headers: Vec<String>,
    signature: String,
    /// For a signature in the query: its validity in seconds.
    expires: Option<i64>,
}

impl Claim {
    /// Reads the claim in the header `Authorization`, or in the query.
    ///
    /// # Errors
    ///
    /// The request has no signature, or not a whole one.
    pub fn read(query: &str, headers: &HeaderMap) -> Result<Claim, SignatureError> {
        let mut authorizations = headers.get_all("authorization").iter();
        let authorization = authorizations.next();
        if authorizations.next().is_some() {
            return Err(incomplete("the request has several headers `Authorization`"));
        }
        let claim = match authorization.and_then(|value| value.to_str().ok()?.strip_prefix(ALGORITHM)) {
            Some(rest) => Claim::of_header(rest, headers),
            None if query.contains("X-Amz-Signature=") => Claim::of_query(query),
            None => Err(SignatureError::new(
                ErrorKind::Missing,
                format!("the request has no signature: sign it with {ALGORITHM} in the header `Authorization`"),
            )),
        }?;
        // An unsigned header of AWS could be changed on the way: `X-Amz-Target` names the operation.
        let unsigned = headers.keys().map(|name| name.as_str()).find(|name| {
            (*name == "host" || name.starts_with("x-amz-")) && !claim.signed_headers.iter().any(|signed| signed == name)
        });
        match unsigned {
            Some(name) => Err(incomplete(format!("the header `{name}` is not among the signed headers"))),
            None => Ok(claim),
        }
    }

    fn of_header(rest: &str, headers: &HeaderMap) -> Result<Claim, SignatureError> {
        let mut members: HashMap<&str, &str> = HashMap::new();
        for part in rest.split(',').map(str::trim) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| incomplete("`Authorization`: expected `NAME=VALUE`"))?;
            if members.insert(name, value).is_some() {
                return Err(incomplete(format!("`Authorization` has `{}` twice", short(name))));
            }
        }
        let member = |name: &str| {
            members.get(name).copied().ok_or_else(|| incomplete(format!("`Authorization` has no `{name}`")))
        };
        let (credential, signed, signature) = (member("Credential")?, member("SignedHeaders")?, member("Signature")?);
        let mut times = headers.get_all("x-amz-date").iter();
        let time = times.next().or_else(|| headers.get("date")).and_then(|value| value.to_str().ok());
        let time = time.ok_or_else(|| incomplete("the request has no header `X-Amz-Date`"))?;
        if times.next().is_some() {
            return Err(incomplete("the request has several headers `X-Amz-Date`"));
        }
        Claim::new(credential, signed, signature, time, None)
    }

    fn of_query(query: &str) -> Result<Claim, SignatureError> {
        let parameters = percent::parameters(query).map_err(incomplete)?;
        let parameter = |name: &str| {
            let mut found = parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                (None, _) => Err(incomplete(format!("the query has no `{name}`"))),
                _ => Err(incomplete(format!("the query has `{name}` twice"))),
            }
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(format!("`X-Amz-Algorithm`: expected {ALGORITHM}")));
        }
        let expires = parameter("X-Amz-Expires")?.parse().ok().filter(|seconds| (1..=MAX_EXPIRES).contains(seconds));
        let expires =
            expires.ok_or_else(|| incomplete(format!("`X-Amz-Expires`: expected 1 to {MAX_EXPIRES} seconds")))?;
        let (credential, signed) = (parameter("X-Amz-Credential")?, parameter("X-Amz-SignedHeaders")?);
        Claim::new(credential, signed, parameter("X-Amz-Signature")?, parameter("X-Amz-Date")?, Some(expires))
    }

    fn new(
        credential: &str,
        signed: &str,
        signature: &str,
        time: &str,
        expires: Option<i64>,
    ) -> Result<Claim, SignatureError> {
        let malformed = || incomplete("`Credential`: expected `KEY/DATE/REGION/SERVICE/aws4_request`");
        let mut parts = credential.rsplitn(5, '/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or_else(malformed);
        let (end, service, region, date, access_key_id) = (part()?, part()?, part()?, part()?, part()?);
        let is_word = |text: &str| {
            text.len() <= 64
                && text.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
        };
        if end != SCOPE_END || !is_word(service) || !is_word(region) || access_key_id.len() > 128 {
            return Err(malformed());
        }
        let signed_headers: Vec<String> = signed.split(';').map(str::to_string).collect();
        if signed_headers.iter().any(|name| name.is_empty() || name.bytes().any(|octet| octet.is_ascii_uppercase())) {
            return Err(incomplete("`SignedHeaders`: expected names in lower case, with `;` between them"));
        }
        if !signed_headers.iter().any(|name| name == "host") {
            return Err(incomplete("the header `host` is not among the signed headers"));
        }
        if !time.starts_with(date) || seconds_of(time).is_none() {
            return Err(incomplete("`X-Amz-Date`: expected a time as in 20261130T120000Z, of the day in `Credential`"));
        }
        Ok(Claim {
            access_key_id: access_key_id.into(),
            region: region.into(),
            service: service.into(),
            date: date.into(),
            time: time.into(),
            signed_headers,
            signature: signature.into(),
            expires,
        })
    }

    /// Checks the time of the request. `now` is the server's, in seconds since 1970.
    fn check_time(&self, now: i64) -> Result<(), SignatureError> {
        let time = seconds_of(&self.time).unwrap_or(i64::MIN);
        let late = time.saturating_add(self.expires.unwrap_or(MAX_SKEW));
        if time.saturating_sub(MAX_SKEW) <= now && now <= late {
            return Ok(());
        }
        let message = match self.expires {
            Some(_) if now > late => format!("the signature of {} has expired", self.time),
            _ => format!(
                "the request is of {}, which is more than 15 minutes from the server's time: set the client's clock",
                self.time
            ),
        };
        Err(SignatureError::new(ErrorKind::Expired, message))
    }
}

/// Verifies the signature of a request. `now` is in seconds since 1970. `body` is the body as it was received.
///
/// # Errors
///
/// The request has no signature, not a whole one, one of an unknown key, one of another request, or one that is too old.
pub fn verify(
    method: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
    keys: &Keys,
) -> Result<Principal, SignatureError> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let claim = Claim::read(query, headers)?;
    let Some(key) = keys.0.get(&claim.access_key_id) else {
        let message = "there is no access key with this identifier: check AWS_ACCESS_KEY_ID";
        return Err(SignatureError::new(ErrorKind::UnknownKey, message));
    };
    let mismatch = |message: &str| Err(SignatureError::new(ErrorKind::Mismatch, message));
    let body_hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    let claimed_hash = headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or_default());
    let body_hash = match claimed_hash {
        None => body_hash,
        Some(UNSIGNED) => UNSIGNED.into(),
        Some(claimed) if claimed == body_hash => body_hash,
        Some(_) => return mismatch("`X-Amz-Content-SHA256` is not the hash of the body"),
    };
    let signature = data_encoding::HEXLOWER.decode(claim.signature.as_bytes()).ok();
    let Some(signature) = signature.filter(|signature| signature.len() == digest::SHA256_OUTPUT_LEN) else {
        return Err(incomplete("`Signature`: expected 64 hexadecimal digits in lower case"));
    };
    let derived = key.derived(&claim.date, &claim.region, &claim.service);
    let scope = format!("{}/{}/{}/{SCOPE_END}", claim.date, claim.region, claim.service);
    let is_right = queries(query).iter().any(|query| {
        let request =
            CanonicalRequest { method, path, query, headers, signed: &claim.signed_headers, body_hash: &body_hash };
        let hash = hex(digest::digest(&digest::SHA256, &request.octets()).as_ref());
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", claim.time);
        // It takes the same time wherever the signatures differ.
        hmac::verify(&derived, text.as_bytes(), &signature).is_ok()
    });
    if !is_right {
        return mismatch(
            "the signature is not that of this request: check AWS_SECRET_ACCESS_KEY, and that nothing between client and server \
             changes the path, a signed header such as `Host`, or the body",
        );
    }
    // The time comes last: the client's clock is of no interest if the signature is wrong.
    claim.check_time(now)?;
    Ok(Principal {
        account: key.account.clone(),
        may_write: key.may_write,
        networks: key.networks.clone(),
        domains: key.domains.clone(),
        access_key_id: claim.access_key_id,
        region: claim.region,
        service: claim.service,
    })
}

fn incomplete(message: impl Into<String>) -> SignatureError {
    SignatureError::new(ErrorKind::Incomplete, message)
}

/// At most 40 characters of a text.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn hex(octets: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(octets)
}

/// The seconds since 1970 of a time as in `20261130T120000Z`.
fn seconds_of(time: &str) -> Option<i64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let is_number =
        |text: &str, digits: usize| text.len() == digits && text.bytes().all(|octet| octet.is_ascii_digit());
    if !is_number(date, 8) || !is_number(clock, 6) {
        return None;
    }
    let part = |text: &str, from: usize| text.get(from..from + 2).map(str::to_string);
    let (year, month, day) = (date.get(..4)?, part(date, 4)?, part(date, 6)?);
    let (hour, minute, second) = (part(clock, 0)?, part(clock, 2)?, part(clock, 4)?);
    let time: jiff::Timestamp = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()?;
    Some(time.as_second())
}
