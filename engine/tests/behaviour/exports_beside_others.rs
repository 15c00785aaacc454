//! Exports while something else happens to their files: other runs, people, other disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::publish::Destination;
use blip_engine::{Config, Engine, Event, Outcome, RunOptions};

use crate::exports::{EXPORT, failed_export, files, overwrite};
use crate::world::{EventRecorder, World};

/// A disk on which another process exports the moment the folder of the export is listed.
struct ExportedMeanwhile {
    out: PathBuf,
    exported: PathBuf,
}

impl Hook for ExportedMeanwhile {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::Proceed
    }

    fn after(&self, _: Syscall, _: &Path) {}

    fn before_read(&self, path: &Path) -> std::io::Result<()> {
        if path == self.out && self.exported.exists() {
            fs::rename(&self.exported, &self.out)?;
        }
        Ok(())
    }
}

#[test]
fn what_another_process_exports_at_the_same_time_is_not_in_the_way() {
    let world = World::new();
    world.run(EXPORT);
    let folder = world.folder.path().canonicalize().unwrap();
    let (out, exported) = (folder.join("out"), folder.join("exported"));
    fs::rename(&out, &exported).unwrap();
    let disk = Disk::with_hook(Arc::new(ExportedMeanwhile {
        out,
        exported: exported.clone(),
    }));
    let engine = world.engine().with_disk(disk);
    let run = engine.run(&world.workflow(EXPORT), &RunOptions::default(), &mut []);
    assert_eq!(run.unwrap().outcome, Outcome::Done);
    assert!(!exported.exists(), "it came in between");
    assert_eq!(world.read("out/b.txt"), "HELLO");
}

/// The cache is on a RAM disk where there is one.
#[test]
fn exports_go_to_another_file_system_than_the_caches() {
    let (world, other) = (World::new(), World::in_memory());
    let config = Config {
        cache: other.folder.path().join("elsewhere"),
        ..world.config.clone()
    };
    let engine = Engine::new(config);
    for expected in [true, false] {
        let mut recorder = EventRecorder::default();
        let workflow = world.workflow(EXPORT);
        let run = engine.run(&workflow, &RunOptions::default(), &mut [&mut recorder]);
        assert_eq!(run.unwrap().outcome, Outcome::Done);
        let is_written = recorder.0.iter().find_map(|event| match event {
            Event::Exported { written, .. } => Some(*written),
            _ => None,
        });
        assert_eq!(is_written, Some(expected));
    }
    assert_eq!(world.read("out/b.txt"), "HELLO");
}

/// A disk on which the files of an export take long to sync.
struct SlowDisk;

impl Hook for SlowDisk {
    fn before(&self, call: Syscall, path: &Path) -> FaultAction {
        let is_export = path.components().any(|part| part.as_os_str() == "out");
        if is_export && call == Syscall::SyncFile {
            std::thread::sleep(Duration::from_millis(30));
        }
        FaultAction::Proceed
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

/// Each run of a cache of its own, so that no lease in a cache keeps them apart.
#[test]
fn runs_with_different_caches_that_export_to_one_path_write_it_one_after_the_other() {
    let world = World::new();
    let texts = ["one", "two", "six"];
    let run = |number: usize| {
        let config = Config {
            cache: world.folder.path().join(format!("cache-{number}")),
            ..world.config.clone()
        };
        let engine = Engine::new(config).with_disk(Disk::with_hook(Arc::new(SlowDisk)));
        let text = format!(
            "a = text({:?})\nexport a as txt \"out/a.txt\"\n",
            texts[number]
        );
        let run = engine.run(&world.workflow(&text), &RunOptions::default(), &mut []);
        run.unwrap().outcome
    };
    for round in 0..5 {
        std::thread::scope(|scope| {
            let runs = (0..3).map(|number| scope.spawn(move || run(number)));
            let runs: Vec<_> = runs.collect();
            for run in runs {
                assert_eq!(run.join().unwrap(), Outcome::Done, "round {round}");
            }
        });
        assert!(
            texts.contains(&world.read("out/a.txt").as_str()),
            "round {round}"
        );
        assert_eq!(run(1), Outcome::Done);
        assert_eq!(world.read("out/a.txt"), "two", "round {round}");
        assert_eq!(files(&world.folder.path().join("out")), ["a.txt"]);
    }
}

/// Fails every call that changes the folder of exports.
struct ReadOnlyOutput;

impl Hook for ReadOnlyOutput {
    fn before(&self, _: Syscall, path: &Path) -> FaultAction {
        if path.components().any(|part| part.as_os_str() == "out") {
            FaultAction::Fail(std::io::Error::from_raw_os_error(30))
        } else {
            FaultAction::Proceed
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

#[test]
fn an_export_that_is_up_to_date_writes_nothing() {
    let world = World::new();
    world.run(EXPORT);
    let engine = world
        .engine()
        .with_disk(Disk::with_hook(Arc::new(ReadOnlyOutput)));
    let run = engine.run(&world.workflow(EXPORT), &RunOptions::default(), &mut []);
    assert_eq!(run.unwrap().outcome, Outcome::Done);
}

/// A user who edits an exported file the moment the new receipt is there.
struct EditedMeanwhile(PathBuf);

impl Hook for EditedMeanwhile {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::Proceed
    }

    fn after(&self, call: Syscall, path: &Path) {
        if call == Syscall::Rename && path.ends_with(".b.txt.blip-export") {
            fs::write(&self.0, "edited by hand").unwrap();
        }
    }
}

#[test]
fn an_edit_during_an_export_is_not_lost() {
    let world = World::new();
    world.run(EXPORT);
    let file = world.folder.path().join("out/b.txt");
    let disk = Disk::with_hook(Arc::new(EditedMeanwhile(file.clone())));
    let engine = world.engine().with_disk(disk);
    let mut recorder = EventRecorder::default();
    let workflow = world.workflow(&EXPORT.replace("hello", "other"));
    let run = engine.run(&workflow, &RunOptions::default(), &mut [&mut recorder]);
    assert_eq!(run.unwrap().outcome, Outcome::Failed);
    let path = file.canonicalize().unwrap();
    assert_eq!(
        failed_export(recorder.0).what,
        format!("{} was changed while it was exported", path.display())
    );
    assert_eq!(world.read("out/b.txt"), "edited by hand");
}

#[test]
fn no_export_replaces_what_the_workflow_reads() {
    let world = World::new();
    fs::create_dir(world.folder.path().join("out")).unwrap();
    world.write("out/in.txt", "hello");
    world.write("copy.txt", "hello");
    let text = "a = join(file(\"out/in.txt\"), upper(file(\"copy.txt\")))\n\
                export a as txt \"out/in.txt\"\n";
    let engine = world.engine();
    let mut recorder = EventRecorder::default();
    let run = engine.run(&world.workflow(text), &overwrite(), &mut [&mut recorder]);
    assert_eq!(run.unwrap().outcome, Outcome::Failed);
    let path = world.folder.path().join("out/in.txt");
    let path = path.canonicalize().unwrap();
    assert_eq!(
        failed_export(recorder.0).what,
        format!("{} is a file that the workflow reads", path.display())
    );
    assert_eq!(world.read("out/in.txt"), "hello");
}

#[test]
fn a_run_waits_for_another_export_unless_it_is_not_to_or_is_stopped() {
    let world = World::new();
    let path = world.folder.path().join("out/b.txt");
    let destination = Destination::of(&path).unwrap();
    let held = destination.stage(&Disk::default(), || true).unwrap();
    let workflow = world.workflow(EXPORT);
    let run = |options: &RunOptions| world.engine().run(&workflow, options, &mut []).unwrap();
    let impatient = RunOptions {
        no_wait: true,
        ..RunOptions::default()
    };
    let summary = run(&impatient);
    assert_eq!((summary.outcome, summary.is_busy), (Outcome::Failed, true));
    let stopped = RunOptions::default();
    let stop = stopped.stop.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.request();
        });
        assert_eq!(run(&stopped).outcome, Outcome::Interrupted);
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&RunOptions::default()).outcome);
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        assert_eq!(waiting.join().unwrap(), Outcome::Done);
    });
    assert_eq!(world.read("out/b.txt"), "HELLO");
}
