//! Compiles the text of a list into the table of all lists.
//!
//! A large list is read once to check it, and then once for each part of its names: each part becomes a table of its own, and
//! is served before the next one is read. So an update needs memory for one part beside the table.

use crate::{
    manifest::{
        FirewallListFormat,
        domain_lists::{self, Content, Entry, ServerNameTrigger},
    },
    snapshot::firewall::table::{AddressKind, Addresses, Batch, Extent, ListData, ListState, Lists, ServerEntries},
    wire::Name,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

/// More names are compiled in parts.
const NAMES_AT_ONCE: u64 = 50_000;
/// The maximum number of parts: each one reads the whole list.
const MAX_PARTS: u32 = 16;
/// The maximum number of parts of a list that is not there yet, unless a part would have more entries than the other number:
/// no old part is in memory beside a new one.
const MIN_FIRST_PARTS: u32 = 4;
const ENTRIES_OF_FIRST_PART: u64 = 2_500_000;
/// The number of entries that are read before another thread may run.
const ENTRIES_PER_TURN: u32 = 256;
/// The size of the buffer that a text is read with, in octets.
const BUFFER_OCTETS: usize = 256 << 10;

/// The file of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The path.
    pub path: PathBuf,
    /// The format.
    pub format: FirewallListFormat,
    /// The apex of a response policy zone.
    pub zone: Option<Name>,
}

/// The metadata that changes when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Text {
    /// The state of the file. None if it cannot be read.
    pub fn stamp(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().map(|metadata| Stamp {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn open(&self) -> io::Result<BufReader<File>> {
        // Opening must not wait for the writer of a pipe.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        match file.metadata()?.is_file() {
            true => Ok(BufReader::with_capacity(BUFFER_OCTETS, file)),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Reads the text without its entries.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn inspect(&self) -> Result<Content, String> {
        self.read(&mut in_turns(|_| {}))
    }

    /// Reads the text. Each entry goes to `visit`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(&self, visit: &mut dyn FnMut(&Entry)) -> Result<Content, String> {
        let mut read = |input: &mut BufReader<File>| domain_lists::read(input, self.format, self.zone.as_ref(), visit);
        self.open().and_then(|mut input| read(&mut input)).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// The reason why a text does not replace the list. `previous` is the number of entries of the copy that it would replace.
pub fn refusal(content: &Content, previous: Option<u64>) -> Option<String> {
    let entries = entries_of(content);
    if content.is_html {
        return Some("the text is an HTML page, not a list".into());
    }
    if entries == 0 {
        return Some(match content.first_skipped.first() {
            Some(first) => format!("no line is a valid entry; line {}: {}", first.line, first.reason),
            None => "the list is empty".into(),
        });
    }
    let previous = previous.filter(|previous| entries < previous - previous * 3 / 10)?;
    Some(format!("the list has shrunk by more than 30 %, from {previous} to {entries} entries"))
}

/// The number of entries for names, addresses and name servers.
pub fn entries_of(content: &Content) -> u64 {
    content.entries + (content.addresses.len() + content.server_names.len()) as u64
}

/// A change of the newest lists. It can be made several times.
pub type ListsChange<'c> = dyn FnMut(&Lists) -> Result<Lists, String> + 'c;
/// Reads a list, and passes its entries on.
pub type Read<'r> = dyn Fn(&mut dyn FnMut(&Entry)) -> Result<Content, String> + 'r;
/// Makes a change and publishes the result.
pub type Publish<'p> = dyn FnMut(&mut ListsChange) -> Result<(), String> + 'p;

/// Lets other threads run now and then: a thread that got a query would else wait until the kernel ends the turn of this one,
/// which takes milliseconds even at a lower priority.
pub fn in_turns(mut visit: impl FnMut(&Entry)) -> impl FnMut(&Entry) {
    let mut count: u32 = 0;
    move |entry: &Entry| {
        count = count.wrapping_add(1);
        if count.is_multiple_of(ENTRIES_PER_TURN) {
            std::thread::yield_now();
        }
        visit(entry);
    }
}

/// The number of parts in which names are compiled: a power of two, up to `max`.
fn parts(names: u64, max: u32) -> u32 {
    let parts = names.div_ceil(NAMES_AT_ONCE).clamp(1, max.into());
    (parts as u32).next_power_of_two()
}

/// Replaces the entries of a list by those that `read` passes on each time that it is called. `content` is the result of a
/// former call. `lists` are the newest lists. `is_current` says whether the list still has this source.
///
/// # Errors
///
/// If the file cannot be read or has changed, or if the list does not exist any more. Large lists can then have some names of
/// the new text.
pub fn compile(
    read: &Read,
    id: &str,
    content: &Content,
    lists: Arc<Lists>,
    is_current: &dyn Fn() -> bool,
    publish: &mut Publish,
) -> Result<(), String> {
    let gone = || "the list was removed, or has another source".to_string();
    let number = lists.number(id).ok_or_else(gone)?;
    let data = data_of(content);
    // Numbers in old entries must keep their meaning while there are old and new entries.
    let is_first = lists.state(number) == ListState::Missing;
    let is_compatible =
        is_first || lists.data(number).is_some_and(|old| old.local == data.local && old.conditions == data.conditions);
    let max = match is_first {
        true => (content.entries.div_ceil(ENTRIES_OF_FIRST_PART) as u32).clamp(MIN_FIRST_PARTS, MAX_PARTS),
        false => MAX_PARTS,
    };
    // A list shares memory with the names of all other lists.
    let names = content.entries.max(lists.rebuilt_names(number, content.entries));
    let parts = if is_compatible { parts(names, max) } else { 1 };
    // Otherwise the old parts would be in memory until the last new one is there.
    drop(lists);
    let data = Arc::new(data);
    for part in 0..parts {
        let mut batch = Batch::new(number, Extent::Part { number: part, count: parts }, content.entries);
        let again = read(&mut in_turns(|entry| batch.add(entry)))?;
        if (again.entries, again.lines) != (content.entries, content.lines) {
            return Err("the text has changed while it was read".into());
        }
        publish(&mut |lists| {
            if lists.number(id) != Some(number) || !is_current() {
                return Err(gone());
            }
            let mut lists = lists.with_batch(&mut batch).map_err(|error| error.to_string())?;
            lists.set_data(number, data.clone());
            if part + 1 == parts {
                lists.set_state(number, ListState::Loaded);
            }
            Ok(lists)
        })?;
    }
    Ok(())
}

/// What a list with this content has beside its names.
pub fn data_of(content: &Content) -> ListData {
    let (mut clients, mut answers, mut servers) =
        (Addresses::default(), Addresses::default(), ServerEntries::default());
    for trigger in &content.addresses {
        let addresses = match trigger.kind {
            AddressKind::Client => &mut clients,
            AddressKind::Answer => &mut answers,
            AddressKind::NameServer => &mut servers.addresses,
        };
        addresses.add(trigger.block, trigger.line, trigger.action);
    }
    for ServerNameTrigger { name, below_only, line, action } in &content.server_names {
        servers.add_name(name, *below_only, *line, *action);
    }
    ListData {
        local: content.local.clone().into(),
        conditions: content.conditions.clone().into(),
        has_rules: content.has_rules,
        clients,
        answers,
        servers,
    }
}

/// Removes the names of lists that do not exist any more.
///
/// # Errors
///
/// Those of `publish`.
pub fn purge(lists: Arc<Lists>, publish: &mut Publish) -> Result<(), String> {
    let (parts, removed) = (parts(lists.len(), MAX_PARTS), lists.removed());
    drop(lists);
    for number in removed {
        for part in 0..parts {
            publish(&mut |lists| {
                let mut batch = Batch::new(number, Extent::Part { number: part, count: parts }, 0);
                let mut lists = lists.with_batch(&mut batch).map_err(|error| error.to_string())?;
                if part + 1 == parts {
                    lists.forget(number);
                }
                Ok(lists)
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Id, wire::query::LookupName};
    use std::{fmt::Write, ops::ControlFlow};

    /// A file with a text, which is removed at the end.
    struct Fixture(Text);

    impl Fixture {
        fn new(name: &str, format: FirewallListFormat, text: &str) -> Fixture {
            let path = std::env::temp_dir().join(format!("zonal-load-{}-{name}", std::process::id()));
            fs::write(&path, text).unwrap();
            Fixture(Text { path, format, zone: None })
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0.path);
        }
    }

    fn line_of(lists: &Lists, name: &str) -> Option<u32> {
        let mut line = None;
        let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
        lists.find(&name, 1, &mut |found| {
            line = Some(found.line);
            ControlFlow::Break(())
        });
        line
    }

    /// Compiles a text, and returns the lists after each part.
    fn load(text: &Text, lists: &Lists) -> Vec<Lists> {
        let mut all = vec![lists.clone()];
        let content = text.inspect().unwrap();
        let publish = &mut |change: &mut ListsChange| {
            // The first result is not published: another change came before it.
            change(all.last().unwrap())?;
            let next = change(all.last().unwrap())?;
            all.push(next);
            Ok(())
        };
        compile(&|visit| text.read(visit), "a", &content, Arc::new(lists.clone()), &|| true, publish).unwrap();
        all.remove(0);
        all
    }

    #[test]
    fn each_name_is_listed_while_a_large_list_is_replaced() {
        let text = |shift: u32| {
            (0..60_000 + shift).fold("# list\n".repeat(shift as usize), |mut text, n| {
                let _ = writeln!(text, "n{n}.example");
                text
            })
        };
        let ids: [Id; 1] = ["a".into()];
        let lists = Lists::default().with_ids(ids.iter());
        let first = Fixture::new("first", FirewallListFormat::SubdomainsIncluded, &text(0));
        let loaded = load(&first.0, &lists);
        assert_eq!(loaded.len(), 2);
        let states: Vec<ListState> = loaded.iter().map(|lists| lists.state(0)).collect();
        assert_eq!(states.iter().filter(|state| **state == ListState::Missing).count(), 1);
        let lists = loaded.last().unwrap();
        assert_eq!((lists.state(0), lists.len()), (ListState::Loaded, 60_000));

        let second = Fixture::new("second", FirewallListFormat::SubdomainsIncluded, &text(1));
        let replaced = load(&second.0, lists);
        for lists in &replaced {
            for n in (0..60_000).step_by(317) {
                let line = line_of(lists, &format!("www.n{n}.example")).unwrap();
                assert!(line == n + 1 || line == n + 2, "{n} {line}");
            }
        }
        assert_eq!(line_of(replaced.last().unwrap(), "n60000.example"), Some(60_002));
        assert_eq!(line_of(replaced.last().unwrap(), "n5.example"), Some(7));

        let mut lists = replaced.last().unwrap().with_ids([].into_iter());
        let publish = &mut |change: &mut ListsChange| {
            lists = change(&lists)?;
            Ok(())
        };
        purge(Arc::new(replaced.last().unwrap().with_ids([].into_iter())), publish).unwrap();
        assert!(lists.is_empty() && lists.removed().is_empty());
    }

    #[test]
    fn refuses_texts_that_are_no_lists() {
        for (text, previous, expected) in [
            ("bad.example\n", None, None),
            ("bad.example\n", Some(1), None),
            ("", None, Some("empty")),
            ("# nothing\n", None, Some("empty")),
            ("<!doctype html>\nbad.example\n", None, Some("HTML")),
            ("http://bad.example/\n", None, Some("line 1: a URL")),
            ("a.example\nb.example\nc.example\nd.example\ne.example\nf.example\ng.example\n", Some(10), None),
            ("a.example\nb.example\nc.example\nd.example\ne.example\nf.example\n", Some(10), Some("from 10 to 6")),
        ] {
            let fixture = Fixture::new("refused", FirewallListFormat::Domains, text);
            let refusal = refusal(&fixture.0.inspect().unwrap(), previous);
            match expected {
                None => assert_eq!(refusal, None, "{text}"),
                Some(expected) => assert!(refusal.as_ref().is_some_and(|text| text.contains(expected)), "{refusal:?}"),
            }
        }
    }

    #[test]
    fn files_that_are_not_regular_are_errors() {
        for path in ["/dev/null", "/", "/nonexistent/list"] {
            let text = Text { path: path.into(), format: FirewallListFormat::Domains, zone: None };
            assert!(text.inspect().is_err(), "{path}");
        }
    }
}
