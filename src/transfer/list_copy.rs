//! Copies of large DNS Firewall lists in the state directory. Their records stay in the file.
//!
//! ```text
//! zones/<id>.copy   magic, time of the refresh u64, checksum of the time u32, head, checksum of the head u32, records
//! head              identifier, apex, TTL u32 and data of the SOA record, number of records u64, octets of records u64,
//!                   checksum of records u32
//! ```
//! The records are those of a [`RecordFile`]. A new version replaces the whole file.

use super::copies::{PARTS, Reader, StoredCopy, last_time, time};
use crate::{
    manifest::{Id, Record, record_file::RecordFile, transferred::Content},
    wire::rdata::rtype,
};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The first octets of a copy.
const MAGIC: &[u8; 16] = b"zonal list 1\n\0\0\0";

/// The maximum number of octets before the records.
const MAX_HEAD_OCTETS: u64 = 1 << 20;

/// Whether a file is a copy of a list.
pub fn is_one(file: &File) -> bool {
    let mut start = [0; MAGIC.len()];
    file.read_exact_at(&mut start, 0).is_ok() && start == *MAGIC
}

/// Writes a list whose records are in a file.
///
/// # Errors
///
/// If the file cannot be read, or the copy cannot be written.
pub fn write(
    out: &mut impl Write,
    id: &str,
    content: &Content,
    records: &RecordFile,
    refreshed: SystemTime,
) -> io::Result<()> {
    let (ttl, soa) = content.soa_record().ok_or_else(|| io::Error::other("the zone has no SOA record"))?;
    let mut head = (id.len() as u32).to_be_bytes().to_vec();
    head.extend_from_slice(id.as_bytes());
    head.push(content.zone.as_wire().len() as u8);
    head.extend_from_slice(content.zone.as_wire());
    head.extend_from_slice(&ttl.to_be_bytes());
    head.extend_from_slice(&(soa.len() as u16).to_be_bytes());
    head.extend_from_slice(soa);
    head.extend_from_slice(&(records.len() as u64).to_be_bytes());
    head.extend_from_slice(&records.octets().to_be_bytes());
    head.extend_from_slice(&records.checksum().to_be_bytes());
    out.write_all(MAGIC)?;
    out.write_all(&time(refreshed))?;
    out.write_all(&head)?;
    out.write_all(&crc32c::crc32c(&head).to_be_bytes())?;
    io::copy(&mut records.read(), out).map(|_| ())
}

/// Reads a copy.
///
/// # Errors
///
/// If it cannot be read, or is damaged.
pub fn read(file: File) -> Result<(Id, StoredCopy), String> {
    let text_of = |error: io::Error| error.to_string();
    let length = file.metadata().map_err(text_of)?.len();
    let mut start = vec![0; length.min(MAX_HEAD_OCTETS) as usize];
    file.read_exact_at(&mut start, 0).map_err(text_of)?;
    let mut reader = Reader(start.get(PARTS..).ok_or("it ends too early")?);
    let octets = reader.number(4)? as usize;
    let id = String::from_utf8(reader.octets(octets)?.to_vec()).map_err(|error| error.to_string())?;
    let zone = reader.name()?;
    let ttl = reader.number(4)? as u32;
    let octets = reader.number(2)? as usize;
    let rdata = reader.octets(octets)?.into();
    let (count, octets, checksum) = (reader.number(8)? as usize, reader.number(8)?, reader.number(4)? as u32);
    let head = PARTS..start.len() - reader.0.len();
    if reader.number(4)? != u64::from(crc32c::crc32c(&start[head.clone()])) {
        return Err("the checksum of its head is wrong".into());
    }
    let at = head.end as u64 + 4;
    if at.checked_add(octets) != Some(length) {
        return Err("it ends too early".into());
    }
    let records = RecordFile::new(file, at, octets, count, checksum);
    if !records.is_intact().map_err(text_of)? {
        return Err("its checksum is wrong".into());
    }
    let soa = Record { owner: zone.clone(), rtype: rtype::SOA, ttl, rdata, file: 0, line: 0 };
    let refreshed = UNIX_EPOCH + Duration::from_secs(last_time(&start, 0).min(u32::MAX.into()));
    Ok((id, StoredCopy { content: Arc::new(Content::in_file(zone, &soa, records)?), refreshed }))
}
