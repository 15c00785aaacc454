//! Tree to text, in the one standard layout. Comments stay where they were.

use crate::ast::{Argument, Attribute, Expr, ExprKind, File, Statement, StatementKind};
use crate::source::Source;
use crate::span::Span;

/// The longest line before a call is broken over several.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// The file in standard layout. Formatting what comes out changes nothing. A file that could not be parsed completely
/// is returned as it is: nothing of it may be lost.
pub fn format(file: &File, source: &Source) -> String {
    if !file.complete {
        return source.text().to_owned();
    }
    let mut printer = Printer { source, comments: &file.comments, next: 0, out: String::new() };
    let mut end = 0;
    for statement in &file.statements {
        printer.leading(statement.span.start, &mut end, 0);
        printer.blank_line(end, statement.span.start);
        printer.statement(statement);
        end = statement.span.end;
        printer.behind(&mut end);
        printer.out.push('\n');
    }
    printer.leading(source.text().len(), &mut end, 0);
    printer.out
}

struct Printer<'a> {
    source: &'a Source,
    comments: &'a [Span],
    next: usize,
    out: String,
}

impl Printer<'_> {
    fn line(&self, offset: usize) -> usize {
        self.source.position(offset).line
    }

    /// Keeps one blank line where there was at least one.
    fn blank_line(&mut self, end: usize, start: usize) {
        if !self.out.is_empty() && self.line(start) > self.line(end) + 1 && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Comments before `start`, each on its line.
    fn leading(&mut self, start: usize, end: &mut usize, indent: usize) {
        while let Some(comment) = self.comments.get(self.next).copied().filter(|comment| comment.start < start) {
            if indent == 0 {
                self.blank_line(*end, comment.start);
            }
            self.out.push_str(&" ".repeat(indent));
            self.out.push_str(self.source.slice(comment));
            self.out.push('\n');
            *end = comment.end;
            self.next += 1;
        }
    }

    /// The comment behind what was just printed, on the same line.
    fn behind(&mut self, end: &mut usize) {
        let Some(comment) = self.comments.get(self.next).copied() else { return };
        if comment.start >= *end && self.line(comment.start) == self.line(*end) {
            self.out.push_str("  ");
            self.out.push_str(self.source.slice(comment));
            *end = comment.end;
            self.next += 1;
        }
    }

    fn comments_in(&self, span: Span) -> bool {
        self.comments.get(self.next..).unwrap_or(&[]).iter().any(|comment| span.contains(comment.start))
    }

    fn statement(&mut self, statement: &Statement) {
        let mut end = statement.span.start;
        if !statement.attributes.is_empty() {
            let attributes: Vec<String> =
                statement.attributes.iter().map(|attribute| self.attribute(attribute)).collect();
            self.out.push_str(&attributes.join(" "));
            end = statement.attributes.last().map_or(end, |attribute| attribute.span.end);
            self.behind(&mut end);
            self.out.push('\n');
            let body = name_start(statement);
            self.leading(body, &mut end, 0);
        }
        match &statement.kind {
            StatementKind::Param { name, ty, default, range } => {
                let mut text = format!("param {}", name.text);
                if let Some(ty) = ty {
                    text += &format!(": {}", ty.text);
                }
                if let Some(default) = default {
                    text += &format!(" = {}", self.flat(default));
                }
                if let Some((low, high)) = range {
                    text += &format!(" in {}..{}", self.flat(low), self.flat(high));
                }
                self.out.push_str(&text);
            }
            StatementKind::Binding { name, value } => {
                self.out.push_str(&format!("{} = ", name.text));
                let room = WIDTH.saturating_sub(name.text.chars().count() + 3);
                self.expr(value, room, 0);
            }
            StatementKind::Export { name, format, path } => {
                let text = format!("export {} as {} {}", name.text, format.text, self.flat(path));
                self.out.push_str(&text);
            }
        }
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
                let args: Vec<String> = args.iter().map(|argument| self.flat_argument(argument)).collect();
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

    /// An expression on one line if it fits into `room` and holds no comments, else one part a line.
    fn expr(&mut self, expr: &Expr, room: usize, indent: usize) {
        let flat = self.flat(expr);
        let broken = self.comments_in(expr.span) || flat.chars().count() > room;
        match &expr.kind {
            ExprKind::Call { op, args } if broken && (!args.is_empty() || self.comments_in(expr.span)) => {
                self.out.push_str(&op.text);
                let parts: Vec<(Span, Option<&str>, &Expr)> = args
                    .iter()
                    .map(|arg| (arg.span, arg.name.as_ref().map(|name| name.text.as_str()), &arg.value))
                    .collect();
                self.broken('(', &parts, ')', expr.span, indent);
            }
            ExprKind::List(values) if broken && (!values.is_empty() || self.comments_in(expr.span)) => {
                let parts: Vec<(Span, Option<&str>, &Expr)> =
                    values.iter().map(|value| (value.span, None, value)).collect();
                self.broken('[', &parts, ']', expr.span, indent);
            }
            _ => self.out.push_str(&flat),
        }
    }

    fn broken(&mut self, open: char, parts: &[(Span, Option<&str>, &Expr)], close: char, whole: Span, indent: usize) {
        self.out.push(open);
        let inner = indent + INDENT;
        let mut end = whole.start;
        self.behind(&mut end);
        self.out.push('\n');
        for (span, name, value) in parts {
            self.leading(span.start, &mut end, inner);
            self.out.push_str(&" ".repeat(inner));
            let label = name.map_or(String::new(), |name| format!("{name} = "));
            self.out.push_str(&label);
            let room = WIDTH.saturating_sub(inner + label.chars().count() + 1);
            self.expr(value, room, inner);
            self.out.push(',');
            end = span.end;
            self.behind(&mut end);
            self.out.push('\n');
        }
        self.leading(whole.end, &mut end, inner);
        self.out.push_str(&" ".repeat(indent));
        self.out.push(close);
    }
}

fn name_start(statement: &Statement) -> usize {
    match &statement.kind {
        StatementKind::Param { name, .. }
        | StatementKind::Binding { name, .. }
        | StatementKind::Export { name, .. } => name.span.start,
    }
}
