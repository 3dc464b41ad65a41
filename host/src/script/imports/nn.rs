//! `wasi:nn`: the models of the deployment, for components that were built against wasi-nn.
//!
//! What goes in: names of models, and tensors as bytes. What comes out: tensors that may still be being computed, and
//! may go into another model without passing through the script. Models that a script brings along are not taken.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::models::{MAX_PATH_BYTES, in_order};
use super::{HostTensor, guest_size, size};
use crate::infer::session::Session;
use crate::infer::{InferError, check_inputs};
use crate::script::bindings::nn::wasi::nn::errors::{ErrorCode, Host as ErrorsHost, HostError as ErrorMethods};
use crate::script::bindings::nn::wasi::nn::graph::{
    ExecutionTarget, GraphEncoding, Host as GraphHost, HostGraph as GraphMethods,
};
use crate::script::bindings::nn::wasi::nn::inference::{
    Host as InferenceHost, HostGraphExecutionContext as ContextMethods,
};
use crate::script::bindings::nn::wasi::nn::tensor::{Host as TensorHost, HostTensor as TensorMethods, TensorType};
use crate::script::bindings::scorehost::script::types::Failure;
use crate::script::limits::Held;
use crate::script::state::State;
use crate::tensor::{Element, Tensor};

/// An open model that a script holds.
pub struct NnGraph(Session);

/// The same, ready to run: sessions need nothing more.
pub struct NnContext(Session);

/// Why a call failed.
#[derive(Debug)]
pub struct NnError {
    code: ErrorCode,
    reason: String,
}

/// A tensor that a script holds.
pub enum NnTensor {
    /// 32-bit integers that the script gave, which models here take as 64-bit ones.
    Narrow(HostTensor),
    /// Any other that models here take.
    Usable(HostTensor),
    /// What none takes, as it was given, and why: making a tensor cannot fail in wasi-nn, using it can.
    Unusable { dimensions: Vec<u32>, ty: TensorType, data: Vec<u8>, _held: Arc<Held>, reason: NnError },
}

type Answered<T> = wasmtime::Result<Result<T, Resource<NnError>>>;

fn invalid(reason: impl Into<String>) -> NnError {
    NnError { code: ErrorCode::InvalidArgument, reason: reason.into() }
}

impl From<&InferError> for NnError {
    fn from(error: &InferError) -> Self {
        let code = match error {
            InferError::Input(_) => ErrorCode::InvalidArgument,
            InferError::TooLarge(_) => ErrorCode::TooLarge,
            InferError::Invalid { .. } => ErrorCode::InvalidEncoding,
            InferError::Unsupported { .. } => ErrorCode::UnsupportedOperation,
            InferError::Exhausting { .. } => ErrorCode::TooLarge,
            InferError::Read { .. } | InferError::Device { .. } | InferError::Unavailable { .. } => {
                ErrorCode::RuntimeError
            }
        };
        Self { code, reason: super::without_host_paths(error) }
    }
}

fn reason(failure: Failure) -> String {
    let (Failure::Transient(reason) | Failure::Permanent(reason)) = failure;
    reason
}

/// That a model failed is known when somebody asks for what it gives, and asking cannot fail in wasi-nn.
fn failed_late(failure: Failure) -> wasmtime::Error {
    wasmtime::format_err!("the model failed: {}", reason(failure))
}

impl State {
    fn answer<T: Send + 'static>(&mut self, result: Result<T, NnError>) -> Answered<Resource<T>> {
        Ok(match result {
            Ok(value) => Ok(self.things.push(value)?),
            Err(error) => Err(self.things.push(error)?),
        })
    }

    /// Room for a copy. A limit that is met ends the call, as that of the script's own memory does: there is no error to
    /// return.
    fn reserve(&self, bytes: usize) -> wasmtime::Result<Arc<Held>> {
        self.tensors.take(bytes).map_err(wasmtime::Error::msg)
    }

    async fn open_named(&mut self, name: String) -> wasmtime::Result<Result<NnGraph, NnError>> {
        if name.len() > MAX_PATH_BYTES {
            let reason = format!("a name of {} bytes; at most {MAX_PATH_BYTES} are taken", name.len());
            return Ok(Err(NnError { code: ErrorCode::NotFound, reason }));
        }
        let services = Arc::clone(&self.services);
        let open = move || {
            let found = services.models.find_named(&name);
            let path = found.map_err(|reason| NnError { code: ErrorCode::NotFound, reason })?;
            Ok(NnGraph(services.models.session(Some(&path)).map_err(|error| NnError::from(&error))?))
        };
        // Opening reads and compiles; a deadline can end the wait for it.
        Ok(tokio::task::spawn_blocking(open).await?)
    }

    /// Asks `session` for its outputs. The inputs are the host's already: wasi-nn hands them over.
    async fn computed(
        &mut self,
        session: &Session,
        inputs: Vec<(String, NnTensor)>,
    ) -> Result<Vec<(String, HostTensor)>, NnError> {
        let (mut given, mut kept) = (Vec::new(), Vec::new());
        for input in in_order(session.inputs(), inputs).map_err(invalid)? {
            let mut tensor = input.usable()?;
            // Another model was to give it.
            let lacking = |failure| NnError { code: ErrorCode::RuntimeError, reason: reason(failure) };
            given.push(tensor.numbers(&self.tensors).await.map_err(lacking)?);
            kept.push(tensor.held());
        }
        // Before the outputs are counted, since their size depends on the inputs'.
        check_inputs(session.inputs(), &given).map_err(|error| NnError::from(&error))?;
        let bytes = session.output_bytes(given.first().map_or(0, Tensor::rows));
        let held = self.tensors.take(bytes).map_err(|reason| NnError { code: ErrorCode::TooLarge, reason })?;
        self.pending(session, given, kept, &held).await.map_err(|error| NnError::from(&error))
    }
}

impl NnTensor {
    fn usable(self) -> Result<HostTensor, NnError> {
        match self {
            Self::Narrow(tensor) | Self::Usable(tensor) => Ok(tensor),
            Self::Unusable { reason, .. } => Err(reason),
        }
    }
}

/// The numbers that wasi-nn's little-endian bytes stand for.
fn numbers(dimensions: &[u32], ty: TensorType, data: &[u8]) -> Result<Tensor, NnError> {
    let shape: Vec<usize> = dimensions.iter().copied().map(size).collect();
    let made = match ty {
        TensorType::U8 => Tensor::from_u8(shape, data.to_vec()),
        TensorType::Fp32 => Tensor::from_f32(shape, read(data, f32::from_le_bytes)?),
        TensorType::I64 => Tensor::from_i64(shape, read(data, i64::from_le_bytes)?),
        TensorType::I32 => Tensor::from_i64(shape, read(data, |bytes| i64::from(i32::from_le_bytes(bytes)))?),
        TensorType::Fp16 | TensorType::Bf16 | TensorType::Fp64 => {
            let reason = "models here take tensors of FP32, U8, I64 and I32, and of no other type".into();
            return Err(NnError { code: ErrorCode::UnsupportedOperation, reason });
        }
    };
    made.map_err(|error| invalid(error.to_string()))
}

/// Elements of `N` bytes each.
fn read<const N: usize, T>(data: &[u8], element: impl Fn([u8; N]) -> T) -> Result<Vec<T>, NnError> {
    let (elements, rest) = data.as_chunks();
    if !rest.is_empty() {
        return Err(invalid(format!("{} bytes are no whole number of elements, which have {N} each", data.len())));
    }
    Ok(elements.iter().map(|&bytes| element(bytes)).collect())
}

fn little_endian(tensor: &Tensor, narrow: bool) -> Vec<u8> {
    match (tensor.u8(), tensor.i64(), tensor.f32()) {
        (Some(bytes), ..) => bytes.to_vec(),
        #[expect(clippy::cast_possible_truncation, reason = "they came as 32 bits")]
        (_, Some(integers), _) if narrow => integers.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect(),
        (_, Some(integers), _) => integers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        (.., floats) => floats.unwrap_or_default().iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

impl TensorHost for State {}
impl InferenceHost for State {}
impl ErrorsHost for State {}

impl GraphHost for State {
    fn load(&mut self, _: Vec<Vec<u8>>, _: GraphEncoding, _: ExecutionTarget) -> Answered<Resource<NnGraph>> {
        self.answer(Err(NnError {
            code: ErrorCode::UnsupportedOperation,
            reason:
                "a script's own model is not taken; put it into the deployment's model folder and use `load-by-name`"
                    .into(),
        }))
    }

    async fn load_by_name(&mut self, name: String) -> Answered<Resource<NnGraph>> {
        let opened = self.open_named(name).await?;
        self.answer(opened)
    }
}

impl GraphMethods for State {
    fn init_execution_context(&mut self, this: Resource<NnGraph>) -> Answered<Resource<NnContext>> {
        let session = self.things.get(&this)?.0.clone();
        self.answer(Ok(NnContext(session)))
    }

    fn drop(&mut self, this: Resource<NnGraph>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl ContextMethods for State {
    async fn compute(
        &mut self,
        this: Resource<NnContext>,
        inputs: Vec<(String, Resource<NnTensor>)>,
    ) -> Answered<Vec<(String, Resource<NnTensor>)>> {
        let session = self.things.get(&this)?.0.clone();
        let mut given = Vec::with_capacity(inputs.len());
        for (name, handle) in inputs {
            given.push((name, self.things.delete(handle)?));
        }
        match self.computed(&session, given).await {
            Ok(outputs) => {
                let push = |(name, tensor)| Ok((name, self.things.push(NnTensor::Usable(tensor))?));
                Ok(Ok(outputs.into_iter().map(push).collect::<wasmtime::Result<_>>()?))
            }
            Err(error) => Ok(Err(self.things.push(error)?)),
        }
    }

    fn drop(&mut self, this: Resource<NnContext>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl TensorMethods for State {
    fn new(&mut self, dimensions: Vec<u32>, ty: TensorType, data: Vec<u8>) -> wasmtime::Result<Resource<NnTensor>> {
        // Integers of 32 bits become ones of 64. Shapes are counted since they are kept as well.
        let bytes = data.len().saturating_mul(if ty == TensorType::I32 { 2 } else { 1 });
        let bytes = bytes.saturating_add(size_of_val(dimensions.as_slice()));
        let held = self.reserve(bytes)?;
        let tensor = match numbers(&dimensions, ty, &data) {
            Ok(tensor) => {
                let tensor = HostTensor::ready(tensor, held);
                if ty == TensorType::I32 { NnTensor::Narrow(tensor) } else { NnTensor::Usable(tensor) }
            }
            Err(reason) => NnTensor::Unusable { dimensions, ty, _held: held, data, reason },
        };
        Ok(self.things.push(tensor)?)
    }

    async fn dimensions(&mut self, this: Resource<NnTensor>) -> wasmtime::Result<Vec<u32>> {
        match self.things.get_mut(&this)? {
            NnTensor::Unusable { dimensions, .. } => Ok(dimensions.clone()),
            NnTensor::Narrow(tensor) | NnTensor::Usable(tensor) => {
                let tensor = tensor.numbers(&self.tensors).await.map_err(failed_late)?;
                Ok(tensor.shape().iter().copied().map(guest_size).collect())
            }
        }
    }

    async fn ty(&mut self, this: Resource<NnTensor>) -> wasmtime::Result<TensorType> {
        match self.things.get_mut(&this)? {
            NnTensor::Unusable { ty, .. } => Ok(*ty),
            NnTensor::Narrow(_) => Ok(TensorType::I32),
            NnTensor::Usable(tensor) => Ok(match tensor.numbers(&self.tensors).await.map_err(failed_late)?.element() {
                Element::U8 => TensorType::U8,
                Element::I64 => TensorType::I64,
                Element::F32 => TensorType::Fp32,
            }),
        }
    }

    async fn data(&mut self, this: Resource<NnTensor>) -> wasmtime::Result<Vec<u8>> {
        let (tensor, narrow) = match self.things.get_mut(&this)? {
            NnTensor::Unusable { data, .. } => {
                let _held = self.tensors.take(data.len()).map_err(wasmtime::Error::msg)?;
                return Ok(data.clone());
            }
            NnTensor::Narrow(tensor) => (tensor, true),
            NnTensor::Usable(tensor) => (tensor, false),
        };
        let tensor = tensor.numbers(&self.tensors).await.map_err(failed_late)?;
        let _held = self.reserve(tensor.byte_len())?;
        Ok(little_endian(&tensor, narrow))
    }

    fn drop(&mut self, this: Resource<NnTensor>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl ErrorMethods for State {
    fn code(&mut self, this: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.things.get(&this)?.code)
    }

    fn data(&mut self, this: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.things.get(&this)?.reason.clone())
    }

    fn drop(&mut self, this: Resource<NnError>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}
