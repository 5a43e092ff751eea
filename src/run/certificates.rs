//! Certificates and private keys of listeners. They are read at the start, and again when their files change.

use crate::{
    clock::now,
    config::{Tls, remedy::explain_read_error},
    forward::upstream::tls::not_after,
    instruments::{gauges, register},
};
use anyhow::{Context, ensure};
use prometheus::{IntGaugeVec, Registry};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};
use webpki::{EndEntityCert, KeyUsage};

/// The interval between looks at the files. File notifications would miss some ways to replace symbolic links.
const POLL: Duration = Duration::from_secs(1);
/// The maximum size of a file, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// A certificate in use, with its private key.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    private_key: PathBuf,
    current: RwLock<Loaded>,
    stamps: Mutex<Stamps>,
}

#[derive(Clone, Debug)]
pub(super) struct Loaded {
    key: Arc<CertifiedKey>,
    /// The time of expiry, in seconds since 1970.
    expiry: i64,
}

/// The state of the two files.
#[derive(Clone, Copy, Debug)]
struct Stamps {
    /// At the last read.
    at_read: Stamp,
    /// At the last look.
    at_look: Stamp,
}

/// Device, inode, size, and times of change of the certificate file and the key file. None for a file that cannot be read.
/// A changed file has another stamp.
type Stamp = [Option<(u64, u64, u64, i64, i64, i64)>; 2];

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

impl Certificate {
    fn load(certificate: &Path, private_key: &Path) -> anyhow::Result<Certificate> {
        let stamp = stamp(certificate, private_key);
        let loaded = read(certificate, private_key).map_err(|(_, error)| error)?;
        if loaded.expiry <= now() {
            tracing::warn!(file = %certificate.display(), "certificate expired");
        }
        Ok(Certificate {
            certificate: certificate.into(),
            private_key: private_key.into(),
            current: RwLock::new(loaded),
            stamps: Mutex::new(Stamps { at_read: stamp, at_look: stamp }),
        })
    }

    /// Reads the files again if they have changed since the last read, and not since the last look: one file may be written
    /// after the other. With `at_once`, reads them in any case.
    fn follow(&self, at_once: bool, counters: &Counters) {
        let stamp = stamp(&self.certificate, &self.private_key);
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = stamp == stamps.at_look;
        stamps.at_look = stamp;
        if !at_once && (stamp == stamps.at_read || !is_settled) {
            return;
        }
        stamps.at_read = stamp;
        let loaded = read(&self.certificate, &self.private_key).map_err(|(_, error)| error).and_then(|loaded| {
            let is_better = loaded.expiry > now() || loaded.expiry >= self.expiry();
            ensure!(
                is_better,
                "certificate {}: it has expired, and the one in use has not",
                self.certificate.display()
            );
            Ok(loaded)
        });
        match &loaded {
            Ok(_) if !at_once => tracing::info!(file = %self.certificate.display(), "certificate reloaded"),
            Ok(_) => {}
            Err(error) => tracing::error!(error = format!("{error:#}"), "certificate not reloaded"),
        }
        counters.failed.with_label_values(&[self.name()]).set(loaded.is_err().into());
        if let Ok(loaded) = loaded {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        self.record_expiry(counters);
    }

    fn record_expiry(&self, counters: &Counters) {
        counters.expiry.with_label_values(&[self.name()]).set(self.expiry());
    }

    fn expiry(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expiry
    }

    fn name(&self) -> &str {
        self.certificate.to_str().unwrap_or_default()
    }
}

fn stamp(certificate: &Path, private_key: &Path) -> Stamp {
    [certificate, private_key].map(|file| {
        let data = fs::metadata(file).ok()?;
        Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec(), data.ctime_nsec()))
    })
}

fn octets(file: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_OCTETS).read_to_end(&mut octets))
        .map_err(explain_read_error)
        .with_context(|| format!("{what} {}: cannot be read", file.display()))?;
    Ok(octets)
}

/// Reads a certificate and its private key. An error comes with the name of the field: `certificate` or `private_key`.
pub(super) fn read(certificate: &Path, private_key: &Path) -> Result<Loaded, (&'static str, anyhow::Error)> {
    let (chain, expiry) = read_chain(certificate).map_err(|error| ("certificate", error))?;
    let key = read_key(private_key).and_then(|key| {
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                anyhow::anyhow!("{} is not the private key of {}", private_key.display(), certificate.display())
            }
            error => anyhow::anyhow!("{} with {}: {error}", certificate.display(), private_key.display()),
        })
    });
    Ok(Loaded { key: Arc::new(key.map_err(|error| ("private_key", error))?), expiry })
}

/// The time before expiry from which on zonal warns about a certificate.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// Warnings about a certificate that can be used but that clients are likely to refuse: pairs of a message and its help.
/// `usage` is the purpose of the certificate, and `now` is in seconds since 1970.
pub(super) fn warnings(certificate: &Path, usage: KeyUsage, now: i64) -> Vec<(String, &'static str)> {
    const RENEW: &str = "renew it; zonal reads the files again when they change";
    let Ok((chain, expiry)) = read_chain(certificate) else { return Vec::new() };
    let Some(first) = chain.first() else { return Vec::new() };
    let name = certificate.display();
    let mut warnings = Vec::new();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0) as u64));
    let end = |expiry| jiff::Timestamp::from_second(expiry).map_or_else(|_| String::new(), |end| end.to_string());
    // No authority is trusted here, so that the first error is about the certificate itself.
    let verified = EndEntityCert::try_from(first).and_then(|first| {
        first.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], time, usage, None, None).map(drop)
    });
    match verified {
        Err(webpki::Error::CertExpired { .. }) => {
            warnings.push((format!("certificate {name}: expired at {}; clients refuse it", end(expiry)), RENEW));
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            let begin = end(not_before.as_secs() as i64);
            let message = format!("certificate {name}: not valid before {begin}; clients refuse it until then");
            warnings.push((message, "wait, or correct the clock of this machine or of the authority"));
        }
        Err(webpki::Error::CaUsedAsEndEntity) => {
            let message = format!(
                "certificate {name}: the first certificate in the file belongs to an authority; some clients refuse it"
            );
            let help = "put the server's own certificate first; it has the basic constraint CA:FALSE";
            warnings.push((message, help));
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension) => {
            let message = format!("certificate {name}: its extended key usage lacks this purpose");
            warnings.push((message, "issue it with serverAuth for a server, or with clientAuth for a client of etcd"));
        }
        _ => {}
    }
    if warnings.is_empty() && expiry < now + EXPIRY_WARNING.as_secs() as i64 {
        warnings.push((format!("certificate {name}: expires soon, at {}", end(expiry)), RENEW));
    }
    let others = chain.iter().skip(1).filter_map(|certificate| not_after(certificate));
    if let Some(expiry) = others.min().filter(|expiry| *expiry <= now) {
        let message = format!(
            "certificate {name}: the certificate of an authority in the file expired at {}; clients refuse it",
            end(expiry)
        );
        warnings.push((message, "put the current certificate of the authority there"));
    }
    warnings
}

fn read_chain(certificate: &Path) -> anyhow::Result<(Vec<CertificateDer<'static>>, i64)> {
    let text = octets(certificate, "certificate")?;
    let chain: Result<Vec<CertificateDer>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.with_context(|| format!("certificate {}: not valid PEM", certificate.display()))?;
    let first =
        chain.first().with_context(|| format!("certificate {}: the file has no certificate", certificate.display()))?;
    let expiry =
        not_after(first).with_context(|| format!("certificate {}: not an X.509 certificate", certificate.display()))?;
    Ok((chain, expiry))
}

fn read_key(private_key: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = octets(private_key, "private key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            anyhow::anyhow!("private key {}: the file has no private key", private_key.display())
        }
        error => anyhow::anyhow!("private key {}: not valid PEM: {error}", private_key.display()),
    })
}

/// All certificates of the server.
#[derive(Default)]
pub struct Certificates {
    all: Mutex<Vec<Arc<Certificate>>>,
    /// Notify this to read all files at once.
    pub reload: Notify,
    pub(super) counters: Counters,
}

/// The counters of the certificates.
pub(super) struct Counters {
    /// Times of expiry, by certificate file.
    pub expiry: IntGaugeVec,
    /// Whether the last read failed, by certificate file.
    pub failed: IntGaugeVec,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            expiry: gauges(
                "zonal_certificate_expiry_timestamp_seconds",
                "Time of expiry of the certificate in use, in seconds since 1970",
                "certificate",
                &[],
            ),
            failed: gauges(
                "zonal_certificate_reload_failed",
                "1 when the files of the certificate cannot be used, and the certificate from before stays in use",
                "certificate",
                &[],
            ),
        }
    }
}

impl Certificates {
    /// Registers the counters of certificates.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.counters.expiry.clone());
        register(registry, self.counters.failed.clone());
    }

    /// The certificate of a listener. Listeners with equal files share it.
    pub fn get(&self, tls: &Tls) -> anyhow::Result<Arc<Certificate>> {
        let (Some(certificate), Some(private_key)) = (&tls.certificate, &tls.private_key) else {
            anyhow::bail!("`tls` needs `certificate` and `private_key`");
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|known| known.certificate == *certificate && known.private_key == *private_key);
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let new = Arc::new(Certificate::load(certificate, private_key)?);
        self.counters.failed.with_label_values(&[new.name()]).set(0);
        new.record_expiry(&self.counters);
        all.push(new.clone());
        Ok(new)
    }

    /// Looks at the files at an interval, and reads changed ones. Never ends.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let at_once = tokio::select! {
                () = sleep(POLL) => false,
                () = self.reload.notified() => true,
            };
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let this = self.clone();
            let look = move || all.iter().for_each(|certificate| certificate.follow(at_once, &this.counters));
            // A remote file system may block.
            let _ = tokio::task::spawn_blocking(look).await;
        }
    }
}
