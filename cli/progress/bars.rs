//! A progress bar for every running stage; all other events are printed above the bars.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blip_engine::{Event, Listener};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{RunLines, progress_text};
use crate::console::{escape_line, write_stderr};
use crate::run_view::RunView;

const TICK: Duration = Duration::from_millis(250);

/// The bars on the terminal. Global, since tracing writes to the same terminal from any thread.
static ACTIVE_BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Clears the bars, calls `write`, and redraws them.
pub(crate) fn suspend_bars<T>(write: impl FnOnce() -> T) -> T {
    // The lock is released before `write`, which may itself log.
    let bars = ACTIVE_BARS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match bars {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

fn set_active(bars: Option<MultiProgress>) {
    *ACTIVE_BARS.lock().unwrap_or_else(PoisonError::into_inner) = bars;
}

#[derive(Debug)]
pub(crate) struct Bars {
    bars: MultiProgress,
    running: BTreeMap<String, ProgressBar>,
    view: RunView,
    lines: RunLines,
}

impl Bars {
    /// Bars on standard error.
    pub(crate) fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        set_active(Some(bars.clone()));
        Self {
            bars,
            running: BTreeMap::new(),
            view: RunView::default(),
            lines: RunLines::default(),
        }
    }

    fn start(&mut self, stage: &str, op: &str) {
        let spinner =
            ProgressBar::no_length().with_style(style("{spinner} {prefix:.bold}  {wide_msg}"));
        let bar = self.bars.add(spinner);
        bar.set_prefix(escape_line(stage));
        bar.set_message(escape_line(op));
        bar.enable_steady_tick(TICK);
        self.running.insert(stage.to_owned(), bar);
    }

    fn redraw(&self, stage: &str) {
        let (Some(bar), Some(stage)) = (self.running.get(stage), self.view.find(stage)) else {
            return;
        };
        let Some(progress) = &stage.progress else {
            return;
        };
        // A spinner until the total is known, a bar from then on.
        if bar.length() != Some(progress.total) {
            let style = style("{spinner} {prefix:.bold}  {bar:20.cyan}  {wide_msg}");
            bar.set_style(style.progress_chars("━╸ "));
            bar.set_length(progress.total);
        }
        bar.set_position(progress.done);
        bar.set_message(escape_line(&progress_text(stage, progress)));
    }

    fn end(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn end_all(&mut self) {
        let running: Vec<String> = self.running.keys().cloned().collect();
        running.iter().for_each(|stage| self.end(stage));
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
            Event::RunFinished { .. } => self.end_all(),
            _ => {}
        }
        // Every event passes through `lines`, which tracks progress, also those shown as bars.
        let line = self.lines.format(at_ms, event);
        if let (false, Some(line)) = (is_shown_as_bar(event), line) {
            self.bars.suspend(|| write_stderr(&format!("{line}\n")));
        }
    }
}

fn is_shown_as_bar(event: &Event) -> bool {
    matches!(
        event,
        Event::StageStarted { .. }
            | Event::Progress { .. }
            | Event::Metric { .. }
            | Event::RunFinished { .. }
    )
}

impl Drop for Bars {
    fn drop(&mut self) {
        set_active(None);
    }
}
