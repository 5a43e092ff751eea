//! JSON (RFC 8259). YAML's parser differs from it in tabs, long keys and surrogate pairs, so this is read as what it is.

use super::{Entry, Fault, MAX_DEPTH, Node, Span, Value, without_duplicates};

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Up to where in the current line characters were counted, and the column there.
    counted: (usize, u32),
    faults: Vec<Fault>,
}

pub(super) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut reader = Reader { text, at: 0, line: 1, counted: (0, 1), faults: Vec::new() };
    reader.space();
    if reader.peek().is_none() {
        return (None, Vec::new());
    }
    let node = reader.value(0).and_then(|node| {
        reader.space();
        match reader.peek() {
            None => Ok(node),
            Some(_) => Err(reader.fault("there is text behind the end")),
        }
    });
    match node {
        Ok(node) => (Some(node), reader.faults),
        Err(fault) => {
            reader.faults.push(fault);
            (None, reader.faults)
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

    /// The column of the place that was read up to.
    fn column(&mut self) -> u32 {
        let (from, column) = self.counted;
        let more = self.text.get(from..self.at).map_or(0, |text| text.chars().count());
        self.counted = (self.at, column + more as u32);
        self.counted.1
    }

    /// From `column` of the current line to here.
    fn span(&mut self, column: u32) -> Span {
        Span { line: self.line, column, length: self.column().saturating_sub(column).max(1) }
    }

    fn fault(&mut self, message: &str) -> Fault {
        let column = self.column();
        Fault::new(self.span(column), format!("this is not valid JSON: {message}"))
    }

    fn expect(&mut self, octet: u8, message: &str) -> Result<(), Fault> {
        self.space();
        match self.peek() == Some(octet) {
            true => {
                self.at += 1;
                Ok(())
            }
            false => Err(self.fault(message)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.space();
        let (line, column) = (self.line, self.column());
        let mut span = self.span(column);
        let value = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                return Err(Fault::new(span, format!("lists and maps are nested more than {MAX_DEPTH} deep")));
            }
            Some(b'{') => Value::Map(self.map(depth)?),
            Some(b'[') => Value::List(self.list(depth)?),
            Some(b'"') => Value::Scalar { text: self.string()?.into(), plain: false },
            Some(_) => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n', ':', '"', '[', '{']).unwrap_or(rest.len());
                let word = &rest[..end];
                if serde_json::from_str::<serde_json::Value>(word).is_err() {
                    return Err(self.fault("expected a value: text must be in quotes"));
                }
                self.at += end;
                Value::Scalar { text: word.into(), plain: true }
            }
            None => return Err(self.fault("it ends in the middle")),
        };
        if self.line == line {
            span = self.span(column);
        }
        Ok(Node { span, value })
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
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
                return Err(self.fault("expected a key in quotes"));
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
                    return Ok(without_duplicates(entries, &mut self.faults));
                }
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
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

    /// A string: where it ends is found here, what is in it is for serde_json to say.
    fn string(&mut self) -> Result<String, Fault> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut end = 1;
        loop {
            match rest.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.fault("a quote is not closed")),
            }
        }
        let literal = self.text.get(self.at..=self.at + end).unwrap_or_default();
        match serde_json::from_str(literal) {
            Ok(text) => {
                self.at += end + 1;
                Ok(text)
            }
            Err(_) => Err(self.fault("a text has a line end, a control character or a bad escape in it")),
        }
    }
}
