//! Bodies in JSON.

use super::{Path, Reader};
use crate::aws::model::{Model, Shape, ShapeNumber};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

impl Reader<'_> {
    /// The value of a JSON value from the wire.
    pub(super) fn json(&mut self, number: ShapeNumber, wire: Value, path: &Path) -> Value {
        match (self.model.shape(number), wire) {
            (Shape::Structure { members, .. }, Value::Object(mut wire)) => {
                let mut value = Map::new();
                for member in members.iter().filter(|member| member.location.is_none()) {
                    let found = wire.remove(member.wire()).filter(|found| !found.is_null());
                    if let Some(found) = found {
                        let found = self.json(member.shape, found, &Path::Member(path, &member.name));
                        value.insert(member.name.clone(), found);
                    }
                }
                // `__type` is the name of the shape, which some clients send.
                let others = wire.iter().filter(|(name, found)| *name != "__type" && !found.is_null());
                others.for_each(|(name, _)| self.unknown(path, name));
                Value::Object(value)
            }
            (Shape::List { member, .. }, Value::Array(wire)) => {
                let items = wire.into_iter().enumerate();
                items.map(|(at, item)| self.json(*member, item, &Path::Item(path, at))).collect()
            }
            (Shape::Map { value, .. }, Value::Object(wire)) => {
                let entry = |(key, found): (String, Value)| {
                    let found = self.json(*value, found, &Path::Member(path, &key));
                    (key, found)
                };
                Value::Object(wire.into_iter().map(entry).collect())
            }
            (Shape::Timestamp, Value::Number(seconds)) => match time(&seconds) {
                Some(time) => Value::String(time.to_string()),
                None => Value::Number(seconds),
            },
            (_, wire) => wire,
        }
    }
}

/// The JSON value on the wire. Members that the shape lacks, and members that are not in the body, are left out.
pub(super) fn write(model: &Model, number: ShapeNumber, value: &Value) -> Value {
    match (model.shape(number), value) {
        (Shape::Structure { members, .. }, Value::Object(values)) => {
            let mut wire = Map::new();
            for member in members.iter().filter(|member| member.location.is_none()) {
                if let Some(value) = values.get(&member.name).filter(|value| !value.is_null()) {
                    wire.insert(member.wire().into(), write(model, member.shape, value));
                }
            }
            Value::Object(wire)
        }
        (Shape::List { member, .. }, Value::Array(items)) => {
            items.iter().map(|item| write(model, *member, item)).collect()
        }
        (Shape::Map { value: shape, .. }, Value::Object(values)) => {
            let entry = |(key, value): (&String, &Value)| (key.clone(), write(model, *shape, value));
            Value::Object(values.iter().map(entry).collect())
        }
        (Shape::Timestamp, Value::String(text)) => seconds(text).unwrap_or_else(|| value.clone()),
        _ => value.clone(),
    }
}

/// The time of a number of seconds since 1970, to the millisecond.
fn time(seconds: &Number) -> Option<Timestamp> {
    let milliseconds = (seconds.as_f64()? * 1000.0).round();
    (milliseconds.abs() < 1e15).then(|| Timestamp::from_millisecond(milliseconds as i64).ok())?
}

/// The number of seconds since 1970 of a time, to the millisecond.
fn seconds(text: &str) -> Option<Value> {
    let milliseconds = text.parse::<Timestamp>().ok()?.as_millisecond();
    Some(match milliseconds % 1000 {
        0 => Value::from(milliseconds / 1000),
        _ => Value::from(milliseconds as f64 / 1000.0),
    })
}
