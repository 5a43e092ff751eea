//! Splits a master file into entries: the tokens of a record or directive, over several lines in
//! parentheses.

use crate::wire::rdata::{Token, scan};

/// The number of tokens of an entry: more than any record needs, with two for each octet of the
/// longest data.
const MAX_TOKENS: usize = 140_000;

/// The tokens of one record or directive.
#[derive(Default)]
pub(super) struct Entry<'a> {
    /// The tokens; at least one.
    pub tokens: Vec<Token<'a>>,
    /// Whether the first line begins with white space: the owner is that of the previous record.
    pub blank_owner: bool,
    /// The offset of the first line.
    pub start: usize,
    /// The number of the first line, from 1.
    pub line: u32,
}

/// The error of text that cannot be split into tokens.
pub(super) struct LexError {
    /// The offset of the error.
    pub at: usize,
    /// The error message.
    pub message: &'static str,
    /// The help: what to write instead.
    pub help: &'static str,
}

/// Splits a master file into entries, one after the other.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0, line: 1 }
    }

    /// Reads the next entry. Returns false at the end of the text. After an error, the next call
    /// continues behind the entry.
    pub(super) fn next(&mut self, entry: &mut Entry<'a>) -> Result<bool, LexError> {
        entry.tokens.clear();
        self.begin(entry);
        // The offset and line of the outermost open parenthesis.
        let mut open: Option<(usize, u32)> = None;
        let (mut depth, mut last_end) = (0u32, usize::MAX);
        loop {
            let Some(&octet) = self.text.get(self.at) else {
                return match open {
                    None => Ok(!entry.tokens.is_empty()),
                    Some(open) => Err(self.never_closed(open)),
                };
            };
            match octet {
                b'\n' | b'\r' => {
                    self.at += 1;
                    self.line += u32::from(octet == b'\n');
                    if depth > 0 {
                        continue;
                    }
                    if entry.tokens.is_empty() {
                        self.begin(entry);
                    } else if octet == b'\n' || self.text.get(self.at) != Some(&b'\n') {
                        return Ok(true);
                    }
                }
                b' ' | b'\t' => self.at += 1,
                b';' => self.skip_line(),
                b'(' => {
                    open.get_or_insert((self.at, self.line));
                    depth += 1;
                    self.at += 1;
                }
                b')' => match depth.checked_sub(1) {
                    Some(outer) => {
                        depth = outer;
                        self.at += 1;
                        if depth == 0 {
                            open = None;
                        }
                    }
                    None => {
                        let at = self.at;
                        self.skip_line();
                        return Err(LexError { at, message: "`)` has no `(`", help: "remove it, or write `\\)`" });
                    }
                },
                _ => {
                    let at = self.at;
                    let Some((token, end)) = scan(self.text, at) else {
                        self.skip_line();
                        if depth > 0 {
                            self.skip_continuation();
                        }
                        let message = "a quoted string does not end on its line";
                        return Err(LexError { at, message, help: "close it with a double quote" });
                    };
                    if entry.tokens.len() == MAX_TOKENS {
                        return Err(match open {
                            Some(open) => self.never_closed(open),
                            None => {
                                self.skip_line();
                                LexError { at, message: "the record has more than 140000 fields", help: "split it" }
                            }
                        });
                    }
                    entry.tokens.push(Token { joined: last_end == at, ..token });
                    (self.at, last_end) = (end, end);
                }
            }
        }
    }

    fn begin(&mut self, entry: &mut Entry<'a>) {
        entry.start = self.at;
        entry.line = self.line;
        entry.blank_owner = matches!(self.text.get(self.at), Some(b' ' | b'\t'));
    }

    /// The error of a parenthesis that is never closed. Reading continues behind its entry.
    fn never_closed(&mut self, open: (usize, u32)) -> LexError {
        (self.at, self.line) = open;
        self.skip_line();
        self.skip_continuation();
        LexError { at: open.0, message: "`(` is never closed", help: "close it with `)`" }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|octet| matches!(octet, b'\n' | b'\r')).unwrap_or(rest.len());
    }

    /// Skips the lines that look like the rest of a broken entry, up to the end of the last such
    /// line.
    fn skip_continuation(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let line_end = if rest.starts_with(b"\r\n") { 2 } else { 1 };
            if !matches!(rest.get(line_end), Some(b' ' | b'\t' | b')' | b'\r' | b'\n')) {
                return;
            }
            self.line += u32::from(rest[line_end - 1] == b'\n');
            self.at += line_end;
            self.skip_line();
        }
    }
}
