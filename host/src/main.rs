//! The `scorehost` command: reads what was typed, does it, prints errors with their causes and cures, and ends with
//! the contract's exit codes.

mod cli;

fn main() -> std::process::ExitCode {
    quiet_drivers();
    // Scripts, pictures and outputs share what the process may open; where it cannot be more, it stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    cli::main()
}

/// Mesa's Vulkan drivers complain on stderr of a desktop's variable that servers and containers do not have.
#[expect(unsafe_code, reason = "environment variables can be set before there are threads")]
fn quiet_drivers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first thing that the process does; no other thread can be reading the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}
