//! TLS: what servers offer, and the handshake.

use super::{connections::Place, responder::Responder};
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

/// What a listener of this transport offers: its ALPN protocols, and for QUIC TLS 1.3 alone (RFC 9001, 4.2). Data before
/// the end of a handshake is not taken, as it could be sent again by anybody.
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
        // Clients of DoT mostly name none, which is as good.
        _ => &[b"dot"],
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Sessions are kept by the clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Shakes hands with a client; none if it does not do so in time, or cannot.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    responder: &Responder,
    acceptor: &TlsAcceptor,
    stream: S,
    place: &mut Place,
) -> Option<TlsStream<S>> {
    let accepted = tokio::select! {
        accepted = timeout(responder.core.connections.patience, acceptor.accept(stream)) => accepted,
        () = place.stopped() => return None,
    };
    let stream = accepted.ok().and_then(Result::ok);
    if stream.is_none() {
        failed(responder);
    }
    stream
}

/// Counts a handshake that came to nothing.
pub fn failed(responder: &Responder) {
    let transport = Transport::LABELS[responder.transport as usize].1;
    responder.core.counters.handshakes_failed.with_label_values(&[transport]).inc();
}
