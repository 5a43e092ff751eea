//! `diff`, `apply` and `export` between files, etcd and a server; `wait` and `status` for several
//! nodes.

use crate::harness::{Scratch, Server, ZONAL, can_run, cluster::Single, http_send, text, wait_until};
use serde_json::Value;
use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};
use zonal::manifest::collection::{Edit, Key};

fn zonal(arguments: &[&str]) -> Output {
    Command::new(ZONAL).args(arguments).current_dir(std::env::temp_dir()).output().unwrap()
}

/// Writes a VPC with zones, and one more zone with a master file.
fn write(scratch: &Scratch, address: &str, zones: usize) {
    let zone = |n: usize| {
        format!(
            "  Z{n}: {{name: z{n}.example, vpc_ids: [vpc], records: [{{name: www, type: A, ttl: 60, records: [{address}]}}]}}\n"
        )
    };
    let zones: String = (0..zones).map(zone).collect();
    scratch.write("in/corp/hosts.zone", "$TTL 60\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 127.0.0.1\n");
    scratch.write(
        "in/all.yaml",
        format!(
            "vpcs: {{vpc: {{region: r, cidr_blocks: [127.0.0.0/8]}}}}\nprivate_hosted_zones:\n{zones}  \
             ZF: {{name: file.example, vpc_ids: [vpc], file: corp/hosts.zone}}\n"
        ),
    );
}

/// Runs all commands with a target: etcd or a server.
fn applies_and_reverts(target: &[&str], scratch: &Scratch, other_writer: &dyn Fn()) {
    let directory = scratch.path().join("in").display().to_string();
    let run = |command: &[&str]| {
        let output = zonal(&[command, target].concat());
        (output.status.code(), text(&output))
    };
    write(scratch, "127.0.0.1", 12);
    let (code, told) = run(&["diff", "--directory", &directory]);
    assert!(code == Some(1) && told.contains("+ private_hosted_zones/Z11\n"), "{told}");
    assert!(
        told.contains("+ master_files/corp/hosts.zone\n") && told.contains("15 to add, 0 to change, 0 to delete"),
        "{told}"
    );
    assert!(told.contains("  vpc\n    file.example. ") && told.contains("REFUSED -> "), "{told}");
    // Without a terminal, `apply` needs `--yes`.
    let (code, told) = run(&["apply", "--directory", &directory]);
    assert!(code == Some(1) && told.contains("use --yes"), "{told}");
    let (code, told) = run(&["apply", "--directory", &directory, "--yes"]);
    assert!(code == Some(0) && told.contains("Applied: revision "), "{told}");
    let (code, told) = run(&["apply", "--directory", &directory, "--yes"]);
    assert_eq!((code, told.as_str()), (Some(0), "No difference.\n"));

    // The diff combines the same change of several resources in one line. The counts come last.
    write(scratch, "127.0.0.8", 12);
    let (code, told) = run(&["diff", "--directory", &directory]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("~ private_hosted_zones: the same change in 12 resources\n    Z0, Z1, Z10, Z11, Z2"),
        "{told}"
    );
    assert_eq!(told.matches("records[0].records[0]: 127.0.0.1 -> 127.0.0.8").count(), 1, "{told}");
    assert!(told.contains(" and 9 more names A: 60 A 127.0.0.1 -> 60 A 127.0.0.8\n"), "{told}");
    assert!(told.lines().count() < 15 && told.ends_with("\nPlan: 0 to add, 12 to change, 0 to delete.\n"), "{told}");
    let (_, told) = run(&["diff", "--directory", &directory, "--format", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let field = serde_json::json!({"path": "records[0].records[0]", "change": "changed", "old": "127.0.0.1", "new": "127.0.0.8"});
    assert_eq!(told["changes"][11]["fields"], serde_json::json!([field]));
    // A master file is compared by lines.
    write(scratch, "127.0.0.1", 12);
    let hosts = std::fs::read_to_string(scratch.path().join("in/corp/hosts.zone")).unwrap();
    scratch.write("in/corp/hosts.zone", format!("{}www A 127.0.0.3\n", hosts.replace("127.0.0.1", "127.0.0.2")));
    let (_, told) = run(&["diff", "--directory", &directory]);
    let lines = "~ master_files/corp/hosts.zone\n    -    4 ns A 127.0.0.1\n    +    4 ns A 127.0.0.2\n    +    5 www A 127.0.0.3\n";
    assert!(told.contains(lines), "{told}");
    write(scratch, "127.0.0.1", 12);

    // One change: the diff shows the fields, and the answers that change.
    let changed = std::fs::read_to_string(scratch.path().join("in/all.yaml")).unwrap();
    let changed = changed.replacen("records: [127.0.0.1]", "records: [127.0.0.9]", 1);
    scratch.write("in/all.yaml", &changed);
    let (code, told) = run(&["diff", "--directory", &directory]);
    let line = "    www.z0.example. A: www.z0.example. 60 A 127.0.0.1 -> www.z0.example. 60 A 127.0.0.9\n";
    assert!(
        code == Some(1)
            && told.contains("~ private_hosted_zones/Z0\n    records[0].records[0]: 127.0.0.1 -> 127.0.0.9\n")
            && told.contains(line),
        "{told}"
    );
    let (_, told) = run(&["diff", "--directory", &directory, "--format", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["changes"][0]["change"], "changed");
    assert_eq!(told["answers"]["views"][0]["answers"][0]["name"], "www.z0.example.");
    let (code, told) = run(&["apply", "--directory", &directory, "--dry-run"]);
    assert!(code == Some(0) && told.contains("1 to change"), "{told}");

    // Errors have file and line, and `apply` changes nothing.
    scratch.write("in/all.yaml", changed.replacen("[vpc]", "[none]", 1));
    let (code, told) = run(&["apply", "--directory", &directory, "--yes"]);
    assert!(code == Some(1) && told.contains("all.yaml:3:") && told.contains("vpc_ids"), "{told}");

    // A mass deletion needs `--force`.
    write(scratch, "127.0.0.1", 4);
    let (code, told) = run(&["apply", "--directory", &directory, "--yes"]);
    assert!(code == Some(1) && told.contains("8 of 15 resources would be deleted, more than 30 %"), "{told}");
    let command = [&[ZONAL, "apply", "--directory", &directory, "--yes"], target].concat().join(" ");
    let output = Command::new("sh").args(["-c", &format!("{command} 2>&1")]).output().unwrap();
    let told = text(&output);
    assert!(
        told.starts_with("zonal: 8 of 15 resources") && told.ends_with("8 to delete.\n"),
        "the reason comes first\n{told}"
    );
    let (code, told) = run(&["apply", "--directory", &directory, "--yes", "--force"]);
    assert!(code == Some(0) && told.contains("8 to delete"), "{told}");

    // A protected record set changes after a change of its own has removed the protection.
    let plain = std::fs::read_to_string(scratch.path().join("in/all.yaml")).unwrap();
    let protected = plain.replacen("127.0.0.1]}", "127.0.0.1], protected: true, protection_comment: ask Ann}", 1);
    for (text, refusal) in [
        (&protected, None),
        (&protected.replacen("127.0.0.1]", "127.0.0.9]", 1), Some("www.z0.example. A is protected (ask Ann)")),
        (&plain.replacen("127.0.0.1]", "127.0.0.9]", 1), Some("remove `protected` in a change of its own first")),
        (&plain, None),
    ] {
        scratch.write("in/all.yaml", text);
        let (code, told) = run(&["apply", "--directory", &directory, "--yes", "--force"]);
        assert_eq!(code, Some(i32::from(refusal.is_some())), "{told}");
        assert!(told.contains(refusal.unwrap_or("Applied: ")), "{told}");
    }

    // The diff contains a change of another writer.
    other_writer();
    let (code, told) = run(&["diff", "--directory", &directory]);
    assert!(code == Some(1) && told.contains("- private_hosted_zones/ZOTHER\n"), "{told}");

    // An export differs in nothing from the source.
    let out = scratch.path().join("out").display().to_string();
    let (code, told) = run(&["export", "--directory", &out]);
    assert_eq!(code, Some(0), "{told}");
    let output = zonal(&["check", "--directory", &out]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(run(&["diff", "--directory", &out]), (Some(0), "No difference.\n".into()));
    let (code, told) = run(&["export"]);
    assert!(code == Some(1) && told.contains("the manifest has master files"), "{told}");
}

/// If another writer changes the target between the prompt and its answer, `apply` changes nothing.
fn refuses_a_concurrent_change(target: &[&str], scratch: &Scratch, zones: usize, other_writer: &dyn Fn()) {
    write(scratch, "127.0.0.7", zones);
    let directory = scratch.path().join("in").display().to_string();
    let command = [&[ZONAL, "apply", "--directory", &directory], target].concat().join(" ");
    let log = scratch.path().join("asked.log");
    let _ = std::fs::remove_file(&log);
    // The prompt is shown on terminals only.
    let mut asked = Command::new("script")
        .args(["-q", "-e", "-f", "-c", &command, log.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("it asks", || told().contains("Apply this plan?").then_some(()));
    other_writer();
    asked.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    let status = asked.wait().unwrap();
    let told = told();
    assert!(status.code() == Some(1) && told.contains("another client has changed"), "{status} {told}");
    assert!(!told.contains("Applied"), "{told}");
}

fn other() -> Edit {
    let zone = r#"{"name": "other.example", "vpc_ids": ["vpc"]}"#;
    Edit { key: Key::new("private_hosted_zones", "ZOTHER").unwrap(), value: Some(zone.as_bytes().into()) }
}

#[test]
fn applies_to_etcd() {
    if !can_run(&["setpriv", "etcd", "script"]) {
        return;
    }
    let (scratch, state) = (Scratch::new(), Scratch::new());
    let etcd = Single::start(&state);
    let target = ["--etcd", &etcd.endpoint];
    applies_and_reverts(&target, &scratch, &|| etcd.put(&[other()]));
    // The other writer deletes or puts another key, also a key that zonal cannot read.
    let edit = |kind, id, value: Option<&str>| Edit {
        key: Key::new(kind, id).unwrap(),
        value: value.map(|text| text.as_bytes().into()),
    };
    let shift = edit("zonal_shifts", "zs", Some("{\"resource\": \"*\", \"away_from\": \"az\"}"));
    let unread = edit("vpc_endpoints", "vpce", Some("{\"state\": 7"));
    etcd.put(std::slice::from_ref(&unread));
    refuses_a_concurrent_change(&target, &scratch, 12, &|| etcd.put(&[edit("vpc_endpoints", "vpce", None)]));
    refuses_a_concurrent_change(&target, &scratch, 12, &|| etcd.put(std::slice::from_ref(&shift)));
    etcd.put(&[unread]);

    // `export` leaves out keys that zonal cannot read.
    let out = scratch.path().join("partly").display().to_string();
    let output = zonal(&["export", "--directory", &out, "--etcd", &etcd.endpoint]);
    let told = text(&output);
    assert!(output.status.code() == Some(1) && told.contains("vpc_endpoints/vpce is left out: "), "{told}");
    assert!(told.contains("9 resources and master files are in ") && told.contains("; 1 cannot be read"), "{told}");
    etcd.put(&[edit("zonal_shifts", "zs", None)]);

    // More changes than fit into one transaction.
    write(&scratch, "127.0.0.3", 300);
    let directory = scratch.path().join("in").display().to_string();
    let output = zonal(&["apply", "--directory", &directory, "--etcd", &etcd.endpoint, "--yes"]);
    assert!(output.status.success() && text(&output).contains("This takes 3 transactions"), "{}", text(&output));
    let output = zonal(&["diff", "--directory", &directory, "--etcd", &etcd.endpoint]);
    assert_eq!(text(&output), "No difference.\n");

    // `apply` deletes keys of unknown kinds like other keys that are missing in the directory.
    etcd.put_key("/zonal/v1/vpc/vpc-new", Some("{}"));
    etcd.put_key("/zonal/v1/vpcs/", Some("{}"));
    let on_etcd = |command: &str, more: &[&str]| {
        let arguments = [&[command, "--directory", &directory, "--etcd", &etcd.endpoint], more].concat();
        text(&zonal(&arguments))
    };
    let told = on_etcd("diff", &[]);
    assert!(
        told.contains("- vpc/vpc-new\n")
            && told.contains("No answer changes.\n\nPlan: 0 to add, 0 to change, 1 to delete.\n"),
        "{told}"
    );
    assert!(
        told.contains("ignored the etcd key `/zonal/v1/vpcs/`: it does not have the form `/zonal/v1/<kind>/<id>`"),
        "{told}"
    );
    let out = scratch.path().join("odd").display().to_string();
    let told = text(&zonal(&["export", "--directory", &out, "--etcd", &etcd.endpoint]));
    assert!(told.contains("vpc/vpc-new is left out: ") && told.contains("there is no kind `vpc`"), "{told}");
    let told = on_etcd("apply", &["--yes"]);
    assert!(told.contains("Applied: "), "{told}");
    etcd.put_key("/zonal/v1/vpcs/", None);
    assert_eq!(on_etcd("diff", &[]), "No difference.\n");

    // `apply` notices a concurrent deletion even if the transaction cannot compare all keys.
    refuses_a_concurrent_change(&target, &scratch, 300, &|| etcd.put(&[edit("master_files", "corp/hosts.zone", None)]));
    write(&scratch, "127.0.0.3", 300);
    let output = zonal(&["apply", "--directory", &directory, "--etcd", &etcd.endpoint, "--yes"]);
    assert!(text(&output).contains("1 to add, 0 to change"), "{}", text(&output));

    // `wait` and `status` for two nodes.
    let revision = revision(&zonal(&["apply", "--directory", &directory, "--etcd", &etcd.endpoint, "--yes"]));
    assert_eq!(revision, None, "nothing was to be done");
    write(&scratch, "127.0.0.4", 300);
    let source = format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint);
    let nodes =
        [Server::start_from(&source, "nsid: one\n").ready(), Server::start_from(&source, "nsid: two\n").ready()];
    let addresses = nodes.each_ref().map(|node| node.admin.to_string());
    let applied = zonal(&["apply", "--directory", &directory, "--etcd", &etcd.endpoint, "--yes"]);
    let revision = self::revision(&applied).unwrap_or_else(|| panic!("{}", text(&applied)));
    let wait = |revision: u64, timeout: &str| {
        zonal(&["wait", "--revision", &revision.to_string(), "--timeout", timeout, &addresses[0], &addresses[1]])
    };
    assert!(wait(revision, "60").status.success());
    let output = wait(revision + 1, "0");
    assert!(
        output.status.code() == Some(1)
            && text(&output).contains(&format!("{} serves revision {revision}", addresses[1])),
        "{}",
        text(&output)
    );
    let output = zonal(&["status", "--all", &addresses[0], &addresses[1]]);
    let lines: Vec<Vec<String>> =
        text(&output).lines().map(|line| line.split_whitespace().map(String::from).collect()).collect();
    assert!(output.status.success() && lines.len() == 3, "{lines:?}");
    assert_eq!((&lines[1][1], &lines[2][1]), (&"one".to_string(), &"two".to_string()));
    assert_eq!(lines[1][4..7], lines[2][4..7], "the same digest and revision");
    assert_eq!(lines[1][5..7], [revision.to_string(), "ok".into()]);
    let output = zonal(&["status", "--all", &addresses[0], "127.0.0.1:1", "--format", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told[0]["status"]["revision"], revision);
    assert!(told[1]["error"].as_str().unwrap().contains("no server at 127.0.0.1:1"), "{told}");
}

fn revision(output: &Output) -> Option<u64> {
    text(output).split_once("Applied: revision ")?.1.split('.').next()?.parse().ok()
}

#[test]
fn applies_to_a_server() {
    if !can_run(&["setpriv", "script"]) {
        return;
    }
    let scratch = Scratch::new();
    let server = Server::start_from("{push: {}}", "");
    let address = server.admin.to_string();
    let target = ["--server", address.as_str()];
    applies_and_reverts(&target, &scratch, &|| {
        let edit = other();
        let text = String::from_utf8_lossy(&edit.value.as_ref().unwrap().text()).into_owned();
        assert_eq!(http_send(server.admin, "PUT", "/v1/private_hosted_zones/ZOTHER", &text), Some(200));
    });
    refuses_a_concurrent_change(&target, &scratch, 12, &|| {
        assert_eq!(http_send(server.admin, "DELETE", "/v1/private_hosted_zones/ZOTHER", ""), Some(200));
    });
    let config = server.scratch.path().join("zonal.yaml");
    let output = zonal(&["status", "--config", path(&config)]);
    assert!(output.status.success() && text(&output).contains(&address), "{}", text(&output));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// On-premises servers forward the same names, whatever the source of the manifest.
#[test]
fn snippets_for_forwarders_are_the_same_from_files_etcd_and_a_server() {
    if !can_run(&["setpriv", "etcd"]) {
        return;
    }
    let (scratch, state) = (Scratch::new(), Scratch::new());
    write(&scratch, "127.0.0.1", 3);
    let endpoint = "resolver_endpoints: {in: {direction: INBOUND, vpc_id: vpc, ip_addresses: [{ip: 127.0.0.53}]}}\n";
    scratch.write("in/endpoint.yaml", endpoint);
    let directory = scratch.path().join("in").display().to_string();
    let etcd = Single::start(&state);
    let server = Server::start_from("{push: {}}", "");
    let admin = server.admin.to_string();
    for target in [["--etcd", &etcd.endpoint], ["--server", &admin]] {
        let output = zonal(&[&["forwarders", "unbound"], &target[..]].concat());
        assert_eq!(output.status.code(), Some(1), "nothing is there yet: {}", text(&output));
        let output = zonal(&[&["apply", "--directory", &directory, "--yes"], &target[..]].concat());
        assert!(output.status.success(), "{}", text(&output));
        for arguments in [&["bind"][..], &["bind", "--trust-anchors"], &["unbound"], &["dnsmasq", "--endpoint", "in"]] {
            let print = |source: &[&str]| {
                let output = zonal(&[&["forwarders"], arguments, source].concat());
                assert!(output.status.success(), "{arguments:?} {source:?}: {}", text(&output));
                text(&output)
            };
            let (of_files, of_target) = (print(&["--directory", &directory]), print(&target));
            assert!(of_files.contains("z2.example"), "{of_files}");
            assert_eq!(of_files, of_target, "{arguments:?} {target:?}");
        }
    }
    let output = zonal(&["forwarders", "bind", "--server", "127.0.0.1:9"]);
    assert!(output.status.code() == Some(1) && text(&output).starts_with("zonal: "), "{}", text(&output));
}
