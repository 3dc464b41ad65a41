//! What the fuzz targets share: which panics count, and where files go.

use std::panic::PanicHookInfo;
use std::path::PathBuf;

/// Called once by each target before its first input. From then on a panic in this project's own code ends the process,
/// even where it would be caught: our code promises to refuse bad input in words. A panic in a dependency that is caught
/// is an error like others, and one that is not caught ends the process all the same.
pub fn prepare() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_ours(panic) {
            print(panic);
            std::process::abort();
        }
    }));
}

/// Where a dependency's sources lie depends on how it was fetched; ours are named from the checkout.
fn is_ours(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_none_or(|place| place.file().starts_with("host/") || place.file().starts_with("tests/"))
}

/// A folder of this process's own, in memory where the system has that: targets make files many times a second.
///
/// # Panics
/// If there is no place for files at all.
pub fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("scorehost-fuzz-").tempdir_in(parent).expect("a fuzzer needs a place for files")
}
