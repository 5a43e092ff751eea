//! The TSIG keys of the node, by name.

use crate::{
    config::{TsigAlgorithm, TsigKey, remedy::explain_read_error},
    wire::Name,
};
use anyhow::{Context, bail, ensure};
use data_encoding::BASE64;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as Hmac;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
};

/// The maximum length of a file with a key, in octets. The rest is ignored.
const MAX_FILE_OCTETS: u64 = 64 << 10;

/// A secret key that two servers share.
pub struct Key {
    /// Its name, in lower case.
    pub name: Name,
    algorithm: TsigAlgorithm,
    secret: Box<[u8]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.algorithm)
    }
}

impl Key {
    /// A key.
    pub fn new(name: &Name, algorithm: TsigAlgorithm, secret: &[u8]) -> Key {
        Key { name: name.to_lowercase(), algorithm, secret: secret.into() }
    }

    /// The name of the algorithm in wire format.
    pub(super) fn algorithm_name(&self) -> Vec<u8> {
        let word = self.algorithm.word();
        [&[word.len() as u8], word.as_bytes(), &[0]].concat()
    }

    /// The length of a MAC of the key, in octets.
    pub(super) fn mac_size(&self) -> usize {
        match self.algorithm {
            TsigAlgorithm::HmacSha256 => 32,
            TsigAlgorithm::HmacSha384 => 48,
            TsigAlgorithm::HmacSha512 => 64,
        }
    }

    fn hmac(&self) -> Hmac {
        match self.algorithm {
            TsigAlgorithm::HmacSha256 => Hmac::HmacSha256,
            TsigAlgorithm::HmacSha384 => Hmac::HmacSha384,
            TsigAlgorithm::HmacSha512 => Hmac::HmacSha512,
        }
    }

    /// The MAC of the concatenated parts.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        // It fails only for algorithms that `TsigAlgorithm` does not have.
        self.hmac().mac_data(&self.secret, &parts.concat()).unwrap_or_default()
    }

    /// Whether a MAC, or a truncated one, matches the parts. The time does not depend on the octets
    /// that differ.
    pub(super) fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        let octets = parts.concat();
        if mac.len() == self.mac_size() {
            return self.hmac().verify_mac(&self.secret, &octets, mac).is_ok();
        }
        let whole = self.mac(&[&octets]);
        let differs = whole.iter().zip(mac).fold(0, |differs, (one, other)| differs | (one ^ other));
        mac.len() < whole.len() && std::hint::black_box(differs) == 0
    }
}

/// The keys of the node.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Name, Arc<Key>>);

impl Keys {
    /// Reads the keys of the configuration.
    ///
    /// # Errors
    ///
    /// A name or a secret is invalid, or a file cannot be read.
    pub fn read(config: &BTreeMap<String, TsigKey>) -> anyhow::Result<Keys> {
        let keys = config.iter().map(|(text, key)| {
            let name = Name::absolute(text)?;
            let key = read(&name, key).with_context(|| format!("the key {text} of `tsig_keys` cannot be used"))?;
            Ok((key.name.clone(), Arc::new(key)))
        });
        Ok(Keys(keys.collect::<anyhow::Result<_>>()?))
    }

    /// Collects keys.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Keys {
        Keys(keys.into_iter().map(|key| (key.name.clone(), Arc::new(key))).collect())
    }

    /// The key with a name.
    pub fn get(&self, name: &Name) -> Option<&Arc<Key>> {
        self.0.get(name)
    }
}

fn read(name: &Name, config: &TsigKey) -> anyhow::Result<Key> {
    let (secret, algorithm) = match (&config.secret, &config.secret_file) {
        (Some(secret), _) => (secret.clone(), None),
        (None, Some(file)) => {
            let text = text(file)?;
            match text.trim_start().starts_with("key") && text.contains('{') {
                true => statement(name, &text).with_context(|| format!("{}", file.display()))?,
                false => (text, None),
            }
        }
        (None, None) => bail!("it has no secret"),
    };
    let algorithm = match (config.algorithm, algorithm) {
        (Some(one), Some(other)) if one != other => bail!("its file says that it is for {other}, not for {one}"),
        (one, other) => one.or(other).unwrap_or_default(),
    };
    let secret: String = secret.split_whitespace().collect();
    let secret = BASE64.decode(secret.as_bytes()).map_err(|_| anyhow::anyhow!("its secret is not base64"))?;
    ensure!(!secret.is_empty(), "its secret is empty");
    Ok(Key::new(name, algorithm, &secret))
}

fn text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE_OCTETS).read_to_string(&mut text))
        .map_err(explain_read_error)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text)
}

/// Reads a key in the form that `tsig-keygen` and `rndc-confgen` write: `key "name" { algorithm …;
/// secret "…"; };`.
fn statement(name: &Name, text: &str) -> anyhow::Result<(String, Option<TsigAlgorithm>)> {
    const FORM: &str = "it is neither base64 nor `key \"name\" { algorithm hmac-sha256; secret \"…\"; };`";
    let spaced = text.replace(['{', '}', ';'], " ");
    let words: Vec<&str> = spaced.split_whitespace().map(|word| word.trim_matches('"')).collect();
    ensure!(words.len() == 6 && words[0] == "key", FORM);
    let own = Name::absolute(words[1]).context(FORM)?;
    ensure!(own == *name, "it holds the key {own}, not {name}");
    let (mut secret, mut algorithm) = (None, None);
    for pair in words[2..].chunks(2) {
        match pair {
            ["algorithm", word] => algorithm = Some(word.parse().map_err(anyhow::Error::msg)?),
            ["secret", text] => secret = Some(text.to_string()),
            _ => bail!(FORM),
        }
    }
    Ok((secret.context(FORM)?, algorithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_from_both_forms_of_files() {
        let directory = std::env::temp_dir().join(format!("zonal-keys-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("key");
        let bind = "key \"Transfer.\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n";
        for (text, algorithm, expected) in [
            ("c2VjcmV0\n", None, Ok(TsigAlgorithm::HmacSha256)),
            ("c2Vj\ncmV0", Some(TsigAlgorithm::HmacSha384), Ok(TsigAlgorithm::HmacSha384)),
            (bind, None, Ok(TsigAlgorithm::HmacSha512)),
            (bind, Some(TsigAlgorithm::HmacSha512), Ok(TsigAlgorithm::HmacSha512)),
            (bind, Some(TsigAlgorithm::HmacSha256), Err("for hmac-sha512, not for hmac-sha256")),
            ("key other { algorithm hmac-sha256; secret \"c2VjcmV0\"; };", None, Err("the key other., not transfer.")),
            (
                "key transfer { algorithm hmac-md5; secret \"c2VjcmV0\"; };",
                None,
                Err("`hmac-md5` is not a known value"),
            ),
            ("key transfer { secret; };", None, Err("it is neither base64 nor")),
            ("not base64", None, Err("its secret is not base64")),
            ("", None, Err("its secret is empty")),
        ] {
            std::fs::write(&file, text).unwrap();
            let config = TsigKey { algorithm, secret: None, secret_file: Some(file.clone()) };
            let keys = Keys::read(&BTreeMap::from([("transfer".to_string(), config)]));
            match (keys, expected) {
                (Ok(keys), Ok(algorithm)) => {
                    let key = keys.get(&Name::absolute("TRANSFER").unwrap()).unwrap();
                    assert_eq!((key.algorithm, &key.secret[..]), (algorithm, &b"secret"[..]), "{text}");
                    assert_eq!(key.mac(&[b"a", b"b"]).len(), key.mac_size());
                    assert!(!format!("{key:?}").contains("secret"));
                }
                (Err(error), Err(expected)) => assert!(format!("{error:#}").contains(expected), "{text}: {error:#}"),
                (keys, _) => panic!("{text}: {keys:?}"),
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
