//! The `scorehost` command: reads what was typed, does it, prints errors with their causes and cures, and ends with
//! the contract's exit codes.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
