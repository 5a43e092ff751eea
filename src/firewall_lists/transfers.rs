//! Lists that are transferred from primaries, as response policy zones.
//!
//! The incoming transfers treat such a list as a zone under an identifier of its own, with schedule, NOTIFY, TSIG, TLS and
//! expiry. Here, its records become entries: a whole zone as the text of a list does, and an incremental transfer by the names
//! that it changes.

use super::{
    FirewallLists, ListState,
    load::{self, Publish},
};
use crate::{
    clock::now,
    control_plane::{Message, change::ZoneTransfer},
    manifest::{
        FirewallDomainList, Id, PrivateHostedZone, Problem,
        domain_lists::{self, Entry, RpzReader, Trigger, trigger_of},
        transferred::{Content, ZoneCopy},
    },
    snapshot::firewall::table::{Batch, Extent, Lists},
    wire::{Name, name::name_text},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};

/// The beginning of the identifiers that lists have among transferred zones. A zone's identifier has no slash.
const PREFIX: &str = "firewall_domain_lists/";
/// An incremental transfer of more names is compiled as a whole zone.
const MAX_CHANGED_NAMES: usize = 20_000;

/// The identifier of a list among transferred zones.
pub fn zone_id(list: &str) -> Id {
    format!("{PREFIX}{list}")
}

/// The list that has an identifier among transferred zones. None for that of a zone.
pub fn list_id(zone: &str) -> Option<&str> {
    zone.strip_prefix(PREFIX)
}

/// The zone that a list is transferred as. None if it is not transferred.
pub fn zone_of(list: &FirewallDomainList) -> Option<PrivateHostedZone> {
    let source = list.source.as_ref().filter(|source| !source.primaries.is_empty())?;
    Some(PrivateHostedZone { primaries: source.primaries.clone(), ..PrivateHostedZone::empty(source.zone.clone()?) })
}

/// A transferred list.
pub(super) struct TransferredList {
    copy: ZoneCopy,
    /// The reader of the entries that are served, which numbers their local data. None if none are.
    reader: Option<RpzReader>,
    /// What the list has beside its names.
    content: domain_lists::Content,
}

impl FirewallLists {
    /// The copy of a list that is served, or has expired.
    pub fn transferred_copy(&self, id: &str) -> Option<ZoneCopy> {
        let lists = self.transferred.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = lists.get(id).map(|list| list.copy.clone());
        // The list may be transferred under another name now.
        copy.filter(|copy| self.is_transferred(id, &copy.content.zone))
    }

    /// Serves copies of lists that have lost their names because another field of the source has changed.
    pub(super) fn serve_copies_again(&self, publish: &mut Publish) {
        let mut again = Vec::new();
        self.transferred.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, list| {
            let is_same = self.is_transferred(id, &list.copy.content.zone);
            if is_same && !list.copy.is_expired && self.state_of(id) == ListState::Missing {
                list.reader = None;
                again.push((id.clone(), list.copy.clone()));
            }
            is_same
        });
        for (id, copy) in again {
            // A failure is noted in the state of the list.
            let _ = self.serve_copy(&id, copy, publish);
        }
    }

    /// Receives transfers on a thread, and sends the results to the control plane's thread. Returns the sender of transfers.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start_transfers(self: &Arc<Self>, messages: Sender<Message>) -> std::io::Result<Sender<Message>> {
        let (sender, receiver): (Sender<Message>, Receiver<Message>) = channel();
        let lists = self.clone();
        std::thread::Builder::new().name("firewall-feeds".into()).spawn(move || {
            while let Ok(message) = receiver.recv() {
                let Message::Transfer(ZoneTransfer { zone, copy, reply }) = message else { continue };
                let id: Id = list_id(&zone).unwrap_or(&zone).into();
                let list = id.clone();
                let serve = move |lists: &FirewallLists, publish: &mut Publish| lists.serve_copy(&list, copy, publish);
                let result = lists.wait_for_worker(&messages, serve).unwrap_or_else(|| Err("the server ends".into()));
                let error = |error| vec![Problem::error("firewall_domain_lists", &id, "source", error)];
                // Sending fails if the list, and with it the receiver, was removed.
                let _ = reply.send(result.map_err(error));
            }
        })?;
        Ok(sender)
    }

    /// Serves a version of a transferred list, or marks the list as expired.
    pub(super) fn serve_copy(&self, id: &str, copy: ZoneCopy, publish: &mut Publish) -> Result<(), String> {
        let before = self.transferred.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let result = self.serve(id, &copy, before, publish);
        if let Err((error, Some(before))) = result {
            self.transferred.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), *before);
            self.failed(id, error.clone());
            return Err(error);
        }
        let list = result.map_err(|(error, _)| {
            self.failed(id, error.clone());
            error
        })?;
        self.transferred.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), list);
        Ok(())
    }

    fn serve(
        &self,
        id: &str,
        copy: &ZoneCopy,
        before: Option<TransferredList>,
        publish: &mut Publish,
    ) -> Result<TransferredList, (String, Option<Box<TransferredList>>)> {
        if copy.is_expired {
            if self.set_state(id, ListState::Loaded, ListState::Expired, publish) {
                tracing::error!(list = id, "firewall list expired");
            }
            let nothing =
                TransferredList { copy: copy.clone(), reader: None, content: domain_lists::Content::default() };
            return Ok(TransferredList { copy: copy.clone(), ..before.unwrap_or(nothing) });
        }
        let mut before = before;
        let content =
            match before.as_mut().and_then(|before| changed_names(&before.copy.content, &copy.content, before)) {
                Some(names) => self.serve_changes(id, &copy.content, names, before.as_mut(), publish),
                None => self.serve_whole(id, &copy.content, publish),
            };
        match content {
            Ok((reader, content)) => {
                self.loaded(id, content.clone(), now(), now());
                self.set_state(id, ListState::Expired, ListState::Loaded, publish);
                Ok(TransferredList { copy: copy.clone(), reader: Some(reader), content })
            }
            // Some of the names may have changed: the next version is compiled as a whole.
            Err(error) => Err((error, before.map(|before| Box::new(TransferredList { reader: None, ..before })))),
        }
    }

    fn serve_whole(
        &self,
        id: &str,
        zone: &Content,
        publish: &mut Publish,
    ) -> Result<(RpzReader, domain_lists::Content), String> {
        let (reader, content) = read_zone(zone, &mut load::in_turns(|_| {}))?;
        let read = |visit: &mut dyn FnMut(&Entry)| read_zone(zone, visit).map(|(_, content)| content);
        let lists = self.snapshot.load().firewall_lists.clone();
        load::compile(&read, id, &content, lists, &|| self.is_transferred(id, &zone.zone), publish)?;
        Ok((reader, content))
    }

    fn serve_changes(
        &self,
        id: &str,
        zone: &Content,
        names: BTreeSet<Name>,
        before: Option<&mut TransferredList>,
        publish: &mut Publish,
    ) -> Result<(RpzReader, domain_lists::Content), String> {
        let (old, mut content, mut reader) = before
            .and_then(|before| Some((before.copy.content.clone(), before.content.clone(), before.reader.take()?)))
            .ok_or("the former version is not there")?;
        let number = self.snapshot.load().firewall_lists.number(id).ok_or("the list was removed")?;
        let mut batch = Batch::new(number, Extent::Names, names.len() as u64);
        let mut removed = domain_lists::Content::default();
        for name in &names {
            let mut key = name.as_wire()[..name.as_wire().len() - zone.zone.as_wire().len()].to_vec();
            key.push(0);
            batch.remove(&key);
            for owner in [name.child(b"*").ok().as_ref(), Some(name)].into_iter().flatten() {
                read_owner(&mut reader, &old, owner, &mut removed, &mut |_| {});
                read_owner(&mut reader, zone, owner, &mut content, &mut |entry| batch.add(entry));
            }
        }
        content.entries = content.entries.saturating_sub(removed.entries);
        let data = Arc::new(load::data_of(&content));
        publish(&mut |lists: &Lists| {
            if lists.number(id) != Some(number) || !self.is_transferred(id, &zone.zone) {
                return Err("the list was removed, or has another source".into());
            }
            let mut lists = lists.with_batch(&mut batch).map_err(|error| error.to_string())?;
            lists.set_data(number, data.clone());
            Ok(lists)
        })?;
        Ok((reader, content))
    }

    /// Whether the manifest still has a list that is transferred under this name.
    fn is_transferred(&self, id: &str, zone: &Name) -> bool {
        let snapshot = self.snapshot.load();
        let list = snapshot.manifest.firewall_domain_lists.get(id);
        list.and_then(|list| zone_of(list)).is_some_and(|other| other.name == *zone)
    }
}

/// The apex in wire format and lower case.
fn apex(zone: &Content) -> Vec<u8> {
    zone.zone.as_wire().to_ascii_lowercase()
}

/// Reads the records of a zone as entries. They have no lines.
///
/// # Errors
///
/// If their file cannot be read.
fn read_zone(zone: &Content, visit: &mut dyn FnMut(&Entry)) -> Result<(RpzReader, domain_lists::Content), String> {
    let (mut reader, mut content) = (RpzReader::new(Some(&zone.zone)), domain_lists::Content::default());
    for (owner, rtype, values) in zone.sets() {
        for (ttl, data) in values.iter() {
            read_record(&mut reader, owner.as_wire(), rtype, (ttl, data), &mut content, visit);
        }
    }
    if let Some(file) = zone.file() {
        file.visit(&mut |record| {
            let values = (record.ttl, record.data);
            read_record(&mut reader, record.owner, record.rtype, values, &mut content, visit);
            Ok(())
        })?;
    }
    Ok((reader, content))
}

fn read_owner(
    reader: &mut RpzReader,
    zone: &Content,
    owner: &Name,
    content: &mut domain_lists::Content,
    visit: &mut dyn FnMut(&Entry),
) {
    for (rtype, values) in zone.sets_of(owner) {
        for (ttl, data) in values.iter() {
            read_record(reader, owner.as_wire(), rtype, (ttl, data), content, visit);
        }
    }
}

fn read_record(
    reader: &mut RpzReader,
    owner: &[u8],
    rtype: u16,
    (ttl, data): (u32, &[u8]),
    content: &mut domain_lists::Content,
    visit: &mut dyn FnMut(&Entry),
) {
    if let Err(reason) = reader.record(owner, rtype, ttl, data, 0, content, visit) {
        content.skip(0, name_text(owner).as_bytes(), reason);
    }
}

/// The owners that differ in a new version, without a leading `*`. `None` if the whole version must be compiled: the last
/// version is not served, records are in a file, too many names have changed, or entries for addresses have changed.
fn changed_names(old: &Content, new: &Content, before: &TransferredList) -> Option<BTreeSet<Name>> {
    before.reader.as_ref()?;
    if old.file().is_some() || new.file().is_some() {
        return None;
    }
    // Numbers of local data are not used again.
    if before.content.local.len() > 2 * old.len() + MAX_CHANGED_NAMES || before.content.skipped > 0 {
        return None;
    }
    let apex = apex(old);
    let mut names = BTreeSet::new();
    for changed in old.changed(new) {
        match trigger_of(changed.owner.as_wire(), &apex) {
            Ok(Trigger::Apex) => continue,
            Ok(Trigger::Name { .. }) => {
                let parent = changed.owner.parent().filter(|_| changed.owner.is_wildcard());
                names.insert(parent.unwrap_or_else(|| changed.owner.clone()));
            }
            _ => return None,
        }
        if names.len() > MAX_CHANGED_NAMES.min(old.len() / 4 + 100) {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
