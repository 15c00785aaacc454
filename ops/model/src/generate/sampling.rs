//! Decoding token by token, each row by itself: greedy search and nucleus sampling.

use super::{DecoderRun, GenerationConfig, Sequences, process_logits};

/// The parameters of nucleus sampling.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Nucleus {
    /// The candidates are the most probable tokens whose probabilities sum to this: 0.9 in BLIP.
    pub top_p: f64,
    /// At most this many candidates, 50 by default in transformers; 0 for any number.
    pub top_k: usize,
    /// Divides the logits; 1 changes nothing.
    pub temperature: f64,
}

/// Decodes all rows, choosing tokens by `choose(row, length, logits)`.
pub(super) fn sample(
    mut run: DecoderRun<'_>,
    config: &GenerationConfig,
    choose: impl Fn(usize, usize, &[f32]) -> i64,
) -> Sequences {
    let rows = run.logits.size()[0] as usize;
    let mut captions = vec![config.prompt.clone(); rows];
    let mut unfinished = vec![true; rows];
    for length in config.prompt.len()..config.max_length {
        let mut next = vec![config.eos; rows];
        for (row, logits) in run.logits().iter_mut().enumerate() {
            if !unfinished[row] {
                continue;
            }
            process_logits(logits, &captions[row], config);
            next[row] = choose(row, length, logits);
            captions[row].push(next[row]);
            unfinished[row] = next[row] != config.eos;
        }
        if length + 1 == config.max_length || !unfinished.contains(&true) {
            break;
        }
        run.step(&next);
    }
    captions
}

/// The first of the largest values.
pub(super) fn argmax(logits: &[f32]) -> i64 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as i64
}

/// The candidates with their probabilities, most probable first: temperature, then top-k, then
/// top-p, as transformers' warpers apply them.
pub fn nucleus_distribution(logits: &[f32], nucleus: Nucleus) -> Vec<(i64, f64)> {
    let temperature = nucleus.temperature as f32;
    let mut ranked: Vec<(i64, f64)> = (0..)
        .zip(logits)
        .map(|(token, logit)| (token, f64::from(*logit / temperature)))
        .collect();
    let descending =
        |one: &(i64, f64), other: &(i64, f64)| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0));
    if (1..ranked.len()).contains(&nucleus.top_k) {
        // Tokens as probable as the last candidate are candidates, too.
        let (_, last, _) = ranked.select_nth_unstable_by(nucleus.top_k - 1, descending);
        let lowest = last.1;
        ranked.retain(|(_, logit)| *logit >= lowest);
    }
    ranked.sort_unstable_by(descending);
    // Softmax, relative to the highest logit so that nothing overflows.
    let highest = ranked.first().map_or(0.0, |(_, logit)| *logit);
    for (_, logit) in &mut ranked {
        *logit = (*logit - highest).exp();
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    // A token stays if the more probable ones sum to less than top_p.
    let mut cumulative = 0.0;
    let kept = ranked.iter().take_while(|(_, weight)| {
        let stays = cumulative < nucleus.top_p * total;
        cumulative += weight;
        stays
    });
    let count = kept.count().max(1);
    ranked.truncate(count);
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in &mut ranked {
        *weight /= total;
    }
    ranked
}

/// The token at `uniform` in [0, 1) of the cumulative distribution.
pub(super) fn sample_token(distribution: &[(i64, f64)], uniform: f64) -> i64 {
    let mut remaining = uniform;
    let found = distribution.iter().find(|(_, probability)| {
        remaining -= probability;
        remaining < 0.0
    });
    // Rounding can leave a remainder behind the last token.
    let (token, _) = found
        .or(distribution.last())
        .expect("a distribution has at least one token");
    *token
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBABILITIES: [f32; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];

    fn tokens(logits: &[f32], top_p: f64, top_k: usize) -> Vec<i64> {
        let nucleus = Nucleus {
            top_p,
            top_k,
            temperature: 1.0,
        };
        let distribution = nucleus_distribution(logits, nucleus);
        distribution.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn a_nucleus_is_the_fewest_tokens_that_sum_to_top_p() {
        let logits = PROBABILITIES.map(f32::ln);
        assert_eq!(tokens(&logits, 0.7, 0), [0, 1]);
        assert_eq!(tokens(&logits, 0.8, 0), [0, 1, 2]);
        assert_eq!(tokens(&logits, 1.0, 0).len(), 5);
        assert_eq!(tokens(&logits, 1.0, 2), [0, 1]);
        assert_eq!(tokens(&logits, 0.1, 0), [0], "one token always stays");
        let ties = tokens(&[1.0, 2.0, 1.0, 0.0], 1.0, 2);
        assert_eq!(ties, [1, 0, 2], "ties stay together");
    }

    #[test]
    fn tokens_are_sampled_by_their_probabilities() {
        let nucleus = Nucleus {
            top_p: 0.7,
            top_k: 50,
            temperature: 1.0,
        };
        let distribution = nucleus_distribution(&PROBABILITIES.map(f32::ln), nucleus);
        assert!((distribution[0].1 - 2.0 / 3.0).abs() < 1e-6);
        let sampled = [0.0, 0.6, 0.7].map(|uniform| sample_token(&distribution, uniform));
        assert_eq!(sampled, [0, 0, 1]);
    }
}
