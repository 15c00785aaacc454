//! BLIP on libtorch: the multimodal mixture of encoder-decoder (MED, paper section 3.1), its
//! losses and its decoding.
//!
//! Reading order: [`config`] has the sizes, [`tensors`] lists every tensor of a model under its
//! Hugging Face name, [`weights`] stores them, [`vision`] and [`text`] compute with them, [`med`]
//! joins the two, [`loss`] and [`pretrain`] train the result, [`generate`] decodes captions.
//! Nothing here knows datasets, user files or the engine.

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
pub use self::layers::ForwardMode;
pub use self::med::Med;
pub use self::tensors::Role;
pub use self::weights::Weights;
