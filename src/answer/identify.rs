//! Identifies the client of a query: the sender of the packet, or a client behind a forwarder (docs/concepts/who-asks.md).
//!
//! A forwarder names its client in a PROXY protocol v2 header or in the client-subnet option. The packet's addresses tell
//! whether a sender is a forwarder of the manifest; from any other sender, header and option count for nothing.

use super::Client;
use crate::{
    manifest::ClientIdentity,
    snapshot::{
        Snapshot,
        cidrs::ClientPrefix,
        forwarders::Forwarder,
        networks::{MatchedClient, Refusal, ViewKey},
    },
    wire::{
        codes::{option::CLIENT_SUBNET, rcode},
        proxy::{self, Header},
        query::{Edns, LookupName, Packet},
        subnet::{self, SubnetError},
    },
};
use std::net::IpAddr;

/// The sender of a packet, before the query in it is read.
pub struct Sender<'s, 'p> {
    /// The snapshot that knows it.
    pub snapshot: &'s Snapshot,
    /// The addresses of the packet.
    pub peer: &'p Client,
    /// The client's addresses: those of the packet, or those in the PROXY header.
    pub client: Client,
    claim: Claim<'s>,
}

/// The claim of a packet's sender about the client.
#[derive(Clone, Copy)]
enum Claim<'s> {
    /// It is the client itself. The prefetch may have identified this client already.
    Own(Option<MatchedClient<'s>>),
    /// It is a forwarder. The query may have a client subnet; otherwise the forwarder is the client.
    Subnet(&'s Forwarder, MatchedClient<'s>),
    /// It is a forwarder, and the PROXY header names this client.
    Header(&'s Forwarder, Result<MatchedClient<'s>, Refusal>),
}

/// The client of a query.
pub struct IdentifiedClient<'s, 'q> {
    /// The client's addresses.
    pub client: Client,
    /// Its network, AZ and subnet; or why it is refused.
    pub matched: Result<MatchedClient<'s>, Refusal>,
    /// The client-subnet option of the query, and the scope of the answer in bits.
    pub subnet: Option<(&'q [u8], u8)>,
    /// The forwarder that named the client.
    pub forwarder: Option<&'s Forwarder>,
}

impl IdentifiedClient<'_, '_> {
    /// The client's address, as far as it is known: a client subnet has the first bits only.
    #[inline]
    pub fn prefix(&self) -> ClientPrefix {
        let whole = ClientPrefix::from(self.client.source);
        match (self.forwarder, self.subnet) {
            (Some(_), Some((option, _))) => ClientPrefix { len: option.get(2).copied().unwrap_or(whole.len), ..whole },
            _ => whole,
        }
    }

    /// The RCODE of a refusal. A forwarder that gets REFUSED for a subnet asks again without one (RFC 7871, 7.1.3). That
    /// query would be for the forwarder itself, and it would give the answer to all of its clients: it gets SERVFAIL.
    pub fn refusal_rcode(&self) -> u16 {
        if self.subnet.is_some() && self.forwarder.is_some() { rcode::SERVFAIL } else { rcode::REFUSED }
    }
}

/// Finds out who sent a packet, and returns the query behind the PROXY header, if there has to be one. None if the packet
/// has no query.
#[inline]
pub fn read_sender<'s, 'p, 'q>(
    snapshot: &'s Snapshot,
    peer: &'p Client,
    packet: &'q [u8],
) -> Option<(Sender<'s, 'p>, &'q [u8])> {
    match peer.forwarder(snapshot) {
        None => Some((Sender { snapshot, peer, client: *peer, claim: Claim::Own(None) }, packet)),
        Some((forwarder, matched)) => read_forwarder(snapshot, peer, packet, forwarder, matched),
    }
}

fn read_forwarder<'s, 'p, 'q>(
    snapshot: &'s Snapshot,
    peer: &'p Client,
    packet: &'q [u8],
    forwarder: &'s Forwarder,
    matched: MatchedClient<'s>,
) -> Option<(Sender<'s, 'p>, &'q [u8])> {
    let mut client = *peer;
    if forwarder.identity == ClientIdentity::EdnsClientSubnet {
        return Some((Sender { snapshot, peer, client, claim: Claim::Subnet(forwarder, matched) }, packet));
    }
    let (matched, query) = match proxy::read(packet) {
        Ok((Header::Local, query)) => (Ok(matched), query),
        Ok((Header::Proxied { source, port, destination, vpc_endpoint }, query)) => {
            (client.source, client.port) = (source, port);
            if snapshot.networks.entry_points.contains_key(&destination) {
                client.local = destination;
            }
            (named(snapshot, forwarder, &client, vpc_endpoint), query)
        }
        Err(error) => (Err(Refusal::BadProxyHeader), error.rest?),
    };
    Some((Sender { snapshot, peer, client, claim: Claim::Header(forwarder, matched) }, query))
}

fn named<'s>(
    snapshot: &'s Snapshot,
    forwarder: &Forwarder,
    client: &Client,
    vpc_endpoint: Option<&str>,
) -> Result<MatchedClient<'s>, Refusal> {
    let vpc = match vpc_endpoint {
        None => None,
        Some(id) => {
            let endpoint = snapshot.manifest.vpc_endpoints.get(id).ok_or(Refusal::UnknownVpcEndpoint)?;
            Some(snapshot.networks.vpc_at(&endpoint.vpc_id).ok_or(Refusal::UnknownVpcEndpoint)?)
        }
    };
    snapshot.networks.named(forwarder, client.source, client.local, client.transport.protocol(), vpc)
}

impl<'s, 'p> Sender<'s, 'p> {
    /// A sender that is not a forwarder. The prefetch has identified it.
    #[inline]
    pub fn identified(snapshot: &'s Snapshot, peer: &'p Client, matched: MatchedClient<'s>) -> Sender<'s, 'p> {
        Sender { snapshot, peer, client: *peer, claim: Claim::Own(Some(matched)) }
    }

    /// Identifies the client, now that the query's EDNS is known.
    #[inline]
    pub fn identify<'q>(&self, edns: Option<&Edns<'q>>) -> Result<IdentifiedClient<'s, 'q>, SubnetError> {
        let client = self.client;
        match self.claim {
            Claim::Own(matched) => {
                let matched = matched.map_or_else(|| client.identify(self.snapshot), Ok);
                Ok(IdentifiedClient { client, matched, subnet: None, forwarder: None })
            }
            Claim::Header(forwarder, matched) => {
                Ok(IdentifiedClient { client, matched, subnet: None, forwarder: Some(forwarder) })
            }
            Claim::Subnet(forwarder, matched) => {
                self.identify_by_subnet(forwarder, matched, edns.and_then(|edns| edns.client_subnet))
            }
        }
    }

    fn identify_by_subnet<'q>(
        &self,
        forwarder: &'s Forwarder,
        matched: MatchedClient<'s>,
        option: Option<&'q [u8]>,
    ) -> Result<IdentifiedClient<'s, 'q>, SubnetError> {
        let mut client = self.client;
        let Some(option) = option else {
            return Ok(IdentifiedClient { client, matched: Ok(matched), subnet: None, forwarder: None });
        };
        let Some(prefix) = subnet::read(option)? else {
            return Ok(IdentifiedClient { client, matched: Ok(matched), subnet: Some((option, 0)), forwarder: None });
        };
        // The option does not have the client's port.
        (client.source, client.port) = (prefix.addr(), 0);
        let (networks, protocol) = (&self.snapshot.networks, client.transport.protocol());
        let (matched, scope) = match networks.named_by_prefix(forwarder, prefix, client.local, protocol) {
            Ok((matched, scope)) => (Ok(matched), scope),
            // A refusal is for this prefix alone.
            Err(refusal) => (Err(refusal), prefix.max_prefix_len()),
        };
        Ok(IdentifiedClient { client, matched, subnet: Some((option, scope)), forwarder: Some(forwarder) })
    }
}

/// A template for further queries of one client: they identify the client as its first query did.
#[derive(Clone, Debug, Default)]
pub struct QueryTemplate {
    /// The PROXY header in front of the query; empty without one.
    header: Box<[u8]>,
    /// The data of the client-subnet option.
    subnet: Option<Box<[u8]>>,
    /// The client's view.
    pub view: Option<ViewKey>,
    /// The client's address; behind a forwarder, the one that the forwarder named.
    pub client: Option<IpAddr>,
}

impl QueryTemplate {
    /// The template of the query in a packet.
    pub fn of(snapshot: &Snapshot, client: &Client, packet: &[u8]) -> QueryTemplate {
        let Some((sender, query)) = read_sender(snapshot, client, packet) else { return QueryTemplate::default() };
        let mut name = LookupName::root();
        let edns = match sender.claim {
            Claim::Subnet(..) => match Packet::read(query, &mut name) {
                Packet::Query(query) => query.edns,
                _ => None,
            },
            _ => None,
        };
        let Ok(asker) = sender.identify(edns.as_ref()) else { return QueryTemplate::default() };
        QueryTemplate {
            header: packet[..packet.len() - query.len()].into(),
            subnet: asker.subnet.map(|(option, _)| option.into()),
            view: asker.matched.ok().map(|matched| matched.view()),
            client: Some(asker.client.source),
        }
    }

    /// The template of a forwarder's queries for a client. A sender that is no forwarder asks for itself.
    pub fn named(snapshot: &Snapshot, forwarder: &Client, client: IpAddr) -> QueryTemplate {
        let identity = forwarder.forwarder(snapshot).map(|(forwarder, _)| forwarder.identity);
        let subnet = match client {
            IpAddr::V4(client) => [&[0, 1, 32, 0], &client.octets()[..]].concat(),
            IpAddr::V6(client) => [&[0, 2, 128, 0], &client.octets()[..]].concat(),
        };
        match identity {
            None => QueryTemplate::default(),
            Some(ClientIdentity::EdnsClientSubnet) => {
                QueryTemplate { subnet: Some(subnet.into()), ..QueryTemplate::default() }
            }
            Some(ClientIdentity::ProxyProtocolV2) => {
                QueryTemplate { header: proxy::write(client, forwarder.local).into(), ..QueryTemplate::default() }
            }
        }
    }

    /// The query in a packet that begins with the same header.
    pub fn query_in<'q>(&self, packet: &'q [u8]) -> &'q [u8] {
        packet.get(self.header.len()..).unwrap_or_default()
    }

    /// A packet that asks for a name in wire format, with RD and EDNS, for the same client.
    pub fn packet(&self, name: &[u8], qtype: u16) -> Vec<u8> {
        let mut packet = [&self.header[..], b"\0\0\x01\0\0\x01\0\0\0\0\0\x01", name].concat();
        packet.extend_from_slice(&qtype.to_be_bytes());
        packet.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0\0");
        match &self.subnet {
            None => packet.push(0),
            Some(option) => {
                let len = option.len() as u8;
                packet.extend_from_slice(&[len + 4, 0, CLIENT_SUBNET as u8, 0, len]);
                packet.extend_from_slice(option);
            }
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::{Moment, Outcome, Transport, answer},
        manifest::Loaded,
        snapshot::compile,
        wire::{message::Message, rdata::rtype},
    };
    use std::sync::Arc;

    #[test]
    fn a_template_identifies_the_same_client() {
        let manifest = serde_json::json!({
            "vpcs": {
                "a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]},
                "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
            },
            "forwarders": {
                "e": {"vpc_id": "a", "cidr_blocks": ["10.1.0.20/32"], "speaks_for": ["b"]},
                "p": {"vpc_id": "a", "cidr_blocks": ["10.1.0.21/32"], "speaks_for": ["b"],
                      "client_identity": "proxy_protocol_v2"},
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let snapshot = compile(&loaded, &Arc::default(), None).unwrap().0;
        let plain = QueryTemplate::default().packet(b"\x01x\0", rtype::A);
        let by_subnet = QueryTemplate { subnet: Some([0, 1, 24, 0, 10, 2, 0][..].into()), ..QueryTemplate::default() };
        let header = proxy::write([10, 2, 0, 7].into(), [192, 0, 2, 1].into());
        for (source, packet, vpc) in [
            ([10, 1, 0, 7], plain.clone(), "a"),
            ([10, 1, 0, 20], plain.clone(), "a"),
            ([10, 1, 0, 20], by_subnet.packet(b"\x01x\0", rtype::A), "b"),
            ([10, 1, 0, 21], [&header[..], &plain].concat(), "b"),
        ] {
            let client =
                Client { source: source.into(), port: 0, local: [192, 0, 2, 1].into(), transport: Transport::Tcp };
            let template = QueryTemplate::of(&snapshot, &client, &packet);
            assert_eq!(template.view.map(|view| view.0), snapshot.networks.vpc_at(vpc), "{source:?}");
            assert_eq!(template.query_in(&packet)[..12], plain[..12], "{source:?}");
            let more = template.packet(b"\x06whoami\x05zonal\0", rtype::TXT);
            let mut reply = [0; 1232];
            let outcome = answer(&snapshot, &(), &client, Moment { now: 0, draw: 0 }, &more, &mut reply);
            let Outcome::Reply(answered) = outcome else { panic!("no reply") };
            let message = Message::read(&reply[..answered.len]).unwrap();
            let record = message.sections[0][0].to_string();
            assert!(record.contains(&format!("vpc={vpc}")), "{source:?}: {record}");
        }
    }
}
