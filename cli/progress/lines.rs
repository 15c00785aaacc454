//! Events as lines of text, for runs without a terminal and for `blip log`.

use std::collections::BTreeMap;

use blip_engine::{Event, Listener, Outcome, StageEnd, Status};

use crate::console::{escape, escape_line, write_stderr};
use crate::humanize::{count, duration, metrics, number, plural, plural_u64};
use crate::run_view::{Progress, RunView, StageView};
use crate::summary::MAX_REJECTED;

/// Progress of a stage is printed at most this often.
const PROGRESS_INTERVAL_MS: u64 = 10_000;
const MAX_REASONS: usize = 3;
const MAX_METRICS: usize = 4;

/// Prints events on standard error.
#[derive(Debug, Default)]
pub(crate) struct Printer(RunLines);

impl Listener for Printer {
    fn event(&mut self, at_ms: u64, event: &Event) {
        if let Some(line) = self.0.format(at_ms, event) {
            write_stderr(&format!("{}\n", escape(&line)));
        }
    }
}

/// The lines of a run that someone watches: only the first rejected items of each stage, which may
/// have thousands.
#[derive(Debug, Default)]
pub(crate) struct RunLines {
    lines: EventLines,
    /// By stage.
    rejected: BTreeMap<String, usize>,
}

impl RunLines {
    /// The line for an event, if it has one.
    pub(crate) fn format(&mut self, at_ms: u64, event: &Event) -> Option<String> {
        if let Event::Rejected { stage, .. } = event {
            let rejected = self.rejected.entry(stage.to_string()).or_default();
            *rejected += 1;
            if *rejected > MAX_REJECTED {
                return None;
            }
        }
        self.lines.format(at_ms, event)
    }
}

/// Formats events as lines.
#[derive(Debug, Default)]
pub(crate) struct EventLines {
    view: RunView,
    /// By stage, when its progress was last printed.
    last_progress_ms: BTreeMap<String, u64>,
}

impl EventLines {
    /// The line for an event; none for events that are not worth one, such as frequent progress.
    pub(crate) fn format(&mut self, at_ms: u64, event: &Event) -> Option<String> {
        self.view.apply(at_ms, event);
        let text = self.text(at_ms, event)?;
        Some(format!("{:>8}  {}", duration(at_ms), escape_line(&text)))
    }

    fn text(&mut self, at_ms: u64, event: &Event) -> Option<String> {
        Some(match event {
            Event::Waiting {
                stage, pid, host, ..
            } => waiting(stage.as_deref(), *pid, host),
            Event::RunStarted {
                run,
                workflow,
                stages,
                ..
            } => {
                format!("run {run} of {workflow}: {}", plural(stages.len(), "stage"))
            }
            Event::Warning {
                stage: Some(stage),
                text,
            } => format!("{stage}: warning: {text}"),
            Event::Warning { stage: None, text } => format!("warning: {text}"),
            Event::StageStarted { stage, op, why } => {
                format!("{stage}: {op} started: {}", first_reasons(why))
            }
            Event::Resumed {
                stage,
                done,
                total,
                unit,
            } => {
                format!(
                    "{stage}: resumed at {} of {} {unit}",
                    count(*done),
                    count(*total)
                )
            }
            Event::Progress {
                stage, done, total, ..
            } => self.progress(at_ms, stage, *done, *total)?,
            Event::Metric { .. } => return None,
            Event::Rejected {
                stage,
                item,
                reason,
            } => format!("{stage}: rejected {item}: {reason}"),
            Event::Retrying {
                stage,
                what,
                attempt,
                wait_ms,
            } => {
                let wait = duration(*wait_ms);
                format!("{stage}: failed: {what}; attempt {attempt} in {wait}")
            }
            Event::StageFinished(end) => stage_end(end)?,
            Event::Exported {
                stage,
                format,
                path,
                written: true,
            } => format!("{stage}: exported {format} to {path}"),
            Event::Exported { .. } => return None,
            Event::ExportFailed {
                stage, path, error, ..
            } => format!("{stage}: could not export to {path}: {}", error.what),
            Event::RunFinished { outcome, took_ms } => {
                format!("{} after {}", outcome_word(*outcome), duration(*took_ms))
            }
        })
    }

    /// The progress of a stage, unless it was printed recently or the stage is about to end.
    fn progress(&mut self, at_ms: u64, name: &str, done: u64, total: u64) -> Option<String> {
        let stage = self.view.find(name)?;
        let last = self.last_progress_ms.get(name).copied();
        let since = last.or(stage.started_ms).unwrap_or(0);
        if done >= total || at_ms < since + PROGRESS_INTERVAL_MS {
            return None;
        }
        let text = progress_text(stage, stage.progress.as_ref()?);
        self.last_progress_ms.insert(name.to_owned(), at_ms);
        Some(format!("{name}: {text}"))
    }
}

/// `stage` is none when the whole cache is locked, `pid` 0 when the lock does not name its holder.
pub(crate) fn waiting(stage: Option<&str>, pid: u32, host: &str) -> String {
    match (stage, pid) {
        (None, 0) => "waiting for another process that holds the cache".to_owned(),
        (None, _) => format!("waiting for process {pid} on {host}, which holds the cache"),
        (Some(stage), _) => {
            format!("{stage}: waiting for process {pid} on {host}, which computes the same result")
        }
    }
}

/// `120 of 1,200 steps (10%), 12.3/s, 1m 20s left, loss 1.23`
pub(crate) fn progress_text(stage: &StageView, progress: &Progress) -> String {
    let mut text = format!(
        "{} of {} {} ({}%)",
        count(progress.done),
        count(progress.total),
        progress.unit,
        progress.percent()
    );
    if let Some(rate) = progress.rate() {
        text += &format!(", {}/s", number(rate));
    }
    if let Some(left) = progress.left_ms() {
        text += &format!(", {} left", duration(left));
    }
    if !stage.metrics.is_empty() {
        text += &format!(", {}", metrics(&stage.metrics, MAX_METRICS));
    }
    text
}

/// How a stage ended; none for a reused one, which only the summary counts.
fn stage_end(end: &StageEnd) -> Option<String> {
    let stage = &end.stage;
    let error = end.error.as_ref().map_or("", |error| error.what.as_str());
    Some(match end.status {
        Status::Ran => format!("{stage}: {}", completed(end)),
        Status::Reused => return None,
        Status::UpToDate => format!("{stage}: up to date: its inputs did not change"),
        Status::Failed => format!("{stage}: failed after {}: {error}", duration(end.took_ms)),
        Status::Skipped => format!("{stage}: skipped: {error}"),
        Status::Interrupted => format!("{stage}: interrupted"),
    })
}

/// `done in 12.3s, 12 items, loss 1.23; a note`
fn completed(end: &StageEnd) -> String {
    let mut text = format!("done in {}", duration(end.took_ms));
    if let Some(items) = end.count {
        text += &format!(", {}", plural_u64(items, "item"));
    }
    if end.rejected > 0 {
        text += &format!(", {} rejected", count(end.rejected));
    }
    if !end.metrics.is_empty() {
        text += &format!(", {}", metrics(&end.metrics, MAX_METRICS));
    }
    for note in &end.notes {
        text += &format!("; {note}");
    }
    text
}

fn first_reasons(why: &[String]) -> String {
    let shown = why.len().min(MAX_REASONS);
    let mut text = why[..shown].join("; ");
    if why.len() > shown {
        text += &format!("; and {} more", why.len() - shown);
    }
    text
}

pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_printed_every_ten_seconds_with_rate_and_loss() {
        let mut lines = EventLines::default();
        let start = Event::StageStarted {
            stage: "base".into(),
            op: "pretrain".into(),
            why: Vec::new(),
        };
        lines.format(0, &start);
        let mut printed = Vec::new();
        for tenth in 0..=300_u64 {
            let metric = Event::Metric {
                stage: "base".into(),
                step: tenth,
                values: vec![("loss".to_owned(), 2.5)],
            };
            lines.format(tenth * 100, &metric);
            let progress = Event::Progress {
                stage: "base".into(),
                done: tenth,
                total: 2_000,
                unit: "steps".to_owned(),
            };
            printed.extend(lines.format(tenth * 100, &progress));
        }
        assert_eq!(
            printed,
            [
                "   10.0s  base: 100 of 2,000 steps (5%), 10/s, 3m 10s left, loss 2.5",
                "   20.0s  base: 200 of 2,000 steps (10%), 10/s, 3m 00s left, loss 2.5",
                "   30.0s  base: 300 of 2,000 steps (15%), 10/s, 2m 50s left, loss 2.5",
            ]
        );
    }

    #[test]
    fn a_run_shows_the_first_rejected_items_of_a_stage_and_what_it_resumes() {
        let mut lines = RunLines::default();
        let rejected = |number: u64| Event::Rejected {
            stage: "web".into(),
            item: number.to_string(),
            reason: "broken".to_owned(),
        };
        let printed = (1..=20_000)
            .filter_map(|number| lines.format(0, &rejected(number)))
            .collect::<Vec<_>>();
        assert_eq!(printed.len(), 5);
        assert_eq!(printed[4], "     0ms  web: rejected 5: broken");
        let resumed = Event::Resumed {
            stage: "base".into(),
            done: 340,
            total: 1_120,
            unit: "steps".to_owned(),
        };
        assert_eq!(
            lines.format(0, &resumed).unwrap(),
            "     0ms  base: resumed at 340 of 1,120 steps"
        );
    }
}
