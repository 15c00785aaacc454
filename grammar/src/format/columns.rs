//! Columns: on consecutive lines the `=` of bindings and params are aligned, as are the parts of
//! exports.

/// A wider name does not take part in its column: it would push all others far to the right.
const WIDTH_MAX: usize = 40;

/// The form of a line. Only lines of one form share columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Param,
    Binding,
    Export,
}

#[derive(Debug)]
struct Line {
    form: Form,
    /// Where it begins in the text.
    start: usize,
    /// Where blanks may be inserted, ascending.
    stops: Vec<usize>,
}

/// The lines of a text that have columns, in order.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<Line>);

impl Columns {
    /// Adds a line that begins at `start` in the text.
    pub(super) fn add(&mut self, form: Form, start: usize, stops: Vec<usize>) {
        self.0.push(Line { form, start, stops });
    }

    /// The text with the blanks that align its columns.
    pub(super) fn align(&self, text: &str) -> String {
        let mut aligned = String::with_capacity(text.len());
        let mut copied = 0;
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let (group, others) = rest.split_at(group_len(text, rest));
            rest = others;
            let widths: Vec<Vec<usize>> = group.iter().map(|line| line.widths(text)).collect();
            let columns = column_widths(&widths);
            for (line, widths) in group.iter().zip(&widths) {
                for (stop, (width, column)) in line.stops.iter().zip(widths.iter().zip(&columns)) {
                    aligned.push_str(text.get(copied..*stop).unwrap_or(""));
                    // A name that takes no part in its column may be wider than it.
                    let blanks = column.saturating_sub(*width);
                    aligned.extend(std::iter::repeat_n(' ', blanks));
                    copied = *stop;
                }
            }
        }
        aligned.push_str(text.get(copied..).unwrap_or(""));
        aligned
    }
}

/// How many lines from the first on share columns; at least one.
fn group_len(text: &str, lines: &[Line]) -> usize {
    let pairs = lines.windows(2);
    let same_group =
        pairs.take_while(|pair| matches!(pair, [above, below] if follows(text, above, below)));
    same_group.count() + 1
}

/// The width of each column, from the widths of the parts of each line.
fn column_widths(lines: &[Vec<usize>]) -> Vec<usize> {
    let mut columns: Vec<usize> = Vec::new();
    for widths in lines {
        columns.resize(columns.len().max(widths.len()), 0);
        for (column, width) in columns.iter_mut().zip(widths) {
            if *width <= WIDTH_MAX {
                *column = *width.max(column);
            }
        }
    }
    columns
}

impl Line {
    /// How many characters wide the part before each stop is.
    fn widths(&self, text: &str) -> Vec<usize> {
        let starts = std::iter::once(&self.start).chain(&self.stops);
        starts
            .zip(&self.stops)
            .map(|(from, to)| text.get(*from..*to).unwrap_or("").chars().count())
            .collect()
    }
}

/// Whether a line is directly below another one of the same form.
fn follows(text: &str, above: &Line, below: &Line) -> bool {
    let between = text.get(above.start..below.start).unwrap_or("");
    above.form == below.form && between.find('\n') == between.len().checked_sub(1)
}
