//! `whoami.zonal.`: who the resolver takes the client for.

use super::Client;
use crate::{
    snapshot::{Snapshot, networks::Found},
    wire::{
        rdata::rtype,
        reply::{Full, Reply, Section},
    },
};
use std::fmt::Write;

/// The name, in lower case and wire format.
pub const NAME: &[u8] = b"\x06whoami\x05zonal\0";

/// The longest character-string (RFC 1035, 3.3), with its length octet.
const STRING: usize = 256;

/// One character-string that is written without allocation; what does not fit is left out.
struct Text {
    octets: [u8; STRING],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let take = text.len().min(STRING - self.len);
        self.octets[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Writes the TXT record, TTL 0.
pub fn write(reply: &mut Reply, owner: u16, snapshot: &Snapshot, client: &Client, found: &Found) -> Result<(), Full> {
    let networks = &snapshot.networks;
    let subnet = found.subnet.map_or("-", |subnet| &networks.subnets[subnet as usize].id);
    let start = reply.position();
    let data = reply.record(Section::Answer, owner, rtype::TXT, 0, &[])?;
    let mut add = |name: &str, value: std::fmt::Arguments| {
        let mut text = Text { octets: [0; STRING], len: 1 };
        let _ = text.write_str(name).and_then(|()| text.write_fmt(value));
        text.octets[0] = (text.len - 1) as u8;
        reply.octets(&text.octets[..text.len])
    };
    let written = add("vpc=", format_args!("{}", networks.info(found.vpc).network.id()))
        .and_then(|()| add("az=", format_args!("{}", found.az.map_or("-", |az| snapshot.azs.id(az)))))
        .and_then(|()| add("path=", format_args!("{}", found.path.word())))
        .and_then(|()| add("subnet=", format_args!("{subnet}")))
        .and_then(|()| add("source=", format_args!("{}", client.source)))
        .and_then(|()| {
            add("entry_point=", format_args!("{}", found.entry_point.map_or("-", |entry_point| &entry_point.id)))
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
