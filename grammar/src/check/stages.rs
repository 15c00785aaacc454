//! Stages: equal calls are one, each has a name, and the program that comes of all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::Checker;
use super::attributes::merge;
use crate::arguments::Arguments;
use crate::ast::{Name, Statement};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Attributes, Program, Stage, StageId};
use crate::signature::Signature;
use crate::span::Span;
use crate::types::Type;

/// Where an expression stands: what its calls are named after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'n> {
    binding: &'n str,
    outermost: bool,
}

impl<'n> Place<'n> {
    /// The value of a binding: a call there is the stage of that name.
    pub(super) fn value_of(binding: &'n str) -> Place<'n> {
        Place { binding, outermost: true }
    }

    /// Inside the value of a binding.
    pub(super) fn inside(self) -> Place<'n> {
        Place { outermost: false, ..self }
    }
}

/// The stages found so far.
#[derive(Debug, Default)]
pub(super) struct Stages {
    stages: Vec<Stage>,
    /// Every name a stage goes by; of equal ones the last counts.
    names: Vec<(String, StageId)>,
    /// Stages by what they compute.
    equal: HashMap<String, StageId>,
    /// Stages that have the name of a binding, with that binding's name.
    bound: HashMap<StageId, Span>,
    /// How many different calls of one op a binding holds, by `binding/op`; and which they are.
    counts: BTreeMap<String, usize>,
    counted: BTreeSet<(String, StageId)>,
}

impl Stages {
    /// None yet, with room for so many.
    pub(super) fn for_about(count: usize) -> Stages {
        Stages {
            stages: Vec::with_capacity(count),
            names: Vec::with_capacity(count),
            equal: HashMap::with_capacity(count),
            bound: HashMap::with_capacity(count),
            ..Stages::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The type of every stage's result.
    pub(super) fn outputs(&self) -> impl Iterator<Item = Type> {
        self.stages.iter().map(|stage| stage.output)
    }

    /// The stage of a call: a new one, or one that computes the same.
    pub(super) fn add(&mut self, signature: &Signature, args: Arguments, place: Place<'_>, span: Span) -> StageId {
        let mut same = signature.name.to_owned();
        for (name, value) in args.iter() {
            let _ = write!(same, ",{name}={value}");
        }
        let next =
            StageId(u32::try_from(self.stages.len()).expect("a workflow of at most 1 MB has fewer than 2^32 calls"));
        let id = *self.equal.entry(same).or_insert(next);
        if id == next {
            let (op, output, attributes) = (signature.name, signature.output, Attributes::default());
            let args = Arc::new(args);
            self.stages.push(Stage { name: String::new(), op, args, attributes, output, span });
        }
        if !place.outermost {
            self.name_inner(place.binding, signature.name, id);
        }
        id
    }

    /// A call inside another is named after the binding: `base/merge`, and `base/merge.2` for another merge in it.
    fn name_inner(&mut self, binding: &str, op: &str, id: StageId) {
        let name = format!("{binding}/{op}");
        if !self.counted.insert((name.clone(), id)) {
            return;
        }
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { name } else { format!("{name}.{count}") };
        if let Some(stage) = self.stage_mut(id).filter(|stage| stage.name.is_empty()) {
            stage.name.clone_from(&name);
        }
        self.names.push((name, id));
    }

    fn stage_mut(&mut self, id: StageId) -> Option<&mut Stage> {
        self.stages.get_mut(id.0 as usize)
    }

    /// The stages whose results no other stage takes and that are `wanted`.
    fn leaves(&self, wanted: impl Fn(&Stage) -> bool) -> Vec<StageId> {
        let mut inputs: HashSet<StageId> = HashSet::new();
        let values = self.stages.iter().flat_map(|stage| stage.args.values());
        values.for_each(|value| {
            value.each_stage(&mut |id| {
                inputs.insert(id);
            })
        });
        let stages = (0..).map(StageId).zip(&self.stages);
        stages.filter(|(id, stage)| wanted(stage) && !inputs.contains(id)).map(|(id, _)| id).collect()
    }
}

impl Checker<'_> {
    /// Names a stage after a binding, and notes how it is to be run.
    pub(super) fn bind_stage(&mut self, name: &Name, id: StageId, attributes: &Attributes, statement: &Statement) {
        self.stages.names.push((name.text.clone(), id));
        let first = self.stages.bound.get(&id).copied();
        if first.is_none() {
            self.stages.bound.insert(id, name.span);
        }
        let Some(stage) = self.stages.stage_mut(id) else { return };
        if first.is_none() {
            stage.name.clone_from(&name.text);
        }
        let Some(other) = merge(&mut stage.attributes, attributes) else { return };
        let message = format!("`{}` and `{}` are one stage, but have different `@{other}`", stage.name, name.text);
        let place = statement.attributes.iter().find(|attribute| attribute.name.text == other);
        let mut diagnostic = Diagnostic::error(codes::BAD_ATTRIBUTE, message)
            .at(place.map_or(name.span, |place| place.span), "this one");
        if let Some(first) = first {
            diagnostic = diagnostic.note(first, "the same call");
        }
        self.report(
            diagnostic.help("equal calls run once: give them the same attributes, or write them at one of them"),
        );
    }

    /// What was found, once there are no errors.
    pub(super) fn program(self) -> Program {
        let signatures = self.signatures;
        let mut default_targets = self.stages.leaves(|stage| signatures.is_result(stage.output));
        default_targets.extend(&self.exported);
        if default_targets.is_empty() {
            default_targets = self.stages.leaves(|_| true);
        }
        default_targets.sort_unstable();
        default_targets.dedup();
        let params = self.params.into_values().collect();
        let Stages { stages, names, .. } = self.stages;
        Program { params, stages, exports: self.exports, names: names.into_iter().collect(), default_targets }
    }
}
