//! Captions: the token ids of greedy and beam search, the distributions of sampling, caches against
//! none.

use std::fs;

use blip_model::generate::{
    Beam, Decoding, Limits, Nucleus, generate, nucleus_distribution, process,
};
use blip_model::{Med, Pass, Role, device};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::table::{Table, folder};
use super::{largest, model, shapes, tensors};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
    nucleus: std::collections::BTreeMap<String, Setting>,
    prompt: Vec<i64>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    setting: Setting,
    prompt: Vec<i64>,
    ids: Vec<Vec<i64>>,
    /// By row, where it is another text.
    #[serde(default)]
    in_64_bits: std::collections::BTreeMap<String, Vec<i64>>,
}

#[derive(Deserialize)]
struct Setting {
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

impl Setting {
    /// transformers replaces the prompt's first token by [DEC] and drops its last, [SEP]; without a
    /// prompt it begins with [DEC] alone.
    fn limits(&self, prompt: &[i64], (dec, sep): (i64, i64)) -> Limits {
        let inner = prompt.get(1..prompt.len().saturating_sub(1)).unwrap_or(&[]);
        Limits {
            prompt: [&[dec], inner].concat(),
            min_length: self.min_length,
            max_length: self.max_length,
            repetition_penalty: self.repetition_penalty,
            end: sep,
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

/// A text up to its end token, which is looked for behind the prompt. What transformers fills up
/// with is not compared: [PAD], or behind beams [SEP], because it takes the id 0 for none.
fn cut(ids: &[i64], prompt: usize, sep: i64) -> &[i64] {
    let end = ids.iter().skip(prompt).position(|id| *id == sep);
    end.map_or(ids, |end| &ids[..=prompt + end])
}

/// The models of `decoding.py` with their images, memories and cases.
fn each(mut check: impl FnMut(&str, &Med, &Tensor, &Cases, (i64, i64))) {
    let _turn = device::exclusive().unwrap();
    let _still = tch::no_grad_guard();
    for (shape, given) in shapes("decoding") {
        let (checkpoint, med) = model(
            &folder("forward").join(&shape).join("captioner"),
            Role::Captioner,
        );
        let pixels = &tensors(&given.join("images.safetensors"))["pixels"];
        let cases = serde_json::from_slice(&fs::read(given.join("cases.json")).unwrap()).unwrap();
        let images = med.vision.forward(pixels, Pass::EVAL);
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
fn greedy_and_beam_search_write_what_transformers_does() {
    let mut table = Table::default();
    each(|shape, med, images, cases, tokens| {
        let memory = med.decoder().text.memory(images, Pass::EVAL);
        for Case {
            name,
            setting,
            prompt,
            ids,
            in_64_bits,
        } in &cases.cases
        {
            let limits = setting.limits(prompt, tokens);
            let run = (ids.len(), 1);
            let ours = generate(
                med.decoder(),
                &memory,
                run,
                &limits,
                setting.decoding(),
                Pass::EVAL,
                &|_, _| 0.0,
            );
            let is =
                |ours: &[i64], theirs: &[i64]| *ours == *cut(theirs, limits.prompt.len(), tokens.1);
            let equal = ours
                .iter()
                .zip(ids)
                .filter(|(ours, theirs)| is(ours, theirs))
                .count();
            // Where rounding decides between two beams, transformers itself writes another text in
            // 64 bits.
            let unsure = in_64_bits.iter().filter(|(row, theirs)| {
                let row = row.parse::<usize>().unwrap();
                is(&ours[row], theirs) && !is(&ours[row], &ids[row])
            });
            let unsure = unsure.count();
            let begin = if prompt.is_empty() {
                "without prompt"
            } else {
                "with prompt"
            };
            let note = if unsure == 0 {
                String::new()
            } else {
                format!(", {unsure} as in 64 bits")
            };
            table.equal(
                &format!("captions by {name}, {begin}{note} ({shape})"),
                equal + unsure,
                ids.len(),
            );
        }
    });
    table.check();
}

#[test]
fn sampling_has_the_distributions_of_transformers() {
    let mut table = Table::default();
    each(|shape, med, images, cases, tokens| {
        let drawn = tensors(&folder("decoding").join(shape).join("nucleus.safetensors"));
        for (name, setting) in &cases.nucleus {
            let (ids, scores) = (
                &drawn[&format!("{name}.ids")],
                &drawn[&format!("{name}.scores")],
            );
            let limits = setting.limits(&cases.prompt, tokens);
            let start = limits.prompt.len();
            let nucleus = Nucleus {
                top_p: setting.top_p,
                top_k: setting.top_k,
                temperature: setting.temperature,
            };
            let texts = Vec::<Vec<i64>>::try_from(ids).unwrap();
            let images = images.narrow(0, 0, texts.len() as i64);
            let memory = med.decoder().text.memory(&images, Pass::EVAL);
            let logits = med.decoder().logits(ids, &memory, Pass::EVAL);
            let given = &drawn[&format!("{name}.logits")];
            // How far the probabilities lie apart: from their logits, and from ours.
            let (mut same, mut own, mut steps, mut edges) = (0.0_f64, 0.0_f64, 0_usize, 0_usize);
            for (row, text) in texts.iter().enumerate() {
                for length in start..cut(text, start, tokens.1).len() {
                    let place =
                        |step: usize, table: &Tensor| table.get(row as i64).get(step as i64);
                    let theirs = place(length - start, scores).softmax(-1, Kind::Double);
                    let theirs = Vec::<f64>::try_from(&theirs).unwrap();
                    let kept = theirs
                        .iter()
                        .filter(|probability| **probability > 0.0)
                        .count();
                    // How far apart, and how many tokens only one of them draws.
                    let apart = |logits: Tensor| {
                        let mut logits = Vec::<f32>::try_from(logits).unwrap();
                        process(&mut logits, &text[..length], &limits);
                        let mut apart = theirs.clone();
                        let ours = nucleus_distribution(&logits, nucleus);
                        for (token, probability) in &ours {
                            apart[*token as usize] -= probability;
                        }
                        let most = apart
                            .iter()
                            .fold(0.0_f64, |largest, difference| largest.max(difference.abs()));
                        let both = ours
                            .iter()
                            .filter(|(token, _)| theirs[*token as usize] > 0.0)
                            .count();
                        (most, ours.len() + kept - 2 * both)
                    };
                    same = same.max(apart(place(length - start, given)).0);
                    let (most, single) = apart(place(length - 1, &logits));
                    // About a token at the very edge of the nucleus, or which of two, rounding
                    // decides.
                    if (1..=2).contains(&single) {
                        edges += 1;
                    } else {
                        own = own.max(most);
                    }
                    steps += 1;
                }
            }
            assert!(steps > 0);
            let quantity =
                |of: &str| format!("{steps} distributions of {name}, {of} logits ({shape})");
            table.number(&quantity("the same"), (1.0, 1.0), same, 1e-6);
            // A probability moves by at most half of what logits do, and the repetition penalty
            // multiplies that.
            let bound = 1e-5 * largest(given) * f64::from(setting.repetition_penalty);
            table.number(&quantity("our own"), (1.0, 1.0), own, bound);
            let within = (steps - edges) as f64;
            table.number(
                &quantity("the same tokens by our own"),
                (within, steps as f64),
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
    each(|shape, med, images, cases, tokens| {
        let decoder = med.decoder();
        let memory = decoder.text.memory(images, Pass::EVAL);
        let rows = images.size()[0];
        let ids = Tensor::from_slice(&cases.prompt)
            .unsqueeze(0)
            .repeat([rows, 3]); // any tokens do
        let _ = ids.narrow(1, 0, 1).fill_(tokens.0);
        let whole = decoder.logits(&ids, &memory, Pass::EVAL);
        let mut cache = decoder
            .text
            .cache(rows, ids.size()[1], Kind::Float, images.device());
        let first = decoder
            .text
            .step(&ids.narrow(1, 0, 4), &mut cache, &memory, Pass::EVAL);
        let mut steps = vec![decoder.head(&first, Pass::EVAL)];
        for place in 4..ids.size()[1] {
            let hidden =
                decoder
                    .text
                    .step(&ids.narrow(1, place, 1), &mut cache, &memory, Pass::EVAL);
            steps.push(decoder.head(&hidden, Pass::EVAL));
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
