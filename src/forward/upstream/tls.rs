//! TLS to servers: which authorities are trusted, and what is wrong with a certificate.

use super::pending::{Kind, Trouble};
use crate::{config::remedy::certificate, snapshot::routes::Target};
use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Protocols that TLS has names for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// DNS over TLS, which needs none.
    Dot,
    /// HTTP/2.
    Http2,
    /// DNS over QUIC (RFC 9250).
    Doq,
    /// Zone transfers over TLS, which need one where queries do not (RFC 9103, 7.1).
    Transfer,
}

/// What TLS needs. The authorities are read when somebody is asked by TLS for the first time.
#[derive(Default)]
pub struct Tls {
    /// Authorities beside those of the system: a file in PEM.
    authorities: Option<PathBuf>,
    configs: OnceLock<Result<[Arc<ClientConfig>; 4], String>>,
}

impl Tls {
    /// Trusts the system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` say where they are) and those in a file.
    pub fn new(authorities: Option<PathBuf>) -> Tls {
        Tls { authorities, configs: OnceLock::new() }
    }

    /// The configuration for a protocol.
    pub fn config(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, Trouble> {
        match self.configs.get_or_init(|| self.read()) {
            Ok(configs) => Ok(configs[alpn as usize].clone()),
            Err(error) => Err(Trouble::new(Kind::Local, format!("cannot be asked by TLS: {error}"))),
        }
    }

    /// The configurations for all protocols.
    pub fn read(&self) -> Result<[Arc<ClientConfig>; 4], String> {
        let roots = roots(self.authorities.as_deref())?;
        let config = |alpn: &[u8]| {
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
            let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols.extend((!alpn.is_empty()).then(|| alpn.to_vec()));
            Ok::<_, String>(Arc::new(config))
        };
        Ok([config(b"")?, config(b"h2")?, config(b"doq")?, config(b"dot")?])
    }
}

/// The authorities of the system, and those in a PEM file. An error says which file cannot be read, and why.
pub fn roots(authorities: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    system.errors.iter().for_each(|error| tracing::warn!("a certificate authority cannot be read: {error}"));
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = authorities {
        let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| problem(&error))? {
            let certificate = certificate.map_err(|error| problem(&error))?;
            roots.add(certificate).map_err(|error| problem(&error))?;
        }
    }
    Ok(roots)
}

/// The name that a server's certificate has to be for.
pub fn server_name(target: &Target) -> Result<ServerName<'static>, Trouble> {
    match &target.server_name {
        None => Ok(ServerName::from(target.ip)),
        Some(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| Trouble::new(Kind::Unfit, "cannot be asked by TLS: its name is not one of a host")),
    }
}

/// What it means that TLS failed.
pub fn trouble(error: &io::Error) -> Trouble {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(error) => Trouble::new(Kind::Unfit, what_is_wrong(error)),
        None => Trouble::new(Kind::Network, "closes the connection when TLS begins"),
    }
}

fn what_is_wrong(error: &Error) -> String {
    use CertificateError::*;
    match error {
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => EXPIRED.into(),
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => NOT_YET.into(),
        Error::InvalidCertificate(UnknownIssuer) => UNKNOWN_ISSUER.into(),
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => WRONG_NAME.into(),
        error => match certificate(error) {
            Some((what, _)) => what.into(),
            None => format!("fails in TLS: {error}"),
        },
    }
}

/// The certificate was good once.
pub const EXPIRED: &str = "has a certificate that has expired";
/// It will be good.
pub const NOT_YET: &str = "has a certificate that is not valid yet";
/// It is of an authority that is not trusted.
pub const UNKNOWN_ISSUER: &str = "has a certificate of an unknown issuer";
/// It is that of somebody else.
pub const WRONG_NAME: &str = "has a certificate for another name";
