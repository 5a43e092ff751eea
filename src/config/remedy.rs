//! Remedies: what an operator can do about an error of a file, a socket or a connection.

use rustls::CertificateError;
use std::{error::Error, io};

/// Adds the remedy to the error of reading a file, if permission was denied.
pub fn explain_read_error(error: io::Error) -> io::Error {
    with_remedy(
        error,
        "pass the file with `LoadCredential=` in the systemd unit, or let a group read it and name the group in `SupplementaryGroups=`",
    )
}

/// Adds the remedy to the error of connecting to a Unix socket, if permission was denied.
pub fn explain_connect_error(error: io::Error) -> io::Error {
    with_remedy(error, "name the group that may write to the socket in `SupplementaryGroups=` of the systemd unit")
}

/// The reason why a server cannot be reached, and the remedy. None if the error has no known
/// remedy. `error` is the outermost error of its chain of sources.
pub fn explain_unreachable(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return explain_certificate_error(error).map(|(what, remedy)| format!("the server {what}; {remedy}"));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return explain_certificate_error(inner).map(|(what, remedy)| format!("the server {what}; {remedy}"));
            }
            let (what, remedy) = match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    ("the connection is refused", "start the server, or correct its address and port")
                }
                io::ErrorKind::TimedOut => {
                    ("the connection times out", "look for a firewall or a missing route between the two machines")
                }
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ("there is no route to the address", "look at `ip route`")
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                    ("the server closes the connection", "check that both sides use TLS, or neither does")
                }
                _ if error.to_string().contains("lookup") => {
                    ("the server's name has no address", "correct the name, or write the address")
                }
                _ => {
                    next = error.source().or(error.get_ref().map(|inner| inner as _));
                    continue;
                }
            };
            return Some(format!("{what}; {remedy}"));
        }
        next = error.source();
    }
    None
}

/// The error of a server's certificate as a predicate of the server, and the remedy. None if the
/// error has no known remedy.
pub fn explain_certificate_error(error: &rustls::Error) -> Option<(&'static str, &'static str)> {
    use CertificateError::*;
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        Expired | ExpiredContext { .. } => ("has a certificate that has expired", "renew it"),
        NotValidYet | NotValidYetContext { .. } => {
            ("has a certificate that is not valid yet", "correct the clocks of both machines")
        }
        UnknownIssuer => (
            "has a certificate of an unknown issuer",
            "set `certificate_authority` to the file with the authority's certificate",
        ),
        NotValidForName | NotValidForNameContext { .. } => {
            ("has a certificate for another name", "use the name that the certificate has")
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            ("has a certificate that is not for servers", "issue one with the extended key usage serverAuth")
        }
        Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => (
                "has the certificate of an authority instead of its own",
                "issue one with the basic constraint CA:FALSE",
            ),
            _ => return None,
        },
        _ => return None,
    })
}

fn with_remedy(error: io::Error, remedy: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), format!("{error}: {remedy}")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_why_a_server_cannot_be_reached() {
        let other = rustls::OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity));
        for (error, expected) in [
            (io::ErrorKind::ConnectionRefused.into(), "the connection is refused; start the server"),
            (io::ErrorKind::TimedOut.into(), "the connection times out; look for a firewall"),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Other(other))),
                "the server has the certificate of an authority instead of its own; issue one with",
            ),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
                "the server has a certificate of an unknown issuer; set `certificate_authority`",
            ),
        ] {
            let text = explain_unreachable(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert!(text.starts_with(expected), "{text}");
        }
        assert_eq!(explain_unreachable(&io::Error::other("x")), None);
    }

    #[test]
    fn only_denied_permission_has_a_remedy() {
        let error = |number| explain_read_error(io::Error::from_raw_os_error(number)).to_string();
        assert!(
            error(libc::EACCES).contains("denied (os error 13): pass the file with `LoadCredential="),
            "{}",
            error(13)
        );
        assert!(!error(libc::ENOENT).contains("unit"), "{}", error(libc::ENOENT));
    }
}
