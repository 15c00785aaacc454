//! What the owner of a run keeps for each stage.

use std::sync::Arc;

use super::resources::Resources;
use super::state::State;
use crate::cache::lock::{FileLock, Holder};
use crate::cache::stage_result::StageResult;
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::files::InputFile;
use crate::graph::{Graph, NodeId};

/// A stage of a run. There may be a hundred thousand: what a stage has only while it is in flight
/// is boxed.
pub(super) struct Stage {
    pub(super) state: State,
    /// How many inputs have no result yet. Stages that wait for a rebuild of something further
    /// upstream count it here too.
    pub(super) open_inputs: u32,
    /// The attempt that runs or comes next, from 1.
    pub(super) attempt: u32,
    /// How often it was begun again because its result, or what it needs, was corrupt.
    pub(super) rebuilds: u32,
    /// Some upstream stage ran in this run.
    pub(super) upstream_ran: bool,
    /// Its consumers have been notified of its present result.
    pub(super) downstream_notified: bool,
    pub(super) key: Option<Digest>,
    pub(super) result: Option<Arc<StageResult>>,
    pub(super) took_ms: u64,
    pub(super) in_flight: Option<Box<InFlight>>,
}

/// What a stage has between its key and its end.
#[derive(Default)]
pub(super) struct InFlight {
    pub(super) sources: Vec<InputFile>,
    pub(super) taken: Option<Resources>,
    pub(super) units: Option<UnitCounts>,
    /// The right to run it; held from before it starts until its record is written.
    pub(super) lease: Option<FileLock>,
    /// The process whose lease it waits for, once that has been announced.
    pub(super) waiting_for: Option<Holder>,
}

impl Stage {
    /// A stage that waits for all of its inputs.
    pub(super) fn new(graph: &Graph, id: NodeId) -> Self {
        Self {
            state: State::Waiting,
            open_inputs: count_distinct_inputs(graph, id),
            attempt: 1,
            rebuilds: 0,
            upstream_ran: false,
            downstream_notified: false,
            key: None,
            result: None,
            took_ms: 0,
            in_flight: None,
        }
    }
}

/// How many stages a stage takes results of: one that it takes twice notifies it once.
fn count_distinct_inputs(graph: &Graph, id: NodeId) -> u32 {
    let inputs = graph.inputs(id);
    if inputs.len() < 2 {
        return u32::from(!inputs.is_empty());
    }
    let mut inputs: Vec<NodeId> = inputs.iter().map(|(_, input)| *input).collect();
    inputs.sort_unstable();
    inputs.dedup();
    u32::try_from(inputs.len()).expect("a stage has fewer inputs")
}
