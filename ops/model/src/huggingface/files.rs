//! The weight files of a transformers folder, and their dtypes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tch::Kind;

use super::{CheckpointError, INDEX, PICKLED, SINGLE, Tensors};
use crate::{pth, store};

/// Tensors that are not weights and may be integers: position ids, and the state of a training.
const INTEGERS: [&str; 4] = ["position_ids", "idx_queue", "queue_ptr", "ptr_queue"];

/// The tensors of a folder and the number of files they come from.
pub(super) fn folder_tensors(folder: &Path) -> Result<(Tensors, usize), CheckpointError> {
    let single = folder.join(SINGLE);
    let index = folder.join(INDEX);
    let pickled = folder.join(PICKLED);
    if single.is_file() {
        Ok((store::read(&single)?.tensors, 1))
    } else if index.is_file() {
        sharded(folder, &index)
    } else if pickled.is_file() {
        Ok((pth::read(&pickled)?, 1))
    } else {
        let what = "the folder has neither model.safetensors nor model.safetensors.index.json \
                    nor pytorch_model.bin";
        Err(CheckpointError::None(folder.to_path_buf(), what))
    }
}

/// Several safetensors files, with an index that maps tensors to files. Both have to agree: a file
/// of another version of the model would otherwise go unnoticed.
fn sharded(folder: &Path, index: &Path) -> Result<(Tensors, usize), CheckpointError> {
    let index_error = |what: String| CheckpointError::Index {
        path: index.to_path_buf(),
        what,
    };
    let text = fs::read_to_string(index).map_err(|source| CheckpointError::Io {
        path: index.to_path_buf(),
        source,
    })?;
    let files = files_of_index(&text).map_err(index_error)?;
    let mut tensors = BTreeMap::new();
    for (file, names) in &files {
        let stored = store::read(&folder.join(file))?.tensors;
        if let Some(name) = names.iter().find(|name| !stored.contains_key(*name)) {
            return Err(index_error(format!(
                "`{name}` is mapped to {file}, which does not have it"
            )));
        }
        for (name, tensor) in stored {
            if !names.contains(&name) {
                return Err(index_error(format!(
                    "{file} has `{name}`, which is not mapped to it"
                )));
            }
            tensors.insert(name, tensor);
        }
    }
    Ok((tensors, files.len()))
}

/// The files that an index (`model.safetensors.index.json`) names, with the tensors in each.
///
/// # Errors
/// What is wrong with the index.
pub fn files_of_index(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
    let weight_map = json
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| "missing `weight_map`".to_owned())?;
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in weight_map {
        let file = file
            .as_str()
            .filter(|file| is_plain_name(file))
            .ok_or_else(|| format!("`{name}` is not mapped to a file of this folder"))?;
        files
            .entry(file.to_owned())
            .or_default()
            .insert(name.clone());
    }
    Ok(files)
}

/// A file name without folders: an index must not lead to other places of the file system.
fn is_plain_name(file: &str) -> bool {
    let name = Path::new(file).file_name();
    name.is_some_and(|name| name == file)
}

/// All weights in float32, and how many there were of each dtype.
pub(super) fn to_floats(
    path: &Path,
    found: Tensors,
) -> Result<(Tensors, BTreeMap<String, usize>), CheckpointError> {
    let mut dtypes = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        let dtype = dtype_name(tensor.kind());
        if dtype.starts_with("float") || dtype == "bfloat16" {
            *dtypes.entry(dtype).or_default() += 1;
            tensors.insert(name, tensor.to_kind(Kind::Float));
        } else if !INTEGERS.iter().any(|known| name.ends_with(known)) {
            return Err(CheckpointError::Kind {
                path: path.to_path_buf(),
                name,
                dtype,
            });
        }
    }
    Ok((tensors, dtypes))
}

/// torch's name of a dtype.
fn dtype_name(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        Kind::Int => "int32",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        Kind::Bool => "bool",
        other => return format!("{other:?}").to_lowercase(),
    }
    .to_owned()
}
