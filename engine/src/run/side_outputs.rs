//! Side outputs of the upstream stages of a stage.

use std::collections::BTreeMap;

use crate::cache::stage_result::StageResult;
use crate::graph::{Graph, NodeId};
use crate::op::Artifact;

/// The side outputs of every upstream stage that has a result, by name.
pub(crate) fn upstream_side_outputs<'r>(
    graph: &Graph,
    id: NodeId,
    result_of: impl Fn(NodeId) -> Option<&'r StageResult>,
) -> BTreeMap<String, Vec<Artifact>> {
    let mut side_outputs = BTreeMap::new();
    for upstream in graph.upstream(id) {
        if let Some(result) = result_of(upstream) {
            add_side_outputs(&mut side_outputs, &graph.node(upstream).name, result);
        }
    }
    side_outputs
}

pub(super) fn add_side_outputs(
    side_outputs: &mut BTreeMap<String, Vec<Artifact>>,
    stage: &str,
    result: &StageResult,
) {
    for (name, digest) in &result.side_outputs {
        let artifact = Artifact {
            ty: name.clone(),
            digest: *digest,
            stage: stage.to_owned(),
            count: None,
        };
        side_outputs.entry(name.clone()).or_default().push(artifact);
    }
}
