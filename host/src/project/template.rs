//! A new project: the language's first example, a deployment for it, and what to do next.

use std::io::ErrorKind;
use std::path::{Component, Path};

use super::embedded::{self, write};
use super::{HIDDEN, Language, ProjectError, refused};

/// What the examples are called where they name themselves.
const EXAMPLE: &str = "score-by-file";
/// Longer than any name that people read; deployments and packages allow more.
const MAX_NAME: usize = 64;

/// Makes the folder of a new project, which is called as the folder is, with a deployment of this model.
///
/// # Errors
/// If the name is not one for a project, the folder is there already, the model is not, or the file system refuses.
pub fn create(language: Language, folder: &Path, model: Option<&Path>) -> Result<(), ProjectError> {
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    if !is_name(&name) {
        return Err(ProjectError::Name(name));
    }
    if let Some(model) = model.filter(|model| !model.exists()) {
        return Err(ProjectError::NoModel(model.to_owned()));
    }
    if let Err(error) = std::fs::create_dir(folder) {
        return Err(not_made(folder, name, error));
    }
    fill(language, folder, &name, model).inspect_err(|_| {
        // Half a project would be in the way of the next try; the error that counts is the first.
        let _ = std::fs::remove_dir_all(folder);
    })
}

fn not_made(folder: &Path, name: String, error: std::io::Error) -> ProjectError {
    let parent = folder.parent().unwrap_or(folder);
    match error.kind() {
        ErrorKind::AlreadyExists => ProjectError::Exists(folder.to_owned()),
        ErrorKind::NotFound | ErrorKind::NotADirectory => ProjectError::NoParent { parent: parent.to_owned(), name },
        _ => refused(folder)(error),
    }
}

fn fill(language: Language, folder: &Path, name: &str, model: Option<&Path>) -> Result<(), ProjectError> {
    for (path, bytes) in embedded::template(language) {
        let text = String::from_utf8_lossy(bytes).replace(EXAMPLE, name);
        write(&folder.join(path), text.as_bytes())?;
    }
    if language == Language::Rust {
        // The example's own is a member of the checkout's workspace.
        write(&folder.join("Cargo.toml"), manifest(name).as_bytes())?;
    }
    write(&folder.join("deployment.yml"), deployment(name, folder, model).as_bytes())?;
    write(&folder.join("README.md"), readme(name, language, model.is_some()).as_bytes())?;
    write(
        &folder.join(".gitignore"),
        format!("/{HIDDEN}/\n/{name}.wasm\n/results/\n/.venv/\n/node_modules/\n").as_bytes(),
    )?;
    embedded::unpack(language, folder)
}

/// Letters, digits, `-` and `_` after a letter: what deployments, Cargo, Go and file systems all take.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && name.len() <= MAX_NAME
}

/// The package of a Rust project. Its own workspace, so that it may lie below another; and a library of a fixed name,
/// since `fn` and `test` are good names for projects and not for libraries.
fn manifest(name: &str) -> String {
    format!(
        "\
[package]
name = \"{name}\"
version = \"0.1.0\"
edition = \"2024\"

[workspace]

[lib]
name = \"script\"
crate-type = [\"cdylib\"]

[dependencies]
scorehost-sdk = {{ path = \"{HIDDEN}/rust\" }}

[profile.release]
opt-level = \"s\"
lto = true
codegen-units = 1
strip = true
panic = \"abort\"
"
    )
}

fn deployment(name: &str, folder: &Path, model: Option<&Path>) -> String {
    let (model, remark) = match model {
        Some(model) => (from(folder, model), ""),
        None => ("model.onnx".to_owned(), "  # put it here, or name where it is"),
    };
    // A quote in a YAML text of single quotes is written twice.
    let model = model.replace('\'', "''");
    format!(
        "\
# What runs, with which model, and how. Scorehost's README lists every key: \"A deployment\".
name: {name}
type: model
model: '{model}'{remark}
code_configuration:
  code: .
  scoring_script: {name}.wasm  # made by scorehost build
settings:
  mini_batch_size: 10  # files for each call of run
  max_concurrency_per_instance: 1  # calls of run at once, each in an instance of its own
  output_format: csv  # or azure, jsonl, parquet
  output_action: append_row  # or summary_only: the script writes files of its own
  error_threshold: -1  # more failed files than this stop the job; -1: never
  retry_settings:
    max_retries: 3  # further attempts after the first
    timeout: 30  # seconds for one call of run
# tags:  # settings of your own, which the script reads as texts
#   threshold: '0.5'
"
    )
}

/// How a deployment in `folder` names a path of the current folder.
fn from(folder: &Path, path: &Path) -> String {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let depth = folder.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let path = if folder.components().all(is_plain) && path.is_relative() {
        Path::new(&"../".repeat(depth)).join(path)
    } else {
        std::path::absolute(path).unwrap_or(path.to_owned())
    };
    path.to_string_lossy().into_owned()
}

fn readme(name: &str, language: Language, has_model: bool) -> String {
    let source = match language {
        Language::Rust => "src/lib.rs",
        Language::Python => "script.py",
        Language::JavaScript => "script.ts",
        Language::Go => "main.go",
        Language::C => "script.c",
    };
    let name_model = if has_model { "" } else { "0. Name your model (ONNX) in `deployment.yml`: `model:`.\n" };
    format!(
        "\
# {name}

A Scorehost scoring script: `{source}` has `init`, called once, and `run`, called with the files of each mini-batch.

{name_model}1. Change `{source}`, then build it: `scorehost build`.
2. Ask whether it would run: `scorehost check deployment.yml`.
3. Score a folder: `scorehost run -f deployment.yml -i FOLDER -o results`; the rows are in `results/predictions.csv`.

`.scorehost/` holds the SDK (`.scorehost/{}`) and the contract (`.scorehost/wit`), refreshed by each build: leave it
out of version control.
",
        language.word()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_refused() {
        for name in ["a", "Shapes-2_b", &"a".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "2a", "-a", "a b", "a.b", "é", "a/b", "a'b", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_model_is_named_from_the_deployments_folder() {
        let cases = [("p", "m.onnx", "../m.onnx"), ("a/p", "../m", "../../../m"), ("./p", "./m", ".././m")];
        for (folder, model, expected) in cases {
            assert_eq!(from(Path::new(folder), Path::new(model)), expected);
        }
        #[cfg(unix)]
        assert_eq!(from(Path::new("p"), Path::new("/m")), "/m");
        // The parent's name is not known: the whole path holds wherever that is.
        assert!(Path::new(&from(Path::new("../p"), Path::new("m"))).is_absolute());
    }

    #[test]
    fn what_is_there_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("p");
        std::fs::write(&project, "mine").unwrap();
        assert!(matches!(create(Language::Rust, &project, None), Err(ProjectError::Exists(_))));
        assert_eq!(std::fs::read_to_string(&project).unwrap(), "mine");
        let lost = folder.path().join("lost.onnx");
        assert!(matches!(create(Language::Rust, &folder.path().join("q"), Some(&lost)), Err(ProjectError::NoModel(_))));
        assert!(!folder.path().join("q").exists());
    }
}
