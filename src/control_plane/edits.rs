//! What dynamic updates change, and where it is kept: in what was pushed, or in journals of the node, beside files that are
//! not ours to write.

use super::{
    change::{Change, JournalDrop, Position, Ready, Refusal, Rejected, ZoneEdit},
    keeper::{Keeper, Loading, retire},
    lines::{Lines, copy_of, sync_directory},
};
use crate::{
    manifest::{
        Id, Loaded, Loader, MasterFile, Problem, ZoneData,
        collection::{Aside, Collection, Edit, Key, MASTER_FILES, Served},
        load::{Due, Extent},
        overlay::{self, EditedSet, Overlay, Overlays, digest_with},
        rewrite::{rewrite, text},
    },
    snapshot::{self, zone::Serial, zones::Serials},
    wire::{
        Name,
        rdata::{parse_text, type_from_text, type_to_text},
    },
};
use anyhow::Context;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tokio::sync::oneshot;

/// The directory of journals in the state directory.
const UPDATES: &str = "updates";
/// A journal is written anew when it is longer than this, in octets, and mostly of what was overwritten since.
const LEAST_JOURNAL: u64 = 1 << 20;

/// Where updates are kept.
#[derive(Default)]
pub enum Edits {
    /// Nowhere: they are refused, for this reason.
    #[default]
    Nowhere,
    /// In what was pushed.
    Pushed,
    /// In journals.
    Journals(Journals),
}

/// The journals of a node: what updates have made of zones, and what serials zones had.
#[derive(Debug)]
pub struct Journals {
    directory: PathBuf,
    open: BTreeMap<Id, (Lines, usize)>,
}

/// A set in a journal.
#[derive(Debug, Serialize, Deserialize)]
struct Item {
    name: String,
    r#type: String,
    ttl: u32,
    records: Vec<String>,
}

impl Item {
    fn new(set: &EditedSet) -> Item {
        Item {
            name: set.owner.to_string(),
            r#type: type_to_text(set.rtype).into(),
            ttl: set.ttl,
            records: set.values.iter().map(|value| text(set.rtype, value)).collect(),
        }
    }

    fn set(&self) -> Option<EditedSet> {
        let rtype = type_from_text(&self.r#type)?;
        let values = self.records.iter().map(|value| parse_text(rtype, value, &Name::root()).ok());
        let owner = Name::absolute(&self.name).ok()?;
        Some(EditedSet { owner, rtype, ttl: self.ttl, values: values.collect::<Option<_>>()? })
    }
}

/// The file of a zone's journal: identifiers may be of any characters.
fn file_of(id: &str) -> String {
    let mut file = String::new();
    for octet in id.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file.push(octet.into()),
            _ => file += &format!("%{octet:02x}"),
        }
    }
    file + ".journal"
}

fn id_of(file: &str) -> Option<Id> {
    let mut octets = Vec::new();
    let mut rest = file.strip_suffix(".journal")?.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                octets.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?);
                tail
            }
            _ => {
                octets.push(*first);
                tail
            }
        };
    }
    String::from_utf8(octets).ok()
}

impl Journals {
    /// Opens the journals in a state directory, and reads what they hold.
    pub fn open(state_directory: &Path) -> anyhow::Result<(Journals, Overlays)> {
        let directory = state_directory.join(UPDATES);
        let told = || format!("cannot use {}: check `state_directory`", directory.display());
        fs::create_dir_all(&directory).with_context(told)?;
        let (mut open, mut overlays) = (BTreeMap::new(), Overlays::new());
        for entry in fs::read_dir(&directory).with_context(told)? {
            let file = entry.with_context(told)?.file_name();
            let Some(id) = file.to_str().and_then(id_of) else { continue };
            let (lines, entries) = Lines::open::<Vec<Item>>(&directory.join(&file))?;
            let mut overlay = Overlay::default();
            for item in entries.iter().flatten() {
                match item.set() {
                    Some(set) => overlay.add(&[set]),
                    None => tracing::error!("an update of {} {} in {file:?} cannot be read", item.name, item.r#type),
                }
            }
            open.insert(id.clone(), (lines, entries.len()));
            overlays.insert(id, Arc::new(overlay));
        }
        Ok((Journals { directory, open }, overlays))
    }

    /// The copies of journals that were damaged.
    fn damaged_copies(&self) -> impl Iterator<Item = PathBuf> {
        self.open.values().filter_map(|(lines, _)| lines.damaged_copy())
    }

    /// Reads the journals in a state directory, and leaves them as they are.
    pub fn read(state_directory: &Path) -> io::Result<Overlays> {
        let mut overlays = Overlays::new();
        let entries = match fs::read_dir(state_directory.join(UPDATES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(overlays),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|file| id_of(file.to_str()?)) else { continue };
            let sets: Vec<EditedSet> =
                Lines::read::<Vec<Item>>(&path)?.iter().flatten().filter_map(Item::set).collect();
            let mut overlay = Overlay::default();
            overlay.add(&sets);
            if !overlay.is_empty() {
                overlays.insert(id, Arc::new(overlay));
            }
        }
        Ok(overlays)
    }

    /// Removes a zone's journal from a state directory that no server uses.
    pub fn remove_file(state_directory: &Path, id: &str) -> io::Result<()> {
        let journal = state_directory.join(UPDATES).join(file_of(id));
        remove(&copy_of(&journal)).and_then(|()| remove(&journal))
    }

    /// Adds what an update has made; `overlays` are with it.
    fn add(&mut self, id: &str, sets: &[EditedSet], overlays: &Overlays) -> anyhow::Result<()> {
        for (id, (lines, count)) in &mut self.open {
            if let Some(overlay) = overlays.get(id).filter(|_| !lines.is_there()) {
                // Somebody has removed it.
                lines.replace(overlay.sets().map(|set| vec![Item::new(set)]))?;
                *count = overlay.len();
            }
        }
        let (lines, count) = match self.open.entry(id.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (lines, _) = Lines::open::<Vec<Item>>(&self.directory.join(file_of(id)))?;
                entry.insert((lines, 0))
            }
        };
        lines.add([sets.iter().map(Item::new).collect::<Vec<_>>()].iter())?;
        *count += 1;
        if let Some(overlay) = overlays.get(id)
            && lines.octets() > LEAST_JOURNAL
            && *count > 2 * overlay.len()
        {
            lines.replace(overlay.sets().map(|set| vec![Item::new(set)]))?;
            *count = overlay.len();
        }
        Ok(())
    }
}

/// A journal for those who read: what updates have made of a zone.
pub fn told(id: &str, name: Option<&Name>, overlay: &Overlay) -> Value {
    let sets: Vec<Item> = overlay.sets().map(Item::new).collect();
    json!({"zone": id, "name": name.map(Name::to_string), "sets": sets})
}

/// Where the serials of zones are kept, for the next start.
#[derive(Debug)]
pub struct KeptSerials {
    lines: Lines,
    count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct SerialItem {
    zone: Id,
    serial: u32,
    digest: String,
}

impl KeptSerials {
    /// Opens the file in a state directory, and reads what it holds.
    pub fn open(state_directory: &Path) -> anyhow::Result<(KeptSerials, Serials)> {
        let (lines, entries) = Lines::open::<SerialItem>(&state_directory.join("serials"))?;
        let count = entries.len();
        let serials = entries.into_iter().map(|item| {
            // A digest that is none leads to a serial that is one higher.
            let digest = HEXLOWER.decode(item.digest.as_bytes()).unwrap_or_default().try_into().unwrap_or_default();
            (item.zone, Serial { number: item.serial, digest })
        });
        Ok((KeptSerials { lines, count }, Arc::new(serials.collect())))
    }

    /// Keeps what has changed. It is on the disk when this returns.
    pub(super) fn keep(&mut self, old: &Serials, new: &Serials) {
        let item = |(id, serial): (&Id, &Serial)| SerialItem {
            zone: id.clone(),
            serial: serial.number,
            digest: HEXLOWER.encode(&serial.digest),
        };
        let changed = || new.iter().filter(|(id, serial)| old.get(*id) != Some(serial));
        self.count += changed().count();
        let kept = match self.count > 2 * new.len() + 1000 || !self.lines.is_there() {
            false => self.lines.add(changed().map(item)),
            true => {
                self.count = new.len();
                self.lines.replace(new.iter().map(item))
            }
        };
        if let Err(error) = kept {
            tracing::error!("the serials of zones cannot be kept in the state directory: {error}");
        }
    }
}

/// Removes a journal. It is gone from the disk when this returns.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(path),
    }
}

impl Keeper {
    /// Takes what updates have made of zones, and where that is kept. If some of it was lost, what is served is stale until
    /// somebody has removed the copies of the damaged files.
    pub fn take_edits(&mut self, edits: Edits, overlays: Overlays, serials: Option<KeptSerials>) {
        self.damaged = serials.iter().filter_map(|serials| serials.lines.damaged_copy()).collect();
        if let Edits::Journals(journals) = &edits {
            self.damaged.extend(journals.damaged_copies());
        }
        (self.edits, self.overlays, self.serials) = (edits, overlays, serials);
    }

    /// Drops what updates have made of a zone: it is served as its files have it. If these have errors, the journal stays.
    pub fn drop_journal(&mut self, drop: JournalDrop, loader: Option<&mut Loader>) {
        let result = match (loader, &self.edits) {
            (Some(loader), Edits::Journals(_)) => self.serve_without_journal(&drop.zone, loader),
            _ => Err("updates of zones are not kept in journals here".into()),
        };
        // Who has gone away asks again.
        let _ = drop.reply.send(result);
    }

    fn serve_without_journal(&mut self, id: &str, loader: &mut Loader) -> Result<usize, String> {
        let before = (self.overlays.clone(), self.loaded_digest);
        let overlay = self.overlays.remove(id).ok_or("there is no journal for the zone")?;
        // The files are what they were, and are read all the same: what they say of the zone is known nowhere else.
        self.loaded_digest = Default::default();
        self.served.read_again(id);
        let due = Due { extent: Extent::Anew, ..Due::default() };
        if let Loading::Failed(problems) = self.load(loader, &due, false) {
            (self.overlays, self.loaded_digest) = before;
            let why = problems.iter().find(|problem| problem.is_error()).map_or(String::new(), Problem::to_string);
            return Err(format!("the journal stays, as the files have errors: {why}"));
        }
        if let Edits::Journals(journals) = &mut self.edits {
            journals.open.remove(id);
            let journal = journals.directory.join(file_of(id));
            let removed = remove(&copy_of(&journal)).and_then(|()| remove(&journal));
            removed.map_err(|error| format!("the files are served, but the journal comes back: {error}"))?;
        }
        let served = self.snapshot.load_full();
        if served.is_stale {
            // That was because of this journal, or is still so.
            self.swap(served.with_stale(false));
        }
        tracing::info!(zone = id, record_sets = overlay.len(), "what dynamic updates had made of a zone is dropped");
        Ok(overlay.len())
    }

    /// Makes an update of a zone: all of it, or nothing. Who is told that it is made is told so when it is served.
    pub fn edit(&mut self, edit: ZoneEdit) {
        let sets = match self.snapshot.load().zone(&edit.zone) {
            Some(zone) => (edit.make)(zone),
            None => Err(Rejected::Failed("the zone is gone".into())),
        };
        let result = sets.and_then(|sets| match sets.is_empty() {
            true => Ok(0),
            false => self.write(&edit.zone, &sets).map(|()| sets.len()),
        });
        // Who has gone away asks again.
        let _ = edit.reply.send(result);
    }

    fn write(&mut self, id: &str, sets: &[EditedSet]) -> Result<(), Rejected> {
        match std::mem::take(&mut self.edits) {
            Edits::Nowhere => {
                let why = "without a `state_directory` there is nowhere to keep it";
                Err(Rejected::Refused(why.into()))
            }
            Edits::Pushed => {
                self.edits = Edits::Pushed;
                self.write_pushed(id, sets)
            }
            Edits::Journals(mut journals) => {
                let result = self.write_journal(id, sets, &mut journals);
                self.edits = Edits::Journals(journals);
                result
            }
        }
    }

    fn write_journal(&mut self, id: &str, sets: &[EditedSet], journals: &mut Journals) -> Result<(), Rejected> {
        let started = Instant::now();
        let previous = self.snapshot.load_full();
        let mut overlay = self.overlays.get(id).map_or_else(Overlay::default, |overlay| (**overlay).clone());
        overlay.add(sets);
        if overlay.octets() > overlay::MAX_OCTETS {
            let most = overlay::MAX_OCTETS >> 20;
            return Err(Rejected::Refused(format!(
                "what updates have made of the zone would take more than {most} MiB"
            )));
        }
        let overlays = self.overlays.update(id.into(), Arc::new(overlay));
        let loaded = Loaded {
            manifest: self.served.manifest.clone(),
            digest: digest_with(self.loaded_digest, &overlays),
            overlays: overlays.clone(),
            ..Loaded::default()
        };
        let loaded = self.complete(loaded, &previous);
        let (mut snapshot, _) =
            snapshot::compile(&loaded, &self.node, Some(&previous)).map_err(|problems| refused(&problems))?;
        journals.add(id, sets, &overlays).map_err(|error| Rejected::Failed(format!("{error:#}")))?;
        self.overlays = overlays;
        snapshot.is_stale = previous.is_stale;
        snapshot.generation = snapshot.generation.max(self.kept.generation + 1);
        let (generation, digest) = (snapshot.generation, HEXLOWER.encode(&snapshot.digest));
        self.swap(snapshot);
        // What went wrong is told.
        let _ = self.keep(false);
        tracing::info!(generation, digest, elapsed = ?started.elapsed(), "updated");
        retire(previous);
        Ok(())
    }

    fn write_pushed(&mut self, id: &str, sets: &[EditedSet]) -> Result<(), Rejected> {
        let collection = &self.delivered.0;
        let delivered = collection.manifest().private_hosted_zones.get(id);
        if delivered != self.served.manifest.private_hosted_zones.get(id)
            || self.kept.aside.keys().any(|key| key.kind == "private_hosted_zones" && key.id == id)
        {
            return Err(Rejected::Failed(
                "what was pushed of the zone has errors, and an older version is served".into(),
            ));
        }
        let edits = edits_of(collection, id, sets).map_err(Rejected::Refused)?;
        let prepare = move |_: &Collection, position: &Position| {
            let position = Position { revision: position.revision + 1, ..position.clone() };
            Ok(Ready { edits: edits.clone(), position, deletions: None, is_whole: false })
        };
        let (reply, mut answer) = oneshot::channel();
        let change = Change {
            prepare: Box::new(prepare),
            is_fact: false,
            dry_run: false,
            since: Instant::now(),
            reply: Some(reply),
        };
        self.take(vec![change]);
        match answer.try_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Refusal::Problems(problems))) => Err(refused(&problems)),
            Ok(Err(refusal)) => Err(Rejected::Failed(refusal.to_string())),
            Err(_) => Err(Rejected::Failed("the server ends".into())),
        }
    }
}

/// What becomes of a zone and its master file in a collection. An error says why they cannot be written.
pub fn edits_of(collection: &Collection, id: &str, sets: &[EditedSet]) -> Result<Vec<Edit>, String> {
    let zones = &collection.manifest().private_hosted_zones;
    let zone = zones.get(id).ok_or("the zone is gone")?;
    let data = master_file(collection, id)?;
    let (changed, text) = rewrite(zone, data.as_ref(), sets)?;
    let mut edits = Vec::new();
    let key = |kind: &'static str, id: &str| Key { kind, id: id.into() };
    if changed != **zone {
        let json = serde_json::to_vec(&changed).map_err(|error| error.to_string())?;
        edits.push(Edit { key: key("private_hosted_zones", id), value: Some(json.into()) });
    }
    if let (Some(text), Some(file)) = (text, &zone.file) {
        let names_it = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.contains("$INCLUDE") && text.contains(file.as_str())
        };
        if zones.iter().any(|(other, zone)| other != id && zone.file.as_ref() == Some(file))
            || collection.master_files().iter().any(|(name, text)| name != file && names_it(text))
        {
            return Err(format!("other zones use its master file {file} too"));
        }
        edits.push(Edit { key: key(MASTER_FILES, file), value: Some(text.into_bytes().into()) });
    }
    Ok(edits)
}

/// The records of a zone's master file in a collection; none if it has no file. An error says why it cannot be read.
pub fn master_file(collection: &Collection, id: &str) -> Result<Option<MasterFile>, String> {
    let mut candidate = collection.only_zone(id).candidate(&Aside::new(), &Served::default());
    if let Some(problem) = candidate.problems.into_iter().find(Problem::is_error) {
        return Err(problem.to_string());
    }
    match candidate.loaded.zone_data.remove(id) {
        Some(ZoneData::Read(data)) => Ok(Some(data)),
        _ => Ok(None),
    }
}

/// The content that an update would make has an error.
fn refused(problems: &[Problem]) -> Rejected {
    let first = problems.iter().find(|problem| problem.is_error());
    Rejected::Refused(first.map_or("it has errors".into(), Problem::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::OnError, control_plane::keeper::nothing, snapshot::published::Published};
    use arc_swap::ArcSwap;

    #[test]
    fn identifiers_are_file_names() {
        for id in ["Z0CORP", "a/b", "..", "ä %41", ""] {
            let file = file_of(id);
            assert!(!file.contains('/') && !file.starts_with('.') || id.is_empty(), "{file}");
            assert_eq!(id_of(&file).as_deref(), Some(id), "{file}");
        }
        assert_eq!(id_of("a.damaged"), None);
    }

    /// What was pushed is changed by updates, and what is pushed next is built on that.
    #[test]
    fn updates_are_in_what_was_pushed() {
        let node = Arc::default();
        let snapshot: Published = Arc::new(ArcSwap::from_pointee(nothing(&node)));
        let mut keeper = Keeper::new(snapshot.clone(), node, Arc::default(), OnError::Refuse, None);
        keeper.take_edits(Edits::Pushed, Overlays::default(), None);
        let push = |kind: &str, id: &str, text: &str| Edit {
            key: Key::new(kind, id).unwrap(),
            value: Some(text.as_bytes().into()),
        };
        let zone = r#"{"name": "z.example", "vpc_ids": [], "file": "z.zone", "allow_update": [{"tsig_key": "k"}]}"#;
        let master = "@ 60 SOA ns h 7 1 1 1 60\n@ 60 NS ns\nns 60 A 10.0.0.1\n";
        let edits = vec![push("private_hosted_zones", "Z", zone), push(MASTER_FILES, "z.zone", master)];
        let position = Position { revision: 5, ..Position::default() };
        keeper.take(vec![Change::plain(edits, position)]);
        let set = |owner: &str, values: &[[u8; 4]]| EditedSet {
            owner: Name::absolute(owner).unwrap(),
            rtype: 1,
            ttl: 30,
            values: values.iter().map(|value| value[..].into()).collect(),
        };
        let mut edit = |sets: Vec<EditedSet>| {
            let (reply, mut answer) = oneshot::channel();
            keeper.edit(ZoneEdit { zone: "Z".into(), make: Box::new(move |_| Ok(sets.clone())), reply });
            let (collection, position) = (keeper.delivered.0.clone(), keeper.position().revision);
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
        // What would be wrong is refused, and nothing has changed.
        let cname = EditedSet { rtype: 5, values: vec![b"\0"[..].into()], ..set("new.z.example", &[]) };
        let (result, _, revision) = edit(vec![cname]);
        assert!(matches!(result, Err(Rejected::Refused(why)) if why.contains("CNAME")));
        assert_eq!(revision, 6);
        assert_eq!(edit(Vec::new()).0, Ok(0));
    }
}
