//! Tree to text, in the one standard layout. Comments stay where they were.

mod columns;

use crate::ast::{Argument, Attribute, Expr, ExprKind, File, Statement, StatementKind};
use crate::source::{SOURCE_BYTES_MAX, Source};
use crate::span::Span;

use self::columns::{Columns, Form};

/// The longest line before a call is broken over several.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// The file in standard layout. Formatting what comes out changes nothing. A file that could not be
/// parsed completely is returned as it is: nothing of it may be lost. So is one that would become
/// too large to be read again.
pub fn format(file: &File, source: &Source) -> String {
    if !file.complete {
        return source.text().to_owned();
    }
    let mut printer = Printer {
        source,
        comments: &file.comments,
        next: 0,
        out: String::new(),
        columns: Columns::default(),
    };
    let mut end = 0;
    for statement in &file.statements {
        printer.leading(statement.span.start(), &mut end, 0);
        printer.blank_line(end, statement.span.start());
        printer.statement(statement);
        end = statement.span.end();
        printer.behind(&mut end, source.text().len());
        printer.out.push('\n');
    }
    printer.leading(source.text().len(), &mut end, 0);
    let formatted = printer.columns.align(&printer.out);
    if formatted.len() > SOURCE_BYTES_MAX {
        source.text().to_owned()
    } else {
        formatted
    }
}

struct Printer<'a> {
    source: &'a Source,
    comments: &'a [Span],
    next: usize,
    out: String,
    columns: Columns,
}

impl Printer<'_> {
    fn line(&self, offset: usize) -> usize {
        self.source.position(offset).line
    }

    /// Keeps one blank line where there was at least one.
    fn blank_line(&mut self, end: usize, start: usize) {
        if !self.out.is_empty()
            && self.line(start) > self.line(end) + 1
            && !self.out.ends_with("\n\n")
        {
            self.out.push('\n');
        }
    }

    /// Comments before `start`, each on its line.
    fn leading(&mut self, start: usize, end: &mut usize, indent: usize) {
        while let Some(comment) = self
            .comments
            .get(self.next)
            .copied()
            .filter(|comment| comment.start() < start)
        {
            if indent == 0 {
                self.blank_line(*end, comment.start());
            }
            self.out.push_str(&" ".repeat(indent));
            self.out.push_str(self.source.slice(comment));
            self.out.push('\n');
            *end = comment.end();
            self.next += 1;
        }
    }

    /// The comment behind what was just printed, on the same line and before `next`, where
    /// something else begins.
    fn behind(&mut self, end: &mut usize, next: usize) {
        let Some(comment) = self.comments.get(self.next).copied() else {
            return;
        };
        let between = (*end..next).contains(&comment.start());
        if between && self.line(comment.start()) == self.line(*end) {
            self.out.push_str("  ");
            self.out.push_str(self.source.slice(comment));
            *end = comment.end();
            self.next += 1;
        }
    }

    fn comments_in(&self, span: Span) -> bool {
        let at = self
            .comments
            .partition_point(|comment| comment.start() < span.start());
        self.comments
            .get(at)
            .is_some_and(|comment| span.contains(comment.start()))
    }

    fn statement(&mut self, statement: &Statement) {
        self.attributes(statement);
        let start = self.out.len();
        let mut stops = Vec::new();
        let form = match &statement.kind {
            StatementKind::Param {
                name,
                ty,
                default,
                range,
            } => {
                self.out.push_str(&format!("param {}", name.text));
                if let Some(ty) = ty {
                    self.out.push_str(&format!(": {ty}"));
                }
                if let Some(default) = default {
                    stops.push(self.out.len());
                    self.out.push_str(" = ");
                    self.value(default, start);
                }
                if let Some((low, high)) = range.as_deref() {
                    self.out
                        .push_str(&format!(" in {}..{}", self.flat(low), self.flat(high)));
                }
                Form::Param
            }
            StatementKind::Binding { name, value } => {
                self.out.push_str(name.text);
                stops.push(self.out.len());
                self.out.push_str(" = ");
                self.value(value, start);
                Form::Binding
            }
            StatementKind::Export { name, format, path } => {
                self.out.push_str(&format!("export {}", name.text));
                stops.push(self.out.len());
                self.out.push_str(&format!(" as {}", format.text));
                stops.push(self.out.len());
                self.out.push_str(&format!(" {}", self.flat(path)));
                Form::Export
            }
        };
        let one_line = !self.out.get(start..).unwrap_or("").contains('\n');
        if one_line && statement.attributes.is_empty() && !stops.is_empty() {
            self.columns.add(form, start, stops);
        }
    }

    /// The attributes of a statement, on one line if they fit there and no comment stands between
    /// them.
    fn attributes(&mut self, statement: &Statement) {
        let Some((first, last)) = statement
            .attributes
            .first()
            .zip(statement.attributes.last())
        else {
            return;
        };
        let texts: Vec<String> = statement
            .attributes
            .iter()
            .map(|attribute| self.attribute(attribute))
            .collect();
        let line = texts.join(" ");
        let mut end = first.span.start();
        if line.chars().count() <= WIDTH
            && !self.comments_in(Span::new(first.span.start(), last.span.start()))
        {
            self.out.push_str(&line);
            end = last.span.end();
            self.behind(&mut end, name_start(statement));
            self.out.push('\n');
        } else {
            let nexts = statement
                .attributes
                .iter()
                .skip(1)
                .map(|attribute| attribute.span.start());
            let nexts = nexts.chain([name_start(statement)]);
            for ((attribute, text), next) in statement.attributes.iter().zip(texts).zip(nexts) {
                self.leading(attribute.span.start(), &mut end, 0);
                self.out.push_str(&text);
                end = attribute.span.end();
                self.behind(&mut end, next);
                self.out.push('\n');
            }
        }
        self.leading(name_start(statement), &mut end, 0);
    }

    /// The value of the statement whose line begins at `start`.
    fn value(&mut self, value: &Expr, start: usize) {
        let used = self.out.get(start..).unwrap_or("").chars().count();
        self.expr(value, WIDTH.saturating_sub(used), 0);
    }

    fn attribute(&self, attribute: &Attribute) -> String {
        match &attribute.argument {
            Some(argument) => format!("@{}({})", attribute.name.text, self.flat_argument(argument)),
            None => format!("@{}", attribute.name.text),
        }
    }

    /// An expression on one line. Numbers and strings stay as they were written.
    fn flat(&self, expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::List(values) => {
                let values: Vec<String> = values.iter().map(|value| self.flat(value)).collect();
                format!("[{}]", values.join(", "))
            }
            ExprKind::Call { op, args } => {
                let args: Vec<String> = args
                    .iter()
                    .map(|argument| self.flat_argument(argument))
                    .collect();
                format!("{}({})", op.text, args.join(", "))
            }
            _ => self.source.slice(expr.span).to_owned(),
        }
    }

    fn flat_argument(&self, argument: &Argument) -> String {
        match &argument.name {
            Some(name) => format!("{} = {}", name.text, self.flat(&argument.value)),
            None => self.flat(&argument.value),
        }
    }

    /// An expression on one line if it fits into `room` and holds no comments, else one part a
    /// line.
    fn expr(&mut self, expr: &Expr, room: usize, indent: usize) {
        let flat = self.flat(expr);
        let broken = self.comments_in(expr.span) || flat.chars().count() > room;
        match &expr.kind {
            ExprKind::Call { op, args }
                if broken && (!args.is_empty() || self.comments_in(expr.span)) =>
            {
                self.out.push_str(op.text);
                let parts: Vec<(Span, Option<&str>, &Expr)> = args
                    .iter()
                    .map(|arg| {
                        (
                            arg.span,
                            arg.name.as_ref().map(|name| name.text),
                            &arg.value,
                        )
                    })
                    .collect();
                self.broken('(', &parts, ')', expr.span, indent);
            }
            ExprKind::List(values)
                if broken && (!values.is_empty() || self.comments_in(expr.span)) =>
            {
                let parts: Vec<(Span, Option<&str>, &Expr)> = values
                    .iter()
                    .map(|value| (value.span, None, value))
                    .collect();
                self.broken('[', &parts, ']', expr.span, indent);
            }
            _ => self.out.push_str(&flat),
        }
    }

    fn broken(
        &mut self,
        open: char,
        parts: &[(Span, Option<&str>, &Expr)],
        close: char,
        whole: Span,
        indent: usize,
    ) {
        self.out.push(open);
        let inner = indent + INDENT;
        let mut end = whole.start();
        // Where each part begins, and the closing bracket.
        let mut starts = parts
            .iter()
            .map(|(span, ..)| span.start())
            .chain([whole.end()]);
        self.behind(&mut end, starts.next().unwrap_or(whole.end()));
        self.out.push('\n');
        for ((span, name, value), next) in parts.iter().zip(starts) {
            self.leading(span.start(), &mut end, inner);
            self.out.push_str(&" ".repeat(inner));
            let label = name.map_or(String::new(), |name| format!("{name} = "));
            self.out.push_str(&label);
            let room = WIDTH.saturating_sub(inner + label.chars().count() + 1);
            self.expr(value, room, inner);
            self.out.push(',');
            end = span.end();
            self.behind(&mut end, next);
            self.out.push('\n');
        }
        self.leading(whole.end(), &mut end, inner);
        self.out.push_str(&" ".repeat(indent));
        self.out.push(close);
    }
}

fn name_start(statement: &Statement) -> usize {
    match &statement.kind {
        StatementKind::Param { name, .. }
        | StatementKind::Binding { name, .. }
        | StatementKind::Export { name, .. } => name.span.start(),
    }
}
