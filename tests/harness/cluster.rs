//! etcd for tests: one member on loopback, or three members on hosts of a lab.

use super::{Process, Scratch, free_port, lab::Lab, wait_until};
use etcd_client::{Client, Txn, TxnOp};
use std::process::Output;
use zonal::manifest::collection::Edit;

/// An etcd cluster of one member.
pub struct Single {
    _process: Process,
    /// The URL that clients use.
    pub endpoint: String,
}

impl Single {
    /// Starts etcd on loopback, and waits until it takes writes.
    pub fn start(scratch: &Scratch) -> Single {
        let single = Single::start_by(|command| Process::start(command, scratch, "etcd"));
        wait_until("etcd takes writes", || single.probe());
        single
    }

    /// Starts etcd on a node, and waits until it takes writes from there.
    pub fn start_on(lab: &Lab, node: &str) -> Single {
        let single = Single::start_by(|command| lab.start(node, command));
        lab.inside(node, || wait_until("etcd takes writes", || single.probe()));
        single
    }

    fn start_by(start: impl FnOnce(&[&str]) -> Process) -> Single {
        let [client, peer] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let command = [
            "etcd",
            "--data-dir",
            "etcd-data",
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ];
        Single { _process: start(&command), endpoint: client }
    }

    fn probe(&self) -> Option<()> {
        self.write(&[TxnOp::put("/other", "x", None)]).ok()
    }

    fn write(&self, operations: &[TxnOp]) -> Result<(), etcd_client::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = Client::connect([&self.endpoint], None).await?;
            for some in operations.chunks(100) {
                client.txn(Txn::new().and_then(some)).await?;
            }
            Ok(())
        })
    }

    /// Puts a key, or deletes it if `value` is `None`.
    pub fn put_key(&self, key: &str, value: Option<&str>) {
        let operation = value.map_or_else(|| TxnOp::delete(key, None), |value| TxnOp::put(key, value, None));
        self.write(&[operation]).unwrap();
    }

    /// Puts or deletes resources and master files.
    pub fn put(&self, edits: &[Edit]) {
        let operation = |Edit { key, value }: &Edit| {
            let name = format!("/zonal/v1/{}/{}", key.kind, key.id);
            match value {
                Some(content) => TxnOp::put(name, content.text().to_vec(), None),
                None => TxnOp::delete(name, None),
            }
        };
        self.write(&edits.iter().map(operation).collect::<Vec<_>>()).unwrap();
    }
}

/// The members' addresses.
pub const MEMBERS: [&str; 3] = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];

/// Three members on the router `core` of a lab.
pub struct Cluster {
    members: [Option<Process>; 3],
    /// The number of restores so far. Each restore uses new data directories.
    round: u32,
}

impl Cluster {
    /// Makes the hosts, and starts etcd on each.
    pub fn start(lab: &mut Lab) -> Cluster {
        for (at, address) in MEMBERS.iter().enumerate() {
            lab.host(&format!("etcd{at}"), "core", &[address]);
        }
        let mut cluster = Cluster { members: [None, None, None], round: 0 };
        (0..3).for_each(|at| cluster.run(lab, at));
        cluster.wait(lab);
        cluster
    }

    /// Starts a member, or starts it again.
    pub fn run(&mut self, lab: &Lab, at: usize) {
        let url = |address: &str, port: u16| format!("http://{address}:{port}");
        let (peer, client) = (url(MEMBERS[at], 2380), url(MEMBERS[at], 2379));
        let initial = initial_cluster();
        let (name, data) = (format!("e{at}"), self.data(at));
        let command = [
            "etcd",
            "--name",
            &name,
            "--data-dir",
            &data,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--initial-cluster",
            &initial,
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
            "--snapshot-count",
            "5000",
            "--unsafe-no-fsync",
        ];
        // Debian's etcd before 3.5 does not know the last option, which only saves time.
        let known = if is_older() { &command[..command.len() - 1] } else { &command[..] };
        self.members[at] = Some(lab.start(&format!("etcd{at}"), known));
    }

    fn data(&self, at: usize) -> String {
        format!("etcd-data-{}-{at}", self.round)
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.members[at] = None;
    }

    /// The process of a member.
    pub fn process(&self, at: usize) -> &Process {
        self.members[at].as_ref().expect("a member that runs")
    }

    /// Waits until the cluster takes writes.
    pub fn wait(&self, lab: &Lab) {
        wait_until("etcd takes writes", || ctl(lab, &["put", "/other", "x"]).status.success().then_some(()));
    }

    /// The index of the member that leads.
    pub fn leader(&self, lab: &Lab) -> usize {
        wait_until("there is a leader", || {
            (0..3).find(|at| {
                let endpoint = format!("--endpoints={}:2379", MEMBERS[*at]);
                let output = lab.run("client", &["etcdctl", &endpoint, "endpoint", "status", "-w", "fields"]);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let field = |name: &str| {
                    text.lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|value| value.trim_matches([' ', ':']).to_string())
                };
                field("\"MemberID\"").is_some_and(|id| Some(id) == field("\"Leader\""))
            })
        })
    }

    /// Restores all members from a snapshot file.
    pub fn restore(&mut self, lab: &Lab, snapshot: &str) {
        (0..3).for_each(|at| self.kill(at));
        self.round += 1;
        for (at, address) in MEMBERS.iter().enumerate() {
            let peer = format!("http://{address}:2380");
            let (name, data, initial) = (format!("e{at}"), self.data(at), initial_cluster());
            let command = [
                "etcdctl",
                "snapshot",
                "restore",
                snapshot,
                "--name",
                &name,
                "--data-dir",
                &data,
                "--initial-cluster",
                &initial,
                "--initial-advertise-peer-urls",
                &peer,
            ];
            let output = lab.run(&format!("etcd{at}"), &command);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        (0..3).for_each(|at| self.run(lab, at));
        self.wait(lab);
    }
}

fn initial_cluster() -> String {
    let members = MEMBERS.iter().enumerate().map(|(at, address)| format!("e{at}=http://{address}:2380"));
    members.collect::<Vec<_>>().join(",")
}

fn is_older() -> bool {
    let output = std::process::Command::new("etcd").arg("--version").output().expect("etcd");
    String::from_utf8_lossy(&output.stdout).contains("Version: 3.4")
}

/// Runs etcdctl on the host `client`.
pub fn ctl(lab: &Lab, arguments: &[&str]) -> Output {
    let endpoints = format!("--endpoints={}", MEMBERS.map(|address| format!("{address}:2379")).join(","));
    let command = ["etcdctl", &endpoints, "--dial-timeout=1s", "--command-timeout=3s"];
    lab.run("client", &[&command[..], arguments].concat())
}
