//! Tree to text, in the one standard layout. Comments stay where they are.

mod columns;

use crate::ast::{Argument, Attribute, Expr, ExprKind, File, Statement, StatementKind};
use crate::source::{SOURCE_BYTES_MAX, Source};
use crate::span::Span;

use self::columns::{Columns, Form};

/// The longest line before a call is broken over several, in characters.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// The file in standard layout. Formatting is idempotent.
///
/// A file that could not be parsed completely is returned unchanged, since parts of it are not in
/// the tree. So is a file whose formatted text would be too large to be read again.
pub fn format(file: &File, source: &Source) -> String {
    if !file.complete {
        return source.text().to_owned();
    }
    let mut printer = Printer {
        source,
        comments: &file.comments,
        next_comment: 0,
        out: String::new(),
        columns: Columns::default(),
    };
    // Where what was printed last ends in the source.
    let mut end = 0;
    for statement in &file.statements {
        printer.leading_comments(statement.span.start(), &mut end, 0);
        printer.blank_line(end, statement.span.start());
        printer.statement(statement);
        end = statement.span.end();
        printer.trailing_comment(&mut end, source.text().len());
        printer.out.push('\n');
    }
    printer.leading_comments(source.text().len(), &mut end, 0);
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
    /// The index of the first comment that is not printed yet.
    next_comment: usize,
    out: String,
    columns: Columns,
}

/// One argument of a call or one value of a list.
struct Part<'e> {
    span: Span,
    name: Option<&'e str>,
    value: &'e Expr<'e>,
}

impl Printer<'_> {
    fn line(&self, offset: usize) -> usize {
        self.source.position(offset).line
    }

    fn printed(&self, from: usize) -> &str {
        self.out.get(from..).unwrap_or("")
    }

    /// Keeps one blank line where there is at least one between `end` and `start`.
    fn blank_line(&mut self, end: usize, start: usize) {
        let separated = self.line(start) > self.line(end) + 1;
        if separated && !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Comments before `start`, each on its own line.
    fn leading_comments(&mut self, start: usize, end: &mut usize, indent: usize) {
        while let Some(comment) = self.comments.get(self.next_comment).copied() {
            if comment.start() >= start {
                break;
            }
            if indent == 0 {
                self.blank_line(*end, comment.start());
            }
            self.indent(indent);
            self.out.push_str(self.source.slice(comment));
            self.out.push('\n');
            *end = comment.end();
            self.next_comment += 1;
        }
    }

    /// The comment after what was just printed: on the same line, and before `next`, where
    /// something else begins.
    fn trailing_comment(&mut self, end: &mut usize, next: usize) {
        let Some(comment) = self.comments.get(self.next_comment).copied() else {
            return;
        };
        let between = (*end..next).contains(&comment.start());
        if between && self.line(comment.start()) == self.line(*end) {
            self.out.push_str("  ");
            self.out.push_str(self.source.slice(comment));
            *end = comment.end();
            self.next_comment += 1;
        }
    }

    fn has_comments(&self, span: Span) -> bool {
        let at = self
            .comments
            .partition_point(|comment| comment.start() < span.start());
        self.comments
            .get(at)
            .is_some_and(|comment| span.contains(comment.start()))
    }

    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn statement(&mut self, statement: &Statement) {
        self.attributes(statement);
        let start = self.out.len();
        // Where the columns of the line begin.
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
                    let range = format!(" in {}..{}", self.one_line(low), self.one_line(high));
                    self.out.push_str(&range);
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
                self.out.push_str(&format!(" {}", self.one_line(path)));
                Form::Export
            }
        };
        let is_one_line = !self.printed(start).contains('\n');
        if is_one_line && statement.attributes.is_empty() && !stops.is_empty() {
            self.columns.add(form, start, stops);
        }
    }

    /// The attributes of a statement: on one line if they fit there and no comment stands between
    /// them, else one a line.
    fn attributes(&mut self, statement: &Statement) {
        let attributes = &statement.attributes;
        let (Some(first), Some(last)) = (attributes.first(), attributes.last()) else {
            return;
        };
        let texts: Vec<String> = attributes
            .iter()
            .map(|attribute| self.attribute(attribute))
            .collect();
        let line = texts.join(" ");
        let between = Span::new(first.span.start(), last.span.start());
        let mut end = first.span.start();
        if line.chars().count() <= WIDTH && !self.has_comments(between) {
            self.out.push_str(&line);
            end = last.span.end();
            self.trailing_comment(&mut end, name_start(statement));
            self.out.push('\n');
        } else {
            let starts = attributes.iter().map(|attribute| attribute.span.start());
            let nexts = starts.skip(1).chain([name_start(statement)]);
            for ((attribute, text), next) in attributes.iter().zip(texts).zip(nexts) {
                self.leading_comments(attribute.span.start(), &mut end, 0);
                self.out.push_str(&text);
                end = attribute.span.end();
                self.trailing_comment(&mut end, next);
                self.out.push('\n');
            }
        }
        self.leading_comments(name_start(statement), &mut end, 0);
    }

    /// The value of the statement whose line begins at `start`.
    fn value(&mut self, value: &Expr, start: usize) {
        let used = self.printed(start).chars().count();
        self.expr(value, WIDTH.saturating_sub(used), 0);
    }

    fn attribute(&self, attribute: &Attribute) -> String {
        let name = attribute.name.text;
        match &attribute.argument {
            Some(argument) => format!("@{name}({})", self.one_line_argument(argument)),
            None => format!("@{name}"),
        }
    }

    /// An expression on one line. Numbers and strings stay as they are written.
    fn one_line(&self, expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::List(values) => {
                let values: Vec<String> = values.iter().map(|value| self.one_line(value)).collect();
                format!("[{}]", values.join(", "))
            }
            ExprKind::Call { op, args } => {
                let args = args.iter().map(|argument| self.one_line_argument(argument));
                let args: Vec<String> = args.collect();
                format!("{}({})", op.text, args.join(", "))
            }
            _ => self.source.slice(expr.span).to_owned(),
        }
    }

    fn one_line_argument(&self, argument: &Argument) -> String {
        let value = self.one_line(&argument.value);
        match &argument.name {
            Some(name) => format!("{} = {value}", name.text),
            None => value,
        }
    }

    /// An expression on one line if it fits into `room` characters and contains no comments, else
    /// one part a line.
    fn expr(&mut self, expr: &Expr, room: usize, indent: usize) {
        let line = self.one_line(expr);
        let has_comments = self.has_comments(expr.span);
        let (opening, parts, closing) = match &expr.kind {
            ExprKind::Call { op, args } => (
                format!("{}(", op.text),
                args.iter().map(Part::from).collect(),
                ')',
            ),
            ExprKind::List(values) => {
                ("[".to_owned(), values.iter().map(Part::from).collect(), ']')
            }
            _ => (String::new(), Vec::new(), ' '),
        };
        let fits = line.chars().count() <= room && !has_comments;
        // A literal cannot be broken, and breaking empty brackets gains nothing.
        let breakable = !opening.is_empty() && (!parts.is_empty() || has_comments);
        if fits || !breakable {
            return self.out.push_str(&line);
        }
        self.out.push_str(&opening);
        self.parts(&parts, expr.span, indent);
        self.out.push(closing);
    }

    /// The parts of the expression at `whole`, one a line, up to its closing bracket.
    fn parts(&mut self, parts: &[Part], whole: Span, indent: usize) {
        let inner = indent + INDENT;
        let mut end = whole.start();
        // Where each part begins, and the end of the expression.
        let mut starts = parts
            .iter()
            .map(|part| part.span.start())
            .chain([whole.end()]);
        self.trailing_comment(&mut end, starts.next().unwrap_or(whole.end()));
        self.out.push('\n');
        for (part, next) in parts.iter().zip(starts) {
            self.leading_comments(part.span.start(), &mut end, inner);
            self.indent(inner);
            let label = part.name.map_or(String::new(), |name| format!("{name} = "));
            self.out.push_str(&label);
            // The comma takes one more character.
            let room = WIDTH.saturating_sub(inner + label.chars().count() + 1);
            self.expr(part.value, room, inner);
            self.out.push(',');
            end = part.span.end();
            self.trailing_comment(&mut end, next);
            self.out.push('\n');
        }
        self.leading_comments(whole.end(), &mut end, inner);
        self.indent(indent);
    }
}

impl<'e> From<&'e Argument<'e>> for Part<'e> {
    fn from(argument: &'e Argument<'e>) -> Self {
        Part {
            span: argument.span,
            name: argument.name.as_ref().map(|name| name.text),
            value: &argument.value,
        }
    }
}

impl<'e> From<&'e Expr<'e>> for Part<'e> {
    fn from(value: &'e Expr<'e>) -> Self {
        Part {
            span: value.span,
            name: None,
            value,
        }
    }
}

fn name_start(statement: &Statement) -> usize {
    match &statement.kind {
        StatementKind::Param { name, .. }
        | StatementKind::Binding { name, .. }
        | StatementKind::Export { name, .. } => name.span.start(),
    }
}
