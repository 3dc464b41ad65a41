//! Small graphs of one step each, for the self-test and the tests: every family, with odd sizes and tails.

use std::sync::Arc;

use super::super::Port;
use super::super::graph::{
    Axis, Conv, Dims, Gather, Graph, Operation, Operator, Output, Pointwise, Pool, PoolKind, Shortcut, Source, Step,
    Window,
};
use super::kernel::Family;
use crate::tensor::{Element, Tensor};

/// A graph of one step after its loads, and a batch for it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) graph: Graph,
    pub(super) batch: usize,
}

/// Numbers that look random and are the same everywhere.
pub(super) struct Numbers(u32);

impl Numbers {
    pub(super) fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(2_654_435_761).wrapping_add(12_345))
    }

    /// A number from -1 to 1, never 0, which 16-bit floats hold exactly: what differs then is the kernels' own.
    #[expect(clippy::cast_precision_loss, reason = "11 bits fit")]
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (2 * (self.0 >> 22) + 1) as f32 / 1024.0 - 1.0
    }

    pub(super) fn list(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Case {
    /// The families that can do the step that is tested.
    pub(super) fn families(&self) -> &'static [Family] {
        self.graph.steps.last().map_or(&[], |step| Family::candidates(&step.operation))
    }

    /// One tensor per input of the graph, `batch` pictures each; every picture differs.
    pub(super) fn inputs(&self, batch: usize) -> Vec<Tensor> {
        let of = |(at, port): (usize, &Port)| {
            let shape: Vec<usize> =
                std::iter::once(batch).chain(port.shape.iter().skip(1).map(|n| n.unwrap_or(1))).collect();
            let count = shape.iter().product();
            let numbers = Numbers::new(u32::try_from(at).unwrap_or(0) + 1).list(count);
            let made = match port.element {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
                Element::U8 => Tensor::from_u8(shape, numbers.iter().map(|v| (v * 127.0 + 128.0) as u8).collect()),
                _ => Tensor::from_f32(shape, numbers),
            };
            made.expect("the shape was made from the count; this is a bug")
        };
        self.graph.inputs.iter().enumerate().map(of).collect()
    }
}

/// Every case, the first of each family being the one that the self-test takes.
pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![load(Element::F32), load(Element::U8), slice_and_pad(), flatten()];
    cases.extend(convolutions());
    cases.extend(shortcuts());
    cases.extend(pools());
    cases.extend(pointwise());
    cases.extend([softmax(10), softmax(261), softmax_of_pixels(), concat(5, 6), concat(8, 4)]);
    cases.extend(tops());
    cases
}

fn dims(height: usize, width: usize, channels: usize) -> Dims {
    Dims { height, width, channels }
}

const RELU: Pointwise = Pointwise::Clip { low: 0.0, high: f32::INFINITY };

/// A graph under construction: loads, then one step.
#[derive(Default)]
struct Sketch {
    graph: Graph,
}

impl Sketch {
    /// Loads an input as it is given.
    fn load(&mut self, size: Dims, element: Element) -> usize {
        let [height, width, channels] = size.axes();
        let axis = |limit, stride| Axis { offset: 0, step: 1, limit, stride };
        let axes = [axis(height, width * channels), axis(width, channels), axis(channels, 1)];
        let gather = Gather { shape: size.axes(), axes };
        let shape = vec![None, Some(height), Some(width), Some(channels)];
        self.graph.inputs.push(Port { name: format!("x{}", self.graph.inputs.len()), shape, element });
        let source = Source::Input(self.graph.inputs.len() - 1);
        self.step(Operation::Gather(gather), vec![source], size)
    }

    fn step(&mut self, operation: Operation, inputs: Vec<Source>, size: Dims) -> usize {
        let (before, after) = (Vec::new(), Vec::new());
        self.graph.values.push(size);
        let output = self.graph.values.len() - 1;
        self.graph.steps.push(Step { node: format!("step {output}"), operation, inputs, before, after, output });
        output
    }

    fn before(mut self, work: Vec<Pointwise>) -> Self {
        self.graph.steps.last_mut().expect("a step was added; this is a bug").before = work;
        self
    }

    fn after(mut self, work: Vec<Pointwise>) -> Self {
        self.graph.steps.last_mut().expect("a step was added; this is a bug").after = work;
        self
    }

    /// The graph, whose output is the last step's.
    fn case(mut self, name: &'static str, batch: usize) -> Case {
        let last = self.graph.steps.last().expect("a step was added; this is a bug");
        let value = last.output;
        let size = self.graph.values[value];
        let shape = size.axes().to_vec();
        let port_shape = std::iter::once(None).chain(shape.iter().map(|&n| Some(n))).collect();
        let port = Port { name: "y".into(), shape: port_shape, element: Element::F32 };
        self.graph.outputs.push(Output { port, value, order: [0, 1, 2], shape });
        Case { name, graph: self.graph, batch }
    }
}

fn load(element: Element) -> Case {
    let mut sketch = Sketch::default();
    // 3 × 5 × 3 bytes a picture: neither pictures nor pixels begin at whole words.
    sketch.load(dims(3, 5, 3), element);
    sketch.case(if element == Element::U8 { "load of bytes" } else { "load of floats" }, 3)
}

fn slice_and_pad() -> Case {
    // The shortcut of small ResNets for CIFAR: every other pixel, and channels of zeros on both sides.
    let mut sketch = Sketch::default();
    let x = sketch.load(dims(7, 6, 6), Element::F32);
    let axis = |offset, step, limit, stride| Axis { offset, step, limit, stride };
    let axes = [axis(0, 2, 7, 36), axis(1, 2, 6, 6), axis(-3, 1, 6, 1)];
    sketch.step(Operation::Gather(Gather { shape: [4, 3, 12], axes }), vec![Source::Value(x)], dims(4, 3, 12));
    sketch.case("slice and pad", 2)
}

fn flatten() -> Case {
    let mut sketch = Sketch::default();
    let x = sketch.load(dims(3, 4, 5), Element::F32);
    let axis = |limit, stride| Axis { offset: 0, step: 1, limit, stride };
    let gather = Gather { shape: [5, 3, 4], axes: [axis(5, 1), axis(3, 20), axis(4, 5)] };
    sketch.step(Operation::Gather(gather), vec![Source::Value(x)], Dims::vector(60));
    sketch.case("flatten, channels first", 3)
}

/// A convolution's sizes.
struct Layer {
    from: Dims,
    outputs: usize,
    window: Window,
    groups: usize,
}

impl Layer {
    fn new(from: Dims, outputs: usize, kernel: usize) -> Self {
        let window = Window { before: [kernel / 2; 2], after: [kernel / 2; 2], ..Window::whole([kernel; 2]) };
        Self { from, outputs, window, groups: 1 }
    }

    fn to(&self) -> Dims {
        let length = |axis: usize, size: usize| {
            let window = &self.window;
            let room =
                size + window.before[axis] + window.after[axis] - (window.size[axis] - 1) * window.dilation[axis] - 1;
            room / window.stride[axis] + 1
        };
        dims(length(0, self.from.height), length(1, self.from.width), self.outputs)
    }

    fn add(&self, sketch: &mut Sketch, x: usize) -> usize {
        let taps = self.window.size[0] * self.window.size[1];
        let per_output = self.from.channels / self.groups * taps;
        let mut numbers = Numbers::new(77);
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let scale = (3.0 / per_output as f32).sqrt();
        let weights = numbers.list(self.outputs * per_output).into_iter().map(|w| w * scale).collect();
        let conv = Conv {
            weights: Arc::new(weights),
            bias: numbers.list(self.outputs),
            window: self.window,
            groups: self.groups,
            shortcut: None,
        };
        sketch.step(Operation::Conv(conv), vec![Source::Value(x)], self.to())
    }

    fn case(&self, name: &'static str, batch: usize) -> Case {
        let mut sketch = Sketch::default();
        let x = sketch.load(self.from, Element::F32);
        self.add(&mut sketch, x);
        sketch.case(name, batch)
    }
}

fn convolutions() -> Vec<Case> {
    let strided = |mut layer: Layer, stride| {
        layer.window.stride = stride;
        layer
    };
    let grouped = |from, outputs, groups| Layer { groups, ..Layer::new(from, outputs, 3) };
    let mut dilated = Layer::new(dims(9, 8, 4), 8, 3);
    (dilated.window.dilation, dilated.window.before, dilated.window.after) = ([2, 3], [2, 0], [1, 3]);
    vec![
        with_everything(),
        Layer::new(dims(5, 4, 20), 70, 1).case("1×1, several tiles of channels", 3),
        Layer::new(dims(1, 1, 67), 101, 1).case("fully connected", 5),
        Layer { window: Window::whole([3, 4]), ..Layer::new(dims(3, 4, 6), 10, 1) }
            .case("fully connected to a picture", 2),
        strided(Layer::new(dims(15, 13, 3), 16, 7), [2, 2]).case("7×7, stride 2, three channels", 2),
        strided(Layer::new(dims(6, 7, 8), 30, 1), [2, 3]).case("1×1, uneven stride", 2),
        Layer::new(dims(20, 20, 5), 6, 3).case("3×3, several tiles of pixels", 2),
        dilated.case("dilated, uneven padding", 2),
        grouped(dims(6, 5, 16), 16, 4).case("groups of four", 2),
        grouped(dims(6, 5, 6), 9, 3).case("groups of two and three", 2),
        grouped(dims(5, 6, 7), 7, 7).case("depthwise, odd", 3),
    ]
}

/// Normalisation before, bias, shortcut and ReLU after: what a pre-activation ResNet asks of a convolution.
fn with_everything() -> Case {
    let mut sketch = Sketch::default();
    let layer = Layer::new(dims(7, 9, 10), 13, 3);
    let x = sketch.load(layer.from, Element::F32);
    let shortcut = sketch.load(layer.to(), Element::F32);
    let pixel = sketch.load(Dims::vector(13), Element::F32);
    layer.add(&mut sketch, x);
    let mut numbers = Numbers::new(5);
    let affine = Pointwise::Affine { scale: numbers.list(10), shift: numbers.list(10) };
    let combine = |with, operator, swapped| Pointwise::Combine { with, operator, swapped };
    let after = vec![combine(shortcut, Operator::Add, false), combine(pixel, Operator::Subtract, true), RELU];
    sketch.before(vec![affine, RELU]).after(after).case("3×3 with everything round it", 3)
}

/// The last convolution of a residual block with the one in its shortcut.
fn shortcut(
    name: &'static str,
    (layer, second): (Layer, Layer),
    (before, second_before): (Vec<Pointwise>, Vec<Pointwise>),
) -> Case {
    let mut sketch = Sketch::default();
    let x = sketch.load(layer.from, Element::F32);
    let y = sketch.load(second.from, Element::F32);
    let residual = sketch.load(layer.to(), Element::F32);
    layer.add(&mut sketch, x);
    let step = sketch.graph.steps.last_mut().expect("a step was added; this is a bug");
    step.inputs.push(Source::Value(y));
    let Operation::Conv(conv) = &mut step.operation else { unreachable!("it was just added; this is a bug") };
    let taps = second.window.size[0] * second.window.size[1];
    let weights = Numbers::new(31).list(second.outputs * second.from.channels * taps);
    let weights = Arc::new(weights.into_iter().map(|w| w / 4.0).collect());
    conv.shortcut = Some(Shortcut { weights, window: second.window, before: second_before });
    let add = Pointwise::Combine { with: residual, operator: Operator::Add, swapped: false };
    sketch.before(before).after(vec![add, RELU]).case(name, 3)
}

fn shortcuts() -> Vec<Case> {
    let strided = |mut layer: Layer, stride| {
        layer.window.stride = [stride; 2];
        layer
    };
    let mut numbers = Numbers::new(12);
    let mut affine = |n| vec![Pointwise::Affine { scale: numbers.list(n), shift: numbers.list(n) }, RELU];
    let (before, second_before) = (affine(10), affine(7));
    let basic = (Layer::new(dims(5, 4, 10), 21, 3), strided(Layer::new(dims(9, 8, 7), 21, 1), 2));
    let bottleneck = (Layer::new(dims(4, 6, 33), 70, 1), Layer::new(dims(4, 6, 40), 70, 1));
    vec![
        shortcut("3×3 with a shortcut", basic, (before, second_before)),
        shortcut("1×1 with a shortcut", bottleneck, (Vec::new(), Vec::new())),
    ]
}

fn pools() -> Vec<Case> {
    let window = |size, stride, pad: usize| Window {
        stride: [stride; 2],
        before: [pad; 2],
        after: [pad; 2],
        ..Window::whole([size; 2])
    };
    let case = |name, from, kind, window: Window, to| {
        let mut sketch = Sketch::default();
        let x = sketch.load(from, Element::F32);
        sketch.step(Operation::Pool(Pool { kind, window }), vec![Source::Value(x)], to);
        sketch.case(name, 2)
    };
    let mut mean = Sketch::default();
    let x = mean.load(dims(7, 7, 10), Element::F32);
    let whole = Pool { kind: PoolKind::Average, window: Window::whole([7, 7]) };
    mean.step(Operation::Pool(whole), vec![Source::Value(x)], Dims::vector(10));
    let mut numbers = Numbers::new(6);
    let affine = Pointwise::Affine { scale: numbers.list(10), shift: numbers.list(10) };
    // The last window of the last case begins in the picture and ends behind its padding.
    vec![
        case("max, 3×3 stride 2", dims(9, 8, 6), PoolKind::Max, window(3, 2, 1), dims(5, 4, 6)),
        case("mean, padded", dims(6, 6, 5), PoolKind::AveragePadded, window(3, 1, 1), dims(6, 6, 5)),
        case("mean, padding not counted", dims(6, 6, 5), PoolKind::Average, window(3, 2, 1), dims(3, 3, 5)),
        case("mean, rounded up", dims(6, 6, 5), PoolKind::AveragePadded, window(3, 2, 0), dims(3, 3, 5)),
        mean.before(vec![affine, RELU]).case("mean of a whole picture, normalised", 3),
    ]
}

fn pointwise() -> Vec<Case> {
    let mut sketch = Sketch::default();
    let size = dims(5, 3, 7);
    let x = sketch.load(size, Element::F32);
    let other = sketch.load(size, Element::F32);
    sketch.step(Operation::Pointwise, vec![Source::Value(x)], size);
    let mut numbers = Numbers::new(8);
    let affine = Pointwise::Affine { scale: numbers.list(7), shift: numbers.list(7) };
    let combine = |operator, swapped| Pointwise::Combine { with: other, operator, swapped };
    let positive = Pointwise::Clip { low: 0.5, high: 6.0 };
    // Lanes beyond the seventh channel divide nothing by nothing, and must come out as zero all the same.
    let work = vec![affine, combine(Operator::Multiply, true), positive, combine(Operator::Divide, false)];
    vec![sketch.after(work).case("arithmetic", 3), gates()]
}

/// Gates round a convolution: in the channels that fill up its quads, and in its padding, a sigmoid makes a half of zero.
fn gates() -> Case {
    let mut sketch = Sketch::default();
    let layer = Layer::new(dims(5, 6, 7), 9, 3);
    let x = sketch.load(layer.from, Element::F32);
    let far = Pointwise::Affine { scale: vec![200.0; 7], shift: vec![0.0; 7] };
    layer.add(&mut sketch, x);
    let near = Pointwise::Affine { scale: vec![4.0; 9], shift: vec![0.0; 9] };
    let after = vec![near, Pointwise::HardSwish, Pointwise::Sigmoid];
    sketch.before(vec![far, Pointwise::Sigmoid, Pointwise::HardSwish]).after(after).case("gates round a 3×3", 3)
}

fn softmax(channels: usize) -> Case {
    let mut sketch = Sketch::default();
    let x = sketch.load(Dims::vector(channels), Element::F32);
    sketch.step(Operation::Softmax, vec![Source::Value(x)], Dims::vector(channels));
    sketch.case("softmax", 3)
}

fn softmax_of_pixels() -> Case {
    let mut sketch = Sketch::default();
    let x = sketch.load(dims(3, 2, 9), Element::F32);
    sketch.step(Operation::Softmax, vec![Source::Value(x)], dims(3, 2, 9));
    sketch.case("softmax of each pixel", 2)
}

fn concat(first: usize, second: usize) -> Case {
    let mut sketch = Sketch::default();
    let a = sketch.load(dims(4, 3, first), Element::F32);
    let b = sketch.load(dims(4, 3, second), Element::F32);
    sketch.step(Operation::Concat, vec![Source::Value(a), Source::Value(b)], dims(4, 3, first + second));
    sketch.case("two sources side by side", 2)
}

/// The largest channels and their places: few of many, one, all, and of each pixel.
fn tops() -> Vec<Case> {
    let case = |name, from: Dims, k: usize, steps: f32| {
        let mut sketch = Sketch::default();
        let x = sketch.load(from, Element::F32);
        let clip = Pointwise::Clip { low: -steps, high: steps };
        sketch.graph.steps[x].after = vec![clip];
        sketch.step(Operation::Top { k }, vec![Source::Value(x)], Dims { channels: 2 * k, ..from });
        sketch.case(name, 3)
    };
    vec![
        case("the five largest", Dims::vector(261), 5, 1.0),
        case("the largest", Dims::vector(70), 1, 1.0),
        case("all, sorted, many of them equal", Dims::vector(23), 23, 0.25),
        case("the three largest of each pixel, all equal at the top", dims(3, 2, 9), 3, 0.125),
        case("more than a workgroup has invocations", Dims::vector(1001), 130, 0.75),
    ]
}
