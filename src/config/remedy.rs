//! What to do where a file or a socket of others may not be used, as errors say it.

use rustls::CertificateError;
use std::{error::Error, io};

/// The error of a file that was to be read.
pub fn unreadable(error: io::Error) -> io::Error {
    told(
        error,
        "hand it over by `LoadCredential=` of the unit, or let a group read it, and name that in `SupplementaryGroups=`",
    )
}

/// The error of a Unix socket that was to be connected to.
pub fn unconnected(error: io::Error) -> io::Error {
    told(error, "name the group that may write to it in `SupplementaryGroups=` of the unit")
}

/// Why a server was not reached, and what to do; none if that is not known. `error` is the outermost one.
pub fn unreached(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return certificate(error).map(|(what, remedy)| format!("the server {what}; {remedy}"));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return certificate(inner).map(|(what, remedy)| format!("the server {what}; {remedy}"));
            }
            let (what, remedy) = match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    ("the connection is refused", "start the server, or name the address and port that it listens on")
                }
                io::ErrorKind::TimedOut => {
                    ("the connection times out", "look for a firewall or a missing route on the way")
                }
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ("there is no route to the address", "look at `ip route`")
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                    ("the server closes the connection", "is one side speaking TLS, and the other one not?")
                }
                _ if error.to_string().contains("lookup") => {
                    ("the server's name has no address", "correct the name, or name the address")
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

/// What is wrong with a server's certificate, and what to do; none if that is not known.
pub fn certificate(error: &rustls::Error) -> Option<(&'static str, &'static str)> {
    use CertificateError::*;
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        Expired | ExpiredContext { .. } => ("has a certificate that has expired", "renew it"),
        NotValidYet | NotValidYetContext { .. } => {
            ("has a certificate that is not valid yet", "set the clocks of both machines right")
        }
        UnknownIssuer => (
            "has a certificate of an unknown issuer",
            "name the file with the authority's certificate in `certificate_authority`",
        ),
        NotValidForName | NotValidForNameContext { .. } => {
            ("has a certificate for another name", "name the server as its certificate does")
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            ("has a certificate that is not for servers", "have it issued with the extended key usage serverAuth")
        }
        Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => (
                "has the certificate of an authority in place of its own",
                "have one issued with the basic constraint CA:FALSE",
            ),
            _ => return None,
        },
        _ => return None,
    })
}

fn told(error: io::Error, remedy: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), format!("{error}: {remedy}")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_a_server_is_not_reached() {
        let other = rustls::OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity));
        for (error, expected) in [
            (io::ErrorKind::ConnectionRefused.into(), "the connection is refused; start the server"),
            (io::ErrorKind::TimedOut.into(), "the connection times out; look for a firewall"),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Other(other))),
                "the server has the certificate of an authority in place of its own; have one issued with",
            ),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
                "the server has a certificate of an unknown issuer; name the file",
            ),
        ] {
            let told = unreached(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert!(told.starts_with(expected), "{told}");
        }
        assert_eq!(unreached(&io::Error::other("x")), None);
    }

    #[test]
    fn only_what_is_forbidden_has_a_remedy() {
        let error = |number| unreadable(io::Error::from_raw_os_error(number)).to_string();
        assert!(
            error(libc::EACCES).contains("denied (os error 13): hand it over by `LoadCredential="),
            "{}",
            error(13)
        );
        assert!(!error(libc::ENOENT).contains("unit"), "{}", error(libc::ENOENT));
    }
}
