//! Warnings about the sources of lists, for `zonal check`. A server loads what it can, and keeps the rest.

use super::{
    fetch::Client,
    load::{self, Text},
};
use crate::{
    manifest::{FirewallListFormat, Id, Location, Problem},
    snapshot::Snapshot,
};
use std::path::Path;

const KIND: &str = "firewall_domain_lists";

/// The warnings about the lists of a snapshot's manifest in `directory`. `allowed` has the hosts that zonal may download
/// lists from; `None` if they are not known.
pub fn check(snapshot: &Snapshot, directory: &Path, allowed: Option<&[String]>) -> Vec<Problem> {
    let (manifest, resolves_names) = (&snapshot.manifest, snapshot.node.resolves_names());
    let client = allowed.map(|allowed| Client::new(allowed.to_vec(), None));
    let mut problems = Vec::new();
    for (id, list) in &manifest.firewall_domain_lists {
        let Some(source) = &list.source else { continue };
        if let (Some(url), Some(client)) = (&source.url, &client)
            && let Err(error) = client.check(url)
        {
            problems.push(Problem::warning(KIND, id, "source.url", error));
        }
        if let Some(file) = &source.file {
            let format = source.format.unwrap_or(FirewallListFormat::Domains);
            check_file(
                id,
                &Text { path: directory.join(file), format, zone: source.zone.clone() },
                resolves_names,
                &mut problems,
            );
        }
    }
    problems
}

fn check_file(id: &Id, text: &Text, resolves_names: bool, problems: &mut Vec<Problem>) {
    let content = match text.inspect() {
        Ok(content) => content,
        Err(error) => return problems.push(Problem::warning(KIND, id, "source.file", error)),
    };
    if let Some(refusal) = load::refusal(&content, None) {
        problems.push(Problem::warning(KIND, id, "source.file", refusal));
    }
    let (nsdname, nsip) = content.of_servers();
    let shown = content.first_skipped.len() as u64;
    for (at, skipped) in (1..).zip(content.first_skipped) {
        let rest = match content.skipped - shown {
            rest if at == shown && rest > 0 => format!("; {rest} more lines of the list are skipped"),
            _ => String::new(),
        };
        let message = format!("the line is skipped: {}{rest}", skipped.reason);
        let length = (skipped.text.chars().count() as u32).max(1);
        let location = Location { file: text.path.as_path().into(), line: skipped.line, column: 1, length };
        problems.push(Problem::warning(KIND, id, "source.file", message).at(location));
    }
    for (count, trigger) in [(nsdname, "NSDNAME"), (nsip, "NSIP")] {
        if count > 0 && !resolves_names {
            let message = format!("{count} {trigger} entries apply only with `internet_resolver: {{recursive: true}}`");
            problems.push(Problem::warning(KIND, id, "source.file", message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{FirewallDomainList, FirewallListSource, Loaded, Manifest},
        snapshot::{
            Node, compile,
            routes::{Route, Servers},
        },
    };
    use std::{fs, sync::Arc};

    #[test]
    fn shows_the_lines_that_are_skipped() {
        let directory = std::env::temp_dir().join(format!("zonal-list-check-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("bad.txt"), "a.example\n".to_string() + &"a/b\n".repeat(7)).unwrap();
        fs::write(directory.join("rpz.zone"), "$ORIGIN rpz.\nns.x.rpz-nsdname CNAME .\n").unwrap();
        let mut manifest = Manifest::default();
        let mut add = |id: &str, source: FirewallListSource| {
            let list = FirewallDomainList { source: Some(source), ..FirewallDomainList::default() };
            manifest.firewall_domain_lists.insert(id.into(), Arc::new(list));
        };
        let file = |file: &str| FirewallListSource { file: Some(file.into()), ..FirewallListSource::default() };
        add("a", file("bad.txt"));
        add("b", FirewallListSource { format: Some(FirewallListFormat::Rpz), ..file("rpz.zone") });
        add("c", file("none.txt"));
        add("d", FirewallListSource { url: Some("https://other.example/".into()), ..FirewallListSource::default() });
        let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
        let snapshot = |node: Node| compile(&loaded, &Arc::new(node), None).unwrap().0;
        let problems = check(&snapshot(Node::default()), &directory, Some(&["lists.example".into()]));
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(texts.len(), 8, "{texts:#?}");
        assert!(texts[0].contains("bad.txt:2:1") && texts[0].contains("a URL or a path"), "{texts:#?}");
        assert!(texts[4].contains("bad.txt:6:1") && texts[4].contains("2 more lines"), "{texts:#?}");
        assert!(
            texts[5].contains("1 NSDNAME entries apply only with `internet_resolver: {recursive: true}`"),
            "{texts:#?}"
        );
        assert!(texts[6].contains("none.txt: No such file"), "{texts:#?}");
        assert!(texts[7].contains("firewall.allow_sources"), "{texts:#?}");
        assert!(problems.iter().all(|problem| !problem.is_error()));
        assert_eq!(check(&snapshot(Node::default()), &directory, None).len(), 7);
        let internet = Some(Route::new(String::new(), [0].into(), Servers::Recursion).into());
        assert_eq!(check(&snapshot(Node { internet, ..Node::default() }), &directory, None).len(), 6);
        fs::remove_dir_all(directory).unwrap();
    }
}
