//! Who asks: a client for itself, or a forwarder for one that is behind it (docs/concepts/who-asks.md).

use super::Client;
use crate::{
    manifest::{ClientIdentity, connectivity::Network},
    snapshot::{
        Snapshot,
        forwarders::Forwarder,
        networks::{Found, Refusal, ViewKey},
    },
    wire::{
        codes::{option::CLIENT_SUBNET, rcode},
        proxy::{self, Header},
        query::{Edns, LookupName, Packet},
        subnet::{self, SubnetError},
    },
};
use std::net::IpAddr;

/// Who asks, as far as it is known before the query is read.
pub struct Who<'s> {
    /// The client's address, and the one that it asked: those of the packet, or those in the PROXY header.
    pub client: Client,
    says: Says<'s>,
}

#[derive(Clone, Copy)]
enum Says<'s> {
    /// What the packet's addresses say.
    Nothing,
    /// It comes from a forwarder, which may tell a subnet in the query.
    MaySubnet(&'s Forwarder, Found<'s>),
    /// It comes from a forwarder, whose header has told.
    Header(&'s Forwarder, Result<Found<'s>, Refusal>),
}

/// Who asks.
pub struct Asker<'s, 'q> {
    /// The client's address, and the one that it asked.
    pub client: Client,
    /// What is known of it.
    pub found: Result<Found<'s>, Refusal>,
    /// The option that named it, and the scope of what is answered.
    pub subnet: Option<(&'q [u8], u8)>,
    /// Who speaks for it.
    pub forwarder: Option<&'s Forwarder>,
}

impl Asker<'_, '_> {
    /// How a refusal is called. A forwarder that is told REFUSED for a subnet has to ask again without one (RFC 7871, 7.1.3),
    /// for itself then, and would hand what is its own to everybody: it is told SERVFAIL.
    pub fn refusal(&self) -> u16 {
        if self.subnet.is_some() && self.forwarder.is_some() { rcode::SERVFAIL } else { rcode::REFUSED }
    }
}

/// Finds out who speaks, and takes away what stands in front of the query. None if there is nothing that could be one.
#[inline]
pub fn read<'s, 'q>(snapshot: &'s Snapshot, client: &Client, packet: &'q [u8]) -> Option<(Who<'s>, &'q [u8])> {
    match client.forwarder(snapshot) {
        None => Some((Who { client: *client, says: Says::Nothing }, packet)),
        Some((forwarder, found)) => read_forwarded(snapshot, client, packet, forwarder, found),
    }
}

fn read_forwarded<'s, 'q>(
    snapshot: &'s Snapshot,
    client: &Client,
    packet: &'q [u8],
    forwarder: &'s Forwarder,
    found: Found<'s>,
) -> Option<(Who<'s>, &'q [u8])> {
    if forwarder.identity == ClientIdentity::EdnsClientSubnet {
        return Some((Who { client: *client, says: Says::MaySubnet(forwarder, found) }, packet));
    }
    let mut client = *client;
    let (found, query) = match proxy::read(packet) {
        Ok((Header::Local, query)) => (Ok(found), query),
        Ok((Header::Proxied { source, port, destination, vpc_endpoint }, query)) => {
            (client.source, client.port) = (source, port);
            if snapshot.networks.entry_points.contains_key(&destination) {
                client.local = destination;
            }
            (named(snapshot, forwarder, &client, vpc_endpoint), query)
        }
        Err(error) => (Err(Refusal::Header), error.rest?),
    };
    Some((Who { client, says: Says::Header(forwarder, found) }, query))
}

fn named<'s>(
    snapshot: &'s Snapshot,
    forwarder: &Forwarder,
    client: &Client,
    vpc_endpoint: Option<&str>,
) -> Result<Found<'s>, Refusal> {
    let vpc = match vpc_endpoint {
        None => None,
        Some(id) => {
            let endpoint = snapshot.manifest.vpc_endpoints.get(id).ok_or(Refusal::Endpoint)?;
            Some(snapshot.networks.vpc_at(&endpoint.vpc_id).ok_or(Refusal::Endpoint)?)
        }
    };
    snapshot.networks.named(forwarder, client.source, client.local, client.transport.protocol(), vpc)
}

impl<'s> Who<'s> {
    /// Finds out who asks, now that it is known what EDNS says.
    #[inline]
    pub fn identify<'q>(self, snapshot: &'s Snapshot, edns: Option<&Edns<'q>>) -> Result<Asker<'s, 'q>, SubnetError> {
        let Who { client, says } = self;
        match says {
            Says::Nothing => {
                let found = client.identify(snapshot);
                Ok(Asker { client, found, subnet: None, forwarder: None })
            }
            Says::Header(forwarder, found) => Ok(Asker { client, found, subnet: None, forwarder: Some(forwarder) }),
            Says::MaySubnet(forwarder, found) => {
                let option = edns.and_then(|edns| edns.client_subnet);
                by_subnet(snapshot, client, forwarder, found, option)
            }
        }
    }
}

fn by_subnet<'s, 'q>(
    snapshot: &'s Snapshot,
    mut client: Client,
    forwarder: &'s Forwarder,
    found: Found<'s>,
    option: Option<&'q [u8]>,
) -> Result<Asker<'s, 'q>, SubnetError> {
    let Some(option) = option else { return Ok(Asker { client, found: Ok(found), subnet: None, forwarder: None }) };
    let Some(prefix) = subnet::read(option)? else {
        return Ok(Asker { client, found: Ok(found), subnet: Some((option, 0)), forwarder: None });
    };
    // Of what its port was, the option says nothing.
    (client.source, client.port) = (prefix.addr(), 0);
    let protocol = client.transport.protocol();
    let (found, scope) = match snapshot.networks.named_by_prefix(forwarder, prefix, client.local, protocol) {
        Ok((found, scope)) => (Ok(found), scope),
        // A refusal is for nobody else.
        Err(refusal) => (Err(refusal), prefix.max_prefix_len()),
    };
    Ok(Asker { client, found, subnet: Some((option, scope)), forwarder: Some(forwarder) })
}

/// How the client is known, for those who read.
pub fn told(snapshot: &Snapshot, peer: &Client, asker: &Asker) -> Vec<String> {
    let Some(forwarder) = asker.forwarder else { return Vec::new() };
    let networks = &snapshot.networks;
    let name = |at: &u32| networks.info(*at).network.id();
    let kind = match networks.info(forwarder.network).network {
        Network::Vpc(_) => "VPC",
        Network::OnPremises(_) => "on-premises network",
    };
    let spoken_for: Vec<&str> = forwarder.speaks_for.iter().map(name).collect();
    vec![format!(
        "{} is forwarder {} in {kind} {}: by {} it may name clients of {}",
        peer.source,
        forwarder.id,
        name(&forwarder.network),
        forwarder.identity,
        spoken_for.join(", ")
    )]
}

/// For whom a query is asked: what is needed to ask more for the same client.
#[derive(Clone, Debug, Default)]
pub struct OnBehalf {
    /// The PROXY header in front.
    header: Box<[u8]>,
    /// The option with the client's subnet.
    subnet: Option<Box<[u8]>>,
    /// The client's view.
    pub view: Option<ViewKey>,
}

impl OnBehalf {
    /// That of a query.
    pub fn of(snapshot: &Snapshot, client: &Client, packet: &[u8]) -> OnBehalf {
        let Some((who, query)) = read(snapshot, client, packet) else { return OnBehalf::default() };
        let mut name = LookupName::root();
        let edns = match who.says {
            Says::MaySubnet(..) => match Packet::read(query, &mut name) {
                Packet::Query(query) => query.edns,
                _ => None,
            },
            _ => None,
        };
        let Ok(asker) = who.identify(snapshot, edns.as_ref()) else { return OnBehalf::default() };
        OnBehalf {
            header: packet[..packet.len() - query.len()].into(),
            subnet: asker.subnet.map(|(option, _)| option.into()),
            view: asker.found.ok().map(|found| found.view()),
        }
    }

    /// How a forwarder tells that it asks for a client of this address. One that is none tells nothing.
    pub fn named(snapshot: &Snapshot, forwarder: &Client, client: IpAddr) -> OnBehalf {
        let identity = forwarder.forwarder(snapshot).map(|(forwarder, _)| forwarder.identity);
        let subnet = match client {
            IpAddr::V4(client) => [&[0, 1, 32, 0], &client.octets()[..]].concat(),
            IpAddr::V6(client) => [&[0, 2, 128, 0], &client.octets()[..]].concat(),
        };
        match identity {
            None => OnBehalf::default(),
            Some(ClientIdentity::EdnsClientSubnet) => OnBehalf { subnet: Some(subnet.into()), ..OnBehalf::default() },
            Some(ClientIdentity::ProxyProtocolV2) => {
                OnBehalf { header: proxy::write(client, forwarder.local).into(), ..OnBehalf::default() }
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

    /// What is asked in addition is asked for the same client.
    #[test]
    fn more_is_asked_for_the_same_client() {
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
        let plain = OnBehalf::default().packet(b"\x01x\0", rtype::A);
        let by_subnet = OnBehalf { subnet: Some([0, 1, 24, 0, 10, 2, 0][..].into()), ..OnBehalf::default() };
        let header = proxy::write([10, 2, 0, 7].into(), [192, 0, 2, 1].into());
        for (source, packet, vpc) in [
            ([10, 1, 0, 7], plain.clone(), "a"),
            ([10, 1, 0, 20], plain.clone(), "a"),
            ([10, 1, 0, 20], by_subnet.packet(b"\x01x\0", rtype::A), "b"),
            ([10, 1, 0, 21], [&header[..], &plain].concat(), "b"),
        ] {
            let client =
                Client { source: source.into(), port: 0, local: [192, 0, 2, 1].into(), transport: Transport::Tcp };
            let on_behalf = OnBehalf::of(&snapshot, &client, &packet);
            assert_eq!(on_behalf.view.map(|view| view.0), snapshot.networks.vpc_at(vpc), "{source:?}");
            assert_eq!(on_behalf.query_in(&packet)[..12], plain[..12], "{source:?}");
            let more = on_behalf.packet(b"\x06whoami\x05zonal\0", rtype::TXT);
            let mut reply = [0; 1232];
            let outcome = answer(&snapshot, &(), &client, Moment { now: 0, draw: 0 }, &more, &mut reply);
            let Outcome::Reply(answered) = outcome else { panic!("no reply") };
            let message = Message::read(&reply[..answered.len]).unwrap();
            let said = message.sections[0][0].to_string();
            assert!(said.contains(&format!("vpc={vpc}")), "{source:?}: {said}");
        }
    }
}
