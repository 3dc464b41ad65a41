//! `check`: what a script or a deployment is, and whether it would run.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use scorehost::child;
use scorehost::infer::{Port, element_name, shape_text};
use scorehost::service::{self, DeploymentFacts, ModelFacts, ScriptFacts, Source};

use super::follow;
use super::registry::AskingArgs;
use super::run::key_value;
use super::{COMPLETED, NamedArgs, compiler, model_trial, say};

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// A script (.wasm) or a deployment (.yml)
    path: PathBuf,
    /// Replace a setting: --set settings.mini_batch_size=5
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    asking: AskingArgs,
    /// For strangers' YAML: the script and the model have to lie in these folders
    #[arg(long, hide = true, value_name = "FOLDER")]
    within: Vec<PathBuf>,
    #[command(flatten)]
    named: NamedArgs,
    /// For a host that asks: ends when stdin does
    #[arg(long, hide = true)]
    follow: bool,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    if args.follow {
        child::give_way();
        follow::end_with_stdin()?;
    }
    let is_deployment =
        args.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yml") || e.eq_ignore_ascii_case("yaml"));
    if is_deployment {
        let (set, within) = (args.set.clone(), args.within.clone());
        let source = Source { file: args.path.clone(), set, within, asking: args.asking.asking() };
        let facts = service::check_deployment(&source, &args.named.named(), &compiler()?, &model_trial()?)?;
        if args.json {
            say!("{}", serde_json::to_string_pretty(&facts).context("the facts are not JSON")?);
        } else {
            print_deployment(&facts);
        }
    } else {
        let facts = service::check_script(&args.path, &compiler()?)?;
        if args.json {
            say!("{}", serde_json::to_string_pretty(&facts).context("the facts are not JSON")?);
        } else {
            print_script(&facts);
        }
    }
    Ok(COMPLETED)
}

fn print_script(facts: &ScriptFacts) {
    say!("script:   {} ({} bytes)", facts.path.display(), facts.bytes);
    say!("digest:   {}", facts.digest);
    say!("contract: {}", facts.interfaces.contract);
    say!("exports:  {}", facts.interfaces.exports.join(", "));
    let (wasi, ours): (Vec<_>, Vec<_>) = facts.interfaces.imports.iter().partition(|name| name.starts_with("wasi:"));
    say!("imports:  {}", list(&ours));
    say!("          {}", list(&wasi));
    say!("opened in {:.1} ms", facts.open_ms);
}

fn list(names: &[&String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ") }
}

fn print_deployment(facts: &DeploymentFacts) {
    say!("deployment: {}", facts.name);
    if let Some(script) = &facts.script {
        print_script(script);
    }
    if let Some(built_in) = &facts.built_in {
        say!("script:   none; the built-in scorer {built_in}");
    }
    match &facts.model {
        None => say!("model:    none that would be opened by itself"),
        Some(path) => say!("model:    {}", path.display()),
    }
    for device in &facts.devices {
        print_model(device);
    }
    if !facts.not_used.is_empty() {
        say!("not used: {}", facts.not_used.join(", "));
    }
}

fn print_model(facts: &ModelFacts) {
    match (&facts.description, &facts.refusal) {
        (Some(description), None) => {
            say!("  {}: opens ({description})", facts.device);
            facts.inputs.iter().for_each(|port| print_port("takes", port));
            facts.outputs.iter().for_each(|port| print_port("gives", port));
        }
        (_, refusal) => say!("  {}: no: {}", facts.device, refusal.as_deref().unwrap_or("unknown")),
    }
}

fn print_port(verb: &str, port: &Port) {
    say!("    {verb} `{}`: {} {}", port.name, shape_text(&port.shape), element_name(port.element));
}
