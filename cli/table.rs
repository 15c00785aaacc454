//! Rows of cells, aligned.

use crate::console::{Console, Style, visible_line};

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
    /// A table without rows. A title that begins with `>` is of a column of numbers, which stand to the right.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column { title, right: true, width: 8 },
            None => Column { title, right: false, width: 0 },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(String, Style)>) {
        self.rows.push(cells.into_iter().map(|(text, style)| (visible_line(&text), style)).collect());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, each line after `indent`.
    pub(crate) fn print(&self, console: &mut Console, indent: &str) {
        let titles: Vec<(String, Style)> =
            self.columns.iter().map(|column| (column.title.to_owned(), Style::Dim)).collect();
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(at, column)| self.width(at, column)).collect();
        let titled = self.columns.iter().any(|column| !column.title.is_empty());
        for row in titled.then_some(&titles).into_iter().chain(&self.rows) {
            let mut pieces = vec![(indent.to_owned(), Style::Plain)];
            for ((column, width), (text, style)) in self.columns.iter().zip(&widths).zip(row) {
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
            let pieces: Vec<(&str, Style)> = pieces.iter().map(|(text, style)| (text.as_str(), *style)).collect();
            console.pieces(&pieces);
        }
    }

    fn width(&self, at: usize, column: &Column) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|(text, _)| text.chars().count());
        cells.max().unwrap_or(0).max(column.title.chars().count()).max(column.width)
    }
}
