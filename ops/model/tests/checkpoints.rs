//! Checkpoints in every form they come in, and every fault they can have, with the exact text of
//! the message.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blip_model::huggingface::{Checkpoint, Class, Holds};
use blip_model::{Role, device, pth, store};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// A captioner that transformers saved.
const CAPTIONER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/parity/fixtures/forward/narrow_text/captioner"
);
/// What torch.save wrote: see make_pth.py beside it.
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

/// A folder with the captioner's config and what `fill` puts there.
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

/// The message of reading and fitting, with the folder's name taken out.
fn fault(path: &Path) -> String {
    let _turn = device::exclusive().unwrap();
    let error = match Checkpoint::read(path) {
        Err(error) => error,
        Ok(checkpoint) => checkpoint.tensors_of(Role::Captioner, &[]).unwrap_err(),
    };
    error
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

fn same(folder: &Path) {
    let _turn = device::exclusive().unwrap();
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
fn tied_copies_may_be_there_and_may_not() {
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
    same(with(copies).path());
    // A file may have the copy alone: that is how some programs save.
    same(
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
        fault(untied.path()),
        "DIR: text_decoder.cls.predictions.decoder.weight differs from the tensor that it is a copy of"
    );
}

#[test]
fn weights_may_lie_in_several_files() {
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
    let map = |place: &dyn Fn(usize) -> Value| -> Value {
        json!({ "weight_map": tensors.keys().enumerate().map(|(at, name)| (name.clone(), place(at))).collect::<serde_json::Map<_, _>>() })
    };
    let honest = |at: usize| json!(files[usize::from(at >= half)]);
    let written = |index: Value| {
        folder(|path| {
            put(path, files[0], &part(0, half));
            put(path, files[1], &part(half, tensors.len()));
            fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
        })
    };
    same(written(map(&honest)).path());
    let index = "DIR/model.safetensors.index.json";
    let first = tensors.keys().next().unwrap();
    let boundary = tensors.keys().nth(half).unwrap();
    assert_eq!(
        fault(written(map(&|_| json!(files[0]))).path()),
        format!(
            "{index}: `{boundary}` is said to lie in {}, and it does not",
            files[0]
        )
    );
    assert_eq!(
        fault(written(map(&|_| json!("../../secret.safetensors"))).path()),
        format!("{index}: `{first}` lies in no file of this folder")
    );
    assert_eq!(
        fault(written(json!({})).path()),
        format!("{index}: it has no `weight_map`")
    );
    let missing = folder(|path| {
        fs::write(
            path.join("model.safetensors.index.json"),
            map(&honest).to_string(),
        )
        .unwrap();
    });
    assert_eq!(
        fault(missing.path()),
        format!(
            "could not read DIR/{}: No such file or directory (os error 2)",
            files[0]
        )
    );
}

#[test]
fn half_precision_is_widened_and_integers_are_no_weights() {
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
        assert_eq!(checkpoint.kinds.keys().collect::<Vec<_>>(), [name]);
        let expected = captioner()[WORDS].to_kind(kind).to_kind(Kind::Float);
        assert_eq!(checkpoint.tensors[WORDS], expected);
    }
    let integers =
        with(|tensors| *tensors.get_mut(WORDS).unwrap() = tensors[WORDS].to_kind(Kind::Int64));
    assert_eq!(
        fault(integers.path()),
        format!("DIR: `{WORDS}` holds int64, and weights are floats")
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
        fault(bad.path()),
        "DIR does not hold a whole captioner: missing: vision_model.post_layernorm.bias; unexpected: \
         adapter.weight; of another shape: text_decoder.bert.embeddings.word_embeddings.weight (is [90, 32], due is \
         [100, 32]); not finite: vision_model.post_layernorm.weight"
    );
    let _turn = device::exclusive().unwrap();
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
    assert_eq!(tensors[WORDS].size(), [100, 32], "it begins anew");
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
            .ends_with(": `no.such` is waived, and there is nothing wrong with it"),
        "{error}"
    );
}

#[test]
fn folders_and_files_that_are_no_checkpoints_say_why() {
    assert_eq!(
        fault(Path::new("/no/such")),
        "DIR is no checkpoint: there is no such file or folder"
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        fault(empty.path()),
        "DIR is no checkpoint: the folder has no config.json"
    );
    let no_weights = folder(|_| {});
    assert_eq!(
        fault(no_weights.path()),
        "DIR is no checkpoint: the folder has neither model.safetensors nor model.safetensors.index.json nor \
         pytorch_model.bin"
    );
    let other =
        folder(|path| fs::write(path.join("config.json"), r#"{"model_type": "clip"}"#).unwrap());
    assert_eq!(
        fault(other.path()),
        "DIR/config.json: it is the config of a model of type `clip`, and only `blip` is read here"
    );
    let whole = fs::read(Path::new(CAPTIONER).join("model.safetensors")).unwrap();
    let lies = |bytes: &[u8]| {
        fault(folder(|path| fs::write(path.join("model.safetensors"), bytes).unwrap()).path())
    };
    let refused = "DIR/model.safetensors is no safetensors file that can be used: ";
    for cut in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        assert!(
            lies(&whole[..cut]).starts_with(refused),
            "{}",
            lies(&whole[..cut])
        );
    }
    let mut long = whole.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(lies(&long), format!("{refused}header too large"));
    // A header that gives a tensor another shape than its bytes have.
    let text = String::from_utf8_lossy(&whole[8..4000]).into_owned();
    assert!(text.contains("[100,32]"));
    let at = 8 + text.find("[100,32]").unwrap();
    let mut shape = whole.clone();
    shape[at..at + 8].copy_from_slice(b"[100,64]");
    assert!(lies(&shape).starts_with(refused), "{}", lies(&shape));
}

#[test]
fn official_checkpoints_are_read_without_running_anything() {
    // `fault` takes its turn itself.
    let untied = fault(&Path::new(PTH).join("untied.pth"));
    let _turn = device::exclusive().unwrap();
    let read = |name: &str| Checkpoint::read(&Path::new(PTH).join(name)).unwrap();
    let pretrained = read("pretrained.pth");
    assert_eq!(pretrained.holds, Holds::Pretrained);
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
    // Saved as views into one storage, offset and transposed; the script says which values they
    // have.
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
        read("captioner.pth").holds,
        Holds::Class(Class::ConditionalGeneration)
    );
    assert_eq!(
        read("answerer.pth").holds,
        Holds::Class(Class::QuestionAnswering)
    );
    assert!(!read("answerer.pth").serves(Role::Captioner));
    assert_eq!(
        untied,
        "DIR: text_decoder.bert.encoder.layer.0.intermediate.dense.bias differs from the tensor that it is a copy of"
    );
}

#[test]
fn a_malicious_pickle_is_refused_and_does_nothing() {
    let trace = Path::new("/tmp/blip-owned");
    let path = Path::new(PTH).join("malicious.pth");
    // It is what it claims to be: Python's own pickle would run the command. (Nothing here does.)
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(12).any(|window| window == b"posix\nsystem"));
    assert_eq!(
        fault(&path),
        "DIR is refused: it wants to use `posix.system`; a checkpoint needs OrderedDict, _rebuild_tensor_v2 and torch's \
         storages, and nothing else is let in"
    );
    assert!(!trace.exists());
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(text.path(), "no archive").unwrap();
    let message = pth::read(text.path()).unwrap_err().to_string();
    assert!(
        message.contains("is no checkpoint of torch.save: "),
        "{message}"
    );
    assert!(
        message.ends_with("(files older than torch 1.6 are no zip archives: load and save them with a newer torch)"),
        "{message}"
    );
}

/// Every byte of an archive changed, one at a time in a coarse grid: read or refused, never a
/// panic.
#[test]
fn damaged_archives_are_read_or_refused() {
    let bytes = fs::read(Path::new(PTH).join("captioner.pth")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 300) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        fs::write(file.path(), &damaged).unwrap();
        let _ = pth::read(file.path());
        fs::write(file.path(), &bytes[..at]).unwrap();
        assert!(pth::read(file.path()).is_err());
    }
}
