//! The operations of AWS's APIs: how zonal reads the manifest for them, and how it changes the manifest.
//!
//! [`entries`] are the operations that zonal serves, each with the parameters that zonal serves, echoes or refuses.
//! All other operations of the models are refused. A handler of a read gets the manifest and returns the result. A handler of
//! a write also returns edits, and runs where changes are made: the manifest that it sees is the one that it changes.

mod creation;
mod ec2;
mod edits;
mod filters;
mod identifiers;
mod networks;
mod profiles;
mod redaction;
mod resolver;
mod route53;
mod sts;
mod table;
mod tags;
mod zonal_shift;

pub use networks::{Permitted, check as check_networks};
pub use redaction::{messages, redacted};
pub use route53::record_sets::RecordSetIndexes;
pub use table::{Entry, Handler, entries};

use super::{
    codec::server::{Call, ServiceError},
    model::{Protocol, Service},
};
use crate::{
    manifest::{
        AwsData, Manifest, Tags, Vpc,
        collection::{Collection, Edit},
    },
    snapshot::Snapshot,
    wire::Name,
};
use data_encoding::BASE64URL_NOPAD;
use filters::{Filters, Known};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{net::IpAddr, ops::Bound};

/// The account of a key that has none. It sees the resources of all accounts.
pub const NO_ACCOUNT: &str = "000000000000";

/// The caller of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// The account, of 12 digits.
    pub account: String,
    /// The access key.
    pub access_key_id: String,
    /// The Region of the request.
    pub region: String,
    /// The addresses that the caller may use.
    pub permitted: Permitted,
    /// The domains of the public hosted zones that the caller may make, if `permitted` restricts the caller.
    pub domains: Vec<Name>,
}

/// The data that a handler gets in addition to the parameters of the operation.
pub struct Context<'a> {
    /// The caller.
    pub caller: &'a Caller,
    /// The resources.
    pub collection: &'a Collection,
    /// The revision of the resources.
    pub revision: u64,
    /// The snapshot that zonal answers DNS queries from.
    pub snapshot: &'a Snapshot,
    /// The orders of record sets that were made before.
    pub indexes: &'a RecordSetIndexes,
    /// The time in seconds since 1970.
    pub now: i64,
    /// Tells whether an address is one of this host.
    pub is_of_host: fn(IpAddr) -> bool,
}

/// The result of an operation that changes the manifest, with its changes.
#[derive(Debug)]
pub struct Written {
    /// The changed resources.
    pub edits: Vec<Edit>,
    /// The result of the operation.
    pub result: Value,
}

/// The result of a handler of a read.
pub type ReadResult = Result<Value, ServiceError>;
/// The result of a handler of a write.
pub type WriteResult = Result<Written, ServiceError>;

impl<'a> Context<'a> {
    fn manifest(&self) -> &'a Manifest {
        self.collection.manifest()
    }

    /// Whether the caller sees a resource of this owner. An empty owner is the caller.
    fn sees(&self, owner: &str) -> bool {
        owner.is_empty() || self.caller.account == NO_ACCOUNT || owner == self.caller.account
    }

    /// The caller's account. None if the key has none.
    fn account(&self) -> Option<&str> {
        Some(self.caller.account.as_str()).filter(|account| *account != NO_ACCOUNT)
    }

    /// The time, as AWS writes it: in UTC, with milliseconds.
    fn time(&self) -> String {
        format!("{:.3}", Timestamp::now())
    }

    /// Whether the request is for this Region.
    fn is_in(&self, region: &str) -> bool {
        region == self.caller.region
    }

    /// Whether a VPC is in the caller's account and Region.
    fn has_vpc(&self, vpc: &Vpc) -> bool {
        self.sees(&vpc.owner_id) && self.is_in(&vpc.region)
    }

    /// Whether an address is in a VPC of another account. A VPC of the caller with the same address changes nothing: each
    /// account chooses its blocks.
    fn is_foreign(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut foreign = self.manifest().vpcs.values().filter(|vpc| !self.sees(&vpc.owner_id));
        foreign.any(|vpc| vpc.cidr_blocks.iter().any(|block| block.contains(&address)))
    }

    /// Whether a resource with this data is in the caller's account and Region. `vpc` is its first VPC.
    fn has(&self, aws: &AwsData, vpc: Option<&str>) -> bool {
        self.sees(aws.text("owner_id").unwrap_or_default()) && self.is_in(self.region_of(aws, vpc))
    }

    /// The Region of a resource: that of its data, that of its first VPC, or that of the request.
    fn region_of<'r>(&'r self, aws: &'r AwsData, vpc: Option<&str>) -> &'r str {
        let own = aws.text("region");
        own.unwrap_or_else(|| vpc.map_or(self.caller.region.as_str(), |vpc| self.vpc_region(vpc)))
    }

    /// Writes owner, Region and times into the data of a new resource.
    fn stamp(&self, aws: &mut AwsData) {
        if let Some(account) = self.account() {
            aws.set("owner_id", account);
        }
        aws.set("region", self.caller.region.clone());
        aws.set("created", self.time());
        aws.set("modified", self.time());
    }

    /// The owner that is shown.
    fn owner<'o>(&'o self, owner: &'o str) -> &'o str {
        if owner.is_empty() { &self.caller.account } else { owner }
    }

    /// The owner of a VPC. Empty if the VPC is unknown.
    fn vpc_owner(&self, id: &str) -> &'a str {
        self.manifest().vpcs.get(id).map_or("", |vpc| &vpc.owner_id)
    }

    /// The Region of a VPC; the Region of the request if the VPC is unknown.
    fn vpc_region(&self, id: &str) -> &str {
        self.manifest().vpcs.get(id).map_or(&self.caller.region, |vpc| &vpc.region)
    }
}

/// The entry of an operation in the table. None if zonal does not serve it.
pub fn entry(service: Service, operation: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.service == service && entry.name == operation)
}

/// The entry of a call, whose parameters zonal serves or echoes.
///
/// # Errors
///
/// The operation or a parameter is refused.
pub fn admit(call: &Call) -> Result<&'static Entry, ServiceError> {
    let (service, name) = (call.service, call.operation);
    let entry = entry(service, name).ok_or_else(|| {
        ServiceError::new(
            service,
            "UnsupportedOperation",
            format!("zonal does not serve the operation {service}:{name}"),
        )
    })?;
    let dry_run = service == Service::Ec2 && call.parameters.get("DryRun") == Some(&Value::Bool(true));
    if dry_run {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Err(ServiceError::new(service, "DryRunOperation", message).with_status(412));
    }
    if service == Service::Ec2 && has_long_list(&call.parameters) {
        let message = format!("A list of a request has at most {MAX_LIST_ITEMS} items; send several requests");
        return Err(ServiceError::new(service, "InvalidParameterValue", message));
    }
    match entry.refused.split_whitespace().find(|path| is_given(&call.parameters, path)) {
        None => Ok(entry),
        Some(path) => {
            let message = format!("zonal does not support the parameter {path} of {service}:{name}; leave it out");
            Err(ServiceError::new(service, refusal_code(service, name), message))
        }
    }
}

/// The maximum number of items of a list in a request to EC2. The model of EC2 has no limits. AWS has this limit for most lists.
const MAX_LIST_ITEMS: usize = 1_000;

/// Whether a list in the parameters of a request has too many items.
fn has_long_list(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.len() > MAX_LIST_ITEMS || items.iter().any(has_long_list),
        Value::Object(members) => members.values().any(has_long_list),
        _ => false,
    }
}

/// The error code for a parameter of an operation that zonal refuses.
fn refusal_code(service: Service, operation: &str) -> &'static str {
    match service.model().protocol {
        Protocol::Json if operation.contains("Firewall") => "ValidationException",
        Protocol::Ec2 => "InvalidParameterValue",
        Protocol::RestXml => "InvalidInput",
        Protocol::Json => "InvalidParameterException",
        Protocol::RestJson => "ValidationException",
        Protocol::Query => "ValidationError",
    }
}

/// Whether a parameter is given. Its path goes through the members of lists: `Changes.Action`.
fn is_given(value: &Value, path: &str) -> bool {
    if let Value::Array(items) = value {
        return items.iter().any(|item| is_given(item, path));
    }
    match path.split_once('.') {
        None => value.get(path).is_some(),
        Some((name, rest)) => value.get(name).is_some_and(|value| is_given(value, rest)),
    }
}

/// The error that refuses a caller.
pub fn access_denied(service: Service, message: impl Into<String>) -> ServiceError {
    match service.model().protocol {
        Protocol::Ec2 => ServiceError::new(service, "UnauthorizedOperation", message).with_status(403),
        Protocol::RestXml | Protocol::Query => ServiceError::new(service, "AccessDenied", message).with_status(403),
        Protocol::Json | Protocol::RestJson => ServiceError::new(service, "AccessDeniedException", message),
    }
}

/// The error for a write that would make the manifest invalid. Each error of the manifest is one sentence.
pub fn refused_change(service: Service, operation: &str, errors: &[String]) -> ServiceError {
    match operation {
        // Route 53 writes the messages of a batch in this way.
        "ChangeResourceRecordSets" => {
            ServiceError::new(service, "InvalidChangeBatch", format!("[{}]", errors.join(", ")))
        }
        // A resource that others need.
        _ if service == Service::Ec2 && operation.starts_with("Delete") => {
            ServiceError::new(service, "DependencyViolation", errors.join("; "))
        }
        _ => ServiceError::new(service, refusal_code(service, operation), errors.join("; ")),
    }
}

/// The parameters of a call, which follow the model.
#[derive(Clone, Copy)]
pub struct Parameters<'a>(&'a Value);

impl<'a> Parameters<'a> {
    /// The parameters of a call.
    pub fn of(call: &'a Call) -> Parameters<'a> {
        Parameters(&call.parameters)
    }

    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// A text. Empty, if it is absent.
    fn text(self, name: &str) -> &'a str {
        self.given_text(name).unwrap_or_default()
    }

    fn given_text(self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    /// The texts of a list.
    fn texts(self, name: &str) -> Vec<&'a str> {
        self.items(name).filter_map(Value::as_str).collect()
    }

    fn items(self, name: &str) -> impl Iterator<Item = &'a Value> {
        self.get(name).and_then(Value::as_array).into_iter().flatten()
    }

    /// The maximum number of items on a page: a number, or a text with a number.
    fn limit(self, name: &str, default: usize, max: usize) -> Option<usize> {
        let given = match self.get(name) {
            None => return Some(default),
            Some(Value::String(text)) => text.parse::<u64>().ok()?,
            Some(value) => value.as_u64()?,
        };
        (given > 0).then(|| usize::try_from(given).unwrap_or(usize::MAX).min(max))
    }
}

/// A page of a list.
struct Page {
    items: Vec<Value>,
    /// The token of the next page.
    next: Option<String>,
}

/// A page of `all`, which are pairs of a key and an item in the order of keys, after the key of the token. None if the token
/// is none of this list. `all` gets the key after which it has to begin.
fn page<I: Iterator<Item = (String, Value)>>(
    list: &str,
    token: Option<&str>,
    limit: usize,
    all: impl FnOnce(Option<&str>) -> I,
) -> Option<Page> {
    let after = match token {
        None => None,
        Some(token) => {
            let text = String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?).ok()?;
            let (of, key) = text.split_once('\n')?;
            (of == list).then(|| key.to_string()).map(Some)?
        }
    };
    let mut page = Page { items: Vec::new(), next: None };
    let mut last: Option<String> = None;
    for (key, item) in all(after.as_deref()) {
        if page.items.len() == limit {
            page.next = last.map(|key| BASE64URL_NOPAD.encode(format!("{list}\n{key}").as_bytes()));
            break;
        }
        page.items.push(item);
        last = Some(key);
    }
    Some(page)
}

/// Tags as a list of keys and values.
fn tag_list(tags: &Tags, name: Option<&str>) -> Value {
    let own_name = name.filter(|_| !tags.contains_key("Name")).map(|name| json!({"Key": "Name", "Value": name}));
    let others = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value}));
    own_name.into_iter().chain(others).collect()
}

/// Data of AWS's API about a part of a resource, such as an association: a member of the map `map`.
fn part<'d>(aws: &'d AwsData, map: &str, key: &str) -> Parameters<'d> {
    const NOTHING: &Value = &Value::Null;
    Parameters(aws.get(map).and_then(|all| all.get(key)).unwrap_or(NOTHING))
}

/// Data about a part of a resource, to change it.
fn changed_part(aws: &AwsData, map: &str, key: &str) -> Map<String, Value> {
    part(aws, map, key).0.as_object().cloned().unwrap_or_default()
}

/// An object without its `null` members.
fn object(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests;

/// The list of an operation: the items that match the filters, page by page of at most `max` items. `foreign` is the code
/// of the error for a token of another list.
fn list<I: Iterator<Item = (String, Value)>>(
    (service, foreign, max): (Service, &str, usize),
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let filters = Filters::of(service, parameters, known)?;
    let limit = parameters.limit("MaxResults", max, max).unwrap_or(max);
    let token = parameters.given_text("NextToken");
    let found = page(member, token, limit, |after| all(after).filter(|(_, item)| filters.matches(item)));
    let unknown = || {
        ServiceError::new(
            service,
            foreign,
            "Invalid value passed for the NextToken parameter: it is not from this list",
        )
    };
    let Page { items, next } = found.ok_or_else(unknown)?;
    let mut result = json!({});
    result[member] = items.into();
    if let Some(next) = next {
        result["NextToken"] = next.into();
    }
    Ok(result)
}

/// The start of the range of keys that follow a key.
fn start(after: Option<&str>) -> Bound<&str> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
