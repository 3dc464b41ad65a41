//! Folders of things that can be made again, such as compiled code: below the user's cache folder, and only for this
//! user to enter, since what lies there is trusted when it is read. A cache that cannot be used costs time only.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of what is compiled for GPUs, here and by their drivers, and of what tuning found.
pub const GPU: &str = "gpu";

/// The folder of what is compiled of scripts, which is run when it is found again.
pub const COMPILED: &str = "compiled";

/// A folder that only this user can enter, or none.
#[derive(Clone, Debug)]
pub struct Private(Option<PathBuf>);

impl Private {
    /// The folder `name` of the user's cache; none where it cannot be made private.
    pub fn of_user(name: &str) -> Self {
        Self(user_folder().map(|folder| folder.join(name)).filter(|folder| make_private(folder).is_ok()))
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// A folder of the caller's.
    ///
    /// # Errors
    /// If it cannot be made, or made private.
    pub fn at(folder: &Path) -> std::io::Result<Self> {
        make_private(folder)?;
        Ok(Self(Some(folder.to_owned())))
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Where the file `name` is, if it is there and the folder still private.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let folder = self.0.as_ref().filter(|folder| is_private(folder))?;
        Some(folder.join(name)).filter(|path| path.is_file())
    }

    /// The file `name`, unless it is longer than `most` bytes.
    pub fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.find(name)?;
        let len = path.metadata().ok()?.len();
        if len <= most { std::fs::read(path).ok() } else { None }
    }

    /// Writes the file `name` beside its place and renames it, so that a reader sees all of it or none.
    ///
    /// # Errors
    /// Those of the file system; none if there is no folder.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let Some(folder) = &self.0 else { return Ok(()) };
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        // A name must never stand for half of a file, not after a power cut either: what is read is believed.
        file.as_file().sync_all()?;
        file.persist(folder.join(name))?;
        Ok(())
    }
}

/// The folder for what can be made again: `SCOREHOST_CACHE`, else the platform's cache folder.
pub fn user_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("SCOREHOST_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|p| p.join("scorehost")))
        .or_else(|| variable("LOCALAPPDATA").map(|p| p.join("scorehost")))
        .or_else(|| variable("HOME").map(|p| p.join(".cache").join("scorehost")))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !is_private(folder) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Whether nobody but the owner, who is this process's user, can enter.
#[cfg(unix)]
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let mine = std::fs::metadata("/proc/self").map(|m| m.uid());
    match std::fs::metadata(folder) {
        Ok(m) => m.mode() & 0o077 == 0 && mine.map_or(true, |uid| uid == m.uid()),
        Err(_) => false,
    }
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// The user's cache folder is private by inheritance there.
#[cfg(not(unix))]
fn is_private(folder: &Path) -> bool {
    folder.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_too_long_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Private::at(&folder.path().join("a/b")).unwrap();
        assert_eq!(cache.read("x", 10), None);
        cache.keep("x", b"one").unwrap();
        cache.keep("x", b"other").unwrap();
        assert_eq!(cache.read("x", 5).as_deref(), Some(&b"other"[..]));
        assert_eq!(cache.read("x", 4), None);
        Private::none().keep("x", b"one").unwrap();
        assert_eq!(Private::none().read("x", 10), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_enter_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let cache = Private::at(folder.path()).unwrap();
        cache.keep("x", b"one").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(cache.read("x", 10), None);
    }
}
