//! The node: its name (NSID), the secrets of its DNS cookies, and other facts in answers that do not come from the manifest.

use crate::{
    config::{Config, remedy::explain_read_error},
    snapshot::{Node, routes::Route},
};
use anyhow::{Context, bail};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file in the state directory with a random secret of an earlier run.
const SECRET_FILE: &str = "cookie.secret";

/// The maximum size of a file with secrets, in octets.
const MAX_OCTETS: u64 = 1024;

/// Builds the node from the configuration. Reads the cookie secrets, or makes one.
pub fn node(config: &Config, internet: Option<Arc<Route>>) -> anyhow::Result<Node> {
    let cookie_secrets = match (&config.cookie_secret_file, &config.state_directory) {
        (Some(file), _) => read_configured_secrets(file)?,
        (None, Some(directory)) => saved_secret(directory)?,
        (None, None) => vec![random_secret()?],
    };
    let nsid = config.nsid.clone().or_else(host_name).unwrap_or_default().into_bytes().into();
    let started = crate::clock::now() as u32;
    let query_logs = Some(config.query_log.allowed());
    let health_allow = config.health.allow.clone();
    let is_validation_off = config.internet_resolver.is_validation_off();
    let tcp_keepalive = keepalive(config);
    let sends_firewall_events = config.firewall.events.is_some();
    let loads_firewall_lists = true;
    Ok(Node {
        nsid,
        cookie_secrets,
        tcp_keepalive,
        started,
        internet,
        is_validation_off,
        query_logs,
        sends_firewall_events,
        loads_firewall_lists,
        health_allow,
    })
}

/// The idle time-out that answers by TCP tell clients, in units of 100 milliseconds (RFC 7828).
fn keepalive(config: &Config) -> u16 {
    config.limits.tcp_idle_timeout_seconds.saturating_mul(10).try_into().unwrap_or(u16::MAX)
}

fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let names = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    names.map(|name| name.trim().to_string()).find(|name| !name.is_empty())
}

/// Reads `cookie_secret_file`.
pub(super) fn read_configured_secrets(file: &Path) -> anyhow::Result<Vec<[u8; 16]>> {
    read_secrets(file)
}

/// Reads one or two secrets, one a line, each of 32 hexadecimal digits. The first one signs; both verify.
fn read_secrets(file: &Path) -> anyhow::Result<Vec<[u8; 16]>> {
    let mut text = String::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_OCTETS).read_to_string(&mut text))
        .map_err(explain_read_error)
        .with_context(|| format!("cookie secrets {}: cannot be read", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Option<Vec<_>> = lines.map(secret).collect();
    match secrets {
        Some(secrets) if (text.len() as u64) < MAX_OCTETS && (1..=2).contains(&secrets.len()) => Ok(secrets),
        _ => bail!(
            "cookie secrets {}: expected one or two secrets, one a line, each of 32 hexadecimal digits, as from `openssl rand -hex 16`",
            file.display()
        ),
    }
}

fn secret(line: &str) -> Option<[u8; 16]> {
    if line.len() != 32 || !line.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(line, 16).ok().map(u128::to_be_bytes)
}

/// Reads the secret in the state directory, or makes one and saves it there.
fn saved_secret(directory: &Path) -> anyhow::Result<Vec<[u8; 16]>> {
    let file = directory.join(SECRET_FILE);
    if file.exists() {
        match read_secrets(&file) {
            Ok(secrets) => return Ok(secrets),
            // A file that can be read is damaged. A file that cannot be read may be sound: it stays.
            Err(error) if fs::read(&file).is_ok() => set_aside(&file, &error)?,
            Err(error) => return Err(error),
        }
    }
    let secret = random_secret()?;
    write_secret(&file, secret).with_context(|| {
        format!(
            "state_directory: cannot save the cookie secret in {}; make the directory writable for this user",
            file.display()
        )
    })?;
    Ok(vec![secret])
}

/// Renames a damaged file.
fn set_aside(file: &Path, error: &anyhow::Error) -> anyhow::Result<()> {
    let aside = file.with_extension("secret.damaged");
    fs::rename(file, &aside).with_context(|| {
        format!(
            "state_directory: {} is damaged and cannot be renamed; make the directory writable for this user",
            file.display()
        )
    })?;
    tracing::error!(error = format!("{error:#}"), moved_to = %aside.display(), "cookie secret replaced");
    Ok(())
}

/// Writes the file completely or not at all. Only its owner may read it.
fn write_secret(file: &PathBuf, secret: [u8; 16]) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let draft = file.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(out, "{:032x}", u128::from_be_bytes(secret))?;
    out.sync_all()?;
    fs::rename(draft, file)
}

fn random_secret() -> anyhow::Result<[u8; 16]> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).context("cookie secret: the system gives no random numbers")?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn reads_and_saves_cookie_secrets() {
        let directory = std::env::temp_dir().join(format!("zonal-node-{}", std::process::id()));
        let made = saved_secret(&directory).unwrap();
        assert_eq!(saved_secret(&directory).unwrap(), made);
        let file = directory.join(SECRET_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let one = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        let cases = [
            (one.to_string(), Some(1)),
            (format!("{one}\n\n {}\n", one.to_uppercase()), Some(2)),
            (format!("{one}\n{one}\n{one}\n"), None),
            (String::new(), None),
            (format!("{one}{}", "\n".repeat(1024)), None),
            (one[1..].to_string(), None),
            (format!("+{}", &one[1..]), None),
        ];
        for (text, expected) in cases {
            fs::write(&file, &text).unwrap();
            let secrets = read_secrets(&file).ok();
            assert_eq!(secrets.as_ref().map(Vec::len), expected, "{text}");
            assert!(secrets.is_none_or(|secrets| secrets[0][..2] == [0xe5, 0xe9]), "{text}");
        }
        // A damaged file is replaced.
        for damaged in [&b""[..], b"e5e973e5", b"\0\xff\x02"] {
            fs::write(&file, damaged).unwrap();
            let made = saved_secret(&directory).unwrap();
            assert_eq!(saved_secret(&directory).unwrap(), made, "{damaged:?}");
            assert_eq!(fs::read(directory.join("cookie.secret.damaged")).unwrap(), damaged);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
