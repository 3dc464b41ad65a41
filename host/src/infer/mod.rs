//! Model file → graph → backend → predictions.
//!
//! What goes in: an ONNX file below a deployment's model folder, and tensors. What comes out: tensors.
//! Every backend is one [`Backend`]; backends never name each other. Choosing one is [`device`]'s.

pub mod batcher;
pub mod cpu;
pub mod device;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "gpu")]
pub mod graph;
#[cfg(feature = "gpu")]
pub mod onnx;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
mod rows;
#[cfg(test)]
mod samples;
pub mod session;
pub mod sound;
pub mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::Fault;
use crate::tensor::{Element, Tensor};

/// An input or an output of a model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The size of each dimension; absent ones are free, as a batch dimension is.
    pub shape: Vec<Option<usize>>,
    /// The type of its elements.
    pub element: Element,
}

/// In how many bits an engine keeps a model's values and weights. Sums are always made in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    Single,
    /// 16-bit floats; a model's outputs, and what its softmax reads, stay in 32 bits.
    Half,
}

impl Precision {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Precision::Single => 4,
            Precision::Half => 2,
        }
    }
}

/// Something that opens models: an engine on a device.
pub trait Backend: Send + Sync {
    /// The name that deployments and job records use: `gpu`, `cpu`, `onnxruntime`.
    fn name(&self) -> &'static str;

    /// The device in words, for people: adapter and driver, or the CPU engine and its threads.
    fn describe(&self) -> String;

    /// What decides the bits of its results: the engine, and the adapter and driver where there are such. A job that is
    /// resumed must find it unchanged.
    fn identity(&self) -> String {
        self.describe()
    }

    /// What users should know about the runs since the last call, though none failed.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads and checks the model at `path`, so that `run` does not meet its errors first.
    ///
    /// # Errors
    /// If the file cannot be read, is not a model, or needs what this backend does not have.
    fn open(&self, path: &Path) -> Result<Box<dyn Model>, InferError>;
}

/// An open model. `run` may be called from several threads at once.
pub trait Model: Send + Sync {
    /// The inputs, in the graph's order.
    fn inputs(&self) -> &[Port];

    /// The outputs, in the graph's order.
    fn outputs(&self) -> &[Port];

    /// How many threads may usefully call [`Model::run`] at once.
    fn workers(&self) -> usize {
        1
    }

    /// What joins the rows of several calls, if this model gains by it and each row keeps its bits.
    fn joined(&self) -> Option<(Arc<batcher::Batcher>, Arc<dyn batcher::Joined>)> {
        None
    }

    /// Every output, in the order of [`Model::outputs`], for one tensor per input, in the order of
    /// [`Model::inputs`]. Shapes and types have been checked with [`check_inputs`].
    ///
    /// The same input rows give the same output bits on every call, whatever else runs.
    ///
    /// # Errors
    /// If the device or the engine fails.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError>;
}

/// Why a model cannot be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The file is missing or unreadable.
    #[error("cannot read model `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a model, or is cut off.
    #[error("`{path}` is not an ONNX model: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An engine does not come to an end with the file.
    #[error("`{path}` does not open {reason}")]
    Exhausting {
        /// Which file.
        path: PathBuf,
        /// Within what, how that ended, and the cure.
        reason: String,
    },
    /// The model needs what the backend does not have.
    #[error("{backend} cannot run node `{node}` ({operation}): {reason}")]
    Unsupported {
        /// Which backend.
        backend: &'static str,
        /// The node's name in the graph.
        node: String,
        /// The node's operation.
        operation: String,
        /// What is not supported, and what is.
        reason: String,
    },
    /// The inputs do not fit the model.
    #[error("{0}")]
    Input(String),
    /// What the model gave passes the limit of whoever asked.
    #[error("{0}")]
    TooLarge(String),
    /// The device is lost or out of memory, or the engine failed.
    #[error("{backend} failed: {reason}")]
    Device {
        /// Which backend.
        backend: &'static str,
        /// What it said.
        reason: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },
    /// The backend is not to be had on this machine.
    #[error("device `{backend}` is not available: {reason}")]
    Unavailable {
        /// Which backend.
        backend: &'static str,
        /// Why not, and the cure.
        reason: String,
    },
}

impl InferError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            InferError::Read { .. }
            | InferError::Invalid { .. }
            | InferError::Exhausting { .. }
            | InferError::Unsupported { .. }
            | InferError::Unavailable { .. } => Fault::Caller,
            InferError::Input(_) | InferError::TooLarge(_) => Fault::Script,
            InferError::Device { transient: true, .. } => Fault::Transient,
            InferError::Device { .. } => Fault::Host,
        }
    }
}

/// Checks that `inputs` fit `ports`: their count, types, ranks and fixed sizes.
///
/// # Errors
/// Names the first input that does not fit, what it is and what the model takes.
pub fn check_inputs(ports: &[Port], inputs: &[Tensor]) -> Result<(), InferError> {
    if ports.len() != inputs.len() {
        return Err(InferError::Input(format!("the model takes {} inputs, not {}", ports.len(), inputs.len())));
    }
    for (port, tensor) in ports.iter().zip(inputs) {
        let fits = port.shape.len() == tensor.shape().len()
            && port.shape.iter().zip(tensor.shape()).all(|(want, &have)| want.is_none_or(|w| w == have));
        if !fits || port.element != tensor.element() {
            return Err(InferError::Input(format!(
                "input `{}` takes {} of shape {}, not {} of shape {}",
                port.name,
                element_name(port.element),
                shape_text(&port.shape),
                element_name(tensor.element()),
                shape_text(&tensor.shape().iter().map(|&n| Some(n)).collect::<Vec<_>>()),
            )));
        }
    }
    Ok(())
}

/// An element type as messages print it.
pub fn element_name(element: Element) -> &'static str {
    match element {
        Element::U8 => "unsigned bytes",
        Element::I64 => "integers",
        Element::F32 => "floats",
    }
}

/// A shape as messages print it: `N×3×224×224`, where letters stand for free sizes.
pub fn shape_text(shape: &[Option<usize>]) -> String {
    let part = |(i, n): (usize, &Option<usize>)| match n {
        Some(n) => n.to_string(),
        None if i == 0 => "N".to_owned(),
        None => "?".to_owned(),
    };
    shape.iter().enumerate().map(part).collect::<Vec<_>>().join("×")
}
