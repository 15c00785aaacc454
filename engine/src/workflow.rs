//! A workflow: source text parsed, checked against ops, and turned into a graph.

use blip_grammar::{Diagnostic, ParamOverride, Program, Severity, Source, codes};

use crate::graph::{Graph, NodeId};
use crate::op::OpSet;

/// A workflow that can be planned and run.
#[derive(Debug)]
pub struct Workflow {
    /// Its name, for messages and the event log.
    pub name: String,
    /// What was checked.
    pub program: Program,
    /// What runs.
    pub graph: Graph,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// The ops it was checked against.
    pub ops: OpSet,
}

/// A target that the workflow does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the workflow has no stage or export `{name}`")]
pub struct UnknownTarget {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

impl Workflow {
    /// Parses and checks. `overrides` are values for params.
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
        drop(parsed.file); // for the graph to have its memory
        diagnostics.extend(checked.diagnostics);
        // Parsing and checking each end with a word on what they do not show, which has no place.
        diagnostics.sort_by_key(|diagnostic| (diagnostic.code == codes::TOO_MANY, diagnostic.span));
        let broken = diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error);
        match checked.program {
            Some(program) if !broken => {
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

    /// The stages that these names mean; without names, what the workflow wants by itself.
    ///
    /// # Errors
    /// [`UnknownTarget`].
    pub fn targets(&self, names: &[String]) -> Result<Vec<NodeId>, UnknownTarget> {
        if names.is_empty() {
            return Ok(self.graph.default_targets().to_vec());
        }
        let find = |name: &String| {
            let known = || self.graph.names().into_iter().map(str::to_owned).collect();
            self.graph.find(name).ok_or_else(|| UnknownTarget {
                name: name.clone(),
                known: known(),
            })
        };
        names.iter().map(find).collect()
    }
}
