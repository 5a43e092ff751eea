//! The side of the service: reads requests, and writes results and errors.

use super::{
    Path, Reader,
    constraints::{self, Constraint, Violation},
    json, percent, query, rest,
    xml::{self, Element},
};
use crate::aws::model::{Model, Operation, Protocol, Service, Shape};
use serde_json::{Map, Value, json};

/// A request, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, still encoded.
    pub path: &'a str,
    /// The query string, still encoded, without the question mark.
    pub query: &'a str,
    /// The header `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// A request, as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service.
    pub service: Service,
    /// The operation.
    pub operation: &'static str,
    /// The parameters: an object. They follow the model.
    pub parameters: Value,
}

/// The reason why a request is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Unreadable {
    /// The service has no such operation, or zonal does not know it.
    UnknownOperation(String),
    /// The request does not have the form of its protocol.
    Malformed(String),
    /// Parameters do not follow the model. The operation is known.
    Invalid(&'static str, Vec<Violation>),
}

/// An error, as clients get it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceError {
    /// The HTTP status.
    pub status: u16,
    /// The code, as in `ResourceNotFoundException`.
    pub code: String,
    /// The text.
    pub message: String,
    /// The other members, as in `FieldName`.
    pub members: Map<String, Value>,
}

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl ServiceError {
    /// An error with the status that the model gives its code; 400, if the model does not know the code.
    pub fn new(service: Service, code: &str, message: impl Into<String>) -> ServiceError {
        let model = service.model();
        let errors = model.operations.values().flat_map(|operation| &operation.errors);
        let status = errors.filter(|(name, _)| *name == code).find_map(|(_, number)| match model.shape(*number) {
            Shape::Structure { error, .. } => error.as_ref().map(|error| error.status),
            _ => None,
        });
        let message = message.into();
        ServiceError { status: status.unwrap_or(400), code: code.into(), message, members: Map::new() }
    }

    /// The error with another status.
    pub fn with_status(self, status: u16) -> ServiceError {
        ServiceError { status, ..self }
    }

    /// The error with another member.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> ServiceError {
        self.members.insert(member.into(), value.into());
        self
    }
}

impl Unreadable {
    /// The operation, if it is known.
    pub fn operation(&self) -> Option<&'static str> {
        match self {
            Unreadable::Invalid(operation, _) => Some(operation),
            Unreadable::UnknownOperation(_) | Unreadable::Malformed(_) => None,
        }
    }

    /// The error that a client gets.
    pub fn error(&self, service: Service) -> ServiceError {
        let protocol = service.model().protocol;
        let error = |code: &str, message: String| ServiceError::new(service, code, message);
        match self {
            Unreadable::UnknownOperation(message) => match protocol {
                Protocol::Ec2 | Protocol::Query => error("InvalidAction", message.clone()),
                Protocol::RestXml | Protocol::RestJson => {
                    error("UnknownOperationException", message.clone()).with_status(404)
                }
                Protocol::Json => error("UnknownOperationException", message.clone()),
            },
            Unreadable::Malformed(message) => match protocol {
                Protocol::Ec2 | Protocol::Query => error("MalformedQueryString", message.clone()),
                Protocol::RestXml => error("MalformedInput", message.clone()),
                Protocol::Json | Protocol::RestJson => error("SerializationException", message.clone()),
            },
            Unreadable::Invalid(_, violations) => {
                let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
                let count = match list.len() {
                    1 => "1 validation error".to_string(),
                    count => format!("{count} validation errors"),
                };
                let code = match (protocol, violations.first().map(|violation| &violation.constraint)) {
                    (Protocol::Ec2, Some(Constraint::Required)) => "MissingParameter",
                    (Protocol::Ec2, Some(Constraint::Unknown)) => "UnknownParameter",
                    (Protocol::Ec2, _) => "InvalidParameterValue",
                    (Protocol::RestXml, _) => "InvalidInput",
                    (Protocol::Query, _) => "ValidationError",
                    (Protocol::Json | Protocol::RestJson, _) => "ValidationException",
                };
                error(code, format!("{count} detected: {}", list.join("; ")))
            }
        }
    }
}

/// Reads a request for a service.
pub fn read_request(service: Service, request: &Request) -> Result<Call, Unreadable> {
    let model = service.model();
    let mut reader = Reader::new(model);
    let (name, input, parameters) = match model.protocol {
        Protocol::Json => read_json(&mut reader, service, request)?,
        Protocol::Ec2 | Protocol::Query => read_form(&mut reader, service, request)?,
        Protocol::RestJson | Protocol::RestXml => read_rest(&mut reader, service, request)?,
    };
    let unknown = reader.unknown.into_iter();
    let mut violations: Vec<Violation> =
        unknown.map(|path| Violation { path, value: Some("…".into()), constraint: Constraint::Unknown }).collect();
    violations.extend(input.map(|input| constraints::check(model, input, &parameters)).unwrap_or_default());
    violations.truncate(constraints::MAX_VIOLATIONS);
    if violations.is_empty() {
        Ok(Call { service, operation: name, parameters })
    } else {
        Err(Unreadable::Invalid(name, violations))
    }
}

/// The operation, the shape of its parameters, and the parameters.
type Read = (&'static str, Option<usize>, Value);

fn find(service: Service, name: &str) -> Result<(&'static str, &'static Operation), Unreadable> {
    let unknown = || Unreadable::UnknownOperation(format!("zonal does not know the operation {service}:{name}"));
    service.model().operation(name).ok_or_else(unknown)
}

fn read_json(reader: &mut Reader, service: Service, request: &Request) -> Result<Read, Unreadable> {
    let missing = || Unreadable::UnknownOperation("the header `X-Amz-Target` is missing".into());
    let target = request.target.ok_or_else(missing)?;
    let name = target.rsplit_once('.').map_or(target, |(_, name)| name);
    let (name, operation) = find(service, name)?;
    let body = read_json_body(request.body)?;
    let parameters = match operation.input {
        Some(input) => reader.json(input, body, &Path::Request),
        None => Value::Object(Map::new()),
    };
    Ok((name, operation.input, parameters))
}

fn read_json_body(body: &[u8]) -> Result<Value, Unreadable> {
    let malformed = |error: serde_json::Error| Unreadable::Malformed(format!("the body is not JSON: {error}"));
    if body.is_empty() { Ok(Value::Object(Map::new())) } else { serde_json::from_slice(body).map_err(malformed) }
}

fn read_form(reader: &mut Reader, service: Service, request: &Request) -> Result<Read, Unreadable> {
    let body = std::str::from_utf8(request.body).map_err(|_| Unreadable::Malformed("the body is not UTF-8".into()))?;
    let mut parameters = percent::parameters(body.trim_end()).map_err(Unreadable::Malformed)?;
    parameters.extend(percent::parameters(request.query).map_err(Unreadable::Malformed)?);
    parameters.retain(|(name, _)| !rest::is_signature(name));
    let mut form = query::Node::new(parameters).map_err(Unreadable::Malformed)?;
    let missing = || Unreadable::UnknownOperation("the parameter `Action` is missing".into());
    let name = form.take("Action").ok_or_else(missing)?;
    let (name, operation) = find(service, &name)?;
    let version = &service.model().version;
    if let Some(other) = form.take("Version").filter(|other| other != version) {
        return Err(Unreadable::Malformed(format!("Version: zonal does not know `{other}`; expected `{version}`")));
    }
    let parameters = match operation.input {
        Some(input) => reader.query(input, &form, &Path::Request),
        None => Value::Object(Map::new()),
    };
    Ok((name, operation.input, parameters))
}

fn read_rest(reader: &mut Reader, service: Service, request: &Request) -> Result<Read, Unreadable> {
    let model = service.model();
    let unknown = || {
        let (method, path) = (request.method, request.path);
        Unreadable::UnknownOperation(format!("zonal does not know the operation {service}: {method} {path}"))
    };
    let route = rest::route(model, request.method, request.path).ok_or_else(unknown)?;
    let query = percent::parameters(request.query).map_err(Unreadable::Malformed)?;
    let Some(input) = route.operation.input else { return Ok((route.name, None, Value::Object(Map::new()))) };
    let body = if request.body.is_empty() {
        Value::Object(Map::new())
    } else if model.protocol == Protocol::RestJson {
        reader.json(input, read_json_body(request.body)?, &Path::Request)
    } else {
        let root = Element::read(request.body).map_err(Unreadable::Malformed)?;
        if let Some(expected) = route.operation.root.as_ref().filter(|expected| **expected != root.name) {
            let message = format!("the root of the XML is `{}`; expected `{expected}`", root.name);
            return Err(Unreadable::Malformed(message));
        }
        reader.xml(input, &root, &Path::Request)
    };
    let Value::Object(mut parameters) = body else {
        return Err(Unreadable::Malformed("the body is not a structure".into()));
    };
    if let Shape::Structure { members, .. } = model.shape(input) {
        reader.locations(members, &route.labels, &query, &mut parameters);
    }
    Ok((route.name, Some(input), Value::Object(parameters)))
}

/// Writes the result of an operation. Its members follow the model; other members are left out.
pub fn write_result(service: Service, operation: &str, result: &Value, request_id: &str) -> Reply {
    let model = service.model();
    let Some((_, found)) = model.operation(operation) else {
        let error = Unreadable::UnknownOperation(format!("zonal does not know the operation {service}:{operation}"));
        return write_error(service, None, &error.error(service), request_id);
    };
    let mut headers = vec![("Content-Type", model.media_type().to_string())];
    headers.extend(rest::headers(model, found, result));
    headers.push(request_id_header(model, request_id));
    let mut out = String::new();
    match model.protocol {
        Protocol::Json | Protocol::RestJson => {
            let body = found.output.map_or_else(|| json!({}), |output| json::write(model, output, result));
            out = body.to_string();
        }
        Protocol::RestXml | Protocol::Ec2 | Protocol::Query => {
            let root = format!("{operation}Response");
            begin(&root, &model.namespace, &mut out);
            if model.protocol == Protocol::Ec2 {
                xml::write_text("requestId", request_id, &mut out);
            }
            found.wrapper.iter().for_each(|wrapper| xml::tag(wrapper, &mut out));
            if let Some(output) = found.output {
                xml::write_members(model, output, result, &mut out);
            } else if model.protocol == Protocol::Ec2 {
                // Operations without a result say that they worked.
                xml::write_text("return", "true", &mut out);
            }
            found.wrapper.iter().for_each(|wrapper| xml::end(wrapper, &mut out));
            if model.protocol == Protocol::Query {
                xml::tag("ResponseMetadata", &mut out);
                xml::write_text("RequestId", request_id, &mut out);
                xml::end("ResponseMetadata", &mut out);
            }
            xml::end(&root, &mut out);
        }
    }
    Reply { status: found.status, headers, body: out.into_bytes() }
}

/// Writes an error. The operation decides how the members of the error are named.
pub fn write_error(service: Service, operation: Option<&str>, error: &ServiceError, request_id: &str) -> Reply {
    let model = service.model();
    let shape = operation.and_then(|name| model.operations.get(name)).and_then(|found| found.errors.get(&error.code));
    let mut headers = vec![("Content-Type", model.media_type().to_string()), request_id_header(model, request_id)];
    let mut out = String::new();
    match model.protocol {
        Protocol::Json | Protocol::RestJson => {
            let mut value = Map::new();
            value.insert(message_member(model, shape.copied()).into(), error.message.clone().into());
            value.extend(error.members.clone());
            let mut body = match shape {
                Some(number) => json::write(model, *number, &Value::Object(value)),
                None => Value::Object(value),
            };
            match model.protocol {
                Protocol::Json => body["__type"] = error.code.clone().into(),
                _ => headers.push(("x-amzn-ErrorType", error.code.clone())),
            }
            out = body.to_string();
        }
        Protocol::Ec2 => {
            out.push_str(DECLARATION);
            out.push_str("<Response><Errors><Error>");
            xml::write_text("Code", &error.code, &mut out);
            xml::write_text("Message", &error.message, &mut out);
            out.push_str("</Error></Errors>");
            xml::write_text("RequestID", request_id, &mut out);
            out.push_str("</Response>");
        }
        Protocol::RestXml | Protocol::Query => {
            begin("ErrorResponse", &model.namespace, &mut out);
            xml::tag("Error", &mut out);
            xml::write_text("Type", if error.status < 500 { "Sender" } else { "Receiver" }, &mut out);
            xml::write_text("Code", &error.code, &mut out);
            xml::write_text("Message", &error.message, &mut out);
            xml::end("Error", &mut out);
            xml::write_text("RequestId", request_id, &mut out);
            xml::end("ErrorResponse", &mut out);
        }
    }
    Reply { status: error.status, headers, body: out.into_bytes() }
}

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Appends the start of a document.
fn begin(root: &str, namespace: &str, out: &mut String) {
    out.push_str(DECLARATION);
    out.push('<');
    out.push_str(root);
    out.push_str(" xmlns=\"");
    out.push_str(namespace);
    out.push_str("\">");
}

fn request_id_header(model: &Model, request_id: &str) -> (&'static str, String) {
    let name = if model.protocol == Protocol::Ec2 { "x-amz-request-id" } else { "x-amzn-RequestId" };
    (name, request_id.into())
}

/// The name of the member of an error that has its text.
fn message_member(model: &Model, shape: Option<usize>) -> &str {
    let message = model.members(shape).iter().find(|member| member.name.eq_ignore_ascii_case("message"));
    message.map_or("message", |message| &message.name)
}
