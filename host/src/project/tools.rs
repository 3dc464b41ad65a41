//! The author's own compilers: found, started, and their words kept for the error. They are trusted as whatever else
//! the author starts; nothing here limits their time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ProjectError, Workplace, refused};

/// Lines of a failed tool that are shown: an error and its context, not a log.
const SHOWN_LINES: usize = 60;
/// The same in bytes, since a line can be a minified file.
const SHOWN_BYTES: usize = 16 << 10;
/// Of a failed tool's command line.
const SHOWN_COMMAND: usize = 200;

/// Where a project keeps tools of its own: Python's virtual environments, and npm's folder.
const FOLDERS: [&str; 3] = if cfg!(windows) {
    [".venv/Scripts", "venv/Scripts", "node_modules/.bin"]
} else {
    [".venv/bin", "venv/bin", "node_modules/.bin"]
};

/// The versions of Python's packages that this host is tested with; compilers of other languages are among them.
const PACKAGES: &str = include_str!("../../../plugins/tools/requirements.txt");

/// A package with its version, as pip takes it.
pub(super) fn pinned(package: &str) -> &'static str {
    let line = PACKAGES.lines().find(|line| line.split("==").next() == Some(package));
    line.expect("the packages are named in this module's neighbours; this is a bug")
}

impl Workplace<'_> {
    /// The program that the environment variable names; else the first of these names in the project's own virtual
    /// environment or `node_modules`; else the first on the search path.
    pub(super) fn find_tool(&self, variable: &str, names: &[&str], hint: &str) -> Result<PathBuf, ProjectError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        find(self.project, std::env::var_os(variable).map(PathBuf::from), &path, names).ok_or_else(|| {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            let tool = format!("{names} (or the program that `{variable}` names)");
            ProjectError::ToolMissing { tool, hint: hint.to_owned() }
        })
    }
}

fn find(project: &Path, named: Option<PathBuf>, path: &std::ffi::OsStr, names: &[&str]) -> Option<PathBuf> {
    if let Some(named) = named.filter(|named| !named.as_os_str().is_empty()) {
        // A bare name is looked for where it would be by a shell; and named in vain is not found.
        return if named.components().count() > 1 { Some(named).filter(|n| n.is_file()) } else { on(path, &named) };
    }
    let own = FOLDERS.iter().map(|folder| project.join(folder));
    let mut folders = own.chain(std::env::split_paths(path));
    folders.find_map(|folder| names.iter().find_map(|name| in_folder(&folder, Path::new(name))))
}

fn on(path: &std::ffi::OsStr, name: &Path) -> Option<PathBuf> {
    std::env::split_paths(path).find_map(|folder| in_folder(&folder, name))
}

/// The program of this name in a folder; npm's are scripts on Windows.
fn in_folder(folder: &Path, name: &Path) -> Option<PathBuf> {
    let endings: &[&str] = if cfg!(windows) { &["exe", "cmd", "bat"] } else { &[""] };
    endings.iter().map(|ending| folder.join(name).with_added_extension(ending)).find(|path| path.is_file())
}

/// Runs a tool to its end, without input. An error shows the end of what it printed.
pub(super) fn run(command: &mut Command) -> Result<(), ProjectError> {
    output(command).map(drop)
}

/// As [`run`], with what the tool wrote to stdout.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>, ProjectError> {
    let program = PathBuf::from(command.get_program());
    let output = command.stdin(Stdio::null()).output().map_err(refused(&program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let end = tail(text.trim_end());
    let output = if end.is_empty() { output.status.to_string() } else { end.to_owned() };
    Err(ProjectError::ToolFailed { command: shown(command), output })
}

/// For the languages whose scripts are loaded when they are built: the host is not there then, and a tool that was
/// asked for it says so in its own terms.
pub(super) fn without_a_host(error: ProjectError, script: &Path) -> ProjectError {
    let ProjectError::ToolFailed { output, .. } = &error else { return error };
    let asked = ["called trapping stub: ", "unknown import: `"].iter().find_map(|said| output.split_once(said));
    let Some((_, call)) = asked.filter(|(_, call)| call.starts_with("scorehost:script/")) else { return error };
    let call = call.split(|c: char| c == '`' || c.is_whitespace()).next().unwrap_or(call);
    let reason =
        format!("it calls the host when it is loaded, which is when it is built: `{call}`\nhint: do it in `init`");
    ProjectError::Source { path: script.to_owned(), reason }
}

/// The last lines of a text.
fn tail(text: &str) -> &str {
    let start = text.rmatch_indices('\n').nth(SHOWN_LINES - 1).map_or(0, |(at, _)| at + 1);
    let mut start = start.max(text.len().saturating_sub(SHOWN_BYTES));
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// A command line for a reader: the program without its folder, and as many arguments as one likes to read.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let arguments = command.get_args().map(|argument| format!(" {}", argument.to_string_lossy()));
    let line: String = std::iter::once(program.into_owned()).chain(arguments).collect();
    match line.char_indices().nth(SHOWN_COMMAND) {
        Some((at, _)) => format!("{} …", &line[..at]),
        None => line,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_taken_from_the_variable_then_the_project_then_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["p/.venv/bin/a", "p/node_modules/.bin/b", "path/a", "path/b", "path/c", "named"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        // A folder of the name is no program.
        std::fs::create_dir_all(at("p/venv/bin/c")).unwrap();
        let found = |named: Option<PathBuf>, names: &[&str]| find(&at("p"), named, at("path").as_os_str(), names);
        assert_eq!(found(None, &["a"]), Some(at("p/.venv/bin/a")));
        assert_eq!(found(None, &["x", "b"]), Some(at("p/node_modules/.bin/b")));
        assert_eq!(found(None, &["c"]), Some(at("path/c")));
        assert_eq!(found(None, &["x"]), None);
        assert_eq!(found(Some(at("named")), &["a"]), Some(at("named")));
        assert_eq!(found(Some("c".into()), &["a"]), Some(at("path/c")));
        assert_eq!(found(Some(at("lost")), &["a"]), None, "what was named is not replaced by something else");
        assert_eq!(found(Some("".into()), &["c"]), Some(at("path/c")));
    }

    #[test]
    fn a_call_of_the_host_while_building_is_said_plainly() {
        let words = [
            "Caused by:\n    1: called trapping stub: scorehost:script/models@0.2.0#[static]model.open\n",
            "function 453>: unknown import: `scorehost:script/log@0.2.0#write` has not been defined",
        ];
        let failed = |output: &str| ProjectError::ToolFailed { command: "tool".into(), output: output.into() };
        let said = words.map(|words| without_a_host(failed(words), Path::new("script.py")).to_string());
        assert!(said[0].contains("`scorehost:script/models@0.2.0#[static]model.open`\nhint: "), "{}", said[0]);
        assert!(said[1].contains("`scorehost:script/log@0.2.0#write`\nhint: "), "{}", said[1]);
        assert_eq!(without_a_host(failed("bad"), Path::new("a")).to_string(), failed("bad").to_string());
    }

    #[test]
    fn a_failed_tool_shows_the_end_of_what_it_said() {
        let script = "for i in $(seq 1 1000); do echo line $i; done; echo bad >&2; exit 3";
        let Err(ProjectError::ToolFailed { command, output }) = run(Command::new("/bin/sh").args(["-c", script]))
        else {
            panic!("it succeeded")
        };
        assert!(command.starts_with("sh -c for i"), "{command}");
        assert_eq!(output.lines().count(), SHOWN_LINES);
        assert!(output.starts_with("line 942\n") && output.ends_with("line 1000\nbad"), "{output}");
        assert!(tail(&"é".repeat(SHOWN_BYTES)).len() <= SHOWN_BYTES);
        let silent = run(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(silent.contains("exit status: 3"), "{silent}");
        assert!(matches!(run(&mut Command::new("/nowhere/tool")), Err(ProjectError::Io { .. })));
    }
}
