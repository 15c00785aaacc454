//! Checkpoints in every supported form, and every error that they can cause, with the exact
//! message.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blip_model::huggingface::{Checkpoint, CheckpointKind, Class};
use blip_model::{Role, device, pth, store};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// A captioner that transformers saved.
const CAPTIONER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/parity/fixtures/forward/narrow_text/captioner"
);
/// Written by torch.save: see make_pth.py in this folder.
const PTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pth");

const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";

type Tensors = BTreeMap<String, Tensor>;

fn captioner() -> Tensors {
    store::read(&Path::new(CAPTIONER).join("model.safetensors"))
        .unwrap()
        .tensors
}

fn put(folder: &Path, name: &str, tensors: &Tensors) {
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    store::write(&folder.join(name), tensors, Some(("format", "pt"))).unwrap();
}

/// A folder with the captioner's config and the files of `fill`.
fn folder(fill: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        Path::new(CAPTIONER).join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    fill(folder.path());
    folder
}

fn with(change: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let mut tensors = captioner();
    change(&mut tensors);
    folder(|path| put(path, "model.safetensors", &tensors))
}

/// The error of reading the checkpoint or using it as a captioner, without the folder's name.
fn error_of(path: &Path) -> String {
    let _device_lock = device::lock().unwrap();
    let error = match Checkpoint::read(path) {
        Err(error) => error,
        Ok(checkpoint) => checkpoint.tensors_of(Role::Captioner, &[]).unwrap_err(),
    };
    error
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

fn assert_same_as_captioner(folder: &Path) {
    let _device_lock = device::lock().unwrap();
    let read = |path: &Path| {
        Checkpoint::read(path)
            .unwrap()
            .tensors_of(Role::Captioner, &[])
            .unwrap()
    };
    let (ours, theirs) = (read(folder), read(Path::new(CAPTIONER)));
    assert_eq!(ours.len(), theirs.len());
    for (name, tensor) in &ours {
        assert_eq!(tensor, &theirs[name], "{name}");
    }
}

#[test]
fn tied_copies_are_optional() {
    let head = "text_decoder.cls.predictions";
    let copies = |tensors: &mut Tensors| {
        tensors.insert(format!("{head}.decoder.weight"), tensors[WORDS].copy());
        tensors.insert(
            format!("{head}.decoder.bias"),
            tensors[&format!("{head}.bias")].copy(),
        );
        tensors.insert(
            "text_decoder.bert.embeddings.position_ids".to_owned(),
            Tensor::arange(40, (Kind::Int64, tch::Device::Cpu)),
        );
    };
    assert_same_as_captioner(with(copies).path());
    // Some programs save the copy alone.
    assert_same_as_captioner(
        with(|tensors| {
            copies(tensors);
            tensors.remove(WORDS);
        })
        .path(),
    );
    let untied = with(|tensors| {
        copies(tensors);
        let _ = tensors
            .get_mut(&format!("{head}.decoder.weight"))
            .unwrap()
            .get(0)
            .fill_(1.0);
    });
    assert_eq!(
        error_of(untied.path()),
        "DIR: tied tensors differ from their originals: \
         text_decoder.cls.predictions.decoder.weight"
    );
}

#[test]
fn weights_may_be_in_several_files() {
    let tensors = captioner();
    let half = tensors.len() / 2;
    let part = |from: usize, to: usize| -> Tensors {
        tensors
            .iter()
            .skip(from)
            .take(to - from)
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    };
    let files = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let map = |file_of: &dyn Fn(usize) -> Value| -> Value {
        let mut map = serde_json::Map::new();
        for (at, name) in tensors.keys().enumerate() {
            map.insert(name.clone(), file_of(at));
        }
        json!({ "weight_map": map })
    };
    let honest = |at: usize| json!(files[usize::from(at >= half)]);
    let written = |index: Value| {
        folder(|path| {
            put(path, files[0], &part(0, half));
            put(path, files[1], &part(half, tensors.len()));
            fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
        })
    };
    assert_same_as_captioner(written(map(&honest)).path());
    let index = "DIR/model.safetensors.index.json";
    let first = tensors.keys().next().unwrap();
    let boundary = tensors.keys().nth(half).unwrap();
    assert_eq!(
        error_of(written(map(&|_| json!(files[0]))).path()),
        format!(
            "{index}: `{boundary}` is mapped to {}, which does not have it",
            files[0]
        )
    );
    assert_eq!(
        error_of(written(map(&|_| json!("../../secret.safetensors"))).path()),
        format!("{index}: `{first}` is not mapped to a file of this folder")
    );
    assert_eq!(
        error_of(written(json!({})).path()),
        format!("{index}: missing `weight_map`")
    );
    let missing = folder(|path| {
        fs::write(
            path.join("model.safetensors.index.json"),
            map(&honest).to_string(),
        )
        .unwrap();
    });
    assert_eq!(
        error_of(missing.path()),
        format!(
            "could not read DIR/{}: No such file or directory (os error 2)",
            files[0]
        )
    );
}

#[test]
fn half_precision_is_widened_and_integers_are_refused() {
    for (kind, name) in [
        (Kind::Half, "float16"),
        (Kind::BFloat16, "bfloat16"),
        (Kind::Double, "float64"),
    ] {
        let narrow = with(|tensors| {
            tensors
                .values_mut()
                .for_each(|tensor| *tensor = tensor.to_kind(kind))
        });
        let checkpoint = Checkpoint::read(narrow.path()).unwrap();
        assert_eq!(checkpoint.dtypes.keys().collect::<Vec<_>>(), [name]);
        let expected = captioner()[WORDS].to_kind(kind).to_kind(Kind::Float);
        assert_eq!(checkpoint.tensors[WORDS], expected);
    }
    let integers =
        with(|tensors| *tensors.get_mut(WORDS).unwrap() = tensors[WORDS].to_kind(Kind::Int64));
    assert_eq!(
        error_of(integers.path()),
        format!("DIR: `{WORDS}` has dtype int64; weights must be floating point")
    );
}

#[test]
fn tensors_that_do_not_fit_are_named_unless_they_are_waived() {
    let bad = with(|tensors| {
        tensors.remove("vision_model.post_layernorm.bias");
        tensors.insert("adapter.weight".to_owned(), Tensor::from(1_f32));
        *tensors.get_mut(WORDS).unwrap() = tensors[WORDS].narrow(0, 0, 90).copy();
        let _ = tensors
            .get_mut("vision_model.post_layernorm.weight")
            .unwrap()
            .get(3)
            .fill_(f64::NAN);
    });
    assert_eq!(
        error_of(bad.path()),
        "DIR is not a complete captioner: missing: vision_model.post_layernorm.bias; unexpected: \
         adapter.weight; wrong shape: text_decoder.bert.embeddings.word_embeddings.weight (found \
         [90, 32], expected [100, 32]); not finite: vision_model.post_layernorm.weight"
    );
    let _device_lock = device::lock().unwrap();
    let waived: Vec<String> = [
        "vision_model.post_layernorm.bias",
        "adapter.weight",
        WORDS,
        "vision_model.post_layernorm.weight",
    ]
    .map(str::to_owned)
    .into();
    let checkpoint = Checkpoint::read(bad.path()).unwrap();
    let tensors = checkpoint.tensors_of(Role::Captioner, &waived).unwrap();
    assert!(!tensors.contains_key("adapter.weight"));
    assert_eq!(tensors[WORDS].size(), [100, 32], "it is initialised");
    assert_eq!(
        tensors["vision_model.post_layernorm.weight"].double_value(&[3]),
        1.0
    );
    let error = checkpoint
        .tensors_of(
            Role::Captioner,
            &[waived, vec!["no.such".to_owned()]].concat(),
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": `no.such` is waived, but nothing is wrong with it"),
        "{error}"
    );
}

#[test]
fn paths_that_are_not_checkpoints_are_refused() {
    assert_eq!(
        error_of(Path::new("/no/such")),
        "DIR is not a checkpoint: no such file or folder"
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        error_of(empty.path()),
        "DIR is not a checkpoint: the folder has no config.json"
    );
    let no_weights = folder(|_| {});
    assert_eq!(
        error_of(no_weights.path()),
        "DIR is not a checkpoint: the folder has neither model.safetensors nor \
         model.safetensors.index.json nor pytorch_model.bin"
    );
    let other =
        folder(|path| fs::write(path.join("config.json"), r#"{"model_type": "clip"}"#).unwrap());
    assert_eq!(
        error_of(other.path()),
        "DIR/config.json: `model_type` is `clip`; only `blip` is supported"
    );
    let whole = fs::read(Path::new(CAPTIONER).join("model.safetensors")).unwrap();
    let error_with = |bytes: &[u8]| {
        error_of(folder(|path| fs::write(path.join("model.safetensors"), bytes).unwrap()).path())
    };
    let refused = "could not read DIR/model.safetensors as safetensors: ";
    for cut in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        assert!(
            error_with(&whole[..cut]).starts_with(refused),
            "{}",
            error_with(&whole[..cut])
        );
    }
    let mut long = whole.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(error_with(&long), format!("{refused}header too large"));
    // A header that gives a tensor another shape than its bytes have.
    let text = String::from_utf8_lossy(&whole[8..4000]).into_owned();
    assert!(text.contains("[100,32]"));
    let at = 8 + text.find("[100,32]").unwrap();
    let mut shape = whole.clone();
    shape[at..at + 8].copy_from_slice(b"[100,64]");
    assert!(
        error_with(&shape).starts_with(refused),
        "{}",
        error_with(&shape)
    );
}

#[test]
fn official_checkpoints_are_read() {
    // Before the lock below: `error_of` takes it, too.
    let untied = error_of(&Path::new(PTH).join("untied.pth"));
    let _device_lock = device::lock().unwrap();
    let read = |name: &str| Checkpoint::read(&Path::new(PTH).join(name)).unwrap();
    let pretrained = read("pretrained.pth");
    assert_eq!(pretrained.kind, CheckpointKind::Pretrained);
    assert_eq!(
        (
            pretrained.config.med.vocab,
            pretrained.config.tokens.dec,
            pretrained.config.temp
        ),
        (20, 18, Some(0.0625))
    );
    let all = pretrained.tensors_of(Role::Pretrained, &[]).unwrap();
    assert_eq!(all["temp"].double_value(&[]), 0.0625);
    // Saved as a transposed view with an offset into its storage; the script has the values.
    let weight = Vec::<f32>::try_from(all["itm_head.weight"].reshape([-1])).unwrap();
    assert_eq!(weight[..3], [0.0, 2.0, 4.0]);
    assert_eq!(weight[64..66], [1.0, 3.0]);
    assert!(pretrained.serves(Role::Captioner) && pretrained.serves(Role::Filter));
    let captioner = pretrained.tensors_of(Role::Captioner, &[]).unwrap();
    assert_eq!(
        captioner[WORDS],
        all["text_encoder.embeddings.word_embeddings.weight"]
    );

    assert_eq!(
        read("captioner.pth").kind,
        CheckpointKind::Class(Class::ConditionalGeneration)
    );
    assert_eq!(
        read("answerer.pth").kind,
        CheckpointKind::Class(Class::QuestionAnswering)
    );
    assert!(!read("answerer.pth").serves(Role::Captioner));
    assert_eq!(
        untied,
        "DIR: tied tensors differ from their originals: \
         text_decoder.bert.encoder.layer.0.intermediate.dense.bias"
    );
}

#[test]
fn a_malicious_pickle_is_refused_and_not_executed() {
    let trace = Path::new("/tmp/blip-owned");
    let path = Path::new(PTH).join("malicious.pth");
    // The file really is an attack: Python's own pickle would run the command.
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(12).any(|window| window == b"posix\nsystem"));
    assert_eq!(
        error_of(&path),
        "DIR is refused: its pickle uses `posix.system`; only OrderedDict, _rebuild_tensor_v2 and \
         torch's storages are allowed"
    );
    assert!(!trace.exists());
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(text.path(), "no archive").unwrap();
    let message = pth::read(text.path()).unwrap_err().to_string();
    assert!(
        message.contains("is not a torch.save checkpoint: "),
        "{message}"
    );
    let older_torch = "(files of torch before 1.6 are not zip archives: load and save them with a \
                       newer torch)";
    assert!(message.ends_with(older_torch), "{message}");
}

/// An archive with single bytes changed, and cut off, at 300 places: read or refused, never a
/// panic.
#[test]
fn corrupt_archives_are_read_or_refused() {
    let bytes = fs::read(Path::new(PTH).join("captioner.pth")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 300) {
        let mut corrupt = bytes.clone();
        corrupt[at] ^= 0xff;
        fs::write(file.path(), &corrupt).unwrap();
        let _ = pth::read(file.path());
        fs::write(file.path(), &bytes[..at]).unwrap();
        assert!(pth::read(file.path()).is_err());
    }
}
