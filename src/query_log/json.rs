//! Entries as JSON, in the schema of Route 53 Resolver's query logs, version 1.100000
//! (<https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html>), with one more object,
//! `zonal`.
//!
//! The code is written by hand for speed: it runs for each query, and mostly copies constants.

use super::{entry::Entry, firewall};
use crate::{
    answer::{AnsweredBy, CacheState, Transport, query_log_trace::read_answered_by},
    manifest::ClientAddress,
    wire::{
        codes::{class, option, pointer, rcode::MNEMONICS},
        query::{HEADER, skip_name},
        rdata::{self, rtype, type_to_text},
        response::read_record,
    },
};
use ipnet::IpNet;
use std::{io::Write as _, net::IpAddr};

/// Formats entries as JSON. Caches the text of the current second.
#[derive(Default)]
pub struct Formatter {
    /// The second of `timestamp`.
    second: u64,
    timestamp: String,
    /// The buffer for record data in presentation format.
    text: String,
}

/// The octets that need no escape in a name and in JSON.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut octet = 0x21;
    while octet < 0x7f {
        plain[octet] = !matches!(octet as u8, b'.' | b'\\' | b'"' | b';' | b'@' | b'$' | b'(' | b')');
        octet += 1;
    }
    plain
};

impl Formatter {
    /// Writes an entry as one line. False, and nothing written, for a query without a question.
    pub fn line(&mut self, entry: &Entry, address: ClientAddress, out: &mut Vec<u8>) -> bool {
        let Some((message, question)) = [entry.reply, entry.query].into_iter().find_map(question) else { return false };
        out.extend_from_slice(b"{\"version\":\"1.100000\",");
        out.extend_from_slice(entry.front.as_bytes());
        out.extend_from_slice(b",\"query_timestamp\":\"");
        self.timestamp(entry.time.as_secs(), out);
        out.extend_from_slice(b"\",\"query_name\":\"");
        name_at(message, HEADER, out);
        out.extend_from_slice(b"\",\"query_type\":\"");
        type_text(question.qtype, out);
        out.extend_from_slice(b"\",\"query_class\":\"");
        class_text(question.qclass, out);
        out.extend_from_slice(b"\",\"rcode\":\"");
        match MNEMONICS.iter().find(|(number, _)| *number == entry.rcode) {
            Some((_, mnemonic)) => out.extend_from_slice(mnemonic.as_bytes()),
            None => decimal(entry.rcode.into(), out),
        }
        out.extend_from_slice(b"\",\"answers\":[");
        let ttl = self.answers(entry.reply, question.end, out);
        out.push(b']');
        client(entry, address, out);
        out.extend_from_slice(b",\"transport\":\"");
        out.extend_from_slice(match entry.transport {
            Transport::Udp => b"UDP",
            Transport::Tcp => b"TCP",
            Transport::Tls => b"DOT",
            Transport::Https | Transport::H3 => b"DOH",
            Transport::Quic => b"DOQ",
        });
        out.extend_from_slice(b"\",\"srcids\":{");
        if entry.is_endpoint {
            out.extend_from_slice(b"\"resolver_endpoint\":");
            string(entry.entry_point, out);
        }
        out.push(b'}');
        firewall::members(entry.firewall, out);
        out.extend_from_slice(b",\"zonal\":{");
        out.extend_from_slice(entry.back.as_bytes());
        for (member, text) in [
            (&b",\"availability_zone_id\":"[..], entry.az),
            (b",\"subnet_id\":", entry.subnet),
            (b",\"entry_point\":", entry.entry_point),
        ] {
            if !text.is_empty() {
                out.extend_from_slice(member);
                string(text, out);
            }
        }
        answered_by(entry.answered_by, out);
        firewall::matches(entry.firewall, out);
        if let Some(state) = entry.cache {
            out.extend_from_slice(b",\"cache\":\"");
            out.extend_from_slice(CacheState::LABELS[state as usize].as_bytes());
            out.push(b'"');
        }
        if let Some(ttl) = ttl {
            out.extend_from_slice(b",\"ttl\":");
            decimal(ttl.into(), out);
        }
        if let Some((code, text)) = extended_error(entry.reply, question.end) {
            out.extend_from_slice(b",\"ede\":{\"code\":");
            decimal(code.into(), out);
            out.extend_from_slice(b",\"text\":");
            string(&String::from_utf8_lossy(text), out);
            out.push(b'}');
        }
        out.extend_from_slice(b",\"latency_us\":");
        let nanos = entry.latency.as_nanos() as u64;
        decimal(nanos / 1000, out);
        out.push(b'.');
        out.push(b'0' + (nanos / 100 % 10) as u8);
        out.extend_from_slice(b",\"generation\":");
        decimal(entry.generation, out);
        out.extend_from_slice(b"}}\n");
        true
    }

    /// Writes a time as ISO 8601 in UTC, to the second.
    fn timestamp(&mut self, second: u64, out: &mut Vec<u8>) {
        if second != self.second || self.timestamp.is_empty() {
            let time = jiff::Timestamp::from_second(second as i64).unwrap_or_default();
            (self.second, self.timestamp) = (second, time.to_string());
        }
        out.extend_from_slice(self.timestamp.as_bytes());
    }

    /// Writes the records of the answer section. Returns the smallest TTL.
    fn answers(&mut self, reply: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<u32> {
        let count = number(reply, 6)?;
        let mut smallest: Option<u32> = None;
        for position in 0..count {
            let fixed = skip_name(reply, at)?;
            let (kind, class, len) = (number(reply, fixed)?, number(reply, fixed + 2)?, number(reply, fixed + 8)?);
            let ttl = u32::from(number(reply, fixed + 4)?) << 16 | u32::from(number(reply, fixed + 6)?);
            let data = reply.get(fixed + 10..fixed + 10 + usize::from(len))?;
            smallest = Some(smallest.map_or(ttl, |smallest| smallest.min(ttl)));
            out.extend_from_slice(if position == 0 { b"{\"Rdata\":\"" } else { b",{\"Rdata\":\"" });
            self.data(reply, (at, fixed + 10), kind, data, out);
            out.extend_from_slice(b"\",\"Type\":\"");
            type_text(kind, out);
            out.extend_from_slice(b"\",\"Class\":\"");
            class_text(class, out);
            out.extend_from_slice(b"\"}");
            at = fixed + 10 + usize::from(len);
        }
        smallest
    }

    fn data(&mut self, reply: &[u8], (record, start): (usize, usize), kind: u16, data: &[u8], out: &mut Vec<u8>) {
        match (kind, data) {
            (rtype::A, &[a, b, c, d]) => ipv4([a, b, c, d], out),
            (rtype::CNAME | rtype::PTR | rtype::NS | rtype::DNAME, _) => name_at(reply, start, out),
            _ => {
                self.text.clear();
                let data = read_record(reply, record).map(|(record, _)| record.rdata);
                let _ = rdata::write(&mut self.text, kind, data.as_deref().unwrap_or_default());
                escaped(&self.text, out);
            }
        }
    }
}

struct Question {
    qtype: u16,
    qclass: u16,
    /// The position of its end in the message.
    end: usize,
}

/// The question of a message, if it has one.
fn question(message: &[u8]) -> Option<(&[u8], Question)> {
    if number(message, 4)? != 1 {
        return None;
    }
    let end = skip_name(message, HEADER)?;
    let (qtype, qclass) = (number(message, end)?, number(message, end + 2)?);
    Some((message, Question { qtype, qclass, end: end + 4 }))
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

/// The extended error of a reply whose question ends at `at`: its code and text.
fn extended_error(reply: &[u8], mut at: usize) -> Option<(u16, &[u8])> {
    let records = number(reply, 6)? as usize + number(reply, 8)? as usize + number(reply, 10)? as usize;
    for _ in 0..records {
        let fixed = skip_name(reply, at)?;
        let end = fixed + 10 + usize::from(number(reply, fixed + 8)?);
        if number(reply, fixed)? == rtype::OPT {
            let mut options = reply.get(fixed + 10..end)?;
            while let [a, b, c, d, rest @ ..] = options {
                let (data, next) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
                if u16::from_be_bytes([*a, *b]) == option::EDE {
                    let (code, text) = data.split_first_chunk()?;
                    return Some((u16::from_be_bytes(*code), text));
                }
                options = next;
            }
            return None;
        }
        at = end;
    }
    None
}

/// Writes the address of the client.
fn client(entry: &Entry, address: ClientAddress, out: &mut Vec<u8>) {
    let (source, port) = entry.client;
    match address {
        ClientAddress::None => {}
        ClientAddress::Truncated => {
            let length = if source.is_ipv4() { 24 } else { 48 };
            let network = IpNet::new(source, length).map_or(source, |net| net.network());
            out.extend_from_slice(b",\"srcaddr\":\"");
            ip(network, out);
            out.push(b'"');
        }
        ClientAddress::Full => {
            out.extend_from_slice(b",\"srcaddr\":\"");
            ip(source, out);
            out.push(b'"');
            if port != 0 {
                out.extend_from_slice(b",\"srcport\":\"");
                decimal(port.into(), out);
                out.push(b'"');
            }
        }
    }
}

/// Writes the source of the answer for each name of the chain.
fn answered_by(octets: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"answered_by\":[");
    for (position, (kind, id)) in read_answered_by(octets).enumerate() {
        out.extend_from_slice(if position == 0 { b"{\"" } else { b",{\"" });
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\":");
        match AnsweredBy::HAS_ID.contains(&kind) {
            true => string(&String::from_utf8_lossy(id), out),
            false => out.extend_from_slice(b"true"),
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Writes a text as a JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// Writes a text with the escapes of JSON, without quotes.
fn escaped(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|octet| matches!(octet, 0..0x20 | b'"' | b'\\' | 0x7f)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            octet @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', octet]),
            octet => drop(write!(out, "\\u{octet:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes the name at a position of a message, with the final dot, escaped for JSON.
fn name_at(message: &[u8], at: usize, out: &mut Vec<u8>) {
    let (mut at, mut lowest) = (at, at + 1);
    let start = out.len();
    while let Some(&len) = message.get(at) {
        match len {
            0 => break,
            pointer::MIN_FIRST_OCTET.. => {
                let Some(&second) = message.get(at + 1) else { break };
                let to = pointer::offset(len, second);
                // Pointers must go backwards, so that the loop ends.
                if to >= lowest.min(at) {
                    break;
                }
                (at, lowest) = (to, to);
            }
            len => {
                let Some(label) = message.get(at + 1..at + 1 + usize::from(len)) else { break };
                match label.iter().all(|octet| PLAIN[usize::from(*octet)]) {
                    true => out.extend_from_slice(label),
                    false => label.iter().for_each(|octet| name_octet(*octet, out)),
                }
                out.push(b'.');
                at += 1 + usize::from(len);
            }
        }
    }
    if out.len() == start {
        out.push(b'.');
    }
}

/// Writes an octet of a name in presentation format (RFC 1035, 5.1). JSON escapes the backslash again.
#[cold]
fn name_octet(octet: u8, out: &mut Vec<u8>) {
    match octet {
        octet if PLAIN[usize::from(octet)] => out.push(octet),
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', b'\\', b'\\', octet]),
        0x21..=0x7e => out.extend_from_slice(&[b'\\', b'\\', octet]),
        _ => drop(write!(out, "\\\\{octet:03}")),
    }
}

fn type_text(kind: u16, out: &mut Vec<u8>) {
    match kind {
        rtype::A => out.push(b'A'),
        rtype::AAAA => out.extend_from_slice(b"AAAA"),
        rtype::CNAME => out.extend_from_slice(b"CNAME"),
        _ => out.extend_from_slice(type_to_text(kind).as_bytes()),
    }
}

fn class_text(class: u16, out: &mut Vec<u8>) {
    match class {
        class::IN => out.extend_from_slice(b"IN"),
        class::CH => out.extend_from_slice(b"CH"),
        class::HS => out.extend_from_slice(b"HS"),
        class::NONE => out.extend_from_slice(b"NONE"),
        class::ANY => out.extend_from_slice(b"ANY"),
        _ => drop(write!(out, "CLASS{class}")),
    }
}

fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => ipv4(address.octets(), out),
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn ipv4(octets: [u8; 4], out: &mut Vec<u8>) {
    for (position, octet) in octets.into_iter().enumerate() {
        if position > 0 {
            out.push(b'.');
        }
        decimal(octet.into(), out);
    }
}

/// Writes a number in decimal digits.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::DnstapMessages, wire::name::name_text};
    use proptest::{collection::vec, prelude::*};
    use std::time::Duration;

    fn entry<'a>(reply: &'a [u8], text: &'a str) -> Entry<'a> {
        Entry {
            slots: 1,
            kinds: DnstapMessages::default(),
            generation: 7,
            time: Duration::from_secs(1_700_000_000),
            latency: Duration::from_nanos(12_345),
            client: ("fd00:1:2:3::7".parse().unwrap(), 5353),
            server: ("fd00::53".parse().unwrap(), 0),
            transport: Transport::Https,
            cache: Some(CacheState::Stale),
            rcode: 4095,
            front: "\"vpc_id\":\"v\"",
            back: "\"view\":\"v\"",
            az: text,
            subnet: "",
            entry_point: text,
            is_endpoint: true,
            answered_by: &[1, 1, b'r', 3, 0],
            firewall: &[],
            query: &[],
            reply,
        }
    }

    fn line(entry: &Entry, address: ClientAddress) -> Option<serde_json::Value> {
        let mut out = Vec::new();
        let is_written = Formatter::default().line(entry, address, &mut out);
        assert_eq!(is_written, !out.is_empty());
        is_written.then(|| serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {out:?}")))
    }

    fn with_question(labels: &[Vec<u8>], qtype: u16, counts: [u16; 3], records: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1];
        counts.iter().for_each(|count| message.extend(count.to_be_bytes()));
        for label in labels {
            message.push(label.len() as u8);
            message.extend(label);
        }
        message.push(0);
        message.extend(qtype.to_be_bytes());
        message.extend([0, 1]);
        message.extend(records);
        message
    }

    #[test]
    fn writes_every_member() {
        // The extended error comes after a cookie option.
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x14\0\x0a\0\x08octets08\0\x0f\0\x04\0\x03\"\x1b";
        let records = [&b"\xc0\x0c\0\x10\0\x01\0\0\0\x09\0\x04\x03a\"\x07"[..], opt].concat();
        let message = with_question(&[b"www".to_vec()], 16, [1, 0, 1], &records);
        let written = line(&entry(&message, "z\"\n"), ClientAddress::Truncated).unwrap();
        let expected = serde_json::json!({
            "version": "1.100000", "vpc_id": "v", "query_timestamp": "2023-11-14T22:13:20Z", "query_name": "www.",
            "query_type": "TXT", "query_class": "IN", "rcode": "4095",
            "answers": [{"Rdata": "\"a\\\"\\007\"", "Type": "TXT", "Class": "IN"}],
            "srcaddr": "fd00:1:2::", "transport": "DOH", "srcids": {"resolver_endpoint": "z\"\n"},
            "zonal": {
                "view": "v", "availability_zone_id": "z\"\n", "entry_point": "z\"\n",
                "answered_by": [{"rule": "r"}, {"internet": true}], "cache": "stale", "ttl": 9,
                "ede": {"code": 3, "text": "\"\u{1b}"}, "latency_us": 12.3, "generation": 7,
            },
        });
        assert_eq!(written, expected);
        let full = line(&entry(&message, ""), ClientAddress::Full).unwrap();
        assert_eq!((&full["srcaddr"], &full["srcport"]), (&"fd00:1:2:3::7".into(), &"5353".into()));
        let none = line(&entry(&message, ""), ClientAddress::None).unwrap();
        assert_eq!((none.get("srcaddr"), none.get("srcport")), (None, None));
        assert_eq!(line(&entry(&message[..12], ""), ClientAddress::Full), None, "a header alone");
    }

    proptest! {
        /// A name of any octets has its presentation format, and does not break the line.
        #[test]
        fn writes_names_of_any_octets(labels in vec(vec(any::<u8>(), 1..12), 0..5), qtype in any::<u16>()) {
            let message = with_question(&labels, qtype, [0, 0, 0], &[]);
            let written = line(&entry(&message, ""), ClientAddress::Full).unwrap();
            let end = skip_name(&message, HEADER).unwrap();
            prop_assert_eq!(written["query_name"].as_str().unwrap(), name_text(&message[HEADER..end]));
            prop_assert_eq!(written["query_type"].as_str().unwrap(), type_to_text(qtype));
        }

        /// Any message gives a line of valid JSON, or none.
        #[test]
        fn writes_valid_json_for_any_octets(mut message in vec(prop_oneof![Just(0u8), Just(0xc0), Just(12), Just(1), any::<u8>()], 0..120), asks in any::<bool>()) {
            if asks && message.len() > 6 {
                (message[4], message[5]) = (0, 1);
            }
            line(&entry(&message, ""), ClientAddress::Full);
        }
    }
}
