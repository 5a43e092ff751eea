use super::*;
use crate::{
    config::OnError,
    control_plane::{
        change::{Change, Position, ZoneUpdate},
        current::empty_snapshot,
        publisher::Publisher,
    },
    snapshot::published::Published,
};
use arc_swap::ArcSwap;
use tokio::sync::oneshot;

#[test]
fn escapes_identifiers_in_file_names() {
    for id in ["Z0CORP", "a/b", "..", "ä %41", ""] {
        let file = file_of(id);
        assert!(!file.contains('/') && !file.starts_with('.') || id.is_empty(), "{file}");
        assert_eq!(id_of(&file).as_deref(), Some(id), "{file}");
    }
    assert_eq!(id_of("a.damaged"), None);
}

/// Updates change the resources that were pushed, and the next push builds on them.
#[test]
fn writes_updates_into_pushed_resources() {
    let node = Arc::default();
    let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
    let mut publisher = Publisher::new(snapshot.clone(), node, Arc::default(), OnError::Refuse, None);
    publisher.set_updates(UpdateStorage::Pushed, Overlays::default(), None);
    let push = |kind: &str, id: &str, text: &str| Edit {
        key: Key::new(kind, id).unwrap(),
        value: Some(text.as_bytes().into()),
    };
    let zone = r#"{"name": "z.example", "vpc_ids": [], "file": "z.zone", "allow_update": [{"tsig_key": "k"}]}"#;
    let master = "@ 60 SOA ns h 7 1 1 1 60\n@ 60 NS ns\nns 60 A 10.0.0.1\n";
    let edits = vec![push("private_hosted_zones", "Z", zone), push(MASTER_FILES, "z.zone", master)];
    let position = Position { revision: 5, ..Position::default() };
    publisher.apply(vec![Change::fact(edits, position)]);
    let set = |owner: &str, values: &[[u8; 4]]| EditedSet {
        owner: Name::absolute(owner).unwrap(),
        rtype: 1,
        ttl: 30,
        values: values.iter().map(|value| value[..].into()).collect(),
    };
    let mut edit = |sets: Vec<EditedSet>| {
        let (reply, mut answer) = oneshot::channel();
        publisher.update_zone(ZoneUpdate { zone: "Z".into(), compute: Box::new(move |_| Ok(sets.clone())), reply });
        let (collection, position) = (publisher.delivered.0.clone(), publisher.position().revision);
        (answer.try_recv().unwrap(), collection, position)
    };
    let (result, collection, revision) =
        edit(vec![set("new.z.example", &[[10, 0, 0, 9]]), set("ns.z.example", &[[10, 0, 0, 2]])]);
    assert_eq!((result, revision), (Ok(2), 6));
    let text = |kind: &str, id: &str| {
        String::from_utf8(collection.text(&Key::new(kind, id).unwrap()).unwrap().to_vec()).unwrap()
    };
    assert!(text("private_hosted_zones", "Z").contains("new.z.example."));
    assert!(text(MASTER_FILES, "z.zone").contains("ns.z.example. 30 IN A 10.0.0.2"));
    let snapshot = snapshot.load();
    let zone = snapshot.zone("Z").unwrap();
    assert_eq!(zone.serial(), 8);
    assert!(zone.node_of(Name::absolute("new.z.example").unwrap().as_wire()).is_some());
    // An update with errors is refused, and changes nothing.
    let cname = EditedSet { rtype: 5, values: vec![b"\0"[..].into()], ..set("new.z.example", &[]) };
    let (result, _, revision) = edit(vec![cname]);
    assert!(matches!(result, Err(UpdateError::Refused(why)) if why.contains("CNAME")));
    assert_eq!(revision, 6);
    assert_eq!(edit(Vec::new()).0, Ok(0));
}
