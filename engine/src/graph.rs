//! The graph that runs: a checked workflow with composed ops taken apart, as a petgraph.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blip_grammar::{Arguments, Attributes, Export, Program, StageId, Type};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::args::Args;
use crate::op::{Body, Op, OpSet};

/// A stage of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name: the binding's, or `kept/score` for a step of `kept`.
    pub name: String,
    /// Its op.
    pub op: Arc<Op>,
    /// Its arguments; [`Value::Stage`](blip_grammar::Value::Stage) numbers the program's stages, see [`Graph::inputs`].
    pub args: Args,
    /// How to run it.
    pub attributes: Attributes,
    /// The type of its result.
    pub output: Type,
}

/// The stages and what flows between them.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: DiGraph<Arc<Node>, &'static str>,
    /// For every stage of the program, the node that has its result.
    results: Vec<NodeIndex>,
    names: BTreeMap<String, NodeIndex>,
    exports: Vec<Export>,
    defaults: Vec<NodeIndex>,
    /// Inputs by argument, in order.
    inputs: Vec<Vec<(&'static str, NodeIndex)>>,
}

/// The number of a stage in the graph.
pub type NodeId = NodeIndex;

impl Graph {
    /// Takes composed ops apart and connects what is left. The program was checked against the same ops.
    pub fn new(program: &Program, ops: &OpSet) -> Self {
        let mut graph = Self {
            nodes: DiGraph::new(),
            results: Vec::new(),
            names: BTreeMap::new(),
            exports: program.exports.clone(),
            defaults: Vec::new(),
            inputs: Vec::new(),
        };
        let mut steps_named = Vec::new();
        for stage in &program.stages {
            let op = ops.op(stage.op).expect("the program was checked against these ops");
            let result = match &op.body {
                Body::Compose(steps) => {
                    let steps = steps(&stage.args);
                    let last = steps.len().saturating_sub(1);
                    let mut previous = None;
                    for (number, step) in steps.into_iter().enumerate() {
                        let op = ops.op(step.op).expect("a composed op names ops of its own set");
                        let name =
                            if number == last { stage.name.clone() } else { format!("{}/{}", stage.name, step.op) };
                        let taken = step.previous.zip(previous);
                        let node = graph.add(name.clone(), op, step.args.into(), taken, stage.attributes.clone());
                        steps_named.push((name, node));
                        previous = Some(node);
                    }
                    previous.expect("a composed op has at least one step")
                }
                _ => graph.add(stage.name.clone(), op, Arc::clone(&stage.args), None, stage.attributes.clone()),
            };
            graph.results.push(result);
        }
        let named =
            |(name, stage): (&String, &StageId)| graph.results.get(stage.0 as usize).map(|node| (name.clone(), *node));
        graph.names = steps_named.into_iter().chain(program.names.iter().filter_map(named)).collect();
        let defaults = program.default_targets.iter().filter_map(|stage| graph.results.get(stage.0 as usize));
        graph.defaults = defaults.copied().collect();
        graph
    }

    fn add(
        &mut self,
        name: String,
        op: &Arc<Op>,
        args: Arc<Arguments>,
        previous: Option<(&'static str, NodeIndex)>,
        attributes: Attributes,
    ) -> NodeIndex {
        let mut inputs: Vec<(&'static str, NodeIndex)> = Vec::new();
        for (arg, value) in args.iter() {
            value.each_stage(&mut |id| inputs.extend(self.results.get(id.0 as usize).map(|node| (arg, *node))));
        }
        inputs.extend(previous);
        // By argument, so that the order in a key does not depend on how a stage came to be; within one, as written.
        inputs.sort_by_key(|(arg, _)| *arg);
        let args = Args::new(op.signature.name, args);
        let node = Node { name, op: Arc::clone(op), args, attributes, output: op.signature.output };
        let node = self.nodes.add_node(Arc::new(node));
        for (arg, from) in &inputs {
            self.nodes.add_edge(*from, node, *arg);
        }
        self.inputs.push(inputs);
        node
    }

    /// A stage.
    pub fn node(&self, id: NodeId) -> &Arc<Node> {
        &self.nodes[id]
    }

    /// All stages; inputs come before their consumers.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.node_indices()
    }

    /// The stages whose results a stage takes, by argument.
    pub fn inputs(&self, id: NodeId) -> &[(&'static str, NodeId)] {
        self.inputs.get(id.index()).map_or(&[], Vec::as_slice)
    }

    /// The stages that take a stage's result, each once.
    pub fn consumers(&self, id: NodeId) -> Vec<NodeId> {
        let mut consumers: Vec<NodeId> = self.nodes.neighbors_directed(id, Direction::Outgoing).collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    }

    /// The exports of the workflow, with the stage each one writes.
    pub fn exports(&self) -> impl Iterator<Item = (&Export, NodeId)> {
        self.exports.iter().filter_map(|export| Some((export, *self.results.get(export.stage.0 as usize)?)))
    }

    /// The stage of a name: a binding's, or that of a step.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.names.get(name).copied()
    }

    /// All names there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What runs when nothing else is asked for.
    pub fn default_targets(&self) -> &[NodeId] {
        &self.defaults
    }

    /// Everything above a stage, inputs first. Takes time by how much that is, not by the size of the graph.
    pub fn above(&self, id: NodeId) -> Vec<NodeId> {
        let mut above = BTreeSet::new();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            stack.extend(self.inputs(id).iter().map(|(_, input)| *input).filter(|input| above.insert(*input)));
        }
        above.into_iter().collect()
    }

    /// How many stages there are.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These stages and everything above them, inputs first.
    pub fn closure(&self, targets: &[NodeId]) -> Vec<NodeId> {
        let mut wanted = vec![false; self.nodes.node_count()];
        let mut stack = targets.to_vec();
        while let Some(id) = stack.pop() {
            let Some(seen) = wanted.get_mut(id.index()) else { continue };
            if !std::mem::replace(seen, true) {
                stack.extend(self.inputs(id).iter().map(|(_, input)| *input));
            }
        }
        self.ids().filter(|id| wanted.get(id.index()) == Some(&true)).collect()
    }
}
