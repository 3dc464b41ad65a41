//! What comes with the host for each language, as files in the binary: its SDK, its template, and the contract.

use std::collections::BTreeSet;
use std::path::Path;

use super::{HIDDEN, Language, ProjectError, refused};

/// Paths in the checkout, with `/`, and the bytes of each file.
static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files below a folder of the checkout, by their path in it.
fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> + use<> {
    let folder = format!("{folder}/");
    FILES.iter().filter_map(move |(path, bytes)| Some((path.strip_prefix(&folder)?, *bytes)))
}

/// The files of a language's template: its first example.
pub(super) fn template(language: Language) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    below(&format!("plugins/{}/score-by-file", language.word()))
}

/// Makes `.scorehost` of a project hold the SDK and the contract of this host, and nothing of another's; a file that is
/// right already is left as it is, so that compilers see no change.
pub(super) fn unpack(language: Language, project: &Path) -> Result<(), ProjectError> {
    let hidden = project.join(HIDDEN);
    write_if_other(&hidden.join(".gitignore"), b"*\n")?;
    let sdk = below(&format!("plugins/sdk/{}", language.word()));
    refresh(&hidden.join(language.word()), sdk.map(|(path, bytes)| (path, standalone(language, path, bytes))))?;
    refresh(&hidden.join("wit"), below("wit").map(|(path, bytes)| (path, bytes.to_vec())))
}

/// A file of an SDK as it is outside the checkout. The Rust SDK names the contract relative to itself.
fn standalone(language: Language, path: &str, bytes: &'static [u8]) -> Vec<u8> {
    match (language, path) {
        (Language::Rust, "src/lib.rs") => {
            String::from_utf8_lossy(bytes).replace(r#"path: "../../../wit""#, r#"path: "../wit""#).into_bytes()
        }
        _ => bytes.to_vec(),
    }
}

/// Makes a folder hold these files and no others.
fn refresh(folder: &Path, files: impl Iterator<Item = (&'static str, Vec<u8>)>) -> Result<(), ProjectError> {
    let mut wanted = BTreeSet::new();
    for (path, bytes) in files {
        let path = folder.join(path);
        write_if_other(&path, &bytes)?;
        wanted.insert(path);
    }
    // Of an earlier version, say: a compiler that takes all files of a folder would take them too.
    for entry in walkdir::WalkDir::new(folder).follow_root_links(false) {
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_file() && !wanted.contains(entry.path()) {
            std::fs::remove_file(entry.path()).map_err(refused(entry.path()))?;
        }
    }
    Ok(())
}

fn write_if_other(path: &Path, bytes: &[u8]) -> Result<(), ProjectError> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    write(path, bytes)
}

/// Writes a file, and the folders above it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), ProjectError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(refused(folder))?;
    std::fs::write(path, bytes).map_err(refused(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_holds_sources_and_nothing_that_tools_leave() {
        let names: Vec<_> = FILES.iter().map(|(path, _)| *path).collect();
        assert!(names.contains(&"wit/script.wit") && names.contains(&"plugins/sdk/rust/src/lib.rs"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("/target/") || name.contains("node_modules")), "{names:?}");
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 8 << 20, "{bytes} bytes are embedded: something got in that is not source");
    }

    #[test]
    fn unpacking_refreshes_what_changed_and_removes_what_is_not_ours() {
        let project = tempfile::tempdir().unwrap();
        unpack(Language::Rust, project.path()).unwrap();
        let hidden = project.path().join(HIDDEN);
        assert_eq!(std::fs::read_to_string(hidden.join(".gitignore")).unwrap(), "*\n");
        let library = hidden.join("rust/src/lib.rs");
        let first = std::fs::read_to_string(&library).unwrap();
        assert!(first.contains(r#"path: "../wit""#), "the SDK finds the contract that is unpacked beside it");
        let before = library.metadata().unwrap().modified().unwrap();

        std::fs::write(hidden.join("wit/old.wit"), "old").unwrap();
        std::fs::write(hidden.join("rust/Cargo.toml"), "changed").unwrap();
        unpack(Language::Rust, project.path()).unwrap();
        assert!(!hidden.join("wit/old.wit").exists());
        assert_ne!(std::fs::read_to_string(hidden.join("rust/Cargo.toml")).unwrap(), "changed");
        assert_eq!(library.metadata().unwrap().modified().unwrap(), before, "what is right is left as it is");
    }
}
