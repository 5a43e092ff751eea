//! The function that answers a query: pure, without I/O, lock, clock, randomness or allocation.
//!
//! Every transport, `zonal explain`, the tests and the benchmarks call [`answer`], or [`answer_traced`], which is the same
//! function with a listener, or [`answer_received`]. None asks other servers: that is the work of
//! [`forward`](crate::forward).
//!
//! ```text
//! packet -> identify: the client and its view -> resolve: the records -> Frame: OPT, size -> reply
//! ```

mod autodefined;
mod cache;
mod context;
mod cookie;
mod cut;
mod dns64;
mod endpoint;
mod explanation;
pub mod firewall;
mod group;
pub mod identify;
pub mod known;
pub mod name_servers;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod public_zone_tests;
pub mod query_log_trace;
mod records;
mod resolve;
mod scope;
#[cfg(test)]
mod tests;
mod trace;
mod whoami;
mod zone;

use crate::{
    manifest::Protocol,
    snapshot::{
        Snapshot,
        firewall::table::SearchHint,
        forwarders::Forwarder,
        networks::{ClientPath, MatchedClient, Refusal},
        zone::{CACHE_LINE, Zone, groups::Group},
    },
    wire::{
        codes::{class, ede, flag, rcode},
        query::{Edns, HEADER, LookupName, Packet, Query, flags},
        rdata::rtype,
        reply::{self, Ede, MAX_UDP_OCTETS, Opt, Reply},
    },
};
use context::Context;
use firewall::FirewallMatches;
use identify::{Sender, read_sender};
use known::{KnownAnswers, RoutedQuestion};
pub use query_log_trace::QueryLogTrace;
use resolve::Resolver;
use std::net::IpAddr;
pub use trace::{AnsweredBy, CacheState, ExplainTrace, Stage, Step, Trace};

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A UDP datagram.
    Udp,
    /// A TCP stream.
    Tcp,
    /// A TLS stream (RFC 7858).
    Tls,
    /// An HTTP/1.1 or HTTP/2 request (RFC 8484).
    Https,
    /// A stream of a QUIC connection (RFC 9250).
    Quic,
    /// An HTTP/3 request.
    H3,
}

impl Transport {
    /// All transports, with their labels in metrics.
    pub const LABELS: [(Transport, &str); 6] = [
        (Transport::Udp, "udp"),
        (Transport::Tcp, "tcp"),
        (Transport::Tls, "tls"),
        (Transport::Https, "https"),
        (Transport::Quic, "quic"),
        (Transport::H3, "h3"),
    ];

    /// Its protocol, as Resolver endpoints list it.
    #[inline]
    pub fn protocol(self) -> Protocol {
        match self {
            Transport::Udp | Transport::Tcp => Protocol::Do53,
            Transport::Tls => Protocol::DoT,
            Transport::Https | Transport::H3 => Protocol::DoH,
            Transport::Quic => Protocol::DoQ,
        }
    }

    /// Whether replies tell the idle time-out of the connection (RFC 7828). RFC 9250, 5.5.2, forbids it for QUIC.
    fn has_keepalive(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }
}

/// The addresses and the transport of a query.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The source address.
    pub source: IpAddr,
    /// The source port; 0 if it is not known.
    pub port: u16,
    /// The destination address.
    pub local: IpAddr,
    /// The transport.
    pub transport: Transport,
}

impl Client {
    /// Finds the client's network, AZ and view.
    #[inline]
    pub fn identify<'s>(&self, snapshot: &'s Snapshot) -> Result<MatchedClient<'s>, Refusal> {
        snapshot.networks.identify(self.source, self.local, self.transport.protocol())
    }

    /// The forwarder with these addresses, if there is one, and its own network, AZ and view.
    #[inline]
    pub fn forwarder<'s>(&self, snapshot: &'s Snapshot) -> Option<(&'s Forwarder, MatchedClient<'s>)> {
        snapshot.networks.forwarder(self.source, self.local, self.transport.protocol())
    }
}

/// The input of an answer that is not in the snapshot or the query.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: i64,
    /// A number that rises by one with each query of a worker. It rotates addresses and decides shares.
    pub draw: u32,
}

/// The decision about a query.
#[allow(clippy::large_enum_variant, reason = "the question has the whole name, because nothing is allocated")]
pub enum Outcome<'s> {
    /// The reply is in the buffer.
    Reply(Answered),
    /// Other servers have to be asked this question. With their answers the caller calls again.
    Forward(RoutedQuestion<'s>),
    /// The packet gets no reply.
    Drop,
}

/// The properties of a reply, for counters and limits.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The length of the reply, in octets; 0 if a DNS Firewall rule drops the query.
    pub len: usize,
    /// The client's view: an index into [`Snapshot::view_labels`]; none for a client without a view.
    pub view: Option<u32>,
    /// The extended RCODE.
    pub rcode: u16,
    /// The kind of resource that answered.
    pub kind: AnswerKind,
    /// The address of an inbound endpoint that was asked: an index into [`Networks::entry_point_labels`]; none for any other
    /// address.
    ///
    /// [`Networks::entry_point_labels`]: crate::snapshot::networks::Networks::entry_point_labels
    pub entry_point: Option<u32>,
    /// The farthest address of an endpoint in it; none without such an address.
    pub locality: Option<Locality>,
    /// The state of the query's cookie.
    pub cookie: Cookie,
    /// The DNS Firewall rules that matched.
    pub firewall: FirewallMatches,
    /// A cache entry in it is in demand and expires soon: the caller has it refreshed.
    pub refresh: bool,
}

/// The kind of resource that answered, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A private hosted zone.
    Zone,
    /// A name of a VPC endpoint.
    Endpoint,
    /// An autodefined name.
    Autodefined,
    /// `whoami.zonal.`
    Whoami,
    /// A DNS Firewall rule, which replaced the answer.
    Firewall,
    /// Other servers, or nobody, if the name is not forwarded.
    Forward,
    /// Nobody: the client has no view, or zonal does not support the query.
    Refused,
    /// Nobody: the query is malformed.
    Malformed,
}

/// The distance between a client and the addresses of endpoints in its answer. Traffic to another Availability Zone costs
/// money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// All addresses are in the client's AZ.
    SameAz,
    /// The client's AZ is not known.
    NoAz,
    /// At least one address is in another AZ.
    CrossAz,
}

/// The state of a query's DNS cookie (RFC 7873).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The query has none.
    Absent,
    /// A client cookie, without a valid server cookie.
    Client,
    /// A valid server cookie: the source address is not forged.
    Valid,
}

/// The size of a UDP reply that every client takes, in octets (RFC 1035, 2.3.4).
const MIN_UDP_OCTETS: usize = 512;

/// A packet that is to be answered.
pub struct Received<'p, 's> {
    /// Its octets.
    pub packet: &'p [u8],
    /// Room for the name of the query. It may have that name already.
    pub name: &'p mut LookupName,
    /// The client of the packet in this snapshot, as [`find_prefetch_hint`] found it.
    pub matched: Option<MatchedClient<'s>>,
}

/// The memory that the answer to a query will read. A worker with several queries prefetches the memory of all before it
/// answers the first: waiting for that memory is most of the time of an answer.
#[derive(Clone, Copy)]
pub enum PrefetchHint<'s> {
    /// The record sets of a zone.
    Zone {
        /// The zone.
        zone: &'s Zone,
        /// The hash of the name.
        hash: u64,
    },
    /// A group of record sets of a zone.
    Group {
        /// The zone.
        zone: &'s Zone,
        /// The group.
        group: &'s Group,
    },
    /// The names of DNS Firewall lists.
    Lists(SearchHint<'s>),
}

impl PrefetchHint<'_> {
    /// The number of stages of [`PrefetchHint::visit_addresses`].
    pub const STAGES: usize = 4;

    /// Visits the addresses of a stage. They are found in the memory of the stage before. False if the answer reads little
    /// memory.
    ///
    /// `draw` is that of the answer's [`Moment`].
    #[inline]
    pub fn visit_addresses(&mut self, stage: usize, draw: u32, visit: &mut impl FnMut(*const u8)) -> bool {
        let (zone, hash) = match self {
            PrefetchHint::Lists(hint) => return stage >= SearchHint::STAGES || hint.visit_addresses(stage, visit),
            PrefetchHint::Group { zone, group } => {
                zone.visit_members(group, draw, visit);
                return true;
            }
            PrefetchHint::Zone { zone, hash } => (*zone, *hash),
        };
        match stage {
            0 => visit(zone.first_address(hash)),
            1 => {
                if let Some(address) = zone.second_address(hash) {
                    visit(address);
                    visit(address.wrapping_add(CACHE_LINE));
                }
            }
            2 => {
                if let Some(group) = zone.probable_group(hash) {
                    group.visit(visit);
                    *self = PrefetchHint::Group { zone, group };
                }
            }
            _ => {}
        }
        true
    }
}

/// Finds the client, and the memory that the answer will read if a zone or DNS Firewall answers the query. Writes the query's
/// name into `name`.
#[inline]
pub fn find_prefetch_hint<'s>(
    snapshot: &'s Snapshot,
    client: &Client,
    query: &[u8],
    name: &mut LookupName,
) -> Option<(PrefetchHint<'s>, MatchedClient<'s>)> {
    if !name.fill(query.get(HEADER..)?) {
        return None;
    }
    if client.forwarder(snapshot).is_some() {
        return None; // the client is not known before the whole packet is read
    }
    let matched = client.identify(snapshot).ok()?;
    let view = snapshot.views.get(matched.view())?;
    if let Some(zone) = cut::probable_zone(snapshot, view, name) {
        return Some((PrefetchHint::Zone { zone, hash: name.hash(0) }, matched));
    }
    snapshot.firewall.of(view)?;
    Some((PrefetchHint::Lists(snapshot.firewall_lists.search_hint(name)?), matched))
}

/// Answers the query in the packet `query` of `client`, into `reply`. The length of `reply` is the maximum of the transport,
/// and at least 512 octets. A packet of a forwarder with PROXY protocol begins with the header, by every transport. `known`
/// has the answers of other servers.
#[inline]
pub fn answer<'s, K: KnownAnswers>(
    snapshot: &'s Snapshot,
    known: &K,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
) -> Outcome<'s> {
    answer_traced(snapshot, known, client, moment, query, reply, &mut ())
}

/// Answers like [`answer`], and tells `trace` each step.
pub fn answer_traced<'s, K: KnownAnswers, T: Trace>(
    snapshot: &'s Snapshot,
    known: &K,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
    trace: &mut T,
) -> Outcome<'s> {
    let received = Received { packet: query, name: &mut LookupName::root(), matched: None };
    answer_received(snapshot, known, client, moment, received, reply, trace)
}

/// Answers like [`answer_traced`], for a caller with room for the name of the query.
pub fn answer_received<'s, K: KnownAnswers, T: Trace>(
    snapshot: &'s Snapshot,
    known: &K,
    client: &Client,
    moment: Moment,
    received: Received<'_, 's>,
    reply: &mut [u8],
    trace: &mut T,
) -> Outcome<'s> {
    let Received { packet, name, matched } = received;
    let identified = matched.map(|matched| (Sender::identified(snapshot, client, matched), packet));
    let Some((sender, query)) = identified.or_else(|| read_sender(snapshot, client, packet)) else {
        return Outcome::Drop;
    };
    trace.query_at(packet.len() - query.len());
    match Packet::read(query, name) {
        Packet::Query(query) => answer_query(&sender, known, moment, query, reply, trace),
        Packet::Ignore => Outcome::Drop,
        Packet::NotImplemented(edns) => {
            let frame = Frame::new(&sender, moment, edns.as_ref());
            let outcome = frame.error(query, &[], reply, rcode::NOTIMP, AnswerKind::Refused, None);
            // The other flags are those of QUERY, and may mean something else here.
            let bits = flag::QR | flags(query) & flag::OPCODE | rcode::NOTIMP;
            reply[2..4].copy_from_slice(&bits.to_be_bytes());
            outcome
        }
        // `transfer` verifies signatures, and takes the queries that are refused like this.
        Packet::Signed { question, edns } => {
            let frame = Frame::new(&sender, moment, edns.as_ref());
            frame.error(query, question, reply, rcode::NOTAUTH, AnswerKind::Refused, None)
        }
        Packet::Malformed { question, edns } => {
            let frame = Frame::new(&sender, moment, edns.as_ref());
            frame.error(query, question, reply, rcode::FORMERR, AnswerKind::Malformed, None)
        }
        Packet::CookieOnly(edns) => {
            let mut frame = Frame::new(&sender, moment, Some(&edns));
            let Ok(client) = sender.identify(Some(&edns)) else {
                return frame.error(query, &[], reply, rcode::FORMERR, AnswerKind::Malformed, None);
            };
            frame.set_subnet(client.subnet);
            let code = client.refusal_rcode();
            match client.matched {
                Ok(_) => frame.error(query, &[], reply, rcode::NOERROR, AnswerKind::Whoami, None),
                Err(refusal) => frame.error(query, &[], reply, code, AnswerKind::Refused, Some(refused(refusal))),
            }
        }
    }
}

/// The extended error of a refused client. It names no resource (docs/concepts/who-asks.md).
fn refused(refusal: Refusal) -> Ede<'static> {
    let text = match refusal {
        Refusal::UnknownNetwork => "your address is in no network that is allowed to query this address",
        Refusal::SeveralNetworks => {
            "your address is in more than one network: query a resolver address of your own network"
        }
        Refusal::DnsDisabled => "DNS support is disabled for this network",
        Refusal::Transport => "this address does not serve this transport",
        Refusal::ClientNotAllowed => "the forwarder is not allowed to name this client",
        Refusal::PrefixTooShort => "the client subnet is in more than one network",
        Refusal::BadProxyHeader => {
            "a PROXY protocol v2 header is required from your address, and is missing or malformed"
        }
        Refusal::UnknownVpcEndpoint => "the VPC endpoint in the PROXY header is unknown",
    };
    Ede { code: ede::PROHIBITED, text: [text, "", ""] }
}

/// The parts of a reply that do not depend on the name: OPT record and size.
struct Frame<'a> {
    /// The entry point that was asked offers recursion.
    recursive: bool,
    /// The slot of the entry point that was asked; none for an address without a slot.
    entry_point: Option<u32>,
    opt: Option<Opt<'a>>,
    max_octets: usize,
    cookie: Cookie,
}

impl<'a> Frame<'a> {
    #[inline]
    fn new(sender: &Sender<'a, '_>, moment: Moment, edns: Option<&Edns<'a>>) -> Frame<'a> {
        let (snapshot, client) = (sender.snapshot, sender.peer);
        let node = &snapshot.node;
        // A delegation entry point offers no recursion, not even in an error.
        let entry_point = snapshot.networks.entry_points.get(&sender.client.local);
        let recursive = entry_point.is_none_or(|entry_point| entry_point.path != ClientPath::InboundDelegation);
        let entry_point = entry_point.and_then(|entry_point| entry_point.slot);
        let udp_size =
            edns.map_or(MIN_UDP_OCTETS, |edns| (edns.udp_size as usize).clamp(MIN_UDP_OCTETS, MAX_UDP_OCTETS));
        let max_octets = if client.transport == Transport::Udp { udp_size } else { u16::MAX as usize };
        let Some(edns) = edns else {
            return Frame { recursive, entry_point, opt: None, max_octets, cookie: Cookie::Absent };
        };
        let (cookie, state) = cookie::renew(node, client, moment, edns.cookie);
        let opt = Opt {
            query: *edns,
            nsid: if edns.nsid { &node.nsid } else { &[] },
            cookie,
            keepalive: (edns.keepalive && client.transport.has_keepalive()).then_some(node.tcp_keepalive),
            padded: client.transport.protocol() != Protocol::Do53,
            client_subnet: None,
        };
        Frame { recursive, entry_point, opt: Some(opt), max_octets, cookie: state }
    }

    /// Returns the client's subnet to it, with the scope of the answer.
    #[inline]
    fn set_subnet(&mut self, subnet: Option<(&'a [u8], u8)>) {
        if let Some(opt) = &mut self.opt {
            opt.client_subnet = subnet;
        }
    }

    /// A reply without records.
    fn error(
        &self,
        packet: &[u8],
        question: &[u8],
        reply: &mut [u8],
        code: u16,
        kind: AnswerKind,
        ede: Option<Ede>,
    ) -> Outcome<'static> {
        let mut reply = Reply::new(reply, packet, question, self.max_octets, self.opt.as_ref());
        if self.recursive {
            reply.set(flag::RA);
        }
        let len = reply.finish(code, self.opt.as_ref(), ede);
        Outcome::Reply(Answered {
            len,
            view: None,
            rcode: code,
            kind,
            entry_point: self.entry_point,
            locality: None,
            cookie: self.cookie,
            firewall: FirewallMatches::default(),
            refresh: false,
        })
    }
}

/// The RCODE for a type that no zone has (RFC 6895, 3.1); none for every other type.
fn meta_type(qtype: u16) -> Option<u16> {
    match qtype {
        0 | rtype::OPT | 128 | 249 | 250 => Some(rcode::FORMERR),
        rtype::AXFR | rtype::IXFR => Some(rcode::REFUSED),
        253 | 254 => Some(rcode::NOTIMP),
        _ => None,
    }
}

#[inline]
fn answer_query<'s, K: KnownAnswers, T: Trace>(
    sender: &Sender<'s, '_>,
    known: &K,
    moment: Moment,
    query: Query,
    buffer: &mut [u8],
    trace: &mut T,
) -> Outcome<'s> {
    let snapshot = sender.snapshot;
    let mut frame = Frame::new(sender, moment, query.edns.as_ref());
    let (packet, question) = (query.packet, query.question);
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return frame.error(packet, question, buffer, rcode::BADVERS, AnswerKind::Malformed, None);
    }
    let Ok(identified) = sender.identify(query.edns.as_ref()) else {
        return frame.error(packet, question, buffer, rcode::FORMERR, AnswerKind::Malformed, None);
    };
    frame.set_subnet(identified.subnet);
    trace.notes(Stage::Client, || explanation::client::forwarder(snapshot, sender.peer, &identified));
    let (client, refusal_rcode) = (identified.client, identified.refusal_rcode());
    let matched = match identified.matched {
        Ok(matched) => matched,
        Err(refusal) => {
            trace.notes(Stage::Client, || explanation::client::refusal(snapshot, &client, refusal));
            return frame.error(packet, question, buffer, refusal_rcode, AnswerKind::Refused, Some(refused(refusal)));
        }
    };
    trace.notes(Stage::Client, || explanation::client::client(snapshot, &client, &matched));
    let Some(view) = snapshot.views.get(matched.view()) else {
        return frame.error(
            packet,
            question,
            buffer,
            refusal_rcode,
            AnswerKind::Refused,
            Some(refused(Refusal::UnknownNetwork)),
        );
    };
    trace.client(&client, &matched, view);
    if query.qclass != class::IN {
        let ede = Ede { code: ede::NOT_SUPPORTED, text: ["only class IN is served", "", ""] };
        return frame.error(packet, question, buffer, rcode::REFUSED, AnswerKind::Refused, Some(ede));
    }
    if let Some(code) = meta_type(query.qtype) {
        let ede = match query.qtype {
            // The same text for every name, so that it does not tell which zones exist.
            rtype::AXFR | rtype::IXFR => Ede {
                code: ede::PROHIBITED,
                text: ["this client is not allowed to transfer a zone of this name", "", ""],
            },
            _ => Ede { code: ede::NOT_SUPPORTED, text: ["queries for this type are not supported", "", ""] },
        };
        let kind = if code == rcode::FORMERR { AnswerKind::Malformed } else { AnswerKind::Refused };
        return frame.error(packet, question, buffer, code, kind, Some(ede));
    }
    let mut reply = Reply::new(buffer, packet, question, frame.max_octets, frame.opt.as_ref());
    if matched.path != ClientPath::InboundDelegation {
        reply.set(flag::RA);
    }
    let needs_scope = identified.subnet.is_some_and(|(_, scope)| scope > 0);
    let prefix = identified.prefix();
    let context = Context { snapshot, view, matched, client, prefix, moment, needs_scope };
    let mut resolver = Resolver::new(context, known, query, reply, trace);
    let resolved = resolver.resolve();
    if let Some(route) = resolved.forward {
        return Outcome::Forward(resolver.question_to(route));
    }
    let summary = &resolver.summary;
    if needs_scope {
        let scope = |scope: u8| if summary.same_for_all { 0 } else { scope.max(summary.scope) };
        frame.set_subnet(identified.subnet.map(|(option, of_view)| (option, scope(of_view))));
    }
    let rcode = if resolved.rcode == rcode::REFUSED { refusal_rcode } else { resolved.rcode };
    let len = match resolved.is_dropped {
        true => 0,
        false => resolver.reply.finish(rcode, frame.opt.as_ref(), resolved.error.ede()),
    };
    Outcome::Reply(Answered {
        len,
        view: Some(view.slot),
        rcode,
        kind: resolved.kind,
        entry_point: frame.entry_point,
        locality: summary.locality,
        cookie: frame.cookie,
        firewall: summary.firewall,
        refresh: summary.refresh,
    })
}

/// Turns an error reply into a truncated one, which sends its client to TCP. Returns its length.
pub fn truncate(reply: &mut [u8], len: usize) -> usize {
    reply::to_truncated(reply, len)
}

/// Removes all records but OPT from a finished reply, and sets TC. Returns its length.
pub fn truncate_large(reply: &mut [u8], len: usize) -> usize {
    reply::to_empty_truncated(reply, len)
}

/// Turns an error reply into BADCOOKIE, so that the client repeats the query with the cookie in it (RFC 7873, 5.2.3).
/// Returns its length.
pub fn bad_cookie(reply: &mut [u8], len: usize) -> usize {
    reply::to_bad_cookie(reply, len)
}
