//! A folder with a cache and files, an engine on it, and counters of what the toy ops did.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use blip_engine::{
    Config, Digest, Engine, Event, IndexKind, Listener, NumericEnv, OpSet, Outcome, Planned,
    Resources, RunOptions, StageEnd, Status, Summary, Workflow,
};
use blip_grammar::{ParamOverride, Source};

use crate::toy;

/// How often each toy op did its work, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<BTreeMap<String, u64>>>);

impl Calls {
    pub(crate) fn count(&self, what: &str) -> u64 {
        let mut calls = self.0.lock().unwrap();
        let count = calls.entry(what.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Where a test runs workflows.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) calls: Calls,
    pub(crate) ops: OpSet,
    pub(crate) config: Config,
}

/// Records every event.
#[derive(Default)]
pub(crate) struct EventRecorder(pub(crate) Vec<Event>);

impl Listener for EventRecorder {
    fn event(&mut self, _: u64, event: &Event) {
        self.0.push(event.clone());
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// On a RAM disk where there is one: for tests that create thousands of worlds.
    pub(crate) fn in_memory() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        Self::at(
            if memory.is_dir() {
                tempfile::tempdir_in(memory)
            } else {
                tempfile::tempdir()
            }
            .unwrap(),
        )
    }

    fn at(folder: tempfile::TempDir) -> Self {
        let calls = Calls::default();
        let config = Config {
            cache: folder.path().join("cache"),
            base: folder.path().to_path_buf(),
            index: IndexKind::Memory,
            resources: Resources {
                cpu: 2,
                gpu: 1,
                memory: 1 << 30,
            },
            env: NumericEnv {
                fields: vec![("threads".to_owned(), "2".to_owned())],
            },
        };
        Self {
            folder,
            ops: toy::ops(&calls),
            calls,
            config,
        }
    }

    /// Writes a file of the user.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    pub(crate) fn workflow(&self, text: &str) -> Workflow {
        self.workflow_set(text, &[])
    }

    pub(crate) fn workflow_set(&self, text: &str, overrides: &[(&str, &str)]) -> Workflow {
        let source = Source::new("toy.blip", text).unwrap();
        let param_override = |(name, value): &(&str, &str)| ParamOverride {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let overrides: Vec<ParamOverride> = overrides.iter().map(param_override).collect();
        Workflow::parse(&source, &self.ops, &overrides)
            .unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.config.clone())
    }

    /// Runs as `blip run` does, with prefetch.
    pub(crate) fn run_with(&self, text: &str, options: &RunOptions) -> (Summary, Vec<Event>) {
        let mut recorder = EventRecorder::default();
        let engine = self.engine();
        let prefetch = options
            .prefetch
            .clone()
            .or_else(|| Some(engine.prefetch("toy.blip")));
        let options = RunOptions {
            prefetch,
            ..options.clone()
        };
        let summary = engine
            .run(&self.workflow(text), &options, &mut [&mut recorder])
            .unwrap();
        (summary, recorder.0)
    }

    /// Runs a workflow after resetting the counters.
    pub(crate) fn run(&self, text: &str) -> Summary {
        self.calls.take();
        self.run_with(text, &RunOptions::default()).0
    }

    /// Runs a workflow that has to succeed and returns the counters.
    pub(crate) fn calls_of(&self, text: &str) -> BTreeMap<String, u64> {
        let summary = self.run(text);
        assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
        self.calls.take()
    }

    pub(crate) fn plan(&self, text: &str) -> Vec<Planned> {
        self.engine().plan(&self.workflow(text), &[]).unwrap()
    }

    pub(crate) fn object_path(&self, digest: &Digest) -> PathBuf {
        self.sharded_path("objects", digest)
    }

    pub(crate) fn record_path(&self, key: &Digest) -> PathBuf {
        self.sharded_path("results", key)
    }

    fn sharded_path(&self, folder: &str, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.config.cache.join(folder).join(&name[..2]).join(&name)
    }

    /// A stage's result as text.
    pub(crate) fn text(&self, summary: &Summary, stage: &str) -> String {
        String::from_utf8(self.engine().read_output(summary, stage).unwrap()).unwrap()
    }
}

/// The texts of all warnings.
pub(crate) fn warnings(events: Vec<Event>) -> Vec<String> {
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Warning { text, .. } => Some(text),
            _ => None,
        })
        .collect()
}

/// How a stage ended.
pub(crate) fn end<'a>(summary: &'a Summary, stage: &str) -> &'a StageEnd {
    summary
        .stages
        .iter()
        .find(|end| *end.stage == *stage)
        .unwrap_or_else(|| panic!("{stage} did not end"))
}

pub(crate) fn status(summary: &Summary, stage: &str) -> Status {
    end(summary, stage).status
}

/// Counters, as a test writes them.
pub(crate) fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
