//! Identifiers that AWS has and the manifest does not: associations, interfaces, ARNs. They are derived, never stored.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// An identifier that follows from other identifiers: a prefix and 17 hexadecimal digits.
pub(super) fn derived(prefix: &str, parts: &[&str]) -> String {
    format!("{prefix}-{}", &digest(parts)[..17])
}

/// A new identifier: a prefix and 17 random hexadecimal digits.
pub(super) fn random(prefix: &str) -> String {
    let (one, two) = crate::clock::random_seed();
    format!("{prefix}-{one:016x}{:x}", two & 0xf)
}

/// A new identifier in the form of [`random`], whose first 11 digits are the time in milliseconds. Lists are in the order of
/// identifiers, so they have these resources in the order of their creation.
pub(super) fn next(prefix: &str) -> String {
    let (random, _) = crate::clock::random_seed();
    format!("{prefix}-{:011x}{:06x}", Timestamp::now().as_millisecond(), random & 0xff_ffff)
}

/// The hexadecimal digest of identifiers.
fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    HEXLOWER.encode(&digest.finalize())
}

/// The identifier of the hosted zone that names of VPC endpoints in a Region belong to, in aliases.
pub(super) fn endpoint_zone(region: &str) -> String {
    format!("Z{}", &digest(&["vpce", region])[..13].to_ascii_uppercase())
}

/// An ARN.
pub(super) fn arn(service: &str, region: &str, account: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{region}:{account}:{resource}")
}

/// The identifier of the change that made a revision: it holds the revision and the time.
pub(super) fn change(revision: u64, time: i64) -> String {
    format!("C{revision:012X}{time:010X}")
}

/// The revision and the time of the identifier of a change.
pub(super) fn read_change(id: &str) -> Option<(u64, i64)> {
    let digits = id.strip_prefix('C')?;
    let (revision, time) = digits.split_at_checked(12)?;
    let is_upper = digits.bytes().all(|octet| octet.is_ascii_digit() || (b'A'..=b'F').contains(&octet));
    let read = (u64::from_str_radix(revision, 16).ok()?, i64::from_str_radix(time, 16).ok()?);
    is_upper.then_some(read)
}

/// A new identifier of a hosted zone: `Z` and 19 random capital letters and digits. With its prefix `/hostedzone/` it has the
/// 32 characters that the model permits.
pub(super) fn random_hosted_zone() -> String {
    random_capitals('Z', 19)
}

/// A new identifier of a delegation set: `N` and 16 random capital letters and digits. With its prefix `/delegationset/` it has
/// the 32 characters that the model permits.
pub(super) fn random_delegation_set() -> String {
    random_capitals('N', 16)
}

/// A letter and at most 24 random capital letters and digits.
fn random_capitals(first: char, count: usize) -> String {
    let (one, two) = crate::clock::random_seed();
    let mut id = String::from(first);
    let mut rest = (u128::from(one) << 64) | u128::from(two);
    for _ in 0..count {
        let digit = (rest % 36) as u8;
        rest /= 36;
        id.push(char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
    }
    id
}
