//! The embedded CPU engine, rten: any ONNX graph, on any machine.
//! What goes in: an ONNX file, and tensors. What comes out: tensors, each row's bits the same whatever runs beside it.

use std::path::Path;
use std::sync::Arc;

use rten::{DataType, Dimension, LoadError, LoadErrorKind, ModelOptions, NodeId, RunErrorKind, RunOptions, ThreadPool};
use rten::{Value, ValueOrView, ValueType, ValueView};
use rten_tensor::Layout;

use super::rows::{Batch, Lanes, Separable, read_model};
use super::{Backend, InferError, Model, Port, sound};
use crate::tensor::{Data, Element, Tensor};

/// What this backend is called.
const NAME: &str = "cpu";

/// The embedded CPU engine.
pub struct Cpu {
    threads: usize,
}

impl Cpu {
    /// The engine on this many threads; at least one is used.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> String {
        format!("rten on {} CPU threads", self.threads)
    }

    fn identity(&self) -> String {
        // Each row is run on one thread, however many there are.
        "rten 0.27".into()
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Model>, InferError> {
        self.read(path, read_model(path)?)
    }
}

impl Cpu {
    /// Opens the model that these bytes are; `path` is for errors.
    pub(super) fn read(&self, path: &Path, bytes: Vec<u8>) -> Result<Box<dyn Model>, InferError> {
        sound::check(&bytes).map_err(|reason| InferError::Invalid { path: path.into(), reason })?;
        let guarded = std::panic::catch_unwind(|| {
            // Packed weights cost memory once, and are a fifth faster by row.
            ModelOptions::with_all_ops().prepack_weights(true).load(bytes)
        });
        let panicked = |_| InferError::Invalid { path: path.into(), reason: "rten panicked while reading it".into() };
        let model = guarded.map_err(panicked)?.map_err(|e| load_error(path, &e))?;
        let inputs = ports(&model, model.input_ids(), "input")?;
        let outputs = ports(&model, model.output_ids(), "output")?;
        // One thread each: rten's sums depend on how many threads share them.
        let lanes = (0..self.threads).map(|_| Arc::new(ThreadPool::with_num_threads(1))).collect();
        Ok(Box::new(CpuModel {
            separable: Separable::of(&inputs, &outputs),
            model,
            inputs,
            outputs,
            lanes: Lanes::new(lanes),
        }))
    }
}

fn load_error(path: &Path, error: &LoadError) -> InferError {
    // Its text holds its cause already.
    let mut reason = error.to_string();
    match error.kind() {
        LoadErrorKind::OperatorInvalid => {
            let before = reason.split(" operator not supported").next().unwrap_or_default();
            let operation = before.rsplit(' ').next().filter(|word| !word.is_empty()).unwrap_or("unknown").to_owned();
            if operation.starts_with("ai.onnx.ml/") {
                reason.push_str("\nhint: `device: onnxruntime` runs what scikit-learn and gradient boosting export");
            }
            let node = error.node().unwrap_or("without a name").to_owned();
            InferError::Unsupported { backend: NAME, node, operation, reason }
        }
        LoadErrorKind::UnknownFileType => {
            InferError::Invalid { path: path.into(), reason: "it begins like none".into() }
        }
        _ => InferError::Invalid { path: path.into(), reason },
    }
}

/// The graph's inputs or outputs. rten keeps 64-bit integers and truth values in 32 bits: they are all integers here.
fn ports(model: &rten::Model, ids: &[NodeId], kind: &str) -> Result<Vec<Port>, InferError> {
    let mut ports = Vec::with_capacity(ids.len());
    for &id in ids {
        let info = model.node_info(id);
        let name = info.as_ref().and_then(rten::NodeInfo::name).unwrap_or_default().to_owned();
        let unsupported = |reason: &str| {
            let (node, operation) = (name.clone(), format!("an {kind} of the graph"));
            InferError::Unsupported { backend: NAME, node, operation, reason: reason.into() }
        };
        let element = match info.as_ref().and_then(rten::NodeInfo::dtype) {
            // The element type of an output may be left out; it is known once it has run.
            Some(ValueType::Tensor(DataType::Float)) | None => Element::F32,
            Some(ValueType::Tensor(DataType::UInt8)) => Element::U8,
            Some(ValueType::Tensor(DataType::Int32)) => Element::I64,
            Some(other) => return Err(unsupported(&format!("{other:?} is not taken; floats, bytes and integers are"))),
        };
        let size = |dimension| match dimension {
            Dimension::Fixed(n) => Some(n),
            Dimension::Symbolic(_) => None,
        };
        let shape = match info.as_ref().and_then(rten::NodeInfo::shape) {
            Some(shape) => shape.into_iter().map(size).collect(),
            None if kind == "input" => return Err(unsupported("the model does not say its shape")),
            None => Vec::new(),
        };
        ports.push(Port { name, shape, element });
    }
    Ok(ports)
}

struct CpuModel {
    model: rten::Model,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    separable: Separable,
    lanes: Lanes<Arc<ThreadPool>>,
}

impl Model for CpuModel {
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
        let batch = Batch { backend: NAME, inputs, separable: &self.separable };
        batch.run(&self.lanes, |pool, inputs| self.run_on(Arc::clone(pool), inputs))
    }
}

impl CpuModel {
    fn run_on(&self, pool: Arc<ThreadPool>, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let mut values = Vec::with_capacity(inputs.len());
        for (&id, tensor) in self.model.input_ids().iter().zip(inputs) {
            values.push((id, value(tensor)?));
        }
        let options = RunOptions::default().with_thread_pool(Some(pool));
        let outputs = self.model.run(values, self.model.output_ids(), Some(options)).map_err(|e| run_error(&e))?;
        outputs.into_iter().map(tensor).collect()
    }
}

fn value(tensor: &Tensor) -> Result<ValueOrView<'_>, InferError> {
    let shape = tensor.shape();
    let made = match (tensor.f32(), tensor.u8(), tensor.i64()) {
        (Some(floats), ..) => ValueView::from_shape(shape, floats).map(ValueOrView::from).ok(),
        (_, Some(bytes), _) => ValueView::from_shape(shape, bytes).map(ValueOrView::from).ok(),
        (.., Some(integers)) => {
            let narrow: Result<Vec<i32>, _> = integers.iter().map(|&n| i32::try_from(n)).collect();
            let narrow = narrow.map_err(|_| InferError::Input(format!("{NAME} takes integers of 32 bits only")))?;
            Value::from_shape(shape, narrow).map(ValueOrView::from).ok()
        }
        _ => None,
    };
    made.ok_or_else(|| InferError::Input(format!("{NAME} cannot take a tensor of shape {shape:?}")))
}

fn tensor(value: Value) -> Result<Tensor, InferError> {
    let failed = |reason: String| InferError::Device { backend: NAME, reason, transient: false };
    let (shape, data) = match value {
        Value::FloatTensor(t) => (t.shape().to_vec(), Data::F32(Arc::new(t.into_data()))),
        Value::Int32Tensor(t) => {
            (t.shape().to_vec(), Data::I64(Arc::new(t.into_data().into_iter().map(i64::from).collect())))
        }
        Value::UInt8Tensor(t) => (t.shape().to_vec(), Data::U8(Arc::new(t.into_data()))),
        Value::Int8Tensor(t) => {
            (t.shape().to_vec(), Data::I64(Arc::new(t.into_data().into_iter().map(i64::from).collect())))
        }
        other => return Err(failed(format!("an output is {:?}, not a tensor", other.dtype()))),
    };
    // A single number is a tensor of one row here.
    let shape = if shape.is_empty() { vec![1] } else { shape };
    Tensor::new(shape, data).map_err(|e| failed(e.to_string()))
}

fn run_error(error: &rten::RunError) -> InferError {
    let reason = crate::fault::chain(error);
    match error.kind() {
        RunErrorKind::InvalidInput => InferError::Input(reason),
        // What an operation refuses depends on the shapes it is given.
        RunErrorKind::OperatorError => {
            InferError::Input(format!("{NAME} cannot run the model on these inputs: {reason}"))
        }
        _ => InferError::Device { backend: NAME, reason, transient: false },
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, OnDisk, cast, kind};
    use super::*;

    #[test]
    fn ports_are_mapped() {
        samples::ports_are_mapped(&Cpu::new(2));
    }

    #[test]
    fn rows_keep_their_bits() {
        for threads in [0, 1, 3] {
            samples::rows_keep_their_bits(&Cpu::new(threads));
        }
    }

    #[test]
    fn types_are_converted() {
        samples::types_are_converted(&Cpu::new(1));
    }

    #[test]
    fn bad_models_are_refused() {
        samples::bad_models_are_refused(&Cpu::new(1));
    }

    #[test]
    fn integers_of_more_than_32_bits_are_refused() {
        let model = Cpu::new(1).open(&OnDisk::new(&cast(kind::INT64, kind::FLOAT)).path()).unwrap();
        let large = Tensor::from_i64(vec![1, 2], vec![1, 1 << 40]).unwrap();
        assert!(matches!(model.run(&[large]), Err(InferError::Input(_))));
    }
}
