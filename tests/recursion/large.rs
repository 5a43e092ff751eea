//! Large answers.

use super::{LEAF, PROGRAMS, ROOT, TLD, Zones, hosts, zonal};
use crate::harness::{can_run, lab::Lab};

/// Large answers evict only other large answers from the recursor's cache.
#[test]
fn large_answers_have_the_recursor_forget_only_large_answers() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let mut zones = Zones { lab: &lab, all: Vec::new() };
    let mut large = String::new();
    for name in 0..60 {
        for address in 0..1_900 {
            large += &format!("large{name} 300 A 10.{name}.{}.{}\n", address / 250, address % 250);
        }
    }
    zones.plain("large.test", LEAF, &large);
    zones.plain("plain.test", LEAF, "one 300 A 192.0.2.1\ntwo 300 A 192.0.2.2\n");
    let below = |zone: &str| format!("{zone} 300 NS ns.{zone}\nns.{zone} 300 A {LEAF}\n");
    zones.plain("test", TLD, &(below("plain") + &below("large")));
    zones.plain(".", ROOT, &format!("test. 300 NS ns.test.\nns.test. 300 A {TLD}\n"));
    let mut servers = zones.serve(&[("root", ROOT), ("tld", TLD), ("leaf", LEAF)]);
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    let zonal = zonal(&lab, "{recursive: true, root_hints: ./root.hints, dnssec: off, allow_servers: [198.18.0.0/15]}");
    let ask = |query: &str| lab.dig("app", &format!("@10.1.0.2 {query} +tries=1 +time=6"));
    assert_eq!(ask("one.plain.test").data("A"), ["192.0.2.1"], "{}", zonal.log());
    for name in 0..60 {
        let reply = ask(&format!("large{name}.large.test +tcp"));
        assert_eq!((reply.status.as_str(), reply.answer.len()), ("NOERROR", 1_900), "{name}: {}", zonal.log());
    }
    // The recursor has cached the servers of `plain.test.`, so it does not need the servers above.
    for mut server in servers.drain(..2) {
        server.kill();
    }
    assert_eq!(ask("two.plain.test").data("A"), ["192.0.2.2"], "{}", zonal.log());
}
