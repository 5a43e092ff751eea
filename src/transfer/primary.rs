//! Asks a primary whether there is a newer version of a zone, and has it transferred: over TCP or TLS, signed where there is
//! a key.

use super::{
    answer::{Reader, Transferred},
    tsig::{Key, Session},
};
use crate::{
    clock::{now, random_seed},
    forward::upstream::Upstreams,
    manifest::{
        Primary, Protocol,
        transferred::{Content, Soa, is_newer},
    },
    snapshot::routes::Target,
    wire::{
        Name,
        codes::{class, flag, pointer, rcode},
        query::{HEADER, flags},
        rdata::rtype,
        response::{self, Response, read_name},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

/// How long a connection may take, and each message.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a transfer may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Octets of messages, and of the records that are read out of them.
    pub octets: usize,
    /// Records.
    pub records: usize,
    /// Time.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { octets: 256 << 20, records: 20_000_000, time: Duration::from_secs(900) }
    }
}

/// What a primary says.
#[derive(Debug)]
pub enum Said {
    /// What we have is what it has.
    Current,
    /// What it has is older than what we have: it is not followed.
    Older(u32),
    /// It has something newer.
    Newer {
        /// The zone.
        content: Content,
        /// The differences were transferred, and not the whole zone.
        is_difference: bool,
    },
}

/// A primary, and what it is asked with.
pub struct Asking<'a> {
    /// The primary.
    pub primary: &'a Primary,
    /// The key that it is asked with.
    pub key: Option<&'a Arc<Key>>,
    /// The zone.
    pub zone: &'a Name,
    /// What we have; without it, anything is newer.
    pub have: Option<&'a Content>,
    /// What makes TLS.
    pub upstreams: &'a Upstreams,
    /// What a transfer may take.
    pub bounds: Bounds,
}

/// A connection to a primary.
struct Connection {
    stream: Box<dyn Stream>,
    octets: usize,
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a transfer came to nothing.
enum Trouble {
    /// Another kind of transfer may succeed.
    Nonsense(String),
    /// None would.
    Failed(String),
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Trouble::Nonsense(text) | Trouble::Failed(text) => text,
        }
    }
}

impl Asking<'_> {
    /// Opens a connection: TLS where the primary wants it.
    async fn connect(&self) -> Result<Connection, String> {
        let connecting = TcpStream::connect(self.primary.address());
        let stream = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("it cannot be reached: {error}")),
            Err(_) => return Err("it does not take up the connection in time".into()),
        };
        let _ = stream.set_nodelay(true);
        if self.primary.protocol == Protocol::Do53 {
            return Ok(Connection { stream: Box::new(stream), octets: 0 });
        }
        let target = Target {
            ip: self.primary.ip,
            port: self.primary.address().port(),
            protocol: self.primary.protocol,
            server_name: self.primary.server_name_indication.clone(),
        };
        let secured = timeout(CONNECT_TIMEOUT, self.upstreams.secure(&target, stream)).await;
        let stream = secured.map_err(|_| "it does not answer in time when TLS begins")??;
        Ok(Connection { stream: Box::new(stream), octets: 0 })
    }

    /// Asks for the serial, and for the zone if it is newer. A transfer begins when one of `places` is free.
    pub async fn run(&self, places: &Semaphore) -> Result<Said, String> {
        let mut connection = self.connect().await?;
        let soa = self.soa(&mut connection).await?;
        match self.have {
            Some(have) if soa.serial == have.soa.serial => return Ok(Said::Current),
            Some(have) if !is_newer(soa.serial, have.soa.serial) => return Ok(Said::Older(soa.serial)),
            _ => {}
        }
        let _place = places.acquire().await.map_err(|_| "the server ends")?;
        let transfer = async {
            if let Some(have) = self.have {
                match self.transfer(&mut connection, Some(have)).await {
                    Err(Trouble::Nonsense(text)) => {
                        tracing::debug!("IXFR of {} from {}: {text}", self.zone, self.primary.address());
                        // What is left of the answer must not be taken for the next one.
                        connection = Connection { octets: connection.octets, ..self.connect().await? };
                    }
                    transferred => return transferred.map_err(Trouble::text),
                }
            }
            self.transfer(&mut connection, None).await.map_err(Trouble::text)
        };
        let transferred = timeout(self.bounds.time, transfer).await;
        let transferred =
            transferred.map_err(|_| format!("the transfer takes longer than {} s", self.bounds.time.as_secs()))??;
        let (content, is_difference) = match transferred {
            Transferred::Current => return Ok(Said::Current),
            Transferred::Whole(content) => (content, false),
            Transferred::Changed(content) => (content, true),
        };
        match self.have {
            Some(have) if !is_newer(content.soa.serial, have.soa.serial) => Ok(Said::Older(content.soa.serial)),
            _ => Ok(Said::Newer { content, is_difference }),
        }
    }

    /// A request, and, if it is signed, what verifies its answer.
    fn request(&self, qtype: u16, have: Option<&Content>) -> (Vec<u8>, Option<Session>) {
        let soa = have.and_then(Content::soa_record);
        let mut message = (random_seed().0 as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, u8::from(soa.is_some()), 0, 0]);
        message.extend_from_slice(self.zone.as_wire());
        message.extend_from_slice(&[qtype.to_be_bytes(), class::IN.to_be_bytes()].concat());
        if let Some((ttl, data)) = soa {
            message.extend_from_slice(&pointer::to(HEADER).to_be_bytes());
            message.extend_from_slice(&[rtype::SOA.to_be_bytes(), class::IN.to_be_bytes()].concat());
            message.extend_from_slice(&ttl.to_be_bytes());
            message.extend_from_slice(&(data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        let session = self.key.map(|key| Session::request(key, &mut message, now() as u64));
        (message, session)
    }

    async fn soa(&self, connection: &mut Connection) -> Result<Soa, String> {
        let (request, mut session) = self.request(rtype::SOA, None);
        connection.send(&request).await?;
        let response = self.response(connection, &request, &mut session, true).await?;
        if response.rcode != rcode::NOERROR {
            return Err(format!("it answers {} to a query for the SOA record", told(response.rcode)));
        }
        if response.flags & flag::AA == 0 {
            return Err("it is not authoritative for the zone".into());
        }
        let is_soa = |record: &&response::Record| {
            record.rtype == rtype::SOA
                && record.class == class::IN
                && record.owner.eq_ignore_ascii_case(self.zone.as_wire())
        };
        let soa = response.sections[0].iter().find(is_soa);
        soa.and_then(|record| Soa::read(&record.rdata)).ok_or_else(|| "it has no SOA record for the zone".into())
    }

    /// Has the zone transferred; with `old`, what has changed in it.
    async fn transfer(&self, connection: &mut Connection, old: Option<&Content>) -> Result<Transferred, Trouble> {
        // All that is wrong with an answer to IXFR is a reason to try AXFR; what keeps answers from coming is not.
        let wrong = |text: String| if old.is_some() { Trouble::Nonsense(text) } else { Trouble::Failed(text) };
        let (request, mut session) = self.request(if old.is_some() { rtype::IXFR } else { rtype::AXFR }, old);
        connection.send(&request).await.map_err(wrong)?;
        let mut reader = Reader::new(self.zone, old, (self.bounds.records, self.bounds.octets));
        let mut is_first = true;
        loop {
            let response = self.response(connection, &request, &mut session, is_first).await.map_err(wrong)?;
            is_first = false;
            if response.rcode != rcode::NOERROR {
                return Err(wrong(format!("it answers {} to a request for a transfer", told(response.rcode))));
            }
            let [answer, ..] = response.sections;
            if answer.is_empty() {
                return Err(wrong("the transfer has a message without records".into()));
            }
            if connection.octets > self.bounds.octets {
                return Err(Trouble::Failed(format!("the transfer has more than {} octets", self.bounds.octets)));
            }
            let mut transferred = None;
            for record in answer {
                if transferred.is_some() {
                    return Err(wrong("there are records behind the last one".into()));
                }
                transferred = reader.push(record).map_err(wrong)?;
            }
            if reader.is_current() {
                transferred = Some(Transferred::Current);
            }
            let Some(transferred) = transferred else { continue };
            if session.is_some_and(|session| !session.is_complete()) {
                return Err(Trouble::Failed("the last message of the transfer is not signed".into()));
            }
            return Ok(transferred);
        }
    }

    /// The next message, if it is an answer to the request.
    async fn response(
        &self,
        connection: &mut Connection,
        request: &[u8],
        session: &mut Option<Session>,
        is_first: bool,
    ) -> Result<Response, String> {
        let mut message = connection.receive().await?;
        if message.len() < HEADER || flags(&message) & flag::QR == 0 {
            return Err("the answer cannot be read".into());
        }
        if message[..2] != request[..2] {
            return Err("the answer has another identifier than the question".into());
        }
        let mut length = message.len();
        if let Some(session) = session {
            length = session.verify(&mut message, now() as u64).map_err(|distrust| distrust.to_string())?;
        }
        let message = &message[..length];
        if flags(message) & (flag::OPCODE | flag::TC) != 0 {
            return Err("the answer is truncated, or one to something else".into());
        }
        let question = HEADER + self.zone.as_wire().len();
        let is_same = match (message[4], message[5]) {
            (0, 1) => {
                let mut name = Vec::new();
                let end = read_name(message, HEADER, &mut name);
                let rest = end.and_then(|end| message.get(end..end + 4));
                name.eq_ignore_ascii_case(self.zone.as_wire()) && rest == request.get(question..question + 4)
            }
            // Errors need not repeat the question, and later messages neither (RFC 5936, 2.2.1).
            (0, 0) => !is_first || flags(message) & flag::RCODE != 0,
            _ => false,
        };
        if !is_same {
            return Err("the answer is one to another question".into());
        }
        Response::read(message).ok_or_else(|| "the answer cannot be read".into())
    }
}

impl Connection {
    async fn send(&mut self, message: &[u8]) -> Result<(), String> {
        let framed = [&(message.len() as u16).to_be_bytes()[..], message].concat();
        let send = async {
            self.stream.write_all(&framed).await?;
            self.stream.flush().await
        };
        let sent = timeout(MESSAGE_TIMEOUT, send).await.map_err(|_| "it does not read".to_string())?;
        sent.map_err(|error| format!("the connection has failed: {error}"))
    }

    async fn receive(&mut self) -> Result<Vec<u8>, String> {
        let read = async {
            let mut length = [0; 2];
            self.stream.read_exact(&mut length).await?;
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            self.stream.read_exact(&mut message).await?;
            Ok::<_, std::io::Error>(message)
        };
        let read = timeout(MESSAGE_TIMEOUT, read).await.map_err(|_| "it does not answer in time".to_string())?;
        let message = read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it has closed the connection".to_string(),
            _ => format!("the connection has failed: {error}"),
        })?;
        self.octets += message.len() + 2;
        Ok(message)
    }
}

fn told(code: u16) -> String {
    let known = rcode::MNEMONICS.iter().find(|(other, _)| *other == code);
    known.map_or_else(|| format!("RCODE {code}"), |(_, mnemonic)| mnemonic.to_string())
}
