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
    pub name: Name,
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
    let outcome = answer_traced(snapshot, &client, moment, &question.packet(), &mut reply, &mut steps);
    let message = match outcome {
        Outcome::Reply(answered) => Message::read(&reply[..answered.len]).unwrap_or_default(),
        Outcome::Drop => Message::default(),
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
