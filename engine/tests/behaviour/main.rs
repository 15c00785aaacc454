//! The behaviour of the engine, tested with toy ops whose calls are counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corruption;
mod crashes;
mod explaining;
mod exports;
mod exports_beside_others;
mod failures;
mod formats;
mod incremental;
mod isolation;
mod locking;
mod maps;
mod network;
mod power;
mod random;
mod reads;
mod reuse;
mod scene;
mod sources;
mod space;
mod toy;
mod training;
mod verification;
mod world;
