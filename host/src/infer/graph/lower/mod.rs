//! Nodes → steps, one by one, with shapes inferred and everything that is known beforehand computed.
//!
//! What goes in: a [`ModelFile`]. What comes out: a [`Graph`] with one step for each node that does work; nodes that
//! only name, reshape or reorder leave none where they can. Fusing is [`super::passes`]'.

mod arrange;
mod layers;
mod pointwise;
mod shape;

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Axis, Dims, Gather, Graph, GraphError, Operation, Output, Pointwise, Source, Step, VALUE_ELEMENTS, ValueId,
    loadable,
};
use crate::infer::Port;
use crate::infer::onnx::{self, Constant, Declared, ModelFile, Node};
use crate::tensor::Element;

/// What a name in the file stands for.
#[derive(Clone, Debug)]
enum Held {
    /// A tensor that is known beforehand.
    Constant(Constant),
    /// A list of sizes, or one size where `scalar`, of which the batch (`None`) is not known.
    Sizes { list: Vec<Option<i64>>, scalar: bool },
    /// A tensor that the steps make.
    Tensor(View),
}

/// A value, and how the file sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View {
    value: ValueId,
    /// Which stored axis (0 height, 1 width, 2 channels) each of the file's axes after the batch is.
    order: [usize; 3],
    /// Whether the file sees these three as one axis.
    flat: bool,
}

/// The orders that layers are defined in.
const CHANNELS_FIRST: [usize; 3] = [2, 0, 1];
const CHANNELS_LAST: [usize; 3] = [0, 1, 2];

/// Why a node cannot be lowered; the node's name is added outside.
type Lowered<T> = Result<T, String>;

type Rule = fn(&mut Lowering, &Node) -> Lowered<Held>;

/// Every operation that is understood, and its rule.
const RULES: &[(&str, Rule)] = &[
    ("Add", pointwise::arithmetic),
    ("AveragePool", layers::pool),
    ("BatchNormalization", layers::batch_norm),
    ("Cast", pointwise::cast),
    ("Clip", pointwise::clip),
    ("Concat", arrange::concat),
    ("Constant", shape::constant),
    ("Conv", layers::conv),
    ("Div", pointwise::arithmetic),
    ("Dropout", shape::identity),
    ("Flatten", arrange::flatten),
    ("Gather", shape::gather),
    ("Gemm", layers::gemm),
    ("GlobalAveragePool", layers::global_average),
    ("HardSigmoid", pointwise::hard_sigmoid),
    ("HardSwish", pointwise::single),
    ("Identity", shape::identity),
    ("MatMul", layers::mat_mul),
    ("MaxPool", layers::pool),
    ("Mul", pointwise::arithmetic),
    ("Pad", arrange::pad),
    ("ReduceMean", layers::reduce_mean),
    ("Relu", pointwise::relu),
    ("Reshape", arrange::reshape),
    ("Shape", shape::shape),
    ("Sigmoid", pointwise::single),
    ("Slice", arrange::slice),
    ("Softmax", layers::softmax),
    ("Squeeze", arrange::squeeze),
    ("Sub", pointwise::arithmetic),
    ("TopK", layers::top_k),
    ("Transpose", arrange::transpose),
    ("Unsqueeze", arrange::unsqueeze),
];

/// See [`super::supported`].
pub(super) fn supported() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.0).collect()
}

/// The state of the walk over the nodes.
struct Lowering {
    graph: Graph,
    held: HashMap<String, Held>,
    /// Places in a tensor, which may only be outputs of the model.
    places: HashMap<String, View>,
    opset: i64,
    /// The batch that the inputs declare; `None` where it is free.
    batch: Option<usize>,
    /// The node at hand, which names the steps that it makes.
    node: String,
    /// Numbers that steps and constants made here hold so far.
    spent: usize,
}

/// The most numbers that steps and constants made here may hold together: as many as the largest file. A file that uses
/// one constant in thousands of nodes is small, and what it asks for is not.
const NUMBERS: usize = 1 << 29;
/// The most steps; ResNet-152 has 515. The passes take time with the square of them.
const STEPS: usize = 4096;

/// See [`super::build`]; the steps are as the nodes were.
pub(super) fn lower(file: &ModelFile) -> Result<Graph, GraphError> {
    let mut lowering = Lowering {
        graph: Graph::default(),
        held: HashMap::new(),
        places: HashMap::new(),
        opset: file.opset,
        batch: None,
        node: String::new(),
        spent: 0,
    };
    for (name, constant) in &file.constants {
        lowering.held.insert(name.clone(), Held::Constant(constant.clone()));
    }
    for (at, input) in file.inputs.iter().enumerate() {
        lowering.declare_input(file, at, input)?;
    }
    for node in &file.nodes {
        lowering.lower_node(node)?;
    }
    for output in &file.outputs {
        lowering.declare_output(output)?;
    }
    if lowering.graph.outputs.is_empty() {
        return Err(GraphError::Invalid("it has no output".into()));
    }
    Ok(lowering.graph)
}

impl Lowering {
    fn lower_node(&mut self, node: &Node) -> Result<(), GraphError> {
        let refuse =
            |reason| GraphError::Unsupported { node: node.name.clone(), operation: node.operation.clone(), reason };
        let rule = RULES.iter().find(|rule| rule.0 == node.operation && onnx::is_standard(&node.domain));
        let Some((_, rule)) = rule else {
            return Err(refuse(format!("supported are {}", supported().join(", "))));
        };
        if let Some(name) = node.inputs.iter().find(|name| self.places.contains_key(*name)) {
            return Err(refuse(format!("the places `{name}` can only be an output of the model")));
        }
        self.node.clone_from(&node.name);
        let held = rule(self, node).map_err(refuse)?;
        let name = node.outputs.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| GraphError::Invalid(format!("node `{}` has no output", node.name)))?;
        // Further outputs (a mask, running statistics) stay unknown: whoever reads one is refused.
        if self.held.insert(name.clone(), held).is_some() || self.places.contains_key(name) {
            return Err(GraphError::Invalid(format!("`{name}` is made twice")));
        }
        Ok(())
    }

    /// Loads an input as floats with its channels last.
    fn declare_input(&mut self, file: &ModelFile, at: usize, input: &Declared) -> Result<(), GraphError> {
        let refuse =
            |reason: String| GraphError::Unsupported { node: input.name.clone(), operation: "input".into(), reason };
        let element = loadable(input.element)
            .ok_or_else(|| refuse(format!("element type {} is not supported; floats and bytes are", input.element)))?;
        let shape = input.shape.clone().ok_or_else(|| refuse("it has no shape".into()))?;
        let sizes: Option<Vec<usize>> = shape.iter().skip(1).copied().collect();
        let sizes = sizes.ok_or_else(|| {
            let text = crate::infer::shape_text(&shape);
            refuse(format!("only the batch may be free, not {text}; export the model with a fixed picture size"))
        })?;
        let (source, flat) = match sizes[..] {
            [a, b, c] => ([a, b, c], false),
            [k] => ([1, 1, k], true),
            _ => return Err(refuse(format!("rank {} is not supported; 2 and 4 are", shape.len()))),
        };
        match (self.batch, shape[0]) {
            (Some(a), Some(b)) if a != b => return Err(refuse("its batch is not that of the other inputs".into())),
            (None, batch) => self.batch = batch,
            _ => {}
        }
        self.graph.inputs.push(Port { name: input.name.clone(), shape, element });
        // The stored order of a picture: as given if the model itself turns it round, else from channels-first.
        let order = if flat || is_channels_last(file, &input.name) { CHANNELS_LAST } else { CHANNELS_FIRST };
        self.node.clone_from(&input.name);
        let dims = stored_dims(source, order);
        let load = reorder(source, order);
        let value = self.push(Operation::Gather(load), vec![Source::Input(at)], dims).map_err(refuse)?;
        self.held.insert(input.name.clone(), Held::Tensor(View { value, order, flat }));
        Ok(())
    }

    fn declare_output(&mut self, output: &Declared) -> Result<(), GraphError> {
        let places = self.places.get(&output.name).map(|view| (*view, Element::I64));
        let (view, element) = match self.held.get(&output.name) {
            Some(Held::Tensor(view)) => (*view, Element::F32),
            Some(_) => {
                return Err(GraphError::Unsupported {
                    node: output.name.clone(),
                    operation: "output".into(),
                    reason: "it does not depend on the input".into(),
                });
            }
            None => {
                let unknown = || GraphError::Invalid(format!("output `{}` is made by no node", output.name));
                places.ok_or_else(unknown)?
            }
        };
        let shape = self.shape_of(view);
        let mut port = vec![self.batch];
        port.extend(shape.iter().map(|&n| Some(n)));
        self.graph.outputs.push(Output {
            port: Port { name: output.name.clone(), shape: port, element },
            value: view.value,
            order: view.order,
            shape,
        });
        Ok(())
    }

    /// Adds a step that writes a new value of `dims`.
    fn push(&mut self, operation: Operation, inputs: Vec<Source>, dims: Dims) -> Lowered<ValueId> {
        self.push_with(operation, inputs, dims, Vec::new())
    }

    /// Adds a step that does `after` to the value of `view`.
    fn push_pointwise(&mut self, view: View, after: Pointwise) -> Lowered<Held> {
        let dims = self.graph.values[view.value];
        if let Pointwise::Affine { scale, shift } = &after {
            self.spend(scale.len() + shift.len())?;
        }
        let value = self.push_with(Operation::Pointwise, vec![Source::Value(view.value)], dims, vec![after])?;
        Ok(Held::Tensor(View { value, ..view }))
    }

    fn push_with(
        &mut self,
        operation: Operation,
        inputs: Vec<Source>,
        dims: Dims,
        after: Vec<Pointwise>,
    ) -> Lowered<ValueId> {
        let elements = dims.axes().iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        if elements.is_none_or(|n| n == 0 || n > VALUE_ELEMENTS) {
            return Err(format!("a value of {}×{}×{} is not supported", dims.height, dims.width, dims.channels));
        }
        if self.graph.steps.len() >= STEPS {
            return Err(format!("more than {STEPS} steps are not supported"));
        }
        self.graph.values.push(dims);
        let output = self.graph.values.len() - 1;
        self.graph.steps.push(Step { node: self.node.clone(), operation, inputs, before: Vec::new(), after, output });
        Ok(output)
    }

    /// Counts `numbers` more that this model holds.
    fn spend(&mut self, numbers: usize) -> Lowered<()> {
        self.spent = self.spent.saturating_add(numbers);
        if self.spent > NUMBERS { Err(format!("the model holds more than {NUMBERS} numbers")) } else { Ok(()) }
    }

    fn dims(&self, view: View) -> Dims {
        self.graph.values[view.value]
    }

    /// The shape that the file sees, without the batch.
    fn shape_of(&self, view: View) -> Vec<usize> {
        let axes = self.dims(view).axes();
        if view.flat { vec![axes.iter().product()] } else { view.order.map(|axis| axes[axis]).to_vec() }
    }

    /// What input `at` of `node` stands for; `None` for an optional one that is left out.
    fn optional(&self, node: &Node, at: usize) -> Lowered<Option<&Held>> {
        match node.inputs.get(at).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => {
                self.held.get(name).map(Some).ok_or_else(|| format!("its input `{name}` is made by no node before it"))
            }
        }
    }

    fn required(&self, node: &Node, at: usize) -> Lowered<&Held> {
        self.optional(node, at)?.ok_or_else(|| format!("input {at} is missing"))
    }

    /// Input `at` as a tensor that steps make.
    fn tensor(&self, node: &Node, at: usize) -> Lowered<View> {
        match self.required(node, at)? {
            Held::Tensor(view) => Ok(*view),
            _ => Err(format!("input {at} must depend on the model's input")),
        }
    }

    /// Input `at` as a picture with its channels first, moved into that order if need be.
    fn picture(&mut self, node: &Node, at: usize) -> Lowered<View> {
        let view = self.tensor(node, at)?;
        if view.flat {
            return Err(format!("input {at} must have rank 4"));
        }
        self.in_order(view, CHANNELS_FIRST)
    }

    /// Input `at` as a constant of floats.
    fn floats<'a>(&'a self, node: &Node, at: usize) -> Lowered<(&'a [usize], &'a Arc<Vec<f32>>)> {
        match self.required(node, at)? {
            Held::Constant(Constant { shape, numbers: onnx::Numbers::Floats(list) }) => Ok((shape, list)),
            Held::Constant(Constant { numbers: onnx::Numbers::Unread(kind), .. }) => {
                Err(format!("input {at} has element type {kind}, which is not supported"))
            }
            _ => Err(format!("input {at} must be constant floats")),
        }
    }

    /// Input `at` as constant integers, or the setting `name`: operations moved from settings to inputs over time.
    fn integers(&self, node: &Node, at: usize, name: &str) -> Lowered<Option<Vec<i64>>> {
        if let Some(list) = node.integers(name) {
            return Ok(Some(list.to_vec()));
        }
        match self.optional(node, at)? {
            None => Ok(None),
            Some(held) => match sizes_of(held) {
                Some(list) => list.into_iter().collect::<Option<_>>().map(Some),
                None => None,
            }
            .ok_or_else(|| format!("input {at} must be constant integers")),
        }
    }

    /// The same numbers, stored so that the file's axes are in `order`.
    fn in_order(&mut self, view: View, order: [usize; 3]) -> Lowered<View> {
        let axes = self.dims(view).axes();
        if view.order == order || (view.flat && self.dims(view).pixels() == 1) {
            return Ok(View { order, ..view });
        }
        // The file's axes, stored one after the other, then read in the order wanted.
        let seen = view.order.map(|axis| axes[axis]);
        let mut gather = reorder(seen, order);
        let strides = [axes[1] * axes[2], axes[2], 1];
        for (stored, axis) in gather.axes.iter_mut().enumerate() {
            let file_axis = order.iter().position(|&o| o == stored).expect("an order is a permutation; this is a bug");
            axis.stride = strides[view.order[file_axis]];
        }
        let dims = stored_dims(seen, order);
        let value = self.push(Operation::Gather(gather), vec![Source::Value(view.value)], dims)?;
        Ok(View { value, order, flat: view.flat })
    }

    /// The same numbers as one pixel, in the file's order.
    fn as_vector(&mut self, view: View) -> Lowered<View> {
        if self.dims(view).pixels() == 1 {
            return Ok(View { order: CHANNELS_LAST, flat: true, ..view });
        }
        let axes = self.dims(view).axes();
        let strides = [axes[1] * axes[2], axes[2], 1];
        let seen = view.order.map(|axis| axes[axis]);
        let gather = Gather {
            shape: seen,
            axes: std::array::from_fn(|i| Axis { offset: 0, step: 1, limit: seen[i], stride: strides[view.order[i]] }),
        };
        let dims = Dims::vector(seen.iter().product());
        let value = self.push(Operation::Gather(gather), vec![Source::Value(view.value)], dims)?;
        Ok(View { value, order: CHANNELS_LAST, flat: true })
    }
}

/// The stored size of a picture whose axes the file sees as `seen`.
fn stored_dims(seen: [usize; 3], order: [usize; 3]) -> Dims {
    let mut axes = [0; 3];
    order.iter().zip(seen).for_each(|(&axis, n)| axes[axis] = n);
    Dims { height: axes[0], width: axes[1], channels: axes[2] }
}

/// Reads a source of shape `seen`, row-major, into the stored order.
fn reorder(seen: [usize; 3], order: [usize; 3]) -> Gather {
    let strides = [seen[1].saturating_mul(seen[2]), seen[2], 1];
    let from = |stored: usize| order.iter().position(|&axis| axis == stored).unwrap_or(stored);
    let axis = |stored| Axis { offset: 0, step: 1, limit: seen[from(stored)], stride: strides[from(stored)] };
    Gather { shape: stored_dims(seen, order).axes(), axes: [axis(0), axis(1), axis(2)] }
}

/// The longest list of sizes; padding has two for each of at most eight dimensions.
const SIZES: usize = 64;

/// A list of sizes from constant integers or from shape arithmetic.
fn sizes_of(held: &Held) -> Option<Vec<Option<i64>>> {
    match held {
        Held::Constant(Constant { numbers: onnx::Numbers::Integers(list), .. }) if list.len() <= SIZES => {
            Some(list.iter().map(|&n| Some(n)).collect())
        }
        Held::Sizes { list, .. } => Some(list.clone()),
        _ => None,
    }
}

/// Whether the model itself transposes this input from channels-last, perhaps after arithmetic, as converters from
/// TensorFlow write it.
fn is_channels_last(file: &ModelFile, input: &str) -> bool {
    let mut name = input;
    // Each round goes one node further; the bound is for files whose nodes form a ring.
    for _ in 0..16 {
        let Some(node) = file.nodes.iter().find(|node| node.inputs.iter().any(|i| i == name)) else { return false };
        match node.operation.as_str() {
            "Transpose" => return node.integers("perm") == Some(&[0, 3, 1, 2]),
            "Cast" | "Identity" | "Add" | "Sub" | "Mul" | "Div" | "Clip" => {}
            _ => return false,
        }
        let Some(next) = node.outputs.first() else { return false };
        name = next;
    }
    false
}

/// A negative axis counts from the end.
fn axis_index(axis: i64, rank: usize) -> Lowered<usize> {
    let rank_i = i64::try_from(rank).unwrap_or(i64::MAX);
    let at = if axis < 0 { axis.saturating_add(rank_i) } else { axis };
    usize::try_from(at).ok().filter(|&at| at < rank).ok_or_else(|| format!("axis {axis} is outside rank {rank}"))
}

#[cfg(test)]
mod tests;
