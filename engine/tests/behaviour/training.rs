//! Training stages: stopped and resumed from a checkpoint, they give the bytes of an uninterrupted
//! run.

use blip_engine::{Event, Listener, Outcome, RunOptions, Status, StopSignal};

use crate::world::{World, counts, status};

const TRAIN: &str = "@checkpoint(every = 10) t = train(text(\"data\"), steps = 100)\n";

/// Stops the run at a step.
pub(crate) struct StopAt(pub(crate) u64, pub(crate) StopSignal);

impl Listener for StopAt {
    fn event(&mut self, _: u64, event: &Event) {
        if matches!(event, Event::Metric { step, .. } if *step >= self.0) {
            self.1.request();
        }
    }
}

#[test]
fn an_interrupted_stage_resumes_from_its_checkpoint() {
    let clean = World::new();
    let undisturbed = clean.run(TRAIN);
    let world = World::new();
    for at in [20, 50] {
        let options = RunOptions::default();
        let mut stop = StopAt(at, options.stop.clone());
        let summary = world
            .engine()
            .run(&world.workflow(TRAIN), &options, &mut [&mut stop])
            .unwrap();
        if summary.outcome == Outcome::Done {
            break;
        }
        assert_eq!(status(&summary, "t"), Status::Interrupted);
        assert!(
            world
                .calls
                .take()
                .get("step")
                .is_some_and(|steps| *steps >= 1)
        );
    }
    let summary = world.run(TRAIN);
    assert_eq!(summary.outcome, Outcome::Done);
    assert!(
        world
            .calls
            .take()
            .get("step")
            .is_none_or(|steps| *steps < 100)
    );
    assert_eq!(world.text(&summary, "t"), clean.text(&undisturbed, "t"));
    let left = crate::corruption::files(&world.config.cache.join("checkpoints"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn curves_are_a_side_output() {
    let world = World::new();
    let summary = world.run(TRAIN);
    assert_eq!(world.calls.take(), counts([("text", 1), ("step", 100)]));
    let record = summary.results.get("t").unwrap();
    let (_, digest) = record
        .side_outputs
        .iter()
        .find(|(name, _)| name == "curves")
        .unwrap();
    let bytes = world.engine().reader().object(digest).unwrap();
    let curves: Vec<(u64, Vec<(String, f64)>)> = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(curves.len(), 100);
    assert_eq!(curves[1], (2, vec![("loss".to_owned(), 0.5)]));
}
