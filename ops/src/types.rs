//! The types that the ops add to the language. What the language calls `Pairs`, the code calls
//! [`PAIRS`].

use blip_grammar::Type;

/// Images with their texts: a dataset whose items are [`blip_data::Sample`]s, each named by its
/// image's digest.
pub(crate) const PAIRS: Type = Type::Named("Pairs");
/// A vocabulary: the text of a `vocab.txt`.
pub(crate) const VOCAB: Type = Type::Named("Vocab");
/// The shape of an image encoder.
pub(crate) const VISION: Type = Type::Named("Vision");
/// The shape of a text encoder and decoder.
pub(crate) const TEXT: Type = Type::Named("Text");
/// The shape of a model, without weights.
pub(crate) const NET: Type = Type::Named("Net");
/// A pretrained model.
pub(crate) const MODEL: Type = Type::Named("Model");
/// A model that generates captions.
pub(crate) const CAPTIONER: Type = Type::Named("Captioner");
/// A model that scores pairs.
pub(crate) const FILTER: Type = Type::Named("Filter");
/// How captions are decoded.
pub(crate) const DECODE: Type = Type::Named("Decode");
/// Named numbers, as a JSON object. A stage of this type runs even when no other stage or export
/// uses its result.
pub(crate) const METRICS: Type = Type::Named("Metrics");
