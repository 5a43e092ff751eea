//! Results of a proof, and reasons for its failure.

use crate::{forward::upstream::Failure, wire::codes::ede};
use std::fmt;

/// Reason why a record set or a negative answer is not proven. Later reasons are more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No signature by the zone is present.
    SignaturesMissing,
    /// The zone does not have the keys that made the signatures.
    KeyMissing,
    /// The signatures are not valid yet.
    NotYetValid,
    /// The signatures have expired.
    Expired,
    /// No record proves that the records do not exist.
    DenialMissing,
    /// The signatures are wrong, or records contradict each other.
    Bogus,
    /// The proof takes more work than the budget allows.
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

/// A failed proof.
#[derive(Clone, Debug)]
pub struct Unproven {
    /// Reason of the failure.
    pub reason: Reason,
    /// Text of the failure, for EDE.
    pub text: String,
    /// Failure of a query to other servers that the proof needed, if that caused the failed proof.
    pub failure: Option<Failure>,
}

impl Unproven {
    /// Creates a failed proof without a failed query.
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

/// Result of a successful proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Signatures prove the records, from the trust anchor down.
    Secure,
    /// The zone above proves that the records need no signature.
    Insecure,
}
