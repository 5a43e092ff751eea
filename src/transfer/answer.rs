//! Reads the answer of a primary to a request for a transfer, record by record (RFC 5936, section
//! 2.2; RFC 1995, section 4).

use crate::{
    manifest::{
        Record,
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
    /// The differences, applied to the former version.
    Changed(Content),
}

/// Reads the records of an answer.
pub struct Reader<'a> {
    zone: &'a Name,
    /// The version that an IXFR request names.
    old: Option<&'a Content>,
    /// The maximum number of records, and of their octets in memory.
    max: (usize, usize),
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
    pub fn new(zone: &'a Name, old: Option<&'a Content>, max: (usize, usize)) -> Reader<'a> {
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
        let (records, octets) = self.max;
        if self.count > records {
            return Err(format!("the transfer has more than {records} records"));
        }
        if self.octets > octets {
            return Err(format!("the records of the transfer take more than {octets} octets"));
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
            (State::First(first), None) => {
                let content = Content::of(self.zone.clone(), [&first, &record])?;
                State::Whole { first, content }
            }
            (State::Whole { first, content }, Some(_)) if first.rdata == record.rdata => {
                return Ok(Some(Transferred::Whole(content)));
            }
            (State::Whole { .. }, Some(_)) => {
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
        let (records, octets) = self.max;
        if content.len() > records {
            return Err(format!("the zone would have more than {records} records"));
        }
        if content.octets() > octets {
            return Err(format!("the records of the zone would take more than {octets} octets"));
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
        let mut reader = Reader::new(&zone, old, (8, 10_000));
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
            let mut reader = Reader::new(&zone, None, (8, 10_000));
            reader.push(soa.clone()).unwrap();
            assert_eq!(reader.push(record).unwrap_err(), message);
        }
        let zone = zone();
        let mut reader = Reader::new(&zone, None, (8, 10_000));
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
        for (octets, expected) in
            [(most, Ok(())), (most - 1, Err(format!("the records of the transfer take more than {} octets", most - 1)))]
        {
            let mut reader = Reader::new(&zone, None, (8, octets));
            let read = all.iter().try_for_each(|record| reader.push(record.clone()).map(|_| ()));
            assert_eq!(read, expected);
        }
    }
}
