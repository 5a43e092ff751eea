//! Transaction signatures (TSIG, RFC 8945): signs messages, and verifies the signatures of others.
//!
//! A [`Session`] has the state that a request and its responses share: the key, and the MAC that
//! the next message continues.

mod keys;
#[cfg(test)]
mod tests;

use crate::wire::{
    Name,
    codes::class,
    query::{HEADER, skip_name},
    rdata::rtype::TSIG,
    response::read_name,
};
pub use keys::{Key, Keys};
use std::sync::Arc;

/// The maximum difference between clocks, in seconds (RFC 8945, section 10).
const FUDGE_SECONDS: u16 = 300;
/// The maximum number of unsigned messages between two signed ones (RFC 8945, section 5.3.1).
const MAX_UNSIGNED: usize = 99;
/// The TTL of a TSIG record (RFC 8945, section 4.2).
const NO_TTL: u32 = 0;
/// The minimum length of a truncated MAC, in octets (RFC 8945, section 5.2.2.1).
const MIN_MAC_OCTETS: usize = 10;

/// Errors of a signature (RFC 8945, section 3).
pub mod error {
    /// The MAC does not match the message.
    pub const BADSIG: u16 = 16;
    /// The key is unknown, or is for another algorithm.
    pub const BADKEY: u16 = 17;
    /// The message was signed too long ago, or clocks differ.
    pub const BADTIME: u16 = 18;
    /// The MAC is truncated more than is allowed.
    pub const BADTRUNC: u16 = 22;
}

/// A message that cannot be read, or that has a signature in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The result of the verification of a request.
pub enum Signed {
    /// The request has no signature.
    No,
    /// The signature is valid. The session signs the response.
    By(Session),
    /// The signature is not valid.
    Not(Failure),
}

/// A signature that is not valid. The response has RCODE NOTAUTH, and [`Failure::answer`] completes
/// it.
#[derive(Debug)]
pub struct Failure {
    /// One of the [errors](error).
    pub error: u16,
    key: Name,
    algorithm: Vec<u8>,
    time: u64,
    fudge: u16,
    original_id: [u8; 2],
    /// Signs the response, if key and MAC are valid.
    session: Option<Session>,
}

impl Failure {
    /// The name of the key in the request.
    pub fn key(&self) -> &Name {
        &self.key
    }

    /// Adds the TSIG record to the response, and signs it if that is safe (RFC 8945, section
    /// 5.3.2). `now` is in seconds since 1970.
    pub fn answer(self, message: &mut Vec<u8>, now: u64) {
        let other = match self.error {
            error::BADTIME => now.to_be_bytes()[2..].to_vec(),
            _ => Vec::new(),
        };
        let fields = Fields { time: self.time, fudge: self.fudge, error: self.error, other: &other };
        match self.session {
            Some(mut session) => session.sign_with(message, &fields),
            None => append(message, &self.key.to_lowercase(), &self.algorithm, &fields, &[], self.original_id),
        }
    }
}

/// The fields of a TSIG record that its MAC covers, without key and algorithm.
struct Fields<'a> {
    /// Seconds since 1970.
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Fields<'_> {
    fn timers(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[2..], &self.fudge.to_be_bytes()].concat()
    }
}

/// Why the signature of a response is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The response cannot be read.
    Malformed,
    /// The response, or too many of its messages, have no signature.
    Unsigned,
    /// The response is signed with another key or algorithm.
    Key,
    /// The MAC does not match the message.
    Mac,
    /// The response was signed too long ago, or clocks differ.
    Time,
    /// The server does not accept the signature of the request, with this [error].
    Rejected(u16),
}

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SignatureError::Malformed => "the answer cannot be read",
            SignatureError::Unsigned => "the answer is not signed",
            SignatureError::Key => "the answer is signed with another key",
            SignatureError::Mac => "the answer's signature is wrong",
            SignatureError::Time => "the answer was signed too long ago, or clocks differ",
            SignatureError::Rejected(error::BADKEY) => "the server does not know the key (BADKEY)",
            SignatureError::Rejected(error::BADSIG) => "the server has another secret for the key (BADSIG)",
            SignatureError::Rejected(error::BADTIME) => "the clock of the server differs (BADTIME)",
            SignatureError::Rejected(_) => "the server does not accept the signature",
        })
    }
}

impl std::error::Error for SignatureError {}

/// The signatures of a request and of its responses.
#[derive(Debug)]
pub struct Session {
    key: Arc<Key>,
    /// The MAC of the former message.
    mac: Vec<u8>,
    /// The next message is the first of the response.
    is_first: bool,
    /// In a response that is received: the octets and the number of messages since the last
    /// signature.
    unsigned: (Vec<u8>, usize),
}

impl Session {
    fn new(key: &Arc<Key>, mac: Vec<u8>) -> Session {
        Session { key: key.clone(), mac, is_first: true, unsigned: (Vec::new(), 0) }
    }

    /// The key.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Signs a request. `now` is in seconds since 1970. The session verifies the responses.
    pub fn request(key: &Arc<Key>, message: &mut Vec<u8>, now: u64) -> Session {
        let fields = Fields { time: now, fudge: FUDGE_SECONDS, error: 0, other: &[] };
        let mac = key.mac(&[message, &variables(&key.name, &key.algorithm_name(), &fields)]);
        let id = [message[0], message[1]];
        append(message, &key.name, &key.algorithm_name(), &fields, &mac, id);
        Session::new(key, mac)
    }

    /// Signs the next message of the response. `now` is in seconds since 1970.
    pub fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, &Fields { time: now, fudge: FUDGE_SECONDS, error: 0, other: &[] });
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, fields: &Fields) {
        let algorithm = self.key.algorithm_name();
        let mac = self.key.mac(&[&self.prefix(), message, &self.suffix(fields)]);
        let id = [message[0], message[1]];
        append(message, &self.key.name, &algorithm, fields, &mac, id);
        (self.mac, self.is_first) = (mac, false);
    }

    /// The number of octets that [`Session::sign`] adds to a message.
    pub fn size(&self) -> usize {
        self.key.name.as_wire().len() + 10 + self.key.algorithm_name().len() + 16 + self.key.mac_size()
    }

    /// The octets that are digested before the message (RFC 8945, section 4.3.1).
    fn prefix(&self) -> Vec<u8> {
        [&(self.mac.len() as u16).to_be_bytes(), &self.mac[..]].concat()
    }

    /// The octets that are digested after the message: the variables of the record; after the first
    /// message of a response, the timers only (RFC 8945, section 5.3.1).
    fn suffix(&self, fields: &Fields) -> Vec<u8> {
        match self.is_first {
            true => variables(&self.key.name, &self.key.algorithm_name(), fields),
            false => fields.timers(),
        }
    }

    /// Verifies the next message of the response, and removes its TSIG record. Returns the new
    /// length. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Why the signature is not valid.
    pub fn verify(&mut self, message: &mut [u8], now: u64) -> Result<usize, SignatureError> {
        let found = find(message).map_err(|Malformed| SignatureError::Malformed)?;
        let Some(found) = found else {
            let (octets, count) = &mut self.unsigned;
            if self.is_first || *count >= MAX_UNSIGNED {
                return Err(SignatureError::Unsigned);
            }
            octets.extend_from_slice(message);
            *count += 1;
            return Ok(message.len());
        };
        if found.error != 0 && found.error != error::BADTIME {
            return Err(SignatureError::Rejected(found.error));
        }
        if found.key != self.key.name || !found.algorithm.eq_ignore_ascii_case(&self.key.algorithm_name()) {
            return Err(SignatureError::Key);
        }
        let plain = found.strip(message);
        let fields = Fields { time: found.time, fudge: found.fudge, error: found.error, other: &found.other };
        let parts = [&self.prefix()[..], &self.unsigned.0, &plain, &self.suffix(&fields)];
        if !self.key.verify(&parts, &found.mac) {
            return Err(SignatureError::Mac);
        }
        if found.error != 0 {
            return Err(SignatureError::Rejected(found.error));
        }
        if now.abs_diff(found.time) > found.fudge.into() {
            return Err(SignatureError::Time);
        }
        (self.mac, self.is_first, self.unsigned) = (found.mac, false, (Vec::new(), 0));
        message[..plain.len()].copy_from_slice(&plain);
        Ok(plain.len())
    }

    /// Whether the last message was signed. The last message of a response has to be (RFC 8945,
    /// section 5.3.1).
    pub fn is_complete(&self) -> bool {
        !self.is_first && self.unsigned.1 == 0
    }
}

/// The TSIG record at the end of a message.
struct TsigRecord {
    /// The offset of the record.
    at: usize,
    key: Name,
    algorithm: Vec<u8>,
    time: u64,
    fudge: u16,
    mac: Vec<u8>,
    original_id: [u8; 2],
    error: u16,
    other: Vec<u8>,
}

impl TsigRecord {
    /// The message as it was signed: without the record, and with its original identifier.
    fn strip(&self, message: &[u8]) -> Vec<u8> {
        let mut plain = message[..self.at].to_vec();
        plain[..2].copy_from_slice(&self.original_id);
        let additional = u16::from_be_bytes([plain[10], plain[11]]).saturating_sub(1);
        plain[10..HEADER].copy_from_slice(&additional.to_be_bytes());
        plain
    }
}

/// Verifies the signature of a request. `now` is in seconds since 1970.
///
/// # Errors
///
/// The message is malformed.
pub fn verify(keys: &Keys, message: &[u8], now: u64) -> Result<Signed, Malformed> {
    let Some(found) = find(message)? else { return Ok(Signed::No) };
    let failure = |found: TsigRecord, error: u16, session: Option<Session>| {
        let TsigRecord { key, algorithm, time, fudge, original_id, .. } = found;
        Ok(Signed::Not(Failure { error, key, algorithm, time, fudge, original_id, session }))
    };
    let key = keys.get(&found.key).filter(|key| found.algorithm.eq_ignore_ascii_case(&key.algorithm_name()));
    let Some(key) = key.cloned() else { return failure(found, error::BADKEY, None) };
    let size = key.mac_size();
    if found.mac.len() > size || found.mac.len() < MIN_MAC_OCTETS.max(size / 2) {
        return Err(Malformed);
    }
    let fields = Fields { time: found.time, fudge: found.fudge, error: found.error, other: &found.other };
    let parts = [&found.strip(message)[..], &variables(&key.name, &key.algorithm_name(), &fields)];
    if !key.verify(&parts, &found.mac) {
        return failure(found, error::BADSIG, None);
    }
    if found.error != 0 {
        // Only responses report errors (RFC 8945, section 4.2): a request with an error is not
        // valid.
        return failure(found, error::BADSIG, None);
    }
    let session = Session::new(&key, found.mac.clone());
    if now.abs_diff(found.time) > found.fudge.into() {
        return failure(found, error::BADTIME, Some(session));
    }
    if found.mac.len() < size {
        return failure(found, error::BADTRUNC, Some(session));
    }
    Ok(Signed::By(session))
}

/// A message without its TSIG record; none if it has none, or has it in the wrong place.
pub fn without_signature(message: &[u8]) -> Option<Vec<u8>> {
    let found = find(message).ok()??;
    let mut plain = found.strip(message);
    plain[..2].copy_from_slice(&message[..2]);
    Some(plain)
}

/// The octets of the record that are digested (RFC 8945, section 4.3.3).
fn variables(key: &Name, algorithm: &[u8], fields: &Fields) -> Vec<u8> {
    let mut octets = key.to_lowercase().as_wire().to_vec();
    octets.extend_from_slice(&class::ANY.to_be_bytes());
    octets.extend_from_slice(&NO_TTL.to_be_bytes());
    octets.extend_from_slice(&algorithm.to_ascii_lowercase());
    octets.extend_from_slice(&fields.timers());
    octets.extend_from_slice(&fields.error.to_be_bytes());
    octets.extend_from_slice(&(fields.other.len() as u16).to_be_bytes());
    octets.extend_from_slice(fields.other);
    octets
}

/// Appends a TSIG record to a message, and counts it in the header.
fn append(message: &mut Vec<u8>, key: &Name, algorithm: &[u8], fields: &Fields, mac: &[u8], original_id: [u8; 2]) {
    let length = algorithm.len() + 16 + mac.len() + fields.other.len();
    message.extend_from_slice(key.as_wire());
    message.extend_from_slice(&TSIG.to_be_bytes());
    message.extend_from_slice(&class::ANY.to_be_bytes());
    message.extend_from_slice(&NO_TTL.to_be_bytes());
    message.extend_from_slice(&(length as u16).to_be_bytes());
    message.extend_from_slice(algorithm);
    message.extend_from_slice(&fields.timers());
    message.extend_from_slice(&(mac.len() as u16).to_be_bytes());
    message.extend_from_slice(mac);
    message.extend_from_slice(&original_id);
    message.extend_from_slice(&fields.error.to_be_bytes());
    message.extend_from_slice(&(fields.other.len() as u16).to_be_bytes());
    message.extend_from_slice(fields.other);
    let additional = u16::from_be_bytes([message[10], message[11]]).saturating_add(1);
    message[10..HEADER].copy_from_slice(&additional.to_be_bytes());
}

/// Finds the TSIG record, which has to be the last record of the message.
fn find(message: &[u8]) -> Result<Option<TsigRecord>, Malformed> {
    let number =
        |at: usize| message.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).ok_or(Malformed);
    let records = [number(6)?, number(8)?, number(10)?].map(usize::from);
    let (total, has_additional) = (records.iter().sum::<usize>(), records[2] > 0);
    let mut at = HEADER;
    for _ in 0..number(4)? {
        at = skip_name(message, at).ok_or(Malformed)? + 4;
    }
    for index in 0..total {
        let start = at;
        let fixed = skip_name(message, at).ok_or(Malformed)?;
        at = fixed + 10 + usize::from(number(fixed + 8)?);
        if at > message.len() {
            return Err(Malformed);
        }
        if number(fixed)? != TSIG {
            continue;
        }
        if index + 1 < total || !has_additional || at != message.len() {
            return Err(Malformed);
        }
        return read(message, start, fixed, &message[fixed + 10..at]).map(Some).ok_or(Malformed);
    }
    Ok(None)
}

fn read(message: &[u8], at: usize, fixed: usize, rdata: &[u8]) -> Option<TsigRecord> {
    let mut key = Vec::new();
    read_name(message, at, &mut key)?;
    if message[fixed + 2..fixed + 8] != [0, 255, 0, 0, 0, 0] {
        return None;
    }
    let (algorithm, rest) = rdata.split_at(crate::wire::name::wire_len(rdata)?);
    let (time, rest) = rest.split_first_chunk::<6>()?;
    let (fudge, rest) = rest.split_first_chunk()?;
    let (mac, rest) = counted(rest)?;
    let (original_id, rest) = rest.split_first_chunk()?;
    let (error, rest) = rest.split_first_chunk()?;
    let (other, rest) = counted(rest)?;
    rest.is_empty().then(|| TsigRecord {
        at,
        key: Name::from_wire(&key).unwrap_or_else(|_| Name::root()),
        algorithm: algorithm.into(),
        time: time.iter().fold(0, |time, octet| time << 8 | u64::from(*octet)),
        fudge: u16::from_be_bytes(*fudge),
        mac: mac.into(),
        original_id: *original_id,
        error: u16::from_be_bytes(*error),
        other: other.into(),
    })
}

/// Octets after their 16-bit length, and the rest.
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}
