//! systemd's side of a service of `Type=notify` that stores file descriptors: sd_notify(3),
//! sd_listen_fds(3).

use super::{Process, Scratch, wait_until};
use command_fds::{CommandFdExt, FdMapping};
use rustix::{
    fs::fstat,
    io::retry_on_intr,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred},
};
use std::{
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// The receiver of `NOTIFY_SOCKET`.
pub struct Systemd {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The main process. Messages of other processes are ignored (`NotifyAccess=main`).
    main: u32,
    is_ready: bool,
    /// The stored descriptors: name, inode, handle. Each socket is stored once, as in systemd.
    kept: Vec<(String, u64, OwnedFd)>,
    /// All lines that were received.
    said: Vec<String>,
}

impl State {
    fn hear(&mut self, text: &str, handles: Vec<OwnedFd>) {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let name = value("FDNAME").unwrap_or("stored").to_string();
        assert!(!name.contains(':') && name.len() <= 255, "{name} is no name for systemd");
        if value("FDSTORE") == Some("1") {
            for handle in handles {
                let inode = fstat(&handle).unwrap().st_ino;
                if self.kept.iter().all(|(_, other, _)| *other != inode) {
                    self.kept.push((name.clone(), inode, handle));
                }
            }
        }
        if value("FDSTOREREMOVE") == Some("1") {
            self.kept.retain(|(other, ..)| *other != name);
        }
        if let Some(main) = value("MAINPID") {
            self.main = main.parse().unwrap();
        }
        self.is_ready |= value("READY") == Some("1");
        self.said.extend(text.lines().map(String::from));
    }
}

impl Systemd {
    /// Listens in a directory until the test process ends.
    pub fn new(scratch: &Scratch) -> Systemd {
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let hears = state.clone();
        std::thread::spawn(move || {
            loop {
                let mut text = [0; 4096];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16), ScmCredentials(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let flags = RecvFlags::CMSG_CLOEXEC;
                let received =
                    retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags)).unwrap();
                let (mut handles, mut sender) = (Vec::new(), 0);
                for message in control.drain() {
                    match message {
                        RecvAncillaryMessage::ScmRights(rights) => handles.extend(rights),
                        RecvAncillaryMessage::ScmCredentials(credentials) => {
                            sender = credentials.pid.as_raw_nonzero().get() as u32;
                        }
                        _ => {}
                    }
                }
                let text = String::from_utf8_lossy(&text[..received.bytes]).into_owned();
                let mut state = hears.lock().unwrap();
                match sender == state.main {
                    true => state.hear(&text, handles),
                    false => state
                        .said
                        .push(format!("not heard, as it is from {sender}: {}", text.trim().replace('\n', " "))),
                }
            }
        });
        Systemd { path, state }
    }

    /// Starts the service with the stored descriptors. It may not be ready yet.
    pub fn start(&self, command: &[&str], scratch: &Scratch, name: &str) -> Process {
        let mut state = self.state.lock().unwrap();
        let shell = ["sh", "-c", "[ $LISTEN_FDS = 0 ] || export LISTEN_PID=$$; exec \"$@\"", "sh"];
        let process = Process::start_with(&[&shell[..], command].concat(), scratch, name, |process| {
            let handles = state.kept.iter().enumerate().map(|(at, (.., handle))| FdMapping {
                parent_fd: handle.try_clone().unwrap(),
                child_fd: 3 + at as i32,
            });
            process.fd_mappings(handles.collect()).unwrap();
            let names: Vec<&str> = state.kept.iter().map(|(name, ..)| &**name).collect();
            process.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            process.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "200000");
        });
        (state.main, state.is_ready) = (process.id(), false);
        process
    }

    /// Waits until the service has sent `READY=1`.
    pub fn ready(&self) {
        wait_until("the service is ready", || self.state.lock().unwrap().is_ready.then_some(()));
    }

    /// The id of the main process.
    pub fn main(&self) -> u32 {
        self.state.lock().unwrap().main
    }

    /// The names of the stored descriptors.
    pub fn kept(&self) -> Vec<String> {
        let mut names: Vec<String> = self.state.lock().unwrap().kept.iter().map(|(name, ..)| name.clone()).collect();
        names.sort();
        names
    }

    /// All lines received so far.
    pub fn said(&self) -> Vec<String> {
        self.state.lock().unwrap().said.clone()
    }
}

/// Returns whether a process has ended, including one that was not waited for.
pub fn has_ended(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}
