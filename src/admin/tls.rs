//! The admin API over HTTPS, and the roles of clients that have certificates.

use super::access::{CertificateRole, Role};
use crate::config;
use anyhow::{Context, bail};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
    server::{NoClientAuth, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// The TLS handshake, and the roles of client certificates.
#[derive(Clone)]
pub struct Tls {
    /// The acceptor of connections.
    pub acceptor: TlsAcceptor,
    clients: Arc<config::ClientCertificates>,
}

impl Tls {
    /// HTTPS with this certificate. Clients may have a certificate of the configured authority.
    pub fn new(config: &config::Admin, certificate: Arc<dyn ResolvesServerCert>) -> anyhow::Result<Tls> {
        let authority = config.tls.as_ref().and_then(|tls| tls.certificate_authority.as_deref());
        let verifier = match authority {
            Some(authority) => verifier(authority)?,
            None => Arc::new(NoClientAuth),
        };
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { acceptor: Arc::new(tls).into(), clients: Arc::new(config.client_certificates.clone()) })
    }

    /// Checks the file of the authority of client certificates, if one is configured.
    pub fn check(config: &config::Admin) -> anyhow::Result<()> {
        let authority = config.tls.as_ref().and_then(|tls| tls.certificate_authority.as_deref());
        authority.map_or(Ok(()), |authority| verifier(authority).map(drop))
    }

    /// The role of a client, by the DNS names in its verified certificate.
    pub fn role(&self, certificates: Option<&[CertificateDer]>) -> Option<CertificateRole> {
        let certificate = webpki::EndEntityCert::try_from(certificates?.first()?).ok()?;
        let has = |names: &[String]| {
            certificate.valid_dns_names().any(|name| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        };
        let role =
            if has(&self.clients.write) { Some(Role::Write) } else { has(&self.clients.read).then_some(Role::Read) };
        role.map(CertificateRole)
    }
}

fn verifier(authority: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let message = || format!("certificate authority {}: cannot be read", authority.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).with_context(message)? {
        roots.add(certificate.with_context(message)?).with_context(message)?;
    }
    if roots.is_empty() {
        bail!("certificate authority {}: the file has no certificate", authority.display());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    // A client without a certificate may have a token, or request a path that needs no authorisation.
    builder.allow_unauthenticated().build().with_context(message)
}
