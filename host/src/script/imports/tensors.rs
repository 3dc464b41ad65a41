//! `tensors`: handles on numbers that stay on the host, perhaps still being computed.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::Resource;

use super::{guest_size, permanent, size};
use crate::infer::session::Answer;
use crate::script::bindings::scorehost::script::tensors::{
    Element as GuestElement, Host, HostTensor as Methods, Largest,
};
use crate::script::bindings::scorehost::script::types::Failure;
use crate::script::limits::{Budget, Held};
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
    Later { source: Source, steps: Vec<Step> },
}

#[derive(Clone)]
enum Source {
    Numbers(Tensor),
    /// One of the outputs of a prediction.
    Output(Answer, usize),
}

/// What is done to a tensor once it is there.
#[derive(Clone, Copy)]
enum Step {
    Softmax,
    Slice { start: u32, count: u32 },
}

/// Steps on one tensor that was not read yet: nobody needs more, and each copy of the handle copies them.
const MAX_STEPS: usize = 16;

/// Entries that `top` returns at most: each costs the guest 8 bytes, and the host 16.
const MAX_TOP: usize = 4 << 20;

impl HostTensor {
    pub(super) fn ready(tensor: Tensor, held: Arc<Held>) -> Self {
        Self { value: Value::Ready(tensor), held }
    }

    pub(super) fn pending(answer: Answer, output: usize, held: Arc<Held>) -> Self {
        Self { value: Value::Later { source: Source::Output(answer, output), steps: Vec::new() }, held }
    }

    /// What it counts for in the instance's budget.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// The numbers, once they are there; from then on the handle holds them.
    pub(super) async fn numbers(&mut self, budget: &Arc<Budget>) -> Result<Tensor, Failure> {
        let (source, steps) = match &self.value {
            Value::Ready(tensor) => return Ok(tensor.clone()),
            Value::Later { source, steps } => (source.clone(), steps.clone()),
        };
        // A slice or a model's output is counted already.
        let softmax = steps.iter().position(|step| matches!(step, Step::Softmax)).unwrap_or(steps.len());
        let (views, copies) = steps.split_at(softmax);
        let mut tensor = taken(views.to_vec(), numbers_of(source).await?).await?;
        if !copies.is_empty() {
            // Another tensor, of floats, counted before it is made.
            let held = budget.take(tensor.len().saturating_mul(size_of::<f32>())).map_err(permanent)?;
            tensor = taken(copies.to_vec(), tensor).await?;
            self.held = held;
        }
        self.value = Value::Ready(tensor.clone());
        Ok(tensor)
    }

    fn then(&self, step: Step) -> Option<Self> {
        let (source, steps) = match &self.value {
            Value::Ready(tensor) => (Source::Numbers(tensor.clone()), [].as_slice()),
            Value::Later { source, steps } => (source.clone(), steps.as_slice()),
        };
        if steps.len() == MAX_STEPS {
            return None;
        }
        let steps = steps.iter().copied().chain([step]).collect();
        Some(Self { value: Value::Later { source, steps }, held: self.held() })
    }
}

/// What the steps of a tensor begin with, once it is there.
async fn numbers_of(source: Source) -> Result<Tensor, Failure> {
    match source {
        Source::Numbers(tensor) => Ok(tensor),
        Source::Output(answer, output) => {
            let outputs = answer.outputs().await.map_err(|e| Failure::from(e.as_ref()))?;
            outputs.get(output).cloned().ok_or_else(|| permanent("the model gave too few outputs"))
        }
    }
}

/// What remains after the steps.
async fn taken(steps: Vec<Step>, tensor: Tensor) -> Result<Tensor, Failure> {
    let large = tensor.len() > LARGE;
    let take_steps = move || {
        steps.into_iter().try_fold(tensor, |tensor, step| match step {
            Step::Softmax => Ok(tensor.softmax()),
            Step::Slice { start, count } => tensor.slice(size(start), size(count)),
        })
    };
    Ok(compute(large, take_steps).await??)
}

/// Elements beyond which numbers are worked on beside the script's thread, so that its deadline can end the wait.
const LARGE: usize = 1 << 20;

/// Large tensors of the process that are worked on at once. Work goes on when its script's time is up, and holds memory
/// that no instance is charged for any more; without a bound, a script that is tried again and again would pile it up.
static LARGE_AT_ONCE: Semaphore = Semaphore::const_new(4);

pub(super) async fn compute<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if !large {
        return Ok(work());
    }
    let permit = LARGE_AT_ONCE.acquire().await.map_err(|_| permanent("the host works on no tensors any more"))?;
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| permanent("the host failed to work on a tensor"))
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
            Ok(held) => Ok(Ok(self.things.push(HostTensor::ready(tensor, held))?)),
            Err(reason) => Ok(Err(permanent(reason))),
        }
    }

    fn made(&mut self, made: Result<Tensor, TensorError>) -> Answered<Handle> {
        match made {
            Ok(tensor) => self.hand_over(tensor),
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// The numbers of a tensor, once they are there.
    pub(super) async fn numbers(&mut self, handle: &Handle) -> Answered<Tensor> {
        Ok(self.things.get_mut(handle)?.numbers(&self.tensors).await)
    }

    /// Room for a copy of the numbers, of `bytes` each; refuses what the script's own memory could not take in.
    fn room_for_copy(&self, tensor: &Tensor, bytes: usize) -> Result<Arc<Held>, Failure> {
        let limit = self.services.limits.memory_bytes;
        let bytes = tensor.len().saturating_mul(bytes);
        if bytes <= limit {
            return self.tensors.take(bytes).map_err(permanent);
        }
        let numbers = tensor.len();
        Err(permanent(format!("{numbers} numbers are more than limits.memory has room for, which is {limit} bytes")))
    }

    async fn all_numbers(&mut self, handles: &[Handle]) -> Answered<Vec<Tensor>> {
        let mut all = Vec::with_capacity(handles.len());
        for handle in handles {
            match self.numbers(handle).await? {
                Ok(tensor) => all.push(tensor),
                Err(failure) => return Ok(Err(failure)),
            }
            // A guest can name millions: its deadline is looked at between them.
            tokio::task::yield_now().await;
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
        if let [only] = handles {
            // What is made of one part shares its memory, perhaps as a view of more: it counts for as long.
            let held = self.things.get(only)?.held();
            return match join(&parts) {
                Ok(tensor) => Ok(Ok(self.things.push(HostTensor::ready(tensor, held))?)),
                Err(error) => Ok(Err(error.into())),
            };
        }
        // Counted before it is made, since a guest can name one tensor many times.
        let bytes = parts.iter().map(Tensor::byte_len).fold(0, usize::saturating_add);
        match self.tensors.take(bytes) {
            Ok(held) => match compute(bytes > LARGE, move || join(&parts)).await {
                Err(failure) => Ok(Err(failure)),
                Ok(Ok(tensor)) => Ok(Ok(self.things.push(HostTensor::ready(tensor, held))?)),
                Ok(Err(error)) => Ok(Err(error.into())),
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
        let numbers = self.numbers(&this).await?;
        Ok(numbers.and_then(|tensor| self.room_for_copy(&tensor, 4).map(|_held| tensor.to_f32())))
    }

    async fn integers(&mut self, this: Handle) -> Answered<Vec<i64>> {
        Ok(self.numbers(&this).await?.and_then(|tensor| {
            let _held = self.room_for_copy(&tensor, 8)?;
            match (tensor.i64(), tensor.u8()) {
                (Some(integers), _) => Ok(integers.to_vec()),
                (_, Some(bytes)) => Ok(bytes.iter().map(|&b| i64::from(b)).collect()),
                _ => Err(permanent("the tensor holds floats, not integers")),
            }
        }))
    }

    async fn slice(&mut self, this: Handle, start: u32, count: u32) -> Answered<Handle> {
        let tensor = self.things.get(&this)?.clone();
        if let Value::Ready(numbers) = &tensor.value {
            return match numbers.slice(size(start), size(count)) {
                Ok(view) => Ok(Ok(self.things.push(HostTensor::ready(view, tensor.held()))?)),
                Err(error) => Ok(Err(error.into())),
            };
        }
        match tensor.then(Step::Slice { start, count }) {
            Some(later) => Ok(Ok(self.things.push(later)?)),
            None => Err(too_many_steps()),
        }
    }

    fn softmax(&mut self, this: Handle) -> wasmtime::Result<Handle> {
        let later = self.things.get(&this)?.then(Step::Softmax).ok_or_else(too_many_steps)?;
        Ok(self.things.push(later)?)
    }

    async fn top(&mut self, this: Handle, k: u32) -> Answered<Largest> {
        let tensor = match self.numbers(&this).await? {
            Ok(tensor) => tensor,
            Err(failure) => return Ok(Err(failure)),
        };
        let width = tensor.shape().last().copied().unwrap_or(1).max(1);
        let rows = tensor.len() / width;
        if rows.saturating_mul(width.min(size(k)).max(1)) > MAX_TOP {
            return Ok(Err(permanent(format!("the {k} largest of {rows} rows are more than {MAX_TOP} entries"))));
        }
        // All of it as floats, and a row's places in order; counted until the work has ended, wait or no wait.
        let bytes = tensor.len().saturating_mul(4).saturating_add(width.saturating_mul(8));
        let held = match self.tensors.take(bytes) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(permanent(reason))),
        };
        let work = move || (tensor.top(size(k)), drop(held)).0;
        let found = match compute(bytes / 4 > LARGE, work).await {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let width = guest_size(found.first().map_or(0, Vec::len));
        let (indices, scores) = found.into_iter().flatten().map(|(index, score)| (guest_size(index), score)).unzip();
        Ok(Ok(Largest { width, indices, scores }))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

fn too_many_steps() -> wasmtime::Error {
    wasmtime::format_err!("more than {MAX_STEPS} operations on a tensor that was never read")
}

pub(super) fn guest_element(element: Element) -> GuestElement {
    match element {
        Element::U8 => GuestElement::UnsignedByte,
        Element::I64 => GuestElement::Integer,
        Element::F32 => GuestElement::Float,
    }
}
