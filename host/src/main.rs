//! The `scorehost` command: reads what was typed, does it, prints errors with their causes and cures, and ends with
//! the contract's exit codes.

mod cli;

use std::path::PathBuf;

use scorehost::cache;

fn main() -> std::process::ExitCode {
    settle_drivers();
    // Scripts, pictures and outputs share what the process may open; where it cannot be more, it stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    cli::main()
}

/// Tells drivers of GPUs what they look for in the environment, where nobody did.
fn settle_drivers() {
    if !cfg!(target_os = "linux") {
        return;
    }
    // Mesa's Vulkan drivers complain on stderr of a desktop's variable that servers and containers do not have.
    set_where_missing("XDG_RUNTIME_DIR", std::env::temp_dir());
    // Compiled shaders of drivers belong to the things that can be made again, and a confined process writes nowhere
    // else: with nowhere to keep them, Mesa compiles for ten seconds at each start.
    if let Some(folder) = cache::user_folder() {
        set_where_missing("MESA_SHADER_CACHE_DIR", folder.join(cache::GPU));
        set_where_missing("__GL_SHADER_DISK_CACHE_PATH", folder.join(cache::GPU));
    }
}

#[expect(unsafe_code, reason = "environment variables can be set before there are threads")]
fn set_where_missing(name: &str, value: PathBuf) {
    if std::env::var_os(name).is_none() {
        // SAFETY: the first thing that the process does; no other thread can be reading the environment.
        unsafe { std::env::set_var(name, value) };
    }
}
