//! Records of zones that zonal transfers from primaries.

use super::{Id, Record, catalog, digest::Digest, record_file::RecordFile, work};
use crate::wire::{
    Name,
    rdata::{rtype, type_to_text},
};
use imbl::{OrdMap, ordmap::DiffItem};
use sha2::{Digest as _, Sha256};
use std::{
    cmp::Ordering,
    ops::Range,
    sync::{Arc, OnceLock},
};

/// Copies of zones with `primaries`, by the identifiers of the zones. A zone without a copy has not
/// been transferred yet.
pub type Transferred = OrdMap<Id, ZoneCopy>;

/// Copy of a transferred zone.
#[derive(Clone, Debug)]
pub struct ZoneCopy {
    /// Records of the zone.
    pub content: Arc<Content>,
    /// Whether the copy has expired. It was not refreshed for longer than the expire time of its
    /// SOA record, so zonal does not answer from it (RFC 1035, section 3.3.13).
    pub is_expired: bool,
}

impl ZoneCopy {
    /// Whether both copies share one allocation of records, and have the same state.
    pub fn is_same(&self, other: &ZoneCopy) -> bool {
        Arc::ptr_eq(&self.content, &other.content) && self.is_expired == other.is_expired
    }

    /// Describes the copy for logs: zone, identifier, and serial or expiry.
    pub fn describe(&self, id: &str) -> String {
        let (zone, serial) = (&self.content.zone, self.content.soa.serial);
        match self.is_expired {
            true => format!("{zone} ({id}) has expired"),
            false => format!("{zone} ({id}) serial {serial}"),
        }
    }
}

/// Numbers of a SOA record (RFC 1035, section 3.3.13). All except the serial are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Soa {
    /// Version of the zone.
    pub serial: u32,
    /// Interval at which a secondary checks for a newer version.
    pub refresh: u32,
    /// Interval at which a secondary retries a failed check.
    pub retry: u32,
    /// Time after which a secondary stops answering if no check succeeds.
    pub expire: u32,
    /// TTL of negative answers (RFC 2308).
    pub minimum: u32,
}

impl Soa {
    /// Reads the numbers from the data of a SOA record. `None` if the data is too short.
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

/// Records of a zone. Versions share their unchanged records, so a new version costs only its
/// changes.
///
/// Record sets are indexed by owner, in lower case, and type. The records of a set are in the order
/// of their data. So a zone from incremental transfers equals the same zone from a full transfer.
#[derive(Clone, Debug)]
pub struct Content {
    /// Apex of the zone.
    pub zone: Name,
    /// Numbers of the SOA record. Zeros while the zone has no SOA record.
    pub soa: Soa,
    sets: OrdMap<SetKey, Values>,
    records: usize,
    octets: usize,
    digest: Digest,
    members: OnceLock<Result<Box<[catalog::Member]>, String>>,
    file: Option<Arc<RecordFile>>,
}

/// Estimated memory of a record beside its owner and data, in octets.
pub const RECORD_OCTETS: usize = 48;
/// Maximum size of a record set, in octets. More octets do not fit into a message.
const MAX_SET_OCTETS: usize = u16::MAX as usize;

/// Owner, in lower case, and type of a record set. Keys are in the order of the owner's octets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SetKey {
    owner: Name,
    rtype: u16,
}

impl SetKey {
    fn new(owner: &Name, rtype: u16) -> SetKey {
        SetKey { owner: owner.to_lowercase(), rtype }
    }
}

impl Ord for SetKey {
    fn cmp(&self, other: &SetKey) -> Ordering {
        work::count(1);
        self.owner.as_wire().cmp(other.owner.as_wire()).then(self.rtype.cmp(&other.rtype))
    }
}

impl PartialOrd for SetKey {
    fn partial_cmp(&self, other: &SetKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Records of a set, in the order of their data. Each has a TTL (u32), a length (u16) and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values(Arc<[u8]>);

impl Values {
    /// Number of octets before the data of each record.
    const HEAD: usize = 6;

    /// Iterates over the TTL in seconds and the data of each record.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (ttl, end) = self.head(at)?;
            let data = &self.0[at + Values::HEAD..end];
            at = end;
            Some((ttl, data))
        })
    }

    /// Returns the TTL of the record at `at`, and the offset of the next record.
    fn head(&self, at: usize) -> Option<(u32, usize)> {
        let [a, b, c, d, length @ ..]: [u8; Values::HEAD] = *self.0.get(at..)?.first_chunk()?;
        Some((u32::from_be_bytes([a, b, c, d]), at + Values::HEAD + usize::from(u16::from_be_bytes(length))))
    }

    /// Finds the record with this data.
    ///
    /// Returns its range and TTL. If there is none, returns the offset at which the record belongs.
    fn find(&self, data: &[u8]) -> Result<(Range<usize>, u32), usize> {
        let mut at = 0;
        while let Some((ttl, end)) = self.head(at) {
            match self.0[at + Values::HEAD..end].cmp(data) {
                Ordering::Less => at = end,
                Ordering::Equal => return Ok((at..end, ttl)),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }

    /// Returns a copy of the set in which `octets` replace the range `place`.
    fn spliced(&self, place: Range<usize>, octets: &[u8]) -> Values {
        Values([&self.0[..place.start], octets, &self.0[place.end..]].concat().into())
    }
}

/// A record set that differs in another version of a zone.
#[derive(Clone, Debug)]
pub struct ChangedSet<'a> {
    /// Owner of the set, in lower case.
    pub owner: &'a Name,
    /// Type of the set.
    pub rtype: u16,
    /// Records in the other version. `None` if the other version lacks the set.
    pub values: Option<&'a Values>,
}

impl ChangedSet<'_> {
    /// Returns the records as octets: TTL (u32), length (u16) and data of each.
    pub fn octets(&self) -> &[u8] {
        self.values.map_or(&[], |values| &values.0)
    }
}

impl Content {
    /// Creates a zone without records. A valid zone also needs a SOA record.
    pub fn new(zone: Name) -> Content {
        let (soa, sets, records, octets, digest) = Default::default();
        Content { zone, soa, sets, records, octets, digest, members: OnceLock::new(), file: None }
    }

    /// Creates a zone whose records are in a file, except for its SOA record. It can only be read from start to end: no
    /// other method knows the records of the file.
    ///
    /// # Errors
    ///
    /// The function returns the same errors as [`Content::of`].
    pub fn in_file(zone: Name, soa: &Record, file: RecordFile) -> Result<Content, String> {
        Ok(Content { file: Some(Arc::new(file)), ..Content::of(zone, [soa])? })
    }

    /// The file of [`Content::in_file`].
    pub fn file(&self) -> Option<&RecordFile> {
        self.file.as_deref()
    }

    /// Creates a zone from its records.
    ///
    /// # Errors
    ///
    /// The reason why a record does not fit into the zone, or that the zone has no SOA record.
    pub fn of<'a>(zone: Name, records: impl IntoIterator<Item = &'a Record>) -> Result<Content, String> {
        let mut content = Content::new(zone);
        records.into_iter().try_for_each(|record| content.add(record))?;
        content.checked()
    }

    /// Returns the zone if it has a SOA record.
    ///
    /// # Errors
    ///
    /// The zone has no SOA record.
    pub fn checked(self) -> Result<Content, String> {
        match self.soa_record() {
            Some(_) => Ok(self),
            None => Err(format!("the zone {} has no SOA record", self.zone)),
        }
    }

    /// Adds a record.
    ///
    /// A record with equal data gets the new TTL. A new SOA record replaces the old one.
    ///
    /// # Errors
    ///
    /// The reason why the record does not fit into the zone.
    pub fn add(&mut self, record: &Record) -> Result<(), String> {
        let key = SetKey::new(&record.owner, record.rtype);
        let what = || format!("{} {}", record.owner, type_to_text(record.rtype));
        if !record.owner.is_at_or_below(&self.zone) {
            return Err(format!("{} is outside the zone {}", what(), self.zone));
        }
        if record.rtype == rtype::SOA {
            if record.owner != self.zone {
                return Err(format!("{} is not that of the zone", what()));
            }
            self.soa = Soa::read(&record.rdata).ok_or("the SOA record is malformed")?;
            self.remove_set(&record.owner, rtype::SOA);
        }
        let old = self.sets.get(&key).cloned().unwrap_or_else(|| Values(Arc::default()));
        let found = old.find(&record.rdata);
        let place = match &found {
            Ok((place, _)) => place.clone(),
            Err(at) => *at..*at,
        };
        let length = record.rdata.len() as u16;
        let octets = [&record.ttl.to_be_bytes()[..], &length.to_be_bytes(), &record.rdata].concat();
        let values = old.spliced(place, &octets);
        if values.0.len() > MAX_SET_OCTETS {
            let rtype = type_to_text(record.rtype);
            return Err(format!(
                "the {rtype} records of {} fill more than {MAX_SET_OCTETS} octets, which a message holds",
                record.owner
            ));
        }
        if let Ok((_, ttl)) = found {
            self.take(&key, ttl, &record.rdata);
        }
        self.give(&key, record.ttl, &record.rdata);
        self.sets.insert(key, values);
        Ok(())
    }

    /// Removes a record, whatever its TTL. Returns false if the zone does not have the record.
    pub fn remove(&mut self, record: &Record) -> bool {
        let key = SetKey::new(&record.owner, record.rtype);
        let Some(old) = self.sets.get(&key).cloned() else { return false };
        let Ok((place, ttl)) = old.find(&record.rdata) else { return false };
        self.take(&key, ttl, &record.rdata);
        let values = old.spliced(place, &[]);
        match values.0.is_empty() {
            true => drop(self.sets.remove(&key)),
            false => drop(self.sets.insert(key, values)),
        }
        true
    }

    /// Removes a record set, if the zone has it.
    pub fn remove_set(&mut self, owner: &Name, rtype: u16) {
        let key = SetKey::new(owner, rtype);
        if let Some(values) = self.sets.remove(&key) {
            values.iter().for_each(|(ttl, data)| self.take(&key, ttl, data));
        }
    }

    /// Adds a record to the digest and to the counts.
    fn give(&mut self, key: &SetKey, ttl: u32, data: &[u8]) {
        self.digest.add(&digest_of(key, ttl, data));
        self.records += 1;
        self.octets += RECORD_OCTETS + key.owner.as_wire().len() + data.len();
        self.members = OnceLock::new();
    }

    /// Removes a record from the digest and from the counts.
    fn take(&mut self, key: &SetKey, ttl: u32, data: &[u8]) {
        self.digest.remove(&digest_of(key, ttl, data));
        self.records -= 1;
        self.octets -= RECORD_OCTETS + key.owner.as_wire().len() + data.len();
        self.members = OnceLock::new();
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether the zone has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Estimated memory of the records, in octets.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Iterates over all record sets: owner in lower case, type, records.
    pub fn sets(&self) -> impl Iterator<Item = (&Name, u16, &Values)> {
        self.sets.iter().map(|(key, values)| (&key.owner, key.rtype, values))
    }

    /// Iterates over the record sets of an owner: type, records.
    pub fn sets_of(&self, owner: &Name) -> impl Iterator<Item = (u16, &Values)> {
        let owner = owner.to_lowercase();
        let first = SetKey { owner: owner.clone(), rtype: 0 };
        let sets = self.sets.range(first..).take_while(move |(key, _)| key.owner == owner);
        sets.map(|(key, values)| (key.rtype, values))
    }

    /// Returns the TTL in seconds and the data of the SOA record.
    pub fn soa_record(&self) -> Option<(u32, &[u8])> {
        self.sets.get(&SetKey::new(&self.zone, rtype::SOA))?.iter().next()
    }

    /// Iterates over the record sets that differ in another version. The cost depends on the
    /// differences only.
    pub fn changed<'a>(&'a self, other: &'a Content) -> impl Iterator<Item = ChangedSet<'a>> {
        self.sets.diff(&other.sets).map(|item| match item {
            DiffItem::Add(key, values) | DiffItem::Update { new: (key, values), .. } => {
                ChangedSet { owner: &key.owner, rtype: key.rtype, values: Some(values) }
            }
            DiffItem::Remove(key, _) => ChangedSet { owner: &key.owner, rtype: key.rtype, values: None },
        })
    }

    /// Returns the sum of the SHA-256 digests of all records. It does not depend on the order in
    /// which the records were added.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.octets()
    }

    /// Returns the members of the zone as a catalog zone.
    ///
    /// # Errors
    ///
    /// The reason why the zone is not a valid catalog.
    pub fn members(&self) -> Result<&[catalog::Member], &str> {
        let members = self.members.get_or_init(|| catalog::read(self).map(Vec::into_boxed_slice));
        members.as_deref().map_err(String::as_str)
    }
}

fn digest_of(key: &SetKey, ttl: u32, data: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(key.owner.as_wire());
    digest.update(key.rtype.to_be_bytes());
    digest.update(ttl.to_be_bytes());
    digest.update(data);
    digest.finalize().into()
}

/// Returns the digest of a manifest with the copies of its transferred zones. Without copies, it is
/// the digest of the manifest.
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
    use proptest::{collection::vec, prelude::*};
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
    };

    /// Reads the content of a zone from a master file.
    pub(crate) fn content(zone: &str, text: &str) -> Content {
        let zone = Name::absolute(zone).unwrap();
        Content::of(zone.clone(), &records(&zone, text)).unwrap()
    }

    fn records(zone: &Name, text: &str) -> Vec<Record> {
        let mut opener = |_: &Path| Ok(text.as_bytes().to_vec());
        let (file, problems) = master::read(&mut opener, Path::new("zone"), zone, "Z");
        assert_eq!(problems, []);
        file.records
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
    fn a_set_has_its_records_in_the_order_of_their_data() {
        let one = content("a.example", "@ 60 SOA ns hm 7 1 2 3 4\nw 60 A 10.0.0.3\nW 60 A 10.0.0.1\nw 60 A 10.0.0.2\n");
        let (owner, _, values) = one.sets().last().unwrap();
        let addresses: Vec<_> = values.iter().map(|(ttl, data)| (ttl, data[3])).collect();
        assert_eq!((owner.to_string().as_str(), &addresses[..]), ("w.a.example.", &[(60, 1), (60, 2), (60, 3)][..]));
        assert_eq!(
            (one.len(), one.octets()),
            (4, 4 * (RECORD_OCTETS + 11) + 2 * 3 + 12 + one.soa_record().unwrap().1.len())
        );
    }

    #[test]
    fn records_that_are_none_of_a_zone() {
        let zone = Name::absolute("a.example").unwrap();
        let whole = records(&zone, "@ 60 SOA ns hm 7 1 2 3 4\nns 60 A 10.0.0.1\n");
        let at = |record: &Record, owner: &str| Record { owner: Name::absolute(owner).unwrap(), ..record.clone() };
        let short = Record { rdata: vec![0; 19].into(), ..whole[0].clone() };
        for (records, message) in [
            (vec![whole[1].clone()], "the zone a.example. has no SOA record"),
            (vec![at(&whole[0], "b.a.example")], "b.a.example. SOA is not that of the zone"),
            (vec![whole[0].clone(), at(&whole[1], "b.example")], "b.example. A is outside the zone a.example."),
            (vec![short], "the SOA record is malformed"),
        ] {
            assert_eq!(Content::of(zone.clone(), &records).unwrap_err(), message);
        }
        let many = |count: u16| {
            (0..count).map(|at| Record { rdata: at.to_be_bytes().into(), ..whole[1].clone() }).collect::<Vec<_>>()
        };
        let mut content = Content::of(zone, &whole).unwrap();
        many(65535 / 8 - 1).iter().for_each(|record| content.add(record).unwrap());
        let message = "the A records of ns.a.example. fill more than 65535 octets, which a message holds";
        assert_eq!(many(u16::MAX).iter().find_map(|record| content.add(record).err()).unwrap(), message);
    }

    proptest! {
        /// The content does not depend on the history of the zone, only on the records left. The
        /// changed sets lead from any version to any other version.
        #[test]
        fn versions_are_what_their_records_make_them(
            steps in vec(vec((0..30u8, 0..3u8, any::<bool>(), 1..3u32), 1..10), 1..20),
        ) {
            let zone = Name::absolute("a.example").unwrap();
            let soa = records(&zone, "@ 60 SOA ns hm 7 1 2 3 4\n");
            let mut content = Content::of(zone.clone(), &soa).unwrap();
            let mut left = BTreeMap::new();
            let mut versions = vec![content.clone()];
            for step in steps {
                for (owner, data, comes, ttl) in step {
                    let owner = Name::absolute(&format!("{}{owner}.A.example", ["n", "N"][ttl as usize - 1])).unwrap();
                    let record = Record { owner, rtype: 1, ttl, rdata: vec![data; 4].into(), file: 0, line: 0 };
                    let key = (record.owner.clone(), data);
                    match comes {
                        true => {
                            content.add(&record).unwrap();
                            left.insert(key, record);
                        }
                        false => prop_assert_eq!(content.remove(&record), left.remove(&key).is_some()),
                    }
                }
                let anew = Content::of(zone.clone(), soa.iter().chain(left.values())).unwrap();
                prop_assert!(content.sets().eq(anew.sets()));
                prop_assert_eq!((content.digest(), content.len(), content.octets()), (anew.digest(), anew.len(), anew.octets()));
                versions.push(content.clone());
            }
            for (from, to) in versions.iter().zip(versions.iter().rev()) {
                let mut led = from.clone();
                for set in from.changed(to) {
                    led.remove_set(set.owner, set.rtype);
                    for (ttl, rdata) in set.values.into_iter().flat_map(Values::iter) {
                        let (owner, rtype) = (set.owner.clone(), set.rtype);
                        led.add(&Record { owner, rtype, ttl, rdata: rdata.into(), file: 0, line: 0 }).unwrap();
                    }
                }
                prop_assert!(led.sets().eq(to.sets()) && led.digest() == to.digest());
            }
        }
    }

    #[test]
    fn a_version_costs_what_it_changes() {
        let zone = Name::absolute("a.example").unwrap();
        let soa = records(&zone, "@ 60 SOA ns hm 7 1 2 3 4\n");
        let record = |owner: usize| Record {
            owner: Name::absolute(&format!("n{owner}.a.example")).unwrap(),
            rtype: 1,
            ttl: 60,
            rdata: [10, 0, 0, 1][..].into(),
            file: 0,
            line: 0,
        };
        let all: Vec<Record> = (0..100_000).map(record).collect();
        let before = Content::of(zone, soa.iter().chain(&all)).unwrap();
        let (changed, looked_at) = work::of(|| {
            let mut after = before.clone();
            assert!(after.remove(&all[70_000]));
            after.add(&record(200_000)).unwrap();
            after.add(&soa[0]).unwrap();
            before.changed(&after).map(|set| set.owner.to_string()).collect::<BTreeSet<_>>()
        });
        assert_eq!(changed, ["n200000.a.example.", "n70000.a.example."].map(String::from).into());
        assert!(looked_at < 1000, "{looked_at}");
    }
}
