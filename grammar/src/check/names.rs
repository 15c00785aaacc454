//! Names: what each one stands for, and what was probably meant by an unknown one.

use super::stages::NameScope;
use super::typed::TypedValue;
use super::{Checker, suggest};
use crate::ast::{Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::signature::OpKind;
use crate::span::Span;

/// At most about so many names are compared, in all, to find the ones that were meant: a large file
/// of unknown names would otherwise take time quadratic in its length.
const COMPARED_MAX: usize = 1 << 20;

/// At most so many parts of lists and config values are copied by naming them. Values that contain
/// one another twice, many levels deep, would otherwise fill any memory.
const COPIED_MAX: usize = 1 << 20;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The index of the statement that binds it.
    Statement(usize),
    /// A statement that could not be parsed seems to bind it.
    Unparsed,
}

impl<'a> Checker<'a> {
    /// Assigns every name to the statement that binds it.
    pub(super) fn declare_names(&mut self) {
        let file = self.file;
        for (at, statement) in file.statements.iter().enumerate() {
            let Some(name) = bound_name(statement) else {
                continue;
            };
            if let Some(Target::Statement(first)) = self.names.get(name.text) {
                let first = *first;
                self.bound_twice(name, first);
            } else {
                self.names.insert(name.text, Target::Statement(at));
            }
        }
        for name in &file.unparsed {
            self.names.entry(name.text).or_insert(Target::Unparsed);
        }
    }

    fn bound_twice(&mut self, name: &Name, first: usize) {
        let statement = self.file.statements.get(first);
        let first = statement.and_then(bound_name);
        let first = first.map_or(name.span, |name| name.span);
        let message = format!("`{}` is bound twice", name.text);
        let diagnostic = Diagnostic::error(codes::BOUND_TWICE, message)
            .at(name.span, "bound again here")
            .note(first, "first bound here")
            .help("rename one of them: a name has one value in the whole file");
        self.report(diagnostic);
    }

    /// Evaluates a name.
    pub(super) fn name(
        &mut self,
        name: &str,
        span: Span,
        scope: NameScope<'_>,
    ) -> Option<TypedValue> {
        match self.names.get(name) {
            Some(Target::Statement(at)) => self.value_of(*at, span),
            // Its statement has an error already.
            Some(Target::Unparsed) => None,
            // `text = bert.base`: a config op that needs no arguments needs no brackets either.
            None if self.is_config_op(name) => {
                let op = Name { text: name, span };
                self.call(span, &op, &[], scope)
            }
            None => {
                self.unknown_name(name, span);
                None
            }
        }
    }

    fn is_config_op(&self, name: &str) -> bool {
        let op = self.signatures.op(name);
        op.is_some_and(|op| op.kind == OpKind::Config)
    }

    /// The value that the statement `at` binds, used at `span`. `None` after an error in the
    /// statement or in a cycle it is part of; both were reported there.
    fn value_of(&mut self, at: usize, span: Span) -> Option<TypedValue> {
        if let Some(used) = self.used.get_mut(at) {
            *used = true;
        }
        let parts = self.values.get(at)?.as_ref()?.parts;
        self.count_copy(parts, span)?;
        let bound = self.values.get(at)?.as_ref()?;
        Some(bound.typed.clone())
    }

    /// Counts the copy of a value with so many parts; `None` beyond [`COPIED_MAX`].
    fn count_copy(&mut self, parts: usize, span: Span) -> Option<()> {
        let before = self.copied;
        // A value of one part is as cheap as its name, however often it is used.
        self.copied = before.saturating_add(parts.saturating_sub(1));
        if self.copied <= COPIED_MAX {
            return Some(());
        }
        if before <= COPIED_MAX {
            let message = format!("the values of the workflow have more than {COPIED_MAX} parts");
            let help = "lists of lists, or lists used very often, have grown too large: put \
                        such data into a file that an op reads";
            let diagnostic = Diagnostic::error(codes::TOO_LARGE, message)
                .at(span, "with this use")
                .help(help);
            self.report(diagnostic);
        }
        None
    }

    fn unknown_name(&mut self, name: &str, span: Span) {
        let help = if self.signatures.op(name).is_some() {
            format!("`{name}` is an op; to run it, call it: `{name}(…)`")
        } else if let Some(near) = self.nearest_value(name) {
            format!("did you mean `{near}`?")
        } else {
            format!(
                "bind it with `{name} = …`, declare it with `param {name} = …`, or write \
                 \"{name}\" for a string"
            )
        };
        let diagnostic = Diagnostic::error(codes::UNKNOWN_NAME, format!("unknown name `{name}`"))
            .at(span, "used here")
            .help(help);
        self.report(diagnostic);
    }

    /// The known name that was probably meant; `None` after too many comparisons.
    pub(super) fn nearest<'k>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Option<&'k str> {
        if self.compared > COMPARED_MAX {
            return None;
        }
        let mut count = 0;
        let nearest = suggest::nearest(name, known.inspect(|_| count += 1));
        self.compared += count;
        nearest
    }

    /// As [`Checker::nearest`], among everything that is a value.
    fn nearest_value(&mut self, name: &str) -> Option<String> {
        if self.compared > COMPARED_MAX {
            return None;
        }
        let ops = self.signatures.ops();
        let configs = ops.filter(|op| op.kind == OpKind::Config);
        let configs = configs.map(|op| op.name);
        // Sorted: of names that are equally near the first one is suggested.
        let mut bound: Vec<&str> = self.names.keys().copied().collect();
        bound.sort_unstable();
        let known = bound.into_iter().chain(configs).chain(["true", "false"]);
        let known: Vec<&str> = known.collect();
        self.nearest(name, known.into_iter()).map(str::to_owned)
    }
}

/// The name that a statement binds.
pub(super) fn bound_name<'s>(statement: &'s Statement<'s>) -> Option<&'s Name<'s>> {
    match &statement.kind {
        StatementKind::Param { name, .. } | StatementKind::Binding { name, .. } => Some(name),
        StatementKind::Export { .. } => None,
    }
}
