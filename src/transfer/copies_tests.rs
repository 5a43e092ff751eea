use super::*;
use crate::{
    manifest::{
        record_file::{FileRecord, RecordWriter},
        transferred::tests::content,
    },
    wire::rdata::rtype,
};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

const SMALL: &str = "@ 60 SOA ns hm 7 60 30 100 4\n@ 60 NS ns\nns 60 A 10.0.0.1\n";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A directory that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("zonal-copies-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        Scratch(directory)
    }

    fn copies(&self) -> Copies {
        Copies::new(Some(&self.0))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn whole(id: &str, content: &Content, refreshed: SystemTime) -> Vec<u8> {
    let mut octets = Vec::new();
    write_whole(&mut octets, id, content, refreshed).unwrap();
    octets
}

/// A version of a zone with this serial, and this address at `www`.
fn version(serial: u32, address: u8) -> Content {
    content("a.example", &format!("@ 60 SOA ns hm {serial} 60 30 100 4\n@ 60 NS ns\nwww 60 A 10.0.0.{address}\n"))
}

/// A version of a large list, whose records are in a file.
fn list(serial: u32, names: u32) -> Content {
    let memory = content("a.example", &format!("@ 60 SOA ns hm {serial} 60 30 100 4\n"));
    let (ttl, rdata) = memory.soa_record().unwrap();
    let record = |owner: &Name, rtype, ttl, rdata: &[u8]| Record {
        owner: owner.clone(),
        rtype,
        ttl,
        rdata: rdata.into(),
        file: 0,
        line: 0,
    };
    let mut writer = RecordWriter::new(std::env::temp_dir());
    for n in 0..names {
        writer.add(&record(&memory.zone.child(format!("n{n}").as_bytes()).unwrap(), rtype::CNAME, 60, &[0]));
    }
    let soa = record(&memory.zone, rtype::SOA, ttl, rdata);
    Content::in_file(memory.zone.clone(), &soa, writer.finish().unwrap()).unwrap()
}

#[test]
fn reads_the_copies_of_large_lists() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    copies.write("l", &list(1, 5), at(1000)).unwrap();
    copies.write("l", &list(2, 3), at(2000)).unwrap();
    copies.touch("l", at(3000)).unwrap();
    let read = copies.read();
    let (copy, mut owners) = (&read["l"], Vec::new());
    assert_eq!((copy.content.soa.serial, copy.refreshed), (2, at(3000)));
    let records = copy.content.file().unwrap();
    let mut visit = |record: FileRecord| {
        owners.push(Name::from_wire(record.owner).unwrap().to_string());
        Ok(())
    };
    records.visit(&mut visit).unwrap();
    assert_eq!(owners, ["n0.a.example.", "n1.a.example.", "n2.a.example."]);
    // The copy that was read can be written again.
    copies.write("l", &copy.content, at(4000)).unwrap();
    assert_eq!(copies.read()["l"].refreshed, at(4000));

    let path = scratch.0.join("zones/l.copy");
    let good = fs::read(&path).unwrap();
    for change in (0..good.len()).filter(|at| !(TIME..PARTS).contains(at)) {
        let mut octets = good.clone();
        octets[change] ^= 1;
        fs::write(&path, &octets).unwrap();
        assert!(super::read(&path).is_err(), "octet {change}");
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert!(super::read(&path).is_err(), "{len} octets");
    }
}

#[test]
fn reads_the_copies_that_it_wrote() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    assert!(copies.read().is_empty());
    let zone = content("a.example", SMALL);
    let ids = ["Z1".to_string(), "C/ä.1".to_string(), "x".repeat(300)];
    for id in &ids {
        copies.write(id, &zone, at(1000)).unwrap();
    }
    copies.touch("Z1", at(2000)).unwrap();
    let read = copies.read();
    assert_eq!(read.keys().collect::<BTreeSet<_>>(), ids.iter().collect());
    assert_eq!((read["Z1"].refreshed, read[&ids[1]].refreshed), (at(2000), at(1000)));
    assert_eq!((&read["Z1"].content.zone, read["Z1"].content.digest()), (&zone.zone, zone.digest()));
    for (now, is_expired) in [(2099, false), (2100, true), (1, false)] {
        assert_eq!(read["Z1"].zone_copy(at(now)).is_expired, is_expired, "{now}");
    }
    copies.remove("Z1");
    copies.remove("Z1");
    assert_eq!(copies.read().len(), 2);
}

#[test]
fn renames_damaged_copies() {
    let zone = content("a.example", SMALL);
    let whole = whole("Z", &zone, at(1000));
    for at in 0..whole.len() {
        let mut octets = whole.clone();
        octets[at] ^= 4;
        match decode(&octets) {
            // A damaged time is replaced by the time in the first part.
            Ok(Decoded { copy, damage, .. }) => {
                assert!((TIME..PARTS).contains(&at) && copy.refreshed == self::at(1000) && damage.is_none(), "{at}")
            }
            Err(_) => assert!(!(TIME..PARTS).contains(&at), "{at}"),
        }
        assert!(decode(&whole[..at]).is_err(), "{at}");
    }
    let scratch = Scratch::new();
    let copies = scratch.copies();
    copies.write("Z", &zone, at(1000)).unwrap();
    let path = copies.path("Z").unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    fs::write(path.with_extension("new"), "half").unwrap();
    assert!(copies.read().is_empty());
    let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["Z.damaged"]);
    let bad = content("a.example", "@ 60 SOA ns hm 7 60 30 100 4\na 60 CNAME b\na 60 A 10.0.0.1\n");
    let error = decode(&self::whole("Z", &bad, at(1))).map(|_| ()).unwrap_err();
    assert!(error.contains("has a CNAME record and other records"), "{error}");
}

/// The next change writes such a copy again, in the present format.
#[test]
fn reads_copies_of_the_first_builds() {
    let zone = version(1, 1);
    let mut rest = [&1000u64.to_be_bytes()[..], &1u32.to_be_bytes(), b"Z", &[11], zone.zone.as_wire()].concat();
    rest.extend_from_slice(&(zone.len() as u64).to_be_bytes());
    for (owner, rtype, values) in zone.sets() {
        for (ttl, data) in values.iter() {
            rest.push(owner.as_wire().len() as u8);
            rest.extend_from_slice(owner.as_wire());
            rest.extend_from_slice(&rtype.to_be_bytes());
            rest.extend_from_slice(&ttl.to_be_bytes());
            rest.extend_from_slice(&(data.len() as u16).to_be_bytes());
            rest.extend_from_slice(data);
        }
    }
    let octets = [&FIRST_MAGIC[..], &time(at(2000)), &crc32c::crc32c(&rest).to_be_bytes(), &rest].concat();
    let scratch = Scratch::new();
    let copies = scratch.copies();
    let path = copies.path("Z").unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &octets).unwrap();
    let read = copies.read();
    assert_eq!((read["Z"].refreshed, read["Z"].content.digest()), (at(2000), zone.digest()));
    copies.write_changes("Z", &zone, &version(2, 2), at(3000)).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(MAGIC));
    assert_eq!(copies.read()["Z"].content.digest(), version(2, 2).digest());
    for end in 0..octets.len() {
        assert!(decode(&octets[..end]).is_err());
    }
}

#[test]
fn appends_only_what_a_transfer_changes() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    let hosts: String = (0..10_000).map(|number| format!("n{number} 60 A 10.0.0.1\n")).collect();
    let first = content("a.example", &format!("{SMALL}{hosts}"));
    copies.write("Z", &first, at(1000)).unwrap();
    let path = copies.path("Z").unwrap();
    let size = || fs::metadata(&path).unwrap().len();
    let (whole, mut latest) = (size(), first);
    for serial in 8u32..108 {
        let text = format!("@ 60 SOA ns hm {serial} 60 30 100 4\nnew{serial} 60 A 10.0.0.2\n");
        let mut next = latest.clone();
        let changed = content("a.example", &text);
        for (owner, rtype, values) in changed.sets() {
            let (ttl, rdata) = values.iter().next().unwrap();
            next.add(&Record { owner: owner.clone(), rtype, ttl, rdata: rdata.into(), file: 0, line: 0 }).unwrap();
        }
        let before = size();
        copies.write_changes("Z", &latest, &next, at(1000 + u64::from(serial))).unwrap();
        assert!(size() - before < 250, "{} octets are written", size() - before);
        latest = next;
    }
    assert!(whole > 200_000 && size() > whole, "{whole}");
    let read = copies.read();
    assert_eq!((read["Z"].content.digest(), read["Z"].refreshed), (latest.digest(), at(1107)));
    copies.touch("Z", at(5000)).unwrap();
    assert_eq!(copies.read()["Z"].refreshed, at(5000));
}

/// The changes after a zone are at most as long as the zone, or 64 KiB.
#[test]
fn writes_the_whole_zone_when_the_changes_are_too_long() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    let mut latest = version(1, 1);
    copies.write("Z", &latest, at(1000)).unwrap();
    let path = copies.path("Z").unwrap();
    let (whole, mut rewritten) = (fs::metadata(&path).unwrap().len(), 0);
    let mut before = whole;
    for serial in 2..2000 {
        let next = version(serial, serial as u8);
        copies.write_changes("Z", &latest, &next, at(1000)).unwrap();
        latest = next;
        let size = fs::metadata(&path).unwrap().len();
        rewritten += u32::from(size < before);
        assert!(size <= whole + MIN_CHANGES_OCTETS);
        before = size;
    }
    assert!((1..=10).contains(&rewritten), "{rewritten}");
    assert_eq!(copies.read()["Z"].content.digest(), latest.digest());
}

/// A change is appended only to the version that it starts from.
#[test]
fn writes_the_whole_zone_over_a_copy_of_another_version() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    let path = copies.path("Z").unwrap();
    let digest = || copies.read()["Z"].content.digest();
    copies.write_changes("Z", &version(1, 1), &version(2, 2), at(1)).unwrap();
    assert_eq!(digest(), version(2, 2).digest(), "there was no copy");
    copies.write_changes("Z", &version(7, 7), &version(8, 8), at(1)).unwrap();
    assert_eq!(digest(), version(8, 8).digest());
    for length in [0, 3, PARTS, PARTS + LENGTH + 1] {
        let octets = fs::read(&path).unwrap();
        fs::write(&path, &octets[..length]).unwrap();
        copies.write_changes("Z", &version(8, 8), &version(9, 9), at(1)).unwrap();
        assert_eq!(digest(), version(9, 9).digest());
        copies.write("Z", &version(8, 8), at(1)).unwrap();
    }
}

proptest! {
    /// After damage or a loss at the end of a copy, the last good version is read, and the next
    /// change can be appended.
    #[test]
    fn reads_the_last_good_version_of_a_damaged_copy(
        addresses in vec(any::<u8>(), 1..6),
        at_octet in 0.0..1.0f64,
        cuts in any::<bool>(),
    ) {
        let scratch = Scratch::new();
        let copies = scratch.copies();
        let path = copies.path("Z").unwrap();
        let mut versions = vec![version(1, 0)];
        copies.write("Z", &versions[0], at(1)).unwrap();
        let mut ends = vec![fs::metadata(&path).unwrap().len() as usize];
        for (address, serial) in addresses.iter().zip(2..) {
            let next = version(serial, *address);
            copies.write_changes("Z", versions.last().unwrap(), &next, at(serial.into())).unwrap();
            versions.push(next);
            ends.push(fs::metadata(&path).unwrap().len() as usize);
        }
        let mut octets = fs::read(&path).unwrap();
        let place = ends[0] + ((octets.len() - ends[0]) as f64 * at_octet) as usize;
        match cuts {
            true => octets.truncate(place),
            false => octets[place] ^= 0x10,
        }
        fs::write(&path, &octets).unwrap();
        let good = ends.iter().filter(|end| **end <= place).count();
        for _ in 0..2 {
            // The second time nothing is damaged any more.
            let read = copies.read();
            prop_assert_eq!(read["Z"].content.digest(), versions[good - 1].digest());
            prop_assert_eq!(read["Z"].refreshed, at(good as u64));
            prop_assert_eq!(fs::metadata(&path).unwrap().len() as usize, ends[good - 1]);
        }
        let next = version(99, 99);
        copies.write_changes("Z", &versions[good - 1], &next, at(99)).unwrap();
        prop_assert_eq!(copies.read()["Z"].content.digest(), next.digest());
    }
}

#[test]
fn a_copy_that_cannot_be_written_takes_no_space() {
    let scratch = Scratch::new();
    let copies = scratch.copies();
    // A directory in the place of the copy.
    fs::create_dir_all(copies.path("l").unwrap()).unwrap();
    for content in [list(1, 5), version(1, 1)] {
        assert!(copies.write("l", &content, at(1000)).is_err());
        assert_eq!(fs::read_dir(copies.directory().unwrap()).unwrap().count(), 1, "only the directory");
    }
}
