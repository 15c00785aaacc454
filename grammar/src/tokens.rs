//! Text to tokens: enough to see where statements end, which brackets match and which characters
//! are hidden. The full syntax is the parser's work.

use crate::span::Span;

/// A token with its span. Blanks are no tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    Newline,
    /// `#` and the rest of its line, without trailing blanks.
    Comment,
    /// A string with both its quotes.
    Str,
    /// A string that is still open at the end of its line.
    UnterminatedStr,
    /// `(` or `[`
    Open,
    /// `)` or `]`
    Close,
    /// `@`
    At,
    /// ASCII letters, digits and `_`.
    Word,
    /// A hidden character (see [`is_hidden`]) outside comments and strings.
    Hidden,
    /// Any other character.
    Other,
}

/// Whether a character is refused in a workflow unless it is escaped: control characters, and
/// characters that are invisible or that reorder the text around them.
pub(crate) fn is_hidden(c: char) -> bool {
    let layout = matches!(c, '\n' | '\t');
    let bidirectional = matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    );
    // Unicode's Default_Ignorable_Code_Point (the soft hyphen, joiners, fillers, variation
    // selectors, tags), line and paragraph separators, the blank of braille, interlinear
    // annotations.
    let invisible = matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2028}'..='\u{2029}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    (c.is_control() && !layout) || bidirectional || invisible || is_noncharacter(c)
}

/// Whether Unicode never assigns a character to this code point.
fn is_noncharacter(c: char) -> bool {
    let number = u32::from(c);
    number & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&number)
}

/// The tokens of a text, in order.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let blanks = leading_blanks(rest);
        if blanks > 0 {
            at += blanks;
            continue;
        }
        let (kind, len) = first_token(rest);
        let span = Span::new(at, at + len);
        tokens.push(Token { kind, span });
        at += len;
    }
    tokens
}

/// The length of the blanks that `rest` begins with. The `\r` of `\r\n` is one of them.
fn leading_blanks(rest: &str) -> usize {
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    if blanks == 0 && rest.starts_with("\r\n") {
        1
    } else {
        blanks
    }
}

/// The kind and the length of the token that `rest` begins with.
fn first_token(rest: &str) -> (TokenKind, usize) {
    let Some(c) = rest.chars().next() else {
        return (TokenKind::Newline, 0);
    };
    match c {
        '\n' => (TokenKind::Newline, 1),
        '#' => (TokenKind::Comment, comment_len(rest)),
        '"' => string(rest),
        '(' | '[' => (TokenKind::Open, 1),
        ')' | ']' => (TokenKind::Close, 1),
        '@' => (TokenKind::At, 1),
        c if is_word(c) => {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (TokenKind::Word, len)
        }
        c if is_hidden(c) => (TokenKind::Hidden, c.len_utf8()),
        c => (TokenKind::Other, c.len_utf8()),
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn comment_len(rest: &str) -> usize {
    let end = rest.find('\n').unwrap_or(rest.len());
    let line = rest.get(..end).unwrap_or("");
    line.trim_end().len()
}

/// The string that `rest` begins with: whether it is terminated, and its length.
fn string(rest: &str) -> (TokenKind, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            // Even after a backslash, which cannot escape a line break.
            '\n' => {
                let line = rest.get(..at).unwrap_or("");
                return (TokenKind::UnterminatedStr, line.trim_end().len());
            }
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (TokenKind::Str, at + 1),
            _ => {}
        }
    }
    (TokenKind::UnterminatedStr, rest.trim_end().len())
}

/// For each token that is a bracket, the index of the bracket that matches it; `None` for an
/// unmatched bracket and for every other token.
///
/// A line that begins with `@`, `param name` or `export name` cannot stand inside brackets, so the
/// brackets that are open there are unmatched. So is an inner bracket when a closing one matches
/// the bracket around it.
pub(crate) fn matching_brackets(text: &str, tokens: &[Token]) -> Vec<Option<usize>> {
    let mut matching = vec![None; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open => open.push(at),
            TokenKind::Close => {
                let wanted = if text_of(text, token) == ")" {
                    "("
                } else {
                    "["
                };
                if let Some(opening) = take_opening(text, tokens, &mut open, wanted) {
                    set(&mut matching, at, opening);
                    set(&mut matching, opening, at);
                }
            }
            // The string may have swallowed the closing brackets.
            TokenKind::UnterminatedStr => open.clear(),
            _ if begins_statement(text, tokens, at) => open.clear(),
            _ => {}
        }
    }
    matching
}

/// Removes the bracket `wanted` from the top of the stack `open`, together with an unmatched one
/// above it. A match further down is more likely an accident than a second forgotten bracket.
fn take_opening(
    text: &str,
    tokens: &[Token],
    open: &mut Vec<usize>,
    wanted: &str,
) -> Option<usize> {
    for depth in 1..=2 {
        let place = open.len().checked_sub(depth)?;
        let opening = *open.get(place)?;
        if tokens
            .get(opening)
            .is_some_and(|token| text_of(text, token) == wanted)
        {
            open.truncate(place);
            return Some(opening);
        }
    }
    None
}

fn set(matching: &mut [Option<usize>], at: usize, other: usize) {
    if let Some(slot) = matching.get_mut(at) {
        *slot = Some(other);
    }
}

fn text_of<'t>(text: &'t str, token: &Token) -> &'t str {
    text.get(token.span.start()..token.span.end()).unwrap_or("")
}

/// Whether the token is the first of its line.
pub(crate) fn begins_line(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else {
        return true;
    };
    tokens
        .get(before)
        .is_some_and(|token| token.kind == TokenKind::Newline)
}

/// Whether a statement begins at the token for certain, even if brackets are open before it.
pub(crate) fn begins_statement(text: &str, tokens: &[Token], at: usize) -> bool {
    let Some(token) = tokens.get(at).filter(|_| begins_line(tokens, at)) else {
        return false;
    };
    if token.kind == TokenKind::At {
        return true;
    }
    let keyword = matches!(text_of(text, token), "param" | "export");
    let next = tokens.get(at + 1).map(|token| token.kind);
    keyword && next == Some(TokenKind::Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_string_ends_at_its_quote_or_its_line() {
        use TokenKind::{Newline, Other, Str, UnterminatedStr, Word};
        assert_eq!(kinds(r#"a = "x \" # y""#), [Word, Other, Str]);
        assert_eq!(
            kinds("\"x\n\"y\\\n\""),
            [
                UnterminatedStr,
                Newline,
                UnterminatedStr,
                Newline,
                UnterminatedStr
            ]
        );
    }

    #[test]
    fn brackets_match_past_a_forgotten_one() {
        let text = "a = f([1, 2)\nb = g(x))";
        let tokens = tokens(text);
        let found: Vec<(&str, Option<&str>)> = matching_brackets(text, &tokens)
            .iter()
            .zip(&tokens)
            .filter(|(_, token)| matches!(token.kind, TokenKind::Open | TokenKind::Close))
            .map(|(other, token)| {
                let other = other.map(|other| text_of(text, &tokens[other]));
                (text_of(text, token), other)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("(", Some(")")),
                ("[", None),
                (")", Some("(")),
                ("(", Some(")")),
                (")", Some("(")),
                (")", None)
            ]
        );
    }
}
