//! The VPC's DNS server setting: machines get zonal's addresses by DHCP, one in each AZ, and applications resolve through
//! their C library, systemd-resolved, or a forwarder.

mod machines;

use crate::harness::{Process, ZONAL, http_get, lab::Lab, wait_until};
use machines::{Machine, dhcp_server};
use std::{thread::sleep, time::Duration};

const MANIFEST: &str = r#"
vpcs:
  vpc-app:
    region: us-east-1
    cidr_blocks: [10.1.0.0/16]
    resolver_addresses: [10.1.0.2, 10.1.16.2]
    availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}
    subnets:
      app-a: {availability_zone_id: use1-az1, cidr_blocks: [10.1.0.0/20]}
      app-b: {availability_zone_id: use1-az2, cidr_blocks: [10.1.16.0/20]}
vpc_endpoint_services:
  sqs: {owner_id: amazon, region: us-east-1, dns_name: sqs.us-east-1.vpce.amazonaws.com, private_dns_names: [sqs.us-east-1.amazonaws.com]}
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
  dead: {domain_name: dead.example, rule_type: FORWARD, vpc_ids: [vpc-app], target_ips: [{ip: 10.1.0.1}]}
  silent: {domain_name: silent.example, rule_type: FORWARD, vpc_ids: [vpc-app], target_ips: [{ip: 10.99.0.1}]}
"#;

/// The nodes, with their addresses.
const NODES: [(&str, &str, &str, &str); 2] =
    [("zonal-a", "az1", "10.1.0.2", "10.1.0.1"), ("zonal-b", "az2", "10.1.16.2", "10.1.16.1")];

/// How many queries came to a node, by UDP and TCP.
type Asked = [(u64, u64); 2];

struct Cloud {
    lab: Lab,
    nodes: [Option<Process>; 2],
    _dhcp: Vec<Process>,
}

impl Cloud {
    fn start() -> Cloud {
        let mut lab = Lab::new();
        lab.router("vpc");
        lab.segment("vpc", "az1", "10.1.0.1/20");
        lab.segment("vpc", "az2", "10.1.16.1/20");
        let dhcp = vec![
            dhcp_server(&lab, "vpc", "az1", "10.1.0.100,10.1.0.200,255.255.240.0", "10.1.0.1", "10.1.0.2,10.1.16.2"),
            dhcp_server(&lab, "vpc", "az2", "10.1.16.100,10.1.16.200,255.255.240.0", "10.1.16.1", "10.1.16.2,10.1.0.2"),
        ];
        let many = (0..100).map(|n| format!("many 60 A 10.1.2.{n}\n")).collect::<String>();
        lab.scratch.write("zones/corp.example.zone", format!("$ORIGIN corp.example.\n@ 60 SOA ns hostmaster 1 7200 900 1209600 60\n@ 60 NS ns\nns 60 A 10.1.0.2\nwww 60 A 10.1.0.80\nnote 60 TXT note\n{many}"));
        lab.scratch.write("zones/manifest.yaml", MANIFEST);
        lab.scratch.write(
            "zonal.yaml",
            "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n",
        );
        for (node, segment, address, gateway) in NODES {
            lab.settle(node, "vpc", segment, &format!("{address}/20"), gateway);
        }
        let mut cloud = Cloud { lab, nodes: [None, None], _dhcp: dhcp };
        (0..2).for_each(|at| cloud.run(at));
        cloud
    }

    /// Starts a node, again if it was killed.
    fn run(&mut self, at: usize) {
        let mut process = self.lab.start(NODES[at].0, &[ZONAL, "serve", "--config", "zonal.yaml"]);
        wait_until("zonal is ready", || {
            process.assert_alive();
            self.lab.inside(NODES[at].0, || (http_get(ADMIN, "/ready")?.0 == 200).then_some(()))
        });
        self.nodes[at] = Some(process);
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
    }

    fn counts(&self) -> Asked {
        [0, 1].map(|at| {
            let Some((_, text)) = self.lab.inside(NODES[at].0, || http_get(ADMIN, "/metrics")) else { return (0, 0) };
            let sum = |word: &str| {
                let lines = text.lines().filter(|line| line.starts_with("zonal_answers_total{") && line.contains(word));
                lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
            };
            (sum("\"udp\""), sum("\"tcp\""))
        })
    }

    /// Runs a program on a machine, and tells what it printed, and how many queries the nodes had because of it.
    fn asked(&self, node: &str, command: &[&str]) -> (String, Asked) {
        let before = self.counts();
        let output = self.lab.run(node, command);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let mut last = self.counts();
        loop {
            sleep(Duration::from_millis(300));
            let now = self.counts();
            if now == last {
                break;
            }
            last = now;
        }
        let difference = |at: usize| (last[at].0 - before[at].0.min(last[at].0), last[at].1 - before[at].1.min(last[at].1));
        (text, [difference(0), difference(1)])
    }
}

const ADMIN: std::net::SocketAddr = std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9153);

#[test]
fn explore() {
    let mut cloud = Cloud::start();
    let glibc = cloud.lab.scratch.path().join("glibc").display().to_string();
    let musl = cloud.lab.scratch.path().join("musl").display().to_string();
    let source = crate::harness::tree("tests/dhcp/application.c").display().to_string();
    for (compiler, program) in [("gcc", &glibc), ("musl-gcc", &musl)] {
        assert!(std::process::Command::new(compiler).args(["-o", program, &source]).status().unwrap().success());
    }
    let a = Machine::plain(&mut cloud.lab, "plain-a", "az1");
    let b = Machine::plain(&mut cloud.lab, "plain-b", "az2");
    let ra = Machine::resolved(&mut cloud.lab, "resolved-a", "az1");
    let rb = Machine::resolved(&mut cloud.lab, "resolved-b", "az2");
    let cases = [("glibc", &glibc, &a), ("glibc", &glibc, &b), ("musl", &musl, &a), ("musl", &musl, &b), ("resolved", &glibc, &ra), ("resolved", &glibc, &rb)];
    let names = ["sqs.us-east-1.amazonaws.com", "www", "www.internet.example", "x.dead.example", "y.dead.example", "note.corp.example", "missing.corp.example", "many.corp.example", "z.silent.example"];
    let show = |cloud: &Cloud, label: &str, names: &[&str], family: &str| {
        for (what, program, machine) in cases {
            for name in names {
                let start = std::time::Instant::now();
                let (text, asked) = cloud.asked(&machine.node, &[program, family, name]);
                let lines = text.lines().count();
                println!("{label} {what:8} {:10} {family} {name:30} {:?} lines={lines} {} {:?}", machine.node, asked, text.lines().next().unwrap_or(""), start.elapsed());
            }
        }
    };
    show(&cloud, "both", &names, "inet");
    show(&cloud, "both", &["www.corp.example", "note.corp.example"], "inet6");
    show(&cloud, "both", &["sqs.us-east-1.amazonaws.com", "www.internet.example"], "unspec");
    cloud.kill(0);
    show(&cloud, "killed", &["sqs.us-east-1.amazonaws.com", "www.corp.example"], "inet");
    cloud.run(0);
    show(&cloud, "back", &["sqs.us-east-1.amazonaws.com", "www.corp.example"], "inet");
    cloud.kill(1);
    show(&cloud, "other", &["sqs.us-east-1.amazonaws.com", "www.corp.example"], "inet");
}
