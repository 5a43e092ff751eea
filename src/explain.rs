//! How an answer comes about, as data: from the very function that serves, of a manifest or of a server that runs.

use crate::{
    answer::{
        Client, Moment, Outcome, Stage, Step, Story, Trace, Transport, answer_traced, known::Known, who::OnBehalf,
    },
    clock::now,
    forward::{
        self, Forwarding,
        upstream::{State, TargetReport},
    },
    manifest::{Protocol, problem::printable},
    snapshot::{
        Snapshot,
        routes::{Route, Servers, Target},
    },
    wire::{
        Name,
        message::{self, Message},
        name::name_text,
        rdata::{type_from_text, type_to_text, write},
    },
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt::Write, net::IpAddr, sync::Arc, time::Instant};

/// What is to be explained, as it is typed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The client's address.
    pub from: IpAddr,
    /// The address that it asks; none: one that is no entry point.
    #[serde(default)]
    pub to: Option<IpAddr>,
    /// The forwarder that the client is behind; none: it asks itself.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The name that it asks for.
    pub name: String,
    /// The type that it asks for; A without it.
    #[serde(rename = "type", default = "default_type")]
    pub rtype: String,
    /// Others are really asked.
    #[serde(default)]
    pub resolve: bool,
}

fn default_type() -> String {
    "A".into()
}

/// What is to be explained.
pub struct Question {
    from: IpAddr,
    to: Option<IpAddr>,
    via: Option<IpAddr>,
    name: Name,
    qtype: u16,
}

/// An answer with the way to it.
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
    /// What others have to be asked first; then there is no answer.
    forward: Option<Forwarded>,
    /// Those whom the names on the way are asked of: in the order in which they are asked now, or else in the manifest's.
    servers: Vec<Server>,
    status: Option<String>,
    flags: Vec<String>,
    ede: Option<Ede>,
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

/// A question to others.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forwarded {
    /// None: the internet resolver.
    rule: Option<String>,
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    dnssec_ok: bool,
    checking_disabled: bool,
}

/// One who is asked, and how that one answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    rule: Option<String>,
    ip: IpAddr,
    port: u16,
    protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name_indication: Option<String>,
    /// None: nobody knows here.
    state: Option<String>,
    /// The smoothed round trip time in milliseconds.
    rtt_ms: Option<f64>,
    /// For how many seconds it has not answered.
    down_seconds: Option<u64>,
    /// What is wrong with it, or with its last answers, if others are asked first because of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
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
    /// Reads name and type as they are typed. The error is a sentence.
    pub fn new(request: &Request) -> Result<Question, String> {
        let Request { from, to, via, name, rtype, .. } = request;
        let name = Name::absolute(name).map_err(|error| format!("`{name}`: {error}"))?;
        let qtype = type_from_text(rtype)
            .or_else(|| rtype.eq_ignore_ascii_case("ANY").then_some(255))
            .ok_or_else(|| format!("`{rtype}` is no type of a record, such as A or TYPE65280"))?;
        Ok(Question { from: *from, to: *to, via: *via, name, qtype })
    }

    /// A query with EDNS and RD, as stub resolvers send it, or a forwarder for one.
    fn packet(&self, snapshot: &Snapshot) -> Vec<u8> {
        let on_behalf = match self.via {
            None => OnBehalf::default(),
            Some(_) => OnBehalf::named(snapshot, &self.client(), self.from),
        };
        on_behalf.packet(self.name.as_wire(), self.qtype)
    }

    fn client(&self) -> Client {
        let unspecified = match self.from {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        // By TCP nothing is truncated.
        let source = self.via.unwrap_or(self.from);
        Client { source, port: 0, local: self.to.unwrap_or(unspecified), transport: Transport::Tcp }
    }
}

/// Explains an answer from what is known of others' names; those who answer for them are told by `servers`. `now` is in
/// seconds since 1970.
pub fn explain(
    snapshot: &Snapshot,
    known: &impl Known,
    question: &Question,
    now: i64,
    servers: impl Fn(&Arc<Route>) -> Vec<Server>,
) -> Explanation {
    let mut story = Story::default();
    let mut reply = vec![0; u16::MAX as usize];
    let (client, moment) = (question.client(), Moment { now, draw: 0 });
    if let Some(via) = question.via
        && client.forwarder(snapshot).is_none()
    {
        story.note(Stage::Client, || format!("{via} is no forwarder here: whom it names counts for nothing"));
    }
    let packet = question.packet(snapshot);
    let outcome = answer_traced(snapshot, known, &client, moment, &packet, &mut reply, &mut story);
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
        steps: story.steps,
        forward,
        servers: story.routes.iter().flat_map(servers).collect(),
        status: None,
        flags: Vec::new(),
        ede: None,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    };
    if let Outcome::Reply(answered) = outcome {
        explanation.take(&reply[..answered.len]);
    }
    explanation
}

/// Explains an answer from a manifest alone: of the names of others nothing is known.
pub fn of_manifest(snapshot: &Snapshot, question: &Question, now: i64) -> Explanation {
    let mut explanation = explain(snapshot, &(), question, now, |route| {
        let Servers::Targets { targets, .. } = &route.servers else { return Vec::new() };
        targets.iter().map(|target| Server::new(route, target)).collect()
    });
    explanation.steps.retain(|step| step.stage != Stage::Cache);
    explanation
}

/// Explains an answer of the server that this is, with its cache and what it knows of other servers. With `resolve` these are
/// asked, as they are for a client.
pub async fn of_server(forwarding: &Arc<Forwarding>, question: &Question, resolve: bool) -> Explanation {
    let explain_now = || {
        let snapshot = forwarding.snapshot.load_full();
        explain(&snapshot, &forwarding.cache, question, now(), |route| {
            let reports = forwarding.upstreams.report(route);
            reports.into_iter().map(|report| Server::reported(route, report)).collect()
        })
    };
    let mut explanation = explain_now();
    if !resolve || explanation.forward.is_none() {
        return explanation;
    }
    let (start, client) = (Instant::now(), question.client());
    let packet = question.packet(&forwarding.snapshot.load());
    let answered = forward::respond(forwarding, &client, &packet, None, None).await;
    let after = explain_now();
    let text = format!("others were asked, and the answer took {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    // What is not kept is not there a second time.
    let mut steps = if after.forward.is_none() { after.steps } else { explanation.steps };
    let at = steps.iter().position(|step| step.stage == Stage::Cache).unwrap_or(steps.len());
    steps.insert(at, Step { stage: Stage::Resolve, text });
    explanation = Explanation { steps, forward: None, servers: after.servers, ..explanation };
    if let Some(forward::Response { answered, reply, .. }) = answered {
        explanation.take(&reply[..answered.len]);
    }
    explanation
}

fn rule_of(route: &Route) -> Option<String> {
    (!route.rule.is_empty()).then(|| route.rule.clone())
}

impl Server {
    /// One of whom nothing is known but what the manifest says.
    fn new(route: &Route, target: &Target) -> Server {
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

    fn reported(route: &Route, report: TargetReport) -> Server {
        let (state, down_seconds) = match report.state {
            State::Unknown => ("unknown", None),
            State::Up => ("up", None),
            State::Down(since) => ("down", Some(since.elapsed().as_secs())),
        };
        Server {
            state: Some(state.into()),
            rtt_ms: report.rtt.map(|rtt| (rtt.as_secs_f64() * 1e5).round() / 100.0),
            down_seconds,
            trouble: report.trouble.map(Cow::into_owned),
            ..Server::new(route, &report.target)
        }
    }

    fn name_text(&self) -> String {
        let Server { ip, port, protocol, server_name_indication, .. } = self;
        let target = Target { ip: *ip, port: *port, protocol: *protocol, server_name: server_name_indication.clone() };
        let rtt = self.rtt_ms.map_or(String::new(), |rtt| format!(", RTT {rtt} ms"));
        let why = self.trouble.as_ref().map_or(String::new(), |trouble| format!(": it {trouble}"));
        let state = match (self.state.as_deref(), self.down_seconds) {
            (Some("up"), _) if self.trouble.is_some() => format!(": answers{rtt}; others are asked first{why}"),
            (Some("up"), _) => format!(": answers{rtt}"),
            (Some("down"), seconds) => {
                format!(": no answer for {} s{rtt}; others are asked first{why}", seconds.unwrap_or(0))
            }
            (Some(_), _) => ": not asked yet".into(),
            (None, _) => String::new(),
        };
        format!("{target}{state}")
    }
}

impl Explanation {
    /// Takes in a reply.
    fn take(&mut self, reply: &[u8]) {
        let message = Message::read(reply).unwrap_or_default();
        self.status = Some(message.status().into());
        self.flags = message.flag_names().into_iter().map(String::from).collect();
        [self.answer, self.authority, self.additional] =
            [0, 1, 2].map(|section: usize| message.sections[section].iter().map(Record::from).collect());
        self.ede = message.ede.map(|(code, text)| Ede { code, text });
    }

    /// The answer in few words: its records, or its status, or who is asked.
    pub fn gist(&self) -> Vec<String> {
        if let Some(forward) = &self.forward {
            let who = forward.rule.as_ref().map_or("to the internet".into(), |rule| format!("by rule {rule}"));
            return vec![format!("forwarded {who}")];
        }
        let status = self.status.as_deref().unwrap_or("no answer");
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
        // Their order rotates.
        records.sort();
        records
    }

    /// The generation of what is explained, as far as a server serves it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The client, with the forwarder that it is behind and the address that it asks.
    pub fn client(&self) -> String {
        let to = self.to.map_or(String::new(), |to| format!(" to {to}"));
        let via = self.via.map_or(String::new(), |via| format!(" via {via}"));
        format!("{}{via}{to}", self.from)
    }

    /// What is asked for.
    pub fn question(&self) -> String {
        format!("{} {}", self.name, self.rtype)
    }

    /// The steps and the servers, each with the word for what it is about.
    pub fn steps(&self) -> Vec<(String, String)> {
        let steps = self.steps.iter().map(|Step { stage, text }| (format!("{stage:?}").to_lowercase(), text.clone()));
        steps.chain(self.servers.iter().map(|server| ("server".into(), server.name_text()))).collect()
    }

    /// What comes of them: who is asked, or the reply, each line with the word for what it is.
    pub fn outcome(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(Forwarded { rule, name, rtype, dnssec_ok, checking_disabled }) = &self.forward {
            let who = rule.as_ref().map_or("the internet resolver".into(), |rule| format!("rule {rule}"));
            let bit = |is_set: &bool| if *is_set { 1 } else { 0 };
            let flags = format!("DO {}, CD {}", bit(dnssec_ok), bit(checking_disabled));
            lines.push(("to be asked, by", format!("{who}: {name} {rtype}, {flags}")));
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

    /// The whole for people. `source` says where it is from.
    pub fn name_text(&self, source: &str) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}, from {}", printable(&self.question()), self.client());
        let mut line = |stage: &str, line: &str| {
            let _ = writeln!(text, "  {stage:<10} {}", printable(line));
        };
        line("source", source);
        self.steps().iter().for_each(|(stage, step)| line(stage, step));
        let mut before = None;
        for (what, said) in self.outcome() {
            let begins = matches!(what, "to be asked, by" | "status") && before != Some(what);
            let separator = if what == "to be asked, by" { " " } else { ": " };
            let _ = writeln!(text, "{}{what}{separator}{}", if begins { "\n" } else { "" }, printable(&said));
            before = Some(what);
        }
        text
    }

    /// The whole for programs.
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
