use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Reads the file `a` as the zone x.test. `files` are all files, by name.
fn load(files: &[(&str, &[u8])]) -> (MasterFile, Vec<Problem>) {
    let files: BTreeMap<&Path, &[u8]> = files.iter().map(|&(name, text)| (Path::new(name), text)).collect();
    let mut opener = |path: &Path| match files.get(path) {
        Some(text) => Ok(text.to_vec()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    read(&mut opener, Path::new("a"), &Name::absolute("x.test").unwrap(), "zone-1")
}

/// Each record as `owner ttl type data`.
fn lines(master: &MasterFile) -> Vec<String> {
    let line = |record: &Record| {
        let mut data = String::new();
        rdata::write(&mut data, record.rtype, &record.rdata).unwrap();
        format!("{} {} {} {data}", record.owner, record.ttl, type_to_text(record.rtype))
    };
    master.records.iter().map(line).collect()
}

fn records(files: &[(&str, &[u8])]) -> Vec<String> {
    let (master, problems) = load(files);
    assert_eq!(problems, [], "{}", String::from_utf8_lossy(files[0].1));
    lines(&master)
}

/// Each problem as `file:line:column+length message (help)`.
fn problems(files: &[(&str, &[u8])]) -> Vec<String> {
    let line = |problem: Problem| {
        assert_eq!(problem.resource, Some(("private_hosted_zones", "zone-1".into())));
        assert_eq!(problem.field, "file");
        let location = problem
            .location
            .map_or(String::new(), |at| format!("{}:{}:{}+{} ", at.file.display(), at.line, at.column, at.length));
        let help = problem.help.map_or(String::new(), |help| format!(" ({help})"));
        format!("{location}{}{help}", problem.message)
    };
    load(files).1.into_iter().map(line).collect()
}

#[test]
fn reads_records_with_all_short_forms() {
    for (text, expected) in [
        ("@ 5 IN SOA ns h 1 2 3 4 9\n", vec!["x.test. 5 SOA ns.x.test. h.x.test. 1 2 3 4 9"]),
        ("a 5 A 1.1.1.1", vec!["a.x.test. 5 A 1.1.1.1"]),
        ("a\tIN\t5\tA\t1.1.1.1\r\n\r\nb 6 in a 1.1.1.2\r\n", vec!["a.x.test. 5 A 1.1.1.1", "b.x.test. 6 A 1.1.1.2"]),
        ("\u{feff}a 5 A 1.1.1.1\n", vec!["a.x.test. 5 A 1.1.1.1"]),
        ("A.X.Test. 1h30M CLASS1 TYPE1 1.1.1.1 ; comment", vec!["A.X.Test. 5400 A 1.1.1.1"]),
        (
            "a 5 A 1.1.1.1\n\n ; nothing\n  A 1.1.1.2\n;\n\tAAAA ::1",
            vec!["a.x.test. 5 A 1.1.1.1", "a.x.test. 5 A 1.1.1.2", "a.x.test. 5 AAAA ::1"],
        ),
        // $TTL is for those without a TTL; before it, the last TTL is.
        (
            "a 5 A 1.1.1.1\nb A 1.1.1.2\n$ttl 1m\nc A 1.1.1.3\nd 7 A 1.1.1.4\ne A 1.1.1.5",
            vec![
                "a.x.test. 5 A 1.1.1.1",
                "b.x.test. 5 A 1.1.1.2",
                "c.x.test. 60 A 1.1.1.3",
                "d.x.test. 7 A 1.1.1.4",
                "e.x.test. 60 A 1.1.1.5",
            ],
        ),
        ("@ SOA . . 1 2 3 4 9\na A 1.1.1.1\n", vec!["x.test. 9 SOA . . 1 2 3 4 9", "a.x.test. 9 A 1.1.1.1"]),
        (
            "@ SOA . . (\n 1 ; serial\n 2 ( 3\n 4 )\n9 ) ; end\n A 1.1.1.1",
            vec!["x.test. 9 SOA . . 1 2 3 4 9", "x.test. 9 A 1.1.1.1"],
        ),
        ("( a 5\nTXT b)\nc 5 TXT (d)(e)f", vec!["a.x.test. 5 TXT \"b\"", "c.x.test. 5 TXT \"d\" \"e\" \"f\""]),
        ("a\\;b 5 TXT a\\;b \"c;(d\" e\\ f g\"h\"", vec!["a\\;b.x.test. 5 TXT \"a;b\" \"c;(d\" \"e f\" \"g\" \"h\""]),
        ("\\$a 5 TXT $TTL\n\\@ 5 NS @", vec!["\\$a.x.test. 5 TXT \"$TTL\"", "\\@.x.test. 5 NS x.test."]),
        (
            "$ORIGIN b\na 5 NS c\n$ORIGIN d.x.test.\n@ 5 NS @\n",
            vec!["a.b.x.test. 5 NS c.b.x.test.", "d.x.test. 5 NS d.x.test."],
        ),
        (
            "$TTL 5\n$GENERATE 2-6/2 h$ A 10.0.0.${1}\n",
            vec!["h2.x.test. 5 A 10.0.0.3", "h4.x.test. 5 A 10.0.0.5", "h6.x.test. 5 A 10.0.0.7"],
        ),
        (
            "o 5 A 1.1.1.1\n$GENERATE 1-1 h$ 6 IN MX \"10 m${0,2,d}\"\n TXT x",
            vec!["o.x.test. 5 A 1.1.1.1", "h1.x.test. 6 MX 10 m01.x.test.", "o.x.test. 6 TXT \"x\""],
        ),
        ("$GENERATE 1-1 $.\\$.$$ 5 TXT \"a \\\"b $\\\"\"", vec!["1.\\$.\\$.x.test. 5 TXT \"a\" \"b 1\""]),
        ("$GENERATE 1-1 a 5 MX 10 b$", vec!["a.x.test. 5 MX 10 b1.x.test."]),
        ("", vec![]),
        ("; only a comment", vec![]),
    ] {
        assert_eq!(records(&[("a", text.as_bytes())]), expected, "{text}");
    }
    assert_eq!(records(&[("a", b"a\xff 5 TXT \xfe\"\xfd\"")]), ["a\\255.x.test. 5 TXT \"\\254\" \"\\253\""]);
}

#[test]
fn includes_files_with_their_origin() {
    let files: &[(&str, &[u8])] = &[
        ("a", b"$TTL 5\no A 1.1.1.1\n$INCLUDE d/b sub\n TXT o\nr A 1.1.1.4\n$include \"d/c\"\n"),
        ("d/b", b" TXT first\nb A 1.1.1.2\n$ORIGIN deep\n$INCLUDE c\n$TTL 6\n"),
        ("d/c", b"c A 1.1.1.3"),
    ];
    let expected = [
        "o.x.test. 5 A 1.1.1.1",
        "o.x.test. 5 TXT \"first\"",
        "b.sub.x.test. 5 A 1.1.1.2",
        "c.deep.sub.x.test. 5 A 1.1.1.3",
        "o.x.test. 6 TXT \"o\"",
        "r.x.test. 6 A 1.1.1.4",
        "c.x.test. 6 A 1.1.1.3",
    ];
    assert_eq!(records(files), expected);
    let (master, _) = load(files);
    let paths: Vec<_> = master.files.iter().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(paths, ["a", "d/b", "d/c", "d/c"]);
    assert_eq!((master.records[3].file, master.records[3].line), (2, 1));
    assert_eq!((master.records[4].file, master.records[4].line), (0, 4));
}

#[test]
fn reports_each_error_with_its_location() {
    for (text, expected) in [
        (
            "a 5 A 1.1.1\nb 5 A 1.1.1.1\nc 5 A x",
            vec![
                "a:1:7+5 address: `1.1.1` is not an IPv4 address (A data is: address)",
                "a:3:7+1 address: `x` is not an IPv4 address (A data is: address)",
            ],
        ),
        (
            "é 5 MX \"ö\" x",
            vec!["a:1:8+3 preference: `ö` is not a number from 0 to 65535 (MX data is: preference, exchange)"],
        ),
        (
            "a 5 SOA . . (\n 1\n 2 x\n 4 5 )\nb 5 A 1",
            vec![
                "a:3:4+1 retry: `x` is not seconds, or a duration such as `1h30m` (SOA data is: mname, rname, serial, refresh, retry, expire, minimum)",
                "a:5:7+1 address: `1` is not an IPv4 address (A data is: address)",
            ],
        ),
        ("a 5 AAA ::1", vec!["a:1:5+3 `AAA` is not a record type (did you mean AAAA?)"]),
        (
            "a 5 XYZZY ::1",
            vec!["a:1:5+5 `XYZZY` is not a record type (expected a mnemonic such as A, or TYPE and a number)"],
        ),
        ("a 5 ANY ::1", vec!["a:1:5+3 ANY records exist in messages only"]),
        ("a 5 MX 10", vec!["a:1:10+1 exchange is missing; expected a domain name (MX data is: preference, exchange)"]),
        ("a 5 IN", vec!["a:1:7+1 the record type is missing (write owner, TTL, class, type and data)"]),
        ("a 5 CH TXT a", vec!["a:1:5+2 class CH is not supported (write IN or no class)"]),
        (
            "a 2147483648 A 1.1.1.1",
            vec![
                "a:1:3+10 `2147483648` is not a TTL (expected seconds up to 2147483647, or a duration such as `1h30m`)",
            ],
        ),
        (
            "a 1h30 A 1.1.1.1",
            vec!["a:1:3+4 `1h30` is not a TTL (expected seconds up to 2147483647, or a duration such as `1h30m`)"],
        ),
        (
            "a A 1.1.1.1\nb A 1.1.1.1",
            vec![
                "a:1:3+1 the record has no TTL, and there is no default TTL (write `$TTL 300` at the start of the file, or a TTL in front of the type)",
            ],
        ),
        (
            " 5 A 1.1.1.1",
            vec![
                "a:1:2+1 the owner is blank, but there is no previous record (begin the line with an owner, or with `@` for the zone's apex)",
            ],
        ),
        ("b.other. 5 A 1.1.1.1\n A 1.1.1.2", vec!["a:1:1+8 b.other. is outside the zone x.test."]),
        ("a..b 5 A 1.1.1.1", vec!["a:1:1+4 owner: `a..b` is not a domain name: the domain name has an empty label"]),
        (
            "a 5 TXT \"b\n c\"\nd 5 A 1",
            vec![
                "a:1:9+1 a quoted string does not end on its line (close it with a double quote)",
                "a:2:3+1 a quoted string does not end on its line (close it with a double quote)",
                "a:3:7+1 address: `1` is not an IPv4 address (A data is: address)",
            ],
        ),
        (
            "a 5 SOA . . (\n 1 2\n 3 4 5\nb 5 A 1.1.1.1\nc 5 A 1",
            vec![
                "a:1:13+1 `(` is never closed (close it with `)`)",
                "a:5:7+1 address: `1` is not an IPv4 address (A data is: address)",
            ],
        ),
        (
            "a 5 A 1.1.1.1 )\nc 5 A 1",
            vec![
                "a:1:15+1 `)` has no `(` (remove it, or write `\\)`)",
                "a:2:7+1 address: `1` is not an IPv4 address (A data is: address)",
            ],
        ),
        (
            "$FOO 5",
            vec![
                "a:1:1+4 `$FOO` is not a directive (directives are $ORIGIN, $TTL, $INCLUDE and $GENERATE; write `\\$` for a name that begins with `$`)",
            ],
        ),
        (" $TTL 5", vec!["a:1:2+4 `$TTL` is not a record type (write a directive in the first column)"]),
        ("$TTL", vec!["a:1:5+1 $TTL is incomplete (write a TTL, such as `$TTL 300` or `$TTL 1h30m`)"]),
        ("$TTL 5 x", vec!["a:1:8+1 unexpected `x` behind the directive"]),
        ("$ORIGIN a..", vec!["a:1:9+3 origin: `a..` is not a domain name: the domain name has an empty label"]),
        ("$INCLUDE b", vec!["a:1:10+1 cannot read b: no such file"]),
        ("$INCLUDE a", vec!["a:1:10+1 a file includes itself: a includes a"]),
        (
            "$GENERATE 1-2 a$ 5 A 1.1.1.x$",
            vec!["a:1:22+8 for 1: address: `1.1.1.x1` is not an IPv4 address (A data is: address)"],
        ),
        (
            "$GENERATE 0-300/100 a$ 5 A 1.1.1.$",
            vec!["a:1:28+7 for 300: address: `1.1.1.300` is not an IPv4 address (A data is: address)"],
        ),
        ("$GENERATE 1-2 $.other. 5 A 1.1.1.1", vec!["a:1:15+8 for 1: 1.other. is outside the zone x.test."]),
        ("$GENERATE 0-1000000 $ 5 A 1.1.1.1", vec!["a:1:11+9 the directive makes 1000001 records, more than 1000000"]),
        (
            "$GENERATE 1-2",
            vec![
                "a:1:14+1 the owner is missing (write a range START-STOP or START-STOP/STEP, owner, type and data: `$GENERATE 1-10 host$ A 192.0.2.$`)",
            ],
        ),
        ("a 5 TXT b\0c\0", vec!["a:1:10+1 the file contains a NUL octet: it is not a text file"]),
    ] {
        assert_eq!(problems(&[("a", text.as_bytes())]), expected, "{text}");
    }
    assert_eq!(problems(&[("b", b"")]), ["cannot read a: no such file"]);
}

#[test]
fn bounds_the_work_for_hostile_files() {
    let cycle: &[(&str, &[u8])] = &[("a", b"$INCLUDE b"), ("b", b"\n$INCLUDE a")];
    assert_eq!(problems(cycle), ["b:2:10+1 a file includes itself: a includes b includes a"]);
    let names: Vec<_> = (0..30).map(|i| if i == 0 { "a".to_string() } else { format!("f{i}") }).collect();
    let texts: Vec<_> = (1..31).map(|i| format!("$INCLUDE f{i}")).collect();
    let deep: Vec<_> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let found = problems(&deep);
    assert!(
        found[0].starts_with("f20:1:10+3 $INCLUDE is nested more than 20 deep: a includes f1 includes f2 "),
        "{found:?}"
    );
    assert_eq!(found.len(), 1);

    let many = "x\n".repeat(1000);
    let found = problems(&[("a", many.as_bytes())]);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "a:101:2+1 the zone has more than 100 errors; zonal did not read the rest");
    // A deep nest and a long entry cost little.
    let parentheses = "( a ".repeat(200_000);
    assert_eq!(problems(&[("a", parentheses.as_bytes())]).len(), 1);
    let labels = format!("{} 5 A 1.1.1.1", "a.".repeat(65_536));
    assert_eq!(problems(&[("a", labels.as_bytes())]).len(), 1);
    let bomb = format!("$GENERATE 0-999999 a$ 5 TXT{}", format!(" \"{}\"", "x".repeat(250)).repeat(100));
    let expected = "a:1:11+8 the directive makes 24133 MiB of text, more than 64 MiB";
    assert_eq!(problems(&[("a", bomb.as_bytes())]), [expected]);
    let long = format!("a 5 TYPE65280 \\# 65535 {}", "00 ".repeat(65_535));
    assert_eq!(load(&[("a", long.as_bytes())]).0.records[0].rdata.len(), 65_535);
}

#[test]
fn bounds_generated_and_repeatedly_included_records() {
    let many = "$GENERATE 0-499999 b$ 5 A 1.1.1.1\n$GENERATE 0-499999 c$ 5 A 1.1.1.1\n";
    let error = "more than 1000000 records of the zone are generated or in files that are included twice";
    assert_eq!(load(&[("a", many.as_bytes())]).0.records.len(), 1_000_000);
    let more = many.to_string() + "$GENERATE 1-1 d$ 5 A 1.1.1.1\ne 5 A 1.1.1.1\n";
    assert_eq!(problems(&[("a", more.as_bytes())]), [format!("a:3:11+3 {error}")]);
    // Ten files of ten lines. Each line includes the next file.
    let names: Vec<String> = (0..10).map(|at| if at == 0 { "a".into() } else { format!("f{at}") }).collect();
    let texts: Vec<String> = (1..11).map(|at| format!("$INCLUDE f{at}\n").repeat(10)).collect();
    let mut files: Vec<(&str, &[u8])> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let last = "b 5 A 1.1.1.1\n".repeat(1000);
    files.push(("f10", last.as_bytes()));
    assert_eq!(problems(&files), [format!("f10:1:1+1 {error}")]);
    // Records that are written in the file do not count.
    let file: String = (0..1_100_000).map(|at| format!("h{at} 5 A 1.1.1.1\n")).collect();
    assert_eq!(load(&[("a", file.as_bytes())]).0.records.len(), 1_100_000);
}

proptest! {
    #[test]
    fn never_panics_on_any_octets(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = problems(&[("a", &text)]);
    }

    #[test]
    fn accepts_only_valid_records_from_any_words(words in prop::collection::vec(
        prop::sample::select(vec![
            "a", "@", "5", "IN", "A", "TXT", "SOA", "1.1.1.1", "\n", "\n", "\r\n", " ", "(", ")", "\"", "\"x y\"", ";", "\\", "$TTL", "\n$TTL",
            "\n$ORIGIN", "\n$INCLUDE", "\n$GENERATE", "1-3", "${1,2,x}", "$", "é", "\u{feff}", ".", "\\#", "1",
        ]), 0..60), spaces in any::<bool>()) {
        let text = words.join(if spaces { " " } else { "" });
        let (master, _) = load(&[("a", text.as_bytes())]);
        for record in &master.records {
            prop_assert!(rdata::check(record.rtype, &record.rdata));
        }
        let _ = problems(&[("a", text.as_bytes())]);
    }
}
