use super::*;
use crate::wire::{name::name_text, rdata::rtype};
use FirewallListFormat::{Adblock, Domains, Hosts, Rpz, SubdomainsIncluded};
use proptest::{collection::vec, prelude::*, sample::select};

fn read_all(
    text: &[u8],
    format: FirewallListFormat,
    zone: Option<&str>,
) -> (Vec<(u32, String, Scope, Detail)>, Content) {
    let zone = zone.map(|zone| Name::absolute(zone).unwrap());
    let mut entries = Vec::new();
    let content = read(&mut &*text, format, zone.as_ref(), &mut |entry| {
        assert!(!entry.name.iter().any(u8::is_ascii_uppercase));
        let text = name_text(entry.name);
        assert!(!text.is_empty(), "{:?} is no name", entry.name);
        entries.push((entry.line, text, entry.scope, entry.detail));
    });
    let content = content.unwrap();
    assert_eq!(content.entries, entries.len() as u64);
    (entries, content)
}

/// The names of a list, as text: `=` in front of exact names, `*.` in front of those for names below only.
fn names(text: &str, format: FirewallListFormat) -> Vec<String> {
    let (entries, _) = read_all(text.as_bytes(), format, None);
    let text = |(line, name, scope, _): (u32, String, Scope, Detail)| match scope {
        Scope::Exact => format!("{line} ={name}"),
        Scope::Below => format!("{line} *.{name}"),
        Scope::ExactAndBelow => format!("{line} {name}"),
    };
    entries.into_iter().map(text).collect()
}

fn skipped(text: &str, format: FirewallListFormat) -> Vec<(u32, String)> {
    let (_, content) = read_all(text.as_bytes(), format, None);
    content.first_skipped.into_iter().map(|skipped| (skipped.line, skipped.reason.into_owned())).collect()
}

#[test]
fn reads_domains() {
    let text = "# comment\n! other\n; third\n\nBad.Example\r\n*.worse.example. # why\n_dmarc.odd.example\n*\nmünchen.example\na\\.b.example";
    let expected = [
        "5 =bad.example.",
        "6 *.worse.example.",
        "7 =_dmarc.odd.example.",
        "8 .",
        "9 =xn--mnchen-3ya.example.",
        "10 =a\\.b.example.",
    ];
    assert_eq!(names(text, Domains), expected);
    let text = "*bad.example\nhttp://bad.example/x\nbad.example:80\n192.0.2.1\na..b\nbad example\n.\n";
    let reasons: Vec<String> = skipped(text, Domains).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.len(), MAX_SHOWN);
    for (reason, part) in
        reasons.iter().zip(["a dot must follow `*`", "a URL", "a port", "an IP address", "empty label"])
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(read_all(text.as_bytes(), Domains, None).1.skipped, 7);
}

#[test]
fn reads_domains_with_their_subdomains() {
    let text = "\u{feff}bad.example\n*.worse.example\n.worst.example\n*\n.\n";
    assert_eq!(names(text, SubdomainsIncluded), ["1 bad.example.", "2 worse.example.", "3 worst.example."]);
    assert_eq!(skipped(text, SubdomainsIncluded).len(), 2);
}

#[test]
fn reads_hosts_files() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\n\
                0.0.0.0 Bad.example worse.example\t# why\nbad.example\n0.0.0.0\n0.0.0.0 a/b good.example\n";
    assert_eq!(names(text, Hosts), ["5 =bad.example.", "5 =worse.example.", "8 =good.example."]);
    assert_eq!(skipped(text, Hosts).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [6, 7, 8]);
}

#[test]
fn reads_rules_of_ad_block_lists() {
    let text = "[Adblock Plus]\n! comment\n||bad.example^\n@@||good.bad.example^\n|exact.example^\n||*.below.example^\n\
                ||urgent.example^$important\n||six.example^$dnstype=AAAA|~A,denyallow=ok.six.example\n\
                ||again.example^$denyallow=ok.six.example,dnstype=AAAA|~A\n\
                example.com##.banner\n/ads[0-9]/\n||path.example^/x\n||script.example^$script\n||noend.example\n||a*b.example^\n";
    let (entries, content) = read_all(text.as_bytes(), Adblock, None);
    let rule = |is_exception, is_important, conditions| Detail::Rule { is_exception, is_important, conditions };
    let expected = [
        (3, "bad.example.", Scope::ExactAndBelow, Detail::Plain),
        (4, "good.bad.example.", Scope::ExactAndBelow, rule(true, false, None)),
        (5, "exact.example.", Scope::Exact, Detail::Plain),
        (6, "below.example.", Scope::Below, Detail::Plain),
        (7, "urgent.example.", Scope::ExactAndBelow, rule(false, true, None)),
        (8, "six.example.", Scope::ExactAndBelow, rule(false, false, Some(0))),
        (9, "again.example.", Scope::ExactAndBelow, rule(false, false, Some(0))),
    ];
    let expected: Vec<_> = expected.map(|(line, name, scope, detail)| (line, name.to_string(), scope, detail)).into();
    assert_eq!(entries, expected);
    assert!(content.has_rules);
    assert_eq!(
        (&*content.conditions[0].types, &*content.conditions[0].not_types),
        (&[rtype::AAAA][..], &[rtype::A][..])
    );
    assert_eq!(name_text(&content.conditions[0].except[0]), "ok.six.example.");
    assert_eq!(content.skipped, 6);
    assert!(content.first_skipped.iter().any(|skipped| skipped.reason.contains("`script`")));
}

const POLICY: &str = "\
$TTL 300
@ SOA ns hostmaster (
    1 ; serial
    3600 600 864000 60 )
  NS ns
bad CNAME .
*.Bad CNAME .
nodata.example 60 IN CNAME *.
pass.example CNAME rpz-passthru.
oldpass.example CNAME oldpass.example.
*.oldpass.example CNAME *.oldpass.example.
drop.example CNAME rpz-drop.
tcp.example CNAME rpz-tcp-only.
local.example A 192.0.2.1
 A 192.0.2.2
 TXT \"why; (because)\"
walled.example CNAME *.garden.example.
24.0.2.0.192.rpz-ip CNAME .
128.1.zz.db8.2001.rpz-client-ip CNAME rpz-drop.
32.1.2.0.192.rpz-client-ip A 192.0.2.9
ns.evil.example.rpz-nsdname CNAME .
*.evil.example.rpz-nsdname CNAME *.
rpz-nsdname CNAME .
33.0.2.0.192.rpz-nsip CNAME .
8.0.0.0.10.rpz-nsip CNAME .
33.0.2.0.192.rpz-ip CNAME .
* CNAME rpz-passthru.
outside.other. CNAME .
$INCLUDE other.zone
";

#[test]
fn reads_response_policy_zones() {
    let text = format!("$ORIGIN rpz.example.\n{POLICY}");
    for (zone, text) in [(Some("rpz.example"), POLICY), (None, &*text)] {
        let added = u32::from(zone.is_none());
        let (entries, content) = read_all(text.as_bytes(), Rpz, zone);
        let rpz = Detail::Rpz;
        let expected = [
            (6, "bad.", Scope::Exact, rpz(RpzAction::NxDomain)),
            (7, "bad.", Scope::Below, rpz(RpzAction::NxDomain)),
            (8, "nodata.example.", Scope::Exact, rpz(RpzAction::NoData)),
            (9, "pass.example.", Scope::Exact, rpz(RpzAction::PassThru)),
            (10, "oldpass.example.", Scope::Exact, rpz(RpzAction::PassThru)),
            (11, "oldpass.example.", Scope::Below, rpz(RpzAction::PassThru)),
            (12, "drop.example.", Scope::Exact, rpz(RpzAction::Drop)),
            (13, "tcp.example.", Scope::Exact, rpz(RpzAction::TcpOnly)),
            (14, "local.example.", Scope::Exact, rpz(RpzAction::Local(0))),
            (15, "local.example.", Scope::Exact, rpz(RpzAction::Local(1))),
            (16, "local.example.", Scope::Exact, rpz(RpzAction::Local(2))),
            (17, "walled.example.", Scope::Exact, rpz(RpzAction::Local(3))),
            (27, ".", Scope::Below, rpz(RpzAction::PassThru)),
        ];
        let expected: Vec<_> =
            expected.map(|(line, name, scope, detail)| (line + added, name.to_string(), scope, detail)).into();
        assert_eq!(entries, expected);
        let addresses: Vec<_> = content.addresses.iter().map(|a| (a.kind, a.block.to_string(), a.action)).collect();
        assert_eq!(
            addresses,
            [
                (AddressKind::Answer, "192.0.2.0/24".into(), RpzAction::NxDomain),
                (AddressKind::Client, "2001:db8::1/128".into(), RpzAction::Drop),
                (AddressKind::Client, "192.0.2.1/32".into(), RpzAction::Local(4)),
                (AddressKind::NameServer, "10.0.0.0/8".into(), RpzAction::NxDomain),
            ]
        );
        let server_names: Vec<_> =
            content.server_names.iter().map(|s| (name_text(&s.name), s.below_only, s.action)).collect();
        assert_eq!(
            server_names,
            [
                ("ns.evil.example.".into(), false, RpzAction::NxDomain),
                ("evil.example.".into(), true, RpzAction::NoData)
            ]
        );
        assert_eq!((content.of_servers(), content.skipped), ((2, 1), 5));
        assert_eq!(
            (content.local[3].rtype, name_text(&content.local[3].rdata)),
            (rtype::CNAME, "*.garden.example.".into())
        );
        assert_eq!((content.local[0].ttl, &*content.local[1].rdata), (300, &[192, 0, 2, 2][..]));
    }
}

/// A list in a file can have many more octets than memory.
#[test]
fn entries_that_stay_in_memory_have_a_limit() {
    let wire = |name: &str| Name::absolute(name).unwrap().as_wire().to_vec();
    let mut reader = RpzReader::new(Some(&Name::absolute("b").unwrap()));
    let mut content = Content::default();
    let mut read = |owner: &str, rtype, data: &[u8], content: &mut Content| {
        reader.record(&wire(owner), rtype, 60, data, 0, content, &mut |_| {}).is_ok()
    };
    let kinds = [
        ("ns.example.rpz-nsdname.b", rtype::CNAME, &[0][..]),
        ("32.1.0.0.127.rpz-nsip.b", rtype::CNAME, &[0]),
        ("32.1.0.0.127.rpz-ip.b", rtype::CNAME, &[0]),
        ("32.1.0.0.127.rpz-client-ip.b", rtype::CNAME, &[0]),
        ("local.example.b", rtype::A, &[192, 0, 2, 1]),
    ];
    for (owner, rtype, data) in kinds {
        assert!(read(owner, rtype, data, &mut content), "{owner}");
    }
    assert!(content.held_octets >= kinds.len() * ENTRY_OCTETS);
    content.held_octets = MAX_HELD_OCTETS;
    let before = content.clone();
    for (owner, rtype, data) in kinds.into_iter().take(4).chain([("local.example.b", rtype::A, &[192, 0, 2, 2][..])]) {
        assert!(!read(owner, rtype, data, &mut content), "{owner}");
    }
    assert_eq!(content, before);
    assert!(read("other.example.b", rtype::A, &[192, 0, 2, 1], &mut content), "local data that the list has");
    assert!(read("blocked.example.b", rtype::CNAME, &[0], &mut content), "names are in the table");
    assert_eq!(content.entries, before.entries + 2);
}

#[test]
fn entries_that_are_never_closed_end_with_the_file() {
    let (entries, content) = read_all(b"$ORIGIN x.\na ( CNAME\nb CNAME .\n", Rpz, None);
    assert_eq!((entries.len(), content.skipped), (0, 1));
    let mut long = b"$ORIGIN x.\na ( TXT\n".to_vec();
    (0..20_000).for_each(|_| long.extend(b"abcdef\n"));
    let (_, content) = read_all(&long, Rpz, None);
    assert!(content.skipped >= 1);
}

#[test]
fn skips_long_lines_and_shows_little_of_them() {
    let mut text = vec![b'a'; 3 * lines::MAX_LINE];
    text.extend(b"\nbad.example\n");
    for format in [Domains, Hosts, Adblock, Rpz, SubdomainsIncluded] {
        let (_, content) = read_all(&text, format, None);
        assert!(content.first_skipped[0].reason.contains("longer than"));
        assert!(content.first_skipped[0].text.len() <= MAX_SHOWN_CHARACTERS);
        assert_eq!(content.lines, 2);
    }
    assert_eq!(read_all(&text, Domains, None).0.len(), 1);
}

#[test]
fn recognises_pages_of_html() {
    for (text, expected) in
        [("\n\n <!DOCTYPE html>\n<p>", true), ("<HTML>", true), ("bad.example\n<html>", false), ("", false)]
    {
        assert_eq!(read_all(text.as_bytes(), Domains, None).1.is_html, expected, "{text}");
    }
}

/// Parts of valid lists.
const PARTS: &[&[u8]] = &[
    b"@@||",
    b"^",
    b"$dnstype=A|~B",
    b"$denyallow=a.b|c",
    b"\n",
    b"\\",
    b"\\255",
    b"*.",
    b"0.0.0.0 ",
    b"a.b",
    b" CNAME .",
    b"$ORIGIN ",
    b"(",
    b")",
    b"\"",
    b";",
    b"32.1.0.0.127.rpz-ip",
    b"zz.1.rpz-client-ip",
    b"\n\t A 1.2.3.4",
    b"\xc3\xbc",
    b"\xff",
    b"\0",
    b" IN ",
    b"@ SOA a b 1 2 3 4 5",
];

proptest! {
    /// The parts of valid lists in any order, and any octets.
    #[test]
    fn reads_any_octets_twice_alike(
        parts in vec(
            select(PARTS),
            0..60,
        ),
        other in vec(any::<u8>(), 0..200),
    ) {
        let mut text = parts.concat();
        text.extend(other);
        for format in [Domains, Hosts, Adblock, Rpz, SubdomainsIncluded] {
            for zone in [None, Some("b")] {
                let first = read_all(&text, format, zone);
                prop_assert_eq!(first, read_all(&text, format, zone));
            }
        }
    }
}
