//! What to do where a file or a socket of others may not be used, as errors say it.

use std::io;

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
