//! A VPC of two AZs with a node in each, the DHCP servers that hand out their addresses, and counts
//! of the queries at each node.

use super::machines::dhcp_server;
use crate::harness::{Process, ZONAL, http_get, lab::Lab, tree, wait_until};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const MANIFEST: &str = r#"
vpcs:
  vpc-app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16]
    resolver_addresses: [10.1.0.2, 10.1.16.2]
    subnets:
      app-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20]}
      app-b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.16.0/20]}
vpc_endpoint_services:
  sqs:
    owner_id: amazon
    region: us-east-1
    dns_name: sqs.us-east-1.vpce.amazonaws.com
    private_dns_names: ["*.sqs.us-east-1.amazonaws.com"]
vpc_endpoints:
  vpce-0sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc-app
    state: Available
    private_dns_enabled: true
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.1.0.10}
      - {availability_zone_id: use1-az2, ipv4: 10.1.16.10}
private_hosted_zones:
  Z0CORP: {name: corp.example, vpc_ids: [vpc-app], file: corp.example.zone}
resolver_rules:
  # Nobody is at port 53 there.
  dead: {domain_name: dead.example, rule_type: FORWARD, vpc_ids: [vpc-app], target_ips: [{ip: 10.1.0.1}]}
"#;

/// A node of each AZ: its segment, its address, and its gateway.
const NODES: [(&str, &str, &str, &str); 2] =
    [("zonal-a", "az1", "10.1.0.2", "10.1.0.1"), ("zonal-b", "az2", "10.1.16.2", "10.1.16.1")];

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);

/// The output of an application, and the queries that it caused.
pub struct Told {
    pub lines: Vec<String>,
    /// Queries that each node answered, by UDP and by TCP.
    pub udp: [u64; 2],
    pub tcp: [u64; 2],
    /// Queries to the address of a node whose process had ended.
    pub lost: [u64; 2],
    pub took: Duration,
}

/// The state of a node.
enum Node {
    Runs {
        _process: Process,
    },
    /// The process has ended. The host answers queries with ICMP port unreachable.
    Gone,
    /// The host does not answer.
    Silent(UdpSocket),
}

pub struct Cloud {
    pub lab: Lab,
    nodes: [Node; 2],
    _dhcp: Vec<Process>,
}

impl Cloud {
    pub fn start() -> Cloud {
        let mut lab = Lab::new();
        lab.router("vpc");
        let mut dhcp = Vec::new();
        // The node of the same AZ comes first. The last network is missing from the manifest.
        for (segment, network, servers) in [
            ("az1", "10.1.0", "10.1.0.2,10.1.16.2"),
            ("az2", "10.1.16", "10.1.16.2,10.1.0.2"),
            ("new", "10.7.0", "10.1.0.2,10.1.16.2"),
        ] {
            let gateway = format!("{network}.1");
            lab.segment("vpc", segment, &format!("{gateway}/20"));
            let range = format!("{network}.100,{network}.200,255.255.240.0");
            dhcp.push(dhcp_server(&lab, "vpc", segment, &range, &gateway, servers));
        }
        for (node, segment, address, gateway) in NODES {
            lab.settle(node, "vpc", segment, &format!("{address}/20"), gateway);
        }
        let many: String = (0..100).map(|n| format!("many 60 A 10.1.2.{n}\n")).collect();
        let zone = format!(
            "@ 60 SOA ns hostmaster 1 7200 900 1209600 60\n@ 60 NS ns\nns 60 A 10.1.0.2\nwww 60 A 10.1.0.80\n\
             note 60 TXT note\n{many}"
        );
        lab.scratch.write("zones/corp.example.zone", zone);
        lab.scratch.write("zones/manifest.yaml", MANIFEST);
        lab.scratch.write(
            "zonal.yaml",
            "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n",
        );
        let mut cloud = Cloud { lab, nodes: [Node::Gone, Node::Gone], _dhcp: dhcp };
        (0..2).for_each(|at| cloud.run(at));
        cloud
    }

    /// Adds the missing network to the manifest.
    pub fn add_network(&self) {
        let text = MANIFEST
            .replace("[10.1.0.0/16]", "[10.1.0.0/16, 10.7.0.0/20]")
            .replace("[10.1.0.0/20]", "[10.1.0.0/20, 10.7.0.0/20]");
        self.lab.scratch.write("zones/manifest.yaml", text);
    }

    /// Starts a node, or starts it again.
    pub fn run(&mut self, at: usize) {
        self.nodes[at] = Node::Gone;
        let mut process = self.lab.start(NODES[at].0, &[ZONAL, "serve", "--config", "zonal.yaml"]);
        wait_until("zonal is ready", || {
            process.assert_alive();
            self.lab.inside(NODES[at].0, || (http_get(ADMIN, "/ready")?.0 == 200).then_some(()))
        });
        self.nodes[at] = Node::Runs { _process: process };
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at] = Node::Gone;
    }

    /// Kills a node; its address then receives queries without answering.
    pub fn silence(&mut self, at: usize) {
        self.nodes[at] = Node::Gone;
        let socket = self.lab.inside(NODES[at].0, || UdpSocket::bind("0.0.0.0:53").unwrap());
        socket.set_nonblocking(true).unwrap();
        self.nodes[at] = Node::Silent(socket);
    }

    /// Asks both nodes until they treat the rule's target as dead and no longer wait for it.
    pub fn find_dead(&self) {
        for (node, _, address, _) in NODES {
            let mut serial = 0;
            wait_until("the target is found dead", || {
                serial += 1;
                let question = format!("@{address} n{serial}.dead.example +time=1");
                (self.lab.dig(node, &question).status == "SERVFAIL").then_some(())
            });
        }
    }

    /// Builds the application with the C library of a compiler. Returns its path.
    pub fn application(&self, compiler: &str) -> String {
        let program = self.lab.scratch.path().join(format!("application-{compiler}")).display().to_string();
        let source = tree("tests/dhcp/application.c");
        let output = Command::new(compiler).args(["-o", &program]).arg(source).output().unwrap();
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        program
    }

    /// Runs a program on a machine to its end. Returns its output, and the number of answers with
    /// an RCODE that each node sent meanwhile.
    pub fn told(&self, node: &str, command: &[&str], rcode: &str) -> Told {
        let before = [0, 1].map(|at| self.count(at, rcode));
        let start = Instant::now();
        let output = self.lab.run(node, command);
        let took = start.elapsed();
        // A stub resolver that asks several servers at once does not wait for the last answer.
        let mut after = [[0; 3]; 2];
        loop {
            let now = [0, 1].map(|at| self.count(at, rcode));
            if now == after {
                break;
            }
            after = now;
            sleep(Duration::from_millis(200));
        }
        let part = |which: usize| [0, 1].map(|at| after[at][which] - before[at][which]);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Told {
            lines: text.lines().map(String::from).collect(),
            udp: part(0),
            tcp: part(1),
            lost: match &self.nodes {
                [Node::Silent(socket), _] => [drained(socket), 0],
                [_, Node::Silent(socket)] => [0, drained(socket)],
                _ => part(2),
            },
            took,
        }
    }

    /// The answers of a node over UDP and TCP, and the queries that arrived while no process
    /// listened.
    fn count(&self, at: usize, rcode: &str) -> [u64; 3] {
        let node = NODES[at].0;
        let metrics = match self.nodes[at] {
            Node::Runs { .. } => self.lab.inside(node, || http_get(ADMIN, "/metrics")).expect("metrics").1,
            _ => String::new(),
        };
        let answers = |transport: &str| {
            let words = ["zonal_answers_total{", &format!("rcode=\"{rcode}\""), &format!("transport=\"{transport}\"")];
            let lines = metrics.lines().filter(|line| words.iter().all(|word| line.contains(word)));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
        };
        // `/proc/net/snmp` has the names in one line and the values in the next.
        let statistics = self.lab.run(node, &["cat", "/proc/net/snmp"]).stdout;
        let statistics = String::from_utf8(statistics).unwrap();
        let mut udp = statistics.lines().filter(|line| line.starts_with("Udp:")).map(|line| line.split(' '));
        let place = udp.next().unwrap().position(|name| name == "NoPorts").unwrap();
        let lost = udp.next().unwrap().nth(place).unwrap().parse().unwrap();
        [answers("udp"), answers("tcp"), lost]
    }
}

/// The number of queries that a silent node received.
fn drained(socket: &UdpSocket) -> u64 {
    std::iter::repeat_with(|| socket.recv(&mut [0; 4096])).take_while(Result::is_ok).count() as u64
}
