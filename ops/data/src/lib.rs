//! Images, captions and their files: everything about data that needs neither tensors nor the
//! engine.

pub mod augment;
pub mod captions;
pub mod clean;
pub mod decode;
mod file_kind;
mod json;
pub mod plot;
pub mod randaugment;
pub mod resize;
pub mod rng;
mod sample;
pub mod scenes;
pub mod shard;
pub mod vocab;

pub use self::sample::{Caption, Sample, TextSource};
