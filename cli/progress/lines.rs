//! Events as lines of text: for logs, and for `blip log`.

use std::collections::BTreeMap;

use blip_engine::{Event, Listener, Outcome, StageEnd, Status};

use crate::amounts::{count, number, numbers, plural, took};
use crate::console::{say, visible, visible_line};
use crate::view::{Progress, RunView, StageView};

/// How far a stage is, is said at most this often.
const PROGRESS_INTERVAL_MS: u64 = 10_000;
/// Reasons are listed up to this many.
const REASONS_MAX: usize = 3;
/// Numbers of a step or a result are listed up to this many.
const NUMBERS_MAX: usize = 4;

/// Prints events on standard error.
#[derive(Debug, Default)]
pub(crate) struct Printer(Lines);

impl Listener for Printer {
    fn event(&mut self, at_ms: u64, event: &Event) {
        if let Some(line) = self.0.line(at_ms, event) {
            say(&format!("{}\n", visible(&line)));
        }
    }
}

/// Makes lines of events.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    view: RunView,
    /// When each stage last said how far it is.
    said: BTreeMap<String, u64>,
}

impl Lines {
    /// The line for an event; none for those that say nothing new, such as every tenth of a second
    /// of progress.
    pub(crate) fn line(&mut self, at_ms: u64, event: &Event) -> Option<String> {
        self.view.apply(at_ms, event);
        let text = self.text(at_ms, event)?;
        Some(format!("{:>8}  {}", took(at_ms), visible_line(&text)))
    }

    fn text(&mut self, at_ms: u64, event: &Event) -> Option<String> {
        Some(match event {
            Event::Waiting {
                stage: None,
                pid: 0,
                ..
            } => "waiting for another process, which has the cache".to_owned(),
            Event::Waiting {
                stage: None,
                pid,
                host,
                ..
            } => {
                format!("waiting for process {pid} on {host}, which has the cache")
            }
            Event::Waiting {
                stage: Some(stage),
                pid,
                host,
                ..
            } => {
                format!("{stage}: waiting for process {pid} on {host}, which makes the same result")
            }
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
                format!("{stage}: {op} starts: {}", reasons(why))
            }
            Event::Progress {
                stage, done, total, ..
            } => {
                let last = self.said.get(&**stage).copied();
                let started = self
                    .view
                    .find(stage)
                    .and_then(|stage| stage.started_ms)
                    .unwrap_or(0);
                if *done >= *total || at_ms < last.unwrap_or(started) + PROGRESS_INTERVAL_MS {
                    return None;
                }
                self.said.insert(stage.to_string(), at_ms);
                let stage = self.view.find(stage)?;
                format!(
                    "{}: {}",
                    stage.name,
                    progress_text(stage, stage.progress.as_ref()?)
                )
            }
            Event::Metric { .. } => return None,
            Event::Rejected {
                stage,
                item,
                reason,
            } => format!("{stage}: set aside {item}: {reason}"),
            Event::Retrying {
                stage,
                what,
                attempt,
                wait_ms,
            } => {
                format!(
                    "{stage}: failed: {what}; attempt {attempt} in {}",
                    took(*wait_ms)
                )
            }
            Event::StageFinished(end) => finished(end)?,
            Event::Exported {
                stage,
                format,
                path,
                written: true,
            } => format!("{stage}: {format} written to {path}"),
            Event::Exported { .. } => return None,
            Event::ExportFailed {
                stage, path, error, ..
            } => {
                format!("{stage}: could not be exported to {path}: {}", error.what)
            }
            Event::RunFinished { outcome, took_ms } => {
                format!("{} after {}", outcome_word(*outcome), took(*took_ms))
            }
        })
    }
}

/// "120 of 1,200 steps (10%), 12.3/s, 1m 20s left, loss 1.23"
pub(crate) fn progress_text(stage: &StageView, progress: &Progress) -> String {
    let Progress {
        done, total, unit, ..
    } = progress;
    let mut text = format!(
        "{} of {} {unit} ({}%)",
        count(*done),
        count(*total),
        progress.percent()
    );
    if let Some(rate) = progress.rate() {
        text += &format!(", {}/s", number(rate));
    }
    if let Some(left) = progress.left_ms() {
        text += &format!(", {} left", took(left));
    }
    if !stage.metrics.is_empty() {
        text += &format!(", {}", numbers(&stage.metrics, NUMBERS_MAX));
    }
    text
}

/// What a stage came to. Reused ones are not worth a line each: the summary counts them.
fn finished(end: &StageEnd) -> Option<String> {
    let stage = &end.stage;
    let error = end.error.as_ref().map_or("", |error| error.what.as_str());
    Some(match end.status {
        Status::Ran => {
            let mut text = format!("{stage}: done in {}", took(end.took_ms));
            if let Some(items) = end.count {
                text += &format!(
                    ", {}",
                    plural(usize::try_from(items).unwrap_or(usize::MAX), "item")
                );
            }
            if !end.metrics.is_empty() {
                text += &format!(", {}", numbers(&end.metrics, NUMBERS_MAX));
            }
            end.notes
                .iter()
                .for_each(|note| text += &format!("; {note}"));
            text
        }
        Status::Reused => return None,
        Status::UpToDate => format!("{stage}: reused: what it needs ran and came out the same"),
        Status::Failed => format!("{stage}: failed after {}: {error}", took(end.took_ms)),
        Status::Skipped => format!("{stage}: skipped: {error}"),
        Status::Interrupted => format!("{stage}: interrupted"),
    })
}

/// The first few reasons.
fn reasons(why: &[String]) -> String {
    let mut text = why
        .iter()
        .take(REASONS_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if why.len() > REASONS_MAX {
        text += &format!("; and {} more", why.len() - REASONS_MAX);
    }
    text
}

/// The word for how a run ended.
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
    fn progress_is_said_now_and_then_with_speed_and_loss() {
        let mut lines = Lines::default();
        let start = Event::StageStarted {
            stage: "base".into(),
            op: "pretrain".into(),
            why: Vec::new(),
        };
        lines.line(0, &start);
        let mut said = Vec::new();
        for tenth in 0..=300_u64 {
            let values = vec![("loss".to_owned(), 2.5)];
            lines.line(
                tenth * 100,
                &Event::Metric {
                    stage: "base".into(),
                    step: tenth,
                    values,
                },
            );
            let unit = "steps".to_owned();
            let progress = Event::Progress {
                stage: "base".into(),
                done: tenth,
                total: 2_000,
                unit,
            };
            said.extend(lines.line(tenth * 100, &progress));
        }
        assert_eq!(
            said,
            [
                "   10.0s  base: 100 of 2,000 steps (5%), 10/s, 3m 10s left, loss 2.5",
                "   20.0s  base: 200 of 2,000 steps (10%), 10/s, 3m 00s left, loss 2.5",
                "   30.0s  base: 300 of 2,000 steps (15%), 10/s, 2m 50s left, loss 2.5",
            ]
        );
    }
}
