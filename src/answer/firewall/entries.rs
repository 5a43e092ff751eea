//! The entries that match a name, without those of detectors.

use super::{Filter, MatchedEntry, RuleMatch, Subject};
use crate::snapshot::firewall::{
    rules::{Condition, Rule},
    table::ListState,
};
use std::ops::ControlFlow;

impl<'s> Filter<'s> {
    /// Visits each entry for the client and for the name, with its rule and the index of the rule.
    #[inline]
    pub fn visit_entries(
        &self,
        subject: &Subject,
        visit: &mut impl FnMut(u32, &Rule, MatchedEntry<'s>) -> ControlFlow<()>,
    ) {
        let Filter { rules, lists, .. } = *self;
        let Subject { name, hop, qtype, source, .. } = *subject;
        // An entry for the client counts for each name of a chain.
        for (index, rule) in rules.of_clients.iter().filter_map(|index| Some((*index, rules.rule(*index)?))) {
            if let Condition::List(Some(list)) = rule.condition
                && rule.applies(hop, qtype)
                && let Some(entry) = lists.client(list, source)
                && visit(index, rule, MatchedEntry::Client(entry)).is_break()
            {
                return;
            }
        }
        lists.find(name, qtype, &mut |found| {
            for (index, rule) in rules.of_list(found.list) {
                if rule.state == ListState::Loaded && rule.applies(hop, qtype) {
                    visit(index, rule, MatchedEntry::Name(found))?;
                }
            }
            ControlFlow::Continue(())
        });
    }

    /// The rule that ends the evaluation, as [`Filter::judge`] finds it, if the rules are [plain][is_plain].
    ///
    /// [is_plain]: crate::snapshot::firewall::rules::RuleSet::is_plain
    #[inline]
    pub fn first(&self, subject: &Subject) -> Option<RuleMatch<'s>> {
        let mut first: Option<RuleMatch> = None;
        self.visit_entries(subject, &mut |index, _, entry| {
            if first.is_none_or(|(other, _)| index < other) {
                first = Some((index, entry));
            }
            // No rule is before the first one.
            if index == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        first
    }
}
