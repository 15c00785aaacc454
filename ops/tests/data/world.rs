//! A folder with a cache and user files, and an engine with all ops.

use std::fs;
use std::path::PathBuf;

use blip_data::scenes::{CaptionStyle, Generated, generate};
use blip_data::shard::ShardWriter;
use blip_data::{Caption, Sample};
use blip_engine::dataset::{Chunk, Manifest};
use blip_engine::{
    Config, Digest, Engine, IndexKind, NumericEnv, Outcome, Resources, RunOptions, StageEnd,
    Status, Summary, Workflow,
};
use blip_grammar::Source;

/// The folder that a test works in; it is removed when the test ends.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            cache: folder.path().join("cache"),
            base: folder.path().to_path_buf(),
            index: IndexKind::Memory,
            resources: Resources {
                cpu: 2,
                gpu: 0,
                memory: 1 << 30,
            },
            env: NumericEnv { fields: Vec::new() },
        };
        Self { folder, config }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a user's file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Writes a shard of these members: key, suffix, bytes.
    pub(crate) fn shard<B: AsRef<[u8]>>(&self, name: &str, members: &[(&str, &str, B)]) {
        let mut writer = ShardWriter::new(Vec::new());
        for (key, suffix, bytes) in members {
            writer.add(key, suffix, bytes.as_ref()).unwrap();
        }
        self.write(name, writer.finish().unwrap());
    }

    /// Writes a shard of generated samples.
    pub(crate) fn shard_of(&self, name: &str, samples: &[Generated]) {
        let members: Vec<(&str, &str, &[u8])> = samples
            .iter()
            .flat_map(|sample| {
                [
                    (sample.key.as_str(), "jpg", sample.jpeg.as_slice()),
                    (sample.key.as_str(), "txt", sample.text.as_bytes()),
                ]
            })
            .collect();
        self.shard(name, &members);
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.config.clone())
    }

    pub(crate) fn workflow(&self, text: &str) -> Workflow {
        let source = Source::new("test.blip", text).unwrap();
        Workflow::parse(&source, &blip_ops::all(), &[]).unwrap_or_else(|found| panic!("{found:#?}"))
    }

    pub(crate) fn run(&self, text: &str) -> Summary {
        self.run_with(text, &RunOptions::default())
    }

    pub(crate) fn run_with(&self, text: &str, options: &RunOptions) -> Summary {
        self.engine()
            .run(&self.workflow(text), options, &mut [])
            .unwrap()
    }

    /// Runs a workflow that has to succeed.
    pub(crate) fn done(&self, text: &str) -> Summary {
        let summary = self.run(text);
        assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
        summary
    }

    /// Runs a workflow of which this stage has to fail. Returns the message and the help; the path
    /// of the test's folder is removed from the message.
    pub(crate) fn failure(&self, text: &str, stage: &str) -> (String, String) {
        let summary = self.run(text);
        let end = end(&summary, stage);
        assert_eq!(end.status, Status::Failed, "{end:#?}");
        let error = end.error.clone().unwrap();
        let here = format!("{}/", self.folder.path().display());
        (error.what.replace(&here, ""), error.help)
    }

    /// The samples of a stage's dataset, by image.
    pub(crate) fn samples(&self, summary: &Summary, stage: &str) -> Vec<(Digest, Sample)> {
        let object = |digest: &Digest| self.engine().reader().object(digest).unwrap();
        let manifest = Manifest::decode(&object(&summary.results[stage].output)).unwrap();
        let chunks = manifest
            .chunks
            .iter()
            .map(|(digest, _)| Chunk::decode(&object(digest)).unwrap());
        let items = chunks.flat_map(|chunk| chunk.items);
        items
            .map(|item| (item.id, Sample::decode(&item.payload).unwrap()))
            .collect()
    }

    /// All texts of a stage's dataset, sorted.
    pub(crate) fn texts(&self, summary: &Summary, stage: &str) -> Vec<String> {
        let samples = self.samples(summary, stage).into_iter();
        let mut texts: Vec<String> = samples
            .flat_map(|(_, sample)| sample.texts)
            .map(|Caption { text, .. }| text)
            .collect();
        texts.sort();
        texts
    }

    /// The items that a stage rejected, with reasons.
    pub(crate) fn rejected(&self, summary: &Summary, stage: &str) -> Vec<(String, String)> {
        let record = self
            .engine()
            .reader()
            .record(&summary.results[stage].key)
            .unwrap();
        record
            .rejected
            .into_iter()
            .map(|rejected| (rejected.item, rejected.reason))
            .collect()
    }

    /// A stage's result as text.
    pub(crate) fn text(&self, summary: &Summary, stage: &str) -> String {
        String::from_utf8(self.engine().read_output(summary, stage).unwrap()).unwrap()
    }
}

/// The end of a stage.
pub(crate) fn end<'a>(summary: &'a Summary, stage: &str) -> &'a StageEnd {
    summary
        .stages
        .iter()
        .find(|end| *end.stage == *stage)
        .unwrap_or_else(|| panic!("{stage} did not end"))
}

/// A list of rejected items, as a test writes it down.
pub(crate) fn list<const N: usize>(list: [(&str, &str); N]) -> Vec<(String, String)> {
    list.into_iter()
        .map(|(item, reason)| (item.to_owned(), reason.to_owned()))
        .collect()
}

/// Generated samples, all with a matching text.
pub(crate) fn scenes(split: &str, count: u64) -> Vec<Generated> {
    let texts = CaptionStyle {
        web: true,
        mismatched: 0.0,
        junk: 0.0,
    };
    (0..count)
        .map(|number| generate(7, split, number, 16, texts))
        .collect()
}
