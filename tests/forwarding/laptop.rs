//! A machine with zonal in its resolv.conf: name resolution by ordinary programs.

use crate::harness::{ZONAL, can_run, lab::Lab, wait_until};

const MANIFEST: &str = r#"
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.1.0.0/16], resolver_addresses: [10.1.0.2]}
private_hosted_zones:
  Z1: {name: corp.example.com, vpc_ids: [vpc], records: [{name: www, type: A, ttl: 60, records: [10.1.0.80]},
    {name: mirror, type: CNAME, ttl: 60, records: [deb.onprem.example]}]}
resolver_rules:
  rr: {domain_name: onprem.example, rule_type: FORWARD, vpc_ids: [vpc], target_ips: [{ip: 192.168.0.53}]}
"#;

#[test]
fn programs_resolve_names_through_resolv_conf() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "dnsmasq", "python3", "curl", "getent", "apt-get"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("tgw");
    lab.router("edge");
    lab.link("tgw", &["10.1.0.0/16"], "edge", &["192.168.0.0/16"]);
    lab.host("server", "tgw", &["10.1.0.2"]);
    lab.host("laptop", "tgw", &["10.1.0.7"]);
    lab.host("web", "tgw", &["10.1.0.80"]);
    lab.host("dns", "edge", &["192.168.0.53"]);
    lab.host("deb", "edge", &["192.168.0.80"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    // Another server answers for all other names.
    let config = "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: {forward_to: [192.168.0.53]}\n";
    let config = lab.scratch.write("zonal.yaml", config);
    let mut server = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let names = "listen-address=192.168.0.53\nbind-interfaces\nuser=root\nno-resolv\nno-hosts\npid-file=\n\
                 address=/deb.onprem.example/192.168.0.80\naddress=/www.internet.example/192.168.0.80\n";
    let names = lab.scratch.write("dnsmasq.conf", names).display().to_string();
    let mut dnsmasq = lab.start("dns", &["dnsmasq", "--keep-in-foreground", "--log-facility=-", "-C", &names]);

    // A web page, and a package repository without packages.
    lab.scratch.write("site/index.html", "it works\n");
    lab.scratch.write("site/debian/Packages", "");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    lab.scratch.write(
        "site/debian/Release",
        format!("Date: Mon, 01 Jan 2024 00:00:00 UTC\nArchitectures: all amd64 arm64\nSHA256:\n {empty} 0 Packages\n"),
    );
    let web = ["python3", "-m", "http.server", "80", "--directory", "site"];
    let mut servers = [lab.start("web", &web), lab.start("deb", &web)];
    wait_until("all of them answer", || {
        server.assert_alive();
        dnsmasq.assert_alive();
        servers.iter_mut().for_each(|server| server.assert_alive());
        let page = |url: &str| lab.run("server", &["curl", "-sf", "--noproxy", "*", "-m", "2", url]).status.success();
        let forwarded = lab.dig("laptop", "@10.1.0.2 deb.onprem.example +time=2").status == "NOERROR";
        (forwarded && page("http://10.1.0.80/") && page("http://192.168.0.80/")).then_some(())
    });

    lab.resolv_conf("laptop", "nameserver 10.1.0.2\nsearch corp.example.com\noptions timeout:5 attempts:1\n");
    let run = |command: &[&str]| {
        let output = lab.run("laptop", command);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    };
    for (name, address) in [
        ("www.corp.example.com", "10.1.0.80"),
        // By the search list, and by a CNAME with a target outside the zone.
        ("www", "10.1.0.80"),
        ("mirror", "192.168.0.80"),
        ("deb.onprem.example", "192.168.0.80"),
        ("www.internet.example", "192.168.0.80"),
        ("localhost", ""),
    ] {
        for database in ["hosts", "ahosts"] {
            let (found, text) = run(&["getent", database, name]);
            assert!(found && text.contains(address), "getent {database} {name}: {text}");
        }
        if !address.is_empty() {
            let (found, text) = run(&["curl", "-sSf", "--noproxy", "*", "-m", "20", &format!("http://{name}/")]);
            assert!(found && text == "it works\n", "curl http://{name}/: {text}");
        }
    }
    let (found, text) = run(&["getent", "hosts", "missing.corp.example.com"]);
    assert!(!found, "{text}");

    // apt-get, with its own state in the scratch directory.
    for directory in ["apt/state/lists/partial", "apt/cache/archives/partial", "apt/parts"] {
        std::fs::create_dir_all(lab.scratch.path().join(directory)).unwrap();
    }
    lab.scratch.write("apt/status", "");
    lab.scratch.write("apt/sources.list", "deb [trusted=yes] http://mirror.corp.example.com/debian ./\n");
    let directory = lab.scratch.path().join("apt");
    let directory = directory.display();
    let config = format!(
        "Dir::State \"{directory}/state\";\nDir::State::status \"{directory}/status\";\nDir::Cache \"{directory}/cache\";\n\
         Dir::Etc::sourcelist \"{directory}/sources.list\";\nDir::Etc::sourceparts \"{directory}/parts\";\n\
         Dir::Etc::parts \"{directory}/parts\";\nDir::Etc::main \"/dev/null\";\nAcquire::http::Proxy \"DIRECT\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n"
    );
    let config = format!("APT_CONFIG={}", lab.scratch.write("apt.conf", config).display());
    let (done, text) = run(&["env", &config, "apt-get", "update"]);
    assert!(done && text.contains("http://mirror.corp.example.com/debian"), "apt-get update: {text}");
    assert!(!text.contains("Err:") && !text.contains("Failed"), "apt-get update: {text}");
}
