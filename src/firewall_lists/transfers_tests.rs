use super::*;
use crate::{
    firewall_lists::{Settings, load::ListsChange},
    manifest::{FirewallListSource, Primary, Record, record_file::RecordWriter},
    snapshot::{Node, Snapshot},
    wire::{query::LookupName, rdata},
};
use arc_swap::ArcSwap;
use std::ops::ControlFlow;

fn record(owner: &str, rtype: &str, data: &str) -> Record {
    let origin = Name::absolute("rpz.example").unwrap();
    let rtype = rdata::type_from_text(rtype).unwrap();
    Record {
        owner: Name::parse(owner.as_bytes(), Some(&origin)).unwrap(),
        rtype,
        ttl: 60,
        rdata: rdata::parse_text(rtype, data, &origin).unwrap(),
        file: 0,
        line: 0,
    }
}

fn zone(records: &[Record]) -> Content {
    let soa = record("@", "SOA", "ns. hostmaster. 1 3600 600 86400 60");
    Content::of(Name::absolute("rpz.example").unwrap(), [&soa].into_iter().chain(records)).unwrap()
}

fn copy(records: &[Record]) -> ZoneCopy {
    ZoneCopy { content: Arc::new(zone(records)), is_expired: false }
}

/// The lists of a manifest with one list, `l`, which is transferred.
fn lists() -> Arc<FirewallLists> {
    let primary = Primary {
        ip: "192.0.2.1".parse().unwrap(),
        port: None,
        tsig_key: None,
        protocol: Default::default(),
        server_name_indication: None,
    };
    let source = FirewallListSource {
        primaries: vec![primary],
        zone: Some(Name::absolute("rpz.example").unwrap()),
        ..FirewallListSource::default()
    };
    let list = FirewallDomainList { source: Some(source), ..FirewallDomainList::default() };
    let mut manifest = crate::manifest::Manifest::default();
    manifest.firewall_domain_lists.insert("l".into(), Arc::new(list));
    let loaded = crate::manifest::Loaded { manifest: Arc::new(manifest), ..Default::default() };
    let snapshot: Snapshot = crate::snapshot::compile(&loaded, &Arc::new(Node::default()), None).unwrap().0;
    FirewallLists::new(Settings::default(), Arc::new(ArcSwap::from_pointee(snapshot))).unwrap()
}

/// Serves a copy. Returns the number of shards' changes that were published.
fn serve(lists: &FirewallLists, copy: ZoneCopy) -> Result<usize, String> {
    let mut published = 0;
    let publish = &mut |change: &mut ListsChange| {
        let snapshot = lists.snapshot.load_full();
        let next = change(&snapshot.firewall_lists)?;
        lists.snapshot.store(Arc::new(snapshot.with_firewall_lists(Arc::new(next))));
        published += 1;
        Ok(())
    };
    lists.serve_copy("l", copy, publish)?;
    Ok(published)
}

/// The entries that hold a name, each with its labels, action and local data.
fn found(lists: &FirewallLists, name: &str) -> Vec<String> {
    let table = lists.snapshot.load().firewall_lists.clone();
    let mut all = Vec::new();
    let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
    table.find(&name, 1, &mut |found| {
        let action = match found.rpz {
            Some(domain_lists::RpzAction::Local(_)) => "local".to_string(),
            other => format!("{other:?}"),
        };
        let mut data: Vec<_> = table.local_data(&found).map(|local| (local.rtype, local.rdata.clone())).collect();
        data.sort();
        all.push(format!("{} {} {action} {data:?}", found.entry_labels, found.below_only));
        ControlFlow::Continue(())
    });
    all.sort();
    all
}

#[test]
fn an_incremental_transfer_leads_to_the_entries_of_the_whole_zone() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n}.bad")).collect();
    // Generated versions: each record is there or not, by a linear congruence.
    let mut random = 12345u64;
    let mut version = || -> Vec<Record> {
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        let mut records = Vec::new();
        for name in &names {
            for owner in [name.clone(), format!("*.{name}")] {
                match next(5) {
                    0 => records.push(record(&owner, "CNAME", ".")),
                    1 => records.push(record(&owner, "CNAME", "rpz-passthru.")),
                    2 => records.push(record(&owner, "A", "192.0.2.1")),
                    3 => {
                        records.push(record(&owner, "A", &format!("192.0.2.{}", next(200))));
                        records.push(record(&owner, "TXT", &format!("t{}", next(5))));
                    }
                    _ => {}
                }
            }
        }
        records
    };
    let followed = lists();
    serve(&followed, copy(&version())).unwrap();
    for _ in 0..20 {
        let records = version();
        assert_eq!(serve(&followed, copy(&records)).unwrap(), 1);
        let fresh = lists();
        serve(&fresh, copy(&records)).unwrap();
        for name in names.iter().flat_map(|name| [name.clone(), format!("x.{name}")]) {
            assert_eq!(found(&followed, &name), found(&fresh, &name), "{name}");
        }
        let entries = |lists: &FirewallLists| lists.report()[0].entries;
        assert_eq!(entries(&followed), entries(&fresh));
    }
}

#[test]
fn records_in_a_file_lead_to_the_same_entries() {
    let records = [
        record("gone", "CNAME", "."),
        record("*.Data", "A", "192.0.2.1"),
        record("*.data", "A", "192.0.2.2"),
        record("24.0.2.0.192.rpz-ip", "CNAME", "."),
    ];
    let mut writer = RecordWriter::new(std::env::temp_dir());
    records.iter().for_each(|record| writer.add(record));
    let soa = record("@", "SOA", "ns. hostmaster. 1 3600 600 86400 60");
    let content = Content::in_file(Name::absolute("rpz.example").unwrap(), &soa, writer.finish().unwrap()).unwrap();
    let (in_file, in_memory) = (lists(), lists());
    serve(&in_file, ZoneCopy { content: Arc::new(content), is_expired: false }).unwrap();
    serve(&in_memory, copy(&records)).unwrap();
    for name in ["gone", "x.data", "data"] {
        assert_eq!(found(&in_file, name), found(&in_memory, name), "{name}");
    }
    assert_eq!(in_file.report()[0].entries, 4);
    // The next version replaces all of them, whether it is in memory or in a file.
    serve(&in_file, copy(&records[..1])).unwrap();
    assert_eq!((found(&in_file, "gone").len(), found(&in_file, "x.data").len()), (1, 0));
}

#[test]
fn addresses_follow_transfers_too() {
    let lists = lists();
    let blocks = |lists: &FirewallLists| {
        let table = lists.snapshot.load().firewall_lists.clone();
        let block =
            |address: &str| table.answer_address(0, address.parse().unwrap()).map(|entry| entry.block.to_string());
        (block("192.0.2.9"), block("198.51.100.9"))
    };
    serve(&lists, copy(&[record("24.0.2.0.192.rpz-ip", "CNAME", ".")])).unwrap();
    assert_eq!(blocks(&lists), (Some("192.0.2.0/24".into()), None));
    serve(&lists, copy(&[record("24.0.100.51.198.rpz-ip", "CNAME", ".")])).unwrap();
    assert_eq!(blocks(&lists), (None, Some("198.51.100.0/24".into())));
}

#[test]
fn an_expired_list_is_served_again_when_a_primary_confirms_it() {
    let lists = lists();
    let state = |lists: &FirewallLists| lists.snapshot.load().firewall_lists.state(0);
    let current = copy(&[record("bad", "CNAME", ".")]);
    serve(&lists, current.clone()).unwrap();
    assert_eq!((state(&lists), found(&lists, "bad").len()), (ListState::Loaded, 1));
    serve(&lists, ZoneCopy { is_expired: true, ..current.clone() }).unwrap();
    assert_eq!(state(&lists), ListState::Expired);
    serve(&lists, current).unwrap();
    assert_eq!((state(&lists), found(&lists, "bad").len()), (ListState::Loaded, 1));
}
