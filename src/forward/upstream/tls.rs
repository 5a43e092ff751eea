//! TLS with upstream servers: the trusted authorities, and the errors of certificates.

use super::pending::{AttemptError, AttemptErrorKind};
use crate::{config::remedy::explain_certificate_error, snapshot::routes::Target};
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

/// The uses of TLS, which differ in the application protocol (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// DNS over TLS: no application protocol.
    Dot,
    /// DNS over HTTPS: HTTP/2.
    Http2,
    /// DNS over QUIC (RFC 9250).
    Doq,
    /// Zone transfers over TLS, which need one (RFC 9103, section 7.1).
    Transfer,
}

/// The TLS configurations. The authorities are read when they are first needed.
#[derive(Default)]
pub struct Tls {
    /// A PEM file with authorities in addition to the system's.
    authorities: Option<PathBuf>,
    configs: OnceLock<Result<[Arc<ClientConfig>; 4], String>>,
}

impl Tls {
    /// Trusts the system's authorities (the environment variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name other ones) and those in a PEM file.
    pub fn new(authorities: Option<PathBuf>) -> Tls {
        Tls { authorities, configs: OnceLock::new() }
    }

    /// The configuration for a use. An error is local: the authorities cannot be read.
    pub fn config(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, AttemptError> {
        match self.configs.get_or_init(|| self.read()) {
            Ok(configs) => Ok(configs[alpn as usize].clone()),
            Err(error) => Err(AttemptError::new(AttemptErrorKind::Local, format!("cannot be asked by TLS: {error}"))),
        }
    }

    /// Reads the authorities, and makes the configurations for all uses.
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

/// The authorities of the system, and those in a PEM file.
///
/// # Errors
/// The file cannot be read: the message has its path and the reason.
pub fn roots(authorities: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    system.errors.iter().for_each(|error| tracing::warn!(%error, "certificate authority ignored"));
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

/// The name that a server's certificate must have: the target's name, else its address.
pub fn server_name(target: &Target) -> Result<ServerName<'static>, AttemptError> {
    match &target.server_name {
        None => Ok(ServerName::from(target.ip)),
        Some(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| {
            AttemptError::new(AttemptErrorKind::Misconfigured, "cannot be asked by TLS: its name is not a host name")
        }),
    }
}

/// The error of an attempt whose TLS handshake failed.
pub fn tls_error(error: &io::Error) -> AttemptError {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(error) => AttemptError::new(AttemptErrorKind::Misconfigured, handshake_error_text(error)),
        None => AttemptError::new(AttemptErrorKind::Unreachable, "closes the connection when TLS begins"),
    }
}

fn handshake_error_text(error: &Error) -> String {
    use CertificateError::*;
    match error {
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => EXPIRED.into(),
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => NOT_YET.into(),
        Error::InvalidCertificate(UnknownIssuer) => UNKNOWN_ISSUER.into(),
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => WRONG_NAME.into(),
        error => match explain_certificate_error(error) {
            Some((what, _)) => what.into(),
            None => format!("fails the TLS handshake: {error}"),
        },
    }
}

/// A predicate of a server: its certificate has expired.
pub const EXPIRED: &str = "has a certificate that has expired";
/// A predicate of a server: its certificate is not valid yet.
pub const NOT_YET: &str = "has a certificate that is not valid yet";
/// A predicate of a server: no trusted authority issued its certificate.
pub const UNKNOWN_ISSUER: &str = "has a certificate of an unknown issuer";
/// A predicate of a server: its certificate is for another name.
pub const WRONG_NAME: &str = "has a certificate for another name";

/// The time of expiry of a certificate, in seconds since 1970 (RFC 5280, 4.1). None if it is not an X.509 certificate.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, whole, _) = element(certificate)?;
    let (_, mut fields, _) = element(whole)?;
    if let (0xa0, _, rest) = element(fields)? {
        fields = rest; // the version
    }
    for _ in ["serial number", "signature", "issuer"] {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, validity) = element(validity)?;
    let (tag, time, _) = element(validity)?;
    let text = std::str::from_utf8(time).ok()?;
    let text = match tag {
        0x17 if text.get(..2)? < "50" => format!("20{text}"),
        0x17 => format!("19{text}"),
        _ => text.into(),
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(time).ok()?.as_second())
}

/// The first element of DER: its tag, its content, and the octets after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (length.into(), rest),
        0x81..=0x83 => {
            // the number of octets of the length
            let (length, rest) = rest.split_at_checked((length & 0x7f).into())?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
