//! Takeover: a new process replaces a running one, and no query is lost. The new process gets copies of the sockets, so
//! that it finds the packets and connections that wait in their queues. It gets them only when it has all else it needs.
//!
//! ```text
//! new -> old   hello
//! old -> new   sockets…                 the old process still answers, and makes no change any more
//! old -> new   frozen                   with the acknowledged state: the lock of the state directory, or a file
//! new -> old   ready                    all is read, checked and bound; nothing is written or answered yet
//! old -> new   yours                    from now on the new process takes packets and connections, and makes changes
//! old -> new   quic                     and QUIC packets: no earlier process reads them any more
//! ```
//! If the new process ends before it is ready, the old one continues as before. If the old process ends, the new one has
//! everything, and continues.

use super::inherited::Inherited;
use crate::control_plane::{
    Message,
    freeze::{Decision, FreezeRequest, Frozen},
};
use anyhow::{Context, bail};
use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg, sockopt::socket_peercred,
    },
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, Permissions},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};
use tokio::sync::{mpsc::Sender, oneshot, watch};

/// The messages of the two processes. A change of the messages raises the number in this one.
const HELLO: &str = "zonal takeover 1";
const SOCKETS: &str = "sockets";
const FROZEN_DIRECTORY: &str = "frozen: directory";
const FROZEN_MEMORY: &str = "frozen: memory";
const READY: &str = "ready";
const YOURS: &str = "yours";
const QUIC: &str = "quic";
/// The error when the old process closes the connection.
const CLOSED: &str = "the running zonal refuses the takeover; its log says why";
/// Pauses between attempts, in milliseconds, when the old process closes the connection at once: it may be ending.
const RETRY_PAUSES_MS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];
/// The maximum number of sockets in one message.
const MAX_SOCKETS_PER_MESSAGE: usize = 64;
/// How long the old process waits for the first message of a new one.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the old process waits until the new one is ready. The new one reads the manifest meanwhile, and the old one
/// makes no changes.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

fn send(peer: &Socket, text: &str, descriptors: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many sockets in one message"));
    }
    sendmsg(peer, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(peer: &Socket) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut text = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        retry_on_intr(|| recvmsg(peer, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    match message.bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => Ok((String::from_utf8_lossy(&text[..len]).into_owned(), descriptors)),
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None)
}

/// The running process, as the new process sees it.
pub struct OldProcess(Socket);

impl OldProcess {
    /// Finds the process that listens at a path. It makes no changes from then on, and passes its sockets and the
    /// acknowledged state. None if no process listens there. Waits for a process that is just ending.
    pub fn find(path: &Path, inherited: &mut Inherited) -> anyhow::Result<Option<(OldProcess, Frozen)>> {
        let mut pauses = RETRY_PAUSES_MS.iter();
        loop {
            let Some(found) = OldProcess::call(path)? else { return Ok(None) };
            match (found.receive_first(), pauses.next()) {
                (Ok(first), _) => return found.freeze(first, inherited).map(|frozen| Some((found, frozen))),
                (Err(error), Some(pause)) if is_closed(&error) => std::thread::sleep(Duration::from_millis(*pause)),
                (Err(error), _) => return Err(error).context(CLOSED),
            }
        }
    }

    fn call(path: &Path) -> anyhow::Result<Option<OldProcess>> {
        let connect = || {
            let socket = socket()?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok::<_, io::Error>(socket)
        };
        match connect() {
            Ok(socket) => Ok(Some(OldProcess(socket))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| {
                format!("takeover socket {}: cannot connect; check `takeover_socket`", path.display())
            }),
        }
    }

    fn receive_first(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        send(&self.0, HELLO, &[])?;
        receive(&self.0)
    }

    fn freeze(&self, mut received: (String, Vec<OwnedFd>), inherited: &mut Inherited) -> anyhow::Result<Frozen> {
        loop {
            let (text, descriptors) = received;
            let mut descriptors = descriptors.into_iter();
            match (&*text, descriptors.next()) {
                (SOCKETS, first) => first.into_iter().chain(descriptors).for_each(|socket| inherited.add(socket)),
                (FROZEN_DIRECTORY, Some(lock)) => return Ok(Frozen::Directory(lock.into())),
                (FROZEN_MEMORY, Some(file)) => return Ok(Frozen::Memory(file.into())),
                _ => bail!("the running zonal refuses the takeover: it sends `{}`", text.escape_debug()),
            }
            received = receive(&self.0).context(CLOSED)?;
        }
    }

    /// Takes over: when this returns, this process answers. It may read QUIC packets when the value becomes true.
    pub fn take_over(self) -> anyhow::Result<watch::Receiver<bool>> {
        // An old process that does not answer has ended, and everything belongs to this one.
        let _ = send(&self.0, READY, &[]).and_then(|()| receive(&self.0));
        let (free, is_free) = watch::channel(false);
        std::thread::Builder::new().name("takeover".into()).spawn(move || {
            let _ = receive(&self.0);
            free.send_replace(true);
        })?;
        Ok(is_free)
    }
}

/// The socket at which a new process asks for the takeover. It has its path from [`TakeoverListener::open`] on.
pub struct TakeoverListener {
    path: PathBuf,
    draft: PathBuf,
    listener: Socket,
}

impl TakeoverListener {
    /// Binds the socket to a temporary path. Only the user of this process may connect: the sockets give access to all clients.
    pub fn new(path: &Path) -> anyhow::Result<TakeoverListener> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let bind = || {
            let _ = fs::remove_file(&draft);
            let listener = socket()?;
            listener.bind(&SockAddr::unix(&draft)?)?;
            fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
            listener.listen(8)?;
            Ok::<_, io::Error>(listener)
        };
        let listener = bind()
            .with_context(|| format!("takeover socket {}: cannot listen; check `takeover_socket`", draft.display()))?;
        Ok(TakeoverListener { path: path.into(), draft, listener })
    }

    /// Moves the socket to its path, and starts the thread that serves new processes.
    pub fn open(self, messages: mpsc::Sender<Message>, requests: Sender<TakeoverRequest>) -> anyhow::Result<()> {
        fs::rename(&self.draft, &self.path)
            .with_context(|| format!("takeover socket {}: cannot be created", self.path.display()))?;
        let serve = move || {
            loop {
                let result = self.listener.accept().map_err(anyhow::Error::from);
                match result.and_then(|(peer, _)| hand_over(peer, &messages, &requests)) {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "takeover failed"),
                }
            }
        };
        std::thread::Builder::new().name("takeover".into()).spawn(serve)?;
        Ok(())
    }
}

/// A request of the takeover thread to the server.
pub enum TakeoverRequest {
    /// Send copies of all sockets.
    SendSockets(oneshot::Sender<Vec<OwnedFd>>),
    /// Answer no more queries: the new process is ready.
    Stop(NewProcess),
}

/// The new process, as the old process sees it.
pub struct NewProcess {
    /// The process identifier.
    pub id: u32,
    peer: Socket,
}

impl NewProcess {
    /// Tells the new process to take packets and connections.
    pub fn start(&self) {
        // A new process that has ended meanwhile is started again by its supervisor.
        let _ = send(&self.peer, YOURS, &[]);
    }

    /// Tells the new process to read QUIC packets.
    pub fn start_quic(self) {
        let _ = send(&self.peer, QUIC, &[]);
    }
}

/// Hands over to a new process. The error says why the takeover failed.
fn hand_over(peer: Socket, messages: &mpsc::Sender<Message>, requests: &Sender<TakeoverRequest>) -> anyhow::Result<()> {
    peer.set_read_timeout(Some(HELLO_TIMEOUT))?;
    let (hello, _) = receive(&peer).context("the new process sends no first message")?;
    if hello != HELLO {
        let _ = send(&peer, &format!("expected `{HELLO}`"), &[]);
        bail!("the new process sends `{}`; expected `{HELLO}`: it is another version of zonal", hello.escape_debug());
    }
    peer.set_read_timeout(None)?;
    let process = socket_peercred(&peer)?.pid.as_raw_nonzero().get() as u32;
    let ends = "this process is about to end";
    let (frozen, is_frozen) = oneshot::channel();
    // A dropped sender is a decision too: the takeover has failed.
    let (decide, decided) = mpsc::channel();
    messages.send(Message::Freeze(FreezeRequest { frozen, decision: decided })).ok().context(ends)?;
    let frozen = is_frozen.blocking_recv().context("the control plane cannot be frozen")?;
    tracing::info!(process, "takeover started");
    let (reply, sockets) = oneshot::channel();
    requests.blocking_send(TakeoverRequest::SendSockets(reply)).ok().context(ends)?;
    let sockets = sockets.blocking_recv().context(ends)?;
    let sockets: Vec<BorrowedFd> = sockets.iter().map(AsFd::as_fd).collect();
    for chunk in sockets.chunks(MAX_SOCKETS_PER_MESSAGE) {
        send(&peer, SOCKETS, chunk)?;
    }
    match &frozen {
        Frozen::Directory(lock) => send(&peer, FROZEN_DIRECTORY, &[lock.as_fd()])?,
        Frozen::Memory(file) => send(&peer, FROZEN_MEMORY, &[file.as_fd()])?,
    }
    peer.set_read_timeout(Some(READY_TIMEOUT))?;
    let (ready, _) = receive(&peer)
        .with_context(|| format!("process {process} ended, or was not ready within {} s", READY_TIMEOUT.as_secs()))?;
    if ready != READY {
        bail!("process {process} sends `{}`; expected `{READY}`", ready.escape_debug());
    }
    // If this process is about to end, the new one notices, and takes over as well.
    let _ = requests.blocking_send(TakeoverRequest::Stop(NewProcess { id: process, peer }));
    let _ = decide.send(Decision::Leave);
    Ok(())
}

/// Starts this program again, with the same arguments. The new process takes over.
pub fn start_new_process() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().context("the name of this program is not known")?;
    let mut child = Command::new(&program)
        .args(arguments)
        // systemd watches the new process after the takeover, and this variable names the old one.
        .env_remove("WATCHDOG_PID")
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let wait = move || match child.wait() {
        Ok(status) if !status.success() => tracing::error!(process = child.id(), %status, "new process exited"),
        _ => {}
    };
    std::thread::Builder::new().name("new-process".into()).spawn(wait)?;
    Ok(())
}
