//! The access keys of AWS's API, in a file that zonal reads again when it changes.
//!
//! Verifying a signature needs the secret itself. So the file is for zonal's user alone, and its content is in no message.

use super::access::{Stamp, stamp};
use crate::{
    aws::{
        is_account,
        sigv4::{Key, Keys},
    },
    config::remedy::explain_read_error,
    wire::Name,
};
use anyhow::{Context, bail};
use ipnet::IpNet;
use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The maximum size of the file, in octets.
const MAX_OCTETS: u64 = 1 << 20;
/// The shortest secret, in characters. AWS's have 40.
const MIN_SECRET: usize = 16;
/// The directory of the files that systemd passes with `LoadCredential=`. A group may be able to read them.
const CREDENTIALS: &str = "/run/credentials";

/// The access keys of a file.
#[derive(Debug)]
pub struct AccessKeys {
    file: PathBuf,
    current: Mutex<(Stamp, Arc<Keys>)>,
}

impl AccessKeys {
    /// Reads the file. Fails if it cannot be read, has an error, or can be read by others.
    pub fn read(file: &Path) -> anyhow::Result<AccessKeys> {
        let stamp = stamp(file);
        Ok(AccessKeys { file: file.into(), current: Mutex::new((stamp, Arc::new(read(file)?))) })
    }

    /// The keys. Reads the file again if it has changed. If it cannot be read, the keys from before stay valid.
    pub fn current(&self) -> Arc<Keys> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.file);
        if stamp != current.0 {
            current.0 = stamp;
            match read(&self.file) {
                Ok(keys) => current.1 = Arc::new(keys),
                Err(error) => tracing::error!(error = format!("{error:#}"), "access keys not reloaded"),
            }
        }
        current.1.clone()
    }
}

fn read(file: &Path) -> anyhow::Result<Keys> {
    let message = || format!("access keys {}: cannot be read", file.display());
    let mut opened = File::open(file).map_err(explain_read_error).with_context(message)?;
    let data = opened.metadata().with_context(message)?;
    let others = if file.starts_with(CREDENTIALS) { 0o037 } else { 0o077 };
    if data.mode() & others != 0 {
        bail!(
            "access keys {}: other users can read or change the file (mode {:04o}); run `chmod 600 {0}`",
            file.display(),
            data.mode() & 0o7777
        );
    }
    let mut text = String::new();
    opened.by_ref().take(MAX_OCTETS + 1).read_to_string(&mut text).with_context(message)?;
    if text.len() as u64 > MAX_OCTETS {
        bail!("access keys {}: the file is larger than 1 MiB", file.display());
    }
    let keys = parse(&text, file);
    // The compiler may not leave out the stores.
    let mut octets = text.into_bytes();
    octets.fill(0);
    std::hint::black_box(&octets);
    keys
}

fn parse(text: &str, file: &Path) -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = at + 1;
        let Some((id, key)) = key(line) else {
            bail!(
                "{}:{at}: expected a role, an access key, a secret of at least {MIN_SECRET} characters, an account of 12 \
                 digits, and possibly `networks=` with CIDR blocks and `domains=` with domain names, with blanks between them, \
                 as `zonal key new` prints them",
                file.display()
            );
        };
        if !keys.add(id, key) {
            bail!("{}:{at}: the access key is in the file twice", file.display());
        }
    }
    Ok(keys)
}

fn key(line: &str) -> Option<(&str, Key)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [role, id, secret, account, members @ ..] = &words[..] else { return None };
    let (mut networks, mut domains) = (None, None);
    for member in members {
        let (name, values) = member.split_once('=')?;
        let values = values.split(',');
        match name {
            "networks" if networks.is_none() => networks = Some(values.map(block).collect::<Option<Vec<IpNet>>>()?),
            "domains" if domains.is_none() => domains = Some(values.map(domain).collect::<Option<Vec<Name>>>()?),
            _ => return None,
        }
    }
    let may_write = match *role {
        "read" => false,
        "write" => true,
        _ => return None,
    };
    let is_id = id.len() <= 128 && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    (is_id && is_account(account) && secret.len() >= MIN_SECRET).then(|| {
        let mut key = Key::new(account, may_write, secret);
        (key.networks, key.domains) = (networks, domains.unwrap_or_default());
        (*id, key)
    })
}

/// A block without host bits.
fn block(text: &str) -> Option<IpNet> {
    text.parse().ok().filter(|block: &IpNet| block.trunc() == *block)
}

fn domain(text: &str) -> Option<Name> {
    Some(text).filter(|text| !text.is_empty()).and_then(|text| Name::absolute(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG";

    fn write(name: &str, text: &str, mode: u32) -> PathBuf {
        let file = std::env::temp_dir().join(format!("zonal-keys-{name}-{}", std::process::id()));
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn reads_keys_and_follows_the_file() {
        let file = write("follow", &format!("# who\n\nread AKIA1 {SECRET} 111122223333\n"), 0o600);
        let keys = AccessKeys::read(&file).unwrap();
        assert_eq!(keys.current().len(), 1);
        fs::write(&file, format!("read AKIA1 {SECRET} 111122223333\n write\tAKIA2 {SECRET} 444455556666 \n")).unwrap();
        assert_eq!(keys.current().len(), 2);
        // A file with an error is not used, and neither is one that others can read.
        fs::write(&file, "read AKIA1\n").unwrap();
        assert_eq!(keys.current().len(), 2);
        fs::write(&file, "").unwrap();
        assert!(keys.current().is_empty());
        fs::write(&file, format!("read AKIA1 {SECRET} 111122223333\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(keys.current().is_empty());
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn refuses_files_that_others_can_read() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o666] {
            let file = write("mode", "", mode);
            let error = format!("{:#}", AccessKeys::read(&file).unwrap_err());
            assert!(error.contains(&format!("(mode {mode:04o}); run `chmod 600")), "{error}");
            fs::remove_file(file).unwrap();
        }
        for mode in [0o600, 0o400] {
            let file = write("mode", "", mode);
            assert!(AccessKeys::read(&file).is_ok());
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn errors_name_the_line_and_not_the_secret() {
        for line in [
            format!("admin AKIA1 {SECRET} 111122223333"),
            format!("read AKIA1 {SECRET}"),
            format!("read AKIA1 {SECRET} 1111"),
            format!("read AK/A1 {SECRET} 111122223333"),
            format!("read AKIA1 {SECRET} 111122223333 more"),
            format!("read AKIA1 {SECRET} 111122223333 networks="),
            format!("read AKIA1 {SECRET} 111122223333 networks=10.1.0.0/16,10.2.0.1/16"),
            format!("read AKIA1 {SECRET} 111122223333 networks=10.1.0.0/16 more"),
            format!("read AKIA1 {SECRET} 111122223333 networks=10.1.0.0/16 networks=10.2.0.0/16"),
            format!("read AKIA1 {SECRET} 111122223333 domains="),
            format!("read AKIA1 {SECRET} 111122223333 domains=a..example"),
            "read AKIA1 short 111122223333".into(),
            format!("read AKIA0 {SECRET} 111122223333"),
        ] {
            let file = write("line", &format!("read AKIA0 {SECRET} 111122223333\n{line}\n"), 0o600);
            let error = format!("{:#}", AccessKeys::read(&file).unwrap_err());
            assert!(error.contains(":2: "), "{line}: {error}");
            assert!(!error.contains(SECRET) && !error.contains("short"), "{error}");
            fs::remove_file(file).unwrap();
        }
        let file = write("debug", &format!("read AKIA0 {SECRET} 111122223333\n"), 0o600);
        let debug = format!("{:?}", AccessKeys::read(&file).unwrap());
        assert!(debug.contains("111122223333") && !debug.contains(SECRET), "{debug}");
        fs::remove_file(file).unwrap();
    }
}
