//! Names of classes beside a model: a file → one name a line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::BuiltInError;

/// ImageNet's 21 841 names take a tenth of it.
const MAX_BYTES: u64 = 4 << 20;

/// Labels and where they were found.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

impl Labels {
    /// Why they are not one for each class, if so.
    pub(super) fn check(&self, classes: usize) -> Result<(), BuiltInError> {
        if self.names.len() == classes {
            return Ok(());
        }
        let reason = format!("{} names for {classes} classes", self.names.len());
        Err(BuiltInError::Labels { path: self.path.clone(), reason })
    }
}

/// The labels of the model at `file`: `NAME.labels.txt` beside `NAME.onnx`, else `labels.txt`; none if neither is there.
///
/// # Errors
/// If they cannot be read or are no text.
pub(super) fn find(file: &Path) -> Result<Option<Labels>, BuiltInError> {
    let own = file.with_extension("labels.txt");
    let common = file.with_file_name("labels.txt");
    // A link could lead out of the model folder.
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|data| data.is_file());
    let Some(path) = [own, common].into_iter().find(is_file) else { return Ok(None) };
    let fail = |reason: String| BuiltInError::Labels { path: path.clone(), reason };
    let mut text = String::new();
    let file = File::open(&path).map_err(|e| fail(e.to_string()))?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fail(format!("they take more than the {MAX_BYTES} bytes allowed")));
    }
    // Some editors begin a file with a mark of its byte order.
    let text = text.trim_start_matches('\u{feff}');
    let names = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    Ok(Some(Labels { path, names }))
}
