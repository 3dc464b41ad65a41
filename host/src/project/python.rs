//! Python: componentize-py takes a snapshot of CPython that has imported the author's `script.py`.
//!
//! What goes in: the project's Python files, and the SDK. What comes out: a component. The bindings are generated on the
//! way. Nothing of a Python environment gets in: a package that the script needs lies beside it.

use std::path::Path;
use std::process::Command;

use walkdir::WalkDir;

use super::tools::{pinned, run, without_a_host};
use super::{ProjectError, Workplace, refused};

/// More files than any script has: a folder that holds them was not meant as a project.
const MAX_FILES: usize = 10_000;

/// Builds the module `script` and what it imports.
pub(super) fn build(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let folder = place.project.join(".venv");
    let packages = pinned("componentize-py");
    let hint = format!("python3 -m venv {0} && {0}/bin/pip install {packages}", folder.display());
    let tool = place.find_tool("COMPONENTIZE_PY", &["componentize-py"], &hint)?;
    // Copies, since the interpreter leaves compiled files beside what it imports.
    let (sources, sdk) = (place.scratch.join("project"), place.scratch.join("sdk"));
    copy(place.project, &sources)?;
    copy(place.sdk, &sdk)?;
    // Packages that happen to be installed here would get in: an empty environment keeps them out.
    let environment = place.scratch.join("environment");
    let packages = environment.join("lib/python3/site-packages");
    std::fs::create_dir_all(&packages).map_err(refused(&packages))?;
    let mut command = Command::new(tool);
    command.current_dir(place.scratch).env("VIRTUAL_ENV", environment).env("RUST_BACKTRACE", "0");
    command.arg("--quiet").arg("--wit-path").arg(place.wit).args(["--world", "scoring-script", "componentize"]);
    // The SDK first: a module of the script cannot take its name.
    command.arg("--python-path").arg(sdk).arg("--python-path").arg(sources);
    command.arg("--output").arg(place.component).arg("scorehost.entry");
    let script = place.project.join("script.py");
    run(&mut command).map_err(|error| in_the_authors_words(without_a_host(error, &script)))
}

/// Copies the Python files below a folder to another, which holds no others then. Hidden folders, virtual environments
/// and what npm or Python leave are not the author's sources.
fn copy(from: &Path, to: &Path) -> Result<(), ProjectError> {
    match std::fs::remove_dir_all(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(to)(error)),
        _ => {}
    }
    let is_source = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let is_left_by_tools = name.starts_with('.') || matches!(&*name, "__pycache__" | "node_modules");
        entry.depth() == 0 || !(is_left_by_tools || entry.path().join("pyvenv.cfg").exists())
    };
    let mut files = 0;
    for entry in WalkDir::new(from).sort_by_file_name().into_iter().filter_entry(is_source) {
        let entry = entry.map_err(|error| refused(from)(error.into()))?;
        let is_python = entry.path().extension().is_some_and(|ending| ending == "py");
        let Some(below) = entry.path().strip_prefix(from).ok().filter(|_| is_python && entry.file_type().is_file())
        else {
            continue;
        };
        files += 1;
        if files > MAX_FILES {
            let reason = format!("it holds more than {MAX_FILES} Python files");
            return Err(ProjectError::Source { path: from.to_owned(), reason });
        }
        let target = to.join(below);
        let folder = target.parent().unwrap_or(to);
        std::fs::create_dir_all(folder).map_err(refused(folder))?;
        std::fs::copy(entry.path(), &target).map_err(refused(entry.path()))?;
    }
    Ok(())
}

/// Without what componentize-py says of itself: its own trace before, its cause after the script's, which says it again.
fn in_the_authors_words(error: ProjectError) -> ProjectError {
    match error {
        ProjectError::ToolFailed { command, output } => {
            let own = output.split_once("AssertionError: ").map_or(output.as_str(), |(_, own)| own);
            let own = own.split("\n\nCaused by:").next().unwrap_or(own).trim_end();
            // How the interpreter sees the folders, by their place on its path.
            let output = own.replace("File \"/1/", "File \"").replace("File \"/0/", "File \".scorehost/python/");
            ProjectError::ToolFailed { command, output }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authors_sources_are_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let there = ["script.py", "shapes/__init__.py", "shapes/round.py"];
        let others = [
            "data.csv",
            ".venv/lib/a.py",
            ".hidden.py",
            "env/pyvenv.cfg",
            "env/lib/a.py",
            "shapes/__pycache__/round.py",
            "node_modules/a.py",
        ];
        for name in there.iter().chain(&others) {
            std::fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
            std::fs::write(from.join(name), name).unwrap();
        }
        std::fs::create_dir_all(to.join("old")).unwrap();
        std::fs::write(to.join("old/gone.py"), "").unwrap();
        copy(&from, &to).unwrap();
        let mut found: Vec<_> = WalkDir::new(&to)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&to).unwrap().to_str().unwrap().replace('\\', "/"))
            .collect();
        found.sort();
        assert_eq!(found, there);
    }

    #[test]
    fn an_error_of_the_script_is_shown_without_the_tools_own() {
        let output = "Traceback (most recent call last):\n  File \"/bin/componentize-py\", line 8\nAssertionError: \
                      Traceback (most recent call last):\n  File \"/0/scorehost/entry.py\", line 1\n  File \
                      \"/1/script.py\", line 2\nNameError: name 'a' is not defined\n\n\nCaused by:\n    NameError";
        let error = ProjectError::ToolFailed { command: "componentize-py".into(), output: output.into() };
        let ProjectError::ToolFailed { output, .. } = in_the_authors_words(error) else { panic!("another error") };
        let expected = "Traceback (most recent call last):\n  File \".scorehost/python/scorehost/entry.py\", line 1\n  \
                        File \"script.py\", line 2\nNameError: name 'a' is not defined";
        assert_eq!(output, expected);
    }
}
