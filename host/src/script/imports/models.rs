//! `models`: files of the deployment's model folder, opened once and shared by the job's instances.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::Resource;

use super::tensors::guest_element;
use super::{HostTensor, guest_size, permanent};
use crate::infer::session::{Account, Session};
use crate::infer::{Backend, InferError, Port};
use crate::script::bindings::scorehost::script::models::{Host, HostModel as Methods, Port as GuestPort};
use crate::script::bindings::scorehost::script::types::Failure;
use crate::script::limits::Held;
use crate::script::state::{GUEST_MODEL, State};
use crate::tensor::Tensor;

/// The models of a deployment: its model folder, and the sessions that were opened.
pub struct Models {
    folder: Option<PathBuf>,
    /// The file that `open` without a path means, relative to the folder; or why there is none.
    only: Result<PathBuf, String>,
    backend: Arc<dyn Backend>,
    open: Mutex<HashMap<PathBuf, Session>>,
}

impl Models {
    /// The models below `folder`, on `backend`. `file`, relative to the folder, is what `open` without a path means;
    /// where none is named, it is the only model in the folder.
    pub fn new(folder: Option<&Path>, file: Option<&Path>, backend: Arc<dyn Backend>) -> Self {
        let only = match (folder, file) {
            (Some(_), Some(file)) => Ok(file.to_owned()),
            (Some(folder), None) => Self::find_only(folder),
            (None, _) => Err("the deployment has no model".to_owned()),
        };
        Self { folder: folder.map(Path::to_owned), only, backend, open: Mutex::default() }
    }

    /// The folder's only `.onnx` file, relative to it; it may lie some folders down, as model registries have it.
    ///
    /// # Errors
    /// If there is none, or which there are.
    pub fn find_only(folder: &Path) -> Result<PathBuf, String> {
        only_model(folder)
    }

    /// Whether a file below a model folder counts as a model: no other is ever opened as one.
    pub fn is_model(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    }

    /// Takes over a session that was opened before, for the file at `path`.
    pub fn keep(&self, path: &Path, session: Session) {
        if let Ok(path) = path.canonicalize() {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(path, session);
        }
    }

    /// The folder that scripts see as `/model`.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Opens a file below the folder, or answers what was opened before. Takes as long as the backend does.
    ///
    /// # Errors
    /// If the path leaves the folder, or the backend refuses the file.
    pub fn session(&self, path: Option<&Path>) -> Result<Session, InferError> {
        let path = match (path, &self.only) {
            (Some(path), _) => path,
            (None, Ok(only)) => only,
            (None, Err(reason)) => return Err(InferError::Input(reason.clone())),
        };
        let folder = self.folder.as_deref().ok_or_else(|| InferError::Input("the deployment has no model".into()))?;
        let file = inside(folder, path)?;
        if !Self::is_model(&file) {
            return Err(InferError::Input(format!("`{}` is no `.onnx` file, so it is no model", path.display())));
        }
        // Held while opening: two instances that ask for one model wait for one opening of it.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = open.get(&file) {
            return Ok(session.clone());
        }
        let session = Session::open(self.backend.as_ref(), &file)?;
        open.insert(file, session.clone());
        Ok(session)
    }

    /// The file below the folder that wasi-nn's `name` means, relative to it: its path or its name, with or without
    /// `.onnx`; or nothing or `default`, for the only one.
    ///
    /// # Errors
    /// Says which names there are, if this is none of them, or that of several files.
    pub(super) fn find_named(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.as_deref().ok_or("the deployment has no model")?;
        let all = models_below(folder)?;
        // Scripts may say where they see the folder.
        let below = Path::new(name).strip_prefix(GUEST_MODEL).unwrap_or(Path::new(name)).as_os_str();
        let is = |found: Option<&OsStr>| found == Some(below);
        let by_path = |p: &&PathBuf| is(Some(p.as_os_str())) || is(Some(p.with_extension("").as_os_str()));
        let by_name = |p: &&PathBuf| is(p.file_name()) || is(p.file_stem());
        if let Some(found) = all.iter().find(by_path) {
            return Ok(found.clone());
        }
        match all.iter().filter(by_name).collect::<Vec<_>>().as_slice() {
            [found] => Ok((*found).clone()),
            [] if name.is_empty() || name == "default" => self.only.clone(),
            [] => Err(format!("there is no model `{name}`; there are {}", names(&all))),
            [..] => Err(format!("several models are called `{name}`; give a path: {}", names(&all))),
        }
    }
}

fn only_model(folder: &Path) -> Result<PathBuf, String> {
    match models_below(folder)?.as_slice() {
        [only] => Ok(only.clone()),
        several => Err(format!("the model folder holds several models: {}; name one", names(several))),
    }
}

/// Every `.onnx` file, relative to the folder, sorted; at least one.
fn models_below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(folder, Path::new(""), 0, &mut found).map_err(|e| format!("cannot read the model folder: {e}"))?;
    if found.is_empty() {
        return Err("the model folder holds no `.onnx` file (links are not followed)".into());
    }
    found.sort();
    Ok(found)
}

/// A few of the files, as messages print them.
fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().take(8).map(|p| format!("`{}`", p.display())).collect();
    names.join(", ") + if names.len() < files.len() { ", …" } else { "" }
}

/// Levels and files looked at; a model folder has few of either.
const MAX_DEPTH: usize = 4;
const MAX_MODELS: usize = 1000;

fn collect(folder: &Path, below: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder.join(below))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(folder, &path, depth + 1, found)?;
        } else if kind.is_file() && Models::is_model(&path) {
            if found.len() == MAX_MODELS {
                return Ok(());
            }
            found.push(path);
        }
    }
    Ok(())
}

/// A guest's path joined to the folder; links and `..` that leave it are refused.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf, InferError> {
    let refuse = || InferError::Input(format!("model path `{}` leaves the model folder", path.display()));
    // Scripts may say where they see the folder.
    let below = path.strip_prefix(GUEST_MODEL).unwrap_or(path);
    if !below.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse());
    }
    let joined = folder.join(below);
    let read = |source| InferError::Read { path: below.to_owned(), source };
    let real = joined.canonicalize().map_err(read)?;
    let root = folder.canonicalize().map_err(|source| InferError::Read { path: folder.to_owned(), source })?;
    let below = real.strip_prefix(&root).map_err(|_| refuse())?;
    // What is hidden is in no digest, and was not tried.
    let is_hidden = below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    if is_hidden { Err(InferError::Input("a hidden file is no model".into())) } else { Ok(real) }
}

/// No operating system here opens a longer path, and no error should repeat it.
pub(super) const MAX_PATH_BYTES: usize = 4096;

/// An open model that a script holds.
pub struct HostModel(Session);

/// What a prediction counts for.
struct Counted {
    /// Until it is computed.
    _inputs: Vec<Arc<Held>>,
    /// While the script holds one of them.
    outputs: Weak<Held>,
}

impl Account for Counted {
    fn count(&self, bytes: usize) -> Result<(), String> {
        self.outputs.upgrade().map_or(Ok(()), |held| held.grow_to(bytes))
    }
}

type Answered<T> = wasmtime::Result<Result<T, Failure>>;

impl Host for State {}

impl State {
    async fn predictions(
        &mut self,
        session: &Session,
        inputs: Vec<Tensor>,
        kept: Vec<Arc<Held>>,
    ) -> Answered<Vec<(String, Resource<HostTensor>)>> {
        let rows = inputs.first().map_or(0, Tensor::rows);
        let held = match self.tensors.take(session.output_bytes(rows)) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(permanent(reason))),
        };
        let pending = match self.pending(session, inputs, kept, &held).await {
            Ok(pending) => pending,
            Err(error) => return Ok(Err(Failure::from(&error))),
        };
        let mut outputs = Vec::new();
        for (name, tensor) in pending {
            outputs.push((name, self.things.push(tensor)?));
        }
        Ok(Ok(outputs))
    }

    /// Asks for a model's outputs, by name, which count as `held` together.
    pub(super) async fn pending(
        &mut self,
        session: &Session,
        inputs: Vec<Tensor>,
        kept: Vec<Arc<Held>>,
        held: &Arc<Held>,
    ) -> Result<Vec<(String, HostTensor)>, InferError> {
        // Not the outputs themselves: what nobody holds any more is not counted, nor kept.
        let counted = Counted { _inputs: kept, outputs: Arc::downgrade(held) };
        let answer = session.predict(inputs, &self.device_ns, Box::new(counted)).await?;
        let ports = session.outputs().iter().enumerate();
        let output =
            |(i, port): (usize, &Port)| (port.name.clone(), HostTensor::pending(answer.clone(), i, Arc::clone(held)));
        Ok(ports.map(output).collect())
    }
}

impl Methods for State {
    async fn open(&mut self, path: Option<String>) -> Answered<Resource<HostModel>> {
        let services = Arc::clone(&self.services);
        if path.as_ref().is_some_and(|path| path.len() > MAX_PATH_BYTES) {
            return Ok(Err(permanent("no file of the model folder has a path as long as that")));
        }
        let path = path.map(PathBuf::from);
        // Opening reads and compiles; a deadline can end the wait for it.
        let opened = tokio::task::spawn_blocking(move || services.models.session(path.as_deref())).await;
        match opened? {
            Ok(session) => Ok(Ok(self.things.push(HostModel(session))?)),
            Err(error) => Ok(Err(Failure::from(&error))),
        }
    }

    fn inputs(&mut self, this: Resource<HostModel>) -> wasmtime::Result<Vec<GuestPort>> {
        Ok(self.things.get(&this)?.0.inputs().iter().map(guest_port).collect())
    }

    fn outputs(&mut self, this: Resource<HostModel>) -> wasmtime::Result<Vec<GuestPort>> {
        Ok(self.things.get(&this)?.0.outputs().iter().map(guest_port).collect())
    }

    async fn predict(
        &mut self,
        this: Resource<HostModel>,
        input: Resource<HostTensor>,
    ) -> Answered<Resource<HostTensor>> {
        let session = self.things.get(&this)?.0.clone();
        let handle = input;
        let input = match self.numbers(&handle).await? {
            Ok(input) => input,
            Err(failure) => return Ok(Err(failure)),
        };
        let kept = vec![self.things.get(&handle)?.held()];
        let [port] = session.inputs() else {
            let count = session.inputs().len();
            return Ok(Err(permanent(format!("the model has {count} inputs; use predict-named"))));
        };
        let outputs = match self.predictions(&session, vec![batched(input, port)], kept).await? {
            Ok(outputs) => outputs,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut outputs = outputs.into_iter().map(|(_, tensor)| tensor);
        let first = outputs.next();
        for other in outputs {
            self.things.delete(other)?;
        }
        Ok(first.ok_or_else(|| permanent("the model has no output")))
    }

    async fn predict_named(
        &mut self,
        this: Resource<HostModel>,
        inputs: Vec<(String, Resource<HostTensor>)>,
    ) -> Answered<Vec<(String, Resource<HostTensor>)>> {
        let session = self.things.get(&this)?.0.clone();
        let wanted = session.inputs().len();
        if inputs.len() > wanted {
            return Ok(Err(permanent(format!("{} inputs for a model that has {wanted}", inputs.len()))));
        }
        let (mut given, mut kept) = (Vec::new(), Vec::new());
        for (name, handle) in inputs {
            match self.numbers(&handle).await? {
                Ok(tensor) => given.push((name, tensor)),
                Err(failure) => return Ok(Err(failure)),
            }
            kept.push(self.things.get(&handle)?.held());
        }
        match in_order(session.inputs(), given) {
            Ok(given) => {
                let inputs = session.inputs().iter().zip(given).map(|(port, tensor)| batched(tensor, port)).collect();
                self.predictions(&session, inputs, kept).await
            }
            Err(reason) => Ok(Err(permanent(reason))),
        }
    }

    fn drop(&mut self, this: Resource<HostModel>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

/// What was given by name, in the order of the model's inputs: each of them once, and nothing else.
pub(super) fn in_order<T>(ports: &[Port], given: Vec<(String, T)>) -> Result<Vec<T>, String> {
    let mut by_name = HashMap::new();
    for (name, value) in given {
        if name.len() > MAX_PATH_BYTES {
            return Err(format!("an input's name of {} bytes; at most {MAX_PATH_BYTES} are taken", name.len()));
        }
        let known: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
        if !known.contains(&name.as_str()) {
            return Err(format!("the model has no input `{name}`; it has `{}`", known.join("`, `")));
        }
        if by_name.insert(name.clone(), value).is_some() {
            return Err(format!("the model's input `{name}` is given twice"));
        }
    }
    let take =
        |port: &Port| by_name.remove(&port.name).ok_or_else(|| format!("the model's input `{}` is missing", port.name));
    ports.iter().map(take).collect()
}

/// A picture without a batch dimension as a batch of one, where the model wants a batch.
fn batched(tensor: Tensor, port: &Port) -> Tensor {
    if tensor.shape().len() + 1 != port.shape.len() {
        return tensor;
    }
    Tensor::stack(std::slice::from_ref(&tensor)).unwrap_or(tensor)
}

fn guest_port(port: &Port) -> GuestPort {
    GuestPort {
        name: port.name.clone(),
        shape: port.shape.iter().map(|n| n.map(guest_size)).collect(),
        element: guest_element(port.element),
    }
}
