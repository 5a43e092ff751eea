//! The credentials of AWS's standard chain: the environment, the profile files, and the metadata of an instance (IMDSv2).

use super::http::{self, Endpoint};
use crate::aws::sigv4::{Credentials, Key};
use anyhow::{Context, anyhow, bail};
use hyper::{Method, header::HeaderMap};
use serde_json::Value;
use std::{collections::HashMap, fmt, fs, path::PathBuf};

/// The address of the metadata service.
const METADATA: &str = "http://169.254.169.254";
/// The validity of a token of the metadata service, in seconds.
const TOKEN_SECONDS: &str = "300";
/// Credentials are read again this long before they expire, in seconds.
const RENEWAL: i64 = 300;
/// The path of the credentials of an instance's role.
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// The source of credentials, and the settings that come with it.
pub(super) struct Chain {
    /// The variables of the environment.
    environment: HashMap<String, String>,
    /// The members of the profile, from both files.
    profile: HashMap<String, String>,
    /// The name of the profile.
    name: String,
    current: Option<(Credentials, Option<i64>)>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the credentials of the profile {}", self.name)
    }
}

impl Chain {
    /// Reads the environment and the files of a profile [default: `AWS_PROFILE`, then `default`].
    ///
    /// # Errors
    ///
    /// A named profile is in no file, or a file cannot be read.
    pub(super) fn read(profile: Option<&str>, environment: HashMap<String, String>) -> anyhow::Result<Chain> {
        let named = profile.or_else(|| environment.get("AWS_PROFILE").map(String::as_str));
        let name = named.unwrap_or("default").to_string();
        let file = |variable: &str, default: &str| -> Option<PathBuf> {
            let in_home = || Some(PathBuf::from(environment.get("HOME")?).join(default));
            environment.get(variable).map(PathBuf::from).or_else(in_home)
        };
        let mut members = HashMap::new();
        let mut is_known = false;
        for (variable, default, section) in [
            (
                "AWS_CONFIG_FILE",
                ".aws/config",
                if name == "default" { name.clone() } else { format!("profile {name}") },
            ),
            ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", name.clone()),
        ] {
            let Some(path) = file(variable, default).filter(|path| path.exists()) else { continue };
            let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            if let Some(found) = section_of(&text, &section) {
                is_known = true;
                members.extend(found);
            }
        }
        if named.is_some() && !is_known {
            bail!("there is no profile `{name}` in ~/.aws/config or ~/.aws/credentials");
        }
        Ok(Chain { environment, profile: members, name, current: None })
    }

    /// The Region of the environment or of the profile.
    pub(super) fn region(&self) -> Option<String> {
        let of_environment = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| self.variable(name));
        of_environment.map(str::to_string).or_else(|| self.profile.get("region").cloned())
    }

    /// A variable of the environment that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The credentials, read again before they expire. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// There are none.
    pub(super) async fn credentials(&mut self, now: i64) -> anyhow::Result<&Credentials> {
        let is_valid = |expires: &Option<i64>| expires.is_none_or(|expires| now + RENEWAL < expires);
        if !self.current.as_ref().is_some_and(|(_, expires)| is_valid(expires)) {
            self.current = Some(self.find().await?);
        }
        self.current.as_ref().map(|(credentials, _)| credentials).context("there are no credentials")
    }

    async fn find(&self) -> anyhow::Result<(Credentials, Option<i64>)> {
        let variables = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let [id, secret, token] = variables.map(|name| self.variable(name));
        if let (Some(id), Some(secret)) = (id, secret) {
            return Ok((credentials(id, secret, token), None));
        }
        let member = |name: &str| self.profile.get(name).map(String::as_str).filter(|value| !value.is_empty());
        if let (Some(id), Some(secret)) = (member("aws_access_key_id"), member("aws_secret_access_key")) {
            return Ok((credentials(id, secret, member("aws_session_token")), None));
        }
        if let Some(other) = ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"]
            .into_iter()
            .find(|name| self.profile.contains_key(*name))
        {
            bail!(
                "the profile `{}` has `{other}`, which zonal does not support: run \
                 `eval \"$(aws configure export-credentials --profile {0} --format env)\"` first",
                self.name
            );
        }
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            bail!("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE");
        }
        let found = self.of_instance().await;
        found.context("there are no credentials in the environment, in the profile, or in the instance's metadata")
    }

    /// The credentials of the instance's role, with the time when they expire.
    async fn of_instance(&self) -> anyhow::Result<(Credentials, Option<i64>)> {
        let endpoint = Endpoint::new(self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(METADATA), None)?;
        let ask = async |method: Method, path: &str, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse()?);
            let response = http::ask(&endpoint, method, path, headers, Vec::new()).await?;
            match response.status {
                200 => Ok(String::from_utf8_lossy(&response.body).into_owned()),
                status => Err(anyhow!("the metadata service answers {path} with status {status}")),
            }
        };
        let token =
            ask(Method::PUT, "/latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS).await?;
        let name = "x-aws-ec2-metadata-token";
        let roles = ask(Method::GET, ROLE_PATH, name, &token).await?;
        let role =
            roles.lines().next().map(str::trim).filter(|role| !role.is_empty()).context("the instance has no role")?;
        let text = ask(Method::GET, &format!("{ROLE_PATH}{role}"), name, &token).await?;
        let found: Value = serde_json::from_str(&text).context("the metadata service's answer is not JSON")?;
        let member = |name: &str| found[name].as_str();
        let (Some(id), Some(secret)) = (member("AccessKeyId"), member("SecretAccessKey")) else {
            bail!("the metadata service has no key for the role {role}");
        };
        let expires = member("Expiration").and_then(|time| time.parse::<jiff::Timestamp>().ok());
        Ok((credentials(id, secret, member("Token")), expires.map(jiff::Timestamp::as_second)))
    }
}

fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials { access_key_id: id.into(), key: Key::new("", false, secret), session_token: token.map(str::to_string) }
}

/// The members of a section of a profile file. Nested members, which are indented, are left out.
fn section_of(text: &str, wanted: &str) -> Option<HashMap<String, String>> {
    let mut found = None;
    let mut is_within = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_within = name.split_whitespace().eq(wanted.split_whitespace());
            if is_within {
                found.get_or_insert_with(HashMap::new);
            }
        } else if is_within
            && !line.starts_with([' ', '\t', '#', ';'])
            && let (Some(members), Some((name, value))) = (&mut found, trimmed.split_once('='))
        {
            members.insert(name.trim().to_ascii_lowercase(), value.trim().to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_section_of_a_profile_file() {
        let text = "[default]\nregion = eu-west-1\n# aws_access_key_id = no\n[profile  shared]\nregion=us-east-1\n\
                    s3 =\n  region = nested\naws_access_key_id = AKID\n[other]\nregion = x\n";
        let shared = section_of(text, "profile shared").unwrap();
        assert_eq!((&*shared["region"], &*shared["aws_access_key_id"]), ("us-east-1", "AKID"));
        assert_eq!(section_of(text, "default").unwrap().len(), 1);
        assert_eq!(section_of(text, "shared"), None);
    }

    #[test]
    fn a_named_profile_has_to_exist() {
        let none = HashMap::from([("AWS_CONFIG_FILE".to_string(), "/nonexistent".to_string())]);
        assert!(Chain::read(Some("shared"), none.clone()).unwrap_err().to_string().contains("no profile `shared`"));
        assert!(Chain::read(None, none).is_ok());
    }
}
