//! The records of zones that zonal transfers from primaries.

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

/// The copies of zones with `primaries`, by the identifiers of the zones. A zone without a copy was
/// not transferred yet.
pub type Transferred = OrdMap<Id, ZoneCopy>;

/// The copy of a transferred zone.
#[derive(Clone, Debug)]
pub struct ZoneCopy {
    /// The records of the zone.
    pub content: Arc<Content>,
    /// Whether the copy has expired: it was not refreshed for longer than the expire time of its
    /// SOA record. zonal does not answer from it (RFC 1035, section 3.3.13).
    pub is_expired: bool,
}

impl ZoneCopy {
    /// Whether both copies have the same allocation of records, and the same state.
    pub fn is_same(&self, other: &ZoneCopy) -> bool {
        Arc::ptr_eq(&self.content, &other.content) && self.is_expired == other.is_expired
    }

    /// A description of the copy for logs: zone, identifier and serial, or that it has expired.
    pub fn describe(&self, id: &str) -> String {
        let (zone, serial) = (&self.content.zone, self.content.soa.serial);
        match self.is_expired {
            true => format!("{zone} ({id}) has expired"),
            false => format!("{zone} ({id}) serial {serial}"),
        }
    }
}

/// The numbers of a SOA record (RFC 1035, section 3.3.13). All but the serial are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Soa {
    /// The version of the zone.
    pub serial: u32,
    /// The interval at which a secondary checks for a newer version.
    pub refresh: u32,
    /// The interval at which a secondary retries a failed check.
    pub retry: u32,
    /// The time after which a secondary stops answering if no check succeeds.
    pub expire: u32,
    /// The TTL of negative answers (RFC 2308).
    pub minimum: u32,
}

impl Soa {
    /// Reads the numbers from the data of a SOA record. None if the data is too short.
    pub fn read(rdata: &[u8]) -> Option<Soa> {
        let numbers: &[u8; 20] = rdata.last_chunk()?;
        let number = |at: usize| u32::from_be_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        Some(Soa { serial: number(0), refresh: number(4), retry: number(8), expire: number(12), minimum: number(16) })
    }
}

/// Whether a serial is newer than another one (RFC 1982, section 3.2). If they differ by 2^31,
/// neither is newer.
pub fn is_newer(serial: u32, than: u32) -> bool {
    let ahead = serial.wrapping_sub(than);
    ahead != 0 && ahead < 1 << 31
}

/// The records of a zone, with values that are computed from them.
#[derive(Debug)]
pub struct Content {
    /// The apex of the zone.
    pub zone: Name,
    /// The numbers of its SOA record.
    pub soa: Soa,
    /// All records, with one SOA record.
    pub data: MasterFile,
    digest: Digest,
    members: OnceLock<Result<Box<[catalog::Member]>, String>>,
}

impl Content {
    /// Checks the records of a zone: all are at or below its apex, and one is a SOA record at the
    /// apex.
    ///
    /// # Errors
    ///
    /// The reason why the records are not a zone.
    pub fn new(zone: Name, records: Vec<Record>) -> Result<Content, String> {
        let mut digest = Digest::default();
        let mut soa = None;
        for record in &records {
            let what = || format!("{} {}", record.owner, type_to_text(record.rtype));
            if !record.owner.is_at_or_below(&zone) {
                return Err(format!("{} is outside the zone {zone}", what()));
            }
            if record.rtype == rtype::SOA {
                if record.owner != zone || soa.is_some() {
                    return Err(format!("{} is a second SOA record, or not at the apex", what()));
                }
                soa = Soa::read(&record.rdata);
            }
            digest.add(&digest_of(record));
        }
        let soa = soa.ok_or_else(|| format!("the zone {zone} has no SOA record"))?;
        let data = MasterFile { files: Vec::new(), records };
        Ok(Content { zone, soa, data, digest, members: OnceLock::new() })
    }

    /// Applies difference sequences in their order, and sets the new SOA record (RFC 1995, section
    /// 4).
    ///
    /// # Errors
    ///
    /// The reason why the differences do not fit this zone: one deletes a record that does not
    /// exist.
    pub fn apply(&self, differences: &[ZoneDifference], soa: Record) -> Result<Content, String> {
        let numbers = Soa::read(&soa.rdata).ok_or("its SOA record is malformed")?;
        // The records in the differences, with their TTL if they exist at this point.
        let mut touched: HashMap<Identity, Option<u32>> = HashMap::new();
        let all = differences.iter().flat_map(|difference| difference.deleted.iter().chain(&difference.added));
        touched.extend(all.map(|record| (Identity::of(record), None)));
        for record in &self.data.records {
            if let Some(ttl) = touched.get_mut(&Identity::of(record)) {
                *ttl = Some(record.ttl);
            }
        }
        for ZoneDifference { deleted, added } in differences {
            for record in deleted {
                let ttl = touched.get_mut(&Identity::of(record)).and_then(Option::take);
                if ttl.is_none() {
                    return Err(format!(
                        "a difference deletes {} {}, which does not exist",
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
        // Records that are deleted and added again are added here.
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

    /// The digest of all records. It is independent of their order.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.octets()
    }

    /// The members of the zone as a catalog.
    ///
    /// # Errors
    ///
    /// The reason why the zone is not a valid catalog.
    pub fn members(&self) -> Result<&[catalog::Member], &str> {
        let members = self.members.get_or_init(|| catalog::read(self).map(Vec::into_boxed_slice));
        members.as_deref().map_err(String::as_str)
    }
}

/// The difference of two versions of a zone, without SOA records: a difference sequence of RFC
/// 1995.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneDifference {
    /// The records that the new version lacks.
    pub deleted: Vec<Record>,
    /// The records that the new version adds.
    pub added: Vec<Record>,
}

/// The identity of a record: owner, type and data, without the TTL.
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

/// The digest of a manifest with the copies of its transferred zones. It is the digest of the
/// manifest if there are no copies.
pub fn digest_with(manifest: [u8; 32], transferred: &Transferred) -> [u8; 32] {
    if transferred.is_empty() {
        return manifest;
    }
    let mut digest = Sha256::new();
    digest.update(manifest);
    for (id, copy) in transferred {
        digest.update((id.len() as u64).to_be_bytes());
        digest.update(id);
        digest.update([u8::from(copy.is_expired)]);
        digest.update(copy.content.digest());
    }
    digest.finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::manifest::master;
    use std::path::Path;

    /// The content of a zone, from a master file.
    pub(crate) fn content(zone: &str, text: &str) -> Content {
        let zone = Name::absolute(zone).unwrap();
        let mut opener = |_: &Path| Ok(text.as_bytes().to_vec());
        let (file, problems) = master::read(&mut opener, Path::new("zone"), &zone, "Z");
        assert_eq!(problems, []);
        Content::new(zone, file.records).unwrap()
    }

    #[test]
    fn compares_serials_by_serial_number_arithmetic() {
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
    fn digest_is_independent_of_the_order_of_records() {
        let one = content("a.example", "@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\nns 60 A 10.0.0.1\n");
        let other = content("a.example", "ns 60 A 10.0.0.1\n@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\n");
        let third = content("a.example", "ns 61 A 10.0.0.1\n@ 60 SOA ns hm 7 1 2 3 4\n@ 60 NS ns\n");
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.digest(), third.digest());
        assert_eq!(one.soa, Soa { serial: 7, refresh: 1, retry: 2, expire: 3, minimum: 4 });
        let copy = |content: Content, is_expired| ZoneCopy { content: Arc::new(content), is_expired };
        let all = |copy| Transferred::unit("Z".into(), copy);
        let digest = digest_with([1; 32], &all(copy(one, false)));
        assert_eq!(digest, digest_with([1; 32], &all(copy(other, false))));
        assert_ne!(digest, digest_with([1; 32], &all(copy(third, true))));
        assert_eq!(digest_with([1; 32], &Transferred::new()), [1; 32]);
    }

    #[test]
    fn applies_differences_in_their_order() {
        let zone = |text: &str| content("a.example", text);
        let records = |text: &str| {
            let all = zone(&format!("@ 60 SOA ns hm 1 1 2 3 4\n{text}")).data.records;
            all.into_iter().filter(|record| record.rtype != rtype::SOA).collect::<Vec<_>>()
        };
        let difference =
            |deleted: &str, added: &str| ZoneDifference { deleted: records(deleted), added: records(added) };
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
            "a difference deletes www.a.example. A, which does not exist"
        );
        let twice = [difference("www 60 A 10.0.0.1\n", ""), difference("www 60 A 10.0.0.1\n", "")];
        assert!(old.apply(&twice, soa).is_err());
    }

    #[test]
    fn refuses_records_that_are_not_a_zone() {
        let zone = Name::absolute("a.example").unwrap();
        let whole = content("a.example", "@ 60 SOA ns hm 7 1 2 3 4\nns 60 A 10.0.0.1\n").data.records;
        let outside = Record { owner: Name::absolute("b.example").unwrap(), ..whole[1].clone() };
        for (records, message) in [
            (vec![whole[1].clone()], "the zone a.example. has no SOA record"),
            (vec![whole[0].clone(), whole[0].clone()], "a.example. SOA is a second SOA record, or not at the apex"),
            (vec![whole[0].clone(), outside], "b.example. A is outside the zone a.example."),
        ] {
            assert_eq!(Content::new(zone.clone(), records).unwrap_err(), message);
        }
    }
}
