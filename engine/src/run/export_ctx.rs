//! The context of an export: the stage that it writes, with everything upstream.

use std::sync::Arc;

use blip_grammar::Value;
use crossbeam::channel;

use super::RunOutcome;
use super::side_outputs::{add_side_outputs, upstream_side_outputs};
use crate::cache::Cache;
use crate::ctx::{StageCtx, StageParts, StopSignal, UpstreamStage};
use crate::graph::{Graph, NodeId};
use crate::key::{KeyInputs, canonical_text};

/// The context in which an export of stage `id` is written.
pub(crate) fn export_ctx(
    graph: &Graph,
    id: NodeId,
    outcome: &RunOutcome,
    cache: &Arc<Cache>,
    config: &crate::Config,
) -> StageCtx {
    let node = graph.node(id);
    // An export is announced as a whole: without a receiver, what it reports in between is dropped.
    let (events, _) = channel::bounded(1);
    let result_of = |upstream| outcome.result(upstream).map(Arc::as_ref);
    let mut side_outputs = upstream_side_outputs(graph, id, result_of);
    if let Some(result) = outcome.result(id) {
        add_side_outputs(&mut side_outputs, &node.name, result);
    }
    let env = Arc::new(config.env.clone());
    let parts = StageParts {
        stage: node.name.clone(),
        args: node.args.clone(),
        attributes: Arc::clone(&node.attributes),
        inputs: Vec::new(),
        sources: Vec::new(),
        content_paths: Arc::clone(&outcome.content_paths),
        side_outputs,
        key_inputs: KeyInputs::new(&node.op, &node.args, Vec::new(), &[], &env),
        cache: Arc::clone(cache),
        env,
        stop: StopSignal::default(),
        events,
        scratch: cache.scratch(),
        retry_bad: false,
    };
    StageCtx::new(parts).with_lineage(lineage(graph, id, outcome))
}

/// A stage and everything upstream of it, inputs first, as far as it has results.
fn lineage(graph: &Graph, id: NodeId, outcome: &RunOutcome) -> Vec<UpstreamStage> {
    let ids = graph.upstream(id).into_iter().chain([id]);
    ids.filter_map(|id| upstream_stage(graph, id, outcome))
        .collect()
}

fn upstream_stage(graph: &Graph, id: NodeId, outcome: &RunOutcome) -> Option<UpstreamStage> {
    let node = graph.node(id);
    let result = outcome.result(id)?;
    let mut args = Vec::new();
    for (name, value) in node.args.values().iter() {
        if *value == Value::Absent {
            continue;
        }
        if let Some(text) = canonical_text(value) {
            args.push((name.to_owned(), text));
        }
    }
    Some(UpstreamStage {
        stage: node.name.clone(),
        op: node.op.signature.name.to_owned(),
        args,
        key: result.key,
        output: result.output,
        count: result.count,
        metrics: result.metrics.to_vec(),
    })
}
