//! Tables of record data, and round trips of generated data.

use super::*;
use proptest::prelude::*;

fn origin() -> Name {
    Name::absolute("x.test").unwrap()
}

fn text(rtype: u16, rdata: &[u8]) -> String {
    let mut text = String::new();
    write(&mut text, rtype, rdata).unwrap();
    text
}

/// Record type, text that is read, and text that is written, as by BIND 9.18; empty if both texts
/// are equal.
const CASES: &[(&str, &str, &str)] = &[
    ("A", "192.0.2.1", ""),
    ("A", "\\# 4 c0000201", "192.0.2.1"),
    ("A", "\\# 4 c0 0002 01", "192.0.2.1"),
    ("NS", "ns", "ns.x.test."),
    ("NS", "@", "x.test."),
    ("NS", "Ns.Example.", ""),
    ("MD", "a.", ""),
    ("MF", "a.", ""),
    ("CNAME", "a\\.b.c\\032d.", ""),
    ("SOA", "ns hostmaster 2026010100 1h 15m 1w 1d", "ns.x.test. hostmaster.x.test. 2026010100 3600 900 604800 86400"),
    ("SOA", ". . 1 1H30M 3w2D 4294967295 0", ". . 1 5400 1987200 4294967295 0"),
    ("MB", "a.", ""),
    ("MG", "a.", ""),
    ("MR", "a.", ""),
    ("NULL", "\\# 3 010203", ""),
    ("NULL", "\\# 0", ""),
    ("WKS", "10.0.0.1 tcp ftp SMTP telnet domain 8080", "10.0.0.1 6 21 23 25 53 8080"),
    ("WKS", "10.0.0.1 17", ""),
    ("PTR", "a.", ""),
    ("HINFO", "PC \"Linux 6\"", "\"PC\" \"Linux 6\""),
    ("MINFO", "a. b.", ""),
    ("MX", "10 mail", "10 mail.x.test."),
    ("TXT", "a\\\"b \"c\\\"\\;d\\200;\" e\"f\"", "\"a\\\"b\" \"c\\\";d\\200;\" \"e\" \"f\""),
    ("TXT", "\"\"", ""),
    ("TXT", "\"\\#\" 1 00", "\"#\" \"1\" \"00\""),
    ("TXT", "( a b )", "\"a\" \"b\""),
    ("RP", "a. b.", ""),
    ("AFSDB", "1 a.", ""),
    ("X25", "311061700956", "\"311061700956\""),
    ("ISDN", "150862028003217 004", "\"150862028003217\" \"004\""),
    ("ISDN", "\"150862028003217\"", ""),
    ("RT", "1 a.", ""),
    ("NSAP", "0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00", "0x47000580005a0000000001e133ffffff00016100"),
    ("NSAP-PTR", "a.", ""),
    ("SIG", "A 8 2 300 20260101000000 20250101000000 1 a. AAAA", ""),
    ("KEY", "NOKEY 3 8", "49152 3 8"),
    ("KEY", "0x0100 3 8 AAAA", "256 3 8 AAAA"),
    ("KEY", "ZONE|NOAUTH DNSSEC RSASHA256 AAAA", "33024 3 8 AAAA"),
    ("PX", "1 a. b.", ""),
    ("GPOS", "-32.6882 116.8652 10.0", "\"-32.6882\" \"116.8652\" \"10.0\""),
    ("AAAA", "2001:DB8::1", "2001:db8::1"),
    ("AAAA", "::ffff:1.2.3.4", ""),
    ("AAAA", "::1.2.3.4", ""),
    ("AAAA", "::1", ""),
    ("LOC", "42 21 54 N 71 06 18 W -24m 30m", "42 21 54.000 N 71 6 18.000 W -24.00m 30m 10000m 10m"),
    ("LOC", "42 N 71 06 18.5 W -24.05 0.3 1 90000000m", "42 0 0.000 N 71 6 18.500 W -24.05m 0.30m 1m 90000000m"),
    ("LOC", "52 N 0 E +10", "52 0 0.000 N 0 0 0.000 E 10.00m 1m 10000m 10m"),
    ("LOC", "0 S 180 e 42849672.95 0m", "0 0 0.000 N 180 0 0.000 E 42849672.95m 0.00m 10000m 10m"),
    ("NXT", "a. MX A", "a. A MX"),
    ("EID", "12 34", "1234"),
    ("NIMLOC", "1234", ""),
    ("SRV", "0 5 5060 sip", "0 5 5060 sip.x.test."),
    ("ATMA", "+61.2.3", "+6123"),
    ("ATMA", "3900.01", "390001"),
    (
        "NAPTR",
        "100 50 \"s\" SIP+D2U \"!^.*$!\\\\1!\" _sip._udp",
        "100 50 \"s\" \"SIP+D2U\" \"!^.*$!\\\\1!\" _sip._udp.x.test.",
    ),
    ("KX", "1 a.", ""),
    ("CERT", "pkix 1 8 AA AA", "PKIX 1 RSASHA256 AAAA"),
    ("CERT", "500 1 99 AAAA", ""),
    ("A6", "64 ::1 a.", ""),
    ("A6", "0 2001:db8::1", ""),
    ("A6", "128 a.", ""),
    ("DNAME", "a.", ""),
    ("SINK", "1 2 3 AAAA", ""),
    ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8", ""),
    ("APL", "1:0.0.0.0/0", ""),
    ("APL", "", ""),
    (
        "DS",
        "1 RSASHA256 SHA-1 2bb183af5f22588179a53b0a98631fad1a292118",
        "1 8 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    ),
    (
        "DS",
        "1 8 2 E2D3C916F6DEEAC73294E8268FB5885044A833FC5459588F4A9184CFC41A5766",
        "1 8 2 E2D3C916F6DEEAC73294E8268FB5885044A833FC5459588F4A9184CF C41A5766",
    ),
    ("SSHFP", "2 1 123456789ABCDEF67890123456789ABCDEF67890", ""),
    ("IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==", ""),
    ("IPSECKEY", "10 2 2 2001:db8::1 AAAA", ""),
    ("IPSECKEY", "10 3 2 gateway AAAA", "10 3 2 gateway.x.test. AAAA"),
    ("IPSECKEY", "10 0 0 .", ""),
    (
        "RRSIG",
        "TYPE1000 ED25519 2 1h 20380119031408 1 1 @ AAAA",
        "TYPE1000 15 2 3600 20380119031408 19700101000001 1 x.test. AAAA",
    ),
    ("NSEC", "b. TYPE65535 A RRSIG MX CAA", "b. A MX RRSIG CAA TYPE65535"),
    (
        "DNSKEY",
        "256 3 8 AwEAAaHIwpx3w4VHKi6i1LHnTaWeHCL154Jug0Rtc9ji5qwPXpBo6A5sRv7cSsPQKPIwxLpyCrbJ4mr2L0E=",
        "256 3 8 AwEAAaHIwpx3w4VHKi6i1LHnTaWeHCL154Jug0Rtc9ji5qwPXpBo6A5s Rv7cSsPQKPIwxLpyCrbJ4mr2L0E=",
    ),
    ("DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=", ""),
    (
        "NSEC3",
        "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
        "1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A",
    ),
    ("NSEC3", "1 0 1 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR", ""),
    ("NSEC3PARAM", "1 0 0 -", ""),
    ("NSEC3PARAM", "1 0 10 AB", ""),
    ("TLSA", "3 1 1 0c72ac70", "3 1 1 0C72AC70"),
    ("SMIMEA", "3 1 1 0C72AC70", ""),
    (
        "HIP",
        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdx rvs b.",
        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdx rvs.x.test. b.",
    ),
    ("HIP", "2 20 AwEAAbdx", ""),
    ("NINFO", "\"a\" \"b\"", ""),
    ("RKEY", "0 3 8 AAAA", ""),
    ("TALINK", "a. b.", ""),
    ("CDS", "0 0 0 00", ""),
    ("CDNSKEY", "0 3 0 AA==", ""),
    ("OPENPGPKEY", "AAAA", ""),
    ("CSYNC", "66 3 A NS AAAA", ""),
    ("ZONEMD", "2018031500 1 1 FEBE3D4C", ""),
    ("SVCB", "0 bar.", ""),
    ("SVCB", "1 . ech= key3=\\000\\053 key4=192.0.2.1 key1=h2", "1 . alpn=\"h2\" port=53 ipv4hint=192.0.2.1 ech"),
    (
        "SVCB",
        "1 foo alpn=\"f\\\\\\\\oo\\\\,bar,h2\" key667=hello\\210qoo key668",
        "1 foo.x.test. alpn=\"f\\\\\\\\oo\\\\,bar,h2\" key667=\"hello\\210qoo\" key668",
    ),
    (
        "HTTPS",
        "1 . alpn=\"h2,h3\" port=53 ipv4hint=1.2.3.4,5.6.7.8 mandatory=port,alpn no-default-alpn ech=AAAA ipv6hint=::1 \
         dohpath=/q{?dns} KEY9999=\"a b\\001\\\"\" ohttp",
        "1 . mandatory=alpn,port alpn=\"h2,h3\" no-default-alpn port=53 ipv4hint=1.2.3.4,5.6.7.8 ech=AAAA ipv6hint=::1 \
         dohpath=\"/q{?dns}\" ohttp key9999=\"a b\\001\\\"\"",
    ),
    ("SPF", "\"v=spf1 -all\"", ""),
    ("NID", "10 0014:4fff:ff20:ee64", "10 14:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0", ""),
    ("L64", "10 2001:db8:1140:1000", ""),
    ("LP", "10 a.", ""),
    ("EUI48", "00-00-5E-00-53-2a", "00-00-5e-00-53-2a"),
    ("EUI48", "0-1-5E-00-53-2a", "00-01-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a", ""),
    ("URI", "10 1 \"ftp://ftp.example/\"", ""),
    ("CAA", "0 issue \"ca.example; a=b\"", ""),
    ("CAA", "128 tbs unquoted", "128 tbs \"unquoted\""),
    ("CAA", "0 iodef \"\"", ""),
    ("AVC", "\"a\"", ""),
    ("DOA", "0 1 2 \"text/html\" -", ""),
    ("DOA", "0 1 2 \"text/html\" AAAA", ""),
    ("AMTRELAY", "10 1 3 a.", ""),
    ("AMTRELAY", "10 0 0 .", ""),
    ("AMTRELAY", "10 0 1 203.0.113.15", ""),
    ("AMTRELAY", "10 0 2 2001:db8::15", ""),
    ("RESINFO", "\"qnamemin\"", ""),
    ("WALLET", "\"a\"", ""),
    ("TA", "1 8 200 00", ""),
    ("DLV", "1 8 200 00", ""),
    ("TYPE65280", "\\# 0", ""),
    (
        "type65280",
        "\\# 30 00112233445566778899aabbccddeeff0011223344556677 8899aabbccdd",
        "\\# 30 00112233445566778899AABBCCDDEEFF00112233445566778899AABB CCDD",
    ),
];

#[test]
fn reads_and_writes_every_type() {
    for &(mnemonic, given, printed) in CASES {
        let rtype = type_from_text(mnemonic).unwrap();
        let rdata = parse_text(rtype, given, &origin()).unwrap_or_else(|error| panic!("{mnemonic} {given}: {error}"));
        assert!(check(rtype, &rdata), "{mnemonic} {given}");
        let expected = if printed.is_empty() { given } else { printed };
        assert_eq!(text(rtype, &rdata), expected, "{mnemonic} {given}");
        assert_eq!(parse_text(rtype, expected, &Name::root()).unwrap(), rdata, "{mnemonic} {expected}");
        // Known types accept the generic form of RFC 3597 too.
        let mut generic = format!("\\# {} ", rdata.len());
        encoding::write_hex(&mut generic, &rdata).unwrap();
        assert_eq!(parse_text(rtype, &generic, &origin()).unwrap(), rdata, "{mnemonic} {generic}");
    }
    for entry in TYPES.iter().filter(|entry| !entry.fields.is_empty()) {
        assert!(CASES.iter().any(|case| case.0 == entry.mnemonic), "no case for {}", entry.mnemonic);
    }
}

#[test]
fn names_the_wrong_token() {
    for (mnemonic, given, token, message) in [
        ("A", "192.0.2.256", 0, "address: `192.0.2.256` is not an IPv4 address"),
        ("A", "", 0, "address is missing; expected an IPv4 address"),
        ("A", "192.0.2.1 x", 1, "unexpected `x` behind the data"),
        ("AAAA", "192.0.2.1", 0, "address: `192.0.2.1` is not an IPv6 address"),
        ("MX", "mail", 0, "preference: `mail` is not a number from 0 to 65535"),
        ("MX", "65536 mail", 0, "preference: `65536` is not a number from 0 to 65535"),
        ("MX", "10", 1, "exchange is missing; expected a domain name"),
        ("MX", "10 a..b", 1, "exchange: `a..b` is not a domain name: the domain name has an empty label"),
        ("SOA", ". . 1 2 3 4x 5", 5, "expire: `4x` is not seconds, or a duration such as `1h30m`"),
        (
            "TXT",
            "a \\256",
            1,
            "text: `\\256` is not a string with `\\` before three digits up to 255, or before another character",
        ),
        ("TXT", "\"a", 0, "a quoted string does not end"),
        ("TXT", "a ; b", 1, "a `;` begins a comment"),
        ("DS", "1 8 2 00", 3, "the digest has 1 octets, which its digest type does not allow"),
        ("TLSA", "3 1 1 00 0g 00", 4, "data: `0g` is not pairs of hexadecimal digits"),
        ("DNSKEY", "256 3 8 AAA", 3, "public-key: `AAA` is not base64"),
        ("DNSKEY", "\\# 4 01020304", 2, "the octets are not valid DNSKEY data"),
        ("CDNSKEY", "\\# 4 00000300", 2, "the octets are not valid CDNSKEY data"),
        ("CAA", "0 is-sue \"x\"", 1, "tag: `is-sue` is not a word of letters and digits"),
        ("SVCB", "1 . port=1 port=2", 3, "the key `port` is given twice"),
        ("SVCB", "1 . mandatory=port", 2, "a key that `mandatory` lists is missing"),
        ("SVCB", "1 . no-default-alpn", 2, "`no-default-alpn` needs `alpn`"),
        ("SVCB", "1 . port=x", 2, "`port` needs a number from 0 to 65535"),
        ("SVCB", "1 . alpn=", 2, "`alpn` needs protocols such as h2,h3"),
        ("SVCB", "1 . foo=1", 2, "`foo` is not a key of service parameters"),
        ("A", "\\# 3 010203", 2, "the octets are not valid A data"),
        ("A", "\\# 4 010203", 1, "the length is 4, but there are 3 octets"),
        ("TYPE65280", "1.2.3.4", 0, "the format of TYPE65280 data is not known"),
        ("OPT", "1", 0, "the format of OPT data is not known"),
        ("LOC", "91 N 0 E 0", 0, "location: `91` is not an angle such as `42 21 54.000 N`"),
        ("WKS", "1.2.3.4 tcp nosuch", 2, "protocol and ports: `nosuch` is not a service such as smtp, or a port"),
        (
            "RRSIG",
            "A 8 2 1 20260230000000 1 1 . AAAA",
            4,
            "expiration: `20260230000000` is not a time such as 20260131235959",
        ),
    ] {
        let error = parse_text(type_from_text(mnemonic).unwrap(), given, &origin()).unwrap_err();
        assert_eq!((error.token, error.message.as_str()), (token, message), "{mnemonic} {given}");
    }
    let long = format!("\"{}\"", "x".repeat(256));
    let error = parse_text(rtype::TXT, &long, &origin()).unwrap_err();
    assert_eq!(error.to_string(), "a string has 256 octets, more than 255 (split it into several quoted strings)");
    let huge = format!("\"{}\" ", "x".repeat(255)).repeat(257);
    assert_eq!(
        parse_text(rtype::TXT, &huge, &origin()).unwrap_err().message,
        "record data is longer than 65535 octets"
    );
}

#[test]
fn converts_types_from_and_to_text() {
    assert_eq!(type_from_text("aaaa"), Some(28));
    assert_eq!(type_from_text("Type28"), Some(28));
    assert_eq!(type_from_text("TYPE65535"), Some(65535));
    for wrong in ["TYPE", "TYPE65536", "TYPE+1", "TYPEx", "", "AAA"] {
        assert_eq!(type_from_text(wrong), None, "{wrong}");
    }
    assert_eq!(type_to_text(65280), "TYPE65280");
    assert_eq!(similar_type("cnmae"), Some("CNAME"));
    assert_eq!(similar_type("XYZZY"), None);
    assert!(TYPES.windows(2).all(|pair| pair[0].number < pair[1].number));
    for entry in TYPES {
        assert_eq!(type_from_text(&type_to_text(entry.number)), Some(entry.number));
    }
}

#[test]
fn finds_names_in_record_data() {
    for (mnemonic, given, expected) in [
        ("A", "1.2.3.4", vec![]),
        ("MX", "10 a.", vec![("a.", true)]),
        ("SOA", "a. b. 1 2 3 4 5", vec![("a.", true), ("b.", true)]),
        ("MINFO", "a. b.", vec![("a.", true), ("b.", true)]),
        ("RP", "a. b.", vec![("a.", false), ("b.", false)]),
        ("SRV", "1 2 3 a.", vec![("a.", false)]),
        ("DNAME", "a.", vec![("a.", false)]),
        ("HIP", "2 20 AwEAAbdx a. b.", vec![("a.", false), ("b.", false)]),
        ("IPSECKEY", "10 3 2 a. AAAA", vec![("a.", false)]),
        ("IPSECKEY", "10 1 2 1.2.3.4 AAAA", vec![]),
        ("SVCB", "1 a. port=1", vec![("a.", false)]),
        ("A6", "64 ::1 a.", vec![("a.", false)]),
        ("TYPE65280", "\\# 2 0000", vec![]),
    ] {
        let rtype = type_from_text(mnemonic).unwrap();
        let rdata = parse_text(rtype, given, &origin()).unwrap();
        let found: Vec<_> = names(rtype, &rdata)
            .map(|(range, compressible)| (Name::from_wire(&rdata[range]).unwrap().to_string(), compressible))
            .collect();
        assert_eq!(found, expected.iter().map(|&(name, is)| (name.to_string(), is)).collect::<Vec<_>>(), "{mnemonic}");
    }
}

/// The number of a type in the table, or of one that is not.
fn any_type() -> impl Strategy<Value = u16> {
    (0..=TYPES.len()).prop_map(|at| TYPES.get(at).map_or(65280, |entry| entry.number))
}

/// The data of a case with some octets changed. It is valid more often than random data.
fn nearly_valid_data() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::sample::select(CASES), edits, 0usize..3).prop_map(|((mnemonic, given, _), edits, cut)| {
        let rtype = type_from_text(mnemonic).unwrap();
        let mut rdata = parse_text(rtype, given, &origin()).unwrap().to_vec();
        rdata.truncate(rdata.len().saturating_sub(cut.saturating_sub(1)));
        for (at, octet) in edits.iter().filter(|_| !rdata.is_empty()).collect::<Vec<_>>() {
            let at = at.index(rdata.len());
            rdata[at] = *octet;
        }
        (rtype, rdata)
    })
}

fn round_trip(rtype: u16, rdata: &[u8]) {
    let printed = text(rtype, rdata);
    let _ = names(rtype, rdata).count();
    if check(rtype, rdata) {
        let again = parse_text(rtype, &printed, &origin());
        assert_eq!(again.as_deref(), Ok(rdata), "{} {printed}", type_to_text(rtype));
    }
}

proptest! {
    #[test]
    fn writes_any_octets(rtype in any_type(), rdata in prop::collection::vec(any::<u8>(), 0..64)) {
        round_trip(rtype, &rdata);
    }

    #[test]
    fn writes_nearly_valid_octets((rtype, rdata) in nearly_valid_data()) {
        round_trip(rtype, &rdata);
    }

    #[test]
    fn never_panics_on_any_octets(rtype in any_type(), octets in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(tokens) = tokenise(&octets) {
            let _ = parse(rtype, &tokens, &origin());
        }
    }

    #[test]
    fn accepts_only_valid_data_from_any_words(
        rtype in any_type(),
        words in prop::collection::vec("\\\\#|[0-9]{1,3}|[a-z.:=\"\\\\-]{1,4}|alpn=[a-z\\\\,]{0,4}|[!+]?[12]:[0-9a-f.:]{0,5}/?[0-9]*|[0-9.]{1,8}m?|[NSEW]", 0..8),
    ) {
        if let Ok(rdata) = parse_text(rtype, &words.join(" "), &origin()) {
            prop_assert!(check(rtype, &rdata));
        }
    }
}
