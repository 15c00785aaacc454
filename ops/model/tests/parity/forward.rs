//! Features, similarities, logits and losses of forward passes.

use std::path::Path;

use blip_model::loss::lm_loss;
use blip_model::text::{LmHead, TextEncoder};
use blip_model::vision::{Vision, resize};
use blip_model::{ForwardMode, Med, Role, Weights, device};
use tch::{Device, Kind, Tensor};

use blip_model::huggingface::{Checkpoint, CheckpointKind, Class};

use super::table::Table;
use super::{Tensors, close, model, shapes, tensors};

/// Of the largest difference, relative to the largest value.
const BOUND: f64 = 1e-5;

fn inputs(folder: &Path) -> Tensors {
    tensors(&folder.join("forward.safetensors"))
}

fn mask(tensor: &Tensor) -> Tensor {
    tensor.to_kind(Kind::Bool)
}

#[test]
fn captioners_compute_what_transformers_does() {
    let _device_lock = device::lock().unwrap();
    let _still = tch::no_grad_guard();
    let mut table = Table::default();
    for (shape, folder) in shapes("forward") {
        let folder = folder.join("captioner");
        let given = inputs(&folder);
        let (checkpoint, med) = model(&folder, Role::Captioner);
        let mut row = |quantity: &str, ours: &Tensor, theirs: &str| {
            close(
                &mut table,
                &format!("{quantity} ({shape})"),
                ours,
                &given[theirs],
                BOUND,
            );
        };
        let images = med.vision.forward(&given["pixels"], ForwardMode::EVAL);
        row("image states", &images, "image_states");
        let cross_kv = med.decoder().text.cross_kv(&images, ForwardMode::EVAL);
        let logits = med
            .decoder()
            .logits(&given["ids"], &cross_kv, ForwardMode::EVAL);
        // Logits at padding are not compared: transformers masks padding, here a token attends to
        // everything before it. No loss uses them.
        let real = mask(&given["mask"]).unsqueeze(-1);
        let theirs = given["logits"].masked_fill(&real.logical_not(), 0.0);
        close(
            &mut table,
            &format!("LM logits ({shape})"),
            &logits.masked_fill(&real.logical_not(), 0.0),
            &theirs,
            BOUND,
        );
        let mut row = |quantity: &str, ours: &Tensor, theirs: &str| {
            close(
                &mut table,
                &format!("{quantity} ({shape})"),
                ours,
                &given[theirs],
                BOUND,
            );
        };
        row("LM loss", &lm_loss(&logits, &given["labels"], 0.0), "loss");
        row(
            "LM loss, smoothed by 0.1",
            &lm_loss(&logits, &given["labels"], 0.1),
            "loss_smooth",
        );

        let mut config = checkpoint.config.med.clone();
        let mut found = checkpoint.tensors_of(Role::Captioner, &[]).unwrap();
        resize(&mut config, &mut found, given["larger"].size()[3]).unwrap();
        let larger = Med::load(&config, Role::Captioner, &found, Device::Cpu).unwrap();
        row(
            "image states, positions resampled",
            &larger.vision.forward(&given["larger"], ForwardMode::EVAL),
            "larger_states",
        );
    }
    table.check();
}

#[test]
fn filters_compute_what_transformers_does() {
    let _device_lock = device::lock().unwrap();
    let _still = tch::no_grad_guard();
    let mut table = Table::default();
    for (shape, folder) in shapes("forward") {
        let folder = folder.join("matcher");
        let given = inputs(&folder);
        let (checkpoint, med) = model(&folder, Role::Filter);
        let mut row = |quantity: &str, ours: &Tensor, theirs: &str| {
            close(
                &mut table,
                &format!("{quantity} ({shape})"),
                ours,
                &given[theirs],
                BOUND,
            );
        };
        let (ids, mask) = (&given["ids"], mask(&given["mask"]));
        let images = med.vision.forward(&given["pixels"], ForwardMode::EVAL);
        row("image states", &images, "image_states");
        let features = &med.encoder().features;
        let (image, text) = (
            features.images(&images, ForwardMode::EVAL),
            features.texts(ids, &mask, ForwardMode::EVAL),
        );
        row("image features", &image, "image_features");
        row("text features", &text, "text_features");
        row("ITC similarities", &image.matmul(&text.tr()), "itc");
        let cross_kv = features.text.cross_kv(&images, ForwardMode::EVAL);
        let matched = |first: i64| {
            let ids = blip_model::pretrain::with_first_token(first, ids);
            med.encoder()
                .match_logits(&ids, &mask, &cross_kv, ForwardMode::EVAL)
        };
        row(
            "ITM logits with [CLS]",
            &matched(ids.int64_value(&[0, 0])),
            "itm_cls",
        );
        row(
            "ITM logits with [ENC]",
            &matched(checkpoint.config.med.vocab - 1),
            "itm_enc",
        );
    }
    table.check();
}

#[test]
fn question_answering_computes_what_transformers_does() {
    let _device_lock = device::lock().unwrap();
    let _still = tch::no_grad_guard();
    let mut table = Table::default();
    for (shape, folder) in shapes("forward") {
        let folder = folder.join("answerer");
        if !folder.exists() {
            continue;
        }
        let given = inputs(&folder);
        let checkpoint = Checkpoint::read(&folder).unwrap();
        let config = &checkpoint.config.med;
        let specs = CheckpointKind::Class(Class::QuestionAnswering).specs(config);
        let weights = Weights::load(&specs, &checkpoint.tensors, Device::Cpu).unwrap();
        let images = Vision::new(&weights, "vision_model", &config.vision)
            .forward(&given["pixels"], ForwardMode::EVAL);
        let question = TextEncoder::new(&weights, "text_encoder", &config.text);
        let cross_kv = question.cross_kv(&images, ForwardMode::EVAL);
        let states = question.encode(
            &given["ids"],
            &mask(&given["mask"]),
            Some(&cross_kv),
            ForwardMode::EVAL,
        );
        close(
            &mut table,
            &format!("question states ({shape})"),
            &states,
            &given["question_states"],
            BOUND,
        );
        // Here answers attend to all question tokens, padding included, so only rows whose
        // questions have no padding are compared.
        let full = given["mask"]
            .to_kind(Kind::Int64)
            .prod_dim_int(1, false, Kind::Int64)
            .to_kind(Kind::Bool);
        let rows = full.nonzero().reshape([-1]);
        let pick = |tensor: &Tensor| tensor.index_select(0, &rows);
        let decoder = TextEncoder::new(&weights, "text_decoder.bert", &config.text);
        let head = LmHead::new(&weights, "text_decoder.cls.predictions", &config.text);
        let cross_kv = decoder.cross_kv(&pick(&states), ForwardMode::EVAL);
        let hidden = decoder.decode(&pick(&given["answers"]), &cross_kv, ForwardMode::EVAL);
        let real = mask(&pick(&given["answer_mask"]))
            .unsqueeze(-1)
            .logical_not();
        let logits = head
            .forward(&hidden, decoder.word_embeddings(), ForwardMode::EVAL)
            .masked_fill(&real, 0.0);
        let theirs = pick(&given["logits"]).masked_fill(&real, 0.0);
        close(
            &mut table,
            &format!("answer logits ({shape})"),
            &logits,
            &theirs,
            BOUND,
        );
    }
    table.check();
}
