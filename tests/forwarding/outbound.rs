//! Names that a VPC forwards to an on-premises BIND, by every transport, from the addresses of an
//! outbound endpoint.

use crate::harness::{Process, ZONAL, can_run, lab::Lab, reply::Reply, stub::Stub, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::{fmt::Write as _, io::Write as _, net::TcpListener, process::Command};

const APP: &str = "10.1.0.7";
const ENTRY_POINT: &str = "10.1.0.2";
const OUTBOUND: &str = "10.2.0.54";
const BIND: &str = "192.168.0.53";
/// The name in BIND's certificates.
const HOST: &str = "dns.onprem.test";

/// The domains and the targets of their rules. All zones have the same records.
const RULES: [(&str, &str); 10] = [
    ("udp.example", "port: 53"),
    ("dot.example", "protocol: DoT, port: 853, server_name_indication: dns.onprem.test"),
    ("doh.example", "protocol: DoH, port: 443, server_name_indication: dns.onprem.test"),
    // Without a server name, the certificate must contain the address.
    ("dot-address.example", "protocol: DoT, port: 853"),
    ("wrong-name.example", "protocol: DoT, port: 853, server_name_indication: other.onprem.test"),
    ("wrong-name-doh.example", "protocol: DoH, port: 443, server_name_indication: other.onprem.test"),
    ("expired.example", "protocol: DoT, port: 8853, server_name_indication: dns.onprem.test"),
    ("untrusted.example", "protocol: DoT, port: 8854, server_name_indication: dns.onprem.test"),
    // Ports without TLS: the first sends other data, the second sends nothing.
    ("garbage.example", "protocol: DoT, port: 8855, server_name_indication: dns.onprem.test"),
    ("no-tls.example", "protocol: DoT, port: 53, server_name_indication: dns.onprem.test"),
];

fn manifest() -> String {
    let mut text = format!(
        "vpcs:
  vpc-app: {{region: us-east-1, cidr_blocks: [10.1.0.0/16], resolver_addresses: [{ENTRY_POINT}]}}
  vpc-shared: {{region: us-east-1, cidr_blocks: [10.2.0.0/16]}}
resolver_endpoints:
  out: {{direction: OUTBOUND, vpc_id: vpc-shared, ip_addresses: [{{ip: {OUTBOUND}, availability_zone_id: use1-az1}}]}}
resolver_rules:
"
    );
    for (domain, target) in RULES {
        writeln!(
            text,
            "  {}: {{domain_name: {domain}, rule_type: FORWARD, resolver_endpoint_id: out, vpc_ids: [vpc-app], \
             target_ips: [{{ip: {BIND}, {target}}}]}}",
            domain.replace('.', "-")
        )
        .unwrap();
    }
    text
}

/// Writes a key and a certificate that `ca` issues, valid until the start of a year.
fn certificate(lab: &Lab, name: &str, ca: &CertifiedIssuer<'_, KeyPair>, until: i32) {
    let mut params = CertificateParams::new(vec![HOST.to_string(), BIND.to_string()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    lab.scratch.write(&format!("{name}.crt"), certificate.pem());
    lab.scratch.write(&format!("{name}.key"), key.serialize_pem());
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// BIND, which answers only queries from the outbound endpoint's address.
fn bind(lab: &mut Lab) -> Process {
    lab.host("bind", "edge", &[BIND]);
    let (ca, other) = (authority("a good one"), authority("another one"));
    lab.scratch.write("ca.pem", ca.pem());
    certificate(lab, "good", &ca, 2099);
    certificate(lab, "expired", &ca, 2021);
    certificate(lab, "untrusted", &other, 2099);
    let many: String = (0..100).map(|n| format!("many 300 A 192.0.2.{n}\n")).collect();
    let long = (0..20).map(|n| format!("\"{n:0>200}\"")).collect::<Vec<_>>().join(" ");
    lab.scratch.write(
        "plain.zone",
        format!("@ 300 SOA ns hostmaster 1 3600 600 86400 60\n@ 300 NS ns\nns 300 A {BIND}\nwww 300 A 192.0.2.1\nlong 300 TXT ( {long} )\n{many}"),
    );
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(lab.scratch.path()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "signed.udp.example"]);
    run("dnssec-signzone", &["-q", "-S", "-z", "-o", "signed.udp.example", "-f", "signed.zone", "plain.zone"]);
    let directory = lab.scratch.path().display();
    let mut config = format!(
        "options {{ directory \"{directory}\"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; querylog yes; listen-on-v6 {{ none; }};\n \
         listen-on port 53 {{ any; }}; listen-on port 853 tls good {{ any; }}; listen-on port 443 tls good http local {{ any; }};\n \
         listen-on port 8853 tls expired {{ any; }}; listen-on port 8854 tls untrusted {{ any; }};\n \
         allow-query {{ {OUTBOUND}; 127.0.0.1; }}; }};\ncontrols {{ }};\nhttp local {{ endpoints {{ \"/dns-query\"; }}; }};\n\
         zone \"signed.udp.example\" {{ type primary; file \"signed.zone\"; }};\n"
    );
    for name in ["good", "expired", "untrusted"] {
        writeln!(config, "tls {name} {{ cert-file \"{name}.crt\"; key-file \"{name}.key\"; }};").unwrap();
    }
    for (domain, _) in RULES {
        writeln!(config, "zone \"{domain}\" {{ type primary; file \"plain.zone\"; }};").unwrap();
    }
    let config = lab.scratch.write("named.conf", config);
    let mut bind = lab.start("bind", &["named", "-g", "-c", config.to_str().unwrap()]);
    wait_until("BIND answers", || {
        bind.assert_alive();
        (lab.dig("bind", "@127.0.0.1 www.udp.example +time=1").status == "NOERROR").then_some(())
    });
    bind
}

#[test]
fn forwards_to_bind_by_every_transport() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "named", "dnssec-keygen", "dnssec-signzone"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("tgw");
    lab.router("edge");
    lab.link("tgw", &["10.0.0.0/8"], "edge", &["192.168.0.0/16"]);
    let bind = bind(&mut lab);
    lab.host("server", "tgw", &["10.2.0.53", ENTRY_POINT, OUTBOUND]);
    lab.host("app", "tgw", &[APP]);
    lab.scratch.write("zones/manifest.yaml", manifest());
    let config =
        lab.scratch.write("zonal.yaml", "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\n");
    let authorities = format!("SSL_CERT_FILE={}", lab.scratch.path().join("ca.pem").display());
    let mut server = lab.start("server", &["env", &authorities, ZONAL, "serve", "--config", config.to_str().unwrap()]);
    wait_until("zonal answers", || {
        server.assert_alive();
        (lab.dig("server", "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
    });
    let stub = Stub::new(APP, (ENTRY_POINT, 53));
    let ask = |question: &str| lab.inside("app", || stub.ask(question));

    for domain in ["udp.example", "dot.example", "doh.example", "dot-address.example"] {
        let said = ask(&format!("www.{domain}"));
        assert_eq!(said.reply.data("A"), ["192.0.2.1"], "{domain}\n{}{}", said.reply, said.why);
        assert_eq!(said.reply.flags, "qr rd ra", "{domain}");
        let said = ask(&format!("missing.{domain}"));
        assert_eq!(said.reply.status, "NXDOMAIN", "{domain}\n{}{}", said.reply, said.why);
        assert!(said.reply.authority.iter().any(|line| line.contains(" SOA ")), "{}", said.reply);
        // An answer that is too long for a datagram is complete over TCP, and truncated over UDP.
        let said = ask(&format!("long.{domain} TXT +tcp"));
        assert_eq!(said.reply.data("TXT").concat().len(), 20 * 203 - 1, "{domain}\n{}{}", said.reply, said.why);
        let said = ask(&format!("long.{domain} TXT"));
        assert!(said.reply.flags.contains(" tc") && said.reply.answer.is_empty(), "{domain}\n{}", said.reply);
        // A subset of the addresses is enough.
        let said = ask(&format!("many.{domain}"));
        let count = said.reply.data("A").len();
        assert!(said.reply.flags.contains(" tc") && (60..100).contains(&count), "{domain}\n{}", said.reply);
    }
    // All queries came from the endpoint's address, over the transport of their rule.
    let log = || bind.log().to_lowercase();
    let is_query = |line: &&str| line.contains(" query: ") && !line.contains("127.0.0.1");
    wait_until("BIND has logged the queries", || (log().lines().filter(is_query).count() >= 12).then_some(()));
    let log = log();
    let queries: Vec<&str> = log.lines().filter(is_query).collect();
    assert!(queries.iter().all(|line| line.contains(&format!(" {OUTBOUND}#"))), "{queries:#?}");
    let by_stream = |line: &&&str| line.rsplit_once(" +e").is_some_and(|(_, flags)| flags.starts_with("(0)t"));
    let of = |name: &str| queries.iter().filter(|line| line.contains(&format!("query: {name} "))).collect::<Vec<_>>();
    assert!(!of("www.udp.example").iter().any(by_stream), "{queries:#?}");
    assert!(of("long.udp.example").iter().any(by_stream), "{queries:#?}");
    assert!(of("www.dot.example").iter().all(by_stream), "{queries:#?}");
    assert!(of("www.doh.example").iter().all(by_stream), "{queries:#?}");

    let garbage = lab.inside("bind", || TcpListener::bind((BIND, 8855)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = garbage.accept() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        }
    });
    // With a wrong certificate, the extended error names the fault.
    for (domain, words) in [
        ("wrong-name.example", &["name"][..]),
        ("wrong-name-doh.example", &["name"]),
        ("expired.example", &["expired"]),
        ("untrusted.example", &["issuer", "authority", "unknown"]),
        ("garbage.example", &["tls"]),
        ("no-tls.example", &["tls", "connection"]),
    ] {
        let said = ask(&format!("www.{domain}"));
        let text = format!("{domain}, after {:?}: {}{}", said.took, said.reply, said.why);
        assert_eq!(said.reply.status, "SERVFAIL", "{text}");
        assert!(!said.reply.ede.is_empty(), "{text}");
        let why = said.why.to_lowercase();
        assert!(words.iter().any(|word| why.contains(word)), "{text}");
        assert!(!bind.log().to_lowercase().contains(&format!("query: www.{domain} ")), "{domain} was asked for");
    }

    signatures_are_passed_on(&ask);
}

/// A query with DO gets signatures, and a query without DO gets none, in any order.
fn signatures_are_passed_on(ask: &dyn Fn(&str) -> crate::harness::stub::Said) {
    let signed = |reply: &Reply, section: &[String]| {
        assert!(["NOERROR", "NXDOMAIN"].contains(&reply.status.as_str()), "{reply}");
        assert!(!reply.flags.contains(" ad"), "nothing of it was validated: {reply}");
        section.iter().any(|line| line.contains(" RRSIG "))
    };
    for (name, first, second) in [("www", " +dnssec", ""), ("ns", "", " +dnssec"), ("@", " +dnssec +tcp", " +tcp")] {
        let rtype = if name == "@" { "SOA" } else { "A" };
        let name = format!("{name}.signed.udp.example").replace("@.", "");
        for way in [first, second, first, second] {
            let said = ask(&format!("{name} {rtype}{way}"));
            assert_eq!(said.reply.data(rtype).len(), 1, "{name}{way}\n{}", said.reply);
            assert_eq!(signed(&said.reply, &said.reply.answer), way.contains("dnssec"), "{name}{way}\n{}", said.reply);
        }
    }
    for way in [" +dnssec", "", " +dnssec +cd", " +dnssec"] {
        let said = ask(&format!("missing.signed.udp.example A{way}"));
        let proved = said.reply.authority.iter().any(|line| line.contains(" NSEC "));
        assert_eq!(said.reply.status, "NXDOMAIN", "{way}\n{}", said.reply);
        assert_eq!(signed(&said.reply, &said.reply.authority), way.contains("dnssec"), "{way}\n{}", said.reply);
        assert_eq!(proved, way.contains("dnssec"), "{way}\n{}", said.reply);
    }
    // Queries for a DNSSEC record type get the records without DO too.
    let said = ask("signed.udp.example DNSKEY");
    assert!(!said.reply.data("DNSKEY").is_empty(), "{}", said.reply);
}
