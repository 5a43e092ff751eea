//! Checks of the files and addresses that `zonal.yaml` names, for `zonal check` and before a start.

use super::{certificates, node};
use crate::{
    admin,
    clock::now,
    config::{self, Config, Etcd, InternetResolver, Tls},
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

/// Errors and warnings about all files and addresses of the configuration.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |field: &str, error: anyhow::Error| problems.push(config.error(field, format!("{error:#}")));
    for (at, listen) in config.listen.iter().flatten().enumerate() {
        let field = format!("listen[{at}]");
        if let Some(error) = missing_address(listen.address.ip()) {
            report(&format!("{field}.address"), error);
        }
        if let Some((file, error)) = listen.tls.as_ref().and_then(check_pair) {
            report(&format!("{field}.tls.{file}"), error);
        }
    }
    if let Some(error) = missing_address(config.admin.address.ip()) {
        report("admin.address", error);
    }
    if let Some((file, error)) = config.admin.tls.as_ref().and_then(check_pair) {
        report(&format!("admin.tls.{file}"), error);
    }
    if let Err(error) = admin::Tls::check(&config.admin) {
        report("admin.tls.certificate_authority", error);
    }
    if let Err(error) = admin::Access::new(&config::Admin { access_keys_file: None, ..config.admin.clone() }) {
        report("admin.tokens_file", error);
    }
    if let Some(Err(error)) = config.admin.access_keys_file.as_deref().map(admin::AccessKeys::read) {
        report("admin.access_keys_file", error);
    }
    if let Some(etcd) = &config.control_plane.etcd {
        if let Err(error) = etcd::options(&Etcd { tls: None, ..etcd.clone() }) {
            report("control_plane.etcd.password_file", error);
        }
        let tls = etcd.tls.clone().map(|tls| Tls { certificate: None, private_key: None, ..tls });
        if let Err(error) = etcd::options(&Etcd { username: None, tls, ..etcd.clone() }) {
            report("control_plane.etcd.tls.certificate_authority", error);
        }
        if let Some((file, error)) = etcd.tls.as_ref().and_then(check_pair) {
            report(&format!("control_plane.etcd.tls.{file}"), error);
        }
    }
    if let Some(Err(error)) = config.cookie_secret_file.as_deref().map(node::read_configured_secrets) {
        report("cookie_secret_file", error);
    }
    if let Some(Err(error)) = config.certificate_authority.as_deref().map(authorities) {
        report("certificate_authority", error);
    }
    if let Some(Err(error)) = config.state_directory.as_deref().map(check_creatable) {
        report("state_directory", error);
    }
    if let Some(Err(error)) = config.takeover_socket.as_deref().map(check_socket_path) {
        report("takeover_socket", error);
    }
    for (name, key) in &config.tsig_keys {
        if let Err(error) = Keys::read(&[(name.clone(), key.clone())].into()) {
            let file = if key.secret_file.is_some() { "secret_file" } else { "secret" };
            report(&format!("tsig_keys.{name}.{file}"), error);
        }
    }
    if let InternetResolver::Recursive(recursion) = &config.internet_resolver {
        if let Some(Err(error)) = recursion.root_hints.as_deref().map(recursion::root_hints) {
            report("internet_resolver.root_hints", error);
        }
        if let Some(Err(error)) = recursion.trust_anchor.as_deref().map(recursion::trust_anchor) {
            report("internet_resolver.trust_anchor", error);
        }
    }
    problems.extend(check_certificates(config));
    problems
}

/// Warnings about certificates that can be used but that the other side is likely to refuse.
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
        // A certificate that cannot be used is an error already.
        let Some(certificate) = tls.certificate.as_deref().filter(|_| check_pair(tls).is_none()) else { continue };
        for (message, help) in certificates::warnings(certificate, usage, now()) {
            let problem = config.error(&format!("{field}.certificate"), message).help(help);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        }
    }
    problems
}

/// Checks a file of certificate authorities.
pub fn authorities(file: &Path) -> anyhow::Result<()> {
    upstream::check_authorities(file)?;
    match CertificateDer::pem_file_iter(file)?.next() {
        Some(_) => Ok(()),
        None => bail!("{}: the file has no certificate; zonal cannot query upstream servers by TLS", file.display()),
    }
}

/// Checks that a directory exists or can be created: its first existing ancestor must be a directory.
fn check_creatable(directory: &Path) -> anyhow::Result<()> {
    match directory.ancestors().find(|above| above.symlink_metadata().is_ok()) {
        Some(above) if !above.is_dir() => {
            bail!("{}: cannot be created, because {} is not a directory", directory.display(), above.display())
        }
        _ => Ok(()),
    }
}

/// Checks that a Unix socket can have this path.
fn check_socket_path(path: &Path) -> anyhow::Result<()> {
    UnixAddress::from_pathname(path).with_context(|| format!("{}: not a valid path of a socket", path.display()))?;
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) if !directory.is_dir() => {
            bail!("{}: the directory {} does not exist", path.display(), directory.display())
        }
        _ => Ok(()),
    }
}

/// Checks a certificate and its private key. Returns the field with an error, and the error.
fn check_pair(tls: &Tls) -> Option<(&'static str, anyhow::Error)> {
    certificates::read(tls.certificate.as_deref()?, tls.private_key.as_deref()?).err()
}

/// The error for an address that this machine does not have. None if it has the address.
fn missing_address(address: IpAddr) -> Option<anyhow::Error> {
    let error = UdpSocket::bind((address, 0)).err().filter(|error| error.kind() == AddrNotAvailable)?;
    Some(anyhow::Error::msg(format!(
        "this machine does not have the address ({error}); `ip address` shows its addresses"
    )))
}
