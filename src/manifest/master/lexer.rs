//! Splits a master file into entries: the tokens of a record or directive, over several lines in parentheses.

use crate::wire::rdata::{Token, scan};

/// More tokens than any record needs: two for each octet of the longest data, and its head.
const MAX_TOKENS: usize = 140_000;

/// The tokens of one record or directive.
#[derive(Default)]
pub(super) struct Entry<'a> {
    /// Its tokens; at least one.
    pub tokens: Vec<Token<'a>>,
    /// Whether its first line begins with white space: the owner is the last one.
    pub blank_owner: bool,
    /// Where its first line begins.
    pub start: usize,
    /// The number of that line, from 1.
    pub line: u32,
}

/// Text that cannot be split into tokens.
pub(super) struct LexError {
    /// Where it is.
    pub at: usize,
    /// What is wrong.
    pub message: &'static str,
    /// What would be accepted.
    pub help: &'static str,
}

/// Goes over a master file.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0, line: 1 }
    }

    /// Reads the next entry; false at the end. After an error the next call goes on behind the broken entry.
    pub(super) fn next(&mut self, entry: &mut Entry<'a>) -> Result<bool, LexError> {
        entry.tokens.clear();
        self.begin(entry);
        // The outermost open parenthesis, and the line that it is in.
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
                        return Err(LexError { at, message: "`)` closes nothing", help: "remove it, or escape it" });
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
                                LexError { at, message: "a record has too many fields", help: "at most 140,000" }
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

    /// Goes on behind the parenthesis.
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

    /// Skips the lines that look like the rest of a broken entry, to the end of the last one.
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
