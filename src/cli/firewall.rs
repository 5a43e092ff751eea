//! `zonal firewall`: tests DNS Firewall rules, and shows the lists of a running server, through its admin API.

use super::{
    ExplainArguments, Format, ServerArguments, explain,
    health::{age, ask, other_version, segment},
    print,
};
use crate::{
    admin::firewall::{FirewallListsReport, ObservedName, ObservedReport},
    clock::now,
    firewall_lists::{FirewallListState, FirewallListStatus},
    manifest::problem::printable,
};
use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write, process::ExitCode};

#[derive(Debug, Subcommand)]
pub(super) enum FirewallCommand {
    /// Show every rule for a name and a client, and why it matches or not
    ///
    /// The steps are those that `zonal explain` shows. No other server is asked, so names of other servers show only the rules
    /// for the name itself.
    Test(Box<ExplainArguments>),
    /// Print the names that a running server blocked, as a domain list of the manifest
    ///
    /// Review the list, and put it into the manifest with an ALLOW rule. The server keeps the 4,096 most frequent names since its
    /// start. Each name has a comment with its queries, view, rule and last client.
    Observed {
        /// The identifier of the list that is printed.
        #[arg(long, value_name = "ID", default_value = "rslvr-fdl-observed")]
        id: String,
        /// Leave out names with fewer queries.
        #[arg(long, value_name = "N", default_value_t = 1)]
        min_count: u64,
        /// Leave out names of other views: a VPC, or VPC/NETWORK for an inbound endpoint.
        #[arg(long)]
        view: Option<String>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show the lists of a running server: state, entries, age, and why the last reading failed
    Lists {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Download a list now; `zonal firewall lists` shows the result
    Refresh {
        /// The list, which has a `url`.
        list: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// Runs the command.
///
/// The exit status is 1 if the request fails. For `lists`, it is also 1 if a list is missing or has expired, or if the last
/// reading of a list failed.
pub(super) fn run(command: &FirewallCommand) -> ExitCode {
    match command {
        FirewallCommand::Test(arguments) => explain::run(arguments, explain::Part::Firewall),
        FirewallCommand::Observed { id, min_count, view, server } => {
            let response = match ask(server, Method::GET, "/v1/firewall/observed", None) {
                Ok(response) => response,
                Err(code) => return code,
            };
            let Ok(report) = serde_json::from_value::<ObservedReport>(response) else { return other_version() };
            if server.format == Format::Human {
                let is_wanted = |name: &&ObservedName| {
                    name.count >= *min_count && view.as_ref().is_none_or(|view| *view == name.view)
                };
                print(&observed(id, report.names.iter().filter(is_wanted), now()));
            }
            ExitCode::SUCCESS
        }
        FirewallCommand::Lists { server } => lists(server),
        FirewallCommand::Refresh { list, server } => {
            let path = format!("/v1/firewall/lists/{}/refresh", segment(list));
            match ask(server, Method::POST, &path, None) {
                Ok(_) => ExitCode::SUCCESS,
                Err(code) => code,
            }
        }
    }
}

fn lists(arguments: &ServerArguments) -> ExitCode {
    let response = match ask(arguments, Method::GET, "/v1/firewall/lists", None) {
        Ok(response) => response,
        Err(code) => return code,
    };
    let Ok(report) = serde_json::from_value::<FirewallListsReport>(response) else { return other_version() };
    if arguments.format == Format::Human {
        print(&table(&report, now()));
    }
    let is_fine = |list: &FirewallListStatus| list.state == FirewallListState::Loaded && list.error.is_none();
    if report.lists.iter().all(is_fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The names as a domain list of the manifest. A name of several views is printed once, with a comment for each view.
fn observed<'n>(id: &str, names: impl Iterator<Item = &'n ObservedName>, now: i64) -> String {
    let mut by_name: BTreeMap<&str, Vec<&ObservedName>> = BTreeMap::new();
    names.for_each(|name| by_name.entry(&name.name).or_default().push(name));
    let mut text = String::from("firewall_domain_lists:\n");
    let _ = writeln!(text, "  {}:\n    domains:{}", json!(id), if by_name.is_empty() { " []" } else { "" });
    for (name, all) in by_name {
        for ObservedName { view, count, group, rule, last_client, last_seen, .. } in all {
            let comment = format!(
                "{count} queries in {view}, blocked by rule {rule} of {group}; last from {last_client}, {} ago",
                age(now - last_seen)
            );
            let _ = writeln!(text, "      # {}", printable(&comment));
        }
        let _ = writeln!(text, "      - {}", json!(name));
    }
    text
}

fn table(report: &FirewallListsReport, now: i64) -> String {
    let mut text = String::new();
    if report.lists.is_empty() {
        text.push_str("The manifest has no DNS Firewall lists.\n");
        return text;
    }
    for list in &report.lists {
        let _ = writeln!(text, "{}", line(list, now));
        for skipped in &list.first_skipped {
            let _ = writeln!(text, "  skipped {}", printable(skipped));
        }
        if let Some(error) = &list.error {
            let _ = writeln!(text, "  error: {}", printable(error));
        }
    }
    let _ = writeln!(text, "{} names in {:.1} MiB", report.names, report.octets as f64 / f64::from(1 << 20));
    text
}

fn line(list: &FirewallListStatus, now: i64) -> String {
    let state = match list.state {
        FirewallListState::Loaded => "loaded",
        FirewallListState::Missing => "missing",
        FirewallListState::Expired => "expired",
    };
    let mut text = format!("{} {state}, {} entries", printable(&list.id), list.entries);
    if let Some(location) = &list.location {
        let _ = write!(text, ", from {}", printable(location));
    }
    if let Some(confirmed) = list.confirmed {
        let _ = write!(text, ", {} old", age(now - confirmed));
    }
    if let Some(next) = list.next_refresh {
        let _ = write!(text, ", next download in {}", age(next - now));
    }
    if list.skipped_lines > 0 {
        let _ = write!(text, ", {} lines skipped", list.skipped_lines);
    }
    if list.not_applied > 0 {
        let _ = write!(text, ", {} entries about name servers not applied", list.not_applied);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_wrong_with_a_list() {
        let list = FirewallListStatus {
            id: "rslvr-fdl-a".into(),
            state: FirewallListState::Expired,
            location: Some("https://lists.example/a".into()),
            entries: 3,
            skipped_lines: 2,
            first_skipped: vec!["line 4: `a/b`: a URL".into()],
            not_applied: 1,
            updated: Some(0),
            confirmed: Some(0),
            next_refresh: Some(90),
            expires: Some(10),
            error: Some("status 500".into()),
        };
        let report = FirewallListsReport { lists: vec![list], names: 3, octets: 3 << 20 };
        assert_eq!(
            table(&report, 60),
            "rslvr-fdl-a expired, 3 entries, from https://lists.example/a, 60 s old, next download in 30 s, 2 lines \
             skipped, 1 entries about name servers not applied\n  skipped line 4: `a/b`: a URL\n  error: status 500\n\
             3 names in 3.0 MiB\n"
        );
        assert!(table(&FirewallListsReport::default(), 0).contains("no DNS Firewall lists"));
    }

    #[test]
    fn observed_names_are_a_list_of_the_manifest() {
        let name = |name: &str, view: &str, count: u64| ObservedName {
            name: name.into(),
            view: view.into(),
            count,
            error: 0,
            group: "g".into(),
            rule: "r".into(),
            list: "l".into(),
            last_client: [10, 1, 0, 7].into(),
            last_seen: 40,
        };
        let names = [name("b.example.", "vpc-a", 3), name("a.example.", "vpc-a", 2), name("b.example.", "vpc-b/dc", 1)];
        let text = observed("own", names.iter(), 100);
        let comment = |count: u64, view: &str| {
            format!("      # {count} queries in {view}, blocked by rule r of g; last from 10.1.0.7, 60 s ago\n")
        };
        assert_eq!(
            text,
            format!(
                "firewall_domain_lists:\n  \"own\":\n    domains:\n{}      - \"a.example.\"\n{}{}      - \"b.example.\"\n",
                comment(2, "vpc-a"),
                comment(3, "vpc-a"),
                comment(1, "vpc-b/dc")
            )
        );
        let (root, errors) = crate::manifest::document::read(text.as_bytes(), false);
        assert_eq!(errors, []);
        let manifest: crate::manifest::Manifest = crate::manifest::decode::decode(&root.unwrap()).unwrap();
        assert_eq!(manifest.firewall_domain_lists["own"].domains.len(), 2);
        assert!(observed("own", [].iter(), 0).ends_with("domains: []\n"));
    }
}
