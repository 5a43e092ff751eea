//! Master files (RFC 1035, 5) as BIND, NSD and Knot read them.

mod generate;
mod lexer;

use super::{
    MasterFile, Place, Problem, Record,
    meant::{ZoneText, of_master_record},
};
use crate::wire::{
    Name,
    rdata::{
        self, RdataError, Token, name_problem, numbered, rtype, seconds, shown, similar_type, type_from_octets,
        type_to_text,
    },
};
use lexer::{Entry, Lexer};
use std::{collections::HashSet, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

/// After so many problems no more are looked for.
const MAX_PROBLEMS: usize = 100;
/// After so many warnings no more are told.
const MAX_WARNINGS: usize = 20;
/// How deep files may include each other.
const MAX_DEPTH: usize = 20;
/// The octets of a zone's master file and all that it includes and generates.
const MAX_OCTETS: usize = 2 << 30;
/// The records of a zone.
const MAX_RECORDS: usize = 20_000_000;
/// What of that may be generated, or come from files that are included again: a few octets ask for any amount of it.
const MAX_MULTIPLIED: usize = 1_000_000;
/// The octets of that, as text.
const MAX_MULTIPLIED_OCTETS: usize = 64 << 20;
/// The longest time to live (RFC 2181, 8).
pub(super) const MAX_TTL: u32 = i32::MAX as u32;

/// Reads a master file and all that it includes. `opener` gives the octets of a file; the paths of `$INCLUDE` are joined
/// to that of the including file. `zone_id` is for the problems: these are all that were found, up to a hundred.
pub fn read(
    opener: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    file: &Path,
    zone: &Name,
    zone_id: &str,
) -> (MasterFile, Vec<Problem>) {
    let mut reading = Zone {
        opener,
        apex: zone,
        apex_text: ZoneText::new(zone),
        id: zone_id,
        origin: zone.clone(),
        owner: None,
        default_ttl: None,
        last_ttl: None,
        chain: Vec::new(),
        octets: 0,
        known: HashSet::new(),
        is_again: false,
        multiplied: 0,
        multiplied_octets: 0,
        out: MasterFile::default(),
        problems: Vec::new(),
        warnings: Vec::new(),
        stopped: false,
    };
    reading.file(file.into(), None);
    reading.out.records.shrink_to_fit();
    reading.problems.append(&mut reading.warnings);
    (reading.out, reading.problems)
}

/// The state of reading a zone.
struct Zone<'r> {
    opener: &'r mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    apex: &'r Name,
    apex_text: ZoneText,
    id: &'r str,
    origin: Name,
    /// The owner of the last record.
    owner: Option<Name>,
    /// What the last `$TTL` says.
    default_ttl: Option<u32>,
    /// The last TTL that a record has.
    last_ttl: Option<u32>,
    /// The files that are being read, each included by the one in front.
    chain: Vec<Arc<Path>>,
    octets: usize,
    /// The files that were read.
    known: HashSet<Arc<Path>>,
    /// Whether what is read has been read before.
    is_again: bool,
    multiplied: usize,
    multiplied_octets: usize,
    out: MasterFile,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// There are too many problems or records to go on.
    stopped: bool,
}

/// A file that is being read.
struct Source<'a> {
    path: Arc<Path>,
    index: u16,
    text: &'a [u8],
}

impl Source<'_> {
    /// The place of the octets from `from` to `to`, in the entry's lines.
    fn place(&self, entry: &Entry, from: usize, to: usize) -> Place {
        let (mut line, mut line_start) = (entry.line, entry.start);
        for (at, _) in self.text[entry.start..from].iter().enumerate().filter(|&(_, &octet)| octet == b'\n') {
            line += 1;
            line_start = entry.start + at + 1;
        }
        let characters = |from, to| String::from_utf8_lossy(&self.text[from..to]).chars().count() as u32;
        let column = characters(line_start, from) + 1;
        Place { file: self.path.clone(), line, column, length: characters(from, to).max(1) }
    }

    /// The place of a token; behind the last one if there is no such token.
    fn place_of(&self, entry: &Entry, token: usize) -> Place {
        let span = |token: &Token| {
            // All tokens are slices of the text.
            let start = token.text.as_ptr() as usize - self.text.as_ptr() as usize;
            let quote = usize::from(token.quoted);
            (start - quote, start + token.text.len() + quote)
        };
        match (entry.tokens.get(token), entry.tokens.last()) {
            (Some(token), _) => {
                let (from, to) = span(token);
                self.place(entry, from, to)
            }
            (None, Some(last)) => {
                let (_, end) = span(last);
                self.place(entry, end, end)
            }
            (None, None) => self.place(entry, entry.start, entry.start),
        }
    }
}

/// An error about a token of an entry.
fn fail(token: usize, message: impl Into<String>) -> RdataError {
    RdataError { token, message: message.into(), help: None }
}

impl Zone<'_> {
    /// Reads a file; `place` is where it is included.
    fn file(&mut self, path: Arc<Path>, place: Option<Place>) {
        let text = match self.open(&path) {
            Ok(text) => text,
            Err(message) => return self.report(message, None, place),
        };
        let Ok(index) = u16::try_from(self.out.files.len()) else {
            return self.report("a zone can have 65536 files at most".into(), None, place);
        };
        self.out.files.push(path.clone());
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let source = Source { path: path.clone(), index, text: &text[start..] };
        let was_again = self.is_again;
        self.is_again |= !self.known.insert(path.clone());
        self.chain.push(path);
        match self.is_again.then(|| self.multiply(0, text.len())) {
            Some(Err(message)) => self.report(message, None, place),
            _ => self.entries(&source),
        }
        self.chain.pop();
        self.is_again = was_again;
    }

    /// The octets of a file, or why there are none.
    fn open(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let chain = || {
            let files = self.chain.iter().map(|file| &**file).chain([path]);
            files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" includes ")
        };
        if self.chain.iter().any(|file| **file == *path) {
            return Err(format!("a file includes itself: {}", chain()));
        }
        if self.chain.len() > MAX_DEPTH {
            return Err(format!("$INCLUDE is nested more than {MAX_DEPTH} deep: {}", chain()));
        }
        let text = (self.opener)(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        self.take(text.len())?;
        Ok(text)
    }

    /// Counts octets of text, be they in files or generated.
    fn take(&mut self, octets: usize) -> Result<(), String> {
        self.octets = self.octets.saturating_add(octets);
        if self.octets > MAX_OCTETS {
            self.stopped = true;
            return Err("the zone has more than 2 GiB of text".into());
        }
        Ok(())
    }

    /// Counts what stands nowhere as such, or more than once.
    fn multiply(&mut self, records: usize, octets: usize) -> Result<(), String> {
        self.multiplied = self.multiplied.saturating_add(records);
        self.multiplied_octets = self.multiplied_octets.saturating_add(octets);
        let told = if self.multiplied > MAX_MULTIPLIED {
            format!("{MAX_MULTIPLIED} records")
        } else if self.multiplied_octets > MAX_MULTIPLIED_OCTETS {
            format!("{} MiB", MAX_MULTIPLIED_OCTETS >> 20)
        } else {
            return Ok(());
        };
        self.stopped = true;
        Err(format!("more than {told} of the zone are generated, or in files that are included again"))
    }

    fn entries(&mut self, source: &Source) {
        let mut lexer = Lexer::new(source.text);
        let mut entry = Entry { line: 1, ..Entry::default() };
        if let Some(at) = source.text.iter().position(|&octet| octet == 0) {
            let message = "there is a NUL octet: this is not a text file".into();
            return self.report(message, None, Some(source.place(&entry, at, at + 1)));
        }
        while !self.stopped {
            match lexer.next(&mut entry) {
                Ok(false) => break,
                Ok(true) => {
                    if let Err(error) = self.entry(source, &entry) {
                        let place = source.place_of(&entry, error.token);
                        self.report(error.message, error.help, Some(place));
                    }
                }
                Err(error) => {
                    let place = source.place(&entry, error.at, error.at + 1);
                    self.report(error.message.into(), Some(error.help.into()), Some(place));
                }
            }
        }
    }

    fn report(&mut self, message: String, help: Option<String>, place: Option<Place>) {
        let error = |message| Problem::error("private_hosted_zones", self.id, "file", message);
        if self.problems.len() >= MAX_PROBLEMS {
            if !self.stopped {
                let last = error(format!("there are more than {MAX_PROBLEMS} problems; the rest was not read"));
                self.problems.push(Problem { place, ..last });
            }
            self.stopped = true;
            return;
        }
        let problem = Problem { place, help, ..error(message) };
        self.problems.push(problem);
    }

    /// Tells of what is valid, and likely to be meant otherwise: a few times, and not in place of an error.
    fn warn(&mut self, doubt: RdataError, source: &Source, entry: &Entry) {
        if self.warnings.len() < MAX_WARNINGS {
            let problem = Problem::warning("private_hosted_zones", self.id, "file", doubt.message);
            let place = Some(source.place_of(entry, doubt.token));
            self.warnings.push(Problem { place, help: doubt.help, ..problem });
        }
    }

    fn entry(&mut self, source: &Source, entry: &Entry) -> Result<(), RdataError> {
        let Some(first) = entry.tokens.first() else { return Ok(()) };
        if !entry.blank_owner && !first.quoted && first.text.starts_with(b"$") {
            return self.directive(source, entry);
        }
        let (mut at, mut owned) = (0, true);
        if !entry.blank_owner {
            at = 1;
            match owner_name(first.text, &self.origin, self.apex) {
                Ok(owner) => self.owner = Some(owner),
                Err(error) => {
                    // The rest of the record may be wrong too; what follows with a blank owner is left out as well.
                    self.report(error.message, error.help, Some(source.place_of(entry, 0)));
                    self.owner = Name::parse(first.text, Some(&self.origin)).ok().or(self.owner.take());
                    owned = false;
                }
            }
        }
        let (ttl, rtype, data) = self.ttl_and_type(&entry.tokens, at)?;
        let rdata = rdata::parse(rtype, &entry.tokens[data..], &self.origin).map_err(|error| {
            if rtype == rtype::SOA && self.last_ttl.is_none() {
                // Its minimum would have been the TTL of what follows; that is not another problem.
                self.last_ttl = Some(0);
            }
            RdataError { token: error.token + data, ..error }
        })?;
        let ttl = self.ttl(ttl, rtype, &rdata, data - 1)?;
        if !owned {
            return Ok(());
        }
        let Some(owner) = self.owner.clone() else {
            return Err(RdataError {
                help: Some("begin the line with the owner, or with `@` for the apex of the zone".into()),
                ..fail(0, "there is no record in front whose owner this one could have")
            });
        };
        let own = (!entry.blank_owner).then_some(0);
        if let Some(doubt) = of_master_record(&entry.tokens, own, (rtype, data), &self.apex_text) {
            self.warn(doubt, source, entry);
        }
        if owner.is_at_or_below(self.apex) {
            self.push(Record { owner, rtype, ttl, rdata, file: source.index, line: entry.line });
        }
        Ok(())
    }

    fn push(&mut self, record: Record) {
        if self.out.records.len() >= MAX_RECORDS {
            if !self.stopped {
                self.report(format!("there are more than {MAX_RECORDS} records"), None, None);
            }
            self.stopped = true;
            return;
        }
        if self.is_again
            && let Err(message) = self.multiply(1, 0)
        {
            let file = self.out.files[usize::from(record.file)].clone();
            return self.report(message, None, Some(Place { file, line: record.line, column: 1, length: 1 }));
        }
        self.out.records.push(record);
    }

    /// Takes TTL and class, in any order, and the type. Gives the TTL and the type, and where the data begins.
    fn ttl_and_type(&mut self, tokens: &[Token], mut at: usize) -> Result<(Option<u32>, u16, usize), RdataError> {
        let (mut ttl, mut class) = (None, false);
        loop {
            let Some(token) = tokens.get(at) else {
                return Err(RdataError {
                    help: Some("a record is: owner, TTL, class, type, data".into()),
                    ..fail(at, "the record type is missing")
                });
            };
            if ttl.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(time_to_live(token.text, at)?);
                self.last_ttl = ttl;
            } else if !class && is_class(token.text, at)? {
                class = true;
            } else if let Some(rtype) = type_from_octets(token.text) {
                let in_messages_only = matches!(rtype, 0 | rtype::OPT | 128..=255);
                if in_messages_only {
                    return Err(fail(at, format!("{} records occur in messages only", type_to_text(rtype))));
                }
                return Ok((ttl, rtype, at + 1));
            } else {
                return Err(unknown_type(token.text, at));
            }
            at += 1;
        }
    }

    /// The TTL of a record: its own, that of `$TTL`, that of the record in front, or the minimum of a SOA record
    /// (RFC 2308, 4; RFC 1035, 5.1).
    fn ttl(&mut self, own: Option<u32>, rtype: u16, rdata: &[u8], token: usize) -> Result<u32, RdataError> {
        if let Some(ttl) = own.or(self.default_ttl).or(self.last_ttl) {
            return Ok(ttl);
        }
        if rtype == rtype::SOA
            && let Some(minimum) = rdata.last_chunk()
        {
            let ttl = u32::from_be_bytes(*minimum).min(MAX_TTL);
            self.default_ttl = Some(ttl);
            return Ok(ttl);
        }
        // Said once, not for each record.
        self.last_ttl = Some(0);
        let help = "write `$TTL 300` at the start of the file, or 300 in front of the type";
        Err(RdataError { help: Some(help.into()), ..fail(token, "this record has no TTL, nor is there a default one") })
    }

    fn directive(&mut self, source: &Source, entry: &Entry) -> Result<(), RdataError> {
        let tokens = &entry.tokens;
        let word = tokens[0].text;
        let is = |directive: &str| word.eq_ignore_ascii_case(directive.as_bytes());
        let argument = |help: &str| {
            let missing =
                || RdataError { help: Some(help.into()), ..fail(1, format!("{} is incomplete", shown(word))) };
            tokens.get(1).ok_or_else(missing)
        };
        let nothing_behind = |at: usize| match tokens.get(at) {
            Some(token) => Err(fail(at, format!("`{}` is too much", shown(token.text)))),
            None => Ok(()),
        };
        if is("$ORIGIN") {
            self.origin = self.name(argument("as in `$ORIGIN example.com.`")?, 1)?;
            nothing_behind(2)
        } else if is("$TTL") {
            self.default_ttl = Some(time_to_live(argument("as in `$TTL 300` or `$TTL 1h30m`")?.text, 1)?);
            nothing_behind(2)
        } else if is("$INCLUDE") {
            let file = argument("as in `$INCLUDE hosts.zone`, with or without an origin behind it")?;
            let origin = tokens.get(2).map(|token| self.name(token, 2)).transpose()?;
            nothing_behind(3)?;
            let path = source.path.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(file.text));
            let behind = (self.origin.clone(), self.owner.clone());
            self.origin = origin.unwrap_or_else(|| self.origin.clone());
            self.file(path.into(), Some(source.place_of(entry, 1)));
            (self.origin, self.owner) = behind;
            Ok(())
        } else if is("$GENERATE") {
            generate::generate(self, source, entry)
        } else {
            Err(RdataError {
                help: Some("$ORIGIN, $TTL, $INCLUDE and $GENERATE are; a name that begins with `$` needs `\\$`".into()),
                ..fail(0, format!("`{}` is not a directive", shown(word)))
            })
        }
    }

    fn name(&self, token: &Token, at: usize) -> Result<Name, RdataError> {
        Name::parse(token.text, Some(&self.origin)).map_err(|error| fail(at, name_problem("origin", token.text, error)))
    }
}

/// Reads an owner, which has to be in the zone.
fn owner_name(text: &[u8], origin: &Name, apex: &Name) -> Result<Name, RdataError> {
    let owner = Name::parse(text, Some(origin)).map_err(|error| fail(0, name_problem("owner", text, error)))?;
    if owner.is_at_or_below(apex) { Ok(owner) } else { Err(fail(0, format!("{owner} is outside of the zone {apex}"))) }
}

fn time_to_live(text: &[u8], token: usize) -> Result<u32, RdataError> {
    seconds(text).filter(|&ttl| ttl <= MAX_TTL).ok_or_else(|| RdataError {
        help: Some(format!("seconds up to {MAX_TTL}, or a time such as `1h30m`")),
        ..fail(token, format!("`{}` is not a TTL", shown(text)))
    })
}

/// Whether a word is the class IN; an error if it is another one.
fn is_class(text: &[u8], token: usize) -> Result<bool, RdataError> {
    let number = match text.to_ascii_uppercase().as_slice() {
        b"IN" => Some(1),
        b"CH" | b"CHAOS" => Some(3),
        b"HS" | b"HESIOD" => Some(4),
        other => numbered(other, b"CLASS"),
    };
    match number {
        None => Ok(false),
        Some(1) => Ok(true),
        Some(_) => Err(RdataError {
            help: Some("write IN, or nothing".into()),
            ..fail(token, format!("class {} is not served", shown(text)))
        }),
    }
}

fn unknown_type(text: &[u8], token: usize) -> RdataError {
    let help = match similar_type(&String::from_utf8_lossy(text)) {
        _ if text.starts_with(b"$") => "a directive begins in the first column".into(),
        Some(similar) => format!("did you mean {similar}?"),
        None => "a mnemonic such as A, or TYPE and a number".into(),
    };
    RdataError { help: Some(help), ..fail(token, format!("`{}` is not a record type", shown(text))) }
}

#[cfg(test)]
mod tests;
