use super::*;

fn read(text: &str) -> Result<Config, Vec<String>> {
    Config::read(text.as_bytes(), &Path::new("etc/zonal.yaml").into())
        .map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = read("# nothing\n").unwrap();
    assert!(config.listen.is_none() && config.state_directory.is_none());
    assert_eq!(config.internet_resolver, InternetResolver::default());
    assert_eq!(config.control_plane.directory, Path::new("zones"));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9153");
    assert_eq!((config.limits.error_answers_per_second, config.limits.tcp_connections), (50, 10_000));
    assert_eq!((config.limits.tcp_connections_per_client, config.limits.tcp_idle_timeout_seconds), (100, 10));
    assert_eq!((config.cache.size_octets, config.cache.max_stale_seconds), (64 << 20, 86_400));
    assert_eq!(config.log.format, LogFormat::Human);
}

#[test]
fn joins_relative_paths_to_the_directory_of_the_file() {
    let text = "control_plane: {directory: zones}\nstate_directory: /var/lib/zonal\ncookie_secret_file: c.secret\n\
                takeover_socket: run/takeover\nlisten: [{address: '[::]:853', protocol: DoT, tls: {certificate: c, private_key: /k}}, \
                         {address: '[::]:853', protocol: DoQ, tls: {certificate: c, private_key: /k}}]\n\
                internet_resolver: {forward_to: [192.0.2.1, 'tls://192.0.2.1', ./resolv.conf]}\nlog: {format: json}\n";
    let config = read(text).unwrap();
    assert_eq!(config.control_plane.directory, Path::new("etc/zones"));
    assert_eq!(config.state_directory.as_deref(), Some(Path::new("/var/lib/zonal")));
    assert_eq!(config.cookie_secret_file.as_deref(), Some(Path::new("etc/c.secret")));
    assert_eq!(config.takeover_socket.as_deref(), Some(Path::new("etc/run/takeover")));
    let tls = config.listen.as_ref().and_then(|listen| listen[1].tls.as_ref()).unwrap();
    assert_eq!(tls.certificate.as_deref(), Some(Path::new("etc/c")));
    assert_eq!(tls.private_key.as_deref(), Some(Path::new("/k")));
    assert!(config.warnings.is_empty());
    let logs = read("query_log: {directory: logs}\ndnstap: {unix: tap.sock, messages: [client_query]}").unwrap();
    assert_eq!(logs.query_log.directory.as_deref(), Some(Path::new("etc/logs")));
    let dnstap = logs.dnstap.unwrap();
    assert_eq!(dnstap.unix.as_deref(), Some(Path::new("etc/tap.sock")));
    assert!(dnstap.messages() != Dnstap::default().messages());
    let InternetResolver::ForwardTo { entries: servers, .. } = config.internet_resolver else { panic!("{config:?}") };
    assert_eq!(servers[2], ForwardTo::ResolvConf("etc/./resolv.conf".into()));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(read("limits: {}").unwrap().control_plane.directory, Path::new("zones"));
    assert_eq!(read("internet_resolver: none").unwrap().internet_resolver, InternetResolver::None);
    assert_eq!(
        read("internet_resolver: {recursive: true}").unwrap().internet_resolver,
        InternetResolver::Recursive(Recursion::default())
    );
}

#[test]
fn reports_every_error_with_its_position() {
    for (text, expected) in [
        (
            "lissten: []",
            "etc/zonal.yaml:1:1: error: lissten: there is no field `lissten` here (did you mean `listen`?)",
        ),
        (
            "listen:\n- {address: 127.0.0.1}",
            "etc/zonal.yaml:2:13: error: listen[0].address: expected an address and port such as 127.0.0.1:5300 or \
             [::1]:5300, found `127.0.0.1`",
        ),
        (
            "listen: [{address: '0.0.0.0:853', protocol: dot}]",
            "etc/zonal.yaml:1:10: error: listen[0]: DoT needs `tls` with `certificate` and `private_key` \
             (tls: {certificate: tls.crt, private_key: tls.key})",
        ),
        (
            "listen: [{address: '0.0.0.0:443', protocol: doh, tls: {certificate: c}}]",
            "etc/zonal.yaml:1:50: error: listen[0].tls: DoH needs `tls` with `certificate` and `private_key` \
             (tls: {certificate: tls.crt, private_key: tls.key})",
        ),
        (
            "listen: [{address: '0.0.0.0:853', protocol: doq, tls: {certificate: c, private_key: k, certificate_authority: a}}]",
            "etc/zonal.yaml:1:111: error: listen[0].tls.certificate_authority: zonal verifies no client certificates on this \
             address (remove the field)",
        ),
        (
            "listen: [{address: '0.0.0.0:53', tls: {certificate: c, private_key: k}}]",
            "etc/zonal.yaml:1:34: error: listen[0].tls: Do53 has no TLS",
        ),
        (
            "listen: [{address: '0.0.0.0:53'}, {address: '0.0.0.0:53', protocol: doq, tls: {certificate: c, private_key: k}}]",
            "etc/zonal.yaml:1:45: error: listen[1].address: 0.0.0.0:53 is in the list already",
        ),
        (
            "listen: [{address: '127.0.0.1:53'}, {address: '[::]:53'}, {address: '0.0.0.0:53'}]",
            "etc/zonal.yaml:1:69: error: listen[2].address: 0.0.0.0:53 overlaps 127.0.0.1:53, which is in the list already",
        ),
        (
            "control_plane: {etcd: {endpoints: [a]}}",
            "etc/zonal.yaml:1:36: error: control_plane.etcd.endpoints[0]: expected a URL such as http://10.0.0.9:2379",
        ),
        (
            "control_plane: {etcd: {endpoints: ['http://a:1'], prefix: /zonal}}",
            "etc/zonal.yaml:1:59: error: control_plane.etcd.prefix: it must end with a slash",
        ),
        (
            "control_plane: {on_error: ignore}",
            "etc/zonal.yaml:1:27: error: control_plane.on_error: `ignore` is not a known value (expected one of `refuse`, `set_aside`)",
        ),
        (
            "control_plane: {etcd: {}}",
            "etc/zonal.yaml:1:17: error: control_plane.etcd.endpoints: the field `endpoints` is missing",
        ),
        (
            "listen: []",
            "etc/zonal.yaml:1:1: error: listen: the list is empty: zonal would receive no queries (remove the field for the default)",
        ),
        ("limits: {tcp_connections: 0}", "etc/zonal.yaml:1:27: error: limits.tcp_connections: it must be at least 1"),
        (
            "limits: {transfer_octets: 1}",
            "etc/zonal.yaml:1:27: error: limits.transfer_octets: it must be at least 65536",
        ),
        (
            "limits: {list_transfer_octets: 1}",
            "etc/zonal.yaml:1:32: error: limits.list_transfer_octets: it must be at least 65536",
        ),
        ("cache: {size_octets: 4096}", "etc/zonal.yaml:1:22: error: cache.size_octets: it must be at least 1048576"),
        (
            "cache: {min_ttl_seconds: 20, max_negative_ttl_seconds: 10}",
            "etc/zonal.yaml:1:26: error: cache.min_ttl_seconds: it is greater than a maximum TTL",
        ),
        (
            "cache: {max_stale_seconds: 604801}",
            "etc/zonal.yaml:1:28: error: cache.max_stale_seconds: it must be at most 604800, a week",
        ),
        (
            "firewall: {events: {url: \"ftp://a.example/\"}}",
            "etc/zonal.yaml:1:26: error: firewall.events.url: it is not a URL; write one such as https://events.example/zonal",
        ),
        (
            "firewall: {events: {url: \"https://a.example\", deduplicate_seconds: 0}}",
            "etc/zonal.yaml:1:68: error: firewall.events.deduplicate_seconds: it must be from 1 to 604800, a week",
        ),
        (
            "tsig_keys: {transfer: {algorithm: hmac-md5, secret: a}}",
            "etc/zonal.yaml:1:35: error: tsig_keys.transfer.algorithm: `hmac-md5` is not a known value (expected one of `hmac-sha256`, \
             `hmac-sha384`, `hmac-sha512`)",
        ),
        (
            "tsig_keys: {transfer: {}}",
            "etc/zonal.yaml:1:13: error: tsig_keys.transfer: it needs one of `secret_file` and `secret`",
        ),
        (
            "tsig_keys: {a: {secret: YQ==}, A.: {secret: YQ==}}",
            "etc/zonal.yaml:1:13: error: tsig_keys.a: it is the same name as `A.`",
        ),
        (
            "tsig_keys: {..: {secret: YQ==}}",
            "etc/zonal.yaml:1:13: error: tsig_keys...: the name of a key must be a domain name: the domain name has an empty label",
        ),
        (
            "log: {format: xml}",
            "etc/zonal.yaml:1:15: error: log.format: `xml` is not a known value (expected one of `human`, `json`)",
        ),
        (
            "query_log: {allow: [stdout, stderr]}",
            "etc/zonal.yaml:1:29: error: query_log.allow[1]: expected `stdout`, `unix:/run/vector/dns.sock`, \
             `tcp:127.0.0.1:9000` or `http://127.0.0.1:8080/logs`",
        ),
        (
            "dnstap: {unix: a, tcp: '127.0.0.1:6000'}",
            "etc/zonal.yaml:1:1: error: dnstap: there must be exactly one destination (set one of `unix` and `tcp`)",
        ),
        (
            "dnstap: {unix: a, messages: [CLIENT_QUERY, AUTH_QUERY]}",
            "etc/zonal.yaml:1:44: error: dnstap.messages[1]: `AUTH_QUERY` is not a known value (expected one of `CLIENT_QUERY`, \
             `CLIENT_RESPONSE`, `FORWARDER_QUERY`, `FORWARDER_RESPONSE`)",
        ),
        (
            "internet_resolver: some",
            "etc/zonal.yaml:1:20: error: internet_resolver: `some` is not a known value (expected one of `none`)",
        ),
        (
            "internet_resolver: {to: []}",
            "etc/zonal.yaml:1:21: error: internet_resolver.to: there is no field `to` here (expected one of `forward_to`, `trust_ad`, \
             `recursive`, `root_hints`, `trust_anchor`, `dnssec`, `allow_servers`, `negative_trust_anchors`)",
        ),
        (
            "internet_resolver:\n  forward_to:\n  - 192.0.2.1\n  - tcp://192.0.2.1",
            "etc/zonal.yaml:4:5: error: internet_resolver.forward_to[1]: `tcp://` is not a known scheme (expected one of `udp`, \
             `tls`, `https`, `quic`): `tcp://192.0.2.1`",
        ),
        (
            "internet_resolver: {forward_to: []}",
            "etc/zonal.yaml:1:21: error: internet_resolver.forward_to: the list is empty (to turn the internet resolver off, \
             write `internet_resolver: none`)",
        ),
        (
            "internet_resolver: {forward_to: [192.0.2.1], recursive: true}",
            "etc/zonal.yaml:1:21: error: internet_resolver.forward_to: it has no effect with `recursive: true` (remove one of them)",
        ),
        (
            "internet_resolver: {trust_ad: true, forward_to: ['127.0.0.1:5335', '[::1]:5335', 192.0.2.1]}",
            "etc/zonal.yaml:1:82: error: internet_resolver.forward_to[2]: the server is not on loopback: AD could be \
             changed on the way (remove `trust_ad`)",
        ),
        (
            "internet_resolver: {trust_ad: true}",
            "etc/zonal.yaml:1:31: error: internet_resolver.trust_ad: it needs `forward_to` with servers on loopback only",
        ),
        (
            "internet_resolver: {trust_ad: true, forward_to: [./resolv.conf]}",
            "etc/zonal.yaml:1:50: error: internet_resolver.forward_to[0]: the file may name servers that are not on loopback \
             (remove `trust_ad`)",
        ),
        (
            "internet_resolver:\n  recursive: true\n  negative_trust_anchors:\n  - {name: ., until: 2026-12-24T00:00:00Z}",
            "etc/zonal.yaml:4:12: error: internet_resolver.negative_trust_anchors[0].name: the root would make all answers count \
             as unsigned (to turn validation off, write `dnssec: off`)",
        ),
        (
            "internet_resolver: {negative_trust_anchors: [{name: a.example, until: 2026-12-24T00:00:00Z}]}",
            "etc/zonal.yaml:1:21: error: internet_resolver.negative_trust_anchors: it has no effect without `recursive: true`",
        ),
        (
            "internet_resolver: {trust_ad: true, recursive: true}",
            "etc/zonal.yaml:1:31: error: internet_resolver.trust_ad: it has no effect with `recursive: true`: recursion validates itself",
        ),
    ] {
        let found: Vec<String> = read(text).unwrap_err().into_iter().filter(|p| p.contains(": error: ")).collect();
        assert_eq!(found, [expected], "{text}");
    }
    let both = "control_plane: {directory: a, push: {}}";
    assert_eq!(read(both).unwrap_err().len(), 1);
}

#[test]
fn limits_the_size_of_a_file() {
    let problems = Config::load(Some(Path::new("/dev/zero"))).unwrap_err();
    assert!(problems[0].message.contains("/dev/zero is larger than 1 MiB"), "{problems:?}");
}

#[test]
fn reports_a_source_without_a_value() {
    let path: Arc<Path> = Path::new("zonal.yaml").into();
    let problems_of = |text: &str| -> Vec<String> {
        Config::read(text.as_bytes(), &path).err().unwrap_or_default().iter().map(|p| p.to_string()).collect()
    };
    for (text, expected) in [
        ("control_plane: {push: }", "1:17: error: control_plane.push: the value is empty (write `push: {}`)"),
        ("control_plane:\n  etcd:\n", "2:7: error: control_plane.etcd: the value is empty"),
    ] {
        let problems = problems_of(text);
        assert!(problems.len() == 1 && problems[0].contains(&expected[5..]), "{problems:?}");
    }
    assert!(problems_of("control_plane: {push: {}}").is_empty());
}
