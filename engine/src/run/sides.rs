//! By-products of the stages above one, and what an export sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use blip_grammar::Value;
use crossbeam::channel;

use super::Ended;
use crate::cache::Cache;
use crate::cache::ledger::Finished;
use crate::ctx::{Ancestor, StageCtx, StageParts, Stop};
use crate::graph::{Graph, NodeId};
use crate::key::{Preimage, text};
use crate::op::Artifact;

/// The by-products of every stage above one, by name.
pub(crate) fn sides<'r>(
    graph: &Graph,
    id: NodeId,
    finished: impl Fn(NodeId) -> Option<&'r Finished>,
) -> BTreeMap<String, Vec<Artifact>> {
    let mut sides = BTreeMap::new();
    for above in graph.above(id) {
        if let Some(finished) = finished(above) {
            add(&mut sides, &graph.node(above).name, finished);
        }
    }
    sides
}

fn add(sides: &mut BTreeMap<String, Vec<Artifact>>, stage: &str, finished: &Finished) {
    for (name, digest) in &finished.sides {
        let artifact = Artifact {
            ty: name.clone(),
            digest: *digest,
            stage: stage.to_owned(),
            count: None,
        };
        sides.entry(name.clone()).or_default().push(artifact);
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
    let mut sides = sides(graph, id, |above| ended.finished(above).map(Arc::as_ref));
    if let Some(finished) = ended.finished(id) {
        add(&mut sides, &node.name, finished);
    }
    let env = Arc::new(config.env.clone());
    StageCtx::new(StageParts {
        stage: node.name.clone(),
        args: node.args.clone(),
        attributes: Arc::clone(&node.attributes),
        inputs: Vec::new(),
        sources: Vec::new(),
        blobs: Arc::clone(&ended.blobs),
        sides,
        preimage: Preimage::new(&node.op, &node.args, Vec::new(), &[], &env),
        cache: Arc::clone(cache),
        env,
        stop: Stop::default(),
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
