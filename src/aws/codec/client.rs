//! The side of the client: writes requests, and reads responses.

use super::{
    Path, Reader, json, query, rest,
    server::ServiceError,
    xml::{self, Element},
};
use crate::aws::model::{Location, Member, Model, Operation, Protocol, Service, Shape};
use serde_json::{Map, Value};

/// A request, ready to be signed and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct WireRequest {
    /// The HTTP method.
    pub method: String,
    /// The path, encoded.
    pub path: String,
    /// The query string, encoded, without the question mark.
    pub query: String,
    /// The headers that the protocol needs.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a response is no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The service refuses the request.
    Refused(ServiceError),
    /// The response cannot be read.
    Unreadable(String),
}

/// Writes a request.
///
/// # Errors
///
/// If zonal does not know the operation, or a parameter that is a part of the path is missing.
pub fn write_request(service: Service, operation: &str, parameters: &Value) -> Result<WireRequest, String> {
    let model = service.model();
    let unknown = || format!("zonal does not know the operation {service}:{operation}");
    let (name, found) = model.operation(operation).ok_or_else(unknown)?;
    let missing = |member| format!("{service}:{name}: the parameter {member} is missing");
    let (path, query) = rest::write(model, found, parameters).map_err(missing)?;
    let mut request = WireRequest { method: found.method.clone(), path, query, headers: Vec::new(), body: Vec::new() };
    let has_body = body_members(model, found).next().is_some();
    match model.protocol {
        Protocol::Json => {
            request.headers.push(("X-Amz-Target", format!("{}.{name}", model.target)));
            request.headers.push(("Content-Type", model.media_type().into()));
            let body =
                found.input.map_or_else(|| Value::Object(Map::new()), |input| json::write(model, input, parameters));
            request.body = body.to_string().into_bytes();
        }
        Protocol::RestJson if has_body => {
            request.headers.push(("Content-Type", model.media_type().into()));
            let body = found.input.map(|input| json::write(model, input, parameters));
            request.body = body.unwrap_or_default().to_string().into_bytes();
        }
        Protocol::RestXml if has_body => {
            let root = found.root.as_deref().unwrap_or(name);
            let mut body = format!("<{root} xmlns=\"{}\">", found.namespace.as_deref().unwrap_or_default());
            found.input.iter().for_each(|input| xml::write_members(model, *input, parameters, &mut body));
            xml::end(root, &mut body);
            request.body = body.into_bytes();
        }
        Protocol::RestJson | Protocol::RestXml => {}
        Protocol::Ec2 | Protocol::Query => {
            request.headers.push(("Content-Type", "application/x-www-form-urlencoded; charset=utf-8".into()));
            let mut form = format!("Action={name}&Version={}", model.version);
            found.input.iter().for_each(|input| query::write(model, *input, parameters, "", &mut form));
            request.body = form.into_bytes();
        }
    }
    Ok(request)
}

/// The members of the parameters that are in the body.
fn body_members<'m>(model: &'m Model, operation: &Operation) -> impl Iterator<Item = &'m Member> {
    model.members(operation.input).iter().filter(|member| member.location.is_none())
}

/// Reads a response. Members that the model does not have are left out.
pub fn read_response(
    service: Service,
    operation: &str,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Value, Failure> {
    let model = service.model();
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    if !(200..300).contains(&status) {
        return Err(Failure::Refused(read_error(model, status, header("x-amzn-ErrorType"), body)));
    }
    let unknown = || Failure::Unreadable(format!("zonal does not know the operation {service}:{operation}"));
    let (_, found) = model.operation(operation).ok_or_else(unknown)?;
    let Some(output) = found.output else { return Ok(Value::Object(Map::new())) };
    let mut reader = Reader::new(model);
    let mut result = match model.protocol {
        _ if body.is_empty() => Value::Object(Map::new()),
        Protocol::Json | Protocol::RestJson => {
            let body = serde_json::from_slice(body);
            let body = body.map_err(|error| Failure::Unreadable(format!("the body is not JSON: {error}")))?;
            reader.json(output, body, &Path::Request)
        }
        Protocol::RestXml | Protocol::Ec2 | Protocol::Query => {
            let root = Element::read(body).map_err(Failure::Unreadable)?;
            let within = found.wrapper.as_ref().map(|wrapper| root.child(wrapper));
            match within {
                Some(None) => return Err(Failure::Unreadable("the XML has no result".into())),
                Some(Some(within)) => reader.xml(output, within, &Path::Request),
                None => reader.xml(output, &root, &Path::Request),
            }
        }
    };
    if let (Shape::Structure { members, .. }, Value::Object(values)) = (model.shape(output), &mut result) {
        for member in members.iter().filter(|member| member.location == Some(Location::Header)) {
            if let Some(text) = header(member.wire()) {
                values.insert(member.name.clone(), text.into());
            }
        }
    }
    Ok(result)
}

/// Reads what it can of an error.
fn read_error(model: &Model, status: u16, kind: Option<&str>, body: &[u8]) -> ServiceError {
    let mut error = ServiceError { status, code: status.to_string(), message: String::new(), members: Map::new() };
    match model.protocol {
        Protocol::Json | Protocol::RestJson => {
            if let Ok(Value::Object(members)) = serde_json::from_slice(body) {
                error.members = members;
            }
            let mut take = |name: &str| match error.members.remove(name) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            let (own, message) = (take("__type"), take("message"));
            error.message = message.or_else(|| take("Message")).unwrap_or_default();
            // `namespace#Code`, or `Code:more`.
            if let Some(code) = kind.map(str::to_string).or(own) {
                let code = code.rsplit_once('#').map_or(&*code, |(_, code)| code);
                error.code = code.split(':').next().unwrap_or_default().into();
            }
        }
        Protocol::RestXml | Protocol::Ec2 | Protocol::Query => {
            let Ok(root) = Element::read(body) else { return error };
            let text = |element: &Element, name: &str| element.child(name).map(|child| child.text.clone());
            let found = root.child("Errors").unwrap_or(&root).child("Error");
            match (found, root.child("Messages")) {
                (Some(found), _) => {
                    error.code = text(found, "Code").unwrap_or(error.code);
                    error.message = text(found, "Message").unwrap_or_default();
                }
                (None, Some(messages)) => {
                    let messages: Vec<&str> = messages.children.iter().map(|child| child.text.as_str()).collect();
                    error.code = root.name.clone();
                    error.message = messages.join("; ");
                }
                (None, None) => {}
            }
        }
    }
    error
}
