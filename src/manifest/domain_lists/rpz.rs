//! Response policy zones (draft-vixie-dnsop-dns-rpz-00), from a master file or record by record.
//!
//! A master file can have `$ORIGIN` and `$TTL`. `$INCLUDE` and `$GENERATE` are skipped: a list has one source, and a line is
//! not many entries.

use super::{
    AddressKind, AddressTrigger, Content, Detail, ENTRY_OCTETS, Entry, LocalRecords, RpzAction, Scope,
    ServerNameTrigger, emit,
    lines::MAX_LINE,
    names::{Reason, read_name},
};
use crate::wire::{
    Name,
    name::{labels, wire_len},
    rdata::{self, Token, rtype, scan, seconds, tokenise, type_from_octets, type_to_text},
};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The TTL of local data in a file that has none.
const DEFAULT_TTL: u32 = 60;

/// What a record of a response policy zone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A name, which is so many octets of the owner, without its root label.
    Name {
        /// The offset in the owner.
        start: usize,
        /// The end in the owner.
        end: usize,
        /// The names.
        scope: Scope,
    },
    /// Addresses of clients.
    Client(IpNet),
    /// Addresses in answers.
    Answer(IpNet),
    /// The names of name servers. The name is a part of the owner, without a root label.
    NsDname {
        /// The offset in the owner.
        start: usize,
        /// The end in the owner.
        end: usize,
        /// Whether it is for the names below that name only.
        below_only: bool,
    },
    /// The addresses of name servers.
    NsIp(IpNet),
    /// The apex of the zone.
    Apex,
}

/// The trigger of an owner in a zone. Both are in wire format and lower case.
///
/// # Errors
///
/// If the owner is not in the zone, or has an invalid address.
pub fn trigger_of(owner: &[u8], zone: &[u8]) -> Result<Trigger, &'static str> {
    let end = owner.len().checked_sub(zone.len()).filter(|&end| owner[end..] == *zone);
    let end = end.filter(|&end| starts_label(owner, end)).ok_or("the owner is outside the zone")?;
    if end == 0 {
        return Ok(Trigger::Apex);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    while at < end {
        let next = at + 1 + owner[at] as usize;
        parts.push(&owner[at + 1..next]);
        at = next;
    }
    let last = parts.pop().unwrap_or_default();
    match last {
        b"rpz-client-ip" => Ok(Trigger::Client(block_of(&parts).ok_or(BAD_ADDRESS)?)),
        b"rpz-ip" => Ok(Trigger::Answer(block_of(&parts).ok_or(BAD_ADDRESS)?)),
        b"rpz-nsip" => Ok(Trigger::NsIp(block_of(&parts).ok_or(BAD_NS_ADDRESS)?)),
        b"rpz-nsdname" => {
            let end = end - 1 - last.len();
            let below_only = owner.starts_with(b"\x01*");
            let start = if below_only { 2 } else { 0 };
            if end == 0 {
                Err("the name of the name server is missing")
            } else {
                Ok(Trigger::NsDname { start, end, below_only })
            }
        }
        _ => Ok(match owner.starts_with(b"\x01*") {
            true => Trigger::Name { start: 2, end, scope: Scope::Below },
            false => Trigger::Name { start: 0, end, scope: Scope::Exact },
        }),
    }
}

const BAD_NS_ADDRESS: &str = "expected a prefix length and a reversed address, such as `24.0.2.0.192.rpz-nsip`";
const BAD_ADDRESS: &str = "expected a prefix length and a reversed address, such as `24.0.2.0.192.rpz-ip`";

fn starts_label(name: &[u8], at: usize) -> bool {
    let mut offset = 0;
    while offset < at {
        offset += 1 + name[offset] as usize;
    }
    offset == at
}

/// The block of `24.0.2.0.192` or `64.zz.db8.2001`.
fn block_of(parts: &[&[u8]]) -> Option<IpNet> {
    let (len, parts) = parts.split_first()?;
    let text = |part: &[u8]| std::str::from_utf8(part).ok().map(str::to_string);
    let len: u8 = text(len)?.parse().ok()?;
    let is_v4 = parts.len() == 4 && !parts.contains(&&b"zz"[..]);
    let address = match is_v4 {
        true => {
            let octets = parts.iter().rev().map(|part| text(part)?.parse::<u8>().ok()).collect::<Option<Vec<_>>>()?;
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?))
        }
        false => {
            let mut words = Vec::with_capacity(8);
            let is_shortened = parts.contains(&&b"zz"[..]);
            for part in parts.iter().rev() {
                match *part {
                    b"zz" => words.extend(std::iter::repeat_n(0, 9usize.checked_sub(parts.len())?)),
                    part => words.push(u16::from_str_radix(&text(part)?, 16).ok()?),
                }
            }
            if is_shortened && parts.iter().filter(|part| **part == b"zz").count() != 1 {
                return None;
            }
            IpAddr::V6(Ipv6Addr::from(<[u16; 8]>::try_from(words).ok()?))
        }
    };
    Some(IpNet::new(address, len).ok()?.trunc())
}

/// Reads the entries of a response policy zone.
pub struct RpzReader {
    /// The apex in wire format and lower case; empty: not known yet.
    zone: Vec<u8>,
    origin: Name,
    owner: Vec<u8>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    /// An entry whose parentheses are open: its text without comments, its line, and their depth.
    open: Vec<u8>,
    open_line: u32,
    depth: usize,
    numbers: HashMap<LocalRecords, u32>,
}

impl RpzReader {
    /// Reads a zone with this apex; without it, the apex is the owner of the SOA record, or else the origin.
    pub fn new(zone: Option<&Name>) -> RpzReader {
        RpzReader {
            zone: zone.map(|zone| zone.to_lowercase().as_wire().to_vec()).unwrap_or_default(),
            origin: zone.cloned().unwrap_or_else(Name::root),
            owner: Vec::new(),
            default_ttl: None,
            last_ttl: None,
            open: Vec::new(),
            open_line: 0,
            depth: 0,
            numbers: HashMap::new(),
        }
    }

    /// Reads a line of a master file.
    pub(super) fn line(&mut self, text: &[u8], line: u32, content: &mut Content, visit: &mut dyn FnMut(&Entry)) {
        let Some((end, depth)) = end_of_content(text, self.depth) else {
            self.depth = 0;
            self.open.clear();
            return content.skip(line, text, "a quoted string does not end, or a parenthesis is closed twice");
        };
        let text = &text[..end];
        if self.depth == 0 && depth == 0 {
            return self.entry(text, line, content, visit);
        }
        if self.depth == 0 {
            self.open.clear();
            self.open_line = line;
        }
        self.depth = depth;
        self.open.extend_from_slice(&text[..text.len().min(MAX_LINE - self.open.len().min(MAX_LINE))]);
        self.open.push(b' ');
        if self.open.len() > MAX_LINE {
            self.depth = 0;
            return content.skip(
                self.open_line,
                &self.open.split_off(0),
                "the record is too long, or its parenthesis is not closed",
            );
        }
        if depth == 0 {
            let text = std::mem::take(&mut self.open);
            self.entry(&text, self.open_line, content, visit);
            self.open = text;
        }
    }

    /// Ends a master file.
    pub(super) fn finish(&mut self, content: &mut Content) {
        if self.depth > 0 {
            content.skip(self.open_line, &self.open, "the parenthesis is not closed");
        }
    }

    fn entry(&mut self, text: &[u8], line: u32, content: &mut Content, visit: &mut dyn FnMut(&Entry)) {
        let Ok(tokens) = tokenise(text) else { return content.skip(line, text, "the line cannot be split into words") };
        if tokens.is_empty() {
            return;
        }
        let result = match tokens[0].text.first() {
            Some(b'$') => self.directive(&tokens),
            _ => self.master_record(text, &tokens, line, content, visit),
        };
        if let Err(reason) = result {
            content.skip(line, text, reason);
        }
    }

    fn directive(&mut self, tokens: &[Token]) -> Result<(), Reason> {
        let argument = tokens.get(1).map(|token| token.text).ok_or("the directive is incomplete")?;
        match tokens[0].text.to_ascii_uppercase().as_slice() {
            b"$ORIGIN" => {
                self.origin = Name::parse(argument, Some(&self.origin)).map_err(|error| error.to_string())?;
                Ok(())
            }
            b"$TTL" => {
                self.default_ttl = Some(seconds(argument).ok_or("not a TTL")?);
                Ok(())
            }
            _ => Err("the directives of lists are `$ORIGIN` and `$TTL`".into()),
        }
    }

    fn master_record(
        &mut self,
        text: &[u8],
        tokens: &[Token],
        line: u32,
        content: &mut Content,
        visit: &mut dyn FnMut(&Entry),
    ) -> Result<(), Reason> {
        let mut at = 0;
        if !matches!(text.first(), Some(b' ' | b'\t')) {
            self.read_owner(tokens[0].text)?;
            at = 1;
        } else if self.owner.is_empty() {
            return Err("the owner is blank, but there is no previous record".into());
        }
        let mut ttl = None;
        let rtype = loop {
            let token = tokens.get(at).ok_or("the record type is missing")?;
            at += 1;
            if ttl.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(seconds(token.text).ok_or("not a TTL")?);
                self.last_ttl = ttl;
            } else if !token.text.eq_ignore_ascii_case(b"IN") {
                break type_from_octets(token.text).ok_or("an unknown record type, or a class other than IN")?;
            }
        };
        let data = &tokens[at..];
        // The usual record needs no memory of its own.
        let ttl = ttl.or(self.default_ttl).or(self.last_ttl).unwrap_or(DEFAULT_TTL);
        let rdata = rdata::parse(rtype, data, &self.origin).map_err(|error| error.message)?;
        let owner = std::mem::take(&mut self.owner);
        let result = self.record(&owner, rtype, ttl, &rdata, line, content, visit);
        self.owner = owner;
        result
    }

    fn read_owner(&mut self, text: &[u8]) -> Result<(), Reason> {
        let (plain, is_wildcard) = match text.strip_prefix(b"*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let mut owner = std::mem::take(&mut self.owner);
        // Most owners are names of hosts, which are read without an allocation.
        if !plain.contains(&b'\\') && plain.is_ascii() && !plain.ends_with(b".") && read_name(plain, &mut owner).is_ok()
        {
            owner.pop();
            owner.extend(self.origin.as_wire().iter().map(u8::to_ascii_lowercase));
            if is_wildcard {
                owner.splice(0..0, *b"\x01*");
            }
            if wire_len(&owner) != Some(owner.len()) {
                return Err("the owner is longer than 255 octets".into());
            }
            self.owner = owner;
            return Ok(());
        }
        let name = Name::parse(text, Some(&self.origin)).map_err(|error| error.to_string())?;
        self.owner = name.to_lowercase().as_wire().to_vec();
        Ok(())
    }

    /// Reads a record, whose owner is in wire format and lower case.
    ///
    /// # Errors
    ///
    /// The reason why it is no entry.
    #[allow(clippy::too_many_arguments)]
    pub fn record(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        data: &[u8],
        line: u32,
        content: &mut Content,
        visit: &mut dyn FnMut(&Entry),
    ) -> Result<(), Reason> {
        if self.zone.is_empty() {
            let apex = if rtype == rtype::SOA { owner } else { self.origin.as_wire() };
            self.zone = apex.to_ascii_lowercase();
        }
        let trigger = trigger_of(owner, &self.zone)?;
        let is_of_dnssec =
            matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3 | rtype::NSEC3PARAM | rtype::DNSKEY | rtype::DS);
        if trigger == Trigger::Apex || is_of_dnssec {
            return Ok(());
        }
        if matches!(rtype, rtype::DNAME | rtype::NS | rtype::SOA) {
            return Err(format!("{} is no action", type_to_text(rtype)).into());
        }
        let action = match self.action(owner, rtype, data) {
            Some(action) => action,
            None => RpzAction::Local(self.number(LocalRecords { rtype, ttl, rdata: data.into() }, content)?),
        };
        let mut of_address = |kind, block| -> Result<(), Reason> {
            content.hold(ENTRY_OCTETS)?;
            content.addresses.push(AddressTrigger { kind, block, line, action });
            Ok(())
        };
        match trigger {
            Trigger::Name { start, end, scope } => {
                let mut name = [0; crate::wire::name::MAX_NAME];
                let len = end - start;
                name[..len].copy_from_slice(&owner[start..end]);
                let name = &name[..=len];
                emit(content, visit, &Entry { name, scope, line, detail: Detail::Rpz(action) });
            }
            Trigger::Client(block) => return of_address(AddressKind::Client, block),
            Trigger::Answer(block) => return of_address(AddressKind::Answer, block),
            Trigger::NsIp(block) => return of_address(AddressKind::NameServer, block),
            Trigger::NsDname { start, end, below_only } => {
                content.hold(ENTRY_OCTETS + 3 * (end - start))?;
                let name = [&owner[start..end], &[0]].concat().into();
                content.server_names.push(ServerNameTrigger { name, below_only, line, action });
            }
            Trigger::Apex => {}
        }
        Ok(())
    }

    /// The action of a record that is no local data.
    fn action(&self, owner: &[u8], rtype: u16, data: &[u8]) -> Option<RpzAction> {
        if rtype != rtype::CNAME {
            return None;
        }
        let target = data.to_ascii_lowercase();
        // The old form of a pass: the alias is the trigger itself.
        let trigger = &owner[..owner.len() - self.zone.len()];
        if target.strip_suffix(&[0]) == Some(trigger) && !trigger.is_empty() {
            return Some(RpzAction::PassThru);
        }
        let mut parts = labels(&target);
        match (parts.next(), parts.next()) {
            (None, _) => Some(RpzAction::NxDomain),
            (Some(b"*"), None) => Some(RpzAction::NoData),
            (Some(b"rpz-passthru"), None) => Some(RpzAction::PassThru),
            (Some(b"rpz-drop"), None) => Some(RpzAction::Drop),
            (Some(b"rpz-tcp-only"), None) => Some(RpzAction::TcpOnly),
            _ => None,
        }
    }

    fn number(&mut self, records: LocalRecords, content: &mut Content) -> Result<u32, Reason> {
        if let Some(number) = self.numbers.get(&records) {
            return Ok(*number);
        }
        content.hold(ENTRY_OCTETS + 3 * records.rdata.len())?;
        let next = content.local.len() as u32;
        content.local.push(records.clone());
        self.numbers.insert(records, next);
        Ok(next)
    }
}

/// The end of a line without its comment, and the depth of the parentheses that are open there. None if a quoted string does
/// not end, or if more parentheses are closed than are open.
fn end_of_content(text: &[u8], mut depth: usize) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        match octet {
            b' ' | b'\t' | b'\r' => at += 1,
            b'(' => {
                depth += 1;
                at += 1;
            }
            b')' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b';' => return Some((at, depth)),
            _ => at = scan(text, at)?.1,
        }
    }
    Some((text.len(), depth))
}
