//! Networks made of network namespaces: hosts on routers, routers on routers. They are not
//! connected to the network of the machine.

use super::{Process, Scratch, reply::Reply};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// Network namespaces that are removed when the test ends.
///
/// Hosts have /32 and /128 addresses and their router as the default route, so a host may have any
/// address. Routers have a route to each host.
pub struct Lab {
    prefix: String,
    nodes: Vec<String>,
    links: u32,
    pub scratch: Scratch,
}

impl Lab {
    pub fn new() -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let prefix = format!("zonal-{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Lab { prefix, nodes: Vec::new(), links: 0, scratch: Scratch::new() }
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    fn ip(&self, node: &str, command: &str) {
        let namespace = self.namespace(node);
        let output = Command::new("ip").args(["-n", &namespace]).args(command.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip -n {namespace} {command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn add(&mut self, node: &str) {
        self.nodes.push(node.into());
        let output = Command::new("ip").args(["netns", "add", &self.namespace(node)]).output().unwrap();
        assert!(
            output.status.success(),
            "cannot make a network namespace: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.ip(node, "link set lo up");
    }

    /// Adds a router.
    pub fn router(&mut self, node: &str) {
        self.add(node);
        let forwarding = ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
        let output = self.run(node, &forwarding);
        assert!(output.status.success(), "sysctl: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds a host on a router, with all its addresses. The first address of a family is the source
    /// address of its packets.
    pub fn host(&mut self, node: &str, router: &str, addresses: &[&str]) {
        self.add(node);
        self.links += 1;
        let (there, here) = (format!("h{}", self.links), "eth0");
        let far = self.namespace(node);
        self.ip(router, &format!("link add dev {there} type veth peer name {here} netns {far}"));
        self.ip(router, &format!("addr add 169.254.1.1/32 dev {there}"));
        self.ip(router, &format!("addr add fe80::1/64 dev {there} nodad"));
        self.ip(router, &format!("link set {there} up"));
        for address in addresses {
            let (length, more) = if address.contains(':') { (128, "nodad") } else { (32, "") };
            self.ip(node, &format!("addr add {address}/{length} dev {here} {more}"));
        }
        self.ip(node, &format!("link set {here} up"));
        for address in addresses {
            self.ip(router, &format!("route add {address} dev {there}"));
        }
        let first = |v6: bool| addresses.iter().find(|a| a.contains(':') == v6);
        if let Some(source) = first(false) {
            self.ip(node, &format!("route add 169.254.1.1 dev {here}"));
            self.ip(node, &format!("route add default via 169.254.1.1 dev {here} src {source}"));
        }
        if let Some(source) = first(true) {
            self.ip(node, &format!("-6 route add default via fe80::1 dev {here} src {source}"));
        }
    }

    /// Adds a segment to a router, with the router's address and prefix length in it: a subnet as
    /// hosts see it.
    pub fn segment(&mut self, router: &str, segment: &str, address: &str) {
        self.links += 1;
        // Without an address of its own, a bridge takes the address of one of its hosts, and
        // changes it with them.
        self.ip(router, &format!("link add {segment} address 02:00:00:00:01:{:02x} type bridge", self.links));
        self.ip(router, &format!("addr add {address} dev {segment}"));
        self.ip(router, &format!("link set {segment} up"));
    }

    /// Adds a host that is connected to a segment, but has no address.
    pub fn plug(&mut self, node: &str, router: &str, segment: &str) {
        self.add(node);
        self.links += 1;
        let (there, far) = (format!("p{}", self.links), self.namespace(node));
        self.ip(router, &format!("link add dev {there} type veth peer name eth0 netns {far}"));
        self.ip(router, &format!("link set {there} master {segment} up"));
        self.ip(node, "link set eth0 up");
    }

    /// Adds a host in a segment, with its address and prefix length, and a gateway.
    pub fn settle(&mut self, node: &str, router: &str, segment: &str, address: &str, gateway: &str) {
        self.plug(node, router, segment);
        self.ip(node, &format!("addr add {address} dev eth0"));
        self.ip(node, &format!("route add default via {gateway}"));
    }

    /// Connects two routers. `behind_a` and `behind_b` are the networks on either side.
    pub fn link(&mut self, a: &str, behind_a: &[&str], b: &str, behind_b: &[&str]) {
        self.links += 1;
        let n = self.links;
        let (device, far) = (format!("l{n}"), self.namespace(b));
        self.ip(a, &format!("link add dev {device} type veth peer name {device} netns {far}"));
        for (node, own) in [(a, 1), (b, 2)] {
            self.ip(node, &format!("addr add 169.254.{}.{own}/30 dev {device}", 100 + n));
            self.ip(node, &format!("addr add fe80::a:{own}/64 dev {device} nodad"));
            self.ip(node, &format!("link set {device} up"));
        }
        for (node, peer, networks) in [(a, 2, behind_b), (b, 1, behind_a)] {
            for network in networks {
                let via = if network.contains(':') {
                    format!("fe80::a:{peer}")
                } else {
                    format!("169.254.{}.{peer}", 100 + n)
                };
                self.ip(node, &format!("route add {network} via {via} dev {device}"));
            }
        }
    }

    /// Makes a router drop packets to addresses silently, or forward them again.
    pub fn cut(&self, router: &str, addresses: &[&str], cut: bool) {
        for address in addresses {
            let family = if address.contains(':') { "-6" } else { "-4" };
            self.ip(router, &format!("{family} rule {} to {address} blackhole", if cut { "add" } else { "del" }));
        }
    }

    /// Runs a program on a node, and waits for its end.
    pub fn run(&self, node: &str, command: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.namespace(node)])
            .args(command)
            .current_dir(self.scratch.path())
            .output()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
    }

    /// Runs code of the test in the namespace of a node. Threads that it starts stay there.
    pub fn inside<R: Send>(&self, node: &str, work: impl FnOnce() -> R + Send) -> R {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.namespace(node))).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes `/etc/resolv.conf` for the programs that run on a node.
    pub fn resolv_conf(&self, node: &str, text: &str) {
        std::fs::write(self.resolv_conf_file(node), text).unwrap();
    }

    /// The file that `resolv_conf` writes, in a directory that exists. If it is replaced, only
    /// programs that start afterwards see the new file.
    pub fn resolv_conf_file(&self, node: &str) -> PathBuf {
        let directory = self.etc(node);
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("resolv.conf")
    }

    fn etc(&self, node: &str) -> PathBuf {
        Path::new("/etc/netns").join(self.namespace(node))
    }

    /// Starts a program on a node.
    pub fn start(&self, node: &str, command: &[&str]) -> Process {
        let namespace = self.namespace(node);
        let whole: Vec<&str> = ["ip", "netns", "exec", &namespace].into_iter().chain(command.iter().copied()).collect();
        let name = command[0].rsplit('/').next().unwrap_or_default();
        Process::start(&whole, &self.scratch, &format!("{name}-{node}"))
    }

    /// Runs dig on a node, and returns the reply.
    pub fn dig(&self, node: &str, arguments: &str) -> Reply {
        let command: Vec<&str> =
            ["dig", "+tries=1", "+time=10"].into_iter().chain(arguments.split_whitespace()).collect();
        Reply::of_dig(&String::from_utf8_lossy(&self.run(node, &command).stdout))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = std::fs::remove_dir_all(self.etc(node));
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(node)]).output();
        }
    }
}

/// Removes the namespaces of test processes that were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let owner =
            name.strip_prefix("zonal-").and_then(|rest| rest.split('-').next()).filter(|p| p.parse::<u32>().is_ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(&name));
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}
