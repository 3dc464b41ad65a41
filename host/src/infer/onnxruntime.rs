//! ONNX Runtime, from a shared library that the user names: the fastest engine on a CPU. Nothing of it is linked.
//! What goes in: an ONNX file, and tensors. What comes out: tensors, each row's bits the same whatever runs beside it.
//!
//! A process can have one such library open, once; it stays open until the process ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};

use super::rows::{Batch, Lanes, Separable, read_model};
use super::{Backend, InferError, Model, Port};
use crate::tensor::{Data, Element, Tensor};

/// What this backend is called.
const NAME: &str = "onnxruntime";

/// Sessions of one model at most. Each holds the weights again, and more threads than this are shared among them:
/// unlike rten's, its sums do not depend on how many threads share them.
const MOST_SESSIONS: usize = 8;

/// The library that is open in this process.
static OPEN: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// ONNX Runtime on the CPU.
pub struct OnnxRuntime {
    environment: Environment,
    library: PathBuf,
    threads: usize,
}

impl OnnxRuntime {
    /// Opens the shared library at `library`, version 1.17 or later, for models on this many threads; at least one is
    /// used. Opening the same library again gives the one that is open.
    ///
    /// # Errors
    /// If it cannot be opened, is not ONNX Runtime or too old, or this process has opened another.
    pub fn open(library: &Path, threads: usize) -> Result<Self, InferError> {
        let unavailable = |reason: String| InferError::Unavailable { backend: NAME, reason };
        // A relative path would be looked for beside this program first.
        let library = library
            .canonicalize()
            .map_err(|e| unavailable(format!("cannot open its library `{}`: {e}", library.display())))?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*open {
            Some((path, environment)) if *path == library => environment.clone(),
            Some((path, _)) => {
                let path = path.display();
                return Err(unavailable(format!("this process has opened another library, `{path}`")));
            }
            None => {
                let environment = load(&library).map_err(unavailable)?;
                *open = Some((library.clone(), environment.clone()));
                environment
            }
        };
        Ok(Self { environment, library, threads: threads.max(1) })
    }
}

/// The library's environment, made once. A file that is no ONNX Runtime may make `ort` panic.
fn load(library: &Path) -> Result<Environment, String> {
    let made = std::panic::catch_unwind(|| {
        let builder = ort::init_from(library).map_err(|e| e.to_string())?;
        builder.with_name("scorehost").with_telemetry(false).build().map_err(|e| e.to_string())
    });
    made.unwrap_or_else(|_| Err(format!("`{}` is not a usable ONNX Runtime", library.display())))
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> String {
        format!("ONNX Runtime from {} on {} CPU threads", self.library.display(), self.threads)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Model>, InferError> {
        self.read(path, &read_model(path)?)
    }
}

impl OnnxRuntime {
    /// Opens the model that these bytes are; `path` is for errors.
    pub(super) fn read(&self, path: &Path, bytes: &[u8]) -> Result<Box<dyn Model>, InferError> {
        let sessions = self.threads.min(MOST_SESSIONS);
        let mut lanes = Vec::with_capacity(sessions);
        for i in 0..sessions {
            // What does not divide goes to the first ones.
            let threads = self.threads / sessions + usize::from(i < self.threads % sessions);
            lanes.push(self.session(bytes, threads).map_err(|e| open_error(path, &e))?);
        }
        let inputs = ports(lanes[0].inputs(), "input")?;
        let outputs = ports(lanes[0].outputs(), "output")?;
        let separable = Separable::of(&inputs, &outputs);
        Ok(Box::new(OrtModel { separable, inputs, outputs, lanes: Lanes::new(lanes) }))
    }

    fn session(&self, bytes: &[u8], threads: usize) -> ort::Result<Session> {
        let recovered = |e: ort::Error<SessionBuilder>| ort::Error::<()>::from(e);
        Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(recovered)?
            .with_intra_threads(threads)
            .map_err(recovered)?
            // Cores that wait for each other in a loop are cores that decode no pictures.
            .with_intra_op_spinning(false)
            .map_err(recovered)?
            .commit_from_memory(bytes)
    }
}

fn open_error(path: &Path, error: &ort::Error) -> InferError {
    let reason = error.message().to_owned();
    match error.code() {
        ort::ErrorCode::NotImplemented => InferError::Unsupported {
            backend: NAME,
            node: path.display().to_string(),
            operation: "operation".into(),
            reason,
        },
        _ => InferError::Invalid { path: path.into(), reason },
    }
}

fn ports(outlets: &[Outlet], kind: &str) -> Result<Vec<Port>, InferError> {
    let port = |outlet: &Outlet| {
        let name = outlet.name().to_owned();
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
            let mut error = unsupported(&name, kind, &outlet.dtype().to_string());
            if let InferError::Unsupported { reason, .. } = &mut error {
                reason.push_str(
                    "\nhint: a scikit-learn classifier is converted without maps by `options={'zipmap': False}`",
                );
            }
            return Err(error);
        };
        let element = match ty {
            TensorElementType::Float32 => Element::F32,
            TensorElementType::Uint8 => Element::U8,
            TensorElementType::Int64 => Element::I64,
            TensorElementType::Int32 if kind == "output" => Element::I64,
            other => return Err(unsupported(&name, kind, &other.to_string())),
        };
        // Free sizes are negative.
        let shape = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
        Ok(Port { name, shape, element })
    };
    outlets.iter().map(port).collect()
}

fn unsupported(name: &str, kind: &str, what: &str) -> InferError {
    InferError::Unsupported {
        backend: NAME,
        node: name.to_owned(),
        operation: format!("an {kind} of the graph"),
        reason: format!("{what} is not taken; floats, bytes and integers are"),
    }
}

struct OrtModel {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    separable: Separable,
    lanes: Lanes<Session>,
}

impl Model for OrtModel {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn workers(&self) -> usize {
        self.lanes.count()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        Batch { backend: NAME, inputs, separable: &self.separable }.run(&self.lanes, run_on)
    }
}

fn run_on(session: &mut Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
    let values: Vec<_> = inputs.iter().map(value).collect::<Result<_, _>>().map_err(|e| run_error(&e))?;
    let outputs = session.run(values.as_slice()).map_err(|e| run_error(&e))?;
    // In the order of the session's outputs, which is the graph's.
    outputs.values().map(|value| tensor(&value)).collect()
}

fn value(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape().to_vec();
    Ok(match (tensor.f32(), tensor.u8(), tensor.i64()) {
        (Some(floats), ..) => TensorRef::from_array_view((shape, floats))?.into(),
        (_, Some(bytes), _) => TensorRef::from_array_view((shape, bytes))?.into(),
        (.., Some(integers)) => TensorRef::from_array_view((shape, integers))?.into(),
        _ => return Err(ort::Error::new("a tensor of an unknown element type")),
    })
}

fn tensor(value: &DynValue) -> Result<Tensor, InferError> {
    let failed = |reason: String| InferError::Device { backend: NAME, reason, transient: false };
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(failed(format!("an output is {}, not a tensor", value.dtype())));
    };
    let (shape, data) = match ty {
        TensorElementType::Float32 => {
            value.try_extract_tensor::<f32>().map(|(shape, all)| (shape, Data::F32(Arc::new(all.to_vec()))))
        }
        TensorElementType::Uint8 => {
            value.try_extract_tensor::<u8>().map(|(shape, all)| (shape, Data::U8(Arc::new(all.to_vec()))))
        }
        TensorElementType::Int64 => {
            value.try_extract_tensor::<i64>().map(|(shape, all)| (shape, Data::I64(Arc::new(all.to_vec()))))
        }
        TensorElementType::Int32 => {
            let wide = |all: &[i32]| all.iter().map(|&n| i64::from(n)).collect();
            value.try_extract_tensor::<i32>().map(|(shape, all)| (shape, Data::I64(Arc::new(wide(all)))))
        }
        other => return Err(failed(format!("an output is of {other}"))),
    }
    .map_err(|e| run_error(&e))?;
    let mut shape: Vec<usize> = shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
    if shape.is_empty() {
        // A single number is a tensor of one row here.
        shape.push(1);
    }
    Tensor::new(shape, data).map_err(|e| failed(e.to_string()))
}

fn run_error(error: &ort::Error) -> InferError {
    let reason = error.message().to_owned();
    match error.code() {
        ort::ErrorCode::InvalidArgument => InferError::Input(reason),
        _ => InferError::Device { backend: NAME, reason, transient: false },
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, OnDisk, cast, kind};
    use super::*;

    /// The library that `ORT_DYLIB_PATH` names. Without it the test is skipped, unless `REQUIRE` names `onnxruntime`.
    fn library() -> Option<PathBuf> {
        let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let required = std::env::var("REQUIRE").is_ok_and(|list| list.split(',').any(|what| what == NAME));
        assert!(library.is_some() || !required, "ORT_DYLIB_PATH names no library of ONNX Runtime");
        if library.is_none() {
            println!("skipped: ORT_DYLIB_PATH names no library of ONNX Runtime");
        }
        library
    }

    fn with_each(threads: &[usize], check: fn(&dyn Backend)) {
        let Some(library) = library() else { return };
        for &threads in threads {
            check(&OnnxRuntime::open(&library, threads).unwrap());
        }
    }

    #[test]
    fn ports_are_mapped() {
        with_each(&[2], samples::ports_are_mapped);
    }

    #[test]
    fn rows_keep_their_bits() {
        with_each(&[0, 1, 3, 11], samples::rows_keep_their_bits);
    }

    #[test]
    fn types_are_converted() {
        with_each(&[1], samples::types_are_converted);
    }

    #[test]
    fn bad_models_are_refused() {
        with_each(&[1], samples::bad_models_are_refused);
    }

    #[test]
    fn ports_of_other_types_are_refused() {
        with_each(&[1], |backend| {
            const DOUBLE: u64 = 11;
            let model = OnDisk::new(&cast(DOUBLE, kind::FLOAT));
            let Err(error) = backend.open(&model.path()) else { panic!("doubles were taken") };
            assert!(matches!(error, InferError::Unsupported { .. }), "{error:?}");
        });
    }

    #[test]
    fn a_library_that_is_none_is_refused_and_does_no_harm() {
        let text = OnDisk::new(b"no library");
        for path in [text.path(), PathBuf::from("/no/such/library.so")] {
            let Err(error) = OnnxRuntime::open(&path, 1) else { panic!("{} was opened", path.display()) };
            assert!(matches!(error, InferError::Unavailable { .. }), "{error:?}");
        }
        with_each(&[1], samples::ports_are_mapped);
    }
}
