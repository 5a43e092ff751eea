//! Decoding a tree of nodes into the manifest's types, with all errors at once.
//!
//! serde stops at the first error. So zonal skips the wrong value and decodes again from there on,
//! until the end: every error is reported, and no value that is right is decoded twice. This takes
//! linear time, whatever the number of errors.

use super::{
    aws_data::OPAQUE,
    document::{Node, Span, Step, Value, missing_blank_help, path_text},
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, Expected, Unexpected, Visitor},
    forward_to_deserialize_any,
};
use std::{any::type_name, cell::RefCell, collections::BTreeMap, collections::BTreeSet, fmt};

/// The error of a value that does not fit its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// The span of the value, if that is in the node.
    pub span: Option<Span>,
    /// The field, such as `network_interfaces[1].ipv4`. Empty for the whole node.
    pub field: String,
    /// The error message.
    pub message: String,
    /// The help: what to write instead.
    pub help: Option<String>,
}

/// Fields of the AWS API that zonal does not support.
const UNSUPPORTED: &[&str] = &["firewall_rule_type"];

/// The number of errors of one resource that are reported.
const MAX_ERRORS: usize = 100;

/// Decodes a `T`.
///
/// # Errors
///
/// All errors of the node, at most 101.
pub fn decode<T: DeserializeOwned + JsonSchema>(node: &Node) -> Result<T, Vec<ValueError>> {
    let mut errors = Vec::new();
    let resume = RefCell::new(Resume::default());
    loop {
        match T::deserialize(Cursor { node, at: &resume, index: 0 }.to(node)) {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(error) => {
                let done = error.path.is_empty() && !error.at_key;
                let path: Vec<Step> = error.path.iter().rev().cloned().collect();
                report::<T>(node, &path, &error, &mut errors);
                if done {
                    return Err(errors);
                }
                if errors.len() >= MAX_ERRORS {
                    errors.truncate(MAX_ERRORS);
                    let message = format!("there are more than {MAX_ERRORS} errors here; zonal did not read the rest");
                    errors.push(ValueError { span: None, field: String::new(), message, help: None });
                    return Err(errors);
                }
                *resume.borrow_mut() = Resume::after(node, &path);
            }
        }
    }
}

/// The position from which each open list and map is decoded again.
#[derive(Default)]
struct Resume {
    /// By the address of the node: the index of the first element that is decoded again.
    first: BTreeMap<*const Node, usize>,
}

impl Resume {
    /// The position behind the node at `path`.
    fn after(root: &Node, path: &[Step]) -> Resume {
        let mut first = BTreeMap::new();
        let mut node = root;
        for (depth, step) in path.iter().enumerate() {
            let (position, child) = match (&node.value, step) {
                (Value::Map(entries), Step::Key(key)) => match entries.iter().position(|entry| entry.key == *key) {
                    Some(position) => (position, &entries[position].node),
                    None => break,
                },
                (Value::List(items), Step::Index(index)) => match items.get(*index) {
                    Some(item) => (*index, item),
                    None => break,
                },
                _ => break,
            };
            first.insert(node as *const Node, position + usize::from(depth + 1 == path.len()));
            node = child;
        }
        Resume { first }
    }
}

/// serde's error. Each level of the tree adds a step to its path.
#[derive(Debug)]
struct Error {
    kind: ErrorKind,
    /// From the innermost step outwards.
    path: Vec<Step>,
    /// Whether the key of the last step is wrong, and not its value.
    at_key: bool,
    /// The type that has the missing field.
    of: Option<&'static str>,
}

#[derive(Debug)]
enum ErrorKind {
    /// The value has another type than this.
    Expected(String),
    /// The text has another form than this, for which there is an example.
    Text(&'static str, &'static str),
    /// A network with host bits. This is the network without them.
    HostBits(IpNet),
    UnknownWord(&'static [&'static str]),
    UnknownField(String, &'static [&'static str]),
    Missing(&'static str),
    Other(String),
}

impl Error {
    fn new(kind: ErrorKind) -> Error {
        Error { kind, path: Vec::new(), at_key: false, of: None }
    }

    fn within(mut self, step: Step) -> Error {
        self.path.push(step);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(ErrorKind::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected, expected: &dyn Expected) -> Error {
        Error::new(ErrorKind::Expected(expected.to_string()))
    }

    fn invalid_value(_: Unexpected, expected: &dyn Expected) -> Error {
        Error::new(ErrorKind::Expected(expected.to_string()))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Error {
        Error::new(ErrorKind::UnknownWord(known))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Error {
        Error::new(ErrorKind::UnknownField(field.into(), known))
    }

    fn missing_field(field: &'static str) -> Error {
        Error::new(ErrorKind::Missing(field))
    }
}

/// Adds the errors for the user that one error of serde stands for.
fn report<T: JsonSchema>(root: &Node, path: &[Step], error: &Error, errors: &mut Vec<ValueError>) {
    let Some(node) = follow(root, path) else { return };
    let field = path_text(path);
    let span = if error.at_key { key_span(root, path) } else { root.locate(&field) };
    let new = |message: String, help: Option<String>| ValueError { span, field: field.clone(), message, help };
    errors.push(match &error.kind {
        ErrorKind::Expected(expected) => {
            let missing_blank = scalar_text(node).filter(|_| expected == "a map").and_then(missing_blank_help);
            let help = (expected == "true or false")
                .then(|| match scalar_text(node).map(|text| text.to_ascii_lowercase()).as_deref() {
                    Some("yes" | "on" | "true") => Some("write true".to_string()),
                    Some("no" | "off" | "false") => Some("write false".to_string()),
                    _ => None,
                })
                .flatten();
            let help = help.or(missing_blank);
            new(format!("expected {expected}, found {}", quote(node)), help)
        }
        ErrorKind::Text(what, example) => {
            new(format!("expected {what} such as {example}, found {}", quote(node)), None)
        }
        ErrorKind::HostBits(network) => new(
            format!("the CIDR block {} has host bits set", quote(node)),
            Some(format!("the network is `{network}`")),
        ),
        ErrorKind::UnknownWord(known) => {
            let text = scalar_text(node).unwrap_or_default();
            new(format!("`{text}` is not a known value"), suggestion(text, known.iter().copied()))
        }
        ErrorKind::UnknownField(name, _) if UNSUPPORTED.contains(&name.as_str()) => {
            new(format!("`{name}` is not supported by this version"), Some("remove it".into()))
        }
        ErrorKind::UnknownField(name, known) => {
            let help = missing_blank_help(name).or_else(|| suggestion(name, known.iter().copied()));
            new(format!("there is no field `{name}` here"), help)
        }
        ErrorKind::Missing(first) => {
            let required = error.of.map(|of| required_fields::<T>(of)).unwrap_or_default();
            let all = if required.is_empty() { [first.to_string()].into() } else { required };
            for name in all.iter().filter(|name| node.entry(name).is_none()) {
                let missing = new(format!("the field `{name}` is missing"), None);
                errors.push(ValueError {
                    field: path_text(&[path, &[Step::Key(name.as_str().into())]].concat()),
                    ..missing
                });
            }
            return;
        }
        ErrorKind::Other(message) => new(
            match scalar_text(node) {
                Some(text) if !message.contains(text) => format!("{message}: {}", quote(node)),
                _ => message.clone(),
            },
            None,
        ),
    });
}

/// The required fields of the type `of`, which is part of `T`, from the JSON Schema of `T`.
fn required_fields<T: JsonSchema>(of: &str) -> BTreeSet<String> {
    let schema = schemars::schema_for!(T).to_value();
    let object = match schema["title"] == of {
        true => &schema,
        false => &schema["$defs"][of],
    };
    object["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(String::from)).collect()
}

fn follow<'a>(root: &'a Node, path: &[Step]) -> Option<&'a Node> {
    path.iter().try_fold(root, |node, step| match (&node.value, step) {
        (Value::Map(_), Step::Key(key)) => node.entry(key).map(|entry| &entry.node),
        (Value::List(items), Step::Index(index)) => items.get(*index),
        _ => None,
    })
}

fn key_span(root: &Node, path: &[Step]) -> Option<Span> {
    match path.split_last()? {
        (Step::Key(key), parent) => follow(root, parent)?.entry(key).map(|entry| entry.key_span),
        _ => None,
    }
}

fn scalar_text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// A value as an error message quotes it.
fn quote(node: &Node) -> String {
    match &node.value {
        _ if node.is_null() => match scalar_text(node) {
            Some("") | None => "nothing".into(),
            Some(text) => format!("`{text}`"),
        },
        Value::Scalar { text, plain } => {
            let short: String = text.chars().take(80).collect();
            let more = if short.len() < text.len() { "…" } else { "" };
            let quoted = if *plain || text.parse::<f64>().is_err() && !matches!(&**text, "true" | "false") {
                ""
            } else {
                " in quotes"
            };
            format!("`{short}{more}`{quoted}")
        }
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a map".into(),
    }
}

/// The help for an unknown word: the most similar known word, or a list of at most 12 known words.
pub fn suggestion<'a>(text: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(nearest) = nearest(text, known.clone()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let known: Vec<String> = known.take(13).map(|word| format!("`{word}`")).collect();
    (!known.is_empty() && known.len() <= 12).then(|| format!("expected one of {}", known.join(", ")))
}

/// The known word that is most similar to `text`. None if none is similar.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    // Words of very different lengths are not similar: their distance is not computed.
    let close = known.filter(|word| word.len().abs_diff(text.len()) <= 4 && text.len() <= 200).filter_map(|word| {
        let distance = strsim::damerau_levenshtein(&text, &word.to_ascii_lowercase());
        (distance <= (word.len().max(text.len()) / 3).clamp(1, 4)).then_some((distance, word))
    });
    close.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// A position in the tree to decode from.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    node: &'a Node,
    at: &'a RefCell<Resume>,
    index: usize,
}

impl<'a> Cursor<'a> {
    fn to(self, node: &'a Node) -> Cursor<'a> {
        Cursor { node, at: self.at, index: self.at.borrow().first.get(&(node as *const Node)).copied().unwrap_or(0) }
    }

    fn expected<T>(self, what: &str) -> Result<T, Error> {
        Err(Error::new(ErrorKind::Expected(what.into())))
    }

    /// The text of a scalar. An error for null, lists and maps.
    fn text(self) -> Result<&'a str, Error> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => self.expected("text"),
        }
    }

    /// The text of a scalar without quotes.
    fn plain(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    fn number<N: std::str::FromStr>(self, low: impl fmt::Display, high: impl fmt::Display) -> Result<N, Error> {
        match self.plain().and_then(|text| text.parse().ok()) {
            Some(number) => Ok(number),
            None => self.expected(&format!("a number from {low} to {high}")),
        }
    }
}

/// The form of the texts of a type, and an example.
fn form_of(value: &str) -> Option<(&'static str, &'static str)> {
    match value.rsplit("::").next()? {
        "IpNet" => Some(("an IPv4 or IPv6 CIDR block", "10.1.0.0/16 or fd00:a::/56")),
        "IpAddr" => Some(("an IPv4 or IPv6 address", "10.1.0.2 or fd00:a::2")),
        "Ipv4Addr" => Some(("an IPv4 address", "10.1.0.2")),
        "Ipv6Addr" => Some(("an IPv6 address", "fd00:a::2")),
        "SocketAddr" => Some(("an address and port", "127.0.0.1:5300 or [::1]:5300")),
        "Timestamp" => Some(("a time", "2026-11-24T10:00:00Z")),
        _ => None,
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $number:ident,)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.number($number::MIN, $number::MAX)?)
        })+
    };
}

impl<'de> Deserializer<'de> for Cursor<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            _ if self.node.is_null() => visitor.visit_unit(),
            Value::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.plain() {
            Some("true" | "True" | "TRUE") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE") => visitor.visit_bool(false),
            _ => self.expected("true or false"),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.plain().and_then(|text| text.parse().ok()) {
            Some(number) => visitor.visit_f64(number),
            None => self.expected("a number"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let form = form_of(type_name::<V::Value>());
        let text = match (self.text(), form) {
            (Ok(text), _) => text,
            (Err(_), Some((what, example))) => return Err(Error::new(ErrorKind::Text(what, example))),
            (Err(error), None) => return Err(error),
        };
        if type_name::<V::Value>().ends_with("::IpNet")
            && let Ok(network) = text.parse::<IpNet>()
            && network != network.trunc()
        {
            return Err(Error::new(ErrorKind::HostBits(network.trunc())));
        }
        visitor.visit_borrowed_str(text).map_err(|error: Error| match form {
            Some((what, example)) => Error::new(ErrorKind::Text(what, example)),
            None => error,
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            OPAQUE => visitor.visit_newtype_struct(self.node.to_json()).map_err(<Error as de::Error>::custom),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(ListReader { cursor: self, items }),
            _ => self.expected("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(MapReader { cursor: self, entries }),
            _ => self.expected("a map"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor).map_err(|mut error| {
            if matches!(error.kind, ErrorKind::Missing(_)) && error.path.is_empty() {
                error.of = Some(name);
            }
            error
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(de::value::BorrowedStrDeserializer::new(self.text()?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct }
}

struct ListReader<'a> {
    cursor: Cursor<'a>,
    items: &'a [Node],
}

impl<'de> de::SeqAccess<'de> for ListReader<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let index = self.cursor.index;
        let Some(item) = self.items.get(index) else { return Ok(None) };
        self.cursor.index += 1;
        seed.deserialize(self.cursor.to(item)).map(Some).map_err(|error| error.within(Step::Index(index)))
    }
}

struct MapReader<'a> {
    cursor: Cursor<'a>,
    entries: &'a [super::document::Entry],
}

impl<'de> de::MapAccess<'de> for MapReader<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.entries.get(self.cursor.index) else { return Ok(None) };
        let key = de::value::BorrowedStrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|mut error: Error| {
            error.at_key = true;
            error.within(Step::Key(entry.key.clone()))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.entries.get(self.cursor.index) else {
            return Err(Error::new(ErrorKind::Other("a key has no value".into())));
        };
        self.cursor.index += 1;
        let value = seed.deserialize(self.cursor.to(&entry.node));
        value.map_err(|error| error.within(Step::Key(entry.key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{PrivateHostedZone, Vpc, VpcEndpoint, ZonalShift, document};
    use proptest::prelude::*;

    fn errors<T: DeserializeOwned + JsonSchema>(text: &str) -> Vec<String> {
        let (node, faults) = document::read(text.as_bytes(), false);
        assert_eq!(faults, [], "{text}");
        let errors = decode::<T>(&node.unwrap()).err().unwrap_or_default();
        let shown = errors.iter().map(|m| {
            let location = m.span.map_or(String::new(), |span| format!("{}:{}: ", span.line, span.column));
            let help = m.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("{location}{}: {}{help}", m.field, m.message)
        });
        shown.collect()
    }

    #[test]
    fn reads_plain_scalars_as_text_for_text_fields() {
        let text = "{owner_id: 111122223333, region: no, cidr_blocks: [], enable_dns_support: false, profile_id: ~}";
        let node = document::read(text.as_bytes(), false).0.unwrap();
        let vpc: Vpc = decode(&node).unwrap();
        assert_eq!((&*vpc.owner_id, &*vpc.region), ("111122223333", "no"));
        assert!(!vpc.enable_dns_support && vpc.enable_dns_hostnames && vpc.profile_id.is_none());
    }

    #[test]
    fn reports_all_errors_of_a_vpc_at_once() {
        let text = "\
regoin: us-east-1
owner_id:
cidr_blocks: [10.1.0.0/40, 10.1.0.0/16, 10.2.0.1/16, [], ~]
enable_dns_support: yes
enable_dns_hostnames: \"true\"
resolver_addresses: 10.1.0.2
subnets:
  a: {cidr_blocks: [10.1.0.0/24, x]}
  b: {availability_zone_id: [], cidr_blocks: []}
  c: {availability_zone_id: x, cidr_blocks: [], dns64: true}
  d: {}
availability_zones: [a]
";
        let example = "expected an IPv4 or IPv6 CIDR block such as 10.1.0.0/16 or fd00:a::/56, found";
        assert_eq!(
            errors::<Vpc>(text),
            [
                "1:1: regoin: there is no field `regoin` here (did you mean `region`?)",
                "2:1: owner_id: expected text, found nothing",
                &format!("3:15: cidr_blocks[0]: {example} `10.1.0.0/40`"),
                "3:41: cidr_blocks[2]: the CIDR block `10.2.0.1/16` has host bits set (the network is `10.2.0.0/16`)",
                &format!("3:54: cidr_blocks[3]: {example} a list"),
                &format!("3:58: cidr_blocks[4]: {example} `~`"),
                "4:21: enable_dns_support: expected true or false, found `yes` (write true)",
                "5:23: enable_dns_hostnames: expected true or false, found `true` in quotes (write true)",
                "6:21: resolver_addresses: expected a list, found `10.1.0.2`",
                &format!("8:34: subnets.a.cidr_blocks[1]: {example} `x`"),
                "8:3: subnets.a.availability_zone_id: the field `availability_zone_id` is missing",
                "9:7: subnets.b.availability_zone_id: expected text, found a list",
                "10:49: subnets.c.dns64: there is no field `dns64` here (expected one of `availability_zone_id`, \
                 `cidr_blocks`, `enable_dns64`, `name`, `tags`, `aws`)",
                "11:3: subnets.d.availability_zone_id: the field `availability_zone_id` is missing",
                "11:3: subnets.d.cidr_blocks: the field `cidr_blocks` is missing",
                "12:1: availability_zones: expected a map, found a list",
                "region: the field `region` is missing",
            ]
        );
    }

    #[test]
    fn reports_wrong_words_times_numbers_and_names() {
        assert_eq!(
            errors::<VpcEndpoint>(
                "{vpc_endpoint_type: interfaces, service_name: s, vpc_id: v, state: up, private_dns_scope: conected,
                 dns_options: {dns_record_ip_type: IPV6, x: 1}, network_interfaces: [{availability_zone_id: a, ipv4: 'fd00::1'}]}"
            ),
            [
                "1:21: vpc_endpoint_type: `interfaces` is not a known value (did you mean `Interface`?)",
                "1:68: state: `up` is not a known value (expected one of `PendingAcceptance`, `Pending`, `Available`, `Deleting`, \
                 `Deleted`, `Rejected`, `Failed`, `Expired`, `Partial`)",
                "1:91: private_dns_scope: `conected` is not a known value (did you mean `connected`?)",
                "2:58: dns_options.x: there is no field `x` here (expected one of `dns_record_ip_type`, \
                 `private_dns_only_for_inbound_resolver_endpoint`)",
                "2:118: network_interfaces[0].ipv4: expected an IPv4 address such as 10.1.0.2, found `fd00::1`",
            ]
        );
        assert_eq!(
            errors::<ZonalShift>("{resource: '*', away_from: a, expires_at: tomorrow}"),
            ["1:43: expires_at: expected a time such as 2026-11-24T10:00:00Z, found `tomorrow`"]
        );
        assert_eq!(
            errors::<PrivateHostedZone>(
                "{name: a..b, vpc_ids: [], records: [{ttl: 5000000000, type: A}, {ttl: '5', firewall_rule_type: {}, type: A}, \
                 {alias: {name: a, firewall_rule_type: {}}, type: A}]}"
            ),
            [
                "1:8: name: the domain name has an empty label: `a..b`",
                "1:43: records[0].ttl: expected a number from 0 to 4294967295, found `5000000000`",
                "1:71: records[1].ttl: expected a number from 0 to 4294967295, found `5` in quotes",
                "1:76: records[1].firewall_rule_type: `firewall_rule_type` is not supported by this version (remove it)",
                "1:128: records[2].alias.firewall_rule_type: `firewall_rule_type` is not supported by this version \
                 (remove it)",
            ]
        );
    }

    #[test]
    fn reports_a_hundred_of_a_hundred_thousand_errors() {
        let values = format!("{{name: a, vpc_ids: [{}]}}", "[],".repeat(100_000));
        let fields: String = (0..100_000).map(|number| format!("x{number}: 1\n")).collect();
        for (text, last) in [
            (values, "1:"),
            (fields.clone() + "name: a\nvpc_ids: []\n", "100:1: x99: there is no field `x99` here"),
            (format!("name: a\nvpc_ids: []\n{fields}"), "102:1: x99: there is no field `x99` here"),
        ] {
            let errors = errors::<PrivateHostedZone>(&text);
            assert_eq!(errors.len(), MAX_ERRORS + 1);
            assert!(errors[99].starts_with(last), "{}", errors[99]);
            assert_eq!(errors[100], ": there are more than 100 errors here; zonal did not read the rest");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_mutated_text(at in 0usize..200, with in "[ -~\\n]{0,3}", cut in 0usize..4) {
            let mut text = "region: r\ncidr_blocks: [10.0.0.0/8]\nsubnets:\n  a: &a {availability_zone_id: z, cidr_blocks: \
                            [10.0.0.0/9]}\n  b: *a\navailability_zones: {us-east-1a: use1-az1}\nresolver_addresses:\n- 10.0.0.2\n"
                .to_string();
            let at = at.min(text.len());
            text.replace_range(at..(at + cut).min(text.len()), &with);
            let (node, faults) = document::read(text.as_bytes(), false);
            match node.map(|node| decode::<Vpc>(&node)) {
                Some(Err(errors)) => prop_assert!(!errors.is_empty()),
                Some(Ok(_)) => {}
                None => prop_assert!(!faults.is_empty() || text.trim().is_empty()),
            }
        }
    }
}
