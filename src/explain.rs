//! Explanations: an answer with its steps, as data. The function that serves makes them, from a manifest or in a running
//! server. The texts of the steps are made in [`answer`](crate::answer).

use crate::{
    answer::{
        Client, ExplainTrace, Moment, Outcome, Stage, Step, Trace, Transport, answer_traced, identify::QueryTemplate,
        known::KnownAnswers,
    },
    manifest::{Protocol, problem::printable},
    snapshot::{
        Snapshot,
        routes::{Route, Servers, Target},
    },
    wire::{
        Name,
        codes::ede,
        message::{self, Message},
        name::name_text,
        rdata::{type_from_text, type_to_text, write},
    },
};
use serde::{Deserialize, Serialize};
use std::{fmt::Write, net::IpAddr, sync::Arc, time::Duration};

/// A request for an explanation, as a user types it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The client's address.
    pub from: IpAddr,
    /// The address that the query is sent to; none: an address that belongs to no network.
    #[serde(default)]
    pub to: Option<IpAddr>,
    /// The forwarder that the client is behind; none: the client sends the query itself.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The name.
    pub name: String,
    /// The type; A by default.
    #[serde(rename = "type", default = "default_type")]
    pub rtype: String,
    /// Other servers are asked, as for a client.
    #[serde(default)]
    pub resolve: bool,
}

fn default_type() -> String {
    "A".into()
}

/// A question that is to be explained.
pub struct Question {
    from: IpAddr,
    to: Option<IpAddr>,
    via: Option<IpAddr>,
    name: Name,
    qtype: u16,
}

/// An answer with its steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    from: IpAddr,
    to: Option<IpAddr>,
    via: Option<IpAddr>,
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    generation: u64,
    steps: Vec<Step>,
    /// The question to other servers; there is no answer then.
    forward: Option<Forwarded>,
    /// The servers of the routes, in the order in which zonal asks them now; from a manifest alone, in its order.
    servers: Vec<Server>,
    status: Option<String>,
    flags: Vec<String>,
    ede: Option<Ede>,
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

/// A question to other servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forwarded {
    /// The rule; none: the internet resolver.
    rule: Option<String>,
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    dnssec_ok: bool,
    checking_disabled: bool,
}

/// A server of a route, and its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// The resolver rule; none for the internet resolver.
    pub rule: Option<String>,
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol of queries to the server.
    pub protocol: Protocol,
    /// The name in its certificate, for protocols with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name_indication: Option<String>,
    /// `unknown`, `up` or `down`; none if the explanation is from a manifest alone.
    pub state: Option<String>,
    /// The smoothed round trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The time for which it has not answered, in seconds.
    pub down_seconds: Option<u64>,
    /// The problem with it or with its last answers, if other servers are asked first because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ede {
    code: u16,
    text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    ttl: u32,
    rdata: String,
}

impl Question {
    /// Parses name and type.
    ///
    /// # Errors
    ///
    /// A text for the user, if name or type is invalid.
    pub fn new(request: &Request) -> Result<Question, String> {
        let Request { from, to, via, name, rtype, .. } = request;
        let name = Name::absolute(name).map_err(|error| format!("`{name}`: {error}"))?;
        let qtype = type_from_text(rtype)
            .or_else(|| rtype.eq_ignore_ascii_case("ANY").then_some(255))
            .ok_or_else(|| format!("`{rtype}` is not a record type, such as A or TYPE65280"))?;
        Ok(Question { from: *from, to: *to, via: *via, name, qtype })
    }

    /// A query with EDNS and RD, as stub resolvers send it, or a forwarder for one.
    pub fn packet(&self, snapshot: &Snapshot) -> Vec<u8> {
        let template = match self.via {
            None => QueryTemplate::default(),
            Some(_) => QueryTemplate::named(snapshot, &self.client(), self.from),
        };
        template.packet(self.name.as_wire(), self.qtype)
    }

    /// The client of the question, or the forwarder in front of it.
    pub fn client(&self) -> Client {
        let unspecified = match self.from {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        // An answer by TCP is not truncated.
        let source = self.via.unwrap_or(self.from);
        Client { source, port: 0, local: self.to.unwrap_or(unspecified), transport: Transport::Tcp }
    }
}

/// Explains an answer. `known` has the answers of other servers, `servers` returns the servers of a route, and `now` is in
/// seconds since 1970.
pub fn explain(
    snapshot: &Snapshot,
    known: &impl KnownAnswers,
    question: &Question,
    now: i64,
    servers: impl Fn(&Arc<Route>) -> Vec<Server>,
) -> Explanation {
    let mut trace = ExplainTrace::default();
    let mut reply = vec![0; u16::MAX as usize];
    let (client, moment) = (question.client(), Moment { now, draw: 0 });
    if let Some(via) = question.via
        && client.forwarder(snapshot).is_none()
    {
        trace.note(Stage::Client, || {
            format!("{via} is not a forwarder of the manifest: the client that it names does not count")
        });
    }
    let packet = question.packet(snapshot);
    let outcome = answer_traced(snapshot, known, &client, moment, &packet, &mut reply, &mut trace);
    let forward = match &outcome {
        Outcome::Forward(forward) => Some(Forwarded {
            rule: rule_of(forward.route),
            name: name_text(forward.name().wire()).to_string(),
            rtype: type_to_text(forward.qtype).into(),
            dnssec_ok: forward.dnssec_ok,
            checking_disabled: forward.checking_disabled,
        }),
        _ => None,
    };
    let mut explanation = Explanation {
        from: question.from,
        to: question.to,
        via: question.via,
        name: question.name.to_string(),
        rtype: type_to_text(question.qtype).into(),
        generation: snapshot.generation,
        steps: trace.steps,
        forward,
        servers: trace.routes.iter().flat_map(servers).collect(),
        status: None,
        flags: Vec::new(),
        ede: None,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    };
    if let Outcome::Reply(answered) = outcome
        && answered.len > 0
    {
        explanation.add_reply(&reply[..answered.len]);
    }
    explanation
}

/// Explains an answer from a manifest alone, without answers of other servers.
pub fn of_manifest(snapshot: &Snapshot, question: &Question, now: i64) -> Explanation {
    let mut explanation = explain(snapshot, &(), question, now, |route| {
        let Servers::Targets { targets, .. } = &route.servers else { return Vec::new() };
        targets.iter().map(|target| Server::new(route, target)).collect()
    });
    explanation.steps.retain(|step| step.stage != Stage::Cache);
    explanation
}

fn rule_of(route: &Route) -> Option<String> {
    (!route.rule.is_empty()).then(|| route.rule.clone())
}

impl Server {
    /// A server whose state is not known.
    pub fn new(route: &Route, target: &Target) -> Server {
        Server {
            rule: rule_of(route),
            ip: target.ip,
            port: target.port,
            protocol: target.protocol,
            server_name_indication: target.server_name.clone(),
            state: None,
            rtt_ms: None,
            down_seconds: None,
            trouble: None,
        }
    }

    fn to_text(&self) -> String {
        let Server { ip, port, protocol, server_name_indication, .. } = self;
        let target = Target { ip: *ip, port: *port, protocol: *protocol, server_name: server_name_indication.clone() };
        let rtt = self.rtt_ms.map_or(String::new(), |rtt| format!(", RTT {rtt} ms"));
        let why = self.trouble.as_ref().map_or(String::new(), |trouble| format!(": it {trouble}"));
        let state = match (self.state.as_deref(), self.down_seconds) {
            (Some("up"), _) if self.trouble.is_some() => format!(": answers{rtt}; other servers are asked first{why}"),
            (Some("up"), _) => format!(": answers{rtt}"),
            (Some("down"), seconds) => {
                format!(": no answer for {} s{rtt}; other servers are asked first{why}", seconds.unwrap_or(0))
            }
            (Some(_), _) => ": not asked yet".into(),
            (None, _) => String::new(),
        };
        format!("{target}{state}")
    }
}

impl Explanation {
    /// Whether other servers must be asked first.
    pub fn is_forwarded(&self) -> bool {
        self.forward.is_some()
    }

    /// The explanation after other servers were asked. `after` is the explanation with their answers in the cache, `elapsed` is
    /// the time until the reply, `recursion` has the steps of recursion, and `reply` is the message.
    pub fn resolved(
        self,
        after: Explanation,
        elapsed: Duration,
        recursion: Vec<Step>,
        reply: Option<&[u8]>,
    ) -> Explanation {
        let text = format!("the servers were asked; the answer took {:.1} ms", elapsed.as_secs_f64() * 1000.0);
        // An answer that the cache does not keep is missing the second time: its steps are those from before.
        let mut steps = if after.is_forwarded() { self.steps } else { after.steps };
        let at = steps.iter().position(|step| step.stage == Stage::Cache).unwrap_or(steps.len());
        steps.splice(at..at, std::iter::once(Step { stage: Stage::Resolve, text }).chain(recursion));
        let mut explanation = Explanation { steps, forward: None, servers: after.servers, ..self };
        if let Some(reply) = reply {
            explanation.add_reply(reply);
        }
        explanation
    }

    /// Adds the content of a reply.
    fn add_reply(&mut self, reply: &[u8]) {
        let message = Message::read(reply).unwrap_or_default();
        self.status = Some(message.status().into());
        self.flags = message.flag_names().into_iter().map(String::from).collect();
        [self.answer, self.authority, self.additional] =
            [0, 1, 2].map(|section: usize| message.sections[section].iter().map(Record::from).collect());
        self.ede = message.ede.map(|(code, text)| Ede { code, text });
    }

    /// The answer in a few words: its records, its status, or the rule that forwards it.
    pub fn summary(&self) -> Vec<String> {
        if let Some(forward) = &self.forward {
            let who = forward.rule.as_ref().map_or("to the internet".into(), |rule| format!("by rule {rule}"));
            return vec![format!("forwarded {who}")];
        }
        let status = self.status.as_deref().unwrap_or("no answer");
        if let Some(Ede { text, .. }) = self.ede.as_ref().filter(|error| error.code == ede::BLOCKED)
            && self.answer.is_empty()
        {
            return vec![format!("blocked by {text}: {}", if status == "NOERROR" { "no data" } else { status })];
        }
        if self.answer.is_empty() {
            let of_type = |rtype: &'static str| self.authority.iter().filter(move |record| record.rtype == rtype);
            if status == "NOERROR" && of_type("SOA").next().is_none() && of_type("NS").next().is_some() {
                let mut servers: Vec<String> = of_type("NS")
                    .map(|Record { name, ttl, rdata, .. }| format!("delegated: {name} {ttl} NS {rdata}"))
                    .collect();
                servers.sort();
                return servers;
            }
            return vec![if status == "NOERROR" { "no data".into() } else { status.into() }];
        }
        let mut records: Vec<String> = self
            .answer
            .iter()
            .map(|Record { name, ttl, rtype, rdata }| format!("{name} {ttl} {rtype} {rdata}"))
            .collect();
        // The order of records rotates.
        records.sort();
        records
    }

    /// Leaves out all steps but those about the client and DNS Firewall.
    pub fn retain_firewall(&mut self) {
        self.steps.retain(|step| matches!(step.stage, Stage::Client | Stage::Firewall));
        self.servers.clear();
        if self.steps.iter().all(|step| step.stage != Stage::Firewall) {
            let text = "no rule group filters the queries of this client".into();
            self.steps.push(Step { stage: Stage::Firewall, text });
        }
    }

    /// The generation that was explained.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The client, with its forwarder and the address that the query is sent to.
    pub fn client(&self) -> String {
        let to = self.to.map_or(String::new(), |to| format!(" to {to}"));
        let via = self.via.map_or(String::new(), |via| format!(" via {via}"));
        format!("{}{via}{to}", self.from)
    }

    /// Name and type.
    pub fn question(&self) -> String {
        format!("{} {}", self.name, self.rtype)
    }

    /// The steps and the servers, each with the label of its stage.
    pub fn steps(&self) -> Vec<(String, String)> {
        let steps = self.steps.iter().map(|Step { stage, text }| (format!("{stage:?}").to_lowercase(), text.clone()));
        steps.chain(self.servers.iter().map(|server| ("server".into(), server.to_text()))).collect()
    }

    /// The question to other servers, or the reply: lines with a label each.
    pub fn outcome(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(Forwarded { rule, name, rtype, dnssec_ok, checking_disabled }) = &self.forward {
            let who = rule.as_ref().map_or("the internet resolver".into(), |rule| format!("rule {rule}"));
            let bit = |is_set: &bool| if *is_set { 1 } else { 0 };
            let flags = format!("DO {}, CD {}", bit(dnssec_ok), bit(checking_disabled));
            lines.push(("forwarded", format!("{name} {rtype}, by {who}; {flags}")));
        }
        if let Some(status) = &self.status {
            lines.push(("status", format!("{status}; flags: {}", self.flags.join(" "))));
        }
        if let Some(Ede { code, text: why }) = &self.ede {
            lines.push(("EDE", format!("{code} ({why})")));
        }
        let sections = [("answer", &self.answer), ("authority", &self.authority), ("additional", &self.additional)];
        for (section, records) in sections {
            let line =
                |Record { name, ttl, rtype, rdata }: &Record| (section, format!("{name} {ttl} IN {rtype} {rdata}"));
            lines.extend(records.iter().map(line));
        }
        lines
    }

    /// The explanation as text. `source` says where it comes from.
    pub fn to_text(&self, source: &str) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}, from {}", printable(&self.question()), self.client());
        let mut line = |stage: &str, line: &str| {
            let _ = writeln!(text, "  {stage:<10} {}", printable(line));
        };
        line("source", source);
        self.steps().iter().for_each(|(stage, step)| line(stage, step));
        let mut before = None;
        for (label, line) in self.outcome() {
            let begins = matches!(label, "forwarded" | "status") && before != Some(label);
            let _ = writeln!(text, "{}{label}: {}", if begins { "\n" } else { "" }, printable(&line));
            before = Some(label);
        }
        text
    }

    /// The explanation as JSON.
    pub fn to_json(&self, source: &str) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["source"] = source.into();
        format!("{value:#}\n")
    }
}

impl From<&message::Record> for Record {
    fn from(record: &message::Record) -> Record {
        let mut rdata = String::new();
        let _ = write(&mut rdata, record.rtype, &record.rdata);
        Record { name: record.owner.to_string(), rtype: type_to_text(record.rtype).into(), ttl: record.ttl, rdata }
    }
}
