//! A batch, row by row, over a few workers: each row is run alone, so that its bits depend neither on the rows beside it
//! nor on how many workers there are. CPU engines lose nothing by it: on ResNet-50, one row at a time on each core was
//! as fast as any batch, and faster than one row on all cores.
//! What goes in: a batch and what runs one row. What comes out: the rows' outputs, joined in order. Knows no engine.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use super::{InferError, Port};
use crate::tensor::Tensor;

/// What a worker needs for itself (threads, a session), lent to one call at a time.
pub(super) struct Lanes<L> {
    free: Mutex<Vec<L>>,
    returned: Condvar,
    count: usize,
}

impl<L: Send> Lanes<L> {
    pub(super) fn new(lanes: Vec<L>) -> Self {
        Self { count: lanes.len(), free: Mutex::new(lanes), returned: Condvar::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Waits for a lane and runs `work` with it. A lane whose work panicked is lent out again: engines here keep no
    /// state between runs that a panic could break.
    fn with<R>(&self, work: impl FnOnce(&mut L) -> R) -> std::thread::Result<R> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lane = loop {
            match free.pop() {
                Some(lane) => break lane,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut lane)));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        self.returned.notify_one();
        result
    }
}

/// Whether a model's rows can be run alone: the first dimension of every input and output is free, and the first batch
/// showed that rows do not look at each other.
pub(super) struct Separable {
    by_shape: bool,
    by_trial: OnceLock<bool>,
}

/// What rounding may change, as a part of an output's root mean square. A row that depends on its neighbours (a softmax
/// over the batch, say) changes by far more.
const ROUNDING: f64 = 1e-2;

impl Separable {
    pub(super) fn of(inputs: &[Port], outputs: &[Port]) -> Self {
        let free = |port: &Port| port.shape.first() == Some(&None);
        let by_shape = !inputs.is_empty() && !outputs.is_empty() && inputs.iter().chain(outputs).all(free);
        Self { by_shape, by_trial: OnceLock::new() }
    }

    /// Asks the shapes, and once, with the first two rows that come, the model itself.
    fn holds(&self, try_two: impl FnOnce() -> Result<(Vec<Tensor>, Vec<Tensor>), InferError>) -> bool {
        // A model that cannot run two rows at once can still run them one by one.
        self.by_shape
            && *self.by_trial.get_or_init(|| try_two().map_or(true, |(whole, alone)| are_close(&whole, &alone)))
    }
}

fn are_close(whole: &[Tensor], alone: &[Tensor]) -> bool {
    let square = |x: f32| f64::from(x).powi(2);
    whole.len() == alone.len()
        && whole.iter().zip(alone).all(|(a, b)| {
            let (a_numbers, b_numbers) = (a.to_f32(), b.to_f32());
            let size: f64 = a_numbers.iter().map(|&x| square(x)).sum();
            let difference: f64 = a_numbers.iter().zip(&b_numbers).map(|(&x, &y)| square(x - y)).sum();
            a.shape() == b.shape() && difference <= ROUNDING * ROUNDING * size
        })
}

/// The largest model file: what a protocol buffer can hold.
pub(super) const MOST_MODEL_BYTES: u64 = 1 << 31;

/// The bytes of the model file at `path`, if it is of a size that a model can have.
pub(super) fn read_model(path: &Path) -> Result<Vec<u8>, InferError> {
    let failed = |source| InferError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // Read with a bound, and not by the size that the file system gives: the path may be a pipe.
    file.take(MOST_MODEL_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let invalid = |reason: &str| Err(InferError::Invalid { path: path.into(), reason: reason.into() });
    match bytes.len() as u64 {
        0 => invalid("it is empty"),
        n if n > MOST_MODEL_BYTES => invalid("it is larger than 2 GiB"),
        _ => Ok(bytes),
    }
}

/// What one call is about.
pub(super) struct Batch<'a> {
    /// The engine, for errors.
    pub(super) backend: &'static str,
    /// One tensor per input.
    pub(super) inputs: &'a [Tensor],
    /// Whether rows may be run alone.
    pub(super) separable: &'a Separable,
}

impl Batch<'_> {
    /// Runs the batch with `run`, row by row where that is possible, on all lanes that are free.
    pub(super) fn run<L: Send>(
        &self,
        lanes: &Lanes<L>,
        run: impl Fn(&mut L, &[Tensor]) -> Result<Vec<Tensor>, InferError> + Sync,
    ) -> Result<Vec<Tensor>, InferError> {
        let backend = self.backend;
        let guarded = |inputs: &[Tensor]| {
            lanes.with(|lane| run(lane, inputs)).unwrap_or_else(|_| {
                Err(InferError::Device { backend, reason: "the engine panicked".into(), transient: false })
            })
        };
        let rows = self.inputs.first().map_or(0, Tensor::rows);
        if rows == 0 {
            return Err(InferError::Input("a batch without rows".into()));
        }
        let together = || -> Result<_, InferError> {
            let whole = guarded(&self.rows(0, 2)?)?;
            let alone = [0, 1].map(|i| guarded(&self.rows(i, 1)?).map(|row| OnceLock::from(Ok(row))));
            let [first, second] = alone;
            Ok((whole, self.joined(vec![first?, second?])?))
        };
        let is_uneven = self.inputs.iter().any(|input| input.rows() != rows);
        if rows == 1 || is_uneven || !self.separable.holds(together) {
            return guarded(self.inputs);
        }
        let (next, done) = (AtomicUsize::new(0), (0..rows).map(|_| OnceLock::new()).collect::<Vec<_>>());
        let worker = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = done.get(i) else { return };
                let result = self.rows(i, 1).and_then(|inputs| guarded(&inputs));
                if result.is_err() {
                    // The batch has failed; the rows after this one are of no use.
                    next.store(rows, Ordering::Relaxed);
                }
                let _ = place.set(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..lanes.count().min(rows) {
                // Without another thread, this one does the work.
                let _ = std::thread::Builder::new().name(backend.into()).spawn_scoped(scope, worker);
            }
            worker();
        });
        self.joined(done)
    }

    fn rows(&self, start: usize, count: usize) -> Result<Vec<Tensor>, InferError> {
        let slice = |input: &Tensor| input.slice(start, count).map_err(|e| InferError::Input(e.to_string()));
        self.inputs.iter().map(slice).collect()
    }

    /// Each output's rows in order, or the first row's error.
    fn joined(&self, done: Vec<OnceLock<Result<Vec<Tensor>, InferError>>>) -> Result<Vec<Tensor>, InferError> {
        let mut outputs: Vec<Vec<Tensor>> = Vec::new();
        // Rows are begun in order, so one that was not run comes after one that failed.
        for result in done.into_iter().filter_map(OnceLock::into_inner) {
            let row = result?;
            outputs.resize_with(row.len(), Vec::new);
            for (output, part) in outputs.iter_mut().zip(row) {
                if part.rows() != 1 {
                    let reason = format!("an output has {} rows for one row of input", part.rows());
                    return Err(InferError::Device { backend: self.backend, reason, transient: false });
                }
                output.push(part);
            }
        }
        let failed = |e: crate::tensor::TensorError| InferError::Device {
            backend: self.backend,
            reason: format!("rows of an output differ: {e}"),
            transient: false,
        };
        outputs.iter().map(|parts| Tensor::concatenate(parts).map_err(failed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Element;

    fn batch(rows: usize) -> Vec<Tensor> {
        vec![Tensor::from_f32(vec![rows, 2], (0..rows * 2).map(|i| i as f32).collect()).unwrap()]
    }

    fn run(
        rows: usize,
        separable: bool,
        work: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, InferError> + Sync,
    ) -> Result<Vec<Tensor>, InferError> {
        let lanes = Lanes::new(vec![(); 3]);
        let separable = &Separable { by_shape: separable, by_trial: OnceLock::from(true) };
        let result = Batch { backend: "test", inputs: &batch(rows), separable }.run(&lanes, |(), inputs| work(inputs));
        assert_eq!(lanes.free.lock().unwrap().len(), 3, "every lane is given back");
        result
    }

    #[test]
    fn rows_come_back_in_order() {
        for rows in [1, 2, 3, 50] {
            let out = run(rows, true, |inputs| {
                assert_eq!(inputs[0].rows(), 1);
                Ok(vec![inputs[0].clone(), inputs[0].clone()])
            });
            let out = out.unwrap();
            assert_eq!(out.len(), 2);
            assert_eq!(out[1].f32(), batch(rows)[0].f32());
        }
    }

    #[test]
    fn batches_that_cannot_be_cut_are_run_whole() {
        let out = run(4, false, |inputs| Ok(inputs.to_vec())).unwrap();
        assert_eq!(out[0].shape(), [4, 2]);
    }

    #[test]
    fn a_model_whose_rows_look_at_each_other_is_run_whole() {
        // Each number divided by the sum over the batch, as a softmax over the wrong axis does.
        let mixes = |inputs: &[Tensor]| {
            let numbers = inputs[0].f32().unwrap();
            let sum: f32 = numbers.iter().sum();
            let shape = inputs[0].shape().to_vec();
            Ok(vec![Tensor::from_f32(shape, numbers.iter().map(|x| x / sum).collect()).unwrap()])
        };
        let separable = &Separable { by_shape: true, by_trial: OnceLock::new() };
        let inputs = batch(4);
        let out = Batch { backend: "test", inputs: &inputs, separable }.run(&Lanes::new(vec![()]), |(), i| mixes(i));
        assert_eq!(out.unwrap()[0].f32(), mixes(&inputs).unwrap()[0].f32());
    }

    #[test]
    fn one_failed_row_fails_the_batch_with_its_error() {
        for (what, text) in [("panic", "panicked"), ("fail", "bad row")] {
            let out = run(20, true, |inputs| match (inputs[0].f32().unwrap()[0], what) {
                (10.0, "panic") => panic!("on purpose"),
                (10.0, _) => Err(InferError::Input("bad row".into())),
                _ => Ok(inputs.to_vec()),
            });
            assert!(out.unwrap_err().to_string().contains(text), "{what}");
        }
    }

    #[test]
    fn an_output_that_is_not_by_row_is_refused() {
        assert!(run(2, true, |_| Ok(batch(3))).is_err());
        assert!(run(0, true, |inputs| Ok(inputs.to_vec())).is_err());
    }

    #[test]
    fn only_free_first_dimensions_can_be_cut() {
        let port = |first| Port { name: "x".into(), shape: vec![first, Some(3)], element: Element::F32 };
        let separable = |inputs: &[Port], outputs: &[Port]| Separable::of(inputs, outputs).by_shape;
        assert!(separable(&[port(None)], &[port(None)]));
        assert!(!separable(&[port(Some(8))], &[port(None)]));
        assert!(!separable(&[port(None)], &[port(None), port(Some(1))]));
        assert!(!separable(&[port(None)], &[]));
    }
}
