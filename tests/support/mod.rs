//! What scenarios share: folders, scripts that are built once, and jobs that are run to their end.

pub(crate) mod object_store;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether a missing `what` is a failure.
fn is_required(what: &str) -> bool {
    let set = |name| std::env::var(name).unwrap_or_default();
    !set("CI").is_empty() || set("REQUIRE").split(',').any(|r| r == what)
}

/// Skips with a printed reason, or fails where `what` is required.
pub(crate) fn skip<T>(what: &str, reason: &str) -> Option<T> {
    assert!(!is_required(what), "`{what}` is required, but {reason}");
    println!("skipped: {reason}");
    None
}

/// Skips with a printed reason what an ordinary account may not do (mount, say): only `REQUIRE` makes that a failure.
pub(crate) fn skip_unprivileged<T>(what: &str, reason: &str) -> Option<T> {
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == what), "`{what}` is required, but {reason}");
    println!("skipped: {reason}");
    None
}

/// The folder of pictures and models that tests and benches use, beside the checkout.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = root().parent().unwrap().join("shared");
    if folder.is_dir() { Some(folder) } else { skip("shared", "there is no folder `shared` beside the checkout") }
}

/// Where the compiled scripts are: the examples, and the guests that only tests run.
pub(crate) fn scripts() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build_scripts) {
        Ok(folder) => Some(folder.clone()),
        Err(reason) => skip("scripts", reason),
    }
}

fn build_scripts() -> Result<PathBuf, String> {
    run_at_root(Command::new("plugins/build").arg("rust"))?;
    let target = "wasm32-wasip2";
    let guests = ["build", "--quiet", "--target-dir", "target", "--profile", "script", "--target", target];
    run_at_root(Command::new("cargo").args(guests).args(["-p", "probe", "-p", "nn", "-p", "tables"]))?;
    let scripts = root().join("target/scripts");
    for name in ["probe.wasm", "nn.wasm", "tables.wasm"] {
        let built = root().join("target").join(target).join("script").join(name);
        std::fs::copy(built, scripts.join(name)).map_err(|e| e.to_string())?;
    }
    Ok(scripts)
}

/// WebAssembly's text as a component, or why it is none; nothing where the command that does it cannot be built.
pub(crate) fn assembled(text: &str) -> Option<Result<Vec<u8>, String>> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let build = || {
        let arguments = ["build", "--quiet", "--target-dir", "target", "-p", "assemble"];
        run_at_root(Command::new("cargo").args(arguments))
    };
    if let Err(reason) = BUILT.get_or_init(build) {
        return skip("scripts", reason);
    }
    let mut command = Command::new(root().join("target/debug/assemble"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It reads all before it writes; one that gives up early is no failure of the pipe.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    Some(if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    })
}

fn run_at_root(command: &mut Command) -> Result<(), String> {
    let output = command.current_dir(root()).output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What the probe can do: the names before the arrows of its sources.
pub(crate) fn behaviours() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests/guests/probe/src")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let arms = text.lines().filter(|line| line.trim_start().starts_with('"')).filter_map(|l| l.split_once(" =>"));
        // Between the quotes: one name or several.
        names.extend(arms.flat_map(|(arm, _)| arm.split('"').skip(1).step_by(2).map(str::to_owned)));
    }
    names
}

/// A Python with these modules: `PYTHON`, or `python3`.
pub(crate) fn python(modules: &str) -> Option<PathBuf> {
    let python = std::env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if found.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    skip("python", &format!("there is no Python with {modules}; PYTHON names one"))
}

/// The pictures and the model of the demo, which every clone has.
pub(crate) fn demo(name: &str) -> PathBuf {
    root().join("host/demo").join(name)
}

/// A folder that is gone at the end, with a deployment in it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.at("input")).unwrap();
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Files `000.txt` to …, each with its own name in it.
    pub(crate) fn with_files(count: usize) -> Self {
        let place = Self::new();
        for i in 0..count {
            std::fs::write(place.at(&format!("input/{i:03}.txt")), format!("text {i}")).unwrap();
        }
        place
    }

    /// The demo's pictures of these names.
    pub(crate) fn with_pictures(names: &[&str]) -> Self {
        let place = Self::new();
        for name in names {
            std::fs::copy(demo("pictures").join(name), place.at("input").join(name)).unwrap();
        }
        place
    }

    /// Writes `deployment.yml` for a script of [`scripts`], with these settings' lines and tags.
    pub(crate) fn deploy(&self, script: &str, settings: &[&str], tags: &[&str]) {
        self.write_deployment("", script, settings, tags);
    }

    /// As [`Place::deploy`], with a model: a file or a folder.
    pub(crate) fn deploy_model(&self, model: &Path, script: &str, settings: &[&str], tags: &[&str]) {
        self.write_deployment(&format!("model: {}\n", model.display()), script, settings, tags);
    }

    /// Writes `deployment.yml` for a model without a script.
    pub(crate) fn deploy_built_in(&self, model: &Path, settings: &[&str], tags: &[&str]) {
        self.write(&format!("model: {}\n", model.display()), settings, tags);
    }

    fn write_deployment(&self, model: &str, script: &str, settings: &[&str], tags: &[&str]) {
        let code = root().join("target/scripts");
        let code = format!("code_configuration:\n  code: {}\n  scoring_script: {script}.wasm\n", code.display());
        self.write(&format!("{model}{code}"), settings, tags);
    }

    fn write(&self, body: &str, settings: &[&str], tags: &[&str]) {
        let lines = |all: &[&str]| all.iter().map(|line| format!("  {line}\n")).collect::<String>();
        let section =
            |name: &str, all: &[&str]| if all.is_empty() { String::new() } else { format!("{name}:\n{}", lines(all)) };
        let text = format!("name: test\ntype: model\n{body}{}{}", section("settings", settings), section("tags", tags));
        std::fs::write(self.at("deployment.yml"), text).unwrap();
    }

    /// The probe, behaving in this way.
    pub(crate) fn probe(&self, behave: &str, settings: &[&str]) {
        assert!(behave == "fine" || behaviours().contains(behave), "the probe has no behaviour `{behave}`");
        self.deploy("probe", settings, &[&format!("behave: {behave}")]);
    }

    /// The probe, behaving in this way on mini-batches 1, 3, 5 … and well on the others.
    pub(crate) fn probe_on_odd(&self, behave: &str, settings: &[&str]) {
        self.probe(behave, settings);
        self.deploy("probe", settings, &[&format!("behave: {behave}"), "on: odd"]);
    }

    /// The names of the files in `input`, sorted.
    pub(crate) fn input_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.at("input")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command that runs the deployment on `input` to `output`, on the embedded CPU engine.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        self.command_of(&self.at("input"), &[&["--device", "cpu"], more].concat())
    }

    /// The command that runs the deployment on this input to `output`, as `arguments` say.
    pub(crate) fn command_of(&self, input: &Path, arguments: &[&str]) -> Command {
        let mut command = scorehost();
        command.args(["run", "--json", "-f"]).arg(self.at("deployment.yml"));
        command.arg("-i").arg(input).arg("-o").arg(self.at("output")).args(arguments);
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> Ran {
        Ran::of(&self.command(more).output().unwrap(), &self.at("output"))
    }

    /// Scores this input as `arguments` say, over an earlier output.
    pub(crate) fn score(&self, input: &Path, arguments: &[&str]) -> Ran {
        let mut command = self.command_of(input, &[&["--overwrite", "--quiet"], arguments].concat());
        Ran::of(&command.output().unwrap(), &self.at("output"))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.at(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// The command, with its cache in the build folder.
pub(crate) fn scorehost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scorehost"));
    command.env("SCOREHOST_CACHE", root().join("target/test-cache")).env_remove("ORT_DYLIB_PATH");
    // Mesa complains on stderr without it.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    command
}

/// A job that ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stderr: String,
    pub(crate) stdout: String,
    output: PathBuf,
}

impl Ran {
    pub(crate) fn of(output: &Output, folder: &Path) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            output: folder.to_owned(),
        }
    }

    /// The job completed; else its stderr is shown.
    #[track_caller]
    pub(crate) fn completed(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stderr, self.stdout);
        self
    }

    /// The job record, from the last line of stdout.
    #[track_caller]
    pub(crate) fn record(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", self.stderr))
    }

    /// How long the job took by its own record, in seconds; compiling its script is no part of that.
    #[track_caller]
    pub(crate) fn seconds(&self) -> f64 {
        let record: serde_json::Value = serde_json::from_str(&self.file("job.json")).unwrap();
        record["seconds"].as_f64().expect("a record tells its seconds")
    }

    #[track_caller]
    pub(crate) fn predictions(&self) -> String {
        self.file("predictions.csv")
    }

    #[track_caller]
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.output.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}\n{}", path.display(), self.stderr))
    }

    /// The predictions of a script that gives file, class and probability.
    #[track_caller]
    pub(crate) fn scored(&self) -> Vec<Scored> {
        scored(&self.predictions())
    }

    /// The rows of `errors.csv`: file, mini-batch, attempts, kind, message.
    #[track_caller]
    pub(crate) fn errors(&self) -> Vec<Vec<String>> {
        let text = self.file("errors.csv");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect()
    }
}

/// A row of the example scripts and of the Python peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) file: String,
    pub(crate) class: usize,
    pub(crate) probability: f64,
}

/// Space-separated rows: file, class, probability.
#[track_caller]
pub(crate) fn scored(text: &str) -> Vec<Scored> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(b' ').from_reader(text.as_bytes());
    let row = |row: csv::StringRecord| Scored {
        file: row[0].to_owned(),
        class: row[1].parse().unwrap(),
        probability: row[2].parse().unwrap(),
    };
    reader.records().map(|r| row(r.unwrap())).collect()
}

/// An HTTP client of plain connections, which waits as long as it takes.
pub(crate) fn http() -> reqwest::blocking::Client {
    scorehost::tls::install();
    let http = reqwest::blocking::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(None)
        // A host closes what was silent for ten seconds.
        .pool_idle_timeout(std::time::Duration::from_secs(5));
    http.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
