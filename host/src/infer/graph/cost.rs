//! What a step asks of any device: operations and bytes, and the least time in which a device with given peaks can do it.
//!
//! What goes in: a [`Graph`], and in how many bytes its numbers are stored. What comes out: counts and times. Nothing is
//! measured here, and no kernel is asked how it works: each number is read once, as if everything stayed in a cache.

use std::collections::HashSet;
use std::iter::Sum;
use std::ops::Add;

use super::{Axis, Dims, Gather, Graph, Operation, Pointwise, PoolKind, Source, Step, ValueId, Window};
use crate::tensor::Element;

/// What a step asks of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Arithmetic for one picture; a multiply-add is two operations, and taps in the padding count, as is usual.
    pub operations: u64,
    /// Bytes read for one picture, each number once.
    pub read_bytes: u64,
    /// Bytes written for one picture.
    pub written_bytes: u64,
    /// Bytes of weights and of numbers per channel: read once a run, however many pictures it has.
    pub weight_bytes: u64,
}

impl Cost {
    /// Operations of a run with `images` pictures.
    pub fn operations_of(&self, images: usize) -> f64 {
        float(self.operations) * float(images as u64)
    }

    /// Bytes that a run with `images` pictures moves.
    pub fn bytes_of(&self, images: usize) -> f64 {
        float(self.read_bytes.saturating_add(self.written_bytes)) * float(images as u64) + float(self.weight_bytes)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            operations: self.operations.saturating_add(other.operations),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            weight_bytes: self.weight_bytes.saturating_add(other.weight_bytes),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What a device can do at best.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Roofline {
    /// 10¹² operations a second.
    pub tera_flops: f64,
    /// 10⁹ bytes a second to and from its memory.
    pub giga_bytes: f64,
}

/// What keeps a step from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Operations.
    Arithmetic,
    /// Bytes.
    Memory,
}

/// The least time for a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    /// In seconds.
    pub seconds: f64,
    /// What it is due to.
    pub bound: Bound,
}

impl Least {
    /// Which part of the measured time had to be: 1 on a perfect device; absent for a time that is none.
    pub fn fraction(&self, measured_seconds: f64) -> Option<f64> {
        (measured_seconds > 0.0).then(|| self.seconds / measured_seconds)
    }
}

impl Roofline {
    /// The least time for a step of this cost with `images` pictures: the longer one of its arithmetic and its traffic.
    pub fn least(&self, cost: &Cost, images: usize) -> Least {
        let arithmetic = cost.operations_of(images) / (self.tera_flops * 1e12);
        let memory = cost.bytes_of(images) / (self.giga_bytes * 1e9);
        if arithmetic > memory {
            Least { seconds: arithmetic, bound: Bound::Arithmetic }
        } else {
            Least { seconds: memory, bound: Bound::Memory }
        }
    }
}

/// What `step` of `graph` costs if a number of value `id` is stored in `bytes(id)` bytes, and a weight in `weight`. Pixels
/// are stored with their channels filled up to whole quads, as `stored_len` in `gpu/kernel.rs` has it.
pub fn cost(graph: &Graph, step: &Step, bytes: impl Fn(ValueId) -> usize, weight: usize) -> Cost {
    let to = graph.values[step.output];
    let whole = |id: ValueId| product(&[graph.values[id].pixels(), filled(graph.values[id]), bytes(id)]);
    let operands = step.operands().filter(|&id| !step.inputs.contains(&Source::Value(id)));
    let around = Cost {
        operations: product(&[to.len()]).saturating_mul(each(&step.after)),
        read_bytes: operands.map(whole).fold(0, u64::saturating_add),
        written_bytes: whole(step.output),
        weight_bytes: tables(&step.before).saturating_add(tables(&step.after)),
    };
    let through = |window: &Window| match source(graph, step, 0) {
        Some((id, from)) => windowed(from, to, window, bytes(id), &step.before),
        None => Cost::default(),
    };
    let main = match &step.operation {
        Operation::Conv(conv) => {
            let channels = source(graph, step, 0).map_or(0, |(_, from)| from.channels);
            let bias = Cost {
                operations: if conv.bias.is_empty() { 0 } else { product(&[to.len()]) },
                weight_bytes: product(&[conv.bias.len().next_multiple_of(4), FLOAT]),
                ..Cost::default()
            };
            let shortcut = conv.shortcut.as_ref().zip(source(graph, step, 1)).map(|(shortcut, (id, from))| {
                windowed(from, to, &shortcut.window, bytes(id), &shortcut.before)
                    + products(from.channels, to, &shortcut.window, 1, weight)
                    + Cost { weight_bytes: tables(&shortcut.before), ..Cost::default() }
            });
            let main = products(channels, to, &conv.window, conv.groups, weight);
            through(&conv.window) + main + bias + shortcut.unwrap_or_default()
        }
        Operation::Pool(pool) => {
            // One comparison or sum a tap; a mean is divided once more.
            let division = usize::from(pool.kind != PoolKind::Max);
            let operations = product(&[to.len(), taps(&pool.window) + division]);
            through(&pool.window) + Cost { operations, ..Cost::default() }
        }
        Operation::Gather(gather) => {
            let size = match step.inputs.first() {
                Some(Source::Value(id)) => bytes(*id),
                Some(Source::Input(at)) => graph.inputs.get(*at).map_or(0, |port| element_bytes(port.element)),
                None => 0,
            };
            Cost { read_bytes: taken(gather).saturating_mul(size as u64), ..Cost::default() }
        }
        Operation::Top { .. } => {
            // Each number is compared at least once.
            let from = source(graph, step, 0);
            Cost {
                operations: from.map_or(0, |(_, from)| product(&[from.len()])),
                read_bytes: from.map_or(0, |(id, _)| whole(id)),
                ..Cost::default()
            }
        }
        Operation::Pointwise | Operation::Softmax | Operation::Concat => {
            // The largest, a difference, a power, a sum and a division for each number.
            let softmax = if matches!(step.operation, Operation::Softmax) { 5 } else { 0 };
            let sources: HashSet<ValueId> =
                (0..step.inputs.len()).filter_map(|at| source(graph, step, at)).map(|(id, _)| id).collect();
            Cost {
                operations: product(&[to.len(), softmax]),
                read_bytes: sources.into_iter().map(whole).fold(0, u64::saturating_add),
                ..Cost::default()
            }
        }
    };
    around + main
}

/// A step's sizes in words: `56×56×64→256 1×1`, `112×112×64→56×56×64 3×3/2`.
pub fn shape_text(graph: &Graph, step: &Step) -> String {
    let to = graph.values[step.output];
    let size = |dims: Dims| match (dims.height, dims.width) {
        (1, 1) => dims.channels.to_string(),
        (height, width) => format!("{height}×{width}×{}", dims.channels),
    };
    let Some((_, from)) = source(graph, step, 0) else { return format!("→{}", size(to)) };
    let moved = match (from.height == to.height && from.width == to.width, from == to) {
        (_, true) => size(from),
        (true, _) => format!("{}→{}", size(from), to.channels),
        _ => format!("{}→{}", size(from), size(to)),
    };
    match &step.operation {
        Operation::Conv(conv) => {
            let groups = if conv.groups == 1 { String::new() } else { format!(" in {} groups", conv.groups) };
            let shortcut = conv.shortcut.as_ref().zip(source(graph, step, 1));
            let shortcut =
                shortcut.map(|(shortcut, (_, from))| format!(" + {} {}", size(from), window_text(&shortcut.window)));
            format!("{moved} {}{groups}{}", window_text(&conv.window), shortcut.unwrap_or_default())
        }
        Operation::Pool(pool) => format!("{moved} {}", window_text(&pool.window)),
        _ => moved,
    }
}

fn window_text(window: &Window) -> String {
    let [[height, width], stride] = [window.size, window.stride];
    match stride {
        [1, 1] => format!("{height}×{width}"),
        [down, right] if down == right => format!("{height}×{width}/{down}"),
        [down, right] => format!("{height}×{width}/{down}×{right}"),
    }
}

/// Bytes of the numbers per channel, which stay floats in every precision.
const FLOAT: usize = size_of::<f32>();

/// The products of a convolution that makes `to` from `channels`, and its weights of `bytes` each.
fn products(channels: usize, to: Dims, window: &Window, groups: usize, bytes: usize) -> Cost {
    let inputs = channels / groups.max(1);
    let stored = if groups == 1 { channels.next_multiple_of(4) } else { inputs };
    Cost {
        operations: product(&[2, to.len(), inputs, taps(window)]),
        weight_bytes: product(&[taps(window), stored, filled(to), bytes]),
        ..Cost::default()
    }
}

/// What is read through a window, and the work done on each number of it before.
fn windowed(from: Dims, to: Dims, window: &Window, bytes: usize, before: &[Pointwise]) -> Cost {
    let rows = touched(from.height, to.height, window, 0);
    let columns = touched(from.width, to.width, window, 1);
    Cost {
        operations: product(&[rows, columns, from.channels]).saturating_mul(each(before)),
        read_bytes: product(&[rows, columns, filled(from), bytes]),
        ..Cost::default()
    }
}

/// Above this many comparisons an axis counts as read whole: models come from anyone, and no real one comes near.
const COMPARISONS: usize = 1 << 22;

/// How many of `size` rows or columns any of `positions` of a window along `axis` reads: a 1×1 window that moves by two
/// reads every other one.
fn touched(size: usize, positions: usize, window: &Window, axis: usize) -> usize {
    let (taps, stride, dilation) = (window.size[axis], window.stride[axis].max(1), window.dilation[axis]);
    if size.saturating_mul(taps) > COMPARISONS {
        return size;
    }
    let is_read = |place: usize| {
        (0..taps).any(|tap| {
            let first = place.saturating_add(window.before[axis]).checked_sub(tap.saturating_mul(dilation));
            first.is_some_and(|first| first.is_multiple_of(stride) && first / stride < positions)
        })
    };
    (0..size).filter(|&place| is_read(place)).count()
}

/// How many different numbers a gather takes from its source.
fn taken(gather: &Gather) -> u64 {
    let along = |(&size, axis): (&usize, &Axis)| {
        if axis.step == 0 {
            return u64::from(size > 0);
        }
        // Coordinates whose position lies from 0 to `limit`.
        let step = i128::try_from(axis.step).unwrap_or(i128::MAX);
        let ceil = |position: i128| (position - i128::from(axis.offset) + step - 1).div_euclid(step);
        let size = size as i128;
        let (first, end) = (ceil(0).clamp(0, size), ceil(axis.limit as i128).clamp(0, size));
        u64::try_from(end - first).unwrap_or(0)
    };
    gather.shape.iter().zip(&gather.axes).map(along).fold(1, u64::saturating_mul)
}

/// Operations on each number.
fn each(work: &[Pointwise]) -> u64 {
    let one = |work: &Pointwise| match work {
        Pointwise::Affine { .. } => 2,
        Pointwise::Clip { low, high } => u64::from(low.is_finite()) + u64::from(high.is_finite()),
        // A change of sign, a power, a sum and a division.
        Pointwise::Sigmoid => 4,
        // A product, a sum, two bounds and a product.
        Pointwise::HardSwish => 5,
        Pointwise::Combine { .. } => 1,
    };
    work.iter().map(one).fold(0, u64::saturating_add)
}

/// Bytes of the numbers per channel of `work`.
fn tables(work: &[Pointwise]) -> u64 {
    let one = |work: &Pointwise| match work {
        Pointwise::Affine { scale, shift } => {
            product(&[scale.len().next_multiple_of(4) + shift.len().next_multiple_of(4), FLOAT])
        }
        _ => 0,
    };
    work.iter().map(one).fold(0, u64::saturating_add)
}

fn source(graph: &Graph, step: &Step, at: usize) -> Option<(ValueId, Dims)> {
    match step.inputs.get(at) {
        Some(Source::Value(id)) => Some((*id, graph.values[*id])),
        _ => None,
    }
}

fn taps(window: &Window) -> usize {
    window.size[0].saturating_mul(window.size[1])
}

fn filled(dims: Dims) -> usize {
    dims.channels.next_multiple_of(4)
}

fn element_bytes(element: Element) -> usize {
    match element {
        Element::U8 => 1,
        Element::F32 => 4,
        Element::I64 => 8,
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Conv, Operator, Pool, Shortcut};
    use super::*;
    use crate::infer::Port;

    const RELU: Pointwise = Pointwise::Clip { low: 0.0, high: f32::INFINITY };

    fn dims(side: usize, channels: usize) -> Dims {
        Dims { height: side, width: side, channels }
    }

    fn square(size: usize, stride: usize) -> Window {
        let pad = size / 2;
        Window { stride: [stride; 2], before: [pad; 2], after: [pad; 2], ..Window::whole([size; 2]) }
    }

    /// A convolution whose weights are not there: their count follows from the sizes, and engines drop them early.
    fn conv(window: Window, groups: usize, bias: usize) -> Operation {
        Operation::Conv(Conv { weights: Arc::default(), bias: vec![0.0; bias], window, groups, shortcut: None })
    }

    #[derive(Default)]
    struct Sketch(Graph);

    impl Sketch {
        fn value(&mut self, size: Dims) -> ValueId {
            self.0.values.push(size);
            self.0.values.len() - 1
        }

        fn step(&mut self, operation: Operation, inputs: &[ValueId], size: Dims, after: Vec<Pointwise>) -> ValueId {
            let output = self.value(size);
            let inputs = inputs.iter().map(|&id| Source::Value(id)).collect();
            self.0.steps.push(Step { node: format!("n{output}"), operation, inputs, before: vec![], after, output });
            output
        }

        /// A convolution that keeps the middle of its window in the picture.
        fn conv(&mut self, x: ValueId, channels: usize, size: usize, stride: usize) -> ValueId {
            let to = dims(self.0.values[x].height / stride, channels);
            self.step(conv(square(size, stride), 1, 0), &[x], to, vec![])
        }

        fn last(&self, bytes: usize) -> Cost {
            cost(&self.0, self.0.steps.last().unwrap(), |_| bytes, bytes)
        }
    }

    /// ResNet-50 V2 as timm and the ONNX zoo have it: the stride sits in the 3×3.
    fn resnet50() -> Graph {
        let mut net = Sketch::default();
        let input = net.value(dims(224, 3));
        let stem = net.conv(input, 64, 7, 2);
        let pool = Pool { kind: PoolKind::Max, window: square(3, 2) };
        let mut x = net.step(Operation::Pool(pool), &[stem], dims(56, 64), vec![]);
        for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
            let width = 64 << stage;
            for block in 0..blocks {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let shortcut = if block == 0 { net.conv(x, 4 * width, 1, stride) } else { x };
                let narrow = net.conv(x, width, 1, 1);
                let middle = net.conv(narrow, width, 3, stride);
                let to = dims(net.0.values[middle].height, 4 * width);
                let add = Pointwise::Combine { with: shortcut, operator: Operator::Add, swapped: false };
                x = net.step(conv(Window::pixel(), 1, 0), &[middle], to, vec![add]);
            }
        }
        let mean = Pool { kind: PoolKind::Average, window: Window::whole([7, 7]) };
        let mean = net.step(Operation::Pool(mean), &[x], Dims::vector(2048), vec![]);
        net.step(conv(Window::pixel(), 1, 0), &[mean], Dims::vector(1000), vec![]);
        net.0
    }

    #[test]
    fn resnet_50_takes_the_operations_that_the_literature_counts() {
        let graph = resnet50();
        let of = |step: &Step| cost(&graph, step, |_| 2, 2);
        // 4.09 billion multiply-adds of convolutions and of the last layer: timm's resnetv2_50 and torchvision's
        // resnet50 (v1.5) are both stated as 4.09 to 4.11.
        let convs = graph.steps.iter().filter(|step| matches!(step.operation, Operation::Conv(_)));
        let sums: u64 =
            graph.steps.iter().map(|step| product(&[graph.values[step.output].len()]) * each(&step.after)).sum();
        let products = convs.map(of).sum::<Cost>().operations - sums;
        assert!((8.17e9..8.19e9).contains(&float(products)), "{products}");
        // 25.5 million weights without those of batch norm, two bytes each; the stem's third channel has company.
        let all: Cost = graph.steps.iter().map(of).sum();
        assert!((50.9e6..51.1e6).contains(&float(all.weight_bytes)), "{all:?}");
        // An H200 through warp-level matrices, layer by layer: 47,600 images/s by a count made apart from this one.
        let peaks = Roofline { tera_flops: 490.0, giga_bytes: 4300.0 };
        let least: f64 = graph.steps.iter().map(|step| peaks.least(&of(step), 256).seconds).sum();
        assert!((45e3..50e3).contains(&(256.0 / least)), "{least}");
        // With all pointwise work fused: 27.3 million numbers.
        assert!((54e6..57e6).contains(&(all.bytes_of(1_000_000) / 1e6)), "{all:?}");
    }

    #[test]
    fn a_pixel_convolution_is_counted_as_by_hand() {
        let mut net = Sketch::default();
        let x = net.value(dims(56, 64));
        let other = net.value(dims(56, 256));
        let add = Pointwise::Combine { with: other, operator: Operator::Add, swapped: false };
        net.step(conv(Window::pixel(), 1, 256), &[x], dims(56, 256), vec![add, RELU]);
        let pixels = 56 * 56;
        assert_eq!(
            net.last(2),
            Cost {
                // Bias, sum and ReLU are one operation each on every result.
                operations: pixels * 256 * (2 * 64 + 3),
                read_bytes: 2 * pixels * (64 + 256),
                written_bytes: 2 * pixels * 256,
                weight_bytes: 2 * 64 * 256 + 4 * 256,
            }
        );
    }

    #[test]
    fn a_wide_window_reads_each_number_once_and_fills_quads() {
        let mut net = Sketch::default();
        let x = net.value(dims(9, 6));
        net.step(conv(square(3, 1), 1, 0), &[x], dims(9, 10), vec![]);
        let scale = || vec![1.0; 6];
        net.0.steps[0].before = vec![Pointwise::Affine { scale: scale(), shift: scale() }, RELU];
        assert_eq!(
            net.last(4),
            Cost {
                operations: 81 * 10 * 2 * 9 * 6 + 81 * 6 * 3,
                read_bytes: 4 * 81 * 8,
                written_bytes: 4 * 81 * 12,
                weight_bytes: 4 * 9 * 8 * 12 + 4 * (8 + 8),
            }
        );
    }

    #[test]
    fn a_shortcut_that_is_convolved_with_its_block_is_counted() {
        let mut net = Sketch::default();
        let block = net.value(dims(28, 128));
        let x = net.value(dims(56, 256));
        let window = Window { stride: [2; 2], ..Window::pixel() };
        let affine = Pointwise::Affine { scale: vec![1.0; 256], shift: vec![0.0; 256] };
        let shortcut = Shortcut { weights: Arc::default(), window, before: vec![affine, RELU] };
        let main = Conv {
            weights: Arc::default(),
            bias: vec![0.0; 512],
            window: Window::pixel(),
            groups: 1,
            shortcut: Some(shortcut),
        };
        net.step(Operation::Conv(main), &[block, x], dims(28, 512), vec![]);
        let pixels = 28 * 28;
        assert_eq!(
            net.last(2),
            Cost {
                // Of the block's input, every other row and column is read, normalised and cut at 0.
                operations: pixels * 512 * (2 * (128 + 256) + 1) + pixels * 256 * 3,
                read_bytes: 2 * pixels * (128 + 256),
                written_bytes: 2 * pixels * 512,
                weight_bytes: 2 * (128 + 256) * 512 + 4 * 512 + 4 * 2 * 256,
            }
        );
        assert_eq!(shape_text(&net.0, &net.0.steps[0]), "28×28×128→512 1×1 + 56×56×256 1×1/2");
    }

    #[test]
    fn values_of_different_width_are_told_apart() {
        let mut net = Sketch::default();
        let x = net.value(Dims::vector(8));
        let y = net.step(conv(Window::pixel(), 1, 0), &[x], Dims::vector(12), vec![]);
        let made = cost(&net.0, &net.0.steps[0], |id| if id == y { 4 } else { 2 }, 2);
        assert_eq!((made.read_bytes, made.written_bytes, made.weight_bytes), (16, 48, 2 * 96));
    }

    #[test]
    fn groups_share_the_channels_and_strides_leave_pixels_unread() {
        let mut net = Sketch::default();
        let x = net.value(dims(8, 16));
        net.step(conv(square(3, 1), 4, 0), &[x], dims(8, 16), vec![]);
        let grouped = net.last(1);
        assert_eq!((grouped.operations, grouped.weight_bytes), (64 * 16 * 2 * 4 * 9, 9 * 4 * 16));
        net.conv(x, 16, 1, 2);
        assert_eq!(net.last(1).read_bytes, 16 * 16, "every other row and column");
        let cases = [
            ("all", square(3, 1), 10, 10, 10),
            ("a stride that the window covers", square(3, 2), 10, 5, 10),
            ("padding is not read", square(5, 1), 2, 2, 2),
            ("pixels behind the last position", Window { stride: [3; 2], ..Window::whole([2; 2]) }, 9, 3, 6),
            ("holes", Window { dilation: [2; 2], ..Window::whole([2; 2]) }, 4, 1, 2),
        ];
        for (why, window, size, positions, want) in cases {
            assert_eq!(touched(size, positions, &window, 0), want, "{why}");
        }
        assert_eq!(touched(1 << 28, 1 << 28, &square(3, 1), 0), 1 << 28, "at once, since it is too much to count");
    }

    #[test]
    fn pools_softmax_joins_and_the_largest_are_counted() {
        let mut net = Sketch::default();
        let x = net.value(dims(6, 4));
        net.step(Operation::Pool(Pool { kind: PoolKind::Max, window: square(3, 2) }), &[x], dims(3, 4), vec![]);
        assert_eq!((net.last(4).operations, net.last(4).read_bytes), (36 * 9, 4 * 36 * 4));
        let mean = Pool { kind: PoolKind::Average, window: Window::whole([6, 6]) };
        net.step(Operation::Pool(mean), &[x], Dims::vector(4), vec![RELU]);
        assert_eq!(net.last(4).operations, 4 * (36 + 1) + 4);
        let both = net.step(Operation::Concat, &[x, x], dims(6, 8), vec![]);
        assert_eq!((net.last(2).operations, net.last(2).read_bytes, net.last(2).written_bytes), (0, 2 * 144, 2 * 288));
        net.step(Operation::Softmax, &[both], dims(6, 8), vec![]);
        assert_eq!((net.last(2).operations, net.last(2).read_bytes), (5 * 288, 2 * 288));
        net.step(Operation::Top { k: 3 }, &[both], dims(6, 6), vec![]);
        assert_eq!((net.last(2).operations, net.last(2).read_bytes, net.last(2).written_bytes), (288, 576, 36 * 8 * 2));
        // A sum with itself reads one value.
        let add = Pointwise::Combine { with: both, operator: Operator::Add, swapped: false };
        net.step(Operation::Pointwise, &[both], dims(6, 8), vec![add]);
        assert_eq!((net.last(2).operations, net.last(2).read_bytes), (288, 2 * 288));
    }

    #[test]
    fn a_gather_reads_what_lies_in_its_source() {
        let axis = |offset, step, limit| Axis { offset, step, limit, stride: 1 };
        let load = |shape, axes| Gather { shape, axes };
        let cases = [
            ("everything", [4, 5, 3], [axis(0, 1, 4), axis(0, 1, 5), axis(0, 1, 3)], 60),
            ("zeros on both sides", [6, 5, 8], [axis(-1, 1, 4), axis(0, 1, 5), axis(-3, 1, 3)], 60),
            ("every other one, from the second", [3, 1, 1], [axis(1, 2, 6), axis(0, 1, 1), axis(0, 1, 1)], 3),
            ("the last is outside", [3, 1, 1], [axis(1, 2, 5), axis(0, 1, 1), axis(0, 1, 1)], 2),
            ("one for all", [7, 2, 1], [axis(0, 0, 1), axis(0, 1, 2), axis(0, 1, 1)], 2),
            ("nothing", [3, 1, 1], [axis(9, 1, 4), axis(0, 1, 1), axis(0, 1, 1)], 0),
            ("absurd", [3, 1, 1], [axis(i64::MIN, usize::MAX, 4), axis(0, 1, 1), axis(0, 1, 1)], 0),
        ];
        for (why, shape, axes, want) in cases {
            assert_eq!(taken(&load(shape, axes)), want, "{why}");
        }
        let mut net = Sketch::default();
        net.0.inputs.push(Port {
            name: "x".into(),
            shape: vec![None, Some(3), Some(4), Some(5)],
            element: Element::U8,
        });
        let axes = [axis(0, 1, 4), axis(0, 1, 5), axis(0, 1, 3)];
        net.step(Operation::Gather(load([4, 5, 3], axes)), &[], Dims { height: 4, width: 5, channels: 3 }, vec![]);
        net.0.steps[0].inputs = vec![Source::Input(0)];
        assert_eq!((net.last(2).read_bytes, net.last(2).written_bytes), (60, 2 * 80), "bytes in, quads out");
    }

    #[test]
    fn the_scarcer_thing_bounds_a_step() {
        let roofline = Roofline { tera_flops: 1.0, giga_bytes: 100.0 };
        let step =
            |operations, read_bytes, weight_bytes| Cost { operations, read_bytes, written_bytes: 0, weight_bytes };
        let busy = roofline.least(&step(2_000_000, 100_000, 0), 4);
        assert_eq!((busy.seconds, busy.bound), (8e-6, Bound::Arithmetic));
        assert_eq!(busy.fraction(16e-6), Some(0.5));
        assert_eq!(busy.fraction(0.0), None);
        // Weights are read once, so a batch of one waits for them and a large batch does not.
        let dense = step(2_000_000, 1_000, 1_000_000);
        assert_eq!(roofline.least(&dense, 1).bound, Bound::Memory);
        assert_eq!(roofline.least(&dense, 64).bound, Bound::Arithmetic);
    }

    #[test]
    fn shapes_are_told_in_words() {
        let mut net = Sketch::default();
        let x = net.value(dims(56, 64));
        net.conv(x, 256, 1, 1);
        net.conv(x, 64, 3, 2);
        net.step(conv(square(3, 1), 32, 0), &[x], dims(56, 64), vec![]);
        net.step(
            Operation::Pool(Pool { kind: PoolKind::Average, window: Window::whole([56, 56]) }),
            &[x],
            Dims::vector(64),
            vec![],
        );
        net.step(Operation::Pointwise, &[x], dims(56, 64), vec![]);
        net.step(
            Operation::Gather(Gather {
                shape: [56, 56, 64],
                axes: [Axis { offset: 0, step: 1, limit: 56, stride: 1 }; 3],
            }),
            &[],
            dims(56, 64),
            vec![],
        );
        let told: Vec<String> = net.0.steps.iter().map(|step| shape_text(&net.0, step)).collect();
        let want = [
            "56×56×64→256 1×1",
            "56×56×64→28×28×64 3×3/2",
            "56×56×64 3×3 in 32 groups",
            "56×56×64→64 56×56",
            "56×56×64",
            "→56×56×64",
        ];
        assert_eq!(told, want);
    }
}
