//! AWS's own example, and requests that are refused.

use super::*;
use hyper::header::{HeaderName, HeaderValue};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z, the time of AWS's examples.
const NOW: i64 = 1_440_938_160;

fn keys() -> Keys {
    let mut keys = Keys::default();
    assert!(keys.add("AKIDEXAMPLE", Key::new("111122223333", true, SECRET)));
    assert!(keys.add("AKIDREADER", Key::new("444455556666", false, "another secret of somebody")));
    assert!(!keys.add("AKIDREADER", Key::new("111122223333", true, SECRET)));
    keys
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pairs = list.iter().map(|(name, value)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

/// The value of `Authorization` in AWS's example `get-vanilla`.
const VANILLA: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                       SignedHeaders=host;x-amz-date, \
                       Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

fn vanilla(authorization: &str) -> HeaderMap {
    headers(&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"), ("authorization", authorization)])
}

fn kind(result: Result<Principal, SignatureError>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(!error.message.contains(SECRET) && !error.message.is_empty());
    error.kind
}

#[test]
fn accepts_the_example_of_aws() {
    let principal = verify("GET", "/", &vanilla(VANILLA), b"", NOW, &keys()).unwrap();
    let expected = Principal {
        account: "111122223333".into(),
        access_key_id: "AKIDEXAMPLE".into(),
        may_write: true,
        networks: None,
        domains: Vec::new(),
        region: "us-east-1".into(),
        service: "service".into(),
    };
    assert_eq!(principal, expected);
    // It is the same request without redundant parts of the path.
    assert!(verify("GET", "/./a//..", &vanilla(VANILLA), b"", NOW, &keys()).is_ok());
}

#[test]
fn refuses_a_request_that_was_changed() {
    let verify =
        |method: &str, path: &str, headers: &HeaderMap, body: &[u8]| verify(method, path, headers, body, NOW, &keys());
    let good = vanilla(VANILLA);
    for (method, path, body) in [("POST", "/", &b""[..]), ("GET", "/a", b""), ("GET", "/?a=b", b""), ("GET", "/", b"x")]
    {
        assert_eq!(kind(verify(method, path, &good, body)), ErrorKind::Mismatch, "{method} {path}");
    }
    let mut other = good.clone();
    other.insert("host", HeaderValue::from_static("example.com"));
    assert_eq!(kind(verify("GET", "/", &other, b"")), ErrorKind::Mismatch);
    let wrong = VANILLA.replace("Signature=5", "Signature=6");
    assert_eq!(kind(verify("GET", "/", &vanilla(&wrong), b"")), ErrorKind::Mismatch);
    // A key does not sign for another, and a scope is not that of another.
    for (from, to) in [("AKIDEXAMPLE", "AKIDREADER"), ("us-east-1", "us-east-2"), ("/service/", "/ec2/")] {
        assert_eq!(kind(verify("GET", "/", &vanilla(&VANILLA.replace(from, to)), b"")), ErrorKind::Mismatch, "{to}");
    }
    let mut hashed = good.clone();
    hashed.insert("x-amz-content-sha256", HeaderValue::from_static("00"));
    assert_eq!(kind(verify("GET", "/", &hashed, b"")), ErrorKind::Incomplete, "a header of AWS that is not signed");
    let mut retargeted = good.clone();
    retargeted.insert("x-amz-target", HeaderValue::from_static("Route53Resolver.DeleteResolverRule"));
    assert_eq!(kind(verify("GET", "/", &retargeted, b"")), ErrorKind::Incomplete);
    assert_eq!(
        kind(verify("GET", "/", &vanilla(&VANILLA.replace("AKIDEXAMPLE", "AKIDNOBODY")), b"")),
        ErrorKind::UnknownKey
    );
}

#[test]
fn refuses_old_and_early_requests() {
    let at = |now: i64| verify("GET", "/", &vanilla(VANILLA), b"", now, &keys());
    assert!(at(NOW + MAX_SKEW).is_ok() && at(NOW - MAX_SKEW).is_ok());
    // Within this time, the same request is accepted again.
    assert!(at(NOW).is_ok() && at(NOW).is_ok());
    for now in [NOW + MAX_SKEW + 1, NOW - MAX_SKEW - 1, 0, i64::MAX, i64::MIN] {
        assert_eq!(kind(at(now)), ErrorKind::Expired, "{now}");
    }
}

#[test]
fn refuses_signatures_that_are_not_whole() {
    for (authorization, expected) in [
        ("AWS4-HMAC-SHA256", ErrorKind::Incomplete),
        ("AWS4-HMAC-SHA256 Credential", ErrorKind::Incomplete),
        (&VANILLA.replace("SignedHeaders=", "Headers="), ErrorKind::Incomplete),
        (&VANILLA.replace("Signature=", "Sign="), ErrorKind::Incomplete),
        (&VANILLA.replace("Credential=", "Credentials="), ErrorKind::Incomplete),
        (&VANILLA.replace("host;", ""), ErrorKind::Incomplete),
        (&VANILLA.replace(";x-amz-date", ""), ErrorKind::Incomplete),
        (&VANILLA.replace("host;", "Host;"), ErrorKind::Incomplete),
        (&VANILLA.replace("host;", "host;;"), ErrorKind::Incomplete),
        (&VANILLA.replace("aws4_request", "aws5_request"), ErrorKind::Incomplete),
        (&VANILLA.replace("20150830/", "20150831/"), ErrorKind::Incomplete),
        (&VANILLA.replace("/us-east-1/", "//"), ErrorKind::Incomplete),
        (&VANILLA.replace("=5fa0", "=5FA0"), ErrorKind::Incomplete),
        (&VANILLA.replace("=5fa0", "="), ErrorKind::Incomplete),
        (&format!("{VANILLA}, Signature=00"), ErrorKind::Incomplete),
        ("Bearer token", ErrorKind::Missing),
    ] {
        let found = verify("GET", "/", &vanilla(authorization), b"", NOW, &keys());
        assert_eq!(kind(found), expected, "{authorization}");
    }
    assert_eq!(kind(verify("GET", "/", &HeaderMap::new(), b"", NOW, &keys())), ErrorKind::Missing);
    let mut twice = vanilla(VANILLA);
    twice.append("authorization", HeaderValue::from_static(VANILLA));
    assert_eq!(kind(verify("GET", "/", &twice, b"", NOW, &keys())), ErrorKind::Incomplete);
    for (date, name) in
        [("20150830T123600", "no Z"), ("2015-08-30T12:36:00Z", "other form"), ("20150830T250000Z", "hour 25")]
    {
        let mut dated = vanilla(VANILLA);
        dated.insert("x-amz-date", HeaderValue::from_static(date));
        assert_eq!(kind(verify("GET", "/", &dated, b"", NOW, &keys())), ErrorKind::Incomplete, "{name}");
    }
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request\
                 &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let host = headers(&[("host", "example.amazonaws.com")]);
    for (from, to) in [
        ("Expires=60", "Expires=0"),
        ("Expires=60", "Expires=604801"),
        ("Date=2015", "Date=2016"),
        ("Algorithm=AWS4", "Algorithm=AWS5"),
        ("60", "60&X-Amz-Expires=61"),
        ("X-Amz-Credential", "x"),
        ("00", "0%"),
    ] {
        let found = verify("GET", &format!("/?{}", query.replacen(from, to, 1)), &host, b"", NOW, &keys());
        assert_eq!(kind(found), ErrorKind::Incomplete, "{to}");
    }
}

#[test]
fn errors_have_the_codes_of_the_protocol() {
    let code = |kind, protocol| SignatureError::new(kind, "").code(protocol);
    assert_eq!(code(ErrorKind::Mismatch, Protocol::Ec2), "SignatureDoesNotMatch");
    assert_eq!(code(ErrorKind::Mismatch, Protocol::Json), "InvalidSignatureException");
    assert_eq!(code(ErrorKind::Expired, Protocol::RestXml), "RequestExpired");
    assert_eq!(code(ErrorKind::UnknownKey, Protocol::RestJson), "UnrecognizedClientException");
    assert_eq!(code(ErrorKind::UnknownKey, Protocol::Query), "InvalidClientTokenId");
    assert_eq!(code(ErrorKind::Missing, Protocol::Ec2), "MissingAuthenticationToken");
    assert_eq!(code(ErrorKind::Incomplete, Protocol::Json), "IncompleteSignatureException");
}

#[test]
fn accepts_its_own_signatures() {
    let credentials = |secret: &str, session_token: Option<&str>| Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        key: Key::new("", false, secret),
        session_token: session_token.map(str::to_string),
    };
    for (method, path, query, body) in [
        ("GET", "/", "", ""),
        ("GET", "/2013-04-01/hostedzone/Z1/rrset", "name=%2A.a%20b&maxitems=5&empty=", ""),
        ("POST", "/a%20b/c", "", "{\"A\": 1}"),
    ] {
        for token in [None, Some("IQoJb3/+=")] {
            let mut sent = headers(&[("host", "route53.amazonaws.com"), ("content-type", "application/json")]);
            let request = Unsigned { method, path, query, body: body.as_bytes() };
            sign(&credentials(SECRET, token), "us-east-1", "route53", request, &mut sent, NOW).unwrap();
            let target = if query.is_empty() { path.to_string() } else { format!("{path}?{query}") };
            let principal = verify(method, &target, &sent, body.as_bytes(), NOW, &keys()).unwrap();
            assert_eq!((&*principal.region, &*principal.service), ("us-east-1", "route53"));
            let other = verify(method, &target, &sent, b"other", NOW, &keys());
            assert_eq!(kind(other), ErrorKind::Mismatch);
            let mut wrong = headers(&[("host", "route53.amazonaws.com")]);
            sign(&credentials("other", token), "us-east-1", "route53", request, &mut wrong, NOW).unwrap();
            assert_eq!(kind(verify(method, &target, &wrong, body.as_bytes(), NOW, &keys())), ErrorKind::Mismatch);
        }
    }
}
