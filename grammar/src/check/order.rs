//! The order in which statements are worked out: what a statement needs comes before it, whatever
//! the file's order.

use super::{Checker, Target};
use crate::ast::{Expr, ExprKind, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// A name that a statement uses: the statement it means, and where it stands.
type Use = (usize, Span);

/// How far a statement is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Open,
    InHand,
    Done,
}

/// A statement in hand, with the use that led to it and the uses of its own that are still to be
/// followed.
struct Step {
    at: usize,
    from: Span,
    uses: std::vec::IntoIter<Use>,
}

impl Checker<'_> {
    /// All statements, each after those it needs, else in file order. Reports cycles. The walk
    /// keeps its own stack: a chain of bindings may be as long as the file.
    pub(super) fn order(&mut self) -> Vec<usize> {
        let count = self.file.statements.len();
        let mut progress = vec![Progress::Open; count];
        let mut order = Vec::with_capacity(count);
        let mut path: Vec<Step> = Vec::new();
        for root in 0..count {
            let mut next = Some((root, Span::new(0, 0)));
            loop {
                if let Some((at, from)) = next.take() {
                    match progress.get(at) {
                        Some(Progress::Open) => {
                            set(&mut progress, at, Progress::InHand);
                            path.push(Step {
                                at,
                                from,
                                uses: self.uses(at).into_iter(),
                            });
                        }
                        Some(Progress::InHand) => self.cycle(&path, at, from),
                        _ => {}
                    }
                }
                let Some(step) = path.last_mut() else { break };
                next = step.uses.next();
                if next.is_none() {
                    set(&mut progress, step.at, Progress::Done);
                    order.push(step.at);
                    path.pop();
                }
            }
        }
        order
    }

    /// The statements that a statement uses, in the order of their names in it.
    fn uses(&self, at: usize) -> Vec<Use> {
        let mut uses = Vec::new();
        if let Some(statement) = self.file.statements.get(at) {
            expressions(statement, &mut |expr| self.collect(expr, &mut uses));
        }
        uses
    }

    fn collect(&self, expr: &Expr, into: &mut Vec<Use>) {
        match &expr.kind {
            ExprKind::Name(name) => {
                if let Some(Target::Statement(at)) = self.names.get(name) {
                    into.push((*at, expr.span));
                }
            }
            ExprKind::List(values) => values.iter().for_each(|value| self.collect(value, into)),
            ExprKind::Call { args, .. } => args
                .iter()
                .for_each(|argument| self.collect(&argument.value, into)),
            _ => {}
        }
    }

    /// Reports that the statement `at`, which is in hand, is used at `span` by the last one on the
    /// path.
    fn cycle(&mut self, path: &[Step], at: usize, span: Span) {
        /// Longer cycles are shown by their beginning and end.
        const SHOWN: usize = 12;
        let name = |at: usize| {
            self.file
                .statements
                .get(at)
                .and_then(super::bound_name)
                .map_or_else(String::new, |name| name.text.to_owned())
        };
        let from = path.iter().position(|step| step.at == at).unwrap_or(0);
        let steps = path.get(from..).unwrap_or(&[]);
        let mut names: Vec<String> = steps.iter().take(SHOWN).map(|step| name(step.at)).collect();
        if steps.len() > SHOWN {
            names.push(format!("… {} more …", steps.len() - SHOWN));
        }
        names.push(name(at));
        let text = names.join(" -> ");
        let mut diagnostic =
            Diagnostic::error(codes::CYCLE, format!("`{}` needs itself: {text}", name(at)));
        for step in steps.iter().skip(1).take(SHOWN) {
            diagnostic = diagnostic.note(step.from, format!("`{}` is needed here", name(step.at)));
        }
        let label = if steps.len() == 1 {
            "here, in its own value"
        } else {
            "needed here, which closes the cycle"
        };
        let help = "a stage can only take results of stages that do not need its own: take another name here";
        self.report(diagnostic.at(span, label).help(help));
    }
}

/// Hands over the expressions of a statement in which names are values of the file.
fn expressions<'s>(statement: &'s Statement, each: &mut dyn FnMut(&'s Expr)) {
    statement
        .attributes
        .iter()
        .filter_map(|attribute| attribute.argument.as_ref())
        .for_each(|argument| each(&argument.value));
    match &statement.kind {
        StatementKind::Param { default, range, .. } => {
            default.iter().for_each(&mut *each);
            if let Some((low, high)) = range.as_deref() {
                each(low);
                each(high);
            }
        }
        StatementKind::Binding { value, .. } => each(value),
        // Exports are looked at when everything else is known.
        StatementKind::Export { .. } => {}
    }
}

fn set(progress: &mut [Progress], at: usize, to: Progress) {
    if let Some(slot) = progress.get_mut(at) {
        *slot = to;
    }
}
