//! The graph that runs: a checked workflow with composed ops expanded, as a petgraph.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use blip_grammar::{Arguments, Attributes, Export, Program, Stage, Type};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::args::Args;
use crate::op::{Body, Op, OpSet, Step};

/// A stage of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique: the binding's, or `kept/score` for a step of `kept`. Shared, since every event about
    /// the stage has it.
    pub name: Arc<str>,
    pub op: Arc<Op>,
    /// A [`Value::Stage`](blip_grammar::Value::Stage) in it is a stage of the program; the nodes
    /// are in [`Graph::inputs`].
    pub args: Args,
    pub attributes: Arc<Attributes>,
    /// The type of its result.
    pub output: Type,
}

/// The stages and what flows between them.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: DiGraph<Arc<Node>, ()>,
    /// For every stage of the program, the node that has its result.
    results: Vec<NodeIndex>,
    /// The names of nodes and their aliases.
    names: HashMap<Arc<str>, NodeIndex>,
    exports: Vec<Export>,
    defaults: Vec<NodeIndex>,
    /// The inputs of all nodes by argument, one node after the other. The edges of `nodes` have
    /// neither arguments nor order.
    inputs: Vec<(&'static str, NodeIndex)>,
    /// Where in `inputs` those of each node begin, and at last where they end.
    first_inputs: Vec<usize>,
}

/// A stage of the graph. Ascending ids are an order in which stages can run.
pub type NodeId = NodeIndex;

impl Graph {
    /// Expands composed ops and connects all stages. The program was checked against the same ops.
    pub fn new(program: &Program, ops: &OpSet) -> Self {
        let mut graph = Self {
            nodes: DiGraph::with_capacity(program.stages.len(), program.stages.len()),
            results: Vec::new(),
            names: HashMap::with_capacity(program.stages.len()),
            exports: program.exports.clone(),
            defaults: Vec::new(),
            inputs: Vec::new(),
            first_inputs: vec![0],
        };
        let mut step_names = StepNames::default();
        for stage in &program.stages {
            let op = ops
                .op(stage.op)
                .expect("the program was checked against these ops");
            let result = match &op.body {
                Body::Compose(steps) => {
                    let name_step =
                        |name: &str| step_names.next(program, &format!("{}/{name}", stage.name));
                    graph.add_steps(stage, ops, steps(&stage.args), name_step)
                }
                _ => {
                    let (name, args) = (Arc::clone(&stage.name), stage.args.clone());
                    graph.add(name, op, args, None, Arc::clone(&stage.attributes))
                }
            };
            graph.results.push(result);
        }
        for (name, stage) in &program.aliases {
            if let Some(node) = graph.results.get(stage.0 as usize) {
                graph.names.insert(Arc::clone(name), *node);
            }
        }
        let defaults = program
            .default_targets
            .iter()
            .filter_map(|stage| graph.results.get(stage.0 as usize));
        graph.defaults = defaults.copied().collect();
        graph
    }

    /// Adds the stages of a composed op; the last one has the call's name and result.
    fn add_steps(
        &mut self,
        stage: &Stage,
        ops: &OpSet,
        steps: Vec<Step>,
        mut name_step: impl FnMut(&str) -> Arc<str>,
    ) -> NodeIndex {
        let last = steps.len().saturating_sub(1);
        let mut previous = None;
        for (number, step) in steps.into_iter().enumerate() {
            let op = ops
                .op(step.op)
                .expect("a composed op names ops of its own set");
            let name = if number == last {
                Arc::clone(&stage.name)
            } else {
                name_step(step.op)
            };
            let input = step.previous.zip(previous);
            let attributes = Arc::clone(&stage.attributes);
            previous = Some(self.add(name, op, step.args, input, attributes));
        }
        previous.expect("a composed op has at least one step")
    }

    fn add(
        &mut self,
        name: Arc<str>,
        op: &Arc<Op>,
        args: Arguments,
        previous: Option<(&'static str, NodeIndex)>,
        attributes: Arc<Attributes>,
    ) -> NodeIndex {
        let first = self.inputs.len();
        for (arg, value) in args.iter() {
            value.each_stage(&mut |id| {
                let node = self.results.get(id.0 as usize);
                self.inputs.extend(node.map(|node| (arg, *node)));
            });
        }
        self.inputs.extend(previous);
        let inputs = self.inputs.get_mut(first..).unwrap_or_default();
        // By argument, so that a stage has the same key whether it is written or a step of a
        // composed op; within one argument as written, which needs a stable sort.
        inputs.sort_by_key(|(arg, _)| *arg);
        let args = Args::new(op.signature.name, args);
        let output = op.signature.output;
        let node = Node {
            name: Arc::clone(&name),
            op: Arc::clone(op),
            args,
            attributes,
            output,
        };
        let node = self.nodes.add_node(Arc::new(node));
        self.names.insert(name, node);
        for (_, from) in inputs {
            self.nodes.add_edge(*from, node, ());
        }
        self.first_inputs.push(self.inputs.len());
        node
    }

    pub fn node(&self, id: NodeId) -> &Arc<Node> {
        &self.nodes[id]
    }

    /// All stages; inputs come before their consumers.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.node_indices()
    }

    /// The stages whose results a stage takes, by argument.
    pub fn inputs(&self, id: NodeId) -> &[(&'static str, NodeId)] {
        let ends = self.first_inputs.get(id.index()..).unwrap_or_default();
        let [first, end, ..] = ends else { return &[] };
        self.inputs.get(*first..*end).unwrap_or_default()
    }

    /// The stages that take a stage's result, each once.
    pub fn consumers(&self, id: NodeId) -> Vec<NodeId> {
        let mut consumers: Vec<NodeId> = self
            .nodes
            .neighbors_directed(id, Direction::Outgoing)
            .collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    }

    /// The exports of the workflow, with the stage each one writes.
    pub fn exports(&self) -> impl Iterator<Item = (&Export, NodeId)> {
        self.exports
            .iter()
            .filter_map(|export| Some((export, *self.results.get(export.stage.0 as usize)?)))
    }

    /// The stage with this name: a binding, an alias of one, or a step.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.names.get(name).copied()
    }

    /// All names and aliases, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.keys().map(Arc::as_ref).collect();
        names.sort_unstable();
        names
    }

    /// What runs when nothing else is asked for.
    pub fn default_targets(&self) -> &[NodeId] {
        &self.defaults
    }

    /// Everything upstream of a stage, inputs first. Takes time by how much that is, not by the
    /// size of the graph.
    pub fn upstream(&self, id: NodeId) -> Vec<NodeId> {
        let mut upstream = BTreeSet::new();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            for (_, input) in self.inputs(id) {
                if upstream.insert(*input) {
                    stack.push(*input);
                }
            }
        }
        upstream.into_iter().collect()
    }

    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These stages and everything upstream of them, inputs first.
    pub fn closure(&self, targets: &[NodeId]) -> Vec<NodeId> {
        // Not a set as in `upstream`: most often this is the whole graph.
        let mut wanted = vec![false; self.nodes.node_count()];
        let mut stack = targets.to_vec();
        while let Some(id) = stack.pop() {
            let Some(seen) = wanted.get_mut(id.index()) else {
                continue;
            };
            if !std::mem::replace(seen, true) {
                stack.extend(self.inputs(id).iter().map(|(_, input)| *input));
            }
        }
        self.ids()
            .filter(|id| wanted.get(id.index()) == Some(&true))
            .collect()
    }
}

/// Names for the steps of composed ops, which no other stage has.
#[derive(Default)]
struct StepNames {
    /// Those of the program's stages, filled in for the first composed op, and those given so far.
    taken: HashSet<Arc<str>>,
}

impl StepNames {
    /// `kept/score`, or `kept/score.2` where that is taken.
    fn next(&mut self, program: &Program, name: &str) -> Arc<str> {
        if self.taken.is_empty() {
            self.taken
                .extend(program.stages.iter().map(|stage| Arc::clone(&stage.name)));
            self.taken.extend(program.aliases.keys().cloned());
        }
        let numbered = (2..).map(|number| format!("{name}.{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        let name: Arc<str> = names
            .find(|name| !self.taken.contains(name.as_str()))
            .expect("numbers do not run out")
            .into();
        self.taken.insert(Arc::clone(&name));
        name
    }
}
