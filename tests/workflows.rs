//! Every workflow in `workflows/` checks, is in the standard layout, and can be planned.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use blip_engine::{Config, Engine, IndexKind, Resources, Workflow};
use blip_grammar::{Source, format, parse};

/// All of them, in order.
fn workflows() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "blip")
                && path.is_file()
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn source(path: &Path) -> Source {
    Source::from_bytes(path.display().to_string(), fs::read(path).unwrap()).unwrap()
}

fn workflow(source: &Source) -> Workflow {
    let shown = |diagnostics: &[blip_grammar::Diagnostic]| {
        diagnostics
            .iter()
            .map(|diagnostic| diagnostic.display(source).to_string())
            .collect::<Vec<_>>()
            .join("\n")
    };
    Workflow::parse(source, &blip_ops::all(), &[])
        .unwrap_or_else(|found| panic!("{}", shown(&found)))
}

#[test]
fn they_check_and_are_in_the_standard_layout() {
    for path in workflows() {
        let source = source(&path);
        assert!(workflow(&source).graph.ids().count() > 0);
        assert_eq!(
            format(&parse(&source).file, &source),
            source.text(),
            "{}: run `blip fmt`",
            path.display()
        );
    }
}

/// Files that only a user with the data has are missing here: what reads them cannot run, and the
/// plan says so.
#[test]
fn they_can_be_planned() {
    for path in workflows() {
        let workflow = workflow(&source(&path));
        let cache = tempfile::tempdir().unwrap();
        let engine = Engine::new(Config {
            cache: cache.path().to_path_buf(),
            base: path.parent().unwrap().to_path_buf(),
            index: IndexKind::Memory,
            resources: Resources {
                cpu: 1,
                gpu: 0,
                memory: 1 << 30,
            },
            env: blip_ops::numeric_env(),
        });
        let plan = engine.plan(&workflow, &[]).unwrap();
        let wanted = workflow.graph.closure(workflow.graph.default_targets());
        assert_eq!(plan.len(), wanted.len(), "{}", path.display());
    }
}
