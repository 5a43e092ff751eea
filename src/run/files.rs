//! What the configuration names on this machine, files and addresses: looked at before anything is served, all of it.

use super::{certificates, node};
use crate::{
    admin,
    clock::now,
    config::{Config, Etcd, InternetResolver, Tls},
    control_plane::etcd,
    forward::{recursion, upstream},
    manifest::{Problem, Severity},
    transfer::tsig::Keys,
};
use anyhow::{Context, bail};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    io::ErrorKind::AddrNotAvailable,
    net::{IpAddr, UdpSocket},
    os::unix::net::SocketAddr as UnixAddress,
    path::Path,
};
use webpki::KeyUsage;

/// What cannot be used, by those who use it.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut told = |field: &str, error: anyhow::Error| problems.push(config.error(field, format!("{error:#}")));
    for (at, listen) in config.listen.iter().flatten().enumerate() {
        let field = format!("listen[{at}]");
        if let Some(error) = foreign(listen.address.ip()) {
            told(&format!("{field}.address"), error);
        }
        if let Some((file, error)) = listen.tls.as_ref().and_then(pair) {
            told(&format!("{field}.tls.{file}"), error);
        }
    }
    if let Some(error) = foreign(config.admin.address.ip()) {
        told("admin.address", error);
    }
    if let Some((file, error)) = config.admin.tls.as_ref().and_then(pair) {
        told(&format!("admin.tls.{file}"), error);
    }
    if let Err(error) = admin::Tls::check(&config.admin) {
        told("admin.tls.certificate_authority", error);
    }
    if let Err(error) = admin::Access::new(&config.admin) {
        told("admin.tokens_file", error);
    }
    if let Some(etcd) = &config.control_plane.etcd {
        if let Err(error) = etcd::options(&Etcd { tls: None, ..etcd.clone() }) {
            told("control_plane.etcd.password_file", error);
        }
        let tls = etcd.tls.clone().map(|tls| Tls { certificate: None, private_key: None, ..tls });
        if let Err(error) = etcd::options(&Etcd { username: None, tls, ..etcd.clone() }) {
            told("control_plane.etcd.tls.certificate_authority", error);
        }
        if let Some((file, error)) = etcd.tls.as_ref().and_then(pair) {
            told(&format!("control_plane.etcd.tls.{file}"), error);
        }
    }
    if let Some(Err(error)) = config.cookie_secret_file.as_deref().map(node::read_configured_secrets) {
        told("cookie_secret_file", error);
    }
    if let Some(Err(error)) = config.certificate_authority.as_deref().map(authorities) {
        told("certificate_authority", error);
    }
    if let Some(Err(error)) = config.state_directory.as_deref().map(may_be_made) {
        told("state_directory", error);
    }
    if let Some(Err(error)) = config.takeover_socket.as_deref().map(may_be_bound) {
        told("takeover_socket", error);
    }
    for (name, key) in &config.tsig_keys {
        if let Err(error) = Keys::read(&[(name.clone(), key.clone())].into()) {
            let file = if key.secret_file.is_some() { "secret_file" } else { "secret" };
            told(&format!("tsig_keys.{name}.{file}"), error);
        }
    }
    if let InternetResolver::Recursive(recursion) = &config.internet_resolver {
        if let Some(Err(error)) = recursion.root_hints.as_deref().map(recursion::root_hints) {
            told("internet_resolver.root_hints", error);
        }
        if let Some(Err(error)) = recursion.trust_anchor.as_deref().map(recursion::trust_anchor) {
            told("internet_resolver.trust_anchor", error);
        }
    }
    problems.extend(check_certificates(config));
    problems
}

/// Warnings of certificates that can be used, and that others are likely to refuse.
fn check_certificates(config: &Config) -> Vec<Problem> {
    let listen = config.listen.iter().flatten().enumerate();
    let mut all: Vec<(String, &Tls, KeyUsage)> = listen
        .filter_map(|(at, listen)| Some((format!("listen[{at}].tls"), listen.tls.as_ref()?, KeyUsage::server_auth())))
        .collect();
    all.extend(config.admin.tls.as_ref().map(|tls| ("admin.tls".into(), tls, KeyUsage::server_auth())));
    let etcd = config.control_plane.etcd.as_ref().and_then(|etcd| etcd.tls.as_ref());
    all.extend(etcd.map(|tls| ("control_plane.etcd.tls".into(), tls, KeyUsage::client_auth())));
    let mut problems = Vec::new();
    for (field, tls, usage) in all {
        // What cannot be used is an error already.
        let Some(certificate) = tls.certificate.as_deref().filter(|_| pair(tls).is_none()) else { continue };
        for (message, help) in certificates::doubts(certificate, usage, now()) {
            let problem = config.error(&format!("{field}.certificate"), message).help(help);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        }
    }
    problems
}

/// Whether servers can be trusted because of a file.
pub fn authorities(file: &Path) -> anyhow::Result<()> {
    upstream::check_authorities(file)?;
    match CertificateDer::pem_file_iter(file)?.next() {
        Some(_) => Ok(()),
        None => bail!("there is no certificate in {}: no server can be asked by TLS because of it", file.display()),
    }
}

/// Whether a directory is there, or can be made as far as what is above it is a directory.
fn may_be_made(directory: &Path) -> anyhow::Result<()> {
    match directory.ancestors().find(|above| above.symlink_metadata().is_ok()) {
        Some(above) if !above.is_dir() => {
            bail!("{} cannot be made: {} is no directory", directory.display(), above.display())
        }
        _ => Ok(()),
    }
}

/// Whether a socket can have this path.
fn may_be_bound(path: &Path) -> anyhow::Result<()> {
    UnixAddress::from_pathname(path).with_context(|| format!("{} is no path for a socket", path.display()))?;
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) if !directory.is_dir() => bail!("there is no directory {}", directory.display()),
        _ => Ok(()),
    }
}

/// Which of a certificate and its key cannot be used, and why.
fn pair(tls: &Tls) -> Option<(&'static str, anyhow::Error)> {
    certificates::read(tls.certificate.as_deref()?, tls.private_key.as_deref()?).err()
}

/// What is wrong with an address that this machine does not have.
fn foreign(address: IpAddr) -> Option<anyhow::Error> {
    let error = UdpSocket::bind((address, 0)).err().filter(|error| error.kind() == AddrNotAvailable)?;
    Some(anyhow::Error::msg(format!(
        "this machine does not have the address ({error}): `ip address` shows those that it has"
    )))
}
