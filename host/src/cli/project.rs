//! `new` and `build`: from nothing to a script project, and from a project to its component.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use scorehost::project::Language;
use scorehost::service;

use super::{COMPLETED, compiler, note, say};

/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct NewArgs {
    /// What the script is written in
    #[arg(short, long = "lang", value_enum, value_name = "LANGUAGE")]
    language: LanguageName,
    /// The folder to make; its name is the script's and the deployment's
    name: PathBuf,
    /// The model (ONNX), a file or a folder [default: to be named in deployment.yml]
    #[arg(short, long)]
    model: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where the component goes [default: where the project's deployment.yml names its script]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LanguageName {
    Rust,
    #[value(alias = "py")]
    Python,
    /// JavaScript or TypeScript
    #[value(name = "javascript", aliases = ["typescript", "js", "ts"])]
    JavaScript,
    Go,
    /// C or C++
    #[value(aliases = ["c++", "cpp"])]
    C,
}

impl From<LanguageName> for Language {
    fn from(name: LanguageName) -> Self {
        match name {
            LanguageName::Rust => Language::Rust,
            LanguageName::Python => Language::Python,
            LanguageName::JavaScript => Language::JavaScript,
            LanguageName::Go => Language::Go,
            LanguageName::C => Language::C,
        }
    }
}

pub(crate) fn new(args: &NewArgs) -> anyhow::Result<u8> {
    let language = Language::from(args.language);
    service::new_project(language, &args.name, args.model.as_deref())?;
    say!("made {} ({})", args.name.display(), language.word());
    say!("next:");
    say!("  cd {}", args.name.display());
    if args.model.is_none() {
        say!("  # name the model in deployment.yml");
    }
    say!("  scorehost build");
    say!("  scorehost run -f deployment.yml -i PICTURES -o results");
    Ok(COMPLETED)
}

pub(crate) fn build(args: &BuildArgs) -> anyhow::Result<u8> {
    let plan = service::plan_build(&args.folder, args.output.as_deref())?;
    note!("building {} ({})", shown(&plan.project.folder), plan.project.language.word());
    let (compiler, clock) = (compiler()?, clock());
    let done = service::build_project(&plan, &compiler);
    clock.finish_and_clear();
    let (built, facts) = done?;
    say!("{}: {} in {:.1} s", shown(&built.component), megabytes(built.bytes), built.seconds);
    say!("contract {}, opened in {:.1} s", facts.interfaces.contract, facts.open_ms / 1000.0);
    Ok(COMPLETED)
}

/// On a terminal, the seconds that go by while a compiler is silent.
fn clock() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed}");
    let clock = ProgressBar::new_spinner().with_style(style.expect("the template is a fixed text; this is a bug"));
    clock.enable_steady_tick(TICK);
    clock
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A path without the `./` that paths below the current folder come with.
fn shown(path: &Path) -> String {
    let plain: PathBuf = path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    if plain.as_os_str().is_empty() { ".".to_owned() } else { plain.display().to_string() }
}
