//! `zonal explain`: explains how an answer is chosen, by a running server or else from the manifest.

use super::{
    ExplainArguments, Format, apply, check,
    client::{self, Failure, Server, usage_error},
    forwarders::reverse_name,
    print, print_error,
    report::print_problems,
    side_by_side,
};
use crate::{
    clock::now,
    config::{Config, Source},
    control_plane::{internet::Internet, updates::Journals},
    explain::{Explanation, Question, Request, of_manifest},
    manifest::{Problem, problem::printable},
    snapshot::Node,
};
use anyhow::anyhow;
use hyper::Method;
use std::{path::Path, process::ExitCode, sync::Arc};

/// The part of an explanation that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    All,
    /// The steps about DNS Firewall, and the reply.
    Firewall,
}

/// Runs the command.
pub(super) fn run(arguments: &ExplainArguments, part: Part) -> ExitCode {
    let ExplainArguments { from, to, via, name, rtype, reverse, resolve, .. } = arguments.clone();
    let (name, rtype) = match reverse {
        Some(address) => (reverse_name(address, 0), "PTR".into()),
        None => (name.unwrap_or_default(), rtype),
    };
    let request = |from| Request { from, to, via, name: name.clone(), rtype: rtype.clone(), resolve };
    let mut requests: Vec<Request> = Vec::new();
    for from in from {
        if !requests.iter().any(|request| request.from == from) {
            requests.push(request(from));
        }
    }
    let questions: Result<Vec<Question>, String> = requests.iter().map(Question::new).collect();
    let questions = match questions {
        Ok(questions) => questions,
        Err(error) => {
            print_error(error);
            return ExitCode::from(2);
        }
    };
    let (mut explanations, source) = match explained(arguments, &requests, &questions) {
        Ok(explained) => explained,
        Err(code) => return code,
    };
    if part == Part::Firewall {
        explanations.iter_mut().for_each(Explanation::retain_firewall);
    }
    print(&match (&explanations[..], arguments.format) {
        ([one], Format::Human) => one.to_text(&source),
        ([one], Format::Json) => one.to_json(&source),
        (several, Format::Human) => side_by_side::text(several, &source, apply::width()),
        (several, Format::Json) => side_by_side::json(several, &source),
    });
    ExitCode::SUCCESS
}

fn explained(arguments: &ExplainArguments, requests: &[Request], questions: &[Question]) -> Explained {
    match &arguments.directory {
        Some(directory) => of_directory(directory, &Config::default(), questions, "as --directory says"),
        None => of_server_or_directory(arguments, requests, questions),
    }
}

/// Explanations with their source; or the exit status, after the error was reported.
type Explained = Result<(Vec<Explanation>, String), ExitCode>;

fn of_server_or_directory(arguments: &ExplainArguments, requests: &[Request], questions: &[Question]) -> Explained {
    let config = Config::load(arguments.config.config.as_deref()).map_err(failed)?;
    let server =
        Server::named(arguments.admin.as_deref(), &config.admin).and_then(|server| server.with(&arguments.access));
    let server = server.map_err(|error| usage_error(&error))?;
    let must_answer = arguments.resolve || arguments.admin.is_some();
    let asked: Result<Vec<Explanation>, Failure> = match arguments.offline {
        true => Err(Failure::NoServer(anyhow!(
            "`--offline` needs a directory, and `control_plane` has another source: leave out `--offline` to ask a server"
        ))),
        false => requests.iter().map(|request| ask(&server, request)).collect(),
    };
    match asked {
        Ok(explanations) => {
            let generation = explanations.first().map_or(0, Explanation::generation);
            Ok((explanations, format!("the server at {server}, generation {generation}")))
        }
        Err(Failure::NoServer(error)) if !must_answer => {
            let Source::Directory(directory) = config.control_plane.source() else {
                print_error(format_args!("{error:#}"));
                return Err(ExitCode::FAILURE);
            };
            of_directory(directory, &config, questions, "as no server was asked")
        }
        // A server is there, so the files may differ from what it serves.
        Err(failure) => {
            print_error(printable(&format!("{:#}", anyhow::Error::from(failure))));
            Err(ExitCode::FAILURE)
        }
    }
}

fn of_directory(directory: &Path, config: &Config, questions: &[Question], why: &str) -> Explained {
    let internet = Internet::new(config, Vec::new()).read();
    let is_validation_off = config.internet_resolver.is_validation_off();
    let health_allow = config.health.allow.clone();
    let node = Arc::new(Node { internet, is_validation_off, health_allow, ..Node::default() });
    let overlays = config.state_directory.as_deref().and_then(|state| Journals::read(state).ok()).unwrap_or_default();
    let snapshot = check::examine_updated(directory, &[], &node, overlays).0.map_err(failed)?;
    let explanations = questions.iter().map(|question| of_manifest(&snapshot, question, now())).collect();
    Ok((explanations, format!("the manifest in {}, {why}", directory.display())))
}

fn failed(problems: Vec<Problem>) -> ExitCode {
    print_problems(problems);
    ExitCode::FAILURE
}

fn ask(server: &Server, request: &Request) -> Result<Explanation, Failure> {
    let request = serde_json::to_value(request).map_err(|error| Failure::Refused(error.into()))?;
    let answer = client::ask(server, Method::POST, "/v1/explain", Some(&request))?;
    serde_json::from_value(answer).map_err(|_| {
        Failure::Refused(anyhow!(
            "{server}: the explanation of the server cannot be read; it has another version of zonal"
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        cli::check::examine,
        explain::{Question, Request, of_manifest},
        snapshot::Snapshot,
    };
    use std::{path::Path, sync::Arc};

    /// The explanation of a question as text. A question is `from to name type`, with `-` for no entry point.
    fn explained_text(snapshot: &Snapshot, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        let to = (words[1] != "-").then(|| words[1].parse().unwrap());
        let (name, rtype) = (words[2].into(), words[3].into());
        let request = Request { from: words[0].parse().unwrap(), to, via: None, name, rtype, resolve: false };
        of_manifest(snapshot, &Question::new(&request).unwrap(), 1_800_000_000).to_text("a test")
    }

    fn check(snapshot: &Snapshot, cases: &[(&str, &[&str])]) {
        for (question, expected) in cases {
            let text = explained_text(snapshot, question);
            for line in *expected {
                assert!(text.contains(line), "{question}: {line}\n{text}");
            }
        }
    }

    #[test]
    fn explains_the_demo() {
        let snapshot = examine(Path::new("zones"), &[], &Arc::default()).0.unwrap();
        let public = "vpce-0sqs-lj2wisx3.sqs.us-east-1.vpce.amazonaws.com";
        check(
            &snapshot,
            &[
                (
                    "127.1.0.7 127.0.0.1 sqs.us-east-1.amazonaws.com A",
                    &[
                        "127.0.0.1 is not an entry point",
                        "its subnet subnet-app-a is in AZ use1-az1",
                        "sqs.us-east-1.amazonaws.com. matches private name of endpoint vpce-0sqs (sqs.us-east-1.amazonaws.com.): the longest match wins",
                        "weaker matches: private hosted zone Z0PATCH",
                        "use1-az2: 127.2.16.10 is usable: not chosen: another AZ",
                    ],
                ),
                ("127.3.0.7 - sts.us-east-1.amazonaws.com A", &["127.2.16.14 is unhealthy: not chosen"]),
                ("127.1.0.7 - logs.us-east-1.amazonaws.com A", &["shifted away until 2099-12-31T00:00:00Z"]),
                ("127.1.0.7 - sqs.us-east-1.amazonaws.com AAAA", &["dns_record_ip_type of vpce-0sqs is ipv4"]),
                ("127.5.0.7 - sqs.us-east-1.amazonaws.com A", &["vpc-shared is not connected to vpc-lonely"]),
                (
                    "127.3.0.7 - secretsmanager.us-east-1.amazonaws.com A",
                    &["`private_dns_scope` does not list vpc-spoke"],
                ),
                (
                    "127.2.0.7 - s3.us-east-1.amazonaws.com A",
                    &[
                        "endpoint vpce-0s3 does not answer: `private_dns_only_for_inbound_resolver_endpoint` limits its private names",
                        "a Gateway endpoint has no names",
                    ],
                ),
                (
                    "127.4.0.7 - sqs.us-east-1.amazonaws.com A",
                    &["have to ask at an entry point", "try `--to 127.2.0.53`"],
                ),
                ("192.0.2.1 - sqs.us-east-1.amazonaws.com A", &["no network of the manifest has its address"]),
                (
                    "127.5.0.7 127.1.0.2 www.corp.example.com A",
                    &["this entry point does not allow its network", "127.5.0.2 (vpc-lonely)"],
                ),
                (
                    &format!("127.5.0.7 - {public} A"),
                    &["the client cannot reach the endpoint: vpc-lonely is not connected"],
                ),
                (&format!("127.3.0.7 - {public} A"), &["the client can reach the endpoint: vpc-spoke is connected"]),
                ("127.3.0.7 - queue.corp.example.com A", &["the client can reach the endpoint"]),
            ],
        );
    }

    #[test]
    fn explains_clients_behind_a_forwarder() {
        let snapshot = examine(Path::new("tests/fixtures/forwarders"), &[], &Arc::default()).0.unwrap();
        for (via, from, expected) in [
            ("127.21.0.20", "127.20.16.7", "it may name clients of app, shared, dc"),
            ("127.21.0.20", "127.20.16.7", "its subnet app-b is in AZ use1-az2"),
            ("127.21.0.21", "127.20.16.7", ", by proxy_protocol_v2"),
            ("127.21.0.21", "127.20.16.7", "its subnet app-b is in AZ use1-az2"),
            ("127.21.0.21", "127.24.0.7", "`speaks_for` of the forwarder does not list its network"),
            ("127.21.0.22", "127.20.16.7", "127.21.0.22 is not a forwarder of the manifest"),
            ("127.21.0.22", "127.20.16.7", "its subnet shared-a is in AZ use1-az1"),
        ] {
            let request = Request {
                from: from.parse().unwrap(),
                to: "127.21.0.53".parse().ok(),
                via: via.parse().ok(),
                name: "sqs.example".into(),
                rtype: "A".into(),
                resolve: false,
            };
            let text = of_manifest(&snapshot, &Question::new(&request).unwrap(), 1_800_000_000).to_text("-");
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn explains_why_other_endpoints_are_not_chosen() {
        let directory = std::env::temp_dir().join(format!("zonal-explain-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let endpoint = |id: &str, vpc: &str, but: (&str, &str)| {
            format!(
                "  {id}: {{vpc_endpoint_type: Interface, service_name: s, vpc_id: {vpc}, state: Available, \
                 private_dns_enabled: true, private_dns_scope: connected}}\n"
            )
            .replace(but.0, but.1)
        };
        let mut text = String::from(
            "vpcs:
  a: {region: r, cidr_blocks: [10.1.0.0/16]}
  b: {region: r, cidr_blocks: [10.2.0.0/16]}
  c: {region: s, cidr_blocks: [10.3.0.0/16]}
  d: {region: r, cidr_blocks: [10.4.0.0/16]}
  e: {region: r, cidr_blocks: [10.5.0.0/16]}
  off: {region: r, cidr_blocks: [10.6.0.0/16], enable_dns_hostnames: false}
transit_gateways:
  t: {attachments: [{vpc_id: a}, {vpc_id: b}, {vpc_id: c}, {vpc_id: d}, {vpc_id: off}]}
vpc_endpoint_services:
  s: {owner_id: amazon, region: r, dns_name: vpce.example, private_dns_names: [s.example]}
  v: {owner_id: '1', region: r, dns_name: v.example, private_dns_names: [s.example]}
vpc_endpoints:
",
        );
        text += &endpoint("vpce-a", "a", ("Available", "Available"));
        text += &endpoint("vpce-b", "b", ("Available", "Available"));
        text += &endpoint("vpce-c", "c", ("Available", "Available"));
        text += &endpoint("vpce-d1", "d", ("state: Available", "state: Failed"));
        text += &endpoint("vpce-d2", "d", ("enabled: true", "enabled: false"));
        text += &endpoint("vpce-d3", "d", ("service_name: s", "service_name: v"));
        text += &endpoint("vpce-e", "e", ("scope: connected", "scope: [d]"));
        text += &endpoint("vpce-o", "off", ("Available", "Available"));
        std::fs::write(directory.join("a.yaml"), text).unwrap();
        let snapshot = examine(&directory, &[], &Arc::default()).0;
        std::fs::remove_dir_all(&directory).unwrap();
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems:#?}"));
        check(
            &snapshot,
            &[
                (
                    "10.1.0.7 - s.example A",
                    &[
                        "private name of endpoint vpce-a",
                        "endpoint vpce-b does not answer: vpce-a takes precedence: it is in the client's own VPC",
                        "endpoint vpce-d1 does not answer: an endpoint in state Failed has no names",
                        "endpoint vpce-d2 does not answer: `private_dns_enabled` is false",
                        "endpoint vpce-d3 does not answer: the private names of its service v are not verified",
                        "endpoint vpce-e does not answer: its `private_dns_scope` does not list a",
                        "endpoint vpce-o does not answer: `enable_dns_hostnames` of its VPC off is false",
                    ],
                ),
                (
                    "10.4.0.7 - s.example A",
                    &[
                        "private name of endpoint vpce-a",
                        "endpoint vpce-b does not answer: vpce-a takes precedence: it has the smaller identifier",
                        "endpoint vpce-c does not answer: vpce-a takes precedence: it is in the same Region",
                        "endpoint vpce-e does not answer: the client's network d cannot reach its VPC e",
                    ],
                ),
            ],
        );
    }
}
