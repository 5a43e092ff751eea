//! Copies of transferred zones in the state directory, for a start without their primaries.
//!
//! ```text
//! zones/<id>    magic, when it was refreshed u64, checksum of that u32, checksum of the rest u32, then the rest: identifier, apex,
//!               records; texts and data with their lengths in front
//! ```
//! A copy is written beside the one before, and takes its place when it is whole and on the disk. Only the time is written into it
//! later, so that a refresh that finds nothing new need not write the zone again.

use crate::{
    clock::seconds,
    manifest::{
        Id, PrivateHostedZone, Record,
        transferred::{Content, ZoneCopy},
    },
    snapshot::zone,
    wire::Name,
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What each copy begins with.
const MAGIC: &[u8; 16] = b"zonal zone 1\n\0\0\0";
/// Where the time is, and its checksum; where the checksum of the rest is, and the rest.
const TIME: usize = MAGIC.len();
const SUM: usize = TIME + 12;
const REST: usize = SUM + 4;
/// Longer names of files are not possible everywhere.
const MOST_NAME: usize = 200;

/// Where copies are kept; nowhere without a state directory.
#[derive(Clone, Debug, Default)]
pub struct Copies(Option<PathBuf>);

/// A zone as it was kept.
#[derive(Debug)]
pub struct Copy {
    /// Its records.
    pub content: Arc<Content>,
    /// When a primary was last heard of that it was the newest version.
    pub refreshed: SystemTime,
}

impl Copy {
    /// What is served of it at this time.
    pub fn held(&self, now: SystemTime) -> ZoneCopy {
        let age = now.duration_since(self.refreshed).unwrap_or_default();
        ZoneCopy { content: self.content.clone(), is_expired: age >= super::timers::expire(&self.content.soa) }
    }
}

impl Copies {
    /// Copies in a state directory.
    pub fn new(state_directory: Option<&Path>) -> Copies {
        Copies(state_directory.map(|directory| directory.join("zones")))
    }

    /// Reads all copies. What is damaged is told and set aside.
    pub fn read(&self) -> BTreeMap<Id, Copy> {
        let mut copies = BTreeMap::new();
        let Some(directory) = &self.0 else { return copies };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return copies,
            Err(error) => {
                tracing::error!("the copies of zones in {} cannot be read: {error}", directory.display());
                return copies;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("copy") => {}
                // What a write that was cut off has left.
                Some("new") => {
                    let _ = fs::remove_file(path);
                    continue;
                }
                _ => continue,
            }
            match fs::read(&path).map_err(|error| error.to_string()).and_then(|octets| decode(&octets)) {
                Ok((id, copy)) => drop(copies.insert(id, copy)),
                Err(error) => {
                    let aside = path.with_extension("damaged");
                    tracing::error!(
                        "the copy of a zone in {} is damaged ({error}): it is set aside, and the zone is transferred anew",
                        path.display()
                    );
                    let _ = fs::rename(&path, aside);
                }
            }
        }
        copies
    }

    /// Keeps a zone.
    pub fn write(&self, id: &str, content: &Content, refreshed: SystemTime) -> io::Result<()> {
        let (Some(directory), Some(path)) = (&self.0, self.path(id)) else { return Ok(()) };
        fs::create_dir_all(directory)?;
        let draft = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&encode(id, content, refreshed))?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(directory)?.sync_all()
    }

    /// Notes in the copy of a zone that it is still the newest version.
    pub fn touch(&self, id: &str, refreshed: SystemTime) -> io::Result<()> {
        let Some(path) = self.path(id) else { return Ok(()) };
        OpenOptions::new().write(true).open(path)?.write_all_at(&time(refreshed), TIME as u64)
    }

    /// Lets go of the copy of a zone.
    pub fn remove(&self, id: &str) {
        let Some(path) = self.path(id) else { return };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("the copy of a zone in {} cannot be removed: {error}", path.display());
            }
            _ => {}
        }
    }

    fn path(&self, id: &str) -> Option<PathBuf> {
        let mut name = String::new();
        for octet in id.bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(octet)),
                other => name.push_str(&format!("%{other:02X}")),
            }
        }
        if name.len() > MOST_NAME {
            name = format!("%{}", HEXLOWER.encode(&Sha256::digest(id)));
        }
        self.0.as_ref().map(|directory| directory.join(format!("{name}.copy")))
    }
}

/// The time of a refresh, and its checksum.
fn time(refreshed: SystemTime) -> [u8; 12] {
    let mut octets = [0; 12];
    octets[..8].copy_from_slice(&seconds(refreshed).to_be_bytes());
    let sum = crc32c::crc32c(&octets[..8]);
    octets[8..].copy_from_slice(&sum.to_be_bytes());
    octets
}

fn encode(id: &str, content: &Content, refreshed: SystemTime) -> Vec<u8> {
    let mut octets = MAGIC.to_vec();
    octets.extend_from_slice(&time(refreshed));
    octets.extend_from_slice(&[0; 4]);
    octets.extend_from_slice(&seconds(refreshed).to_be_bytes());
    octets.extend_from_slice(&(id.len() as u32).to_be_bytes());
    octets.extend_from_slice(id.as_bytes());
    octets.push(content.zone.as_wire().len() as u8);
    octets.extend_from_slice(content.zone.as_wire());
    octets.extend_from_slice(&(content.data.records.len() as u64).to_be_bytes());
    for record in &content.data.records {
        octets.push(record.owner.as_wire().len() as u8);
        octets.extend_from_slice(record.owner.as_wire());
        octets.extend_from_slice(&record.rtype.to_be_bytes());
        octets.extend_from_slice(&record.ttl.to_be_bytes());
        octets.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
        octets.extend_from_slice(&record.rdata);
    }
    let sum = crc32c::crc32c(&octets[REST..]);
    octets[SUM..REST].copy_from_slice(&sum.to_be_bytes());
    octets
}

fn decode(octets: &[u8]) -> Result<(Id, Copy), String> {
    let rest = octets.get(REST..).filter(|_| octets.starts_with(MAGIC)).ok_or("it does not begin as one")?;
    if crc32c::crc32c(rest).to_be_bytes() != octets[SUM..REST] {
        return Err("its checksum is wrong".into());
    }
    let mut reader = Reader(rest);
    // The time that was written with the copy holds if the one that is written into it later does not.
    let written = reader.number(8)?;
    let later = &octets[TIME..SUM];
    let refreshed = match later.split_first_chunk::<8>() {
        Some((time, sum)) if crc32c::crc32c(time).to_be_bytes() == *sum => u64::from_be_bytes(*time),
        _ => written,
    };
    let length = reader.number(4)? as usize;
    let id = String::from_utf8(reader.octets(length)?.to_vec()).map_err(|error| error.to_string())?;
    let zone = reader.name()?;
    let count = reader.number(8)?;
    let mut records = Vec::new();
    for _ in 0..count {
        let owner = reader.name()?;
        let (rtype, ttl) = (reader.number(2)? as u16, reader.number(4)? as u32);
        let length = reader.number(2)? as usize;
        records.push(Record { owner, rtype, ttl, rdata: reader.octets(length)?.into(), file: 0, line: 0 });
    }
    let content = Content::new(zone, records)?;
    check(&id, &content)?;
    let refreshed = UNIX_EPOCH + Duration::from_secs(refreshed.min(u32::MAX.into()));
    Ok((id, Copy { content: Arc::new(content), refreshed }))
}

/// Another version of this program may have taken what this one does not.
fn check(id: &str, content: &Content) -> Result<(), String> {
    let source = Arc::new(PrivateHostedZone::empty(content.zone.clone()));
    let mut problems = Vec::new();
    let job = zone::Job {
        id: &id.to_string(),
        source: &source,
        data: Some(&content.data),
        base: None,
        overlay: None,
        missing: None,
        serial: (None, 1),
    };
    match zone::build(job, &mut problems) {
        Some(_) => Ok(()),
        None => {
            Err(problems.into_iter().find(|problem| problem.is_error()).map_or("?".into(), |problem| problem.message))
        }
    }
}

/// Reads what [`encode`] has written.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn octets(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (octets, rest) = self.0.split_at_checked(length).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(octets)
    }

    fn number(&mut self, length: usize) -> Result<u64, String> {
        Ok(self.octets(length)?.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    }

    fn name(&mut self) -> Result<Name, String> {
        let length = self.number(1)? as usize;
        Name::from_wire(self.octets(length)?).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::transferred::tests::content;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn copies_are_kept_and_checked() {
        let directory = std::env::temp_dir().join(format!("zonal-copies-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let copies = Copies::new(Some(&directory));
        assert!(copies.read().is_empty());
        let zone = content("a.example", "@ 60 SOA ns hm 7 60 30 100 4\n@ 60 NS ns\nns 60 A 10.0.0.1\n");
        let ids = ["Z1".to_string(), "C/ä.1".to_string(), "x".repeat(300)];
        for id in &ids {
            copies.write(id, &zone, at(1000)).unwrap();
        }
        copies.touch("Z1", at(2000)).unwrap();
        let read = copies.read();
        assert_eq!(read.keys().collect::<std::collections::BTreeSet<_>>(), ids.iter().collect());
        assert_eq!((read["Z1"].refreshed, read[&ids[1]].refreshed), (at(2000), at(1000)));
        assert_eq!((&read["Z1"].content.zone, read["Z1"].content.digest()), (&zone.zone, zone.digest()));
        for (now, is_expired) in [(2099, false), (2100, true), (1, false)] {
            assert_eq!(read["Z1"].held(at(now)).is_expired, is_expired, "{now}");
        }
        copies.remove("Z1");
        copies.remove("Z1");
        assert_eq!(copies.read().len(), 2);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let zone = content("a.example", "@ 60 SOA ns hm 7 60 30 100 4\n@ 60 NS ns\nns 60 A 10.0.0.1\n");
        let whole = encode("Z", &zone, at(1000));
        for at in 0..whole.len() {
            let mut octets = whole.clone();
            octets[at] ^= 4;
            match decode(&octets) {
                // The time that is written later is worth less than all the rest.
                Ok((_, copy)) => assert!((TIME..SUM).contains(&at) && copy.refreshed == self::at(1000), "{at}"),
                Err(_) => assert!(!(TIME..SUM).contains(&at), "{at}"),
            }
            assert!(decode(&whole[..at]).is_err(), "{at}");
        }
        let directory = std::env::temp_dir().join(format!("zonal-damaged-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let copies = Copies::new(Some(&directory));
        copies.write("Z", &zone, at(1000)).unwrap();
        let path = copies.path("Z").unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        fs::write(path.with_extension("new"), "half").unwrap();
        assert!(copies.read().is_empty());
        let left: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["Z.damaged"]);
        let bad = content("a.example", "@ 60 SOA ns hm 7 60 30 100 4\na 60 CNAME b\na 60 A 10.0.0.1\n");
        assert!(decode(&encode("Z", &bad, at(1))).unwrap_err().contains("has a CNAME record and other records"));
        fs::remove_dir_all(directory).unwrap();
    }
}
