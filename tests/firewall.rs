//! DNS Firewall rules of a running server, as dig and the query log see them: names of private
//! zones and of other servers, chains, and changed rules.

use crate::harness::{
    Scratch, Server, ZONAL, can_run,
    fake::{Fake, Say, cname},
    http_get, wait_until, wait_until_equal,
};
use crate::query_log::lines;
use serde_json::{Value, json};
use std::process::Command;

/// A manifest whose VPC `a` has the rules, and forwards all names to `port`. VPC `b` has none.
fn manifest(rules: &str, port: u16) -> String {
    format!(
        r#"
vpcs:
  a: {{owner_id: "111122223333", region: us-east-1, cidr_blocks: [127.97.0.0/16]}}
  b: {{region: us-east-1, cidr_blocks: [127.98.0.0/16]}}
private_hosted_zones:
  Z1:
    name: corp.example
    vpc_ids: [a, b]
    records:
      - {{name: www, type: A, ttl: 60, records: [10.0.0.1]}}
      - {{name: out, type: CNAME, ttl: 60, records: [x.bad.example.]}}
      - {{name: garden, type: A, ttl: 60, records: [10.0.0.9]}}
resolver_rules:
  far: {{domain_name: ".", rule_type: FORWARD, vpc_ids: [a, b], target_ips: [{{ip: 127.0.0.1, port: {port}}}]}}
query_log_configs:
  log: {{vpc_ids: [a], destination: {{file: {{path: a.log}}}}}}
firewall_domain_lists:
  own: {{domains: [www.corp.example, "*.good.example"]}}
  bad: {{domains: [bad.example, "*.bad.example", www.corp.example]}}
  worse: {{domains: [worse.example]}}
  rpz: {{source: {{file: policy.rpz, format: rpz, zone: rpz.example}}}}
firewall_rule_groups:
  base:
    rules:
{rules}
    vpc_associations: [{{vpc_id: a, priority: 100}}]
"#
    )
}

const RULES: &str = "
      - {name: trial, priority: 5, action: BLOCK, firewall_domain_list_id: own, shadow: true}
      - {name: malware, priority: 10, action: BLOCK, firewall_domain_list_id: bad, block_ttl: 7}
      - {name: garden, priority: 20, action: BLOCK, firewall_domain_list_id: worse, block_response: OVERRIDE,
         block_override_domain: garden.corp.example, block_override_ttl: 60}
      - {name: policy, priority: 30, action: BLOCK, firewall_domain_list_id: rpz}
      - {name: rebinding, priority: 40, action: BLOCK, answer_addresses: [10.0.0.0/8], block_response: NXDOMAIN}
";

const RPZ: &str = "$ORIGIN rpz.example.
@ 60 SOA ns.invalid. host.invalid. 1 60 60 60 60
@ 60 NS ns.invalid.
gone.example 60 CNAME .
fine.gone.example 60 CNAME rpz-passthru.
*.gone.example 60 CNAME *.
drop.example 60 CNAME rpz-drop.
tcp.example 60 CNAME rpz-tcp-only.
data.example 30 A 192.0.2.55
data.example 30 TXT \"text\"
24.0.113.0.203.rpz-ip 60 CNAME .
loop-a.example 60 CNAME loop-b.example.
loop-b.example 60 CNAME loop-a.example.
own.example 60 CNAME x.own.example.
*.own.example 60 CNAME x.own.example.
*.long.example 60 CNAME *.garden.example.
\\000\\255\\.odd.example 60 CNAME .
ns.bad.rpz-nsdname 60 CNAME .
24.0.113.0.203.rpz-nsip 60 CNAME .
";

/// Other servers: each name has an address, and some have a CNAME record.
fn upstream() -> Fake {
    Fake::start("127.0.0.1:0", |asked| {
        let name = asked.name();
        let name = name.trim_end_matches('.');
        let answer = match name {
            "cdn.example" => asked.with(vec![cname("cdn.example.", 60, "edge.bad.example.")]),
            "rebind.example" => asked.address("10.9.9.9"),
            "listed.example" => asked.address("203.0.113.9"),
            _ => asked.address("192.0.2.7"),
        };
        vec![Say::Now(answer)]
    })
}

struct Answer {
    status: String,
    records: Vec<String>,
    authority: String,
    ede: String,
    flags: String,
}

/// Asks with dig, from an address of a VPC.
fn dig(server: &Server, source: &str, name: &str, more: &[&str]) -> Answer {
    let port = server.port.to_string();
    let base = ["-b", source, "@127.0.0.1", "-p", &port, "+tries=5", "+noall", "+comments", "+answer", "+authority"];
    let output = Command::new("dig").args(base).arg(name).args(more).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let behind = |word: &str| text.split(word).nth(1).unwrap_or_default();
    let lines = |section: &str| -> Vec<String> {
        let rest = behind(section).lines().skip(1).take_while(|line| !line.is_empty());
        rest.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    Answer {
        status: behind("status: ").split(',').next().unwrap_or_default().into(),
        records: lines("ANSWER SECTION:"),
        authority: lines("AUTHORITY SECTION:").join("\n"),
        ede: behind("EDE: ").lines().next().unwrap_or_default().into(),
        flags: behind("flags: ").split(';').next().unwrap_or_default().into(),
    }
}

const A: &str = "127.97.0.7";
const B: &str = "127.98.0.7";

fn start(rules: &str, fake: &Fake) -> (Server, Scratch) {
    let scratch = Scratch::new();
    scratch.write("policy.rpz", RPZ);
    scratch.write("manifest.yaml", manifest(rules, fake.address.port()));
    let server = Server::start_with(scratch.path(), "query_log: {directory: logs}\n");
    wait_until("the list is loaded", || {
        let (_, text) = http_get(server.admin, "/v1/firewall/lists")?;
        let report: Value = serde_json::from_str(&text).ok()?;
        report["lists"].as_array()?.iter().all(|list| list["state"] == "loaded").then_some(())
    });
    (server, scratch)
}

#[test]
fn rules_filter_names_of_private_zones_and_of_other_servers() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, _files) = start(RULES, &fake);
    let blocked_soa = |name: &str| format!("{name}. 7 IN SOA {name}. nobody.invalid. 1 3600 1200 604800 7");
    for name in ["bad.example", "x.bad.example", "out.corp.example", "cdn.example"] {
        let answer = dig(&server, A, name, &[]);
        assert_eq!((&*answer.status, answer.records.len()), ("NOERROR", 0), "{name}");
        assert_eq!(answer.authority, blocked_soa(name));
        assert!(answer.ede.starts_with("15 (Blocked): (rule malware of base, list bad)"), "{name}: {}", answer.ede);
        assert_eq!(answer.flags, "qr rd ra", "{name}");
    }
    // No other server has been asked for a blocked name, and the other VPC sees all of them.
    assert_eq!(fake.count_below("bad.example"), 0);
    let other = dig(&server, B, "out.corp.example", &[]);
    assert_eq!(other.records, ["out.corp.example. 60 IN CNAME x.bad.example.", "x.bad.example. 60 IN A 192.0.2.7"]);
    assert_eq!(
        dig(&server, A, "worse.example", &[]).records,
        ["worse.example. 60 IN CNAME garden.corp.example.", "garden.corp.example. 60 IN A 10.0.0.9"]
    );
    let rebound = dig(&server, A, "rebind.example", &[]);
    assert_eq!((&*rebound.status, rebound.records.len()), ("NXDOMAIN", 0));
    assert!(rebound.ede.contains("rule rebinding of base"), "{}", rebound.ede);
    assert!(dig(&server, A, "whoami.zonal", &["TXT"]).records[0].contains("vpc=a"));
    let fine = dig(&server, A, "fine.example", &[]);
    assert!(fine.records == ["fine.example. 60 IN A 192.0.2.7"] && fine.ede.is_empty(), "{:?}", fine.records);
    server.wait_for_metric(&["zonal_firewall_matches_total", "rule=\"malware\"", "outcome=\"block\""], 4.0);
    server.wait_for_metric(&["zonal_firewall_matches_total", "rule=\"garden\"", "list=\"worse\""], 1.0);
}

#[test]
fn a_changed_rule_acts_on_the_next_query_and_uses_cached_answers() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, files) = start(RULES, &fake);
    assert_eq!(dig(&server, B, "bad.example", &[]).records.len(), 1);
    assert_eq!(dig(&server, A, "bad.example", &[]).records.len(), 0);
    let open = RULES.replace(
        "action: BLOCK, firewall_domain_list_id: bad, block_ttl: 7",
        "action: ALLOW, firewall_domain_list_id: bad",
    );
    files.write("manifest.yaml", manifest(&open, fake.address.port()));
    wait_until_equal("the name is allowed", 1, || dig(&server, A, "bad.example", &[]).records.len());
    assert_eq!(fake.count_below("bad.example"), 1, "both VPCs use one cached answer");
    files.write("manifest.yaml", manifest(RULES, fake.address.port()));
    wait_until_equal("the name is blocked", 0, || dig(&server, A, "bad.example", &[]).records.len());
}

#[test]
fn entries_of_a_response_policy_zone_have_actions_of_their_own() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, _files) = start(RULES, &fake);
    assert_eq!(dig(&server, A, "gone.example", &[]).status, "NXDOMAIN");
    let below = dig(&server, A, "x.gone.example", &[]);
    assert!(below.status == "NOERROR" && below.records.is_empty() && below.ede.starts_with("15"));
    assert_eq!(dig(&server, A, "fine.gone.example", &[]).records.len(), 1);
    assert_eq!(dig(&server, A, "data.example", &[]).records, ["data.example. 30 IN A 192.0.2.55"]);
    assert_eq!(dig(&server, A, "data.example", &["TXT"]).records, ["data.example. 30 IN TXT \"text\""]);
    let other = dig(&server, A, "data.example", &["AAAA"]);
    assert!(other.status == "NOERROR" && other.records.is_empty() && other.authority.contains("SOA"));
    assert_eq!(dig(&server, A, "listed.example", &[]).status, "NXDOMAIN");
    let cut = dig(&server, A, "tcp.example", &["+ignore"]);
    assert!(cut.flags.contains("tc") && cut.records.is_empty(), "{}", cut.flags);
    assert_eq!(dig(&server, A, "tcp.example", &["+tcp"]).records.len(), 1);
    assert_eq!(dig(&server, A, "drop.example", &["+tries=1", "+time=2"]).status, "");
    server.wait_for_metric(&["zonal_firewall_matches_total", "list=\"rpz\"", "outcome=\"allow\""], 2.0);
}

#[test]
fn odd_entries_of_a_response_policy_zone_harm_nothing() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, _files) = start(RULES, &fake);
    // Targets are not inspected, so entries that lead to each other end.
    for (name, target) in [
        ("loop-a.example", "loop-b.example"),
        ("loop-b.example", "loop-a.example"),
        ("own.example", "x.own.example"),
        ("y.own.example", "x.own.example"),
    ] {
        let records = dig(&server, A, name, &[]).records;
        assert_eq!((records.len(), &records[0]), (2, &format!("{name}. 60 IN CNAME {target}.")), "{records:?}");
        // It may be from the cache.
        assert!(
            records[1].starts_with(&format!("{target}. ")) && records[1].ends_with("IN A 192.0.2.7"),
            "{records:?}"
        );
    }
    // The queried name in front of the target is a name, and then it is longer than a name can be.
    let label = |len: usize| "l".repeat(len);
    let prefix = [label(63), label(63), label(63)].join(".");
    for (last, status, count) in [(20, "NOERROR", 2), (40, "NXDOMAIN", 0)] {
        let answer = dig(&server, A, &format!("{}.{prefix}.long.example", label(last)), &[]);
        assert_eq!((&*answer.status, answer.records.len()), (status, count), "{last}: {:?}", answer.records);
    }
    assert_eq!(dig(&server, A, "\\000\\255\\.odd.example", &[]).status, "NXDOMAIN");
    // Entries for name servers are counted.
    let (_, text) = http_get(server.admin, "/v1/firewall/lists").unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let list = report["lists"].as_array().unwrap().iter().find(|list| list["id"] == "rpz").unwrap();
    assert_eq!((&list["not_applied"], &list["skipped_lines"]), (&json!(2), &json!(0)), "{list}");
}

#[test]
fn the_query_log_says_which_entry_of_which_list_matched() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, _files) = start(RULES, &fake);
    let path = server.scratch.path().join("logs/a.log");
    let ids = |rule: &str, list: &str| json!({"group": "base", "rule": rule, "list": list});
    let with = |mut object: Value, more: Value| {
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let rebinding = json!({"group": "base", "rule": "rebinding", "outcome": "block", "entry": "10.0.0.0/8",
                           "name": "rebind.example.", "hop": 0, "shadow": false});
    let cases = [
        ("fine.example", None, json!(null)),
        (
            "out.corp.example",
            Some(("BLOCK", json!("bad"))),
            json!([with(
                ids("malware", "bad"),
                json!({"outcome": "block", "entry": "*.bad.example.", "name": "x.bad.example.",
                   "line": 2, "hop": 1, "shadow": false})
            )]),
        ),
        (
            "www.corp.example",
            Some(("BLOCK", json!("bad"))),
            json!([
                with(
                    ids("trial", "own"),
                    json!({"outcome": "shadow", "entry": "www.corp.example.", "name": "www.corp.example.",
                     "line": 1, "hop": 0, "shadow": true})
                ),
                with(
                    ids("malware", "bad"),
                    json!({"outcome": "block", "entry": "www.corp.example.", "name": "www.corp.example.",
                     "line": 3, "hop": 0, "shadow": false})
                ),
            ]),
        ),
        ("rebind.example", Some(("BLOCK", json!(null))), json!([rebinding])),
        (
            "fine.gone.example",
            Some(("ALLOW", json!("rpz"))),
            json!([with(
                ids("policy", "rpz"),
                json!({"outcome": "allow", "entry": "fine.gone.example.",
                   "name": "fine.gone.example.", "line": 5, "hop": 0, "shadow": false})
            )]),
        ),
    ];
    for (count, (name, action, firewall)) in cases.iter().enumerate() {
        dig(&server, A, name, &["+tcp"]);
        let all = wait_until(&format!("the log has {} lines", count + 1), || {
            Some(lines(&path)).filter(|lines| lines.len() > count)
        });
        let line = &all[count];
        assert_eq!(&line["zonal"]["firewall"], firewall, "{line}");
        let (expected, list) = match action {
            Some((action, list)) => (json!(action), list.clone()),
            None => (json!(null), json!(null)),
        };
        assert_eq!((&line["firewall_rule_action"], &line["firewall_domain_list_id"]), (&expected, &list), "{line}");
        let group = if action.is_some() { json!("base") } else { json!(null) };
        assert_eq!(line["firewall_rule_group_id"], group);
    }
}

#[test]
fn explain_shows_every_rule_and_why_it_did_not_match() {
    let fake = upstream();
    let (server, _files) = start(RULES, &fake);
    let output = Command::new(ZONAL)
        .args(["explain", "out.corp.example", "A", "--from", A, "--config", "zonal.yaml"])
        .current_dir(server.scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "rule group base, priority 100",
        "rule trial: list own does not have out.corp.example.",
        "rule malware: x.bad.example. matches entry `*.bad.example.`, line 2 of list bad: BLOCK with NODATA",
        "rule garden: not reached, because rule malware ends the evaluation",
        "rule rebinding: looks at the addresses of the answer",
        "15 (rule malware of base, list bad)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_protected_association_stays_until_its_protection_is_removed() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let with = |association: &str| {
        let text = manifest(RULES, fake.address.port());
        assert_eq!(text.matches("{vpc_id: a, priority: 100}").count(), 1);
        text.replace("{vpc_id: a, priority: 100}", association)
    };
    let (server, files) = start(RULES, &fake);
    files.write("manifest.yaml", with("{vpc_id: a, priority: 100, mutation_protection: true}"));
    server.wait_for_status("the protection is served", |status| status["generation"].as_u64() >= Some(2));
    files.write("manifest.yaml", with(""));
    let refused = |server: &Server| server.process.log().contains("is protected: the change removes it");
    wait_until("the change is refused", || refused(&server).then_some(()));
    assert_eq!(dig(&server, A, "bad.example", &[]).records.len(), 0);
    files.write("manifest.yaml", with("{vpc_id: a, priority: 100}"));
    server.wait_for_status("the protection is removed", |status| status["generation"].as_u64() >= Some(3));
    files.write("manifest.yaml", with(""));
    wait_until_equal("nothing is filtered", 1, || dig(&server, A, "bad.example", &[]).records.len());
}

#[test]
fn observed_names_make_an_allow_list() {
    if !can_run(&["dig"]) {
        return;
    }
    let fake = upstream();
    let (server, files) = start(RULES, &fake);
    for name in ["x.bad.example", "bad.example", "X.bad.example"] {
        dig(&server, A, name, &[]);
    }
    let zonal = |arguments: &[&str]| {
        let output = Command::new(ZONAL)
            .args(arguments)
            .args(["--config", "zonal.yaml"])
            .current_dir(server.scratch.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = wait_until("the names are observed", || {
        let text = zonal(&["firewall", "observed", "--id", "seen"]);
        (text.contains("2 queries in a") && text.contains("- \"bad.example.\"")).then_some(text)
    });
    assert!(text.starts_with("firewall_domain_lists:\n  \"seen\":\n    domains:\n"), "{text}");
    assert!(text.contains("blocked by rule malware of base; last from 127.97.0.7"), "{text}");
    let often = zonal(&["firewall", "observed", "--min-count", "2"]);
    assert!(often.contains("- \"x.bad.example.\"") && !often.contains("- \"bad.example.\""), "{often}");
    assert!(zonal(&["firewall", "observed", "--view", "b"]).contains("domains: []"));
    // The output is a resource: with an ALLOW rule in front, the names are answered.
    let allowed =
        RULES.to_string() + "      - {name: seen, priority: 1, action: ALLOW, firewall_domain_list_id: seen}\n";
    files.write("seen.yaml", &text);
    files.write("manifest.yaml", manifest(&allowed, fake.address.port()));
    wait_until_equal("the name is allowed", 1, || dig(&server, A, "x.bad.example", &[]).records.len());
    let tested = zonal(&["firewall", "test", "x.bad.example", "--from", A]);
    assert!(
        tested.contains("rule seen: x.bad.example. matches entry `x.bad.example.`, line 2 of list seen: ALLOW"),
        "{tested}"
    );
    assert!(tested.contains("rule malware: not reached, because rule seen ends the evaluation"), "{tested}");
    let other = zonal(&["firewall", "test", "x.bad.example", "--from", B]);
    assert!(other.contains("no rule group filters the queries of this client"), "{other}");
}
