//! What comes of a proof.

use crate::{forward::upstream::Failure, wire::codes::ede};
use std::fmt;

/// What is wrong with what is not proven; a later one says more than an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There are no signatures by the zone.
    SignaturesMissing,
    /// The zone does not have the keys that signatures are by.
    KeyMissing,
    /// Signatures are not valid yet.
    NotYetValid,
    /// Signatures have expired.
    Expired,
    /// Nothing proves that records do not exist.
    DenialMissing,
    /// Signatures are wrong, or records contradict each other.
    Bogus,
    /// To find out would take too much work.
    TooMuchWork,
}

impl Reason {
    /// The INFO-CODE of the extended error (RFC 8914).
    pub fn code(self) -> u16 {
        match self {
            Reason::Bogus | Reason::TooMuchWork => ede::DNSSEC_BOGUS,
            Reason::Expired => ede::SIGNATURE_EXPIRED,
            Reason::NotYetValid => ede::SIGNATURE_NOT_YET_VALID,
            Reason::KeyMissing => ede::DNSKEY_MISSING,
            Reason::SignaturesMissing => ede::RRSIGS_MISSING,
            Reason::DenialMissing => ede::NSEC_MISSING,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::SignaturesMissing => "is not signed",
            Reason::KeyMissing => "is signed by a key that the zone does not have",
            Reason::NotYetValid => "has only signatures that are not valid yet",
            Reason::Expired => "has only signatures that have expired",
            Reason::DenialMissing => "is missing, and nothing proves that it does not exist",
            Reason::Bogus => "is bogus",
            Reason::TooMuchWork => "takes too much work to validate",
        })
    }
}

/// Something that is not proven.
#[derive(Clone, Debug)]
pub struct Unproven {
    /// What is wrong.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
    /// What came of a question to other servers that the proof takes, if that is the cause.
    pub failure: Option<Failure>,
}

impl Unproven {
    /// Something that is not proven for this reason.
    pub fn new(reason: Reason, text: impl Into<String>) -> Unproven {
        Unproven { reason, text: text.into(), failure: None }
    }

    /// Whether other servers of the zone may have the proof.
    pub fn may_be_elsewhere(&self) -> bool {
        self.failure.is_none() && self.reason != Reason::TooMuchWork
    }
}

impl From<Unproven> for Failure {
    fn from(unproven: Unproven) -> Failure {
        unproven.failure.unwrap_or_else(|| super::super::failure(unproven.reason.code(), &unproven.text))
    }
}

/// How far something is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By signatures from the trust anchor on.
    Secure,
    /// It is proven that it need not be signed.
    Insecure,
}
