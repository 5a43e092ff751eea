//! The table of record types: number, mnemonic and the fields of the data. A new record type is one
//! row of `types!`.

/// The type of a field of record data: its form on the wire and in text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// An octet.
    U8,
    /// Two octets.
    U16,
    /// Four octets.
    U32,
    /// Four octets of seconds. The text may have units, such as `1h30m`.
    Seconds,
    /// A point in time: seconds since 1970, in text as `20260131235959` (RFC 4034, section 3.2).
    Time,
    /// The number of a record type.
    RrType,
    /// A number of one or two octets that has mnemonics. `printed` tells whether zonal writes the
    /// mnemonic or the number.
    Mnemonic { octets: usize, mnemonics: &'static [(u16, &'static str)], printed: bool },
    /// The flags of a key: a number, or mnemonics joined by `|` (RFC 2535, section 7.1).
    KeyFlags,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A name that messages may compress: only types of RFC 1035 have such names (RFC 3597, section
    /// 4).
    CompressibleName,
    /// A name that messages must not compress.
    Name,
    /// Zero or more names that messages must not compress, to the end of the data.
    Names,
    /// A character-string.
    Text,
    /// A character-string, or nothing.
    TextOrNone,
    /// One or more character-strings, to the end of the data.
    Texts,
    /// A character-string of letters and digits, written without quotes (RFC 8659, section 4.1).
    Tag,
    /// Text without a length octet, to the end of the data.
    LongText,
    /// One or more octets in hexadecimal, to the end of the data.
    Hex,
    /// The digest of a DS record in hexadecimal. The digest type in front of it determines its
    /// length.
    DsDigest,
    /// A length octet and octets in hexadecimal; `-` for none (RFC 5155, section 3.3).
    Salt,
    /// A length octet and a hash in base32hex (RFC 5155, section 3.3).
    Hash,
    /// One or more octets in base64, to the end of the data.
    Base64,
    /// Octets in base64, or nothing.
    Base64OrNone,
    /// Octets in base64; `-` for none.
    Base64OrDash,
    /// A bitmap of record types, to the end of the data (RFC 4034, section 4.1.2).
    Bitmap,
    /// A bitmap of record types below 128, to the end of the data (RFC 2535, section 5.2).
    NxtBitmap,
    /// An NSAP address: `0x` and hexadecimal digits, with dots anywhere (RFC 1706).
    Nsap,
    /// An ATM address: hexadecimal digits, or `+` and decimal digits.
    Atma,
    /// Six octets in hexadecimal with hyphens (RFC 7043).
    Eui48,
    /// Eight octets in hexadecimal with hyphens (RFC 7043).
    Eui64,
    /// Eight octets in four hexadecimal groups with colons (RFC 6742).
    Node64,
    /// Latitude, longitude, altitude, size and precision (RFC 1876).
    Loc,
    /// Zero or more address prefixes (RFC 3123).
    Apl,
    /// A protocol and a bitmap of ports (RFC 1035, section 3.4.2).
    Wks,
    /// Nothing, an address or a name: the second octet of the data determines which (RFC 4025, RFC
    /// 8777).
    Gateway,
    /// Discovery bit and relay type in one octet (RFC 8777, section 4.2).
    Relay,
    /// Algorithm, host identity tag and public key (RFC 8005, section 5).
    Hip,
    /// Prefix length and the rest of the IPv6 address (RFC 2874).
    A6,
    /// The name of an address prefix; nothing if the prefix length is 0 (RFC 2874).
    PrefixName,
    /// Service parameters (RFC 9460, section 2.1).
    SvcParams,
}

/// A record type of the table.
#[derive(Debug)]
pub(super) struct Type {
    /// The number of the type.
    pub number: u16,
    /// The mnemonic of the type.
    pub mnemonic: &'static str,
    /// The fields of its data, each with a name. Empty for types that occur in messages only, and
    /// for NULL.
    pub fields: &'static [(&'static str, Field)],
}

use Field::*;

const ALGORITHM: Field = Mnemonic { octets: 1, mnemonics: ALGORITHMS, printed: false };
const DIGEST_TYPE: Field = Mnemonic { octets: 1, mnemonics: DIGEST_TYPES, printed: false };
const KEY_PROTOCOL: Field = Mnemonic { octets: 1, mnemonics: KEY_PROTOCOLS, printed: false };

const KEY: &[(&str, Field)] =
    &[("flags", KeyFlags), ("protocol", KEY_PROTOCOL), ("algorithm", ALGORITHM), ("public-key", Base64OrNone)];
/// A DNSKEY record always has a key, unlike a KEY record with the flag NOKEY: other implementations
/// refuse data without one.
const DNSSEC_KEY: &[(&str, Field)] =
    &[("flags", KeyFlags), ("protocol", KEY_PROTOCOL), ("algorithm", ALGORITHM), ("public-key", Base64)];
const DS: &[(&str, Field)] =
    &[("key-tag", U16), ("algorithm", ALGORITHM), ("digest-type", DIGEST_TYPE), ("digest", DsDigest)];
const SIGNATURE: &[(&str, Field)] = &[
    ("type-covered", RrType),
    ("algorithm", ALGORITHM),
    ("labels", U8),
    ("original-ttl", Seconds),
    ("expiration", Time),
    ("inception", Time),
    ("key-tag", U16),
    ("signer", Name),
    ("signature", Base64),
];
const TEXTS: &[(&str, Field)] = &[("text", Texts)];
const SERVICE: &[(&str, Field)] = &[("priority", U16), ("target", Name), ("params", SvcParams)];
const CERTIFICATE: &[(&str, Field)] = &[("usage", U8), ("selector", U8), ("matching-type", U8), ("data", Hex)];

macro_rules! types {
    ($($number:literal $constant:ident $mnemonic:literal $fields:expr;)*) => {
        /// The numbers of record types (IANA, Resource Record TYPEs).
        pub mod rtype {
            $(#[doc = concat!("`", $mnemonic, "`")] pub const $constant: u16 = $number;)*
        }

        /// All types that have a mnemonic, in the order of their numbers.
        pub(super) static TYPES: &[Type] = &[$(Type { number: $number, mnemonic: $mnemonic, fields: $fields }),*];
    };
}

types! {
    1 A "A" &[("address", Ipv4)];
    2 NS "NS" &[("name-server", CompressibleName)];
    3 MD "MD" &[("agent", CompressibleName)];
    4 MF "MF" &[("agent", CompressibleName)];
    5 CNAME "CNAME" &[("target", CompressibleName)];
    6 SOA "SOA" &[
        ("mname", CompressibleName), ("rname", CompressibleName), ("serial", U32), ("refresh", Seconds), ("retry", Seconds),
        ("expire", Seconds), ("minimum", Seconds),
    ];
    7 MB "MB" &[("host", CompressibleName)];
    8 MG "MG" &[("mailbox", CompressibleName)];
    9 MR "MR" &[("mailbox", CompressibleName)];
    10 NULL "NULL" &[];
    11 WKS "WKS" &[("address", Ipv4), ("protocol and ports", Wks)];
    12 PTR "PTR" &[("name", CompressibleName)];
    13 HINFO "HINFO" &[("cpu", Text), ("os", Text)];
    14 MINFO "MINFO" &[("responsible-mailbox", CompressibleName), ("error-mailbox", CompressibleName)];
    15 MX "MX" &[("preference", U16), ("exchange", CompressibleName)];
    16 TXT "TXT" TEXTS;
    17 RP "RP" &[("mailbox", Name), ("text-name", Name)];
    18 AFSDB "AFSDB" &[("subtype", U16), ("host", Name)];
    19 X25 "X25" &[("address", Text)];
    20 ISDN "ISDN" &[("address", Text), ("subaddress", TextOrNone)];
    21 RT "RT" &[("preference", U16), ("host", Name)];
    22 NSAP "NSAP" &[("address", Nsap)];
    23 NSAP_PTR "NSAP-PTR" &[("name", Name)];
    24 SIG "SIG" SIGNATURE;
    25 KEY "KEY" KEY;
    26 PX "PX" &[("preference", U16), ("map822", Name), ("mapx400", Name)];
    27 GPOS "GPOS" &[("longitude", Text), ("latitude", Text), ("altitude", Text)];
    28 AAAA "AAAA" &[("address", Ipv6)];
    29 LOC "LOC" &[("location", Loc)];
    30 NXT "NXT" &[("next", Name), ("types", NxtBitmap)];
    31 EID "EID" &[("data", Hex)];
    32 NIMLOC "NIMLOC" &[("data", Hex)];
    33 SRV "SRV" &[("priority", U16), ("weight", U16), ("port", U16), ("target", Name)];
    34 ATMA "ATMA" &[("address", Atma)];
    35 NAPTR "NAPTR" &[
        ("order", U16), ("preference", U16), ("flags", Text), ("service", Text), ("regexp", Text),
        ("replacement", Name),
    ];
    36 KX "KX" &[("preference", U16), ("exchanger", Name)];
    37 CERT "CERT" &[
        ("type", Mnemonic { octets: 2, mnemonics: CERT_TYPES, printed: true }), ("key-tag", U16),
        ("algorithm", Mnemonic { octets: 1, mnemonics: ALGORITHMS, printed: true }), ("certificate", Base64),
    ];
    38 A6 "A6" &[("prefix-length and suffix", A6), ("prefix-name", PrefixName)];
    39 DNAME "DNAME" &[("target", Name)];
    40 SINK "SINK" &[("meaning", U8), ("coding", U8), ("subcoding", U8), ("data", Base64OrNone)];
    41 OPT "OPT" &[];
    42 APL "APL" &[("prefixes", Apl)];
    43 DS "DS" DS;
    44 SSHFP "SSHFP" &[("algorithm", U8), ("fingerprint-type", U8), ("fingerprint", Hex)];
    45 IPSECKEY "IPSECKEY" &[
        ("precedence", U8), ("gateway-type", U8), ("algorithm", U8), ("gateway", Gateway),
        ("public-key", Base64OrNone),
    ];
    46 RRSIG "RRSIG" SIGNATURE;
    47 NSEC "NSEC" &[("next", Name), ("types", Bitmap)];
    48 DNSKEY "DNSKEY" DNSSEC_KEY;
    49 DHCID "DHCID" &[("digest", Base64)];
    50 NSEC3 "NSEC3" &[
        ("hash-algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", Salt), ("next-hash", Hash),
        ("types", Bitmap),
    ];
    51 NSEC3PARAM "NSEC3PARAM" &[("hash-algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", Salt)];
    52 TLSA "TLSA" CERTIFICATE;
    53 SMIMEA "SMIMEA" CERTIFICATE;
    55 HIP "HIP" &[("algorithm, tag and public-key", Hip), ("rendezvous-servers", Names)];
    56 NINFO "NINFO" TEXTS;
    57 RKEY "RKEY" KEY;
    58 TALINK "TALINK" &[("start", Name), ("end", Name)];
    59 CDS "CDS" DS;
    60 CDNSKEY "CDNSKEY" DNSSEC_KEY;
    61 OPENPGPKEY "OPENPGPKEY" &[("key", Base64)];
    62 CSYNC "CSYNC" &[("serial", U32), ("flags", U16), ("types", Bitmap)];
    63 ZONEMD "ZONEMD" &[("serial", U32), ("scheme", U8), ("hash-algorithm", U8), ("digest", Hex)];
    64 SVCB "SVCB" SERVICE;
    65 HTTPS "HTTPS" SERVICE;
    99 SPF "SPF" TEXTS;
    104 NID "NID" &[("preference", U16), ("node-identifier", Node64)];
    105 L32 "L32" &[("preference", U16), ("locator", Ipv4)];
    106 L64 "L64" &[("preference", U16), ("locator", Node64)];
    107 LP "LP" &[("preference", U16), ("name", Name)];
    108 EUI48 "EUI48" &[("address", Eui48)];
    109 EUI64 "EUI64" &[("address", Eui64)];
    249 TKEY "TKEY" &[];
    250 TSIG "TSIG" &[];
    251 IXFR "IXFR" &[];
    252 AXFR "AXFR" &[];
    253 MAILB "MAILB" &[];
    254 MAILA "MAILA" &[];
    255 ANY "ANY" &[];
    256 URI "URI" &[("priority", U16), ("weight", U16), ("target", LongText)];
    257 CAA "CAA" &[("flags", U8), ("tag", Tag), ("value", LongText)];
    258 AVC "AVC" TEXTS;
    259 DOA "DOA" &[
        ("enterprise", U32), ("type", U32), ("location", U8), ("media-type", Text), ("data", Base64OrDash),
    ];
    260 AMTRELAY "AMTRELAY" &[("precedence", U8), ("discovery and type", Relay), ("relay", Gateway)];
    261 RESINFO "RESINFO" TEXTS;
    262 WALLET "WALLET" TEXTS;
    32768 TA "TA" DS;
    32769 DLV "DLV" DS;
}

/// DNSSEC algorithms (IANA, DNS Security Algorithm Numbers). The first mnemonic of a number is the
/// one that is written.
const ALGORITHMS: &[(u16, &str)] = &[
    (1, "RSAMD5"),
    (2, "DH"),
    (3, "DSA"),
    (5, "RSASHA1"),
    (6, "NSEC3DSA"),
    (6, "DSA-NSEC3-SHA1"),
    (7, "NSEC3RSASHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (12, "ECCGOST"),
    (12, "ECC-GOST"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
    (252, "INDIRECT"),
    (253, "PRIVATEDNS"),
    (254, "PRIVATEOID"),
];

/// Digest types of DS records (IANA, DS RR Type Digest Algorithms).
const DIGEST_TYPES: &[(u16, &str)] =
    &[(1, "SHA-1"), (1, "SHA1"), (2, "SHA-256"), (2, "SHA256"), (3, "GOST"), (4, "SHA-384"), (4, "SHA384")];

/// Protocols of KEY records (RFC 2535, section 3.1.3).
const KEY_PROTOCOLS: &[(u16, &str)] =
    &[(0, "NONE"), (1, "TLS"), (2, "EMAIL"), (3, "DNSSEC"), (4, "IPSEC"), (255, "ALL")];

/// Certificate types (RFC 4398, section 2.1).
const CERT_TYPES: &[(u16, &str)] = &[
    (1, "PKIX"),
    (2, "SPKI"),
    (3, "PGP"),
    (4, "IPKIX"),
    (5, "ISPKI"),
    (6, "IPGP"),
    (7, "ACPKIX"),
    (8, "IACPKIX"),
    (253, "URI"),
    (254, "OID"),
];

/// Mnemonics of key flags (RFC 2535, section 7.1; RFC 3757).
pub(super) const KEY_FLAGS: &[(u16, &str)] = &[
    (0x8000, "NOAUTH"),
    (0x4000, "NOCONF"),
    (0xc000, "NOKEY"),
    (0x2000, "FLAG2"),
    (0x1000, "EXTEND"),
    (0x0800, "FLAG4"),
    (0x0400, "FLAG5"),
    (0x0000, "USER"),
    (0x0100, "ZONE"),
    (0x0200, "HOST"),
    (0x0300, "NTYP3"),
    (0x0080, "FLAG8"),
    (0x0080, "REVOKE"),
    (0x0040, "FLAG9"),
    (0x0020, "FLAG10"),
    (0x0010, "FLAG11"),
    (0x0001, "KSK"),
    (0x0001, "SEP"),
];

/// The row of a record type. None if the type has no mnemonic.
pub(super) fn entry(number: u16) -> Option<&'static Type> {
    TYPES.binary_search_by_key(&number, |entry| entry.number).ok().map(|at| &TYPES[at])
}
