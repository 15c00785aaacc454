//! Exports, and that they are read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;

use blip_data::shard;
use blip_engine::{Event, Outcome, RunOptions, Summary};

use crate::world::{World, scenes};

/// Pairs of all kinds: generated ones with ground truth, one image with two texts, a PNG among
/// JPEGs.
const PAIRS: &str = "\
made  = read.scenes(\"human\", count = 20, style = \"human\", side = 16, seed = 3)
found = read.webdataset(\"web.tar\")
pairs = merge(made, found)
";

fn world() -> World {
    let world = World::new();
    let samples = scenes("web", 2);
    let png = blip_data::plot::contact_sheet("a", &[]);
    world.shard(
        "web.tar",
        &[
            ("a", "jpg", samples[0].jpeg.as_slice()),
            ("a", "txt", b"a ring"),
            ("b", "jpg", &samples[0].jpeg),
            ("b", "txt", "une bague d’été 💍".as_bytes()),
            ("c", "png", &png),
            ("c", "txt", b"a gray square"),
        ],
    );
    world
}

fn run(world: &World, text: &str) -> (Summary, Vec<Event>) {
    let mut recorder = Recorder::default();
    let summary = world
        .engine()
        .run(
            &world.workflow(text),
            &RunOptions::default(),
            &mut [&mut recorder],
        )
        .unwrap();
    (summary, recorder.0)
}

#[derive(Default)]
struct Recorder(Vec<Event>);

impl blip_engine::Listener for Recorder {
    fn event(&mut self, _: u64, event: &Event) {
        self.0.push(event.clone());
    }
}

#[test]
fn exported_shards_are_read_back_as_the_same_pairs() {
    let world = world();
    let (summary, events) = run(
        &world,
        &format!("{PAIRS}export pairs as webdataset \"out/{{shard:05}}.tar\"\n"),
    );
    assert_eq!(summary.outcome, Outcome::Done, "{events:#?}");
    let back = world.done("back = read.webdataset(\"out/*.tar\")\n");
    assert_eq!(back.results["back"].output, summary.results["pairs"].output);

    // The same bytes again, from a clean cache.
    let (before, other) = (
        std::fs::read(world.path("out/00000.tar")).unwrap(),
        self::world(),
    );
    run(
        &other,
        &format!("{PAIRS}export pairs as webdataset \"out/{{shard:05}}.tar\"\n"),
    );
    assert_eq!(before, std::fs::read(other.path("out/00000.tar")).unwrap());
}

#[test]
fn what_a_shard_says_of_a_sample_besides_is_kept() {
    let world = World::new();
    let json = r#"{"caption": "a ring", "url": "http://x/1.jpg", "width": 32, "sha256": "ab",
                   "key": "1", "error_message": null, "sizes": [1]}"#;
    let sample = &scenes("web", 1)[0];
    world.shard(
        "web.tar",
        &[
            ("1", "jpg", sample.jpeg.as_slice()),
            ("1", "json", json.as_bytes()),
        ],
    );
    let text = "found = read.webdataset(\"web.tar\")\n\
                export found as webdataset \"out/{shard:05}.tar\"\n";
    let (summary, _) = run(&world, text);
    let samples = world.samples(&summary, "found");
    let meta: Vec<(&str, String)> = samples[0].1.texts[0]
        .meta
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_string()))
        .collect();
    let expected = [
        ("sha256", "\"ab\""),
        ("url", "\"http://x/1.jpg\""),
        ("width", "32"),
    ];
    assert_eq!(meta, expected.map(|(name, value)| (name, value.to_owned())));
    let back = world.done("back = read.webdataset(\"out/*.tar\")\n");
    assert_eq!(back.results["back"].output, summary.results["found"].output);
    let exported = std::fs::read(world.path("out/00000.tar")).unwrap();
    let exported = String::from_utf8_lossy(&exported);
    assert!(exported.contains(r#""url":"http://x/1.jpg""#), "{exported}");
}

/// Images and texts, each text with the file of its image; `read.captions` reads no provenance.
#[test]
fn an_exported_list_is_read_back_with_its_images() {
    let world = world();
    let (summary, events) = run(
        &world,
        &format!("{PAIRS}export pairs as captions \"out/pairs\"\n"),
    );
    assert_eq!(summary.outcome, Outcome::Done, "{events:#?}");
    let back = world.done("back = read.captions(\"out/pairs/captions.json\")\n");
    let texts = |summary: &Summary, stage: &str| -> Vec<_> {
        let items = world.samples(summary, stage).into_iter();
        let texts = items.map(|(image, sample)| {
            let texts = sample.texts.into_iter().map(|text| text.text);
            (image, texts.collect::<Vec<_>>())
        });
        texts.collect()
    };
    assert_eq!(texts(&back, "back"), texts(&summary, "pairs"));
    let images = std::fs::read_dir(world.path("out/pairs/images")).unwrap();
    assert_eq!(images.count(), 22, "each image once");
}

#[test]
fn all_samples_have_the_same_suffixes() {
    let world = world();
    run(
        &world,
        &format!("{PAIRS}export pairs as webdataset \"all.tar\"\n"),
    );
    let list = Command::new("tar")
        .arg("tf")
        .arg(world.path("all.tar"))
        .output()
        .unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    let mut samples: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names.lines() {
        let (key, suffix) = name.split_once('.').unwrap();
        samples.entry(key).or_default().push(suffix);
    }
    assert_eq!(samples.len(), 23);
    assert!(
        samples
            .values()
            .all(|suffixes| *suffixes == ["jpg", "txt", "json"])
    );
    shard::read(File::open(world.path("all.tar")).unwrap(), |sample| {
        sample.unwrap();
        Ok::<(), ()>(())
    })
    .unwrap()
    .unwrap();
}

#[test]
fn json_has_a_row_for_each_text() {
    let world = world();
    run(
        &world,
        &format!("{PAIRS}export pairs as json \"out/pairs.json\"\n"),
    );
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(world.path("out/pairs.json")).unwrap()).unwrap();
    assert_eq!(rows.len(), 23);
    let row = rows
        .iter()
        .find(|row| row["caption"] == "une bague d’été 💍")
        .unwrap();
    assert_eq!(
        row.to_string(),
        format!(
            "{{\"format\":\"blip/pair/1\",\"image\":\"{}\",\"caption\":\"une bague d’été 💍\",\"source\":\"web\",\"key\":\"b\",\
             \"model\":null,\"seed\":null,\"number\":null,\"score\":null,\"judge\":null,\"kept\":null,\"truth\":null}}",
            blip_engine::Digest::of(&scenes("web", 1)[0].jpeg)
        )
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row["truth"]["color"].is_string())
            .count(),
        20
    );
}

#[test]
fn a_vocabulary_is_a_text_file() {
    let world = world();
    let text =
        format!("{PAIRS}vocab = learn.wordpiece(pairs)\nexport vocab as text \"vocab.txt\"\n");
    let (summary, _) = run(&world, &text);
    assert_eq!(
        std::fs::read_to_string(world.path("vocab.txt")).unwrap(),
        world.text(&summary, "vocab")
    );
}

#[test]
fn an_invalid_name_pattern_for_shards_is_reported() {
    let world = world();
    let (summary, events) = run(
        &world,
        &format!("{PAIRS}export pairs as webdataset \"out/{{part}}.tar\"\n"),
    );
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = events.iter().find_map(|event| match event {
        Event::ExportFailed { error, .. } => Some((error.what.as_str(), error.help.as_str())),
        _ => None,
    });
    assert_eq!(
        error,
        Some((
            "`{part}.tar` is not a valid name pattern for shards",
            "write the shard number as `{shard:05}`, as in \"out/{shard:05}.tar\""
        ))
    );
}

#[test]
fn a_file_that_changes_before_the_export_is_named() {
    let world = world();
    world.done(PAIRS);
    let tar = std::fs::read(world.path("web.tar")).unwrap();
    let text = format!("{PAIRS}export pairs as webdataset \"out/{{shard:05}}.tar\"\n");
    // The shard is unchanged when its stage is looked up, and changed when the export reads it.
    struct Change<'w>(&'w World, Vec<Event>);
    impl blip_engine::Listener for Change<'_> {
        fn event(&mut self, _: u64, event: &Event) {
            if matches!(event, Event::StageFinished(end) if &*end.stage == "pairs") {
                self.0.write("web.tar", "x".repeat(5000));
            }
            self.1.push(event.clone());
        }
    }
    let mut change = Change(&world, Vec::new());
    world
        .engine()
        .run(
            &world.workflow(&text),
            &RunOptions::default(),
            &mut [&mut change],
        )
        .unwrap();
    let failed = change.1.iter().find_map(|event| match event {
        Event::ExportFailed { error, .. } => Some(error.clone()),
        _ => None,
    });
    let failed = failed.unwrap();
    let named = format!(
        "{} changed during the run: the image ",
        world.path("web.tar").display()
    );
    assert!(failed.what.starts_with(&named), "{}", failed.what);
    assert_eq!(
        failed.help,
        "run again once nothing writes to the file: it is then read again"
    );
    world.write("web.tar", tar);
    assert_eq!(run(&world, &text).0.outcome, Outcome::Done);
}
