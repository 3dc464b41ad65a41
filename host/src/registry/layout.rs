//! An OCI image layout folder: `oci-layout`, `index.json` and `blobs/sha256`. Files appear whole, and one process at a
//! time changes the index.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::artifact::MANIFEST;
use super::reference::is_digest;
use super::{MOST_MANIFEST, RegistryError, Store};

/// The annotation by which an index names its manifests.
const NAME: &str = "org.opencontainers.image.ref.name";
const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";

pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// A folder that is one.
    pub(super) fn open(folder: &Path) -> Result<Self, RegistryError> {
        let layout = Self { folder: folder.to_owned() };
        let mark = layout.read(MARK)?.ok_or_else(|| {
            layout.odd("it has no file `oci-layout`\nhint: `scorehost push SCRIPT oci:FOLDER:TAG` makes such a folder")
        })?;
        let mark: Value = serde_json::from_slice(&mark).map_err(|e| layout.odd(format!("`oci-layout`: {e}")))?;
        match mark["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => Ok(layout),
            _ => Err(layout.odd("`oci-layout` names no version 1 of the layout")),
        }
    }

    /// A folder that is one, or becomes one now since nothing is in it.
    pub(super) fn make(folder: &Path) -> Result<Self, RegistryError> {
        let layout = Self { folder: folder.to_owned() };
        if layout.path(MARK).exists() {
            return Self::open(folder);
        }
        let write = |source| RegistryError::File { what: "write", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(write)?;
        if fs::read_dir(folder).map_err(write)?.next().is_some() {
            return Err(layout.odd("it has other files, and no `oci-layout`\nhint: name a new or an empty folder"));
        }
        layout.write(INDEX, json!({"schemaVersion": 2, "manifests": []}).to_string().as_bytes())?;
        // Last: what was broken off before is no layout.
        layout.write(MARK, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
        Ok(layout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn blob_path(&self, digest: &str) -> Result<PathBuf, RegistryError> {
        let digits = digest.strip_prefix("sha256:").filter(|_| is_digest(digest));
        let digits = digits.ok_or_else(|| self.odd(format!("{digest:.100?} is no SHA-256 digest")))?;
        Ok(self.folder.join("blobs/sha256").join(digits))
    }

    fn odd(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Layout { path: self.folder.clone(), reason: reason.into() }
    }

    /// Opens what is a file; a pipe would wait for ever.
    fn open_file(&self, path: &Path) -> Result<Option<File>, RegistryError> {
        let read = |source| RegistryError::File { what: "read", path: path.to_owned(), source };
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(read(error)),
            Ok(facts) if !facts.is_file() => Err(self.odd(format!("`{}` is not a file", path.display()))),
            Ok(_) => File::open(path).map(Some).map_err(read),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        self.read_path(&self.path(name))
    }

    fn read_path(&self, path: &Path) -> Result<Option<Vec<u8>>, RegistryError> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let done = file.take(MOST_MANIFEST + 1).read_to_end(&mut bytes);
        done.map_err(|source| RegistryError::File { what: "read", path: path.to_owned(), source })?;
        if bytes.len() as u64 > MOST_MANIFEST {
            return Err(RegistryError::TooLarge { what: format!("`{}`", path.display()), most: MOST_MANIFEST });
        }
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        self.write_path(&self.path(name), bytes)
    }

    /// The whole file or none, on disk when this returns.
    fn write_path(&self, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
        let folder = path.parent().unwrap_or(&self.folder);
        let write = || {
            fs::create_dir_all(folder)?;
            let mut builder = tempfile::Builder::new();
            // As any file of the user's: a layout is made to be shared.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
            let mut file = builder.tempfile_in(folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| RegistryError::File { what: "write", path: path.to_owned(), source })
    }

    fn index(&self) -> Result<Value, RegistryError> {
        let bytes = self.read(INDEX)?.ok_or_else(|| self.odd("it has no `index.json`"))?;
        let index: Value = serde_json::from_slice(&bytes).map_err(|e| self.odd(format!("`index.json`: {e}")))?;
        if index["manifests"].is_array() { Ok(index) } else { Err(self.odd("`index.json` has no list of manifests")) }
    }
}

fn is_named(entry: &Value, tag: &str) -> bool {
    entry["annotations"][NAME].as_str() == Some(tag)
}

impl Store for Layout {
    fn manifest(&self, tag_or_digest: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        if is_digest(tag_or_digest) {
            return self.read_path(&self.blob_path(tag_or_digest)?);
        }
        let index = self.index()?;
        let mut found = index["manifests"].as_array().into_iter().flatten().filter(|e| is_named(e, tag_or_digest));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(self.odd(format!("`index.json` has two manifests of tag `{tag_or_digest}`"))),
            (Some(entry), None) => {
                let digest = entry["digest"].as_str().unwrap_or_default();
                let bytes = self.read_path(&self.blob_path(digest)?)?;
                let bytes = bytes.ok_or_else(|| RegistryError::Missing(self.place(digest)))?;
                let found = super::artifact::digest_of(&bytes);
                if found != digest {
                    let reason = format!("it digests to `{found}`");
                    return Err(RegistryError::Mismatch { what: self.place(digest), reason });
                }
                Ok(Some(bytes))
            }
        }
    }

    fn blob(&self, digest: &str) -> Result<Box<dyn Read>, RegistryError> {
        let file = self.open_file(&self.blob_path(digest)?)?;
        Ok(Box::new(file.ok_or_else(|| RegistryError::Missing(self.place(digest)))?))
    }

    fn place(&self, digest: &str) -> String {
        self.blob_path(digest).map_or_else(|_| digest.to_owned(), |path| path.display().to_string())
    }

    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        // Over what is there: it may be damaged.
        self.write_path(&self.blob_path(digest)?, bytes)
    }

    fn put_manifest(&self, tag: &str, digest: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        self.put_blob(digest, bytes)?;
        let mark = self.path(MARK);
        let lock = File::open(&mark).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|source| RegistryError::File { what: "write", path: mark, source })?;
        let mut index = self.index()?;
        let entry = json!({
            "mediaType": MANIFEST,
            "digest": digest,
            "size": bytes.len(),
            "annotations": {NAME: tag},
        });
        if let Some(manifests) = index["manifests"].as_array_mut() {
            manifests.retain(|entry| !is_named(entry, tag));
            manifests.push(entry);
        }
        self.write(INDEX, index.to_string().as_bytes())
    }
}
