//! Answers with what other servers answered before, as far as that is known.

use super::{
    context::Context,
    explanation,
    firewall::Inspection,
    known::{Entry, KnownAnswer, KnownAnswers},
    resolve::{Decision, Resolver},
    trace::{CacheState, Stage, Trace},
};
use crate::{
    snapshot::routes::{Route, Servers},
    wire::{
        codes::{pointer, rcode},
        query::{HEADER, LookupName},
        rdata::rtype,
        reply::{Full, Reply, Section, first_of, suffix_at},
    },
};
use std::sync::Arc;

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers for the current name with what the servers of a route have answered. If that is not known, they have to be asked.
    #[inline]
    pub fn answer_from_cache(&mut self, route: &'s Arc<Route>) -> Decision<'s> {
        if !self.flags.recursion_desired {
            // An entry and its TTL tell what other clients asked: without RD the cache is not read.
            self.trace.note(Stage::Cache, || "the query has RD clear: the cache is not read".into());
            return Decision::NotOurs("not a name of this network, and the query does not desire recursion");
        }
        self.answered_by_others = Some(route.rule.is_empty());
        self.has_recursed |= matches!(route.servers, Servers::Recursion);
        let Context { snapshot, view, moment, .. } = self.context;
        let question = self.flags_by(route).question(self.name, self.qtype);
        let current = CurrentName { name: self.name, at: self.name_at };
        let lists_of_servers = self.firewall.as_ref().and_then(Inspection::lists_of_servers);
        // The closure takes these parts, as `question` and `current` borrow the name.
        let (reply, summary, servers, trace) =
            (&mut self.reply, &mut self.summary, &mut self.servers, &mut *self.trace);
        trace.route(route);
        self.known.with(snapshot.views.route_id(view, route), &question, moment.now, |found| {
            trace.note(Stage::Cache, || explanation::cached(found.as_ref()));
            trace.cache_state(state_of(found.as_ref()));
            let Some(KnownAnswer { entry, ttl, stale, refresh }) = found else { return Decision::Forward(route) };
            summary.authentic &= entry.authentic;
            if entry.rcode == rcode::SERVFAIL {
                return Decision::Failed(entry.ede.clone());
            }
            if let (Some(lists), Some(known)) = (lists_of_servers, &entry.servers)
                && !known.are_unlisted(lists)
            {
                *servers = Some(known.clone());
            }
            summary.stale |= stale;
            summary.refresh |= refresh;
            let rotation = matches!(question.qtype, rtype::A | rtype::AAAA).then_some((question.qtype, moment.draw));
            match write(reply, entry, ttl, rotation, current) {
                Ok(Some(target)) => Decision::Target(target),
                Ok(None) => Decision::Answered(entry.rcode),
                Err(Full) => {
                    reply.truncate();
                    Decision::Answered(rcode::NOERROR)
                }
            }
        })
    }
}

/// The state of a question in the cache.
pub fn state_of(found: Option<&KnownAnswer>) -> CacheState {
    match found {
        None => CacheState::Miss,
        Some(found) if found.entry.rcode == rcode::SERVFAIL => CacheState::Failed,
        Some(found) if found.stale => CacheState::Stale,
        Some(_) => CacheState::Hit,
    }
}

/// The current name of the chain, and its offset in the reply.
#[derive(Clone, Copy)]
struct CurrentName<'n> {
    name: &'n LookupName,
    at: usize,
}

impl CurrentName<'_> {
    /// The offset of the suffix that is left without the first `skip` labels.
    #[inline]
    fn suffix_at(self, written: &[u8], skip: usize) -> usize {
        let skip = skip.min(self.name.labels());
        match self.at == HEADER {
            true => HEADER + self.name.start(skip),
            false => suffix_at(written, self.at, skip),
        }
    }
}

/// Writes the records of an entry. `rotation` is the type of the addresses that rotate, and the rotation. Returns the offset of
/// the target, if the entry ends with a CNAME.
#[inline]
fn write(
    reply: &mut Reply,
    entry: &Entry,
    ttl: u32,
    rotation: Option<(u16, u32)>,
    current: CurrentName,
) -> Result<Option<usize>, Full> {
    let suffix_at = |written: &[u8], skip: usize| current.suffix_at(written, skip);
    let start = entry.answer.write(reply, Section::Answer, ttl, rotation, suffix_at).inspect_err(|Full| {
        if let Some((rtype, draw)) = rotation {
            write_addresses_that_fit(reply, entry, ttl, (rtype, draw), current);
        }
    })?;
    let authority = entry.authority.write(reply, Section::Authority, ttl, None, suffix_at)?;
    if entry.target.is_some() {
        reply.defer(authority, entry.authority.count);
    }
    Ok(entry.target.map(|target| start + usize::from(target)))
}

/// Writes as many addresses as the reply has room for, like those of zones.
fn write_addresses_that_fit(
    reply: &mut Reply,
    entry: &Entry,
    ttl: u32,
    (rtype, draw): (u16, u32),
    current: CurrentName,
) {
    let owner = pointer::to(current.at);
    let addresses = || entry.answer.iter(current.name).filter(|(_, other, _)| *other == rtype);
    let first = first_of(addresses().count(), draw);
    let mut rotated = addresses().skip(first).chain(addresses().take(first));
    let _ =
        rotated.try_for_each(|(_, rtype, data)| reply.record(Section::Answer, owner, rtype, ttl, &[data]).map(|_| ()));
}
