//! Rows of cells, aligned.

use crate::console::{Console, Style, visible_line};

/// The last column is folded so that lines are no longer than this.
const WIDTH: usize = 120;
/// Between two columns.
const GAP: &str = "  ";

/// A table that is printed when it is complete.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Style)>>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    right: bool,
    /// The least width, for columns whose content differs from run to run.
    width: usize,
}

impl Table {
    /// A table without rows. A title that begins with `>` is of a column of numbers, which stand to
    /// the right.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column {
                title,
                right: true,
                width: 8,
            },
            None => Column {
                title,
                right: false,
                width: 0,
            },
        };
        Self {
            columns: titles.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(String, Style)>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|(text, style)| (visible_line(&text), style))
                .collect(),
        );
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, each line after `indent`.
    pub(crate) fn print(&self, console: &mut Console, indent: &str) {
        let titles: Vec<(String, Style)> = self
            .columns
            .iter()
            .map(|column| (column.title.to_owned(), Style::Dim))
            .collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| self.width(at, column))
            .collect();
        let titled = self.columns.iter().any(|column| !column.title.is_empty());
        let last = widths.len().saturating_sub(1);
        let before: usize = widths
            .iter()
            .take(last)
            .map(|width| width + GAP.len())
            .sum();
        let room = WIDTH.saturating_sub(indent.len() + before).max(WIDTH / 3);
        let rows = titled.then_some(&titles).into_iter().chain(&self.rows);
        for row in rows.flat_map(|row| folded(row, room)) {
            let mut pieces = vec![(indent.to_owned(), Style::Plain)];
            for ((column, width), (text, style)) in self.columns.iter().zip(&widths).zip(&row) {
                let pad = " ".repeat(width.saturating_sub(text.chars().count()));
                if column.right {
                    pieces.push((pad, Style::Plain));
                    pieces.push((text.clone(), *style));
                } else {
                    pieces.push((text.clone(), *style));
                    pieces.push((pad, Style::Plain));
                }
                pieces.push((GAP.to_owned(), Style::Plain));
            }
            let pieces: Vec<(&str, Style)> = pieces
                .iter()
                .map(|(text, style)| (text.as_str(), *style))
                .collect();
            console.pieces(&pieces);
        }
    }

    fn width(&self, at: usize, column: &Column) -> usize {
        let cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(at))
            .map(|(text, _)| text.chars().count());
        cells
            .max()
            .unwrap_or(0)
            .max(column.title.chars().count())
            .max(column.width)
    }
}

/// A row as several rows, when its last cell is longer than `room`.
fn folded(row: &[(String, Style)], room: usize) -> Vec<Vec<(String, Style)>> {
    let Some(((text, style), before)) = row.split_last() else {
        return Vec::new();
    };
    let mut lines = fold(text, room).into_iter();
    let mut first = before.to_vec();
    first.push((lines.next().unwrap_or_default(), *style));
    let mut rows = vec![first];
    for line in lines {
        let mut row: Vec<(String, Style)> = before
            .iter()
            .map(|_| (String::new(), Style::Plain))
            .collect();
        row.push((line, *style));
        rows.push(row);
    }
    rows
}

/// A text as lines of at most `width` characters, cut between words. A longer word has a line of
/// its own.
pub(crate) fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let blank = usize::from(!line.is_empty());
        if !line.is_empty() && line.chars().count() + blank + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            line.push_str(if blank == 1 { " " } else { "" });
            line.push_str(word);
        }
    }
    lines
}
