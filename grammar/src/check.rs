//! Tree to program: names resolved, arguments filled, types and ranges checked, calls made stages. Pure.

mod arguments;
mod attributes;
mod suggest;

use std::collections::BTreeMap;

use crate::ast::{Expr, ExprKind, File, Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parser::parse_value;
use crate::program::{Attributes, Export, ParamInfo, Program, Stage, StageId, Value};
use crate::signature::{Signatures, range_text};
use crate::source::Source;
use crate::span::Span;
use crate::types::{DECLARABLE, Type};

pub use self::suggest::nearest;

/// A value for a param from outside the file: `--set name=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
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
pub fn check(file: &File, source: &Source, signatures: &Signatures, settings: &[Setting]) -> Checked {
    let mut checker = Checker::new(file, source, signatures);
    checker.settings(settings);
    checker.declare();
    for at in 0..file.statements.len() {
        checker.statement(at);
    }
    checker.exports();
    checker.unused();
    checker.diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    let broken = checker.diagnostics.iter().any(Diagnostic::is_error);
    let diagnostics = std::mem::take(&mut checker.diagnostics);
    Checked { program: (!broken).then(|| checker.program()), diagnostics }
}

/// A value with its type; what an expression comes to.
type Typed = (Value, Type);

/// How far a binding is.
#[derive(Clone, PartialEq, Debug)]
enum Progress {
    Open,
    InHand,
    /// With its value, or without one when it has a fault.
    Done(Option<Typed>),
}

struct Checker<'a> {
    file: &'a File,
    source: &'a Source,
    signatures: &'a Signatures,
    settings: BTreeMap<String, String>,
    names: BTreeMap<&'a str, usize>,
    progress: Vec<Progress>,
    used: Vec<bool>,
    /// The bindings being worked out, outermost first: a cycle shows as a path through them.
    stack: Vec<usize>,
    params: BTreeMap<usize, ParamInfo>,
    stages: Vec<Stage>,
    stage_names: BTreeMap<String, StageId>,
    /// Stages by what they compute: equal calls are one stage.
    equal: BTreeMap<String, StageId>,
    exports: Vec<Export>,
    exported: Vec<StageId>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn new(file: &'a File, source: &'a Source, signatures: &'a Signatures) -> Self {
        let count = file.statements.len();
        Self {
            file,
            source,
            signatures,
            settings: BTreeMap::new(),
            names: BTreeMap::new(),
            progress: vec![Progress::Open; count],
            used: vec![false; count],
            stack: Vec::new(),
            params: BTreeMap::new(),
            stages: Vec::new(),
            stage_names: BTreeMap::new(),
            equal: BTreeMap::new(),
            exports: Vec::new(),
            exported: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn settings(&mut self, settings: &[Setting]) {
        let statements = &self.file.statements;
        let params: Vec<&str> = statements
            .iter()
            .filter_map(|statement| match &statement.kind {
                StatementKind::Param { name, .. } => Some(name.text.as_str()),
                _ => None,
            })
            .collect();
        for setting in settings {
            if !params.contains(&setting.name.as_str()) {
                let mut diagnostic =
                    Diagnostic::error(codes::UNKNOWN_PARAM, format!("the workflow has no param `{}`", setting.name));
                diagnostic = match nearest(&setting.name, params.iter().copied()) {
                    Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
                    None if params.is_empty() => diagnostic.help("it has no params at all"),
                    None => diagnostic.help(format!("its params are {}", params.join(", "))),
                };
                self.report(diagnostic);
            } else if self.settings.insert(setting.name.clone(), setting.value.clone()).is_some() {
                let message = format!("the param `{}` is set twice", setting.name);
                self.report(Diagnostic::error(codes::BOUND_TWICE, message).help("set it once"));
            }
        }
    }

    /// Gives every name its statement.
    fn declare(&mut self) {
        for (at, statement) in self.file.statements.iter().enumerate() {
            let (StatementKind::Param { name, .. } | StatementKind::Binding { name, .. }) = &statement.kind else {
                continue;
            };
            match self.names.get(name.text.as_str()) {
                None => {
                    self.names.insert(&name.text, at);
                }
                Some(first) => {
                    let first = self.file.statements.get(*first).map_or(name.span, |statement| name_of(statement).span);
                    self.report(
                        Diagnostic::error(codes::BOUND_TWICE, format!("`{}` is bound twice", name.text))
                            .at(name.span, "the second time")
                            .note(first, "the first time")
                            .help("give one of them another name; a name has one value in the whole file"),
                    );
                }
            }
        }
    }

    fn statement(&mut self, at: usize) {
        let Some(statement) = self.file.statements.get(at) else { return };
        match &statement.kind {
            StatementKind::Param { name, .. } => {
                self.no_attributes(statement, "a param");
                if self.names.get(name.text.as_str()) == Some(&at) {
                    self.binding(at);
                }
            }
            StatementKind::Binding { .. } => {
                if matches!(self.progress.get(at), Some(Progress::Open)) {
                    self.binding(at);
                }
            }
            StatementKind::Export { .. } => self.no_attributes(statement, "an export"),
        }
    }

    fn no_attributes(&mut self, statement: &Statement, what: &str) {
        if let Some(attribute) = statement.attributes.first() {
            let message = format!("{what} takes no attributes");
            self.report(
                Diagnostic::error(codes::BAD_ATTRIBUTE, message)
                    .at(attribute.span, "this one")
                    .help("attributes say how to run a stage: put them before `name = op(…)`"),
            );
        }
    }

    /// The value of a binding or param, worked out once.
    fn binding(&mut self, at: usize) -> Option<Typed> {
        match self.progress.get(at)? {
            Progress::Done(value) => return value.clone(),
            Progress::InHand => {
                self.cycle(at);
                return None;
            }
            Progress::Open => {}
        }
        self.set_progress(at, Progress::InHand);
        self.stack.push(at);
        let statement = self.file.statements.get(at)?;
        let value = match &statement.kind {
            StatementKind::Param { name, ty, default, range } => {
                self.param(at, name, ty.as_ref(), default.as_ref(), range.as_ref())
            }
            StatementKind::Binding { name, value } => self.bound(statement, name, value),
            StatementKind::Export { .. } => None,
        };
        self.stack.pop();
        self.set_progress(at, Progress::Done(value.clone()));
        value
    }

    fn set_progress(&mut self, at: usize, progress: Progress) {
        if let Some(slot) = self.progress.get_mut(at) {
            *slot = progress;
        }
    }

    fn bound(&mut self, statement: &Statement, name: &Name, value: &Expr) -> Option<Typed> {
        let attributes = self.attributes(&statement.attributes);
        let typed = self.expr(value, &name.text, Some(attributes))?;
        match &typed.0 {
            Value::Stage(id) => {
                self.stage_names.insert(name.text.clone(), *id);
            }
            _ => self.no_attributes(statement, "a constant"),
        }
        Some(typed)
    }

    fn cycle(&mut self, at: usize) {
        let from = self.stack.iter().position(|place| *place == at).unwrap_or(0);
        let mut path: Vec<&Name> = Vec::new();
        for place in self.stack.iter().skip(from).chain([&at]) {
            path.extend(self.file.statements.get(*place).map(name_of));
        }
        let text = path.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(" -> ");
        let Some(name) = path.first() else { return };
        let diagnostic = Diagnostic::error(codes::CYCLE, format!("`{}` needs itself: {text}", name.text))
            .at(name.span, "bound here")
            .help("break the cycle: a stage can only take results of stages that do not need its own");
        self.report(diagnostic);
    }

    fn param(
        &mut self,
        at: usize,
        name: &Name,
        declared: Option<&Name>,
        default: Option<&Expr>,
        range: Option<&(Expr, Expr)>,
    ) -> Option<Typed> {
        let declared = match declared {
            Some(ty) => Some(self.declared_type(ty)?),
            None => None,
        };
        let default = match default {
            Some(expr) => Some(self.constant(expr, declared)?),
            None => None,
        };
        let Some(ty) = declared.or(default.as_ref().map(|(_, ty)| *ty)) else {
            let message = format!("the param `{}` has neither a type nor a default", name.text);
            let help = format!("write `param {} = value` or `param {}: type`", name.text, name.text);
            self.report(Diagnostic::error(codes::SYNTAX, message).at(name.span, "declared here").help(help));
            return None;
        };
        let range = match range {
            Some((low, high)) => Some((self.constant(low, Some(ty))?.0, self.constant(high, Some(ty))?.0)),
            None => None,
        };
        let default = default.map(|(value, _)| value);
        let setting = self.settings.get(&name.text).cloned();
        let value = match &setting {
            Some(text) => self.setting(name, text, ty)?,
            None => default.clone().or_else(|| {
                let message = format!("the param `{}` has no value", name.text);
                let help = format!("set it with --set {}=…, or give it a default", name.text);
                self.report(
                    Diagnostic::error(codes::PARAM_NOT_SET, message)
                        .at(name.span, format!("a {ty} without a default"))
                        .help(help),
                );
                None
            })?,
        };
        if let Some((low, high)) = &range {
            self.within(&value, ty, (amount(low)?, amount(high)?), name.span, &name.text)?;
        }
        let doc = self.doc_of(at);
        let span = self.file.statements.get(at)?.span;
        let info = ParamInfo {
            name: name.text.clone(),
            ty,
            value: value.clone(),
            default,
            range,
            set: setting.is_some(),
            doc,
            span,
        };
        self.params.insert(at, info);
        Some((value, ty))
    }

    /// A value that may be no stage.
    fn constant(&mut self, expr: &Expr, ty: Option<Type>) -> Option<Typed> {
        let typed = self.expr(expr, "", None)?;
        match ty {
            Some(ty) => Some((self.fit(typed, ty, expr.span, "here")?, ty)),
            None => Some(typed),
        }
    }

    fn setting(&mut self, name: &Name, text: &str, ty: Type) -> Option<Value> {
        let bare = matches!(ty, Type::Str | Type::Path | Type::Choice(_)).then(|| Value::Str(text.to_owned()));
        let parsed = parse_value(text).and_then(|expr| literal_value(&expr));
        let typed = match (parsed, bare) {
            (Some((value @ Value::Str(_), ty)), _) => Some((value, ty)),
            (_, Some(bare)) => Some((bare, Type::Str)),
            (other, None) => other,
        };
        let fitted = typed.and_then(|typed| coerce(typed, ty));
        if fitted.is_none() {
            let message = format!("`{text}` is no {ty}, which the param `{}` is", name.text);
            let help = format!("write a {ty} as in the workflow: --set {}=…", name.text);
            self.report(Diagnostic::error(codes::TYPE_MISMATCH, message).at(name.span, "declared here").help(help));
        }
        fitted
    }

    fn declared_type(&mut self, name: &Name) -> Option<Type> {
        let (word, list) = match name.text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(word) => (word, true),
            None => (name.text.as_str(), false),
        };
        let found =
            DECLARABLE.iter().find(|(known, ..)| *known == word).map(|(_, one, many)| if list { *many } else { *one });
        if found.is_none() {
            let known: Vec<&str> = DECLARABLE.iter().map(|(word, ..)| *word).collect();
            let help = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the types are {}; in brackets, a list of them", known.join(", ")),
            };
            self.report(
                Diagnostic::error(codes::UNKNOWN_TYPE, format!("there is no type `{word}`"))
                    .at(name.span, "named here")
                    .help(help),
            );
        }
        found
    }

    /// The comment lines right above a statement, or the comment behind it.
    fn doc_of(&self, at: usize) -> String {
        let Some(statement) = self.file.statements.get(at) else { return String::new() };
        let line = |offset| self.source.position(offset).line;
        let (first, last) = (line(statement.span.start), line(statement.span.end));
        let text = |span: &Span| self.source.slice(*span).trim_start_matches('#').trim().to_owned();
        if let Some(behind) =
            self.file.comments.iter().find(|span| span.start >= statement.span.end && line(span.start) == last)
        {
            return text(behind);
        }
        let mut lines = Vec::new();
        let mut next = first;
        for span in self.file.comments.iter().rev().filter(|span| span.end <= statement.span.start) {
            let own_line = self.source.position(span.start).column == 1;
            if line(span.start) + 1 != next || !own_line {
                break;
            }
            next -= 1;
            lines.push(text(span));
        }
        lines.reverse();
        lines.join("\n")
    }

    /// The value of an expression. `owner` names the binding it is for: nested calls are named after it.
    fn expr(&mut self, expr: &Expr, owner: &str, attributes: Option<Attributes>) -> Option<Typed> {
        match &expr.kind {
            ExprKind::Name(name) => self.name(name, expr.span),
            ExprKind::List(values) => {
                let typed: Vec<Option<Typed>> = values.iter().map(|value| self.expr(value, owner, None)).collect();
                let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
                let ty = list_type(&typed);
                if ty.is_none() {
                    let types: Vec<String> = typed.iter().map(|(_, ty)| ty.to_string()).collect();
                    let diagnostic =
                        Diagnostic::error(codes::TYPE_MISMATCH, "the values of a list have different types")
                            .at(expr.span, format!("they are {}", types.join(", ")))
                            .help("a list holds values of one type");
                    self.report(diagnostic);
                }
                Some((Value::List(typed.into_iter().map(|(value, _)| value).collect()), ty?))
            }
            ExprKind::Call { op, args } => self.call(expr, op, args, owner, attributes),
            _ => literal_value(expr),
        }
    }

    fn name(&mut self, name: &str, span: Span) -> Option<Typed> {
        let Some(at) = self.names.get(name).copied() else {
            let mut diagnostic =
                Diagnostic::error(codes::UNKNOWN_NAME, format!("nothing is called `{name}`")).at(span, "used here");
            diagnostic = match nearest(name, self.names.keys().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None if self.signatures.op(name).is_some() => {
                    diagnostic.help(format!("`{name}` is an op: call it, `{name}(…)`"))
                }
                None => diagnostic.help(format!("bind it: `{name} = …`, or make it a param: `param {name} = …`")),
            };
            self.report(diagnostic);
            return None;
        };
        if let Some(used) = self.used.get_mut(at) {
            *used = true;
        }
        self.binding(at)
    }

    /// The value as `ty` takes it, or a diagnostic.
    fn fit(&mut self, (value, found): Typed, ty: Type, span: Span, place: &str) -> Option<Value> {
        if let Some(value) = coerce((value, found), ty) {
            return Some(value);
        }
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, format!("expected {ty}, found {found}"))
            .at(span, format!("{place} takes {ty}"));
        let makers: Vec<&str> =
            self.signatures.ops().filter(|op| fits(op.output, ty) && named(ty)).map(|op| op.name).collect();
        let diagnostic = if makers.is_empty() {
            diagnostic
        } else {
            let calls: Vec<String> = makers.iter().map(|name| format!("{name}(…)")).collect();
            let verb = if calls.len() == 1 { "makes" } else { "make" };
            diagnostic.help(format!("{} {verb} a {ty}", calls.join(", ")))
        };
        self.report(diagnostic);
        None
    }

    fn within(&mut self, value: &Value, ty: Type, (low, high): (f64, f64), span: Span, name: &str) -> Option<()> {
        let values = match value {
            Value::List(values) => values.as_slice(),
            other => std::slice::from_ref(other),
        };
        for value in values {
            let Some(found) = amount(value) else { continue };
            if !(low..=high).contains(&found) {
                let range = range_text(ty, (low, high));
                let message = format!("{value} is out of range for `{name}`");
                let diagnostic = Diagnostic::error(codes::OUT_OF_RANGE, message)
                    .at(span, format!("allowed is {range}, both ends included"));
                self.report(diagnostic.help(format!("choose a value in {range}")));
                return None;
            }
        }
        Some(())
    }

    fn exports(&mut self) {
        for statement in &self.file.statements {
            let StatementKind::Export { name, format, path } = &statement.kind else { continue };
            let value = self.name(&name.text, name.span);
            let Some(known) = self.signatures.format(&format.text) else {
                let names: Vec<&str> = self.signatures.formats().map(|format| format.name).collect();
                let help = match nearest(&format.text, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the formats are {}", names.join(", ")),
                };
                let diagnostic =
                    Diagnostic::error(codes::UNKNOWN_FORMAT, format!("there is no export format `{}`", format.text));
                self.report(diagnostic.at(format.span, "named here").help(help));
                continue;
            };
            let (Some((value, ty)), ExprKind::Str(path)) = (value, &path.kind) else { continue };
            let (Value::Stage(stage), true) = (value, known.accepts.iter().any(|accepted| fits(ty, *accepted))) else {
                let accepted: Vec<String> = known.accepts.iter().map(Type::to_string).collect();
                let message = format!("a {ty} cannot be exported as {}", known.name);
                let diagnostic =
                    Diagnostic::error(codes::TYPE_MISMATCH, message).at(name.span, format!("this is a {ty}"));
                self.report(diagnostic.help(format!("{} takes {}", known.name, accepted.join(" or "))));
                continue;
            };
            self.exported.push(stage);
            self.exports.push(Export {
                name: name.text.clone(),
                stage,
                format: known.name,
                path: path.clone(),
                span: statement.span,
            });
        }
    }

    /// Leaves that nobody asked for.
    fn unused(&mut self) {
        let any_target =
            !self.exported.is_empty() || self.stages.iter().any(|stage| self.signatures.is_result(stage.output));
        for (at, statement) in self.file.statements.iter().enumerate() {
            let (StatementKind::Param { name, .. } | StatementKind::Binding { name, .. }) = &statement.kind else {
                continue;
            };
            let Some(Progress::Done(Some((value, ty)))) = self.progress.get(at) else { continue };
            if self.used.get(at) == Some(&true) || self.names.get(name.text.as_str()) != Some(&at) {
                continue;
            }
            let stage = matches!(value, Value::Stage(_));
            if stage && (!any_target || self.signatures.is_result(*ty)) {
                continue;
            }
            let (label, help) = if stage {
                (
                    "it is not run unless it is asked for by name",
                    format!("export it, use it, or remove it; `blip run … {}` runs it", name.text),
                )
            } else {
                ("nothing depends on its value", "use it or remove it".to_owned())
            };
            let diagnostic = Diagnostic::warning(codes::UNUSED, format!("`{}` is never used", name.text));
            self.report(diagnostic.at(name.span, label).help(help));
        }
    }

    fn program(self) -> Program {
        let mut inner = vec![false; self.stages.len()];
        for stage in &self.stages {
            for input in stage.inputs() {
                if let Some(slot) = inner.get_mut(input.0 as usize) {
                    *slot = true;
                }
            }
        }
        let leaves = |wanted: &dyn Fn(&Stage) -> bool| -> Vec<StageId> {
            let leaves = (0..)
                .map(StageId)
                .zip(&self.stages)
                .filter(|(id, stage)| !inner.get(id.0 as usize).copied().unwrap_or(false) && wanted(stage));
            leaves.map(|(id, _)| id).collect()
        };
        let mut default_targets = leaves(&|stage| self.signatures.is_result(stage.output));
        default_targets.extend(&self.exported);
        if default_targets.is_empty() {
            default_targets = leaves(&|_| true);
        }
        default_targets.sort_unstable();
        default_targets.dedup();
        let params = self.params.into_values().collect();
        Program { params, stages: self.stages, exports: self.exports, names: self.stage_names, default_targets }
    }
}

fn name_of(statement: &Statement) -> &Name {
    match &statement.kind {
        StatementKind::Param { name, .. }
        | StatementKind::Binding { name, .. }
        | StatementKind::Export { name, .. } => name,
    }
}

fn named(ty: Type) -> bool {
    matches!(ty, Type::Named(_) | Type::OneOf(_))
}

/// Whether a value of type `found` is one of type `ty`, coercions aside.
fn fits(found: Type, ty: Type) -> bool {
    match ty {
        Type::OneOf(types) => types.iter().any(|ty| fits(found, *ty)),
        _ => found == ty,
    }
}

/// The value as `ty` takes it, if it does.
fn coerce((value, found): Typed, ty: Type) -> Option<Value> {
    match (value, ty) {
        (value, Type::OneOf(types)) => types.iter().find_map(|ty| coerce((value.clone(), found), *ty)),
        (Value::Str(text), Type::Choice(words)) => words.contains(&text.as_str()).then_some(Value::Str(text)),
        #[expect(
            clippy::cast_precision_loss,
            reason = "a user's whole number as a float; beyond 2^53 none is meant exactly"
        )]
        (Value::Int(number), Type::Float) => Some(Value::Float(number as f64)),
        (Value::Str(text), Type::Path) => Some(Value::Path(text)),
        (Value::List(values), Type::List(element)) => {
            let types = match found {
                Type::List(found) => *found,
                _ => *element,
            };
            values.into_iter().map(|value| coerce((value, types), *element)).collect::<Option<_>>().map(Value::List)
        }
        (value, ty) => (found == ty).then_some(value),
    }
}

/// The value of an expression without names and calls.
fn literal_value(expr: &Expr) -> Option<Typed> {
    Some(match &expr.kind {
        ExprKind::Int(number) => (Value::Int(*number), Type::Int),
        ExprKind::Float(number) => (Value::Float(*number), Type::Float),
        ExprKind::Str(text) => (Value::Str(text.clone()), Type::Str),
        ExprKind::Bool(truth) => (Value::Bool(*truth), Type::Bool),
        ExprKind::Duration(ms) => (Value::Duration(*ms), Type::Duration),
        ExprKind::Size(bytes) => (Value::Size(*bytes), Type::Size),
        ExprKind::List(values) => {
            let typed: Vec<Typed> = values.iter().map(literal_value).collect::<Option<_>>()?;
            let ty = list_type(&typed)?;
            (Value::List(typed.into_iter().map(|(value, _)| value).collect()), ty)
        }
        ExprKind::Name(_) | ExprKind::Call { .. } => return None,
    })
}

/// The type of a list of these values, if they have one type. An empty list, and one of named types, fits by its values.
fn list_type(values: &[Typed]) -> Option<Type> {
    let Some((_, first)) = values.first() else { return Some(Type::List(&Type::Str)) };
    if !values.iter().all(|(_, ty)| ty == first) {
        return None;
    }
    DECLARABLE.iter().find(|(_, one, _)| one == first).map(|(.., many)| *many)
}

/// A number, duration or size as a plain number, for comparing with a range.
#[expect(clippy::cast_precision_loss, reason = "ranges are compared, not computed with")]
fn amount(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Duration(amount) | Value::Size(amount) => Some(*amount as f64),
        _ => None,
    }
}
