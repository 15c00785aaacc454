//! Stages: equal calls are one, each has a name, and the program that comes of all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
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
        Place {
            binding,
            outermost: true,
        }
    }

    /// Inside the value of a binding.
    pub(super) fn inside(self) -> Place<'n> {
        Place {
            outermost: false,
            ..self
        }
    }
}

/// The stages found so far.
#[derive(Debug, Default)]
pub(super) struct Stages {
    stages: Vec<Stage>,
    /// For each stage, where the binding stands that it has its name from.
    bound: Vec<Option<Span>>,
    /// Further names; of equal ones the last counts.
    aliases: Vec<(Arc<str>, StageId)>,
    /// Stages by a hash of what they compute. Where that is taken by another stage, the next number
    /// is.
    equal: HashMap<u64, StageId>,
    hasher: RandomState,
    /// The attributes of a stage that has none.
    none: Arc<Attributes>,
    /// How many different calls of one op a binding holds, by `binding/op`; and which they are.
    counts: BTreeMap<String, usize>,
    counted: BTreeSet<(String, StageId)>,
}

impl Stages {
    /// None yet, with room for so many.
    pub(super) fn for_about(count: usize) -> Stages {
        Stages {
            stages: Vec::with_capacity(count),
            bound: Vec::with_capacity(count),
            equal: HashMap::with_capacity(count),
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
    pub(super) fn add(
        &mut self,
        signature: &Signature,
        args: Arguments,
        place: Place<'_>,
        span: Span,
    ) -> StageId {
        let mut hash = self.hasher.hash_one((signature.name, &args));
        let id = loop {
            match self
                .equal
                .get(&hash)
                .and_then(|id| Some((*id, self.stages.get(id.0 as usize)?)))
            {
                None => break self.push(hash, signature, args, span),
                Some((id, stage)) if stage.op == signature.name && stage.args == args => break id,
                Some(_) => hash = hash.wrapping_add(1),
            }
        };
        if !place.outermost {
            self.name_inner(place.binding, signature.name, id);
        }
        id
    }

    fn push(&mut self, hash: u64, signature: &Signature, args: Arguments, span: Span) -> StageId {
        let count = u32::try_from(self.stages.len())
            .expect("a workflow of at most 1 MB has fewer than 2^32 calls");
        let (op, output, attributes) = (signature.name, signature.output, Arc::clone(&self.none));
        self.stages.push(Stage {
            name: Arc::default(),
            op,
            args,
            attributes,
            output,
            span,
        });
        self.bound.push(None);
        self.equal.insert(hash, StageId(count));
        StageId(count)
    }

    /// A call inside another is named after the binding: `base/merge`, and `base/merge.2` for
    /// another merge in it.
    fn name_inner(&mut self, binding: &str, op: &str, id: StageId) {
        let name = format!("{binding}/{op}");
        if !self.counted.insert((name.clone(), id)) {
            return;
        }
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count == 1 {
            name
        } else {
            format!("{name}.{count}")
        };
        match self.stage_mut(id) {
            Some(stage) if stage.name.is_empty() => stage.name = name.into(),
            _ => self.aliases.push((name.into(), id)),
        }
    }

    /// A stage has the name of a binding, which counts for more than that of a call inside another.
    /// Where the binding stands that it has its name from already, if there is one.
    fn name_outer(&mut self, name: &Name, id: StageId) -> Option<Span> {
        let mut alias: Arc<str> = name.text.into();
        let bound = self.bound.get_mut(id.0 as usize)?;
        let first = *bound;
        if first.is_none() {
            *bound = Some(name.span);
            // The name it had so far, if it had one, becomes the further one.
            std::mem::swap(&mut self.stage_mut(id)?.name, &mut alias);
        }
        if !alias.is_empty() {
            self.aliases.push((alias, id));
        }
        first
    }

    fn stage_mut(&mut self, id: StageId) -> Option<&mut Stage> {
        self.stages.get_mut(id.0 as usize)
    }

    /// The stages whose results no other stage takes and that are `wanted`.
    fn leaves(&self, wanted: impl Fn(&Stage) -> bool) -> Vec<StageId> {
        let mut taken = vec![false; self.stages.len()];
        for value in self.stages.iter().flat_map(|stage| stage.args.values()) {
            value.each_stage(&mut |id| {
                taken
                    .get_mut(id.0 as usize)
                    .into_iter()
                    .for_each(|taken| *taken = true)
            });
        }
        let stages = (0..).map(StageId).zip(self.stages.iter().zip(taken));
        stages
            .filter(|(_, (stage, taken))| !taken && wanted(stage))
            .map(|(id, _)| id)
            .collect()
    }
}

impl Checker<'_> {
    /// Names a stage after a binding, and notes how it is to be run.
    pub(super) fn bind_stage(
        &mut self,
        name: &Name,
        id: StageId,
        attributes: &Attributes,
        statement: &Statement,
    ) {
        let first = self.stages.name_outer(name, id);
        let Some(stage) = self
            .stages
            .stage_mut(id)
            .filter(|_| *attributes != Attributes::default())
        else {
            return;
        };
        let Some(other) = merge(Arc::make_mut(&mut stage.attributes), attributes) else {
            return;
        };
        let message = format!(
            "`{}` and `{}` are one stage, but have different `@{other}`",
            stage.name, name.text
        );
        let place = statement
            .attributes
            .iter()
            .find(|attribute| attribute.name.text == other);
        let mut diagnostic = Diagnostic::error(codes::BAD_ATTRIBUTE, message)
            .at(place.map_or(name.span, |place| place.span), "this one");
        if let Some(first) = first {
            diagnostic = diagnostic.note(first, "the same call");
        }
        self.report(diagnostic.help(
            "equal calls run once: give them the same attributes, or write them at one of them",
        ));
    }

    /// What was found, once there are no errors.
    pub(super) fn program(self) -> Program {
        let signatures = self.signatures;
        let mut default_targets = self
            .stages
            .leaves(|stage| signatures.is_result(stage.output));
        default_targets.extend(&self.exported);
        if default_targets.is_empty() {
            default_targets = self.stages.leaves(|_| true);
        }
        default_targets.sort_unstable();
        default_targets.dedup();
        let params = self.params.into_values().collect();
        let Stages {
            stages, aliases, ..
        } = self.stages;
        Program {
            params,
            stages,
            exports: self.exports,
            aliases: aliases.into_iter().collect(),
            default_targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Value;

    #[test]
    fn stages_are_equal_by_what_they_compute_and_not_by_their_hash() {
        let signature = Signature::stage("op", Type::Named("Text"), "An op.");
        let args = |number| Arguments::from([("value", Value::Int(number))]);
        let place = Place::value_of("a");
        let mut stages = Stages::default();
        let add = |stages: &mut Stages, number| {
            stages.add(&signature, args(number), place, Span::new(0, 0))
        };
        let first = add(&mut stages, 1);
        // The second one finds its place taken, and the place after it as well.
        let hash = stages.hasher.hash_one(("op", &args(2)));
        stages.equal.insert(hash, first);
        stages.equal.insert(hash.wrapping_add(1), first);
        let second = add(&mut stages, 2);
        assert_eq!((first, second), (StageId(0), StageId(1)));
        assert_eq!((add(&mut stages, 1), add(&mut stages, 2)), (first, second));
    }
}
