//! The numbers of the DNS protocol that have a name: classes, header flags, operations, response
//! codes, EDNS options, extended errors, and the compression pointer. The source is IANA's registry
//! "Domain Name System (DNS) Parameters".
//!
//! Record types have a table of their own, with the fields of their data:
//! [`rtype`](super::rdata::rtype).

/// Classes (RFC 6895, section 3.2). zonal serves class IN only.
pub mod class {
    /// Internet (RFC 1035).
    pub const IN: u16 = 1;
    /// Chaos (RFC 1035).
    pub const CH: u16 = 3;
    /// Hesiod (RFC 1035).
    pub const HS: u16 = 4;
    /// NONE: in an update, "does not exist" or "delete" (RFC 2136).
    pub const NONE: u16 = 254;
    /// ANY: in a query any class; in an update "exists" or "delete all" (RFC 2136); in a TSIG
    /// record the only class.
    pub const ANY: u16 = 255;
}

/// Bits of the header's third and fourth octet, read as one number (RFC 1035, section 4.1.1).
pub mod flag {
    /// The message is a response.
    pub const QR: u16 = 0x8000;
    /// Mask of the four bits that hold the [operation](super::opcode).
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data (RFC 4035).
    pub const AD: u16 = 0x0020;
    /// Checking disabled (RFC 4035).
    pub const CD: u16 = 0x0010;
    /// Mask of the four bits that hold the lower part of the [response code](super::rcode).
    pub const RCODE: u16 = 0x000f;
}

/// Bits of the third and fourth octet of an OPT record's TTL, read as one number (RFC 6891, section
/// 6.1.4).
pub mod edns_flag {
    /// DNSSEC OK: the client takes DNSSEC records (RFC 3225).
    pub const DO: u16 = 0x8000;
}

/// Operations (RFC 6895, section 2.2): those that zonal knows.
pub mod opcode {
    use super::flag;

    /// QUERY (RFC 1035).
    pub const QUERY: u8 = 0;
    /// NOTIFY: a zone has changed (RFC 1996).
    pub const NOTIFY: u8 = 4;
    /// UPDATE: a request to change a zone (RFC 2136).
    pub const UPDATE: u8 = 5;

    /// The operation in the header's flags.
    pub const fn of_flags(flags: u16) -> u8 {
        ((flags & flag::OPCODE) >> flag::OPCODE.trailing_zeros()) as u8
    }

    /// The header's flags of an operation.
    pub const fn to_flags(opcode: u8) -> u16 {
        (opcode as u16) << flag::OPCODE.trailing_zeros()
    }
}

/// Response codes: those that zonal sends.
pub mod rcode {
    /// No error (RFC 1035).
    pub const NOERROR: u16 = 0;
    /// Format error (RFC 1035).
    pub const FORMERR: u16 = 1;
    /// Server failure (RFC 1035).
    pub const SERVFAIL: u16 = 2;
    /// Name error: the name does not exist (RFC 1035).
    pub const NXDOMAIN: u16 = 3;
    /// Not implemented (RFC 1035).
    pub const NOTIMP: u16 = 4;
    /// Refused (RFC 1035).
    pub const REFUSED: u16 = 5;
    /// The name that a DNAME record makes is too long (RFC 6672), or a name exists that must not
    /// exist (RFC 2136).
    pub const YXDOMAIN: u16 = 6;
    /// A record set exists that must not exist (RFC 2136).
    pub const YXRRSET: u16 = 7;
    /// A record set does not exist that must exist (RFC 2136).
    pub const NXRRSET: u16 = 8;
    /// The server is not authoritative for the zone (RFC 2136), or a signature is not valid (RFC
    /// 8945).
    pub const NOTAUTH: u16 = 9;
    /// A name is not in the zone (RFC 2136).
    pub const NOTZONE: u16 = 10;
    /// The EDNS version is not supported (RFC 6891).
    pub const BADVERS: u16 = 16;
    /// The server cookie is missing or wrong (RFC 7873).
    pub const BADCOOKIE: u16 = 23;

    /// All of them with their mnemonics.
    pub const MNEMONICS: [(u16, &str); 13] = [
        (NOERROR, "NOERROR"),
        (FORMERR, "FORMERR"),
        (SERVFAIL, "SERVFAIL"),
        (NXDOMAIN, "NXDOMAIN"),
        (NOTIMP, "NOTIMP"),
        (REFUSED, "REFUSED"),
        (YXDOMAIN, "YXDOMAIN"),
        (YXRRSET, "YXRRSET"),
        (NXRRSET, "NXRRSET"),
        (NOTAUTH, "NOTAUTH"),
        (NOTZONE, "NOTZONE"),
        (BADVERS, "BADVERS"),
        (BADCOOKIE, "BADCOOKIE"),
    ];

    /// The mnemonic at a position in [`MNEMONICS`], for metric labels; `other` beyond the end.
    pub fn label_at(position: usize) -> &'static str {
        MNEMONICS.get(position).map_or("other", |(_, mnemonic)| *mnemonic)
    }
}

/// EDNS option codes.
pub mod option {
    /// The name server's identifier (RFC 5001).
    pub const NSID: u16 = 3;
    /// The client's subnet (RFC 7871).
    pub const CLIENT_SUBNET: u16 = 8;
    /// DNS cookies (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// edns-tcp-keepalive (RFC 7828).
    pub const TCP_KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 12;
    /// Extended DNS errors (RFC 8914).
    pub const EDE: u16 = 15;
}

/// INFO-CODEs of extended DNS errors (RFC 8914, section 4): those that zonal sends.
pub mod ede {
    /// Other Error: no code fits; the text says what happened.
    pub const OTHER: u16 = 0;
    /// Stale Answer: an answer after its TTL, because no server could be reached.
    pub const STALE_ANSWER: u16 = 3;
    /// DNSSEC Bogus: an answer that DNSSEC does not prove.
    pub const DNSSEC_BOGUS: u16 = 6;
    /// Signature Expired.
    pub const SIGNATURE_EXPIRED: u16 = 7;
    /// Signature Not Yet Valid.
    pub const SIGNATURE_NOT_YET_VALID: u16 = 8;
    /// The DNSKEY record is missing.
    pub const DNSKEY_MISSING: u16 = 9;
    /// RRSIGs Missing: records without signatures in a signed zone.
    pub const RRSIGS_MISSING: u16 = 10;
    /// The NSEC or NSEC3 records are missing.
    pub const NSEC_MISSING: u16 = 12;
    /// Not Ready: zonal is not able to resolve the name at this time.
    pub const NOT_READY: u16 = 14;
    /// Blocked: a rule of the operator blocks the name.
    pub const BLOCKED: u16 = 15;
    /// Prohibited: the client may not ask this.
    pub const PROHIBITED: u16 = 18;
    /// Not Authoritative: no zone, endpoint or forwarding rule is responsible for the name.
    pub const NOT_AUTHORITATIVE: u16 = 20;
    /// Not Supported: zonal does not answer queries of this type or class.
    pub const NOT_SUPPORTED: u16 = 21;
    /// No Reachable Authority: no upstream server gave a usable answer.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// Network Error: an upstream server could not be reached.
    pub const NETWORK_ERROR: u16 = 23;
    /// Invalid Data: zonal has no valid copy of the zone.
    pub const INVALID_DATA: u16 = 24;
}

/// Compression of names: two octets that point to an earlier place in the message (RFC 1035,
/// section 4.1.4).
pub mod pointer {
    /// The two upper bits of a pointer; the others are an offset.
    const MARK: u16 = 0xc000;
    /// The lowest first octet of a pointer. The length octet of a label is at most 63.
    pub const MIN_FIRST_OCTET: u8 = (MARK >> 8) as u8;
    /// The largest offset that a pointer can hold, in octets from the start of the message.
    pub const MAX_OFFSET: usize = !MARK as usize;

    /// The pointer to an offset, which is at most [`MAX_OFFSET`].
    #[inline]
    pub const fn to(offset: usize) -> u16 {
        debug_assert!(offset <= MAX_OFFSET);
        MARK | offset as u16
    }

    /// Whether an octet at the place of a label's length begins a pointer.
    #[inline]
    pub const fn begins_with(octet: u8) -> bool {
        octet >= MIN_FIRST_OCTET
    }

    /// The offset that a pointer of these two octets holds.
    #[inline]
    pub const fn offset(first: u8, second: u8) -> usize {
        u16::from_be_bytes([first, second]) as usize & MAX_OFFSET
    }
}
