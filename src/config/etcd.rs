//! `control_plane.etcd`: the etcd cluster that has the manifest.

use super::Tls;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// An etcd cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// URLs of the cluster's members.
    pub endpoints: Vec<String>,
    /// The prefix of all keys.
    #[serde(default = "etcd_prefix")]
    pub prefix: String,
    /// The user name.
    #[serde(default)]
    pub username: Option<String>,
    /// File with the user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl Etcd {
    /// The cluster at a URL, without a user and certificates.
    pub fn at(endpoint: &str) -> Etcd {
        Etcd { endpoints: vec![endpoint.into()], prefix: etcd_prefix(), username: None, password_file: None, tls: None }
    }

    /// The errors in the section: field and message.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut error = |field: &str, message: &str| wrong.push((field.to_string(), message.to_string()));
        if self.endpoints.is_empty() {
            error("endpoints", "the list is empty");
        }
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            match endpoint.split_once("://") {
                Some(("http", _)) if self.tls.is_some() => {
                    error(&format!("endpoints[{at}]"), "`tls` is for URLs that begin with https://");
                }
                Some(("http" | "https", rest)) if !rest.is_empty() => {}
                _ => error(&format!("endpoints[{at}]"), "expected a URL such as http://10.0.0.9:2379"),
            }
        }
        if !self.prefix.ends_with('/') {
            error("prefix", "it must end with a slash");
        }
        if self.password_file.is_some() && self.username.is_none() {
            error("password_file", "it needs a `username`");
        }
        if self.tls.as_ref().is_some_and(|tls| tls.certificate.is_some() != tls.private_key.is_some()) {
            error("tls", "`certificate` and `private_key` go together");
        }
        wrong
    }
}

fn etcd_prefix() -> String {
    "/zonal/v1/".into()
}
