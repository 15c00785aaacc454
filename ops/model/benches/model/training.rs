//! Training steps from pixels to new weights: losses, gradients, AdamW.

use blip_model::loss::lm_loss;
use blip_model::optimizer::AdamW;
use blip_model::pretrain::{
    Batch, LossConfig, MomentumEncoder, Objectives, Tokens, with_first_token,
};
use blip_model::{ForwardMode, Med, Role};
use tch::{Device, Kind, Tensor};

use crate::{Size, measure};

/// Tokens of a text; captions mostly have 8 to 14.
const LENGTH: i64 = 12;
const TRAIN: ForwardMode = ForwardMode {
    train: true,
    bf16: false,
};
const SMOOTHING: f64 = 0.1;
/// So small that the model stays as it is.
const RATE: f64 = 1e-9;
const WEIGHT_DECAY: f64 = 0.05;
/// Share of the momentum encoders' opinion in ITC, as in pretraining after the first epoch.
const ALPHA: f64 = 0.4;

/// Finetuning of a captioner.
pub(crate) fn lm(size: &Size) {
    let med = size.model(Role::Captioner).with_gradients();
    let mut adam = AdamW::new(&med.weights.flat(), WEIGHT_DECAY);
    let (batch, tokens) = (batch(size), tokens(size));
    let operations = size.operations().lm_step(LENGTH);
    let step = || {
        let images = med.vision.forward(&batch.images, TRAIN);
        let ids = with_first_token(tokens.dec, &batch.ids);
        let memory = med.decoder().text.cross_kv(&images, TRAIN);
        let logits = med.decoder().logits(&ids, &memory, TRAIN);
        update(&med, &lm_loss(&logits, &ids, SMOOTHING), &mut adam);
    };
    let title = title(size);
    measure(size, "LM step", &title, size.batch, operations, step);
}

/// Pretraining with all three objectives.
pub(crate) fn pretraining(size: &Size) {
    let med = size.model(Role::Pretrained).with_gradients();
    let mut adam = AdamW::new(&med.weights.flat(), WEIGHT_DECAY);
    let settings = LossConfig {
        objectives: Objectives {
            itc: true,
            itm: true,
            lm: true,
        },
        queue: size.queue,
        same_image_is_positive: false,
        smoothing: SMOOTHING,
    };
    let mut teacher = MomentumEncoder::new(&med, settings, tokens(size));
    let batch = batch(size);
    let operations = size.operations().pretraining_step(LENGTH);
    let step = || {
        let losses = teacher.losses(&med, &batch, ALPHA, true, TRAIN, &mut || 0.5);
        let loss = losses.total().expect("three losses");
        update(&med, &loss, &mut adam);
    };
    let title = title(size);
    let name = "pretraining step";
    measure(size, name, &title, size.batch, operations, step);
}

fn title(size: &Size) -> String {
    format!("{} pairs with texts of {LENGTH} tokens", size.batch)
}

/// Moves the weights by the gradient of the loss.
fn update(med: &Med, loss: &Tensor, adam: &mut AdamW) {
    let inputs: Vec<&Tensor> = med.weights.parameters().collect();
    let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
    let gradient = med.weights.flatten(&gradients);
    adam.step(&mut med.weights.flat(), &gradient, RATE);
}

fn tokens(size: &Size) -> Tokens {
    Tokens {
        enc: size.med.vocab - 1,
        dec: size.med.vocab - 2,
        pad: 0,
    }
}

/// Rng pairs without padding, all different.
fn batch(size: &Size) -> Batch {
    let shape = [size.batch, LENGTH];
    let words = size.med.vocab - 2;
    Batch {
        images: size.images(size.batch),
        ids: Tensor::randint_low(5, words, shape, (Kind::Int64, Device::Cpu)),
        mask: Tensor::ones(shape, (Kind::Bool, Device::Cpu)),
        same_image: (0..size.batch).collect(),
        same_text: (0..size.batch).collect(),
    }
}
