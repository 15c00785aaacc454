//! The order in which statements are evaluated: each after those it depends on, whatever their
//! order in the file.

use super::Checker;
use super::names::{Target, bound_name};
use crate::ast::{Expr, ExprKind, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// The use of a name in a statement: the index of the statement that binds it, and the name's span.
type Use = (usize, Span);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    NotVisited,
    /// On the path of the walk.
    Visiting,
    Visited,
}

/// A statement on the path of the walk.
struct Step {
    at: usize,
    /// The use that led to it.
    from: Span,
    /// Its own uses that are still to be followed.
    uses: std::vec::IntoIter<Use>,
}

impl Checker<'_> {
    /// The indices of all statements, each after those it depends on, else in file order. Reports
    /// cycles.
    ///
    /// A depth-first walk with its own stack, since a chain of bindings may be as long as the file.
    pub(super) fn evaluation_order(&mut self) -> Vec<usize> {
        let count = self.file.statements.len();
        let mut progress = vec![Progress::NotVisited; count];
        let mut order = Vec::with_capacity(count);
        let mut path: Vec<Step> = Vec::new();
        for root in 0..count {
            let mut next = Some((root, Span::new(0, 0)));
            loop {
                if let Some((at, from)) = next {
                    match progress.get(at) {
                        Some(Progress::NotVisited) => {
                            set(&mut progress, at, Progress::Visiting);
                            let uses = self.uses(at).into_iter();
                            path.push(Step { at, from, uses });
                        }
                        Some(Progress::Visiting) => self.report_cycle(&path, at, from),
                        Some(Progress::Visited) | None => {}
                    }
                }
                let Some(step) = path.last_mut() else { break };
                next = step.uses.next();
                if next.is_none() {
                    set(&mut progress, step.at, Progress::Visited);
                    order.push(step.at);
                    path.pop();
                }
            }
        }
        order
    }

    /// The uses of names in the statement `at`, in the order in which they are written.
    fn uses(&self, at: usize) -> Vec<Use> {
        let mut uses = Vec::new();
        if let Some(statement) = self.file.statements.get(at) {
            each_expression(statement, &mut |expr| self.collect_uses(expr, &mut uses));
        }
        uses
    }

    fn collect_uses(&self, expr: &Expr, into: &mut Vec<Use>) {
        match &expr.kind {
            ExprKind::Name(name) => {
                if let Some(Target::Statement(at)) = self.names.get(name) {
                    into.push((*at, expr.span));
                }
            }
            ExprKind::List(values) => {
                for value in values {
                    self.collect_uses(value, into);
                }
            }
            ExprKind::Call { args, .. } => {
                for argument in args {
                    self.collect_uses(&argument.value, into);
                }
            }
            _ => {}
        }
    }

    /// Reports that the last statement on the path uses, at `span`, the statement `at`, which is on
    /// the path too.
    fn report_cycle(&mut self, path: &[Step], at: usize, span: Span) {
        /// Of a longer cycle the beginning and the end are shown.
        const SHOWN_MAX: usize = 12;
        let from = path.iter().position(|step| step.at == at).unwrap_or(0);
        let steps = path.get(from..).unwrap_or(&[]);
        let shown = steps.iter().take(SHOWN_MAX);
        let mut names: Vec<String> = shown.clone().map(|step| self.name_of(step.at)).collect();
        if steps.len() > SHOWN_MAX {
            names.push(format!("… {} more …", steps.len() - SHOWN_MAX));
        }
        let name = self.name_of(at);
        names.push(name.clone());
        let message = format!("`{name}` depends on itself: {}", names.join(" -> "));
        let label = if steps.len() == 1 {
            "used in its own value"
        } else {
            "this use closes the cycle"
        };
        let mut diagnostic = Diagnostic::error(codes::CYCLE, message)
            .at(span, label)
            .help("use another name here: a stage cannot depend on its own result");
        for step in steps.iter().skip(1).take(SHOWN_MAX) {
            let note = format!("`{}` is used here", self.name_of(step.at));
            diagnostic = diagnostic.note(step.from, note);
        }
        self.report(diagnostic);
    }

    /// The name that the statement `at` binds.
    fn name_of(&self, at: usize) -> String {
        let name = self.file.statements.get(at).and_then(bound_name);
        name.map_or_else(String::new, |name| name.text.to_owned())
    }
}

/// Calls `each` for the expressions of a statement.
fn each_expression<'s>(statement: &'s Statement, each: &mut dyn FnMut(&'s Expr)) {
    for attribute in &statement.attributes {
        if let Some(argument) = &attribute.argument {
            each(&argument.value);
        }
    }
    match &statement.kind {
        StatementKind::Param { default, range, .. } => {
            if let Some(default) = default {
                each(default);
            }
            if let Some((low, high)) = range.as_deref() {
                each(low);
                each(high);
            }
        }
        StatementKind::Binding { value, .. } => each(value),
        // Exports are checked when all other statements are evaluated.
        StatementKind::Export { .. } => {}
    }
}

fn set(progress: &mut [Progress], at: usize, to: Progress) {
    if let Some(slot) = progress.get_mut(at) {
        *slot = to;
    }
}
