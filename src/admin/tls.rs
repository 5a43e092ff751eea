//! The admin API over HTTPS, and the roles of clients that have certificates.

use super::access::{Certified, Role};
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

/// What shakes hands, and knows who has which role.
#[derive(Clone)]
pub struct Tls {
    /// Shakes hands.
    pub acceptor: TlsAcceptor,
    clients: Arc<config::ClientCertificates>,
}

impl Tls {
    /// HTTPS with this certificate. Clients may have one of the configuration's authority.
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

    /// Whether the authority of clients' certificates can be read, if there is one.
    pub fn check(config: &config::Admin) -> anyhow::Result<()> {
        let authority = config.tls.as_ref().and_then(|tls| tls.certificate_authority.as_deref());
        authority.map_or(Ok(()), |authority| verifier(authority).map(drop))
    }

    /// The role of a client, by the DNS names in its certificate, which was checked.
    pub fn role(&self, certificates: Option<&[CertificateDer]>) -> Option<Certified> {
        let certificate = webpki::EndEntityCert::try_from(certificates?.first()?).ok()?;
        let has = |names: &[String]| {
            certificate.valid_dns_names().any(|name| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        };
        let role =
            if has(&self.clients.write) { Some(Role::Write) } else { has(&self.clients.read).then_some(Role::Read) };
        role.map(Certified)
    }
}

fn verifier(authority: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let told = || format!("cannot read the authority {}: check `admin.tls.certificate_authority`", authority.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).with_context(told)? {
        roots.add(certificate.with_context(told)?).with_context(told)?;
    }
    if roots.is_empty() {
        bail!("there is no certificate in {}", authority.display());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    // Those without a certificate may have a token, or ask for what is for all.
    builder.allow_unauthenticated().build().with_context(told)
}
