//! The table of DNS Firewall lists: memory for each name, the time to load a list and to replace it, and the time of a search.
//!
//! `cargo bench --bench firewall_lists`. `ZONAL_NAMES` is the number of names (default: 1,000,000). Compare two commits in one
//! session, because the figures vary between machines and over time.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::BufReader,
    ops::ControlFlow,
    time::{Duration, Instant},
};
use zonal::{
    manifest::{FirewallListFormat, Id, domain_lists},
    snapshot::firewall::table::{Batch, Extent, ListState, Lists},
    wire::{Name, query::LookupName},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of parts in which the server replaces a large list.
const PARTS: u32 = 16;
/// The number of searches that are measured.
const SEARCHES: u32 = 1_000_000;

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Names as in lists of malware: a label of 4 to 15 octets, below a few hundred suffixes.
fn name_of(n: u32) -> String {
    let scattered = n.wrapping_mul(2_654_435_761);
    let len = 4 + scattered as usize % 12;
    let mut label: String =
        (0..len).map(|at| char::from(b'a' + (scattered.rotate_left(at as u32 * 5) % 26) as u8)).collect();
    let _ = write!(label, "{n:x}");
    match n % 3 {
        0 => format!("www.{label}.com"),
        1 => format!("{label}.org"),
        _ => format!("{label}.x{}.net", n % 300),
    }
}

fn load(text: &str, mut lists: Lists) -> (Lists, f64) {
    let mut highest = resident_mib();
    for number in 0..PARTS {
        let mut batch = Batch::new(0, Extent::Part { number, count: PARTS }, text.lines().count() as u64);
        let mut input = BufReader::new(text.as_bytes());
        let content = domain_lists::read(&mut input, FirewallListFormat::SubdomainsIncluded, None, &mut |entry| {
            batch.add(entry);
        });
        assert_eq!(content.expect("a text in memory can be read").skipped, 0);
        lists = lists.with_batch(&mut batch).expect("each name has one entry");
        highest = highest.max(resident_mib());
    }
    lists.set_state(0, ListState::Loaded);
    (lists, highest)
}

fn searches(lists: &Lists, names: &[LookupName]) -> (Duration, u32) {
    let mut found = 0;
    let started = Instant::now();
    for name in names {
        lists.find(black_box(name), 1, &mut |_| {
            found += 1;
            ControlFlow::Break(())
        });
    }
    (started.elapsed(), found)
}

fn main() {
    let names: u32 = std::env::var("ZONAL_NAMES").ok().and_then(|names| names.parse().ok()).unwrap_or(1_000_000);
    let mut text = String::new();
    for n in 0..names {
        let _ = writeln!(text, "{}", name_of(n));
    }
    let octets_of_names = text.len() as f64 / f64::from(names) + 1.0;
    let before = resident_mib();
    let ids: [Id; 1] = ["list".into()];

    let started = Instant::now();
    let (lists, highest) = load(&text, Lists::default().with_ids(ids.iter()));
    let elapsed = started.elapsed();
    let table = lists.memory() as f64 / f64::from(1 << 20);
    println!("{names} names of {octets_of_names:.1} octets on average");
    println!("load               {:8.2} s, at most {:.1} MiB more", elapsed.as_secs_f64(), highest - before);
    println!("table              {table:8.1} MiB, {:.1} octets a name", lists.memory() as f64 / f64::from(names));
    println!("resident           {:8.1} MiB more", resident_mib() - before);

    let started = Instant::now();
    let steady = resident_mib();
    let (lists, highest) = load(&text, lists);
    let ratio = (highest - before) / (steady - before);
    println!("replace            {:8.2} s, at most {ratio:.2} times the memory", started.elapsed().as_secs_f64());

    let lookup = |text: String| LookupName::new(Name::absolute(&text).expect("a name").as_wire()).expect("a name");
    let count = SEARCHES.min(names);
    let scattered = |n: u32| (u64::from(n) * 2_654_435_761 % u64::from(names)) as u32;
    let sets: [(&str, Vec<LookupName>); 4] = [
        ("listed", (0..count / 4).map(|n| lookup(format!("cdn.{}", name_of(scattered(n))))).collect()),
        ("not listed", (0..count / 4).map(|n| lookup(format!("www.innocent{n}.example"))).collect()),
        ("beside listed", (0..count / 4).map(|n| lookup(format!("www.innocent{n}.x{}.net", n % 300))).collect()),
        ("empty table", (0..count / 4).map(|n| lookup(format!("www.innocent{n}.example"))).collect()),
    ];
    let empty = Lists::default();
    for (what, names) in &sets {
        let lists = if *what == "empty table" { &empty } else { &lists };
        let mut best = f64::MAX;
        let mut found = 0;
        for _ in 0..5 {
            let (elapsed, matches) = searches(lists, names);
            best = best.min(elapsed.as_nanos() as f64 / names.len() as f64);
            found = matches;
        }
        println!("{what:<18} {best:8.1} ns, {found} of {} found", names.len());
    }
}
