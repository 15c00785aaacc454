//! Every workflow in `workflows/` is valid, formatted, and can be planned.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use blip_engine::{Config, Engine, IndexKind, Resources, Workflow};
use blip_grammar::{Source, format, parse};

fn workflow_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_workflow(path))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn is_workflow(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension == "blip") && path.is_file()
}

fn read(path: &Path) -> Source {
    Source::from_bytes(path.display().to_string(), fs::read(path).unwrap()).unwrap()
}

fn check(source: &Source) -> Workflow {
    Workflow::parse(source, &blip_ops::all(), &[]).unwrap_or_else(|diagnostics| {
        let texts: Vec<String> = diagnostics
            .iter()
            .map(|diagnostic| diagnostic.display(source).to_string())
            .collect();
        panic!("{}", texts.join("\n"))
    })
}

#[test]
fn workflows_are_valid_and_formatted() {
    for path in workflow_files() {
        let source = read(&path);
        assert!(check(&source).graph.ids().count() > 0);
        let formatted = format(&parse(&source).file, &source);
        assert_eq!(
            formatted,
            source.text(),
            "{}: run `blip fmt`",
            path.display()
        );
    }
}

/// The data of some workflows is not in the repository. Their plans say that it is missing, and
/// still cover every stage.
#[test]
fn workflows_can_be_planned() {
    for path in workflow_files() {
        let workflow = check(&read(&path));
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
            env: blip_ops::numeric_env().unwrap(),
        });
        let plan = engine.plan(&workflow, &[]).unwrap();
        let stages = workflow.graph.closure(workflow.graph.default_targets());
        assert_eq!(plan.len(), stages.len(), "{}", path.display());
    }
}
