//! Tree to program: resolves names, fills in arguments, checks types and ranges, and turns calls
//! into stages.

mod arguments;
mod attributes;
mod coercion;
mod exports;
mod names;
mod order;
mod overrides;
mod params;
mod ranges;
mod stages;
mod suggest;
mod typed;
mod unused;
mod wording;

use std::collections::{BTreeMap, HashMap};

use crate::ast::{Expr, ExprKind, File, Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::{Diagnostic, SHOWN_MAX, shorten};
use crate::program::{Attributes, Export, ParamInfo, Program, Value};
use crate::signature::{Arg, Signatures};
use crate::source::Source;

use self::names::Target;
use self::stages::{NameScope, Stages};
use self::typed::TypedValue;

pub(crate) use self::ranges::is_ordered;
pub use self::suggest::nearest;

/// At most so many diagnostics are collected; the first [`SHOWN_MAX`] of them in the file are
/// shown. More are collected than shown, since checking does not go in the order of the file.
const COLLECTED_MAX: usize = 10 * SHOWN_MAX;

/// A value for a param from outside the file: `--set name=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamOverride {
    /// The param's name.
    pub name: String,
    /// As written in the language, except that a string may stand without quotes.
    pub value: String,
}

/// A checked file.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// `None` if there are errors.
    pub program: Option<Program>,
    /// Errors and warnings, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Checks a file against the declared ops and export formats. Reports all errors at once.
///
/// Statements that could not be parsed are left out; using a name that they bind is not reported.
pub fn check(
    file: &File,
    source: &Source,
    signatures: &Signatures,
    overrides: &[ParamOverride],
) -> Checked {
    let mut checker = Checker::new(file, source, signatures);
    checker.take_overrides(overrides);
    checker.declare_names();
    for at in checker.evaluation_order() {
        checker.evaluate_statement(at);
    }
    // Exports bind no name, so that nothing depends on them.
    checker.check_exports();
    checker.warn_unused();
    let mut diagnostics = std::mem::take(&mut checker.diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    shorten(&mut diagnostics, checker.dropped);
    Checked {
        program: (!checker.has_errors).then(|| checker.into_program()),
        diagnostics,
    }
}

/// The value of `text`, the default of an argument. `None` without a diagnostic if it depends on a
/// default that `signatures` does not have yet.
pub(crate) fn default_value(
    text: &str,
    op: &str,
    arg: &Arg,
    signatures: &Signatures,
) -> Result<Option<Value>, Box<Diagnostic>> {
    let Some(expr) = crate::parser::parse_value(text) else {
        let message = format!("`{text}` is not a value of the language");
        return Err(Box::new(Diagnostic::error(codes::SYNTAX, message)));
    };
    let file = File::default();
    let source = Source::new("", text)?;
    let mut checker = Checker::new(&file, &source, signatures);
    let value = checker.default_argument(arg, op, &expr);
    if !checker.stages.is_empty() {
        let message = format!("`{text}` is a stage");
        return Err(Box::new(Diagnostic::error(codes::TYPE_MISMATCH, message)));
    }
    match checker.diagnostics.into_iter().next() {
        Some(diagnostic) => Err(Box::new(diagnostic)),
        None => Ok(value),
    }
}

/// The value of a binding or a param.
#[derive(Clone, PartialEq, Debug)]
struct BoundValue {
    typed: TypedValue,
    /// [`Value::parts`] of it: what a copy costs.
    parts: usize,
}

struct Checker<'a> {
    file: &'a File<'a>,
    source: &'a Source,
    signatures: &'a Signatures,
    /// The overrides of params, by name.
    overrides: BTreeMap<String, String>,
    names: HashMap<&'a str, Target>,
    /// By statement: its value, once it was evaluated without an error.
    values: Vec<Option<BoundValue>>,
    /// By statement: whether something uses the name it binds.
    used: Vec<bool>,
    /// By statement.
    params: BTreeMap<usize, ParamInfo>,
    stages: Stages,
    exports: Vec<Export>,
    diagnostics: Vec<Diagnostic>,
    /// How many diagnostics there are beyond [`COLLECTED_MAX`].
    dropped: usize,
    has_errors: bool,
    /// How many names were compared so far, for suggestions.
    compared: usize,
    /// How many parts of values were copied so far, by naming them.
    copied: usize,
}

impl<'a> Checker<'a> {
    fn new(file: &'a File<'a>, source: &'a Source, signatures: &'a Signatures) -> Self {
        let count = file.statements.len();
        Self {
            file,
            source,
            signatures,
            overrides: BTreeMap::new(),
            names: HashMap::with_capacity(count),
            values: vec![None; count],
            used: vec![false; count],
            params: BTreeMap::new(),
            stages: Stages::with_capacity(count),
            exports: Vec::new(),
            diagnostics: Vec::new(),
            dropped: 0,
            has_errors: false,
            compared: 0,
            copied: 0,
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.has_errors |= diagnostic.is_error();
        if self.diagnostics.len() < COLLECTED_MAX {
            self.diagnostics.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Evaluates a statement. What it depends on was evaluated before, unless there is a cycle.
    fn evaluate_statement(&mut self, at: usize) {
        let Some(statement) = self.file.statements.get(at) else {
            return;
        };
        let typed = match &statement.kind {
            StatementKind::Param { .. } => {
                self.reject_attributes(statement, "a param");
                self.param(at, statement)
            }
            StatementKind::Binding { name, value } => self.binding(statement, name, value),
            StatementKind::Export { .. } => {
                self.reject_attributes(statement, "an export");
                None
            }
        };
        let bound = typed.map(|typed| BoundValue {
            parts: typed.value.parts(),
            typed,
        });
        if let Some(slot) = self.values.get_mut(at) {
            *slot = bound;
        }
    }

    fn binding(&mut self, statement: &Statement, name: &Name, value: &Expr) -> Option<TypedValue> {
        let attributes = self.attributes(&statement.attributes);
        let typed = self.expr(value, NameScope::value_of(name.text))?;
        match (&value.kind, &typed.value) {
            (ExprKind::Call { .. }, Value::Stage(id)) => {
                self.bind_stage(name, *id, &attributes, statement);
            }
            (_, Value::Stage(id)) => {
                self.reject_attributes(statement, "an alias of a stage");
                self.bind_stage(name, *id, &Attributes::default(), statement);
            }
            _ => self.reject_attributes(statement, "a plain value"),
        }
        Some(typed)
    }

    /// Evaluates an expression; `None` if there is an error in it, which was reported then.
    fn expr(&mut self, expr: &Expr, scope: NameScope<'_>) -> Option<TypedValue> {
        match &expr.kind {
            ExprKind::Name(name) => self.name(name, expr.span, scope),
            ExprKind::List(values) => self.list(values, scope),
            ExprKind::Call { op, args } => self.call(expr.span, op, args, scope),
            _ => typed::literal(expr),
        }
    }

    fn list(&mut self, exprs: &[Expr], scope: NameScope<'_>) -> Option<TypedValue> {
        // All values are evaluated before the first failed one ends it, to report all errors.
        let typed: Vec<Option<TypedValue>> = exprs
            .iter()
            .map(|value| self.expr(value, scope.inside()))
            .collect();
        let typed: Option<Vec<TypedValue>> = typed.into_iter().collect();
        Some(TypedValue::list(typed?))
    }
}
