use super::*;
use crate::{
    answer::known::Records,
    wire::{Name, codes::ede, query::LookupName, rdata::rtype},
};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicUsize},
};

const NOW: i64 = 1_800_000_000;
const MIB: usize = 1 << 20;

fn name(text: &str) -> LookupName {
    LookupName::new(Name::absolute(text).unwrap().to_lowercase().as_wire()).unwrap()
}

fn question(name: &LookupName) -> Question<'_> {
    Question { name, qtype: rtype::A, dnssec_ok: false, checking_disabled: false }
}

fn key(text: &str) -> Key {
    Key::new(RouteId(1), &question(&name(text)))
}

/// An answer with one record of `size` octets.
fn entry(size: usize, ttl: u32, since: i64) -> Arc<Entry> {
    let mut octets = vec![0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    octets.extend((size as u16).to_be_bytes());
    octets.resize(octets.len() + size, 7);
    Arc::new(Entry {
        rcode: rcode::NOERROR,
        ttl,
        answer: Records { count: 1, octets: octets.into() },
        ede: None,
        ..Entry::failure(0, "", since, ttl)
    })
}

fn cache(octets: usize) -> Cache {
    Cache::new(octets, Lifetimes::default())
}

/// The answer to a query: RCODE, TTL, whether it is stale, and whether to refresh it.
fn found(cache: &Cache, text: &str, now: i64) -> Option<(u16, u32, bool, bool)> {
    let name = name(text);
    cache.with(RouteId(1), &question(&name), now, |found| {
        found.map(|found| (found.entry.rcode, found.ttl, found.stale, found.refresh))
    })
}

/// A generator that gives the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn an_answer_is_valid_until_its_ttl_ends() {
    let cache = cache(MIB);
    assert_eq!(found(&cache, "www.example", NOW), None);
    cache.insert("r", key("www.example"), entry(4, 60, NOW));
    assert_eq!(found(&cache, "www.example", NOW), Some((0, 60, false, false)));
    assert_eq!(found(&cache, "WWW.Example", NOW + 59), Some((0, 1, false, false)));
    assert_eq!(found(&cache, "www.example", NOW + 60), None);
    assert_eq!(found(&cache, "www.example", NOW - 3), Some((0, 60, false, false)), "the clock of the thread is behind");
    assert_eq!(found(&cache, "www.example", NOW - 1000), None, "the clock was set back");
    cache.insert("r", key("www.example"), entry(4, 0, NOW));
    assert_eq!(found(&cache, "www.example", NOW), None, "TTL 0 is for one answer");
    assert!(cache.stale(RouteId(1), &question(&name("www.example")), NOW + 60).is_none());
    assert_eq!((cache.counts().entries, cache.counts().hits), (0, 3));
}

#[test]
fn keys_differ_by_route_type_flags_and_name() {
    let cache = cache(MIB);
    let (one, other) = (name("www.example"), name("ww.example"));
    let base = question(&one);
    let questions = [
        (RouteId(1), base),
        (RouteId(1 << 40), base),
        (RouteId(1 << 64 | 1), base),
        (RouteId(1), Question { qtype: rtype::AAAA, ..base }),
        (RouteId(1), Question { dnssec_ok: true, ..base }),
        (RouteId(1), Question { checking_disabled: true, ..base }),
        (RouteId(1), Question { dnssec_ok: true, checking_disabled: true, ..base }),
        (RouteId(1), question(&other)),
    ];
    for (at, (route, question)) in questions.iter().enumerate() {
        let key = Key::new(*route, question);
        assert_eq!(key.hash(), question.hash(*route));
        cache.with(*route, question, NOW, |found| assert!(found.is_none(), "{at}"));
        cache.insert("r", key, entry(4, 100 + at as u32, NOW));
    }
    // Two keys with one hash, as their routes have the same lower half: the newer one stays,
    // the other is unknown.
    for (at, (route, question)) in questions.iter().enumerate() {
        let ttl = cache.with(*route, question, NOW, |found| found.map(|found| found.ttl));
        assert_eq!(ttl, (at != 0).then_some(100 + at as u32), "{at}");
    }
}

#[test]
fn serves_stale_answers_while_servers_fail() {
    let cache = cache(MIB);
    cache.insert("r", key("www.example"), entry(4, 60, NOW));
    let end = NOW + 60;
    assert_eq!(found(&cache, "www.example", end), None);
    assert!(cache.stale(RouteId(1), &question(&name("www.example")), end).is_some());
    assert!(cache.stale(RouteId(1), &question(&name("other.example")), end).is_none());
    cache.insert_failure(
        "r",
        key("www.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", end, 0),
    );
    assert_eq!(found(&cache, "www.example", end), Some((0, STALE_TTL, true, false)), "not the failure");
    assert_eq!(found(&cache, "www.example", end + 4), Some((0, STALE_TTL, true, false)));
    assert_eq!(found(&cache, "www.example", end + 5), None, "time to ask again");
    let late = end + 86_400;
    assert!(cache.stale(RouteId(1), &question(&name("www.example")), late - 1).is_some());
    assert!(
        cache.stale(RouteId(1), &question(&name("www.example")), late).is_none(),
        "the maximum age of stale answers is a day"
    );
    cache.insert_failure(
        "r",
        key("www.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", late, 0),
    );
    assert_eq!(found(&cache, "www.example", late), Some((2, 5, false, false)));

    cache.insert("r", key("www.example"), entry(4, 60, late + 1));
    assert_eq!(found(&cache, "www.example", late + 1), Some((0, 60, false, false)), "an answer ends the failure");
    cache.insert_failure(
        "r",
        key("www.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", late + 2, 0),
    );
    assert_eq!(found(&cache, "www.example", late + 3), Some((0, 58, false, false)), "a failure does not end an answer");
    assert_eq!(cache.counts().stale, 2);

    let none = Cache::new(MIB, Lifetimes { max_stale: 0, ..Lifetimes::default() });
    none.insert("r", key("www.example"), entry(4, 60, NOW));
    none.insert_failure(
        "r",
        key("www.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", end, 0),
    );
    assert_eq!(found(&none, "www.example", end), Some((2, 5, false, false)));
    assert!(none.stale(RouteId(1), &question(&name("www.example")), end).is_none());
}

#[test]
fn the_ttl_of_repeated_failures_grows() {
    let cache = cache(MIB);
    let mut now = NOW;
    for expected in [5, 10, 20, 40, 60, 60] {
        let failure = cache.insert_failure(
            "r",
            key("www.example"),
            Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", now, 0),
        );
        assert_eq!(failure.ttl, expected);
        assert_eq!(
            cache
                .insert_failure(
                    "r",
                    key("www.example"),
                    Entry::failure(ede::NO_REACHABLE_AUTHORITY, "again", now + 1, 0)
                )
                .ttl,
            expected,
            "the first failure is still valid"
        );
        assert_eq!(found(&cache, "www.example", now + 1), Some((2, expected, false, false)));
        now += 1 + i64::from(expected);
    }
    now += 60 + FAILURE_MEMORY;
    assert_eq!(
        cache
            .insert_failure(
                "r",
                key("www.example"),
                Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", now, 0)
            )
            .ttl,
        5,
        "the last failure is too old to double the TTL"
    );
    cache.insert("r", key("www.example"), entry(4, 3, now + 5));
    assert_eq!(
        cache
            .insert_failure(
                "r",
                key("www.example"),
                Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", now + 9, 0)
            )
            .ttl,
        5,
        "an answer came between"
    );
}

#[test]
fn tells_one_query_to_refresh_a_popular_entry_that_expires_soon() {
    let cache = cache(MIB);
    let refresh = |text: &str, now| found(&cache, text, now).unwrap().3;
    for text in ["once.example", "twice.example"] {
        cache.insert("r", key(text), entry(4, 100, NOW));
    }
    assert!(!refresh("once.example", NOW) && !refresh("once.example", NOW + 91), "it was used once");
    assert!(!refresh("twice.example", NOW) && !refresh("twice.example", NOW + 89));
    assert!(refresh("twice.example", NOW + 90));
    assert!(!refresh("twice.example", NOW + 91), "another query was told");
    cache.insert_failure(
        "r",
        key("twice.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", NOW + 92, 0),
    );
    assert!(!refresh("twice.example", NOW + 93), "the refresh failed");
    cache.insert("r", key("twice.example"), entry(4, 100, NOW + 94));
    assert!(!refresh("twice.example", NOW + 193), "only uses of the new answer count");
    assert!(!refresh("twice.example", NOW + 193));
    assert!(refresh("twice.example", NOW + 193));
    assert_eq!(cache.counts().prefetches, 2);
    cache.insert("r", key("short.example"), entry(4, 9, NOW));
    for _ in 0..5 {
        assert!(!refresh("short.example", NOW + 8));
    }
    let refreshes = AtomicUsize::new(0);
    cache.insert("r", key("many.example"), entry(4, 100, NOW));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    refreshes.fetch_add(refresh("many.example", NOW + 95).into(), Relaxed);
                }
            });
        }
    });
    assert_eq!(refreshes.into_inner(), 1);
}

#[test]
fn limits_ttls() {
    let lifetimes = Lifetimes { min_ttl: 5, max_ttl: 1000, max_negative_ttl: 100, max_stale: 0 };
    for (ttl, is_negative, expected) in
        [(0, false, 5), (7, false, 7), (5000, false, 1000), (5000, true, 100), (1, true, 5)]
    {
        let mut entry = Arc::unwrap_or_clone(entry(4, ttl, NOW));
        if is_negative {
            entry.answer = Records::default();
        }
        lifetimes.limit(&mut entry);
        assert_eq!(entry.ttl, expected, "{ttl} {is_negative}");
    }
}

#[test]
fn a_scan_does_not_evict_entries_in_use() {
    let cache = cache(MIB);
    let popular: Vec<String> = (0..300).map(|n| format!("popular{n}.example")).collect();
    let look = |text: &str| {
        let is_hit = found(&cache, text, NOW).is_some();
        if !is_hit {
            cache.insert("r", key(text), entry(100, 60_000, NOW));
        }
        is_hit
    };
    for _ in 0..4 {
        let _ = popular.iter().filter(|text| look(text)).count();
    }
    let mut hits = 0;
    for round in 0..200 {
        for n in 0..500 {
            look(&format!("random{round}-{n}.example"));
        }
        hits += popular.iter().filter(|text| look(text)).count();
    }
    assert!(cache.counts().evictions > 90_000, "the scan is far larger than the cache: {:?}", cache.counts());
    assert!(hits > 200 * 300 * 99 / 100, "only {hits} of {} hits", 200 * 300);
    // Entries that are no longer used are evicted for entries in use.
    let new: Vec<String> = (0..1500).map(|n| format!("new{n}.example")).collect();
    for _ in 0..20 {
        let _ = new.iter().filter(|text| look(text)).count();
    }
    let hits = new.iter().filter(|text| look(text)).count();
    assert!(hits > 1400, "only {hits} of 1500 names in use are cached");
}

#[test]
fn a_new_node_keeps_the_ghost_of_another_node_in_the_same_slot() {
    let (cache, mut queues) = (cache(MIB), Queues::new(MIB));
    let guard = cache.nodes.guard();
    // Whether the new node enters the main queue.
    let enter = |queues: &mut Queues, hash: u64| {
        let mut node = Node::new(key("www.example"), "r".into(), Some(entry(100, 60, NOW)), None);
        queues.enter(hash, &mut node, &cache.nodes, &guard);
        let is_main = *node.is_main.get_mut();
        cache.nodes.insert(hash, node, &guard);
        is_main
    };
    let (first, second) = (7 << 32 | 2, 7 << 32 | 4);
    assert!(!enter(&mut queues, first));
    assert!(queues.evict(&cache.nodes, &guard, |_| false).is_some());
    assert!(!enter(&mut queues, second));
    assert!(enter(&mut queues, first), "the second node has erased the ghost of the first one");
}

/// Counts the nodes and their octets, and compares them with the cache's own numbers.
fn recount(cache: &Cache) -> usize {
    let guard = cache.nodes.guard();
    let (mut nodes, mut octets) = (0, 0);
    for (hash, node) in cache.nodes.iter(&guard) {
        assert_eq!((*hash, *hash), (node.key.hash(), *hash));
        nodes += 1;
        octets += node.size;
    }
    let counts = cache.counts();
    assert_eq!(counts.entries, nodes);
    assert!(octets <= counts.octets && counts.octets <= counts.budget, "{octets} {counts:?}");
    let queues = cache.writer();
    let slots = queues.queues.slots();
    assert!(slots >= nodes && slots <= nodes + nodes / 2 + 65, "{slots} slots for {nodes} nodes");
    octets
}

#[test]
fn never_exceeds_its_memory_limit() {
    let cache = cache(4 * MIB);
    let mut random = Random(1);
    let mut recent = VecDeque::new();
    for round in 0..1_000_000_u32 {
        let number = random.next();
        let text = match number % 10 {
            0 if !recent.is_empty() => recent[(number >> 8) as usize % recent.len()],
            _ => number >> 20,
        };
        recent.push_back(text);
        if recent.len() > 1000 {
            recent.pop_front();
        }
        let size = match (number >> 4) % 100 {
            0 => random.next() % 60_000,
            1..10 => random.next() % 4000,
            _ => random.next() % 200,
        };
        let mut wire = b"\x10".to_vec();
        wire.extend_from_slice(format!("{text:016x}").as_bytes());
        wire.extend_from_slice(b"\x07example\0");
        let key = Key::new(RouteId(1), &question(&LookupName::new(&wire).unwrap()));
        match number % 97 {
            0 => drop(cache.insert_failure(
                "r",
                key,
                Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", NOW, 0),
            )),
            1 => cache.insert("r", key, entry(4, 0, NOW)),
            _ => cache.insert("r", key, entry(size as usize, 60, NOW)),
        }
        let octets = cache.writer().queues.octets();
        assert!(octets <= 4 * MIB * 15 / 16, "round {round}: {octets}");
        if round % 50_000 == 0 {
            recount(&cache);
        }
    }
    assert!(recount(&cache) > 2 * MIB, "the memory is used");
    cache.flush(None);
    assert_eq!(recount(&cache), 0);
}

#[test]
fn does_not_cache_entries_that_are_too_large() {
    let cache = cache(MIB);
    cache.insert("r", key("www.example"), entry(4, 60, NOW));
    cache.insert("r", key("www.example"), entry(60_000, 60, NOW));
    assert_eq!(found(&cache, "www.example", NOW), None, "the old entry is removed");
    assert_eq!((cache.counts().entries, cache.counts().evictions), (0, 0));
    // A cache without memory caches nothing.
    let none = super::Cache::new(0, Lifetimes::default());
    none.insert("r", key("www.example"), entry(4, 60, NOW));
    assert_eq!(found(&none, "www.example", NOW), None);
}

#[test]
fn readers_see_whole_entries_while_writers_replace_them() {
    let cache = cache(MIB);
    let stop = AtomicBool::new(false);
    let texts: Vec<LookupName> = (0..4000).map(|n| name(&format!("n{n}.example"))).collect();
    std::thread::scope(|scope| {
        let reader = || {
            let mut random = Random(3);
            let mut hits = 0;
            while !stop.load(Relaxed) {
                let at = random.next() as usize % texts.len();
                cache.with(RouteId(1), &question(&texts[at]), NOW, |found| {
                    let Some(found) = found else { return };
                    hits += 1;
                    // The TTL has the number of the name.
                    assert_eq!(found.ttl as usize, 10_000 + at);
                    assert_eq!(found.entry.answer.count, 1);
                });
            }
            hits
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let writers: Vec<_> = (0..3)
            .map(|seed| {
                let (cache, texts) = (&cache, &texts);
                scope.spawn(move || {
                    let mut random = Random(100 + seed);
                    for _ in 0..60_000 {
                        let at = random.next() as usize % texts.len();
                        let key = Key::new(RouteId(1), &question(&texts[at]));
                        match random.next() % 3000 {
                            chance @ 0..2 => {
                                let scope = Scope::new(&Name::absolute("example").unwrap(), true);
                                cache.flush(Some(&scope).filter(|_| chance == 0));
                            }
                            2..300 => drop(cache.insert_failure(
                                "r",
                                key,
                                Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", NOW - 100, 0),
                            )),
                            _ => cache.insert("r", key, entry(random.next() as usize % 1500, 10_000 + at as u32, NOW)),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Relaxed);
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>() > 0);
    });
    recount(&cache);
    assert!(cache.counts().evictions > 0);
}

#[test]
fn flushes_the_names_in_a_scope() {
    let cache = cache(MIB);
    let texts = ["example", "www.example", "a.www.example", "wwww.example", "other"];
    let fill = || texts.iter().for_each(|text| cache.insert("r", key(text), entry(4, 60, NOW)));
    let left = || -> Vec<&str> { texts.into_iter().filter(|text| found(&cache, text, NOW).is_some()).collect() };
    let scope = |text: &str, subtree| Scope::new(&Name::absolute(text).unwrap(), subtree);
    fill();
    assert_eq!(cache.flush(Some(&scope("WWW.example", false))), 1);
    assert_eq!(left(), ["example", "a.www.example", "wwww.example", "other"]);
    fill();
    assert_eq!(cache.flush(Some(&scope("www.example", true))), 2);
    assert_eq!(left(), ["example", "wwww.example", "other"]);
    fill();
    assert_eq!(cache.flush(Some(&scope(".", true))), 5);
    fill();
    assert_eq!(cache.flush(None), 5);
    assert_eq!(left(), [""; 0]);
    assert!(cache.stale(RouteId(1), &question(&name("www.example")), NOW + 61).is_none());
    cache.insert_failure(
        "r",
        key("www.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", NOW + 61, 0),
    );
    assert_eq!(found(&cache, "www.example", NOW + 61), Some((2, 5, false, false)));
    for _ in 0..10_000 {
        cache.insert("r", key("again.example"), entry(4, 60, NOW));
        cache.insert("r", key("again.example"), entry(4, 0, NOW));
    }
    recount(&cache);
}

#[test]
fn removes_labels_of_routes_without_entries() {
    let cache = cache(MIB);
    for route in 0..20_000 {
        let key = Key::new(RouteId(route), &question(&name("www.example")));
        cache.insert(&format!("rule-{route}"), key, entry(1000, 60, NOW));
        let labels = cache.writer().labels.len();
        assert!(labels <= MAX_LABELS + 1, "{labels}");
    }
}

#[test]
fn shows_entries_as_json() {
    let cache = cache(MIB);
    let mut address = Arc::unwrap_or_clone(entry(4, 60, NOW));
    address.answer.count = 2;
    address.answer.octets =
        [&address.answer.octets[..], b"\x02\0\0\x10\0\x01\0\0\0\0\0\x05\x04a\x1b\"b"].concat().into();
    address.answer.octets = {
        let mut octets = address.answer.octets.to_vec();
        octets.splice(16..18, *b"\x80\x01");
        octets.into()
    };
    cache.insert("rule-1", key("w\\007w.example"), Arc::new(address));
    cache.insert("rule-1", key("old.example"), entry(4, 60, NOW - 100));
    cache.insert_failure(
        "rule-1",
        key("bad.example"),
        Entry::failure(ede::NO_REACHABLE_AUTHORITY, "no server answered", NOW, 0),
    );
    found(&cache, "w\\007w.example", NOW + 20);
    let shown = cache.show(None, 2, NOW + 3);
    assert_eq!(shown["kinds"], serde_json::json!({"positive": 1, "stale": 1, "failure": 1}));
    assert_eq!((&shown["entries"], &shown["found"], &shown["hits"]), (&3.into(), &3.into(), &1.into()));
    assert_eq!(shown["list"].as_array().unwrap().len(), 2);
    let most = &shown["list"][0];
    assert_eq!((&most["name"], &most["ttl"], &most["uses"]), (&"w\\007w.example.".into(), &57.into(), &1.into()));
    let records = serde_json::json!([
        {"name": "w\\007w.example.", "type": "A", "ttl": 57, "rdata": "7.7.7.7"},
        {"name": "example.", "type": "TXT", "ttl": 57, "rdata": "\"a\\027\\\"b\""},
    ]);
    assert_eq!(most["answer"], records);
    let scope = Scope::new(&Name::absolute("bad.example").unwrap(), false);
    let shown = cache.show(Some(&scope), 10, NOW + 3);
    let bad = &shown["list"][0];
    assert_eq!((&shown["found"], &bad["state"], &bad["failure"]["ttl"]), (&1.into(), &"failure".into(), &2.into()));
    assert_eq!(bad["failure"]["ede"], serde_json::json!({"code": 22, "text": "no server answered"}));
    assert_eq!(bad["rule"], "rule-1");
}
