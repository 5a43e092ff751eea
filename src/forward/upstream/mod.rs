//! Those who are asked.

use crate::{
    answer::known::Question,
    snapshot::routes::{Route, Servers},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::UdpSocket, time::Instant, time::timeout_at};

/// What a server answered: a whole message, checked to be the answer to the question.
pub struct Response {
    /// The message.
    pub message: Vec<u8>,
    /// Who answered.
    pub from: SocketAddr,
}

/// Why nobody answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The INFO-CODE of the extended error (RFC 8914).
    pub code: u16,
    /// Its text.
    pub text: String,
}

/// Those who are asked, what is known of them, and the connections to them.
#[derive(Default)]
pub struct Upstreams {}

impl Upstreams {
    /// None is known yet.
    pub fn new() -> Arc<Upstreams> {
        Arc::default()
    }

    /// Asks the servers of a route.
    pub async fn ask(&self, route: &Route, question: &Question<'_>, deadline: Instant) -> Result<Response, Failure> {
        let Servers::Targets { targets, .. } = &route.servers else { unreachable!("recursion asks itself") };
        let failure = |text: &str| Failure { code: 22, text: text.into() };
        let from = SocketAddr::new(targets[0].ip, targets[0].port);
        let ask = async {
            let socket = UdpSocket::bind("0.0.0.0:0").await?;
            socket.connect(from).await?;
            let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            query.extend_from_slice(question.name.wire());
            query.extend_from_slice(&question.qtype.to_be_bytes());
            query.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, (question.dnssec_ok as u8) << 7, 0, 0, 0]);
            socket.send(&query).await?;
            let mut message = vec![0; 4096];
            let len = socket.recv(&mut message).await?;
            message.truncate(len);
            Ok::<_, std::io::Error>(Response { message, from })
        };
        match timeout_at(deadline, ask).await {
            Ok(response) => response.map_err(|error| failure(&error.to_string())),
            Err(_) => Err(failure("no answer in time")),
        }
    }
}
