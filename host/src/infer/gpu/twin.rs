//! The shaders' twins: the same steps in plain Rust, and a whole graph on them.
//!
//! Each function here has the name of an entry point in `kernels/` and does the same to numbers without padding. They are
//! the reference of the self-test and of the tests, written to be read; they are not fast.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::super::graph::{
    Conv, Dims, Gather, Graph, Operation, Operator, Pointwise, Pool, PoolKind, Source, Step, ValueId,
};
use crate::tensor::Tensor;

/// The outputs of `graph` for `inputs`, each in the file's order.
///
/// # Panics
/// If the inputs do not fit the graph's ports: check them first.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Vec<f32>> {
    let values = run_values(graph, inputs);
    let arrange = |output: &super::super::graph::Output| {
        let (dims, stored) = (graph.values[output.value], &values[output.value]);
        let mut all = Vec::with_capacity(stored.len());
        stored.chunks(dims.len()).for_each(|picture| output.arrange(dims, picture, &mut all));
        all
    };
    graph.outputs.iter().map(arrange).collect()
}

/// Every value of `graph`, as stored; empty where no step writes it.
///
/// # Panics
/// As [`run`].
pub fn run_values(graph: &Graph, inputs: &[Tensor]) -> Vec<Vec<f32>> {
    let batch = inputs.first().map_or(0, Tensor::rows);
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.values.len()];
    for step in &graph.steps {
        values[step.output] = perform(graph, step, inputs, &values, batch);
    }
    values
}

/// What one step writes for `batch` pictures, given what earlier ones have written.
///
/// # Panics
/// As [`run`].
pub fn perform(graph: &Graph, step: &Step, inputs: &[Tensor], values: &[Vec<f32>], batch: usize) -> Vec<f32> {
    let to = graph.values[step.output];
    let read = |at: usize| -> (Cow<[f32]>, Dims) {
        match step.inputs[at] {
            Source::Input(input) => (Cow::Owned(inputs[input].to_f32()), to),
            Source::Value(id) => {
                let mut x = Cow::Borrowed(values[id].as_slice());
                if !step.before.is_empty() {
                    apply(&step.before, x.to_mut(), graph.values[id], |_| unreachable!("no operands; this is a bug"));
                }
                (x, graph.values[id])
            }
        }
    };
    let (x, from) = read(0);
    let mut y = match &step.operation {
        Operation::Conv(conv) if conv.groups == 1 => {
            let mut y = conv_tiled(conv, &x, from, to);
            if let (Some(second), Source::Value(id)) = (&conv.shortcut, step.inputs[step.inputs.len() - 1]) {
                let (mut x, from) = (values[id].clone(), graph.values[id]);
                apply(&second.before, &mut x, from, |_| unreachable!("no operands; this is a bug"));
                let (weights, bias) = (Arc::clone(&second.weights), vec![0.0; conv.bias.len()]);
                let second = Conv { weights, bias, window: second.window, groups: 1, shortcut: None };
                y.iter_mut().zip(conv_tiled(&second, &x, from, to)).for_each(|(sum, more)| *sum += more);
            }
            y
        }
        Operation::Conv(conv) => conv_grouped(conv, &x, from, to),
        Operation::Pool(layer) => pool(layer, &x, from, to),
        Operation::Gather(rule) => gather(rule, &x, batch),
        Operation::Pointwise => pointwise(x.into_owned()),
        Operation::Softmax => softmax(x.into_owned(), to),
        Operation::Concat => {
            let (second, second_dims) = read(1);
            concat((&x, from), (&second, second_dims))
        }
        Operation::Top { k } => top(*k, &x, from),
    };
    apply(&step.after, &mut y, to, |id| (values[id].as_slice(), graph.values[id]));
    y
}

/// What the generated functions `before` and `after` of every shader do.
pub(super) fn apply<'a>(work: &[Pointwise], y: &mut [f32], dims: Dims, operand: impl Fn(ValueId) -> (&'a [f32], Dims)) {
    for one in work {
        match one {
            Pointwise::Affine { scale, shift } => {
                for pixel in y.chunks_mut(dims.channels) {
                    pixel.iter_mut().enumerate().for_each(|(c, v)| *v = *v * scale[c] + shift[c]);
                }
            }
            Pointwise::Clip { low, high } => {
                y.iter_mut().filter(|v| !v.is_nan()).for_each(|v| *v = v.max(*low).min(*high));
            }
            Pointwise::Sigmoid => y.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Pointwise::HardSwish => y.iter_mut().for_each(|v| *v *= (*v / 6.0 + 0.5).clamp(0.0, 1.0)),
            Pointwise::Combine { with, operator, swapped } => {
                let (other, size) = operand(*with);
                for (image, picture) in y.chunks_mut(dims.len()).enumerate() {
                    for (i, v) in picture.iter_mut().enumerate() {
                        let at = if size == dims {
                            image * dims.len() + i
                        } else {
                            image * dims.channels + i % dims.channels
                        };
                        let (a, b) = if *swapped { (other[at], *v) } else { (*v, other[at]) };
                        *v = match operator {
                            Operator::Add => a + b,
                            Operator::Subtract => a - b,
                            Operator::Multiply => a * b,
                            Operator::Divide => a / b,
                        };
                    }
                }
            }
        }
    }
}

/// Where tap `tap` of the window at output position `out` reads, along one axis; `None` in the padding.
fn tap_at(out: usize, tap: usize, window: &super::super::graph::Window, axis: usize, size: usize) -> Option<usize> {
    (out * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.before[axis]).filter(|&at| at < size)
}

/// Convolution in one group.
pub fn conv_tiled(conv: &Conv, x: &[f32], from: Dims, to: Dims) -> Vec<f32> {
    let [rows, columns] = conv.window.size;
    let (inputs, outputs) = (from.channels, to.channels);
    // Tap, input channel, output channel: the innermost loop runs over numbers that lie side by side.
    let mut packed = vec![0.0f32; conv.weights.len()];
    for (at, &w) in conv.weights.iter().enumerate() {
        let (o, rest) = (at / (inputs * rows * columns), at % (inputs * rows * columns));
        let (i, tap) = (rest / (rows * columns), rest % (rows * columns));
        packed[(tap * inputs + i) * outputs + o] = w;
    }
    let mut y = vec![0.0f32; x.len() / from.len() * to.len()];
    for (picture, out) in x.chunks(from.len()).zip(y.chunks_mut(to.len())) {
        for (at, sums) in out.chunks_mut(outputs).enumerate() {
            let (oy, ox) = (at / to.width, at % to.width);
            for tap in 0..rows * columns {
                let Some(iy) = tap_at(oy, tap / columns, &conv.window, 0, from.height) else { continue };
                let Some(ix) = tap_at(ox, tap % columns, &conv.window, 1, from.width) else { continue };
                let pixel = &picture[(iy * from.width + ix) * inputs..][..inputs];
                let weights = &packed[tap * inputs * outputs..][..inputs * outputs];
                for (&v, row) in pixel.iter().zip(weights.chunks(outputs)) {
                    sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += v * w);
                }
            }
            sums.iter_mut().zip(&conv.bias).for_each(|(sum, b)| *sum += b);
        }
    }
    y
}

/// Convolution in any number of groups.
pub fn conv_grouped(conv: &Conv, x: &[f32], from: Dims, to: Dims) -> Vec<f32> {
    let [rows, columns] = conv.window.size;
    let (inputs, outputs) = (from.channels / conv.groups, to.channels / conv.groups);
    let mut y = Vec::with_capacity(x.len() / from.len() * to.len());
    for picture in x.chunks(from.len()) {
        for at in 0..to.len() {
            let (pixel, o) = (at / to.channels, at % to.channels);
            let (oy, ox) = (pixel / to.width, pixel % to.width);
            let mut sum = 0.0f32;
            for tap in 0..rows * columns {
                let Some(iy) = tap_at(oy, tap / columns, &conv.window, 0, from.height) else { continue };
                let Some(ix) = tap_at(ox, tap % columns, &conv.window, 1, from.width) else { continue };
                let start = (iy * from.width + ix) * from.channels + o / outputs * inputs;
                for i in 0..inputs {
                    sum += picture[start + i] * conv.weights[(o * inputs + i) * rows * columns + tap];
                }
            }
            y.push(sum + conv.bias[o]);
        }
    }
    y
}

/// The largest or the mean of windows.
pub fn pool(layer: &Pool, x: &[f32], from: Dims, to: Dims) -> Vec<f32> {
    let window = &layer.window;
    let mut y = Vec::with_capacity(x.len() / from.len() * to.len());
    for picture in x.chunks(from.len()) {
        for at in 0..to.len() {
            let (pixel, c) = (at / to.channels, at % to.channels);
            let (oy, ox) = (pixel / to.width, pixel % to.width);
            let (mut largest, mut sum, mut inside) = (f32::NEG_INFINITY, 0.0f32, 0usize);
            for tap in 0..window.size[0] * window.size[1] {
                let Some(iy) = tap_at(oy, tap / window.size[1], window, 0, from.height) else { continue };
                let Some(ix) = tap_at(ox, tap % window.size[1], window, 1, from.width) else { continue };
                let v = picture[(iy * from.width + ix) * from.channels + c];
                // What is not a number is larger than all.
                largest = if v.is_nan() || largest.is_nan() { f32::NAN } else { largest.max(v) };
                (sum, inside) = (sum + v, inside + 1);
            }
            // Of a padded window, what lies in the padding counts, what lies behind it does not.
            let counted = |out: usize, axis: usize, size: usize| {
                let end = size + window.before[axis] + window.after[axis];
                let starts = (0..window.size[axis]).map(|tap| out * window.stride[axis] + tap * window.dilation[axis]);
                starts.filter(|&at| at < end).count()
            };
            #[expect(clippy::cast_precision_loss, reason = "windows have at most 4096 × 4096 places")]
            y.push(match layer.kind {
                PoolKind::Max => largest,
                PoolKind::Average => sum / inside as f32,
                PoolKind::AveragePadded => sum / (counted(oy, 0, from.height) * counted(ox, 1, from.width)) as f32,
            });
        }
    }
    y
}

/// Numbers moved.
pub fn gather(rule: &Gather, x: &[f32], batch: usize) -> Vec<f32> {
    let [a, b, c] = rule.shape;
    let mut y = Vec::with_capacity(batch * a * b * c);
    let per_picture = x.len() / batch.max(1);
    for image in 0..batch {
        for at in 0..a * b * c {
            let coordinates = [at / (b * c), at / c % b, at % c];
            let place = coordinates.iter().zip(&rule.axes).try_fold(0usize, |place, (&o, axis)| {
                let position = i64::try_from(o * axis.step).ok()? + axis.offset;
                let position = usize::try_from(position).ok().filter(|&p| p < axis.limit)?;
                Some(place + position * axis.stride)
            });
            y.push(place.map_or(0.0, |place| x[image * per_picture + place]));
        }
    }
    y
}

/// Nothing of its own: all its work is in `after`.
pub fn pointwise(x: Vec<f32>) -> Vec<f32> {
    x
}

/// Softmax over the channels of each pixel.
pub fn softmax(mut x: Vec<f32>, dims: Dims) -> Vec<f32> {
    for pixel in x.chunks_mut(dims.channels) {
        let largest = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        pixel.iter_mut().for_each(|v| *v = (*v - largest).exp());
        let sum: f32 = pixel.iter().sum();
        pixel.iter_mut().for_each(|v| *v /= sum);
    }
    x
}

/// The channels of two sources, side by side.
pub fn concat((a, a_dims): (&[f32], Dims), (b, b_dims): (&[f32], Dims)) -> Vec<f32> {
    let pixels = a.chunks(a_dims.channels).zip(b.chunks(b_dims.channels));
    pixels.flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
}

/// The `k` largest channels of each pixel, the largest first, then their places.
pub fn top(k: usize, x: &[f32], from: Dims) -> Vec<f32> {
    // What is not a number comes first, and zeros of both signs are equal.
    let rank = |v: f32| if v.is_nan() { (true, 0.0) } else { (false, v) };
    let mut y = Vec::with_capacity(x.len() / from.channels * 2 * k);
    for pixel in x.chunks(from.channels) {
        let mut places: Vec<usize> = (0..pixel.len()).collect();
        // The sort keeps the order of equal ones.
        places.sort_by(|&a, &b| rank(pixel[b]).partial_cmp(&rank(pixel[a])).unwrap_or(Ordering::Equal));
        places.truncate(k);
        y.extend(places.iter().map(|&place| pixel[place]));
        #[expect(clippy::cast_precision_loss, reason = "places are below 2^24")]
        y.extend(places.iter().map(|&place| place as f32));
    }
    y
}
