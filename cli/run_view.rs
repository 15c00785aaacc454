//! The state of a run, built from its events: what bars, lines, the summary and `blip status` show.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use blip_engine::event::StageError;
use blip_engine::{Event, Outcome, StageEnd, Status};

#[derive(Clone, Debug, Default)]
pub(crate) struct RunView {
    pub(crate) run: String,
    pub(crate) workflow: String,
    pub(crate) params: Vec<(String, String)>,
    /// 0 until the run has started.
    pub(crate) pid: u32,
    /// In topological order.
    pub(crate) stages: Vec<StageView>,
    /// Exports that finished, with or without success.
    pub(crate) exports: Vec<ExportView>,
    /// Milliseconds from the run's start to the last event.
    pub(crate) at_ms: u64,
    /// The outcome and the duration in milliseconds; none while the run is active.
    pub(crate) end: Option<(Outcome, u64)>,
    /// Positions in `stages`, by name.
    positions: BTreeMap<String, usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct StageView {
    pub(crate) name: String,
    /// Empty until the stage starts or ends.
    pub(crate) op: Cow<'static, str>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) progress: Option<Progress>,
    /// Metrics of the last step.
    pub(crate) metrics: Vec<(String, f64)>,
    pub(crate) end: Option<Arc<StageEnd>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// What is counted, in plural: "steps".
    pub(crate) unit: String,
    /// Samples (time, `done`) of the last [`WINDOW_MS`], for the rate.
    samples: VecDeque<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct ExportView {
    pub(crate) stage: String,
    pub(crate) format: String,
    pub(crate) path: String,
    /// True if files were written, false if they were up to date.
    pub(crate) result: Result<bool, StageError>,
}

/// The rate of a stage is its average over this window.
const WINDOW_MS: u64 = 30_000;
/// Bounds the samples of a stage that reports progress thousands of times a second.
const SAMPLE_INTERVAL_MS: u64 = 500;

impl RunView {
    pub(crate) fn apply(&mut self, at_ms: u64, event: &Event) {
        self.at_ms = self.at_ms.max(at_ms);
        match event {
            Event::RunStarted {
                run,
                workflow,
                stages,
                params,
                pid,
            } => {
                self.run.clone_from(run);
                self.workflow.clone_from(workflow);
                self.params.clone_from(params);
                self.pid = *pid;
                stages.iter().for_each(|stage| {
                    self.stage(stage);
                });
            }
            Event::StageStarted { stage, op, .. } => {
                let stage = self.stage(stage);
                stage.op.clone_from(op);
                stage.started_ms = Some(at_ms);
            }
            Event::Progress {
                stage,
                done,
                total,
                unit,
            } => {
                self.stage(stage)
                    .update_progress(at_ms, *done, *total, unit);
            }
            Event::Metric { stage, values, .. } => self.stage(stage).metrics.clone_from(values),
            Event::StageFinished(end) => {
                let stage = self.stage(&end.stage);
                stage.op.clone_from(&end.op);
                stage.end = Some(Arc::clone(end));
            }
            Event::Exported {
                stage,
                format,
                path,
                written,
            } => self.add_export(stage, format, path, Ok(*written)),
            Event::ExportFailed {
                stage,
                format,
                path,
                error,
            } => self.add_export(stage, format, path, Err(error.clone())),
            Event::RunFinished { outcome, took_ms } => self.end = Some((*outcome, *took_ms)),
            Event::Waiting { .. }
            | Event::Warning { .. }
            | Event::Resumed { .. }
            | Event::Rejected { .. }
            | Event::Retrying { .. } => {}
        }
    }

    /// The stage of this name; added if the log does not announce it, as after a truncation.
    fn stage(&mut self, name: &str) -> &mut StageView {
        let position = *self.positions.entry(name.to_owned()).or_insert_with(|| {
            self.stages.push(StageView {
                name: name.to_owned(),
                op: Cow::default(),
                started_ms: None,
                progress: None,
                metrics: Vec::new(),
                end: None,
            });
            self.stages.len() - 1
        });
        self.stages
            .get_mut(position)
            .expect("stages are added and never removed")
    }

    pub(crate) fn find(&self, name: &str) -> Option<&StageView> {
        let position = *self.positions.get(name)?;
        self.stages.get(position)
    }

    /// The stages that ended.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &StageEnd> {
        self.stages.iter().filter_map(|stage| stage.end.as_deref())
    }

    /// The number of stages that ended in one of these ways.
    pub(crate) fn count(&self, statuses: &[Status]) -> usize {
        self.ends()
            .filter(|end| statuses.contains(&end.status))
            .count()
    }

    fn add_export(
        &mut self,
        stage: &str,
        format: &str,
        path: &str,
        result: Result<bool, StageError>,
    ) {
        self.exports.push(ExportView {
            stage: stage.to_owned(),
            format: format.to_owned(),
            path: path.to_owned(),
            result,
        });
    }
}

impl StageView {
    pub(crate) fn is_running(&self) -> bool {
        self.started_ms.is_some() && self.end.is_none()
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.end.as_ref().map(|end| end.status)
    }

    fn update_progress(&mut self, at_ms: u64, done: u64, total: u64, unit: &str) {
        let progress = self.progress.get_or_insert_with(|| Progress {
            done,
            total,
            unit: unit.to_owned(),
            samples: VecDeque::new(),
        });
        // Another kind of work, or a retry from the start, has another rate.
        if progress.unit != unit || done < progress.done {
            unit.clone_into(&mut progress.unit);
            progress.samples.clear();
        }
        progress.done = done;
        progress.total = total;
        progress.add_sample(at_ms);
    }
}

impl Progress {
    fn add_sample(&mut self, at_ms: u64) {
        let last = self.samples.back();
        if last.is_none_or(|(last, _)| at_ms >= last + SAMPLE_INTERVAL_MS) {
            self.samples.push_back((at_ms, self.done));
        }
        // Two samples stay, however old: a slow stage has a rate too.
        while self.samples.len() > 2 {
            match self.samples.front() {
                Some((oldest, _)) if oldest + WINDOW_MS < at_ms => self.samples.pop_front(),
                _ => break,
            };
        }
    }

    /// Units of work per second; none before there are two samples.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate: counts below 2^53 are exact"
    )]
    pub(crate) fn rate(&self) -> Option<f64> {
        let (from, first) = self.samples.front()?;
        let (to, last) = self.samples.back()?;
        let milliseconds = to.checked_sub(*from)?;
        let done = last.checked_sub(*first)?;
        (milliseconds > 0 && done > 0).then(|| done as f64 * 1000.0 / milliseconds as f64)
    }

    /// The estimated remaining time in milliseconds.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of two positive factors; the cast saturates"
    )]
    pub(crate) fn left_ms(&self) -> Option<u64> {
        let left = self.total.checked_sub(self.done)?;
        self.rate().map(|rate| (left as f64 * 1000.0 / rate) as u64)
    }

    pub(crate) fn percent(&self) -> u64 {
        (self.done.min(self.total) * 100)
            .checked_div(self.total)
            .unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(view: &mut RunView, at_ms: u64, done: u64) {
        let event = Event::Progress {
            stage: "base".into(),
            done,
            total: 100,
            unit: "steps".to_owned(),
        };
        view.apply(at_ms, &event);
    }

    fn progress(view: &RunView) -> &Progress {
        let stage = view.find("base").expect("an event named it");
        stage.progress.as_ref().expect("an event reported it")
    }

    #[test]
    fn the_rate_is_that_of_the_last_window() {
        let mut view = RunView::default();
        for second in 0..40 {
            update(&mut view, second * 1000, second.min(10));
        }
        for second in 40..100 {
            update(&mut view, second * 1000, 10 + (second - 40));
        }
        assert_eq!(progress(&view).rate(), Some(1.0));
        assert_eq!(progress(&view).left_ms(), Some(31_000));
        assert_eq!(progress(&view).percent(), 69);
    }

    #[test]
    fn one_sample_gives_no_estimate() {
        let mut view = RunView::default();
        update(&mut view, 0, 0);
        assert_eq!(progress(&view).rate(), None);
        assert_eq!(progress(&view).left_ms(), None);
    }
}
