//! The unchanged forwarder snippets, in two data centres that are each near another AZ.

use crate::harness::{ZONAL, can_run, forwarder::Kind, lab::Lab, tree, wait_until};
use std::{collections::BTreeSet, fs, net::IpAddr, path::PathBuf, process::Command};

const MANIFEST: &str = "
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.2.0.0/16], availability_zones: {us-east-1a: use1-az1, us-east-1b: use1-az2}}
on_premises_networks:
  dc-a: {cidr_blocks: [192.168.0.0/17], vpc_ids: [vpc], availability_zone_id: use1-az1}
  dc-b: {cidr_blocks: [192.168.128.0/17], vpc_ids: [vpc], availability_zone_id: use1-az2}
vpc_endpoint_services:
  sqs:
    owner_id: amazon
    region: us-east-1
    dns_name: sqs.us-east-1.vpce.amazonaws.com
    private_dns_names: [sqs.us-east-1.amazonaws.com, sqs.us-east-1.api.aws]
  saas:
    owner_id: '999988887777'
    region: us-east-1
    dns_name: vpce-svc-0saas.us-east-1.vpce.amazonaws.com
    private_dns_names: [api.saas.example, '*.tenants.saas.example']
    private_dns_name_configuration: {state: verified}
vpc_endpoints:
  vpce-0saas:
    vpc_endpoint_type: Interface
    service_name: saas
    vpc_id: vpc
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.20}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.20}
  vpce-0sqs:
    vpc_endpoint_type: Interface
    service_name: sqs
    vpc_id: vpc
    state: Available
    private_dns_enabled: true
    private_dns_scope: connected
    network_interfaces:
      - {availability_zone_id: use1-az1, ipv4: 10.2.0.10}
      - {availability_zone_id: use1-az2, ipv4: 10.2.16.10}
resolver_endpoints:
  in:
    direction: INBOUND
    vpc_id: vpc
    ip_addresses: [{ip: 10.2.0.53, availability_zone_id: use1-az1}, {ip: 10.2.16.53, availability_zone_id: use1-az2}]
private_hosted_zones:
  Z1:
    name: corp.example.com
    vpc_ids: [vpc]
    records: [{name: queue, type: CNAME, ttl: 60, records: [sqs.us-east-1.amazonaws.com]}]
";

const KINDS: [Kind; 6] = [Kind::Bind, Kind::Unbound, Kind::Dnsmasq, Kind::KnotResolver, Kind::Dnsdist, Kind::Resolved];

/// Clients get the endpoint of their data centre's AZ, whichever address the forwarder asks.
#[test]
fn each_data_centre_gets_its_az() {
    check_forwarders(false);
}

/// The forwarders load the output of `zonal forwarders` unchanged. It also forwards names of other
/// owners' services.
#[test]
fn snippets_made_from_the_manifest_are_loaded_and_forward_all_its_names() {
    check_forwarders(true);
}

/// Checks each forwarder with the files of `deploy/forwarders`, or with snippets made from the
/// manifest.
fn check_forwarders(is_made: bool) {
    if !can_run(&["ip", "dig", "setpriv", "sysctl"]) || !can_run(&KINDS.map(Kind::program)) {
        return;
    }
    let mut lab = Lab::new();
    for router in ["tgw", "edge"] {
        lab.router(router);
    }
    lab.link("tgw", &["10.2.0.0/16"], "edge", &["192.168.0.0/16"]);
    lab.host("server-a", "tgw", &["10.2.0.53"]);
    lab.host("server-b", "tgw", &["10.2.16.53"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config = lab.scratch.write(
        "zonal.yaml",
        "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n",
    );
    let command = [ZONAL, "serve", "--config", config.to_str().unwrap()];
    let _servers = [lab.start("server-a", &command), lab.start("server-b", &command)];
    let files = if is_made { make_snippets(&lab) } else { tree("deploy/forwarders") };
    for (centre, net, own) in [("a", 0, "10.2.0.10"), ("b", 128, "10.2.16.10")] {
        let client = format!("client-{centre}");
        lab.host(&client, "edge", &[&format!("192.168.{net}.7")]);
        for (n, kind) in KINDS.into_iter().enumerate() {
            let (node, address) = (format!("{kind:?}-{centre}"), format!("192.168.{net}.{}", 11 + n));
            lab.host(&node, "edge", &[&address]);
            let mut forwarder = kind.start_with(&files, &lab, &node, &address, None, true);
            let ask = |name: &str| lab.dig(&client, &format!("@{address} {name} A +time=2"));
            wait_until("the forwarder answers", || {
                forwarder.assert_alive();
                (ask("sqs.us-east-1.amazonaws.com").status == "NOERROR").then_some(())
            });
            for name in [
                "sqs.us-east-1.amazonaws.com",
                "sqs.us-east-1.api.aws",
                "vpce-0sqs.sqs.us-east-1.vpce.amazonaws.com",
                "queue.corp.example.com",
            ] {
                let reply = ask(name);
                assert_eq!(reply.data("A"), [own], "{name} through {node}\n{reply}");
            }
            if is_made {
                for (name, own) in [("api.saas.example", own), ("a.tenants.saas.example", own)] {
                    let own = own.strip_suffix("10").map(|net| format!("{net}20")).unwrap_or_default();
                    let reply = ask(name);
                    assert_eq!(reply.data("A"), [own], "{name} through {node}\n{reply}");
                }
            }
            let reply = ask("ip-10-2-0-7.ec2.internal");
            assert_eq!(reply.data("A"), ["10.2.0.7"], "through {node}\n{reply}");
            let reply = lab.dig(&client, &format!("@{address} -x 10.2.0.7 +time=2"));
            assert_eq!(reply.data("PTR"), ["ip-10-2-0-7.ec2.internal."], "through {node}\n{reply}");
            // The forwarder passes NXDOMAIN on, and asks no other server.
            let reply = ask("missing.corp.example.com");
            assert_eq!(reply.status, "NXDOMAIN", "through {node}\n{reply}");
        }
    }
}

/// Writes the output of `zonal forwarders` for the manifest, with the file names of
/// `deploy/forwarders`.
fn make_snippets(lab: &Lab) -> PathBuf {
    let zones = lab.scratch.path().join("zones").display().to_string();
    let print = |arguments: &[&str]| {
        let output = Command::new(ZONAL).args(["forwarders", "--directory", &zones]).args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for kind in KINDS {
        let (name, file) = kind.snippet();
        lab.scratch.write(&format!("made/{file}"), print(&[name]));
    }
    lab.scratch.write("made/bind.options.conf", print(&["bind", "--trust-anchors"]));
    lab.scratch.write("made/systemd-resolved.negative", print(&["systemd-resolved", "--trust-anchors"]));
    // The snippets for programs that do not run here have the same names and addresses.
    for name in ["coredns", "windows"] {
        let text = print(&[name]);
        for word in ["api.saas.example", "tenants.saas.example", "2.10.in-addr.arpa", "10.2.0.53", "10.2.16.53"] {
            assert!(text.contains(word), "{name} lacks {word}\n{text}");
        }
    }
    lab.scratch.path().join("made")
}

/// All snippets forward the same names to both addresses, also the snippets for programs that do
/// not run here.
#[test]
fn snippets_agree() {
    let names = [
        "us-east-1.amazonaws.com",
        "us-east-1.vpce.amazonaws.com",
        "us-east-1.api.aws",
        "ec2.internal",
        "2.10.in-addr.arpa",
        "corp.example.com",
    ];
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(tree("deploy/forwarders")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !["//", "--", "#", ";"].iter().any(|c| line.trim_start().starts_with(c)))
            .collect();
        let words: BTreeSet<&str> =
            code.iter().flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '-')).collect();
        for name in names {
            let found = words.iter().any(|word| word.trim_end_matches('.') == name);
            assert!(found, "{file} does not forward {name}");
        }
        // Files of trust anchors contain no addresses.
        if !file.contains("options") && !file.ends_with("negative") {
            let addresses: Vec<&&str> = words.iter().filter(|word| word.parse::<IpAddr>().is_ok()).collect();
            assert_eq!(addresses, [&"10.2.0.53", &"10.2.16.53"], "{file}");
        }
        seen.insert(file);
    }
    let expected = [
        "bind.conf",
        "bind.options.conf",
        "coredns.conf",
        "dnsdist.conf",
        "dnsmasq.conf",
        "knot-resolver.conf",
        "systemd-resolved.conf",
        "systemd-resolved.negative",
        "unbound.conf",
        "windows-dns.ps1",
    ];
    assert!(seen.iter().eq(expected.iter()), "{seen:?}");
}
