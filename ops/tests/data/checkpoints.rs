//! Checkpoints of transformers and of the official code in workflows: loaded, exported, and loaded
//! again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::World;

pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A world with a captioner and a filter that transformers saved, and an official checkpoint.
fn world() -> World {
    let world = World::new();
    for (name, class) in [("cap", "captioner"), ("mat", "matcher")] {
        for file in ["config.json", "model.safetensors"] {
            let bytes = fs::read(
                root("../tests/parity/fixtures/forward/narrow_text")
                    .join(class)
                    .join(file),
            )
            .unwrap();
            world.write(&format!("{name}/{file}"), bytes);
        }
    }
    for file in ["pretrained.pth", "malicious.pth"] {
        world.write(file, fs::read(root("model/tests/pth").join(file)).unwrap());
    }
    world.write("vocab.txt", vocab(100));
    world.write("short.txt", vocab(20));
    world
}

/// A vocabulary for so many embeddings, [DEC] and [ENC] among them.
pub(crate) fn vocab(embeddings: usize) -> String {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let words = (special.len()..embeddings - 2).map(|id| format!("w{id}"));
    special
        .into_iter()
        .chain(words)
        .map(|token| token + "\n")
        .collect()
}

#[test]
fn an_exported_model_loads_as_the_same_model() {
    let world = world();
    let first = world.done(
        "words = read.wordpiece(\"vocab.txt\")\nwriter = load.captioner(\"cap\", vocab = words, \
         prompt = \"a photo of\")\n\
         judge = load.filter(\"mat\", vocab = words)\nexport writer as huggingface \"out/writer\"\n\
         export judge as huggingface \"out/judge\"\n",
    );
    let again =
        world.done("writer = load.captioner(\"out/writer\")\njudge = load.filter(\"out/judge\")\n");
    for stage in ["writer", "judge"] {
        assert_eq!(
            first.results[stage].output, again.results[stage].output,
            "{stage}: the same bytes"
        );
    }
    let card = fs::read_to_string(world.path("out/writer/README.md")).unwrap();
    assert!(
        card.contains("- `writer` = `load.captioner(prompt = \"a photo of\", waive = [])`"),
        "{card}"
    );
    assert!(
        card.contains(&first.results["writer"].output.to_string()) && card.contains("100 items"),
        "{card}"
    );
    assert!(
        !card.contains(&world.folder.path().display().to_string()),
        "no paths of this machine"
    );

    let larger = world.done(
        "judge = load.filter(\"out/judge\", image = 64)\nexport judge as huggingface \"large\"\n",
    );
    assert_ne!(
        larger.results["judge"].output,
        first.results["judge"].output
    );
    let config: Value =
        serde_json::from_slice(&fs::read(world.path("large/config.json")).unwrap()).unwrap();
    assert_eq!(config["vision_config"]["image_size"], 64);
}

#[test]
fn checkpoints_that_cannot_be_loaded_are_reported() {
    let world = world();
    let fails = |call: &str| {
        world.failure(
            &format!("words = read.wordpiece(\"vocab.txt\")\nm = {call}\n"),
            "m",
        )
    };
    let expect = |call: &str, what: &str, help: &str| {
        assert_eq!(fails(call), (what.to_owned(), help.to_owned()))
    };
    expect(
        "load.filter(\"cap\", vocab = words)",
        "cap holds a captioner, but `load.filter` needs a filter or a pretrained model",
        "use the op for what it holds: `blip model inspect` shows it",
    );
    let pass_vocab = "pass a vocabulary: vocab = read.wordpiece(\"vocab.txt\")";
    expect(
        "load.captioner(\"cap\")",
        "cap has no vocabulary",
        pass_vocab,
    );
    expect(
        "load.captioner(\"cap\", vocab = read.wordpiece(\"short.txt\"))",
        "cap: the vocabulary has 20 tokens (including [DEC] and [ENC]), but the model has 100 \
         token embeddings",
        "use the vocabulary that the model was trained with",
    );
    expect(
        "load.pretrained(\"pretrained.pth\", vocab = read.wordpiece(\"short.txt\"))",
        "pretrained.pth: [SEP] has the id 3 in the vocabulary, but 102 in the model",
        "use the vocabulary that the model was trained with",
    );
    expect(
        "load.pretrained(\"malicious.pth\", vocab = words)",
        "malicious.pth is refused: its pickle uses `posix.system`; only OrderedDict, \
         _rebuild_tensor_v2 and torch's storages are allowed",
        "ask its author for safetensors; do not load it in Python: unpickling would execute its \
         code",
    );
    expect(
        "load.captioner(\"cap\", vocab = words, waive = [\"no.such\"])",
        "cap: `no.such` is waived, but nothing is wrong with it",
        "remove the name from `waive`",
    );
    let (what, _) = fails("load.captioner(\"nowhere\", vocab = words)");
    assert!(what.contains("nowhere"), "{what}");
}

#[test]
fn shards_are_found_by_their_index_whatever_they_are_called() {
    let world = world();
    let weights = fs::read(world.path("cap/model.safetensors")).unwrap();
    // The header of a safetensors file is its length and JSON with a field for each tensor.
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let map: serde_json::Map<String, Value> = header
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "__metadata__")
        .map(|name| (name.clone(), "all of it.st".into()))
        .collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    world.write(
        "odd/config.json",
        fs::read(world.path("cap/config.json")).unwrap(),
    );
    world.write("odd/model.safetensors.index.json", index.to_string());
    world.write("odd/all of it.st", &weights);
    let run = world.done(
        "words = read.wordpiece(\"vocab.txt\")\na = load.captioner(\"cap\", vocab = words)\n\
         b = load.captioner(\"odd\", vocab = words)\n",
    );
    assert_eq!(run.results["a"].output, run.results["b"].output);
}
