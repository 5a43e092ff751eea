use super::protected_associations;
use crate::manifest::{Manifest, check::tests::problems, decode::decode, document};

const NETWORKS: &str = "vpcs:\n  vpc-a: {region: us-east-1, cidr_blocks: [10.1.0.0/16]}\n  \
                        vpc-b: {region: us-east-1, cidr_blocks: [10.2.0.0/16]}\n";

/// The problems of a list with these fields, which a rule uses.
fn of_list(fields: &str) -> Vec<String> {
    problems(&format!(
        "{NETWORKS}firewall_domain_lists: {{l: {{{fields}}}}}\nfirewall_rule_groups: {{g: {{rules: [{{name: r, priority: 1, \
         action: ALLOW, firewall_domain_list_id: l}}], vpc_associations: [{{vpc_id: vpc-a, priority: 1}}]}}}}\n"
    ))
}

/// The problems of a group with these rules.
fn of_rules(rules: &str) -> Vec<String> {
    let found = problems(&format!(
        "{NETWORKS}firewall_domain_lists:\n  bad: {{domains: [bad.example, '*.worse.example']}}\n  \
         part: {{domains: [x.worse.example]}}\n  other: {{domains: [other.example, worse.example]}}\n  all: {{domains: ['*']}}\n\
         private_hosted_zones:\n  Z1: {{name: corp.example, vpc_ids: [vpc-a]}}\n  Z2: {{name: own.example, vpc_ids: [vpc-b]}}\n\
         firewall_rule_groups: {{g: {{rules: [{rules}], vpc_associations: [{{vpc_id: vpc-a, priority: 1}}]}}}}\n"
    ));
    found.into_iter().filter(|problem| !problem.contains("no rule uses the list")).collect()
}

/// Asserts that a case has one problem that contains the text, or none.
fn assert_one(found: &[String], expected: Option<&str>, case: &str) {
    match expected {
        None => assert!(found.is_empty(), "{case}: {found:#?}"),
        Some(text) => assert!(found.len() == 1 && found[0].contains(text), "{case}: {found:#?}"),
    }
}

#[test]
fn reports_problems_of_lists() {
    for (fields, expected) in [
        ("domains: [bad.example, '*.worse.example', '*']", None),
        ("domains: []", Some("warning: firewall_domain_lists.l: the list is empty")),
        ("domains: [bad.example, BAD.example.]", Some("domains[1]: `BAD.example.` is in the list twice")),
        ("domains: [bad.example], source: {file: x}", Some("a list with a `source` has no names of its own")),
        ("source: {file: bad.hosts, format: hosts}", None),
        ("source: {url: 'https://lists.example/x', refresh: 600, expires_after: 3600}", None),
        ("source: {primaries: [{ip: 192.0.2.53}], zone: rpz.example}", None),
        ("source: {}", Some("expected exactly one source")),
        ("source: {file: a, url: 'https://x.example/'}", Some("expected exactly one source")),
        ("source: {url: 'ftp://x.example/'}", Some("source.url: expected a URL")),
        ("source: {url: 'https://user:secret@x.example/'}", Some("source.url: expected a URL")),
        ("source: {primaries: [{ip: 192.0.2.53}]}", Some("source.zone: missing")),
        ("source: {file: a, zone: rpz.example}", Some("only a list of format `rpz` has a zone")),
        ("source: {primaries: [{ip: 192.0.2.53}], zone: z, format: hosts}", Some("has the format `rpz`")),
        ("source: {file: a, refresh: 600}", Some("source.refresh: only a list from a `url` has it")),
        ("source: {url: 'https://x.example/', refresh: 5}", Some("source.refresh: expected at least 60 seconds")),
        ("source: {url: 'https://x.example/', refresh: 600, expires_after: 60}", Some("before the next download")),
    ] {
        assert_one(&of_list(fields), expected, fields);
    }
}

#[test]
fn reports_problems_of_rules() {
    let rule = |rest: &str| format!("{{name: r, priority: 1, {rest}}}");
    let block = |rest: &str| rule(&format!("action: BLOCK, firewall_domain_list_id: bad{rest}"));
    let on_addresses = |rest: &str| rule(&format!("action: BLOCK, answer_addresses: [10.0.0.0/8]{rest}"));
    let detector = |rest: &str| rule(&format!("action: ALERT, {rest}"));
    for (rules, expected) in [
        (block(""), None),
        (detector("dns_threat_protection: DNS_TUNNELING, confidence_threshold: MEDIUM, qtypes: [A, TXT]"), None),
        (rule("action: BLOCK, block_response: NXDOMAIN, dns_threat_protection: DGA, confidence_threshold: HIGH"), None),
        (
            detector("dns_threat_protection: DICTIONARY_DGA, confidence_threshold: LOW"),
            Some("dns_threat_protection: zonal does not detect names that an algorithm makes of words"),
        ),
        (detector("dns_threat_protection: DGA"), Some("confidence_threshold: missing")),
        (
            block(", confidence_threshold: LOW"),
            Some("confidence_threshold: only a rule with `dns_threat_protection` has it"),
        ),
        (
            block(", dns_threat_protection: DGA, confidence_threshold: LOW"),
            Some("a rule with a detector has no list of names and no addresses"),
        ),
        (
            rule("action: ALLOW, dns_threat_protection: DGA, confidence_threshold: LOW"),
            Some("a rule with a detector cannot have the action ALLOW"),
        ),
        (
            detector("dns_threat_protection: DGA, confidence_threshold: LOW, redirection_action: TRUST"),
            Some("redirection_action: only a rule with a list of names has it"),
        ),
        (block(", block_response: OVERRIDE, block_override_domain: '*.garden.example', block_override_ttl: 60"), None),
        (block(", qtypes: [A, AAAA, TYPE65], block_ttl: 0, redirection_action: TRUST, shadow: true"), None),
        (on_addresses(", internet_only: true, block_response: NODATA"), None),
        (
            rule("action: BLOCK, firewall_domain_list_id: bat"),
            Some("there is no firewall domain list `bat` (did you mean"),
        ),
        (rule("action: BLOCK"), Some("the rule matches nothing")),
        (block(", answer_addresses: [10.0.0.0/8]"), Some("a rule with a list of names has no addresses")),
        (block(", internet_only: true"), Some("internet_only: only a rule with `answer_addresses` has it")),
        (on_addresses(", redirection_action: TRUST"), Some("redirection_action: only a rule with a list of names")),
        (on_addresses(", qtypes: [TXT]"), Some("answers to these types have no addresses")),
        (block(", qtypes: [A, a]"), Some("qtypes[1]: `A` is in the list twice")),
        (block(", block_response: OVERRIDE"), Some("block_override_domain: missing")),
        (block(", block_override_domain: x.example"), Some("only a rule with `block_response: OVERRIDE` has it")),
        (block(", block_override_ttl: 5"), Some("only a rule with `block_response: OVERRIDE` has it")),
        (block(", block_ttl: 604801"), Some("block_ttl: expected at most 604800 seconds")),
        (rule("action: ALLOW, firewall_domain_list_id: bad, block_response: NODATA"), Some("does not replace answers")),
        (
            "{name: '', priority: 1, action: ALLOW, firewall_domain_list_id: bad}".into(),
            Some("expected 1 to 64 octets"),
        ),
        (
            format!("{}, {{name: s, priority: 1, action: ALLOW, firewall_domain_list_id: part}}", block("")),
            Some("rules[1].priority: rule `r` has priority 1 too"),
        ),
        (
            format!("{}, {{name: r, priority: 2, action: ALLOW, firewall_domain_list_id: part}}", block("")),
            Some("rules[1].name: rules[0] has the name `r` too"),
        ),
    ] {
        assert_one(&of_rules(&rules), expected, &rules);
    }
}

#[test]
fn warns_of_an_alert_before_a_block_of_the_same_names() {
    let rules = |alert: &str, block: &str| {
        format!(
            "{{name: block, priority: 20, action: BLOCK, firewall_domain_list_id: {block}}}, \
             {{name: alert, priority: 10, action: ALERT, firewall_domain_list_id: {alert}}}"
        )
    };
    let warning =
        "warning: firewall_rule_groups.g.rules[1].action: ALERT ends the evaluation: rule `block` of `g` does not";
    for (alert, block, expected) in [
        ("bad", "bad", Some("block the names of `bad`")),
        ("bad", "part", Some("block names such as `x.worse.example.`")),
        ("all", "bad", Some("block names such as `bad.example.`")),
        ("bad", "other", None),
        ("part", "bad", None),
        ("bad, qtypes: [TXT]", "bad, qtypes: [A]", None),
        ("bad, qtypes: [TXT]", "bad", Some("block the names of `bad`")),
        ("bad, shadow: true", "bad", None),
    ] {
        let found = of_rules(&rules(alert, block));
        assert_one(&found, expected, &format!("{alert} {block}"));
        assert!(found.iter().all(|problem| problem.starts_with(warning)), "{found:?}");
    }
}

#[test]
fn rule_groups_of_profiles_are_in_the_same_order() {
    let check = |own: u32, of_profile: u32| {
        problems(&format!(
            "vpcs: {{vpc-a: {{region: us-east-1, cidr_blocks: [10.1.0.0/16], profiles: [{{profile_id: p}}]}}}}\n\
             profiles: {{p: {{firewall_rule_groups: [{{id: alerts, priority: {of_profile}}}, {{id: blocks, priority: 500}}]}}}}\n\
             firewall_domain_lists: {{l: {{domains: [bad.example]}}}}\nfirewall_rule_groups:\n  \
             alerts: {{rules: [{{name: alert, priority: 1, action: ALERT, firewall_domain_list_id: l}}]}}\n  \
             blocks: {{rules: [{{name: block, priority: 1, action: BLOCK, firewall_domain_list_id: l}}], \
             vpc_associations: [{{vpc_id: vpc-a, priority: {own}}}]}}\n"
        ))
    };
    for (own, of_profile, is_warned) in [(20, 10, true), (10, 20, false), (10, 10, false)] {
        let found = check(own, of_profile);
        let warnings = found.iter().filter(|problem| problem.contains("ALERT ends the evaluation")).count();
        assert_eq!(warnings, usize::from(is_warned), "{own} {of_profile}: {found:#?}");
    }
}

#[test]
fn warns_of_groups_of_profiles_with_the_priority_of_another_group() {
    let check = |own: u32, of_p: [u32; 2], of_q: u32| {
        let [first, second] = of_p;
        let found = problems(&format!(
            "vpcs:\n  vpc-a: {{region: us-east-1, cidr_blocks: [10.1.0.0/16], profiles: [{{profile_id: p}}, {{profile_id: q, priority: 200}}]}}\n  \
             vpc-b: {{region: us-east-1, cidr_blocks: [10.2.0.0/16], profiles: [{{profile_id: p}}, {{profile_id: q, priority: 200}}]}}\n\
             profiles: {{p: {{firewall_rule_groups: [{{id: y, priority: {first}}}, {{id: x, priority: {second}}}]}}, \
             q: {{firewall_rule_groups: [{{id: z, priority: {of_q}}}, {{id: y, priority: {of_q}}}]}}}}\n\
             firewall_rule_groups: {{x: {{rules: []}}, y: {{rules: []}}, z: {{rules: []}}, \
             own: {{rules: [], vpc_associations: [{{vpc_id: vpc-a, priority: {own}}}]}}}}\n"
        ));
        found.into_iter().filter(|problem| problem.contains("it comes first")).collect::<Vec<_>>()
    };
    let warning =
        |field: &str, group: &str| format!("warning: profiles.{field}.priority: group {group} too: it comes first");
    let p = |at: u8| format!("p.firewall_rule_groups[{at}]");
    for (own, of_p, of_q, expected) in [
        (1, [2, 3], 4, vec![]),
        (2, [2, 3], 4, vec![warning(&p(0), "`own` of `vpc-a` has priority 2")]),
        // Groups of one Profile are in the order of their identifiers.
        (1, [2, 2], 4, vec![warning(&p(0), "`x` of Profile `p` has priority 2")]),
        (1, [2, 3], 3, vec![warning("q.firewall_rule_groups[0]", "`x` of Profile `p` has priority 3")]),
    ] {
        let found = check(own, of_p, of_q);
        assert_eq!(found.len(), expected.len(), "{own} {of_p:?} {of_q}: {found:#?}");
        assert!(found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected)), "{found:#?}");
    }
}

#[test]
fn names_the_zones_that_a_block_of_all_names_hides() {
    let all = "{name: r, priority: 9, action: BLOCK, firewall_domain_list_id: all}";
    let hidden = "rule `r` blocks all names: clients of `vpc-a` do not see zone `Z1` (corp.example.)";
    assert_one(&of_rules(all), Some(hidden), "without ALLOW");
    let allow = |names: &str| {
        problems(&format!(
            "{NETWORKS}firewall_domain_lists: {{all: {{domains: ['*']}}, own: {{domains: [{names}]}}}}\n\
             private_hosted_zones: {{Z1: {{name: corp.example, vpc_ids: [vpc-a]}}}}\n\
             firewall_rule_groups: {{g: {{rules: [{all}, {{name: a, priority: 1, action: ALLOW, firewall_domain_list_id: own}}], \
             vpc_associations: [{{vpc_id: vpc-a, priority: 1}}]}}}}\n"
        ))
    };
    assert_one(&allow("'*.corp.example'"), None, "below");
    assert_one(&allow("www.corp.example"), None, "a name of the zone");
    assert_one(&allow("www.example"), Some(hidden), "another name");
}

#[test]
fn reports_problems_of_associations() {
    let check = |first: &str, second: &str| {
        let group = |list: &str, associations: &str| {
            format!(
                "{{rules: [{{name: r, priority: 1, action: BLOCK, firewall_domain_list_id: {list}}}], \
                 vpc_associations: [{associations}]}}"
            )
        };
        problems(&format!(
            "{NETWORKS}firewall_domain_lists: {{l: {{domains: [bad.example]}}}}\nfirewall_rule_groups: {{g: {}, h: {}}}\n",
            group("l", first),
            group("l", second)
        ))
    };
    let at = |vpc: &str, priority: u32| format!("{{vpc_id: {vpc}, priority: {priority}}}");
    for (first, second, expected) in [
        (at("vpc-a", 1), at("vpc-a", 2), None),
        (at("vpc-a", 1), at("vpc-b", 1), None),
        (
            at("vpc-a", 1),
            at("vpc-a", 1),
            Some("h.vpc_associations[0].priority: group `g` has priority 1 in `vpc-a` too"),
        ),
        (at("vpc-x", 1), at("vpc-a", 1), Some("g.vpc_associations[0].vpc_id: there is no VPC `vpc-x`")),
        (
            format!("{}, {}", at("vpc-a", 1), at("vpc-a", 2)),
            at("vpc-b", 1),
            Some("the group is associated with `vpc-a` twice"),
        ),
    ] {
        assert_one(&check(&first, &second), expected, &format!("{first} {second}"));
    }
}

#[test]
fn a_protected_association_changes_only_after_its_protection_ends() {
    let manifest = |associations: &str| -> Manifest {
        let text = format!("firewall_rule_groups: {{g: {{rules: [], vpc_associations: [{associations}]}}}}");
        decode(&document::read(text.as_bytes(), false).0.unwrap()).unwrap()
    };
    let at = |priority: u32, protected: bool| {
        manifest(&format!("{{vpc_id: vpc-a, priority: {priority}, mutation_protection: {protected}}}"))
    };
    for (old, new, is_error) in [
        (at(1, true), at(1, true), false),
        (at(1, true), at(1, false), false),
        (at(1, true), at(2, true), true),
        (at(1, true), manifest(""), true),
        (at(1, true), Manifest::default(), true),
        (at(1, false), manifest(""), false),
        (manifest(""), at(1, true), false),
    ] {
        let found = protected_associations(&old, &new);
        assert_eq!(found.len(), usize::from(is_error), "{:?} {:?}", old.firewall_rule_groups, new.firewall_rule_groups);
        assert!(found.iter().all(|problem| problem.to_string().contains("is protected: the change removes it")));
    }
}
