//! Single values as text: in XML, forms, paths, query strings and headers.

use crate::aws::model::Shape;
use serde_json::{Number, Value};

/// The value of a text. A text that does not fit the shape stays a text.
pub(super) fn from_text(shape: &Shape, text: &str) -> Value {
    let number = match shape {
        Shape::Integer(_) | Shape::Long(_) => text.trim().parse::<i64>().ok().map(Value::from),
        Shape::Float(_) | Shape::Double(_) => text.trim().parse().ok().and_then(Number::from_f64).map(Value::Number),
        Shape::Boolean if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        Shape::Boolean if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        _ => None,
    };
    number.unwrap_or_else(|| Value::String(text.into()))
}

/// The text of a value. None for lists, structures and `null`.
pub(super) fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
