//! The model against transformers on the same weights, by the fixtures of tests/parity/*.py
//! (docs/parity.md has the bounds).

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use blip_model::huggingface::Checkpoint;
use blip_model::{Med, Role, store};
use tch::{Device, Kind, Tensor};

#[path = "parity/decoding.rs"]
mod decoding;
#[path = "parity/forward.rs"]
mod forward;
#[path = "parity/pixels.rs"]
mod pixels;
#[path = "../../../tests/parity/table.rs"]
mod table;
#[path = "parity/training.rs"]
mod training;

use table::Table;

type Tensors = BTreeMap<String, Tensor>;

/// The folders of a part, one for each size of model.
fn shapes(part: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(table::folder(part)).expect("the script has run");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect()
}

fn tensors(path: &Path) -> Tensors {
    store::read(path).unwrap().tensors
}

/// The model that transformers saved in this folder. The caller holds the device lock.
fn model(folder: &Path, role: Role) -> (Checkpoint, Med) {
    let checkpoint = Checkpoint::read(folder).unwrap();
    let found = checkpoint.tensors_of(role, &[]).unwrap();
    let med = Med::load(&checkpoint.config.med, role, &found, Device::Cpu).unwrap();
    (checkpoint, med)
}

fn max_abs(tensor: &Tensor) -> f64 {
    if tensor.numel() == 0 {
        0.0
    } else {
        tensor.abs().max().double_value(&[])
    }
}

/// Adds a row: the largest absolute difference, bounded by a share of the largest expected value.
fn close(table: &mut Table, quantity: &str, ours: &Tensor, theirs: &Tensor, share: f64) {
    assert_eq!(ours.size(), theirs.size(), "{quantity}");
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let difference = max_abs(&(&ours - &theirs));
    table.number(
        quantity,
        (max_abs(&ours), max_abs(&theirs)),
        difference,
        share * max_abs(&theirs),
    );
}
