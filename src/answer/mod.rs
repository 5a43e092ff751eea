//! The function that answers: pure, without I/O, lock, clock, randomness or allocation.
//!
//! Every transport, `zonal explain`, the tests and the benchmark call [`answer`] or its traced twin, which is the same
//! code with its eyes open.

mod autodefined;
mod cookie;
mod cut;
mod dns64;
mod endpoint;
pub mod known;
pub mod noted;
mod resolve;
mod same;
#[cfg(test)]
mod tests;
mod trace;
pub mod who;
mod whoami;
mod why;
mod zone;

use crate::{
    manifest::Protocol,
    snapshot::{
        Snapshot,
        forwarders::Forwarder,
        networks::{Found, Path, Refusal},
        zone::Zone,
    },
    wire::{
        codes::{class, ede, flag, rcode},
        query::{Edns, HEADER, LookupName, Packet, Query, flags},
        rdata::rtype,
        reply::{self, Ede, MAX_UDP, Opt, Reply},
    },
};
use known::{Forward, Known};
pub use noted::Noted;
use std::net::IpAddr;
pub use trace::{By, CacheState, Stage, Step, Story, Trace};
use who::Who;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
    /// In a stream over TLS (RFC 7858).
    Tls,
    /// In an HTTP/1.1 or HTTP/2 request (RFC 8484).
    Https,
    /// In a stream of a QUIC connection (RFC 9250).
    Quic,
    /// In an HTTP/3 request.
    H3,
}

impl Transport {
    /// All of them, with the words that metrics have for them.
    pub const WORDS: [(Transport, &str); 6] = [
        (Transport::Udp, "udp"),
        (Transport::Tcp, "tcp"),
        (Transport::Tls, "tls"),
        (Transport::Https, "https"),
        (Transport::Quic, "quic"),
        (Transport::H3, "h3"),
    ];

    /// The protocol that it belongs to, as Resolver endpoints name them.
    #[inline]
    pub fn protocol(self) -> Protocol {
        match self {
            Transport::Udp | Transport::Tcp => Protocol::Do53,
            Transport::Tls => Protocol::DoT,
            Transport::Https | Transport::H3 => Protocol::DoH,
            Transport::Quic => Protocol::DoQ,
        }
    }

    /// Whether connections have an idle timeout that clients are told (RFC 7828; RFC 9250, 5.5.2 forbids it there).
    fn has_keepalive(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }
}

/// Who sent a query, as far as the listener knows.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address that it came from.
    pub source: IpAddr,
    /// The port that it came from; 0 where that is not known.
    pub port: u16,
    /// The address that it arrived on.
    pub local: IpAddr,
    /// How it came.
    pub transport: Transport,
}

impl Client {
    /// Finds out who asks.
    #[inline]
    pub fn identify<'s>(&self, snapshot: &'s Snapshot) -> Result<Found<'s>, Refusal> {
        snapshot.networks.identify(self.source, self.local, self.transport.protocol())
    }

    /// The forwarder that it is, if it is one, and who that is itself.
    #[inline]
    pub fn forwarder<'s>(&self, snapshot: &'s Snapshot) -> Option<(&'s Forwarder, Found<'s>)> {
        snapshot.networks.forwarder(self.source, self.local, self.transport.protocol())
    }
}

/// What varies from answer to answer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: i64,
    /// Counts up by one with each query of a worker: rotation and shares come from it.
    pub draw: u32,
}

/// What was decided.
#[allow(clippy::large_enum_variant, reason = "the name to ask for is in it, as nothing is allocated")]
pub enum Outcome<'s> {
    /// The reply is in the buffer.
    Reply(Answered),
    /// Others have to be asked first; whoever knows then what they answered calls again.
    Forward(Forward<'s>),
    /// There is nothing to say to that.
    Drop,
}

/// A reply, and what counters and limits want to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// How long the reply is, in octets.
    pub len: usize,
    /// The view that answered: an index into [`Snapshot::view_labels`]; none for those who have none.
    pub view: Option<u32>,
    /// The extended RCODE.
    pub rcode: u16,
    /// What answered.
    pub kind: Kind,
    /// The address of an inbound endpoint that was asked: an index into [`Networks::entry_point_labels`]; none for others.
    ///
    /// [`Networks::entry_point_labels`]: crate::snapshot::networks::Networks::entry_point_labels
    pub entry_point: Option<u32>,
    /// Where the addresses of endpoints in it are, as the client sees it; none if there are none.
    pub locality: Option<Locality>,
    /// What the query's cookie proves of its sender.
    pub cookie: Cookie,
    /// Something in it is in demand and ends soon: it is to be asked for anew.
    pub refresh: bool,
}

/// What answered, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A private hosted zone.
    Zone,
    /// A name of an endpoint.
    Endpoint,
    /// An autodefined name.
    Autodefined,
    /// `whoami.zonal.`
    Whoami,
    /// Nothing: it would have to be forwarded.
    Forward,
    /// Nobody: the client has no view, or the query is none that we take.
    Refused,
    /// Nobody: the query is malformed.
    Malformed,
}

/// Where the addresses of endpoints are that a client is given. Traffic to another Availability Zone costs money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// All in the client's own AZ.
    SameAz,
    /// The client's AZ is not known.
    NoAz,
    /// At least one in another AZ.
    CrossAz,
}

/// What a query's DNS cookie proves (RFC 7873).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// There is none.
    Absent,
    /// A client cookie, without a server cookie of ours that holds.
    Client,
    /// A server cookie of ours: the source address is no forgery.
    Valid,
}

/// The least that a client takes by UDP without saying so, in octets (RFC 1035, 2.3.4).
const MIN_UDP: usize = 512;

/// Where in a zone's memory the answer to a query will be looked up. A worker that has many queries at hand asks for the
/// memory of all before it answers the first: that memory is large, and waiting for it is most of what an answer costs.
#[derive(Clone, Copy)]
pub struct Hint<'s> {
    zone: &'s Zone,
    hash: u64,
}

impl Hint<'_> {
    /// The first address that is looked at.
    #[inline]
    pub fn first_look(&self) -> *const u8 {
        self.zone.first_look(self.hash)
    }

    /// The second one, which the memory behind the first one tells.
    #[inline]
    pub fn second_look(&self) -> Option<*const u8> {
        self.zone.second_look(self.hash)
    }
}

/// Tells where the answer to a query will be looked up, if it is in a zone. `name` is room for the query's name.
#[inline]
pub fn hint<'s>(snapshot: &'s Snapshot, client: &Client, query: &[u8], name: &mut LookupName) -> Option<Hint<'s>> {
    if !name.fill(query.get(HEADER..)?) {
        return None;
    }
    if client.forwarder(snapshot).is_some() {
        return None; // who asks is not known before the whole is read
    }
    let found = client.identify(snapshot).ok()?;
    let zone = cut::zone_of(snapshot, snapshot.views.get(found.view())?, name)?;
    Some(Hint { zone, hash: name.hash(0) })
}

/// Answers one query: the packet `query` of `client`, into `reply`, whose length is the most that the transport carries
/// (512 octets at least). From a forwarder that speaks by PROXY protocol, the packet begins with the header, by every
/// transport. Of names that others answer for it says what `known` knows.
#[inline]
pub fn answer<'s, K: Known>(
    snapshot: &'s Snapshot,
    known: &K,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
) -> Outcome<'s> {
    answer_traced(snapshot, known, client, moment, query, reply, &mut ())
}

/// The same, telling `trace` how it came to the answer.
pub fn answer_traced<'s, K: Known, T: Trace>(
    snapshot: &'s Snapshot,
    known: &K,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
    trace: &mut T,
) -> Outcome<'s> {
    let packet = query;
    let Some((who, query)) = who::read(snapshot, client, packet) else { return Outcome::Drop };
    trace.query_at(packet.len() - query.len());
    match Packet::read(query, &mut LookupName::root()) {
        Packet::Query(query) => answer_query(snapshot, known, client, who, moment, query, reply, trace),
        Packet::Ignore => Outcome::Drop,
        Packet::NotImplemented(edns) => {
            let frame = Frame::new(snapshot, client, &who, moment, edns.as_ref());
            let outcome = frame.error(query, &[], reply, rcode::NOTIMP, Kind::Refused, None);
            // The other flags are those of QUERY, and may mean something else here.
            let bits = flag::QR | flags(query) & flag::OPCODE | rcode::NOTIMP;
            reply[2..4].copy_from_slice(&bits.to_be_bytes());
            outcome
        }
        // Whoever is able to verify it looks at what is refused like this.
        Packet::Signed { question, edns } => {
            let frame = Frame::new(snapshot, client, &who, moment, edns.as_ref());
            frame.error(query, question, reply, rcode::NOTAUTH, Kind::Refused, None)
        }
        Packet::Malformed { question, edns } => {
            let frame = Frame::new(snapshot, client, &who, moment, edns.as_ref());
            frame.error(query, question, reply, rcode::FORMERR, Kind::Malformed, None)
        }
        Packet::CookieOnly(edns) => {
            let mut frame = Frame::new(snapshot, client, &who, moment, Some(&edns));
            let Ok(asker) = who.identify(snapshot, Some(&edns)) else {
                return frame.error(query, &[], reply, rcode::FORMERR, Kind::Malformed, None);
            };
            frame.set_subnet(asker.subnet);
            let code = asker.refusal();
            match asker.found {
                Ok(_) => frame.error(query, &[], reply, rcode::NOERROR, Kind::Whoami, None),
                Err(refusal) => frame.error(query, &[], reply, code, Kind::Refused, Some(refused(refusal))),
            }
        }
    }
}

/// What a refused client is told: no name of any resource (docs/concepts/who-asks.md).
fn refused(refusal: Refusal) -> Ede<'static> {
    let text = match refusal {
        Refusal::Stranger => "your address is in no network that may ask at this address",
        Refusal::Ambiguous => "your address is in more than one network: ask at an address of your own network",
        Refusal::DnsDisabled => "DNS support is switched off for this network",
        Refusal::Transport => "this address does not take queries by this transport",
        Refusal::NotSpokenFor => "the forwarder may not speak for this client",
        Refusal::Wide => "the client subnet is not of one network",
        Refusal::Header => "from your address a PROXY protocol v2 header is required, and there is no good one",
        Refusal::Endpoint => "the VPC endpoint in the PROXY header is not known",
    };
    Ede { code: ede::PROHIBITED, text: [text, "", ""] }
}

/// What goes around every reply to a query: the OPT record and the size.
struct Frame<'a> {
    /// Recursion is offered at the entry point that was asked.
    recursive: bool,
    /// The slot of the entry point that was asked, if it has one.
    entry_point: Option<u32>,
    opt: Option<Opt<'a>>,
    most: usize,
    cookie: Cookie,
}

impl<'a> Frame<'a> {
    #[inline]
    fn new(snapshot: &'a Snapshot, client: &Client, who: &Who, moment: Moment, edns: Option<&Edns<'a>>) -> Frame<'a> {
        let node = &snapshot.node;
        // A delegation entry point offers no recursion, in errors either.
        let entry_point = snapshot.networks.entry_points.get(&who.client.local);
        let recursive = entry_point.is_none_or(|entry_point| entry_point.path != Path::InboundDelegation);
        let entry_point = entry_point.and_then(|entry_point| entry_point.slot);
        let udp_size = edns.map_or(MIN_UDP, |edns| (edns.udp_size as usize).clamp(MIN_UDP, MAX_UDP));
        let most = if client.transport == Transport::Udp { udp_size } else { u16::MAX as usize };
        let Some(edns) = edns else {
            return Frame { recursive, entry_point, opt: None, most, cookie: Cookie::Absent };
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
        Frame { recursive, entry_point, opt: Some(opt), most, cookie: state }
    }

    /// The client's subnet is told back, with the scope of the answer.
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
        kind: Kind,
        ede: Option<Ede>,
    ) -> Outcome<'static> {
        let mut reply = Reply::new(reply, packet, question, self.most, self.opt.as_ref());
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
            refresh: false,
        })
    }
}

/// Types that nobody can ask for in a zone (RFC 6895, 3.1), and what they get.
fn meta_type(qtype: u16) -> Option<u16> {
    match qtype {
        0 | rtype::OPT | 128 | 249 | 250 => Some(rcode::FORMERR),
        rtype::AXFR | rtype::IXFR => Some(rcode::REFUSED),
        253 | 254 => Some(rcode::NOTIMP),
        _ => None,
    }
}

#[allow(clippy::too_many_arguments, reason = "all that decides an answer")]
#[inline]
fn answer_query<'s, K: Known, T: Trace>(
    snapshot: &'s Snapshot,
    known: &K,
    sender: &Client,
    who: Who<'s>,
    moment: Moment,
    query: Query,
    buffer: &mut [u8],
    trace: &mut T,
) -> Outcome<'s> {
    let mut frame = Frame::new(snapshot, sender, &who, moment, query.edns.as_ref());
    let (packet, question) = (query.packet, query.question);
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return frame.error(packet, question, buffer, rcode::BADVERS, Kind::Malformed, None);
    }
    let Ok(asker) = who.identify(snapshot, query.edns.as_ref()) else {
        return frame.error(packet, question, buffer, rcode::FORMERR, Kind::Malformed, None);
    };
    frame.set_subnet(asker.subnet);
    trace.notes(Stage::Client, || who::told(snapshot, sender, &asker));
    let (client, refusal_code) = (&asker.client, asker.refusal());
    let found = match asker.found {
        Ok(found) => found,
        Err(refusal) => {
            trace.notes(Stage::Client, || trace::refusal(snapshot, client, refusal));
            return frame.error(packet, question, buffer, refusal_code, Kind::Refused, Some(refused(refusal)));
        }
    };
    trace.notes(Stage::Client, || trace::client(snapshot, client, &found));
    let Some(view) = snapshot.views.get(found.view()) else {
        return frame.error(packet, question, buffer, refusal_code, Kind::Refused, Some(refused(Refusal::Stranger)));
    };
    trace.asked(client, &found, view);
    if query.qclass != class::IN {
        let ede = Ede { code: ede::NOT_SUPPORTED, text: ["only class IN is served", "", ""] };
        return frame.error(packet, question, buffer, rcode::REFUSED, Kind::Refused, Some(ede));
    }
    if let Some(code) = meta_type(query.qtype) {
        let ede = match query.qtype {
            // The same for every name: which zones there are is not told.
            rtype::AXFR | rtype::IXFR => {
                Ede { code: ede::PROHIBITED, text: ["this client may not transfer a zone of this name", "", ""] }
            }
            _ => Ede { code: ede::NOT_SUPPORTED, text: ["this type cannot be asked for here", "", ""] },
        };
        let kind = if code == rcode::FORMERR { Kind::Malformed } else { Kind::Refused };
        return frame.error(packet, question, buffer, code, kind, Some(ede));
    }
    let mut reply = Reply::new(buffer, packet, question, frame.most, frame.opt.as_ref());
    if found.path != Path::InboundDelegation {
        reply.set(flag::RA);
    }
    let has_scope = asker.subnet.is_some_and(|(_, scope)| scope > 0);
    let resolved = resolve::resolve(snapshot, known, view, found, client, moment, query, reply, has_scope, trace);
    if let Some(forward) = resolved.forward {
        return Outcome::Forward(forward);
    }
    let (refresh, locality) = (resolved.refresh, resolved.locality);
    if resolved.same_for_all {
        frame.set_subnet(asker.subnet.map(|(option, _)| (option, 0)));
    }
    let rcode = if resolved.rcode == rcode::REFUSED { refusal_code } else { resolved.rcode };
    let len = resolved.reply.finish(rcode, frame.opt.as_ref(), resolved.why.ede());
    let (view, kind, cookie) = (Some(view.slot), resolved.kind, frame.cookie);
    Outcome::Reply(Answered { len, view, rcode, kind, entry_point: frame.entry_point, locality, cookie, refresh })
}

/// Makes of an error reply the truncated one that sends its client to TCP. Returns its length.
pub fn truncate(reply: &mut [u8], len: usize) -> usize {
    reply::to_truncated(reply, len)
}

/// Takes all records out of a finished reply but its OPT record, and sets TC. Returns its length.
pub fn truncate_large(reply: &mut [u8], len: usize) -> usize {
    reply::to_empty_truncated(reply, len)
}

/// Makes of an error reply the BADCOOKIE that invites its client to come back with the cookie in it (RFC 7873, 5.2.3).
/// Returns its length.
pub fn bad_cookie(reply: &mut [u8], len: usize) -> usize {
    reply::to_bad_cookie(reply, len)
}
