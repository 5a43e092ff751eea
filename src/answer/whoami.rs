//! `whoami.zonal.`: a TXT record that says how zonal has identified the client.

use super::{
    AnswerKind,
    autodefined::CONTACT,
    context::{Context, ExtendedError, Resolved},
    known::KnownAnswers,
    resolve::Resolver,
    trace::{AnsweredBy, Stage, Trace},
};
use crate::wire::{
    codes::{pointer, rcode},
    query::HEADER,
    rdata::rtype,
    reply::{Full, Reply, Section},
};
use std::fmt::Write;

/// The name, in lower case and wire format.
pub const NAME: &[u8] = b"\x06whoami\x05zonal\0";

/// Serial, refresh, retry, expire and minimum of the SOA record; nothing of this zone is cached.
const SOA: [u32; 5] = [1, 3600, 1200, 604_800, 0];

/// The size of the longest character-string with its length octet, in octets (RFC 1035, 3.3).
const STRING_OCTETS: usize = 256;

/// A character-string, written without allocation. Text that does not fit is left out.
struct Text {
    octets: [u8; STRING_OCTETS],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let take = text.len().min(STRING_OCTETS - self.len);
        self.octets[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers for `whoami.zonal.`
    pub fn whoami(&mut self) -> Resolved<'s> {
        self.summary.same_for_all = false;
        self.set_authoritative();
        self.trace.note(Stage::Cut, || "whoami.zonal. answers with the client as zonal has identified it".into());
        self.trace.answered_by(|| AnsweredBy::Whoami);
        let written = match self.qtype {
            rtype::TXT | rtype::ANY => write(&mut self.reply, pointer::to(HEADER), &self.context),
            _ => self.soa_record(Section::Authority, HEADER, 0, CONTACT, SOA),
        };
        if written.is_err() {
            self.reply.truncate();
        }
        self.finish(rcode::NOERROR, AnswerKind::Whoami, ExtendedError::None)
    }
}

/// Writes the TXT record, TTL 0.
fn write(reply: &mut Reply, owner: u16, context: &Context) -> Result<(), Full> {
    let Context { snapshot, client, matched, .. } = context;
    let networks = &snapshot.networks;
    let subnet = matched.subnet.map_or("-", |subnet| &networks.subnets[subnet as usize].id);
    let start = reply.position();
    let data = reply.record(Section::Answer, owner, rtype::TXT, 0, &[])?;
    let mut add = |name: &str, value: std::fmt::Arguments| {
        let mut text = Text { octets: [0; STRING_OCTETS], len: 1 };
        let _ = text.write_str(name).and_then(|()| text.write_fmt(value));
        text.octets[0] = (text.len - 1) as u8;
        reply.octets(&text.octets[..text.len])
    };
    let written = add("vpc=", format_args!("{}", networks.info(matched.vpc).network.id()))
        .and_then(|()| add("az=", format_args!("{}", matched.az.map_or("-", |az| snapshot.azs.id(az)))))
        .and_then(|()| add("path=", format_args!("{}", matched.path.label())))
        .and_then(|()| add("subnet=", format_args!("{subnet}")))
        .and_then(|()| add("source=", format_args!("{}", client.source)))
        .and_then(|()| {
            add("entry_point=", format_args!("{}", matched.entry_point.map_or("-", |entry_point| &entry_point.id)))
        })
        .and_then(|()| add("generation=", format_args!("{}", snapshot.generation)))
        .and_then(|()| if snapshot.is_stale { add("stale=", format_args!("true")) } else { Ok(()) });
    if written.is_err() {
        reply.rewind(start, Section::Answer, 0);
        return Err(Full);
    }
    reply.patch(data - 2, (reply.position() - data) as u16);
    Ok(())
}
