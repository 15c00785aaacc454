//! By-products of the stages above one, and what an export sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use blip_grammar::Value;
use crossbeam::channel;

use super::Ended;
use crate::cache::Cache;
use crate::cache::ledger::StageResult;
use crate::ctx::{Ancestor, StageCtx, StageParts, StopSignal};
use crate::graph::{Graph, NodeId};
use crate::key::{KeyInputs, text};
use crate::op::Artifact;

/// The by-products of every stage above one, by name.
pub(crate) fn side_outputs<'r>(
    graph: &Graph,
    id: NodeId,
    finished: impl Fn(NodeId) -> Option<&'r StageResult>,
) -> BTreeMap<String, Vec<Artifact>> {
    let mut side_outputs = BTreeMap::new();
    for above in graph.above(id) {
        if let Some(finished) = finished(above) {
            add(&mut side_outputs, &graph.node(above).name, finished);
        }
    }
    side_outputs
}

fn add(side_outputs: &mut BTreeMap<String, Vec<Artifact>>, stage: &str, finished: &StageResult) {
    for (name, digest) in &finished.side_outputs {
        let artifact = Artifact {
            ty: name.clone(),
            digest: *digest,
            stage: stage.to_owned(),
            count: None,
        };
        side_outputs.entry(name.clone()).or_default().push(artifact);
    }
}

/// What an export sees: the stage it writes, with everything above it.
pub(crate) fn export_ctx(
    graph: &Graph,
    id: NodeId,
    ended: &Ended,
    cache: &Arc<Cache>,
    config: &crate::Config,
) -> StageCtx {
    let node = graph.node(id);
    // Exports are told of as a whole; what they say in between is dropped.
    let (events, _) = channel::bounded(1);
    let mut side_outputs = side_outputs(graph, id, |above| ended.finished(above).map(Arc::as_ref));
    if let Some(finished) = ended.finished(id) {
        add(&mut side_outputs, &node.name, finished);
    }
    let env = Arc::new(config.env.clone());
    StageCtx::new(StageParts {
        stage: node.name.clone(),
        args: node.args.clone(),
        attributes: Arc::clone(&node.attributes),
        inputs: Vec::new(),
        sources: Vec::new(),
        content_paths: Arc::clone(&ended.content_paths),
        side_outputs,
        key_inputs: KeyInputs::new(&node.op, &node.args, Vec::new(), &[], &env),
        cache: Arc::clone(cache),
        env,
        stop: StopSignal::default(),
        events,
        scratch: cache.scratch(),
        retry_bad: false,
    })
    .with_lineage(lineage(graph, id, ended))
}

/// A stage and everything above it, inputs first, as far as it has results.
fn lineage(graph: &Graph, id: NodeId, ended: &Ended) -> Vec<Ancestor> {
    let ancestor = |id: NodeId| {
        let (node, finished) = (graph.node(id), ended.finished(id)?);
        let args = node.args.values();
        let given = args.iter().filter(|(_, value)| **value != Value::Absent);
        let told = given.filter_map(|(name, value)| Some(((*name).to_owned(), text(value)?)));
        Some(Ancestor {
            stage: node.name.clone(),
            op: node.op.signature.name.to_owned(),
            args: told.collect(),
            key: finished.key,
            output: finished.output,
            count: finished.count,
            metrics: finished.metrics.to_vec(),
        })
    };
    graph
        .above(id)
        .into_iter()
        .chain([id])
        .filter_map(ancestor)
        .collect()
}
