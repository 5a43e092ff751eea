//! Copies of transferred zones in the state directory, for a start without their primaries.
//!
//! ```text
//! zones/<id>.copy   magic, time of the refresh u64, checksum of the time u32, then parts part
//! length of the body u64, body, digest of all records 32, checksum of length, body and digest u32
//! body              time of the refresh u64; in the first part the identifier and the apex; then
//! record sets record set        owner, type u16, length u32, then TTL u32 and data of each record;
//! without records: the set is removed
//! ```
//! Texts, names and data follow their lengths. The first part is a whole zone. Each later part has
//! the record sets that one transfer has changed, so that the cost of an incremental transfer is
//! that of its changes. When the later parts have become longer than the first one, the whole zone
//! is written to a new file, which replaces the old one when it is complete and on the disk. A
//! refresh without a newer version writes only the time.
//!
//! Invariant: the digest at the end names the version of the copy, and a change is appended to that
//! version only. A part that is damaged or incomplete is cut off, so that the last good version
//! remains.
//!
//! `list_copy` has another format, for large DNS Firewall lists.

use super::list_copy;
use crate::{
    clock::seconds,
    manifest::{
        Id, PrivateHostedZone, Record,
        transferred::{ChangedSet, Content, ZoneCopy},
    },
    snapshot::zone,
    wire::Name,
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The first octets of a copy.
const MAGIC: &[u8; 16] = b"zonal zone 2\n\0\0\0";
/// The first octets of copies of the first builds.
const FIRST_MAGIC: &[u8; 16] = b"zonal zone 1\n\0\0\0";
/// The offset of the time and its checksum.
const TIME: usize = MAGIC.len();
/// The offset of the first part.
pub(super) const PARTS: usize = TIME + 12;
/// The number of octets of the length, the digest and the checksum of a part.
const LENGTH: usize = 8;
const DIGEST: usize = 32;
const SUM: usize = 4;
/// The maximum size of the changes after a small zone, in octets. After a larger zone, they may be
/// as large as the zone.
const MIN_CHANGES_OCTETS: u64 = 64 << 10;
/// The maximum length of a file name without its extension. A longer name is replaced by a hash.
const MAX_NAME_OCTETS: usize = 200;

/// The directory of the copies; none without a state directory.
#[derive(Clone, Debug, Default)]
pub struct Copies(Option<PathBuf>);

/// A copy of a zone.
#[derive(Debug)]
pub struct StoredCopy {
    /// Its records.
    pub content: Arc<Content>,
    /// When a primary last confirmed the version.
    pub refreshed: SystemTime,
}

impl StoredCopy {
    /// The zone as it is served at a time.
    pub fn zone_copy(&self, now: SystemTime) -> ZoneCopy {
        let age = now.duration_since(self.refreshed).unwrap_or_default();
        ZoneCopy { content: self.content.clone(), is_expired: age >= super::timers::expire(&self.content.soa) }
    }
}

impl Copies {
    /// The copies in a state directory.
    pub fn new(state_directory: Option<&Path>) -> Copies {
        Copies(state_directory.map(|directory| directory.join("zones")))
    }

    /// The directory.
    pub fn directory(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Reads all copies. A damaged copy is logged and renamed. If only its last changes are
    /// damaged, they are cut off.
    pub fn read(&self) -> BTreeMap<Id, StoredCopy> {
        let mut copies = BTreeMap::new();
        let Some(directory) = &self.0 else { return copies };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return copies,
            Err(error) => {
                tracing::error!(path = %directory.display(), %error, "zone copies not read");
                return copies;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("copy") => {}
                // The rest of an interrupted write.
                Some("new") => {
                    let _ = fs::remove_file(path);
                    continue;
                }
                _ => continue,
            }
            match read(&path) {
                Ok((id, copy)) => drop(copies.insert(id, copy)),
                Err(error) => {
                    let aside = path.with_extension("damaged");
                    tracing::error!(path = %path.display(), error, "zone copy damaged");
                    let _ = fs::rename(&path, aside);
                }
            }
        }
        copies
    }

    /// Writes a copy. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The former copy is still there then.
    pub fn write(&self, id: &str, content: &Content, refreshed: SystemTime) -> io::Result<()> {
        let (Some(directory), Some(path)) = (&self.0, self.path(id)) else { return Ok(()) };
        fs::create_dir_all(directory)?;
        let draft = path.with_extension("new");
        let written = (|| {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            let mut out = BufWriter::new(file);
            match content.file() {
                Some(records) => list_copy::write(&mut out, id, content, records, refreshed)?,
                None => write_whole(&mut out, id, content, refreshed)?,
            }
            out.into_inner()?.sync_all()?;
            fs::rename(&draft, &path)
        })();
        if written.is_err() {
            // If the disk is full, other files need the space of the draft.
            let _ = fs::remove_file(&draft);
        }
        written?;
        File::open(directory)?.sync_all()
    }

    /// Appends the changes from `old` to `new`, if the copy has `old`; else writes the whole zone.
    /// They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_changes(&self, id: &str, old: &Content, new: &Content, refreshed: SystemTime) -> io::Result<()> {
        match self.append(id, old, new, refreshed)? {
            true => Ok(()),
            false => self.write(id, new, refreshed),
        }
    }

    /// Appends changes to a copy. Returns false if it is a copy of another version, or has too many
    /// changes.
    fn append(&self, id: &str, old: &Content, new: &Content, refreshed: SystemTime) -> io::Result<bool> {
        let Some(path) = self.path(id) else { return Ok(true) };
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        // A former task may still write it, and a process that takes over may read it.
        file.lock()?;
        let end = file.metadata()?.len();
        let (mut head, mut digest) = ([0; PARTS + LENGTH], [0; DIGEST]);
        if end < (head.len() + DIGEST + SUM) as u64 {
            return Ok(false);
        }
        file.read_exact_at(&mut head, 0)?;
        file.read_exact_at(&mut digest, end - (DIGEST + SUM) as u64)?;
        if !head.starts_with(MAGIC) || digest != old.digest() {
            return Ok(false);
        }
        let whole = number(&head[PARTS..]);
        let changes = end.saturating_sub((PARTS + LENGTH + DIGEST + SUM) as u64).saturating_sub(whole);
        let mut part = Vec::new();
        let changed: Vec<ChangedSet> = old.changed(new).collect();
        write_part(&mut part, &seconds(refreshed).to_be_bytes(), || changed.iter().cloned(), new)?;
        if changes + part.len() as u64 > MIN_CHANGES_OCTETS.max(whole) {
            return Ok(false);
        }
        file.write_all_at(&part, end)?;
        file.sync_data()?;
        Ok(true)
    }

    /// Writes the time of a refresh into the copy of a zone.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or does not exist.
    pub fn touch(&self, id: &str, refreshed: SystemTime) -> io::Result<()> {
        let Some(path) = self.path(id) else { return Ok(()) };
        OpenOptions::new().write(true).open(path)?.write_all_at(&time(refreshed), TIME as u64)
    }

    /// Removes the copy of a zone.
    pub fn remove(&self, id: &str) {
        let Some(path) = self.path(id) else { return };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "zone copy not removed");
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
        if name.len() > MAX_NAME_OCTETS {
            name = format!("%{}", HEXLOWER.encode(&Sha256::digest(id)));
        }
        self.0.as_ref().map(|directory| directory.join(format!("{name}.copy")))
    }
}

/// The time of a refresh, and its checksum.
pub(super) fn time(refreshed: SystemTime) -> [u8; 12] {
    let mut octets = [0; 12];
    octets[..8].copy_from_slice(&seconds(refreshed).to_be_bytes());
    let sum = crc32c::crc32c(&octets[..8]);
    octets[8..].copy_from_slice(&sum.to_be_bytes());
    octets
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn write_whole(out: &mut impl Write, id: &str, content: &Content, refreshed: SystemTime) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&time(refreshed))?;
    let mut front = seconds(refreshed).to_be_bytes().to_vec();
    front.extend_from_slice(&(id.len() as u32).to_be_bytes());
    front.extend_from_slice(id.as_bytes());
    front.push(content.zone.as_wire().len() as u8);
    front.extend_from_slice(content.zone.as_wire());
    let set = |(owner, rtype, values)| ChangedSet { owner, rtype, values: Some(values) };
    write_part(out, &front, || content.sets().map(set), content)
}

/// Writes a part: `front`, the record sets, and the digest of `content`, the zone with this part.
fn write_part<'a, S: Iterator<Item = ChangedSet<'a>>>(
    out: &mut impl Write,
    front: &[u8],
    sets: impl Fn() -> S,
    content: &Content,
) -> io::Result<()> {
    let size = |set: &ChangedSet| 1 + set.owner.as_wire().len() + 2 + 4 + set.octets().len();
    let length = front.len() + sets().map(|set| size(&set)).sum::<usize>();
    let mut sum = 0;
    let mut write = |octets: &[u8]| {
        sum = crc32c::crc32c_append(sum, octets);
        out.write_all(octets)
    };
    write(&(length as u64).to_be_bytes())?;
    write(front)?;
    for set in sets() {
        write(&[set.owner.as_wire().len() as u8])?;
        write(set.owner.as_wire())?;
        write(&set.rtype.to_be_bytes())?;
        write(&(set.octets().len() as u32).to_be_bytes())?;
        write(set.octets())?;
    }
    write(&content.digest())?;
    out.write_all(&sum.to_be_bytes())
}

/// Reads a copy, and cuts off damaged changes.
fn read(path: &Path) -> Result<(Id, StoredCopy), String> {
    let mut octets = Vec::new();
    let text_of = |error: io::Error| error.to_string();
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(text_of)?;
    file.lock().map_err(text_of)?;
    if list_copy::is_one(&file) {
        return list_copy::read(file);
    }
    file.read_to_end(&mut octets).map_err(text_of)?;
    let Decoded { id, copy, damage } = decode(&octets)?;
    if let Some((good, why)) = damage {
        let (zone, serial) = (&copy.content.zone, copy.content.soa.serial);
        tracing::error!(zone = id, name = %zone, serial, path = %path.display(), error = why, "changes of zone copy damaged");
        // This may fail: no change is appended to a copy with another digest at its end.
        let _ = file.set_len(good as u64);
    }
    Ok((id, copy))
}

/// The content of a copy.
struct Decoded {
    id: Id,
    copy: StoredCopy,
    /// The number of octets before the damage, and the kind of damage.
    damage: Option<(usize, String)>,
}

impl Decoded {
    fn new(id: Id, content: Content, refreshed: u64, damage: Option<(usize, String)>) -> Result<Decoded, String> {
        let content = Arc::new(content);
        check(&id, &content)?;
        let refreshed = UNIX_EPOCH + Duration::from_secs(refreshed.min(u32::MAX.into()));
        Ok(Decoded { id, copy: StoredCopy { content, refreshed }, damage })
    }
}

fn decode(octets: &[u8]) -> Result<Decoded, String> {
    if octets.starts_with(FIRST_MAGIC) {
        return decode_first(octets);
    }
    if !octets.starts_with(MAGIC) || octets.len() < PARTS {
        return Err("it has another format".into());
    }
    let mut reader = Reader(&octets[PARTS..]);
    let (mut body, digest) = part(&mut reader)?;
    let mut refreshed = body.number(8)?;
    let length = body.number(4)? as usize;
    let id = String::from_utf8(body.octets(length)?.to_vec()).map_err(|error| error.to_string())?;
    let zone = body.name()?;
    let mut content = with(&Content::new(zone), &mut body, digest)?;
    let mut damage = None;
    while !reader.0.is_empty() {
        let good = octets.len() - reader.0.len();
        let change = part(&mut reader).and_then(|(mut body, digest)| {
            let refreshed = body.number(8)?;
            with(&content, &mut body, digest).map(|content| (content, refreshed))
        });
        match change {
            Ok(change) => (content, refreshed) = change,
            Err(why) => {
                damage = Some((good, why));
                break;
            }
        }
    }
    // The last refresh may have been of a version that is lost.
    let refreshed = if damage.is_none() { last_time(octets, refreshed) } else { refreshed };
    Decoded::new(id, content, refreshed, damage)
}

/// The time of the last refresh: the one in the head of the copy, or `written` if that is damaged
/// or older.
pub(super) fn last_time(octets: &[u8], written: u64) -> u64 {
    let (time, sum) = octets[TIME..PARTS].split_at(8);
    let is_good = crc32c::crc32c(time).to_be_bytes() == sum;
    if is_good { written.max(number(time)) } else { written }
}

/// Reads a copy of the first builds: after the time, the checksum of the rest u32; then the time of
/// the refresh u64, identifier, apex, number of records u64, and each record.
fn decode_first(octets: &[u8]) -> Result<Decoded, String> {
    let (sum, rest) = octets.get(PARTS..).and_then(|rest| rest.split_at_checked(SUM)).ok_or("it ends too early")?;
    if crc32c::crc32c(rest).to_be_bytes() != sum {
        return Err("its checksum is wrong".into());
    }
    let mut reader = Reader(rest);
    let written = reader.number(8)?;
    let length = reader.number(4)? as usize;
    let id = String::from_utf8(reader.octets(length)?.to_vec()).map_err(|error| error.to_string())?;
    let mut content = Content::new(reader.name()?);
    for _ in 0..reader.number(8)? {
        let owner = reader.name()?;
        let (rtype, ttl) = (reader.number(2)? as u16, reader.number(4)? as u32);
        let length = reader.number(2)? as usize;
        content.add(&Record { owner, rtype, ttl, rdata: reader.octets(length)?.into(), file: 0, line: 0 })?;
    }
    Decoded::new(id, content.checked()?, last_time(octets, written), None)
}

/// The body of the next part, and the digest of the zone with this part.
fn part<'a>(reader: &mut Reader<'a>) -> Result<(Reader<'a>, &'a [u8]), String> {
    let all = reader.0;
    let length = usize::try_from(reader.number(LENGTH)?).map_err(|error| error.to_string())?;
    let (body, digest) = (reader.octets(length)?, reader.octets(DIGEST)?);
    let summed = &all[..LENGTH + length + DIGEST];
    if reader.octets(SUM)? != crc32c::crc32c(summed).to_be_bytes() {
        return Err("its checksum is wrong".into());
    }
    Ok((Reader(body), digest))
}

/// A zone with changed record sets.
///
/// # Errors
///
/// The sets cannot be read, or the digest is another one.
fn with(content: &Content, sets: &mut Reader, digest: &[u8]) -> Result<Content, String> {
    let mut content = content.clone();
    while !sets.0.is_empty() {
        let (owner, rtype) = (sets.name()?, sets.number(2)? as u16);
        content.remove_set(&owner, rtype);
        let length = sets.number(4)? as usize;
        let mut records = Reader(sets.octets(length)?);
        while !records.0.is_empty() {
            let ttl = records.number(4)? as u32;
            let length = records.number(2)? as usize;
            let (owner, rdata) = (owner.clone(), records.octets(length)?.into());
            content.add(&Record { owner, rtype, ttl, rdata, file: 0, line: 0 })?;
        }
    }
    match content.digest() == digest {
        true => content.checked(),
        false => Err("it does not continue the version before it".into()),
    }
}

/// Checks a zone: another version of zonal may have accepted records that this one does not.
fn check(id: &Id, content: &Arc<Content>) -> Result<(), String> {
    let source = Arc::new(PrivateHostedZone::empty(content.zone.clone()));
    let mut problems = Vec::new();
    let job = zone::Job { content: Some(content), ..zone::Job::new(id, &source) };
    match zone::build(job, &mut problems) {
        Some(_) => Ok(()),
        None => {
            Err(problems.into_iter().find(|problem| problem.is_error()).map_or("?".into(), |problem| problem.message))
        }
    }
}

/// Reads octets from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn octets(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (octets, rest) = self.0.split_at_checked(length).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(octets)
    }

    pub(super) fn number(&mut self, length: usize) -> Result<u64, String> {
        self.octets(length).map(number)
    }

    pub(super) fn name(&mut self) -> Result<Name, String> {
        let length = self.number(1)? as usize;
        Name::from_wire(self.octets(length)?).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
