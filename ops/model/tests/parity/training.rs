//! Five steps of each training: losses, gradients, parameters, moments, momentum encoders, queue.

use std::collections::BTreeMap;
use std::path::Path;

use blip_model::huggingface::Config;
use blip_model::loss::language;
use blip_model::optimizer::AdamW;
use blip_model::pretrain::{Batch, Losses, Objectives, Settings, Teacher, Tokens, beginning_with};
use blip_model::{Med, Pass, Role, device};
use tch::{Device, Kind, Tensor};

use super::table::Table;
use super::{Tensors, largest, shapes, tensors};

const STEPS: usize = 5;
const QUEUE: i64 = 12;
const PROMPT: i64 = 4;
const RATE: f64 = 1e-4;

struct Case {
    given: Tensors,
    med: Med,
    tokens: Tokens,
}

/// The tensors whose names begin so, without that.
fn under(given: &Tensors, prefix: &str) -> Tensors {
    given
        .iter()
        .filter_map(|(name, tensor)| {
            Some((
                name.strip_prefix(prefix)?.to_owned(),
                tensor.shallow_clone(),
            ))
        })
        .collect()
}

fn case(folder: &Path, name: &str, role: Role) -> Case {
    let config =
        Config::read(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let mut sizes = config.med;
    let given = tensors(&folder.join(format!("{name}.safetensors")));
    if let Some(weight) = given.get("start.vision_proj.weight") {
        sizes.embed = weight.size()[0];
    }
    let med = Med::load(&sizes, role, &under(&given, "start."), Device::Cpu)
        .unwrap()
        .with_gradients();
    let tokens = Tokens {
        enc: sizes.vocab - 1,
        dec: config.tokens.dec,
        pad: config.tokens.pad,
    };
    Case { given, med, tokens }
}

impl Case {
    fn of(&self, step: usize, name: &str) -> &Tensor {
        &self.given[&format!("step.{step}.{name}")]
    }

    fn batch(&self, step: usize) -> Batch {
        let count = self.of(step, "ids").size()[0];
        Batch {
            images: self.of(step, "pixels").shallow_clone(),
            ids: self.of(step, "ids").shallow_clone(),
            mask: self.of(step, "mask").to_kind(Kind::Bool),
            same_image: Vec::try_from(self.of(step, "image_ids")).unwrap(),
            same_text: (0..count).collect(),
        }
    }

    /// Five steps of AdamW on the losses that `compute` gives.
    fn train(
        &self,
        table: &mut Table,
        what: &str,
        mut compute: impl FnMut(&Self, usize) -> Losses,
    ) {
        let med = &self.med;
        let mut weights = med.weights.flat();
        let mut adam = AdamW::new(&weights, 0.05);
        for step in 0..STEPS {
            let losses = compute(self, step);
            for (name, ours) in losses.values() {
                let theirs = self.of(step, name).double_value(&[]);
                table.number(
                    &format!("{name} of step {} ({what})", step + 1),
                    (ours, theirs),
                    (ours - theirs).abs(),
                    1e-5 * theirs.abs().max(1.0),
                );
            }
            let inputs: Vec<&Tensor> = med.weights.trained().collect();
            let gradients =
                Tensor::run_backward(&[&losses.total().unwrap()], &inputs, false, false);
            let gradient = med.weights.lay_out(&gradients);
            if step == 0 {
                self.gradients(table, what, &gradient);
            }
            adam.step(&mut weights, &gradient, RATE);
        }
        let part = |flat: &Tensor| {
            let names = under(&self.given, "start.").into_keys();
            names
                .map(|name| (name.clone(), med.weights.part(flat, &name)))
                .collect::<Tensors>()
        };
        self.compare(
            table,
            &format!("parameters ({what})"),
            "end.",
            &part(&weights),
        );
        self.compare(
            table,
            &format!("AdamW's first moments ({what})"),
            "moment1.",
            &part(&adam.mean),
        );
        self.compare(
            table,
            &format!("AdamW's second moments ({what})"),
            "moment2.",
            &part(&adam.square),
        );
    }

    /// Every tensor's largest difference relative to its largest value.
    fn gradients(&self, table: &mut Table, what: &str, flat: &Tensor) {
        let theirs = under(&self.given, "grad.");
        let overall = theirs.values().map(largest).fold(0.0, f64::max);
        let apart = theirs.iter().map(|(name, theirs)| {
            let ours = self.med.weights.part(flat, name);
            // What is nothing but rounding is measured against the largest gradient of all.
            let scale = if mathematically_zero(name) {
                overall
            } else {
                largest(theirs)
            };
            (
                largest(&(ours - theirs)) / scale.max(f64::MIN_POSITIVE),
                name,
            )
        });
        let (worst, name) = apart
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .unwrap();
        let short = name
            .rsplit('.')
            .take(4)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join(".");
        let count = theirs.len();
        table.number(
            &format!("{count} gradients, worst {short} ({what})"),
            (worst, 0.0),
            worst,
            1e-4,
        );
    }

    /// The largest difference of all tensors, relative to a tensor's largest value where that is
    /// above 1.
    fn compare(&self, table: &mut Table, quantity: &str, prefix: &str, ours: &Tensors) {
        let theirs = under(&self.given, prefix);
        assert!(
            !theirs.is_empty() && ours.keys().eq(theirs.keys()),
            "{quantity}"
        );
        let (mut worst, mut sizes) = (0.0_f64, (0.0_f64, 0.0_f64));
        for (name, theirs) in &theirs {
            let skip = key_bias(name);
            let (ours, theirs) = (without(&ours[name], &skip), without(theirs, &skip));
            sizes = (sizes.0.max(largest(&ours)), sizes.1.max(largest(&theirs)));
            let apart = largest(&(ours - &theirs)) / largest(&theirs).max(1.0);
            worst = if apart.is_nan() || apart > worst {
                apart
            } else {
                worst
            };
        }
        table.number(quantity, sizes, worst, 1e-5);
    }
}

/// The bias of attention's keys adds the same to every score of a query, which softmax takes out
/// again: its gradient is zero but for rounding, and AdamW makes steps of full length out of
/// rounding. Such values are random on both sides.
fn mathematically_zero(name: &str) -> bool {
    name.ends_with(".self.key.bias")
}

/// Which part of a tensor is a bias of keys: all of BERT's, the middle third of a ViT's fused one.
enum KeyBias {
    No,
    All,
    Middle,
}

fn key_bias(name: &str) -> KeyBias {
    if mathematically_zero(name) {
        KeyBias::All
    } else if name.ends_with(".qkv.bias") {
        KeyBias::Middle
    } else {
        KeyBias::No
    }
}

fn without(tensor: &Tensor, part: &KeyBias) -> Tensor {
    match part {
        KeyBias::No => tensor.shallow_clone(),
        KeyBias::All => tensor.zeros_like(),
        KeyBias::Middle => {
            let parts = tensor.chunk(3, 0);
            Tensor::cat(&[&parts[0], &parts[2]], 0)
        }
    }
}

/// Pretraining and the filter's finetuning, which have a teacher and a queue.
fn taught(name: &str, role: Role, aware: bool) {
    let _turn = device::exclusive().unwrap();
    let mut table = Table::default();
    for (shape, folder) in shapes("training") {
        let case = case(&folder, name, role);
        let settings = Settings {
            objectives: Objectives {
                itc: true,
                itm: true,
                lm: role == Role::Pretrained,
            },
            queue: QUEUE,
            aware,
            smoothing: 0.1,
        };
        let mut teacher = Teacher::new(&case.med, settings, case.tokens);
        let mut state = teacher.state();
        state.insert(
            "queue.images".to_owned(),
            case.given["start_queue.image"].tr().contiguous(),
        );
        state.insert(
            "queue.texts".to_owned(),
            case.given["start_queue.text"].tr().contiguous(),
        );
        teacher.restore(&state).unwrap();
        case.train(&mut table, &format!("{name}, {shape}"), |case, step| {
            let luck = Vec::<f32>::try_from(case.of(step, "luck").reshape([-1])).unwrap();
            let mut luck = luck.into_iter().map(f64::from);
            let alpha = case.of(step, "alpha").double_value(&[]);
            let mut unit = || luck.next().expect("a number for every negative");
            teacher.losses(
                &case.med,
                &case.batch(step),
                alpha,
                true,
                Pass::EVAL,
                &mut unit,
            )
        });
        let state = teacher.state();
        let slow = under(&state, "momentum.");
        case.compare(
            &mut table,
            &format!("momentum encoders ({name}, {shape})"),
            "end_momentum.",
            &slow,
        );
        let queue = BTreeMap::from([
            ("ids".to_owned(), state["queue.ids"].to_kind(Kind::Float)),
            ("image".to_owned(), state["queue.images"].tr()),
            ("text".to_owned(), state["queue.texts"].tr()),
        ]);
        case.compare(
            &mut table,
            &format!("queue ({name}, {shape})"),
            "end_queue.",
            &queue,
        );
    }
    table.check();
}

#[test]
fn pretraining_steps_are_those_of_the_reference() {
    taught("pretrain", Role::Pretrained, false);
}

#[test]
fn filter_steps_are_those_of_the_reference() {
    taught("filter", Role::Filter, true);
}

#[test]
fn captioner_steps_are_those_of_the_reference() {
    let _turn = device::exclusive().unwrap();
    let mut table = Table::default();
    for (shape, folder) in shapes("training") {
        let case = case(&folder, "captioner", Role::Captioner);
        case.train(&mut table, &format!("captioner, {shape}"), |case, step| {
            let batch = case.batch(step);
            let images = case.med.vision.forward(&batch.images, Pass::EVAL);
            let ids = beginning_with(case.tokens.dec, &batch.ids);
            let labels = ids.masked_fill(&batch.mask.logical_not(), blip_model::loss::IGNORED);
            let _ = labels.narrow(1, 0, PROMPT).fill_(blip_model::loss::IGNORED);
            let decoder = case.med.decoder();
            let logits =
                decoder.logits(&ids, &decoder.text.memory(&images, Pass::EVAL), Pass::EVAL);
            Losses {
                lm: Some(language(&logits, &labels, 0.1)),
                ..Losses::default()
            }
        });
    }
    table.check();
}

/// What theory says of a model that has learnt nothing: it knows neither which of the queue belongs
/// to an image, nor whether a pair matches, nor which word comes next.
#[test]
fn a_fresh_model_loses_what_theory_says() {
    use blip_model::config::{TextConfig, VisionConfig, VitConfig};
    let _turn = device::exclusive().unwrap();
    let (queue, count, vocab) = (1000_i64, 6_i64, 500_i64);
    let config = blip_model::MedConfig {
        vision: VisionConfig::Vit(VitConfig::tiny(16)),
        text: TextConfig::tiny(),
        vocab,
        embed: 256,
    };
    let med = Med::fresh(&config, Role::Pretrained, 3, Device::Cpu).with_gradients();
    tch::manual_seed(3);
    let settings = Settings {
        objectives: Objectives {
            itc: true,
            itm: true,
            lm: true,
        },
        queue,
        aware: false,
        smoothing: 0.1,
    };
    let tokens = Tokens {
        enc: vocab - 1,
        dec: vocab - 2,
        pad: 0,
    };
    let mut teacher = Teacher::new(&med, settings, tokens);
    let batch = Batch {
        images: Tensor::randn([count, 3, 16, 16], (Kind::Float, Device::Cpu)),
        ids: Tensor::randint_low(5, vocab - 2, [count, 8], (Kind::Int64, Device::Cpu)),
        mask: Tensor::ones([count, 8], (Kind::Bool, Device::Cpu)),
        same_image: (0..count).collect(),
        same_text: (0..count).collect(),
    };
    let losses = teacher
        .losses(&med, &batch, 0.0, true, Pass::EVAL, &mut || 0.5)
        .values();
    let due = [
        ("itc", ((queue + count) as f64).ln(), 1.0),
        ("itm", 0.6666, 0.03),
        ("lm", (vocab as f64).ln(), 0.3),
    ];
    for ((name, loss), (due_name, due, within)) in losses.into_iter().zip(due) {
        assert!(
            name == due_name && (loss - due).abs() < within,
            "{name} is {loss}, due is about {due}"
        );
    }
}
