//! Certificates and keys of listeners: read at the start, and again whenever their files change.

use crate::{
    clock::now,
    config::{Tls, remedy::explain_read_error},
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

/// How often it is looked whether files have changed: notifications do not tell of all ways in which links are swapped.
const POLL: Duration = Duration::from_secs(1);
/// The largest file that is read, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// A certificate with its key, as it is in use.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    private_key: PathBuf,
    current: RwLock<Loaded>,
    /// The files as they were when they were read last, and when they were looked at last.
    seen: Mutex<[Stamp; 2]>,
}

#[derive(Clone, Debug)]
pub(super) struct Loaded {
    key: Arc<CertifiedKey>,
    /// When it expires, in seconds since 1970.
    expiry: i64,
}

/// What changes when one of the two files does: device, inode, size, and times of change; none if it cannot be read.
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
            tracing::warn!("the certificate {} has expired: clients will not take it", certificate.display());
        }
        Ok(Certificate {
            certificate: certificate.into(),
            private_key: private_key.into(),
            current: RwLock::new(loaded),
            seen: Mutex::new([stamp; 2]),
        })
    }

    /// Reads the files if they have changed and rest now, as one may be written after the other; or if it has to be.
    fn follow(&self, at_once: bool, counters: &Counters) {
        let stamp = stamp(&self.certificate, &self.private_key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let [read_last, looked_at_last] = *seen;
        seen[1] = stamp;
        if !at_once && (stamp == read_last || stamp != looked_at_last) {
            return;
        }
        seen[0] = stamp;
        let loaded = read(&self.certificate, &self.private_key).map_err(|(_, error)| error).and_then(|loaded| {
            let is_better = loaded.expiry > now() || loaded.expiry >= self.expiry();
            ensure!(is_better, "the certificate {} has expired", self.certificate.display());
            Ok(loaded)
        });
        match &loaded {
            Ok(_) if !at_once => tracing::info!("the certificate {} is new", self.certificate.display()),
            Ok(_) => {}
            Err(error) => tracing::error!("{error:#}: the certificate from before stays in use"),
        }
        counters.failed.with_label_values(&[self.name()]).set(loaded.is_err().into());
        if let Ok(loaded) = loaded {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        self.tell(counters);
    }

    fn tell(&self, counters: &Counters) {
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

fn octets(file: &Path, what: &str, field: &str) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_OCTETS).read_to_end(&mut octets))
        .map_err(explain_read_error)
        .with_context(|| format!("cannot read the {what} {}: check `{field}`", file.display()))?;
    Ok(octets)
}

/// Reads a certificate and its key. An error comes with the field that it is about.
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

/// How long before its end a certificate is told of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What clients are likely not to like about a certificate that can be used, and what to do about it. `usage` is what it is
/// for, and `now` is in seconds since 1970.
pub(super) fn doubts(certificate: &Path, usage: KeyUsage, now: i64) -> Vec<(String, &'static str)> {
    const RENEW: &str = "renew it; the server reads the files anew when they change";
    let Ok((chain, expiry)) = read_chain(certificate) else { return Vec::new() };
    let Some(first) = chain.first() else { return Vec::new() };
    let name = certificate.display();
    let mut doubts = Vec::new();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0) as u64));
    let end = |expiry| jiff::Timestamp::from_second(expiry).map_or_else(|_| String::new(), |end| end.to_string());
    // Without any trusted authority, what is wrong with the certificate itself is found first.
    let verified = EndEntityCert::try_from(first).and_then(|first| {
        first.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], time, usage, None, None).map(drop)
    });
    match verified {
        Err(webpki::Error::CertExpired { .. }) => {
            doubts.push((format!("the certificate {name} has expired at {}: clients refuse it", end(expiry)), RENEW));
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            let begin = end(not_before.as_secs() as i64);
            let message = format!("the certificate {name} is not valid before {begin}: clients refuse it until then");
            doubts.push((message, "wait, or set the clock of this machine or of the authority right"));
        }
        Err(webpki::Error::CaUsedAsEndEntity) => {
            let message = format!("the first certificate in {name} is that of an authority: some clients refuse it");
            let help = "the server's own certificate comes first, and has the basic constraint CA:FALSE";
            doubts.push((message, help));
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension) => {
            let message = format!("the certificate {name} has an extended key usage without this purpose");
            doubts.push((message, "have it issued with serverAuth for a server, or clientAuth for a client of etcd"));
        }
        _ => {}
    }
    if doubts.is_empty() && expiry < now + SOON.as_secs() as i64 {
        doubts.push((format!("the certificate {name} expires soon, at {}", end(expiry)), RENEW));
    }
    let others = chain.iter().skip(1).filter_map(|certificate| not_after(certificate));
    if let Some(expiry) = others.min().filter(|expiry| *expiry <= now) {
        let message =
            format!("a certificate of an authority in {name} has expired at {}: clients refuse it", end(expiry));
        doubts.push((message, "put the authority's present certificate there"));
    }
    doubts
}

fn read_chain(certificate: &Path) -> anyhow::Result<(Vec<CertificateDer<'static>>, i64)> {
    let text = octets(certificate, "certificate", "tls.certificate")?;
    let chain: Result<Vec<CertificateDer>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.with_context(|| format!("the certificate {} is no good PEM", certificate.display()))?;
    let first = chain.first().with_context(|| format!("there is no certificate in {}", certificate.display()))?;
    let expiry = not_after(first).with_context(|| format!("{} is no certificate", certificate.display()))?;
    Ok((chain, expiry))
}

fn read_key(private_key: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = octets(private_key, "private key", "tls.private_key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => anyhow::anyhow!("there is no private key in {}", private_key.display()),
        error => anyhow::anyhow!("the private key {} is no good PEM: {error}", private_key.display()),
    })
}

/// When a certificate expires, in seconds since 1970 (RFC 5280, 4.1).
fn not_after(certificate: &[u8]) -> Option<i64> {
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

/// The first element of DER: its tag, its content, and what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (length.into(), rest),
        0x81..=0x83 => {
            // so many octets of length
            let (length, rest) = rest.split_at_checked((length & 0x7f).into())?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// All certificates of the server.
#[derive(Default)]
pub struct Certificates {
    all: Mutex<Vec<Arc<Certificate>>>,
    /// They are to be read at once.
    pub reload: Notify,
    pub(super) counters: Counters,
}

/// The counters of the certificates.
pub(super) struct Counters {
    /// When certificates expire, by their file.
    pub expiry: IntGaugeVec,
    /// Whether the last load of a certificate failed, by its file.
    pub failed: IntGaugeVec,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            expiry: gauges(
                "zonal_certificate_expiry_timestamp_seconds",
                "When the certificate that is in use expires, in seconds since 1970",
                "certificate",
                &[],
            ),
            failed: gauges(
                "zonal_certificate_reload_failed",
                "1 when the certificate's files have become bad, and the one before is in use",
                "certificate",
                &[],
            ),
        }
    }
}

impl Certificates {
    /// Registers their counters.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.counters.expiry.clone());
        register(registry, self.counters.failed.clone());
    }

    /// The certificate that a listener names, read if no other listener has it.
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
        new.tell(&self.counters);
        all.push(new.clone());
        Ok(new)
    }

    /// Follows the files for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let at_once = tokio::select! {
                () = sleep(POLL) => false,
                () = self.reload.notified() => true,
            };
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let this = self.clone();
            let look = move || all.iter().for_each(|certificate| certificate.follow(at_once, &this.counters));
            // Files may be far away.
            let _ = tokio::task::spawn_blocking(look).await;
        }
    }
}
