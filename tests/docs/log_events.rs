//! The page of log events lists every event of the sources, with its level and fields, and no other
//! event.

use crate::{
    harness::tree,
    tidy::{is_test, production, room, sources},
};
use proc_macro2::{TokenStream, TokenTree};
use std::{collections::BTreeSet, fs};

const PAGE: &str = "docs/reference/log-events.md";

/// A kind of log line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    room: String,
    name: String,
    level: String,
    fields: BTreeSet<String>,
}

/// The event of a macro call. An error says how the call differs from an event with fields.
fn parse(room: &str, level: &str, arguments: TokenStream) -> Result<Event, String> {
    let call = format!("{level}!({arguments})");
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let mut arguments: Vec<&[TokenTree]> = arguments.split(is_comma).filter(|argument| !argument.is_empty()).collect();
    let Some([TokenTree::Literal(name)]) = arguments.pop() else {
        return Err(format!("{call}: the last argument is not the name of the event"));
    };
    let name = name.to_string().trim_matches('"').to_string();
    if name.contains(|c: char| !c.is_alphanumeric() && !" -_.".contains(c)) {
        return Err(format!("{call}: the name of the event has other characters than letters, digits and spaces"));
    }
    let field = |argument: &[TokenTree]| match argument {
        [TokenTree::Punct(sigil), TokenTree::Ident(name)] if "?%".contains(sigil.as_char()) => Ok(name.to_string()),
        [TokenTree::Ident(name)] => Ok(name.to_string()),
        [TokenTree::Ident(name), TokenTree::Punct(equals), ..] if equals.as_char() == '=' => Ok(name.to_string()),
        _ => Err(format!("{call}: a field is not written as `name = value` or as a variable")),
    };
    let fields = arguments.into_iter().map(field).collect::<Result<_, _>>()?;
    Ok(Event { room: room.into(), name, level: level.into(), fields })
}

/// Collects the events of all macro calls, at any depth.
fn collect(room: &str, tokens: TokenStream, found: &mut Vec<Result<Event, String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        if let [.., TokenTree::Ident(level), TokenTree::Punct(mark)] = &tokens[..i]
            && mark.as_char() == '!'
            && ["error", "warn", "info", "debug", "trace", "event"].iter().any(|known| level == known)
        {
            found.push(parse(room, &level.to_string(), group.stream()));
        }
        collect(room, group.stream(), found);
    }
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_string)
}

/// The events on the page. A section with a title in backticks is a room. A row has the name, the
/// level, the fields, the meaning and the action.
fn documented() -> BTreeSet<Event> {
    let mut events = BTreeSet::new();
    let mut room = String::new();
    for line in fs::read_to_string(tree(PAGE)).unwrap().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            room = quoted(title).next().unwrap_or_default();
        }
        let Some(row) = line.strip_prefix("| `").filter(|_| !room.is_empty()) else { continue };
        let [name, level, fields, meaning, to_do] = row.trim_end_matches('|').split('|').collect::<Vec<_>>()[..] else {
            panic!("{PAGE}: {line}: a row has five columns: event, level, fields, meaning, what to do");
        };
        assert!(!meaning.trim().is_empty() && !to_do.trim().is_empty(), "{PAGE}: {line}: a column is empty");
        let name = name.trim().trim_end_matches('`').to_string();
        let event = Event { room: room.clone(), name, level: level.trim().into(), fields: quoted(fields).collect() };
        assert!(
            !events.iter().any(|other: &Event| (&other.room, &other.name) == (&event.room, &event.name)),
            "{PAGE}: {line}: the room has another event of this name"
        );
        assert!(events.insert(event), "{PAGE}: {line}: this row is there twice");
    }
    events
}

#[test]
fn the_page_of_log_events_has_every_event_of_the_sources() {
    let documented = documented();
    let mut all = BTreeSet::new();
    let mut faults = Vec::new();
    let is_code = |file: &str| file.ends_with(".rs") && !is_test(file);
    for (file, text) in sources().into_iter().filter(|(file, _)| is_code(file)) {
        let mut found = Vec::new();
        let tokens = production(&text).parse().unwrap_or_else(|error| panic!("src/{file}: {error}"));
        collect(room(&file), tokens, &mut found);
        for event in found {
            match event {
                Ok(event) => {
                    if !documented.contains(&event) {
                        faults.push(format!("{PAGE} lacks an event of src/{file}: {event:?}"));
                    }
                    all.insert(event);
                }
                Err(fault) => faults.push(format!("src/{file}: {fault}")),
            }
        }
    }
    let gone = documented.difference(&all).map(|event| format!("{PAGE} has an event that no source makes: {event:?}"));
    faults.extend(gone);
    assert!(!all.is_empty(), "no event was found in src");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
