//! Fuzzing with mutated input: packets, manifests, master files and responses of primaries.
//!
//! Each target is a function of octets. A run first replays the corpus in `tests/fuzz/corpus`, then
//! mutates its entries for `FUZZ_SECONDS` (default: 20). A failing input is printed in hexadecimal;
//! add it to the corpus.

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use crate::harness::tree;
use mutate::Mutator;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant, UNIX_EPOCH},
};

/// The maximum memory that one input may use at a time, in octets.
const MOST_MEMORY: u64 = 256 << 20;

fn run(target: &str, check: impl Fn(&[u8]), dictionary: &[&[u8]]) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let directory = tree("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(&directory).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
    assert!(!corpus.is_empty(), "{} holds inputs", directory.display());
    let one = |input: &[u8]| {
        let shown = |input: &[u8]| input.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let (outcome, memory) = crate::allocations::peak(|| catch_unwind(AssertUnwindSafe(|| check(input))));
        assert!(outcome.is_ok(), "{target} fails: {}", shown(input));
        assert!(memory < MOST_MEMORY, "{target} takes {memory} octets: {}", shown(input));
    };
    corpus.iter().for_each(|input| one(input));
    let seed = UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    let mut mutator = Mutator::new(seed, dictionary);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        for _ in 0..64 {
            one(&mutator.mutate(&corpus));
        }
    }
}

#[test]
fn packets() {
    let target = targets::Packets::new();
    let dictionary: [&[u8]; 8] = [
        b"\0\0\x29\x04\xd0\0\0\0\0\0\0",
        b"\0\0\x29\0\0\0\0\0\0\0\0",
        b"\0\0\x29\xff\xff\x01\x01\x80\0\0\x0c\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\xc0\x0c",
        b"\x01*",
        b"\0\0\xfa\0\xff\0\0\0\0\0\0",
        b"\0\x08\0\x04\0\x01\x10\0\x0a\x01",
    ];
    run("packet", |octets| target.packet(octets), &dictionary);
}

#[test]
fn forwarded() {
    let target = targets::Forwarded::new();
    let dictionary: [&[u8]; 7] = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\x7f\x14\x10\x07\x7f\0\0\x09\xd4\x31\0\x35",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\xea\0\x0c\x01vpce-twin-a",
        b"\x03\0\x04\0\0\0\0",
        b"\0\x08\0\x08\0\x01\x20\0\x7f\x14\x10\x07",
        b"\0\x08\0\x04\0\x02\0\0",
        b"\x04\0\x02\0\0",
    ];
    run("forwarded", |octets| target.packet(octets), &dictionary);
}

#[test]
fn manifests() {
    let dictionary: [&[u8]; 14] = [
        b"vpcs:\n",
        b"private_hosted_zones:\n",
        b"vpc_endpoints:\n",
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"[[[[[[[[[[[[[[[[",
        b"{a: {a: {a: {a: ",
        b"!!binary ",
        b"\xff\xfe",
        b"---\n",
        b"|\n  ",
        b"10.0.0.0/33",
        b"99999999999999999999",
    ];
    let scratch = crate::harness::Scratch::new();
    run("manifest", |octets| targets::manifest(&scratch, octets), &dictionary);
}

#[test]
fn master_files() {
    let dictionary: [&[u8]; 16] = [
        b"$ORIGIN ",
        b"$TTL 1w2d\n",
        b"$INCLUDE z.zone\n",
        b"$INCLUDE other.zone a\n",
        b"$GENERATE 1-5/2 a${0,3,x} A 10.0.0.$\n",
        b"(\n",
        b")\n",
        b"\"",
        b"\\255",
        b"\\# 3 010203",
        b" TYPE65280 \\# 0\n",
        b" SVCB 1 . alpn=h2,h3 port=53 mandatory=alpn\n",
        b" CNAME ",
        b" DNAME ",
        b"*.",
        b"@ SOA a b 1 2 3 4 5\n",
    ];
    run("master_file", targets::master_file, &dictionary);
}

#[test]
fn transfers() {
    let dictionary: [&[u8]; 7] = [
        b"\xc0\x0c",
        b"\x07version",
        b"\x05zones",
        b"\x05group",
        b"\x03coo",
        b"\0\x06\0\x01\0\0\0\x3c",
        b"\0\x0c\0\x01\0\0\0\x3c",
    ];
    run("transfer", targets::transfer, &dictionary);
}
