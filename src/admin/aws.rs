//! The entrance of AWS's APIs. Requests for them come to paths that zonal's own API does not have: the fallback of the router
//! tells them by their signature. With `admin.access_keys_file`, signatures are verified, and a key acts for its own account.
//!
//! A write is one change of the manifest. The thread of the control plane prepares it, as all others: it sees the resources
//! that it changes. With etcd as the source, the thread only tries the change, a transaction writes it to etcd, and the
//! source etcd delivers it. In both cases, the response is sent when the change is served.

use super::{
    Admin,
    access::Access,
    not_found,
    problem::ApiError,
    push::{check_protection, octets_up_to, send},
};
use crate::{
    aws::{
        codec::server::{self, Call, Reply, ServiceError, read_request, write_error, write_result},
        is_account,
        model::Service,
        operations::{
            self, Caller, Context, Handler, NO_ACCOUNT, Parameters, Permitted, RecordSetIndexes, Written, access_denied,
        },
        random_uuid,
        sigv4::{ALGORITHM, Claim, ErrorKind, Keys, Principal, SignatureError, verify},
    },
    clock::now,
    control_plane::{
        change::{ChangeError, Position, Prepare, PreparedChange, Trial},
        etcd::NO_ANSWER,
    },
    listen::Core,
    manifest::collection::Collection,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use std::{
    net::{IpAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// The maximum size of a request's body, in octets.
const MAX_BODY_OCTETS: usize = 1 << 20;
/// The maximum number of reads that are made at the same time.
const MAX_READS: usize = 4;
/// The maximum number of attempts to write to etcd, when other clients change the same resources.
const MAX_ETCD_ATTEMPTS: usize = 20;
/// The longest time until the next attempt. It comes earlier if this node reads a later revision.
const ETCD_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The header that names the operation of a service with JSON bodies.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The state of the APIs.
pub struct AwsState {
    indexes: RecordSetIndexes,
    reads: Arc<Semaphore>,
}

impl Default for AwsState {
    fn default() -> AwsState {
        AwsState { indexes: RecordSetIndexes::default(), reads: Arc::new(Semaphore::new(MAX_READS)) }
    }
}

/// Whether a request is one for an API of AWS.
pub(super) fn is_for_aws<B>(request: &axum::http::Request<B>) -> bool {
    let path = request.uri().path();
    let is_form = path == "/" && *request.method() == Method::POST;
    let parameters = request.uri().query().unwrap_or_default().split('&');
    let has_parameter =
        |name: &str| parameters.clone().any(|part| part.split('=').next().is_some_and(|found| found == name));
    !path.starts_with("/v1/")
        && (authorization(request.headers()).is_some()
            || request.headers().contains_key(TARGET)
            || has_parameter("X-Amz-Algorithm")
            || has_parameter("Action")
            || is_form)
}

/// The value of `Authorization`, if it is a signature of AWS.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(ALGORITHM)
}

/// The scope of a credential: the key, the Region and the service that a signature is valid for.
#[derive(Debug, PartialEq)]
struct Scope {
    access_key_id: String,
    region: String,
    service: String,
}

/// The scope in `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
fn scope(authorization: &str) -> Option<Scope> {
    let parts = authorization.split(',').map(str::trim);
    let credential = parts.filter_map(|part| part.strip_prefix("Credential=")).next()?;
    let mut parts = credential.rsplitn(5, '/');
    let (end, service, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (_date, access_key_id) = (parts.next()?, parts.next()?);
    let is_region = region.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-');
    (end == "aws4_request" && is_region && !region.is_empty()).then(|| Scope {
        access_key_id: access_key_id.into(),
        region: region.into(),
        service: service.into(),
    })
}

/// The service of a request without a signature, so that its error has the right form.
fn likely_service(request: &Request) -> Service {
    let target = request.headers().get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
    if target.starts_with("Route53Resolver.") {
        Service::Route53Resolver
    } else if request.uri().path().starts_with("/2013-04-01/") {
        Service::Route53
    } else {
        Service::Ec2
    }
}

/// The account that a key acts for, while signatures are not verified: the key itself, if it has the form of an account.
fn account(access_key_id: &str) -> String {
    if is_account(access_key_id) { access_key_id.into() } else { NO_ACCOUNT.into() }
}

/// Serves requests at paths that zonal's own API does not have.
pub(super) async fn fallback(State(admin): State<Arc<Admin>>, mut request: Request) -> Response {
    if !is_for_aws(&request) {
        return not_found(request.uri().clone()).await.into_response();
    }
    let request_id = random_uuid();
    let keys = admin.access.access_keys();
    let scope = match keys {
        None => authorization(request.headers()).and_then(scope).ok_or_else(|| missing_signature(&request)),
        Some(_) => {
            add_host(&mut request);
            Claim::read(request.uri().query().unwrap_or_default(), request.headers()).map(Scope::from)
        }
    };
    let scope = match scope {
        Ok(scope) => scope,
        Err(error) => {
            let service = likely_service(&request);
            return response(write_error(service, None, &refused(service, &error), &request_id));
        }
    };
    let Some(service) = Service::of_signing_name(&scope.service) else {
        let names = Service::ALL.map(Service::signing_name).join(", ");
        let detail = format!("zonal does not serve AWS's service `{}`; it serves {names}", scope.service);
        return ApiError::new(StatusCode::NOT_FOUND, detail).into_response();
    };
    // Without keys, the account is in the key; with keys, it is that of the key that the signature is verified with.
    let caller = Caller {
        account: account(&scope.access_key_id),
        access_key_id: scope.access_key_id,
        region: scope.region,
        permitted: Permitted::All,
        domains: Vec::new(),
    };
    let mut operation = None;
    let served = serve(&admin, service, caller, keys, request, &mut operation).await;
    response(match served {
        Ok((operation, result)) => write_result(service, operation, &result, &request_id),
        Err(error) => write_error(service, operation, &error, &request_id),
    })
}

impl From<Claim> for Scope {
    fn from(claim: Claim) -> Scope {
        Scope { access_key_id: claim.access_key_id, region: claim.region, service: claim.service }
    }
}

/// Adds the header `Host`, which clients sign, to a request by HTTP/2, which has it in the URI.
fn add_host(request: &mut Request) {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_string());
    if let Some(Ok(host)) = authority.map(|authority| HeaderValue::from_str(&authority)) {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
}

/// The error for a request whose signature is refused.
fn refused(service: Service, error: &SignatureError) -> ServiceError {
    ServiceError::new(service, error.code(service.model().protocol), error.message.clone()).with_status(403)
}

/// The error for a request without a signature in `Authorization`.
fn missing_signature(request: &Request) -> SignatureError {
    let (kind, message) = match authorization(request.headers()) {
        Some(_) => {
            (ErrorKind::Incomplete, "`Authorization`: expected `Credential=KEY/DATE/REGION/SERVICE/aws4_request`")
        }
        None => (
            ErrorKind::Missing,
            "the request has no signature: sign it with AWS4-HMAC-SHA256 in the header `Authorization`",
        ),
    };
    SignatureError { kind, message: message.into() }
}

/// Checks that a client may send requests whose signature is not verified.
fn check_access(access: &Access, service: Service, request: &Request) -> Result<(), ServiceError> {
    access.check_unverified(request).map_err(|error| access_denied(service, error.detail()))
}

/// The operation of a request, and its result. `found` gets the operation as soon as it is known.
async fn serve(
    admin: &Arc<Admin>,
    service: Service,
    mut caller: Caller,
    keys: Option<Arc<Keys>>,
    request: Request,
    found: &mut Option<&'static str>,
) -> Result<(&'static str, Value), ServiceError> {
    if keys.is_none() {
        check_access(&admin.access, service, &request)?;
    }
    let (parts, body) = request.into_parts();
    let body = octets_up_to(MAX_BODY_OCTETS, "", body).await;
    let body =
        body.map_err(|error| ServiceError::new(service, "RequestEntityTooLarge", error.detail()).with_status(413))?;
    let principal = match &keys {
        Some(keys) => Some(principal(&parts, &body, keys).map_err(|error| refused(service, &error))?),
        None => None,
    };
    let may_write = principal.as_ref().is_none_or(|principal| principal.may_write);
    if let (Some(principal), Some(keys)) = (principal, &keys) {
        let has_others = keys.has_others(&principal.account);
        caller.permitted = Permitted::of(&principal.account, principal.networks, has_others);
        (caller.account, caller.domains) = (principal.account, principal.domains);
    }
    let target = parts.headers.get(TARGET).and_then(|target| target.to_str().ok());
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let wire = server::Request { method, path, query: parts.uri.query().unwrap_or_default(), target, body: &body };
    let call = read_request(service, &wire).map_err(|unreadable| {
        *found = unreadable.operation();
        unreadable.error(service)
    })?;
    *found = Some(call.operation);
    let (operation, call, of_caller) = (call.operation, Arc::new(call), caller.clone());
    let result = match operations::admit(&call)?.handler {
        Handler::Read(handler) => read(admin, caller, call.clone(), handler).await,
        Handler::Write(_) if !may_write => {
            return Err(access_denied(service, "the access key has the role `read`; this operation needs `write`"));
        }
        Handler::Write(handler) => write(admin, caller, call.clone(), handler).await,
    };
    match result {
        Ok(result) => Ok((operation, result)),
        Err(error) => Err(with_current(admin, &of_caller, |context| operations::redacted(context, &call, error))),
    }
}

/// Verifies the signature of a request.
fn principal(parts: &request::Parts, body: &[u8], keys: &Keys) -> Result<Principal, SignatureError> {
    let path_and_query = parts.uri.path_and_query().map_or("/", |path_and_query| path_and_query.as_str());
    verify(parts.method.as_str(), path_and_query, &parts.headers, body, now(), keys)
}

fn unavailable(service: Service) -> ServiceError {
    failed(service, "the server is about to end")
}

/// Makes the result of a read on a thread of its own.
async fn read(
    admin: &Arc<Admin>,
    caller: Caller,
    call: Arc<Call>,
    handler: fn(&Context, Parameters) -> operations::ReadResult,
) -> operations::ReadResult {
    let service = call.service;
    let permit = admin.aws.reads.clone().acquire_owned().await.map_err(|_| unavailable(service))?;
    let admin = admin.clone();
    let work = move || {
        let result = with_current(&admin, &caller, |context| handler(context, Parameters::of(&call)));
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| unavailable(service))?
}

/// Calls a function with the resources that zonal has now.
fn with_current<T>(admin: &Admin, caller: &Caller, handle: impl FnOnce(&Context) -> T) -> T {
    let (collection, revision) = {
        let state = admin.status.state();
        (state.persisted.collection.clone(), state.persisted.position.revision)
    };
    with_context(admin, caller, &collection, revision, handle)
}

fn with_context<T>(
    admin: &Admin,
    caller: &Caller,
    collection: &Collection,
    revision: u64,
    handle: impl FnOnce(&Context) -> T,
) -> T {
    let core: &Core = &admin.core;
    let snapshot = core.snapshot.load_full();
    let indexes = &admin.aws.indexes;
    handle(&Context { caller, collection, revision, snapshot: &snapshot, indexes, now: now(), is_of_host })
}

/// Whether an address belongs to this host: the system lets a socket bind only to such an address.
fn is_of_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The outcome of a handler of a write, or its refusal.
type Outcome = Arc<Mutex<Option<Result<Made, ServiceError>>>>;

/// The outcome of a handler of a write.
struct Made {
    written: Written,
    /// The revision of the resources that the change was made from.
    revision: u64,
    /// For each edit, whether the resource existed in that revision.
    existed: Vec<bool>,
}

/// Downloads the names of `ImportFirewallDomains`. Puts them into `Domains`, which is the parameter of `UpdateFirewallDomains`.
async fn import(admin: &Admin, call: &mut Call) -> Result<(), ServiceError> {
    let url = call.parameters["DomainFileUrl"].as_str().unwrap_or_default();
    let refused = |reason: String| {
        let message = format!("DomainFileUrl: {reason}; the list stays as it is");
        ServiceError::new(call.service, "ValidationException", message)
    };
    if url.starts_with("s3:") {
        let reason = "zonal does not read from S3; expected an http or https URL of a host in firewall.allow_sources of zonal.yaml";
        return Err(refused(reason.into()));
    }
    let names = admin.firewall_lists.import(url).await.map_err(refused)?;
    call.parameters["Domains"] = names.iter().map(ToString::to_string).collect();
    Ok(())
}

/// Makes the change of a write, and returns its result when the change is served.
async fn write(
    admin: &Arc<Admin>,
    caller: Caller,
    mut call: Arc<Call>,
    handler: fn(&Context, Parameters) -> operations::WriteResult,
) -> operations::ReadResult {
    let service = call.service;
    if call.operation == "ImportFirewallDomains" && (admin.takes_changes || admin.etcd.is_some()) {
        import(admin, Arc::make_mut(&mut call)).await?;
    }
    let request = Arc::new(WriteRequest { caller, call, handler });
    if admin.takes_changes {
        return Ok(make(admin, &request, None).await?.written.result);
    }
    let Some(writer) = &admin.etcd else {
        let message = "this node's manifest comes from a directory, which this API does not change; change the files, or set \
                       `control_plane: {push: {}}` in zonal.yaml";
        return Err(access_denied(service, message));
    };
    for _ in 0..MAX_ETCD_ATTEMPTS {
        let Made { written: Written { edits, result }, revision, existed } =
            make(admin, &request, Some(Trial::Acceptance)).await?;
        if edits.is_empty() {
            return Ok(result);
        }
        let keys = edits.iter().map(|edit| &edit.key);
        let conditions = writer.unchanged_since(revision, keys.clone().zip(existed));
        match writer.write(conditions, &edits).await.map_err(|error| etcd_failed(service, &error))? {
            Some(written) => {
                let served = writer.wait_until_served(written, keys).await;
                return served.map(|()| result).map_err(|error| unconfirmed(service, &error));
            }
            // This node has not read the change of another client yet.
            None => writer.wait_for_later(revision, ETCD_RETRY_INTERVAL).await,
        }
    }
    Err(failed(service, "other clients change the same resources in etcd all the time; repeat the request"))
}

/// The error for a write that could not be made.
fn failed(service: Service, message: impl Into<String>) -> ServiceError {
    ServiceError::new(service, "ServiceUnavailable", message).with_status(503)
}

/// The error for a write that may have been made. SDKs repeat requests by themselves after other codes.
fn unconfirmed(service: Service, message: &str) -> ServiceError {
    let message = format!("{message}; read the resource before you repeat the request");
    ServiceError::new(service, "OperationUnconfirmed", message).with_status(409)
}

/// The error for a transaction that failed.
fn etcd_failed(service: Service, error: &anyhow::Error) -> ServiceError {
    let text = format!("{error:#}");
    // etcd limits a request to 1.5 MiB by default.
    if text.contains("too large") {
        let message = format!("etcd: {text}; raise `--max-request-bytes` of etcd, or divide the resource");
        return ServiceError::new(service, "LimitExceeded", message);
    }
    match text.contains(NO_ANSWER) {
        true => unconfirmed(service, &format!("etcd: {text}: it may have made the change")),
        false => failed(service, format!("etcd: {text}")),
    }
}

/// A request of an operation that writes.
struct WriteRequest {
    caller: Caller,
    call: Arc<Call>,
    handler: fn(&Context, Parameters) -> operations::WriteResult,
}

/// Makes or tries the change of a write on the thread of the control plane.
async fn make(admin: &Arc<Admin>, request: &Arc<WriteRequest>, trial: Option<Trial>) -> Result<Made, ServiceError> {
    let (service, operation) = (request.call.service, request.call.operation);
    let outcome = Outcome::default();
    let sent = send(admin, prepare(admin.clone(), request.clone(), outcome.clone()), trial, true).await;
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (sent, outcome) {
        (Some(Ok(_)), Some(Ok(made))) => Ok(made),
        (_, Some(Err(refusal))) => Err(refusal),
        (Some(Err(ChangeError::Problems(problems))), _) => {
            let errors = with_current(admin, &request.caller, |context| operations::messages(context, &problems));
            Err(operations::refused_change(service, operation, &errors))
        }
        (Some(Err(error)), _) => Err(failed(service, error.to_string())),
        (None | Some(Ok(_)), _) => Err(unavailable(service)),
    }
}

/// Prepares the change of a write. It can be prepared several times; the last outcome counts.
fn prepare(admin: Arc<Admin>, request: Arc<WriteRequest>, outcome: Outcome) -> Prepare {
    Box::new(move |collection: &Collection, position: &Position| {
        let WriteRequest { caller, call, handler } = &*request;
        let written = with_context(&admin, caller, collection, position.revision, |context| {
            let written = handler(context, Parameters::of(call))?;
            operations::check_networks(context, call.service, &written.edits).map(|()| written)
        });
        let written = written.and_then(|written| match check_protection(collection, &written.edits) {
            Ok(()) => Ok(written),
            Err(error) => Err(operations::refused_change(call.service, call.operation, &[error.to_string()])),
        });
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(written) => {
                let edits = written.edits.clone();
                let existed = edits.iter().map(|edit| collection.contains(&edit.key)).collect();
                *outcome = Some(Ok(Made { written, revision: position.revision, existed }));
                let position = Position { revision: position.revision + 1, ..position.clone() };
                Ok(PreparedChange { edits, position, deletions: None, is_whole: false })
            }
            Err(refusal) => {
                let error = ChangeError::Malformed(refusal.message.clone());
                *outcome = Some(Err(refusal));
                Err(error)
            }
        }
    })
}

fn response(reply: Reply) -> Response {
    let mut response = reply.body.into_response();
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_scope_of_a_signature() {
        let header = " Credential=a/b/20261130/eu-west-1/route53/aws4_request, SignedHeaders=host, Signature=00";
        let expected = Scope { access_key_id: "a/b".into(), region: "eu-west-1".into(), service: "route53".into() };
        assert_eq!(scope(header), Some(expected));
        for wrong in ["", " Credential=a", " Credential=a/1/r/s/aws5_request", " Credential=a/1/<r>/s/aws4_request"] {
            assert_eq!(scope(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_in_the_form_of_an_account_is_one() {
        assert_eq!(account("111122223333"), "111122223333");
        assert_eq!((account("AKIA00000000"), account("11112222333")), (NO_ACCOUNT.into(), NO_ACCOUNT.into()));
    }

    #[test]
    fn leaves_all_other_requests_to_the_own_api() {
        let request = |method: &str, uri: &str, headers: &[(&str, &str)]| {
            let mut request = axum::http::Request::builder().method(method).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            is_for_aws(&request.body(()).unwrap())
        };
        let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=a")];
        assert!(request("GET", "/2013-04-01/hostedzone", &signed));
        assert!(request("POST", "/", &[]) && request("GET", "/?Action=DescribeVpcs", &[]));
        assert!(request("POST", "/nothing", &[("x-amz-target", "Route53Resolver.GetResolverRule")]));
        assert!(!request("POST", "/v1/batch", &signed));
        assert!(!request("GET", "/nothing", &[("authorization", "Bearer a")]) && !request("GET", "/?Actions=a", &[]));
    }
}
