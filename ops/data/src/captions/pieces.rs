//! A JSON list cut into its entries while it is read, so that a list of gigabytes takes the memory
//! of one entry, and an entry that is no JSON costs only itself.

use std::io::{self, BufRead, BufReader, Read};

/// The longest accepted entry.
pub(super) const ENTRY_BYTES_MAX: usize = 1 << 20;
/// The arrays of an object that are cut into their elements: COCO's.
const CUT_FIELDS: [&str; 2] = ["images", "annotations"];

/// An entry, and where it begins.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) of: PieceOf,
    /// `None` when it is longer than [`ENTRY_BYTES_MAX`].
    pub(super) text: Option<Vec<u8>>,
    pub(super) at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PieceOf {
    /// An entry of an array at the top, or an object at the top: a line of JSON lines.
    Top,
    /// An element of an array of an object at the top.
    Field(&'static str),
    /// The rest of that object. Its fields are all named, what was cut out is null.
    Rest,
}

#[derive(Debug)]
pub(super) enum SplitError {
    Io(io::Error),
    /// The file ends inside of what begins at this byte.
    Ends(u64),
    /// What is at this byte is no part of a list.
    Unexpected(u64, String),
}

impl From<io::Error> for SplitError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Calls `take` with each piece of a list, in order.
pub(super) fn split(list: impl Read, take: &mut dyn FnMut(Piece)) -> Result<(), SplitError> {
    let mut scanner = Scanner {
        reader: BufReader::with_capacity(1 << 20, list),
        at: 0,
    };
    scanner.skip_mark()?;
    let mut is_first = true;
    while let Some(byte) = scanner.next_byte()? {
        match byte {
            b'[' if is_first => scanner.array(PieceOf::Top, take)?,
            b'{' => scanner.object(take)?,
            _ => return Err(scanner.unexpected()?),
        }
        // After an array nothing may follow.
        if byte == b'[' && scanner.next_byte()?.is_some() {
            return Err(scanner.unexpected()?);
        }
        is_first = false;
    }
    Ok(())
}

struct Scanner<R> {
    reader: BufReader<R>,
    at: u64,
}

impl<R: Read> Scanner<R> {
    /// A byte-order mark of UTF-8.
    fn skip_mark(&mut self) -> io::Result<()> {
        if self.reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.consume(3);
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.at += count as u64;
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    /// The next byte that is no white space; it is not consumed.
    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.consume(1);
        }
        Ok(None)
    }

    /// Consumes one of these bytes, after white space.
    fn expect(&mut self, bytes: &[u8], from: u64) -> Result<u8, SplitError> {
        match self.next_byte()? {
            Some(byte) if bytes.contains(&byte) => {
                self.consume(1);
                Ok(byte)
            }
            Some(_) => Err(self.unexpected()?),
            None => Err(SplitError::Ends(from)),
        }
    }

    fn unexpected(&mut self) -> io::Result<SplitError> {
        let rest = self.reader.fill_buf()?;
        let shown = rest.get(..rest.len().min(20)).unwrap_or_default();
        let shown = String::from_utf8_lossy(shown).escape_debug().to_string();
        Ok(SplitError::Unexpected(self.at, shown))
    }

    /// An array whose elements are pieces.
    fn array(&mut self, of: PieceOf, take: &mut dyn FnMut(Piece)) -> Result<(), SplitError> {
        let from = self.at;
        self.consume(1);
        if self.next_byte()? == Some(b']') {
            self.consume(1);
            return Ok(());
        }
        loop {
            self.next_byte()?;
            let at = self.at;
            let mut text = Kept::default();
            self.value(&mut text, at)?;
            take(Piece {
                of,
                text: text.bytes,
                at,
            });
            if self.expect(b",]", from)? == b']' {
                return Ok(());
            }
        }
    }

    /// An object at the top.
    fn object(&mut self, take: &mut dyn FnMut(Piece)) -> Result<(), SplitError> {
        let from = self.at;
        let mut of = PieceOf::Top;
        let mut text = Kept::default();
        text.push(b'{');
        self.consume(1);
        if self.next_byte()? == Some(b'}') {
            self.consume(1);
        } else {
            loop {
                self.next_byte()?;
                let mut name = Kept::default();
                self.value(&mut name, from)?;
                let name = name.bytes.unwrap_or_default();
                text.extend(&name);
                self.expect(b":", from)?;
                text.push(b':');
                let cut = CUT_FIELDS
                    .into_iter()
                    .find(|field| name == format!("\"{field}\"").as_bytes());
                match (cut, self.next_byte()?) {
                    (Some(field), Some(b'[')) => {
                        of = PieceOf::Rest;
                        self.array(PieceOf::Field(field), take)?;
                        text.extend(b"null");
                    }
                    _ => self.value(&mut text, from)?,
                }
                if self.expect(b",}", from)? == b'}' {
                    break;
                }
                text.push(b',');
            }
        }
        text.push(b'}');
        take(Piece {
            of,
            text: text.bytes,
            at: from,
        });
        Ok(())
    }

    /// Copies a value: up to the bracket that closes it, or to what separates it from the next.
    fn value(&mut self, text: &mut Kept, from: u64) -> Result<(), SplitError> {
        let mut depth = 0_u64;
        let mut is_started = false;
        loop {
            let Some(byte) = self.peek()? else {
                return Err(SplitError::Ends(from));
            };
            let is_end = matches!(byte, b',' | b':' | b']' | b'}') || byte.is_ascii_whitespace();
            if depth == 0 && is_end {
                // An entry that is missing, as in `[1,,2]`, is one that cannot be read.
                return Ok(());
            }
            if byte == b'"' {
                self.string(text, from)?;
                if depth == 0 && !is_started {
                    return Ok(());
                }
                continue;
            }
            is_started = true;
            text.push(byte);
            self.consume(1);
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b']') {
                return Ok(());
            }
        }
    }

    fn string(&mut self, text: &mut Kept, from: u64) -> Result<(), SplitError> {
        let mut is_escaped = true;
        loop {
            let Some(byte) = self.peek()? else {
                return Err(SplitError::Ends(from));
            };
            text.push(byte);
            self.consume(1);
            if byte == b'"' && !is_escaped {
                return Ok(());
            }
            is_escaped = byte == b'\\' && !is_escaped;
        }
    }
}

/// The text of a piece, until it is too long.
struct Kept {
    bytes: Option<Vec<u8>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            bytes: Some(Vec::new()),
        }
    }
}

impl Kept {
    fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    fn extend(&mut self, more: &[u8]) {
        let Some(bytes) = &mut self.bytes else {
            return;
        };
        if bytes.len() + more.len() > ENTRY_BYTES_MAX {
            self.bytes = None;
        } else {
            bytes.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &[u8]) -> Result<Vec<(PieceOf, String)>, SplitError> {
        let mut pieces = Vec::new();
        split(list, &mut |piece| {
            let text = piece.text.map(|text| String::from_utf8(text).unwrap());
            pieces.push((piece.of, text.unwrap_or_default()));
        })?;
        Ok(pieces)
    }

    #[test]
    fn lists_are_cut_where_their_entries_end() {
        let top = |text: &str| (PieceOf::Top, text.to_owned());
        let list = br#" [ {"a": "]\"}"} , [1, {"b": 2}], NaN,"x" ] "#;
        assert_eq!(
            pieces(list).unwrap(),
            [
                top(r#"{"a": "]\"}"}"#),
                top(r#"[1, {"b": 2}]"#),
                top("NaN"),
                top(r#""x""#)
            ]
        );
        assert_eq!(
            pieces(b"\xef\xbb\xbf{\"a\": 1}\r\n{}\n").unwrap(),
            [top(r#"{"a":1}"#), top("{}")]
        );
        assert_eq!(
            pieces(br#"{"images": [{"id": 1}], "n": [2], "annotations": []}"#).unwrap(),
            [
                (PieceOf::Field("images"), r#"{"id": 1}"#.to_owned()),
                (
                    PieceOf::Rest,
                    r#"{"images":null,"n":[2],"annotations":null}"#.to_owned()
                )
            ]
        );
    }

    #[test]
    fn what_is_no_list_is_named_by_its_position() {
        assert!(matches!(pieces(b"[1, {\"a"), Err(SplitError::Ends(4))));
        assert!(matches!(pieces(b"[1, 2"), Err(SplitError::Ends(4))));
        assert!(matches!(pieces(b"[] x"), Err(SplitError::Unexpected(3, text)) if text == "x"));
        assert!(matches!(
            pieces(b"[1 2]"),
            Err(SplitError::Unexpected(3, _))
        ));
        let long = format!("[\"{}\", 1]", "x".repeat(ENTRY_BYTES_MAX));
        let found = pieces(long.as_bytes()).unwrap();
        assert_eq!(
            found,
            [
                (PieceOf::Top, String::new()),
                (PieceOf::Top, "1".to_owned())
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_cut_or_refused(text in "[\\[\\]{}\",:a1\\\\ \n]{0,60}") {
            let _ = pieces(text.as_bytes());
        }
    }
}
