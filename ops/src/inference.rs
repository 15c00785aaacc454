//! Models at work on images, in batches whose shape never depends on what there is to do: the same
//! item gives the same bits whatever comes with it.
//!
//! Matrix kernels choose their order of additions by the shape of a batch, not by what is in it. So
//! shapes are fixed: images are encoded so many at a time, texts of one length are read so many at
//! a time, and the last batch is filled up.

use blip_data::vocab::Vocab;
use blip_engine::{Digest, OpError, StageCtx};
use blip_model::{Med, Pass};
use tch::Tensor;

use crate::images::Images;
use crate::loader::{Job, Loader, Seen, View};

/// Rows of a batch of texts.
pub(crate) const ROWS: usize = 16;
/// Items that a map stage hands over at a time: some batches' worth, so that pictures are decoded
/// ahead.
pub(crate) const ITEMS: usize = 4 * ROWS;
/// A model whose images have more numbers than this is busy enough with one image at a time on a
/// CPU.
const SMALL_IMAGE: i64 = 1 << 15;

/// Images in, their tokens out.
#[derive(Debug)]
pub(crate) struct ImageEncoder {
    loader: Loader,
    together: usize,
}

/// An image's tokens, (tokens, width), or why it has none.
pub(crate) type Encoded = Result<Tensor, String>;

impl ImageEncoder {
    /// For the images of the stages above.
    pub(crate) fn new(ctx: &StageCtx, med: &Med) -> Result<Self, OpError> {
        let vision = &med.config.vision;
        let size = u32::try_from(vision.image()).expect("images are at most 4096 pixels wide");
        let small = vision.tokens() * vision.width() <= SMALL_IMAGE;
        let together = if small || med.device().is_cuda() {
            ROWS
        } else {
            1
        };
        Ok(Self {
            loader: Loader::new(Images::above(ctx)?, size),
            together,
        })
    }

    /// The tokens of these images, in order.
    pub(crate) fn encode(&self, med: &Med, images: &[Digest]) -> Result<Vec<Encoded>, OpError> {
        let jobs = images.iter().map(|image| Job {
            image: *image,
            view: View::Whole,
        });
        let mut seen = self
            .loader
            .load(jobs)
            .collect::<Result<Vec<Seen>, OpError>>()?
            .into_iter()
            .peekable();
        let mut encoded = Vec::new();
        while seen.peek().is_some() {
            let group: Vec<Seen> = seen.by_ref().take(self.together).collect();
            encoded.extend(self.group(med, group));
        }
        Ok(encoded)
    }

    fn group(&self, med: &Med, group: Vec<Seen>) -> Vec<Encoded> {
        let size = med.config.vision.image();
        let floats = self.loader.floats();
        let mut pixels = Vec::with_capacity(self.together * floats);
        for seen in &group {
            match seen {
                Seen::Pixels(found) => pixels.extend(found),
                Seen::Bad(_) => pixels.extend(std::iter::repeat_n(0.0, floats)),
            }
        }
        pixels.resize(self.together * floats, 0.0);
        let images = Tensor::from_slice(&pixels)
            .view([self.together as i64, 3, size, size])
            .to_device(med.device());
        let tokens = tch::no_grad(|| med.vision.forward(&images, Pass::EVAL)); // (together, tokens, width)
        let encoded = |(row, seen)| match seen {
            Seen::Pixels(_) => Ok(tokens.get(row)),
            Seen::Bad(reason) => Err(reason),
        };
        (0..).zip(group).map(encoded).collect()
    }
}

/// The tokens of images as a batch of [`ROWS`], filled up with the last one: (ROWS, tokens, width)
pub(crate) fn rows_of(images: &[&Tensor]) -> Tensor {
    let filled = images.iter().chain(std::iter::repeat_n(
        images.last().expect("a batch has a row"),
        ROWS - images.len(),
    ));
    Tensor::stack(&filled.copied().collect::<Vec<_>>(), 0)
}

/// Probabilities that texts match images, by a filter or a pretrained model: softmax of ITM, class
/// 1, with `[ENC]`. `pairs` name an image by its place and give a cleaned text. Rounded to 1e-5,
/// which is what decisions are made on.
pub(crate) fn match_scores(
    med: &Med,
    vocab: &Vocab,
    images: &[&Tensor],
    pairs: &[(usize, &str)],
) -> Vec<f64> {
    let room = med.config.text.positions.min(35) as usize;
    let mut texts: Vec<(usize, Vec<i64>)> = pairs
        .iter()
        .map(|(_, text)| vocab.encode(text, room))
        .enumerate()
        .collect();
    texts
        .iter_mut()
        .for_each(|(_, ids)| ids[0] = vocab.special().enc);
    texts.sort_by_key(|(_, ids)| ids.len());
    let mut scores = vec![0.0; pairs.len()];
    for texts in texts
        .chunk_by(|one, other| one.1.len() == other.1.len())
        .flat_map(|same| same.chunks(ROWS))
    {
        let tokens: Vec<&Tensor> = texts.iter().map(|(at, _)| images[pairs[*at].0]).collect();
        for ((at, _), score) in texts.iter().zip(match_rows(med, &tokens, texts)) {
            scores[*at] = score;
        }
    }
    scores
}

/// The scores of at most [`ROWS`] texts of one length.
fn match_rows(med: &Med, images: &[&Tensor], texts: &[(usize, Vec<i64>)]) -> Vec<f64> {
    let device = med.device();
    let length = texts[0].1.len();
    let last = &texts[texts.len() - 1].1;
    let filled = texts
        .iter()
        .map(|(_, ids)| ids)
        .chain(std::iter::repeat_n(last, ROWS - texts.len()));
    let ids: Vec<i64> = filled.flatten().copied().collect();
    let ids = Tensor::from_slice(&ids)
        .view([ROWS as i64, length as i64])
        .to_device(device);
    let mask = ids.ones_like().to_kind(tch::Kind::Bool);
    let scores = tch::no_grad(|| {
        let memory = med
            .encoder()
            .features
            .text
            .memory(&rows_of(images), Pass::EVAL);
        let logits = med.encoder().match_logits(&ids, &mask, &memory, Pass::EVAL); // (ROWS, 2)
        logits
            .softmax(-1, tch::Kind::Double)
            .select(1, 1)
            .to_device(tch::Device::Cpu)
    });
    let scores = Vec::<f64>::try_from(&scores).expect("a row of numbers");
    scores
        .into_iter()
        .take(texts.len())
        .map(|score| (score * 1e5).round() / 1e5)
        .collect()
}
