//! The service models of AWS: operations, and the shapes of what they take and return.
//!
//! `models/aws/make` makes them from botocore's. They are a part of the program, compressed; a model is unpacked when it is
//! first used.

use flate2::read::ZlibDecoder;
use regex_lite::Regex;
use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, fmt, io::Read, sync::OnceLock};

/// A service of AWS whose operations zonal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Route 53 Resolver.
    Route53Resolver,
    /// Route 53.
    Route53,
    /// EC2: networks and VPC endpoints.
    Ec2,
    /// Route 53 Profiles.
    Route53Profiles,
    /// Zonal shifts.
    ArcZonalShift,
    /// The Security Token Service: the caller's identity.
    Sts,
}

impl Service {
    /// All services.
    pub const ALL: [Service; 6] = [
        Service::Route53Resolver,
        Service::Route53,
        Service::Ec2,
        Service::Route53Profiles,
        Service::ArcZonalShift,
        Service::Sts,
    ];

    /// The name of the service in the scope of a signature, as in `route53resolver`.
    pub fn signing_name(self) -> &'static str {
        match self {
            Service::Route53Resolver => "route53resolver",
            Service::Route53 => "route53",
            Service::Ec2 => "ec2",
            Service::Route53Profiles => "route53profiles",
            Service::ArcZonalShift => "arc-zonal-shift",
            Service::Sts => "sts",
        }
    }

    /// The service with this name in the scope of a signature.
    pub fn of_signing_name(name: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.signing_name() == name)
    }

    /// The model. It is unpacked at the first call.
    pub fn model(self) -> &'static Model {
        static MODELS: [OnceLock<Model>; Service::ALL.len()] = [const { OnceLock::new() }; Service::ALL.len()];
        MODELS[self as usize].get_or_init(|| Model::unpack(self.packed()))
    }

    fn packed(self) -> &'static [u8] {
        macro_rules! packed {
            ($name:literal) => {
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/aws/", $name, ".json.zlib"))
            };
        }
        match self {
            Service::Route53Resolver => packed!("route53resolver"),
            Service::Route53 => packed!("route53"),
            Service::Ec2 => packed!("ec2"),
            Service::Route53Profiles => packed!("route53profiles"),
            Service::ArcZonalShift => packed!("arc-zonal-shift"),
            Service::Sts => packed!("sts"),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signing_name())
    }
}

/// How requests and responses of a service are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// AWS JSON 1.1: the operation is in the header `X-Amz-Target`.
    Json,
    /// Method and path are the operation; bodies are JSON.
    RestJson,
    /// Method and path are the operation; bodies are XML.
    RestXml,
    /// A form with the parameter `Action`, and EC2's rules for names; responses are XML.
    Ec2,
    /// A form with the parameter `Action`; responses are XML.
    Query,
}

/// The number of a shape in its model.
pub type ShapeNumber = usize;

/// A service model.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// The version of botocore that it is made from.
    pub botocore: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The version of the API, a date.
    pub version: String,
    /// The XML namespace of responses.
    pub namespace: String,
    /// The first part of `X-Amz-Target`.
    pub target: String,
    /// The operations, by name.
    pub operations: BTreeMap<String, Operation>,
    shapes: Vec<Shape>,
}

impl Model {
    /// # Panics
    ///
    /// If the packed model is damaged. It is a part of the program, and a test unpacks each.
    fn unpack(packed: &[u8]) -> Model {
        let mut text = Vec::new();
        ZlibDecoder::new(packed).read_to_end(&mut text).expect("a model is compressed with zlib");
        serde_json::from_slice(&text).expect("a model has the form that its maker writes")
    }

    /// A shape. An unknown number is an empty structure.
    pub fn shape(&self, number: ShapeNumber) -> &Shape {
        static EMPTY: Shape = Shape::Structure { members: Vec::new(), error: None };
        self.shapes.get(number).unwrap_or(&EMPTY)
    }

    /// The members of a structure. None for other shapes, and without a shape.
    pub fn members(&self, number: Option<ShapeNumber>) -> &[Member] {
        match number.map(|number| self.shape(number)) {
            Some(Shape::Structure { members, .. }) => members,
            _ => &[],
        }
    }

    /// The operation with this name, and the name in the model.
    pub fn operation(&self, name: &str) -> Option<(&str, &Operation)> {
        self.operations.get_key_value(name).map(|(name, operation)| (name.as_str(), operation))
    }
}

/// An operation of a service.
#[derive(Debug, Deserialize)]
pub struct Operation {
    /// The HTTP method.
    pub method: String,
    /// The path, with labels as in `/2013-04-01/hostedzone/{Id}`.
    pub path: String,
    /// The status of a successful response.
    #[serde(default = "ok")]
    pub status: u16,
    /// The shape of the parameters.
    #[serde(default)]
    pub input: Option<ShapeNumber>,
    /// The name of the root element of a request in XML.
    #[serde(default)]
    pub root: Option<String>,
    /// The namespace of that element.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The shape of the result.
    #[serde(default)]
    pub output: Option<ShapeNumber>,
    /// The element within a response that has the result.
    #[serde(default)]
    pub wrapper: Option<String>,
    /// The shapes of the errors, by name.
    #[serde(default)]
    pub errors: BTreeMap<String, ShapeNumber>,
}

fn ok() -> u16 {
    200
}

/// The description of a value.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Shape {
    /// Members with names.
    Structure {
        /// The members, in the order of the wire.
        members: Vec<Member>,
        /// The code and status, if the structure is an error.
        #[serde(default)]
        error: Option<ErrorCode>,
    },
    /// Equal members.
    List {
        /// The shape of a member.
        member: ShapeNumber,
        /// The name of a member in XML.
        wire: String,
        #[serde(flatten)]
        length: Length,
    },
    /// Values by keys, which are text.
    Map {
        /// The shape of a key.
        key: ShapeNumber,
        /// The shape of a value.
        value: ShapeNumber,
        #[serde(flatten)]
        length: Length,
    },
    /// Text.
    String {
        #[serde(flatten)]
        length: Length,
        /// The possible values. All, if empty.
        #[serde(default, rename = "enum")]
        values: Vec<String>,
        /// The pattern of the whole text.
        #[serde(default)]
        pattern: Option<Pattern>,
        /// The pattern of text that is not possible.
        #[serde(default)]
        except: Option<Pattern>,
    },
    /// A 32-bit number.
    Integer(Range),
    /// A 64-bit number.
    Long(Range),
    /// A number with fractions.
    Float(Range),
    /// A number with fractions.
    Double(Range),
    /// True or false.
    Boolean,
    /// A time. As JSON value: text in the format of RFC 3339.
    Timestamp,
    /// Octets. As JSON value: text in base64.
    Blob,
}

/// The limits of a length: of the characters of a text, or the members of a list or map.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Length {
    /// The minimum.
    pub min: Option<u64>,
    /// The maximum.
    pub max: Option<u64>,
}

/// The limits of a number.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Range {
    /// The minimum.
    pub min: Option<f64>,
    /// The maximum.
    pub max: Option<f64>,
}

/// The code and the HTTP status of an error.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorCode {
    /// The code.
    pub code: String,
    /// The status.
    pub status: u16,
}

/// The part of a request or response that a member of a structure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// A label of the path.
    Uri,
    /// A parameter of the query.
    QueryString,
    /// A header.
    Header,
}

/// A member of a structure.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: ShapeNumber,
    wire: Option<String>,
    query: Option<String>,
    /// Where it is; without it, in the body.
    #[serde(default)]
    pub location: Option<Location>,
    /// Whether a structure must have it.
    #[serde(default)]
    pub required: bool,
    /// Whether clients fill it with a random value, by which they can repeat a request.
    #[serde(default)]
    pub token: bool,
}

impl Member {
    /// Its name on the wire.
    pub fn wire(&self) -> &str {
        self.wire.as_deref().unwrap_or(&self.name)
    }

    /// Its name in EC2's forms.
    pub fn query(&self) -> &str {
        self.query.as_deref().unwrap_or(&self.name)
    }
}

/// A regular expression for a whole text.
#[derive(Debug)]
pub struct Pattern {
    /// The expression.
    pub text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Whether a whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&format!("^(?s:{})$", self.text)).ok());
        compiled.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        Ok(Pattern { text: String::deserialize(deserializer)?, compiled: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_all_models_and_compiles_their_patterns() {
        let mut operations = 0;
        for service in Service::ALL {
            let model = service.model();
            assert_eq!(Service::of_signing_name(service.signing_name()), Some(service));
            operations += model.operations.len();
            for shape in &model.shapes {
                if let Shape::String { pattern, except, .. } = shape {
                    for pattern in pattern.iter().chain(except) {
                        pattern.matches("");
                        // STS describes a result with escapes of Java. Requests have no such pattern.
                        let is_compiled = pattern.compiled.get().is_some_and(Option::is_some);
                        assert!(is_compiled || service == Service::Sts, "{service}: {}", pattern.text);
                    }
                }
            }
        }
        assert_eq!(operations, 215);
    }

    #[test]
    fn matches_whole_texts() {
        let pattern = |text: &str| Pattern { text: text.into(), compiled: OnceLock::new() };
        assert!(pattern("[0-9]+").matches("12"));
        assert!(!pattern("[0-9]+").matches("12a") && !pattern("a|b").matches("ab"));
    }
}
