//! `completion`: what a shell needs to complete this command's words.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use super::COMPLETED;

#[derive(Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints a script of the shell's. `command` is the whole command line.
pub(crate) fn completion(args: &CompletionArgs, command: &Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(command), "scorehost", &mut script);
    // A reader that has gone is no error of ours.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(COMPLETED)
}

/// The command without what only this program calls: generators do not all leave out what is hidden.
fn shown(command: &Command) -> Command {
    let verbs: Vec<Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    Command::new("scorehost").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true).subcommands(verbs)
}
