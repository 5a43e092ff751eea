//! What a primary answers to a request for a transfer (RFC 5936, 2.2; RFC 1995, 4), record by record.

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

/// The longest time to live; what is more counts as none (RFC 2181, 8).
const MAX_TTL: u32 = i32::MAX as u32;

/// What a transfer comes to.
#[derive(Debug)]
pub enum Transferred {
    /// There is nothing newer than what was asked from.
    Current,
    /// The whole zone.
    Whole(Content),
    /// What has changed, applied to what was asked from.
    Changed(Content),
}

/// Takes the records of an answer.
pub struct Reader<'a> {
    zone: &'a Name,
    /// What an IXFR was asked from.
    old: Option<&'a Content>,
    /// How many records it may have, and how much memory what is made of them may take, in octets.
    most: (usize, usize),
    count: usize,
    octets: usize,
    state: State,
}

enum State {
    /// Nothing has come.
    Start,
    /// The first SOA record.
    First(Record),
    /// Records of the whole zone, the SOA record at first.
    Whole {
        first: Record,
        content: Content,
    },
    /// Differences, made to what was asked from as they come: of the last one comes what is deleted, or what is added. `last`
    /// is the SOA record that all lead to, `to` the serial that this one leads to.
    Deleted {
        last: Record,
        content: Content,
    },
    Added {
        last: Record,
        content: Content,
        to: u32,
    },
    /// All has come.
    Done,
}

impl<'a> Reader<'a> {
    /// For an answer to AXFR, or, with `old`, to IXFR.
    pub fn new(zone: &'a Name, old: Option<&'a Content>, most: (usize, usize)) -> Reader<'a> {
        Reader { zone, old, most, count: 0, octets: 0, state: State::Start }
    }

    /// How many records have come.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes a record. What all have come to is told with the last one; or why the answer is none.
    pub fn push(&mut self, record: response::Record) -> Result<Option<Transferred>, String> {
        // A name that is a pointer in the message is as long as any other one here.
        self.count += 1;
        self.octets += RECORD_OCTETS + record.owner.len() + record.rdata.len();
        let (records, octets) = self.most;
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
                    return Err(format!("a difference deletes {} {what}, which is not there", record.owner));
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
            (State::Done, _) => return Err("there are records behind the last one".into()),
        };
        Ok(None)
    }

    /// Whether all that has come is a SOA record of what was asked from: nothing is newer.
    pub fn is_current(&self) -> bool {
        match (&self.state, self.old) {
            (State::First(first), Some(old)) => Soa::read(&first.rdata).is_some_and(|soa| soa.serial == old.soa.serial),
            _ => false,
        }
    }

    /// What all differences come to. It is held to the bounds of a whole zone.
    fn changed(&self, mut content: Content, last: &Record) -> Result<Transferred, String> {
        content.add(last)?;
        let (records, octets) = self.most;
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

    /// The records of a text; its lines may have any order, and several SOA records.
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
    fn whole_zones_and_differences() {
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
            ("SOA 5;@ NS ns;SOA 5;@ NS ns", false, "there are records behind the last one"),
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
    fn records_that_are_none() {
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

    /// Names that are pointers in a message take room when they are read.
    #[test]
    fn bounds_what_records_take_in_memory() {
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
