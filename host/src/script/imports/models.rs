//! `models`: files of the deployment's model folder, opened once and shared by the job's instances.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Resource;

use super::tensors::guest_element;
use super::{HostTensor, guest_size, permanent};
use crate::infer::session::Session;
use crate::infer::{Backend, InferError, Port};
use crate::script::bindings::scorehost::script::models::{Host, HostModel as Methods, Port as GuestPort};
use crate::script::bindings::scorehost::script::types::Failure;
use crate::script::limits::Held;
use crate::script::state::State;
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
    /// The models below `folder`, on `backend`.
    pub fn new(folder: Option<&Path>, backend: Arc<dyn Backend>) -> Self {
        let only = folder.map_or_else(|| Err("the deployment has no model".to_owned()), Self::find_only);
        Self { folder: folder.map(Path::to_owned), only, backend, open: Mutex::default() }
    }

    /// The folder's only `.onnx` file, relative to it; it may lie some folders down, as model registries have it.
    ///
    /// # Errors
    /// If there is none, or which there are.
    pub fn find_only(folder: &Path) -> Result<PathBuf, String> {
        only_model(folder)
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
        // Held while opening: two instances that ask for one model wait for one opening of it.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = open.get(&file) {
            return Ok(session.clone());
        }
        let session = Session::open(self.backend.as_ref(), &file)?;
        open.insert(file, session.clone());
        Ok(session)
    }
}

fn only_model(folder: &Path) -> Result<PathBuf, String> {
    let mut found = Vec::new();
    collect(folder, Path::new(""), 0, &mut found).map_err(|e| format!("cannot read the model folder: {e}"))?;
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err("the model folder holds no `.onnx` file (links are not followed)".into()),
        several => {
            let names: Vec<_> = several.iter().take(8).map(|p| format!("`{}`", p.display())).collect();
            Err(format!("the model folder holds several models: {}; name one", names.join(", ")))
        }
    }
}

/// Levels and files looked at; a model folder has few of either.
const MAX_DEPTH: usize = 4;
const MAX_MODELS: usize = 1000;

fn collect(folder: &Path, below: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(folder, &path, depth + 1, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
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
    let below = path.strip_prefix(crate::script::state::GUEST_MODEL).unwrap_or(path);
    if !below.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse());
    }
    let joined = folder.join(below);
    let read = |source| InferError::Read { path: below.to_owned(), source };
    let real = joined.canonicalize().map_err(read)?;
    let root = folder.canonicalize().map_err(|source| InferError::Read { path: folder.to_owned(), source })?;
    if real.starts_with(&root) { Ok(real) } else { Err(refuse()) }
}

/// No operating system here opens a longer path, and no error should repeat it.
const MAX_PATH_BYTES: usize = 4096;

/// An open model that a script holds.
pub struct HostModel(Session);

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
        let answer = match session.predict(inputs, &self.device_ns, Box::new(kept)).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(Failure::from(&error))),
        };
        let mut outputs = Vec::new();
        for (i, port) in session.outputs().iter().enumerate() {
            let tensor = HostTensor::pending(answer.clone(), i, Arc::clone(&held));
            outputs.push((port.name.clone(), self.things.push(tensor)?));
        }
        Ok(Ok(outputs))
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
        let (mut given, mut kept) = (HashMap::new(), Vec::new());
        for (name, handle) in inputs {
            match self.numbers(&handle).await? {
                Ok(tensor) => given.insert(name, tensor),
                Err(failure) => return Ok(Err(failure)),
            };
            kept.push(self.things.get(&handle)?.held());
        }
        let mut ordered = Vec::new();
        for port in session.inputs() {
            match given.remove(&port.name) {
                Some(tensor) => ordered.push(batched(tensor, port)),
                None => return Ok(Err(permanent(format!("the model's input `{}` is missing", port.name)))),
            }
        }
        if let Some(name) = given.keys().next() {
            let known: Vec<_> = session.inputs().iter().map(|p| p.name.as_str()).collect();
            return Ok(Err(permanent(format!("the model has no input `{name}`; it has `{}`", known.join("`, `")))));
        }
        self.predictions(&session, ordered, kept).await
    }

    fn drop(&mut self, this: Resource<HostModel>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
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
