//! Dense row-major arrays that pass between pictures, models and scripts.
//! What goes in: a shape and as many numbers as it says. No arithmetic of models lives here.

use std::sync::Arc;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// Unsigned 8-bit integers, as pixels are.
    U8,
    /// Signed 64-bit integers, as class numbers are.
    I64,
    /// 32-bit floats.
    F32,
}

/// The numbers of a tensor, shared between its views.
#[derive(Clone, Debug)]
pub enum Data {
    /// See [`Element::U8`].
    U8(Arc<Vec<u8>>),
    /// See [`Element::I64`].
    I64(Arc<Vec<i64>>),
    /// See [`Element::F32`].
    F32(Arc<Vec<f32>>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::U8(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::F32(v) => v.len(),
        }
    }
}

/// A row-major array of rank 1 or more; cloning and slicing share its numbers.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
    /// Where this view begins in `data`, in elements.
    start: usize,
}

/// Dimensions of a tensor at most: several times those of any model, so that shapes need no account of their own.
pub const MAX_RANK: usize = 32;

/// Why a tensor cannot be made or joined.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TensorError {
    /// The shape's product is not the count of numbers given.
    #[error("shape {shape:?} holds {expected} elements, not {given}")]
    Size {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Its product.
        expected: usize,
        /// The numbers given.
        given: usize,
    },
    /// The shape's product overflows.
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// More dimensions than [`MAX_RANK`].
    #[error("a shape of {0} dimensions; at most {MAX_RANK} are taken")]
    Rank(usize),
    /// Rows outside the first dimension.
    #[error("rows {start} to {end} of a tensor with {rows} rows")]
    Rows {
        /// First row asked for.
        start: usize,
        /// One past the last.
        end: usize,
        /// What there is.
        rows: usize,
    },
    /// Tensors of different shape or type were joined, or none at all.
    #[error("cannot join {0}")]
    Mismatch(String),
}

impl Tensor {
    /// `data` seen as `shape`.
    ///
    /// # Errors
    /// If their sizes differ, the shape overflows, or it has no dimension or too many.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self, TensorError> {
        let expected = element_count(&shape)?;
        let given = data.len();
        if expected != given || shape.is_empty() {
            return Err(TensorError::Size { shape, expected, given });
        }
        Ok(Self { shape, data, start: 0 })
    }

    /// Floats seen as `shape`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_f32(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, TensorError> {
        Self::new(shape, Data::F32(Arc::new(data)))
    }

    /// Bytes seen as `shape`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_u8(shape: Vec<usize>, data: Vec<u8>) -> Result<Self, TensorError> {
        Self::new(shape, Data::U8(Arc::new(data)))
    }

    /// Integers seen as `shape`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_i64(shape: Vec<usize>, data: Vec<i64>) -> Result<Self, TensorError> {
        Self::new(shape, Data::I64(Arc::new(data)))
    }

    /// The size of each dimension, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The size of the first dimension.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn element(&self) -> Element {
        match self.data {
            Data::U8(_) => Element::U8,
            Data::I64(_) => Element::I64,
            Data::F32(_) => Element::F32,
        }
    }

    /// The elements, if they are floats.
    pub fn f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(&v[self.start..self.start + self.len()]),
            _ => None,
        }
    }

    /// The elements, if they are bytes.
    pub fn u8(&self) -> Option<&[u8]> {
        match &self.data {
            Data::U8(v) => Some(&v[self.start..self.start + self.len()]),
            _ => None,
        }
    }

    /// The elements, if they are integers.
    pub fn i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(v) => Some(&v[self.start..self.start + self.len()]),
            _ => None,
        }
    }

    /// The elements as floats, whatever their type; integers beyond 2²⁴ are rounded.
    #[expect(clippy::cast_precision_loss, reason = "documented: the nearest float")]
    pub fn to_f32(&self) -> Vec<f32> {
        let range = self.start..self.start + self.len();
        match &self.data {
            Data::U8(v) => v[range].iter().map(|&x| f32::from(x)).collect(),
            Data::I64(v) => v[range].iter().map(|&x| x as f32).collect(),
            Data::F32(v) => v[range].to_vec(),
        }
    }

    /// Rows `start` to `start + count` along the first dimension: a view, not a copy.
    ///
    /// # Errors
    /// If they leave the tensor.
    pub fn slice(&self, start: usize, count: usize) -> Result<Self, TensorError> {
        let rows = self.rows();
        let end = start.saturating_add(count);
        if end > rows {
            return Err(TensorError::Rows { start, end, rows });
        }
        // Not the product of the other dimensions, which may overflow where the first is zero.
        let row = self.len() / rows.max(1);
        let mut shape = self.shape.clone();
        shape[0] = count;
        Ok(Self { shape, data: self.data.clone(), start: self.start + start * row })
    }

    /// Tensors joined along their first dimension.
    ///
    /// # Errors
    /// If there are none, or their types or other dimensions differ.
    pub fn concatenate(parts: &[Tensor]) -> Result<Self, TensorError> {
        let first = parts.first().ok_or_else(|| TensorError::Mismatch("no tensors".into()))?;
        if let [only] = parts {
            return Ok(only.clone());
        }
        let mut rows = 0usize;
        for part in parts {
            if part.shape[1..] != first.shape[1..] || part.element() != first.element() {
                return Err(TensorError::Mismatch(format!(
                    "{:?} of {:?} to {:?} of {:?}",
                    part.shape,
                    part.element(),
                    first.shape,
                    first.element()
                )));
            }
            rows += part.rows();
        }
        let mut shape = first.shape.clone();
        shape[0] = rows;
        let size = element_count(&shape)?;
        match first.element() {
            Element::F32 => Self::from_f32(shape, join(parts, size, Tensor::f32)),
            Element::U8 => Self::from_u8(shape, join(parts, size, Tensor::u8)),
            Element::I64 => Self::from_i64(shape, join(parts, size, Tensor::i64)),
        }
    }

    /// Tensors of one shape, stacked along a new first dimension.
    ///
    /// # Errors
    /// As [`Tensor::concatenate`].
    pub fn stack(parts: &[Tensor]) -> Result<Self, TensorError> {
        let raised = parts.iter().map(|part| {
            let mut part = part.clone();
            part.shape.insert(0, 1);
            element_count(&part.shape).map(|_| part)
        });
        Self::concatenate(&raised.collect::<Result<Vec<_>, _>>()?)
    }

    /// Softmax along the last dimension, in 64-bit arithmetic; bytes and integers are taken as floats.
    pub fn softmax(&self) -> Self {
        let mut values = self.to_f32();
        let width = self.shape[self.shape.len() - 1].max(1);
        for row in values.chunks_mut(width) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
            for x in row {
                #[expect(clippy::cast_possible_truncation, reason = "a probability fits")]
                let p = (f64::from(*x - largest).exp() / sum) as f32;
                *x = p;
            }
        }
        Self { shape: self.shape.clone(), data: Data::F32(Arc::new(values)), start: 0 }
    }

    /// For each row of the last dimension, its `k` largest entries and their indices, largest first;
    /// of equal ones the lower index; NaN counts as smaller than any number.
    pub fn top(&self, k: usize) -> Vec<Vec<(usize, f32)>> {
        let width = self.shape[self.shape.len() - 1].max(1);
        self.to_f32().chunks(width).map(|row| top_of(row, k)).collect()
    }

    /// How many bytes the elements of this view take.
    pub fn byte_len(&self) -> usize {
        self.len()
            * match self.element() {
                Element::U8 => 1,
                Element::I64 => 8,
                Element::F32 => 4,
            }
    }
}

fn join<T: Copy>(parts: &[Tensor], size: usize, read: impl Fn(&Tensor) -> Option<&[T]>) -> Vec<T> {
    let mut all = Vec::with_capacity(size);
    for part in parts {
        all.extend_from_slice(read(part).expect("types were compared above; this is a bug"));
    }
    all
}

fn top_of(row: &[f32], k: usize) -> Vec<(usize, f32)> {
    let k = k.min(row.len());
    let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    if k == 1 {
        let best = row
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (i, &x)| if key(x) > best.1 { (i, x) } else { best });
        return vec![(best.0, row[best.0])];
    }
    let larger_first = |&a: &usize, &b: &usize| key(row[b]).total_cmp(&key(row[a])).then(a.cmp(&b));
    let mut order: Vec<usize> = (0..row.len()).collect();
    if k < row.len() {
        // Only what is asked for is sorted.
        order.select_nth_unstable_by(k, larger_first);
        order.truncate(k);
    }
    order.sort_unstable_by(larger_first);
    order.into_iter().map(|i| (i, row[i])).collect()
}

/// The product of a shape, refused where it overflows: shapes come from guests and files.
fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > MAX_RANK {
        return Err(TensorError::Rank(shape.len()));
    }
    shape
        .iter()
        .try_fold(1usize, |all, &n| all.checked_mul(n))
        .filter(|&n| n <= isize::MAX as usize / 8)
        .ok_or_else(|| TensorError::TooLarge(shape.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::from_f32(shape.to_vec(), (0..n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn a_shape_that_lies_is_refused() {
        assert!(Tensor::from_f32(vec![2, 2], vec![0.0; 3]).is_err());
        assert!(Tensor::from_f32(vec![usize::MAX, 2], vec![]).is_err());
        assert!(Tensor::from_f32(vec![], vec![0.0]).is_err());
        assert_eq!(Tensor::from_f32(vec![1; 33], vec![0.0]).unwrap_err(), TensorError::Rank(33));
        let deepest = Tensor::from_f32(vec![1; 32], vec![0.0]).unwrap();
        assert_eq!(Tensor::stack(&[deepest]).unwrap_err(), TensorError::Rank(33));
        let empty = Tensor::from_f32(vec![0, usize::MAX, usize::MAX], vec![]).unwrap();
        assert_eq!(empty.slice(0, 0).unwrap().len(), 0);
    }

    #[test]
    fn slices_are_views_and_stay_inside() {
        let t = numbers(&[4, 2]);
        assert_eq!(t.slice(1, 2).unwrap().slice(1, 1).unwrap().f32().unwrap(), &[4.0, 5.0]);
        assert!(t.slice(3, 2).is_err());
        assert!(t.slice(usize::MAX, 2).is_err());
    }

    #[test]
    fn joining_keeps_order_and_refuses_other_shapes() {
        let t = numbers(&[4, 2]);
        let back = Tensor::concatenate(&[t.slice(0, 1).unwrap(), t.slice(1, 3).unwrap()]).unwrap();
        assert_eq!((back.shape(), back.f32()), (t.shape(), t.f32()));
        assert_eq!(Tensor::stack(&[numbers(&[3]), numbers(&[3])]).unwrap().shape(), &[2, 3]);
        assert!(Tensor::concatenate(&[numbers(&[1, 2]), numbers(&[1, 3])]).is_err());
        assert!(Tensor::concatenate(&[]).is_err());
    }

    #[test]
    fn the_largest_come_first_and_ties_go_to_the_lower_index() {
        let t = Tensor::from_f32(vec![1, 5], vec![1.0, f32::NAN, 3.0, 3.0, 2.0]).unwrap();
        assert_eq!(t.top(3), vec![vec![(2, 3.0), (3, 3.0), (4, 2.0)]]);
        assert_eq!(t.top(1), vec![vec![(2, 3.0)]]);
        assert_eq!(t.top(9)[0].len(), 5);
    }

    #[test]
    fn softmax_of_large_logits_stays_finite() {
        let p = Tensor::from_f32(vec![2, 2], vec![1000.0, 1000.0, -1000.0, 1000.0]).unwrap().softmax();
        assert_eq!(p.f32().unwrap(), &[0.5, 0.5, 0.0, 1.0]);
    }
}
