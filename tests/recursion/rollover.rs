//! The rollover of the root key, which zonal follows (RFC 5011).

use super::{LEAF, MANIFEST, PROGRAMS, ROOT, TLD, Zones, hosts};
use crate::{
    clock::faketime,
    harness::{Process, ZONAL, can_run, lab::Lab, wait_until},
};
use std::{cell::Cell, fs, path::Path};

const DAY: u32 = 86_400;
/// All signatures are valid for 90 days.
const VALIDITY: [&str; 2] = ["-e", "+7776000"];

/// The root, and zonal with a clock of its own.
struct World<'l> {
    lab: &'l Lab,
    zones: Zones<'l>,
    /// The records of the root apart from its keys.
    records: String,
    /// A number for names that nobody has asked for.
    next: Cell<u32>,
}

impl World<'_> {
    /// Makes a key, and returns the name of its files.
    fn new_key(&self) -> String {
        self.zones.run(&["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-n", "ZONE", "."]).trim().into()
    }

    /// The DNSKEY record of a key.
    fn dnskey(&self, key: &str) -> String {
        let text = fs::read_to_string(self.lab.scratch.path().join(format!("{key}.key"))).unwrap();
        text.lines().find(|line| line.contains(" DNSKEY ")).unwrap().into()
    }

    /// Serves the root with these keys, which sign it.
    fn serve(&self, keys: &[&str]) -> Vec<Process> {
        let dnskeys: String = keys.iter().map(|key| self.dnskey(key) + "\n").collect();
        self.lab.scratch.write("root.zone", format!("$TTL 300\n{}{dnskeys}", self.records));
        let sign = ["dnssec-signzone", "-q", "-z", "-P", "-o", ".", "-f", "root.signed"];
        self.zones.run(&[&sign[..], &VALIDITY[..], &["root.zone"][..], keys].concat());
        let root = Zones { lab: self.lab, all: vec![(".".into(), "root.signed".into(), ROOT)] };
        root.serve(&[("root", ROOT)])
    }

    /// Starts zonal with a trust anchor. It stores the states of keys in `state`.
    fn zonal(&self, anchor: &str, state: &Path) -> Process {
        let scratch = &self.lab.scratch;
        scratch.write("root.key", self.dnskey(anchor));
        let config = format!(
            "listen: [{{address: \"10.1.0.2:53\"}}]\ncontrol_plane: {{directory: zones}}\nstate_directory: {}\n\
             internet_resolver: {{recursive: true, root_hints: root.hints, trust_anchor: root.key, allow_servers: [198.18.0.0/15]}}\n",
            state.display()
        );
        let config = scratch.write("zonal.yaml", config);
        let clock = scratch.path().join("clock");
        let command = [
            "env",
            &format!("LD_PRELOAD={}", faketime().display()),
            &format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
            "FAKETIME_NO_CACHE=1",
            "NO_FAKE_STAT=1",
            ZONAL,
            "serve",
            "--config",
            config.to_str().unwrap(),
        ];
        let mut process = self.lab.start("ns", &command);
        wait_until("zonal is ready", || {
            process.assert_alive();
            (self.lab.dig("app", "@10.1.0.2 whoami.zonal TXT").status == "NOERROR").then_some(())
        });
        process
    }

    /// Sets the clock of zonal this many seconds off, also the clock of its timers.
    fn set(&self, seconds: u32) {
        self.lab.scratch.write("clock", format!("+{seconds}\n"));
    }

    /// The status of a signed name that is in no cache, with `ad` if the answer is validated.
    fn ask(&self) -> String {
        self.next.set(self.next.get() + 1);
        let reply = self.lab.dig("app", &format!("@10.1.0.2 x{}.wild.signed.test A +adflag", self.next.get()));
        let is_validated = reply.flags.split(' ').any(|flag| flag == "ad");
        format!("{}{}", reply.status, if is_validated { " ad" } else { "" })
    }

    /// Waits until zonal has stored these states of the keys, in the order in which it met them.
    fn wait_for_states(&self, state: &Path, expected: &[&str], zonal: &Process) {
        wait_until(&format!("the states are {expected:?}"), || {
            // A query has zonal notice that its clock has changed.
            self.ask();
            let stored = fs::read(state.join("trust-anchors.json")).ok()?;
            let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
            let keys = stored["zones"][0]["keys"].as_array().unwrap_or_else(|| panic!("{stored}\n{}", zonal.log()));
            let states: Vec<_> = keys.iter().map(|key| key["state"].as_str().unwrap_or_default()).collect();
            (states == expected).then_some(())
        });
    }
}

#[test]
fn trusts_a_new_root_key_after_thirty_days_and_a_revoked_one_never_again() {
    if !can_run(&PROGRAMS) || !can_run(&["dnssec-revoke"]) {
        return;
    }
    let mut lab = Lab::new();
    hosts(&mut lab);
    let lab = &lab;
    let mut zones = Zones { lab, all: Vec::new() };
    let (signed, _) = zones.signed("signed.test", LEAF, "*.wild 300 A 192.0.2.2\n", &VALIDITY);
    let parent = format!("signed 300 NS ns.signed\nns.signed 300 A {LEAF}\n{signed}");
    let (ds, _) = zones.signed("test", TLD, &parent, &VALIDITY);
    let _servers = zones.serve(&[("tld", TLD), ("leaf", LEAF)]);
    let records = format!(
        "$ORIGIN .\n@ 300 SOA ns.root. h.test. 1 7200 900 1209600 5\n@ 300 NS ns.root.\nns.root. 300 A {ROOT}\n\
         test. 300 NS ns.test.\nns.test. 300 A {TLD}\n{ds}"
    );
    lab.scratch.write("root.hints", format!(". 300 NS ns.root.\nns.root. 300 A {ROOT}\n"));
    lab.scratch.write("zones/zones.yaml", MANIFEST);
    let world = World { lab, zones, records, next: Cell::new(0) };
    let (old, new) = (world.new_key(), world.new_key());
    let (state, other_state) = (lab.scratch.path().join("state"), lab.scratch.path().join("other-state"));
    world.set(0);
    let root = world.serve(&[&old]);
    let zonal = world.zonal(&old, &state);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());

    // The root has a new key. The cached keys expire, and zonal looks at the keys of the root.
    drop(root);
    let root = world.serve(&[&old, &new]);
    world.set(DAY / 24);
    world.wait_for_states(&state, &["valid", "pending"], &zonal);
    world.set(20 * DAY);
    world.ask();
    world.set(29 * DAY);
    world.wait_for_states(&state, &["valid", "pending"], &zonal);
    world.set(31 * DAY);
    world.wait_for_states(&state, &["valid", "valid"], &zonal);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());

    // The root revokes the old key.
    let revoked = world.zones.run(&["dnssec-revoke", &old]);
    drop(root);
    let root = world.serve(&[revoked.trim(), &new]);
    world.set(32 * DAY);
    world.wait_for_states(&state, &["revoked", "valid"], &zonal);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());

    // Then the new key is alone, and zonal validates with it. It does so after a restart too.
    drop(root);
    let root = world.serve(&[&new]);
    world.set(33 * DAY);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());
    drop(zonal);
    let zonal = world.zonal(&old, &state);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());

    // The revoked key signs again: answers are bogus.
    drop(root);
    let _root = world.serve(&[&old]);
    world.set(34 * DAY);
    wait_until("the revoked key proves nothing", || (world.ask() == "SERVFAIL").then_some(()));
    drop(zonal);
    // A node that has not followed the rollover trusts it.
    let zonal = world.zonal(&old, &other_state);
    assert_eq!(world.ask(), "NOERROR ad", "{}", zonal.log());
}
