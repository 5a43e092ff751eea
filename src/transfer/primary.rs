//! The client of a primary: asks for the serial of a zone, and transfers a newer version, over TCP
//! or TLS, with TSIG if there is a key.

use super::{
    answer::{Reader, RecordLimits, Transferred},
    tsig::{Key, Session},
};
use crate::{
    clock::{now, random_seed},
    forward::upstream::Upstreams,
    manifest::{
        Primary, Protocol,
        record_file::RecordWriter,
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
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

/// The time-out of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of sending or receiving a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// The limits of a transfer.
#[derive(Clone, Debug)]
pub struct TransferLimits {
    /// Octets of all messages, and of the records in memory.
    pub octets: usize,
    /// For a DNS Firewall list: octets of all messages, and of the records in a file.
    pub list_octets: usize,
    /// The directory of that file.
    pub directory: PathBuf,
    /// Number of records.
    pub records: usize,
    /// Duration.
    pub time: Duration,
}

impl Default for TransferLimits {
    fn default() -> TransferLimits {
        TransferLimits {
            octets: 256 << 20,
            list_octets: 1 << 30,
            directory: std::env::temp_dir(),
            records: 20_000_000,
            time: Duration::from_secs(900),
        }
    }
}

/// The version that a primary has, compared with the one of the node.
#[derive(Debug)]
pub enum PrimaryVersion {
    /// The primary has the same version.
    Current,
    /// The primary has an older version, with this serial.
    Older(u32),
    /// The primary has a newer version.
    Newer {
        /// The zone.
        content: Content,
        /// Whether differences were transferred, and not the whole zone.
        is_difference: bool,
    },
}

/// The client of a primary.
pub struct PrimaryClient<'a> {
    /// The primary.
    pub primary: &'a Primary,
    /// The key that signs the requests.
    pub key: Option<&'a Arc<Key>>,
    /// The zone.
    pub zone: &'a Name,
    /// The version that the node has; without one, any version is newer.
    pub have: Option<&'a Content>,
    /// Opens TLS connections.
    pub upstreams: &'a Upstreams,
    /// The limits of a transfer.
    pub limits: &'a TransferLimits,
    /// Whether the zone is a DNS Firewall list. Its records may be in a file.
    pub is_list: bool,
}

/// A connection to a primary.
struct Connection {
    stream: Box<dyn Stream>,
    octets: usize,
}

/// A TCP or TLS connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a transfer has failed.
enum TransferError {
    /// The answer is wrong. A transfer of the whole zone may succeed.
    WrongAnswer(String),
    /// No other transfer would succeed.
    Failed(String),
}

impl TransferError {
    fn text(self) -> String {
        match self {
            TransferError::WrongAnswer(text) | TransferError::Failed(text) => text,
        }
    }
}

impl PrimaryClient<'_> {
    /// Opens a connection, with TLS if the primary has protocol DoT.
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

    /// Asks for the serial, and transfers a newer version. A transfer waits for one of `permits`.
    ///
    /// # Errors
    ///
    /// Why the primary has no usable answer.
    pub async fn run(&self, permits: &Semaphore) -> Result<PrimaryVersion, String> {
        let mut connection = self.connect().await?;
        let soa = self.soa(&mut connection).await?;
        match self.have {
            Some(have) if soa.serial == have.soa.serial => return Ok(PrimaryVersion::Current),
            Some(have) if !is_newer(soa.serial, have.soa.serial) => return Ok(PrimaryVersion::Older(soa.serial)),
            _ => {}
        }
        let _permit = permits.acquire().await.map_err(|_| "the server ends")?;
        let transfer = async {
            // Differences are applied to records in memory.
            if let Some(have) = self.have.filter(|have| have.file().is_none()) {
                match self.transfer(&mut connection, Some(have)).await {
                    Err(TransferError::WrongAnswer(text)) => {
                        let (zone, address) = (self.zone, self.primary.address());
                        tracing::debug!(%zone, %address, error = text, "incremental transfer failed");
                        // The rest of the answer must not be read as the next answer.
                        connection = Connection { octets: connection.octets, ..self.connect().await? };
                    }
                    transferred => return transferred.map_err(TransferError::text),
                }
            }
            self.transfer(&mut connection, None).await.map_err(TransferError::text)
        };
        let transferred = timeout(self.limits.time, transfer).await;
        let transferred =
            transferred.map_err(|_| format!("the transfer takes longer than {} s", self.limits.time.as_secs()))??;
        let (content, is_difference) = match transferred {
            Transferred::Current => return Ok(PrimaryVersion::Current),
            Transferred::Whole(content) => (content, false),
            Transferred::List(list) => {
                let (zone, max_octets) = (self.zone.clone(), self.limits.octets);
                let content = in_background(move || list.content(&zone, max_octets)).await?;
                (content, false)
            }
            Transferred::Changed(content) => (content, true),
        };
        match self.have {
            Some(have) if !is_newer(content.soa.serial, have.soa.serial) => {
                Ok(PrimaryVersion::Older(content.soa.serial))
            }
            _ => Ok(PrimaryVersion::Newer { content, is_difference }),
        }
    }

    /// A request; if it is signed, with the session that verifies the answer.
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
            return Err(format!("it answers {} to a query for the SOA record", mnemonic(response.rcode)));
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

    /// Transfers the whole zone, or the differences to `old`.
    async fn transfer(&self, connection: &mut Connection, old: Option<&Content>) -> Result<Transferred, TransferError> {
        // After a wrong answer to IXFR, AXFR may succeed. Without an answer, it would not.
        let wrong =
            |text: String| if old.is_some() { TransferError::WrongAnswer(text) } else { TransferError::Failed(text) };
        let (request, mut session) = self.request(if old.is_some() { rtype::IXFR } else { rtype::AXFR }, old);
        connection.send(&request).await.map_err(wrong)?;
        let (octets, name) = match self.is_list {
            true => (self.limits.list_octets, "limits.list_transfer_octets"),
            false => (self.limits.octets, "limits.transfer_octets"),
        };
        let list = self.is_list.then(|| (RecordWriter::new(self.limits.directory.clone()), octets as u64));
        let limits = RecordLimits { records: self.limits.records, octets: self.limits.octets, list };
        let mut reader = Reader::new(self.zone, old, limits);
        let mut is_first = true;
        loop {
            let response = self.response(connection, &request, &mut session, is_first).await.map_err(wrong)?;
            is_first = false;
            if response.rcode != rcode::NOERROR {
                return Err(wrong(format!("it answers {} to a request for a transfer", mnemonic(response.rcode))));
            }
            let [answer, ..] = response.sections;
            if answer.is_empty() {
                return Err(wrong("the transfer has a message without records".into()));
            }
            if connection.octets > octets {
                return Err(TransferError::Failed(format!("the transfer has more than {octets} octets: raise {name}")));
            }
            let mut transferred = None;
            for record in answer {
                if transferred.is_some() {
                    return Err(wrong("there are records after the last one".into()));
                }
                transferred = reader.push(record).map_err(wrong)?;
            }
            if let Some(writer) = reader.full_writer() {
                let directory = self.limits.directory.display();
                let mut full = std::mem::replace(writer, RecordWriter::new(PathBuf::new()));
                let written =
                    in_background(move || full.flush().map(|()| full).map_err(|error| error.to_string())).await;
                let text =
                    |error| TransferError::Failed(format!("its records cannot be written to {directory}: {error}"));
                *writer = written.map_err(text)?;
            }
            if reader.is_current() {
                transferred = Some(Transferred::Current);
            }
            let Some(transferred) = transferred else { continue };
            if session.is_some_and(|session| !session.is_complete()) {
                return Err(TransferError::Failed("the last message of the transfer is not signed".into()));
            }
            return Ok(transferred);
        }
    }

    /// The next message of the answer to the request.
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
            length = session.verify(&mut message, now() as u64).map_err(|error| error.to_string())?;
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
            // Errors and later messages may omit the question (RFC 5936, section 2.2.1).
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

/// Does work that waits for the disk, or takes long.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn mnemonic(code: u16) -> String {
    let known = rcode::MNEMONICS.iter().find(|(other, _)| *other == code);
    known.map_or_else(|| format!("RCODE {code}"), |(_, name)| name.to_string())
}
