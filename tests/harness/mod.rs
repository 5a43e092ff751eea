//! The base of the integration tests: processes that end with the test, zonal servers, clients and
//! networks.

pub mod cluster;
pub mod fake;
pub mod forwarder;
pub mod lab;
pub mod reply;
pub mod secure;
pub mod signed;
pub mod strict_h2;
pub mod stub;
pub mod succession;
pub mod systemd;
pub mod upstream;

use std::{
    fmt::Debug,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    sync::{Arc, Once},
    thread::sleep,
    time::{Duration, Instant},
};

use zonal::{
    manifest::{Loaded, Problem, Severity, check::check, connectivity::Connectivity, load::Loader},
    snapshot::{Node, Snapshot, compile},
};

/// The program under test.
pub const ZONAL: &str = env!("CARGO_BIN_EXE_zonal");

/// The Python of the environment that `tests/packages` creates.
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/venv/bin/python");

/// A path of the source tree.
pub fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns whether a test that needs root and these programs can run.
///
/// If something is missing, the test fails with a message that says what to install. With
/// `ZONAL_ALLOW_SKIP=1` it returns false instead.
pub fn can_run(programs: &[&str]) -> bool {
    let mut lacks = Vec::new();
    if fs::metadata("/proc/self").map(|m| m.uid()).unwrap_or(1) != 0 {
        lacks.push("root".to_string());
    }
    let found = |program: &&&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
    };
    lacks.extend(programs.iter().filter(found).map(|p| p.to_string()));
    if lacks.is_empty() {
        return true;
    }
    let lacks = lacks.join(", ");
    if std::env::var("ZONAL_ALLOW_SKIP").is_ok_and(|v| v == "1") {
        eprintln!("left out: this test needs {lacks}");
        return false;
    }
    panic!(
        "this test needs {lacks}: run it as root with the packages that .ci/run installs, \
         or set ZONAL_ALLOW_SKIP=1 to leave such tests out"
    );
}

/// Waits until a probe returns a value, for at most a minute. The limit is for events that never
/// happen, not for slow ones.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute in vain until {what}");
        sleep(Duration::from_millis(2));
    }
}

/// The standard output of a command, and then its standard error.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Waits until a probe returns the expected value. A time-out shows the last value.
///
/// A change becomes visible in answers, in the status, in metrics and in the log at different
/// moments. Wait for each of them.
pub fn wait_until_equal<T: PartialEq + Debug>(what: &str, expected: T, mut probe: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let value = probe();
        if value == expected {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited a minute in vain until {what}: expected {expected:?}, the last value was {value:?}"
        );
        sleep(Duration::from_millis(2));
    }
}

/// Installs a panic hook that prints a failure when it happens. Without it, failures appear only at
/// the end of the run, and an aborted run shows none.
fn tell_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let message = {
                let payload = panic.payload();
                let text = payload.downcast_ref::<String>().map(String::as_str);
                text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default()
            };
            let (thread, first) = (std::thread::current(), message.lines().next().unwrap_or_default());
            let place =
                panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
            let free =
                rustix::fs::statvfs(std::env::temp_dir()).map_or(0, |disk| (disk.f_bavail * disk.f_frsize) >> 20);
            let name = thread.name().unwrap_or("a thread");
            let told = format!("{name} fails{place} ({free} MiB are free): {first}\n");
            // Writes to standard error directly, because the test runner captures `eprint!`.
            let _ = std::io::stderr().write_all(told.as_bytes());
            usual(panic);
        }));
    });
}

/// A directory that is removed when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        tell_at_once();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zonal-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and renames it into place, so that a reader sees the old content or the
    /// new content.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.0.join(name), self.0.join(format!(".{}.draft", name.replace('/', "_"))));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a process and writes its output to a file of the scratch directory. The kernel kills
    /// it if the test process dies first.
    pub fn start(command: &[&str], scratch: &Scratch, name: &str) -> Process {
        Process::start_with(command, scratch, name, |_| {})
    }

    /// Like `start`, with more settings of the command.
    pub fn start_with(command: &[&str], scratch: &Scratch, name: &str, more: impl FnOnce(&mut Command)) -> Process {
        let log = scratch.path().join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut process = Command::new("setpriv");
        process
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        more(&mut process);
        let child = process.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Process { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The output of the process.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its output contains a text. The log is written by a thread of its own, after the event.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{} contains `{text}`", self.log.display()), || self.log().contains(text).then_some(()));
    }

    /// Panics with the output if the process has ended.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.log.display(), self.log());
        }
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process, and returns whether it failed.
    pub fn has_failed(&mut self) -> bool {
        !self.child.wait().unwrap().success()
    }

    /// Returns whether the process has ended. Panics if it ended with a failure.
    pub fn ended(&mut self) -> Option<()> {
        let status = self.child.try_wait().unwrap()?;
        assert!(status.success(), "{} ended with {status}:\n{}", self.log.display(), self.log());
        Some(())
    }

    /// The resident memory of the process, in kB.
    pub fn resident_kb(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The anonymous memory of the process in kB: resident memory without the pages of files.
    pub fn anonymous_kb(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// A number from `/proc/<pid>/status`; amounts of memory are in kB.
    pub fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("no {field}"));
        value.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// zonal, listening on all loopback addresses with its own port.
pub struct Server {
    pub process: Process,
    pub port: u16,
    /// The address of the HTTP API.
    pub admin: SocketAddr,
    pub scratch: Scratch,
}

impl Server {
    /// Starts a server for a directory, and waits until it is ready.
    pub fn start(directory: &Path) -> Server {
        Server::start_with(directory, "")
    }

    /// Like `start`, with more lines of configuration.
    pub fn start_with(directory: &Path, more: &str) -> Server {
        Server::start_at(free_port(), directory, more)
    }

    /// Like `start_with`, on a given port.
    pub fn start_at(port: u16, directory: &Path, more: &str) -> Server {
        Server::start_on(port, &format!("{{directory: {}}}", directory.display()), more).ready()
    }

    /// Starts a server for a manifest source. It may not be ready yet.
    pub fn start_from(source: &str, more: &str) -> Server {
        Server::start_on(free_port(), source, more)
    }

    /// Like `start_from`, with more listen addresses, as lines of configuration.
    pub fn start_listening(source: &str, listen: &str, more: &str) -> Server {
        Server::launch(free_port(), source, listen, more)
    }

    /// Like `start_from`, with more members of `admin`.
    pub fn start_with_admin(source: &str, members: &str) -> Server {
        Server::start_with_admin_and(source, members, "")
    }

    /// Like `start_with_admin`, with more lines of `zonal.yaml`.
    pub fn start_with_admin_and(source: &str, members: &str, more: &str) -> Server {
        Server::launch_with(free_port(), source, "", more, &format!(", {members}"))
    }

    fn start_on(port: u16, source: &str, more: &str) -> Server {
        Server::launch(port, source, "", more)
    }

    fn launch(port: u16, source: &str, listen: &str, more: &str) -> Server {
        Server::launch_with(port, source, listen, more, "")
    }

    fn launch_with(port: u16, source: &str, listen: &str, more: &str, members: &str) -> Server {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let scratch = Scratch::new();
        let config = format!(
            "listen:\n  - {{address: \"0.0.0.0:{port}\"}}\n{listen}control_plane: {source}\nadmin: {{address: \"{admin}\"{members}}}\n\
             internet_resolver: none\n{more}"
        );
        scratch.write("zonal.yaml", config);
        let process = Server::run(&scratch);
        Server { process, port, admin, scratch }.alive()
    }

    fn run(scratch: &Scratch) -> Process {
        let config = scratch.path().join("zonal.yaml");
        Process::start(&[ZONAL, "serve", "--config", config.to_str().unwrap()], scratch, "zonal")
    }

    /// Kills the server with SIGKILL, and starts it again. It may not be ready yet.
    pub fn restart(self) -> Server {
        let Server { process, port, admin, scratch } = self;
        drop(process);
        let process = Server::run(&scratch);
        Server { process, port, admin, scratch }.alive()
    }

    fn alive(mut self) -> Server {
        wait_until("the server is alive", || {
            self.process.assert_alive();
            (http_get(self.admin, "/live")?.0 == 200).then_some(())
        });
        self
    }

    /// Waits until the server is ready.
    pub fn ready(mut self) -> Server {
        wait_until("the server is ready", || {
            self.process.assert_alive();
            (http_get(self.admin, "/ready")?.0 == 200).then_some(())
        });
        self
    }

    /// Asks with dig, and returns the reply.
    pub fn dig(&self, name: &str, rtype: &str) -> reply::Reply {
        let port = self.port.to_string();
        let words = ["@127.0.0.1", "-p", &port, "+tries=1", "+time=10", name, rtype];
        let output = Command::new("dig").args(words).output().unwrap();
        reply::Reply::of_dig(&String::from_utf8_lossy(&output.stdout))
    }

    /// The body of `/v1/status`.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&http_get(self.admin, "/v1/status").expect("a status").1).unwrap()
    }

    /// The sum of the values of all metric lines that contain these words.
    pub fn metric(&self, words: &[&str]) -> f64 {
        let (_, text) = http_get(self.admin, "/metrics").expect("metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the sum of the values of all metric lines that contain these words is as
    /// expected.
    pub fn wait_for_metric(&self, words: &[&str], expected: f64) {
        wait_until_equal(&format!("{words:?} is {expected}"), expected, || self.metric(words));
    }

    /// Waits until the status passes a test, and returns it.
    pub fn wait_for_status(&self, what: &str, passes: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait_until(what, || Some(self.status()).filter(&passes))
    }
}

/// A port that is free for UDP and TCP. It is outside the kernel's ephemeral range, so that no
/// outgoing query takes it before the test uses it.
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(97).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (n % 22_000) as u16;
        let here = (Ipv4Addr::UNSPECIFIED, port);
        if UdpSocket::bind(here).is_ok() && std::net::TcpListener::bind(here).is_ok() {
            return port;
        }
    }
}

/// Status and body of an HTTP response; `None` if no server answers.
pub fn http_get(server: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

/// Sends JSON, and returns the status; `None` if no server answers.
pub fn http_send(server: SocketAddr, method: &str, path: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Compiles a directory to a snapshot, in this process.
pub fn snapshot(directory: &Path) -> Snapshot {
    compiled(&loaded(directory), None)
}

/// Loads and checks a directory. Panics if it has errors.
pub fn loaded(directory: &Path) -> Loaded {
    let (loaded, _) = Loader::new(directory).load().unwrap_or_else(|problems| panic!("{}", show(&problems)));
    let problems = check(&loaded.manifest, &Connectivity::new(&loaded.manifest), 0);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{}", show(&problems));
    loaded
}

/// Compiles a loaded directory, given the snapshot that was served before.
pub fn compiled(loaded: &Loaded, previous: Option<&Snapshot>) -> Snapshot {
    let node = Arc::new(Node { cookie_secrets: vec![[7; 16]], ..Node::default() });
    compile(loaded, &node, previous).unwrap_or_else(|problems| panic!("{}", show(&problems))).0
}

fn show(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}
