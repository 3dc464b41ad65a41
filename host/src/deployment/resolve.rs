//! Written → true: defaults filled in, paths found on disk.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::keys::{self, Kind};
use super::mlflow::{self, Mlflow};
use super::settings::{Limits, OutputFormat, Settings};
use super::spec::{CODE, Spec, Written};
use super::value::{self, Value};
use super::yaml::{Node, Scalar, Value as Yaml};
use super::{Place, SpecError};

/// The key that names the script.
const SCRIPT: &str = "code_configuration.scoring_script";

/// A deployment as it is: a model, a script or both, and how to run them.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// The endpoint it was written for, if it says.
    pub endpoint_name: Option<String>,
    /// What it is, in its author's words; may be empty.
    pub description: String,
    /// Whatever its author keeps with it; the host reads none of them.
    pub tags: BTreeMap<String, String>,
    /// The model's file or folder, which was there.
    pub model: Option<PathBuf>,
    /// What the model folder's `MLmodel` says, where MLflow wrote one.
    pub mlflow: Option<Mlflow>,
    /// The script, a `.wasm` file that was there; without one, the host scores with a built-in one.
    pub script: Option<PathBuf>,
    /// How mini-batches are cut, run, retried and written.
    pub settings: Settings,
    /// The keys that were written and mean nothing here, each with the reason where there is more to say.
    pub not_used: Vec<String>,
}

/// Where the parts of a deployment are that a host needs beside its YAML.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The endpoint it was written for, if it says.
    pub endpoint_name: Option<String>,
    /// The model's file or folder, which was there; none where the YAML names a registered one.
    pub model: Option<PathBuf>,
    /// The script, a file that was there, and its path below the folder `code`, with `/` between.
    pub script: Option<(PathBuf, String)>,
}

impl Spec {
    /// The files that belong to this deployment here, so that they can be sent to a host.
    ///
    /// # Errors
    /// If one is named that is not there or not of its kind.
    pub fn parts(&self) -> Result<Parts, SpecError> {
        let model = if self.registered_model().is_some() { None } else { self.model()? };
        let script = self.script()?.zip(self.text(SCRIPT)).map(|(file, written)| {
            let parts = Path::new(&written).components().filter(|part| matches!(part, Component::Normal(_)));
            let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
            (file, parts.join("/"))
        });
        Ok(Parts { endpoint_name: self.text("endpoint_name"), model, script })
    }

    /// What is true of this deployment on this machine, now.
    ///
    /// # Errors
    /// If it has no name, names neither model nor script, or names a path that is not there or not of its kind.
    pub fn resolve(&self) -> Result<Deployment, SpecError> {
        let cure = "write `name:` and a name of letters, digits, `-` and `_`";
        let name =
            self.text("name").ok_or_else(|| SpecError::Missing { path: self.path.clone(), key: "name", cure })?;
        let model = self.model()?;
        let script = self.script()?;
        if model.is_none() && script.is_none() {
            let cure = "write `model:` and a file or folder, or `code_configuration:` with a script, or both";
            return Err(SpecError::Missing { path: self.path.clone(), key: "model", cure });
        }
        let mlflow = match &model {
            Some(folder) if folder.is_dir() => mlflow::read(folder, script.is_some())?,
            _ => None,
        };
        Ok(Deployment {
            name,
            endpoint_name: self.text("endpoint_name"),
            description: self.text("description").unwrap_or_default(),
            tags: self.texts("tags"),
            model,
            mlflow,
            script,
            settings: self.settings(),
            not_used: self.not_used(),
        })
    }

    /// Whether script and model lie below these folders by their paths as written, without a look at the disk. That
    /// nothing there is a link that leads out, is for whoever filled the folders.
    pub fn is_within(&self, folders: &[PathBuf]) -> bool {
        let model = match self.written.get("model").map(|written| &written.value) {
            Some(Value::Model(value::ModelReference::Path(path))) => Some(self.folder().join(path)),
            _ => None,
        };
        // One that cannot be is refused for that.
        let script = self.script_path().unwrap_or_default();
        let is_plain = |path: &PathBuf| !path.components().any(|part| matches!(part, Component::ParentDir));
        script.iter().chain(&model).all(|path| is_plain(path) && folders.iter().any(|folder| path.starts_with(folder)))
    }

    /// The settings, with every default: what is written alone decides them.
    pub fn settings(&self) -> Settings {
        let output_format: OutputFormat = self.word("output_format");
        let default_name = || format!("predictions.{}", output_format.extension());
        let timeout = self.size("retry_settings.timeout");
        Settings {
            mini_batch_size: self.positive("mini_batch_size"),
            max_concurrency_per_instance: self.positive("max_concurrency_per_instance"),
            error_threshold: u64::try_from(self.integer("error_threshold")).ok(),
            max_retries: self.positive_or_zero("retry_settings.max_retries"),
            timeout: Duration::from_secs(timeout),
            output_action: self.word("output_action"),
            output_file_name: self.text("output_file_name").unwrap_or_else(default_name),
            output_format,
            logging_level: self.word("logging_level"),
            environment_variables: self.texts("environment_variables"),
            device: self.word("device"),
            deterministic: self.text("deterministic").as_deref() == Some("true"),
            limits: Limits {
                memory: self.size("limits.memory"),
                table_elements: self.size("limits.table_elements"),
                log_bytes: self.size("limits.log_bytes"),
                output_rows: self.size("limits.output_rows"),
                output_bytes: self.size("limits.output_bytes"),
                file_bytes: self.size("limits.file_bytes"),
                job_file_bytes: self.size("limits.job_file_bytes"),
                tensors: self.size("limits.tensors"),
                pixels: self.size("limits.pixels"),
                init: self.seconds("limits.init").unwrap_or(3 * timeout + 30),
            },
        }
    }

    fn model(&self) -> Result<Option<PathBuf>, SpecError> {
        let Some(Written { place, .. }) = self.written.get("model") else { return Ok(None) };
        if let Some((name, version)) = self.registered_model() {
            return Err(SpecError::Refused {
                place: place.clone(),
                key: "model",
                value: format!("{name}@{version}"),
                reason: "and registered models are known to a server only",
                cure: "write the model's file or folder, or create the deployment on a server that has this model",
            });
        }
        let Some(Written { value: Value::Model(value::ModelReference::Path(path)), .. }) = self.written.get("model")
        else {
            unreachable!("registered models were refused above; this is a bug")
        };
        found("model", place, self.folder().join(path)).map(|(path, _)| Some(path))
    }

    fn script(&self) -> Result<Option<PathBuf>, SpecError> {
        let (Some(path), Some(Written { place, .. })) = (self.script_path()?, self.written.get(SCRIPT)) else {
            return Ok(None);
        };
        let (path, is_file) = found(SCRIPT, place, path)?;
        if is_file {
            return Ok(Some(path));
        }
        let (place, value) = (place.clone(), self.text(SCRIPT).unwrap_or_default());
        let (reason, cure) = ("which is a folder", "name the `.wasm` file in it");
        Err(SpecError::Refused { place, key: SCRIPT, value, reason, cure })
    }

    /// Where the script is to be, whether it is there or not; none if the deployment names none.
    ///
    /// # Errors
    /// If a folder is named without a script, a script that is no `.wasm` file below it, or an artifact in the folder's
    /// stead.
    pub fn script_path(&self) -> Result<Option<PathBuf>, SpecError> {
        let (Some(name), Some(Written { place, .. })) = (self.script_name()?, self.written.get(SCRIPT)) else {
            return Ok(None);
        };
        if let Some(artifact) = self.artifact() {
            let place = self.written.get(CODE).map_or(place, |written| &written.place).clone();
            let reason = "and nothing is fetched for a deployment that was sent here";
            let cure = "send the script below `code`, as `scorehost deployment create` does";
            return Err(SpecError::Refused { place, key: CODE, value: artifact.to_owned(), reason, cure });
        }
        Ok(Some(self.folder().join(self.text(CODE).unwrap_or_default()).join(name)))
    }

    /// The script's path below the folder `code`; none if the deployment names none.
    ///
    /// # Errors
    /// If a folder is named without a script, or a script that is no `.wasm` file below it.
    pub fn script_name(&self) -> Result<Option<PathBuf>, SpecError> {
        let (Some(script), Some(Written { place, .. })) = (self.text(SCRIPT), self.written.get(SCRIPT)) else {
            let cure = "name the `.wasm` file below `code`, or remove `code_configuration`";
            let missing = SpecError::Missing { path: self.path.clone(), key: SCRIPT, cure };
            return if self.text(CODE).is_some() { Err(missing) } else { Ok(None) };
        };
        let refuse = |reason, cure| {
            let value = script.clone();
            Err(SpecError::Refused { place: place.clone(), key: SCRIPT, value, reason, cure })
        };
        let relative = Path::new(&script);
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return refuse("which leaves the folder `code`", "name a file below `code`");
        }
        if relative.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("wasm")) {
            return refuse("and scripts are WebAssembly components", "build it to a `.wasm` file and name that");
        }
        Ok(Some(relative.to_owned()))
    }

    fn not_used(&self) -> Vec<String> {
        let written = |key: &&keys::Key| key.kind == Kind::NotUsed && self.written.contains_key(key.name);
        let mut names: Vec<String> = keys::KEYS.iter().filter(written).map(|key| key.name.to_owned()).collect();
        let instances = self.integer("resources.instance_count");
        if instances > 1 {
            names.push(format!("resources.instance_count ({instances} nodes; a job runs on this one)"));
        }
        names
    }

    fn value(&self, name: &'static str) -> Option<Value> {
        if let Some(written) = self.written.get(name) {
            return Some(written.value.clone());
        }
        let key = keys::known(name);
        let text = key.default?.to_owned();
        let node = Node { line: 0, value: Yaml::Scalar(Scalar { text, plain: true }) };
        Some(value::read(key.kind, &node).expect("a test reads every default of the table; this is a bug"))
    }

    fn text(&self, name: &'static str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn texts(&self, name: &'static str) -> BTreeMap<String, String> {
        match self.value(name) {
            Some(Value::Texts(texts)) => texts,
            _ => BTreeMap::new(),
        }
    }

    fn integer(&self, name: &'static str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(n)) => n,
            _ => unreachable!("numbers of the table have defaults; this is a bug"),
        }
    }

    fn size(&self, name: &'static str) -> u64 {
        u64::try_from(self.integer(name)).expect("the table's bounds keep sizes positive; this is a bug")
    }

    /// A time that may be left out.
    fn seconds(&self, name: &'static str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Integer(seconds)) => u64::try_from(seconds).ok(),
            _ => None,
        }
    }

    fn positive_or_zero(&self, name: &'static str) -> u32 {
        u32::try_from(self.integer(name)).expect("the table's bounds keep counts small; this is a bug")
    }

    fn positive(&self, name: &'static str) -> NonZeroU32 {
        NonZeroU32::new(self.positive_or_zero(name)).expect("the table's bounds begin at 1; this is a bug")
    }

    fn word<T: DeserializeOwned>(&self, name: &'static str) -> T {
        let text = self.text(name).unwrap_or_default();
        let words: StrDeserializer<'_, WordError> = text.as_str().into_deserializer();
        T::deserialize(words).expect("a test reads every word of the table; this is a bug")
    }
}

/// The path, and whether it is a file; an error if it is neither file nor folder.
fn found(key: &'static str, place: &Place, path: PathBuf) -> Result<(PathBuf, bool), SpecError> {
    match std::fs::metadata(&path) {
        Ok(data) if data.is_file() || data.is_dir() => Ok((path, data.is_file())),
        Ok(_) => {
            let source = std::io::Error::other("neither a file nor a folder");
            Err(SpecError::NotFound { place: place.clone(), key, path, source })
        }
        Err(source) => Err(SpecError::NotFound { place: place.clone(), key, path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Device, LoggingLevel, OutputAction};
    use super::*;

    /// A folder with `model/` and `code/s.wasm`.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("model")).unwrap();
        fs::create_dir_all(folder.path().join("code/sub.wasm")).unwrap();
        fs::write(folder.path().join("code/s.wasm"), b"\0asm").unwrap();
        folder
    }

    fn spec(folder: &Path, text: &str) -> Result<Spec, SpecError> {
        Spec::parse(text, &folder.join("d.yml"))
    }

    /// The message of the first step that fails, and its hint, without the folder.
    fn message(folder: &Path, text: &str) -> String {
        let error = match spec(folder, text) {
            Err(error) => error,
            Ok(spec) => spec.resolve().expect_err(text),
        };
        let text = format!("{error} | {}", error.hint().unwrap_or_default());
        text.replace(&format!("{}/", folder.display()), "")
    }

    /// The deployment of Azure's imagenet example by batch, with a `.wasm` script and a local model in place of its own.
    const IMAGENET: &str = "\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
endpoint_name: imagenet-classifier-batch
name: imagenet-classifier-resnetv2
description: A ResNetV2 model architecture for performing ImageNet classification in batch
type: model
model: model
compute: azureml:gpu-cluster
environment:
  name: tensorflow212-cuda11-gpu
  image: mcr.microsoft.com/azureml/curated/tensorflow-2.12-cuda11:latest
  conda_file: environment/conda.yaml
code_configuration:
  code: code
  scoring_script: s.wasm
resources:
  instance_count: 2
tags:
  device_acceleration: CUDA
  device_batching: 16
settings:
  max_concurrency_per_instance: 1
  mini_batch_size: 5
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings:
    max_retries: 3
    timeout: 300
  error_threshold: -1
  logging_level: info
";

    #[test]
    fn the_imagenet_example_reads_as_it_is() {
        let folder = folder();
        let deployment = spec(folder.path(), IMAGENET).unwrap().resolve().unwrap();
        assert_eq!(deployment.name, "imagenet-classifier-resnetv2");
        assert_eq!(deployment.endpoint_name.as_deref(), Some("imagenet-classifier-batch"));
        assert_eq!(deployment.tags["device_batching"], "16");
        assert_eq!(deployment.model, Some(folder.path().join("model")));
        assert_eq!(deployment.script, Some(folder.path().join("code/s.wasm")));
        let settings = &deployment.settings;
        assert_eq!((settings.mini_batch_size.get(), settings.timeout.as_secs()), (5, 300));
        assert_eq!((settings.error_threshold, settings.max_retries), (None, 3));
        let unused =
            ["$schema", "environment", "compute", "resources.instance_count (2 nodes; a job runs on this one)"];
        assert_eq!(deployment.not_used, unused);
    }

    /// Each field of Azure's reference of batch deployments, in the newer layout, in the older one, and where its tools
    /// take it besides.
    #[test]
    fn every_field_of_azures_reference_is_read() {
        let folder = folder();
        let settings = [
            "max_concurrency_per_instance: 1",
            "mini_batch_size: 10",
            "error_threshold: -1",
            "retry_settings: {max_retries: 3, timeout: 30}",
            "retry_settings: {timeout: PT30S}",
            "output_action: append_row",
            "output_action: summary_only",
            "output_file_name: predictions.csv",
            "logging_level: warning",
            "environment_variables: {A: b}",
        ];
        let roots = [
            "$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json",
            "endpoint_name: imagenet-classifier-batch",
            "description: Tells pictures apart.",
            "tags: {device_batching: 16}",
            "properties: {a: b}",
            "type: model",
            "model: model",
            "model: {name: m, path: model}",
            "environment: azureml:tf@latest",
            "environment: {name: e, image: i, conda_file: environment/conda.yaml}",
            "compute: azureml:gpu-cluster",
            "resources: {instance_count: 2}",
            "settings: {instance_count: 2}",
        ];
        let newer = settings.iter().map(|line| format!("type: model\nsettings:\n  {line}\n"));
        for text in newer.chain(settings.iter().chain(&roots).map(|line| format!("{line}\n"))) {
            let model = if text.contains("model: ") && !text.starts_with("type") { "" } else { "model: model\n" };
            let spec = spec(folder.path(), &format!("name: d\n{model}{text}"));
            let read = spec.and_then(|spec| spec.resolve());
            assert!(read.is_ok(), "{text}: {:?}", read.err());
        }
        let script = "name: d\ncode_configuration: {code: code, scoring_script: s.wasm}\n";
        assert!(spec(folder.path(), script).unwrap().resolve().unwrap().script.is_some());
        for (model, version) in [("azureml:m:3", "3"), ("azureml:m@latest", "latest")] {
            let spec = spec(folder.path(), &format!("name: d\nmodel: {model}\n")).unwrap();
            assert_eq!(spec.registered_model(), Some(("m".to_owned(), version.to_owned())));
        }
    }

    #[test]
    fn the_older_layout_means_the_same() {
        let folder = folder();
        let newer = "name: d\nmodel: model\nsettings:\n  mini_batch_size: 5\n  retry_settings:\n    timeout: 300\n";
        let older = "name: d\nmodel: model\nmini_batch_size: 5\nretry_settings:\n  timeout: PT5M\n";
        let resolve = |text| spec(folder.path(), text).unwrap().resolve().unwrap().settings;
        assert_eq!(resolve(newer), resolve(older));
    }

    #[test]
    fn without_settings_everything_has_azures_default() {
        let folder = folder();
        let settings = spec(folder.path(), "name: d\nmodel: model\n").unwrap().resolve().unwrap().settings;
        assert_eq!((settings.mini_batch_size.get(), settings.max_concurrency_per_instance.get()), (10, 1));
        assert_eq!((settings.error_threshold, settings.max_retries, settings.timeout.as_secs()), (None, 3, 30));
        assert_eq!((settings.output_action, settings.logging_level), (OutputAction::AppendRow, LoggingLevel::Info));
        assert_eq!((settings.output_format, settings.device), (OutputFormat::Azure, Device::Auto));
        assert_eq!(settings.output_file_name, "predictions.csv");
        let limits = settings.limits;
        assert_eq!((limits.memory, limits.table_elements, limits.log_bytes), (1 << 30, 100_000, 1 << 20));
        assert_eq!((limits.output_rows, limits.output_bytes), (1_000_000, 256 << 20));
        assert_eq!((limits.file_bytes, limits.job_file_bytes), (1 << 30, 64 << 30));
        assert_eq!((limits.tensors, limits.pixels), (2 << 30, 89_478_485));
        // Three times what a `run` may take, and half a minute.
        assert_eq!(limits.init, 120);
    }

    #[test]
    fn every_default_and_word_of_the_table_resolves() {
        let folder = folder();
        for key in keys::KEYS {
            let mut spec = spec(folder.path(), "name: d\nmodel: model\n").unwrap();
            let words: &[&str] = if let Kind::Choice(words) = key.kind { words } else { &[] };
            for word in words.iter().chain(&key.default).filter(|word| **word != "pipeline") {
                spec.set(key.name, word).unwrap();
                spec.resolve().unwrap();
            }
        }
    }

    #[test]
    fn each_mistake_names_its_line_and_cure() {
        let folder = folder();
        let base = "name: d\nmodel: model\n";
        let cases = [
            (
                "settings:\n  mini_batch_sise: 5",
                "`d.yml` line 4: unknown key `settings.mini_batch_sise` | did you mean `mini_batch_size`?",
            ),
            (
                "settings:\n  timeout: 5",
                "line 4: unknown key `settings.timeout` | did you mean `settings.retry_settings.timeout`?",
            ),
            (
                "settings:\n  mini_batch_size: 0",
                "line 4: `settings.mini_batch_size` is the number `0`; allowed is a whole number from 1 to 1000000",
            ),
            ("settings:\n  mini_batch_size: yes", "is the text `yes`; allowed is a whole number"),
            ("settings:\n  mini_batch_size: 5.0", "is the number `5.0`; allowed is a whole number"),
            ("settings:\n  mini_batch_size:", "is empty; allowed is a whole number"),
            ("settings:\n  mini_batch_size: [5]", "is a list; allowed is a whole number"),
            ("settings:\n  error_threshold: 10%", "is the text `10%`; allowed is a whole number from -1 to 2147483647"),
            ("settings:\n  error_threshold: -2", "is the number `-2`; allowed is a whole number from -1"),
            ("settings:\n  mini_batch_size: 99999999999999999999", "allowed is a whole number"),
            ("settings: [1]", "line 3: `settings` is a list; allowed is a map"),
            ("settings:\n  output_action: append", "is the text `append`; allowed is `append_row`, `summary_only`"),
            ("settings:\n  device: off", "allowed is `auto`, `gpu`, `cpu`, `onnxruntime`"),
            (
                "settings:\n  output_file_name: ../x",
                "`settings.output_file_name` is the text `../x`; allowed is the name of a file",
            ),
            ("settings:\n  output_file_name: job.json", "none of `errors.csv`"),
            (
                "settings:\n  environment_variables:\n    SCOREHOST_X: 1",
                "a map in which `SCOREHOST_X` is the number `1`; allowed is any name that the host does not set itself",
            ),
            ("settings:\n  environment_variables:\n    azureml_model_dir: x", "the host does not set itself"),
            ("settings:\n  environment_variables:\n    A-B: x", "names are letters, digits and `_`"),
            (
                "settings:\n  limits:\n    memory: 5GiB",
                "`settings.limits.memory` is the text `5GiB`; allowed is a size from 1MiB to 4GiB, in bytes or as `512MiB`",
            ),
            (
                "settings:\n  retry_settings:\n    timeout: 30s",
                "allowed is seconds from 1 to 259200, or a duration as `PT30S`",
            ),
            ("settings:\n  name: x", "unknown key `settings.name` | did you mean `name`?"),
            (
                "mini_batch_size: 5\nsettings:\n  mini_batch_size: 6",
                "line 5: `settings.mini_batch_size` is already written at `d.yml` line 3 | keep one of them",
            ),
            ("tags: {a: {b: c}}", "`tags` is a map in which `a` is a map; allowed is a map of texts"),
            (
                "type: pipeline\ncomponent: x",
                "line 3: `type` is `pipeline`, and pipelines of components are not run here",
            ),
            ("endpoint_name: -x", "allowed is a name of 1 to 64 letters"),
            (
                "code_configuration:\n  code: code",
                "`d.yml` has no `code_configuration.scoring_script` | name the `.wasm` file",
            ),
            (
                "code_configuration:\n  code: code\n  scoring_script: s.py",
                "line 5: `code_configuration.scoring_script` is `s.py`, and scripts are WebAssembly components | build it",
            ),
            ("code_configuration:\n  scoring_script: ../s.wasm", "leaves the folder"),
            ("code_configuration:\n  code: code\n  scoring_script: sub.wasm", "is a folder"),
            (
                "code_configuration:\n  code: code\n  scoring_script: t.wasm",
                "names `code/t.wasm`, which cannot be opened | paths are taken from",
            ),
        ];
        for (text, expected) in cases {
            let message = message(folder.path(), &format!("{base}{text}\n"));
            assert!(message.contains(expected), "{expected}\n{message}");
        }
        for (text, expected) in [
            ("model: model", "`d.yml` has no `name`"),
            ("name: d", "`d.yml` has no `model`"),
            ("name: d\nmodel: nowhere", "line 2: `model` names `nowhere`, which cannot be opened"),
            (
                "name: d\nmodel: resnet@3",
                "line 2: `model` is `resnet@3`, and registered models are known to a server only",
            ),
            ("name: d\nmodel: azureml:resnet:3", "`model` is `resnet@3`"),
            ("name: d\nmodel: azureml:a/b", "`model` is the text `azureml:a/b`; allowed is a path"),
            ("name: d\nmodel: {name: x}", "a map without a `path`"),
            ("name: d\nmodel: {path: model, nmae: x}", "a map with the key `nmae`"),
            ("- name: d", "line 1: a deployment is a map of keys, not a list"),
        ] {
            let message = message(folder.path(), text);
            assert!(message.contains(expected), "{expected}\n{message}");
        }
    }

    #[test]
    fn overrides_are_checked_like_lines() {
        let folder = folder();
        let mut spec = spec(folder.path(), IMAGENET).unwrap();
        for (key, value) in [
            ("settings.mini_batch_size", "7"),
            ("retry_settings.timeout", "PT9S"),
            ("tags.device_batching", "32"),
            ("tags.a.b", "yes"),
            ("settings.environment_variables.PATH_X", "a b"),
            ("output_format", "jsonl"),
        ] {
            spec.set(key, value).unwrap();
        }
        let deployment = spec.resolve().unwrap();
        assert_eq!((deployment.settings.mini_batch_size.get(), deployment.settings.timeout.as_secs()), (7, 9));
        let tags: Vec<_> = deployment.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(tags, ["a.b=yes", "device_acceleration=CUDA", "device_batching=32"]);
        assert_eq!(deployment.settings.environment_variables["PATH_X"], "a b");
        // The file names its predictions itself; only the default name follows the format.
        assert_eq!(deployment.settings.output_file_name, "predictions.csv");
        for (key, value, expected) in [
            (
                "settings.mini_batch_sise",
                "5",
                "`--set settings.mini_batch_sise`: unknown key `settings.mini_batch_sise`",
            ),
            ("mini_batch_size", "none", "`--set mini_batch_size`: `mini_batch_size` is the text `none`; allowed is"),
            ("settings", "5", "unknown key `settings`"),
            ("settings.tags.a", "5", "unknown key"),
            ("environment_variables.SCOREHOST_A", "5", "the host does not set itself"),
            ("type", "pipeline", "pipelines of components are not run here"),
        ] {
            let error = spec.set(key, value).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}\n{error}");
        }
    }

    #[test]
    fn a_registry_answers_for_a_registered_model() {
        let folder = folder();
        let mut spec = spec(folder.path(), "name: d\nmodel: azureml:resnet@latest\n").unwrap();
        assert_eq!(spec.registered_model(), Some(("resnet".to_owned(), "latest".to_owned())));
        spec.set("model", folder.path().join("model").to_str().unwrap()).unwrap();
        assert_eq!(spec.resolve().unwrap().model, Some(folder.path().join("model")));
    }

    #[test]
    fn values_of_variables_stay_out_of_records() {
        let folder = folder();
        let text = "name: d\nmodel: model\nenvironment_variables: {TOKEN: hunter2, N: 1.10}\noutput_format: parquet\n";
        let settings = spec(folder.path(), text).unwrap().resolve().unwrap().settings;
        assert_eq!(
            (settings.environment_variables["N"].as_str(), settings.output_file_name.as_str()),
            ("1.10", "predictions.parquet")
        );
        let record = serde_json::to_string(&settings).unwrap();
        assert!(record.contains("TOKEN") && !record.contains("hunter2"), "{record}");
        assert!(record.contains("\"timeout_seconds\":30") && record.contains("\"device\":\"auto\""), "{record}");
    }

    #[test]
    fn a_file_is_bounded_and_must_be_text() {
        let folder = folder();
        let path = folder.path().join("d.yml");
        fs::write(&path, "#".repeat(2 << 20)).unwrap();
        assert!(matches!(Spec::read(&path), Err(SpecError::TooLarge { .. })));
        fs::write(&path, b"name: d\nmodel: \xff\n").unwrap();
        assert!(Spec::read(&path).unwrap_err().to_string().contains("line 2: not UTF-8"));
        assert!(matches!(Spec::read(folder.path()), Err(SpecError::Read { .. })));
    }
}
