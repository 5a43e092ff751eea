//! Trust anchors that follow the key rollovers of their zones (RFC 5011).
//!
//! ```text
//!            in the set               30 days later                 not in the set
//! (unknown) ------------> pending ----------------> valid <---------------------------> missing
//!            <------------                            |                                    |
//!            not in the set                           +-- has REVOKE and signs itself ----> revoked
//! ```
//! The keys in the states valid and missing are the trust anchors. A trusted key must sign the DNSKEY
//! set in which a new key appears. A revoked key is never trusted again. If all keys of a zone are
//! revoked, all names below the zone are bogus.
//!
//! The states are stored in the state directory. If the configured keys change, the stored states
//! do not apply, except that revoked keys remain revoked.

use super::{
    errand::Work,
    validation::{
        Anchors, MAX_KEYS, ZoneKeys,
        proven::{Reason, Unproven},
        sets,
    },
};
use crate::state_file::{StateFile, Unreadable};
use data_encoding::{BASE64, HEXLOWER};
use hickory_server::proto::{
    dnssec::{
        Algorithm, PublicKey, PublicKeyBuf,
        rdata::{DNSKEY, DNSSECRData},
    },
    op::Message,
    rr::{Name, RData, RecordType},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Name of the file in the state directory.
const FILE: &str = "trust-anchors.json";
/// Maximum size of the file, in octets. A larger file is set aside.
const MAX_OCTETS: u64 = 1 << 20;
/// Time for which a new key must be in the DNSKEY set before it is trusted, in seconds (RFC 5011,
/// section 2.4.1).
const HOLD_DOWN: i64 = 30 * 86_400;
/// Shortest and longest time between two looks at a zone, in seconds (RFC 5011, section 2.3).
const INTERVALS: (u32, u32) = (3600, 15 * 86_400);
/// Time after which a zone is looked at again if that failed (RFC 5011, section 2.3).
pub const RETRY: Duration = Duration::from_secs(3600);
/// Bit of the DNSKEY flags that revokes a key (RFC 5011, section 7).
const REVOKE: u16 = 0x0080;

/// State of a key (RFC 5011, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The key is new, and not trusted yet.
    Pending,
    /// The key is trusted.
    Valid,
    /// The key is trusted, but the zone does not have it at the moment.
    Missing,
    /// The zone has revoked the key.
    Revoked,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    algorithm: u8,
    /// The public key in Base64.
    key: String,
    state: State,
    /// Start of the state, in seconds since 1970.
    since: i64,
}

/// The keys of a zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Managed {
    zone: String,
    keys: Vec<Key>,
}

/// Content of the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the configured keys.
    configured: String,
    zones: Vec<Managed>,
}

/// The trust anchors of a node.
pub struct ManagedAnchors {
    zones: Mutex<Vec<(Name, Managed)>>,
    configured: String,
    file: Option<StateFile>,
}

impl Key {
    fn new(key: &PublicKeyBuf, state: State, since: i64) -> Key {
        Key { algorithm: key.algorithm().into(), key: BASE64.encode(key.public_bytes()), state, since }
    }

    fn is(&self, key: &DNSKEY) -> bool {
        let key = key.public_key();
        self.algorithm == u8::from(key.algorithm()) && self.key == BASE64.encode(key.public_bytes())
    }

    fn is_trusted(&self) -> bool {
        matches!(self.state, State::Valid | State::Missing)
    }

    fn enter(&mut self, zone: &str, state: State, now: i64) {
        (self.state, self.since) = (state, now);
        self.log(zone);
    }

    fn log(&self, zone: &str) {
        let state = match self.state {
            State::Pending => "pending",
            State::Valid => "valid",
            State::Missing => "missing",
            State::Revoked => "revoked",
        };
        tracing::info!(zone, algorithm = self.algorithm, key = self.key, state, "trust anchor changed");
    }
}

impl Managed {
    /// Follows the DNSKEY set in a response. Returns the time until the next look.
    ///
    /// # Errors
    /// No trusted key signed the set. Keys that revoke themselves are revoked nevertheless.
    fn follow(&mut self, apex: &Name, message: &Message, now: i64) -> Result<Duration, Unproven> {
        let work = Work::default();
        let sets = sets(&message.answers);
        let set = sets.iter().find(|set| set.rtype == RecordType::DNSKEY && set.owner == apex);
        let set = set.ok_or_else(|| Unproven::new(Reason::KeyMissing, format!("{apex} DNSKEY is missing")))?;
        let seen: Vec<(u16, &DNSKEY)> = set
            .records
            .iter()
            .take(MAX_KEYS)
            .filter_map(|record| match &record.data {
                RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some((key.calculate_key_tag().ok()?, key)),
                _ => None,
            })
            .collect();
        for (tag, key) in seen.iter().filter(|(_, key)| key.revoke()) {
            let Some(known) = self.keys.iter_mut().find(|known| known.is(key) && known.state != State::Revoked) else {
                continue;
            };
            // The signature has the tag of the key with REVOKE. The public key is the same.
            let plain = DNSKEY::with_flags(key.flags() & !REVOKE, key.public_key().clone());
            let itself = ZoneKeys { apex: apex.clone(), keys: vec![(*tag, plain)] };
            if set.verify(&itself, &work).is_ok() {
                known.enter(&self.zone, State::Revoked, now);
            }
        }
        let trusted = |key: &DNSKEY| self.keys.iter().any(|known| known.is_trusted() && known.is(key));
        let trusted = seen.iter().filter(|(_, key)| trusted(key)).map(|(tag, key)| (*tag, (*key).clone())).collect();
        let signed = set.verify(&ZoneKeys { apex: apex.clone(), keys: trusted }, &work)?;
        let entry_points: Vec<&DNSKEY> = seen
            .iter()
            .map(|(_, key)| *key)
            .filter(|key| key.zone_key() && key.secure_entry_point() && !key.revoke())
            .collect();
        self.keys.retain_mut(|known| {
            let is_there = entry_points.iter().any(|key| known.is(key));
            match known.state {
                State::Pending if !is_there => return false,
                State::Pending if now - known.since >= HOLD_DOWN => known.enter(&self.zone, State::Valid, now),
                State::Valid if !is_there => known.enter(&self.zone, State::Missing, now),
                State::Missing if is_there => known.enter(&self.zone, State::Valid, now),
                _ => {}
            }
            true
        });
        for key in entry_points {
            if self.keys.len() < 2 * MAX_KEYS && !self.keys.iter().any(|known| known.is(key)) {
                let new = Key::new(key.public_key(), State::Pending, now);
                new.log(&self.zone);
                self.keys.push(new);
            }
        }
        Ok(Duration::from_secs((signed.ttl / 2).clamp(INTERVALS.0, INTERVALS.1).into()))
    }
}

impl ManagedAnchors {
    /// Begins with the configured keys, or with the states that an earlier process stored for them.
    pub fn new(configured: &Anchors, state_directory: Option<&Path>, now: i64) -> ManagedAnchors {
        let file = state_directory.map(|directory| StateFile::new(directory, FILE, MAX_OCTETS));
        let digest = digest(configured);
        let stored = file.as_ref().and_then(read);
        let zones = configured.iter().map(|(name, keys)| {
            let zone = name.to_lowercase().to_string();
            let of_zone = stored.as_ref().and_then(|stored| stored.zones.iter().find(|managed| managed.zone == zone));
            let mut known = of_zone.map_or(Vec::new(), |managed| managed.keys.clone());
            if stored.as_ref().is_some_and(|stored| stored.configured != digest) {
                known.retain(|key| key.state == State::Revoked);
            }
            for key in keys {
                let new = Key::new(key, State::Valid, now);
                if !known.iter().any(|known| (known.algorithm, &known.key) == (new.algorithm, &new.key)) {
                    known.push(new);
                }
            }
            (name.clone(), Managed { zone, keys: known })
        });
        ManagedAnchors { zones: Mutex::new(zones.collect()), configured: digest, file }
    }

    fn zones(&self) -> MutexGuard<'_, Vec<(Name, Managed)>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the zones.
    pub fn names(&self) -> Vec<Name> {
        self.zones().iter().map(|(name, _)| name.clone()).collect()
    }

    /// The trusted keys of each zone.
    pub fn trusted(&self) -> Anchors {
        let key = |key: &Key| {
            let octets = BASE64.decode(key.key.as_bytes()).ok()?;
            Some(PublicKeyBuf::new(octets, Algorithm::from_u8(key.algorithm)))
        };
        let of_zone = |managed: &Managed| -> Vec<PublicKeyBuf> {
            managed.keys.iter().filter(|key| key.is_trusted()).filter_map(key).collect()
        };
        self.zones().iter().map(|(name, managed)| (name.clone(), of_zone(managed))).collect()
    }

    /// Follows the DNSKEY set of a zone. Returns whether the trusted keys have changed, and the time
    /// until the next look.
    ///
    /// # Errors
    /// No trusted key signed the set.
    pub fn follow(&self, apex: &Name, message: &Message, now: i64) -> (bool, Result<Duration, Unproven>) {
        let before = self.trusted();
        let mut zones = self.zones();
        let Some((_, managed)) = zones.iter_mut().find(|(name, _)| name == apex) else { return (false, Ok(RETRY)) };
        let unchanged = managed.clone();
        let followed = managed.follow(apex, message, now);
        if *managed != unchanged {
            self.write(&zones);
        }
        drop(zones);
        let is_same = before.iter().zip(&self.trusted()).all(|((_, a), (_, b))| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.public_bytes() == b.public_bytes())
        });
        (!is_same, followed)
    }

    fn write(&self, zones: &[(Name, Managed)]) {
        let Some(file) = &self.file else { return };
        let zones = zones.iter().map(|(_, managed)| managed.clone()).collect();
        let stored = Stored { configured: self.configured.clone(), zones };
        if let Err(error) = file.write(&stored) {
            tracing::error!(file = %file.path().display(), %error, "trust anchors not written");
        }
    }
}

fn digest(anchors: &Anchors) -> String {
    let mut digest = Sha256::new();
    for (name, keys) in anchors {
        digest.update(name.to_lowercase().to_string());
        for key in keys {
            digest.update([u8::from(key.algorithm())]);
            digest.update(key.public_bytes());
        }
    }
    HEXLOWER.encode(&digest.finalize())
}

/// Reads the states that an earlier process stored.
fn read(file: &StateFile) -> Option<Stored> {
    file.read().unwrap_or_else(|Unreadable { error, is_aside }| {
        tracing::warn!(file = %file.path().display(), %error, set_aside = is_aside, "trust anchors unreadable");
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_server::proto::{
        dnssec::{SigningKey, TBS, crypto::Ed25519SigningKey, rdata::RRSIG, rdata::sig::SigInput},
        rr::{DNSClass, Record},
    };
    use std::fs;

    const DAY: i64 = 86_400;

    /// A key of the root.
    struct RootKey(Ed25519SigningKey);

    impl RootKey {
        fn new() -> RootKey {
            RootKey(Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap())
        }

        fn dnskey(&self, is_revoked: bool) -> DNSKEY {
            DNSKEY::new(true, true, is_revoked, self.0.to_public_key().unwrap())
        }

        fn anchors(&self) -> Anchors {
            vec![(Name::root(), vec![self.0.to_public_key().unwrap()])]
        }
    }

    /// The DNSKEY set with these keys, signed by those that are marked. Some of the keys are revoked.
    fn response(keys: &[(&RootKey, bool, bool)]) -> Message {
        let records: Vec<Record> = keys
            .iter()
            .map(|(key, is_revoked, _)| {
                Record::from_rdata(Name::root(), 172_800, RData::DNSSEC(DNSSECRData::DNSKEY(key.dnskey(*is_revoked))))
            })
            .collect();
        let mut message = Message::query();
        let now = crate::clock::now() as u32;
        for (key, is_revoked, _) in keys.iter().filter(|(_, _, signs)| *signs) {
            let input = SigInput {
                type_covered: RecordType::DNSKEY,
                algorithm: Algorithm::ED25519,
                num_labels: 0,
                original_ttl: 172_800,
                sig_expiration: (now + 864_000).into(),
                sig_inception: (now - 1_000).into(),
                key_tag: key.dnskey(*is_revoked).calculate_key_tag().unwrap(),
                signer_name: Name::root(),
            };
            let tbs = TBS::from_input(&Name::root(), DNSClass::IN, &input, records.iter()).unwrap();
            let signature = RRSIG::from_sig(input, key.0.sign(&tbs).unwrap());
            message.add_answer(Record::from_rdata(Name::root(), 172_800, RData::DNSSEC(DNSSECRData::RRSIG(signature))));
        }
        message.add_answers(records);
        message.into_response()
    }

    fn trusts(anchors: &ManagedAnchors) -> Vec<Vec<u8>> {
        anchors.trusted()[0].1.iter().map(|key| key.public_bytes().to_vec()).collect()
    }

    fn octets(key: &RootKey) -> Vec<u8> {
        key.0.to_public_key().unwrap().public_bytes().to_vec()
    }

    #[test]
    fn a_new_key_is_trusted_after_thirty_days_and_a_revoked_key_never_again() {
        let directory = std::env::temp_dir().join(format!("zonal-trust-anchors-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (old, new) = (RootKey::new(), RootKey::new());
        let open = || ManagedAnchors::new(&old.anchors(), Some(&directory), 0);
        let anchors = open();
        let root = Name::root();
        let (changed, next) = anchors.follow(&root, &response(&[(&old, false, true)]), 0);
        assert_eq!((changed, next.unwrap()), (false, Duration::from_secs(DAY as u64)));
        // The new key appears, and is trusted when it has been there for 30 days.
        let both = response(&[(&old, false, true), (&new, false, false)]);
        assert!(!anchors.follow(&root, &both, DAY).0);
        assert!(!anchors.follow(&root, &both, 30 * DAY).0);
        assert_eq!(trusts(&anchors), [octets(&old)]);
        // The state survives a restart.
        let anchors = open();
        assert!(anchors.follow(&root, &both, 31 * DAY).0);
        assert_eq!(trusts(&anchors), [octets(&old), octets(&new)]);
        // A key that is not in the set remains trusted.
        assert!(!anchors.follow(&root, &response(&[(&new, false, true)]), 40 * DAY).0);
        assert_eq!(trusts(&anchors).len(), 2);
        // REVOKE counts only if the key signs the set itself.
        let unsigned = response(&[(&old, true, false), (&new, false, true)]);
        assert!(!anchors.follow(&root, &unsigned, 41 * DAY).0);
        let revoked = response(&[(&old, true, true), (&new, false, true)]);
        assert!(anchors.follow(&root, &revoked, 42 * DAY).0);
        assert_eq!(trusts(&anchors), [octets(&new)]);
        for now in [43 * DAY, 80 * DAY] {
            anchors.follow(&root, &response(&[(&old, false, true), (&new, false, true)]), now).1.unwrap();
            assert_eq!(trusts(&anchors), [octets(&new)]);
        }
        assert_eq!(trusts(&open()), [octets(&new)]);
        // Other configured keys apply at once.
        let other = RootKey::new();
        let mut configured = other.anchors();
        configured[0].1.push(old.0.to_public_key().unwrap());
        assert_eq!(trusts(&ManagedAnchors::new(&configured, Some(&directory), 90 * DAY)), [octets(&other)]);
        for damaged in ["", "{", "[]", "{\"configured\": 7}"] {
            fs::write(directory.join(FILE), damaged).unwrap();
            assert_eq!(trusts(&open()), [octets(&old)]);
            assert_eq!(fs::read_to_string(directory.join("trust-anchors.json.damaged")).unwrap(), damaged);
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_that_no_trusted_key_signs_is_not_trusted() {
        let (old, new) = (RootKey::new(), RootKey::new());
        let anchors = ManagedAnchors::new(&old.anchors(), None, 0);
        let root = Name::root();
        let forged = response(&[(&old, false, false), (&new, false, true)]);
        for now in [0, 31 * DAY, 62 * DAY] {
            let (changed, followed) = anchors.follow(&root, &forged, now);
            assert!(!changed && followed.is_err(), "{followed:?}");
        }
        assert_eq!(trusts(&anchors), [octets(&old)]);
        // A new key that goes away begins again.
        let both = response(&[(&old, false, true), (&new, false, true)]);
        anchors.follow(&root, &both, 70 * DAY).1.unwrap();
        anchors.follow(&root, &response(&[(&old, false, true)]), 99 * DAY).1.unwrap();
        anchors.follow(&root, &both, 101 * DAY).1.unwrap();
        assert_eq!(trusts(&anchors), [octets(&old)]);
        anchors.follow(&root, &both, 131 * DAY).1.unwrap();
        assert_eq!(trusts(&anchors).len(), 2);
    }
}
