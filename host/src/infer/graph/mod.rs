//! A model file → the steps that a device performs, as data.
//!
//! What goes in: [`ModelFile`], as written. What comes out: a [`Graph`] of a few operations with every size known but the
//! batch's, each step with its neighbours' pointwise work fused into it, ready for [`plan`] and a backend. Nothing is
//! computed here but constants.
//!
//! ```text
//! ModelFile ── lower: nodes → steps, shapes inferred, constants and shape arithmetic folded
//!           ── passes: padding and batch norm into convolutions, ReLU and sums into the step before them
//!           ── plan: which buffer holds which value, and when
//! ```
//!
//! Values are stored picture by picture with their channels last (N, height, width, channels), whatever order the file
//! uses; a vector is one pixel. Batch is always the first dimension, and no step mixes pictures.

pub mod cost;
mod lower;
pub mod passes;
pub mod plan;

use std::sync::Arc;

use super::onnx::ModelFile;
use super::{InferError, Port};
use crate::tensor::Element;

/// The most elements one picture's value may have. Keeps every index of a device's 32-bit arithmetic in range.
pub const VALUE_ELEMENTS: usize = 1 << 28;

/// The size of one picture's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dims {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers in each pixel.
    pub channels: usize,
}

impl Dims {
    /// A vector: one pixel.
    pub fn vector(channels: usize) -> Self {
        Self { height: 1, width: 1, channels }
    }

    /// Pixels of one picture.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Numbers of one picture.
    pub fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// Whether there are none; the lowering refuses such values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Height, width, channels: the order in which they are stored.
    pub fn axes(self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }
}

/// An index into [`Graph::values`].
pub type ValueId = usize;

/// A model as steps.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The inputs, in the file's order.
    pub inputs: Vec<Port>,
    /// The outputs, in the file's order.
    pub outputs: Vec<Output>,
    /// The size of every value, per picture. Each is written by one step.
    pub values: Vec<Dims>,
    /// What to do, in an order that can be performed.
    pub steps: Vec<Step>,
}

/// An output of the model.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name and shape as the file has them.
    pub port: Port,
    /// Where its numbers are.
    pub value: ValueId,
    /// Which stored axis (0 height, 1 width, 2 channels) is the file's first, second and third after the batch; a vector
    /// is these three, flattened.
    pub order: [usize; 3],
    /// Its shape without the batch.
    pub shape: Vec<usize>,
}

/// One thing to do for every picture of a batch.
#[derive(Clone, Debug)]
pub struct Step {
    /// The name of the file's node that it comes from.
    pub node: String,
    /// The main work.
    pub operation: Operation,
    /// What it reads: one source, but two for [`Operation::Concat`] and for convolutions with a shortcut.
    pub inputs: Vec<Source>,
    /// Done to each number read, before the operation and before its padding. Never contains [`Pointwise::Combine`].
    pub before: Vec<Pointwise>,
    /// Done to each result before it is written.
    pub after: Vec<Pointwise>,
    /// What it writes.
    pub output: ValueId,
}

/// Where a step's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An input of the model, row-major as the caller gives it. Only [`Operation::Gather`] reads these.
    Input(usize),
    /// The output of an earlier step.
    Value(ValueId),
}

/// The main work of a step.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Convolution; a fully connected layer is one whose kernel is the whole picture.
    Conv(Conv),
    /// The largest or the mean of a window.
    Pool(Pool),
    /// Numbers moved, none computed: transposes, slices, padding, the load of an input.
    Gather(Gather),
    /// Nothing but `after`.
    Pointwise,
    /// Softmax over the channels of each pixel.
    Softmax,
    /// The channels of two sources, side by side.
    Concat,
    /// The largest channels of each pixel, the largest first, then their places as floats: twice `k` channels. Of equal
    /// numbers the lower place comes first, and what is not a number comes before everything.
    Top {
        /// How many, at most as many as there are channels.
        k: usize,
    },
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Weights as ONNX orders them: output channel, input channel of the group, row, column.
    pub weights: Arc<Vec<f32>>,
    /// One number per output channel.
    pub bias: Vec<f32>,
    /// The kernel and how it moves.
    pub window: Window,
    /// How many groups the channels fall into; each output channel reads its own group's inputs.
    pub groups: usize,
    /// Another convolution, whose results are added before the step's `after`.
    pub shortcut: Option<Shortcut>,
}

/// The convolution in the shortcut of a residual block, computed together with the block's last one. Both have one group
/// and the same outputs; it reads the step's second input, and its bias is part of the first one's.
#[derive(Clone, Debug)]
pub struct Shortcut {
    /// As those of [`Conv`].
    pub weights: Arc<Vec<f32>>,
    /// The kernel and how it moves.
    pub window: Window,
    /// Done to each number read, as a step's `before`.
    pub before: Vec<Pointwise>,
}

/// A pooling layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is made of a window.
    pub kind: PoolKind,
    /// The window and how it moves.
    pub window: Window,
}

/// What is made of a window's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; padding does not take part.
    Max,
    /// The mean over the numbers that lie in the picture.
    Average,
    /// The mean over those that lie in the picture or its padding, which counts as zero.
    AveragePadded,
}

/// A rectangle that moves over a picture; each pair is vertical, horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Pixels from one position to the next.
    pub stride: [usize; 2],
    /// Pixels from one row or column of the window to the next.
    pub dilation: [usize; 2],
    /// Padding above and to the left.
    pub before: [usize; 2],
    /// Padding below and to the right.
    pub after: [usize; 2],
}

impl Window {
    /// One pixel at a time.
    pub fn pixel() -> Self {
        Self::whole([1, 1])
    }

    /// All of a picture of this size.
    pub fn whole(size: [usize; 2]) -> Self {
        Self { size, stride: [1, 1], dilation: [1, 1], before: [0, 0], after: [0, 0] }
    }
}

/// Where each number of an output comes from: its index in the output, row-major without padding, is split by `shape`
/// into three coordinates, and each of them chooses along one axis of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Three sizes, whose product is the output's.
    pub shape: [usize; 3],
    /// What each coordinate does.
    pub axes: [Axis; 3],
}

/// One coordinate of a [`Gather`]: position `offset + coordinate × step`, zero outside 0 to `limit`, and `stride` numbers
/// from each position to the next in the source, row-major without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The position of coordinate 0; negative where zeros are put in front.
    pub offset: i64,
    /// From one coordinate to the next.
    pub step: usize,
    /// Positions from here on read as zero.
    pub limit: usize,
    /// Distance of positions in the source.
    pub stride: usize,
}

/// Work on single numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointwise {
    /// Times a scale, plus a shift: one of each per channel.
    Affine {
        /// One factor per channel.
        scale: Vec<f32>,
        /// One summand per channel.
        shift: Vec<f32>,
    },
    /// Not below `low`, not above `high`; ReLU is 0 to infinity.
    Clip {
        /// The least.
        low: f32,
        /// The greatest.
        high: f32,
    },
    /// One over one plus e to the minus number.
    Sigmoid,
    /// Times a sixth of itself plus a half, which counts as not below 0 and not above 1.
    HardSwish,
    /// With the number of another value at the same place.
    Combine {
        /// The other value, of the same size, or one pixel that serves for all.
        with: ValueId,
        /// How.
        operator: Operator,
        /// Whether the other value is the left operand.
        swapped: bool,
    },
}

/// How two numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Left plus right.
    Add,
    /// Left minus right.
    Subtract,
    /// Left times right.
    Multiply,
    /// Left over right.
    Divide,
}

/// Why a model cannot become steps.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A node does what is not supported.
    #[error("node `{node}` ({operation}): {reason}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operation.
        operation: String,
        /// What is not supported, and what is.
        reason: String,
    },
    /// The file contradicts itself.
    #[error("{0}")]
    Invalid(String),
}

impl GraphError {
    /// As an error of `backend` that opened the file at `path`.
    pub fn for_backend(self, backend: &'static str, path: &std::path::Path) -> InferError {
        match self {
            GraphError::Unsupported { node, operation, reason } => {
                InferError::Unsupported { backend, node, operation, reason }
            }
            GraphError::Invalid(reason) => InferError::Invalid { path: path.to_owned(), reason },
        }
    }

    /// Whose fault it is: always the caller's, who chose the model.
    pub fn fault(&self) -> crate::fault::Fault {
        crate::fault::Fault::Caller
    }
}

/// The steps of a model, with all passes done.
///
/// # Errors
/// If the file contradicts itself or needs what is not supported.
pub fn build(file: &ModelFile) -> Result<Graph, GraphError> {
    Ok(passes::optimise(lower::lower(file)?))
}

/// The steps of a model as its nodes are, without any pass: what [`build`] must agree with.
///
/// # Errors
/// As [`build`].
pub fn unfused(file: &ModelFile) -> Result<Graph, GraphError> {
    lower::lower(file)
}

/// The operations that [`build`] understands, sorted.
pub fn supported() -> Vec<&'static str> {
    lower::supported()
}

/// The element type of a port that a graph can load: bytes and floats.
pub fn loadable(element: i64) -> Option<Element> {
    match element {
        1 => Some(Element::F32),
        2 => Some(Element::U8),
        _ => None,
    }
}

impl Output {
    /// One picture's numbers from the stored order, whose size is `dims`, appended to `all` in the file's order.
    pub fn arrange(&self, dims: Dims, stored: &[f32], all: &mut Vec<f32>) {
        if self.order == [0, 1, 2] || dims.pixels() == 1 {
            all.extend_from_slice(stored);
            return;
        }
        let axes = dims.axes();
        let strides = [axes[1] * axes[2], axes[2], 1];
        let (size, stride) = (self.order.map(|axis| axes[axis]), self.order.map(|axis| strides[axis]));
        for a in 0..size[0] {
            for b in 0..size[1] {
                let start = a * stride[0] + b * stride[1];
                all.extend((0..size[2]).map(|c| stored[start + c * stride[2]]));
            }
        }
    }
}

impl Step {
    /// The values that it reads, its operands in `after` included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        let sources = self.inputs.iter().filter_map(|source| match source {
            Source::Value(id) => Some(*id),
            Source::Input(_) => None,
        });
        sources.chain(self.operands())
    }

    /// The values that `after` combines with, each once.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> + '_ {
        let with = |work: &Pointwise| match work {
            Pointwise::Combine { with, .. } => Some(*with),
            _ => None,
        };
        let first = move |at: usize, id: ValueId| self.after[..at].iter().filter_map(with).all(|other| other != id);
        self.after.iter().enumerate().filter_map(move |(at, work)| with(work).filter(|&id| first(at, id)))
    }
}
