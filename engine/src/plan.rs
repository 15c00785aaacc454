//! What a run would do and why, before it costs anything. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ahead::Found;
use crate::cache::Cache;
use crate::cache::ledger::StageResult;
use crate::ctx::{StageCtx, StageParts, StopSignal};
use crate::digest::Digest;
use crate::graph::{Graph, NodeId};
use crate::key::{KeyInputs, NumericEnv};
use crate::known::Known;
use crate::map;
use crate::op::{Artifact, Body, OpError};
use crate::run::worker::{self, Probe, ProbeJob};

/// What would become of a stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlannedAction {
    /// Its result is known.
    Reuse,
    /// It would run.
    Run {
        /// What makes it run.
        why: Vec<String>,
        /// For map stages, how many units are missing and how many there are.
        units: Option<(u64, u64)>,
    },
    /// It runs if these stages give other bytes than before.
    Unknown {
        /// The stages above it that would run.
        after: Vec<Arc<str>>,
    },
    /// It cannot run.
    Fault {
        /// What is wrong.
        what: String,
        /// What to do.
        help: String,
    },
}

/// A stage and what would become of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// The stage.
    pub stage: Arc<str>,
    /// Its op.
    pub op: String,
    /// What would become of it.
    pub action: PlannedAction,
    /// Its key, when its result is known.
    pub key: Option<Digest>,
    /// How long it took the last time it ran, in milliseconds.
    pub last_took_ms: Option<u64>,
    /// How long it will take at most if it runs, as far as the last time can tell: of a map stage,
    /// the missing items' part.
    pub estimate_ms: Option<u64>,
}

/// What a plan looks at.
pub(crate) struct Planner<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) workflow: &'a str,
    pub(crate) base: std::path::PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
}

impl Planner<'_> {
    /// The plan for these stages and those above them, inputs first.
    pub(crate) fn plan(&self, targets: &[NodeId]) -> Vec<Planned> {
        let mut known: BTreeMap<NodeId, Arc<StageResult>> = BTreeMap::new();
        let mut planned = Vec::new();
        let wanted = self.graph.closure(targets);
        let is_wanted = |name: &str| {
            self.graph
                .find(name)
                .is_some_and(|id| wanted.binary_search(&id).is_ok())
        };
        let Found { ledger, there } = Found::look(&self.cache, self.workflow, is_wanted);
        for id in wanted {
            let node = self.graph.node(id);
            let last = ledger.get(&node.name);
            let action = self
                .action(id, &mut known, &there, last.map(Arc::as_ref))
                .unwrap_or_else(|error| PlannedAction::Fault {
                    what: error.to_string(),
                    help: error.help(),
                });
            let op = node.op.signature.name.to_owned();
            let key = known.get(&id).map(|finished| finished.key);
            let last_took_ms = last.map(|last| last.took_ms);
            let estimate_ms = last_took_ms.and_then(|took_ms| estimate(&action, took_ms));
            planned.push(Planned {
                stage: node.name.clone(),
                op,
                action,
                key,
                last_took_ms,
                estimate_ms,
            });
        }
        planned
    }

    fn action(
        &self,
        id: NodeId,
        known: &mut BTreeMap<NodeId, Arc<StageResult>>,
        there: &Known,
        last: Option<&StageResult>,
    ) -> Result<PlannedAction, OpError> {
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        let mut after = Vec::new();
        for (arg, input) in self.graph.inputs(id) {
            match known.get(input) {
                Some(finished) => inputs.push((*arg, finished.output)),
                None => after.push(self.graph.node(*input).name.clone()),
            }
        }
        if !after.is_empty() {
            after.dedup();
            return Ok(PlannedAction::Unknown { after });
        }
        // As a run does: what the ledger tells of and is there is not read.
        if node.op.sources.is_none() {
            let key = KeyInputs::new(&node.op, &node.args, inputs.clone(), &[], &self.env).hash();
            if let Some(finished) = there.get(&key) {
                known.insert(id, Arc::clone(finished));
                return Ok(PlannedAction::Reuse);
            }
        }
        let job = ProbeJob {
            id,
            node: node.clone(),
            inputs,
            base: self.base.clone(),
            cache: Arc::clone(&self.cache),
            env: Arc::clone(&self.env),
        };
        let probe = worker::probe(&job)?;
        if let Some(record) = probe.record {
            known.insert(id, Arc::new(StageResult::of(probe.key, &record)));
            return Ok(PlannedAction::Reuse);
        }
        let why = crate::run::why(
            &self.cache,
            last.map(|last| &last.key),
            &probe.key_inputs,
            false,
        );
        let units = match &node.op.body {
            Body::Map(map) => {
                let ctx = self.ctx(id, probe, known);
                Some(map::missing_units(&ctx, map(&ctx)?.as_ref())?)
            }
            _ => None,
        };
        Ok(PlannedAction::Run { why, units })
    }

    fn ctx(
        &self,
        id: NodeId,
        probe: Probe,
        known: &BTreeMap<NodeId, Arc<StageResult>>,
    ) -> StageCtx {
        let node = self.graph.node(id);
        let artifact = |(arg, input): &(&'static str, NodeId)| {
            let above = self.graph.node(*input);
            Some((
                *arg,
                Artifact::of(&above.name, above.output, known.get(input)?),
            ))
        };
        let inputs = self.graph.inputs(id).iter().filter_map(artifact).collect();
        // Nobody listens to a plan: what its context says is dropped.
        let (events, _) = crossbeam::channel::bounded(1);
        StageCtx::new(StageParts {
            stage: node.name.clone(),
            args: node.args.clone(),
            attributes: Arc::clone(&node.attributes),
            inputs,
            sources: probe.sources,
            content_paths: Arc::default(),
            side_outputs: crate::run::side_outputs(self.graph, id, |above| {
                known.get(&above).map(Arc::as_ref)
            }),
            key_inputs: probe.key_inputs,
            cache: Arc::clone(&self.cache),
            env: Arc::clone(&self.env),
            stop: StopSignal::default(),
            events,
            scratch: self.cache.scratch(),
            retry_bad: false,
        })
    }
}

fn estimate(action: &PlannedAction, took_ms: u64) -> Option<u64> {
    match action {
        PlannedAction::Run {
            units: Some((missing, total)),
            ..
        } => {
            let part = u128::from(took_ms) * u128::from(*missing) / u128::from((*total).max(1));
            u64::try_from(part).ok()
        }
        PlannedAction::Run { units: None, .. } | PlannedAction::Unknown { .. } => Some(took_ms),
        PlannedAction::Reuse | PlannedAction::Fault { .. } => None,
    }
}
