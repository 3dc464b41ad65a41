//! `completion`: what a shell needs to complete this command's words.

use std::io::Write;

use clap::builder::Resettable::Reset;
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
    // Never given back: this process prints them and ends.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut all = Command::new(name).disable_help_subcommand(true);
    if let Some(about) = command.get_about() {
        all = all.about(about.clone());
    }
    if command.get_version().is_some() {
        all = all.version(env!("CARGO_PKG_VERSION"));
    }
    // What an option goes with is no matter of a shell's, and may be one of those that are left out.
    let options = command.get_arguments().filter(|option| !option.is_hide_set()).cloned();
    let options = options.map(|option| option.requires(Reset).conflicts_with(Reset).overrides_with(Reset));
    all.args(options).subcommands(command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(shown))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered() {
        let option = |name: &'static str| Arg::new(name).long(name);
        let deep = Command::new("deep").arg(option("plain").requires("secret")).arg(option("secret").hide(true));
        let command = Command::new("scorehost").subcommand(Command::new("verb").subcommand(deep));
        let command = command.subcommand(Command::new("inner").hide(true));
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut shown(&command), "scorehost", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("--plain") && !script.contains("--secret") && !script.contains("inner"), "{script}");
    }
}
