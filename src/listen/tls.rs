//! TLS: the configuration of listeners, and the handshake.

use super::{connections::ConnectionGuard, responder::Responder};
use crate::answer::Transport;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::{TLS12, TLS13},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The TLS configuration of a listener: its ALPN protocols, and only TLS 1.3 for QUIC (RFC 9001, 4.2). Early data is refused,
/// because an attacker can send it again.
pub fn config(transport: Transport, certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let is_quic = matches!(transport, Transport::Quic | Transport::H3);
    let versions = if is_quic { &[&TLS13][..] } else { &[&TLS13, &TLS12] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    let protocols: &[&[u8]] = match transport {
        Transport::Https => &[b"h2", b"http/1.1"],
        Transport::Quic => &[b"doq"],
        Transport::H3 => &[b"h3"],
        // Most DoT clients offer no ALPN protocol, which works as well.
        _ => &[b"dot"],
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Clients store the sessions, in tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Runs the handshake with a client. None if the handshake fails, or does not end in time.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    responder: &Responder,
    acceptor: &TlsAcceptor,
    stream: S,
    guard: &mut ConnectionGuard,
) -> Option<TlsStream<S>> {
    let accepted = tokio::select! {
        accepted = timeout(responder.core.connections.client_timeout, acceptor.accept(stream)) => accepted,
        () = guard.stopped() => return None,
    };
    let stream = accepted.ok().and_then(Result::ok);
    if stream.is_none() {
        count_failure(responder);
    }
    stream
}

/// Counts a failed handshake.
pub fn count_failure(responder: &Responder) {
    let transport = Transport::LABELS[responder.transport as usize].1;
    responder.core.counters.handshakes_failed.with_label_values(&[transport]).inc();
}
