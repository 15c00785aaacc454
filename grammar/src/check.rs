//! Tree to program: names resolved, arguments filled, types and ranges checked, calls made stages.
//! Pure.

mod arguments;
mod attributes;
mod exports;
mod order;
mod params;
mod stages;
mod suggest;
mod values;

use std::collections::{BTreeMap, HashMap};

use crate::ast::{Expr, ExprKind, File, Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::{Diagnostic, SHOWN_MAX, shorten};
use crate::program::{Attributes, Export, ParamInfo, Program, StageId, Value};
use crate::signature::{Arg, Kind, Signatures};
use crate::source::Source;
use crate::span::Span;

use self::stages::{Place, Stages};
use self::values::{Found, Typed, literal};

pub use self::suggest::nearest;
pub(crate) use self::values::is_ordered;

/// As many diagnostics are collected; of these the first [`SHOWN_MAX`] in the file are shown.
const COLLECTED_MAX: usize = 10 * SHOWN_MAX;

/// As many names are compared in all to find the ones that were meant.
const COMPARED_MAX: usize = 1 << 20;

/// As many parts of lists and config values are copied by naming them. Values that hold one another
/// twice over, many levels deep, would fill any memory.
const COPIED_MAX: usize = 1 << 20;

/// A value for a param from outside the file: `--set name=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamOverride {
    /// The param.
    pub name: String,
    /// Its value, written as in the language; a text may stand without quotes.
    pub value: String,
}

/// A checked file.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// The program; none if there are errors.
    pub program: Option<Program>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Checks a file against the ops there are. Reports everything that is wrong at once.
///
/// Statements that could not be parsed are left out; what uses the names that they bind is not
/// reported.
pub fn check(
    file: &File,
    source: &Source,
    signatures: &Signatures,
    overrides: &[ParamOverride],
) -> Checked {
    let mut checker = Checker::new(file, source, signatures);
    checker.overrides(overrides);
    checker.declare();
    for at in checker.order() {
        checker.statement(at);
    }
    checker.exports();
    checker.unused();
    let mut diagnostics = std::mem::take(&mut checker.diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    shorten(&mut diagnostics, checker.dropped);
    Checked {
        program: (!checker.broken).then(|| checker.program()),
        diagnostics,
    }
}

/// The value of an argument's default, `text`; none without diagnostics if it needs a default that
/// `signatures` does not have yet.
pub(crate) fn default_value(
    text: &str,
    op: &str,
    arg: &Arg,
    signatures: &Signatures,
) -> Result<Option<Value>, Box<Diagnostic>> {
    let Some(expr) = crate::parser::parse_value(text) else {
        return Err(Box::new(Diagnostic::error(
            codes::SYNTAX,
            format!("`{text}` is no value of the language"),
        )));
    };
    let (file, source) = (File::default(), Source::new("", text)?);
    let mut checker = Checker::new(&file, &source, signatures);
    let value = checker.argument_value(arg, op, &expr);
    if !checker.stages.is_empty() {
        return Err(Box::new(Diagnostic::error(
            codes::TYPE_MISMATCH,
            format!("`{text}` is a stage"),
        )));
    }
    match checker.diagnostics.into_iter().next() {
        Some(diagnostic) => Err(Box::new(diagnostic)),
        None => Ok(value),
    }
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// A statement, by its place.
    Statement(usize),
    /// A statement that could not be parsed.
    Lost,
}

/// A binding or param that was worked out.
#[derive(Clone, PartialEq, Debug)]
struct Bound {
    typed: Typed,
    /// How many parts its value has; what it costs to copy it.
    parts: usize,
}

struct Checker<'a> {
    file: &'a File<'a>,
    source: &'a Source,
    signatures: &'a Signatures,
    overrides: BTreeMap<String, String>,
    names: HashMap<&'a str, Target>,
    /// By statement: its value, once it is worked out and if it has no fault.
    bound: Vec<Option<Bound>>,
    used: Vec<bool>,
    params: BTreeMap<usize, ParamInfo>,
    stages: Stages,
    exports: Vec<Export>,
    exported: Vec<StageId>,
    diagnostics: Vec<Diagnostic>,
    /// Diagnostics beyond [`COLLECTED_MAX`].
    dropped: usize,
    broken: bool,
    compared: usize,
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
            bound: vec![None; count],
            used: vec![false; count],
            params: BTreeMap::new(),
            stages: Stages::for_about(count),
            exports: Vec::new(),
            exported: Vec::new(),
            diagnostics: Vec::new(),
            dropped: 0,
            broken: false,
            compared: 0,
            copied: 0,
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.broken |= diagnostic.is_error();
        if self.diagnostics.len() < COLLECTED_MAX {
            self.diagnostics.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// The known name that was probably meant. After very many comparisons, none: the file has
    /// other troubles.
    fn nearest<'k>(&mut self, name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
        if self.compared > COMPARED_MAX {
            return None;
        }
        let mut count = 0;
        let found = suggest::nearest(name, known.inspect(|_| count += 1));
        self.compared += count;
        found
    }

    /// What can stand where a value is due and is spelt almost like `name`.
    fn nearest_value(&mut self, name: &str) -> Option<String> {
        if self.compared > COMPARED_MAX {
            return None;
        }
        let signatures = self.signatures;
        let configs = signatures
            .ops()
            .filter(|op| op.kind == Kind::Config)
            .map(|op| op.name);
        let mut bound: Vec<&str> = self.names.keys().copied().collect();
        bound.sort_unstable(); // of names that are equally near the first is meant
        let names: Vec<&str> = bound
            .into_iter()
            .chain(configs)
            .chain(["true", "false"])
            .collect();
        self.nearest(name, names.into_iter()).map(str::to_owned)
    }

    /// Gives every name its statement.
    fn declare(&mut self) {
        let file = self.file;
        for (at, statement) in file.statements.iter().enumerate() {
            let Some(name) = bound_name(statement) else {
                continue;
            };
            match self.names.get(name.text) {
                Some(Target::Statement(first)) => {
                    let first = file
                        .statements
                        .get(*first)
                        .and_then(bound_name)
                        .map_or(name.span, |name| name.span);
                    self.report(
                        Diagnostic::error(
                            codes::BOUND_TWICE,
                            format!("`{}` is bound twice", name.text),
                        )
                        .at(name.span, "the second time")
                        .note(first, "the first time")
                        .help(
                            "give one of them another name; a name has one value in the whole file",
                        ),
                    );
                }
                _ => {
                    self.names.insert(name.text, Target::Statement(at));
                }
            }
        }
        for name in &file.lost {
            self.names.entry(name.text).or_insert(Target::Lost);
        }
    }

    /// Works out the statement at a place. What it needs was worked out before, unless there is a
    /// cycle.
    fn statement(&mut self, at: usize) {
        let Some(statement) = self.file.statements.get(at) else {
            return;
        };
        let typed = match &statement.kind {
            StatementKind::Param { .. } => {
                self.no_attributes(statement, "a param");
                self.param(at, statement)
            }
            StatementKind::Binding { name, value } => self.binding(statement, name, value),
            StatementKind::Export { .. } => {
                self.no_attributes(statement, "an export");
                None
            }
        };
        let bound = typed.map(|typed| Bound {
            parts: typed.0.parts(),
            typed,
        });
        if let Some(slot) = self.bound.get_mut(at) {
            *slot = bound;
        }
    }

    fn binding(&mut self, statement: &Statement, name: &Name, value: &Expr) -> Option<Typed> {
        let attributes = self.attributes(&statement.attributes);
        let typed = self.expr(value, Place::value_of(name.text))?;
        match (&value.kind, &typed.0) {
            (ExprKind::Call { .. }, Value::Stage(id)) => {
                self.bind_stage(name, *id, &attributes, statement)
            }
            (_, Value::Stage(id)) => {
                self.no_attributes(statement, "another name for a stage");
                self.bind_stage(name, *id, &Attributes::default(), statement);
            }
            _ => self.no_attributes(statement, "a plain value"),
        }
        Some(typed)
    }

    /// The value of an expression.
    fn expr(&mut self, expr: &Expr, place: Place<'_>) -> Option<Typed> {
        match &expr.kind {
            ExprKind::Name(name) => self.name(name, expr.span, place),
            ExprKind::List(values) => {
                // All of them first, so that all faults are told.
                let typed: Vec<Option<Typed>> = values
                    .iter()
                    .map(|value| self.expr(value, place.inside()))
                    .collect();
                let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
                let (values, found) = typed.into_iter().unzip();
                Some((Value::List(values), Found::List(found)))
            }
            ExprKind::Call { op, args } => self.call(expr.span, op, args, place),
            _ => literal(expr),
        }
    }

    fn name(&mut self, name: &str, span: Span, place: Place<'_>) -> Option<Typed> {
        match self.names.get(name).copied() {
            Some(Target::Statement(at)) => {
                if let Some(used) = self.used.get_mut(at) {
                    *used = true;
                }
                // None is a fault that was told where it is: in the binding, or in the cycle.
                let parts = self.bound.get(at)?.as_ref()?.parts;
                self.copy(parts, span)?;
                self.bound
                    .get(at)?
                    .as_ref()
                    .map(|bound| bound.typed.clone())
            }
            Some(Target::Lost) => None,
            None if self
                .signatures
                .op(name)
                .is_some_and(|op| op.kind == Kind::Config) =>
            {
                // `text = bert.base`: a config op that needs no arguments needs no brackets either.
                self.call(span, &Name { text: name, span }, &[], place)
            }
            None => {
                self.unknown_name(name, span);
                None
            }
        }
    }

    /// Accounts for a value that is used once more.
    fn copy(&mut self, parts: usize, span: Span) -> Option<()> {
        let before = self.copied;
        self.copied = before.saturating_add(parts.saturating_sub(1));
        if self.copied <= COPIED_MAX {
            return Some(());
        }
        if before <= COPIED_MAX {
            let message = format!("the values of the workflow have more than {COPIED_MAX} parts");
            self.report(
                Diagnostic::error(codes::TOO_LARGE, message)
                    .at(span, "with this use")
                    .help("lists of lists, or lists used very often, have warm_start too large: put such data into a file that an op reads"),
            );
        }
        None
    }

    fn unknown_name(&mut self, name: &str, span: Span) {
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_NAME, format!("nothing is called `{name}`"))
                .at(span, "used here");
        let signatures = self.signatures;
        let help = if signatures.op(name).is_some() {
            format!("`{name}` is an op; to run it, call it: `{name}(…)`")
        } else if let Some(near) = self.nearest_value(name) {
            format!("did you mean `{near}`?")
        } else {
            format!(
                "bind it, `{name} = …`, or make it a param, `param {name} = …`; a text stands in quotes, \"{name}\""
            )
        };
        self.report(diagnostic.help(help));
    }

    /// Bindings that nobody asked for.
    fn unused(&mut self) {
        // What is missing from the tree may use any of them.
        if !self.file.complete {
            return;
        }
        let file = self.file;
        let signatures = self.signatures;
        let any_target = !self.exported.is_empty()
            || self
                .stages
                .outputs()
                .any(|output| signatures.is_result(output));
        for (at, statement) in file.statements.iter().enumerate() {
            let (Some(name), Some(Some(bound))) = (bound_name(statement), self.bound.get(at))
            else {
                continue;
            };
            if self.used.get(at) == Some(&true)
                || self.names.get(name.text) != Some(&Target::Statement(at))
            {
                continue;
            }
            let stage = matches!(bound.typed.0, Value::Stage(_));
            let result = matches!(&bound.typed.1, Found::One(ty) if signatures.is_result(*ty));
            if stage && (!any_target || result) {
                continue;
            }
            let (label, help) = if stage {
                let help = format!(
                    "export it, use it, or remove it; `blip run … {}` runs it",
                    name.text
                );
                ("it is not run unless it is asked for by name", help)
            } else {
                (
                    "nothing depends on its value",
                    "use it or remove it".to_owned(),
                )
            };
            let diagnostic =
                Diagnostic::warning(codes::UNUSED, format!("`{}` is never used", name.text));
            self.report(diagnostic.at(name.span, label).help(help));
        }
    }
}

/// The name that a statement binds.
fn bound_name<'s>(statement: &'s Statement<'s>) -> Option<&'s Name<'s>> {
    match &statement.kind {
        StatementKind::Param { name, .. } | StatementKind::Binding { name, .. } => Some(name),
        StatementKind::Export { .. } => None,
    }
}
