//! Named tensors in safetensors files: the same tensors always give the same bytes, and reading
//! trusts nothing that a file claims.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, View, serialize_to_file};
use tch::{Device, Kind, Tensor};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {verb} {}: {source}", path.display())]
    Io {
        /// "read" or "write".
        verb: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("could not read {} as safetensors: {what}", path.display())]
    Format { path: PathBuf, what: String },
}

/// The contents of a file.
#[derive(Debug)]
pub struct TensorFile {
    /// On the CPU, in the dtype that they are stored in.
    pub tensors: BTreeMap<String, Tensor>,
    pub metadata: BTreeMap<String, String>,
}

/// Reads a file.
///
/// # Errors
/// [`StoreError`].
pub fn read(path: &Path) -> Result<TensorFile, StoreError> {
    let bytes = fs::read(path).map_err(|source| StoreError::Io {
        verb: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let format = |what: String| StoreError::Format {
        path: path.to_path_buf(),
        what,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| format(error.to_string()))?;
    let metadata = header
        .metadata()
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = view.dtype();
        let kind = kind_of(dtype)
            .ok_or_else(|| format(format!("`{name}` has the unsupported dtype {dtype:?}")))?;
        let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
        tensors.insert(name, Tensor::from_data_size(view.data(), &shape, kind));
    }
    Ok(TensorFile { tensors, metadata })
}

/// Writes a file. `metadata` is a single entry: the library writes several in an unspecified order,
/// and the bytes would not always be the same.
///
/// # Errors
/// [`StoreError::Io`].
pub fn write<'t>(
    path: &Path,
    tensors: impl Iterator<Item = (&'t str, &'t Tensor)>,
    metadata: Option<(&str, &str)>,
) -> Result<(), StoreError> {
    let views: Vec<(&str, LazyView)> = tensors
        .map(|(name, tensor)| (name, LazyView::new(tensor)))
        .collect();
    let views = views.iter().map(|(name, view)| (*name, view));
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    let written = mode_of_new_file(path).and_then(|mode| {
        serialize_to_file(views, metadata, path).map_err(|error| match error {
            SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        })?;
        std::fs::set_permissions(path, mode)
    });
    written.map_err(|source| StoreError::Io {
        verb: "write",
        path: path.to_path_buf(),
        source,
    })
}

/// The mode that the user's umask gives a file: the library makes one that only the user can read.
fn mode_of_new_file(path: &Path) -> std::io::Result<Permissions> {
    Ok(File::create(path)?.metadata()?.permissions())
}

/// A tensor whose bytes are copied when they are written: only one tensor at a time is in memory
/// twice.
struct LazyView {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl LazyView {
    fn new(tensor: &Tensor) -> Self {
        Self {
            tensor: tensor.detach(),
            shape: tensor
                .size()
                .iter()
                .map(|side| usize::try_from(*side).unwrap_or(0))
                .collect(),
        }
    }
}

impl View for &LazyView {
    fn dtype(&self) -> Dtype {
        dtype_of(self.tensor.kind())
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// The dtypes of models and training states, in safetensors and in tch.
const KINDS: [(Dtype, Kind); 9] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::BOOL, Kind::Bool),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS
        .iter()
        .find(|(known, _)| *known == dtype)
        .map(|(_, kind)| *kind)
}

fn dtype_of(kind: Kind) -> Dtype {
    let found = KINDS.iter().find(|(_, known)| *known == kind);
    found
        .map(|(dtype, _)| *dtype)
        .expect("all tensors that are written have one of these dtypes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_read_again_and_the_bytes_are_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let tensors = [
            ("b", Tensor::from_slice(&[1.5_f32, -2.0]).view([1, 2])),
            ("a", Tensor::from_slice(&[3_i64])),
            ("scalar", Tensor::from(0.25_f32)),
            (
                "transposed",
                Tensor::from_slice(&[1_f32, 2.0, 3.0, 4.0])
                    .view([2, 2])
                    .tr(),
            ),
        ];
        let list = || tensors.iter().map(|(name, tensor)| (*name, tensor));
        write(&one, list(), Some(("blip", "{}"))).unwrap();
        write(
            &two,
            list().collect::<Vec<_>>().into_iter().rev(),
            Some(("blip", "{}")),
        )
        .unwrap();
        assert_eq!(
            fs::read(&one).unwrap(),
            fs::read(&two).unwrap(),
            "the order has no influence"
        );
        let stored = read(&one).unwrap();
        assert_eq!(stored.metadata["blip"], "{}");
        for (name, tensor) in &tensors {
            assert_eq!(&stored.tensors[*name], tensor, "{name}");
        }
    }

    #[test]
    fn a_malformed_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("malformed");
        let good = Tensor::from_slice(&[1_f32; 8]);
        write(&path, [("x", &good)].into_iter(), None).unwrap();
        let bytes = fs::read(&path).unwrap();
        for bad in [
            &bytes[..bytes.len() - 1],
            &[0xff; 16],
            b"",
            &[bytes.as_slice(), b"more"].concat(),
        ] {
            fs::write(&path, bad).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains(" as safetensors: "), "{message}");
        }
        assert!(
            read(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .starts_with("could not read ")
        );
    }
}
