//! BLIP on libtorch: the multimodal mixture of encoder-decoder (MED, paper section 3.1), its
//! losses, its decoding.
//!
//! The reading order: [`config`] says what sizes there are, [`tensors`] lists every tensor of a
//! model by its Hugging Face name, [`weights`] holds them, [`vision`] and [`text`] compute with
//! them, [`med`] puts them together, [`loss`] and [`pretrain`] train them, [`generate`] writes
//! captions. Nothing here knows datasets, files of users, or the engine.

pub mod config;
pub mod device;
pub mod generate;
pub mod huggingface;
pub mod layers;
pub mod loss;
pub mod med;
pub mod optimizer;
pub mod pretrain;
pub mod pth;
mod resnet;
pub mod schedule;
pub mod store;
pub mod tensors;
pub mod text;
pub mod vision;
mod vit;
pub mod weights;

pub use self::config::{MedConfig, TextConfig, VisionConfig};
pub use self::layers::Pass;
pub use self::med::Med;
pub use self::tensors::Role;
pub use self::weights::Weights;
