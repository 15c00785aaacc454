//! Checkpoints written by `torch.save` (`.pth`, `pytorch_model.bin`), read without executing any of
//! their code.
//!
//! Such a file is a zip archive with a pickle, which is a program, and the bytes of the tensors.
//! `pickle` supports the few opcodes and names that a checkpoint needs and refuses all others. What
//! a training script saves beside the model (optimizer, settings) is ignored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

mod pickle;

pub use self::pickle::PickleError;
use self::pickle::{Node, Pickle};

/// The largest accepted pickle. Those of BLIP's checkpoints, optimizer included, have less than 1
/// MB.
const PICKLE_BYTES_MAX: u64 = 64 << 20;
/// The keys under which training scripts keep the model's tensors.
const MODEL_KEYS: [&str; 2] = ["model", "state_dict"];

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    #[error("could not read {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a torch.save checkpoint: {what}", path.display())]
    Format { path: PathBuf, what: String },
    /// The pickle does something that no checkpoint needs. Nothing was executed.
    #[error("{} is refused: {source}", path.display())]
    Pickle { path: PathBuf, source: PickleError },
}

/// Reads the tensors of a model, by name, on the CPU.
///
/// # Errors
/// [`PthError`].
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, PthError> {
    let io = |source| PthError::Io {
        path: path.to_path_buf(),
        source,
    };
    let format = |what: String| PthError::Format {
        path: path.to_path_buf(),
        what,
    };
    let file = File::open(path).map_err(io)?;
    let mut archive = ZipArchive::new(file).map_err(|error| {
        format(format!(
            "{error} (files of torch before 1.6 are not zip archives: load and save them with a \
             newer torch)"
        ))
    })?;
    let mut archive = Archive {
        folder: find_folder(&archive).map_err(format)?,
        zip: &mut archive,
    };
    if archive.has("byteorder") && archive.read("byteorder", 16).map_err(format)? != b"little" {
        return Err(format("its byte order is not little-endian".to_owned()));
    }
    let bytes = archive.read("data.pkl", PICKLE_BYTES_MAX).map_err(format)?;
    let pickle = Pickle::load(&bytes).map_err(|source| PthError::Pickle {
        path: path.to_path_buf(),
        source,
    })?;
    let nodes = model_tensors(&pickle).map_err(format)?;
    let mut tensors = BTreeMap::new();
    let mut storages = BTreeMap::new();
    for (name, node) in nodes {
        let tensor = read_tensor(&pickle, node, &mut archive, &mut storages)
            .map_err(|what| format(format!("`{name}` {what}")))?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format(format!("duplicate tensor `{name}`")));
        }
    }
    Ok(tensors)
}

/// A zip archive whose files are all in one folder.
struct Archive<'a, R> {
    folder: String,
    zip: &'a mut ZipArchive<R>,
}

fn find_folder<R: Read + Seek>(zip: &ZipArchive<R>) -> Result<String, String> {
    let names: Vec<_> = zip.file_names().filter_map(Result::ok).collect();
    let mut pickles = names
        .iter()
        .filter_map(|name| name.strip_suffix("data.pkl"));
    match (pickles.next(), pickles.next()) {
        (Some(folder), None) => Ok(folder.to_owned()),
        (None, _) => Err("no data.pkl in the archive".to_owned()),
        (Some(_), Some(_)) => Err("more than one data.pkl in the archive".to_owned()),
    }
}

impl<R: Read + Seek> Archive<'_, R> {
    fn has(&self, name: &str) -> bool {
        self.zip
            .index_for_name(&format!("{}{name}", self.folder))
            .is_some()
    }

    /// The bytes of a file of at most `bytes_max` bytes.
    fn read(&mut self, name: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let entry = self
            .zip
            .by_name(&format!("{}{name}", self.folder))
            .map_err(|error| format!("{name}: {error}"))?;
        // torch stores without compression. Insisting on that rules out zip bombs: a file is never
        // larger than the archive.
        if entry.compression() != CompressionMethod::Stored
            || entry.size() != entry.compressed_size()
        {
            return Err(format!(
                "{name} is compressed, which torch.save does not do"
            ));
        }
        if entry.size() > bytes_max {
            return Err(format!(
                "{name} has {} bytes; at most {bytes_max} are read",
                entry.size()
            ));
        }
        let mut bytes = Vec::new();
        entry
            .take(bytes_max)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }
}

/// The tensors of the state dict: the root, or the dictionary in it under one of [`MODEL_KEYS`].
fn model_tensors(pickle: &Pickle) -> Result<Vec<(&str, &Node)>, String> {
    let root = pickle.dict(pickle.root());
    let root = root.ok_or("it is not a dictionary of tensors")?;
    let inner = MODEL_KEYS.iter().find_map(|key| {
        let entry = root
            .iter()
            .find(|(name, _)| pickle.text(*name) == Some(key));
        let (_, value) = entry?;
        pickle.dict(*value)
    });
    let mut tensors = Vec::new();
    for (name, value) in inner.unwrap_or(root) {
        let node = pickle.node(*value);
        if let Some(name) = pickle.text(*name)
            && matches!(node, Node::Tensor { .. })
        {
            tensors.push((name, node));
        }
    }
    if tensors.is_empty() {
        Err("it has no tensors".to_owned())
    } else {
        Ok(tensors)
    }
}

/// Reads a tensor; storages that tensors share are read once. Errors continue a sentence that
/// begins with the tensor's name.
fn read_tensor<R: Read + Seek>(
    pickle: &Pickle,
    node: &Node,
    archive: &mut Archive<'_, R>,
    storages: &mut BTreeMap<String, Tensor>,
) -> Result<Tensor, String> {
    let Node::Tensor {
        storage,
        offset,
        shape,
        stride,
    } = node
    else {
        return Err("is not a tensor".to_owned());
    };
    let Node::Storage { kind, key, count } = pickle.node(*storage) else {
        return Err("has no storage".to_owned());
    };
    let bytes = usize::try_from(*count)
        .ok()
        .and_then(|count| count.checked_mul(kind.elt_size_in_bytes()));
    let bytes = bytes.ok_or("has a storage of an impossible size")?;
    if !storages.contains_key(key) {
        let data = archive.read(&format!("data/{key}"), bytes as u64)?;
        if data.len() != bytes {
            return Err(format!(
                "needs {bytes} bytes, and data/{key} has {}",
                data.len()
            ));
        }
        storages.insert(key.clone(), Tensor::from_data_size(&data, &[*count], *kind));
    }
    let storage = &storages[key];
    if storage.kind() != *kind || storage.size() != [*count] {
        return Err(format!(
            "and another tensor disagree about the dtype or size of data/{key}"
        ));
    }
    if !is_inside_storage(*offset, shape, stride, *count) {
        return Err(format!(
            "exceeds its storage of {count} values: shape {shape:?}, stride {stride:?}, offset \
             {offset}"
        ));
    }
    Ok(storage
        .as_strided(shape.as_slice(), stride.as_slice(), *offset)
        .contiguous())
}

/// Whether a view is inside a storage of `count` values and has no more values than that. The
/// second is for strides of 0, by which a few bytes could become a tensor larger than memory.
fn is_inside_storage(offset: i64, shape: &[i64], stride: &[i64], count: i64) -> bool {
    if shape.len() != stride.len()
        || offset < 0
        || shape.iter().chain(stride).any(|number| *number < 0)
    {
        return false;
    }
    let values = shape
        .iter()
        .try_fold(1_i64, |values, side| values.checked_mul(*side));
    let reach = shape
        .iter()
        .zip(stride)
        .try_fold(offset, |reach, (side, stride)| {
            reach.checked_add((side - 1).max(0).checked_mul(*stride)?)
        });
    match (values, reach) {
        (Some(0), Some(_)) => true,
        (Some(values), Some(reach)) => values <= count && reach < count,
        _ => false,
    }
}

/// The dtype of a storage class of torch.
fn storage_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_checked_against_its_storage() {
        let inside = is_inside_storage;
        assert!(inside(0, &[2, 3], &[3, 1], 6));
        assert!(inside(2, &[2, 2], &[1, 2], 6));
        assert!(inside(6, &[0], &[1], 6), "an empty tensor");
        assert!(!inside(1, &[2, 3], &[3, 1], 6), "one value too far");
        assert!(!inside(0, &[1 << 40], &[0], 6), "one value a billion times");
        assert!(
            !inside(0, &[1 << 40, 1 << 40], &[1, 1], 6),
            "overflow of the size"
        );
        assert!(!inside(i64::MAX, &[2], &[2], 6), "overflow of the offset");
        assert!(!inside(-1, &[1], &[1], 6));
        assert!(!inside(0, &[2], &[-1], 6));
        assert!(!inside(0, &[1], &[], 6), "a stride is missing");
    }
}
