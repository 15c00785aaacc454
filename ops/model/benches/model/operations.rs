//! How many floating-point operations a work needs at least.
//!
//! A product of an (n, k) with a (k, m) matrix counts 2 n k m. Counted are the linear layers and
//! the two products of attention, over what a token may see; not the norms, activations, softmax,
//! the space in which images and texts are compared, and the optimizer. With T image tokens of
//! width V, texts of width W, MLPs of M features and D layers:
//!
//! | part | operations |
//! |---|---|
//! | image | 2 (T - 1) 3 p^2 V + D (T (8 V^2 + 4 V M) + 4 T^2 V) |
//! | image's keys and values | D 4 T V W |
//! | token that sees s tokens | D (8 W^2 + 4 W M + 4 W s) |
//! | the same that sees an image | D (4 W^2 + 4 W T) more |
//! | next word | 2 W^2 + 2 W vocab |
//! | gradients | twice the forward pass |

use blip_model::MedConfig;
use blip_model::config::{TextConfig, VitConfig};

/// The sizes of a model with a vision transformer.
pub(crate) struct Operations<'c> {
    pub(crate) vit: &'c VitConfig,
    pub(crate) med: &'c MedConfig,
}

/// What a text token sees besides tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    Text,
    TextAndImage,
}

impl Operations<'_> {
    /// Encodes an image.
    pub(crate) fn image(&self) -> f64 {
        let VitConfig {
            patch,
            width,
            depth,
            mlp,
            ..
        } = *self.vit;
        let tokens = self.med.vision.tokens();
        let patches = 2 * (tokens - 1) * 3 * patch * patch * width;
        let linear = tokens * (8 * width * width + 4 * width * mlp);
        let attention = 4 * tokens * tokens * width;
        (patches + depth * (linear + attention)) as f64
    }

    /// Writes `rows` captions of `length` tokens for an image that is encoded, the first `prompt`
    /// tokens of which are read once. Nothing is computed for the last token.
    pub(crate) fn decoding(&self, rows: i64, prompt: i64, length: i64) -> f64 {
        let read = (1..=prompt).map(|seen| self.token(seen, Sees::TextAndImage));
        let written = (prompt + 1..length)
            .map(|seen| self.token(seen, Sees::TextAndImage) + self.next_word());
        self.cross_kv() + read.sum::<f64>() + self.next_word() + rows as f64 * written.sum::<f64>()
    }

    /// A training step of LM: a pair with a text of `length` tokens.
    pub(crate) fn lm_step(&self, length: i64) -> f64 {
        3.0 * (self.image() + self.cross_kv() + self.language(length))
    }

    /// A training step of pretraining, a pair: ITC with momentum encoders, which have no gradients,
    /// ITM of three pairs (one of them matches), and LM.
    pub(crate) fn pretraining_step(&self, length: i64) -> f64 {
        let encoded = |sees| length as f64 * self.token(length, sees);
        let contrast = self.image() + encoded(Sees::Text);
        let matching = 3.0 * encoded(Sees::TextAndImage);
        contrast + 3.0 * (contrast + self.cross_kv() + matching + self.language(length))
    }

    fn language(&self, length: i64) -> f64 {
        let token = |seen| self.token(seen, Sees::TextAndImage) + self.next_word();
        (1..=length).map(token).sum()
    }

    fn cross_kv(&self) -> f64 {
        let TextConfig { width, depth, .. } = self.med.text;
        (depth * 4 * self.med.vision.tokens() * self.vit.width * width) as f64
    }

    fn token(&self, seen: i64, sees: Sees) -> f64 {
        let TextConfig {
            width, depth, mlp, ..
        } = self.med.text;
        let own = 8 * width * width + 4 * width * mlp + 4 * width * seen;
        let cross = match sees {
            Sees::Text => 0,
            Sees::TextAndImage => 4 * width * width + 4 * width * self.med.vision.tokens(),
        };
        (depth * (own + cross)) as f64
    }

    fn next_word(&self) -> f64 {
        let width = self.med.text.width;
        (2 * width * width + 2 * width * self.med.vocab) as f64
    }
}
