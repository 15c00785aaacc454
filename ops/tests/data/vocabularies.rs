//! `read.wordpiece` and `learn.wordpiece`.

use crate::world::{World, end, scenes};

#[test]
fn a_vocabulary_is_learned_and_read_again() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 40));
    let summary = world
        .done("web = read.webdataset(\"web.tar\")\nvocab = learn.wordpiece(web, size = 200)\n");
    let vocab = world.text(&summary, "vocab");
    assert!(vocab.starts_with("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"));
    assert!(vocab.contains("\nring\n") && vocab.ends_with("[DEC]\n[ENC]\n"));
    world.write("vocab.txt", &vocab);
    let read = world.done("vocab = read.wordpiece(\"vocab.txt\")\n");
    assert_eq!(
        read.results["vocab"].output,
        summary.results["vocab"].output
    );
}

#[test]
fn a_small_vocabulary_keeps_all_characters() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 40));
    let summary =
        world.done("web = read.webdataset(\"web.tar\")\nvocab = learn.wordpiece(web, size = 16)\n");
    let count = end(&summary, "vocab").count.unwrap();
    assert!(count > 16);
    assert_eq!(
        *end(&summary, "vocab").notes,
        [format!(
            "{count} tokens instead of 16: every character of the captions is kept"
        )]
    );
}

#[test]
fn missing_special_tokens_are_reported() {
    let world = World::new();
    world.write("vocab.txt", "[PAD]\n[UNK]\na\n");
    assert_eq!(
        world.failure("vocab = read.wordpiece(\"vocab.txt\")\n", "vocab"),
        (
            "vocab.txt cannot be used: missing special tokens: [CLS] [SEP] [MASK]".to_owned(),
            "use the vocab.txt or tokenizer.json of a BERT model such as bert-base-uncased"
                .to_owned()
        )
    );
}

#[test]
fn a_tokenizer_that_is_not_berts_is_refused_by_name() {
    let world = World::new();
    let help = "use the vocab.txt or tokenizer.json of a BERT model such as bert-base-uncased";
    for (content, reason) in [
        (
            r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#,
            "its model is BPE; only WordPiece is read",
        ),
        (
            r#"{"normalizer": {"type": "BertNormalizer", "lowercase": false}, "model": {"vocab": {}}}"#,
            "it keeps capital letters (`lowercase` is false)",
        ),
        (
            "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nThe\n",
            "it keeps capital letters: 1 of its 7 tokens have some, the first is `The` in line 7",
        ),
        (
            "{\"model\": {\"vocab\": {\"[PAD]\": 0,",
            "not a tokenizer.json: it ends early",
        ),
    ] {
        world.write("tokenizer.json", content);
        assert_eq!(
            world.failure("vocab = read.wordpiece(\"tokenizer.json\")\n", "vocab"),
            (
                format!("tokenizer.json cannot be used: {reason}"),
                help.to_owned()
            )
        );
    }
}

#[test]
fn captions_without_a_word_are_reported() {
    let world = World::new();
    let sample = scenes("web", 1).remove(0);
    world.shard(
        "web.tar",
        &[
            ("a", "jpg", sample.jpeg.as_slice()),
            ("a", "txt", b"...!!!"),
        ],
    );
    assert_eq!(
        world.failure(
            "web = read.webdataset(\"web.tar\")\nvocab = learn.wordpiece(web)\n",
            "vocab"
        ),
        (
            "no words found in the 1 captions".to_owned(),
            "pass pairs with captions, or read a vocabulary with `read.wordpiece`".to_owned()
        )
    );
}
