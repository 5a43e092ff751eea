//! Reading JSON (RFC 8259). The YAML parser cannot read it: it differs in tabs, long keys and
//! surrogate pairs.

use super::{Entry, MAX_DEPTH, Node, Span, SyntaxError, Value, without_duplicates};

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// An offset in the current line up to which characters were counted, and its column.
    counted: (usize, u32),
    errors: Vec<SyntaxError>,
}

pub(super) fn read(text: &str) -> (Option<Node>, Vec<SyntaxError>) {
    let mut reader = Reader { text, at: 0, line: 1, counted: (0, 1), errors: Vec::new() };
    reader.space();
    if reader.peek().is_none() {
        return (None, Vec::new());
    }
    let node = reader.value(0).and_then(|node| {
        reader.space();
        match reader.peek() {
            None => Ok(node),
            Some(_) => Err(reader.error("there is text behind the end of the value")),
        }
    });
    match node {
        Ok(node) => (Some(node), reader.errors),
        Err(error) => {
            reader.errors.push(error);
            (None, reader.errors)
        }
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(octet @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.at += 1;
            if octet == b'\n' {
                self.line += 1;
                self.counted = (self.at, 1);
            }
        }
    }

    /// The column of the current position.
    fn column(&mut self) -> u32 {
        let (from, column) = self.counted;
        let more = self.text.get(from..self.at).map_or(0, |text| text.chars().count());
        self.counted = (self.at, column + more as u32);
        self.counted.1
    }

    /// The span from `column` of the current line to the current position.
    fn span(&mut self, column: u32) -> Span {
        Span { line: self.line, column, length: self.column().saturating_sub(column).max(1) }
    }

    fn error(&mut self, message: &str) -> SyntaxError {
        let column = self.column();
        SyntaxError::new(self.span(column), format!("the file is not valid JSON: {message}"))
    }

    fn expect(&mut self, octet: u8, message: &str) -> Result<(), SyntaxError> {
        self.space();
        match self.peek() == Some(octet) {
            true => {
                self.at += 1;
                Ok(())
            }
            false => Err(self.error(message)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.space();
        let (line, column) = (self.line, self.column());
        let mut span = self.span(column);
        let value = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                return Err(SyntaxError::new(span, format!("lists and maps are nested more than {MAX_DEPTH} deep")));
            }
            Some(b'{') => Value::Map(self.map(depth)?),
            Some(b'[') => Value::List(self.list(depth)?),
            Some(b'"') => Value::Scalar { text: self.string()?.into(), plain: false },
            Some(_) => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n', ':', '"', '[', '{']).unwrap_or(rest.len());
                let word = &rest[..end];
                if serde_json::from_str::<serde_json::Value>(word).is_err() {
                    return Err(self.error("expected a value: text must be in quotes"));
                }
                self.at += end;
                Value::Scalar { text: word.into(), plain: true }
            }
            None => return Err(self.error("the text ends in the middle of a value")),
        };
        if self.line == line {
            span = self.span(column);
        }
        Ok(Node { span, value })
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(entries);
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let column = self.column();
            let key = self.string()?.into();
            let key_span = self.span(column);
            self.expect(b':', "expected `:`")?;
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, key_span, node });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b'}', "expected `,` or `}`")?;
                    return Ok(without_duplicates(entries, &mut self.errors));
                }
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b']', "expected `,` or `]`")?;
                    return Ok(items);
                }
            }
        }
    }

    /// Reads a string. Its end is found here; serde_json reads its content.
    fn string(&mut self) -> Result<String, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut end = 1;
        loop {
            match rest.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.error("a quote is not closed")),
            }
        }
        let literal = self.text.get(self.at..=self.at + end).unwrap_or_default();
        match serde_json::from_str(literal) {
            Ok(text) => {
                self.at += end + 1;
                Ok(text)
            }
            Err(_) => Err(self.error("a text contains a line end, a control character or a bad escape")),
        }
    }
}
