//! Reading master files (RFC 1035, section 5), with the extensions of BIND, NSD and Knot: `$TTL`,
//! `$GENERATE`, blank TTLs and generic records.
//!
//! `lexer` splits the text into entries, [`rdata`] reads the data of a record, and `generate`
//! expands `$GENERATE`. Reading goes on behind an error, so that a user sees all errors of a file
//! at once. Time and memory are bounded by the constants below.

mod generate;
mod lexer;

use super::{
    Location, MasterFile, Problem, Record,
    record_lints::{ZoneText, lint_master_record},
};
use crate::wire::{
    Name,
    codes::class,
    rdata::{
        self, RdataError, Token, excerpt, invalid_name, number_after, rtype, seconds, similar_type, type_from_octets,
        type_to_text,
    },
};
use lexer::{Entry, Lexer};
use std::{collections::HashSet, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

/// The number of errors after which reading stops.
const MAX_PROBLEMS: usize = 100;
/// The number of warnings that are reported.
const MAX_WARNINGS: usize = 20;
/// How deep files can include each other.
const MAX_DEPTH: usize = 20;
/// The octets of text of a zone: its master file, the files that it includes, and generated text.
const MAX_OCTETS: usize = 2 << 30;
/// The records of a zone.
const MAX_RECORDS: usize = 20_000_000;
/// The records that can be generated, or come from a file that is included again: a few octets can
/// demand any number of them.
const MAX_MULTIPLIED: usize = 1_000_000;
/// The octets of text that can be generated, or come from a file that is included again.
const MAX_MULTIPLIED_OCTETS: usize = 64 << 20;
/// The longest time to live, in seconds (RFC 2181, section 8).
pub(super) const MAX_TTL: u32 = i32::MAX as u32;

/// Reads a master file and the files that it includes. `opener` reads a file; paths in `$INCLUDE`
/// are relative to the including file. Returns the records, and at most 101 errors and 20 warnings
/// about the zone `zone_id`.
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
    /// The TTL of the last `$TTL`.
    default_ttl: Option<u32>,
    /// The last TTL that a record has explicitly.
    last_ttl: Option<u32>,
    /// The files that are being read. Each is included by the previous one.
    chain: Vec<Arc<Path>>,
    octets: usize,
    /// The files that were read.
    known: HashSet<Arc<Path>>,
    /// Whether the file that is being read was read before.
    is_again: bool,
    multiplied: usize,
    multiplied_octets: usize,
    out: MasterFile,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Whether reading stops: there are too many errors, records or octets.
    stopped: bool,
}

/// A file that is being read.
struct Source<'a> {
    path: Arc<Path>,
    index: u16,
    text: &'a [u8],
}

impl Source<'_> {
    /// The location of the octets from `from` to `to`, which are in the entry's lines.
    fn location(&self, entry: &Entry, from: usize, to: usize) -> Location {
        let (mut line, mut line_start) = (entry.line, entry.start);
        for (at, _) in self.text[entry.start..from].iter().enumerate().filter(|&(_, &octet)| octet == b'\n') {
            line += 1;
            line_start = entry.start + at + 1;
        }
        let characters = |from, to| String::from_utf8_lossy(&self.text[from..to]).chars().count() as u32;
        let column = characters(line_start, from) + 1;
        Location { file: self.path.clone(), line, column, length: characters(from, to).max(1) }
    }

    /// The location of a token; that behind the last token if there is no such token.
    fn location_of(&self, entry: &Entry, token: usize) -> Location {
        let span = |token: &Token| {
            // All tokens are slices of `self.text`.
            let start = token.text.as_ptr() as usize - self.text.as_ptr() as usize;
            let quote = usize::from(token.quoted);
            (start - quote, start + token.text.len() + quote)
        };
        match (entry.tokens.get(token), entry.tokens.last()) {
            (Some(token), _) => {
                let (from, to) = span(token);
                self.location(entry, from, to)
            }
            (None, Some(last)) => {
                let (_, end) = span(last);
                self.location(entry, end, end)
            }
            (None, None) => self.location(entry, entry.start, entry.start),
        }
    }
}

/// An error about a token of an entry.
fn fail(token: usize, message: impl Into<String>) -> RdataError {
    RdataError { token, message: message.into(), help: None }
}

impl Zone<'_> {
    /// Reads a file. `location` is that of the directive that includes it.
    fn file(&mut self, path: Arc<Path>, location: Option<Location>) {
        let text = match self.open(&path) {
            Ok(text) => text,
            Err(message) => return self.report(message, None, location),
        };
        let Ok(index) = u16::try_from(self.out.files.len()) else {
            return self.report("the zone has more than 65536 files".into(), None, location);
        };
        self.out.files.push(path.clone());
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let source = Source { path: path.clone(), index, text: &text[start..] };
        let was_again = self.is_again;
        self.is_again |= !self.known.insert(path.clone());
        self.chain.push(path);
        match self.is_again.then(|| self.count_multiplied(0, text.len())) {
            Some(Err(message)) => self.report(message, None, location),
            _ => self.entries(&source),
        }
        self.chain.pop();
        self.is_again = was_again;
    }

    /// Reads the octets of a file, or returns an error message.
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
        self.count_octets(text.len())?;
        Ok(text)
    }

    /// Counts octets of text, from files or generated. Returns an error message if there are too
    /// many.
    fn count_octets(&mut self, octets: usize) -> Result<(), String> {
        self.octets = self.octets.saturating_add(octets);
        if self.octets > MAX_OCTETS {
            self.stopped = true;
            return Err("the zone has more than 2 GiB of text".into());
        }
        Ok(())
    }

    /// Counts records and octets that are generated, or come from a file that is included again.
    /// Returns an error message if there are too many.
    fn count_multiplied(&mut self, records: usize, octets: usize) -> Result<(), String> {
        self.multiplied = self.multiplied.saturating_add(records);
        self.multiplied_octets = self.multiplied_octets.saturating_add(octets);
        let limit = if self.multiplied > MAX_MULTIPLIED {
            format!("{MAX_MULTIPLIED} records")
        } else if self.multiplied_octets > MAX_MULTIPLIED_OCTETS {
            format!("{} MiB", MAX_MULTIPLIED_OCTETS >> 20)
        } else {
            return Ok(());
        };
        self.stopped = true;
        Err(format!("more than {limit} of the zone are generated or in files that are included twice"))
    }

    fn entries(&mut self, source: &Source) {
        let mut lexer = Lexer::new(source.text);
        let mut entry = Entry { line: 1, ..Entry::default() };
        if let Some(at) = source.text.iter().position(|&octet| octet == 0) {
            let message = "the file contains a NUL octet: it is not a text file".into();
            return self.report(message, None, Some(source.location(&entry, at, at + 1)));
        }
        while !self.stopped {
            match lexer.next(&mut entry) {
                Ok(false) => break,
                Ok(true) => {
                    if let Err(error) = self.entry(source, &entry) {
                        let location = source.location_of(&entry, error.token);
                        self.report(error.message, error.help, Some(location));
                    }
                }
                Err(error) => {
                    let location = source.location(&entry, error.at, error.at + 1);
                    self.report(error.message.into(), Some(error.help.into()), Some(location));
                }
            }
        }
    }

    /// Adds an error. Stops reading when there are too many.
    fn report(&mut self, message: String, help: Option<String>, location: Option<Location>) {
        let error = |message| Problem::error("private_hosted_zones", self.id, "file", message);
        if self.problems.len() >= MAX_PROBLEMS {
            if !self.stopped {
                let last = error(format!("the zone has more than {MAX_PROBLEMS} errors; zonal did not read the rest"));
                self.problems.push(Problem { location, ..last });
            }
            self.stopped = true;
            return;
        }
        let problem = Problem { location, help, ..error(message) };
        self.problems.push(problem);
    }

    /// Adds a warning, unless there are too many.
    fn warn(&mut self, finding: RdataError, source: &Source, entry: &Entry) {
        if self.warnings.len() < MAX_WARNINGS {
            let problem = Problem::warning("private_hosted_zones", self.id, "file", finding.message);
            let location = Some(source.location_of(entry, finding.token));
            self.warnings.push(Problem { location, help: finding.help, ..problem });
        }
    }

    /// Reads a record or directive.
    fn entry(&mut self, source: &Source, entry: &Entry) -> Result<(), RdataError> {
        let Some(first) = entry.tokens.first() else { return Ok(()) };
        if !entry.blank_owner && !first.quoted && first.text.starts_with(b"$") {
            return self.directive(source, entry);
        }
        let (mut at, mut has_owner) = (0, true);
        if !entry.blank_owner {
            at = 1;
            match owner_name(first.text, &self.origin, self.apex) {
                Ok(owner) => self.owner = Some(owner),
                Err(error) => {
                    // The rest of the record is checked too, but neither it nor the following
                    // records with a blank owner are added.
                    self.report(error.message, error.help, Some(source.location_of(entry, 0)));
                    self.owner = Name::parse(first.text, Some(&self.origin)).ok().or(self.owner.take());
                    has_owner = false;
                }
            }
        }
        let (ttl, rtype, data) = self.ttl_and_type(&entry.tokens, at)?;
        let rdata = rdata::parse(rtype, &entry.tokens[data..], &self.origin).map_err(|error| {
            if rtype == rtype::SOA && self.last_ttl.is_none() {
                // Its minimum would have been the TTL of the following records. Their missing TTL
                // is not another error.
                self.last_ttl = Some(0);
            }
            RdataError { token: error.token + data, ..error }
        })?;
        let ttl = self.ttl(ttl, rtype, &rdata, data - 1)?;
        if !has_owner {
            return Ok(());
        }
        let Some(owner) = self.owner.clone() else {
            return Err(RdataError {
                help: Some("begin the line with an owner, or with `@` for the zone's apex".into()),
                ..fail(0, "the owner is blank, but there is no previous record")
            });
        };
        let own = (!entry.blank_owner).then_some(0);
        if let Some(finding) = lint_master_record(&entry.tokens, own, (rtype, data), &self.apex_text) {
            self.warn(finding, source, entry);
        }
        if owner.is_at_or_below(self.apex) {
            self.push(Record { owner, rtype, ttl, rdata, file: source.index, line: entry.line });
        }
        Ok(())
    }

    fn push(&mut self, record: Record) {
        if self.out.records.len() >= MAX_RECORDS {
            if !self.stopped {
                self.report(format!("the zone has more than {MAX_RECORDS} records"), None, None);
            }
            self.stopped = true;
            return;
        }
        if self.is_again
            && let Err(message) = self.count_multiplied(1, 0)
        {
            let file = self.out.files[usize::from(record.file)].clone();
            return self.report(message, None, Some(Location { file, line: record.line, column: 1, length: 1 }));
        }
        self.out.records.push(record);
    }

    /// Reads TTL and class, in any order, and the type. Returns TTL, type, and the index of the
    /// first token of the data.
    fn ttl_and_type(&mut self, tokens: &[Token], mut at: usize) -> Result<(Option<u32>, u16, usize), RdataError> {
        let (mut ttl, mut class) = (None, false);
        loop {
            let Some(token) = tokens.get(at) else {
                return Err(RdataError {
                    help: Some("write owner, TTL, class, type and data".into()),
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
                    return Err(fail(at, format!("{} records exist in messages only", type_to_text(rtype))));
                }
                return Ok((ttl, rtype, at + 1));
            } else {
                return Err(unknown_type(token.text, at));
            }
            at += 1;
        }
    }

    /// The TTL of a record: its own, that of `$TTL`, that of the previous record, or the minimum of
    /// a SOA record (RFC 2308, section 4; RFC 1035, section 5.1).
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
        // The error is reported once, not for each record.
        self.last_ttl = Some(0);
        let help = "write `$TTL 300` at the start of the file, or a TTL in front of the type";
        Err(RdataError { help: Some(help.into()), ..fail(token, "the record has no TTL, and there is no default TTL") })
    }

    fn directive(&mut self, source: &Source, entry: &Entry) -> Result<(), RdataError> {
        let tokens = &entry.tokens;
        let word = tokens[0].text;
        let is = |directive: &str| word.eq_ignore_ascii_case(directive.as_bytes());
        let argument = |help: &str| {
            let missing =
                || RdataError { help: Some(help.into()), ..fail(1, format!("{} is incomplete", excerpt(word))) };
            tokens.get(1).ok_or_else(missing)
        };
        let nothing_behind = |at: usize| match tokens.get(at) {
            Some(token) => Err(fail(at, format!("unexpected `{}` behind the directive", excerpt(token.text)))),
            None => Ok(()),
        };
        if is("$ORIGIN") {
            self.origin = self.name(argument("write an origin, such as `$ORIGIN example.com.`")?, 1)?;
            nothing_behind(2)
        } else if is("$TTL") {
            self.default_ttl =
                Some(time_to_live(argument("write a TTL, such as `$TTL 300` or `$TTL 1h30m`")?.text, 1)?);
            nothing_behind(2)
        } else if is("$INCLUDE") {
            let file = argument("write a file and optionally an origin, such as `$INCLUDE hosts.zone`")?;
            let origin = tokens.get(2).map(|token| self.name(token, 2)).transpose()?;
            nothing_behind(3)?;
            let path = source.path.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(file.text));
            let before = (self.origin.clone(), self.owner.clone());
            self.origin = origin.unwrap_or_else(|| self.origin.clone());
            self.file(path.into(), Some(source.location_of(entry, 1)));
            (self.origin, self.owner) = before;
            Ok(())
        } else if is("$GENERATE") {
            generate::generate(self, source, entry)
        } else {
            Err(RdataError {
                help: Some(
                    "directives are $ORIGIN, $TTL, $INCLUDE and $GENERATE; write `\\$` for a name that begins with `$`"
                        .into(),
                ),
                ..fail(0, format!("`{}` is not a directive", excerpt(word)))
            })
        }
    }

    fn name(&self, token: &Token, at: usize) -> Result<Name, RdataError> {
        Name::parse(token.text, Some(&self.origin)).map_err(|error| fail(at, invalid_name("origin", token.text, error)))
    }
}

/// Reads an owner. It must be in the zone.
fn owner_name(text: &[u8], origin: &Name, apex: &Name) -> Result<Name, RdataError> {
    let owner = Name::parse(text, Some(origin)).map_err(|error| fail(0, invalid_name("owner", text, error)))?;
    if owner.is_at_or_below(apex) { Ok(owner) } else { Err(fail(0, format!("{owner} is outside the zone {apex}"))) }
}

fn time_to_live(text: &[u8], token: usize) -> Result<u32, RdataError> {
    seconds(text).filter(|&ttl| ttl <= MAX_TTL).ok_or_else(|| RdataError {
        help: Some(format!("expected seconds up to {MAX_TTL}, or a duration such as `1h30m`")),
        ..fail(token, format!("`{}` is not a TTL", excerpt(text)))
    })
}

/// Whether a token is the class IN. An error if it is another class.
fn is_class(text: &[u8], token: usize) -> Result<bool, RdataError> {
    let number = match text.to_ascii_uppercase().as_slice() {
        b"IN" => Some(class::IN),
        b"CH" | b"CHAOS" => Some(class::CH),
        b"HS" | b"HESIOD" => Some(class::HS),
        other => number_after(other, b"CLASS"),
    };
    match number {
        None => Ok(false),
        Some(class::IN) => Ok(true),
        Some(_) => Err(RdataError {
            help: Some("write IN or no class".into()),
            ..fail(token, format!("class {} is not supported", excerpt(text)))
        }),
    }
}

fn unknown_type(text: &[u8], token: usize) -> RdataError {
    let help = match similar_type(&String::from_utf8_lossy(text)) {
        _ if text.starts_with(b"$") => "write a directive in the first column".into(),
        Some(similar) => format!("did you mean {similar}?"),
        None => "expected a mnemonic such as A, or TYPE and a number".into(),
    };
    RdataError { help: Some(help), ..fail(token, format!("`{}` is not a record type", excerpt(text))) }
}

#[cfg(test)]
mod tests;
