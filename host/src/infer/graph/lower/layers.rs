//! Layers with weights or windows: convolution, pooling, normalisation, fully connected, softmax.

use std::sync::Arc;

use super::super::{Axis, Conv, Dims, Gather, Operation, Pointwise, Pool, PoolKind, Source, Window};
use super::{CHANNELS_FIRST, Held, Lowered, Lowering, View, axis_index};
use crate::infer::onnx::Node;

/// Bounds what a file can ask of one output number; the largest kernels in use are far below.
const WINDOW: usize = 4096;

pub(super) fn conv(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.picture(node, 0)?;
    let dims = lowering.dims(view);
    let (shape, weights) = lowering.floats(node, 1)?;
    let &[outputs, per_group, rows, columns] = shape else {
        return Err(format!("weights of rank {} are not supported; 4 is", shape.len()));
    };
    let groups = usize::try_from(node.integer("group", 1)).ok().filter(|&g| g > 0).ok_or("`group` must be positive")?;
    if per_group.checked_mul(groups) != Some(dims.channels) || !outputs.is_multiple_of(groups) || weights.is_empty() {
        return Err(format!("weights of shape {shape:?} in {groups} groups do not fit {} channels", dims.channels));
    }
    let weights = Arc::clone(weights);
    let bias = match lowering.optional(node, 2)? {
        None => vec![0.0; outputs],
        Some(_) => lowering.floats(node, 2)?.1.to_vec(),
    };
    if bias.len() != outputs {
        return Err(format!("{} numbers of bias do not fit {outputs} channels", bias.len()));
    }
    let (window, [height, width]) = window(node, dims, [rows, columns])?;
    lowering.spend(weights.len() + bias.len())?;
    let operation = Operation::Conv(Conv { weights, bias, window, groups, shortcut: None });
    let value = lowering.push(operation, vec![Source::Value(view.value)], Dims { height, width, channels: outputs })?;
    Ok(Held::Tensor(View { value, order: CHANNELS_FIRST, flat: false }))
}

pub(super) fn pool(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.picture(node, 0)?;
    let dims = lowering.dims(view);
    let size = pair(node, "kernel_shape")?.ok_or("`kernel_shape` is missing")?;
    let (window, [height, width]) = window(node, dims, size)?;
    let kind = match (node.operation.as_str(), node.integer("count_include_pad", 0)) {
        ("MaxPool", _) => PoolKind::Max,
        (_, 0) => PoolKind::Average,
        _ => PoolKind::AveragePadded,
    };
    let operation = Operation::Pool(Pool { kind, window });
    let value = lowering.push(operation, vec![Source::Value(view.value)], Dims { height, width, ..dims })?;
    Ok(Held::Tensor(View { value, ..view }))
}

pub(super) fn global_average(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.picture(node, 0)?;
    average_all(lowering, view)
}

pub(super) fn reduce_mean(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let axes = lowering.integers(node, 1, "axes")?.unwrap_or_default();
    let axes: Vec<usize> = axes.iter().map(|&axis| axis_index(axis, 4)).collect::<Lowered<_>>()?;
    let mut stored: Vec<usize> = axes.iter().filter(|&&axis| axis > 0).map(|&axis| view.order[axis - 1]).collect();
    stored.sort_unstable();
    if view.flat || axes.len() != 2 || stored != [0, 1] {
        return Err("only the mean over rows and columns is supported".into());
    }
    let held = average_all(lowering, view)?;
    match held {
        Held::Tensor(view) if node.integer("keepdims", 1) == 0 => lowering.as_vector(view).map(Held::Tensor),
        held => Ok(held),
    }
}

fn average_all(lowering: &mut Lowering, view: View) -> Lowered<Held> {
    let dims = lowering.dims(view);
    let pool = Pool { kind: PoolKind::Average, window: Window::whole([dims.height, dims.width]) };
    let value = lowering.push(Operation::Pool(pool), vec![Source::Value(view.value)], Dims::vector(dims.channels))?;
    Ok(Held::Tensor(View { value, ..view }))
}

/// Normalisation with known statistics: a scale and a shift per channel.
pub(super) fn batch_norm(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    if node.integer("training_mode", 0) != 0 {
        return Err("training mode is not supported; export the model for inference".into());
    }
    let view = lowering.tensor(node, 0)?;
    let view = if view.flat { lowering.as_vector(view)? } else { lowering.in_order(view, CHANNELS_FIRST)? };
    let channels = lowering.dims(view).channels;
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let list = |at: usize| -> Lowered<&Arc<Vec<f32>>> {
        let (_, list) = lowering.floats(node, at)?;
        if list.len() == channels { Ok(list) } else { Err(format!("input {at} does not fit {channels} channels")) }
    };
    let (gamma, beta, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
    let (mut scale, mut shift) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for c in 0..channels {
        let factor = f64::from(gamma[c]) / (f64::from(variance[c]) + epsilon).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "computed wide, kept as the device has it")]
        {
            scale.push(factor as f32);
            shift.push((f64::from(beta[c]) - f64::from(mean[c]) * factor) as f32);
        }
    }
    lowering.push_pointwise(view, Pointwise::Affine { scale, shift })
}

/// `alpha·A·B + beta·C` with constant B and C.
pub(super) fn gemm(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    if node.integer("transA", 0) != 0 {
        return Err("`transA` is not supported".into());
    }
    let alpha = node.float("alpha", 1.0);
    let (shape, weights) = lowering.floats(node, 1)?;
    let weights: Vec<f32> = weights.iter().map(|w| w * alpha).collect();
    let matrix = Matrix::new(shape, weights, node.integer("transB", 0) != 0)?;
    let bias = match lowering.optional(node, 2)? {
        None => vec![0.0; matrix.outputs],
        Some(_) => {
            let beta = node.float("beta", 1.0);
            let list: Vec<f32> = lowering.floats(node, 2)?.1.iter().map(|c| c * beta).collect();
            match list[..] {
                [one] => vec![one; matrix.outputs],
                _ if list.len() == matrix.outputs => list,
                _ => return Err(format!("{} numbers of bias do not fit {} outputs", list.len(), matrix.outputs)),
            }
        }
    };
    connect(lowering, node, &matrix, bias)
}

pub(super) fn mat_mul(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let (shape, weights) = lowering.floats(node, 1)?;
    let matrix = Matrix::new(shape, weights.to_vec(), false)?;
    let bias = vec![0.0; matrix.outputs];
    connect(lowering, node, &matrix, bias)
}

/// Weights of a fully connected layer, output by output.
struct Matrix {
    outputs: usize,
    inputs: usize,
    rows: Vec<f32>,
}

impl Matrix {
    fn new(shape: &[usize], weights: Vec<f32>, transposed: bool) -> Lowered<Self> {
        let &[a, b] = shape else { return Err(format!("weights of rank {} are not supported; 2 is", shape.len())) };
        if weights.is_empty() || weights.len() != a * b {
            return Err("the weights are empty".into());
        }
        if transposed {
            return Ok(Self { outputs: a, inputs: b, rows: weights });
        }
        let rows = (0..b).flat_map(|o| (0..a).map(move |i| i * b + o)).map(|at| weights[at]).collect();
        Ok(Self { outputs: b, inputs: a, rows })
    }
}

/// A fully connected layer as a convolution whose kernel is the whole picture, so that a flattened picture need not be
/// moved.
fn connect(lowering: &mut Lowering, node: &Node, matrix: &Matrix, bias: Vec<f32>) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    if !view.flat {
        return Err("input 0 must have rank 2".into());
    }
    let dims = lowering.dims(view);
    if matrix.inputs != dims.len() {
        return Err(format!("weights for {} inputs do not fit {}", matrix.inputs, dims.len()));
    }
    let weights = in_picture_order(matrix, view.order, dims);
    lowering.spend(weights.len() + bias.len())?;
    let conv = Conv {
        weights: Arc::new(weights),
        bias,
        window: Window::whole([dims.height, dims.width]),
        groups: 1,
        shortcut: None,
    };
    let value = lowering.push(Operation::Conv(conv), vec![Source::Value(view.value)], Dims::vector(matrix.outputs))?;
    Ok(Held::Tensor(View { value, order: super::CHANNELS_LAST, flat: true }))
}

/// The columns of `matrix`, which follow the file's order of a flattened picture, in the order of a kernel's weights:
/// channel, row, column.
fn in_picture_order(matrix: &Matrix, order: [usize; 3], dims: Dims) -> Vec<f32> {
    if dims.pixels() == 1 || order == CHANNELS_FIRST {
        return matrix.rows.clone();
    }
    let axes = dims.axes();
    let seen = order.map(|axis| axes[axis]);
    let mut strides = [0; 3];
    let along = [seen[1] * seen[2], seen[2], 1];
    order.iter().zip(along).for_each(|(&axis, stride)| strides[axis] = stride);
    let mut weights = Vec::with_capacity(matrix.rows.len());
    for row in matrix.rows.chunks(matrix.inputs) {
        for c in 0..dims.channels {
            for y in 0..dims.height {
                weights.extend((0..dims.width).map(|x| row[y * strides[0] + x * strides[1] + c * strides[2]]));
            }
        }
    }
    weights
}

/// Softmax over the last axis, or, as before version 13, over all axes from the given one on.
pub(super) fn softmax(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let rank = if view.flat { 2 } else { 4 };
    let axis = axis_index(node.integer("axis", if lowering.opset < 13 { 1 } else { -1 }), rank)?;
    let dims = lowering.dims(view);
    let view = if view.flat { lowering.as_vector(view)? } else { view };
    // Where all but the channels have size 1, softmax over everything is softmax over the channels.
    let alone = lowering.opset < 13 && axis == 1 && dims.pixels() == 1;
    if !(view.flat && axis == 1 || alone || !view.flat && axis > 0 && view.order[axis - 1] == 2) {
        return Err("only softmax over the channels is supported".into());
    }
    let dims = lowering.dims(view);
    let value = lowering.push(Operation::Softmax, vec![Source::Value(view.value)], dims)?;
    Ok(Held::Tensor(View { value, ..view }))
}

/// The most numbers that are asked for of one pixel.
const LARGEST: usize = 1024;
/// The most comparisons for one pixel: a device that works too long on one step is taken for dead.
const COMPARISONS: usize = 1 << 26;

/// The `k` largest over the channels, and their places as a second output. One step makes both, side by side.
pub(super) fn top_k(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let rank = if view.flat { 2 } else { 4 };
    let axis = axis_index(node.integer("axis", -1), rank)?;
    let view = if view.flat { lowering.as_vector(view)? } else { view };
    if axis == 0 || !view.flat && view.order[axis - 1] != 2 {
        return Err("only the largest over the channels are supported".into());
    }
    for name in ["largest", "sorted"] {
        if node.integer(name, 1) != 1 {
            return Err(format!("`{name}` {} is not supported; 1 is", node.integer(name, 1)));
        }
    }
    let dims = lowering.dims(view);
    if dims.channels >= 1 << f32::MANTISSA_DIGITS {
        return Err(format!("places among {} numbers are not supported", dims.channels));
    }
    let wanted = lowering.integers(node, 1, "k")?.or_else(|| Some(vec![node.integer("k", 0)]));
    let most = dims.channels.min(LARGEST).min(COMPARISONS / dims.channels);
    let k = match wanted.as_deref() {
        Some(&[k]) => usize::try_from(k).ok().filter(|k| (1..=most).contains(k)),
        _ => None,
    };
    let k = k.ok_or_else(|| format!("`k` must be one number from 1 to {most}"))?;
    let both =
        lowering.push(Operation::Top { k }, vec![Source::Value(view.value)], Dims { channels: 2 * k, ..dims })?;
    let mut half = |first: usize| -> Lowered<View> {
        let axis = |offset, limit, stride| Axis { offset, step: 1, limit, stride };
        let first = i64::try_from(first).unwrap_or(0);
        let axes = [axis(0, dims.height, dims.width * 2 * k), axis(0, dims.width, 2 * k), axis(first, 2 * k, 1)];
        let gather = Gather { shape: [dims.height, dims.width, k], axes };
        let dims = Dims { channels: k, ..dims };
        let value = lowering.push(Operation::Gather(gather), vec![Source::Value(both)], dims)?;
        Ok(View { value, ..view })
    };
    let values = half(0)?;
    if let Some(name) = node.outputs.get(1).filter(|name| !name.is_empty()) {
        let places = half(k)?;
        if lowering.held.contains_key(name) || lowering.places.insert(name.clone(), places).is_some() {
            return Err(format!("`{name}` is made twice"));
        }
    }
    Ok(Held::Tensor(values))
}

fn pair(node: &Node, name: &str) -> Lowered<Option<[usize; 2]>> {
    let Some(list) = node.integers(name) else { return Ok(None) };
    let size = |n: i64| usize::try_from(n).ok().filter(|n| (1..=WINDOW).contains(n));
    match list {
        &[a, b] => size(a).zip(size(b)).map(|(a, b)| Some([a, b])),
        _ => None,
    }
    .ok_or_else(|| format!("`{name}` must be two numbers from 1 to {WINDOW}"))
}

/// The window that a node's settings describe, and the rows and columns of its output.
fn window(node: &Node, dims: Dims, size: [usize; 2]) -> Lowered<(Window, [usize; 2])> {
    if size.iter().any(|n| !(1..=WINDOW).contains(n)) {
        return Err(format!("a kernel of {size:?} is not supported"));
    }
    if pair(node, "kernel_shape")?.is_some_and(|declared| declared != size) {
        return Err("`kernel_shape` is not that of the weights".into());
    }
    let stride = pair(node, "strides")?.unwrap_or([1, 1]);
    let dilation = pair(node, "dilations")?.unwrap_or([1, 1]);
    let pads = node.integers("pads").unwrap_or(&[0; 4]);
    let pads: Option<Vec<usize>> = pads.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n <= WINDOW)).collect();
    let Some(&[top, left, bottom, right]) = pads.as_deref() else {
        return Err(format!("`pads` must be four numbers from 0 to {WINDOW}"));
    };
    let mut window = Window { size, stride, dilation, before: [top, left], after: [bottom, right] };
    let mut out = [0; 2];
    for (axis, length) in [dims.height, dims.width].into_iter().enumerate() {
        let reach = (size[axis] - 1) * dilation[axis] + 1;
        match node.text("auto_pad", "NOTSET") {
            "NOTSET" => {}
            "VALID" => (window.before[axis], window.after[axis]) = (0, 0),
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                let wanted = (length.div_ceil(stride[axis]) - 1) * stride[axis] + reach;
                let padding = wanted.saturating_sub(length);
                let (less, more) = (padding / 2, padding.div_ceil(2));
                let (before, after) = if same == "SAME_UPPER" { (less, more) } else { (more, less) };
                (window.before[axis], window.after[axis]) = (before, after);
            }
            other => return Err(format!("`auto_pad` {other} is not supported")),
        }
        let padded = length + window.before[axis] + window.after[axis];
        let room = padded.checked_sub(reach).ok_or("the kernel is larger than the picture")?;
        out[axis] =
            if node.integer("ceil_mode", 0) == 0 { room / stride[axis] } else { room.div_ceil(stride[axis]) } + 1;
        // A window that would begin in the padding behind the picture does not count.
        if node.integer("ceil_mode", 0) != 0 && (out[axis] - 1) * stride[axis] >= length + window.before[axis] {
            out[axis] -= 1;
        }
    }
    // A step is one piece of work on the device, which all share: none may take minutes.
    let loads = size.into_iter().chain(out).chain([dims.channels]).try_fold(1usize, |all, n| all.checked_mul(n));
    if loads.is_none_or(|n| n > WINDOW_LOADS) {
        return Err(format!("windows of {size:?} at {out:?} places are more work than is taken"));
    }
    Ok((window, out))
}

/// The most numbers that the windows of one picture may read for each of its outputs' groups: thousands of times those of the
/// largest layers of ResNets.
const WINDOW_LOADS: usize = 1 << 34;
