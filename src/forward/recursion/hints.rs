//! The root servers and the trusted root keys: built in, or from files.

use super::validation::Anchors;
use anyhow::{Context, bail};
use hickory_server::proto::{
    dnssec::TrustAnchors,
    rr::Name,
    serialize::txt::{
        Parser,
        trust_anchor::{self, Entry},
    },
};
use std::{fs, net::IpAddr, path::Path};

/// The root servers in IANA's list since 2024.
const ROOT_SERVERS: [&str; 26] = [
    "198.41.0.4",
    "2001:503:ba3e::2:30",
    "170.247.170.2",
    "2801:1b8:10::b",
    "192.33.4.12",
    "2001:500:2::c",
    "199.7.91.13",
    "2001:500:2d::d",
    "192.203.230.10",
    "2001:500:a8::e",
    "192.5.5.241",
    "2001:500:2f::f",
    "192.112.36.4",
    "2001:500:12::d0d",
    "198.97.190.53",
    "2001:500:1::53",
    "192.36.148.17",
    "2001:7fe::53",
    "192.58.128.30",
    "2001:503:c27::2:30",
    "193.0.14.129",
    "2001:7fd::1",
    "199.7.83.42",
    "2001:500:9f::42",
    "202.12.27.33",
    "2001:dc3::35",
];

/// Returns the built-in root servers of the Internet.
pub fn root_servers() -> Vec<IpAddr> {
    ROOT_SERVERS.iter().filter_map(|address| address.parse().ok()).collect()
}

/// Reads the addresses from a root hints file.
///
/// # Errors
/// The file cannot be read or parsed, or has no addresses.
pub fn root_hints(file: &Path) -> anyhow::Result<Vec<IpAddr>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let parsed = Parser::new(text, None, Some(Name::root())).parse();
    let (_, sets) = parsed.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let records = sets.values().flat_map(|set| set.records_without_rrsigs());
    let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
    if addresses.is_empty() {
        bail!("{} has no addresses of root servers", file.display());
    }
    Ok(addresses)
}

/// Returns the built-in root keys of the Internet.
pub fn root_keys() -> Anchors {
    let keys = TrustAnchors::default();
    vec![(Name::root(), (0..keys.len()).filter_map(|at| keys.get(at).cloned()).collect())]
}

/// Reads the trusted keys from a file of DNSKEY records.
///
/// # Errors
/// The file cannot be read or parsed, or has no DNSKEY records.
pub fn trust_anchor(file: &Path) -> anyhow::Result<Anchors> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let parsed = trust_anchor::Parser::new(text).parse();
    let entries = parsed.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let mut anchors = Anchors::new();
    for entry in entries {
        let Entry::DNSKEY(record) = entry else { continue };
        let key = record.data().public_key().clone();
        match anchors.iter_mut().find(|(name, _)| name == record.name()) {
            Some((_, keys)) => keys.push(key),
            None => anchors.push((record.name().clone(), vec![key])),
        }
    }
    if anchors.is_empty() {
        bail!("{} has no DNSKEY records", file.display());
    }
    Ok(anchors)
}
