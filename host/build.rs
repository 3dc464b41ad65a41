//! Lists what `scorehost new` and `scorehost build` unpack, so that the binary holds it: the contract, and for each script
//! language its SDK and its first example. Writes `embedded.rs`, a table of paths and bytes; runs again when they change.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What tools leave beside sources; hidden files go too.
const LEFT_BY_TOOLS: [&str; 3] = ["target", "node_modules", "__pycache__"];

fn main() -> io::Result<()> {
    let checkout = PathBuf::from("..");
    let (wit, sdks) = (checkout.join("wit"), checkout.join("plugins/sdk"));
    let mut files = Vec::new();
    // Without the contracts of earlier versions, which are folders.
    collect(&wit, false, &mut files)?;
    collect(&sdks, true, &mut files)?;
    for entry in fs::read_dir(checkout.join("plugins"))? {
        let template = entry?.path().join("score-by-file");
        if template.is_dir() {
            collect(&template, true, &mut files)?;
        }
    }
    // The folders for new files; but not those of templates, where builds leave theirs.
    for path in [&wit, &sdks].into_iter().chain(&files) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    files.sort();

    let mut table = String::from("[\n");
    for path in &files {
        let name = path.strip_prefix(&checkout).map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
        let whole = path.canonicalize()?;
        // Writing to a string cannot fail.
        let _ = writeln!(table, "({name:?}, include_bytes!({whole:?})),");
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("embedded.rs"), table)
}

/// The files of a folder, and of those in it where `deep`.
fn collect(folder: &Path, deep: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || LEFT_BY_TOOLS.iter().any(|left| name == *left) {
            continue;
        }
        if entry.file_type()?.is_file() {
            files.push(path);
        } else if deep && entry.file_type()?.is_dir() {
            collect(&path, true, files)?;
        }
    }
    Ok(())
}
