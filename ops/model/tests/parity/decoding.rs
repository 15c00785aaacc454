//! Captions: the token ids of greedy and beam search, the distributions of sampling, decoding with
//! and without caches.

use std::fs;

use blip_model::generate::{
    Beam, Decoding, GenerationConfig, Nucleus, generate, nucleus_distribution, process_logits,
};
use blip_model::{ForwardMode, Med, Role, device};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::table::{Table, folder};
use super::{max_abs, model, shapes, tensors};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
    nucleus: std::collections::BTreeMap<String, GenerateArgs>,
    prompt: Vec<i64>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(rename = "setting")]
    args: GenerateArgs,
    prompt: Vec<i64>,
    ids: Vec<Vec<i64>>,
    /// What transformers generates in float64, by row, where that differs.
    #[serde(default)]
    in_64_bits: std::collections::BTreeMap<String, Vec<i64>>,
}

#[derive(Deserialize)]
struct GenerateArgs {
    num_beams: usize,
    max_length: usize,
    min_length: usize,
    #[serde(default = "one")]
    repetition_penalty: f32,
    #[serde(default = "one")]
    length_penalty: f32,
    #[serde(default)]
    top_p: f64,
    #[serde(default)]
    top_k: usize,
    #[serde(default)]
    temperature: f64,
}

fn one() -> f32 {
    1.0
}

impl GenerateArgs {
    /// transformers replaces the prompt's first token by [DEC] and drops its last, [SEP]; without a
    /// prompt a caption begins with [DEC] alone.
    fn config(&self, prompt: &[i64], (dec, sep): (i64, i64)) -> GenerationConfig {
        let inner = prompt.get(1..prompt.len().saturating_sub(1)).unwrap_or(&[]);
        GenerationConfig {
            prompt: [&[dec], inner].concat(),
            min_length: self.min_length,
            max_length: self.max_length,
            repetition_penalty: self.repetition_penalty,
            eos: sep,
        }
    }

    fn decoding(&self) -> Decoding {
        if self.num_beams == 1 {
            Decoding::Greedy
        } else {
            Decoding::Beam(Beam {
                beams: self.num_beams,
                length_penalty: self.length_penalty,
            })
        }
    }
}

/// A caption up to its end token, which is searched for after the prompt. transformers' padding is
/// not compared: [PAD], or [SEP] with beam search, since it takes the id 0 for no id.
fn until_end(ids: &[i64], prompt: usize, sep: i64) -> &[i64] {
    let end = ids.iter().skip(prompt).position(|id| *id == sep);
    end.map_or(ids, |end| &ids[..=prompt + end])
}

/// Calls `check` for each model of `decoding.py`, with its images and cases.
fn for_each_model(mut check: impl FnMut(&str, &Med, &Tensor, &Cases, (i64, i64))) {
    let _device_lock = device::lock().unwrap();
    let _still = tch::no_grad_guard();
    for (shape, given) in shapes("decoding") {
        let (checkpoint, med) = model(
            &folder("forward").join(&shape).join("captioner"),
            Role::Captioner,
        );
        let pixels = &tensors(&given.join("images.safetensors"))["pixels"];
        let cases = serde_json::from_slice(&fs::read(given.join("cases.json")).unwrap()).unwrap();
        let images = med.vision.forward(pixels, ForwardMode::EVAL);
        check(
            &shape,
            &med,
            &images,
            &cases,
            (checkpoint.config.tokens.dec, checkpoint.config.tokens.sep),
        );
    }
}

#[test]
fn greedy_and_beam_search_generate_the_captions_of_transformers() {
    let mut table = Table::default();
    for_each_model(|shape, med, images, cases, tokens| {
        let cross_kv = med.decoder().text.cross_kv(images, ForwardMode::EVAL);
        for Case {
            name,
            args,
            prompt,
            ids,
            in_64_bits,
        } in &cases.cases
        {
            let config = args.config(prompt, tokens);
            let run = (ids.len(), 1);
            let ours = generate(
                med.decoder(),
                &cross_kv,
                run,
                &config,
                args.decoding(),
                ForwardMode::EVAL,
                &|_, _| 0.0,
            );
            let is = |ours: &[i64], theirs: &[i64]| {
                *ours == *until_end(theirs, config.prompt.len(), tokens.1)
            };
            let equal = ours
                .iter()
                .zip(ids)
                .filter(|(ours, theirs)| is(ours, theirs))
                .count();
            // Where rounding decides between two beams, transformers itself generates another
            // caption in float64.
            let rounding = in_64_bits.iter().filter(|(row, theirs)| {
                let row = row.parse::<usize>().unwrap();
                is(&ours[row], theirs) && !is(&ours[row], &ids[row])
            });
            let rounding = rounding.count();
            let begin = if prompt.is_empty() {
                "without prompt"
            } else {
                "with prompt"
            };
            let note = if rounding == 0 {
                String::new()
            } else {
                format!(", {rounding} as in 64 bits")
            };
            table.equal(
                &format!("captions by {name}, {begin}{note} ({shape})"),
                equal + rounding,
                ids.len(),
            );
        }
    });
    table.check();
}

/// One case of sampling in transformers, against blip's distributions.
struct SamplingCase<'t> {
    /// transformers' logits after its processors, (rows, steps, vocab).
    scores: &'t Tensor,
    /// transformers' logits, (rows, steps, vocab).
    logits: &'t Tensor,
    config: GenerationConfig,
    nucleus: Nucleus,
    eos: i64,
}

/// How far blip's distributions are from those of transformers.
#[derive(Default)]
struct Distances {
    steps: usize,
    /// Largest difference of a probability, from the same logits.
    same_logits: f64,
    /// The same from each side's own logits, over the steps whose candidates agree.
    own_logits: f64,
    /// Steps in which rounding decides about a candidate at the edge, or between two.
    edges: usize,
}

impl SamplingCase<'_> {
    fn compare(&self, ids: &Tensor, own_logits: &Tensor) -> Distances {
        let start = self.config.prompt.len();
        let mut distances = Distances::default();
        for (row, text) in Vec::<Vec<i64>>::try_from(ids).unwrap().iter().enumerate() {
            for length in start..until_end(text, start, self.eos).len() {
                let at = |step: usize, table: &Tensor| table.get(row as i64).get(step as i64);
                let theirs = at(length - start, self.scores).softmax(-1, Kind::Double);
                let theirs = Vec::<f64>::try_from(&theirs).unwrap();
                let prefix = &text[..length];
                let (same, _) = self.distance(at(length - start, self.logits), prefix, &theirs);
                let (own, single) = self.distance(at(length - 1, own_logits), prefix, &theirs);
                distances.same_logits = distances.same_logits.max(same);
                if (1..=2).contains(&single) {
                    distances.edges += 1;
                } else {
                    distances.own_logits = distances.own_logits.max(own);
                }
                distances.steps += 1;
            }
        }
        distances
    }

    /// The largest difference of a probability, and how many tokens are candidates of one side
    /// only.
    fn distance(&self, logits: Tensor, prefix: &[i64], theirs: &[f64]) -> (f64, usize) {
        let mut logits = Vec::<f32>::try_from(logits).unwrap();
        process_logits(&mut logits, prefix, &self.config);
        let ours = nucleus_distribution(&logits, self.nucleus);
        let mut differences = theirs.to_vec();
        let mut common = 0;
        for (token, probability) in &ours {
            let token = *token as usize;
            differences[token] -= probability;
            common += usize::from(theirs[token] > 0.0);
        }
        let largest = differences
            .iter()
            .fold(0.0_f64, |largest, difference| largest.max(difference.abs()));
        let candidates = theirs
            .iter()
            .filter(|probability| **probability > 0.0)
            .count();
        (largest, ours.len() + candidates - 2 * common)
    }
}

#[test]
fn sampling_has_the_distributions_of_transformers() {
    let mut table = Table::default();
    for_each_model(|shape, med, images, cases, tokens| {
        let drawn = tensors(&folder("decoding").join(shape).join("nucleus.safetensors"));
        for (name, args) in &cases.nucleus {
            let ids = &drawn[&format!("{name}.ids")];
            let case = SamplingCase {
                scores: &drawn[&format!("{name}.scores")],
                logits: &drawn[&format!("{name}.logits")],
                config: args.config(&cases.prompt, tokens),
                nucleus: Nucleus {
                    top_p: args.top_p,
                    top_k: args.top_k,
                    temperature: args.temperature,
                },
                eos: tokens.1,
            };
            let images = images.narrow(0, 0, ids.size()[0]);
            let cross_kv = med.decoder().text.cross_kv(&images, ForwardMode::EVAL);
            let own_logits = med.decoder().logits(ids, &cross_kv, ForwardMode::EVAL);
            let distances = case.compare(ids, &own_logits);
            let Distances { steps, edges, .. } = distances;
            assert!(steps > 0);
            let quantity =
                |of: &str| format!("{steps} distributions of {name}, {of} logits ({shape})");
            let same = distances.same_logits;
            table.number(&quantity("the same"), (1.0, 1.0), same, 1e-6);
            // A probability differs by at most half of what logits do, and the repetition penalty
            // multiplies that.
            let bound = 1e-5 * max_abs(case.logits) * f64::from(args.repetition_penalty);
            let own = distances.own_logits;
            table.number(&quantity("our own"), (1.0, 1.0), own, bound);
            table.number(
                &quantity("the same tokens by our own"),
                ((steps - edges) as f64, steps as f64),
                edges as f64,
                steps as f64 / 20.0,
            );
        }
    });
    table.check();
}

#[test]
fn cached_and_uncached_decoding_agree() {
    let mut table = Table::default();
    for_each_model(|shape, med, images, cases, tokens| {
        let decoder = med.decoder();
        let cross_kv = decoder.text.cross_kv(images, ForwardMode::EVAL);
        let rows = images.size()[0];
        let ids = Tensor::from_slice(&cases.prompt)
            .unsqueeze(0)
            .repeat([rows, 3]); // any tokens do
        let _ = ids.narrow(1, 0, 1).fill_(tokens.0);
        let whole = decoder.logits(&ids, &cross_kv, ForwardMode::EVAL);
        let mut cache = decoder
            .text
            .kv_cache(rows, ids.size()[1], Kind::Float, images.device());
        let first = decoder.text.step(
            &ids.narrow(1, 0, 4),
            &mut cache,
            &cross_kv,
            ForwardMode::EVAL,
        );
        let mut steps = vec![decoder.head(&first, ForwardMode::EVAL)];
        for place in 4..ids.size()[1] {
            let hidden = decoder.text.step(
                &ids.narrow(1, place, 1),
                &mut cache,
                &cross_kv,
                ForwardMode::EVAL,
            );
            steps.push(decoder.head(&hidden, ForwardMode::EVAL));
        }
        super::close(
            &mut table,
            &format!("logits, cached against not ({shape})"),
            &Tensor::cat(&steps, 1),
            &whole,
            1e-5,
        );
    });
    table.check();
}
