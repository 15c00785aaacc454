//! Five steps of each training: losses, gradients, parameters, moments, momentum encoders, queue.
//!
//! AdamW makes whole steps of gradients that are only rounding errors, so two right implementations
//! drift apart within a few steps. So gradients are compared at every step, and the step is then
//! made with the reference's: weights differ by the rounding of AdamW alone.

use std::collections::BTreeMap;
use std::path::Path;

use blip_model::huggingface::Config;
use blip_model::loss::{IGNORE_INDEX, lm_loss};
use blip_model::optimizer::AdamW;
use blip_model::pretrain::{
    Batch, LossConfig, Losses, MomentumEncoder, Objectives, Tokens, with_first_token,
};
use blip_model::{ForwardMode, Med, Role, device};
use tch::{Device, Kind, Tensor};

use super::table::Table;
use super::{Tensors, max_abs, shapes, tensors};

const STEPS: usize = 5;
const QUEUE: i64 = 12;
const PROMPT: i64 = 4;
const LR: f64 = 1e-4;

struct Case {
    given: Tensors,
    med: Med,
    tokens: Tokens,
}

/// The tensors whose names begin with `prefix`, without it.
fn with_prefix(given: &Tensors, prefix: &str) -> Tensors {
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
    let med = Med::load(&sizes, role, &with_prefix(&given, "start."), Device::Cpu)
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

    fn of_gradient(&self, step: usize, name: &str) -> &Tensor {
        &self.given[&format!("grad.{step}.{name}")]
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

    /// Five steps on the losses of `compute`.
    fn train(
        &self,
        table: &mut Table,
        what: &str,
        mut compute: impl FnMut(&Self, usize) -> Losses,
    ) {
        let med = &self.med;
        let mut weights = med.weights.flat();
        let mut adam = AdamW::new(&weights, 0.05);
        let mut worst = (0.0, String::new());
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
            let inputs: Vec<&Tensor> = med.weights.parameters().collect();
            let ours = Tensor::run_backward(&[&losses.total().unwrap()], &inputs, false, false);
            let theirs = with_prefix(&self.given, &format!("grad.{step}."));
            let (apart, name) = self.worst_gradient(&med.weights.flatten(&ours), &theirs);
            if apart.is_nan() || apart >= worst.0 {
                worst = (apart, format!("{name} of step {}", step + 1));
            }
            // Both are ascending by name.
            let theirs: Vec<Tensor> = theirs.into_values().collect();
            adam.step(&mut weights, &med.weights.flatten(&theirs), LR);
        }
        let (apart, name) = worst;
        let quantity = format!("gradients, worst {name} ({what})");
        table.number(&quantity, (apart, 0.0), apart, 1e-4);
        for (quantity, prefix, flat) in [
            ("parameters", "end.", &weights),
            ("AdamW's first moments", "moment1.", &adam.exp_avg),
            ("AdamW's second moments", "moment2.", &adam.exp_avg_sq),
        ] {
            let ours: Tensors = with_prefix(&self.given, "start.")
                .into_keys()
                .map(|name| (name.clone(), med.weights.part(flat, &name)))
                .collect();
            self.compare(table, quantity, what, prefix, &ours);
        }
    }

    /// The largest difference of gradients and the name of the tensor that has it, relative to the
    /// largest gradient of that tensor in any step: in one step, what the samples of a batch add to
    /// a bias may cancel out but for rounding errors.
    fn worst_gradient(&self, flat: &Tensor, theirs: &Tensors) -> (f64, String) {
        let overall = theirs.values().map(max_abs).fold(0.0, f64::max);
        let largest = |name: &str| {
            let steps = (0..STEPS).map(|step| max_abs(self.of_gradient(step, name)));
            steps.fold(f64::MIN_POSITIVE, f64::max)
        };
        let mut worst = (0.0, String::new());
        for (name, theirs) in theirs {
            let ours = self.med.weights.part(flat, name);
            // Pure rounding noise is measured against the largest gradient of all.
            let scale = if is_mathematically_zero(name) {
                overall
            } else {
                largest(name)
            };
            let apart = max_abs(&(ours - theirs)) / scale;
            if apart.is_nan() || apart >= worst.0 {
                worst = (apart, short_name(name));
            }
        }
        worst
    }

    /// The largest difference of all tensors, relative to a tensor's largest value where that is
    /// above 1, and which tensor has it.
    fn compare(&self, table: &mut Table, quantity: &str, what: &str, prefix: &str, ours: &Tensors) {
        let theirs = with_prefix(&self.given, prefix);
        assert!(
            !theirs.is_empty() && ours.keys().eq(theirs.keys()),
            "{quantity}"
        );
        let (mut worst, mut worst_name, mut sizes) = (0.0, "", (0.0_f64, 0.0_f64));
        for (name, theirs) in &theirs {
            let ours = &ours[name];
            sizes = (sizes.0.max(max_abs(ours)), sizes.1.max(max_abs(theirs)));
            let apart = max_abs(&(ours - theirs)) / max_abs(theirs).max(1.0);
            if apart.is_nan() || apart >= worst {
                (worst, worst_name) = (apart, name);
            }
        }
        let quantity = format!("{quantity}, worst {} ({what})", short_name(worst_name));
        table.number(&quantity, sizes, worst, 1e-5);
    }
}

/// The last four parts of a tensor's name.
fn short_name(name: &str) -> String {
    let mut parts: Vec<&str> = name.rsplit('.').take(4).collect();
    parts.reverse();
    parts.join(".")
}

/// The bias of attention's keys adds the same value to every score of a query, which softmax
/// cancels: its gradient is zero up to rounding, and random on both sides. A ViT's is a third of a
/// larger bias.
fn is_mathematically_zero(name: &str) -> bool {
    name.ends_with(".self.key.bias")
}

/// Pretraining and the filter's finetuning, which have momentum encoders and a queue.
fn compare_momentum_training(name: &str, role: Role, same_image_is_positive: bool) {
    let _device_lock = device::lock().unwrap();
    let mut table = Table::default();
    for (shape, folder) in shapes("training") {
        let case = case(&folder, name, role);
        let config = LossConfig {
            objectives: Objectives {
                itc: true,
                itm: true,
                lm: role == Role::Pretrained,
            },
            queue: QUEUE,
            same_image_is_positive,
            smoothing: 0.1,
        };
        let mut momentum = MomentumEncoder::new(&case.med, config, case.tokens);
        let mut state = momentum.state();
        state.insert(
            "queue.images".to_owned(),
            case.given["start_queue.image"].tr().contiguous(),
        );
        state.insert(
            "queue.texts".to_owned(),
            case.given["start_queue.text"].tr().contiguous(),
        );
        momentum.restore(&state).unwrap();
        case.train(&mut table, &format!("{name}, {shape}"), |case, step| {
            let luck = Vec::<f32>::try_from(case.of(step, "luck").reshape([-1])).unwrap();
            let mut numbers = luck.into_iter().map(f64::from);
            let alpha = case.of(step, "alpha").double_value(&[]);
            let mut uniform = || numbers.next().expect("a number for every negative");
            momentum.losses(
                &case.med,
                &case.batch(step),
                alpha,
                true,
                ForwardMode::EVAL,
                &mut uniform,
            )
        });
        let state = momentum.state();
        let encoders = with_prefix(&state, "momentum.");
        case.compare(
            &mut table,
            "momentum encoders",
            &format!("{name}, {shape}"),
            "end_momentum.",
            &encoders,
        );
        let queue = BTreeMap::from([
            ("ids".to_owned(), state["queue.ids"].to_kind(Kind::Float)),
            ("image".to_owned(), state["queue.images"].tr()),
            ("text".to_owned(), state["queue.texts"].tr()),
        ]);
        case.compare(
            &mut table,
            "queue",
            &format!("{name}, {shape}"),
            "end_queue.",
            &queue,
        );
    }
    table.check();
}

#[test]
fn pretraining_steps_are_those_of_the_reference() {
    compare_momentum_training("pretrain", Role::Pretrained, false);
}

#[test]
fn filter_steps_are_those_of_the_reference() {
    compare_momentum_training("filter", Role::Filter, true);
}

#[test]
fn captioner_steps_are_those_of_the_reference() {
    let _device_lock = device::lock().unwrap();
    let mut table = Table::default();
    for (shape, folder) in shapes("training") {
        let case = case(&folder, "captioner", Role::Captioner);
        case.train(&mut table, &format!("captioner, {shape}"), |case, step| {
            let batch = case.batch(step);
            let images = case.med.vision.forward(&batch.images, ForwardMode::EVAL);
            let ids = with_first_token(case.tokens.dec, &batch.ids);
            let labels = ids.masked_fill(&batch.mask.logical_not(), IGNORE_INDEX);
            let _ = labels.narrow(1, 0, PROMPT).fill_(IGNORE_INDEX);
            let decoder = case.med.decoder();
            let logits = decoder.logits(
                &ids,
                &decoder.text.cross_kv(&images, ForwardMode::EVAL),
                ForwardMode::EVAL,
            );
            Losses {
                lm: Some(lm_loss(&logits, &labels, 0.1)),
                ..Losses::default()
            }
        });
    }
    table.check();
}

/// An untrained model predicts uniform distributions: over queue and batch (ITC), over the two
/// classes with their shares (ITM), over the vocabulary (LM).
#[test]
fn an_untrained_model_has_the_losses_of_chance() {
    use blip_model::config::{TextConfig, VisionConfig, VitConfig};
    let _device_lock = device::lock().unwrap();
    let (queue, count, vocab) = (1000_i64, 6_i64, 500_i64);
    let config = blip_model::MedConfig {
        vision: VisionConfig::Vit(VitConfig::tiny(16)),
        text: TextConfig::tiny(),
        vocab,
        embed: 256,
    };
    let med = Med::fresh(&config, Role::Pretrained, 3, Device::Cpu).with_gradients();
    tch::manual_seed(3);
    let config = LossConfig {
        objectives: Objectives {
            itc: true,
            itm: true,
            lm: true,
        },
        queue,
        same_image_is_positive: false,
        smoothing: 0.1,
    };
    let tokens = Tokens {
        enc: vocab - 1,
        dec: vocab - 2,
        pad: 0,
    };
    let mut momentum = MomentumEncoder::new(&med, config, tokens);
    let batch = Batch {
        images: Tensor::randn([count, 3, 16, 16], (Kind::Float, Device::Cpu)),
        ids: Tensor::randint_low(5, vocab - 2, [count, 8], (Kind::Int64, Device::Cpu)),
        mask: Tensor::ones([count, 8], (Kind::Bool, Device::Cpu)),
        same_image: (0..count).collect(),
        same_text: (0..count).collect(),
    };
    let losses = momentum
        .losses(&med, &batch, 0.0, true, ForwardMode::EVAL, &mut || 0.5)
        .values();
    let expected = [
        ("itc", ((queue + count) as f64).ln(), 1.0),
        ("itm", 0.6666, 0.03),
        ("lm", (vocab as f64).ln(), 0.3),
    ];
    for ((name, loss), (expected_name, expected, tolerance)) in losses.into_iter().zip(expected) {
        assert!(
            name == expected_name && (loss - expected).abs() < tolerance,
            "{name} is {loss}, expected about {expected}"
        );
    }
}
