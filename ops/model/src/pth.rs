//! Checkpoints that `torch.save` wrote (`.pth`, `pytorch_model.bin`), read without running anything
//! that is in them.
//!
//! Such a file is a zip archive with a pickle, which is a program, and the bytes of the tensors.
//! `pickle` knows the few instructions and the few names that a checkpoint needs and refuses every
//! other. What stands beside the model (optimizer, settings) is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

mod pickle;

pub use self::pickle::PickleError;
use self::pickle::{Node, Pickle};

/// Longest pickle that is read. Those of BLIP's checkpoints, optimizer included, have less than 1
/// MB.
const PICKLE_BYTES_MAX: u64 = 64 << 20;
/// The keys under which training scripts keep the model's tensors.
const MODEL_KEYS: [&str; 2] = ["model", "state_dict"];

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// The operating system said no.
    #[error("could not read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// It is no archive, or not one that `torch.save` writes.
    #[error("{} is no checkpoint of torch.save: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The pickle does what no checkpoint needs. Nothing of it was executed.
    #[error("{} is refused: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What it does.
        source: PickleError,
    },
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
            "{error} (files older than torch 1.6 are no zip archives: load and save them with a newer torch)"
        ))
    })?;
    let mut archive = Archive {
        folder: folder(&archive).map_err(format)?,
        zip: &mut archive,
    };
    if archive.has("byteorder") && archive.read("byteorder", 16).map_err(format)? != b"little" {
        return Err(format("its numbers are not little-endian".to_owned()));
    }
    let bytes = archive.read("data.pkl", PICKLE_BYTES_MAX).map_err(format)?;
    let pickle = Pickle::load(&bytes).map_err(|source| PthError::Pickle {
        path: path.to_path_buf(),
        source,
    })?;
    let model = model(&pickle).map_err(format)?;
    let mut tensors = BTreeMap::new();
    let mut storages = BTreeMap::new();
    for (name, node) in model {
        let tensor = tensor(&pickle, node, &mut archive, &mut storages)
            .map_err(|what| format(format!("`{name}` {what}")))?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format(format!("`{name}` is there twice")));
        }
    }
    Ok(tensors)
}

/// The files of an archive, which lie in one folder.
struct Archive<'a, R> {
    folder: String,
    zip: &'a mut ZipArchive<R>,
}

fn folder<R: Read + Seek>(zip: &ZipArchive<R>) -> Result<String, String> {
    let names: Vec<_> = zip.file_names().filter_map(Result::ok).collect();
    let mut pickles = names
        .iter()
        .filter_map(|name| name.strip_suffix("data.pkl"));
    match (pickles.next(), pickles.next()) {
        (Some(folder), None) => Ok(folder.to_owned()),
        (None, _) => Err("it has no data.pkl".to_owned()),
        (Some(_), Some(_)) => Err("it has more than one data.pkl".to_owned()),
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
        // torch stores without compression, so a file's length is bounded by the archive's: no zip
        // bombs.
        if entry.compression() != CompressionMethod::Stored
            || entry.size() != entry.compressed_size()
        {
            return Err(format!(
                "{name} is compressed, which torch.save does not do"
            ));
        }
        if entry.size() > bytes_max {
            return Err(format!(
                "{name} has {} bytes, {bytes_max} at most are read",
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

/// Names and nodes of the model's tensors: the root's, or those under `model`.
fn model(pickle: &Pickle) -> Result<Vec<(&str, &Node)>, String> {
    let mut dict = pickle
        .dict(pickle.root())
        .ok_or("it holds no dictionary of tensors")?;
    let inner = MODEL_KEYS.iter().find_map(|key| {
        let found = dict
            .iter()
            .find(|(name, _)| pickle.text(*name) == Some(key));
        found.and_then(|(_, value)| pickle.dict(*value))
    });
    dict = inner.unwrap_or(dict);
    let named = |(name, value): &(usize, usize)| Some((pickle.text(*name)?, pickle.node(*value)));
    let tensors: Vec<(&str, &Node)> = dict
        .iter()
        .filter_map(named)
        .filter(|(_, node)| matches!(node, Node::Tensor { .. }))
        .collect();
    if tensors.is_empty() {
        Err("it holds no tensors".to_owned())
    } else {
        Ok(tensors)
    }
}

fn tensor<R: Read + Seek>(
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
        return Err("is no tensor".to_owned());
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
        return Err(format!("and another tensor disagree about data/{key}"));
    }
    if !fits(*offset, shape, stride, *count) {
        return Err(format!(
            "reaches beyond its storage: shape {shape:?}, stride {stride:?}, offset {offset} in {count}"
        ));
    }
    Ok(storage
        .as_strided(shape.as_slice(), stride.as_slice(), *offset)
        .contiguous())
}

/// Whether a view lies inside a storage of `count` values and has no more values than it.
fn fits(offset: i64, shape: &[i64], stride: &[i64], count: i64) -> bool {
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

/// The kinds of storages a checkpoint may have, by torch's name.
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
    fn a_view_stays_inside_its_storage() {
        assert!(
            fits(0, &[2, 3], &[3, 1], 6) && fits(2, &[2, 2], &[1, 2], 6) && fits(6, &[0], &[1], 6)
        );
        assert!(!fits(1, &[2, 3], &[3, 1], 6), "one too far");
        assert!(!fits(0, &[1 << 40], &[0], 6), "one value a billion times");
        assert!(
            !fits(0, &[1 << 40, 1 << 40], &[1, 1], 6)
                && !fits(-1, &[1], &[1], 6)
                && !fits(0, &[2], &[-1], 6)
        );
        assert!(!fits(i64::MAX, &[2], &[2], 6) && !fits(0, &[1], &[], 6));
    }
}
