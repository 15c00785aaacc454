//! Messages for statements that could not be parsed. The mistakes that people make most have a
//! message of their own.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// A raw statement that could not be parsed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyntaxError<'a> {
    /// The raw statement.
    pub(super) text: &'a str,
    /// Where in `text` the parser stopped.
    pub(super) at: usize,
    /// What was expected there.
    pub(super) expected: &'a [&'static str],
    /// Whether the statement is a value without a name.
    pub(super) unnamed_value: bool,
    /// Whether the statement's first line is indented.
    pub(super) indented: bool,
}

/// A message and its help.
type Advice = (String, String);

const STATEMENT: &str = "a statement is `name = op(arguments)`, `param name = value` or \
     `export name as format \"path\"`";
const PARAM: &str = "a param is `param name = value`, or `param name: type` without a default, \
     with `in low..high` if it has a range";
const ATTRIBUTE: &str =
    "an attribute is `@name` or `@name(value)`, as in @gpu(1) or @checkpoint(every = 10min)";
const EXPORT: &str = "an export is `export name as format \"path\"`";
const LINES: &str = "a statement ends at the end of its line unless a bracket is open";

/// Longer values are not repeated in a help.
const SHOWN_MAX: usize = 60;

impl<'a> SyntaxError<'a> {
    /// Whether the text ended where more was expected: the next line may be the rest of it.
    pub(super) fn is_incomplete(self) -> bool {
        self.rest().is_empty() && !self.unnamed_value
    }

    /// `offset` is where the raw statement begins in its source.
    pub(super) fn into_diagnostic(self, offset: usize) -> Diagnostic {
        let known = self
            .unnamed_value()
            .or_else(|| self.incomplete())
            .or_else(|| self.foreign_syntax())
            .or_else(|| self.unexpected_character());
        let (message, help) = known.unwrap_or_else(|| self.other());
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        let here = Span::new(offset + self.at, offset + self.at + next);
        let (span, label) = match self.expected {
            _ if self.unnamed_value => (
                Span::new(offset, offset + self.text.len()),
                "a value by itself has no effect".to_owned(),
            ),
            [] => (here, "unexpected here".to_owned()),
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

    /// The text from where the parser stopped.
    fn rest(self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn before(self) -> &'a str {
        self.text.get(..self.at).unwrap_or("").trim_end()
    }

    fn expects(self, what: &str) -> bool {
        self.expected.contains(&what)
    }

    /// The word at the start of the statement, and what follows it.
    fn first_word(self) -> (&'a str, &'a str) {
        let end = self
            .text
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        (word, rest.trim_start())
    }

    fn unnamed_value(self) -> Option<Advice> {
        if !self.unnamed_value {
            return None;
        }
        let short = !self.text.contains('\n') && self.text.chars().count() <= SHOWN_MAX;
        let value = if short { self.text } else { "…" };
        let help = format!("bind it to a name: `name = {value}`");
        Some(("value without a name".to_owned(), help))
    }

    fn incomplete(self) -> Option<Advice> {
        if !self.is_incomplete() {
            return None;
        }
        let before = self.before();
        let (message, help) = match self.first_word() {
            _ if before.ends_with('@') => ("missing attribute name", ATTRIBUTE.to_owned()),
            _ if before.ends_with('=') => {
                ("missing value", format!("put it on the same line: {LINES}"))
            }
            _ if self.expects("an attribute") && before.starts_with('@') => (
                "attributes without a stage",
                "write the stage they apply to below them: `name = op(…)`".to_owned(),
            ),
            ("param", _) => ("incomplete param", PARAM.to_owned()),
            ("export", _) => ("incomplete export", EXPORT.to_owned()),
            _ => ("incomplete statement", format!("{LINES}; {STATEMENT}")),
        };
        Some((message.to_owned(), help))
    }

    /// Statements as other languages have them.
    fn foreign_syntax(self) -> Option<Advice> {
        let (word, rest) = self.first_word();
        let name_follows = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        match word {
            "let" | "var" | "val" | "const" | "def" | "fn" | "set" if name_follows => Some((
                format!("`{word}` is not a keyword"),
                "write a binding as `name = value`".to_owned(),
            )),
            "import" | "include" | "use" | "from" if name_follows || rest.starts_with('"') => {
                let help = "remove the line: a workflow is one file, and all ops are known in it";
                Some(("imports are not supported".to_owned(), help.to_owned()))
            }
            "param" | "export" | "" => None,
            _ if rest.starts_with(':') && !rest.starts_with(":=") => {
                let help = format!(
                    "write `param {word}: …` if it is to be set from outside, else `{word} = …`"
                );
                Some(("only a param can have a declared type".to_owned(), help))
            }
            _ if self.binds_dotted_name() => Some((
                "the name of a binding cannot contain dots".to_owned(),
                "use `_` instead of the dots".to_owned(),
            )),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) && rest.starts_with('=') => Some((
                format!("`{word}` is not a valid name"),
                "a name begins with a letter or `_`".to_owned(),
            )),
            _ => None,
        }
    }

    /// Whether the statement is like `a.b = …`.
    fn binds_dotted_name(self) -> bool {
        let (_, rest) = self.first_word();
        let Some((name, _)) = rest.split_once('=') else {
            return false;
        };
        rest.starts_with('.') && !name.contains(['(', '[', '"'])
    }

    /// What the character at which the parser stopped says.
    fn unexpected_character(self) -> Option<Advice> {
        let rest = self.rest();
        let c = rest.chars().next()?;
        let (message, help) = match c {
            '\'' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '`' => {
                let message = format!("`{c}` is not a quote character");
                return Some((message, "write strings as \"text\"".to_owned()));
            }
            '{' | '}' => {
                let message = format!("unexpected `{c}`");
                return Some((message, "arguments stand in ( ), lists in [ ]".to_owned()));
            }
            ';' => (
                "unexpected `;`",
                "remove it: a statement ends at the end of its line",
            ),
            '/' if rest.starts_with("//") || rest.starts_with("/*") => (
                "invalid comment",
                "a comment begins with `#` and ends at the end of its line",
            ),
            '=' if self.before().ends_with('=') => {
                ("unexpected second `=`", "one `=` binds a name to its value")
            }
            ':' if rest.starts_with(":=") => {
                ("unexpected `:=`", "one `=` binds a name to its value")
            }
            '=' | ':' if self.expects("`,`") => (
                "invalid named argument",
                "write it as `name = value`; the name has no quotes and no dots",
            ),
            _ if self.expects("a value") => return self.invalid_value(c),
            _ => return self.unsupported(c),
        };
        Some((message.to_owned(), help.to_owned()))
    }

    /// Where a value was expected and `c` was found.
    fn invalid_value(self, c: char) -> Option<Advice> {
        let second = self.rest().chars().nth(1);
        let digit_follows = second.is_some_and(|c| c.is_ascii_digit());
        let (message, help) = match c {
            '.' if digit_follows => (
                "a number has to begin with a digit",
                "write `0.5`, not `.5`",
            ),
            '+' if digit_follows => ("a number cannot begin with `+`", "remove it"),
            '-' => (
                "`-` without a number",
                "write the digits right after it: `-1`",
            ),
            ',' => (
                "missing value before `,`",
                "remove the `,` or put a value before it",
            ),
            _ => return self.unsupported(c),
        };
        Some((message.to_owned(), help.to_owned()))
    }

    /// Operators, and letters that names cannot contain.
    fn unsupported(self, c: char) -> Option<Advice> {
        let (message, help) = match c {
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '!' | '&' | '|' | '^' | '?'
                if !self.before().is_empty() =>
            {
                (
                    "operators are not supported",
                    "write the value itself, or let an op compute it",
                )
            }
            c if !c.is_ascii() && c.is_alphabetic() => (
                "a name can contain only ASCII letters, digits and `_`",
                "rename it; a string in quotes can contain any letters",
            ),
            _ => return None,
        };
        Some((message.to_owned(), help.to_owned()))
    }

    fn other(self) -> Advice {
        let (message, help) = match self.first_word() {
            _ if self.expects("`,`") => {
                ("missing `,` or closing bracket", "separate values with `,`")
            }
            ("param", rest) if !rest.is_empty() => ("invalid param", PARAM),
            ("export", rest) if !rest.is_empty() => ("invalid export", EXPORT),
            _ if self.indented => (
                "invalid statement",
                "if it continues the line above: a statement ends at the end of its line unless a \
                 bracket is open",
            ),
            _ if self.before().ends_with('@') => (
                "the name of an attribute has to follow `@` directly",
                ATTRIBUTE,
            ),
            _ if self.text.starts_with('@') && self.expects("`)`") => {
                ("an attribute takes at most one value", ATTRIBUTE)
            }
            _ if self.expects("the end of the statement") => (
                "unexpected text after the statement",
                "write one statement a line, and a `,` between arguments",
            ),
            _ => ("invalid statement", STATEMENT),
        };
        (message.to_owned(), help.to_owned())
    }
}
