//! Targets whose responses are unusable, or differ in the case of names: zonal asks another target,
//! and clients get the right answer.

use super::Resolver;
use crate::harness::{
    Process, Scratch, can_run,
    fake::{Asked, Fake, Say, a, cname, ns, soa},
    free_port,
    stub::{Stub, query},
    wait_until,
};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType, rdata},
};
use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

const RIGHT_ADDRESS: &str = "192.0.2.1";

/// The unusable response to a question, by the first label of its name.
fn useless(asked: &Asked) -> Vec<Say> {
    let mut response = asked.response();
    match asked.label().split('-').next().unwrap_or_default() {
        "lame" => response.authorities = vec![ns("test", 3600, "ns.test")],
        "below" => response.authorities = vec![ns("poor.test", 3600, "ns.poor.test"), ns("below.poor.test", 60, "ns")],
        "root" => response.authorities = vec![ns(".", 3600, "a.root-servers.net")],
        "other" => response.answers = vec![a("other.poor.test", 60, "192.0.2.66")],
        "refused" => return vec![Say::Now(asked.fails(ResponseCode::Refused))],
        "servfail" => return vec![Say::Now(asked.fails(ResponseCode::ServFail))],
        "notimp" => return vec![Say::Now(asked.fails(ResponseCode::NotImp))],
        "empty" => response.metadata.recursion_available = false,
        "short" => {
            let data = RData::Unknown { code: RecordType::A, rdata: rdata::NULL::with(vec![10, 0, 0]) };
            response.answers = vec![Record::from_rdata(asked.owner(), 60, data)];
        }
        "cut" => response.metadata.truncation = true,
        _ => return vec![],
    }
    vec![Say::Now(response.to_vec().unwrap())]
}

#[test]
fn asks_another_target_after_an_unusable_response() {
    let kinds = ["lame", "below", "root", "other", "refused", "servfail", "notimp", "empty", "short", "cut"];
    let bad: Vec<_> = kinds.iter().map(|_| Fake::start("127.72.40.2:0", useless)).collect();
    let good =
        Fake::start("127.72.40.3:0", |asked| vec![Say::Later(Duration::from_millis(40), asked.address(RIGHT_ADDRESS))]);
    let targets: Vec<_> = bad.iter().map(|bad| [bad.target(), good.target()]).collect();
    let domains: Vec<_> = kinds.iter().map(|kind| format!("{kind}.poor.test")).collect();
    let rules: Vec<_> = domains.iter().zip(&targets).map(|(domain, targets)| (domain.as_str(), &targets[..])).collect();
    let resolver = Resolver::start(&rules, "");
    for (kind, bad) in kinds.iter().zip(&bad) {
        for n in 0..10 {
            let said = resolver.stub().ask(&format!("{kind}-{n}.{kind}.poor.test"));
            assert_eq!(said.reply.data("A"), [RIGHT_ADDRESS], "{kind}, question {n}: {}{}", said.reply, said.why);
        }
        let asked = bad.count(|asked| asked.label().starts_with(kind) && !asked.tcp);
        assert!((1..=8).contains(&asked), "{kind}: {asked} of 10 questions went to a server of no use");
    }
}

/// The log has the addresses of failed targets, for operators. Clients see only the rule, and the
/// numbers of its targets.
#[test]
fn logs_the_addresses_of_failed_targets_and_hides_them_from_clients() {
    let fake = Fake::start("127.72.41.2:0", useless);
    let closed = Fake::start("127.72.41.3:0", useless);
    let (closed_port, refused) = (closed.address.port(), [fake.target(), closed.target()]);
    drop(closed);
    let resolver = Resolver::start(&[("refused.test", &refused), ("shut.test", &refused[1..])], "");
    let events = || {
        let log = resolver.server.process.log();
        let events = log.lines().filter(|line| line.contains("upstream query failed"));
        events.map(String::from).collect::<Vec<_>>()
    };
    for name in ["refused.refused.test", "x.shut.test", "silent.refused.test"] {
        let said = resolver.stub().ask(name);
        assert_eq!(said.reply.status, "SERVFAIL", "{}", said.reply);
        assert!(said.why.starts_with("rule rr-") && !said.why.contains("127.72"), "{}", said.why);
    }
    let said = resolver.stub().ask("y.shut.test");
    assert!(said.took < Duration::from_millis(1_500), "{:?}", said.took);
    assert_eq!(said.why, "rule rr-1: the target refuses the connection: nothing listens there");
    let (refusing, shut) = (fake.address.port(), closed_port);
    for (rule, target, error) in [
        ("rr-0", format!("127.72.41.2 port {refusing}"), "answered REFUSED"),
        ("rr-0", format!("127.72.41.3 port {shut}"), "refuses the connection: nothing listens there"),
        ("rr-1", format!("127.72.41.3 port {shut}"), "refuses the connection: nothing listens there"),
    ] {
        wait_until("the failure is logged", || {
            let has_fields = |line: &String| {
                line.contains(&format!("rule=\"{rule}\" target={target} error=\"{error}\""))
                    && !line.contains("shut.test")
            };
            events().iter().any(has_fields).then_some(())
        });
    }
    // Each rule and target is logged once a minute.
    for n in 0..20 {
        assert_eq!(resolver.stub().ask(&format!("n{n}.shut.test")).reply.status, "SERVFAIL");
    }
    assert!(events().len() < 10, "{:#?}", events());
}

/// Behind a load balancer, the next server may change the case of names, and may not support TCP.
#[test]
fn accepts_responses_of_a_target_that_begins_to_fold_case() {
    let folds = Arc::new(AtomicBool::new(false));
    let folding = folds.clone();
    let port = free_port();
    let udp = UdpSocket::bind(("127.72.42.2", port)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, address) = (stop.clone(), udp.local_addr().unwrap());
    udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let server = thread::spawn(move || {
        let mut packet = [0; 1500];
        while !stopped.load(Relaxed) {
            let Ok((len, client)) = udp.recv_from(&mut packet) else { continue };
            let message = hickory_proto::op::Message::from_vec(&packet[..len]).unwrap();
            let asked = Asked { message, from: client, tcp: false };
            let mut answer = asked.address(RIGHT_ADDRESS);
            if folding.load(Relaxed) {
                let end = 12 + answer[12..].iter().position(|octet| *octet == 0).unwrap();
                answer[12..end].make_ascii_lowercase();
            }
            let _ = udp.send_to(&answer, client);
        }
    });
    let resolver = Resolver::start(&[("fold.test", &[format!("{{ip: {}, port: {port}}}", address.ip())])], "");
    let ask = |name: &str| {
        let said = resolver.stub().ask(name);
        assert_eq!(said.reply.data("A"), [RIGHT_ADDRESS], "{name}: {}{}", said.reply, said.why);
        assert!(said.took < Duration::from_secs(3), "{name}: {:?}", said.took);
    };
    (0..5).for_each(|n| ask(&format!("kept-{n}.fold.test")));
    folds.store(true, Relaxed);
    (0..20).for_each(|n| ask(&format!("folded-{n}.fold.test")));
    stop.store(true, Relaxed);
    server.join().unwrap();
}

/// Servers repeat the name in the query's case, and compress other names with pointers to it.
#[test]
fn hides_the_random_case_of_queries_from_clients() {
    let say = |asked: &Asked| {
        let owner = asked.owner().to_ascii();
        let mut response = asked.response();
        response.answers = match asked.label().as_str() {
            "al" => vec![cname(&owner, 60, &owner.replacen("al", "www", 1).replacen("AL", "www", 1))],
            "mx" => {
                let mx = rdata::MX::new(10, asked.owner());
                vec![Record::from_rdata(asked.owner(), 60, RData::MX(mx))]
            }
            _ => vec![],
        };
        if response.answers.is_empty() {
            response.authorities = vec![soa(owner.split_once('.').unwrap().1, 60)];
        }
        vec![Say::Now(response.to_vec().unwrap())]
    };
    let fake = Fake::start("127.72.43.2:0", say);
    let resolver = Resolver::start(&[("long-name-of-up.test", &[fake.target()])], "");
    for (question, sections) in
        [("mx.long-name-of-up.test MX", 1), ("none.long-name-of-up.test", 0), ("al.long-name-of-up.test CNAME", 1)]
    {
        for way in ["", " +tcp", " +dnssec"] {
            let said = resolver.stub().ask(&format!("{question}{way}"));
            assert_eq!(said.reply.answer.len(), sections, "{}{}", said.reply, said.why);
            let lines = || said.reply.answer.iter().chain(&said.reply.authority);
            for line in lines() {
                let names = line.split(' ').filter(|word| word.contains("test"));
                names.for_each(|name| assert_eq!(name, name.to_lowercase(), "{question}{way}: {line}"));
            }
        }
    }
}

/// Many clients that randomise case like zonal, for a name that always has a query in flight.
#[test]
fn takes_no_client_with_random_case_for_a_loop() {
    let fake = Fake::start("127.72.44.2:0", |asked| {
        vec![Say::Later(Duration::from_millis(700), asked.address(RIGHT_ADDRESS))]
    });
    let resolver = Resolver::start(&[("case.test", &[fake.target()])], "");
    let socket = UdpSocket::bind("127.70.0.9:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
    socket.connect(("127.0.0.1", resolver.server.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..4 {
        for id in 0..1_000 {
            let mut packet = query(id, &format!("{round}.case.test"));
            for octet in &mut packet[14..24] {
                bits ^= bits << 13;
                bits ^= bits >> 7;
                bits ^= bits << 17;
                if bits & 1 == 1 {
                    octet.make_ascii_uppercase();
                }
            }
            socket.send(&packet).unwrap();
        }
        let (mut packet, mut count, start) = ([0; 1500], 0, Instant::now());
        while count < 1_000 && start.elapsed() < Duration::from_secs(10) {
            let Ok(len) = socket.recv(&mut packet) else { break };
            let text = String::from_utf8_lossy(&packet[..len]);
            assert_eq!(packet[3] & 15, 0, "round {round}, answer {count} is a failure: {text}");
            count += 1;
        }
        assert!(count > 950, "round {round}: {count} answers");
    }
}

/// A validating client needs the DNAME and its signature in answers to all types, also CNAME and
/// ANY.
#[test]
fn passes_on_the_dname_in_answers_to_every_type() {
    let dname = |owner: &str| {
        let data =
            RData::Unknown { code: RecordType::from(39), rdata: rdata::NULL::with(b"\x02to\x04test\0".to_vec()) };
        Record::from_rdata(Name::from_ascii(owner).unwrap(), 300, data)
    };
    let signature = |owner: &str| {
        let data = [&[0, 39, 13, 2][..], &[0; 14], b"\x01d\x04test\0sig"].concat();
        let data = RData::Unknown { code: RecordType::from(46), rdata: rdata::NULL::with(data) };
        Record::from_rdata(Name::from_ascii(owner).unwrap(), 300, data)
    };
    let fake = Fake::start("127.72.45.2:0", move |asked| {
        let owner = asked.owner().to_ascii();
        let mut response = asked.response();
        response.answers = vec![dname("d.test."), signature("d.test.")];
        // Some servers leave the CNAME to the resolver.
        if !asked.label().starts_with("plain") {
            let label = owner.split('.').next().unwrap();
            response.answers.push(cname(&owner, 0, &format!("{label}.to.test")));
        }
        vec![Say::Now(response.to_vec().unwrap())]
    });
    let to = Fake::start("127.72.45.3:0", |asked| vec![Say::Now(asked.address(RIGHT_ADDRESS))]);
    let resolver = Resolver::start(&[("d.test", &[fake.target()]), ("to.test", &[to.target()])], "");
    for label in ["made", "plain"] {
        for (rtype, follows) in [("CNAME", false), ("ANY", false), ("A", true), ("RRSIG", false), ("DS", false)] {
            let said = resolver.stub().ask(&format!("{label}-{}.d.test {rtype} +dnssec +tcp", rtype.to_lowercase()));
            let mut types: Vec<_> = said.reply.answer.iter().filter_map(|line| line.split(' ').nth(2)).collect();
            assert_eq!(types.len().min(3), 3, "{label} {rtype}: {}{}", said.reply, said.why);
            assert_eq!(types.drain(..3).collect::<Vec<_>>(), ["DNAME", "RRSIG", "CNAME"], "{}", said.reply);
            assert_eq!(types.len(), usize::from(follows), "{label} {rtype}: {}", said.reply);
            let made = format!(" CNAME {label}-{}.to.test.", rtype.to_lowercase());
            assert!(said.reply.answer[2].ends_with(&made), "{}", said.reply);
        }
    }
}

/// Loops through other forwarders whose queries come from an address other than their listen
/// address.
#[test]
fn detects_loops_through_other_forwarders() {
    if !can_run(&["named", "unbound", "dnsmasq"]) {
        return;
    }
    let scratch = Scratch::new();
    let port = free_port();
    let rule = |at: &str| format!("{{ip: {at}, port: {port}}}");
    let rules = [[rule("127.73.0.2")], [rule("127.73.0.4")], [rule("127.0.0.1")]];
    let manifest = Resolver::manifest(
        &[
            ("through-dnsmasq.example", &rules[0]),
            ("through-unbound.example", &rules[1]),
            ("through-bind.example", &rules[2]),
        ],
        "",
    );
    let resolver = Resolver::serve(&manifest.replace("127.70.0.0/16]", "127.70.0.0/16, 127.73.0.0/16]"));
    let own = resolver.server.port;
    let at = |name: &str, text: String| scratch.write(name, text).display().to_string();
    let dnsmasq = at(
        "dnsmasq.conf",
        format!(
            "listen-address=127.73.0.2\nport={port}\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\npid-file=\n\
             server=127.0.0.1#{own}@127.73.0.3\n"
        ),
    );
    let unbound = at(
        "unbound.conf",
        format!(
            "server:\n interface: 127.73.0.4@{port}\n outgoing-interface: 127.73.0.5\n do-not-query-localhost: no\n \
             access-control: 127.0.0.0/8 allow\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
             module-config: \"iterator\"\nremote-control:\n control-enable: no\nforward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{own}\n"
        ),
    );
    // BIND listens only on addresses that an interface has.
    let named = at(
        "named.conf",
        format!(
            "options {{ directory \"{}\"; pid-file none; session-keyfile none; recursion yes; dnssec-validation no; \
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; query-source address 127.73.0.7; \
             forward only; forwarders {{ 127.0.0.9 port {own}; }}; allow-query {{ any; }}; allow-recursion {{ any; }}; }};\ncontrols {{ }};\n",
            scratch.path().display()
        ),
    );
    let _processes = [
        Process::start(&["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C", &dnsmasq], &scratch, "dnsmasq"),
        Process::start(&["unbound", "-d", "-c", &unbound], &scratch, "unbound"),
        Process::start(&["named", "-g", "-c", &named], &scratch, "named"),
    ];
    for (address, through) in [("127.73.0.2", "dnsmasq"), ("127.73.0.4", "unbound"), ("127.0.0.1", "bind")] {
        wait_until(&format!("{through} answers"), || {
            let said = Stub::new("127.73.0.9", (address, port)).ask("whoami.zonal TXT");
            (said.reply.status == "NOERROR").then_some(())
        });
        let before = resolver.server.metric(&["zonal_answers_total"]);
        let said = resolver.stub().ask(&format!("some-name.through-{through}.example"));
        let text = format!("{through}, after {:?}: {}{}", said.took, said.reply, said.why);
        assert_eq!(said.reply.status, "SERVFAIL", "{text}");
        assert!(said.took < Duration::from_secs(4), "{text}");
        assert!(said.why.contains("forwarding loop"), "{text}");
        let answers = resolver.server.metric(&["zonal_answers_total"]) - before;
        assert!(answers <= 60.0, "{text}: {answers} answers");
    }
}
