//! Beam search: transformers' `_beam_search` with `early_stopping=False`.

use super::{DecoderRun, GenerationConfig, Sequences, process_logits};

/// The parameters of beam search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Beam {
    /// Hypotheses that are kept at each step: 3 in BLIP.
    pub beams: usize,
    /// A caption's log-probability is divided by its length to this power.
    pub length_penalty: f32,
}

/// A caption, finished or not, with its score.
#[derive(Clone, Debug)]
struct Hypothesis {
    tokens: Vec<i64>,
    score: f32,
    /// Which of the image's beams it extends.
    parent: usize,
}

/// A possible next token of a beam.
#[derive(Clone, Copy)]
struct Extension {
    score: f32,
    parent: usize,
    token: i64,
}

impl Extension {
    /// Best first; ties by beam, then by token.
    fn rank(&self, other: &Self) -> std::cmp::Ordering {
        let by_place = || (self.parent, self.token).cmp(&(other.parent, other.token));
        other.score.total_cmp(&self.score).then_with(by_place)
    }
}

/// The beams of one image.
struct Beams {
    running: Vec<Hypothesis>,
    /// Best first, at most as many as there are beams.
    finished: Vec<Hypothesis>,
    /// Whether a running hypothesis can still become better than a finished one.
    open: bool,
}

pub(super) fn beam_search(
    mut run: DecoderRun<'_>,
    images: usize,
    config: &GenerationConfig,
    beam: Beam,
) -> Sequences {
    let mut states: Vec<Beams> = (0..images).map(|_| Beams::new(config)).collect();
    for length in config.prompt.len()..config.max_length {
        let log_probabilities = run.log_probabilities();
        let by_image = log_probabilities.chunks(beam.beams);
        for (state, log_probabilities) in states.iter_mut().zip(by_image) {
            if state.open {
                state.extend(log_probabilities, length, config, beam);
            }
        }
        if length + 1 == config.max_length || !states.iter().any(|state| state.open) {
            break;
        }
        let (rows, tokens) = next_rows(&states, beam);
        run.select(&rows);
        run.step(&tokens);
    }
    states.into_iter().map(Beams::best).collect()
}

/// The rows to continue with and their newest tokens. Images that are finished, or have fewer
/// hypotheses than beams, run on with what they have: the batch keeps its shape (so that no image's
/// bits depend on the others), and the surplus rows are ignored.
fn next_rows(states: &[Beams], beam: Beam) -> (Vec<i64>, Vec<i64>) {
    let (mut rows, mut tokens) = (Vec::new(), Vec::new());
    for (image, state) in states.iter().enumerate() {
        for at in 0..beam.beams {
            let hypothesis = state
                .running
                .get(at)
                .or(state.running.last())
                .expect("an image has running beams");
            rows.push((image * beam.beams + hypothesis.parent) as i64);
            tokens.push(*hypothesis.tokens.last().expect("a caption has a prompt"));
        }
    }
    (rows, tokens)
}

impl Beams {
    fn new(config: &GenerationConfig) -> Self {
        Self {
            running: vec![Hypothesis {
                tokens: config.prompt.clone(),
                score: 0.0,
                parent: 0,
            }],
            finished: Vec::new(),
            open: true,
        }
    }

    /// Adds one token: each of the best extensions of all beams either finishes or runs on.
    fn extend(
        &mut self,
        log_probabilities: &[Vec<f32>],
        length: usize,
        config: &GenerationConfig,
        beam: Beam,
    ) {
        let extensions = self.best_extensions(log_probabilities, config, beam);
        let generated = (length + 1 - config.prompt.len()) as f32;
        let penalized = |score: f32| score / generated.powf(beam.length_penalty);
        let mut running = Vec::new();
        for (rank, extension) in extensions.into_iter().enumerate() {
            let Extension {
                score,
                parent,
                token,
            } = extension;
            let ends = token == config.eos || length + 1 >= config.max_length;
            let mut tokens = self.running[parent].tokens.clone();
            tokens.push(token);
            if !ends {
                running.push(Hypothesis {
                    tokens,
                    score,
                    parent,
                });
            } else if rank < beam.beams {
                self.finished.push(Hypothesis {
                    tokens,
                    score: penalized(score),
                    parent,
                });
            }
        }
        running.truncate(beam.beams);
        self.finished
            .sort_by(|one, other| other.score.total_cmp(&one.score));
        self.finished.truncate(beam.beams);
        let full = self.finished.len() == beam.beams;
        let worst_finished = self
            .finished
            .last()
            .map_or(f32::NEG_INFINITY, |it| it.score);
        let best_running = running.first().map(|it| penalized(it.score));
        self.open = best_running.is_some_and(|best| !full || best > worst_finished);
        if !running.is_empty() {
            self.running = running;
        }
    }

    /// The best extensions, best first: twice as many as beams. If the better half all end, the
    /// other half still fills the beams.
    fn best_extensions(
        &self,
        log_probabilities: &[Vec<f32>],
        config: &GenerationConfig,
        beam: Beam,
    ) -> Vec<Extension> {
        let mut extensions: Vec<Extension> = Vec::new();
        for (parent, running) in self.running.iter().enumerate() {
            let mut scores = log_probabilities[parent].clone();
            process_logits(&mut scores, &running.tokens, config);
            for (token, score) in (0..).zip(scores) {
                extensions.push(Extension {
                    score: score + running.score,
                    parent,
                    token,
                });
            }
        }
        let kept = 2 * beam.beams;
        if extensions.len() > kept {
            extensions.select_nth_unstable_by(kept - 1, Extension::rank);
            extensions.truncate(kept);
        }
        extensions.sort_unstable_by(Extension::rank);
        extensions
    }

    fn best(mut self) -> Vec<i64> {
        let best = if self.finished.is_empty() {
            self.running.remove(0)
        } else {
            self.finished.remove(0)
        };
        best.tokens
    }
}
