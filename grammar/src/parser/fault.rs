//! What to say of a text that is no statement: the mistakes that people make, each with its own
//! words.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// A piece that could not be parsed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault<'a> {
    /// The piece.
    pub(super) text: &'a str,
    /// How far it is good.
    pub(super) at: usize,
    /// What could have stood there.
    pub(super) expected: &'a [&'static str],
    /// Whether the piece is a value without a name.
    pub(super) unnamed: bool,
    /// Whether the piece's first line is indented.
    pub(super) indented: bool,
}

/// What is wrong, and what to do.
type Words = (String, String);

const STATEMENT: &str = "a statement is `name = op(arguments)`, `param name = value` or `export name as format \"path\"`";
const PARAM: &str = "a param is `param name = value`, or `param name: type` without a default, with `in low..high` if it has a range";
const ATTRIBUTE: &str =
    "an attribute is `@name` or `@name(value)`, as in @gpu(1) or @checkpoint(every = 10min)";
const EXPORT: &str = "an export is `export name as format \"path\"`";
const LINES: &str = "a statement ends with its line unless a bracket is open";

impl<'a> Fault<'a> {
    /// Whether the piece ends before its statement does: the next line may be its rest.
    pub(super) fn cut_short(self) -> bool {
        self.rest().is_empty() && !self.unnamed
    }

    /// The diagnostic; `offset` is where the piece begins in its source.
    pub(super) fn into_diagnostic(self, offset: usize) -> Diagnostic {
        let known = self
            .unnamed()
            .or_else(|| self.early_end())
            .or_else(|| self.opening())
            .or_else(|| self.character());
        let (message, help) = known.unwrap_or_else(|| self.other());
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        let here = Span::new(offset + self.at, offset + self.at + next);
        let (span, label) = match self.expected {
            _ if self.unnamed => (
                Span::new(offset, offset + self.text.len()),
                "a value by itself does nothing".to_owned(),
            ),
            [] => (here, "this does not belong here".to_owned()),
            ["`=`"] if self.first_word().0 == "export" => (
                here,
                "an export needs a name, a format and a path".to_owned(),
            ),
            expected => (here, format!("expected {}", expected.join(" or "))),
        };
        Diagnostic::error(codes::SYNTAX, message)
            .at(span, label)
            .help(help)
    }

    fn rest(self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn before(self) -> &'a str {
        self.text.get(..self.at).unwrap_or("").trim_end()
    }

    fn expects(self, what: &str) -> bool {
        self.expected.contains(&what)
    }

    /// The word at the start of the piece, and what follows it.
    fn first_word(self) -> (&'a str, &'a str) {
        let end = self
            .text
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        (word, rest.trim_start())
    }

    fn unnamed(self) -> Option<Words> {
        let value = self
            .text
            .lines()
            .next()
            .filter(|line| *line == self.text && line.chars().count() <= 60)
            .unwrap_or("…");
        let help = format!("bind it to a name: `name = {value}`");
        self.unnamed
            .then(|| ("this value has no name".to_owned(), help))
    }

    fn early_end(self) -> Option<Words> {
        if !self.cut_short() {
            return None;
        }
        let before = self.before();
        let (message, help) = match self.first_word() {
            _ if before.ends_with('@') => ("the attribute has no name", ATTRIBUTE.to_owned()),
            _ if before.ends_with('=') => (
                "the value is missing",
                format!("put it on the same line: {LINES}"),
            ),
            _ if self.expects("an attribute") && before.starts_with('@') => (
                "these attributes stand before nothing",
                "put the stage they are for below them: `name = op(…)`".to_owned(),
            ),
            ("param", _) => ("the param is not complete", PARAM.to_owned()),
            ("export", _) => ("the export is not complete", EXPORT.to_owned()),
            _ => (
                "the statement is not complete",
                format!("{LINES}; {STATEMENT}"),
            ),
        };
        Some((message.to_owned(), help))
    }

    /// Words from other languages.
    fn opening(self) -> Option<Words> {
        let (word, rest) = self.first_word();
        let named = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let dotted = rest.starts_with('.')
            && rest
                .split_once('=')
                .is_some_and(|(name, _)| !name.contains(['(', '[', '"']));
        match word {
            "let" | "var" | "val" | "const" | "def" | "fn" | "set" if named => Some((
                format!("`{word}` is no word of the language"),
                "a binding is `name = value`, nothing before it".to_owned(),
            )),
            "import" | "include" | "use" | "from" if named || rest.starts_with('"') => {
                let help = "a workflow is one file, and all ops are known in it: remove the line";
                Some(("there are no imports".to_owned(), help.to_owned()))
            }
            "param" | "export" | "" => None,
            _ if rest.starts_with(':') && !rest.starts_with(":=") => {
                let help = format!(
                    "write `param {word}: …` if it is to be set from outside, else `{word} = …`"
                );
                Some(("only a param has a declared type".to_owned(), help))
            }
            _ if dotted => Some((
                "a binding's name has no dots".to_owned(),
                "use `_` instead of the dots".to_owned(),
            )),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) && rest.starts_with('=') => Some((
                format!("`{word}` is no name"),
                "a name begins with a letter or `_`".to_owned(),
            )),
            _ => None,
        }
    }

    /// What the character says at which the piece goes wrong.
    fn character(self) -> Option<Words> {
        let rest = self.rest();
        let c = rest.chars().next()?;
        let digit_follows = rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        let value_due = self.expects("a value");
        let words = |message: &str, help: &str| Some((message.to_owned(), help.to_owned()));
        match c {
            '\'' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '`' => Some((
                format!("`{c}` is no quote of the language"),
                "write strings as \"text\"".to_owned(),
            )),
            ';' => words(
                "a `;` stands here",
                "remove it: a statement ends with its line",
            ),
            '{' | '}' => words(
                "the language has no braces",
                "arguments stand in ( ), lists in [ ]",
            ),
            '/' if rest.starts_with("//") || rest.starts_with("/*") => words(
                "this is no comment of the language",
                "a comment begins with `#` and ends with its line",
            ),
            '=' if self.before().ends_with('=') => {
                words("there are two `=`", "one `=` binds a name to its value")
            }
            ':' if rest.starts_with(":=") => {
                words("there are two signs", "one `=` binds a name to its value")
            }
            '=' | ':' if self.expects("`,`") => words(
                "an argument is named by one word and one `=`",
                "write it as `name = value`; the name has no quotes and no dots",
            ),
            '.' if digit_follows && value_due => {
                words("a number begins with a digit", "write `0.5`, not `.5`")
            }
            '+' if digit_follows && value_due => words("a number has no `+`", "remove it"),
            '-' if value_due => words(
                "the sign has no number",
                "the digits follow a `-` at once: `-1`",
            ),
            ',' if value_due => words(
                "a value is missing before the `,`",
                "remove the `,` or put a value before it",
            ),
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '!' | '&' | '|' | '^' | '?'
                if !self.before().is_empty() =>
            {
                words(
                    "the language has no operators",
                    "write the value itself, or let an op compute it",
                )
            }
            c if !c.is_ascii() && c.is_alphabetic() => words(
                "a name is written with ASCII letters, digits and `_`",
                "write it without other letters; texts in any script stand in quotes",
            ),
            _ => None,
        }
    }

    fn other(self) -> Words {
        let (message, help) = match self.first_word() {
            _ if self.expects("`,`") => (
                "a `,` or the closing bracket is missing here",
                "put a `,` between values",
            ),
            ("param", rest) if !rest.is_empty() => ("this is no param", PARAM),
            ("export", rest) if !rest.is_empty() => ("this is no export", EXPORT),
            _ if self.indented => (
                "this is no statement of the language",
                "if it goes on with the line above: a statement ends with its line unless a bracket is open",
            ),
            _ if self.before().ends_with('@') => (
                "the name of an attribute follows its `@` at once",
                ATTRIBUTE,
            ),
            _ if self.text.starts_with('@') && self.expects("`)`") => {
                ("an attribute has one value at most", ATTRIBUTE)
            }
            _ if self.expects("the end of the statement") => (
                "the statement should end here",
                "write one statement a line, and a `,` between arguments",
            ),
            _ => ("this is no statement of the language", STATEMENT),
        };
        (message.to_owned(), help.to_owned())
    }
}
