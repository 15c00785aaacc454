//! Stages: merges equal calls, names them, and builds the program.

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

/// Where an expression stands, which decides the names of the stages in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameScope<'n> {
    binding: &'n str,
    /// Whether the expression is the whole value of the binding.
    outermost: bool,
}

impl<'n> NameScope<'n> {
    /// The value of a binding: a call there is the stage of that name.
    pub(super) fn value_of(binding: &'n str) -> NameScope<'n> {
        NameScope {
            binding,
            outermost: true,
        }
    }

    /// Outside of any binding, where stages are no use or an error.
    pub(super) fn unnamed() -> NameScope<'static> {
        NameScope::value_of("").inside()
    }

    /// Inside the value of a binding: a call there is named after the binding and its op.
    pub(super) fn inside(self) -> NameScope<'n> {
        NameScope {
            outermost: false,
            ..self
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Stages {
    stages: Vec<Stage>,
    /// By stage: the span of the name of the binding that it is named after.
    bound: Vec<Option<Span>>,
    /// Further names; of equal ones the last wins.
    aliases: Vec<(Arc<str>, StageId)>,
    /// Stages by the hash of their op and arguments. A stage whose hash is taken by another one has
    /// the next free number. The map holds hashes and no arguments, so that those are stored once.
    by_hash: HashMap<u64, StageId>,
    hasher: RandomState,
    /// Shared by all stages without attributes.
    no_attributes: Arc<Attributes>,
    /// How many different calls of one op are inside a binding, by `binding/op`.
    inner_counts: BTreeMap<String, usize>,
    /// The calls counted there.
    inner_counted: BTreeSet<(String, StageId)>,
}

impl Stages {
    pub(super) fn with_capacity(count: usize) -> Stages {
        Stages {
            stages: Vec::with_capacity(count),
            bound: Vec::with_capacity(count),
            by_hash: HashMap::with_capacity(count),
            ..Stages::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = Type> {
        self.stages.iter().map(|stage| stage.output)
    }

    /// The stage of a call: a new one, or that of an equal call.
    pub(super) fn add(
        &mut self,
        signature: &Signature,
        args: Arguments,
        scope: NameScope<'_>,
        span: Span,
    ) -> StageId {
        let mut hash = self.hasher.hash_one((signature.name, &args));
        let id = loop {
            match self.with_hash(hash) {
                None => break self.push(hash, signature, args, span),
                Some((id, stage)) if stage.op == signature.name && stage.args == args => break id,
                Some(_) => hash = hash.wrapping_add(1),
            }
        };
        if !scope.outermost {
            self.name_inner(scope.binding, signature.name, id);
        }
        id
    }

    fn with_hash(&self, hash: u64) -> Option<(StageId, &Stage)> {
        let id = *self.by_hash.get(&hash)?;
        Some((id, self.stages.get(id.0 as usize)?))
    }

    fn push(&mut self, hash: u64, signature: &Signature, args: Arguments, span: Span) -> StageId {
        let count = u32::try_from(self.stages.len())
            .expect("a workflow of at most 1 MiB has fewer than 2^32 calls");
        self.stages.push(Stage {
            name: Arc::default(),
            op: signature.name,
            args,
            attributes: Arc::clone(&self.no_attributes),
            output: signature.output,
            span,
        });
        self.bound.push(None);
        self.by_hash.insert(hash, StageId(count));
        StageId(count)
    }

    /// Names a stage after the binding that it is inside of: `base/merge`, and `base/merge.2` for a
    /// second merge there.
    fn name_inner(&mut self, binding: &str, op: &str, id: StageId) {
        let name = format!("{binding}/{op}");
        if !self.inner_counted.insert((name.clone(), id)) {
            return;
        }
        let count = self.inner_counts.entry(name.clone()).or_default();
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

    /// Names a stage after the binding whose value it is, which takes precedence over the name of a
    /// call inside another one. Returns the span of the binding that it is named after already, if
    /// there is one.
    fn name_outer(&mut self, name: &Name, id: StageId) -> Option<Span> {
        let mut alias: Arc<str> = name.text.into();
        let bound = self.bound.get_mut(id.0 as usize)?;
        let first = *bound;
        if first.is_none() {
            *bound = Some(name.span);
            // The name it had so far, if any, becomes an alias.
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

    /// The stages that no other stage uses and that are `wanted`.
    fn leaves(&self, wanted: impl Fn(&Stage) -> bool) -> Vec<StageId> {
        let mut used = vec![false; self.stages.len()];
        for value in self.stages.iter().flat_map(|stage| stage.args.values()) {
            value.each_stage(&mut |id| {
                if let Some(used) = used.get_mut(id.0 as usize) {
                    *used = true;
                }
            });
        }
        let stages = (0..).map(StageId).zip(self.stages.iter().zip(used));
        let leaves = stages.filter(|(_, (stage, used))| !used && wanted(stage));
        leaves.map(|(id, _)| id).collect()
    }
}

impl Checker<'_> {
    /// Names a stage after a binding and merges the attributes of the binding into its own.
    pub(super) fn bind_stage(
        &mut self,
        name: &Name,
        id: StageId,
        attributes: &Attributes,
        statement: &Statement,
    ) {
        let first = self.stages.name_outer(name, id);
        // `make_mut` would give the stage attributes of its own, although it needs none.
        if *attributes == Attributes::default() {
            return;
        }
        let Some(stage) = self.stages.stage_mut(id) else {
            return;
        };
        let Some(conflict) = merge(Arc::make_mut(&mut stage.attributes), attributes) else {
            return;
        };
        let message = format!(
            "`{}` and `{}` are the same stage, but have different `@{conflict}`",
            stage.name, name.text
        );
        let mut written = statement.attributes.iter();
        let attribute = written.find(|attribute| attribute.name.text == conflict);
        let span = attribute.map_or(name.span, |attribute| attribute.span);
        let mut diagnostic = Diagnostic::error(codes::BAD_ATTRIBUTE, message)
            .at(span, "different here")
            .help("equal calls run once: give them the same attributes, or only one of them");
        if let Some(first) = first {
            diagnostic = diagnostic.note(first, "the same call");
        }
        self.report(diagnostic);
    }

    /// The program of a file without errors.
    pub(super) fn into_program(self) -> Program {
        let signatures = self.signatures;
        let mut default_targets = self
            .stages
            .leaves(|stage| signatures.is_result(stage.output));
        default_targets.extend(self.exports.iter().map(|export| export.stage));
        if default_targets.is_empty() {
            default_targets = self.stages.leaves(|_| true);
        }
        default_targets.sort_unstable();
        default_targets.dedup();
        Program {
            params: self.params.into_values().collect(),
            stages: self.stages.stages,
            exports: self.exports,
            aliases: self.stages.aliases.into_iter().collect(),
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
        let scope = NameScope::value_of("a");
        let mut stages = Stages::default();
        let add = |stages: &mut Stages, number| {
            stages.add(&signature, args(number), scope, Span::new(0, 0))
        };
        let first = add(&mut stages, 1);
        // The hash of the second one is taken, and so is the next number.
        let hash = stages.hasher.hash_one(("op", &args(2)));
        stages.by_hash.insert(hash, first);
        stages.by_hash.insert(hash.wrapping_add(1), first);
        let second = add(&mut stages, 2);
        assert_eq!((first, second), (StageId(0), StageId(1)));
        assert_eq!((add(&mut stages, 1), add(&mut stages, 2)), (first, second));
    }
}
