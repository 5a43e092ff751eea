//! `zonal explain`: how an answer comes about, from the very function that serves.

use super::Format;
use crate::{
    answer::{Client, Moment, Outcome, Step, Transport, answer_traced},
    manifest::problem::printable,
    snapshot::Snapshot,
    wire::{
        Name,
        message::Message,
        rdata::{type_from_text, type_to_text},
    },
};
use serde_json::{Value, json};
use std::{fmt::Write, net::IpAddr};

/// What is to be explained.
pub struct Question {
    /// The client's address.
    pub from: IpAddr,
    /// The address that it asks; none: one that is no door.
    pub to: Option<IpAddr>,
    /// The name that it asks for.
    pub name: Name,
    /// The type that it asks for.
    pub qtype: u16,
}

/// An answer with the way to it.
pub struct Explanation {
    question: Question,
    steps: Vec<Step>,
    message: Message,
    generation: u64,
}

impl Question {
    /// Reads name and type as they are typed on a command line. An address alone asks for its PTR record.
    pub fn new(from: IpAddr, to: Option<IpAddr>, name: &str, qtype: &str) -> Result<Question, String> {
        let name = Name::absolute(name).map_err(|error| format!("`{name}`: {error}"))?;
        let qtype = type_from_text(qtype)
            .or_else(|| qtype.eq_ignore_ascii_case("ANY").then_some(255))
            .ok_or_else(|| format!("`{qtype}` is no type of a record, such as A or TYPE65280"))?;
        Ok(Question { from, to, name, qtype })
    }

    /// A query with EDNS and RD, as stub resolvers send it.
    fn packet(&self) -> Vec<u8> {
        let mut packet = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
        packet.extend_from_slice(self.name.as_wire());
        packet.extend_from_slice(&self.qtype.to_be_bytes());
        packet.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0");
        packet
    }
}

/// Explains one answer. `now` is in seconds since 1970.
pub fn explain(snapshot: &Snapshot, question: Question, now: i64) -> Explanation {
    let unspecified = match question.from {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let client = Client {
        source: question.from,
        local: question.to.unwrap_or(unspecified),
        transport: Transport::Tcp, // nothing is truncated
    };
    let mut steps = Vec::new();
    let mut reply = vec![0; u16::MAX as usize];
    let moment = Moment { now, draw: 0 };
    let outcome = answer_traced(snapshot, &(), &client, moment, &question.packet(), &mut reply, &mut steps);
    let message = match outcome {
        Outcome::Reply(answered) => Message::read(&reply[..answered.len]).unwrap_or_default(),
        Outcome::Drop | Outcome::Forward(_) => Message::default(),
    };
    Explanation { question, steps, message, generation: snapshot.generation }
}

impl Explanation {
    /// The whole, as text or as one JSON object.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Human => self.to_text(),
            Format::Json => format!("{:#}\n", self.to_json()),
        }
    }

    fn to_text(&self) -> String {
        let Explanation { question, steps, message, .. } = self;
        let mut text = String::new();
        let asked = format!("{} {}", question.name, type_to_text(question.qtype));
        let to = question.to.map_or(String::new(), |to| format!(" to {to}"));
        let _ = writeln!(text, "{asked}, from {}{to}", question.from);
        for Step { stage, text: step } in steps {
            let _ = writeln!(text, "  {:<10} {}", format!("{stage:?}").to_lowercase(), printable(step));
        }
        let _ = writeln!(text, "\nstatus: {}; flags: {}", message.status(), message.flag_names().join(" "));
        if let Some((code, why)) = &message.ede {
            let _ = writeln!(text, "EDE: {code} ({})", printable(why));
        }
        for (section, records) in ["answer", "authority", "additional"].into_iter().zip(&message.sections) {
            for record in records {
                let _ = writeln!(text, "{section}: {record}");
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let Explanation { question, steps, message, generation } = self;
        let records = |section: usize| -> Vec<Value> {
            let record = |record: &crate::wire::message::Record| {
                let mut rdata = String::new();
                let _ = crate::wire::rdata::write(&mut rdata, record.rtype, &record.rdata);
                let (name, rtype) = (record.owner.to_string(), type_to_text(record.rtype));
                json!({"name": name, "type": rtype, "ttl": record.ttl, "rdata": rdata})
            };
            message.sections[section].iter().map(record).collect()
        };
        json!({
            "from": question.from,
            "to": question.to,
            "name": question.name.to_string(),
            "type": type_to_text(question.qtype),
            "generation": generation,
            "steps": steps,
            "status": message.status(),
            "flags": message.flag_names(),
            "ede": message.ede.as_ref().map(|(code, text)| json!({"code": code, "text": text})),
            "answer": records(0),
            "authority": records(1),
            "additional": records(2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::examine;
    use std::path::Path;

    /// What is said about a question: `from [to] name type`, with `-` for no address asked.
    fn told(snapshot: &Snapshot, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        let to = (words[1] != "-").then(|| words[1].parse().unwrap());
        let question = Question::new(words[0].parse().unwrap(), to, words[2], words[3]).unwrap();
        explain(snapshot, question, 1_800_000_000).render(Format::Human)
    }

    fn check(snapshot: &Snapshot, cases: &[(&str, &[&str])]) {
        for (question, expected) in cases {
            let text = told(snapshot, question);
            for line in *expected {
                assert!(text.contains(line), "{question}: {line}\n{text}");
            }
        }
    }

    #[test]
    fn the_demo() {
        let snapshot = examine(Path::new("zones"), &[]).0.unwrap();
        let public = "vpce-0sqs-lj2wisx3.sqs.us-east-1.vpce.amazonaws.com";
        check(
            &snapshot,
            &[
                (
                    "127.1.0.7 127.0.0.1 sqs.us-east-1.amazonaws.com A",
                    &[
                        "127.0.0.1 is no door",
                        "its subnet subnet-app-a is in AZ use1-az1",
                        "endpoint vpce-0sqs (sqs.us-east-1.amazonaws.com.) comes first: the longest name wins",
                        "after it: private hosted zone Z0PATCH",
                        "use1-az2: 127.2.16.10 is usable: not chosen: another AZ",
                    ],
                ),
                ("127.3.0.7 - sts.us-east-1.amazonaws.com A", &["127.2.16.14 is unhealthy: not chosen"]),
                ("127.1.0.7 - logs.us-east-1.amazonaws.com A", &["shifted away from until 2099-12-31T00:00:00Z"]),
                ("127.1.0.7 - sqs.us-east-1.amazonaws.com AAAA", &["dns_record_ip_type of vpce-0sqs is ipv4"]),
                ("127.5.0.7 - sqs.us-east-1.amazonaws.com A", &["vpc-shared is not connected to vpc-lonely"]),
                (
                    "127.3.0.7 - secretsmanager.us-east-1.amazonaws.com A",
                    &["private_dns_scope does not list vpc-spoke"],
                ),
                (
                    "127.2.0.7 - s3.us-east-1.amazonaws.com A",
                    &[
                        "not endpoint vpce-0s3: its private names are for the inbound path only",
                        "a Gateway endpoint has no names",
                    ],
                ),
                ("127.4.0.7 - sqs.us-east-1.amazonaws.com A", &["but through a door", "try `--to 127.2.0.53`"]),
                ("192.0.2.1 - sqs.us-east-1.amazonaws.com A", &["no network of the manifest has its address"]),
                ("127.5.0.7 127.1.0.2 www.corp.example.com A", &["may not ask at this door", "127.5.0.2 (vpc-lonely)"]),
                (&format!("127.5.0.7 - {public} A"), &["the client cannot reach it: vpc-lonely is not connected"]),
                (&format!("127.3.0.7 - {public} A"), &["the client can reach it: vpc-spoke is connected"]),
                ("127.3.0.7 - queue.corp.example.com A", &["the client can reach it"]),
            ],
        );
    }

    #[test]
    fn why_not_the_other_endpoints() {
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
        let snapshot = examine(&directory, &[]).0;
        std::fs::remove_dir_all(&directory).unwrap();
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems:#?}"));
        check(
            &snapshot,
            &[
                (
                    "10.1.0.7 - s.example A",
                    &[
                        "private name of endpoint vpce-a",
                        "not endpoint vpce-b: vpce-a comes before it: it is in the client's own VPC",
                        "not endpoint vpce-d1: in state Failed it has no names",
                        "not endpoint vpce-d2: private_dns_enabled is false",
                        "not endpoint vpce-d3: the private names of its service v are not verified",
                        "not endpoint vpce-e: its private_dns_scope does not list a",
                        "not endpoint vpce-o: enable_dns_hostnames is false in its VPC off",
                    ],
                ),
                (
                    "10.4.0.7 - s.example A",
                    &[
                        "private name of endpoint vpce-a",
                        "not endpoint vpce-b: vpce-a comes before it: it has the smaller identifier",
                        "not endpoint vpce-c: vpce-a comes before it: it is in the same Region",
                        "not endpoint vpce-e: the client's network d does not reach its VPC e",
                    ],
                ),
            ],
        );
    }
}
