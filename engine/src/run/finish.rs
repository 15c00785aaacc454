//! The end of a stage and of a run: what is announced, and what the next run finds.

use std::sync::Arc;

use blip_grammar::Type;

use super::state::State;
use super::{Run, RunOutcome};
use crate::event::{Event, Outcome, StageEnd, StageError, Status};
use crate::graph::NodeId;

impl Run<'_, '_> {
    pub(super) fn end_stage(&mut self, id: NodeId, status: Status, error: Option<StageError>) {
        let node = self.graph.node(id);
        let name = Arc::clone(&node.name);
        let op = node.op.signature.name.into();
        // Nearly all types are names, which are not copied for each of very many stages.
        let ty = match node.output {
            Type::Named(name) => name.into(),
            ty => ty.to_string().into(),
        };
        let stage = self.stage(id);
        stage.state.transition_to(State::Ended(status));
        let in_flight = stage.in_flight.take();
        let result = stage.result.as_deref();
        let end = Arc::new(StageEnd {
            stage: name,
            op,
            status,
            key: stage.key,
            output: result.map(|result| result.output),
            ty,
            count: result.and_then(|result| result.count),
            units: in_flight
                .and_then(|in_flight| in_flight.units)
                .map(Box::new),
            metrics: result.map_or(Box::default(), |result| result.metrics.clone()),
            notes: result.map_or(Box::default(), |result| result.notes.clone()),
            rejected: result.map_or(0, |result| result.rejected),
            took_ms: stage.took_ms,
            error: error.map(Box::new),
        });
        self.ends.push(Arc::clone(&end));
        self.emit(Event::StageFinished(end));
    }

    /// Ends all stages that the run did not get to, and writes the ledger.
    pub(super) fn finish(mut self) -> RunOutcome {
        for id in self.wanted.clone() {
            if !matches!(self.stage(id).state, State::Ended(_)) {
                self.end_stage(id, Status::Interrupted, None);
            }
        }
        let outcome = match (self.failed > 0, self.config.stop.is_requested()) {
            (true, _) => Outcome::Failed,
            (false, true) => Outcome::Interrupted,
            (false, false) => Outcome::Done,
        };
        self.write_ledger();
        let stages = self.stages.into_iter();
        RunOutcome {
            outcome,
            is_busy: self.failed > 0 && self.failed == self.computed_elsewhere,
            results: stages.map(|stage| stage?.result).collect(),
            ends: self.ends,
            content_paths: self.content_paths,
            same_content: self.same_content,
        }
    }

    fn write_ledger(&mut self) {
        let graph = self.graph;
        let mut changed = false;
        for id in &self.wanted {
            let stage = self.stages.get(id.index()).and_then(Option::as_ref);
            if let Some(result) = stage.and_then(|stage| stage.result.as_ref()) {
                changed |= self.ledger.insert(&graph.node(*id).name, result);
            }
        }
        // A run in which nothing ran still notices that the workflow has lost stages.
        changed |= self.ledger.len() > graph.len();
        if !changed || self.ledger_is_unreadable || !self.config.cache.is_writable() {
            return;
        }
        // Results are entered by a stage's own name; an alias is found in the graph too.
        let is_own_name = |name: &str| {
            graph
                .find(name)
                .is_some_and(|id| *graph.node(id).name == *name)
        };
        self.ledger.retain(is_own_name);
        let cache = &self.config.cache;
        let written = self
            .ledger
            .write(cache.disk(), cache.folder(), &self.config.workflow);
        if let Err(error) = written {
            tracing::warn!(
                %error,
                "could not write the ledger: the next run looks up every record"
            );
        }
    }
}
