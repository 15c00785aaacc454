//! A workflow: source text parsed, checked against ops, and turned into a graph.

use std::path::Path;

use blip_grammar::{Diagnostic, ParamOverride, Program, Severity, Source, codes};

use crate::graph::{Graph, NodeId};
use crate::op::OpSet;

/// A workflow that can be planned and run.
#[derive(Debug)]
pub struct Workflow {
    /// Names the workflow in messages and event logs, and its ledger.
    pub name: String,
    pub program: Program,
    pub graph: Graph,
    /// Warnings only: a workflow with errors cannot be made.
    pub diagnostics: Vec<Diagnostic>,
    /// The ops it was checked against.
    pub ops: OpSet,
}

/// A target that the workflow does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no stage or export named `{name}`")]
pub struct UnknownTarget {
    pub name: String,
    /// The names that the workflow has.
    pub known: Vec<String>,
}

impl Workflow {
    /// Parses and checks `source`. `overrides` are values for params.
    ///
    /// # Errors
    /// All diagnostics, errors and warnings, in the order of the file.
    pub fn parse(
        source: &Source,
        ops: &OpSet,
        overrides: &[ParamOverride],
    ) -> Result<Self, Vec<Diagnostic>> {
        let signatures = ops
            .signatures()
            .expect("the declarations of ops are right: a test walks them");
        let parsed = blip_grammar::parse(source);
        let mut diagnostics = parsed.diagnostics;
        let checked = blip_grammar::check(&parsed.file, source, &signatures, overrides);
        // Before the graph is built: for a hundred thousand stages both are large.
        drop(parsed.file);
        diagnostics.extend(checked.diagnostics);
        // Parsing and checking each end with a note on how many diagnostics they left out: last.
        diagnostics.sort_by_key(|diagnostic| (diagnostic.code == codes::TOO_MANY, diagnostic.span));
        let has_errors = diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error);
        match checked.program {
            Some(program) if !has_errors => {
                let graph = Graph::new(&program, ops);
                Ok(Self {
                    name: source.name().to_owned(),
                    program,
                    graph,
                    diagnostics,
                    ops: ops.clone(),
                })
            }
            _ => Err(diagnostics),
        }
    }

    /// Errors of export paths that lead into the cache, to files that the workflow reads, or to
    /// where another export writes. `files` are others that no export may replace, each with what
    /// it is. All depend on where the workflow and its cache are, which [`Workflow::parse`] does
    /// not know.
    pub fn check_export_paths(
        &self,
        base: &Path,
        cache: &Path,
        files: &[(&Path, &str)],
    ) -> Vec<Diagnostic> {
        crate::export::paths::check(&self.graph, base, cache, files)
    }

    /// The stages with these names; without names, the default targets.
    ///
    /// # Errors
    /// [`UnknownTarget`].
    pub fn targets(&self, names: &[String]) -> Result<Vec<NodeId>, UnknownTarget> {
        if names.is_empty() {
            return Ok(self.graph.default_targets().to_vec());
        }
        names.iter().map(|name| self.find_target(name)).collect()
    }

    fn find_target(&self, name: &str) -> Result<NodeId, UnknownTarget> {
        self.graph.find(name).ok_or_else(|| {
            let known = self.graph.names();
            UnknownTarget {
                name: name.to_owned(),
                known: known.into_iter().map(str::to_owned).collect(),
            }
        })
    }
}
