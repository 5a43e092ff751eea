//! Rewriting the source of a zone after a dynamic update: its resource, and its master file.

use super::{MasterFile, PrivateHostedZone, ResourceRecordSet, overlay::EditedSet, record_sets::SetKey};
use crate::wire::{
    Name,
    rdata::{self, type_to_text},
};
use std::{collections::HashMap, fmt::Write, sync::Arc};

/// The resource of a zone after an update, and the text of its master file if that changes. A
/// record set that is in the file stays in the file; all others are in `records`.
///
/// # Errors
///
/// The reason why the source cannot be rewritten.
pub fn rewrite(
    zone: &PrivateHostedZone,
    file: Option<&MasterFile>,
    sets: &[EditedSet],
) -> Result<(PrivateHostedZone, Option<String>), String> {
    let edited: HashMap<SetKey, usize> =
        sets.iter().zip(0..).map(|(set, at)| ((set.owner.clone(), set.rtype), at)).collect();
    let edited_at = |owner: Name, rtype: u16| edited.get(&(owner, rtype)).copied();
    let mut is_in_file = vec![false; sets.len()];
    for record in file.into_iter().flat_map(|file| &file.records) {
        edited_at(record.owner.clone(), record.rtype).into_iter().for_each(|at| is_in_file[at] = true);
    }
    // The next version of the zone shares the index, so only the first update of a zone looks at all of its sets.
    zone.records.index(&zone.name);
    let mut changed = zone.clone();
    for (set, is_in_file) in sets.iter().zip(&is_in_file) {
        let is_due = !is_in_file && !set.values.is_empty();
        let mut written = is_due.then(|| Arc::new(record_set(set)));
        // A set stays at its position, so that two versions of the resource differ in the changed sets only.
        for old in changed.records.of_key(&zone.name, &(set.owner.clone(), set.rtype)) {
            changed.records.replace(Some(&old), written.take());
        }
        if written.is_some() {
            changed.records.replace(None, written);
        }
    }
    let in_file: Vec<&EditedSet> = sets.iter().zip(is_in_file).filter(|(_, is)| *is).map(|(set, _)| set).collect();
    let Some(file) = file.filter(|_| !in_file.is_empty()) else { return Ok((changed, None)) };
    if file.files.len() > 1 {
        return Err("the zone's master file includes other files, so that zonal cannot rewrite it".into());
    }
    let mut written = String::new();
    let mut line = |owner: &Name, ttl: u32, rtype: u16, value: &[u8]| {
        let _ = writeln!(written, "{owner} {ttl} IN {} {}", type_to_text(rtype), text(rtype, value));
    };
    for record in &file.records {
        if edited_at(record.owner.clone(), record.rtype).is_none() {
            line(&record.owner, record.ttl, record.rtype, &record.rdata);
        }
    }
    for set in in_file {
        set.values.iter().for_each(|value| line(&set.owner, set.ttl, set.rtype, value));
    }
    Ok((changed, Some(written)))
}

fn record_set(set: &EditedSet) -> ResourceRecordSet {
    ResourceRecordSet {
        name: set.owner.to_string(),
        record_type: type_to_text(set.rtype).into(),
        ttl: Some(set.ttl),
        records: set.values.iter().map(|value| text(set.rtype, value)).collect(),
        ..ResourceRecordSet::default()
    }
}

/// Record data as text, in the format of master files and of `records`.
pub fn text(rtype: u16, value: &[u8]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = rdata::write(&mut text, rtype, value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::master;
    use std::path::Path;

    fn name(text: &str) -> Name {
        Name::absolute(text).unwrap()
    }

    #[test]
    fn rewrites_each_set_in_its_source() {
        let zone: PrivateHostedZone = serde_json::from_value(serde_json::json!({
            "name": "corp.example", "vpc_ids": [], "file": "corp.zone",
            "records": [
                {"name": "a", "type": "A", "ttl": 5, "records": ["192.0.2.1"]},
                {"name": "b", "type": "A", "records": ["192.0.2.1"]},
            ],
        }))
        .unwrap();
        let master = "@ 60 SOA ns hostmaster 7 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.9\nns 60 TXT \"a;b\" c\n";
        let mut opener = |_: &Path| Ok(master.as_bytes().to_vec());
        let (file, problems) = master::read(&mut opener, Path::new("corp.zone"), &zone.name, "Z");
        assert!(problems.is_empty());
        let set = |owner: &str, values: &[[u8; 4]]| EditedSet {
            owner: name(owner),
            rtype: 1,
            ttl: 9,
            values: values.iter().map(|value| value[..].into()).collect(),
        };
        let (changed, text) =
            rewrite(&zone, Some(&file), &[set("A.corp.example", &[[192, 0, 2, 2], [192, 0, 2, 3]])]).unwrap();
        assert_eq!((changed.records.len(), text), (2, None));
        assert_eq!(changed.records.iter().next().unwrap().records, ["192.0.2.2", "192.0.2.3"], "it stays where it was");

        let (changed, text) =
            rewrite(&zone, Some(&file), &[set("ns.corp.example", &[]), set("b.corp.example", &[])]).unwrap();
        assert_eq!(changed.records.len(), 1);
        assert_eq!(
            text.unwrap(),
            "corp.example. 60 IN SOA ns.corp.example. hostmaster.corp.example. 7 1 1 1 1\ncorp.example. 60 IN NS \
             ns.corp.example.\nns.corp.example. 60 IN TXT \"a;b\" \"c\"\n"
        );
        let included = MasterFile { files: vec![Path::new("a").into(), Path::new("b").into()], ..file };
        assert!(rewrite(&zone, Some(&included), &[set("ns.corp.example", &[])]).is_err());
        assert!(rewrite(&zone, Some(&included), &[set("c.corp.example", &[])]).is_ok());
    }
}
