//! `tensors`: handles on numbers that stay on the host, perhaps still being computed.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::{guest_size, permanent, size};
use crate::infer::session::Answer;
use crate::script::bindings::scorehost::script::tensors::{
    Element as GuestElement, Host, HostTensor as Methods, Scored,
};
use crate::script::bindings::scorehost::script::types::Failure;
use crate::script::limits::Held;
use crate::script::state::State;
use crate::tensor::{Element, Tensor, TensorError};

/// A tensor that a script holds.
#[derive(Clone)]
pub struct HostTensor {
    value: Value,
    /// What it counts for in the instance's budget; shared with its views.
    held: Arc<Held>,
}

#[derive(Clone)]
enum Value {
    Ready(Tensor),
    Pending { answer: Answer, output: usize, steps: Vec<Step> },
}

/// What is done to a pending tensor once it is there.
#[derive(Clone, Copy)]
enum Step {
    Softmax,
    Slice { start: u32, count: u32 },
}

/// Steps on one pending tensor: nobody needs more, and each copy of the handle copies them.
const MAX_STEPS: usize = 16;

/// Entries that `top` returns at most: each costs the guest 8 bytes, and the host 16.
const MAX_TOP: usize = 4 << 20;

impl HostTensor {
    pub(super) fn ready(tensor: Tensor, held: Arc<Held>) -> Self {
        Self { value: Value::Ready(tensor), held }
    }

    pub(super) fn pending(answer: Answer, output: usize, held: Arc<Held>) -> Self {
        Self { value: Value::Pending { answer, output, steps: Vec::new() }, held }
    }

    /// The numbers, once they are there.
    pub(super) async fn numbers(&self) -> Result<Tensor, Failure> {
        let (answer, output, steps) = match &self.value {
            Value::Ready(tensor) => return Ok(tensor.clone()),
            Value::Pending { answer, output, steps } => (answer, *output, steps),
        };
        let outputs = answer.outputs().await.map_err(|e| Failure::from(e.as_ref()))?;
        let mut tensor = outputs.get(output).cloned().ok_or_else(|| permanent("the model gave too few outputs"))?;
        for step in steps {
            tensor = match *step {
                Step::Softmax => tensor.softmax(),
                Step::Slice { start, count } => tensor.slice(size(start), size(count))?,
            };
        }
        Ok(tensor)
    }

    fn then(&self, step: Step) -> Option<Self> {
        let Value::Pending { answer, output, steps } = &self.value else { return None };
        if steps.len() == MAX_STEPS {
            return None;
        }
        let steps = steps.iter().copied().chain([step]).collect();
        let value = Value::Pending { answer: answer.clone(), output: *output, steps };
        Some(Self { value, held: Arc::clone(&self.held) })
    }
}

impl From<TensorError> for Failure {
    fn from(error: TensorError) -> Self {
        permanent(error.to_string())
    }
}

type Answered<T> = wasmtime::Result<Result<T, Failure>>;
type Handle = Resource<HostTensor>;

impl State {
    /// Hands a tensor to the guest, or says which limit it passes.
    pub(super) fn hand_over(&mut self, tensor: Tensor) -> Answered<Handle> {
        match self.tensors.take(tensor.byte_len()) {
            Ok(held) => Ok(Ok(self.table.push(HostTensor::ready(tensor, held))?)),
            Err(reason) => Ok(Err(permanent(reason))),
        }
    }

    fn made(&mut self, made: Result<Tensor, TensorError>) -> Answered<Handle> {
        match made {
            Ok(tensor) => self.hand_over(tensor),
            Err(error) => Ok(Err(error.into())),
        }
    }

    pub(super) async fn numbers(&mut self, handle: &Handle) -> Answered<Tensor> {
        // Cloned, since the table cannot stay borrowed while the answer is awaited.
        let tensor = self.table.get(handle)?.clone();
        Ok(tensor.numbers().await)
    }

    async fn all_numbers(&mut self, handles: &[Handle]) -> Answered<Vec<Tensor>> {
        let mut all = Vec::with_capacity(handles.len());
        for handle in handles {
            match self.numbers(handle).await? {
                Ok(tensor) => all.push(tensor),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(all))
    }

    async fn joined(
        &mut self,
        handles: &[Handle],
        join: fn(&[Tensor]) -> Result<Tensor, TensorError>,
    ) -> Answered<Handle> {
        let parts = match self.all_numbers(handles).await? {
            Ok(parts) => parts,
            Err(failure) => return Ok(Err(failure)),
        };
        // Counted before it is made, since a guest can name one tensor many times.
        let bytes = parts.iter().map(Tensor::byte_len).fold(0, usize::saturating_add);
        match self.tensors.take(bytes) {
            Ok(held) => match join(&parts) {
                Ok(tensor) => Ok(Ok(self.table.push(HostTensor::ready(tensor, held))?)),
                Err(error) => Ok(Err(error.into())),
            },
            Err(reason) => Ok(Err(permanent(reason))),
        }
    }
}

fn sizes(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|&n| size(n)).collect()
}

impl Host for State {
    async fn stack(&mut self, parts: Vec<Handle>) -> Answered<Handle> {
        self.joined(&parts, Tensor::stack).await
    }

    async fn concatenate(&mut self, parts: Vec<Handle>) -> Answered<Handle> {
        self.joined(&parts, Tensor::concatenate).await
    }
}

impl Methods for State {
    fn from_floats(&mut self, shape: Vec<u32>, data: Vec<f32>) -> Answered<Handle> {
        self.made(Tensor::from_f32(sizes(&shape), data))
    }

    fn from_bytes(&mut self, shape: Vec<u32>, data: Vec<u8>) -> Answered<Handle> {
        self.made(Tensor::from_u8(sizes(&shape), data))
    }

    fn from_integers(&mut self, shape: Vec<u32>, data: Vec<i64>) -> Answered<Handle> {
        self.made(Tensor::from_i64(sizes(&shape), data))
    }

    async fn shape(&mut self, this: Handle) -> Answered<Vec<u32>> {
        Ok(self.numbers(&this).await?.map(|t| t.shape().iter().map(|&n| guest_size(n)).collect()))
    }

    async fn element(&mut self, this: Handle) -> Answered<GuestElement> {
        Ok(self.numbers(&this).await?.map(|t| guest_element(t.element())))
    }

    async fn floats(&mut self, this: Handle) -> Answered<Vec<f32>> {
        Ok(self.numbers(&this).await?.map(|t| t.to_f32()))
    }

    async fn integers(&mut self, this: Handle) -> Answered<Vec<i64>> {
        Ok(self.numbers(&this).await?.and_then(|t| match (t.i64(), t.u8()) {
            (Some(integers), _) => Ok(integers.to_vec()),
            (_, Some(bytes)) => Ok(bytes.iter().map(|&b| i64::from(b)).collect()),
            _ => Err(permanent("the tensor holds floats, not integers")),
        }))
    }

    async fn slice(&mut self, this: Handle, start: u32, count: u32) -> Answered<Handle> {
        let tensor = self.table.get(&this)?.clone();
        if let Some(later) = tensor.then(Step::Slice { start, count }) {
            return Ok(Ok(self.table.push(later)?));
        }
        match tensor.numbers().await.and_then(|t| Ok(t.slice(size(start), size(count))?)) {
            Ok(view) => Ok(Ok(self.table.push(HostTensor::ready(view, tensor.held))?)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn softmax(&mut self, this: Handle) -> wasmtime::Result<Handle> {
        let tensor = self.table.get(&this)?.clone();
        let softened = match (&tensor.value, tensor.then(Step::Softmax)) {
            (_, Some(later)) => later,
            (Value::Ready(numbers), None) => {
                let held = self.tensors.take(numbers.len().saturating_mul(4)).map_err(wasmtime::Error::msg)?;
                HostTensor::ready(numbers.softmax(), held)
            }
            (Value::Pending { .. }, None) => {
                return Err(wasmtime::format_err!("more than {MAX_STEPS} operations on a result that was never read"));
            }
        };
        Ok(self.table.push(softened)?)
    }

    async fn top(&mut self, this: Handle, k: u32) -> Answered<Vec<Vec<Scored>>> {
        let tensor = match self.numbers(&this).await? {
            Ok(tensor) => tensor,
            Err(failure) => return Ok(Err(failure)),
        };
        let width = tensor.shape().last().copied().unwrap_or(1).max(1);
        let rows = tensor.len() / width;
        if rows.saturating_mul(width.min(size(k))) > MAX_TOP {
            return Ok(Err(permanent(format!("the {k} largest of {rows} rows are more than {MAX_TOP} entries"))));
        }
        let scored = |(index, score)| Scored { index: guest_size(index), score };
        Ok(Ok(tensor.top(size(k)).into_iter().map(|row| row.into_iter().map(scored).collect()).collect()))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

pub(super) fn guest_element(element: Element) -> GuestElement {
    match element {
        Element::U8 => GuestElement::UnsignedByte,
        Element::I64 => GuestElement::Integer,
        Element::F32 => GuestElement::Float,
    }
}
