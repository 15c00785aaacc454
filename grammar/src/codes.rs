//! Every kind of diagnostic, with a paragraph that explains it.

use std::fmt;

/// A kind of diagnostic, such as E020.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(&'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The explanation of a code such as `E020`, in either case.
pub fn explanation(code: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| known.0.eq_ignore_ascii_case(code))
        .map(|(_, text)| text.trim())
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: Code = Code($code);)+
        /// All codes with their explanations, in order.
        pub const ALL: &[(Code, &str)] = &[$((Code($code), concat!($($doc),+))),+];
    };
}

codes! {
    /// The file is larger than a workflow may be. It is probably a data file; long lists belong in
    /// files that an op reads.
    SOURCE_TOO_LARGE = "E001";
    /// The file is not valid UTF-8, the encoding of workflows.
    NOT_UTF8 = "E002";
    /// The file contains a character that does not belong in text, such as NUL, or one that is
    /// invisible or changes the direction of text, and so can make a workflow look different from
    /// what it is.
    CONTROL_CHARACTER = "E003";
    /// Brackets are nested deeper than any workflow needs.
    TOO_DEEP = "E004";
    /// The file has too many errors to list them all. Fix the first ones and check again.
    TOO_MANY = "E005";
    /// Lists of lists, or lists that are used very often, make values too large for memory.
    TOO_LARGE = "E006";
    /// Syntax error. A statement is `name = value`, `param name = value` or
    /// `export name as format "path"`, and ends at the end of its line unless a bracket is open.
    SYNTAX = "E010";
    /// A string has no closing quote on its line.
    UNTERMINATED_STRING = "E011";
    /// A backslash in a string begins no known escape.
    BAD_ESCAPE = "E012";
    /// A number is too large, or its unit is unknown.
    BAD_NUMBER = "E013";
    /// A bracket is not closed before the next statement, or a closing bracket matches no open one.
    UNBALANCED = "E014";
    /// A binding or a param has a reserved word as its name: `param`, `export`, `true` or `false`.
    RESERVED = "E015";
    /// A name is used that no binding or param defines.
    UNKNOWN_NAME = "E020";
    /// An op is called that does not exist.
    UNKNOWN_OP = "E021";
    /// A param is declared with a type that does not exist.
    UNKNOWN_TYPE = "E022";
    /// An attribute is used that does not exist.
    UNKNOWN_ATTRIBUTE = "E023";
    /// A result is exported in a format that does not exist.
    UNKNOWN_FORMAT = "E024";
    /// A value is set for a param that the workflow does not have.
    UNKNOWN_PARAM = "E025";
    /// A name is bound twice.
    BOUND_TWICE = "E030";
    /// A binding or a param depends on itself, directly or through others.
    CYCLE = "E031";
    /// An export has an empty path, or the path of another export: one would overwrite the other.
    EXPORT_PATH = "E032";
    /// A value does not have the type that is expected where it is used.
    TYPE_MISMATCH = "E040";
    /// A value lies outside the range allowed for it.
    OUT_OF_RANGE = "E041";
    /// A call is missing an argument that has no default.
    MISSING_ARGUMENT = "E042";
    /// A call names an argument that the op does not have.
    UNKNOWN_ARGUMENT = "E043";
    /// A call gives an argument twice.
    REPEATED_ARGUMENT = "E044";
    /// A call has more arguments than the op takes.
    TOO_MANY_ARGUMENTS = "E045";
    /// A positional argument follows a named one.
    POSITIONAL_AFTER_NAMED = "E046";
    /// A param has neither a default nor a value.
    PARAM_NOT_SET = "E047";
    /// An attribute has an invalid value, or is used where it has no meaning.
    BAD_ATTRIBUTE = "E048";
    /// A binding is never used. If it is a stage, it runs only when it is named as a target.
    UNUSED = "W001";
}
