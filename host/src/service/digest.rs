//! The digests of a deployment's model: what identifies it in records, and each file's own.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ServiceError;
use crate::cache::hex;
use crate::store;

/// See the module.
pub(super) struct ModelDigest {
    /// `sha256:` and the digits of the file; of a folder, of its files' names and digests, in order.
    pub(super) whole: String,
    /// Each file with the digits of its SHA-256.
    pub(super) files: Vec<(PathBuf, String)>,
}

impl ModelDigest {
    /// Reads the file, or all of the folder, at `path`.
    pub(super) fn of(path: &Path) -> Result<Self, ServiceError> {
        if path.is_file() {
            let digits = of_file(path)?;
            return Ok(Self { whole: format!("sha256:{digits}"), files: vec![(path.to_owned(), digits)] });
        }
        let mut names = Vec::new();
        store::list(path, None, |name| names.push(String::from_utf8_lossy(name).into_owned()))?;
        names.sort();
        let (mut hash, mut files) = (Sha256::new(), Vec::with_capacity(names.len()));
        for name in names {
            let file = path.join(&name);
            let digits = of_file(&file)?;
            hash.update(format!("{name}\0{digits}\0"));
            files.push((file, digits));
        }
        Ok(Self { whole: format!("sha256:{}", hex(&hash.finalize())), files })
    }
}

fn of_file(path: &Path) -> Result<String, ServiceError> {
    let fail = |source| ServiceError::Digest { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}
