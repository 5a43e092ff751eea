//! The entries of lists for one name, as they are in memory.
//!
//! ```text
//! posting = header, line, detail                            each a number of variable length
//! header  = list << 5 | detail << 3 | below << 2 | exact << 1 | more
//! ```

use crate::manifest::domain_lists::{Detail, RpzAction, Scope};

fn code_of(action: RpzAction) -> u64 {
    match action {
        RpzAction::NxDomain => 0,
        RpzAction::NoData => 1,
        RpzAction::PassThru => 2,
        RpzAction::Drop => 3,
        RpzAction::TcpOnly => 4,
        RpzAction::Local(number) => 5 + u64::from(number),
    }
}

fn action_of(code: u64) -> RpzAction {
    match code {
        0 => RpzAction::NxDomain,
        1 => RpzAction::NoData,
        2 => RpzAction::PassThru,
        3 => RpzAction::Drop,
        4 => RpzAction::TcpOnly,
        other => RpzAction::Local((other - 5) as u32),
    }
}

/// An entry of a list for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    pub list: u32,
    pub scope: Scope,
    pub line: u32,
    pub detail: Detail,
}

const MORE: u64 = 1;
const EXACT: u64 = 2;
const BELOW: u64 = 4;

impl Posting {
    /// Appends it to a record.
    pub fn write(&self, more: bool, out: &mut Vec<u8>) {
        let (kind, detail) = match self.detail {
            Detail::Plain => (0, None),
            Detail::Rpz(action) => (1, Some(code_of(action))),
            Detail::Rule { is_exception, is_important, conditions } => {
                let conditions = conditions.map_or(0, |number| u64::from(number) + 1);
                (2, Some(conditions << 2 | u64::from(is_important) << 1 | u64::from(is_exception)))
            }
        };
        let scope = match self.scope {
            Scope::Exact => EXACT,
            Scope::Below => BELOW,
            Scope::ExactAndBelow => EXACT | BELOW,
        };
        write_number(u64::from(self.list) << 5 | kind << 3 | scope | u64::from(more), out);
        write_number(u64::from(self.line), out);
        if let Some(detail) = detail {
            write_number(detail, out);
        }
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The postings of a record.
#[derive(Clone, Debug)]
pub(super) struct Postings<'r> {
    rest: &'r [u8],
    is_done: bool,
}

impl<'r> Postings<'r> {
    /// Reads the postings at the start of `octets`.
    #[inline]
    pub fn new(octets: &'r [u8]) -> Postings<'r> {
        Postings { rest: octets, is_done: false }
    }

    /// The octets behind the postings that were read.
    pub fn rest(&self) -> &'r [u8] {
        self.rest
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (&octet, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(octet & 0x7f).checked_shl(shift)?;
            if octet < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }
}

impl Iterator for Postings<'_> {
    type Item = Posting;

    fn next(&mut self) -> Option<Posting> {
        if self.is_done {
            return None;
        }
        let header = self.number()?;
        let line = self.number()? as u32;
        self.is_done = header & MORE == 0;
        let scope = match (header & EXACT != 0, header & BELOW != 0) {
            (true, true) => Scope::ExactAndBelow,
            (false, true) => Scope::Below,
            _ => Scope::Exact,
        };
        let detail = match header >> 3 & 3 {
            0 => Detail::Plain,
            1 => Detail::Rpz(action_of(self.number()?)),
            _ => {
                let bits = self.number()?;
                let conditions = (bits >> 2).checked_sub(1).map(|number| number as u32);
                Detail::Rule { is_exception: bits & 1 != 0, is_important: bits & 2 != 0, conditions }
            }
        };
        Some(Posting { list: (header >> 5) as u32, scope, line, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let details = [
            Detail::Plain,
            Detail::Rpz(RpzAction::NxDomain),
            Detail::Rpz(RpzAction::TcpOnly),
            Detail::Rpz(RpzAction::Local(0)),
            Detail::Rpz(RpzAction::Local(u32::MAX)),
            Detail::Rule { is_exception: true, is_important: false, conditions: None },
            Detail::Rule { is_exception: false, is_important: true, conditions: Some(u32::MAX) },
        ];
        let mut written = Vec::new();
        for detail in details {
            for scope in [Scope::Exact, Scope::Below, Scope::ExactAndBelow] {
                for (list, line) in [(0, 1), (3, 127), (4, 128), (u32::MAX, u32::MAX)] {
                    written.push(Posting { list, scope, line, detail });
                }
            }
        }
        let mut octets = Vec::new();
        for (at, posting) in written.iter().enumerate() {
            posting.write(at + 1 < written.len(), &mut octets);
        }
        octets.extend([1, 2, 3]);
        let mut postings = Postings::new(&octets);
        assert_eq!(postings.by_ref().collect::<Vec<_>>(), written);
        assert_eq!(postings.rest(), [1, 2, 3]);
    }

    #[test]
    fn an_entry_of_one_of_four_lists_needs_no_more_than_five_octets() {
        let mut octets = Vec::new();
        Posting { list: 3, scope: Scope::ExactAndBelow, line: 2_000_000, detail: Detail::Plain }
            .write(false, &mut octets);
        assert!(octets.len() <= 5, "{octets:?}");
    }
}
