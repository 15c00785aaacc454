//! The whole bootstrap with real shards, through the binary: what runs again after a change, what
//! does not, and what a kill leaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use blip_data::rng::Rng;
use blip_data::shard::{self, RawSample, ShardWriter};
use serde_json::Value;

const WORKFLOW: &str = include_str!("bootstrap/bootstrap.blip");
const MAKE: &str = include_str!("bootstrap/make.blip");

/// A folder with generated shards and the workflow.
struct World {
    folder: tempfile::TempDir,
}

/// What a run did, from its events.
struct RunResult {
    success: bool,
    stages: BTreeMap<String, Value>,
}

impl World {
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.write("make.blip", MAKE);
        world.write("bootstrap.blip", WORKFLOW);
        let output = world
            .command("make.blip", "make-cache", &[])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, workflow: &str, cache: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blip"));
        command
            .arg("run")
            .arg(self.path(workflow))
            .arg("--cache")
            .arg(self.path(cache))
            .args(["--format", "json"]);
        // One thread: tests run in parallel, and OpenMP's threads wait for each other by spinning.
        command
            .args(more)
            .env("BLIP_THREADS", "1")
            .stdin(Stdio::null());
        command
    }

    fn run_file(&self, workflow: &str, cache: &str, more: &[&str]) -> RunResult {
        let output = self.command(workflow, cache, more).output().unwrap();
        let mut stages = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["event"] == "stage_finished" {
                stages.insert(event["stage"].as_str().unwrap().to_owned(), event);
            }
        }
        RunResult {
            success: output.status.success(),
            stages,
        }
    }

    fn run(&self, more: &[&str]) -> RunResult {
        self.run_file("bootstrap.blip", "cache", more)
    }

    fn samples(&self) -> Vec<RawSample> {
        let mut samples = Vec::new();
        for path in self.shards() {
            shard::read(fs::File::open(&path).unwrap(), |sample| {
                samples.push(sample.unwrap());
                Ok::<(), ()>(())
            })
            .unwrap()
            .unwrap();
        }
        samples
    }

    fn shards(&self) -> Vec<PathBuf> {
        let mut shards: Vec<PathBuf> = fs::read_dir(self.path("shards"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "tar"))
            .collect();
        shards.sort();
        shards
    }

    /// Replaces the shards by others of these samples, `size` each, in this order.
    fn pack(&self, samples: &[RawSample], size: usize) {
        fs::remove_dir_all(self.path("shards")).unwrap();
        fs::create_dir(self.path("shards")).unwrap();
        for (number, part) in samples.chunks(size).enumerate() {
            let file = fs::File::create(self.path(&format!("shards/{number:03}.tar"))).unwrap();
            let mut writer = ShardWriter::new(BufWriter::new(file));
            for sample in part {
                writer.add(&sample.key, "jpg", &sample.image).unwrap();
                writer
                    .add(&sample.key, "txt", sample.text.as_bytes())
                    .unwrap();
                writer
                    .add(
                        &sample.key,
                        "json",
                        sample.json.as_ref().unwrap().to_string().as_bytes(),
                    )
                    .unwrap();
            }
            writer.finish().unwrap();
        }
    }
}

impl RunResult {
    /// The stages that ran, by name.
    fn ran(&self) -> Vec<&str> {
        let ran = self
            .stages
            .iter()
            .filter(|(_, stage)| stage["status"] == "ran");
        ran.map(|(name, _)| name.as_str()).collect()
    }

    fn computed(&self, stage: &str) -> u64 {
        self.stages[stage]["units"]["computed"].as_u64().unwrap()
    }

    /// The digests of the results of all stages.
    fn outputs(&self) -> BTreeMap<&str, &str> {
        let outputs = self
            .stages
            .iter()
            .map(|(name, stage)| (name.as_str(), stage["output"].as_str().unwrap_or("none")));
        outputs.collect()
    }
}

/// The files of a folder, by name. Receipts hold times.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_none_or(|end| end != "blip-export"))
        .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn nothing_runs_twice() {
    let world = World::new();
    let first = world.run(&[]);
    assert!(first.success);
    assert_eq!(first.stages.len(), first.ran().len());
    assert_eq!(world.run(&[]).ran(), [""; 0], "the same run again");

    // The form of a workflow is not part of keys: names, order and comments.
    let mut statements: Vec<&str> = WORKFLOW.split("\n\n").collect();
    statements.reverse();
    let other = statements
        .join("\n\n# a comment\n\n")
        .replace("kept ", "good  ")
        .replace("(kept", "(good");
    world.write("other.blip", &other.replace("judge", "the_filter"));
    assert_eq!(
        world.run_file("other.blip", "cache", &[]).ran(),
        [""; 0],
        "renamed, reordered, with comments"
    );
    let formatted = Command::new(env!("CARGO_BIN_EXE_blip"))
        .arg("fmt")
        .arg(world.path("other.blip"))
        .output()
        .unwrap();
    assert!(formatted.status.success());
    assert_eq!(
        world.run_file("other.blip", "cache", &[]).ran(),
        [""; 0],
        "formatted"
    );

    fs::remove_dir_all(world.path("cache/index")).unwrap();
    assert_eq!(world.run(&[]).ran(), [""; 0], "the index is lost");

    let changed = world.run(&["--set", "threshold=0.4"]);
    for stage in changed.ran() {
        assert!(
            ["kept", "bootstrap", "final", "quality"].contains(&stage),
            "{stage} ran because of the threshold"
        );
    }
    assert!(changed.ran().contains(&"kept"));

    // The same samples in shards of another size and order: they are read again, and nothing
    // downstream runs.
    let mut samples = world.samples();
    samples.reverse();
    world.pack(&samples, 7);
    let repacked = world.run(&[]);
    assert_eq!(repacked.ran(), ["crawl"]);
    assert_eq!(repacked.outputs(), first.outputs());
}

#[test]
fn only_a_replaced_image_is_recomputed() {
    let world = World::new();
    let first = world.run(&[]);
    let mut samples = world.samples();
    let replaced = samples.len() / 2;
    samples[replaced].image = unseen_image();
    world.pack(&samples, 15);
    let second = world.run(&[]);
    assert_eq!(second.computed("synthetic"), 1);
    let scored = second.computed("kept/score");
    assert!(
        (1..=2).contains(&scored),
        "one web text and at most one synthetic one, but {scored} were scored"
    );
    for stage in ["base", "captioner", "judge"] {
        assert_eq!(second.stages[stage]["status"], "reused", "{stage}");
    }
    assert_ne!(second.outputs()["synthetic"], first.outputs()["synthetic"]);
    let clean = world.run_file("bootstrap.blip", "clean-cache", &[]);
    assert_eq!(second.outputs(), clean.outputs());
}

/// An image that is in no other split.
fn unseen_image() -> Vec<u8> {
    let texts = blip_data::scenes::CaptionStyle {
        web: true,
        mismatched: 0.0,
        junk: 0.0,
    };
    blip_data::scenes::generate(99, "elsewhere", 0, 16, texts).jpeg
}

#[test]
fn a_run_killed_at_any_moment_ends_in_the_same_results() {
    let world = World::new();
    let clean = world.run_file("bootstrap.blip", "clean-cache", &[]);
    let exported = files(&world.path("out"));
    let mut random = Rng::new(&[20]);
    let mut kills = 0;
    for round in 0.. {
        let cache = format!("cache-{round}");
        while kills < 20 {
            let mut child = world
                .command("bootstrap.blip", &cache, &[])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(random.index(2500) as u64));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            kills += 1;
        }
        let resumed = world.run_file("bootstrap.blip", &cache, &[]);
        assert!(resumed.success);
        assert_eq!(resumed.outputs(), clean.outputs(), "after {kills} kills");
        assert_eq!(files(&world.path("out")), exported, "after {kills} kills");
        if kills == 20 {
            break;
        }
    }
}
