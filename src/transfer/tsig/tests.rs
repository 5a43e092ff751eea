use super::*;
use crate::{config::TsigAlgorithm, wire::codes::rcode};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name as HickoryName, RecordType, TSigner, rdata::tsig::TsigAlgorithm as Hmac},
};

const NOW: u64 = 1_790_000_000;

fn keys() -> Keys {
    let key = |name: &str, secret: &[u8]| Key::new(&Name::absolute(name).unwrap(), TsigAlgorithm::HmacSha256, secret);
    Keys::of([key("transfer", b"a secret"), key("other", b"another one")])
}

fn key(name: &str) -> Arc<Key> {
    keys().get(&Name::absolute(name).unwrap()).unwrap().clone()
}

fn message(id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(HickoryName::from_ascii("corp.example.com.").unwrap(), RecordType::AXFR));
    message.to_vec().unwrap()
}

/// Another implementation, which verifies and signs.
fn judge() -> TSigner {
    let name = HickoryName::from_ascii("transfer.").unwrap();
    TSigner::new(b"a secret".to_vec(), Hmac::HmacSha256, name, 300).unwrap()
}

fn session(signed: Result<Signed, Malformed>) -> Session {
    match signed {
        Ok(Signed::By(session)) => session,
        Ok(Signed::No) => panic!("not signed"),
        Ok(Signed::Not(failure)) => panic!("{failure:?}"),
        Err(Malformed) => panic!("malformed"),
    }
}

fn failure(signed: Result<Signed, Malformed>) -> Failure {
    match signed {
        Ok(Signed::Not(failure)) => failure,
        _ => panic!("it holds"),
    }
}

#[test]
fn signs_and_verifies_responses_of_several_messages() {
    let mut request = message(7);
    let plain = request.clone();
    let mut client = Session::request(&key("transfer"), &mut request, NOW);
    let (mac, time, range) = judge().verify_message_byte(&request, None, true).unwrap();
    assert!(range.contains(&NOW) && time == NOW);
    assert_eq!(request.len(), plain.len() + client.size());

    let mut server = session(verify(&keys(), &request, NOW + 300));
    assert_eq!(*server.key().name.as_wire(), *b"\x08transfer\0");
    let mut previous = mac;
    for number in 0..3 {
        let mut response = plain.clone();
        response[2] |= 0x80;
        server.sign(&mut response, NOW + number);
        let judged = judge().verify_message_byte(&response, Some(&previous), number == 0).unwrap();
        previous = judged.0;
        let length = client.verify(&mut response, NOW).unwrap();
        assert!(length == plain.len() && response[10..12] == [0, 0] && client.is_complete());
    }
}

#[test]
fn accepts_signatures_of_another_implementation() {
    let message = Message::from_vec(&message(7)).unwrap();
    let signer = judge();
    let (record, _) = signer.sign_message(&message, NOW).unwrap();
    let mut signed = message.clone();
    signed.set_signature(record);
    let request = signed.to_vec().unwrap();
    session(verify(&keys(), &request, NOW));
}

#[test]
fn answers_invalid_signatures_as_rfc_8945_says() {
    let mut request = message(7);
    Session::request(&key("transfer"), &mut request, NOW);
    let plain = message(7);
    let at = plain.len();
    let changed = |at: usize, octet: u8| {
        let mut changed = request.clone();
        changed[at] ^= octet;
        changed
    };
    let truncated = |mac: usize| {
        let mut cut = request.clone();
        let mac_at = at + 10 + 10 + 13 + 10;
        cut.drain(mac_at + mac..mac_at + 32);
        cut[mac_at - 1] = mac as u8;
        cut[at + 10 + 9] -= 32 - mac as u8;
        cut
    };
    for (request, now, error, is_signed) in [
        (changed(12 + 1, 1), NOW, error::BADSIG, false),
        (changed(at + 1, 1), NOW, error::BADKEY, false),
        (changed(at + 10 + 10 + 1, 1), NOW, error::BADKEY, false),
        (request.clone(), NOW + 301, error::BADTIME, true),
        (request.clone(), NOW - 301, error::BADTIME, true),
        (truncated(16), NOW, error::BADTRUNC, true),
    ] {
        let failure = failure(verify(&keys(), &request, now));
        assert_eq!(failure.error, error);
        let mut response = plain.clone();
        response[2] |= 0x80;
        response[3] |= rcode::NOTAUTH as u8;
        failure.answer(&mut response, now);
        let found = find(&response).unwrap().unwrap();
        assert_eq!((found.error, found.time), (error, NOW));
        assert_eq!(found.mac.len(), if is_signed { 32 } else { 0 });
        let expected = if error == error::BADTIME { now.to_be_bytes()[2..].to_vec() } else { Vec::new() };
        assert_eq!(found.other, expected);
    }
    for malformed in [truncated(15), truncated(9), request[..request.len() - 1].to_vec(), changed(at + 10 + 3, 1)] {
        assert!(matches!(verify(&keys(), &malformed, NOW), Err(Malformed)));
    }
    let mut twice = request.clone();
    Session::request(&key("other"), &mut twice, NOW);
    assert!(matches!(verify(&keys(), &twice, NOW), Err(Malformed)), "it has to be the last record");
    assert!(matches!(verify(&keys(), &plain, NOW), Ok(Signed::No)));
    for length in 0..request.len() {
        assert!(matches!(verify(&keys(), &request[..length], NOW), Err(Malformed)), "{length}");
    }
}

/// Only responses have an error field: a request with one is not authenticated, even if its MAC is
/// valid.
#[test]
fn refuses_a_request_with_an_error_field() {
    let (key, algorithm) = (key("transfer"), key("transfer").algorithm_name());
    for error in [error::BADSIG, error::BADKEY, error::BADTIME, error::BADTRUNC, 99] {
        let mut request = message(7);
        let fields = Fields { time: NOW, fudge: 300, error, other: &[] };
        let mac = key.mac(&[&request, &variables(&key.name, &algorithm, &fields)]);
        append(&mut request, &key.name, &algorithm, &fields, &mac, [0, 7]);
        assert_eq!(failure(verify(&keys(), &request, NOW)).error, error::BADSIG);
    }
}

#[test]
fn verifies_a_forwarded_request_with_its_original_identifier() {
    let mut request = message(7);
    Session::request(&key("transfer"), &mut request, NOW);
    request[..2].copy_from_slice(&[9, 9]);
    session(verify(&keys(), &request, NOW));
}

#[test]
fn refuses_responses_with_invalid_signatures() {
    let respond = |client_key: &str, sign: &dyn Fn(&mut Session, &mut Vec<u8>)| {
        let mut request = message(7);
        let mut client = Session::request(&key(client_key), &mut request, NOW);
        let mut server = session(verify(&keys(), &request, NOW));
        let mut response = message(7);
        sign(&mut server, &mut response);
        client.verify(&mut response, NOW)
    };
    let plain = message(7).len();
    assert_eq!(respond("transfer", &|session, response| session.sign(response, NOW)), Ok(plain));
    assert_eq!(respond("transfer", &|_, _| {}), Err(SignatureError::Unsigned));
    assert_eq!(respond("transfer", &|session, response| session.sign(response, NOW - 301)), Err(SignatureError::Time));
    let tampered = |session: &mut Session, response: &mut Vec<u8>| {
        session.sign(response, NOW);
        response[13] ^= 1;
    };
    assert_eq!(respond("transfer", &tampered), Err(SignatureError::Mac));
    let other = |_: &mut Session, response: &mut Vec<u8>| drop(Session::request(&key("other"), response, NOW));
    assert_eq!(respond("transfer", &other), Err(SignatureError::Key));

    let mut request = message(7);
    let mut client = Session::request(&key("transfer"), &mut request, NOW);
    let mut refused = message(7);
    failure(verify(&Keys::default(), &request, NOW)).answer(&mut refused, NOW);
    assert_eq!(client.verify(&mut refused, NOW), Err(SignatureError::Rejected(error::BADKEY)));

    // The next signature covers the unsigned messages before it.
    let mut server = session(verify(&keys(), &request, NOW));
    let mut first = message(7);
    server.sign(&mut first, NOW);
    client.verify(&mut first, NOW).unwrap();
    let between = message(8);
    client.verify(&mut between.clone(), NOW).unwrap();
    assert!(!client.is_complete());
    let mut last = message(9);
    let mac = server.key.mac(&[
        &server.prefix(),
        &between,
        &last,
        &Fields { time: NOW, fudge: 300, error: 0, other: &[] }.timers(),
    ]);
    let fields = Fields { time: NOW, fudge: 300, error: 0, other: &[] };
    append(&mut last, &server.key.name, &server.key.algorithm_name(), &fields, &mac, [0, 9]);
    client.verify(&mut last, NOW).unwrap();
    assert!(client.is_complete());
}
