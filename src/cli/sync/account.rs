//! A client of an AWS account: signs requests, keeps to a rate, waits when AWS throttles, and reads all pages.

use super::{
    credentials::Chain,
    http::{self, Endpoint, Response},
};
use crate::{
    aws::{
        codec::client::{Failure, read_response, write_request},
        model::Service,
        sigv4::{Unsigned, sign},
    },
    cli::{AccessArguments, client},
    clock::now,
    control_plane::etcd::pause as wait_for,
};
use anyhow::{Context, anyhow, bail};
use hyper::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The maximum number of attempts of a request.
const MAX_ATTEMPTS: u32 = 8;
/// The pause after the first failed attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after a failed attempt.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The maximum number of pages of a list.
const MAX_PAGES: usize = 100_000;
/// The codes with which AWS asks for fewer requests.
const THROTTLED: &[&str] = &[
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum RequestError {
    /// AWS refuses this request: the code and the message.
    Refused(String, String),
    /// No request can be made.
    Failed(anyhow::Error),
}

/// The numbers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that AWS has throttled.
    pub throttled: u64,
}

/// An account.
pub(super) struct Account {
    chain: Chain,
    /// The URL of all services, in the place of AWS's.
    url: Option<String>,
    tls: Arc<ClientConfig>,
    endpoints: HashMap<(Service, String), Arc<Endpoint>>,
    /// The shortest time between two requests.
    pause: Duration,
    next: Instant,
    requests: Requests,
}

impl Account {
    /// An account, which gets at most `rate` requests in a second.
    ///
    /// # Errors
    ///
    /// A file of certificate authorities cannot be read.
    pub(super) fn new(chain: Chain, url: Option<&str>, rate: f64) -> anyhow::Result<Account> {
        let certificate_authority = chain.variable("AWS_CA_BUNDLE").map(Into::into);
        let tls = client::tls(&AccessArguments { certificate_authority, ..AccessArguments::default() })?;
        let url = url.or_else(|| chain.variable("AWS_ENDPOINT_URL")).map(str::to_string);
        let pause = Duration::from_secs_f64(1.0 / rate);
        let (endpoints, requests) = Default::default();
        Ok(Account { chain, url, tls, endpoints, pause, next: Instant::now(), requests })
    }

    /// The numbers of requests so far.
    pub(super) fn requests(&self) -> Requests {
        self.requests
    }

    /// The result of an operation that reads, with the elements of all pages.
    ///
    /// # Errors
    ///
    /// AWS refuses the request, or no request can be made.
    pub(super) async fn ask(
        &mut self,
        service: Service,
        region: &str,
        operation: &str,
        mut parameters: Value,
    ) -> Result<Value, RequestError> {
        let mut result = Map::new();
        for _ in 0..MAX_PAGES {
            let Value::Object(page) = self.page(service, region, operation, &parameters).await? else {
                return Err(RequestError::Failed(anyhow!("{service}:{operation}: the result is not an object")));
            };
            let is_last = !set_next_page(&mut parameters, &page);
            for (member, value) in page {
                match (result.get_mut(&member), value) {
                    (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                    (_, value) => drop(result.insert(member, value)),
                }
            }
            if is_last {
                return Ok(Value::Object(result));
            }
        }
        Err(RequestError::Failed(anyhow!("{service}:{operation}: the list has more than {MAX_PAGES} pages")))
    }

    /// One page. Repeats requests that AWS throttles or that fail on the way.
    async fn page(
        &mut self,
        service: Service,
        region: &str,
        operation: &str,
        parameters: &Value,
    ) -> Result<Value, RequestError> {
        let mut pause = FIRST_PAUSE;
        let mut last = anyhow!("no attempt was made");
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                wait_for(pause).await;
                pause = (2 * pause).min(MAX_PAUSE);
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + self.pause;
            self.requests.sent += 1;
            let response = match self.send(service, region, operation, parameters).await {
                Ok(response) => response,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let Response { status, headers, body } = response;
            match read_response(service, operation, status, &headers, &body) {
                Ok(result) => return Ok(result),
                Err(Failure::Refused(error)) => {
                    let is_throttled = THROTTLED.contains(&&*error.code) || status == 429;
                    if is_throttled {
                        self.requests.throttled += 1;
                        // Others of the account get their share: the pause is for all later requests.
                        self.next = Instant::now() + pause;
                    }
                    if !is_throttled && status < 500 {
                        return Err(RequestError::Refused(error.code, error.message));
                    }
                    last = anyhow!("{service}:{operation}: {}: {}", error.code, error.message);
                }
                Err(Failure::Unreadable(error)) => last = anyhow!("{service}:{operation}: {error}"),
            }
        }
        Err(RequestError::Failed(last))
    }

    async fn send(
        &mut self,
        service: Service,
        region: &str,
        operation: &str,
        parameters: &Value,
    ) -> anyhow::Result<Response> {
        let endpoint = self.endpoint(service, region)?;
        let request = write_request(service, operation, parameters).map_err(|error| anyhow!("{error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, endpoint.authority().clone());
        for (name, value) in &request.headers {
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let unsigned =
            Unsigned { method: &request.method, path: &request.path, query: &request.query, body: &request.body };
        let time = now();
        let region = signing_region(service, region);
        let credentials = self.chain.credentials(time).await?;
        sign(credentials, region, service.signing_name(), unsigned, &mut headers, time)
            .context("a credential has a character that a header cannot have")?;
        let target = match &*request.query {
            "" => request.path.clone(),
            query => format!("{}?{query}", request.path),
        };
        http::ask(&endpoint, Method::from_bytes(request.method.as_bytes())?, &target, headers, request.body).await
    }

    fn endpoint(&mut self, service: Service, region: &str) -> anyhow::Result<Arc<Endpoint>> {
        if let Some(endpoint) = self.endpoints.get(&(service, region.to_string())) {
            return Ok(endpoint.clone());
        }
        let url = self.url.clone().unwrap_or_else(|| url_of(service, region));
        let endpoint = Arc::new(Endpoint::new(&url, Some(self.tls.clone()))?);
        self.endpoints.insert((service, region.into()), endpoint.clone());
        Ok(endpoint)
    }
}

/// The Region that a request is signed for: Route 53 has one for each partition.
fn signing_region(service: Service, region: &str) -> &str {
    match service {
        Service::Route53 if region.starts_with("cn-") => "cn-northwest-1",
        Service::Route53 if region.starts_with("us-gov-") => "us-gov-west-1",
        Service::Route53 => "us-east-1",
        _ => region,
    }
}

/// The URL of a service of AWS.
fn url_of(service: Service, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    match service {
        Service::Route53 if region.starts_with("us-gov-") => "https://route53.us-gov.amazonaws.com".into(),
        Service::Route53 => format!("https://route53.{domain}"),
        service => format!("https://{}.{region}.{domain}", service.signing_name()),
    }
}

/// Sets the parameters of the next page. False if this is the last one.
fn set_next_page(parameters: &mut Value, page: &Map<String, Value>) -> bool {
    let text = |member: &str| page.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("NextToken") {
        parameters["NextToken"] = token.into();
        return true;
    }
    if page.get("IsTruncated") != Some(&Value::Bool(true)) {
        return false;
    }
    let mut has_next = false;
    for (from, to) in [
        ("NextMarker", "Marker"),
        ("NextRecordName", "StartRecordName"),
        ("NextRecordType", "StartRecordType"),
        ("NextRecordIdentifier", "StartRecordIdentifier"),
    ] {
        match (text(from), parameters.as_object_mut()) {
            (Some(value), _) => {
                parameters[to] = value.into();
                has_next = true;
            }
            (None, Some(members)) => drop(members.remove(to)),
            (None, None) => {}
        }
    }
    has_next
}

/// The account of the credentials: an object with `Account` and `Arn`.
///
/// # Errors
///
/// The credentials are not valid, or AWS cannot be reached.
pub(super) async fn caller_identity(account: &mut Account, region: &str) -> anyhow::Result<Value> {
    let asked = account.ask(Service::Sts, region, "GetCallerIdentity", Value::Object(Map::new())).await;
    match asked {
        Ok(identity) => Ok(identity),
        Err(RequestError::Refused(code, message)) => bail!("AWS refuses the credentials: {code}: {message}"),
        Err(RequestError::Failed(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goes_on_to_the_next_page() {
        let mut parameters = json!({"HostedZoneId": "Z1", "StartRecordIdentifier": "x"});
        let page = |value: Value| value.as_object().unwrap().clone();
        let next = json!({"IsTruncated": true, "NextRecordName": "a.", "NextRecordType": "A"});
        assert!(set_next_page(&mut parameters, &page(next)));
        assert_eq!(parameters, json!({"HostedZoneId": "Z1", "StartRecordName": "a.", "StartRecordType": "A"}));
        assert!(!set_next_page(&mut parameters, &page(json!({"IsTruncated": false, "NextMarker": ""}))));
        let mut parameters = json!({});
        assert!(set_next_page(&mut parameters, &page(json!({"NextToken": "t"}))));
        assert_eq!(parameters, json!({"NextToken": "t"}));
        assert!(!set_next_page(&mut parameters, &page(json!({"NextToken": ""}))));
    }

    #[test]
    fn knows_the_servers_of_each_partition() {
        for (service, region, url, signed) in [
            (Service::Ec2, "eu-west-1", "https://ec2.eu-west-1.amazonaws.com", "eu-west-1"),
            (Service::Route53, "eu-west-1", "https://route53.amazonaws.com", "us-east-1"),
            (Service::Route53, "us-gov-east-1", "https://route53.us-gov.amazonaws.com", "us-gov-west-1"),
            (
                Service::Route53Resolver,
                "cn-north-1",
                "https://route53resolver.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
            ),
        ] {
            assert_eq!((url_of(service, region), signing_region(service, region)), (url.to_string(), signed));
        }
    }
}
