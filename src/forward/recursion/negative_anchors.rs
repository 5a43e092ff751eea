//! Negative trust anchors (RFC 7646): answers at and below these names count as insecure, each until
//! a time.
//!
//! They are for zones of others that fail validation by mistake. Anchors come from `zonal.yaml` or
//! from the admin API. Those of the admin API are stored in the state directory, so that they survive
//! a restart.
//!
//! The name of a proof is always an ancestor of the name in question. So it is enough to compare the
//! name in question: validation itself needs no knowledge of these anchors.

use super::validation::labels;
use crate::{
    config,
    state_file::{StateFile, Unreadable},
    wire::Name as WireName,
};
use arc_swap::ArcSwap;
use hickory_server::proto::{
    rr::{Name, RecordType},
    serialize::binary::BinDecodable,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Name of the file in the state directory.
const FILE: &str = "negative-trust-anchors.json";
/// Maximum size of the file, in octets. A larger file is set aside.
const MAX_OCTETS: u64 = 1 << 20;
/// Maximum number of anchors. Each of them is compared with each name that recursion looks for.
pub const MAX_ANCHORS: usize = 256;
/// Longest duration of an anchor that the admin API adds (RFC 7646, section 2: a week).
pub const MAX_DURATION: Duration = Duration::from_secs(7 * 86_400);
/// Maximum length of a reason, in octets.
pub const MAX_REASON: usize = 256;

/// A negative trust anchor.
#[derive(Clone, Debug, PartialEq)]
pub struct NegativeAnchor {
    /// Answers at and below this name count as insecure.
    pub name: WireName,
    /// End of the anchor, in seconds since 1970.
    pub until: i64,
    /// Reason that the operator gave. It may be empty.
    pub reason: String,
    /// Whether the anchor comes from `zonal.yaml`.
    pub is_configured: bool,
}

/// An anchor in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    until: i64,
    #[serde(default)]
    reason: String,
}

/// Reason why a change of the anchors fails.
#[derive(Debug)]
pub enum Refused {
    /// [`MAX_ANCHORS`] anchors exist.
    TooMany,
    /// The anchor is in `zonal.yaml`.
    Configured,
    /// No such anchor exists.
    Unknown,
    /// A trust anchor at or below the name takes precedence.
    Trusted,
    /// The state directory does not take the file.
    NotStored(io::Error),
}

/// The negative trust anchors of a node.
pub struct NegativeAnchors {
    all: ArcSwap<Vec<(Name, NegativeAnchor)>>,
    /// Names of the trust anchors. One at or below a negative anchor takes precedence over it.
    trusted: Vec<Name>,
    file: Option<StateFile>,
    /// Serialises changes.
    change: Mutex<()>,
}

impl NegativeAnchors {
    /// Reads the anchors of the configuration, and those that an earlier process stored.
    pub fn new(
        configured: &[config::NegativeTrustAnchor],
        trusted: Vec<Name>,
        state_directory: Option<&Path>,
        now: i64,
    ) -> NegativeAnchors {
        let file = state_directory.map(|directory| StateFile::new(directory, FILE, MAX_OCTETS));
        let mut all: Vec<(Name, NegativeAnchor)> = Vec::new();
        let configured = configured.iter().map(|anchor| NegativeAnchor {
            name: anchor.name.clone(),
            until: anchor.until.as_second(),
            reason: anchor.reason.clone(),
            is_configured: true,
        });
        for anchor in configured.chain(file.as_ref().map(read).unwrap_or_default()) {
            let is_new = !all.iter().any(|(_, other)| other.name == anchor.name);
            if is_new && all.len() < MAX_ANCHORS && now < anchor.until {
                all.extend(name_of(&anchor.name).map(|name| (name, anchor)));
            }
        }
        NegativeAnchors { all: ArcSwap::from_pointee(all), trusted, file, change: Mutex::default() }
    }

    /// The anchors that have not ended, in the order of their names.
    pub fn list(&self, now: i64) -> Vec<NegativeAnchor> {
        let mut list: Vec<NegativeAnchor> =
            self.all.load().iter().filter(|(_, anchor)| now < anchor.until).map(|(_, anchor)| anchor.clone()).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Whether an anchor covers records.
    pub fn covers(&self, name: &Name, rtype: RecordType, now: i64) -> bool {
        // A trust anchor at or below the negative anchor takes precedence.
        let is_closer = |anchor: &Name| {
            self.trusted.iter().any(|trusted| trusted.zone_of(name) && labels(trusted) >= labels(anchor))
        };
        self.all.load().iter().any(|(anchor, negative)| {
            // DS records belong to the zone above the cut.
            let is_in_zone = anchor.zone_of(name) && !(rtype == RecordType::DS && anchor == name);
            is_in_zone && now < negative.until && !is_closer(anchor)
        })
    }

    /// Adds an anchor, or replaces the one of the same name.
    ///
    /// # Errors
    /// See [`Refused`]. The anchors remain as they are.
    pub fn add(&self, anchor: NegativeAnchor, now: i64) -> Result<(), Refused> {
        let name = name_of(&anchor.name).ok_or(Refused::Unknown)?;
        if self.trusted.contains(&name) {
            return Err(Refused::Trusted);
        }
        self.edit(now, |all| {
            if all.iter().any(|(_, other)| other.name == anchor.name && other.is_configured) {
                return Err(Refused::Configured);
            }
            all.retain(|(_, other)| other.name != anchor.name);
            if all.len() >= MAX_ANCHORS {
                return Err(Refused::TooMany);
            }
            let until = anchor.until;
            tracing::info!(name = %anchor.name, until, reason = anchor.reason, "negative trust anchor added");
            all.push((name, anchor));
            Ok(())
        })
    }

    /// Removes an anchor.
    ///
    /// # Errors
    /// See [`Refused`]. The anchors remain as they are.
    pub fn remove(&self, name: &WireName, now: i64) -> Result<(), Refused> {
        self.edit(now, |all| {
            let at = all.iter().position(|(_, anchor)| anchor.name == *name).ok_or(Refused::Unknown)?;
            if all[at].1.is_configured {
                return Err(Refused::Configured);
            }
            all.remove(at);
            tracing::info!(%name, "negative trust anchor removed");
            Ok(())
        })
    }

    /// Changes the anchors that have not ended, and stores the result.
    fn edit(
        &self,
        now: i64,
        change: impl FnOnce(&mut Vec<(Name, NegativeAnchor)>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all.load().to_vec();
        all.retain(|(_, anchor)| now < anchor.until);
        change(&mut all)?;
        if let Some(file) = &self.file {
            write(file, &all).map_err(Refused::NotStored)?;
        }
        self.all.store(Arc::new(all));
        Ok(())
    }
}

fn name_of(name: &WireName) -> Option<Name> {
    Name::from_bytes(name.as_wire()).ok()
}

/// Reads the anchors that an earlier process stored.
fn read(file: &StateFile) -> Vec<NegativeAnchor> {
    let stored: Vec<Stored> = match file.read() {
        Ok(stored) => stored.unwrap_or_default(),
        Err(Unreadable { error, is_aside }) => {
            tracing::warn!(file = %file.path().display(), %error, set_aside = is_aside, "negative trust anchors unreadable");
            Vec::new()
        }
    };
    let anchor = |Stored { name, until, reason }| {
        Some(NegativeAnchor { name: WireName::absolute(&name).ok()?, until, reason, is_configured: false })
    };
    stored.into_iter().filter_map(anchor).collect()
}

fn write(file: &StateFile, all: &[(Name, NegativeAnchor)]) -> io::Result<()> {
    let stored: Vec<Stored> = all
        .iter()
        .filter(|(_, anchor)| !anchor.is_configured)
        .map(|(_, anchor)| Stored { name: anchor.name.to_string(), until: anchor.until, reason: anchor.reason.clone() })
        .collect();
    file.write(&stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn anchor(name: &str, until: i64) -> NegativeAnchor {
        let name = WireName::absolute(name).unwrap();
        NegativeAnchor { name, until, reason: "test".into(), is_configured: false }
    }

    fn configured(name: &str, until: i64) -> config::NegativeTrustAnchor {
        let until = jiff::Timestamp::from_second(until).unwrap();
        config::NegativeTrustAnchor { name: WireName::absolute(name).unwrap(), until, reason: String::new() }
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn an_anchor_covers_its_name_and_all_below_until_its_end() {
        let anchors = NegativeAnchors::new(
            &[configured("Broken.test", 100)],
            vec![Name::root(), name("in.broken.test.")],
            None,
            0,
        );
        for (covered, rtype, now, expected) in [
            ("broken.test.", RecordType::A, 99, true),
            ("WWW.broken.TEST.", RecordType::A, 99, true),
            ("broken.test.", RecordType::A, 100, false),
            ("broken.test.", RecordType::DS, 99, false),
            ("a.broken.test.", RecordType::DS, 99, true),
            ("notbroken.test.", RecordType::A, 99, false),
            ("test.", RecordType::A, 99, false),
            // A trust anchor below takes precedence.
            ("in.broken.test.", RecordType::A, 99, false),
            ("www.in.broken.test.", RecordType::A, 99, false),
        ] {
            assert_eq!(anchors.covers(&name(covered), rtype, now), expected, "{covered} {rtype} {now}");
        }
        anchors.add(anchor("www.broken.test", 200), 0).unwrap();
        assert!(anchors.covers(&name("www.broken.test."), RecordType::A, 150));
        assert!(matches!(anchors.add(anchor("in.broken.test", 200), 0), Err(Refused::Trusted)));
        assert!(matches!(anchors.add(anchor("broken.test", 200), 0), Err(Refused::Configured)));
        assert!(matches!(anchors.remove(&anchor("broken.test", 0).name, 0), Err(Refused::Configured)));
        assert!(matches!(anchors.remove(&anchor("broken.test", 0).name, 100), Err(Refused::Unknown)));
        for n in 0..MAX_ANCHORS - 2 {
            anchors.add(anchor(&format!("n{n}.test"), 300), 0).unwrap();
        }
        assert!(matches!(anchors.add(anchor("more.test", 300), 0), Err(Refused::TooMany)));
        anchors.add(anchor("more.test", 300), 100).unwrap();
    }

    #[test]
    fn anchors_survive_a_restart_and_a_damaged_file_is_set_aside() {
        let directory = std::env::temp_dir().join(format!("zonal-negative-anchors-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let open = |now| NegativeAnchors::new(&[], vec![Name::root()], Some(&directory), now);
        let anchors = open(0);
        anchors.add(anchor("b.test", 100), 0).unwrap();
        anchors.add(anchor("a.test", 50), 0).unwrap();
        anchors.add(anchor("c.test", 100), 0).unwrap();
        anchors.remove(&anchor("C.test", 0).name, 0).unwrap();
        assert_eq!(open(0).list(0), [anchor("a.test", 50), anchor("b.test", 100)]);
        assert_eq!(open(50).list(50), [anchor("b.test", 100)]);
        for damaged in ["", "{", "{}", "[7]"] {
            fs::write(directory.join(FILE), damaged).unwrap();
            assert!(open(0).list(0).is_empty());
            let aside = directory.join("negative-trust-anchors.json.damaged");
            assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
