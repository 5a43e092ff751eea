//! Reads the answer of a primary to a request for a transfer, record by record (RFC 5936, section
//! 2.2; RFC 1995, section 4).

use crate::{
    manifest::{
        Record,
        record_file::RecordWriter,
        transferred::{Content, RECORD_OCTETS, Soa},
    },
    wire::{
        Name,
        codes::class,
        rdata::{self, rtype, type_to_text},
        response,
    },
};

/// The longest TTL, in seconds. A longer one counts as 0 (RFC 2181, section 8).
const MAX_TTL: u32 = i32::MAX as u32;

/// The result of a transfer.
#[derive(Debug)]
pub enum Transferred {
    /// The primary has no newer version.
    Current,
    /// The whole zone.
    Whole(Content),
    /// The whole zone of a list.
    List(ListRecords),
    /// The differences, applied to the former version.
    Changed(Content),
}

/// The records of a list. A small list becomes a [`Content`] in memory, and a large list a [`Content`] in a file.
#[derive(Debug)]
pub struct ListRecords {
    soa: Record,
    writer: RecordWriter,
    /// The octets that they need in memory.
    octets: usize,
}

impl ListRecords {
    /// The zone with this apex. Its records are in memory if they need at most `max_octets` there.
    ///
    /// # Errors
    ///
    /// If the file cannot be written or read, or a record does not fit into the zone.
    pub fn content(self, zone: &Name, max_octets: usize) -> Result<Content, String> {
        if self.octets > max_octets {
            let file = self.writer.finish().map_err(|error| format!("its records cannot be written: {error}"))?;
            return Content::in_file(zone.clone(), &self.soa, file);
        }
        let mut content = Content::of(zone.clone(), [&self.soa])?;
        self.writer.visit(&mut |record| {
            let owner = Name::from_wire(record.owner).map_err(|error| error.to_string())?;
            let rdata = record.data.into();
            content.add(&Record { owner, rtype: record.rtype, ttl: record.ttl, rdata, file: 0, line: 0 })
        })?;
        Ok(content)
    }
}

/// The limits of the records of a transfer.
#[derive(Debug)]
pub struct RecordLimits {
    /// The maximum number of records.
    pub records: usize,
    /// The maximum number of octets of the records in memory.
    pub octets: usize,
    /// For a list: the writer of the records of a whole zone, and the maximum number of octets that it takes.
    pub list: Option<(RecordWriter, u64)>,
}

impl RecordLimits {
    /// The limits for a zone.
    pub fn new(records: usize, octets: usize) -> RecordLimits {
        RecordLimits { records, octets, list: None }
    }
}

/// Reads the records of an answer.
pub struct Reader<'a> {
    zone: &'a Name,
    /// The version that an IXFR request names.
    old: Option<&'a Content>,
    max: RecordLimits,
    count: usize,
    octets: usize,
    state: State,
}

enum State {
    /// Before the first record.
    Start,
    /// After the first SOA record.
    First(Record),
    /// Within the whole zone.
    Whole { first: Record, content: Content },
    /// Within the whole zone of a list, whose records go to the writer of the limits.
    List { first: Record },
    /// Within the deleted records of a difference, which are removed from `content` at once. `last`
    /// is the SOA record of the newest version.
    Deleted { last: Record, content: Content },
    /// Within the added records of a difference to serial `to`.
    Added { last: Record, content: Content, to: u32 },
    /// After the last record.
    Done,
}

impl<'a> Reader<'a> {
    /// A reader of an answer to AXFR, or, with `old`, to IXFR.
    pub fn new(zone: &'a Name, old: Option<&'a Content>, max: RecordLimits) -> Reader<'a> {
        Reader { zone, old, max, count: 0, octets: 0, state: State::Start }
    }

    /// The number of records so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads a record. Returns the result with the last record.
    ///
    /// # Errors
    ///
    /// Why the answer is wrong.
    pub fn push(&mut self, record: response::Record) -> Result<Option<Transferred>, String> {
        // A name that is compressed in the message has its whole length in memory.
        self.count += 1;
        self.octets += RECORD_OCTETS + record.owner.len() + record.rdata.len();
        let RecordLimits { records, octets, .. } = self.max;
        if self.count > records {
            return Err(format!("the transfer has more than {records} records"));
        }
        let is_for_file = matches!(self.state, State::Start | State::First(_) | State::List { .. });
        if self.octets > octets && !(is_for_file && self.max.list.is_some()) {
            return Err(format!(
                "the records of the transfer take more than {octets} octets: raise limits.transfer_octets"
            ));
        }
        let record = self.check(record)?;
        let soa = match record.rtype {
            rtype::SOA if record.owner != *self.zone => {
                return Err(format!("{} SOA is not that of the zone", record.owner));
            }
            rtype::SOA => Some(Soa::read(&record.rdata).ok_or("the SOA record is malformed")?),
            _ => None,
        };
        let state = std::mem::replace(&mut self.state, State::Done);
        let serial_of = |record: &Record| Soa::read(&record.rdata).map(|soa| soa.serial);
        self.state = match (state, soa) {
            (State::Start, Some(_)) => State::First(record),
            (State::Start, None) => return Err("the transfer does not begin with the SOA record".into()),
            (State::First(first), Some(soa)) => match self.old {
                Some(old) if soa.serial == old.soa.serial && serial_of(&first) != Some(soa.serial) => {
                    State::Deleted { last: first, content: old.clone() }
                }
                _ if first.rdata == record.rdata => {
                    return Content::of(self.zone.clone(), [&first]).map(Transferred::Whole).map(Some);
                }
                _ => {
                    return Err(format!(
                        "the transfer begins with serial {:?}, then {}",
                        serial_of(&first),
                        soa.serial
                    ));
                }
            },
            (State::First(first), None) if self.max.list.is_some() => {
                self.keep(&record)?;
                State::List { first }
            }
            (State::List { first }, None) => {
                self.keep(&record)?;
                State::List { first }
            }
            (State::List { first }, Some(_)) if first.rdata == record.rdata => {
                let (writer, _) = self.max.list.take().ok_or("no list")?;
                return Ok(Some(Transferred::List(ListRecords { soa: first, writer, octets: self.octets })));
            }
            (State::First(first), None) => {
                let content = Content::of(self.zone.clone(), [&first, &record])?;
                State::Whole { first, content }
            }
            (State::Whole { first, content }, Some(_)) if first.rdata == record.rdata => {
                return Ok(Some(Transferred::Whole(content)));
            }
            (State::Whole { .. } | State::List { .. }, Some(_)) => {
                return Err("the last SOA record is another one than the first".into());
            }
            (State::Whole { first, mut content }, None) => {
                content.add(&record)?;
                State::Whole { first, content }
            }
            (State::Deleted { last, content }, Some(soa)) => State::Added { last, content, to: soa.serial },
            (State::Deleted { last, mut content }, None) => {
                if !content.remove(&record) {
                    let what = type_to_text(record.rtype);
                    return Err(format!("a difference deletes {} {what}, which does not exist", record.owner));
                }
                State::Deleted { last, content }
            }
            (State::Added { last, content, to }, Some(soa)) if serial_of(&last) == Some(to) && soa.serial == to => {
                return self.changed(content, &last).map(Some);
            }
            (State::Added { last, content, to }, Some(soa)) if soa.serial == to => State::Deleted { last, content },
            (State::Added { to, .. }, Some(soa)) => {
                return Err(format!("a difference leads to serial {to}, and the next one from {}", soa.serial));
            }
            (State::Added { last, mut content, to }, None) => {
                content.add(&record)?;
                State::Added { last, content, to }
            }
            (State::Done, _) => return Err("there are records after the last one".into()),
        };
        Ok(None)
    }

    /// Gives a record of a list to the writer.
    fn keep(&mut self, record: &Record) -> Result<(), String> {
        let (writer, max) = self.max.list.as_mut().ok_or("no list")?;
        writer.add(record);
        match writer.octets() > *max {
            true => {
                Err(format!("the records of the list take more than {max} octets: raise limits.list_transfer_octets"))
            }
            false => Ok(()),
        }
    }

    /// The writer of a list, if its buffer is full.
    pub fn full_writer(&mut self) -> Option<&mut RecordWriter> {
        self.max.list.as_mut().map(|(writer, _)| writer).filter(|writer| writer.is_full())
    }

    /// Whether the answer is only the SOA record of the former version.
    pub fn is_current(&self) -> bool {
        match (&self.state, self.old) {
            (State::First(first), Some(old)) => Soa::read(&first.rdata).is_some_and(|soa| soa.serial == old.soa.serial),
            _ => false,
        }
    }

    /// The former version with all differences. The limits are those of a whole zone.
    fn changed(&self, mut content: Content, last: &Record) -> Result<Transferred, String> {
        content.add(last)?;
        let RecordLimits { records, octets, .. } = self.max;
        if content.len() > records {
            return Err(format!("the zone would have more than {records} records"));
        }
        if content.octets() > octets {
            return Err(format!(
                "the records of the zone would take more than {octets} octets: raise limits.transfer_octets"
            ));
        }
        Ok(Transferred::Changed(content))
    }

    fn check(&self, record: response::Record) -> Result<Record, String> {
        let response::Record { owner, rtype, class, ttl, rdata } = record;
        let owner = Name::from_wire(&owner).map_err(|error| error.to_string())?;
        let what = || format!("{owner} {}", type_to_text(rtype));
        if class != class::IN {
            return Err(format!("{} is of class {class}", what()));
        }
        if matches!(rtype, 0 | rtype::OPT | 128..=255) {
            return Err(format!("{} is no data", what()));
        }
        if !owner.is_at_or_below(self.zone) {
            return Err(format!("{} is outside of the zone", what()));
        }
        if !rdata::check(rtype, &rdata) {
            return Err(format!("{} is malformed", what()));
        }
        let ttl = if ttl > MAX_TTL { 0 } else { ttl };
        Ok(Record { owner, rtype, ttl, rdata: rdata.into(), file: 0, line: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::transferred::tests::content;

    fn zone() -> Name {
        Name::absolute("a.example").unwrap()
    }

    /// The records of a text. It may have several SOA records.
    fn records(text: &str) -> Vec<response::Record> {
        let line = |line: &str| {
            let fields: Vec<&str> = line.splitn(3, ' ').collect();
            let rtype = rdata::type_from_text(fields[1]).unwrap();
            let rdata = rdata::parse_text(rtype, fields[2], &zone()).unwrap().into();
            let owner = Name::parse(fields[0].as_bytes(), Some(&zone())).unwrap().as_wire().to_vec();
            response::Record { owner, rtype, class: 1, ttl: 60, rdata }
        };
        let text = text.replace("SOA ", "@ SOA ns hm ").replace(';', "\n");
        let short = |line: &str| match line.split(' ').count() {
            5 if line.contains("SOA") => format!("{line} 1 2 3 4"),
            _ => line.to_string(),
        };
        text.lines().map(|text| line(&short(text.trim()))).collect()
    }

    fn read(text: &str, old: Option<&Content>) -> Result<Option<Transferred>, String> {
        let zone = zone();
        let mut reader = Reader::new(&zone, old, RecordLimits::new(8, 10_000));
        let mut result = Ok(None);
        for record in records(text) {
            result = reader.push(record);
            if result.is_err() {
                break;
            }
        }
        match (result, reader.is_current()) {
            (Ok(None), true) => Ok(Some(Transferred::Current)),
            (result, _) => result,
        }
    }

    #[test]
    fn reads_whole_zones_and_differences() {
        let old = content("a.example", "@ 60 SOA ns hm 1 1 2 3 4\n@ 60 NS ns\nwww 60 A 10.0.0.1\n");
        let serial = |result: Result<Option<Transferred>, String>| match result {
            Ok(None) => "more".into(),
            Ok(Some(Transferred::Current)) => "current".into(),
            Ok(Some(Transferred::Whole(content))) => {
                format!("whole {} {}", content.soa.serial, content.len())
            }
            Ok(Some(Transferred::List(list))) => panic!("{list:?}"),
            Ok(Some(Transferred::Changed(content))) => {
                format!("changed {} {}", content.soa.serial, content.len())
            }
            Err(error) => error,
        };
        for (text, with_old, expected) in [
            ("SOA 5;@ NS ns;www A 10.0.0.1;SOA 5", false, "whole 5 3"),
            ("SOA 5;@ NS ns;www A 10.0.0.1;SOA 5", true, "whole 5 3"),
            ("SOA 5;SOA 5", false, "whole 5 1"),
            ("SOA 5;@ NS ns", false, "more"),
            ("SOA 5", true, "more"),
            ("SOA 1", true, "current"),
            ("SOA 5;@ NS ns;SOA 6", false, "the last SOA record is another one than the first"),
            ("@ NS ns", false, "the transfer does not begin with the SOA record"),
            ("SOA 5;@ NS ns;SOA 5;@ NS ns", false, "there are records after the last one"),
            ("SOA 2;SOA 1;www A 10.0.0.1;SOA 2;www A 10.0.0.2;SOA 2", true, "changed 2 3"),
            ("SOA 2;SOA 1;SOA 2;www A 10.0.0.2;SOA 2", true, "changed 2 4"),
            ("SOA 3;SOA 1;www A 10.0.0.1;SOA 2;SOA 2;SOA 3;b A 10.0.0.3;SOA 3", true, "changed 3 3"),
            ("SOA 3;SOA 1;SOA 2;b A 10.0.0.3", true, "more"),
            ("SOA 3;SOA 1;SOA 2;SOA 9", true, "a difference leads to serial 2, and the next one from 9"),
            ("SOA 3;SOA 2", true, "the transfer begins with serial Some(3), then 2"),
            ("SOA 3;SOA 1", false, "the transfer begins with serial Some(3), then 1"),
            (
                "SOA 2;SOA 1;no A 10.0.0.1;SOA 2;SOA 2",
                true,
                "a difference deletes no.a.example. A, which does not exist",
            ),
            ("SOA 5;www.example. A 10.0.0.1", false, "www.example. A is outside of the zone"),
            (
                "SOA 5;a A 10.0.0.1;b A 10.0.0.1;c A 10.0.0.1;d A 10.0.0.1;e A 10.0.0.1;f A 10.0.0.1;g A 10.0.0.1;h A 10.0.0.1",
                false,
                "the transfer has more than 8 records",
            ),
        ] {
            assert_eq!(serial(read(text, with_old.then_some(&old))), expected, "{text}");
        }
    }

    #[test]
    fn refuses_invalid_records() {
        let soa = records("SOA 5").remove(0);
        let a = records("www A 10.0.0.1").remove(0);
        let below = response::Record { owner: b"\x01b\x01a\x07example\0".to_vec(), ..soa.clone() };
        for (record, message) in [
            (response::Record { class: 3, ..a.clone() }, "www.a.example. A is of class 3"),
            (response::Record { rtype: 252, ..a.clone() }, "www.a.example. AXFR is no data"),
            (response::Record { rdata: vec![1, 2, 3], ..a.clone() }, "www.a.example. A is malformed"),
            (below, "b.a.example. SOA is not that of the zone"),
        ] {
            let zone = zone();
            let mut reader = Reader::new(&zone, None, RecordLimits::new(8, 10_000));
            reader.push(soa.clone()).unwrap();
            assert_eq!(reader.push(record).unwrap_err(), message);
        }
        let zone = zone();
        let mut reader = Reader::new(&zone, None, RecordLimits::new(8, 10_000));
        reader.push(soa.clone()).unwrap();
        reader.push(response::Record { ttl: u32::MAX, ..a }).unwrap();
        let Ok(Some(Transferred::Whole(content))) = reader.push(soa) else { panic!("no zone") };
        let (_, _, values) = content.sets().last().unwrap();
        assert_eq!(values.iter().next().unwrap().0, 0);
        assert_eq!(reader.count(), 3);
    }

    /// Compressed names count with their whole length.
    #[test]
    fn limits_the_memory_of_records() {
        let (zone, all) = (zone(), records("SOA 5;www A 10.0.0.1;x A 10.0.0.1"));
        let size = |record: &response::Record| RECORD_OCTETS + record.owner.len() + record.rdata.len();
        let most = all.iter().map(size).sum::<usize>();
        for (octets, expected) in [
            (most, None),
            (most - 1, Some(format!("take more than {} octets: raise limits.transfer_octets", most - 1))),
        ] {
            let mut reader = Reader::new(&zone, None, RecordLimits::new(8, octets));
            let read = all.iter().try_for_each(|record| reader.push(record.clone()).map(|_| ()));
            match expected {
                None => assert_eq!(read, Ok(())),
                Some(expected) => assert!(read.as_ref().is_err_and(|error| error.ends_with(&expected)), "{read:?}"),
            }
        }
    }

    /// A list beyond the limit of memory goes to a file, up to a limit of its own.
    #[test]
    fn records_of_large_lists_go_to_a_file() {
        let (zone, all) = (zone(), records("SOA 5;www A 10.0.0.1;www TXT x;SOA 5"));
        for (in_memory, in_file, expected) in [
            (10_000, 10_000, Ok(3)),
            (100, 10_000, Ok(1)),
            (
                100,
                50,
                Err("the records of the list take more than 50 octets: raise limits.list_transfer_octets".into()),
            ),
        ] {
            let list = Some((RecordWriter::new(std::env::temp_dir()), in_file));
            let mut reader = Reader::new(&zone, None, RecordLimits { list, ..RecordLimits::new(8, in_memory) });
            let read = all.iter().try_fold(None, |_, record| reader.push(record.clone()));
            let content = read.and_then(|read| match read {
                Some(Transferred::List(list)) => list.content(&zone, in_memory),
                other => panic!("{other:?}"),
            });
            assert_eq!(content.as_ref().map(Content::len).map_err(String::clone), expected);
            let Ok(content) = content else { continue };
            assert_eq!(
                (content.soa.serial, content.file().map(|file| file.len())),
                (5, (in_memory == 100).then_some(2))
            );
        }
    }
}
