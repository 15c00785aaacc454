//! Inference in batches whose shape never depends on how much there is to do: an item gives the
//! same bits whatever other items are processed with it.
//!
//! Matrix kernels choose their order of additions by the shape of a batch, not by its contents. So
//! shapes are fixed: images are encoded in batches of one size, texts of one length are scored in
//! batches of one size, and the last batch is padded.

use blip_data::vocab::Vocab;
use blip_engine::{Digest, OpError, StageCtx};
use blip_model::{ForwardMode, Med};
use tch::Tensor;

use crate::image_loader::{DecodeRequest, ImageLoader, LoadedImage, Transform};
use crate::image_store::ImageStore;

/// Rows of a batch of texts.
pub(crate) const ROWS: usize = 16;
/// Items that a map stage processes at a time: several batches, so that images are decoded ahead of
/// the model.
pub(crate) const ITEMS: usize = 4 * ROWS;
/// Up to this many numbers in an image's tokens, a batch is faster on a CPU than one image at a
/// time; larger images keep all cores busy on their own.
const SMALL_IMAGE: i64 = 1 << 15;
/// Longest text that is scored, in tokens (salesforce/BLIP models/blip_itm.py).
pub(crate) const SCORED_LENGTH: i64 = 35;
/// Scores are rounded to this many parts of one: decisions are made on the rounded score.
const SCORE_STEPS: f64 = 1e5;

/// Images in, their tokens out.
#[derive(Debug)]
pub(crate) struct ImageEncoder {
    loader: ImageLoader,
    batch: usize,
}

/// An image's tokens, (tokens, width), or why it has none.
pub(crate) type Encoded = Result<Tensor, String>;

impl ImageEncoder {
    /// For the images of the upstream stages.
    pub(crate) fn new(ctx: &StageCtx, med: &Med) -> Result<Self, OpError> {
        let vision = &med.config.vision;
        let size = u32::try_from(vision.image()).expect("images are at most 4096 pixels wide");
        let small = vision.tokens() * vision.width() <= SMALL_IMAGE;
        let batched = small || med.device().is_cuda();
        Ok(Self {
            loader: ImageLoader::new(ImageStore::of_upstream(ctx)?, size),
            batch: if batched { ROWS } else { 1 },
        })
    }

    /// The tokens of these images, in order.
    pub(crate) fn encode(&self, med: &Med, images: &[Digest]) -> Result<Vec<Encoded>, OpError> {
        let requests = images.iter().map(|image| DecodeRequest {
            image: *image,
            transform: Transform::Resize,
        });
        let loaded = self.loader.load(requests)?;
        let loaded = loaded.collect::<Result<Vec<LoadedImage>, OpError>>()?;
        let mut encoded = Vec::with_capacity(loaded.len());
        for batch in loaded.chunks(self.batch) {
            encoded.extend(self.encode_batch(med, batch));
        }
        Ok(encoded)
    }

    /// Encodes one batch. Rows of undecodable images and missing rows are zeros.
    fn encode_batch(&self, med: &Med, batch: &[LoadedImage]) -> Vec<Encoded> {
        let size = med.config.vision.image();
        let floats = self.loader.floats();
        let mut pixels = Vec::with_capacity(self.batch * floats);
        for image in batch {
            match image {
                LoadedImage::Pixels(image) => pixels.extend(image),
                LoadedImage::Undecodable(_) => pixels.extend(std::iter::repeat_n(0.0, floats)),
            }
        }
        pixels.resize(self.batch * floats, 0.0);
        let images = Tensor::from_slice(&pixels)
            .view([self.batch as i64, 3, size, size])
            .to_device(med.device());
        // (batch, tokens, width)
        let tokens = tch::no_grad(|| med.vision.forward(&images, ForwardMode::EVAL));
        (0..)
            .zip(batch)
            .map(|(row, image)| match image {
                LoadedImage::Pixels(_) => Ok(tokens.get(row)),
                LoadedImage::Undecodable(reason) => Err(reason.clone()),
            })
            .collect()
    }
}

/// The tokens of at most [`ROWS`] images as a batch, padded with the last one: (ROWS, tokens,
/// width).
pub(crate) fn stack_padded(images: &[&Tensor]) -> Tensor {
    let last = images.last().expect("a batch has a row");
    let mut rows: Vec<&Tensor> = images.to_vec();
    rows.resize(ROWS, last);
    Tensor::stack(&rows, 0)
}

/// Probabilities that texts match images, by a filter or a pretrained model: softmax of ITM, class
/// 1, with `[ENC]`. `pairs` hold an image's position in `images` and a cleaned text.
pub(crate) fn match_scores(
    med: &Med,
    vocab: &Vocab,
    images: &[&Tensor],
    pairs: &[(usize, &str)],
) -> Vec<f64> {
    let length = med.config.text.positions.min(SCORED_LENGTH) as usize;
    let mut texts: Vec<(usize, Vec<i64>)> = Vec::with_capacity(pairs.len());
    for (pair, (_, text)) in pairs.iter().enumerate() {
        let mut ids = vocab.encode(text, length);
        ids[0] = vocab.special().enc;
        texts.push((pair, ids));
    }
    // Texts of one length share a batch: padding would change the shape and with it the bits.
    texts.sort_by_key(|(_, ids)| ids.len());
    let mut scores = vec![0.0; pairs.len()];
    for same_length in texts.chunk_by(|left, right| left.1.len() == right.1.len()) {
        for batch in same_length.chunks(ROWS) {
            let tokens: Vec<&Tensor> = batch
                .iter()
                .map(|(pair, _)| images[pairs[*pair].0])
                .collect();
            let batch_scores = score_batch(med, &tokens, batch);
            for ((pair, _), score) in batch.iter().zip(batch_scores) {
                scores[*pair] = score;
            }
        }
    }
    scores
}

/// The scores of at most [`ROWS`] texts of one length.
fn score_batch(med: &Med, images: &[&Tensor], texts: &[(usize, Vec<i64>)]) -> Vec<f64> {
    let (_, last) = texts.last().expect("a batch has a row");
    let padding = std::iter::repeat_n(last, ROWS - texts.len());
    let rows = texts.iter().map(|(_, ids)| ids).chain(padding);
    let ids: Vec<i64> = rows.flatten().copied().collect();
    let ids = Tensor::from_slice(&ids)
        .view([ROWS as i64, last.len() as i64])
        .to_device(med.device());
    let mask = ids.ones_like().to_kind(tch::Kind::Bool);
    let scores = tch::no_grad(|| {
        let encoder = med.encoder();
        let memory = encoder
            .features
            .text
            .cross_kv(&stack_padded(images), ForwardMode::EVAL);
        let logits = encoder.match_logits(&ids, &mask, &memory, ForwardMode::EVAL); // (ROWS, 2)
        let probabilities = logits.softmax(-1, tch::Kind::Double);
        probabilities.select(1, 1).to_device(tch::Device::Cpu)
    });
    let scores = Vec::<f64>::try_from(&scores).expect("a row of numbers");
    scores
        .into_iter()
        .take(texts.len())
        .map(|score| (score * SCORE_STEPS).round() / SCORE_STEPS)
        .collect()
}
