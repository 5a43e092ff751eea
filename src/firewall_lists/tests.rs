use super::*;
use crate::{
    manifest::Loaded,
    snapshot::{Node, compile},
};
use arc_swap::ArcSwap;
use load::ListsChange;

/// Lists of a manifest with one list, `l`, from a URL.
fn lists(source: FirewallListSource) -> Arc<FirewallLists> {
    let list = FirewallDomainList { source: Some(source), ..FirewallDomainList::default() };
    let mut manifest = Manifest::default();
    manifest.firewall_domain_lists.insert("l".into(), Arc::new(list));
    let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
    let snapshot = compile(&loaded, &Arc::new(Node::default()), None).unwrap().0;
    FirewallLists::new(Settings::default(), Arc::new(ArcSwap::from_pointee(snapshot))).unwrap()
}

fn url(expires_after: Option<u32>) -> FirewallListSource {
    FirewallListSource { url: Some("https://lists.example/".into()), expires_after, ..FirewallListSource::default() }
}

/// Does something with a function that publishes at once.
fn publishing<R>(lists: &FirewallLists, work: impl FnOnce(&mut Publish) -> R) -> R {
    work(&mut |change: &mut ListsChange| {
        let snapshot = lists.snapshot.load_full();
        let next = change(&snapshot.firewall_lists)?;
        lists.snapshot.store(Arc::new(snapshot.with_firewall_lists(Arc::new(next))));
        Ok(())
    })
}

fn sourced(lists: &FirewallLists) -> Sourced {
    lists.changed(&Manifest::default(), &lists.snapshot.load().manifest).0.remove(0)
}

#[test]
fn a_list_expires_when_its_source_is_silent_for_too_long() {
    let lists = lists(url(Some(100)));
    let list = sourced(&lists);
    let expire = |lists: &FirewallLists| publishing(lists, |publish| lists.expire_if_due(&list, publish));
    publishing(&lists, |publish| lists.set_state("l", ListState::Missing, ListState::Loaded, publish));
    expire(&lists);
    assert_eq!(lists.state_of("l"), ListState::Loaded, "nothing is known about its age");
    lists.confirmed("l", now() - 50);
    expire(&lists);
    assert_eq!(lists.state_of("l"), ListState::Loaded);
    assert_eq!(lists.report()[0].expires, Some(lists.report()[0].confirmed.unwrap() + 100));
    lists.confirmed("l", now() - 101);
    expire(&lists);
    assert_eq!(lists.state_of("l"), ListState::Expired);
    assert_eq!(lists.report()[0].state, FirewallListState::Expired);
}

#[test]
fn only_a_directory_of_manifests_names_files() {
    let file = FirewallListSource { file: Some("a.txt".into()), ..FirewallListSource::default() };
    let lists = lists(file);
    let list = sourced(&lists);
    assert!(matches!(list.place, Place::Nowhere(_)), "{list:?}");
    publishing(&lists, |publish| lists.load_at_start(&list, publish));
    assert!(lists.report()[0].error.as_ref().unwrap().contains("control_plane.directory"));
    assert_eq!(lists.report()[0].state, FirewallListState::Missing);
}

#[test]
fn an_equal_source_is_no_change() {
    let lists = lists(url(None));
    let manifest = lists.snapshot.load().manifest.clone();
    let with = |source: FirewallListSource| {
        let mut other = (*manifest).clone();
        let list = FirewallDomainList { source: Some(source), ..FirewallDomainList::default() };
        other.firewall_domain_lists.insert("l".into(), Arc::new(list));
        other
    };
    assert!(lists.changed(&manifest, &with(url(None))).0.is_empty());
    assert_eq!(lists.changed(&manifest, &with(url(Some(60)))).0.len(), 1);
    assert_eq!(lists.changed(&manifest, &Manifest::default()).1, ["l"]);
}
