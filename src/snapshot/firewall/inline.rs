//! The lists of a manifest, and the names that are written in it.
//!
//! A list with a source has the names that were read from it last. The control plane replaces these.

use super::table::{Batch, Detail, Entry, Extent, ListData, ListState, Lists, Scope, TooManyNames};
use crate::manifest::{DomainSpecification, FirewallDomainList, Manifest, changes};
use std::sync::Arc;

/// The lists of `manifest`, from those of the manifest `before`.
pub fn recompile(lists: &Arc<Lists>, before: &Manifest, manifest: &Manifest) -> Arc<Lists> {
    let changes = changes(&before.firewall_domain_lists, &manifest.firewall_domain_lists);
    if changes.is_empty() {
        return lists.clone();
    }
    let mut lists = lists.with_ids(manifest.firewall_domain_lists.keys());
    for change in changes {
        let Some((new, number)) = change.new.zip(lists.number(change.id)) else { continue };
        if let Ok(changed) = with_list(&lists, number, change.old.map(Arc::as_ref), new) {
            lists = changed;
        }
    }
    Arc::new(lists)
}

/// These lists with the names that a list has in the manifest.
fn with_list(
    lists: &Lists,
    number: u32,
    old: Option<&FirewallDomainList>,
    new: &FirewallDomainList,
) -> Result<Lists, TooManyNames> {
    if new.source.is_some() {
        // Names from another source are not those of this one.
        if old.is_none_or(|old| old.source == new.source) {
            return Ok(lists.clone());
        }
        let mut lists = lists.with_batch(&mut Batch::new(number, Extent::ALL, 0))?;
        lists.set_state(number, ListState::Missing);
        lists.set_data(number, Arc::default());
        return Ok(lists);
    }
    let is_inline = old.is_some_and(|old| old.source.is_none());
    let extent = if is_inline || old.is_none() { Extent::Names } else { Extent::ALL };
    let mut batch = Batch::new(number, extent, new.domains.len() as u64);
    let mut octets = Vec::new();
    for domain in old.filter(|_| is_inline).iter().flat_map(|old| &old.domains) {
        lower(domain, &mut octets);
        batch.remove(&octets);
    }
    for (line, domain) in (1..).zip(&new.domains) {
        lower(domain, &mut octets);
        let scope = match (domain.is_all(), domain.below_only) {
            (true, _) => Scope::ExactAndBelow,
            (false, true) => Scope::Below,
            (false, false) => Scope::Exact,
        };
        batch.add(&Entry { name: &octets, scope, line, detail: Detail::Plain });
    }
    let mut lists = lists.with_batch(&mut batch)?;
    lists.set_state(number, ListState::Loaded);
    lists.set_data(number, Arc::new(ListData::default()));
    Ok(lists)
}

fn lower(domain: &DomainSpecification, octets: &mut Vec<u8>) {
    octets.clear();
    octets.extend_from_slice(domain.name.as_wire());
    octets.make_ascii_lowercase();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::FirewallListSource,
        wire::{Name, query::LookupName},
    };
    use std::ops::ControlFlow;

    fn manifest(lists: &[(&str, &[&str])]) -> Manifest {
        let mut manifest = Manifest::default();
        for (id, domains) in lists {
            let domains = domains.iter().map(|domain| DomainSpecification::parse(domain).unwrap()).collect();
            let list = FirewallDomainList { domains, ..FirewallDomainList::default() };
            manifest.firewall_domain_lists.insert(id.to_string(), Arc::new(list));
        }
        manifest
    }

    fn lines(lists: &Lists, name: &str) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
        lists.find(&name, 1, &mut |found| {
            all.push((lists.id(found.list).unwrap().to_string(), found.line));
            ControlFlow::Continue(())
        });
        all
    }

    #[test]
    fn names_of_the_manifest_follow_its_changes() {
        let first = manifest(&[("a", &["bad.example", "*.worse.example"]), ("b", &["*"])]);
        let lists = recompile(&Arc::default(), &Manifest::default(), &first);
        let of = |id: &str, line| (id.to_string(), line);
        assert_eq!(lines(&lists, "bad.example"), [of("a", 1), of("b", 1)]);
        assert_eq!(lines(&lists, "x.bad.example"), [of("b", 1)]);
        assert_eq!(lines(&lists, "x.WORSE.example"), [of("a", 2), of("b", 1)]);
        assert_eq!(lines(&lists, "worse.example"), [of("b", 1)]);
        assert_eq!(lines(&lists, "."), [of("b", 1)]);
        assert!((0..2).all(|number| lists.state(number) == ListState::Loaded));
        assert!(Arc::ptr_eq(&recompile(&lists, &first, &first), &lists));

        let second = manifest(&[("a", &["Worst.example", "bad.example"])]);
        let lists = recompile(&lists, &first, &second);
        assert_eq!(lines(&lists, "bad.example"), [of("a", 2)]);
        assert_eq!(lines(&lists, "worst.example"), [of("a", 1)]);
        assert_eq!(lines(&lists, "x.worse.example"), []);
    }

    #[test]
    fn a_list_with_another_source_loses_its_names() {
        let inline = manifest(&[("a", &["bad.example"])]);
        let mut sourced = inline.clone();
        let source = |url: &str| FirewallListSource { url: Some(url.into()), ..FirewallListSource::default() };
        let list = |url| FirewallDomainList { source: Some(source(url)), ..FirewallDomainList::default() };
        sourced.firewall_domain_lists.insert("a".into(), Arc::new(list("https://a.example/")));
        let lists = recompile(&Arc::default(), &Manifest::default(), &inline);
        let lists = recompile(&lists, &inline, &sourced);
        assert_eq!((lists.len(), lists.state(0)), (0, ListState::Missing));

        let mut loaded = (*lists).clone();
        loaded.set_state(0, ListState::Loaded);
        let mut renamed = (**sourced.firewall_domain_lists.get("a").unwrap()).clone();
        renamed.name = Some("other".into());
        let mut same = sourced.clone();
        same.firewall_domain_lists.insert("a".into(), Arc::new(renamed));
        let lists = recompile(&Arc::new(loaded), &sourced, &same);
        assert_eq!(lists.state(0), ListState::Loaded);
        let lists = recompile(&lists, &same, &inline);
        assert_eq!(lines(&lists, "bad.example").len(), 1);
    }
}
