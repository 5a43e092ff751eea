//! Records of a transferred zone in a file, for a zone that is only read from start to end.
//!
//! The file has no name: the system frees it with the last descriptor. A record is its owner in lower case (length u8, octets),
//! type u16, TTL u32, and data (length u16, octets). Numbers are in network order.
//!
//! This module is not for zones that zonal answers from. Their records are in memory, as
//! [`Content`](super::transferred::Content).

use super::Record;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The size of the buffer whose records are written together, in octets.
const BUFFER_OCTETS: usize = 1 << 20;

/// A record in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRecord<'a> {
    /// The owner in wire format and lower case.
    pub owner: &'a [u8],
    /// The type.
    pub rtype: u16,
    /// The TTL in seconds.
    pub ttl: u32,
    /// The data.
    pub data: &'a [u8],
}

/// Records that are being written. Up to 1 MiB of them is in memory.
#[derive(Debug)]
pub struct RecordWriter {
    directory: PathBuf,
    buffer: Vec<u8>,
    file: Option<File>,
    records: usize,
    written: u64,
    checksum: u32,
}

impl RecordWriter {
    /// Creates a writer without a record. It makes its file in `directory`.
    pub fn new(directory: PathBuf) -> RecordWriter {
        RecordWriter { directory, buffer: Vec::new(), file: None, records: 0, written: 0, checksum: 0 }
    }

    /// The number of octets so far.
    pub fn octets(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a record to the buffer.
    pub fn add(&mut self, record: &Record) {
        let owner = record.owner.as_wire();
        self.buffer.push(owner.len() as u8);
        self.buffer.extend(owner.iter().map(u8::to_ascii_lowercase));
        self.buffer.extend_from_slice(&record.rtype.to_be_bytes());
        self.buffer.extend_from_slice(&record.ttl.to_be_bytes());
        self.buffer.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
        self.buffer.extend_from_slice(&record.rdata);
        self.records += 1;
    }

    /// Whether the buffer is full: [`RecordWriter::flush`] empties it.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_OCTETS
    }

    /// Writes the buffer to the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be created or written.
    pub fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unnamed_file(&self.directory)?),
        };
        file.write_all(&self.buffer)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest, and ends the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be created or written.
    pub fn finish(mut self) -> io::Result<RecordFile> {
        self.flush()?;
        let file = self.file.ok_or_else(|| io::Error::other("no file"))?;
        Ok(RecordFile { file, start: 0, octets: self.written, records: self.records, checksum: self.checksum })
    }

    /// Passes each record to `visit`, until it fails.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and those of `visit`.
    pub fn visit(&self, visit: &mut dyn FnMut(FileRecord) -> Result<(), String>) -> Result<(), String> {
        if let Some(file) = &self.file {
            each_record(Section { file, at: 0, end: self.written }, visit)?;
        }
        each_record(&self.buffer[..], visit)
    }
}

/// A file without a name.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(directory)?;
    // If a crash leaves a file with this extension, the next start removes the file.
    let name = format!("records-{}-{}.new", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let path = directory.join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Records in a file.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
    start: u64,
    octets: u64,
    records: usize,
    checksum: u32,
}

impl RecordFile {
    /// The records in a part of a file, which has been checked.
    pub fn new(file: File, start: u64, octets: u64, records: usize, checksum: u32) -> RecordFile {
        RecordFile { file, start, octets, records, checksum }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The number of octets of the records.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The CRC-32C of the octets of the records.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Reads the octets of the records.
    pub fn read(&self) -> impl Read + '_ {
        Section { file: &self.file, at: self.start, end: self.start + self.octets }
    }

    /// Whether the octets have the checksum.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn is_intact(&self) -> io::Result<bool> {
        let (mut input, mut buffer, mut sum) = (self.read(), vec![0; BUFFER_OCTETS], 0);
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(sum == self.checksum),
                len => sum = crc32c::crc32c_append(sum, &buffer[..len]),
            }
        }
    }

    /// Passes each record to `visit`, until it fails.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and those of `visit`.
    pub fn visit(&self, visit: &mut dyn FnMut(FileRecord) -> Result<(), String>) -> Result<(), String> {
        each_record(self.read(), visit)
    }
}

/// A part of a file. Several threads can read a file at the same time.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..len], self.at)?;
        if read == 0 && len > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

fn each_record(input: impl Read, visit: &mut dyn FnMut(FileRecord) -> Result<(), String>) -> Result<(), String> {
    let text_of = |error: io::Error| format!("the records cannot be read: {error}");
    let mut input = BufReader::with_capacity(BUFFER_OCTETS / 4, input);
    let (mut owner, mut data) = (Vec::new(), Vec::new());
    let mut length = [0; 1];
    while input.read(&mut length).map_err(text_of)? == 1 {
        owner.resize(length[0].into(), 0);
        input.read_exact(&mut owner).map_err(text_of)?;
        let mut head = [0; 8];
        input.read_exact(&mut head).map_err(text_of)?;
        let [a, b, ttl @ .., c, d] = head;
        data.resize(u16::from_be_bytes([c, d]).into(), 0);
        input.read_exact(&mut data).map_err(text_of)?;
        let (rtype, ttl) = (u16::from_be_bytes([a, b]), u32::from_be_bytes(ttl));
        visit(FileRecord { owner: &owner, rtype, ttl, data: &data })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, rdata::rtype};

    #[test]
    fn records_are_read_as_they_were_written() {
        let directory = std::env::temp_dir().join(format!("zonal-records-{}", std::process::id()));
        let mut writer = RecordWriter::new(directory.clone());
        let mut expected = Vec::new();
        for n in 0..1000u32 {
            let owner = Name::absolute(&format!("N{n}.Rpz.Example")).unwrap();
            let rdata = vec![n as u8; (n % 300) as usize].into();
            writer.add(&Record { owner: owner.clone(), rtype: rtype::TXT, ttl: n, rdata, file: 0, line: 0 });
            expected.push((owner.to_lowercase().as_wire().to_vec(), n, (n % 300) as usize));
            if n % 100 == 50 {
                writer.flush().unwrap();
            }
        }
        let add = |read: &mut Vec<_>, record: FileRecord| {
            assert_eq!(record.rtype, rtype::TXT);
            assert!(record.data.iter().all(|octet| *octet == record.ttl as u8));
            read.push((record.owner.to_vec(), record.ttl, record.data.len()));
            Ok(())
        };
        let (mut of_writer, mut of_file) = (Vec::new(), Vec::new());
        writer.visit(&mut |record| add(&mut of_writer, record)).unwrap();
        assert_eq!(of_writer, expected);
        let octets = writer.octets();
        let mut file = writer.finish().unwrap();
        file.visit(&mut |record| add(&mut of_file, record)).unwrap();
        assert_eq!(of_file, expected);
        assert_eq!((file.len(), file.octets(), file.is_intact().unwrap()), (1000, octets, true));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "the file has no name");
        file.file.write_at(b"x", 5).unwrap();
        assert!(!file.is_intact().unwrap());
        file.octets += 1;
        assert!(file.visit(&mut |_| Ok(())).is_err());
        fs::remove_dir(&directory).unwrap();
    }
}
