//! A training that is stopped after any step and resumed ends in the bytes of one that was never
//! stopped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use blip_engine::{
    CacheReader, Config, Engine, Event, IndexKind, Listener, NumericEnv, Outcome, Resources,
    RunOptions, StopSignal, Summary, Workflow,
};
use blip_grammar::Source;

/// Twenty steps of two parts each, four epochs, dropout, crops, flips, a queue that a step does not
/// divide, and after that the two finetunings.
const WORKFLOW: &str = r#"
pairs  = read.scenes("human", count = 40, style = "human", side = 16, seed = 1)
vision = vit.custom(image = 16, patch = 8, width = 16, depth = 1, heads = 2, drop_path = 0.1)
text   = bert.custom(width = 16, depth = 1, heads = 2, positions = 32)
net    = med(vision, text, learn.wordpiece(pairs, size = 100), embed = 8)
base   = pretrain(net, pairs, epochs = 4, batch = 8, accumulate = 2, lr = 1e-3, warmup = 3,
                  queue = 13, seed = 7)
writer = finetune_captioner(base, pairs, epochs = 2, batch = 16, accumulate = 3, lr = 1e-3,
                            seed = 7)
judge  = finetune_filter(base, pairs, epochs = 2, batch = 16, lr = 1e-3, queue = 13, seed = 7)
"#;

/// Requests a stop at this step of a stage; the stage ends at that step or one or two later.
struct StopAfter {
    stage: &'static str,
    steps: u64,
    stop: StopSignal,
}

impl Listener for StopAfter {
    fn event(&mut self, _: u64, event: &Event) {
        // In trainings as short as these every step is a point of the curve.
        if let Event::Metric { stage, step, .. } = event
            && **stage == *self.stage
            && *step >= self.steps
        {
            self.stop.request();
        }
    }
}

fn run(cache: &Path, stop: Option<(&'static str, u64)>) -> Summary {
    run_text(WORKFLOW, cache, stop)
}

fn run_text(text: &str, cache: &Path, stop: Option<(&'static str, u64)>) -> Summary {
    let source = Source::new("training", text).unwrap();
    let workflow = Workflow::parse(&source, &blip_ops::all(), &[]).unwrap();
    let config = Config {
        cache: cache.to_path_buf(),
        base: cache.to_path_buf(),
        index: IndexKind::Memory,
        resources: Resources {
            cpu: 1,
            gpu: 0,
            memory: 1 << 30,
        },
        env: NumericEnv { fields: Vec::new() },
    };
    let options = RunOptions {
        stop: StopSignal::default(),
        ..RunOptions::default()
    };
    let mut listener = stop.map(|(stage, steps)| StopAfter {
        stage,
        steps,
        stop: options.stop.clone(),
    });
    let mut listeners: Vec<&mut dyn Listener> = Vec::new();
    listeners.extend(
        listener
            .as_mut()
            .map(|listener| listener as &mut dyn Listener),
    );
    Engine::new(config)
        .run(&workflow, &options, &mut listeners)
        .unwrap()
}

#[test]
fn a_training_that_was_stopped_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let straight = run(&folder.path().join("straight"), None);
    assert_eq!(straight.outcome, Outcome::Done);
    let outputs = |summary: &Summary| {
        let outputs = summary
            .results
            .iter()
            .map(|(stage, result)| (stage.clone(), result.output));
        outputs.collect::<Vec<_>>()
    };
    assert_eq!(
        outputs(&run(&folder.path().join("again"), None)),
        outputs(&straight),
        "twice the same"
    );
    let (mut stopped, mut continued) = (0_u32, 0_u32);
    for (stage, steps) in [("base", 20), ("writer", 4), ("judge", 4)] {
        for step in 1..steps {
            let cache = folder.path().join(format!("{stage}-{step}"));
            let was_stopped = run(&cache, Some((stage, step))).outcome == Outcome::Interrupted;
            let resumed = run(&cache, None);
            stopped += u32::from(was_stopped);
            // The stop may have come after the stage's last step.
            if let Some(from) = resumed_at(&cache, &resumed, stage) {
                assert!((step..=steps).contains(&from), "{from} after {step}");
                continued += 1;
            }
            assert_eq!(
                outputs(&resumed),
                outputs(&straight),
                "{stage} stopped at step {step}"
            );
            assert_eq!(
                curves(&cache, &resumed, stage),
                curves(&folder.path().join("straight"), &straight, stage)
            );
        }
    }
    assert!(
        stopped > 0 && continued > 0,
        "no run was stopped in the middle"
    );
}

/// The step that a training went on from, by the run's log.
fn resumed_at(cache: &Path, summary: &Summary, resumed: &str) -> Option<u64> {
    let log = CacheReader::new(cache).log(&summary.run).unwrap();
    let mut found = log.events.iter().filter_map(|entry| match &entry.event {
        Event::Resumed { stage, done, .. } if **stage == *resumed => Some(*done),
        _ => None,
    });
    found.next()
}

/// The curves that a training left as a side output.
fn curves(cache: &Path, summary: &Summary, stage: &str) -> Vec<u8> {
    let (_, digest) = summary.results[stage]
        .side_outputs
        .iter()
        .find(|(name, _)| name == "curves")
        .unwrap();
    CacheReader::new(cache).object(digest).unwrap()
}

#[test]
fn a_longer_training_continues_a_shorter_one() {
    let folder = tempfile::tempdir().unwrap();
    let shorter = WORKFLOW.replace(
        "base   = pretrain(net, pairs, epochs = 4",
        "base   = pretrain(net, pairs, epochs = 1",
    );
    let (warm_start, straight) = (
        folder.path().join("warm_start"),
        folder.path().join("straight"),
    );
    run_text(&shorter, &warm_start, None);
    let longer = run(&warm_start, None);
    let end = longer
        .stages
        .iter()
        .find(|end| &*end.stage == "base")
        .unwrap();
    assert_eq!(*end.notes, ["resumed from epochs = 1"]);
    let at_once = run(&straight, None);
    assert_eq!(
        longer.results["base"].output,
        at_once.results["base"].output
    );
    assert_eq!(
        curves(&warm_start, &longer, "base"),
        curves(&straight, &at_once, "base")
    );
}

#[test]
fn more_captions_per_image_generate_only_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let text = |count: u32| {
        format!(
            "{WORKFLOW}texts = caption(writer, pairs, per_image = {count}, decode = \
             nucleus(max_length = 20))\n"
        )
    };
    let target = |text: &str, cache: &str| {
        run_text(
            &format!("{text}both = merge(texts, pairs)\n"),
            &folder.path().join(cache),
            None,
        )
    };
    target(&text(1), "warm_start");
    let warm_start = target(&text(3), "warm_start");
    let units = warm_start
        .stages
        .iter()
        .find(|end| &*end.stage == "texts")
        .unwrap()
        .units
        .as_ref()
        .unwrap();
    assert_eq!((units.total, units.computed), (120, 80));
    let at_once = target(&text(3), "at-once");
    assert_eq!(
        warm_start.results["texts"].output,
        at_once.results["texts"].output
    );
}
