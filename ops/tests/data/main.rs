//! The ops as a user meets them: workflows run on real files, with the exact messages of what goes
//! wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod captions;
mod checkpoints;
mod declarations;
mod exports;
mod merging;
mod models;
mod named_parts;
mod replaced_inputs;
mod scenes;
mod splitting;
mod trainings;
mod vocabularies;
mod webdataset;
mod world;
