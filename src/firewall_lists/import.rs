//! Reads a list once, for the operation `ImportFirewallDomains` of AWS's API. Its names then belong to a list of the
//! manifest: zonal does not follow the source.

use super::{
    FirewallLists,
    fetch::{Fetched, Validators},
    gzip, load,
};
use crate::{
    manifest::{DomainSpecification, FirewallListFormat, domain_lists::Scope},
    wire::Name,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// The maximum number of names in a text, as in AWS.
const MAX_NAMES: usize = 250_000;
/// The maximum size of a text, in octets.
const MAX_OCTETS: u64 = 16 << 20;
/// Time-out for a download.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The file of a download, until the end of its import.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl FirewallLists {
    /// Downloads a text with one name on each line. The configuration must allow its host. One import runs at a time.
    ///
    /// # Errors
    ///
    /// The reason for the failure. It has no part of the text, because the client of the API may not be allowed to read the
    /// text.
    pub async fn import(&self, url: &str) -> Result<Vec<DomainSpecification>, String> {
        self.client.check(url)?;
        let _turn = self.importing.lock().await;
        let draft = Draft(self.store.draft_of_import().map_err(|error| error.to_string())?);
        let nothing = Validators::default();
        let fetched = self.client.fetch(url, &nothing, &draft.0, MAX_OCTETS);
        match timeout(TIMEOUT, fetched).await {
            Ok(Ok(Fetched::Text(_))) => {}
            Ok(Ok(Fetched::Unchanged)) => {
                return Err("the server answered with status 304 to a request without validators".into());
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(format!("the download took more than {} s", TIMEOUT.as_secs())),
        }
        let read = tokio::task::spawn_blocking(move || names(&draft.0));
        read.await.map_err(|_| "the server ends".to_string())?
    }
}

/// The names in a file.
fn names(path: &Path) -> Result<Vec<DomainSpecification>, String> {
    gzip::unpack(path, MAX_OCTETS).map_err(|error| error.to_string())?;
    let text = load::Text { path: path.into(), format: FirewallListFormat::Domains, zone: None };
    let mut names = Vec::new();
    let content = text.read(&mut |entry| {
        if names.len() < MAX_NAMES
            && let Ok(name) = Name::from_wire(entry.name)
        {
            // An entry of the format `domains` is for one name, for the names below a name, or for all names.
            names.push(DomainSpecification { name, below_only: entry.scope != Scope::Exact });
        }
    })?;
    if let Some(refusal) = load::refusal(&content, None) {
        return Err(refusal);
    }
    if let Some(first) = content.first_skipped.first() {
        return Err(format!("line {} is not a name: {}", first.line, first.reason));
    }
    match content.entries > MAX_NAMES as u64 {
        true => Err(format!("the text has {} names; expected at most {MAX_NAMES}", content.entries)),
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let file = format!("zonal-import-{}-{:016x}", std::process::id(), crate::clock::random_seed().0);
        let draft = Draft(std::env::temp_dir().join(file));
        std::fs::write(&draft.0, text).unwrap();
        names(&draft.0).map(|names| names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_one_name_on_each_line() {
        let names = read("# a list\nBad.example\n\n*.worse.example\r\n*\n").unwrap();
        assert_eq!(names, ["bad.example.", "*.worse.example.", "*"]);
    }

    #[test]
    fn refuses_a_text_with_a_line_that_is_no_name() {
        for (text, reason) in [
            ("", "the list is empty"),
            ("<html>\nbad.example\n", "HTML"),
            ("bad.example\nsecret secret..\n", "line 2 is not a name"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn refuses_more_names_than_aws() {
        let text = |count: usize| (0..count).fold(String::new(), |text, number| text + &format!("n{number}.example\n"));
        assert_eq!(read(&text(MAX_NAMES)).unwrap().len(), MAX_NAMES);
        assert!(read(&text(MAX_NAMES + 1)).unwrap_err().contains("250001 names"));
    }
}
