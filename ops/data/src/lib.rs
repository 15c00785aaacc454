//! Images, texts and their files: everything about data that needs neither tensors nor the engine.

pub mod augment;
pub mod captions;
pub mod clean;
pub mod decode;
pub mod picture;
pub mod randaugment;
pub mod random;
pub mod resize;
mod sample;
pub mod scenes;
pub mod shard;
pub mod vocab;

pub use self::sample::{Caption, Sample, TextSource};
