//! The most likely cause of a YAML syntax error. The parser often stops some lines behind the
//! mistake.

use super::{Span, SyntaxError};

/// The number of lines that are searched, up to the line where the parser stopped.
const SEARCHED_LINES: usize = 5;

/// Finds the cause of an error for which the parser stopped in `line`. None if it is no known
/// cause.
pub(super) fn diagnose(text: &str, line: u32) -> Option<SyntaxError> {
    let unclosed = Scanner::new(text).unclosed().filter(|error| error.span.line <= line);
    unclosed.or_else(|| {
        let last = line as usize;
        let lines = text.lines().enumerate().take(last).skip(last.saturating_sub(SEARCHED_LINES));
        let lines: Vec<(usize, &str)> = lines.collect();
        lines
            .into_iter()
            .rev()
            .find_map(|(at, line)| list_behind_key(at, line).or_else(|| colon_without_blank(at, line)))
    })
}

fn span(line: usize, column: usize, length: usize) -> Span {
    Span { line: line as u32 + 1, column: column as u32 + 1, length: length.max(1) as u32 }
}

/// Splits a line into the key behind its indentation and `- `, and the text behind the colon.
fn key_and_rest(line: &str) -> Option<(&str, &str)> {
    let body = line.trim_start().trim_start_matches("- ").trim_start();
    let end = body.find(|c: char| !(c.is_alphanumeric() || "_-./".contains(c)))?;
    let rest = body[end..].strip_prefix(':')?;
    (end > 0).then_some((&body[..end], rest))
}

/// Finds a list that begins on the line of its key, such as `vpcs: - vpc-app`.
fn list_behind_key(at: usize, line: &str) -> Option<SyntaxError> {
    let (key, rest) = key_and_rest(line)?;
    let item = rest.trim_start().strip_prefix("- ")?.trim();
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let column = line.chars().count() - rest.trim_start().chars().count();
    let message = format!("a list begins on the line of its key `{key}`");
    let help = format!("write `{key}: [{item}]`, or each `- ` on a line of its own");
    Some(SyntaxError::new(span(at, column, 1), message).help(help))
}

/// Finds a colon without a blank behind it, such as `region:eu-west-1`.
fn colon_without_blank(at: usize, line: &str) -> Option<SyntaxError> {
    let (key, rest) = key_and_rest(line)?;
    let help = missing_blank_help(&format!("{key}:{rest}"))?;
    let column = line.chars().count() - rest.chars().count() - 1;
    Some(SyntaxError::new(span(at, column, 1), format!("the blank behind the colon of `{key}` is missing")).help(help))
}

/// The help for a text such as `region:eu-west-1`. None if the text has another form.
pub fn missing_blank_help(text: &str) -> Option<String> {
    let (key, value) = text.split_once(':')?;
    let is_key = !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
    let is_value = value.starts_with(|c: char| c.is_alphanumeric() || "\"'[{".contains(c));
    (is_key && is_value).then(|| format!("write `{key}: {}`, with a blank", value.trim_end()))
}

/// Reads a text line by line to find a bracket that is never closed.
struct Scanner<'a> {
    lines: Vec<&'a str>,
    /// The open brackets, with their line and column from 0.
    open: Vec<(char, usize, usize)>,
    /// The quote of a text that continues on the next line.
    quote: Option<char>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { lines: text.lines().collect(), open: Vec::new(), quote: None }
    }

    fn unclosed(mut self) -> Option<SyntaxError> {
        let lines = std::mem::take(&mut self.lines);
        let mut block: Option<usize> = None;
        for (at, line) in lines.into_iter().enumerate() {
            let indentation = line.len() - line.trim_start().len();
            if block.is_some_and(|outer| indentation > outer || line.trim().is_empty()) {
                continue; // a line of a block scalar
            }
            if let Some(error) = self.line(at, line) {
                return Some(error);
            }
            let code = line.split(" #").next().unwrap_or_default().trim_end();
            let begins_block =
                code.rsplit(' ').next().is_some_and(|last| matches!(last, "|" | ">" | "|-" | ">-" | "|+" | ">+"));
            block = (self.open.is_empty() && self.quote.is_none() && begins_block).then_some(indentation);
        }
        self.open.pop().map(never_closed)
    }

    /// Reads a line. Returns an error if a bracket does not match the last open one.
    fn line(&mut self, at: usize, line: &str) -> Option<SyntaxError> {
        let mut is_start = true;
        let mut before = ' ';
        let mut characters = line.chars().enumerate().peekable();
        while let Some((column, c)) = characters.next() {
            let is_last_of_key = characters.peek().is_none_or(|(_, next)| next.is_whitespace());
            match (self.quote, c) {
                (Some('"'), '\\') => drop(characters.next()),
                (Some(quote), c) if c == quote => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => return None,
                (None, '"' | '\'') if is_start => self.quote = Some(c),
                (None, '{' | '[') if is_start || !self.open.is_empty() => {
                    self.open.push((c, at, column));
                    is_start = true;
                    before = c;
                    continue;
                }
                (None, '}' | ']') if !self.open.is_empty() => {
                    let open = self.open.pop()?;
                    if closing(open.0) != c {
                        return Some(never_closed(open));
                    }
                }
                (None, ',') if !self.open.is_empty() => {
                    is_start = true;
                    before = c;
                    continue;
                }
                (None, ':' | '-' | '?') if is_last_of_key && (c == ':' || is_start) => {
                    is_start = true;
                    before = c;
                    continue;
                }
                _ => {}
            }
            is_start &= c.is_whitespace();
            before = c;
        }
        None
    }
}

fn closing(open: char) -> char {
    if open == '{' { '}' } else { ']' }
}

fn never_closed((bracket, line, column): (char, usize, usize)) -> SyntaxError {
    let error = SyntaxError::new(span(line, column, 1), format!("`{bracket}` is never closed"));
    error.help(format!("close it with `{}`", closing(bracket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(u32, u32, String, String)> {
        let error = diagnose(text, text.lines().count() as u32 + 1)?;
        Some((error.span.line, error.span.column, error.message, error.help.unwrap_or_default()))
    }

    #[test]
    fn finds_the_line_with_the_mistake() {
        for (text, line, column, message, help) in [
            ("vpcs: - vpc-app\n", 1, 7, "a list begins on the line of its key `vpcs`", "`vpcs: [vpc-app]`"),
            ("a:\n  b: - x\n    - y\n", 2, 6, "the line of its key `b`", "each `- ` on a line of its own"),
            ("a: {b: 1\nc: 2\n", 1, 4, "`{` is never closed", "close it with `}`"),
            ("a:\n  b: {c: [1, 2}\n  d: {e: 1}\n", 2, 10, "`[` is never closed", "close it with `]`"),
            ("a: [\n  {b: 1},\nc: 2\n", 1, 4, "`[` is never closed", "close it with `]`"),
            (
                "a:\n  region:eu-west-1\n  b: 2\n",
                2,
                9,
                "the blank behind the colon of `region` is missing",
                "`region: eu-west-1`",
            ),
            ("- name:\"x\"\n  b: 2\n", 1, 7, "the blank behind the colon of `name` is missing", "`name: \"x\"`"),
        ] {
            let (at_line, at_column, found, found_help) = found(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((at_line, at_column), (line, column), "{text}: {found}");
            assert!(found.contains(message) && found_help.contains(help), "{text}: {found} ({found_help})");
        }
    }

    #[test]
    fn finds_nothing_in_valid_texts() {
        for text in [
            "a: {b: \"{\", c: '[', d: e} # {\nx: y{z\n- [1, [2]]\n",
            "a: |\n  {[\n  b\nc: \"x\n  { y\"\n",
            "a: http://x\nb: ::1\nc: 10:20\nhttp://x\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
