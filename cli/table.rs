//! Tables with aligned columns.

use crate::console::{Console, Style, escape_line};

/// The last column wraps so that lines are not longer than this.
const WIDTH: usize = 120;
const GAP: &str = "  ";
/// The least width of a numeric column, so that tables of different runs look alike.
const MIN_NUMBER_WIDTH: usize = 8;

/// A cell and its style.
type Cell = (String, Style);

/// A table, printed once complete.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    align_right: bool,
    min_width: usize,
}

impl Column {
    fn new(title: &'static str) -> Self {
        match title.strip_prefix('>') {
            Some(title) => Self {
                title,
                align_right: true,
                min_width: MIN_NUMBER_WIDTH,
            },
            None => Self {
                title,
                align_right: false,
                min_width: 0,
            },
        }
    }
}

impl Table {
    /// An empty table. The prefix `>` of a title marks a numeric column, aligned to the right. If
    /// all titles are empty, no title row is printed.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        Self {
            columns: titles.iter().map(|title| Column::new(title)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; control characters are escaped.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        let escaped = cells
            .into_iter()
            .map(|(text, style)| (escape_line(&text), style));
        self.rows.push(escaped.collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table, each line indented by `indent`.
    pub(crate) fn print(&self, console: &mut Console, indent: &str) {
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        let last = widths.len().saturating_sub(1);
        let before_last: usize = widths[..last].iter().map(|width| width + GAP.len()).sum();
        // A wide table keeps some room for its last column: it is then wider than WIDTH.
        let room = WIDTH
            .saturating_sub(indent.len() + before_last)
            .max(WIDTH / 3);
        let titles = self.titles();
        for row in titles.iter().chain(&self.rows) {
            for line in wrap_row(row, room) {
                self.print_line(&line, &widths, console, indent);
            }
        }
    }

    fn titles(&self) -> Option<Vec<Cell>> {
        let untitled = self.columns.iter().all(|column| column.title.is_empty());
        let cells = self
            .columns
            .iter()
            .map(|column| (column.title.to_owned(), Style::Dim));
        (!untitled).then(|| cells.collect())
    }

    fn print_line(&self, cells: &[Cell], widths: &[usize], console: &mut Console, indent: &str) {
        let mut pieces = vec![(indent.to_owned(), Style::Plain)];
        for ((column, width), (text, style)) in self.columns.iter().zip(widths).zip(cells) {
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            let text = (text.clone(), *style);
            let padding = (padding, Style::Plain);
            if column.align_right {
                pieces.extend([padding, text]);
            } else {
                pieces.extend([text, padding]);
            }
            pieces.push((GAP.to_owned(), Style::Plain));
        }
        let pieces: Vec<(&str, Style)> = pieces
            .iter()
            .map(|(text, style)| (text.as_str(), *style))
            .collect();
        console.styled(&pieces);
    }

    fn width(&self, at: usize) -> usize {
        let column = &self.columns[at];
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        let widest = cells.map(|(text, _)| text.chars().count()).max();
        let title = column.title.chars().count();
        widest.unwrap_or(0).max(title).max(column.min_width)
    }
}

/// A row as one or more lines: its last cell wraps at `room` characters.
fn wrap_row(row: &[Cell], room: usize) -> Vec<Vec<Cell>> {
    let Some(((text, style), before)) = row.split_last() else {
        return Vec::new();
    };
    let blank: Vec<Cell> = vec![(String::new(), Style::Plain); before.len()];
    let mut lines = Vec::new();
    for (number, part) in wrap(text, room).into_iter().enumerate() {
        let mut line = if number == 0 {
            before.to_vec()
        } else {
            blank.clone()
        };
        line.push((part, *style));
        lines.push(line);
    }
    lines
}

/// Wraps a text between words into lines of at most `width` characters. A longer word gets a line
/// of its own.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let is_first = line.is_empty();
        let length = line.chars().count() + usize::from(!is_first) + word.chars().count();
        if !is_first && length > width {
            lines.push(word.to_owned());
            continue;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}
