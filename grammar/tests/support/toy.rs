//! Signatures of ops with every kind of argument, under the names that workflows use. They have no
//! implementation: the language needs none.

use blip_grammar::{Arg, ExportFormat, Signature, Signatures, Type};

const PAIRS: Type = Type::Named("Pairs");
const MODEL: Type = Type::Named("Model");
const CAPTIONER: Type = Type::Named("Captioner");
const FILTER: Type = Type::Named("Filter");
const VISION: Type = Type::Named("Vision");
const TEXT: Type = Type::Named("Text");
const NET: Type = Type::Named("Net");
const VOCAB: Type = Type::Named("Vocab");
const DECODE: Type = Type::Named("Decode");
const METRICS: Type = Type::Named("Metrics");
const OBJECTIVE: Type = Type::Choice(&["itc", "itm", "lm"]);

pub(crate) fn signatures() -> Signatures {
    let formats = vec![
        format("webdataset", &[PAIRS]),
        format("json", &[PAIRS, METRICS]),
        format("huggingface", &[MODEL, CAPTIONER, FILTER]),
    ];
    let ops = [data(), networks(), training(), applying()].concat();
    Signatures::new(ops, formats, vec!["Metrics"]).expect("the toy ops are valid")
}

fn data() -> Vec<Signature> {
    vec![
        op(
            "read.webdataset",
            PAIRS,
            &[
                need("shards", Type::Path, "the shards"),
                optional("limit", Type::Int, "at most so many pairs").within(1.0, f64::INFINITY),
                is("workers", Type::Int, "2", "decoding threads")
                    .within(1.0, 64.0)
                    .not_in_key(),
            ],
        ),
        op(
            "read.captions",
            PAIRS,
            &[
                need("list", Type::Path, "the list of captions"),
                is("images", Type::Path, "\".\"", "the folder of the images"),
            ],
        ),
        op(
            "read.wordpiece",
            VOCAB,
            &[need("file", Type::Path, "the list of words.")],
        ),
        op(
            "merge",
            PAIRS,
            &[
                need("pairs", PAIRS, "the pairs to merge").variadic(),
                is(
                    "dedupe",
                    Type::Bool,
                    "true",
                    "whether equal pairs are kept once",
                ),
            ],
        ),
    ]
}

fn networks() -> Vec<Signature> {
    let image = is("image", Type::Int, "224", "width and height of images").within(32.0, 1024.0);
    vec![
        config(
            "vit.base",
            VISION,
            &[
                image.clone(),
                is("patch", Type::Int, "16", "width and height of a patch"),
            ],
        ),
        config("vit.tiny", VISION, &[image]),
        config("bert.base", TEXT, &[]),
        config("bert.tiny", TEXT, &[]),
        config(
            "custom",
            TEXT,
            &[need("layers", Type::Int, "how many").within(1.0, 48.0)],
        ),
        config(
            "med",
            NET,
            &[
                need("vision", VISION, "the image encoder"),
                is("text", TEXT, "bert.base", "the text encoder and decoder"),
                need("vocab", VOCAB, "the words"),
            ],
        ),
        config("greedy", DECODE, &[]),
        config(
            "nucleus",
            DECODE,
            &[
                is(
                    "top_p",
                    Type::Float,
                    "0.9",
                    "the share of probability that is sampled from",
                )
                .within(0.0, 1.0),
                optional("top_k", Type::Int, "sample from so many words only").within(1.0, 1e6),
            ],
        ),
    ]
}

fn training() -> Vec<Signature> {
    let hyperparameters = [
        is("epochs", Type::Int, "20", "passes over the pairs").within(1.0, 1000.0),
        is("batch", Type::Int, "256", "pairs in a step").within(1.0, f64::INFINITY),
        is("lr", Type::Float, "3e-4", "the learning rate").within(0.0, 1.0),
        is(
            "betas",
            Type::List(&Type::Float),
            "[0.9, 0.999]",
            "decay rates of the moments",
        )
        .within(0.0, 1.0),
        is(
            "precision",
            Type::Choice(&["fp32", "bf16"]),
            "\"fp32\"",
            "the number format",
        ),
        is(
            "objectives",
            Type::List(&OBJECTIVE),
            "[\"itc\", \"itm\", \"lm\"]",
            "the losses",
        ),
        is("seed", Type::Int, "0", "the seed of the random generator"),
    ];
    let training = |name, first, output, rest: &[Arg]| {
        op(
            name,
            output,
            &[
                &[first, need("pairs", PAIRS, "the training data")],
                rest,
                &hyperparameters,
            ]
            .concat(),
        )
    };
    let model = || need("model", MODEL, "the model to start from");
    vec![
        training("pretrain", need("net", NET, "the network"), MODEL, &[]),
        training("repretrain", need("net", NET, "the network"), MODEL, &[]),
        training(
            "finetune_captioner",
            model(),
            CAPTIONER,
            &[is(
                "prompt",
                Type::Str,
                "\"a picture of \"",
                "how captions begin",
            )],
        ),
        training("finetune_filter", model(), FILTER, &[]),
    ]
}

fn applying() -> Vec<Signature> {
    vec![
        op(
            "caption",
            PAIRS,
            &[
                need("captioner", CAPTIONER, "the captioner"),
                need("pairs", PAIRS, "the images"),
                is("decode", DECODE, "nucleus()", "how words are chosen"),
                is("per_image", Type::Int, "1", "captions for each image").within(1.0, 100.0),
                is("seed", Type::Int, "0", "the seed of the random generator"),
            ],
        ),
        op(
            "filter",
            PAIRS,
            &[
                need("filter", FILTER, "the filter"),
                need("pairs", PAIRS, "the pairs to score"),
                is(
                    "threshold",
                    Type::Float,
                    "0.5",
                    "the least probability of a match",
                )
                .within(0.0, 1.0),
            ],
        ),
        op(
            "evaluate",
            METRICS,
            &[
                need(
                    "model",
                    Type::OneOf(&[MODEL, CAPTIONER, FILTER]),
                    "the model to evaluate",
                ),
                need("pairs", PAIRS, "the pairs to evaluate on"),
                is("within", Type::Duration, "10min", "how long it may take").within(1e3, 86_400e3),
                is("buffer", Type::Size, "64MiB", "how much memory it may take"),
                optional("title", Type::Str, "the heading"),
            ],
        ),
        op(
            "report",
            METRICS,
            &[optional("metrics", METRICS, "the metrics to report").variadic()],
        ),
    ]
}

fn need(name: &'static str, ty: Type, doc: &'static str) -> Arg {
    Arg::required(name, ty, doc)
}

fn optional(name: &'static str, ty: Type, doc: &'static str) -> Arg {
    Arg::optional(name, ty, doc)
}

fn is(name: &'static str, ty: Type, default: &'static str, doc: &'static str) -> Arg {
    Arg::with_default(name, ty, default, doc)
}

fn op(name: &'static str, output: Type, args: &[Arg]) -> Signature {
    args.iter().cloned().fold(
        Signature::stage(name, output, "An op of the tests."),
        Signature::arg,
    )
}

fn config(name: &'static str, output: Type, args: &[Arg]) -> Signature {
    args.iter().cloned().fold(
        Signature::config(name, output, "A config op of the tests."),
        Signature::arg,
    )
}

fn format(name: &'static str, accepts: &'static [Type]) -> ExportFormat {
    ExportFormat {
        name,
        accepts,
        doc: "A format of the tests.",
    }
}
