//! Text to tokens: just enough to see where statements end, which brackets belong together and what
//! is hidden.

use crate::span::Span;

/// A token with its place. Blanks make no tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: TokenKind,
    /// Where.
    pub(crate) span: Span,
}

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    /// The end of a line.
    Newline,
    /// `#` and what follows, blanks at the end of the line left out.
    Comment,
    /// A string with both its quotes.
    Str,
    /// A string whose line ends before it does.
    OpenStr,
    /// `(` or `[`
    Open,
    /// `)` or `]`
    Close,
    /// `@`
    At,
    /// Letters, digits and `_`.
    Word,
    /// A character that nobody sees, or that moves others; outside comments and strings.
    Hidden,
    /// Any other character.
    Other,
}

/// Whether a character may not stand in a workflow as it is: controls, and what hides or reorders
/// text around it.
pub(crate) fn is_hidden(c: char) -> bool {
    let layout = matches!(c, '\n' | '\t');
    // Bidirectional controls and marks, line separators, blanks without width, the byte order mark.
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unseen = matches!(
        c,
        '\u{ad}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}'
    );
    (c.is_control() && !layout) || reorders || unseen
}

/// The tokens of a text, in order.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or("");
        let (kind, len) = match c {
            ' ' | '\t' => {
                at += 1;
                continue;
            }
            '\r' if rest.starts_with("\r\n") => {
                at += 1;
                continue;
            }
            '\n' => (TokenKind::Newline, 1),
            '#' => (
                TokenKind::Comment,
                rest.find('\n')
                    .map_or(rest, |end| rest.get(..end).unwrap_or(""))
                    .trim_end()
                    .len(),
            ),
            '"' => string(rest),
            '(' | '[' => (TokenKind::Open, 1),
            ')' | ']' => (TokenKind::Close, 1),
            '@' => (TokenKind::At, 1),
            c if is_word(c) => (
                TokenKind::Word,
                rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ),
            c if is_hidden(c) => (TokenKind::Hidden, c.len_utf8()),
            c => (TokenKind::Other, c.len_utf8()),
        };
        tokens.push(Token {
            kind,
            span: Span::new(at, at + len),
        });
        at += len;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The string at the start of `rest`: whether it is closed, and its length.
fn string(rest: &str) -> (TokenKind, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => {
                return (
                    TokenKind::OpenStr,
                    rest.get(..at).unwrap_or("").trim_end().len(),
                );
            }
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (TokenKind::Str, at + 1),
            _ => {}
        }
    }
    (TokenKind::OpenStr, rest.trim_end().len())
}

/// For each token that is a bracket, the place of the token it belongs together with; for a bracket
/// without one, none.
///
/// A line that begins with `@`, `param name` or `export name` cannot stand inside brackets: what is
/// open there was forgotten. So was an inner bracket when a closing one fits the bracket around it.
pub(crate) fn partners(text: &str, tokens: &[Token]) -> Vec<Option<usize>> {
    let bracket = |at: usize| {
        tokens
            .get(at)
            .and_then(|token| text.get(token.span.start()..token.span.end()))
            .unwrap_or("")
    };
    let mut partners = vec![None; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open => open.push(at),
            TokenKind::Close => {
                let wanted = if bracket(at) == ")" { "(" } else { "[" };
                // Further out than the next bracket around it, a match is more likely an accident.
                let Some(depth) = (1..=2).find(|depth| {
                    open.len()
                        .checked_sub(*depth)
                        .and_then(|place| open.get(place))
                        .is_some_and(|at| bracket(*at) == wanted)
                }) else {
                    continue;
                };
                let partner = open.get(open.len() - depth).copied();
                open.truncate(open.len() - depth);
                if let (Some(slot), true) = (partners.get_mut(at), partner.is_some()) {
                    *slot = partner;
                }
                if let Some(slot) = partner.and_then(|partner| partners.get_mut(partner)) {
                    *slot = Some(at);
                }
            }
            TokenKind::OpenStr => open.clear(),
            _ if begins_surely(text, tokens, at) => open.clear(),
            _ => {}
        }
    }
    partners
}

/// Whether the token is the first of its line.
pub(crate) fn begins_line(tokens: &[Token], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| {
        tokens
            .get(before)
            .is_some_and(|token| token.kind == TokenKind::Newline)
    })
}

/// Whether a statement begins at the token, whatever is open before it.
pub(crate) fn begins_surely(text: &str, tokens: &[Token], at: usize) -> bool {
    let Some(token) = tokens.get(at).filter(|_| begins_line(tokens, at)) else {
        return false;
    };
    let word = text.get(token.span.start()..token.span.end()).unwrap_or("");
    let next = tokens.get(at + 1).map(|token| token.kind);
    token.kind == TokenKind::At
        || (matches!(word, "param" | "export") && next == Some(TokenKind::Word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_string_ends_at_its_quote_or_its_line() {
        use TokenKind::{Newline, OpenStr, Other, Str, Word};
        assert_eq!(kinds(r#"a = "x \" # y""#), [Word, Other, Str]);
        assert_eq!(
            kinds("\"x\n\"y\\\n\""),
            [OpenStr, Newline, OpenStr, Newline, OpenStr]
        );
    }

    #[test]
    fn brackets_find_their_partners_past_a_forgotten_one() {
        let text = "a = f([1, 2)\nb = g(x))";
        let tokens = tokens(text);
        let found: Vec<(&str, Option<&str>)> = partners(text, &tokens)
            .iter()
            .zip(&tokens)
            .filter(|(_, token)| matches!(token.kind, TokenKind::Open | TokenKind::Close))
            .map(|(partner, token)| {
                let text = |token: &Token| &text[token.span.start()..token.span.end()];
                (text(token), partner.map(|partner| text(&tokens[partner])))
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
