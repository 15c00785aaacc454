//! Writing captions: greedy, beam search, nucleus sampling (Holtzman et al. 2019), as transformers'
//! `generate` does them.
//!
//! The model runs on batches; what follows from its logits is computed row by row on the host, so
//! that a row's text never depends on the rows beside it. Keys and values are cached, the image's
//! are projected once for all its rows, and the prompt is read once per image.

use tch::{Kind, Tensor, no_grad};

use crate::layers::Pass;
use crate::med::Decoder;
use crate::text::{Cache, Memory};

/// What holds for every way of decoding. Lengths count the prompt, as in BLIP.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// The tokens that every text begins with, `[DEC]` first.
    pub prompt: Vec<i64>,
    /// The end token is impossible before this many tokens.
    pub min_length: usize,
    /// A text ends at this many tokens, with or without an end token.
    pub max_length: usize,
    /// Divides positive and multiplies negative logits of tokens that already occurred; 1 changes
    /// nothing.
    pub repetition_penalty: f32,
    /// The end token, `[SEP]`.
    pub end: i64,
}

/// A way of decoding.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decoding {
    /// The most probable token each time.
    Greedy,
    /// The most probable texts among those that begin with the most probable beginnings.
    Beam(Beam),
    /// A random token out of the most probable ones that make up a share of the probability.
    Nucleus(Nucleus),
}

/// Beam search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Beam {
    /// Beginnings kept: 3 in BLIP.
    pub beams: usize,
    /// A text's log-probability is divided by its length to this power.
    pub length_penalty: f32,
}

/// Nucleus sampling.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Nucleus {
    /// The share of the probability that the candidates make up: 0.9 in BLIP.
    pub top_p: f64,
    /// Only this many most probable tokens come into question, 50 in transformers' default; 0 for
    /// all.
    pub top_k: usize,
    /// Divides the logits; 1 changes nothing.
    pub temperature: f64,
}

/// Texts as tokens, prompt included, end token included where there is one.
pub type Texts = Vec<Vec<i64>>;

/// Captions of images: `rows` of each image, the rows of an image together. `unit(row, length)`
/// gives the random number in [0, 1) for a row's token at place `length`; only nucleus sampling
/// asks for it.
pub fn generate(
    decoder: &Decoder,
    memory: &Memory,
    (images, rows): (usize, usize),
    limits: &Limits,
    decoding: Decoding,
    pass: Pass,
    unit: &dyn Fn(usize, usize) -> f64,
) -> Texts {
    let run = |width: usize| Run::new(decoder, memory, images, width, limits, pass);
    no_grad(|| match decoding {
        Decoding::Greedy => {
            let texts = sample(run(1), limits, |_, _, scores| argmax(scores));
            texts
                .into_iter()
                .flat_map(|text| std::iter::repeat_n(text, rows))
                .collect()
        }
        Decoding::Nucleus(nucleus) => sample(run(rows), limits, |row, length, scores| {
            pick(&nucleus_distribution(scores, nucleus), unit(row, length))
        }),
        Decoding::Beam(beam) => {
            let texts = beam_search(run(beam.beams), images, limits, beam);
            texts
                .into_iter()
                .flat_map(|text| std::iter::repeat_n(text, rows))
                .collect()
        }
    })
}

/// The model's side of a decoding: rows with their caches.
struct Run<'a> {
    decoder: &'a Decoder,
    memory: &'a Memory,
    cache: Cache,
    /// What comes next, (rows, vocab), for every row.
    logits: Tensor,
    pass: Pass,
}

impl<'a> Run<'a> {
    /// Reads the prompt once per image and makes `width` rows of each.
    fn new(
        decoder: &'a Decoder,
        memory: &'a Memory,
        images: usize,
        width: usize,
        limits: &Limits,
        pass: Pass,
    ) -> Self {
        let device = decoder.text.words().device();
        let kind = if pass.bf16 {
            Kind::BFloat16
        } else {
            Kind::Float
        };
        let prompt = Tensor::from_slice(&limits.prompt)
            .to_device(device)
            .unsqueeze(0)
            .expand([images as i64, -1], false);
        let mut cache = decoder
            .text
            .cache(images as i64, limits.max_length as i64, kind, device);
        let hidden = decoder
            .text
            .step(&prompt.contiguous(), &mut cache, memory, pass);
        let logits = decoder.head(&hidden.select(1, -1), pass);
        let spread: Vec<i64> = (0..images as i64)
            .flat_map(|image| std::iter::repeat_n(image, width))
            .collect();
        let spread = Tensor::from_slice(&spread).to_device(device);
        Self {
            decoder,
            memory,
            cache: cache.select(&spread),
            logits: logits.index_select(0, &spread),
            pass,
        }
    }

    /// Goes on with one token a row.
    fn step(&mut self, tokens: &[i64]) {
        let ids = Tensor::from_slice(tokens)
            .to_device(self.logits.device())
            .unsqueeze(1);
        let hidden = self
            .decoder
            .text
            .step(&ids, &mut self.cache, self.memory, self.pass);
        self.logits = self.decoder.head(&hidden.select(1, 0), self.pass);
    }

    /// Goes on with these rows only, in this order.
    fn keep(&mut self, rows: &[i64]) {
        self.cache = self
            .cache
            .select(&Tensor::from_slice(rows).to_device(self.logits.device()));
    }

    /// The logits on the host, row by row.
    fn scores(&self) -> Vec<Vec<f32>> {
        host(&self.logits)
    }

    fn log_probabilities(&self) -> Vec<Vec<f32>> {
        host(&self.logits.log_softmax(-1, Kind::Float))
    }
}

fn host(tensor: &Tensor) -> Vec<Vec<f32>> {
    Vec::<Vec<f32>>::try_from(tensor).expect("a table of floats")
}

/// Token by token, each row for itself: `choose(row, length, scores)`.
fn sample(
    mut run: Run<'_>,
    limits: &Limits,
    choose: impl Fn(usize, usize, &[f32]) -> i64,
) -> Texts {
    let rows = run.logits.size()[0] as usize;
    let mut texts = vec![limits.prompt.clone(); rows];
    let mut open = vec![true; rows];
    for length in limits.prompt.len()..limits.max_length {
        let mut next = vec![limits.end; rows];
        for (row, scores) in run.scores().iter_mut().enumerate() {
            if !open[row] {
                continue;
            }
            process(scores, &texts[row], limits);
            next[row] = choose(row, length, scores);
            texts[row].push(next[row]);
            open[row] = next[row] != limits.end;
        }
        if length + 1 == limits.max_length || !open.contains(&true) {
            break;
        }
        run.step(&next);
    }
    texts
}

/// Repetition penalty, then minimum length: transformers' `RepetitionPenaltyLogitsProcessor` and
/// `MinLengthLogitsProcessor`.
pub fn process(scores: &mut [f32], text: &[i64], limits: &Limits) {
    let penalty = limits.repetition_penalty;
    if penalty != 1.0 {
        let mut seen: Vec<i64> = text.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let score = &mut scores[token as usize];
            *score = if *score < 0.0 {
                *score * penalty
            } else {
                *score / penalty
            };
        }
    }
    if text.len() < limits.min_length {
        scores[limits.end as usize] = f32::NEG_INFINITY;
    }
}

fn argmax(scores: &[f32]) -> i64 {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = at;
        }
    }
    best as i64
}

/// The tokens that come into question with their probabilities, most probable first: temperature,
/// then top-k, then top-p, as transformers' warpers do.
pub fn nucleus_distribution(scores: &[f32], nucleus: Nucleus) -> Vec<(i64, f64)> {
    let mut ranked: Vec<(i64, f64)> = (0..)
        .zip(scores)
        .map(|(token, score)| (token, f64::from(*score / nucleus.temperature as f32)))
        .collect();
    let descending =
        |one: &(i64, f64), other: &(i64, f64)| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0));
    if (1..ranked.len()).contains(&nucleus.top_k) {
        // Tokens that are as probable as the last one stay, too.
        let edge = ranked
            .select_nth_unstable_by(nucleus.top_k - 1, descending)
            .1
            .1;
        ranked.retain(|(_, score)| *score >= edge);
    }
    ranked.sort_unstable_by(descending);
    let highest = ranked.first().map_or(0.0, |(_, score)| *score);
    ranked
        .iter_mut()
        .for_each(|(_, score)| *score = (*score - highest).exp());
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    // A token stays when those above it make up less than the share.
    let mut above = 0.0;
    let kept = ranked.iter().take_while(|(_, weight)| {
        let stays = above < nucleus.top_p * total;
        above += weight;
        stays
    });
    let count = kept.count().max(1);
    ranked.truncate(count);
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    ranked.iter_mut().for_each(|(_, weight)| *weight /= total);
    ranked
}

fn pick(distribution: &[(i64, f64)], unit: f64) -> i64 {
    let mut left = unit;
    let found = distribution.iter().find(|(_, probability)| {
        left -= probability;
        left < 0.0
    });
    found
        .or(distribution.last())
        .expect("a distribution has at least one token")
        .0
}

/// A beginning, or a finished text, with its score.
#[derive(Clone, Debug)]
struct Candidate {
    text: Vec<i64>,
    score: f32,
    /// Which of the image's beams it goes on from.
    from: usize,
}

/// The beams of one image.
struct Beams {
    running: Vec<Candidate>,
    /// StageResult texts, best first, as many as there are beams at most.
    finished: Vec<Candidate>,
    /// Whether a running beam can still become better than a finished text.
    open: bool,
}

/// transformers' `_beam_search` with `early_stopping=False`.
fn beam_search(mut run: Run<'_>, images: usize, limits: &Limits, beam: Beam) -> Texts {
    let start = limits.prompt.len();
    let first = |_| Beams {
        running: vec![Candidate {
            text: limits.prompt.clone(),
            score: 0.0,
            from: 0,
        }],
        finished: Vec::new(),
        open: true,
    };
    let mut states: Vec<Beams> = (0..images).map(first).collect();
    for length in start..limits.max_length {
        let scores = run.log_probabilities();
        for (state, scores) in states.iter_mut().zip(scores.chunks(beam.beams)) {
            if state.open {
                state.extend(scores, length, limits, beam);
            }
        }
        if length + 1 == limits.max_length || !states.iter().any(|state| state.open) {
            break;
        }
        // Images that are done go on with what they had: every row keeps its place, and their
        // results are not looked at.
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for (image, state) in states.iter().enumerate() {
            for at in 0..beam.beams {
                let candidate = state
                    .running
                    .get(at)
                    .or(state.running.last())
                    .expect("an image has running beams");
                rows.push((image * beam.beams + candidate.from) as i64);
                tokens.push(*candidate.text.last().expect("a text has a prompt"));
            }
        }
        run.keep(&rows);
        run.step(&tokens);
    }
    states.into_iter().map(Beams::best).collect()
}

impl Beams {
    /// One token more: the best continuations of all beams either finish or run on.
    fn extend(&mut self, scores: &[Vec<f32>], length: usize, limits: &Limits, beam: Beam) {
        let mut candidates: Vec<(f32, usize, i64)> = Vec::new();
        for (from, running) in self.running.iter().enumerate() {
            let mut scores = scores[from].clone();
            process(&mut scores, &running.text, limits);
            let scored = (0..)
                .zip(scores)
                .map(|(token, score)| (score + running.score, from, token));
            candidates.extend(scored);
        }
        let descending = |one: &(f32, usize, i64), other: &(f32, usize, i64)| {
            other
                .0
                .total_cmp(&one.0)
                .then((one.1, one.2).cmp(&(other.1, other.2)))
        };
        // Twice as many as beams: should all of the better half end, as many are left to go on.
        let kept = 2 * beam.beams;
        if candidates.len() > kept {
            candidates.select_nth_unstable_by(kept - 1, descending);
            candidates.truncate(kept);
        }
        candidates.sort_unstable_by(descending);
        let generated = (length + 1 - limits.prompt.len()) as f32;
        let mut running = Vec::new();
        for (rank, (score, from, token)) in candidates.into_iter().enumerate() {
            let ends = token == limits.end || length + 1 >= limits.max_length;
            let mut text = self.running[from].text.clone();
            text.push(token);
            if !ends {
                running.push(Candidate { text, score, from });
            } else if rank < beam.beams {
                let score = score / generated.powf(beam.length_penalty);
                self.finished.push(Candidate { text, score, from });
            }
        }
        running.truncate(beam.beams);
        self.finished
            .sort_by(|one, other| other.score.total_cmp(&one.score));
        self.finished.truncate(beam.beams);
        let full = self.finished.len() == beam.beams;
        let worst = self
            .finished
            .last()
            .map_or(f32::NEG_INFINITY, |candidate| candidate.score);
        let best = running
            .first()
            .map(|candidate| candidate.score / generated.powf(beam.length_penalty));
        self.open = best.is_some_and(|best| !full || best > worst);
        if !running.is_empty() {
            self.running = running;
        }
    }

    fn best(mut self) -> Vec<i64> {
        let best = if self.finished.is_empty() {
            self.running.remove(0)
        } else {
            self.finished.remove(0)
        };
        best.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nucleus_is_the_fewest_tokens_that_make_up_the_share() {
        let scores: Vec<f32> = [0.5_f32, 0.25, 0.15, 0.07, 0.03]
            .iter()
            .map(|p| p.ln())
            .collect();
        let tokens = |top_p, top_k| {
            let nucleus = Nucleus {
                top_p,
                top_k,
                temperature: 1.0,
            };
            nucleus_distribution(&scores, nucleus)
                .into_iter()
                .map(|(token, _)| token)
                .collect::<Vec<_>>()
        };
        assert_eq!(tokens(0.7, 0), [0, 1]);
        assert_eq!(tokens(0.8, 0), [0, 1, 2]);
        assert_eq!(tokens(1.0, 0).len(), 5);
        assert_eq!(tokens(1.0, 2), [0, 1]);
        let even = nucleus_distribution(
            &[1.0, 2.0, 1.0, 0.0],
            Nucleus {
                top_p: 1.0,
                top_k: 2,
                temperature: 1.0,
            },
        );
        assert_eq!(
            even.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            [1, 0, 2],
            "even ones stay together"
        );
        assert_eq!(tokens(0.1, 0), [0], "one token always stays");
        let distribution = nucleus_distribution(
            &scores,
            Nucleus {
                top_p: 0.7,
                top_k: 50,
                temperature: 1.0,
            },
        );
        assert!((distribution[0].1 - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(
            (
                pick(&distribution, 0.0),
                pick(&distribution, 0.6),
                pick(&distribution, 0.7)
            ),
            (0, 0, 1)
        );
    }

    #[test]
    fn processors_follow_transformers() {
        let limits = Limits {
            prompt: vec![1],
            min_length: 3,
            max_length: 9,
            repetition_penalty: 2.0,
            end: 0,
        };
        let mut scores = [4.0, -1.0, 3.0];
        process(&mut scores, &[1, 2, 2], &limits);
        assert_eq!(scores, [4.0, -2.0, 1.5]);
        process(&mut scores, &[1], &limits);
        assert_eq!(scores[0], f32::NEG_INFINITY);
    }
}
