//! Folders of this machine: what a job may read there.

use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// Why a folder cannot be listed or prepared.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not there, or not to be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds more than a job can number.
    #[error("`{}` holds more than {MAX_FILES} files", path.display())]
    TooMany {
        /// Which.
        path: PathBuf,
    },
    /// It nests deeper than folders are followed.
    #[error("`{}` is more than {MAX_DEPTH} folders deep", path.display())]
    TooDeep {
        /// The folder that is not entered.
        path: PathBuf,
    },
    /// A private view of a single file cannot be made.
    #[error("cannot make `{}` readable for the script on its own", path.display())]
    View {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            StoreError::Read { .. } | StoreError::TooMany { .. } | StoreError::TooDeep { .. } => Fault::Caller,
            StoreError::View { .. } => Fault::Host,
        }
    }
}

/// Files of one job: their names take some gigabytes then.
pub const MAX_FILES: usize = 50_000_000;

/// Levels of folders followed: deeper than people nest, and a bound on what a hostile tree costs.
const MAX_DEPTH: usize = 64;

/// Calls `found` with the relative path of each regular file below `root`, its parts joined by `/`, in no order.
///
/// Hidden files and folders are skipped, and so is `without` (an output folder inside the input). Links to files are
/// followed where they stay below `root`; links to folders are not.
///
/// # Errors
/// If a folder cannot be read: a listing with holes would score less than the caller asked for.
pub fn list(root: &Path, without: Option<&Path>, mut found: impl FnMut(&[u8])) -> Result<(), StoreError> {
    let read = |path: &Path, source| StoreError::Read { path: path.to_owned(), source };
    let real_root = root.canonicalize().map_err(|e| read(root, e))?;
    let without = without.and_then(|p| p.canonicalize().ok());
    let walk = walkdir::WalkDir::new(&real_root).max_depth(MAX_DEPTH).follow_links(false).into_iter();
    let visible = |entry: &walkdir::DirEntry| {
        let hidden = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
        !hidden && without.as_deref() != Some(entry.path())
    };
    let mut count = 0;
    for entry in walk.filter_entry(visible) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(&real_root).to_owned();
            StoreError::Read { path, source: e.into() }
        })?;
        let kind = entry.file_type();
        if kind.is_dir() && entry.depth() == MAX_DEPTH {
            return Err(StoreError::TooDeep { path: entry.into_path() });
        }
        let is_file = kind.is_file() || (kind.is_symlink() && links_inside(entry.path(), &real_root));
        if !is_file {
            continue;
        }
        count += 1;
        if count > MAX_FILES {
            return Err(StoreError::TooMany { path: root.to_owned() });
        }
        if let Ok(below) = entry.path().strip_prefix(&real_root) {
            found(below.as_os_str().as_encoded_bytes());
        }
    }
    Ok(())
}

/// Whether a link leads to a regular file below `root`.
fn links_inside(link: &Path, root: &Path) -> bool {
    link.canonicalize().is_ok_and(|real| real.starts_with(root) && real.is_file())
}

/// What the folders of [`private_folder`] begin with; the process's number follows.
const VIEW: &str = "scorehost-view-";

/// A folder in `parent` that holds nothing but `file`, so that a script which may read the folder sees no neighbours
/// of the file. It is gone when dropped, and those of processes that were killed are swept away first.
///
/// # Errors
/// If the file can neither be linked nor copied there.
pub fn view_of_file(file: &Path, parent: &Path) -> Result<tempfile::TempDir, StoreError> {
    let fail = |source| StoreError::View { path: file.to_owned(), source };
    let real = file.canonicalize().map_err(fail)?;
    let name = file.file_name().ok_or_else(|| fail(std::io::ErrorKind::InvalidInput.into()))?;
    let folder = private_folder(parent).map_err(fail)?;
    let inside = folder.path().join(name);
    // A link costs nothing; across file systems there is none.
    std::fs::hard_link(&real, &inside).or_else(|_| std::fs::copy(&real, &inside).map(drop)).map_err(fail)?;
    Ok(folder)
}

/// A folder of this process in `parent`, gone when dropped; those of processes that were killed are swept away first.
///
/// # Errors
/// If it cannot be made.
pub fn private_folder(parent: &Path) -> std::io::Result<tempfile::TempDir> {
    sweep_views(parent);
    let prefix = format!("{VIEW}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)
}

/// Removes the views of processes that are no more. Where that cannot be told, or the folder is another user's, they
/// stay: links cost nothing.
fn sweep_views(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(VIEW)?.split('-').next()?.parse::<u32>().ok());
        let is_dead =
            |number| Path::new("/proc/self").exists() && !Path::new("/proc").join(format!("{number}")).exists();
        if number.is_some_and(is_dead) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(root: &Path, without: Option<&Path>) -> Vec<String> {
        let mut all = Vec::new();
        list(root, without, |p| all.push(String::from_utf8_lossy(p).into_owned())).unwrap();
        all.sort();
        all
    }

    #[cfg(unix)]
    #[test]
    fn hidden_files_folder_links_and_links_that_leave_are_skipped() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("a/.hidden")).unwrap();
        std::fs::create_dir_all(at("out")).unwrap();
        for file in ["b.jpg", "a/c d.jpg", "a/.hidden/x", ".dot", "out/old.csv"] {
            std::fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("secret"), at("leaves")).unwrap();
        std::os::unix::fs::symlink(outside.path(), at("folder-leaves")).unwrap();
        std::os::unix::fs::symlink(at("b.jpg"), at("stays.jpg")).unwrap();
        std::os::unix::fs::symlink(root.path(), at("loop")).unwrap();
        assert_eq!(listed(root.path(), Some(&at("out"))), ["a/c d.jpg", "b.jpg", "stays.jpg"]);
    }

    #[test]
    fn a_view_holds_the_file_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("one"), "1").unwrap();
        std::fs::write(root.path().join("two"), "2").unwrap();
        let view = view_of_file(&root.path().join("one"), root.path()).unwrap();
        assert_eq!(listed(view.path(), None), ["one"]);
        // No process has this number: it is larger than Linux gives.
        let left = root.path().join("scorehost-view-99999999-x");
        std::fs::create_dir(&left).unwrap();
        let again = view_of_file(&root.path().join("two"), root.path()).unwrap();
        assert!(!left.exists() || !Path::new("/proc/self").exists());
        assert!(view.path().exists() && again.path().exists());
    }
}
