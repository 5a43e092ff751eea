//! `zonal sync aws`. The account is another zonal, whose API verifies signatures.

use super::tools::{answer, can_run_here, network, push, pushed};
use crate::harness::{Scratch, Server, ZONAL, can_run, cluster::Single, http_get, text, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A server whose API verifies signatures, the identifier and secret of a key that reads, and the directory of the key.
fn account(manifest: &Value) -> (Server, String, String, Scratch) {
    let keys = Scratch::new();
    let file = keys.path().join("keys");
    let path = file.to_str().unwrap();
    let new = ["key", "new", "--role", "read", "--account", "111122223333", "--file", path];
    let made = Command::new(ZONAL).args(new).output().unwrap();
    assert!(made.status.success());
    let text = fs::read_to_string(&file).unwrap();
    let mut words = text.split_whitespace().skip(1).map(String::from);
    let (id, secret) = (words.next().unwrap(), words.next().unwrap());
    let server = Server::start_with_admin("{push: {}}", &format!("access_keys_file: {path}"));
    push(&server, manifest.clone());
    (server, id, secret, keys)
}

/// Runs `zonal sync aws` without any of the environment.
fn sync(source: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let url = format!("http://{}", source.admin);
    Command::new(ZONAL)
        .args([
            "sync",
            "aws",
            "--endpoint-url",
            &url,
            "--region",
            "us-east-1",
            "--region",
            "eu-west-1",
            "--rate",
            "100",
        ])
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn resources(server: &Server) -> Value {
    let mut manifest: Value = serde_json::from_str(&http_get(server.admin, "/v1/manifest").unwrap().1).unwrap();
    manifest.as_object_mut().unwrap().remove("generation");
    manifest
}

/// The identifiers of the resources that the command has made, by kind.
fn made(server: &Server, kind: &str) -> Vec<String> {
    let manifest = resources(server);
    let all = manifest[kind].as_object().cloned().unwrap_or_default();
    let own = all.into_iter().filter(|(_, resource)| resource["aws"]["synced_from"] == "111122223333");
    own.map(|(id, _)| id).collect()
}

#[test]
fn a_server_follows_an_account_and_keeps_its_own_resources() {
    if !can_run_here() {
        return;
    }
    let mut network = network();
    // The own resource of the target stands in the way of this one.
    network["private_hosted_zones"]["ZTAKEN"] = json!({"name": "taken.example", "vpc_ids": ["vpc-app"]});
    let (source, id, secret, _keys) = account(&network);
    let own = json!({"generation": 1, "private_hosted_zones": {"ZTAKEN": {"name": "own.example", "public": true,
                     "records": [{"name": "www", "type": "A", "records": ["192.0.2.99"]}]}}});
    let target = pushed(own);
    let admin = target.admin.to_string();
    let keys = [("AWS_ACCESS_KEY_ID", id.as_str()), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    let once = ["--once", "--server", admin.as_str()];

    // A dry run shows the changes, and makes none.
    let tried = sync(&source, &[&once[..], &["--dry-run"]].concat(), &keys);
    assert!(text(&tried).contains("vpc-app"), "{}", text(&tried));
    assert_eq!(resources(&target)["vpcs"], Value::Null);

    let first = sync(&source, &once, &keys);
    let said = text(&first);
    assert!(said.contains("Written: revision "), "{said}");
    assert!(said.contains("Not made by this command, and left alone: 1\n  private_hosted_zones/ZTAKEN"), "{said}");
    assert_eq!(made(&target, "vpcs"), ["vpc-app", "vpc-far"]);
    assert_eq!(made(&target, "private_hosted_zones"), ["Z1", "Z2", "Z3"], "zones of other accounts are not described");
    for name in ["sqs.us-east-1.amazonaws.com", "www.one.example", "www.own.example"] {
        let mut found = answer(&target, name, "A");
        found.sort();
        let mut expected = if name == "www.own.example" { vec![found[0].clone()] } else { answer(&source, name, "A") };
        expected.sort();
        assert!(!found.is_empty() && found == expected, "{name}: {found:?}");
    }

    // A second round finds nothing to do.
    let again = text(&sync(&source, &once, &keys));
    assert!(again.contains("No difference.") && !again.contains("Written"), "{again}");

    // Changes and deletions follow. The target's own resources stay.
    network["generation"] = json!(2);
    network["private_hosted_zones"]["Z1"]["records"][1]["records"] = json!(["192.0.2.77"]);
    network["private_hosted_zones"].as_object_mut().unwrap().remove("Z2");
    push(&source, network.clone());
    sync(&source, &once, &keys);
    assert_eq!(answer(&target, "www.one.example", "A"), ["www.one.example. 300 A 192.0.2.77"]);
    assert_eq!(made(&target, "private_hosted_zones"), ["Z1", "Z3"]);

    // An account that is suddenly almost empty is not followed, unless it is said so.
    let all = made(&target, "vpcs");
    push(&source, json!({"generation": 3, "vpcs": {"vpc-app": network["vpcs"]["vpc-app"]}}));
    let held = sync(&source, &once, &keys);
    assert!(text(&held).contains("not deleted"), "{}", text(&held));
    assert_eq!((held.status.code(), made(&target, "vpcs")), (Some(1), all));
    let forced = sync(&source, &[&once[..], &["--force"]].concat(), &keys);
    assert_eq!(made(&target, "vpcs"), ["vpc-app"], "{}", text(&forced));
    assert_eq!(answer(&target, "www.own.example", "A").len(), 1);

    // Wrong credentials change nothing.
    let wrong = sync(&source, &once, &[keys[0], ("AWS_SECRET_ACCESS_KEY", "wrong")]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong).contains("AWS refuses the credentials: SignatureDoesNotMatch"), "{}", text(&wrong));
    assert!(!text(&wrong).contains(&secret));
    assert_eq!(made(&target, "vpcs"), ["vpc-app"]);
}

/// An instance's metadata service (IMDSv2). Returns its URL, and the number of requests that it has answered.
fn metadata(id: &str, secret: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = json!({"AccessKeyId": id, "SecretAccessKey": secret, "Expiration": "2099-01-01T00:00:00Z"}).to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let answered = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let head = lines.join("\n").to_ascii_lowercase();
            let body = match &*lines[0] {
                "PUT /latest/api/token HTTP/1.1" if head.contains("token-ttl-seconds: ") => "token-1",
                _ if !head.contains("x-aws-ec2-metadata-token: token-1") => "",
                "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1" => "the-role",
                "GET /latest/meta-data/iam/security-credentials/the-role HTTP/1.1" => &key,
                _ => "",
            };
            let status = if body.is_empty() { "401 Unauthorized" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                .unwrap();
            answered.fetch_add(1, Relaxed);
        }
    });
    (url, count)
}

#[test]
fn credentials_come_from_profiles_and_from_the_instance() {
    if !can_run_here() {
        return;
    }
    let (source, id, secret, _keys) = account(&network());
    let target = pushed(json!({"generation": 1}));
    let admin = target.admin.to_string();
    let dry = ["--once", "--dry-run", "--server", admin.as_str()];
    let lines = format!(
        "[work]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n[role]\nrole_arn = arn:aws:iam::1:role/x\n"
    );
    let file = target.scratch.write("credentials", lines);
    let file = ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    let found = sync(&source, &[&dry[..], &["--profile", "work"]].concat(), &[file]);
    assert!(text(&found).contains("vpc-app"), "{}", text(&found));
    let unsupported = sync(&source, &[&dry[..], &["--profile", "role"]].concat(), &[file]);
    assert!(text(&unsupported).contains("has `role_arn`, which zonal does not support"), "{}", text(&unsupported));
    let unknown = sync(&source, &[&dry[..], &["--profile", "none"]].concat(), &[file]);
    assert!(text(&unknown).contains("there is no profile `none`"), "{}", text(&unknown));
    let (url, count) = metadata(&id, &secret);
    let found = sync(&source, &dry, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    assert!(text(&found).contains("vpc-app"), "{}", text(&found));
    assert_eq!(count.load(Relaxed), 3, "the credentials are read once");
    let none = sync(&source, &dry, &[("AWS_EC2_METADATA_DISABLED", "true")]);
    assert!(text(&none).contains("there are no credentials"), "{}", text(&none));
    for output in [found, unsupported, none] {
        assert!(!text(&output).contains(&secret));
    }
}

#[test]
fn etcd_follows_an_account_round_after_round_and_metrics_show_it() {
    if !can_run_here() || !can_run(&["etcd"]) {
        return;
    }
    let (source, id, secret, _keys) = account(&network());
    let scratch = Scratch::new();
    let etcd = Single::start(&scratch);
    let node = Server::start_from(&format!("{{etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint), "");
    let metrics = format!("127.0.0.1:{}", crate::harness::free_port());
    let (url, endpoint) = (format!("http://{}", source.admin), etcd.endpoint.clone());
    let arguments = [
        "sync",
        "aws",
        "--endpoint-url",
        &url,
        "--region",
        "us-east-1",
        "--rate",
        "100",
        "--interval",
        "1",
        "--etcd",
        &endpoint,
        "--metrics-address",
        &metrics,
    ];
    let mut process = Command::new(ZONAL)
        .args(arguments)
        .envs([("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)])
        .stdout(fs::File::create(scratch.path().join("sync.log")).unwrap())
        .spawn()
        .unwrap();
    let reaches = |what: &str, record: &str| {
        wait_until(what, || {
            (answer(&node, "www.one.example", "A").iter().any(|found| found.ends_with(record))).then_some(())
        });
    };
    reaches("the network is served", "192.0.2.1");
    // The number of record sets is the same after this change, so the zone's own interval decides when it is read.
    let mut changed = network();
    changed["generation"] = json!(2);
    changed["private_hosted_zones"]["Z1"]["records"][1]["records"] = json!(["192.0.2.78"]);
    push(&source, changed);
    reaches("the change is served", "192.0.2.78");
    let page = http_get(metrics.parse().unwrap(), "/metrics").unwrap().1;
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("zonal_sync_requests_total{result=\"sent\"}") > 20.0, "{page}");
    assert!(value("zonal_sync_resources") >= 5.0, "{page}");
    assert!(value("zonal_sync_changes_total{change=\"put\"}") >= 6.0, "{page}");
    // Without the account, what was synced stays, and the command goes on.
    drop(source);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(process.try_wait().unwrap().is_none());
    assert!(!answer(&node, "www.one.example", "A").is_empty());
    process.kill().unwrap();
    process.wait().unwrap();
}
