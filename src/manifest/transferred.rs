//! What is kept of zones that others have: their records, as a primary gave them.

use super::{Id, MasterFile, Record, catalog, digest::Digest};
use crate::wire::{
    Name,
    rdata::{rtype, type_to_text},
};
use imbl::OrdMap;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// What is kept of zones with `primaries`, by their identifiers. A zone that is not in it was not transferred yet.
pub type Transferred = OrdMap<Id, Held>;

/// What is kept of a zone.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its records.
    pub content: Arc<Content>,
    /// It was not refreshed for as long as its SOA record allows: it is not to be answered from (RFC 1035, 3.3.13).
    pub is_expired: bool,
}

impl Held {
    /// Whether nothing has changed.
    pub fn is_same(&self, other: &Held) -> bool {
        Arc::ptr_eq(&self.content, &other.content) && self.is_expired == other.is_expired
    }

    /// What has become of it, for those who read logs.
    pub fn told(&self, id: &str) -> String {
        let (zone, serial) = (&self.content.zone, self.content.soa.serial);
        match self.is_expired {
            true => format!("{zone} ({id}) has expired"),
            false => format!("{zone} ({id}) serial {serial}"),
        }
    }
}

/// The numbers of a SOA record (RFC 1035, 3.3.13): all but the serial are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Soa {
    /// The version of the zone.
    pub serial: u32,
    /// After how long a secondary asks whether there is a newer one.
    pub refresh: u32,
    /// After how long it asks again when that has failed.
    pub retry: u32,
    /// How long it goes on answering when nothing but that succeeds.
    pub expire: u32,
    /// The TTL of negative answers (RFC 2308).
    pub minimum: u32,
}

impl Soa {
    /// Reads them from the data of a SOA record, whose last octets they are.
    pub fn read(rdata: &[u8]) -> Option<Soa> {
        let numbers: &[u8; 20] = rdata.last_chunk()?;
        let number = |at: usize| u32::from_be_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        Some(Soa { serial: number(0), refresh: number(4), retry: number(8), expire: number(12), minimum: number(16) })
    }
}

/// Whether a serial is newer than another one (RFC 1982, 3.2). Of two that are as far apart as can be, neither is.
pub fn is_newer(serial: u32, than: u32) -> bool {
    let ahead = serial.wrapping_sub(than);
    ahead != 0 && ahead < 1 << 31
}

/// The records of a zone, and what they come to.
#[derive(Debug)]
pub struct Content {
    /// The zone's apex.
    pub zone: Name,
    /// The numbers of its SOA record.
    pub soa: Soa,
    /// All records, the SOA record once.
    pub data: MasterFile,
    digest: Digest,
    members: OnceLock<Result<Box<[catalog::Member]>, String>>,
}

impl Content {
    /// Takes the records of a zone: all at or below its apex, and one SOA record there. Otherwise it says what is wrong.
    pub fn new(zone: Name, records: Vec<Record>) -> Result<Content, String> {
        let mut digest = Digest::default();
        let mut soa = None;
        for record in &records {
            let what = || format!("{} {}", record.owner, type_to_text(record.rtype));
            if !record.owner.is_at_or_below(&zone) {
                return Err(format!("{} is outside of the zone {zone}", what()));
            }
            if record.rtype == rtype::SOA {
                if record.owner != zone || soa.is_some() {
                    return Err(format!("{} is one SOA record too many", what()));
                }
                soa = Soa::read(&record.rdata);
            }
            digest.add(&digest_of(record));
        }
        let soa = soa.ok_or_else(|| format!("there is no SOA record of {zone}"))?;
        let data = MasterFile { files: Vec::new(), records };
        Ok(Content { zone, soa, data, digest, members: OnceLock::new() })
    }

    /// The zone after these differences, in their order, with its new SOA record (RFC 1995, 4); or why they are none of this
    /// zone: one takes away what is not there.
    pub fn apply(&self, differences: &[Difference], soa: Record) -> Result<Content, String> {
        let numbers = Soa::read(&soa.rdata).ok_or("its SOA record is malformed")?;
        // What the differences speak of: its TTL, where it is there at the moment.
        let mut touched: HashMap<Identity, Option<u32>> = HashMap::new();
        let all = differences.iter().flat_map(|difference| difference.deleted.iter().chain(&difference.added));
        touched.extend(all.map(|record| (Identity::of(record), None)));
        for record in &self.data.records {
            if let Some(ttl) = touched.get_mut(&Identity::of(record)) {
                *ttl = Some(record.ttl);
            }
        }
        for Difference { deleted, added } in differences {
            for record in deleted {
                let ttl = touched.get_mut(&Identity::of(record)).and_then(Option::take);
                if ttl.is_none() {
                    return Err(format!(
                        "a difference deletes {} {}, which is not there",
                        record.owner,
                        type_to_text(record.rtype)
                    ));
                }
            }
            touched.extend(added.iter().map(|record| (Identity::of(record), Some(record.ttl))));
        }
        let mut digest = self.digest;
        digest.add(&digest_of(&soa));
        let mut records = Vec::with_capacity(self.data.records.len() + differences.len());
        records.push(soa);
        for record in &self.data.records {
            match record.rtype == rtype::SOA || touched.contains_key(&Identity::of(record)) {
                true => digest.remove(&digest_of(record)),
                false => records.push(record.clone()),
            }
        }
        // Those that are deleted and added again are among the added ones.
        for record in self.data.records.iter().chain(differences.iter().flat_map(|difference| &difference.added)) {
            if let Some(Some(ttl)) = touched.remove(&Identity::of(record)) {
                let record = Record { ttl, ..record.clone() };
                digest.add(&digest_of(&record));
                records.push(record);
            }
        }
        let data = MasterFile { files: Vec::new(), records };
        Ok(Content { zone: self.zone.clone(), soa: numbers, data, digest, members: OnceLock::new() })
    }

    /// SHA-256 sums of all records, added up: the same for the same records in any order.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.octets()
    }

    /// The zones that it lists, if it is a catalog; or why it is none that can be followed.
    pub fn members(&self) -> Result<&[catalog::Member], &str> {
        let members = self.members.get_or_init(|| catalog::read(self).map(Vec::into_boxed_slice));
        members.as_deref().map_err(String::as_str)
    }
}

/// What a new version of a zone has not any more, and what it has instead, SOA records aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// What it has not any more.
    pub deleted: Vec<Record>,
    /// What it has instead.
    pub added: Vec<Record>,
}

/// What tells a record from others; the TTL does not.
#[derive(PartialEq, Eq, Hash)]
struct Identity<'a>(&'a Name, u16, &'a [u8]);

impl Identity<'_> {
    fn of(record: &Record) -> Identity<'_> {
        Identity(&record.owner, record.rtype, &record.rdata)
    }
}

fn digest_of(record: &Record) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(record.owner.as_wire());
    digest.update(record.rtype.to_be_bytes());
    digest.update(record.ttl.to_be_bytes());
    digest.update(&record.rdata);
    digest.finalize().into()
}

/// The digest of a manifest with what is kept of its transferred zones; that of the manifest alone where there are none.
pub fn digest_with(manifest: [u8; 32], transferred: &Transferred) -> [u8; 32] {
    if transferred.is_empty() {
        return manifest;
    }
    let mut digest = Sha256::new();
    digest.update(manifest);
    for (id, held) in transferred {
        digest.update((id.len() as u64).to_be_bytes());
        digest.update(id);
        digest.update([u8::from(held.is_expired)]);
        digest.update(held.content.digest());
    }
    digest.finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::manifest::master;
    use std::path::Path;

    /// The content that a master file stands for.
    pub(crate) fn content(zone: &str, text: &str) -> Content {
        let zone = Name::absolute(zone).unwrap();
        let mut opener = |_: &Path| Ok(text.as_bytes().to_vec());
        let (file, problems) = master::read(&mut opener, Path::new("zone"), &zone, "Z");
        assert_eq!(problems, []);
        Content::new(zone, file.records).unwrap()
    }

    #[test]
    fn serials_go_round() {
        for (serial, than, expected) in [
            (1, 0, true),
            (0, 1, false),
            (5, 5, false),
            (0, u32::MAX, true),
            (u32::MAX, 0, false),
            (0x7fff_ffff, 0, true),
            (0x8000_0000, 0, false),
            (0, 0x8000_0000, false),
            (0x8000_0001, 0, false),
            (44, 4_294_967_290, true),
        ] {
            assert_eq!(is_newer(serial, than), expected, "{serial} after {than}");
        }
    }

    #[test]
    fn the_order_of_records_does_not_matter() {
        let one = content("a.example", "@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\nns 60 A 10.0.0.1\n");
        let other = content("a.example", "ns 60 A 10.0.0.1\n@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\n");
        let third = content("a.example", "ns 61 A 10.0.0.1\n@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\n");
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.digest(), third.digest());
        assert_eq!(one.soa, Soa { serial: 7, refresh: 1, retry: 2, expire: 3, minimum: 4 });
        let held = |content: Content, is_expired| Held { content: Arc::new(content), is_expired };
        let kept = |held| Transferred::unit("Z".into(), held);
        let digest = digest_with([1; 32], &kept(held(one, false)));
        assert_eq!(digest, digest_with([1; 32], &kept(held(other, false))));
        assert_ne!(digest, digest_with([1; 32], &kept(held(third, true))));
        assert_eq!(digest_with([1; 32], &Transferred::new()), [1; 32]);
    }

    #[test]
    fn differences_are_applied_in_their_order() {
        let zone = |text: &str| content("a.example", text);
        let records = |text: &str| {
            let all = zone(&format!("@ 60 SOA ns hm 1 1 2 3 4\n{text}")).data.records;
            all.into_iter().filter(|record| record.rtype != rtype::SOA).collect::<Vec<_>>()
        };
        let difference = |deleted: &str, added: &str| Difference { deleted: records(deleted), added: records(added) };
        let old = zone("@ 60 SOA ns hm 1 1 2 3 4\n@ 60 NS ns\nwww 60 A 10.0.0.1\nttl 60 A 10.0.0.2\n");
        let soa = zone("@ 60 SOA ns hm 4 1 2 3 4\n").data.records.remove(0);
        let steps = [
            difference("www 60 A 10.0.0.1\n", "new 60 A 10.0.0.9\nNew 60 A 10.0.0.8\n"),
            difference("new 60 A 10.0.0.9\nttl 9 A 10.0.0.2\n", "www 60 A 10.0.0.1\nttl 5 A 10.0.0.2\n"),
            difference("WWW 60 A 10.0.0.1\n", "last 60 TXT x\nnew 60 A 10.0.0.8\n"),
        ];
        let after = old.apply(&steps, soa.clone()).unwrap();
        let expected =
            zone("@ 60 SOA ns hm 4 1 2 3 4\n@ 60 NS ns\nttl 5 A 10.0.0.2\nNew 60 A 10.0.0.8\nlast 60 TXT x\n");
        let sorted = |content: &Content| {
            let mut lines: Vec<_> =
                content.data.records.iter().map(|r| (r.owner.to_string(), r.ttl, r.rdata.clone())).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&after), sorted(&expected));
        assert_eq!((after.digest(), after.soa.serial), (expected.digest(), 4));
        let bad = [difference("www 60 A 10.0.0.7\n", "")];
        assert_eq!(
            old.apply(&bad, soa.clone()).unwrap_err(),
            "a difference deletes www.a.example. A, which is not there"
        );
        let twice = [difference("www 60 A 10.0.0.1\n", ""), difference("www 60 A 10.0.0.1\n", "")];
        assert!(old.apply(&twice, soa).is_err());
    }

    #[test]
    fn what_is_no_zone() {
        let zone = Name::absolute("a.example").unwrap();
        let whole = content("a.example", "@ 60 SOA ns hm 7 1 2 3 4\nns 60 A 10.0.0.1\n").data.records;
        let outside = Record { owner: Name::absolute("b.example").unwrap(), ..whole[1].clone() };
        for (records, message) in [
            (vec![whole[1].clone()], "there is no SOA record of a.example."),
            (vec![whole[0].clone(), whole[0].clone()], "a.example. SOA is one SOA record too many"),
            (vec![whole[0].clone(), outside], "b.example. A is outside of the zone a.example."),
        ] {
            assert_eq!(Content::new(zone.clone(), records).unwrap_err(), message);
        }
    }
}
