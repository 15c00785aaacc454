//! Splits Rust source into code, comments and string literals: just enough of a lexer to check how
//! each of them is written.

/// What a piece of source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Code,
    Comment,
    /// A string literal with its quotes.
    Literal,
}

/// A piece of source. Pieces are adjacent: together they are the whole source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece<'s> {
    pub(crate) kind: Kind,
    pub(crate) text: &'s str,
}

/// Splits a file into pieces.
pub(crate) fn scan(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < source.len() {
        match token(source, at) {
            Some((kind, length)) => {
                push(&mut pieces, Kind::Code, &source[start..at]);
                push(&mut pieces, kind, &source[at..at + length]);
                at += length;
                start = at;
            }
            None => at += code_length(source, at),
        }
    }
    push(&mut pieces, Kind::Code, &source[start..]);
    pieces
}

fn push<'s>(pieces: &mut Vec<Piece<'s>>, kind: Kind, text: &'s str) {
    if !text.is_empty() {
        pieces.push(Piece { kind, text });
    }
}

/// The comment or string literal at a position, with its length.
fn token(source: &str, at: usize) -> Option<(Kind, usize)> {
    let rest = &source[at..];
    if rest.starts_with("//") {
        let length = rest.find('\n').unwrap_or(rest.len());
        return Some((Kind::Comment, length));
    }
    if rest.starts_with("/*") {
        return Some((Kind::Comment, block_comment_length(rest)));
    }
    let before = source[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let is_raw = rest[..prefix].ends_with('r');
    let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
    if prefix > 2 || (hashes > 0 && !is_raw) || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let quote = prefix + hashes;
    let length = if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &rest[quote + 1..];
        body.find(&end)
            .map_or(rest.len(), |found| quote + 1 + found + end.len())
    } else {
        quote + string_length(&rest[quote..])
    };
    Some((Kind::Literal, length))
}

/// The length of a string literal that starts with its opening quote.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Block comments nest.
fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the code at a position that has to be skipped at once: a character literal such as
/// `'"'`, whose content starts nothing, or else one character.
fn code_length(source: &str, at: usize) -> usize {
    let mut chars = source[at..].char_indices();
    let Some((_, first)) = chars.next() else {
        return 1;
    };
    if first != '\'' {
        return first.len_utf8();
    }
    match (chars.next(), chars.next()) {
        // The escaped character can itself be a quote.
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            let end = source[at + from..].find('\'');
            end.map_or(1, |end| from + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        // A lifetime.
        _ => 1,
    }
}

#[test]
fn source_is_split_into_code_comments_and_literals() {
    let source = r##"let a = "x \" // y"; // "c"
let b = ['"', '\'', '\u{1}']; /* "d" /* e */ */ f::<'a>(br#"g"h"#, "");
"##;
    let found: Vec<(Kind, &str)> = scan(source)
        .iter()
        .filter(|piece| piece.kind != Kind::Code)
        .map(|piece| (piece.kind, piece.text))
        .collect();
    assert_eq!(
        found,
        [
            (Kind::Literal, r#""x \" // y""#),
            (Kind::Comment, r#"// "c""#),
            (Kind::Comment, r#"/* "d" /* e */ */"#),
            (Kind::Literal, r##"br#"g"h"#"##),
            (Kind::Literal, r#""""#),
        ]
    );
    let joined: String = scan(source).iter().map(|piece| piece.text).collect();
    assert_eq!(joined, source);
}
