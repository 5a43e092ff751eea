//! One process takes over from another without a query lost: it gets the very sockets of the other one, and with them all
//! that is queued there, and only when it has all else that it needs.
//!
//! ```text
//! new -> old   hello
//! old -> new   sockets…                 while the old one answers; and nothing changes any more
//! old -> new   frozen                   with what was acknowledged: the lock of the state directory, or a file
//! new -> old   ready                    all is read, checked and bound, nothing is written or answered
//! old -> new   yours                    from now on the new one takes packets and connections, and makes changes
//! old -> new   quic                     packets of QUIC too: nobody before it reads any more
//! ```
//! If the new one ends before it is ready, the old one goes on as if nothing had been. If the old one ends, the new one has
//! what there is, and goes on.

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

/// What is said. The number is raised with each change of what the two say to one another.
const HELLO: &str = "zonal takeover 1";
const SOCKETS: &str = "sockets";
const FROZEN_DIRECTORY: &str = "frozen: directory";
const FROZEN_MEMORY: &str = "frozen: memory";
const READY: &str = "ready";
const YOURS: &str = "yours";
const QUIC: &str = "quic";
/// What is told of one that hangs up.
const SILENT: &str = "the zonal that runs does not hand over: its log says why";
/// How long one that hangs up at once is waited for, in milliseconds from one call to the next: it may be ending, and is gone then.
const ENDING: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];
/// How many sockets there are in a message at most.
const MOST: usize = 64;
/// How long one who calls may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until it is ready, which takes reading the manifest. Nothing is changed here meanwhile.
const READY_PATIENCE: Duration = Duration::from_secs(300);

fn say(peer: &Socket, text: &str, handles: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !control.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(io::Error::other("too many sockets in one message"));
    }
    sendmsg(peer, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn hear(peer: &Socket) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut text = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry_on_intr(|| recvmsg(peer, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut handles = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            handles.extend(rights);
        }
    }
    match received.bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => Ok((String::from_utf8_lossy(&text[..len]).into_owned(), handles)),
    }
}

fn has_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None)
}

/// The process that runs, for one that starts.
pub struct Predecessor(Socket);

impl Predecessor {
    /// Finds the one that listens at a path, has it change nothing any more, and takes its sockets and what was acknowledged;
    /// none if there is none. One that is just ending is waited for.
    pub fn find(path: &Path, inherited: &mut Inherited) -> anyhow::Result<Option<(Predecessor, Frozen)>> {
        let mut pauses = ENDING.iter();
        loop {
            let Some(found) = Predecessor::call(path)? else { return Ok(None) };
            match (found.hear_first(), pauses.next()) {
                (Ok(first), _) => return found.freeze(first, inherited).map(|frozen| Some((found, frozen))),
                (Err(error), Some(pause)) if has_hung_up(&error) => std::thread::sleep(Duration::from_millis(*pause)),
                (Err(error), _) => return Err(error).context(SILENT),
            }
        }
    }

    fn call(path: &Path) -> anyhow::Result<Option<Predecessor>> {
        let connect = || {
            let socket = socket()?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok::<_, io::Error>(socket)
        };
        match connect() {
            Ok(socket) => Ok(Some(Predecessor(socket))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| {
                format!("cannot ask the zonal at {} to hand over: check `takeover_socket`", path.display())
            }),
        }
    }

    fn hear_first(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        say(&self.0, HELLO, &[])?;
        hear(&self.0)
    }

    fn freeze(&self, mut heard: (String, Vec<OwnedFd>), inherited: &mut Inherited) -> anyhow::Result<Frozen> {
        loop {
            let (text, handles) = heard;
            let mut handles = handles.into_iter();
            match (&*text, handles.next()) {
                (SOCKETS, first) => first.into_iter().chain(handles).for_each(|socket| inherited.add(socket)),
                (FROZEN_DIRECTORY, Some(lock)) => return Ok(Frozen::Directory(lock.into())),
                (FROZEN_MEMORY, Some(file)) => return Ok(Frozen::Memory(file.into())),
                _ => bail!("the zonal that runs does not hand over: it says `{}`", text.escape_debug()),
            }
            heard = hear(&self.0).context(SILENT)?;
        }
    }

    /// Takes over: from when this returns it is for this process to answer. Packets of QUIC are when the value is true.
    pub fn take_over(self) -> anyhow::Result<watch::Receiver<bool>> {
        // Whoever does not answer has ended, and has left everything to us.
        let _ = say(&self.0, READY, &[]).and_then(|()| hear(&self.0));
        let (free, is_free) = watch::channel(false);
        std::thread::Builder::new().name("takeover".into()).spawn(move || {
            let _ = hear(&self.0);
            free.send_replace(true);
        })?;
        Ok(is_free)
    }
}

/// A path where this process can be taken over from. It is there under its name when it is [open](TakeoverListener::open).
pub struct TakeoverListener {
    path: PathBuf,
    draft: PathBuf,
    listener: Socket,
}

impl TakeoverListener {
    /// For the user of this process alone, as whoever has its sockets has its clients.
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
        let listener =
            bind().with_context(|| format!("cannot listen at {}: check `takeover_socket`", draft.display()))?;
        Ok(TakeoverListener { path: path.into(), draft, listener })
    }

    /// Has those who come served by a thread of its own.
    pub fn open(self, messages: mpsc::Sender<Message>, wishes: Sender<Wish>) -> anyhow::Result<()> {
        fs::rename(&self.draft, &self.path).with_context(|| format!("cannot make {}", self.path.display()))?;
        let serve = move || {
            loop {
                let result = self.listener.accept().map_err(anyhow::Error::from);
                match result.and_then(|(peer, _)| hand_over(peer, &messages, &wishes)) {
                    Ok(()) => return,
                    Err(error) => tracing::warn!("no other process has taken over: {error:#}"),
                }
            }
        };
        std::thread::Builder::new().name("takeover".into()).spawn(serve)?;
        Ok(())
    }
}

/// What the server has to do for a process that takes over.
pub enum Wish {
    /// Its sockets are wanted.
    Sockets(oneshot::Sender<Vec<OwnedFd>>),
    /// The other one is ready: answer nothing more.
    Leave(Successor),
}

/// The process that has taken over.
pub struct Successor {
    /// Its number.
    pub process: u32,
    peer: Socket,
}

impl Successor {
    /// It may take packets and connections.
    pub fn start(&self) {
        // One that is gone has taken everything with it: that is what supervisors are for.
        let _ = say(&self.peer, YOURS, &[]);
    }

    /// It may take packets of QUIC.
    pub fn start_quic(self) {
        let _ = say(&self.peer, QUIC, &[]);
    }
}

/// Hands over to a process, or says why that came to nothing.
fn hand_over(peer: Socket, messages: &mpsc::Sender<Message>, wishes: &Sender<Wish>) -> anyhow::Result<()> {
    peer.set_read_timeout(Some(PATIENCE))?;
    let (hello, _) = hear(&peer).context("it does not say what it wants")?;
    if hello != HELLO {
        let _ = say(&peer, &format!("I take `{HELLO}` alone"), &[]);
        bail!("it says `{}`: it is of another version", hello.escape_debug());
    }
    peer.set_read_timeout(None)?;
    let process = socket_peercred(&peer)?.pid.as_raw_nonzero().get() as u32;
    let ends = "this one is about to end";
    let (frozen, is_frozen) = oneshot::channel();
    // That it is gone decides, too.
    let (decide, decided) = mpsc::channel();
    messages.send(Message::Freeze(FreezeRequest { frozen, decision: decided })).ok().context(ends)?;
    let frozen = is_frozen.blocking_recv().context("the control plane cannot be stopped")?;
    tracing::info!("process {process} is about to take over: until it has, nothing changes");
    let (reply, sockets) = oneshot::channel();
    wishes.blocking_send(Wish::Sockets(reply)).ok().context(ends)?;
    let sockets = sockets.blocking_recv().context(ends)?;
    let sockets: Vec<BorrowedFd> = sockets.iter().map(AsFd::as_fd).collect();
    for some in sockets.chunks(MOST) {
        say(&peer, SOCKETS, some)?;
    }
    match &frozen {
        Frozen::Directory(lock) => say(&peer, FROZEN_DIRECTORY, &[lock.as_fd()])?,
        Frozen::Memory(file) => say(&peer, FROZEN_MEMORY, &[file.as_fd()])?,
    }
    peer.set_read_timeout(Some(READY_PATIENCE))?;
    let (ready, _) = hear(&peer).with_context(|| {
        format!("process {process} has ended, or was not ready within {} s", READY_PATIENCE.as_secs())
    })?;
    if ready != READY {
        bail!("process {process} says `{}`", ready.escape_debug());
    }
    // If this process is about to end, the other one takes that for the same.
    let _ = wishes.blocking_send(Wish::Leave(Successor { process, peer }));
    let _ = decide.send(Decision::Leave);
    Ok(())
}

/// Starts this program anew, with the same arguments, so that it takes over.
pub fn start_successor() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().context("the name of this program is not known")?;
    let mut child = Command::new(&program)
        .args(arguments)
        // It is the one that is to be watched, when it has taken over.
        .env_remove("WATCHDOG_PID")
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let wait = move || match child.wait() {
        Ok(status) if !status.success() => tracing::error!("process {} has ended: {status}", child.id()),
        _ => {}
    };
    std::thread::Builder::new().name("successor".into()).spawn(wait)?;
    Ok(())
}
