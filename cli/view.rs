//! A run as its events tell it, so far: what bars, lines, the summary and `blip status` all look
//! at.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use blip_engine::event::StageError;
use blip_engine::{Event, Outcome, StageEnd};

/// A run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunView {
    /// Its id.
    pub(crate) run: String,
    /// The workflow's name.
    pub(crate) workflow: String,
    /// The params as they were.
    pub(crate) params: Vec<(String, String)>,
    /// Its process.
    pub(crate) pid: u32,
    /// Its stages, in an order in which they can run.
    pub(crate) stages: Vec<StageView>,
    /// Its exports so far.
    pub(crate) exports: Vec<ExportView>,
    /// Milliseconds from its start to the last event.
    pub(crate) at_ms: u64,
    /// How it ended, and after how long; none while it runs.
    pub(crate) end: Option<(Outcome, u64)>,
    places: BTreeMap<String, usize>,
}

/// A stage of a run.
#[derive(Clone, Debug)]
pub(crate) struct StageView {
    /// Its name.
    pub(crate) name: String,
    /// Its op; empty until it starts or ends.
    pub(crate) op: Cow<'static, str>,
    /// When it started, if it did.
    pub(crate) started_ms: Option<u64>,
    /// How far it is.
    pub(crate) progress: Option<Progress>,
    /// The numbers of its last step.
    pub(crate) metrics: Vec<(String, f64)>,
    /// How it ended.
    pub(crate) end: Option<Arc<StageEnd>>,
}

/// How far a stage is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Units of work done.
    pub(crate) done: u64,
    /// Units of work there are.
    pub(crate) total: u64,
    /// What a unit is.
    pub(crate) unit: String,
    /// What was done when, over the last while.
    points: VecDeque<(u64, u64)>,
}

/// An export of a run.
#[derive(Clone, Debug)]
pub(crate) struct ExportView {
    /// The binding.
    pub(crate) stage: String,
    /// The format.
    pub(crate) format: String,
    /// Where.
    pub(crate) path: String,
    /// Whether it was written or was there already, or why it could not be written.
    pub(crate) result: Result<bool, StageError>,
}

/// The speed of a stage is that of this last while.
const WINDOW_MS: u64 = 30_000;
/// Enough points for a smooth speed, however often a stage tells how far it is.
const POINT_INTERVAL_MS: u64 = 500;

impl RunView {
    /// Takes an event in.
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
            } => self.stage(stage).progressed(at_ms, *done, *total, unit),
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
            } => self.export(stage, format, path, Ok(*written)),
            Event::ExportFailed {
                stage,
                format,
                path,
                error,
            } => self.export(stage, format, path, Err(error.clone())),
            Event::RunFinished { outcome, took_ms } => self.end = Some((*outcome, *took_ms)),
            Event::Waiting { .. }
            | Event::Warning { .. }
            | Event::Rejected { .. }
            | Event::Retrying { .. } => {}
        }
    }

    /// The stage of this name; one that was not announced is added.
    fn stage(&mut self, name: &str) -> &mut StageView {
        let place = *self.places.entry(name.to_owned()).or_insert_with(|| {
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
            .get_mut(place)
            .expect("places are those of pushed stages, and none is removed")
    }

    /// The stage of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&StageView> {
        self.places
            .get(name)
            .and_then(|place| self.stages.get(*place))
    }

    fn export(&mut self, stage: &str, format: &str, path: &str, result: Result<bool, StageError>) {
        let (stage, format, path) = (stage.to_owned(), format.to_owned(), path.to_owned());
        self.exports.push(ExportView {
            stage,
            format,
            path,
            result,
        });
    }
}

impl StageView {
    /// Whether it is running.
    pub(crate) fn running(&self) -> bool {
        self.started_ms.is_some() && self.end.is_none()
    }

    fn progressed(&mut self, at_ms: u64, done: u64, total: u64, unit: &str) {
        let fresh = Progress {
            done,
            total,
            unit: unit.to_owned(),
            points: VecDeque::new(),
        };
        let progress = self.progress.get_or_insert(fresh);
        // A stage that begins another kind of work, or the same once more, has another speed.
        if progress.unit != unit || done < progress.done {
            unit.clone_into(&mut progress.unit);
            progress.points.clear();
        }
        (progress.done, progress.total) = (done, total);
        if progress
            .points
            .back()
            .is_none_or(|(at, _)| at_ms >= at + POINT_INTERVAL_MS)
        {
            progress.points.push_back((at_ms, done));
        }
        while progress.points.len() > 2
            && progress
                .points
                .front()
                .is_some_and(|(at, _)| at + WINDOW_MS < at_ms)
        {
            progress.points.pop_front();
        }
    }
}

impl Progress {
    /// Units of work a second, once there is something to tell from.
    #[expect(clippy::cast_precision_loss, reason = "a speed for people to read")]
    pub(crate) fn rate(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.points.front()?, self.points.back()?);
        let (span, done) = (to.checked_sub(*from)?, last.checked_sub(*first)?);
        (span > 0 && done > 0).then(|| done as f64 * 1000.0 / span as f64)
    }

    /// Milliseconds until it is done, at the present speed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate for people to read; both factors are positive"
    )]
    pub(crate) fn left_ms(&self) -> Option<u64> {
        let left = self.total.checked_sub(self.done)?;
        self.rate().map(|rate| (left as f64 * 1000.0 / rate) as u64)
    }

    /// Whole percents.
    pub(crate) fn percent(&self) -> u64 {
        (self.done.min(self.total) * 100)
            .checked_div(self.total)
            .unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(view: &mut RunView, at_ms: u64, done: u64) {
        view.apply(
            at_ms,
            &Event::Progress {
                stage: "base".into(),
                done,
                total: 100,
                unit: "steps".to_owned(),
            },
        );
    }

    #[test]
    fn speed_is_that_of_the_last_while() {
        let mut view = RunView::default();
        for second in 0..40 {
            progress(&mut view, second * 1000, second.min(10));
        }
        for second in 40..100 {
            progress(&mut view, second * 1000, 10 + (second - 40));
        }
        let stage = view.find("base").expect("it was told of");
        let progress = stage.progress.as_ref().expect("it was told of");
        assert_eq!(progress.rate(), Some(1.0));
        assert_eq!(progress.left_ms(), Some(31_000));
        assert_eq!(progress.percent(), 69);
    }

    #[test]
    fn nothing_is_guessed_from_one_point() {
        let mut view = RunView::default();
        progress(&mut view, 0, 0);
        let progress = view
            .find("base")
            .and_then(|stage| stage.progress.clone())
            .expect("it was told of");
        assert_eq!((progress.rate(), progress.left_ms()), (None, None));
    }
}
