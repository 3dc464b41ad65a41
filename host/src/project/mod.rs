//! Script projects: a folder with a script's source in one of five languages, made from a template, and built to the
//! component that a deployment names.
//!
//! What goes in: folders. What comes out: a new project, or a component file. The compilers are the author's own, found
//! and started here; the languages' SDKs and the contract come with the host, and are unpacked into each project.
//! Whether a component would run is not asked here.

mod c;
mod component;
mod embedded;
mod go;
mod javascript;
mod python;
mod rust;
mod template;
mod tools;

pub use template::create;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::fault::Fault;

/// The folder of a project that holds all that is not its author's.
const HIDDEN: &str = ".scorehost";

/// A language that scripts are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `Cargo.toml`, for the target `wasm32-wasip2`.
    Rust,
    /// `script.py`, by componentize-py.
    Python,
    /// `script.ts` or `script.js`, by componentize-qjs.
    JavaScript,
    /// `go.mod`.
    Go,
    /// `*.c` or `*.cpp`, by Zig's compiler.
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 5] = [Language::Rust, Language::Python, Language::JavaScript, Language::Go, Language::C];

    /// Its name in folders and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::JavaScript => "javascript",
            Language::Go => "go",
            Language::C => "c",
        }
    }

    /// The files that tell it, as a person would write them.
    fn told_by(self) -> &'static str {
        match self {
            Language::Rust => "`Cargo.toml`",
            Language::Python => "`script.py`",
            Language::JavaScript => "`script.ts` or `script.js`",
            Language::Go => "`go.mod`",
            Language::C => "`*.c` or `*.cpp`",
        }
    }

    /// Whether a file of this name tells it.
    fn is_told_by(self, name: &str) -> bool {
        match self {
            Language::Rust => name == "Cargo.toml",
            Language::Python => name == "script.py",
            Language::JavaScript => name == "script.ts" || name == "script.js",
            Language::Go => name == "go.mod",
            Language::C => name.ends_with(".c") || name.ends_with(".cpp"),
        }
    }
}

/// A folder with a script's source.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// What it is written in.
    pub language: Language,
}

/// A component that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What one build works with. All paths are absolute.
struct Workplace<'a> {
    /// The author's folder.
    project: &'a Path,
    /// The SDK of the language, `plugins/sdk/<language>` unpacked at `project/.scorehost/<language>`.
    sdk: &'a Path,
    /// The contract, `wit/` unpacked at `project/.scorehost/wit`.
    wit: &'a Path,
    /// A folder for whatever the build leaves, kept between builds: `project/.scorehost/build`.
    scratch: &'a Path,
    /// The component to write; it takes its place when the build has succeeded.
    component: &'a Path,
}

/// Why a project is not made or built.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No language is told by the folder's files.
    #[error("`{}` is not a script project: there is no {}", folder.display(), all_told_by())]
    NotAProject {
        /// The folder.
        folder: PathBuf,
    },
    /// More than one language is.
    #[error("`{}` could be a project of several languages: {found}", folder.display())]
    SeveralLanguages {
        /// The folder.
        folder: PathBuf,
        /// The languages, with the files that tell them.
        found: String,
    },
    /// The folder that is named is not there, or is none.
    #[error("there is no folder `{}`", .0.display())]
    NoFolder(PathBuf),
    /// The folder that a new project's would be made in is not.
    #[error("there is no folder `{}` to make `{name}` in", parent.display())]
    NoParent {
        /// The folder that is not there.
        parent: PathBuf,
        /// The project's.
        name: String,
    },
    /// A new project's folder is there already.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// A new project's name cannot be a deployment's and a package's.
    #[error("`{0}` is not a name for a project")]
    Name(String),
    /// The model of a new project is not there.
    #[error("the model `{}` is not there", .0.display())]
    NoModel(PathBuf),
    /// The component would be written to a file that is not called one: perhaps a source.
    #[error("the component would be written to `{}`, which is not named `.wasm`", .0.display())]
    Output(PathBuf),
    /// What builds the language is not on this machine.
    #[error("{tool} is not found")]
    ToolMissing {
        /// What is missing, in words.
        tool: String,
        /// How it is installed: a command to paste.
        hint: String,
    },
    /// A tool ended with an error, most often because of the source.
    #[error("`{command}` failed:\n{output}")]
    ToolFailed {
        /// The command, shortened.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// The source is not what a script of the language is.
    #[error("`{}` cannot be built: {reason}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What the compiler made does not fit the contract.
    #[error("the compiled script cannot be made a component")]
    Component(#[source] component::ComponentError),
    /// The file system refused, or a tool did not start.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file, folder or program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ProjectError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ProjectError::ToolFailed { .. } | ProjectError::Source { .. } | ProjectError::Component(_) => Fault::Script,
            ProjectError::Io { .. } => Fault::Host,
            _ => Fault::Caller,
        }
    }

    /// A known cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            ProjectError::NotAProject { .. } | ProjectError::NoFolder(_) => {
                Some("name the folder of a project, or make one: scorehost new --lang LANGUAGE NAME".into())
            }
            ProjectError::SeveralLanguages { .. } => Some("move all but one to folders of their own".into()),
            ProjectError::NoParent { .. } => Some("make it first, or name a folder in one that is there".into()),
            ProjectError::Exists(_) => Some("choose another name, or remove it".into()),
            ProjectError::Name(_) => {
                Some("take up to 64 letters, digits, `-` and `_`, the first of them a letter".into())
            }
            ProjectError::Output(_) => Some("name a file that ends in `.wasm`".into()),
            ProjectError::NoModel(_) => Some("leave --model out to name it later in deployment.yml".into()),
            ProjectError::ToolMissing { hint, .. } => Some(hint.clone()),
            _ => None,
        }
    }
}

/// For errors: the files that tell a language, all of them.
fn all_told_by() -> String {
    Language::ALL.map(|language| format!("{} ({})", language.told_by(), language.word())).join(", ")
}

/// For `map_err`: the file system's refusal of this path.
fn refused(path: &Path) -> impl FnOnce(std::io::Error) -> ProjectError {
    let path = path.to_owned();
    move |source| ProjectError::Io { path, source }
}

/// The project in this folder, its language told by its files.
///
/// # Errors
/// If the folder cannot be listed, or tells no language, or several.
pub fn open(folder: &Path) -> Result<Project, ProjectError> {
    let mut told = [false; Language::ALL.len()];
    let entries = std::fs::read_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ProjectError::NoFolder(folder.to_owned()),
        _ => refused(folder)(error),
    })?;
    for entry in entries {
        let name = entry.map_err(refused(folder))?.file_name();
        let name = name.to_string_lossy();
        told.iter_mut().zip(Language::ALL).for_each(|(told, language)| *told |= language.is_told_by(&name));
    }
    let told: Vec<_> = Language::ALL.into_iter().zip(told).filter_map(|(l, told)| told.then_some(l)).collect();
    match told.as_slice() {
        [language] => Ok(Project { folder: folder.to_owned(), language: *language }),
        [] => Err(ProjectError::NotAProject { folder: folder.to_owned() }),
        several => {
            let found = several.iter().map(|l| format!("{} ({})", l.told_by(), l.word())).collect::<Vec<_>>();
            Err(ProjectError::SeveralLanguages { folder: folder.to_owned(), found: found.join(", ") })
        }
    }
}

/// Builds a project's component, which replaces the file `output` once it is whole.
///
/// # Errors
/// If `output` is not named `.wasm`, a tool is missing or ends with an error, or the file system refuses.
pub fn build(project: &Project, output: &Path) -> Result<Built, ProjectError> {
    if output.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("wasm")) {
        return Err(ProjectError::Output(output.to_owned()));
    }
    let began = Instant::now();
    // Tools run in folders of their own.
    let folder = std::path::absolute(&project.folder).map_err(refused(&project.folder))?;
    let hidden = folder.join(HIDDEN);
    let scratch = hidden.join("build");
    std::fs::create_dir_all(&scratch).map_err(refused(&scratch))?;
    // Two builds of one project would write over each other's files; the second waits. Freed when the file is closed.
    let lock = scratch.join("lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(refused(&lock))?;
    embedded::unpack(project.language, &folder)?;
    let component = scratch.join("component.wasm");
    match std::fs::remove_file(&component) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(&component)(error)),
        _ => {}
    }
    let place = Workplace {
        project: &folder,
        sdk: &hidden.join(project.language.word()),
        wit: &hidden.join("wit"),
        scratch: &scratch,
        component: &component,
    };
    match project.language {
        Language::Rust => rust::build(&place)?,
        Language::Python => python::build(&place)?,
        Language::JavaScript => javascript::build(&place)?,
        Language::Go => go::build(&place)?,
        Language::C => c::build(&place)?,
    }
    let bytes = put(&component, output)?;
    drop(lock);
    Ok(Built { component: output.to_owned(), bytes, seconds: began.elapsed().as_secs_f64() })
}

/// Copies a finished file to where it is wanted: a reader there sees the old one or the new one, whole.
fn put(built: &Path, output: &Path) -> Result<u64, ProjectError> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".tmp");
    let beside = folder.join(name);
    let bytes = std::fs::copy(built, &beside).map_err(refused(&beside))?;
    std::fs::rename(&beside, output).map_err(refused(output))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_tell_the_language() {
        let cases: [(&[&str], Result<Language, &str>); 10] = [
            (&["script.py", "other.py", "deployment.yml"], Ok(Language::Python)),
            (&["script.ts", "package.json"], Ok(Language::JavaScript)),
            // A compiled script beside its source is one language.
            (&["script.ts", "script.js"], Ok(Language::JavaScript)),
            (&["go.mod", "main.go"], Ok(Language::Go)),
            (&["a.c", "b.c"], Ok(Language::C)),
            (&["score.cpp"], Ok(Language::C)),
            (&["Cargo.toml", "src"], Ok(Language::Rust)),
            (&["main.py"], Err("no `Cargo.toml` (rust), `script.py` (python), `script.ts`")),
            (&[], Err("not a script project")),
            (&["script.py", "a.c"], Err("several languages")),
        ];
        for (files, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            files.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
            match (open(folder.path()), expected) {
                (Ok(project), Ok(language)) => assert_eq!(project.language, language, "{files:?}"),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (found, expected) => panic!("{files:?}: {found:?}, not {expected:?}"),
            }
        }
        assert!(matches!(open(Path::new("/nowhere")), Err(ProjectError::NoFolder(_))));
    }

    #[test]
    fn a_component_replaces_the_earlier_one_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (built, output) = (folder.path().join("built"), folder.path().join("a.wasm"));
        std::fs::write(&built, "new").unwrap();
        std::fs::write(&output, "older").unwrap();
        assert_eq!(put(&built, &output).unwrap(), 3);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(put(&built, &folder.path().join("none/a.wasm")).is_err());
    }
}
