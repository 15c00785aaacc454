//! Which pairs a step sees and how: a pure function of recipe and dataset, the same in every run.

use blip_data::rng::Rng;

use super::{Recipe, TrainingPairs};
use crate::image_loader::{DecodeRequest, Transform};

/// What random numbers are for; each purpose has streams of its own. The values are part of the
/// seeds: changing one changes every trained model.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Order = 1,
    Augmentation = 2,
    Negatives = 3,
    Dropout = 4,
    Start = 5,
}

#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) pairs: &'a TrainingPairs,
    /// Pairs of a step: those of the recipe, or all when there are fewer.
    pub(super) batch: usize,
    pub(super) steps_per_epoch: u64,
    /// Steps of the whole training.
    pub(super) total: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(recipe: &'a Recipe, pairs: &'a TrainingPairs) -> Self {
        let batch = recipe.batch.min(pairs.len());
        // An incomplete last batch is dropped, as in BLIP's data loader.
        let steps_per_epoch = (pairs.len() / batch).max(1) as u64;
        Self {
            recipe,
            pairs,
            batch,
            steps_per_epoch,
            total: steps_per_epoch * recipe.epochs,
        }
    }

    pub(super) fn random(&self, purpose: Purpose, stream: &[u64]) -> Rng {
        let mut seeds = vec![self.recipe.seed, purpose as u64];
        seeds.extend(stream);
        Rng::new(&seeds)
    }

    /// The pairs of an epoch in a random order: a Fisher-Yates shuffle, from (seed, epoch).
    pub(super) fn order(&self, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        let mut random = self.random(Purpose::Order, &[epoch]);
        for last in (1..order.len()).rev() {
            order.swap(last, random.index(last + 1));
        }
        order
    }

    /// The images of all steps from `start` on, in order.
    pub(super) fn decode_requests(self, start: u64) -> impl Iterator<Item = DecodeRequest> + 'a {
        let first_epoch = start / self.steps_per_epoch;
        (first_epoch..self.recipe.epochs).flat_map(move |epoch| {
            let epoch_start = epoch * self.steps_per_epoch;
            let skipped = start.saturating_sub(epoch_start) as usize * self.batch;
            let seen = self.steps_per_epoch as usize * self.batch;
            let order = self.order(epoch).into_iter().take(seen).skip(skipped);
            order.map(move |pair| self.decode_request(epoch, pair))
        })
    }

    /// The augmentation depends on (seed, epoch, pair), not on the step: the same pair looks
    /// different in every epoch, whatever the batch size.
    fn decode_request(&self, epoch: u64, pair: u32) -> DecodeRequest {
        let (image, _) = self.pairs.pair(pair);
        let random = self.random(Purpose::Augmentation, &[epoch, pair.into()]);
        DecodeRequest {
            image: self.pairs.digest(image),
            transform: Transform::Augment(self.recipe.augmentation, random),
        }
    }
}

/// The seed of a model's initial values.
pub(crate) fn start_seed(seed: u64) -> u64 {
    Rng::new(&[seed, Purpose::Start as u64]).next_u64()
}
