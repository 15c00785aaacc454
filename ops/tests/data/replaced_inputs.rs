//! Input files that change between the moment they are digested and the moment they are read: the
//! run fails, and nothing made of the other bytes is found under the digest.

use std::fs;

use blip_data::scenes::{CaptionStyle, generate};
use blip_data::shard::ShardWriter;
use blip_engine::{Op, Outcome, RunOptions, Status, Workflow};
use blip_grammar::Source;

use crate::checkpoints;
use crate::world::{World, end};

/// A reading op whose input `file` gets the content `then` right after all inputs were digested.
fn replacing(op: &str, world: &World, file: &str, then: &[u8]) -> Op {
    let ops = blip_ops::all();
    let op = ops.op(op).unwrap();
    let sources = op.sources.clone().unwrap();
    let (path, then) = (world.path(file), then.to_vec());
    Op::clone(op).reading(move |args, files| {
        let found = sources(args, files)?;
        fs::write(&path, &then).unwrap();
        Ok(found)
    })
}

/// Runs a stage `x` whose input changes as said and is restored afterwards; then runs it again as a
/// user would, in the same cache and in a new one.
fn check(text: &str, op: &str, file: &str, right: &[u8], wrong: &[u8], prepare: impl Fn(&World)) {
    let world = World::new();
    prepare(&world);
    world.write(file, right);
    let ops = blip_ops::all().with(replacing(op, &world, file, wrong));
    let source = Source::new("test.blip", text).unwrap();
    let workflow = Workflow::parse(&source, &ops, &[]).unwrap();
    let summary = world
        .engine()
        .run(&workflow, &RunOptions::default(), &mut [])
        .unwrap();
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "x").error.clone().unwrap();
    let path = world.path(file);
    assert_eq!(
        error.what,
        format!("{} changed while it was read", path.display())
    );
    assert_eq!(error.help, "run again when nothing writes to it any more");

    world.write(file, right);
    let again = world.done(text);
    assert_eq!(end(&again, "x").status, Status::Ran);
    let other = World::new();
    prepare(&other);
    other.write(file, right);
    let clean = other.done(text);
    assert_eq!(again.results["x"].output, clean.results["x"].output);
}

fn shard(count: u64) -> Vec<u8> {
    let style = CaptionStyle {
        web: false,
        mismatched: 0.0,
        junk: 0.0,
    };
    let mut writer = ShardWriter::new(Vec::new());
    for number in 0..count {
        let sample = generate(5, "web", number, 16, style);
        writer.add(&sample.key, "jpg", &sample.jpeg).unwrap();
        writer
            .add(&sample.key, "txt", sample.text.as_bytes())
            .unwrap();
    }
    writer.finish().unwrap()
}

fn image(number: u64) -> Vec<u8> {
    let style = CaptionStyle {
        web: false,
        mismatched: 0.0,
        junk: 0.0,
    };
    generate(7, "image", number, 16, style).jpeg
}

#[test]
fn a_shard_that_is_another_one_for_a_moment() {
    let text = "x = read.webdataset(\"web.tar\")\n";
    let (right, wrong) = (shard(4), shard(3));
    check(text, "read.webdataset", "web.tar", &right, &wrong, |_| {});
}

#[test]
fn a_shard_that_is_short_for_a_moment() {
    let text = "x = read.webdataset(\"web.tar\")\n";
    let right = shard(4);
    let member_end = 512 * 6;
    for len in [0, member_end, right.len() - 1024] {
        let short = &right[..len];
        check(text, "read.webdataset", "web.tar", &right, short, |_| {});
    }
}

#[test]
fn a_list_that_is_another_one_for_a_moment() {
    let text = "x = read.captions(\"list.json\")\n";
    let right = br#"[{"image": "a.jpg", "caption": "a ring"}]"#;
    let wrong = br#"[{"image": "a.jpg", "caption": "a cross"}]"#;
    check(text, "read.captions", "list.json", right, wrong, |world| {
        world.write("a.jpg", image(1));
    });
}

#[test]
fn an_image_that_is_another_one_for_a_moment() {
    let text = "x = read.captions(\"list.json\")\n";
    let list = br#"[{"image": "a.jpg", "caption": "a ring"}]"#;
    let (right, other) = (image(1), image(2));
    let cut = &right[..right.len() / 2];
    for wrong in [other.as_slice(), cut, b""] {
        check(text, "read.captions", "a.jpg", &right, wrong, |world| {
            world.write("list.json", list);
        });
    }
}

#[test]
fn weights_that_are_other_ones_for_a_moment() {
    let fixture = |name: &str| {
        let folder = checkpoints::root("../tests/parity/fixtures/forward/narrow_text/captioner");
        fs::read(folder.join(name)).unwrap()
    };
    let right = fixture("model.safetensors");
    let mut wrong = right.clone();
    // The last byte of the last tensor.
    *wrong.last_mut().unwrap() ^= 1;
    check(
        "words = read.wordpiece(\"vocab.txt\")\nx = load.captioner(\"cap\", vocab = words)\n",
        "load.captioner",
        "cap/model.safetensors",
        &right,
        &wrong,
        |world| {
            world.write("cap/config.json", fixture("config.json"));
            world.write("vocab.txt", checkpoints::vocab(100));
        },
    );
}

#[test]
fn a_vocabulary_that_is_another_one_for_a_moment() {
    let text = "x = read.wordpiece(\"vocab.txt\")\n";
    let right = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nring\n";
    let wrong = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ncross\n";
    check(text, "read.wordpiece", "vocab.txt", right, wrong, |_| {});
}
