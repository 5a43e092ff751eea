//! A DNS reply as text, parsed from a message, from dig's output or from a transcript.

use hickory_proto::{
    op::Message,
    rr::{Name, RData, Record, RecordType, rdata::opt::EdnsOption},
    serialize::binary::{BinDecodable, BinDecoder},
};
use std::fmt::{self, Display, Write};

/// A reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// In dig's order: `qr aa tc rd ra ad cd`.
    pub flags: String,
    /// The codes of its extended DNS errors (RFC 8914).
    pub ede: Vec<u16>,
    /// Its other EDNS options, by name.
    pub options: Vec<String>,
    /// `name TTL TYPE rdata`, sorted, because the order of records in a set has no meaning.
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
}

/// A type that hickory-proto does not know (RFC 6672).
const DNAME: u16 = 39;

const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE",
];

impl Reply {
    /// Parses a message, with the parser of hickory-proto.
    pub fn of_message(bytes: &[u8]) -> Reply {
        let message =
            Message::from_vec(bytes).unwrap_or_else(|e| panic!("hickory cannot parse the reply: {e}: {bytes:02x?}"));
        let m = &message.metadata;
        let flags = [
            (bytes[2] & 0x80 != 0, "qr"),
            (m.authoritative, "aa"),
            (m.truncation, "tc"),
            (m.recursion_desired, "rd"),
            (m.recursion_available, "ra"),
            (m.authentic_data, "ad"),
            (m.checking_disabled, "cd"),
        ];
        let mut reply = Reply {
            flags: flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect::<Vec<_>>().join(" "),
            answer: lines(&message.answers),
            authority: lines(&message.authorities),
            additional: lines(&message.additionals),
            ..Reply::default()
        };
        let low = usize::from(bytes[3] & 0x0f);
        let high = message.edns.as_ref().map_or(0, |e| usize::from(e.rcode_high()));
        reply.status = match high << 4 | low {
            16 => "BADVERS".into(),
            23 => "BADCOOKIE".into(),
            rcode => RCODES.get(rcode).map_or(format!("RCODE{rcode}"), |s| s.to_string()),
        };
        for (code, option) in message.edns.iter().flat_map(|e| e.options().as_ref()) {
            match (u16::from(*code), option) {
                (15, EdnsOption::Unknown(_, data)) => reply.ede.push(u16::from_be_bytes([data[0], data[1]])),
                (3, _) => reply.options.push("nsid".into()),
                (8, EdnsOption::Subnet(subnet)) => {
                    let (address, source, scope) = (subnet.addr(), subnet.source_prefix(), subnet.scope_prefix());
                    reply.options.push(format!("subnet={address}/{source}/{scope}"));
                }
                (10, _) => reply.options.push("cookie".into()),
                (11, _) => reply.options.push("keepalive".into()),
                (12, _) => reply.options.push("padding".into()),
                (other, _) => reply.options.push(format!("opt{other}")),
            }
        }
        reply.options.sort();
        reply
    }

    /// Parses dig's output. If dig got no reply, the result is empty and its status is dig's
    /// message.
    pub fn of_dig(text: &str) -> Reply {
        let mut reply = Reply::default();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix(";; ->>HEADER<<- ") {
                reply.status =
                    header.split("status: ").nth(1).unwrap_or_default().split(',').next().unwrap_or_default().into();
            } else if let Some(flags) = line.strip_prefix(";; flags: ") {
                reply.flags = flags.split(';').next().unwrap_or_default().into();
            } else if let Some(ede) = line.strip_prefix("; EDE: ") {
                reply.ede.extend(ede.split([' ', ':']).next().and_then(|code| code.parse::<u16>().ok()));
            } else if let Some(name) = line.strip_prefix(";; ").and_then(|l| l.strip_suffix(" SECTION:")) {
                section = name;
            } else if line.starts_with(";;") || line.is_empty() {
                section = "";
                if reply.status.is_empty() && (line.contains("timed out") || line.contains("communications error")) {
                    reply.status = line.trim_start_matches("; ").into();
                }
            } else if !line.starts_with(';') {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if let [name, ttl, _class, rtype, rdata @ ..] = fields.as_slice() {
                    let line = format!("{name} {ttl} {rtype} {}", rdata.join(" "));
                    match section {
                        "ANSWER" => reply.answer.push(line),
                        "AUTHORITY" => reply.authority.push(line),
                        "ADDITIONAL" => reply.additional.push(line),
                        _ => {}
                    }
                }
            }
        }
        for lines in [&mut reply.answer, &mut reply.authority, &mut reply.additional] {
            lines.sort();
        }
        if reply.status.is_empty() {
            reply.status = format!("no reply: {text}");
        }
        reply
    }

    /// Parses one line of a transcript. Returns false if the line is no part of a reply.
    pub fn take_line(&mut self, line: &str) -> bool {
        let Some((key, value)) = line.split_once(": ") else { return false };
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines = match key {
            "status" => {
                let Some((status, flags)) = value.split_once("; flags: ") else { return false };
                (self.status, self.flags) = (status.into(), flags.into());
                return true;
            }
            "EDE" => {
                let code: Option<u16> = value.split(' ').next().and_then(|c| c.parse().ok());
                self.ede.extend(code);
                return code.is_some();
            }
            "OPT" => {
                self.options.extend(value.split(' ').map(String::from));
                self.options.sort();
                return true;
            }
            "ANSWER" => &mut self.answer,
            "AUTHORITY" => &mut self.authority,
            "ADDITIONAL" => &mut self.additional,
            _ => return false,
        };
        lines.push(value);
        lines.sort();
        true
    }

    /// Returns whether another reply is the same, or the same after a few seconds in a cache.
    pub fn is_or_was(&self, other: &Reply) -> bool {
        let is_or_was = |own: &[String], others: &[String]| {
            own.len() == others.len() && own.iter().zip(others).all(|(own, other)| line_is_or_was(own, other))
        };
        let head =
            |reply: &Reply| (reply.status.clone(), reply.flags.clone(), reply.ede.clone(), reply.options.clone());
        head(self) == head(other)
            && is_or_was(&self.answer, &other.answer)
            && is_or_was(&self.authority, &other.authority)
            && is_or_was(&self.additional, &other.additional)
    }

    /// The data of the answers of one type.
    pub fn data(&self, rtype: &str) -> Vec<&str> {
        let fields = |line: &'_ String| line.split(' ').nth(2) == Some(rtype);
        self.answer.iter().filter(|l| fields(l)).filter_map(|l| l.splitn(4, ' ').nth(3)).collect()
    }
}

/// The format of transcripts.
impl Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status: {}; flags: {}", self.status, self.flags)?;
        for code in &self.ede {
            writeln!(f, "EDE: {code}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "OPT: {}", self.options.join(" "))?;
        }
        for (section, lines) in
            [("ANSWER", &self.answer), ("AUTHORITY", &self.authority), ("ADDITIONAL", &self.additional)]
        {
            for line in lines {
                writeln!(f, "{section}: {line}")?;
            }
        }
        Ok(())
    }
}

fn line_is_or_was(own: &str, other: &str) -> bool {
    let ttl = |line: &str| line.split(' ').nth(1).and_then(|ttl| ttl.parse::<u32>().ok());
    let rest = |line: &str| line.split(' ').enumerate().filter(|(i, _)| *i != 1).map(|(_, f)| f.to_string()).collect();
    let rests: [Vec<String>; 2] = [rest(own), rest(other)];
    let age = ttl(own).zip(ttl(other)).and_then(|(own, other)| own.checked_sub(other));
    own == other || rests[0] == rests[1] && age.is_some_and(|age| age <= 5)
}

fn lines(records: &[Record]) -> Vec<String> {
    let rtype = |record: &Record| match record.record_type() {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    };
    let mut lines: Vec<String> = records
        .iter()
        .map(|r| format!("{} {} {} {}", r.name, r.ttl, rtype(r), rdata(&r.data)).trim_end().to_string())
        .collect();
    lines.sort();
    lines
}

/// Record data as dig prints it.
fn rdata(data: &RData) -> String {
    match data {
        RData::TXT(txt) => {
            let mut text = String::new();
            for string in &txt.txt_data {
                let string = String::from_utf8_lossy(string).replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(text, "{}\"{string}\"", if text.is_empty() { "" } else { " " });
            }
            text
        }
        RData::Unknown { code, rdata } if u16::from(*code) == DNAME => {
            let name = Name::read(&mut BinDecoder::new(&rdata.anything)).expect("a DNAME's target");
            name.to_string()
        }
        RData::Unknown { rdata, .. } => {
            let hex: String = rdata.anything.iter().map(|octet| format!("{octet:02X}")).collect();
            format!("\\# {} {hex}", rdata.anything.len())
        }
        other => other.to_string(),
    }
}
