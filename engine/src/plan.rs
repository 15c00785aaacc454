//! What a run would do and why, before it costs anything. Nothing is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::Cache;
use crate::cache::stage_result::StageResult;
use crate::ctx::{StageCtx, StageParts, StopSignal};
use crate::digest::Digest;
use crate::graph::{Graph, Node, NodeId};
use crate::key::{KeyInputs, NumericEnv};
use crate::map;
use crate::op::{Artifact, Body, OpError};
use crate::prefetch::CacheScan;
use crate::result_map::ResultMap;
use crate::run::worker::{ProbeResult, ProbeTask, probe_stage};
use crate::run::{reasons_to_run, upstream_side_outputs};

/// What a run would do with a stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlannedAction {
    /// Its result is in the cache.
    Reuse,
    Run {
        /// What changed since its last result, by field.
        why: Vec<String>,
        /// For map stages, how many units are missing and how many there are.
        units: Option<(u64, u64)>,
    },
    /// It runs if these upstream stages give other bytes than before: its key is not known until
    /// they have run.
    Unknown { after: Vec<Arc<str>> },
    /// It cannot run.
    Error { what: String, help: String },
}

/// A stage and what a run would do with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    pub stage: Arc<str>,
    pub op: String,
    pub action: PlannedAction,
    /// Its key, if its result is in the cache.
    pub key: Option<Digest>,
    /// How long it took the last time it ran.
    pub last_took_ms: Option<u64>,
    /// How long it takes at most if it runs, estimated from the last time: of a map stage, the
    /// share of the missing units.
    pub estimate_ms: Option<u64>,
}

pub(crate) struct Planner<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) workflow: &'a str,
    pub(crate) base: PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
}

/// The results of the stages that would be reused, as far as the plan has got.
type Results = BTreeMap<NodeId, Arc<StageResult>>;

impl Planner<'_> {
    /// The plan for these stages and everything upstream, inputs first.
    pub(crate) fn plan(&self, targets: &[NodeId]) -> Vec<Planned> {
        let wanted = self.graph.closure(targets);
        let is_wanted = |name: &str| {
            self.graph
                .find(name)
                .is_some_and(|id| wanted.binary_search(&id).is_ok())
        };
        let scan = CacheScan::new(&self.cache, self.workflow, is_wanted);
        let mut results = Results::new();
        wanted
            .iter()
            .map(|id| self.plan_stage(*id, &scan, &mut results))
            .collect()
    }

    fn plan_stage(&self, id: NodeId, scan: &CacheScan, results: &mut Results) -> Planned {
        let node = self.graph.node(id);
        let last = scan.ledger.get(&node.name);
        let last_key = last.map(|last| &last.key);
        let action = match self.action(id, results, &scan.results, last_key) {
            Ok(action) => action,
            Err(error) => PlannedAction::Error {
                what: error.to_string(),
                help: error.help(),
            },
        };
        let last_took_ms = last.map(|last| last.took_ms);
        let estimate_ms = last_took_ms.and_then(|took_ms| estimate(&action, took_ms));
        Planned {
            stage: node.name.clone(),
            op: node.op.signature.name.to_owned(),
            action,
            key: results.get(&id).map(|result| result.key),
            last_took_ms,
            estimate_ms,
        }
    }

    fn action(
        &self,
        id: NodeId,
        results: &mut Results,
        existing: &ResultMap,
        last_key: Option<&Digest>,
    ) -> Result<PlannedAction, OpError> {
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        let mut after = Vec::new();
        for (arg, input) in self.graph.inputs(id) {
            match results.get(input) {
                Some(result) => inputs.push((*arg, result.output)),
                None => after.push(self.graph.node(*input).name.clone()),
            }
        }
        if !after.is_empty() {
            after.dedup();
            return Ok(PlannedAction::Unknown { after });
        }
        // As in a run: a result that the scan has found is not read from its record.
        if node.op.sources.is_none()
            && let Some(result) = self.existing_result(node, &inputs, existing)
        {
            results.insert(id, result);
            return Ok(PlannedAction::Reuse);
        }
        let probe = probe_stage(&ProbeTask {
            id,
            node: node.clone(),
            inputs,
            base: self.base.clone(),
            cache: Arc::clone(&self.cache),
            env: Arc::clone(&self.env),
        })?;
        if let Some(record) = probe.record {
            results.insert(id, Arc::new(StageResult::from_record(probe.key, &record)));
            return Ok(PlannedAction::Reuse);
        }
        let why = reasons_to_run(&self.cache, last_key, &probe.key_inputs, false);
        let units = match &node.op.body {
            Body::Map(map) => {
                let ctx = self.ctx(id, probe, results);
                Some(map::count_units(&ctx, map(&ctx)?.as_ref())?)
            }
            _ => None,
        };
        Ok(PlannedAction::Run { why, units })
    }

    fn existing_result(
        &self,
        node: &Node,
        inputs: &[(&'static str, Digest)],
        existing: &ResultMap,
    ) -> Option<Arc<StageResult>> {
        let key_inputs = KeyInputs::new(&node.op, &node.args, inputs.to_vec(), &[], &self.env);
        existing.get(&key_inputs.hash()).cloned()
    }

    fn ctx(&self, id: NodeId, probe: ProbeResult, results: &Results) -> StageCtx {
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        for (arg, input) in self.graph.inputs(id) {
            if let Some(result) = results.get(input) {
                let node = self.graph.node(*input);
                inputs.push((*arg, Artifact::of(&node.name, node.output, result)));
            }
        }
        let result_of = |upstream: NodeId| results.get(&upstream).map(Arc::as_ref);
        let side_outputs = upstream_side_outputs(self.graph, id, result_of);
        // A plan has no listeners: without a receiver, events are dropped.
        let (events, _) = crossbeam::channel::bounded(1);
        StageCtx::new(StageParts {
            stage: node.name.clone(),
            args: node.args.clone(),
            attributes: Arc::clone(&node.attributes),
            inputs,
            sources: probe.sources,
            content_paths: Arc::default(),
            side_outputs,
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
            let share = u128::from(took_ms) * u128::from(*missing) / u128::from((*total).max(1));
            u64::try_from(share).ok()
        }
        PlannedAction::Run { units: None, .. } | PlannedAction::Unknown { .. } => Some(took_ms),
        PlannedAction::Reuse | PlannedAction::Error { .. } => None,
    }
}
