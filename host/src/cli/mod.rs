//! The command line: one file per group of verbs. What is printed for people goes to stderr while a job runs, and the
//! result to stdout.

mod bench;
mod check;
mod completion;
mod demo;
mod devices;
mod follow;
mod gallery;
mod objects;
mod progress;
mod project;
mod registry;
mod remote;
mod report;
mod run;
mod serve;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use scorehost::cache::Private;
use scorehost::child::{self, ChildLimits};
use scorehost::confine::Confine;
use scorehost::fault::Fault;
use scorehost::infer::Precision;
use scorehost::infer::device::{Device, Named};
use scorehost::infer::trial::{self, Trial};
use scorehost::observe::TraceError;
use scorehost::script::Compiler;
use scorehost::script::compile;
use scorehost::service::ServiceError;
use scorehost::service::host::HostError;
use scorehost::store::BadUrl;
use scorehost::store::objects::ObjectsError;
use scorehost::tls::TlsError;

use remote::RemoteError;

/// Scores folders of files with sandboxed WebAssembly scripts.
#[derive(Parser)]
#[command(name = "scorehost", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a script project: a script, its deployment, and what to do next
    New(project::NewArgs),
    /// Build a project's script to the component that its deployment names
    Build(project::BuildArgs),
    /// Score a folder with a deployment
    Run(run::RunArgs),
    /// Say what a script or a deployment is, and whether it would run
    Check(check::CheckArgs),
    /// List what models can run on, and whether it computes right
    Devices(devices::DevicesArgs),
    /// Measure how fast a model is here, layer by layer and fed with pictures
    Bench(bench::BenchArgs),
    /// Stay, and run jobs for callers over HTTP: endpoints, versioned deployments, tenants
    Serve(serve::ServeArgs),
    /// Copy a complete output to an object store, where it appears as a whole
    Publish(objects::PublishArgs),
    /// Put a script into a registry or a layout folder, as an OCI artifact
    Push(registry::PushArgs),
    /// Get a script from a registry or a layout folder; one that would not run here is refused before it is fetched
    Pull(registry::PullArgs),
    /// Print the OpenAPI document of the REST interface that `serve` has
    Openapi,
    /// Build the example scripts and score the bundled pictures
    Demo(demo::DemoArgs),
    /// Print what a shell needs to complete this command's words
    Completion(completion::CompletionArgs),
    #[command(flatten)]
    Remote(remote::Group),
    /// What a job's files are fetched by: asked on stdin, answers on stdout
    #[command(name = objects::FETCH, hide = true)]
    Fetch(objects::FetchArgs),
    /// What `run` and `check` start to compile a script: a component on stdin, code on stdout
    #[command(name = compile::VERB, hide = true)]
    Compile(LimitArgs),
    /// What `run` and `check` start to open a model for the first time: a model on stdin
    #[command(name = trial::VERB, hide = true)]
    TryModel {
        #[arg(long)]
        onnxruntime: Option<PathBuf>,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// What is named beside the device.
#[derive(Args, Clone)]
struct NamedArgs {
    /// The GPU adapter: its number, part of its name, or `software`
    #[arg(long, value_name = "ADAPTER", env = "SCOREHOST_ADAPTER")]
    adapter: Option<String>,
    /// In how many bits a GPU keeps a model's values; without it 16 on a GPU that has them, 32 on a software adapter
    #[arg(long, value_enum, value_name = "PRECISION", env = "SCOREHOST_PRECISION")]
    precision: Option<PrecisionName>,
    /// ONNX Runtime's shared library; the one in PyPI's onnxruntime package works
    #[arg(long, value_name = "LIBRARY", env = "ORT_DYLIB_PATH")]
    onnxruntime: Option<PathBuf>,
}

impl NamedArgs {
    fn named(&self) -> Named {
        Named {
            onnxruntime: self.onnxruntime.clone(),
            adapter: self.adapter.clone(),
            precision: self.precision.map(Into::into),
        }
    }
}

#[derive(Args)]
struct LimitArgs {
    seconds: u32,
    mib: u32,
    #[arg(long = child::CONFINED)]
    is_confined: bool,
}

impl LimitArgs {
    fn parts(&self) -> (ChildLimits, Confine) {
        let mode = if self.is_confined { Confine::Required } else { Confine::Auto };
        (ChildLimits { seconds: self.seconds, mib: self.mib }, mode)
    }
}

fn compiler() -> anyhow::Result<Compiler> {
    let standard = compile::STANDARD_LIMITS;
    let limits = ChildLimits {
        seconds: limit("SCOREHOST_COMPILE_SECONDS", standard.seconds)?,
        mib: limit("SCOREHOST_COMPILE_MIB", standard.mib)?,
    };
    Ok(Compiler::child(child::this_program()?, limits))
}

fn model_trial() -> anyhow::Result<Trial> {
    let standard = trial::STANDARD_LIMITS;
    let limits = ChildLimits {
        seconds: limit("SCOREHOST_MODEL_SECONDS", standard.seconds)?,
        mib: limit("SCOREHOST_MODEL_MIB", standard.mib)?,
    };
    Ok(Trial::child(child::this_program()?, limits, Private::of_user(trial::CACHE)))
}

fn limit(variable: &str, standard: u32) -> anyhow::Result<u32> {
    let Some(text) = std::env::var_os(variable).filter(|text| !text.is_empty()) else { return Ok(standard) };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    number.with_context(|| format!("`{variable}` is {text:?}, not a number above 0"))
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    /// 32-bit floats
    Single,
    /// 16-bit floats, with sums in 32 bits
    Half,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Single => Precision::Single,
            PrecisionName::Half => Precision::Half,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ConfineName {
    /// As far as the kernel goes; what is missing is said
    Auto,
    /// All of it, or not at all
    Required,
    /// Nothing is given up
    Off,
}

impl From<ConfineName> for Confine {
    fn from(name: ConfineName) -> Self {
        match name {
            ConfineName::Auto => Confine::Auto,
            ConfineName::Required => Confine::Required,
            ConfineName::Off => Confine::Off,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Gpu,
    Cpu,
    Onnxruntime,
}

impl From<DeviceName> for Device {
    fn from(name: DeviceName) -> Self {
        match name {
            DeviceName::Auto => Device::Auto,
            DeviceName::Gpu => Device::Gpu,
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Onnxruntime => Device::OnnxRuntime,
        }
    }
}

/// What was typed does not go together.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct WrongUse {
    text: String,
    hint: &'static str,
}

/// Exit codes, as the contract has them.
const COMPLETED: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Runs the command line to its exit code.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::New(args) => project::new(&args),
        Verb::Build(args) => project::build(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Devices(args) => devices::devices(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Demo(args) => demo::demo(&args),
        Verb::Serve(args) => serve::serve(&args),
        Verb::Publish(args) => objects::publish(&args),
        Verb::Fetch(args) => objects::fetch(&args),
        Verb::Push(args) => registry::push(&args),
        Verb::Pull(args) => registry::pull(&args),
        Verb::Openapi => {
            say!("{}", scorehost::api::openapi().trim_end());
            Ok(COMPLETED)
        }
        Verb::Completion(args) => completion::completion(&args, &Cli::command()),
        Verb::Remote(group) => remote::remote(&group),
        Verb::Compile(limits) => {
            let (limits, mode) = limits.parts();
            Ok(compile::compile_stdin(&limits, mode))
        }
        Verb::TryModel { onnxruntime, limits } => {
            let (limits, mode) = limits.parts();
            Ok(trial::try_stdin(onnxruntime.as_deref(), &limits, mode))
        }
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            print_error(&error);
            exit_code(&error).into()
        }
    }
}

/// The error and its causes on one line, then its cure on a line of its own.
fn print_error(error: &anyhow::Error) {
    let of_store = error.downcast_ref::<ObjectsError>();
    let chain = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    // A store's errors say their causes themselves, and have lines.
    let chain = of_store.filter(|error| error.hint().is_some()).map_or(chain, ObjectsError::in_full);
    // Some cures come with the text, on a line of their own already.
    let (text, cures) = chain.split_once("\nhint: ").map_or((chain.as_str(), None), |(t, c)| (t, Some(c)));
    let hint = error.downcast_ref::<ServiceError>().and_then(ServiceError::hint);
    let hint = hint.or_else(|| error.downcast_ref::<RemoteError>().and_then(RemoteError::hint));
    let hint = hint.or_else(|| of_store.and_then(ObjectsError::hint));
    let hint = hint.or_else(|| error.downcast_ref::<WrongUse>().map(|error| error.hint.to_owned()));
    let mut stderr = std::io::stderr().lock();
    // With stderr gone there is nobody to tell.
    let _ = writeln!(stderr, "error: {text}");
    for cure in cures.into_iter().chain(hint.as_deref()) {
        let _ = writeln!(stderr, "hint: {cure}");
    }
}

/// 2 for what the caller can put right, 1 for what failed.
fn exit_code(error: &anyhow::Error) -> u8 {
    let fault = error.downcast_ref::<ServiceError>().map(ServiceError::fault);
    let fault = fault.or_else(|| error.downcast_ref::<HostError>().map(HostError::fault));
    let fault = fault.or_else(|| error.downcast_ref::<ObjectsError>().map(ObjectsError::fault));
    let is_wrong_use =
        error.is::<BadUrl>() || error.is::<WrongUse>() || error.is::<TlsError>() || error.is::<TraceError>();
    let fault = fault.or(is_wrong_use.then_some(Fault::Caller));
    match fault.or_else(|| error.downcast_ref::<RemoteError>().map(RemoteError::fault)) {
        Some(Fault::Caller) => WRONG_USE,
        Some(_) | None => FAILED,
    }
}

/// Prints a line to stdout; a reader that has gone (`| head`) is no error of ours.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{}\n", format_args!($($text)*)));
    }};
}
use say;

/// Prints a line to stderr, likewise.
macro_rules! note {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), format_args!("{}\n", format_args!($($text)*)));
    }};
}
use note;
