//! Splits a text into lines of limited length.

use std::io::{self, BufRead};

/// The longest line that is read, in octets. The rest of a longer line is not kept.
pub(super) const MAX_LINE: usize = 64 << 10;

/// A line, without its end.
pub(super) enum Line<'l> {
    /// The whole line.
    Text(&'l [u8]),
    /// The beginning of a line that is longer than [`MAX_LINE`].
    TooLong(&'l [u8]),
}

pub(super) struct Lines<'i> {
    input: &'i mut dyn BufRead,
    line: Vec<u8>,
    number: u32,
}

impl<'i> Lines<'i> {
    pub(super) fn new(input: &'i mut dyn BufRead) -> Lines<'i> {
        Lines { input, line: Vec::new(), number: 0 }
    }

    /// Reads the next line, with its number from 1. None at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u32, Line<'_>)>> {
        self.line.clear();
        let (mut is_long, mut is_end) = (false, true);
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            is_end = false;
            let end = available.iter().position(|&octet| octet == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            let room = MAX_LINE - self.line.len();
            is_long |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(available.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        if is_end {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        if is_long {
            return Ok(Some((self.number, Line::TooLong(&self.line))));
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let start = if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Ok(Some((self.number, Line::Text(&self.line[start..]))))
    }
}
