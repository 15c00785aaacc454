//! Columns: the `=` of bindings and params that follow each other line by line stand below each
//! other, as do the parts of exports.

/// A wider name is left out of its column, which would push all others away.
const WIDTH_MAX: usize = 40;

/// What stands in a line. Only lines of one form share columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Param,
    Binding,
    Export,
}

/// A line whose parts can be moved to the right.
#[derive(Debug)]
struct Line {
    form: Form,
    /// Where it begins in the text.
    start: usize,
    /// Where blanks may be put in, ascending.
    stops: Vec<usize>,
}

/// The lines of a text that have columns, in order.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<Line>);

impl Columns {
    /// Adds a line, which is to begin at `start` in the text.
    pub(super) fn add(&mut self, form: Form, start: usize, stops: Vec<usize>) {
        self.0.push(Line { form, start, stops });
    }

    /// The text with the blanks that align its columns.
    pub(super) fn align(&self, text: &str) -> String {
        let mut aligned = String::with_capacity(text.len());
        let mut copied = 0;
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let group = rest
                .windows(2)
                .take_while(|pair| matches!(pair, [above, below] if follows(text, above, below)));
            let (lines, others) = rest.split_at(group.count() + 1);
            rest = others;
            let widths: Vec<Vec<usize>> = lines.iter().map(|line| line.widths(text)).collect();
            let mut widest: Vec<usize> = Vec::new();
            for own in &widths {
                widest.resize(widest.len().max(own.len()), 0);
                widest
                    .iter_mut()
                    .zip(own)
                    .filter(|(_, own)| **own <= WIDTH_MAX)
                    .for_each(|(all, own)| *all = *own.max(all));
            }
            for (line, own) in lines.iter().zip(&widths) {
                for (stop, (own, widest)) in line.stops.iter().zip(own.iter().zip(&widest)) {
                    aligned.push_str(text.get(copied..*stop).unwrap_or(""));
                    // A name that is left out of its column is wider than all others.
                    aligned.push_str(&" ".repeat(widest.saturating_sub(*own)));
                    copied = *stop;
                }
            }
        }
        aligned.push_str(text.get(copied..).unwrap_or(""));
        aligned
    }
}

impl Line {
    /// How wide each part before a stop is.
    fn widths(&self, text: &str) -> Vec<usize> {
        let starts = std::iter::once(&self.start).chain(&self.stops);
        starts
            .zip(&self.stops)
            .map(|(from, to)| text.get(*from..*to).unwrap_or("").chars().count())
            .collect()
    }
}

/// Whether one line stands right below the other and has the same form.
fn follows(text: &str, above: &Line, below: &Line) -> bool {
    let between = text.get(above.start..below.start).unwrap_or("");
    above.form == below.form && between.find('\n') == between.len().checked_sub(1)
}
