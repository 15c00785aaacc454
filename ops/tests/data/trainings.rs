//! Trainings and models on odd data: one pair, a diverging learning rate, mismatched sizes, a
//! ResNet, texts of unknown words.

use crate::world::{World, end, list, scenes};

/// All stages on a few small images; `arguments` are those of `pretrain`.
fn workflow(count: usize, vision: &str, arguments: &str) -> String {
    format!(
        "pairs = read.scenes(\"human\", count = {count}, style = \"human\", side = 16, seed = 1)\n\
         vocab = learn.wordpiece(pairs, size = 100)\n\
         text = bert.custom(width = 16, depth = 1, heads = 2, positions = 32)\n\
         net = med({vision}, text, vocab, embed = 8)\n\
         base = pretrain(net, pairs, {arguments}, warmup = 0, seed = 7)\n\
         judge = finetune_filter(base, pairs, epochs = 1, batch = 4, queue = 5, seed = 7)\n\
         captioner = finetune_captioner(base, pairs, epochs = 1, batch = 4, seed = 7)\n\
         texts = caption(captioner, pairs, decode = beam())\n\
         kept = filter(judge, merge(pairs, texts), threshold = 0.0)\n\
         quality = evaluate(base, pairs)\n\
         judged = evaluate(judge, kept)\n\
         written = evaluate(captioner, pairs)\n"
    )
}

const VIT: &str = "vit.custom(image = 16, patch = 8, width = 16, depth = 1, heads = 2)";

#[test]
fn one_pair_is_enough_to_go_through_all_stages() {
    let summary = World::new().done(&workflow(1, VIT, "epochs = 2, batch = 4, queue = 3"));
    let metrics = &end(&summary, "base").metrics;
    let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["steps", "pairs", "itc", "lm", "loss"],
        "without a mismatched pair there is no ITM"
    );
}

#[test]
fn a_resnet_encodes_images_too() {
    World::new().done(&workflow(
        6,
        "resnet50(image = 32)",
        "epochs = 1, batch = 3, queue = 0",
    ));
}

#[test]
fn bfloat16_trains() {
    let summary = World::new().done(&workflow(
        6,
        VIT,
        "epochs = 1, batch = 3, queue = 4, precision = \"bf16\"",
    ));
    let lm = end(&summary, "base")
        .metrics
        .iter()
        .find(|(name, _)| name == "lm")
        .unwrap()
        .1;
    assert!((3.0..6.0).contains(&lm), "near ln of the vocabulary: {lm}");
}

#[test]
fn a_divergence_is_reported_with_step_and_losses() {
    let world = World::new();
    let (what, help) = world.failure(
        &workflow(
            8,
            VIT,
            "epochs = 200, batch = 4, queue = 4, lr = 9.9, decay = 1.0, weight_decay = 1.0",
        ),
        "base",
    );
    assert!(
        what.starts_with("the training diverged at step ") && what.contains(" of 400: "),
        "{what}"
    );
    assert!(what.contains("itc ") && what.contains("lm "), "{what}");
    assert_eq!(help, "lower `lr`, or raise `warmup` or `batch`");
}

#[test]
fn mismatched_sizes_are_reported() {
    let world = World::new();
    let failure = |vision: &str, arguments: &str, stage: &str| {
        world.failure(&workflow(4, vision, arguments), stage)
    };
    let pair = |what: &str, help: &str| (what.to_owned(), help.to_owned());
    assert_eq!(
        failure(
            "vit.custom(image = 20, patch = 8, width = 16, depth = 1, heads = 2)",
            "epochs = 1",
            "net"
        ),
        pair(
            "image size 20 is not divisible by the patch size 8",
            "choose matching sizes in `vision` and `text`"
        )
    );
    assert_eq!(
        failure(VIT, "epochs = 1, batch = 2, accumulate = 3", "base"),
        pair(
            "cannot split a batch of 2 into 3 micro-batches",
            "lower `accumulate` or raise `batch`"
        )
    );
    assert_eq!(
        failure(VIT, "epochs = 1, objectives = []", "base"),
        pair(
            "`objectives` is empty: there is nothing to train",
            "list at least one of \"itc\", \"itm\", \"lm\""
        )
    );
    let decoding_failure = |caption: &str| {
        let text = workflow(4, VIT, "epochs = 1, batch = 4, queue = 4")
            .replace("decode = beam()", caption);
        world.failure(&text, "texts")
    };
    assert_eq!(
        decoding_failure("decode = beam(max_length = 3)"),
        pair(
            "`max_length` is 3, but the captioner's prompt alone has 4 tokens",
            "raise `max_length`: it includes the prompt"
        )
    );
    assert_eq!(
        decoding_failure("decode = beam(max_length = 50)"),
        pair(
            "`max_length` is 50, but the captioner supports at most 32 tokens",
            "lower `max_length`"
        )
    );
    assert_eq!(
        decoding_failure("decode = beam(min_length = 30, max_length = 20)"),
        pair(
            "`min_length` (30) is greater than `max_length` (20)",
            "lower `min_length` or raise `max_length`"
        )
    );
}

#[test]
fn texts_without_a_known_word_are_rejected() {
    let world = World::new();
    let mut samples = scenes("web", 4);
    samples[2].text = "日本".to_owned();
    world.shard_of("web.tar", &samples);
    let vocabulary =
        workflow(4, VIT, "epochs = 1, batch = 2, queue = 4").replace("net, pairs,", "net, web,");
    let summary = world.done(&format!("web = read.webdataset(\"web.tar\")\n{vocabulary}"));
    assert_eq!(
        world.rejected(&summary, "base"),
        list([(
            samples[2].key.as_str(),
            "no word of the text is in the vocabulary"
        )])
    );
    let only = vocabulary.replace("net, web,", "net, none,");
    samples
        .iter_mut()
        .for_each(|sample| sample.text = "日本".to_owned());
    world.shard_of("none.tar", &samples);
    let failure = world.failure(
        &format!("none = read.webdataset(\"none.tar\")\n{only}"),
        "base",
    );
    assert_eq!(
        failure,
        (
            "`none` has no pairs to train on".to_owned(),
            "check why the dataset is empty, or whether the vocabulary is of another language"
                .to_owned()
        )
    );
}
