//! Rows of measurements, printed as a table.

use std::fmt;
use std::time::Duration;

/// The times of one engine for one graph.
pub(crate) struct Row {
    pub(crate) engine: &'static str,
    pub(crate) graph: String,
    /// What was measured, and how long it took; nothing where the engine failed.
    pub(crate) times: Vec<(&'static str, Option<Duration>)>,
    pub(crate) note: String,
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row {
            engine,
            graph,
            times,
            note,
        } in &self.0
        {
            write!(f, "{engine:<10} {graph:<16}")?;
            for (name, time) in times {
                match time {
                    Some(time) => write!(f, " {name} {:>8.3} s ", time.as_secs_f64())?,
                    None => write!(f, " {name}        - s ")?,
                }
            }
            writeln!(f, " {note}")?;
        }
        Ok(())
    }
}
