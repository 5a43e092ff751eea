//! The texts of DNS Firewall lists, in five formats.
//!
//! A list can have millions of lines, and comes from others. It is read line by line, in memory that does not depend on its
//! size. A line that is not understood is skipped and counted, and the first few are shown. No text makes reading fail;
//! whether a list with so many skipped lines is accepted is decided elsewhere.
//!
//! Two readings of one text give the same entries with the same numbers of local data and conditions. So a list can be
//! read several times, each time for a part of its names.

mod adblock;
mod lines;
mod names;
mod plain;
mod rpz;

use super::FirewallListFormat;
use crate::wire::Name;
use ipnet::IpNet;
use lines::{Line, Lines};
use std::{
    borrow::Cow,
    io::{self, BufRead},
};

pub use rpz::{RpzReader, Trigger, trigger_of};

/// The names that an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The name itself.
    Exact,
    /// All names below the name.
    Below,
    /// The name itself and all names below.
    ExactAndBelow,
}

impl Scope {
    /// Whether an entry with this scope is for a name that has `skip` labels in front of the entry's name.
    #[inline]
    pub fn applies(self, skip: usize) -> bool {
        match self {
            Scope::Exact => skip == 0,
            Scope::Below => skip > 0,
            Scope::ExactAndBelow => true,
        }
    }
}

/// The action of an entry of a response policy zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpzAction {
    /// `CNAME .`: the name does not exist.
    NxDomain,
    /// `CNAME *.`: the name has no records.
    NoData,
    /// `CNAME rpz-passthru.`: the answer is not changed.
    PassThru,
    /// `CNAME rpz-drop.`: no answer.
    Drop,
    /// `CNAME rpz-tcp-only.`: an answer by UDP is truncated.
    TcpOnly,
    /// The zone has the answer: the [`LocalRecords`] with this number.
    Local(u32),
}

/// What an entry has beside name, scope and line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// Nothing.
    Plain,
    /// The action of a response policy zone.
    Rpz(RpzAction),
    /// The modifiers of an ad-block list.
    Rule {
        /// The list does not hold the name.
        is_exception: bool,
        /// The entry is before entries that are not important.
        is_important: bool,
        /// The number of its [`Conditions`].
        conditions: Option<u32>,
    },
}

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'e> {
    /// The name, in wire format and lower case.
    pub name: &'e [u8],
    /// The names that it is for.
    pub scope: Scope,
    /// Its line in the source, from 1.
    pub line: u32,
    /// What it has beside.
    pub detail: Detail,
}

/// A record that a response policy zone gives as the answer for a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalRecords {
    /// The record type.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The record data, in uncompressed wire format. The target of a CNAME can begin with `*`, which stands for the queried
    /// name.
    pub rdata: Box<[u8]>,
}

/// The conditions of an entry of an ad-block list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// The query types that the entry is for. Empty: all.
    pub types: Box<[u16]>,
    /// The query types that the entry is not for.
    pub not_types: Box<[u16]>,
    /// Names that the entry is not for, with all names below. In lower case and wire format.
    pub except: Box<[Box<[u8]>]>,
}

/// An entry of a response policy zone for the addresses of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressTrigger {
    /// The hosts that the entry concerns.
    pub kind: AddressKind,
    /// The addresses.
    pub block: IpNet,
    /// Its line in the source, from 1.
    pub line: u32,
    /// Its action.
    pub action: RpzAction,
}

/// The hosts whose addresses an entry of a response policy zone matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Clients.
    Client,
    /// Hosts in answers.
    Answer,
    /// Name servers of the name.
    NameServer,
}

/// An entry of a response policy zone for the names of name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNameTrigger {
    /// The name, in wire format and lower case.
    pub name: Box<[u8]>,
    /// Whether the entry is for the names below that name only.
    pub below_only: bool,
    /// Its line in the source, from 1.
    pub line: u32,
    /// Its action.
    pub action: RpzAction,
}

/// The number of skipped lines that are shown.
const MAX_SHOWN: usize = 5;
/// The maximum memory of the entries and records of a list that are not in the compact table of names, in octets.
const MAX_HELD_OCTETS: usize = 256 << 20;
/// The estimated memory of an entry for an address or a name server, in octets, without the name.
const ENTRY_OCTETS: usize = 256;
/// The longest text of a skipped line that is shown, in characters.
const MAX_SHOWN_CHARACTERS: usize = 80;

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The line, from 1.
    pub line: u32,
    /// Its beginning, without control characters.
    pub text: String,
    /// The reason.
    pub reason: Cow<'static, str>,
}

/// What a text has beside the entries for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The number of entries for names.
    pub entries: u64,
    /// The number of lines.
    pub lines: u32,
    /// The number of lines that were skipped.
    pub skipped: u64,
    /// The first lines that were skipped.
    pub first_skipped: Vec<Skipped>,
    /// The text begins as an HTML page does.
    pub is_html: bool,
    /// The records of [`RpzAction::Local`].
    pub local: Vec<LocalRecords>,
    /// The conditions of [`Detail::Rule`].
    pub conditions: Vec<Conditions>,
    /// There are exceptions or conditions.
    pub has_rules: bool,
    /// The entries of a response policy zone for addresses.
    pub addresses: Vec<AddressTrigger>,
    /// The entries of a response policy zone for name servers, by name.
    pub server_names: Vec<ServerNameTrigger>,
    /// The estimated memory of these entries and records, in octets.
    pub held_octets: usize,
}

impl Content {
    /// Counts the memory of an entry or record that is added.
    ///
    /// # Errors
    ///
    /// There is no room for it. A list in a file can have many more octets than memory.
    fn hold(&mut self, octets: usize) -> Result<(), Cow<'static, str>> {
        if self.held_octets + octets > MAX_HELD_OCTETS {
            return Err("the entries for addresses and name servers, and the local data, take more than 256 MiB".into());
        }
        self.held_octets += octets;
        Ok(())
    }

    /// The number of entries for name servers, by name (NSDNAME) and by address (NSIP).
    pub fn of_servers(&self) -> (u64, u64) {
        let addresses = self.addresses.iter().filter(|trigger| trigger.kind == AddressKind::NameServer);
        (self.server_names.len() as u64, addresses.count() as u64)
    }

    /// Notes a line that is not understood.
    pub fn skip(&mut self, line: u32, text: &[u8], reason: impl Into<Cow<'static, str>>) {
        self.skipped += 1;
        if self.first_skipped.len() < MAX_SHOWN {
            let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_SHOWN_CHARACTERS)]);
            let characters = text.trim().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
            let text = characters.take(MAX_SHOWN_CHARACTERS).collect();
            self.first_skipped.push(Skipped { line, text, reason: reason.into() });
        }
    }
}

/// Reads a text. `zone` is the apex of a response policy zone; without it, it is the origin of the text. Each entry for a
/// name goes to `visit`.
///
/// # Errors
///
/// Those of `input`.
pub fn read(
    input: &mut dyn BufRead,
    format: FirewallListFormat,
    zone: Option<&Name>,
    visit: &mut dyn FnMut(&Entry),
) -> io::Result<Content> {
    let mut content = Content::default();
    let mut lines = Lines::new(input);
    let mut name = Vec::new();
    let mut adblock = adblock::Reader::default();
    let mut rpz = RpzReader::new(zone);
    let mut is_empty = true;
    while let Some((number, line)) = lines.next()? {
        content.lines = number;
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong(start) => {
                content.skip(number, start, format!("longer than {} octets", lines::MAX_LINE));
                continue;
            }
        };
        if is_empty && !text.trim_ascii().is_empty() {
            is_empty = false;
            content.is_html = starts_as_html(text.trim_ascii());
        }
        match format {
            FirewallListFormat::Domains => plain::domain(text, number, &mut name, &mut content, visit),
            FirewallListFormat::SubdomainsIncluded => plain::subdomains(text, number, &mut name, &mut content, visit),
            FirewallListFormat::Hosts => plain::hosts(text, number, &mut name, &mut content, visit),
            FirewallListFormat::Adblock => adblock.line(text, number, &mut name, &mut content, visit),
            FirewallListFormat::Rpz => rpz.line(text, number, &mut content, visit),
        }
    }
    rpz.finish(&mut content);
    Ok(content)
}

/// Passes an entry on and counts it.
fn emit(content: &mut Content, visit: &mut dyn FnMut(&Entry), entry: &Entry) {
    content.entries += 1;
    visit(entry);
}

fn starts_as_html(text: &[u8]) -> bool {
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<head", b"<body", b"<!--"]
        .iter()
        .any(|start| text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
mod tests;
