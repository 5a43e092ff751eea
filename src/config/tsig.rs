//! `tsig_keys`: the keys that authenticate zone transfers and dynamic updates.

use crate::{manifest::words::words, wire::Name};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

words! {
    /// A TSIG algorithm (RFC 8945, section 6).
    #[derive(Default)]
    pub enum TsigAlgorithm {
        #[default]
        HmacSha256 = "hmac-sha256",
        HmacSha384 = "hmac-sha384",
        HmacSha512 = "hmac-sha512",
    }
}

impl std::str::FromStr for TsigAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<TsigAlgorithm, String> {
        let text = text.trim_end_matches('.');
        let all = [TsigAlgorithm::HmacSha256, TsigAlgorithm::HmacSha384, TsigAlgorithm::HmacSha512];
        all.into_iter().find(|algorithm| algorithm.word().eq_ignore_ascii_case(text)).ok_or_else(|| {
            format!("`{text}` is not a known value (expected one of `{}`)", TsigAlgorithm::WORDS.join("`, `"))
        })
    }
}

/// A TSIG key: a secret that this node shares with another server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TsigKey {
    /// The algorithm. Default: the algorithm in `secret_file`, or else `hmac-sha256`.
    #[serde(default)]
    pub algorithm: Option<TsigAlgorithm>,
    /// File with the secret: in base64, or in BIND's syntax as `tsig-keygen` writes it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The secret, in base64.
    #[serde(default)]
    pub secret: Option<String>,
}

/// The errors in the keys: field and message.
pub(super) fn check(keys: &BTreeMap<String, TsigKey>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<Name, &str> = BTreeMap::new();
    for (text, key) in keys {
        let field = format!("tsig_keys.{text}");
        if key.secret.is_some() == key.secret_file.is_some() {
            wrong.push((field.clone(), "it needs one of `secret_file` and `secret`".into()));
        }
        match Name::absolute(text) {
            Err(error) => wrong.push((field, format!("the name of a key must be a domain name: {error}"))),
            Ok(name) => {
                if let Some(other) = seen.insert(name, text) {
                    wrong.push((field, format!("it is the same name as `{other}`")));
                }
            }
        }
    }
    wrong
}
