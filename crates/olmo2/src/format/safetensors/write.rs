//! Tensors to a safetensors file, which is complete or absent.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use thiserror::Error;

use crate::hint::Hint;
use crate::storage::{StoredDtype, element};
use crate::weights::StoredTensor;

/// Why a safetensors file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file cannot be written or renamed.
    #[error("cannot write `{path}`: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A tensor whose bytes are not those of its shape and dtype.
    #[error("cannot write `{path}`: tensor `{tensor}`: expected the bytes of {shape:?} {dtype}, found {found} bytes", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its dtype.
        dtype: StoredDtype,
        /// Its bytes.
        found: usize,
    },
    /// The `safetensors` crate refused the tensors.
    #[error("cannot write `{path}`: {reason}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The crate's reason.
        reason: String,
    },
}

impl Hint for SafetensorsError {}

/// Writes tensors to one safetensors file, with the metadata `format: pt` that transformers
/// expects. The bytes depend on names and tensors alone.
///
/// An existing file is replaced, once the new one is complete.
///
/// # Errors
/// A file that cannot be written, or a tensor whose bytes are not those of its shape and dtype.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a StoredTensor)>,
) -> Result<(), SafetensorsError> {
    let views = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, view(path, name, tensor)?)))
        .collect::<Result<Vec<_>, _>>()?;
    let unfinished = unfinished(path);
    let written = create(&unfinished, views).and_then(|()| Ok(fs::rename(&unfinished, path)?));
    written.map_err(|error| {
        // Half a file is useless; the first error is the one to report.
        let _ = fs::remove_file(&unfinished);
        let path = path.to_owned();
        match error {
            SafeTensorError::IoError(source) => SafetensorsError::Io { path, source },
            other => SafetensorsError::Format {
                path,
                reason: other.to_string(),
            },
        }
    })
}

fn view<'a>(
    path: &Path,
    name: &str,
    tensor: &'a StoredTensor,
) -> Result<TensorView<'a>, SafetensorsError> {
    if !element::is_supported(tensor.dtype) {
        let expected = "F32, BF16 or F16";
        return Err(SafetensorsError::Format {
            path: path.to_owned(),
            reason: format!(
                "tensor `{name}`: expected {expected}, found {:?}",
                tensor.dtype
            ),
        });
    }
    let stored = StoredDtype::of(tensor.dtype);
    let dtype = match stored {
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::Bf16 => Dtype::BF16,
        StoredDtype::F16 => Dtype::F16,
    };
    TensorView::new(dtype, tensor.shape.clone(), &tensor.bytes).map_err(|_| {
        SafetensorsError::Size {
            path: path.to_owned(),
            tensor: name.to_owned(),
            shape: tensor.shape.clone(),
            dtype: stored,
            found: tensor.bytes.len(),
        }
    })
}

/// Writes a file with the permissions of any new file: the `safetensors` crate lets only the owner
/// read it.
fn create(path: &Path, views: Vec<(&str, TensorView<'_>)>) -> Result<(), SafeTensorError> {
    let permissions = File::create(path)?.metadata()?.permissions();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(views, Some(metadata), path)?;
    fs::set_permissions(path, permissions)?;
    Ok(File::open(path)?.sync_all()?)
}

/// The name of an incomplete file; it holds the process's id, since two runs may write one file.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use safetensors::SafeTensors;

    use super::*;

    fn tensor(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> StoredTensor {
        StoredTensor {
            dtype,
            shape: shape.to_vec(),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn tensors_come_back_and_a_wrong_size_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let a = tensor(DType::BF16, &[2, 3], (0..12).collect());
        let b = tensor(DType::F32, &[1], vec![1, 2, 3, 4]);
        write(&path, [("b", &b), ("a", &a)]).expect("written");
        let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(names.len(), 1, "nothing else is left");
        let bytes = fs::read(&path).expect("a file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.tensor("a").expect("a").data(), &a.bytes[..]);
        assert_eq!(file.tensor("b").expect("b").shape(), [1]);
        let short = tensor(DType::F16, &[2], vec![0; 3]);
        let error = write(&path, [("c", &short)]).expect_err("three bytes");
        let expected = "tensor `c`: expected the bytes of [2] f16, found 3 bytes";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), bytes);
    }
}
