//! dnstap: messages in wire format, in Frame Streams (<https://dnstap.info>,
//! <https://farsightsec.github.io/fstrm/>).

use super::{
    entry::Entry,
    firewall::{self, Policy},
};
use crate::{answer::Transport, config::DnstapMessage};
use prost::Message as _;
use std::{
    io::{self, Read, Write},
    net::IpAddr,
    time::Duration,
};

/// The number of a message in `Message.Type` of dnstap.proto.
fn number(message: DnstapMessage) -> i32 {
    5 + message as i32
}

/// `Dnstap` of dnstap.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    message: Option<Message>,
    /// The kind of content; 1 is a message.
    #[prost(int32, required, tag = "15")]
    kind: i32,
}

/// `Message` of dnstap.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(int32, optional, tag = "2")]
    socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    response_message: Option<Vec<u8>>,
    #[prost(message, optional, tag = "15")]
    policy: Option<Policy>,
}

/// Encodes entries as dnstap messages of this node.
pub struct Encoder {
    /// The identity of the node.
    pub identity: Vec<u8>,
}

impl Encoder {
    /// Writes an entry as data frames, one for each selected kind of message. Returns the number of frames.
    pub fn frames(&self, entry: &Entry, out: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        for kind in DnstapMessage::ALL {
            let message = if kind.is_query() { entry.query } else { entry.reply };
            if !entry.kinds.has(kind) || message.is_empty() {
                continue;
            }
            let dnstap = Dnstap {
                identity: Some(self.identity.clone()),
                version: Some(concat!("zonal ", env!("CARGO_PKG_VERSION")).into()),
                message: Some(Message::new(kind, entry)),
                kind: 1,
            };
            out.extend_from_slice(&(dnstap.encoded_len() as u32).to_be_bytes());
            // Encoding into a vector cannot fail.
            let _ = dnstap.encode(out);
            count += 1;
        }
        count
    }
}

impl Message {
    fn new(kind: DnstapMessage, entry: &Entry) -> Message {
        let address = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (client, server) = (entry.client, entry.server);
        let known = |port: u16| (port != 0).then_some(port.into());
        let is_known = |address: &IpAddr| !address.is_unspecified();
        let forwarded = matches!(kind, DnstapMessage::ForwarderQuery | DnstapMessage::ForwarderResponse);
        let both = if forwarded { server.0 } else { client.0 };
        let time = if kind.is_query() { entry.time } else { entry.time + entry.latency };
        let mut message = Message {
            kind: number(kind),
            socket_family: Some(if both.is_ipv4() { 1 } else { 2 }),
            socket_protocol: Some(match entry.transport {
                Transport::Udp => 1,
                Transport::Tcp => 2,
                Transport::Tls => 3,
                Transport::Https | Transport::H3 => 4,
                Transport::Quic => 7,
            }),
            query_address: Some(client.0).filter(is_known).map(address),
            response_address: Some(server.0).filter(is_known).map(address),
            query_port: known(client.1),
            response_port: known(server.1),
            ..Message::default()
        };
        let seconds = |time: Duration| (Some(time.as_secs()), Some(time.subsec_nanos()));
        if kind.is_query() {
            (message.query_time_sec, message.query_time_nsec) = seconds(time);
            message.query_message = Some(entry.query.to_vec());
        } else {
            if !forwarded {
                (message.query_time_sec, message.query_time_nsec) = seconds(entry.time);
            }
            (message.response_time_sec, message.response_time_nsec) = seconds(time);
            message.response_message = Some(entry.reply.to_vec());
            message.policy = firewall::policy(entry.firewall, entry.reply);
        }
        message
    }
}

/// The content type of the data frames.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
/// The maximum length of a control frame, in octets.
const MAX_CONTROL_OCTETS: u32 = 512;

fn control(kind: u32, with_type: bool) -> Vec<u8> {
    let field = [&1_u32.to_be_bytes()[..], &(CONTENT_TYPE.len() as u32).to_be_bytes(), CONTENT_TYPE].concat();
    let field = if with_type { &field[..] } else { &[] };
    let len = 4 + field.len() as u32;
    [&[0; 4][..], &len.to_be_bytes(), &kind.to_be_bytes(), field].concat()
}

/// Runs the handshake with the reader: agrees on the content type.
pub fn handshake(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&control(READY, true))?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if number(0) != 0 || number(8) != ACCEPT || !(4..MAX_CONTROL_OCTETS).contains(&number(4)) {
        return Err(io::Error::other("the server does not answer in Frame Streams"));
    }
    let mut fields = vec![0; number(4) as usize - 4];
    stream.read_exact(&mut fields)?;
    if !fields.is_empty() && !fields.windows(CONTENT_TYPE.len()).any(|part| part == CONTENT_TYPE) {
        return Err(io::Error::other("the server does not accept dnstap"));
    }
    stream.write_all(&control(START, true))
}

/// Sends the end of the stream, and waits until the reader has confirmed it.
pub fn finish(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&control(STOP, false))?;
    stream.read_exact(&mut [0; 12])
}
