//! A name's addresses, for zonal's own needs: answered as for a client in a network of the
//! manifest.

use super::{Forwarding, respond};
use crate::{
    answer::{Client, identify::QueryTemplate},
    wire::{
        Name,
        codes::rcode,
        rdata::{rtype, type_to_text},
        response,
    },
};
use std::{net::IpAddr, sync::Arc};

/// The addresses that `client` gets for a name: the IPv4 addresses, or else the IPv6 addresses, in
/// the order of the answer. An error says why there is none.
pub async fn addresses(forwarding: &Arc<Forwarding>, client: &Client, name: &Name) -> Result<Vec<IpAddr>, String> {
    for qtype in [rtype::A, rtype::AAAA] {
        let packet = QueryTemplate::default().packet(name.as_wire(), qtype);
        let answer = respond(forwarding, client, &packet, None, None).await.ok_or("no answer")?;
        let answer = response::Response::read(&answer.reply[..answer.answered.len]).ok_or("the answer is malformed")?;
        if answer.rcode != rcode::NOERROR {
            return Err(format!("the query for {} fails: {}", type_to_text(qtype), rcode_text(answer.rcode)));
        }
        let of_type = answer.sections[0].iter().filter(|record| record.rtype == qtype);
        let addresses: Vec<IpAddr> = of_type.filter_map(|record| record.address()).collect();
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Err("the name has no address".into())
}

fn rcode_text(code: u16) -> String {
    let known = rcode::MNEMONICS.iter().find(|(number, _)| *number == code);
    known.map_or_else(|| format!("RCODE {code}"), |(_, mnemonic)| (*mnemonic).into())
}
