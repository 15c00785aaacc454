//! A bar for every running stage, redrawn in place, with what is done printed above.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use blip_engine::{Event, Listener};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{Lines, progress_text};
use crate::console::{say, visible_line};
use crate::view::RunView;

/// The bars on the terminal, for whoever wants to write above them.
static SHOWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Writes something on standard error with no bars in the way.
pub(crate) fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match shown {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Bars.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    running: BTreeMap<String, ProgressBar>,
    view: RunView,
    lines: Lines,
}

impl Bars {
    /// Bars on standard error.
    pub(crate) fn new() -> Self {
        let bars = Self::on(ProgressDrawTarget::stderr());
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bars.all.clone());
        bars
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            running: BTreeMap::new(),
            view: RunView::default(),
            lines: Lines::default(),
        }
    }

    fn start(&mut self, stage: &str, op: &str) {
        let bar = self.all.add(
            ProgressBar::no_length().with_style(style("{spinner} {prefix:.bold}  {wide_msg}")),
        );
        bar.set_prefix(visible_line(stage));
        bar.set_message(visible_line(op));
        bar.enable_steady_tick(std::time::Duration::from_millis(250));
        self.running.insert(stage.to_owned(), bar);
    }

    fn redraw(&self, stage: &str) {
        let (Some(bar), Some(stage)) = (self.running.get(stage), self.view.find(stage)) else {
            return;
        };
        let Some(progress) = &stage.progress else {
            return;
        };
        if bar.length() != Some(progress.total) {
            bar.set_style(
                style("{spinner} {prefix:.bold}  {bar:20.cyan}  {wide_msg}").progress_chars("━╸ "),
            );
            bar.set_length(progress.total);
        }
        bar.set_position(progress.done);
        bar.set_message(visible_line(&progress_text(stage, progress)));
    }

    fn end(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are written in this file and a test draws them")
}

impl Listener for Bars {
    fn event(&mut self, at_ms: u64, event: &Event) {
        self.view.apply(at_ms, event);
        match event {
            Event::StageStarted { stage, op, .. } => self.start(stage, op),
            Event::Progress { stage, .. } | Event::Metric { stage, .. } => self.redraw(stage),
            Event::StageFinished(end) => self.end(&end.stage),
            Event::RunFinished { .. } => {
                let left: Vec<String> = self.running.keys().cloned().collect();
                left.iter().for_each(|stage| self.end(stage));
            }
            _ => {}
        }
        // What runs is in the bars; everything else is printed above them.
        let in_bars = matches!(
            event,
            Event::StageStarted { .. }
                | Event::Progress { .. }
                | Event::Metric { .. }
                | Event::RunFinished { .. }
        );
        let line = self.lines.line(at_ms, event);
        if let (false, Some(line)) = (in_bars, line) {
            self.all.suspend(|| say(&format!("{line}\n")));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
